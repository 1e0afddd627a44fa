//! Floods of adverts: how often they are answered.

use std::time::Duration;

use vipd::vrrp::{Role, RouterConfig};

use crate::fixture::*;

#[test]
fn a_flood_of_lower_adverts_gets_one_extra_advert_in_ten_milliseconds() {
    for value in [0, 149] {
        let slow = RouterConfig { advert_interval: centis(4095), ..web() };
        let mut host = Host::master(slow);
        for _ in 0..10_000 {
            host.hears(value, BELOW).unwrap();
            host.wait(Duration::from_micros(100));
        }
        let adverts = host.times("advert");
        assert_eq!(gaps(&adverts), millis(10));
        assert_eq!(adverts.len(), 101);
        assert_eq!(host.role(), Role::Master);
    }
}

#[test]
fn a_single_lower_advert_within_ten_milliseconds_of_another_is_answered_too() {
    let mut host = Host::master(web());
    host.hears(149, BELOW).unwrap();
    host.wait(millis(1));
    host.hears(149, BELOW).unwrap();
    host.wait(millis(500));
    assert_eq!(host.times("advert"), [millis(0), millis(10)]);
}

#[test]
fn a_flood_of_lower_adverts_gets_one_announcement_a_second() {
    let mut host = Host::master(web());
    host.wait(secs(40));
    host.begin();
    for _ in 0..5_000 {
        host.hears(149, BELOW).unwrap();
        host.wait(MILLI);
    }
    let announced = host.times("announce");
    assert_eq!(announced[0], Duration::ZERO);
    assert_eq!(gaps(&announced), SECOND);
    assert_eq!(announced.len(), 6);
}

#[test]
fn a_flood_does_not_starve_the_schedule() {
    let mut host = Host::master(RouterConfig { advert_interval: centis(10), ..web() });
    for _ in 0..1000 {
        host.hears(149, BELOW).unwrap();
        host.wait(MILLI);
    }
    let adverts = host.times("advert");
    assert!((1..=10).all(|n| adverts.contains(&millis(100 * n))));
    assert!(adverts.len() <= 100 + 10 + 1);
}

/// Adverts of a better master and priority 0, one after the other.
#[test]
fn flood_that_changes_the_role_does_so_less_and_less() {
    let mut host = Host::backup(RouterConfig { advert_interval: centis(1), ..web() });
    let mut takeovers = Vec::new();
    for _ in 0..60_000 / 6 {
        host.hears(200, ABOVE).unwrap();
        host.hears(0, ABOVE).unwrap();
        host.wait(millis(6));
        takeovers.extend(host.times("claim"));
        host.done.clear();
    }
    let within = |span| takeovers.iter().filter(|at| **at < span).count();
    assert!(within(secs(1)) <= 8 && within(secs(10)) <= 10, "{takeovers:?}");
    assert!(takeovers.len() <= 17, "{takeovers:?}");
    // The master does leave: it takes over in time to come.
    host.begin();
    host.wait(secs(8));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn failover_of_a_master_that_comes_and_goes_is_never_delayed() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    for _ in 0..100 {
        host.wait(master_down(150, SECOND));
        assert_eq!(host.role(), Role::Master);
        host.wait(secs(7));
        host.hears(200, ABOVE).unwrap();
        host.wait(millis(5));
        host.hears(200, ABOVE).unwrap();
    }
}

#[test]
fn a_worker_that_is_stuck_makes_late_less_and_less_often() {
    let mut host = Host::backup(RouterConfig { advert_interval: centis(1), ..web() });
    let mut late = 0;
    while host.now < vipd::vrrp::Instant::from_millis(60_000) {
        host.wait(millis(10));
        if host.role() == Role::Master {
            host.wait(millis(20));
            host.feed(vipd::vrrp::Event::Late(WEB)).unwrap();
            late += 1;
        }
    }
    assert!((10..=17).contains(&late), "{late}");
}
