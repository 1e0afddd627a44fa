//! The machine round the protocol: carries out [`Action`]s and reports what happens.
//!
//! Everything privileged, everything with a file descriptor and everything with a clock is in this
//! room. One advert leaves by [`Host::perform`]; one arrives by [`Host::receive`].

pub mod advert_socket;
pub mod backoff;
mod bpf;
pub mod checks;
pub mod clock;
pub mod due;
pub mod echo;
pub mod exclusive;
pub mod letterbox;
pub mod neighbours;
pub mod netlink;
pub mod privileges;
pub mod record;
pub mod signals;
pub mod sys;
pub mod systemd;
pub mod tally;
pub mod wiretap;

pub use netlink::links;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use tracing::{debug, error, info, warn};

use crate::config::{Config, Hooks};
use crate::daemon::history::{self, History, Kind};
use crate::helper::{CheckRun, Finished, Helper, HookRun, HookState, Outcome};
use crate::vrrp::delivery::{
    self, Delivery, DueAdvert, DueAnnouncement, Effect, JobError, JobKind,
};
use crate::vrrp::{
    Action, Address, Check, Contention, Event, Family, Hook, HookOutcome, Instant, LinkAddress,
    LinkId, Mac, Node, Packet, Role, RouterConfig, RouterId, Transition, VirtualRouter, Vrid, Why,
};
use advert_socket::AdvertSocket;
use checks::CheckRuns;
use clock::{Alarm, Clock};
use due::Encoded;
use links::{Change, Links};
use neighbours::NeighbourSocket;
use netlink::{Done, Events, Failure, Found, Job, NetEvent, Report, Work, Worker};
use record::Record;
use tally::Tallies;

/// A source of news among the file descriptors; its number is what epoll reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Adverts(LinkId, Family),
    Neighbours(LinkId),
    Netlink,
    Worker,
    Helper,
    Timer,
    Other,
}

impl Source {
    fn token(self) -> u64 {
        let with = |kind: u64, link: LinkId| kind << 32 | u64::from(link.0);
        match self {
            Source::Adverts(link, Family::V4) => with(1, link),
            Source::Adverts(link, Family::V6) => with(2, link),
            Source::Neighbours(link) => with(3, link),
            Source::Netlink => 4 << 32,
            Source::Worker => 5 << 32,
            Source::Helper => 6 << 32,
            Source::Timer => 7 << 32,
            Source::Other => 8 << 32,
        }
    }

    fn of(token: u64) -> Source {
        let link = LinkId(token as u32);
        match token >> 32 {
            1 => Source::Adverts(link, Family::V4),
            2 => Source::Adverts(link, Family::V6),
            3 => Source::Neighbours(link),
            4 => Source::Netlink,
            5 => Source::Worker,
            6 => Source::Helper,
            7 => Source::Timer,
            _ => Source::Other,
        }
    }
}

/// Something the protocol must be told, noticed while doing something else.
#[derive(Clone, Debug)]
enum News {
    AddressGone(RouterId, IpAddr),
    Checked(String, CheckRun),
    Contention(Contention),
    HookFinished(RouterId, HookOutcome),
    Link(LinkId),
}

/// Virtual routers for which hooks run once: a sync group, or one by itself.
#[derive(Clone, Debug)]
struct Together {
    name: Arc<str>,
    group: bool,
    members: Vec<RouterId>,
}

/// Hooks that the helper was told to run.
struct Run {
    router: RouterId,
    hook: Hook,
    of: Arc<Together>,
}

/// The sockets on one interface, as long as it exists.
struct Port {
    index: u32,
    mac: Option<[u8; 6]>,
    v4: Option<AdvertSocket>,
    v6: Option<AdvertSocket>,
    neighbours: Option<NeighbourSocket>,
}

impl Port {
    fn adverts(&mut self, family: Family) -> &mut Option<AdvertSocket> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// What the driver keeps of one virtual router.
struct RouterState {
    /// As the router was last told: its last actions come when it has gone.
    config: Arc<RouterConfig>,
    /// Its last advert as bytes.
    encoded: Option<Encoded>,
    /// Whether all addresses were there and marked, and as of which state of the interface.
    intact: Option<(u64, bool)>,
    /// The newest last, at most [`TRANSITIONS`] of them.
    transitions: VecDeque<(SystemTime, Transition)>,
    last_hook: Option<LastHook>,
}

/// What status tells of a virtual router that the protocol does not know.
#[derive(Clone, Debug, Default)]
pub struct Beside<'a> {
    /// The last changes of its role, by the wall clock, the newest first.
    pub transitions: Vec<&'a (SystemTime, Transition)>,
    /// When the kernel removes its addresses if nobody renews them.
    pub lease_until: Option<Instant>,
    /// The last hook that ended.
    pub last_hook: Option<&'a LastHook>,
}

/// A hook that ended.
#[derive(Clone, Debug)]
pub struct LastHook {
    /// Which.
    pub hook: Hook,
    /// How.
    pub outcome: Outcome,
    /// When, by the wall clock.
    pub at: SystemTime,
    /// How long it ran.
    pub took: Duration,
}

impl RouterState {
    fn new(router: &VirtualRouter) -> Self {
        RouterState {
            config: Arc::clone(router.config()),
            encoded: None,
            intact: None,
            transitions: VecDeque::new(),
            last_hook: None,
        }
    }
}

