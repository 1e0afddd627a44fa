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

use lab::{
    Daemon, EchoConnection, Host, Lab, Malformation, Program, RouterSpec, Stranger, wait_for,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use suite::{Test, TestResult, programs, tests};
use vipd::doctor::ProblemKind;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
/// A time limit for machines that are busy.
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // In a user namespace every user is root.
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
                a_peer_with_other_addresses_is_found,
                an_owner_that_lacks_an_address_is_found,
                adverts_of_an_unknown_vrid_are_found_by_a_host_without_peers,
                a_sender_who_is_not_accepted_is_found,
                an_incompatible_peer_is_found_with_and_without_a_daemon,
                an_address_that_is_not_ours_is_found,
                an_address_that_the_host_needs_is_not_proposed_for_removal,
                an_address_with_connections_is_not_proposed_for_removal,
                an_address_left_behind_is_found,
                another_machine_with_the_address_is_found,
                adverts_in_fragments_are_found,
                managers_that_remove_addresses_are_found,
                a_service_that_is_stopped_beside_vipd_is_found,
                drained_and_held_back_routers_are_found,
                a_failing_check_is_found_with_what_it_printed,
                a_fault_that_nothing_else_explains_is_found,
                a_wrong_file_and_missing_interfaces_are_found,
                a_source_that_the_interface_does_not_have_is_found,
                an_interface_without_a_link_local_address_is_found,
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
                a_filter_that_lets_the_peer_in_is_no_problem,
                two_masters_are_found,
                late_and_refused_adverts_are_found
            ],
        ))
        .chain(needing(programs(&["iptables-nft"]), tests![a_packet_filter_of_iptables_is_found]))
        .chain(needing(
            writable,
            tests![
                a_reverse_path_filter_is_found,
                an_address_on_the_loopback_device_stays_there,
                an_address_that_the_kernel_refuses_is_found,
                several_interfaces_in_one_lan_are_found,
                an_interface_that_answers_no_arp_is_found,
                an_address_that_another_host_has_and_ipv6_that_is_off_are_found,
                an_owner_whose_address_another_host_has_is_found
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
    let fixture = Fixture::new();
    let _daemons = fixture.run_both();
    fixture.meet();
    for host in [&fixture.a, &fixture.b] {
        let output = fixture.doctor(host, &["--listen", "1s"]);
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
            let found = findings(&fixture.doctor(host, &["--listen", "1s", "--json"]));
            assert_eq!(found.iter().map(|finding| &finding.problem).collect::<Vec<_>>(), refused);
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
    let fixture = Fixture::new();
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
    fixture.sh(&fixture.a, &format!("nft '{CLOSED}'"));
    // The test packet must have the peer's address, because rules may name it.
    let _peer = fixture.stranger(&fixture.b, 51, fixture.ip);
    let finding = fixture.expect(&fixture.a, ProblemKind::AdvertsFilteredIn);
    assert!(finding.text.contains("the policy (drop) of chain inet fence in"), "{}", finding.text);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
    // Dropped by a rule, and before the chain input.
    fixture.sh(
        &fixture.a,
        "nft 'flush ruleset; add table ip early; add chain ip early pre { type filter hook \
         prerouting priority -300; }; add rule ip early pre ip daddr 224.0.0.0/4 drop'",
    );
    let finding = fixture.expect(&fixture.a, ProblemKind::AdvertsFilteredIn);
    assert!(finding.text.contains("of chain ip early pre"), "{}", finding.text);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
}

fn a_packet_filter_of_iptables_is_found() -> TestResult {
    let mut tried = 0;
    for (program, rule) in [
        ("iptables-nft", "-A INPUT -p 112 -j DROP"),
        ("iptables-nft", "-A INPUT -m pkttype --pkt-type multicast -j DROP"),
        ("iptables-legacy", "-A INPUT -d 224.0.0.0/4 -j DROP"),
    ] {
        let fixture = Fixture::new();
        if !fixture.works(&fixture.a, &format!("{program} -S INPUT")) {
            println!("SKIPPED: {program} does not work on this machine");
            continue;
        }
        tried += 1;
        let _daemon = fixture.run(&fixture.a);
        let _peer = fixture.stranger(&fixture.b, 51, fixture.ip);
        fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
        fixture.sh(&fixture.a, &format!("{program} {rule}"));
        let finding = fixture.expect(&fixture.a, ProblemKind::AdvertsFilteredIn);
        if finding.fix == "nft list ruleset" {
            // The rules do not show what an extension of iptables matches.
            fixture.sh(&fixture.a, &format!("{program} -I INPUT -p 112 -j ACCEPT"));
        } else {
            fixture.apply_fix(&fixture.a, &finding);
        }
        fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
    }
    match tried {
        0 => Err("iptables does not work on this machine".to_owned()),
        _ => Ok(()),
    }
}

fn a_packet_filter_on_the_way_out_is_found() {
    let fixture = Fixture::new();
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredOut);
    fixture.sh(
        &fixture.a,
        "nft 'add table inet fence; add chain inet fence out { type filter hook output priority \
         0; }; add rule inet fence out meta l4proto { tcp, udp, icmp } accept; add rule inet \
         fence out drop'",
    );
    let finding = fixture.expect(&fixture.a, ProblemKind::AdvertsFilteredOut);
    assert!(finding.text.contains("of chain inet fence out"), "{}", finding.text);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredOut);
}

fn a_packet_filter_for_ipv6_is_found() {
    let mut fixture = Fixture::new();
    fixture.ip = "fe80::100".parse().unwrap();
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
    fixture.sh(
        &fixture.a,
        "nft 'add table ip6 fence; add chain ip6 fence in { type filter hook input priority 0; \
         policy drop; }; add rule ip6 fence in meta l4proto ipv6-icmp accept'",
    );
    let finding = fixture.expect(&fixture.a, ProblemKind::AdvertsFilteredIn);
    assert!(finding.about.contains("IPv6"), "{}", finding.about);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
}

fn a_packet_filter_between_unicast_peers_is_found() {
    let mut fixture = Fixture::new();
    fixture.more = "unicast_peers = [\"192.0.2.1\", \"192.0.2.2\"]\n".into();
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
    fixture.sh(&fixture.a, &format!("nft '{CLOSED}'"));
    let finding = fixture.expect(&fixture.a, ProblemKind::AdvertsFilteredIn);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
}

fn a_filter_that_lets_the_peer_in_is_no_problem() {
    let fixture = Fixture::new();
    fixture.sh(&fixture.a, &format!("nft '{CLOSED}'"));
    fixture.sh(&fixture.a, "nft add rule inet fence in ip saddr 192.0.2.2 ip protocol 112 accept");
    let _daemons = fixture.run_both();
    // Without a known peer there is no address to test with.
    let unheard = fixture.examined(&fixture.a);
    assert!(unheard.iter().all(|finding| finding.problem != "adverts_filtered_in"), "{unheard:?}");
    fixture.meet();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertsFilteredIn);
    fixture.sh(&fixture.a, &format!("nft 'flush ruleset; {CLOSED}'"));
    fixture.sh(&fixture.a, "nft add rule inet fence in ip saddr 192.0.2.9 ip protocol 112 accept");
    fixture.expect(&fixture.a, ProblemKind::AdvertsFilteredIn);
}

