//! The checks of a node: results, and their summary for each virtual router.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Node;
use crate::vrrp::action::Action;
use crate::vrrp::check::{Check, CheckId, CheckSummary, Probe};
use crate::vrrp::config::Config;
use crate::vrrp::id::RouterId;
use crate::vrrp::time::Instant;

impl Node {
    pub(super) fn probe(
        &mut self,
        now: Instant,
        id: CheckId,
        probe: Probe,
        actions: &mut Vec<Action>,
    ) {
        let Some(index) = self.checks.iter().position(|check| check.id() == id) else { return };
        if self.checks[index].probe(now, probe) {
            let users = self.checked.iter().filter(|(_, checks)| checks.contains(&index));
            let users: Vec<RouterId> = users.map(|(id, _)| *id).collect();
            for id in users {
                self.apply_checks(now, id, actions);
            }
        }
    }

    /// Applies the summary of its checks to a virtual router, if it has changed.
    pub(super) fn apply_checks(&mut self, now: Instant, id: RouterId, actions: &mut Vec<Action>) {
        let (Some(router), checked) = (self.router(id), self.checked.get(&id)) else {
            return;
        };
        let checks = checked.into_iter().flatten().filter_map(|index| self.checks.get(*index));
        let check_summary = CheckSummary::of(checks, router.has_addresses());
        if *router.check_summary() == check_summary {
            return;
        }
        self.with(now, id, |router| router.apply_checks(now, check_summary, actions));
    }

    /// Takes the checks of a configuration. Those that are known by name keep verdict and id.
    pub(super) fn update_checks(&mut self, now: Instant, config: &Config) {
        let mut known = std::mem::take(&mut self.checks);
        for wanted in &config.checks {
            let check = match known.iter().position(|check| check.config().name == wanted.name) {
                Some(at) => known.swap_remove(at).with(wanted),
                None => {
                    let id = CheckId(self.next_id);
                    self.next_id += 1;
                    Check::new(id, wanted, now)
                }
            };
            self.checks.push(check);
        }
        let named: BTreeMap<&str, usize> =
            self.checks.iter().map(|check| &*check.config().name).zip(0..).collect();
        let indices = |names: &[Arc<str>]| -> Vec<usize> {
            names.iter().filter_map(|name| named.get(&**name).copied()).collect()
        };
        let users = self.order.iter().zip(&config.routers);
        self.checked = users
            .filter(|(_, router)| !router.checks.is_empty())
            .map(|(id, router)| (*id, indices(&router.checks)))
            .collect();
    }
}
