//! Regressions: each test is for a bug that random runs or a review have found.

use std::time::Duration;

use vipd::vrrp::{
    Address, AddressState, Command, Config, Drain, Event, Handover, Interval, LinkAddress, Mac,
    Node, Role, RouterConfig, State, Stop,
};

use super::player::{address, router, world};
use super::scenarios::{Setup, host};
use super::world::{World, own_address, own_addresses};

const PAIR: &[Setup] = &[host("a", 150), host("b", 100)];

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Host a has been master of a pair for a few seconds.
fn stable_world(setups: &[Setup]) -> World {
    let mut world = world(setups, 1000, 1);
    for host in 0..setups.len() {
        world.start(host);
    }
    world.run_for(ms(6300));
    assert_eq!(world.masters(0), [0]);
    world.forget_service(address());
    world
}

fn change(world: &mut World, host: usize, change: impl Fn(&mut RouterConfig)) {
    let mut config: Config = world.hosts[host].config.clone();
    change(&mut config.routers[0]);
    world.reload(host, config);
}

fn holds(world: &World) {
    assert!(world.wrong.is_none(), "{}", world.trace.as_deref().unwrap_or_default());
}

fn story(world: &World) -> &str {
    world.trace.as_deref().unwrap_or_default()
}

/// With the automatic lifetime, the shortest that is accepted and one that is not too short, and with
/// a worker that is as slow as the time left for the renewal allows.
#[test]
fn a_lone_host_is_master_without_a_gap_at_every_interval() {
    for centis in 1..=4095 {
        let interval = Interval::from_centis(centis).unwrap();
        let shortest = RouterConfig::shortest_lifetime(interval);
        let automatic = RouterConfig::automatic_lifetime(interval);
        assert!(automatic >= shortest, "{interval}");
        let lifetimes = [automatic, shortest, shortest + 1, 3600].map(Some);
        for (lifetime, seed) in lifetimes.into_iter().chain([None]).zip(u64::from(centis)..) {
            let mut world = world(&[host("a", 150)], centis * 10, seed);
            world.hosts[0].config.routers[0].address_lifetime = lifetime;
            // An advert comes as late, and a renewal is answered as late, as the lifetime bears.
            let longest = RouterConfig::RENEWAL_TIME.min(interval.duration());
            world.hosts[0].pace.worker = (ms(0), longest / 5);
            world.hosts[0].pace.late = longest / 10;
            world.start(0);
            let end = world.now + 4 * interval.duration().as_nanos() as u64 + 100_000_000;
            world.run_until(end, |world| !world.masters(0).is_empty());
            world.run_for(longest);
            assert_eq!(world.masters(0), [0], "{interval} {lifetime:?}");
            world.forget_service(address());
            world.run_for((6 * interval.duration()).max(s(6)).min(s(60)));
            holds(&world);
            let seen = world.seen(address());
            assert_eq!(seen.nobody, 0, "{interval} {lifetime:?}: {}", story(&world));
        }
    }
}

/// The limit for a peer's interval goes with the own interval.
#[test]
fn a_much_shorter_interval_is_taken_up_host_by_host() {
    let mut world = stable_world(PAIR);
    for centis in [100, 5] {
        for host in [1, 0] {
            change(&mut world, host, |router| {
                router.advert_interval = Interval::from_centis(centis).unwrap();
                router.max_peer_interval =
                    RouterConfig::default_max_peer_interval(router.advert_interval);
            });
            world.run_for(s(5));
        }
    }
    holds(&world);
    let seen = world.seen(address());
    assert_eq!((seen.nobody, seen.two), (0, 0), "{}", story(&world));
}

