//! Held back and drained hosts.

use std::sync::Arc;

use vipd::vrrp::{Command, Role, RouterConfig};

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

#[test]
fn drained_takes_nothing_until_undrained() {
    let mut host = Host::backup(web());
    host.command(Command::Drain);
    host.hears(100, BELOW).unwrap();
    host.hears(0, BELOW).unwrap();
    host.wait(secs(600));
    assert_eq!(host.done, []);
    assert!(host.node.is_drained());
    host.command(Command::Undrain);
    assert!(!host.node.is_drained());
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn drained_through_a_fault_stays_drained() {
    let mut host = Host::backup(web());
    host.command(Command::Drain);
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
    host.command(Command::Drain);
    assert!(host.node.routers().all(|router| router.role() == Role::Leaving));
}
