//! The differences between two configurations, as `vipd reload` prints them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{CheckPlan, Config};
use crate::vrrp::{Address, CheckConfig, Effect, Family, GroupConfig, RouterConfig, Vrid};

/// One line per difference. Virtual routers are the same if interface, family and VRID are.
pub(super) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    if old.node != new.node {
        lines.push(format!("node: name {} -> {}", old.node.name, new.node.name));
    }
    let (before, after) = (by_identity(old), by_identity(new));
    for router in &old.vrrp.routers {
        if !after.contains_key(&router.identity()) {
            lines.push(format!("{}: removed ({})", router.name, place(router)));
        }
    }
    for router in &new.vrrp.routers {
        match before.get(&router.identity()) {
            None => lines.push(format!("{}: added ({})", router.name, place(router))),
            Some(before) => {
                compare(before, router, &mut lines);
                let group = group_of(new, router).filter(|group| {
                    group_of(old, before).is_some_and(|before| before.name == group.name)
                });
                // The hooks of a group are listed with the group.
                if group.is_none() && hooks(old, before) != hooks(new, router) {
                    lines.push(format!("{}: hooks", router.name));
                }
            }
        }
    }
    compare_groups(old, new, &mut lines);
    compare_checks(old, new, &mut lines);
    lines
}

fn group_of<'c>(config: &'c Config, router: &RouterConfig) -> Option<&'c GroupConfig> {
    config.vrrp.groups.iter().find(|group| group.members.contains(&router.name))
}

/// The hooks that run for the router, its own or its group's, with their settings for the protocol.
fn hooks<'c>(config: &'c Config, router: &'c RouterConfig) -> impl PartialEq + 'c {
    let name = group_of(config, router).map_or(&router.name, |group| &group.name);
    let RouterConfig { before_release, before_claim, fault_for, .. } = router;
    (config.hooks.get(name), before_release, before_claim, fault_for)
}

fn compare_groups(old: &Config, new: &Config, lines: &mut Vec<String>) {
    let (before, after) = (&old.vrrp.groups, &new.vrrp.groups);
    for group in before.iter().filter(|group| !after.iter().any(|it| it.name == group.name)) {
        lines.push(format!("sync group {}: removed", group.name));
    }
    for group in after {
        let members = list(group.members.iter());
        let Some(before) = before.iter().find(|it| it.name == group.name) else {
            lines.push(format!("sync group {}: added {members}", group.name));
            continue;
        };
        if before.members != group.members {
            let before = list(before.members.iter());
            lines.push(format!("sync group {}: members {before} -> {members}", group.name));
        }
        let of_first = |config: &Config, group: &GroupConfig| {
            let first = group.members.first();
            config.vrrp.routers.iter().find(|router| Some(&router.name) == first).cloned()
        };
        if let (Some(one), Some(other)) = (of_first(old, before), of_first(new, group))
            && hooks(old, &one) != hooks(new, &other)
        {
            lines.push(format!("sync group {}: hooks", group.name));
        }
    }
}

fn compare_checks(old: &Config, new: &Config, lines: &mut Vec<String>) {
    fn with_plans(config: &Config) -> impl Iterator<Item = (&CheckConfig, &CheckPlan)> {
        config.vrrp.checks.iter().zip(&config.checks)
    }
    for (counts, _) in with_plans(old) {
        if !with_plans(new).any(|(it, _)| it.name == counts.name) {
            lines.push(format!("check {}: removed", counts.name));
        }
    }
    let before: BTreeMap<_, _> =
        with_plans(old).map(|(counts, plan)| (&counts.name, (counts, plan))).collect();
    for (counts, plan) in with_plans(new) {
        match before.get(&counts.name) {
            None => lines.push(format!("check {}: added ({})", counts.name, plan.target)),
            Some(before) => compare_check(*before, (counts, plan), lines),
        }
    }
}

/// Destructured field by field, so that a new key does not compile until it is listed.
fn compare_check(
    old: (&CheckConfig, &CheckPlan),
    new: (&CheckConfig, &CheckPlan),
    lines: &mut Vec<String>,
) {
    let shown = |(counts, plan): (&CheckConfig, &CheckPlan)| {
        let CheckConfig { name: _, fall, rise, effect, initial } = counts;
        let CheckPlan { name: _, target, interval, timeout } = plan;
        [
            ("passes if", target.to_string()),
            ("interval", span(*interval)),
            ("timeout", span(*timeout)),
            ("fall", fall.to_string()),
            ("rise", rise.to_string()),
            (
                "failing means",
                match effect {
                    Effect::Fault => effect.name().to_owned(),
                    Effect::Last => "priority 1".to_owned(),
                    Effect::Weight(weight) => format!("weight {weight}"),
                    Effect::Number => "nothing".to_owned(),
                },
            ),
            (
                "initial",
                // The duration of a wait follows from the other keys.
                initial.name().to_owned(),
            ),
        ]
    };
    for ((key, before), (_, after)) in shown(old).into_iter().zip(shown(new)) {
        if before != after {
            lines.push(format!("check {}: {key} {before} -> {after}", new.0.name));
        }
    }
}

