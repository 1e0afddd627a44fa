//! What leaves in one go: everything that is due at the same moment, in as few system calls as
//! there are sockets.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::vrrp::{Address, Advert, Family, Instant, LinkId, RouterId, Transition};

/// What the protocol has asked for and nothing stands in the way of, by its kind. The kinds leave in
/// this order, so that what peers and clients wait for leaves before what takes long.
#[derive(Debug, Default)]
pub struct Due {
    /// Adverts.
    pub adverts: Vec<DueAdvert>,
    /// Renewals: with the advert just before, if the kernel accepts it.
    pub renewals: Vec<(RouterId, Arc<[Address]>, u32)>,
    /// Announcements.
    pub announcements: Vec<DueAnnouncements>,
    /// Changes of role to tell of.
    pub changes: Vec<Transition>,
}

impl Due {
    /// Whether nothing is due.
    pub fn is_empty(&self) -> bool {
        self.adverts.is_empty()
            && self.renewals.is_empty()
            && self.announcements.is_empty()
            && self.changes.is_empty()
    }
}

/// An advert that is to leave.
#[derive(Debug)]
pub struct DueAdvert {
    /// Where.
    pub link: LinkId,
    /// Whose.
    pub router: RouterId,
    /// The IP source.
    pub from: IpAddr,
    /// The multicast group, or the peers.
    pub to: Arc<[IpAddr]>,
    /// What it says.
    pub advert: Advert,
    /// Its moment in the schedule.
    pub due: Option<Instant>,
}

impl DueAdvert {
    /// By which socket it leaves.
    pub fn socket(&self) -> (LinkId, Family) {
        (self.link, Family::of(self.from))
    }
}

/// Addresses that are to be announced.
#[derive(Debug)]
pub struct DueAnnouncements {
    /// Where.
    pub link: LinkId,
    /// Whose.
    pub router: RouterId,
    /// All that it has.
    pub addresses: Arc<[Address]>,
    /// Those to be announced, by their places.
    pub part: Range<usize>,
    /// It completes a round.
    pub round: bool,
}

impl DueAnnouncements {
    /// The addresses.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let part = self.addresses.get(self.part.clone()).unwrap_or(&[]);
        part.iter().map(|address| address.ip)
    }
}

/// The last advert of a virtual router as bytes: most say the same as the one before.
#[derive(Debug)]
pub struct Encoded {
    from: IpAddr,
    to: Arc<[IpAddr]>,
    advert: Advert,
    /// A message for each destination, all of one length.
    bytes: Vec<u8>,
}

impl Encoded {
    /// Encodes an advert for all its destinations.
    pub fn new(due: &DueAdvert) -> Self {
        let mut message = Vec::new();
        let mut bytes = Vec::new();
        for to in due.to.iter() {
            due.advert.encode(due.from, *to, &mut message);
            bytes.extend_from_slice(&message);
        }
        Encoded { from: due.from, to: due.to.clone(), advert: due.advert.clone(), bytes }
    }

    /// Whether this advert has the same bytes. What is shared is the same; what is not may be equal
    /// and is encoded again.
    pub fn is(&self, due: &DueAdvert) -> bool {
        let Advert { version, vrid, priority, interval, addresses, checksum, authentication } =
            &self.advert;
        self.from == due.from
            && Arc::ptr_eq(&self.to, &due.to)
            && Arc::ptr_eq(addresses, &due.advert.addresses)
            && (version, vrid, priority)
                == (&due.advert.version, &due.advert.vrid, &due.advert.priority)
            && (interval, checksum) == (&due.advert.interval, &due.advert.checksum)
            && *authentication == due.advert.authentication
    }

    /// The destinations, and the message for each.
    pub fn messages(&self) -> impl Iterator<Item = (IpAddr, &[u8])> {
        let length = self.bytes.len() / self.to.len().max(1);
        self.to.iter().copied().zip(self.bytes.chunks_exact(length.max(1)))
    }
}
