#![no_main]

#[path = "../bodies/bounded.rs"]
mod bounded;
#[path = "../bodies/control.rs"]
mod control;
#[path = "../../tests/counting/mod.rs"]
mod counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| control::control(data));
