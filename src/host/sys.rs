//! System calls that no crate offers safely; the only place where `unsafe` is allowed.
#![allow(unsafe_code)]

use std::io;

// ---- scheduling ----

/// Sets the scheduling policy (`libc::SCHED_*`, with flags) and the real-time priority of the
/// calling thread.
///
/// # Errors
/// EPERM without CAP_SYS_NICE or in a cgroup without real-time time; EINVAL for a priority the
/// policy does not have.
pub fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the call only reads the structure, which outlives it.
    match unsafe { libc::sched_setscheduler(0, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
