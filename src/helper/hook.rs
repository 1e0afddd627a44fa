//! A run of hooks as the daemon requests it, and its outcome.

use std::fmt;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::HookCommand;
use crate::vrrp::Hook;

/// By name, because the protocol does not depend on serde.
impl Serialize for Hook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Hook {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        word.parse().map_err(|()| D::Error::custom(format_args!("no hook is named {word}")))
    }
}

/// The hooks to run for one change of a virtual router or sync group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// The virtual router or sync group. Runs of one name are kept in order.
    pub router: String,
    /// Whether `router` is a sync group (`GROUP` instead of `INSTANCE`, and `VIPD_GROUP`).
    pub group: bool,
    /// Chosen by the daemon, repeated in [`Finished`].
    pub number: u64,
    /// What the virtual router has become, or is about to do (`VIPD_STATE`).
    pub state: Hook,
    /// The previous state (`VIPD_PREVIOUS_STATE`).
    pub previous: String,
    /// The reason of the change (`VIPD_REASON`).
    pub reason: String,
    /// The effective priority at that time.
    pub priority: u8,
    pub addresses: Vec<IpAddr>,
    /// The interface of the virtual router.
    pub interface: String,
    /// The hooks for this state, in order.
    pub commands: Vec<HookCommand>,
    /// The `notify` hook, run last, with the arguments `INSTANCE` (or `GROUP`), name, state in
    /// upper case and priority appended. Not run before a claim or a release.
    pub notify: Option<HookCommand>,
}

/// The end of a [`HookRun`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// As in the run.
    pub router: String,
    /// As in the run.
    pub number: u64,
    /// As in the run.
    pub state: Hook,
    /// Of several hooks, that of the first failure.
    pub outcome: Outcome,
    /// From the start of the first hook to the end of the last.
    pub duration: Duration,
}

impl Finished {
    pub(super) fn of(run: &HookRun, outcome: Outcome, duration: Duration) -> Self {
        let HookRun { router, number, state, .. } = run;
        Finished { router: router.clone(), number: *number, state: *state, outcome, duration }
    }
}

/// The outcome of a run of hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// A nonzero exit status.
    Exited(i32),
    /// Killed by this signal, which vipd did not send.
    Killed(i32),
    /// Exceeded its timeout and was killed.
    TimedOut,
    /// Could not be started, for this reason.
    NotRun(String),
    /// Skipped, because a newer state arrived before it started.
    Overtaken,
}

impl Outcome {
    pub(super) fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Outcome::Done,
            (Some(code), _) => Outcome::Exited(code),
            (None, signal) => Outcome::Killed(signal.unwrap_or_default()),
        }
    }

    /// Whether a hook failed or did not run.
    pub const fn is_failure(&self) -> bool {
        match self {
            Outcome::Done | Outcome::Overtaken => false,
            Outcome::Exited(_) | Outcome::Killed(_) | Outcome::TimedOut | Outcome::NotRun(_) => {
                true
            }
        }
    }
}

names! {
    Outcome {
        Done = "done",
        Exited = "exited",
        Killed = "killed",
        TimedOut = "timed_out",
        NotRun = "not_run",
        Overtaken = "overtaken",
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Exited(status) => write!(f, "exit status {status}"),
            Outcome::Killed(signal) => write!(f, "killed by signal {signal}"),
            Outcome::TimedOut => f.write_str("timed out"),
            Outcome::NotRun(why) => write!(f, "not run: {why}"),
            Outcome::Overtaken => f.write_str("overtaken by a newer state"),
        }
    }
}
