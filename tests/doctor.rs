//! `vipd doctor` in namespaces with every problem that it knows: found when it is there, not found
//! when it is not, and gone when the command it names has been run.
//!
//! Needs root or user namespaces. `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped into failures.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

mod lab;
mod suite;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitCode, Output};
use std::thread;
use std::time::Duration;

use lab::{Daemon, Host, Lab, Malformation, Program, RouterSpec, Stranger, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use suite::{Test, TestResult, programs, tests};
use vipd::doctor::ProblemKind;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
/// A time limit for machines that are busy.
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // In a user namespace everybody is root.
    let real_time = if nix::unistd::getuid().is_root() {
        Ok(())
    } else {
        Err("only root has real-time priority".to_owned())
    };
    suite::main(3, move |entered| {
        let writable = entered.clone().and_then(|()| sysctl_is_writable());
        let needing = |ready: TestResult, tests: Vec<Test>| {
            tests.into_iter().map(move |test| test.needs(&ready))
        };
        needing(
            Ok(()),
            tests![
                another_daemon_on_this_host_is_found,
                another_virtual_router_with_our_vrid_is_found,
                adverts_of_an_unknown_vrid_are_found_by_a_host_without_peers,
                a_sender_who_is_not_accepted_is_found,
                an_incompatible_peer_is_found_with_and_without_a_daemon,
                an_address_that_is_not_ours_is_found,
                an_address_left_behind_is_found,
                managers_that_remove_addresses_are_found,
                a_service_that_is_stopped_beside_vipd_is_found,
                drained_and_held_back_routers_are_found,
                a_wrong_file_and_missing_interfaces_are_found,
                the_text_for_people_has_sentences_and_commands,
                every_kind_of_problem_is_tested_here,
            ],
        )
        .chain(needing(
            real_time,
            tests![a_healthy_pair_has_no_findings, missing_privileges_are_found],
        ))
        .chain(needing(
            programs(&["nft"]),
            tests![
                a_packet_filter_on_the_way_in_is_found,
                a_packet_filter_on_the_way_out_is_found,
                a_packet_filter_for_ipv6_is_found,
                a_packet_filter_between_unicast_peers_is_found,
                a_filter_that_lets_the_peer_in_is_no_trouble,
                two_masters_are_found,
                late_and_refused_adverts_are_found
            ],
        ))
        .chain(needing(programs(&["iptables-nft"]), tests![a_packet_filter_of_iptables_is_found]))
        .chain(needing(
            writable,
            tests![
                a_reverse_path_filter_is_found,
                several_interfaces_in_one_lan_are_found,
                an_interface_that_answers_no_arp_is_found
            ],
        ))
        .collect()
    })
}

fn sysctl_is_writable() -> TestResult {
    let path = "/proc/sys/net/ipv4/conf/lo/arp_ignore";
    fs::write(path, "0").map_err(|error| format!("{path} cannot be written: {error}"))
}

// ---- all is well -------------------------------------------------------------------------------

fn a_healthy_pair_has_no_findings() {
    let clinic = Clinic::new();
    let _daemons = clinic.run_both();
    clinic.meet();
    for host in [&clinic.a, &clinic.b] {
        let output = clinic.doctor(host, &["--listen", "1s"]);
        let said = stdout(&output);
        // In a container that restricts root the host is not healthy.
        let refused: Vec<&str> =
            [(may_be_realtime(), "no_realtime"), (locks_memory(), "memory_not_locked")]
                .into_iter()
                .filter(|(may, _)| !may)
                .map(|(_, word)| word)
                .collect();
        if !refused.is_empty() {
            println!("this machine does not let root have its way: {refused:?}");
            let found = findings(&clinic.doctor(host, &["--listen", "1s", "--json"]));
            assert_eq!(found.iter().map(|finding| &finding.word).collect::<Vec<_>>(), refused);
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("no problem was found"), "{said}");
    }
}

// ---- packet filters ----------------------------------------------------------------------------

const CLOSED: &str = "add table inet fence; add chain inet fence in { type filter hook input \
                      priority 0; policy drop; }; add rule inet fence in iif lo accept; \
                      add rule inet fence in tcp dport 22 accept; \
                      add rule inet fence in ct state established,related accept";

