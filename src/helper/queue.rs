//! The queue of hook runs that have not started, in which newer states replace older ones.

use std::collections::VecDeque;

use super::hook::HookRun;
use crate::vrrp::Hook;

/// Adds a run and returns the queued ones of the same virtual router that it replaces: older
/// states, and `before_claim` of a claim that no longer happens. `stop` and `before_release` must
/// run and are replaced only by their own kind, so the number of queued runs per virtual router is
/// bounded.
pub(super) fn enqueue(waiting: &mut VecDeque<HookRun>, run: HookRun) -> Vec<HookRun> {
    let overtakes = |older: Hook| match (run.state, older) {
        (Hook::BeforeRelease, Hook::BeforeRelease)
        | (Hook::BeforeClaim, Hook::BeforeClaim)
        | (Hook::Stop, Hook::Stop) => true,
        (Hook::BeforeRelease | Hook::BeforeClaim, _) | (_, Hook::BeforeRelease | Hook::Stop) => {
            false
        }
        (
            Hook::Master | Hook::Backup | Hook::Fault | Hook::Stop,
            Hook::Master | Hook::Backup | Hook::Fault | Hook::BeforeClaim,
        ) => true,
    };
    let mut overtaken = Vec::new();
    let mut kept = VecDeque::with_capacity(waiting.len() + 1);
    for older in waiting.drain(..) {
        if older.router == run.router && overtakes(older.state) {
            overtaken.push(older);
        } else {
            kept.push_back(older);
        }
    }
    kept.push_back(run);
    *waiting = kept;
    overtaken
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(router: &str, number: u64, state: Hook) -> HookRun {
        HookRun {
            router: router.into(),
            group: false,
            number,
            state,
            previous: "backup".into(),
            reason: "test".into(),
            priority: 100,
            addresses: vec!["192.0.2.10".parse().unwrap()],
            interface: "eth0".into(),
            commands: Vec::new(),
            notify: None,
        }
    }

    fn numbers(runs: impl IntoIterator<Item = HookRun>) -> Vec<u64> {
        runs.into_iter().map(|run| run.number).collect()
    }

    #[test]
    fn a_newer_state_overtakes_the_older_ones_of_its_router_only() {
        let mut waiting = VecDeque::new();
        assert!(enqueue(&mut waiting, run("a", 1, Hook::Master)).is_empty());
        assert!(enqueue(&mut waiting, run("b", 2, Hook::Master)).is_empty());
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 3, Hook::Backup))), [1]);
        assert_eq!(numbers(waiting), [2, 3]);
    }

    #[test]
    fn a_hook_before_a_release_and_a_stop_are_not_overtaken_by_states() {
        let mut waiting = VecDeque::new();
        enqueue(&mut waiting, run("a", 1, Hook::Master));
        assert!(enqueue(&mut waiting, run("a", 2, Hook::BeforeRelease)).is_empty());
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 3, Hook::Backup))), [1]);
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 4, Hook::Stop))), [3]);
        assert!(enqueue(&mut waiting, run("a", 5, Hook::Master)).is_empty());
        assert_eq!(numbers(waiting), [2, 4, 5]);
    }

    #[test]
    fn of_hooks_before_a_release_the_newest_is_enough() {
        let mut waiting = VecDeque::new();
        enqueue(&mut waiting, run("a", 1, Hook::BeforeRelease));
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 2, Hook::BeforeRelease))), [1]);
        assert_eq!(numbers(waiting), [2]);
    }

    #[test]
    fn a_hook_before_a_claim_that_is_off_is_overtaken_and_overtakes_no_state() {
        let mut waiting = VecDeque::new();
        enqueue(&mut waiting, run("a", 1, Hook::Backup));
        assert!(enqueue(&mut waiting, run("a", 2, Hook::BeforeClaim)).is_empty());
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 3, Hook::BeforeClaim))), [2]);
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 4, Hook::Fault))), [1, 3]);
        assert_eq!(numbers(waiting), [4]);
    }
}
