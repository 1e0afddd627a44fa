//! Leaving with `handover = "exclusive"`: release first, then priority 0.

use vipd::vrrp::Command;

use crate::fixture::*;

#[test]
fn exclusive_releases_before_it_sends_priority_0() {
    for leave in WAYS {
        let mut host = Host::master(exclusive());
        left_by(&mut host, leave);
        let said = host.said();
        assert_eq!(said[0], "release", "{leave:?}");
        assert_eq!(said[2], "advert 0", "{leave:?}");
        assert_eq!(said.len(), 3, "{leave:?}: {said:?}");
        assert!(!host.router().has_addresses());
    }
}

/// As priority 0 the final advert would make a third router take over that has missed the winner's.
#[test]
fn exclusive_losing_an_election_releases_at_once_and_never_sends_priority_0() {
    let mut host = Host::master(exclusive());
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.said(), ["advert 150", "release", "role backup"]);
}

#[test]
fn exclusive_failover_without_a_successor_is_undone_after_the_master_down_interval() {
    let mut host = Host::master(exclusive());
    host.command(Command::Failover(WEB));
    assert!(host.router().held_back());
    host.begin();
    host.wait(secs(60));
    assert_eq!(host.times("claim"), [master_down(150, SECOND)]);
    assert!(!host.router().held_back());
}
