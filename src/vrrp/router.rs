//! One virtual router: the election for one list of addresses (RFC 9568 6.4).
//!
//! It is told of adverts, links and deadlines by [`Node`](super::Node) and adds what is to be done
//! to a list. Every change of role goes through `VirtualRouter::enter`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::advert::{Advert, Authentication, Heard};
use super::check::Bearing;
use super::config::{
    Address, ChecksumForm, Family, Handover, Interval, Priority, RouterConfig, Version,
};
use super::node::{
    Action, Discard, Hook, HookOutcome, LinkAddress, LinkId, Mac, Mismatch, Packet, Recorded,
    RouterId, Transition, Warning, Why,
};
use super::time::Instant;

/// At most one advert beside the schedule in this time, whatever arrives.
const EXTRA_ADVERT_GAP: Duration = Duration::from_millis(10);
/// When a new master repeats its first announcement, counted from the claim.
const ANNOUNCE_AGAIN: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// How often a master announces when nothing happens.
const ANNOUNCE_REFRESH: Duration = Duration::from_secs(30);
/// At most one urgent round of announcements in this time.
const ANNOUNCE_GAP: Duration = Duration::from_secs(1);
/// A foreign announcement is answered no earlier: the other side may be about to give way.
const ANSWER_CONTENTION_AFTER: Duration = Duration::from_millis(20);
/// A loser lingers this long after it heard its successor's advert ...
const LINGER: Duration = Duration::from_millis(5);
/// ... and this long after it saw its successor's announcement.
const LINGER_ANNOUNCED: Duration = Duration::from_millis(1);
/// A leaver waits this many intervals for a successor ...
const SUCCESSOR_INTERVALS: u32 = 4;
/// ... and never longer than this.
const SUCCESSOR_WAIT: Duration = Duration::from_secs(10);
/// How long a newcomer that heard nobody and does not preempt advertises priority 1.
const DEAF: Duration = Duration::from_secs(60);
/// How long a failed claim keeps us out of the election.
const CLAIM_RETRY: Duration = Duration::from_secs(10);
/// How long a veto keeps us out of the election if the configuration does not say.
const VETO_RETRY: Duration = Duration::from_secs(10);
/// A member of a sync group that ties with a master on a link that is not the group's first leaves
/// the decision to that one for this many intervals ...
const CONTEST_INTERVALS: u32 = 2;
/// ... and a contest that was silent for this many has ended.
const CONTEST_FORGOTTEN: u32 = 4;
/// This many removals of our addresses by somebody else ...
const REMOVALS_BORNE: u32 = 10;
/// ... within this time, and we give up ...
const REMOVALS_WINDOW: Duration = Duration::from_secs(10);
/// ... for this long.
const REMOVED_RETRY: Duration = Duration::from_secs(30);
/// Below this interval renewals need not go with every advert.
const RENEW_GAP: Duration = Duration::from_millis(500);
/// The same kind of warning is given no more often.
const WARN_GAP: Duration = Duration::from_secs(60);
/// A daemon that was resumed this often in a minute starts as backup.
const RESUMES_PER_MINUTE: u32 = 3;

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
        newcomer: bool,
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
        /// When the addresses' lifetime was last renewed.
        renewed_at: Instant,
        /// When to announce the addresses again.
        announcements: Announcements,
        /// A newcomer that may be deaf advertises priority 1 until then.
        deaf_until: Option<Instant>,
        /// Since when it has stayed beside an equal master that its group's first member may beat.
        contested_since: Option<Instant>,
    },
    /// Gives the addresses away and still answers for them.
    Leaving {
        /// What for.
        leave: Leave,
        /// How far it is.
        phase: Phase,
        /// When the last advert left.
        sent_at: Instant,
        /// When the addresses' lifetime was last renewed.
        renewed_at: Instant,
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
        /// When we stop answering.
        release_at: Instant,
        /// The successor.
        to: IpAddr,
    },
}

/// When a master announces its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Announcements {
    claimed_at: Instant,
    /// How many of [`ANNOUNCE_AGAIN`] have been done.
    done: usize,
    last_at: Instant,
    scheduled_at: Instant,
    urgent_at: Option<Instant>,
}

impl Announcements {
    /// The first round is made by whoever calls this.
    fn begin(now: Instant) -> Self {
        Announcements {
            claimed_at: now,
            done: 0,
            last_at: now,
            scheduled_at: now + ANNOUNCE_AGAIN[0],
            urgent_at: None,
        }
    }

    fn next_at(&self) -> Instant {
        self.urgent_at.map_or(self.scheduled_at, |urgent| urgent.min(self.scheduled_at))
    }

    /// A round beside the schedule, no earlier than `not_before` and at most one a second.
    fn urge(&mut self, not_before: Instant) {
        let at = not_before.max(self.last_at + ANNOUNCE_GAP);
        self.urgent_at = Some(self.urgent_at.map_or(at, |urgent| urgent.min(at)));
    }

    /// Whether a round is due now; if so, the next one is set.
    fn take_due(&mut self, now: Instant) -> bool {
        if now < self.next_at() {
            return false;
        }
        if self.scheduled_at <= now {
            self.done += 1;
            self.scheduled_at = match ANNOUNCE_AGAIN.get(self.done) {
                Some(&after) => (self.claimed_at + after).max(now + ANNOUNCE_AGAIN[0]),
                None => now + ANNOUNCE_REFRESH,
            };
        }
        self.urgent_at = None;
        self.last_at = now;
        true
    }
}

/// Why a virtual router cannot take part; a set of them, and fault is "not empty".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Nothing is known of the machine yet.
    Starting,
    /// It waits for the first results of its checks.
    Unchecked,
    /// The interface is absent or down.
    LinkDown,
    /// The interface has no address to send adverts from.
    NoAddress,
    /// The check of this name fails.
    Check(Arc<str>),
    /// The member of its sync group of this name cannot take part.
    Group(Arc<str>),
    /// A shared address is on the interface and is not ours to touch.
    AddressAlreadyThere,
    /// The kernel refused to add an address.
    ClaimFailed,
    /// Somebody on this host keeps removing our addresses.
    AddressRemoved,
    /// The `before_claim` hook said no, or nothing in its time.
    Vetoed,
    /// This hook failed, and by the configuration that means fault.
    HookFailed(Hook),
}

impl Reason {
    /// The word in status and hooks: snake_case, never changed once published.
    pub const fn name(&self) -> &'static str {
        match self {
            Reason::Starting => "starting",
            Reason::Unchecked => "unchecked",
            Reason::LinkDown => "link_down",
            Reason::NoAddress => "no_address",
            Reason::Check(_) => "check",
            Reason::Group(_) => "group",
            Reason::AddressAlreadyThere => "address_already_there",
            Reason::ClaimFailed => "claim_failed",
            Reason::AddressRemoved => "address_removed",
            Reason::Vetoed => "vetoed",
            Reason::HookFailed(_) => "hook_failed",
        }
    }

    /// Whether it is the virtual router's own trouble, in which its sync group has to share.
    const fn is_own_trouble(&self) -> bool {
        match self {
            Reason::Starting | Reason::Unchecked | Reason::Group(_) => false,
            Reason::LinkDown
            | Reason::NoAddress
            | Reason::Check(_)
            | Reason::AddressAlreadyThere
            | Reason::ClaimFailed
            | Reason::AddressRemoved
            | Reason::Vetoed
            | Reason::HookFailed(_) => true,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Starting => f.write_str("nothing is known of the interface yet"),
            Reason::Unchecked => f.write_str("waiting for the first results of its checks"),
            Reason::LinkDown => f.write_str("the interface is absent or down"),
            Reason::NoAddress => f.write_str("the interface has no address to send adverts from"),
            Reason::Check(check) => write!(f, "check {check} fails"),
            Reason::Group(member) => {
                write!(f, "{member}, a member of its sync group, cannot take part")
            }
            Reason::AddressAlreadyThere => f.write_str(
                "a shared address is already on the interface and was not put there by vipd",
            ),
            Reason::ClaimFailed => f.write_str("the kernel refused to add an address"),
            Reason::AddressRemoved => {
                f.write_str("something on this host keeps removing the addresses")
            }
            Reason::Vetoed => f.write_str("the before_claim hook did not agree"),
            Reason::HookFailed(hook) => write!(f, "the {} hook failed", hook.name()),
        }
    }
}

/// What a virtual router is, in the operators' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Not decided yet.
    Waiting,
    /// Ready to take over.
    Backup,
    /// Asks the `before_claim` hook whether it may take over.
    Claiming,
    /// Holds the addresses.
    Master,
    /// Gives the addresses away.
    Leaving,
    /// Cannot take part.
    Fault,
    /// No longer takes part: the daemon stops, or the router was removed.
    Stopped,
}

impl Role {
    /// The word in status and hooks.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Waiting => "waiting",
            Role::Backup => "backup",
            Role::Claiming => "claiming",
            Role::Master => "master",
            Role::Leaving => "leaving",
            Role::Fault => "fault",
            Role::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The last advert of another router that counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Who sent it.
    pub source: IpAddr,
    /// With which priority.
    pub priority: Priority,
    /// Its interval.
    pub interval: Interval,
    /// The form of checksum it uses, where there are two.
    pub checksum: Option<ChecksumForm>,
    /// When it came.
    pub at: Instant,
}

