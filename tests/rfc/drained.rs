//! Held back and drained hosts.

use std::sync::Arc;

use vipd::vrrp::{Command, Drain, Hook, Priority, Recorded, Role, RouterConfig, Why};

use crate::fixture::*;

#[test]
fn held_back_does_not_preempt_until_resumed() {
    let mut host = Host::master(web());
    host.command(Command::Failover(WEB));
    for _ in 0..60 {
        host.wait(secs(1));
        host.hears(100, BELOW).unwrap();
    }
    assert_eq!(host.role(), Role::Backup);
    assert!(host.router().held_back());
    host.command(Command::Resume(WEB));
    for _ in 0..5 {
        host.wait(secs(1));
        let _ = host.hears(100, BELOW);
    }
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn held_back_takes_over_when_no_master_is_heard_at_all() {
    let mut host = Host::master(web());
    host.command(Command::Failover(WEB));
    host.hears(100, BELOW).unwrap();
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
    assert!(!host.router().held_back());
}

#[test]
fn a_backup_that_is_held_back_just_before_preempting_does_not() {
    let mut host = Host::backup(web());
    host.wait(secs(3));
    host.hears(100, BELOW).unwrap();
    host.command(Command::Failover(WEB));
    for _ in 0..10 {
        host.wait(secs(1));
        host.hears(100, BELOW).unwrap();
    }
    assert_eq!(host.role(), Role::Backup);
}

const DRAIN: Command = Command::Drain(Drain::LastResort);
const FORCE: Command = Command::Drain(Drain::Force);

/// A drained host that serves, as nobody else does.
fn alone(config: RouterConfig) -> Host {
    let mut host = Host::master(config);
    host.command(DRAIN);
    host.wait(secs(30));
    assert_eq!(host.role(), Role::Master);
    host.begin();
    host
}

#[test]
fn drained_serves_where_there_is_nobody_else() {
    let mut host = Host::backup_of(web(), 100, BELOW);
    host.command(DRAIN);
    assert_eq!(host.until_deadline(), Some(master_down(1, SECOND)));
    for _ in 0..10 {
        host.wait(secs(1));
        host.hears(1, BELOW).unwrap();
    }
    assert_eq!((host.role(), &host.done[..]), (Role::Backup, &[][..]));
    host.wait(secs(4));
    assert_eq!(host.said(), ["claim", "advert 1", "announce", "role master"]);
    host.command(Command::Undrain);
    assert_eq!(host.said(), ["advert 150"]);
    assert_eq!(host.node.drained(), None);
}

#[test]
fn drained_serves_through_a_restart_a_reboot_and_a_fault() {
    let drained = Recorded { drained: Some(Drain::LastResort), ..KILLED };
    let mut host = found(web(), drained);
    assert_eq!((host.role(), host.why()), (Role::Master, Why::Resumed));
    assert_eq!(host.said()[1], "advert 1");
    let rebooted = Recorded { drained: Some(Drain::LastResort), ..Recorded::default() };
    let mut host = found(web(), rebooted);
    host.wait(secs(4));
    assert_eq!(host.role(), Role::Master);
    host.link_down();
    host.link_up();
    host.wait(secs(4));
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.adverts().last().unwrap().priority, Priority::LOWEST);
}

#[test]
fn drained_gives_way_to_any_priority() {
    let mut host = alone(web());
    assert_eq!(host.router().effective_priority(), Priority::LOWEST);
    host.hears(2, BELOW).unwrap();
    host.wait(millis(10));
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.times("release"), [millis(5)]);
}

/// Nothing is said of it, no hook runs, and its addresses and adverts go on.
#[test]
fn a_drained_master_offers_the_role_to_hosts_that_do_not_preempt() {
    let mut host = alone(web());
    host.wait(secs(30));
    let said: Vec<String> = host.said().into_iter().filter(|said| said != "renew").collect();
    let offers = said.iter().filter(|said| *said == "advert 0").count();
    assert_eq!(offers, 3);
    assert!(said.iter().all(|said| ["advert 0", "advert 1", "announce"].contains(&&**said)));
    // Long enough after each offer for the skew time of every fit host to have passed.
    host.begin();
    host.wait(secs(11));
    let adverts = host.adverts();
    let offer = adverts.iter().position(|advert| advert.priority == Priority::LEAVING).unwrap();
    let times = host.times("advert");
    assert_eq!(times[offer + 1] - times[offer], SECOND);
    assert!(times[offer] - times[offer - 1] <= SECOND);
    host.command(Command::Undrain);
    host.begin();
    host.wait(secs(30));
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::new(150)));
}

#[test]
fn an_exclusive_drained_master_offers_nothing() {
    let mut host = alone(exclusive());
    host.wait(secs(60));
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::LOWEST));
}

#[test]
fn slow_adverts_are_offered_no_faster_than_skew_times_pass() {
    let mut host = alone(RouterConfig { advert_interval: centis(4095), ..web() });
    host.wait(secs(600));
    let mut offers = host.adverts().into_iter().map(|advert| advert.priority);
    let times = host.times("advert");
    let zero: Vec<_> =
        times.into_iter().filter(|_| offers.next() == Some(Priority::LEAVING)).collect();
    assert!(zero.len() >= 3 && gaps(&zero) >= 2 * millis(40_950), "{zero:?}");
}

