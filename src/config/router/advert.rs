//! The rules for the fields of an advert: VRID, version, interval, checksum, authentication.

use std::time::Duration;

use super::addresses::ListedAddress;
use crate::config::problem::Diagnostics;
use crate::config::reader::At;
use crate::vrrp::{ChecksumForm, Family, Interval, RouterConfig, Version, Vrid};

pub(super) fn check_vrid(vrid: &At<i64>, report: &Diagnostics) -> Option<Vrid> {
    let number = u8::try_from(vrid.value).ok().and_then(Vrid::new);
    if number.is_none() {
        report.error(
            &vrid.at,
            "a vrid is 1 to 255",
            "write the same number on all hosts of this virtual router, such as 51",
        );
    }
    number
}

/// `None` after an error, which has been reported.
pub(super) fn check_version(
    version: Option<&At<i64>>,
    advertised: &[ListedAddress],
    report: &Diagnostics,
) -> Option<Version> {
    let Some(At { value, at }) = version else { return Some(Version::V3) };
    match value {
        2 => {
            if let Some(first) = advertised.first()
                && Family::of(first.ip) == Family::V6
            {
                report.conflict(
                    at,
                    "version 2 of VRRP carries IPv4 only",
                    "write version = 3, or leave it out",
                    &first.at,
                    "this is IPv6",
                );
            }
            Some(Version::V2)
        }
        3 => Some(Version::V3),
        _ => {
            report.error(
                at,
                "the versions of VRRP are 2 and 3",
                "write version = 3, or 2 for peers that support nothing else",
            );
            None
        }
    }
}

/// `None` after an error, which has been reported.
pub(super) fn check_interval(
    interval: Option<&At<Duration>>,
    version: Option<Version>,
    report: &Diagnostics,
) -> Option<Interval> {
    let Some(At { value, at }) = interval else { return Some(Interval::DEFAULT) };
    let nanos = value.as_nanos();
    match version? {
        Version::V2 => {
            let secs = u8::try_from(value.as_secs()).ok();
            let interval = secs.filter(|_| value.subsec_nanos() == 0).and_then(Interval::from_secs);
            if interval.is_none() {
                let nearest = (value.as_secs_f64().round() as u64).clamp(1, 255);
                report.error(
                    at,
                    "version 2 counts whole seconds between adverts, 1s to 255s",
                    format!("write \"{nearest}s\", or use version = 3"),
                );
            }
            interval
        }
        Version::V3 => {
            let centis = u16::try_from(nanos / 10_000_000).ok();
            let interval =
                centis.filter(|_| nanos % 10_000_000 == 0).and_then(Interval::from_centis);
            if interval.is_none() {
                let nearest = ((nanos + 5_000_000) / 10_000_000).clamp(1, 4095);
                let nearest = Duration::from_millis(nearest as u64 * 10);
                report.error(
                    at,
                    "the advert interval is 10ms to 40.95s in steps of 10ms (RFC 9568 5.2.7)",
                    format!("write \"{nearest:?}\""),
                );
            }
            interval
        }
    }
}

pub(super) fn check_max_peer_interval(
    longest: Option<&At<Duration>>,
    interval: Option<Interval>,
    version: Option<Version>,
    report: &Diagnostics,
) -> Option<Interval> {
    let interval = interval?;
    let default = RouterConfig::default_max_peer_interval(interval);
    let Some(At { value, at }) = longest else { return Some(default) };
    if version == Some(Version::V2) {
        report.error(
            at,
            "`max_peer_interval` is for version 3: with version 2 only an equal interval is accepted",
            "leave it out",
        );
        return None;
    }
    let nanos = value.as_nanos();
    let centis = u16::try_from(nanos / 10_000_000).ok();
    let exact = centis.filter(|_| nanos % 10_000_000 == 0).and_then(Interval::from_centis);
    let longest = exact.filter(|longest| *longest >= interval);
    if longest.is_none() {
        report.error(
            at,
            format!("max_peer_interval is {interval} (advert_interval) to 40.95s in steps of 10ms"),
            format!("write \"{default}\", which is the default"),
        );
    }
    longest
}

pub(super) fn check_checksum(
    checksum: Option<&At<ChecksumForm>>,
    version: Option<Version>,
    family: Option<Family>,
    report: &Diagnostics,
) -> ChecksumForm {
    let Some(checksum) = checksum else { return ChecksumForm::PseudoHeader };
    let why = match (version, family) {
        (Some(Version::V2), _) => "version 2 has one form only",
        (_, Some(Family::V6)) => "over IPv6 it always covers the pseudo-header",
        (Some(Version::V3) | None, Some(Family::V4) | None) => return checksum.value,
    };
    report.error(
        &checksum.at,
        format!("`checksum` is for version 3 over IPv4: {why}"),
        "leave it out",
    );
    checksum.value
}

pub(super) fn check_authentication(
    authentication: Option<&At<String>>,
    version: Option<Version>,
    report: &Diagnostics,
) -> Option<[u8; 8]> {
    let At { value, at } = authentication?;
    if version == Some(Version::V3) {
        report.error(
            at,
            "version 3 has no authentication (RFC 9568 9)",
            "leave it out; keep other hosts out with accept_from and a packet filter",
        );
        return None;
    }
    let mut data = [0; 8];
    let printable = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    match data.get_mut(..value.len()) {
        Some(start) if printable && !value.is_empty() => start.copy_from_slice(value.as_bytes()),
        _ => {
            report.error(
                at,
                "the authentication text is 1 to 8 ASCII characters",
                "write what the peers have as auth_pass; of a longer one they use 8 characters",
            );
            return None;
        }
    }
    report.advice(
        at,
        "the authentication text can be read by everybody on the link",
        "it only protects against mistakes; keep other hosts out with accept_from and a packet filter",
    );
    Some(data)
}
