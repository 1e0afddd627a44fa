//! Rules about the source that the compiler does not check: what the protocol may name, which part
//! may use which, where code may be unsafe or panic. They are checked on the text of the source.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What `src/vrrp` may not name, and why.
const FORBIDDEN_IN_VRRP: [(&str, &str); 22] = [
    ("std::time::Instant", "the time is passed to the protocol"),
    ("std::time::SystemTime", "the time is passed to the protocol"),
    ("SystemTime", "the time is passed to the protocol"),
    ("Instant::now", "the time is passed to the protocol"),
    ("std::net::UdpSocket", "the protocol has no sockets"),
    ("std::net::TcpStream", "the protocol has no sockets"),
    ("std::net::TcpListener", "the protocol has no sockets"),
    ("ToSocketAddrs", "the protocol has no sockets"),
    ("std::os", "the protocol is independent of the system"),
    ("std::fs", "the protocol reads no files"),
    ("std::io", "the protocol reads no files"),
    ("std::env", "the configuration is passed to the protocol"),
    ("std::process", "the protocol starts nothing"),
    ("std::thread", "the protocol has no threads"),
    ("std::sync::mpsc", "the protocol has no threads"),
    ("Mutex", "the protocol has no threads"),
    ("RwLock", "the protocol has no threads"),
    ("Atomic", "the protocol has no threads"),
    ("HashMap", "its order differs from run to run"),
    ("HashSet", "its order differs from run to run"),
    ("f32", "states are compared and hashed"),
    ("f64", "states are compared and hashed"),
];

/// The parts of `src`, each with those that it may use, which lie below it.
const PARTS: [(&str, &[&str]); 15] = [
    ("main", &["cli"]),
    (
        "fuzzing",
        &["api", "cli", "config", "daemon", "doctor", "exporter", "helper", "host", "vrrp"],
    ),
    ("cli", &["api", "config", "daemon", "doctor", "exporter", "helper", "host", "lab", "vrrp"]),
    ("daemon", &["api", "config", "helper", "host", "vrrp"]),
    ("doctor", &["api", "config", "host", "vrrp", "text"]),
    ("exporter", &["api", "host", "vrrp"]),
    ("lab", &["host"]),
    ("helper", &["config", "host", "vrrp", "text"]),
    ("config", &["host", "vrrp", "text"]),
    ("host", &["vrrp"]),
    ("vrrp", &["words"]),
    ("api", &["words"]),
    ("words", &[]),
    ("text", &[]),
    ("lib", &[]),
];

/// What of the protocol the host does not know: it yields events, and the daemon passes them on.
const ELECTION: [&str; 5] = ["Action", "Delivery", "Event", "Node", "VirtualRouter"];

/// How an import may begin in `src/vrrp`: no other crate, no other part of this one.
const VRRP_IMPORTS: [&str; 4] = ["std", "super", "self", "crate::vrrp"];

/// How an import may begin in `src/api`: no other part, and no crate but serde.
const API_IMPORTS: [&str; 4] = ["std", "serde", "serde_json", "super"];

/// Panics that are right: no packet, kernel answer or supported file brings them about.
const ALLOWED_PANICS: [(&str, &str); 1] =
    [("src/host/clock.rs", "expect(\"the kernel has no such clock\")")];

/// Words of code that makes, changes or removes files.
const FILE_CHANGES: [&str; 12] = [
    "File::create",
    "OpenOptions",
    "DirBuilder",
    "create_dir",
    "create_dir_all",
    "fs::write",
    "fs::copy",
    "fs::rename",
    "fs::remove_file",
    "fs::hard_link",
    "fs::set_permissions",
    "symlink",
];

/// Where code may have such a word, and why.
const MAY_CHANGE_FILES: [(&str, &str); 6] = [
    ("src/host/files.rs", "it refuses what others could have put there"),
    ("src/lab", "it has a directory of its own"),
    ("src/cli/man.rs", "it writes where the operator says"),
    ("src/config/load.rs", "it reads"),
    ("src/helper/checks/file.rs", "it reads"),
    ("src/helper/exec_hook.rs", "it writes to /proc"),
];

