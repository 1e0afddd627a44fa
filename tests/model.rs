//! A model checker: all orders of events, within bounds, for the real protocol of two and of three
//! hosts, explored breadth first.
//!
//! The hosts have one virtual router, of version 3 or 2, and one of two hosts may own the address
//! (priority 255). A message is delivered, in any order with others, at the time of any event within
//! [`DELAY`] after it was sent, or it is lost. Faults (a loss, a crash, a freeze, a failover, a
//! drain, a stop, a reload that changes the priority) happen at the time of any event, up to a number
//! of them; frozen hosts thaw, drained ones are undrained, and those that are off start at the time of
//! any event (a restarted host is not drained). Time advances from event to event without a limit:
//! states that are equal relative to the current time are visited once.
//!
//! Two hosts may instead have a sync group of two virtual routers on two links. Then links are cut
//! and restored one by one, and the host with the higher address on one link has the lower one on
//! the other.
//!
//! The packet filter of a host may drop its adverts from the time of any event to that of any other.
//!
//! A host may also have a service: a check, which fails and passes at the time of any event, and
//! the two hooks that are waited for, which end at the time of any event before their limits, with
//! or without success.
//!
//! The number of faults and of states (2026-11-27): two hosts 2 faults (up to 478,558), three hosts
//! 1 fault of any kind or 2 losses and crashes (1,929,732), groups without faults and delayed
//! messages (489,354), or with 1 fault and messages that take no time (70,866), services 2 faults.
//!
//! Left out: damping, leases, the worker, announcements, forced drains (the simulator has them), cuts of
//! single links, checks and hooks of groups.
//!
//! Proved within these bounds:
//! * a host that has received a superior master's advert is not master beside it;
//! * once an interval has passed without faults, of two masters that can hear each other one has an
//!   advert in flight that makes the other give way;
//! * nothing moves back and forth endlessly at one instant;
//! * after [`CALM`] without faults one host is master, and the right one; in a group, of all members;
//! * a host whose service fails is not master for longer than that;
//! * while none of its adverts leaves a host, another one is master.
//!
//! `VIPD_MODEL_FAULTS=n` allows n faults instead of the usual number.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::{
    Action, Address, CheckConfig, CheckId, ChecksumForm, Command, Config, Drain, Effect, Event,
    Family, GroupConfig, Handover, Hook, HookOutcome, Initial, Instant, Interval, LinkAddress,
    LinkId, LinkState, Node, Packet, Phase, Priority, Probe, Role, RouterConfig, RouterId,
    State as RouterState, Stop, Verdict, Version, VirtualRouter, Vrid,
};

/// The current time, in every state.
const NOW: Instant = Instant::from_millis(1_000_000);
/// The maximum delay of a message.
const DELAY: Duration = Duration::from_millis(20);
/// The longest master-down interval (3.7 s), the wait for a successor (4 s), an interval, and a few
/// deliveries.
const CALM: Duration = Duration::from_millis(9_500);
/// With groups also the tie hold-off of two intervals.
const CALM_OF_GROUPS: Duration = Duration::from_millis(13_500);
/// The same with hooks that are waited for.
const CALM_OF_SERVICES: Duration = Duration::from_millis(12_500);
/// With drains also the time between two offers of a drained master.
const CALM_OF_DRAINS: Duration = Duration::from_secs(13);
/// The limit of hooks, and how long a failed `before_claim` hook is a fault.
const HOOK: Duration = Duration::from_secs(1);
/// More deliveries and deadlines at one instant than this are an endless loop.
const AT_ONCE: u8 = 24;
/// A priority and the other one in an edited file add up to this.
const EDITED: u8 = 252;

#[derive(Clone, Copy, Debug)]
struct Setup {
    priority: u8,
    preempt: bool,
    handover: Handover,
    /// A check with this effect.
    service: Option<Effect>,
    /// With the two hooks that are waited for.
    hooks: bool,
    version: Version,
}

