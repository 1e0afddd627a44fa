//! The rules for sync groups: virtual routers that change their roles together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::hooks::{self, HookPlaces, HookSettings, Hooks};
use super::names::check_name;
use super::problem::Diagnostics;
use super::reader::{At, closest};
use super::{checks, file, router};
use crate::vrrp::{GroupConfig, Priority, RouterConfig};

/// A group as far as it could be read.
pub(super) struct GroupDraft {
    pub config: GroupConfig,
    pub hooks: Hooks,
    pub hook_places: HookPlaces,
    settings: HookSettings,
    checks: BTreeSet<Arc<str>>,
}

impl GroupDraft {
    /// Gives every member the hooks of the group and the checks of all members, in the order of the
    /// file.
    pub(super) fn apply(&self, routers: &mut [RouterConfig], defined: &[checks::CheckDraft<'_>]) {
        let is_member = |router: &RouterConfig| self.config.members.contains(&router.name);
        let mut union = self.checks.clone();
        for router in routers.iter().filter(|router| is_member(router)) {
            union.extend(router.checks.iter().cloned());
        }
        let in_order: Arc<[Arc<str>]> = defined
            .iter()
            .filter_map(checks::CheckDraft::name)
            .filter_map(|name| union.get(name).cloned())
            .collect();
        for router in routers.iter_mut().filter(|router| is_member(router)) {
            router.checks = in_order.clone();
            self.settings.apply(router);
        }
    }
}

/// Checks all groups. An entry is `None` if its name is missing.
pub(super) fn check(
    groups: &[file::GroupTable],
    routers: &[router::RouterDraft<'_>],
    defined: &[checks::CheckDraft<'_>],
    report: &Diagnostics,
) -> Vec<Option<GroupDraft>> {
    check_names(groups, routers, report);
    let mut homes = BTreeMap::new();
    groups.iter().map(|group| check_one(group, &mut homes, routers, defined, report)).collect()
}

fn check_names(
    groups: &[file::GroupTable],
    routers: &[router::RouterDraft<'_>],
    report: &Diagnostics,
) {
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
                "give this one a name of its own: commands and hooks identify both by name",
                earlier,
                "the first one",
            );
        } else {
            taken.insert(&name.value, (&name.at, "another sync group"));
        }
    }
}

fn check_one<'f>(
    group: &'f file::GroupTable,
    homes: &mut BTreeMap<&'f str, &'f Range<usize>>,
    routers: &[router::RouterDraft<'f>],
    defined: &[checks::CheckDraft<'_>],
    report: &Diagnostics,
) -> Option<GroupDraft> {
    let members = check_members(group, homes, routers, report);
    if let Some((first, others)) = members.split_first() {
        for other in others {
            check_same(first, other, report);
        }
    }
    let (hooks, hook_places, settings) = hooks::check(group.hooks.as_ref(), report);
    if let Some(first) = members.first() {
        router::advise_on_release(group.hooks.as_ref(), first.handover(), report);
    }
    let own = checks::named(group.checks.as_ref(), defined, report);
    // A check that a member cannot use cannot be used by the group either.
    for member in &members {
        checks::check_use(&own, member, false, report);
    }
    let names = members.iter().filter_map(|member| member.name.as_ref());
    Some(GroupDraft {
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

/// The members that are defined and belong to no other group.
fn check_members<'f>(
    group: &'f file::GroupTable,
    homes: &mut BTreeMap<&'f str, &'f Range<usize>>,
    routers: &[router::RouterDraft<'f>],
    report: &Diagnostics,
) -> Vec<&'f file::RouterTable> {
    let Some(list) = &group.members else { return Vec::new() };
    if list.value.len() < 2 && !report.is_partial() {
        report.error(
            &list.at,
            "a sync group has at least two members",
            "name two virtual routers, or leave the group out",
        );
    }
    let mut members = Vec::new();
    for At { value, at } in &list.value {
        let named =
            |router: &&router::RouterDraft<'_>| router.name.is_some_and(|it| it.value == *value);
        let Some(router) = routers.iter().find(named) else {
            // It may be defined after a syntax error.
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

/// Settings that a member must not have: priority 255 and its own hooks.
fn check_member(router: &file::RouterTable, at: &Range<usize>, report: &Diagnostics) {
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

/// The keys that decide when members change roles must be equal.
fn check_same(first: &file::RouterTable, other: &file::RouterTable, report: &Diagnostics) {
    let (Some(first_name), Some(other_name)) = (&first.name, &other.name) else { return };
    let decisive = decisive_keys(first).into_iter().zip(decisive_keys(other));
    for ((key, wanted, first_at), (_, found, other_at)) in decisive {
        if wanted == found {
            continue;
        }
        // `check_member` reports owners.
        let owner = Priority::OWNER.get().to_string();
        if key == "priority" && [&wanted, &found].contains(&&owner) {
            continue;
        }
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
    }
}

/// The keys that decide when a virtual router takes over: name, value as written, place in the
/// file.
fn decisive_keys(router: &file::RouterTable) -> [(&'static str, String, Option<&Range<usize>>); 6] {
    fn at<T>(value: &Option<At<T>>) -> Option<&Range<usize>> {
        value.as_ref().map(|value| &value.at)
    }
    let span = |span: Duration| match span {
        Duration::ZERO => "\"0s\"".to_string(),
        span => format!("\"{span:?}\""),
    };
    let default = i64::from(Priority::DEFAULT.get());
    let priority = router.priority.as_ref().map_or(default, |priority| priority.value);
    let handover = router.handover();
    [
        ("priority", priority.to_string(), at(&router.priority)),
        ("preempt", router.preempt().to_string(), at(&router.preempt)),
        ("preempt_delay", span(router.preempt_delay()), at(&router.preempt_delay)),
        ("start_delay", span(router.start_delay()), at(&router.start_delay)),
        ("link_delay", span(router.link_delay()), at(&router.link_delay)),
        ("handover", format!("\"{handover}\""), at(&router.handover)),
    ]
}
