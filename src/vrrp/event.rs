//! What the protocol is told: packets, links, deadlines, results, commands.

use std::net::IpAddr;
use std::time::Duration;

use super::check::{CheckId, Probe};
use super::config::Config;
use super::id::{LinkId, Mac, RouterId};

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An address that we hold has gone from its interface, not by our doing.
    AddressLost(RouterId, IpAddr),
    /// The kernel refused what an [`Action::Claim`] asked for.
    ClaimFailed(RouterId, ClaimError),
    /// The operator wants something.
    Command(Command),
    /// Somebody else announced an address on a link.
    Contention(Contention),
    /// What an earlier daemon left, told before the first [`Event::Link`].
    Found(RouterId, Recorded),
    /// A hook ended; for a sync group it is the one that ran for this member. Of `BeforeClaim` and
    /// `BeforeRelease` only the run that was asked for last counts.
    HookFinished(RouterId, HookOutcome),
    /// The kernel has accepted no advert for as long as peers wait, or the worker has not answered.
    Late(RouterId),
    /// The lifetime of addresses that we hold has ended, or is about to, without being renewed.
    LeaseRanOut(RouterId),
    /// The whole present picture of an interface.
    Link {
        /// Which.
        link: LinkId,
        /// Administratively up, and with carrier.
        up: bool,
        /// Its addresses in the kernel's order.
        addresses: &'a [LinkAddress],
    },
    /// An advert, or what claims to be one.
    Packet(Packet<'a>),
    /// A check gave a result.
    Probe {
        /// Which.
        check: CheckId,
        /// The result.
        probe: Probe,
    },
    /// The file was read again, and is good.
    Reload(&'a Config),
    /// The daemon is to end.
    Stop(Stop),
    /// A deadline has passed.
    Timeout,
}

/// A VRRP message off the wire, without its IP header, unchecked.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Where it arrived.
    pub link: LinkId,
    /// The IP header's source.
    pub source: IpAddr,
    /// The IP header's destination.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The message.
    pub message: &'a [u8],
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkAddress {
    /// The address.
    pub ip: IpAddr,
    /// It carries our mark.
    pub ours: bool,
    /// Packets can be sent from it: neither tentative nor a duplicate.
    pub usable: bool,
}

/// Why the kernel did not give us an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimError {
    /// It is there already and does not carry our mark.
    AlreadyThere,
    /// Anything else; the driver has logged what.
    Refused,
}

/// What operators may ask for at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Announce the addresses again.
    Announce(RouterId),
    /// Leave everything, and take nothing until undrained.
    Drain,
    /// Give one virtual router to another host.
    Failover(RouterId),
    /// Take part fully again after a failover.
    Resume(RouterId),
    /// Take part again after a drain.
    Undrain,
}

/// A sighting of somebody else with an address that may be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contention {
    /// Where it was seen.
    pub link: LinkId,
    /// The address announced.
    pub address: IpAddr,
    /// By whom.
    pub mac: Mac,
}

/// What the record of an earlier daemon and the kernel say of one virtual router. The driver
/// answers for "same boot, no suspend since, same identity": else `was_master` is false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// It was master and not about to leave.
    pub was_master: bool,
    /// The host was drained.
    pub drained: bool,
    /// The operator had moved it away.
    pub held_back: bool,
    /// Any address of it is on the interface with our mark.
    pub addresses_present: bool,
    /// All addresses of it are.
    pub addresses_alive: bool,
    /// How long ago the last advert left.
    pub last_advert_age: Duration,
    /// How often a daemon resumed in the last minute.
    pub resumes_in_last_minute: u32,
    /// The `master` hook had ended with status 0.
    pub master_hook_done: bool,
}

words! {
    /// The hooks a driver may report on.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Hook {
        /// Before the addresses are claimed; it may veto.
        BeforeClaim = "before_claim",
        /// After becoming master.
        Master = "master",
        /// After becoming backup.
        Backup = "backup",
        /// After a fault.
        Fault = "fault",
        /// When the daemon stops or the router is removed.
        Stop = "stop",
        /// Before a planned release.
        BeforeRelease = "before_release",
    }
}

/// How a hook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HookOutcome {
    /// Which.
    pub hook: Hook,
    /// It ran to its end and said 0.
    pub succeeded: bool,
}

/// How the daemon is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// For good, as far as anybody knows: hand everything over.
    Leave,
    /// A successor process follows at once on this host: touch nothing.
    Restart,
}
