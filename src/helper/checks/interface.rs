//! `interface`: another link is up and has carrier.

use crate::host::sys;

use super::tcp::describe;

pub(super) struct InterfaceCheck(String);

impl InterfaceCheck {
    pub(super) fn new(name: String) -> Self {
        InterfaceCheck(name)
    }

    /// Never blocks: the kernel only looks.
    pub(super) fn run(&self) -> Result<String, String> {
        let flags = match sys::interface_flags(&self.0) {
            Ok(flags) => flags,
            Err(error) => return Err(format!("{}: {}", self.0, describe(&error))),
        };
        if flags & libc::IFF_UP == 0 {
            return Err(format!("{} is down", self.0));
        }
        // Up in the sense of RFC 2863: carrier, and nothing more to wait for (802.1X, a bond).
        if flags & libc::IFF_RUNNING == 0 {
            return Err(format!("{} has no carrier", self.0));
        }
        Ok(format!("{} is up", self.0))
    }
}