/// Also by a host that is used last, as long as its skew time is not longer than the master waits.
#[test]
fn a_planned_stop_is_followed_by_a_host_of_priority_1_in_time() {
    let nobody = |interval: u16, handover, drained, of_b| {
        let mut world = world(&[host("a", 150), host("b", of_b)], interval, 1);
        for host in [0, 1] {
            world.hosts[host].config.routers[0].handover = handover;
            world.start(host);
        }
        world.run_for(ms(u64::from(interval)) * 8);
        assert_eq!(world.masters(0), [0], "{}", story(&world));
        if drained {
            world.command(1, Command::Drain(Drain::LastResort));
            world.run_for(ms(u64::from(interval)) * 3);
        }
        world.forget_service(address());
        world.stop(0, Stop::Leave);
        world.run_for(ms(u64::from(interval)) * 10);
        holds(&world);
        Duration::from_nanos(world.seen(address()).nobody)
    };
    assert_eq!(nobody(4000, Handover::Overlap, false, 1), ms(0));
    assert_eq!(nobody(5000, Handover::Overlap, true, 100), ms(0));
    assert!(nobody(1000, Handover::Exclusive, false, 1) < ms(1100));
}

#[test]
fn a_restart_while_before_release_runs_moves_nothing_yet() {
    let mut world = world(PAIR, 1000, 1);
    for host in [0, 1] {
        world.hosts[host].config.routers[0].before_release = Some(s(5));
        world.hosts[host].pace.hook = Some(90);
        world.start(host);
    }
    world.run_for(s(8));
    assert_eq!(world.masters(0), [0]);
    world.forget_service(address());
    let id = world.hosts[0].node().unwrap().find("web").unwrap().id();
    world.command(0, Command::Failover(id));
    world.run_for(ms(1300));
    for _ in 0..2 {
        assert_eq!(world.hosts[0].role(0), Some(Role::Leaving), "{}", story(&world));
        world.stop(0, Stop::Restart);
        world.run_for(ms(50));
        world.start(0);
        world.run_for(ms(500));
    }
    world.run_for(s(20));
    holds(&world);
    let seen = world.seen(address());
    assert_eq!((seen.nobody, seen.misdirected), (0, 0), "{}", story(&world));
    assert_eq!(world.masters(0), [1], "the failover went on: {}", story(&world));
}

/// Also right before an advert, when the lease is nearly over: the advert that the reload brings waits
/// for the worker, and so does its renewal.
#[test]
fn a_reload_at_any_instant_moves_nothing() {
    let another = || Address::host("10.0.0.200".parse().unwrap());
    type Change = fn(&mut RouterConfig, Address);
    let changes: [(Change, Change); 3] = [
        (|_, _| (), |router, another| router.addresses = [router.addresses[0], another].into()),
        (
            |router, another| router.addresses = [router.addresses[0], another].into(),
            |router, _| router.addresses = [router.addresses[0]].into(),
        ),
        (|_, _| (), |router, another| router.unadvertised_addresses = [another].into()),
    ];
    for (first, second) in changes {
        for phase in (0..1000).step_by(8).chain(985..1000) {
            let mut world = world(PAIR, 1000, phase);
            for host in 0..PAIR.len() {
                first(&mut world.hosts[host].config.routers[0], another());
                world.start(host);
            }
            world.run_for(ms(6300 + phase));
            world.forget_service(address());
            for host in [1, 0] {
                change(&mut world, host, |router| second(router, another()));
            }
            world.run_for(s(5));
            holds(&world);
            assert_eq!(world.masters(0), [0], "{phase}: {}", story(&world));
            let seen = world.seen(address());
            assert_eq!((seen.nobody, seen.two), (0, 0), "{phase}: {}", story(&world));
        }
    }
}

#[test]
fn a_shorter_interval_is_taken_up_without_a_change_of_roles() {
    let mut world = stable_world(PAIR);
    for host in [0, 1] {
        change(&mut world, host, |router| {
            router.advert_interval = Interval::from_centis(10).unwrap();
        });
    }
    world.run_for(s(2));
    holds(&world);
    assert_eq!(world.masters(0), [0], "{}", story(&world));
    let seen = world.seen(address());
    assert_eq!((seen.nobody, seen.misdirected, seen.two), (0, 0, 0), "{}", story(&world));
}

