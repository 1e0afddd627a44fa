//! Whether a packet filter lets adverts in and out.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::evidence::{Place, Scene};
use super::finding::{Report, Trouble};
use super::firewall::{self, Ruleset, Way};
use super::wire::{self, Tested};
use crate::vrrp::Family;

/// Whether a packet filter lets adverts in and out.
pub(super) fn filters(scene: &Scene<'_>, report: &mut Report) {
    let rules = Ruleset::read();
    if let Err(why) = &rules {
        report.unseen("the rules of nftables", format!("{why}; test packets are sent instead"));
    }
    let rules = rules.ok();
    for place in scene.places {
        if place.unicast() {
            unicast_filters(scene, place, rules.as_ref(), report);
        } else {
            multicast_filters(scene, place, rules.as_ref(), report);
        }
    }
}

fn multicast_filters(
    scene: &Scene<'_>,
    place: &Place<'_>,
    rules: Option<&Ruleset>,
    report: &mut Report,
) {
    let Place { router, link } = place;
    let peers = scene.peers(place);
    let group = router.family.multicast_group();
    let own = scene
        .picture
        .of(link.index)
        .find(|own| Family::of(own.ip) == router.family && own.usable)
        .map(|own| own.ip);
    let packet =
        |way, source| firewall::Packet { way, interface: &link.name, source, destination: group };
    let forged = |peers: &BTreeSet<IpAddr>| {
        let sources = peers.iter().copied().map(Some).collect::<Vec<_>>();
        if sources.is_empty() || router.family == Family::V6 { vec![None] } else { sources }
    };
    for source in forged(&peers) {
        let tested = match wire::test(link.index, router.family, source) {
            Ok(tested) => tested,
            Err(error) => {
                let why = format!("a test packet cannot be sent ({error}): try again with sudo");
                report.unseen(format!("whether adverts pass {}", link.name), why);
                return;
            }
        };
        match tested {
            Tested::Arrived => {}
            Tested::Refused(error) => {
                let blocked = rules.and_then(|rules| rules.blocks(&packet(Way::Out, own)));
                filtered(place, Way::Out, blocked, &format!("sending says: {error}"), report);
            }
            Tested::Lost => {
                let out = rules.and_then(|rules| rules.blocks(&packet(Way::Out, own)));
                if out.is_some() {
                    filtered(place, Way::Out, out, "a test packet was lost", report);
                    continue;
                }
                let asked = source.or(own.filter(|_| rules.is_none()));
                let blocked = rules.and_then(|rules| rules.blocks(&packet(Way::In, asked)));
                if blocked.is_none() && source.is_none() && rules.is_some() {
                    // Rules that let only some senders in stop a test of our own.
                    let why = "rules let in some senders only, and which are the peers is not known: name them in `accept_from`";
                    report.unseen(format!("whether adverts pass {}", link.name), why);
                    continue;
                }
                let from = source.map_or("this host".to_owned(), |source| source.to_string());
                let seen = format!("a test packet as if from {from} did not get in");
                filtered(place, Way::In, blocked, &seen, report);
            }
        }
    }
}

fn unicast_filters(
    scene: &Scene<'_>,
    place: &Place<'_>,
    rules: Option<&Ruleset>,
    report: &mut Report,
) {
    let Place { router, link } = place;
    let own = scene.picture.of(link.index).find(|own| Family::of(own.ip) == router.family);
    let (Some(rules), Some(own)) = (rules, own) else { return };
    for &peer in router.unicast_peers.iter().flat_map(|peers| peers.iter()) {
        if scene.is_own(peer) {
            continue;
        }
        let interface = link.name.as_str();
        for (way, source, destination) in [(Way::In, peer, own.ip), (Way::Out, own.ip, peer)] {
            let source = Some(source);
            let packet = firewall::Packet { way, interface, source, destination };
            if let Some(blocked) = rules.blocks(&packet) {
                filtered(place, way, Some(blocked), "the rules say so", report);
            }
        }
    }
}

fn filtered(
    place: &Place<'_>,
    way: Way,
    blocked: Option<firewall::Blocked>,
    seen: &str,
    report: &mut Report,
) {
    let Place { router, link } = place;
    let (trouble, direction, chain) = match way {
        Way::In => (Trouble::AdvertsFilteredIn, "in", "INPUT"),
        Way::Out => (Trouble::AdvertsFilteredOut, "out", "OUTPUT"),
    };
    let (by, mend) = match blocked {
        Some(blocked) => {
            // Where iptables has made the rules, it is to change them, too.
            let by_iptables =
                ["ip filter INPUT", "ip filter OUTPUT", "ip6 filter INPUT", "ip6 filter OUTPUT"];
            let mend = if by_iptables.contains(&blocked.chain.as_str()) {
                format!("{} -I {chain} -p 112 -j ACCEPT", iptables(router.family))
            } else {
                format!("nft insert rule {} meta l4proto 112 accept", blocked.chain)
            };
            (format!("{} of chain {}", blocked.by, blocked.chain), mend)
        }
        None if std::fs::read_to_string("/proc/net/ip_tables_names")
            .is_ok_and(|tables| !tables.trim().is_empty())
            || router.family == Family::V6
                && std::fs::read_to_string("/proc/net/ip6_tables_names")
                    .is_ok_and(|tables| !tables.trim().is_empty()) =>
        {
            let legacy = format!("{}-legacy -I {chain} -p 112 -j ACCEPT", iptables(router.family));
            ("a rule of iptables".to_owned(), legacy)
        }
        None => (
            "a rule".to_owned(),
            "nft list ruleset  (accept IP protocol 112 before anything stops it)".to_owned(),
        ),
    };
    let text = format!(
        "{by} keeps adverts from coming {direction} by {}, so {} and its peers do not hear each other ({seen})",
        link.name, router.name
    );
    report.found(trouble, format!("{}, {}", link.name, router.family), text, mend);
}

fn iptables(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}
