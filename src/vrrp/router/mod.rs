//! One virtual router: the election (RFC 9568 6.4) for what its [`Holding`] holds.
//!
//! The [`Node`](crate::vrrp::Node) calls it with adverts, states of links, results of hooks and
//! checks, and expired deadlines; it appends actions to a list. Every change of role goes through
//! `VirtualRouter::enter`.

mod addresses;
mod checks;
mod commands;
mod damping;
mod hearing;
mod host_state;
mod lifecycle;
mod membership;
mod reload;
mod sending;
mod states;
mod timers;
mod transition;
mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::vrrp::backoff::Backoff;
use crate::vrrp::check::CheckSummary;
use crate::vrrp::config::{Address, Interval, Priority, RouterConfig};
use crate::vrrp::event::{Drain, Recorded};
use crate::vrrp::holding::Holding;
use crate::vrrp::hook::HookOutcome;
use crate::vrrp::id::{LinkId, RouterId};
use crate::vrrp::reason::Reason;
use crate::vrrp::refusal::Refusal;
use crate::vrrp::role::{Leave, Role};
use crate::vrrp::source;
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;
use damping::Damping;
pub use hearing::{Incompatible, Peer};
pub(super) use host_state::HostState;
use host_state::MissingSource;
pub(super) use lifecycle::RESUMES_PER_MINUTE;
pub(super) use membership::{MemberView, Membership, Position};
pub use states::{Phase, State};

/// Minimum time between two extra adverts, those that are not scheduled: it bounds what a flood of
/// received adverts can cause.
const EXTRA_ADVERT_GAP: Duration = Duration::from_millis(10);
/// How long a refusal is shown, unless three intervals are longer.
const REFUSAL_SHOWN: Duration = Duration::from_secs(5);

/// One virtual router of this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualRouter {
    id: RouterId,
    link: LinkId,
    config: Arc<RouterConfig>,
    /// Destinations of adverts: the multicast group, or the unicast peers.
    to: Arc<[IpAddr]>,
    state: State,
    holding: Holding,
    faults: BTreeMap<Reason, Option<Instant>>,
    /// The source of adverts, kept while the interface has none.
    source: Option<IpAddr>,
    /// A hash of the settings that it was chosen by ([`Source`](crate::vrrp::Source)).
    source_settings: u64,
    /// Adverts were sent from it, by this daemon or the one before.
    source_used: bool,
    missing_source: Option<MissingSource>,
    /// The source that the kernel would use for the first unicast peer.
    routed: Option<IpAddr>,
    since: Instant,
    why: Why,
    peer: Option<Peer>,
    /// Who was last heard as master since the link came up, unless it has left since.
    master: Option<IpAddr>,
    /// The priority of the one that was last heard as master was 1.
    of_last_resort: bool,
    /// Master_Adver_Interval (RFC 9568 6.1): the interval of the master; ours if none was heard.
    master_interval: Interval,
    /// The interval of the master at the last reload, if it is longer than is accepted since.
    tolerated_interval: Option<Interval>,
    incompatible: Vec<Incompatible>,
    /// No takeover before this: `start_delay`, `link_delay`, after having been late, or because there
    /// were many.
    hold_until: Instant,
    damping: Damping,
    /// Since when it has been free of faults and better than the master; `preempt_delay` counts
    /// from here.
    fit_since: Instant,
    heard_since_up: bool,
    held_back: bool,
    drained: Option<Drain>,
    /// When a master was last heard that we would not preempt, unless it has left since. Sync
    /// groups need it: their members' timers do not run out in the same moment.
    superior_heard_at: Option<Instant>,
    /// Claims that failed.
    claims: Backoff,
    check_summary: CheckSummary,
    membership: Membership,
    /// The role of the last `Action::Notify`.
    notified_role: Role,
    /// It was taken out of a sync group that remains: the group's hooks are not its own.
    hooks_suppressed: bool,
    /// Set once it leaves for good.
    retiring: Option<Leave>,
    recorded: Option<Recorded>,
    warned: BTreeMap<u8, Instant>,
    /// Destinations that refused adverts, the last one first.
    refusals: Vec<Refusal>,
    /// How long to wait after no advert has left.
    refusing: Backoff,
    hook: Option<HookOutcome>,
    /// The deadline that the node knows.
    scheduled: Option<Instant>,
}

impl VirtualRouter {
    pub(in crate::vrrp) fn new(
        id: RouterId,
        link: LinkId,
        config: &RouterConfig,
        now: Instant,
    ) -> Self {
        VirtualRouter {
            id,
            link,
            to: source::destinations(config, |_| false),
            state: State::Fault,
            // By configuration the addresses are on the interface that carries the adverts.
            holding: Holding::new(id, link, config, now),
            faults: BTreeMap::from([(Reason::Starting, None)]),
            source: None,
            source_settings: 0,
            source_used: false,
            missing_source: None,
            routed: None,
            since: now,
            why: Why::Starting,
            peer: None,
            master: None,
            of_last_resort: false,
            master_interval: config.advert_interval,
            tolerated_interval: None,
            incompatible: Vec::new(),
            hold_until: now + config.start_delay.max(config.link_delay),
            damping: Damping::default(),
            fit_since: now,
            heard_since_up: false,
            held_back: false,
            drained: None,
            superior_heard_at: None,
            claims: Backoff::default(),
            check_summary: CheckSummary::default(),
            membership: Membership::Alone,
            notified_role: Role::Waiting,
            hooks_suppressed: false,
            retiring: None,
            recorded: None,
            warned: BTreeMap::new(),
            refusals: Vec::new(),
            refusing: Backoff::default(),
            hook: None,
            scheduled: None,
            config: Arc::new(config.clone()),
        }
    }

