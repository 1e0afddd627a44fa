//! One run of a check, as the helper reports it.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// One run of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRun {
    /// The number under which the helper was told of it.
    pub(super) number: u64,
    /// How it went.
    pub result: CheckResult,
    /// What it printed or found, one short printable line; `None`: the same as the run before.
    pub output: Option<String>,
    /// From its begin to its result.
    pub took: Duration,
    /// When the result was there.
    pub at: SystemTime,
}

/// How one run of a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// It passed.
    Passed,
    /// It failed, or took too long.
    Failed,
    /// It read this number.
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
