//! The driver: polls the machine, tells the protocol what happened, and holds what both sides need.
//!
//! An advert arrives by [`Driver::receive`]. What else happens is queued as a [`PendingEvent`] and
//! passed to the node by [`Driver::dispatch`]. Actions are carried out in
//! [`effects`](super::effects).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use tracing::{debug, error, warn};

use super::check_runs::{self, CheckRuns};
use super::counters::NodeCounters;
use super::history::{self, EventKind, History};
use super::hooks::{EndedHook, HookRunner, LastHook};
use super::interfaces::Interfaces;
use super::source::{PendingEvent, Source};
use crate::config::{Config, ProgramFaults, ProgramUse};
use crate::helper::Helper;
use crate::host::advert_socket::{self, AdvertSocket};
use crate::host::clock::{self, Alarm, Clock};
use crate::host::neighbours::NeighbourSocket;
use crate::host::netlink::{InterfaceAddress, JobTarget, Operation, Progress, Worker, WorkerJob};
use crate::host::poller::Poller;
use crate::host::record::Record;
use crate::host::route::source_towards;
use crate::vrrp::delivery::{Delivery, Encoded, JobKind};
use crate::vrrp::record::{RecordedAddress, Resumes};
use crate::vrrp::{
    Action, Address, Check, Contention, Discard, Event, Family, Handled, Hook, Instant,
    LinkAddress, LinkId, Mac, Mark, Node, Packet, RecordEntry, RouterConfig, RouterId, Transition,
    VirtualRouter,
};

/// Changes of role of each virtual router that status shows; `vipd events` shows them all.
const TRANSITIONS_SHOWN: usize = 5;
/// Adverts or announcements that arrive at shorter intervals are not waited for one by one.
const HIGH_RATE: Duration = Duration::from_millis(2);
/// How long the end waits until neighbour entries have been removed.
const GROUPS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long what arrives at a high rate may wait to be read together.
const COALESCE: Duration = Duration::from_micros(900);

/// What the driver keeps of one virtual router.
pub(super) struct RouterState {
    /// Its last configuration in the node: its last actions follow after the node has removed it.
    pub(super) config: Arc<RouterConfig>,
    /// Its last advert.
    pub(super) encoded: Option<Encoded>,
    /// Whether all its addresses were there as ours, and in which state of the interface.
    pub(super) intact: Option<(u64, bool)>,
    /// Why addresses could last not be added, in the words of the kernel.
    pub(super) refusals: BTreeMap<IpAddr, String>,
    /// The newest last, at most [`TRANSITIONS_SHOWN`] of them.
    transitions: VecDeque<(SystemTime, Transition)>,
    last_hook: Option<LastHook>,
}

impl RouterState {
    pub(super) fn new(router: &VirtualRouter) -> Self {
        RouterState {
            config: Arc::clone(router.config()),
            encoded: None,
            intact: None,
            refusals: BTreeMap::new(),
            transitions: VecDeque::new(),
            last_hook: None,
        }
    }

    pub(super) fn note_transition(&mut self, transition: &Transition) {
        if self.transitions.len() == TRANSITIONS_SHOWN {
            self.transitions.pop_front();
        }
        // Most routers never have as many as a growing list makes room for.
        self.transitions.reserve_exact(1);
        self.transitions.push_back((SystemTime::now(), transition.clone()));
    }
}

/// What status shows of a virtual router that the protocol does not know.
#[derive(Clone, Debug, Default)]
pub(super) struct DriverStatus<'a> {
    /// The last changes of its role, by the wall clock, the newest first.
    pub(super) transitions: Vec<&'a (SystemTime, Transition)>,
    /// When the kernel removes its addresses unless they are renewed.
    pub(super) lease_until: Option<Instant>,
    /// The last hook that ended.
    pub(super) last_hook: Option<&'a LastHook>,
    /// Why addresses could last not be added.
    pub(super) refusals: Option<&'a BTreeMap<IpAddr, String>>,
}

