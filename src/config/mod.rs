//! The configuration file, checked: either all of it holds, or every problem is named at once.
//!
//! `file` is the shape of the TOML and nothing else, `reader` walks it, `router`, `checks`, `group`
//! and `hooks` hold the rules, `problem` says where, what, and what to write instead, and `meaning` what it comes to.

mod changes;
mod checks;
mod duration;
mod file;
mod group;
mod hooks;
mod meaning;
mod problem;
mod reader;
pub mod reference;
mod router;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

pub use checks::{CheckPlan, Http, Target};
pub use file::keys;
pub use hooks::{Command, HOOK_PATH, Hooks, find_program};
pub use problem::{Place, Problem, Problems, Severity};

use checks::CheckPlaces;
use hooks::HookPlaces;
use problem::Report;
use reader::At;

use crate::vrrp;

/// A file for thousands of virtual routers is smaller than this; what is larger is another file.
const LARGEST_FILE: u64 = 4 << 20;

/// The whole file, checked. Two are equal if they ask for the same, however they are written.
#[derive(Clone, Debug)]
pub struct Config {
    /// This host.
    pub node: Node,
    /// What the protocol is told.
    pub vrrp: vrrp::Config,
    /// What the helper process looks at; `vrrp.checks` has the same names in the same order.
    pub checks: Vec<CheckPlan>,
    /// By name of the virtual router or, for all members together, of the group; those without hooks
    /// are absent.
    pub hooks: BTreeMap<Arc<str>, Hooks>,
    /// Legal, but an operator should know; in the order of the file.
    pub advice: Vec<Problem>,
    file: Arc<str>,
    hook_places: BTreeMap<Arc<str>, HookPlaces>,
    /// In the order of `checks`.
    check_places: Vec<CheckPlaces>,
}

/// The host itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// For status, logs and metrics; nothing on the wire. The host name unless configured.
    pub name: String,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
            && self.vrrp == other.vrrp
            && self.checks == other.checks
            && self.hooks == other.hooks
    }
}

