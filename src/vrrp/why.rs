//! The reason for a change of role, as log, hooks, status and metrics tell it.

use std::fmt;
use std::net::IpAddr;

use super::config::Priority;
use super::router::{Leave, Reason};
use super::time::Instant;

/// The reason for a change of role, as log, hooks and status tell it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The daemon has just started.
    Starting,
    /// It takes part from now on.
    Started,
    /// An earlier daemon on this host was master a moment ago.
    Resumed,
    /// Priority 255: the addresses are this host's own.
    Owner,
    /// Nobody has been heard since start.
    HeardNobody,
    /// The master was silent for the master-down interval.
    MasterSilent {
        /// The master.
        master: IpAddr,
        /// When it was last heard.
        since: Instant,
        /// When that was too long ago.
        now: Instant,
    },
    /// The master said priority 0.
    MasterLeft(IpAddr),
    /// The master is worse than we are.
    Preempts {
        /// The master.
        master: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// About to take over, it heard a master that is not to be deposed.
    MasterHeard {
        /// The master.
        master: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// Its sync group takes over.
    Group,
    /// A better router advertised while we were master.
    LostElection {
        /// The winner.
        to: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// We are about to give the addresses away.
    Leaving(Leave),
    /// A successor has taken over as planned.
    HandedOver {
        /// The successor.
        to: IpAddr,
        /// Why we left.
        leave: Leave,
    },
    /// We left without waiting for, or without getting, a successor.
    Left(Leave),
    /// We wanted to leave, and nobody took over.
    NobodyCame,
    /// The reasons that keep it from taking part.
    Fault(Vec<Reason>),
    /// No reason for fault is left.
    Recovered,
    /// The daemon was stopped or starved for longer than its peers wait.
    Late,
    /// The kernel removed the addresses: they had not been renewed in time.
    LeaseRanOut,
}

// Of several reasons for fault, the first names the change.
names! {
    Why {
        Starting = "starting",
        Started = "started",
        Resumed = "resumed",
        Owner = "owner",
        HeardNobody = "heard_nobody",
        MasterSilent = "master_silent",
        MasterLeft = "master_left",
        Preempts = "preempts",
        MasterHeard = "master_heard",
        Group = "group",
        LostElection = "lost_election",
        NobodyCame = "nobody_came",
        Recovered = "recovered",
        Late = "late",
        LeaseRanOut = "lease_ran_out",
    }
    else {
        Leaving(leave) | HandedOver { leave, .. } | Left(leave) => leave.name(),
        Fault(reasons) => reasons.first().map_or("fault", Reason::name),
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Starting => f.write_str("the daemon is starting"),
            Why::Started => f.write_str("the daemon started"),
            Why::Resumed => {
                f.write_str("the daemon was master a moment ago and goes on where it stopped")
            }
            Why::Owner => f.write_str("priority 255: the addresses are this host's own"),
            Why::HeardNobody => f.write_str("no master was heard"),
            Why::MasterSilent { master, since, now } => {
                write!(f, "master {master} was silent for {:.3} s", (*now - *since).as_secs_f64())
            }
            Why::MasterLeft(master) => write!(f, "master {master} left (priority 0)"),
            Why::Preempts { master, priority } => {
                write!(f, "preempts master {master} (priority {priority})")
            }
            Why::MasterHeard { master, priority } => {
                write!(f, "master {master} is there (priority {priority})")
            }
            Why::Group => f.write_str("its sync group takes over"),
            Why::LostElection { to, priority } => {
                write!(f, "{to} advertised the better priority {priority}")
            }
            Why::Leaving(leave) => leave.fmt(f),
            Why::HandedOver { to, leave } => write!(f, "{leave}; {to} took over"),
            Why::Left(leave) => leave.fmt(f),
            Why::NobodyCame => f.write_str("nobody took over; the addresses never left"),
            Why::Fault(reasons) => {
                for (n, reason) in reasons.iter().enumerate() {
                    write!(f, "{}{reason}", if n == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Why::Recovered => f.write_str("no reason for fault is left"),
            Why::Late => f.write_str(
                "no advert could be sent for longer than the peers wait; listening before anything",
            ),
            Why::LeaseRanOut => f.write_str(
                "the addresses' lifetime ran out before it could be renewed; listening first",
            ),
        }
    }
}