fn a_packet_filter_on_the_way_in_is_found() {
    let clinic = Clinic::new();
    let _daemon = clinic.run(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
    clinic.sh(&clinic.a, &format!("nft '{CLOSED}'"));
    // The test packet must have the peer's address, because rules may name it.
    let _peer = clinic.stranger(&clinic.b, 51, clinic.ip);
    let finding = clinic.expect(&clinic.a, ProblemKind::AdvertsFilteredIn);
    assert!(finding.text.contains("the policy (drop) of chain inet fence in"), "{}", finding.text);
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
    // Dropped by a rule, and before the chain input.
    clinic.sh(
        &clinic.a,
        "nft 'flush ruleset; add table ip early; add chain ip early pre { type filter hook \
         prerouting priority -300; }; add rule ip early pre ip daddr 224.0.0.0/4 drop'",
    );
    let finding = clinic.expect(&clinic.a, ProblemKind::AdvertsFilteredIn);
    assert!(finding.text.contains("of chain ip early pre"), "{}", finding.text);
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
}

fn a_packet_filter_of_iptables_is_found() {
    for (program, rule) in [
        ("iptables-nft", "-A INPUT -p 112 -j DROP"),
        ("iptables-nft", "-A INPUT -m pkttype --pkt-type multicast -j DROP"),
        ("iptables-legacy", "-A INPUT -d 224.0.0.0/4 -j DROP"),
    ] {
        let clinic = Clinic::new();
        if !clinic.works(&clinic.a, &format!("{program} -S INPUT")) {
            println!("{program} does not work on this machine");
            continue;
        }
        let _daemon = clinic.run(&clinic.a);
        let _peer = clinic.stranger(&clinic.b, 51, clinic.ip);
        clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
        clinic.sh(&clinic.a, &format!("{program} {rule}"));
        let finding = clinic.expect(&clinic.a, ProblemKind::AdvertsFilteredIn);
        if finding.mend.starts_with("nft list ruleset") {
            // The rules do not show what an extension of iptables matches.
            clinic.sh(&clinic.a, &format!("{program} -I INPUT -p 112 -j ACCEPT"));
        } else {
            clinic.mend(&clinic.a, &finding);
        }
        clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
    }
}

fn a_packet_filter_on_the_way_out_is_found() {
    let clinic = Clinic::new();
    let _daemon = clinic.run(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredOut);
    clinic.sh(
        &clinic.a,
        "nft 'add table inet fence; add chain inet fence out { type filter hook output priority \
         0; }; add rule inet fence out meta l4proto { tcp, udp, icmp } accept; add rule inet \
         fence out drop'",
    );
    let finding = clinic.expect(&clinic.a, ProblemKind::AdvertsFilteredOut);
    assert!(finding.text.contains("of chain inet fence out"), "{}", finding.text);
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredOut);
}

