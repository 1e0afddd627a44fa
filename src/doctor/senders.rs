//! The senders of the captured adverts: unexpected masters, and adverts that we would ignore.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::evidence::Evidence;
use super::finding::{ProblemKind, RELOAD, Report, about};
use super::{kernel, process};
use crate::vrrp::advert::{self, Heard};
use crate::vrrp::{Event, Instant, LinkAddress, LinkState, Node, Packet, Priority, Recorded};

pub(super) fn check_senders(evidence: &Evidence<'_>, report: &mut Report) {
    replay(evidence, report);
    for instance in evidence.instances {
        let (router, name) = (instance.router, &instance.router.name);
        let adverts = evidence.adverts(instance);
        let (before, after) = evidence.master(router);
        let sends = evidence.sends(name);
        let priority = evidence.after.as_ref().and_then(|status| status.find(name));
        let priorities =
            [0, router.priority.get(), priority.map_or(0, |router| router.effective_priority)];
        let ours: BTreeSet<IpAddr> = router.addresses.iter().map(|a| a.ip).collect();
        let is_ours = |heard: &Heard<'_>| {
            (before || after || sends)
                && priorities.contains(&heard.priority.get())
                && heard.addresses().collect::<BTreeSet<_>>() == ours
        };
        if let Some((_, heard)) =
            adverts.iter().find(|(passed, heard)| passed.outgoing && !is_ours(heard))
        {
            let text = format!(
                "another program on this host advertises VRID {} on {} with priority {}: it and {name} do not hear each other",
                router.vrid, instance.link.name, heard.priority
            );
            // Whoever is connected through one of its other addresses would be cut off with it.
            let it = process::keepalived()
                .map_or("it".to_owned(), |pid| format!("keepalived (pid {pid})"));
            let does = format!(
                "this shows what runs; stop {it}, with which all its addresses leave this host, or give one of the two another `vrid`"
            );
            let fix = "systemctl list-units 'vipd*' 'keepalived*'";
            report.found(ProblemKind::OtherDaemon, name, text, does, fix);
        }
        let mut masters: BTreeMap<IpAddr, (Duration, Duration)> = BTreeMap::new();
        for (passed, heard) in &adverts {
            if passed.outgoing || heard.priority == Priority::LEAVING {
                continue;
            }
            masters.entry(passed.source).or_insert((passed.at, passed.at)).1 = passed.at;
            if heard.addresses().collect::<BTreeSet<_>>() != ours {
                let theirs: Vec<String> = heard.addresses().map(|ip| ip.to_string()).collect();
                let text = format!(
                    "{} advertises VRID {} with other addresses than {name}: {}",
                    passed.source,
                    router.vrid,
                    theirs.join(", ")
                );
                let does = format!(
                    "make `addresses` equal on both, or choose another `vrid` in {}; then this lets vipd read the file",
                    evidence.path.display()
                );
                report.found(
                    ProblemKind::DifferentAddresses,
                    about(name, passed.source),
                    text,
                    does,
                    RELOAD,
                );
            }
        }
        // Only those that overlap in time, not a master and its successor.
        masters.retain(|_, (first, last)| last > first);
        let began = masters.values().map(|(first, _)| *first).max();
        let ended = masters.values().map(|(_, last)| *last).min();
        let mut who: Vec<String> = masters.keys().map(ToString::to_string).collect();
        if before && after {
            who.push("this host".to_owned());
        }
        if who.len() > 1 && began <= ended {
            let text = format!(
                "{} are master of {name} at the same time: they do not hear each other",
                who.join(" and ")
            );
            let does = "on each of them, this looks for the reason: a packet filter, or a network that is cut";
            report.found(ProblemKind::TwoMasters, name, text, does, "vipd doctor");
        }
    }
    check_unknown_vrids(evidence, report);
}

/// Feeds the captured adverts to the protocol, as if no packet filter were there, and reports the
/// senders whose adverts it cannot use.
fn replay(evidence: &Evidence<'_>, report: &mut Report) {
    let mut node = Node::new(&evidence.config.vrrp);
    let mut unused = Vec::new();
    let links: Vec<_> = node.links().map(|(link, name)| (link, name.to_string())).collect();
    for router in node.routers().map(|router| router.id()).collect::<Vec<_>>() {
        let nothing = Recorded::default();
        let _ = node.handle(Instant::START, Event::Found(router, nothing), &mut unused);
    }
    for (link, name) in links {
        let Some(there) = evidence.snapshot.link(&name) else { continue };
        let of = |a: &kernel::Address| LinkAddress { ip: a.ip, marked: a.marked, usable: a.usable };
        let addresses: Vec<LinkAddress> =
            evidence.snapshot.addresses_of(there.index).map(of).collect();
        let state = LinkState { up: there.up, addresses: &addresses, ..LinkState::default() };
        let state = Event::Link { link, state: Some(state) };
        let _ = node.handle(Instant::START, state, &mut unused);
        for passed in evidence.passed(there.index).filter(|passed| !passed.outgoing) {
            if !passed.destination.is_multicast() && !evidence.is_own(passed.destination) {
                continue;
            }
            let packet = Packet {
                link,
                source: passed.source,
                destination: passed.destination,
                ttl: passed.ttl,
                message: &passed.message,
            };
            let now = Instant::from_millis(passed.at.as_millis() as u64);
            let _ = node.handle(now, Event::Packet(packet), &mut unused);
        }
    }
    let captured = evidence.heard.values().flat_map(|heard| &heard.passed);
    let last = captured.map(|passed| passed.at).max().unwrap_or_default();
    let now = Instant::from_millis(last.as_millis() as u64);
    for router in node.routers() {
        let name = &router.config().name;
        for peer in router.incompatible(now) {
            report.incompatible_peer(name, peer.source, peer.mismatch, evidence.path.display());
        }
    }
}

/// Unknown VRIDs are legitimate, unless a virtual router of ours hears no peer.
fn check_unknown_vrids(evidence: &Evidence<'_>, report: &mut Report) {
    for (&index, heard) in evidence.heard {
        for passed in heard.passed.iter().filter(|passed| !passed.outgoing) {
            let decoded = advert::decode(passed.source, passed.destination, &passed.message);
            let Ok(advert) = decoded else { continue };
            let mut here = evidence.instances.iter().filter(|instance| {
                instance.link.index == index && instance.router.family == advert.family
            });
            let known = here.clone().any(|instance| instance.router.vrid == advert.vrid);
            let Some(instance) = here.find(|instance| evidence.hears_no_peer(instance)) else {
                continue;
            };
            if known || passed.ttl != u8::MAX {
                continue;
            }
            let addresses: Vec<String> =
                advert.addresses().take(3).map(|ip| ip.to_string()).collect();
            let (name, vrid) = (&instance.router.name, advert.vrid);
            let text = format!(
                "{} advertises VRID {vrid} with {} on {}, which is not configured here, while {name} (VRID {}) hears no peer",
                passed.source,
                addresses.join(", "),
                instance.link.name,
                instance.router.vrid
            );
            let does = format!(
                "if it is the peer of {name}, write `vrid = {vrid}` in {}; then this lets vipd read the file",
                evidence.path.display()
            );
            report.found(
                ProblemKind::ForeignVrid,
                format!("{}, VRID {vrid}", instance.link.name),
                text,
                does,
                RELOAD,
            );
        }
    }
}
