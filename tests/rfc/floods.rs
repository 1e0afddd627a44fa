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