/// A peer that means our virtual router but cannot be understood with our settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incompatible {
    /// Who sent it.
    pub source: IpAddr,
    /// What differs.
    pub mismatch: Mismatch,
    /// When it last came.
    pub at: Instant,
}

/// How many incompatible peers are remembered: strangers can invent any number.
const INCOMPATIBLE_REMEMBERED: usize = 8;

/// What a virtual router must know of its host to decide: lives in the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub link_up: bool,
    pub addresses: &'a [LinkAddress],
    /// Every address shared by any virtual router of this host.
    pub shared: &'a [IpAddr],
    pub drained: bool,
}

/// What a virtual router is in a sync group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Membership {
    /// It is in none.
    Alone,
    /// The member whose ties decide.
    First,
    /// Any other member.
    Other,
}

/// What its sync group must know of a member; if it stays the same, the group has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    role: Role,
    /// Its place among the states and phases.
    seat: Seat,
    trouble: bool,
    respects: bool,
}

/// Where a member of a sync group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// In fault, or waiting.
    Out,
    /// Backup.
    Backup,
    /// Asks its hook.
    Claiming,
    /// Master, and means to stay it.
    Master,
    /// Master still, and about to leave.
    Preparing,
    /// Has said priority 0 and waits for a successor.
    Offered,
    /// Has a successor, or has lost the election.
    Succeeded,
}

/// One virtual router of this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualRouter {
    id: RouterId,
    link: LinkId,
    config: Arc<RouterConfig>,
    /// All addresses, advertised ones first.
    all: Arc<[Address]>,
    /// Where adverts go: the group, or the peers.
    to: Arc<[IpAddr]>,
    state: State,
    faults: BTreeMap<Reason, Option<Instant>>,
    source: Option<IpAddr>,
    since: Instant,
    why: Why,
    peer: Option<Peer>,
    /// The interval that the master uses; ours when nobody was heard (RFC 9568 6.1).
    master_interval: Interval,
    incompatible: Vec<Incompatible>,
    /// Nobody is deposed or succeeded before this.
    hold_until: Instant,
    /// Since when there has been no fault.
    fit_since: Instant,
    heard_since_up: bool,
    held_back: bool,
    drained: bool,
    /// When a master was last heard that we would not depose, if that is not over.
    respected_at: Option<Instant>,
    /// What its checks amount to.
    bearing: Bearing,
    membership: Membership,
    /// The role last told of.
    told: Role,
    /// It was taken out of a sync group that goes on: the group's hooks are not its own.
    mute: bool,
    /// It leaves for good, and why.
    retiring: Option<Leave>,
    recorded: Option<Recorded>,
    removals: u32,
    removals_since: Instant,
    warned: BTreeMap<u8, Instant>,
    hook: Option<HookOutcome>,
}

impl VirtualRouter {
    pub(super) fn new(id: RouterId, link: LinkId, config: &RouterConfig, now: Instant) -> Self {
        VirtualRouter {
            id,
            link,
            all: config.all_addresses().collect(),
            to: destinations(config),
            state: State::Fault,
            faults: BTreeMap::from([(Reason::Starting, None)]),
            source: None,
            since: now,
            why: Why::Starting,
            peer: None,
            master_interval: config.advert_interval,
            incompatible: Vec::new(),
            hold_until: now + config.start_delay.max(config.link_delay),
            fit_since: now,
            heard_since_up: false,
            held_back: false,
            drained: false,
            respected_at: None,
            bearing: Bearing::default(),
            membership: Membership::Alone,
            told: Role::Waiting,
            mute: false,
            retiring: None,
            recorded: None,
            removals: 0,
            removals_since: now,
            warned: BTreeMap::new(),
            hook: None,
            config: Arc::new(config.clone()),
        }
    }

    // ---- what it is ------------------------------------------------------------------------

    /// The number by which actions and events name it.
    pub fn id(&self) -> RouterId {
        self.id
    }

    /// The interface it lives on.
    pub fn link(&self) -> LinkId {
        self.link
    }

    /// What it was told.
    pub fn config(&self) -> &Arc<RouterConfig> {
        &self.config
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Every address it shares, advertised ones first.
    pub fn addresses(&self) -> &Arc<[Address]> {
        &self.all
    }

    /// The role in operators' words.
    pub fn role(&self) -> Role {
        match self.state {
            State::Fault if self.is_undecided() => Role::Waiting,
            State::Fault => Role::Fault,
            State::Backup { .. } if self.retiring.is_some() => Role::Stopped,
            State::Backup { .. } => Role::Backup,
            State::Claiming { .. } => Role::Claiming,
            State::Master { .. } => Role::Master,
            State::Leaving { .. } => Role::Leaving,
        }
    }

    /// Since when it has had this role, and why.
    pub fn since(&self) -> (Instant, &Why) {
        (self.since, &self.why)
    }

    /// Why it cannot take part; empty unless the role is fault or waiting.
    pub fn fault_reasons(&self) -> impl Iterator<Item = Reason> + '_ {
        self.faults.keys().cloned()
    }

    /// The last advert of another router, if any was heard.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Peers that mean this virtual router but are set up differently.
    pub fn incompatible(&self) -> &[Incompatible] {
        &self.incompatible
    }

    /// Where adverts come from, if the interface has a fitting address.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Whether the operator moved it away from this host.
    pub fn held_back(&self) -> bool {
        self.held_back
    }

    /// The last hook that finished, with its outcome.
    pub fn hook(&self) -> Option<&HookOutcome> {
        self.hook.as_ref()
    }

    /// When the last advert left, while it has the addresses.
    pub fn sent_at(&self) -> Option<Instant> {
        match self.state {
            State::Master { sent_at, .. } | State::Leaving { sent_at, .. } => Some(sent_at),
            State::Fault | State::Backup { .. } | State::Claiming { .. } => None,
        }
    }

    /// Whether the kernel holds the addresses for us, or is about to.
    pub fn has_addresses(&self) -> bool {
        match self.state {
            State::Master { .. } | State::Leaving { .. } => true,
            State::Fault | State::Backup { .. } | State::Claiming { .. } => false,
        }
    }

    /// Removed from the configuration, and done with it.
    pub(super) fn is_gone(&self) -> bool {
        self.retiring == Some(Leave::Removed) && !self.has_addresses()
    }

    /// The successor has taken over: what is left is a moment of answering.
    fn is_succeeded(&self) -> bool {
        matches!(self.state, State::Leaving { phase: Phase::Succeeded { .. }, .. })
    }

    /// Whether it stands at priority 1 because of a check whose failing is no fault.
    pub fn degraded(&self) -> bool {
        self.bearing.last && !self.is_owner()
    }

    /// Neither has it taken part yet, nor been kept from it.
    fn is_undecided(&self) -> bool {
        self.faults.contains_key(&Reason::Starting) || self.faults.contains_key(&Reason::Unchecked)
    }

    /// The owner of the addresses is never moved by weights, delays or the operator.
    fn is_owner(&self) -> bool {
        self.config.priority == Priority::OWNER
    }

    /// The priority in force, with what its checks add and take: what we advertise and compare with.
    pub fn effective_priority(&self) -> Priority {
        if self.is_owner() {
            return Priority::OWNER;
        }
        match self.state {
            State::Master { deaf_until: Some(_), .. } => Priority::LOWEST,
            State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Master { .. }
            | State::Leaving { .. } => self.bearing.of(self.config.priority),
        }
    }