// ---- the kernel's switches ---------------------------------------------------------------------

fn two_interfaces() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.a.connect("eth1", lab::Switch::LAN).unwrap();
    fixture.sh(
        &fixture.a,
        "ip link set eth1 address 02:00:00:00:00:77; ip addr flush dev eth1; \
         ip addr add 192.0.2.77/24 dev eth1; sysctl -qw net.ipv4.conf.all.rp_filter=0",
    );
    fixture.interface = "eth1".into();
    fixture
}

fn a_reverse_path_filter_is_found() {
    let fixture = two_interfaces();
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::RpFilter);
    fixture.sh(&fixture.a, "sysctl -qw net.ipv4.conf.eth1.rp_filter=1");
    fixture.expect(&fixture.a, ProblemKind::RpFilter);
    // Verify that adverts reach the interface but not the daemon.
    let peer = fixture.stranger(&fixture.b, 51, fixture.ip);
    let finding = fixture.expect(&fixture.a, ProblemKind::RpFilter);
    assert!(finding.text.contains("192.0.2.2"), "{}", finding.text);
    assert!(fixture.router(&fixture.a)["heard"].is_null());
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::RpFilter);
    let heard = || (!fixture.router(&fixture.a)["heard"].is_null()).then_some(());
    wait_for(TIMEOUT, heard).unwrap();
    drop(peer);
}

fn several_interfaces_in_one_lan_are_found() {
    let fixture = two_interfaces();
    let daemon = fixture.run(&fixture.a);
    fixture.expect_master(&fixture.a);
    thread::sleep(Duration::from_millis(1200));
    // The other interface answers for the address, too, and is no other machine.
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressContended);
    drop(daemon);
    let finding = fixture.expect(&fixture.a, ProblemKind::ArpFlux);
    assert!(finding.text.contains("eth0 is in the same network as eth1"), "{}", finding.text);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::ArpFlux);
    // One interface per LAN is correct.
    fixture.expect_nothing_of(&fixture.b, ProblemKind::ArpFlux);
}

fn an_interface_that_answers_no_arp_is_found() {
    let fixture = Fixture::new();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::ArpSilent);
    fixture.sh(&fixture.a, "sysctl -qw net.ipv4.conf.eth0.arp_ignore=8");
    let finding = fixture.expect(&fixture.a, ProblemKind::ArpSilent);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::ArpSilent);
}

// ---- who advertises ----------------------------------------------------------------------------

fn another_daemon_on_this_host_is_found() {
    let fixture = Fixture::new();
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_master(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::OtherDaemon);
    let other = fixture.stranger(&fixture.a, 51, "192.0.2.200".parse().unwrap());
    let finding = fixture.expect(&fixture.a, ProblemKind::OtherDaemon);
    assert!(finding.text.contains("on eth0 with priority 90"), "{}", finding.text);
    drop(other);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::OtherDaemon);
}