/// What runs the modules that `/etc/nsswitch.conf` names. The process with the daemon's capabilities
/// has this done by the helper; `vipd check` gives its own up.
const LOOKS_UP: [&str; 9] = [
    "User::from_",
    "Group::from_",
    "getgrouplist",
    "initgroups",
    "ToSocketAddrs",
    "lookup_host",
    "find_program",
    "config::examine",
    ".check_host()",
];

/// The directory whose code may be `unsafe`.
const UNSAFE_CODE: &str = "src/host/sys";

/// Documents, in which every path must lead to a file or a directory.
const DOCUMENTS: [&str; 12] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "benches/README.md",
    "etc/examples/README.md",
    "etc/examples/from-keepalived.md",
    "etc/examples/haproxy/README.md",
    "etc/examples/nginx/README.md",
    "etc/examples/postgresql/README.md",
    "etc/glossary.md",
];

/// How a path in a document begins.
const PATHS: [&str; 9] =
    ["../", ".ci/", "benches/", "etc/", "fuzz/", "netns-tests/", "src/", "systemd/", "tests/"];

/// Files whose paths are known outside, or that a reader looks for first.
const REQUIRED: [&str; 12] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "etc/vipd.toml",
    "src/lib.rs",
    "src/main.rs",
    "src/vrrp/advert.rs",
    "src/vrrp/node/mod.rs",
    "src/vrrp/router/mod.rs",
    "src/host/sys/mod.rs",
    "systemd/vipd.service",
];

#[test]
fn the_protocol_names_no_clock_socket_file_or_thread() {
    assert_none(sources("src/vrrp").flat_map(|file| forbidden_names(&file)));
}

#[test]
fn the_protocol_uses_nothing_but_std_and_itself() {
    assert_none(sources("src/vrrp").flat_map(|file| forbidden_imports(&file)));
}

#[test]
fn the_api_uses_nothing_but_std_serde_and_itself() {
    assert_none(sources("src/api").flat_map(|file| imports_beyond(&file, &API_IMPORTS)));
    assert_none(sources("src/api").flat_map(|file| other_crates(&file)));
}

#[test]
fn parts_use_only_the_parts_below_them() {
    assert_none(sources("src").flat_map(|file| forbidden_arrows(&file)));
}

#[test]
fn the_table_of_parts_is_complete_and_has_no_circle() {
    let parts = sources("src").map(|file| part(&file.path)).collect::<BTreeSet<_>>();
    let missing = parts.iter().filter(|part| !PARTS.iter().any(|(name, _)| name == part));
    assert_none(missing.map(|part| format!("{part} is not in the table")));
    for (n, (name, below)) in PARTS.iter().enumerate() {
        assert!(parts.contains(*name), "src has no {name}");
        for other in *below {
            let later = PARTS[n + 1..].iter().any(|(name, _)| name == other);
            assert!(later, "{name} uses {other}, which is not below it in the table");
        }
    }
}

#[test]
fn the_architecture_lists_what_each_part_uses() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (name, below) in PARTS.iter().filter(|(name, _)| !["main", "lib"].contains(name)) {
        let begins = [format!("| `src/{name}/`"), format!("| `src/{name}.rs`")];
        let row = text.lines().find(|line| begins.iter().any(|begin| line.starts_with(begin)));
        let uses = row.and_then(|row| row.split('|').nth(3)).unwrap_or_default().trim();
        let parts = uses.split(", ").filter(|part| !["std", "serde"].contains(part));
        assert_eq!(parts.collect::<BTreeSet<_>>(), below.iter().copied().collect(), "{name}");
    }
}

#[test]
fn the_modules_of_a_part_form_no_circle() {
    for (name, _) in PARTS.iter().filter(|(name, _)| root().join("src").join(name).is_dir()) {
        assert_none(circle(&sources(&format!("src/{name}")).collect::<Vec<_>>()));
    }
}

