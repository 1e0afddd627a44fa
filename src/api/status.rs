//! The status document: the state of the daemon and of all its virtual routers.
//!
//! [`Status`] is the schema. Names are snake_case and stay once published; fields may be added, and
//! words (roles, reasons, outcomes) too, so consumers must accept new ones. Times are RFC 3339 in UTC,
//! durations are numbers of seconds named `_seconds`, and `null` means "there is none".
//!
//! ```json
//! { "version": 1, "node": "web-a", "drained": false, "drained_by_force": false,
//!   "drained_until_reboot": false, "stopping": false,
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
//!                      "lease_seconds": 1.62, "problem": null } ],
//!     "interface": "eth0", "vrid": 51, "family": "ipv4", "version": 3,
//!     "advert_interval_seconds": 1.0, "source": "192.0.2.1",
//!     "heard": { "address": "192.0.2.2", "priority": 100, "interval_seconds": 1.0,
//!                "checksum": "pseudo-header", "seconds_ago": 3.9 },
//!     "incompatible": [ { "address": "192.0.2.9", "change": "they are VRRP version 2: ...",
//!                         "seconds_ago": 0.4 } ],
//!     "refusals": [ { "destination": "192.0.2.3", "error": "filtered",
//!                     "text": "a packet filter of this host drops them", "seconds_ago": 0.4 } ],
//!     "contenders": [ { "address": "192.0.2.10", "mac": "02:00:00:00:00:09", "seconds_ago": 3.1 } ],
//!     "next": { "for": "advert", "in_seconds": 0.62 },
//!     "held_back": false, "drained": false,
//!     "last_hook": { "hook": "master", "outcome": "done", "failed": false, "at": "...", "took_seconds": 0.05 },
//!     "role_seconds": { "waiting": 0.002, "backup": 3.402, "master": 81.0 },
//!     "counters": { ... } } ],
//!   "counters": { "adverts_sent": 81, "adverts_refused": 0, "adverts_undelivered": 0,
//!                 "adverts_received": 12,
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
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::counters::{Counters, Word};

/// The daemon and all its virtual routers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node's name in the configuration.
    pub node: String,
    /// The host serves only where no other one is fit, until `vipd undrain`.
    pub drained: bool,
    /// It is drained by force: it does not serve at all.
    #[serde(default)]
    pub drained_by_force: bool,
    /// Whether it is drained could not be stored on disk, and is forgotten at the next reboot.
    #[serde(default)]
    pub drained_until_reboot: bool,
    /// The daemon is about to end.
    pub stopping: bool,
    /// The process that answered.
    pub daemon: DaemonInfo,
    /// In the order of the configuration; those that a reload removed last.
    pub routers: Vec<Router>,
    /// The sums over all virtual routers since the daemon started, with those removed meanwhile.
    pub counters: Counters,
    /// Discarded packets that belong to no virtual router of this host, by reason.
    #[serde(default)]
    pub stray_discards: BTreeMap<Word, u64>,
}

