//! Why an operation on an address failed.

use std::fmt;
use std::io;

/// Why an operation on an address failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The interface has the address without our mark, so it belongs to the host.
    AlreadyThere,
    /// The address to renew is not on the interface.
    Gone,
    /// The lifetime may have ended before the renewal took effect: it was not sent, or was answered
    /// too late.
    Late,
    /// The interface does not exist any more (ENODEV).
    NoDevice,
    /// Any other error.
    Os {
        /// The error number (errno(3)).
        errno: i32,
        /// The kernel's explanation (`NLMSGERR_ATTR_MSG`); may be empty.
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
