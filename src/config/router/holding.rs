//! The rules for how a master holds and releases its addresses: lifetime, prefix, handover.

use super::addresses::{ListedAddress, longest};
use crate::config::file::{self, Lifetime};
use crate::config::problem::Diagnostics;
use crate::config::reader::At;
use crate::vrrp::{Handover, Hook, Interval, RouterConfig};

const MAX_LIFETIME: u32 = 3600;

pub(super) fn check_claim_prefix(
    claim_prefix: Option<&At<bool>>,
    all: &[ListedAddress],
    is_owner: bool,
    report: &Diagnostics,
) -> bool {
    let claimed = claim_prefix.is_some_and(|claim| claim.value);
    let with_prefix: Vec<&ListedAddress> =
        all.iter().filter(|listed| listed.prefix.is_some_and(|p| p < longest(listed.ip))).collect();
    match (claim_prefix, with_prefix.first()) {
        (Some(claim), None) if claimed && !report.is_partial() => report.advice(
            &claim.at,
            "claim_prefix has no effect: no address has a prefix length",
            "leave it out, or write \"192.0.2.10/24\"",
        ),
        (Some(claim), Some(_)) if claimed && !is_owner => report.advice(
            &claim.at,
            "while this host is master it reaches the subnet of each address through the interface: claim_prefix adds a route",
            "leave claim_prefix out if the host has an address of its own there: its route goes first",

        ),
        (_, Some(first)) if !claimed => report.advice(
            &first.at,
            match with_prefix.len() {
                1 => format!("the prefix length is not used: {} is claimed alone", first.ip),
                n => format!("the prefix lengths are not used: these {n} addresses are claimed alone"),
            },
            "leave it out; claim_prefix = true would use it",
        ),
        _ => {}
    }
    claimed
}

pub(super) fn check_claiming_of_owner(
    file: &file::RouterTable,
    is_owner: bool,
    report: &Diagnostics,
) {
    let hook = file.hooks.as_ref().and_then(|hooks| hooks.of.get(&Hook::BeforeClaim));
    if let (Some(hook), Some(priority), true) = (hook, &file.priority, is_owner) {
        report.conflict(
            &hook.argv.at,
            "before_claim never runs: the owner (priority 255) claims nothing",
            "leave it out, or write at most priority = 254",
            &priority.at,
            "the owner",
        );
    }
}

pub(in crate::config) fn advise_on_release(
    hooks: Option<&file::HooksTable>,
    handover: Handover,
    report: &Diagnostics,
) {
    let hook = hooks.and_then(|hooks| hooks.of.get(&Hook::BeforeRelease));
    if let Some(hook) = hook
        && handover == Handover::Overlap
    {
        report.advice(
            &hook.argv.at,
            "with handover = \"overlap\" the address is still answered after before_release has run",
            "if the hook stops the service, write handover = \"exclusive\"",
        );
    }
}

/// The lifetime in seconds; `None`: infinite.
pub(super) fn check_lifetime(
    file: &file::RouterTable,
    interval: Interval,
    is_owner: bool,
    addresses: usize,
    report: &Diagnostics,
) -> Option<u32> {
    let automatic = RouterConfig::automatic_lifetime(interval);
    let place = file.address_lifetime.as_ref().map(|lifetime| &lifetime.at);
    let lifetime = file.address_lifetime.as_ref().map_or(Lifetime::Auto, |it| it.value);
    if let Some(at) = place
        && is_owner
    {
        report.advice(
            at,
            "address_lifetime has no effect: the owner (priority 255) claims nothing",
            "leave it out",
        );
    }
    match lifetime {
        Lifetime::Auto => {
            let interval_at = file.advert_interval.as_ref().map(|interval| &interval.at);
            if let Some(at) = interval_at
                && interval < RouterConfig::MIN_INTERVAL_WITH_LEASE
                && addresses > 0
                && !is_owner
            {
                report.advice(
                    at,
                    "adverts faster than 0.7s: if the daemon alone dies, its addresses end after \
                     2s to 3s, later than the peers take over",
                    "kernel lifetimes count whole seconds; from 700ms on they end in time",
                );
            }
            Some(automatic)
        }
        Lifetime::Off => {
            if let Some(at) = place {
                report.advice(
                    at,
                    "without a lifetime the addresses stay if the daemon alone is killed or frozen",
                    "leave address_lifetime out unless something else removes them",
                );
            }
            None
        }
        Lifetime::Fixed(span) => {
            let place = place?;
            let peers_wait = interval.peer_timeout();
            let automatic_is_in_time = interval >= RouterConfig::MIN_INTERVAL_WITH_LEASE;
            let secs = u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
            if span.subsec_nanos() != 0 || secs == 0 || secs > MAX_LIFETIME {
                report.error(
                    place,
                    "a lifetime is 1s to 1h, in whole seconds",
                    format!("write \"{automatic}s\", or \"auto\""),
                );
            } else if secs < RouterConfig::shortest_lifetime(interval) {
                let time = RouterConfig::RENEWAL_TIME;
                report.error(
                    place,
                    format!(
                        "a lifetime of {span:?} leaves the next advert ({interval}) no time to renew it: \
                         it has to be {time:?} longer"
                    ),
                    format!("write \"{automatic}s\", or \"auto\""),
                );
            } else if span >= peers_wait {
                let help = if automatic_is_in_time {
                    format!("write \"{automatic}s\", or \"auto\"")
                } else {
                    "kernel lifetimes count whole seconds: only from 700ms on can they end in time"
                        .into()
                };
                report.advice(
                    place,
                    format!("a lifetime of {span:?} does not end before the peers take over ({peers_wait:?})"),
                    help,
                );
            }
            Some(secs)
        }
    }
}