/// The process that answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonInfo {
    pub version: String,
    pub pid: u32,
    pub config: String,
    pub started_at: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Router {
    /// Its name in the configuration.
    pub name: String,
    /// Word of the role.
    pub role: String,
    pub priority: u8,
    /// The advertised priority: the configured one with `priority_changes`.
    pub effective_priority: u8,
    /// Why the two differ.
    #[serde(default)]
    pub priority_changes: Vec<PriorityChange>,
    /// A check with `on_fail = "last"` fails: it stays master only while no other host is fit.
    #[serde(default)]
    pub degraded: bool,
    #[serde(default)]
    pub group: Option<String>,
    /// Its checks, in the order of the configuration.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Why it cannot take part; empty unless the role is fault or waiting.
    pub fault_reasons: Vec<Reason>,
    /// The last change of role; `None` before the first.
    pub last_change: Option<Change>,
    /// The last few changes of role since the daemon started, the newest (`last_change`) first.
    #[serde(default)]
    pub transitions: Vec<Change>,
    /// Every address it shares, advertised ones first.
    pub addresses: Vec<Address>,
    /// The interface that carries adverts and addresses.
    pub interface: String,
    pub vrid: u8,
    /// Family of the adverts: "ipv4" or "ipv6".
    pub family: String,
    /// Version of VRRP: 2 or 3.
    pub version: u8,
    pub advert_interval_seconds: f64,
    /// Source address of our adverts; `None`: the interface has no suitable one.
    pub source: Option<IpAddr>,
    /// Other addresses of the interface that would do as well as the source: only a rule decides.
    #[serde(default)]
    pub source_others: Vec<IpAddr>,
    /// Its adverts go to nobody: `unicast_peers` names only this host.
    #[serde(default)]
    pub without_peers: bool,
    /// The last advert of another router; `None`: there was none.
    pub heard: Option<Heard>,
    /// Peers with adverts for this virtual router but with other settings, until they fall silent.
    pub incompatible: Vec<Incompatible>,
    /// Destinations that its adverts did not leave for, or did not arrive at, in the last seconds.
    #[serde(default)]
    pub refusals: Vec<Refusal>,
    /// Other machines that have one of the addresses while we are master.
    #[serde(default)]
    pub contenders: Vec<Contender>,
    /// Its next deadline; `None`: it waits for an event.
    pub next: Option<Next>,
    /// Moved away by `vipd failover`: it does not preempt until `vipd resume`.
    pub held_back: bool,
    /// As [`Status::drained`].
    pub drained: bool,
    /// The last hook that ended.
    pub last_hook: Option<LastHook>,
    /// Time spent in each role since the daemon started.
    #[serde(default)]
    pub role_seconds: BTreeMap<Word, f64>,
    /// Its counters since the daemon started.
    #[serde(default)]
    pub counters: Counters,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Word of the reason, for programs.
    pub reason: String,
    /// A sentence for people.
    pub text: String,
}

/// A reason why the priority in force is not the configured one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PriorityChange {
    /// The check; `None`: it started without hearing any peer.
    pub check: Option<String>,
    /// What is added to the priority; `None`: the priority is 1.
    pub adds: Option<i32>,
    /// A few words for people.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its name in the configuration.
    pub name: String,
    /// Word of the verdict.
    pub verdict: String,
    /// Age of the verdict.
    pub verdict_seconds: f64,
    /// Number of successive runs that passed, or failed; up to a second old.
    pub streak: u32,
    /// Word of the effect.
    pub effect: String,
    /// What it adds to the priority: a positive weight while it passes, a negative one while it fails;
    /// the number that a check of a file reads.
    pub weight: Option<i16>,
    /// Output of the last run; `None`: there was none yet.
    pub output: Option<String>,
    pub failed: bool,
    /// End of the last run.
    pub at: Option<String>,
    /// Duration of the last run.
    pub took_seconds: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub at: String,
    pub from: String,
    pub to: String,
    /// The reason, as in the log.
    pub why: String,
    /// Word of the reason, for programs.
    #[serde(default)]
    pub cause: Word,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    pub address: IpAddr,
    /// Whether it is in the adverts.
    pub advertised: bool,
    /// Whether the interface has it, added by vipd (or, for priority 255, by the host).
    pub present: bool,
    /// Time until the kernel removes it unless it is renewed; `None`: never, or it is not here.
    pub lease_seconds: Option<f64>,
    /// Why it could not be added, in a few words; `None`: that is not known to have failed.
    #[serde(default)]
    pub problem: Option<String>,
}

/// An advert of another router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    pub address: IpAddr,
    /// Its priority; 0: it gave up its role.
    pub priority: u8,
    pub interval_seconds: f64,
    /// "pseudo-header" or "plain"; `None` where there is only one form.
    pub checksum: Option<String>,
    /// Age of the advert.
    pub seconds_ago: f64,
}

/// A peer whose adverts cannot be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incompatible {
    pub address: IpAddr,
    /// What differs and which key to change, as a sentence.
    pub change: String,
    /// Age of its last advert.
    pub seconds_ago: f64,
}

/// A destination that an advert did not leave for, or did not arrive at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    pub destination: IpAddr,
    /// Why, as a word.
    pub error: String,
    /// Why, as part of a sentence.
    pub text: String,
    /// Age of the last one.
    pub seconds_ago: f64,
}

