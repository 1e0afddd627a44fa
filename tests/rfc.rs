//! What RFC 9568 (with errata 8298-8301), RFC 3768 for version 2 and `DESIGN.md` section 4 ask of
//! a virtual router, each as a sentence that holds and one whose opposite is refused.
//!
//! Everything goes through [`Node::handle`]; adverts arrive as bytes.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::advert::Malformed;
use vipd::vrrp::{
    Action, Address, Advert, CheckConfig, ChecksumForm, ClaimError, Command, Config, Contention,
    Discard, Effect, Event, Family, GroupConfig, Handover, Hook, HookOutcome, Initial, Instant,
    Interval, Leave, LinkAddress, LinkId, Mac, Mismatch, Node, Packet, Priority, Probe, Reason,
    Recorded, Role, RouterConfig, RouterId, State, Stop, Verdict, Version, VirtualRouter, Vrid,
    Warning, Why,
};

// ---- a host, and the link it lives on ----------------------------------------------------------

const HERE: &str = "10.0.0.2";
const BELOW: &str = "10.0.0.1";
const ABOVE: &str = "10.0.0.3";
const SHARED: &str = "10.0.0.100";
const GROUP: &str = "224.0.0.18";

const HERE6: &str = "fe80::2";
const BELOW6: &str = "fe80::1";
const ABOVE6: &str = "fe80::3";
const SHARED6: &str = "fe80::100";
const GROUP6: &str = "ff02::12";

const WEB: RouterId = RouterId(0);
const ETH0: LinkId = LinkId(0);
const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 9]);