/// The machine.
pub struct Host {
    clock: Clock,
    alarm: Alarm,
    epoll: Epoll,
    ready: Vec<EpollEvent>,
    /// Somebody else's descriptor is readable.
    others_ready: bool,
    /// When adverts were last received ...
    heard_at: Instant,
    /// ... and whether that was shortly after the time before.
    crowded: bool,
    worker: Worker,
    events: Events,
    links: Links,
    /// The picture of the interfaces is whole.
    synced: bool,
    link_names: BTreeMap<Arc<str>, LinkId>,
    ports: BTreeMap<LinkId, Port>,
    /// Boxed, as half of a map's places are empty.
    states: BTreeMap<RouterId, Box<RouterState>>,
    delivery: Delivery,
    /// What the worker was asked for, and when.
    jobs: BTreeMap<u64, (RouterId, JobKind, Instant)>,
    runs: BTreeMap<u64, Run>,
    next_number: u64,
    news: VecDeque<News>,
    helper: Helper,
    helper_gone: Option<io::Error>,
    /// When the helper is asked whether it is there.
    ask_at: Instant,
    /// What the checks found last.
    pub checks: CheckRuns,
    record: Record,
    hooks: BTreeMap<Arc<str>, Hooks>,
    /// Which virtual routers have their hooks together.
    groups: BTreeMap<RouterId, Arc<Together>>,
    /// What happened, for operators.
    pub history: History,
    /// Counted since start.
    pub tallies: Tallies,
}

