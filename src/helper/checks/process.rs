//! `process`: a process with this name or program runs, which belongs to this user.
//!
//! Everybody can give a process any name, and start a program that others start. So its user counts:
//! the real one, which is that of whoever started it, also where the program runs as somebody else
//! (set-user-ID).
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
use nix::unistd::{Uid, User};
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
    (process, user): (String, String),
    delay: Duration,
    mut schedule: Schedule,
    processes: &Processes,
    mut reporter: Reporter,
) {
    let mut gone_at = Instant::now();
    let mut not_older_than = gone_at;
    loop {
        let begin = Instant::now();
        let (process, user) = (process.clone(), user.clone());
        // Each time, because a symbolic link may point elsewhere after an upgrade, and the user may
        // be made later. The job fails only if it panics, which it does not.
        let Ok(wanted) = tokio::task::spawn_blocking(move || Wanted::new(process, user)).await
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

/// What is looked for.
#[derive(Clone, Debug)]
struct Wanted {
    pattern: ProcessPattern,
    /// The user's name, and its number if there is one.
    user: (String, Option<Uid>),
}

impl Wanted {
    fn new(process: String, user: String) -> Self {
        let number = match user.as_str() {
            // Also where nobody is listed, as in a small container.
            "root" => Some(Uid::from_raw(0)),
            name => User::from_name(name).ok().flatten().map(|user| user.uid),
        };
        Wanted { pattern: ProcessPattern::new(process), user: (user, number) }
    }

    /// Whether the process with this pid matches now.
    fn is(&self, pid: i32) -> bool {
        self.pattern.is(pid) && self.user.1.is_some_and(|user| real_user(pid) == Some(user))
    }

    /// Why there is none, with the processes of a scan that could have been it.
    fn missing(&self, seen: &[i32]) -> String {
        let (name, number) = &self.user;
        if number.is_none() {
            return format!("there is no user {name}");
        }
        let what = match &self.pattern {
            ProcessPattern::Named(name) => format!("is named {name}"),
            ProcessPattern::Program(path, _) => format!("runs {}", path.display()),
        };
        match self.of_another(seen) {
            Some((pid, other)) => {
                format!("no process of {name} {what}; process {pid} does, but belongs to {other}")
            }
            None => format!("no process {what}"),
        }
    }

    /// A process that another user has, and who that is.
    fn of_another(&self, seen: &[i32]) -> Option<(i32, String)> {
        let has = |pid: &i32| Some((*pid, real_user(*pid).filter(|_| self.pattern.is(*pid))?));
        let (pid, user) = seen.iter().find_map(has)?;
        let known = User::from_uid(user).ok().flatten();
        Some((pid, known.map_or(user.to_string(), |known| known.name)))
    }
}

/// Whether the check of such a process of `user` fails now only because the process belongs to another
/// user: what the check would say, and who that is.
pub fn process_of_another(process: &str, user: &str) -> Option<(String, String)> {
    let wanted = Wanted::new(process.to_owned(), user.to_owned());
    let mut seen = scan(wanted.pattern.is_a_program());
    seen.retain(|seen| wanted.pattern.may_be(seen));
    let seen: Vec<i32> = seen.iter().map(|seen| seen.pid).collect();
    if seen.iter().any(|pid| wanted.is(*pid)) {
        return None;
    }
    let (_, other) = wanted.of_another(&seen)?;
    Some((wanted.missing(&seen), other))
}

/// The user that has started a process.
fn real_user(pid: i32) -> Option<Uid> {
    // Not the owner of the directory: that is root if the process must not be looked at.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok().map(Uid::from_raw)
}

/// The condition for a process, but for its user.
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
    async fn find(&self, wanted: &Wanted, not_older_than: Instant) -> Result<FoundProcess, String> {
        let mut table = self.0.lock().await;
        let with_programs = wanted.pattern.is_a_program() || table.with_programs;
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
            .filter(|seen| wanted.pattern.may_be(seen))
            .map(|seen| seen.pid)
            .collect();
        drop(table);
        if let Some(found) = may_be.iter().find_map(|pid| found(wanted, *pid)) {
            return Ok(found);
        }
        // The name of another user may have to be looked up.
        let wanted = wanted.clone();
        let missing = tokio::task::spawn_blocking(move || wanted.missing(&may_be)).await;
        Err(missing.unwrap_or_else(|error| error.to_string()))
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
fn found(wanted: &Wanted, pid: i32) -> Option<FoundProcess> {
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
