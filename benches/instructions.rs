//! How many instructions the protocol executes for an advert, counted by callgrind: a regression
//! shows however busy the machine is.
//!
//! `cargo bench --bench instructions`: fails if a count is more than a tenth above its limit in
//! `LIMITS`. Lower a limit when the code became cheaper; raise it only with a reason. The limits are
//! for x86-64 and the release profile; on other processors the counts are printed only. Needs
//! valgrind; without it nothing is counted, which VIPD_TESTS_REQUIRE_PEERS=1 makes a failure.
#![allow(clippy::unwrap_used)]

#[path = "../tests/many/mod.rs"]
mod many;
#[path = "../tests/peers/mod.rs"]
#[expect(dead_code, reason = "it ends with a status instead of a panic")]
mod peers;

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::Duration;

use many::{INTERVAL, LINK, ROUTERS, node, own};
use vipd::vrrp::{Action, Event, Family, Instant, Node, Packet, advert};

/// Instructions for one advert. A count may exceed its limit by a tenth.
const LIMITS: [(&str, u64); 5] = [
    ("decode", 265),
    ("encode", 400),
    ("encode_255", 17_200),
    ("handle_packet", 1_245),
    ("handle_timeout", 765),
];
const ROUNDS: u64 = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "measured") {
        measured(&arguments[1]);
        return ExitCode::SUCCESS;
    }
    let installed = Command::new("valgrind").arg("--version").output();
    if !installed.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: valgrind is not installed");
        return if peers::required() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    println!("| instructions for one advert | counted | limit |");
    println!("|---|---|---|");
    let mut exceeded = false;
    for (name, limit) in LIMITS {
        let count = count(name) / (ROUNDS * ROUTERS);
        let too_many = 10 * count > 11 * limit;
        exceeded |= too_many;
        let mark = if too_many { " **exceeded**" } else { "" };
        println!("| {name} | {count}{mark} | {limit} |");
    }
    if exceeded && cfg!(target_arch = "x86_64") { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The instructions in all calls of the function of this name.
fn count(name: &str) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*::measured_{}*", name.trim_end_matches("_255")))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["measured", name])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(file).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap();
    total.trim().parse().unwrap()
}

/// Calls one of the measured functions, `ROUNDS` times for each advert.
fn measured(name: &str) {
    let (mut master, _) = node(1, 150);
    let mut actions = Vec::with_capacity(4096);
    let adverts = adverts(&mut master, &mut actions);
    let messages: Vec<Vec<u8>> = adverts.iter().map(bytes).collect();
    match name {
        "decode" => {
            for _ in 0..ROUNDS {
                for message in &messages {
                    measured_decode(message);
                }
            }
        }
        "encode" => {
            let mut message = Vec::with_capacity(4096);
            for _ in 0..ROUNDS {
                for advert in &adverts {
                    measured_encode(advert, &mut message);
                }
            }
        }
        "encode_255" => {
            let mut message = Vec::with_capacity(4096);
            let many: Vec<_> = (0..255).map(|n| vipd::vrrp::Address::host(own(n))).collect();
            let advert = vipd::vrrp::Advert { addresses: many.into(), ..adverts[0].clone() };
            for _ in 0..ROUNDS * ROUTERS {
                measured_encode(&advert, &mut message);
            }
        }
        "handle_packet" => {
            let (mut backup, mut now) = node(2, 100);
            for _ in 0..ROUNDS {
                now += INTERVAL;
                for message in &messages {
                    measured_handle_packet(&mut backup, now, message, &mut actions);
                }
            }
        }
        "handle_timeout" => {
            let mut count = 0;
            while count < ROUNDS * ROUTERS {
                let now = master.deadline().unwrap();
                measured_handle_timeout(&mut master, now, &mut actions);
                let sent = actions.iter().filter(|a| matches!(a, Action::Advertise { .. }));
                count += sent.count() as u64;
                actions.clear();
            }
        }
        _ => unreachable!("it is one of the list"),
    }
}

#[inline(never)]
fn measured_decode(message: &[u8]) {
    let group = Family::V4.multicast_group();
    black_box(advert::decode(own(1), group, black_box(message)).is_ok());
}

#[inline(never)]
fn measured_encode(advert: &advert::Advert, message: &mut Vec<u8>) {
    black_box(advert).encode(own(1), Family::V4.multicast_group(), message);
    black_box(message);
}

#[inline(never)]
fn measured_handle_packet(
    node: &mut Node,
    now: Instant,
    message: &[u8],
    actions: &mut Vec<Action>,
) {
    let destination = Family::V4.multicast_group();
    let packet = Packet { link: LINK, source: own(1), destination, ttl: 255, message };
    let _ = black_box(node.handle(now, Event::Packet(packet), actions));
}

#[inline(never)]
fn measured_handle_timeout(node: &mut Node, now: Instant, actions: &mut Vec<Action>) {
    let _ = black_box(node.handle(now, Event::Timeout, actions));
}

/// The adverts of a node that has been master for a minute.
fn adverts(node: &mut Node, actions: &mut Vec<Action>) -> Vec<advert::Advert> {
    let mut adverts: Vec<advert::Advert> = Vec::new();
    let end = node.deadline().unwrap() + Duration::from_secs(60);
    while adverts.len() < ROUTERS as usize {
        let now = node.deadline().unwrap();
        node.handle(now, Event::Timeout, actions).unwrap();
        for action in actions.drain(..) {
            if let Action::Advertise { advert, .. } = action
                && now > end
            {
                adverts.push(advert);
            }
        }
    }
    adverts.truncate(ROUTERS as usize);
    adverts
}

fn bytes(advert: &advert::Advert) -> Vec<u8> {
    let mut message = Vec::new();
    advert.encode(own(1), Family::V4.multicast_group(), &mut message);
    message
}
