//! What `vipd check` prints of a valid configuration: what is configured, and what follows from it.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::hooks::key;
use super::{CheckPlan, Config, Target};
use crate::text::printable_lines;
use crate::vrrp::{
    Address, CheckConfig, Effect, GroupConfig, Hook, Initial, Priority, RouterConfig,
};

pub(super) fn as_text(config: &Config) -> String {
    let mut text = String::new();
    let routers = &config.vrrp.routers;
    let counted = |count: usize, what: &str| match count {
        0 => String::new(),
        1 => format!(", 1 {what}"),
        count => format!(", {count} {what}s"),
    };
    let count = match routers.len() {
        0 => ", no virtual router: nothing to do".to_string(),
        count => counted(count, "virtual router"),
    };
    let groups = counted(config.vrrp.groups.len(), "sync group");
    let checks = counted(config.checks.len(), "check");
    let notes = counted(config.advice.len(), "note");
    let _ = writeln!(text, "ok: node {}{count}{groups}{checks}{notes}", config.node.name);
    for router in routers {
        let _ = writeln!(text, "\n{}", one_router(config, router));
    }
    for group in &config.vrrp.groups {
        let _ = writeln!(text, "\n{}", one_group(config, group));
    }
    for (counts, plan) in config.vrrp.checks.iter().zip(&config.checks) {
        let _ = writeln!(text, "\n{}", one_check(config, counts, plan));
    }
    printable_lines(&text).into_owned()
}

fn one_router(config: &Config, router: &RouterConfig) -> String {
    let joined = |list: &mut dyn Iterator<Item = String>| list.collect::<Vec<_>>().join(", ");
    let addresses = joined(&mut router.all_addresses().map(|address| address.to_string()));
    let peers = match &router.unicast_peers {
        None => "multicast".to_string(),
        Some(peers) => format!("unicast to {}", joined(&mut peers.iter().map(|ip| ip.to_string()))),
    };
    let lease = match (router.priority == Priority::OWNER, router.address_lifetime) {
        (true, _) => "the addresses stay with their owner".to_string(),
        (false, Some(secs)) => format!("addresses end {secs}s after the last renewal"),
        (false, None) => "addresses have no lifetime".to_string(),
    };
    let handover = router.handover;
    let preempt = match (router.preempt, router.preempt_delay) {
        (false, _) => "does not preempt".to_string(),
        (true, Duration::ZERO) => "preempts".to_string(),
        (true, delay) => format!("preempts after {delay:?}"),
    };
    let group = group_of(config, &router.name);
    let hooks = match group {
        Some(group) => format!("in the sync group {}, with its hooks", group.name),
        None => hooks_of(config, &router.name, Some(router)),
    };
    let checks = match (router.checks.is_empty(), router.priority == Priority::OWNER) {
        (true, _) => {
            "no check: the addresses stay here when a service dies; add checks = [\"...\"]"
                .to_string()
        }
        (false, true) => format!("checks: {}", router.checks.join(", ")),
        (false, false) => {
            format!("checks: {}{}", router.checks.join(", "), priorities(config, router))
        }
    };
    format!(
        "{}: {addresses} on {}\n  \
         VRID {}, {}, VRRP version {}, {peers}, priority {}, {preempt}\n  \
         an advert every {}, a silent master is replaced after {:.3}s, handover {handover}\n  \
         {lease}, {hooks}\n  \
         {checks}",
        router.name,
        router.interface,
        router.vrid,
        router.family,
        router.version,
        router.priority,
        router.advert_interval,
        master_down(router).as_secs_f64(),
    )
}

fn group_of<'c>(config: &'c Config, router: &str) -> Option<&'c GroupConfig> {
    let is_member = |group: &&GroupConfig| group.members.iter().any(|member| **member == *router);
    config.vrrp.groups.iter().find(is_member)
}

