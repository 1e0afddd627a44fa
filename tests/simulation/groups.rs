//! Sync groups on two links, and checks: planned moves lose nothing, hosts that disagree settle on
//! one master, and a reload touches nothing that is equal before and after.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use vipd::vrrp::{
    Action, Advert, CheckConfig, Command, Config, Drain, Effect, Event, Family, GroupConfig,
    Handover, Hook, Initial, Instant, Interval, LinkAddress, LinkState, Node, Packet, Priority,
    Probe, Role, RouterConfig, RouterId, Stop, Vrid,
};

use super::chaos;
use super::player;
use super::random::Random;
use super::scenarios::host;
use super::world::{Pace, SECOND, World, addresses_on, own_address, shared_address};

const NAMES: [&str; 2] = ["a", "b"];

/// A group over both links with a check that takes 60 of the priority.
fn group(name: &'static str, priority: u8, interval: Interval) -> Config {
    let first = RouterConfig {
        checks: ["app".into()].into(),
        ..player::router(&host(name, priority), interval)
    };
    let second = RouterConfig {
        name: "out".into(),
        interface: SECOND.into(),
        vrid: Vrid::new(2).unwrap(),
        addresses: [shared_address(Family::V4, 1, 0)].into(),
        ..first.clone()
    };
    let members = [first.name.clone(), second.name.clone()].into();
    let app = CheckConfig {
        name: "app".into(),
        fall: 1,
        rise: 1,
        effect: Effect::Weight(-60),
        initial: Initial::Passing,
    };
    Config {
        routers: vec![first, second],
        checks: vec![app],
        groups: vec![GroupConfig { name: "gateway".into(), members }],
    }
}

fn world(priorities: [u8; 2], interval: Interval, seed: u64, trace: bool) -> Box<World> {
    let mut random = Random::new(seed ^ 0x9a7e);
    let configs = NAMES.iter().zip(priorities).map(|(name, priority)| {
        let pace = Pace { ppm: random.range(0..401) as i64 - 200, ..Pace::GOOD };
        (group(name, priority, interval), pace)
    });
    let mut world = Box::new(World::new(seed, configs.collect()));
    if trace {
        world.trace = Some(String::new());
    }
    world
}

/// The host that is master of both while the other is master of none.
fn master(world: &mut World) -> Option<usize> {
    let (first, second) = (world.masters(0), world.masters(1));
    if first.len() != 1 || first != second {
        world.fail(None, format!("{first:?} and {second:?} are master of the members"));
    }
    first.first().copied()
}

fn end(world: Box<World>) -> Result<Box<World>, Box<World>> {
    if world.wrong.is_some() { Err(world) } else { Ok(world) }
}

/// Failover, drain, stop, a check that fails and recovers: at every instant some host answers for
/// both addresses.
pub fn planned_moves_of_a_group_lose_nothing(
    seed: u64,
    trace: bool,
) -> Result<Box<World>, Box<World>> {
    let mut random = Random::new(seed ^ 0x6a09);
    let interval = Interval::from_centis(random.pick(&[100, 100, 50, 10])).unwrap();
    let mut world = world([150, 100], interval, seed, trace);
    let span = interval.duration();
    for host in 0..2 {
        world.start(host);
        world.run_for(random.span(Duration::ZERO..span));
    }
    world.run_for(8 * span + random.span(Duration::ZERO..span));
    let addresses: Vec<IpAddr> = world.shared().into_iter().collect();
    addresses.iter().for_each(|ip| world.forget_service(*ip));
    let Some(first) = master(&mut world) else { return Err(world) };
    let id = RouterId(random.range(0..2) as u32);
    let how = random.range(0..5);
    match how {
        0 => world.stop(first, Stop::Leave),
        1 => world.command(first, Command::Drain(Drain::LastResort)),
        2 => world.command(first, Command::Failover(id)),
        _ => world.probe(first, "app", Probe::Failed),
    }
    world.run_for(10 * span);
    if master(&mut world) == Some(first) {
        world.fail(None, "nothing has moved".to_owned());
    }
    // And back.
    match how {
        0 => world.start(first),
        1 => world.command(first, Command::Undrain),
        2 => world.command(first, Command::Resume(id)),
        _ => world.probe(first, "app", Probe::Passed),
    }
    world.run_for(10 * span);
    if master(&mut world) != Some(first) {
        world.fail(None, "the better host has not come back".to_owned());
    }
    for ip in addresses {
        let seen = world.seen(ip);
        if seen.nobody > 0 || seen.misdirected > 0 || seen.two > 10_000_000 {
            world.fail(None, format!("a planned move lost something of {ip}: {seen:?}"));
        }
    }
    end(world)
}

