#![no_main]

#[path = "../bodies/bounded.rs"]
mod bounded;
#[path = "../../tests/counting/mod.rs"]
mod counting;
#[path = "../bodies/texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|data: &[u8]| texts::texts(data));
