//! Dropping privileges, in a process with a single thread.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

mod lab;
mod suite;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::{fs, io};

use libtest_mimic::Arguments;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use suite::peers::skipped;
use suite::{TestResult, tests};
use vipd::host::privileges::{NEEDED, keep_only, lock_memory, missing, realtime};
use vipd::host::sandbox;

fn main() -> ExitCode {
    // Capabilities belong to a thread: with one at a time the tests run in this one.
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let tests = tests![
        a_daemon_keeps_only_what_it_needs_and_its_children_get_no_more,
        a_daemon_that_has_started_writes_only_in_its_directories,
    ];
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

fn a_daemon_that_has_started_writes_only_in_its_directories() -> TestResult {
    let [own, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (own_file, other_file) = (own.path().join("file"), other.path().join("file"));
    fs::write(&other_file, "before").unwrap();
    // The restrictions are those of a thread, and of what it starts.
    let restricted = std::thread::spawn(move || {
        sandbox::enter(&[own.path(), Path::new("/does/not/exist")]).unwrap();
        fs::create_dir(own.path().join("directory")).unwrap();
        fs::write(&own_file, "written").unwrap();
        fs::rename(&own_file, own.path().join("renamed")).unwrap();
        fs::remove_file(own.path().join("renamed")).unwrap();
        assert_eq!(fs::read_to_string(&other_file).unwrap(), "before");
        let refused = |result: io::Result<()>| result.unwrap_err().kind();
        let denied = io::ErrorKind::PermissionDenied;
        assert_eq!(refused(fs::write(&other_file, "after")), denied);
        assert_eq!(refused(fs::remove_file(&other_file)), denied);
        assert_eq!(refused(fs::create_dir(other.path().join("new"))), denied);
        // Null is no file of anybody's, and a program that is executed is restricted, too.
        fs::write("/dev/null", "").unwrap_err();
        let shell = |line: String| Command::new("/bin/sh").args(["-c", &line]).status().unwrap();
        assert!(shell("exit 0".to_owned()).success());
        assert!(!shell(format!("echo after >{}", other_file.display())).success());
        let none: Option<&str> = None;
        let mounted = mount(none, "/", none, MsFlags::MS_REMOUNT, none);
        assert_eq!(mounted, Err(Errno::EPERM));
        assert_eq!(unshare(CloneFlags::CLONE_NEWNET), Err(Errno::EPERM));
    });
    restricted.join().map_err(|_| "see above".to_owned())?;
    assert!(Command::new("/bin/true").status().unwrap().success());
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
