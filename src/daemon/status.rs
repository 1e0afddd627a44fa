//! The daemon's state as a [`Status`], for clients of the control socket.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::driver::{Driver, DriverStatus};
use crate::api::status::{
    Address, Change, Check, Contender, DaemonInfo, Heard, Incompatible, LastHook, Next, NextStep,
    PriorityChange, Reason, Refusal, Router, Status,
};
use crate::helper::CheckResult;
use crate::vrrp::{
    self, Drain, Effect, Instant, LinkId, Node, Phase, Priority, State, Verdict, Version,
    VirtualRouter,
};

/// What the daemon knows of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process<'a> {
    pub(super) node: &'a str,
    pub(super) config: &'a Path,
    pub(super) started_at: SystemTime,
    /// Whether it is drained is forgotten at the next reboot.
    pub(super) drained_until_reboot: bool,
    /// Whether it was told to stop.
    pub(super) stopping: bool,
}

/// The state now.
pub(super) fn snapshot(process: Process<'_>, node: &Node, driver: &Driver) -> Status {
    let now = driver.now();
    let mut there: BTreeMap<LinkId, There> = BTreeMap::new();
    Status {
        node: process.node.to_owned(),
        drained: node.drained().is_some(),
        drained_by_force: node.drained() == Some(Drain::Force),
        drained_until_reboot: process.drained_until_reboot,
        stopping: process.stopping,
        daemon: DaemonInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            config: process.config.display().to_string(),
            started_at: rfc3339(process.started_at),
        },
        routers: node
            .routers()
            .map(|router| {
                let link = router.holding().held().link;
                let there = there.entry(link).or_insert_with(|| {
                    let found = driver.interfaces.addresses_on(link).iter();
                    let ours = |mark| driver.interfaces.is_ours(link, mark);
                    found.map(|found| (found.ip, ours(found.mark))).collect()
                });
                one_router(now, router, node, driver, there)
            })
            .collect(),
        counters: driver.counters.total(),
        stray_discards: driver.counters.unmatched().clone(),
    }
}

/// The addresses on an interface, and whether they are ours.
type There = BTreeMap<IpAddr, bool>;

fn one_router(
    now: Instant,
    router: &VirtualRouter,
    node: &Node,
    driver: &Driver,
    there: &There,
) -> Router {
    let config = router.config();
    let beyond = driver.status(router.id());
    let counted = driver.counters.router(router);
    let ago = |at: Instant| seconds(now - at);
    let transitions: Vec<Change> = beyond
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
        checks: checks_of(router, node).map(|check| one_check(now, check, driver)).collect(),
        fault_reasons: router
            .fault_reasons()
            .map(|reason| Reason { reason: reason.name().to_owned(), text: reason.to_string() })
            .collect(),
        last_change: transitions.first().cloned(),
        transitions,
        addresses: addresses(now, router, there, &beyond),
        interface: config.interface.to_string(),
        vrid: config.vrid.get(),
        family: config.family.name().to_owned(),
        version: match config.version {
            Version::V2 => 2,
            Version::V3 => 3,
        },
        advert_interval_seconds: seconds(config.advert_interval.duration()),
        source: router.source(),
        source_others: node.source_choice(router.id()).map(|it| it.others).unwrap_or_default(),
        without_peers: router.is_without_peers(),
        heard: router.peer().map(|peer| Heard {
            address: peer.source,
            priority: peer.priority.get(),
            interval_seconds: seconds(peer.interval.duration()),
            checksum: peer.checksum.map(|form| form.to_string()),
            seconds_ago: ago(peer.at),
        }),
        contenders: router
            .holding()
            .contenders(now)
            .map(|seen| Contender {
                address: seen.address,
                mac: seen.mac.to_string(),
                seconds_ago: ago(seen.at),
            })
            .collect(),
        incompatible: router
            .incompatible(now)
            .map(|peer| Incompatible {
                address: peer.source,
                change: peer.mismatch.to_string(),
                seconds_ago: ago(peer.at),
            })
            .collect(),
        refusals: router
            .refusals(now)
            .map(|refusal| Refusal {
                destination: refusal.to,
                error: refusal.error.name().to_owned(),
                text: refusal.error.to_string(),
                seconds_ago: ago(refusal.at),
            })
            .collect(),
        next: next(router)
            .map(|(next, at)| Next { what: next.name().to_owned(), in_seconds: seconds(at - now) }),
        held_back: router.held_back(),
        drained: node.drained().is_some(),
        last_hook: beyond.last_hook.map(|ended| LastHook {
            hook: ended.hook.name().to_owned(),
            outcome: ended.outcome.to_string(),
            failed: ended.outcome.is_failure(),
            at: rfc3339(ended.at),
            took_seconds: seconds(ended.took),
        }),
        role_seconds: counted
            .map(|counted| counted.spans(now))
            .unwrap_or_default()
            .into_iter()
            .map(|(role, span)| (role.name().into(), seconds(span)))
            .collect(),
        counters: counted.map(|counted| counted.counters.clone()).unwrap_or_default(),
    }
}

