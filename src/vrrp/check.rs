//! Checks of local services: single results become verdicts, verdicts become priority or fault.

use std::sync::Arc;
use std::time::Duration;

use super::config::{CheckConfig, Effect, Initial, Priority};
use super::time::Instant;

/// Names a check in events; it keeps it over a reload, and it is never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckId(pub u32);

/// One result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// It passed.
    Passed,
    /// It failed, or took too long.
    Failed,
    /// A number was read, to be added to the priority.
    Number(i16),
}

words! {
    /// What the results of a check amount to.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Verdict {
        /// There has been no result yet.
        Unknown = "unknown",
        /// As many passes in a row as it takes.
        Passing = "passing",
        /// As many failures in a row as it takes.
        Failing = "failing",
    }
}

/// A check and what its results amount to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    id: CheckId,
    config: CheckConfig,
    verdict: Verdict,
    /// Results in a row that are the same as the last one.
    streak: u32,
    last: Option<Probe>,
    /// The number last read; one failure does not forget it.
    number: i16,
    /// Its verdict is not only what it counts as before its first results.
    proved: bool,
    /// Since when it has had its verdict.
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

    /// The number by which events name it.
    pub fn id(&self) -> CheckId {
        self.id
    }

    /// What it was told.
    pub fn config(&self) -> &CheckConfig {
        &self.config
    }

    /// What its results amount to.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How many results in a row have been the same, pass or failure.
    pub fn streak(&self) -> u32 {
        self.streak
    }

    /// The last result.
    pub fn last(&self) -> Option<Probe> {
        self.last
    }

    /// The number last read; 0 if none was.
    pub fn number(&self) -> i16 {
        self.number
    }

    /// Since when it has had its verdict.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The same check with a configuration that may have changed; its verdict stays.
    pub(super) fn with(self, config: &CheckConfig) -> Self {
        Check { config: config.clone(), ..self }
    }

    /// Takes a result. The first one decides at once; after that it takes `rise` passes or `fall`
    /// failures in a row. Returns whether anything changed that a priority hangs on.
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

    /// The view of a model checker: what decides nothing is forgotten.
    pub(super) fn normalize(&mut self, origin: Instant) {
        self.since = origin;
        self.streak = self.streak.min(self.config.fall.max(self.config.rise));
    }
}

/// What the checks of a virtual router amount to together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct CheckSummary {
    /// Added to the priority.
    weight: i32,
    /// The priority is the lowest one, whatever else is added.
    pub last_resort: bool,
    /// Names of the checks whose failing is a fault.
    pub failing: Vec<Arc<str>>,
    /// There is no verdict of some yet, and one may wait this long for it.
    pub unknown: Option<Duration>,
    /// Some count as failing only because they have shown nothing yet.
    pub unproven: bool,
}

impl CheckSummary {
    /// Sums up. Who has the addresses keeps them until a check really fails: what one counts as
    /// before its first results only keeps others from taking them.
    pub fn of<'a>(checks: impl Iterator<Item = &'a Check>, has_addresses: bool) -> Self {
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

    /// The priority in force of a router that does not own the addresses.
    pub fn effective(&self, configured: Priority) -> Priority {
        if self.last_resort {
            return Priority::LOWEST;
        }
        let sum = i32::from(configured.get()) + self.weight;
        let clamped = sum.clamp(1, 254);
        Priority::new(u8::try_from(clamped).unwrap_or(u8::MAX - 1))
    }
}
