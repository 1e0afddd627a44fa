//! What one action is about: addresses on one interface.

use std::sync::Arc;

use super::config::Address;
use super::id::LinkId;

/// What is claimed, announced, renewed or released by one action: addresses on one interface.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The interface that carries them. It need not be the one that carries the adverts.
    pub link: LinkId,
    /// The addresses; the advertised ones come first.
    pub addresses: Arc<[Address]>,
}

impl Held {
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Whether all of it is contained in `other`.
    pub fn is_within(&self, other: &Held) -> bool {
        self.link == other.link
            && self.addresses.iter().all(|address| other.addresses.contains(address))
    }

    /// The addresses for which `keep` is true.
    pub(super) fn filter(&self, keep: impl Fn(&Address) -> bool) -> Held {
        let kept = self.addresses.iter().filter(|address| keep(address)).copied();
        Held { link: self.link, addresses: kept.collect() }
    }

    /// The addresses that are not contained in `other`.
    pub(super) fn without(&self, other: &Held) -> Held {
        self.filter(|address| self.link != other.link || !other.addresses.contains(address))
    }
}
