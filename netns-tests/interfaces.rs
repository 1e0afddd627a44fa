//! The interface of a virtual router changes while it is in use.

use std::time::{Duration, Instant};

use crate::fault::{SHARED, expect_master, spec, start};
use crate::lab::{Lab, LinkChanges as _, Prober, RouterSpec};
use crate::suite::{Test, tests};

pub fn tests() -> Vec<Test> {
    tests![clients_follow_a_bridge_whose_mac_changes]
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