/// Another machine that has one of our addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contender {
    pub address: IpAddr,
    /// Its link-layer address.
    pub mac: String,
    /// When it last announced the address, or answered when asked.
    pub seconds_ago: f64,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another machine, {}, has {}, too", self.mac, self.address)
    }
}

/// A deadline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Next {
    /// The name of a [`NextStep`].
    #[serde(rename = "for")]
    pub what: String,
    /// Time until then.
    pub in_seconds: f64,
}

words! {
    /// What a virtual router does by itself at its next deadline.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum NextStep {
        /// It sends the next advert.
        Advert = "advert",
        /// It takes over, unless a master is heard.
        Takeover = "takeover",
        /// It stops waiting for a hook.
        HookLimit = "hook_limit",
        /// It stops waiting for a successor.
        SuccessorLimit = "successor_limit",
        /// It releases the addresses.
        Release = "release",
        /// It tries again to take part.
        Retry = "retry",
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastHook {
    pub hook: String,
    /// "done", or how it failed.
    pub outcome: String,
    /// Whether it failed; one overtaken by a newer state did not.
    #[serde(default)]
    pub failed: bool,
    /// When it ended.
    pub at: String,
    pub took_seconds: f64,
}

impl Router {
    /// The addresses that the interface lacks, as it should not while we are master: a sentence for
    /// each.
    pub fn missing(&self) -> impl Iterator<Item = String> + '_ {
        self.addresses.iter().filter(|address| !address.present).map(|missing| {
            let problem = missing.problem.as_ref().map_or(String::new(), |why| format!(": {why}"));
            format!("{} is not on {} now{problem}", missing.address, self.interface)
        })
    }
}

impl Status {
    /// The document as it would be later if nothing happened meanwhile: ages and deadlines advance.
    pub fn aged(mut self, by: Duration) -> Self {
        let by = by.as_millis() as f64 / 1000.0;
        for router in &mut self.routers {
            let ago = router.heard.iter_mut().map(|heard| &mut heard.seconds_ago);
            ago.chain(router.incompatible.iter_mut().map(|peer| &mut peer.seconds_ago))
                .chain(router.refusals.iter_mut().map(|refusal| &mut refusal.seconds_ago))
                .chain(router.contenders.iter_mut().map(|seen| &mut seen.seconds_ago))
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

/// A master without peers, for tests.
#[cfg(test)]
pub(crate) fn example() -> Status {
    Status {
        node: "web-a".into(),
        drained: false,
        drained_by_force: false,
        drained_until_reboot: false,
        stopping: false,
        daemon: DaemonInfo {
            version: "0.1.0".into(),
            pid: 4711,
            config: "/etc/vipd/vipd.toml".into(),
            started_at: "2026-11-20T12:00:00.000Z".into(),
        },
        routers: vec![Router {
            name: "web".into(),
            role: "master".into(),
            priority: 150,
            effective_priority: 150,
            fault_reasons: vec![],
            last_change: Some(Change {
                at: "2026-11-20T12:00:03.610Z".into(),
                from: "backup".into(),
                to: "master".into(),
                why: "no master was heard".into(),
                cause: "heard_nobody".into(),
            }),
            transitions: vec![],
            addresses: vec![Address {
                address: IpAddr::from([192, 0, 2, 10]),
                advertised: true,
                present: true,
                lease_seconds: Some(1.62),
                problem: None,
            }],
            interface: "eth0".into(),
            vrid: 51,
            family: "ipv4".into(),
            version: 3,
            advert_interval_seconds: 1.0,
            source: Some(IpAddr::from([192, 0, 2, 1])),
            source_others: vec![],
            without_peers: false,
            heard: None,
            contenders: vec![],
            incompatible: vec![],
            refusals: vec![],
            next: Some(Next { what: "advert".into(), in_seconds: 0.62 }),
            held_back: false,
            drained: false,
            last_hook: None,
            priority_changes: vec![],
            degraded: false,
            group: None,
            checks: vec![],
            role_seconds: BTreeMap::new(),
            counters: Counters::default(),
        }],
        counters: Counters::default(),
        stray_discards: BTreeMap::new(),
    }
}