fn two_masters_are_found() {
    let fixture = Fixture::new();
    let _daemons = fixture.run_both();
    fixture.meet();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::TwoMasters);
    fixture.sh(&fixture.b, &format!("nft '{CLOSED}'"));
    let both = || (fixture.router(&fixture.b)["role"] == "master").then_some(());
    wait_for(TIMEOUT, both).unwrap();
    let finding = fixture.expect(&fixture.b, ProblemKind::TwoMasters);
    let who = "192.0.2.1 (priority 150) and this host (priority 100) are master";
    assert!(finding.text.contains(who), "{}", finding.text);
    let known = "this host does not hear 192.0.2.1, to which it would give way";
    assert!(finding.text.contains(known), "{}", finding.text);
    assert!(finding.fix_does.starts_with("on this host, "), "{}", finding.fix_does);
    // The other one hears it.
    let finding = fixture.expect(&fixture.a, ProblemKind::TwoMasters);
    let known = "this host hears 192.0.2.2, which does not hear it";
    assert!(finding.text.contains(known), "{}", finding.text);
    assert!(finding.fix_does.starts_with("on 192.0.2.2, "), "{}", finding.fix_does);
    // A third host sees both.
    let c = fixture.lab.host("c", 3).unwrap();
    let finding = fixture.expect(&c, ProblemKind::TwoMasters);
    let known = "192.0.2.2 does not hear 192.0.2.1, or cannot use its adverts";
    assert!(finding.text.contains(known), "{}", finding.text);
    // The cause is found, too.
    let why = fixture.expect(&fixture.b, ProblemKind::AdvertsFilteredIn);
    fixture.apply_fix(&fixture.b, &why);
    let one = || (fixture.router(&fixture.b)["role"] == "backup").then_some(());
    wait_for(TIMEOUT, one).unwrap();
    fixture.expect_nothing_of(&fixture.b, ProblemKind::TwoMasters);
}

fn another_virtual_router_with_our_vrid_is_found() {
    let fixture = Fixture::new();
    let _daemon = fixture.run(&fixture.a);
    let peer = fixture.stranger(&fixture.b, 51, fixture.ip);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::IncompatiblePeer);
    drop(peer);
    let _group = fixture.stranger(&fixture.b, 51, "192.0.2.200".parse().unwrap());
    let finding = fixture.expect(&fixture.a, ProblemKind::IncompatiblePeer);
    assert!(finding.text.contains("another virtual router uses this `vrid`"), "{}", finding.text);
    // It is no second master of ours, and to share its addresses would take them from it.
    let found = fixture.examined(&fixture.a);
    let wrong = [ProblemKind::DifferentAddresses, ProblemKind::TwoMasters].map(ProblemKind::name);
    assert!(found.iter().all(|it| !wrong.contains(&it.problem.as_str())), "{found:#?}");
}

fn a_peer_with_other_addresses_is_found() {
    let mut fixture = Fixture::new();
    let _peer = fixture.stranger(&fixture.b, 51, fixture.ip);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::DifferentAddresses);
    fixture.further.push("192.0.2.101".parse().unwrap());
    let finding = fixture.expect(&fixture.a, ProblemKind::DifferentAddresses);
    assert!(finding.text.contains("192.0.2.2 advertises VRID 51"), "{}", finding.text);
}

fn an_owner_that_lacks_an_address_is_found() {
    let mut fixture = Fixture::new();
    fixture.priority = Some(255);
    let finding = fixture.expect(&fixture.a, ProblemKind::AddressMissing);
    assert_eq!(finding.fix, "ip address add 192.0.2.100/24 dev eth0");
    let _daemon = fixture.run(&fixture.a);
    let reason = fixture.router(&fixture.a)["fault_reasons"][0]["text"].clone();
    let reason = reason.as_str().unwrap();
    assert!(finding.text.ends_with(reason), "{reason}\n{}", finding.text);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::Fault);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_master(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressMissing);
}

/// The usual boot of an owner over IPv6: the backup has its address.
fn an_owner_whose_address_another_host_has_is_found() {
    let mut fixture = Fixture::new();
    fixture.ip = "2001:db8::100".parse().unwrap();
    let _backup = fixture.run(&fixture.b);
    fixture.expect_master(&fixture.b);
    fixture.priority = Some(255);
    let add =
        "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip address add 2001:db8::100/64 dev eth0";
    fixture.sh(&fixture.a, add);
    let failed = "ip -6 address show dadfailed | grep -q 2001:db8::100";
    assert!(wait_for(TIMEOUT, || fixture.works(&fixture.a, failed).then_some(())).is_some());
    let _owner = fixture.run(&fixture.a);
    let finding = fixture.expect(&fixture.a, ProblemKind::AddressDuplicate);
    let reason = fixture.router(&fixture.a)["fault_reasons"][0]["text"].clone();
    let reason = reason.as_str().unwrap();
    assert!(finding.text.ends_with(reason), "{reason}\n{}", finding.text);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::Fault);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_master(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressDuplicate);
}

fn adverts_of_an_unknown_vrid_are_found_by_a_host_without_peers() {
    let fixture = Fixture::new();
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::ForeignVrid);
    let _others = fixture.stranger(&fixture.b, 77, "192.0.2.200".parse().unwrap());
    let finding = fixture.expect(&fixture.a, ProblemKind::ForeignVrid);
    assert!(finding.fix_does.contains("`vrid = 77`"), "{}", finding.fix_does);
    // A host that hears its own peer ignores other virtual routers.
    let _peer = fixture.stranger(&fixture.b, 51, fixture.ip);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::ForeignVrid);
}

fn a_sender_who_is_not_accepted_is_found() {
    let mut fixture = Fixture::new();
    fixture.more = "accept_from = [\"192.0.2.9\"]\n".into();
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::IncompatiblePeer);
    let _peer = fixture.stranger(&fixture.b, 51, fixture.ip);
    let finding = fixture.expect(&fixture.a, ProblemKind::IncompatiblePeer);
    for expected in ["adverts of 192.0.2.2:", "`accept_from` does not name", "add it there"] {
        assert!(finding.text.contains(expected), "{}", finding.text);
    }
}