impl Host {
    /// Opens what does not depend on interfaces.
    ///
    /// # Errors
    /// When the kernel refuses netlink, epoll or timers: nothing can be done then.
    pub fn new(clock: Clock, helper: Helper, worker: Worker, record: Record) -> io::Result<Self> {
        let host = Host {
            alarm: Alarm::new()?,
            others_ready: false,
            heard_at: Instant::START,
            crowded: false,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            ready: vec![EpollEvent::empty(); 64],
            worker,
            events: Events::open()?,
            links: Links::default(),
            synced: false,
            link_names: BTreeMap::new(),
            ports: BTreeMap::new(),
            states: BTreeMap::new(),
            delivery: Delivery::default(),
            jobs: BTreeMap::new(),
            runs: BTreeMap::new(),
            next_number: 1,
            news: VecDeque::new(),
            helper,
            helper_gone: None,
            ask_at: clock.now() + Helper::PING_INTERVAL,
            checks: CheckRuns::default(),
            record,
            hooks: BTreeMap::new(),
            groups: BTreeMap::new(),
            history: History::default(),
            tallies: Tallies::default(),
            clock,
        };
        if let Err(error) = host.events.ignore_renewals(host.worker.renewal_port()) {
            debug!(%error, "every renewal will be heard of");
        }
        host.listen(host.alarm.as_fd(), Source::Timer)?;
        host.listen(host.worker.as_fd(), Source::Worker)?;
        host.listen(host.events.as_fd(), Source::Netlink)?;
        host.listen(host.helper.as_fd(), Source::Helper)?;
        Ok(host)
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Also wakes up when this becomes readable; whoever owns it looks for himself.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn listen_to(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.listen(fd, Source::Other)
    }

    fn listen(&self, fd: BorrowedFd<'_>, source: Source) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, source.token());
        Ok(self.epoll.add(fd, event)?)
    }

    // ---- configuration ---------------------------------------------------------------------

    /// Follows the interfaces and hooks that the node's routers name now.
    ///
    /// # Errors
    /// When the kernel's picture of the interfaces cannot be asked for.
    pub fn follow(&mut self, node: &Node, config: &Config) -> io::Result<()> {
        self.follow_hooks(node, config);
        for (id, name) in node.links() {
            self.link_names.insert(name.clone(), id);
        }
        let routers = node.routers().map(|router| (router.id(), &**router.config()));
        if let Err(error) = self.record.assign(routers, clock::suspended()) {
            warn!(%error, "cannot write the record: a restart will begin as backup");
        }
        self.links.watch(self.link_names.keys().cloned());
        self.synced = false;
        self.tallies.follow(self.clock.now(), node);
        self.delivery.forget_removed(node);
        self.states.retain(|id, _| node.router(*id).is_some() || !self.delivery.is_idle_for(*id));
        for router in node.routers() {
            if let Some(state) = self.states.get_mut(&router.id()) {
                state.config = Arc::clone(router.config());
            }
        }
        let links: Vec<LinkId> = self.ports.keys().copied().collect();
        for link in links {
            self.equip(link, node);
        }
        self.events.dump()
    }

    fn follow_hooks(&mut self, node: &Node, config: &Config) {
        let routers = config.vrrp.routers.iter().map(|router| &router.name);
        let configured: BTreeSet<_> =
            routers.chain(config.vrrp.groups.iter().map(|group| &group.name)).collect();
        let before = std::mem::replace(&mut self.hooks, config.hooks.clone());
        for (name, hooks) in before {
            // What was removed leaves with its own hooks.
            let here = || node.find(&name).is_some() || node.find_group(&name).is_some();
            if !configured.contains(&name) && here() {
                self.hooks.insert(name, hooks);
            }
        }
        self.groups.clear();
        for group in node.groups() {
            let together = Arc::new(Together {
                name: group.name().clone(),
                group: true,
                members: group.members().to_vec(),
            });
            self.groups.extend(group.members().iter().map(|id| (*id, Arc::clone(&together))));
        }
    }

    /// Has the checks of this configuration carried out, and no others. Those that are as before go
    /// on undisturbed.
    pub fn watch(&mut self, config: &Config) {
        let settled = config.vrrp.checks.iter().map(|check| check.rise.max(check.fall));
        self.helper.set_checks(config.checks.iter().zip(settled));
        self.checks.keep_only(config.checks.iter().map(|plan| plan.name.as_str()));
        self.pump_helper();
    }

    // ---- news ------------------------------------------------------------------------------

    /// Hands on what came since the last call: adverts first, for they may change what everything
    /// else means. If nothing came, and it is to `wait`, it does so until something comes, or until
    /// the time to [wake up](Self::wake_at). Whether there may be more: only after a `false` may one
    /// wait.
    ///
    /// # Errors
    /// When the kernel's event sources themselves fail, or the helper process has ended.
    pub fn receive(
        &mut self,
        wait: bool,
        node: &mut Node,
        actions: &mut Vec<Action>,
    ) -> io::Result<bool> {
        let limit = if wait { self.alarm.limit(&self.clock) } else { Some(Duration::ZERO) };
        let count = sys::wait(self.epoll.0.as_fd(), &mut self.ready, limit)?;
        let mut more = count == self.ready.len();
        for place in 0..count {
            if let Source::Adverts(link, family) = self.source(place) {
                more |= self.receive_adverts(link, family, node, actions);
            }
        }
        for place in 0..count {
            // Of all but adverts and the timer there is little, and it may bring about more.
            let source = self.source(place);
            more |= !matches!(source, Source::Adverts(..) | Source::Timer);
            match source {
                Source::Adverts(..) => {}
                Source::Timer => self.alarm.fired(),
                Source::Neighbours(link) => self.receive_sightings(link),
                Source::Netlink => self.receive_netlink(node)?,
                Source::Worker => self.receive_reports(),
                Source::Helper => self.pump_helper(),
                Source::Other => self.others_ready = true,
            }
        }
        if count == self.ready.len() {
            self.ready.resize(2 * count, EpollEvent::empty());
        }
        match self.helper_gone.take() {
            Some(error) => Err(error),
            None => Ok(more),
        }
    }

    fn source(&self, place: usize) -> Source {
        Source::of(self.ready.get(place).map_or(0, EpollEvent::data))
    }

    /// How long to sleep, whatever comes, before anything is received again: where adverts come in
    /// thick, being woken up by each of them costs several times what they cost themselves. Never
    /// beyond a deadline, and not while an answer of the worker is awaited.
    pub fn lull(&mut self) -> Option<Duration> {
        let crowded = std::mem::take(&mut self.crowded) && self.jobs.is_empty();
        let left = || self.alarm.at().map_or(LULL, |at| at - self.clock.now()).min(LULL);
        crowded.then(left).filter(|left| *left > LULL / 8)
    }

    /// Whether what was [listened to](Self::listen_to) has become readable since the last call.
    pub fn others_ready(&mut self) -> bool {
        std::mem::take(&mut self.others_ready)
    }

    /// Whether more may be waiting.
    fn receive_adverts(
        &mut self,
        link: LinkId,
        family: Family,
        node: &mut Node,
        actions: &mut Vec<Action>,
    ) -> bool {
        let now = self.clock.now();
        let Some(socket) = self.ports.get_mut(&link).and_then(|p| p.adverts(family).as_mut())
        else {
            return false;
        };
        let tallies = &mut self.tallies;
        let outcome = socket.receive(|received| {
            let packet = Packet {
                link,
                source: received.source,
                destination: received.destination,
                ttl: received.ttl,
                message: received.message,
            };
            let outcome = node.handle(now, Event::Packet(packet), actions);
            let vrid = received.message.get(1).copied().and_then(Vrid::new);
            let meant = vrid.and_then(|vrid| node.meant(link, family, vrid));
            if let Some(router) = meant {
                tallies.of(router.id()).adverts_received += 1;
            }
            match outcome {
                Ok(()) => {
                    if let Some(router) = meant.filter(|router| router.role() == Role::Master) {
                        tallies.of(router.id()).contending_adverts += 1;
                    }
                }
                Err(discard) => {
                    tallies.discarded(meant.map(VirtualRouter::id), discard.name());
                    debug!(source = %received.source, %discard, "advert discarded");
                }
            }
        });
        match outcome {
            Ok(0) => false,
            Ok(count) => {
                self.crowded |= now - self.heard_at < CROWDED;
                self.heard_at = now;
                count >= AdvertSocket::AT_ONCE
            }
            Err(error) => {
                debug!(%error, "receiving adverts");
                false
            }
        }
    }

    fn receive_sightings(&mut self, link: LinkId) {
        let Some(socket) = self.ports.get_mut(&link).and_then(|p| p.neighbours.as_mut()) else {
            return;
        };
        let news = &mut self.news;
        let outcome = socket.receive(|seen| {
            let contention = Contention { link, address: seen.address, mac: Mac(seen.mac) };
            news.push_back(News::Contention(contention));
        });
        if let Err(error) = outcome {
            debug!(%error, "receiving announcements");
        }
    }

    fn receive_netlink(&mut self, node: &Node) -> io::Result<()> {
        let mut changes = Vec::new();
        let (links, synced) = (&mut self.links, &mut self.synced);
        self.events.read(|event| {
            match event {
                NetEvent::Resync => *synced = false,
                NetEvent::Synced => *synced = true,
                NetEvent::Link(_)
                | NetEvent::LinkGone { .. }
                | NetEvent::Address(_)
                | NetEvent::AddressGone { .. } => {}
            }
            links.apply(event, |change| changes.push(change));
        })?;
        for change in changes {
            self.link_changed(change, node);
        }
        if self.links.incomplete() {
            self.events.dump()?;
        }
        Ok(())
    }

    fn link_changed(&mut self, change: Change, node: &Node) {
        match change {
            Change::Appeared { name, link: found } | Change::Changed { name, link: found } => {
                let Some(&link) = self.link_names.get(&name) else { return };
                let (index, mac) = (found.index, found.mac);
                let same = self.ports.get(&link).is_some_and(|p| p.index == index && p.mac == mac);
                if !same {
                    info!(interface = %name, index, "interface found");
                    let port = Port { index, mac, v4: None, v6: None, neighbours: None };
                    self.ports.insert(link, port);
                    self.equip(link, node);
                }
                self.news.push_back(News::Link(link));
            }
            Change::Gone { name } => {
                let Some(&link) = self.link_names.get(&name) else { return };
                warn!(interface = %name, "interface is gone; waiting for it to come back");
                self.ports.remove(&link);
                self.news.push_back(News::Link(link));
            }
            Change::Addresses { name } | Change::Foreign { name, .. } => {
                let Some(&link) = self.link_names.get(&name) else { return };
                if self.news.iter().any(|news| matches!(news, News::Link(told) if *told == link)) {
                    return;
                }
                if self.lacks_a_socket(link, node) {
                    // A family that was switched off may have been switched on.
                    self.equip(link, node);
                }
                self.news.push_back(News::Link(link));
            }
            Change::Lost { name, ip } => {
                let Some(&link) = self.link_names.get(&name) else { return };
                for router in node.routers().filter(|router| router.link() == link) {
                    if router.addresses().iter().any(|address| address.ip == ip) {
                        self.news.push_back(News::AddressGone(router.id(), ip));
                    }
                }
            }
        }
    }

    fn lacks_a_socket(&mut self, link: LinkId, node: &Node) -> bool {
        let Some(port) = self.ports.get_mut(&link) else { return false };
        let mut here = node.routers().filter(|router| router.link() == link);
        here.any(|router| port.adverts(router.config().family).is_none())
    }

    /// Opens the sockets that the routers on this link need, and tells the kernel what to pass.
    fn equip(&mut self, link: LinkId, node: &Node) {
        let Some(name) =
            self.link_names.iter().find(|(_, id)| **id == link).map(|(n, _)| n.clone())
        else {
            return;
        };
        let here = || node.routers().filter(|router| router.link() == link);
        for family in [Family::V4, Family::V6] {
            let vrids: Vec<Vrid> = here()
                .filter(|router| router.config().family == family)
                .map(|router| router.config().vrid)
                .collect();
            if let Err(error) = self.equip_adverts(link, family, &vrids) {
                warn!(interface = %name, %family, %error, "cannot open the advert socket");
            }
        }
        let addresses: Vec<IpAddr> =
            here().flat_map(|router| router.addresses().iter()).map(|a| a.ip).collect();
        if let Err(error) = self.equip_neighbours(link, &addresses) {
            warn!(interface = %name, %error, "cannot open the announcement socket");
        }
    }

    fn equip_adverts(&mut self, link: LinkId, family: Family, vrids: &[Vrid]) -> io::Result<()> {
        let Some(port) = self.ports.get_mut(&link) else { return Ok(()) };
        let index = port.index;
        let slot = port.adverts(family);
        if vrids.is_empty() {
            *slot = None;
            return Ok(());
        }
        if let Some(socket) = slot {
            return socket.listen_for(vrids);
        }
        let socket = AdvertSocket::open(index, family)?;
        socket.listen_for(vrids)?;
        let token = Source::Adverts(link, family).token();
        self.epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        *slot = Some(socket);
        Ok(())
    }

    fn equip_neighbours(&mut self, link: LinkId, addresses: &[IpAddr]) -> io::Result<()> {
        let Some(port) = self.ports.get_mut(&link) else { return Ok(()) };
        if port.neighbours.is_none() {
            let socket = NeighbourSocket::open(port.index, port.mac)?;
            let token = Source::Neighbours(link).token();
            self.epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token))?;
            port.neighbours = Some(socket);
        }
        match &mut port.neighbours {
            Some(socket) => socket.watch(addresses),
            None => Ok(()),
        }
    }

    fn receive_reports(&mut self) {
        let reports: Vec<Report> = self.worker.reports().collect();
        for report in reports {
            match report {
                Report::Claimed { ticket, part } => self.claimed(ticket, part),
                Report::Done(done) => self.report(done),
            }
        }
    }

    fn claimed(&mut self, ticket: u64, part: Range<usize>) {
        if let Some((router, ..)) = self.jobs.get(&ticket) {
            self.delivery.claimed_part(*router, part);
        }
    }

    fn report(&mut self, report: Done) {
        let Some((router, kind, asked_at)) = self.jobs.remove(&report.ticket) else { return };
        let started = self.clock.instant(report.started);
        let name = self.states.get(&router).map_or("", |state| &state.config.name);
        for (address, failure) in &report.failures {
            match (kind, failure) {
                (JobKind::Claim, _) => {
                    error!(router = %name, %address, "cannot claim {address}: {failure}");
                }
                // The interface's own news say the rest.
                (JobKind::Release, Failure::NoDevice)
                | (JobKind::Renew, Failure::Gone | Failure::Late | Failure::NoDevice) => {
                    debug!(router = %name, %address, ?kind, "{failure}");
                }
                (JobKind::Release | JobKind::Renew, _) => {
                    warn!(router = %name, %address, ?kind, "the kernel refused: {failure}");
                }
            }
        }
        if kind == JobKind::Renew {
            let counters = self.tallies.of(router);
            if report.failures.is_empty() {
                let finished = self.clock.instant(report.finished);
                counters.renewal_lateness.note(finished - asked_at);
            } else {
                counters.renewals_failed += 1;
            }
        }
        self.finished(router, kind, started, job_outcome(kind, &report.failures));
    }

    fn finished(
        &mut self,
        router: RouterId,
        kind: JobKind,
        started: Instant,
        outcome: Result<(), JobError>,
    ) {
        let now = self.clock.now();
        let missing = self.delivery.finished(now, router, kind, started, outcome);
        self.news.extend(missing.into_iter().map(|ip| News::AddressGone(router, ip)));
    }

    fn pump_helper(&mut self) {
        let mut finished: Vec<Finished> = Vec::new();
        let outcome = self.helper.poll(|run| finished.push(run));
        let checked = self.helper.results().into_iter();
        self.news.extend(checked.map(|(name, run)| News::Checked(name, run)));
        match outcome {
            Ok(()) => self.watch_helper(),
            Err(error) => self.lose_helper(&error),
        }
        for run in finished {
            let Some(Run { router, hook, of }) = self.runs.remove(&run.number) else { continue };
            let succeeded = run.outcome == Outcome::Done;
            self.tallies.of(router).hook_ended(run.state.name(), run.outcome.name());
            if run.outcome.is_failure() {
                let text = format!("{}: {}", run.state, run.outcome);
                self.history.note(history::Event::now(Kind::Hook, Some(&run.router), text));
            }
            let last = LastHook {
                hook,
                outcome: run.outcome.clone(),
                at: SystemTime::now(),
                took: run.duration,
            };
            for member in &of.members {
                if hook == Hook::Master && succeeded {
                    // Unwritten, the hook runs once more after a restart, as hooks must bear.
                    let _ = self.record.note(*member, |entry| entry.hook_done = entry.master);
                }
                if let Some(state) = self.states.get_mut(member) {
                    state.last_hook = Some(last.clone());
                }
            }
            // One that never began has nothing to say; nor has one whose question was asked anew.
            let asked_anew = match hook {
                Hook::BeforeClaim | Hook::BeforeRelease => {
                    self.runs.values().any(|other| other.hook == hook && other.of.name == of.name)
                }
                Hook::Master | Hook::Backup | Hook::Fault | Hook::Stop => false,
            };
            if run.outcome != Outcome::Overtaken && !asked_anew {
                self.news.push_back(News::HookFinished(router, HookOutcome { hook, succeeded }));
            }
        }
    }

    /// A daemon without hooks and checks would lie about its state; the next one has a helper.
    fn lose_helper(&mut self, error: &io::Error) {
        if self.helper_gone.is_some() {
            return;
        }
        let text = format!("the helper process, which runs hooks and checks, is gone: {error}");
        error!("{text}; ending, so that whoever starts vipd again starts a new one");
        self.history.note(history::Event::now(Kind::Warning, None, text.clone()));
        self.helper_gone = Some(io::Error::new(error.kind(), text));
    }

    /// Now and then a helper that says nothing is asked whether it is there.
    pub fn ask_helper(&mut self, now: Instant) -> Instant {
        if now >= self.ask_at && self.helper_gone.is_none() {
            self.ask_at = now + Helper::PING_INTERVAL;
            match self.helper.check_alive() {
                Ok(()) => self.watch_helper(),
                Err(error) => self.lose_helper(&error),
            }
        }
        self.ask_at
    }

    /// Waits for room in the helper's socket only while something waits for it.
    fn watch_helper(&mut self) {
        let mut flags = EpollFlags::EPOLLIN;
        if self.helper.wants_write() {
            flags |= EpollFlags::EPOLLOUT;
        }
        let mut event = EpollEvent::new(flags, Source::Helper.token());
        if let Err(error) = self.epoll.modify(self.helper.as_fd(), &mut event) {
            debug!(%error, "watching the helper");
        }
    }

    /// Tells the protocol what was noticed meanwhile. Whether there was anything.
    pub fn tell(&mut self, node: &mut Node, actions: &mut Vec<Action>) -> bool {
        let mut told = false;
        loop {
            if let Some(event) = self.delivery.next_event() {
                told = true;
                if let Event::AddressLost(router, _) = event
                    && node.router(router).is_some_and(VirtualRouter::has_addresses)
                {
                    self.tallies.of(router).addresses_removed += 1;
                }
                self.handle(node, event, actions);
            } else if let Some(news) = self.news.pop_front() {
                told = true;
                self.tell_news(news, node, actions);
            } else {
                return told;
            }
        }
    }

    fn handle(&self, node: &mut Node, event: Event<'_>, actions: &mut Vec<Action>) {
        if let Err(discard) = node.handle(self.clock.now(), event, actions) {
            debug!(%discard, "an event was refused");
        }
    }

    fn tell_news(&mut self, news: News, node: &mut Node, actions: &mut Vec<Action>) {
        match news {
            News::AddressGone(router, ip) => {
                if !self.present(router, ip, node) {
                    self.delivery.address_gone(self.clock.now(), router, ip);
                }
            }
            News::Checked(name, run) => {
                let Some(check) = node.find_check(&name) else { return };
                let (id, before) = (check.id(), check.verdict());
                let probe = checks::probe(run.result);
                self.handle(node, Event::Probe { check: id, probe }, actions);
                let after = node.find_check(&name).map_or(before, Check::verdict);
                if let Some(text) = self.checks.note(&name, run, before, after) {
                    self.history.note(history::Event::now(Kind::Check, None, text));
                }
            }
            News::Contention(seen) => {
                let ours = |router: &VirtualRouter| {
                    router.link() == seen.link
                        && router.role() == Role::Master
                        && router.addresses().iter().any(|address| address.ip == seen.address)
                };
                if let Some(router) = node.routers().find(|router| ours(router)) {
                    self.tallies.of(router.id()).contending_announcements += 1;
                }
                self.handle(node, Event::Contention(seen), actions);
            }
            News::HookFinished(router, outcome) => {
                self.handle(node, Event::HookFinished(router, outcome), actions);
            }
            News::Link(link) => {
                let Some((_, name)) = node.links().find(|(id, _)| *id == link) else { return };
                let up = self.links.link(name).is_some_and(|link| link.up);
                let addresses = self.addresses(name);
                self.handle(node, Event::Link { link, up, addresses: &addresses }, actions);
            }
        }
    }

    fn present(&self, router: RouterId, ip: IpAddr, node: &Node) -> bool {
        node.router(router).is_some_and(|router| {
            self.links.addresses(&router.config().interface).iter().any(|there| there.ip == ip)
        })
    }

    /// The kernel's picture of the interfaces is complete: until then nothing is decided.
    pub fn knows_links(&self) -> bool {
        self.synced
    }

    /// The addresses now on an interface.
    pub fn addresses(&self, interface: &str) -> Vec<LinkAddress> {
        let told = |a: &Found| LinkAddress { ip: a.ip, ours: a.ours, usable: a.usable };
        self.links.addresses(interface).iter().map(told).collect()
    }

    /// Every watched link is told anew, present or not.
    pub fn tell_links(&mut self) {
        self.news.extend(self.link_names.values().copied().map(News::Link));
    }

    /// Removes what an earlier daemon left on an interface and nobody is configured to hold now.
    pub fn release_leftover(&mut self, interface: &str, address: Address) {
        let Some(link) = self.links.link(interface) else { return };
        info!(interface, %address, "removing what an earlier daemon left");
        let ticket = self.next_number;
        self.next_number += 1;
        let work = Work::Release { addresses: Arc::from([address]) };
        self.worker.submit(Job { ticket, index: link.index, work });
    }

    /// Nothing waits: neither the worker nor a hook.
    pub fn is_idle(&self) -> bool {
        self.delivery.is_idle() && self.helper.idle()
    }

    /// When to wake up, at the latest.
    pub fn wake_at(&mut self, now: Instant, at: Option<Instant>) {
        if let Err(error) = self.alarm.set(&self.clock, now, at) {
            error!(%error, "cannot set the timer");
        }
    }

    // ---- actions ---------------------------------------------------------------------------

    /// Carries an action out when those before it for the same router are done. What can leave at
    /// once leaves with everything else of this turn, by [`settle`](Self::settle).
    pub fn perform(&mut self, now: Instant, action: Action, node: &Node) {
        let id = action.router();
        let router = node.router(id);
        if let Action::Warn { warning, .. } = &action {
            let name = router.map_or("", |router| &router.config().name);
            warn!(router = name, "{warning}");
            let event = history::Event::now(Kind::Warning, Some(name), warning.to_string());
            self.history.note(event);
            return;
        }
        let state = match (router, self.states.get_mut(&id)) {
            // One that was removed may be forgotten by now, and its last actions are to come.
            (_, Some(state)) => state,
            (Some(router), None) => {
                self.states.entry(id).or_insert_with(|| Box::new(RouterState::new(router)))
            }
            (None, None) => return,
        };
        if let Action::Notify(transition) = &action {
            if state.transitions.len() == TRANSITIONS {
                state.transitions.pop_front();
            }
            // Most routers never have as many as a growing list makes room for.
            state.transitions.reserve_exact(1);
            state.transitions.push_back((SystemTime::now(), transition.clone()));
            self.tallies.changed(now, transition);
            // Unwritten, a restart begins as backup or preempts: it is not worth a role.
            let held_back = router.is_some_and(VirtualRouter::held_back);
            let _ = self.record.note(id, |entry| entry.held_back = held_back);
        }
        if self.delivery.push(self.clock.now(), action, node) {
            self.settle();
        }
        self.start_jobs();
    }

    /// Lets everything leave that is due: adverts in one go, then what goes with them.
    pub fn settle(&mut self) {
        while let Some(mut effect) = self.delivery.next(self.clock.now()) {
            match &mut effect {
                Effect::Advertise(adverts) => self.advertise(adverts),
                Effect::Announce(announcements) => self.announce(announcements),
                Effect::Notify(transitions) => {
                    for transition in transitions.drain(..) {
                        self.notify(transition.router, &transition);
                    }
                }
                Effect::Start(job) => self.start(job),
            }
            self.delivery.recycle(effect);
        }
    }

    fn advertise(&mut self, due: &mut Vec<DueAdvert>) {
        due.retain(|advert| self.prepare(advert));
        let mut failed = Vec::new();
        for group in due.chunk_by(|one, other| one.socket() == other.socket()) {
            let Some((link, family)) = group.first().map(DueAdvert::socket) else { continue };
            let Some(socket) = self.ports.get_mut(&link).and_then(|p| p.adverts(family).as_mut())
            else {
                continue;
            };
            let states = &self.states;
            let messages = group.iter().flat_map(|due| {
                let encoded = states.get(&due.router).and_then(|state| state.encoded.as_ref());
                let messages = encoded.into_iter().flat_map(Encoded::messages);
                messages.map(|(to, message)| advert_socket::Advert { from: due.from, to, message })
            });
            socket.send_many(messages, |place, error| failed.push((place, error)));
            let now = self.clock.now();
            let mut failures = failed.drain(..).peekable();
            let mut place = 0;
            for due in group {
                place += due.to.len();
                let mut outcome = Ok(());
                while let Some((_, error)) = failures.next_if(|(failed, _)| *failed < place) {
                    outcome = Err(error);
                }
                self.advertised(now, due, outcome);
            }
        }
    }

    /// Whether there is a socket for the advert; if so, it is there as bytes.
    fn prepare(&mut self, due: &DueAdvert) -> bool {
        let (link, family) = due.socket();
        let has_socket =
            self.ports.get_mut(&link).is_some_and(|port| port.adverts(family).is_some());
        let Some(state) = self.states.get_mut(&due.router).filter(|_| has_socket) else {
            self.delivery.unsent(due.router);
            return false;
        };
        if !state.encoded.as_ref().is_some_and(|encoded| encoded.is(due)) {
            state.encoded = Some(Encoded::new(due));
        }
        true
    }

    /// The kernel has taken an advert, or has not.
    fn advertised(&mut self, now: Instant, due: &DueAdvert, outcome: io::Result<()>) {
        let counters = self.tallies.of(due.router);
        let accepted_before = self.delivery.sent(now, due.router, outcome.is_ok());
        match outcome {
            Ok(()) => {
                counters.adverts_sent += 1;
                if let Some(due) = due.due {
                    counters.advert_lateness.note(now - due);
                }
                self.record.sent(due.router, self.clock.boottime_of(now));
            }
            Err(error) => {
                if accepted_before {
                    let name = self.states.get(&due.router).map_or("", |s| &s.config.name);
                    warn!(router = %name, %error, "the kernel refuses adverts");
                }
                counters.adverts_refused += 1;
            }
        }
    }

    fn announce(&mut self, due: &[DueAnnouncement]) {
        for group in due.chunk_by(|one, other| one.link == other.link) {
            let Some(link) = group.first().map(|due| due.link) else { continue };
            let Some(socket) = self.ports.get_mut(&link).and_then(|p| p.neighbours.as_mut()) else {
                continue;
            };
            if let Err(error) = socket.announce(group.iter().flat_map(DueAnnouncement::ips)) {
                debug!(%error, "the kernel refused an announcement");
            }
            for due in group.iter().filter(|due| due.completes_round) {
                self.tallies.of(due.router).announcements += 1;
            }
        }
    }

    /// Hands jobs to the worker at once; what else is due leaves later in this turn.
    fn start_jobs(&mut self) {
        while let Some(job) = self.delivery.next_job() {
            self.start(&job);
        }
    }

    fn start(&mut self, job: &delivery::Job) {
        let (id, kind) = (job.router, job.work.kind());
        let now = self.clock.now();
        let Some(index) = self.ports.get(&job.link).map(|port| port.index) else {
            // Without the interface there are no addresses to remove, and none can be added.
            let outcome = if kind == JobKind::Release { Ok(()) } else { Err(JobError::Refused) };
            self.finished(id, kind, now, outcome);
            return;
        };
        let work = match &job.work {
            delivery::Work::Claim { addresses, lifetime } => Work::Claim {
                addresses: addresses.clone(),
                lifetime: *lifetime,
                absent: self.lacks_all(id, addresses),
            },
            delivery::Work::Release { addresses } => Work::Release { addresses: addresses.clone() },
            delivery::Work::Renew { addresses, lifetime, not_after } => Work::Renew {
                addresses: addresses.clone(),
                lifetime: *lifetime,
                not_after: self.clock.boottime_of(*not_after),
                intact: self.has_all(id, addresses),
            },
        };
        let ticket = self.next_number;
        self.next_number += 1;
        self.jobs.insert(ticket, (id, kind, now));
        self.worker.submit(Job { ticket, index, work });
    }

    /// Whether the kernel has told of none of these addresses on the router's interface.
    fn lacks_all(&self, id: RouterId, addresses: &[Address]) -> bool {
        let Some(state) = self.states.get(&id) else { return false };
        let there = self.links.addresses(&state.config.interface);
        let there: HashSet<IpAddr> = there.iter().map(|address| address.ip).collect();
        self.synced && !addresses.iter().any(|address| there.contains(&address.ip))
    }

    /// Whether it has told of all of them, marked; looked at only when something has changed.
    fn has_all(&mut self, id: RouterId, addresses: &[Address]) -> bool {
        let Some(state) = self.states.get_mut(&id) else { return false };
        let changes = self.links.changes(&state.config.interface);
        let known = state.intact.filter(|(as_of, _)| *as_of == changes);
        let there = self.links.addresses(&state.config.interface);
        let look = || {
            let ours = there.iter().filter(|address| address.ours).map(Found::address);
            let ours: HashSet<Address> = ours.collect();
            addresses.iter().all(|address| ours.contains(address))
        };
        let (_, intact) = *state.intact.insert(known.unwrap_or_else(|| (changes, look())));
        intact && self.synced
    }

    /// The one line at INFO per change of role, its place in history, and the hooks that go with it.
    fn notify(&mut self, id: RouterId, transition: &Transition) {
        let Some(state) = self.states.get(&id) else { return };
        let config = &state.config;
        info!(
            router = %config.name,
            from = %transition.from,
            to = %transition.to,
            priority = transition.priority.get(),
            "{}: {} -> {}: {}",
            config.name,
            transition.from,
            transition.to,
            transition.why
        );
        self.history.note(history::Event::change(
            &config.name,
            transition.from.name(),
            transition.to.name(),
            transition.why.to_string(),
        ));
        let of = self.groups.get(&id).cloned().unwrap_or_else(|| {
            Arc::new(Together { name: config.name.clone(), group: false, members: vec![id] })
        });
        let hooks = self.hooks.get(&of.name);
        let master = transition.to == Role::Master;
        let resumed = transition.why == Why::Resumed;
        let has_hook = hooks.is_some_and(|h| h.master.is_some() || h.notify.is_some());
        let under_way =
            self.runs.values().any(|run| run.hook == Hook::Master && run.of.name == of.name);
        let _ = self.record.note(id, |entry| {
            entry.master = master;
            let done = !has_hook || (resumed && !transition.hooks && !under_way);
            entry.hook_done = master && done;
        });
        if resumed {
            self.record.resumed(clock::boottime());
        }
        if !transition.hooks {
            return;
        }
        let none = Hooks::default();
        let hooks = hooks.unwrap_or(&none);
        let (state, hook, command) = match transition.to {
            Role::Master => (HookState::Master, Hook::Master, &hooks.master),
            Role::Backup => (HookState::Backup, Hook::Backup, &hooks.backup),
            Role::Fault => (HookState::Fault, Hook::Fault, &hooks.fault),
            Role::Stopped => (HookState::Stop, Hook::Stop, &hooks.stop),
            Role::Claiming => (HookState::BeforeClaim, Hook::BeforeClaim, &hooks.before_claim),
            Role::Leaving if transition.before_release => {
                (HookState::BeforeRelease, Hook::BeforeRelease, &hooks.before_release)
            }
            Role::Leaving | Role::Waiting => return,
        };
        let notify = match state {
            HookState::BeforeRelease | HookState::BeforeClaim => {
                if command.is_none() {
                    // Nothing is to be waited for.
                    let outcome = HookOutcome { hook, succeeded: true };
                    self.news.push_back(News::HookFinished(id, outcome));
                }
                None
            }
            HookState::Master | HookState::Backup | HookState::Fault | HookState::Stop => {
                hooks.notify.clone()
            }
        };
        if command.is_none() && notify.is_none() {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        let members: Vec<&RouterConfig> = of
            .members
            .iter()
            .filter_map(|member| Some(&*self.states.get(member)?.config))
            .collect();
        let mut interfaces: Vec<&str> = members.iter().map(|config| &*config.interface).collect();
        interfaces.dedup();
        let run = HookRun {
            router: of.name.to_string(),
            group: of.group,
            number,
            state,
            previous: transition.from.name().to_owned(),
            reason: transition.why.to_string(),
            priority: transition.priority.get(),
            addresses: members
                .iter()
                .flat_map(|config| config.all_addresses())
                .map(|address| address.ip)
                .collect(),
            interface: interfaces.join(" "),
            commands: command.iter().cloned().collect(),
            notify,
        };
        if hook == Hook::Master {
            for member in &of.members {
                let _ = self.record.note(*member, |entry| entry.hook_done = false);
            }
        }
        self.runs.insert(number, Run { router: id, hook, of });
        self.helper.run(run);
        self.pump_helper();
    }

    /// What status tells of a virtual router that the protocol does not know.
    pub fn beside(&self, id: RouterId) -> Beside<'_> {
        let Some(state) = self.states.get(&id) else { return Beside::default() };
        Beside {
            transitions: state.transitions.iter().rev().collect(),
            lease_until: self.delivery.lease_until(id),
            last_hook: state.last_hook.as_ref(),
        }
    }

    /// Writes down for the next daemon that the operator moved a virtual router away, or that this
    /// is over.
    ///
    /// # Errors
    /// When that could not be written.
    pub fn record_held_back(&mut self, id: RouterId, held_back: bool) -> io::Result<()> {
        self.record.note(id, |entry| entry.held_back = held_back)
    }

    /// Ends the helper process.
    pub fn end(self) {
        self.helper.end();
    }
}

