//! What a check looks at, and how often: what the helper process is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::file::{self, Kind};
use super::problem::{Place, Report};
use super::reader::{At, closest};
use super::{check_name, hooks, router};
use crate::vrrp::{CheckConfig, Effect, Initial};

const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);
const DEFAULT_FALL: u32 = 3;
const DEFAULT_RISE: u32 = 2;
const DEFAULT_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// With a priority of 1 to 254 a larger weight says no more.
const LARGEST_WEIGHT: i16 = 253;
/// A first result is waited for at least this long: the helper process must start, too.
const SHORTEST_WAIT: Duration = Duration::from_secs(5);

/// What the kernel keeps of the name of a process.
const LONGEST_COMM: usize = 15;
const LONGEST_UNIT: usize = 255;
const LONGEST_HOST: usize = 253;
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

/// One check as the helper process carries it out; how its results count is the protocol's business
/// (`vrrp::CheckConfig`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckPlan {
    /// Its name in the configuration.
    pub name: String,
    /// What it looks at.
    pub target: Target,
    /// From the beginning of one run to the beginning of the next; a run that takes longer delays
    /// the next one. A process is looked for at least so often while there is none.
    pub interval: Duration,
    /// A run that takes longer has failed.
    pub timeout: Duration,
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A program passes with exit status 0. Never through a shell.
    Command {
        /// The program (an absolute path, or a name to be found in [`super::HOOK_PATH`]) and its
        /// arguments; never empty.
        argv: Vec<String>,
        /// Whom it runs as; `None`: as the daemon was started.
        user: Option<String>,
    },
    /// A TCP connection is accepted.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A web server answers.
    Http(Http),
    /// A process of that name (as in `/proc/PID/comm`) or of that program (a whole path) runs; its
    /// death is noticed at once, and it has failed when there is none for `delay`.
    Process {
        /// The name, or the whole path of the program.
        process: String,
        /// How long there may be none.
        delay: Duration,
    },
    /// A systemd unit is active.
    Unit {
        /// Its name with the suffix, such as `nginx.service`.
        unit: String,
    },
    /// A file holds a number that is added to the priority; without the file the number is 0.
    File {
        /// Its whole path.
        path: PathBuf,
    },
    /// A file is there.
    FilePresent {
        /// Its whole path.
        path: PathBuf,
    },
    /// A file is not there.
    FileAbsent {
        /// Its whole path.
        path: PathBuf,
    },
    /// An interface is up and has carrier.
    Interface {
        /// Its name.
        interface: String,
    },
    /// A host answers an echo request.
    Ping {
        /// Which.
        address: IpAddr,
    },
}

/// An HTTP request and the answer that passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// `http://` or `https://` in small letters, a host, a port unless it is 80 or 443, and a path
    /// that begins with `/`, perhaps with a query; no user, no fragment, visible ASCII only.
    pub url: String,
    /// The status that passes; `None`: 200 to 299.
    pub status: Option<u16>,
    /// What the first 64 KiB of the body must contain; `None`: anything passes.
    pub body: Option<String>,
    /// `https`: a PEM file of authorities to trust instead of the system's; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// In words of one line, such as `GET http://127.0.0.1/ answers 200 to 299`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Command { argv, user: None } => write!(f, "{argv:?} ends with 0"),
            Target::Command { argv, user: Some(user) } => {
                write!(f, "{argv:?} ends with 0, run as {user}")
            }
            Target::Tcp { host, port } if host.contains(':') => {
                write!(f, "[{host}]:{port} accepts a connection")
            }
            Target::Tcp { host, port } => write!(f, "{host}:{port} accepts a connection"),
            Target::Http(http) => http.fmt(f),
            Target::Process { process, delay } => {
                write!(f, "a process {process} runs, gaps below {delay:?} aside")
            }
            Target::Unit { unit } => write!(f, "{unit} is active"),
            Target::File { path } => {
                write!(f, "{} holds a number, or is not there", path.display())
            }
            Target::FilePresent { path } => write!(f, "{} is there", path.display()),
            Target::FileAbsent { path } => write!(f, "{} is not there", path.display()),
            Target::Interface { interface } => write!(f, "{interface} is up and has carrier"),
            Target::Ping { address } => write!(f, "{address} answers an echo request"),
        }
    }
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Http { url, status, body, ca_file } = self;
        write!(f, "GET {url} answers ")?;
        match status {
            Some(status) => write!(f, "{status}")?,
            None => f.write_str("200 to 299")?,
        }
        if let Some(body) = body {
            write!(f, " with {body:?}")?;
        }
        if let Some(ca_file) = ca_file {
            write!(f, ", trusting {}", ca_file.display())?;
        }
        Ok(())
    }
}