#[test]
fn a_shorter_interval_does_not_end_a_planned_leave_early() {
    let mut world = stable_world(&[host("a", 150)]);
    let id = world.hosts[0].node().unwrap().find("web").unwrap().id();
    change(&mut world, 0, |router| {
        router.advert_interval = Interval::from_secs(4).unwrap();
        router.address_lifetime = None;
    });
    world.run_for(s(5));
    world.command(0, Command::Failover(id));
    world.run_for(s(2));
    change(&mut world, 0, |router| {
        router.advert_interval = Interval::from_centis(20).unwrap();
    });
    world.run_for(s(12));
    holds(&world);
    assert_eq!(world.seen(address()).nobody, 0, "{}", story(&world));
    assert_eq!(world.masters(0), [0], "{}", story(&world));
}

#[test]
fn a_reload_does_not_shorten_the_master_down_interval_of_a_newcomer() {
    let mut world = stable_world(PAIR);
    world.paths[0][1].cut = true;
    world.set_link(1, false);
    world.run_for(s(20));
    world.set_link(1, true);
    world.run_for(ms(300));
    change(&mut world, 1, |router| router.priority = vipd::vrrp::Priority::new(120));
    world.run_for(ms(2500));
    holds(&world);
    assert_eq!(world.masters(0), [0], "{}", story(&world));
    world.run_for(s(2));
    assert_eq!(world.masters(0), [0, 1], "{}", story(&world));
}

#[test]
fn a_leaving_master_sends_priority_0_once() {
    let mut world = stable_world(PAIR);
    let id = world.hosts[0].node().unwrap().find("web").unwrap().id();
    world.command(0, Command::Failover(id));
    world.run_for(ms(100));
    let own = own_address(own_addresses(0)[0]);
    world.set_own(0, 0, LinkAddress { state: AddressState::Duplicate, ..own });
    // b, with priority 100, takes over 0.61 s after the only priority 0.
    let end = world.now + 520_000_000;
    assert!(world.run_until(end, |world| world.masters(0) == [1]), "{}", story(&world));
    holds(&world);
}

/// A unicast peer that lists this host by its address would not hear it otherwise.
#[test]
fn a_source_stays_over_a_restart_although_a_lower_address_has_come() {
    let mut world = stable_world(PAIR);
    let [own, ..] = own_addresses(0);
    let lower = own_address("9.0.0.1".parse().unwrap());
    world.set_own(0, 0, lower);
    for stop in [Some(Stop::Restart), None] {
        world.run_for(s(2));
        match stop {
            Some(stop) => world.stop(0, stop),
            None => world.kill(0),
        }
        world.run_for(ms(100));
        world.start(0);
        world.run_for(s(1));
        let source = |world: &World| world.hosts[0].node().unwrap().find("web").unwrap().source();
        assert_eq!(source(&world), Some(own), "{}", story(&world));
    }
    assert_eq!(world.masters(0), [0]);
    holds(&world);
}

#[test]
fn a_late_link_does_not_shorten_the_start_delay() {
    let mut world = world(&[host("a", 150)], 100, 1);
    world.hosts[0].config.routers[0].start_delay = s(30);
    world.set_link(0, false);
    world.start(0);
    world.run_for(s(5));
    world.set_link(0, true);
    world.run_for(s(20));
    assert!(world.masters(0).is_empty(), "{}", story(&world));
    world.run_for(s(6));
    assert_eq!(world.masters(0), [0], "{}", story(&world));
}

#[test]
fn a_loser_does_not_put_back_what_it_gives_away() {
    let mut world = world(&[host("a", 150).asleep(), host("b", 100)], 1000, 1);
    world.start(1);
    world.run_for(s(5));
    world.start(0);
    // Its successor's announcement is slow, so that it lingers.
    world.paths[0][1].delay = (ms(1), ms(2));
    let end = world.now + 5_000_000_000;
    let leaves = |world: &World| world.hosts[1].role(0) == Some(Role::Leaving);
    assert!(world.run_until(end, leaves), "{}", story(&world));
    let id = world.hosts[1].node().unwrap().find("web").unwrap().id();
    let mut node: Node = world.hosts[1].node().unwrap().clone();
    let mut actions = Vec::new();
    let (since, _) = node.find("web").unwrap().since();
    node.handle(since, Event::AddressLost(id, address()), &mut actions).unwrap();
    assert_eq!(actions, []);
}