/// Both links are cut and healed, in any order: each host is master of both members, and each would
/// win the tie on another link.
pub fn groups_that_disagree_end_with_one_master(
    seed: u64,
    trace: bool,
) -> Result<Box<World>, Box<World>> {
    let mut random = Random::new(seed ^ 0xd15a);
    let interval = Interval::from_centis(random.pick(&[100, 100, 10])).unwrap();
    let span = interval.duration();
    let priorities = random.pick(&[[100, 100], [100, 100], [150, 100], [100, 150]]);
    let mut world = world(priorities, interval, seed, trace);
    for link in [0, 1] {
        world.cuts.extend([(0, 1, link), (1, 0, link)]);
    }
    for host in 0..2 {
        let handover = random.pick(&[Handover::Overlap, Handover::Exclusive]);
        world.hosts[host].config.routers.iter_mut().for_each(|router| router.handover = handover);
        world.start(host);
        world.run_for(random.span(Duration::ZERO..2 * span));
    }
    world.run_for(8 * span);
    if world.masters(0).len() != 2 || world.masters(1).len() != 2 {
        world.fail(None, "both hosts should be master of both members".to_owned());
    }
    let first = random.index(2);
    for (number, link) in [first, 1 - first].into_iter().enumerate() {
        world.cuts.retain(|cut| cut.2 != link);
        if number == 0 && random.percent(70) {
            world.run_for(random.span(Duration::ZERO..12 * span));
        }
    }
    world.run_for(13 * span);
    let settled = master(&mut world);
    world.run_for(20 * span);
    if master(&mut world) != settled {
        world.fail(None, "the roles change without end".to_owned());
    }
    if priorities[0] != priorities[1] && settled != Some(usize::from(priorities[1] == 150)) {
        world.fail(None, "the worse host is master".to_owned());
    }
    end(world)
}

// ---- reload ------------------------------------------------------------------------------------

/// A node in some state, and another configuration for it.
pub fn a_reload_touches_nothing_that_is_equal(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed ^ 0x4e10);
    let before = chaos::draw_configs(&mut random, 2).swap_remove(0);
    let mut node = Node::new(&before);
    let mut now = Instant::START;
    let mut actions = Vec::new();
    report_link(&mut node, now, &before, random.percent(90), &mut actions);
    for _ in 0..random.range(0..40) {
        happen(&mut node, &mut now, &before, &mut random, &mut actions);
    }
    // Until everything that is due is done, and removed routers are forgotten.
    for _ in 0..4 {
        node.handle(now, Event::Timeout, &mut actions).unwrap();
    }
    let after = match random.range(0..4) {
        0 => chaos::draw_configs(&mut random, 2).swap_remove(1),
        _ => (0..random.range(0..4)).fold(before.clone(), |c, _| chaos::redraw(c, &mut random)),
    };
    let untouched = untouched(&node, &before, &after);
    let old = node.clone();
    actions.clear();
    node.handle(now, Event::Reload(&after), &mut actions).unwrap();
    for id in untouched {
        let name = || old.router(id).map(|router| router.config().name.to_string());
        if let Some(action) = actions.iter().find(|action| is_of(action, id)) {
            return Err(format!("{:?} was equal in both, and yet {action:?}", name()));
        }
        if old.router(id) != node.router(id) {
            let (was, is) = (old.router(id), node.router(id));
            return Err(format!("{:?} was equal in both, and yet {was:#?} became {is:#?}", name()));
        }
    }
    // The same configuration once more changes nothing.
    node.handle(now, Event::Timeout, &mut actions).unwrap();
    let once = node.clone();
    actions.clear();
    node.handle(now, Event::Reload(&after), &mut actions).unwrap();
    let same = |router: &RouterConfig| node.find(&router.name) == once.find(&router.name);
    if !actions.is_empty() || !after.routers.iter().all(same) {
        return Err(format!("the same configuration again did something: {actions:?}"));
    }
    Ok(())
}

/// Virtual routers that are in both, with the same settings, checks and group, as are all other
/// members of it.
fn untouched(node: &Node, before: &Config, after: &Config) -> Vec<RouterId> {
    let checks = |config: &Config, router: &RouterConfig| -> Vec<CheckConfig> {
        let named = config.checks.iter().filter(|check| router.checks.contains(&check.name));
        named.cloned().collect()
    };
    let equal: BTreeSet<&str> = before
        .routers
        .iter()
        .filter(|router| after.routers.contains(router))
        .filter(|router| checks(before, router) == checks(after, router))
        .map(|router| &*router.name)
        .collect();
    let group = |config: &Config, name: &str| {
        let mut groups = config.groups.iter();
        groups.find(|group| group.members.iter().any(|member| &**member == name)).cloned()
    };
    let stays = |name: &&&str| match (group(before, name), group(after, name)) {
        (None, None) => true,
        (Some(old), Some(new)) => {
            old.members == new.members && old.members.iter().all(|member| equal.contains(&**member))
        }
        (None, Some(_)) | (Some(_), None) => false,
    };
    equal.iter().filter(stays).filter_map(|name| Some(node.find(name)?.id())).collect()
}

