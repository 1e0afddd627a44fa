//! Hosts and networks drawn at random, everything that can go wrong, and then calm: after which
//! exactly one host is master, and the right one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::{
    Address, Advert, ChecksumForm, Command, Config, Family, Handover, Interval, Priority, Role,
    RouterConfig, State, Stop, Version, Vrid,
};

use super::random::Random;
use super::world::{Frame, Pace, Path, World, own_addresses, shared_address};

/// What a run may bring: drawn once, so that most runs are about few things at a time.
#[derive(Clone, Debug)]
struct Mishaps {
    network: bool,
    daemons: bool,
    machines: bool,
    operators: bool,
    strangers: bool,
    kernels: bool,
    reloads: bool,
}

/// One run; what went wrong, if anything did.
pub fn run(seed: u64, tell: bool) -> Result<Box<World>, Box<World>> {
    let mut random = Random::new(seed ^ 0x5eed);
    let hosts = random.pick(&[2, 2, 2, 3, 3, 4]);
    let configs = draw_configs(&mut random, hosts);
    let longest = longest_interval(&configs);
    let hosts_with_pace: Vec<(Config, Pace)> =
        configs.into_iter().map(|config| (config, draw_pace(&mut random, longest))).collect();
    let mut world = Box::new(World::new(seed, hosts_with_pace));
    if tell {
        world.trace = Some(String::new());
        for host in 0..hosts {
            let line = format!("{:?} {:?}", world.hosts[host].pace, world.hosts[host].config);
            world.say(Some(host), || line);
        }
    }
    let mut may = || random.percent(45);
    let mishaps = Mishaps {
        network: may(),
        daemons: may(),
        machines: may(),
        operators: may(),
        strangers: may(),
        kernels: may(),
        reloads: may(),
    };
    for host in 0..hosts {
        if random.percent(85) {
            world.start(host);
        }
        if random.percent(50) {
            world.run_for(random.span(Duration::ZERO..4 * longest));
        }
    }
    let steps = random.range(3..25);
    for _ in 0..steps {
        let span = random.span(Duration::ZERO..5 * longest);
        world.run_for(span);
        mishap(&mut world, &mut random, &mishaps, longest);
        forgotten_addresses(&mut world);
        if world.wrong.is_some() {
            return Err(world);
        }
    }
    calm(&mut world, &mut random, longest);
    if world.wrong.is_some() { Err(world) } else { Ok(world) }
}

fn longest_interval(configs: &[Config]) -> Duration {
    let routers = configs.iter().flat_map(|config| &config.routers);
    routers.map(|router| router.advert_interval.duration()).max().unwrap_or_default()
}

// ---- what is drawn -----------------------------------------------------------------------------

fn draw_interval(random: &mut Random, version: Version) -> Interval {
    match version {
        Version::V2 => Interval::from_secs(random.pick(&[1, 1, 2, 4])).unwrap(),
        Version::V3 => {
            Interval::from_centis(random.pick(&[100, 100, 100, 1, 2, 10, 25, 50, 70, 333])).unwrap()
        }
    }
}

