//! RFC 9568 section 6.4.1: the state Initialize.

use vipd::vrrp::{Role, RouterConfig, Why};

use crate::fixture::*;

#[test]
fn rfc9568_6_4_1_the_owner_is_master_at_once_and_only_announces() {
    let mut host = Host::started(&[RouterConfig { link_delay: secs(9), ..priority(255) }]);
    host.link(true, &[at(SHARED)]);
    assert_eq!(host.said(), ["advert 255", "announce", "role master"]);
    assert_eq!(host.why(), Why::Owner);
    host.begin();
    host.wait(secs(10));
    assert_eq!(host.times("advert"), (1..=10).map(secs).collect::<Vec<_>>());
    assert!(host.times("claim").is_empty() && host.times("renew").is_empty());
}

#[test]
fn rfc9568_6_4_1_every_other_router_starts_as_backup_with_the_full_timer() {
    for value in [1, 100, 254] {
        let mut host = Host::backup(priority(value));
        assert_eq!(host.until_deadline(), Some(master_down(value, SECOND)));
        assert_eq!(host.adverts(), []);
        host.wait(master_down(value, SECOND) - NANO);
        assert!(host.said().is_empty());
    }
}

#[test]
fn rfc9568_6_4_1_nothing_is_decided_before_the_interface_is_known() {
    let mut host = Host::started(&[web(), web6()]);
    assert_eq!(host.role(), Role::Waiting);
    assert_eq!(host.node.deadline(), None);
    host.wait(secs(100));
    assert_eq!(host.done, []);
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.done, []);
}
