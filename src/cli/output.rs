//! Text on standard output and standard error: its colours and its width.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

pub(super) const PLAIN: &str = "";
pub(super) const BOLD: &str = "1";
pub(super) const RED: &str = "1;31";
pub(super) const GREEN: &str = "32";
pub(super) const YELLOW: &str = "33";

/// Prints to standard output; a closed pipe is no error.
pub(super) fn say(text: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints an error to standard error; returns the exit status of a failure.
pub(super) fn fail(text: impl fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "vipd: {text}");
    ExitCode::FAILURE
}

/// The text in this colour, if colours are used.
pub(super) fn paint(colours: bool, colour: &str, text: &str) -> String {
    if colours && !colour.is_empty() {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

pub(super) fn width(text: &str) -> usize {
    text.chars().count()
}

/// Cut to a width in columns, with an ellipsis.
pub(super) fn cut(text: &str, to: usize) -> String {
    if width(text) <= to {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(to.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Breaks lines at spaces, and longer words anywhere.
pub(super) fn wrap(text: &str, to: usize) -> Vec<String> {
    let to = to.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let Some(line) = lines.last_mut() else { break };
            let space = usize::from(!line.is_empty());
            if width(line) + space + rest.len() <= to {
                if space == 1 {
                    line.push(' ');
                }
                line.extend(rest.drain(..));
            } else if line.is_empty() {
                line.extend(rest.drain(..to));
            } else {
                lines.push(String::new());
            }
        }
    }
    lines
}
