//! Warnings: problems that an operator should look at.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::config::{Interval, Priority};
use super::discard::Mismatch;
use super::event::ClaimError;
use super::id::Mac;
use super::refusal::SendError;

/// A problem that an operator should look at. It has no effect on the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warning {
    /// An unadvertised address could not be added or kept, so it is not served.
    AddressMissing { address: IpAddr, error: ClaimError },
    /// Another program on this host removed an address of ours.
    AddressPutBack { address: IpAddr },
    /// Another host announced an address that we hold, or answered a probe for it.
    Contention {
        address: IpAddr,
        /// The link-layer address of the other host.
        mac: Mac,
    },
    /// It has taken over so often that it does so no more for this long.
    Damped { wait: Duration },
    /// A peer advertises other addresses than we do.
    DifferentAddresses { source: IpAddr },
    /// A peer's advert interval differs from ours.
    DifferentInterval { source: IpAddr, interval: Interval },
    /// A peer's adverts are for this virtual router, but do not fit our settings.
    Incompatible { source: IpAddr, mismatch: Mismatch },
    /// Another router, of lower priority, is also master.
    LowerMaster { source: IpAddr, priority: Priority },
    /// The interface has lost the source address of the adverts.
    SourceGone { source: IpAddr },
    /// Adverts do not leave for this destination, or do not arrive there.
    AdvertRefused { to: IpAddr, error: SendError },
    /// Two routers claim to own the addresses (RFC 9568, erratum 8298).
    TwoOwners { source: IpAddr },
}

impl Warning {
    /// The kind as a number: the rate is limited for each kind.
    pub(super) fn kind(self) -> u8 {
        match self {
            Warning::AddressPutBack { .. } => 0,
            Warning::Contention { .. } => 1,
            Warning::DifferentAddresses { .. } => 2,
            Warning::DifferentInterval { .. } => 3,
            Warning::Incompatible { .. } => 4,
            Warning::LowerMaster { .. } => 5,
            Warning::TwoOwners { .. } => 6,
            Warning::Damped { .. } => 8,
            Warning::AddressMissing { .. } => 7,
            Warning::SourceGone { .. } => 8,
            Warning::AdvertRefused { .. } => 9,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::AddressMissing { address, error } => write!(
                f,
                "{address} is missing: {error}; the other addresses are served, and this one is tried again"
            ),
            Warning::AddressPutBack { address } => {
                write!(f, "something on this host removed {address}; it was put back")
            }
            Warning::Contention { address, mac } => {
                write!(
                    f,
                    "{mac} announces {address}, which is ours: another machine has it, too; announcing it again"
                )
            }
            Warning::Damped { wait } => write!(
                f,
                "it has taken over many times within a minute: the next takeover waits {wait:?}, and longer if this goes on"
            ),
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
                "{source} is also master, with the lower priority {priority}; adverts and announcements were repeated"
            ),
            Warning::SourceGone { source } => write!(
                f,
                "the interface has lost {source}, which adverts are sent from; they go on for three intervals"
            ),
            Warning::AdvertRefused { to, error } => {
                write!(f, "adverts to {to} do not arrive: {error}")
            }
            Warning::TwoOwners { source } => {
                write!(f, "{source} has priority 255 too: only one host can own the addresses")
            }
        }
    }
}
