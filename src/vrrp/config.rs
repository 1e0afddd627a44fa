//! The configuration of a host's virtual routers, as validated values.
//!
//! `crate::config` reads them from the file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use super::hook::Hook;

/// Virtual router identifier, 1-255 (RFC 9568 5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// `None` for 0.
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

/// Priority of a router: 1-254, 255 for the owner of the addresses, 0 for a master that leaves (RFC
/// 9568 5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The master leaves: its backups need not wait for the master-down interval.
    pub const LEAVING: Priority = Priority(0);
    /// The lowest priority that takes part in the election.
    pub const LOWEST: Priority = Priority(1);
    /// The default (RFC 9568 6.1).
    pub const DEFAULT: Priority = Priority(100);
    /// The highest of a router that does not own the addresses.
    pub const HIGHEST: Priority = Priority(254);
    /// The router that owns the addresses.
    pub const OWNER: Priority = Priority(255);

    /// Every byte is a priority.
    pub const fn new(priority: u8) -> Self {
        Priority(priority)
    }

    /// The nearest one from [`LOWEST`](Self::LOWEST) to [`HIGHEST`](Self::HIGHEST).
    pub fn clamped(sum: i32) -> Self {
        Priority(sum.clamp(Self::LOWEST.0.into(), Self::HIGHEST.0.into()) as u8)
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
    /// The longest of version 3: 40.95 s.
    pub const LONGEST: Interval = Interval(4095);

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

    /// Skew_Time of a backup whose master has this interval: the higher its own priority, the
    /// shorter (RFC 9568 6.1; RFC 3768 6.1).
    pub fn skew(self, version: Version, priority: Priority) -> Duration {
        let base: u64 = match version {
            Version::V2 => 1_000_000_000,
            Version::V3 => u64::from(self.0) * 10_000_000,
        };
        Duration::from_nanos(base * (256 - u64::from(priority.get())) / 256)
    }

    /// Master_Down_Interval of a backup: three intervals of its master and the skew time (RFC 9568
    /// 6.1).
    pub fn master_down(self, version: Version, priority: Priority) -> Duration {
        self.peer_timeout() + self.skew(version, priority)
    }

    /// Master_Down_Interval without the skew time: how long backups wait at least for the next
    /// advert before they take over.
    pub fn peer_timeout(self) -> Duration {
        Duration::from_millis(3 * 10 * u64::from(self.0))
    }

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
    V4,
    V6,
}

impl Family {
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The multicast group of adverts (RFC 9568 5.1.1.2, 5.1.2.2).
    pub const fn multicast_group(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)),
            Family::V6 => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
        }
    }
}

names! {
    Family {
        V4 = "ipv4",
        V6 = "ipv6",
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

/// Version of the protocol.
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

words! {
    /// What the checksum of a version 3 advert over IPv4 covers: implementations differ.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum ChecksumForm {
        /// The message and the IPv4 pseudo-header: keepalived, FRR.
        PseudoHeader = "pseudo-header",
        /// The message alone (RFC 9568 5.2.8).
        Plain = "plain",
    }
}

words! {
    /// How a master hands its addresses over.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Handover {
        /// Keep the addresses until the successor has announced itself: nothing is lost.
        Overlap = "overlap",
        /// Release the addresses before priority 0 is sent: never two owners, for databases. Costs
        /// one skew time.
        Exclusive = "exclusive",
    }
}

/// A virtual address, and the subnet that the host reaches through its interface because of it. The
/// address itself is always added as that of a single host: with a shorter prefix it could become the
/// primary one of the subnet, and the host's own would end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    pub ip: IpAddr,
    /// Prefix length of the subnet: 32 or 128, which is none, unless configured otherwise.
    pub prefix: u8,
}