/// The machine as the daemon uses it, and what is under way on it.
pub(super) struct Driver {
    pub(super) clock: Clock,
    alarm: Alarm,
    pub(super) poller: Poller,
    /// A descriptor of another owner is readable.
    others_ready: bool,
    /// When adverts were last received.
    heard_at: Instant,
    /// When announcements of other hosts were.
    announced_at: Instant,
    /// Whether adverts or announcements arrive at a high rate.
    high_rate: bool,
    pub(super) worker: Worker,
    pub(super) interfaces: Interfaces,
    /// Boxed, as half of a map's places are empty.
    pub(super) routers: BTreeMap<RouterId, Box<RouterState>>,
    pub(super) delivery: Delivery,
    /// What the worker was asked for, and when, by ticket.
    pub(super) jobs: BTreeMap<u64, (RouterId, JobKind, Instant)>,
    pub(super) next_ticket: u64,
    /// The multicast groups that have entries of ours, and the kernel's numbers of the interfaces.
    groups: BTreeMap<LinkId, (u32, Vec<Address>)>,
    /// What an earlier daemon left and is being removed, by ticket.
    pub(super) leftovers: BTreeMap<u64, RecordedAddress>,
    pub(super) hooks: HookRunner,
    pub(super) pending: VecDeque<PendingEvent>,
    /// The last run of each check.
    pub(super) checks: CheckRuns,
    pub(super) record: Record,
    /// What happened, for operators.
    pub(super) history: History,
    /// Counted since the start.
    pub(super) counters: NodeCounters,
}

impl Driver {
    /// Opens what does not depend on interfaces.
    ///
    /// # Errors
    /// The kernel refuses netlink, epoll or timers.
    pub(super) fn new(
        clock: Clock,
        helper: Helper,
        worker: Worker,
        record: Record,
    ) -> io::Result<Self> {
        let driver = Driver {
            alarm: Alarm::new()?,
            poller: Poller::new()?,
            others_ready: false,
            heard_at: Instant::START,
            announced_at: Instant::START,
            high_rate: false,
            interfaces: Interfaces::open(worker.renewal_port())?,
            worker,
            routers: BTreeMap::new(),
            delivery: Delivery::default(),
            jobs: BTreeMap::new(),
            next_ticket: 1,
            groups: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            hooks: HookRunner::new(helper, clock.now()),
            pending: VecDeque::new(),
            checks: CheckRuns::default(),
            record,
            history: History::default(),
            counters: NodeCounters::default(),
            clock,
        };
        driver.poller.add(driver.alarm.as_fd(), Source::Timer.token())?;
        driver.poller.add(driver.worker.as_fd(), Source::Worker.token())?;
        driver.poller.add(driver.interfaces.as_fd(), Source::Netlink.token())?;
        driver.hooks.register(&driver.poller)?;
        Ok(driver)
    }

    /// The time now.
    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Also wakes up when `fd` becomes readable; its owner reads it.
    ///
    /// # Errors
    /// epoll refuses the descriptor.
    pub(super) fn listen_to(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poller.add(fd, Source::Other.token())
    }

    /// Whether a descriptor that is [listened to](Self::listen_to) has become readable since the last
    /// call.
    pub(super) fn others_ready(&mut self) -> bool {
        std::mem::take(&mut self.others_ready)
    }

    // ---- configuration ---------------------------------------------------------------------

    /// Follows the interfaces and hooks that the node's routers name now.
    ///
    /// # Errors
    /// The request for the interfaces cannot be sent.
    pub(super) fn follow(&mut self, node: &Node, config: &Config) -> io::Result<()> {
        self.hooks.follow(node, config);
        let routers = node.routers().map(|router| (router.id(), &**router.config()));
        if let Err(error) = self.record.assign(routers, clock::suspended()) {
            warn!(%error, "cannot write the record: a restart will begin as backup");
        }
        self.counters.follow(self.clock.now(), node);
        self.delivery.forget_removed(node);
        let delivery = &self.delivery;
        self.routers.retain(|id, _| node.router(*id).is_some() || !delivery.is_idle_for(*id));
        for router in node.routers() {
            if let Some(state) = self.routers.get_mut(&router.id()) {
                state.config = Arc::clone(router.config());
                let named = router.addresses();
                state.refusals.retain(|ip, _| named.iter().any(|address| address.ip == *ip));
            }
        }
        let known: Vec<LinkId> = self.groups.keys().copied().collect();
        for link in self.interfaces.ids().chain(known).collect::<BTreeSet<_>>() {
            self.follow_groups(link, node);
        }
        self.interfaces.follow(node, &self.poller)
    }

