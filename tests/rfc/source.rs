//! The source of adverts: it is the same one as long as it can be, and what follows if there is none.

use std::net::IpAddr;
use std::sync::Arc;

use vipd::vrrp::{
    Action, AddressState, Event, LinkAddress, Reason, Recorded, Role, RouterConfig, Source,
    Warning, Why,
};

use crate::fixture::*;

const GLOBAL: &str = "2001:db8::2";

fn is(text: &str, state: AddressState) -> LinkAddress {
    LinkAddress { state, ..at(text) }
}

/// The source that is chosen first, in whatever order the kernel lists these addresses.
fn chosen(config: &RouterConfig, list: &[LinkAddress]) -> Option<IpAddr> {
    let choose = |list: &[LinkAddress]| {
        let mut host = Host::started(std::slice::from_ref(config));
        host.link(true, list);
        host.router().source()
    };
    let reversed: Vec<LinkAddress> = list.iter().rev().copied().collect();
    let source = choose(list);
    assert_eq!(source, choose(&reversed), "{list:?}");
    source
}

fn unicast6(peers: &[&str]) -> RouterConfig {
    RouterConfig { unicast_peers: Some(peers.iter().map(|peer| ip(peer)).collect()), ..web6() }
}

/// Sources of the adverts that were sent.
fn sources(host: &Host) -> Vec<IpAddr> {
    let from = |action: &Action| match action {
        Action::Advertise { from, .. } => Some(*from),
        _ => None,
    };
    let mut sources: Vec<IpAddr> = host.done.iter().filter_map(|(_, it)| from(it)).collect();
    sources.dedup();
    sources
}

// ---- which one ---------------------------------------------------------------------------------

#[test]
fn the_source_does_not_depend_on_the_order_of_the_addresses() {
    let list = [at("10.0.0.9"), at(HERE), at("10.0.0.7")];
    assert_eq!(chosen(&web(), &list), Some(ip(HERE)));
    let list = [at("2001:db8::9"), at(GLOBAL), at(HERE6), at("2001:db8::7")];
    assert_eq!(chosen(&unicast6(&["2001:db8::1"]), &list), Some(ip(GLOBAL)));
    assert_eq!(chosen(&web6(), &[at("fe80::9"), at(GLOBAL), at(HERE6)]), Some(ip(HERE6)));
}

#[test]
fn the_source_is_in_a_subnet_of_the_peers() {
    let list = [at("10.0.0.9"), at("192.0.2.2"), at("198.51.100.2")];
    let to = |peer: &str| RouterConfig { unicast_peers: Some(Arc::from([ip(peer)])), ..web() };
    assert_eq!(chosen(&to("192.0.2.77"), &list), Some(ip("192.0.2.2")));
    assert_eq!(chosen(&to("198.51.100.77"), &list), Some(ip("198.51.100.2")));
    let listed = RouterConfig { accept_from: Some(Arc::from([ip("192.0.2.1")])), ..web() };
    assert_eq!(chosen(&listed, &list), Some(ip("192.0.2.2")));
    // With multicast the peers are most likely where the shared addresses are.
    let shared = RouterConfig { addresses: addresses(&["192.0.2.100"]), ..web() };
    assert_eq!(chosen(&shared, &list), Some(ip("192.0.2.2")));
    assert_eq!(chosen(&shared, &list[..1]), Some(ip("10.0.0.9")), "better than none");
}

#[test]
fn an_own_address_that_a_list_of_peers_names_is_the_source() {
    let all: Arc<[IpAddr]> = Arc::from([ip(BELOW), ip("10.0.0.9"), ip(ABOVE)]);
    let list = [at(HERE), at("10.0.0.9"), at("10.0.0.4")];
    let accepted = RouterConfig { accept_from: Some(all.clone()), ..web() };
    assert_eq!(chosen(&accepted, &list), Some(ip("10.0.0.9")));
    let unicast = RouterConfig { unicast_peers: Some(all), ..web() };
    let mut host = Host::started(&[unicast]);
    host.link(true, &list);
    assert_eq!(first_way(&mut host), (ip("10.0.0.9"), vec![ip(BELOW), ip(ABOVE)]), "not to itself");
    let configured = RouterConfig { source_address: Some(ip("10.0.0.4")), ..accepted };
    assert_eq!(chosen(&configured, &list), Some(ip("10.0.0.4")));
}

