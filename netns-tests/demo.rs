//! `vipd demo` succeeds, and leaves nothing behind when it is interrupted.

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::lab::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::suite::{Test, tests};

pub fn tests() -> Vec<Test> {
    tests![the_demo_shows_what_it_promises, an_interrupted_demo_leaves_nothing_behind]
}

fn the_demo_shows_what_it_promises() {
    let run = || Command::new(env!("CARGO_BIN_EXE_vipd")).arg("demo").output().unwrap();
    let too_busy = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("too busy");
    let mut output = run();
    for _ in 0..4 {
        if too_busy(&output) {
            output = run();
        }
    }
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    assert!(said.lines().all(|line| line.chars().count() <= 80), "wider than a terminal:\n{said}");
    assert!(!said.contains('\x1b'), "colours where nobody looks:\n{said}");
}

fn an_interrupted_demo_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_vipd"))
        .arg("demo")
        .env("TMPDIR", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Both daemons of the lab run by then.
    std::thread::sleep(Duration::from_secs(2));
    kill(Pid::from_raw(i32::try_from(demo.id()).unwrap()), Signal::SIGINT).unwrap();
    let status = wait_for(Duration::from_secs(5), || demo.try_wait().unwrap()).unwrap();
    let mut said = String::new();
    demo.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(dir.path().read_dir().unwrap().next().is_none(), "files are left");
    // Every process of the lab has its directory in its arguments.
    let mark = dir.path().display().to_string();
    let left = wait_for(Duration::from_secs(3), || commands(&mark).is_empty().then_some(()));
    assert!(left.is_some(), "processes are left: {:?}", commands(&mark));
}

/// The command lines of all processes that mention `mark`.
fn commands(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(mark))
        .collect()
}