impl Target {
    /// The key that names it in the configuration.
    pub fn kind(&self) -> &'static str {
        let kind = match self {
            Target::Command { .. } => Kind::Command,
            Target::Tcp { .. } => Kind::Tcp,
            Target::Http(_) => Kind::Http,
            Target::Process { .. } => Kind::Process,
            Target::Unit { .. } => Kind::Unit,
            Target::File { .. } => Kind::File,
            Target::FilePresent { .. } => Kind::FilePresent,
            Target::FileAbsent { .. } => Kind::FileAbsent,
            Target::Interface { .. } => Kind::Interface,
            Target::Ping { .. } => Kind::Ping,
        };
        kind.key()
    }
}

/// A check as far as it could be understood.
pub(super) struct Checked<'f> {
    file: &'f file::Check,
    /// `None` if something that has no default is missing or wrong.
    pub result: Option<(CheckConfig, CheckPlan, CheckPlaces)>,
}

/// Where that stands which this machine must have.
#[derive(Clone, Debug)]
pub(super) struct CheckPlaces {
    object: Place,
    user: Option<Place>,
    ca_file: Option<Place>,
}

impl<'f> Checked<'f> {
    pub fn name(&self) -> Option<&'f str> {
        self.file.name.as_ref().map(|name| name.value.as_str())
    }
}

/// What is true of one check whatever the others are.
pub(super) fn check<'f>(file: &'f file::Check, report: &Report) -> Checked<'f> {
    if let Some(name) = &file.name {
        check_name("the name of a check", name, report);
    }
    check_number_of_kinds(file, report);
    let kind = match file.kinds.as_slice() {
        [kind] => Some(kind),
        _ => None,
    };
    if let Some(kind) = kind {
        refuse_options_of_other_kinds(file, kind.value, report);
    }
    let target = kind.and_then(|kind| check_target(file, kind, report));

    let interval = spans(file.interval.as_ref(), "interval", &INTERVALS, DEFAULT_INTERVAL, report);
    let timeout = spans(file.timeout.as_ref(), "timeout", &TIMEOUTS, DEFAULT_TIMEOUT, report);
    let fall = check_count("fall", file.fall.as_ref(), DEFAULT_FALL, report);
    let rise = check_count("rise", file.rise.as_ref(), DEFAULT_RISE, report);
    let effect = check_effect(file, report);
    // Those two say what there is at once: nothing is gained by asking again.
    let (fall, rise, effect) = match kind.map(|kind| kind.value) {
        Some(Kind::Process) => (1, 1, effect),
        Some(Kind::File) => (1, 1, Effect::Number),
        Some(
            Kind::Command
            | Kind::Tcp
            | Kind::Http
            | Kind::Unit
            | Kind::FilePresent
            | Kind::FileAbsent
            | Kind::Interface
            | Kind::Ping,
        )
        | None => (fall, rise, effect),
    };
    let first_result = match &target {
        Some(Target::Process { delay, .. }) => *delay + interval,
        _ => timeout + interval,
    };
    let initial = match file.initial.as_ref().map(|initial| initial.value) {
        Some(file::Initial::Passing) => Initial::Passing,
        Some(file::Initial::Failing) => Initial::Failing,
        Some(file::Initial::Wait) | None => Initial::Wait(first_result.max(SHORTEST_WAIT)),
    };
    let result = || {
        let (name, kind, target) = (file.name.as_ref()?.value.clone(), kind?, target?);
        let counts = CheckConfig { name: name.as_str().into(), fall, rise, effect, initial };
        let place = |value: &At<String>| report.place(&value.at);
        let places = CheckPlaces {
            object: report.place(&kind.at),
            user: file.user.as_ref().map(place),
            ca_file: file.ca_file.as_ref().map(place),
        };
        Some((counts, CheckPlan { name, target, interval, timeout }, places))
    };
    Checked { file, result: result() }
}

