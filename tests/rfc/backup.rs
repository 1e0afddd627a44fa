//! RFC 9568 section 6.4.2: the state Backup.

use vipd::vrrp::{Advert, Command, DiscardReason, Priority, Role, RouterConfig, Stop, Why};

use crate::fixture::*;

#[test]
fn rfc9568_6_4_2_a_backup_takes_over_exactly_at_the_master_down_interval() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    host.wait(master_down(150, SECOND));
    assert_eq!(host.times("claim"), [master_down(150, SECOND)]);
    assert_eq!(host.said(), TAKES_OVER);
    let (since, now) = (host.begun, host.now);
    assert_eq!(host.why(), Why::MasterSilent { master: ip(ABOVE), since, now });
}

#[test]
fn rfc9568_6_4_2_a_backup_whose_master_goes_on_advertising_stays_backup() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    for _ in 0..100 {
        host.wait(secs(1));
        host.hears(200, ABOVE).unwrap();
    }
    assert_eq!(host.done, []);
}

#[test]
fn rfc9568_6_4_2_priority_0_sets_the_timer_to_the_skew_time() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    host.hears(0, ABOVE).unwrap();
    host.wait(skew(150, SECOND) - NANO);
    assert_eq!(host.role(), Role::Backup);
    host.wait(NANO);
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.why(), Why::MasterLeft(ip(ABOVE)));
}

/// However often it is heard, and whoever sends it.
#[test]
fn priority_0_never_lengthens_the_timer() {
    let mut host = Host::backup(web());
    host.hears(0, ABOVE).unwrap();
    for _ in 0..3 {
        host.wait(millis(200));
        let left = host.until_deadline();
        host.hears(0, ABOVE).unwrap();
        assert_eq!(host.until_deadline(), left);
    }
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn priority_0_counts_only_from_the_master_that_was_heard_last() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    assert_eq!(host.hears(0, BELOW), Err(DiscardReason::NotTheMaster));
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.until_deadline(), Some(skew(150, SECOND)));
    // The link comes back: who is master is not known.
    host.hears(200, ABOVE).unwrap();
    host.link_down();
    host.link_up();
    host.hears(0, BELOW).unwrap();
    assert_eq!(host.until_deadline(), Some(skew(150, SECOND)));
}

/// As a database replica that is unfit until it is promoted.
#[test]
fn priority_0_that_is_heard_in_fault_counts_once_the_fault_is_over() {
    let fault = |host: &mut Host, unfit: bool| {
        let shared = if unfit { &[at(HERE), at(SHARED)][..] } else { &[at(HERE)] };
        host.link(true, shared);
    };
    let mut host = Host::backup_of(web(), 200, ABOVE);
    fault(&mut host, true);
    assert_eq!(host.role(), Role::Fault);
    host.hears(0, ABOVE).unwrap();
    host.wait(millis(100));
    fault(&mut host, false);
    assert_eq!(host.until_deadline(), Some(skew(150, SECOND) - millis(100)));
    // Another master has come meanwhile.
    let mut host = Host::backup_of(web(), 200, ABOVE);
    fault(&mut host, true);
    host.hears(0, ABOVE).unwrap();
    host.hears(120, BELOW).unwrap();
    fault(&mut host, false);
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
    // What was heard before the fault is old.
    let mut host = Host::backup_of(web(), 200, ABOVE);
    host.hears(0, ABOVE).unwrap();
    host.wait(millis(1));
    fault(&mut host, true);
    host.wait(secs(9));
    fault(&mut host, false);
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_6_4_2_the_skew_time_is_of_the_interval_the_master_used() {
    let mut host = Host::backup(web());
    let slow = |value| Advert { interval: centis(500), ..advert_of(&web(), value) };
    host.hears_advert(&slow(200), ABOVE).unwrap();
    host.hears_advert(&slow(0), ABOVE).unwrap();
    assert_eq!(host.until_deadline(), Some(skew(150, secs(5))));
}

#[test]
fn rfc9568_6_4_2_an_advert_of_the_own_priority_restarts_the_timer_whoever_sends_it() {
    for from in [BELOW, ABOVE] {
        let mut host = Host::backup(web());
        host.wait(secs(3));
        host.hears(150, from).unwrap();
        assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
    }
}

#[test]
fn rfc9568_6_4_2_a_lower_advert_does_not_restart_the_timer_while_preempting() {
    let mut host = Host::backup(web());
    for _ in 0..4 {
        host.wait(millis(800));
        host.hears(149, ABOVE).unwrap();
    }
    host.wait(secs(1));
    assert_eq!(host.times("claim"), [master_down(150, SECOND)]);
    assert_eq!(host.why(), Why::Preempts { master: ip(ABOVE), priority: Priority::new(149) });
}

#[test]
fn rfc9568_6_4_2_a_lower_advert_restarts_the_timer_when_not_preempting() {
    let mut host = Host::backup(RouterConfig { preempt: false, ..web() });
    let slow = Advert { interval: centis(200), ..advert_of(&web(), 1) };
    for _ in 0..20 {
        host.wait(secs(2));
        host.hears_advert(&slow, BELOW).unwrap();
        assert_eq!(host.until_deadline(), Some(master_down(150, secs(2))));
    }
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn rfc9568_6_4_2_a_new_master_claims_advertises_announces_in_this_order() {
    let mut host = Host::backup(web());
    host.wait(master_down(150, SECOND));
    assert_eq!(host.said(), TAKES_OVER);
}

#[test]
fn rfc9568_6_4_2_a_backup_sends_nothing_whatever_it_hears() {
    let mut host = Host::backup(web());
    for value in [0, 1, 100, 149, 150, 151, 254, 255] {
        host.hears(value, ABOVE).unwrap();
        host.hears(value, BELOW).unwrap();
    }
    host.sees(STRANGER, SHARED);
    host.command(Command::Announce(WEB));
    host.command(Command::Failover(WEB));
    host.loses(SHARED);
    assert_eq!(host.done, []);
}

#[test]
fn rfc9568_6_4_2_a_backup_that_stops_sends_nothing() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    host.stop(Stop::Leave);
    assert_eq!(host.said(), ["role stopped"]);
    assert!(host.node.is_stopped());
    assert_eq!(host.node.deadline(), None);
    host.hears(0, ABOVE).unwrap();
    host.wait(secs(60));
    assert_eq!(host.done, []);
}
