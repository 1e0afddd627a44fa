//! Reloading the configuration.

use std::sync::Arc;

use vipd::vrrp::{Command, DiscardReason, Drain, Reason, Role, RouterConfig, Stop, Vrid};

use crate::fixture::*;

#[test]
fn reload_of_the_same_configuration_changes_nothing() {
    let other = RouterConfig { name: Arc::from("six"), ..web6() };
    let all = [web(), other];
    let mut host = Host::started(&all);
    let check = |host: &mut Host| {
        let before = host.node.clone();
        host.done.clear();
        host.reload(&all);
        assert_eq!(host.node, before);
        assert_eq!(host.done, []);
    };
    check(&mut host);
    host.link_up();
    check(&mut host);
    host.wait(secs(10));
    check(&mut host);
    host.hears(149, BELOW).unwrap();
    check(&mut host);
    host.hears(200, ABOVE).unwrap();
    check(&mut host);
    host.wait(secs(1));
    check(&mut host);
    host.link_down();
    check(&mut host);
    host.command(Command::Drain(Drain::LastResort));
    check(&mut host);
}

#[test]
fn reload_with_a_new_address_claims_that_one_and_advertises_it() {
    let mut host = Host::master(web());
    host.wait(millis(500));
    host.begin();
    let more = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.101"]), ..web() };
    host.reload(std::slice::from_ref(&more));
    let said = host.said();
    assert_eq!(
        said,
        ["claim 10.0.0.101", "announce 10.0.0.101", "advert 150", "renew 10.0.0.100,10.0.0.101"]
    );
    assert_eq!(host.role(), Role::Master);
    host.wait(SECOND);
    assert_eq!(host.adverts()[0].addresses, more.addresses);
}

#[test]
fn reload_without_an_address_releases_that_one_only() {
    let more = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.101"]), ..web() };
    let mut host = Host::master(more);
    host.reload(&[web()]);
    assert_eq!(host.said(), ["release 10.0.0.101", "advert 150"]);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn reload_moves_an_address_from_one_router_to_another_release_first() {
    let second = RouterConfig {
        name: Arc::from("second"),
        vrid: Vrid::new(52).unwrap(),
        addresses: addresses(&["10.0.0.101"]),
        ..web()
    };
    let first = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.102"]), ..web() };
    let mut host = Host::started(&[second.clone(), first]);
    host.link_up();
    host.wait(secs(10));
    host.begin();
    let second = RouterConfig { addresses: addresses(&["10.0.0.101", "10.0.0.102"]), ..second };
    host.reload(&[second, web()]);
    let said = host.said();
    let release = said.iter().position(|word| word == "release 10.0.0.102").unwrap();
    let claim = said.iter().position(|word| word == "claim 10.0.0.102").unwrap();
    assert!(release < claim, "{said:?}");
}

#[test]
fn reload_with_another_priority_counts_at_once() {
    let mut master = Host::master(web());
    master.reload(&[priority(160)]);
    assert_eq!(master.said(), ["advert 160"]);
    assert_eq!(master.role(), Role::Master);
    let mut backup = Host::backup_of(web(), 200, ABOVE);
    backup.wait(millis(500));
    backup.reload(&[priority(250)]);
    backup.begin();
    backup.wait(secs(10));
    assert_eq!(backup.times("claim"), [master_down(250, SECOND) - millis(500)]);
}

#[test]
fn reload_with_another_interval_counts_for_a_backup_that_has_heard_no_master() {
    let mut host = Host::backup(web());
    host.reload(&[RouterConfig { advert_interval: centis(400), ..web() }]);
    assert_eq!(host.until_deadline(), Some(master_down(150, secs(4))));
}

#[test]
fn reload_with_a_shorter_interval_does_not_make_a_master_late() {
    let slow = RouterConfig { advert_interval: centis(1000), address_lifetime: Some(29), ..web() };
    let mut host = Host::master(slow);
    host.wait(secs(8));
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.role(), Role::Master);
    host.wait(secs(3));
    assert_eq!(host.times("advert"), [0, 1, 2, 3].map(secs));
    assert!(host.times("release").is_empty());
}

#[test]
fn reload_without_a_router_makes_it_leave_and_then_forgets_it() {
    let mut host = Host::master(web());
    host.reload(&[]);
    assert_eq!(host.role(), Role::Leaving);
    host.hears(149, BELOW).unwrap();
    host.wait(millis(5));
    host.timeout();
    assert_eq!(host.node.routers().count(), 0);
    assert_eq!(host.node.deadline(), None);
    let message = encode(&advert_of(&web(), 149), BELOW, GROUP);
    let unknown = Err(DiscardReason::UnknownRouter(Vrid::new(51).unwrap()));
    assert_eq!(host.packet(BELOW, GROUP, 255, &message), unknown);
}

