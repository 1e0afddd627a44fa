//! Discarded packets, and why they were.

use std::fmt;

use super::advert::Malformed;
use super::config::{Interval, Version, Vrid};
use super::id::RouterId;

/// A received packet that was not acted on. Not an error of ours: it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Discard {
    /// The virtual router that it was for, if this host has it. A malformed packet is counted for
    /// the virtual router of its VRID, where an operator looks for it.
    pub router: Option<RouterId>,
    pub reason: DiscardReason,
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

/// Why a packet was not acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiscardReason {
    /// Not a valid advert (RFC 9568 7.1).
    Malformed(Malformed),
    /// No virtual router of ours has this VRID on this link (RFC 9568 7.1).
    UnknownRouter(Vrid),
    /// Its source is our own address.
    OwnAdvert,
    /// Its TTL or hop limit shows that a router forwarded it (RFC 9568 5.1.1.3, 5.1.2.3).
    Ttl(u8),
    /// Its sender is not in `accept_from`.
    NotAccepted,
    /// Its sender is not in `unicast_peers`.
    NotAPeer,
    /// It has priority 0, and its sender is not the master that was heard last.
    NotTheMaster,
    /// It is for our virtual router, but a setting differs.
    Incompatible(Mismatch),
}

names! {
    DiscardReason {
        Malformed = "malformed",
        UnknownRouter = "unknown_router",
        OwnAdvert = "own_advert",
        Ttl = "ttl",
        NotAccepted = "not_accepted",
        NotAPeer = "not_a_peer",
        NotTheMaster = "not_the_master",
        Incompatible = "incompatible",
    }
}

impl fmt::Display for DiscardReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiscardReason::Malformed(malformed) => malformed.fmt(f),
            DiscardReason::UnknownRouter(vrid) => {
                write!(f, "no virtual router {vrid} on this link")
            }
            DiscardReason::OwnAdvert => f.write_str("it bears our own address"),
            DiscardReason::Ttl(ttl) => write!(f, "its TTL is {ttl}"),
            DiscardReason::NotAccepted => f.write_str("its sender is not in accept_from"),
            DiscardReason::NotAPeer => f.write_str("its sender is not in unicast_peers"),
            DiscardReason::NotTheMaster => {
                f.write_str("it has priority 0, and its sender is not the master")
            }
            DiscardReason::Incompatible(mismatch) => mismatch.fmt(f),
        }
    }
}

/// Why the adverts of a router cannot be used that are for our virtual router: a setting that differs
/// from ours, or that does not admit them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mismatch {
    Version(Version),
    /// Type or text of the authentication (version 2).
    Authentication,
    /// The advert interval, which version 2 requires to be equal.
    Interval(Interval),
    /// Its advert interval is longer than `max_peer_interval`.
    Slow(Interval),
    /// Its adverts are unicast, and we expect multicast.
    Unicast,
    /// Its adverts are multicast, and we expect unicast.
    Multicast,
    /// Its adverts name none of our addresses: it is another virtual router.
    Addresses,
    /// `accept_from` does not name it.
    NotAccepted,
    /// `unicast_peers` does not name it.
    NotAPeer,
    /// The TTL or hop limit of its adverts is too low.
    Ttl(u8),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Version(version) => {
                write!(f, "they are VRRP version {version}: make `version` equal on both")
            }
            Mismatch::Authentication => {
                f.write_str("their authentication differs: make `authentication` equal on both")
            }
            Mismatch::Interval(interval) => write!(
                f,
                "their interval is {interval}, and version 2 wants it equal: change `advert_interval`"
            ),
            Mismatch::Slow(interval) => write!(
                f,
                "their interval is {interval}, which is longer than `max_peer_interval`: make `advert_interval` equal on both, or raise it"
            ),
            Mismatch::Unicast => f.write_str(
                "they come by unicast and multicast is expected: set `unicast_peers` here, or remove it there",
            ),
            Mismatch::Addresses => f.write_str(
                "they name none of our addresses, so another virtual router uses this `vrid`: choose another one here or there",
            ),
            Mismatch::NotAccepted => f.write_str(
                "`accept_from` does not name their sender: add it there, if it is a peer",
            ),
            Mismatch::NotAPeer => f.write_str(
                "`unicast_peers` does not name their sender: add it there, if it is a peer",
            ),
            Mismatch::Ttl(ttl) => write!(
                f,
                "their TTL is {ttl}: over multicast they have to send 255; over routers lower `unicast_min_ttl`"
            ),
            Mismatch::Multicast => f.write_str(
                "they come by multicast and unicast is expected: remove `unicast_peers` here, or set it there",
            ),
        }
    }
}