impl Address {
    /// The address without a subnet.
    pub const fn host(ip: IpAddr) -> Self {
        let prefix = match ip {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Address { ip, prefix }
    }

    /// The first address of its subnet, if it brings one.
    pub fn subnet(self) -> Option<IpAddr> {
        match self.ip {
            IpAddr::V4(_) if self.prefix >= 32 => None,
            IpAddr::V6(_) if self.prefix >= 128 => None,
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                Some(Ipv4Addr::from_bits(ip.to_bits() & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                Some(Ipv6Addr::from_bits(ip.to_bits() & mask).into())
            }
        }
    }

    /// Whether another address is in the subnet of this one.
    pub fn contains(self, other: IpAddr) -> bool {
        let differ = match (self.ip, other) {
            (IpAddr::V4(ip), IpAddr::V4(other)) => u128::from(ip.to_bits() ^ other.to_bits()) << 96,
            (IpAddr::V6(ip), IpAddr::V6(other)) => ip.to_bits() ^ other.to_bits(),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        differ.leading_zeros() >= u32::from(self.prefix)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip)
    }
}

/// How long a failed `before_claim` hook causes a fault, unless configured.
pub const VETO: Duration = Duration::from_secs(30);

/// A virtual router of this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouterConfig {
    /// Its name, which does not appear on the wire.
    pub name: Arc<str>,
    /// Name of the interface that carries the adverts and the addresses.
    pub interface: Arc<str>,
    pub vrid: Vrid,
    /// Address family of the adverts and the advertised addresses.
    pub family: Family,
    /// Protocol version sent and understood.
    pub version: Version,
    /// 255 only for the owner of the addresses; never 0.
    pub priority: Priority,
    /// The advertised addresses, in the configured order; all of `family`.
    pub addresses: Arc<[Address]>,
    /// Addresses that are claimed, but not advertised; of either family.
    pub unadvertised_addresses: Arc<[Address]>,
    pub advert_interval: Interval,
    /// The longest interval that is accepted from a peer (version 3): a backup waits by it.
    pub max_peer_interval: Interval,
    /// Whether to preempt a master of lower priority.
    pub preempt: bool,
    /// How long to have been free of faults before preempting.
    pub preempt_delay: Duration,
    /// No takeover before this time after the start.
    pub start_delay: Duration,
    /// No takeover before this time after the start, or after the link came up.
    pub link_delay: Duration,
    /// The checksum form we send (version 3 over IPv4); both are accepted.
    pub checksum: ChecksumForm,
    /// `Some`: adverts are sent to these peers, and accepted from them only. `None`: multicast.
    pub unicast_peers: Option<Arc<[IpAddr]>>,
    /// The lowest TTL or hop limit accepted from a unicast peer.
    pub unicast_min_ttl: u8,
    /// Source address of our adverts; `None`: [`source::choose`](super::source::choose) decides.
    pub source_address: Option<IpAddr>,
    /// `Some`: adverts of all other senders are discarded.
    pub accept_from: Option<Arc<[IpAddr]>>,
    /// Simple-text authentication of version 2, for old peers.
    pub authentication: Option<[u8; 8]>,
    /// Kernel lifetime of a claimed address in seconds; `None`: unlimited.
    pub address_lifetime: Option<u32>,
    pub handover: Handover,
    /// `Some`: the limit of the hook that runs before a planned release.
    pub before_release: Option<Duration>,
    /// `Some`: the limit of the hook that runs before the addresses are claimed, and that can
    /// prevent it.
    pub before_claim: Option<Duration>,
    /// How long a failed hook causes a fault, for hooks that do; [`VETO`] for a `before_claim` that
    /// is not in it.
    pub fault_for: BTreeMap<Hook, Duration>,
    /// Names of the checks that its priority or its taking part depends on.
    pub checks: Arc<[Arc<str>]>,
}

impl RouterConfig {
    /// All addresses that are claimed, the advertised ones first.
    pub fn all_addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.addresses.iter().chain(self.unadvertised_addresses.iter()).copied()
    }

    /// What identifies the virtual router over reloads: interface, family and VRID.
    pub fn identity(&self) -> (&str, Family, Vrid) {
        (&self.interface, self.family, self.vrid)
    }

    /// A hash of the settings by which this address is the source of adverts, and without which another
    /// one may be: `source_address`, and whether a list of peers names it. Other entries of the lists
    /// come and go without a change of source.
    pub fn source_settings(&self, ip: IpAddr) -> u64 {
        let mut listed = self.unicast_peers.iter().chain(&self.accept_from);
        let named = listed.any(|list| list.contains(&ip));
        hash(&format!("{:?} {named}", self.source_address))
    }

