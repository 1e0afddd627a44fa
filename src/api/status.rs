//! What `vipd status` tells: the daemon's state as one JSON document.
//!
//! [`Status`] is the schema. Names are snake_case and stay once published; fields may be added, and
//! words (roles, reasons, outcomes) too, so consumers must bear new ones. Times are RFC 3339 in UTC,
//! durations are numbers of seconds named `_seconds`, and `null` means "there is none".
//!
//! ```json
//! { "version": 1, "node": "web-a", "drained": false, "stopping": false,
//!   "daemon": { "version": "0.1.0", "pid": 4711, "config": "/etc/vipd/vipd.toml",
//!               "started_at": "2026-11-20T12:00:00.000Z" },
//!   "routers": [ {
//!     "name": "web", "role": "master", "priority": 150, "effective_priority": 130,
//!     "priority_changes": [ { "check": "slow", "adds": -20, "text": "check slow fails" } ],
//!     "degraded": false, "group": "gateway", "fault_reasons": [],
//!     "checks": [ { "name": "slow", "verdict": "failing", "verdict_seconds": 4.2, "streak": 5,
//!                   "effect": "weight", "weight": -20, "failed": true, "took_seconds": 3.0,
//!                   "output": "no answer within 3s", "at": "2026-11-20T12:00:01.000Z" } ],
//!     "last_change": { "at": "2026-11-20T12:00:01.234Z", "from": "backup", "to": "master",
//!                      "why": "master 192.0.2.2 was silent for 3.391 s",
//!                      "cause": "master_silent" },
//!     "transitions": [ { "at": "...", "from": "backup", "to": "master", "why": "...",
//!                        "cause": "..." } ],
//!     "addresses": [ { "address": "192.0.2.10", "advertised": true, "present": true,
//!                      "lease_seconds": 1.62 } ],
//!     "interface": "eth0", "vrid": 51, "family": "ipv4", "version": 3,
//!     "advert_interval_seconds": 1.0, "source": "192.0.2.1",
//!     "heard": { "address": "192.0.2.2", "priority": 100, "interval_seconds": 1.0,
//!                "checksum": "pseudo-header", "seconds_ago": 3.9 },
//!     "incompatible": [ { "address": "192.0.2.9", "change": "they are VRRP version 2: ...",
//!                         "seconds_ago": 0.4 } ],
//!     "next": { "for": "advert", "in_seconds": 0.62 },
//!     "held_back": false, "drained": false,
//!     "last_hook": { "hook": "master", "outcome": "done", "failed": false, "at": "...", "took_seconds": 0.05 },
//!     "role_seconds": { "waiting": 0.002, "backup": 3.402, "master": 81.0 },
//!     "counters": { ... } } ],
//!   "counters": { "adverts_sent": 81, "adverts_refused": 0, "adverts_received": 12,
//!                 "announcements": 5, "contending_adverts": 0, "contending_announcements": 0,
//!                 "addresses_removed": 0, "renewals_failed": 0, "discards": { "malformed": 1 },
//!                 "advert_lateness": { "bounds_seconds": [0.0001, ...], "counts": [79, ...],
//!                                      "sum_seconds": 0.003 },
//!                 "renewal_lateness": { ... },
//!                 "transitions": [ { "from": "backup", "to": "master", "cause": "master_silent",
//!                                    "count": 1 } ],
//!                 "hooks": [ { "hook": "master", "outcome": "done", "count": 1 } ] },
//!   "stray_discards": { "unknown_router": 1 } }
//! ```

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::api::counters::{Counters, Word};
use crate::helper::CheckResult;
use crate::host::Host;
use crate::vrrp::{
    self, Effect, Instant, Node, Phase, Priority, State, Verdict, Version, VirtualRouter,
};

/// The daemon and all its virtual routers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name in the configuration.
    pub node: String,
    /// Maintenance: the host takes nothing over until undrained.
    pub drained: bool,
    /// The daemon is about to end.
    pub stopping: bool,
    /// The process.
    pub daemon: Daemon,
    /// In the configuration's order, those that are leaving for good last.
    pub routers: Vec<Router>,
    /// Counted since the daemon started, of all virtual routers, also of those removed meanwhile.
    pub counters: Counters,
    /// Those of the discarded packets that meant no virtual router here, by reason.
    #[serde(default)]
    pub stray_discards: BTreeMap<Word, u64>,
}

/// The process that answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Daemon {
    /// Of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The file it was told to read.
    pub config: String,
    /// When it started.
    pub started_at: String,
}