    pub fn id(&self) -> RouterId {
        self.id
    }

    /// The interface that carries its adverts.
    pub fn link(&self) -> LinkId {
        self.link
    }

    pub fn config(&self) -> &Arc<RouterConfig> {
        &self.config
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// All its virtual addresses, the advertised ones first.
    pub fn addresses(&self) -> &Arc<[Address]> {
        &self.holding.held().addresses
    }

    /// What it holds as master.
    pub fn holding(&self) -> &Holding {
        &self.holding
    }

    /// The role that operators see.
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

    /// Since when it has had this role, and the reason.
    pub fn since(&self) -> (Instant, &Why) {
        (self.since, &self.why)
    }

    /// The reasons for fault; empty unless the role is fault or waiting.
    pub fn fault_reasons(&self) -> impl Iterator<Item = Reason> + '_ {
        self.faults.keys().cloned()
    }

    /// The last accepted advert of another router.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Destinations that refused adverts in the last seconds.
    pub fn refusals(&self, now: Instant) -> impl Iterator<Item = &Refusal> + '_ {
        let shown = REFUSAL_SHOWN.max(self.config.advert_interval.peer_timeout());
        self.refusals.iter().filter(move |refusal| now - refusal.at < shown)
    }

    /// The source address of adverts, if the interface has had a suitable one.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Whether its adverts go to nobody: its list of peers names only this host.
    pub fn is_without_peers(&self) -> bool {
        self.to.is_empty()
    }

    /// Whether an operator moved it to another host and has not ended that by `resume`.
    pub fn held_back(&self) -> bool {
        self.held_back
    }

    /// The last hook that ended.
    pub fn hook(&self) -> Option<&HookOutcome> {
        self.hook.as_ref()
    }

    /// Whether it has priority 1 because of a failing check with `on_fail = "last"`.
    pub fn degraded(&self) -> bool {
        self.check_summary.last_resort && !self.is_owner()
    }

    /// When the last advert was sent, while it holds the addresses.
    pub fn sent_at(&self) -> Option<Instant> {
        match self.state {
            State::Master { sent_at, .. } | State::Leaving { sent_at, .. } => Some(sent_at),
            State::Fault | State::Backup { .. } | State::Claiming { .. } => None,
        }
    }

    /// Whether it holds the addresses: they are claimed, or about to be.
    pub fn has_addresses(&self) -> bool {
        self.holding.is_held()
    }

    /// Removed from the configuration, and has left.
    pub(in crate::vrrp) fn is_removed(&self) -> bool {
        self.retiring == Some(Leave::Removed) && !self.has_addresses()
    }

    /// Whether it is undecided if it takes part.
    fn is_undecided(&self) -> bool {
        self.faults.contains_key(&Reason::Starting)
            || self.faults.contains_key(&Reason::Unchecked)
            || !self.faults.is_empty() && self.faults.keys().all(Reason::is_pending)
    }

    /// Whether it owns the addresses (priority 255). Checks, delays and operators do not change
    /// that.
    fn is_owner(&self) -> bool {
        self.config.priority == Priority::OWNER
    }

    /// The configured priority, adjusted by checks and by a drain: advertised, and compared with that
    /// of peers.
    pub fn effective_priority(&self) -> Priority {
        if self.is_owner() {
            return Priority::OWNER;
        }
        match self.state {
            State::Master { unheard_until: Some(_), .. } => Priority::LOWEST,
            State::Fault | State::Backup { .. } | State::Claiming { .. } | State::Master { .. }
                if self.drained.is_some() =>
            {
                Priority::LOWEST
            }
            // A drained one, too: no peer is to take over before `before_release` has ended.
            State::Leaving { .. }
            | State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Master { .. } => self.check_summary.effective(self.config.priority),
        }
    }

    /// Skew_Time.
    pub fn skew(&self) -> Duration {
        self.master_interval.skew(self.config.version, self.effective_priority())
    }

    /// How long a backup waits after priority 0: the skew time. A master of priority 1 may only have
    /// offered the role to a fit host (see `next_offer`), and goes on if there is none: one of that
    /// priority as well waits two intervals longer.
    pub(super) fn wait_after_priority_0(&self) -> Duration {
        if self.of_last_resort && self.effective_priority() == Priority::LOWEST {
            2 * self.master_interval.duration() + self.skew()
        } else {
            self.skew()
        }
    }

    /// Master_Down_Interval.
    pub fn master_down(&self) -> Duration {
        self.master_interval.master_down(self.config.version, self.effective_priority())
    }
}