fn an_incompatible_peer_is_found_with_and_without_a_daemon() {
    let mut fixture = Fixture::new();
    // Version 2 counts whole seconds.
    fixture.listen = "3s";
    let mut spec = fixture.spec(&fixture.b);
    (spec.version, spec.interval) = (2, Duration::from_secs(1));
    let _peer = fixture.start(&fixture.b, &spec);
    fixture.expect_master(&fixture.b);
    let finding = fixture.expect(&fixture.a, ProblemKind::IncompatiblePeer);
    assert!(finding.text.contains("make `version` equal on both"), "{}", finding.text);
    let _daemon = fixture.run(&fixture.a);
    fixture.expect(&fixture.a, ProblemKind::IncompatiblePeer);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::NeverHeard);
}

// ---- addresses ---------------------------------------------------------------------------------

fn an_address_that_is_not_ours_is_found() {
    let fixture = Fixture::new();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressNotOurs);
    fixture.sh(&fixture.a, &format!("ip address add {}/24 dev eth0", fixture.ip));
    let finding = fixture.expect(&fixture.a, ProblemKind::AddressNotOurs);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressNotOurs);
    // An address that vipd claimed is no finding.
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_master(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressNotOurs);
}

fn an_address_that_the_host_needs_is_not_proposed_for_removal() {
    let stays = |prepare: &str, ip: &str, why: &str| {
        let mut fixture = Fixture::new();
        fixture.sh(&fixture.a, prepare);
        fixture.ip = ip.parse().unwrap();
        let finding = fixture.expect(&fixture.a, ProblemKind::AddressNotOurs);
        assert!(finding.fix_does.contains(why), "{ip}: {finding:#?}");
        for proposed in fixture.examined(&fixture.a) {
            assert!(!proposed.fix.contains("del"), "{ip}: {proposed:#?}");
        }
    };
    let other = "ip address add 192.0.2.77/24 dev eth0";
    stays("true", "192.0.2.1", "eth0 has no other IPv4 address of its own");
    stays(other, "192.0.2.1", "would remove the other addresses");
    let promoted = format!("{other}; sysctl -qw net.ipv4.conf.all.promote_secondaries=1");
    stays(&promoted, "192.0.2.1", "would remove the other addresses");
    let subnet = "ip address add 198.51.100.9/24 dev eth0";
    stays(subnet, "198.51.100.9", "the routes of its subnet would be removed");
    let route = format!("{other}; ip route add 203.0.113.0/24 via 192.0.2.2 src 192.0.2.77");
    stays(&route, "192.0.2.77", "a route uses it");
    stays("true", "2001:db8::1", "eth0 has no other IPv6 address of its own");
    let subnet = "ip address add 2001:db8:9::9/64 dev eth0 nodad";
    stays(subnet, "2001:db8:9::9", "the routes of its subnet would be removed");
}

fn an_address_with_connections_is_not_proposed_for_removal() {
    let fixture = Fixture::new();
    fixture.sh(&fixture.a, &format!("ip address add {}/24 dev eth0", fixture.ip));
    let deletes = |fixture: &Fixture| {
        fixture.expect(&fixture.a, ProblemKind::AddressNotOurs).fix.contains("address del")
    };
    assert!(deletes(&fixture));
    fixture.a.echo(fixture.ip).unwrap();
    let connection = EchoConnection::start(&fixture.b, fixture.ip).unwrap();
    let finding = fixture.expect(&fixture.a, ProblemKind::AddressNotOurs);
    assert_eq!(finding.fix, format!("ss -tnp state established src {}", fixture.ip));
    drop(connection);
    assert!(wait_for(TIMEOUT, || deletes(&fixture).then_some(())).is_some());
}

fn an_address_on_the_loopback_device_stays_there() {
    let fixture = Fixture::new();
    fixture.sh(&fixture.a, &format!("ip address add {}/32 dev lo", fixture.ip));
    let finding = fixture.expect(&fixture.a, ProblemKind::AddressNotOurs);
    assert!(finding.fix.contains("net.ipv4.conf.eth0.arp_ignore=1"), "{}", finding.fix);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressNotOurs);
    assert!(fixture.works(&fixture.a, &format!("ip address show dev lo | grep -q {}", fixture.ip)));
    // No interface answers solicitations for addresses of others.
    let mut fixture = Fixture::new();
    fixture.ip = "2001:db8::100".parse().unwrap();
    fixture.sh(&fixture.b, "ip address add 2001:db8::100/128 dev lo");
    fixture.expect_nothing_of(&fixture.b, ProblemKind::AddressNotOurs);
}

fn another_machine_with_the_address_is_found() {
    let mut fixture = Fixture::new();
    fixture.more = "unadvertised_addresses = [\"2001:db8:7::1\"]\n".to_owned();
    for address in [&format!("{}/24", fixture.ip), "2001:db8:7::1/64"] {
        fixture.sh(&fixture.b, &format!("ip address add {address} dev eth0"));
    }
    thread::sleep(Duration::from_secs(2));
    let daemon = fixture.run(&fixture.a);
    fixture.expect_master(&fixture.a);
    let both = || (fixture.router(&fixture.a)["contenders"].as_array()?.len() == 2).then_some(());
    assert!(wait_for(TIMEOUT, both).is_some(), "{}", daemon.log());
    let finding = fixture.expect(&fixture.a, ProblemKind::AddressContended);
    assert!(finding.text.contains("02:"), "{}", finding.text);
    let warned = || daemon.log().contains("another machine has it, too").then_some(());
    assert!(wait_for(TIMEOUT, warned).is_some(), "{}", daemon.log());
}

