//! Any bytes as what a web server answers to an `http` check. The first byte chooses what is wanted.

use vipd::fuzzing;

use crate::bounded::bounded;
use crate::report::report;

pub fn http(data: &[u8]) {
    let Some((wanted, answer)) = data.split_first() else { return };
    let status = [None, Some(200), Some(503), Some(204)][usize::from(wanted & 3)];
    let body =
        [None, Some("ok"), Some("a"), Some("the database is up")][usize::from(wanted >> 2 & 3)];
    let said = bounded(answer.len(), 64, || fuzzing::http_check(answer, status, body));
    let outcome = said.expect("it ends with the connection");
    if let (Ok(text), Some(status)) = (&outcome, status) {
        assert!(text.starts_with(&format!("status {status}")), "{text}");
    }
    if let (Ok(_), Some(body)) = (&outcome, body) {
        // Of a chunked body the words may be in two parts.
        assert!(body.bytes().all(|byte| answer.contains(&byte)));
    }
    report(outcome);
}
