//! Events: packets, states of interfaces, expired deadlines, results, commands.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::check::{CheckId, Probe};
use super::config::{Address, Config, Family, RouterConfig};
use super::hook::HookOutcome;
use super::id::{LinkId, Mac, RouterId};
use super::mark::Mark;
use super::refusal::SendError;

/// What has happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An address that we hold was removed from its interface by another program.
    AddressLost(RouterId, IpAddr),
    /// No destination takes adverts: the first one of a takeover did not leave, or none has left for
    /// as long as peers wait.
    AdvertsRefused(RouterId),
    /// An [`Action::Claim`](super::Action::Claim) failed: an advertised address could not be added.
    ClaimFailed(RouterId, ClaimError),
    Command(Command),
    /// Another host announced an address on a link.
    Contention(Contention),
    /// The record of an earlier daemon. Comes before the first [`Event::Link`].
    Found(RouterId, Recorded),
    /// A hook has ended; for a sync group, the one that was run for this member. Drivers report
    /// `BeforeClaim` and `BeforeRelease` only of the run that was requested last.
    HookFinished(RouterId, HookOutcome),
    /// The worker has not answered for as long as peers wait.
    Late(RouterId),
    /// The lifetime of addresses that we hold has ended, or is about to, without being renewed.
    LeaseRanOut(RouterId),
    /// The source address that the kernel would use for the first unicast peer of a virtual router.
    /// Comes before an [`Event::Link`], if that router [needs it](super::Node::route_to) to choose
    /// among the addresses.
    Routed(RouterId, IpAddr),
    /// The complete state of an interface; `None`: no interface has the name.
    Link {
        link: LinkId,
        state: Option<LinkState<'a>>,
    },
    Packet(Packet<'a>),
    /// A check has given a result.
    Probe {
        check: CheckId,
        probe: Probe,
    },
    /// An advert did not leave for this destination, or did not arrive there.
    AdvertRefused(RouterId, IpAddr, SendError),
    Reload(&'a Config),
    /// An unadvertised address could not be added. The rest of the claim was carried out.
    Refused(RouterId, IpAddr, ClaimError),
    /// Which sockets of an interface cannot be opened. Without such an event all are open.
    Sockets(LinkId, MissingSockets),
    /// The daemon is to stop.
    Stop(Stop),
    /// A deadline has passed.
    Timeout,
}

/// A received VRRP message with the relevant fields of its IP header, not validated.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The interface that received it.
    pub link: LinkId,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    pub message: &'a [u8],
}

/// The complete state of an interface that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkState<'a> {
    /// Administratively up, and with carrier.
    pub up: bool,
    /// The name of the bridge, bond or team that it is a port of, and that takes what it receives.
    pub port_of: Option<&'a str>,
    /// Its own link-layer address, if it has one.
    pub mac: Option<Mac>,
    /// Its addresses in the kernel's order.
    pub addresses: &'a [LinkAddress],
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkAddress {
    pub ip: IpAddr,
    /// The prefix length of its subnet.
    pub prefix: u8,
    /// Who added it.
    pub mark: Mark,
    pub state: AddressState,
}

impl LinkAddress {
    /// An address of the host itself that can be used.
    pub const fn of_host(ip: IpAddr, prefix: u8) -> Self {
        LinkAddress { ip, prefix, mark: Mark::None, state: AddressState::Preferred }
    }

    /// Whether packets can be sent from it.
    pub const fn sendable(&self) -> bool {
        match self.state {
            AddressState::Preferred | AddressState::Deprecated | AddressState::Temporary => true,
            AddressState::Tentative | AddressState::Duplicate => false,
        }
    }

    /// The address as one of its subnet.
    pub const fn subnet(&self) -> Address {
        Address { ip: self.ip, prefix: self.prefix }
    }
}

/// What an address can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressState {
    /// Everything.
    Preferred,
    /// Packets can be sent from it, but it is not for new connections (RFC 4862 5.5.4).
    Deprecated,
    /// Packets can be sent from it, but another one will replace it (RFC 8981).
    Temporary,
    /// Nothing yet: duplicate address detection (RFC 4862 5.4) is under way.
    Tentative,
    /// Nothing: another host has it.
    Duplicate,
}

/// A source of adverts, and a hash of the settings that it was chosen by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub ip: IpAddr,
    pub settings: u64,
}

impl Source {
    /// Chosen by the settings of `config`.
    pub fn of(ip: IpAddr, config: &RouterConfig) -> Self {
        Source { ip, settings: config.source_settings(ip) }
    }

    /// Whether `config` still has these settings.
    pub fn is_chosen_by(&self, config: &RouterConfig) -> bool {
        self.settings == config.source_settings(self.ip)
    }
}

/// The sockets that cannot be opened on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MissingSockets {
    /// For adverts over IPv4.
    pub v4: bool,
    /// For adverts over IPv6.
    pub v6: bool,
    pub announcements: bool,
}

impl MissingSockets {
    /// Whether that for adverts of this family is missing.
    pub fn adverts(mut self, family: Family) -> bool {
        *self.adverts_mut(family)
    }

    /// The same, to be changed.
    pub fn adverts_mut(&mut self, family: Family) -> &mut bool {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// Why an address could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimError {
    /// The address exists and was not added for this virtual router.
    AlreadyThere,
    /// The kernel refused, and the driver has logged why.
    Refused,
    /// Another program on this host removed it again and again.
    Removed,
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClaimError::AlreadyThere => {
                "the host has it, and it was not added for this virtual router"
            }
            ClaimError::Refused => "the kernel refuses it",
            ClaimError::Removed => "something on this host keeps removing it",
        })
    }
}

words! {
    /// What an operator keeps a host for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Drain {
        /// It serves only where no other host is fit, and gives way to any that is.
        LastResort = "last_resort",
        /// It does not serve at all.
        Force = "force",
    }
}

/// Commands of operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Announce the addresses again.
    Announce(RouterId),
    /// Hand over all addresses, and be the last resort, or never serve, until undrained.
    Drain(Drain),
    /// Hand one virtual router over to another host.
    Failover(RouterId),
    /// Preempt again after a failover.
    Resume(RouterId),
    /// Take part in elections again after a drain.
    Undrain,
}

/// An announcement by another host of an address that may be ours, or its answer to a probe for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contention {
    /// The interface that received it.
    pub link: LinkId,
    pub address: IpAddr,
    /// The link-layer address of the other host.
    pub mac: Mac,
}

/// What the record of an earlier daemon and the kernel say about one virtual router. `was_master`
/// is only true within the same boot, without a suspend since, and for the same identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// It was master, and had not begun to hand over.
    pub was_master: bool,
    /// As master it ran `before_release`.
    pub was_preparing: bool,
    pub drained: Option<Drain>,
    /// An operator had moved it to another host.
    pub held_back: bool,
    /// At least one of its addresses is on the interface with its mark.
    pub addresses_present: bool,
    /// How long ago its last advert was sent.
    pub last_advert_age: Duration,
    /// How often a daemon resumed in the last minute.
    pub resumes_in_last_minute: u32,
    /// Its `master` hook had ended with status 0.
    pub master_hook_done: bool,
    /// The source of its last advert.
    pub source: Option<Source>,
}

/// How the daemon is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// Hand everything over.
    Leave,
    /// A new daemon starts at once on this host: leave everything as it is.
    Restart,
}
