//! `vipd doctor`: examines this host for problems and reports each [`Finding`] with a command and
//! what that does. Nothing is changed, and the test packets that are sent never leave the host.
//!
//! `kernel` reads interfaces, addresses, routes and sysctls, `firewall` evaluates packet filter
//! rules, and `wire` captures adverts and sends test packets. [`examine`] passes their results to
//! the checks in `interface`, `senders`, `filters` and `reverse_path`. `daemon` and `process` check
//! the daemon, `managers` other programs that change addresses or stop services.

mod daemon;
mod evidence;
mod filters;
mod finding;
pub(crate) mod firewall;
mod interface;
mod kernel;
pub(crate) mod managers;
mod process;
pub(crate) mod removal;
mod reverse_path;
pub(crate) mod rule_match;
mod senders;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use finding::{Finding, ProblemKind, Report, Skipped};

use crate::api::Client;
use crate::api::status::Status;
use crate::config::Config;
use crate::host::netlink::neighbour_tables;
use crate::host::sys;
use crate::vrrp::source::{self, AmbiguousSource, WITHOUT_PEERS};
use evidence::{Evidence, Instance};
use finding::RELOAD;
use kernel::Snapshot;

/// What to examine, and for how long.
#[derive(Clone, Debug)]
pub struct ExamineOptions {
    /// The configuration file; `None`: that of the running daemon, or `default_config`.
    pub config: Option<PathBuf>,
    /// Used if no daemon is running.
    pub default_config: PathBuf,
    /// Runtime directory of the daemon.
    pub runtime_dir: PathBuf,
    /// How long to capture adverts; zero: not at all.
    pub listen: Duration,
}

/// Runs all checks.
pub fn examine(options: &ExamineOptions) -> Report {
    let mut report = Report::default();
    let before = daemon::request_status(&options.runtime_dir, &mut report);
    let path = match (&options.config, &before) {
        (Some(path), _) => path.clone(),
        (None, Some(status)) => PathBuf::from(&status.daemon.config),
        (None, None) => options.default_config.clone(),
    };
    match &before {
        Some(status) => process::check_running(status, &mut report),
        None => process::check_startable(&mut report),
    }
    let config = load_config(&path, &mut report);
    if let Some(config) = &config {
        examine_host(options, &path, config, before.as_ref(), &mut report);
    }
    if let Some(status) = &before {
        daemon::check_status(status, config.as_ref(), &mut report);
    }
    report.findings.sort_by_key(|finding| finding.problem);
    report
}

/// What is to be said of where adverts come from and go to on this host, with what to do about it:
/// sources that only a rule decides, and lists of peers that name nobody else. Nothing if the kernel
/// cannot be asked.
pub fn notes_on_adverts(config: &Config) -> Vec<(String, &'static str)> {
    let Ok(snapshot) = Snapshot::take() else { return Vec::new() };
    let mut notes = Vec::new();
    for router in &config.vrrp.routers {
        let Some(link) = snapshot.link(&router.interface) else { continue };
        let choice = snapshot.choose_source(&config.vrrp, router, link.index, None);
        let ambiguous = choice.note().map(|note| (note.to_string(), AmbiguousSource::HELP));
        let is_own = |ip| snapshot.addresses_of(link.index).any(|there| there.ip == ip);
        let nobody = source::destinations(router, is_own).is_empty();
        let nobody = nobody.then(|| (WITHOUT_PEERS.0.to_owned(), WITHOUT_PEERS.1));
        let named = |(note, help)| (format!("{}: {note}", router.name), help);
        notes.extend(ambiguous.into_iter().chain(nobody).map(named));
    }
    notes
}

fn load_config(path: &Path, report: &mut Report) -> Option<Config> {
    let loaded = Config::load(path).and_then(|config| {
        config.require_routers()?;
        config.check_host()?;
        Ok(config)
    });
    match loaded {
        Ok(config) => Some(config),
        Err(problems) => {
            let count = problems.len();
            let what = if count == 1 { "a problem".into() } else { format!("{count} problems") };
            let path = path.display();
            let text =
                format!("{path} has {what}: vipd does not start with it, and refuses to reload it");
            let fix = format!("vipd check {path}");
            let does = "this shows what is wrong, and where";
            report.found(ProblemKind::ConfigRefused, path, text, does, fix);
            None
        }
    }
}

