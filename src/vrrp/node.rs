//! The virtual routers of one host: events in, actions out.
//!
//! [`Node::handle`] is the only way in, [`Action`]s are the only way out, and [`Node::deadline`]
//! says when to come back. A driver is whoever carries actions out: the daemon, the simulator, the
//! model checker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::advert::{self, Advert, Malformed};
use super::check::{Bearing, Check, CheckId, Probe};
use super::config::{Address, Config, Family, Interval, Priority, RouterConfig, Version, Vrid};
use super::group::Group;
use super::router::{Leave, Membership, Reason, Role, Surroundings, VirtualRouter};
use super::time::Instant;

/// Names a virtual router in events and actions; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(pub u32);

/// Names an interface in events; stands for its *name*, whatever device has it at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// A link-layer address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

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

/// The hooks a driver may report on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Before the addresses are claimed; it may veto.
    BeforeClaim,
    /// After becoming master.
    Master,
    /// After becoming backup.
    Backup,
    /// After a fault.
    Fault,
    /// When the daemon stops or the router is removed.
    Stop,
    /// Before a planned release.
    BeforeRelease,
}

impl Hook {
    /// The word in configuration, status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Hook::BeforeClaim => "before_claim",
            Hook::Master => "master",
            Hook::Backup => "backup",
            Hook::Fault => "fault",
            Hook::Stop => "stop",
            Hook::BeforeRelease => "before_release",
        }
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

/// What is to be done, in the order given; doing one twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send an advert to each destination.
    Advertise {
        /// For whom.
        router: RouterId,
        /// The IP source.
        from: IpAddr,
        /// The multicast group, or the unicast peers.
        to: Arc<[IpAddr]>,
        /// What it says.
        advert: Advert,
        /// The moment it was to leave, if it is one of the schedule.
        due: Option<Instant>,
    },
    /// Tell the link by gratuitous ARP or neighbour advertisement that we have the addresses.
    Announce {
        /// For whom.
        router: RouterId,
        /// Which.
        addresses: Arc<[Address]>,
    },
    /// Add addresses to the interface; what follows for this router waits until it is done.
    Claim {
        /// For whom.
        router: RouterId,
        /// Which.
        addresses: Arc<[Address]>,
        /// The kernel removes them after this many seconds unless renewed.
        lifetime: Option<u32>,
    },
    /// A role changed: log it, run hooks, record it.
    Notify(Transition),
    /// Remove addresses that are ours; what follows for this router waits until it is done.
    Release {
        /// For whom.
        router: RouterId,
        /// Which.
        addresses: Arc<[Address]>,
    },
    /// Begin the addresses' lifetime anew, if the advert just before was accepted by the kernel.
    Renew {
        /// For whom.
        router: RouterId,
        /// Which.
        addresses: Arc<[Address]>,
        /// In seconds.
        lifetime: u32,
    },
    /// Somebody should look; the rate is limited already.
    Warn {
        /// About whom.
        router: RouterId,
        /// What.
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

impl Leave {
    /// The word in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Leave::Stop => "stop",
            Leave::Failover => "failover",
            Leave::Drain => "drain",
            Leave::Removed => "removed",
            Leave::Group => "group",
            Leave::Election { .. } => "lost_election",
        }
    }
}