    /// Skew time: the better the priority, the shorter (RFC 9568 6.1; RFC 3768 6.1).
    pub fn skew(&self) -> Duration {
        let base = match self.config.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.master_interval.duration(),
        };
        base * (256 - u32::from(self.effective_priority().get())) / 256
    }

    /// Master-down interval: 3 x the master's interval + skew (RFC 9568 6.1).
    pub fn master_down(&self) -> Duration {
        3 * self.master_interval.duration() + self.skew()
    }

    /// When it must be called with a timeout.
    pub fn deadline(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Fault => None,
            State::Backup { takeover_at } => *takeover_at,
            State::Claiming { until, .. } => Some(*until),
            State::Master { advert_at, extra_at, announcements, deaf_until, .. } => {
                let mut at = (*advert_at).min(announcements.next_at());
                for other in [extra_at, deaf_until].into_iter().flatten() {
                    at = at.min(*other);
                }
                Some(at)
            }
            State::Leaving { phase, .. } => Some(match phase {
                Phase::Preparing { until, advert_at } => (*until).min(*advert_at),
                Phase::Offered { successor_by, repeat_at } => (*successor_by).min(*repeat_at),
                Phase::Succeeded { release_at, .. } => *release_at,
            }),
        };
        self.faults.values().flatten().copied().chain(state).min()
    }

    // ---- what happens to it ----------------------------------------------------------------

    /// The record of an earlier daemon, kept until the interface is known.
    pub(super) fn found(&mut self, recorded: Recorded) {
        self.recorded = Some(recorded);
    }

    /// The host changed: link, addresses, drained, stopping. Recomputes what depends on it.
    pub(super) fn surroundings(
        &mut self,
        now: Instant,
        around: Surroundings<'_>,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        self.look_around(now, around, actions);
    }

    fn look_around(&mut self, now: Instant, around: Surroundings<'_>, actions: &mut Vec<Action>) {
        if self.perceive(now, around) {
            self.start(now, self.qualifies(), actions);
        } else {
            self.settle(now, actions);
        }
    }

    /// Takes note of the host without deciding anything; whether that was for the first time.
    pub(super) fn perceive(&mut self, now: Instant, around: Surroundings<'_>) -> bool {
        let starting = self.faults.remove(&Reason::Starting).is_some();
        let was_down = self.faults.contains_key(&Reason::LinkDown);
        let source = self.choose_source(around.addresses, around.shared);
        let foreign = !self.is_owner()
            && around
                .addresses
                .iter()
                .any(|there| !there.ours && self.all.iter().any(|address| address.ip == there.ip));
        self.set_fault(Reason::LinkDown, !around.link_up);
        self.set_fault(Reason::NoAddress, around.link_up && source.is_none());
        self.set_fault(Reason::AddressAlreadyThere, foreign);
        if around.link_up && (was_down || starting) {
            self.heard_since_up = false;
            let delay = if starting {
                self.config.start_delay.max(self.config.link_delay)
            } else {
                self.config.link_delay
            };
            self.hold_until = self.hold_until.max(now + delay);
        }
        if source.is_some() {
            // An address that went away is still the right one for the farewell.
            self.source = source;
        }
        self.drained = around.drained;
        starting
    }

    /// Whether it may go on as master where an earlier daemon stopped. Checks have had no time to
    /// say anything: what they count as before their first results keeps nobody from that.
    pub(super) fn qualifies(&self) -> bool {
        let sound = self.faults.keys().all(|reason| matches!(reason, Reason::Check(_)));
        let may_resume = self.recorded.as_ref().is_some_and(|recorded| self.may_resume(recorded));
        sound && !self.drained && may_resume
    }

    /// The first decision after start: resume, or clean up and take part.
    pub(super) fn start(&mut self, now: Instant, resumes: bool, actions: &mut Vec<Action>) {
        if self.retiring.is_some() {
            return;
        }
        let recorded = self.recorded.take();
        if let Some(recorded) = &recorded {
            self.held_back = recorded.held_back;
            if resumes {
                self.bearing = Bearing::default();
                self.faults.clear();
                self.become_master(now, Why::Resumed, !recorded.master_hook_done, actions);
                return;
            }
            if recorded.addresses_present && !self.is_owner() {
                actions.push(Action::Release { router: self.id, addresses: self.all.clone() });
            }
        }
        if let Some(patience) = self.bearing.unknown {
            self.faults.insert(Reason::Unchecked, Some(now + patience));
        }
        if !self.faults.is_empty() {
            self.since = now;
            self.why = Why::Fault(self.fault_reasons().collect());
            if !self.is_undecided() {
                self.notify(true, actions);
            }
        } else {
            self.take_part(now, actions);
        }
    }

    /// Nothing keeps it from taking part any longer.
    fn take_part(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.fit_since = now;
        let why = if self.told == Role::Waiting { Why::Started } else { Why::Recovered };
        if self.is_owner() && !self.drained {
            self.become_master(now, Why::Owner, true, actions);
        } else {
            self.enter_backup(now, why, actions);
        }
    }

    /// Whether an earlier daemon's role may simply go on (DESIGN section 4, "Resume").
    fn may_resume(&self, recorded: &Recorded) -> bool {
        let patience = 3 * self.config.advert_interval.duration();
        recorded.was_master
            && !recorded.held_back
            && !recorded.drained
            && recorded.addresses_alive
            && recorded.last_advert_age < patience.saturating_sub(patience / 30)
            && recorded.resumes_in_last_minute < RESUMES_PER_MINUTE
    }

    /// An advert, or what claims to be one, already decoded and known to mean this router.
    pub(super) fn packet(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Discard> {
        self.check_late(now, actions);
        self.admit(now, packet, heard, actions)?;
        self.remark(now, packet.source, heard, actions);
        self.peer = Some(Peer {
            source: packet.source,
            priority: heard.priority,
            interval: heard.interval,
            checksum: heard.checksum,
            at: now,
        });
        match &self.state {
            State::Fault => {}
            State::Backup { .. } | State::Claiming { .. } => {
                self.backup_hears(now, packet.source, heard, actions);
            }
            State::Master { .. } => self.master_hears(now, packet.source, heard, actions),
            State::Leaving { .. } => self.leaver_hears(now, packet.source, heard, actions),
        }
        self.heard_since_up = true;
        Ok(())
    }

    /// Whether the advert comes from a peer we can talk to (RFC 9568 7.1).
    fn admit(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), Discard> {
        let multicast = packet.destination.is_multicast();
        if Some(packet.source) == self.source {
            return Err(Discard::OwnAdvert);
        }
        if let Some(accepted) = &self.config.accept_from
            && !accepted.contains(&packet.source)
        {
            return Err(Discard::NotAccepted);
        }
        if multicast && packet.ttl != 255 {
            return Err(Discard::Ttl(packet.ttl));
        }
        let mismatch = match (&self.config.unicast_peers, multicast) {
            (Some(_), true) => Some(Mismatch::Multicast),
            (None, false) => Some(Mismatch::Unicast),
            (Some(peers), false) => {
                if !peers.contains(&packet.source) {
                    return Err(Discard::NotAPeer);
                }
                if packet.ttl < self.config.unicast_min_ttl {
                    return Err(Discard::Ttl(packet.ttl));
                }
                None
            }
            (None, true) => None,
        };
        if let Some(mismatch) = mismatch.or_else(|| self.message_mismatch(heard)) {
            self.remember_incompatible(now, packet.source, mismatch, actions);
            return Err(Discard::Incompatible(mismatch));
        }
        Ok(())
    }

    /// Settings that must agree for a message to count.
    fn message_mismatch(&self, heard: &Heard<'_>) -> Option<Mismatch> {
        if heard.version != self.config.version {
            return Some(Mismatch::Version(heard.version));
        }
        match heard.version {
            Version::V3 => None,
            Version::V2 => {
                let ours = match self.config.authentication {
                    None => Authentication::None,
                    Some(text) => Authentication::SimpleText(text),
                };
                if heard.authentication != ours {
                    Some(Mismatch::Authentication)
                } else if heard.interval != self.config.advert_interval {
                    Some(Mismatch::Interval(heard.interval))
                } else {
                    None
                }
            }
        }
    }

    fn remember_incompatible(
        &mut self,
        now: Instant,
        source: IpAddr,
        mismatch: Mismatch,
        actions: &mut Vec<Action>,
    ) {
        match self.incompatible.iter_mut().find(|known| known.source == source) {
            Some(known) => {
                known.mismatch = mismatch;
                known.at = now;
            }
            None => {
                if self.incompatible.len() == INCOMPATIBLE_REMEMBERED {
                    self.incompatible.remove(0);
                }
                self.incompatible.push(Incompatible { source, mismatch, at: now });
            }
        }
        self.warn(now, Warning::Incompatible { source, mismatch }, actions);
    }

    /// What is odd about an advert that counts all the same.
    fn remark(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        let same = heard.address_count() == self.config.addresses.len()
            && heard.addresses().all(|ip| self.config.addresses.iter().any(|ours| ours.ip == ip));
        if !same {
            self.warn(now, Warning::DifferentAddresses { source }, actions);
        }
        if heard.interval != self.config.advert_interval && heard.priority != Priority::LEAVING {
            let warning = Warning::DifferentInterval { source, interval: heard.interval };
            self.warn(now, warning, actions);
        }
        if heard.priority == Priority::OWNER && self.is_owner() {
            self.warn(now, Warning::TwoOwners { source }, actions);
        }
    }

    /// RFC 9568 6.4.2.
    fn backup_hears(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        let takeover_at = if heard.priority == Priority::LEAVING {
            self.respected_at = None;
            now + self.skew()
        } else if heard.priority >= self.effective_priority() || !self.preempts(now) {
            if heard.priority >= self.effective_priority() {
                // Fit to depose it is who has been better than it all the time.
                self.fit_since = now;
            }
            self.master_interval = heard.interval;
            self.respected_at = Some(now);
            now + self.master_down()
        } else {
            return;
        };
        let at = takeover_at.max(self.hold_until);
        match &mut self.state {
            State::Backup { takeover_at: Some(timer) } => *timer = at,
            State::Claiming { .. } if self.respected_at.is_some() => {
                let why = Why::MasterHeard { master: source, priority: heard.priority };
                self.enter_backup(now, why, actions);
            }
            State::Backup { takeover_at: None }
            | State::Claiming { .. }
            | State::Fault
            | State::Master { .. }
            | State::Leaving { .. } => {}
        }
    }

    /// Whether a master of lower priority is to be deposed.
    fn preempts(&self, now: Instant) -> bool {
        self.is_owner()
            || (self.config.preempt
                && !self.held_back
                && now >= self.fit_since + self.config.preempt_delay)
    }

    /// RFC 9568 6.4.3.
    fn master_hears(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        if heard.priority == Priority::LEAVING {
            self.advertise_soon(now, actions);
            // Whoever left may have answered for the addresses until now.
            self.announce_soon(now, now);
            return;
        }
        let theirs = (heard.priority, source);
        let wins = self.source.is_some_and(|ours| theirs < (self.effective_priority(), ours));
        if !wins && self.contests(now, heard.priority) {
            // Silent beyond the schedule: two who answer each other would never end.
            return;
        }
        if wins {
            self.advertise_soon(now, actions);
            self.announce_soon(now, now);
            if now - self.since >= self.config.advert_interval.duration() {
                // Sooner it is the last word of a master that gives way to us.
                self.warn(now, Warning::LowerMaster { source, priority: heard.priority }, actions);
            }
            if let State::Master { deaf_until, .. } = &mut self.state {
                // Somebody was heard, so nobody stronger is out of earshot.
                *deaf_until = None;
            }
            return;
        }
        let leave = Leave::Election { to: source, priority: heard.priority };
        // A last advert, without the addresses a farewell: a winner that did not know of us, as after
        // a healed cut, must tell the network again who has them.
        // One that left a moment ago has told it already.
        let last_word = self.effective_priority();
        let speaks = match &self.state {
            State::Master { extra_sent_at: Some(sent), .. } => now >= *sent + EXTRA_ADVERT_GAP,
            State::Master { extra_sent_at: None, .. } => true,
            State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Leaving { .. } => false,
        };
        self.master_interval = heard.interval;
        self.respected_at = Some(now);
        match self.config.handover {
            Handover::Overlap => {
                if speaks {
                    self.send(now, last_word, actions);
                }
                let phase = Phase::Succeeded { release_at: now + LINGER, to: source };
                self.enter_leaving(now, leave, phase, actions);
            }
            Handover::Exclusive => {
                let why = Why::LostElection { to: source, priority: heard.priority };
                self.enter_backup(now, why, actions);
                if speaks {
                    self.send(now, Priority::LEAVING, actions);
                }
            }
        }
    }

    /// Two hosts' groups of equal priority may each win on another link: who is better on the link of
    /// the first member is to win, and has some time to do so.
    fn contests(&mut self, now: Instant, priority: Priority) -> bool {
        let interval = self.config.advert_interval.duration();
        let equal = priority == self.effective_priority();
        match &mut self.state {
            State::Master { contested_since, .. }
                if equal && self.membership == Membership::Other =>
            {
                let forgotten = CONTEST_FORGOTTEN * interval;
                let since = contested_since.filter(|since| now - *since < forgotten);
                let since = *contested_since.insert(since.unwrap_or(now));
                now - since < CONTEST_INTERVALS * interval
            }
            State::Master { .. }
            | State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Leaving { .. } => false,
        }
    }

    /// Once priority 0 was said, any advert that is not ours and not 0 comes from the successor;
    /// before, a better one.
    fn leaver_hears(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        let theirs = (heard.priority, source);
        let stays = self.source.is_some_and(|ours| theirs < (self.effective_priority(), ours));
        if let State::Leaving { phase: Phase::Preparing { advert_at, .. }, sent_at, .. } =
            &mut self.state
            && stays
        {
            // Still master, who answers (RFC 9568 6.4.3).
            *advert_at = (*advert_at).min(now.max(*sent_at + EXTRA_ADVERT_GAP));
            return;
        }
        if heard.priority == Priority::LEAVING {
            return;
        }
        self.master_interval = heard.interval;
        self.respected_at = Some(now);
        if let State::Leaving { phase, .. } = &mut self.state {
            match phase {
                Phase::Succeeded { .. } => {}
                Phase::Preparing { .. } if self.config.handover == Handover::Exclusive => {
                    let why = Why::LostElection { to: source, priority: heard.priority };
                    self.enter_backup(now, why, actions);
                }
                Phase::Preparing { .. } => {
                    *phase = Phase::Succeeded { release_at: now + LINGER, to: source };
                }
                Phase::Offered { .. } => {
                    *phase = Phase::Succeeded { release_at: now + LINGER, to: source };
                }
            }
        }
    }

    /// A deadline may have passed.
    pub(super) fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        let expired = |until: &Option<Instant>| until.is_some_and(|until| until <= now);
        if self.faults.values().any(expired) {
            self.faults.retain(|_, until| !expired(until));
            self.settle(now, actions);
        }
        match &self.state {
            State::Fault => {}
            State::Backup { .. } => {
                if self.membership == Membership::Alone && self.is_due(now) {
                    self.take_over(now, self.may_be_deaf(), true, None, actions);
                }
            }
            State::Claiming { until, .. } => {
                if *until <= now {
                    self.veto(now, actions);
                }
            }
            State::Master { .. } => self.master_timeout(now, actions),
            State::Leaving { .. } => self.leaver_timeout(now, actions),
        }
    }

    /// Whether its time to take over has come.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Backup { takeover_at: Some(at) } if at <= now)
    }

    /// Takes over, unless a hook is to be asked first. `by_group`: not because of its own timer.
    pub(super) fn take_over(
        &mut self,
        now: Instant,
        newcomer: bool,
        asks: bool,
        by_group: Option<Why>,
        actions: &mut Vec<Action>,
    ) {
        let why = by_group.unwrap_or_else(|| self.takeover_reason(now));
        self.held_back = false;
        match self.config.before_claim {
            Some(limit) if asks && !self.is_owner() => {
                let state = State::Claiming { until: now + limit, why: why.clone(), newcomer };
                self.enter(now, state, why, true, actions);
            }
            Some(_) | None => self.become_master_as(now, why, newcomer, true, actions),
        }
    }

    /// The `before_claim` hook did not agree.
    fn veto(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let span = self.config.fault_for.get(&Hook::BeforeClaim).copied().unwrap_or(VETO_RETRY);
        self.faults.insert(Reason::Vetoed, Some(now + span));
        self.settle(now, actions);
    }

    fn takeover_reason(&self, now: Instant) -> Why {
        match &self.peer {
            None => Why::HeardNobody,
            Some(peer) if peer.priority == Priority::LEAVING => Why::MasterLeft(peer.source),
            Some(peer) if now - peer.at < 3 * peer.interval.duration() => {
                Why::Preempts { master: peer.source, priority: peer.priority }
            }
            Some(peer) => Why::MasterSilent { master: peer.source, since: peer.at, now },
        }
    }

    fn master_timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let interval = self.config.advert_interval.duration();
        let State::Master { advert_at, extra_at, announcements, deaf_until, .. } = &mut self.state
        else {
            return;
        };
        let hears_nobody = deaf_until.is_some_and(|until| until <= now);
        if hears_nobody {
            *deaf_until = None;
        }
        let due = Some(*advert_at).filter(|at| *at <= now);
        while *advert_at <= now {
            // An absolute schedule: what was late once does not shift what follows.
            *advert_at += interval;
        }
        let extra = extra_at.is_some_and(|at| at <= now);
        if extra || due.is_some() {
            *extra_at = None;
        }
        let announce = announcements.take_due(now);
        if extra {
            self.note_extra(now);
        }
        if due.is_some() || hears_nobody {
            self.advertise_due(now, due, self.effective_priority(), actions);
        } else if extra {
            self.send(now, self.effective_priority(), actions);
        }
        if announce {
            self.announce(actions);
        }
    }

    fn leaver_timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let interval = self.config.advert_interval.duration();
        let State::Leaving { leave, phase, .. } = &mut self.state else { return };
        let leave = *leave;
        match phase {
            Phase::Preparing { until, advert_at } => {
                if *until <= now {
                    self.offer(now, leave, actions);
                } else if *advert_at <= now {
                    let due = Some(*advert_at);
                    while *advert_at <= now {
                        *advert_at += interval;
                    }
                    self.advertise_due(now, due, self.effective_priority(), actions);
                }
            }
            Phase::Offered { successor_by, repeat_at } => {
                if *successor_by <= now {
                    // A group decides for all its members.
                    if self.membership == Membership::Alone || self.retiring.is_some() {
                        self.nobody_came(now, leave, actions);
                    }
                } else if *repeat_at <= now {
                    // No schedule to catch up with: after a late one the next is no sooner.
                    *repeat_at = now + interval;
                    self.advertise(now, Priority::LEAVING, actions);
                }
            }
            Phase::Succeeded { release_at, to } => {
                if *release_at <= now {
                    let why = match leave {
                        Leave::Election { to, priority } => Why::LostElection { to, priority },
                        Leave::Stop
                        | Leave::Failover
                        | Leave::Drain
                        | Leave::Removed
                        | Leave::Group => Why::HandedOver { to: *to, leave },
                    };
                    self.enter_backup(now, why, actions);
                }
            }
        }
    }

    fn nobody_came(&mut self, now: Instant, leave: Leave, actions: &mut Vec<Action>) {
        match leave {
            Leave::Failover | Leave::Drain | Leave::Election { .. } | Leave::Group => {
                self.held_back = false;
                self.become_master(now, Why::NobodyCame, true, actions);
                self.settle(now, actions);
            }
            Leave::Stop | Leave::Removed => {
                self.enter_backup(now, Why::Left(leave), actions);
            }
        }
    }

    /// One of our addresses has gone from the interface, and we did not ask for it.
    pub(super) fn address_lost(&mut self, now: Instant, ip: IpAddr, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        if !self.has_addresses() {
            return;
        }
        let Some(&lost) = self.all.iter().find(|address| address.ip == ip) else { return };
        if self.is_owner() || self.is_succeeded() {
            return;
        }
        if now - self.removals_since >= REMOVALS_WINDOW {
            self.removals = 0;
            self.removals_since = now;
        }
        self.removals += 1;
        if self.removals > REMOVALS_BORNE {
            self.faults.insert(Reason::AddressRemoved, Some(now + REMOVED_RETRY));
            self.settle(now, actions);
            return;
        }
        let addresses: Arc<[Address]> = Arc::from([lost]);
        self.claim(addresses.clone(), actions);
        actions.push(Action::Announce { router: self.id, addresses });
        self.warn(now, Warning::AddressPutBack { address: ip }, actions);
    }

    /// The kernel would not add an address.
    pub(super) fn claim_failed(&mut self, now: Instant, there: bool, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        if !self.has_addresses() {
            return;
        }
        if there {
            // Normally the next picture of the interface decides; it may have come already.
            let retry_at = Some(now + CLAIM_RETRY);
            self.faults.entry(Reason::AddressAlreadyThere).or_insert(retry_at);
        } else {
            self.faults.insert(Reason::ClaimFailed, Some(now + CLAIM_RETRY));
        }
        self.settle(now, actions);
    }

    /// Somebody else announced one of our addresses.
    pub(super) fn contention(
        &mut self,
        now: Instant,
        ip: IpAddr,
        mac: Mac,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        match &mut self.state {
            State::Fault | State::Backup { .. } | State::Claiming { .. } => {}
            State::Master { .. } => {
                self.announce_soon(now, now + ANSWER_CONTENTION_AFTER);
                self.warn(now, Warning::Contention { address: ip, mac }, actions);
            }
            State::Leaving { phase, .. } => match phase {
                Phase::Preparing { .. } | Phase::Offered { .. } => {}
                Phase::Succeeded { release_at, .. } => {
                    *release_at = (*release_at).min(now + LINGER_ANNOUNCED);
                }
            },
        }
    }

    /// Delivery found that an advert or a renewal is overdue.
    pub(super) fn overdue(&mut self, now: Instant, why: Why, actions: &mut Vec<Action>) {
        if self.has_addresses() {
            self.late(now, why, actions);
        }
    }

    /// A hook ended.
    pub(super) fn hook_finished(
        &mut self,
        now: Instant,
        outcome: HookOutcome,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        self.hook = Some(outcome);
        match (&self.state, outcome.hook) {
            (State::Leaving { leave, phase: Phase::Preparing { .. }, .. }, Hook::BeforeRelease) => {
                self.offer(now, *leave, actions);
            }
            (State::Claiming { why, newcomer, .. }, Hook::BeforeClaim) => {
                if outcome.succeeded {
                    let (why, newcomer) = (why.clone(), *newcomer);
                    self.become_master_as(now, why, newcomer, true, actions);
                } else {
                    self.veto(now, actions);
                }
            }
            (
                State::Fault
                | State::Backup { .. }
                | State::Claiming { .. }
                | State::Master { .. }
                | State::Leaving { .. },
                _,
            ) => {}
        }
        let means_fault = !outcome.succeeded
            && outcome.hook != Hook::BeforeClaim
            && self.retiring.is_none()
            && !self.faults.contains_key(&Reason::Starting);
        if let Some(span) = self.config.fault_for.get(&outcome.hook)
            && means_fault
        {
            self.faults.insert(Reason::HookFailed(outcome.hook), Some(now + *span));
            self.settle(now, actions);
        }
    }

    /// The operator moves this virtual router to another host.
    pub(super) fn failover(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        self.held_back = true;
        if let Some(peer) = &self.peer
            && peer.priority != Priority::LEAVING
        {
            let silent_at = peer.at + self.master_down();
            let why = Why::MasterHeard { master: peer.source, priority: peer.priority };
            match &mut self.state {
                State::Backup { takeover_at: Some(timer) } => *timer = silent_at.max(*timer),
                State::Claiming { .. } if now < silent_at => self.enter_backup(now, why, actions),
                State::Backup { takeover_at: None }
                | State::Claiming { .. }
                | State::Fault
                | State::Master { .. }
                | State::Leaving { .. } => {}
            }
        }
        self.leave(now, Leave::Failover, actions);
    }

    /// The operator drains the host, perhaps once more after nobody came.
    pub(super) fn drain(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if matches!(self.state, State::Master { .. }) {
            self.leave(now, Leave::Drain, actions);
        }
    }

    /// The operator lets this host take part fully again.
    pub(super) fn resume(&mut self) {
        self.held_back = false;
    }

    /// The operator asks for an announcement.
    pub(super) fn announce_now(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        match self.state {
            State::Master { .. } => self.announce(actions),
            State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Leaving { .. } => {}
        }
    }

    /// It leaves for good: the daemon stops, or it is no longer configured. `hurry`: another
    /// virtual router of this host needs the addresses.
    pub(super) fn retire(
        &mut self,
        now: Instant,
        leave: Leave,
        hurry: bool,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        let already = self.retiring.is_some();
        self.retiring = Some(leave);
        if self.recorded.take().is_some_and(|r| r.addresses_present) && !self.is_owner() {
            // It never got as far as looking at what an earlier daemon left.
            actions.push(Action::Release { router: self.id, addresses: self.all.clone() });
        }
        if !self.has_addresses() {
            if !already {
                self.enter_backup(now, Why::Left(leave), actions);
            }
        } else if hurry {
            self.abandon(now, Why::Left(leave), actions);
        } else {
            self.leave(now, leave, actions);
        }
    }

    /// A new configuration for the same virtual router: only what changed is touched. First half:
    /// what it no longer has.
    pub(super) fn reload_release(
        &mut self,
        now: Instant,
        config: &RouterConfig,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        if !self.has_addresses() || self.is_owner() {
            return;
        }
        // An owner has the addresses from the host, not from us.
        let owner = config.priority == Priority::OWNER;
        let stays =
            |address: &Address| !owner && config.all_addresses().any(|kept| kept == *address);
        let dropped: Arc<[Address]> = self.all.iter().filter(|a| !stays(a)).copied().collect();
        if !dropped.is_empty() {
            actions.push(Action::Release { router: self.id, addresses: dropped });
        }
    }

    /// Second half: what it has now. Whether anything changed that the host must be asked about.
    pub(super) fn reload(
        &mut self,
        now: Instant,
        config: &RouterConfig,
        around: Surroundings<'_>,
        actions: &mut Vec<Action>,
    ) {
        let wanted_again = self.retiring.take().is_some();
        self.mute = false;
        if *self.config == *config {
            if wanted_again {
                self.take_back(now, actions);
            }
            return;
        }
        // By the interval that was in force until now.
        self.check_late(now, actions);
        let old = std::mem::replace(&mut self.config, Arc::new(config.clone()));
        let had = std::mem::replace(&mut self.all, config.all_addresses().collect());
        self.to = destinations(config);
        if old.version != config.version || old.advert_interval != config.advert_interval {
            self.master_interval = match (&self.peer, &self.state) {
                (Some(peer), State::Backup { .. }) if config.version == Version::V3 => {
                    peer.interval
                }
                _ => config.advert_interval,
            };
        }
        let timing = (old.priority, old.version, old.advert_interval)
            != (config.priority, config.version, config.advert_interval);
        if timing && let State::Backup { takeover_at: Some(_) } = self.state {
            // A peer heard before the last change of role says nothing about now.
            let heard_at = self.peer.as_ref().map_or(self.since, |peer| peer.at.max(self.since));
            let at = (heard_at + self.master_down()).max(self.hold_until).max(now);
            self.state = State::Backup { takeover_at: Some(at) };
        }
        if self.has_addresses() && !self.is_owner() {
            let new: Arc<[Address]> = if old.address_lifetime == config.address_lifetime
                && old.priority != Priority::OWNER
            {
                self.all.iter().filter(|address| !had.contains(address)).copied().collect()
            } else {
                self.all.clone()
            };
            if !new.is_empty() {
                self.claim(new.clone(), actions);
                actions.push(Action::Announce { router: self.id, addresses: new });
            }
        }
        if wanted_again {
            self.take_back(now, actions);
        }
        let spoken = (&old.addresses, old.priority, old.version, old.advert_interval)
            != (&config.addresses, config.priority, config.version, config.advert_interval);
        if !self.faults.contains_key(&Reason::Starting) {
            // Not late by the new interval: the peers still wait by the old one.
            self.look_around(now, around, actions);
        }
        if spoken && !wanted_again {
            self.speak_anew(now, actions);
        }
    }

    /// What peers go by has changed: they hear of it at once, and the schedule begins anew.
    fn speak_anew(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let next = now + self.config.advert_interval.duration();
        match &mut self.state {
            State::Fault | State::Backup { .. } | State::Claiming { .. } => {}
            State::Master { advert_at, .. } => {
                *advert_at = next;
                self.advertise(now, self.effective_priority(), actions);
            }
            State::Leaving { phase, sent_at, .. } => match phase {
                Phase::Preparing { advert_at, .. } => {
                    *advert_at = next;
                    self.advertise(now, self.effective_priority(), actions);
                }
                Phase::Offered { repeat_at, .. } => {
                    // Farewells go on at the new pace; lateness is counted by it too.
                    *repeat_at = next;
                    *sent_at = now;
                }
                Phase::Succeeded { .. } => *sent_at = now,
            },
        }
    }

    /// It was removed a moment ago, and is wanted again.
    fn take_back(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Leaving { .. } => {
                self.become_master(now, Why::NobodyCame, true, actions);
            }
            // It came to its end in this very step.
            State::Backup { .. } => {
                self.enter_backup(now, Why::Started, actions);
                self.settle(now, actions);
            }
            State::Fault | State::Claiming { .. } | State::Master { .. } => {}
        }
    }

    // ---- checks ----------------------------------------------------------------------------

    pub(super) fn bearing(&self) -> &Bearing {
        &self.bearing
    }

    /// What its checks amount to, perhaps something else than before: in force from now on.
    pub(super) fn judge(&mut self, now: Instant, bearing: Bearing, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        let (priority, skew) = (self.effective_priority(), self.skew());
        self.bearing = bearing;
        let failing = &self.bearing.failing;
        self.faults.retain(|reason, _| match reason {
            Reason::Check(name) => failing.contains(name),
            Reason::Starting
            | Reason::Unchecked
            | Reason::LinkDown
            | Reason::NoAddress
            | Reason::Group(_)
            | Reason::AddressAlreadyThere
            | Reason::ClaimFailed
            | Reason::AddressRemoved
            | Reason::Vetoed
            | Reason::HookFailed(_) => true,
        });
        for name in failing {
            self.faults.insert(Reason::Check(name.clone()), None);
        }
        if self.bearing.unknown.is_none() {
            self.faults.remove(&Reason::Unchecked);
        }
        if self.faults.is_empty() && self.effective_priority() != priority {
            self.reweighed(now, priority, skew, actions);
        }
        if !self.faults.contains_key(&Reason::Starting) {
            self.settle(now, actions);
        }
    }

    /// The priority in force has changed: peers hear of it at once, and the own timer follows.
    fn reweighed(
        &mut self,
        now: Instant,
        before: Priority,
        skew: Duration,
        actions: &mut Vec<Action>,
    ) {
        if self.effective_priority() > before
            && self.peer.as_ref().is_some_and(|peer| peer.priority >= before)
        {
            self.fit_since = now;
        }
        let skew_now = self.skew();
        let hold_until = self.hold_until;
        match &mut self.state {
            State::Fault | State::Claiming { .. } | State::Backup { takeover_at: None } => {}
            State::Backup { takeover_at: Some(timer) } => {
                // One that is held shows nothing of when it would have run out.
                if *timer > hold_until {
                    *timer = ((*timer + skew_now).before(skew)).max(hold_until);
                }
            }
            State::Master { .. } => self.advertise_soon(now, actions),
            State::Leaving { phase: Phase::Preparing { advert_at, .. }, sent_at, .. } => {
                *advert_at = (*advert_at).min(now.max(*sent_at + EXTRA_ADVERT_GAP));
            }
            State::Leaving { phase: Phase::Offered { .. } | Phase::Succeeded { .. }, .. } => {}
        }
    }

    // ---- what its sync group asks and does -------------------------------------------------

    pub(super) fn membership(&self) -> Membership {
        self.membership
    }

    pub(super) fn set_membership(&mut self, membership: Membership) {
        self.membership = membership;
    }

    /// Taken out of a group that goes on; from now on no hooks run for it.
    pub(super) fn mute(&mut self) {
        self.mute = true;
    }

    pub(super) fn is_starting(&self) -> bool {
        self.faults.contains_key(&Reason::Starting)
    }

    /// Whether it leaves for good.
    pub(super) fn is_retiring(&self) -> bool {
        self.retiring.is_some()
    }

    /// Whether it is in trouble that is not only that of its group.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.faults.keys().any(Reason::is_own_trouble)
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        Standing {
            role: self.role(),
            seat: self.seat(),
            trouble: self.is_in_trouble(),
            respects: self.respects(now),
        }
    }

    pub(super) fn seat(&self) -> Seat {
        match &self.state {
            State::Fault => Seat::Out,
            State::Backup { .. } => Seat::Backup,
            State::Claiming { .. } => Seat::Claiming,
            State::Master { .. } => Seat::Master,
            State::Leaving { phase, .. } => match phase {
                Phase::Preparing { .. } => Seat::Preparing,
                Phase::Offered { .. } => Seat::Offered,
                Phase::Succeeded { .. } => Seat::Succeeded,
            },
        }
    }

    /// Whether it hears a master that it would not depose.
    pub(super) fn respects(&self, now: Instant) -> bool {
        match self.seat() {
            Seat::Backup => self.respects_until().is_some_and(|until| now < until),
            Seat::Succeeded => true,
            Seat::Out | Seat::Claiming | Seat::Master | Seat::Preparing | Seat::Offered => false,
        }
    }

    fn respects_until(&self) -> Option<Instant> {
        Some(self.respected_at? + self.master_down())
    }

    /// Until when it keeps its group from taking over; `None`: it does not.
    pub(super) fn objects_until(&self, now: Instant) -> Option<Instant> {
        let until = match &self.state {
            State::Master { .. } => return None,
            State::Backup { takeover_at: Some(_) } => {
                self.respects_until().unwrap_or(now).max(self.hold_until)
            }
            State::Leaving { phase: Phase::Offered { successor_by, .. }, .. } => *successor_by,
            State::Leaving { phase: Phase::Succeeded { release_at, .. }, .. } => *release_at,
            State::Leaving { phase: Phase::Preparing { until, .. }, .. }
            | State::Claiming { until, .. } => *until,
            State::Fault | State::Backup { takeover_at: None } => {
                now + self.config.advert_interval.duration()
            }
        };
        match self.state {
            State::Backup { takeover_at: Some(_) } if until <= now => None,
            // Never now: who is asked again at once makes no headway.
            _ => Some(until.max(now + EXTRA_ADVERT_GAP)),
        }
    }

    /// A deadline has passed on which its group decides.
    pub(super) fn waits_for_group(&self, now: Instant) -> bool {
        self.is_due(now) || self.offers_until().is_some_and(|until| until <= now)
    }

    /// It may take over no earlier than this, as far as its group is concerned.
    pub(super) fn postpone(&mut self, until: Instant) {
        if let State::Backup { takeover_at: Some(timer) } = &mut self.state {
            *timer = until;
        }
    }

    /// When its offer to any successor ends.
    pub(super) fn offers_until(&self) -> Option<Instant> {
        match self.state {
            State::Leaving { phase: Phase::Offered { successor_by, .. }, .. } => Some(successor_by),
            State::Leaving { .. }
            | State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Master { .. } => None,
        }
    }

    /// Its group still waits for successors of others.
    pub(super) fn offer_until(&mut self, now: Instant, until: Instant, actions: &mut Vec<Action>) {
        if let State::Leaving { phase: Phase::Offered { successor_by, .. }, .. } = &mut self.state {
            *successor_by = until;
            self.leaver_timeout(now, actions);
        }
    }

    /// Whether it cannot become master again although nobody has it: it was taken, or has to wait.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        match self.seat() {
            Seat::Backup => self.respects(now) || now < self.hold_until,
            Seat::Out | Seat::Succeeded => true,
            Seat::Claiming | Seat::Master | Seat::Preparing | Seat::Offered => false,
        }
    }

    /// Its group leaves it to who has the others.
    pub(super) fn let_go(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::Leaving { leave, .. } = self.state {
            self.enter_backup(now, Why::Left(leave), actions);
        }
    }

    /// Nobody wanted its group.
    pub(super) fn come_back(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Backup { .. } | State::Leaving { .. } => {
                self.held_back = false;
                self.become_master(now, Why::NobodyCame, true, actions);
                self.settle(now, actions);
            }
            State::Fault | State::Claiming { .. } | State::Master { .. } => {}
        }
    }

    /// Another member is in trouble, or none is any longer.
    pub(super) fn share_trouble(&mut self, culprit: Option<&Arc<str>>) -> bool {
        let known = self.faults.keys().find_map(|reason| match reason {
            Reason::Group(name) => Some(name),
            _ => None,
        });
        if known == culprit {
            return false;
        }
        self.faults.retain(|reason, _| !matches!(reason, Reason::Group(_)));
        if let Some(name) = culprit {
            self.faults.insert(Reason::Group(name.clone()), None);
        }
        true
    }

    /// What the set of faults amounts to now.
    pub(super) fn settle_again(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        self.settle(now, actions);
    }

    /// Another member leaves, or is not to take over.
    pub(super) fn give_way(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        match self.state {
            State::Master { .. } => {
                self.offer(now, self.retiring.unwrap_or(Leave::Group), actions);
            }
            State::Leaving { leave, phase: Phase::Preparing { .. }, .. } => {
                self.offer(now, leave, actions);
            }
            State::Claiming { .. } => {
                self.enter_backup(now, Why::Left(Leave::Group), actions);
            }
            State::Fault
            | State::Backup { .. }
            | State::Leaving { phase: Phase::Offered { .. } | Phase::Succeeded { .. }, .. } => {}
        }
    }

    // ---- changing roles --------------------------------------------------------------------

    /// Brings the role in line with the set of faults and with drained.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.faults.is_empty() {
            // An emptied map keeps its memory; one that was cleared does not.
            self.faults.clear();
        } else {
            let why = Why::Fault(self.fault_reasons().collect());
            match self.state {
                State::Fault => {
                    // What it waited for is there, and something else keeps it from taking part.
                    if self.role() != self.told {
                        self.enter(now, State::Fault, why, true, actions);
                    }
                }
                State::Backup { .. } | State::Claiming { .. } => {
                    if self.retiring.is_none() {
                        self.enter(now, State::Fault, why, true, actions);
                    }
                }
                State::Leaving { .. } if self.is_only_sick() => {
                    // It leaves already, and `before_release` may be what stops the service.
                }
                State::Master { .. } | State::Leaving { .. } => self.abandon(now, why, actions),
            }
            return;
        }
        match &mut self.state {
            State::Fault => self.take_part(now, actions),
            State::Claiming { .. } => {
                if self.drained {
                    self.enter_backup(now, Why::Left(Leave::Drain), actions);
                }
            }
            State::Backup { takeover_at } => {
                if self.retiring.is_some() || self.drained {
                    *takeover_at = None;
                } else if takeover_at.is_none() {
                    let at = (now + self.master_down()).max(self.hold_until);
                    self.state = State::Backup { takeover_at: Some(at) };
                }
            }
            State::Master { .. } => {
                if self.drained && self.why != Why::NobodyCame {
                    self.leave(now, Leave::Drain, actions);
                }
            }
            State::Leaving { .. } => {}
        }
    }

    /// Gives the addresses up at once, without waiting for anybody.
    fn abandon(&mut self, now: Instant, why: Why, actions: &mut Vec<Action>) {
        let said = match &self.state {
            State::Leaving { phase: Phase::Offered { .. } | Phase::Succeeded { .. }, .. } => true,
            State::Leaving { phase: Phase::Preparing { .. }, .. }
            | State::Master { .. }
            | State::Fault
            | State::Claiming { .. }
            | State::Backup { .. } => false,
        };
        let heard = !said && !self.faults.contains_key(&Reason::LinkDown);
        let exclusive = self.config.handover == Handover::Exclusive;
        if heard && !exclusive {
            self.advertise(now, Priority::LEAVING, actions);
        }
        if self.retiring.is_some() {
            self.enter_backup(now, why, actions);
        } else {
            self.enter(now, State::Fault, why, true, actions);
        }
        if heard && exclusive {
            self.advertise(now, Priority::LEAVING, actions);
        }
    }

    /// Leaves on purpose, if there is anything to leave.
    fn leave(&mut self, now: Instant, leave: Leave, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Fault | State::Backup { .. } | State::Claiming { .. } => {}
            State::Leaving { leave: running, .. } => {
                // Who leaves for good does not come back because of another wish.
                *running = self.retiring.unwrap_or(leave);
            }
            State::Master { advert_at, .. } => match self.config.before_release {
                Some(limit) => {
                    let phase = Phase::Preparing { until: now + limit, advert_at: *advert_at };
                    self.enter_leaving(now, leave, phase, actions);
                }
                None => self.offer(now, leave, actions),
            },
        }
    }

    /// Says priority 0, and in which order the addresses go with it.
    fn offer(&mut self, now: Instant, leave: Leave, actions: &mut Vec<Action>) {
        match self.config.handover {
            Handover::Overlap => {
                let interval = self.config.advert_interval.duration();
                let wait = (SUCCESSOR_INTERVALS * interval).min(SUCCESSOR_WAIT);
                let phase = Phase::Offered { successor_by: now + wait, repeat_at: now + interval };
                self.enter_leaving(now, leave, phase, actions);
                self.advertise(now, Priority::LEAVING, actions);
            }
            Handover::Exclusive => {
                self.enter_backup(now, Why::Left(leave), actions);
                self.advertise(now, Priority::LEAVING, actions);
            }
        }
    }

    fn become_master(&mut self, now: Instant, why: Why, hooks: bool, actions: &mut Vec<Action>) {
        let newcomer = match &why {
            Why::Resumed | Why::NobodyCame => false,
            _ => self.may_be_deaf(),
        };
        self.become_master_as(now, why, newcomer, hooks, actions);
    }

    /// A newcomer that does not preempt and heard nobody may be out of earshot.
    pub(super) fn may_be_deaf(&self) -> bool {
        !self.config.preempt && !self.heard_since_up && !self.is_owner()
    }

    fn become_master_as(
        &mut self,
        now: Instant,
        why: Why,
        newcomer: bool,
        hooks: bool,
        actions: &mut Vec<Action>,
    ) {
        let deaf_until = newcomer.then(|| now + DEAF);
        self.master_interval = self.config.advert_interval;
        let renewed_at = match self.state {
            State::Master { renewed_at, .. } | State::Leaving { renewed_at, .. } => renewed_at,
            State::Fault | State::Backup { .. } | State::Claiming { .. } => now,
        };
        let state = State::Master {
            advert_at: now + self.config.advert_interval.duration(),
            extra_at: None,
            extra_sent_at: None,
            sent_at: now,
            renewed_at,
            announcements: Announcements::begin(now),
            deaf_until,
            contested_since: None,
        };
        self.enter(now, state, why, hooks, actions);
    }

    fn enter_leaving(
        &mut self,
        now: Instant,
        leave: Leave,
        phase: Phase,
        actions: &mut Vec<Action>,
    ) {
        let (State::Master { sent_at, renewed_at, .. }
        | State::Leaving { sent_at, renewed_at, .. }) = self.state
        else {
            return;
        };
        let state = State::Leaving { leave, phase, sent_at, renewed_at };
        self.enter(now, state, Why::Leaving(leave), true, actions);
    }

    fn enter_backup(&mut self, now: Instant, why: Why, actions: &mut Vec<Action>) {
        let eligible = !self.drained && self.retiring.is_none();
        let takeover_at = eligible.then(|| (now + self.master_down()).max(self.hold_until));
        self.enter(now, State::Backup { takeover_at }, why, true, actions);
        if !self.faults.is_empty() && self.retiring.is_none() {
            // What a planned leave did not have to wait for.
            self.settle(now, actions);
        }
    }

    /// Whether only checks, its own or those of its group, keep it from taking part.
    fn is_only_sick(&self) -> bool {
        self.faults.keys().all(|reason| match reason {
            Reason::Check(_) | Reason::Group(_) => true,
            Reason::Starting
            | Reason::Unchecked
            | Reason::LinkDown
            | Reason::NoAddress
            | Reason::AddressAlreadyThere
            | Reason::ClaimFailed
            | Reason::AddressRemoved
            | Reason::Vetoed
            | Reason::HookFailed(_) => false,
        })
    }

    /// The one place where roles change: leaving the addresses behind releases them, reaching them
    /// claims them, any change is told.
    fn enter(
        &mut self,
        now: Instant,
        state: State,
        why: Why,
        hooks: bool,
        actions: &mut Vec<Action>,
    ) {
        let had = self.has_addresses();
        self.state = state;
        self.since = now;
        self.why = why;
        match self.state {
            State::Fault | State::Master { .. } => self.respected_at = None,
            State::Backup { .. } | State::Claiming { .. } | State::Leaving { .. } => {}
        }
        let owner = self.is_owner();
        match (had, self.has_addresses()) {
            (true, false) => {
                if !owner {
                    let addresses = self.all.clone();
                    actions.push(Action::Release { router: self.id, addresses });
                }
            }
            (false, true) => {
                if !owner {
                    self.claim(self.all.clone(), actions);
                }
                self.advertise(now, self.effective_priority(), actions);
                self.announce(actions);
            }
            (true, true) | (false, false) => {}
        }
        if had && matches!(self.state, State::Master { .. }) {
            // Taken back: everybody must hear it.
            self.advertise(now, self.effective_priority(), actions);
            self.announce(actions);
        }
        self.notify(hooks, actions);
    }

    fn notify(&mut self, hooks: bool, actions: &mut Vec<Action>) {
        let to = self.role();
        let from = std::mem::replace(&mut self.told, to);
        actions.push(Action::Notify(Transition {
            router: self.id,
            from,
            to,
            why: self.why.clone(),
            priority: self.effective_priority(),
            before_release: matches!(
                self.state,
                State::Leaving { phase: Phase::Preparing { .. }, .. }
            ),
            hooks: hooks && !self.mute,
        }));
    }

    // ---- being late ------------------------------------------------------------------------

    /// A master that was stopped or starved for longer than its peers' patience is master no more,
    /// whatever it believes.
    fn check_late(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let patience = 3 * self.config.advert_interval.duration();
        if self.sent_at().is_some_and(|sent_at| now - sent_at >= patience) {
            self.late(now, Why::Late, actions);
        }
    }

    fn late(&mut self, now: Instant, why: Why, actions: &mut Vec<Action>) {
        // Listening first: with a stalled host a stream of farewells, forged or not, would make
        // it claim and release without end.
        let patience = 3 * self.config.advert_interval.duration();
        self.hold_until = self.hold_until.max(now + patience);
        self.enter_backup(now, why, actions);
    }

    // ---- small things ----------------------------------------------------------------------

    fn set_fault(&mut self, reason: Reason, present: bool) {
        if present {
            self.faults.insert(reason, None);
        } else {
            self.faults.remove(&reason);
        }
    }

    /// The configured source if the interface has it; else the interface's first address that is
    /// not itself shared, link-local for IPv6 multicast (RFC 9568 5.1.1.1, 5.1.2.1).
    fn choose_source(&self, addresses: &[LinkAddress], shared: &[IpAddr]) -> Option<IpAddr> {
        let fits =
            |there: &&LinkAddress| there.usable && Family::of(there.ip) == self.config.family;
        let mut fitting = addresses.iter().filter(fits);
        if let Some(wanted) = self.config.source_address {
            return fitting.map(|there| there.ip).find(|ip| *ip == wanted);
        }
        let link_local = self.config.unicast_peers.is_none();
        fitting
            .find(|there| {
                let kind = match there.ip {
                    IpAddr::V4(_) => true,
                    IpAddr::V6(ip) => ip.is_unicast_link_local() == link_local,
                };
                let own = !there.ours && !shared.contains(&there.ip);
                kind && (own || (self.is_owner() && !there.ours))
            })
            .map(|there| there.ip)
    }

    /// An advert, and with it the renewal of the lease.
    fn advertise(&mut self, now: Instant, priority: Priority, actions: &mut Vec<Action>) {
        self.advertise_due(now, None, priority, actions);
    }

    /// The same for an advert of the schedule, which says when it was to leave.
    fn advertise_due(
        &mut self,
        now: Instant,
        due: Option<Instant>,
        priority: Priority,
        actions: &mut Vec<Action>,
    ) {
        if self.source.is_none() {
            return;
        }
        self.send_due(now, due, priority, actions);
        let owner = self.is_owner();
        let (State::Master { renewed_at, .. } | State::Leaving { renewed_at, .. }) =
            &mut self.state
        else {
            return;
        };
        let Some(lifetime) = self.config.address_lifetime else { return };
        let seldom = self.config.advert_interval.duration() < RENEW_GAP;
        let fresh = *renewed_at == now || (seldom && now - *renewed_at < RENEW_GAP);
        if !fresh && !owner {
            *renewed_at = now;
            actions.push(Action::Renew { router: self.id, addresses: self.all.clone(), lifetime });
        }
    }

    /// An advert alone: what strangers can bring about must not burden the worker.
    fn send(&mut self, now: Instant, priority: Priority, actions: &mut Vec<Action>) {
        self.send_due(now, None, priority, actions);
    }

    fn send_due(
        &mut self,
        now: Instant,
        due: Option<Instant>,
        priority: Priority,
        actions: &mut Vec<Action>,
    ) {
        let Some(from) = self.source else { return };
        let advert = Advert {
            version: self.config.version,
            vrid: self.config.vrid,
            priority,
            interval: self.config.advert_interval,
            addresses: self.config.addresses.clone(),
            checksum: self.config.checksum,
            authentication: self.config.authentication,
        };
        let to = self.to.clone();
        actions.push(Action::Advertise { router: self.id, from, to, advert, due });
        if let State::Master { sent_at, .. } | State::Leaving { sent_at, .. } = &mut self.state {
            *sent_at = now;
        }
    }

    /// An advert beside the schedule: now, or as soon as the last such one is long enough ago.
    fn advertise_soon(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let State::Master { extra_at, extra_sent_at, .. } = &mut self.state else { return };
        match extra_sent_at {
            Some(sent) if now < *sent + EXTRA_ADVERT_GAP => {
                *extra_at = Some(*sent + EXTRA_ADVERT_GAP)
            }
            Some(_) | None => {
                self.note_extra(now);
                self.send(now, self.effective_priority(), actions);
            }
        }
    }

    fn note_extra(&mut self, now: Instant) {
        if let State::Master { extra_sent_at, extra_at, .. } = &mut self.state {
            *extra_sent_at = Some(now);
            *extra_at = None;
        }
    }

    fn claim(&self, addresses: Arc<[Address]>, actions: &mut Vec<Action>) {
        let lifetime = self.config.address_lifetime;
        actions.push(Action::Claim { router: self.id, addresses, lifetime });
    }

    fn announce(&self, actions: &mut Vec<Action>) {
        actions.push(Action::Announce { router: self.id, addresses: self.all.clone() });
    }

    fn announce_soon(&mut self, now: Instant, not_before: Instant) {
        if let State::Master { announcements, .. } = &mut self.state {
            announcements.urge(not_before.max(now));
        }
    }

    /// At most once a minute for each kind of trouble: strangers must not fill the log.
    fn warn(&mut self, now: Instant, warning: Warning, actions: &mut Vec<Action>) {
        let kind = warning.kind();
        if self.warned.get(&kind).is_some_and(|last| now - *last < WARN_GAP) {
            return;
        }
        self.warned.insert(kind, now);
        actions.push(Action::Warn { router: self.id, warning });
    }
}

