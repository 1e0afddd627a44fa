//! Processes: starting one by fork, waiting for the end of others, and what the own passes on.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

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

/// Whether this process has no second thread.
pub(crate) fn has_one_thread() -> bool {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count) <= 1
}

/// Starts a copy of this process (fork(2)). Returns the copy's process id, and `None` in the copy.
///
/// # Errors
/// There is more than one thread: the copy would have only this one, and locks that the others held
/// would stay locked in it. Or as fork(2).
pub(crate) fn fork() -> io::Result<Option<i32>> {
    if !has_one_thread() {
        return Err(io::Error::other("a process with threads cannot be copied"));
    }
    // SAFETY: there is no other thread, so the copy may do whatever this process may do.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

/// Takes the status of a child that has ended, of any; `None`: those that there are run on.
///
/// # Errors
/// ECHILD: there is no child.
pub(crate) fn reap_child() -> io::Result<Option<(i32, ExitStatus)>> {
    let mut status = 0;
    // SAFETY: the call only writes the number, which outlives it.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some((pid, ExitStatus::from_raw(status)))),
    }
}

/// A child that has ended and of which nobody has taken the status, which stays so.
pub(crate) fn ended_child() -> Option<i32> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the call only writes the structure, which outlives it.
    if unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) } != 0 {
        return None;
    }
    // SAFETY: the structure consists of integers and was zeroed; waitid fills the field, or leaves
    // it zero if no child has ended.
    let pid = unsafe { info.assume_init().si_pid() };
    (pid != 0).then_some(pid)
}

/// Closes every descriptor from this one on when another program is executed (close_range(2), Linux
/// 5.11).
///
/// # Errors
/// As close_range(2).
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers, and no descriptor is closed before exec.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
