//! What the text of every check is.

/// One short line for log and terminal.
pub fn report(outcome: Result<String, String>) {
    let (Ok(text) | Err(text)) = outcome;
    assert!(text.len() <= 403, "{} bytes", text.len());
    assert!(!text.chars().any(|c| c.is_control() && c != '\t'), "{text:?}");
}
