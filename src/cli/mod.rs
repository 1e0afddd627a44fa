//! The command line: one file per subcommand.
//!
//! Errors go to standard error in one clear sentence; the exit status is 0, 1 (it failed) or 2
//! (wrong usage).

mod check;
mod cleanup;
mod control;
mod demo;
mod doctor;
pub(crate) mod events;
mod exporter;
mod man;
mod output;
mod run;
pub(crate) mod status;
pub mod watch;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::vrrp::Role;

/// The default configuration file.
const CONFIG: &str = "/etc/vipd/vipd.toml";
/// The default runtime directory.
const RUNTIME_DIR: &str = "/run/vipd";
/// The default state directory.
const STATE_DIR: &str = "/var/lib/vipd";
/// The default directory of the locks on virtual routers.
const LOCK_DIR: &str = "/run/vipd/locks";

/// The order of the commands in the help and in the manual.
const GROUPS: &[(&str, &[&str])] = &[
    ("Inspect", &["status", "watch", "events", "doctor"]),
    ("Control", &["failover", "resume", "drain", "undrain", "announce", "reload"]),
    ("Run", &["check", "run", "cleanup", "exporter"]),
    ("Other", &["demo", "completions", "man"]),
];

/// The description in the manual.
const DESCRIPTION: &str = "\
Two or more servers share IP addresses. They send VRRP adverts; the one with the highest priority is \
master and has the addresses, and if it falls silent the next one takes them over. The addresses, the \
interface and the peers are configured in `/etc/vipd/vipd.toml`.

The daemon is `vipd run`, which a systemd unit starts; the other commands talk to it or read its files. \
Reading needs root or membership of the group vipd, changing something needs root.";

/// Keeps a shared IP address on exactly one healthy server (VRRP, RFC 9568).
#[derive(Debug, Parser)]
#[command(name = "vipd", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Run the daemon in the foreground.
    Run(RunArgs),
    /// Read the configuration; print every problem, or what it means.
    #[command(after_help = "Examples:
  vipd check                        the installed file
  vipd check new.toml --file-only   on another machine than the one it is for")]
    Check(CheckArgs),
    /// Show who is master, since when and why, and what is wrong.
    ///
    /// Needs root, or membership of the group vipd. With --json the output is one object with
    /// "version", "node", "drained", "routers" and "counters"; names stay once published.
    #[command(after_help = "Examples:
  vipd status                       all virtual routers
  vipd status web                   everything about one
  vipd status web --is master       for scripts: the exit status is 0 if it is so
  vipd status --json | jq -r '.routers[] | .name + \" \" + .role'")]
    Status(StatusArgs),
    /// Show the status live in the terminal; q ends it.
    ///
    /// Deadlines count down, and changes appear as they happen. If the daemon stops answering, this
    /// says so and continues when it answers again.
    Watch(WatchArgs),
    /// Show what happened: changes of role with their reasons, warnings.
    ///
    /// Also failed hooks, reloads and what operators did. The history outlives restarts and reboots, and
    /// is shown when no daemon runs, too.
    #[command(after_help = "Examples:
  vipd events | tail                the last ones
  vipd events --follow              as they happen")]
    Events(EventsArgs),
    /// Hand a virtual router over, and say who took it and how fast.
    ///
    /// This host does not take it back until "vipd resume", or until it hears no master at all. If
    /// nobody takes over, the address stays here and the exit status is 1.
    #[command(after_help = "Example:
  vipd failover web; vipd resume web   away, and back if this host is the better one")]
    Failover(RouterArgs),
    /// Let this host take a virtual router back after a failover.
    Resume(RouterArgs),
    /// Hand everything over for maintenance, until "vipd undrain".
    ///
    /// This host is the last resort meanwhile, also after a restart or a reboot: it gives way to any
    /// other host that is fit, and serves only where there is none, with priority 1. With --force it
    /// releases at once and does not serve at all. It is not in fault. What it owns (priority 255)
    /// stays.
    #[command(after_help = "Example:
  vipd drain && apt-get upgrade && reboot   ... and when all is well: vipd undrain")]
    Drain(DrainArgs),
    /// End a drain: this host takes part again.
    Undrain(DaemonArgs),
    /// Announce the addresses again (gratuitous ARP, IPv6 neighbours).
    Announce(RouterArgs),
    /// Have the daemon read its configuration, and say what changed.
    ///
    /// A file with any problem is refused as a whole, and the running configuration stays.
    Reload(DaemonArgs),
    /// Find what keeps vipd from working on this host, and how to fix it.
    ///
    /// The exit status is 0 if nothing was found and 1 if something was. It changes nothing, and
    /// sends only test packets that never leave this host. Run it as root: it names what it could
    /// not examine.
    #[command(after_help = "Examples:
  sudo vipd doctor                  before the first start, and when something is wrong
  sudo vipd doctor --listen 30s     also hears peers with slow adverts
  sudo vipd doctor --json | jq -r '.findings[].problem'")]
    Doctor(DoctorArgs),
    /// Remove addresses left behind by a vipd that is gone.
    ///
    /// Removes only addresses with vipd's mark that the configuration names. Refused while a daemon runs.
    Cleanup(CleanupArgs),
    /// Serve metrics for Prometheus and a page for people by HTTP.
    ///
    /// A separate process that changes nothing and needs no root; it asks the daemon through the
    /// control socket, so its user must be a member of the group vipd. Serves / (the page), /metrics,
    /// /healthz (200, or 503 and why), /status.json and /events.json. There is no login: listen on an
    /// address that only those can reach who may see it.
    Exporter(ExporterArgs),
    /// Watch two servers fail over, in network namespaces made for it.
    ///
    /// Needs no privileges where unprivileged user namespaces are allowed, and touches nothing
    /// outside the namespaces it makes. Ctrl-C ends it and cleans up.
    Demo,
    /// Print the completion script for a shell.
    #[command(after_help = "Examples:
  vipd completions bash > /usr/share/bash-completion/completions/vipd
  vipd completions zsh > /usr/share/zsh/vendor-completions/_vipd
  vipd completions fish > /usr/share/fish/vendor_completions.d/vipd.fish")]
    Completions(CompletionsArgs),
    /// Write the manual pages vipd.8 and vipd.toml.5 into a directory.
    #[command(after_help = "Example:
  vipd man man && man -l man/vipd.8")]
    Man(ManArgs),
    /// Run hooks for the daemon; started by it, not by hand.
    #[command(hide = true)]
    Helper,
    /// Become the user that a hook runs as; started by the helper, not by hand.
    #[command(hide = true)]
    ExecHook(RestArgs),
    /// End with the process that started this; used by the lab, not by hand.
    #[command(hide = true)]
    LabChild(RestArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// Directory for the record and the control socket; must not survive a reboot.
    ///
    /// This directory and the next one, and all above them, must be writable by root only. They are
    /// made if they are missing.
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    runtime_dir: PathBuf,
    /// Directory for the history and the drained flag; must survive a reboot.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
    #[command(flatten)]
    lock: LockArgs,
}