fn draw_configs(random: &mut Random, hosts: usize) -> Vec<Config> {
    let mut configs = vec![Config::default(); hosts];
    let routers = random.pick(&[1, 1, 1, 2, 3]);
    let interval_of_all = draw_interval(random, Version::V2);
    for router in 0..routers {
        let version = random.pick(&[Version::V3, Version::V3, Version::V3, Version::V2]);
        let family = match version {
            Version::V2 => Family::V4,
            Version::V3 => random.pick(&[Family::V4, Family::V6]),
        };
        let mut interval = draw_interval(random, version);
        if routers > 1 && version == Version::V2 {
            interval = interval_of_all;
        }
        let other_interval = draw_interval(random, version);
        let unicast = random.percent(25);
        let number = random.pick(&[1, 1, 2, 3]);
        let owner = random.percent(5).then(|| random.index(hosts));
        let equal = random.percent(20);
        for (host, config) in configs.iter_mut().enumerate() {
            let own = |host: usize| {
                let [v4, _, v6] = own_addresses(host);
                if family == Family::V4 { v4 } else { v6 }
            };
            let priority = match owner {
                Some(owner) if owner == host => 255,
                _ if equal => 100,
                _ => random.pick(&[1, 50, 100, 101, 150, 200, 254]),
            };
            let interval =
                if version == Version::V3 && random.percent(5) { other_interval } else { interval };
            config.routers.push(RouterConfig {
                name: format!("r{router}").into(),
                interface: "lan".into(),
                vrid: Vrid::new(router as u8 + 1).unwrap(),
                family,
                version,
                priority: Priority::new(priority),
                addresses: (0..number).map(|n| shared_address(family, router, n)).collect(),
                unadvertised_addresses: if random.percent(20) && owner.is_none() {
                    Arc::from([shared_address(Family::V6, router, 50)])
                } else {
                    Arc::from([])
                },
                advert_interval: interval,
                preempt: random.percent(70),
                preempt_delay: random.pick(&[0, 0, 0, 1000, 4000]).millis(),
                start_delay: random.pick(&[0, 0, 0, 0, 3000]).millis(),
                link_delay: random.pick(&[0, 0, 50, 2000]).millis(),
                checksum: random.pick(&[ChecksumForm::PseudoHeader, ChecksumForm::Plain]),
                unicast_peers: unicast
                    .then(|| (0..hosts).filter(|peer| *peer != host).map(own).collect()),
                unicast_min_ttl: 1,
                source_address: None,
                accept_from: None,
                authentication: None,
                address_lifetime: random
                    .percent(80)
                    .then(|| RouterConfig::automatic_lifetime(interval)),
                handover: if random.percent(70) { Handover::Overlap } else { Handover::Exclusive },
                before_release: random.percent(15).then(|| random.pick(&[20, 500, 3000]).millis()),
                before_claim: None,
                fault_for: std::collections::BTreeMap::new(),
                checks: [].into(),
            });
        }
    }
    configs
}

trait Millis {
    fn millis(self) -> Duration;
}

impl Millis for u64 {
    fn millis(self) -> Duration {
        Duration::from_millis(self)
    }
}

fn draw_pace(random: &mut Random, longest: Duration) -> Pace {
    let slow = random.percent(15);
    Pace {
        ppm: random.range(0..401) as i64 - 200,
        late: random.pick(&[20, 200, 2000]).micros(),
        worker: if slow {
            (Duration::from_millis(1), longest / 6)
        } else {
            (Duration::from_micros(50), Duration::from_micros(800))
        },
    }
}

trait Micros {
    fn micros(self) -> Duration;
}

impl Micros for u64 {
    fn micros(self) -> Duration {
        Duration::from_micros(self)
    }
}

// ---- what goes wrong ---------------------------------------------------------------------------

