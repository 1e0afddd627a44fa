//! The virtual routers of one host: events in, actions out.
//!
//! [`Node::handle`] is the only way in, [`Action`]s are the only way out, and [`Node::deadline`]
//! says when to come back. A driver is whoever carries actions out: the daemon, the simulator, the
//! model checker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::action::Action;
use super::advert;
use super::check::{Bearing, Check, CheckId, Probe};
use super::config::{Config, Family, RouterConfig, Vrid};
use super::discard::{Discard, DiscardReason};
use super::event::{ClaimError, Command, Contention, Event, LinkAddress, Packet, Stop};
use super::group::Group;
use super::id::{LinkId, RouterId};
use super::router::{Leave, Membership, Surroundings, VirtualRouter};
use super::time::Instant;
use super::why::Why;

/// What came of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Handled {
    /// The virtual router that a packet meant; `None` for all other events.
    pub router: Option<RouterId>,
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
    /// A packet that was not acted on; it has changed nothing but what status tells of incompatible
    /// peers. Other events never fail.
    pub fn handle(
        &mut self,
        now: Instant,
        event: Event<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<Handled, Discard> {
        self.forget_the_gone();
        if self.stop == Some(Stop::Restart) {
            return Ok(Handled::default());
        }
        let begin = actions.len();
        let mut outcome = Ok(Handled::default());
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
    ) -> Result<Handled, Discard> {
        let router = self.router_meant(packet);
        let discarded = |reason| Discard { router, reason };
        let heard = advert::decode(packet.source, packet.destination, packet.message)
            .map_err(|malformed| discarded(DiscardReason::Malformed(malformed)))?;
        let Some(id) = router else {
            return Err(discarded(DiscardReason::UnknownRouter(heard.vrid)));
        };
        let mut outcome = Ok(());
        self.with(now, id, |router| outcome = router.packet(now, packet, &heard, actions));
        outcome.map(|()| Handled { router }).map_err(discarded)
    }

    /// The virtual router that a packet means, by the VRID in its second byte (RFC 9568 5.2.3):
    /// known before the rest of it is checked.
    fn router_meant(&self, packet: &Packet<'_>) -> Option<RouterId> {
        let vrid = packet.message.get(1).copied().and_then(Vrid::new)?;
        let identity = (packet.link, Family::of(packet.source), vrid);
        self.by_identity.get(&identity).copied()
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
