//! `vipd man`: manual pages generated from the help texts and the commented reference configuration.
//! `vipd completions`: completion scripts for shells.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::{Arg, Command};
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::output::{fail, say};
use crate::config::reference::{Block, REFERENCE, Reference};

/// Writes `vipd.8` and `vipd.toml.5` into this directory.
pub(super) fn man(command: &Command, directory: &Path) -> ExitCode {
    let pages = [("vipd.8", program(command)), ("vipd.toml.5", configuration(REFERENCE))];
    for (name, text) in pages {
        let path = directory.join(name);
        let written = fs::create_dir_all(directory).and_then(|()| fs::write(&path, text));
        if let Err(error) = written {
            return fail(format_args!("cannot write {}: {error}", path.display()));
        }
        say(path.display());
    }
    ExitCode::SUCCESS
}

pub(super) fn completions(command: &Command, shell: clap_complete::Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut visible(command), "vipd", &mut text);
    // A closed pipe is no error.
    let _ = io::Write::write_all(&mut io::stdout(), &text);
    ExitCode::SUCCESS
}

/// The command line without hidden commands.
fn visible(command: &Command) -> Command {
    let seen = command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned();
    Command::new("vipd")
        .version(env!("CARGO_PKG_VERSION"))
        .about(command.get_about().cloned().unwrap_or_default())
        .subcommands(seen)
}

/// A manual page under construction.
struct ManPage {
    roff: Roff,
}

impl ManPage {
    fn new(name: &str, section: &str, what: &str) -> Self {
        let mut page = ManPage { roff: Roff::default() };
        let source = concat!("vipd ", env!("CARGO_PKG_VERSION"));
        let title = [name.to_uppercase(), section.into(), String::new(), source.into()];
        let title: Vec<&str> = title.iter().map(String::as_str).collect();
        page.roff.control("TH", title);
        page.head("NAME");
        page.roff.text([roman(format!("{name} - {what}"))]);
        page
    }

    fn head(&mut self, text: &str) {
        self.roff.control("SH", [text]);
    }

    fn subhead(&mut self, text: &str) {
        self.roff.control("SS", [text]);
    }

    fn paragraph(&mut self, text: &str) {
        self.roff.control("PP", []);
        self.roff.text(marked(text));
    }

    fn item(&mut self, tag: Vec<Inline>) {
        self.roff.control("TP", []);
        self.roff.text(tag);
    }

    fn literal<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        self.roff.control("PP", []);
        self.roff.control("nf", []);
        self.roff.control("RS", ["4"]);
        for line in lines {
            self.roff.text([roman(line)]);
        }
        self.roff.control("RE", []);
        self.roff.control("fi", []);
    }

    fn blocks(&mut self, blocks: &[Block<'_>]) {
        let mut literal = Vec::new();
        for block in blocks {
            match block {
                Block::Literal(line) => literal.push(*line),
                Block::Paragraph(text) => {
                    self.shown(&mut literal);
                    self.paragraph(text);
                }
            }
        }
        self.shown(&mut literal);
    }

    fn shown(&mut self, lines: &mut Vec<&str>) {
        if !lines.is_empty() {
            self.literal(std::mem::take(lines));
        }
    }

    fn finish(self) -> String {
        self.roff.render()
    }
}

/// Text between backquotes is bold.
fn marked(text: &str) -> Vec<Inline> {
    let parts = text.split('`').zip([false, true].into_iter().cycle());
    parts.map(|(part, code)| if code { bold(part) } else { roman(part) }).collect()
}

fn program(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let what = about.trim_end_matches('.');
    let mut page = ManPage::new("vipd", "8", &(what[..1].to_lowercase() + &what[1..]));
    page.head("SYNOPSIS");
    page.roff.text([bold("vipd"), roman(" "), italic("COMMAND"), roman(" [OPTIONS] [ARGUMENTS]")]);
    page.head("DESCRIPTION");
    for paragraph in super::DESCRIPTION.split("\n\n") {
        page.paragraph(paragraph);
    }
    let mut command = command.clone();
    command.build();
    for (title, names) in super::GROUPS {
        page.head(&title.to_uppercase());
        for sub in names.iter().filter_map(|name| command.find_subcommand(name)) {
            subcommand(&mut page, sub);
        }
    }
    page.head("EXIT STATUS");
    page.paragraph(
        "0: success, or the answer is yes. 1: failure, or the answer is no. 2: wrong arguments.",
    );
    page.head("SIGNALS");
    for (signal, what) in SIGNALS {
        page.item(vec![bold(*signal)]);
        page.roff.text([roman(*what)]);
    }
    page.head("FILES");
    for (file, what) in FILES {
        page.item(vec![italic(*file)]);
        page.roff.text([roman(*what)]);
    }
    page.head("SEE ALSO");
    page.roff.text([bold("vipd.toml"), roman("(5), RFC 9568")]);
    page.finish()
}

const SIGNALS: &[(&str, &str)] = &[
    ("TERM, INT", "Hand everything over, release the addresses and end."),
    (
        "USR2",
        "Restart: end without moving anything, if the installed program and the file pass \"vipd check\".",
    ),
    ("HUP", "Read the configuration again, as \"vipd reload\" does."),
];

const FILES: &[(&str, &str)] = &[
    (super::CONFIG, "The configuration."),
    (
        super::RUNTIME_DIR,
        "The lock, the record of who was master, and the control socket; gone after a reboot.",
    ),
    (super::STATE_DIR, "Whether this host is drained, and the history of events."),
];

