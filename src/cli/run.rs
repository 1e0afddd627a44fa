//! `vipd run`: the daemon.

use std::process::ExitCode;

use crate::daemon::{self, Options};

pub(super) fn run(options: &Options) -> ExitCode {
    match daemon::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vipd: {failure}");
            ExitCode::FAILURE
        }
    }
}