const NANO: Duration = Duration::from_nanos(1);
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(list: &[&str]) -> Arc<[Address]> {
    list.iter().map(|text| Address::host(ip(text))).collect()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn centis(centis: u16) -> Interval {
    Interval::from_centis(centis).unwrap()
}

/// Priority 150, one second, one IPv4 address, no delays.
fn web() -> RouterConfig {
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

fn web6() -> RouterConfig {
    RouterConfig { family: Family::V6, addresses: addresses(&[SHARED6]), ..web() }
}

fn web2() -> RouterConfig {
    RouterConfig { version: Version::V2, ..web() }
}

fn priority(priority: u8) -> RouterConfig {
    RouterConfig { priority: Priority::new(priority), ..web() }
}

fn exclusive() -> RouterConfig {
    RouterConfig { handover: Handover::Exclusive, ..web() }
}

fn prepared(handover: Handover) -> RouterConfig {
    RouterConfig { before_release: Some(secs(20)), handover, ..web() }
}

fn unicast() -> RouterConfig {
    RouterConfig { unicast_peers: Some(Arc::from([ip(BELOW), ip(ABOVE)])), ..web() }
}

fn at(text: &str) -> LinkAddress {
    LinkAddress { ip: ip(text), ours: false, usable: true }
}

fn ours(text: &str) -> LinkAddress {
    LinkAddress { ours: true, ..at(text) }
}

/// The advert that a peer set up as `config` sends with this priority.
fn advert_of(config: &RouterConfig, priority: u8) -> Advert {
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

fn encode(advert: &Advert, from: &str, to: &str) -> Vec<u8> {
    let mut message = Vec::new();
    advert.encode(ip(from), ip(to), &mut message);
    message
}

/// A correct IPv4 version 3 advert of priority 200 from [`ABOVE`], changed by `change`, with the
/// checksum made right again.
fn altered(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
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
fn plain_checksum(message: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in message.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

struct Host {
    node: Node,
    now: Instant,
    begun: Instant,
    done: Vec<(Instant, Action)>,
}

impl Host {
    /// Started, and told nothing yet.
    fn started(routers: &[RouterConfig]) -> Host {
        let node = Node::new(&Config { routers: routers.to_vec(), ..Config::default() });
        let now = Instant::START;
        Host { node, now, begun: now, done: Vec::new() }
    }

    /// Just become backup, nothing heard yet.
    fn backup(config: RouterConfig) -> Host {
        let mut host = Host::started(&[config]);
        host.link_up();
        assert_eq!(host.role(), Role::Backup);
        host.begin();
        host
    }

    /// Just become master because nobody was heard.
    fn master(config: RouterConfig) -> Host {
        let mut host = Host::backup(config);
        let span = host.node.deadline().unwrap() - host.now;
        host.wait(span);
        assert_eq!(host.role(), Role::Master);
        host.begin();
        host
    }

    /// Just become backup, after it heard the master `from` with `priority`.
    fn backup_of(config: RouterConfig, priority: u8, from: &str) -> Host {
        let mut host = Host::backup(config);
        host.hears(priority, from).unwrap();
        host.begin();
        host
    }

    fn router(&self) -> &VirtualRouter {
        self.node.router(WEB).unwrap()
    }

    fn role(&self) -> Role {
        self.router().role()
    }

    fn reasons(&self) -> Vec<Reason> {
        self.router().fault_reasons().collect()
    }

    fn why(&self) -> Why {
        self.router().since().1.clone()
    }

    /// Time is counted from here on, and what was done before is forgotten.
    fn begin(&mut self) {
        self.begun = self.now;
        self.done.clear();
    }

    fn tell(&mut self, event: Event<'_>) -> Result<(), Discard> {
        let mut actions = Vec::new();
        let result = self.node.handle(self.now, event, &mut actions);
        self.done.extend(actions.into_iter().map(|action| (self.now, action)));
        result
    }

    /// Time passes, and every deadline is kept to the nanosecond.
    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        let mut calls = 0;
        while let Some(at) = self.node.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tell(Event::Timeout).unwrap();
            calls += 1;
            assert!(calls < 1_000_000, "deadlines do not end: {:#?}", self.node);
        }
        self.now = until;
    }

    /// Time passes, and the daemon does not run.
    fn sleeps(&mut self, span: Duration) {
        self.now += span;
    }

    fn timeout(&mut self) {
        self.tell(Event::Timeout).unwrap();
    }

    fn link(&mut self, up: bool, addresses: &[LinkAddress]) {
        self.tell(Event::Link { link: ETH0, up, addresses }).unwrap();
    }

    fn link_up(&mut self) {
        self.link(true, &[at(HERE), at(HERE6)]);
    }

    fn link_down(&mut self) {
        self.link(false, &[at(HERE), at(HERE6)]);
    }

    /// An advert of a peer that is set up as we are.
    fn hears(&mut self, priority: u8, from: &str) -> Result<(), Discard> {
        let advert = advert_of(self.router().config(), priority);
        self.hears_advert(&advert, from)
    }

    fn hears_advert(&mut self, advert: &Advert, from: &str) -> Result<(), Discard> {
        let to = match (&self.router().config().unicast_peers, ip(from)) {
            (Some(_), IpAddr::V4(_)) => HERE,
            (Some(_), IpAddr::V6(_)) => HERE6,
            (None, IpAddr::V4(_)) => GROUP,
            (None, IpAddr::V6(_)) => GROUP6,
        };
        let message = encode(advert, from, to);
        self.packet(from, to, 255, &message)
    }

    fn packet(&mut self, from: &str, to: &str, ttl: u8, message: &[u8]) -> Result<(), Discard> {
        let (source, destination) = (ip(from), ip(to));
        self.tell(Event::Packet(Packet { link: ETH0, source, destination, ttl, message }))
    }

    fn command(&mut self, command: Command) {
        self.tell(Event::Command(command)).unwrap();
    }

    fn stop(&mut self, stop: Stop) {
        self.tell(Event::Stop(stop)).unwrap();
    }

    fn reload(&mut self, routers: &[RouterConfig]) {
        self.tell(Event::Reload(&Config { routers: routers.to_vec(), ..Config::default() }))
            .unwrap();
    }

    fn sees(&mut self, mac: Mac, address: &str) {
        let address = ip(address);
        self.tell(Event::Contention(Contention { link: ETH0, address, mac })).unwrap();
    }

    fn loses(&mut self, address: &str) {
        self.tell(Event::AddressLost(WEB, ip(address))).unwrap();
    }

    fn hook_ended(&mut self, hook: Hook, succeeded: bool) {
        self.tell(Event::HookFinished(WEB, HookOutcome { hook, succeeded })).unwrap();
    }

    /// The actions since the last look, in words.
    fn said(&mut self) -> Vec<String> {
        self.done.drain(..).map(|(_, action)| words(&action)).collect()
    }

    /// When, in nanoseconds since [`Host::begin`], something was done that is called `word`.
    fn times(&self, word: &str) -> Vec<Duration> {
        let called = |action: &Action| words(action).split(' ').next() == Some(word);
        let done = self.done.iter().filter(|(_, action)| called(action));
        done.map(|(at, _)| *at - self.begun).collect()
    }

    fn warnings(&self) -> Vec<Warning> {
        let warning = |action: &Action| match action {
            Action::Warn { warning, .. } => Some(*warning),
            _ => None,
        };
        self.done.iter().filter_map(|(_, action)| warning(action)).collect()
    }

    fn adverts(&self) -> Vec<Advert> {
        let advert = |action: &Action| match action {
            Action::Advertise { advert, .. } => Some(advert.clone()),
            _ => None,
        };
        self.done.iter().filter_map(|(_, action)| advert(action)).collect()
    }

    /// How long until the node wants to be called.
    fn patience(&self) -> Option<Duration> {
        self.node.deadline().map(|at| at - self.now)
    }
}

/// One action in one or two words; addresses only where they are not the usual one.
fn words(action: &Action) -> String {
    let list = |verb: &str, addresses: &[Address]| {
        let names: Vec<String> = addresses.iter().map(|a| a.ip.to_string()).collect();
        match names.join(",") {
            names if names == SHARED || names == SHARED6 => verb.to_string(),
            names => format!("{verb} {names}"),
        }
    };
    match action {
        Action::Advertise { advert, .. } => format!("advert {}", advert.priority),
        Action::Announce { addresses, .. } => list("announce", addresses),
        Action::Claim { addresses, .. } => list("claim", addresses),
        Action::Notify(transition) => format!("role {}", transition.to),
        Action::Release { addresses, .. } => list("release", addresses),
        Action::Renew { addresses, .. } => list("renew", addresses),
        Action::Warn { .. } => "warn".to_string(),
    }
}

const TAKES_OVER: [&str; 4] = ["claim", "advert 150", "announce", "role master"];

/// 3 intervals and the skew time of version 3, in whole nanoseconds.
fn master_down(priority: u8, interval: Duration) -> Duration {
    3 * interval + skew(priority, interval)
}

fn skew(priority: u8, interval: Duration) -> Duration {
    Duration::from_nanos(interval.as_nanos() as u64 * (256 - u64::from(priority)) / 256)
}

// ---- RFC 9568 5.1: the IP header ---------------------------------------------------------------

/// What an advert looks like to the network: source, destinations.
fn first_way(host: &mut Host) -> (IpAddr, Vec<IpAddr>) {
    let span = host.patience().unwrap();
    host.wait(span);
    host.done
        .iter()
        .find_map(|(_, action)| match action {
            Action::Advertise { from, to, .. } => Some((*from, to.to_vec())),
            _ => None,
        })
        .unwrap()
}

#[test]
fn rfc9568_5_1_1_1_the_source_is_the_interfaces_first_address() {
    let mut host = Host::started(&[web()]);
    host.link(true, &[at(HERE6), at(HERE), at("10.0.0.9")]);
    assert_eq!(first_way(&mut host), (ip(HERE), vec![ip(GROUP)]));
}

#[test]
fn rfc9568_5_1_1_1_a_shared_address_is_never_the_source() {
    let other = RouterConfig {
        name: Arc::from("other"),
        vrid: Vrid::new(52).unwrap(),
        addresses: addresses(&["10.0.0.101"]),
        unadvertised_addresses: addresses(&["10.0.0.102"]),
        ..web()
    };
    let mut host = Host::started(&[web(), other]);
    let shared = [ours(SHARED), ours("10.0.0.101"), at("10.0.0.102"), ours("10.0.0.200")];
    host.link(true, &[shared[0], shared[1], shared[2], shared[3], at(HERE)]);
    assert_eq!(host.router().source(), Some(ip(HERE)));
    host.link(true, &shared);
    assert_eq!(host.reasons(), [Reason::NoAddress]);
}

#[test]
fn rfc9568_5_1_1_1_a_tentative_address_is_not_the_source() {
    let mut host = Host::started(&[web()]);
    host.link(true, &[LinkAddress { usable: false, ..at("10.0.0.9") }, at(HERE)]);
    assert_eq!(host.router().source(), Some(ip(HERE)));
}

#[test]
fn rfc9568_5_1_1_1_the_owner_may_send_from_the_address_it_owns() {
    let mut host = Host::started(&[priority(255)]);
    host.link(true, &[at(SHARED)]);
    assert_eq!(host.router().source(), Some(ip(SHARED)));
}

#[test]
fn rfc9568_5_1_1_1_the_configured_source_is_used_if_the_interface_has_it() {
    let wanted = RouterConfig { source_address: Some(ip("10.0.0.9")), ..web() };
    let mut host = Host::started(std::slice::from_ref(&wanted));
    host.link(true, &[at(HERE), at("10.0.0.9")]);
    assert_eq!(host.router().source(), Some(ip("10.0.0.9")));
    let mut without = Host::started(&[wanted]);
    without.link(true, &[at(HERE)]);
    assert_eq!(without.reasons(), [Reason::NoAddress]);
}

#[test]
fn rfc9568_5_1_1_3_an_advert_with_ttl_255_counts_and_every_other_ttl_is_discarded() {
    let mut host = Host::backup(web());
    let message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    host.sleeps(SECOND);
    let untouched = host.node.clone();
    for ttl in 0..255 {
        assert_eq!(host.packet(ABOVE, GROUP, ttl, &message), Err(Discard::Ttl(ttl)));
        assert_eq!(host.node, untouched);
    }
    assert_eq!(host.packet(ABOVE, GROUP, 255, &message), Ok(()));
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_5_1_1_3_a_unicast_peer_may_be_hops_away_down_to_the_minimum() {
    let mut host = Host::backup(RouterConfig { unicast_min_ttl: 60, ..unicast() });
    let message = encode(&advert_of(&web(), 200), ABOVE, HERE);
    assert_eq!(host.packet(ABOVE, HERE, 59, &message), Err(Discard::Ttl(59)));
    assert_eq!(host.packet(ABOVE, HERE, 60, &message), Ok(()));
}

#[test]
fn rfc9568_5_1_2_1_over_ipv6_the_source_is_the_link_local_address() {
    let mut host = Host::started(&[web6()]);
    host.link(true, &[at("2001:db8::2"), at(HERE), at(HERE6)]);
    assert_eq!(first_way(&mut host), (ip(HERE6), vec![ip(GROUP6)]));
}

#[test]
fn rfc9568_5_1_2_1_over_ipv6_without_a_link_local_address_nothing_is_sent() {
    let mut host = Host::started(&[web6()]);
    host.link(true, &[at("2001:db8::2"), at(HERE)]);
    assert_eq!(host.reasons(), [Reason::NoAddress]);
    host.wait(secs(60));
    assert_eq!(host.adverts(), []);
}

#[test]
fn rfc9568_5_1_2_1_to_ipv6_unicast_peers_the_source_is_not_the_link_local_address() {
    let peers = Some(Arc::from([ip("2001:db8::1")]));
    let mut host = Host::started(&[RouterConfig { unicast_peers: peers, ..web6() }]);
    host.link(true, &[at(HERE6), at("2001:db8::2")]);
    assert_eq!(first_way(&mut host), (ip("2001:db8::2"), vec![ip("2001:db8::1")]));
}

#[test]
fn rfc9568_5_1_2_3_an_advert_with_hop_limit_64_is_discarded() {
    let mut host = Host::backup(web6());
    let message = encode(&advert_of(&web6(), 200), ABOVE6, GROUP6);
    assert_eq!(host.packet(ABOVE6, GROUP6, 64, &message), Err(Discard::Ttl(64)));
    assert_eq!(host.packet(ABOVE6, GROUP6, 255, &message), Ok(()));
}

// ---- RFC 9568 5.2, 7.1: the message ------------------------------------------------------------

/// What is malformed changes nothing at all: not the timer, not what status shows.
fn is_refused(message: &[u8], why: Malformed) {
    let mut host = Host::backup(web());
    host.hears(200, ABOVE).unwrap();
    host.sleeps(SECOND);
    host.done.clear();
    let untouched = host.node.clone();
    assert_eq!(host.packet(ABOVE, GROUP, 255, message), Err(Discard::Malformed(why)));
    assert_eq!(host.node, untouched);
    assert_eq!(host.done, []);
}

/// What is well formed restarts the backup's timer.
fn is_heard(message: &[u8]) {
    let mut host = Host::backup(web());
    host.sleeps(SECOND);
    assert_eq!(host.packet(ABOVE, GROUP, 255, message), Ok(()));
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_5_2_a_correct_advert_is_heard() {
    is_heard(&encode(&advert_of(&web(), 200), ABOVE, GROUP));
    is_heard(&altered(|_| {}));
}

#[test]
fn rfc9568_5_2_1_an_unknown_version_is_discarded() {
    for version in [0, 1, 4, 15] {
        let message = altered(|m| m[0] = version << 4 | 1);
        is_refused(&message, Malformed::UnknownVersion(version));
    }
}

#[test]
fn rfc9568_5_2_2_an_unknown_type_is_discarded() {
    for kind in (0..16).filter(|kind| *kind != 1) {
        is_refused(&altered(|m| m[0] = 3 << 4 | kind), Malformed::UnknownType(kind));
    }
}

#[test]
fn rfc9568_5_2_3_vrid_0_is_discarded() {
    is_refused(&altered(|m| m[1] = 0), Malformed::ZeroVrid);
}

#[test]
fn rfc9568_5_2_3_an_advert_for_a_vrid_that_is_not_configured_is_discarded() {
    let mut host = Host::backup(web());
    let untouched = host.node.clone();
    for vrid in (1..=255).filter(|vrid| *vrid != 51) {
        let result = host.packet(ABOVE, GROUP, 255, &altered(|m| m[1] = vrid));
        assert_eq!(result, Err(Discard::UnknownRouter(Vrid::new(vrid).unwrap())));
    }
    assert_eq!(host.node, untouched);
}

#[test]
fn rfc9568_5_2_3_the_same_vrid_on_another_link_or_in_the_other_family_is_another_router() {
    let mut host = Host::backup(web());
    let vrid = Vrid::new(51).unwrap();
    let message = encode(&advert_of(&web6(), 200), ABOVE6, GROUP6);
    let result = host.packet(ABOVE6, GROUP6, 255, &message);
    assert_eq!(result, Err(Discard::UnknownRouter(vrid)));
    let message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    let (source, destination) = (ip(ABOVE), ip(GROUP));
    let elsewhere = Packet { link: LinkId(1), source, destination, ttl: 255, message: &message };
    assert_eq!(host.tell(Event::Packet(elsewhere)), Err(Discard::UnknownRouter(vrid)));
}

/// Erratum 8299.
#[test]
fn rfc9568_5_2_5_an_advert_with_no_address_is_discarded() {
    is_refused(&altered(|m| m[3] = 0), Malformed::NoAddresses);
    is_refused(
        &altered(|m| {
            m[3] = 0;
            m.truncate(8);
        }),
        Malformed::NoAddresses,
    );
}

#[test]
fn rfc9568_5_2_6_the_reserved_nibble_is_ignored() {
    for reserved in 0..16_u8 {
        is_heard(&altered(|m| m[4] |= reserved << 4));
    }
}

#[test]
fn rfc9568_5_2_6_the_reserved_nibble_is_sent_as_zero() {
    let interval = centis(4095);
    let advert = Advert { interval, ..advert_of(&web(), 150) };
    assert_eq!(encode(&advert, HERE, GROUP)[4..6], [0x0f, 0xff]);
}

/// Erratum 8301.
#[test]
fn rfc9568_5_2_7_an_interval_of_0_is_discarded() {
    is_refused(&altered(|m| m[4..6].fill(0)), Malformed::ZeroInterval);
    is_refused(&altered(|m| m[4..6].copy_from_slice(&[0xf0, 0])), Malformed::ZeroInterval);
}

#[test]
fn rfc9568_5_2_7_intervals_from_1_to_4095_centiseconds_are_adopted() {
    for interval in [1, 2, 99, 4095_u16] {
        let mut host = Host::backup(web());
        let message = altered(|m| m[4..6].copy_from_slice(&interval.to_be_bytes()));
        host.packet(ABOVE, GROUP, 255, &message).unwrap();
        let span = millis(u64::from(interval) * 10);
        assert_eq!(host.patience(), Some(master_down(150, span)));
    }
}

#[test]
fn rfc9568_5_2_8_both_forms_of_checksum_are_accepted_over_ipv4() {
    let plain = Advert { checksum: ChecksumForm::Plain, ..advert_of(&web(), 200) };
    let message = encode(&plain, ABOVE, GROUP);
    assert_eq!(message, altered(|_| {}));
    is_heard(&message);
    is_heard(&encode(&advert_of(&web(), 200), ABOVE, GROUP));
}

#[test]
fn rfc9568_5_2_8_a_wrong_checksum_is_discarded() {
    let good = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    for bit in 0..16 {
        let mut message = good.clone();
        message[6 + bit / 8] ^= 1 << (bit % 8);
        let received = u16::from_be_bytes([message[6], message[7]]);
        is_refused(&message, Malformed::BadChecksum(received));
    }
}

#[test]
fn rfc9568_5_2_8_a_damaged_priority_is_discarded() {
    let mut message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    message[2] = 0;
    let received = u16::from_be_bytes([message[6], message[7]]);
    is_refused(&message, Malformed::BadChecksum(received));
}

#[test]
fn rfc9568_5_2_8_over_ipv6_the_pseudo_header_is_required() {
    let mut host = Host::backup(web6());
    let mut message = encode(&advert_of(&web6(), 200), ABOVE6, GROUP6);
    assert_eq!(host.packet(ABOVE6, GROUP6, 255, &message), Ok(()));
    message[6..8].fill(0);
    let sum = plain_checksum(&message);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    let refused = Err(Discard::Malformed(Malformed::BadChecksum(sum)));
    assert_eq!(host.packet(ABOVE6, GROUP6, 255, &message), refused);
}

#[test]
fn rfc9568_7_1_an_advert_shorter_than_it_says_is_discarded() {
    let good = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    for length in 0..8 {
        is_refused(&good[..length], Malformed::TooShort { length, needed: 8 });
    }
    for length in 8..12 {
        is_refused(&good[..length], Malformed::TooShort { length, needed: 12 });
    }
    is_refused(&altered(|m| m[3] = 2), Malformed::TooShort { length: 12, needed: 16 });
}

#[test]
fn rfc9568_7_1_bytes_behind_the_advert_are_tolerated() {
    let mut message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    message.extend([0xaa; 28]);
    is_heard(&message);
}

#[test]
fn rfc9568_7_1_malformed_adverts_do_not_keep_a_backup_from_taking_over() {
    let mut host = Host::backup(web());
    host.hears(200, ABOVE).unwrap();
    host.begin();
    let broken = altered(|m| m[4..6].fill(0));
    for _ in 0..33 {
        host.wait(millis(100));
        assert!(host.packet(ABOVE, GROUP, 255, &broken).is_err());
    }
    host.wait(secs(1));
    assert_eq!(host.times("claim"), [master_down(150, SECOND)]);
}

#[test]
fn rfc9568_7_1_malformed_adverts_do_not_keep_a_master_from_advertising() {
    let mut host = Host::master(web());
    let broken = altered(|m| m.truncate(9));
    for _ in 0..50 {
        host.wait(millis(100));
        assert!(host.packet(ABOVE, GROUP, 255, &broken).is_err());
    }
    let expected: Vec<Duration> = (1..=5).map(secs).collect();
    assert_eq!(host.times("advert"), expected);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn rfc9568_7_1_an_advert_from_our_own_address_is_discarded() {
    for priority in [0, 1, 150, 255] {
        let mut host = Host::master(web());
        let untouched = host.node.clone();
        assert_eq!(host.hears(priority, HERE), Err(Discard::OwnAdvert));
        assert_eq!(host.node, untouched);
        assert_eq!(host.done, []);
    }
}

/// Erratum 8298: it says that it must not be ignored, and the election decides.
#[test]
fn rfc9568_7_1_an_owner_hears_a_second_owner() {
    let second = || advert_of(&priority(255), 255);
    let mut winner = Host::started(&[priority(255)]);
    winner.link_up();
    winner.begin();
    winner.hears_advert(&second(), BELOW).unwrap();
    assert_eq!(winner.role(), Role::Master);
    assert!(winner.warnings().contains(&Warning::TwoOwners { source: ip(BELOW) }));
    let mut loser = Host::started(&[priority(255)]);
    loser.link_up();
    loser.begin();
    loser.hears_advert(&second(), ABOVE).unwrap();
    assert!(loser.warnings().contains(&Warning::TwoOwners { source: ip(ABOVE) }));
    loser.wait(millis(5));
    assert_eq!(loser.role(), Role::Backup);
}

#[test]
fn rfc9568_7_1_an_owner_hears_a_lower_advert_without_a_word_about_two_owners() {
    let mut host = Host::started(&[priority(255)]);
    host.link_up();
    host.begin();
    host.hears(254, ABOVE).unwrap();
    let two = |warning: &Warning| matches!(warning, Warning::TwoOwners { .. });
    assert!(!host.warnings().iter().any(two));
    assert_eq!(host.role(), Role::Master);
}

/// Erratum 8300 lets the receiver judge; keepalived sends such lists.
#[test]
fn rfc9568_5_2_9_an_ipv6_list_that_does_not_begin_with_link_local_counts() {
    let config = RouterConfig { addresses: addresses(&["2001:db8::100"]), ..web6() };
    let mut host = Host::backup(config);
    host.sleeps(SECOND);
    host.hears(200, ABOVE6).unwrap();
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
    assert_eq!(host.warnings(), []);
}

#[test]
fn rfc9568_7_1_a_different_address_list_counts_and_is_warned_of() {
    let mut host = Host::backup(web());
    host.sleeps(SECOND);
    let other = Advert { addresses: addresses(&["10.0.0.101"]), ..advert_of(&web(), 200) };
    host.hears_advert(&other, ABOVE).unwrap();
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
    assert_eq!(host.warnings(), [Warning::DifferentAddresses { source: ip(ABOVE) }]);
}

#[test]
fn rfc9568_7_1_the_same_addresses_in_another_order_are_the_same() {
    let config = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.101"]), ..web() };
    let mut host = Host::backup(config);
    let turned = addresses(&["10.0.0.101", SHARED]);
    host.hears_advert(&Advert { addresses: turned, ..advert_of(&web(), 200) }, ABOVE).unwrap();
    assert_eq!(host.warnings(), []);
    let shorter = advert_of(&web(), 200);
    host.hears_advert(&shorter, ABOVE).unwrap();
    assert_eq!(host.warnings(), [Warning::DifferentAddresses { source: ip(ABOVE) }]);
}

#[test]
fn rfc9568_7_1_a_different_interval_counts_and_is_warned_of() {
    let mut host = Host::backup(web());
    let slow = Advert { interval: centis(300), ..advert_of(&web(), 200) };
    host.hears_advert(&slow, ABOVE).unwrap();
    let warning = Warning::DifferentInterval { source: ip(ABOVE), interval: centis(300) };
    assert_eq!(host.warnings(), [warning]);
    let mut same = Host::backup(web());
    same.hears(200, ABOVE).unwrap();
    assert_eq!(same.warnings(), []);
}

#[test]
fn rfc9568_7_2_the_advert_says_what_is_configured() {
    let config = RouterConfig {
        addresses: addresses(&[SHARED, "10.0.0.101"]),
        unadvertised_addresses: addresses(&["2001:db8::10"]),
        advert_interval: centis(250),
        checksum: ChecksumForm::Plain,
        ..web()
    };
    let mut host = Host::backup(config.clone());
    host.wait(secs(10));
    assert_eq!(host.adverts()[0], advert_of(&config, 150));
    assert_eq!(host.said()[0], "claim 10.0.0.100,10.0.0.101,2001:db8::10");
}

// ---- RFC 9568 6.1, 6.2: parameters and timers --------------------------------------------------

#[test]
fn rfc9568_6_1_the_master_down_interval_is_exact_for_every_priority_and_interval() {
    for interval in [1, 7, 33, 100, 4095] {
        for value in 1..=254 {
            let config = RouterConfig { advert_interval: centis(interval), ..priority(value) };
            let mut host = Host::backup(config);
            let exact = master_down(value, millis(u64::from(interval) * 10));
            host.wait(exact - NANO);
            assert_eq!(host.role(), Role::Backup, "{value} at {interval}: too early");
            host.wait(NANO);
            assert_eq!(host.role(), Role::Master, "{value} at {interval}: too late");
        }
    }
}

#[test]
fn rfc9568_6_1_skew_orders_the_backups_also_at_ten_milliseconds() {
    let fast = |value| RouterConfig { advert_interval: centis(1), ..priority(value) };
    let higher = Host::backup(fast(151)).patience().unwrap();
    let lower = Host::backup(fast(150)).patience().unwrap();
    assert_eq!(lower - higher, Duration::from_nanos(39_062) + NANO);
}

#[test]
fn rfc9568_6_1_a_backup_adopts_the_masters_interval() {
    let mut host = Host::backup(web());
    let slow = Advert { interval: centis(500), ..advert_of(&web(), 200) };
    host.hears_advert(&slow, ABOVE).unwrap();
    assert_eq!(host.patience(), Some(master_down(150, secs(5))));
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_6_1_a_backup_does_not_adopt_the_interval_of_a_master_it_is_about_to_depose() {
    let mut host = Host::backup(web());
    let slow = Advert { interval: centis(500), ..advert_of(&web(), 100) };
    host.hears_advert(&slow, BELOW).unwrap();
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_6_1_a_new_master_goes_back_to_its_own_interval() {
    let mut host = Host::backup(web());
    let slow = Advert { interval: centis(500), ..advert_of(&web(), 200) };
    host.hears_advert(&slow, ABOVE).unwrap();
    host.wait(master_down(150, secs(5)));
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.adverts()[0].interval, Interval::DEFAULT);
    host.begin();
    host.wait(secs(2));
    assert_eq!(host.times("advert"), [secs(1), secs(2)]);
}

// ---- RFC 9568 6.4.1: initialize ----------------------------------------------------------------

#[test]
fn rfc9568_6_4_1_the_owner_is_master_at_once_and_only_announces() {
    let mut host = Host::started(&[RouterConfig { link_delay: secs(9), ..priority(255) }]);
    host.link(true, &[at(SHARED)]);
    assert_eq!(host.said(), ["advert 255", "announce", "role master"]);
    assert_eq!(host.why(), Why::Owner);
    host.begin();
    host.wait(secs(10));
    assert_eq!(host.times("advert"), (1..=10).map(secs).collect::<Vec<_>>());
    assert!(host.times("claim").is_empty() && host.times("renew").is_empty());
}

#[test]
fn rfc9568_6_4_1_everybody_else_starts_as_backup_with_the_full_timer() {
    for value in [1, 100, 254] {
        let mut host = Host::backup(priority(value));
        assert_eq!(host.patience(), Some(master_down(value, SECOND)));
        assert_eq!(host.adverts(), []);
        host.wait(master_down(value, SECOND) - NANO);
        assert!(host.said().is_empty());
    }
}

#[test]
fn rfc9568_6_4_1_nothing_is_decided_before_the_interface_is_known() {
    let mut host = Host::started(&[web(), web6()]);
    assert_eq!(host.role(), Role::Waiting);
    assert_eq!(host.node.deadline(), None);
    host.wait(secs(100));
    assert_eq!(host.done, []);
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.done, []);
}

// ---- RFC 9568 6.4.2: backup --------------------------------------------------------------------

#[test]
fn rfc9568_6_4_2_a_backup_takes_over_exactly_at_the_master_down_interval() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    host.wait(master_down(150, SECOND));
    assert_eq!(host.times("claim"), [master_down(150, SECOND)]);
    assert_eq!(host.said(), TAKES_OVER);
    let (since, now) = (host.begun, host.now);
    assert_eq!(host.why(), Why::MasterSilent { master: ip(ABOVE), since, now });
}

#[test]
fn rfc9568_6_4_2_a_backup_whose_master_goes_on_advertising_stays_backup() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    for _ in 0..100 {
        host.wait(secs(1));
        host.hears(200, ABOVE).unwrap();
    }
    assert_eq!(host.done, []);
}

#[test]
fn rfc9568_6_4_2_priority_0_sets_the_timer_to_the_skew_time() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    host.hears(0, ABOVE).unwrap();
    host.wait(skew(150, SECOND) - NANO);
    assert_eq!(host.role(), Role::Backup);
    host.wait(NANO);
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.why(), Why::MasterLeft(ip(ABOVE)));
}

#[test]
fn rfc9568_6_4_2_the_skew_time_is_of_the_interval_the_master_used() {
    let mut host = Host::backup(web());
    let slow = |value| Advert { interval: centis(500), ..advert_of(&web(), value) };
    host.hears_advert(&slow(200), ABOVE).unwrap();
    host.hears_advert(&slow(0), ABOVE).unwrap();
    assert_eq!(host.patience(), Some(skew(150, secs(5))));
}

#[test]
fn rfc9568_6_4_2_an_advert_of_the_own_priority_restarts_the_timer_whoever_sends_it() {
    for from in [BELOW, ABOVE] {
        let mut host = Host::backup(web());
        host.wait(secs(3));
        host.hears(150, from).unwrap();
        assert_eq!(host.patience(), Some(master_down(150, SECOND)));
    }
}

#[test]
fn rfc9568_6_4_2_a_lower_advert_does_not_restart_the_timer_while_preempting() {
    let mut host = Host::backup(web());
    for _ in 0..4 {
        host.wait(millis(800));
        host.hears(149, ABOVE).unwrap();
    }
    host.wait(secs(1));
    assert_eq!(host.times("claim"), [master_down(150, SECOND)]);
    assert_eq!(host.why(), Why::Preempts { master: ip(ABOVE), priority: Priority::new(149) });
}

#[test]
fn rfc9568_6_4_2_a_lower_advert_restarts_the_timer_when_not_preempting() {
    let mut host = Host::backup(RouterConfig { preempt: false, ..web() });
    let slow = Advert { interval: centis(200), ..advert_of(&web(), 1) };
    for _ in 0..20 {
        host.wait(secs(2));
        host.hears_advert(&slow, BELOW).unwrap();
        assert_eq!(host.patience(), Some(master_down(150, secs(2))));
    }
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn rfc9568_6_4_2_a_new_master_claims_advertises_announces_in_this_order() {
    let mut host = Host::backup(web());
    host.wait(master_down(150, SECOND));
    assert_eq!(host.said(), TAKES_OVER);
}

#[test]
fn rfc9568_6_4_2_a_backup_says_nothing_whatever_it_hears() {
    let mut host = Host::backup(web());
    for value in [0, 1, 100, 149, 150, 151, 254, 255] {
        host.hears(value, ABOVE).unwrap();
        host.hears(value, BELOW).unwrap();
    }
    host.sees(STRANGER, SHARED);
    host.command(Command::Announce(WEB));
    host.command(Command::Failover(WEB));
    host.loses(SHARED);
    assert_eq!(host.done, []);
}

#[test]
fn rfc9568_6_4_2_a_backup_that_stops_says_nothing_to_the_link() {
    let mut host = Host::backup_of(web(), 200, ABOVE);
    host.stop(Stop::Leave);
    assert_eq!(host.said(), ["role stopped"]);
    assert!(host.node.is_stopped());
    assert_eq!(host.node.deadline(), None);
    host.hears(0, ABOVE).unwrap();
    host.wait(secs(60));
    assert_eq!(host.done, []);
}

// ---- RFC 9568 6.4.3: master --------------------------------------------------------------------

#[test]
fn rfc9568_6_4_3_a_master_advertises_once_per_interval() {
    let mut host = Host::master(web());
    host.wait(secs(100));
    assert_eq!(host.times("advert"), (1..=100).map(secs).collect::<Vec<_>>());
}

#[test]
fn rfc9568_6_4_3_an_advert_that_was_late_does_not_shift_the_next_one() {
    let mut host = Host::master(web());
    host.sleeps(millis(1400));
    host.wait(millis(1600));
    assert_eq!(host.times("advert"), [millis(1400), secs(2), secs(3)]);
}

#[test]
fn rfc9568_6_4_3_a_master_that_hears_priority_0_advertises_at_once() {
    let mut host = Host::master(web());
    host.wait(millis(500));
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.times("advert"), [millis(500)]);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn rfc9568_6_4_3_a_higher_priority_makes_a_backup_whoever_sends_it() {
    for from in [BELOW, ABOVE] {
        let mut host = Host::master(web());
        host.hears(151, from).unwrap();
        host.wait(millis(5));
        assert_eq!(host.role(), Role::Backup);
        assert_eq!(host.said(), ["advert 150", "role leaving", "release", "role backup"]);
        let (to, priority) = (ip(from), Priority::new(151));
        assert_eq!(host.why(), Why::LostElection { to, priority });
    }
}

#[test]
fn rfc9568_6_4_3_an_equal_priority_from_a_higher_address_makes_a_backup() {
    let mut host = Host::master(web());
    host.hears(150, ABOVE).unwrap();
    host.wait(millis(5));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn rfc9568_6_4_3_an_equal_priority_from_a_lower_address_is_answered_at_once() {
    let mut host = Host::master(web());
    host.wait(millis(500));
    host.hears(150, BELOW).unwrap();
    assert_eq!(host.times("advert"), [millis(500)]);
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn rfc9568_6_4_3_addresses_are_compared_as_numbers_of_network_order() {
    let mut host = Host::master(web());
    host.hears(150, "9.255.255.255").unwrap();
    assert_eq!(host.role(), Role::Master);
    host.hears(150, "10.0.1.0").unwrap();
    assert_eq!(host.role(), Role::Leaving);
    let mut six = Host::master(web6());
    six.hears(150, BELOW6).unwrap();
    assert_eq!(six.role(), Role::Master);
    six.hears(150, ABOVE6).unwrap();
    assert_eq!(six.role(), Role::Leaving);
}

#[test]
fn rfc9568_6_4_3_a_lower_priority_is_answered_at_once_whoever_sends_it() {
    for from in [BELOW, ABOVE] {
        let mut host = Host::master(web());
        host.wait(millis(500));
        host.hears(149, from).unwrap();
        assert_eq!(host.times("advert"), [millis(500)]);
        assert_eq!(host.adverts()[0].priority, Priority::new(150));
        assert_eq!(host.role(), Role::Master);
    }
}

#[test]
fn rfc9568_6_4_3_a_loser_adopts_the_winners_interval() {
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(RouterConfig { handover, ..web() });
        let slow = Advert { interval: centis(500), ..advert_of(&web(), 200) };
        host.hears_advert(&slow, ABOVE).unwrap();
        host.wait(millis(5));
        assert_eq!(host.role(), Role::Backup);
        host.wait(master_down(150, secs(5)) - millis(5) - NANO);
        assert_eq!(host.role(), Role::Backup);
        host.wait(millis(6));
        assert_eq!(host.role(), Role::Master);
    }
}

#[test]
fn rfc9568_6_4_3_a_loser_waits_the_full_interval_from_the_winners_advert() {
    let mut host = Host::master(exclusive());
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_6_4_3_a_master_that_stops_sends_priority_0() {
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(RouterConfig { handover, ..web() });
        host.stop(Stop::Leave);
        assert_eq!(host.adverts().last().unwrap().priority, Priority::LEAVING);
        assert_eq!(host.adverts().last().unwrap().addresses, web().addresses);
    }
}

#[test]
fn rfc9568_6_4_3_a_loser_has_one_last_word_and_no_more() {
    // It lets a winner that did not know of it announce again; without addresses it is a farewell.
    for (handover, word) in [(Handover::Overlap, 150), (Handover::Exclusive, 0)] {
        let mut host = Host::master(RouterConfig { handover, ..web() });
        host.hears(200, ABOVE).unwrap();
        host.wait(secs(3));
        let said: Vec<u8> = host.adverts().iter().map(|advert| advert.priority.get()).collect();
        assert_eq!(said, [word]);
    }
}

#[test]
fn a_loser_that_has_just_answered_has_no_last_word() {
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(RouterConfig { handover, ..web() });
        host.hears(149, BELOW).unwrap();
        host.wait(millis(9));
        host.hears(200, ABOVE).unwrap();
        host.wait(millis(500));
        assert_eq!(
            host.times("advert"),
            [Duration::ZERO],
            "one in ten milliseconds, whatever comes"
        );
    }
}

// ---- version 2: RFC 3768 -----------------------------------------------------------------------

#[test]
fn rfc3768_6_1_skew_of_version_2_does_not_depend_on_the_interval() {
    for value in 1..=254 {
        let slow = RouterConfig { advert_interval: centis(300), ..web2() };
        let host = Host::backup(RouterConfig { priority: Priority::new(value), ..slow });
        assert_eq!(host.patience(), Some(secs(9) + skew(value, SECOND)));
    }
}

#[test]
fn rfc3768_6_4_2_priority_0_sets_the_timer_of_version_2_to_its_skew_time() {
    let mut host = Host::backup(RouterConfig { advert_interval: centis(300), ..web2() });
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.patience(), Some(skew(150, SECOND)));
}

#[test]
fn rfc3768_5_3_a_version_2_master_sends_version_2() {
    let mut host = Host::master(web2());
    host.wait(SECOND);
    let advert = host.adverts()[0].clone();
    assert_eq!(advert.version, Version::V2);
    let message = encode(&advert, HERE, GROUP);
    assert_eq!(message.len(), 8 + 4 + 8);
    assert_eq!(message[..6], [0x21, 51, 150, 1, 0, 1]);
    assert_eq!(message[12..], [0; 8]);
    assert_eq!(plain_checksum(&message), 0);
}

#[test]
fn rfc3768_7_1_a_version_2_advert_with_equal_settings_counts() {
    let mut host = Host::backup(web2());
    host.sleeps(SECOND);
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc3768_7_1_a_version_2_advert_with_another_interval_is_incompatible() {
    let mut host = Host::backup(web2());
    let slow = Advert { interval: centis(200), ..advert_of(&web2(), 200) };
    is_incompatible(&mut host, &slow, Mismatch::Interval(centis(200)));
    let mut slower = Host::backup(RouterConfig { advert_interval: centis(300), ..web2() });
    is_incompatible(&mut slower, &slow, Mismatch::Interval(centis(200)));
}

#[test]
fn rfc3768_7_1_a_version_2_advert_with_other_authentication_is_incompatible() {
    let secret = RouterConfig { authentication: Some(*b"secret\0\0"), ..web2() };
    let mut host = Host::backup(secret.clone());
    is_incompatible(&mut host, &advert_of(&web2(), 200), Mismatch::Authentication);
    let wrong = Advert { authentication: Some(*b"Secret\0\0"), ..advert_of(&web2(), 200) };
    is_incompatible(&mut host, &wrong, Mismatch::Authentication);
    host.hears_advert(&advert_of(&secret, 200), ABOVE).unwrap();
    let mut open = Host::backup(web2());
    is_incompatible(&mut open, &advert_of(&secret, 200), Mismatch::Authentication);
}

#[test]
fn rfc3768_7_1_authentication_type_2_is_incompatible() {
    let mut host = Host::backup(web2());
    let mut message = encode(&advert_of(&web2(), 200), ABOVE, GROUP);
    message[4] = 2;
    message[6..8].fill(0);
    let sum = plain_checksum(&message);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    let refused = Err(Discard::Incompatible(Mismatch::Authentication));
    assert_eq!(host.packet(ABOVE, GROUP, 255, &message), refused);
}

#[test]
fn rfc3768_7_1_a_version_2_advert_without_its_authentication_data_is_too_short() {
    let mut host = Host::backup(web2());
    let message = encode(&advert_of(&web2(), 200), ABOVE, GROUP);
    let short = Malformed::TooShort { length: 12, needed: 20 };
    assert_eq!(host.packet(ABOVE, GROUP, 255, &message[..12]), Err(Discard::Malformed(short)));
}

#[test]
fn rfc3768_version_2_over_ipv6_is_refused() {
    let mut host = Host::backup(web6());
    let mut message = encode(&advert_of(&web6(), 200), ABOVE6, GROUP6);
    message[0] = 0x21;
    let refused = Err(Discard::Malformed(Malformed::Version2OverIpv6));
    assert_eq!(host.packet(ABOVE6, GROUP6, 255, &message), refused);
}

// ---- incompatible peers, and strangers ---------------------------------------------------------

/// It changes nothing but what status tells, and is warned of with the key to change.
fn is_incompatible(host: &mut Host, advert: &Advert, mismatch: Mismatch) {
    let before = (host.router().state().clone(), host.router().peer().cloned());
    host.sleeps(secs(60));
    host.done.clear();
    let result = host.hears_advert(advert, ABOVE);
    assert_eq!(result, Err(Discard::Incompatible(mismatch)));
    assert_eq!(before, (host.router().state().clone(), host.router().peer().cloned()));
    assert_eq!(host.warnings(), [Warning::Incompatible { source: ip(ABOVE), mismatch }]);
    let known = host.router().incompatible().last().unwrap();
    assert_eq!((known.source, known.mismatch, known.at), (ip(ABOVE), mismatch, host.now));
}

#[test]
fn incompatible_versions_are_named() {
    let mut three = Host::backup(web());
    is_incompatible(&mut three, &advert_of(&web2(), 200), Mismatch::Version(Version::V2));
    let mut two = Host::backup(web2());
    is_incompatible(&mut two, &advert_of(&web(), 200), Mismatch::Version(Version::V3));
}

#[test]
fn incompatible_unicast_where_multicast_is_expected_is_named() {
    let mut host = Host::backup(web());
    let message = encode(&advert_of(&web(), 200), ABOVE, HERE);
    let refused = Err(Discard::Incompatible(Mismatch::Unicast));
    assert_eq!(host.packet(ABOVE, HERE, 255, &message), refused);
    assert_eq!(host.times("warn").len(), 1);
}

#[test]
fn incompatible_multicast_where_unicast_is_expected_is_named() {
    let mut host = Host::backup(unicast());
    let message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    let refused = Err(Discard::Incompatible(Mismatch::Multicast));
    assert_eq!(host.packet(ABOVE, GROUP, 255, &message), refused);
    assert_eq!(host.times("warn").len(), 1);
}

#[test]
fn incompatible_warnings_come_once_a_minute_and_status_knows_the_last() {
    let mut host = Host::master(web());
    for _ in 0..120 {
        let _ = host.hears_advert(&advert_of(&web2(), 200), ABOVE);
        host.wait(secs(1));
    }
    assert_eq!(host.times("warn"), [secs(0), secs(60)]);
    assert_eq!(host.router().incompatible().len(), 1);
}

#[test]
fn incompatible_strangers_in_any_number_are_not_all_remembered() {
    let mut host = Host::backup(web());
    for n in 1..=200 {
        let from = format!("10.0.1.{n}");
        let _ = host.hears_advert(&advert_of(&web2(), 200), &from);
    }
    assert_eq!(host.router().incompatible().len(), 8);
    assert_eq!(host.router().incompatible()[7].source, ip("10.0.1.200"));
    assert_eq!(host.times("warn").len(), 1);
}

#[test]
fn accept_from_admits_the_named_and_refuses_the_rest() {
    let accept_from = Some(Arc::from([ip(ABOVE)]));
    let mut host = Host::backup(RouterConfig { accept_from, ..web() });
    host.sleeps(SECOND);
    let untouched = host.node.clone();
    assert_eq!(host.hears(200, BELOW), Err(Discard::NotAccepted));
    assert_eq!(host.hears_advert(&advert_of(&web2(), 200), BELOW), Err(Discard::NotAccepted));
    assert_eq!(host.node, untouched);
    assert_eq!(host.done, []);
    assert_eq!(host.hears(200, ABOVE), Ok(()));
}

#[test]
fn unicast_adverts_go_to_the_peers_and_come_from_them_only() {
    let mut host = Host::started(&[unicast()]);
    host.link_up();
    let untouched = host.node.clone();
    assert_eq!(host.hears(200, "10.0.0.77"), Err(Discard::NotAPeer));
    assert_eq!(host.node, untouched);
    assert_eq!(first_way(&mut host), (ip(HERE), vec![ip(BELOW), ip(ABOVE)]));
    assert_eq!(host.hears(200, ABOVE), Ok(()));
}

#[test]
fn warnings_of_one_kind_come_at_most_once_a_minute() {
    let mut host = Host::master(web());
    for _ in 0..1200 {
        host.wait(millis(100));
        host.hears(149, BELOW).unwrap();
    }
    // Not in the first interval: a master that gives way has a last word.
    assert_eq!(host.times("warn"), [secs(1), secs(61)]);
}

#[test]
fn warnings_of_another_kind_are_not_held_up() {
    let mut host = Host::master(web());
    host.wait(secs(1));
    host.hears(149, BELOW).unwrap();
    host.sees(STRANGER, SHARED);
    let _ = host.hears_advert(&advert_of(&web2(), 200), ABOVE);
    host.loses(SHARED);
    assert_eq!(host.warnings().len(), 4);
}

// ---- floods ------------------------------------------------------------------------------------

fn gaps(times: &[Duration]) -> Duration {
    times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap()
}

#[test]
fn a_flood_of_lower_adverts_gets_one_extra_advert_in_ten_milliseconds() {
    for value in [0, 149] {
        let slow = RouterConfig { advert_interval: centis(4095), ..web() };
        let mut host = Host::master(slow);
        for _ in 0..10_000 {
            host.hears(value, BELOW).unwrap();
            host.wait(Duration::from_micros(100));
        }
        let adverts = host.times("advert");
        assert_eq!(gaps(&adverts), millis(10));
        assert_eq!(adverts.len(), 101);
        assert_eq!(host.role(), Role::Master);
    }
}

#[test]
fn a_single_lower_advert_within_ten_milliseconds_of_another_is_answered_too() {
    let mut host = Host::master(web());
    host.hears(149, BELOW).unwrap();
    host.wait(millis(1));
    host.hears(149, BELOW).unwrap();
    host.wait(millis(500));
    assert_eq!(host.times("advert"), [millis(0), millis(10)]);
}

#[test]
fn a_flood_of_lower_adverts_gets_one_announcement_a_second() {
    let mut host = Host::master(web());
    host.wait(secs(40));
    host.begin();
    for _ in 0..5_000 {
        host.hears(149, BELOW).unwrap();
        host.wait(MILLI);
    }
    let announced = host.times("announce");
    assert_eq!(announced[0], Duration::ZERO);
    assert_eq!(gaps(&announced), SECOND);
    assert_eq!(announced.len(), 6);
}

#[test]
fn a_flood_does_not_starve_the_schedule() {
    let mut host = Host::master(RouterConfig { advert_interval: centis(10), ..web() });
    for _ in 0..1000 {
        host.hears(149, BELOW).unwrap();
        host.wait(MILLI);
    }
    let adverts = host.times("advert");
    assert!((1..=10).all(|n| adverts.contains(&millis(100 * n))));
    assert!(adverts.len() <= 100 + 10 + 1);
}

// ---- DESIGN section 4: announcements -----------------------------------------------------------

#[test]
fn announcements_repeat_after_10_ms_100_ms_1_s_5_s_and_then_every_30_s() {
    let mut host = Host::master(web());
    host.wait(secs(100));
    let expected = [10, 100, 1000, 5000, 35_000, 65_000, 95_000].map(millis);
    assert_eq!(host.times("announce"), expected);
}

#[test]
fn a_lower_advert_makes_announce_at_once_but_not_within_a_second_of_the_last() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.begin();
    host.hears(149, BELOW).unwrap();
    host.wait(millis(100));
    host.hears(149, BELOW).unwrap();
    host.wait(millis(1500));
    assert_eq!(host.times("announce"), [secs(0), secs(1)]);
}

#[test]
fn a_foreign_announcement_is_answered_after_20_ms() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.begin();
    host.sees(STRANGER, SHARED);
    host.wait(millis(900));
    assert_eq!(host.times("announce"), [millis(20)]);
    let warning = Warning::Contention { address: ip(SHARED), mac: STRANGER };
    assert_eq!(host.warnings(), [warning]);
}

#[test]
fn a_foreign_announcement_is_not_answered_by_one_who_is_master_no_more() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.begin();
    host.sees(STRANGER, SHARED);
    host.hears(200, ABOVE).unwrap();
    host.wait(secs(2));
    assert!(host.times("announce").is_empty());
}

