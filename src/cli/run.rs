//! `vipd run`: the daemon.

use std::path::Path;
use std::process::ExitCode;

use crate::daemon::{self, Options};

pub(super) fn run(config: &Path, runtime_dir: &Path, state_dir: &Path) -> ExitCode {
    let options = Options {
        config: config.to_owned(),
        runtime_dir: runtime_dir.to_owned(),
        state_dir: state_dir.to_owned(),
    };
    match daemon::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vipd: {failure}");
            ExitCode::FAILURE
        }
    }
}
