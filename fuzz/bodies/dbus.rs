//! Any bytes as what systemd or the bus answers to the check of a unit.

use vipd::fuzzing;

use crate::bounded::bounded;

pub fn dbus(answers: &[u8]) {
    let said = bounded(answers.len(), 16, || fuzzing::unit_check(answers));
    report(said.expect("it ends with the connection"));
}

/// One short line for log and terminal.
pub fn report(outcome: Result<String, String>) {
    let (Ok(text) | Err(text)) = outcome;
    assert!(text.len() <= 403, "{} bytes", text.len());
    assert!(!text.chars().any(|c| c.is_control() && c != '\t'), "{text:?}");
}