#[test]
fn the_host_does_not_know_the_election() {
    assert_none(sources("src/host").flat_map(|file| election_in(&file)));
}

#[test]
fn files_are_made_and_changed_in_one_place() {
    let may = |file: &Source| MAY_CHANGE_FILES.iter().any(|(path, _)| file.path.starts_with(path));
    assert_none(sources("src").filter(|file| !may(file)).flat_map(|file| file_changes(&file)));
}

#[test]
fn the_daemon_looks_up_neither_users_nor_names() {
    for part in ["src/daemon", "src/host", "src/vrrp", "src/api"] {
        assert_none(sources(part).flat_map(|file| {
            LOOKS_UP
                .iter()
                .flat_map(|word| named(&file, word, "only the helper may"))
                .collect::<Vec<_>>()
        }));
    }
}

#[test]
fn unsafe_code_is_in_one_directory() {
    let others = || sources("src").filter(|file| !file.path.starts_with(UNSAFE_CODE));
    let why = format!("only {UNSAFE_CODE} may");
    assert_none(others().flat_map(|file| named(&file, "unsafe", &why)));
    assert_none(others().flat_map(|file| named(&file, "allow(unsafe_code)", &why)));
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    assert_none(sources(UNSAFE_CODE).flat_map(|file| unsafe_without_reason(&file)));
}

#[test]
fn no_code_panics_where_it_could_return_an_error() {
    assert_none(sources("src").flat_map(|file| panics_in(&file)));
}

#[test]
fn the_files_that_a_reader_looks_for_exist() {
    let missing = REQUIRED.iter().filter(|path| !root().join(path).is_file());
    assert_none(missing.map(|path| format!("{path} is missing")));
}

#[test]
fn the_architecture_has_less_than_150_lines() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() < 150, "ARCHITECTURE.md has {} lines", text.lines().count());
}

#[test]
fn files_that_documents_name_or_link_to_exist() {
    assert_none(DOCUMENTS.iter().flat_map(|document| {
        let text = fs::read_to_string(root().join(document)).unwrap();
        dead_paths(document, &text)
    }));
}

// ---- the rules themselves --------------------------------------------------------------------------

#[test]
fn a_planted_clock_socket_float_or_lock_is_found() {
    for (word, _) in FORBIDDEN_IN_VRRP {
        let planted = Source::planted(&format!("fn f() {{\n    let x = {word}::new();\n}}\n"));
        let found = forbidden_names(&planted);
        assert!(found.iter().any(|line| line.contains("planted.rs:2")), "{word}: {found:?}");
    }
    let grouped = Source::planted("use std::{fs, thread};\nuse std::time::{Duration, Instant};\n");
    let found = forbidden_names(&grouped);
    assert!(found.iter().any(|line| line.contains("std::fs")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("std::thread")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("std::time::Instant")), "{found:?}");
}

#[test]
fn similar_words_are_not_found() {
    let harmless =
        "use std::time::Duration;\nuse super::time::Instant;\n// std::fs\nlet f64x = 1;\n";
    assert_none(forbidden_names(&Source::planted(harmless)));
    let test = "#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}\n";
    assert_none(forbidden_names(&Source::planted(test)));
    let comment = "/// [`Instant`] is no HashMap.\nstruct S; // no Mutex either\n";
    assert_none(forbidden_names(&Source::planted(comment)));
}

#[test]
fn a_planted_import_is_found() {
    for line in ["use tokio::time;", "use crate::host::clock;", "pub use libc::c_int;"] {
        let planted = Source::planted(&format!("{line}\n"));
        assert_eq!(forbidden_imports(&planted).len(), 1, "{line}");
    }
    for line in ["use std::fmt;", "use super::config::Vrid;", "use crate::vrrp::Node;"] {
        assert_none(forbidden_imports(&Source::planted(&format!("{line}\n"))));
    }
}

