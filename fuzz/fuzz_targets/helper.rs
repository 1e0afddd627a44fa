#![no_main]

#[path = "../bodies/bounded.rs"]
mod bounded;
#[path = "../../tests/counting/mod.rs"]
mod counting;
#[path = "../bodies/helper.rs"]
mod helper;

libfuzzer_sys::fuzz_target!(|data: &[u8]| helper::helper(data));