fn a_packet_filter_for_ipv6_is_found() {
    let mut clinic = Clinic::new();
    clinic.ip = "fe80::100".parse().unwrap();
    let _daemon = clinic.run(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
    clinic.sh(
        &clinic.a,
        "nft 'add table ip6 fence; add chain ip6 fence in { type filter hook input priority 0; \
         policy drop; }; add rule ip6 fence in meta l4proto ipv6-icmp accept'",
    );
    let finding = clinic.expect(&clinic.a, ProblemKind::AdvertsFilteredIn);
    assert!(finding.about.contains("IPv6"), "{}", finding.about);
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
}

fn a_packet_filter_between_unicast_peers_is_found() {
    let mut clinic = Clinic::new();
    clinic.more = "unicast_peers = [\"192.0.2.1\", \"192.0.2.2\"]\n".into();
    let _daemon = clinic.run(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
    clinic.sh(&clinic.a, &format!("nft '{CLOSED}'"));
    let finding = clinic.expect(&clinic.a, ProblemKind::AdvertsFilteredIn);
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
}

fn a_filter_that_lets_the_peer_in_is_no_trouble() {
    let clinic = Clinic::new();
    clinic.sh(&clinic.a, &format!("nft '{CLOSED}'"));
    clinic.sh(&clinic.a, "nft add rule inet fence in ip saddr 192.0.2.2 ip protocol 112 accept");
    let _daemons = clinic.run_both();
    // Without a known peer there is no address to test with.
    let unheard = clinic.examined(&clinic.a);
    assert!(unheard.iter().all(|finding| finding.word != "adverts_filtered_in"), "{unheard:?}");
    clinic.meet();
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AdvertsFilteredIn);
    clinic.sh(&clinic.a, &format!("nft 'flush ruleset; {CLOSED}'"));
    clinic.sh(&clinic.a, "nft add rule inet fence in ip saddr 192.0.2.9 ip protocol 112 accept");
    clinic.expect(&clinic.a, ProblemKind::AdvertsFilteredIn);
}

// ---- the kernel's switches ---------------------------------------------------------------------

fn two_interfaces() -> Clinic {
    let mut clinic = Clinic::new();
    clinic.a.connect("eth1", lab::Switch::LAN).unwrap();
    clinic.sh(
        &clinic.a,
        "ip link set eth1 address 02:00:00:00:00:77; ip addr flush dev eth1; \
         ip addr add 192.0.2.77/24 dev eth1; sysctl -qw net.ipv4.conf.all.rp_filter=0",
    );
    clinic.interface = "eth1".into();
    clinic
}

fn a_reverse_path_filter_is_found() {
    let clinic = two_interfaces();
    let _daemon = clinic.run(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::RpFilter);
    clinic.sh(&clinic.a, "sysctl -qw net.ipv4.conf.eth1.rp_filter=1");
    clinic.expect(&clinic.a, ProblemKind::RpFilter);
    // Verify that adverts reach the interface but not the daemon.
    let peer = clinic.stranger(&clinic.b, 51, clinic.ip);
    let finding = clinic.expect(&clinic.a, ProblemKind::RpFilter);
    assert!(finding.text.contains("192.0.2.2"), "{}", finding.text);
    assert!(clinic.router(&clinic.a)["heard"].is_null());
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::RpFilter);
    let heard = || (!clinic.router(&clinic.a)["heard"].is_null()).then_some(());
    wait_for(TIMEOUT, heard).unwrap();
    drop(peer);
}

fn several_interfaces_in_one_lan_are_found() {
    let clinic = two_interfaces();
    let finding = clinic.expect(&clinic.a, ProblemKind::ArpFlux);
    assert!(finding.text.contains("eth0 is in the same network as eth1"), "{}", finding.text);
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::ArpFlux);
    // One interface per LAN is correct.
    clinic.expect_nothing_of(&clinic.b, ProblemKind::ArpFlux);
}

fn an_interface_that_answers_no_arp_is_found() {
    let clinic = Clinic::new();
    clinic.expect_nothing_of(&clinic.a, ProblemKind::ArpSilent);
    clinic.sh(&clinic.a, "sysctl -qw net.ipv4.conf.eth0.arp_ignore=8");
    let finding = clinic.expect(&clinic.a, ProblemKind::ArpSilent);
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::ArpSilent);
}

// ---- who advertises ----------------------------------------------------------------------------

fn another_daemon_on_this_host_is_found() {
    let clinic = Clinic::new();
    let _daemon = clinic.run(&clinic.a);
    clinic.expect_master(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::OtherDaemon);
    let other = clinic.stranger(&clinic.a, 51, "192.0.2.200".parse().unwrap());
    let finding = clinic.expect(&clinic.a, ProblemKind::OtherDaemon);
    assert!(finding.text.contains("on eth0 with priority 90"), "{}", finding.text);
    drop(other);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::OtherDaemon);
}

fn two_masters_are_found() {
    let clinic = Clinic::new();
    let _daemons = clinic.run_both();
    clinic.meet();
    clinic.expect_nothing_of(&clinic.a, ProblemKind::TwoMasters);
    clinic.sh(&clinic.b, &format!("nft '{CLOSED}'"));
    let both = || (clinic.router(&clinic.b)["role"] == "master").then_some(());
    wait_for(TIMEOUT, both).unwrap();
    let finding = clinic.expect(&clinic.b, ProblemKind::TwoMasters);
    assert!(finding.text.contains("192.0.2.1 and this host"), "{}", finding.text);
    // The cause is found, too.
    let why = clinic.expect(&clinic.b, ProblemKind::AdvertsFilteredIn);
    clinic.mend(&clinic.b, &why);
    let one = || (clinic.router(&clinic.b)["role"] == "backup").then_some(());
    wait_for(TIMEOUT, one).unwrap();
    clinic.expect_nothing_of(&clinic.b, ProblemKind::TwoMasters);
}