#[test]
fn temporary_deprecated_and_virtual_addresses_are_no_sources() {
    let to = unicast6(&["2001:db8::1"]);
    let neighbours = theirs("2001:db8::1:3");
    let list = [
        is("2001:db8::1:1", AddressState::Temporary),
        is("2001:db8::1:2", AddressState::Deprecated),
        neighbours,
        at("2001:db8::1:4"),
    ];
    assert_eq!(chosen(&to, &list), Some(ip("2001:db8::1:4")));
    assert_eq!(chosen(&to, &list[..2]), Some(ip("2001:db8::1:1")), "better than none");
    let named = RouterConfig { source_address: Some(ip("2001:db8::1:2")), ..to };
    assert_eq!(chosen(&named, &list), Some(ip("2001:db8::1:2")));
}

#[test]
fn link_local_peers_get_a_link_local_source() {
    let list = [at(GLOBAL), at(HERE6)];
    assert_eq!(chosen(&unicast6(&[ABOVE6]), &list), Some(ip(HERE6)));
    assert_eq!(chosen(&unicast6(&["2001:db8::1"]), &list), Some(ip(GLOBAL)));
}

#[test]
fn the_kernel_decides_for_peers_behind_a_router_unless_its_choice_will_go() {
    let config = unicast6(&["2001:db8:9::1"]);
    let list = [at(GLOBAL), at("2001:db8:5::2"), is("2001:db8::7", AddressState::Temporary)];
    let source = |routed: &str| {
        let mut host = Host::started(std::slice::from_ref(&config));
        assert_eq!(host.node.route_to(WEB, &list), Some(ip("2001:db8:9::1")));
        host.feed(Event::Routed(WEB, ip(routed))).unwrap();
        host.link(true, &list);
        host.router().source()
    };
    assert_eq!(source("2001:db8:5::2"), Some(ip("2001:db8:5::2")));
    assert_eq!(source("2001:db8::7"), Some(ip(GLOBAL)));
    let host = Host::started(&[config]);
    assert_eq!(host.node.route_to(WEB, &list[..1]), None, "there is no choice");
    let host = Host::started(&[unicast6(&["2001:db8::1"])]);
    assert_eq!(host.node.route_to(WEB, &list), None, "it is not behind a router");
}

#[test]
fn other_addresses_that_would_do_are_known() {
    let others = |config: &RouterConfig, list: &[LinkAddress]| {
        let mut host = Host::started(std::slice::from_ref(config));
        host.link(true, list);
        host.node.source_choice(WEB).unwrap().others
    };
    let list = [at("10.0.0.9"), at(HERE), at("192.0.2.2")];
    assert_eq!(others(&web(), &list), [ip("10.0.0.9")]);
    assert_eq!(others(&web(), &list[1..]), Vec::<IpAddr>::new());
    let named = RouterConfig { accept_from: Some(Arc::from([ip(HERE)])), ..web() };
    assert_eq!(others(&named, &list), Vec::<IpAddr>::new());
}

// ---- as long as it can be ----------------------------------------------------------------------

#[test]
fn a_source_that_was_used_stays_when_a_lower_address_comes() {
    let mut host = Host::master(web());
    let more = [at("10.0.0.1"), at(HERE)];
    host.link(true, &more);
    assert_eq!(host.router().source(), Some(ip(HERE)));
    host.link(false, &more);
    host.link(true, &more);
    assert_eq!(host.router().source(), Some(ip(HERE)), "after the link was down, too");
    host.link(true, &[at("10.0.0.1"), is(HERE, AddressState::Deprecated)]);
    assert_eq!(host.router().source(), Some(ip(HERE)), "it can still be sent from");
    // No peer has seen the source of a backup yet.
    let mut backup = Host::backup(web());
    backup.link(true, &more);
    assert_eq!(backup.router().source(), Some(ip("10.0.0.1")));
}

#[test]
fn a_source_stays_over_a_restart_unless_what_it_was_chosen_by_is_gone() {
    let used = ip("10.0.0.9");
    let restarted = |before: &RouterConfig, config: RouterConfig| {
        let mut host = Host::started(&[config]);
        let source = Some(Source::of(used, before));
        host.feed(Event::Found(WEB, Recorded { source, ..KILLED })).unwrap();
        host.link(true, &[at(HERE), at("10.0.0.9"), ours(SHARED)]);
        assert_eq!(host.role(), Role::Master);
        host.router().source()
    };
    assert_eq!(restarted(&web(), web()), Some(used));
    let of_peers = RouterConfig { accept_from: Some(Arc::from([ip(BELOW)])), ..web() };
    assert_eq!(restarted(&web(), of_peers.clone()), Some(used));
    assert_eq!(restarted(&of_peers, web()), Some(used));
    let named = RouterConfig { accept_from: Some(Arc::from([ip(BELOW), used])), ..web() };
    assert_eq!(restarted(&named, of_peers), Some(ip(HERE)));
    let configured = RouterConfig { source_address: Some(used), ..web() };
    assert_eq!(restarted(&configured, web()), Some(ip(HERE)));
}

