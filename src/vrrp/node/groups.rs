//! The sync groups of a node: membership, and carrying out what a group decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Node;
use crate::vrrp::action::Action;
use crate::vrrp::config::{Config, Priority};
use crate::vrrp::group::{self, Group, GroupDecision};
use crate::vrrp::id::RouterId;
use crate::vrrp::role::Role;
use crate::vrrp::router::{MemberView, Membership, VirtualRouter};
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

/// Queries.
impl Node {
    /// The sync groups in the configuration's order.
    pub fn groups(&self) -> impl Iterator<Item = &Group> + '_ {
        self.groups.iter()
    }

    /// The sync group of that name.
    pub fn find_group(&self, name: &str) -> Option<&Group> {
        self.groups().find(|group| **group.name() == *name)
    }

    /// The sync group that a virtual router is a member of.
    pub fn group_of(&self, id: RouterId) -> Option<&Group> {
        self.groups.get(*self.group_by_member.get(&id)?)
    }

    fn roles(&self, members: &[RouterId]) -> (Role, bool) {
        let routers = members.iter().filter_map(|id| self.router(*id));
        group::role_of(routers.map(VirtualRouter::role))
    }

    /// The members of a virtual router's group, or the router alone if it has none.
    pub fn with_group(&self, id: RouterId) -> Vec<RouterId> {
        self.group_of(id).map_or_else(|| vec![id], |group| group.members().to_vec())
    }

    fn member_views(&self, now: Instant, members: &[RouterId]) -> Vec<MemberView> {
        let routers = members.iter().filter_map(|id| self.router(*id));
        routers.map(|router| router.member_view(now)).collect()
    }
}

/// Membership.
impl Node {
    /// Takes the groups of a configuration whose routers have been added. Returns the routers that
    /// are no longer in any group.
    pub(super) fn regroup(&mut self, now: Instant, config: &Config) -> Vec<RouterId> {
        let old = std::mem::take(&mut self.groups);
        let before = std::mem::take(&mut self.group_by_member);
        let dirty_groups = std::mem::take(&mut self.dirty_groups);
        let old_members: Vec<Vec<RouterId>> = old.iter().map(|g| g.members().to_vec()).collect();
        let named: BTreeMap<&str, RouterId> = config
            .routers
            .iter()
            .zip(self.routers().map(VirtualRouter::id))
            .filter(|(router, _)| router.priority != Priority::OWNER)
            .map(|(router, id)| (&*router.name, id))
            .collect();
        for wanted in &config.groups {
            let members: Vec<RouterId> =
                wanted.members.iter().filter_map(|name| named.get(&**name).copied()).collect();
            if members.len() >= 2 {
                let known = |group: &&Group| {
                    group.members() == members
                        || (*group.name() == wanted.name
                            && group.members().iter().any(|id| members.contains(id)))
                };
                let known = old.iter().find(known);
                self.add_group(now, wanted.name.clone(), members, known);
            }
        }
        // A group that was removed together with all its members remains until they have left.
        for group in old {
            let is_leaving = |id: &RouterId| self.router(*id).is_some_and(|r| r.is_retiring());
            if group.members().iter().all(is_leaving) {
                let members = group.members().to_vec();
                self.add_group(now, group.name().clone(), members, Some(&group));
            }
        }
        let dirty_groups =
            dirty_groups.iter().filter_map(|index| old_members.get(*index)).flatten();
        for id in dirty_groups {
            self.dirty_groups.extend(self.group_by_member.get(id));
        }
        let left = before.into_keys().filter(|id| !self.group_by_member.contains_key(id));
        let left: Vec<RouterId> = left.collect();
        for id in &left {
            self.routers.entry(*id).and_modify(|r| r.set_membership(Membership::Alone));
        }
        left
    }

    fn add_group(
        &mut self,
        now: Instant,
        name: Arc<str>,
        members: Vec<RouterId>,
        known: Option<&Group>,
    ) {
        let index = self.groups.len();
        let first = members.iter().copied().min_by_key(|id| {
            self.router(*id).map(|router| (router.config().vrid, router.config().family))
        });
        for &id in &members {
            self.group_by_member.insert(id, index);
            let membership = if Some(id) == first { Membership::First } else { Membership::Other };
            self.routers.entry(id).and_modify(|router| router.set_membership(membership));
        }
        let masters = match known {
            Some(known) => {
                known.masters().iter().copied().filter(|id| members.contains(id)).collect()
            }
            None => group::masters(&self.member_views(now, &members)),
        };
        let notified_role = known.map_or_else(|| self.roles(&members).0, Group::notified_role);
        if known.is_none_or(|known| known.members() != members) {
            self.dirty_groups.insert(index);
        }
        self.groups.push(Group::new(name, members, masters, notified_role));
    }