#[test]
fn an_announcement_war_is_fought_once_a_second() {
    let mut host = Host::master(web());
    host.wait(secs(40));
    host.begin();
    for _ in 0..10_000 {
        host.sees(STRANGER, SHARED);
        host.wait(MILLI);
    }
    assert_eq!(host.times("announce").len(), 10);
    assert_eq!(gaps(&host.times("announce")), SECOND);
    assert_eq!(host.times("warn").len(), 1);
    assert!(host.times("advert").len() == 10);
}

#[test]
fn a_foreign_announcement_of_an_address_that_is_not_ours_means_nothing() {
    let mut host = Host::master(web());
    host.wait(secs(3));
    host.begin();
    host.sees(STRANGER, "10.0.0.101");
    host.wait(millis(900));
    assert_eq!(host.done, []);
}

#[test]
fn announcing_on_command_is_done_by_the_master_at_once() {
    let mut host = Host::master(web());
    host.command(Command::Announce(WEB));
    assert_eq!(host.said(), ["announce"]);
}

// ---- DESIGN section 4: leaving, overlap --------------------------------------------------------

fn left_by(host: &mut Host, leave: Leave) {
    match leave {
        Leave::Stop => host.stop(Stop::Leave),
        Leave::Failover => host.command(Command::Failover(WEB)),
        Leave::Drain => host.command(Command::Drain),
        Leave::Removed => host.reload(&[]),
        Leave::Election { .. } | Leave::Group => unreachable!(),
    }
}

