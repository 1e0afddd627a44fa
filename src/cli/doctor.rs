//! `vipd doctor`: the problems of this host, each with a command and what that does.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use super::output::{BOLD, PLAIN, YELLOW, fail, paint, say, wrap};
use crate::api::protocol::Versioned;
use crate::doctor::{self, ExamineOptions, Report};

/// Maximum width of a line of text, in columns; commands are not broken.
const WIDTH: usize = 100;

/// Prints the findings; the exit status says whether there are any.
pub(super) fn run(options: &ExamineOptions, json: bool) -> ExitCode {
    let report = doctor::examine(options);
    if json {
        match serde_json::to_string_pretty(&Versioned::new(&report)) {
            Ok(text) => say(text),
            Err(error) => return fail(error),
        }
    } else {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        say(text(&report, colours).trim_end());
    }
    if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn text(report: &Report, colours: bool) -> String {
    let mut lines = Vec::new();
    for finding in &report.findings {
        let about = match finding.about.as_str() {
            "" => String::new(),
            about => format!(" ({about})"),
        };
        let head = format!("{}{about}", finding.problem.name());
        lines.push(paint(colours, YELLOW, &head));
        lines.extend(wrap(&finding.text, WIDTH - 4).iter().map(|part| format!("    {part}")));
        let does = format!("{}:", finding.fix_does);
        lines.extend(wrap(&does, WIDTH - 4).iter().map(|part| format!("    {part}")));
        lines.push(format!("    $ {}", paint(colours, BOLD, &finding.fix)));
        lines.push(String::new());
    }
    for skipped in &report.not_examined {
        let sentence = format!("not examined: {}: {}", skipped.what, skipped.why);
        lines.extend(wrap(&sentence, WIDTH).iter().map(|part| paint(colours, PLAIN, part)));
    }
    lines.push(match report.findings.len() {
        0 => "no problem was found".to_owned(),
        1 => "1 problem; what the command behind $ does is said before it".to_owned(),
        more => format!("{more} problems; what each command behind $ does is said before it"),
    });
    lines.join("\n")
}
