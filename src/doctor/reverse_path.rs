//! Whether the kernel's reverse path filter (rp_filter) drops adverts.

use super::evidence::{Evidence, Instance};
use super::finding::{ProblemKind, Report};
use super::kernel::{self, sysctl};
use crate::vrrp::{Family, Mark};

pub(super) fn check_reverse_paths(evidence: &Evidence<'_>, report: &mut Report) {
    for instance in
        evidence.instances.iter().filter(|instance| instance.router.family == Family::V4)
    {
        let Instance { router, link } = instance;
        let Some(mode @ 1..) = kernel::ipv4_switch(&link.name, "rp_filter") else { continue };
        let mut sources = evidence.peers(instance);
        if sources.is_empty() {
            let own =
                evidence.snapshot.addresses_of(link.index).filter(|own| own.mark == Mark::None);
            sources.extend(own.filter_map(kernel::neighbour).take(1));
        }
        let arrived = evidence.heard.get(&link.index).map(|heard| &heard.arrived);
        for source in sources {
            if arrived.is_some_and(|arrived| arrived.contains_key(&source)) {
                continue;
            }
            let by = match kernel::route(source) {
                Ok(by) => by,
                Err(why) => {
                    report.skip("the reverse path filter", why);
                    return;
                }
            };
            let (how, fix) = match by {
                Some(by) if by != link.name && mode == 1 => (
                    format!("the kernel would answer through {by}"),
                    format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", sysctl(&link.name)),
                ),
                None => (
                    "the kernel has no route to it".to_owned(),
                    format!(
                        "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{}.rp_filter=0",
                        sysctl(&link.name)
                    ),
                ),
                Some(_) => continue,
            };
            let text = format!(
                "rp_filter drops what {source} sends to {}, as {how}: {} does not hear it",
                link.name, router.name
            );
            let does = "this lets the interface receive from addresses whose route is another one, until the next boot; add it to /etc/sysctl.d as well";
            report.found(ProblemKind::RpFilter, &link.name, text, does, fix);
        }
    }
}