/// What must be different from one check to the next.
pub(super) fn check_together(checks: &[Checked<'_>], report: &Report) {
    let mut names = BTreeMap::new();
    for At { value, at } in checks.iter().filter_map(|check| check.file.name.as_ref()) {
        if let Some(earlier) = names.insert(value, at) {
            report.conflict(
                at,
                format!("two checks are named `{value}`"),
                "give this one a name of its own",
                earlier,
                "the first one",
            );
        }
    }
}

/// The checks that a list names, and where it names them; those that are not defined are reported.
pub(super) fn named<'c, 'f>(
    list: Option<&At<Vec<At<String>>>>,
    defined: &'c [Checked<'f>],
    report: &Report,
) -> Vec<(Range<usize>, &'c Checked<'f>)> {
    let mut seen = BTreeMap::new();
    let mut found = Vec::new();
    for At { value, at } in list.map(|list| list.value.as_slice()).unwrap_or_default() {
        if let Some(earlier) = seen.insert(value, at) {
            report.conflict(
                at,
                format!("`{value}` is twice in this list"),
                "leave it out here",
                earlier,
                "first here",
            );
            continue;
        }
        match defined.iter().find(|check| check.name() == Some(value)) {
            Some(check) => found.push((at.clone(), check)),
            // It may stand behind a syntax error.
            None if report.is_partial() => {}
            None => {
                let help = match closest(value, defined.iter().filter_map(Checked::name)) {
                    Some(name) => format!("did you mean \"{name}\"?"),
                    None => format!("add a [[check]] with name = \"{value}\", or leave it out"),
                };
                report.error(at, format!("there is no check named `{value}`"), help);
            }
        }
    }
    found
}

