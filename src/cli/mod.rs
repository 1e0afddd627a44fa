//! The command line: one file per subcommand that is more than a call.
//!
//! Errors go to standard error in one clear sentence; the exit status is 0, 1 (it failed) or 2
//! (wrong usage).

mod check;
mod cleanup;
mod demo;
mod doctor;
mod events;
mod exporter;
mod man;
mod run;
mod status;
mod steer;
pub mod watch;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::vrrp::Role;

/// Where the configuration is unless told otherwise.
const CONFIG: &str = "/etc/vipd/vipd.toml";
/// Where the daemon is found unless told otherwise.
const RUNTIME_DIR: &str = "/run/vipd";
/// Where it keeps what must survive a reboot.
const STATE_DIR: &str = "/var/lib/vipd";

/// The commands in the order in which one gets to know them: of the help and of the manual.
const GROUPS: &[(&str, &[&str])] = &[
    ("Look", &["status", "watch", "events", "doctor"]),
    ("Steer", &["failover", "resume", "drain", "undrain", "announce", "reload"]),
    ("Run", &["check", "run", "cleanup", "exporter"]),
    ("Get to know it", &["demo", "completions", "man"]),
];

/// What the manual says first.
const DESCRIPTION: &str = "\
Two or more servers share IP addresses. They tell each other that they live by VRRP adverts, the one \
with the highest priority is master and has the addresses, and if it falls silent the next one takes \
them over. Which addresses, with whom and by which interface stands in `/etc/vipd/vipd.toml`.

The daemon is `vipd run`, which a systemd unit starts; all other commands talk to it or look at what it \
left. To look one must be root or a member of the group vipd, to change something root.";

/// Keeps a shared IP address on exactly one healthy server (VRRP, RFC 9568).
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
    /// Read the configuration; print every problem, or what it means.
    #[command(after_help = "Examples:
  vipd check                        the installed file
  vipd check new.toml --file-only   on another machine than the one it is for")]
    Check(Check),
    /// Show who is master, since when and why, and what stands in the way.
    ///
    /// Needs root, or membership of the group vipd. With --json the output is one object with
    /// "version", "node", "drained", "routers" and "counters"; names stay once published.
    #[command(after_help = "Examples:
  vipd status                       all virtual routers
  vipd status web                   everything about one
  vipd status web --is master       for scripts: the exit status is 0 if it is so
  vipd status --json | jq -r '.routers[] | .name + \" \" + .role'")]
    Status(Status),
    /// Show the status live in the terminal; q ends it.
    ///
    /// Deadlines count down, and changes are told as they happen. When the daemon goes away this says so, and goes on when it is back.
    Watch(Watch),
    /// Show what happened: changes of role with their reasons, warnings.
    ///
    /// Also failed hooks, reloads and what operators did. Also what happened before the last restart or reboot, and also when no vipd runs.
    #[command(after_help = "Examples:
  vipd events | tail                the last ones
  vipd events --follow              as they happen")]
    Events(Events),
    /// Hand a virtual router over, and say who took it and how fast.
    ///
    /// This host does not take it back until "vipd resume", or until it hears no master at all. If
    /// nobody takes over, the address stays here and the exit status is 1.
    #[command(after_help = "Example:
  vipd failover web; vipd resume web   away, and back if this host is the better one")]
    Failover(OneRouter),
    /// Let this host take a virtual router back after a failover.
    Resume(OneRouter),
    /// Hand everything over for maintenance, until "vipd undrain".
    ///
    /// This host takes nothing meanwhile. Kept over restarts and reboots. A drained host is backup, not in fault.
    #[command(after_help = "Example:
  vipd drain && apt-get upgrade && reboot   ... and when all is well: vipd undrain")]
    Drain(Daemon),
    /// End a drain: this host takes part again.
    Undrain(Daemon),
    /// Announce the addresses again (gratuitous ARP, IPv6 neighbours).
    Announce(OneRouter),
    /// Have the daemon read its configuration, and say what changed.
    ///
    /// A file with any problem is refused whole, and everything goes on as before.
    Reload(Daemon),
    /// Say what stands in the way on this host, and how to mend it.
    ///
    /// The exit status is 0 if nothing was found and 1 if something was. It changes nothing, and
    /// sends only test packets that never leave this host. Best as root: what cannot be looked at
    /// is said.
    #[command(after_help = "Examples:
  sudo vipd doctor                  before the first start, and whenever something is odd
  sudo vipd doctor --listen 30s     hears peers with slow adverts, too
  sudo vipd doctor --json | jq -r '.findings[].trouble'")]
    Doctor(Doctor),
    /// Remove addresses that a vipd left which no longer runs.
    ///
    /// Only what carries vipd's mark and is named in the configuration; refused while a vipd runs.
    Cleanup(Cleanup),
    /// Serve metrics for Prometheus and a page for people by HTTP.
    ///
    /// It changes nothing and needs no root. A process of its own beside the daemon, which it asks by the control socket: it must be a
    /// member of the group vipd. Serves / (the page), /metrics, /healthz (200, or 503 and why),
    /// /status.json and /events.json. There is no login: listen where only those reach it who may
    /// see it.
    Exporter(Exporter),
    /// Watch two servers fail over, in network namespaces made for it.
    ///
    /// Needs no privileges where unprivileged user namespaces are allowed, and touches nothing
    /// outside the namespaces it makes. Ctrl-C ends it and cleans up.
    Demo,
    /// Print what a shell needs to complete the arguments of vipd.
    #[command(after_help = "Examples:
  vipd completions bash > /usr/share/bash-completion/completions/vipd
  vipd completions zsh > /usr/share/zsh/vendor-completions/_vipd
  vipd completions fish > /usr/share/fish/vendor_completions.d/vipd.fish")]
    Completions(Completions),
    /// Write the manual pages vipd.8 and vipd.toml.5 into a directory.
    #[command(after_help = "Example:
  vipd man /tmp/man && man -l /tmp/man/vipd.8")]
    Man(Man),
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
    /// Lock, record and control socket: must be gone after a reboot.
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    runtime_dir: PathBuf,
    /// What must survive a reboot.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
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
struct Status {
    /// Show this virtual router alone, and everything about it.
    #[arg(value_name = "NAME")]
    router: Option<String>,
    /// Print the status as JSON.
    #[arg(long)]
    json: bool,
    /// Print nothing; the exit status is 0 if it has this role (without NAME: if all have), else 1.
    #[arg(long, value_name = "ROLE", conflicts_with = "json",
          value_parser = Role::ALL.map(Role::name))]
    is: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Args)]