#[test]
fn a_planted_use_of_another_part_is_found() {
    let found = |path: &str, text: &str| {
        forbidden_arrows(&Source::new(Path::new(path), &format!("{text}\n"))).len()
    };
    for (path, line) in [
        ("src/host/clock.rs", "use crate::daemon::Options;"),
        ("src/host/clock.rs", "use crate::{helper::Outcome, vrrp::Vrid};"),
        ("src/host/clock.rs", "    let config = crate::config::Config::parse(name, text);"),
        ("src/host/clock.rs", "use super::super::helper;"),
        ("src/host/netlink/links.rs", "use super::super::super::api::status::Status;"),
        ("src/config/mod.rs", "use super::helper::Helper;"),
        ("src/vrrp/node.rs", "fn f(clock: &crate::host::clock::Clock) {}"),
        ("src/api/status.rs", "pub use crate::vrrp::Role;"),
        ("src/words.rs", "use crate::daemon;"),
        ("src/main.rs", "    vipd::daemon::run(&options)"),
        ("src/host/clock.rs", "    super::super::config::keys()"),
        ("src/host/clock.rs", "#[cfg(test)]\nmod tests {\n    use crate::daemon;\n}"),
        ("src/host/clock.rs", "#[cfg(test)]\nmod tests {\n    use super::super::super::api;\n}"),
    ] {
        assert_eq!(found(path, line), 1, "{path}: {line}");
    }
    for (path, line) in [
        ("src/host/clock.rs", "use crate::host::sys;"),
        ("src/host/clock.rs", "use crate::vrrp::{Node, Vrid};"),
        ("src/host/clock.rs", "use super::sys; // crate::daemon"),
        ("src/host/clock.rs", "    super::sys::config()"),
        ("src/host/clock.rs", "#[cfg(test)]\nmod tests {\n    use super::super::api;\n}"),
        ("src/host/netlink/links.rs", "use super::super::clock;"),
        ("src/daemon/mod.rs", "use crate::{api::status::Status, helper};"),
        ("src/main.rs", "    vipd::cli::main()"),
        ("src/lib.rs", "pub mod vrrp;"),
    ] {
        assert_eq!(found(path, line), 0, "{path}: {line}");
    }
}

#[test]
fn a_planted_use_of_the_election_by_the_host_is_found() {
    for line in [
        "use crate::vrrp::{Address, Node};",
        "use crate::vrrp::event::Event;",
        "    vrrp::Action::Release",
    ] {
        assert!(!election_in(&Source::planted(&format!("{line}\n"))).is_empty(), "{line}");
    }
    for line in ["use tracing::Event;", "use crate::vrrp::{Address, RecordEntry};"] {
        assert_none(election_in(&Source::planted(&format!("{line}\n"))));
    }
}

#[test]
fn a_planted_change_of_a_file_is_found() {
    for word in FILE_CHANGES {
        let planted = format!("fn f() {{\n    std::fs::{word}(path);\n}}\n");
        assert!(!file_changes(&Source::planted(&planted)).is_empty(), "{word}");
    }
    let harmless = "use std::fs::File;\n    let text = std::fs::read(path); // fs::write\n";
    assert_none(file_changes(&Source::planted(harmless)));
}

#[test]
fn a_planted_circle_is_found() {
    let file = |path: &str, text: &str| Source::new(Path::new(path), text);
    let root = || file("src/vrrp/mod.rs", "pub use a::A;\npub use b::*;\n");
    let a = |text| file("src/vrrp/a.rs", text);
    let b = || file("src/vrrp/b/mod.rs", "use super::A;\npub struct B;\n");
    let inner = file("src/vrrp/b/inner.rs", "use super::B;\nuse crate::vrrp::a::A;\n");
    assert_none(circle(&[root(), a("pub struct A;\n"), b(), inner]));
    assert_eq!(circle(&[root(), a("use super::b::C;\n"), b()]).len(), 2);
    assert_eq!(circle(&[root(), a("use crate::vrrp::B;\n"), b()]).len(), 2);
}

#[test]
fn a_planted_crate_in_the_api_is_found() {
    for line in ["use humantime::format_rfc3339;", "    let now = libc::time(null());"] {
        assert_eq!(other_crates(&Source::planted(&format!("{line}\n"))).len(), 1, "{line}");
    }
    for line in ["use serde::Serialize;", "use std::time::Duration;", "use super::status::Status;"]
    {
        assert_none(other_crates(&Source::planted(&format!("{line}\n"))));
    }
}

