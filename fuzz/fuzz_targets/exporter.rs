#![no_main]

#[path = "../bodies/bounded.rs"]
mod bounded;
#[path = "../../tests/counting/mod.rs"]
mod counting;
#[path = "../bodies/exporter.rs"]
mod exporter;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exporter::exporter(data));
