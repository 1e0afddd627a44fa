//! Sync groups: virtual routers of one host that are master together or not at all.
//!
//! Each member runs its own timers; whether they may be acted on is decided here, once all that an
//! event brought about is known. A group looks at [`MemberView`]s of its members and returns
//! [`GroupDecision`]s, which the node carries out. With equal priority elsewhere a group may win on
//! one link and lose on another: the link of the first member decides, so that two hosts never
//! quarrel without end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::id::RouterId;
use super::router::{MemberView, Position, Role};
use super::time::Instant;

/// Virtual routers that are master together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    name: Arc<str>,
    /// In the configuration's order.
    members: Vec<RouterId>,
    /// Members that were master, and meant to stay it, when last looked at.
    masters: BTreeSet<RouterId>,
    /// The role that hooks last ran for.
    notified_role: Role,
}

/// What a member of a sync group is to do because of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupDecision {
    /// It cannot take part as long as `failed` cannot; `None`: no other member is in fault.
    ShareFault { member: RouterId, failed: Option<RouterId> },
    /// It offers its addresses to any successor, or gives up its takeover.
    GiveWay(RouterId),
    /// It releases its addresses: another router has those of the other members.
    Release(RouterId),
    /// It goes on offering its addresses, as others still wait for a successor.
    ExtendOffer { member: RouterId, until: Instant },
    /// It becomes master again: nobody wanted any member's addresses.
    Return(RouterId),
    /// It takes over no earlier than this.
    DelayTakeover { member: RouterId, until: Instant },
    /// It takes over.
    TakeOver {
        member: RouterId,
        /// It may be out of earshot, and is to advertise priority 1 at first.
        starting_without_peers: bool,
        /// Its `before_claim` hook is asked first.
        asks_hook: bool,
        /// Its own time has not come, only that of another member.
        by_group: bool,
    },
}

/// Decides on members as they are at the moment.
pub(super) type Step = fn(&Group, Instant, &[MemberView]) -> Vec<GroupDecision>;

impl Group {
    /// What a group decides when something has changed for any member, in this order. Each step is
    /// shown the members as the one before has left them.
    pub(super) const STEPS: [Step; 4] =
        [Group::share_faults, Group::leave, Group::end_offers, Group::take_over];

    pub(super) fn new(
        name: Arc<str>,
        members: Vec<RouterId>,
        masters: BTreeSet<RouterId>,
        notified_role: Role,
    ) -> Self {
        Group { name, members, masters, notified_role }
    }

    /// The operator's name for it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its virtual routers, in the configuration's order.
    pub fn members(&self) -> &[RouterId] {
        &self.members
    }

    pub(super) fn masters(&self) -> &BTreeSet<RouterId> {
        &self.masters
    }

    pub(super) fn notified_role(&self) -> Role {
        self.notified_role
    }

    /// Remembers which members are master, for the next time that something changes.
    pub(super) fn set_masters(&mut self, members: &[MemberView]) {
        self.masters = masters(members);
    }

    /// Records the group's role; returns whether it differs from the one that hooks last ran for.
    pub(super) fn set_notified_role(&mut self, role: Role) -> bool {
        std::mem::replace(&mut self.notified_role, role) != role
    }

    /// A member has left for good.
    pub(super) fn forget(&mut self, member: RouterId) {
        self.members.retain(|other| *other != member);
        self.masters.remove(&member);
    }

    /// The view of a model checker: hooks decide nothing.
    pub(super) fn normalize(&mut self) {
        self.notified_role = Role::Waiting;
    }

    /// Who cannot take part keeps the others from it.
    fn share_faults(&self, _: Instant, members: &[MemberView]) -> Vec<GroupDecision> {
        let share = |member: &MemberView| GroupDecision::ShareFault {
            member: member.id,
            failed: failed_beside(member.id, members),
        };
        members.iter().map(share).collect()
    }

    /// Nobody stays where another had to leave, or hears a master that is not to be deposed.
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
        members.iter().filter(leaves).map(|member| GroupDecision::GiveWay(member.id)).collect()
    }

    /// Offers that nobody took end for all members at once; where one was taken, the others are
    /// left to the router that has it.
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

    /// The first member whose time has come takes all with it, unless another hears a master that
    /// is not to be deposed, or has to wait.
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

/// The first other member that cannot take part, and not because of its group.
pub(super) fn failed_beside(id: RouterId, members: &[MemberView]) -> Option<RouterId> {
    members.iter().find(|member| member.id != id && member.state.own_fault).map(|member| member.id)
}

/// Members that are master, and not yet offering what they have.
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

/// The role of a group whose members have these roles: where they differ for a moment, the first of
/// the list. Also whether it is the role of all members, or all that can be said.
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
