//! Durations as the file writes them: a number and its unit.

use std::time::Duration;

/// The units in nanoseconds.
const UNITS: [(&str, u128); 4] = [
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
];

/// Other spellings of the units, for suggestions.
const OTHER_NAMES: [(&str, &[&str]); 4] = [
    ("ms", &["msec", "msecs", "millis", "millisecond", "milliseconds"]),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("m", &["min", "mins", "minute", "minutes"]),
    ("h", &["hr", "hrs", "hour", "hours"]),
];

/// One leap year, in nanoseconds; keeps sums of durations far from overflow.
const MAX_NANOS: u128 = 366 * 24 * 3600 * 1_000_000_000;

/// Parses "250ms", "1.5s", "2m", "1h". The error is the message and the suggestion.
pub(super) fn parse(text: &str) -> Result<Duration, (String, String)> {
    let help = || "write a number and its unit: \"250ms\", \"1s\", \"2m\", \"1h\"".to_string();
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let unit_at = compact.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(compact.len());
    let (number, unit) = compact.split_at(unit_at);
    if compact.starts_with('-') {
        return Err((format!("`{text}` is negative"), help()));
    }
    let Some(number_nanos) = decimal(number) else {
        return Err((format!("`{text}` is not a span of time"), help()));
    };
    if unit.is_empty() {
        let help = format!("write \"{number}ms\" or \"{number}s\"");
        return Err((format!("`{text}` has no unit"), help));
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let lower = unit.to_lowercase();
        let meant = OTHER_NAMES
            .iter()
            .find(|(name, others)| *name == lower || others.contains(&lower.as_str()));
        let help = match meant {
            Some((name, _)) => format!("write \"{number}{name}\""),
            None => help(),
        };
        return Err((format!("`{unit}` is not a unit of time"), help));
    };
    if compact != text {
        return Err((format!("`{text}` contains spaces"), format!("write \"{compact}\"")));
    }
    // Numbers are held in billionths, so that decimals stay exact.
    let billionths = number_nanos.saturating_mul(*factor);
    if billionths / 1_000_000_000 > MAX_NANOS {
        return Err((format!("`{text}` is longer than a year"), help()));
    }
    if billionths % 1_000_000_000 != 0 {
        let message = format!("`{text}` is finer than a nanosecond");
        return Err((message, help()));
    }
    let nanos = u64::try_from(billionths / 1_000_000_000).unwrap_or(u64::MAX);
    Ok(Duration::from_nanos(nanos))
}

/// Parses a decimal number, in billionths.
fn decimal(number: &str) -> Option<u128> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    if fraction.len() > 9 || whole.is_empty() || whole.len() > 18 {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let fraction: u128 = format!("{fraction:0<9}").parse().ok()?;
    Some(whole * 1_000_000_000 + fraction)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_with_a_unit_are_spans() {
        for (text, millis) in
            [("250ms", 250), ("1s", 1000), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("0.5ms"), Ok(Duration::from_micros(500)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn a_refused_duration_is_explained() {
        for (text, help) in [
            ("100", "write \"100ms\" or \"100s\""),
            ("5 sec", "write \"5s\""),
            ("1 s", "write \"1s\""),
            ("3S", "write \"3s\""),
        ] {
            assert_eq!(parse(text).unwrap_err().1, help, "{text}");
        }
        for text in ["", "s", "-1s", "1.s", ".5s", "1..5s", "1m30s", "0.0001ns", "99999999h", "∞s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
