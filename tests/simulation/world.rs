//! Hosts, their kernels and the network between them: drives the real [`Node`] in virtual time.
//!
//! A host is a machine (link, own addresses, claimed addresses with their leases) and, while its
//! daemon runs, a process ([`Node`], [`Delivery`], a worker of some speed). All decisions are made
//! by the daemon's own code; this file only simulates the machine and the network.
//! [`Watch`](super::watch::Watch) checks at every step what the node must never do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vipd::vrrp::delivery::{Delivery, DueAdvert, Job, JobError, JobKind, Output, Work};
use vipd::vrrp::record::{self, PreviousRecord, RecordedAddress, Resumes};
use vipd::vrrp::{
    Action, Address, AddressState, Binding, Command, Config, Contention, Drain, Event, Family,
    Hook, HookOutcome, Instant, LinkAddress, LinkId, LinkState, Mac, Mark, MasterHook,
    MissingSockets, Node, Packet, Priority, Probe, RecordEntry, Role, RouterConfig, RouterId,
    SendError, Stop, Transition, VirtualRouter, Vrid, Warning, Why,
};

use super::random::Random;
use super::watch::Watch;

const MS: u64 = 1_000_000;
/// The machine that has the foreign addresses.
const FOREIGN: Mac = Mac([2, 0, 0, 0, 9, 9]);

/// The network between two hosts, one way.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub cut: bool,
    pub loss_percent: u64,
    pub duplicate_percent: u64,
    pub corrupt_percent: u64,
    pub delay: (Duration, Duration),
}

impl Path {
    pub const GOOD: Path = Path {
        cut: false,
        loss_percent: 0,
        duplicate_percent: 0,
        corrupt_percent: 0,
        delay: (Duration::from_micros(20), Duration::from_micros(400)),
    };
}

/// Speed of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Its clock is this many millionths faster than true time.
    pub ppm: i64,
    /// How late a deadline is acted on, at most.
    pub late: Duration,
    /// How long the worker needs for a job, at least and at most.
    pub worker: (Duration, Duration),
    /// How long each hook takes, in percent of its limit; a random time if `None`.
    pub hook: Option<u32>,
}

impl Pace {
    pub const GOOD: Pace = Pace {
        ppm: 0,
        late: Duration::from_micros(100),
        worker: (Duration::from_micros(50), Duration::from_micros(300)),
        hook: None,
    };
}

/// What a packet filter of a host does with its own adverts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Pass,
    /// Drops those to the unicast address of this host.
    DropTo(usize),
    DropAll,
}

/// An address in a kernel.
#[derive(Clone, Copy, Debug)]
struct Held {
    mark: Mark,
    /// The renewal that it belongs to: an expiry of an earlier one is ignored.
    generation: u64,
    expires: bool,
}

impl Held {
    /// Whether the daemon of the machine added it.
    fn is_ours(&self) -> bool {
        self.mark != Mark::None && self.mark != OTHER_DAEMON
    }
}

#[derive(Debug)]
pub struct Machine {
    pub name: String,
    pub config: Config,
    pub pace: Pace,
    pub powered: bool,
    pub link_up: bool,
    /// The same of its interface on the second link.
    pub second_up: bool,
    /// Addresses that its kernel refuses to add.
    pub refuses: BTreeSet<IpAddr>,
    /// Whether `before_claim` hooks fail.
    pub vetoes: bool,
    /// Which of its adverts its packet filter drops.
    pub filter: Filter,
    /// Whether no socket can be opened, as without free descriptors.
    pub no_sockets: bool,
    /// The link-layer address of the interface on each link.
    macs: [Mac; 2],
    /// Its own addresses, each with the link that it is on, as the kernel lists them.
    own: Vec<(usize, LinkAddress)>,
    /// Whether the devices of each link are ports of a bridge, which takes all that arrives.
    ports: [bool; 2],
    /// The devices that exist, those with even numbers on the first link.
    devices: BTreeSet<usize>,
    /// The device that has the name of each link.
    named: [Option<usize>; 2],
    /// Shared addresses, with the device that they are on.
    kernel: BTreeMap<(usize, IpAddr), Held>,
    /// Those of them that another host has, too, so that the kernel does not use them.
    duplicates: BTreeSet<IpAddr>,
    /// When the kernel or another program removed an address: the daemon is notified a little
    /// later.
    gone: BTreeMap<(usize, IpAddr), u64>,
    /// What the last daemon left for the next one.
    record: PreviousRecord,
    /// Kept over a restart and a reboot.
    drained: Option<Drain>,
    pub process: Option<Process>,
    /// What its workers have carried out.
    pub jobs_done: u64,
}

impl Machine {
    /// Whether a client that asks for this address is answered.
    pub fn answers(&self, ip: IpAddr) -> bool {
        self.macs.iter().any(|mac| self.answers_at(ip, *mac))
    }

    /// The same of a client that knows this link-layer address.
    fn answers_at(&self, ip: IpAddr, mac: Mac) -> bool {
        let there = |device: &usize| {
            let link = link_of_device(*device);
            self.is_up(link)
                && !self.ports[link]
                && self.macs[link] == mac
                && self.kernel.contains_key(&(*device, ip))
                && !self.duplicates.contains(&ip)
        };
        self.powered && self.devices.iter().any(there)
    }

    fn is_up(&self, link: usize) -> bool {
        if link == 0 { self.link_up } else { self.second_up }
    }

    /// Whether an interface has an own address, in whatever state.
    pub fn has_own(&self, link: usize, ip: IpAddr) -> bool {
        self.own.iter().any(|(on, own)| (*on, own.ip) == (link, ip))
    }

    /// Whether the kernel has the address, by our doing or not.
    pub fn holds(&self, ip: IpAddr) -> bool {
        self.held(ip).next().is_some()
    }

    /// What the kernel has of an address, on any device.
    fn held(&self, ip: IpAddr) -> impl Iterator<Item = &Held> {
        self.kernel.iter().filter(move |((_, there), _)| *there == ip).map(|(_, held)| held)
    }

    /// The addresses that its daemon has added, and their links.
    pub fn ours(&self) -> impl Iterator<Item = (usize, IpAddr)> {
        self.kernel.iter().filter(|(_, held)| held.is_ours()).map(|(at, _)| *at)
    }

    /// Whether the kernel has the address on this device, added by its daemon.
    fn holds_ours_on(&self, device: usize, ip: IpAddr) -> bool {
        self.kernel.get(&(device, ip)).is_some_and(Held::is_ours)
    }

    /// The mark of an address of a device.
    fn mark(&self, device: usize, ip: IpAddr) -> Mark {
        self.kernel.get(&(device, ip)).map_or(Mark::None, |held| held.mark)
    }

    pub fn node(&self) -> Option<&Node> {
        self.process.as_ref().map(|process| &process.node)
    }

    pub fn role(&self, router: usize) -> Option<Role> {
        self.node()?.routers().nth(router).map(|router| router.role())
    }
}

#[derive(Debug)]
pub struct Process {
    pub node: Node,
    pub watch: Watch,
    started: u64,
    epoch: u64,
    pub frozen: bool,
    /// What arrived while it was frozen.
    inbox: VecDeque<Occurrence>,
    delivery: Delivery,
    record: BTreeMap<RouterId, RecordEntry>,
    /// Those of the virtual routers that it has or had.
    marks: BTreeMap<RouterId, Mark>,
    resumes: Resumes,
    /// What the worker is to do or does, when it begins with it, and on which device.
    jobs: BTreeMap<u64, (Job, u64, Option<usize>)>,
    next_ticket: u64,
    worker_free_at: u64,
    wake: Option<(Instant, u64)>,
    /// Until then lateness is no fault of the daemon: it was frozen, or the machine was slow.
    excused_until: u64,
    /// The link-layer addresses that its sockets announce: as they were last reported.
    macs: [Mac; 2],
    /// The device of each link that it acts on.
    bindings: [Option<Binding>; 2],
}