/// The others list the address that they know.
#[test]
fn a_peer_that_is_added_or_removed_does_not_change_the_source() {
    let mut host = Host::started(&[unicast()]);
    host.link(true, &[at("10.0.0.7")]);
    host.wait(secs(10));
    host.link(true, &[at("10.0.0.4"), at("10.0.0.7"), ours(SHARED)]);
    for peers in [&[BELOW, ABOVE, "10.0.0.9"][..], &[ABOVE]] {
        let peers = Some(peers.iter().map(|peer| ip(peer)).collect());
        host.reload(&[RouterConfig { unicast_peers: peers, ..web() }]);
        assert_eq!((host.role(), host.router().source()), (Role::Master, Some(ip("10.0.0.7"))));
    }
}

#[test]
fn a_restart_while_the_source_is_gone_for_a_moment_moves_nothing() {
    let source = Some(Source::of(ip(HERE), &web()));
    let mut host = Host::started(&[web()]);
    host.feed(Event::Found(WEB, Recorded { source, ..KILLED })).unwrap();
    host.link(true, &[ours(SHARED)]);
    assert_eq!(host.why(), Why::Resumed);
    host.wait(millis(2900));
    host.link(true, &[ours(SHARED), at(HERE)]);
    host.wait(secs(60));
    assert_eq!((host.role(), sources(&host)), (Role::Master, vec![ip(HERE)]));
}

#[test]
fn a_reload_of_its_settings_chooses_the_source_anew() {
    let second = RouterConfig { source_address: Some(ip("10.0.0.9")), ..web() };
    let mut host = Host::started(std::slice::from_ref(&second));
    host.link(true, &[at(HERE), at("10.0.0.9")]);
    host.wait(secs(10));
    assert_eq!((host.role(), host.router().source()), (Role::Master, Some(ip("10.0.0.9"))));
    host.reload(&[web()]);
    assert_eq!(host.router().source(), Some(ip(HERE)));
}

// ---- gone --------------------------------------------------------------------------------------

#[test]
fn a_source_that_is_gone_for_less_than_three_intervals_changes_nothing() {
    for gone in [millis(30), millis(200), secs(1), millis(2999)] {
        let mut host = Host::master(web());
        host.wait(millis(300));
        host.link(true, &[ours(SHARED)]);
        assert_eq!(host.warnings(), [Warning::SourceGone { source: ip(HERE) }]);
        host.wait(gone);
        host.link(true, &[ours(SHARED), at(HERE)]);
        host.wait(secs(5));
        let expected = (1..=(millis(5300) + gone).as_secs()).map(secs);
        assert_eq!(host.times("advert"), expected.collect::<Vec<_>>());
        assert_eq!((host.role(), sources(&host)), (Role::Master, vec![ip(HERE)]));
        assert!(host.times("role").is_empty() && host.times("release").is_empty());
    }
}

#[test]
fn a_source_that_stays_away_is_a_fault_and_priority_0_is_sent_from_it() {
    let mut host = Host::master(web());
    host.link(true, &[ours(SHARED)]);
    host.wait(secs(3) - NANO);
    assert_eq!(host.role(), Role::Master);
    host.begin();
    host.wait(NANO);
    assert_eq!(host.reasons(), [Reason::NoAddress]);
    assert_eq!(host.adverts().last().map(|advert| advert.priority.get()), Some(0));
    assert_eq!((host.times("release").len(), sources(&host)), (1, vec![ip(HERE)]));
    host.link_up();
    assert_eq!(host.role(), Role::Backup);
}

/// Peers may know the one and not the other.
#[test]
fn another_address_does_not_replace_a_source_that_is_gone_for_a_moment() {
    let mut host = Host::master(web());
    let other = at("10.0.0.9");
    host.link(true, &[other, ours(SHARED)]);
    host.wait(secs(2));
    host.link(true, &[at(HERE), other, ours(SHARED)]);
    host.wait(secs(2));
    assert_eq!((host.role(), sources(&host)), (Role::Master, vec![ip(HERE)]));
    host.link(true, &[other, ours(SHARED)]);
    host.wait(millis(2999));
    assert_eq!(host.router().source(), Some(ip(HERE)));
    host.wait(MILLI);
    assert_eq!((host.role(), host.router().source()), (Role::Master, Some(other.ip)));
}

