//! Checks of local services: single results become verdicts, verdicts become priority or fault.

use std::fmt;

use super::config::{CheckConfig, Initial};
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

/// What the results of a check amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// There has been no result yet.
    Unknown,
    /// As many passes in a row as it takes.
    Passing,
    /// As many failures in a row as it takes.
    Failing,
}

impl Verdict {
    /// The word in status and metrics: never changed once published.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Unknown => "unknown",
            Verdict::Passing => "passing",
            Verdict::Failing => "failing",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
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
        Check { id, config: config.clone(), verdict, streak: 0, last: None, since: now }
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
        let before = (self.verdict, self.number());
        let first = self.verdict == Verdict::Unknown;
        self.last = Some(probe);
        if failed(&probe) {
            if first || self.streak >= self.config.fall {
                self.verdict = Verdict::Failing;
            }
        } else if first || self.streak >= self.config.rise {
            self.verdict = Verdict::Passing;
        }
        if self.verdict != before.0 {
            self.since = now;
        }
        (self.verdict, self.number()) != before
    }

    /// The number last read, if the last result was one.
    fn number(&self) -> Option<i16> {
        match self.last {
            Some(Probe::Number(number)) => Some(number),
            Some(Probe::Passed | Probe::Failed) | None => None,
        }
    }
}