#[test]
fn a_frozen_master_that_is_asked_to_leave_looks_at_the_clock_first() {
    for command in ["failover", "announce", "stop"] {
        let world = stable_world(PAIR);
        let mut node: Node = world.hosts[0].node().unwrap().clone();
        let router = node.find("web").unwrap();
        let (id, then) = (router.id(), router.sent_at().unwrap() + s(9));
        let mut actions = Vec::new();
        let event = match command {
            "failover" => Event::Command(Command::Failover(id)),
            "announce" => Event::Command(Command::Announce(id)),
            _ => Event::Stop(Stop::Leave),
        };
        node.handle(then, event, &mut actions).unwrap();
        assert!(!node.find("web").unwrap().has_addresses());
        let bad = actions.iter().any(|action| {
            use vipd::vrrp::Action::*;
            matches!(action, Renew { .. } | Announce { .. } | Advertise { .. } | Claim { .. })
        });
        assert!(!bad, "{command}: {actions:?}");
    }
}

#[test]
fn a_better_master_does_not_wait_for_a_hook() {
    let mut world = world(&[host("a", 150), host("b", 100)], 1000, 1);
    world.hosts[1].config.routers[0].before_release = Some(s(20));
    world.start(1);
    world.run_for(s(5));
    world.stop(1, Stop::Leave);
    world.start(0);
    let end = world.now + 5_000_000_000;
    world.run_until(end, |world| world.masters(0) == [0]);
    world.run_for(ms(50));
    assert!(!world.hosts[1].answers(address()), "{}", story(&world));
    holds(&world);
}

#[test]
fn a_stop_right_after_the_start_leaves_no_address_behind() {
    let mut world = stable_world(&[host("a", 150)]);
    world.hosts[0].config.routers[0].address_lifetime = None;
    change(&mut world, 0, |router| router.address_lifetime = None);
    world.run_for(s(1));
    world.kill(0);
    world.run_for(s(20));
    assert!(world.hosts[0].holds(address()));
    world.start_and_stop_at_once(0);
    world.run_for(s(1));
    assert!(!world.hosts[0].holds(address()), "{}", story(&world));
}

#[test]
fn lower_adverts_of_strangers_add_no_work_for_the_worker() {
    let mut world = stable_world(PAIR);
    let before = world.hosts[0].jobs_done;
    let router = router(&host("x", 1), Interval::DEFAULT);
    let advert = vipd::vrrp::Advert {
        version: router.version,
        vrid: router.vrid,
        priority: router.priority,
        interval: router.advert_interval,
        addresses: router.addresses,
        checksum: router.checksum,
        authentication: None,
    };
    let source = own_addresses(8)[0];
    let destination = vipd::vrrp::Family::V4.multicast_group();
    let mut message = Vec::new();
    advert.encode(source, destination, &mut message);
    let frame = super::world::Frame { link: 0, source, destination, ttl: 255, message };
    world.stranger(frame, ms(1), 2000);
    world.run_for(s(2));
    holds(&world);
    let jobs = world.hosts[0].jobs_done - before;
    assert!(jobs <= 3, "{jobs} renewals");
    assert!(matches!(
        world.hosts[0].node().unwrap().find("web").unwrap().state(),
        State::Master { .. }
    ));
}

