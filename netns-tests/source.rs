//! The source of adverts on real hosts: which address it is, and what happens while there is none.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{Daemon, Host, Lab, RouterSpec, wait_for};
use nix::sys::signal::Signal;

use crate::fault::{SOON, executable, start};
use crate::options::{router, run};
use crate::scenario::vipd;
use crate::suite::{Test, TestResult, tests};

pub fn tests() -> Vec<Test> {
    tests![
        an_ipv6_unicast_source_is_not_what_the_kernel_lists_first_and_stays_over_a_restart,
        link_local_unicast_peers_hear_each_other,
        one_list_of_unicast_peers_serves_all_hosts,
        the_source_for_peers_behind_a_router_is_that_of_the_kernel,
        while_duplicate_address_detection_runs_at_boot_no_fault_hook_runs,
        a_link_local_address_that_another_host_has_is_a_fault_with_its_words,
    ]
}

const SHARED6: &str = "2001:db8::100";

fn spec6(peers: &[IpAddr], priority: u8) -> RouterSpec {
    let mut spec = RouterSpec::new(SHARED6.parse().unwrap(), priority);
    let peers: Vec<_> = peers.iter().map(|peer| format!("\"{peer}\"")).collect();
    spec.more += &format!("unicast_peers = [{}]\n", peers.join(", "));
    spec
}

fn expect_owner(lab: &Lab, host: &str, daemons: &[&Daemon]) {
    let ip: IpAddr = SHARED6.parse().unwrap();
    let found = wait_for(2 * SOON, || (lab.owners(ip) == [host]).then_some(()));
    let logs: Vec<_> = daemons.iter().map(|daemon| daemon.log()).collect();
    assert!(found.is_some(), "{:?} have it, not {host}\n{}", lab.owners(ip), logs.join("\n"));
}

/// Writes a sysctl of the host's `eth0`, or says why it cannot.
fn set_ipv6(host: &Host, name: &str, value: &str) -> TestResult {
    let path = format!("/proc/sys/net/ipv6/conf/eth0/{name}");
    let value = value.to_owned();
    host.namespace()
        .run(move || fs::write(&path, value).map_err(|error| format!("{path}: {error}")))
}

fn an_ipv6_unicast_source_is_not_what_the_kernel_lists_first_and_stays_over_a_restart() -> TestResult
{
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 17).unwrap(), lab.host("b", 2).unwrap());
    set_ipv6(&a, "use_tempaddr", "2")?;
    let managed = "2001:db8::ff:1/64";
    run(&a, &["ip", "address", "add", managed, "dev", "eth0", "mngtmpaddr", "nodad"]);
    let temporary = || {
        let list = ["-6", "address", "show", "dev", "eth0", "temporary"];
        let output = a.namespace().run(move || Command::new("ip").args(list).output()).unwrap();
        (!output.stdout.is_empty()).then_some(())
    };
    assert!(wait_for(SOON, temporary).is_some());
    let (of_a, of_b): (IpAddr, IpAddr) = (a.ipv6().into(), b.ipv6().into());
    let daemon_b = start(&b, &[spec6(&[of_a], 100)]);
    expect_owner(&lab, "b", &[&daemon_b]);
    let mut daemon_a = start(&a, &[spec6(&[of_b], 150)]);
    expect_owner(&lab, "a", &[&daemon_a, &daemon_b]);
    assert_eq!(router(&a)["source"], of_a.to_string());
    assert_eq!(router(&a)["source_others"][0], "2001:db8::ff:1", "{:#}", router(&a));
    let config = daemon_a.config().display().to_string();
    let arguments = ["check", &config].map(str::to_owned);
    let check =
        a.namespace().run(move || Command::new(crate::fault::VIPD).args(arguments).output());
    let check = check.unwrap();
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.success(), "{said}");
    assert!(
        said.contains("2001:db8::ff:1 would do as well") && said.contains("source_address"),
        "{said}"
    );
    let text = vipd(&a, &["status", "web"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("would do as well"), "{text:?}");

    // A lower one comes, and then another daemon.
    run(&a, &["ip", "address", "add", "2001:db8::5/64", "dev", "eth0", "nodad"]);
    let began = Instant::now();
    daemon_a.signal(Signal::SIGUSR2).unwrap();
    assert!(daemon_a.wait(SOON).unwrap().is_some_and(|status| status.success()));
    let daemon_a = start(&a, &[spec6(&[of_b], 150)]);
    std::thread::sleep(Duration::from_secs(1));
    expect_owner(&lab, "a", &[&daemon_a, &daemon_b]);
    let changes = lab.ownership(SHARED6.parse().unwrap(), began, Instant::now()).changes;
    assert_eq!((changes, router(&a)["source"].as_str()), (0, Some(&*of_a.to_string())));
    Ok(())
}