    /// The shortest interval that leaves a whole number of seconds, as the kernel counts lifetimes,
    /// that ends before peers take over.
    pub const MIN_INTERVAL_WITH_LEASE: Interval = Interval(70);

    /// The default `max_peer_interval`: ten times our own interval, if the protocol has one that long.
    pub fn default_max_peer_interval(interval: Interval) -> Interval {
        Interval(
            interval.0.saturating_mul(10).clamp(interval.0, Interval::LONGEST.0.max(interval.0)),
        )
    }

    /// By how much a lifetime has to be longer than the interval, so that there is time to renew it.
    pub const RENEWAL_TIME: Duration = Duration::from_millis(150);

    /// The default `address_lifetime` in seconds: floor(3 x interval) - 1, the longest that has ended
    /// before peers take over although the kernel may be late by 0.4 s, or by 0.8 s if it is 1 s.
    /// That would be 1 s up to 1.33 s, so from 0.85 s on, where it leaves too little time for the
    /// renewal, it is 2 s. Intervals below 0.7 s get 2 s, too, which may end later.
    pub const fn automatic_lifetime(interval: Interval) -> u32 {
        match interval.0 {
            70..85 => 1,
            ..134 => 2,
            centis => 3 * centis as u32 / 100 - 1,
        }
    }

    /// The shortest `address_lifetime` in seconds that can be renewed in time.
    pub fn shortest_lifetime(interval: Interval) -> u32 {
        let needed = interval.duration() + Self::RENEWAL_TIME;
        needed.as_secs() as u32 + u32::from(needed.subsec_nanos() > 0)
    }
}

/// A hash (FNV-1a) that is the same in the next daemon. Never 0.
pub(super) fn hash(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.max(1)
}

/// How the results of a check are used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckConfig {
    pub name: Arc<str>,
    /// Failures in a row until it is failing; at least 1.
    pub fall: u32,
    /// Passes in a row until it is passing; at least 1.
    pub rise: u32,
    pub effect: Effect,
    pub initial: Initial,
}

/// The effect of a check's verdict on the virtual routers that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Failing causes a fault: the addresses are handed over, or released if nobody takes them.
    Fault,
    /// Failing lowers the priority to 1: any fit peer takes over, and without one the addresses
    /// stay.
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

/// The verdict of a check before its first result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Initial {
    Passing,
    Failing,
    /// None: the virtual router waits for the first result, but no longer than this. After that it
    /// takes part as if there were no such check.
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
/// preemption, delays and handover.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupConfig {
    pub name: Arc<str>,
    /// Names of at least two virtual routers, of no other group.
    pub members: Arc<[Arc<str>]>,
}

/// All virtual routers of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// In the configured order; names and identities are unique.
    pub routers: Vec<RouterConfig>,
    /// Names are unique. Contains every check that a router names.
    pub checks: Vec<CheckConfig>,
    /// Names are unique. Hooks of a group run once for all members; their settings
    /// (`before_release`, `before_claim`, `fault_for`) and `checks` are the same in every member.
    pub groups: Vec<GroupConfig>,
}

#[cfg(test)]
mod sample {
    #![allow(clippy::unwrap_used)]

    use super::*;

    impl RouterConfig {
        /// The virtual router of unit tests.
        pub(crate) fn sample(ips: &[&str]) -> Self {
            RouterConfig {
                name: Arc::from("web"),
                interface: Arc::from("eth0"),
                vrid: Vrid::new(51).unwrap(),
                family: Family::V4,
                version: Version::V3,
                priority: Priority::DEFAULT,
                addresses: ips.iter().map(|ip| Address::host(ip.parse().unwrap())).collect(),
                unadvertised_addresses: Arc::from([]),
                advert_interval: Interval::DEFAULT,
                max_peer_interval: Interval::LONGEST,
                preempt: true,
                preempt_delay: Duration::ZERO,
                start_delay: Duration::ZERO,
                link_delay: Duration::ZERO,
                checksum: ChecksumForm::PseudoHeader,
                unicast_peers: None,
                unicast_min_ttl: 255,
                source_address: None,
                accept_from: None,
                authentication: None,
                address_lifetime: Some(2),
                handover: Handover::Overlap,
                before_release: None,
                before_claim: None,
                fault_for: BTreeMap::new(),
                checks: Arc::from([]),
            }
        }
    }
}
