//! `interface`: another link is up and has carrier.

use crate::host::sys;

use super::tcp::describe;

pub(super) struct InterfaceCheck(String);

impl InterfaceCheck {
    pub(super) fn new(name: String) -> Self {
        InterfaceCheck(name)
    }

    /// Does not block: the ioctl only reads flags.
    pub(super) fn run(&self) -> Result<String, String> {
        let flags = match sys::interface_flags(&self.0) {
            Ok(flags) => flags,
            Err(error) => return Err(format!("{}: {}", self.0, describe(&error))),
        };
        if flags & libc::IFF_UP == 0 {
            return Err(format!("{} is down", self.0));
        }
        // Operationally up (RFC 2863): carrier, and neither 802.1X nor a bond is pending.
        if flags & libc::IFF_RUNNING == 0 {
            return Err(format!("{} has no carrier", self.0));
        }
        Ok(format!("{} is up", self.0))
    }
}
