//! The fence round the protocol, and what the house promises about itself.
//!
//! It reads the source as text: a rule that a newcomer can break without a compiler's word.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// What `src/vrrp` may not name, and why.
const FENCED: [(&str, &str); 22] = [
    ("std::time::Instant", "the protocol is told the time"),
    ("std::time::SystemTime", "the protocol is told the time"),
    ("SystemTime", "the protocol is told the time"),
    ("Instant::now", "the protocol is told the time"),
    ("std::net::UdpSocket", "the protocol has no sockets"),
    ("std::net::TcpStream", "the protocol has no sockets"),
    ("std::net::TcpListener", "the protocol has no sockets"),
    ("ToSocketAddrs", "the protocol has no sockets"),
    ("std::os", "the protocol knows no machine"),
    ("std::fs", "the protocol reads no files"),
    ("std::io", "the protocol reads no files"),
    ("std::env", "the protocol is told its configuration"),
    ("std::process", "the protocol starts nothing"),
    ("std::thread", "the protocol does one thing at a time"),
    ("std::sync::mpsc", "the protocol does one thing at a time"),
    ("Mutex", "the protocol does one thing at a time"),
    ("RwLock", "the protocol does one thing at a time"),
    ("Atomic", "the protocol does one thing at a time"),
    ("HashMap", "its order differs from run to run"),
    ("HashSet", "its order differs from run to run"),
    ("f32", "states are compared and hashed"),
    ("f64", "states are compared and hashed"),
];

/// Where a use may begin in `src/vrrp`: nothing from crates.io, nothing from the rest of ours.
const ROOTS: [&str; 4] = ["std", "super", "self", "crate::vrrp"];

/// Where a use may begin in `src/api`.
const API_ROOTS: [&str; 4] = ["std", "serde", "serde_json", "super"];

/// Where giving up is right: no packet, kernel answer or file that we support brings it about.
const GIVES_UP_RIGHTLY: [(&str, &str); 1] =
    [("src/host/clock.rs", "expect(\"the kernel has no such clock\")")];

/// Where code may be `unsafe`.
const UNSAFE_ROOM: &str = "src/host/sys";

/// Without these nobody finds his way.
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
fn the_protocol_names_nothing_of_the_machine() {
    assert_none(sources("src/vrrp").flat_map(|file| named_beyond_the_fence(&file)));
}

#[test]
fn the_protocol_uses_nothing_but_std_and_itself() {
    assert_none(sources("src/vrrp").flat_map(|file| used_beyond_the_fence(&file)));
}

#[test]
fn the_api_uses_nothing_but_std_serde_and_itself() {
    assert_none(sources("src/api").flat_map(|file| used_beyond(&file, &API_ROOTS)));
    let named = |file: Source| {
        let lines = file.code().filter(|(_, line)| line.contains("crate::"));
        lines.map(|(n, _)| format!("{}:{n}", file.path.display())).collect::<Vec<_>>()
    };
    assert_none(sources("src/api").flat_map(named));
}

#[test]
fn unsafe_code_lives_in_one_room() {
    let others = || sources("src").filter(|file| !file.path.starts_with(UNSAFE_ROOM));
    let why = format!("only {UNSAFE_ROOM} may");
    assert_none(others().flat_map(|file| named(&file, "unsafe", &why)));
    assert_none(others().flat_map(|file| named(&file, "allow(unsafe_code)", &why)));
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    assert_none(sources(UNSAFE_ROOM).flat_map(|file| unsafe_without_a_reason(&file)));
}

#[test]
fn nothing_gives_up_where_it_could_say_what_is_wrong() {
    assert_none(sources("src").flat_map(|file| given_up(&file)));
}

#[test]
fn what_everybody_looks_for_is_there() {
    let missing = REQUIRED.iter().filter(|path| !root().join(path).is_file());
    assert_none(missing.map(|path| format!("{path} is missing")));
}

#[test]
fn the_architecture_is_read_in_one_sitting() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() < 150, "ARCHITECTURE.md has {} lines", text.lines().count());
}

#[test]
fn files_that_the_architecture_names_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named = text.split(|c: char| !(c.is_alphanumeric() || "/_.-".contains(c)));
    let sources = named.filter(|word| word.starts_with("src/") && word.ends_with(".rs"));
    let missing = sources.filter(|path| !root().join(path).is_file());
    assert_none(missing.map(|path| format!("ARCHITECTURE.md names {path}")));
}

// ---- the fence itself --------------------------------------------------------------------------

#[test]
fn a_planted_clock_socket_float_or_lock_is_found() {
    for (word, _) in FENCED {
        let planted = Source::planted(&format!("fn f() {{\n    let x = {word}::new();\n}}\n"));
        let found = named_beyond_the_fence(&planted);
        assert!(found.iter().any(|line| line.contains("planted.rs:2")), "{word}: {found:?}");
    }
    let grouped = Source::planted("use std::{fs, thread};\nuse std::time::{Duration, Instant};\n");
    let found = named_beyond_the_fence(&grouped);
    assert!(found.iter().any(|line| line.contains("std::fs")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("std::thread")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("std::time::Instant")), "{found:?}");
}

#[test]
fn words_that_only_look_like_it_are_not_found() {
    let harmless =
        "use std::time::Duration;\nuse super::time::Instant;\n// std::fs\nlet f64x = 1;\n";
    assert_none(named_beyond_the_fence(&Source::planted(harmless)));
    let test = "#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}\n";
    assert_none(named_beyond_the_fence(&Source::planted(test)));
    let comment = "/// [`Instant`] is no HashMap.\nstruct S; // no Mutex either\n";
    assert_none(named_beyond_the_fence(&Source::planted(comment)));
}

