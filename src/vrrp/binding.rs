//! Which device a link is: it is followed by its name, and acted on by the device's index.
//!
//! When the device loses the name, as it is renamed, moved to another namespace or deleted, the
//! virtual routers leave it by its index: priority 0 is sent and the addresses are released there,
//! as far as it still exists. Only then the device that has the name by now is used, so the
//! actions of one device never reach another.

use super::delivery::Delivery;
use super::id::LinkId;
use super::node::Node;

/// The device that a link is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    index: u32,
    lost: bool,
}

impl Binding {
    /// Binds a link to the device that has its name.
    pub fn new(index: u32) -> Self {
        Binding { index, lost: false }
    }

    /// The index of the device, also after it has lost the name.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The device has lost the name, even if it has it again by now.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// Whether the device has lost the name: to the virtual routers the interface is missing.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether it has lost the name and nothing is left to do on it, so that the link can be bound
    /// to the device that has the name now. The virtual routers have been told before, and what they
    /// asked for has been handed to `delivery`.
    pub fn is_left(&self, link: LinkId, node: &Node, delivery: &Delivery) -> bool {
        let mut holders = node.routers().filter(|router| router.holding().held().link == link);
        self.lost && delivery.is_idle_on(link) && !holders.any(|router| router.has_addresses())
    }
}
