//! The senders of the captured adverts: unexpected masters, and adverts that we would ignore.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::evidence::{Evidence, Instance};
use super::finding::{ProblemKind, RELOAD, Report, about};
use super::process;
use crate::vrrp::advert::{self, Heard};
use crate::vrrp::{Event, Instant, LinkState, Node, Packet, Priority, Recorded};

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
                "another program on this host advertises VRID {} on {} with priority {}: {name} takes no notice of adverts of its own host",
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
        let mut masters: BTreeMap<IpAddr, Seen> = BTreeMap::new();
        for (passed, heard) in &adverts {
            // One with none of our addresses is another virtual router, and an incompatible peer.
            let is_other = !heard.addresses().any(|ip| ours.contains(&ip));
            if passed.outgoing || heard.priority == Priority::LEAVING || is_other {
                continue;
            }
            let priority = heard.priority;
            let seen = Seen { priority, first: passed.at, last: passed.at };
            let master = masters.entry(passed.source).or_insert(seen);
            *master = Seen { first: master.first, ..seen };
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
        masters.retain(|_, seen| seen.last > seen.first);
        let began = masters.values().map(|seen| seen.first).max();
        let ended = masters.values().map(|seen| seen.last).min();
        if masters.len() + usize::from(before && after) > 1 && began <= ended {
            report_masters(evidence, instance, &masters, before && after, report);
        }
    }
    check_unknown_vrids(evidence, report);
}

/// A master whose adverts were captured.
#[derive(Clone, Copy, Debug)]
struct Seen {
    priority: Priority,
    first: Duration,
    last: Duration,
}

/// Reports several masters at once, with what is known of who hears whom: a master that heard a
/// better one would give way to it.
fn report_masters(
    evidence: &Evidence<'_>,
    instance: &Instance<'_>,
    masters: &BTreeMap<IpAddr, Seen>,
    with_us: bool,
    report: &mut Report,
) {
    let name = &instance.router.name;
    let status = evidence.after.as_ref().and_then(|status| status.find(name)).filter(|_| with_us);
    let mut who: Vec<String> =
        masters.iter().map(|(ip, seen)| format!("{ip} (priority {})", seen.priority)).collect();
    let (mut known, mut deaf) = (Vec::new(), Vec::new());
    match status {
        Some(status) => {
            who.push(format!("this host (priority {})", status.effective_priority));
            let arrived = evidence.heard.get(&instance.link.index).map(|heard| &heard.arrived);
            for (peer, seen) in masters {
                let arrives = arrived.is_some_and(|arrived| arrived.contains_key(peer));
                let unusable = status.incompatible.iter().any(|other| other.address == *peer);
                let better =
                    (seen.priority.get(), Some(*peer)) > (status.effective_priority, status.source);
                let (here, hears) = match (arrives, unusable) {
                    (false, _) => ("does not hear", false),
                    (true, true) => ("cannot use the adverts of", false),
                    (true, false) => ("hears", true),
                };
                known.push(match (hears, better) {
                    (true, true) => format!("this host hears {peer}, and is to give way to it"),
                    (false, true) => format!(
                        "this host {here} {peer}, to which it would give way; whether {peer} hears it is not known here"
                    ),
                    (true | false, false) => format!(
                        "this host {here} {peer}, which does not hear it, or cannot use its adverts: it would give way"
                    ),
                });
                if !hears {
                    deaf.push("this host".to_owned());
                }
                if !better {
                    deaf.push(peer.to_string());
                }
            }
        }
        None => {
            let best = masters.iter().max_by_key(|(ip, seen)| (seen.priority, **ip));
            for peer in masters.keys() {
                if let Some((best, _)) = best.filter(|(best, _)| *best != peer) {
                    known.push(format!(
                        "{peer} does not hear {best}, or cannot use its adverts: it would give way"
                    ));
                    deaf.push(peer.to_string());
                }
            }
        }
    }
    deaf.dedup();
    let text = format!(
        "{} are master of {name} at the same time: {}",
        who.join(" and "),
        known.join("; ")
    );
    let on = if deaf.is_empty() { "each of them".to_owned() } else { deaf.join(" and ") };
    let does =
        format!("on {on}, this looks for the reason: a packet filter, or a network that is cut");
    report.found(ProblemKind::TwoMasters, name, text, does, "vipd doctor");
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
        let addresses = evidence.snapshot.link_addresses(there.index);
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
