//! Random hosts and networks, everything that can go wrong, and then a quiet network: after which
//! exactly one host is master, and it is the right one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::{
    Address, AddressState, Advert, CheckConfig, ChecksumForm, Command, Config, Drain, Effect,
    Family, GroupConfig, Handover, Hook, Initial, Interval, LinkAddress, Mac, Mark, Node, Priority,
    Probe, Role, RouterConfig, State, Stop, Version, VirtualRouter, Vrid,
};

use super::random::Random;
use super::world::{
    Filter, Frame, OTHER_DAEMON, Pace, Path, SECOND, World, addresses_on, own_address,
    own_addresses, shared_address,
};

/// What may happen in a run: drawn once, so that most runs are about few things at a time.
#[derive(Clone, Debug)]
struct Faults {
    network: bool,
    daemons: bool,
    machines: bool,
    operators: bool,
    strangers: bool,
    kernels: bool,
    reloads: bool,
    checks: bool,
}

/// One run; `Err` if a rule was broken.
pub fn run(seed: u64, trace: bool) -> Result<Box<World>, Box<World>> {
    let mut random = Random::new(seed ^ 0x5eed);
    let hosts = random.pick(&[2, 2, 2, 3, 3, 4]);
    let configs = draw_configs(&mut random, hosts);
    let longest = longest_interval(&configs);
    let hosts_with_pace: Vec<(Config, Pace)> =
        configs.into_iter().map(|config| (config, draw_pace(&mut random, longest))).collect();
    let mut world = Box::new(World::new(seed, hosts_with_pace));
    if trace {
        world.trace = Some(String::new());
        for host in 0..hosts {
            let line = format!("{:?} {:?}", world.hosts[host].pace, world.hosts[host].config);
            world.say(Some(host), || line);
        }
    }
    let mut may = || random.percent(45);
    let faults = Faults {
        network: may(),
        daemons: may(),
        machines: may(),
        operators: may(),
        strangers: may(),
        kernels: may(),
        reloads: may(),
        checks: may(),
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
        inject_fault(&mut world, &mut random, &faults, longest);
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
            let centis = match random.range(0..10) {
                0..6 => random.pick(&[100, 100, 100, 1, 2, 10, 25, 50, 70, 333]),
                6..9 => random.range(66..140) as u16,
                _ => random.range(1..600) as u16,
            };
            Interval::from_centis(centis).unwrap()
        }
    }
}

pub fn draw_configs(random: &mut Random, hosts: usize) -> Vec<Config> {
    let mut configs = vec![Config::default(); hosts];
    let routers = random.pick(&[1, 1, 1, 2, 3]);
    let interval_of_all = draw_interval(random, Version::V2);
    let second_link = random.percent(50);
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
        // The list of peers is the same on all hosts, or leaves out the host itself.
        let same_list = random.percent(50);
        let number = random.pick(&[1, 1, 2, 3]);
        let owner = random.percent(5).then(|| random.index(hosts));
        let equal = random.percent(20);
        let link = usize::from(router == 1 && second_link);
        for (host, config) in configs.iter_mut().enumerate() {
            let own = |host: usize| {
                let [v4, _, v6] = addresses_on(link, host);
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
                interface: if link == 0 { "lan" } else { SECOND }.into(),
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
                // No shorter than what is drawn, now or for a reload.
                max_peer_interval: Interval::from_centis(random.pick(&[600, 4095])).unwrap(),
                preempt: random.percent(70),
                preempt_delay: random.pick(&[0, 0, 0, 1000, 4000]).millis(),
                start_delay: random.pick(&[0, 0, 0, 0, 3000]).millis(),
                link_delay: random.pick(&[0, 0, 50, 2000]).millis(),
                checksum: random.pick(&[ChecksumForm::PseudoHeader, ChecksumForm::Plain]),
                unicast_peers: unicast.then(|| {
                    (0..hosts).filter(|peer| *peer != host || same_list).map(own).collect()
                }),
                unicast_min_ttl: 1,
                source_address: None,
                accept_from: None,
                authentication: None,
                address_lifetime: random
                    .percent(80)
                    .then(|| RouterConfig::automatic_lifetime(interval)),
                handover: if random.percent(70) { Handover::Overlap } else { Handover::Exclusive },
                before_release: random.percent(15).then(|| random.pick(&[20, 500, 3000]).millis()),
                before_claim: random.percent(15).then(|| random.pick(&[5, 300, 2000]).millis()),
                fault_for: BTreeMap::from([(
                    Hook::BeforeClaim,
                    random.pick(&[100, 3000]).millis(),
                )]),
                checks: [].into(),
            });
        }
    }
    for config in &mut configs {
        draw_checks(config, random);
    }
    if routers > 1 && random.percent(60) {
        let all = random.percent(80);
        for config in &mut configs {
            if all || random.percent(60) {
                form_group(config);
            }
        }
    }
    configs
}