impl Why {
    /// The word in metrics and status; of several reasons for fault, the first.
    pub fn name(&self) -> &'static str {
        match self {
            Why::Starting => "starting",
            Why::Started => "started",
            Why::Resumed => "resumed",
            Why::Owner => "owner",
            Why::HeardNobody => "heard_nobody",
            Why::MasterSilent { .. } => "master_silent",
            Why::MasterLeft(_) => "master_left",
            Why::Preempts { .. } => "preempts",
            Why::MasterHeard { .. } => "master_heard",
            Why::Group => "group",
            Why::LostElection { .. } => "lost_election",
            Why::Leaving(leave) | Why::HandedOver { leave, .. } | Why::Left(leave) => leave.name(),
            Why::NobodyCame => "nobody_came",
            Why::Fault(reasons) => reasons.first().map_or("fault", |reason| reason.name()),
            Why::Recovered => "recovered",
            Why::Late => "late",
            Why::LeaseRanOut => "lease_ran_out",
        }
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
                write!(f, "master {master} has the lower priority {priority}")
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

/// Trouble that does not change what we do, but that somebody should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Warning {
    /// Somebody on this host removed an address of ours.
    AddressPutBack {
        /// Which.
        address: IpAddr,
    },
    /// Somebody else announced an address that we hold.
    Contention {
        /// Which.
        address: IpAddr,
        /// Who.
        mac: Mac,
    },
    /// A peer's list of addresses differs from ours.
    DifferentAddresses {
        /// Who.
        source: IpAddr,
    },
    /// A peer's interval differs from ours.
    DifferentInterval {
        /// Who.
        source: IpAddr,
        /// What it uses.
        interval: Interval,
    },
    /// A peer means this virtual router, but cannot be understood with our settings.
    Incompatible {
        /// Who.
        source: IpAddr,
        /// What differs.
        mismatch: Mismatch,
    },
    /// Another router of lower priority is master beside us.
    LowerMaster {
        /// Who.
        source: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// Two routers claim to own the addresses (erratum 8298).
    TwoOwners {
        /// The other.
        source: IpAddr,
    },
}

impl Warning {
    /// Numbers the kinds, so that each has its own rate.
    pub(super) fn kind(self) -> u8 {
        match self {
            Warning::AddressPutBack { .. } => 0,
            Warning::Contention { .. } => 1,
            Warning::DifferentAddresses { .. } => 2,
            Warning::DifferentInterval { .. } => 3,
            Warning::Incompatible { .. } => 4,
            Warning::LowerMaster { .. } => 5,
            Warning::TwoOwners { .. } => 6,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::AddressPutBack { address } => {
                write!(f, "something on this host removed {address}; it was put back")
            }
            Warning::Contention { address, mac } => {
                write!(f, "{mac} announces {address}, which is ours; announcing it again")
            }
            Warning::DifferentAddresses { source } => write!(
                f,
                "{source} advertises other addresses for this virtual router: make `addresses` equal on both"
            ),
            Warning::DifferentInterval { source, interval } => write!(
                f,
                "{source} advertises every {interval}: make `advert_interval` equal on both"
            ),
            Warning::Incompatible { source, mismatch } => {
                write!(f, "adverts of {source} cannot be used: {mismatch}")
            }
            Warning::LowerMaster { source, priority } => write!(
                f,
                "{source} is master beside us with the lower priority {priority}; adverts and announcements were repeated"
            ),
            Warning::TwoOwners { source } => {
                write!(f, "{source} has priority 255 too: only one host can own the addresses")
            }
        }
    }
}

/// What keeps two routers that mean the same virtual router from understanding each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// The protocol version.
    Version(Version),
    /// Type or text of version 2's authentication.
    Authentication,
    /// Version 2 requires equal intervals.
    Interval(Interval),
    /// It sends to our own address, we expect multicast.
    Unicast,
    /// It sends multicast, we expect unicast.
    Multicast,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Version(version) => {
                write!(f, "they are VRRP version {version}: make `version` equal on both")
            }
            Mismatch::Authentication => {
                f.write_str("their authentication differs: make `authentication` equal on both")
            }
            Mismatch::Interval(interval) => write!(
                f,
                "their interval is {interval}, and version 2 wants it equal: change `advert_interval`"
            ),
            Mismatch::Unicast => f.write_str(
                "they come by unicast and multicast is expected: set `unicast_peers` here, or remove it there",
            ),
            Mismatch::Multicast => f.write_str(
                "they come by multicast and unicast is expected: remove `unicast_peers` here, or set it there",
            ),
        }
    }
}

