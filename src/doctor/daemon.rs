//! Problems that the status of the running daemon shows.

use std::net::IpAddr;
use std::path::Path;

use super::finding::{ProblemKind, Report};
use super::kernel::{self, sysctl};
use crate::api::Client;
use crate::api::status::{Router, Status};
use crate::vrrp::{Role, Why};

pub(super) fn request_status(runtime_dir: &Path, report: &mut Report) -> Option<Status> {
    match Client::new(runtime_dir).status() {
        Ok(status) => Some(status),
        Err(error) => {
            report.skip("the running daemon", error.to_string());
            None
        }
    }
}

pub(super) fn check_status(status: &Status, report: &mut Report) {
    if status.drained {
        let text = match status.drained_by_force {
            true => {
                "this host is drained by force: it does not serve, even where no other host does"
            }
            false => "this host is drained: it serves only where no other host is fit",
        };
        let does =
            "this ends that; where this host is the better one, the address moves here at once";
        report.found(ProblemKind::Drained, "", text, does, "vipd undrain");
    }
    if status.counters.adverts_refused > 0 {
        let text = format!(
            "the kernel refused {} adverts since vipd started, {} were sent",
            status.counters.adverts_refused, status.counters.adverts_sent
        );
        let does = "this shows why the kernel refused them";
        let fix = "journalctl -u vipd | grep 'refuses adverts'";
        report.found(ProblemKind::AdvertsRefused, "", text, does, fix);
    }
    for router in &status.routers {
        let name = &router.name;
        if router.held_back {
            let text = format!("{name} was moved away by \"vipd failover\": it does not preempt");
            let does =
                "this ends that; if this host is the better one, the address moves here at once";
            report.found(ProblemKind::HeldBack, name, text, does, format!("vipd resume {name}"));
        }
        for peer in &router.incompatible {
            report.incompatible_peer(name, peer.address, &peer.change, &status.daemon.config);
        }
        if let Ok(role @ (Role::Master | Role::Backup)) = router.role.parse()
            && router.heard.is_none()
            && router.incompatible.is_empty()
        {
            let (text, does, fix) = match role {
                Role::Master => (
                    format!(
                        "{name} has never heard another router since vipd started; a backup is silent, so that does not show whether there is one"
                    ),
                    "on the other host, this shows whether it hears this one",
                    format!("vipd status {name}"),
                ),
                _ => (
                    format!("{name} has never heard a master"),
                    "on the other host, this looks for the reason",
                    "vipd doctor".to_owned(),
                ),
            };
            report.found(ProblemKind::NeverHeard, name, text, does, fix);
        }
        check_addresses(router, report);
        check_lateness(router, report);
    }
}

/// Reports addresses that the kernel refuses.
fn check_addresses(router: &Router, report: &mut Report) {
    let (name, interface) = (&router.name, &router.interface);
    for address in &router.addresses {
        let (ip, Some(problem)) = (address.address, &address.problem) else { continue };
        let rest = if address.advertised {
            format!("so {name} is in fault")
        } else {
            format!("so {name} serves its other addresses without it")
        };
        let text = format!("{ip} cannot be added to {interface} ({problem}), {rest}");
        let (does, fix) = match ip {
            IpAddr::V6(_) if kernel::ipv6_disabled(interface) => (
                "this lets the interface have IPv6 addresses; vipd then adds this one by itself",
                format!("sysctl -w net.ipv6.conf.{}.disable_ipv6=0", sysctl(interface)),
            ),
            IpAddr::V4(_) | IpAddr::V6(_) => (
                "this shows since when; once the reason has gone, vipd adds the address by itself",
                "vipd events".to_owned(),
            ),
        };
        report.found(ProblemKind::AddressRefused, ip, text, does, fix);
    }
}

/// Reports adverts that were sent too late, or not at all.
fn check_lateness(router: &Router, report: &mut Report) {
    let (name, counted) = (&router.name, &router.counters);
    let causes = [Why::Late.name(), Why::LeaseRanOut.name()];
    let lost: u64 = counted
        .transitions
        .iter()
        .filter(|change| causes.contains(&change.cause.as_ref()))
        .map(|change| change.count)
        .sum();
    let lateness = &counted.advert_lateness;
    let below = std::iter::once(0.0).chain(lateness.bounds_seconds.iter().copied());
    let late: u64 = lateness
        .counts
        .iter()
        .zip(below)
        .filter(|(_, bound)| *bound >= router.advert_interval_seconds)
        .map(|(count, _)| count)
        .sum();
    if lost + late == 0 {
        return;
    }
    let text = format!(
        "of {} adverts of {name}, {late} were sent more than one interval late; it lost its role {lost} times because of that",
        counted.adverts_sent
    );
    let does = "this shows when it was; look for what kept vipd from the processor then: a paused virtual machine, no_realtime, memory_not_locked";
    report.found(ProblemKind::Late, name, text, does, "vipd events");
}
