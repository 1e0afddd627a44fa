//! `process`: a process with this name or program runs.
//!
//! Watches the oldest matching process through a pidfd, which becomes readable when it ends.
//! `/proc` is scanned at the start, and after an exit until another process matches, at growing
//! intervals, because a restarting service is usually back soon. All process checks share the
//! scans.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use super::reporter::Reporter;
use super::schedule::Schedule;
use crate::config::MAX_COMM;
use crate::helper::check_run::CheckResult;
use crate::host::sys::{self, Readiness};

/// Number of scans within `delay`.
const SCANS: u32 = 5;
const MIN_PACE: Duration = Duration::from_millis(5);
const MAX_PACE: Duration = Duration::from_millis(200);
/// Later scans follow after this fraction of the time since the exit.
const BACKOFF: u32 = 4;

/// Watches until the task is aborted. While no process matches, `/proc` is scanned every interval,
/// and more often soon after an exit.
pub(super) async fn run(
    process: String,
    delay: Duration,
    mut schedule: Schedule,
    processes: &Processes,
    mut reporter: Reporter,
) {
    let mut gone_at = Instant::now();
    let mut not_older_than = gone_at;
    loop {
        let begin = Instant::now();
        let process = process.clone();
        // Each time, because a symbolic link may point elsewhere after an upgrade. The job fails
        // only if it panics, which it does not.
        let Ok(wanted) = tokio::task::spawn_blocking(move || ProcessPattern::new(process)).await
        else {
            return;
        };
        match processes.find(&wanted, not_older_than).await {
            Ok(process) => {
                let text = format!("process {} runs", process.pid);
                reporter.report(CheckResult::Passed, text.clone(), begin.elapsed()).await;
                loop {
                    tokio::select! {
                        _ = process.ended.readable() => break,
                        () = schedule.next() => {}
                    }
                    let begin = Instant::now();
                    // It may have executed another program since.
                    if !wanted.is(process.pid) {
                        break;
                    }
                    reporter.report(CheckResult::Passed, text.clone(), begin.elapsed()).await;
                }
                gone_at = Instant::now();
                not_older_than = gone_at;
            }
            Err(why) => {
                let now = Instant::now();
                let fails_at = gone_at + delay;
                // With very many processes a scan is slow; do not spend all time on scanning.
                let least = 5 * (now - begin);
                if now < fails_at {
                    let pace = (delay / SCANS).clamp(MIN_PACE, MAX_PACE).max(least);
                    sleep_until(fails_at.min(now + pace)).await;
                    not_older_than = now;
                } else {
                    reporter.report(CheckResult::Failed, why, now - begin).await;
                    let pace = ((now - gone_at) / BACKOFF).max(MAX_PACE).min(schedule.interval);
                    let pace = pace.max(least);
                    sleep(pace).await;
                    not_older_than = now + pace / 4 * 3;
                }
            }
        }
    }
}

/// The condition for a process.
#[derive(Clone, Debug)]
enum ProcessPattern {
    Named(String),
    /// The path as configured, and resolved.
    Program(PathBuf, PathBuf),
}

impl ProcessPattern {
    fn new(process: String) -> Self {
        if !process.starts_with('/') {
            return ProcessPattern::Named(process);
        }
        let path = PathBuf::from(process);
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        ProcessPattern::Program(path, real)
    }

    fn is_a_program(&self) -> bool {
        match self {
            ProcessPattern::Named(_) => false,
            ProcessPattern::Program(..) => true,
        }
    }

    /// Whether the scanned information matches; long names are compared by their beginning.
    fn may_be(&self, seen: &ProcessInfo) -> bool {
        match self {
            ProcessPattern::Named(name) => {
                let kept = name.as_bytes().get(..MAX_COMM).unwrap_or(name.as_bytes());
                seen.name == kept
            }
            ProcessPattern::Program(path, real) => {
                seen.program.as_ref().is_some_and(|program| program == path || program == real)
            }
        }
    }