const fn setup(priority: u8) -> Setup {
    Setup {
        priority,
        preempt: true,
        handover: Handover::Overlap,
        service: None,
        hooks: false,
        version: Version::V3,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    /// `None`: crashed.
    node: Option<Node>,
    /// Frozen, with what has arrived meanwhile.
    frozen: Option<Vec<Message>>,
    /// Its file has the other priority.
    edited: bool,
    /// Its packet filter drops its adverts; so many scheduled ones in a row.
    mute: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Message {
    from: u8,
    to: u8,
    link: u8,
    priority: Priority,
    bytes: Arc<[u8]>,
    /// Its remaining delay.
    left: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    hosts: Vec<Host>,
    messages: Vec<Message>,
    /// The maximum delay of a message.
    delay: Duration,
    /// The links that are cut.
    cuts: u8,
    faults_left: u8,
    /// The time since the last fault, up to [`CALM`].
    calm: Duration,
    at_once: u8,
}

impl State {
    /// The host's daemon ends: what is on its way to it is lost.
    fn turn_off(&mut self, host: u8) {
        let machine = &mut self.hosts[usize::from(host)];
        (machine.node, machine.frozen) = (None, None);
        self.messages.retain(|message| message.to != host);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Time,
    Timeout(u8),
    Deliver(u8),
    Lose(u8),
    Crash(u8),
    Start(u8),
    Freeze(u8),
    Thaw(u8),
    Failover(u8),
    Resume(u8),
    Drain(u8),
    Undrain(u8),
    Stop(u8),
    Reload(u8),
    Sick(u8),
    Well(u8),
    HookDone(u8, Hook),
    HookFailed(u8, Hook),
    Cut(u8),
    Heal(u8),
    Mute(u8),
    Unmute(u8),
}

/// Faults apart from cut links and failing services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Messages are lost, hosts crash.
    Crashes,
    /// Operators move virtual routers.
    Moves,
    /// The same, and they stop daemons and change the priorities in the files.
    Operators,
    /// Crashes and moves, and hosts freeze.
    All,
    /// Operators drain hosts, and hosts crash.
    Drains,
    /// Packet filters drop the adverts of their own host.
    Filters,
}

impl Kind {
    fn crashes(self) -> bool {
        matches!(self, Kind::Crashes | Kind::Drains | Kind::All)
    }

    fn moves(self) -> bool {
        matches!(self, Kind::Moves | Kind::Operators | Kind::All)
    }
}

struct Model<'a> {
    setups: &'a [Setup],
    /// Of each host, as it is first and as it is edited.
    configs: Vec<[Config; 2]>,
    faults: u8,
    /// The number of links, each with a virtual router; with two links they are a group.
    links: u8,
    kind: Kind,
    delay: Duration,
}

fn own(link: u8, host: u8) -> IpAddr {
    let n = if link == 0 { host + 1 } else { 9 - host };
    IpAddr::V4(Ipv4Addr::new(10, 0, link, n))
}

/// The check of a host, and whether it fails.
fn check(node: &Node) -> Option<(CheckId, bool)> {
    let check = node.checks().next()?;
    Some((check.id(), check.verdict() == Verdict::Failing))
}

/// The hook that a host waits for.
fn hook(node: &Node) -> Option<Hook> {
    match node.routers().next()?.state() {
        RouterState::Claiming { .. } => Some(Hook::BeforeClaim),
        RouterState::Leaving { phase: Phase::Preparing { .. }, .. } => Some(Hook::BeforeRelease),
        _ => None,
    }
}

fn sick(host: &Host) -> bool {
    routers(host).any(|router| router.fault_reasons().next().is_some())
}

fn routers(host: &Host) -> impl Iterator<Item = &VirtualRouter> + Clone {
    host.node.iter().flat_map(|node| (0..2).filter_map(|n| node.routers().nth(n)))
}

impl<'a> Model<'a> {
    fn new(setups: &'a [Setup], links: u8, faults: u8, kind: Kind) -> Self {
        let router = |setup: &Setup, link: u8| RouterConfig {
            name: format!("r{link}").into(),
            interface: format!("lan{link}").into(),
            vrid: Vrid::new(1 + link).unwrap(),
            family: Family::V4,
            version: setup.version,
            priority: Priority::new(setup.priority),
            addresses: Arc::from([Address::host(own(0, 99 + link))]),
            unadvertised_addresses: Arc::from([]),
            advert_interval: Interval::DEFAULT,
            max_peer_interval: Interval::LONGEST,
            preempt: setup.preempt,
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
            handover: setup.handover,
            before_release: setup.hooks.then_some(HOOK),
            before_claim: setup.hooks.then_some(HOOK),
            fault_for: BTreeMap::from([(Hook::BeforeClaim, HOOK)]),
            checks: setup.service.iter().map(|_| "service".into()).collect(),
        };
        let check = |effect: Effect| CheckConfig {
            name: "service".into(),
            fall: 1,
            rise: 1,
            effect,
            initial: Initial::Passing,
        };
        let group =
            GroupConfig { name: "group".into(), members: ["r0".into(), "r1".into()].into() };
        let config = |setup: &Setup| Config {
            routers: (0..links).map(|link| router(setup, link)).collect(),
            groups: if links == 2 { vec![group.clone()] } else { Vec::new() },
            checks: setup.service.map(check).into_iter().collect(),
        };
        let edited = |setup: &Setup| Setup { priority: EDITED - setup.priority, ..*setup };
        let both = |setup: &Setup| match setup.priority {
            // An owner stays one.
            255 => [config(setup), config(setup)],
            _ => [config(setup), config(&edited(setup))],
        };
        let configs = setups.iter().map(both).collect();
        let number = std::env::var("VIPD_MODEL_FAULTS").ok();
        let faults = number.map_or(faults, |number| number.parse().unwrap());
        Model { setups, configs, faults, links, kind, delay: DELAY }
    }

    fn first(&self) -> State {
        let mut state = State {
            hosts: vec![
                Host { node: None, frozen: None, edited: false, mute: None };
                self.setups.len()
            ],
            messages: Vec::new(),
            delay: self.delay,
            // Both links are cut, so both groups become master.
            cuts: if self.links == 2 { 3 } else { 0 },
            faults_left: self.faults,
            calm: Duration::ZERO,
            at_once: 0,
        };
        for host in 0..self.setups.len() as u8 {
            self.start(&mut state, host);
        }
        state
    }

    fn start(&self, state: &mut State, host: u8) {
        let config = self.config(state, host);
        state.hosts[usize::from(host)].node = Some(Node::new(config));
        for link in 0..self.links {
            let address = |ip| LinkAddress::of_host(ip, 24);
            let mut addresses = vec![address(own(link, host))];
            let owner = config.routers[usize::from(link)].priority == Priority::OWNER;
            addresses.extend(owner.then(|| address(own(0, 99 + link))));
            let link = LinkId(link.into());
            let there = LinkState { up: true, addresses: &addresses, ..LinkState::default() };
            feed(state, host, Event::Link { link, state: Some(there) });
        }
    }

    fn config(&self, state: &State, host: u8) -> &Config {
        let host = usize::from(host);
        &self.configs[host][usize::from(state.hosts[host].edited)]
    }

    /// All possible next steps.
    fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        let hosts = 0..state.hosts.len() as u8;
        let mut pressing = state.messages.iter().any(|message| message.left.is_zero());
        let mut seen: Vec<&Message> = Vec::new();
        for (number, message) in state.messages.iter().enumerate() {
            // Of two equal messages only one is considered.
            if seen.contains(&message) {
                continue;
            }
            let behind = |other: &&Message| (other.to, other.link) == (message.to, message.link);
            let waits = self.links == 2 && seen.iter().any(behind);
            seen.push(message);
            if waits {
                continue;
            }
            steps.push(Step::Deliver(number as u8));
            if state.faults_left > 0 && self.kind.crashes() {
                steps.push(Step::Lose(number as u8));
            }
        }
        if self.links == 2 {
            for link in 0..2 {
                if state.cuts & 1 << link != 0 {
                    steps.push(Step::Heal(link));
                } else if state.faults_left > 0 {
                    steps.push(Step::Cut(link));
                }
            }
        }
        for host in hosts {
            let Host { node, frozen, mute, .. } = &state.hosts[usize::from(host)];
            let Some(node) = node else {
                steps.push(Step::Start(host));
                continue;
            };
            if frozen.is_some() {
                steps.push(Step::Thaw(host));
                continue;
            }
            let hook = hook(node);
            if node.deadline().is_some_and(|at| at <= NOW) {
                // A hook that fails counts as a fault.
                if hook != Some(Hook::BeforeClaim) || state.faults_left > 0 {
                    steps.push(Step::Timeout(host));
                }
                pressing = true;
            }
            if let Some(hook) = hook {
                steps.push(Step::HookDone(host, hook));
                if state.faults_left > 0 {
                    steps.push(Step::HookFailed(host, hook));
                }
            }
            match check(node) {
                Some((_, true)) => steps.push(Step::Well(host)),
                Some((_, false)) if state.faults_left > 0 => steps.push(Step::Sick(host)),
                Some((_, false)) | None => {}
            }
            if mute.is_some() {
                steps.push(Step::Unmute(host));
            }
            if state.faults_left > 0 {
                if self.kind.crashes() {
                    steps.push(Step::Crash(host));
                }
                if self.kind == Kind::Drains && node.drained().is_none() {
                    steps.push(Step::Drain(host));
                }
                if self.kind == Kind::Operators {
                    steps.extend([Step::Stop(host), Step::Reload(host)]);
                }
                if self.kind == Kind::All {
                    steps.push(Step::Freeze(host));
                }
                if self.kind == Kind::Filters && mute.is_none() {
                    steps.push(Step::Mute(host));
                }
                if self.kind.moves() {
                    let router = node.routers().next().unwrap();
                    if router.role() == Role::Master {
                        steps.push(Step::Failover(host));
                    }
                }
            }
            if node.drained().is_some() {
                steps.push(Step::Undrain(host));
            }
            if node.routers().next().unwrap().held_back() && self.kind.moves() {
                steps.push(Step::Resume(host));
            }
        }
        if !pressing {
            steps.push(Step::Time);
        }
    }

    fn take(&self, state: &State, step: Step) -> Result<State, String> {
        let mut state = state.clone();
        let fault = |state: &mut State, costs: u8| {
            state.faults_left -= costs;
            state.calm = Duration::ZERO;
        };
        match step {
            Step::Time => return Ok(self.time(state)),
            Step::Timeout(host) => {
                state.at_once += 1;
                let node = state.hosts[usize::from(host)].node.as_ref().unwrap();
                if hook(node) == Some(Hook::BeforeClaim) {
                    fault(&mut state, 1);
                }
                let was_sick = sick(&state.hosts[usize::from(host)]);
                feed(&mut state, host, Event::Timeout);
                let now = &state.hosts[usize::from(host)];
                if was_sick && !sick(now) && now.mute.is_none() {
                    // It takes part from now on.
                    fault(&mut state, 0);
                }
                let node = state.hosts[usize::from(host)].node.as_ref().unwrap();
                if node.deadline().is_some_and(|at| at <= NOW) {
                    return Err("a timeout did not make the deadline pass".to_owned());
                }
            }
            Step::Deliver(number) => {
                state.at_once += 1;
                let mut message = state.messages.remove(usize::from(number));
                let host = &mut state.hosts[usize::from(message.to)];
                if let Some(queue) = &mut host.frozen {
                    message.left = Duration::ZERO;
                    // Equal to the last message: adds nothing.
                    if queue.last() != Some(&message) {
                        queue.push(message);
                    }
                } else {
                    self.hear(&mut state, &message)?;
                }
            }
            Step::Lose(number) => {
                fault(&mut state, 1);
                state.messages.remove(usize::from(number));
            }
            Step::Crash(host) => {
                fault(&mut state, 1);
                state.turn_off(host);
            }
            Step::Start(host) => {
                fault(&mut state, 0);
                self.start(&mut state, host);
            }
            Step::Freeze(host) => {
                fault(&mut state, 1);
                state.hosts[usize::from(host)].frozen = Some(Vec::new());
            }
            Step::Thaw(host) => {
                fault(&mut state, 0);
                let queue = state.hosts[usize::from(host)].frozen.take().unwrap_or_default();
                for message in queue {
                    self.hear(&mut state, &message)?;
                }
                feed(&mut state, host, Event::Timeout);
            }
            Step::Sick(host) | Step::Well(host) => {
                let sick = matches!(step, Step::Sick(_));
                fault(&mut state, u8::from(sick));
                let node = state.hosts[usize::from(host)].node.as_ref().unwrap();
                let (check, _) = check(node).unwrap();
                let probe = if sick { Probe::Failed } else { Probe::Passed };
                feed(&mut state, host, Event::Probe { check, probe });
            }
            Step::HookDone(host, hook) | Step::HookFailed(host, hook) => {
                let succeeded = matches!(step, Step::HookDone(..));
                if !succeeded {
                    fault(&mut state, 1);
                }
                let node = state.hosts[usize::from(host)].node.as_ref().unwrap();
                let id = node.routers().next().unwrap().id();
                let outcome = HookOutcome { hook, succeeded };
                feed(&mut state, host, Event::HookFinished(id, outcome));
            }
            Step::Cut(link) => {
                fault(&mut state, 1);
                state.cuts |= 1 << link;
                state.messages.retain(|message| message.link != link);
            }
            Step::Heal(link) => {
                fault(&mut state, 0);
                state.cuts &= !(1 << link);
            }
            Step::Drain(host) => {
                fault(&mut state, 1);
                feed(&mut state, host, Event::Command(Command::Drain(Drain::LastResort)));
            }
            Step::Undrain(host) => {
                fault(&mut state, 0);
                feed(&mut state, host, Event::Command(Command::Undrain));
            }
            Step::Stop(host) => {
                fault(&mut state, 1);
                feed(&mut state, host, Event::Stop(Stop::Leave));
            }
            Step::Reload(host) => {
                fault(&mut state, 1);
                state.hosts[usize::from(host)].edited ^= true;
                let config = self.config(&state, host);
                feed(&mut state, host, Event::Reload(config));
            }
            Step::Mute(host) | Step::Unmute(host) => {
                let mute = matches!(step, Step::Mute(_));
                fault(&mut state, u8::from(mute));
                state.hosts[usize::from(host)].mute = mute.then_some(0);
            }
            Step::Failover(host) | Step::Resume(host) => {
                fault(&mut state, u8::from(matches!(step, Step::Failover(_))));
                let node = state.hosts[usize::from(host)].node.as_ref().unwrap();
                let id = node.routers().next().unwrap().id();
                let command = match step {
                    Step::Failover(_) => Command::Failover(id),
                    _ => Command::Resume(id),
                };
                feed(&mut state, host, Event::Command(command));
            }
        }
        for host in 0..state.hosts.len() as u8 {
            if state.hosts[usize::from(host)].node.as_ref().is_some_and(Node::is_stopped) {
                state.turn_off(host);
            }
        }
        if state.at_once > AT_ONCE {
            return Err("no end of messages at one instant".to_owned());
        }
        state.messages.sort_by(|a, b| {
            let key = |m: &Message| (m.left, m.to, m.from, m.link, m.bytes.clone());
            key(a).cmp(&key(b))
        });
        Ok(state)
    }

    /// Advances to the next event of any host.
    fn time(&self, mut state: State) -> State {
        let awake = state.hosts.iter().filter(|host| host.frozen.is_none());
        let deadlines = awake.filter_map(|host| host.node.as_ref()?.deadline());
        let next = deadlines
            .map(|at| at - NOW)
            .chain(state.messages.iter().map(|message| message.left))
            .min()
            // A host has crashed or is frozen, and the others have nothing to do.
            .unwrap_or(Duration::from_secs(1));
        for host in &mut state.hosts {
            host.node = host.node.as_ref().map(|node| node.normalized(NOW + next, NOW));
        }
        for message in &mut state.messages {
            message.left -= next;
        }
        state.calm = match state.cuts {
            0 => (state.calm + next).min(self.long_quiet_time()),
            _ => Duration::ZERO,
        };
        state.at_once = 0;
        state
    }

    fn long_quiet_time(&self) -> Duration {
        match self.links {
            2 => CALM_OF_GROUPS,
            _ if self.kind == Kind::Drains => CALM_OF_DRAINS,
            _ if self.setups.iter().any(|setup| setup.service.is_some()) => CALM_OF_SERVICES,
            _ => CALM,
        }
    }

    fn hear(&self, state: &mut State, message: &Message) -> Result<(), String> {
        let packet = Packet {
            link: LinkId(message.link.into()),
            source: own(message.link, message.from),
            destination: Family::V4.multicast_group(),
            ttl: 255,
            message: &message.bytes,
        };
        if state.hosts[usize::from(message.to)].node.is_none() {
            return Ok(());
        }
        feed(state, message.to, Event::Packet(packet));
        let mut routers = routers(&state.hosts[usize::from(message.to)]);
        let router = routers.nth(message.link.into()).unwrap();
        let theirs = (message.priority, own(message.link, message.from));
        let ours = (router.effective_priority(), own(message.link, message.to));
        // A tie of groups is decided on the first link.
        let contested = message.link == 1 && theirs.0 == ours.0;
        if router.role() == Role::Master && theirs > ours && !contested {
            return Err(format!("{} hears {theirs:?} and stays master", message.to));
        }
        Ok(())
    }

    /// What must hold in every state.
    fn check_state(&self, state: &State) -> Result<(), String> {
        let awake = || {
            (0..).zip(&state.hosts).filter(|(_, host)| host.frozen.is_none() && host.node.is_some())
        };
        let able: Vec<(u8, &Host)> =
            awake().filter(|(_, host)| !sick(host) && host.mute.is_none()).collect();
        if state.calm >= self.long_quiet_time()
            && let Some((number, _)) =
                awake().find(|(_, host)| sick(host) && routers(host).any(|r| r.has_addresses()))
        {
            return Err(format!("{number} is sick and keeps the addresses"));
        }
        if state.cuts != 0 || able.is_empty() {
            return Ok(());
        }
        for link in 0..usize::from(self.links) {
            self.check_link(state, &able, link)?;
        }
        if state.calm >= self.long_quiet_time() {
            for (number, host) in &able {
                let mut roles = routers(host).map(VirtualRouter::role);
                let first = roles.next();
                if roles.any(|role| Some(role) != first) {
                    return Err(format!("the members of {number} have different roles"));
                }
            }
        }
        Ok(())
    }

    fn check_link(&self, state: &State, able: &[(u8, &Host)], link: usize) -> Result<(), String> {
        let router = |host: &Host| routers(host).nth(link).unwrap().clone();
        let masters: Vec<_> =
            able.iter().filter(|(_, host)| router(host).role() == Role::Master).collect();
        let intervals = if self.links == 2 { 4 } else { 1 };
        let heard = intervals * Interval::DEFAULT.duration() + 2 * DELAY;
        if masters.len() > 1 && state.calm >= heard && state.messages.is_empty() {
            return Err("two masters, and nothing under way between them".to_owned());
        }
        if state.calm < self.long_quiet_time() {
            return Ok(());
        }
        let [(number, master)] = masters.as_slice() else {
            return Err(format!("{} masters after a long calm", masters.len()));
        };
        let drained = master.node.as_ref().is_some_and(|node| node.drained().is_some());
        for (other, host) in able {
            let (master, other_router) = (router(master), router(host));
            let preempts = self.setups[usize::from(*other)].preempt && !other_router.held_back();
            let wants = preempts || drained;
            if wants && other_router.effective_priority() > master.effective_priority() {
                return Err(format!("{number} is master, {other} would be better"));
            }
        }
        Ok(())
    }

    /// Visits every state once; a violation is reported with the shortest path to it.
    fn explore(&self) -> usize {
        let first = self.first();
        let mut known = HashSet::new();
        let mut ways: Vec<(usize, Step)> = vec![(0, Step::Time)];
        let mut queue = VecDeque::from([(first.clone(), 0)]);
        known.insert(fingerprint(&first));
        let mut steps = Vec::new();
        while let Some((state, number)) = queue.pop_front() {
            steps.clear();
            self.steps(&state, &mut steps);
            for &step in &steps {
                let next = self.take(&state, step).and_then(|next| {
                    self.check_state(&next)?;
                    Ok(next)
                });
                let next = match next {
                    Ok(next) => next,
                    Err(wrong) => {
                        panic!("{}{wrong}", self.story(&first, &ways, number, step))
                    }
                };
                if known.insert(fingerprint(&next)) {
                    ways.push((number, step));
                    queue.push_back((next, ways.len() - 1));
                }
            }
        }
        known.len()
    }

    fn story(
        &self,
        first: &State,
        ways: &[(usize, Step)],
        mut number: usize,
        last: Step,
    ) -> String {
        let mut steps = vec![last];
        while number != 0 {
            let (before, step) = ways[number];
            steps.push(step);
            number = before;
        }
        let mut story = String::new();
        let mut state = first.clone();
        let mut calm = 0.0;
        for step in steps.into_iter().rev() {
            let Ok(next) = self.take(&state, step) else { break };
            let roles: Vec<String> = next
                .hosts
                .iter()
                .map(|host| match &host.node {
                    None => "crashed".to_owned(),
                    Some(node) => {
                        let roles: Vec<String> =
                            routers(host).map(|router| router.role().to_string()).collect();
                        let due = node.deadline().map_or(-1.0, |at| (at - NOW).as_secs_f64());
                        let ice = if host.frozen.is_some() { "frozen " } else { "" };
                        format!("{ice}{} (due in {due:.3})", roles.join("+"))
                    }
                })
                .collect();
            if let Step::Time = step {
                calm = next.calm.as_secs_f64();
            }
            let _ = writeln!(
                story,
                "calm {calm:6.3}  {step:?}: {}; {} under way",
                roles.join(", "),
                next.messages.len()
            );
            state = next;
        }
        story
    }
}