impl Process {
    /// What the next daemon finds.
    fn left(&self) -> PreviousRecord {
        let mut left = PreviousRecord::default();
        for router in self.node.routers() {
            let config = router.config();
            let entry = self.record.get(&router.id()).copied().unwrap_or_default();
            left.entries.insert(record::identity(config), entry);
            left.addresses.extend(config.all_addresses().map(|address| RecordedAddress {
                interface: config.interface.to_string(),
                address,
                mark: Mark::of(config),
            }));
        }
        left.resumes = self.resumes.clone();
        left
    }

    fn link(&self, id: LinkId) -> usize {
        link_of_id(&self.node, id)
    }

    fn entry(&mut self, id: RouterId) -> &mut RecordEntry {
        self.record.entry(id).or_default()
    }

    /// Whether all that was wanted from the worker has been done.
    pub fn is_idle(&self) -> bool {
        self.delivery.is_idle()
    }

    /// The device that is acted on for a link.
    fn device(&self, id: LinkId) -> Option<usize> {
        self.bindings[self.link(id)].map(|binding| binding.index() as usize)
    }

    /// Whether a virtual router holds this address of this device as master.
    pub fn holds(&self, router: &VirtualRouter, device: usize, ip: IpAddr) -> bool {
        let id = router.holding().held().link;
        self.device(id) == Some(device) && router.holding().has(id, ip)
    }
}

/// The mark of a daemon that is not simulated. No configuration has this VRID.
pub const OTHER_DAEMON: Mark = Mark::Router(Family::V4, Vrid::new(255).unwrap());

/// The name of the second link; every other name is the first one.
pub const SECOND: &str = "wan";

fn marks_of(node: &Node) -> impl Iterator<Item = (RouterId, Mark)> {
    node.routers().map(|router| (router.id(), Mark::of(router.config())))
}

fn link_of(interface: &str) -> usize {
    usize::from(interface == SECOND)
}

fn link_of_device(device: usize) -> usize {
    device % 2
}

fn link_of_id(node: &Node, id: LinkId) -> usize {
    node.links().find(|(link, _)| *link == id).map_or(0, |(_, name)| link_of(name))
}

/// A VRRP message on its way.
#[derive(Clone, Debug)]
pub struct Frame {
    /// 0 or 1.
    pub link: usize,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ttl: u8,
    pub message: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Occurrence {
    Wake { host: usize, epoch: u64, number: u64 },
    Frame { to: usize, frame: Frame },
    Announced { to: usize, mac: Mac, link: usize, ip: IpAddr },
    ClientHears { from: usize, mac: Mac, ip: IpAddr },
    WorkerDone { host: usize, epoch: u64, ticket: u64 },
    Expire { host: usize, at: (usize, IpAddr), generation: u64 },
    Look { host: usize, epoch: u64, lost: Option<(usize, IpAddr)> },
    HookDone { host: usize, epoch: u64, router: RouterId, outcome: HookOutcome },
    Stranger { frame: Frame, every: Duration, left: u32 },
}

#[derive(Debug)]
struct Scheduled(u64, u64, Occurrence);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// How long no host, or more than one, has answered for an address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Service {
    nobody_since: Option<u64>,
    two_since: Option<u64>,
    misdirected_since: Option<u64>,
    /// The longest time that no host answered.
    pub nobody: u64,
    /// The longest time that more than one did.
    pub two: u64,
    /// The longest time that a client's packets went to a host that did not answer.
    pub misdirected: u64,
}

#[derive(Debug)]
pub struct World {
    pub now: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    next_number: u64,
    pub random: Random,
    pub hosts: Vec<Machine>,
    pub paths: Vec<Vec<Path>>,
    /// Links with sender and receiver between which nothing is delivered.
    pub cuts: BTreeSet<(usize, usize, usize)>,
    /// The host, and its link-layer address, to which a client on the link sends packets for an
    /// address.
    client: BTreeMap<IpAddr, (usize, Mac)>,
    services: BTreeMap<IpAddr, Service>,
    /// The story so far, if it is recorded.
    pub trace: Option<String>,
    /// Addresses that machines without vipd have, by link.
    pub foreign: BTreeSet<(usize, IpAddr)>,
    /// How often a daemon has warned that another machine has its address.
    pub contentions: u64,
    /// The first broken rule, which ends the run.
    pub wrong: Option<String>,
    pub events: u64,
}

/// A host's own addresses: IPv4, IPv6 link-local, IPv6 global.
pub fn own_addresses(host: usize) -> [IpAddr; 3] {
    let n = host as u16 + 1;
    [
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, n as u8)),
        IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n)),
    ]
}

/// The same on one of two links: a host with the higher address on one has the lower one on the
/// other.
pub fn addresses_on(link: usize, host: usize) -> [IpAddr; 3] {
    if link == 0 {
        return own_addresses(host);
    }
    let n = 50 - host as u16;
    [
        IpAddr::V4(Ipv4Addr::new(10, 0, 200, n as u8)),
        IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 200, n)),
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 200, n)),
    ]
}

/// An own address in its subnet.
pub fn own_address(ip: IpAddr) -> LinkAddress {
    LinkAddress::of_host(ip, if ip.is_ipv4() { 24 } else { 64 })
}

fn own_of_both_links(host: usize) -> Vec<(usize, LinkAddress)> {
    let on = |link| addresses_on(link, host).map(|ip| (link, own_address(ip)));
    [on(0), on(1)].concat()
}

/// The addresses a virtual router shares.
pub fn shared_address(family: Family, router: usize, n: usize) -> Address {
    Address::host(match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 0, router as u8 + 1, 100 + n as u8)),
        Family::V6 => {
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, router as u16 + 1, 0x100 + n as u16))
        }
    })
}

impl World {
    /// No daemon runs yet.
    pub fn new(seed: u64, configs: Vec<(Config, Pace)>) -> Self {
        let n = configs.len();
        let mut hosts = Vec::new();
        let mut services = BTreeMap::new();
        for (index, (config, pace)) in configs.into_iter().enumerate() {
            let mut kernel = BTreeMap::new();
            for router in &config.routers {
                for address in router.all_addresses() {
                    services.entry(address.ip).or_insert_with(Service::default);
                    if router.priority == Priority::OWNER {
                        let own = Held { mark: Mark::None, generation: 0, expires: false };
                        kernel.insert((link_of(&router.interface), address.ip), own);
                    }
                }
            }
            hosts.push(Machine {
                name: char::from(b'a' + index as u8).to_string(),
                config,
                pace,
                powered: true,
                link_up: true,
                second_up: true,
                refuses: BTreeSet::new(),
                vetoes: false,
                macs: [0, 1].map(|link| Mac([2, 0, 0, 0, link, index as u8])),
                own: own_of_both_links(index),
                filter: Filter::Pass,
                no_sockets: false,
                ports: [false; 2],
                devices: BTreeSet::from([0, 1]),
                named: [Some(0), Some(1)],
                kernel,
                duplicates: BTreeSet::new(),
                gone: BTreeMap::new(),
                record: PreviousRecord::default(),
                drained: None,
                process: None,
                jobs_done: 0,
            });
        }
        World {
            now: 1000 * MS,
            queue: BinaryHeap::new(),
            next_number: 0,
            random: Random::new(seed),
            hosts,
            paths: vec![vec![Path::GOOD; n]; n],
            cuts: BTreeSet::new(),
            client: BTreeMap::new(),
            services,
            trace: None,
            foreign: BTreeSet::new(),
            contentions: 0,
            wrong: None,
            events: 0,
        }
    }

    // ---- time ------------------------------------------------------------------------------

    /// Advances time; a broken rule ends it early.
    pub fn run_for(&mut self, span: Duration) {
        self.run_until(self.now + span.as_nanos() as u64, |_| false);
    }

