//! The rules for sync groups: virtual routers that are master together or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::hooks::{self, HookPlaces, Hooks, Settings};
use super::names::check_name;
use super::problem::Report;
use super::reader::{At, closest};
use super::{checks, file, router};
use crate::vrrp::{GroupConfig, Handover, Priority, RouterConfig};

/// A group as far as it could be understood.
pub(super) struct Checked {
    pub config: GroupConfig,
    pub hooks: Hooks,
    pub hook_places: HookPlaces,
    settings: Settings,
    checks: BTreeSet<Arc<str>>,
}

impl Checked {
    /// What the members have in common: the hooks of the group, and the checks of them all, in the
    /// order of the file.
    pub fn apply(&self, routers: &mut [RouterConfig], defined: &[checks::Checked<'_>]) {
        let is_member = |router: &RouterConfig| self.config.members.contains(&router.name);
        let mut union = self.checks.clone();
        for router in routers.iter().filter(|router| is_member(router)) {
            union.extend(router.checks.iter().cloned());
        }
        let in_order: Arc<[Arc<str>]> = defined
            .iter()
            .filter_map(checks::Checked::name)
            .filter_map(|name| union.get(name).cloned())
            .collect();
        for router in routers.iter_mut().filter(|router| is_member(router)) {
            router.checks = in_order.clone();
            self.settings.apply(router);
        }
    }
}

/// Every group, and what must be different from one to the next. `None` if a name or the members
/// are missing.
pub(super) fn check(
    groups: &[file::SyncGroup],
    routers: &[router::Checked<'_>],
    defined: &[checks::Checked<'_>],
    report: &Report,
) -> Vec<Option<Checked>> {
    check_names(groups, routers, report);
    let mut homes = BTreeMap::new();
    groups.iter().map(|group| check_one(group, &mut homes, routers, defined, report)).collect()
}

fn check_names(groups: &[file::SyncGroup], routers: &[router::Checked<'_>], report: &Report) {
    let mut taken: BTreeMap<&str, (&Range<usize>, &str)> = BTreeMap::new();
    for At { value, at } in routers.iter().filter_map(|router| router.name) {
        taken.entry(value).or_insert((at, "a virtual router"));
    }
    for name in groups.iter().filter_map(|group| group.name.as_ref()) {
        check_name("the name of a sync group", name, report);
        if let Some((earlier, what)) = taken.get(name.value.as_str()) {
            report.conflict(
                &name.at,
                format!("`{}` is also the name of {what}", name.value),
                "give this one a name of its own: commands and hooks are told one name",
                earlier,
                "the first one",
            );
        } else {
            taken.insert(&name.value, (&name.at, "another sync group"));
        }
    }
}

fn check_one<'f>(
    group: &'f file::SyncGroup,
    homes: &mut BTreeMap<&'f str, &'f Range<usize>>,
    routers: &[router::Checked<'f>],
    defined: &[checks::Checked<'_>],
    report: &Report,
) -> Option<Checked> {
    let members = check_members(group, homes, routers, report);
    if let Some((first, others)) = members.split_first() {
        for other in others {
            check_same(first, other, report);
        }
    }
    let (hooks, hook_places, settings) = match &group.hooks {
        Some(hooks) => hooks::check(hooks, report),
        None => <(Hooks, HookPlaces, Settings)>::default(),
    };
    let handover = members.iter().filter_map(|member| member.handover.as_ref()).next();
    let handover = handover.map_or(Handover::Overlap, |handover| handover.value);
    router::advise_on_release(group.hooks.as_ref(), handover, report);
    let own = checks::named(group.checks.as_ref(), defined, report);
    // What stands in the way of a member stands in the way of the group.
    for member in &members {
        checks::check_use(&own, member, false, report);
    }
    let names = members.iter().filter_map(|member| member.name.as_ref());
    Some(Checked {
        config: GroupConfig {
            name: group.name.as_ref()?.value.as_str().into(),
            members: names.map(|name| Arc::from(name.value.as_str())).collect(),
        },
        hooks,
        hook_places,
        settings,
        checks: own.iter().filter_map(|(_, check)| check.name()).map(Arc::from).collect(),
    })
}

/// Those that are defined, and of no other group.
fn check_members<'f>(
    group: &'f file::SyncGroup,
    homes: &mut BTreeMap<&'f str, &'f Range<usize>>,
    routers: &[router::Checked<'f>],
    report: &Report,
) -> Vec<&'f file::VirtualRouter> {
    let Some(list) = &group.members else { return Vec::new() };
    if list.value.len() < 2 && !report.is_partial() {
        report.error(
            &list.at,
            "a sync group has at least two members: who else is to move along?",
            "name two virtual routers, or leave the group out",
        );
    }
    let mut members = Vec::new();
    for At { value, at } in &list.value {
        let named =
            |router: &&router::Checked<'_>| router.name.is_some_and(|it| it.value == *value);
        let Some(router) = routers.iter().find(named) else {
            // It may stand behind a syntax error.
            if !report.is_partial() {
                let names = routers.iter().filter_map(|it| it.name).map(|it| it.value.as_str());
                let help = match closest(value, names) {
                    Some(name) => format!("did you mean \"{name}\"?"),
                    None => "name a [[virtual_router]], or leave it out".to_string(),
                };
                report.error(at, format!("there is no virtual router named `{value}`"), help);
            }
            continue;
        };
        if let Some(earlier) = homes.get(value.as_str()) {
            report.conflict(
                at,
                format!("`{value}` is a member already: it can move with one group only"),
                "leave it out here, or make one group of the two",
                earlier,
                "a member here",
            );
            continue;
        }
        homes.insert(value, at);
        check_member(router.file, at, report);
        members.push(router.file);
    }
    members
}

/// What a member must not have of its own.
fn check_member(router: &file::VirtualRouter, at: &Range<usize>, report: &Report) {
    let name = router.name.as_ref().map_or("", |name| name.value.as_str());
    let owner = router.priority.as_ref();
    if let Some(priority) =
        owner.filter(|priority| priority.value == i64::from(Priority::OWNER.get()))
    {
        report.conflict(
            at,
            format!(
                "`{name}` always takes over, as an owner does (priority 255): no group moves it"
            ),
            "write at most priority = 254, or leave it out of the group",
            &priority.at,
            "the owner",
        );
    }
    if let Some(hooks) = &router.hooks {
        report.conflict(
            &hooks.at,
            format!("`{name}` moves with its sync group, and has hooks of its own"),
            "move them to [sync_group.hooks]: they run once for all members",
            at,
            "a member here",
        );
    }
}

/// What decides together must decide alike.
fn check_same(first: &file::VirtualRouter, other: &file::VirtualRouter, report: &Report) {
    fn value<T, R>(value: &Option<At<T>>, read: impl Fn(&T) -> R, default: R) -> R {
        value.as_ref().map_or(default, |value| read(&value.value))
    }
    fn at<T>(value: &Option<At<T>>) -> Option<&Range<usize>> {
        value.as_ref().map(|value| &value.at)
    }
    let compare = |key: &str,
                   values: (String, String),
                   first_at: Option<&Range<usize>>,
                   other_at: Option<&Range<usize>>| {
        let (wanted, found) = values;
        if wanted == found {
            return;
        }
        let names = (first.name.as_ref(), other.name.as_ref());
        let (Some(first_name), Some(other_name)) = names else { return };
        report.conflict(
            other_at.unwrap_or(&other_name.at),
            format!(
                "`{}` and `{}` decide as one group, but their `{key}` is {wanted} and {found}",
                first_name.value, other_name.value
            ),
            format!("write {key} = {wanted} here, or the same in all members"),
            first_at.unwrap_or(&first_name.at),
            if first_at.is_some() { "another value here" } else { "the default here" },
        );
    };
    let priority = |router: &file::VirtualRouter| {
        value(&router.priority, |priority| *priority, i64::from(Priority::DEFAULT.get()))
    };
    let (one, two) = (priority(first), priority(other));
    // That an owner cannot be a member is said elsewhere.
    if ![one, two].contains(&i64::from(Priority::OWNER.get())) {
        let values = (one.to_string(), two.to_string());
        compare("priority", values, at(&first.priority), at(&other.priority));
    }
    let preempt =
        |router: &file::VirtualRouter| value(&router.preempt, bool::to_string, "true".to_string());
    compare("preempt", (preempt(first), preempt(other)), at(&first.preempt), at(&other.preempt));
    let span = |span: &Option<At<Duration>>, default: &str| {
        let written = |span: &Duration| match *span {
            Duration::ZERO => "\"0s\"".to_string(),
            span => format!("\"{span:?}\""),
        };
        value(span, written, format!("\"{default}\""))
    };
    for (key, one, two, default) in [
        ("preempt_delay", &first.preempt_delay, &other.preempt_delay, "0s"),
        ("start_delay", &first.start_delay, &other.start_delay, "0s"),
        ("link_delay", &first.link_delay, &other.link_delay, "2s"),
    ] {
        compare(key, (span(one, default), span(two, default)), at(one), at(two));
    }
    let handover = |router: &file::VirtualRouter| {
        let word = |handover: &Handover| match handover {
            Handover::Overlap => "\"overlap\"".to_string(),
            Handover::Exclusive => "\"exclusive\"".to_string(),
        };
        value(&router.handover, word, "\"overlap\"".to_string())
    };
    compare(
        "handover",
        (handover(first), handover(other)),
        at(&first.handover),
        at(&other.handover),
    );
}