fn mishap(world: &mut World, random: &mut Random, mishaps: &Mishaps, longest: Duration) {
    let host = random.index(world.hosts.len());
    let other = random.index(world.hosts.len());
    match random.range(0..7) {
        0 if mishaps.network => match random.range(0..6) {
            0 => {
                world.paths[host][other].cut = true;
                world.paths[other][host].cut = true;
                world.say(Some(host), || format!("cut off from {other}"));
            }
            1 => {
                world.paths[host][other].cut = true;
                world.say(Some(host), || format!("{other} no longer hears it"));
            }
            2 | 3 => {
                for row in &mut world.paths {
                    for path in row {
                        path.cut = false;
                    }
                }
                world.say(None, || "the cuts are healed".to_owned());
            }
            4 => {
                let path = Path {
                    cut: false,
                    loss_percent: random.pick(&[0, 5, 30, 80]),
                    duplicate_percent: random.pick(&[0, 0, 20]),
                    corrupt_percent: random.pick(&[0, 0, 20]),
                    delay: (Duration::ZERO, random.pick(&[1, 5, 50, 300]).millis()),
                };
                world.paths[host][other] = path;
                world.say(Some(host), || format!("to {other}: {path:?}"));
            }
            _ => {
                let up = !world.hosts[host].link_up;
                world.set_link(host, up);
            }
        },
        1 if mishaps.daemons => match random.range(0..6) {
            0 => world.kill(host),
            1 => world.freeze(host),
            2 => world.thaw(host),
            3 => {
                world.kill(host);
                world.run_for(random.span(Duration::ZERO..4 * longest));
                world.start(host);
            }
            4 => {
                world.freeze(host);
                world.run_for(random.span(Duration::ZERO..5 * longest));
                world.thaw(host);
            }
            _ => world.start(host),
        },
        2 if mishaps.machines => {
            if world.hosts[host].powered {
                world.crash(host);
            } else {
                world.boot(host);
            }
        }
        3 if mishaps.operators => {
            let ids: Vec<_> = world.hosts[host]
                .node()
                .map(|node| node.routers().map(|router| router.id()).collect())
                .unwrap_or_default();
            if ids.is_empty() {
                world.start(host);
                return;
            }
            let id = ids[random.index(ids.len())];
            match random.range(0..9) {
                0 => world.command(host, Command::Announce(id)),
                1 => world.command(host, Command::Drain),
                2 | 3 => world.command(host, Command::Undrain),
                4 | 5 => world.command(host, Command::Failover(id)),
                6 => world.command(host, Command::Resume(id)),
                7 => world.stop(host, Stop::Leave),
                _ => {
                    world.stop(host, Stop::Restart);
                    world.run_for(random.span(Duration::ZERO..longest));
                    world.start(host);
                }
            }
        }
        4 if mishaps.strangers => stranger(world, random, longest),
        5 if mishaps.kernels => {
            let shared: Vec<IpAddr> = world.shared().into_iter().collect();
            let ip = shared[random.index(shared.len())];
            let owner = world.hosts[host]
                .config
                .routers
                .iter()
                .any(|router| router.priority == Priority::OWNER);
            match random.range(0..6) {
                0..=2 => world.remove_address(host, ip),
                3 if !owner => world.add_foreign(host, ip),
                4 if !owner => world.remove_foreign(host, ip),
                _ => {
                    let there = !world.hosts[host].has_own_addresses;
                    world.set_own_addresses(host, there);
                }
            }
        }
        6 if mishaps.reloads => {
            let config = redraw(world.hosts[host].config.clone(), random);
            world.reload(host, config);
        }
        _ => {}
    }
}

/// Well-formed and malformed messages from somebody who is no peer, or says he is one.
fn stranger(world: &mut World, random: &mut Random, longest: Duration) {
    let host = random.index(world.hosts.len());
    let config = &world.hosts[host].config;
    let Some(router) = config.routers.first() else { return };
    let interval = router.advert_interval.duration();
    let advert = Advert {
        version: router.version,
        vrid: router.vrid,
        priority: Priority::new(random.pick(&[0, 1, 1, 100, 254, 255])),
        interval: router.advert_interval,
        addresses: router.addresses.clone(),
        checksum: router.checksum,
        authentication: None,
    };
    let own = own_addresses(host);
    let (source, destination) = match (&router.unicast_peers, router.family) {
        (Some(_), Family::V4) => (own_addresses(random.index(5))[0], own[0]),
        (Some(_), Family::V6) => (own_addresses(random.index(5))[2], own[2]),
        (None, Family::V4) => (own_addresses(random.index(5))[0], Family::V4.multicast_group()),
        (None, Family::V6) => (own_addresses(random.index(5))[1], Family::V6.multicast_group()),
    };
    let mut message = Vec::new();
    advert.encode(source, destination, &mut message);
    match random.range(0..5) {
        0 => message.truncate(random.index(message.len())),
        1 => {
            let at = random.index(message.len());
            message[at] = random.next() as u8;
        }
        _ => {}
    }
    let every = random.pick(&[Duration::from_millis(1), interval / 3, interval, 2 * longest]);
    let most = (3 * longest).as_nanos() / every.as_nanos().max(1);
    let times = random.range(0..(most as u64).min(300) + 1) as u32;
    let ttl = if random.percent(90) { 255 } else { 64 };
    world.stranger(Frame { source, destination, ttl, message }, every, times);
}