    /// Whether the process with this pid matches now.
    fn is(&self, pid: i32) -> bool {
        if !ProcessInfo::of(pid, self.is_a_program()).is_some_and(|seen| self.may_be(&seen)) {
            return false;
        }
        match self {
            // The second argument of an interpreter is the script.
            ProcessPattern::Named(name) if name.len() > MAX_COMM => {
                arguments(pid).iter().take(2).any(|argument| {
                    let file = Path::new(OsStr::from_bytes(argument)).file_name();
                    let rest = file.and_then(|file| file.as_bytes().strip_prefix(name.as_bytes()));
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
                })
            }
            ProcessPattern::Named(_) | ProcessPattern::Program(..) => true,
        }
    }
}

/// A matching process.
struct FoundProcess {
    pid: i32,
    /// A pidfd: readable once the process has ended.
    ended: Readiness,
}

/// The arguments in `/proc/PID/cmdline`.
fn arguments(pid: i32) -> Vec<Vec<u8>> {
    let all = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    all.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// A process as scanned.
#[derive(Clone, Debug)]
struct ProcessInfo {
    pid: i32,
    name: Vec<u8>,
    /// `None`: not requested, or a kernel thread.
    program: Option<PathBuf>,
}

impl ProcessInfo {
    fn of(pid: i32, with_program: bool) -> Option<Self> {
        let mut name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
        if name.last() == Some(&b'\n') {
            name.pop();
        }
        let program = with_program.then(|| program(pid)).flatten();
        Some(ProcessInfo { pid, name, program })
    }
}

fn program(pid: i32) -> Option<PathBuf> {
    match std::fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(program) => {
            // The file may have been replaced since.
            let path = program.into_os_string().into_vec();
            let path = path.strip_suffix(b" (deleted)").unwrap_or(&path);
            Some(PathBuf::from(OsStr::from_bytes(path)))
        }
        // Without CAP_SYS_PTRACE: its first argument.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let first = arguments(pid).into_iter().next()?;
            Some(PathBuf::from(OsStr::from_bytes(&first)))
        }
        Err(_) => None,
    }
}

/// The result of the last scan.
#[derive(Clone, Default)]
pub(super) struct Processes(Arc<Mutex<ProcessTable>>);

#[derive(Default)]
struct ProcessTable {
    begun_at: Option<Instant>,
    with_programs: bool,
    processes: Vec<ProcessInfo>,
}

impl Processes {
    /// The oldest matching process of a scan that is not older than this; or why there is none.
    async fn find(
        &self,
        wanted: &ProcessPattern,
        not_older_than: Instant,
    ) -> Result<FoundProcess, String> {
        let mut table = self.0.lock().await;
        let with_programs = wanted.is_a_program() || table.with_programs;
        let fresh = table.begun_at.is_some_and(|begun_at| begun_at >= not_older_than)
            && table.with_programs == with_programs;
        if !fresh {
            let begun_at = Instant::now();
            let scanned = tokio::task::spawn_blocking(move || scan(with_programs));
            table.processes = scanned.await.unwrap_or_default();
            table.begun_at = Some(begun_at);
            table.with_programs = with_programs;
        }
        let may_be: Vec<i32> = table
            .processes
            .iter()
            .filter(|seen| wanted.may_be(seen))
            .map(|seen| seen.pid)
            .collect();
        drop(table);
        may_be.into_iter().find_map(|pid| found(wanted, pid)).ok_or_else(|| match wanted {
            ProcessPattern::Named(name) => format!("no process is named {name}"),
            ProcessPattern::Program(path, _) => format!("no process runs {}", path.display()),
        })
    }
}

/// Reads all processes, by pid.
fn scan(with_programs: bool) -> Vec<ProcessInfo> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut pids: Vec<i32> = pids.collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(|pid| ProcessInfo::of(pid, with_programs)).collect()
}

/// The pid may have been reused since the scan, so the process is checked again through a pidfd.
fn found(wanted: &ProcessPattern, pid: i32) -> Option<FoundProcess> {
    let descriptor = sys::pidfd_open(pid).ok()?;
    if !wanted.is(pid) || has_ended(&descriptor) {
        return None;
    }
    let ended = Readiness::of(&descriptor, Interest::READABLE).ok()?;
    Some(FoundProcess { pid, ended })
}

fn has_ended(descriptor: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}