#[test]
fn a_planted_dead_path_is_found() {
    for text in ["`src/no.rs`", "in src/vrrp/no/.", "see `NO.md`", "[x](no.svg)", "`../no`"] {
        assert_eq!(dead_paths("etc/examples/README.md", text).len(), 1, "{text}");
    }
    for text in ["`src/main.rs`", "../build-packages.", "[x](../vipd.toml)", "[x](https://x.y)"] {
        assert_none(dead_paths("etc/examples/README.md", text));
    }
}

#[test]
fn a_planted_unwrap_is_found_and_one_in_a_test_is_not() {
    assert_eq!(panics_in(&Source::planted("fn f() {\n    x.unwrap();\n}\n")).len(), 1);
    assert_eq!(panics_in(&Source::planted("fn f() {\n    x.expect(\"y\");\n}\n")).len(), 1);
    assert_none(panics_in(&Source::planted("x.unwrap_or(1); // x.unwrap()\n")));
    let test = "#[cfg(test)]\nmod tests {\n    fn f() {\n        x.unwrap();\n    }\n}\n";
    assert_none(panics_in(&Source::planted(test)));
    let after = "#[cfg(test)]\nmod tests {\n}\n\nfn f() {\n    x.unwrap();\n}\n";
    assert_eq!(panics_in(&Source::planted(after)).len(), 1);
}

#[test]
fn a_planted_unsafe_without_reason_is_found() {
    let bare = "fn f() {\n    unsafe { g() }\n}\n";
    assert_eq!(unsafe_without_reason(&Source::planted(bare)).len(), 1);
    let bare = "unsafe impl Send for S {}\n";
    assert_eq!(unsafe_without_reason(&Source::planted(bare)).len(), 1);
    let reasoned = "fn f() {\n    // SAFETY: g does nothing.\n    unsafe { g() }\n}\n";
    assert_none(unsafe_without_reason(&Source::planted(reasoned)));
}

// ---- reading source ----------------------------------------------------------------------------

/// One file: its lines, and which of them are code that ends up in the program, or in tests.
struct Source {
    path: PathBuf,
    lines: Vec<String>,
    code: Vec<Option<String>>,
    tests: Vec<Option<String>>,
}

impl Source {
    fn read(path: &Path) -> Source {
        Source::new(path, &fs::read_to_string(root().join(path)).unwrap())
    }

    fn planted(text: &str) -> Source {
        Source::new(Path::new("planted.rs"), text)
    }

    fn new(path: &Path, text: &str) -> Source {
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        let (mut code, mut tests) = (Vec::new(), Vec::new());
        let mut in_tests = false;
        for (n, line) in lines.iter().enumerate() {
            let begins = line.trim() == "#[cfg(test)]"
                && lines.get(n + 1).is_some_and(|next| next.starts_with("mod "));
            in_tests |= begins;
            code.push((!in_tests).then(|| without_comment(line)));
            tests.push(in_tests.then(|| without_comment(line)));
            if in_tests && line == "}" {
                in_tests = false;
            }
        }
        Source { path: path.to_path_buf(), lines, code, tests }
    }

    /// Its module of tests, as if that were a file.
    fn tests(&self) -> Source {
        let module = self.path.with_extension("");
        let module = if module.ends_with("mod") { module.parent().unwrap() } else { &module };
        let path = module.join("tests.rs");
        Source { path, lines: Vec::new(), code: self.tests.clone(), tests: Vec::new() }
    }

    /// Number and text of each line of code.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().filter_map(|(n, line)| Some((n + 1, line.as_deref()?)))
    }
}

/// Rust sources below `directory`, without the files that are tests altogether.
fn sources(directory: &str) -> impl Iterator<Item = Source> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources below {directory}");
    found.into_iter().map(|path| Source::read(&path))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The paths in a document that exist neither beside it nor in the project's root.
