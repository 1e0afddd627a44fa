//! What the daemon may do to the machine: given up to the least that adverts and addresses need.
//!
//! Capabilities belong to a thread, so all of this comes before any second thread exists, logging's
//! writer included. In order: start the helper, [`realtime_for_all`], [`lock_memory`], [`keep_only`],
//! start what is urgent, [`realtime`].

use std::collections::HashSet;
use std::io;

use caps::{CapSet, Capability};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::sys;

/// What the daemon cannot do without: addresses, and raw sockets.
pub const NEEDED: [Capability; 2] = [Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];

/// Which of [`NEEDED`] this process does not have.
pub fn missing() -> Vec<Capability> {
    let has = |capability| caps::has_cap(None, CapSet::Permitted, capability).unwrap_or(false);
    NEEDED.into_iter().filter(|capability| !has(*capability)).collect()
}

/// What to tell the operator about [`missing`] capabilities.
pub fn explain(missing: &[Capability]) -> String {
    let names: Vec<String> = missing.iter().map(Capability::to_string).collect();
    let names = names.join(" ");
    format!("{names} missing: run as root, or by systemd with AmbientCapabilities={names}")
}

/// Gives up all capabilities except `keep`, for this process and whatever it executes; those of
/// `keep` it did not have stay missing. A program it executes gets none at all, unless as root:
/// then `keep`.
///
/// Without CAP_SETPCAP the bounding set stays as it is, so a program executed as root may then
/// regain what the surroundings of this process allow it.
///
/// # Errors
/// There is more than one thread, or the kernel refused.
pub fn keep_only(keep: &[Capability]) -> io::Result<()> {
    never_regain(keep)?;
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    let kept: HashSet<_> = keep.iter().copied().filter(|cap| permitted.contains(cap)).collect();
    // Effective first: what is effective must be permitted at all times.
    caps::set(None, CapSet::Effective, &kept).map_err(io::Error::other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(io::Error::other)
}

/// The first half of [`keep_only`]: what this process has now it keeps, so that it can still become
/// another user, but no program it executes gets more than `keep`.
///
/// # Errors
/// As there.
pub fn never_regain(keep: &[Capability]) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count) > 1 {
        return Err(io::Error::other("privileges must be given up before there are threads"));
    }
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
        for capability in caps::all() {
            // A capability this kernel does not know cannot be read, and need not be dropped.
            if !keep.contains(&capability)
                && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false)
            {
                caps::drop(None, CapSet::Bounding, capability).map_err(io::Error::other)?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(io::Error::other)?;
    caps::clear(None, CapSet::Inheritable).map_err(io::Error::other)
}

/// Gives this thread real-time priority (1-99) that neither its children nor threads started later
/// inherit.
///
/// # Errors
/// Not allowed here: without CAP_SYS_NICE, or in a cgroup without real-time time. The caller warns
/// and goes on.
pub fn realtime(priority: u8) -> io::Result<()> {
    sys::set_scheduler(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, priority.into())
}

/// Gives this thread real-time priority (1-99), and every thread and process that it starts before
/// it says [`realtime`].
///
/// # Errors
/// As there.
pub fn realtime_for_all(priority: u8) -> io::Result<()> {
    sys::set_scheduler(libc::SCHED_FIFO, priority.into())
}

/// Gives real-time priority up again.
///
/// # Errors
/// None that a kernel is known to give.
pub fn ordinary_priority() -> io::Result<()> {
    // That children inherit nothing cannot be taken back without CAP_SYS_NICE.
    sys::set_scheduler(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0)
}

/// Keeps every page of the process in memory from when it is first touched.
///
/// # Errors
/// Not allowed here; the caller warns and goes on. Also refused where the limit on locked memory
/// cannot be lifted: once CAP_IPC_LOCK is given up, that limit would make allocations fail.
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
    fn what_is_missing_is_named_with_its_remedy() {
        assert_eq!(
            explain(&NEEDED),
            "CAP_NET_ADMIN CAP_NET_RAW missing: run as root, \
             or by systemd with AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
        );
    }

    #[test]
    fn privileges_are_not_given_up_by_half_beside_other_threads() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        let error = keep_only(&NEEDED).unwrap_err();
        assert!(error.to_string().contains("before there are threads"), "{error}");
        drop(done);
        assert!(other.join().unwrap().is_err());
    }
}