    /// Makes neighbour entries for the multicast groups that are used on an interface, and removes
    /// those of groups that are not used any more.
    fn follow_groups(&mut self, link: LinkId, node: &Node) {
        let index = self.interfaces.index(link);
        let used = index.map(|index| (index, self.interfaces.groups(link, node)));
        let used = used.filter(|(_, groups)| !groups.is_empty());
        if let Some((index, mut unused)) = self.groups.remove(&link) {
            let same = used.as_ref().filter(|(now, _)| *now == index);
            unused.retain(|group| !same.is_some_and(|(_, groups)| groups.contains(group)));
            self.submit_groups(index, unused, Operation::RemoveGroups);
        }
        if let Some((index, groups)) = used {
            self.submit_groups(index, groups.clone(), Operation::AddGroups);
            self.groups.insert(link, (index, groups));
        }
    }

    fn submit_groups(&mut self, index: u32, groups: Vec<Address>, operation: Operation) {
        if !groups.is_empty() {
            let ticket = self.next_ticket();
            let (mark, ours) = (Mark::None, Arc::default());
            let target = JobTarget { index, addresses: groups.into(), mark, ours };
            self.worker.submit(WorkerJob { ticket, target, operation });
        }
    }

    /// Runs the checks of a configuration, and no others.
    pub(super) fn set_checks(&mut self, config: &Config) {
        self.hooks.set_checks(config);
        self.checks.keep_only(config.checks.iter().map(|plan| plan.name.as_str()));
        self.poll_helper();
    }

    // ---- receiving -------------------------------------------------------------------------

    /// Reads what arrived since the last call: adverts first, as they may change the meaning of
    /// everything else. If nothing arrived and `wait` is set, waits until something does, or until
    /// the time to [wake up](Self::wake_at).
    ///
    /// Returns whether there may be more: only after `false` may the next call wait.
    ///
    /// # Errors
    /// The kernel's event sources themselves fail, or the helper process has ended.
    pub(super) fn receive(
        &mut self,
        wait: bool,
        node: &mut Node,
        actions: &mut Vec<Action>,
    ) -> io::Result<bool> {
        let limit = if wait { self.alarm.limit(&self.clock) } else { Some(Duration::ZERO) };
        let mut more = self.poller.wait(limit)?;
        for place in 0..self.poller.ready() {
            if let Source::Adverts(link, family) = Source::of(self.poller.token(place)) {
                more |= self.receive_adverts(link, family, node, actions);
            }
        }
        for place in 0..self.poller.ready() {
            let source = Source::of(self.poller.token(place));
            // Other sources are rare and may queue follow-up work, so poll again before sleeping.
            more |= !matches!(source, Source::Adverts(..) | Source::Neighbours(_) | Source::Timer);
            match source {
                Source::Adverts(..) => {}
                Source::Timer => self.alarm.fired(),
                Source::Neighbours(link) => more |= self.receive_announcements(link),
                Source::Netlink => {
                    self.interfaces.receive(node, &self.poller, &mut self.pending)?;
                }
                Source::Worker => self.receive_reports(),
                Source::Helper => self.poll_helper(),
                Source::Other => self.others_ready = true,
            }
        }
        match self.hooks.failure() {
            Some(error) => {
                let event = history::now(EventKind::Warning, None, error.to_string());
                self.history.note(event);
                Err(error)
            }
            None => Ok(more),
        }
    }

    /// How long to sleep, whatever arrives, before adverts are received again: where they arrive at
    /// a high rate, being woken up by each of them costs several times what they cost themselves.
    /// Never beyond a deadline, and not while an answer of the worker is awaited.
    pub(super) fn coalesce_delay(&mut self) -> Option<Duration> {
        let coalesce = std::mem::take(&mut self.high_rate) && self.jobs.is_empty();
        let left = || self.alarm.at().map_or(COALESCE, |at| at - self.clock.now()).min(COALESCE);
        coalesce.then(left).filter(|left| *left > COALESCE / 8)
    }