/// Checks, and the virtual routers that name them.
fn draw_checks(config: &mut Config, random: &mut Random) {
    let count = if random.percent(50) { 0 } else { random.range(1..4) };
    config.checks = (0..count).map(|n| draw_check(n, random)).collect();
    let names: Vec<Arc<str>> = config.checks.iter().map(|check| check.name.clone()).collect();
    for router in &mut config.routers {
        router.checks = names.iter().filter(|_| random.percent(70)).cloned().collect();
    }
    line_up(config);
}

fn draw_check(number: u64, random: &mut Random) -> CheckConfig {
    CheckConfig {
        name: format!("c{number}").into(),
        fall: random.pick(&[1, 2, 3]),
        rise: random.pick(&[1, 2]),
        effect: random.pick(&[
            Effect::Fault,
            Effect::Last,
            Effect::Weight(-60),
            Effect::Weight(-200),
            Effect::Weight(40),
            Effect::Number,
        ]),
        initial: random.pick(&[
            Initial::Passing,
            Initial::Failing,
            Initial::Wait(Duration::from_secs(2)),
            Initial::Wait(Duration::from_secs(6)),
        ]),
    }
}

/// All routers of a host in one group, unless there is one that belongs to the host.
fn form_group(config: &mut Config) {
    if config.routers.iter().all(|router| router.priority != Priority::OWNER) {
        let members = config.routers.iter().map(|router| router.name.clone()).collect();
        config.groups = vec![GroupConfig { name: "group".into(), members }];
        line_up(config);
    }
}

