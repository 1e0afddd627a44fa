//! Processes: when one has ended, and how this one is scheduled.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A descriptor of a process that is readable as soon as it has ended.
///
/// # Errors
/// ESRCH: there is no such process.
pub fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the scheduling policy (`libc::SCHED_*`, with flags) and the real-time priority of the
/// calling thread.
///
/// # Errors
/// EPERM without CAP_SYS_NICE or in a cgroup without real-time time; EINVAL for a priority the
/// policy does not have.
pub fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    // The call itself: musl's function of this name always fails. To the kernel the parameters are
    // one number.
    let parameters: *const libc::c_int = &priority;
    // SAFETY: the call only reads the number, which outlives it.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// This process, and whatever it executes, may not ask for real-time priority any more, unless it
/// has CAP_SYS_NICE.
///
/// # Errors
/// None that a kernel is known to give: a limit may always be lowered.
pub fn forbid_realtime() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call only reads the structure, which outlives it.
    match unsafe { libc::setrlimit(libc::RLIMIT_RTPRIO, &none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
