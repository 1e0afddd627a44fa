//! `vipd check`: reads the configuration, prints every problem, or "ok" and what it means.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use caps::Capability;

use super::output::fail;
use crate::config::{CheckPlan, Config, Problems, Target};
use crate::doctor;
use crate::helper::process_of_another;
use crate::host::privileges;

/// What root may need to see the file, the programs and the processes.
const SEES: [Capability; 3] =
    [Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE];

/// Checks the file, and unless `file_only` the hooks and users of this machine, and who could change the
/// file. Problems go to stderr, the meaning of the file to stdout, as text or as JSON.
pub(super) fn run(path: &Path, file_only: bool, json: bool) -> ExitCode {
    // Looking up users runs whatever nsswitch.conf names, and the daemon starts this before a restart.
    if let Err(error) = privileges::keep_only(&SEES) {
        return fail(format_args!("cannot give up privileges: {error}"));
    }
    let checked = if file_only { Config::load_draft(path) } else { for_this_machine(path) };
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

fn for_this_machine(path: &Path) -> Result<Config, Problems> {
    let mut config = Config::load(path)?;
    config.check_host()?;
    if !nix::unistd::geteuid().is_root() {
        config.note_what_root_refuses(path);
    }
    for (message, suggestion) in doctor::notes_on_adverts(&config) {
        config.note(&message, suggestion);
    }
    for (message, suggestion) in processes_of_others(&config) {
        config.note(&message, &suggestion);
    }
    Ok(config)
}

fn processes_of_others(config: &Config) -> Vec<(String, String)> {
    let note = |plan: &CheckPlan| {
        let Target::Process { process, user, .. } = &plan.target else { return None };
        let (why, other) = process_of_another(process, user)?;
        let name = &plan.name;
        let help = format!("write user = \"{other}\", if that is whom it should belong to");
        Some((format!("check {name} fails now: {why}"), help))
    };
    config.checks.iter().filter_map(note).collect()
}
