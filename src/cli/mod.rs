//! The command line: one file per subcommand that is more than a call.
//!
//! Errors go to standard error in one clear sentence; the exit status is 0, 1 (it failed) or 2
//! (wrong usage).

mod check;
mod demo;
mod run;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Where the configuration is unless told otherwise.
const CONFIG: &str = "/etc/vipd/vipd.toml";

/// Keeps a shared IP address on exactly one healthy server of two or more (VRRP, RFC 9568).
#[derive(Debug, Parser)]
#[command(name = "vipd", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground.
    Run(Run),
    /// Read the configuration and print every problem in it, or what it means.
    Check(Check),
    /// Watch two hosts, a switch and a client fail over, in network namespaces made for it.
    ///
    /// Needs no privileges where unprivileged user namespaces are allowed, and touches nothing
    /// outside the namespaces it makes. Ctrl-C ends it and cleans up.
    Demo,
    /// Run hooks for the daemon: started by it, of no use by hand.
    #[command(hide = true)]
    Helper,
    /// Become what a hook runs as: started by the helper, of no use by hand.
    #[command(hide = true)]
    ExecHook(Rest),
    /// End with the process that started this: used by the lab, of no use by hand.
    #[command(hide = true)]
    LabChild(Rest),
}

#[derive(Debug, Args)]
struct Run {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Lock and record: must be gone after a reboot.
    #[arg(long, value_name = "DIR", default_value = "/run/vipd")]
    runtime_dir: PathBuf,
    /// What must survive a reboot.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vipd")]
    state_dir: PathBuf,
}

#[derive(Debug, Args)]
struct Check {
    /// The configuration file.
    #[arg(value_name = "FILE", default_value = CONFIG)]
    file: PathBuf,
    /// Look at the file alone, not at this machine's hooks and users.
    #[arg(long)]
    file_only: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(run) => run::run(&run.config, &run.runtime_dir, &run.state_dir),
        Command::Check(check) => check::check(&check.file, check.file_only, check.json),
        Command::Demo => demo::demo(),
        Command::Helper => crate::helper::main(),
        Command::ExecHook(Rest { rest }) => crate::helper::exec_hook(rest),
        Command::LabChild(Rest { rest }) => crate::lab::child_main(rest),
    }
}
