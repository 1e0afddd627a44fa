//! The rules for hooks: programs that run when a virtual router changes its role.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file;
use super::problem::{Diagnostics, Place};
use super::program::{ProgramFaults, ProgramUse, check_argv, check_user, report_faults};
use super::reader::At;
use crate::vrrp::{Hook, RouterConfig, VETO};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Short, because `before_claim` delays a takeover and no host answers meanwhile.
const DEFAULT_CLAIM_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CLAIM_TIMEOUT: Duration = Duration::from_secs(60);
const MIN_FAULT: Duration = Duration::from_secs(1);
const MAX_FAULT: Duration = Duration::from_secs(3600);

/// The key of a hook; `None` is the one that runs at every change.
pub(super) fn key(hook: Option<Hook>) -> &'static str {
    hook.map_or("notify", Hook::name)
}

/// The hooks of one virtual router, or of a sync group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Hooks that run at one kind of change.
    pub of: BTreeMap<Hook, HookCommand>,
    /// Runs at every change, after the hook for the role itself.
    pub notify: Option<HookCommand>,
}

/// A program and how it is run; never through a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCommand {
    /// The program (an absolute path, or a name to be found in [`HOOK_PATH`](super::HOOK_PATH)) and its arguments;
    /// never empty.
    pub argv: Vec<String>,
    /// After this it is terminated.
    pub timeout: Duration,
    /// The user to run it as; `None`: the user the daemon was started as.
    pub user: Option<String>,
}

impl HookCommand {
    pub(super) fn program(&self) -> ProgramUse {
        ProgramUse::of(&self.argv, self.user.as_deref())
    }
}

/// What the protocol needs to know about the hooks.
#[derive(Debug, Default)]
pub(super) struct HookSettings {
    before_release: Option<Duration>,
    before_claim: Option<Duration>,
    fault_for: BTreeMap<Hook, Duration>,
}

impl HookSettings {
    pub(super) fn apply(&self, router: &mut RouterConfig) {
        router.before_release = self.before_release;
        router.before_claim = self.before_claim;
        router.fault_for = self.fault_for.clone();
    }
}

/// Place of the program and place of the user in the file.
pub(super) type HookPlaces = BTreeMap<Option<Hook>, (Place, Option<Place>)>;

impl Hooks {
    /// The configured hooks; `None` is the one that runs at every change.
    pub fn iter(&self) -> impl Iterator<Item = (Option<Hook>, &HookCommand)> {
        let of = self.of.iter().map(|(hook, command)| (Some(*hook), command));
        of.chain(self.notify.iter().map(|command| (None, command)))
    }

    /// Whether no hook is configured.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// The rules that need nothing but the file.
pub(super) fn check(
    hooks: Option<&file::HooksTable>,
    report: &Diagnostics,
) -> (Hooks, HookPlaces, HookSettings) {
    let Some(hooks) = hooks else { return Default::default() };
    if let Some(user) = &hooks.user {
        check_user(user, report);
    }
    let mut places = HookPlaces::new();
    let mut fault_for = BTreeMap::new();
    let mut one = |hook: Option<Hook>, command: &file::HookEntry| {
        let key = key(hook);
        let user = command.user.as_ref();
        if let Some(user) = user {
            check_user(user, report);
        }
        let user = user.or(hooks.user.as_ref());
        let span = check_fault_for(key, hook, command.fault_for.as_ref(), report);
        fault_for.extend(hook.zip(span));
        let user_at = user.map(|user| report.place(&user.at));
        places.insert(hook, (report.place(&command.argv.at), user_at));
        HookCommand {
            argv: check_argv(key, &command.argv, "hook", report),
            timeout: check_timeout(hook, command.timeout.as_ref(), report),
            user: user.map(|user| user.value.clone()),
        }
    };
    let checked = Hooks {
        of: hooks.of.iter().map(|(hook, command)| (*hook, one(Some(*hook), command))).collect(),
        notify: hooks.notify.as_ref().map(|command| one(None, command)),
    };
    let timeout = |hook: Hook| checked.of.get(&hook).map(|command| command.timeout);
    let settings = HookSettings {
        before_release: timeout(Hook::BeforeRelease),
        before_claim: timeout(Hook::BeforeClaim),
        fault_for,
    };
    if let Some(user) = &hooks.user
        && checked.is_empty()
    {
        report.advice(
            &user.at,
            "`user` has no effect: no hook is configured",
            "add a hook, or leave `user` out",
        );
    }
    (checked, places, settings)
}

fn check_timeout(
    hook: Option<Hook>,
    timeout: Option<&At<Duration>>,
    report: &Diagnostics,
) -> Duration {
    let (default, longest, range) = match hook {
        Some(Hook::BeforeClaim) => (
            DEFAULT_CLAIM_TIMEOUT,
            MAX_CLAIM_TIMEOUT,
            "before_claim delays a takeover: its timeout is 100ms to 1m",
        ),
        Some(Hook::Master | Hook::Backup | Hook::Fault | Hook::Stop | Hook::BeforeRelease)
        | None => (DEFAULT_TIMEOUT, MAX_TIMEOUT, "a hook's timeout is 100ms to 1h"),
    };
    let Some(timeout) = timeout else { return default };
    if timeout.value < MIN_TIMEOUT || timeout.value > longest {
        report.error(
            &timeout.at,
            format!("{range}, not {:?}", timeout.value),
            format!("write timeout = \"{default:?}\", or leave it out"),
        );
    }
    timeout.value
}

/// How long a failure means fault; `None`: it is only reported.
fn check_fault_for(
    key: &str,
    hook: Option<Hook>,
    span: Option<&At<Duration>>,
    report: &Diagnostics,
) -> Option<Duration> {
    let refused = match hook {
        Some(Hook::BeforeClaim) if span.is_none() => return Some(VETO),
        Some(
            Hook::BeforeClaim | Hook::Master | Hook::Backup | Hook::Fault | Hook::BeforeRelease,
        ) => None,
        Some(Hook::Stop) => Some("the daemon ends, and nothing is left to be in fault"),
        None => Some("it only reports what has happened"),
    };
    let At { value, at } = span?;
    if let Some(why) = refused {
        let help = "leave it out: that it failed is logged and in status";
        report.error(at, format!("`fault_for` is not for `{key}`: {why}"), help);
    } else if *value < MIN_FAULT || *value > MAX_FAULT {
        report.error(
            at,
            format!("`fault_for` is 1s to 1h, not {value:?}"),
            format!("write fault_for = \"{VETO:?}\""),
        );
    }
    Some(*value)
}

/// The rules that need this machine: users and programs.
pub(super) fn check_host(
    hooks: &Hooks,
    places: Option<&HookPlaces>,
    faults: &ProgramFaults,
    report: &Diagnostics,
) {
    for (hook, command) in hooks.iter() {
        let (program_at, user_at) = places
            .and_then(|places| places.get(&hook))
            .map_or((None, None), |(program, user)| (Some(program), user.as_ref()));
        report_faults(faults, Some(&command.program()), program_at, user_at, report);
    }
}