    /// Advances time until something holds; returns whether it did.
    pub fn run_until(&mut self, end: u64, mut holds: impl FnMut(&World) -> bool) -> bool {
        while self.wrong.is_none() {
            if holds(self) {
                return true;
            }
            match self.queue.peek() {
                Some(Reverse(next)) if next.0 <= end => {}
                Some(_) | None => break,
            }
            let Some(Reverse(Scheduled(at, _, what))) = self.queue.pop() else { break };
            self.now = at;
            self.events += 1;
            self.occur(what);
            self.observe();
        }
        self.now = self.now.max(end);
        false
    }

    fn at(&mut self, at: u64, what: Occurrence) {
        self.next_number += 1;
        self.queue.push(Reverse(Scheduled(at, self.next_number, what)));
    }

    fn local(&self, host: usize, started: u64) -> Instant {
        Instant::from_nanos(to_local(self.hosts[host].pace.ppm, self.now - started))
    }

    pub fn say(&mut self, host: Option<usize>, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let name = host.map_or("-", |host| &self.hosts[host].name);
            let at = self.now - 1000 * MS;
            let _ = writeln!(
                trace,
                "{:>5}.{:06} {name}  {}",
                at / 1_000_000_000,
                at / 1000 % 1_000_000,
                line()
            );
        }
    }

    pub fn fail(&mut self, host: Option<usize>, message: String) {
        self.say(host, || format!("WRONG: {message}"));
        if self.wrong.is_none() {
            let name = host.map_or("-", |host| &self.hosts[host].name);
            let at = (self.now - 1000 * MS) as f64 / 1e9;
            self.wrong = Some(format!("at {at:.6} s, host {name}: {message}"));
        }
    }

    fn occur(&mut self, what: Occurrence) {
        match what {
            Occurrence::Wake { host, epoch, number } => {
                let Some(process) = self.alive(host, epoch) else { return };
                if process.frozen || process.wake.is_none_or(|(_, n)| n != number) {
                    return;
                }
                process.wake = None;
                self.feed(host, Event::Timeout);
            }
            Occurrence::Frame { to, ref frame } => {
                let machine = &mut self.hosts[to];
                if !machine.powered || !machine.is_up(frame.link) || machine.no_sockets {
                    return;
                }
                let Some(process) = &mut machine.process else { return };
                if process.frozen {
                    process.inbox.push_back(what);
                    return;
                }
                let frame = frame.clone();
                self.receive(to, &frame);
            }
            Occurrence::Announced { to, mac, link, ip } => {
                let machine = &mut self.hosts[to];
                if !machine.powered || !machine.is_up(link) || machine.no_sockets {
                    return;
                }
                let Some(process) = &mut machine.process else { return };
                if process.frozen {
                    process.inbox.push_back(what);
                    return;
                }
                if let Some(link) = self.link_id(to, link) {
                    let seen = Contention { link, address: ip, mac };
                    self.feed(to, Event::Contention(seen));
                }
            }
            Occurrence::ClientHears { from, mac, ip } => {
                self.client.insert(ip, (from, mac));
            }
            Occurrence::WorkerDone { host, epoch, ticket } => {
                let Some(process) = self.alive(host, epoch) else { return };
                if process.frozen {
                    process.inbox.push_back(Occurrence::WorkerDone { host, epoch, ticket });
                    return;
                }
                self.worker_done(host, ticket);
            }
            Occurrence::Expire { host, at, generation } => {
                let machine = &mut self.hosts[host];
                if machine.kernel.get(&at).is_some_and(|h| h.expires && h.generation == generation)
                {
                    machine.kernel.remove(&at);
                    machine.gone.insert(at, self.now);
                    self.say(Some(host), || format!("the lease of {} ends", at.1));
                    self.notify_from_kernel(host, Some(at));
                }
            }
            Occurrence::Look { host, epoch, lost } => {
                let Some(process) = self.alive(host, epoch) else { return };
                if process.frozen {
                    process.inbox.push_back(Occurrence::Look { host, epoch, lost });
                    return;
                }
                self.report_link(host, lost);
            }
            Occurrence::HookDone { host, epoch, router, outcome } => {
                let Some(process) = self.alive(host, epoch) else { return };
                if process.frozen {
                    process.inbox.push_back(Occurrence::HookDone { host, epoch, router, outcome });
                    return;
                }
                self.feed(host, Event::HookFinished(router, outcome));
            }
            Occurrence::Stranger { frame, every, left } => {
                for to in 0..self.hosts.len() {
                    let multicast = frame.destination.is_multicast();
                    if multicast || addresses_on(frame.link, to).contains(&frame.destination) {
                        let at = self.now + 50_000;
                        self.at(at, Occurrence::Frame { to, frame: frame.clone() });
                    }
                }
                if left > 0 {
                    let at = self.now + every.as_nanos() as u64;
                    self.at(at, Occurrence::Stranger { frame, every, left: left - 1 });
                }
            }
        }
    }

    fn alive(&mut self, host: usize, epoch: u64) -> Option<&mut Process> {
        self.hosts[host].process.as_mut().filter(|process| process.epoch == epoch)
    }

    /// The daemon's identifier of one of the two links.
    fn link_id(&self, host: usize, link: usize) -> Option<LinkId> {
        let mut links = self.hosts[host].node()?.links();
        links.find(|(_, name)| link_of(name) == link).map(|(id, _)| id)
    }

    // ---- the daemon ------------------------------------------------------------------------

    /// Starts the daemon: it gets the record, and then the state of its link.
    pub fn start(&mut self, host: usize) {
        self.start_knowing(host, true);
    }

    /// It starts, and the kernel does not report the link.
    pub fn start_blind(&mut self, host: usize) {
        self.start_knowing(host, false);
    }

    /// SIGTERM arrives before the kernel has reported the link.
    pub fn start_and_stop_at_once(&mut self, host: usize) {
        self.start_knowing(host, false);
        self.stop(host, Stop::Leave);
    }

    fn start_knowing(&mut self, host: usize, knows_link: bool) {
        let machine = &mut self.hosts[host];
        if machine.process.is_some() || !machine.powered {
            return;
        }
        let node = Node::new(&machine.config);
        let now = self.now;
        let before = std::mem::take(&mut machine.record);
        let boottime = Duration::from_nanos(now);
        let found = before.found(&node, boottime, machine.drained, |id, ip, router| {
            let device = machine.named[link_of_id(&node, id)];
            device.is_some_and(|device| machine.mark(device, ip).is_of(router))
        });
        for left in before.leftovers(&machine.config) {
            let Some(device) = machine.named[link_of(&left.interface)] else { continue };
            if machine.mark(device, left.address.ip).is_of(left.mark) {
                machine.kernel.remove(&(device, left.address.ip));
            }
        }
        self.next_number += 1;
        let macs = machine.macs;
        let bound = |device: Option<usize>| device.map(|device| Binding::new(device as u32));
        let bindings = machine.named.map(bound);
        let watch = Watch::new(&node);
        let marks = marks_of(&node).collect();
        // As the host's file of it, it begins with what it was.
        let kept = |router: &VirtualRouter| Some((router.id(), before.find(router.config())?));
        let record = node.routers().filter_map(kept).collect();
        self.hosts[host].process = Some(Process {
            node,
            watch,
            started: now,
            epoch: self.next_number,
            frozen: false,
            inbox: VecDeque::new(),
            delivery: Delivery::default(),
            record,
            marks,
            resumes: Resumes::earlier(before.resumes.iter()),
            jobs: BTreeMap::new(),
            next_ticket: 0,
            worker_free_at: now,
            wake: None,
            excused_until: now,
            macs,
            bindings,
        });
        self.say(Some(host), || format!("the daemon starts; found {found:?}"));
        for (id, recorded) in found {
            self.feed(host, Event::Found(id, recorded));
        }
        if knows_link {
            self.report_link(host, None);
        }
    }

    /// SIGTERM, or SIGUSR2 if a successor follows at once.
    pub fn stop(&mut self, host: usize, stop: Stop) {
        if self.hosts[host].process.as_ref().is_some_and(|p| !p.frozen) {
            self.say(Some(host), || format!("stop: {stop:?}"));
            if stop == Stop::Restart
                && let Some(process) = &mut self.hosts[host].process
            {
                process.resumes.ended_on_request();
            }
            self.feed(host, Event::Stop(stop));
        }
    }

    /// The daemon alone dies: its addresses stay until their lease ends.
    pub fn kill(&mut self, host: usize) {
        if let Some(process) = self.hosts[host].process.take() {
            self.hosts[host].record = process.left();
            self.say(Some(host), || "the daemon is killed".to_owned());
        }
    }

    /// The machine loses power, and with it everything but its configuration.
    pub fn crash(&mut self, host: usize) {
        self.say(Some(host), || "the machine crashes".to_owned());
        let machine = &mut self.hosts[host];
        machine.process = None;
        machine.powered = false;
        machine.kernel.retain(|_, held| held.mark == Mark::None);
        machine.record = PreviousRecord::default();
        self.observe();
    }

    /// Power comes back, and the daemon is started.
    pub fn boot(&mut self, host: usize) {
        self.say(Some(host), || "the machine boots".to_owned());
        self.hosts[host].powered = true;
        self.observe();
        self.start(host);
    }

    pub fn freeze(&mut self, host: usize) {
        if let Some(process) = &mut self.hosts[host].process {
            process.frozen = true;
            self.say(Some(host), || "the daemon is frozen".to_owned());
        }
    }

    /// What arrived meanwhile is read before a deadline is acted on.
    pub fn thaw(&mut self, host: usize) {
        let now = self.now;
        let late = self.late_allowance(host);
        let Some(process) = &mut self.hosts[host].process else { return };
        if !process.frozen {
            return;
        }
        process.frozen = false;
        process.excused_until = now + late.as_nanos() as u64;
        process.wake = None;
        let inbox = std::mem::take(&mut process.inbox);
        let epoch = process.epoch;
        self.say(Some(host), || "the daemon is thawed".to_owned());
        for what in inbox {
            self.occur(what);
        }
        if self.alive(host, epoch).is_some() {
            self.feed(host, Event::Timeout);
        }
    }

    pub fn set_link(&mut self, host: usize, up: bool) {
        if self.hosts[host].link_up != up {
            self.hosts[host].link_up = up;
            self.say(Some(host), || format!("the link is {}", if up { "up" } else { "down" }));
            self.notify_from_kernel(host, None);
            self.observe();
        }
    }

    pub fn set_second_link(&mut self, host: usize, up: bool) {
        if self.hosts[host].second_up != up {
            self.hosts[host].second_up = up;
            self.say(Some(host), || {
                format!("the second link is {}", if up { "up" } else { "down" })
            });
            self.notify_from_kernel(host, None);
            self.observe();
        }
    }

    /// Its interface on a link gets another link-layer address, as a bridge that gains or loses a
    /// port.
    pub fn set_mac(&mut self, host: usize, link: usize, mac: Mac) {
        self.hosts[host].macs[link] = mac;
        self.say(Some(host), || format!("the MAC address is {mac}"));
        self.notify_from_kernel(host, None);
        self.observe();
    }

    /// The device of a link is renamed: it keeps its addresses.
    pub fn rename(&mut self, host: usize, link: usize) {
        self.name(host, link, None);
    }

    /// The newest device of a link gets the name, unless one has it.
    pub fn name_back(&mut self, host: usize, link: usize) {
        let machine = &self.hosts[host];
        let newest = machine.devices.iter().rfind(|device| link_of_device(**device) == link);
        match newest {
            Some(device) if machine.named[link].is_none() => self.name(host, link, Some(*device)),
            Some(_) => {}
            None => self.create(host, link),
        }
    }

    /// The device that has the name of a link is deleted, or moved to another namespace.
    pub fn delete(&mut self, host: usize, link: usize) {
        let machine = &mut self.hosts[host];
        if let Some(device) = machine.named[link] {
            machine.devices.remove(&device);
            machine.kernel.retain(|(there, _), _| *there != device);
            self.name(host, link, None);
        }
    }

    /// A new device has the name of a link; the one that had it, if any, is renamed.
    pub fn create(&mut self, host: usize, link: usize) {
        let machine = &mut self.hosts[host];
        let last = machine.devices.last().map_or(0, |last| last / 2);
        let device = 2 * (last + 1) + link;
        machine.devices.insert(device);
        self.name(host, link, Some(device));
    }

    fn name(&mut self, host: usize, link: usize, device: Option<usize>) {
        self.hosts[host].named[link] = device;
        self.say(Some(host), || format!("link {link} is device {device:?}"));
        self.notify_from_kernel(host, None);
        self.observe();
    }

    /// The interface becomes a port of a bridge, or is one no longer.
    pub fn set_port(&mut self, host: usize, link: usize, port: bool) {
        if self.hosts[host].ports[link] != port {
            self.hosts[host].ports[link] = port;
            self.say(Some(host), || format!("link {link} is a port: {port}"));
            self.notify_from_kernel(host, None);
            self.observe();
        }
    }

    /// A check of this host gives a result.
    pub fn probe(&mut self, host: usize, name: &str, probe: Probe) {
        if self.hosts[host].process.as_ref().is_none_or(|p| p.frozen) {
            return;
        }
        let check = self.hosts[host].node().and_then(|node| node.find_check(name));
        if let Some(check) = check.map(|check| check.id()) {
            self.say(Some(host), || format!("check {name}: {probe:?}"));
            self.feed(host, Event::Probe { check, probe });
        }
    }

    /// The own addresses that it had at first go or come back.
    pub fn set_own_addresses(&mut self, host: usize, there: bool) {
        let own = own_of_both_links(host);
        self.change_own(host, |known| {
            known.retain(|(_, known)| !own.iter().any(|(_, own)| own.ip == known.ip));
            // Those that came last are listed first.
            known.splice(0..0, own.into_iter().filter(|_| there));
        });
    }

    /// An own address comes, or its state changes.
    pub fn set_own(&mut self, host: usize, link: usize, own: LinkAddress) {
        self.change_own(host, |known| {
            known.retain(|(_, known)| known.ip != own.ip);
            known.insert(0, (link, own));
        });
    }

    /// An own address goes.
    pub fn remove_own(&mut self, host: usize, ip: IpAddr) {
        self.change_own(host, |known| known.retain(|(_, known)| known.ip != ip));
    }

    fn change_own(&mut self, host: usize, change: impl FnOnce(&mut Vec<(usize, LinkAddress)>)) {
        let mut own = self.hosts[host].own.clone();
        change(&mut own);
        if own != self.hosts[host].own {
            self.say(Some(host), || {
                let shown = own.iter().map(|(_, own)| format!("{} {:?}", own.ip, own.state));
                format!("own addresses: {}", shown.collect::<Vec<_>>().join(", "))
            });
            self.hosts[host].own = own;
            self.notify_from_kernel(host, None);
        }
    }

    pub fn set_filter(&mut self, host: usize, filter: Filter) {
        self.hosts[host].filter = filter;
        self.say(Some(host), || format!("its packet filter: {filter:?}"));
    }

    /// The daemon's sockets are closed and cannot be opened, or are opened again.
    pub fn set_no_sockets(&mut self, host: usize, missing: bool) {
        if self.hosts[host].no_sockets != missing {
            self.hosts[host].no_sockets = missing;
            self.say(Some(host), || format!("sockets are missing: {missing}"));
            self.notify_from_kernel(host, None);
        }
    }

    /// Another program on the host removes an address, or adds one of its own.
    pub fn remove_address(&mut self, host: usize, ip: IpAddr) {
        let devices = self.hosts[host].devices.clone();
        for at in devices.into_iter().map(|device| (device, ip)) {
            if self.hosts[host].holds_ours_on(at.0, ip) {
                self.hosts[host].kernel.remove(&at);
                self.hosts[host].gone.insert(at, self.now);
                self.say(Some(host), || format!("somebody removes {ip}"));
                self.notify_from_kernel(host, Some(at));
                self.observe();
            }
        }
    }

    /// `mark`: none, or that of another daemon.
    pub fn add_foreign(&mut self, host: usize, ip: IpAddr, mark: Mark) {
        if self.hosts[host].powered && !self.hosts[host].holds(ip) {
            let held = Held { mark, generation: 0, expires: false };
            let mut routers = self.hosts[host].config.routers.iter();
            let named = |r: &&RouterConfig| r.all_addresses().any(|address| address.ip == ip);
            let link = routers.find(named).map_or(0, |router| link_of(&router.interface));
            let Some(device) = self.hosts[host].named[link] else { return };
            self.hosts[host].kernel.insert((device, ip), held);
            self.say(Some(host), || format!("somebody adds {ip}: {mark}"));
            self.notify_from_kernel(host, None);
        }
    }

    pub fn remove_foreign(&mut self, host: usize, ip: IpAddr) {
        if self.hosts[host].held(ip).any(|held| !held.is_ours()) {
            self.hosts[host].kernel.retain(|(_, other), held| *other != ip || held.is_ours());
            self.say(Some(host), || format!("somebody removes his {ip}"));
            self.notify_from_kernel(host, None);
        }
    }

    /// Duplicate address detection of an owner's address fails, or the address is added without it.
    pub fn set_duplicate(&mut self, host: usize, ip: IpAddr, duplicate: bool) {
        let machine = &mut self.hosts[host];
        if duplicate {
            machine.duplicates.insert(ip);
        } else {
            machine.duplicates.remove(&ip);
        }
        self.say(Some(host), || format!("{ip} is a duplicate: {duplicate}"));
        self.notify_from_kernel(host, None);
        self.observe();
    }

    pub fn command(&mut self, host: usize, command: Command) {
        let machine = &mut self.hosts[host];
        let Some(process) = machine.process.as_mut().filter(|process| !process.frozen) else {
            return;
        };
        match command {
            Command::Failover(id) | Command::Resume(id) => {
                for id in process.node.with_group(id) {
                    process.entry(id).held_back = matches!(command, Command::Failover(_));
                }
            }
            Command::Drain(drain) => machine.drained = Some(drain),
            Command::Undrain => machine.drained = None,
            Command::Announce(_) => {}
        }
        self.feed(host, Event::Command(command));
    }

    /// The file changes, and the daemon reloads it, if one runs.
    pub fn reload(&mut self, host: usize, config: Config) {
        for router in &config.routers {
            for address in router.all_addresses() {
                self.services.entry(address.ip).or_default();
            }
        }
        if self.hosts[host].process.as_ref().is_some_and(|p| !p.frozen) {
            self.feed(host, Event::Reload(&config));
        }
        if let Some(process) = &mut self.hosts[host].process {
            process.delivery.forget_removed(&process.node);
            process.marks.extend(marks_of(&process.node));
            for router in process.node.routers() {
                process.record.entry(router.id()).or_default().reconfigured(router.config());
            }
        }
        self.hosts[host].config = config;
        let epoch = self.hosts[host].process.as_ref().map_or(0, |p| p.epoch);
        self.at(self.now, Occurrence::Look { host, epoch, lost: None });
    }

    /// A stranger on the link sends a message, once or repeatedly.
    pub fn stranger(&mut self, frame: Frame, every: Duration, times: u32) {
        self.say(None, || {
            format!("a stranger sends {} times, every {every:?}: {frame:?}", times + 1)
        });
        self.at(self.now, Occurrence::Stranger { frame, every, left: times });
    }

    fn receive(&mut self, host: usize, frame: &Frame) {
        let Some(link) = self.link_id(host, frame.link) else { return };
        let machine = &self.hosts[host];
        let device = machine.process.as_ref().and_then(|process| process.device(link));
        let deaf = machine.ports[frame.link];
        if deaf || !device.is_some_and(|device| machine.devices.contains(&device)) {
            return;
        }
        self.feed(
            host,
            Event::Packet(Packet {
                link,
                source: frame.source,
                destination: frame.destination,
                ttl: frame.ttl,
                message: &frame.message,
            }),
        );
    }

    /// Something changed in the kernel; the daemon is notified a little later.
    fn notify_from_kernel(&mut self, host: usize, lost: Option<(usize, IpAddr)>) {
        let delay = self.random.range(20_000..500_000);
        if let Some(process) = &self.hosts[host].process {
            let epoch = process.epoch;
            self.at(self.now + delay, Occurrence::Look { host, epoch, lost });
        }
    }

    fn report_link(&mut self, host: usize, lost: Option<(usize, IpAddr)>) {
        if let Some(lost) = lost {
            self.address_gone(host, lost);
        }
        for link in [0, 1] {
            let Some(mut process) = self.hosts[host].process.take() else { return };
            let named = self.hosts[host].named[link];
            if let Some(binding) = &mut process.bindings[link] {
                if Some(binding.index() as usize) != named {
                    binding.lose();
                }
            } else {
                process.bindings[link] = named.map(|device| Binding::new(device as u32));
            }
            self.report_one(host, &mut process, link);
            self.dispatch(host, process);
        }
    }

    fn report_one(&mut self, host: usize, process: &mut Process, link: usize) {
        let id = process.node.links().find(|(_, name)| link_of(name) == link).map(|(id, _)| id);
        let Some(id) = id else { return };
        let missing = self.hosts[host].no_sockets;
        let missing = MissingSockets { v4: missing, v6: missing, announcements: missing };
        self.handle(host, process, Event::Sockets(id, missing));
        let machine = &self.hosts[host];
        let bound = process.bindings[link].filter(|binding| !binding.is_lost());
        let (up, mac) = (machine.is_up(link), machine.macs[link]);
        process.macs[link] = mac;
        let mut addresses = Vec::new();
        let own = machine.own.iter().filter(|(on, _)| *on == link && bound.is_some());
        addresses.extend(own.map(|(_, own)| LinkAddress {
            state: if up { own.state } else { AddressState::Tentative },
            ..*own
        }));
        let here = |device: &usize| bound.is_some_and(|bound| bound.index() as usize == *device);
        let shared = machine.kernel.iter().filter(|((there, _), _)| here(there));
        addresses.extend(shared.map(|((_, ip), held)| {
            let Address { ip, prefix } = Address::host(*ip);
            let duplicate = machine.duplicates.contains(&ip);
            let state = if duplicate { AddressState::Duplicate } else { AddressState::Preferred };
            LinkAddress { mark: held.mark, state, ..LinkAddress::of_host(ip, prefix) }
        }));
        // For peers behind a router the kernel chooses the newest one.
        let newest = |to: IpAddr| {
            let same =
                |own: &&LinkAddress| own.ip.is_ipv4() == to.is_ipv4() && own.mark == Mark::None;
            addresses.iter().find(same).map(|own| own.ip)
        };
        let routed = process.node.routers().filter_map(|router| {
            let to = process.node.route_to(router.id(), &addresses)?;
            Some((router.id(), newest(to)?)).filter(|_| router.link() == id)
        });
        let routed: Vec<_> = routed.collect();
        for (router, source) in routed {
            self.handle(host, process, Event::Routed(router, source));
        }
        let port_of = self.hosts[host].ports[link].then_some("br0");
        let state = bound.map(|_| LinkState { up, port_of, mac: Some(mac), addresses: &addresses });
        self.handle(host, process, Event::Link { link: id, state });
    }

    /// The daemon is notified that an address disappeared: reports it to its router unless it is
    /// back.
    fn address_gone(&mut self, host: usize, (device, ip): (usize, IpAddr)) {
        if self.hosts[host].kernel.contains_key(&(device, ip)) {
            return;
        }
        let link = self.link_id(host, link_of_device(device));
        let Some(mut process) = self.hosts[host].process.take() else { return };
        let bound = process.bindings[link_of_device(device)];
        if bound.is_none_or(|bound| bound.is_lost() || bound.index() as usize != device) {
            self.hosts[host].process = Some(process);
            return;
        }
        let now = self.local(host, process.started);
        let holder = |router: &VirtualRouter| router.holding().has(link?, ip).then(|| router.id());
        let holders: Vec<RouterId> = process.node.routers().filter_map(holder).collect();
        for id in holders {
            process.delivery.address_gone(now, id, ip);
        }
        self.dispatch(host, process);
    }

    /// Passes an event to the node, carries out its actions, and checks the rules.
    fn feed(&mut self, host: usize, event: Event<'_>) {
        let Some(mut process) = self.hosts[host].process.take() else { return };
        self.handle(host, &mut process, event);
        self.dispatch(host, process);
    }

    /// Passes the events that follow to the node, until there are none.
    fn dispatch(&mut self, host: usize, mut process: Process) {
        loop {
            while let Some(event) = process.delivery.next_event() {
                self.handle(host, &mut process, event);
            }
            // The next device is used when the one that has lost the name has been left.
            let left = |link: &usize| {
                let mut links = process.node.links();
                let id = links.find(|(_, name)| link_of(name) == *link).map(|(id, _)| id);
                let is_left = |binding: Binding| {
                    binding.is_left(id?, &process.node, &process.delivery).into()
                };
                process.bindings[*link].and_then(is_left) == Some(true)
            };
            let Some(link) = [0, 1].into_iter().find(left) else { break };
            let named = self.hosts[host].named[link];
            process.bindings[link] = named.map(|device| Binding::new(device as u32));
            self.report_one(host, &mut process, link);
        }
        self.wake_at(host, &mut process);
        let ended = process.node.is_stopped() && process.delivery.is_idle();
        if ended {
            self.say(Some(host), || "the daemon has ended".to_owned());
            self.hosts[host].record = process.left();
        } else {
            self.hosts[host].process = Some(process);
        }
    }

    fn handle(&mut self, host: usize, process: &mut Process, event: Event<'_>) {
        let now = self.local(host, process.started);
        let mut actions = Vec::new();
        let outcome = process.node.handle(now, event, &mut actions);
        let quiet = matches!(event, Event::Timeout) && actions.is_empty();
        if self.trace.is_some() && !quiet {
            let line = describe(&event, &process.node, outcome.err());
            self.say(Some(host), || line);
        }
        let late = self.late_allowance(host);
        let excused = self.now <= process.excused_until;
        let verdict = process.watch.step(now, &event, &actions, &process.node, late, excused);
        for action in actions {
            self.say(Some(host), || format!("    -> {}", show(&action)));
            if let Action::Warn { warning: Warning::Contention { .. }, .. } = action {
                self.contentions += 1;
            }
            if process.delivery.push(now, action, &process.node) {
                self.flush(host, process, false);
            }
            while let Some(job) = process.delivery.next_job() {
                self.submit(host, process, job);
            }
        }
        self.flush(host, process, false);
        if let Err(message) = verdict {
            self.fail(Some(host), message);
        }
    }

    fn late_allowance(&self, host: usize) -> Duration {
        self.hosts[host].pace.late + Duration::from_micros(10)
    }

    fn wake_at(&mut self, host: usize, process: &mut Process) {
        let Some(at) = process.node.deadline() else {
            process.wake = None;
            return;
        };
        if process.wake.is_some_and(|(wake, _)| wake == at) {
            return;
        }
        let pace = self.hosts[host].pace;
        let mut then = (process.started + to_true(pace.ppm, at.as_nanos())).max(self.now);
        while to_local(pace.ppm, then - process.started) < at.as_nanos() {
            then += 1;
        }
        then += self.random.range(0..pace.late.as_nanos() as u64 + 1);
        let number = self.next_number + 1;
        process.wake = Some((at, number));
        self.at(then, Occurrence::Wake { host, epoch: process.epoch, number });
    }

    // ---- actions ---------------------------------------------------------------------------

    /// Carries out everything that is due. Actions that `waited` for the worker may be outdated:
    /// none of them may come from a host that is no longer master.
    fn flush(&mut self, host: usize, process: &mut Process, waited: bool) {
        while let Some(output) = process.delivery.next(self.local(host, process.started)) {
            if waited && let Some(what) = output_without_addresses(&output, &process.node) {
                self.fail(Some(host), format!("{what} from a host that is not master"));
            }
            match output {
                Output::Advertise(adverts) => {
                    for advert in adverts {
                        self.advertise(host, process, &advert);
                    }
                }
                Output::Announce(announcements) => {
                    for due in announcements {
                        let link = process.link(due.held.link);
                        let device = process.device(due.held.link);
                        for at in due.ips().filter_map(|ip| Some((device?, ip))) {
                            self.may_be_promised(host, "an announcement", at);
                        }
                        let machine = &self.hosts[host];
                        let exists = device.is_some_and(|it| machine.devices.contains(&it));
                        if machine.is_up(link) && exists && !machine.no_sockets {
                            let mac = process.macs[link];
                            due.ips().for_each(|ip| self.announce(host, mac, link, ip));
                            for ip in due.ips().filter(|_| due.probe) {
                                self.probe_address(host, link, ip);
                            }
                        }
                    }
                }
                Output::Notify(transitions) => {
                    for transition in transitions {
                        self.notify(host, process, &transition);
                    }
                }
                Output::Start(job) => self.submit(host, process, job),
            }
        }
    }

    fn advertise(&mut self, host: usize, process: &mut Process, due: &DueAdvert) {
        let now = self.now;
        let id = due.router;
        let config = process.node.router(id).map(|router| router.config().clone());
        let leased = config.as_ref().filter(|c| c.priority != Priority::OWNER);
        // The kernel refuses to send without carrier, and to IPv6 peers without the route that comes
        // with an address. The source itself may have gone.
        let filtered = self.filtered(host, &due.to);
        let machine = &self.hosts[host];
        let link = config.as_ref().map_or(0, |config| link_of(&config.interface));
        let device = process.bindings[link].map(|binding| binding.index() as usize);
        let device = device.filter(|device| machine.devices.contains(device));
        let sends = machine.is_up(link) && device.is_some() && !machine.no_sockets;
        let has_route = |to: &IpAddr| match to {
            IpAddr::V6(to) if !to.is_multicast() => machine.has_own(link, due.from),
            IpAddr::V4(_) | IpAddr::V6(_) => true,
        };
        let refused = due.to.iter().filter_map(|to| match sends && has_route(to) {
            false => Some((*to, SendError::Unreachable)),
            true => filtered.contains(to).then_some((*to, SendError::Filtered)),
        });
        if !process.delivery.sent(self.local(host, process.started), due, refused) {
            return;
        }
        let advert = &due.advert;
        if advert.priority != Priority::LEAVING && leased.is_some() {
            for at in advert.addresses.iter().filter_map(|a| Some((device?, a.ip))) {
                self.may_be_promised(host, "an advert", at);
            }
        }
        if let Some(config) = &config {
            process.entry(id).advert_sent(Duration::from_nanos(now), due.from, config);
        }
        let mut message = Vec::new();
        for &destination in due.to.iter().filter(|to| !filtered.contains(to)) {
            advert.encode(due.from, destination, &mut message);
            let message = message.clone();
            let frame = Frame { link, source: due.from, destination, ttl: 255, message };
            self.send(host, &frame);
        }
    }

    /// The machine has the address, or it went so recently that the daemon cannot know.
    fn may_be_promised(&mut self, host: usize, what: &str, at: (usize, IpAddr)) {
        let machine = &self.hosts[host];
        let recently = |gone: &u64| self.now - gone <= MS;
        if !machine.kernel.contains_key(&at) && !machine.gone.get(&at).is_some_and(recently) {
            self.fail(Some(host), format!("{what} promises {}, which is not there", at.1));
        }
    }

    /// The kernel refuses to add an address from now on, or no longer: as if IPv6 were disabled.
    pub fn refuse(&mut self, host: usize, ip: IpAddr, refuses: bool) {
        self.say(Some(host), || format!("refuses {ip}: {refuses}"));
        let machine = &mut self.hosts[host];
        if refuses {
            machine.refuses.insert(ip);
            self.remove_address(host, ip);
        } else {
            machine.refuses.remove(&ip);
        }
        self.notify_from_kernel(host, None);
    }

    /// The destinations of an advert to which the host's own packet filter drops it.
    fn filtered(&self, host: usize, to: &[IpAddr]) -> Vec<IpAddr> {
        let dropped = |to: &&IpAddr| match self.hosts[host].filter {
            Filter::Pass => false,
            Filter::DropTo(peer) => (0..2).any(|link| addresses_on(link, peer).contains(to)),
            Filter::DropAll => true,
        };
        to.iter().filter(dropped).copied().collect()
    }

    fn notify(&mut self, host: usize, process: &mut Process, transition: &Transition) {
        let now = self.now;
        let id = transition.router;
        let Some(router) = process.node.router(id) else { return };
        let config = router.config().clone();
        process.entry(id).role_changed(transition, MasterHook::Configured);
        if transition.why == Why::Resumed {
            process.resumes.note(Duration::from_nanos(now));
        }
        let asked = match transition.hook() {
            Some(hook @ Hook::BeforeRelease) => Some((hook, config.before_release, true)),
            Some(hook @ Hook::BeforeClaim) => {
                Some((hook, config.before_claim, !self.hosts[host].vetoes))
            }
            Some(Hook::Master | Hook::Backup | Hook::Fault | Hook::Stop) | None => None,
        };
        if let Some((hook, limit, succeeded)) = asked.filter(|_| transition.hooks) {
            let limit = limit.unwrap_or_default();
            // Half of them exceed their limit; `before_claim` hooks do not in the calm phase.
            let lazy = hook == Hook::BeforeRelease || self.hosts[host].vetoes;
            let took = match self.hosts[host].pace.hook {
                Some(percent) => limit * if lazy { percent } else { percent.min(99) } / 100,
                None => self.random.span(Duration::ZERO..if lazy { 2 * limit } else { limit }),
            };
            if took < limit {
                let outcome = HookOutcome { hook, succeeded };
                let epoch = process.epoch;
                let what = Occurrence::HookDone { host, epoch, router: id, outcome };
                self.at(now + took.as_nanos() as u64, what);
            }
        }
    }

    /// The worker does one job after the other.
    fn submit(&mut self, host: usize, process: &mut Process, job: Job) {
        let ticket = process.next_ticket;
        process.next_ticket += 1;
        let (least, most) = self.hosts[host].pace.worker;
        let takes = self.random.span(least..most).as_nanos() as u64;
        let begins = process.worker_free_at.max(self.now);
        let device = process.device(job.held.link);
        process.jobs.insert(ticket, (job, begins, device));
        process.worker_free_at = begins + takes;
        self.at(begins + takes, Occurrence::WorkerDone { host, epoch: process.epoch, ticket });
    }

    fn worker_done(&mut self, host: usize, ticket: u64) {
        let Some(mut process) = self.hosts[host].process.take() else { return };
        let Some((job, began, device)) = process.jobs.remove(&ticket) else {
            self.hosts[host].process = Some(process);
            return;
        };
        self.hosts[host].jobs_done += 1;
        let pace = self.hosts[host].pace;
        let started = Instant::from_nanos(to_local(pace.ppm, began - process.started));
        let (failures, changed) = self.do_job(host, &process, &job, device);
        let (id, kind) = (job.router, job.work.kind());
        if kind != JobKind::Renew || !failures.is_empty() {
            self.say(Some(host), || format!("{kind:?} has ended: {failures:?}"));
        }
        let now = self.local(host, process.started);
        let missing = process.delivery.finished(now, id, kind, started, failures.into_iter());
        self.flush(host, &mut process, true);
        self.dispatch(host, process);
        if changed {
            self.notify_from_kernel(host, None);
        }
        for at in missing.into_iter().filter_map(|ip| Some((device?, ip))) {
            self.address_gone(host, at);
        }
    }

    /// What the kernel refuses of a job, and whether its list of addresses is another one now.
    fn do_job(
        &mut self,
        host: usize,
        process: &Process,
        job: &Job,
        device: Option<usize>,
    ) -> (Vec<(IpAddr, JobError)>, bool) {
        let mut failures = Vec::new();
        let mut changed = false;
        let exists = |device: &usize| self.hosts[host].devices.contains(device);
        let Some(device) = device.filter(exists) else {
            let refused = job.held.addresses.iter().map(|a| (a.ip, JobError::Refused));
            return (refused.collect(), false);
        };
        let mark = process.marks.get(&job.router).copied().unwrap_or(Mark::None);
        let on_link = |router: &&VirtualRouter| router.link() == job.held.link;
        let ours = |there: Mark| {
            let mut routers = process.node.routers().filter(on_link);
            there.is_of(mark) || routers.any(|router| there.is_of(Mark::of(router.config())))
        };
        match job.work {
            Work::Claim { lifetime } => {
                for address in job.held.addresses.iter() {
                    let at = (device, address.ip);
                    let machine = &self.hosts[host];
                    if machine.kernel.get(&at).is_some_and(|held| !ours(held.mark)) {
                        failures.push((address.ip, JobError::AlreadyThere));
                    } else if machine.refuses.contains(&address.ip) {
                        failures.push((address.ip, JobError::Refused));
                    } else {
                        changed |= self.hold(host, at, lifetime, mark);
                    }
                }
            }
            Work::Release => {
                for address in job.held.addresses.iter() {
                    let machine = &mut self.hosts[host];
                    if ours(machine.mark(device, address.ip)) {
                        machine.kernel.remove(&(device, address.ip));
                        changed = true;
                    }
                }
            }
            Work::Renew { lifetime, not_after } => {
                if self.local(host, process.started) > not_after {
                    let late = job.held.addresses.iter().map(|a| (a.ip, JobError::TooLate));
                    return (late.collect(), false);
                }
                for address in job.held.addresses.iter() {
                    // A renewal adds what has expired or was removed a moment ago.
                    let at = (device, address.ip);
                    let machine = &self.hosts[host];
                    if machine.kernel.get(&at).is_none_or(|held| ours(held.mark))
                        && !machine.refuses.contains(&address.ip)
                    {
                        changed |= self.hold(host, at, Some(lifetime), mark);
                    }
                }
            }
        }
        (failures, changed)
    }

    /// Adds an address or renews its lifetime; returns whether it was added.
    fn hold(
        &mut self,
        host: usize,
        at: (usize, IpAddr),
        lifetime: Option<u32>,
        mark: Mark,
    ) -> bool {
        self.next_number += 1;
        let generation = self.next_number;
        let held = Held { mark, generation, expires: lifetime.is_some() };
        let added = self.hosts[host].kernel.insert(at, held).is_none();
        if let Some(seconds) = lifetime {
            // Never early, up to 0.4 s late; a lifetime of 1 s up to 0.8 s (measured).
            let late = self.random.range(0..if seconds == 1 { 800 * MS } else { 400 * MS });
            let then = self.now + u64::from(seconds) * 1000 * MS + late;
            self.at(then, Occurrence::Expire { host, at, generation });
        }
        added
    }

    // ---- the network -----------------------------------------------------------------------

    fn send(&mut self, from: usize, frame: &Frame) {
        for to in 0..self.hosts.len() {
            let unicast = !frame.destination.is_multicast();
            let arrives = !unicast || self.hosts[to].has_own(frame.link, frame.destination);
            if to == from || !arrives {
                continue;
            }
            let path = self.paths[from][to];
            if path.cut
                || self.cuts.contains(&(from, to, frame.link))
                || self.random.percent(path.loss_percent)
            {
                continue;
            }
            let copies = 1 + u32::from(self.random.percent(path.duplicate_percent));
            for _ in 0..copies {
                let mut frame = frame.clone();
                if self.random.percent(path.corrupt_percent) {
                    for _ in 0..self.random.range(1..4) {
                        let at = self.random.index(frame.message.len());
                        frame.message[at] ^= 1 << self.random.range(0..8);
                    }
                }
                let delay = self.random.span(path.delay.0..path.delay.1).as_nanos() as u64;
                self.at(self.now + delay, Occurrence::Frame { to, frame });
            }
        }
    }

    fn announce(&mut self, from: usize, mac: Mac, link: usize, ip: IpAddr) {
        self.at(self.now + 100_000, Occurrence::ClientHears { from, mac, ip });
        for to in 0..self.hosts.len() {
            let path = self.paths[from][to];
            let cut = path.cut || self.cuts.contains(&(from, to, link));
            if to == from || cut || self.random.percent(path.loss_percent) {
                continue;
            }
            let knows = self.hosts[to]
                .config
                .routers
                .iter()
                .any(|router| router.all_addresses().any(|address| address.ip == ip));
            if knows {
                let delay = self.random.span(path.delay.0..path.delay.1).as_nanos() as u64;
                self.at(self.now + delay, Occurrence::Announced { to, mac, link, ip });
            }
        }
    }

    /// Every other machine on the link that has the address answers.
    fn probe_address(&mut self, from: usize, link: usize, ip: IpAddr) {
        let mut owners: Vec<Mac> = Vec::new();
        for (host, machine) in self.hosts.iter().enumerate() {
            let answers = machine.powered
                && machine.is_up(link)
                && machine.kernel.contains_key(&(link, ip))
                && host != from;
            let ways = [(from, host), (host, from)];
            let cut = ways.iter().any(|&(one, other)| {
                self.paths[one][other].cut || self.cuts.contains(&(one, other, link))
            });
            owners.extend(Some(machine.macs[link]).filter(|_| answers && !cut));
        }
        owners.extend(self.foreign.contains(&(link, ip)).then_some(FOREIGN));
        for mac in owners {
            let delay = self.random.range(50_000..500_000);
            self.at(self.now + delay, Occurrence::Announced { to: from, mac, link, ip });
        }
    }

    // ---- what a client sees ----------------------------------------------------------------

    fn observe(&mut self) {
        let now = self.now;
        for (ip, service) in &mut self.services {
            let answering = self.hosts.iter().filter(|host| host.answers(*ip)).count();
            let to = self.client.get(ip);
            let misdirected =
                to.is_some_and(|(host, mac)| !self.hosts[*host].answers_at(*ip, *mac));
            note(&mut service.nobody_since, &mut service.nobody, answering == 0, now);
            note(&mut service.two_since, &mut service.two, answering > 1, now);
            note(&mut service.misdirected_since, &mut service.misdirected, misdirected, now);
        }
    }

    /// What clients have seen of an address since it was last forgotten.
    pub fn seen(&mut self, ip: IpAddr) -> Service {
        self.observe();
        self.services.get(&ip).copied().unwrap_or_default()
    }

    /// Forgets what clients have seen.
    pub fn forget_service(&mut self, ip: IpAddr) {
        self.observe();
        let now = self.now;
        let service = self.services.entry(ip).or_default();
        for since in
            [&mut service.nobody_since, &mut service.two_since, &mut service.misdirected_since]
        {
            *since = since.map(|_| now);
        }
        (service.nobody, service.two, service.misdirected) = (0, 0, 0);
    }

    // ---- queries ---------------------------------------------------------------------------

    /// The hosts whose node has the role master for the nth router.
    pub fn masters(&self, router: usize) -> Vec<usize> {
        (0..self.hosts.len())
            .filter(|host| self.hosts[*host].role(router) == Some(Role::Master))
            .collect()
    }

    /// The addresses of every host's configuration.
    pub fn shared(&self) -> BTreeSet<IpAddr> {
        let routers = self.hosts.iter().flat_map(|host| host.config.routers.iter());
        routers.flat_map(RouterConfig::all_addresses).map(|address| address.ip).collect()
    }
}

