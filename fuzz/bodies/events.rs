//! Any bytes as a host's configuration and a sequence of events: whatever happens, in any order,
//! the invariants hold. Shared by the fuzz target and by `tests/fuzz_corpus.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::{
    Action, Address, AddressState, Advert, CheckConfig, ChecksumForm, ClaimError, Command, Config,
    Contention, Drain, Effect, Event, Family, GroupConfig, Handover, Hook, HookOutcome, Initial,
    Instant, Interval, LinkAddress, LinkId, LinkState, Mac, Mark, MissingSockets, Node, Packet,
    Priority, Probe, Reason, Recorded, Role, RouterConfig, RouterId, SendError, Stop, Version,
    VirtualRouter, Vrid,
};

/// Plays `data` and panics if a rule is broken.
pub fn events(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut world = World::new(&mut bytes);
    while !bytes.0.is_empty() {
        world.step(&mut bytes);
    }
    world.ends();
}

/// The input, read from the front; zeros behind its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.next()) % from.len()]
    }

    fn flag(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// What has been seen of one router's actions.
#[derive(Default)]
struct Seen {
    claimed: BTreeSet<IpAddr>,
    role: Option<Role>,
    /// The last advert that a packet caused, while the role has stayed the same.
    answered_at: Option<Instant>,
}

struct World {
    node: Node,
    config: Config,
    now: Instant,
    seen: BTreeMap<RouterId, Seen>,
    stopped: Option<Stop>,
}

impl World {
    fn new(bytes: &mut Bytes<'_>) -> World {
        let kind = bytes.next();
        let routers = (0..2 + kind % 2).map(|n| router(n, bytes)).collect();
        let config = config(routers, kind);
        let node = Node::new(&config);
        World { node, config, now: Instant::START, seen: BTreeMap::new(), stopped: None }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        self.pass_time(bytes);
        let routers: Vec<RouterId> = self.node.routers().map(|router| router.id()).collect();
        let ids = if routers.is_empty() { vec![RouterId(0)] } else { routers };
        match bytes.next() % 24 {
            0..8 => self.packet(bytes),
            8 => {
                let address = shared(bytes.next() % 3, bytes.pick(&[Family::V4, Family::V6]), 0);
                let (link, mac) = (LinkId(u32::from(bytes.next() % 2)), Mac([2, 0, 0, 0, 0, 9]));
                self.feed(Event::Contention(Contention { link, address, mac }));
            }
            9 | 10 => self.link(bytes, true),
            11 => self.link(bytes, false),
            12 => {
                let address = shared(bytes.next() % 3, bytes.pick(&[Family::V4, Family::V6]), 0);
                self.feed(Event::AddressLost(bytes.pick(&ids), address));
            }
            13 => {
                let error = bytes.pick(&[ClaimError::Refused, ClaimError::AlreadyThere]);
                self.feed(Event::ClaimFailed(bytes.pick(&ids), error));
            }
            14 => self.feed(Event::Command(Command::Announce(bytes.pick(&ids)))),
            15 => self.feed(Event::Command(bytes.pick(&[
                Command::Drain(Drain::LastResort),
                Command::Undrain,
                Command::Drain(Drain::Force),
            ]))),
            16 => self.feed(Event::Command(Command::Failover(bytes.pick(&ids)))),
            17 => self.feed(Event::Command(Command::Resume(bytes.pick(&ids)))),
            18 => {
                let recorded = Recorded {
                    was_master: !bytes.flag(),
                    was_preparing: bytes.flag(),
                    drained: (bytes.next() % 8 == 7).then_some(Drain::LastResort),
                    held_back: bytes.next() % 8 == 7,
                    addresses_present: !bytes.flag(),
                    last_advert_age: Duration::from_millis(u64::from(bytes.next()) * 16),
                    resumes_in_last_minute: u32::from(bytes.next() % 4),
                    master_hook_done: bytes.flag(),
                    source: None,
                };
                let id = bytes.pick(&ids);
                // The driver reports it before anything else, or not at all.
                let starting = |router: &VirtualRouter| {
                    router.fault_reasons().any(|reason| reason == Reason::Starting)
                };
                if self.node.routers().all(starting) {
                    self.feed(Event::Found(id, recorded));
                }
            }
            19 => {
                let hook = bytes.pick(&[Hook::BeforeRelease, Hook::Master, Hook::BeforeClaim]);
                let outcome = HookOutcome { hook, succeeded: bytes.flag() };
                self.feed(Event::HookFinished(bytes.pick(&ids), outcome));
            }
            20 => {
                let id = bytes.pick(&ids);
                let missing = MissingSockets { v4: bytes.flag(), ..MissingSockets::default() };
                self.feed(match bytes.next() % 5 {
                    0 => Event::Late(id),
                    1 => Event::LeaseRanOut(id),
                    2 => Event::AdvertsRefused(id),
                    3 => Event::AdvertRefused(id, Family::V4.multicast_group(), SendError::Full),
                    _ => Event::Sockets(LinkId(u32::from(bytes.next() % 2)), missing),
                });
            }
            21 => {
                let count = bytes.next() % 4;
                let keep = bytes.next();
                let mut routers: Vec<RouterConfig> = Vec::new();
                for n in 0..count {
                    let known = self.config.routers.get(usize::from(n));
                    match known.filter(|_| keep >> n & 1 == 1) {
                        Some(router) => routers.push(router.clone()),
                        None => routers.push(router(n, bytes)),
                    }
                }
                let config = config(routers, keep);
                self.feed(Event::Reload(&config));
                if self.stopped.is_none() {
                    self.config = config;
                }
            }
            22 => self.reload_the_same(),
            _ => {
                // Rarely, or nothing else would be tested.
                let stop = match bytes.next() {
                    0xf0..0xf8 => Stop::Leave,
                    0xf8..=0xff => Stop::Restart,
                    probe @ 0x40..0xc0 => return self.probe(probe),
                    _ => return self.feed(Event::Timeout),
                };
                self.feed(Event::Stop(stop));
                self.stopped = self.stopped.or(Some(stop));
            }
        }
    }

    fn probe(&mut self, probe: u8) {
        let checks: Vec<_> = self.node.checks().map(|check| check.id()).collect();
        let Some(&check) = checks.get(usize::from(probe >> 4 & 3)) else { return };
        let probe = match probe & 3 {
            0 => Probe::Passed,
            1 => Probe::Number(i16::from(probe) - 120),
            _ => Probe::Failed,
        };
        self.feed(Event::Probe { check, probe });
    }

    fn pass_time(&mut self, bytes: &mut Bytes<'_>) {
        let until_deadline = self.node.deadline().map_or(Duration::ZERO, |at| at - self.now);
        let ms = Duration::from_millis;
        let how = bytes.next();
        self.now += match how % 16 {
            0 | 1 => Duration::ZERO,
            2..6 => until_deadline,
            6 => until_deadline.saturating_sub(Duration::from_nanos(1)),
            7 => Duration::from_nanos(1),
            8 => ms(1),
            9 => ms(5),
            10 => ms(10),
            11 => ms(100),
            12 => ms(999),
            13 => ms(3000),
            14 => ms(10_000),
            _ => ms(u64::from(bytes.next()) * 257),
        };
        // Sometimes the event comes before the deadline is served: a late router must notice by it.
        if how & 0x80 == 0 {
            self.keep_deadlines();
        }
    }

    /// Serves deadlines that have passed, one after the other; their number must be finite.
    fn keep_deadlines(&mut self) {
        let mut calls = 0;
        while self.node.deadline().is_some_and(|at| at <= self.now) {
            self.feed(Event::Timeout);
            calls += 1;
            assert!(calls < 64, "the deadline stands still: {:#?}", self.node);
        }
    }

    fn packet(&mut self, bytes: &mut Bytes<'_>) {
        if self.config.routers.is_empty() {
            return;
        }
        let index = usize::from(bytes.next()) % self.config.routers.len();
        let router = self.config.routers[index].clone();
        let peer = 1 + bytes.next() % 3;
        let source = host(peer, router.family, router.unicast_peers.is_none());
        let destination = match router.unicast_peers {
            Some(_) => host(2, router.family, false),
            None => router.family.multicast_group(),
        };
        let mut advert = Advert {
            version: router.version,
            vrid: router.vrid,
            priority: Priority::new(bytes.next()),
            interval: router.advert_interval,
            addresses: router.addresses.clone(),
            checksum: bytes.pick(&[ChecksumForm::PseudoHeader, ChecksumForm::Plain]),
            authentication: router.authentication,
        };
        let odd = bytes.next();
        if odd & 7 == 1 && router.version == Version::V3 {
            advert.interval = Interval::from_centis(1 + u16::from(bytes.next()) * 16).unwrap();
        }
        let mut message = Vec::new();
        advert.encode(source, destination, &mut message);
        if odd & 0x38 == 0x08 {
            let at = usize::from(bytes.next()) % message.len();
            message[at] ^= bytes.next();
        }
        if odd & 0x38 == 0x10 {
            message.truncate(usize::from(bytes.next()) % 40);
        }
        let link = self.node.routers().find(|known| known.config().identity() == router.identity());
        let link = link.map_or(LinkId(0), |router| router.link());
        let ttl = if odd & 0xc0 == 0xc0 { bytes.next() } else { 255 };
        let message = &message[..];
        self.feed(Event::Packet(Packet { link, source, destination, ttl, message }));
    }

    fn link(&mut self, bytes: &mut Bytes<'_>, healthy: bool) {
        let mut addresses = Vec::new();
        let mut there = |ip, mark, usable| {
            let state = if usable { AddressState::Preferred } else { AddressState::Tentative };
            addresses.push(LinkAddress { ip, prefix: 24, mark, state });
        };
        let mut up = true;
        let odd = if healthy { 0 } else { bytes.next() };
        if odd & 1 == 0 {
            there(host(2, Family::V4, true), Mark::None, odd & 2 == 0);
            there(host(2, Family::V6, true), Mark::None, true);
            there(host(2, Family::V6, false), Mark::None, true);
        }
        if odd & 12 == 12 {
            let router = self.node.routers().next().map(|router| Mark::of(router.config()));
            let other = Mark::Router(Family::V6, Vrid::new(255).unwrap());
            let marks = [Mark::None, router.unwrap_or(Mark::Unnamed), Mark::Unnamed, other];
            there(shared(bytes.next() % 3, Family::V4, 0), bytes.pick(&marks), true);
        }
        if odd & 16 == 16 {
            up = false;
        }
        let link = LinkId(u32::from(bytes.next() % 2));
        let mac = [None, Some(Mac([2; 6])), Some(Mac([4; 6]))][usize::from(odd >> 6).min(2)];
        let port_of = (odd & 0x31 == 0x31).then_some("br0");
        let there = LinkState { up, port_of, mac, addresses: &addresses };
        let state = (odd & 0xe1 != 0xe1).then_some(there);
        self.feed(Event::Link { link, state });
    }

    /// A reload of the same configuration changes nothing.
    fn reload_the_same(&mut self) {
        self.feed(Event::Timeout);
        self.feed(Event::Timeout);
        let leaving = self.node.routers().count() != self.config.routers.len();
        if leaving || self.node.deadline().is_some_and(|at| at <= self.now) {
            return;
        }
        let before = self.node.clone();
        let config = self.config.clone();
        let mut actions = Vec::new();
        self.node.handle(self.now, Event::Reload(&config), &mut actions).unwrap();
        assert_eq!(before, self.node);
        assert_eq!(actions, []);
    }

    fn feed(&mut self, event: Event<'_>) {
        let mut actions = Vec::new();
        let by_packet = matches!(event, Event::Packet(_));
        let result = self.node.handle(self.now, event, &mut actions);
        if let Err(discard) = result {
            assert!(by_packet && !discard.to_string().is_empty());
        }
        if self.stopped == Some(Stop::Restart) {
            assert_eq!(actions, [], "after a restart was asked for");
        }
        for (n, action) in actions.iter().enumerate() {
            self.check(action, n.checked_sub(1).and_then(|n| actions.get(n)), by_packet);
        }
        self.check_states();
    }

    fn check(&mut self, action: &Action, before: Option<&Action>, by_packet: bool) {
        let now = self.now;
        match action {
            Action::Claim { router, held, .. } => {
                let claimed = &mut self.seen.entry(*router).or_default().claimed;
                claimed.extend(held.addresses.iter().map(|address| address.ip));
            }
            Action::Release { router, held } => {
                let claimed = &mut self.seen.entry(*router).or_default().claimed;
                for address in held.addresses.iter() {
                    claimed.remove(&address.ip);
                }
            }
            Action::Advertise { router, advert, .. } => {
                let seen = self.seen.entry(*router).or_default();
                if !matches!(advert.priority, Priority::LEAVING | Priority::OWNER) {
                    let claimed = |address: &Address| seen.claimed.contains(&address.ip);
                    assert!(advert.addresses.iter().all(claimed), "{advert:?} without a claim");
                }
                if by_packet {
                    let gap = seen.answered_at.map(|at| now - at);
                    assert!(gap.is_none_or(|gap| gap >= Duration::from_millis(10)), "a storm");
                    seen.answered_at = Some(now);
                }
            }
            Action::Renew { router, held, .. } => {
                let claimed = &self.seen.entry(*router).or_default().claimed;
                assert!(held.addresses.iter().all(|address| claimed.contains(&address.ip)));
                let advert =
                    matches!(before, Some(Action::Advertise { router: by, .. }) if by == router);
                assert!(advert, "a renewal without an advert");
            }
            Action::Notify(transition) => {
                let seen = self.seen.entry(transition.router).or_default();
                let told = seen.role.replace(transition.to).unwrap_or(Role::Waiting);
                assert_eq!(told, transition.from, "{transition:?}");
                seen.answered_at = None;
                assert!(!transition.why.to_string().is_empty());
                if transition.to == Role::Master {
                    // A drain does not concern what the owner has.
                    let forced = self.node.drained() == Some(Drain::Force);
                    let may = !forced || transition.priority == Priority::OWNER;
                    assert!(may, "{transition:?} though drained by force");
                    assert!(self.stopped.is_none(), "{transition:?} though stopping");
                }
            }
            Action::Announce { router, .. } => {
                assert!(self.node.router(*router).is_some());
            }
            Action::Warn { warning, .. } => assert!(!warning.to_string().is_empty()),
        }
    }

    fn check_states(&self) {
        for router in self.node.routers() {
            let seen = self.seen.get(&router.id());
            let told = seen.and_then(|seen| seen.role).unwrap_or(Role::Waiting);
            assert_eq!(told, router.role(), "a change that nobody was told: {router:#?}");
            match router.role() {
                // A check that fails during a planned leave has no effect before its end.
                Role::Leaving => {
                    let sick = |reason| matches!(reason, Reason::Check(_) | Reason::Group(_));
                    assert!(router.fault_reasons().all(sick), "{router:#?}");
                    assert!(router.source().is_some());
                }
                Role::Master => {
                    assert_eq!(router.fault_reasons().count(), 0);
                    assert!(router.source().is_some());
                }
                Role::Backup | Role::Claiming => assert_eq!(router.fault_reasons().count(), 0),
                Role::Fault | Role::Waiting => assert!(router.fault_reasons().count() > 0),
                Role::Stopped => {}
            }
            if !router.has_addresses() {
                let claimed = seen.is_some_and(|seen| !seen.claimed.is_empty());
                assert!(
                    !claimed,
                    "left behind: {seen:?} {router:#?}",
                    seen = seen.map(|s| &s.claimed)
                );
            }
        }
    }

    /// A stop ends soon, whatever happened before.
    fn ends(&mut self) {
        self.feed(Event::Stop(Stop::Leave));
        self.stopped = self.stopped.or(Some(Stop::Leave));
        let mut calls = 0;
        while !self.node.is_stopped() {
            let at = self.node.deadline().expect("one who waits knows until when");
            self.now = self.now.max(at);
            self.feed(Event::Timeout);
            calls += 1;
            assert!(calls < 100_000, "a stop without an end: {:#?}", self.node);
        }
    }
}

/// Some have checks, some a group of all routers that can be in one.
fn config(mut routers: Vec<RouterConfig>, kind: u8) -> Config {
    let check = |(name, effect, initial): (&str, Effect, Initial)| CheckConfig {
        name: Arc::from(name),
        fall: 2,
        rise: 2,
        effect,
        initial,
    };
    let checks: Vec<CheckConfig> = match kind >> 1 & 3 {
        0 | 1 => Vec::new(),
        number => [
            ("fault", Effect::Fault, Initial::Failing),
            ("last", Effect::Last, Initial::Passing),
            ("weight", Effect::Weight(-60), Initial::Wait(Duration::from_secs(3))),
            ("number", Effect::Number, Initial::Passing),
        ]
        .into_iter()
        .skip(usize::from(number) - 2)
        .map(check)
        .collect(),
    };
    for router in &mut routers {
        router.checks = checks.iter().map(|check| check.name.clone()).collect();
    }
    let grouped = kind >> 3 & 1 == 1;
    let fitting = |router: &&mut RouterConfig| router.priority != Priority::OWNER;
    let mut members: Vec<&mut RouterConfig> = routers.iter_mut().filter(fitting).collect();
    let mut groups = Vec::new();
    if let (true, Some((first, rest))) = (grouped, members.split_first_mut())
        && !rest.is_empty()
    {
        for member in rest.iter_mut() {
            member.priority = first.priority;
            member.preempt = first.preempt;
            member.preempt_delay = first.preempt_delay;
            member.start_delay = first.start_delay;
            member.link_delay = first.link_delay;
            member.handover = first.handover;
            member.before_release = first.before_release;
            member.before_claim = first.before_claim;
            member.fault_for = first.fault_for.clone();
        }
        let members = members.iter().map(|router| router.name.clone()).collect();
        groups.push(GroupConfig { name: Arc::from("group"), members });
    }
    Config { routers, checks, groups }
}

/// Host `n` of the link; 2 is ours.
fn host(n: u8, family: Family, link_local: bool) -> IpAddr {
    match (family, link_local) {
        (Family::V4, _) => IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)),
        (Family::V6, true) => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n.into())),
        (Family::V6, false) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())),
    }
}

