//! vipd as its package installs it, on two Debian machines with systemd, beside keepalived's
//! package.
//!
//! `cargo bench --bench installed [-- PART_OF_A_NAME]`, as root; needs debootstrap,
//! systemd-nspawn, dpkg-deb, lintian, cargo-deb and cargo-generate-rpm. Prints what was checked and
//! a table; fails if a promise was not kept. `INSTALLED_JOBS=1` plays one case at a time,
//! `INSTALLED_PACKAGES=built` takes the packages that are there.
#![allow(clippy::unwrap_used)]

mod cases;
mod checks;
#[path = "../../tests/lab/mod.rs"]
mod lab;
mod machine;
#[path = "../../tests/peers/mod.rs"]
mod peers;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getuid;

/// Packages, and what they are tried on.
pub struct Site {
    /// The file tree of a fresh Debian machine.
    pub base: PathBuf,
    /// The package, and the same one built again.
    pub package: PathBuf,
    pub rebuilt: PathBuf,
    pub rpm: PathBuf,
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The programs needed besides Rust, and their Debian packages.
const TOOLS: [(&str, &str); 6] = [
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("dpkg-deb", "dpkg"),
    ("lintian", "lintian"),
    ("cargo-deb", "cargo install --locked cargo-deb"),
    ("cargo-generate-rpm", "cargo install --locked cargo-generate-rpm"),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == "lab-child" => return lab::child_main(arguments),
        Some(first) if first == "inside" => return inside(),
        _ => {}
    }
    let missing: Vec<_> = TOOLS.into_iter().filter(|(tool, _)| !is_installed(tool)).collect();
    if !missing.is_empty() || !getuid().is_root() {
        println!("SKIPPED: this needs root and {missing:?}");
        return if peers::required() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    // In a process table of its own, which takes everything with it when it ends, however it ends.
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWPID) {
        eprintln!("installed: no process table of its own: {errno}");
        return ExitCode::FAILURE;
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let status = Command::new("/proc/self/exe").arg("inside").args(filter).status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("installed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_installed(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(tool).is_file())
}

fn inside() -> ExitCode {
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let filter = std::env::args().nth(2).unwrap_or_default();
    // While the network of the machine is available.
    let cache = Path::new(ROOT).join("target/installed");
    let [package, rebuilt] = ["1", "2"].map(build);
    let base = match machine::base_tree(&cache) {
        Ok(base) => base,
        Err(error) => {
            eprintln!("installed: {error}");
            return ExitCode::FAILURE;
        }
    };
    let rpm = newest(&Path::new(ROOT).join("target/package"), ".rpm");
    let site = Site { base, package, rebuilt, rpm };
    if let Err(error) = lab::enter() {
        eprintln!("installed: {error}");
        return ExitCode::FAILURE;
    }
    let none: Option<&str> = None;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).unwrap();

    let began = Instant::now();
    let mut jobs: VecDeque<Job> = VecDeque::new();
    for (name, check) in checks::all() {
        jobs.push_back(Job { name: name.to_owned(), work: Work::Check(check) });
    }
    for (index, case) in cases::all().iter().enumerate() {
        for daemon in [cases::Implementation::Vipd, cases::Implementation::Keepalived] {
            let name = format!("{}: {}", case.name, daemon.name());
            jobs.push_back(Job { name, work: Work::Case(index, daemon) });
        }
    }
    jobs.retain(|job| job.name.contains(&filter));
    let queue = Mutex::new(jobs);
    let (failures, runs) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    // Most of a job is waiting.
    let workers = std::env::var("INSTALLED_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = next(&queue) {
                    let done = std::panic::catch_unwind(|| match job.work {
                        Work::Check(check) => check(&site),
                        Work::Case(index, daemon) => {
                            let figures = cases::play(&site, &cases::all()[index], daemon);
                            runs.lock().unwrap().push((index, daemon, figures));
                        }
                    });
                    match done {
                        Ok(()) => eprintln!("done: {}", job.name),
                        Err(_) => {
                            eprintln!("FAILED: {}", job.name);
                            failures.lock().unwrap().push(job.name);
                        }
                    }
                }
            });
        }
    });
    let runs = runs.into_inner().unwrap();
    let mut failures: Vec<_> = failures.into_inner().unwrap();
    failures.extend(cases::table(&runs));
    println!("\n{} s.", began.elapsed().as_secs());
    for failure in &failures {
        println!("* NOT AS PROMISED: {failure}");
    }
    if failures.is_empty() {
        println!("Every promise was kept.");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

struct Job {
    name: String,
    work: Work,
}

enum Work {
    Check(fn(&Site)),
    Case(usize, cases::Implementation),
}

fn next(queue: &Mutex<VecDeque<Job>>) -> Option<Job> {
    queue.lock().unwrap().pop_front()
}

/// The Debian package of this revision.
fn build(revision: &str) -> PathBuf {
    let ending = format!("-{revision}_amd64.deb");
    let packages = Path::new(ROOT).join("target/package");
    if std::env::var_os("INSTALLED_PACKAGES").is_some_and(|value| value == "built") {
        return newest(&packages, &ending);
    }
    let status = Command::new(Path::new(ROOT).join("etc/build-packages"))
        .arg(revision)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "etc/build-packages {revision}: {status}");
    newest(&packages, &ending)
}

fn newest(dir: &Path, ending: &str) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.to_string_lossy().ends_with(ending))
        .max_by_key(|file| fs::metadata(file).unwrap().modified().unwrap())
        .unwrap()
}