fn note(since: &mut Option<u64>, longest: &mut u64, holds: bool, now: u64) {
    match (holds, *since) {
        (true, None) => *since = Some(now),
        (true, Some(from)) => *longest = (*longest).max(now - from),
        (false, Some(from)) => {
            *longest = (*longest).max(now - from);
            *since = None;
        }
        (false, None) => {}
    }
}

fn to_local(ppm: i64, span: u64) -> u64 {
    (i128::from(span) * i128::from(1_000_000 + ppm) / 1_000_000) as u64
}

fn to_true(ppm: i64, span: u64) -> u64 {
    (i128::from(span) * 1_000_000 / i128::from(1_000_000 + ppm)) as u64
}

/// What of an output speaks for a virtual router that has no addresses.
fn output_without_addresses(output: &Output, node: &Node) -> Option<&'static str> {
    let holds = |id: RouterId| {
        node.router(id).is_none_or(|router| {
            router.has_addresses() || router.config().priority == Priority::OWNER
        })
    };
    let (what, vain) = match output {
        Output::Advertise(adverts) => {
            let live = |due: &&DueAdvert| due.advert.priority != Priority::LEAVING;
            ("an advert", adverts.iter().filter(live).any(|due| !holds(due.router)))
        }
        Output::Announce(due) => ("an announcement", due.iter().any(|due| !holds(due.router))),
        Output::Notify(transitions) => {
            let master = |t: &&Transition| t.to == Role::Master && t.hooks;
            ("a hook", transitions.iter().filter(master).any(|t| !holds(t.router)))
        }
        Output::Start(_) => return None,
    };
    vain.then_some(what)
}