const WAYS: [Leave; 4] = [Leave::Stop, Leave::Failover, Leave::Drain, Leave::Removed];

#[test]
fn overlap_says_priority_0_and_goes_on_answering() {
    for leave in WAYS {
        let mut host = Host::master(web());
        host.wait(MILLI);
        left_by(&mut host, leave);
        let said = host.said();
        assert_eq!(said, ["role leaving", "advert 0", "renew"], "{leave:?}");
        assert_eq!(host.role(), Role::Leaving);
        assert!(host.router().has_addresses() && !host.node.is_stopped());
    }
}

#[test]
fn overlap_releases_5_ms_after_the_successors_advert() {
    for leave in WAYS {
        for successor in [1, 149, 200] {
            let mut host = Host::master(web());
            left_by(&mut host, leave);
            host.wait(millis(413));
            host.begin();
            host.hears(successor, BELOW).unwrap();
            host.wait(millis(100));
            assert_eq!(host.times("release"), [millis(5)]);
            let (to, leave) = (ip(BELOW), leave);
            let told = host.done.iter().find_map(|(_, action)| match action {
                Action::Notify(transition) => Some(transition.why.clone()),
                _ => None,
            });
            assert_eq!(told, Some(Why::HandedOver { to, leave }));
        }
    }
}

#[test]
fn overlap_releases_1_ms_after_the_successors_announcement() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.wait(millis(413));
    host.begin();
    host.hears(149, BELOW).unwrap();
    host.wait(MILLI);
    host.sees(STRANGER, SHARED);
    host.wait(secs(1));
    assert_eq!(host.times("release"), [millis(2)]);
    assert!(host.node.is_stopped());
}

#[test]
fn overlap_waits_no_longer_for_a_late_announcement() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.hears(149, BELOW).unwrap();
    host.wait(Duration::from_micros(4500));
    host.sees(STRANGER, SHARED);
    host.wait(secs(1));
    assert_eq!(host.times("release"), [millis(5)]);
}

#[test]
fn overlap_does_not_take_another_leaver_or_itself_for_the_successor() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.hears(150, HERE), Err(Discard::OwnAdvert));
    host.sees(STRANGER, SHARED);
    host.wait(millis(900));
    assert_eq!(host.role(), Role::Leaving);
}

#[test]
fn overlap_repeats_priority_0_once_per_interval() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.hears(0, ABOVE).unwrap();
    host.wait(secs(3));
    assert_eq!(host.times("advert"), [0, 1, 2, 3].map(secs));
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::LEAVING));
}

#[test]
fn overlap_failover_and_drain_take_the_role_back_when_nobody_comes() {
    for leave in [Leave::Failover, Leave::Drain] {
        let mut host = Host::master(web());
        left_by(&mut host, leave);
        host.wait(secs(4) - NANO);
        assert_eq!(host.role(), Role::Leaving);
        host.done.clear();
        host.wait(NANO);
        assert_eq!(host.said(), ["advert 150", "renew", "announce", "role master"]);
        assert_eq!(host.why(), Why::NobodyCame);
        host.begin();
        host.wait(secs(100));
        assert_eq!(host.role(), Role::Master);
        assert_eq!(host.times("advert").len(), 100);
        assert!(host.times("release").is_empty());
    }
}

#[test]
fn overlap_stop_and_removal_release_when_nobody_comes() {
    for leave in [Leave::Stop, Leave::Removed] {
        let mut host = Host::master(web());
        left_by(&mut host, leave);
        host.wait(secs(4) - NANO);
        assert_eq!(host.role(), Role::Leaving);
        host.done.clear();
        host.wait(NANO);
        assert_eq!(host.said(), ["release", "role stopped"]);
    }
}

#[test]
fn overlap_waits_at_most_ten_seconds() {
    let mut host = Host::master(RouterConfig { advert_interval: centis(4095), ..web() });
    host.stop(Stop::Leave);
    host.wait(secs(60));
    assert_eq!(host.times("release"), [secs(10)]);
    assert_eq!(host.times("advert"), [secs(0)]);
}

#[test]
fn overlap_losing_an_election_lingers_until_the_announcement_or_5_ms() {
    let mut host = Host::master(web());
    host.hears(200, ABOVE).unwrap();
    host.wait(millis(2));
    host.sees(STRANGER, SHARED);
    host.wait(secs(1));
    assert_eq!(host.times("release"), [millis(3)]);
    let mut silent = Host::master(web());
    silent.hears(200, ABOVE).unwrap();
    silent.wait(secs(1));
    assert_eq!(silent.times("release"), [millis(5)]);
}

#[test]
fn a_failover_while_the_daemon_stops_does_not_bring_the_role_back() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.wait(secs(1));
    host.command(Command::Failover(WEB));
    host.command(Command::Drain);
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Stopped);
    assert!(host.node.is_stopped());
}

#[test]
fn a_stop_while_a_failover_waits_for_its_successor_ends_in_a_release() {
    let mut host = Host::master(web());
    host.command(Command::Failover(WEB));
    host.wait(secs(1));
    host.stop(Stop::Leave);
    host.wait(secs(60));
    assert!(host.node.is_stopped());
    assert_eq!(host.times("release").len(), 1);
}

#[test]
fn a_drain_after_a_failover_that_nobody_took_is_tried_again() {
    let mut host = Host::master(web());
    host.command(Command::Failover(WEB));
    host.wait(secs(10));
    assert_eq!(host.why(), Why::NobodyCame);
    for _ in 0..2 {
        host.command(Command::Drain);
        assert_eq!(host.role(), Role::Leaving);
        host.wait(secs(10));
        assert_eq!(host.role(), Role::Master);
    }
    host.link_up();
    assert_eq!(host.role(), Role::Master);
}

// ---- DESIGN section 4: leaving, exclusive ------------------------------------------------------

#[test]
fn exclusive_releases_before_it_says_priority_0() {
    for leave in WAYS {
        let mut host = Host::master(exclusive());
        left_by(&mut host, leave);
        let said = host.said();
        assert_eq!(said[0], "release", "{leave:?}");
        assert_eq!(said[2], "advert 0", "{leave:?}");
        assert_eq!(said.len(), 3, "{leave:?}: {said:?}");
        assert!(!host.router().has_addresses());
    }
}

#[test]
fn exclusive_losing_an_election_releases_before_anything_else() {
    let mut host = Host::master(exclusive());
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.said(), ["release", "role backup", "advert 0"]);
}

#[test]
fn exclusive_failover_that_nobody_takes_is_taken_back_after_the_master_down_interval() {
    let mut host = Host::master(exclusive());
    host.command(Command::Failover(WEB));
    assert!(host.router().held_back());
    host.begin();
    host.wait(secs(60));
    assert_eq!(host.times("claim"), [master_down(150, SECOND)]);
    assert!(!host.router().held_back());
}

// ---- DESIGN section 4: before_release ----------------------------------------------------------

#[test]
fn before_release_runs_while_adverts_and_renewals_go_on() {
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(prepared(handover));
        host.wait(millis(300));
        host.command(Command::Failover(WEB));
        let Some((_, Action::Notify(transition))) = host.done.last() else { panic!() };
        assert!(transition.before_release && transition.to == Role::Leaving);
        host.begin();
        host.wait(secs(10));
        let expected: Vec<Duration> = (0..10).map(|n| secs(n) + millis(700)).collect();
        assert_eq!(host.times("advert"), expected);
        assert_eq!(host.times("renew"), expected);
        assert!(host.adverts().iter().all(|advert| advert.priority == Priority::new(150)));
    }
}

#[test]
fn before_release_ends_with_the_hook_whatever_it_said() {
    for succeeded in [true, false] {
        let mut host = Host::master(prepared(Handover::Exclusive));
        host.stop(Stop::Leave);
        host.wait(millis(1500));
        host.begin();
        host.hook_ended(Hook::BeforeRelease, succeeded);
        assert_eq!(host.said(), ["release", "role stopped", "advert 0"]);
    }
}

#[test]
fn before_release_is_not_ended_by_another_hook() {
    let mut host = Host::master(prepared(Handover::Exclusive));
    host.stop(Stop::Leave);
    host.begin();
    for hook in [Hook::Master, Hook::Backup, Hook::Fault, Hook::Stop] {
        host.hook_ended(hook, true);
    }
    assert_eq!(host.role(), Role::Leaving);
    assert_eq!(host.done, []);
}

#[test]
fn before_release_ends_when_its_time_is_up() {
    let mut host = Host::master(prepared(Handover::Overlap));
    host.stop(Stop::Leave);
    host.begin();
    host.wait(secs(20) - NANO);
    let leaving = |advert: &Advert| advert.priority == Priority::LEAVING;
    assert!(!host.adverts().iter().any(leaving));
    host.wait(NANO);
    assert!(host.adverts().iter().any(leaving));
    assert_eq!(host.times("advert").last(), Some(&secs(20)));
    host.wait(secs(4));
    assert_eq!(host.times("release"), [secs(24)]);
}

#[test]
fn before_release_does_not_run_when_an_election_is_lost() {
    let mut host = Host::master(prepared(Handover::Exclusive));
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.said(), ["release", "role backup", "advert 0"]);
}

#[test]
fn before_release_is_cut_short_by_a_better_master() {
    let mut exclusive = Host::master(prepared(Handover::Exclusive));
    exclusive.stop(Stop::Leave);
    exclusive.begin();
    exclusive.hears(200, ABOVE).unwrap();
    assert_eq!(exclusive.said(), ["release", "role stopped"]);
    let mut overlap = Host::master(prepared(Handover::Overlap));
    overlap.stop(Stop::Leave);
    overlap.begin();
    overlap.hears(200, ABOVE).unwrap();
    overlap.wait(millis(5));
    assert_eq!(overlap.said(), ["release", "role stopped"]);
}

#[test]
fn before_release_answers_a_lower_master_like_any_master() {
    for value in [0, 149] {
        let mut host = Host::master(prepared(Handover::Exclusive));
        host.wait(millis(500));
        host.command(Command::Failover(WEB));
        host.begin();
        for _ in 0..100 {
            host.hears(value, ABOVE).unwrap();
            host.wait(Duration::from_micros(1000));
        }
        assert_eq!(host.role(), Role::Leaving);
        let adverts = host.times("advert");
        assert_eq!(adverts[0], Duration::ZERO, "{value}");
        assert_eq!(gaps(&adverts), millis(10));
    }
}

// ---- DESIGN section 4: the lease ---------------------------------------------------------------

#[test]
fn the_lease_is_claimed_with_its_lifetime_and_renewed_right_after_each_advert() {
    let mut host = Host::backup(web());
    host.wait(master_down(150, SECOND));
    let claimed = host
        .done
        .iter()
        .any(|(_, action)| matches!(action, Action::Claim { lifetime: Some(2), .. }));
    assert!(claimed);
    host.begin();
    host.wait(millis(3500));
    host.hears(149, BELOW).unwrap();
    let said: Vec<String> = host.said().into_iter().filter(|word| word != "announce").collect();
    // An advert beside the schedule renews nothing: strangers can ask for a hundred a second.
    assert_eq!(
        said,
        ["advert 150", "renew"]
            .repeat(3)
            .into_iter()
            .chain(["advert 150", "warn"])
            .collect::<Vec<_>>()
    );
}

#[test]
fn the_lease_is_never_renewed_without_an_advert_in_the_same_step() {
    let mut host = Host::master(web());
    for step in 0..200 {
        match step % 5 {
            0 => host.hears(149, BELOW).unwrap(),
            1 => host.sees(STRANGER, SHARED),
            2 => host.command(Command::Announce(WEB)),
            _ => {}
        }
        host.wait(millis(37));
    }
    let renewed = host.times("renew");
    assert!(renewed.len() > 5);
    let words: Vec<String> = host.said();
    for (n, word) in words.iter().enumerate() {
        assert!(word != "renew" || words[n - 1].starts_with("advert"), "{words:?}");
    }
}

#[test]
fn the_lease_of_a_fast_router_is_renewed_twice_a_second_and_with_adverts_only() {
    let mut host = Host::master(RouterConfig { advert_interval: centis(1), ..web() });
    host.wait(secs(10));
    assert_eq!(host.times("renew"), (1..=20).map(|n| millis(500 * n)).collect::<Vec<_>>());
}

#[test]
fn the_lease_that_is_off_is_neither_set_nor_renewed() {
    let mut host = Host::backup(RouterConfig { address_lifetime: None, ..web() });
    host.wait(secs(30));
    let claims = host.done.iter().filter(|(_, action)| matches!(action, Action::Claim { .. }));
    assert!(
        claims
            .map(|(_, action)| action)
            .all(|action| matches!(action, Action::Claim { lifetime: None, .. }))
    );
    assert!(host.times("renew").is_empty());
}

#[test]
fn the_automatic_lease_is_three_intervals_less_a_second() {
    let of = |centis_| RouterConfig::automatic_lifetime(centis(centis_));
    assert_eq!([70, 99, 100, 133, 134, 200, 4095].map(of), [1, 1, 2, 2, 3, 5, 121]);
    assert_eq!([1, 10, 69].map(of), [2, 2, 2]);
}

#[test]
fn the_lease_goes_on_while_leaving() {
    let mut host = Host::master(web());
    host.wait(MILLI);
    host.stop(Stop::Leave);
    host.wait(secs(3));
    assert_eq!(host.times("renew").len(), 4);
    assert_eq!(host.times("renew"), host.times("advert"));
}

// ---- DESIGN section 4: late --------------------------------------------------------------------