fn redraw(mut config: Config, random: &mut Random) -> Config {
    let Some(index) = (!config.routers.is_empty()).then(|| random.index(config.routers.len()))
    else {
        return config;
    };
    let number = index;
    let router = &mut config.routers[index];
    let owner = router.priority == Priority::OWNER;
    match random.range(0..8) {
        0 if !owner => router.priority = Priority::new(random.pick(&[1, 60, 100, 120, 254])),
        1 => router.preempt = !router.preempt,
        2 if router.version == Version::V3 => {
            router.advert_interval = draw_interval(random, Version::V3);
            if router.address_lifetime.is_some() {
                router.address_lifetime =
                    Some(RouterConfig::automatic_lifetime(router.advert_interval));
            }
        }
        3 if !owner => {
            let vrid = usize::from(router.vrid.get()) - 1;
            let more: Vec<Address> = (0..random.range(1..5) as usize)
                .map(|n| shared_address(router.family, vrid, n))
                .collect();
            router.addresses = more.into();
        }
        4 => {
            router.handover = match router.handover {
                Handover::Overlap => Handover::Exclusive,
                Handover::Exclusive => Handover::Overlap,
            }
        }
        5 if !owner => {
            router.address_lifetime = match router.address_lifetime {
                Some(_) => None,
                None => Some(RouterConfig::automatic_lifetime(router.advert_interval)),
            }
        }
        6 if config.routers.len() > 1 && !owner => {
            config.routers.remove(number);
        }
        7 => config.routers.reverse(),
        _ => {}
    }
    config
}

/// A daemon that runs and is not master has none of the addresses with its mark.
fn forgotten_addresses(world: &mut World) {
    for host in 0..world.hosts.len() {
        let machine = &world.hosts[host];
        let Some(process) = machine.process.as_ref().filter(|process| !process.frozen) else {
            continue;
        };
        let forgotten = process
            .node
            .routers()
            .filter(|router| {
                !router.has_addresses()
                    && process.is_idle(router.id())
                    && router.role() != Role::Waiting
            })
            .flat_map(|router| router.addresses().iter())
            .find(|address| machine.holds_ours(address.ip));
        if let Some(address) = forgotten {
            let message = format!("{address} is still there, and nobody here is master of it");
            world.fail(Some(host), message);
        }
    }
}

// ---- calm --------------------------------------------------------------------------------------

/// All is repaired; after a bounded time one host is master, the right one, and it stays so.
fn calm(world: &mut World, random: &mut Random, longest: Duration) {
    world.say(None, || "---- calm".to_owned());
    for row in &mut world.paths {
        for path in row {
            *path = Path::GOOD;
        }
    }
    let shared: Vec<IpAddr> = world.shared().into_iter().collect();
    for host in 0..world.hosts.len() {
        let worker = &mut world.hosts[host].pace.worker;
        *worker = (worker.0.min(Pace::GOOD.worker.0), worker.1.min(Duration::from_millis(2)));
        world.set_link(host, true);
        world.set_own_addresses(host, true);
        let machine = &world.hosts[host];
        let owned: Vec<IpAddr> = machine
            .config
            .routers
            .iter()
            .filter(|router| router.priority == Priority::OWNER)
            .flat_map(|router| router.all_addresses().map(|address| address.ip))
            .collect();
        for ip in shared.iter().filter(|ip| !owned.contains(ip)) {
            world.remove_foreign(host, *ip);
        }
        if !world.hosts[host].powered {
            world.boot(host);
        }
        world.thaw(host);
        if random.percent(80) || world.hosts.iter().all(|host| host.process.is_none()) {
            world.start(host);
        }
    }
    // Strangers, hooks and delays come to their end, and then faults that have one.
    world.run_for(8 * longest + Duration::from_secs(8));
    let faulty = world
        .hosts
        .iter()
        .filter_map(|host| host.node())
        .any(|node| node.routers().any(|router| router.fault_reasons().next().is_some()));
    if faulty {
        world.run_for(3 * longest + Duration::from_secs(31));
    }
    let patience = world
        .hosts
        .iter()
        .filter_map(|host| host.node())
        .flat_map(|node| node.routers())
        .map(|router| router.master_down())
        .max()
        .unwrap_or_default();
    world.run_for(2 * patience + 4 * longest + Duration::from_secs(1));
    forgotten_addresses(world);
    for ip in &shared {
        world.forget_service(*ip);
    }
    judge(world);
    let before = roles(world);
    world.run_for(3 * patience + Duration::from_secs(1));
    judge(world);
    if before != roles(world) {
        world.fail(None, "roles change although all is calm".to_owned());
    }
}

