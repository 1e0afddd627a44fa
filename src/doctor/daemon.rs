//! Problems that the status of the running daemon shows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::finding::{self, ProblemKind, Report};
use super::kernel::{self, sysctl};
use crate::api::Client;
use crate::api::status::{Check, Router, Status};
use crate::config::Config;
use crate::vrrp::reason::OwnAddress;
use crate::vrrp::{Address, Effect, Reason, Role, Verdict, Why};

pub(super) fn request_status(runtime_dir: &Path, report: &mut Report) -> Option<Status> {
    match Client::new(runtime_dir).status() {
        Ok(status) => Some(status),
        Err(error) => {
            report.skip("the running daemon", error.to_string());
            None
        }
    }
}

pub(super) fn check_status(status: &Status, config: Option<&Config>, report: &mut Report) {
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
            "{} adverts did not leave since vipd started, {} were sent",
            status.counters.adverts_refused, status.counters.adverts_sent
        );
        let does = "this shows why the kernel refused them";
        let fix = "journalctl -u vipd | grep 'do not arrive'";
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
        for refusal in &router.refusals {
            let (to, why) = (refusal.destination, &refusal.text);
            let text = format!("adverts of {name} to {to} do not arrive: {why}");
            let (does, fix) = match refusal.error.as_str() {
                "filtered" => (
                    "this shows the rules: let protocol 112 pass in the output hooks",
                    "nft list ruleset".to_owned(),
                ),
                "full" => (
                    "this shows the limits: raise them above the number of neighbours",
                    "sysctl net.ipv4.neigh.default.gc_thresh3 net.ipv6.neigh.default.gc_thresh3"
                        .to_owned(),
                ),
                "buffer_full" => (
                    "this shows its limit: raise it, or take hosts that are gone out of `unicast_peers`",
                    "sysctl net.core.wmem_max".to_owned(),
                ),
                "no_daemon" => ("run it on that host", "systemctl start vipd".to_owned()),
                _ => ("this shows the way to it, if there is one", format!("ip route get {to}")),
            };
            report.found(ProblemKind::AdvertsRefused, finding::about(name, to), text, does, fix);
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
    check_checks(status, config, report);
    check_faults(status, report);
}

/// Reports failing checks, each with what it does to the virtual routers that use it.
fn check_checks(status: &Status, config: Option<&Config>, report: &mut Report) {
    let mut failing: BTreeMap<&str, (&Check, Vec<&Router>)> = BTreeMap::new();
    for router in &status.routers {
        for check in router.checks.iter().filter(|check| check.verdict == Verdict::Failing.name()) {
            failing.entry(&check.name).or_insert((check, Vec::new())).1.push(router);
        }
    }
    for (name, (check, routers)) in failing {
        let plan = config.and_then(|config| config.checks.iter().find(|plan| &*plan.name == name));
        let tests = plan.map(|plan| format!(" ({})", plan.target)).unwrap_or_default();
        let consequence = |router: &&Router| match check.effect == Effect::Fault.name() {
            true if router.role == Role::Fault.name() => format!("{} is in fault", router.name),
            true => format!("{} is {}, and about to be in fault", router.name, router.role),
            false => format!(
                "{} has priority {} instead of {}",
                router.name, router.effective_priority, router.priority
            ),
        };
        let consequences: Vec<String> = routers.iter().map(consequence).collect();
        let said = match check.output.as_deref().map(str::trim) {
            None | Some("") => "said nothing".to_owned(),
            Some(output) => format!("said: {output}"),
        };
        let text = format!(
            "check {name}{tests} fails, so {}; its last run {said}",
            consequences.join(" and ")
        );
        let unit = plan.and_then(|plan| plan.unit());
        let fix = match (unit, routers.first()) {
            (Some(unit), _) => format!("systemctl status {unit}"),
            (None, Some(router)) => format!("vipd status {}", router.name),
            (None, None) => continue,
        };
        let does = "this shows its state; correct what it checks, and vipd takes note by itself";
        report.found(ProblemKind::CheckFails, name, text, does, fix);
    }
}

/// Reports virtual routers in fault whose reason nothing else has explained.
fn check_faults(status: &Status, report: &mut Report) {
    let any = IpAddr::from([0; 4]);
    let nothing: Arc<str> = "".into();
    let own = OwnAddress { address: Address::host(any), interface: nothing.clone() };
    let explained: [(Reason, &[ProblemKind]); 11] = [
        (Reason::InterfaceMissing, &[ProblemKind::InterfaceAbsent]),
        (Reason::LinkDown, &[ProblemKind::InterfaceDown]),
        (Reason::Port(nothing.clone()), &[ProblemKind::InterfaceIsPort]),
        (Reason::NoAddress, &[ProblemKind::NoAddress]),
        (Reason::NoLinkLocal, &[ProblemKind::NoLinkLocal]),
        (Reason::SourceAbsent(any), &[ProblemKind::SourceAbsent]),
        (Reason::SourceDuplicate(any), &[ProblemKind::SourceDuplicate]),
        (Reason::AdvertsRefused, &[ProblemKind::AdvertsRefused, ProblemKind::AdvertsFilteredOut]),
        (Reason::AddressAlreadyThere, &[ProblemKind::AddressNotOurs]),
        (Reason::AddressMissing(own.clone()), &[ProblemKind::AddressMissing]),
        (Reason::AddressDuplicate(own), &[ProblemKind::AddressDuplicate]),
    ];
    // A check has a finding of its own, and so has the member of the group.
    let elsewhere = [Reason::Check(nothing.clone()), Reason::Group(nothing)];
    for router in status.routers.iter().filter(|router| router.role == Role::Fault.name()) {
        let found = |kinds: &[ProblemKind]| {
            report.findings.iter().any(|finding| kinds.contains(&finding.problem))
        };
        let unexplained: Vec<&str> = router
            .fault_reasons
            .iter()
            .filter(|why| !elsewhere.iter().any(|other| other.name() == why.reason))
            .filter(|why| {
                let mut of = explained.iter().filter(|(reason, _)| reason.name() == why.reason);
                !of.any(|(_, kinds)| found(kinds))
            })
            .map(|why| why.text.as_str())
            .collect();
        if unexplained.is_empty() {
            continue;
        }
        let hook = match &router.last_hook {
            Some(hook) if hook.failed => {
                format!("; the hook {} failed at {}: {}", hook.hook, hook.at, hook.outcome)
            }
            Some(_) | None => String::new(),
        };
        let name = &router.name;
        let text = format!("{name} is in fault: {}{hook}", unexplained.join("; "));
        let does =
            "this shows when that began; when the reason is gone, vipd takes part again by itself";
        report.found(ProblemKind::Fault, name, text, does, format!("vipd status {name}"));
    }
}

/// Reports addresses that other machines have, too, or that the kernel refuses.
fn check_addresses(router: &Router, report: &mut Report) {
    let (name, interface) = (&router.name, &router.interface);
    for seen in &router.contenders {
        let text = format!("while {name} is master here, {seen}: clients reach one or the other");
        let does = "this shows since when; the tables of the switches tell where that machine is: remove the address there";
        report.found(ProblemKind::AddressContended, seen.address, text, does, "vipd events");
    }
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