/// The worker needs 50 ms, but with an interval of 10 ms peers wait only 30 ms.
#[test]
fn farewells_do_not_make_a_stalled_host_claim_and_release_without_end() {
    let mut world = world(&[host("a", 254), host("b", 100)], 10, 1);
    world.hosts[0].pace.worker = (ms(50), ms(50));
    world.start(0);
    let router = router(&host("x", 0), Interval::DEFAULT);
    let advert = vipd::vrrp::Advert {
        version: router.version,
        vrid: router.vrid,
        priority: router.priority,
        interval: router.advert_interval,
        addresses: router.addresses,
        checksum: router.checksum,
        authentication: None,
    };
    let source = own_addresses(8)[0];
    let destination = vipd::vrrp::Family::V4.multicast_group();
    let mut message = Vec::new();
    advert.encode(source, destination, &mut message);
    let frame = super::world::Frame { link: 0, source, destination, ttl: 255, message };
    world.stranger(frame, ms(1), 1000);
    world.run_for(s(1));
    let changes = story(&world).matches("is master:").count();
    assert!(changes <= 35, "{changes} times master in a second");
}

/// What a master has queued for the worker is cancelled when the role ends.
#[test]
fn a_slow_worker_skips_jobs_that_are_cancelled() {
    let mut world = world(&[host("a", 254).asleep(), host("b", 100)], 10, 1);
    world.hosts[1].pace.worker = (ms(300), ms(300));
    world.start(1);
    world.run_for(s(10));
    world.start(0);
    world.run_for(s(1));
    holds(&world);
    assert_eq!(world.masters(0), [0], "{}", story(&world));
    assert!(!world.hosts[1].holds(address()), "{}", story(&world));
    let done = world.hosts[1].jobs_done;
    world.run_for(s(5));
    holds(&world);
    assert_eq!(world.hosts[1].jobs_done, done, "{}", story(&world));
}

/// It would delay the successor, whose timer restarts with each.
#[test]
fn a_leaving_master_that_was_stopped_does_not_send_priority_0_twice_in_an_interval() {
    let mut world = stable_world(&[host("a", 150)]);
    let id = world.hosts[0].node().unwrap().find("web").unwrap().id();
    world.command(0, Command::Failover(id));
    world.run_for(ms(100));
    world.freeze(0);
    world.run_for(ms(1500));
    world.thaw(0);
    world.run_for(s(3));
    holds(&world);
    assert_eq!(world.masters(0), [0], "{}", story(&world));
}

#[test]
fn clients_follow_a_mac_that_changes() {
    let mut world = stable_world(PAIR);
    let mut longest = 0;
    for mac in [[4; 6], [6; 6], [8; 6]] {
        world.run_for(s(20));
        world.forget_service(address());
        world.set_mac(0, 0, Mac(mac));
        world.run_for(s(2));
        let seen = world.seen(address());
        longest = longest.max(seen.misdirected);
        assert_eq!(seen.nobody, 0, "{seen:?}");
    }
    assert!(longest < 1_000_000, "clients were lost for {} ms", longest / 1_000_000);
}

/// IPv6 is disabled on one host, and the virtual router has an unadvertised IPv6 address.
#[test]
fn a_host_that_cannot_add_an_unadvertised_address_serves_the_others() {
    let rider = Address::host("fd00::9:9".parse().unwrap());
    let mut world = stable_world(PAIR);
    world.refuse(0, rider.ip, true);
    for host in [0, 1] {
        change(&mut world, host, |router| router.unadvertised_addresses = [rider].into());
    }
    world.run_for(s(300));
    holds(&world);
    assert_eq!(world.masters(0), [0], "{}", story(&world));
    let seen = world.seen(address());
    assert_eq!((seen.nobody, seen.misdirected, seen.two), (0, 0, 0), "{}", story(&world));
    assert!(!world.hosts[0].holds(rider.ip));
    world.stop(0, Stop::Restart);
    world.run_for(ms(100));
    world.start(0);
    world.run_for(s(1));
    holds(&world);
    assert_eq!(world.masters(0), [0], "a restart moves nothing: {}", story(&world));
    world.refuse(0, rider.ip, false);
    world.run_for(ms(1100));
    assert!(world.hosts[0].holds(rider.ip), "{}", story(&world));
    world.run_for(s(10));
    holds(&world);
    assert!(world.hosts[0].holds(rider.ip), "it is renewed, too: {}", story(&world));
}