/// Why a packet was not acted on: the peer's business, counted, never an error of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Discard {
    /// No advert (RFC 9568 7.1).
    Malformed(Malformed),
    /// No virtual router of ours has this VRID on this link (RFC 9568 7.1).
    UnknownRouter(Vrid),
    /// It bears our own source address.
    OwnAdvert,
    /// TTL or hop limit shows that it was forwarded (RFC 9568 5.1.1.3, 5.1.2.3).
    Ttl(u8),
    /// Its sender is not in `accept_from`.
    NotAccepted,
    /// Its sender is not in `unicast_peers`.
    NotAPeer,
    /// It means our virtual router, but the settings differ.
    Incompatible(Mismatch),
}

impl Discard {
    /// The word in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Discard::Malformed(_) => "malformed",
            Discard::UnknownRouter(_) => "unknown_router",
            Discard::OwnAdvert => "own_advert",
            Discard::Ttl(_) => "ttl",
            Discard::NotAccepted => "not_accepted",
            Discard::NotAPeer => "not_a_peer",
            Discard::Incompatible(_) => "incompatible",
        }
    }
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Discard::Malformed(malformed) => malformed.fmt(f),
            Discard::UnknownRouter(vrid) => write!(f, "no virtual router {vrid} on this link"),
            Discard::OwnAdvert => f.write_str("it bears our own address"),
            Discard::Ttl(ttl) => write!(f, "its TTL is {ttl}"),
            Discard::NotAccepted => f.write_str("its sender is not in accept_from"),
            Discard::NotAPeer => f.write_str("its sender is not in unicast_peers"),
            Discard::Incompatible(mismatch) => mismatch.fmt(f),
        }
    }
}

/// An interface by name, as last told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Link {
    name: Arc<str>,
    /// `None`: not told yet.
    up: Option<bool>,
    addresses: Vec<LinkAddress>,
}

/// All virtual routers of one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// In the configuration's order; those that are leaving for good last.
    order: Vec<RouterId>,
    /// Boxed, as half of a map's places are empty.
    pub(super) routers: BTreeMap<RouterId, Box<VirtualRouter>>,
    links: Vec<Link>,
    by_identity: BTreeMap<(LinkId, Family, Vrid), RouterId>,
    /// In the configuration's order.
    checks: Vec<Check>,
    /// Which of the checks a virtual router names; it is not here if it names none.
    checked: BTreeMap<RouterId, Vec<usize>>,
    pub(super) groups: Vec<Group>,
    /// Which of the groups a virtual router is a member of.
    pub(super) group_by_member: BTreeMap<RouterId, usize>,
    /// Groups with a member for which something changed in this event.
    pub(super) touched: BTreeSet<usize>,
    /// Who has, or no longer has, the addresses since a moment ago, and must be judged anew.
    turned: Vec<RouterId>,
    /// Every address shared here, sorted.
    shared: Vec<IpAddr>,
    /// Sorted: a list, because it is changed with every advert and a list needs no new memory.
    deadlines: VecDeque<(Instant, RouterId)>,
    scheduled: BTreeMap<RouterId, Instant>,
    /// Room for those that are due; empty between events.
    due: Vec<RouterId>,
    /// Leaving for good; forgotten when they have nothing left to release.
    leaving: Vec<RouterId>,
    next_id: u32,
    drained: bool,
    stop: Option<Stop>,
}