#[test]
fn a_planted_import_is_found() {
    for line in ["use tokio::time;", "use crate::host::clock;", "pub use libc::c_int;"] {
        let planted = Source::planted(&format!("{line}\n"));
        assert_eq!(used_beyond_the_fence(&planted).len(), 1, "{line}");
    }
    for line in ["use std::fmt;", "use super::config::Vrid;", "use crate::vrrp::Node;"] {
        assert_none(used_beyond_the_fence(&Source::planted(&format!("{line}\n"))));
    }
}

#[test]
fn a_planted_unwrap_is_found_and_one_in_a_test_is_not() {
    assert_eq!(given_up(&Source::planted("fn f() {\n    x.unwrap();\n}\n")).len(), 1);
    assert_eq!(given_up(&Source::planted("fn f() {\n    x.expect(\"y\");\n}\n")).len(), 1);
    assert_none(given_up(&Source::planted("x.unwrap_or(1); // x.unwrap()\n")));
    let test = "#[cfg(test)]\nmod tests {\n    fn f() {\n        x.unwrap();\n    }\n}\n";
    assert_none(given_up(&Source::planted(test)));
    let after = "#[cfg(test)]\nmod tests {\n}\n\nfn f() {\n    x.unwrap();\n}\n";
    assert_eq!(given_up(&Source::planted(after)).len(), 1);
}

#[test]
fn a_planted_unsafe_without_a_reason_is_found() {
    let bare = "fn f() {\n    unsafe { g() }\n}\n";
    assert_eq!(unsafe_without_a_reason(&Source::planted(bare)).len(), 1);
    let bare = "unsafe impl Send for S {}\n";
    assert_eq!(unsafe_without_a_reason(&Source::planted(bare)).len(), 1);
    let reasoned = "fn f() {\n    // SAFETY: g does nothing.\n    unsafe { g() }\n}\n";
    assert_none(unsafe_without_a_reason(&Source::planted(reasoned)));
}

// ---- reading source ----------------------------------------------------------------------------

/// One file: its lines, and which of them are code that ends up in the program.
struct Source {
    path: PathBuf,
    lines: Vec<String>,
    code: Vec<Option<String>>,
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
        let mut code = Vec::new();
        let mut in_tests = false;
        for (n, line) in lines.iter().enumerate() {
            let begins = line.trim() == "#[cfg(test)]"
                && lines.get(n + 1).is_some_and(|next| next.starts_with("mod "));
            in_tests |= begins;
            code.push((!in_tests).then(|| without_comment(line)));
            if in_tests && line == "}" {
                in_tests = false;
            }
        }
        Source { path: path.to_path_buf(), lines, code }
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

fn named_beyond_the_fence(file: &Source) -> Vec<String> {
    let mut found: Vec<String> =
        FENCED.iter().flat_map(|(word, why)| named(file, word, why)).collect();
    // `AtomicU64` and its kind are words of their own.
    for (n, line) in file.code().filter(|(_, line)| line.contains("Atomic")) {
        found.push(format!("{}:{n}: {}", file.path.display(), line.trim()));
    }
    for path in imports(file) {
        for (word, why) in FENCED {
            if path == word || path.starts_with(&format!("{word}::")) {
                found.push(format!("{}: {path}: {why}", file.path.display()));
            }
        }
    }
    found
}

fn used_beyond_the_fence(file: &Source) -> Vec<String> {
    used_beyond(file, &ROOTS)
}

fn used_beyond(file: &Source, roots: &[&str]) -> Vec<String> {
    // A module may import from those that it declares itself.
    let declared = file.code().filter_map(|(_, line)| {
        line.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')
    });
    let roots: Vec<&str> = roots.iter().copied().chain(declared).collect();
    let inside = |path: &String| {
        roots.iter().any(|root| path == root || path.starts_with(&format!("{root}::")))
    };
    let strangers = imports(file).into_iter().filter(|path| !inside(path));
    strangers.map(|path| format!("{}: use {path}", file.path.display())).collect()
}

/// Every path that the file imports, groups taken apart.
fn imports(file: &Source) -> Vec<String> {
    let text: Vec<&str> = file.code().map(|(_, line)| line.trim()).collect();
    let text = text.join(" ");
    let mut paths = Vec::new();
    for (at, _) in text.match_indices("use ") {
        if at > 0 && !text[..at].ends_with([' ', ';', '}']) {
            continue;
        }
        if let Some(end) = text[at..].find(';') {
            take_apart("", &text[at + 4..at + end], &mut paths);
        }
    }
    paths
}

fn take_apart(prefix: &str, tree: &str, paths: &mut Vec<String>) {
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
        take_apart(&prefix, part, paths);
    }
}

/// `unwrap` and `expect` where a program runs.
fn given_up(file: &Source) -> Vec<String> {
    let gives_up = |line: &str| line.contains(".unwrap()") || line.contains(".expect(");
    let rightly = |line: &str| {
        let is = |(path, what): &(&str, &str)| file.path == Path::new(path) && line.contains(what);
        GIVES_UP_RIGHTLY.iter().any(is)
    };
    let report = |(n, line): (usize, &str)| format!("{}:{n}: {}", file.path.display(), line.trim());
    file.code().filter(|(_, line)| gives_up(line) && !rightly(line)).map(report).collect()
}

fn unsafe_without_a_reason(file: &Source) -> Vec<String> {
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
