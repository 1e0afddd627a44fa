//! Addresses that disappear, and claims that fail.

use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::{
    Address, ClaimError, Event, Leave, Reason, Role, RouterConfig, Vrid, Warning, Why,
};

use crate::fixture::*;

#[test]
fn a_removed_address_is_added_again_and_announced() {
    let mut host = Host::master(web());
    host.wait(millis(500));
    host.loses(SHARED);
    assert_eq!(host.said(), ["announce", "announce", "claim", "announce", "warn"]);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn only_the_removed_address_is_put_back() {
    let unadvertised_addresses = addresses(&["10.0.0.101"]);
    let mut host = Host::master(RouterConfig { unadvertised_addresses, ..web() });
    host.loses("10.0.0.101");
    assert_eq!(host.said(), ["claim 10.0.0.101", "announce 10.0.0.101", "warn"]);
    host.loses("10.0.0.102");
    assert_eq!(host.done, []);
}

#[test]
fn an_address_that_went_at_the_end_of_its_lease_is_not_put_back() {
    let slow = RouterConfig { advert_interval: centis(500), address_lifetime: Some(2), ..web() };
    let mut host = Host::master(slow.clone());
    host.sleeps(millis(1900));
    host.feed(Event::LeaseRanOut(WEB)).unwrap();
    assert_eq!(host.said(), ["release", "role backup"]);
    assert_eq!(host.why(), Why::LeaseRanOut);
    let mut early = Host::master(slow);
    early.sleeps(millis(1900) - NANO);
    early.loses(SHARED);
    assert_eq!(early.said(), ["claim", "announce", "warn"]);
}

#[test]
fn an_address_that_is_removed_again_and_again_is_a_fault_for_30_s() {
    let mut host = Host::master(web());
    for _ in 0..10 {
        host.loses(SHARED);
    }
    assert_eq!(host.role(), Role::Master);
    host.begin();
    host.loses(SHARED);
    assert_eq!(host.said()[..1], ["advert 0"]);
    assert_eq!(host.reasons(), [Reason::AddressRemoved]);
    host.wait(secs(30) - NANO);
    assert_eq!(host.role(), Role::Fault);
    host.wait(NANO);
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn an_address_that_is_removed_once_in_a_while_is_no_fault() {
    let mut host = Host::master(web());
    for _ in 0..50 {
        host.wait(millis(1001));
        host.loses(SHARED);
    }
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn a_claim_that_fails_is_a_fault_and_tried_again_after_10_s() {
    let mut host = Host::master(web());
    host.feed(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    assert_eq!(
        host.said(),
        ["advert 0", "renew", "release", "role fault"]
            .into_iter()
            .filter(|word| *word != "renew")
            .collect::<Vec<_>>()
    );
    assert_eq!(host.reasons(), [Reason::ClaimFailed]);
    host.begin();
    host.wait(secs(60));
    assert_eq!(host.times("claim"), [secs(10) + master_down(150, SECOND)]);
}

#[test]
fn a_claim_refused_because_the_address_is_there_is_a_fault_until_it_is_gone() {
    let mut host = Host::master(web());
    host.feed(Event::ClaimFailed(WEB, ClaimError::AlreadyThere)).unwrap();
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    host.link(true, &[at(HERE), at(SHARED)]);
    host.wait(secs(600));
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    host.link(true, &[at(HERE)]);
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn a_claim_refused_because_of_an_address_that_is_not_reported_is_tried_again() {
    let mut host = Host::master(web());
    host.feed(Event::ClaimFailed(WEB, ClaimError::AlreadyThere)).unwrap();
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn a_claim_that_fails_after_the_role_was_left_changes_nothing() {
    let mut host = Host::backup(web());
    host.feed(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.done, []);
}

#[test]
fn an_address_that_is_there_and_not_ours_is_never_touched() {
    let mut host = Host::started(&[web()]);
    host.link(true, &[at(HERE), at(SHARED)]);
    host.wait(secs(100));
    assert_eq!(host.said(), ["role fault"]);
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    let mut backup = Host::backup(web());
    backup.link(true, &[at(HERE), at(SHARED)]);
    assert_eq!(backup.reasons(), [Reason::AddressAlreadyThere]);
}

#[test]
fn an_address_of_another_daemon_of_this_host_is_never_touched() {
    let mut host = Host::started(&[web()]);
    host.link(true, &[at(HERE), theirs(SHARED)]);
    host.wait(secs(100));
    assert_eq!(host.said(), ["role fault"]);
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    host.link(true, &[at(HERE)]);
    host.wait(secs(100));
    assert_eq!(host.role(), Role::Master);
    host.link(true, &[at(HERE), theirs(SHARED)]);
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
}

#[test]
fn an_address_that_another_virtual_router_of_this_daemon_added_is_no_fault() {
    let other = RouterConfig {
        name: "other".into(),
        vrid: Vrid::new(200).unwrap(),
        addresses: Arc::from([Address::host(ip("192.0.2.77"))]),
        ..web()
    };
    let mut host = Host::started(&[web(), other.clone()]);
    host.link(true, &[at(HERE), theirs(SHARED)]);
    assert_eq!(host.role(), Role::Backup);
    // It is one as long as that one is not configured.
    host.reload(&[web()]);
    host.link(true, &[at(HERE), theirs(SHARED)]);
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    let there = [at(HERE), theirs(SHARED), theirs("192.0.2.77")];
    host.link(true, &there);
    host.reload(&[web(), other]);
    let added = host.node.routers().nth(1).unwrap();
    assert_eq!(added.fault_reasons().collect::<Vec<_>>(), []);
    host.link(true, &there);
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn an_address_that_is_there_and_ours_is_no_fault() {
    let mut host = Host::master(web());
    host.link(true, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.done, []);
}

#[test]
fn a_claim_that_fails_again_and_again_is_tried_more_and_more_seldom() {
    let mut host = Host::master(web());
    let mut waits = Vec::new();
    for _ in 0..9 {
        host.feed(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
        assert_eq!(host.role(), Role::Fault);
        let failed_at = host.now;
        while host.role() != Role::Master {
            host.wait(host.until_deadline().unwrap());
        }
        waits.push((host.now - failed_at - master_down(150, SECOND)).as_secs());
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    host.wait(secs(700));
    host.feed(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    assert_eq!(host.until_deadline(), Some(secs(10)));
}

const RIDER: &str = "10.0.0.101";

fn with_rider() -> RouterConfig {
    RouterConfig { unadvertised_addresses: addresses(&[RIDER]), ..web() }
}

fn refuses_rider(host: &mut Host) {
    host.feed(Event::Refused(WEB, ip(RIDER), ClaimError::Refused)).unwrap();
}

#[test]
fn an_unadvertised_address_that_is_refused_is_left_out_of_renewals_and_announcements() {
    let mut host = Host::master(with_rider());
    refuses_rider(&mut host);
    assert_eq!(host.role(), Role::Master);
    let warning = Warning::AddressMissing { address: ip(RIDER), error: ClaimError::Refused };
    assert_eq!(host.warnings(), [warning]);
    assert!(host.router().holding().is_missing(ip(RIDER)));
    host.begin();
    host.wait(millis(999));
    assert_eq!(host.said(), ["announce", "announce"]);
    host.wait(millis(1));
    let claimed = ["claim 10.0.0.101", "announce 10.0.0.101"];
    assert_eq!(host.said(), [&["advert 150", "renew", "announce"][..], &claimed].concat());
    host.wait(secs(1));
    assert_eq!(host.said(), ["advert 150", "renew 10.0.0.100,10.0.0.101"]);
}

#[test]
fn an_unadvertised_address_that_is_refused_is_tried_again_after_1_s_2_s_4_s_up_to_5_minutes() {
    // Nothing else happens at these times.
    let slow =
        RouterConfig { advert_interval: centis(4095), address_lifetime: None, ..with_rider() };
    let mut host = Host::master(slow);
    let mut waits = Vec::new();
    for _ in 0..11 {
        refuses_rider(&mut host);
        let failed_at = host.now;
        while !host.times("claim").iter().any(|at| host.begun + *at == host.now) {
            host.wait(host.until_deadline().unwrap());
        }
        waits.push((host.now - failed_at).as_secs());
        host.begin();
        host.sleeps(Duration::from_nanos(1));
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn a_refused_address_is_tried_again_soon_after_its_interface_has_changed() {
    let mut host = Host::master(with_rider());
    for _ in 0..5 {
        refuses_rider(&mut host);
        host.wait(secs(16));
    }
    refuses_rider(&mut host);
    host.begin();
    host.link(true, &[at(HERE), ours(SHARED)]);
    host.wait(secs(2));
    assert_eq!(host.times("claim"), [secs(1)]);
}

#[test]
fn a_refused_address_that_is_due_while_a_successor_is_waited_for_is_tried_again_after_that() {
    let mut host = Host::master(with_rider());
    refuses_rider(&mut host);
    left_by(&mut host, Leave::Failover);
    host.wait(secs(4) - NANO);
    assert_eq!(host.role(), Role::Leaving);
    host.begin();
    host.wait(NANO);
    assert_eq!((host.role(), host.why()), (Role::Master, Why::NobodyCame));
    assert_ne!(host.until_deadline(), Some(Duration::ZERO));
    host.wait(secs(2));
    assert_eq!(host.times("claim"), [NANO + secs(1)]);
}

#[test]
fn an_unadvertised_address_of_the_host_itself_is_no_fault() {
    let mut host = Host::backup(with_rider());
    host.link(true, &[at(HERE), at(RIDER)]);
    assert_eq!(host.role(), Role::Backup);
    host.link(true, &[at(HERE), at(SHARED)]);
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
}

#[test]
fn an_unadvertised_address_that_is_removed_again_and_again_is_left_out() {
    let mut host = Host::master(with_rider());
    for _ in 0..11 {
        host.loses(RIDER);
    }
    assert_eq!(host.role(), Role::Master);
    assert!(host.router().holding().is_missing(ip(RIDER)));
    let warning = Warning::AddressMissing { address: ip(RIDER), error: ClaimError::Removed };
    assert_eq!(host.warnings().last(), Some(&warning));
}

#[test]
fn a_reload_tries_a_refused_address_again() {
    let mut host = Host::master(with_rider());
    refuses_rider(&mut host);
    host.begin();
    let unadvertised_addresses = addresses(&[RIDER, "10.0.0.102"]);
    host.reload(&[RouterConfig { unadvertised_addresses, ..web() }]);
    assert_eq!(host.said()[..1], ["claim 10.0.0.101,10.0.0.102"]);
    refuses_rider(&mut host);
    host.begin();
    // It is an advertised one now, and has to be there.
    host.reload(&[RouterConfig { addresses: addresses(&[SHARED, RIDER]), ..web() }]);
    assert!(host.said().contains(&"claim 10.0.0.101".to_owned()));
    host.feed(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    assert_eq!(host.reasons(), [Reason::ClaimFailed]);
}

#[test]
fn what_is_released_is_tried_as_a_whole_at_the_next_claim() {
    let mut host = Host::master(with_rider());
    refuses_rider(&mut host);
    host.begin();
    host.link_down();
    assert!(host.said().contains(&"release 10.0.0.100,10.0.0.101".to_owned()));
    host.link_up();
    host.wait(secs(5));
    assert!(host.said().contains(&"claim 10.0.0.100,10.0.0.101".to_owned()));
}