fn roles(world: &World) -> Vec<Vec<Option<(Role, Priority)>>> {
    let roles = |host: &super::world::Machine| {
        let node = host.node()?;
        Some(node.routers().map(|r| Some((r.role(), r.config().priority))).collect::<Vec<_>>())
    };
    world.hosts.iter().map(|host| roles(host).unwrap_or_default()).collect()
}

/// Exactly one master, the right one, and the address at the master only.
fn judge(world: &mut World) {
    let mut vrids: Vec<(Family, Vrid)> = world
        .hosts
        .iter()
        .flat_map(|host| host.config.routers.iter().map(|router| (router.family, router.vrid)))
        .collect();
    vrids.sort_unstable();
    vrids.dedup();
    for (family, vrid) in vrids {
        if let Err(message) = judge_router(world, family, vrid) {
            world.fail(None, format!("virtual router {vrid}: {message}"));
        }
    }
}

fn judge_router(world: &World, family: Family, vrid: Vrid) -> Result<(), String> {
    let mut takers = Vec::new();
    let mut masters = Vec::new();
    for (host, machine) in world.hosts.iter().enumerate() {
        let Some(node) = machine.node() else { continue };
        let Some(router) = node
            .routers()
            .find(|router| (router.config().family, router.config().vrid) == (family, vrid))
        else {
            continue;
        };
        match router.state() {
            State::Master { .. } => masters.push((host, router)),
            State::Backup { takeover_at: Some(_) } => takers.push((host, router)),
            State::Backup { takeover_at: None } => {}
            State::Fault | State::Claiming { .. } | State::Leaving { .. } => {
                return Err(format!(
                    "{} is {} after a long calm: {:?}",
                    machine.name,
                    router.role(),
                    router.fault_reasons().collect::<Vec<_>>()
                ));
            }
        }
    }
    // Version 2 hosts with different intervals do not understand each other.
    let name = |host: usize| &world.hosts[host].name;
    let (host, master) = match masters.as_slice() {
        [] if takers.is_empty() => return Ok(()),
        [] => return Err("nobody is master".to_owned()),
        [one] => *one,
        [_, _, ..] => {
            let names: Vec<_> = masters.iter().map(|(host, _)| name(*host)).collect();
            return Err(format!("{names:?} are master"));
        }
    };
    for (other, taker) in &takers {
        let config = taker.config();
        let wants = config.preempt || config.priority == Priority::OWNER;
        if wants && !taker.held_back() && config.priority > master.effective_priority() {
            return Err(format!(
                "{} is master with {}, {} would be better with {}",
                name(host),
                master.effective_priority(),
                name(*other),
                config.priority
            ));
        }
    }
    for address in master.addresses().iter() {
        let owner = |host: &super::world::Machine| {
            host.config
                .routers
                .iter()
                .any(|r| r.priority == Priority::OWNER && r.all_addresses().any(|a| a == *address))
        };
        for (other, machine) in world.hosts.iter().enumerate() {
            let holds = machine.holds(address.ip);
            let dead_without_lease = machine.process.is_none() && holds;
            if other == host && !holds {
                return Err(format!("{} is master of {address} and has it not", machine.name));
            }
            if other != host && holds && !owner(machine) && !dead_without_lease {
                return Err(format!("{} has {address}, {} is master", machine.name, name(host)));
            }
        }
    }
    Ok(())
}