fn adverts_in_fragments_are_found() {
    let mut fixture = Fixture::new();
    fixture.ip = "2001:db8::100".parse().unwrap();
    fixture.further = (1..=90).map(|n| format!("2001:db8::1:{n:x}").parse().unwrap()).collect();
    let finding = fixture.expect(&fixture.a, ProblemKind::AdvertFragmented);
    assert!(finding.fix_does.starts_with("90 addresses fit"), "{}", finding.fix_does);
    fixture.sh(&fixture.a, "ip link set eth0 mtu 1503");
    fixture.expect(&fixture.a, ProblemKind::AdvertFragmented);
    fixture.sh(&fixture.a, "ip link set eth0 mtu 1504");
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AdvertFragmented);
}

fn an_address_that_the_kernel_refuses_is_found() {
    let mut fixture = Fixture::new();
    fixture.more = "unadvertised_addresses = [\"2001:db8:7::1\"]\n".to_owned();
    fixture.sh(&fixture.a, "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1");
    let _daemon = fixture.run(&fixture.a);
    fixture.expect_master(&fixture.a);
    let finding = fixture.expect(&fixture.a, ProblemKind::AddressRefused);
    assert!(finding.text.contains("serves its other addresses"), "{}", finding.text);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::OtherDaemon);
    fixture.apply_fix(&fixture.a, &finding);
    let there = || (fixture.router(&fixture.a)["addresses"][1]["present"] == true).then_some(());
    assert!(wait_for(TIMEOUT, there).is_some(), "{:#}", fixture.router(&fixture.a));
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressRefused);
}

fn an_address_left_behind_is_found() {
    let mut fixture = Fixture::new();
    fixture.more = "address_lifetime = \"off\"\n".into();
    let mut daemon = fixture.run(&fixture.a);
    fixture.expect_master(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressLeftOver);
    daemon.crash();
    let finding = fixture.expect(&fixture.a, ProblemKind::AddressLeftOver);
    let runtime_dir = fixture.a.runtime_dir().unwrap();
    let fix = format!("{} --runtime-dir {}", finding.fix, runtime_dir.display());
    fixture.apply_fix(&fixture.a, &Finding { fix, ..finding });
    fixture.expect_nothing_of(&fixture.a, ProblemKind::AddressLeftOver);
}

// ---- the rest of the host ----------------------------------------------------------------------

/// With private configuration directories of systemd-networkd, NetworkManager and systemd.
fn managers_that_remove_addresses_are_found() {
    let fixture = Fixture::new();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::NetworkdRemoves);
    let index = fixture.a.namespace().links().index("eth0").unwrap();
    let script = format!(
        "set -e\n\
         mount -t tmpfs none /run; mount -t tmpfs none /etc\n\
         mkdir -p /run/systemd/netif/links /run/NetworkManager/devices /etc/systemd/network\n\
         mkdir -p /etc/NetworkManager/conf.d\n\
         printf '[Match]\\nName=eth*\\n[Network]\\nAddress=192.0.2.1/24\\n' > /etc/systemd/network/10-lan.network\n\
         printf 'ADMIN_STATE=configured\\nNETWORK_FILE=/etc/systemd/network/10-lan.network\\n' > /run/systemd/netif/links/{index}\n\
         printf '[device]\\nmanaged=true\\n' > /run/NetworkManager/devices/{index}\n"
    );
    let found = fixture.in_its_own_namespace(&fixture.a, &script);
    let networkd = found.iter().find(|finding| finding.problem == "networkd_removes").unwrap();
    let manager = found.iter().find(|finding| finding.problem == "networkmanager_removes").unwrap();
    assert!(networkd.text.contains("10-lan.network"), "{}", networkd.text);
    // Done at once, it would take the host's own address away.
    let does = &manager.fix_does;
    assert!(does.contains("unmanaged-devices+=interface-name:eth0"), "{does}");
    assert_eq!(manager.fix, "nmcli device show eth0");
    let script = format!(
        "{script}{}\nprintf '[device]\\nmanaged=false\\n' > /run/NetworkManager/devices/{index}\n",
        networkd.fix
    );
    let found = fixture.in_its_own_namespace(&fixture.a, &script);
    let words: Vec<&str> = found.iter().map(|finding| finding.problem.as_str()).collect();
    assert!(!words.contains(&"networkd_removes"), "{words:?}");
    assert!(!words.contains(&"networkmanager_removes"), "{words:?}");
}

