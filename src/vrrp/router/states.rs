//! The states of a virtual router, each with the deadlines that it waits for, and its role: what a
//! state is called in status and hooks.

use std::fmt;
use std::net::IpAddr;

use crate::vrrp::config::Priority;
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

/// Where a virtual router stands; a deadline lives in the state that waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Cannot take part: the set of reasons is not empty.
    Fault,
    /// Somebody else is master, or nobody yet (RFC 9568 6.4.2).
    Backup {
        /// The master-down timer; `None`: does not take over (drained, stopped).
        takeover_at: Option<Instant>,
    },
    /// A takeover is due, and the `before_claim` hook is asked; on the wire still a backup.
    Claiming {
        /// Not longer than this.
        until: Instant,
        /// What made the takeover due.
        why: Why,
        /// It may be deaf, and is to advertise priority 1 at first.
        starting_without_peers: bool,
    },
    /// Holds the addresses and says so (RFC 9568 6.4.3).
    Master {
        /// Next advert of the schedule.
        advert_at: Instant,
        /// An advert beside the schedule that had to wait.
        extra_at: Option<Instant>,
        /// When the last advert beside the schedule left.
        extra_sent_at: Option<Instant>,
        /// When the last advert left, of whatever kind.
        sent_at: Instant,
        /// A newcomer that may be deaf advertises priority 1 until then.
        unheard_until: Option<Instant>,
        /// Since when it has stayed beside an equal master that its group's first member may beat.
        tie_since: Option<Instant>,
    },
    /// Gives the addresses away and still answers for them.
    Leaving {
        /// What for.
        leave: Leave,
        /// How far it is.
        phase: Phase,
        /// When the last advert left.
        sent_at: Instant,
    },
}

/// The steps of leaving.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The `before_release` hook runs; adverts go on.
    Preparing {
        /// Not longer than this.
        until: Instant,
        /// Next advert of the schedule.
        advert_at: Instant,
    },
    /// Priority 0 was sent; we answer until somebody takes over.
    Offered {
        /// The wait ends here.
        successor_by: Instant,
        /// Priority 0 again; not sooner, it would postpone the successor.
        repeat_at: Instant,
    },
    /// The successor advertised; its announcement makes the network forget us.
    Succeeded {
        /// The successor.
        to: IpAddr,
    },
}

/// Why a master leaves while it could stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leave {
    /// The daemon stops.
    Stop,
    /// The operator moved this virtual router.
    Failover,
    /// The operator drained the host.
    Drain,
    /// The virtual router is no longer configured.
    Removed,
    /// Another member of its sync group leaves.
    Group,
    /// A better router advertised.
    Election {
        /// The winner.
        to: IpAddr,
        /// Its priority.
        priority: Priority,
    },
}

names! {
    Leave {
        Stop = "stop",
        Failover = "failover",
        Drain = "drain",
        Removed = "removed",
        Group = "group",
        Election = "lost_election",
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leave::Stop => f.write_str("the daemon stops"),
            Leave::Failover => f.write_str("failover was asked for"),
            Leave::Drain => f.write_str("the host is drained"),
            Leave::Removed => f.write_str("the virtual router was removed from the configuration"),
            Leave::Group => f.write_str("another member of its sync group leaves"),
            Leave::Election { to, priority } => {
                write!(f, "{to} advertised the better priority {priority}")
            }
        }
    }
}

words! {
    /// What a virtual router is, in the operators' words.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Role {
        /// Not decided yet.
        Waiting = "waiting",
        /// Ready to take over.
        Backup = "backup",
        /// Asks the `before_claim` hook whether it may take over.
        Claiming = "claiming",
        /// Holds the addresses.
        Master = "master",
        /// Gives the addresses away.
        Leaving = "leaving",
        /// Cannot take part.
        Fault = "fault",
        /// No longer takes part: the daemon stops, or the router was removed.
        Stopped = "stopped",
    }
}