fn another_virtual_router_with_our_vrid_is_found() {
    let clinic = Clinic::new();
    let _daemon = clinic.run(&clinic.a);
    let peer = clinic.stranger(&clinic.b, 51, clinic.ip);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::DifferentAddresses);
    drop(peer);
    let _group = clinic.stranger(&clinic.b, 51, "192.0.2.200".parse().unwrap());
    let finding = clinic.expect(&clinic.a, ProblemKind::DifferentAddresses);
    assert!(finding.text.contains("192.0.2.2 advertises VRID 51"), "{}", finding.text);
}

fn adverts_of_an_unknown_vrid_are_found_by_a_host_without_peers() {
    let clinic = Clinic::new();
    let _daemon = clinic.run(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::ForeignVrid);
    let _others = clinic.stranger(&clinic.b, 77, "192.0.2.200".parse().unwrap());
    let finding = clinic.expect(&clinic.a, ProblemKind::ForeignVrid);
    assert!(finding.mend.contains("`vrid = 77`"), "{}", finding.mend);
    // A host that hears its own peer ignores other virtual routers.
    let _peer = clinic.stranger(&clinic.b, 51, clinic.ip);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::ForeignVrid);
}

fn a_sender_who_is_not_accepted_is_found() {
    let mut clinic = Clinic::new();
    clinic.more = "accept_from = [\"192.0.2.9\"]\n".into();
    let _daemon = clinic.run(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::SenderRefused);
    let _peer = clinic.stranger(&clinic.b, 51, clinic.ip);
    let finding = clinic.expect(&clinic.a, ProblemKind::SenderRefused);
    assert!(finding.mend.contains("add \"192.0.2.2\" to `accept_from`"), "{}", finding.mend);
}

fn an_incompatible_peer_is_found_with_and_without_a_daemon() {
    let mut clinic = Clinic::new();
    // Version 2 counts whole seconds.
    clinic.listen = "3s";
    let mut spec = clinic.spec(&clinic.b);
    (spec.version, spec.interval) = (2, Duration::from_secs(1));
    let _peer = clinic.start(&clinic.b, &spec);
    clinic.expect_master(&clinic.b);
    let finding = clinic.expect(&clinic.a, ProblemKind::IncompatiblePeer);
    assert!(finding.text.contains("make `version` equal on both"), "{}", finding.text);
    let _daemon = clinic.run(&clinic.a);
    clinic.expect(&clinic.a, ProblemKind::IncompatiblePeer);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::NeverHeard);
}

// ---- addresses ---------------------------------------------------------------------------------

fn an_address_that_is_not_ours_is_found() {
    let clinic = Clinic::new();
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AddressNotOurs);
    clinic.sh(&clinic.a, &format!("ip address add {}/24 dev eth0", clinic.ip));
    let finding = clinic.expect(&clinic.a, ProblemKind::AddressNotOurs);
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AddressNotOurs);
    // An address that vipd claimed is no finding.
    let _daemon = clinic.run(&clinic.a);
    clinic.expect_master(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AddressNotOurs);
}

fn an_address_left_behind_is_found() {
    let mut clinic = Clinic::new();
    clinic.more = "address_lifetime = \"off\"\n".into();
    let mut daemon = clinic.run(&clinic.a);
    clinic.expect_master(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AddressLeftOver);
    daemon.crash();
    let finding = clinic.expect(&clinic.a, ProblemKind::AddressLeftOver);
    let runtime_dir = clinic.a.runtime_dir().unwrap();
    let mend = format!("{} --runtime-dir {}", finding.mend, runtime_dir.display());
    clinic.mend(&clinic.a, &Finding { mend, ..finding });
    clinic.expect_nothing_of(&clinic.a, ProblemKind::AddressLeftOver);
}

// ---- the rest of the host ----------------------------------------------------------------------

