//! `process`: a process of this name, or of this program, runs.
//!
//! Not asked again and again: of the matching processes the oldest is watched through a descriptor
//! that becomes readable when it ends. `/proc` is looked through at start and after a death, and
//! while there is none, the less often the longer there was none: a service that is being restarted
//! is soon back. All process checks share what was seen.

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
use crate::helper::check_run::CheckResult;
use crate::host::sys::{self, Readiness};

/// Within the time that there may be none, so many times more.
const SCANS: u32 = 5;
const MIN_PACE: Duration = Duration::from_millis(5);
const MAX_PACE: Duration = Duration::from_millis(200);
/// After this part of the time that there was none the next look comes.
const BACKOFF: u32 = 4;
/// The kernel keeps this much of a process's name.
const NAME_LENGTH: usize = 15;

/// Watches for ever. While there is none `/proc` is looked through every interval, and soon after a
/// death more often.
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
        // Anew each time, for a link may point elsewhere after an upgrade. Only a panic keeps it
        // from an answer, and nothing in it panics.
        let Ok(wanted) = tokio::task::spawn_blocking(move || Wanted::new(process)).await else {
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
                    // It may have become another program meanwhile.
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
                // Where there are very many processes looking takes long, and must not take all.
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

/// What a process must be.
#[derive(Clone, Debug)]
enum Wanted {
    Named(String),
    /// The path as configured, and without links.
    Program(PathBuf, PathBuf),
}

impl Wanted {
    fn new(process: String) -> Self {
        if !process.starts_with('/') {
            return Wanted::Named(process);
        }
        let path = PathBuf::from(process);
        let real = path.canonicalize().unwrap_or_else(|_| path.clone());
        Wanted::Program(path, real)
    }

    fn is_a_program(&self) -> bool {
        match self {
            Wanted::Named(_) => false,
            Wanted::Program(..) => true,
        }
    }

    /// Whether it is one by what is known of all processes; of a long name that is its beginning.
    fn may_be(&self, seen: &ProcessInfo) -> bool {
        match self {
            Wanted::Named(name) => {
                let kept = name.as_bytes().get(..NAME_LENGTH).unwrap_or(name.as_bytes());
                seen.name == kept
            }
            Wanted::Program(path, real) => {
                seen.program.as_ref().is_some_and(|program| program == path || program == real)
            }
        }
    }

    /// Whether the process of this number is one, now.
    fn is(&self, pid: i32) -> bool {
        if !ProcessInfo::of(pid, self.is_a_program()).is_some_and(|seen| self.may_be(&seen)) {
            return false;
        }
        match self {
            // The name of a script is its second argument.
            Wanted::Named(name) if name.len() > NAME_LENGTH => {
                arguments(pid).iter().take(2).any(|argument| {
                    let file = Path::new(OsStr::from_bytes(argument)).file_name();
                    let rest = file.and_then(|file| file.as_bytes().strip_prefix(name.as_bytes()));
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
                })
            }
            Wanted::Named(_) | Wanted::Program(..) => true,
        }
    }
}

/// A matching process.
struct Found {
    pid: i32,
    /// Readable when it has ended.
    ended: Readiness,
}

/// Its arguments, as it shows them.
fn arguments(pid: i32) -> Vec<Vec<u8>> {
    let all = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    all.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// A process as it was seen.
#[derive(Clone, Debug)]
struct ProcessInfo {
    pid: i32,
    name: Vec<u8>,
    /// `None`: not asked for, or it runs none (a thread of the kernel).
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
            // A program that was replaced still runs.
            let path = program.into_os_string().into_vec();
            let path = path.strip_suffix(b" (deleted)").unwrap_or(&path);
            Some(PathBuf::from(OsStr::from_bytes(path)))
        }
        // Without CAP_SYS_PTRACE: as it calls itself.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let first = arguments(pid).into_iter().next()?;
            Some(PathBuf::from(OsStr::from_bytes(&first)))
        }
        Err(_) => None,
    }
}

/// All processes, as they were seen last.
#[derive(Clone, Default)]
pub(super) struct Processes(Arc<Mutex<ProcessTable>>);

#[derive(Default)]
struct ProcessTable {
    begun_at: Option<Instant>,
    with_programs: bool,
    processes: Vec<ProcessInfo>,
}

impl Processes {
    /// The oldest that matches in a table that is not older than this; or why there is none.
    async fn find(&self, wanted: &Wanted, not_older_than: Instant) -> Result<Found, String> {
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
            Wanted::Named(name) => format!("no process is named {name}"),
            Wanted::Program(path, _) => format!("no process runs {}", path.display()),
        })
    }
}

/// In the order of their numbers.
fn scan(with_programs: bool) -> Vec<ProcessInfo> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut pids: Vec<i32> = pids.collect();
    pids.sort_unstable();
    pids.into_iter().filter_map(|pid| ProcessInfo::of(pid, with_programs)).collect()
}

/// The number may have become another process's meanwhile: it is looked at again once its end can be
/// seen.
fn found(wanted: &Wanted, pid: i32) -> Option<Found> {
    let descriptor = sys::pidfd_open(pid).ok()?;
    if !wanted.is(pid) || has_ended(&descriptor) {
        return None;
    }
    let ended = Readiness::of(&descriptor, Interest::READABLE).ok()?;
    Some(Found { pid, ended })
}

fn has_ended(descriptor: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}
