//! Checks of local services: results lead to verdicts, and verdicts to a priority or a fault.

use std::sync::Arc;
use std::time::Duration;

use super::config::{CheckConfig, Effect, Initial, Priority};
use super::time::Instant;

/// Identifies a check in events. A check keeps it over a reload, and it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u32);

/// One result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    Passed,
    /// It failed or timed out.
    Failed,
    /// It read a number, which is added to the priority.
    Number(i16),
}

words! {
    /// The verdict on a check by its results.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Verdict {
        /// No result yet.
        Unknown = "unknown",
        /// Passing: `rise` passes in a row.
        Passing = "passing",
        /// Failing: `fall` failures in a row.
        Failing = "failing",
    }
}

/// A check with its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    id: CheckId,
    config: CheckConfig,
    verdict: Verdict,
    /// How many results in a row were passes, or failures, like the last one.
    streak: u32,
    last: Option<Probe>,
    /// The last number that was read. A failure does not reset it.
    number: i16,
    /// The verdict follows from results, and is not only the initial one.
    proved: bool,
    /// Since when it has had this verdict.
    since: Instant,
}

impl Check {
    pub(super) fn new(id: CheckId, config: &CheckConfig, now: Instant) -> Self {
        let verdict = match config.initial {
            Initial::Passing => Verdict::Passing,
            Initial::Failing => Verdict::Failing,
            Initial::Wait(_) => Verdict::Unknown,
        };
        Check {
            id,
            config: config.clone(),
            verdict,
            streak: 0,
            last: None,
            number: 0,
            proved: false,
            since: now,
        }
    }

    pub fn id(&self) -> CheckId {
        self.id
    }

    pub fn config(&self) -> &CheckConfig {
        &self.config
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How many results in a row were passes, or failures, like the last one.
    pub fn streak(&self) -> u32 {
        self.streak
    }

    pub fn last(&self) -> Option<Probe> {
        self.last
    }

    /// The last number that was read; 0 if there is none.
    pub fn number(&self) -> i16 {
        self.number
    }

    /// Since when it has had this verdict.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The same check with a new configuration; its verdict stays.
    pub(super) fn with(self, config: &CheckConfig) -> Self {
        Check { config: config.clone(), ..self }
    }

    /// Takes a result. The first one decides at once; after that a change takes `rise` passes or
    /// `fall` failures in a row. Returns whether anything changed that a priority depends on.
    pub(super) fn probe(&mut self, now: Instant, probe: Probe) -> bool {
        let failed = |probe: &Probe| match probe {
            Probe::Failed => true,
            Probe::Passed | Probe::Number(_) => false,
        };
        let same = self.last.as_ref().is_some_and(|last| failed(last) == failed(&probe));
        self.streak = if same { self.streak.saturating_add(1) } else { 1 };
        let before = (self.verdict, self.number, self.proved);
        let first = self.verdict == Verdict::Unknown;
        self.last = Some(probe);
        match probe {
            Probe::Failed => {
                self.proved = true;
                if first || self.streak >= self.config.fall {
                    self.verdict = Verdict::Failing;
                }
            }
            Probe::Passed | Probe::Number(_) => {
                self.number = match probe {
                    Probe::Number(number) => number,
                    Probe::Passed | Probe::Failed => 0,
                };
                if first || self.streak >= self.config.rise {
                    self.proved = true;
                    self.verdict = Verdict::Passing;
                }
            }
        }
        if self.verdict != before.0 {
            self.since = now;
        }
        (self.verdict, self.number, self.proved) != before
    }

    /// Resets what no decision depends on, for the model checker.
    pub(super) fn normalize(&mut self, origin: Instant) {
        self.since = origin;
        self.streak = self.streak.min(self.config.fall.max(self.config.rise));
    }
}

/// The checks of a virtual router taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CheckSummary {
    /// The sum that is added to the priority.
    weight: i32,
    /// A check with `on_fail = "last"` fails: the priority is 1, whatever else is added.
    pub last_resort: bool,
    /// Names of the failing checks that cause a fault.
    pub failing: Vec<Arc<str>>,
    /// Some check has no verdict yet, which may be waited for this long.
    pub unknown: Option<Duration>,
    /// Some check is failing only because of `initial = "failing"`, without a result.
    pub unproven: bool,
}

impl CheckSummary {
    /// The summary of some checks. While a router holds its addresses, a check that is failing only
    /// because of `initial = "failing"` counts as unknown: that setting is to delay a takeover, not
    /// to end one.
    pub(super) fn of<'a>(checks: impl Iterator<Item = &'a Check>, has_addresses: bool) -> Self {
        let mut sum = CheckSummary::default();
        for check in checks {
            let config = &check.config;
            let unproven = check.verdict == Verdict::Failing && !check.proved;
            sum.unproven |= unproven;
            let verdict = match check.verdict {
                Verdict::Failing if unproven && has_addresses => Verdict::Unknown,
                verdict => verdict,
            };
            match (config.effect, verdict) {
                (_, Verdict::Unknown) => {
                    let timeout = match config.initial {
                        Initial::Wait(timeout) => timeout,
                        Initial::Passing | Initial::Failing => Duration::ZERO,
                    };
                    sum.unknown = sum.unknown.max(Some(timeout));
                }
                (Effect::Fault, Verdict::Failing) => sum.failing.push(config.name.clone()),
                (Effect::Last, Verdict::Failing) => sum.last_resort = true,
                (Effect::Weight(weight), Verdict::Passing) if weight > 0 => {
                    sum.weight += i32::from(weight);
                }
                (Effect::Weight(weight), Verdict::Failing) if weight < 0 => {
                    sum.weight += i32::from(weight);
                }
                (Effect::Number, Verdict::Passing) => sum.weight += i32::from(check.number),
                (Effect::Fault | Effect::Last, Verdict::Passing)
                | (Effect::Weight(_), Verdict::Passing | Verdict::Failing)
                | (Effect::Number, Verdict::Failing) => {}
            }
        }
        sum
    }

    /// The effective priority of a router that does not own the addresses.
    pub(super) fn effective(&self, configured: Priority) -> Priority {
        if self.last_resort {
            return Priority::LOWEST;
        }
        Priority::clamped(i32::from(configured.get()) + self.weight)
    }
}