fn examine_host(
    options: &ExamineOptions,
    path: &Path,
    config: &Config,
    before: Option<&Status>,
    report: &mut Report,
) {
    managers::check_unit_order(config, report);
    let snapshot = match Snapshot::take() {
        Ok(snapshot) => snapshot,
        Err(error) => return report.skip("interfaces and addresses", error.to_string()),
    };
    check_neighbour_tables(config, report);
    let mut instances = Vec::new();
    for router in &config.vrrp.routers {
        match snapshot.link(&router.interface) {
            Some(link) if link.port_of.is_some() => {
                let of = snapshot.name(link.port_of.unwrap_or_default());
                let text = format!(
                    "{} is a port of {of}, which takes all that arrives, so {} is in fault",
                    link.name, router.name
                );
                let path = path.display();
                let does = format!(
                    "this shows the addresses of {of}: the host's own belong there, not on the port; set `interface = \"{of}\"` in {path} and run \"{RELOAD}\""
                );
                let fix = format!("ip address show dev {of}");
                report.found(ProblemKind::InterfaceIsPort, &link.name, text, does, fix);
            }
            Some(link) if link.up => instances.push(Instance { router, link }),
            Some(link) => {
                let enabled =
                    sys::interface_flags(&link.name).is_ok_and(|flags| flags & libc::IFF_UP != 0);
                let (what, does, fix) = match enabled {
                    true => (
                        "has no carrier",
                        "look for its cable, or what it is connected to; this shows its state",
                        format!("ip -d link show {}", link.name),
                    ),
                    false => {
                        ("is down", "this enables it", format!("ip link set {} up", link.name))
                    }
                };
                let text = format!("{} {what}, so {} is in fault", link.name, router.name);
                report.found(ProblemKind::InterfaceDown, &link.name, text, does, fix);
            }
            None => {
                let name = &router.interface;
                let text = format!("there is no interface {name}, so {} is in fault", router.name);
                let does = format!(
                    "this shows the interfaces; correct `interface` in {} and run \"{RELOAD}\"",
                    path.display()
                );
                report.found(ProblemKind::InterfaceAbsent, name, text, does, "ip link show");
            }
        }
    }
    for instance in &instances {
        let used = before.and_then(|status| status.find(&instance.router.name)?.source);
        let choice =
            snapshot.choose_source(&config.vrrp, instance.router, instance.link.index, used);
        interface::check_source(instance, &snapshot, &choice, path, report);
        let runs = before.is_some();
        interface::check_addresses(instance, &snapshot, &config.vrrp, runs, path, report);
        interface::check_arp(instance, &snapshot, report);
        interface::check_mtu(instance, path, report);
        managers::check_networkd(instance.link, report);
        managers::check_networkmanager(instance.link, report);
    }

    let indices: BTreeSet<u32> = instances.iter().map(|instance| instance.link.index).collect();
    let indices: Vec<u32> = indices.into_iter().collect();
    let heard = match wire::listen(&indices, options.listen) {
        Ok(heard) => heard,
        Err(error) => {
            report.skip(
                "adverts on the wire",
                format!("they cannot be listened to ({error}): try again with sudo"),
            );
            BTreeMap::new()
        }
    };
    let after = before.map(|before| {
        Client::new(&options.runtime_dir).status().unwrap_or_else(|_| before.clone())
    });
    let evidence = Evidence {
        path,
        config,
        snapshot: &snapshot,
        instances: &instances,
        heard: &heard,
        before,
        after,
    };
    senders::check_senders(&evidence, report);
    filters::check_filters(&evidence, report);
    reverse_path::check_reverse_paths(&evidence, report);
}

/// Reports a neighbour table that is full to four fifths.
fn check_neighbour_tables(config: &Config, report: &mut Report) {
    let tables = match neighbour_tables() {
        Ok(tables) => tables,
        Err(error) => return report.skip("the neighbour tables", error.to_string()),
    };
    for table in tables {
        let used = config.vrrp.routers.iter().any(|router| router.family == table.family);
        if !used || u64::from(table.entries) * 5 < u64::from(table.limit) * 4 {
            continue;
        }
        let (family, name) = (table.family, table.family.name());
        let text = format!(
            "the {family} neighbour table has {} entries of at most {}: beyond that, packets to hosts without an entry are dropped, adverts to unicast peers among them",
            table.entries, table.limit
        );
        let settings = format!("net.{name}.neigh.default.gc_thresh");
        let fix =
            format!("sysctl -w {settings}2={} {settings}3={}", 2 * table.limit, 4 * table.limit);
        let does = "this makes room, if it is run on the machine itself and not in a container";
        report.found(ProblemKind::NeighbourTable, name, text, does, fix);
    }
}