/// With private configuration directories of systemd-networkd, NetworkManager and systemd.
fn managers_that_remove_addresses_are_found() {
    let clinic = Clinic::new();
    clinic.expect_nothing_of(&clinic.a, ProblemKind::NetworkdRemoves);
    let index = clinic.a.namespace().links().index("eth0").unwrap();
    let script = format!(
        "set -e\n\
         mount -t tmpfs none /run; mount -t tmpfs none /etc\n\
         mkdir -p /run/systemd/netif/links /run/NetworkManager/devices /etc/systemd/network\n\
         mkdir -p /etc/NetworkManager/conf.d\n\
         printf '[Match]\\nName=eth*\\n[Network]\\nAddress=192.0.2.1/24\\n' > /etc/systemd/network/10-lan.network\n\
         printf 'ADMIN_STATE=configured\\nNETWORK_FILE=/etc/systemd/network/10-lan.network\\n' > /run/systemd/netif/links/{index}\n\
         printf '[device]\\nmanaged=true\\n' > /run/NetworkManager/devices/{index}\n"
    );
    let found = clinic.in_its_own_namespace(&clinic.a, &script);
    let networkd = found.iter().find(|finding| finding.word == "networkd_removes").unwrap();
    let manager = found.iter().find(|finding| finding.word == "networkmanager_removes").unwrap();
    assert!(networkd.text.contains("10-lan.network"), "{}", networkd.text);
    assert!(manager.mend.contains("unmanaged-devices+=interface-name:eth0"), "{}", manager.mend);
    // Apply the fix as far as possible where neither of them runs.
    let (files, _) = networkd.mend.split_once(" && networkctl").unwrap();
    let script = format!(
        "{script}{files}\nprintf '[device]\\nmanaged=false\\n' > /run/NetworkManager/devices/{index}\n"
    );
    let found = clinic.in_its_own_namespace(&clinic.a, &script);
    let words: Vec<&str> = found.iter().map(|finding| finding.word.as_str()).collect();
    assert!(!words.contains(&"networkd_removes"), "{words:?}");
    assert!(!words.contains(&"networkmanager_removes"), "{words:?}");
}

fn a_service_that_is_stopped_beside_vipd_is_found() {
    let mut clinic = Clinic::new();
    clinic.expect_nothing_of(&clinic.a, ProblemKind::UnitOrder);
    clinic.more =
        "checks = [\"db\"]\n[[check]]\nname = \"db\"\nunit = \"postgresql.service\"\n".into();
    let script = "set -e\nmount -t tmpfs none /etc\nmkdir -p /etc/systemd/system\n\
                  printf '[Unit]\\nAfter=network.target\\n' > /etc/systemd/system/vipd.service\n";
    let found = clinic.in_its_own_namespace(&clinic.a, script);
    let finding = found.iter().find(|finding| finding.word == "unit_order").unwrap();
    assert_eq!(finding.about, "postgresql.service");
    let (mend, _) = finding.mend.split_once(" && systemctl daemon-reload").unwrap();
    let ordered_there = "mkdir /etc/systemd/system/postgresql.service.d; printf '[Unit]\\nBefore=\
                         vipd.service x.service\\n' > /etc/systemd/system/postgresql.service.d/a.conf";
    for mended in [mend, ordered_there] {
        let found = clinic.in_its_own_namespace(&clinic.a, &format!("{script}{mended}\n"));
        let words: Vec<&str> = found.iter().map(|finding| finding.word.as_str()).collect();
        assert!(!words.contains(&"unit_order"), "{words:?}");
    }
}

fn missing_privileges_are_found() {
    let clinic = Clinic::new();
    let daemon = clinic.run(&clinic.a);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::CapabilityMissing);
    if may_be_realtime() {
        clinic.expect_nothing_of(&clinic.a, ProblemKind::NoRealtime);
    }
    if locks_memory() {
        clinic.expect_nothing_of(&clinic.a, ProblemKind::MemoryNotLocked);
    }
    drop(daemon);
    let _weak = clinic.run_by(
        &clinic.a,
        "ulimit -l 64; exec setpriv --bounding-set=-sys_nice,-ipc_lock,-sys_resource",
    );
    clinic.expect(&clinic.a, ProblemKind::NoRealtime);
    clinic.expect(&clinic.a, ProblemKind::MemoryNotLocked);
    // Without a daemon, doctor tries it itself.
    let output = clinic.doctor_by(&clinic.b, &["setpriv", "--bounding-set=-net_raw"]);
    let words: Vec<String> = findings(&output).into_iter().map(|finding| finding.word).collect();
    assert_eq!(words, ["capability_missing"]);
    let unseen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(unseen["not_examined"].to_string().contains("try again with sudo"), "{unseen:#}");
    clinic.expect_nothing_of(&clinic.b, ProblemKind::CapabilityMissing);
}

