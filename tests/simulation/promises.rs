//! Promises with figures, in random worlds: planned moves lose nothing, and a
//! daemon that dies or stalls never leaves two owners.

use std::net::IpAddr;
use std::time::Duration;

use vipd::vrrp::{CheckConfig, Command, Drain, Effect, Handover, Initial, Interval, Probe, Stop};

use super::player::{address, world};
use super::random::Random;
use super::scenarios::{Setup, host};
use super::world::{Pace, World};

const CHECK: &str = "service";

fn draw(random: &mut Random, interval_ms: u16, seed: u64, trace: bool) -> Box<World> {
    // Two backups of equal priority take over at the same moment, and the one that loses may be
    // the last that announced: ten milliseconds until the other does again.
    let mut priorities = vec![1, 50, 100, 150, 200, 254];
    let setups: Vec<Setup> = ["a", "b", "c"][..random.pick(&[2, 2, 3])]
        .iter()
        .map(|name| host(name, priorities.remove(random.index(priorities.len()))))
        .collect();
    let mut world = Box::new(world(&setups, interval_ms, seed));
    if !trace {
        world.trace = None;
    }
    for host in &mut world.hosts {
        host.pace = Pace {
            ppm: random.range(0..401) as i64 - 200,
            worker: (Duration::from_micros(50), Duration::from_micros(800)),
            ..Pace::GOOD
        };
        // Half of them do not preempt.
        host.config.routers[0].preempt = random.percent(50);
        host.config.routers[0].checks = [CHECK.into()].into();
        host.config.checks = vec![CheckConfig {
            name: CHECK.into(),
            fall: 1,
            rise: 1,
            effect: Effect::Fault,
            initial: Initial::Passing,
        }];
    }
    world
}

fn wait_until_stable(world: &mut World, random: &mut Random, interval: Duration) {
    let span = 8 * interval + random.span(Duration::ZERO..interval) + Duration::from_millis(5);
    world.run_for(span);
    world.forget_service(address());
}

fn master(world: &mut World) -> Option<usize> {
    let masters = world.masters(0);
    if masters.len() != 1 {
        world.fail(None, format!("{masters:?} are master after a calm"));
    }
    masters.first().copied()
}

/// Stop, failover, drain, a failing check, a better host: at every instant some host answers, and a client's packets
/// go to a host that does.
pub fn planned_moves_lose_nothing(seed: u64, trace: bool) -> Result<Box<World>, Box<World>> {
    let mut random = Random::new(seed ^ 0x91a1);
    let interval_ms = random.pick(&[1000, 1000, 500, 100, 50]);
    let interval = Interval::from_centis(interval_ms / 10).unwrap().duration();
    let mut world = draw(&mut random, interval_ms, seed, trace);
    let hosts = world.hosts.len();
    let newcomer = random.percent(40).then(|| random.index(hosts));
    for host in (0..hosts).filter(|host| Some(*host) != newcomer) {
        world.start(host);
    }
    wait_until_stable(&mut world, &mut random, interval);
    let Some(first) = master(&mut world) else { return Err(world) };
    let id = world.hosts[first].node().unwrap().find("web").unwrap().id();
    let alone = hosts - usize::from(newcomer.is_some()) == 1;
    match (newcomer, random.range(0..5)) {
        (Some(newcomer), _) => world.start(newcomer),
        (None, 0) if !alone => world.stop(first, Stop::Leave),
        (None, 1) => world.command(first, Command::Drain(Drain::LastResort)),
        (None, 2) if !alone => world.probe(first, CHECK, Probe::Failed),
        (None, _) => world.command(first, Command::Failover(id)),
    }
    wait_until_stable_for(&mut world, 10 * interval);
    // And back, if the first host preempts.
    if world.hosts[first].process.is_some() {
        world.command(first, Command::Undrain);
        world.command(first, Command::Resume(id));
        world.probe(first, CHECK, Probe::Passed);
    } else {
        world.start(first);
    }
    wait_until_stable_for(&mut world, 10 * interval);
    let seen = world.seen(address());
    if seen.nobody > 0 || seen.misdirected > 0 {
        world.fail(None, format!("a planned move lost something: {seen:?}"));
    }
    if world.contentions > 0 {
        world.fail(None, "the router before was taken for a foreign machine".to_owned());
    }
    let two = Duration::from_millis(10);
    if u128::from(seen.two) > two.as_nanos() {
        world.fail(None, format!("two answered longer than a handover takes: {seen:?}"));
    }
    if world.wrong.is_some() { Err(world) } else { Ok(world) }
}

fn wait_until_stable_for(world: &mut World, span: Duration) {
    world.run_for(span);
    master(world);
}

/// Killed or frozen at any moment, with adverts of 0.7 s or slower and a network without fault: the
/// addresses are gone before another host has them.
pub fn a_dead_daemon_never_leaves_two_owners(
    seed: u64,
    trace: bool,
) -> Result<Box<World>, Box<World>> {
    let mut random = Random::new(seed ^ 0xdead);
    let interval_ms = random.pick(&[700, 840, 850, 950, 1000, 1000, 1330, 1340, 1500, 2000, 5000]);
    let interval = Interval::from_centis(interval_ms / 10).unwrap().duration();
    let mut world = draw(&mut random, interval_ms, seed, trace);
    for host in 0..world.hosts.len() {
        world.hosts[host].config.routers[0].handover = Handover::Exclusive;
        world.start(host);
    }
    wait_until_stable(&mut world, &mut random, interval);
    let Some(first) = master(&mut world) else { return Err(world) };
    let ip: IpAddr = address();
    let frozen = random.percent(50);
    if frozen {
        world.freeze(first);
    } else {
        world.kill(first);
    }
    let gone = random.span(Duration::ZERO..6 * interval);
    world.run_for(gone);
    if frozen {
        world.thaw(first);
    } else {
        world.start(first);
    }
    world.run_for(12 * interval);
    master(&mut world);
    let seen = world.seen(ip);
    // A stall about as long as the peers' master-down interval ends in an election between two
    // hosts that both have the address: the one that loses gives way as soon as it receives an
    // advert.
    let two = Duration::from_millis(2);
    if u128::from(seen.two) > two.as_nanos() {
        world.fail(None, format!("two answered, after {gone:?}: {seen:?}"));
    }
    if world.wrong.is_some() { Err(world) } else { Ok(world) }
}
