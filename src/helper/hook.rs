//! A run of hooks, as the daemon asks for it, and how it went.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::HookCommand;
use crate::vrrp::Hook;

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

/// The hooks of one change of one virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// Name of the virtual router, or of the group whose members change together; its runs are kept
    /// in order.
    pub router: String,
    /// It is a group's (`GROUP` instead of `INSTANCE`, and `VIPD_GROUP`).
    pub group: bool,
    /// The daemon's own number for this run, echoed in [`Finished`].
    pub number: u64,
    /// The hook; `VIPD_STATE` is its name.
    pub state: Hook,
    /// What it was (`VIPD_PREVIOUS_STATE`).
    pub previous: String,
    /// Why (`VIPD_REASON`).
    pub reason: String,
    /// Its priority at the time.
    pub priority: u8,
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
    /// The interface it is on.
    pub interface: String,
    /// The hooks for this very state, in order.
    pub commands: Vec<HookCommand>,
    /// The general hook, run last, with `INSTANCE` (or `GROUP`), the name, the state in upper case
    /// and the priority appended; not run before a claim or a release.
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
    /// How it went; of several hooks the first that did not succeed counts.
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

/// How a run of hooks went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exit status 0.
    Done,
    /// Another exit status.
    Exited(i32),
    /// Ended by this signal, which was not ours.
    Killed(i32),
    /// Took too long and was ended.
    TimedOut,
    /// Could not be started, or was refused, for this reason.
    NotRun(String),
    /// A newer state came before it began.
    Overtaken,
}

impl Outcome {
    /// Whether hooks had work to do and did not do it.
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