#[test]
fn a_better_host_that_cannot_add_an_advertised_address_tries_more_and_more_seldom() {
    let mut world = stable_world(PAIR);
    world.refuse(0, address(), true);
    world.run_for(s(3600));
    holds(&world);
    assert_eq!(world.masters(0), [1]);
    let tries = story(&world).matches("Claim has ended: [(").count();
    assert!((5..=12).contains(&tries), "{tries} claims");
}

/// With and without a lifetime, as only the first would hide an address that is left behind.
#[test]
fn an_interface_that_loses_its_name_is_left_and_used_again() {
    type Event = fn(&mut World);
    let renamed: Event = |world| world.rename(0, 0);
    let deleted: Event = |world| world.delete(0, 0);
    let replaced: Event = |world| world.create(0, 0);
    let recreated: Event = |world| {
        world.delete(0, 0);
        world.create(0, 0);
    };
    for (event, leaves_by_plan) in
        [(renamed, true), (replaced, true), (deleted, false), (recreated, false)]
    {
        for lifetime in [Some(2), None] {
            for worker in [ms(1), ms(800)] {
                let mut world = stable_world(PAIR);
                world.hosts[0].pace.worker.1 = worker;
                for host in [0, 1] {
                    change(&mut world, host, |router| router.address_lifetime = lifetime);
                }
                world.run_for(s(2));
                world.forget_service(address());
                event(&mut world);
                world.run_for(s(20));
                world.name_back(0, 0);
                world.run_for(s(10));
                assert_eq!(world.wrong, None);
                assert_eq!(world.masters(0), [0]);
                let seen = world.seen(address());
                // Half an interval of skew time and the worker; or the whole patience of the peer.
                let longest = if leaves_by_plan { ms(700) + worker } else { ms(4000) };
                assert!(u128::from(seen.nobody) < longest.as_nanos(), "{seen:?}");
                assert!(u128::from(seen.two) < (ms(10) + worker).as_nanos(), "{seen:?}");
                let held = world.hosts[0].ours().count();
                assert_eq!(held, 1, "nothing is left on a device without the name");
            }
        }
    }
}

#[test]
fn a_claim_under_way_when_the_name_passes_on_is_released_on_the_same_device() {
    let mut world = world(&[host("a", 150)], 1000, 1);
    world.hosts[0].config.routers[0].address_lifetime = None;
    world.hosts[0].pace.worker = (ms(300), ms(300));
    world.start(0);
    let end = world.now + 4_000_000_000;
    assert!(world.run_until(end, |world| !world.masters(0).is_empty()));
    world.create(0, 0);
    world.run_for(s(20));
    assert_eq!(world.wrong, None);
    assert_eq!(world.masters(0), [0]);
    assert_eq!(world.hosts[0].ours().count(), 1, "{}", story(&world));
}

/// It is deaf from then on, and nobody reaches it, but what it sends still leaves.
#[test]
fn an_interface_that_becomes_a_port_of_a_bridge_is_left() {
    for lifetime in [Some(2), None] {
        let mut world = stable_world(PAIR);
        for host in [0, 1] {
            change(&mut world, host, |router| router.address_lifetime = lifetime);
        }
        world.run_for(s(2));
        world.forget_service(address());
        world.set_port(0, 0, true);
        world.run_for(s(20));
        assert_eq!(world.masters(0), [1]);
        assert!(!world.hosts[0].holds(address()));
        world.set_port(0, 0, false);
        world.run_for(s(10));
        holds(&world);
        assert_eq!(world.masters(0), [0]);
        let seen = world.seen(address());
        assert!(seen.nobody < 700_000_000, "{seen:?}");
        assert!(seen.two < 10_000_000, "{seen:?}");
    }
}