fn describe(event: &Event<'_>, node: &Node, discard: Option<vipd::vrrp::Discard>) -> String {
    let mut line = match event {
        Event::Packet(packet) => {
            match vipd::vrrp::advert::decode(packet.source, packet.destination, packet.message) {
                Ok(heard) => format!(
                    "hears {}: vrid {} priority {} every {}",
                    packet.source, heard.vrid, heard.priority, heard.interval
                ),
                Err(malformed) => format!("hears {}: {malformed}", packet.source),
            }
        }
        Event::Link { state: None, .. } => "no link of this name".to_owned(),
        Event::Link { state: Some(LinkState { up, addresses, .. }), .. } => {
            let ips: Vec<String> = addresses
                .iter()
                .map(|a| format!("{}{}", a.ip, if a.mark == Mark::None { "" } else { "*" }))
                .collect();
            format!("link up: {up}, {}", ips.join(" "))
        }
        Event::Reload(config) => format!("reload: {config:?}"),
        Event::Contention(seen) => format!("{} announces {}", seen.mac, seen.address),
        Event::Timeout => "timeout".to_owned(),
        Event::AddressLost(..)
        | Event::AdvertsRefused(_)
        | Event::AdvertRefused(..)
        | Event::Sockets(..)
        | Event::ClaimFailed(..)
        | Event::Routed(..)
        | Event::Command(_)
        | Event::Found(..)
        | Event::HookFinished(..)
        | Event::Late(_)
        | Event::LeaseRanOut(_)
        | Event::Probe { .. }
        | Event::Refused(..)
        | Event::Stop(_) => format!("{event:?}"),
    };
    if let Some(discard) = discard {
        let _ = write!(line, " (discarded: {discard})");
    }
    for router in node.routers() {
        let _ = write!(line, " [{} {}]", router.config().vrid, router.role());
    }
    line
}

fn show(action: &Action) -> String {
    match action {
        Action::Advertise { router, advert, .. } => {
            format!("advertise {} priority {}", router.0, advert.priority)
        }
        Action::Announce { router, held, .. } => {
            format!("announce {} ({} addresses)", router.0, held.addresses.len())
        }
        Action::Claim { router, held, lifetime, .. } => {
            format!("claim {} ({} addresses) for {lifetime:?} s", router.0, held.addresses.len())
        }
        Action::Release { router, held } => {
            format!("release {} ({} addresses)", router.0, held.addresses.len())
        }
        Action::Renew { router, lifetime, .. } => format!("renew {} for {lifetime} s", router.0),
        Action::Notify(t) => format!("{} was {}, is {}: {}", t.router.0, t.from, t.to, t.why),
        Action::Warn { router, warning } => format!("warning {}: {warning}", router.0),
    }
}
