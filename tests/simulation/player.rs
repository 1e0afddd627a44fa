//! Plays the scenarios on the simulator.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::{
    ChecksumForm, Command, Config, Drain, Family, Handover, Interval, Priority, Role, RouterConfig,
    Stop, Version, Vrid,
};

use super::scenarios::{Scenario, Setup, Step};
use super::world::{Filter, Pace, World, own_addresses, shared_address};

/// The shared address of every scenario.
pub fn address() -> IpAddr {
    shared_address(Family::V4, 0, 0).ip
}

pub fn router(setup: &Setup, interval: Interval) -> RouterConfig {
    RouterConfig {
        name: "web".into(),
        interface: "lan".into(),
        vrid: Vrid::new(1).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority::new(setup.priority),
        addresses: Arc::from([shared_address(Family::V4, 0, 0)]),
        unadvertised_addresses: Arc::from([]),
        advert_interval: interval,
        max_peer_interval: Interval::LONGEST,
        preempt: setup.preempt,
        preempt_delay: Duration::ZERO,
        start_delay: Duration::ZERO,
        link_delay: setup.link_delay,
        checksum: ChecksumForm::PseudoHeader,
        unicast_peers: None,
        unicast_min_ttl: 1,
        source_address: None,
        accept_from: None,
        authentication: None,
        address_lifetime: Some(RouterConfig::automatic_lifetime(interval)),
        handover: if setup.exclusive { Handover::Exclusive } else { Handover::Overlap },
        before_release: None,
        before_claim: None,
        fault_for: std::collections::BTreeMap::new(),
        checks: [].into(),
    }
}

/// The hosts of a scenario before anything has happened, none of them started.
pub fn world(setups: &[Setup], interval_ms: u16, seed: u64) -> World {
    let interval = Interval::from_centis(interval_ms / 10).unwrap();
    let configs = setups
        .iter()
        .enumerate()
        .map(|(host, setup)| {
            let mut router = router(setup, interval);
            let others = (0..setups.len()).filter(|other| *other != host);
            router.unicast_peers =
                setup.unicast.then(|| others.map(|other| own_addresses(other)[0]).collect());
            (Config { routers: vec![router], ..Config::default() }, Pace::GOOD)
        })
        .collect();
    let mut world = World::new(seed, configs);
    world.trace = Some(String::new());
    world
}