/// The hooks of a virtual router or group, and what a failure of each means by `settings`.
fn hooks_of(config: &Config, name: &str, settings: Option<&RouterConfig>) -> String {
    let Some(hooks) = config.hooks.get(name) else { return "no hooks".into() };
    let each = hooks.iter().map(|(hook, command)| {
        let key = key(hook);
        let fault_for = settings.zip(hook).and_then(|(router, hook)| router.fault_for.get(&hook));
        match (hook, fault_for) {
            (Some(Hook::BeforeClaim), Some(span)) => {
                format!("{key} (at most {:?}, else {span:?} of fault)", command.timeout)
            }
            (_, Some(span)) => format!("{key} (else {span:?} of fault)"),
            (_, None) => key.to_string(),
        }
    });
    format!("hooks: {}", each.collect::<Vec<_>>().join(", "))
}

/// The range of priorities that the checks can produce; empty if they change none.
fn priorities(config: &Config, router: &RouterConfig) -> String {
    let base = i32::from(router.priority.get());
    let (mut low, mut high) = (base, base);
    for check in config.vrrp.checks.iter().filter(|check| router.checks.contains(&check.name)) {
        match check.effect {
            Effect::Fault => {}
            Effect::Last => low = i32::MIN / 2,
            Effect::Weight(weight) if weight < 0 => low += i32::from(weight),
            Effect::Weight(weight) => high += i32::from(weight),
            Effect::Number => (low, high) = (i32::MIN / 2, i32::MAX / 2),
        }
    }
    if (low, high) == (base, base) {
        return String::new();
    }
    let (low, high) = (Priority::clamped(low), Priority::clamped(high));
    format!("; they move the priority between {low} and {high}")
}

fn one_group(config: &Config, group: &GroupConfig) -> String {
    let first = group.members.first();
    let settings =
        first.and_then(|first| config.vrrp.routers.iter().find(|router| router.name == *first));
    format!(
        "sync group {}: {} are master together or not at all\n  {}",
        group.name,
        group.members.join(", "),
        hooks_of(config, &group.name, settings)
    )
}

fn users_of<'c>(config: &'c Config, check: &str) -> Vec<&'c str> {
    let uses = |router: &&RouterConfig| router.checks.iter().any(|name| **name == *check);
    config.vrrp.routers.iter().filter(uses).map(|router| &*router.name).collect()
}

fn one_check(config: &Config, counts: &CheckConfig, plan: &CheckPlan) -> String {
    let CheckPlan { name, target, interval, timeout } = plan;
    let CheckConfig { name: _, fall, rise, effect, initial } = counts;
    let times = |count: &u32, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let rhythm = match target {
        Target::Process { .. } => "its end is noticed at once".to_string(),
        Target::File { .. } => format!("read every {interval:?}"),
        Target::Command { .. }
        | Target::Tcp { .. }
        | Target::Http(_)
        | Target::Unit { .. }
        | Target::FilePresent { .. }
        | Target::FileAbsent { .. }
        | Target::Interface { .. }
        | Target::Ping { .. } => format!(
            "every {interval:?}, at most {timeout:?}; failing after {} in a row, passing after {}",
            times(fall, "failure"),
            if *rise == 1 { "1 pass".to_string() } else { format!("{rise} passes") },
        ),
    };
    let effect = match effect {
        Effect::Fault => "failing means fault: another host takes over, and without one the addresses are released".to_string(),
        Effect::Last => "failing means priority 1: any fit peer takes over".to_string(),
        Effect::Weight(weight) if *weight < 0 => {
            format!("failing takes {} off the priority", -weight)
        }
        Effect::Weight(weight) => format!("passing adds {weight} to the priority"),
        Effect::Number => "the number is added to the priority".to_string(),
    };
    let initial = match initial {
        Initial::Passing => "passing until the first result".to_string(),
        Initial::Failing => "failing until the first result".to_string(),
        Initial::Wait(limit) => format!("the first result is waited for, at most {limit:?}"),
    };
    let users = match users_of(config, name).join(", ") {
        users if users.is_empty() => "no virtual router".to_string(),
        users => users,
    };
    format!("check {name}: {target}\n  {rhythm}\n  {effect}; {initial}\n  named by {users}")
}

