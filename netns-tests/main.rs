//! The scenarios on real binaries, in network namespaces, with keepalived as the oracle.
//!
//! Needs root or user namespaces. `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped, because
//! keepalived or namespaces are missing, into failures.
#![allow(clippy::unwrap_used, missing_docs)]

mod demo;
mod fault;
mod faults;
#[path = "../tests/lab/mod.rs"]
mod lab;
mod options;
mod pair;
mod scenario;
#[path = "../tests/suite/mod.rs"]
mod suite;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use suite::skip;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "lab-child") {
        return lab::child_main(arguments);
    }
    let entered = lab::enter().map_err(|error| error.to_string());
    let mut arguments = Arguments::from_args();
    // Most of a scenario is waiting.
    arguments.test_threads.get_or_insert(4);
    let trials = scenario::scenarios()
        .into_iter()
        .chain(pair::scenarios())
        .chain(fault::scenarios())
        .chain(faults::scenarios())
        .chain(options::scenarios())
        .chain(demo::scenarios())
        .map(|scenario| {
            let entered = entered.clone();
            Trial::ignorable_test(scenario.name, move || match entered {
                Ok(()) => (scenario.run)(),
                Err(why) => skip(&why),
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A sentence that holds, and how that is shown.
struct Scenario {
    name: String,
    run: Box<dyn FnOnce() -> Result<Completion, Failed> + Send>,
}