/// One virtual router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Router {
    /// Its name in the configuration.
    pub name: String,
    /// master, backup, claiming, fault, leaving, waiting or stopped.
    pub role: String,
    /// The configured priority.
    pub priority: u8,
    /// The priority in force: the configured one with `priority_changes`.
    pub effective_priority: u8,
    /// What makes the two differ.
    #[serde(default)]
    pub priority_changes: Vec<PriorityChange>,
    /// A check without which it should not be master fails, and it stays one only as long as no
    /// other host is fit (`on_fail = "last"`).
    #[serde(default)]
    pub degraded: bool,
    /// The sync group with whose other members it is master, or not.
    #[serde(default)]
    pub group: Option<String>,
    /// Its checks, in the order of the configuration.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Why it cannot take part; empty unless the role is fault or waiting.
    pub fault_reasons: Vec<Reason>,
    /// `None` before the first decision.
    pub last_change: Option<Change>,
    /// The last few changes of role since the daemon started, the newest (`last_change`) first.
    #[serde(default)]
    pub transitions: Vec<Change>,
    /// Every address it shares, advertised ones first.
    pub addresses: Vec<Address>,
    /// The interface that carries adverts and addresses.
    pub interface: String,
    /// Identifies it on its link.
    pub vrid: u8,
    /// "ipv4" or "ipv6": of the adverts.
    pub family: String,
    /// Of the protocol: 2 or 3.
    pub version: u8,
    /// Time between our adverts.
    pub advert_interval_seconds: f64,
    /// Where our adverts come from; `None`: the interface has no fitting address.
    pub source: Option<IpAddr>,
    /// The last advert of another router; `None`: never heard anybody.
    pub heard: Option<Heard>,
    /// Peers that mean this virtual router, but whose settings differ.
    pub incompatible: Vec<Incompatible>,
    /// What it does next by itself; `None`: it waits for something to happen.
    pub next: Option<Next>,
    /// Moved away by `vipd failover`: it does not preempt until `vipd resume`.
    pub held_back: bool,
    /// As the whole host is.
    pub drained: bool,
    /// The last hook that ended.
    pub last_hook: Option<LastHook>,
    /// How long it has had which role since the daemon started.
    #[serde(default)]
    pub role_seconds: BTreeMap<Word, f64>,
    /// Counted of it since the daemon started.
    #[serde(default)]
    pub counters: Counters,
}

/// A reason for fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// A word for programs.
    pub reason: String,
    /// A sentence for people.
    pub text: String,
}

/// A reason why the priority in force is not the configured one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PriorityChange {
    /// The check; `None`: it is a newcomer that may be deaf.
    pub check: Option<String>,
    /// What is added to the priority; `None`: it is 1, whatever else is added.
    pub adds: Option<i32>,
    /// A few words for people.
    pub text: String,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name in the configuration.
    pub name: String,
    /// unknown, passing or failing.
    pub verdict: String,
    /// For how long that has been its verdict.
    pub verdict_seconds: f64,
    /// How many runs in a row have passed, or have failed; up to a second old.
    pub streak: u32,
    /// What it means if it fails: fault, last, weight or number.
    pub effect: String,
    /// What it adds to the priority: while it passes if it is positive, while it fails if it is
    /// negative; of a file the number in it.
    pub weight: Option<i16>,
    /// What the last run printed or found; `None`: there was none yet.
    pub output: Option<String>,
    /// Whether the last run failed.
    pub failed: bool,
    /// When it ended.
    pub at: Option<String>,
    /// How long it took.
    pub took_seconds: Option<f64>,
}

/// A change of role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: String,
    /// The role before.
    pub from: String,
    /// The role since.
    pub to: String,
    /// The reason, as in the log.
    pub why: String,
    /// A word for the reason: [`Why::name`](crate::vrrp::Why::name).
    #[serde(default)]
    pub cause: Word,
}

/// A shared address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Whether it stands in the adverts.
    pub advertised: bool,
    /// The interface has it, put there by us (or, for priority 255, by the host).
    pub present: bool,
    /// When the kernel removes it unless it is renewed; `None`: never, or it is not here.
    pub lease_seconds: Option<f64>,
}

/// An advert of another router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// Who sent it.
    pub address: IpAddr,
    /// Its priority; 0: it was leaving.
    pub priority: u8,
    /// The interval it uses.
    pub interval_seconds: f64,
    /// "pseudo-header" or "plain"; `None` where there is only one form.
    pub checksum: Option<String>,
    /// How long ago.
    pub seconds_ago: f64,
}

/// A peer that cannot be understood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incompatible {
    /// Who.
    pub address: IpAddr,
    /// What differs and which key to change.
    pub change: String,
    /// When it was last heard.
    pub seconds_ago: f64,
}

/// A deadline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Next {
    /// advert, takeover, hook_limit, successor_limit, release or retry.
    #[serde(rename = "for")]
    pub what: String,
    /// In how long.
    pub in_seconds: f64,
}

