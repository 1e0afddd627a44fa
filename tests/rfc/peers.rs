//! Incompatible peers, senders that are not accepted, and how often they are warned of.

use std::sync::Arc;

use vipd::vrrp::{
    Advert, DiscardReason, Interval, Mismatch, Priority, Role, RouterConfig, Version,
};

use crate::fixture::*;

#[test]
fn incompatible_versions_are_named() {
    let mut three = Host::backup(web());
    is_incompatible(&mut three, &advert_of(&web2(), 200), Mismatch::Version(Version::V2));
    let mut two = Host::backup(web2());
    is_incompatible(&mut two, &advert_of(&web(), 200), Mismatch::Version(Version::V3));
}

#[test]
fn incompatible_unicast_where_multicast_is_expected_is_named() {
    let mut host = Host::backup(web());
    let message = encode(&advert_of(&web(), 200), ABOVE, HERE);
    let refused = Err(DiscardReason::Incompatible(Mismatch::Unicast));
    assert_eq!(host.packet(ABOVE, HERE, 255, &message), refused);
    assert_eq!(host.times("warn").len(), 1);
}

#[test]
fn incompatible_multicast_where_unicast_is_expected_is_named() {
    let mut host = Host::backup(unicast());
    let message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    let refused = Err(DiscardReason::Incompatible(Mismatch::Multicast));
    assert_eq!(host.packet(ABOVE, GROUP, 255, &message), refused);
    assert_eq!(host.times("warn").len(), 1);
}

/// Somebody else's pair uses our VRID: it is not our master, and our addresses are served.
#[test]
fn incompatible_is_a_router_that_names_none_of_our_addresses() {
    for config in [web(), web2()] {
        let other = Advert { addresses: addresses(&["10.0.0.77"]), ..advert_of(&config, 220) };
        let mut backup = Host::backup(config.clone());
        is_incompatible(&mut backup, &other, Mismatch::Addresses);
        let left = backup.until_deadline();
        let leaves = Advert { priority: Priority::LEAVING, ..other.clone() };
        assert!(backup.hears_advert(&leaves, ABOVE).is_err(), "its priority 0 is no news of ours");
        assert_eq!(backup.until_deadline(), left);
        backup.wait(master_down(150, SECOND));
        assert_eq!(backup.role(), Role::Master);
        let mut master = Host::master(config);
        let refused = Err(DiscardReason::Incompatible(Mismatch::Addresses));
        assert_eq!(master.hears_advert(&other, ABOVE), refused);
        assert_eq!(master.role(), Role::Master);
    }
}

/// A wrong digit in a list must not be silent: two masters would follow, and nothing say why.
#[test]
fn incompatible_is_whoever_a_list_or_the_ttl_keeps_out() {
    let incompatible = |host: &Host| {
        let peers = host.router().incompatible(host.now);
        peers.map(|peer| (peer.source, peer.mismatch)).collect::<Vec<_>>()
    };
    let accept_from = Some(Arc::from([ip(BELOW)]));
    let mut host = Host::backup(RouterConfig { accept_from, ..web() });
    assert_eq!(host.hears(200, ABOVE), Err(DiscardReason::NotAccepted));
    assert_eq!(incompatible(&host), [(ip(ABOVE), Mismatch::NotAccepted)]);
    assert_eq!(host.times("warn").len(), 1);
    let mut host = Host::backup(unicast());
    assert_eq!(host.hears(200, "10.0.0.77"), Err(DiscardReason::NotAPeer));
    assert_eq!(incompatible(&host), [(ip("10.0.0.77"), Mismatch::NotAPeer)]);
    let mut host = Host::backup(web());
    let message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    assert_eq!(host.packet(ABOVE, GROUP, 64, &message), Err(DiscardReason::Ttl(64)));
    assert_eq!(incompatible(&host), [(ip(ABOVE), Mismatch::Ttl(64))]);
    // It is mended, and status says so at once.
    host.hears(200, ABOVE).unwrap();
    assert_eq!(incompatible(&host), []);
}

/// They would fill the list, and cause a warning a minute.
#[test]
fn unicast_from_beyond_a_router_is_no_peer_that_was_set_up_wrongly() {
    let accept_from = Some(Arc::from([ip(BELOW)]));
    let near = RouterConfig { unicast_min_ttl: 255, ..unicast() };
    for config in [web(), RouterConfig { accept_from: accept_from.clone(), ..web() }, near.clone()]
    {
        let from = if config.unicast_peers.is_some() { "198.51.100.7" } else { ABOVE };
        let mut host = Host::backup(config);
        let message = encode(&advert_of(&web(), 200), from, HERE);
        assert_eq!(host.packet(from, HERE, 60, &message), Err(DiscardReason::Ttl(60)));
        assert_eq!(host.router().incompatible(host.now).count(), 0);
        assert_eq!(host.times("warn").len(), 0);
    }
    // A peer that the list names is to know why it is not heard.
    let mut host = Host::backup(near);
    let message = encode(&advert_of(&web(), 200), ABOVE, HERE);
    assert_eq!(host.packet(ABOVE, HERE, 60, &message), Err(DiscardReason::Ttl(60)));
    assert_eq!(host.router().incompatible(host.now).count(), 1);
}