fn by_identity(config: &Config) -> BTreeMap<(&str, Family, Vrid), &RouterConfig> {
    config.vrrp.routers.iter().map(|router| (router.identity(), router)).collect()
}

fn place(router: &RouterConfig) -> String {
    format!("{} VRID {} on {}", router.family, router.vrid, router.interface)
}

fn compare(old: &RouterConfig, new: &RouterConfig, lines: &mut Vec<String>) {
    for ((key, before), (_, after)) in keys(old).into_iter().zip(keys(new)) {
        if before == after {
            continue;
        }
        lines.push(match (before, after) {
            (Value::Shown(before), Value::Shown(after)) => {
                format!("{}: {key} {before} -> {after}", new.name)
            }
            _ => format!("{}: {key} the one before -> another", new.name),
        });
    }
}

/// The value of a key, for comparison.
#[derive(PartialEq)]
enum Value {
    Shown(String),
    /// Compared, but never printed.
    Secret(Option<[u8; 8]>),
}

/// The keys and their values. Destructured field by field, so that a new one does not compile until
/// it is listed. The identity is the same in both, and three fields belong to the hooks.
fn keys(router: &RouterConfig) -> Vec<(&'static str, Value)> {
    let RouterConfig {
        name,
        interface: _,
        vrid: _,
        family: _,
        version,
        priority,
        addresses,
        unadvertised_addresses,
        advert_interval,
        max_peer_interval,
        preempt,
        preempt_delay,
        start_delay,
        link_delay,
        checksum,
        unicast_peers,
        unicast_min_ttl,
        source_address,
        accept_from,
        authentication,
        address_lifetime,
        handover,
        before_release: _,
        before_claim: _,
        fault_for: _,
        checks,
    } = router;
    let source = source_address.map_or("none".to_owned(), |ip| ip.to_string());
    let lifetime = address_lifetime.map_or("off".to_owned(), |secs| format!("{secs}s"));
    vec![
        ("name", Value::Shown(name.to_string())),
        ("version", Value::Shown(version.to_string())),
        ("priority", Value::Shown(priority.to_string())),
        ("addresses", Value::Shown(claimed(addresses))),
        ("unadvertised_addresses", Value::Shown(claimed(unadvertised_addresses))),
        ("advert_interval", Value::Shown(advert_interval.to_string())),
        ("max_peer_interval", Value::Shown(max_peer_interval.to_string())),
        ("preempt", Value::Shown(preempt.to_string())),
        ("preempt_delay", Value::Shown(span(*preempt_delay))),
        ("start_delay", Value::Shown(span(*start_delay))),
        ("link_delay", Value::Shown(span(*link_delay))),
        ("checksum", Value::Shown(checksum.to_string())),
        ("unicast_peers", Value::Shown(optional(unicast_peers))),
        ("unicast_min_ttl", Value::Shown(unicast_min_ttl.to_string())),
        ("source_address", Value::Shown(source)),
        ("accept_from", Value::Shown(optional(accept_from))),
        ("authentication", Value::Secret(*authentication)),
        ("address_lifetime", Value::Shown(lifetime)),
        ("handover", Value::Shown(handover.to_string())),
        ("checks", Value::Shown(list(checks.iter()))),
    ]
}

fn span(span: Duration) -> String {
    format!("{span:?}")
}

fn claimed(addresses: &[Address]) -> String {
    let shown = |address: &Address| {
        if *address == Address::host(address.ip) {
            address.ip.to_string()
        } else {
            format!("{}/{}", address.ip, address.prefix)
        }
    };
    list(addresses.iter().map(shown))
}

fn optional<T: fmt::Display>(values: &Option<std::sync::Arc<[T]>>) -> String {
    values.as_ref().map_or("none".to_owned(), |values| list(values.iter()))
}

