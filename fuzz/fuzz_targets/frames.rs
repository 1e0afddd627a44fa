#![no_main]

#[path = "../bodies/bounded.rs"]
mod bounded;
#[path = "../../tests/counting/mod.rs"]
mod counting;
#[path = "../bodies/frames.rs"]
mod frames;

libfuzzer_sys::fuzz_target!(|data: &[u8]| frames::frames(data));
