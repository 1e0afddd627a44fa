//! `vipd check`: reads the configuration, prints every problem, or "ok" and what it means.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;
use crate::doctor;

/// Checks the file, and unless `file_only` the hooks and users of this machine. Problems go to
/// stderr, the meaning of the file to stdout, as text or as JSON.
pub(super) fn run(path: &Path, file_only: bool, json: bool) -> ExitCode {
    let checked = Config::load(path).and_then(|config| match file_only {
        true => Ok(config),
        false => config.check_host().map(|()| {
            let mut config = config;
            for (message, suggestion) in doctor::ambiguous_sources(&config) {
                config.note(&message, suggestion);
            }
            config
        }),
    });
    match checked {
        Ok(config) => {
            let text = if json { config.explain_as_json() } else { config.explain() };
            // A closed pipe is no error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            if !json {
                let colours = std::io::stderr().is_terminal();
                for advice in &config.advice {
                    let _ = writeln!(std::io::stderr(), "\n{}", advice.render(colours));
                }
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            let colours = std::io::stderr().is_terminal();
            let _ = writeln!(std::io::stderr(), "{}", problems.render(colours));
            ExitCode::FAILURE
        }
    }
}
