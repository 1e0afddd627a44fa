//! The systemd units, checked by systemd-analyze.
#![allow(clippy::unwrap_used)]

mod peers;

use std::fs;
use std::path::Path;
use std::process::Command;

use peers::skipped;

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd");

/// Whether systemd-analyze is installed; if not, the test is skipped, or fails if skipping is not
/// allowed.
fn has_systemd_analyze(test: &str) -> bool {
    let found = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !found {
        skipped(test, "systemd-analyze is not installed");
    }
    found
}

#[test]
fn systemd_accepts_the_units() {
    if !has_systemd_analyze("systemd_accepts_the_units") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for name in ["vipd.service", "vipd-exporter.service"] {
        let unit = directory.path().join(name);
        let text = fs::read_to_string(Path::new(UNITS).join(name)).unwrap();
        // systemd-analyze wants the program to exist, which need not be installed here.
        fs::write(&unit, text.replace("/usr/bin/vipd", env!("CARGO_BIN_EXE_vipd"))).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&unit)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // Messages about other units of this machine do not count.
        let about_us: Vec<_> = said.lines().filter(|line| line.contains("vipd")).collect();
        assert!(about_us.is_empty(), "{said}");
        assert!(output.status.success(), "{said}");
    }
}

#[test]
fn the_unit_of_the_daemon_restricts_all_but_what_hooks_need() {
    assert_exposed_at_most("vipd.service", 30);
}

#[test]
fn a_hook_that_exhausts_memory_or_processes_stops_neither_the_unit_nor_the_host() {
    let unit = fs::read_to_string(Path::new(UNITS).join("vipd.service")).unwrap();
    let value = |key: &str| {
        let set = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        set.collect::<Vec<_>>()
    };
    assert_eq!(value("OOMPolicy"), ["continue"]);
    assert_eq!(value("LimitCORE"), ["0"]);
    let [most] = *value("TasksMax") else { panic!("TasksMax is not set once") };
    assert!((1000..=10_000).contains(&most.parse::<u32>().unwrap()), "{most}");
}

#[test]
fn the_unit_of_the_exporter_restricts_nearly_everything() {
    assert_exposed_at_most("vipd-exporter.service", 12);
}

/// Exposure in tenths, above which systemd-analyze fails.
fn assert_exposed_at_most(unit: &str, tenths: u32) {
    if !has_systemd_analyze(unit) {
        return;
    }
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(format!("--threshold={tenths}"))
        .arg(Path::new(UNITS).join(unit))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
