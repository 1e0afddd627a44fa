//! The batch: everything that is due at the same moment, in the order in which it is carried out.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::vrrp::{Advert, Family, Held, Instant, LinkId, RouterId, Transition, Why};

/// Actions that nothing delays any more, by kind.
///
/// The kinds are carried out in the order of the fields, so that what peers and clients wait for is
/// sent before what takes long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Batch {
    pub adverts: Vec<DueAdvert>,
    /// Each with the advert before it, and only if the kernel accepted that.
    pub renewals: VecDeque<(RouterId, Held, u32)>,
    pub announcements: Vec<DueAnnouncement>,
    pub transitions: Vec<Transition>,
}

impl Batch {
    /// The first advert of a takeover was refused, if one was sent just now: nothing that was to
    /// follow from it becomes visible. Returns whether there was a takeover. One that resumes has the
    /// addresses already, and goes on for as long as peers wait.
    pub(super) fn call_off_takeover(&mut self, id: RouterId) -> bool {
        let of_router = self.transitions.iter_mut().filter(|change| change.router == id);
        let mut called_off = false;
        for change in of_router.filter(|change| change.takes_over() && change.why != Why::Resumed) {
            change.hooks = false;
            called_off = true;
        }
        if called_off {
            self.announcements.retain(|due| due.router != id);
        }
        called_off
    }

    pub(super) fn is_empty(&self) -> bool {
        self.adverts.is_empty()
            && self.renewals.is_empty()
            && self.announcements.is_empty()
            && self.transitions.is_empty()
    }
}

/// An advert that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DueAdvert {
    /// The link on which it is sent.
    pub link: LinkId,
    pub router: RouterId,
    /// The IP source.
    pub from: IpAddr,
    /// The multicast group, or the unicast peers.
    pub to: Arc<[IpAddr]>,
    pub advert: Advert,
    /// When it was to be sent, if it is a scheduled one.
    pub due: Option<Instant>,
}

impl DueAdvert {
    /// The link and the address family: adverts with the same ones are sent by the same socket.
    pub fn socket(&self) -> (LinkId, Family) {
        (self.link, Family::of(self.from))
    }
}

/// Addresses that are to be announced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DueAnnouncement {
    pub router: RouterId,
    /// The round: all addresses that it announces, and the interface.
    pub held: Held,
    /// The places in the list of those that are to be announced now.
    pub part: Range<usize>,
    /// Whether this completes a round. Addresses of a long list are announced as soon as each part
    /// of them has been added; the round is complete with the last part.
    pub completes_round: bool,
    /// Whether to ask afterwards whether another host has them.
    pub probe: bool,
}

impl DueAnnouncement {
    /// The addresses that are to be announced now.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let part = self.held.addresses.get(self.part.clone()).unwrap_or(&[]);
        part.iter().map(|address| address.ip)
    }
}
