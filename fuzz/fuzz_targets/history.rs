#![no_main]

#[path = "../bodies/bounded.rs"]
mod bounded;
#[path = "../../tests/counting/mod.rs"]
mod counting;
#[path = "../bodies/history.rs"]
mod history;

libfuzzer_sys::fuzz_target!(|data: &[u8]| history::history(data));