fn fingerprint(state: &State) -> u128 {
    let mut hasher = Fingerprint(0);
    state.hash(&mut hasher);
    hasher.0
}

/// Half of the time would go into std's hasher, twice.
struct Fingerprint(u128);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        const FACTOR: u128 = 0x2d35_8dcc_aa6c_78a5_8bb8_4b93_962e_acc9;
        self.0 = (self.0 ^ u128::from(n)).wrapping_add(1).wrapping_mul(FACTOR).rotate_right(67);
    }

    fn finish(&self) -> u64 {
        self.0 as u64
    }
}

/// Passes an event to one node, and sends its adverts to the others.
fn feed(state: &mut State, host: u8, event: Event<'_>) {
    let others = 0..state.hosts.len() as u8;
    let Some(node) = &mut state.hosts[usize::from(host)].node else { return };
    let mut actions = Vec::new();
    let _ = node.handle(NOW, event, &mut actions);
    *node = node.normalized(NOW, NOW);
    let mute = &mut state.hosts[usize::from(host)].mute;
    if let Some(refused) = mute {
        let scheduled = |action: &Action| matches!(action, Action::Advertise { due: Some(_), .. });
        let begins =
            |action: &Action| matches!(action, Action::Notify(change) if change.takes_over());
        *refused += actions.iter().filter(|action| scheduled(action)).count() as u8;
        // As long as peers wait, or at once after a takeover.
        if *refused >= 3 || actions.iter().any(begins) {
            *refused = 0;
            feed(state, host, Event::AdvertsRefused(RouterId(0)));
        }
        return;
    }
    for action in actions {
        let Action::Advertise { from, advert, .. } = action else { continue };
        let link = advert.vrid.get() - 1;
        if state.cuts & 1 << link != 0 {
            continue;
        }
        let mut bytes = Vec::new();
        advert.encode(from, Family::V4.multicast_group(), &mut bytes);
        let bytes: Arc<[u8]> = bytes.into();
        for to in others.clone().filter(|to| *to != host) {
            if state.hosts[usize::from(to)].node.is_some() {
                let (priority, bytes) = (advert.priority, bytes.clone());
                state.messages.push(Message {
                    from: host,
                    to,
                    link,
                    priority,
                    bytes,
                    left: state.delay,
                });
            }
        }
    }
}

