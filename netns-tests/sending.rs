//! Adverts that do not leave, and sockets that cannot be opened.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fault::{SOON, executable, expect_master_within, spec, start};
use crate::lab::{Daemon, Host, Lab, Program, RouterSpec, Switch, wait_for};
use crate::scenario::vipd;
use crate::suite::{Test, TestResult, tests};

pub fn tests() -> Vec<Test> {
    tests![
        a_socket_that_cannot_be_opened_is_a_fault_until_it_can,
        a_unicast_peer_that_is_gone_is_named_and_costs_nothing,
        adverts_reach_a_live_peer_although_two_others_are_gone,
        a_lone_host_stays_master_although_all_its_unicast_peers_are_gone,
        an_owner_whose_backup_has_its_ipv6_address_is_in_fault_until_it_is_added_anew,
    ]
}

fn router(host: &Host) -> Value {
    let status = || serde_json::from_slice(&vipd(host, &["status", "--json"]).stdout).ok();
    let status: Value = wait_for(SOON, status).unwrap();
    status["routers"][0].clone()
}

/// The limit on open files of a daemon, soft and hard.
fn open_files(daemon: &Daemon) -> Vec<String> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().skip(3).take(2).map(str::to_owned).collect()
}

fn limit_open_files(daemon: &Daemon, soft: &str) {
    let (limit, pid) = (format!("--nofile={soft}:"), daemon.pid().to_string());
    let status = Command::new("prlimit").args([&limit, "--pid", &pid]).status().unwrap();
    assert!(status.success());
}

fn a_socket_that_cannot_be_opened_is_a_fault_until_it_can() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.bare_host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_b = start(&b, &[spec(100)]);
    let few = a.dir().join("few");
    executable(&few, &format!("#!/bin/sh\nulimit -Sn 64\nexec {} \"$@\"\n", crate::fault::VIPD));
    let daemon_a = Daemon::start(&a, &Program::Vipd(few), &[spec(150)]).unwrap();
    let raised = || {
        let limits = open_files(&daemon_a);
        (limits[0] == limits[1]).then_some(())
    };
    assert!(wait_for(SOON, raised).is_some(), "{:?}\n{}", open_files(&daemon_a), daemon_a.log());
    expect_master_within(&lab, "b", 2 * SOON, &[&daemon_b]);
    let began = Instant::now();
    assert_eq!(router(&a)["fault_reasons"][0]["reason"], "interface_missing");
    // From now on the daemon can open nothing. Its control socket neither.
    let hard = open_files(&daemon_a).pop().unwrap();
    limit_open_files(&daemon_a, "3");
    a.connect("eth0", Switch::LAN).unwrap();
    let named = || daemon_a.log().contains("cannot open the advert socket").then_some(());
    assert!(wait_for(SOON, named).is_some(), "{}", daemon_a.log());
    std::thread::sleep(Duration::from_secs(5));
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    assert_eq!(lab.ownership(crate::fault::SHARED, began, Instant::now()).changes, 0, "{logs}");
    assert!(lab.observer().adverts("a", began).is_empty(), "{logs}");
    limit_open_files(&daemon_a, &hard);
    assert_eq!(router(&a)["fault_reasons"][0]["reason"], "no_socket", "{logs}");
    expect_master_within(&lab, "a", Duration::from_secs(12), &[&daemon_a, &daemon_b]);
    assert_eq!(router(&a)["fault_reasons"].as_array().map(Vec::len), Some(0));
}

/// The kernel reports an IPv6 neighbour that does not answer by the error queue, and that another host
/// does not know the protocol.
fn a_unicast_peer_that_is_gone_is_named_and_costs_nothing() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let gone = Switch::LAN.ipv6(77);
    let ip = IpAddr::from(Switch::LAN.ipv6(100));
    let mut alone = RouterSpec::new(ip, 150);
    alone.unicast = Some((a.ipv6().into(), vec![b.ipv6().into(), gone.into()]));
    let daemon = start(&a, &[alone]);
    let owned = wait_for(2 * SOON, || (lab.owners(ip) == ["a"]).then_some(()));
    assert!(owned.is_some(), "{}", daemon.log());
    let began = Instant::now();
    let named = || {
        let refusals = router(&a)["refusals"].clone();
        let to = |host: &Value| host["destination"].as_str().map(str::to_owned);
        let named: Vec<_> = refusals.as_array()?.iter().filter_map(to).collect();
        named.contains(&gone.to_string()).then_some(())
    };
    assert!(wait_for(Duration::from_secs(8), named).is_some(), "{:#}", router(&a));
    let counters = router(&a)["counters"].clone();
    let number = |name: &str| counters[name].as_u64().unwrap();
    assert!(number("adverts_undelivered") > 0, "{counters:#}");
    assert_eq!(lab.ownership(ip, began, Instant::now()).changes, 0, "{}", daemon.log());
    // The queue was emptied, or the daemon would not sleep any more.
    let before = cpu_time(&daemon);
    std::thread::sleep(Duration::from_secs(2));
    let ticks = cpu_time(&daemon) - before;
    assert!(ticks < 20, "{ticks} ticks in two seconds");
}