fn subcommand(page: &mut ManPage, command: &Command) {
    let usage = command.clone().render_usage().to_string();
    page.subhead(usage.trim_start_matches("Usage: "));
    let about = command.get_long_about().or(command.get_about());
    for paragraph in sentence(about).split("\n\n") {
        page.paragraph(paragraph);
    }
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        if ["help", "version"].contains(&argument.get_id().as_str()) {
            continue;
        }
        page.item(tag(argument));
        page.roff.text([roman(explanation(argument))]);
    }
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        let lines: Vec<&str> = examples.lines().map(str::trim).collect();
        if let Some((heading, lines)) = lines.split_first() {
            page.paragraph(heading);
            page.literal(lines.iter().copied());
        }
    }
}

fn tag(argument: &Arg) -> Vec<Inline> {
    let mut tag = Vec::new();
    if let Some(short) = argument.get_short() {
        tag.extend([bold(format!("-{short}")), roman(", ")]);
    }
    if let Some(long) = argument.get_long() {
        tag.push(bold(format!("--{long}")));
    }
    let takes_value = argument.is_positional() || argument.get_action().takes_values();
    for name in argument.get_value_names().unwrap_or_default().iter().filter(|_| takes_value) {
        if !tag.is_empty() {
            tag.push(roman(" "));
        }
        tag.push(italic(name.to_string()));
    }
    tag
}

/// The help texts come without their last full stop.
fn sentence(text: Option<&StyledStr>) -> String {
    let text = text.map(ToString::to_string).unwrap_or_default();
    if text.ends_with(['.', ')']) { text } else { text + "." }
}

fn explanation(argument: &Arg) -> String {
    let mut text = sentence(argument.get_help());
    if !argument.get_action().takes_values() {
        return text;
    }
    let list = |values: Vec<String>| values.join(", ");
    let values =
        argument.get_possible_values().into_iter().map(|value| value.get_name().to_owned());
    let values: Vec<String> = values.collect();
    if !values.is_empty() {
        text += &format!(" One of: {}.", list(values));
    }
    let defaults = argument.get_default_values().iter();
    let defaults: Vec<String> = defaults.map(|value| value.to_string_lossy().into()).collect();
    if !defaults.is_empty() {
        text += &format!(" Default: {}.", list(defaults));
    }
    text
}

fn configuration(text: &str) -> String {
    let reference = Reference::parse(text);
    let what = "configuration of vipd";
    let mut page = ManPage::new("vipd.toml", "5", what);
    page.head("DESCRIPTION");
    page.blocks(&reference.head);
    for section in &reference.sections {
        if section.tables.is_empty() {
            continue;
        }
        page.head(if section.title.is_empty() { "THE HOST" } else { section.title });
        for table in &section.tables {
            page.subhead(table.name);
            page.blocks(&table.about);
            if table.keys.is_empty() {
                page.literal(table.lines.iter().copied());
            }
            for key in &table.keys {
                page.item(vec![bold(key.name)]);
                page.roff.control("RS", []);
                for (n, block) in key.about.iter().enumerate() {
                    match block {
                        Block::Paragraph(text) if n == 0 => drop(page.roff.text(marked(text))),
                        Block::Paragraph(text) => page.paragraph(text),
                        Block::Literal(line) => page.literal([*line]),
                    }
                }
                page.literal([key.example]);
                page.roff.control("RE", []);
            }
        }
    }
    page.head("SEE ALSO");
    page.roff.text([bold("vipd"), roman("(8)")]);
    page.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::keys;

    #[test]
    fn every_key_that_is_read_stands_in_the_manual() {
        let page = configuration(REFERENCE);
        for (table, keys) in keys() {
            for key in keys {
                // The tables themselves, and keys of tables within a value, stand in the text.
                let named = page.contains(&format!("\\fB{key}\\fR"));
                assert!(named || page.contains(key), "{key} of {table} is missing");
                let own = !named && table.starts_with('[') && key != "hooks";
                assert!(!own, "{key} of {table} has no place of its own");
            }
        }
    }

    #[test]
    fn every_command_stands_in_the_manual_with_its_options() {
        let command = super::super::command();
        let page = program(&command);
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            assert!(page.contains(&format!("vipd {}", sub.get_name())), "{}", sub.get_name());
            for option in sub.get_arguments().filter_map(Arg::get_long) {
                let written = option.replace('-', "\\-");
                assert!(page.contains(&format!("\\fB\\-\\-{written}\\fR")), "--{option}");
            }
        }
        for hidden in ["lab-child", "exec-hook"] {
            assert!(!page.contains(&hidden.replace('-', "\\-")), "{hidden}");
        }
    }

    #[test]
    fn groff_accepts_the_manual_pages() {
        let groff = |text: &str| {
            let mut child = std::process::Command::new("groff")
                .args(["-man", "-ww", "-z", "-Tutf8", "-K", "utf8"])
                .stdin(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .ok()?;
            io::Write::write_all(&mut child.stdin.take()?, text.as_bytes()).ok()?;
            Some(child.wait_with_output().unwrap())
        };
        for text in [program(&super::super::command()), configuration(REFERENCE)] {
            let Some(output) = groff(&text) else {
                println!("SKIPPED: groff is missing");
                return;
            };
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
    }
}
