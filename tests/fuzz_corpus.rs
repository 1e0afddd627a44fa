//! Everything the fuzzers were fed or found, run through the same code as there.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/bodies/decode.rs"]
mod decode;

#[path = "../fuzz/bodies/events.rs"]
mod events;

#[test]
fn the_decoder_bears_its_corpus() {
    replay("decode", decode::run);
}

#[test]
fn the_election_bears_its_corpus() {
    replay("events", events::events);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_election_bears_any_events(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        events::events(&bytes);
    }
}

fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        // The name of the input is the first thing one wants to know.
        if let Err(panic) = std::panic::catch_unwind(|| body(&bytes)) {
            panic!("{}: {:?}", path.display(), panic.downcast_ref::<String>());
        }
        seeds += 1;
    }
    assert!(seeds > 0, "no corpus for {target}");
}