    /// Returns whether more adverts may be waiting.
    fn receive_adverts(
        &mut self,
        link: LinkId,
        family: Family,
        node: &mut Node,
        actions: &mut Vec<Action>,
    ) -> bool {
        let now = self.clock.now();
        let Some(socket) = self.interfaces.adverts(link, family) else { return false };
        let counters = &mut self.counters;
        let outcome = socket.receive(|received| {
            let packet = Packet {
                link,
                source: received.source,
                destination: received.destination,
                ttl: received.ttl,
                message: received.message,
            };
            let outcome = node.handle(now, Event::Packet(packet), actions);
            let (Ok(Handled { router: meant, .. }) | Err(Discard { router: meant, .. })) = outcome;
            if let Some(router) = meant {
                let counters = counters.of(router);
                counters.adverts_received += 1;
                counters.contending_adverts += u64::from(outcome.is_ok_and(|it| it.contested));
            }
            match outcome {
                Ok(_) => {}
                Err(discard) => {
                    counters.discarded(meant, discard.reason.name());
                    debug!(source = %received.source, %discard, "advert discarded");
                }
            }
        });
        match outcome {
            Ok(0) => {
                self.receive_errors(link, family, node);
                false
            }
            Ok(count) => {
                self.high_rate |= now - self.heard_at < HIGH_RATE;
                self.heard_at = now;
                count >= AdvertSocket::BATCH_MAX
            }
            Err(error) => {
                debug!(%error, "receiving adverts");
                self.receive_errors(link, family, node);
                false
            }
        }
    }

    /// Notes which adverts could not be delivered. Sockets that nothing can be read from have
    /// nothing else to report.
    fn receive_errors(&mut self, link: LinkId, family: Family, node: &Node) {
        let Some(socket) = self.interfaces.adverts(link, family) else { return };
        let (pending, counters) = (&mut self.pending, &mut self.counters);
        socket.receive_errors(|to, error| {
            debug!(%to, %error, "an advert could not be delivered");
            let error = advert_socket::send_error(&error);
            let meant = |router: &&VirtualRouter| {
                let peers = router.config().unicast_peers.as_deref().unwrap_or_default();
                router.link() == link && peers.contains(&to)
            };
            for router in node.routers().filter(meant) {
                counters.of(router.id()).adverts_undelivered += 1;
                pending.push_back(PendingEvent::AdvertRefused(router.id(), to, error));
            }
        });
    }

    /// Returns whether more announcements may be waiting.
    fn receive_announcements(&mut self, link: LinkId) -> bool {
        let Some(socket) = self.interfaces.neighbours(link) else { return false };
        let pending = &mut self.pending;
        let outcome = socket.receive(|seen| {
            let contention = Contention { link, address: seen.address, mac: Mac(seen.mac) };
            pending.push_back(PendingEvent::Contention(contention));
        });
        match outcome {
            Ok(0) => false,
            Ok(count) => {
                let now = self.clock.now();
                self.high_rate |= now - self.announced_at < HIGH_RATE;
                self.announced_at = now;
                count >= NeighbourSocket::BATCH_MAX
            }
            Err(error) => {
                debug!(%error, "receiving announcements");
                false
            }
        }
    }

    fn receive_reports(&mut self) {
        let reports: Vec<Progress> = self.worker.progress().collect();
        for report in reports {
            match report {
                Progress::Claimed { ticket, part } => self.claimed_part(ticket, part),
                Progress::Finished(done) => self.job_done(done),
            }
        }
    }

    fn claimed_part(&mut self, ticket: u64, part: Range<usize>) {
        if let Some((router, ..)) = self.jobs.get(&ticket) {
            self.delivery.claimed_part(*router, part);
        }
    }

    /// Sends queued requests to the helper and reads its reports.
    pub(super) fn poll_helper(&mut self) {
        let (ended, checked) = self.hooks.poll(&self.poller);
        self.pending
            .extend(checked.into_iter().map(|(name, run)| PendingEvent::Checked(name, run)));
        for hook in ended {
            self.hook_ended(hook);
        }
    }

