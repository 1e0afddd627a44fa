//! The interface of a virtual router changes while it is in use.

use std::time::{Duration, Instant};

use crate::fault::{SHARED, SOON, VRID, expect_master, expect_master_within, spec, start};
use crate::lab::{Daemon, Host, Lab, LinkChanges as _, Namespace, Prober, RouterSpec, Switch};
use crate::scenario::vipd;
use crate::suite::{Test, tests};

const OFF: &str = "address_lifetime = \"off\"\n";

pub fn tests() -> Vec<Test> {
    tests![
        clients_follow_a_bridge_whose_mac_changes,
        a_renamed_interface_is_left_with_priority_0,
        a_renamed_interface_is_left_with_priority_0_also_without_a_lifetime,
        a_name_that_passes_to_another_interface_is_followed,
        an_interface_that_becomes_a_port_is_left_until_it_is_none,
        an_interface_that_is_moved_away_and_back_is_used_again,
    ]
}

/// A bridge has the lowest MAC address of its ports, as when a virtual machine is stopped.
fn clients_follow_a_bridge_whose_mac_changes() {
    let lab = Lab::new().unwrap();
    let (a, client) = (lab.host("a", 1).unwrap(), lab.host("client", 200).unwrap());
    a.bridge("eth0", "br0").unwrap();
    let links = a.namespace().links();
    links.add_veth("tap0", [2, 0, 0, 0, 0, 0], "tap1", a.namespace().file()).unwrap();
    for end in ["tap0", "tap1"] {
        links.up(end).unwrap();
    }
    links.set_bridge("tap0", "br0").unwrap();
    a.answer(SHARED).unwrap();
    let daemon = start(&a, &[RouterSpec { interface: "br0".to_owned(), ..spec(150) }]);
    expect_master(&lab, "a", &[&daemon]);
    // More than a second after the last announcement of the takeover.
    std::thread::sleep(Duration::from_millis(6200));
    let prober = Prober::start(&client, SHARED, Duration::from_millis(2)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    links.leave_bridge("tap0").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    links.set_bridge("tap0", "br0").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let ended = Instant::now();
    std::thread::sleep(2 * Prober::TOO_LATE);
    let report = prober.report(began, ended);
    assert!(report.sent > 500 && report.lost < 25, "{report:?}\n{}", daemon.log());
    assert_eq!(lab.ownership(SHARED, began, ended).changes, 0, "{}", daemon.log());
}

fn a_renamed_interface_is_left_with_priority_0() {
    renamed("");
}

fn a_renamed_interface_is_left_with_priority_0_also_without_a_lifetime() {
    renamed(OFF);
}

/// Adverts once a second: a peer that did not hear the farewell would wait for more than three.
fn pair(more: &str) -> (Lab, [Host; 2], [Daemon; 2]) {
    let lab = Lab::new().unwrap();
    let hosts = [lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap()];
    let daemons = [(&hosts[0], 150), (&hosts[1], 100)].map(|(host, priority)| {
        let more = spec(priority).more + more;
        let interval = Duration::from_secs(1);
        start(host, &[RouterSpec { interval, more, ..spec(priority) }])
    });
    expect_master_within(&lab, "a", 2 * SOON, &[&daemons[0], &daemons[1]]);
    std::thread::sleep(Duration::from_millis(1200));
    (lab, hosts, daemons)
}

fn renamed(more: &str) {
    let (lab, [a, _b], [daemon_a, daemon_b]) = pair(more);
    let began = Instant::now();
    a.rename("eth0", "eth9").unwrap();
    expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    let ownership = lab.ownership(SHARED, began, Instant::now());
    let logs = || format!("{ownership:?}\n{}\n{}", daemon_a.log(), daemon_b.log());
    // The skew time of the peer.
    assert!(ownership.longest_none < Duration::from_millis(1000), "{}", logs());
    assert!(ownership.longest_two < Duration::from_millis(50), "{}", logs());
    assert_eq!(lab.observer().adverts("a", began).last().unwrap().1.priority, 0, "{}", logs());
    assert!(daemon_a.log().contains("the configured name"), "{}", logs());
    a.rename("eth9", "eth0").unwrap();
    expect_master_within(&lab, "a", 2 * SOON, &[&daemon_a, &daemon_b]);
}

/// Within one moment, as udev may do it: what was claimed on the old one is released there.
fn a_name_that_passes_to_another_interface_is_followed() {
    let (lab, [a, _b], [daemon_a, daemon_b]) = pair(OFF);
    a.connect("eth1", Switch::LAN).unwrap();
    let links = a.namespace().links();
    // The LAN does not know of two interfaces of one host with the same address.
    let (own, prefix) = (a.ipv4().into(), 24);
    links.remove_address("eth1", own, prefix).unwrap();
    let began = Instant::now();
    links.rename("eth0", "eth9").unwrap();
    links.rename("eth1", "eth0").unwrap();
    links.add_address("eth0", own, prefix).unwrap();
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a, &daemon_b]);
    let (old, new) = (links.index("eth9").unwrap(), links.index("eth0").unwrap());
    let on: Vec<u32> = links
        .addresses()
        .unwrap()
        .into_iter()
        .filter(|(_, ip, _)| *ip == SHARED)
        .map(|(link, ..)| link)
        .collect();
    assert_eq!(on, [new], "not on {old}\n{}", daemon_a.log());
    let ownership = lab.ownership(SHARED, began, Instant::now());
    let logs = || format!("{ownership:?}\n{}\n{}", daemon_a.log(), daemon_b.log());
    assert!(ownership.longest_none < Duration::from_millis(1000), "{}", logs());
    assert!(ownership.longest_two < Duration::from_millis(50), "{}", logs());
}

