//! Dropping privileges to what adverts and addresses need, real-time priority and locked memory.
//!
//! Capabilities are per thread (capabilities(7)), so they are dropped before a second thread
//! exists, the log writer included. The daemon does this in order: start the helper,
//! [`realtime_for_all`], [`lock_memory`], [`keep_only`], start the time-critical threads,
//! [`realtime`].

use std::collections::HashSet;
use std::io;

use caps::{CapSet, Capability};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::sys;

/// The capabilities that the daemon needs: changing addresses, and raw sockets.
pub const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// The capabilities among [`NEEDED`] that this process does not have.
pub fn missing() -> Vec<Capability> {
    let has = |capability| caps::has_cap(None, CapSet::Permitted, capability).unwrap_or(false);
    NEEDED.into_iter().filter(|capability| !has(*capability)).collect()
}

/// A message for the operator about [`missing`] capabilities, with the remedy.
pub fn explain(missing: &[Capability]) -> String {
    let names: Vec<String> = missing.iter().map(Capability::to_string).collect();
    let names = names.join(" ");
    format!("{names} missing: run as root, or by systemd with AmbientCapabilities={names}")
}

/// Drops all capabilities except those of `keep` that the process has. Programs it executes get
/// none, or those of `keep` if it runs as root.
///
/// # Errors
/// There is more than one thread, or the kernel refused.
pub fn keep_only(keep: &[Capability]) -> io::Result<()> {
    restrict_executed_programs(keep)?;
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let kept: HashSet<_> = keep.iter().copied().filter(|cap| permitted.contains(cap)).collect();
    // The effective set must be a subset of the permitted set at all times, so it is reduced first.
    caps::set(None, CapSet::Effective, &kept).map_err(io::Error::other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(io::Error::other)
}

/// The first half of [`keep_only`]: programs that the process executes get no capabilities beyond
/// `keep`. The process itself keeps its own, so that it can still change its user.
///
/// The bounding set cannot be reduced without CAP_SETPCAP, and what is in it a program executed as
/// root would get back; with `no_new_privs` (prctl(2)) it gets at most what the process has. Set-user-ID
/// programs and programs with file capabilities run without them then, always and everywhere: where the
/// bounding set is empty they would not work as intended either.
///
/// # Errors
/// As [`keep_only`].
pub fn restrict_executed_programs(keep: &[Capability]) -> io::Result<()> {
    if !sys::has_one_thread() {
        return Err(io::Error::other("privileges must be given up before there are threads"));
    }
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
        for capability in caps::all() {
            // Reading a capability that this kernel does not know fails; it need not be dropped.
            if !keep.contains(&capability)
                && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false)
            {
                caps::drop(None, CapSet::Bounding, capability).map_err(io::Error::other)?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(io::Error::other)?;
    caps::clear(None, CapSet::Inheritable).map_err(io::Error::other)?;
    Ok(prctl::set_no_new_privs()?)
}

/// Gives the calling thread real-time priority (`SCHED_FIFO`, 1 to 99), which its children and the
/// threads it starts do not inherit.
///
/// # Errors
/// EPERM without CAP_SYS_NICE, or in a cgroup without a real-time budget. The caller should warn
/// and continue.
pub fn realtime(priority: u8) -> io::Result<()> {
    sys::set_scheduler(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, priority.into())
}

/// Gives the calling thread real-time priority (`SCHED_FIFO`, 1 to 99), which its children and the
/// threads it starts inherit until it calls [`realtime`].
///
/// # Errors
/// As [`realtime`].
pub fn realtime_for_all(priority: u8) -> io::Result<()> {
    sys::set_scheduler(libc::SCHED_FIFO, priority.into())
}

/// Returns the calling thread to `SCHED_OTHER`.
///
/// # Errors
/// As sched_setscheduler(2), which always permits this.
pub fn drop_realtime() -> io::Result<()> {
    // Clearing the reset-on-fork flag would need CAP_SYS_NICE.
    sys::set_scheduler(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0)
}

/// Raises the limit on open files to what the process may have at most. Returns what it was before:
/// programs that it executes are to get that again, since some of them cannot use higher descriptors
/// (select(2)).
///
/// # Errors
/// As setrlimit(2), which always permits this.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(soft)
}

/// Locks every page of the process in memory, from its first use on (`MCL_ONFAULT`, mlockall(2)).
///
/// # Errors
/// EPERM, or the limit on locked memory (`RLIMIT_MEMLOCK`) cannot be raised: without CAP_IPC_LOCK,
/// which is dropped later, allocations beyond it would fail. The caller should warn and continue.
pub fn lock_memory() -> io::Result<()> {
    if setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).is_err() {
        let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
        if hard != RLIM_INFINITY {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("locked memory is limited to {hard} bytes (LimitMEMLOCK=infinity)"),
            ));
        }
        setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)?;
    }
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn missing_capabilities_are_named_with_the_remedy() {
        assert_eq!(
            explain(&NEEDED),
            "CAP_NET_ADMIN CAP_NET_RAW missing: run as root, \
             or by systemd with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
        );
    }

    #[test]
    fn privileges_are_not_dropped_beside_other_threads() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        let error = keep_only(&NEEDED).unwrap_err();
        assert!(error.to_string().contains("before there are threads"), "{error}");
        drop(done);
        assert!(other.join().unwrap().is_err());
    }
}