#[test]
fn a_machine_that_has_the_address_by_itself_is_noticed_and_delays_nothing() {
    let has = |world: &World| {
        let node = world.hosts[0].node().unwrap();
        let router = node.routers().next().unwrap();
        let since = router.since().0;
        (router.holding().contenders(since).count(), world.contentions)
    };
    // It was there before.
    let mut world = world(&[host("a", 150)], 1000, 1);
    world.foreign.insert((0, address()));
    world.start(0);
    let end = world.now + 4_000_000_000;
    assert!(world.run_until(end, |world| !world.masters(0).is_empty()));
    world.run_for(ms(5));
    assert_eq!(has(&world), (1, 0), "{}", story(&world));
    world.run_for(s(2));
    assert_eq!(has(&world), (1, 1), "{}", story(&world));
    assert!(world.hosts[0].answers(address()));
    // It comes later, and announces nothing.
    let mut world = stable_world(PAIR);
    world.foreign.insert((0, address()));
    world.run_for(s(31));
    holds(&world);
    assert_eq!(has(&world), (1, 1), "{}", story(&world));
    assert_eq!(world.masters(0), [0]);
}

/// `reload` accepts such a list, and it names the last host of three after the others have gone.
#[test]
fn a_list_of_peers_that_names_only_this_host_keeps_the_address() {
    let mut world = world(&[host("a", 150)], 1000, 1);
    let [own, ..] = own_addresses(0);
    world.hosts[0].config.routers[0].unicast_peers = Some([own, own_addresses(1)[0]].into());
    world.start(0);
    world.run_for(s(8));
    assert_eq!(world.masters(0), [0]);
    world.forget_service(address());
    change(&mut world, 0, |router| router.unicast_peers = Some([own].into()));
    world.run_for(s(60));
    holds(&world);
    assert_eq!(world.seen(address()).nobody, 0, "{}", story(&world));
}

/// The peers list the address that this host was heard from, also if it was never master since.
#[test]
fn a_source_stays_over_two_restarts_of_a_backup() {
    let mut world = stable_world(PAIR);
    let [own, ..] = own_addresses(0);
    let id = world.hosts[0].node().unwrap().find("web").unwrap().id();
    world.set_own(0, 0, own_address("9.0.0.1".parse().unwrap()));
    world.run_for(s(2));
    world.command(0, Command::Failover(id));
    world.run_for(s(8));
    assert_eq!(world.masters(0), [1]);
    for _ in 0..2 {
        world.stop(0, Stop::Restart);
        world.run_for(ms(50));
        world.start(0);
        world.run_for(s(8));
    }
    let id = world.hosts[0].node().unwrap().find("web").unwrap().id();
    world.command(0, Command::Resume(id));
    world.run_for(s(20));
    holds(&world);
    let source = world.hosts[0].node().unwrap().find("web").unwrap().source();
    assert_eq!((source, world.masters(0)), (Some(own), vec![0]), "{}", story(&world));
}

/// What it was stays on record until it has decided something itself.
#[test]
fn a_daemon_that_is_killed_as_soon_as_it_has_started_does_not_cost_the_role() {
    let mut world = stable_world(PAIR);
    for _ in 0..2 {
        world.kill(0);
        world.run_for(ms(100));
        world.start_blind(0);
    }
    world.kill(0);
    world.start(0);
    world.run_for(s(10));
    holds(&world);
    assert_eq!(world.masters(0), [0]);
    assert_eq!(world.seen(address()).nobody, 0, "{}", story(&world));
}

/// A backup has the address when the owner's host boots, so its kernel does not use it. What is the
/// host's own stays as it is until the operator adds it without the detection.
#[test]
fn an_owner_whose_backup_has_its_address_waits_for_its_operator() {
    let mut world = world(&[host("a", 255), host("b", 100)], 1000, 1);
    world.set_duplicate(0, address(), true);
    for host in [1, 0] {
        world.start(host);
        world.run_for(s(8));
    }
    holds(&world);
    assert_eq!((world.masters(0), world.hosts[0].role(0)), (vec![1], Some(Role::Fault)));
    world.forget_service(address());
    world.set_duplicate(0, address(), false);
    world.run_for(s(8));
    holds(&world);
    assert_eq!(world.masters(0), [0]);
    let seen = world.seen(address());
    assert!(seen.nobody == 0 && seen.two < 10_000_000, "{seen:?}\n{}", story(&world));
}
