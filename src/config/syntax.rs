//! TOML syntax errors, with messages that say what to do.

use super::problem::Diagnostics;

/// Reports at most one error per line, and one per unclosed list: further ones follow from it.
pub(super) fn report_syntax(text: &str, errors: &[toml::de::Error], report: &Diagnostics) {
    let mut found: Vec<_> = errors
        .iter()
        .map(|error| (error.span().unwrap_or(text.len()..text.len()), error.message()))
        .collect();
    found.sort_by_key(|(at, _)| at.start);
    found.dedup_by_key(|(at, _)| report.place(at).line);
    let mut explained_up_to = 0;
    for (at, message) in &found {
        if at.start < explained_up_to {
            continue;
        }
        let (explained, help) = explain_syntax(message, text.get(at.clone()).unwrap_or_default());
        if !message.starts_with("missing comma") {
            report.error(at, explained, help);
            continue;
        }
        // The comma is missing after the previous entry. If that entry is on an earlier line, the
        // end of the list is missing instead, and errors up to the next table follow from it.
        let before = text.get(..at.start).unwrap_or_default().trim_end().len();
        report.error(&(before..before), explained, help);
        if text.get(before..at.start).is_some_and(|gap| gap.contains('\n')) {
            let rest = text.get(at.start..).unwrap_or_default();
            explained_up_to = rest.find("\n[").map_or(text.len(), |next| at.start + next);
        }
    }
    if !found.is_empty() {
        report.stop_at_first_problem();
    }
}

/// Message and suggestion for a message of the parser.
fn explain_syntax(message: &str, found: &str) -> (String, String) {
    match message.split(',').next().unwrap_or(message) {
        "string values must be quoted" if found.is_empty() => {
            ("a value is missing here".into(), "write it after the `=`".into())
        }
        "string values must be quoted" => {
            (format!("`{found}` must be in quotes"), format!("write \"{found}\""))
        }
        "invalid basic string" | "invalid literal string" => (
            "the string does not end in its line".into(),
            "close it with the quote it began with".into(),
        ),
        "missing comma between array elements" | "unclosed array" => (
            "a comma, or the ] at the end of the list, is missing".into(),
            "put a comma between the entries, and ] after the last one".into(),
        ),
        "unexpected leading zero" => {
            ("a number does not begin with 0".into(), "write it without the leading zeros".into())
        }
        "unclosed table" => (
            "the name of the table is not closed".into(),
            "close it as it began, with ] or ]]".into(),
        ),
        "key with no value" => (
            "there is no = after this key".into(),
            "write key = \"text\", key = 1, key = true, or key = [\"a\", \"b\"]".into(),
        ),
        "duplicate key" => (
            format!("`{found}` is set twice"),
            "keep one of the two; tables that may repeat are written [[...]]".into(),
        ),
        _ => (
            format!("this is not TOML: {message}"),
            "keys are written: key = \"text\", key = 1, key = true, key = [\"a\", \"b\"]".into(),
        ),
    }
}