fn dead_paths(document: &str, text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || "/_.-".contains(c)));
    let paths = words.map(|word| word.trim_end_matches('.')).filter(|word| {
        let file = word.ends_with(".md") && !word.starts_with('/');
        file || PATHS.iter().any(|path| word.starts_with(path))
    });
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let paths: BTreeSet<_> = paths.chain(links.filter(|link| !link.contains("://"))).collect();
    let beside = root().join(document).parent().unwrap().to_path_buf();
    let dead = |path: &&str| !root().join(path).exists() && !beside.join(path).exists();
    paths.into_iter().filter(dead).map(|path| format!("{document} names {path}")).collect()
}

/// Cut at `//`, unless that is inside a string.
fn without_comment(line: &str) -> String {
    let mut quoted = false;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' if before != '\\' => quoted = !quoted,
            '/' if before == '/' && !quoted => return line[..at - 1].to_string(),
            _ => {}
        }
        before = c;
    }
    line.to_string()
}

/// Lines in which `word` stands alone, as code.
fn named(file: &Source, word: &str, why: &str) -> Vec<String> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let alone = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            !before.is_some_and(part) && !after.is_some_and(part)
        })
    };
    let report = |n: usize| format!("{}:{n}: {word}: {why}", file.path.display());
    file.code().filter(|(_, line)| alone(line)).map(|(n, _)| report(n)).collect()
}

fn forbidden_names(file: &Source) -> Vec<String> {
    let mut found: Vec<String> =
        FORBIDDEN_IN_VRRP.iter().flat_map(|(word, why)| named(file, word, why)).collect();
    // `AtomicU64` and its kind are words of their own.
    for (n, line) in file.code().filter(|(_, line)| line.contains("Atomic")) {
        found.push(format!("{}:{n}: {}", file.path.display(), line.trim()));
    }
    for path in imports(file) {
        for (word, why) in FORBIDDEN_IN_VRRP {
            if path == word || path.starts_with(&format!("{word}::")) {
                found.push(format!("{}: {path}: {why}", file.path.display()));
            }
        }
    }
    found
}

fn forbidden_imports(file: &Source) -> Vec<String> {
    imports_beyond(file, &VRRP_IMPORTS)
}

fn imports_beyond(file: &Source, roots: &[&str]) -> Vec<String> {
    // A module may import from those that it declares itself.
    let declared = file.code().filter_map(|(_, line)| {
        line.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')
    });
    let roots: Vec<&str> = roots.iter().copied().chain(declared).collect();
    let inside = |path: &String| {
        roots.iter().any(|root| path == root || path.starts_with(&format!("{root}::")))
    };
    let others = imports(file).into_iter().filter(|path| !inside(path));
    others.map(|path| format!("{}: use {path}", file.path.display())).collect()
}

/// The part of `src` that a file belongs to: a directory, or a file beside `lib.rs`.
fn part(path: &Path) -> String {
    let first = path.components().nth(1).unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Uses of parts that the table does not allow, in imports and in paths within code.
fn forbidden_arrows(file: &Source) -> Vec<String> {
    let own = part(&file.path);
    let allowed = PARTS.iter().find(|(name, _)| *name == own).map_or(&[][..], |(_, below)| below);
    let mut used = used_parts(file);
    used.extend(used_parts(&file.tests()));
    let known = |name: &&String| PARTS.iter().any(|(part, _)| part == name);
    let others = used.iter().filter(known).filter(|name| **name != own);
    let forbidden = others.filter(|name| !allowed.contains(&name.as_str()));
    forbidden.map(|name| format!("{}: {own} may not use {name}", file.path.display())).collect()
}

fn used_parts(file: &Source) -> BTreeSet<String> {
    let imports = imports(file).into_iter();
    let mut used: BTreeSet<_> =
        imports.filter_map(|path| part_of_import(&file.path, &path)).collect();
    for path in file.code().flat_map(|(_, line)| paths(line)) {
        let names: Vec<&str> = path.split("::").collect();
        let root = names.iter().position(|name| ["crate", "vipd"].contains(name));
        used.extend(root.and_then(|at| names.get(at + 1)).map(|name| (*name).to_owned()));
        used.extend(part_of_import(&file.path, path).filter(|_| names[0] == "super"));
    }
    used
}

/// Words with `::` between them.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .filter(|it| it.contains("::"))
}