impl Node {
    /// All routers wait until they are told of their links.
    pub fn new(config: &Config) -> Self {
        let mut node = Node {
            order: Vec::new(),
            routers: BTreeMap::new(),
            links: Vec::new(),
            by_identity: BTreeMap::new(),
            checks: Vec::new(),
            checked: BTreeMap::new(),
            groups: Vec::new(),
            group_by_member: BTreeMap::new(),
            touched: BTreeSet::new(),
            turned: Vec::new(),
            shared: Vec::new(),
            deadlines: VecDeque::new(),
            scheduled: BTreeMap::new(),
            due: Vec::new(),
            leaving: Vec::new(),
            next_id: 0,
            drained: false,
            stop: None,
        };
        for router in &config.routers {
            let id = node.add(router, Instant::START);
            node.order.push(id);
        }
        node.note_checks(Instant::START, config);
        node.note_shared();
        node.regroup(config);
        for id in node.order.clone() {
            // Nothing has begun that could follow from it.
            node.judge(Instant::START, id, &mut Vec::new());
        }
        node
    }

    /// Feed it what happened; carry out the actions it adds, in order.
    ///
    /// # Errors
    /// A packet that was not acted on says why; it has changed nothing but what status tells of
    /// incompatible peers. Other events never fail.
    pub fn handle(
        &mut self,
        now: Instant,
        event: Event<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Discard> {
        self.forget_the_gone();
        if self.stop == Some(Stop::Restart) {
            return Ok(());
        }
        let begin = actions.len();
        let mut outcome = Ok(());
        match event {
            Event::AddressLost(id, ip) => {
                self.with(now, id, |router| router.address_lost(now, ip, actions));
            }
            Event::ClaimFailed(id, error) => {
                let there = error == ClaimError::AlreadyThere;
                self.with(now, id, |router| router.claim_failed(now, there, actions));
            }
            Event::Command(command) => self.command(now, command, actions),
            Event::Contention(sighting) => self.contention(now, sighting, actions),
            Event::Found(id, recorded) => {
                self.drained |= recorded.drained;
                self.with(now, id, |router| router.found(recorded));
            }
            Event::HookFinished(id, outcome) => {
                for id in self.together_with(id) {
                    self.with(now, id, |router| router.hook_finished(now, outcome, actions));
                }
            }
            Event::Late(id) => self.with(now, id, |router| router.overdue(now, Why::Late, actions)),
            Event::LeaseRanOut(id) => {
                self.with(now, id, |router| router.overdue(now, Why::LeaseRanOut, actions));
            }
            Event::Link { link, up, addresses } => self.link(now, link, up, addresses, actions),
            Event::Packet(packet) => outcome = self.packet(now, &packet, actions),
            Event::Probe { check, probe } => self.probe(now, check, probe, actions),
            Event::Reload(config) => self.reload(now, config, actions),
            Event::Stop(stop) => self.stop(now, stop, actions),
            Event::Timeout => self.timeout(now, actions),
        }
        while !self.touched.is_empty() || !self.turned.is_empty() {
            for id in std::mem::take(&mut self.turned) {
                self.judge(now, id, actions);
            }
            self.align_groups(now, actions);
        }
        if !self.groups.is_empty() {
            self.run_hooks_once(&mut actions[begin..]);
        }
        outcome
    }

    /// When to come back with [`Event::Timeout`].
    pub fn deadline(&self) -> Option<Instant> {
        match self.stop {
            Some(Stop::Restart) => None,
            Some(Stop::Leave) | None => self.deadlines.front().map(|(at, _)| *at),
        }
    }

    /// Whether a stop that was asked for has come to its end.
    pub fn is_stopped(&self) -> bool {
        match self.stop {
            Some(Stop::Restart) => true,
            Some(Stop::Leave) => self.routers.values().all(|router| !router.has_addresses()),
            None => false,
        }
    }

    /// Whether the operator drained this host.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// The virtual routers in the configuration's order, those leaving for good last.
    pub fn routers(&self) -> impl Iterator<Item = &VirtualRouter> + '_ {
        self.order.iter().filter_map(|id| self.router(*id))
    }

    /// One virtual router.
    pub fn router(&self, id: RouterId) -> Option<&VirtualRouter> {
        self.routers.get(&id).map(Box::as_ref)
    }