    /// Removes a member that has left for good.
    pub(super) fn forget_member(&mut self, id: RouterId) {
        let Some(index) = self.group_by_member.remove(&id) else { return };
        let Some(group) = self.groups.get_mut(index) else { return };
        group.forget(id);
        // Groups that are being removed come last in the list, so no index in use changes.
        while self.groups.last().is_some_and(|group| group.members().is_empty()) {
            self.groups.pop();
        }
    }
}

/// Decisions.
impl Node {
    /// Lets every group decide for which something has changed, and carries that out.
    pub(super) fn run_groups(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(index) = self.dirty_groups.pop_first() {
            for rule in Group::RULES {
                let Some(group) = self.groups.get(index) else { break };
                let decisions = rule(group, now, &self.member_views(now, group.members()));
                for decision in decisions {
                    self.carry_out(now, decision, actions);
                }
            }
            if let Some(group) = self.groups.get(index) {
                let members = self.member_views(now, group.members());
                self.groups[index].set_masters(&members);
            }
            // Marked by what the group itself has just decided.
            self.dirty_groups.remove(&index);
        }
    }

    fn carry_out(&mut self, now: Instant, decision: GroupDecision, actions: &mut Vec<Action>) {
        match decision {
            GroupDecision::ShareFault { member, failed } => {
                self.share_fault(now, member, failed, actions);
            }
            GroupDecision::StepDown(id) => {
                self.with(now, id, |router| router.step_down(now, actions));
            }
            GroupDecision::Release(id) => {
                self.with(now, id, |router| router.release_after_loss(now, actions));
            }
            GroupDecision::ExtendOffer { member, until } => {
                self.with(now, member, |router| router.extend_offer(now, until, actions));
            }
            GroupDecision::Return(id) => {
                self.with(now, id, |router| router.return_to_master(now, actions));
            }
            GroupDecision::DelayTakeover { member, until } => {
                self.with(now, member, |router| router.delay_takeover(until));
            }
            GroupDecision::TakeOver { member, starting_without_peers, asks_hook, by_group } => {
                let by_group = by_group.then_some(Why::Group);
                self.with(now, member, |router| {
                    router.take_over(now, starting_without_peers, asks_hook, by_group, actions);
                });
            }
        }
    }

    /// Sets the other member of its group that keeps a router from taking part.
    pub(super) fn share_fault(
        &mut self,
        now: Instant,
        id: RouterId,
        failed: Option<RouterId>,
        actions: &mut Vec<Action>,
    ) {
        let failed = self.name_of(failed);
        self.with(now, id, |router| {
            if router.share_fault(failed.as_ref()) && !router.is_starting() {
                router.reconcile(now, actions);
            }
        });
    }

    /// The first other member of its group with a fault of its own.
    pub(super) fn failed_beside(&self, now: Instant, id: RouterId) -> Option<Arc<str>> {
        let members = self.member_views(now, self.group_of(id)?.members());
        self.name_of(group::failed_beside(id, &members))
    }

    fn name_of(&self, id: Option<RouterId>) -> Option<Arc<str>> {
        Some(self.router(id?)?.config().name.clone())
    }

    /// A group has one set of hooks, which run with the transition that completes its change of
    /// role. Clears `hooks` in all other transitions of members.
    pub(super) fn suppress_repeated_hooks(&mut self, actions: &mut [Action]) {
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        for action in actions.iter_mut().rev() {
            let Action::Notify(transition) = action else { continue };
            let Some(&index) = self.group_by_member.get(&transition.router) else { continue };
            transition.hooks &= seen.insert(index) && self.set_group_notified_role(index);
        }
    }

    /// Records the group's role once all members have it; returns whether it differs from the one
    /// that hooks last ran for.
    fn set_group_notified_role(&mut self, index: usize) -> bool {
        let Some(group) = self.groups.get(index) else { return false };
        let (role, complete) = self.roles(group.members());
        complete && self.groups[index].set_notified_role(role)
    }
}
