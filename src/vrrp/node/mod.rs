//! A node: all virtual routers of one host. Events in, actions out.
//!
//! [`Node::handle`] takes an [`Event`] and appends [`Action`]s; [`Node::deadline`] is when the next
//! [`Event::Timeout`] is due. A driver carries the actions out: the daemon, the simulator, the
//! model checker.

mod checks;
mod groups;
mod links;
mod reload;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use crate::vrrp::action::Action;
use crate::vrrp::advert;
use crate::vrrp::check::Check;
use crate::vrrp::config::{Config, Family, Vrid};
use crate::vrrp::discard::{Discard, DiscardReason};
use crate::vrrp::event::{
    ClaimError, Command, Contention, Drain, Event, LinkAddress, MissingSockets, Packet, Stop,
};
use crate::vrrp::group::Group;
use crate::vrrp::id::{LinkId, Mac, RouterId};
use crate::vrrp::reason::Reason;
use crate::vrrp::role::{Leave, Role};
use crate::vrrp::router::{Membership, VirtualRouter};
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

/// The result of an event that was acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Handled {
    /// The virtual router that a packet was for, or whose holding is contested.
    pub router: Option<RouterId>,
    /// It is master, and this was another master's advert, another host's announcement of one of its
    /// addresses, or the removal of one by another program.
    pub contested: bool,
}

/// An interface by name, as last reported.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Link {
    name: Arc<str>,
    /// `None`: not reported yet. An error is why it cannot be used.
    usable: Option<Result<(), Reason>>,
    mac: Option<Mac>,
    missing: MissingSockets,
    addresses: Vec<LinkAddress>,
    /// The virtual routers whose adverts it carries, sorted: a list, as each advert is looked up.
    routers: Vec<((Family, Vrid), RouterId)>,
    /// Those that were not added for a virtual router of this node.
    foreign: Vec<IpAddr>,
}

/// All virtual routers of one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// In the configuration's order; those that are being removed come last.
    order: Vec<RouterId>,
    /// Boxed, as up to half of the slots of a B-tree are empty.
    routers: BTreeMap<RouterId, Box<VirtualRouter>>,
    links: Vec<Link>,
    /// In the configuration's order.
    checks: Vec<Check>,
    /// Indices into `checks` of those that a virtual router names; no entry if it names none.
    checked: BTreeMap<RouterId, Vec<usize>>,
    groups: Vec<Group>,
    /// Index into `groups` of the one that a virtual router is a member of.
    group_by_member: BTreeMap<RouterId, usize>,
    /// Groups with a member whose state has changed during this event.
    dirty_groups: BTreeSet<usize>,
    /// Routers with unproven checks that have claimed or released their addresses during this
    /// event: the summary of their checks depends on that.
    dirty_routers: Vec<RouterId>,
    /// The virtual addresses of all routers, sorted.
    shared: Vec<IpAddr>,
    /// All deadlines, sorted. A list rather than a map, as it changes with every advert, and a list
    /// does not allocate for that.
    deadlines: VecDeque<(Instant, RouterId)>,
    /// Which routers hold an address as master, sorted: other hosts may announce any of them at any
    /// rate.
    holders: Vec<(IpAddr, RouterId)>,
    /// Reused by `timeout`; empty between events.
    due: Vec<RouterId>,
    /// Removed from the configuration, until they have nothing left to release.
    leaving: Vec<RouterId>,
    next_id: u32,
    drained: Option<Drain>,
    stop: Option<Stop>,
}