struct Watch {
    /// Show this virtual router alone, and everything about it.
    #[arg(value_name = "NAME")]
    router: Option<String>,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Args)]
struct Events {
    /// Go on with what happens from now on, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Print each event as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Where the daemon that is meant keeps what must survive a reboot.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
}

#[derive(Debug, Args)]
struct OneRouter {
    /// The virtual router, as the configuration names it.
    #[arg(value_name = "NAME")]
    router: String,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Args)]
struct Daemon {
    /// Where the daemon that is meant has its lock and its socket.
    #[arg(long, value_name = "DIR", default_value = RUNTIME_DIR)]
    runtime_dir: PathBuf,
}

#[derive(Debug, Args)]
struct Cleanup {
    /// The configuration file that names the addresses.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Args)]
struct Exporter {
    /// Where to serve.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9112")]
    listen: SocketAddr,
    #[command(flatten)]
    daemon: Daemon,
}

#[derive(Debug, Args)]
struct Doctor {
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
    daemon: Daemon,
}

#[derive(Debug, Args)]
struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
struct Man {
    /// Where they are written; made if it is missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Debug, Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// The arguments that there are, with the commands in their groups.
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

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let parsed = Cli::from_arg_matches(&command().get_matches());
    match parsed.unwrap_or_else(|error| error.exit()).command {
        Command::Run(run) => run::run(&run.config, &run.runtime_dir, &run.state_dir),
        Command::Check(check) => check::check(&check.file, check.file_only, check.json),
        Command::Status(Status { router, json, is, daemon }) => {
            status::status(&daemon.runtime_dir, router.as_deref(), json, is.as_deref())
        }
        Command::Watch(Watch { router, daemon }) => {
            watch::watch(&daemon.runtime_dir, router.as_deref())
        }
        Command::Events(Events { follow, json, state_dir }) => {
            events::events(&state_dir, follow, json)
        }
        Command::Failover(OneRouter { router, daemon }) => {
            steer::failover(&daemon.runtime_dir, &router)
        }
        Command::Resume(OneRouter { router, daemon }) => {
            steer::resume(&daemon.runtime_dir, &router)
        }
        Command::Drain(Daemon { runtime_dir }) => steer::drain(&runtime_dir),
        Command::Undrain(Daemon { runtime_dir }) => steer::undrain(&runtime_dir),
        Command::Announce(OneRouter { router, daemon }) => {
            steer::announce(&daemon.runtime_dir, &router)
        }
        Command::Reload(Daemon { runtime_dir }) => steer::reload(&runtime_dir),
        Command::Cleanup(Cleanup { config, daemon }) => {
            cleanup::cleanup(&config, &daemon.runtime_dir)
        }
        Command::Exporter(Exporter { listen, daemon }) => {
            exporter::exporter(listen, &daemon.runtime_dir)
        }
        Command::Doctor(Doctor { config, listen, json, daemon }) => {
            let options = crate::doctor::Options {
                config,
                default_config: CONFIG.into(),
                runtime_dir: daemon.runtime_dir,
                listen,
            };
            doctor::doctor(&options, json)
        }
        Command::Demo => demo::demo(),
        Command::Completions(Completions { shell }) => man::completions(&command(), shell),
        Command::Man(Man { directory }) => man::man(&command(), &directory),
        Command::Helper => crate::helper::main(),
        Command::ExecHook(Rest { rest }) => crate::helper::exec_hook(rest),
        Command::LabChild(Rest { rest }) => crate::lab::child_main(rest),
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
