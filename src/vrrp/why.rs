//! Reasons for changes of role, as shown in log, hooks, status and metrics.

use std::fmt;
use std::net::IpAddr;

use super::config::Priority;
use super::reason::Reason;
use super::role::Leave;
use super::time::Instant;

/// The reason for a change of role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The daemon has just started.
    Starting,
    /// It takes part in the election from now on.
    Started,
    /// An earlier daemon on this host was master a moment ago.
    Resumed,
    /// Priority 255: the addresses are this host's own.
    Owner,
    /// No master has been heard since start.
    HeardNobody,
    /// The master was silent for the master-down interval.
    MasterSilent {
        master: IpAddr,
        /// When it was last heard.
        since: Instant,
        /// When the master-down interval had passed.
        now: Instant,
    },
    /// The master sent priority 0.
    MasterLeft(IpAddr),
    /// It preempts a master of lower priority.
    Preempts { master: IpAddr, priority: Priority },
    /// About to take over, it heard a master that it does not preempt.
    MasterHeard { master: IpAddr, priority: Priority },
    /// Its sync group takes over.
    Group,
    /// A router with a higher priority, or an equal one and a higher address, advertised while we
    /// were master.
    LostElection {
        /// The source address of that router.
        to: IpAddr,
        priority: Priority,
    },
    /// It begins to hand over.
    Leaving(Leave),
    /// A successor has taken over as planned.
    HandedOver { to: IpAddr, leave: Leave },
    /// It left without a successor.
    Left(Leave),
    /// It wanted to hand over, and no router took over.
    NobodyCame,
    /// It is in fault, for these reasons.
    Fault(Vec<Reason>),
    /// No reason for fault is left.
    Recovered,
    /// The daemon was stopped or starved for so long that a peer may have taken over.
    Late,
    /// The addresses were not renewed in time, and the kernel has removed them or is about to.
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

/// In the past tense: it is shown for as long as the role lasts, and later.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Starting => f.write_str("the daemon was starting"),
            Why::Started => f.write_str("the daemon started"),
            Why::Resumed => {
                f.write_str("the daemon had been master a moment before, and went on from there")
            }
            Why::Owner => f.write_str("with priority 255 it owned the addresses"),
            Why::HeardNobody => f.write_str("no master was heard"),
            Why::MasterSilent { master, since, now } => {
                write!(f, "master {master} was silent for {:.3} s", (*now - *since).as_secs_f64())
            }
            Why::MasterLeft(master) => write!(f, "master {master} left (priority 0)"),
            Why::Preempts { master, priority } => {
                write!(f, "preempted master {master} (priority {priority})")
            }
            Why::MasterHeard { master, priority } => {
                write!(f, "master {master} was heard (priority {priority})")
            }
            Why::Group => f.write_str("its sync group took over"),
            Why::LostElection { to, priority } => {
                write!(f, "{to} advertised the better priority {priority}")
            }
            Why::Leaving(leave) => leave.fmt(f),
            Why::HandedOver { to, leave } => write!(f, "{leave}; {to} took over"),
            Why::Left(leave) => leave.fmt(f),
            Why::NobodyCame => f.write_str("nobody took over; the addresses never left"),
            Why::Fault(reasons) => {
                for (n, reason) in reasons.iter().enumerate() {
                    write!(f, "{}{reason:#}", if n == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Why::Recovered => f.write_str("no reason for fault was left"),
            Why::Late => f.write_str(
                "no advert could be sent for longer than the peers wait, so it listened for adverts before taking part again",
            ),
            Why::LeaseRanOut => f.write_str(
                "the addresses' lifetime ran out before it could be renewed, so it listened for adverts before taking part again",
            ),
        }
    }
}
