//! Packets that were not acted on, and why.

use std::fmt;

use super::advert::Malformed;
use super::config::{Interval, Version, Vrid};
use super::id::RouterId;

/// A packet that was not acted on: the peer's business, counted, never an error of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Discard {
    /// The virtual router it meant, if this host has it. Of a malformed packet only its VRID is
    /// believed, so that it is counted where the operator looks for it.
    pub router: Option<RouterId>,
    /// Why it was not acted on.
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
    /// No advert (RFC 9568 7.1).
    Malformed(Malformed),
    /// No virtual router of ours has this VRID on this link (RFC 9568 7.1).
    UnknownRouter(Vrid),
    /// It bears our own source address.
    OwnAdvert,
    /// TTL or hop limit shows that it was forwarded (RFC 9568 5.1.1.3, 5.1.2.3).
    Ttl(u8),
    /// Its sender is not in `accept_from`.
    NotAccepted,
    /// Its sender is not in `unicast_peers`.
    NotAPeer,
    /// It means our virtual router, but the settings differ.
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
            DiscardReason::Incompatible(mismatch) => mismatch.fmt(f),
        }
    }
}

/// What keeps two routers that mean the same virtual router from understanding each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// The protocol version.
    Version(Version),
    /// Type or text of version 2's authentication.
    Authentication,
    /// Version 2 requires equal intervals.
    Interval(Interval),
    /// It sends to our own address, we expect multicast.
    Unicast,
    /// It sends multicast, we expect unicast.
    Multicast,
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
            Mismatch::Unicast => f.write_str(
                "they come by unicast and multicast is expected: set `unicast_peers` here, or remove it there",
            ),
            Mismatch::Multicast => f.write_str(
                "they come by multicast and unicast is expected: remove `unicast_peers` here, or set it there",
            ),
        }
    }
}