fn a_service_that_is_stopped_beside_vipd_is_found() {
    let mut fixture = Fixture::new();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::UnitOrder);
    fixture.more =
        "checks = [\"db\"]\n[[check]]\nname = \"db\"\nunit = \"postgresql.service\"\n".into();
    let script = "set -e\nmount -t tmpfs none /etc\nmkdir -p /etc/systemd/system\n\
                  printf '[Unit]\\nAfter=network.target\\n' > /etc/systemd/system/vipd.service\n";
    let found = fixture.in_its_own_namespace(&fixture.a, script);
    let finding = found.iter().find(|finding| finding.problem == "unit_order").unwrap();
    assert_eq!(finding.about, "postgresql.service");
    let (fix, _) = finding.fix.split_once(" && systemctl daemon-reload").unwrap();
    let ordered_there = "mkdir /etc/systemd/system/postgresql.service.d; printf '[Unit]\\nBefore=\
                         vipd.service x.service\\n' > /etc/systemd/system/postgresql.service.d/a.conf";
    for fixed in [fix, ordered_there] {
        let found = fixture.in_its_own_namespace(&fixture.a, &format!("{script}{fixed}\n"));
        let words: Vec<&str> = found.iter().map(|finding| finding.problem.as_str()).collect();
        assert!(!words.contains(&"unit_order"), "{words:?}");
    }
}

fn missing_privileges_are_found() {
    let fixture = Fixture::new();
    let daemon = fixture.run(&fixture.a);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::CapabilityMissing);
    if may_be_realtime() {
        fixture.expect_nothing_of(&fixture.a, ProblemKind::NoRealtime);
    }
    if locks_memory() {
        fixture.expect_nothing_of(&fixture.a, ProblemKind::MemoryNotLocked);
    }
    drop(daemon);
    let _weak = fixture.run_by(
        &fixture.a,
        "ulimit -l 64; exec setpriv --bounding-set=-sys_nice,-ipc_lock,-sys_resource",
    );
    fixture.expect(&fixture.a, ProblemKind::NoRealtime);
    fixture.expect(&fixture.a, ProblemKind::MemoryNotLocked);
    // Without a daemon, doctor tries it itself.
    let output = fixture.doctor_by(&fixture.b, &["setpriv", "--bounding-set=-net_raw"]);
    let words: Vec<String> = findings(&output).into_iter().map(|finding| finding.problem).collect();
    assert_eq!(words, ["capability_missing"]);
    let unseen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(unseen["not_examined"].to_string().contains("try again with sudo"), "{unseen:#}");
    fixture.expect_nothing_of(&fixture.b, ProblemKind::CapabilityMissing);
}

/// Whether this machine lets root have real-time priority.
fn may_be_realtime() -> bool {
    Command::new("chrt").args(["-f", "1", "true"]).output().is_ok_and(|o| o.status.success())
}

/// Whether this machine lets root lock any amount of memory.
fn locks_memory() -> bool {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max locked memory")).unwrap();
    let unlimited = line.split_whitespace().nth(4) == Some("unlimited");
    let resource = caps::Capability::CAP_SYS_RESOURCE;
    unlimited || caps::has_cap(None, caps::CapSet::Permitted, resource).unwrap()
}

fn late_and_refused_adverts_are_found() {
    let fixture = Fixture::new();
    let daemon = fixture.run(&fixture.a);
    fixture.expect_master(&fixture.a);
    for problem in [ProblemKind::Late, ProblemKind::AdvertsRefused] {
        fixture.expect_nothing_of(&fixture.a, problem);
    }
    daemon.signal(Signal::SIGSTOP).unwrap();
    thread::sleep(Duration::from_secs(1));
    daemon.signal(Signal::SIGCONT).unwrap();
    fixture.expect_master(&fixture.a);
    let finding = fixture.expect(&fixture.a, ProblemKind::Late);
    assert!(finding.text.contains("it lost its role 1 times"), "{}", finding.text);
    fixture.sh(
        &fixture.a,
        "nft 'add table inet fence; add chain inet fence out { type filter hook output priority \
         0; }; add rule inet fence out meta l4proto 112 drop'",
    );
    thread::sleep(Duration::from_millis(500));
    fixture.expect(&fixture.a, ProblemKind::AdvertsRefused);
}

fn a_failing_check_is_found_with_what_it_printed() {
    let mut fixture = Fixture::new();
    let app = fixture.a.dir().join("app");
    let well = fixture.a.dir().join("well");
    let text = format!("#!/bin/sh\ntest -e {} || {{ echo it is sick; exit 1; }}\n", well.display());
    fs::write(&app, text).unwrap();
    fs::set_permissions(&app, fs::Permissions::from_mode(0o755)).unwrap();
    let with_weight = |weight: &str| {
        format!(
            "checks = [\"app\"]\n[[check]]\nname = \"app\"\ncommand = \"{}\"\n\
             interval = \"100ms\"\nfall = 1\nrise = 1\n{weight}",
            app.display()
        )
    };
    for (weight, consequence) in
        [("", "web is in fault"), ("weight = -20\n", "web has priority 130 instead of 150")]
    {
        fixture.more = with_weight(weight);
        let _ = fs::remove_file(&well);
        let _daemon = fixture.run(&fixture.a);
        let fails =
            || (fixture.router(&fixture.a)["checks"][0]["verdict"] == "failing").then_some(());
        wait_for(TIMEOUT, fails).unwrap();
        let finding = fixture.expect(&fixture.a, ProblemKind::CheckFails);
        assert_eq!(finding.about, "app");
        for words in [
            consequence,
            "its last run said: exit status 1: it is sick",
            &app.display().to_string(),
        ] {
            assert!(finding.text.contains(words), "{}", finding.text);
        }
        assert_eq!(finding.fix, "vipd status web");
        fixture.expect_nothing_of(&fixture.a, ProblemKind::Fault);
        fs::write(&well, "").unwrap();
        let passes =
            || (fixture.router(&fixture.a)["checks"][0]["verdict"] == "passing").then_some(());
        wait_for(TIMEOUT, passes).unwrap();
        fixture.expect_nothing_of(&fixture.a, ProblemKind::CheckFails);
    }
}