/// A hook that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastHook {
    /// master, backup, fault, stop or before_release.
    pub hook: String,
    /// "done", or how it failed.
    pub outcome: String,
    /// It did not do its work; one that was overtaken by a newer state had none to do.
    #[serde(default)]
    pub failed: bool,
    /// When it ended.
    pub at: String,
    /// How long it ran.
    pub took_seconds: f64,
}

/// What the daemon knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Process<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The configuration file.
    pub config: &'a Path,
    /// When it started.
    pub started_at: SystemTime,
    /// Whether it was told to stop.
    pub stopping: bool,
}

impl Status {
    /// The state now.
    pub fn of(process: Process<'_>, node: &Node, host: &Host) -> Self {
        let now = host.now();
        let mut there: BTreeMap<&str, There> = BTreeMap::new();
        Status {
            node: process.node.to_owned(),
            drained: node.is_drained(),
            stopping: process.stopping,
            daemon: Daemon {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                config: process.config.display().to_string(),
                started_at: rfc3339(process.started_at),
            },
            routers: node
                .routers()
                .map(|router| {
                    let interface = &router.config().interface;
                    let there = there.entry(interface).or_insert_with(|| {
                        let found = host.addresses(interface);
                        found.into_iter().map(|found| (found.ip, found.ours)).collect()
                    });
                    one_router(now, router, node, host, there)
                })
                .collect(),
            counters: host.tallies.total(),
            stray_discards: host.tallies.strays().clone(),
        }
    }

    /// The same after a while in which nothing happened.
    pub fn aged(mut self, by: Duration) -> Self {
        let by = seconds(by);
        for router in &mut self.routers {
            let ago = router.heard.iter_mut().map(|heard| &mut heard.seconds_ago);
            ago.chain(router.incompatible.iter_mut().map(|peer| &mut peer.seconds_ago))
                .for_each(|ago| *ago += by);
            router.checks.iter_mut().for_each(|check| check.verdict_seconds += by);
            let left = router.next.iter_mut().map(|next| &mut next.in_seconds);
            let leases = router.addresses.iter_mut();
            left.chain(leases.filter_map(|address| address.lease_seconds.as_mut()))
                .for_each(|left| *left = (*left - by).max(0.0));
        }
        self
    }

    /// The virtual router of that name.
    pub fn find(&self, name: &str) -> Option<&Router> {
        self.routers.iter().find(|router| router.name == name)
    }
}

/// The addresses on an interface, and whether they are ours.
type There = BTreeMap<IpAddr, bool>;

fn one_router(
    now: Instant,
    router: &VirtualRouter,
    node: &Node,
    host: &Host,
    there: &There,
) -> Router {
    let config = router.config();
    let beside = host.beside(router.id());
    let tally = host.tallies.tally(router);
    let ago = |at: Instant| seconds(now - at);
    let transitions: Vec<Change> = beside
        .transitions
        .iter()
        .map(|(at, change)| Change {
            at: rfc3339(*at),
            from: change.from.name().to_owned(),
            to: change.to.name().to_owned(),
            why: change.why.to_string(),
            cause: change.why.name().into(),
        })
        .collect();
    Router {
        name: config.name.to_string(),
        role: router.role().name().to_owned(),
        priority: config.priority.get(),
        effective_priority: router.effective_priority().get(),
        priority_changes: priority_changes(router, node),
        degraded: router.degraded(),
        group: node.group_of(router.id()).map(|group| group.name().to_string()),
        checks: checks_of(router, node).map(|check| one_check(now, check, host)).collect(),
        fault_reasons: router
            .fault_reasons()
            .map(|reason| Reason { reason: reason.name().to_owned(), text: reason.to_string() })
            .collect(),
        last_change: transitions.first().cloned(),
        transitions,
        addresses: addresses(now, router, there, beside.lease_until),
        interface: config.interface.to_string(),
        vrid: config.vrid.get(),
        family: config.family.to_string().to_lowercase(),
        version: match config.version {
            Version::V2 => 2,
            Version::V3 => 3,
        },
        advert_interval_seconds: seconds(config.advert_interval.duration()),
        source: router.source(),
        heard: router.peer().map(|peer| Heard {
            address: peer.source,
            priority: peer.priority.get(),
            interval_seconds: seconds(peer.interval.duration()),
            checksum: peer.checksum.map(|form| form.to_string()),
            seconds_ago: ago(peer.at),
        }),
        incompatible: router
            .incompatible()
            .iter()
            .map(|peer| Incompatible {
                address: peer.source,
                change: peer.mismatch.to_string(),
                seconds_ago: ago(peer.at),
            })
            .collect(),
        next: next(router)
            .map(|(what, at)| Next { what: what.to_owned(), in_seconds: seconds(at - now) }),
        held_back: router.held_back(),
        drained: node.is_drained(),
        last_hook: beside.last_hook.map(|ended| LastHook {
            hook: ended.hook.name().to_owned(),
            outcome: ended.outcome.to_string(),
            failed: ended.outcome.is_failure(),
            at: rfc3339(ended.at),
            took_seconds: seconds(ended.took),
        }),
        role_seconds: tally
            .map(|tally| tally.spans(now))
            .unwrap_or_default()
            .into_iter()
            .map(|(role, span)| (role.name().into(), seconds(span)))
            .collect(),
        counters: tally.map(|tally| tally.counters.clone()).unwrap_or_default(),
    }
}

