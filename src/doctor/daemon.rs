//! Problems that the status of the running daemon shows.

use std::path::Path;

use super::finding::{ProblemKind, Report};
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
        let text = "this host is drained: it takes nothing over, also after a reboot";
        report.found(ProblemKind::Drained, "", text, "vipd undrain");
    }
    if status.counters.adverts_refused > 0 {
        let text = format!(
            "the kernel refused {} adverts since vipd started, {} were sent",
            status.counters.adverts_refused, status.counters.adverts_sent
        );
        let fix = "journalctl -u vipd | grep 'refuses adverts'  (it says why), then: systemctl restart vipd";
        report.found(ProblemKind::AdvertsRefused, "", text, fix);
    }
    for router in &status.routers {
        let name = &router.name;
        if router.held_back {
            let text = format!("{name} was moved away by \"vipd failover\": it does not preempt");
            report.found(ProblemKind::HeldBack, name, text, format!("vipd resume {name}"));
        }
        for peer in &router.incompatible {
            report.incompatible_peer(name, peer.address, &peer.change, &status.daemon.config);
        }
        if let Ok(role @ (Role::Master | Role::Backup)) = router.role.parse()
            && router.heard.is_none()
            && router.incompatible.is_empty()
        {
            let (text, fix) = match role {
                Role::Master => (
                    format!(
                        "{name} has never heard another router since vipd started; a backup is silent, so only a failover shows whether there is one"
                    ),
                    format!("vipd failover {name}  (without a successor the address stays here)"),
                ),
                _ => (
                    format!("{name} has never heard a master"),
                    "vipd doctor  (on the other host)".to_owned(),
                ),
            };
            report.found(ProblemKind::NeverHeard, name, text, fix);
        }
        check_lateness(router, report);
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
    let fix = "vipd events  (when was it? what kept vipd from the processor then: a paused virtual machine, no_realtime, memory_not_locked?)";
    report.found(ProblemKind::Late, name, text, fix);
}