fn a_fault_that_nothing_else_explains_is_found() {
    let mut fixture = Fixture::new();
    let script = fixture.a.dir().join("refuses");
    fs::write(&script, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fixture.more = format!(
        "[virtual_router.hooks]\nbefore_claim = {{ command = \"{}\", fault_for = \"1h\" }}\n",
        script.display()
    );
    let _daemon = fixture.run(&fixture.a);
    let fault = || (fixture.router(&fixture.a)["role"] == "fault").then_some(());
    wait_for(TIMEOUT, fault).unwrap();
    let finding = fixture.expect(&fixture.a, ProblemKind::Fault);
    for words in ["the before_claim hook did not agree", "exit status 3"] {
        assert!(finding.text.contains(words), "{}", finding.text);
    }
}

fn drained_and_held_back_routers_are_found() {
    let fixture = Fixture::new();
    let _daemons = fixture.run_both();
    fixture.expect(&fixture.a, ProblemKind::NeverHeard);
    fixture.meet();
    for problem in [ProblemKind::Drained, ProblemKind::HeldBack, ProblemKind::NeverHeard] {
        fixture.expect_nothing_of(&fixture.a, problem);
    }
    fixture.vipd(&fixture.a, &["failover", "web"]);
    let finding = fixture.expect(&fixture.a, ProblemKind::HeldBack);
    assert_eq!(finding.fix, "vipd resume web");
    fixture.vipd(&fixture.a, &["resume", "web"]);
    fixture.vipd(&fixture.a, &["drain"]);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::HeldBack);
    let finding = fixture.expect(&fixture.a, ProblemKind::Drained);
    assert_eq!(finding.fix, "vipd undrain");
}

fn a_wrong_file_and_missing_interfaces_are_found() {
    let fixture = Fixture::new();
    for problem in [
        ProblemKind::ConfigRefused,
        ProblemKind::InterfaceAbsent,
        ProblemKind::InterfaceDown,
        ProblemKind::NoAddress,
    ] {
        fixture.expect_nothing_of(&fixture.a, problem);
    }
    fixture.sh(&fixture.a, "ip address flush dev eth0");
    let finding = fixture.expect(&fixture.a, ProblemKind::NoAddress);
    assert_eq!(finding.fix, "ip address add ADDRESS/PREFIX dev eth0");
    fixture.sh(&fixture.a, "ip link set eth0 down");
    let finding = fixture.expect(&fixture.a, ProblemKind::InterfaceDown);
    fixture.apply_fix(&fixture.a, &finding);
    fixture.expect_nothing_of(&fixture.a, ProblemKind::InterfaceDown);
    // Enabled it is already.
    fixture.a.unplug("eth0").unwrap();
    let finding = fixture.expect(&fixture.a, ProblemKind::InterfaceDown);
    assert!(finding.text.contains("eth0 has no carrier"), "{}", finding.text);
    assert_eq!(finding.fix, "ip -d link show eth0");
    let fixture = Fixture::new();
    fixture.sh(&fixture.a, "ip address flush dev eth0; ip link add br0 type bridge");
    fixture.expect_nothing_of(&fixture.a, ProblemKind::InterfaceIsPort);
    fixture.sh(&fixture.a, "ip link set br0 up; ip link set eth0 master br0");
    let finding = fixture.expect(&fixture.a, ProblemKind::InterfaceIsPort);
    assert!(finding.text.contains("eth0 is a port of br0"), "{finding:?}");
    assert!(finding.fix_does.contains("set `interface = \"br0\"`"), "{finding:?}");
    assert_eq!(finding.fix, "ip address show dev br0");
    // The address belongs on the bridge.
    fixture.expect_nothing_of(&fixture.a, ProblemKind::NoAddress);
    let mut fixture = Fixture::new();
    fixture.interface = "eth7".into();
    fixture.expect(&fixture.a, ProblemKind::InterfaceAbsent);
    fixture.more = "vird = 51\npriorty = 7\n".into();
    let finding = fixture.expect(&fixture.a, ProblemKind::ConfigRefused);
    assert!(finding.text.contains("2 problems"), "{}", finding.text);
    assert!(finding.fix.starts_with("vipd check "), "{}", finding.fix);
}

fn a_source_that_the_interface_does_not_have_is_found() {
    let mut fixture = Fixture::new();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::SourceAbsent);
    fixture.more = "source_address = \"192.0.2.2\"\n".into();
    let finding = fixture.expect(&fixture.a, ProblemKind::SourceAbsent);
    assert!(finding.text.contains("192.0.2.2, which no interface of this host has"), "{finding:?}");
    assert!(finding.fix_does.starts_with("write 192.0.2.1, or leave it out"), "{finding:?}");
    fixture.expect_nothing_of(&fixture.a, ProblemKind::NoAddress);
    fixture.sh(&fixture.a, "ip address add 192.0.2.2/32 dev lo");
    let finding = fixture.expect(&fixture.a, ProblemKind::SourceAbsent);
    assert!(finding.text.contains("which is on lo, not on eth0"), "{finding:?}");
    // What it says is right.
    fixture.more = "source_address = \"192.0.2.1\"\n".into();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::SourceAbsent);
}

