//! Dropping privileges, in a process with a single thread.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

mod lab;
mod suite;

use std::fs;
use std::process::{Command, ExitCode};

use libtest_mimic::Arguments;
use suite::peers::skipped;
use suite::{TestResult, tests};
use vipd::host::privileges::{NEEDED, keep_only, lock_memory, missing, realtime};

fn main() -> ExitCode {
    // Capabilities belong to a thread: with one at a time the tests run in this one.
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let tests = tests![a_daemon_keeps_only_what_it_needs_and_its_children_get_no_more];
    suite::run(&arguments, tests)
}

fn a_daemon_keeps_only_what_it_needs_and_its_children_get_no_more() -> TestResult {
    if !nix::unistd::geteuid().is_root() || !missing().is_empty() {
        return Err("there are no privileges to give up".to_owned());
    }
    match realtime(10) {
        Ok(()) => {
            assert_eq!(policy(&fs::read_to_string("/proc/self/stat").unwrap()), "1");
            assert_eq!(policy(&cat("/proc/self/stat")), "0");
        }
        Err(error) => skipped("real-time priority", &error.to_string()),
    }
    let locked = lock_memory();
    match &locked {
        Ok(()) => {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let size = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
            assert_ne!(size.trim(), "0 kB");
        }
        // Also where every peer is required: a container without CAP_SYS_RESOURCE cannot have it.
        Err(error) => println!("SKIPPED locked memory: {error}"),
    }
    keep_only(&NEEDED).unwrap();
    assert!(missing().is_empty());
    let expected = [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000003000",
        "CapEff:\t0000000000003000",
        "CapBnd:\t0000000000003000",
        "CapAmb:\t0000000000000000",
    ];
    assert_eq!(capabilities(&fs::read_to_string("/proc/self/status").unwrap()), expected);
    assert_eq!(capabilities(&cat("/proc/self/status")), expected);
    if locked.is_ok() {
        // Locked memory is not limited now.
        let large = vec![1_u8; 64 * 1024 * 1024];
        assert_eq!(std::thread::spawn(move || large.len()).join().unwrap(), 64 * 1024 * 1024);
    }
    Ok(())
}

/// The contents of a file as read by a child of this process.
fn cat(file: &str) -> String {
    String::from_utf8(Command::new("cat").arg(file).output().unwrap().stdout).unwrap()
}

/// The scheduling policy in a stat file of /proc, its 41st field.
fn policy(stat: &str) -> &str {
    stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap()
}

fn capabilities(status: &str) -> Vec<&str> {
    status.lines().filter(|line| line.starts_with("Cap")).collect()
}
