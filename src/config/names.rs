//! The rules for names: of virtual routers, groups, checks and nodes, and of interfaces.

use super::problem::Diagnostics;
use super::reader::At;
use crate::text::is_printable;

/// `IFNAMSIZ` without the terminating zero.
pub(super) const MAX_INTERFACE_NAME: usize = 15;
/// `ALTIFNAMSIZ` without the terminating zero.
pub(super) const MAX_ALTERNATIVE_NAME: usize = 127;

/// Names are typed in commands and appear in logs and metrics, so their characters are limited.
pub(super) fn check_name(what: &str, name: &At<String>, report: &Diagnostics) {
    const MAX_LENGTH: usize = 64;
    let fits = |c: char| c.is_alphanumeric() || "-_.:@+".contains(c);
    let text = &name.value;
    let fitting: String =
        text.chars().map(|c| if fits(c) { c } else { '-' }).take(MAX_LENGTH).collect();
    let help = match fitting.trim_matches('-') {
        "" => "write letters, digits, and - _ . : @ + between them: \"web-1\"".to_string(),
        fitting => format!("write \"{fitting}\""),
    };
    if text.is_empty() {
        report.error(&name.at, format!("{what} must not be empty"), help);
    } else if text.chars().count() > MAX_LENGTH {
        report.error(&name.at, format!("{what} has at most {MAX_LENGTH} characters"), help);
    } else if let Some(wrong) = text.chars().find(|c| !fits(*c)) {
        report.error(&name.at, format!("{what} must not contain {wrong:?}"), help);
    } else if text.starts_with('-') {
        report.error(&name.at, format!("{what} must not begin with -, as options do"), help);
    }
}

pub(super) fn check_interface(interface: &At<String>, report: &Diagnostics) {
    let name = interface.value.as_str();
    let at = &interface.at;
    let help = "see: ip -brief link";
    if name.is_empty() {
        report.error(at, "the interface has no name", help);
    } else if name.len() > MAX_ALTERNATIVE_NAME {
        let longest = MAX_ALTERNATIVE_NAME;
        report.error(at, format!("a name of an interface has at most {longest} bytes"), help);
    } else if name == "." || name == ".." || name.contains('/') || !name.chars().all(may_be_named) {
        report.error(at, format!("`{name}` cannot be the name of an interface"), help);
    } else if name == "lo" {
        let message = "`lo` is the loopback device: no other host receives what is sent there";
        report.error(at, message, "write the interface that the clients are on: ip -brief link");
    } else if let Some((link, label)) = name.rsplit_once(':')
        && label.bytes().all(|byte| byte.is_ascii_digit())
        && name.len() <= MAX_INTERFACE_NAME
    {
        report.error(
            at,
            format!("`{name}` is the label of an address, not an interface"),
            format!("write interface = \"{link}\""),
        );
    } else if let Some((link, below)) = name.split_once('@') {
        report.error(
            at,
            format!("`{name}` is how ip shows the interface {link} on top of {below}"),
            format!("write interface = \"{link}\""),
        );
    }
}

fn may_be_named(c: char) -> bool {
    !c.is_whitespace() && is_printable(c)
}
