//! What a reload changes, for the operator who asked for it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Config;
use crate::vrrp::{Address, Family, Handover, RouterConfig, Vrid};

/// One line for each difference; virtual routers are the same if interface, family and VRID are.
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
                if old.hooks.get(&before.name) != new.hooks.get(&router.name) {
                    lines.push(format!("{}: hooks", router.name));
                }
            }
        }
    }
    lines
}

fn by_identity(config: &Config) -> BTreeMap<(&str, Family, Vrid), &RouterConfig> {
    config.vrrp.routers.iter().map(|router| (router.identity(), router)).collect()
}

fn place(router: &RouterConfig) -> String {
    format!("{} VRID {} on {}", router.family, router.vrid, router.interface)
}

/// Every key is named here, so that the next one stops the compiler.
fn compare(old: &RouterConfig, new: &RouterConfig, lines: &mut Vec<String>) {
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
        before_release: _, // belongs to the hooks
        before_claim: _,
        fault_for: _,
        checks: _,
    } = old;
    let mut note = |key: &str, before: String, after: String| {
        if before != after {
            lines.push(format!("{}: {key} {before} -> {after}", new.name));
        }
    };
    note("name", name.to_string(), new.name.to_string());
    note("version", version.to_string(), new.version.to_string());
    note("priority", priority.to_string(), new.priority.to_string());
    note("addresses", claimed(addresses), claimed(&new.addresses));
    note(
        "unadvertised_addresses",
        claimed(unadvertised_addresses),
        claimed(&new.unadvertised_addresses),
    );
    note("advert_interval", advert_interval.to_string(), new.advert_interval.to_string());
    note("preempt", preempt.to_string(), new.preempt.to_string());
    note("preempt_delay", span(*preempt_delay), span(new.preempt_delay));
    note("start_delay", span(*start_delay), span(new.start_delay));
    note("link_delay", span(*link_delay), span(new.link_delay));
    note("checksum", checksum.to_string(), new.checksum.to_string());
    note("unicast_peers", optional(unicast_peers), optional(&new.unicast_peers));
    note("unicast_min_ttl", unicast_min_ttl.to_string(), new.unicast_min_ttl.to_string());
    let source =
        |ip: &Option<_>| ip.map_or("none".to_owned(), |ip: std::net::IpAddr| ip.to_string());
    note("source_address", source(source_address), source(&new.source_address));
    note("accept_from", optional(accept_from), optional(&new.accept_from));
    if *authentication != new.authentication {
        // A password is nobody's to read here.
        note("authentication", "the one before".into(), "another".into());
    }
    let lifetime = |secs: &Option<u32>| secs.map_or("off".to_owned(), |secs| format!("{secs}s"));
    note("address_lifetime", lifetime(address_lifetime), lifetime(&new.address_lifetime));
    let handed_over = |how: Handover| match how {
        Handover::Overlap => "overlap".to_owned(),
        Handover::Exclusive => "exclusive".to_owned(),
    };
    note("handover", handed_over(*handover), handed_over(new.handover));
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
                "www: address_lifetime 2s -> off",
                "www: hooks",
                "mail: added (IPv4 VRID 53 on eth0)",
            ]
        );
    }
}
