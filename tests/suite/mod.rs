//! What all suites in namespaces share: a test runs, or says why it cannot.
// Not every suite has use for all of it.
#![allow(dead_code)]

use libtest_mimic::{Completion, Failed, Trial};

/// A test with what it needs, or what is missing.
pub fn trial(name: &str, ready: Result<(), String>, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match ready {
        Ok(()) => {
            test();
            Ok(Completion::Completed)
        }
        Err(why) => skip(&why),
    })
}

/// Says why a test cannot run here; a failure where everything was promised to be there.
pub fn skip(why: &str) -> Result<Completion, Failed> {
    if std::env::var_os("VIPD_TESTS_REQUIRE_PEERS").is_some_and(|value| value == "1") {
        return Err(format!("cannot run: {why}").into());
    }
    println!("SKIPPED: {why}");
    Ok(Completion::ignored_with(format!("SKIPPED: {why}")))
}
