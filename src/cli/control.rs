//! `vipd failover`, `resume`, `drain`, `undrain`, `announce` and `reload`: each sends one request to
//! the running daemon and prints its answer.

use std::path::Path;
use std::process::ExitCode;

use super::output::{fail, say};
use crate::api::client::Drained;
use crate::api::protocol::{Move, MoveOutcome};
use crate::api::{Client, ClientError};

pub(super) fn failover(runtime_dir: &Path, router: &str) -> ExitCode {
    match Client::new(runtime_dir).failover(router) {
        Ok(moves) => say_moves(moves),
        Err(error) => fail(error),
    }
}

pub(super) fn resume(runtime_dir: &Path, router: &str) -> ExitCode {
    say_done(Client::new(runtime_dir).resume(router))
}

pub(super) fn announce(runtime_dir: &Path, router: &str) -> ExitCode {
    say_done(Client::new(runtime_dir).announce(router))
}

pub(super) fn drain(runtime_dir: &Path, force: bool) -> ExitCode {
    match Client::new(runtime_dir).drain(force) {
        Ok(Drained::Moved(text, moves)) => {
            say(text);
            say_moves(moves)
        }
        Ok(Drained::Stored(text)) => say_done(Ok(text)),
        Err(error) => fail(error),
    }
}

pub(super) fn undrain(runtime_dir: &Path) -> ExitCode {
    say_done(Client::new(runtime_dir).undrain())
}

pub(super) fn reload(runtime_dir: &Path) -> ExitCode {
    match Client::new(runtime_dir).reload() {
        Ok(changes) if changes.is_empty() => {
            say("the configuration was read again; nothing in it has changed");
        }
        Ok(changes) => {
            say("the configuration was applied:");
            for change in changes {
                say(format_args!("  {change}"));
            }
        }
        Err(error) => return fail(error),
    }
    ExitCode::SUCCESS
}

fn say_done(done: Result<String, ClientError>) -> ExitCode {
    match done {
        Ok(text) => say(text),
        Err(error) => return fail(error),
    }
    ExitCode::SUCCESS
}

/// Prints who took over; a handover that failed goes to standard error, and the command fails.
fn say_moves(moves: Vec<Move>) -> ExitCode {
    let mut outcome = ExitCode::SUCCESS;
    for ended in moves {
        match ended.outcome {
            MoveOutcome::Taken => say(ended.text),
            MoveOutcome::NobodyCame | MoveOutcome::Interrupted => outcome = fail(ended.text),
        }
    }
    outcome
}