fn proves(setups: &[Setup], faults: u8, kind: Kind) {
    let states = Model::new(setups, 1, faults, kind).explore();
    println!("{setups:?}: {states} states");
}

/// A group on two links, which are cut at first.
fn groups_prove(setups: &[Setup], faults: u8, delay: Duration) {
    let states = Model { delay, ..Model::new(setups, 2, faults, Kind::Crashes) }.explore();
    println!("groups of {setups:?}: {states} states");
}

#[test]
fn groups_of_equals_that_disagree_become_stable() {
    // With delayed messages there would be too many states.
    groups_prove(&[setup(100), setup(100)], 1, Duration::ZERO);
}

#[test]
fn groups_that_disagree_end_with_the_better_host() {
    groups_prove(&[setup(150), setup(100)], 0, DELAY);
}

#[test]
fn exclusive_groups_become_stable() {
    const EXCLUSIVE: Setup = Setup { handover: Handover::Exclusive, ..setup(100) };
    groups_prove(&[EXCLUSIVE, EXCLUSIVE], 0, DELAY);
}

#[test]
fn a_pair_that_preempts_ends_with_the_better_host() {
    proves(&[setup(150), setup(100)], 2, Kind::All);
}

#[test]
fn a_pair_of_equals_becomes_stable() {
    proves(&[setup(100), setup(100)], 2, Kind::Crashes);
}