fn list<T: fmt::Display>(values: impl Iterator<Item = T>) -> String {
    let values: Vec<String> = values.map(|value| value.to_string()).collect();
    format!("[{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("vipd.toml", text).unwrap()
    }

    #[test]
    fn a_reload_names_every_key_that_changed_and_no_other() {
        let web = "[node]\nname = \"a\"\n[[virtual_router]]\nname = \"web\"\ninterface = \"eth0\"\n\
                   vrid = 51\naddresses = [\"192.0.2.10\"]\n";
        let db = "[[virtual_router]]\nname = \"db\"\ninterface = \"eth0\"\nvrid = 52\n\
                  addresses = [\"192.0.2.11\"]\n";
        let before = config(&format!("{web}{db}"));
        assert_eq!(before.changes_since(&before), [""; 0]);
        let changed = web.replace("web", "www").replace("192.0.2.10", "192.0.2.12");
        let mail = db.replace("db", "mail").replace("52", "53");
        let after = config(&format!(
            "{changed}priority = 150\nadvert_interval = \"250ms\"\naddress_lifetime = \"off\"\n\
             [virtual_router.hooks]\nmaster = \"/bin/true\"\n{mail}"
        ));
        assert_eq!(
            after.changes_since(&before),
            [
                "db: removed (IPv4 VRID 52 on eth0)",
                "www: name web -> www",
                "www: priority 100 -> 150",
                "www: addresses [192.0.2.10] -> [192.0.2.12]",
                "www: advert_interval 1s -> 250ms",
                "www: max_peer_interval 10s -> 2.5s",
                "www: address_lifetime 2s -> off",
                "www: hooks",
                "mail: added (IPv4 VRID 53 on eth0)",
            ]
        );
    }

    #[test]
    fn a_reload_says_what_changed_in_checks_groups_and_hooks() {
        let router = |name: &str, vrid: u8, keys: &str| {
            format!(
                "[[virtual_router]]\nname = \"{name}\"\ninterface = \"eth0\"\nvrid = {vrid}\n\
                 addresses = [\"192.0.2.{vrid}\"]\n{keys}\n"
            )
        };
        let (a, b, c) = (router("a", 1, ""), router("b", 2, ""), router("c", 3, ""));
        let tcp = "[[check]]\nname = \"tcp\"\ntcp = \"localhost:80\"\n";
        let ping = "[[check]]\nname = \"ping\"\nping = \"192.0.2.254\"\n";
        let group = "[[sync_group]]\nname = \"g\"\nmembers = [\"a\", \"b\"]\nchecks = [\"tcp\"]\n";
        let hooks = "[sync_group.hooks]\nbefore_claim = { command = \"true\" }\n";
        let before = config(&format!("{a}{b}{c}{tcp}{ping}{group}{hooks}"));
        assert_eq!(before.changes_since(&before), [""; 0]);

        let slower = tcp.to_owned() + "interval = \"5s\"\nweight = -20\nfall = 4\n";
        let longer = hooks.replace("\"true\"", "\"true\", fault_for = \"1m\"");
        let unit = "[[check]]\nname = \"unit\"\nunit = \"app.service\"\n";
        let hooked =
            router("c", 3, "checks = [\"unit\"]\n[virtual_router.hooks]\nmaster = \"true\"");
        let after = config(&format!("{a}{b}{hooked}{slower}{unit}{group}{longer}"));
        assert_eq!(
            after.changes_since(&before),
            [
                "c: checks [] -> [unit]",
                "c: hooks",
                "sync group g: hooks",
                "check ping: removed",
                "check tcp: interval 2s -> 5s",
                "check tcp: fall 3 -> 4",
                "check tcp: failing means fault -> weight -20",
                "check unit: added (app.service is active)",
            ]
        );

        let moved = group.replace("\"a\", \"b\"", "\"b\", \"c\"");
        let other = tcp.replace("localhost:80", "localhost:81") + "initial = \"failing\"\n";
        let after = config(&format!("{a}{b}{c}{other}{ping}{moved}{hooks}"));
        assert_eq!(
            after.changes_since(&before),
            [
                "a: checks [tcp] -> []",
                "a: hooks",
                "c: checks [] -> [tcp]",
                "c: hooks",
                "sync group g: members [a, b] -> [b, c]",
                "check tcp: passes if localhost:80 accepts a connection -> localhost:81 accepts a \
                 connection",
                "check tcp: initial wait -> failing",
            ]
        );
        let renamed = config(&format!("{a}{b}{c}{tcp}{ping}{}", group.replace("\"g\"", "\"h\"")));
        assert_eq!(
            renamed.changes_since(&before),
            ["a: hooks", "b: hooks", "sync group g: removed", "sync group h: added [a, b]"]
        );
    }
}
