//! The last results of checks, for log, history and status; the protocol decides what they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use tracing::{debug, info, warn};

use crate::helper::{CheckResult, CheckRun};
use crate::vrrp::{Probe, Verdict};

/// The last run of each check, by name.
#[derive(Debug, Default)]
pub(super) struct CheckRuns(BTreeMap<String, LastRun>);

/// The last run of a check.
#[derive(Clone, Debug)]
pub(super) struct LastRun {
    pub result: CheckResult,
    /// What it printed or found.
    pub output: String,
    /// From its start to its result.
    pub took: Duration,
    /// When, by the wall clock.
    pub at: SystemTime,
}

impl CheckRuns {
    pub(super) fn last(&self, name: &str) -> Option<&LastRun> {
        self.0.get(name)
    }

    /// Forgets all other checks.
    pub(super) fn keep_only<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let names: BTreeSet<&str> = names.collect();
        self.0.retain(|name, _| names.contains(name.as_str()));
    }

    /// Keeps a run, and logs it if it made a difference. Returns what to put into the history.
    pub(super) fn note(
        &mut self,
        name: &str,
        run: CheckRun,
        before: Verdict,
        after: Verdict,
    ) -> Option<String> {
        let CheckRun { result, output, took, at, .. } = run;
        let earlier = self.0.remove(name);
        let said = earlier.as_ref().map(|earlier| earlier.output.clone()).unwrap_or_default();
        let output = output.unwrap_or(said);
        let text = match (before, after) {
            (_, Verdict::Failing) if before != after => {
                let text = format!("check {name} fails: {output}");
                warn!(check = name, ?took, "{text}");
                Some(text)
            }
            (Verdict::Failing, Verdict::Passing) => {
                let text = format!("check {name} passes again: {output}");
                info!(check = name, ?took, "{text}");
                Some(text)
            }
            (Verdict::Unknown, Verdict::Passing) => {
                info!(check = name, ?took, "check {name} passes: {output}");
                None
            }
            _ => {
                if result == CheckResult::Failed {
                    debug!(check = name, ?took, "a run of check {name} failed: {output}");
                }
                None
            }
        };
        let changed = match (result, earlier.map(|earlier| earlier.result)) {
            (CheckResult::Number(number), Some(CheckResult::Number(was))) if number != was => {
                let text = format!("check {name} reads {number} now, it was {was}");
                info!(check = name, "{text}");
                Some(text)
            }
            _ => None,
        };
        self.0.insert(name.to_owned(), LastRun { result, output, took, at });
        text.or(changed)
    }
}

/// A result as the protocol takes it.
pub(super) fn probe(result: CheckResult) -> Probe {
    match result {
        CheckResult::Passed => Probe::Passed,
        CheckResult::Failed => Probe::Failed,
        CheckResult::Number(number) => Probe::Number(number),
    }
}
