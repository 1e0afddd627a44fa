//! The reasons for fault are a set, and fault means that it is not empty.

use vipd::vrrp::{
    AddressState, ClaimError, Command, Drain, Event, LinkAddress, LinkState, Priority, Reason,
    Role, RouterConfig, Why,
};

use crate::fixture::*;

#[test]
fn fault_is_left_only_when_no_reason_is_left() {
    let mut host = Host::backup(web());
    host.link(true, &[at(SHARED)]);
    host.wait(secs(3));
    assert_eq!(host.reasons(), [Reason::NoAddress, Reason::AddressAlreadyThere]);
    host.link(true, &[at(HERE), at(SHARED)]);
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    assert_eq!(host.role(), Role::Fault);
    host.link(false, &[at(HERE), at(SHARED)]);
    assert_eq!(host.reasons(), [Reason::LinkDown, Reason::AddressAlreadyThere]);
    host.link(false, &[at(HERE)]);
    assert_eq!(host.reasons(), [Reason::LinkDown]);
    host.link_up();
    assert_eq!(host.reasons(), []);
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.why(), Why::Recovered);
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn fault_of_a_claim_outlasts_a_link_that_came_back() {
    let mut host = Host::master(web());
    host.feed(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    host.link_down();
    host.link_up();
    assert_eq!(host.reasons(), [Reason::ClaimFailed]);
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn fault_of_the_link_outlasts_the_end_of_another() {
    let mut host = Host::master(web());
    host.feed(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    host.link_down();
    host.wait(secs(60));
    assert_eq!(host.reasons(), [Reason::LinkDown]);
    host.link_up();
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn fault_by_link_down_releases_without_an_advert() {
    let mut host = Host::master(web());
    host.link_down();
    assert_eq!(host.said(), ["release", "role fault"]);
    host.wait(secs(60));
    assert_eq!(host.done, []);
}

/// Whether it was renamed or deleted, the driver knows: of a renamed one, priority 0 still leaves.
#[test]
fn fault_by_a_missing_interface_sends_priority_0_and_releases() {
    for (config, expected) in [
        (web(), ["advert 0", "release", "role fault"]),
        (exclusive(), ["release", "role fault", "advert 0"]),
    ] {
        let mut host = Host::master(config);
        host.wait(millis(1));
        host.begin();
        host.feed(Event::Link { link: ETH0, state: None }).unwrap();
        let said = host.said();
        let said: Vec<_> = said.iter().filter(|said| !said.starts_with("renew")).collect();
        assert_eq!(said, expected.iter().collect::<Vec<_>>());
        assert_eq!(host.reasons(), [Reason::InterfaceMissing]);
        host.link_down();
        assert_eq!(host.reasons(), [Reason::LinkDown]);
        host.link_up();
        assert_eq!(host.role(), Role::Backup);
    }
}

/// Only what it receives is taken by the bridge.
#[test]
fn fault_of_a_port_names_the_bridge_and_not_the_missing_address() {
    let mut host = Host::master(web());
    host.wait(millis(1));
    host.begin();
    let port = LinkState { up: true, port_of: Some("br0"), ..LinkState::default() };
    host.state(port);
    let said = host.said();
    let said: Vec<_> = said.iter().filter(|said| !said.starts_with("renew")).collect();
    assert_eq!(said, ["advert 0", "release", "role fault"]);
    assert_eq!(host.reasons(), [Reason::Port("br0".into())]);
    assert!(host.why().to_string().contains("br0"));
    host.state(LinkState { port_of: Some("bond0"), ..port });
    assert_eq!(host.reasons(), [Reason::Port("bond0".into())]);
    host.link_up();
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn fault_with_the_link_up_sends_priority_0() {
    let mut overlap = Host::master(web());
    overlap.wait(millis(1));
    overlap.link(true, &[at(HERE), at(SHARED)]);
    assert_eq!(overlap.said(), ["advert 0", "renew", "release", "role fault"]);
    let mut exclusive = Host::master(exclusive());
    exclusive.link(true, &[at(HERE), at(SHARED)]);
    assert_eq!(exclusive.said(), ["release", "role fault", "advert 0"]);
}

#[test]
fn fault_does_not_hear_itself_into_a_role() {
    let mut host = Host::backup(web());
    host.link_down();
    host.begin();
    for value in [0, 100, 200] {
        host.hears(value, ABOVE).unwrap();
    }
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Fault);
    assert_eq!(host.done, []);
}

/// As master it would advertise what nobody answers for.
#[test]
fn the_owner_is_in_fault_while_the_host_lacks_one_of_its_addresses() {
    let both = addresses(&[SHARED, "10.0.0.101"]);
    let mut host = Host::started(&[RouterConfig { addresses: both, ..priority(255) }]);
    host.link(true, &[at(HERE), at(SHARED)]);
    let missing = [Reason::AddressMissing(own("10.0.0.101", 24))];
    assert_eq!(host.reasons(), missing);
    host.link_up();
    assert_eq!(host.role(), Role::Master);
    host.begin();
    // One that carries our mark is not the host's own.
    host.link(true, &[at(HERE), at(SHARED), ours("10.0.0.101")]);
    assert_eq!(host.reasons(), missing);
    assert_eq!(host.said(), ["advert 0", "role fault"]);
    let text = missing[0].to_string();
    let command = "\"ip address add 10.0.0.101/24 dev eth0\"";
    assert!(text.starts_with("eth0 lacks 10.0.0.101,") && text.contains(command), "{text}");
}

/// A backup that serves it makes the detection fail. It goes on serving until the operator has added
/// the address anew.
#[test]
fn the_owner_sends_nothing_while_the_kernel_does_not_use_its_address() {
    let shared = "2001:db8::100";
    let config = RouterConfig { priority: Priority::OWNER, ..web6() };
    let mut host = Host::started(&[RouterConfig { addresses: addresses(&[shared]), ..config }]);
    let mut has = |state| {
        host.link(true, &[at(HERE6), LinkAddress { state, ..at(shared) }]);
        host.wait(secs(10));
        (host.role(), host.reasons(), host.said())
    };
    let waiting = vec![Reason::AddressPending(own(shared, 64))];
    assert_eq!(has(AddressState::Tentative), (Role::Waiting, waiting, vec![]));
    let duplicate = Reason::AddressDuplicate(own(shared, 64));
    let said = vec!["role fault".to_owned()];
    assert_eq!(has(AddressState::Duplicate), (Role::Fault, vec![duplicate.clone()], said));
    let anew = "\"ip address del 2001:db8::100/64 dev eth0; ip address add 2001:db8::100/64 dev eth0 nodad\"";
    let text = duplicate.to_string();
    assert!(text.contains("2001:db8::100 on eth0,") && text.contains(anew), "{text}");
    let (role, _, said) = has(AddressState::Preferred);
    assert_eq!((role, &*said[0]), (Role::Master, "advert 255"));
    assert_eq!(has(AddressState::Duplicate).2, ["advert 0", "role fault"]);
}

#[test]
fn drain_does_not_move_what_the_owner_has() {
    let mut host = Host::started(&[priority(255)]);
    host.link_up();
    host.begin();
    host.command(Command::Drain(Drain::LastResort));
    assert_eq!((host.role(), host.said().len()), (Role::Master, 0));
    host.link_down();
    host.link_up();
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn a_fault_of_the_owner_ends_at_once() {
    let mut host = Host::started(&[priority(255)]);
    host.link(false, &[]);
    assert_eq!(host.role(), Role::Fault);
    host.link_up();
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.why(), Why::Owner);
}
