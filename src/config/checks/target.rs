//! The rules for what a check tests, by kind.

use std::net::IpAddr;
use std::path::PathBuf;

use super::endpoint::{host_and_port, normal_url};
use super::numbers::check_delay;
use super::plan::{Http, Target};
use crate::config::file::{self, CheckKind};
use crate::config::names::{MAX_ALTERNATIVE_NAME, MAX_INTERFACE_NAME, check_interface};
use crate::config::problem::Diagnostics;
use crate::config::program;
use crate::config::reader::At;
use crate::text::is_printable;

/// What the kernel keeps of a process name: `TASK_COMM_LEN` without the terminating zero.
pub const MAX_COMM: usize = 15;
const MAX_UNIT: usize = 255;
const UNIT_TYPES: [&str; 11] = [
    "service",
    "socket",
    "target",
    "mount",
    "automount",
    "swap",
    "timer",
    "path",
    "device",
    "slice",
    "scope",
];

/// `None` after an error, which has been reported.
pub(super) fn check_target(
    file: &file::CheckTable,
    kind: &At<CheckKind>,
    report: &Diagnostics,
) -> Option<Target> {
    if let Some(user) = &file.user {
        program::check_user(user, report);
    }
    if kind.value == CheckKind::Command {
        let argv =
            program::check_argv(kind.value.name(), file.subject.command.as_ref()?, "check", report);
        return Some(Target::Command { argv, user: file.user.as_ref().map(|it| it.value.clone()) });
    }
    let object = file.subject.object.as_ref()?;
    match kind.value {
        CheckKind::Command => None,
        CheckKind::Tcp => check_tcp(object, report),
        CheckKind::Http => Some(Target::Http(Http {
            status: file.status.as_ref().and_then(|status| check_status(status, report)),
            body: file.body.as_ref().map(|body| check_body(body, report)),
            ca_file: file.ca_file.as_ref().and_then(|path| check_ca_file(path, object, report)),
            url: check_url(object, report)?,
        })),
        CheckKind::Process => {
            let process = check_process(object, report)?;
            let user = file.user.as_ref().map_or("root", |user| &user.value).to_owned();
            let delay = check_delay(file.delay.as_ref(), report);
            Some(Target::Process { process, user, delay })
        }
        CheckKind::Unit => check_unit(object, report).map(|unit| Target::Unit { unit }),
        CheckKind::File => check_file(object, report).map(|path| Target::File { path }),
        CheckKind::FilePresent => {
            check_file(object, report).map(|path| Target::FilePresent { path })
        }
        CheckKind::FileAbsent => check_file(object, report).map(|path| Target::FileAbsent { path }),
        CheckKind::Interface => {
            check_interface(object, report);
            check_short_name(object, report);
            Some(Target::Interface { interface: object.value.clone() })
        }
        CheckKind::Ping => check_ping(object, report).map(|address| Target::Ping { address }),
    }
}

fn check_tcp(object: &At<String>, report: &Diagnostics) -> Option<Target> {
    let text = object.value.as_str();
    let parsed = if text.contains("://") {
        let help = if text.starts_with("http") {
            format!("write http = \"{text}\"")
        } else {
            "write tcp = \"127.0.0.1:80\"".to_string()
        };
        Err((format!("`{text}` is a URL, not a host and its port"), help))
    } else {
        host_and_port(text).and_then(|(host, port)| match port {
            Some(port) => Ok(Target::Tcp { host, port }),
            None if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err((format!("`{text}` has no host"), format!("write \"127.0.0.1:{text}\"")))
            }
            None => Err((format!("`{text}` has no port"), format!("write \"{text}:80\""))),
        })
    };
    parsed.map_err(|(message, help)| report.error(&object.at, message, help)).ok()
}

/// The URL in the form of [`Http::url`].
fn check_url(object: &At<String>, report: &Diagnostics) -> Option<String> {
    normal_url(&object.value)
        .map_err(|(message, help)| report.error(&object.at, message, help))
        .ok()
}

/// `None` after an error, which has been reported.
fn check_status(status: &At<i64>, report: &Diagnostics) -> Option<u16> {
    let fits = (200..=599).contains(&status.value);
    let number = u16::try_from(status.value).ok().filter(|_| fits);
    if number.is_none() {
        let help = "write status = 204, or leave it out: 200 to 299 pass";
        report.error(&status.at, "the status of an answer is 200 to 599", help);
    }
    number
}

fn check_body(body: &At<String>, report: &Diagnostics) -> String {
    if body.value.is_empty() {
        let help = "write what the answer must contain, or leave it out";
        report.error(&body.at, "an empty `body` is contained in every answer", help);
    }
    body.value.clone()
}

