//! The rules for one check, by subject.

mod draft;
mod endpoint;
mod host;
mod numbers;
mod plan;
mod target;
mod used;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

pub(super) use draft::CheckDraft;
pub(super) use host::{CheckPlaces, check_host};
pub use plan::{CheckPlan, Http, Target};
pub use target::MAX_COMM;
pub(super) use used::{advise_on_unused, check_use, named};

use super::file::{self, CheckKind};
use super::names::check_name;
use super::problem::Diagnostics;
use super::reader::At;
use crate::vrrp::{CheckConfig, Effect, Initial};
use numbers::{check_effect, check_fall, check_interval, check_rise, check_timeout};
use target::check_target;

/// `initial = "wait"` waits at least this long for the first result, as the helper must start, too.
const MIN_WAIT: Duration = Duration::from_secs(5);

/// The rules for one check by itself.
pub(super) fn check<'f>(file: &'f file::CheckTable, report: &Diagnostics) -> CheckDraft<'f> {
    if let Some(name) = &file.name {
        check_name("the name of a check", name, report);
    }
    check_number_of_kinds(file, report);
    let kind = match file.subject.kinds.as_slice() {
        [kind] => Some(kind),
        _ => None,
    };
    if let Some(kind) = kind {
        refuse_options_of_other_kinds(file, kind.value, report);
    }
    let target = kind.and_then(|kind| check_target(file, kind, report));

    let interval = check_interval(file.interval.as_ref(), report);
    let timeout = check_timeout(file.timeout.as_ref(), report);
    let fall = check_fall(file.fall.as_ref(), report);
    let rise = check_rise(file.rise.as_ref(), report);
    let effect = check_effect(file, report);
    // Their results are certain, so one is enough.
    let (fall, rise, effect) = match kind.map(|kind| kind.value) {
        Some(CheckKind::Process) => (1, 1, effect),
        Some(CheckKind::File) => (1, 1, Effect::Number),
        Some(
            CheckKind::Command
            | CheckKind::Tcp
            | CheckKind::Http
            | CheckKind::Unit
            | CheckKind::FilePresent
            | CheckKind::FileAbsent
            | CheckKind::Interface
            | CheckKind::Ping,
        )
        | None => (fall, rise, effect),
    };
    let first_result = match &target {
        Some(Target::Process { delay, .. }) => *delay + interval,
        _ => timeout + interval,
    };
    let initial = match file.initial.as_ref().map(|initial| initial.value) {
        Some(known @ (Initial::Passing | Initial::Failing)) => known,
        Some(Initial::Wait(_)) | None => Initial::Wait(first_result.max(MIN_WAIT)),
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
    CheckDraft { file, result: result() }
}

/// Names must be unique.
pub(super) fn check_together(checks: &[CheckDraft<'_>], report: &Diagnostics) {
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

fn check_number_of_kinds(file: &file::CheckTable, report: &Diagnostics) {
    match file.subject.kinds.as_slice() {
        [] if report.is_partial() || file.mistyped_kind => {}
        [] => {
            let all = CheckKind::ALL.map(CheckKind::name).join(", ");
            let help = format!("add one of {all}; such as: tcp = \"127.0.0.1:80\"");
            report.error(&file.at, "this [[check]] does not say what it tests", help);
        }
        [first, others @ ..] => {
            for other in others {
                report.conflict(
                    &other.at,
                    format!(
                        "a check tests one thing, not both `{}` and `{}`",
                        first.value.name(),
                        other.value.name()
                    ),
                    "write a [[check]] for each, and name both in `checks`",
                    &first.at,
                    "the first one",
                );
            }
        }
    }
}

fn refuse_options_of_other_kinds(file: &file::CheckTable, kind: CheckKind, report: &Diagnostics) {
    let refuse = |key: &str, at: Option<&Range<usize>>, fits: bool, why: &str, help: &str| {
        if let Some(at) = at.filter(|_| !fits) {
            report.error(at, format!("`{key}` is not for `{}`: {why}", kind.name()), help);
        }
    };
    fn at<T>(value: &Option<At<T>>) -> Option<&Range<usize>> {
        value.as_ref().map(|value| &value.at)
    }
    let has_user = kind == CheckKind::Command || kind == CheckKind::Process;
    let why = "it neither runs a program nor looks for one";
    refuse("user", at(&file.user), has_user, why, "leave it out");
    let is_http = kind == CheckKind::Http;
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
    let is_process = kind == CheckKind::Process;
    let why = "it is how long there may be no process";
    let help = "leave it out; `interval` and `fall` decide how soon this check fails";
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
    let is_file = kind == CheckKind::File;
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
