//! Actions: what the driver has to do.

use std::net::IpAddr;
use std::sync::Arc;

use super::advert::Advert;
use super::config::Priority;
use super::held::Held;
use super::hook::Hook;
use super::id::RouterId;
use super::role::Role;
use super::time::Instant;
use super::warning::Warning;
use super::why::Why;

/// What the driver has to do, in the order given. All actions are idempotent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send an advert to each destination.
    Advertise {
        router: RouterId,
        /// The IP source.
        from: IpAddr,
        /// The multicast group, or the unicast peers.
        to: Arc<[IpAddr]>,
        advert: Advert,
        /// When it was to be sent, if it is a scheduled one.
        due: Option<Instant>,
    },
    /// Announce addresses by gratuitous ARP or unsolicited neighbour advertisements.
    Announce {
        router: RouterId,
        held: Held,
        /// Whether to ask afterwards whether another host has them: by ARP probes (RFC 5227) or
        /// neighbour solicitations. Answers are reported by
        /// [`Event::Contention`](super::Event::Contention).
        probe: bool,
    },
    /// Add addresses to their interface. Later actions of this router wait until that is done.
    Claim {
        router: RouterId,
        held: Held,
        /// The kernel removes the addresses after this many seconds, unless they are renewed.
        lifetime: Option<u32>,
        /// Whether this is everything that is held, and no addition to what is there already.
        all: bool,
    },
    /// The role has changed: log that, run hooks, record it.
    Notify(Transition),
    /// Remove addresses that carry our mark. Later actions of this router wait until that is done.
    Release { router: RouterId, held: Held },
    /// Renew the lifetime of addresses, if the kernel accepted the advert just before.
    Renew {
        router: RouterId,
        held: Held,
        /// The new lifetime, in seconds.
        lifetime: u32,
    },
    /// Log a warning. The rate is limited already.
    Warn { router: RouterId, warning: Warning },
}

impl Action {
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

/// A change of role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transition {
    pub router: RouterId,
    pub from: Role,
    pub to: Role,
    pub why: Why,
    /// The effective priority from now on.
    pub priority: Priority,
    /// The `before_release` hook has to run, and its end to be reported.
    pub before_release: bool,
    /// An operator has moved it to another host, and it is not to preempt.
    pub held_back: bool,
    /// Whether hooks run. Not if the role of an earlier daemon is resumed; and of a sync group's
    /// members only for the one whose transition completes the group's change of role.
    pub hooks: bool,
}

impl Transition {
    /// Whether it takes the addresses over, rather than going on after an offer to hand them over.
    pub fn takes_over(&self) -> bool {
        self.to == Role::Master && self.from != Role::Leaving
    }

    /// The hook that belongs to this change of role, if it has one. `hooks` says whether it runs.
    pub fn hook(&self) -> Option<Hook> {
        match self.to {
            Role::Master => Some(Hook::Master),
            Role::Backup => Some(Hook::Backup),
            Role::Fault => Some(Hook::Fault),
            Role::Stopped => Some(Hook::Stop),
            Role::Claiming => Some(Hook::BeforeClaim),
            Role::Leaving if self.before_release => Some(Hook::BeforeRelease),
            Role::Leaving | Role::Waiting => None,
        }
    }
}