/// Every event that can reach a master; each must find out that it comes too late.
fn wake(host: &mut Host, how: usize) {
    match how {
        0 => host.timeout(),
        1 => host.hears(149, BELOW).unwrap(),
        2 => host.hears(200, ABOVE).unwrap(),
        3 => host.sees(STRANGER, SHARED),
        4 => host.link_up(),
        5 => host.command(Command::Announce(WEB)),
        6 => host.command(Command::Failover(WEB)),
        7 => host.command(Command::Drain),
        8 => host.loses(SHARED),
        9 => host.hook_ended(Hook::BeforeRelease, true),
        10 => host.stop(Stop::Leave),
        11 => host.reload(&[priority(160)]),
        12 => host.reload(&[]),
        13 => host.tell(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap(),
        14 => host.command(Command::Undrain),
        _ => unreachable!(),
    }
}

#[test]
fn late_after_three_intervals_whatever_happens_first() {
    for how in 0..15 {
        for handover in [Handover::Overlap, Handover::Exclusive] {
            let config = RouterConfig { address_lifetime: None, handover, ..web() };
            let mut host = Host::master(config);
            host.sleeps(secs(3));
            wake(&mut host, how);
            let said = host.said();
            assert_eq!(said[0], "release", "event {how}: {said:?}");
            assert!(
                !said.iter().any(|w| w.starts_with("advert") || w == "claim" || w == "announce")
            );
            assert!(!host.router().has_addresses(), "event {how}");
        }
    }
}

#[test]
fn late_in_the_middle_of_leaving_too() {
    for how in 0..15 {
        let mut host =
            Host::master(RouterConfig { address_lifetime: None, ..prepared(Handover::Overlap) });
        host.command(Command::Failover(WEB));
        host.begin();
        host.sleeps(secs(3));
        wake(&mut host, how);
        let said = host.said();
        assert_eq!(said[0], "release", "event {how}: {said:?}");
        assert!(!host.router().has_addresses(), "event {how}");
    }
}

#[test]
fn not_late_a_nanosecond_before_three_intervals() {
    for how in [0, 1, 3, 4, 5, 8] {
        let config = RouterConfig { address_lifetime: None, ..web() };
        let mut host = Host::master(config);
        host.sleeps(secs(3) - NANO);
        wake(&mut host, how);
        assert_eq!(host.role(), Role::Master, "event {how}");
        assert!(host.times("release").is_empty());
    }
}

#[test]
fn late_listens_for_the_full_interval_before_it_takes_part() {
    let mut host = Host::master(web());
    host.sleeps(secs(30));
    host.timeout();
    assert_eq!(host.why(), Why::Late);
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
    host.hears(149, BELOW).unwrap();
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn late_is_counted_from_the_last_advert_of_any_kind() {
    let mut host = Host::master(web());
    host.wait(millis(2900));
    host.hears(149, BELOW).unwrap();
    host.sleeps(millis(2999));
    host.timeout();
    assert_eq!(host.role(), Role::Master);
    host.sleeps(secs(3));
    host.timeout();
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn late_as_the_driver_says() {
    let mut host = Host::master(web());
    host.tell(Event::Late(WEB)).unwrap();
    assert_eq!(host.said(), ["release", "role backup"]);
    host.tell(Event::Late(WEB)).unwrap();
    assert_eq!(host.done, []);
}

// ---- DESIGN section 4: addresses that go, claims that fail -------------------------------------

#[test]
fn an_address_that_somebody_removed_is_put_back_and_announced() {
    let mut host = Host::master(web());
    host.wait(millis(500));
    host.loses(SHARED);
    assert_eq!(host.said(), ["announce", "announce", "claim", "announce", "warn"]);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn only_the_removed_address_is_put_back() {
    let unadvertised_addresses = addresses(&["10.0.0.101"]);
    let mut host = Host::master(RouterConfig { unadvertised_addresses, ..web() });
    host.loses("10.0.0.101");
    assert_eq!(host.said(), ["claim 10.0.0.101", "announce 10.0.0.101", "warn"]);
    host.loses("10.0.0.102");
    assert_eq!(host.done, []);
}

#[test]
fn an_address_that_went_at_the_end_of_its_lease_is_not_put_back() {
    let slow = RouterConfig { advert_interval: centis(500), address_lifetime: Some(2), ..web() };
    let mut host = Host::master(slow.clone());
    host.sleeps(millis(1900));
    host.tell(Event::LeaseRanOut(WEB)).unwrap();
    assert_eq!(host.said(), ["release", "role backup"]);
    assert_eq!(host.why(), Why::LeaseRanOut);
    let mut early = Host::master(slow);
    early.sleeps(millis(1900) - NANO);
    early.loses(SHARED);
    assert_eq!(early.said(), ["claim", "announce", "warn"]);
}

#[test]
fn an_address_that_is_removed_again_and_again_is_a_fault_for_30_s() {
    let mut host = Host::master(web());
    for _ in 0..10 {
        host.loses(SHARED);
    }
    assert_eq!(host.role(), Role::Master);
    host.begin();
    host.loses(SHARED);
    assert_eq!(host.said()[..1], ["advert 0"]);
    assert_eq!(host.reasons(), [Reason::AddressRemoved]);
    host.wait(secs(30) - NANO);
    assert_eq!(host.role(), Role::Fault);
    host.wait(NANO);
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
}

#[test]
fn an_address_that_is_removed_once_in_a_while_is_no_fault() {
    let mut host = Host::master(web());
    for _ in 0..50 {
        host.wait(millis(1001));
        host.loses(SHARED);
    }
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn a_claim_that_fails_is_a_fault_and_tried_again_after_10_s() {
    let mut host = Host::master(web());
    host.tell(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    assert_eq!(
        host.said(),
        ["advert 0", "renew", "release", "role fault"]
            .into_iter()
            .filter(|word| *word != "renew")
            .collect::<Vec<_>>()
    );
    assert_eq!(host.reasons(), [Reason::ClaimFailed]);
    host.begin();
    host.wait(secs(60));
    assert_eq!(host.times("claim"), [secs(10) + master_down(150, SECOND)]);
}

#[test]
fn a_claim_refused_because_the_address_is_there_is_a_fault_until_it_is_gone() {
    let mut host = Host::master(web());
    host.tell(Event::ClaimFailed(WEB, ClaimError::AlreadyThere)).unwrap();
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    host.link(true, &[at(HERE), at(SHARED)]);
    host.wait(secs(600));
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    host.link(true, &[at(HERE)]);
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn a_claim_refused_because_of_an_address_that_nobody_sees_is_tried_again() {
    let mut host = Host::master(web());
    host.tell(Event::ClaimFailed(WEB, ClaimError::AlreadyThere)).unwrap();
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn a_claim_that_fails_after_the_role_was_left_changes_nothing() {
    let mut host = Host::backup(web());
    host.tell(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.done, []);
}

#[test]
fn an_address_that_is_there_and_not_ours_is_never_touched() {
    let mut host = Host::started(&[web()]);
    host.link(true, &[at(HERE), at(SHARED)]);
    host.wait(secs(100));
    assert_eq!(host.said(), ["role fault"]);
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    let mut backup = Host::backup(web());
    backup.link(true, &[at(HERE), at(SHARED)]);
    assert_eq!(backup.reasons(), [Reason::AddressAlreadyThere]);
}

#[test]
fn an_address_that_is_there_and_ours_is_no_fault() {
    let mut host = Host::master(web());
    host.link(true, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.done, []);
}

// ---- faults as a set ---------------------------------------------------------------------------

#[test]
fn fault_is_left_only_when_no_reason_is_left() {
    let mut host = Host::backup(web());
    host.link(true, &[at(SHARED)]);
    assert_eq!(host.reasons(), [Reason::NoAddress, Reason::AddressAlreadyThere]);
    host.link(true, &[at(HERE), at(SHARED)]);
    assert_eq!(host.reasons(), [Reason::AddressAlreadyThere]);
    assert_eq!(host.role(), Role::Fault);
    host.link(false, &[at(HERE), at(SHARED)]);
    assert_eq!(host.reasons(), [Reason::LinkDown, Reason::AddressAlreadyThere]);
    host.link(false, &[at(HERE)]);
    assert_eq!(host.reasons(), [Reason::LinkDown]);
    host.link_up();
    assert_eq!(host.reasons(), []);
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.why(), Why::Recovered);
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
}

#[test]
fn fault_of_a_claim_outlasts_a_link_that_came_back() {
    let mut host = Host::master(web());
    host.tell(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    host.link_down();
    host.link_up();
    assert_eq!(host.reasons(), [Reason::ClaimFailed]);
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn fault_of_the_link_outlasts_the_end_of_another() {
    let mut host = Host::master(web());
    host.tell(Event::ClaimFailed(WEB, ClaimError::Refused)).unwrap();
    host.link_down();
    host.wait(secs(60));
    assert_eq!(host.reasons(), [Reason::LinkDown]);
    host.link_up();
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn fault_by_link_down_releases_and_says_nothing_that_nobody_could_hear() {
    let mut host = Host::master(web());
    host.link_down();
    assert_eq!(host.said(), ["release", "role fault"]);
    host.wait(secs(60));
    assert_eq!(host.done, []);
}

#[test]
fn fault_with_the_link_up_says_priority_0() {
    let mut overlap = Host::master(web());
    overlap.wait(millis(1));
    overlap.link(true, &[]);
    assert_eq!(overlap.said(), ["advert 0", "renew", "release", "role fault"]);
    let mut exclusive = Host::master(exclusive());
    exclusive.link(true, &[]);
    assert_eq!(exclusive.said(), ["release", "role fault", "advert 0"]);
}

#[test]
fn fault_does_not_hear_itself_into_a_role() {
    let mut host = Host::backup(web());
    host.link_down();
    host.begin();
    for value in [0, 100, 200] {
        host.hears(value, ABOVE).unwrap();
    }
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Fault);
    assert_eq!(host.done, []);
}

#[test]
fn a_fault_of_the_owner_ends_at_once() {
    let mut host = Host::started(&[priority(255)]);
    host.link(false, &[]);
    assert_eq!(host.role(), Role::Fault);
    host.link_up();
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.why(), Why::Owner);
}

// ---- DESIGN section 4: resume ------------------------------------------------------------------

/// What a daemon finds that was killed a moment ago.
const KILLED: Recorded = Recorded {
    was_master: true,
    drained: false,
    held_back: false,
    addresses_present: true,
    addresses_alive: true,
    last_advert_age: Duration::from_millis(2899),
    resumes_in_last_minute: 2,
    master_hook_done: true,
};

fn found(config: RouterConfig, recorded: Recorded) -> Host {
    let mut host = Host::started(&[config]);
    host.tell(Event::Found(WEB, recorded)).unwrap();
    assert_eq!(host.done, []);
    host.link(true, &[at(HERE), ours(SHARED)]);
    host
}

#[test]
fn a_killed_master_resumes_at_once_whatever_the_delays() {
    let delayed = RouterConfig { start_delay: secs(30), link_delay: secs(9), ..web() };
    let mut host = found(delayed, KILLED);
    assert_eq!(host.why(), Why::Resumed);
    assert_eq!(host.said(), TAKES_OVER);
}

#[test]
fn a_master_that_resumes_runs_its_hook_again_unless_it_had_finished() {
    for done in [true, false] {
        let host = found(web(), Recorded { master_hook_done: done, ..KILLED });
        let Some((_, Action::Notify(transition))) = host.done.last() else { panic!() };
        assert_eq!(transition.hooks, !done);
    }
}

#[test]
fn resume_is_refused_if_any_single_condition_fails() {
    let refused = [
        Recorded { was_master: false, ..KILLED },
        Recorded { drained: true, ..KILLED },
        Recorded { held_back: true, ..KILLED },
        Recorded { addresses_alive: false, ..KILLED },
        Recorded { last_advert_age: millis(2900), ..KILLED },
        Recorded { resumes_in_last_minute: 3, ..KILLED },
    ];
    for recorded in refused {
        let mut host = found(web(), recorded);
        assert_eq!(host.role(), Role::Backup, "{recorded:?}");
        assert_eq!(host.said(), ["release", "role backup"], "{recorded:?}");
        assert_eq!(host.router().held_back(), recorded.held_back);
        assert_eq!(host.node.is_drained(), recorded.drained);
    }
}

#[test]
fn resume_is_refused_without_a_record() {
    let mut host = Host::started(&[web()]);
    host.link(true, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.said(), ["role backup"]);
}

#[test]
fn resume_is_refused_with_a_fault_and_what_was_left_is_removed() {
    let mut host = Host::started(&[web()]);
    host.tell(Event::Found(WEB, KILLED)).unwrap();
    host.link(false, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.said(), ["release", "role fault"]);
    host.link_up();
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn resume_is_refused_when_nothing_is_left_and_nothing_is_removed() {
    let gone = Recorded { addresses_present: false, addresses_alive: false, ..KILLED };
    let mut host = found(web(), gone);
    assert_eq!(host.said(), ["role backup"]);
}

#[test]
fn a_reload_or_a_drain_before_the_interface_is_known_decides_nothing() {
    let mut host = Host::started(&[web()]);
    host.tell(Event::Found(WEB, KILLED)).unwrap();
    host.reload(&[priority(140)]);
    host.command(Command::Undrain);
    assert_eq!(host.role(), Role::Waiting);
    assert_eq!(host.done, []);
    host.link(true, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.why(), Why::Resumed);
    let mut drained = Host::started(&[web()]);
    drained.command(Command::Drain);
    assert_eq!(drained.role(), Role::Waiting);
    drained.link_up();
    assert_eq!(drained.role(), Role::Backup);
    assert_eq!(drained.node.deadline(), None);
}

#[test]
fn a_stop_before_the_interface_is_known_removes_what_an_earlier_daemon_left() {
    let mut host = Host::started(&[web()]);
    host.tell(Event::Found(WEB, KILLED)).unwrap();
    host.stop(Stop::Leave);
    assert_eq!(host.said(), ["release", "role stopped"]);
    host.link(true, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.role(), Role::Stopped);
    assert_eq!(host.done, []);
    let mut owner = Host::started(&[priority(255)]);
    owner.stop(Stop::Leave);
    owner.link_up();
    assert_eq!(owner.role(), Role::Stopped);
}

// ---- delays, preemption, newcomers -------------------------------------------------------------

#[test]
fn nobody_takes_over_before_start_delay_and_link_delay_are_over() {
    for (start_delay, link_delay) in [(secs(9), secs(2)), (secs(2), secs(9))] {
        let mut host = Host::backup(RouterConfig { start_delay, link_delay, ..web() });
        host.wait(secs(9) - NANO);
        assert_eq!(host.role(), Role::Backup);
        host.wait(NANO);
        assert_eq!(host.role(), Role::Master);
    }
}

#[test]
fn nobody_takes_over_before_the_delay_even_if_the_master_leaves() {
    let mut host = Host::backup(RouterConfig { link_delay: secs(9), ..web() });
    host.hears(0, ABOVE).unwrap();
    host.wait(secs(9) - NANO);
    assert_eq!(host.role(), Role::Backup);
    host.wait(NANO);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn after_link_up_link_delay_holds_and_start_delay_does_not() {
    let delays = RouterConfig { start_delay: secs(30), link_delay: secs(9), ..web() };
    let mut host = Host::backup(delays);
    host.wait(secs(60));
    host.link_down();
    host.link_up();
    assert_eq!(host.patience(), Some(secs(9)));
}

#[test]
fn a_link_that_flaps_does_not_cut_the_start_delay_short() {
    let delays = RouterConfig { start_delay: secs(30), link_delay: secs(2), ..web() };
    let mut host = Host::backup(delays);
    host.wait(secs(5));
    host.link_down();
    host.link_up();
    host.begin();
    host.wait(secs(60));
    assert_eq!(host.times("claim"), [secs(25)]);
}

#[test]
fn preempt_delay_is_how_long_we_must_have_been_fit() {
    let mut host = Host::backup(RouterConfig { preempt_delay: secs(20), ..web() });
    let mut waited = 0;
    while host.role() == Role::Backup {
        host.hears(100, BELOW).unwrap();
        host.wait(secs(1));
        waited += 1;
        assert!(waited < 60);
    }
    let claimed = host.times("claim")[0];
    assert!(claimed >= secs(20) && claimed <= secs(24), "{claimed:?}");
    let mut silent = Host::backup(RouterConfig { preempt_delay: secs(20), ..web() });
    silent.hears(100, BELOW).unwrap();
    silent.wait(secs(20));
    assert_eq!(silent.times("claim"), [master_down(150, SECOND)]);
}

#[test]
fn preempt_delay_begins_anew_after_a_fault() {
    let mut host = Host::backup(RouterConfig { preempt_delay: secs(20), ..web() });
    host.wait(millis(500));
    host.link_down();
    host.wait(secs(60));
    host.link_up();
    host.begin();
    for _ in 0..20 {
        host.hears(100, BELOW).unwrap();
        host.wait(secs(1));
    }
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn a_newcomer_that_may_be_deaf_advertises_priority_1_for_a_minute() {
    let mut host = Host::backup(RouterConfig { preempt: false, ..web() });
    host.wait(master_down(150, SECOND));
    assert_eq!(host.said(), ["claim", "advert 1", "announce", "role master"]);
    host.begin();
    host.wait(secs(60) - NANO);
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::LOWEST));
    host.begin();
    host.wait(secs(5));
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::new(150)));
}

#[test]
fn a_newcomer_that_may_be_deaf_gives_way_to_any_master() {
    let mut host = Host::master(RouterConfig { preempt: false, ..web() });
    host.hears(2, BELOW).unwrap();
    host.wait(millis(5));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn a_newcomer_that_preempts_or_that_heard_somebody_is_not_deaf() {
    let preempting = Host::master(web());
    assert_eq!(preempting.router().effective_priority(), Priority::new(150));
    let mut heard = Host::backup_of(RouterConfig { preempt: false, ..web() }, 200, ABOVE);
    heard.wait(secs(10));
    assert_eq!(heard.adverts()[0].priority, Priority::new(150));
    let mut again = Host::backup_of(RouterConfig { preempt: false, ..web() }, 200, ABOVE);
    again.link_down();
    again.link_up();
    again.wait(secs(10));
    assert_eq!(again.adverts()[0].priority, Priority::LOWEST);
}

#[test]
fn a_deaf_newcomer_that_hears_a_lower_one_takes_its_full_priority() {
    let mut host = Host::master(RouterConfig { preempt: false, ..web() });
    host.hears(1, BELOW).unwrap();
    host.begin();
    host.wait(secs(1));
    assert_eq!(host.adverts().last().unwrap().priority, Priority::new(150));
}

#[test]
fn a_deaf_newcomer_that_is_made_the_owner_says_so() {
    let mut host = Host::master(RouterConfig { preempt: false, ..web() });
    host.reload(&[RouterConfig { preempt: false, ..priority(255) }]);
    host.begin();
    host.wait(secs(1));
    assert_eq!(host.adverts()[0].priority, Priority::OWNER);
}

// ---- held back, drained ------------------------------------------------------------------------

#[test]
fn held_back_does_not_preempt_until_resumed() {
    let mut host = Host::master(web());
    host.command(Command::Failover(WEB));
    for _ in 0..60 {
        host.wait(secs(1));
        host.hears(100, BELOW).unwrap();
    }
    assert_eq!(host.role(), Role::Backup);
    assert!(host.router().held_back());
    host.command(Command::Resume(WEB));
    for _ in 0..5 {
        host.wait(secs(1));
        let _ = host.hears(100, BELOW);
    }
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn held_back_takes_over_when_no_master_is_heard_at_all() {
    let mut host = Host::master(web());
    host.command(Command::Failover(WEB));
    host.hears(100, BELOW).unwrap();
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
    assert!(!host.router().held_back());
}

#[test]
fn a_backup_that_is_held_back_on_the_verge_of_preempting_does_not() {
    let mut host = Host::backup(web());
    host.wait(secs(3));
    host.hears(100, BELOW).unwrap();
    host.command(Command::Failover(WEB));
    for _ in 0..10 {
        host.wait(secs(1));
        host.hears(100, BELOW).unwrap();
    }
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn drained_takes_nothing_until_undrained() {
    let mut host = Host::backup(web());
    host.command(Command::Drain);
    host.hears(100, BELOW).unwrap();
    host.hears(0, BELOW).unwrap();
    host.wait(secs(600));
    assert_eq!(host.done, []);
    assert!(host.node.is_drained());
    host.command(Command::Undrain);
    assert!(!host.node.is_drained());
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn drained_through_a_fault_stays_drained() {
    let mut host = Host::backup(web());
    host.command(Command::Drain);
    host.link_down();
    host.link_up();
    host.wait(secs(600));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn drained_is_the_whole_host() {
    let other = RouterConfig { name: Arc::from("six"), ..web6() };
    let mut host = Host::started(&[web(), other]);
    host.link_up();
    host.wait(secs(10));
    host.command(Command::Drain);
    assert!(host.node.routers().all(|router| router.role() == Role::Leaving));
}

// ---- checks ------------------------------------------------------------------------------------

fn check(name: &str, effect: Effect) -> CheckConfig {
    CheckConfig { name: Arc::from(name), fall: 2, rise: 2, effect, initial: Initial::Passing }
}

fn waiting(check: CheckConfig) -> CheckConfig {
    CheckConfig { initial: Initial::Wait(secs(10)), ..check }
}

fn failing(check: CheckConfig) -> CheckConfig {
    CheckConfig { initial: Initial::Failing, ..check }
}

/// A configuration in which every virtual router names every check.
fn checked(routers: &[RouterConfig], checks: &[CheckConfig]) -> Config {
    let names: Arc<[Arc<str>]> = checks.iter().map(|check| check.name.clone()).collect();
    let named = |router: &RouterConfig| RouterConfig { checks: names.clone(), ..router.clone() };
    Config {
        routers: routers.iter().map(named).collect(),
        checks: checks.to_vec(),
        ..Config::default()
    }
}

/// One check that passes, and the master that names it.
fn checked_master(config: RouterConfig, effect: Effect) -> Host {
    let mut host = Host::of(&checked(&[config], &[check("app", effect)]));
    host.link_up();
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
    host.begin();
    host
}

fn checked_backup(config: RouterConfig, effect: Effect, priority: u8) -> Host {
    let mut host = Host::of(&checked(&[config], &[check("app", effect)]));
    host.link_up();
    host.hears(priority, ABOVE).unwrap();
    assert_eq!(host.role(), Role::Backup);
    host.begin();
    host
}

fn named_check(name: &str) -> Reason {
    Reason::Check(Arc::from(name))
}

#[test]
fn check_that_means_fault_releases_at_once_without_before_release() {
    let mut host = checked_master(prepared(Handover::Overlap), Effect::Fault);
    host.probe("app", Probe::Failed);
    assert_eq!(host.done, [], "one failure of two");
    host.probe("app", Probe::Failed);
    assert_eq!(host.said(), ["advert 0", "renew", "release", "role fault"]);
    assert_eq!(host.reasons(), [named_check("app")]);
    assert_eq!(host.why().to_string(), "check app fails");
    assert_eq!(named_check("app").name(), "check");
    host.probe("app", Probe::Passed);
    assert_eq!(host.role(), Role::Fault, "one pass of two");
    host.probe("app", Probe::Passed);
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
}

#[test]
fn check_that_fails_in_a_planned_leave_waits_for_its_end() {
    let mut host = checked_master(prepared(Handover::Overlap), Effect::Fault);
    let id = host.router().id();
    host.command(Command::Failover(id));
    host.begin();
    // As `before_release` stops the service, its check fails.
    host.probe("app", Probe::Failed);
    host.probe("app", Probe::Failed);
    assert_eq!(host.role(), Role::Leaving);
    assert_eq!(host.done, []);
    host.hook_ended(Hook::BeforeRelease, true);
    assert_eq!(host.said(), ["role leaving", "advert 0", "renew"]);
    host.begin();
    host.hears(100, BELOW).unwrap();
    host.wait(millis(5));
    assert_eq!(host.said(), ["release", "role backup", "role fault"]);
    // Nobody there: a sick service gives the address up, as at any other time.
    let mut alone = checked_master(prepared(Handover::Overlap), Effect::Fault);
    alone.command(Command::Failover(alone.router().id()));
    alone.probe("app", Probe::Failed);
    alone.probe("app", Probe::Failed);
    alone.hook_ended(Hook::BeforeRelease, true);
    alone.wait(secs(4));
    assert_eq!(alone.role(), Role::Fault);
}

#[test]
fn check_that_means_fault_is_a_fault_of_the_owner_too() {
    let mut host = checked_master(priority(255), Effect::Fault);
    host.fails("app");
    assert_eq!(host.said(), ["advert 0", "role fault"]);
    host.passes("app");
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn check_of_a_router_that_does_not_name_it_means_nothing_to_it() {
    let mut config = checked(&[web()], &[check("app", Effect::Fault)]);
    config.routers[0].checks = [].into();
    let mut host = Host::of(&config);
    host.link_up();
    host.fails("app");
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.node.find_check("app").unwrap().verdict(), Verdict::Failing);
}

#[test]
fn check_with_a_negative_weight_lowers_the_priority_while_it_fails() {
    let mut host = checked_master(web(), Effect::Weight(-60));
    assert_eq!(host.router().effective_priority(), Priority::new(150));
    host.fails("app");
    assert_eq!(host.said(), ["advert 90"], "the next advert leaves at once and carries it");
    host.wait(millis(10));
    host.passes("app");
    assert_eq!(host.said(), ["advert 150"]);
}

#[test]
fn check_with_a_positive_weight_raises_the_priority_while_it_passes() {
    let mut host = checked_master(web(), Effect::Weight(60));
    assert_eq!(host.router().effective_priority(), Priority::new(210));
    host.fails("app");
    assert_eq!(host.said(), ["advert 150"]);
}

#[test]
fn check_changes_in_any_number_bring_one_advert_in_ten_milliseconds() {
    let mut host = checked_master(web(), Effect::Number);
    host.wait(millis(500));
    host.begin();
    for n in 0..100 {
        host.probe("app", Probe::Number(n));
        host.wait(MILLI);
    }
    assert!(host.times("advert").len() <= 11, "{:?}", host.times("advert"));
    assert!(gaps(&host.times("advert")) >= millis(10));
    host.wait(millis(10));
    assert_eq!(host.adverts().last().unwrap().priority, Priority::new(150 + 99));
}

#[test]
fn check_of_a_number_adds_it_and_adds_nothing_while_it_fails() {
    let mut host = checked_master(web(), Effect::Number);
    host.probe("app", Probe::Number(-20));
    assert_eq!(host.router().effective_priority(), Priority::new(130));
    host.probe("app", Probe::Failed);
    assert_eq!(host.router().effective_priority(), Priority::new(130), "one failure of two");
    host.probe("app", Probe::Failed);
    assert_eq!(host.router().effective_priority(), Priority::new(150));
    host.probe("app", Probe::Number(7));
    host.probe("app", Probe::Number(8));
    assert_eq!(host.router().effective_priority(), Priority::new(158));
}

#[test]
fn check_weights_keep_the_priority_in_1_to_254_and_never_touch_255() {
    for (effect, own, expected) in [
        (Effect::Weight(-250), 150, 1),
        (Effect::Weight(-149), 150, 1),
        (Effect::Weight(-148), 150, 2),
        (Effect::Weight(-250), 255, 255),
        (Effect::Last, 255, 255),
        (Effect::Last, 150, 1),
    ] {
        let mut host = checked_master(priority(own), effect);
        host.fails("app");
        assert_eq!(host.router().effective_priority(), Priority::new(expected), "{effect:?}");
        assert_eq!(host.role(), Role::Master);
    }
    for (weight, own, expected) in [(250, 150, 254), (104, 150, 254), (103, 150, 253)] {
        let host = checked_master(priority(own), Effect::Weight(weight));
        assert_eq!(host.router().effective_priority(), Priority::new(expected), "{weight}");
    }
}

#[test]
fn check_weights_add_up() {
    let checks = [
        check("a", Effect::Weight(-60)),
        check("b", Effect::Weight(30)),
        check("c", Effect::Number),
    ];
    let mut host = Host::of(&checked(&[web()], &checks));
    assert_eq!(host.router().effective_priority(), Priority::new(180));
    host.fails("a");
    host.probe("c", Probe::Number(-5));
    assert_eq!(host.router().effective_priority(), Priority::new(115));
    host.fails("b");
    assert_eq!(host.router().effective_priority(), Priority::new(85));
}

#[test]
fn check_that_means_last_leaves_the_address_until_a_better_host_comes() {
    let mut host = checked_master(web(), Effect::Last);
    assert!(!host.router().degraded());
    host.fails("app");
    assert!(host.router().degraded());
    assert_eq!(host.said(), ["advert 1"]);
    host.wait(secs(30));
    assert_eq!(host.role(), Role::Master);
    host.hears(2, BELOW).unwrap();
    host.wait(millis(5));
    assert_eq!(host.role(), Role::Backup);
    host.passes("app");
    assert!(!host.router().degraded());
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn check_that_sinks_a_backup_lengthens_its_skew_and_one_that_mends_shortens_it() {
    let mut host = checked_backup(web(), Effect::Weight(-100), 200);
    host.wait(SECOND);
    host.fails("app");
    assert_eq!(host.patience(), Some(master_down(50, SECOND) - SECOND));
    host.wait(SECOND);
    host.passes("app");
    assert_eq!(host.patience(), Some(master_down(150, SECOND) - 2 * SECOND));
    host.hears(0, ABOVE).unwrap();
    host.fails("app");
    assert_eq!(host.patience(), Some(skew(50, SECOND)));
}

#[test]
fn check_that_changes_the_priority_does_not_cut_a_delay_short() {
    let delayed = RouterConfig { link_delay: secs(20), ..web() };
    let mut host = checked_backup(delayed, Effect::Weight(-100), 200);
    host.hears(0, ABOVE).unwrap();
    host.fails("app");
    host.passes("app");
    host.wait(secs(20) - NANO);
    assert_eq!(host.role(), Role::Backup);
    host.wait(NANO);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn check_that_mends_a_backup_above_the_master_makes_it_take_over_without_a_farewell() {
    let mut host = checked_backup(web(), Effect::Weight(-100), 100);
    host.fails("app");
    for _ in 0..5 {
        host.hears(100, ABOVE).unwrap();
        host.wait(SECOND);
    }
    host.hears(100, ABOVE).unwrap();
    host.passes("app");
    let mut waited = Duration::ZERO;
    while host.role() == Role::Backup {
        host.hears(100, ABOVE).unwrap();
        host.wait(millis(100));
        waited += millis(100);
        assert!(waited <= master_down(150, SECOND) + millis(100), "{waited:?}");
    }
}

#[test]
fn preempt_delay_begins_when_the_priority_rises_above_the_masters() {
    let slow = RouterConfig { preempt_delay: secs(10), ..web() };
    let mut host = checked_backup(slow, Effect::Weight(-100), 100);
    host.fails("app");
    for _ in 0..20 {
        host.hears(100, ABOVE).unwrap();
        host.wait(SECOND);
    }
    host.passes("app");
    host.begin();
    for _ in 0..20 {
        host.hears(100, ABOVE).unwrap();
        host.wait(SECOND);
    }
    let claimed = host.times("claim")[0];
    assert!(claimed >= secs(10), "{claimed:?}");
    assert!(claimed <= secs(15), "{claimed:?}");
}

#[test]
fn check_without_a_verdict_makes_wait_but_not_for_ever() {
    let mut host = Host::of(&checked(&[web()], &[waiting(check("app", Effect::Fault))]));
    host.link_up();
    assert_eq!(host.done, [], "no hook, and above all no fault hook");
    assert_eq!(host.role(), Role::Waiting);
    assert_eq!(host.reasons(), [Reason::Unchecked]);
    host.wait(secs(10) - NANO);
    assert_eq!(host.role(), Role::Waiting);
    host.wait(NANO);
    assert_eq!(host.said(), ["role backup"]);
    host.wait(master_down(150, SECOND));
    assert_eq!(host.role(), Role::Master, "as if there were no such check");
    host.probe("app", Probe::Failed);
    assert_eq!(host.role(), Role::Fault, "the first result decides");
}

#[test]
fn check_that_passes_ends_the_wait_for_it() {
    let both = [waiting(check("a", Effect::Fault)), waiting(check("b", Effect::Weight(10)))];
    let mut host = Host::of(&checked(&[web()], &both));
    host.link_up();
    host.probe("a", Probe::Passed);
    assert_eq!(host.role(), Role::Waiting);
    host.probe("b", Probe::Failed);
    assert_eq!(host.said(), ["role backup"]);
}

#[test]
fn check_that_fails_first_ends_the_wait_in_fault() {
    let mut host = Host::of(&checked(&[web()], &[waiting(check("app", Effect::Fault))]));
    host.link_up();
    host.probe("app", Probe::Failed);
    assert_eq!(host.said(), ["role fault"]);
    assert_eq!(host.reasons(), [named_check("app")]);
}

#[test]
fn check_that_counts_as_failing_at_first_keeps_from_taking_part() {
    let mut host = Host::of(&checked(&[web()], &[failing(check("app", Effect::Fault))]));
    host.link_up();
    assert_eq!(host.said(), ["role fault"]);
    host.passes("app");
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn resume_comes_before_the_first_results_of_checks() {
    for new in [waiting, failing] {
        let config = checked(&[web()], &[new(check("app", Effect::Fault))]);
        let mut host = Host::of(&config);
        host.tell(Event::Found(WEB, KILLED)).unwrap();
        host.link_up();
        assert_eq!(host.role(), Role::Master);
        host.wait(secs(20));
        host.probe("app", Probe::Passed);
        assert_eq!(host.role(), Role::Master);
        host.fails("app");
        assert_eq!(host.role(), Role::Fault, "then they count as they come");
    }
}

#[test]
fn check_that_a_reload_adds_does_not_make_a_master_leave_before_it_has_failed() {
    for new in [waiting, failing] {
        let mut host = Host::master(web());
        let config = checked(&[web()], &[new(check("app", Effect::Fault))]);
        host.reload_all(&config);
        assert_eq!(host.done, []);
        host.probe("app", Probe::Failed);
        assert_eq!(host.role(), Role::Fault);
    }
}

#[test]
fn check_keeps_its_verdict_over_a_reload() {
    let config = checked(&[web()], &[check("app", Effect::Fault)]);
    let mut host = Host::of(&config);
    host.link_up();
    host.fails("app");
    let (id, since) = {
        let check = host.node.find_check("app").unwrap();
        (check.id(), check.since())
    };
    host.wait(SECOND);
    host.begin();
    let more = checked(&[web()], &[check("new", Effect::Number), check("app", Effect::Fault)]);
    host.reload_all(&more);
    let kept = host.node.find_check("app").unwrap();
    assert_eq!((kept.id(), kept.since(), kept.verdict()), (id, since, Verdict::Failing));
    assert_eq!(host.done, []);
    assert_eq!(host.role(), Role::Fault);
}

#[test]
fn check_that_a_reload_removes_is_a_fault_no_longer() {
    let mut host = Host::of(&checked(&[web()], &[check("app", Effect::Fault)]));
    host.link_up();
    host.fails("app");
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.said(), ["role backup"]);
}

#[test]
fn check_whose_effect_a_reload_changes_counts_in_the_new_way() {
    let mut host = checked_master(web(), Effect::Weight(-20));
    host.fails("app");
    host.begin();
    host.reload_all(&checked(&[web()], &[check("app", Effect::Last)]));
    host.wait(millis(10));
    assert_eq!(host.said(), ["advert 1"]);
    host.reload_all(&checked(&[web()], &[check("app", Effect::Fault)]));
    assert_eq!(host.role(), Role::Fault);
}

#[test]
fn check_verdicts_come_after_rise_passes_and_fall_failures() {
    let config = CheckConfig { fall: 3, rise: 2, ..waiting(check("app", Effect::Fault)) };
    let mut host = Host::of(&checked(&[web()], &[config]));
    let mut verdict = |probe| {
        host.probe("app", probe);
        let check = host.node.find_check("app").unwrap();
        (check.verdict(), check.streak())
    };
    use Verdict::{Failing, Passing};
    assert_eq!(verdict(Probe::Passed), (Passing, 1), "the first decides");
    assert_eq!(verdict(Probe::Failed), (Passing, 1));
    assert_eq!(verdict(Probe::Failed), (Passing, 2));
    assert_eq!(verdict(Probe::Passed), (Passing, 1));
    assert_eq!(verdict(Probe::Failed), (Passing, 1));
    assert_eq!(verdict(Probe::Failed), (Passing, 2));
    assert_eq!(verdict(Probe::Failed), (Failing, 3));
    assert_eq!(verdict(Probe::Passed), (Failing, 1));
    assert_eq!(verdict(Probe::Number(1)), (Passing, 2));
}

// ---- hooks that are asked, hooks that mean fault -----------------------------------------------

fn asking() -> RouterConfig {
    let fault_for = BTreeMap::from([(Hook::BeforeClaim, secs(30))]);
    RouterConfig { before_claim: Some(secs(5)), fault_for, ..web() }
}

/// Just about to take over, and the hook is asked.
fn claiming(config: RouterConfig) -> Host {
    let mut host = Host::backup(config);
    host.wait(master_down(150, SECOND));
    assert_eq!(host.said(), ["role claiming"]);
    host
}

#[test]
fn before_claim_is_asked_before_anything_is_claimed() {
    let mut host = claiming(asking());
    host.wait(secs(4));
    assert_eq!(host.done, [], "on the wire it is a backup");
    host.hook_ended(Hook::Master, true);
    assert_eq!(host.role(), Role::Claiming, "another hook means nothing");
    host.hook_ended(Hook::BeforeClaim, true);
    assert_eq!(host.said(), TAKES_OVER);
    assert_eq!(host.why(), Why::HeardNobody);
}

#[test]
fn before_claim_may_veto_and_is_asked_again_later() {
    let mut host = claiming(asking());
    host.hook_ended(Hook::BeforeClaim, false);
    assert_eq!(host.said(), ["role fault"]);
    assert_eq!(host.reasons(), [Reason::Vetoed]);
    host.wait(secs(30));
    assert_eq!(host.said(), ["role backup"]);
    host.wait(master_down(150, SECOND));
    assert_eq!(host.said(), ["role claiming"]);
}

#[test]
fn before_claim_that_does_not_answer_in_time_is_a_veto() {
    let mut host = claiming(asking());
    host.wait(secs(5));
    assert_eq!(host.said(), ["role fault"]);
    assert_eq!(host.reasons(), [Reason::Vetoed]);
    host.hook_ended(Hook::BeforeClaim, true);
    assert_eq!(host.role(), Role::Fault, "too late");
}

#[test]
fn before_claim_ends_when_a_master_is_heard_that_is_not_to_be_deposed() {
    let mut host = claiming(asking());
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.said(), ["role backup"]);
    assert_eq!(host.patience(), Some(master_down(150, SECOND)));
    host.hook_ended(Hook::BeforeClaim, true);
    assert_eq!(host.role(), Role::Backup, "nobody asks any longer");
}

#[test]
fn before_claim_goes_on_while_a_master_is_heard_that_is_to_be_deposed() {
    let mut host = claiming(asking());
    host.hears(100, ABOVE).unwrap();
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.role(), Role::Claiming);
    let mut patient = claiming(RouterConfig { preempt: false, ..asking() });
    patient.hears(100, ABOVE).unwrap();
    assert_eq!(patient.role(), Role::Backup);
}

#[test]
fn before_claim_ends_with_a_fault_a_drain_a_stop_or_a_failover() {
    let mut host = claiming(asking());
    host.link_down();
    assert_eq!(host.said(), ["role fault"]);
    let mut host = claiming(asking());
    host.command(Command::Drain);
    assert_eq!(host.said(), ["role backup"]);
    let mut host = claiming(asking());
    host.stop(Stop::Leave);
    assert_eq!(host.said(), ["role stopped"]);
    let mut host = claiming(asking());
    host.hears(100, ABOVE).unwrap();
    host.command(Command::Failover(WEB));
    assert_eq!(host.said(), ["role backup"]);
    assert!(host.router().held_back());
}

#[test]
fn before_claim_is_not_asked_by_the_owner_at_resume_or_when_nobody_came() {
    let mut owner = Host::started(&[RouterConfig { priority: Priority::OWNER, ..asking() }]);
    owner.link_up();
    assert_eq!(owner.role(), Role::Master);
    assert_eq!(found(asking(), KILLED).role(), Role::Master);
    let mut host = claiming(asking());
    host.hook_ended(Hook::BeforeClaim, true);
    host.command(Command::Failover(WEB));
    host.wait(secs(4));
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.why(), Why::NobodyCame);
}

#[test]
fn a_hook_that_fails_means_fault_only_if_it_is_said_so() {
    let mut host = Host::master(web());
    host.hook_ended(Hook::Master, false);
    assert_eq!(host.role(), Role::Master);
    let fault_for = BTreeMap::from([(Hook::Master, secs(60))]);
    let mut host = Host::master(RouterConfig { fault_for, ..web() });
    host.hook_ended(Hook::Master, true);
    host.hook_ended(Hook::Backup, false);
    assert_eq!(host.role(), Role::Master);
    host.hook_ended(Hook::Master, false);
    assert_eq!(host.said(), ["advert 0", "release", "role fault"]);
    assert_eq!(host.reasons(), [Reason::HookFailed(Hook::Master)]);
    assert_eq!(host.why().to_string(), "the master hook failed");
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Backup);
}

// ---- sync groups -------------------------------------------------------------------------------

const ETH1: LinkId = LinkId(1);
const OUT: RouterId = RouterId(1);
const SHARED_OUT: &str = "10.1.0.100";

/// The other member of the group of [`web`], on another interface.
fn out_of(web: &RouterConfig) -> RouterConfig {
    RouterConfig {
        name: Arc::from("out"),
        interface: Arc::from("eth1"),
        vrid: Vrid::new(52).unwrap(),
        addresses: addresses(&[SHARED_OUT]),
        ..web.clone()
    }
}

fn grouped(web: &RouterConfig) -> Config {
    group_of(&[web.clone(), out_of(web)])
}

fn group_of(routers: &[RouterConfig]) -> Config {
    let members = routers.iter().map(|router| router.name.clone()).collect();
    let groups = vec![GroupConfig { name: Arc::from("gateway"), members }];
    Config { routers: routers.to_vec(), groups, ..Config::default() }
}

/// Both links up, both members backup, nothing heard yet.
fn backups(web: &RouterConfig) -> Host {
    let mut host = Host::of(&grouped(web));
    host.links_up();
    host.is_all(Role::Backup);
    host.begin();
    host
}

fn masters(web: &RouterConfig) -> Host {
    let mut host = backups(web);
    host.wait(master_down(web.priority.get(), web.advert_interval.duration()));
    host.is_all(Role::Master);
    host.begin();
    host
}

impl Host {
    fn of(config: &Config) -> Host {
        let node = Node::new(config);
        Host { node, now: Instant::START, begun: Instant::START, done: Vec::new() }
    }

    fn probe(&mut self, name: &str, probe: Probe) {
        let check = self.node.find_check(name).unwrap().id();
        self.tell(Event::Probe { check, probe }).unwrap();
    }

    fn fails(&mut self, name: &str) {
        self.probe(name, Probe::Failed);
        self.probe(name, Probe::Failed);
    }

    fn passes(&mut self, name: &str) {
        self.probe(name, Probe::Passed);
        self.probe(name, Probe::Passed);
    }

    fn reload_all(&mut self, config: &Config) {
        self.tell(Event::Reload(config)).unwrap();
    }

    fn links_up(&mut self) {
        self.link_up();
        self.out_link(true);
    }

    fn out_link(&mut self, up: bool) {
        let addresses = [at("10.1.0.2"), at(HERE6)];
        self.tell(Event::Link { link: ETH1, up, addresses: &addresses }).unwrap();
    }

    /// An advert on the link of the second member.
    fn hears_out(&mut self, priority: u8, from: &str) {
        let config = self.node.router(OUT).unwrap().config().clone();
        let message = encode(&advert_of(&config, priority), from, GROUP);
        let (source, destination) = (ip(from), ip(GROUP));
        let message = &message[..];
        self.tell(Event::Packet(Packet { link: ETH1, source, destination, ttl: 255, message }))
            .unwrap();
    }

    fn roles(&self) -> Vec<Role> {
        self.node.routers().map(VirtualRouter::role).collect()
    }

    fn is_all(&self, role: Role) {
        assert!(self.roles().iter().all(|each| *each == role), "{:?}", self.roles());
    }

    /// The changes of role with which hooks run: of whom, and to what.
    fn hooks(&mut self) -> Vec<(u32, Role)> {
        let hooks = self.done.drain(..).filter_map(|(_, action)| match action {
            Action::Notify(t) if t.hooks => Some((t.router.0, t.to)),
            _ => None,
        });
        hooks.collect()
    }
}

const BELOW_OUT: &str = "10.1.0.1";
const ABOVE_OUT: &str = "10.1.0.3";

#[test]
fn group_members_become_master_together() {
    let mut host = backups(&web());
    host.wait(master_down(150, SECOND));
    assert_eq!(
        host.said(),
        [
            "claim",
            "advert 150",
            "announce",
            "role master",
            "claim 10.1.0.100",
            "advert 150",
            "announce 10.1.0.100",
            "role master"
        ]
    );
    let group = host.node.group_of(OUT).unwrap();
    assert_eq!((&**group.name(), group.members()), ("gateway", &[WEB, OUT][..]));
    assert_eq!(host.node.group_role(group), Role::Master);
    assert_eq!(host.node.find_group("gateway"), host.node.group_of(WEB));
}

#[test]
fn group_takes_over_with_its_first_timer_if_no_other_member_hears_a_master() {
    let slow =
        RouterConfig { advert_interval: centis(1000), address_lifetime: None, ..out_of(&web()) };
    let mut host = Host::of(&group_of(&[web(), slow]));
    host.links_up();
    host.wait(master_down(150, SECOND) - NANO);
    host.is_all(Role::Backup);
    host.wait(NANO);
    host.is_all(Role::Master);
}

#[test]
fn group_stays_backup_while_it_hears_a_master_on_any_link() {
    let mut host = backups(&web());
    for _ in 0..30 {
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Backup);
    host.wait(master_down(150, SECOND));
    host.is_all(Role::Master);
}

#[test]
fn group_preempts_only_if_it_wins_wherever_it_hears_a_master() {
    let mut host = backups(&web());
    for _ in 0..20 {
        host.hears(100, BELOW).unwrap();
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Backup);
    for _ in 0..5 {
        host.hears(100, BELOW).unwrap();
        host.hears_out(100, BELOW_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Master);
}

#[test]
fn group_takes_over_a_skew_time_after_all_farewells() {
    let mut host = backups(&web());
    host.hears(200, ABOVE).unwrap();
    host.hears_out(200, ABOVE_OUT);
    host.wait(SECOND);
    host.hears(0, ABOVE).unwrap();
    host.wait(MILLI);
    host.hears_out(0, ABOVE_OUT);
    host.begin();
    host.wait(secs(5));
    assert_eq!(host.times("claim"), [skew(150, SECOND) - MILLI; 2]);
}

#[test]
fn group_does_not_take_over_while_one_member_is_held_by_a_delay() {
    let web = RouterConfig { link_delay: secs(30), ..web() };
    let mut host = Host::of(&grouped(&web));
    host.links_up();
    host.wait(secs(40));
    host.is_all(Role::Master);
    host.out_link(false);
    host.is_all(Role::Fault);
    host.out_link(true);
    host.begin();
    host.wait(secs(30) - NANO);
    host.is_all(Role::Backup);
    host.wait(NANO);
    host.is_all(Role::Master);
}

#[test]
fn group_fault_of_one_is_a_fault_of_all() {
    let mut host = masters(&web());
    host.link_down();
    host.is_all(Role::Fault);
    let reasons: Vec<Reason> = host.node.router(OUT).unwrap().fault_reasons().collect();
    assert_eq!(reasons, [Reason::Group(Arc::from("web"))]);
    assert_eq!(reasons[0].name(), "group");
    assert_eq!(host.hooks(), [(1, Role::Fault)]);
    host.out_link(false);
    host.link_up();
    host.is_all(Role::Fault);
    host.out_link(true);
    host.is_all(Role::Backup);
    assert_eq!(host.hooks(), [(0, Role::Backup)], "the last that becomes backup");
}

#[test]
fn group_hooks_run_once_when_all_is_true() {
    let mut host = Host::of(&grouped(&web()));
    host.links_up();
    assert_eq!(host.hooks(), [(1, Role::Backup)]);
    host.wait(secs(10));
    assert_eq!(host.hooks(), [(1, Role::Master)]);
    host.command(Command::Failover(WEB));
    assert_eq!(host.hooks(), [(1, Role::Leaving)]);
    host.hears_out(100, BELOW_OUT);
    host.wait(millis(10));
    assert_eq!(host.roles(), [Role::Leaving, Role::Backup]);
    assert_eq!(host.hooks(), [], "one member still answers");
    host.hears(100, BELOW).unwrap();
    host.wait(millis(10));
    assert_eq!(host.hooks(), [(0, Role::Backup)]);
}

#[test]
fn group_that_loses_one_election_leaves_all() {
    let mut host = masters(&web());
    host.hears_out(200, ABOVE_OUT);
    assert_eq!(host.said(), ["advert 150", "role leaving", "role leaving", "advert 0"]);
    assert_eq!(*host.node.router(WEB).unwrap().since().1, Why::Leaving(Leave::Group));
    host.hears(200, ABOVE).unwrap();
    host.wait(millis(5));
    host.is_all(Role::Backup);
    for _ in 0..20 {
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Backup);
}

#[test]
fn group_does_not_take_one_member_back_that_nobody_wanted() {
    let mut host = masters(&web());
    for _ in 0..10 {
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Backup);
    assert_eq!(host.times("release").len(), 2);
}

#[test]
fn group_failover_moves_all_and_takes_all_back_when_nobody_comes() {
    let mut host = masters(&web());
    host.command(Command::Failover(OUT));
    host.is_all(Role::Leaving);
    assert!(host.node.routers().all(VirtualRouter::held_back));
    host.wait(secs(4));
    host.is_all(Role::Master);
    assert!(host.times("release").is_empty());
    host.command(Command::Failover(WEB));
    for _ in 0..4 {
        host.hears(100, BELOW).unwrap();
        host.wait(SECOND);
    }
    assert_eq!(host.times("release").len(), 2, "who has one of them is to have all");
    host.command(Command::Resume(OUT));
    assert!(!host.node.routers().any(VirtualRouter::held_back));
}

#[test]
fn group_failover_with_different_intervals_waits_for_the_slowest() {
    let slow = RouterConfig { advert_interval: centis(200), ..out_of(&web()) };
    let mut host = Host::of(&group_of(&[web(), slow]));
    host.links_up();
    host.wait(secs(10));
    host.is_all(Role::Master);
    host.command(Command::Failover(WEB));
    host.wait(secs(8) - NANO);
    host.is_all(Role::Leaving);
    host.wait(NANO);
    host.is_all(Role::Master);
}

#[test]
fn group_announces_together() {
    let mut host = masters(&web());
    host.command(Command::Announce(OUT));
    assert_eq!(host.said(), ["announce", "announce 10.1.0.100"]);
}

#[test]
fn group_runs_before_release_once_and_leaves_together_after_it() {
    let mut host = masters(&prepared(Handover::Overlap));
    host.command(Command::Failover(WEB));
    host.is_all(Role::Leaving);
    assert_eq!(host.hooks(), [(1, Role::Leaving)]);
    host.wait(millis(500));
    host.begin();
    host.tell(Event::HookFinished(OUT, HookOutcome { hook: Hook::BeforeRelease, succeeded: true }))
        .unwrap();
    assert_eq!(host.times("advert").len(), 2);
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::LEAVING));
    assert_eq!(host.hooks(), []);
}

#[test]
fn group_loses_while_it_prepares_to_leave() {
    let mut host = masters(&prepared(Handover::Exclusive));
    host.command(Command::Drain);
    host.begin();
    host.hears(200, ABOVE).unwrap();
    host.is_all(Role::Backup);
    assert_eq!(host.times("release").len(), 2);
}

#[test]
fn group_asks_before_claim_once_and_shares_the_answer() {
    let mut host = backups(&asking());
    host.wait(master_down(150, SECOND));
    host.is_all(Role::Claiming);
    assert_eq!(host.hooks(), [(1, Role::Claiming)]);
    let answer = |succeeded| HookOutcome { hook: Hook::BeforeClaim, succeeded };
    host.tell(Event::HookFinished(OUT, answer(true))).unwrap();
    host.is_all(Role::Master);
    let mut host = backups(&asking());
    host.wait(master_down(150, SECOND));
    host.tell(Event::HookFinished(OUT, answer(false))).unwrap();
    host.is_all(Role::Fault);
    host.wait(secs(30));
    host.is_all(Role::Backup);
    host.wait(master_down(150, SECOND));
    host.is_all(Role::Claiming);
    host.hears_out(200, ABOVE_OUT);
    host.is_all(Role::Backup);
}

#[test]
fn group_resumes_only_if_all_its_members_may() {
    for (number, out) in
        [KILLED, Recorded { addresses_alive: false, ..KILLED }].into_iter().enumerate()
    {
        let mut host = Host::of(&grouped(&web()));
        host.tell(Event::Found(WEB, KILLED)).unwrap();
        host.tell(Event::Found(OUT, out)).unwrap();
        host.link_up();
        assert_eq!(host.done, [], "the other link is not known yet");
        host.out_link(true);
        host.is_all([Role::Master, Role::Backup][number]);
        assert_eq!(host.times("release").len(), [0, 2][number]);
    }
}

#[test]
fn group_that_starts_with_a_fault_of_one_never_was_backup() {
    let mut host = Host::of(&grouped(&web()));
    host.link_up();
    host.out_link(false);
    assert_eq!(host.said(), ["role fault", "role fault"]);
}

#[test]
fn group_ties_are_decided_on_the_link_of_the_first_member() {
    // Here it wins the tie on the first link, and loses it on the second.
    let mut host = masters(&web());
    host.hears_out(150, ABOVE_OUT);
    host.is_all(Role::Master);
    host.wait(SECOND);
    host.hears_out(150, ABOVE_OUT);
    host.is_all(Role::Master);
    host.wait(SECOND);
    host.hears_out(150, ABOVE_OUT);
    host.is_all(Role::Leaving);
    // The other way about: lost at once.
    let mut host = masters(&web());
    host.hears(150, ABOVE).unwrap();
    host.is_all(Role::Leaving);
    // A better priority wins on any link, at once.
    let mut host = masters(&web());
    host.hears_out(151, BELOW_OUT);
    host.is_all(Role::Leaving);
}

#[test]
fn group_that_may_be_deaf_on_one_link_says_so_on_all() {
    let staying = RouterConfig { preempt: false, ..web() };
    let mut host = backups(&staying);
    host.hears(200, ABOVE).unwrap();
    host.begin();
    host.wait(secs(5));
    let said: Vec<u8> = host.adverts().iter().map(|advert| advert.priority.get()).collect();
    assert!(said.len() >= 2 && said.iter().all(|priority| *priority == 1), "{said:?}");
}

#[test]
fn group_checks_count_for_all_members() {
    let mut config = grouped(&web());
    config.checks = vec![check("app", Effect::Weight(-100)), check("db", Effect::Fault)];
    for router in &mut config.routers {
        router.checks = Arc::from([Arc::from("app"), Arc::from("db")]);
    }
    let mut host = Host::of(&config);
    host.links_up();
    host.wait(secs(10));
    host.begin();
    host.fails("app");
    assert_eq!(host.said(), ["advert 50", "advert 50"]);
    host.fails("db");
    host.is_all(Role::Fault);
    assert_eq!(host.hooks(), [(1, Role::Fault)]);
}

#[test]
fn group_of_an_owner_is_none() {
    let owner = out_of(&priority(255));
    let host = Host::of(&group_of(&[web(), owner]));
    assert_eq!(host.node.group_of(WEB), None);
}

#[test]
fn group_made_by_a_reload_of_a_master_and_a_backup_gets_in_line() {
    let routers = [web(), out_of(&web())];
    let alone = Config { routers: routers.to_vec(), ..Config::default() };
    // The backup hears a master that it would not depose: all are backups.
    let mut host = Host::of(&alone);
    host.links_up();
    for _ in 0..10 {
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    assert_eq!(host.roles(), [Role::Master, Role::Backup]);
    host.hears_out(200, ABOVE_OUT);
    host.reload_all(&grouped(&web()));
    assert_eq!(host.roles(), [Role::Leaving, Role::Backup]);
    // It hears nobody: it joins, and nothing is released.
    let mut host = Host::of(&alone);
    host.links_up();
    host.wait(secs(2));
    host.hears_out(200, ABOVE_OUT);
    host.wait(secs(3));
    assert_eq!(host.roles(), [Role::Master, Role::Backup]);
    host.hears_out(0, ABOVE_OUT);
    host.begin();
    host.reload_all(&grouped(&web()));
    host.wait(secs(4));
    host.is_all(Role::Master);
    assert!(host.times("release").is_empty());
    // In fault: so are all.
    let mut host = Host::of(&alone);
    host.link_up();
    host.out_link(false);
    host.wait(secs(5));
    assert_eq!(host.roles(), [Role::Master, Role::Fault]);
    host.reload_all(&grouped(&web()));
    host.is_all(Role::Fault);
    host.reload_all(&alone);
    assert_eq!(host.roles(), [Role::Backup, Role::Fault]);
}

#[test]
fn group_taken_apart_by_a_reload_goes_on_as_it_was() {
    let mut host = masters(&web());
    let alone = Config { groups: Vec::new(), ..grouped(&web()) };
    host.reload_all(&alone);
    assert_eq!(host.done, []);
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.roles(), [Role::Leaving, Role::Master]);
}

#[test]
fn group_renamed_by_a_reload_goes_on_as_it_was() {
    let mut host = masters(&web());
    let mut renamed = grouped(&web());
    renamed.groups[0].name = Arc::from("edge");
    host.reload_all(&renamed);
    assert_eq!(host.done, []);
    assert_eq!(&**host.node.group_of(WEB).unwrap().name(), "edge");
    host.link_down();
    assert_eq!(host.hooks(), [(1, Role::Fault)]);
}

#[test]
fn group_removed_by_a_reload_leaves_with_one_stop_hook() {
    let mut host = masters(&web());
    host.reload_all(&Config::default());
    host.is_all(Role::Leaving);
    assert_eq!(host.hooks(), [(1, Role::Leaving)]);
    host.wait(secs(10));
    assert_eq!(host.hooks(), [(1, Role::Stopped)]);
    host.timeout();
    assert_eq!((host.node.routers().count(), host.node.groups().count()), (0, 0));
}

#[test]
fn group_member_removed_by_a_reload_leaves_alone_and_without_the_groups_hooks() {
    let third = RouterConfig {
        name: Arc::from("third"),
        vrid: Vrid::new(53).unwrap(),
        addresses: addresses(&["10.1.0.101"]),
        ..out_of(&web())
    };
    let mut host = Host::of(&group_of(&[web(), out_of(&web()), third]));
    host.links_up();
    host.wait(secs(10));
    host.is_all(Role::Master);
    host.begin();
    host.reload_all(&grouped(&web()));
    host.wait(secs(10));
    assert_eq!(host.hooks(), []);
    host.is_all(Role::Master);
    assert_eq!(host.node.routers().count(), 2);
}

#[test]
fn group_of_two_hosts_that_each_have_another_member_as_master_settles() {
    // This host is master of both, and so is the other, with a higher priority on one link only in
    // our ears: the first advert decides for all.
    let mut host = masters(&web());
    host.hears(100, BELOW).unwrap();
    host.is_all(Role::Master);
    host.hears_out(160, BELOW_OUT);
    host.is_all(Role::Leaving);
}

#[test]
fn group_stops_and_drains_together() {
    let mut host = masters(&web());
    host.stop(Stop::Leave);
    host.is_all(Role::Leaving);
    host.hears(100, BELOW).unwrap();
    host.hears_out(100, BELOW_OUT);
    host.wait(millis(5));
    host.is_all(Role::Stopped);
    assert!(host.node.is_stopped());
    let mut host = masters(&web());
    host.command(Command::Drain);
    host.is_all(Role::Leaving);
    host.wait(secs(4));
    host.is_all(Role::Master);
}

#[test]
fn group_late_with_one_member_leaves_all() {
    let mut host = masters(&web());
    host.tell(Event::Late(OUT)).unwrap();
    assert_eq!(host.roles(), [Role::Leaving, Role::Backup]);
    host.wait(secs(20));
    host.is_all(Role::Master);
}

// ---- reload ------------------------------------------------------------------------------------

#[test]
fn reload_of_the_same_configuration_changes_nothing() {
    let other = RouterConfig { name: Arc::from("six"), ..web6() };
    let all = [web(), other];
    let mut host = Host::started(&all);
    let check = |host: &mut Host| {
        let before = host.node.clone();
        host.done.clear();
        host.reload(&all);
        assert_eq!(host.node, before);
        assert_eq!(host.done, []);
    };
    check(&mut host);
    host.link_up();
    check(&mut host);
    host.wait(secs(10));
    check(&mut host);
    host.hears(149, BELOW).unwrap();
    check(&mut host);
    host.hears(200, ABOVE).unwrap();
    check(&mut host);
    host.wait(secs(1));
    check(&mut host);
    host.link_down();
    check(&mut host);
    host.command(Command::Drain);
    check(&mut host);
}

#[test]
fn reload_with_a_new_address_claims_that_one_and_advertises_it() {
    let mut host = Host::master(web());
    host.wait(millis(500));
    host.begin();
    let more = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.101"]), ..web() };
    host.reload(std::slice::from_ref(&more));
    let said = host.said();
    assert_eq!(
        said,
        ["claim 10.0.0.101", "announce 10.0.0.101", "advert 150", "renew 10.0.0.100,10.0.0.101"]
    );
    assert_eq!(host.role(), Role::Master);
    host.wait(SECOND);
    assert_eq!(host.adverts()[0].addresses, more.addresses);
}

#[test]
fn reload_without_an_address_releases_that_one_only() {
    let more = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.101"]), ..web() };
    let mut host = Host::master(more);
    host.reload(&[web()]);
    assert_eq!(host.said(), ["release 10.0.0.101", "advert 150"]);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn reload_moves_an_address_from_one_router_to_another_release_first() {
    let second = RouterConfig {
        name: Arc::from("second"),
        vrid: Vrid::new(52).unwrap(),
        addresses: addresses(&["10.0.0.101"]),
        ..web()
    };
    let first = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.102"]), ..web() };
    let mut host = Host::started(&[second.clone(), first]);
    host.link_up();
    host.wait(secs(10));
    host.begin();
    let second = RouterConfig { addresses: addresses(&["10.0.0.101", "10.0.0.102"]), ..second };
    host.reload(&[second, web()]);
    let said = host.said();
    let release = said.iter().position(|word| word == "release 10.0.0.102").unwrap();
    let claim = said.iter().position(|word| word == "claim 10.0.0.102").unwrap();
    assert!(release < claim, "{said:?}");
}

#[test]
fn reload_with_another_priority_counts_at_once() {
    let mut master = Host::master(web());
    master.reload(&[priority(160)]);
    assert_eq!(master.said(), ["advert 160"]);
    assert_eq!(master.role(), Role::Master);
    let mut backup = Host::backup_of(web(), 200, ABOVE);
    backup.wait(millis(500));
    backup.reload(&[priority(250)]);
    backup.begin();
    backup.wait(secs(10));
    assert_eq!(backup.times("claim"), [master_down(250, SECOND) - millis(500)]);
}

#[test]
fn reload_with_a_shorter_interval_does_not_make_a_master_late() {
    let slow = RouterConfig { advert_interval: centis(1000), address_lifetime: Some(29), ..web() };
    let mut host = Host::master(slow);
    host.wait(secs(8));
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.role(), Role::Master);
    host.wait(secs(3));
    assert_eq!(host.times("advert"), [0, 1, 2, 3].map(secs));
    assert!(host.times("release").is_empty());
}

#[test]
fn reload_without_a_router_makes_it_leave_and_then_forgets_it() {
    let mut host = Host::master(web());
    host.reload(&[]);
    assert_eq!(host.role(), Role::Leaving);
    host.hears(149, BELOW).unwrap();
    host.wait(millis(5));
    host.timeout();
    assert_eq!(host.node.routers().count(), 0);
    assert_eq!(host.node.deadline(), None);
    let message = encode(&advert_of(&web(), 149), BELOW, GROUP);
    let unknown = Err(Discard::UnknownRouter(Vrid::new(51).unwrap()));
    assert_eq!(host.packet(BELOW, GROUP, 255, &message), unknown);
}

#[test]
fn reload_that_gives_the_addresses_to_a_new_router_does_not_wait_for_a_successor() {
    let mut host = Host::master(web());
    let other = RouterConfig { name: Arc::from("new"), vrid: Vrid::new(52).unwrap(), ..web() };
    host.reload(&[other]);
    assert_eq!(host.said(), ["advert 0", "release", "role stopped", "role backup"]);
    host.wait(secs(10));
    assert_eq!(host.node.find("new").unwrap().role(), Role::Master);
}

#[test]
fn reload_that_makes_an_owner_leaves_none_of_our_addresses_behind() {
    let mut host = Host::master(web());
    host.reload(&[priority(255)]);
    assert_eq!(host.said(), ["release", "advert 255"]);
    host.reload(&[web()]);
    assert_eq!(host.said(), ["claim", "announce", "advert 150"]);
}

#[test]
fn reload_with_a_new_name_keeps_the_role() {
    let mut host = Host::master(web());
    host.reload(&[RouterConfig { name: Arc::from("www"), ..web() }]);
    assert_eq!(host.done, []);
    assert_eq!(host.node.find("www").unwrap().role(), Role::Master);
    assert!(host.node.find("web").is_none());
}

#[test]
fn reload_that_brings_back_what_was_just_removed_takes_the_role_back() {
    let mut host = Host::master(web());
    host.reload(&[]);
    host.wait(millis(100));
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.said(), ["advert 150", "renew", "announce", "role master"]);
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.node.routers().count(), 1);
}

#[test]
fn reload_that_brings_back_less_than_was_removed_advertises_only_that() {
    let more = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.101"]), ..web() };
    let mut host = Host::master(more);
    host.reload(&[]);
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.adverts(), [advert_of(&web(), 150)]);
    let said = host.said();
    assert_eq!(said, ["release 10.0.0.101", "advert 150", "announce", "role master"]);
}

#[test]
fn reload_that_brings_back_what_was_removed_and_slept_since_starts_it_anew() {
    let mut host = Host::master(web());
    host.reload(&[]);
    host.sleeps(secs(30));
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.said(), ["release", "role stopped", "role backup"]);
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn reload_that_brings_back_what_is_gone_starts_it_anew() {
    let mut host = Host::backup(web());
    host.reload(&[]);
    assert_eq!(host.said(), ["role stopped"]);
    host.reload(&[web()]);
    assert_eq!(host.said(), ["role backup"]);
    host.wait(secs(10));
    assert_eq!(host.node.find("web").unwrap().role(), Role::Master);
}

#[test]
fn reload_with_a_new_router_starts_it_where_the_link_is_known() {
    let mut host = Host::master(web());
    let six = RouterConfig { name: Arc::from("six"), ..web6() };
    host.reload(&[six, web()]);
    assert_eq!(host.said(), ["role backup"]);
    let names: Vec<String> = host.node.routers().map(|r| r.config().name.to_string()).collect();
    assert_eq!(names, ["six", "web"]);
}

#[test]
fn reload_that_shares_an_address_keeps_it_from_being_a_source() {
    let mut host = Host::backup(web());
    let more = RouterConfig { addresses: addresses(&[SHARED, HERE]), ..web() };
    host.reload(&[more]);
    assert_eq!(
        host.router().source(),
        Some(ip(HERE)),
        "it was chosen before, and is kept for a farewell"
    );
    assert!(host.reasons().contains(&Reason::NoAddress));
}

#[test]
fn reload_that_no_longer_shares_an_address_lets_it_be_a_source() {
    let more = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.9"]), ..web() };
    let mut host = Host::backup(more);
    host.reload(&[web()]);
    host.link(true, &[at("10.0.0.9")]);
    assert_eq!(host.router().source(), Some(ip("10.0.0.9")));
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn reload_while_stopping_is_ignored() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.begin();
    host.reload(&[priority(160)]);
    assert_eq!(host.done, []);
    host.wait(secs(10));
    assert!(host.node.is_stopped());
}

// ---- stop, restart -----------------------------------------------------------------------------

#[test]
fn restart_pushes_nothing_then_or_later() {
    let mut host = Host::master(web());
    host.stop(Stop::Restart);
    assert!(host.node.is_stopped());
    assert_eq!(host.node.deadline(), None);
    host.hears(149, BELOW).unwrap();
    host.sleeps(secs(10));
    host.timeout();
    host.link_down();
    host.stop(Stop::Leave);
    assert_eq!(host.done, []);
}

#[test]
fn restart_does_not_undo_a_stop() {
    let mut host = Host::master(web());
    host.stop(Stop::Leave);
    host.stop(Stop::Restart);
    assert!(!host.node.is_stopped());
    host.wait(secs(10));
    assert_eq!(host.times("release").len(), 1);
    assert!(host.node.is_stopped());
}

#[test]
fn stop_ends_when_the_last_router_has_released() {
    let six = RouterConfig { name: Arc::from("six"), ..web6() };
    let mut host = Host::started(&[web(), six]);
    host.link_up();
    host.wait(secs(10));
    host.stop(Stop::Leave);
    host.hears(149, BELOW).unwrap();
    host.wait(millis(5));
    assert!(!host.node.is_stopped());
    host.wait(secs(4));
    assert!(host.node.is_stopped());
}

// ---- many routers ------------------------------------------------------------------------------

#[test]
fn many_routers_are_each_called_at_their_own_deadline() {
    let many: Vec<RouterConfig> = (1..=200_u8)
        .map(|n| RouterConfig {
            name: Arc::from(format!("r{n}")),
            vrid: Vrid::new(n).unwrap(),
            addresses: Arc::from([Address::host(ip(&format!("10.0.1.{n}")))]),
            advert_interval: centis(u16::from(n)),
            ..priority(n)
        })
        .collect();
    let mut host = Host::started(&many);
    host.link_up();
    host.begin();
    host.wait(secs(7));
    for (router, config) in host.node.routers().zip(&many) {
        let id = router.id();
        let own =
            |action: &Action| matches!(action, Action::Advertise { router, .. } if *router == id);
        let times: Vec<Duration> = host
            .done
            .iter()
            .filter(|(_, action)| own(action))
            .map(|(at, _)| *at - host.begun)
            .collect();
        let interval = config.advert_interval.duration();
        let first = master_down(config.priority.get(), interval);
        let expected: Vec<Duration> =
            (0..).map(|n| first + n * interval).take_while(|at| *at <= secs(7)).collect();
        assert_eq!(times, expected, "{}", config.name);
    }
}

#[test]
fn many_routers_do_not_hear_each_others_adverts() {
    let other = RouterConfig {
        name: Arc::from("other"),
        vrid: Vrid::new(52).unwrap(),
        addresses: addresses(&["10.0.0.101"]),
        ..web()
    };
    let mut host = Host::started(&[web(), other.clone()]);
    host.link_up();
    host.wait(secs(10));
    host.hears_advert(&advert_of(&other, 200), ABOVE).unwrap();
    assert_eq!(host.node.find("web").unwrap().role(), Role::Master);
    assert_eq!(host.node.find("other").unwrap().role(), Role::Leaving);
}

#[test]
fn a_deadline_lies_in_the_state_that_waits_for_it() {
    let host = Host::backup(web());
    let State::Backup { takeover_at: Some(at) } = host.router().state() else { panic!() };
    assert_eq!(host.node.deadline(), Some(*at));
    let mut down = Host::backup(web());
    down.link_down();
    assert_eq!(down.node.deadline(), None);
}
