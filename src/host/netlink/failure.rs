//! Why the kernel did not do what it was asked to.

use std::fmt;
use std::io;

/// Why a job failed for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The interface has this address without our mark: it belongs to the host.
    AlreadyThere,
    /// To be renewed, but the interface does not have it.
    Gone,
    /// The renewal came too late: it was not sent, or what the kernel did is not known to have
    /// happened in time.
    Late,
    /// The interface is gone.
    NoDevice,
    /// Anything else: the system's error number, and what the kernel said about it (may be empty).
    Os {
        /// Error number.
        errno: i32,
        /// The kernel's own words.
        text: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::AlreadyThere => f.write_str("the host has this address itself"),
            Failure::Gone => f.write_str("the address is gone"),
            Failure::Late => f.write_str("too late to renew it"),
            Failure::NoDevice => f.write_str("the interface is gone"),
            Failure::Os { errno, text } if text.is_empty() => {
                io::Error::from_raw_os_error(*errno).fmt(f)
            }
            Failure::Os { errno, text } => {
                write!(f, "{text} ({})", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::new(error.raw_os_error().unwrap_or(libc::EIO), String::new())
    }
}

impl Failure {
    pub(super) fn new(errno: i32, text: String) -> Self {
        match errno {
            libc::ENODEV => Failure::NoDevice,
            _ => Failure::Os { errno, text },
        }
    }

    pub(super) fn timed_out() -> Self {
        Failure::new(libc::ETIMEDOUT, String::new())
    }

    pub(super) fn is(&self, wanted: i32) -> bool {
        matches!(self, Failure::Os { errno, .. } if *errno == wanted)
    }
}
