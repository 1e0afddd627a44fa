//! What a configuration means, for a reader who wrote it and wants to be sure.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::Config;
use crate::vrrp::{Address, Handover, Priority, RouterConfig, Version};

pub(super) fn as_text(config: &Config) -> String {
    let mut text = String::new();
    let routers = &config.vrrp.routers;
    let count = match routers.len() {
        0 => "no virtual router: nothing to do".to_string(),
        1 => "1 virtual router".to_string(),
        count => format!("{count} virtual routers"),
    };
    let notes = match config.advice.len() {
        0 => String::new(),
        1 => ", 1 note".to_string(),
        count => format!(", {count} notes"),
    };
    let _ = writeln!(text, "ok: node {}, {count}{notes}", config.node.name);
    for router in routers {
        let _ = writeln!(text, "\n{}", one_router(config, router));
    }
    text
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
    let handover = match router.handover {
        Handover::Overlap => "overlap",
        Handover::Exclusive => "exclusive",
    };
    let preempt = match (router.preempt, router.preempt_delay) {
        (false, _) => "does not preempt".to_string(),
        (true, Duration::ZERO) => "preempts".to_string(),
        (true, delay) => format!("preempts after {delay:?}"),
    };
    let hooks: Vec<&str> = config
        .hooks
        .get(&router.name)
        .map(|hooks| hooks.iter().map(|(key, _)| key).collect())
        .unwrap_or_default();
    let hooks =
        if hooks.is_empty() { "no hooks".into() } else { format!("hooks: {}", hooks.join(", ")) };
    format!(
        "{}: {addresses} on {}\n  \
         VRID {}, {}, VRRP version {}, {peers}, priority {}, {preempt}\n  \
         an advert every {}, a silent master is replaced after {:.3}s, handover {handover}\n  \
         {lease}, {hooks}",
        router.name,
        router.interface,
        router.vrid,
        router.family,
        router.version,
        router.priority,
        router.advert_interval,
        patience(router).as_secs_f64(),
    )
}

/// How long a backup with this configuration waits for a master with the same interval:
/// 3 x interval + skew (RFC 9568 6.1).
fn patience(router: &RouterConfig) -> Duration {
    let interval = router.advert_interval.duration();
    let steps = 256 - u32::from(router.priority.get());
    let skew = match router.version {
        Version::V2 => Duration::from_secs(1) * steps / 256,
        Version::V3 => interval * steps / 256,
    };
    interval * 3 + skew
}

pub(super) fn as_json(config: &Config) -> String {
    let routers: Vec<_> = config
        .vrrp
        .routers
        .iter()
        .map(|router| {
            let hooks = config.hooks.get(&router.name);
            let hooks: Vec<&str> =
                hooks.map(|hooks| hooks.iter().map(|(key, _)| key).collect()).unwrap_or_default();
            let listed = |list: &[Address]| {
                list.iter().map(|address| address.to_string()).collect::<Vec<_>>()
            };
            json!({
                "name": &*router.name,
                "interface": &*router.interface,
                "vrid": router.vrid.get(),
                "family": router.family.to_string().to_lowercase(),
                "version": router.version.to_string(),
                "priority": router.priority.get(),
                "addresses": listed(&router.addresses),
                "unadvertised_addresses": listed(&router.unadvertised_addresses),
                "unicast_peers": router.unicast_peers.as_deref(),
                "preempt": router.preempt,
                "advert_interval_seconds": router.advert_interval.duration().as_secs_f64(),
                "patience_seconds": patience(router).as_secs_f64(),
                "address_lifetime_seconds": router.address_lifetime,
                "handover": match router.handover {
                    Handover::Overlap => "overlap",
                    Handover::Exclusive => "exclusive",
                },
                "hooks": hooks,
            })
        })
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
    format!("{:#}\n", json!({ "node": config.node.name, "routers": routers, "advice": advice }))
}