/// Whether a virtual router can make use of the checks that it names.
pub(super) fn check_use(
    used: &[(Range<usize>, &Checked<'_>)],
    router: &file::VirtualRouter,
    is_owner: bool,
    report: &Report,
) {
    let keeps_backup = router.preempt.as_ref().is_some_and(|preempt| !preempt.value);
    for (at, check) in used {
        let name = check.name().unwrap_or_default();
        let changes_priority = check.result.as_ref().and_then(|(counts, ..)| match counts.effect {
            Effect::Fault => None,
            Effect::Last => Some(", or leave on_fail out of the check: failing then means fault"),
            Effect::Weight(_) => {
                Some(", or leave weight out of the check: failing then means fault")
            }
            Effect::Number => Some(", or leave the check out"),
        });
        if let (Some(or), Some(priority), true) = (changes_priority, &router.priority, is_owner) {
            report.conflict(
                at,
                format!("priority 255 is never changed by checks: `{name}` would have no effect"),
                format!("write at most priority = 254{or}"),
                &priority.at,
                "the owner",
            );
        } else if changes_priority.is_some() && keeps_backup {
            report.advice(
                at,
                format!(
                    "with preempt = false on the peers, too, `{name}` moves nothing: a living master \
                     is left alone, whatever its priority"
                ),
                "a check without weight and on_fail means fault, and moves the addresses",
            );
        }
        if let Some((_, CheckPlan { target: Target::Interface { interface }, .. }, _)) =
            &check.result
            && router.interface.as_ref().is_some_and(|own| own.value == *interface)
        {
            report.advice(
                at,
                format!("`{name}` looks at {interface}, which is watched anyway"),
                "leave it out: a virtual router whose own link is down has a fault at once",
            );
        }
    }
}

/// A check that nobody names is carried out, and nothing else.
pub(super) fn advise_on_unused(checks: &[Checked<'_>], used: &BTreeSet<&str>, report: &Report) {
    for At { value, at } in checks.iter().filter_map(|check| check.file.name.as_ref()) {
        if !used.contains(value.as_str()) && !report.is_partial() {
            report.advice(
                at,
                format!(
                    "nobody names the check `{value}`: its results are shown and change nothing"
                ),
                format!("add checks = [\"{value}\"] to a virtual router or a sync group"),
            );
        }
    }
}

fn check_number_of_kinds(file: &file::Check, report: &Report) {
    match file.kinds.as_slice() {
        [] if report.is_partial() || file.mistyped_kind => {}
        [] => {
            let all = Kind::ALL.map(Kind::key).join(", ");
            let help = format!("add one of {all}; such as: tcp = \"127.0.0.1:80\"");
            report.error(&file.at, "this [[check]] looks at nothing", help);
        }
        [first, others @ ..] => {
            for other in others {
                report.conflict(
                    &other.at,
                    format!(
                        "a check looks at one thing: `{}` and `{}` are two",
                        first.value.key(),
                        other.value.key()
                    ),
                    "write a [[check]] for each, and name both in `checks`",
                    &first.at,
                    "the first one",
                );
            }
        }
    }
}

fn refuse_options_of_other_kinds(file: &file::Check, kind: Kind, report: &Report) {
    let refuse = |key: &str, at: Option<&Range<usize>>, fits: bool, why: &str, help: &str| {
        if let Some(at) = at.filter(|_| !fits) {
            report.error(at, format!("`{key}` is not for `{}`: {why}", kind.key()), help);
        }
    };
    fn at<T>(value: &Option<At<T>>) -> Option<&Range<usize>> {
        value.as_ref().map(|value| &value.at)
    }
    let is_command = kind == Kind::Command;
    refuse("user", at(&file.user), is_command, "it runs no program", "leave it out");
    let is_http = kind == Kind::Http;
    let why = "it is about the answer of a web server";
    refuse(
        "status",
        at(&file.status),
        is_http,
        why,
        "leave it out, or write http = \"http://...\"",
    );
    refuse("body", at(&file.body), is_http, why, "leave it out, or write http = \"http://...\"");
    let why = "it says which web servers to trust";
    refuse("ca_file", at(&file.ca_file), is_http, why, "leave it out");
    let is_process = kind == Kind::Process;
    let why = "it is how long there may be no process";
    let help = "leave it out; `interval` and `fall` say how patient this check is";
    refuse("delay", at(&file.delay), is_process, why, help);

    let why = "the end of a process is noticed at once, through a pidfd";
    let help = "leave it out; `delay` says how long there may be none";
    for (key, at) in [
        ("interval", at(&file.interval)),
        ("timeout", at(&file.timeout)),
        ("fall", at(&file.fall)),
        ("rise", at(&file.rise)),
    ] {
        refuse(key, at, !is_process, why, help);
    }
    let is_file = kind == Kind::File;
    let why = "the number in the file is what is added to the priority";
    let help = "leave it out; file_present and file_absent pass or fail like other checks";
    for (key, at) in [
        ("fall", at(&file.fall)),
        ("rise", at(&file.rise)),
        ("weight", at(&file.weight)),
        ("on_fail", at(&file.on_fail)),
        ("initial", at(&file.initial)),
    ] {
        refuse(key, at, !is_file, why, help);
    }
}

/// `None` after an error, which has been reported.
fn check_target(file: &file::Check, kind: &At<Kind>, report: &Report) -> Option<Target> {
    if kind.value == Kind::Command {
        let argv = hooks::check_argv(kind.value.key(), file.command.as_ref()?, "check", report);
        if let Some(user) = &file.user {
            hooks::check_user(user, report);
        }
        return Some(Target::Command { argv, user: file.user.as_ref().map(|it| it.value.clone()) });
    }
    let object = file.object.as_ref()?;
    match kind.value {
        Kind::Command => None,
        Kind::Tcp => check_tcp(object, report),
        Kind::Http => Some(Target::Http(Http {
            status: file.status.as_ref().and_then(|status| check_status(status, report)),
            body: file.body.as_ref().map(|body| check_body(body, report)),
            ca_file: file.ca_file.as_ref().and_then(|path| check_ca_file(path, object, report)),
            url: check_url(object, report)?,
        })),
        Kind::Process => {
            let process = check_process(object, report)?;
            let delay = spans(file.delay.as_ref(), "delay", &DELAYS, DEFAULT_DELAY, report);
            Some(Target::Process { process, delay })
        }
        Kind::Unit => check_unit(object, report).map(|unit| Target::Unit { unit }),
        Kind::File => check_file(object, report).map(|path| Target::File { path }),
        Kind::FilePresent => check_file(object, report).map(|path| Target::FilePresent { path }),
        Kind::FileAbsent => check_file(object, report).map(|path| Target::FileAbsent { path }),
        Kind::Interface => {
            router::check_interface(object, report);
            check_short_name(object, report);
            Some(Target::Interface { interface: object.value.clone() })
        }
        Kind::Ping => check_ping(object, report).map(|address| Target::Ping { address }),
    }
}

fn check_tcp(object: &At<String>, report: &Report) -> Option<Target> {
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

/// A host, without brackets, and its port. The error is what is wrong, and what to write instead.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), (String, String)> {
    let example = || "write a host and its port: \"127.0.0.1:80\", \"[::1]:80\"".to_string();
    if text.parse::<Ipv6Addr>().is_ok() {
        let message = format!("`{text}` needs brackets: where would its port begin?");
        return Err((message, format!("write \"[{text}]:80\"")));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else {
            return Err((format!("`{text}` has a [ without its ]"), example()));
        };
        if host.contains('%') {
            let help = "write an address that is the same on all interfaces, such as \"[::1]:80\"";
            return Err((format!("`{host}` names an interface"), help.into()));
        }
        if host.parse::<Ipv6Addr>().is_err() {
            return Err((format!("`{host}` is not an IPv6 address"), example()));
        }
        match port.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if port.is_empty() => (host, None),
            None => return Err((format!("`{port}` is not a port"), example())),
        }
    } else {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_number = !host.is_empty()
            && port.is_some()
            && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if host.is_empty() {
            return Err((format!("`{text}` has no host"), example()));
        }
        if host.len() > LONGEST_HOST || !host.chars().all(fits) || host.starts_with(['-', '.']) {
            let message = format!("`{host}` is neither an address nor the name of a host");
            return Err((message, example()));
        }
        if is_number && host.parse::<IpAddr>().is_err() {
            return Err((format!("`{host}` is not an address"), example()));
        }
        (host, port)
    };
    let port = match port {
        None => None,
        Some("") => {
            let host = text.trim_end_matches(':');
            return Err((format!("`{text}` has no port"), format!("write \"{host}:80\"")));
        }
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && !digits.starts_with('+') => Some(port),
            _ => return Err((format!("`{digits}` is not a port: 1 to 65535"), example())),
        },
    };
    Ok((host.to_string(), port))
}

/// The URL as [`Http::url`] says it is written.
fn check_url(object: &At<String>, report: &Report) -> Option<String> {
    normal_url(&object.value)
        .map_err(|(message, help)| report.error(&object.at, message, help))
        .ok()
}

fn normal_url(url: &str) -> Result<String, (String, String)> {
    let lower = url.to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let Some(scheme) = scheme else {
        let help = match url.split_once("://") {
            None if !url.is_empty() => format!("write \"http://{url}\""),
            _ => "write http = \"http://127.0.0.1/healthz\"".into(),
        };
        return Err((format!("`{url}` does not begin with http:// or https://"), help));
    };
    let rest = url.get(scheme.len()..).unwrap_or_default();
    if let Some(wrong) = url.chars().find(|c| !c.is_ascii_graphic()) {
        let help = "write it as %20 and the like, or leave it out";
        return Err((format!("a URL has no {wrong:?} in it"), help.into()));
    }
    if let Some((before, _)) = url.split_once('#') {
        let message = "what follows # in a URL is never sent".to_string();
        return Err((message, format!("write \"{before}\"")));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        let message = "a user or password in the URL would be shown in status and logs".to_string();
        let help = "leave it out; a `command` can ask with a password that it reads from a file";
        return Err((message, help.into()));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    if authority.is_empty() {
        let help = "write http = \"http://127.0.0.1/healthz\"".to_string();
        return Err((format!("`{url}` has no host"), help));
    }
    if authority.parse::<Ipv6Addr>().is_ok() {
        let help = format!("write \"{scheme}[{authority}]{slash}{path}\"");
        return Err((format!("`{authority}` needs brackets: where would its port begin?"), help));
    }
    // An IPv4 address without a port is looked at, too.
    let with_port = match authority.rsplit_once(':') {
        Some(_) => authority.to_string(),
        None => format!("{authority}:80"),
    };
    host_and_port(&with_port).map_err(|(message, _)| {
        (message, "write http = \"http://127.0.0.1:8080/healthz\"".to_string())
    })?;
    Ok(format!("{scheme}{authority}{slash}{path}"))
}

/// `None` after an error, which has been reported.
fn check_status(status: &At<i64>, report: &Report) -> Option<u16> {
    let fits = (200..=599).contains(&status.value);
    let number = u16::try_from(status.value).ok().filter(|_| fits);
    if number.is_none() {
        let help = "write status = 204, or leave it out: 200 to 299 pass";
        report.error(&status.at, "the status of an answer is 200 to 599", help);
    }
    number
}

fn check_body(body: &At<String>, report: &Report) -> String {
    if body.value.is_empty() {
        let help = "write what the answer must contain, or leave it out";
        report.error(&body.at, "an empty `body` is contained in every answer", help);
    }
    body.value.clone()
}

/// `None` after an error, which has been reported.
fn check_ca_file(path: &At<String>, url: &At<String>, report: &Report) -> Option<PathBuf> {
    if !url.value.to_ascii_lowercase().starts_with("https://") {
        report.conflict(
            &path.at,
            "`ca_file` is for https://: without TLS nobody proves who he is",
            "leave it out, or write https://",
            &url.at,
            "this is not https://",
        );
        return None;
    }
    check_path(path, report)
}

/// `None` after an error, which has been reported.
fn check_process(object: &At<String>, report: &Report) -> Option<String> {
    let name = object.value.as_str();
    if name.contains('/') {
        return check_path(object, report).map(|_| name.to_string());
    }
    let problem = if name.is_empty() || name.contains(char::is_control) {
        Some("this cannot be the name of a process".to_string())
    } else if name.len() > LONGEST_COMM {
        Some(format!(
            "the kernel keeps {LONGEST_COMM} bytes of the name of a process: `{name}` has more"
        ))
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
fn check_unit(object: &At<String>, report: &Report) -> Option<String> {
    let name = object.value.as_str();
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let stem = name.rsplit_once('.').filter(|(_, suffix)| UNIT_TYPES.contains(suffix));
    let (message, help) = if name.is_empty() || name.len() > LONGEST_UNIT || !name.chars().all(fits)
    {
        let message = format!("`{name}` cannot be the name of a systemd unit");
        (message, "see: systemctl list-units".to_string())
    } else if let Some((stem, _)) = stem {
        if !stem.is_empty() && !stem.ends_with('@') {
            return Some(name.to_string());
        }
        let message = format!("`{name}` is no unit, but what units are made from");
        (message, "write the name of one of them, such as \"postgresql@15-main.service\"".into())
    } else {
        (format!("`{name}` does not say what kind of unit"), format!("write \"{name}.service\""))
    };
    report.error(&object.at, message, help);
    None
}

/// `None` after an error, which has been reported.
fn check_file(object: &At<String>, report: &Report) -> Option<PathBuf> {
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
fn check_path(object: &At<String>, report: &Report) -> Option<PathBuf> {
    let path = object.value.as_str();
    let (message, help) = if !path.starts_with('/') {
        let message = format!("`{path}` is a relative path: relative to what?");
        (message, "write the whole path, beginning with /")
    } else if path.split('/').any(|part| part == "..") {
        (format!("`{path}` goes through `..`"), "write the path without")
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

/// The kernel is asked in a way that never blocks, and has room for so many bytes.
fn check_short_name(object: &At<String>, report: &Report) {
    let (name, longest) = (object.value.as_str(), router::LONGEST_INTERFACE_NAME);
    if name.len() > longest && name.len() <= router::LONGEST_ALTERNATIVE_NAME {
        report.error(
            &object.at,
            format!("a check knows an interface by {longest} bytes at most: `{name}` has more"),
            "write its name, or a shorter alternative one; see: ip link show",
        );
    }
}

/// `None` after an error, which has been reported.
fn check_ping(object: &At<String>, report: &Report) -> Option<IpAddr> {
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

/// Spans that are accepted, and how they are written.
struct Spans {
    shortest: (Duration, &'static str),
    longest: (Duration, &'static str),
}

const INTERVALS: Spans = Spans {
    shortest: (Duration::from_millis(100), "100ms"),
    longest: (Duration::from_secs(3600), "1h"),
};
const TIMEOUTS: Spans = Spans {
    shortest: (Duration::from_millis(10), "10ms"),
    longest: (Duration::from_secs(600), "10m"),
};
const DELAYS: Spans = Spans { shortest: (Duration::ZERO, "0s"), longest: (LONGEST_DELAY, "1m") };

fn spans(
    span: Option<&At<Duration>>,
    key: &str,
    accepted: &Spans,
    default: Duration,
    report: &Report,
) -> Duration {
    let Some(At { value, at }) = span else { return default };
    let Spans { shortest, longest } = accepted;
    let nearest = if *value < shortest.0 {
        shortest.1
    } else if *value > longest.0 {
        longest.1
    } else {
        return *value;
    };
    report.error(
        at,
        format!("`{key}` of a check is {} to {}, not {value:?}", shortest.1, longest.1),
        format!("write {key} = \"{nearest}\", or leave it out: {default:?}"),
    );
    default
}

fn check_count(key: &str, count: Option<&At<i64>>, default: u32, report: &Report) -> u32 {
    let Some(At { value, at }) = count else { return default };
    match u32::try_from(*value) {
        Ok(count @ 1..=1000) => count,
        _ => {
            let what = if key == "fall" { "failures" } else { "passes" };
            let help = format!("write {key} = {default}, or leave it out");
            report.error(at, format!("`{key}` is 1 to 1000 {what} in a row"), help);
            default
        }
    }
}

fn check_effect(file: &file::Check, report: &Report) -> Effect {
    let is_number = file.kinds.iter().any(|kind| kind.value == Kind::File);
    if let (Some(weight), Some(on_fail), false) = (&file.weight, &file.on_fail, is_number) {
        report.conflict(
            &on_fail.at,
            "a check has a weight, or fails: `weight` and `on_fail` are two answers to one question",
            "leave one of the two out",
            &weight.at,
            "changes the priority",
        );
    }
    match (&file.weight, file.on_fail.as_ref().map(|on_fail| on_fail.value)) {
        (Some(weight), _) => check_weight(weight, report).map_or(Effect::Fault, Effect::Weight),
        (None, Some(file::OnFail::Last)) => Effect::Last,
        (None, Some(file::OnFail::Fault) | None) => Effect::Fault,
    }
}

/// `None` after an error, which has been reported.
fn check_weight(weight: &At<i64>, report: &Report) -> Option<i16> {
    if weight.value == 0 {
        let help = "leave it out: a failing check then means fault";
        report.error(&weight.at, "a weight of 0 changes nothing", help);
        return None;
    }
    let fits = |weight: &i16| (-LARGEST_WEIGHT..=LARGEST_WEIGHT).contains(weight);
    let number = i16::try_from(weight.value).ok().filter(fits);
    if number.is_none() {
        let sign = if weight.value < 0 { "-" } else { "" };
        report.error(
            &weight.at,
            format!(
                "a weight is -{LARGEST_WEIGHT} to {LARGEST_WEIGHT}: the priority stays in 1 to 254"
            ),
            format!("write weight = {sign}{LARGEST_WEIGHT}"),
        );
    }
    number
}

/// What can only be seen on this machine.
pub(super) fn check_host(plan: &CheckPlan, places: Option<&CheckPlaces>, report: &Report) {
    match &plan.target {
        Target::Command { argv, user } => hooks::check_program(
            argv,
            user.as_deref(),
            places.map(|places| &places.object),
            places.and_then(|places| places.user.as_ref()),
            report,
        ),
        Target::Http(Http { ca_file: Some(path), .. }) => {
            if let Err((message, help)) = has_certificates(path) {
                match places.and_then(|places| places.ca_file.as_ref()) {
                    Some(place) => report.error_at(place.clone(), message, help),
                    None => report.error_without_place(message, help),
                }
            }
        }
        Target::Http(Http { ca_file: None, .. })
        | Target::Tcp { .. }
        | Target::Process { .. }
        | Target::Unit { .. }
        | Target::File { .. }
        | Target::FilePresent { .. }
        | Target::FileAbsent { .. }
        | Target::Interface { .. }
        | Target::Ping { .. } => {}
    }
}

/// Whether a file can be read and has PEM certificates in it.
fn has_certificates(path: &Path) -> Result<(), (String, String)> {
    const LARGEST: u64 = 4 << 20;
    let shown = path.display();
    let error = |message: String, help: &str| Err((message, help.to_string()));
    match std::fs::metadata(path) {
        Err(why) => return error(format!("cannot look at `{shown}`: {why}"), "correct the path"),
        Ok(found) if !found.is_file() || found.len() > LARGEST => {
            let message = format!("`{shown}` is not a file of certificates");
            return error(message, "name a file with certificates of authorities in PEM form");
        }
        Ok(_) => {}
    }
    match std::fs::read(path) {
        Err(why) => error(format!("cannot read `{shown}`: {why}"), "see who may read it: ls -l"),
        Ok(bytes) => {
            let begin = b"-----BEGIN CERTIFICATE-----";
            if bytes.windows(begin.len()).any(|window| window == begin) {
                return Ok(());
            }
            let help = "openssl x509 -inform der -outform pem makes PEM out of DER";
            error(format!("`{shown}` has no certificate in PEM form"), help)
        }
    }
}
