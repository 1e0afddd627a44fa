//! A host under test, the link it is on, and the adverts of its peers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::reason::OwnAddress;
use vipd::vrrp::{
    Action, Address, Advert, CheckConfig, ChecksumForm, Command, Config, Contention, DiscardReason,
    Drain, Effect, Event, Family, Handover, Hook, HookOutcome, Initial, Instant, Interval, Leave,
    LinkAddress, LinkId, LinkState, Mac, Mark, Mismatch, Node, Packet, Priority, Probe, Reason,
    Recorded, Role, RouterConfig, RouterId, Stop, Version, VirtualRouter, Vrid, Warning, Why,
};

pub const HERE: &str = "10.0.0.2";
pub const BELOW: &str = "10.0.0.1";
pub const ABOVE: &str = "10.0.0.3";
pub const SHARED: &str = "10.0.0.100";
pub const GROUP: &str = "224.0.0.18";

pub const HERE6: &str = "fe80::2";
pub const BELOW6: &str = "fe80::1";
pub const ABOVE6: &str = "fe80::3";
pub const SHARED6: &str = "fe80::100";
pub const GROUP6: &str = "ff02::12";

pub const WEB: RouterId = RouterId(0);
pub const ETH0: LinkId = LinkId(0);
pub const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 9]);

