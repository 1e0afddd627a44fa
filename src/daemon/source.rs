//! Sources of events, and events that wait to be passed to the protocol.

use std::net::IpAddr;

use crate::helper::CheckRun;
use crate::vrrp::{Contention, Family, HookOutcome, LinkId, RouterId, SendError};

/// A file descriptor that is waited for; its token is what the poller reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Adverts(LinkId, Family),
    Neighbours(LinkId),
    Netlink,
    Worker,
    Helper,
    Timer,
    Other,
}

impl Source {
    pub(super) fn token(self) -> u64 {
        let with = |kind: u64, link: LinkId| kind << 32 | u64::from(link.0);
        match self {
            Source::Adverts(link, Family::V4) => with(1, link),
            Source::Adverts(link, Family::V6) => with(2, link),
            Source::Neighbours(link) => with(3, link),
            Source::Netlink => 4 << 32,
            Source::Worker => 5 << 32,
            Source::Helper => 6 << 32,
            Source::Timer => 7 << 32,
            Source::Other => 8 << 32,
        }
    }

    pub(super) fn of(token: u64) -> Source {
        let link = LinkId(token as u32);
        match token >> 32 {
            1 => Source::Adverts(link, Family::V4),
            2 => Source::Adverts(link, Family::V6),
            3 => Source::Neighbours(link),
            4 => Source::Netlink,
            5 => Source::Worker,
            6 => Source::Helper,
            7 => Source::Timer,
            _ => Source::Other,
        }
    }
}

/// An event for the protocol that was found while handling another.
#[derive(Clone, Debug)]
pub(super) enum PendingEvent {
    AddressGone(RouterId, IpAddr),
    Checked(String, CheckRun),
    Contention(Contention),
    /// An interface came up or changed: the kernel may have removed the entries of its multicast
    /// groups.
    Groups(LinkId),
    HookFinished(RouterId, HookOutcome),
    Link(LinkId),
    /// An advert that had left could not be delivered.
    AdvertRefused(RouterId, IpAddr, SendError),
}
