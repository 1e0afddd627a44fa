//! Carries out one run of hooks: one program after another, with logging and timeouts.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::hook::{Finished, HookRun, Outcome};
use super::output::{Lines, Sink};
use super::program::{Program, language};
use crate::config::HookCommand;
use crate::vrrp::Hook;

/// Runs the hooks of one change, until they end or `closing` becomes true as the daemon is gone.
pub(super) async fn run(run: HookRun, mut closing: watch::Receiver<bool>) -> Finished {
    let begin = Instant::now();
    let mut outcome = Outcome::Done;
    let general = run.notify.as_ref().zip(keepalived(run.state)).map(|(notify, state)| {
        let mut notify = notify.clone();
        let priority = run.priority.to_string();
        let what = if run.group { "GROUP" } else { "INSTANCE" };
        notify.argv.extend([what, &run.router, state, &priority].map(str::to_owned));
        notify
    });
    for command in run.commands.iter().chain(general.as_ref()) {
        if *closing.borrow() {
            break;
        }
        let result = one(&run, command, &mut closing).await;
        if outcome == Outcome::Done {
            outcome = result;
        }
    }
    Finished::of(&run, outcome, begin.elapsed())
}

/// The argument of the `notify` hook, as with keepalived; `None`: it does not run.
const fn keepalived(hook: Hook) -> Option<&'static str> {
    match hook {
        Hook::Master => Some("MASTER"),
        Hook::Backup => Some("BACKUP"),
        Hook::Fault => Some("FAULT"),
        Hook::Stop => Some("STOP"),
        Hook::BeforeRelease | Hook::BeforeClaim => None,
    }
}

/// Runs one hook and logs its outcome.
async fn one(run: &HookRun, command: &HookCommand, closing: &mut watch::Receiver<bool>) -> Outcome {
    let begin = Instant::now();
    let program = command.argv.first().map_or("", String::as_str);
    let lines = Lines::of(&run.router, run.state, program);
    let hook =
        Program::start(&command.argv, command.user.as_deref(), environment(run), Sink::Log(lines));
    let outcome = match hook {
        Ok(hook) => finish(hook, command.timeout, closing).await,
        Err(error) => Outcome::NotRun(format!("cannot start a process: {error}")),
    };
    let (router, state, duration) = (&*run.router, run.state.name(), begin.elapsed());
    match &outcome {
        Outcome::Done => info!(router, state, program, ?duration, "hook done"),
        Outcome::Exited(status) => {
            warn!(
                router,
                state,
                program,
                status,
                ?duration,
                "hook failed with exit status {status}"
            );
        }
        Outcome::Killed(signal) => {
            warn!(router, state, program, signal, ?duration, "hook killed by signal {signal}");
        }
        Outcome::TimedOut if *closing.borrow() => {
            warn!(router, state, program, ?duration, "hook was ended with the daemon");
        }
        Outcome::TimedOut => {
            warn!(router, state, program, ?duration, "hook took too long and was ended");
        }
        Outcome::NotRun(why) => error!(router, state, program, "hook not run: {why}"),
        Outcome::Overtaken => {}
    }
    outcome
}

async fn finish(
    mut hook: Program,
    limit: Duration,
    closing: &mut watch::Receiver<bool>,
) -> Outcome {
    let ended = tokio::select! {
        outcome = hook.run() => Some(outcome),
        () = sleep(limit) => None,
        _ = closing.wait_for(|closing| *closing) => None,
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        None => {
            hook.end().await;
            Outcome::TimedOut
        }
    };
    hook.finish_output();
    outcome
}

fn environment(run: &HookRun) -> Vec<(String, String)> {
    let addresses: Vec<String> = run.addresses.iter().map(ToString::to_string).collect();
    let mut environment: Vec<(String, String)> = [
        ("PATH", crate::config::HOOK_PATH.join(":").as_str()),
        ("VIPD_ROUTER", &run.router),
        ("VIPD_STATE", run.state.name()),
        ("VIPD_PREVIOUS_STATE", &run.previous),
        ("VIPD_REASON", &run.reason),
        ("VIPD_PRIORITY", &run.priority.to_string()),
        ("VIPD_ADDRESSES", &addresses.join(" ")),
        ("VIPD_INTERFACE", &run.interface),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if run.group {
        environment.push(("VIPD_GROUP".to_owned(), run.router.clone()));
    }
    environment.extend(language());
    environment
}
