//! One run of a check, as the helper reports it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The result of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRun {
    /// The number of the check.
    pub(super) number: u64,
    /// Passed, failed, or a number.
    pub result: CheckResult,
    /// Its output or finding, as one short printable line; `None`: as in the previous run.
    pub output: Option<String>,
    pub took: Duration,
    pub at: SystemTime,
}

/// The result of one run of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// The condition holds.
    Passed,
    /// The condition does not hold, or the run timed out.
    Failed,
    /// The number that a `file` check read.
    Number(i16),
}

impl CheckResult {
    pub(super) fn failed(self) -> bool {
        match self {
            CheckResult::Failed => true,
            CheckResult::Passed | CheckResult::Number(_) => false,
        }
    }
}
