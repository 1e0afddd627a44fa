//! What the protocol must be told about a host's virtual routers: checked values only.
//!
//! The file format is `crate::config`'s business; what arrives here holds the ranges its types say.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use super::event::Hook;

/// Virtual router identifier, 1-255 (RFC 9568 5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// `None` for 0, which is no VRID.
    pub const fn new(vrid: u8) -> Option<Self> {
        match NonZeroU8::new(vrid) {
            Some(vrid) => Some(Vrid(vrid)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Priority of a router: 1-254, 255 for the owner of the addresses, 0 for "I am leaving"
/// (RFC 9568 5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The master leaves: its backups need not wait for the master-down interval.
    pub const LEAVING: Priority = Priority(0);
    /// The lowest priority that takes part.
    pub const LOWEST: Priority = Priority(1);
    /// What a router has that was not told otherwise.
    pub const DEFAULT: Priority = Priority(100);
    /// The router whose own addresses these are.
    pub const OWNER: Priority = Priority(255);

    /// Any byte is a priority.
    pub const fn new(priority: u8) -> Self {
        Priority(priority)
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Time between adverts in centiseconds, 1-4095: 10 ms to 40.95 s (RFC 9568 5.2.7). Version 2
/// counts whole seconds up to 255 on the wire; they are kept here as centiseconds, up to 25500.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval(u16);

impl Interval {
    /// One second, the default of the protocol.
    pub const DEFAULT: Interval = Interval(100);

    /// An interval of version 3; `None` outside 1-4095 centiseconds.
    pub const fn from_centis(centis: u16) -> Option<Self> {
        if centis >= 1 && centis <= 4095 { Some(Interval(centis)) } else { None }
    }

    /// An interval of version 2; `None` for 0 seconds.
    pub const fn from_secs(secs: u8) -> Option<Self> {
        if secs >= 1 { Some(Interval(secs as u16 * 100)) } else { None }
    }

    /// In hundredths of a second.
    pub const fn centis(self) -> u16 {
        self.0
    }

    /// As a span of time.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }

    /// Whole seconds for version 2, `None` if it is not a whole number of 1-255 seconds.
    pub const fn whole_secs(self) -> Option<u8> {
        let secs = self.0 / 100;
        if self.0.is_multiple_of(100) && secs >= 1 && secs <= 255 { Some(secs as u8) } else { None }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.duration())
    }
}

/// The address family that carries a virtual router's adverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The group adverts are sent to (RFC 9568 5.1.1.2, 5.1.2.2).
    pub const fn multicast_group(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Version of the protocol spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// RFC 3768: IPv4 only, whole seconds.
    V2,
    /// RFC 9568.
    V3,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V2 => "2",
            Version::V3 => "3",
        })
    }
}

/// What the checksum of a version 3 advert over IPv4 covers: implementations differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChecksumForm {
    /// The message and the IPv4 pseudo-header: keepalived, FRR.
    PseudoHeader,
    /// The message alone (RFC 9568 5.2.8).
    Plain,
}

impl fmt::Display for ChecksumForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChecksumForm::PseudoHeader => "pseudo-header",
            ChecksumForm::Plain => "plain",
        })
    }
}

words! {
    /// How a master gives its addresses away on purpose.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Handover {
        /// Go on answering until the successor has announced itself: nothing is lost.
        Overlap = "overlap",
        /// Release before anybody is told: never two, at the price of one skew time (databases).
        Exclusive = "exclusive",
    }
}

/// A shared address as the kernel is to hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The address itself.
    pub ip: IpAddr,
    /// Prefix length it is claimed with: 32 or 128 unless the operator insists.
    pub prefix: u8,
}

impl Address {
    /// The address with the prefix length of a single host.
    pub const fn host(ip: IpAddr) -> Self {
        let prefix = match ip {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Address { ip, prefix }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip)
    }
}

