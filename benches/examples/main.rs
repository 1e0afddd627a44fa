//! The examples in etc/examples/ with the real programs: haproxy, nginx and PostgreSQL of Debian,
//! pairs of them in network namespaces, the files as an operator copies them, and what a client saw.
//!
//! `cargo bench --bench examples [-- haproxy|nginx|postgresql]`, as root; about three minutes.
//! Exits with 1 if a promise was broken. If a program is missing it prints SKIPPED, which
//! VIPD_TESTS_REQUIRE_PEERS=1 makes a failure.
#![allow(clippy::unwrap_used)]

mod http;
#[path = "../../tests/lab/mod.rs"]
mod lab;
mod machine;
#[path = "../../tests/peers/mod.rs"]
#[expect(dead_code, reason = "it ends with a status instead of a panic")]
mod peers;
mod postgresql;
mod proxies;
mod sql;

use std::fs;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use lab::wait_for;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use machine::Machine;

const SHARED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
/// A limit for all examples together.
const LONGEST: Duration = Duration::from_secs(300);
/// A limit for cleaning up.
const TIDY: Duration = Duration::from_secs(30);
/// Set by a signal or the time limit: all waits end, and everything is cleaned up.
static OVER: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The result of one example.
#[derive(Default)]
struct Report {
    columns: Vec<&'static str>,
    /// What happened, and a cell for each column.
    lines: Vec<(String, Vec<String>)>,
    remarks: Vec<String>,
    broken: Vec<String>,
}

impl Report {
    fn print(&self, name: &str) {
        let widths: Vec<usize> = self.columns.iter().map(|column| column.len().max(13)).collect();
        let cells = |cells: &[String]| -> String {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}"));
            padded.collect()
        };
        let columns: Vec<String> = self.columns.iter().map(ToString::to_string).collect();
        println!("\n{name:<62}{}", cells(&columns));
        for (what, values) in &self.lines {
            println!("  {what:<60}{}", cells(values));
        }
        for remark in &self.remarks {
            println!("  {remark}");
        }
        for broken in &self.broken {
            println!("  NOT AS PROMISED: {broken}");
        }
    }
}

struct Example {
    name: &'static str,
    programs: &'static [&'static str],
    play: fn(&mut Report),
}

const EXAMPLES: [Example; 3] = [
    Example { name: "haproxy", programs: &["/usr/sbin/haproxy"], play: proxies::haproxy },
    Example { name: "nginx", programs: &["/usr/sbin/nginx"], play: proxies::nginx },
    Example {
        name: "postgresql",
        programs: &["/usr/bin/pg_ctlcluster", "/usr/lib/postgresql/15/bin/pg_rewind"],
        play: postgresql::postgresql,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "lab-child") {
        return lab::child_main(arguments);
    }
    let unmet = if peers::required() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: PostgreSQL and the proxies change their users, so this needs root");
        return unmet;
    }
    if let Err(error) = lab::enter() {
        eprintln!("examples: {error}");
        return ExitCode::FAILURE;
    }
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&OVER)).unwrap();
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |example: &&Example| filter.as_ref().is_none_or(|name| example.name == name);
    let mut missing = false;
    let (sender, reports) = mpsc::channel();
    for example in EXAMPLES.iter().filter(wanted) {
        if let Some(program) = example.programs.iter().find(|program| !Path::new(program).exists())
        {
            println!("SKIPPED: {}: there is no {program}", example.name);
            missing = true;
            continue;
        }
        // Most of their time is waiting.
        let sender = sender.clone();
        thread::spawn(move || {
            let mut report = Report::default();
            let outcome = catch_unwind(AssertUnwindSafe(|| (example.play)(&mut report)));
            if outcome.is_err() {
                report.broken.push("it did not come to its end: see above".to_owned());
            }
            let _ = sender.send((example.name, report));
        });
    }
    drop(sender);
    let mut end = Instant::now() + LONGEST;
    let (mut played, mut broken) = (0, false);
    loop {
        match reports.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((name, report)) => {
                report.print(name);
                played += 1;
                broken |= !report.broken.is_empty();
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if !OVER.swap(true, Ordering::Relaxed) => {
                println!("NOT AS PROMISED: not at its end after {LONGEST:?}");
                end = Instant::now() + TIDY;
            }
            // All processes end with this one.
            Err(RecvTimeoutError::Timeout) => return ExitCode::FAILURE,
        }
    }
    println!(
        "\n{played} examples: {}",
        if broken { "a promise was broken" } else { "as promised" }
    );
    if broken {
        ExitCode::FAILURE
    } else if missing {
        unmet
    } else {
        ExitCode::SUCCESS
    }
}

/// A file of an example.
fn example(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/examples").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the operator changes on the other server.
fn change(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in\n{text}");
    text.replacen(from, to, 1)
}

/// The example's vipd.toml on the better server and on the other one.
fn install_vipd(machine: &Machine, toml: &str, better: bool) {
    let text = example(toml);
    let text = if better { text } else { change(&text, "priority = 150", "priority = 100") };
    machine.install("/etc/vipd/vipd.toml", 0o640, &text);
}

fn start_vipd(machine: &mut Machine) {
    machine.start("vipd", &[env!("CARGO_BIN_EXE_vipd"), "run"]);
}

/// Waits until a condition holds; otherwise this example has failed.
fn await_that(timeout: Duration, what: &str, machines: &[&Machine], so: impl Fn() -> bool) {
    let slowly = || {
        assert!(!OVER.load(Ordering::Relaxed), "ended while it waited: {what}");
        thread::sleep(Duration::from_millis(9));
        so().then_some(())
    };
    if wait_for(timeout, slowly).is_none() {
        for machine in machines {
            for log in ["vipd", "haproxy", "nginx", "postgresql"] {
                let printed = machine.printed(log);
                // Without the messages about refused writes.
                let lines: Vec<&str> =
                    printed.lines().filter(|line| !line.contains("counter@counter")).collect();
                let from = lines.len().saturating_sub(40);
                eprintln!("--- {} {log}\n{}", machine.name(), lines[from..].join("\n"));
            }
        }
        panic!("not within {timeout:?}: {what}");
    }
}

fn milliseconds(span: Duration) -> String {
    span.as_millis().to_string()
}

/// The median and the worst.
fn spread(spans: impl Iterator<Item = Duration>) -> String {
    let mut spans: Vec<_> = spans.collect();
    spans.sort();
    let median = spans.get(spans.len() / 2).copied().unwrap_or_default();
    format!(
        "{} / {}",
        milliseconds(median),
        milliseconds(spans.last().copied().unwrap_or_default())
    )
}