fn an_interface_without_a_link_local_address_is_found() {
    let mut fixture = Fixture::new();
    fixture.ip = "fe80::100".parse().unwrap();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::NoLinkLocal);
    fixture.sh(&fixture.a, "ip -6 address flush dev eth0 scope link");
    let finding = fixture.expect(&fixture.a, ProblemKind::NoLinkLocal);
    assert_eq!(finding.fix, "ip address add fe80::NUMBER/64 dev eth0");
    fixture.sh(&fixture.a, "ip address add fe80::9/64 dev eth0 nodad");
    fixture.expect_nothing_of(&fixture.a, ProblemKind::NoLinkLocal);
}

fn an_address_that_another_host_has_and_ipv6_that_is_off_are_found() {
    let mut fixture = Fixture::new();
    fixture.ip = "fe80::100".parse().unwrap();
    fixture.expect_nothing_of(&fixture.a, ProblemKind::SourceDuplicate);
    fixture.sh(&fixture.a, "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_dad");
    let theirs = fixture.b.link_local();
    fixture.sh(&fixture.a, "ip -6 address flush dev eth0 scope link");
    fixture.sh(&fixture.a, &format!("ip address add {theirs}/64 dev eth0"));
    thread::sleep(Duration::from_secs(3));
    let finding = fixture.expect(&fixture.a, ProblemKind::SourceDuplicate);
    assert!(finding.text.contains(&theirs.to_string()), "{finding:?}");
    fixture.sh(&fixture.a, "echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6");
    let finding = fixture.expect(&fixture.a, ProblemKind::NoLinkLocal);
    assert_eq!(finding.fix, "sysctl -w net.ipv6.conf.eth0.disable_ipv6=0");
}

fn the_text_for_people_has_sentences_and_commands() {
    let fixture = Fixture::new();
    let _daemon = fixture.run(&fixture.a);
    fixture.vipd(&fixture.a, &["drain"]);
    let output = fixture.doctor(&fixture.a, &["--listen", "0s"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("drained\n    this host is drained"), "{said}");
    assert!(said.contains("address moves here at once:\n    $ vipd undrain\n"), "{said}");
    let last = "problems; what each command behind $ does is said before it";
    assert!(said.trim_end().ends_with(last), "{said}");
    assert!(!said.contains('\x1b'), "{said}");
}

fn every_kind_of_problem_is_tested_here() {
    let source = concat!(include_str!("doctor.rs"), include_str!("neighbour_table.rs"));
    let tried: BTreeSet<String> = source
        .split("ProblemKind::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric()).collect())
        .collect();
    for problem in ProblemKind::ALL {
        let name = format!("{problem:?}");
        let word = format!("\"{}\"", problem.name());
        assert!(tried.contains(&name) || source.contains(&word), "nobody tries {name}");
    }
}

// ---- two hosts ---------------------------------------------------------------------------------

struct Fixture {
    lab: Lab,
    a: Host,
    b: Host,
    ip: IpAddr,
    /// More addresses.
    further: Vec<IpAddr>,
    interface: String,
    /// Further keys of the virtual router.
    more: String,
    /// That of host a; `None`: 150.
    priority: Option<u8>,
    /// For doctor to listen.
    listen: &'static str,
}

#[derive(Clone, Debug)]
struct Finding {
    problem: String,
    about: String,
    text: String,
    fix_does: String,
    fix: String,
}

impl Fixture {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        let ip = "192.0.2.100".parse().unwrap();
        Fixture {
            lab,
            a,
            b,
            ip,
            further: Vec::new(),
            interface: "eth0".into(),
            more: String::new(),
            priority: None,
            listen: "600ms",
        }
    }

    fn spec(&self, host: &Host) -> RouterSpec {
        let mut spec = RouterSpec::new(self.ip, self.priority(host));
        spec.addresses.extend(&self.further);
        spec.interface.clone_from(&self.interface);
        spec.more += &self.more;
        spec
    }

    fn priority(&self, host: &Host) -> u8 {
        if host.name() == "a" { self.priority.unwrap_or(150) } else { 100 }
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

    /// Runs a script as root of the host.
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

    fn expect(&self, host: &Host, problem: ProblemKind) -> Finding {
        let found = self.examined(host);
        let finding = found.iter().find(|finding| finding.problem == problem.name());
        finding.unwrap_or_else(|| panic!("{problem:?} is not among {found:#?}")).clone()
    }

    fn expect_nothing_of(&self, host: &Host, problem: ProblemKind) {
        let found = self.examined(host);
        let finding = found.iter().find(|finding| finding.problem == problem.name());
        assert!(finding.is_none(), "{finding:#?}");
    }

    fn apply_fix(&self, host: &Host, finding: &Finding) {
        let command = &finding.fix;
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
            let (problem, about) = (text("problem"), text("about"));
            let (fix_does, fix) = (text("fix_does"), text("fix"));
            Finding { problem, about, text: text("text"), fix_does, fix }
        })
        .collect();
    assert_eq!(output.status.code(), Some(i32::from(!found.is_empty())));
    for Finding { text, fix_does, fix, .. } in &found {
        assert!([text, fix_does, fix].iter().all(|text| !text.is_empty()), "{found:#?}");
        // A remark is no part of a command.
        assert!(!fix.contains("  ") && !fix.contains("then"), "{fix}");
    }
    found
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