/// Of this host as backup, if its master has the same interval.
fn master_down(router: &RouterConfig) -> Duration {
    router.advert_interval.master_down(router.version, router.priority)
}

pub(super) fn as_json(config: &Config) -> String {
    let routers: Vec<_> = config
        .vrrp
        .routers
        .iter()
        .map(|router| {
            let hooks = hook_keys(config, &router.name);
            let listed = |list: &[Address]| {
                list.iter().map(|address| address.to_string()).collect::<Vec<_>>()
            };
            json!({
                "name": &*router.name,
                "interface": &*router.interface,
                "vrid": router.vrid.get(),
                "family": router.family.name(),
                "version": router.version.to_string(),
                "priority": router.priority.get(),
                "addresses": listed(&router.addresses),
                "unadvertised_addresses": listed(&router.unadvertised_addresses),
                "unicast_peers": router.unicast_peers.as_deref(),
                "preempt": router.preempt,
                "advert_interval_seconds": router.advert_interval.duration().as_secs_f64(),
                "max_peer_interval_seconds": router.max_peer_interval.duration().as_secs_f64(),
                "master_down_seconds": master_down(router).as_secs_f64(),
                "address_lifetime_seconds": router.address_lifetime,
                "handover": router.handover.name(),
                "hooks": hooks,
                "checks": names(&router.checks),
                "sync_group": group_of(config, &router.name).map(|group| &*group.name),
            })
        })
        .collect();
    let groups: Vec<_> = config
        .vrrp
        .groups
        .iter()
        .map(|group| {
            json!({
                "name": &*group.name,
                "members": names(&group.members),
                "hooks": hook_keys(config, &group.name),
            })
        })
        .collect();
    let checks: Vec<_> = config
        .vrrp
        .checks
        .iter()
        .zip(&config.checks)
        .map(|(counts, plan)| check_as_json(config, counts, plan))
        .collect();
    let advice: Vec<_> = config
        .advice
        .iter()
        .map(|advice| {
            json!({
                "line": advice.place.as_ref().map(|place| place.line),
                "message": advice.message,
                "suggestion": advice.suggestion,
            })
        })
        .collect();
    let all = json!({
        "node": config.node.name,
        "routers": routers,
        "sync_groups": groups,
        "checks": checks,
        "advice": advice,
    });
    format!("{all:#}\n")
}

fn names(list: &[std::sync::Arc<str>]) -> Vec<&str> {
    list.iter().map(|name| &**name).collect()
}

fn hook_keys(config: &Config, name: &str) -> Vec<&'static str> {
    let hooks = config.hooks.get(name);
    hooks.map(|hooks| hooks.iter().map(|(hook, _)| key(hook)).collect()).unwrap_or_default()
}

fn check_as_json(config: &Config, counts: &CheckConfig, plan: &CheckPlan) -> serde_json::Value {
    let weight = match counts.effect {
        Effect::Weight(weight) => Some(weight),
        Effect::Fault | Effect::Last | Effect::Number => None,
    };
    let wait = match counts.initial {
        Initial::Wait(limit) => Some(limit.as_secs_f64()),
        Initial::Passing | Initial::Failing => None,
    };
    json!({
        "name": plan.name,
        "kind": plan.target.kind(),
        "passes_if": plan.target.to_string(),
        "interval_seconds": plan.interval.as_secs_f64(),
        "timeout_seconds": plan.timeout.as_secs_f64(),
        "fall": counts.fall,
        "rise": counts.rise,
        "effect": counts.effect.name(),
        "weight": weight,
        "initial": counts.initial.name(),
        "longest_wait_seconds": wait,
        "routers": users_of(config, &plan.name),
    })
}
