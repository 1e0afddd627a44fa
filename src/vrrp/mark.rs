//! The mark of an address: which virtual router it was added for.

use std::fmt;

use super::config::{Family, RouterConfig, Vrid};

/// What an address on an interface says of who added it.
///
/// Several daemons on a host have the same mark in common, but only one of them has a certain virtual
/// router of an interface, so the mark also says which virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// It is the host's own: no vipd added it.
    None,
    /// It was added for the virtual router of this family and VRID on its interface.
    Router(Family, Vrid),
    /// It was added by a version that did not say for which virtual router.
    Unnamed,
}

impl Mark {
    /// The mark of the addresses that are added for this virtual router.
    pub fn of(router: &RouterConfig) -> Self {
        Mark::Router(router.family, router.vrid)
    }

    /// Whether an address with this mark, which a virtual router names, is that router's and may be
    /// renewed and removed for it. `router` is the mark of the router.
    pub fn is_of(self, router: Mark) -> bool {
        match self {
            Mark::None => false,
            Mark::Router(..) => self == router,
            Mark::Unnamed => true,
        }
    }
}

/// Who has the address, as a clause.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::None => f.write_str("the host has this address itself"),
            Mark::Router(family, vrid) => {
                write!(f, "another vipd on this host has this address, for {family} VRID {vrid}")
            }
            Mark::Unnamed => f.write_str("an earlier vipd added this address"),
        }
    }
}