/// Whether this machine lets root have real-time priority.
fn may_be_realtime() -> bool {
    Command::new("chrt").args(["-f", "1", "true"]).output().is_ok_and(|o| o.status.success())
}

/// Whether this machine lets root lock as much memory as it likes.
fn locks_memory() -> bool {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap();
    let unlimited = line.split_whitespace().nth(4) == Some("unlimited");
    let resource = caps::Capability::CAP_SYS_RESOURCE;
    unlimited || caps::has_cap(None, caps::CapSet::Permitted, resource).unwrap()
}

fn late_and_refused_adverts_are_found() {
    let clinic = Clinic::new();
    let daemon = clinic.run(&clinic.a);
    clinic.expect_master(&clinic.a);
    for trouble in [ProblemKind::Late, ProblemKind::AdvertsRefused] {
        clinic.expect_nothing_of(&clinic.a, trouble);
    }
    daemon.signal(Signal::SIGSTOP).unwrap();
    thread::sleep(Duration::from_secs(1));
    daemon.signal(Signal::SIGCONT).unwrap();
    clinic.expect_master(&clinic.a);
    let finding = clinic.expect(&clinic.a, ProblemKind::Late);
    assert!(finding.text.contains("it lost its role 1 times"), "{}", finding.text);
    clinic.sh(
        &clinic.a,
        "nft 'add table inet fence; add chain inet fence out { type filter hook output priority \
         0; }; add rule inet fence out meta l4proto 112 drop'",
    );
    thread::sleep(Duration::from_millis(500));
    clinic.expect(&clinic.a, ProblemKind::AdvertsRefused);
}

fn drained_and_held_back_routers_are_found() {
    let clinic = Clinic::new();
    let _daemons = clinic.run_both();
    clinic.expect(&clinic.a, ProblemKind::NeverHeard);
    clinic.meet();
    for trouble in [ProblemKind::Drained, ProblemKind::HeldBack, ProblemKind::NeverHeard] {
        clinic.expect_nothing_of(&clinic.a, trouble);
    }
    clinic.vipd(&clinic.a, &["failover", "web"]);
    let finding = clinic.expect(&clinic.a, ProblemKind::HeldBack);
    assert_eq!(finding.mend, "vipd resume web");
    clinic.vipd(&clinic.a, &["resume", "web"]);
    clinic.vipd(&clinic.a, &["drain"]);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::HeldBack);
    let finding = clinic.expect(&clinic.a, ProblemKind::Drained);
    assert_eq!(finding.mend, "vipd undrain");
}

fn a_wrong_file_and_missing_interfaces_are_found() {
    let clinic = Clinic::new();
    for trouble in [
        ProblemKind::ConfigRefused,
        ProblemKind::InterfaceAbsent,
        ProblemKind::InterfaceDown,
        ProblemKind::NoAddress,
    ] {
        clinic.expect_nothing_of(&clinic.a, trouble);
    }
    clinic.sh(&clinic.a, "ip address flush dev eth0");
    clinic.expect(&clinic.a, ProblemKind::NoAddress);
    clinic.sh(&clinic.a, "ip link set eth0 down");
    let finding = clinic.expect(&clinic.a, ProblemKind::InterfaceDown);
    clinic.mend(&clinic.a, &finding);
    clinic.expect_nothing_of(&clinic.a, ProblemKind::InterfaceDown);
    let mut clinic = Clinic::new();
    clinic.interface = "eth7".into();
    clinic.expect(&clinic.a, ProblemKind::InterfaceAbsent);
    clinic.more = "vird = 51\npriorty = 7\n".into();
    let finding = clinic.expect(&clinic.a, ProblemKind::ConfigRefused);
    assert!(finding.text.contains("2 problems"), "{}", finding.text);
    assert!(finding.mend.starts_with("vipd check "), "{}", finding.mend);
}