    fn hook_ended(&mut self, ended: EndedHook) {
        let EndedHook { router, owner, finished, last, outcome } = ended;
        self.counters.of(router).hook_ended(finished.state.name(), finished.outcome.name());
        if finished.outcome.is_failure() {
            let text = format!("{}: {}", finished.state, finished.outcome);
            self.history.note(history::now(EventKind::Hook, Some(&finished.router), text));
        }
        let succeeded = finished.outcome == crate::helper::Outcome::Done;
        for member in &owner.members {
            if last.hook == Hook::Master && succeeded {
                // If this cannot be written the hook runs once more after a restart, which hooks
                // must tolerate.
                let _ = self.record.update(*member, RecordEntry::hook_succeeded);
            }
            if let Some(state) = self.routers.get_mut(member) {
                state.last_hook = Some(last.clone());
            }
        }
        self.pending.extend(outcome.map(|outcome| PendingEvent::HookFinished(router, outcome)));
    }

    /// Has the helper look at programs and users.
    pub(super) fn examine(
        &mut self,
        programs: BTreeSet<ProgramUse>,
        answer: mpsc::Sender<Result<ProgramFaults, String>>,
    ) {
        self.hooks.examine(programs, answer);
        self.poll_helper();
    }

    /// Asks the helper whether it is alive, now and then. Returns when to call this again.
    pub(super) fn keep_helper_alive(&mut self, now: Instant) -> Instant {
        self.hooks.keep_alive(now, &self.poller)
    }

    // ---- events for the protocol -----------------------------------------------------------

    /// Passes pending events to the node. Returns whether there was anything.
    pub(super) fn dispatch(&mut self, node: &mut Node, actions: &mut Vec<Action>) -> bool {
        let mut dispatched = false;
        loop {
            if let Some(event) = self.delivery.next_event() {
                dispatched = true;
                let lost = matches!(event, Event::AddressLost(..));
                if let Some(router) = self.handle_event(node, event, actions).filter(|_| lost) {
                    self.counters.of(router).addresses_removed += 1;
                }
            } else if let Some(event) = self.pending.pop_front() {
                dispatched = true;
                self.dispatch_one(event, node, actions);
            } else {
                return dispatched;
            }
        }
    }

    fn dispatch_one(&mut self, event: PendingEvent, node: &mut Node, actions: &mut Vec<Action>) {
        match event {
            PendingEvent::AddressGone(router, ip) => {
                let held = node.router(router).map(|router| router.holding().held());
                let there = held.map_or(&[][..], |held| self.interfaces.addresses_on(held.link));
                if !there.iter().any(|there| there.ip == ip) {
                    self.delivery.address_gone(self.clock.now(), router, ip);
                }
            }
            PendingEvent::Checked(name, run) => {
                let Some(check) = node.find_check(&name) else { return };
                let (id, before) = (check.id(), check.verdict());
                let probe = check_runs::probe(run.result);
                self.handle_event(node, Event::Probe { check: id, probe }, actions);
                let after = node.find_check(&name).map_or(before, Check::verdict);
                if let Some(text) = self.checks.note(&name, run, before, after) {
                    self.history.note(history::now(EventKind::Check, None, text));
                }
            }
            // Another interface in the same LAN answers, too.
            PendingEvent::Contention(seen) if self.interfaces.has_mac(seen.mac) => {}
            PendingEvent::Contention(seen) => {
                if let Some(router) = self.handle_event(node, Event::Contention(seen), actions) {
                    self.counters.of(router).contending_announcements += 1;
                }
            }
            PendingEvent::Groups(link) => self.follow_groups(link, node),
            PendingEvent::HookFinished(router, outcome) => {
                self.handle_event(node, Event::HookFinished(router, outcome), actions);
            }
            PendingEvent::Link(link) => {
                let missing = self.interfaces.missing_sockets(link);
                self.handle_event(node, Event::Sockets(link, missing), actions);
                let addresses = self.interfaces.addresses_on(link).iter();
                let stays = |there: &&InterfaceAddress| !self.is_leftover(link, there);
                let addresses: Vec<LinkAddress> =
                    addresses.filter(stays).map(InterfaceAddress::link_address).collect();
                let state = self.interfaces.state(link, &addresses);
                let index = self.interfaces.index(link).unwrap_or_default();
                let routed = |router: &VirtualRouter| {
                    let peer = node.route_to(router.id(), &addresses)?;
                    Some((router.id(), source_towards(index, peer)?))
                };
                let on_link = node.routers().filter(|router| router.link() == link);
                let routed: Vec<(RouterId, IpAddr)> = on_link.filter_map(routed).collect();
                for (router, source) in routed {
                    self.handle_event(node, Event::Routed(router, source), actions);
                }
                self.handle_event(node, Event::Link { link, state }, actions);
            }
            PendingEvent::AdvertRefused(router, to, error) => {
                self.handle_event(node, Event::AdvertRefused(router, to, error), actions);
            }
        }
    }

