//! A full neighbour table. All network namespaces of a machine share it, so these tests are a program
//! of their own, which runs beside no other.
//!
//! Needs root or user namespaces. `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped into failures.
#![allow(clippy::unwrap_used)]

mod lab;
mod suite;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lab::{Daemon, Host, Lab, Program, RouterSpec, wait_for};
use suite::tests;
use vipd::host::netlink::{NeighbourTable, neighbour_tables};
use vipd::vrrp::Family;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
const SHARED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));

fn main() -> ExitCode {
    suite::main(1, |_| {
        tests![a_full_neighbour_table_keeps_no_advert_back, an_almost_full_neighbour_table_is_found,]
    })
}

fn table(family: Family) -> NeighbourTable {
    let tables = neighbour_tables().unwrap();
    *tables.iter().find(|table| table.family == family).unwrap()
}

/// Makes so many entries of neighbours that were seen just now.
fn fill(host: &Host, family: Family, count: u32, round: u8) {
    let mut lines = String::new();
    for n in 0..count {
        let (high, low) = (n >> 8, n & 0xff);
        let ip = match family {
            Family::V4 => format!("10.7.{high}.{low}"),
            Family::V6 => format!("fd07::{high:x}:{low:x}"),
        };
        let mac = format!("02:00:00:{round:02x}:{high:02x}:{low:02x}");
        let _ = writeln!(lines, "neigh replace {ip} lladdr {mac} nud reachable dev eth0");
    }
    let file = host.dir().join("neighbours");
    std::fs::write(&file, lines).unwrap();
    // What does not fit is refused, as it should be.
    let command = move || Command::new("ip").args(["-force", "-batch"]).arg(file).output();
    host.namespace().run(command).unwrap();
}

fn entries_of_groups(host: &Host) -> String {
    let command = || Command::new("ip").args(["neigh", "show", "nud", "permanent"]).output();
    let output = host.namespace().run(command).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn start(host: &Host, ip: IpAddr, priority: u8) -> Daemon {
    let spec = RouterSpec { interval: Duration::from_millis(50), ..RouterSpec::new(ip, priority) };
    Daemon::start(host, &Program::Vipd(VIPD.into()), &[spec]).unwrap()
}

fn a_full_neighbour_table_keeps_no_advert_back() {
    for (family, ip) in [(Family::V4, SHARED), (Family::V6, "2001:db8::100".parse().unwrap())] {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        let stranger = lab.host("stranger", 9).unwrap();
        let (mut daemon_a, daemon_b) = (start(&a, ip, 150), start(&b, ip, 100));
        let settled = || (lab.owners(ip) == ["a"]).then_some(());
        assert!(wait_for(Duration::from_secs(6), settled).is_some(), "{}", daemon_a.log());
        // With the interface the kernel has removed the entry.
        a.down("eth0").unwrap();
        a.up("eth0").unwrap();
        let group = family.multicast_group().to_string();
        let pinned = || entries_of_groups(&a).contains(&group).then_some(());
        assert!(wait_for(Duration::from_secs(3), pinned).is_some(), "{}", daemon_a.log());
        assert!(wait_for(Duration::from_secs(6), settled).is_some(), "{}", daemon_a.log());
        let began = Instant::now();
        let limit = table(family).limit;
        // For longer than the peer waits, and less than the five seconds after which the kernel
        // forgets neighbours.
        for round in 0..4 {
            fill(&stranger, family, limit + 200, round);
            assert!(table(family).entries + 50 >= limit, "{:?}", table(family));
            std::thread::sleep(Duration::from_millis(200));
        }
        let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
        let owned = lab.ownership(ip, began, Instant::now());
        assert_eq!(owned.changes, 0, "{family}: {owned:?}\n{logs}");
        daemon_a.stop(Duration::from_secs(3)).unwrap();
        assert_eq!(entries_of_groups(&a), "", "what was made is removed again");
    }
}

fn an_almost_full_neighbour_table_is_found() {
    let lab = Lab::unobserved().unwrap();
    let a = lab.host("a", 1).unwrap();
    let _daemon = start(&a, SHARED, 150);
    let found = || {
        let dir = a.runtime_dir().unwrap();
        let mut command = Command::new(VIPD);
        command.args(["doctor", "--json", "--listen", "0s", "--runtime-dir"]).arg(dir);
        let output = a.namespace().run(move || command.output()).unwrap();
        String::from_utf8(output.stdout).unwrap().contains(r#""neighbour_table""#)
    };
    assert!(!found());
    fill(&a, Family::V4, table(Family::V4).limit * 9 / 10, 0);
    assert!(found(), "{:?}", table(Family::V4));
}