/// Members of a group must agree in several keys.
fn line_up(config: &mut Config) {
    let names: Vec<Arc<str>> = config.routers.iter().map(|router| router.name.clone()).collect();
    for group in &mut config.groups {
        group.members = group.members.iter().filter(|name| names.contains(name)).cloned().collect();
    }
    config.groups.retain(|group| group.members.len() > 1);
    for group in &config.groups {
        let is_member = |router: &&mut RouterConfig| group.members.contains(&router.name);
        let mut members = config.routers.iter_mut().filter(is_member);
        let Some(first) = members.next().cloned() else { continue };
        for member in members {
            *member = RouterConfig {
                name: member.name.clone(),
                interface: member.interface.clone(),
                vrid: member.vrid,
                family: member.family,
                version: member.version,
                addresses: member.addresses.clone(),
                unadvertised_addresses: member.unadvertised_addresses.clone(),
                advert_interval: member.advert_interval,
                checksum: member.checksum,
                unicast_peers: member.unicast_peers.clone(),
                source_address: member.source_address,
                address_lifetime: member.address_lifetime,
                ..first.clone()
            };
        }
    }
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
        hook: random.percent(50).then(|| random.range(1..150) as u32),
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

fn inject_fault(world: &mut World, random: &mut Random, faults: &Faults, longest: Duration) {
    let host = random.index(world.hosts.len());
    let other = random.index(world.hosts.len());
    match random.range(0..8) {
        0 if faults.network => match random.range(0..9) {
            0 => {
                world.paths[host][other].cut = true;
                world.paths[other][host].cut = true;
                world.say(Some(host), || format!("cut off from {other}"));
            }
            1 => {
                world.paths[host][other].cut = true;
                world.say(Some(host), || format!("{other} no longer hears it"));
            }
            2 => {
                let link = random.index(2);
                world.cuts.insert((host, other, link));
                if random.percent(60) {
                    world.cuts.insert((other, host, link));
                }
                world.say(Some(host), || format!("cut off from {other} on link {link}"));
            }
            3 => {
                let up = !world.hosts[host].second_up;
                world.set_second_link(host, up);
            }
            4 | 5 => {
                world.cuts.clear();
                for row in &mut world.paths {
                    for path in row {
                        path.cut = false;
                    }
                }
                world.say(None, || "the cuts are healed".to_owned());
            }
            6 | 7 => {
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
        1 if faults.daemons => match random.range(0..6) {
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
        2 if faults.machines => {
            if world.hosts[host].powered {
                world.crash(host);
            } else {
                world.boot(host);
            }
        }
        3 if faults.operators => {
            let ids: Vec<_> = world.hosts[host]
                .node()
                .map(|node| node.routers().map(|router| router.id()).collect())
                .unwrap_or_default();
            if ids.is_empty() {
                world.start(host);
                return;
            }
            let id = ids[random.index(ids.len())];
            match random.range(0..10) {
                0 => world.command(host, Command::Announce(id)),
                1 => {
                    let drain = random.pick(&[Drain::LastResort, Drain::LastResort, Drain::Force]);
                    world.command(host, Command::Drain(drain));
                }
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
        4 if faults.strangers => stranger(world, random, longest),
        5 if faults.kernels => {
            let shared: Vec<IpAddr> = world.shared().into_iter().collect();
            let ip = shared[random.index(shared.len())];
            let owner = world.hosts[host]
                .config
                .routers
                .iter()
                .any(|router| router.priority == Priority::OWNER);
            let running = world.hosts[host].process.is_some();
            match random.range(0..16) {
                10 => {
                    let filter =
                        [Filter::Pass, Filter::DropTo(other), Filter::DropAll, Filter::DropAll];
                    world.set_filter(host, random.pick(&filter));
                }
                13 => world.set_no_sockets(host, !world.hosts[host].no_sockets),
                0..=2 => world.remove_address(host, ip),
                11 if running => {
                    let link = random.index(2);
                    match random.range(0..7) {
                        5 => world.set_port(host, link, true),
                        6 => world.set_port(host, link, false),
                        0 => world.rename(host, link),
                        1 => world.name_back(host, link),
                        2 if !owner => world.delete(host, link),
                        3 if !owner => {
                            world.delete(host, link);
                            world.create(host, link);
                        }
                        4 if !owner => world.create(host, link),
                        _ => {}
                    }
                }
                6 => {
                    let mac = Mac([2, 0, 0, 0, random.range(2..9) as u8, host as u8]);
                    world.set_mac(host, random.index(2), mac);
                }
                3 if !owner => {
                    let mark = if random.percent(50) { Mark::None } else { OTHER_DAEMON };
                    world.add_foreign(host, ip, mark);
                }
                4 if !owner => world.remove_foreign(host, ip),
                5 => world.refuse(host, ip, true),
                7 => world.refuse(host, ip, false),
                8 => {
                    world.set_own_addresses(host, false);
                    world.run_for(random.span(Duration::ZERO..4 * longest));
                    world.set_own_addresses(host, true);
                }
                9 => change_own_addresses(world, random, host),
                12 => {
                    world.foreign.insert((random.index(2), ip));
                }
                _ => {
                    let there = !world.hosts[host].has_own(0, own_addresses(host)[0]);
                    world.set_own_addresses(host, there);
                }
            }
        }
        6 if faults.reloads && random.percent(25) => redraw_everywhere(world, random, longest),
        6 if faults.reloads => {
            let config = redraw(world.hosts[host].config.clone(), random);
            world.reload(host, config);
        }
        7 if faults.checks => {
            let checks = world.hosts[host].config.checks.clone();
            if checks.is_empty() || random.percent(20) {
                world.hosts[host].vetoes = !world.hosts[host].vetoes;
                return;
            }
            let check = &checks[random.index(checks.len())];
            let number = Probe::Number(random.pick(&[-100, -1, 0, 30, 200]));
            let probe = random.pick(&[Probe::Passed, Probe::Failed, Probe::Failed, number]);
            for _ in 0..random.range(1..4) {
                world.probe(host, &check.name, probe);
                world.run_for(random.span(Duration::ZERO..longest / 3));
            }
        }
        _ => {}
    }
}

/// The host gets another own address or loses one, or one of its own changes its state.
fn change_own_addresses(world: &mut World, random: &mut Random, host: usize) {
    use AddressState::{Deprecated, Duplicate, Preferred, Temporary, Tentative};
    let link = random.index(2);
    let own = addresses_on(link, host)[random.index(3)];
    if random.percent(40) {
        let state = random.pick(&[Preferred, Deprecated, Tentative, Tentative, Duplicate]);
        let state = if own.is_ipv4() { Preferred } else { state };
        world.set_own(host, link, LinkAddress { state, ..own_address(own) });
        return;
    }
    // A peer that lists its peers knows none of these. One in the subnet of the peers is temporary.
    let n = host as u16;
    let (other, state) = match (own, random.percent(50)) {
        (IpAddr::V4(_), _) => (IpAddr::from([9, 0, link as u8, n as u8 + 1]), Preferred),
        (IpAddr::V6(own), true) => {
            let mut segments = own.segments();
            segments[6] = 0x8000;
            (IpAddr::from(segments), Temporary)
        }
        (IpAddr::V6(_), false) => {
            let state = random.pick(&[Preferred, Deprecated, Tentative]);
            (IpAddr::from([0xfc00, 0, 0, link as u16, 0, 0, 0, n + 1]), state)
        }
    };
    if random.percent(30) {
        world.remove_own(host, other);
    } else {
        world.set_own(host, link, LinkAddress { state, ..own_address(other) });
    }
}

/// Well-formed and malformed messages from a sender that is not a peer, or pretends to be one.
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
    let link = usize::from(&*router.interface == SECOND);
    let own = addresses_on(link, host);
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
    world.stranger(Frame { link, source, destination, ttl, message }, every, times);
}

pub fn redraw(mut config: Config, random: &mut Random) -> Config {
    let Some(index) = (!config.routers.is_empty()).then(|| random.index(config.routers.len()))
    else {
        return config;
    };
    let number = index;
    match random.range(0..12) {
        0 => draw_checks(&mut config, random),
        1 if config.groups.is_empty() => form_group(&mut config),
        1 => config.groups.clear(),
        2 => {
            let many = config.checks.len();
            if many > 0 {
                let number = random.index(many);
                let name = config.checks[number].name.clone();
                config.checks[number] = CheckConfig { name, ..draw_check(0, random) };
            }
        }
        _ => {}
    }
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
            let number: usize = router.name[1..].parse().unwrap();
            let wandering = wandering_address(router.family);
            let stays = router.addresses.contains(&wandering).then_some(wandering);
            router.addresses = (0..random.range(1..5) as usize)
                .map(|n| shared_address(router.family, number, n))
                .chain(stays)
                .collect();
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
    line_up(&mut config);
    config
}

/// What an operator changes on all hosts, one after the other.
#[derive(Clone, Copy, Debug)]
enum Change {
    Interface(&'static str),
    Vrid(Vrid),
    Version(Version),
    /// Unicast to all other hosts, or multicast.
    Unicast(bool),
    Source(bool),
    LinkDelay(Duration),
    Added(Vrid),
    /// The wandering address moves to this virtual router.
    AddressMoved,
}

/// An address that moves between virtual routers.
fn wandering_address(family: Family) -> Address {
    shared_address(family, 99, 0)
}

fn redraw_everywhere(world: &mut World, random: &mut Random, longest: Duration) {
    let configs = world.hosts.iter().map(|host| &host.config);
    let routers = || configs.clone().flat_map(|config| &config.routers);
    let of_first = &world.hosts[0].config.routers;
    if of_first.is_empty() {
        return;
    }
    let router = &of_first[random.index(of_first.len())];
    if routers().any(|router| router.priority == Priority::OWNER) {
        return;
    }
    let (family, vrid) = (router.family, router.vrid);
    let unused = routers().map(|router| router.vrid.get()).max().unwrap_or_default() + 1;
    let Some(unused) = Vrid::new(unused) else { return };
    let many = routers().map(|router| router.vrid).collect::<BTreeSet<_>>().len();
    let change = match random.range(0..8) {
        0 => Change::Interface(if &*router.interface == SECOND { "lan" } else { SECOND }),
        1 => Change::Vrid(unused),
        2 if family == Family::V4 && many == 1 => {
            Change::Version(random.pick(&[Version::V2, Version::V3]))
        }
        3 => Change::Unicast(random.percent(50)),
        4 => Change::Source(random.percent(50)),
        5 => Change::LinkDelay(random.pick(&[0, 50, 2000]).millis()),
        6 if many < 4 => Change::Added(unused),
        _ => Change::AddressMoved,
    };
    world.say(None, || format!("all files change: {change:?} of {vrid}"));
    for host in 0..world.hosts.len() {
        let mut config = world.hosts[host].config.clone();
        change_router(&mut config, change, (family, vrid), host, world.hosts.len());
        world.thaw(host);
        world.reload(host, config);
        if random.percent(50) {
            world.run_for(random.span(Duration::ZERO..longest));
        }
    }
}

fn change_router(
    config: &mut Config,
    change: Change,
    (family, vrid): (Family, Vrid),
    host: usize,
    hosts: usize,
) {
    let routers = &mut config.routers;
    let is_it = |router: &RouterConfig| (router.family, router.vrid) == (family, vrid);
    // It may have been removed from this file.
    let Some(index) = routers.iter().position(is_it) else { return };
    let router = &mut routers[index];
    let own = |interface: &str, host: usize| {
        let [v4, _, v6] = addresses_on(usize::from(interface == SECOND), host);
        if family == Family::V4 { v4 } else { v6 }
    };
    let peers = |interface: &str| {
        let others = (0..hosts).filter(|other| *other != host);
        others.map(|other| own(interface, other)).collect::<Arc<[IpAddr]>>()
    };
    match change {
        Change::Interface(other) => {
            router.interface = other.into();
            router.source_address = None;
            router.unicast_peers = router.unicast_peers.as_ref().map(|_| peers(other));
        }
        Change::Vrid(vrid) => router.vrid = vrid,
        Change::Version(version) => {
            router.version = version;
            router.advert_interval = Interval::from_secs(1).unwrap();
            router.address_lifetime = router
                .address_lifetime
                .map(|_| RouterConfig::automatic_lifetime(Interval::DEFAULT));
        }
        Change::Unicast(unicast) => {
            router.unicast_peers = unicast.then(|| peers(&router.interface));
        }
        // The link-local address of IPv6 is that of multicast.
        Change::Source(fixed) if family == Family::V4 => {
            router.source_address = fixed.then(|| own(&router.interface, host));
        }
        Change::Source(_) => {}
        Change::LinkDelay(delay) => router.link_delay = delay,
        Change::Added(vrid) => {
            let mut added = router.clone();
            added.name = format!("r{}", vrid.get()).into();
            added.vrid = vrid;
            added.addresses = Arc::from([shared_address(family, usize::from(vrid.get()), 0)]);
            added.unadvertised_addresses = Arc::from([]);
            routers.push(added);
        }
        Change::AddressMoved => {
            let moved = wandering_address(family);
            for router in routers.iter_mut() {
                let stay = router.addresses.iter().filter(|address| **address != moved);
                router.addresses = stay.copied().collect();
            }
            let addresses = &mut routers[index].addresses;
            *addresses = addresses.iter().copied().chain([moved]).collect();
        }
    }
    line_up(config);
}

/// A daemon that runs and is not master has none of the addresses with its mark.
fn forgotten_addresses(world: &mut World) {
    for host in 0..world.hosts.len() {
        let machine = &world.hosts[host];
        let Some(process) = machine.process.as_ref().filter(|process| !process.frozen) else {
            continue;
        };
        let waits = process.node.routers().any(|router| router.role() == Role::Waiting);
        if waits || !process.is_idle() {
            continue;
        }
        let held = |(link, ip): (usize, IpAddr)| {
            let mut routers = process.node.routers();
            routers.any(|router| router.has_addresses() && process.holds(router, link, ip))
        };
        let forgotten = machine.ours().find(|at| !held(*at));
        if let Some((_, ip)) = forgotten {
            let message = format!("{ip} is still there, and nobody here is master of it");
            world.fail(Some(host), message);
        }
    }
}

// ---- calm --------------------------------------------------------------------------------------

/// Everything is repaired; after a bounded time one host is master, the right one, and stays so.
fn calm(world: &mut World, random: &mut Random, longest: Duration) {
    world.say(None, || "---- calm".to_owned());
    for row in &mut world.paths {
        for path in row {
            *path = Path::GOOD;
        }
    }
    world.cuts.clear();
    let shared: Vec<IpAddr> = world.shared().into_iter().collect();
    let routers = world.hosts.iter().flat_map(|host| &host.config.routers);
    let advertised: BTreeSet<IpAddr> =
        routers.flat_map(|router| router.addresses.iter()).map(|address| address.ip).collect();
    for host in 0..world.hosts.len() {
        let worker = &mut world.hosts[host].pace.worker;
        *worker = (worker.0.min(Pace::GOOD.worker.0), worker.1.min(Duration::from_millis(2)));
        world.set_link(host, true);
        world.set_second_link(host, true);
        world.hosts[host].vetoes = false;
        world.set_own_addresses(host, true);
        world.set_filter(host, Filter::Pass);
        world.set_no_sockets(host, false);
        for link in [0, 1] {
            world.name_back(host, link);
            world.set_port(host, link, false);
        }
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
        // Without an unadvertised address the others are served.
        let keeps = random.percent(50);
        for ip in world.hosts[host].refuses.clone() {
            if !keeps || advertised.contains(&ip) {
                world.refuse(host, ip, false);
            }
        }
        if !world.hosts[host].powered {
            world.boot(host);
        }
        world.thaw(host);
        if random.percent(80) || world.hosts.iter().all(|host| host.process.is_none()) {
            world.start(host);
        }
        for check in world.hosts[host].config.checks.clone() {
            for _ in 0..check.rise {
                world.probe(host, &check.name, Probe::Passed);
            }
        }
    }
    // Hosts that are drained, but not by force, serve if nobody else does.
    for host in 0..world.hosts.len() {
        if world.hosts[host].node().is_some_and(|node| node.drained() == Some(Drain::Force)) {
            world.command(host, Command::Undrain);
        }
    }
    // Forged messages, hooks, delays and the waits after many takeovers end, and then faults with a
    // time limit.
    world.run_for(8 * longest + Duration::from_secs(16));
    let faulty = |world: &World| {
        let mut nodes = world.hosts.iter().filter_map(|host| host.node());
        nodes.any(|node| node.routers().any(|router| router.fault_reasons().next().is_some()))
    };
    let mut left = 20;
    while faulty(world) && left > 0 {
        world.run_for(3 * longest + Duration::from_secs(31));
        left -= 1;
    }
    let interval = world
        .hosts
        .iter()
        .filter_map(|host| host.node())
        .flat_map(|node| node.routers())
        .map(|router| router.master_down() + router.config().before_claim.unwrap_or_default())
        .max()
        .unwrap_or_default();
    world.run_for(2 * interval + 4 * longest + Duration::from_secs(1));
    forgotten_addresses(world);
    for ip in &shared {
        world.forget_service(*ip);
    }
    check_world(world);
    let before = roles(world);
    world.run_for(3 * interval + Duration::from_secs(1));
    check_world(world);
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
fn check_world(world: &mut World) {
    let mut vrids: Vec<(Family, Vrid)> = world
        .hosts
        .iter()
        .filter(|host| host.process.is_some())
        .flat_map(|host| host.config.routers.iter().map(|router| (router.family, router.vrid)))
        .collect();
    vrids.sort_unstable();
    vrids.dedup();
    for (family, vrid) in vrids {
        if let Err(message) = check_router(world, family, vrid) {
            world.fail(None, format!("virtual router {vrid}: {message}"));
        }
    }
    for host in 0..world.hosts.len() {
        let Some(node) = world.hosts[host].node() else { continue };
        let mixed = node.groups().find(|group| {
            let members = group.members().iter().filter_map(|id| node.router(*id));
            members.map(VirtualRouter::role).collect::<BTreeSet<_>>().len() > 1
        });
        if let Some(group) = mixed {
            let message = format!("the members of {} have different roles", group.name());
            world.fail(Some(host), message);
        }
    }
}

/// Whether its group keeps it from taking over: another member hears a master that it would not
/// preempt.
fn is_kept(world: &World, host: usize, node: &Node, taker: &VirtualRouter) -> bool {
    let Some(group) = node.group_of(taker.id()) else { return false };
    let others = group.members().iter().filter_map(|id| node.router(*id));
    let mut others = others.filter(|other| other.id() != taker.id());
    others.any(|other| {
        let same = |router: &&VirtualRouter| {
            router.config().identity() == other.config().identity() && router.role() == Role::Master
        };
        let elsewhere = world.hosts.iter().enumerate().filter(|(n, _)| *n != host);
        let masters = elsewhere.filter_map(|(_, machine)| machine.node()?.routers().find(same));
        let yields = !other.config().preempt || other.held_back();
        masters
            .into_iter()
            .any(|master| yields || master.effective_priority() >= other.effective_priority())
    })
}

fn check_router(world: &World, family: Family, vrid: Vrid) -> Result<(), String> {
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
            State::Backup { takeover_at: Some(_) } if is_kept(world, host, node, router) => {}
            State::Backup { takeover_at: Some(_) } => takers.push((host, router)),
            State::Backup { takeover_at: None }
            | State::Fault
            | State::Claiming { .. }
            | State::Leaving { .. } => {
                return Err(format!(
                    "{} is {} after a long calm: {:?}",
                    machine.name,
                    router.role(),
                    router.fault_reasons().collect::<Vec<_>>()
                ));
            }
        }
    }
    // Version 2 hosts with different intervals discard each other's adverts.
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
        let priority = taker.effective_priority();
        let offers = matches!(master.state(), State::Master { offer_at: Some(_), .. });
        if offers && priority > Priority::LOWEST {
            let (master, fit) = (name(host), name(*other));
            return Err(format!("{master} is the last resort and master, {fit} is fit"));
        }
        if wants && !taker.held_back() && priority > master.effective_priority() {
            return Err(format!(
                "{} is master with {}, {} would be better with {}",
                name(host),
                master.effective_priority(),
                name(*other),
                priority
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
            if other == host && !holds && !machine.refuses.contains(&address.ip) {
                return Err(format!("{} is master of {address} and has it not", machine.name));
            }
            if other != host && holds && !owner(machine) && !dead_without_lease {
                return Err(format!("{} has {address}, {} is master", machine.name, name(host)));
            }
        }
    }
    Ok(())
}
