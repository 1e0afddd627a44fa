//! When a master announces its addresses (gratuitous ARP, unsolicited neighbour advertisements).

use vipd::vrrp::{Command, LinkState, Mac, Role, Warning};

use crate::fixture::*;

#[test]
fn announcements_repeat_after_10_ms_100_ms_1_s_5_s_and_then_every_30_s() {
    let mut host = Host::master(web());
    host.wait(secs(100));
    let expected = [10, 100, 1000, 5000, 35_000, 65_000, 95_000].map(millis);
    assert_eq!(host.times("announce"), expected);
}

#[test]
fn a_lower_advert_makes_announce_at_once_but_not_within_a_second_of_the_last() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.begin();
    host.hears(149, BELOW).unwrap();
    host.wait(millis(100));
    host.hears(149, BELOW).unwrap();
    host.wait(millis(1500));
    assert_eq!(host.times("announce"), [secs(0), secs(1)]);
}

/// Until then the sender may have answered for the addresses.
#[test]
fn priority_0_makes_a_master_announce_at_once() {
    let mut host = Host::master(web());
    host.wait(secs(10));
    host.begin();
    host.hears(0, BELOW).unwrap();
    host.wait(millis(900));
    assert_eq!(host.times("announce"), [secs(0)]);
}

#[test]
fn a_foreign_announcement_is_answered_after_20_ms() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.begin();
    host.sees(STRANGER, SHARED);
    host.wait(millis(900));
    assert_eq!(host.times("announce"), [millis(20)]);
    let warning = Warning::Contention { address: ip(SHARED), mac: STRANGER };
    assert_eq!(host.warnings(), [warning]);
}

#[test]
fn a_foreign_announcement_is_not_answered_by_a_former_master() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.begin();
    host.sees(STRANGER, SHARED);
    host.hears(200, ABOVE).unwrap();
    host.wait(secs(2));
    assert!(host.times("announce").is_empty());
}

#[test]
fn contended_announcements_are_answered_once_a_second() {
    let mut host = Host::master(web());
    host.wait(secs(40));
    host.begin();
    for _ in 0..10_000 {
        host.sees(STRANGER, SHARED);
        host.wait(MILLI);
    }
    assert_eq!(host.times("announce").len(), 10);
    assert_eq!(gaps(&host.times("announce")), SECOND);
    assert_eq!(host.times("warn").len(), 1);
    assert!(host.times("advert").len() == 10);
}

#[test]
fn a_foreign_announcement_of_another_address_is_ignored() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.begin();
    host.sees(STRANGER, "10.0.0.101");
    host.wait(millis(900));
    assert_eq!(host.done, []);
}

#[test]
fn announcing_on_command_is_done_by_the_master_at_once() {
    let mut host = Host::master(web());
    host.command(Command::Announce(WEB));
    assert_eq!(host.said(), ["announce"]);
}

/// As of a bridge that gains or loses a port: neighbours send to the old one until they are told.
#[test]
fn another_mac_of_the_interface_is_announced_at_once_but_not_within_a_second_of_the_last() {
    let mut host = Host::master(web());
    let own = [at(HERE), ours(SHARED)];
    let state = |mac| LinkState { up: true, mac, addresses: &own, ..LinkState::default() };
    host.state(state(Some(Mac([2; 6]))));
    host.wait(secs(10));
    host.begin();
    host.state(state(Some(Mac([2; 6]))));
    host.wait(secs(2));
    assert!(host.times("announce").is_empty(), "it is the same");
    host.begin();
    host.state(state(Some(Mac([4; 6]))));
    host.wait(millis(100));
    host.state(state(Some(Mac([4; 6]))));
    host.wait(millis(100));
    host.state(state(Some(Mac([2; 6]))));
    host.wait(secs(4));
    assert_eq!(host.times("announce"), [secs(0), secs(1)]);
}

#[test]
fn who_else_has_the_addresses_is_asked_at_the_claim_after_1_s_5_s_and_with_every_refresh() {
    let mut host = Host::backup(web());
    host.wait(master_down(150, SECOND));
    assert_eq!(host.probes(), [master_down(150, SECOND)]);
    host.begin();
    host.wait(secs(100));
    assert_eq!(host.probes(), [1, 5, 35, 65, 95].map(secs));
    // Answers cause announcements, and these no probes.
    host.begin();
    host.sees(STRANGER, SHARED);
    host.wait(secs(1));
    assert_eq!((host.times("announce").len(), host.probes().len()), (1, 0));
}

/// It announces before its advert has arrived.
#[test]
fn a_successor_is_no_foreign_machine() {
    let mut host = Host::master(web());
    host.wait(secs(10));
    host.begin();
    host.sees(STRANGER, SHARED);
    host.wait(millis(20) - NANO);
    host.hears(200, ABOVE).unwrap();
    host.wait(secs(5));
    assert_eq!(host.warnings(), []);
}

/// The one before may linger, and answer when it is asked.
#[test]
fn a_successor_asks_after_a_second_and_believes_no_answer_before() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    host.hears(0, ABOVE).unwrap();
    let span = host.until_deadline().unwrap();
    host.wait(span);
    assert_eq!(host.role(), Role::Master);
    host.sees(STRANGER, SHARED);
    host.wait(secs(1) - NANO);
    host.sees(STRANGER, SHARED);
    assert_eq!((host.warnings(), host.probes()), (vec![], vec![]));
    host.wait(NANO);
    assert_eq!(host.probes().len(), 1);
    host.sees(STRANGER, SHARED);
    host.wait(secs(1));
    assert_eq!(host.warnings(), [Warning::Contention { address: ip(SHARED), mac: STRANGER }]);
}

#[test]
fn while_another_master_is_heard_it_may_be_the_one_that_answers() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.hears(100, BELOW).unwrap();
    host.begin();
    host.wait(secs(3) - NANO);
    host.sees(STRANGER, SHARED);
    assert_eq!(host.router().holding().contenders(host.now).count(), 0);
    host.wait(NANO);
    assert_eq!(host.warnings(), []);
    host.sees(STRANGER, SHARED);
    host.wait(secs(2));
    assert_eq!(host.warnings().len(), 1);
}

#[test]
fn another_machine_that_has_the_address_is_remembered_until_three_probes_are_unanswered() {
    let mut host = Host::master(web());
    for n in 0..20 {
        host.sees(Mac([2, 0, 0, 0, 1, n]), SHARED);
    }
    assert_eq!(host.router().holding().contenders(host.now).count(), 8);
    host.wait(secs(60));
    host.sees(STRANGER, SHARED);
    host.wait(secs(90));
    let known: Vec<_> = host.router().holding().contenders(host.now).map(|seen| seen.mac).collect();
    assert_eq!(known, [STRANGER]);
    host.wait(NANO);
    assert_eq!(host.router().holding().contenders(host.now).count(), 0);
    host.sees(STRANGER, SHARED);
    host.hears(200, ABOVE).unwrap();
    host.wait(secs(1));
    assert_eq!(host.router().holding().contenders(host.now).count(), 0, "not as backup");
}
