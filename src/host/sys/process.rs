//! Processes: waiting for the end of one, and scheduling of the own.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Opens a descriptor of a process, which becomes readable when the process ends (pidfd_open(2)).
///
/// # Errors
/// ESRCH: there is no such process.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us, and nothing else owns it.
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
pub(crate) fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    // The system call itself, because sched_setscheduler() of musl always fails. `struct
    // sched_param` consists of one int.
    let parameters: *const libc::c_int = &priority;
    // SAFETY: the call only reads the number, which outlives it.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets `RLIMIT_RTPRIO` to 0: without CAP_SYS_NICE this process and its children can no longer
/// request real-time priority.
///
/// # Errors
/// As setrlimit(2), which always permits lowering a limit.
pub(crate) fn forbid_realtime() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call only reads the structure, which outlives it.
    match unsafe { libc::setrlimit(libc::RLIMIT_RTPRIO, &none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
