//! The unit as systemd reads it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

/// Whether systemd-analyze is there; if not, the test is not run, or fails where that is not
/// acceptable.
fn has_systemd_analyze(test: &str) -> bool {
    let found = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !found {
        let why = format!("SKIPPED {test}: no systemd-analyze here");
        assert!(std::env::var_os("VIPD_TESTS_REQUIRE_PEERS").is_none_or(|v| v != "1"), "{why}");
        println!("{why}");
    }
    found
}

#[test]
fn systemd_finds_no_fault_with_the_unit() {
    if !has_systemd_analyze("systemd_finds_no_fault_with_the_unit") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("vipd.service");
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/vipd.service"));
    // It looks for the program, which need not be installed here.
    let text = text.unwrap().replace("/usr/bin/vipd", env!("CARGO_BIN_EXE_vipd"));
    fs::write(&unit, text).unwrap();
    let output =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Other units of this machine are not ours to judge.
    let about_us: Vec<_> = said.lines().filter(|line| line.contains("vipd")).collect();
    assert!(about_us.is_empty(), "{said}");
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_unit_is_exposed_to_no_more_than_hooks_need() {
    if !has_systemd_analyze("the_unit_is_exposed_to_no_more_than_hooks_need") {
        return;
    }
    // systemd-analyze fails above the threshold, which is in tenths.
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold=30"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/vipd.service"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
