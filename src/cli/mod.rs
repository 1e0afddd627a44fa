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
mod run;
mod status;
mod steer;
pub mod watch;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Where the configuration is unless told otherwise.
const CONFIG: &str = "/etc/vipd/vipd.toml";
/// Where the daemon is found unless told otherwise.
const RUNTIME_DIR: &str = "/run/vipd";
/// Where it keeps what must survive a reboot.
const STATE_DIR: &str = "/var/lib/vipd";

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
    /// Show who is master, since when and why, and what stands in the way.
    ///
    /// Needs root, or membership of the group vipd. With --json the output is one object with
    /// "version", "node", "drained", "routers" and "counters"; names stay once published.
    Status(Status),
    /// Show the status live in the terminal, with deadlines counting down; q ends it.
    ///
    /// When the daemon goes away this says so, and goes on when it is back.
    Watch(Watch),
    /// Show what happened on this host: changes of role with their reasons, warnings, failed hooks.
    ///
    /// Also what happened before the last restart or reboot, and also when no vipd runs.
    Events(Events),
    /// Hand a virtual router over to another host, and say who took it and how fast.
    ///
    /// This host does not take it back until "vipd resume", or until it hears no master at all. If
    /// nobody takes over, the address stays here and the exit status is 1.
    Failover(OneRouter),
    /// Let this host take a virtual router back after a failover.
    Resume(OneRouter),
    /// Hand everything over for maintenance of this host, and take nothing until "vipd undrain".
    ///
    /// Kept over restarts and reboots. A drained host is backup, not in fault.
    Drain(Daemon),
    /// End a drain: this host takes part again.
    Undrain(Daemon),
    /// Announce the addresses of a virtual router again (gratuitous ARP, neighbour advertisements).
    Announce(OneRouter),
    /// Have the running daemon read its configuration again, and say what has changed.
    ///
    /// A file with any problem is refused whole, and everything goes on as before.
    Reload(Daemon),
    /// Look at this host and say what stands in the way, each with the command that mends it.
    ///
    /// The exit status is 0 if nothing was found and 1 if something was. It changes nothing, and
    /// sends only test packets that never leave this host. Best as root: what cannot be looked at
    /// is said.
    Doctor(Doctor),
    /// Remove addresses that a vipd left which no longer runs.
    ///
    /// Only what carries vipd's mark and is named in the configuration; refused while a vipd runs.
    Cleanup(Cleanup),
    /// Serve metrics for Prometheus and a page for people by HTTP: changes nothing, needs no root.
    ///
    /// A process of its own beside the daemon, which it asks by the control socket: it must be a
    /// member of the group vipd. Serves / (the page), /metrics, /healthz (200, or 503 and why),
    /// /status.json and /events.json. There is no login: listen where only those reach it who may
    /// see it.
    Exporter(Exporter),
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
          value_parser = ["master", "backup", "fault", "leaving", "waiting", "stopped"])]
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
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    match Cli::parse().command {
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
            steer::failover(&daemon.runtime_dir, router)
        }
        Command::Resume(OneRouter { router, daemon }) => steer::resume(&daemon.runtime_dir, router),
        Command::Drain(Daemon { runtime_dir }) => steer::drain(&runtime_dir),
        Command::Undrain(Daemon { runtime_dir }) => steer::undrain(&runtime_dir),
        Command::Announce(OneRouter { router, daemon }) => {
            steer::announce(&daemon.runtime_dir, router)
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
        Command::Helper => crate::helper::main(),
        Command::ExecHook(Rest { rest }) => crate::helper::exec_hook(rest),
        Command::LabChild(Rest { rest }) => crate::lab::child_main(rest),
    }
}