impl Eq for Config {}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every problem of the text; or that it cannot be read, or that others may write it: whoever
    /// writes it decides which programs we run.
    pub fn load(path: &Path) -> Result<Config, Problems> {
        let name = path.display().to_string();
        Config::parse(&name, &read(path, &name)?)
    }

    /// Checks the text of a file; `name` is what problems call it. Looks at nothing of this
    /// machine but its host name.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn parse(name: &str, text: &str) -> Result<Config, Problems> {
        let report = Report::new(name, text);
        let (table, syntax_errors) = DeTable::parse_recoverable(text);
        report_syntax(text, &syntax_errors, &report);
        let file = file::File::read(&table, &report);

        let node = check_node(file.node.as_ref(), &report);
        let defined: Vec<_> =
            file.checks.iter().map(|check| checks::check(check, &report)).collect();
        checks::check_together(&defined, &report);
        let checked: Vec<_> = file
            .virtual_routers
            .iter()
            .map(|router| router::check(router, &defined, &report))
            .collect();
        router::check_together(&checked, &report);
        let groups = group::check(&file.sync_groups, &checked, &defined, &report);
        checks::advise_on_unused(&defined, &used_checks(&file), &report);

        let mut routers = Vec::with_capacity(checked.len());
        let mut hooks = BTreeMap::new();
        let mut hook_places = BTreeMap::new();
        for (config, router_hooks, places) in checked.into_iter().filter_map(|it| it.result) {
            if !router_hooks.is_empty() {
                hooks.insert(config.name.clone(), router_hooks);
                hook_places.insert(config.name.clone(), places);
            }
            routers.push(config);
        }
        let mut group_configs = Vec::new();
        for group in groups.into_iter().flatten() {
            group.apply(&mut routers, &defined);
            if !group.hooks.is_empty() {
                hooks.insert(group.config.name.clone(), group.hooks);
                hook_places.insert(group.config.name.clone(), group.hook_places);
            }
            group_configs.push(group.config);
        }
        let (mut counts, mut plans, mut check_places) = (Vec::new(), Vec::new(), Vec::new());
        for (count, plan, places) in defined.into_iter().filter_map(|check| check.result) {
            counts.push(count);
            plans.push(plan);
            check_places.push(places);
        }
        let (problems, advice) = report.into_parts();
        if !problems.is_empty() {
            return Err(problems);
        }
        let vrrp = vrrp::Config { routers, checks: counts, groups: group_configs };
        let file = name.into();
        Ok(Config { node, vrrp, checks: plans, hooks, advice, file, hook_places, check_places })
    }

    /// What can only be seen on this machine: that every program of a hook or check is there, can be
    /// run by its user and cannot be changed by others, that the users exist, and that a `ca_file`
    /// has certificates.
    ///
    /// # Errors
    /// Every problem found, at the line that names the program or file.
    pub fn check_host(&self) -> Result<(), Problems> {
        let report = Report::new(&self.file, "");
        for (router, hooks) in &self.hooks {
            hooks::check_host(hooks, self.hook_places.get(router), &report);
        }
        for (index, plan) in self.checks.iter().enumerate() {
            checks::check_host(plan, self.check_places.get(index), &report);
        }
        let (problems, _) = report.into_parts();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// "ok", and who is configured where, with what and what follows from it: some lines for each
    /// virtual router.
    pub fn meaning(&self) -> String {
        meaning::as_text(self)
    }

    /// As [`Config::meaning`], for programs, with the advice.
    pub fn meaning_as_json(&self) -> String {
        meaning::as_json(self)
    }

    /// What is different from `before`, one line for each key; empty if the two ask for the same.
    pub fn changes_since(&self, before: &Config) -> Vec<String> {
        changes::changes(before, self)
    }

    /// For whoever has nothing to do without a virtual router.
    ///
    /// # Errors
    /// The file has none.
    pub fn require_routers(&self) -> Result<(), Problems> {
        if self.vrrp.routers.is_empty() {
            return Err(Problems::about_file(
                &self.file,
                "there is no virtual router in this file, so there is nothing to do",
                "add a [[virtual_router]] with name, interface, vrid and addresses",
            ));
        }
        Ok(())
    }
}

/// The text of a file that only root and we ourselves can change.
fn read(path: &Path, name: &str) -> Result<String, Problems> {
    let refuse = |message: String, help: &str| Err(Problems::about_file(name, message, help));
    // Opening a pipe must not wait for a writer.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut open = std::fs::OpenOptions::new();
    let opened = open.read(true).custom_flags(flags).open(path);
    let (file, metadata) = match opened.and_then(|file| Ok((file.metadata()?, file))) {
        Ok((metadata, file)) => (file, metadata),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse(
                format!("there is no file {name}"),
                "create it, or name another one; etc/vipd.toml shows every key",
            );
        }
        Err(error) => {
            return refuse(
                format!("cannot open {name}: {error}"),
                "see who may read it: ls -l, and the directories above",
            );
        }
    };
    if !metadata.is_file() {
        return refuse(format!("{name} is not a file"), "name the configuration file itself");
    }
    let mode = metadata.mode();
    if mode & 0o002 != 0 {
        return refuse(
            format!("everybody may write {name}, and so decide what runs as root"),
            &format!("chmod o-w {name}"),
        );
    }
    if mode & 0o020 != 0 && metadata.gid() != 0 {
        return refuse(
            format!(
                "the group {} may write {name}, and so decide what runs as root",
                metadata.gid()
            ),
            &format!("chmod g-w {name}"),
        );
    }
    let mut bytes = Vec::new();
    if let Err(error) = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes) {
        return refuse(format!("cannot read {name}: {error}"), "see whether the disk is well");
    }
    if bytes.len() as u64 > LARGEST_FILE {
        return refuse(
            format!("{name} is larger than {} MiB", LARGEST_FILE >> 20),
            "name the configuration file",
        );
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let report = Report::new(name, &text);
            report.error(
                &(good..good + '\u{fffd}'.len_utf8()),
                "here is a byte that is not UTF-8",
                "save the file as UTF-8",
            );
            Err(report.into_parts().0)
        }
    }
}

