//! Sync groups: virtual routers of one host that are master together or not at all.
//!
//! Each member has its own election and timers. Whether it may act on them is decided by the group,
//! after an event has been handled by every router that it concerns. A group looks at
//! [`MemberView`]s of its members and returns [`GroupDecision`]s, which the node carries out.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::id::RouterId;
use super::role::Role;
use super::router::{MemberView, Position};
use super::time::Instant;

/// Virtual routers that are master together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    name: Arc<str>,
    /// In the configured order.
    members: Vec<RouterId>,
    /// Members that were master, and had not sent priority 0, at the last decision.
    masters: BTreeSet<RouterId>,
    /// The role that hooks last ran for.
    notified_role: Role,
}

/// What a member has to do because of the other members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupDecision {
    /// It cannot take part while `failed` cannot; `None`: no other member has a fault of its own.
    ShareFault { member: RouterId, failed: Option<RouterId> },
    /// It hands over, or gives up its takeover.
    StepDown(RouterId),
    /// It releases its addresses: another router has taken over other members.
    Release(RouterId),
    /// It goes on waiting for a successor until then, as other members do.
    ExtendOffer { member: RouterId, until: Instant },
    /// It becomes master again: no router has taken over any member.
    Return(RouterId),
    /// It takes over no earlier than this.
    DelayTakeover { member: RouterId, until: Instant },
    TakeOver {
        member: RouterId,
        /// Some member has heard no peer, so all advertise priority 1 at first.
        starting_without_peers: bool,
        /// Its `before_claim` hook runs first.
        asks_hook: bool,
        /// The timer of another member has expired, not its own.
        by_group: bool,
    },
}

/// One rule of the decisions.
pub(super) type DecisionRule = fn(&Group, Instant, &[MemberView]) -> Vec<GroupDecision>;

impl Group {
    /// The decisions after a member's state has changed, in this order. The decisions of each rule
    /// are carried out before the next one looks at the members.
    pub(super) const RULES: [DecisionRule; 4] =
        [Group::share_faults, Group::leave, Group::end_offers, Group::take_over];

    pub(super) fn new(
        name: Arc<str>,
        members: Vec<RouterId>,
        masters: BTreeSet<RouterId>,
        notified_role: Role,
    ) -> Self {
        Group { name, members, masters, notified_role }
    }

    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its virtual routers, in the configured order.
    pub fn members(&self) -> &[RouterId] {
        &self.members
    }

    pub(super) fn masters(&self) -> &BTreeSet<RouterId> {
        &self.masters
    }

    pub(super) fn notified_role(&self) -> Role {
        self.notified_role
    }

    /// Records which members are master, for the next decision.
    pub(super) fn set_masters(&mut self, members: &[MemberView]) {
        self.masters = masters(members);
    }

    /// Records the group's role; returns whether it differs from the one that hooks last ran for.
    pub(super) fn set_notified_role(&mut self, role: Role) -> bool {
        std::mem::replace(&mut self.notified_role, role) != role
    }

    /// Removes a member that has left for good.
    pub(super) fn forget(&mut self, member: RouterId) {
        self.members.retain(|other| *other != member);
        self.masters.remove(&member);
    }

    /// Resets what no decision depends on, for the model checker.
    pub(super) fn normalize(&mut self) {
        self.notified_role = Role::Waiting;
    }

    /// A member with a fault of its own is a fault of all others.
    fn share_faults(&self, _: Instant, members: &[MemberView]) -> Vec<GroupDecision> {
        let share = |member: &MemberView| GroupDecision::ShareFault {
            member: member.id,
            failed: failed_beside(member.id, members),
        };
        members.iter().map(share).collect()
    }

