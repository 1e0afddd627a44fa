//! Any bytes as what systemd or the bus answers to the check of a unit.

use vipd::fuzzing;

use crate::bounded::bounded;
use crate::report::report;

pub fn dbus(answers: &[u8]) {
    let said = bounded(answers.len(), 16, || fuzzing::unit_check(answers));
    report(said.expect("it ends with the connection"));
}
