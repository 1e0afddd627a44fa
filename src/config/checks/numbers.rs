//! How often a check runs, how many results count, and what they mean.

use std::time::Duration;

use crate::config::file::{self, CheckKind};
use crate::config::problem::Diagnostics;
use crate::config::reader::At;
use crate::vrrp::Effect;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_FALL: u32 = 3;
const DEFAULT_RISE: u32 = 2;
const DEFAULT_DELAY: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Priorities are 1 to 254, so a larger weight has no further effect.
const MAX_WEIGHT: i16 = 253;

/// A range of durations, with the limits as they are written.
struct DurationRange {
    shortest: (Duration, &'static str),
    longest: (Duration, &'static str),
}

const INTERVALS: DurationRange = DurationRange {
    shortest: (Duration::from_millis(100), "100ms"),
    longest: (Duration::from_secs(3600), "1h"),
};
const TIMEOUTS: DurationRange = DurationRange {
    shortest: (Duration::from_millis(10), "10ms"),
    longest: (Duration::from_secs(600), "10m"),
};
const DELAYS: DurationRange =
    DurationRange { shortest: (Duration::ZERO, "0s"), longest: (MAX_DELAY, "1m") };

pub(super) fn check_interval(span: Option<&At<Duration>>, report: &Diagnostics) -> Duration {
    check_duration(span, "interval", &INTERVALS, DEFAULT_INTERVAL, report)
}

pub(super) fn check_timeout(span: Option<&At<Duration>>, report: &Diagnostics) -> Duration {
    check_duration(span, "timeout", &TIMEOUTS, DEFAULT_TIMEOUT, report)
}

/// How long a process may be missing.
pub(super) fn check_delay(span: Option<&At<Duration>>, report: &Diagnostics) -> Duration {
    check_duration(span, "delay", &DELAYS, DEFAULT_DELAY, report)
}

fn check_duration(
    span: Option<&At<Duration>>,
    key: &str,
    accepted: &DurationRange,
    default: Duration,
    report: &Diagnostics,
) -> Duration {
    let Some(At { value, at }) = span else { return default };
    let DurationRange { shortest, longest } = accepted;
    let nearest = if *value < shortest.0 {
        shortest.1
    } else if *value > longest.0 {
        longest.1
    } else {
        return *value;
    };
    report.error(
        at,
        format!("`{key}` of a check is {} to {}, not {value:?}", shortest.1, longest.1),
        format!("write {key} = \"{nearest}\", or leave it out: {default:?}"),
    );
    default
}

pub(super) fn check_fall(count: Option<&At<i64>>, report: &Diagnostics) -> u32 {
    check_count("fall", count, DEFAULT_FALL, report)
}

pub(super) fn check_rise(count: Option<&At<i64>>, report: &Diagnostics) -> u32 {
    check_count("rise", count, DEFAULT_RISE, report)
}

fn check_count(key: &str, count: Option<&At<i64>>, default: u32, report: &Diagnostics) -> u32 {
    let Some(At { value, at }) = count else { return default };
    match u32::try_from(*value) {
        Ok(count @ 1..=1000) => count,
        _ => {
            let what = if key == "fall" { "failures" } else { "passes" };
            let help = format!("write {key} = {default}, or leave it out");
            report.error(at, format!("`{key}` is 1 to 1000 {what} in a row"), help);
            default
        }
    }
}

pub(super) fn check_effect(file: &file::CheckTable, report: &Diagnostics) -> Effect {
    let is_number = file.subject.kinds.iter().any(|kind| kind.value == CheckKind::File);
    if let (Some(weight), Some(on_fail), false) = (&file.weight, &file.on_fail, is_number) {
        report.conflict(
            &on_fail.at,
            "`weight` and `on_fail` exclude each other",
            "leave one of the two out",
            &weight.at,
            "changes the priority",
        );
    }
    match (&file.weight, file.on_fail.as_ref().map(|on_fail| on_fail.value)) {
        (Some(weight), _) => check_weight(weight, report).map_or(Effect::Fault, Effect::Weight),
        (None, on_fail) => on_fail.unwrap_or(Effect::Fault),
    }
}

/// `None` after an error, which has been reported.
fn check_weight(weight: &At<i64>, report: &Diagnostics) -> Option<i16> {
    if weight.value == 0 {
        let help = "leave it out: a failing check then means fault";
        report.error(&weight.at, "a weight of 0 changes nothing", help);
        return None;
    }
    let fits = |weight: &i16| (-MAX_WEIGHT..=MAX_WEIGHT).contains(weight);
    let number = i16::try_from(weight.value).ok().filter(fits);
    if number.is_none() {
        let sign = if weight.value < 0 { "-" } else { "" };
        report.error(
            &weight.at,
            format!("a weight is -{MAX_WEIGHT} to {MAX_WEIGHT}: the priority stays in 1 to 254"),
            format!("write weight = {sign}{MAX_WEIGHT}"),
        );
    }
    number
}
