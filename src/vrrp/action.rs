//! What the protocol says is to be done.

use std::net::IpAddr;
use std::sync::Arc;

use super::advert::Advert;
use super::config::Priority;
use super::holding::Held;
use super::id::RouterId;
use super::router::Role;
use super::time::Instant;
use super::warning::Warning;
use super::why::Why;

/// What is to be done, in the order given; doing one twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send an advert to each destination.
    Advertise {
        /// The virtual router that asks for it.
        router: RouterId,
        /// The IP source.
        from: IpAddr,
        /// The multicast group, or the unicast peers.
        to: Arc<[IpAddr]>,
        /// The message.
        advert: Advert,
        /// The moment it was to leave, if it is one of the schedule.
        due: Option<Instant>,
    },
    /// Tell the link by gratuitous ARP or neighbour advertisement that we have the addresses.
    Announce {
        /// The virtual router that asks for it.
        router: RouterId,
        /// What is held.
        held: Held,
    },
    /// Add addresses to the interface; what follows for this router waits until it is done.
    Claim {
        /// The virtual router that asks for it.
        router: RouterId,
        /// What is held.
        held: Held,
        /// The kernel removes them after this many seconds unless renewed.
        lifetime: Option<u32>,
    },
    /// A role changed: log it, run hooks, record it.
    Notify(Transition),
    /// Remove addresses that are ours; what follows for this router waits until it is done.
    Release {
        /// The virtual router that asks for it.
        router: RouterId,
        /// What is held.
        held: Held,
    },
    /// Begin the addresses' lifetime anew, if the advert just before was accepted by the kernel.
    Renew {
        /// The virtual router that asks for it.
        router: RouterId,
        /// What is held.
        held: Held,
        /// The new lifetime, in seconds.
        lifetime: u32,
    },
    /// Somebody should look; the rate is limited already.
    Warn {
        /// The virtual router that it is about.
        router: RouterId,
        /// The warning.
        warning: Warning,
    },
}

impl Action {
    /// The virtual router that asks for it.
    pub fn router(&self) -> RouterId {
        match self {
            Action::Advertise { router, .. }
            | Action::Announce { router, .. }
            | Action::Claim { router, .. }
            | Action::Release { router, .. }
            | Action::Renew { router, .. }
            | Action::Warn { router, .. } => *router,
            Action::Notify(transition) => transition.router,
        }
    }
}

/// One change of role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transition {
    /// Whose.
    pub router: RouterId,
    /// The role before.
    pub from: Role,
    /// The role now.
    pub to: Role,
    /// The reason.
    pub why: Why,
    /// The effective priority now.
    pub priority: Priority,
    /// The `before_release` hook is to run, and its end to be reported.
    pub before_release: bool,
    /// Whether hooks run: not when an earlier daemon's role simply goes on, and for a sync group on
    /// one member's transition only, the one that completes the group's change of role.
    pub hooks: bool,
}