#[derive(Debug, Args)]
struct LockArgs {
    /// Directory for the locks on virtual routers, the same for all daemons of the host.
    #[arg(long, value_name = "DIR", default_value = LOCK_DIR)]
    lock_dir: PathBuf,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The configuration file.
    #[arg(value_name = "FILE", default_value = CONFIG)]
    file: PathBuf,
    /// Check the file only, not the hooks and users of this machine.
    #[arg(long)]
    file_only: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Show this virtual router alone, and everything about it.
    #[arg(value_name = "NAME")]
    router: Option<String>,
    /// Print the status as JSON.
    #[arg(long)]
    json: bool,
    /// Print nothing; the exit status is 0 if it has this role (without NAME: if all have it), else 1.
    #[arg(long, value_name = "ROLE", conflicts_with = "json",
          value_parser = Role::ALL.map(Role::name))]
    is: Option<String>,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Args)]
struct WatchArgs {
    /// Show this virtual router alone, and everything about it.
    #[arg(value_name = "NAME")]
    router: Option<String>,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Args)]
struct EventsArgs {
    /// Go on with new events, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Print each event as one line of JSON.
    #[arg(long)]
    json: bool,
    /// State directory of the daemon.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
}

#[derive(Debug, Args)]
struct RouterArgs {
    /// The virtual router, as the configuration names it.
    #[arg(value_name = "NAME")]
    router: String,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Args)]
struct DaemonArgs {
    /// Runtime directory of the daemon.
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    runtime_dir: PathBuf,
}

