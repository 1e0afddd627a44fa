//! RFC 9568 section 6.4.3: the state Master.

use std::time::Duration;

use vipd::vrrp::{Advert, Handover, Priority, Role, RouterConfig, Stop, Why};

use crate::fixture::*;

#[test]
fn rfc9568_6_4_3_a_master_advertises_once_per_interval() {
    let mut host = Host::master(web());
    host.wait(secs(100));
    assert_eq!(host.times("advert"), (1..=100).map(secs).collect::<Vec<_>>());
}

#[test]
fn rfc9568_6_4_3_an_advert_that_was_late_does_not_shift_the_next_one() {
    let mut host = Host::master(web());
    host.sleeps(millis(1400));
    host.wait(millis(1600));
    assert_eq!(host.times("advert"), [millis(1400), secs(2), secs(3)]);
}

#[test]
fn rfc9568_6_4_3_a_master_that_hears_priority_0_advertises_at_once() {
    let mut host = Host::master(web());
    host.wait(millis(500));
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.times("advert"), [millis(500)]);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn rfc9568_6_4_3_a_higher_priority_makes_a_backup_whoever_sends_it() {
    for from in [BELOW, ABOVE] {
        let mut host = Host::master(web());
        host.hears(151, from).unwrap();
        host.wait(millis(5));
        assert_eq!(host.role(), Role::Backup);
        assert_eq!(host.said(), ["advert 150", "role leaving", "release", "role backup"]);
        let (to, priority) = (ip(from), Priority::new(151));
        assert_eq!(host.why(), Why::LostElection { to, priority });
    }
}

#[test]
fn rfc9568_6_4_3_an_equal_priority_from_a_higher_address_makes_a_backup() {
    let mut host = Host::master(web());
    host.hears(150, ABOVE).unwrap();
    host.wait(millis(5));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn rfc9568_6_4_3_an_equal_priority_from_a_lower_address_is_answered_at_once() {
    let mut host = Host::master(web());
    host.wait(millis(500));
    host.hears(150, BELOW).unwrap();
    assert_eq!(host.times("advert"), [millis(500)]);
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn rfc9568_6_4_3_addresses_are_compared_as_numbers_of_network_order() {
    let mut host = Host::master(web());
    host.hears(150, "9.255.255.255").unwrap();
    assert_eq!(host.role(), Role::Master);
    host.hears(150, "10.0.1.0").unwrap();
    assert_eq!(host.role(), Role::Leaving);
    let mut six = Host::master(web6());
    six.hears(150, BELOW6).unwrap();
    assert_eq!(six.role(), Role::Master);
    six.hears(150, ABOVE6).unwrap();
    assert_eq!(six.role(), Role::Leaving);
}

#[test]
fn rfc9568_6_4_3_a_lower_priority_is_answered_at_once_whoever_sends_it() {
    for from in [BELOW, ABOVE] {
        let mut host = Host::master(web());
        host.wait(millis(500));
        host.hears(149, from).unwrap();
        assert_eq!(host.times("advert"), [millis(500)]);
        assert_eq!(host.adverts()[0].priority, Priority::new(150));
        assert_eq!(host.role(), Role::Master);
    }
}

#[test]
fn rfc9568_6_4_3_a_loser_adopts_the_winners_interval() {
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(RouterConfig { handover, ..web() });
        let slow = Advert { interval: centis(500), ..advert_of(&web(), 200) };
        host.hears_advert(&slow, ABOVE).unwrap();
        host.wait(millis(5));
        assert_eq!(host.role(), Role::Backup);
        host.wait(master_down(150, secs(5)) - millis(5) - NANO);
        assert_eq!(host.role(), Role::Backup);
        host.wait(millis(6));
        assert_eq!(host.role(), Role::Master);
    }
}

#[test]
fn rfc9568_6_4_3_a_loser_waits_the_full_interval_from_the_winners_advert() {
    let mut host = Host::master(exclusive());
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_6_4_3_a_master_that_stops_sends_priority_0() {
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(RouterConfig { handover, ..web() });
        host.stop(Stop::Leave);
        assert_eq!(host.adverts().last().unwrap().priority, Priority::LEAVING);
        assert_eq!(host.adverts().last().unwrap().addresses, web().addresses);
    }
}

#[test]
fn rfc9568_6_4_3_a_loser_sends_one_final_advert_and_no_more() {
    // It makes a winner that did not know of it announce again.
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(RouterConfig { handover, ..web() });
        host.hears(200, ABOVE).unwrap();
        host.wait(secs(3));
        let said: Vec<u8> = host.adverts().iter().map(|advert| advert.priority.get()).collect();
        assert_eq!(said, [150]);
    }
}

#[test]
fn a_loser_that_has_just_answered_sends_no_final_advert() {
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(RouterConfig { handover, ..web() });
        host.hears(149, BELOW).unwrap();
        host.wait(millis(9));
        host.hears(200, ABOVE).unwrap();
        host.wait(millis(500));
        assert_eq!(
            host.times("advert"),
            [Duration::ZERO],
            "one in ten milliseconds, whatever comes"
        );
    }
}