pub const NANO: Duration = Duration::from_nanos(1);
pub const MILLI: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn addresses(list: &[&str]) -> Arc<[Address]> {
    list.iter().map(|text| Address::host(ip(text))).collect()
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn centis(centis: u16) -> Interval {
    Interval::from_centis(centis).unwrap()
}

/// Priority 150, one second, one IPv4 address, no delays.
pub fn web() -> RouterConfig {
    RouterConfig {
        name: Arc::from("web"),
        interface: Arc::from("eth0"),
        vrid: Vrid::new(51).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority::new(150),
        addresses: addresses(&[SHARED]),
        unadvertised_addresses: Arc::from([]),
        advert_interval: Interval::DEFAULT,
        max_peer_interval: Interval::LONGEST,
        preempt: true,
        preempt_delay: Duration::ZERO,
        start_delay: Duration::ZERO,
        link_delay: Duration::ZERO,
        checksum: ChecksumForm::PseudoHeader,
        unicast_peers: None,
        unicast_min_ttl: 1,
        source_address: None,
        accept_from: None,
        authentication: None,
        address_lifetime: Some(2),
        handover: Handover::Overlap,
        before_release: None,
        before_claim: None,
        fault_for: BTreeMap::new(),
        checks: [].into(),
    }
}

pub fn web6() -> RouterConfig {
    RouterConfig { family: Family::V6, addresses: addresses(&[SHARED6]), ..web() }
}

pub fn web2() -> RouterConfig {
    RouterConfig { version: Version::V2, ..web() }
}

pub fn priority(priority: u8) -> RouterConfig {
    RouterConfig { priority: Priority::new(priority), ..web() }
}

pub fn exclusive() -> RouterConfig {
    RouterConfig { handover: Handover::Exclusive, ..web() }
}

pub fn prepared(handover: Handover) -> RouterConfig {
    RouterConfig { before_release: Some(secs(20)), handover, ..web() }
}

pub fn unicast() -> RouterConfig {
    RouterConfig { unicast_peers: Some(Arc::from([ip(BELOW), ip(ABOVE)])), ..web() }
}

pub fn at(text: &str) -> LinkAddress {
    LinkAddress::of_host(ip(text), if text.contains(':') { 64 } else { 24 })
}

/// Added for WEB.
pub fn ours(text: &str) -> LinkAddress {
    LinkAddress { mark: Mark::of(&web()), ..at(text) }
}

/// Added by another daemon of this host.
pub fn theirs(text: &str) -> LinkAddress {
    LinkAddress { mark: Mark::Router(Family::V4, Vrid::new(200).unwrap()), ..at(text) }
}

/// An owner's address on eth0.
pub fn own(text: &str, prefix: u8) -> OwnAddress {
    OwnAddress { address: Address { ip: ip(text), prefix }, interface: "eth0".into() }
}

/// The advert that a peer set up as `config` sends with this priority.
pub fn advert_of(config: &RouterConfig, priority: u8) -> Advert {
    Advert {
        version: config.version,
        vrid: config.vrid,
        priority: Priority::new(priority),
        interval: config.advert_interval,
        addresses: config.addresses.clone(),
        checksum: config.checksum,
        authentication: config.authentication,
    }
}

pub fn encode(advert: &Advert, from: &str, to: &str) -> Vec<u8> {
    let mut message = Vec::new();
    advert.encode(ip(from), ip(to), &mut message);
    message
}

/// A correct IPv4 version 3 advert of priority 200 from [`ABOVE`], changed by `change`, with a
/// correct checksum.
pub fn altered(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    change(&mut message);
    if message.len() >= 8 {
        message[6..8].copy_from_slice(&[0, 0]);
        let sum = plain_checksum(&message);
        message[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The checksum over the message alone, written down independently of the code under test.
pub fn plain_checksum(message: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in message.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub struct Host {
    pub node: Node,
    pub now: Instant,
    pub begun: Instant,
    pub done: Vec<(Instant, Action)>,
}

impl Host {
    /// Started, without any event yet.
    pub fn started(routers: &[RouterConfig]) -> Host {
        let node = Node::new(&Config { routers: routers.to_vec(), ..Config::default() });
        let now = Instant::START;
        Host { node, now, begun: now, done: Vec::new() }
    }

    /// Just become backup, nothing heard yet.
    pub fn backup(config: RouterConfig) -> Host {
        let mut host = Host::started(&[config]);
        host.link_up();
        assert_eq!(host.role(), Role::Backup);
        host.begin();
        host
    }

    /// Just become master because no other router was heard.
    pub fn master(config: RouterConfig) -> Host {
        let mut host = Host::backup(config);
        let span = host.node.deadline().unwrap() - host.now;
        host.wait(span);
        assert_eq!(host.role(), Role::Master);
        host.begin();
        host
    }

    /// Just become backup, after it heard the master `from` with `priority`.
    pub fn backup_of(config: RouterConfig, priority: u8, from: &str) -> Host {
        let mut host = Host::backup(config);
        host.hears(priority, from).unwrap();
        host.begin();
        host
    }

    pub fn router(&self) -> &VirtualRouter {
        self.node.router(WEB).unwrap()
    }

    pub fn role(&self) -> Role {
        self.router().role()
    }

    pub fn reasons(&self) -> Vec<Reason> {
        self.router().fault_reasons().collect()
    }

    pub fn why(&self) -> Why {
        self.router().since().1.clone()
    }

    /// Time is counted from here on, and what was done before is forgotten.
    pub fn begin(&mut self) {
        self.begun = self.now;
        self.done.clear();
    }

    pub fn feed(&mut self, event: Event<'_>) -> Result<(), DiscardReason> {
        let mut actions = Vec::new();
        let result = self.node.handle(self.now, event, &mut actions);
        self.done.extend(actions.into_iter().map(|action| (self.now, action)));
        result.map(|_| ()).map_err(|discard| discard.reason)
    }

    /// Time passes, and every deadline is kept to the nanosecond.
    pub fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        let mut calls = 0;
        while let Some(at) = self.node.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.feed(Event::Timeout).unwrap();
            calls += 1;
            assert!(calls < 1_000_000, "deadlines do not end: {:#?}", self.node);
        }
        self.now = until;
    }

    /// Time passes, and the daemon does not run.
    pub fn sleeps(&mut self, span: Duration) {
        self.now += span;
    }

    pub fn timeout(&mut self) {
        self.feed(Event::Timeout).unwrap();
    }

    pub fn link(&mut self, up: bool, addresses: &[LinkAddress]) {
        self.state(LinkState { up, addresses, ..LinkState::default() });
    }

    /// The interface of the first router has this state.
    pub fn state(&mut self, state: LinkState<'_>) {
        self.feed(Event::Link { link: ETH0, state: Some(state) }).unwrap();
    }

    /// The interface has the host's own addresses, those of an owner among them.
    pub fn link_up(&mut self) {
        let owners = self.node.routers().filter(|r| r.config().priority == Priority::OWNER);
        let owned = owners.flat_map(|router| router.addresses().to_vec());
        let own = |address: Address| LinkAddress::of_host(address.ip, address.prefix);
        let all: Vec<LinkAddress> =
            [at(HERE), at(HERE6)].into_iter().chain(owned.map(own)).collect();
        self.link(true, &all);
    }

    pub fn link_down(&mut self) {
        self.link(false, &[at(HERE), at(HERE6)]);
    }

    /// An advert of a peer that is set up as we are.
    pub fn hears(&mut self, priority: u8, from: &str) -> Result<(), DiscardReason> {
        let advert = advert_of(self.router().config(), priority);
        self.hears_advert(&advert, from)
    }

    pub fn hears_advert(&mut self, advert: &Advert, from: &str) -> Result<(), DiscardReason> {
        let to = match (&self.router().config().unicast_peers, ip(from)) {
            (Some(_), IpAddr::V4(_)) => HERE,
            (Some(_), IpAddr::V6(_)) => HERE6,
            (None, IpAddr::V4(_)) => GROUP,
            (None, IpAddr::V6(_)) => GROUP6,
        };
        let message = encode(advert, from, to);
        self.packet(from, to, 255, &message)
    }

    pub fn packet(
        &mut self,
        from: &str,
        to: &str,
        ttl: u8,
        message: &[u8],
    ) -> Result<(), DiscardReason> {
        let (source, destination) = (ip(from), ip(to));
        self.feed(Event::Packet(Packet { link: ETH0, source, destination, ttl, message }))
    }

    pub fn command(&mut self, command: Command) {
        self.feed(Event::Command(command)).unwrap();
    }

    pub fn stop(&mut self, stop: Stop) {
        self.feed(Event::Stop(stop)).unwrap();
    }

    pub fn reload(&mut self, routers: &[RouterConfig]) {
        self.feed(Event::Reload(&Config { routers: routers.to_vec(), ..Config::default() }))
            .unwrap();
    }

    pub fn sees(&mut self, mac: Mac, address: &str) {
        let address = ip(address);
        self.feed(Event::Contention(Contention { link: ETH0, address, mac })).unwrap();
    }

    pub fn loses(&mut self, address: &str) {
        self.feed(Event::AddressLost(WEB, ip(address))).unwrap();
    }

    pub fn hook_ended(&mut self, hook: Hook, succeeded: bool) {
        self.feed(Event::HookFinished(WEB, HookOutcome { hook, succeeded })).unwrap();
    }

    /// The actions since the last call, as text.
    pub fn said(&mut self) -> Vec<String> {
        self.done.drain(..).map(|(_, action)| words(&action)).collect()
    }

    /// When, in nanoseconds since [`Host::begin`], something was done that is called `word`.
    pub fn times(&self, word: &str) -> Vec<Duration> {
        let called = |action: &Action| words(action).split(' ').next() == Some(word);
        let done = self.done.iter().filter(|(_, action)| called(action));
        done.map(|(at, _)| *at - self.begun).collect()
    }

    /// When, since [`Host::begin`], it was asked who else has the addresses.
    pub fn probes(&self) -> Vec<Duration> {
        let probes = |action: &Action| matches!(action, Action::Announce { probe: true, .. });
        let done = self.done.iter().filter(|(_, action)| probes(action));
        done.map(|(at, _)| *at - self.begun).collect()
    }

    pub fn warnings(&self) -> Vec<Warning> {
        let warning = |action: &Action| match action {
            Action::Warn { warning, .. } => Some(*warning),
            _ => None,
        };
        self.done.iter().filter_map(|(_, action)| warning(action)).collect()
    }

    pub fn adverts(&self) -> Vec<Advert> {
        let advert = |action: &Action| match action {
            Action::Advertise { advert, .. } => Some(advert.clone()),
            _ => None,
        };
        self.done.iter().filter_map(|(_, action)| advert(action)).collect()
    }

    /// Time until the node's next deadline.
    pub fn until_deadline(&self) -> Option<Duration> {
        self.node.deadline().map(|at| at - self.now)
    }
}

/// One action in one or two words; addresses only where they are not the usual one.
pub fn words(action: &Action) -> String {
    let list = |verb: &str, addresses: &[Address]| {
        let names: Vec<String> = addresses.iter().map(|a| a.ip.to_string()).collect();
        match names.join(",") {
            names if names == SHARED || names == SHARED6 => verb.to_string(),
            names => format!("{verb} {names}"),
        }
    };
    match action {
        Action::Advertise { advert, .. } => format!("advert {}", advert.priority),
        Action::Announce { held, .. } => list("announce", &held.addresses),
        Action::Claim { held, .. } => list("claim", &held.addresses),
        Action::Notify(transition) => format!("role {}", transition.to),
        Action::Release { held, .. } => list("release", &held.addresses),
        Action::Renew { held, .. } => list("renew", &held.addresses),
        Action::Warn { .. } => "warn".to_string(),
    }
}

pub const TAKES_OVER: [&str; 4] = ["claim", "advert 150", "announce", "role master"];

/// 3 intervals and the skew time of version 3, in whole nanoseconds.
pub fn master_down(priority: u8, interval: Duration) -> Duration {
    3 * interval + skew(priority, interval)
}

pub fn skew(priority: u8, interval: Duration) -> Duration {
    Duration::from_nanos(interval.as_nanos() as u64 * (256 - u64::from(priority)) / 256)
}

/// Source and destinations of an advert.
pub fn first_way(host: &mut Host) -> (IpAddr, Vec<IpAddr>) {
    let span = host.until_deadline().unwrap();
    host.wait(span);
    host.done
        .iter()
        .find_map(|(_, action)| match action {
            Action::Advertise { from, to, .. } => Some((*from, to.to_vec())),
            _ => None,
        })
        .unwrap()
}

/// It changes nothing but the status, and the warning names the key to change.
pub fn is_incompatible(host: &mut Host, advert: &Advert, mismatch: Mismatch) {
    let before = (host.router().state().clone(), host.router().peer().cloned());
    host.sleeps(secs(60));
    host.done.clear();
    let result = host.hears_advert(advert, ABOVE);
    assert_eq!(result, Err(DiscardReason::Incompatible(mismatch)));
    assert_eq!(before, (host.router().state().clone(), host.router().peer().cloned()));
    assert_eq!(host.warnings(), [Warning::Incompatible { source: ip(ABOVE), mismatch }]);
    let known = host.router().incompatible(host.now).last().unwrap();
    assert_eq!((known.source, known.mismatch, known.at), (ip(ABOVE), mismatch, host.now));
}

pub fn gaps(times: &[Duration]) -> Duration {
    times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap()
}

pub fn left_by(host: &mut Host, leave: Leave) {
    match leave {
        Leave::Stop => host.stop(Stop::Leave),
        Leave::Failover => host.command(Command::Failover(WEB)),
        Leave::Drain => host.command(Command::Drain(Drain::LastResort)),
        Leave::Removed => host.reload(&[]),
        Leave::Election { .. } | Leave::Group | Leave::Check => unreachable!(),
    }
}

pub const WAYS: [Leave; 4] = [Leave::Stop, Leave::Failover, Leave::Drain, Leave::Removed];

/// What a daemon finds that was killed a moment ago.
pub const KILLED: Recorded = Recorded {
    was_master: true,
    was_preparing: false,
    drained: None,
    held_back: false,
    addresses_present: true,
    last_advert_age: Duration::from_millis(2899),
    resumes_in_last_minute: 2,
    master_hook_done: true,
    source: None,
};

pub fn found(config: RouterConfig, recorded: Recorded) -> Host {
    let mut host = Host::started(&[config]);
    host.feed(Event::Found(WEB, recorded)).unwrap();
    assert_eq!(host.done, []);
    host.link(true, &[at(HERE), ours(SHARED)]);
    host
}

pub fn check(name: &str, effect: Effect) -> CheckConfig {
    CheckConfig { name: Arc::from(name), fall: 2, rise: 2, effect, initial: Initial::Passing }
}

pub fn asking() -> RouterConfig {
    let fault_for = BTreeMap::from([(Hook::BeforeClaim, secs(30))]);
    RouterConfig { before_claim: Some(secs(5)), fault_for, ..web() }
}

pub const ETH1: LinkId = LinkId(1);
pub const OUT: RouterId = RouterId(1);
pub const SHARED_OUT: &str = "10.1.0.100";

impl Host {
    pub fn of(config: &Config) -> Host {
        let node = Node::new(config);
        Host { node, now: Instant::START, begun: Instant::START, done: Vec::new() }
    }

    pub fn probe(&mut self, name: &str, probe: Probe) {
        let check = self.node.find_check(name).unwrap().id();
        self.feed(Event::Probe { check, probe }).unwrap();
    }

    pub fn fails(&mut self, name: &str) {
        self.probe(name, Probe::Failed);
        self.probe(name, Probe::Failed);
    }

    pub fn passes(&mut self, name: &str) {
        self.probe(name, Probe::Passed);
        self.probe(name, Probe::Passed);
    }

    pub fn reload_all(&mut self, config: &Config) {
        self.feed(Event::Reload(config)).unwrap();
    }

    pub fn links_up(&mut self) {
        self.link_up();
        self.out_link(true);
    }

    pub fn out_link(&mut self, up: bool) {
        let addresses = [at("10.1.0.2"), at(HERE6)];
        let state = LinkState { up, addresses: &addresses, ..LinkState::default() };
        self.feed(Event::Link { link: ETH1, state: Some(state) }).unwrap();
    }

    /// An advert on the link of the second member.
    pub fn hears_out(&mut self, priority: u8, from: &str) {
        let config = self.node.router(OUT).unwrap().config().clone();
        let message = encode(&advert_of(&config, priority), from, GROUP);
        let (source, destination) = (ip(from), ip(GROUP));
        let message = &message[..];
        self.feed(Event::Packet(Packet { link: ETH1, source, destination, ttl: 255, message }))
            .unwrap();
    }

    pub fn roles(&self) -> Vec<Role> {
        self.node.routers().map(VirtualRouter::role).collect()
    }

    pub fn is_all(&self, role: Role) {
        assert!(self.roles().iter().all(|each| *each == role), "{:?}", self.roles());
    }

    /// The changes of role with which hooks run: of whom, and to what.
    pub fn hooks(&mut self) -> Vec<(u32, Role)> {
        let hooks = self.done.drain(..).filter_map(|(_, action)| match action {
            Action::Notify(t) if t.hooks => Some((t.router.0, t.to)),
            _ => None,
        });
        hooks.collect()
    }
}
