//! Sync groups: virtual routers of one host that are master together or not at all.
//!
//! Each member runs its own timers; whether they may be acted on is decided here, once all that an
//! event brought about is known. A group with equal priority elsewhere may win on one link and lose
//! on another: the link of the first member decides, so that two hosts never quarrel without end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action::Action;
use super::config::{Config, Priority};
use super::id::RouterId;
use super::node::Node;
use super::router::{Membership, Role, Seat, VirtualRouter};
use super::time::Instant;
use super::why::Why;

/// Virtual routers that are master together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    name: Arc<str>,
    /// In the configuration's order.
    members: Vec<RouterId>,
    /// Members that were master, and meant to stay it, when last looked at.
    holding: BTreeSet<RouterId>,
    /// The role that hooks last ran for.
    told: Role,
}

impl Group {
    /// The operator's name for it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its virtual routers, in the configuration's order.
    pub fn members(&self) -> &[RouterId] {
        &self.members
    }

    /// The view of a model checker: hooks decide nothing.
    pub(super) fn see(&mut self) {
        self.told = Role::Waiting;
    }
}

/// Questions.
impl Node {
    /// The sync groups in the configuration's order.
    pub fn groups(&self) -> impl Iterator<Item = &Group> + '_ {
        self.groups.iter()
    }

    /// The sync group of that name.
    pub fn find_group(&self, name: &str) -> Option<&Group> {
        self.groups().find(|group| &*group.name == name)
    }

    /// The sync group that a virtual router is a member of.
    pub fn group_of(&self, id: RouterId) -> Option<&Group> {
        self.groups.get(*self.group_by_member.get(&id)?)
    }

    /// The role of a sync group: that of its members, or where they differ for a moment, the one
    /// that tells most.
    pub fn group_role(&self, group: &Group) -> Role {
        let (role, _) = self.roles(group);
        role
    }

    /// Its role, and whether that is of all members, or all that can be said.
    fn roles(&self, group: &Group) -> (Role, bool) {
        const TELLING: [Role; 7] = [
            Role::Leaving,
            Role::Fault,
            Role::Waiting,
            Role::Claiming,
            Role::Backup,
            Role::Master,
            Role::Stopped,
        ];
        let routers = group.members.iter().filter_map(|id| self.router(*id));
        let roles: BTreeSet<Role> = routers.map(VirtualRouter::role).collect();
        let role = TELLING.into_iter().find(|role| roles.contains(role)).unwrap_or(Role::Stopped);
        (role, roles.len() <= 1 || role == Role::Leaving)
    }

    /// A virtual router and the other members of its group.
    pub(super) fn together_with(&self, id: RouterId) -> Vec<RouterId> {
        self.group_of(id).map_or_else(|| vec![id], |group| group.members.clone())
    }
}

