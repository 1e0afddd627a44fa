//! RFC 9568 section 5.1: the IP header of an advert.

use std::sync::Arc;

use vipd::vrrp::{DiscardReason, RouterConfig, Vrid};

use crate::fixture::*;

#[test]
fn rfc9568_5_1_1_1_the_source_is_an_address_of_the_interface() {
    let mut host = Host::started(&[web()]);
    host.link(true, &[at(HERE6), at(HERE)]);
    assert_eq!(first_way(&mut host), (ip(HERE), vec![ip(GROUP)]));
}

#[test]
fn rfc9568_5_1_1_1_a_shared_address_is_never_the_source() {
    let other = RouterConfig {
        name: Arc::from("other"),
        vrid: Vrid::new(52).unwrap(),
        addresses: addresses(&["10.0.0.101"]),
        unadvertised_addresses: addresses(&["10.0.0.102"]),
        ..web()
    };
    let mut host = Host::started(&[web(), other]);
    let shared = [ours(SHARED), ours("10.0.0.101"), at("10.0.0.102"), ours("10.0.0.200")];
    host.link(true, &[shared[0], shared[1], shared[2], shared[3], at(HERE)]);
    assert_eq!(host.router().source(), Some(ip(HERE)));
    let mut without = Host::started(&[web()]);
    without.link(true, &[shared[0], shared[3]]);
    assert_eq!(without.router().source(), None);
}

#[test]
fn rfc9568_5_1_1_1_the_owner_may_send_from_the_address_it_owns() {
    let mut host = Host::started(&[priority(255)]);
    host.link(true, &[at(SHARED)]);
    assert_eq!(host.router().source(), Some(ip(SHARED)));
}

#[test]
fn rfc9568_5_1_1_1_the_configured_source_is_used_if_the_interface_has_it() {
    let wanted = RouterConfig { source_address: Some(ip("10.0.0.9")), ..web() };
    let mut host = Host::started(std::slice::from_ref(&wanted));
    host.link(true, &[at(HERE), at("10.0.0.9")]);
    assert_eq!(host.router().source(), Some(ip("10.0.0.9")));
    let mut without = Host::started(&[wanted]);
    without.link(true, &[at(HERE)]);
    without.wait(secs(60));
    assert_eq!(without.adverts(), []);
}

#[test]
fn rfc9568_5_1_1_3_an_advert_with_ttl_255_counts_and_every_other_ttl_is_discarded() {
    let mut host = Host::backup(web());
    let message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    host.sleeps(SECOND);
    let untouched = host.router().state().clone();
    for ttl in 0..255 {
        assert_eq!(host.packet(ABOVE, GROUP, ttl, &message), Err(DiscardReason::Ttl(ttl)));
        assert_eq!((host.router().state(), host.router().peer()), (&untouched, None));
    }
    assert_eq!(host.packet(ABOVE, GROUP, 255, &message), Ok(()));
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_5_1_1_3_a_unicast_peer_may_be_hops_away_down_to_the_minimum() {
    let mut host = Host::backup(RouterConfig { unicast_min_ttl: 60, ..unicast() });
    let message = encode(&advert_of(&web(), 200), ABOVE, HERE);
    assert_eq!(host.packet(ABOVE, HERE, 59, &message), Err(DiscardReason::Ttl(59)));
    assert_eq!(host.packet(ABOVE, HERE, 60, &message), Ok(()));
}

#[test]
fn rfc9568_5_1_2_1_over_ipv6_the_source_is_the_link_local_address() {
    let mut host = Host::started(&[web6()]);
    host.link(true, &[at("2001:db8::2"), at(HERE), at(HERE6)]);
    assert_eq!(first_way(&mut host), (ip(HERE6), vec![ip(GROUP6)]));
}

#[test]
fn rfc9568_5_1_2_1_over_ipv6_without_a_link_local_address_nothing_is_sent() {
    let mut host = Host::started(&[web6()]);
    host.link(true, &[at("2001:db8::2"), at(HERE)]);
    host.wait(secs(60));
    assert_eq!(host.adverts(), []);
}

#[test]
fn rfc9568_5_1_2_1_to_ipv6_unicast_peers_the_source_is_not_the_link_local_address() {
    let peers = Some(Arc::from([ip("2001:db8::1")]));
    let mut host = Host::started(&[RouterConfig { unicast_peers: peers, ..web6() }]);
    host.link(true, &[at(HERE6), at("2001:db8::2")]);
    assert_eq!(first_way(&mut host), (ip("2001:db8::2"), vec![ip("2001:db8::1")]));
}

#[test]
fn rfc9568_5_1_2_3_an_advert_with_hop_limit_64_is_discarded() {
    let mut host = Host::backup(web6());
    let message = encode(&advert_of(&web6(), 200), ABOVE6, GROUP6);
    assert_eq!(host.packet(ABOVE6, GROUP6, 64, &message), Err(DiscardReason::Ttl(64)));
    assert_eq!(host.packet(ABOVE6, GROUP6, 255, &message), Ok(()));
}
