//! The rules for the checks that virtual routers and sync groups use.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::CheckDraft;
use super::plan::{CheckPlan, Target};
use crate::config::file;
use crate::config::problem::Diagnostics;
use crate::config::reader::{At, closest};
use crate::vrrp::{Effect, Handover};

/// The checks of a list, each with its place there; undefined ones are reported.
pub(in crate::config) fn named<'c, 'f>(
    list: Option<&At<Vec<At<String>>>>,
    defined: &'c [CheckDraft<'f>],
    report: &Diagnostics,
) -> Vec<(Range<usize>, &'c CheckDraft<'f>)> {
    let mut seen = BTreeMap::new();
    let mut found = Vec::new();
    for At { value, at } in list.map(|list| list.value.as_slice()).unwrap_or_default() {
        if let Some(earlier) = seen.insert(value, at) {
            report.conflict(
                at,
                format!("`{value}` is listed twice"),
                "leave it out here",
                earlier,
                "first here",
            );
            continue;
        }
        match defined.iter().find(|check| check.name() == Some(value)) {
            Some(check) => found.push((at.clone(), check)),
            // It may be defined after a syntax error.
            None if report.is_partial() => {}
            None => {
                let help = match closest(value, defined.iter().filter_map(CheckDraft::name)) {
                    Some(name) => format!("did you mean \"{name}\"?"),
                    None => format!("add a [[check]] with name = \"{value}\", or leave it out"),
                };
                report.error(at, format!("there is no check named `{value}`"), help);
            }
        }
    }
    found
}

/// Whether the checks can have an effect on the virtual router.
pub(in crate::config) fn check_use(
    used: &[(Range<usize>, &CheckDraft<'_>)],
    router: &file::RouterTable,
    is_owner: bool,
    report: &Diagnostics,
) {
    let keeps_backup = !router.preempt();
    let exclusive = match router.handover() {
        Handover::Exclusive => true,
        Handover::Overlap => false,
    };
    for (at, check) in used {
        let name = check.name().unwrap_or_default();
        let effect = check.result.as_ref().map(|(counts, ..)| counts.effect);
        // A master that is the last resort offers its role, unless it would have to release first.
        let moves_nothing = keeps_backup && (effect != Some(Effect::Last) || exclusive);
        let changes_priority = effect.and_then(|effect| match effect {
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
        } else if changes_priority.is_some() && moves_nothing {
            report.advice(
                at,
                format!(
                    "if the peers have preempt = false, too, `{name}` moves nothing: they leave a \
                     running master alone, whatever its priority"
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
                format!("`{name}` tests {interface}, which vipd watches anyway"),
                "leave it out: a virtual router whose own link is down has a fault at once",
            );
        }
    }
}

/// An unused check runs, but has no effect.
pub(in crate::config) fn advise_on_unused(
    checks: &[CheckDraft<'_>],
    used: &BTreeSet<&str>,
    report: &Diagnostics,
) {
    for At { value, at } in checks.iter().filter_map(|check| check.file.name.as_ref()) {
        if !used.contains(value.as_str()) && !report.is_partial() {
            report.advice(
                at,
                format!("the check `{value}` is unused: no virtual router or sync group names it"),
                format!("add checks = [\"{value}\"] to a virtual router or a sync group"),
            );
        }
    }
}