/// Which router is in which group.
impl Node {
    /// Takes up the groups of a configuration whose routers are there already. Returns those that
    /// are in none any longer.
    pub(super) fn regroup(&mut self, config: &Config) -> Vec<RouterId> {
        let old = std::mem::take(&mut self.groups);
        let before = std::mem::take(&mut self.group_by_member);
        let touched = std::mem::take(&mut self.touched);
        let old_members: Vec<Vec<RouterId>> = old.iter().map(|g| g.members.clone()).collect();
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
                    group.members == members
                        || (group.name == wanted.name
                            && group.members.iter().any(|id| members.contains(id)))
                };
                let known = old.iter().find(known);
                self.add_group(wanted.name.clone(), members, known);
            }
        }
        // A group that was removed with all its members goes on until they have left.
        for group in old {
            let is_leaving = |id: &RouterId| self.router(*id).is_some_and(|r| r.is_retiring());
            let rest: Vec<RouterId> =
                group.members.iter().copied().filter(|id| is_leaving(id)).collect();
            if rest.len() == group.members.len() {
                self.add_group(group.name.clone(), rest, Some(&group));
            }
        }
        let touched = touched.iter().filter_map(|index| old_members.get(*index)).flatten();
        for id in touched {
            self.touched.extend(self.group_by_member.get(id));
        }
        let left = before.into_keys().filter(|id| !self.group_by_member.contains_key(id));
        let left: Vec<RouterId> = left.collect();
        for id in &left {
            self.routers.entry(*id).and_modify(|r| r.set_membership(Membership::Alone));
        }
        left
    }

    fn add_group(&mut self, name: Arc<str>, members: Vec<RouterId>, known: Option<&Group>) {
        let index = self.groups.len();
        let first = members.iter().copied().min_by_key(|id| {
            self.router(*id).map(|router| (router.config().vrid, router.config().family))
        });
        for &id in &members {
            self.group_by_member.insert(id, index);
            let membership = if Some(id) == first { Membership::First } else { Membership::Other };
            self.routers.entry(id).and_modify(|router| router.set_membership(membership));
        }
        let holding = match known {
            Some(known) => {
                known.holding.iter().copied().filter(|id| members.contains(id)).collect()
            }
            None => self.holding(&members),
        };
        let mut group = Group { name, members, holding, told: Role::Waiting };
        group.told = known.map_or_else(|| self.group_role(&group), |known| known.told);
        if known.is_none_or(|known| known.members != group.members) {
            self.touched.insert(index);
        }
        self.groups.push(group);
    }

    /// A member has left for good.
    pub(super) fn forget_member(&mut self, id: RouterId) {
        let Some(index) = self.group_by_member.remove(&id) else { return };
        let Some(group) = self.groups.get_mut(index) else { return };
        group.members.retain(|other| *other != id);
        group.holding.remove(&id);
        // Such groups are the last ones: no index changes that is in use.
        while self.groups.last().is_some_and(|group| group.members.is_empty()) {
            self.groups.pop();
        }
    }

    fn holding(&self, members: &[RouterId]) -> BTreeSet<RouterId> {
        let holds = |id: &RouterId| {
            self.router(*id).is_some_and(|router| match router.seat() {
                Seat::Master | Seat::Preparing => true,
                Seat::Out | Seat::Backup | Seat::Claiming | Seat::Offered | Seat::Succeeded => {
                    false
                }
            })
        };
        members.iter().copied().filter(holds).collect()
    }
}

/// What members do together.
impl Node {
    /// Every group for which something has changed takes its decisions.
    pub(super) fn align_groups(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(index) = self.touched.pop_first() {
            let Some(group) = self.groups.get(index) else { continue };
            let members = group.members.clone();
            self.share_troubles(now, &members, actions);
            self.leave_together(now, index, &members, actions);
            self.return_together(now, &members, actions);
            self.take_over_together(now, &members, actions);
            let holding = self.holding(&members);
            if let Some(group) = self.groups.get_mut(index) {
                group.holding = holding;
            }
            // That was by its own doing.
            self.touched.remove(&index);
        }
    }

    /// The first other member that is in trouble.
    pub(super) fn culprit_beside(&self, id: RouterId) -> Option<Arc<str>> {
        let others = self.group_of(id)?.members.iter().filter(|other| **other != id);
        let routers = others.filter_map(|other| self.router(*other));
        let culprit = routers.into_iter().find(|router| router.is_in_trouble());
        culprit.map(|router| router.config().name.clone())
    }

    /// Who cannot take part keeps the others from it.
    fn share_troubles(&mut self, now: Instant, members: &[RouterId], actions: &mut Vec<Action>) {
        let routers = members.iter().filter_map(|id| self.router(*id));
        let mut troubled = routers.filter(|router| router.is_in_trouble());
        let first = troubled.next().map(|router| (router.id(), router.config().name.clone()));
        let second = troubled.next().map(|router| router.config().name.clone());
        for &id in members {
            let culprit = match &first {
                Some((first, _)) if *first == id => second.as_ref(),
                Some((_, name)) => Some(name),
                None => None,
            };
            self.share_trouble(now, id, culprit, actions);
        }
    }

    pub(super) fn share_trouble(
        &mut self,
        now: Instant,
        id: RouterId,
        culprit: Option<&Arc<str>>,
        actions: &mut Vec<Action>,
    ) {
        self.with(now, id, |router| {
            if router.share_trouble(culprit) && !router.is_starting() {
                router.settle_again(now, actions);
            }
        });
    }