#[derive(Debug, Args)]
struct DrainArgs {
    /// Release at once, and do not serve even where no other host does.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Args)]
struct CleanupArgs {
    /// The configuration file that names the addresses.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(flatten)]
    lock: LockArgs,
}

#[derive(Debug, Args)]
struct ExporterArgs {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9112")]
    listen: SocketAddr,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// The configuration file. Default: that of the running daemon, or /etc/vipd/vipd.toml.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Listen this long for adverts; "0s" does not listen.
    #[arg(long, value_name = "SPAN", default_value = "4s", value_parser = humantime::parse_duration)]
    listen: Duration,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, Args)]
struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
struct ManArgs {
    /// Where they are written; created if it is missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Debug, Args)]
struct RestArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// The command line, with the commands in their groups.
fn command() -> clap::Command {
    let command = Cli::command();
    let mut text = String::new();
    for (title, names) in GROUPS {
        text += &format!("{title}:\n");
        for name in *names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            text += &format!("  {name:11} {}\n", about.trim_end_matches('.'));
        }
        text.push('\n');
    }
    text += "\"vipd COMMAND --help\" says more. Manual: vipd(8), vipd.toml(5).";
    command
        .help_template("{about}\n\n{usage-heading} vipd COMMAND [OPTIONS]{after-help}")
        .after_help(text)
}

/// Parses the arguments of this process and runs the command.
pub fn main() -> ExitCode {
    let parsed = Cli::from_arg_matches(&command().get_matches());
    match parsed.unwrap_or_else(|error| error.exit()).command {
        Commands::Run(RunArgs { config, runtime_dir, state_dir, lock }) => {
            let lock_dir = lock.lock_dir;
            run::run(&crate::daemon::Options { config, runtime_dir, state_dir, lock_dir })
        }
        Commands::Check(check) => check::run(&check.file, check.file_only, check.json),
        Commands::Status(StatusArgs { router, json, is, daemon }) => {
            status::run(&daemon.runtime_dir, router.as_deref(), json, is.as_deref())
        }
        Commands::Watch(WatchArgs { router, daemon }) => {
            watch::run(&daemon.runtime_dir, router.as_deref())
        }
        Commands::Events(EventsArgs { follow, json, state_dir }) => {
            events::run(&state_dir, follow, json)
        }
        Commands::Failover(RouterArgs { router, daemon }) => {
            control::failover(&daemon.runtime_dir, &router)
        }
        Commands::Resume(RouterArgs { router, daemon }) => {
            control::resume(&daemon.runtime_dir, &router)
        }
        Commands::Drain(DrainArgs { force, daemon }) => control::drain(&daemon.runtime_dir, force),
        Commands::Undrain(DaemonArgs { runtime_dir }) => control::undrain(&runtime_dir),
        Commands::Announce(RouterArgs { router, daemon }) => {
            control::announce(&daemon.runtime_dir, &router)
        }
        Commands::Reload(DaemonArgs { runtime_dir }) => control::reload(&runtime_dir),
        Commands::Cleanup(CleanupArgs { config, daemon, lock }) => {
            cleanup::run(&config, &daemon.runtime_dir, &lock.lock_dir)
        }
        Commands::Exporter(ExporterArgs { listen, daemon }) => {
            exporter::run(listen, &daemon.runtime_dir)
        }
        Commands::Doctor(DoctorArgs { config, listen, json, daemon }) => {
            let options = crate::doctor::ExamineOptions {
                config,
                default_config: CONFIG.into(),
                runtime_dir: daemon.runtime_dir,
                listen,
            };
            doctor::run(&options, json)
        }
        Commands::Demo => demo::run(),
        Commands::Completions(CompletionsArgs { shell }) => man::completions(&command(), shell),
        Commands::Man(ManArgs { directory }) => man::man(&command(), &directory),
        Commands::Helper => crate::helper::main(),
        Commands::ExecHook(RestArgs { rest }) => crate::helper::exec_hook(rest),
        Commands::LabChild(RestArgs { rest }) => crate::lab::child_main(rest),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_help_names_every_command_once_and_fits_eighty_columns() {
        let mut command = command();
        command.clone().debug_assert();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let times = grouped.iter().filter(|name| **name == sub.get_name()).count();
            assert_eq!(times, 1, "{}", sub.get_name());
        }
        let help = command.render_help().to_string();
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        assert!(!help.contains("\n\n\n"), "{help}");
    }

    #[test]
    fn a_script_can_ask_for_every_role() {
        let parse = |role| Cli::try_parse_from(["vipd", "status", "--is", role]);
        for role in Role::ALL {
            assert!(parse(role.name()).is_ok(), "{role}");
        }
        assert!(parse("mastre").is_err());
    }
}
