//! The rules for the election: priority, preemption and delays.

use std::time::Duration;

use super::addresses::{ListedAddress, USUAL_MTU, is_link_local};
use crate::config::file;
use crate::config::problem::Diagnostics;
use crate::config::reader::At;
use crate::vrrp::advert::addresses_that_fit;
use crate::vrrp::{Family, Priority, Version};

const MAX_DELAY: Duration = Duration::from_secs(3600);

/// The default if it is missing, or wrong, which is reported.
pub(super) fn check_priority(priority: Option<&At<i64>>, report: &Diagnostics) -> Priority {
    let Some(priority) = priority else { return Priority::DEFAULT };
    match u8::try_from(priority.value) {
        Ok(0) => report.error(
            &priority.at,
            "priority 0 is reserved for the last advert of a master that leaves",
            "write 1 to 254; the highest one is master",
        ),
        Ok(number) => return Priority::new(number),
        Err(_) => report.error(
            &priority.at,
            "a priority is 1 to 254, or 255 for the owner of the addresses",
            "write 1 to 254; the highest one is master",
        ),
    }
    Priority::DEFAULT
}

pub(super) fn check_delay(key: &str, delay: Option<&At<Duration>>, report: &Diagnostics) {
    if let Some(At { value, at }) = delay
        && *value > MAX_DELAY
    {
        report.error(at, format!("`{key}` is at most 1h"), format!("write {key} = \"1m\""));
    }
}

pub(super) fn check_preemption(file: &file::RouterTable, is_owner: bool, report: &Diagnostics) {
    if let Some(preempt) = file.preempt.as_ref().filter(|preempt| !preempt.value) {
        if is_owner {
            report.error(
                &preempt.at,
                "the owner of the addresses (priority 255) always takes over",
                "leave preempt out, or write priority = 254",
            );
        }
        if let Some(delay) = file.preempt_delay.as_ref().filter(|delay| !delay.value.is_zero()) {
            report.conflict(
                &delay.at,
                "`preempt_delay` has no effect with preempt = false",
                "leave one of the two out",
                &preempt.at,
                "forbidden here",
            );
        }
    }
}

pub(super) fn advise_on_election(
    file: &file::RouterTable,
    version: Option<Version>,
    family: Option<Family>,
    is_owner: bool,
    advertised: &[ListedAddress],
    report: &Diagnostics,
) {
    if let Some(priority) = file.priority.as_ref().filter(|_| is_owner) {
        report.advice(
            &priority.at,
            "priority 255 is for the owner: the addresses must be this host's own, and are only announced",
            "write at most 254 for an address that moves",
        );
        if let Some(delay) = file.preempt_delay.as_ref().filter(|delay| !delay.value.is_zero()) {
            report.advice(
                &delay.at,
                "preempt_delay has no effect: the owner is master at once",
                "leave it out",
            );
        }
    }
    if let Some(priority) = file
        .priority
        .as_ref()
        .filter(|priority| priority.value == i64::from(Priority::LOWEST.get()))
    {
        report.advice(
            &priority.at,
            "priority 1 is also that of a drained host: from one, this host does not take over",
            "write at least 2",
        );
    }
    if let (Some(Version::V2), Some(version)) = (version, &file.version) {
        report.advice(
            &version.at,
            "version 2: peers with another advert_interval or authentication are not heard",
            "make both equal on all hosts; use version = 3 where every peer knows it",
        );
    }
    let Some(first) = advertised.first().filter(|_| family == Some(Family::V6)) else { return };
    if !is_link_local(first.ip) {
        report.advice(
            &first.at,
            "an IPv6 address list should begin with a link-local address (RFC 9568 5.2.9)",
            "peers are known to accept this; if one does not, put fe80::... first on all hosts",
        );
    }
    let most = addresses_that_fit(USUAL_MTU, Family::V6, Version::V3);
    if advertised.len() > most
        && let Some(list) = &file.addresses
    {
        report.advice(
            &list.at,
            format!(
                "with an MTU of {USUAL_MTU} an advert of {} addresses leaves in fragments: where these are \
                 filtered no host hears the other, and all are master",
                advertised.len()
            ),
            format!("{most} fit: move the others into unadvertised_addresses, on all hosts"),
        );
    }
}