/// At most one error for a line, and one for a list without an end: the others follow from it.
fn report_syntax(text: &str, errors: &[toml::de::Error], report: &Report) {
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
        // The comma is missing behind the entry before. If that is lines above, it is the end of
        // the list that is missing, and what follows is no part of it, up to the next table.
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

/// The parser's message in words that say what to do.
fn explain_syntax(message: &str, found: &str) -> (String, String) {
    match message.split(',').next().unwrap_or(message) {
        "string values must be quoted" if found.is_empty() => {
            ("a value is missing here".into(), "write it behind the `=`".into())
        }
        "string values must be quoted" => {
            (format!("`{found}` must be in quotes"), format!("write \"{found}\""))
        }
        "invalid basic string" | "invalid literal string" => (
            "the string does not end in its line".into(),
            "close it with the quote it began with".into(),
        ),
        "missing comma between array elements" | "unclosed array" => (
            "the list goes on without a comma, or does not end".into(),
            "put a comma between the entries, and ] behind the last one".into(),
        ),
        "unexpected leading zero" => {
            ("a number does not begin with 0".into(), "write it without the leading zeros".into())
        }
        "unclosed table" => (
            "the name of the table is not closed".into(),
            "close it as it began, with ] or ]]".into(),
        ),
        "key with no value" => (
            "there is no = behind this key".into(),
            "write key = \"text\", key = 1, key = true, or key = [\"a\", \"b\"]".into(),
        ),
        "duplicate key" => (
            format!("`{found}` is set twice"),
            "keep one of the two; what repeats is written [[...]]".into(),
        ),
        _ => (
            format!("this is not TOML: {message}"),
            "keys are written: key = \"text\", key = 1, key = true, key = [\"a\", \"b\"]".into(),
        ),
    }
}

/// Every check that somebody names.
fn used_checks(file: &file::File) -> BTreeSet<&str> {
    let of_routers = file.virtual_routers.iter().map(|router| &router.checks);
    let of_groups = file.sync_groups.iter().map(|group| &group.checks);
    let lists = of_routers.chain(of_groups).flatten();
    lists.flat_map(|list| &list.value).map(|name| name.value.as_str()).collect()
}

fn check_node(node: Option<&file::Node>, report: &Report) -> Node {
    let name = match node.and_then(|node| node.name.as_ref()) {
        Some(name) => {
            check_name("a node's name", name, report);
            name.value.clone()
        }
        None => nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_else(|| "localhost".into()),
    };
    Node { name }
}

/// Names are typed in commands and stand in logs and metrics.
fn check_name(what: &str, name: &At<String>, report: &Report) {
    const LONGEST: usize = 64;
    let fits = |c: char| c.is_alphanumeric() || "-_.:@+".contains(c);
    let text = &name.value;
    let fitting: String =
        text.chars().map(|c| if fits(c) { c } else { '-' }).take(LONGEST).collect();
    let help = match fitting.trim_matches('-') {
        "" => "write letters, digits, and - _ . : @ + between them: \"web-1\"".to_string(),
        fitting => format!("write \"{fitting}\""),
    };
    if text.is_empty() {
        report.error(&name.at, format!("{what} must not be empty"), help);
    } else if text.chars().count() > LONGEST {
        report.error(&name.at, format!("{what} has at most {LONGEST} characters"), help);
    } else if let Some(wrong) = text.chars().find(|c| !fits(*c)) {
        report.error(&name.at, format!("{what} must not contain {wrong:?}"), help);
    } else if text.starts_with('-') {
        report.error(&name.at, format!("{what} must not begin with -, as options do"), help);
    }
}