#[test]
fn the_address_of_a_link_that_comes_up_is_waited_for_without_a_hook() {
    let mut host = Host::backup(web6());
    host.link(false, &[]);
    host.begin();
    host.link(true, &[]);
    assert_eq!(host.reasons(), [Reason::SourcePending]);
    host.wait(secs(2));
    host.link(true, &[is(HERE6, AddressState::Tentative)]);
    host.wait(secs(2));
    assert_eq!((host.role(), host.times("claim").len()), (Role::Waiting, 0));
    host.link(true, &[at(HERE6)]);
    assert_eq!(host.said(), ["role waiting", "role backup"]);
}

// ---- duplicate address detection ---------------------------------------------------------------

#[test]
fn while_duplicate_address_detection_runs_it_waits_and_runs_no_hook() {
    let tentative = [is(HERE6, AddressState::Tentative)];
    for first in [&[][..], &tentative] {
        let mut host = Host::started(&[web6()]);
        host.link(true, first);
        host.wait(secs(1));
        host.link(true, &tentative);
        host.wait(secs(60));
        assert_eq!((host.role(), host.reasons()), (Role::Waiting, vec![Reason::SourcePending]));
        assert_eq!(host.hooks(), []);
        host.link(true, &[at(HERE6)]);
        assert_eq!((host.role(), host.why()), (Role::Backup, Why::Started));
        assert_eq!(host.said(), ["role backup"]);
    }
}

/// Which one is ready first is a matter of chance.
#[test]
fn a_better_address_that_is_still_tentative_is_waited_for() {
    let mut host = Host::started(&[unicast6(&["2001:db8::1"])]);
    host.link(true, &[is(GLOBAL, AddressState::Tentative), at("2001:db8::9")]);
    assert_eq!(host.role(), Role::Waiting);
    host.link(true, &[at(GLOBAL), at("2001:db8::9")]);
    assert_eq!((host.role(), host.router().source()), (Role::Backup, Some(ip(GLOBAL))));
}

#[test]
fn an_address_that_another_host_has_is_a_fault() {
    let duplicate = [is(HERE6, AddressState::Duplicate)];
    let mut host = Host::started(&[web6()]);
    host.link(true, &[is(HERE6, AddressState::Tentative)]);
    host.link(true, &duplicate);
    assert_eq!(host.reasons(), [Reason::SourceDuplicate(ip(HERE6))]);
    assert_eq!(host.said(), ["role fault"]);
    let mut master = Host::master(web6());
    master.link(true, &duplicate);
    assert_eq!(master.role(), Role::Fault);
    // If the peers know this host by that address, another one does not help.
    let named = RouterConfig { accept_from: Some(Arc::from([ip(HERE6), ip(ABOVE6)])), ..web6() };
    let mut host = Host::started(&[named]);
    host.link(true, &[duplicate[0], at("fe80::9")]);
    assert_eq!(host.reasons(), [Reason::SourceDuplicate(ip(HERE6))]);
}

// ---- words -------------------------------------------------------------------------------------

#[test]
fn what_is_missing_is_said() {
    let reason = |config: RouterConfig, list: &[LinkAddress]| {
        let mut host = Host::started(&[config]);
        host.link(true, list);
        assert_eq!((host.role(), host.reasons()), (Role::Waiting, vec![Reason::SourcePending]));
        host.wait(secs(3));
        assert_eq!((host.role(), host.said()), (Role::Fault, vec!["role fault".to_owned()]));
        let reasons = host.reasons();
        let [reason] = reasons.as_slice() else { panic!("{reasons:?}") };
        (reason.name(), reason.to_string())
    };
    let (name, text) = reason(web(), &[at(HERE6)]);
    assert_eq!((name, &*text), ("no_address", "the interface has no address to send adverts from"));
    let (name, text) = reason(web6(), &[at(HERE), at(GLOBAL)]);
    assert_eq!(name, "no_link_local");
    assert!(text.contains("no link-local address"), "{text}");
    let wrong = RouterConfig { source_address: Some(ip(ABOVE)), ..web() };
    let (name, text) = reason(wrong, &[at(HERE)]);
    assert_eq!(name, "source_absent");
    assert!(text.contains(ABOVE) && text.contains("`source_address`"), "{text}");
}
