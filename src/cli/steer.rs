//! `vipd failover`, `resume`, `drain`, `undrain`, `announce` and `reload`: one request each to the
//! daemon that runs, and what it answered.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::daemon::control::{self, Answer, Moved, Request};

/// Hands one virtual router over and says who took it.
pub fn failover(runtime_dir: &Path, router: String) -> ExitCode {
    match control::ask(runtime_dir, &Request::Failover { router }) {
        Ok(answer) => tell(answer),
        Err(error) => fail(error),
    }
}

/// Lets this host take a virtual router back.
pub fn resume(runtime_dir: &Path, router: String) -> ExitCode {
    match control::ask(runtime_dir, &Request::Resume { router }) {
        Ok(answer) => tell(answer),
        Err(error) => fail(error),
    }
}

/// Announces the addresses of a virtual router again.
pub fn announce(runtime_dir: &Path, router: String) -> ExitCode {
    match control::ask(runtime_dir, &Request::Announce { router }) {
        Ok(answer) => tell(answer),
        Err(error) => fail(error),
    }
}

/// Hands everything over and takes nothing, also after a reboot.
pub fn drain(runtime_dir: &Path) -> ExitCode {
    match control::ask(runtime_dir, &Request::Drain) {
        Ok(answer) => {
            if let Answer::Moved { .. } = answer {
                say(
                    "this host is drained, also after a restart or a reboot, until \"vipd undrain\"",
                );
            }
            tell(answer)
        }
        Err(error) => fail(error),
    }
}

/// Ends a drain.
pub fn undrain(runtime_dir: &Path) -> ExitCode {
    match control::ask(runtime_dir, &Request::Undrain) {
        Ok(answer) => tell(answer),
        Err(error) => fail(error),
    }
}

/// Has the configuration read again.
pub fn reload(runtime_dir: &Path) -> ExitCode {
    match control::ask(runtime_dir, &Request::Reload) {
        Ok(answer) => tell(answer),
        Err(error) => fail(error),
    }
}

/// Prints what was done; what was not goes to standard error and fails.
fn tell(answer: Answer) -> ExitCode {
    match answer {
        Answer::Done { text } => say(text),
        Answer::Error { text, .. } => return fail(text),
        Answer::Moved { moves } => {
            let mut outcome = ExitCode::SUCCESS;
            for ended in moves {
                match ended.outcome {
                    Moved::Taken => say(ended.text),
                    Moved::NobodyCame | Moved::Interrupted => outcome = fail(ended.text),
                }
            }
            return outcome;
        }
        Answer::Reloaded { changes } if changes.is_empty() => {
            say("the configuration was read again; nothing in it has changed");
        }
        Answer::Reloaded { changes } => {
            say("the configuration was applied:");
            for change in changes {
                say(format_args!("  {change}"));
            }
        }
        Answer::Status(_) | Answer::Events { .. } => {
            return fail("the daemon answered something else than it was asked");
        }
    }
    ExitCode::SUCCESS
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
