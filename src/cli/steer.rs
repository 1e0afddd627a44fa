//! `vipd failover`, `resume`, `drain`, `undrain`, `announce` and `reload`: one request each to the
//! daemon that runs, and what it answered.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::api::client::Drained;
use crate::api::protocol::{Move, Moved};
use crate::api::{Client, ClientError};

/// Hands one virtual router over and says who took it.
pub fn failover(runtime_dir: &Path, router: &str) -> ExitCode {
    match Client::new(runtime_dir).failover(router) {
        Ok(moves) => say_moves(moves),
        Err(error) => fail(error),
    }
}

/// Lets this host take a virtual router back.
pub fn resume(runtime_dir: &Path, router: &str) -> ExitCode {
    say_done(Client::new(runtime_dir).resume(router))
}

/// Announces the addresses of a virtual router again.
pub fn announce(runtime_dir: &Path, router: &str) -> ExitCode {
    say_done(Client::new(runtime_dir).announce(router))
}

/// Hands everything over and takes nothing, also after a reboot.
pub fn drain(runtime_dir: &Path) -> ExitCode {
    match Client::new(runtime_dir).drain() {
        Ok(Drained::Moved(moves)) => {
            say("this host is drained, also after a restart or a reboot, until \"vipd undrain\"");
            say_moves(moves)
        }
        Ok(Drained::Stored(text)) => say_done(Ok(text)),
        Err(error) => fail(error),
    }
}

/// Ends a drain.
pub fn undrain(runtime_dir: &Path) -> ExitCode {
    say_done(Client::new(runtime_dir).undrain())
}

/// Has the configuration read again.
pub fn reload(runtime_dir: &Path) -> ExitCode {
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

/// Who took what; what nobody took goes to standard error and fails.
fn say_moves(moves: Vec<Move>) -> ExitCode {
    let mut outcome = ExitCode::SUCCESS;
    for ended in moves {
        match ended.outcome {
            Moved::Taken => say(ended.text),
            Moved::NobodyCame | Moved::Interrupted => outcome = fail(ended.text),
        }
    }
    outcome
}

/// To standard output; a reader that has gone away has seen enough.
pub(super) fn say(text: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// To standard error.
pub(super) fn fail(text: impl fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "vipd: {text}");
    ExitCode::FAILURE
}
