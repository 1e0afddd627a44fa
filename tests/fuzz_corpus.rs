//! The inputs of the fuzz targets, run through the same code as there: their corpus, and the captured
//! adverts. Those of `config` are run by `tests/config.rs`.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/bodies/bounded.rs"]
mod bounded;
#[path = "wire/captures.rs"]
mod captures;
#[path = "../fuzz/bodies/control.rs"]
mod control;
mod counting;
#[path = "../fuzz/bodies/dbus.rs"]
mod dbus;
#[path = "../fuzz/bodies/decode.rs"]
mod decode;
#[path = "../fuzz/bodies/events.rs"]
mod events;
#[path = "../fuzz/bodies/exporter.rs"]
mod exporter;
#[path = "../fuzz/bodies/frames.rs"]
mod frames;
#[path = "../fuzz/bodies/helper.rs"]
mod helper;
#[path = "../fuzz/bodies/history.rs"]
mod history;
#[path = "../fuzz/bodies/http.rs"]
mod http;
#[path = "../fuzz/bodies/netlink.rs"]
mod netlink;
#[path = "../fuzz/bodies/record.rs"]
mod record;
#[path = "../fuzz/bodies/report.rs"]
mod report;
#[path = "../fuzz/bodies/texts.rs"]
mod texts;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use captures::captured;
use proptest::test_runner::{Config, RngSeed};

#[test]
fn the_decoder_handles_its_corpus() {
    replay("decode", decode::run);
    for packet in captured().into_values().flatten() {
        decode::run(&packet);
    }
}

#[test]
fn the_election_handles_its_corpus() {
    replay("events", events::events);
}

type Body = fn(&[u8]);

/// The parsers of foreign bytes whose cost is bounded by the length of their input.
const PARSERS: [(&str, Body); 10] = [
    ("control", control::control),
    ("dbus", dbus::dbus),
    ("exporter", exporter::exporter),
    ("frames", frames::frames),
    ("helper", helper::helper),
    ("history", history::history),
    ("http", http::http),
    ("netlink", netlink::netlink),
    ("record", record::record),
    ("texts", texts::texts),
];

#[test]
fn every_parser_handles_its_corpus() {
    for (target, body) in PARSERS {
        replay(target, body);
    }
}

#[test]
fn a_long_input_costs_no_more_for_each_byte_than_a_short_one() {
    const LENGTH: usize = 256 << 10;
    for (target, body) in PARSERS {
        replay(target, |seed| {
            // The end of it, and both halves: what opens, what goes on, what is repeated.
            for part in [seed, &seed[seed.len() / 2..], &seed[seed.len().saturating_sub(1)..]] {
                let begin = &seed[..seed.len() - part.len()];
                let repeated = part.iter().cycle().take(if part.is_empty() { 0 } else { LENGTH });
                let long: Vec<u8> = begin.iter().chain(repeated).copied().collect();
                body(&long);
            }
        });
    }
}

#[test]
fn every_target_has_a_corpus_and_is_replayed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let names = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(root.join(directory)).unwrap();
        let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
        entries.map(|entry| stem(&entry.unwrap().path())).collect()
    };
    let replayed = PARSERS.iter().map(|(target, _)| *target).chain(["decode", "events", "config"]);
    let replayed: BTreeSet<String> = replayed.map(str::to_owned).collect();
    assert_eq!(names("fuzz_targets"), replayed);
}
/// The same bytes in every run, so that it fails with the change that breaks it; others by
/// `PROPTEST_RNG_SEED`, more by `PROPTEST_CASES`.
fn draws() -> Config {
    let mut config = Config { failure_persistence: None, ..Default::default() };
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(1);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 50_000;
    }
    config
}

proptest::proptest! {
    #![proptest_config(draws())]

    #[test]
    fn the_election_handles_any_events(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        events::events(&bytes);
    }
}

fn replay(target: &str, body: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        // A failure names its input.
        if let Err(panic) = std::panic::catch_unwind(|| body(&bytes)) {
            panic!("{}: {:?}", path.display(), panic.downcast_ref::<String>());
        }
        seeds += 1;
    }
    assert!(seeds > 0, "no corpus for {target}");
}