fn the_text_for_people_has_sentences_and_commands() {
    let clinic = Clinic::new();
    let _daemon = clinic.run(&clinic.a);
    clinic.vipd(&clinic.a, &["drain"]);
    let output = clinic.doctor(&clinic.a, &["--listen", "0s"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("drained\n    this host is drained"), "{said}");
    assert!(said.contains("\n    $ vipd undrain\n"), "{said}");
    assert!(said.trim_end().ends_with("problems; the lines that begin with $ fix them"), "{said}");
    assert!(!said.contains('\x1b'), "{said}");
}

fn every_kind_of_problem_is_tested_here() {
    let source = include_str!("doctor.rs");
    let tried: BTreeSet<String> = source
        .split("ProblemKind::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric()).collect())
        .collect();
    for trouble in ProblemKind::ALL {
        let name = format!("{trouble:?}");
        let word = format!("\"{}\"", trouble.name());
        assert!(tried.contains(&name) || source.contains(&word), "nobody tries {name}");
    }
}

// ---- two hosts ---------------------------------------------------------------------------------

struct Clinic {
    lab: Lab,
    a: Host,
    b: Host,
    ip: IpAddr,
    interface: String,
    /// Further keys of the virtual router.
    more: String,
    /// For doctor to listen.
    listen: &'static str,
}

#[derive(Clone, Debug)]
struct Finding {
    word: String,
    about: String,
    text: String,
    mend: String,
}

impl Clinic {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        let ip = "192.0.2.100".parse().unwrap();
        Clinic { lab, a, b, ip, interface: "eth0".into(), more: String::new(), listen: "600ms" }
    }

    fn spec(&self, host: &Host) -> RouterSpec {
        let mut spec = RouterSpec::new(self.ip, if host.name() == "a" { 150 } else { 100 });
        spec.interface.clone_from(&self.interface);
        spec.more += &self.more;
        spec
    }

    fn run(&self, host: &Host) -> Daemon {
        self.start(host, &self.spec(host))
    }

    fn start(&self, host: &Host, spec: &RouterSpec) -> Daemon {
        let program = Program::Vipd(VIPD.into());
        let daemon = Daemon::start(host, &program, std::slice::from_ref(spec)).unwrap();
        self.expect_answer(host, &daemon);
        daemon
    }

    /// Runs the daemon through a shell command that drops privileges first.
    fn run_by(&self, host: &Host, before: &str) -> Daemon {
        let wrapper = self.lab.dir().join("wrapper");
        fs::write(&wrapper, format!("#!/bin/bash\n{before} {VIPD} \"$@\"\n")).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        let spec = self.spec(host);
        let daemon =
            Daemon::start(host, &Program::Vipd(wrapper), std::slice::from_ref(&spec)).unwrap();
        self.expect_answer(host, &daemon);
        daemon
    }

    fn expect_answer(&self, host: &Host, daemon: &Daemon) {
        let answers = || self.vipd(host, &["status"]).status.success().then_some(());
        wait_for(TIMEOUT, answers).unwrap_or_else(|| panic!("{}", daemon.log()));
    }

    fn run_both(&self) -> (Daemon, Daemon) {
        let a = self.run(&self.a);
        self.expect_master(&self.a);
        let b = self.run(&self.b);
        let heard = || (!self.router(&self.b)["heard"].is_null()).then_some(());
        wait_for(TIMEOUT, heard);
        (a, b)
    }

    /// Both have heard each other.
    fn meet(&self) {
        self.vipd(&self.a, &["failover", "web"]);
        self.vipd(&self.a, &["resume", "web"]);
        self.expect_master(&self.a);
    }

    fn expect_master(&self, host: &Host) {
        let master = || (self.router(host)["role"] == "master").then_some(());
        assert!(wait_for(TIMEOUT, master).is_some(), "{:#}", self.router(host));
    }

    /// A sender of adverts with priority 90, below all others.
    fn stranger(&self, host: &Host, vrid: u8, address: IpAddr) -> Stranger {
        let IpAddr::V4(address) = address else { panic!("{address}") };
        let often = Duration::from_millis(100);
        let well_formed = [Malformation::None];
        let stranger =
            Stranger::start(host, vrid, 90, often, address, &well_formed, often).unwrap();
        thread::sleep(2 * often);
        stranger
    }

    fn vipd(&self, host: &Host, arguments: &[&str]) -> Output {
        let runtime_dir = host.runtime_dir().unwrap();
        let mut command = Command::new(VIPD);
        command.args(arguments).arg("--runtime-dir").arg(runtime_dir);
        host.namespace().run(move || command.output()).unwrap()
    }

    fn router(&self, host: &Host) -> Value {
        let output = self.vipd(host, &["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["routers"][0].clone()
    }

    /// Run as root of the host would.
    fn sh(&self, host: &Host, script: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let output = host.namespace().run(move || command.output()).unwrap();
        assert!(output.status.success(), "{script}: {}", stderr(&output));
    }

    fn works(&self, host: &Host, script: &str) -> bool {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        host.namespace().run(move || command.output()).unwrap().status.success()
    }

    fn doctor_arguments(&self, host: &Host) -> Vec<String> {
        let config = host.dir().join("doctor.toml");
        let text = lab::configuration(
            host.name(),
            &Program::Vipd(VIPD.into()),
            std::slice::from_ref(&self.spec(host)),
        );
        fs::write(&config, text).unwrap();
        let runtime_dir = host.runtime_dir().unwrap();
        let (config, runtime_dir) = (config.display(), runtime_dir.display());
        let text = format!("doctor --config {config} --runtime-dir {runtime_dir}");
        text.split(' ').map(str::to_owned).collect()
    }

    fn doctor(&self, host: &Host, more: &[&str]) -> Output {
        let mut command = Command::new(VIPD);
        command.args(self.doctor_arguments(host)).args(more);
        host.namespace().run(move || command.output()).unwrap()
    }

    fn doctor_by(&self, host: &Host, before: &[&str]) -> Output {
        let mut command = Command::new(before[0]);
        command.args(&before[1..]).arg(VIPD).args(self.doctor_arguments(host));
        command.args(["--json", "--listen", "0s"]);
        host.namespace().run(move || command.output()).unwrap()
    }

    /// In a mount namespace whose files this script has replaced.
    fn in_its_own_namespace(&self, host: &Host, script: &str) -> Vec<Finding> {
        let script = format!("{script}exec \"$@\"\n");
        let before = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        let output = self.doctor_by(host, &before);
        findings(&output)
    }

    fn examined(&self, host: &Host) -> Vec<Finding> {
        findings(&self.doctor(host, &["--json", "--listen", self.listen]))
    }

    fn expect(&self, host: &Host, trouble: ProblemKind) -> Finding {
        let found = self.examined(host);
        let finding = found.iter().find(|finding| finding.word == trouble.name());
        finding.unwrap_or_else(|| panic!("{trouble:?} is not among {found:#?}")).clone()
    }

    fn expect_nothing_of(&self, host: &Host, trouble: ProblemKind) {
        let found = self.examined(host);
        let finding = found.iter().find(|finding| finding.word == trouble.name());
        assert!(finding.is_none(), "{finding:#?}");
    }

    /// Runs the command of a fix, without the remark in brackets behind it.
    fn mend(&self, host: &Host, finding: &Finding) {
        let command = finding.mend.split("  (").next().unwrap();
        let directory = std::path::Path::new(VIPD).parent().unwrap().display();
        let path = format!("PATH={directory}:$PATH");
        self.sh(host, &format!("{path} && {command}"));
    }
}

fn findings(output: &Output) -> Vec<Finding> {
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", stdout(output), stderr(output)));
    assert_eq!(report["version"], 1);
    let found: Vec<Finding> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            let (word, about) = (text("trouble"), text("about"));
            Finding { word, about, text: text("text"), mend: text("mend") }
        })
        .collect();
    assert_eq!(output.status.code(), Some(i32::from(!found.is_empty())));
    assert!(found.iter().all(|finding| !finding.text.is_empty() && !finding.mend.is_empty()));
    found
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
