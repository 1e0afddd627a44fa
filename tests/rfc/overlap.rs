//! Leaving with `handover = "overlap"`: priority 0 first, release when the successor has announced itself.

use std::time::Duration;

use vipd::vrrp::{
    Action, Command, DiscardReason, Drain, Leave, Priority, Role, RouterConfig, Stop, Why,
};

use crate::fixture::*;

#[test]
fn overlap_sends_priority_0_and_keeps_answering() {
    for leave in WAYS {
        let mut host = Host::master(web());
        host.wait(MILLI);
        left_by(&mut host, leave);
        let said = host.said();
        assert_eq!(said, ["role leaving", "advert 0", "renew"], "{leave:?}");
        assert_eq!(host.role(), Role::Leaving);
        assert!(host.router().has_addresses() && !host.node.is_stopped());
    }
}

#[test]
fn overlap_releases_5_ms_after_the_successors_advert() {
    for leave in WAYS {
        for successor in [1, 149, 200] {
            let mut host = Host::master(web());
            left_by(&mut host, leave);
            host.wait(millis(413));
            host.begin();
            host.hears(successor, BELOW).unwrap();
            host.wait(millis(100));
            assert_eq!(host.times("release"), [millis(5)]);
            let (to, leave) = (ip(BELOW), leave);
            let told = host.done.iter().find_map(|(_, action)| match action {
                Action::Notify(transition) => Some(transition.why.clone()),
                _ => None,
            });
            assert_eq!(told, Some(Why::HandedOver { to, leave }));
        }
    }
}

#[test]
fn overlap_releases_1_ms_after_the_successors_announcement() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.wait(millis(413));
    host.begin();
    host.hears(149, BELOW).unwrap();
    host.wait(MILLI);
    host.sees(STRANGER, SHARED);
    host.wait(secs(1));
    assert_eq!(host.times("release"), [millis(2)]);
    assert!(host.node.is_stopped());
}

#[test]
fn overlap_waits_no_longer_for_a_late_announcement() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.hears(149, BELOW).unwrap();
    host.wait(Duration::from_micros(4500));
    host.sees(STRANGER, SHARED);
    host.wait(secs(1));
    assert_eq!(host.times("release"), [millis(5)]);
}

#[test]
fn overlap_does_not_take_another_leaving_master_or_itself_for_the_successor() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.hears(150, HERE), Err(DiscardReason::OwnAdvert));
    host.sees(STRANGER, SHARED);
    host.wait(millis(900));
    assert_eq!(host.role(), Role::Leaving);
}

#[test]
fn overlap_repeats_priority_0_once_per_interval() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.hears(0, ABOVE).unwrap();
    host.wait(secs(3));
    assert_eq!(host.times("advert"), [0, 1, 2, 3].map(secs));
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::LEAVING));
}

#[test]
fn overlap_failover_and_drain_are_undone_without_a_successor() {
    for (leave, advert) in [(Leave::Failover, "advert 150"), (Leave::Drain, "advert 1")] {
        let mut host = Host::master(web());
        left_by(&mut host, leave);
        host.wait(secs(4) - NANO);
        assert_eq!(host.role(), Role::Leaving);
        host.done.clear();
        host.wait(NANO);
        assert_eq!(host.said(), [advert, "renew", "announce", "role master"]);
        assert_eq!(host.why(), Why::NobodyCame);
        host.begin();
        host.wait(secs(100));
        assert_eq!(host.role(), Role::Master);
        assert_eq!(host.times("advert").len(), 100);
        assert!(host.times("release").is_empty());
    }
}

#[test]
fn overlap_stop_and_removal_release_without_a_successor() {
    for leave in [Leave::Stop, Leave::Removed] {
        let mut host = Host::master(web());
        left_by(&mut host, leave);
        host.wait(secs(4) - NANO);
        assert_eq!(host.role(), Role::Leaving);
        host.done.clear();
        host.wait(NANO);
        assert_eq!(host.said(), ["release", "role stopped"]);
    }
}

#[test]
fn overlap_waits_at_most_ten_seconds() {
    let mut host = Host::master(RouterConfig { advert_interval: centis(4095), ..web() });
    host.stop(Stop::Leave);
    host.wait(secs(60));
    assert_eq!(host.times("release"), [secs(10)]);
    assert_eq!(host.times("advert"), [secs(0)]);
}

#[test]
fn overlap_losing_an_election_holds_until_the_announcement_or_5_ms() {
    let mut host = Host::master(web());
    host.hears(200, ABOVE).unwrap();
    host.wait(millis(2));
    host.sees(STRANGER, SHARED);
    host.wait(secs(1));
    assert_eq!(host.times("release"), [millis(3)]);
    let mut silent = Host::master(web());
    silent.hears(200, ABOVE).unwrap();
    silent.wait(secs(1));
    assert_eq!(silent.times("release"), [millis(5)]);
}

#[test]
fn a_failover_while_the_daemon_stops_does_not_bring_the_role_back() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.wait(secs(1));
    host.command(Command::Failover(WEB));
    host.command(Command::Drain(Drain::LastResort));
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Stopped);
    assert!(host.node.is_stopped());
}

#[test]
fn a_stop_while_a_failover_waits_for_its_successor_ends_in_a_release() {
    let mut host = Host::master(web());
    host.command(Command::Failover(WEB));
    host.wait(secs(1));
    host.stop(Stop::Leave);
    host.wait(secs(60));
    assert!(host.node.is_stopped());
    assert_eq!(host.times("release").len(), 1);
}

#[test]
fn a_drain_after_a_failover_without_a_successor_is_tried_again() {
    let mut host = Host::master(web());
    host.command(Command::Failover(WEB));
    host.wait(secs(10));
    assert_eq!(host.why(), Why::NobodyCame);
    for _ in 0..2 {
        host.command(Command::Drain(Drain::LastResort));
        assert_eq!(host.role(), Role::Leaving);
        host.wait(secs(10));
        assert_eq!(host.role(), Role::Master);
    }
    host.link_up();
    assert_eq!(host.role(), Role::Master);
}