/// The offer is over long before its hook ends.
#[test]
fn a_host_that_does_not_preempt_takes_an_offer_also_if_before_claim_takes_long() {
    let asks = RouterConfig { preempt: false, ..asking() };
    for (offering, role) in [(1, Role::Master), (2, Role::Backup), (200, Role::Backup)] {
        let mut host = Host::backup_of(asks.clone(), offering, BELOW);
        host.wait(secs(1));
        host.hears(0, BELOW).unwrap();
        host.wait(skew(150, SECOND));
        assert_eq!(host.role(), Role::Claiming);
        host.wait(secs(1));
        host.hears(offering, BELOW).unwrap();
        host.hook_ended(Hook::BeforeClaim, true);
        assert_eq!(host.role(), role, "{offering}");
    }
    // Both are the last resort.
    let mut host = Host::backup_of(asks, 1, BELOW);
    host.command(DRAIN);
    host.wait(master_down(1, SECOND));
    assert_eq!(host.role(), Role::Claiming);
    host.hears(1, BELOW).unwrap();
    assert_eq!(host.role(), Role::Backup);
}

/// Neither takes the role from the other by an offer, not even if the advert after it is lost.
#[test]
fn a_drained_backup_leaves_the_role_with_a_drained_master() {
    let mut host = Host::backup_of(web(), 1, ABOVE);
    host.command(DRAIN);
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.until_deadline(), Some(secs(2) + skew(1, SECOND)));
    host.wait(secs(2));
    host.hears(1, ABOVE).unwrap();
    assert_eq!(host.until_deadline(), Some(master_down(1, SECOND)));
    assert_eq!(host.done, []);
}

/// A master of another priority leaves for good.
#[test]
fn a_drained_backup_follows_a_leaving_master_after_its_skew_time() {
    let mut host = Host::backup_of(web(), 100, ABOVE);
    host.command(DRAIN);
    for _repeated in 0..2 {
        host.hears(0, ABOVE).unwrap();
        assert_eq!(host.until_deadline(), Some(skew(1, SECOND)));
    }
    let mut lowest = Host::backup_of(priority(1), 100, ABOVE);
    lowest.hears(0, ABOVE).unwrap();
    assert_eq!(lowest.until_deadline(), Some(skew(1, SECOND)));
}

#[test]
fn undrained_after_force_a_host_knows_that_the_master_has_left() {
    let mut host = Host::backup_of(web(), 100, BELOW);
    host.command(FORCE);
    host.hears(100, BELOW).unwrap();
    host.hears(0, BELOW).unwrap();
    host.wait(millis(500));
    host.command(Command::Undrain);
    host.wait(MILLI);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn before_release_ends_before_a_drained_master_gives_way() {
    let mut host = Host::master(prepared(vipd::vrrp::Handover::Overlap));
    host.command(DRAIN);
    host.wait(secs(5));
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::new(150)));
    host.hears(100, BELOW).unwrap();
    assert_eq!(host.role(), Role::Leaving);
    assert!(host.router().has_addresses());
}

#[test]
fn drained_by_force_takes_nothing_until_undrained() {
    let mut host = Host::backup(web());
    host.command(FORCE);
    host.hears(100, BELOW).unwrap();
    host.hears(0, BELOW).unwrap();
    host.wait(secs(600));
    assert_eq!(host.done, []);
    assert_eq!(host.node.drained(), Some(Drain::Force));
    host.command(Command::Undrain);
    assert_eq!(host.node.drained(), None);
    host.wait(MILLI);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn drained_by_force_releases_at_once() {
    for before in [None, Some(DRAIN), Some(Command::Failover(WEB))] {
        for config in [web(), exclusive(), prepared(vipd::vrrp::Handover::Overlap)] {
            let mut host = Host::master(config.clone());
            before.into_iter().for_each(|before| host.command(before));
            host.begin();
            host.command(FORCE);
            let said = host.said();
            assert!(!host.router().has_addresses(), "{before:?} {said:?}");
            assert!(!said.contains(&"advert 1".to_owned()), "{said:?}");
            assert!(said.len() <= 4 && !said.contains(&"role fault".to_owned()), "{said:?}");
            host.wait(secs(600));
            assert_eq!((host.role(), host.said()), (Role::Backup, vec![]));
        }
    }
}

#[test]
fn drained_by_force_through_a_fault_stays_drained() {
    let mut host = Host::backup(web());
    host.command(FORCE);
    host.link_down();
    host.link_up();
    host.wait(secs(600));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn drained_is_the_whole_host() {
    let other = RouterConfig { name: Arc::from("six"), ..web6() };
    let mut host = Host::started(&[web(), other]);
    host.link_up();
    host.wait(secs(10));
    host.command(DRAIN);
    assert!(host.node.routers().all(|router| router.role() == Role::Leaving));
}
