//! RFC 9568 sections 6.1 and 6.2: parameters and timers.

use std::time::Duration;

use vipd::vrrp::{Advert, Interval, Role, RouterConfig};

use crate::fixture::*;

#[test]
fn rfc9568_6_1_the_master_down_interval_is_exact_for_every_priority_and_interval() {
    for interval in [1, 7, 33, 100, 4095] {
        for value in 1..=254 {
            let config = RouterConfig { advert_interval: centis(interval), ..priority(value) };
            let mut host = Host::backup(config);
            let exact = master_down(value, millis(u64::from(interval) * 10));
            host.wait(exact - NANO);
            assert_eq!(host.role(), Role::Backup, "{value} at {interval}: too early");
            host.wait(NANO);
            assert_eq!(host.role(), Role::Master, "{value} at {interval}: too late");
        }
    }
}

#[test]
fn rfc9568_6_1_skew_orders_the_backups_also_at_ten_milliseconds() {
    let fast = |value| RouterConfig { advert_interval: centis(1), ..priority(value) };
    let higher = Host::backup(fast(151)).until_deadline().unwrap();
    let lower = Host::backup(fast(150)).until_deadline().unwrap();
    assert_eq!(lower - higher, Duration::from_nanos(39_062) + NANO);
}

#[test]
fn rfc9568_6_1_a_backup_adopts_the_masters_interval() {
    let mut host = Host::backup(web());
    let slow = Advert { interval: centis(500), ..advert_of(&web(), 200) };
    host.hears_advert(&slow, ABOVE).unwrap();
    assert_eq!(host.until_deadline(), Some(master_down(150, secs(5))));
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_6_1_a_backup_does_not_adopt_the_interval_of_a_master_it_is_about_to_preempt() {
    let mut host = Host::backup(web());
    let slow = Advert { interval: centis(500), ..advert_of(&web(), 100) };
    host.hears_advert(&slow, BELOW).unwrap();
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_6_1_a_new_master_goes_back_to_its_own_interval() {
    let mut host = Host::backup(web());
    let slow = Advert { interval: centis(500), ..advert_of(&web(), 200) };
    host.hears_advert(&slow, ABOVE).unwrap();
    host.wait(master_down(150, secs(5)));
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.adverts()[0].interval, Interval::DEFAULT);
    host.begin();
    host.wait(secs(2));
    assert_eq!(host.times("advert"), [secs(1), secs(2)]);
}