    /// The virtual router of that name.
    pub fn find(&self, name: &str) -> Option<&VirtualRouter> {
        self.routers().find(|router| &*router.config().name == name)
    }

    /// The virtual router that an advert with this VRID means when it comes in by this link.
    pub fn meant(&self, link: LinkId, family: Family, vrid: Vrid) -> Option<&VirtualRouter> {
        self.router(*self.by_identity.get(&(link, family, vrid))?)
    }

    /// The interfaces that any virtual router has lived on, by name.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, &Arc<str>)> + '_ {
        self.links.iter().zip(0..).map(|(link, n)| (LinkId(n), &link.name))
    }

    /// The checks that the configuration names now.
    pub fn checks(&self) -> impl Iterator<Item = &Check> + '_ {
        self.checks.iter()
    }

    /// The check of that name.
    pub fn find_check(&self, name: &str) -> Option<&Check> {
        self.checks().find(|check| &*check.config().name == name)
    }

    // ---- events ----------------------------------------------------------------------------

    fn probe(&mut self, now: Instant, id: CheckId, probe: Probe, actions: &mut Vec<Action>) {
        let Some(index) = self.checks.iter().position(|check| check.id() == id) else { return };
        if self.checks[index].probe(now, probe) {
            let users = self.checked.iter().filter(|(_, checks)| checks.contains(&index));
            let users: Vec<RouterId> = users.map(|(id, _)| *id).collect();
            for id in users {
                self.judge(now, id, actions);
            }
        }
    }

    /// Tells a virtual router what its checks amount to.
    fn judge(&mut self, now: Instant, id: RouterId, actions: &mut Vec<Action>) {
        let (Some(router), checked) = (self.router(id), self.checked.get(&id)) else {
            return;
        };
        let checks = checked.into_iter().flatten().filter_map(|index| self.checks.get(*index));
        let bearing = Bearing::sum(checks, router.has_addresses());
        if *router.bearing() == bearing {
            return;
        }
        self.with(now, id, |router| router.judge(now, bearing, actions));
    }

    fn packet(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Discard> {
        let heard = advert::decode(packet.source, packet.destination, packet.message)
            .map_err(Discard::Malformed)?;
        let identity = (packet.link, Family::of(packet.source), heard.vrid);
        let Some(&id) = self.by_identity.get(&identity) else {
            return Err(Discard::UnknownRouter(heard.vrid));
        };
        let mut outcome = Ok(());
        self.with(now, id, |router| outcome = router.packet(now, packet, &heard, actions));
        outcome
    }

    fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // Each router is called once: one that is due again at once must not keep us here.
        let mut due = std::mem::take(&mut self.due);
        due.extend(self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id));
        for id in due.drain(..) {
            self.with(now, id, |router| router.timeout(now, actions));
        }
        self.due = due;
    }

    fn link(
        &mut self,
        now: Instant,
        id: LinkId,
        up: bool,
        addresses: &[LinkAddress],
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        link.up = Some(up);
        link.addresses.clear();
        link.addresses.extend_from_slice(addresses);
        for router in self.routers_on(id) {
            self.look_around(now, router, actions);
        }
    }

    fn contention(&mut self, now: Instant, seen: Contention, actions: &mut Vec<Action>) {
        for id in self.routers_on(seen.link) {
            self.with(now, id, |router| {
                if router.addresses().iter().any(|address| address.ip == seen.address) {
                    router.contention(now, seen.address, seen.mac, actions);
                }
            });
        }
    }

    fn command(&mut self, now: Instant, command: Command, actions: &mut Vec<Action>) {
        match command {
            Command::Announce(id) => {
                for id in self.together_with(id) {
                    self.with(now, id, |router| router.announce_now(now, actions));
                }
            }
            Command::Failover(id) => {
                for id in self.together_with(id) {
                    self.with(now, id, |router| router.failover(now, actions));
                }
            }
            Command::Resume(id) => {
                for id in self.together_with(id) {
                    self.with(now, id, VirtualRouter::resume);
                }
            }
            Command::Drain | Command::Undrain => {
                self.drained = command == Command::Drain;
                for id in self.order.clone() {
                    self.look_around(now, id, actions);
                    if self.drained {
                        self.with(now, id, |router| router.drain(now, actions));
                    }
                }
            }
        }
    }

    fn stop(&mut self, now: Instant, stop: Stop, actions: &mut Vec<Action>) {
        if self.stop.is_some() && stop == Stop::Restart {
            // What has been offered to others is not left lying about.
            return;
        }
        self.stop = Some(stop);
        match stop {
            Stop::Restart => {}
            Stop::Leave => {
                for id in self.order.clone() {
                    self.with(now, id, |router| router.retire(now, Leave::Stop, false, actions));
                }
            }
        }
    }

    /// What is equal stays equal. The same (interface, family, VRID) is the same virtual router,
    /// whatever its name; what is no longer there leaves, what is new starts.
    fn reload(&mut self, now: Instant, config: &Config, actions: &mut Vec<Action>) {
        if self.stop.is_some() {
            return;
        }
        let known = |node: &Node, wanted: &RouterConfig| -> Option<RouterId> {
            let same = |router: &&VirtualRouter| router.config().identity() == wanted.identity();
            node.routers().find(same).map(VirtualRouter::id)
        };
        let matched: Vec<Option<RouterId>> =
            config.routers.iter().map(|wanted| known(self, wanted)).collect();
        let staying: BTreeSet<RouterId> = matched.iter().flatten().copied().collect();
        let leaving: Vec<RouterId> =
            self.order.iter().copied().filter(|id| !staying.contains(id)).collect();
        for &id in &leaving {
            if self.group_of(id).is_some_and(|g| g.members().iter().any(|id| staying.contains(id)))
            {
                // The group's hooks are not for one who leaves it.
                self.with(now, id, VirtualRouter::mute);
            }
            let hurry = self.router(id).is_some_and(|router| {
                router.addresses().iter().any(|address| {
                    let mut wanted = config.routers.iter().flat_map(RouterConfig::all_addresses);
                    wanted.any(|other| other.ip == address.ip)
                })
            });
            self.with(now, id, |router| router.retire(now, Leave::Removed, hurry, actions));
        }
        for (wanted, id) in config.routers.iter().zip(&matched) {
            if let Some(id) = id {
                self.with(now, *id, |router| router.reload_release(now, wanted, actions));
            }
        }
        self.leaving.clone_from(&leaving);
        self.order = matched
            .iter()
            .zip(&config.routers)
            .map(|(id, wanted)| id.unwrap_or_else(|| self.add(wanted, now)))
            .chain(leaving.iter().copied())
            .collect();
        let leave = leaving.iter().filter_map(|id| self.router(*id));
        self.shared = leave
            .flat_map(|router| router.addresses().iter().copied())
            .chain(config.routers.iter().flat_map(RouterConfig::all_addresses))
            .map(|address| address.ip)
            .collect();
        self.shared.sort_unstable();
        self.shared.dedup();
        self.note_checks(now, config);
        for (id, wanted) in self.order.clone().into_iter().zip(&config.routers) {
            self.within(now, id, |router, around| router.reload(now, wanted, around, actions));
        }
        let ungrouped = self.regroup(config);
        for id in self.order.clone() {
            self.judge(now, id, actions);
            if !staying.contains(&id) {
                self.look_around(now, id, actions);
            }
        }
        for id in ungrouped {
            self.share_trouble(now, id, None, actions);
        }
    }

    // ---- bookkeeping -----------------------------------------------------------------------

    fn add(&mut self, config: &RouterConfig, now: Instant) -> RouterId {
        let link = match self.links.iter().position(|link| link.name == config.interface) {
            Some(index) => index,
            None => {
                let name = config.interface.clone();
                self.links.push(Link { name, up: None, addresses: Vec::new() });
                self.links.len() - 1
            }
        };
        let link = LinkId(link as u32);
        let id = RouterId(self.next_id);
        self.next_id += 1;
        self.by_identity.insert((link, config.family, config.vrid), id);
        self.routers.insert(id, Box::new(VirtualRouter::new(id, link, config, now)));
        id
    }

    /// Checks keep their verdict and their id over a reload; a new one begins.
    fn note_checks(&mut self, now: Instant, config: &Config) {
        let mut known = std::mem::take(&mut self.checks);
        for wanted in &config.checks {
            let check = match known.iter().position(|check| check.config().name == wanted.name) {
                Some(at) => known.swap_remove(at).with(wanted),
                None => {
                    let id = CheckId(self.next_id);
                    self.next_id += 1;
                    Check::new(id, wanted, now)
                }
            };
            self.checks.push(check);
        }
        let named: BTreeMap<&str, usize> =
            self.checks.iter().map(|check| &*check.config().name).zip(0..).collect();
        let indices = |names: &[Arc<str>]| -> Vec<usize> {
            names.iter().filter_map(|name| named.get(&**name).copied()).collect()
        };
        let users = self.order.iter().zip(&config.routers);
        self.checked = users
            .filter(|(_, router)| !router.checks.is_empty())
            .map(|(id, router)| (*id, indices(&router.checks)))
            .collect();
    }

    fn note_shared(&mut self) {
        self.shared =
            self.routers.values().flat_map(|r| r.addresses().iter()).map(|a| a.ip).collect();
        self.shared.sort_unstable();
        self.shared.dedup();
    }

    fn link_of(&self, id: RouterId) -> usize {
        self.router(id).map_or(usize::MAX, |router| router.link().0 as usize)
    }

    fn routers_on(&self, link: LinkId) -> Vec<RouterId> {
        self.routers().filter(|router| router.link() == link).map(VirtualRouter::id).collect()
    }

    fn surroundings(&self, link: LinkId) -> Surroundings<'_> {
        let link = self.links.get(link.0 as usize);
        Surroundings {
            link_up: link.is_some_and(|link| link.up == Some(true)),
            addresses: link.map_or(&[], |link| &link.addresses),
            shared: &self.shared,
            drained: self.drained,
        }
    }

    fn link_is_known(&self, id: RouterId) -> bool {
        self.links.get(self.link_of(id)).is_some_and(|link| link.up.is_some())
    }

    fn look_around(&mut self, now: Instant, id: RouterId, actions: &mut Vec<Action>) {
        if !self.link_is_known(id) {
            return;
        }
        let starts = |node: &Node, id: &RouterId| {
            node.routers.get(id).is_some_and(|router| router.is_starting() && !router.is_retiring())
        };
        let together = self.together_with(id);
        if together.len() == 1 || !starts(self, &id) {
            self.within(now, id, |router, around| router.surroundings(now, around, actions));
        } else {
            // A group starts together: it resumes if all its members may.
            let all = together.len();
            let starting: Vec<RouterId> =
                together.into_iter().filter(|id| starts(self, id)).collect();
            if starting.iter().all(|id| self.link_is_known(*id)) {
                self.start_together(now, &starting, starting.len() == all, actions);
            }
            for id in starting {
                self.judge(now, id, actions);
            }
        }
        self.judge(now, id, actions);
    }

    fn start_together(
        &mut self,
        now: Instant,
        starting: &[RouterId],
        all: bool,
        actions: &mut Vec<Action>,
    ) {
        for &id in starting {
            self.within(now, id, |router, around| {
                router.perceive(now, around);
            });
        }
        let sound = |id: &RouterId| self.router(*id).is_some_and(VirtualRouter::qualifies);
        let resumes = all && starting.iter().all(sound);
        for &id in starting {
            let culprit = self.culprit_beside(id);
            self.with(now, id, |router| {
                if !resumes {
                    router.share_trouble(culprit.as_ref());
                }
                router.start(now, resumes, actions);
            });
        }
    }

    /// Lets a router do something, and notes when it wants to be called.
    pub(super) fn with(
        &mut self,
        now: Instant,
        id: RouterId,
        act: impl FnOnce(&mut VirtualRouter),
    ) {
        if let Some(router) = self.routers.get_mut(&id) {
            let member = router.membership() != Membership::Alone;
            let before = member.then(|| router.standing(now));
            let had = router.has_addresses();
            act(router);
            if router.bearing().provisional && had != router.has_addresses() {
                self.turned.push(id);
            }
            let deadline = router.deadline();
            if member && (before != Some(router.standing(now)) || router.waits_for_group(now)) {
                self.touched.extend(self.group_by_member.get(&id));
            }
            self.schedule(id, deadline);
        }
    }

    /// The same for what depends on the host, too.
    fn within(
        &mut self,
        now: Instant,
        id: RouterId,
        act: impl FnOnce(&mut VirtualRouter, Surroundings<'_>),
    ) {
        let Some(mut router) = self.routers.remove(&id) else { return };
        let before = router.standing(now);
        let had = router.has_addresses();
        let around = self.surroundings(router.link());
        act(&mut router, around);
        if router.bearing().provisional && had != router.has_addresses() {
            self.turned.push(id);
        }
        if before != router.standing(now) {
            self.touched.extend(self.group_by_member.get(&id));
        }
        let deadline = router.deadline();
        self.routers.insert(id, router);
        self.schedule(id, deadline);
    }

    fn schedule(&mut self, id: RouterId, deadline: Option<Instant>) {
        let before = match deadline {
            Some(at) => self.scheduled.insert(id, at),
            None => self.scheduled.remove(&id),
        };
        if before != deadline {
            // Mostly the first to come becomes the last.
            if let Some(before) = before {
                if self.deadlines.front() == Some(&(before, id)) {
                    self.deadlines.pop_front();
                } else if let Ok(place) = self.deadlines.binary_search(&(before, id)) {
                    self.deadlines.remove(place);
                }
            }
            if let Some(at) = deadline {
                if self.deadlines.back().is_none_or(|last| *last < (at, id)) {
                    self.deadlines.push_back((at, id));
                } else if let Err(place) = self.deadlines.binary_search(&(at, id)) {
                    self.deadlines.insert(place, (at, id));
                }
            }
        }
    }

    /// Routers that have left for good were kept until their last actions had been carried out.
    fn forget_the_gone(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let leaving = std::mem::take(&mut self.leaving);
        let is_gone = |id: &RouterId| self.router(*id).is_none_or(VirtualRouter::is_gone);
        let (gone, leaving) = leaving.into_iter().partition(is_gone);
        let gone: Vec<RouterId> = gone;
        self.leaving = leaving;
        for id in gone {
            self.schedule(id, None);
            self.routers.remove(&id);
            self.order.retain(|other| *other != id);
            self.by_identity.retain(|_, other| *other != id);
            self.forget_member(id);
            self.note_shared();
        }
    }
}

/// The view of a model checker, which must see when two states are the same.
impl Node {
    /// The same node as if `now` were `origin`, without what decides no election: history,
    /// warnings, announcements.
    pub fn seen_from(&self, now: Instant, origin: Instant) -> Node {
        let mut node = self.clone();
        for router in node.routers.values_mut() {
            router.see_from(now, origin);
        }
        for check in &mut node.checks {
            check.see_from(origin);
        }
        for group in &mut node.groups {
            group.see();
        }
        for id in node.order.clone() {
            let deadline = node.router(id).and_then(VirtualRouter::deadline);
            node.schedule(id, deadline);
        }
        node
    }
}
