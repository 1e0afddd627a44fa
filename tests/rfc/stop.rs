//! Stop and restart.

use std::sync::Arc;

use vipd::vrrp::{RouterConfig, Stop};

use crate::fixture::*;

#[test]
fn restart_pushes_nothing_then_or_later() {
    let mut host = Host::master(web());
    host.stop(Stop::Restart);
    assert!(host.node.is_stopped());
    assert_eq!(host.node.deadline(), None);
    host.hears(149, BELOW).unwrap();
    host.sleeps(secs(10));
    host.timeout();
    host.link_down();
    host.stop(Stop::Leave);
    assert_eq!(host.done, []);
}

#[test]
fn restart_does_not_undo_a_stop() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.stop(Stop::Restart);
    assert!(!host.node.is_stopped());
    host.wait(secs(10));
    assert_eq!(host.times("release").len(), 1);
    assert!(host.node.is_stopped());
}

#[test]
fn stop_ends_when_the_last_router_has_released() {
    let six = RouterConfig { name: Arc::from("six"), ..web6() };
    let mut host = Host::started(&[web(), six]);
    host.link_up();
    host.wait(secs(10));
    host.stop(Stop::Leave);
    host.hears(149, BELOW).unwrap();
    host.wait(millis(5));
    assert!(!host.node.is_stopped());
    host.wait(secs(4));
    assert!(host.node.is_stopped());
}