impl Node {
    /// A node whose routers wait for the first [`Event::Link`] of their interfaces.
    pub fn new(config: &Config) -> Self {
        let mut node = Node {
            order: Vec::new(),
            routers: BTreeMap::new(),
            links: Vec::new(),
            checks: Vec::new(),
            checked: BTreeMap::new(),
            groups: Vec::new(),
            group_by_member: BTreeMap::new(),
            dirty_groups: BTreeSet::new(),
            dirty_routers: Vec::new(),
            shared: Vec::new(),
            deadlines: VecDeque::new(),
            due: Vec::new(),
            holders: Vec::new(),
            leaving: Vec::new(),
            next_id: 0,
            drained: None,
            stop: None,
        };
        for router in &config.routers {
            let id = node.add(router, Instant::START);
            node.order.push(id);
        }
        node.update_checks(Instant::START, config);
        node.update_shared();
        node.regroup(Instant::START, config);
        for id in node.order.clone() {
            // No router has started, so no actions follow.
            node.apply_checks(Instant::START, id, &mut Vec::new());
        }
        node
    }

    /// Handles an event. Appends actions, which the caller has to carry out in order.
    ///
    /// # Errors
    /// A packet was not acted on. It has changed nothing but the list of incompatible peers. Other
    /// events never fail.
    pub fn handle(
        &mut self,
        now: Instant,
        event: Event<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<Handled, Discard> {
        self.forget_removed();
        if self.stop == Some(Stop::Restart) {
            return Ok(Handled::default());
        }
        let begin = actions.len();
        let mut outcome = Ok(Handled::default());
        match event {
            Event::AddressLost(id, ip) => {
                let mut contested = false;
                self.with(now, id, |router| contested = router.address_lost(now, ip, actions));
                outcome = Ok(Handled { router: Some(id), contested });
            }
            Event::AdvertsRefused(id) => {
                self.with(now, id, |router| router.adverts_refused(now, actions));
            }
            Event::ClaimFailed(id, error) => {
                let there = error == ClaimError::AlreadyThere;
                self.with(now, id, |router| router.claim_failed(now, there, actions));
            }
            Event::Command(command) => self.command(now, command, actions),
            Event::Contention(seen) => outcome = Ok(self.contention(now, seen, actions)),
            Event::Found(id, recorded) => {
                self.drained = self.drained.max(recorded.drained);
                self.with(now, id, |router| router.set_record(recorded));
            }
            Event::HookFinished(id, outcome) => {
                for id in self.with_group(id) {
                    self.with(now, id, |router| router.hook_finished(now, outcome, actions));
                }
            }
            Event::Late(id) => self.with(now, id, |router| router.overdue(now, Why::Late, actions)),
            Event::LeaseRanOut(id) => {
                self.with(now, id, |router| router.overdue(now, Why::LeaseRanOut, actions));
            }
            Event::Link { link, state } => self.link(now, link, state, actions),
            Event::Routed(id, source) => self.with(now, id, |router| router.set_routed(source)),
            Event::Packet(packet) => outcome = self.packet(now, &packet, actions),
            Event::Probe { check, probe } => self.probe(now, check, probe, actions),
            Event::AdvertRefused(id, to, error) => {
                self.with(now, id, |router| router.advert_refused(now, to, error, actions));
            }
            Event::Refused(id, ip, error) => {
                self.with(now, id, |router| router.address_refused(now, ip, error, actions));
            }
            Event::Reload(config) => self.reload(now, config, actions),
            Event::Sockets(link, missing) => self.sockets(now, link, missing, actions),
            Event::Stop(stop) => self.stop(now, stop, actions),
            Event::Timeout => self.timeout(now, actions),
        }
        while !self.dirty_groups.is_empty() || !self.dirty_routers.is_empty() {
            for id in std::mem::take(&mut self.dirty_routers) {
                self.apply_checks(now, id, actions);
            }
            self.run_groups(now, actions);
        }
        if !self.groups.is_empty() {
            self.suppress_repeated_hooks(&mut actions[begin..]);
        }
        outcome
    }

    /// When [`Event::Timeout`] is due next.
    pub fn deadline(&self) -> Option<Instant> {
        match self.stop {
            Some(Stop::Restart) => None,
            Some(Stop::Leave) | None => self.deadlines.front().map(|(at, _)| *at),
        }
    }

    /// Whether a stop is complete.
    pub fn is_stopped(&self) -> bool {
        match self.stop {
            Some(Stop::Restart) => true,
            Some(Stop::Leave) => self.routers.values().all(|router| !router.has_addresses()),
            None => false,
        }
    }

    /// What this host is drained to, if it is drained.
    pub fn drained(&self) -> Option<Drain> {
        self.drained
    }

    /// The virtual routers in the configuration's order; those being removed come last.
    pub fn routers(&self) -> impl Iterator<Item = &VirtualRouter> + '_ {
        self.order.iter().filter_map(|id| self.router(*id))
    }

