//! The real protocol on simulated hosts, kernels and networks, in virtual time.
//!
//! `VIPD_SEEDS=n` runs n seeds instead of the usual number, `VIPD_SEED=s` runs one and prints its
//! story.
#![allow(clippy::unwrap_used)]

#[path = "simulation/chaos.rs"]
mod chaos;
#[path = "simulation/groups.rs"]
mod groups;
#[path = "simulation/lessons.rs"]
mod lessons;
#[path = "simulation/player.rs"]
mod player;
#[path = "simulation/promises.rs"]
mod promises;
#[path = "simulation/random.rs"]
mod random;
#[path = "scenarios/mod.rs"]
mod scenarios;
#[path = "simulation/watch.rs"]
mod watch;
#[path = "simulation/world.rs"]
mod world;

/// The world at the end of a run; `Err` if a rule was broken.
type RunResult = Result<Box<world::World>, Box<world::World>>;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// Runs many seeds on all cores; the first that fails is run again and prints its story.
fn seeds(test: &str, usual: u64, run: fn(u64, bool) -> RunResult) {
    if let Some(seed) = number("VIPD_SEED") {
        let (world, failed) = match run(seed, true) {
            Ok(world) => (world, false),
            Err(world) => (world, true),
        };
        println!("{}", world.trace.unwrap_or_default());
        assert!(!failed, "seed {seed}: {}", world.wrong.unwrap_or_default());
        return;
    }
    let count = number("VIPD_SEEDS").unwrap_or(usual);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let failures: Vec<(u64, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                scope.spawn(move || {
                    let mine = (0..count).filter(|seed| seed % cores == core);
                    mine.filter_map(|seed| {
                        let world = run(seed, false).err()?;
                        Some((seed, world.wrong.unwrap_or_default()))
                    })
                    .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let Some((seed, wrong)) = failures.iter().min() else { return };
    let story = run(*seed, true).err().and_then(|world| world.trace).unwrap_or_default();
    let lines: Vec<&str> = story.lines().collect();
    let last = &lines[lines.len().saturating_sub(60)..];
    let others: Vec<String> =
        failures.iter().take(20).map(|(seed, wrong)| format!("{seed}: {wrong}")).collect();
    panic!(
        "{}\n{}\n{} of {count} seeds fail; seed {seed}: {wrong}\n\
         repeat it with: VIPD_SEED={seed} cargo test --test simulation {test} -- --nocapture",
        last.join("\n"),
        others.join("\n"),
        failures.len()
    );
}

#[test]
fn after_any_events_a_quiet_network_has_one_master_the_best() {
    seeds("after_any_events", 10_000, chaos::run);
}

#[test]
fn planned_moves_lose_nothing() {
    seeds("planned_moves", 2000, promises::planned_moves_lose_nothing);
}

#[test]
fn a_dead_daemon_never_leaves_two_owners() {
    seeds("a_dead_daemon", 2000, promises::a_dead_daemon_never_leaves_two_owners);
}

#[test]
fn planned_moves_of_a_group_lose_nothing() {
    seeds("planned_moves_of", 1000, groups::planned_moves_of_a_group_lose_nothing);
}

#[test]
fn groups_that_disagree_end_with_one_master() {
    seeds("groups_that", 1000, groups::groups_that_disagree_end_with_one_master);
}

#[test]
fn a_reload_touches_nothing_that_is_equal_before_and_after() {
    for seed in 0..number("VIPD_SEEDS").unwrap_or(12_000) {
        if let Err(wrong) = groups::a_reload_touches_nothing_that_is_equal(seed) {
            panic!("seed {seed}: {wrong}");
        }
    }
}

/// Each in several worlds that differ in their delays.
#[test]
fn every_scenario_holds() {
    for scenario in scenarios::ALL {
        println!("{}{}", scenario.name, if scenario.needs_commands() { " (commands)" } else { "" });
        for seed in 0..20 {
            player::play(scenario, seed);
        }
    }
}