fn checks_of<'a>(
    router: &'a VirtualRouter,
    node: &'a Node,
) -> impl Iterator<Item = &'a vrrp::Check> + 'a {
    let named = &router.config().checks;
    node.checks().filter(|check| named.contains(&check.config().name))
}

fn one_check(now: Instant, check: &vrrp::Check, driver: &Driver) -> Check {
    let config = check.config();
    let last = driver.checks.last(&config.name);
    let weight = match config.effect {
        Effect::Fault | Effect::Last => None,
        Effect::Weight(weight) => Some(weight),
        Effect::Number => Some(check.number()),
    };
    Check {
        name: config.name.to_string(),
        verdict: check.verdict().name().to_owned(),
        verdict_seconds: seconds(now - check.since()),
        streak: check.streak(),
        effect: config.effect.name().to_owned(),
        weight,
        output: last.map(|run| run.output.clone()),
        failed: last.is_some_and(|run| run.result == CheckResult::Failed),
        at: last.map(|run| rfc3339(run.at)),
        took_seconds: last.map(|run| run.took.as_micros() as f64 / 1e6),
    }
}

/// What its checks, and having heard no router since the start, do to its priority.
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
            (Effect::Last, Verdict::Failing) => (None, "fails: used only if no other host is fit"),
            (Effect::Fault | Effect::Last | Effect::Weight(_) | Effect::Number, _) => continue,
        };
        changes.push(PriorityChange {
            check: Some(config.name.to_string()),
            adds: adds.map(i32::from),
            text: format!("check {} {text}", config.name),
        });
    }
    if node.drained().is_some() && !matches!(router.state(), State::Leaving { .. }) {
        let text = "the host is drained: used only if no other host is fit".to_owned();
        changes.push(PriorityChange { check: None, adds: None, text });
    }
    if matches!(router.state(), State::Master { unheard_until: Some(_), .. }) {
        let text = "no router was heard since the start: priority 1 until this host surely receives adverts (preempt = false)".to_owned();
        changes.push(PriorityChange { check: None, adds: None, text });
    }
    changes
}

fn addresses(
    now: Instant,
    router: &VirtualRouter,
    there: &There,
    beyond: &DriverStatus<'_>,
) -> Vec<Address> {
    let config = router.config();
    let owner = config.priority == crate::vrrp::Priority::OWNER;
    let claim_failed = router.fault_reasons().any(|reason| reason == vrrp::Reason::ClaimFailed);
    let refused = |ip| claim_failed || router.holding().is_missing(ip);
    let address = |ip: IpAddr, advertised| {
        let present = there.get(&ip).is_some_and(|ours| *ours || owner);
        let lease = beyond.lease_until.filter(|_| present && router.has_addresses());
        Address {
            address: ip,
            advertised,
            present,
            lease_seconds: lease.map(|at| seconds(at - now)),
            problem: refused(ip)
                .then(|| beyond.refusals.and_then(|all| all.get(&ip)))
                .flatten()
                .cloned(),
        }
    };
    let advertised = config.addresses.iter().map(|each| address(each.ip, true));
    let silent = config.unadvertised_addresses.iter().map(|each| address(each.ip, false));
    advertised.chain(silent).collect()
}

/// What the router does by itself next, and when.
fn next(router: &VirtualRouter) -> Option<(NextStep, Instant)> {
    match router.state() {
        State::Fault => router.deadline().map(|at| (NextStep::Retry, at)),
        State::Backup { takeover_at } => takeover_at.map(|at| (NextStep::Takeover, at)),
        State::Claiming { until, .. } => Some((NextStep::HookLimit, *until)),
        State::Master { advert_at, extra_at, .. } => {
            Some((NextStep::Advert, extra_at.map_or(*advert_at, |extra| extra.min(*advert_at))))
        }
        State::Leaving { phase, .. } => Some(match phase {
            Phase::Preparing { until, .. } => (NextStep::HookLimit, *until),
            Phase::Offered { successor_by, .. } => (NextStep::SuccessorLimit, *successor_by),
            Phase::Succeeded { .. } => (NextStep::Release, router.holding().release_at()?),
        }),
    }
}

/// To the millisecond. The time may be one that the helper says, and there is no text for one after the
/// year 9999.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_millis(at.min(last)).to_string()
}

/// To the millisecond: more would only be noise.
fn seconds(span: Duration) -> f64 {
    span.as_millis() as f64 / 1000.0
}
