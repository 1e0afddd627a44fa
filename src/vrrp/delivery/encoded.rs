//! Adverts as bytes, kept from one to the next: most are identical to the one before.

use std::net::IpAddr;
use std::sync::Arc;

use super::DueAdvert;
use crate::vrrp::Advert;

/// The last advert of a virtual router as bytes.
#[derive(Debug)]
pub struct Encoded {
    from: IpAddr,
    to: Arc<[IpAddr]>,
    advert: Advert,
    /// One message for each destination, all of the same length.
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

    /// Whether this advert has the same bytes. Lists are compared by identity: one that is equal but
    /// not shared is encoded again, which costs less than comparing every list.
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