#[test]
fn reload_that_gives_the_addresses_to_a_new_router_does_not_wait_for_a_successor() {
    let mut host = Host::master(web());
    let other = RouterConfig { name: Arc::from("new"), vrid: Vrid::new(52).unwrap(), ..web() };
    host.reload(&[other]);
    assert_eq!(host.said(), ["advert 0", "release", "role stopped", "role backup"]);
    host.wait(secs(10));
    assert_eq!(host.node.find("new").unwrap().role(), Role::Master);
}

#[test]
fn reload_that_makes_an_owner_leaves_none_of_our_addresses_behind() {
    let mut host = Host::master(web());
    host.reload(&[priority(255)]);
    assert_eq!(host.said(), ["release", "advert 0", "role fault"]);
    assert_eq!(host.reasons(), [Reason::AddressMissing(own(SHARED, 24))]);
    host.link_up();
    assert_eq!(host.said(), ["advert 255", "announce", "role master"]);
    host.link(true, &[at(HERE)]);
    host.reload(&[web()]);
    assert_eq!(host.said(), ["advert 0", "role fault", "role backup"]);
}

#[test]
fn reload_with_a_new_name_keeps_the_role() {
    let mut host = Host::master(web());
    host.reload(&[RouterConfig { name: Arc::from("www"), ..web() }]);
    assert_eq!(host.done, []);
    assert_eq!(host.node.find("www").unwrap().role(), Role::Master);
    assert!(host.node.find("web").is_none());
}

#[test]
fn reload_that_brings_back_what_was_just_removed_takes_the_role_back() {
    let mut host = Host::master(web());
    host.reload(&[]);
    host.wait(millis(100));
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.said(), ["advert 150", "renew", "announce", "role master"]);
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.node.routers().count(), 1);
}

#[test]
fn reload_that_brings_back_less_than_was_removed_advertises_only_that() {
    let more = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.101"]), ..web() };
    let mut host = Host::master(more);
    host.reload(&[]);
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.adverts(), [advert_of(&web(), 150)]);
    let said = host.said();
    assert_eq!(said, ["release 10.0.0.101", "advert 150", "announce", "role master"]);
}

#[test]
fn reload_that_brings_back_what_was_removed_before_a_sleep_starts_it_again() {
    let mut host = Host::master(web());
    host.reload(&[]);
    host.sleeps(secs(30));
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.said(), ["release", "role stopped", "role backup"]);
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn reload_that_brings_back_what_is_gone_starts_it_again() {
    let mut host = Host::backup(web());
    host.reload(&[]);
    assert_eq!(host.said(), ["role stopped"]);
    host.reload(&[web()]);
    assert_eq!(host.said(), ["role backup"]);
    host.wait(secs(10));
    assert_eq!(host.node.find("web").unwrap().role(), Role::Master);
}

#[test]
fn reload_with_a_new_router_starts_it_where_the_link_is_known() {
    let mut host = Host::master(web());
    let six = RouterConfig { name: Arc::from("six"), ..web6() };
    host.reload(&[six, web()]);
    assert_eq!(host.said(), ["role backup"]);
    let names: Vec<String> = host.node.routers().map(|r| r.config().name.to_string()).collect();
    assert_eq!(names, ["six", "web"]);
}

#[test]
fn reload_that_shares_an_address_keeps_it_from_being_a_source() {
    let mut host = Host::backup(web());
    let more = RouterConfig { addresses: addresses(&[SHARED, HERE]), ..web() };
    host.reload(&[more]);
    assert_eq!(
        host.router().source(),
        Some(ip(HERE)),
        "it was chosen before, and is kept for priority 0"
    );
    host.wait(secs(3));
    assert!(host.reasons().contains(&Reason::NoAddress));
}

#[test]
fn reload_that_no_longer_shares_an_address_lets_it_be_a_source() {
    let more = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.9"]), ..web() };
    let mut host = Host::backup(more);
    host.reload(&[web()]);
    host.link(true, &[at("10.0.0.9")]);
    assert_eq!(host.router().source(), Some(ip("10.0.0.9")));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn reload_while_stopping_is_ignored() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.begin();
    host.reload(&[priority(160)]);
    assert_eq!(host.done, []);
    host.wait(secs(10));
    assert!(host.node.is_stopped());
}
