//! Trouble that changes nothing of what is done, but that somebody should look at.

use std::fmt;
use std::net::IpAddr;

use super::config::{Interval, Priority};
use super::discard::Mismatch;
use super::id::Mac;

/// Trouble that does not change what we do, but that somebody should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warning {
    /// Somebody on this host removed an address of ours.
    AddressPutBack {
        /// Which.
        address: IpAddr,
    },
    /// Somebody else announced an address that we hold.
    Contention {
        /// Which.
        address: IpAddr,
        /// Who.
        mac: Mac,
    },
    /// A peer's list of addresses differs from ours.
    DifferentAddresses {
        /// Who.
        source: IpAddr,
    },
    /// A peer's interval differs from ours.
    DifferentInterval {
        /// Who.
        source: IpAddr,
        /// What it uses.
        interval: Interval,
    },
    /// A peer means this virtual router, but cannot be understood with our settings.
    Incompatible {
        /// Who.
        source: IpAddr,
        /// What differs.
        mismatch: Mismatch,
    },
    /// Another router of lower priority is master beside us.
    LowerMaster {
        /// Who.
        source: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// Two routers claim to own the addresses (erratum 8298).
    TwoOwners {
        /// The other.
        source: IpAddr,
    },
}

impl Warning {
    /// Numbers the kinds, so that each has its own rate.
    pub(super) fn kind(self) -> u8 {
        match self {
            Warning::AddressPutBack { .. } => 0,
            Warning::Contention { .. } => 1,
            Warning::DifferentAddresses { .. } => 2,
            Warning::DifferentInterval { .. } => 3,
            Warning::Incompatible { .. } => 4,
            Warning::LowerMaster { .. } => 5,
            Warning::TwoOwners { .. } => 6,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::AddressPutBack { address } => {
                write!(f, "something on this host removed {address}; it was put back")
            }
            Warning::Contention { address, mac } => {
                write!(f, "{mac} announces {address}, which is ours; announcing it again")
            }
            Warning::DifferentAddresses { source } => write!(
                f,
                "{source} advertises other addresses for this virtual router: make `addresses` equal on both"
            ),
            Warning::DifferentInterval { source, interval } => write!(
                f,
                "{source} advertises every {interval}: make `advert_interval` equal on both"
            ),
            Warning::Incompatible { source, mismatch } => {
                write!(f, "adverts of {source} cannot be used: {mismatch}")
            }
            Warning::LowerMaster { source, priority } => write!(
                f,
                "{source} is master beside us with the lower priority {priority}; adverts and announcements were repeated"
            ),
            Warning::TwoOwners { source } => {
                write!(f, "{source} has priority 255 too: only one host can own the addresses")
            }
        }
    }
}
