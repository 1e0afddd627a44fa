//! What must be different from one virtual router to the next.

use std::collections::BTreeMap;

use super::RouterDraft;
use super::addresses::is_link_local;
use crate::config::problem::Diagnostics;
use crate::config::reader::At;
use crate::vrrp::Priority;

/// As far as renewing them in one step was measured to be harmless.
const MAX_LEASED: usize = 255;

/// What must be different from one virtual router to the next.
pub(in crate::config) fn check_together(routers: &[RouterDraft<'_>], report: &Diagnostics) {
    let mut names = BTreeMap::new();
    let mut identities = BTreeMap::new();
    let mut holders = BTreeMap::new();
    let mut leased: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, router) in routers.iter().enumerate() {
        let name = router.name.map_or("another", |name| name.value.as_str());
        if let Some(At { value, at }) = router.name
            && let Some(earlier) = names.insert(value.as_str(), at)
        {
            report.conflict(
                at,
                format!("two virtual routers are named `{value}`"),
                "give this one a name of its own",
                earlier,
                "the first one",
            );
        }
        if let (Some(interface), Some((vrid, at)), Some(family)) =
            (router.interface, &router.vrid, router.family)
            && let Some(earlier) = identities.insert((&interface.value, family, *vrid), at)
        {
            report.conflict(
                at,
                format!(
                    "VRID {vrid} is used twice on {} for {family}: on the wire these are one \
                     virtual router",
                    interface.value
                ),
                "give this one another vrid, the same one on all of its hosts",
                earlier,
                "first used here",
            );
        }
        let interface = router.interface.map(|interface| interface.value.as_str());
        for listed in &router.addresses {
            // A link-local address is another one on another link.
            let link = interface.filter(|_| is_link_local(listed.ip));
            let before = holders.insert((listed.ip, link), (index, name, &listed.at));
            // Twice in one router has been reported.
            if let Some((_, holder, earlier)) = before.filter(|(other, ..)| *other != index) {
                report.conflict(
                    &listed.at,
                    format!("{} is also an address of the virtual router `{holder}`", listed.ip),
                    "leave it in one of the two",
                    earlier,
                    "first used here",
                );
            }
        }
        let is_leased = router.result.as_ref().is_some_and(|(config, ..)| {
            config.address_lifetime.is_some() && config.priority != Priority::OWNER
        });
        if let Some(interface) = router.interface.filter(|_| is_leased) {
            let count = leased.entry(&interface.value).or_default();
            let before = *count;
            *count += router.addresses.len();
            if before <= MAX_LEASED && *count > MAX_LEASED {
                report.advice(
                    &interface.at,
                    format!(
                        "more than {MAX_LEASED} addresses on {} have a lifetime",
                        interface.value
                    ),
                    "renewing so many in time is not promised: address_lifetime = \"off\" for some",
                );
            }
        }
    }
}
