//! The parent of a program: waits for it, and on request ends it with all its descendants.
//!
//! A supervisor is a child subreaper (prctl(2)): whatever the program starts stays among the
//! supervisor's descendants, in whichever session or process group, and becomes its child when its
//! own parent ends. So ending all children until there is none ends everything. A process is only
//! signalled while it is an unreaped child, so its number cannot have been reused.

use std::collections::BTreeSet;
use std::io;
use std::process::ExitStatus;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::{Pid, getppid};

use crate::host::sys;

/// Asks a supervisor to end its program and all descendants of it, with SIGTERM.
pub(super) const TERMINATE: Signal = Signal::SIGTERM;
/// As [`TERMINATE`], with SIGKILL. The kernel sends it when the helper has ended.
pub(super) const KILL: Signal = Signal::SIGINT;

/// Makes this process a supervisor that ends with the helper, and returns the signals to wait for.
/// All signals stay blocked, as they do in the program's process until that resets them.
///
/// # Errors
/// The helper has ended, or as prctl(2).
pub(super) fn prepare(helper: u32) -> Result<SigSet, String> {
    let failed = |error| format!("cannot supervise the program: {error}");
    SigSet::all().thread_block().map_err(failed)?;
    prctl::set_child_subreaper(true).map_err(failed)?;
    prctl::set_pdeathsig(KILL).map_err(failed)?;
    if getppid().as_raw() != helper.cast_signed() {
        return Err("the helper has ended".into());
    }
    Ok([Signal::SIGCHLD, TERMINATE, KILL].into_iter().collect())
}

/// Waits for the program. What it leaves in the background when it ends by itself lives on, as
/// children of the helper; if the program is to be ended, this waits until no descendant is left.
/// `None`: the status of the program is not known.
pub(super) fn supervise(program: i32, signals: &SigSet) -> Option<ExitStatus> {
    let program = Pid::from_raw(program);
    let mut status = None;
    let mut ending = None;
    // Those that were sent the signal of `ending`.
    let mut told = BTreeSet::new();
    loop {
        loop {
            match sys::reap_child() {
                Ok(Some((pid, ended))) => {
                    told.remove(&pid);
                    if pid == program.as_raw() {
                        status = Some(ended);
                    }
                }
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // No child is left.
                Err(_) => return status,
            }
        }
        match ending {
            None if status.is_some() => return status,
            None => {}
            Some(signal) => {
                for child in children() {
                    if told.insert(child) {
                        let _ = kill(Pid::from_raw(child), signal);
                    }
                }
            }
        }
        let signal = match signals.wait() {
            Ok(TERMINATE) if ending.is_none() => Signal::SIGTERM,
            Ok(KILL) if ending != Some(Signal::SIGKILL) => Signal::SIGKILL,
            Ok(_) | Err(_) => continue,
        };
        ending = Some(signal);
        told.clear();
        // The program's group has processes that are not children of this one yet.
        if status.is_none() {
            if killpg(program, signal).is_err() {
                // It has not made its group yet.
                let _ = kill(program, signal);
            }
            told.insert(program.as_raw());
        }
    }
}

/// The children of this process, which has one thread. A kernel that does not list them
/// (`CONFIG_PROC_CHILDREN`) leaves the program and its process group to be ended.
fn children() -> Vec<i32> {
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