fn file_changes(file: &Source) -> Vec<String> {
    let why = "src/host/files.rs does that";
    let found = FILE_CHANGES.iter().flat_map(|word| {
        // Also imported by itself.
        let short = word.rsplit("::").next().unwrap_or(word);
        let imported =
            imports(file).into_iter().filter(move |path| path.ends_with(&format!("fs::{short}")));
        let imported = imported.map(|path| format!("{}: {path}: {why}", file.path.display()));
        named(file, word, why).into_iter().chain(imported)
    });
    found.collect()
}

fn election_in(file: &Source) -> Vec<String> {
    let code = file.code().flat_map(|(_, line)| paths(line)).map(str::to_owned);
    let found = imports(file).into_iter().chain(code).filter(|path| {
        let mut names = path.split("::").skip_while(|name| *name != "vrrp");
        names.any(|name| ELECTION.contains(&name))
    });
    found.map(|path| format!("{}: {path}", file.path.display())).collect()
}

/// Modules of one part that use one another in a circle. A directory is one module, and `mod.rs` of
/// the part is none.
fn circle(files: &[Source]) -> Vec<String> {
    let module = |file: &Source| {
        let name = file.path.components().nth(2).unwrap();
        Path::new(name.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
    };
    let (roots, files): (Vec<&Source>, Vec<&Source>) =
        files.iter().partition(|file| module(file) == "mod");
    let modules: BTreeSet<String> = files.iter().map(|file| module(file)).collect();
    let mut exports = BTreeMap::new();
    for path in roots.iter().flat_map(|root| imports(root)) {
        let Some((from, name)) = path.split_once("::").filter(|(from, _)| modules.contains(*from))
        else {
            continue;
        };
        let inside = files.iter().filter(|file| name == "*" && module(file) == from);
        exports.extend(inside.flat_map(|file| public(file)).map(|name| (name, from.to_owned())));
        exports.insert(name.rsplit("::").next().unwrap().to_owned(), from.to_owned());
    }
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in &files {
        let own = module(file);
        let used = imports(file).into_iter().filter_map(|path| {
            let name = name_in_part(&file.path, &path)?;
            if modules.contains(&name) { Some(name) } else { exports.get(&name).cloned() }
        });
        uses.entry(own.clone()).or_default().extend(used.filter(|used| *used != own));
    }
    // What uses nothing that is left is in no circle.
    loop {
        let before = uses.len();
        let left: BTreeSet<String> = uses.keys().cloned().collect();
        uses.retain(|_, used| !used.is_disjoint(&left));
        if uses.len() == before {
            break;
        }
    }
    uses.into_iter().map(|(module, used)| format!("{module} uses {used:?}")).collect()
}

/// The first name below the file's own part that an import leads to.
fn name_in_part(file: &Path, import: &str) -> Option<String> {
    let names: Vec<&str> = import.split("::").collect();
    let up = names.iter().take_while(|name| **name == "super").count();
    let in_own = names[0] == "crate" && names.get(1) == Some(&part(file).as_str());
    let from_within = up > 0 && up + 1 == depth(file)?;
    let at = if in_own { 2 } else { up };
    names.get(at).filter(|_| in_own || from_within).map(|name| (*name).to_owned())
}

/// The names of what a file defines and makes public.
fn public(file: &Source) -> Vec<String> {
    let kinds = ["struct", "enum", "trait", "type", "const", "fn"];
    let defined = file.code().filter_map(|(_, line)| {
        let mut words = line.trim().strip_prefix("pub ")?.split([' ', '(', '<', ':', ';']);
        words.by_ref().find(|word| kinds.contains(word))?;
        words.next().map(str::to_owned)
    });
    defined.collect()
}

/// How often `super` leads out of the part that the file belongs to.
fn depth(file: &Path) -> Option<usize> {
    let inner = file.components().count() - 1;
    Some(if file.file_name()? == "mod.rs" { inner - 1 } else { inner })
}

/// The part that an import leads to, if it leads out of the file's own part.
fn part_of_import(file: &Path, import: &str) -> Option<String> {
    let names: Vec<&str> = import.split("::").collect();
    let up = names.iter().take_while(|name| **name == "super").count();
    let outside = up == depth(file)? || (up == 0 && ["crate", "vipd"].contains(&names[0]));
    let part = names.get(up.max(1)).filter(|_| outside)?;
    Some((*part).to_owned())
}

/// The crates that the file names, in imports and in paths within code, without those that it may.
fn other_crates(file: &Source) -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, after) = manifest.split_once("[dependencies]\n").unwrap();
    let (dependencies, _) = after.split_once("\n[").unwrap();
    let names =
        dependencies.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let crates = names.map(|name| name.replace('-', "_"));
    let others: Vec<_> = crates.filter(|name| !API_IMPORTS.contains(&name.as_str())).collect();
    let leads = |path: &str, name: &str| path.split("::").next() == Some(name);
    let begins = |line: &str, name: &str| {
        let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        line.match_indices(&format!("{name}::")).any(|(at, _)| !line[..at].ends_with(part))
    };
    let mut found = Vec::new();
    for name in &others {
        let imported = imports(file).iter().any(|path| leads(path, name));
        if imported || file.code().any(|(_, line)| begins(line, name)) {
            found.push(format!("{}: {name}: only serde may be used", file.path.display()));
        }
    }
    found
}

