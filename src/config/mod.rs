//! The configuration file: either all of it is valid, or all problems are reported at once.
//!
//! `load` reads the file, `syntax` explains TOML errors, `file` declares tables and keys, and
//! `reader` reads them. `router`, `checks`, `group` and `hooks` hold the rules, `problem` collects
//! what is wrong. Of a valid configuration, `explain` says what it means and `changes` what a
//! reload changes; `reference` is `etc/vipd.toml` as data, for the manual page.

mod changes;
mod checks;
mod duration;
mod explain;
mod file;
mod group;
mod hooks;
mod load;
mod names;
mod problem;
mod program;
mod reader;
pub(crate) mod reference;
mod router;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

pub use checks::{CheckPlan, Http, MAX_COMM, Target};
pub use file::keys;
pub use hooks::{HookCommand, Hooks};
pub use problem::{Place, Problem, Problems, Severity};
pub use program::{HOOK_PATH, ProgramFaults, ProgramUse, examine, find_program};

use crate::host::trust::Trust;
use crate::vrrp;
use checks::CheckPlaces;
use hooks::HookPlaces;
use names::check_name;
use problem::Diagnostics;

/// A valid configuration. Equality compares the meaning, not how the file is written.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `[node]` table.
    pub node: NodeConfig,
    /// For the protocol.
    pub vrrp: vrrp::Config,
    /// For the helper process; `vrrp.checks` has the same names in the same order.
    pub checks: Vec<CheckPlan>,
    /// By name of the virtual router or sync group; only those with hooks.
    pub hooks: BTreeMap<Arc<str>, Hooks>,
    /// Notes on legal but questionable settings, in the order of the file.
    pub advice: Vec<Problem>,
    file: Arc<str>,
    hook_places: BTreeMap<Arc<str>, HookPlaces>,
    /// In the order of `checks`.
    check_places: Vec<CheckPlaces>,
}

/// The `[node]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Used in status, logs and metrics, not on the wire. Defaults to the host name.
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
    /// Every problem of the text; or that the file cannot be read, or that users other than root and
    /// our own could change it, and so choose which programs run as root.
    pub fn load(path: &Path) -> Result<Config, Problems> {
        let name = path.display().to_string();
        Config::parse(&name, &load::read(path, &name, Some(&Trust::of_this_process()))?)
    }

    /// As [`Config::load`], for a file that is not used on this machine: anybody may have written it.
    ///
    /// # Errors
    /// Every problem of the text; or that the file cannot be read.
    pub fn load_draft(path: &Path) -> Result<Config, Problems> {
        let name = path.display().to_string();
        Config::parse(&name, &load::read(path, &name, None)?)
    }

    /// Checks the text of a file; `name` is its name in messages. Depends on nothing of this
    /// machine but its host name.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn parse(name: &str, text: &str) -> Result<Config, Problems> {
        let report = Diagnostics::new(name, text);
        let (table, syntax_errors) = DeTable::parse_recoverable(text);
        syntax::report_syntax(text, &syntax_errors, &report);
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

    /// Checks what depends on this machine: that every program of a hook or check exists, can be
    /// executed by its user and cannot be changed by others, that the users exist, and that a
    /// `ca_file` has certificates.
    ///
    /// # Errors
    /// Every problem, at the line that names the program or file.
    pub fn check_host(&self) -> Result<(), Problems> {
        self.check_host_with(&examine(&self.programs()))
    }

    /// The programs and users of all hooks and checks.
    pub fn programs(&self) -> BTreeSet<ProgramUse> {
        let hooks = self.hooks.values().flat_map(Hooks::iter).map(|(_, command)| command.program());
        hooks.chain(self.checks.iter().filter_map(CheckPlan::program)).collect()
    }

    /// As [`Config::check_host`], for programs that another process has [examined](examine).
    ///
    /// # Errors
    /// As for [`Config::check_host`].
    pub fn check_host_with(&self, faults: &ProgramFaults) -> Result<(), Problems> {
        let report = Diagnostics::new(&self.file, "");
        for (router, hooks) in &self.hooks {
            hooks::check_host(hooks, self.hook_places.get(router), faults, &report);
        }
        for (index, plan) in self.checks.iter().enumerate() {
            checks::check_host(plan, self.check_places.get(index), faults, &report);
        }
        let (problems, _) = report.into_parts();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Adds a note for whatever on this machine only our own user trusts: a daemon of root would
    /// refuse the file `path` because of it.
    pub fn note_what_root_refuses(&mut self, path: &Path) {
        let trust = Trust::of_root();
        let mut refused = Vec::new();
        refused.extend(trust.check(path).err().map(|untrusted| load::explain(&untrusted)));
        let programs = self.check_host_with(&program::examine_for(&trust, &self.programs())).err();
        for problem in programs.iter().flat_map(Problems::iter) {
            refused.push((problem.message.clone(), problem.suggestion.clone()));
        }
        for (message, help) in refused {
            self.note(&format!("root would refuse to run this: {message}"), &help);
        }
    }

    /// That its programs could not be examined, for this reason.
    pub fn not_examined(&self, why: &str) -> Problems {
        let message = format!("the programs of hooks and checks cannot be examined: {why}");
        Problems::about_file(&self.file, message, "see the log for more, and try again")
    }

    /// Adds a note about this machine.
    pub fn note(&mut self, message: &str, suggestion: &str) {
        let report = Diagnostics::new(&self.file, "");
        report.advice_without_place(message, suggestion);
        self.advice.extend(report.into_parts().1);
    }

    /// "ok" and a summary: some lines for each virtual router, sync group and check.
    pub fn explain(&self) -> String {
        explain::as_text(self)
    }

    /// As [`Config::explain`], as JSON, with the advice.
    pub fn explain_as_json(&self) -> String {
        explain::as_json(self)
    }

    /// The differences from `before`, one line per key; empty if the two are equal.
    pub fn changes_since(&self, before: &Config) -> Vec<String> {
        changes::changes(before, self)
    }

    /// Fails if no virtual router is configured.
    ///
    /// # Errors
    /// There is none.
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

/// The names of all checks that a virtual router or sync group uses.
fn used_checks(file: &file::File) -> BTreeSet<&str> {
    let of_routers = file.virtual_routers.iter().map(|router| &router.checks);
    let of_groups = file.sync_groups.iter().map(|group| &group.checks);
    let lists = of_routers.chain(of_groups).flatten();
    lists.flat_map(|list| &list.value).map(|name| name.value.as_str()).collect()
}

fn check_node(node: Option<&file::NodeTable>, report: &Diagnostics) -> NodeConfig {
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
    NodeConfig { name }
}