    /// Nobody stays where another had to leave, or hears a master that is not to be deposed.
    fn leave_together(
        &mut self,
        now: Instant,
        index: usize,
        members: &[RouterId],
        actions: &mut Vec<Action>,
    ) {
        let holding = self.holding(members);
        let fell = self.groups.get(index).is_some_and(|group| !group.holding.is_subset(&holding));
        let mut seats = members.iter().filter_map(|id| self.router(*id));
        let taken = seats.any(|router| {
            router.respects(now) || matches!(router.seat(), Seat::Offered | Seat::Succeeded)
        });
        let seats = members.iter().filter_map(|id| self.router(*id)).map(VirtualRouter::seat);
        let may_claim = seats.clone().all(|seat| matches!(seat, Seat::Claiming | Seat::Master));
        let all_prepare = seats.clone().all(|seat| seat == Seat::Preparing);
        let some_prepare = seats.clone().any(|seat| seat == Seat::Preparing) && !all_prepare;
        for &id in members {
            let Some(seat) = self.router(id).map(VirtualRouter::seat) else { continue };
            let leaves = match seat {
                Seat::Master => fell || taken || some_prepare,
                Seat::Preparing => fell || taken,
                Seat::Claiming => fell || taken || !may_claim,
                Seat::Out | Seat::Backup | Seat::Offered | Seat::Succeeded => false,
            };
            if leaves {
                self.with(now, id, |router| router.give_way(now, actions));
            }
        }
    }

    /// Offers that nobody took end for all members at once; where one was taken, the others are
    /// left to him who has it.
    fn return_together(&mut self, now: Instant, members: &[RouterId], actions: &mut Vec<Action>) {
        let routers = members.iter().filter_map(|id| self.router(*id));
        let offers = routers.clone().filter(|router| !router.is_retiring());
        let offers = offers.filter_map(|router| Some((router.id(), router.offers_until()?)));
        let offers: Vec<(RouterId, Instant)> = offers.collect();
        let due: Vec<RouterId> =
            offers.iter().filter(|(_, until)| *until <= now).map(|(id, _)| *id).collect();
        if due.is_empty() {
            return;
        }
        let mut routers = routers;
        let taken = routers.any(|router| router.is_lost(now));
        let last = offers.iter().map(|(_, until)| *until).max().unwrap_or(now);
        if taken {
            for id in due {
                self.with(now, id, |router| router.let_go(now, actions));
            }
        } else if now < last {
            for id in due {
                self.with(now, id, |router| router.offer_until(now, last, actions));
            }
        } else {
            for &id in members {
                self.with(now, id, |router| router.come_back(now, actions));
            }
        }
    }

    /// The first member whose time has come takes all with it, unless another hears a master that
    /// is not to be deposed, or has to wait.
    fn take_over_together(
        &mut self,
        now: Instant,
        members: &[RouterId],
        actions: &mut Vec<Action>,
    ) {
        let routers: Vec<&VirtualRouter> =
            members.iter().filter_map(|id| self.router(*id)).collect();
        let due = routers.iter().filter(|router| router.is_due(now));
        let due: Vec<RouterId> = due.map(|router| router.id()).collect();
        let Some(&first) = due.first() else { return };
        if let Some(until) = routers.iter().filter_map(|router| router.objects_until(now)).max() {
            for id in due {
                self.with(now, id, |router| router.postpone(until));
            }
            return;
        }
        let newcomer = routers.iter().any(|router| router.may_be_deaf());
        let joins = routers.iter().any(|router| router.seat() == Seat::Master);
        let asks = routers.iter().any(|router| router.config().before_claim.is_some()) && !joins;
        let backups = routers.iter().filter(|router| router.seat() == Seat::Backup);
        let backups: Vec<RouterId> = backups.map(|router| router.id()).collect();
        for id in backups {
            let by_group = (!due.contains(&id) && id != first).then_some(Why::Group);
            self.with(now, id, |router| {
                router.take_over(now, newcomer, asks, by_group, actions);
            });
        }
    }

    /// A group has one set of hooks: they run with the transition that completes its change.
    pub(super) fn run_hooks_once(&mut self, actions: &mut [Action]) {
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        for action in actions.iter_mut().rev() {
            let Action::Notify(transition) = action else { continue };
            let Some(&index) = self.group_by_member.get(&transition.router) else { continue };
            transition.hooks &= seen.insert(index) && self.tell(index);
        }
    }

    /// Whether the group's role is another one than hooks have been told of; they are now.
    fn tell(&mut self, index: usize) -> bool {
        let Some(group) = self.groups.get(index) else { return false };
        let (role, complete) = self.roles(group);
        let changed = complete && role != group.told;
        if let Some(group) = self.groups.get_mut(index).filter(|_| changed) {
            group.told = role;
        }
        changed
    }
}