    pub fn router(&self, id: RouterId) -> Option<&VirtualRouter> {
        self.routers.get(&id).map(Box::as_ref)
    }

    /// The virtual router of that name.
    pub fn find(&self, name: &str) -> Option<&VirtualRouter> {
        self.routers().find(|router| &*router.config().name == name)
    }

    /// The interfaces that virtual routers name or have named.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, &Arc<str>)> + '_ {
        self.links.iter().zip(0..).map(|(link, n)| (LinkId(n), &link.name))
    }

    pub fn checks(&self) -> impl Iterator<Item = &Check> + '_ {
        self.checks.iter()
    }

    pub fn find_check(&self, name: &str) -> Option<&Check> {
        self.checks().find(|check| &*check.config().name == name)
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
        let (mut outcome, mut contested) = (Ok(()), false);
        self.with(now, id, |router| {
            outcome = router.packet(now, packet, &heard, actions);
            contested = router.role() == Role::Master;
        });
        outcome.map(|()| Handled { router, contested }).map_err(discarded)
    }

    /// The virtual router that a packet is for, by the VRID in its second byte (RFC 9568 5.2.3),
    /// which can be read before the packet is validated.
    fn router_meant(&self, packet: &Packet<'_>) -> Option<RouterId> {
        let vrid = packet.message.get(1).copied().and_then(Vrid::new)?;
        let routers = &self.links.get(packet.link.0 as usize)?.routers;
        let wanted = (Family::of(packet.source), vrid);
        let place = routers.binary_search_by_key(&wanted, |(identity, _)| *identity).ok()?;
        Some(routers[place].1)
    }

    fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        // Each router is called once: one that is due again at once must not cause an endless loop.
        let mut due = std::mem::take(&mut self.due);
        due.extend(self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id));
        for id in due.drain(..) {
            self.with(now, id, |router| router.timeout(now, actions));
        }
        self.due = due;
    }

    fn contention(&mut self, now: Instant, seen: Contention, actions: &mut Vec<Action>) -> Handled {
        let mut handled = Handled::default();
        for place in self.holders_of(seen.address) {
            let Some((_, id)) = self.holders.get(place).copied() else { break };
            if !self.router(id).is_some_and(|it| it.holding().has(seen.link, seen.address)) {
                continue;
            }
            self.with(now, id, |router| {
                if router.contention(now, seen.address, seen.mac, actions) {
                    handled = Handled { router: Some(id), contested: true };
                }
            });
        }
        handled
    }

    /// The places in `holders` of the routers that hold this address as master.
    fn holders_of(&self, ip: IpAddr) -> Range<usize> {
        let first = self.holders.partition_point(|(held, _)| *held < ip);
        let rest = self.holders.get(first..).unwrap_or_default();
        first..first + rest.iter().take_while(|(held, _)| *held == ip).count()
    }

    fn command(&mut self, now: Instant, command: Command, actions: &mut Vec<Action>) {
        match command {
            Command::Announce(id) => {
                for id in self.with_group(id) {
                    self.with(now, id, |router| router.announce_now(now, actions));
                }
            }
            Command::Failover(id) => {
                for id in self.with_group(id) {
                    self.with(now, id, |router| router.failover(now, actions));
                }
            }
            Command::Resume(id) => {
                for id in self.with_group(id) {
                    self.with(now, id, VirtualRouter::resume);
                }
            }
            Command::Drain(drain) => {
                self.drained = Some(drain);
                for id in self.order.clone() {
                    // Before its priority is lowered: peers take over once it has prepared for that.
                    self.with(now, id, |router| router.drain(now, drain, actions));
                    self.reevaluate(now, id, actions);
                }
            }
            Command::Undrain => {
                self.drained = None;
                for id in self.order.clone() {
                    self.reevaluate(now, id, actions);
                }
            }
        }
    }

    fn stop(&mut self, now: Instant, stop: Stop, actions: &mut Vec<Action>) {
        if self.stop.is_some() && stop == Stop::Restart {
            // The handover that has begun is completed.
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

    /// Calls a router, then updates its deadline and marks its group if it has to decide.
    fn with(&mut self, now: Instant, id: RouterId, act: impl FnOnce(&mut VirtualRouter)) {
        if let Some(router) = self.routers.get_mut(&id) {
            let member = router.membership() != Membership::Alone;
            let before = member.then(|| router.member_state(now));
            let had = router.has_addresses();
            act(router);
            if router.check_summary().unproven && had != router.has_addresses() {
                self.dirty_routers.push(id);
            }
            let deadlines = router.reschedule();
            if member && (before != Some(router.member_state(now)) || router.waits_for_group(now)) {
                self.dirty_groups.extend(self.group_by_member.get(&id));
            }
            self.schedule(id, deadlines);
        }
    }

    /// Replaces the deadline of a router in the list.
    fn schedule(&mut self, id: RouterId, [before, deadline]: [Option<Instant>; 2]) {
        if before != deadline {
            // Usually the first entry becomes the last one.
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
}

/// Normal form of states, by which the model checker recognises those that are equivalent.
impl Node {
    /// The same node as if `now` were `origin`, without what no election depends on: history,
    /// warnings, announcements.
    pub fn normalized(&self, now: Instant, origin: Instant) -> Node {
        let mut node = self.clone();
        node.deadlines.clear();
        for (id, router) in &mut node.routers {
            router.normalize(now, origin);
            let [_, deadline] = router.reschedule();
            node.deadlines.extend(deadline.map(|at| (at, *id)));
        }
        node.deadlines.make_contiguous().sort_unstable();
        for check in &mut node.checks {
            check.normalize(origin);
        }
        for group in &mut node.groups {
            group.normalize();
        }
        node
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::vrrp::config::RouterConfig;

    /// A flood of announcements must not cost more on a host with many virtual routers.
    #[test]
    fn who_holds_an_announced_address_is_looked_up_and_not_searched_for() {
        let router = |n: u8, address: &str| RouterConfig {
            name: format!("web-{n}").into(),
            vrid: Vrid::new(n).unwrap(),
            ..RouterConfig::sample(&[address, "192.0.2.255"])
        };
        let router_of = |n| router(n, &format!("192.0.2.{n}"));
        let config =
            |count| Config { routers: (1..=count).map(router_of).collect(), ..Config::default() };
        let mut node = Node::new(&config(200));
        let looked_at = |node: &Node, ip: &str| {
            let places = node.holders_of(ip.parse().unwrap());
            places.map(|place| node.holders[place].1).collect::<Vec<_>>()
        };
        assert_eq!(looked_at(&node, "192.0.2.77"), [RouterId(76)]);
        assert_eq!(looked_at(&node, "192.0.2.222"), []);
        assert_eq!(looked_at(&node, "192.0.2.255").len(), 200);
        // A reload moves an address to another router.
        let mut moved = config(76);
        moved.routers.push(router(78, "192.0.2.77"));
        node.handle(Instant::START, Event::Reload(&moved), &mut Vec::new()).unwrap();
        node.handle(Instant::START, Event::Timeout, &mut Vec::new()).unwrap();
        assert_eq!(looked_at(&node, "192.0.2.77"), [RouterId(77)]);
        assert_eq!(looked_at(&node, "192.0.2.78"), []);
    }
}