/// The processor time that it has used, in ticks of 10 ms.
fn cpu_time(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Adverts every 10 ms to two hosts that are gone, and perhaps to one that is not: what waits for the
/// answer of a neighbour must not keep the rest from leaving.
fn often(own: &Host, priority: u8, alive: Option<&Host>) -> RouterSpec {
    let mut router = RouterSpec::new(crate::fault::SHARED, priority);
    router.interval = Duration::from_millis(10);
    let gone = [77, 78].map(|n| IpAddr::from(Switch::LAN.ipv4(n)));
    let peers = gone.into_iter().chain(alive.map(|host| host.ipv4().into()));
    router.unicast = Some((own.ipv4().into(), peers.collect()));
    router
}

fn adverts_reach_a_live_peer_although_two_others_are_gone() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_a = start(&a, &[often(&a, 150, Some(&b))]);
    let daemon_b = start(&b, &[often(&b, 100, Some(&a))]);
    expect_master_within(&lab, "a", 2 * SOON, &[&daemon_a, &daemon_b]);
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(12));
    let seen = lab.ownership(crate::fault::SHARED, began, Instant::now());
    assert_eq!(seen.changes, 0, "{seen:?} {}\n{}", daemon_a.log(), daemon_b.log());
}

fn a_lone_host_stays_master_although_all_its_unicast_peers_are_gone() {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let daemon = start(&a, &[often(&a, 150, None)]);
    // No advert leaves for a neighbour without an address.
    let owned = || (lab.owners(crate::fault::SHARED) == ["a"]).then_some(());
    assert!(wait_for(2 * SOON, owned).is_some(), "{}", daemon.log());
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(12));
    let seen = lab.ownership(crate::fault::SHARED, began, Instant::now());
    assert_eq!(seen.changes, 0, "{seen:?} {}", daemon.log());
}

/// The usual boot of an owner over IPv6.
fn an_owner_whose_backup_has_its_ipv6_address_is_in_fault_until_it_is_added_anew() -> TestResult {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let ip = IpAddr::from(Switch::LAN.ipv6(100));
    let daemon_b = start(&b, &[RouterSpec::new(ip, 100)]);
    let owned_by = |host: &str| wait_for(2 * SOON, || (lab.owners(ip) == [host]).then_some(()));
    assert!(owned_by("b").is_some(), "{}", daemon_b.log());
    let sh = |script: String| {
        let command = move || Command::new("sh").args(["-c", &script]).output().unwrap();
        let output = a.namespace().run(command);
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let set = "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad".to_owned();
    if !sh(set).0 {
        return Err("net.ipv6.conf.eth0.accept_dad cannot be written".to_owned());
    }
    assert!(sh(format!("ip -6 address add {ip}/64 dev eth0")).0);
    let failed = || sh("ip -6 address show dadfailed".to_owned()).1.contains("::64").then_some(());
    assert!(wait_for(2 * SOON, failed).is_some());
    let daemon_a = start(&a, &[RouterSpec::new(ip, 255)]);
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    let logs = || format!("{}\n{}", daemon_a.log(), daemon_b.log());
    let reason = router(&a)["fault_reasons"][0].clone();
    assert_eq!(reason["reason"], "address_duplicate", "{reason} {}", logs());
    assert!(lab.observer().adverts("a", began).is_empty(), "{}", logs());
    assert_eq!(router(&b)["role"], "master", "{}", logs());
    let text = reason["text"].as_str().unwrap();
    let command = text.split('"').nth(1).unwrap().to_owned();
    assert!(sh(command).0, "{text}");
    let master = || (router(&a)["role"] == "master").then_some(());
    assert!(wait_for(SOON, master).is_some(), "{:#} {}", router(&a), logs());
    assert!(owned_by("a").is_some(), "{:?} {}", lab.owners(ip), logs());
    Ok(())
}