/// Every path that the file imports, groups expanded. An import begins a line.
fn imports(file: &Source) -> Vec<String> {
    let mut paths = Vec::new();
    let mut begun: Option<String> = None;
    for (_, line) in file.code() {
        let line = line.trim();
        let public = ["pub(crate) ", "pub(super) ", "pub "];
        let item = public.iter().find_map(|prefix| line.strip_prefix(prefix)).unwrap_or(line);
        let tree = match (begun.take(), item.strip_prefix("use ")) {
            (Some(tree), _) => format!("{tree} {line}"),
            (None, Some(tree)) => tree.to_owned(),
            (None, None) => continue,
        };
        match tree.split_once(';') {
            Some((tree, _)) => expand("", tree, &mut paths),
            None => begun = Some(tree),
        }
    }
    paths
}

fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some(open) = tree.find('{') else {
        let name = tree.split(" as ").next().unwrap_or(tree).trim();
        paths.push(format!("{prefix}{name}"));
        return;
    };
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let mut depth = 0;
    let parts = inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    for part in parts.filter(|part| !part.trim().is_empty()) {
        expand(&prefix, part, paths);
    }
}

/// `unwrap` and `expect` where a program runs.
fn panics_in(file: &Source) -> Vec<String> {
    let may_panic = |line: &str| line.contains(".unwrap()") || line.contains(".expect(");
    let allowed = |line: &str| {
        let is = |(path, what): &(&str, &str)| file.path == Path::new(path) && line.contains(what);
        ALLOWED_PANICS.iter().any(is)
    };
    let report = |(n, line): (usize, &str)| format!("{}:{n}: {}", file.path.display(), line.trim());
    file.code().filter(|(_, line)| may_panic(line) && !allowed(line)).map(report).collect()
}

fn unsafe_without_reason(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let begins = |line: &str| line.contains("unsafe {") || line.contains("unsafe impl");
    for (n, line) in file.code().filter(|(_, line)| begins(line)) {
        let above = file.lines[..n - 1].iter().rev().take(6);
        if !above.clone().any(|line| line.contains("SAFETY")) {
            found.push(format!("{}:{n}: {}", file.path.display(), line.trim()));
        }
    }
    found
}

fn assert_none(found: impl IntoIterator<Item = String>) {
    let found: Vec<String> = found.into_iter().collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
