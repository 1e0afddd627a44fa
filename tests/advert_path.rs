//! Sending or receiving an advert, from the socket to the protocol and back, allocates nothing: the
//! daemon itself in a network namespace, with an allocator that counts.
//!
//! Needs root or user namespaces. `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped into failures.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

mod counting;
mod lab;
mod suite;

use std::fs;
use std::net::IpAddr;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Daemon, Lab, Program, RouterSpec, configuration, wait_for};
use nix::sys::signal::{Signal, raise};
use suite::tests;
use vipd::daemon::{self, Options};

const SHARED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));
const VRID: u8 = 51;

fn main() -> ExitCode {
    // The daemon starts its helper from the program that runs, which is this one.
    if std::env::args().nth(1).is_some_and(|first| first == "helper") {
        return vipd::helper::main();
    }
    suite::main(1, |_| tests![sending_or_receiving_an_advert_allocates_nothing])
}

fn sending_or_receiving_an_advert_allocates_nothing() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let mut spec =
        RouterSpec { interval: Duration::from_millis(10), ..RouterSpec::new(SHARED, 100) };
    // Renewals would be carried out by the worker, whose allocations are not counted.
    spec.more += "address_lifetime = \"off\"\n";
    let vipd = Program::Vipd(env!("CARGO_BIN_EXE_vipd").into());
    let config = a.dir().join("vipd.toml");
    fs::write(&config, configuration("a", &vipd, std::slice::from_ref(&spec))).unwrap();
    let state_dir = a.dir().join("state");
    let (runtime_dir, lock_dir) = (a.runtime_dir().unwrap(), a.lock_dir());
    let options = Options { config, runtime_dir, state_dir, lock_dir };
    let daemon = a.namespace().thread("loop", move || {
        counting::watch_this_thread();
        if let Err(failure) = daemon::run(&options) {
            println!("{failure}");
        }
    });
    let daemon = daemon.unwrap();

    let settled = |name: &str| {
        let master = || (lab.observer().master(VRID).as_deref() == Some(name)).then_some(());
        wait_for(Duration::from_secs(20), master).expect(name);
        // The first announcements are repeated within a second, and then after five.
        thread::sleep(Duration::from_millis(1500));
    };
    settled("a");
    let adverts_of_a = counted("a", &lab);
    let mut better = Daemon::start(&b, &vipd, &[RouterSpec { priority: 200, ..spec }]).unwrap();
    settled("b");
    let adverts_of_b = counted("b", &lab);
    println!("allocations, adverts: {adverts_of_a:?} left, {adverts_of_b:?} arrived");
    better.stop(Duration::from_secs(10)).unwrap();
    raise(Signal::SIGTERM).unwrap();
    daemon.join().unwrap();
    for (allocations, adverts) in [adverts_of_a, adverts_of_b] {
        assert!(adverts > 100, "{adverts} adverts");
        // The helper is pinged from time to time.
        assert!(allocations * 20 < adverts, "{allocations} allocations for {adverts} adverts");
    }
}

/// What the daemon on `a` allocated in two seconds, and how many adverts there were meanwhile. A
/// machine that stalls for three intervals makes it take over, which allocates: then measure again.
fn counted(name: &str, lab: &Lab) -> (u64, u64) {
    let count = || {
        let (from, before) = (Instant::now(), counting::watched());
        thread::sleep(Duration::from_secs(2));
        let allocations = counting::watched() - before;
        (allocations, lab.observer().adverts(name, from).len() as u64)
    };
    let few = |(allocations, adverts): &(u64, u64)| allocations * 20 < *adverts;
    (0..4).map(|_| count()).find(few).unwrap_or_else(count)
}