fn link_local_unicast_peers_hear_each_other() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_b = start(&b, &[spec6(&[a.link_local().into()], 100)]);
    expect_owner(&lab, "b", &[&daemon_b]);
    let daemon_a = start(&a, &[spec6(&[b.link_local().into()], 150)]);
    expect_owner(&lab, "a", &[&daemon_a, &daemon_b]);
    assert_eq!(router(&b)["heard"]["address"], a.link_local().to_string());
}

fn one_list_of_unicast_peers_serves_all_hosts() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 17).unwrap(), lab.host("b", 2).unwrap());
    // Lower, and no peer knows it.
    run(&a, &["ip", "address", "add", "2001:db8::5/64", "dev", "eth0", "nodad"]);
    let all = [a.ipv6().into(), b.ipv6().into()];
    let daemon_b = start(&b, &[spec6(&all, 100)]);
    expect_owner(&lab, "b", &[&daemon_b]);
    let daemon_a = start(&a, &[spec6(&all, 150)]);
    expect_owner(&lab, "a", &[&daemon_a, &daemon_b]);
    assert_eq!(router(&a)["source_others"].as_array().map(Vec::len), Some(0));
}

fn the_source_for_peers_behind_a_router_is_that_of_the_kernel() {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    run(&a, &["ip", "address", "add", "198.51.100.1/24", "dev", "eth0"]);
    run(&a, &["ip", "route", "add", "203.0.113.0/24", "via", "198.51.100.254", "dev", "eth0"]);
    let mut spec = RouterSpec::new("192.0.2.100".parse().unwrap(), 150);
    spec.more += "unicast_peers = [\"203.0.113.9\"]\n";
    let daemon = start(&a, &[spec]);
    let chosen = wait_for(SOON, || (router(&a)["source"] == "198.51.100.1").then_some(()));
    assert!(chosen.is_some(), "{:#}\n{}", router(&a), daemon.log());
}

fn while_duplicate_address_detection_runs_at_boot_no_fault_hook_runs() -> TestResult {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    set_ipv6(&a, "accept_dad", "1")?;
    set_ipv6(&a, "dad_transmits", "3")?;
    let (hook, said) = (a.dir().join("hook"), a.dir().join("said"));
    executable(&hook, &format!("#!/bin/sh\necho \"$*\" >>{}\n", said.display()));
    let mut spec = RouterSpec::new("fe80::100".parse().unwrap(), 150);
    spec.more += &format!("[virtual_router.hooks]\nnotify = \"{}\"\n", hook.display());
    let own = format!("{}/64", a.link_local());
    run(&a, &["ip", "address", "del", &own, "dev", "eth0"]);
    run(&a, &["ip", "address", "add", &own, "dev", "eth0"]);
    let daemon = start(&a, &[spec]);
    let role = |role: &str| (router(&a)["role"] == role).then_some(());
    assert!(wait_for(SOON, || role("waiting")).is_some(), "{:#}\n{}", router(&a), daemon.log());
    assert_eq!(router(&a)["fault_reasons"][0]["reason"], "source_pending");
    assert!(wait_for(3 * SOON, || role("master")).is_some(), "{:#}\n{}", router(&a), daemon.log());
    let hooks = wait_for(SOON, || read(&said).contains("MASTER").then(|| read(&said))).unwrap();
    assert!(!hooks.contains("FAULT"), "{hooks}\n{}", daemon.log());
    Ok(())
}

fn a_link_local_address_that_another_host_has_is_a_fault_with_its_words() -> TestResult {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    set_ipv6(&a, "accept_dad", "1")?;
    let daemon = start(&a, &[RouterSpec::new("fe80::100".parse().unwrap(), 150)]);
    let reason = |name: &str| (router(&a)["fault_reasons"][0]["reason"] == name).then_some(());
    run(&a, &["ip", "address", "del", &format!("{}/64", a.link_local()), "dev", "eth0"]);
    assert!(wait_for(SOON, || reason("no_link_local")).is_some(), "{:#}", router(&a));
    run(&a, &["ip", "address", "add", &format!("{}/64", b.link_local()), "dev", "eth0"]);
    let found = wait_for(2 * SOON, || reason("source_duplicate"));
    assert!(found.is_some(), "{:#}\n{}", router(&a), daemon.log());
    Ok(())
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