fn shared(router: u8, family: Family, n: u8) -> IpAddr {
    host(100 + 10 * router + n, family, true)
}

fn router(n: u8, bytes: &mut Bytes<'_>) -> RouterConfig {
    let kind = bytes.next();
    let (family, version) = match kind % 4 {
        0 | 1 => (Family::V4, Version::V3),
        2 => (Family::V6, Version::V3),
        _ => (Family::V4, Version::V2),
    };
    let advert_interval = match version {
        Version::V2 => bytes.pick(&[Interval::from_secs(1), Interval::from_secs(3)]),
        Version::V3 => bytes.pick(&[1, 10, 69, 100, 300, 4095].map(Interval::from_centis)),
    };
    let advert_interval = advert_interval.unwrap();
    let options = bytes.next();
    let delay = |bit: u8| Duration::from_secs(if options >> bit & 1 == 1 { 2 } else { 0 });
    let more = bytes.next();
    let peers: Arc<[IpAddr]> = Arc::from([host(1, family, false), host(3, family, false)]);
    RouterConfig {
        name: Arc::from(format!("r{n}")),
        interface: Arc::from(if kind & 0x30 == 0x30 { "eth1" } else { "eth0" }),
        vrid: Vrid::new(51 + n).unwrap(),
        family,
        version,
        priority: Priority::new(bytes.pick(&[100, 150, 1, 254, 255])),
        addresses: (0..1 + (more & 1)).map(|k| Address::host(shared(n, family, k))).collect(),
        unadvertised_addresses: (0..more >> 1 & 1)
            .map(|_| Address::host(shared(n, Family::V6, 5)))
            .collect(),
        advert_interval,
        max_peer_interval: Interval::LONGEST,
        preempt: options & 1 == 0,
        preempt_delay: delay(1),
        start_delay: delay(2),
        link_delay: delay(3),
        checksum: ChecksumForm::PseudoHeader,
        unicast_peers: (options >> 4 & 3 == 3).then_some(peers),
        unicast_min_ttl: 1,
        source_address: None,
        accept_from: None,
        authentication: (version == Version::V2 && more & 4 == 4).then_some(*b"secret\0\0"),
        address_lifetime: (more & 8 == 0)
            .then_some(RouterConfig::automatic_lifetime(advert_interval)),
        handover: if more & 16 == 0 { Handover::Overlap } else { Handover::Exclusive },
        before_release: (more & 32 == 32).then_some(Duration::from_secs(5)),
        before_claim: (more & 64 == 64).then_some(Duration::from_secs(2)),
        fault_for: if more & 128 == 128 {
            BTreeMap::from([Hook::BeforeClaim, Hook::Master].map(|h| (h, Duration::from_secs(4))))
        } else {
            BTreeMap::new()
        },
        checks: [].into(),
    }
}