#[test]
fn a_pair_that_does_not_preempt_becomes_stable() {
    const STAYING: Setup = Setup { preempt: false, ..setup(150) };
    proves(&[STAYING, setup(100)], 1, Kind::All);
}

#[test]
fn an_exclusive_pair_becomes_stable() {
    const EXCLUSIVE: Setup = Setup { handover: Handover::Exclusive, ..setup(150) };
    proves(&[EXCLUSIVE, Setup { priority: 100, ..EXCLUSIVE }], 1, Kind::All);
}

#[test]
fn a_pair_that_is_drained_serves_from_one_of_the_two() {
    proves(&[setup(150), setup(100)], 2, Kind::Drains);
}

#[test]
fn a_pair_that_does_not_preempt_and_is_drained_serves_from_one_of_the_two() {
    const STAYING: Setup = Setup { preempt: false, ..setup(150) };
    proves(&[STAYING, Setup { priority: 100, ..STAYING }], 1, Kind::Drains);
}

#[test]
fn a_pair_that_is_stopped_and_reloaded_becomes_stable() {
    proves(&[setup(150), setup(100)], 2, Kind::Operators);
}

#[test]
fn an_owner_and_a_backup_become_stable() {
    proves(&[setup(255), setup(100)], 2, Kind::All);
}

