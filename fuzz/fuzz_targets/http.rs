#![no_main]

#[path = "../bodies/bounded.rs"]
mod bounded;
#[path = "../../tests/counting/mod.rs"]
mod counting;
#[path = "../bodies/http.rs"]
mod http;
#[path = "../bodies/report.rs"]
mod report;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http::http(data));
