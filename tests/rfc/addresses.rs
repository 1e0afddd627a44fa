//! Addresses that disappear, and claims that fail.

use vipd::vrrp::{ClaimError, Event, Reason, Role, RouterConfig, Why};

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
fn an_address_that_is_there_and_ours_is_no_fault() {
    let mut host = Host::master(web());
    host.link(true, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.done, []);
}
