//! The role that status and hooks show for the state of the election, and why a master leaves.

use std::fmt;
use std::net::IpAddr;

use super::config::Priority;

words! {
    /// The role of a virtual router, as shown to operators.
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
        /// Hands the addresses over.
        Leaving = "leaving",
        /// Cannot take part.
        Fault = "fault",
        /// No longer takes part: the daemon stops, or the router was removed.
        Stopped = "stopped",
    }
}

/// Why a master leaves without being in fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leave {
    /// The daemon stops.
    Stop,
    /// An operator moved this virtual router.
    Failover,
    /// An operator drained the host.
    Drain,
    /// The virtual router is no longer configured.
    Removed,
    /// Another member of its sync group leaves.
    Group,
    /// A check fails that means fault, its own or one of its group.
    Check,
    /// A router with a higher priority, or an equal one and a higher address, advertised.
    Election {
        /// The source address of that router.
        to: IpAddr,
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
        Check = "check",
        Election = "lost_election",
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leave::Stop => f.write_str("the daemon was stopped"),
            Leave::Failover => f.write_str("failover was asked for"),
            Leave::Drain => f.write_str("the host was drained"),
            Leave::Removed => f.write_str("the virtual router was removed from the configuration"),
            Leave::Group => f.write_str("another member of its sync group left"),
            Leave::Check => f.write_str("a check failed"),
            Leave::Election { to, priority } => {
                write!(f, "{to} advertised the better priority {priority}")
            }
        }
    }
}