/// Runs it; a failed expectation names the step, with everything that happened before.
pub fn play(scenario: &Scenario, seed: u64) {
    let mut world = world(scenario.hosts, scenario.interval_ms, seed);
    for (index, setup) in scenario.hosts.iter().enumerate() {
        if !setup.asleep {
            world.start(index);
        }
    }
    let host = |name: &str| scenario.hosts.iter().position(|setup| setup.name == name).unwrap();
    for step in scenario.steps {
        world.say(None, || format!("{step:?}"));
        let held = match *step {
            Step::Start(name) => {
                let host = host(name);
                if world.hosts[host].powered {
                    world.start(host)
                } else {
                    world.boot(host)
                }
                true
            }
            Step::Stop(name) => {
                let host = host(name);
                world.stop(host, Stop::Leave);
                let end = world.now + 60_000_000_000;
                world.run_until(end, |world| world.hosts[host].process.is_none())
            }
            Step::Restart(name) => {
                let host = host(name);
                world.stop(host, Stop::Restart);
                let end = world.now + 1_000_000_000;
                let ended = world.run_until(end, |world| world.hosts[host].process.is_none());
                world.start(host);
                ended
            }
            Step::Kill(name) => {
                world.kill(host(name));
                true
            }
            Step::Freeze(name) => {
                world.freeze(host(name));
                true
            }
            Step::Thaw(name) => {
                world.thaw(host(name));
                true
            }
            Step::Crash(name) => {
                world.crash(host(name));
                true
            }
            Step::Cut(one, other) => {
                let (one, other) = (host(one), host(other));
                world.paths[one][other].cut = true;
                world.paths[other][one].cut = true;
                true
            }
            Step::CutOneWay(from, to) => {
                world.paths[host(from)][host(to)].cut = true;
                true
            }
            Step::Heal => {
                world.paths.iter_mut().flatten().for_each(|path| path.cut = false);
                true
            }
            Step::LinkDown(name) => {
                world.set_link(host(name), false);
                true
            }
            Step::LinkUp(name) => {
                world.set_link(host(name), true);
                true
            }
            Step::DropAdverts(name) => {
                world.set_filter(host(name), Filter::DropAll);
                true
            }
            Step::DropAdvertsTo(name, peer) => {
                world.set_filter(host(name), Filter::DropTo(host(peer)));
                true
            }
            Step::DropNothing(name) => {
                world.set_filter(host(name), Filter::Pass);
                true
            }
            Step::RemoveAddress(name) => {
                world.remove_address(host(name), address());
                true
            }
            Step::OwnAddressGone(name) => {
                world.set_own_addresses(host(name), false);
                true
            }
            Step::OwnAddressBack(name) => {
                world.set_own_addresses(host(name), true);
                true
            }
            Step::Failover(name) => {
                let host = host(name);
                let id = world.hosts[host].node().unwrap().find("web").unwrap().id();
                world.command(host, Command::Failover(id));
                true
            }
            Step::Resume(name) => {
                let host = host(name);
                let id = world.hosts[host].node().unwrap().find("web").unwrap().id();
                world.command(host, Command::Resume(id));
                true
            }
            Step::Drain(name) => {
                world.command(host(name), Command::Drain(Drain::LastResort));
                true
            }
            Step::DrainByForce(name) => {
                world.command(host(name), Command::Drain(Drain::Force));
                true
            }
            Step::Undrain(name) => {
                world.command(host(name), Command::Undrain);
                true
            }
            Step::Wait(span) => {
                world.run_for(span);
                true
            }
            Step::MasterWithin(name, limit) => {
                let host = host(name);
                let end = world.now + limit.as_nanos() as u64;
                world.run_until(end, |world| is_only_master(world, host))
            }
            Step::MasterIs(name) => is_only_master(&world, host(name)),
            Step::NobodyIsMaster => world.masters(0).is_empty(),
            Step::HasNot(name) => !world.hosts[host(name)].holds(address()),
            Step::Mark => {
                // Until the last announcements have reached the clients.
                world.run_for(Duration::from_millis(5));
                world.forget_service(address());
                true
            }
            Step::NothingWasLost => {
                let seen = world.seen(address());
                seen.nobody == 0 && seen.misdirected == 0
            }
            Step::NobodyAnsweredAtMost(limit) => {
                u128::from(world.seen(address()).nobody) <= limit.as_nanos()
            }
            Step::TwoAnsweredAtMost(limit) => {
                u128::from(world.seen(address()).two) <= limit.as_nanos()
            }
        };
        if !held || world.wrong.is_some() {
            let story = world.trace.take().unwrap_or_default();
            let seen = world.seen(address());
            panic!(
                "{story}\n{}, seed {seed}: {step:?} does not hold {}\n{seen:?}",
                scenario.name,
                world.wrong.unwrap_or_default()
            );
        }
    }
}

/// The state of a frozen daemon is outdated: the holder of the address counts.
fn is_only_master(world: &World, host: usize) -> bool {
    let others = |other: usize| {
        let frozen = world.hosts[other].process.as_ref().is_some_and(|process| process.frozen);
        let role = world.hosts[other].role(0);
        !world.hosts[other].answers(address())
            && (frozen || !matches!(role, Some(Role::Master | Role::Leaving)))
    };
    world.hosts[host].role(0) == Some(Role::Master)
        && world.hosts[host].answers(address())
        && (0..world.hosts.len()).all(|other| other == host || others(other))
}