    /// All members leave as soon as one is no longer master, hears a master that it would not
    /// preempt, or has sent priority 0. While only some of them run their `before_release` hook,
    /// the others send priority 0 at once.
    fn leave(&self, _: Instant, members: &[MemberView]) -> Vec<GroupDecision> {
        let fell = !self.masters.is_subset(&masters(members));
        let taken = members.iter().any(|member| {
            member.state.defers_to_master
                || matches!(member.state.position, Position::Offered | Position::Succeeded)
        });
        let all = |wanted: fn(&Position) -> bool| members.iter().all(|m| wanted(&m.state.position));
        let may_claim = all(|position| matches!(position, Position::Claiming | Position::Master));
        let some_prepare = members.iter().any(|m| m.state.position == Position::Preparing)
            && !all(|position| *position == Position::Preparing);
        let leaves = |member: &&MemberView| match member.state.position {
            Position::Master => fell || taken || some_prepare,
            Position::Preparing => fell || taken,
            Position::Claiming => fell || taken || !may_claim,
            Position::Out | Position::Backup | Position::Offered | Position::Succeeded => false,
        };
        members.iter().filter(leaves).map(|member| GroupDecision::StepDown(member.id)).collect()
    }

    /// The members that wait for a successor stop waiting at the same time, the latest of their
    /// deadlines, and become master again. If one of them has been taken over by another router,
    /// that router is to have the rest: they release at their own deadlines.
    fn end_offers(&self, now: Instant, members: &[MemberView]) -> Vec<GroupDecision> {
        let staying = members.iter().filter(|member| !member.retiring);
        let offers: Vec<(RouterId, Instant)> =
            staying.filter_map(|member| Some((member.id, member.offer_ends_at?))).collect();
        let due = offers.iter().filter(|(_, until)| *until <= now).map(|(id, _)| *id);
        let Some(last) = offers.iter().map(|(_, until)| *until).max() else { return Vec::new() };
        if due.clone().next().is_none() {
            Vec::new()
        } else if members.iter().any(|member| member.cannot_return) {
            due.map(GroupDecision::Release).collect()
        } else if now < last {
            due.map(|member| GroupDecision::ExtendOffer { member, until: last }).collect()
        } else {
            members.iter().map(|member| GroupDecision::Return(member.id)).collect()
        }
    }

    /// The first expired Master_Down_Timer makes all members take over, unless one of them hears a
    /// master that it would not preempt, or has to wait.
    fn take_over(&self, _: Instant, members: &[MemberView]) -> Vec<GroupDecision> {
        let due = members.iter().filter(|member| member.due);
        if due.clone().next().is_none() {
            return Vec::new();
        }
        if let Some(until) = members.iter().filter_map(|member| member.blocks_takeover_until).max()
        {
            return due
                .map(|member| GroupDecision::DelayTakeover { member: member.id, until })
                .collect();
        }
        let starting_without_peers = members.iter().any(|member| member.starts_without_peers);
        let joins = members.iter().any(|member| member.state.position == Position::Master);
        let asks_hook = members.iter().any(|member| member.asks_before_claim) && !joins;
        let backups = members.iter().filter(|m| m.state.position == Position::Backup);
        let take_over = |member: &MemberView| GroupDecision::TakeOver {
            member: member.id,
            starting_without_peers,
            asks_hook,
            by_group: !member.due,
        };
        backups.map(take_over).collect()
    }
}

/// The first other member with a fault of its own.
pub(super) fn failed_beside(id: RouterId, members: &[MemberView]) -> Option<RouterId> {
    members.iter().find(|member| member.id != id && member.state.own_fault).map(|member| member.id)
}

/// Members that are master and have not sent priority 0.
pub(super) fn masters(members: &[MemberView]) -> BTreeSet<RouterId> {
    let is_master = |member: &&MemberView| match member.state.position {
        Position::Master | Position::Preparing => true,
        Position::Out
        | Position::Backup
        | Position::Claiming
        | Position::Offered
        | Position::Succeeded => false,
    };
    members.iter().filter(is_master).map(|member| member.id).collect()
}

/// The role of a group by the roles of its members; if they differ for a moment, the first of
/// `ROLE_PRECEDENCE` that occurs. The second value is false if the group's change of role is not
/// complete.
pub(super) fn role_of(members: impl Iterator<Item = Role>) -> (Role, bool) {
    const ROLE_PRECEDENCE: [Role; 7] = [
        Role::Leaving,
        Role::Fault,
        Role::Waiting,
        Role::Claiming,
        Role::Backup,
        Role::Master,
        Role::Stopped,
    ];
    let roles: BTreeSet<Role> = members.collect();
    let role =
        ROLE_PRECEDENCE.into_iter().find(|role| roles.contains(role)).unwrap_or(Role::Stopped);
    (role, roles.len() <= 1 || role == Role::Leaving)
}