fn is_of(action: &Action, id: RouterId) -> bool {
    match action {
        Action::Advertise { router, .. }
        | Action::Announce { router, .. }
        | Action::Claim { router, .. }
        | Action::Release { router, .. }
        | Action::Renew { router, .. }
        | Action::Warn { router, .. } => *router == id,
        Action::Notify(transition) => transition.router == id,
    }
}

fn report_link(
    node: &mut Node,
    now: Instant,
    config: &Config,
    up: bool,
    actions: &mut Vec<Action>,
) {
    let links: Vec<_> =
        node.links().map(|(id, name)| (id, usize::from(&**name == SECOND))).collect();
    for (link, number) in links {
        let own = addresses_on(number, 0);
        let owned = config.routers.iter().filter(|router| router.priority == Priority::OWNER);
        let owned = owned.flat_map(RouterConfig::all_addresses).map(|address| address.ip);
        let all: Vec<LinkAddress> = own.into_iter().chain(owned).map(own_address).collect();
        let state = LinkState { up, addresses: &all, ..LinkState::default() };
        node.handle(now, Event::Link { link, state: Some(state) }, actions).unwrap();
    }
}

/// A random event at a random time; deadlines are kept.
fn happen(
    node: &mut Node,
    now: &mut Instant,
    config: &Config,
    random: &mut Random,
    actions: &mut Vec<Action>,
) {
    let until = *now + random.span(Duration::ZERO..Duration::from_secs(3));
    while let Some(at) = node.deadline().filter(|at| *at <= until) {
        *now = at.max(*now);
        node.handle(*now, Event::Timeout, actions).unwrap();
    }
    *now = until;
    let router = &config.routers[random.index(config.routers.len())];
    let id = node.find(&router.name).unwrap().id();
    match random.range(0..10) {
        0..=3 => {
            let link = node.find(&router.name).unwrap().link();
            let number = usize::from(&*router.interface == SECOND);
            let [v4, link_local, global] = addresses_on(number, 1);
            let [own4, _, own6] = addresses_on(number, 0);
            let (source, destination) = match (router.family, &router.unicast_peers) {
                (Family::V4, None) => (v4, Family::V4.multicast_group()),
                (Family::V4, Some(_)) => (v4, own4),
                (Family::V6, None) => (link_local, Family::V6.multicast_group()),
                (Family::V6, Some(_)) => (global, own6),
            };
            let advert = Advert {
                version: router.version,
                vrid: router.vrid,
                priority: Priority::new(random.pick(&[0, 1, 100, 120, 254])),
                interval: router.advert_interval,
                addresses: router.addresses.clone(),
                checksum: router.checksum,
                authentication: None,
            };
            let mut message = Vec::new();
            advert.encode(source, destination, &mut message);
            let message = &message[..];
            let packet = Packet { link, source, destination, ttl: 255, message };
            let _ = node.handle(*now, Event::Packet(packet), actions);
        }
        4 | 5 => {
            let checks: Vec<_> = node.checks().map(|check| check.id()).collect();
            if !checks.is_empty() {
                let check = checks[random.index(checks.len())];
                let probe = random.pick(&[Probe::Passed, Probe::Failed, Probe::Number(7)]);
                node.handle(*now, Event::Probe { check, probe }, actions).unwrap();
            }
        }
        6 => {
            let command = random.pick(&[
                Command::Failover(id),
                Command::Resume(id),
                Command::Drain(Drain::LastResort),
                Command::Undrain,
            ]);
            node.handle(*now, Event::Command(command), actions).unwrap();
        }
        7 => {
            let hook = random.pick(&[Hook::BeforeClaim, Hook::BeforeRelease]);
            let outcome = vipd::vrrp::HookOutcome { hook, succeeded: random.percent(80) };
            node.handle(*now, Event::HookFinished(id, outcome), actions).unwrap();
        }
        8 => report_link(node, *now, config, random.percent(70), actions),
        _ => {}
    }
    assert_ne!(node.router(id).map(|router| router.role()), Some(Role::Stopped));
}
