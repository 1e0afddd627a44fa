//! The inputs of the fuzz targets `decode` and `events`, run through the same code as there: their
//! corpus, and the captured adverts. Those of `config` are run by `tests/config.rs`.

#![allow(clippy::unwrap_used)]

#[path = "wire/captures.rs"]
mod captures;
#[path = "../fuzz/bodies/decode.rs"]
mod decode;
#[path = "../fuzz/bodies/events.rs"]
mod events;

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

fn replay(target: &str, body: fn(&[u8])) {
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