/// One virtual router of this host: an election of its own, for one list of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouterConfig {
    /// The operator's name for it; nothing on the wire.
    pub name: Arc<str>,
    /// Name of the interface that carries the adverts and the addresses.
    pub interface: Arc<str>,
    /// Identifies the virtual router on its link.
    pub vrid: Vrid,
    /// Address family of the adverts and the advertised addresses.
    pub family: Family,
    /// Protocol version sent and understood.
    pub version: Version,
    /// 255 only for the owner of the addresses; never 0.
    pub priority: Priority,
    /// Addresses in the advert, in the operator's order; all of `family`.
    pub addresses: Arc<[Address]>,
    /// Addresses that move along without being in the advert; either family.
    pub unadvertised_addresses: Arc<[Address]>,
    /// Time between our adverts.
    pub advert_interval: Interval,
    /// Whether to depose a master of lower priority.
    pub preempt: bool,
    /// How long we must have been fit before we depose anybody.
    pub preempt_delay: Duration,
    /// After start nobody takes over before this.
    pub start_delay: Duration,
    /// After start and after the link came up nobody takes over before this.
    pub link_delay: Duration,
    /// The checksum form we send (version 3 over IPv4); both are accepted.
    pub checksum: ChecksumForm,
    /// `Some`: adverts go to these peers and come from them only. `None`: multicast.
    pub unicast_peers: Option<Arc<[IpAddr]>>,
    /// The lowest TTL or hop limit accepted from a unicast peer.
    pub unicast_min_ttl: u8,
    /// Source of our adverts; `None`: the interface's first fitting address.
    pub source_address: Option<IpAddr>,
    /// `Some`: every other sender is ignored and counted.
    pub accept_from: Option<Arc<[IpAddr]>>,
    /// Simple-text authentication of version 2, for old peers.
    pub authentication: Option<[u8; 8]>,
    /// Kernel lifetime of a claimed address in whole seconds; `None`: for ever.
    pub address_lifetime: Option<u32>,
    /// How the addresses are given away on purpose.
    pub handover: Handover,
    /// `Some`: a hook runs before a planned release, for at most this long.
    pub before_release: Option<Duration>,
    /// `Some`: a hook runs before the addresses are claimed, for at most this long, and may veto.
    pub before_claim: Option<Duration>,
    /// For how long a hook that fails means fault; a hook that is not named here means nothing.
    pub fault_for: BTreeMap<Hook, Duration>,
    /// Names of the checks that its priority, or its taking part, hangs on.
    pub checks: Arc<[Arc<str>]>,
}

impl RouterConfig {
    /// Every address that is claimed, advertised ones first.
    pub fn all_addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.addresses.iter().chain(self.unadvertised_addresses.iter()).copied()
    }

    /// How long peers wait at least for our next advert before they take over: their master-down
    /// interval (RFC 9568 6.1) without the skew time.
    pub fn peer_timeout(&self) -> Duration {
        3 * self.advert_interval.duration()
    }

    /// What makes it the same virtual router on the wire.
    pub fn identity(&self) -> (&str, Family, Vrid) {
        (&self.interface, self.family, self.vrid)
    }

    /// The lease that can be kept at this interval: floor(3 x interval) - 1 whole seconds from
    /// 0.7 s on, 2 s (and no promise) below.
    pub const fn automatic_lifetime(interval: Interval) -> u32 {
        let centis = interval.centis() as u32;
        if centis >= 70 { 3 * centis / 100 - 1 } else { 2 }
    }
}

/// What the results of a check mean.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckConfig {
    /// The operator's name for it.
    pub name: Arc<str>,
    /// This many failures in a row make it failing; at least 1.
    pub fall: u32,
    /// This many passes in a row make it passing; at least 1.
    pub rise: u32,
    /// What a verdict does.
    pub effect: Effect,
    /// What it counts as before its first result.
    pub initial: Initial,
}

/// What the verdict of a check does to the virtual routers that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Failing is a reason for fault: the addresses are released at once.
    Fault,
    /// Failing lowers the priority to 1: any fit peer takes over, and without one they stay here.
    Last,
    /// A positive weight is added to the priority while it passes, a negative one while it fails;
    /// never 0.
    Weight(i16),
    /// The number that it reads is added to the priority.
    Number,
}

names! {
    Effect {
        Fault = "fault",
        Last = "last",
        Weight = "weight",
        Number = "number",
    }
}

/// What a check counts as before its first result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Initial {
    /// As passing.
    Passing,
    /// As failing.
    Failing,
    /// The virtual router waits for the first result, but no longer than this; then it takes part as
    /// if there were no such check.
    Wait(Duration),
}

names! {
    Initial {
        Passing = "passing",
        Failing = "failing",
        Wait = "wait",
    }
}

/// Virtual routers that are master together or not at all. Its members have the same priority,
/// preemption, delays and hand-over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupConfig {
    /// The operator's name for it.
    pub name: Arc<str>,
    /// Names of at least two virtual routers, of no other group.
    pub members: Arc<[Arc<str>]>,
}

/// All virtual routers of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// In the operator's order; names and identities are unique.
    pub routers: Vec<RouterConfig>,
    /// Names are unique; every check that a router names is here.
    pub checks: Vec<CheckConfig>,
    /// Names are unique. Hooks of a group run once for all members; their settings
    /// (`before_release`, `before_claim`, `fault_for`) and `checks` are the same in every member.
    pub groups: Vec<GroupConfig>,
}
