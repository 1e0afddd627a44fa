//! Any bytes as a request to the control socket, and as an answer to one: both are refused with a
//! sentence or understood, and what is understood can be sent again and shown.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use vipd::api::protocol::{Answer, decode_answer, decode_request, encode};
use vipd::api::status::Status;
use vipd::fuzzing;

use crate::bounded::bounded;

/// For each byte of JSON: the shortest values are two bytes long.
const MEMORY_PER_BYTE: u64 = 128;

pub fn control(data: &[u8]) {
    match bounded(data.len(), MEMORY_PER_BYTE, || decode_request(data)) {
        Ok(request) => assert_eq!(decode_request(&encode(&request)), Ok(request)),
        Err(text) => assert!((1..=1024 + 4 * data.len()).contains(&text.len())),
    }
    let Ok(answer) = bounded(data.len(), MEMORY_PER_BYTE, || decode_answer(data)) else { return };
    let line = encode(&answer);
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    let again = decode_answer(&line).expect("we understand ourselves");
    let value = |answer: &Answer| serde_json::to_value(answer).unwrap();
    assert!(same(&value(&again), &value(&answer)), "{answer:?}\nis read as\n{again:?}");
    if let Answer::Status(status) = answer {
        shown(&status);
    }
}

/// Equal, except for the last digits of numbers.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) if one.is_f64() => {
            let (one, other) = (one.as_f64().unwrap(), other.as_f64().unwrap());
            (one - other).abs() <= one.abs() * 1e-12
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| same(one, other)))
        }
        (one, other) => one == other,
    }
}

fn shown(status: &Status) {
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for width in [0, 1, 79, 100] {
        let texts = fuzzing::status(status, now, width);
        assert_eq!(texts.pages.len(), 1 + status.routers.len());
        assert!(texts.pages.iter().all(|page| !page.is_empty()));
        for metrics in texts.metrics {
            metrics.split_terminator('\n').for_each(sample);
        }
        let (Ok(text) | Err(text)) = texts.health;
        assert!(!text.is_empty() || status.routers.is_empty());
    }
    let _ = status.clone().aged(Duration::from_secs(3600));
}

/// A line of metrics is a comment or a sample, whatever the names are.
fn sample(line: &str) {
    if line.starts_with("# ") {
        return;
    }
    let (sample, value) = line.rsplit_once(' ').expect("a value");
    assert!(value.parse::<f64>().is_ok(), "{line}");
    let name = sample.split('{').next().unwrap();
    assert!(name.starts_with("vipd_"), "{line}");
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
    let labels = &sample[name.len()..];
    assert!(labels.is_empty() || labels.ends_with("\"}"), "{line}");
}
