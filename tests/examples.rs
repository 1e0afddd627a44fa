//! The files in etc/examples/ are valid. That they work is shown by `cargo bench --bench
//! examples`, with the real programs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/examples")
}

fn directories() -> Vec<PathBuf> {
    let entries = fs::read_dir(examples()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

fn hooks() -> Vec<PathBuf> {
    let dirs = directories().into_iter().map(|dir| dir.join("hooks")).filter(|dir| dir.is_dir());
    let entries = dirs.flat_map(|dir| fs::read_dir(dir).unwrap());
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_example_passes_vipd_check_without_a_note() {
    assert!(directories().len() >= 3);
    for dir in directories() {
        let output = Command::new(env!("CARGO_BIN_EXE_vipd"))
            .args(["check", "--file-only"])
            .arg(dir.join("vipd.toml"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complained}", dir.display());
        assert!(said.starts_with("ok: "), "{said}");
        assert!(!said.lines().next().unwrap().contains("note"), "{}: {said}", dir.display());
        assert!(complained.is_empty(), "{complained}");
    }
}

#[test]
fn every_hook_that_an_example_names_is_there_and_can_be_executed() {
    for dir in directories() {
        let text = fs::read_to_string(dir.join("vipd.toml")).unwrap();
        let named = text.split('"').filter_map(|word| word.strip_prefix("/etc/vipd/hooks/"));
        let named: BTreeSet<&str> = named.collect();
        for name in &named {
            let file = dir.join("hooks").join(name);
            let mode = fs::metadata(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(mode.permissions().mode() & 0o111, 0o111, "{}", file.display());
        }
    }
}

#[test]
fn every_hook_is_a_shell_script_without_errors_of_syntax() {
    assert!(hooks().len() >= 5);
    for hook in hooks() {
        let output = Command::new("sh").arg("-n").arg(&hook).output().unwrap();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complained}", hook.display());
    }
}

#[test]
fn every_example_says_what_it_is_for() {
    for dir in directories() {
        assert!(dir.join("README.md").is_file(), "{}", dir.display());
    }
}