#[test]
fn a_pair_of_version_2_becomes_stable() {
    const OLD: Setup = Setup { version: Version::V2, ..setup(150) };
    proves(&[OLD, Setup { priority: 100, ..OLD }], 2, Kind::All);
}

#[test]
fn three_hosts_with_two_faults() {
    proves(&[setup(200), setup(150), setup(100)], 2, Kind::Crashes);
}

#[test]
fn three_hosts_end_with_the_best() {
    proves(&[setup(200), setup(150), setup(100)], 1, Kind::All);
}

#[test]
fn a_pair_whose_service_fails_becomes_stable() {
    const SICK: Setup = Setup { service: Some(Effect::Fault), hooks: true, ..setup(150) };
    proves(&[SICK, Setup { priority: 100, ..SICK }], 1, Kind::Crashes);
}

#[test]
fn a_pair_that_hands_over_when_its_service_fails_becomes_stable() {
    const SICK: Setup = Setup { service: Some(Effect::Fault), ..setup(150) };
    proves(&[SICK, Setup { priority: 100, ..SICK }], 2, Kind::Crashes);
}

#[test]
fn a_pair_whose_service_fails_while_it_moves_becomes_stable() {
    const SICK: Setup = Setup { service: Some(Effect::Fault), hooks: true, ..setup(150) };
    proves(&[SICK, setup(100)], 2, Kind::Moves);
}

#[test]
fn a_pair_of_which_one_cannot_send_becomes_stable() {
    proves(&[setup(150), setup(100)], 1, Kind::Filters);
}