/// The kernel removes its addresses, and nothing can be sent on it: the peer waits for as long as it
/// would after a crash.
fn an_interface_that_is_moved_away_and_back_is_used_again() {
    let (lab, [a, _b], [daemon_a, daemon_b]) = pair(OFF);
    let elsewhere = Namespace::new("elsewhere").unwrap();
    let began = Instant::now();
    a.namespace().links().move_to("eth0", &elsewhere).unwrap();
    expect_master_within(&lab, "b", 2 * SOON, &[&daemon_a, &daemon_b]);
    elsewhere.links().move_to("eth0", a.namespace()).unwrap();
    a.up("eth0").unwrap();
    expect_master_within(&lab, "a", 2 * SOON, &[&daemon_a, &daemon_b]);
    let ownership = lab.ownership(SHARED, began, Instant::now());
    let logs = || format!("{ownership:?}\n{}\n{}", daemon_a.log(), daemon_b.log());
    assert!(ownership.longest_none < Duration::from_millis(4200), "{}", logs());
    assert!(ownership.longest_two < Duration::from_millis(50), "{}", logs());
    // In a new namespace everything has gone with the old sockets: it hears and is heard again.
    assert_eq!(lab.observer().master(VRID).as_deref(), Some("a"));
}

fn an_interface_that_becomes_a_port_is_left_until_it_is_none() {
    let (lab, [a, _b], [daemon_a, daemon_b]) = pair(OFF);
    let links = a.namespace().links();
    links.add_bridge("br0").unwrap();
    links.up("br0").unwrap();
    let began = Instant::now();
    links.set_bridge("eth0", "br0").unwrap();
    expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    let ownership = lab.ownership(SHARED, began, Instant::now());
    let logs = || format!("{ownership:?}\n{}\n{}", daemon_a.log(), daemon_b.log());
    assert!(ownership.longest_none < Duration::from_millis(1000), "{}", logs());
    assert!(daemon_a.log().contains("a port of br0"), "{}", logs());
    let doctor = vipd(&a, &["doctor", "--listen", "1s"]);
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("a port of br0"), "{doctor}");
    assert!(!doctor.contains("ip address add"), "{doctor}");
    links.leave_bridge("eth0").unwrap();
    expect_master_within(&lab, "a", 2 * SOON, &[&daemon_a, &daemon_b]);
}