/// `None` after an error, which has been reported.
fn check_ca_file(path: &At<String>, url: &At<String>, report: &Diagnostics) -> Option<PathBuf> {
    if !url.value.to_ascii_lowercase().starts_with("https://") {
        report.conflict(
            &path.at,
            "`ca_file` is for https:// only: without TLS there is no certificate to verify",
            "leave it out, or write https://",
            &url.at,
            "this is not https://",
        );
        return None;
    }
    check_path(path, report)
}

/// `None` after an error, which has been reported.
fn check_process(object: &At<String>, report: &Diagnostics) -> Option<String> {
    let name = object.value.as_str();
    if name.contains('/') {
        return check_path(object, report).map(|_| name.to_string());
    }
    let problem = if name.is_empty() || !name.chars().all(is_printable) {
        Some("this cannot be the name of a process".to_string())
    } else if name.len() > MAX_COMM {
        Some(format!("`{name}` is too long: the kernel keeps {MAX_COMM} bytes of a process name"))
    } else {
        None
    };
    match problem {
        None => Some(name.to_string()),
        Some(problem) => {
            let help = "write the whole path of its program, or what is in /proc/PID/comm";
            report.error(&object.at, problem, help);
            None
        }
    }
}

/// `None` after an error, which has been reported.
fn check_unit(object: &At<String>, report: &Diagnostics) -> Option<String> {
    let name = object.value.as_str();
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let stem = name.rsplit_once('.').filter(|(_, suffix)| UNIT_TYPES.contains(suffix));
    let (message, help) = if name.is_empty() || name.len() > MAX_UNIT || !name.chars().all(fits) {
        let message = format!("`{name}` cannot be the name of a systemd unit");
        (message, "see: systemctl list-units".to_string())
    } else if let Some((stem, _)) = stem {
        if !stem.is_empty() && !stem.ends_with('@') {
            return Some(name.to_string());
        }
        let message = format!("`{name}` is a template, not a unit");
        (message, "write the name of an instance, such as \"postgresql@15-main.service\"".into())
    } else {
        (format!("`{name}` does not say what kind of unit"), format!("write \"{name}.service\""))
    };
    report.error(&object.at, message, help);
    None
}

/// `None` after an error, which has been reported.
fn check_file(object: &At<String>, report: &Diagnostics) -> Option<PathBuf> {
    let path = check_path(object, report)?;
    if let Some(private) = ["/tmp", "/var/tmp"].into_iter().find(|dir| path.starts_with(dir)) {
        report.advice(
            &object.at,
            format!("under systemd vipd has a {private} of its own (PrivateTmp): it never sees this file"),
            "write a path below /run, or PrivateTmp=no in a drop-in: systemctl edit vipd",
        );
    }
    Some(path)
}

/// `None` after an error, which has been reported.
fn check_path(object: &At<String>, report: &Diagnostics) -> Option<PathBuf> {
    let path = object.value.as_str();
    let (message, help) = if !path.starts_with('/') {
        let message = format!("`{path}` is a relative path");
        (message, "write the whole path, beginning with /")
    } else if path.split('/').any(|part| part == "..") {
        (format!("`{path}` goes through `..`"), "write the path without it")
    } else if path.ends_with('/') {
        (format!("`{path}` is a directory"), "write the path of a file")
    } else if path.contains('\0') {
        ("a NUL byte cannot be part of a path".to_string(), "leave it out")
    } else {
        return Some(PathBuf::from(path));
    };
    report.error(&object.at, message, help);
    None
}

/// Checks read the flags by an ioctl that never blocks, but takes no longer alternative name.
fn check_short_name(object: &At<String>, report: &Diagnostics) {
    let (name, longest) = (object.value.as_str(), MAX_INTERFACE_NAME);
    if name.len() > longest && name.len() <= MAX_ALTERNATIVE_NAME {
        report.error(
            &object.at,
            format!(
                "a check needs an interface name of at most {longest} bytes: `{name}` is longer"
            ),
            "write its name, or a shorter alternative one; see: ip link show",
        );
    }
}

/// `None` after an error, which has been reported.
fn check_ping(object: &At<String>, report: &Diagnostics) -> Option<IpAddr> {
    let text = object.value.as_str();
    let (message, help) = match text.parse::<IpAddr>() {
        Err(_) => (
            format!("`{text}` is not an address"),
            "write an IPv4 or IPv6 address, such as the gateway's; names are not looked up",
        ),
        Ok(ip) if ip.is_multicast() || ip.is_unspecified() || is_broadcast(ip) => {
            (format!("{ip} is not the address of one host"), "write the address of a gateway")
        }
        Ok(IpAddr::V6(ip)) if ip.is_unicast_link_local() => (
            format!("{ip} may be another host on every link"),
            "write an address that is the same on all interfaces",
        ),
        Ok(ip) => return Some(ip),
    };
    report.error(&object.at, message, help);
    None
}

fn is_broadcast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        IpAddr::V6(_) => false,
    }
}