    /// Whether this address of an interface was left by an earlier daemon and is being removed: a
    /// virtual router that names it now need not wait for that.
    fn is_leftover(&self, link: LinkId, there: &InterfaceAddress) -> bool {
        let mut leftovers = self.leftovers.values();
        leftovers.any(|left| {
            self.interfaces.has_name(link, &left.interface)
                && there.ip == left.address.ip
                && there.mark.is_of(left.mark)
        })
    }

    /// Returns the virtual router whose holding the event contests.
    fn handle_event(
        &self,
        node: &mut Node,
        event: Event<'_>,
        actions: &mut Vec<Action>,
    ) -> Option<RouterId> {
        match node.handle(self.clock.now(), event, actions) {
            Ok(handled) => handled.router.filter(|_| handled.contested),
            Err(discard) => {
                debug!(%discard, "an event was refused");
                None
            }
        }
    }

    /// Tries again to open sockets that could not be opened. Returns when to call this again.
    pub(super) fn retry_sockets(&mut self, now: Instant, node: &Node) -> Option<Instant> {
        self.interfaces.retry_sockets(now, node, &self.poller, &mut self.pending)
    }

    /// Uses the interfaces that have got the names of others, where these have been left. What the
    /// protocol asked for has to be carried out before.
    pub(super) fn bind_anew(&mut self, node: &Node) {
        self.interfaces.bind_anew(node, &self.delivery, &self.poller, &mut self.pending);
    }

    /// Reports every interface to the protocol again, whether it exists or not.
    pub(super) fn dispatch_links(&mut self) {
        self.pending.extend(self.interfaces.ids().map(PendingEvent::Link));
    }

    // ---- queries ---------------------------------------------------------------------------

    /// What status shows of a virtual router that the protocol does not know.
    pub(super) fn status(&self, id: RouterId) -> DriverStatus<'_> {
        let Some(state) = self.routers.get(&id) else { return DriverStatus::default() };
        DriverStatus {
            transitions: state.transitions.iter().rev().collect(),
            lease_until: self.delivery.lease_until(id),
            last_hook: state.last_hook.as_ref(),
            refusals: Some(&state.refusals),
        }
    }

    /// Whether the worker has done everything, and all hooks have ended.
    pub(super) fn is_idle(&self) -> bool {
        self.delivery.is_idle() && self.hooks.is_idle()
    }

    /// Records that the daemon ends as it was asked to, and another one follows.
    pub(super) fn ended_on_request(&mut self) {
        self.record.update_resumes(Resumes::ended_on_request);
    }

    /// When to wake up, at the latest.
    pub(super) fn wake_at(&mut self, now: Instant, at: Option<Instant>) {
        if let Err(error) = self.alarm.set(&self.clock, now, at) {
            error!(%error, "cannot set the timer");
        }
    }

    /// Records for the next daemon that the operator moved a virtual router away, or that this is
    /// over.
    ///
    /// # Errors
    /// The record could not be written.
    pub(super) fn record_held_back(&mut self, id: RouterId, held_back: bool) -> io::Result<()> {
        self.record.update(id, |entry| entry.held_back = held_back)
    }

    /// Removes the neighbour entries of multicast groups, and waits a moment for that.
    fn remove_groups(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        let mut left = groups.len();
        for (index, groups) in groups.into_values() {
            self.submit_groups(index, groups, Operation::RemoveGroups);
        }
        let end = self.clock.now() + GROUPS_TIMEOUT;
        while left > 0 && self.clock.now() < end {
            let done = self.worker.progress().filter_map(Progress::outcome).count();
            left = left.saturating_sub(done);
            let _ = self.poller.wait(Some(GROUPS_TIMEOUT / 100));
        }
    }

    /// Ends the helper process. If no other daemon follows, waits for that, and leaves nothing behind.
    pub(super) fn end(mut self, waits: bool) {
        if waits {
            self.remove_groups();
        }
        self.hooks.end(waits);
    }
}