#[test]
fn incompatible_warnings_come_once_a_minute_and_status_has_the_last() {
    let mut host = Host::master(web());
    for _ in 0..120 {
        let _ = host.hears_advert(&advert_of(&web2(), 200), ABOVE);
        host.wait(secs(1));
    }
    assert_eq!(host.times("warn"), [secs(0), secs(60)]);
    // The last advert was a second ago, and its interval is one. Silent, it is no problem any more.
    assert_eq!(host.router().incompatible(host.now).count(), 1);
    host.wait(secs(3));
    assert_eq!(host.router().incompatible(host.now).count(), 1);
    host.wait(std::time::Duration::from_millis(10));
    assert_eq!(host.router().incompatible(host.now).count(), 0);
}

#[test]
fn of_many_incompatible_peers_only_some_are_remembered() {
    let mut host = Host::backup(web());
    for n in 1..=200 {
        let from = format!("10.0.1.{n}");
        let _ = host.hears_advert(&advert_of(&web2(), 200), &from);
    }
    let remembered: Vec<_> = host.router().incompatible(host.now).collect();
    assert_eq!(remembered.len(), 8);
    assert_eq!(remembered[7].source, ip("10.0.1.200"));
    assert_eq!(host.times("warn").len(), 1);
}

#[test]
fn accept_from_admits_the_named_and_refuses_the_rest() {
    let accept_from = Some(Arc::from([ip(ABOVE)]));
    let mut host = Host::backup(RouterConfig { accept_from, ..web() });
    host.sleeps(SECOND);
    let untouched = host.router().state().clone();
    assert_eq!(host.hears(200, BELOW), Err(DiscardReason::NotAccepted));
    assert_eq!(host.hears_advert(&advert_of(&web2(), 200), BELOW), Err(DiscardReason::NotAccepted));
    assert_eq!((host.router().state(), host.router().peer()), (&untouched, None));
    assert_eq!(host.hears(200, ABOVE), Ok(()));
}

#[test]
fn unicast_adverts_go_to_the_peers_and_come_from_them_only() {
    let mut host = Host::started(&[unicast()]);
    host.link_up();
    assert_eq!(host.hears(200, "10.0.0.77"), Err(DiscardReason::NotAPeer));
    assert_eq!((host.role(), host.router().peer()), (Role::Backup, None));
    assert_eq!(first_way(&mut host), (ip(HERE), vec![ip(BELOW), ip(ABOVE)]));
    assert_eq!(host.hears(200, ABOVE), Ok(()));
}

#[test]
fn warnings_of_one_kind_come_at_most_once_a_minute() {
    let mut host = Host::master(web());
    for _ in 0..1200 {
        host.wait(millis(100));
        host.hears(149, BELOW).unwrap();
    }
    // Not in the first interval: a master that gives way sends a final advert.
    assert_eq!(host.times("warn"), [secs(1), secs(61)]);
}

#[test]
fn warnings_of_another_kind_are_not_held_up() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.sees(STRANGER, SHARED);
    host.wait(millis(20));
    host.hears(149, BELOW).unwrap();
    let _ = host.hears_advert(&advert_of(&web2(), 200), ABOVE);
    host.loses(SHARED);
    assert_eq!(host.warnings().len(), 4);
}

/// A backup would wait three of its intervals.
/// As the files are changed host by host.
#[test]
fn the_interval_of_the_master_is_accepted_although_a_reload_forbids_it() {
    let old = RouterConfig {
        max_peer_interval: RouterConfig::default_max_peer_interval(Interval::DEFAULT),
        ..priority(100)
    };
    let fast = centis(5);
    let max_peer_interval = RouterConfig::default_max_peer_interval(fast);
    let new = RouterConfig { advert_interval: fast, max_peer_interval, ..old.clone() };
    let mut host = Host::backup_of(old.clone(), 200, ABOVE);
    host.reload(std::slice::from_ref(&new));
    for _ in 0..5 {
        host.hears_advert(&advert_of(&old, 200), ABOVE).unwrap();
        host.wait(SECOND);
    }
    assert_eq!(host.role(), Role::Backup);
    let slower = RouterConfig { advert_interval: centis(101), ..old.clone() };
    assert!(host.hears_advert(&advert_of(&slower, 200), ABOVE).is_err());
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master, "it had fallen silent");
    host.reload(&[RouterConfig { priority: Priority::new(101), ..new }]);
    assert!(host.hears_advert(&advert_of(&old, 200), ABOVE).is_err(), "no master was heard then");
}

#[test]
fn an_interval_above_max_peer_interval_is_incompatible() {
    let default = RouterConfig::default_max_peer_interval(Interval::DEFAULT);
    assert_eq!(default, centis(1000));
    assert_eq!(RouterConfig::default_max_peer_interval(centis(2000)), Interval::LONGEST);
    let config = RouterConfig { max_peer_interval: default, ..web() };
    for priority in [0, 200] {
        let mut host = Host::backup(config.clone());
        let slow = Advert { interval: centis(1001), ..advert_of(&web(), priority) };
        is_incompatible(&mut host, &slow, Mismatch::Slow(centis(1001)));
        let accepted = Advert { interval: default, ..slow };
        host.hears_advert(&accepted, ABOVE).unwrap();
    }
}
