//! One virtual router: the election for one list of addresses (RFC 9568 6.4).
//!
//! It is told of adverts, links and deadlines by [`Node`](crate::vrrp::Node) and adds what is to be
//! done to a list. Every change of role goes through `VirtualRouter::enter`.

mod addresses;
mod checks;
mod commands;
mod hearing;
mod host_state;
mod lifecycle;
mod membership;
mod reason;
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

use crate::vrrp::check::CheckSummary;
use crate::vrrp::config::{Address, Interval, Priority, RouterConfig, Version};
use crate::vrrp::event::{HookOutcome, Recorded};
use crate::vrrp::holding::Holding;
use crate::vrrp::id::{LinkId, RouterId};
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;
pub use hearing::{Incompatible, Peer};
pub(super) use host_state::HostState;
pub(super) use membership::{MemberView, Membership, Position};
pub use reason::Reason;
pub use states::{Leave, Phase, Role, State};

/// At most one advert beside the schedule in this time, whatever arrives.
const EXTRA_ADVERT_GAP: Duration = Duration::from_millis(10);

/// One virtual router of this host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualRouter {
    id: RouterId,
    link: LinkId,
    config: Arc<RouterConfig>,
    /// Where adverts go: the group, or the peers.
    to: Arc<[IpAddr]>,
    state: State,
    holding: Holding,
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
    superior_heard_at: Option<Instant>,
    /// What its checks amount to.
    check_summary: CheckSummary,
    membership: Membership,
    /// The role last told of.
    notified_role: Role,
    /// It was taken out of a sync group that goes on: the group's hooks are not its own.
    hooks_suppressed: bool,
    /// It leaves for good, and why.
    retiring: Option<Leave>,
    recorded: Option<Recorded>,
    warned: BTreeMap<u8, Instant>,
    hook: Option<HookOutcome>,
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
            to: destinations(config),
            state: State::Fault,
            // Addresses are on the interface that carries the adverts.
            holding: Holding::new(id, link, config, now),
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
            superior_heard_at: None,
            check_summary: CheckSummary::default(),
            membership: Membership::Alone,
            notified_role: Role::Waiting,
            hooks_suppressed: false,
            retiring: None,
            recorded: None,
            warned: BTreeMap::new(),
            hook: None,
            config: Arc::new(config.clone()),
        }
    }

    /// The number by which actions and events name it.
    pub fn id(&self) -> RouterId {
        self.id
    }

    /// The interface that carries its adverts.
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
        &self.holding.held().addresses
    }

    /// What it has, or would have as master.
    pub fn holding(&self) -> &Holding {
        &self.holding
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

    /// Whether it stands at priority 1 because of a check whose failing is no fault.
    pub fn degraded(&self) -> bool {
        self.check_summary.last_resort && !self.is_owner()
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
        self.holding.is_held()
    }

    /// Removed from the configuration, and done with it.
    pub(in crate::vrrp) fn is_removed(&self) -> bool {
        self.retiring == Some(Leave::Removed) && !self.has_addresses()
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
            State::Master { unheard_until: Some(_), .. } => Priority::LOWEST,
            State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Master { .. }
            | State::Leaving { .. } => self.check_summary.effective(self.config.priority),
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
}

fn destinations(config: &RouterConfig) -> Arc<[IpAddr]> {
    match &config.unicast_peers {
        Some(peers) => peers.clone(),
        None => Arc::from([config.family.multicast_group()]),
    }
}
