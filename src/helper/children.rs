//! The children of the helper: the supervisors of programs, whose ends are waited for, and orphans
//! that programs left in the background, which only have to be reaped.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::SIGCHLD;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::host::sys;

/// Children that are waited for. One that is listed has not been reaped, so its number is its own.
static WAITED_FOR: Mutex<BTreeMap<i32, oneshot::Sender<ExitStatus>>> = Mutex::new(BTreeMap::new());

fn waited_for() -> MutexGuard<'static, BTreeMap<i32, oneshot::Sender<ExitStatus>>> {
    WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has this process inherit the orphans of programs, and reaps every child that ends, from now on.
///
/// # Errors
/// As prctl(2), socketpair(2) and sigaction(2).
pub(super) fn reap_all() -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    let (reader, writer) = StdUnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGCHLD, writer)?;
    reader.set_nonblocking(true)?;
    let mut reader = UnixStream::from_std(reader)?;
    tokio::spawn(async move {
        let mut wakeups = [0; 64];
        loop {
            reap();
            if !matches!(reader.read(&mut wakeups).await, Ok(1..)) {
                return;
            }
        }
    });
    Ok(())
}

fn reap() {
    while let Ok(Some((pid, status))) = sys::reap_child() {
        if let Some(waiting) = waited_for().remove(&pid) {
            // Nobody may be interested any more.
            let _ = waiting.send(status);
        }
    }
}

/// Waits for a child that this thread has just started, before it could be reaped: children are
/// reaped by a task of the same thread.
pub(super) fn wait_for(child: i32) -> oneshot::Receiver<ExitStatus> {
    let (sender, receiver) = oneshot::channel();
    waited_for().insert(child, sender);
    receiver
}

/// Signals a child that is waited for, unless it has been reaped.
pub(super) fn signal(child: i32, signal: Signal) {
    if waited_for().contains_key(&child) {
        // It may have ended.
        let _ = kill(Pid::from_raw(child), signal);
    }
}