fn checks_of<'a>(
    router: &'a VirtualRouter,
    node: &'a Node,
) -> impl Iterator<Item = &'a vrrp::Check> + 'a {
    let named = &router.config().checks;
    node.checks().filter(|check| named.contains(&check.config().name))
}

fn one_check(now: Instant, check: &vrrp::Check, host: &Host) -> Check {
    let config = check.config();
    let last = host.checks.last(&config.name);
    let (effect, weight) = match config.effect {
        Effect::Fault => ("fault", None),
        Effect::Last => ("last", None),
        Effect::Weight(weight) => ("weight", Some(weight)),
        Effect::Number => ("number", Some(check.number())),
    };
    Check {
        name: config.name.to_string(),
        verdict: check.verdict().name().to_owned(),
        verdict_seconds: seconds(now - check.since()),
        streak: check.streak(),
        effect: effect.to_owned(),
        weight,
        output: last.map(|run| run.output.clone()),
        failed: last.is_some_and(|run| run.result == CheckResult::Failed),
        at: last.map(|run| rfc3339(run.at)),
        took_seconds: last.map(|run| run.took.as_micros() as f64 / 1e6),
    }
}

/// What its checks, and its being new, do to its priority.
fn priority_changes(router: &VirtualRouter, node: &Node) -> Vec<PriorityChange> {
    if router.config().priority == Priority::OWNER {
        return Vec::new();
    }
    let mut changes = Vec::new();
    for check in checks_of(router, node) {
        let config = check.config();
        let (adds, text) = match (config.effect, check.verdict()) {
            (Effect::Weight(weight @ 1..), Verdict::Passing) => (Some(weight), "passes"),
            (Effect::Weight(weight @ ..=-1), Verdict::Failing) => (Some(weight), "fails"),
            (Effect::Number, Verdict::Passing) if check.number() != 0 => {
                (Some(check.number()), "reads that number")
            }
            (Effect::Last, Verdict::Failing) => (None, "fails, and means last"),
            (Effect::Fault | Effect::Last | Effect::Weight(_) | Effect::Number, _) => continue,
        };
        changes.push(PriorityChange {
            check: Some(config.name.to_string()),
            adds: adds.map(i32::from),
            text: format!("check {} {text}", config.name),
        });
    }
    if matches!(router.state(), State::Master { deaf_until: Some(_), .. }) {
        let text = "nobody was heard, so it may be deaf, and it does not preempt".to_owned();
        changes.push(PriorityChange { check: None, adds: None, text });
    }
    changes
}

fn addresses(
    now: Instant,
    router: &VirtualRouter,
    there: &There,
    lease_until: Option<Instant>,
) -> Vec<Address> {
    let config = router.config();
    let owner = config.priority == crate::vrrp::Priority::OWNER;
    let address = |ip: IpAddr, advertised| {
        let present = there.get(&ip).is_some_and(|ours| *ours || owner);
        let lease = lease_until.filter(|_| present && router.has_addresses());
        Address {
            address: ip,
            advertised,
            present,
            lease_seconds: lease.map(|at| seconds(at - now)),
        }
    };
    let advertised = config.addresses.iter().map(|each| address(each.ip, true));
    let silent = config.unadvertised_addresses.iter().map(|each| address(each.ip, false));
    advertised.chain(silent).collect()
}

/// What the router does by itself next, and when.
fn next(router: &VirtualRouter) -> Option<(&'static str, Instant)> {
    match router.state() {
        State::Fault => router.deadline().map(|at| ("retry", at)),
        State::Backup { takeover_at } => takeover_at.map(|at| ("takeover", at)),
        State::Claiming { until, .. } => Some(("hook_limit", *until)),
        State::Master { advert_at, extra_at, .. } => {
            Some(("advert", extra_at.map_or(*advert_at, |extra| extra.min(*advert_at))))
        }
        State::Leaving { phase, .. } => Some(match phase {
            Phase::Preparing { until, .. } => ("hook_limit", *until),
            Phase::Offered { successor_by, .. } => ("successor_limit", *successor_by),
            Phase::Succeeded { release_at, .. } => ("release", *release_at),
        }),
    }
}

/// To the millisecond.
fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// To the millisecond: more would only be noise.
fn seconds(span: Duration) -> f64 {
    span.as_millis() as f64 / 1000.0
}
