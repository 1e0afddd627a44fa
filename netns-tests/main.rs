//! The scenarios on real binaries, in network namespaces, with keepalived as the oracle.
//!
//! Needs root or user namespaces. `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped, because
//! keepalived or namespaces are missing, into failures.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

mod demo;
mod fault;
mod faults;
mod interfaces;
#[path = "../tests/lab/mod.rs"]
mod lab;
mod local_users;
mod options;
mod pair;
mod scenario;
mod sending;
mod source;
#[path = "../tests/suite/mod.rs"]
mod suite;

use std::process::ExitCode;

fn main() -> ExitCode {
    suite::main(4, |_| {
        scenario::tests()
            .into_iter()
            .chain(pair::tests())
            .chain(fault::tests())
            .chain(faults::tests())
            .chain(interfaces::tests())
            .chain(local_users::tests())
            .chain(options::tests())
            .chain(sending::tests())
            .chain(source::tests())
            .chain(demo::tests())
            .collect()
    })
}