/// The kernel's release, if it is older than 5.18: addresses then carry no mark, and ours could not
/// be told from the host's.
pub fn too_old_kernel() -> Option<String> {
    let system = nix::sys::utsname::uname().ok()?;
    let release = system.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (version < (5, 18)).then_some(release)
}

/// Changes of role that status tells of each virtual router; `vipd events` tells them all.
const TRANSITIONS: usize = 5;
/// Adverts that come at shorter intervals are not waited for one by one ...
const CROWDED: Duration = Duration::from_millis(2);
/// ... and none of them waits for longer than a millisecond.
const LULL: Duration = Duration::from_micros(900);
/// Of several failures the first counts; one that came too late is told as such in any case.
fn job_outcome(kind: JobKind, failures: &[(Address, Failure)]) -> Result<(), JobError> {
    let error = |failure: &Failure| match failure {
        Failure::AlreadyThere => JobError::AlreadyThere,
        Failure::Late => JobError::TooLate,
        Failure::Gone | Failure::NoDevice | Failure::Os { .. } => JobError::Refused,
    };
    let mut errors = failures.iter().map(|(_, failure)| error(failure));
    let late = kind == JobKind::Renew && errors.clone().any(|error| error == JobError::TooLate);
    match errors.next() {
        None => Ok(()),
        Some(_) if late => Err(JobError::TooLate),
        Some(first) => Err(first),
    }
}
