//! Whether a packet filter drops adverts, incoming or outgoing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::evidence::{Evidence, Instance};
use super::finding::{ProblemKind, Report};
use super::firewall::{Blocked, Ruleset};
use super::rule_match::{AdvertPacket, Direction};
use super::wire::{self, TestResult};
use crate::vrrp::Family;
use crate::vrrp::advert::PROTOCOL;

pub(super) fn check_filters(evidence: &Evidence<'_>, report: &mut Report) {
    let rules = Ruleset::read();
    if let Err(why) = &rules {
        report.skip("the rules of nftables", format!("{why}; test packets are sent instead"));
    }
    let rules = rules.ok();
    for instance in evidence.instances {
        if instance.unicast() {
            check_unicast(evidence, instance, rules.as_ref(), report);
        } else {
            check_multicast(evidence, instance, rules.as_ref(), report);
        }
    }
}

fn check_multicast(
    evidence: &Evidence<'_>,
    instance: &Instance<'_>,
    rules: Option<&Ruleset>,
    report: &mut Report,
) {
    let Instance { router, link } = instance;
    let peers = evidence.peers(instance);
    let group = router.family.multicast_group();
    let own = evidence.source(instance);
    let packet = |direction, source| AdvertPacket {
        direction,
        interface: &link.name,
        source,
        destination: group,
    };
    let forged = |peers: &BTreeSet<IpAddr>| {
        let sources = peers.iter().copied().map(Some).collect::<Vec<_>>();
        if sources.is_empty() || router.family == Family::V6 { vec![None] } else { sources }
    };
    for source in forged(&peers) {
        let result = match wire::test(link.index, router.family, source) {
            Ok(result) => result,
            Err(error) => {
                let why = format!("a test packet cannot be sent ({error}): try again with sudo");
                report.skip(format!("whether adverts pass {}", link.name), why);
                return;
            }
        };
        match result {
            TestResult::Arrived => {}
            TestResult::Refused(error) => {
                let blocked = rules.and_then(|rules| rules.blocks(&packet(Direction::Out, own)));
                report_filter(
                    instance,
                    Direction::Out,
                    blocked,
                    &format!("sending failed: {error}"),
                    report,
                );
            }
            TestResult::Lost => {
                let out = rules.and_then(|rules| rules.blocks(&packet(Direction::Out, own)));
                if out.is_some() {
                    report_filter(instance, Direction::Out, out, "a test packet was lost", report);
                    continue;
                }
                let asked = source.or(own.filter(|_| rules.is_none()));
                let blocked = rules.and_then(|rules| rules.blocks(&packet(Direction::In, asked)));
                if blocked.is_none() && source.is_none() && rules.is_some() {
                    // Rules that accept certain senders only also drop our test packet.
                    let why = "the rules accept certain senders only, and the peers are unknown: name them in `accept_from`";
                    report.skip(format!("whether adverts pass {}", link.name), why);
                    continue;
                }
                let from = source.map_or("this host".to_owned(), |source| source.to_string());
                let seen = format!("a test packet from {from} was not received");
                report_filter(instance, Direction::In, blocked, &seen, report);
            }
        }
    }
}

fn check_unicast(
    evidence: &Evidence<'_>,
    instance: &Instance<'_>,
    rules: Option<&Ruleset>,
    report: &mut Report,
) {
    let Instance { router, link } = instance;
    let (Some(rules), Some(own)) = (rules, evidence.source(instance)) else { return };
    for &peer in router.unicast_peers.iter().flat_map(|peers| peers.iter()) {
        if evidence.is_own(peer) {
            continue;
        }
        let interface = link.name.as_str();
        for (direction, source, destination) in
            [(Direction::In, peer, own), (Direction::Out, own, peer)]
        {
            let source = Some(source);
            let packet = AdvertPacket { direction, interface, source, destination };
            if let Some(blocked) = rules.blocks(&packet) {
                report_filter(instance, direction, Some(blocked), "the rules say so", report);
            }
        }
    }
}

fn report_filter(
    instance: &Instance<'_>,
    direction: Direction,
    blocked: Option<Blocked>,
    seen: &str,
    report: &mut Report,
) {
    let Instance { router, link } = instance;
    let (kind, in_or_out, chain) = match direction {
        Direction::In => (ProblemKind::AdvertsFilteredIn, "coming in by", "INPUT"),
        Direction::Out => (ProblemKind::AdvertsFilteredOut, "going out by", "OUTPUT"),
    };
    let accepts = "this accepts VRRP before any other rule of that chain, until the rules are loaded anew; add it to their file as well";
    let (by, does, fix) = match blocked {
        Some(blocked) => {
            // Rules made by iptables should be changed by iptables.
            let by_iptables =
                ["ip filter INPUT", "ip filter OUTPUT", "ip6 filter INPUT", "ip6 filter OUTPUT"];
            let fix = if by_iptables.contains(&blocked.chain.as_str()) {
                format!("{} -I {chain} -p {PROTOCOL} -j ACCEPT", iptables(router.family))
            } else {
                format!("nft insert rule {} meta l4proto {PROTOCOL} accept", blocked.chain)
            };
            (format!("{} of chain {}", blocked.by, blocked.chain), accepts.to_owned(), fix)
        }
        None if std::fs::read_to_string("/proc/net/ip_tables_names")
            .is_ok_and(|tables| !tables.trim().is_empty())
            || router.family == Family::V6
                && std::fs::read_to_string("/proc/net/ip6_tables_names")
                    .is_ok_and(|tables| !tables.trim().is_empty()) =>
        {
            let legacy =
                format!("{}-legacy -I {chain} -p {PROTOCOL} -j ACCEPT", iptables(router.family));
            ("a rule of iptables".to_owned(), accepts.to_owned(), legacy)
        }
        None => (
            "a rule".to_owned(),
            format!("accept IP protocol {PROTOCOL} before any rule drops it; this shows the rules"),
            "nft list ruleset".to_owned(),
        ),
    };
    let name = &router.name;
    let deaf = match direction {
        Direction::In => format!("{name} does not hear its peers"),
        Direction::Out => format!("the peers of {name} do not hear it"),
    };
    let text = format!("{by} keeps adverts from {in_or_out} {}, so {deaf} ({seen})", link.name);
    report.found(kind, format!("{}, {}", link.name, router.family), text, does, fix);
}

fn iptables(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}
