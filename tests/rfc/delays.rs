//! `start_delay`, `link_delay`, `preempt_delay`, and a host that starts and hears no other router.

use vipd::vrrp::{Priority, Role, RouterConfig};

use crate::fixture::*;

#[test]
fn no_router_takes_over_before_start_delay_and_link_delay_are_over() {
    for (start_delay, link_delay) in [(secs(9), secs(2)), (secs(2), secs(9))] {
        let mut host = Host::backup(RouterConfig { start_delay, link_delay, ..web() });
        host.wait(secs(9) - NANO);
        assert_eq!(host.role(), Role::Backup);
        host.wait(NANO);
        assert_eq!(host.role(), Role::Master);
    }
}

#[test]
fn no_router_takes_over_before_the_delay_even_if_the_master_leaves() {
    let mut host = Host::backup(RouterConfig { link_delay: secs(9), ..web() });
    host.hears(0, ABOVE).unwrap();
    host.wait(secs(9) - NANO);
    assert_eq!(host.role(), Role::Backup);
    host.wait(NANO);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn no_router_takes_over_before_the_delay_even_if_a_reload_changes_the_timing() {
    let delayed = RouterConfig { start_delay: secs(20), ..web() };
    let mut host = Host::backup(delayed.clone());
    host.wait(secs(5));
    host.reload(&[RouterConfig { priority: Priority::new(200), ..delayed }]);
    host.wait(secs(15) - NANO);
    assert_eq!(host.role(), Role::Backup);
    host.wait(NANO);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn preempt_delay_counts_from_when_the_better_master_was_last_heard() {
    let mut host = Host::backup(RouterConfig { preempt_delay: secs(20), ..web() });
    for _ in 0..10 {
        host.hears(200, ABOVE).unwrap();
        host.wait(secs(1));
    }
    host.begin();
    for _ in 0..30 {
        host.hears(100, BELOW).unwrap();
        host.wait(secs(1));
    }
    let claimed = host.times("claim")[0];
    assert!(claimed >= secs(19) && claimed <= secs(24), "{claimed:?}");
}

#[test]
fn after_link_up_link_delay_holds_and_start_delay_does_not() {
    let delays = RouterConfig { start_delay: secs(30), link_delay: secs(9), ..web() };
    let mut host = Host::backup(delays);
    host.wait(secs(60));
    host.link_down();
    host.link_up();
    assert_eq!(host.until_deadline(), Some(secs(9)));
}

#[test]
fn a_link_that_flaps_does_not_cut_the_start_delay_short() {
    let delays = RouterConfig { start_delay: secs(30), link_delay: secs(2), ..web() };
    let mut host = Host::backup(delays);
    host.wait(secs(5));
    host.link_down();
    host.link_up();
    host.begin();
    host.wait(secs(60));
    assert_eq!(host.times("claim"), [secs(25)]);
}

#[test]
fn preempt_delay_counts_from_when_the_host_became_fit() {
    let mut host = Host::backup(RouterConfig { preempt_delay: secs(20), ..web() });
    let mut waited = 0;
    while host.role() == Role::Backup {
        host.hears(100, BELOW).unwrap();
        host.wait(secs(1));
        waited += 1;
        assert!(waited < 60);
    }
    let claimed = host.times("claim")[0];
    assert!(claimed >= secs(20) && claimed <= secs(24), "{claimed:?}");
    let mut silent = Host::backup(RouterConfig { preempt_delay: secs(20), ..web() });
    silent.hears(100, BELOW).unwrap();
    silent.wait(secs(20));
    assert_eq!(silent.times("claim"), [master_down(150, SECOND)]);
}

#[test]
fn preempt_delay_restarts_after_a_fault() {
    let mut host = Host::backup(RouterConfig { preempt_delay: secs(20), ..web() });
    host.wait(millis(500));
    host.link_down();
    host.wait(secs(60));
    host.link_up();
    host.begin();
    for _ in 0..20 {
        host.hears(100, BELOW).unwrap();
        host.wait(secs(1));
    }
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn a_master_that_has_heard_no_peer_since_start_advertises_priority_1_for_a_minute() {
    let mut host = Host::backup(RouterConfig { preempt: false, ..web() });
    host.wait(master_down(150, SECOND));
    assert_eq!(host.said(), ["claim", "advert 1", "announce", "role master"]);
    host.begin();
    host.wait(secs(60) - NANO);
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::LOWEST));
    host.begin();
    host.wait(secs(5));
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::new(150)));
}

#[test]
fn a_master_that_has_heard_no_peer_since_start_defers_to_any_master() {
    let mut host = Host::master(RouterConfig { preempt: false, ..web() });
    host.hears(2, BELOW).unwrap();
    host.wait(millis(5));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn a_new_master_that_preempts_or_has_heard_a_peer_advertises_its_full_priority() {
    let preempting = Host::master(web());
    assert_eq!(preempting.router().effective_priority(), Priority::new(150));
    let mut heard = Host::backup_of(RouterConfig { preempt: false, ..web() }, 200, ABOVE);
    heard.wait(secs(10));
    assert_eq!(heard.adverts()[0].priority, Priority::new(150));
    let mut again = Host::backup_of(RouterConfig { preempt: false, ..web() }, 200, ABOVE);
    again.link_down();
    again.link_up();
    again.wait(secs(10));
    assert_eq!(again.adverts()[0].priority, Priority::LOWEST);
}

#[test]
fn a_master_at_priority_1_that_hears_a_lower_one_advertises_its_full_priority() {
    let mut host = Host::master(RouterConfig { preempt: false, ..web() });
    host.hears(1, BELOW).unwrap();
    host.begin();
    host.wait(secs(1));
    assert_eq!(host.adverts().last().unwrap().priority, Priority::new(150));
}

#[test]
fn a_master_at_priority_1_that_becomes_the_owner_advertises_255() {
    let mut host = Host::master(RouterConfig { preempt: false, ..web() });
    host.reload(&[RouterConfig { preempt: false, ..priority(255) }]);
    host.link_up();
    host.begin();
    host.wait(secs(1));
    assert_eq!(host.adverts()[0].priority, Priority::OWNER);
}
