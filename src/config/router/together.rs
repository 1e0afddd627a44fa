//! The rules for all virtual routers together: names, identities and addresses are unique.

use std::collections::BTreeMap;

use super::RouterDraft;
use super::addresses::is_link_local;
use crate::config::problem::Diagnostics;
use crate::config::reader::At;
use crate::vrrp::Priority;

/// Per interface. Renewing this many at once was measured not to delay adverts.
const MAX_LEASED: usize = 255;

pub(in crate::config) fn check_together(routers: &[RouterDraft<'_>], report: &Diagnostics) {
    let mut names = BTreeMap::new();
    let mut identities = BTreeMap::new();
    let mut holders = BTreeMap::new();
    let mut leased: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, router) in routers.iter().enumerate() {
        let name = router.name.map_or("another", |name| name.value.as_str());
        if let Some(At { value, at }) = router.name
            && let Some(earlier) = names.insert(value.as_str(), at)
        {
            report.conflict(
                at,
                format!("two virtual routers are named `{value}`"),
                "give this one a name of its own",
                earlier,
                "the first one",
            );
        }
        if let (Some(interface), Some((vrid, at)), Some(family)) =
            (router.interface, &router.vrid, router.family)
            && let Some(earlier) = identities.insert((&interface.value, family, *vrid), at)
        {
            report.conflict(
                at,
                format!(
                    "VRID {vrid} is used twice on {} for {family}: on the wire these are one \
                     virtual router",
                    interface.value
                ),
                "give this one another vrid, the same one on all of its hosts",
                earlier,
                "first used here",
            );
        }
        let interface = router.interface.map(|interface| interface.value.as_str());
        for listed in &router.addresses {
            // The same link-local address on two links means two addresses.
            let link = interface.filter(|_| is_link_local(listed.ip));
            let before = holders.insert((listed.ip, link), (index, name, &listed.at));
            // Duplicates within one router are reported by `check_repeated`.
            if let Some((_, holder, earlier)) = before.filter(|(other, ..)| *other != index) {
                report.conflict(
                    &listed.at,
                    format!("{} is also an address of the virtual router `{holder}`", listed.ip),
                    "leave it in one of the two",
                    earlier,
                    "first used here",
                );
            }
        }
        let is_leased = router.result.as_ref().is_some_and(|(config, ..)| {
            config.address_lifetime.is_some() && config.priority != Priority::OWNER
        });
        if let Some(interface) = router.interface.filter(|_| is_leased) {
            let count = leased.entry(&interface.value).or_default();
            let before = *count;
            *count += router.addresses.len();
            if before <= MAX_LEASED && *count > MAX_LEASED {
                report.advice(
                    &interface.at,
                    format!(
                        "more than {MAX_LEASED} addresses on {} have a lifetime",
                        interface.value
                    ),
                    "renewing so many in time is not guaranteed: set address_lifetime = \"off\" for some",
                );
            }
        }
    }
}
