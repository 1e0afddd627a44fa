#![no_main]

#[path = "../bodies/events.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::events(data));
