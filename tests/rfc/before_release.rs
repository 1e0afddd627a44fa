//! The hook `before_release`: a planned leave waits for it.

use std::time::Duration;

use vipd::vrrp::{Action, Advert, Command, Handover, Hook, Priority, Role, Stop};

use crate::fixture::*;

#[test]
fn before_release_runs_while_adverts_and_renewals_go_on() {
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(prepared(handover));
        host.wait(millis(300));
        host.command(Command::Failover(WEB));
        let Some((_, Action::Notify(transition))) = host.done.last() else { panic!() };
        assert!(transition.before_release && transition.to == Role::Leaving);
        host.begin();
        host.wait(secs(10));
        let expected: Vec<Duration> = (0..10).map(|n| secs(n) + millis(700)).collect();
        assert_eq!(host.times("advert"), expected);
        assert_eq!(host.times("renew"), expected);
        assert!(host.adverts().iter().all(|advert| advert.priority == Priority::new(150)));
    }
}

#[test]
fn before_release_ends_with_the_hook_whatever_its_result() {
    for succeeded in [true, false] {
        let mut host = Host::master(prepared(Handover::Exclusive));
        host.stop(Stop::Leave);
        host.wait(millis(1500));
        host.begin();
        host.hook_ended(Hook::BeforeRelease, succeeded);
        assert_eq!(host.said(), ["release", "role stopped", "advert 0"]);
    }
}

#[test]
fn before_release_is_not_ended_by_another_hook() {
    let mut host = Host::master(prepared(Handover::Exclusive));
    host.stop(Stop::Leave);
    host.begin();
    for hook in [Hook::Master, Hook::Backup, Hook::Fault, Hook::Stop] {
        host.hook_ended(hook, true);
    }
    assert_eq!(host.role(), Role::Leaving);
    assert_eq!(host.done, []);
}

#[test]
fn before_release_ends_when_its_time_is_up() {
    let mut host = Host::master(prepared(Handover::Overlap));
    host.stop(Stop::Leave);
    host.begin();
    host.wait(secs(20) - NANO);
    let leaving = |advert: &Advert| advert.priority == Priority::LEAVING;
    assert!(!host.adverts().iter().any(leaving));
    host.wait(NANO);
    assert!(host.adverts().iter().any(leaving));
    assert_eq!(host.times("advert").last(), Some(&secs(20)));
    host.wait(secs(4));
    assert_eq!(host.times("release"), [secs(24)]);
}

#[test]
fn before_release_does_not_run_when_an_election_is_lost() {
    let mut host = Host::master(prepared(Handover::Exclusive));
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.said(), ["advert 150", "release", "role backup"]);
}

#[test]
fn before_release_is_cut_short_by_a_better_master() {
    let mut exclusive = Host::master(prepared(Handover::Exclusive));
    exclusive.stop(Stop::Leave);
    exclusive.begin();
    exclusive.hears(200, ABOVE).unwrap();
    assert_eq!(exclusive.said(), ["release", "role stopped"]);
    let mut overlap = Host::master(prepared(Handover::Overlap));
    overlap.stop(Stop::Leave);
    overlap.begin();
    overlap.hears(200, ABOVE).unwrap();
    overlap.wait(millis(5));
    assert_eq!(overlap.said(), ["release", "role stopped"]);
}

#[test]
fn before_release_answers_a_lower_master_like_any_master() {
    for value in [0, 149] {
        let mut host = Host::master(prepared(Handover::Exclusive));
        host.wait(millis(500));
        host.command(Command::Failover(WEB));
        host.begin();
        for _ in 0..100 {
            host.hears(value, ABOVE).unwrap();
            host.wait(Duration::from_micros(1000));
        }
        assert_eq!(host.role(), Role::Leaving);
        let adverts = host.times("advert");
        assert_eq!(adverts[0], Duration::ZERO, "{value}");
        assert_eq!(gaps(&adverts), millis(10));
    }
}
