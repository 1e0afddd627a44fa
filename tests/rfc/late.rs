//! A daemon that ran too late gives up its role.

use vipd::vrrp::{
    ClaimError, Command, Drain, Event, Handover, Hook, Role, RouterConfig, Stop, Why,
};

use crate::fixture::*;

/// Every event that can reach a master; by each it must notice that it is late.
fn wake(host: &mut Host, how: usize) {
    match how {
        0 => host.timeout(),
        1 => host.hears(149, BELOW).unwrap(),
        2 => host.hears(200, ABOVE).unwrap(),
        3 => host.sees(STRANGER, SHARED),
        4 => host.link_up(),
        5 => host.command(Command::Announce(WEB)),
        6 => host.command(Command::Failover(WEB)),
        7 => host.command(Command::Drain(Drain::LastResort)),
        8 => host.loses(SHARED),
        9 => host.hook_ended(Hook::BeforeRelease, true),
        10 => host.stop(Stop::Leave),
        11 => host.reload(&[priority(160)]),
        12 => host.reload(&[]),
        13 => host.feed(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap(),
        14 => host.command(Command::Undrain),
        _ => unreachable!(),
    }
}

#[test]
fn late_after_three_intervals_whatever_happens_first() {
    for how in 0..15 {
        for handover in [Handover::Overlap, Handover::Exclusive] {
            let config = RouterConfig { address_lifetime: None, handover, ..web() };
            let mut host = Host::master(config);
            host.sleeps(secs(3));
            wake(&mut host, how);
            let said = host.said();
            assert_eq!(said[0], "release", "event {how}: {said:?}");
            assert!(
                !said.iter().any(|w| w.starts_with("advert") || w == "claim" || w == "announce")
            );
            assert!(!host.router().has_addresses(), "event {how}");
        }
    }
}

#[test]
fn late_in_the_middle_of_leaving_too() {
    for how in 0..15 {
        let mut host =
            Host::master(RouterConfig { address_lifetime: None, ..prepared(Handover::Overlap) });
        host.command(Command::Failover(WEB));
        host.begin();
        host.sleeps(secs(3));
        wake(&mut host, how);
        let said = host.said();
        assert_eq!(said[0], "release", "event {how}: {said:?}");
        assert!(!host.router().has_addresses(), "event {how}");
    }
}

#[test]
fn not_late_a_nanosecond_before_three_intervals() {
    for how in [0, 1, 3, 4, 5, 8] {
        let config = RouterConfig { address_lifetime: None, ..web() };
        let mut host = Host::master(config);
        host.sleeps(secs(3) - NANO);
        wake(&mut host, how);
        assert_eq!(host.role(), Role::Master, "event {how}");
        assert!(host.times("release").is_empty());
    }
}

#[test]
fn late_listens_for_the_full_interval_before_it_takes_part() {
    let mut host = Host::master(web());
    host.sleeps(secs(30));
    host.timeout();
    assert_eq!(host.why(), Why::Late);
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
    host.hears(149, BELOW).unwrap();
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn late_is_counted_from_the_last_advert_of_any_kind() {
    let mut host = Host::master(web());
    host.wait(millis(2900));
    host.hears(149, BELOW).unwrap();
    host.sleeps(millis(2999));
    host.timeout();
    assert_eq!(host.role(), Role::Master);
    host.sleeps(secs(3));
    host.timeout();
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn late_when_the_driver_reports_it() {
    let mut host = Host::master(web());
    host.feed(Event::Late(WEB)).unwrap();
    assert_eq!(host.said(), ["release", "role backup"]);
    host.feed(Event::Late(WEB)).unwrap();
    assert_eq!(host.done, []);
}
