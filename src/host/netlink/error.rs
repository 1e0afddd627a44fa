//! Why an operation on an address failed.

use std::fmt;
use std::io;

use crate::vrrp::Mark;

/// Why an operation on an address failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// The interface has the address, and it was not added for the virtual router: whose it is.
    AlreadyThere(Mark),
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

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::AlreadyThere(mark) => mark.fmt(f),
            AddressError::Gone => f.write_str("the address is gone"),
            AddressError::Late => f.write_str("too late to renew it"),
            AddressError::NoDevice => f.write_str("the interface is gone"),
            AddressError::Os { errno, text } if text.is_empty() => {
                io::Error::from_raw_os_error(*errno).fmt(f)
            }
            AddressError::Os { errno, text } => {
                write!(f, "{text} ({})", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl std::error::Error for AddressError {}

impl From<io::Error> for AddressError {
    fn from(error: io::Error) -> Self {
        AddressError::new(error.raw_os_error().unwrap_or(libc::EIO), String::new())
    }
}

impl AddressError {
    pub(super) fn new(errno: i32, text: String) -> Self {
        match errno {
            libc::ENODEV => AddressError::NoDevice,
            _ => AddressError::Os { errno, text },
        }
    }

    pub(super) fn timed_out() -> Self {
        AddressError::new(libc::ETIMEDOUT, String::new())
    }

    pub(super) fn is(&self, wanted: i32) -> bool {
        matches!(self, AddressError::Os { errno, .. } if *errno == wanted)
    }
}
