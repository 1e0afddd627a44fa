//! What a test does on a machine that lacks something it needs, such as a program or a privilege.

/// Whether a missing program or privilege is a failure: `VIPD_TESTS_REQUIRE_PEERS=1`.
pub fn required() -> bool {
    std::env::var_os("VIPD_TESTS_REQUIRE_PEERS").is_some_and(|value| value == "1")
}

/// Says why a test is not run.
///
/// # Panics
/// If that is a failure, see [`required`].
pub fn skipped(test: &str, why: &str) {
    assert!(!required(), "{test} cannot run: {why}");
    println!("SKIPPED {test}: {why}");
}