/// The view of a model checker, which must see when two states are the same.
impl VirtualRouter {
    /// Moves `now` to `origin`, and forgets what decides no election: history, warnings, the
    /// lease, announcements, and how long ago something was beyond ten seconds.
    pub(super) fn see_from(&mut self, now: Instant, origin: Instant) {
        const MEMORY: Duration = Duration::from_secs(10);
        let moved = |at: Instant| {
            if at >= now { origin + (at - now) } else { origin.before((now - at).min(MEMORY)) }
        };
        let interval = self.config.advert_interval.duration();
        match &mut self.state {
            State::Fault => {}
            State::Backup { takeover_at } => *takeover_at = takeover_at.map(moved),
            State::Claiming { until, why, newcomer: _ } => {
                *until = moved(*until);
                *why = Why::Starting;
            }
            State::Master {
                advert_at,
                extra_at,
                extra_sent_at,
                sent_at,
                renewed_at,
                announcements,
                deaf_until,
                contested_since,
            } => {
                let forgotten = CONTEST_FORGOTTEN * interval;
                *contested_since =
                    contested_since.filter(|since| now - *since < forgotten).map(moved);
                *advert_at = moved(*advert_at);
                *extra_at = extra_at.map(moved);
                *extra_sent_at = extra_sent_at.filter(|at| now < *at + EXTRA_ADVERT_GAP).map(moved);
                *sent_at = moved(*sent_at);
                *renewed_at = origin;
                *announcements = Announcements::begin(origin);
                announcements.scheduled_at = origin + Duration::from_secs(1_000_000);
                *deaf_until = deaf_until.map(moved);
            }
            State::Leaving { leave: _, phase, sent_at, renewed_at } => {
                *sent_at = moved(*sent_at);
                *renewed_at = origin;
                match phase {
                    Phase::Preparing { until, advert_at } => {
                        *until = moved(*until);
                        *advert_at = moved(*advert_at);
                    }
                    Phase::Offered { successor_by, repeat_at } => {
                        *successor_by = moved(*successor_by);
                        *repeat_at = moved(*repeat_at);
                    }
                    Phase::Succeeded { release_at, to: _ } => *release_at = moved(*release_at),
                }
            }
        }
        for until in self.faults.values_mut() {
            *until = until.map(moved);
        }
        self.hold_until = moved(self.hold_until).max(origin);
        self.fit_since = match self.config.preempt_delay.is_zero() {
            true => origin,
            false => moved(self.fit_since),
        };
        self.respected_at = match self.membership {
            Membership::Alone => None,
            Membership::First | Membership::Other => {
                self.respected_at.filter(|at| now < *at + self.master_down()).map(moved)
            }
        };
        self.since = origin;
        if self.why != Why::NobodyCame {
            self.why = Why::Starting;
        }
        self.peer = None;
        self.incompatible.clear();
        self.removals = 0;
        self.removals_since = origin;
        self.warned.clear();
        self.hook = None;
    }
}

fn destinations(config: &RouterConfig) -> Arc<[IpAddr]> {
    match &config.unicast_peers {
        Some(peers) => peers.clone(),
        None => Arc::from([config.family.multicast_group()]),
    }
}
