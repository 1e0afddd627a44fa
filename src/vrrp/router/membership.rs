//! A virtual router as a member of a sync group: its view for the group's decisions, and what these
//! do to it.

use std::sync::Arc;

use super::states::{Phase, State};
use super::{EXTRA_ADVERT_GAP, VirtualRouter};
use crate::vrrp::action::Action;
use crate::vrrp::id::RouterId;
use crate::vrrp::reason::Reason;
use crate::vrrp::role::{Leave, Role};
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

/// The place of a virtual router in a sync group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::vrrp) enum Membership {
    /// In no group.
    Alone,
    /// The first member, whose link decides ties.
    First,
    /// Any other member.
    Other,
}

/// The part of a member's state whose changes concern its group: the group decides again when it
/// differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vrrp) struct MemberState {
    role: Role,
    pub position: Position,
    /// In fault for a reason of its own, not only because another member is.
    pub own_fault: bool,
    /// It hears a master that it would not preempt.
    pub defers_to_master: bool,
}

/// A member at one moment: everything that its group's decisions depend on.
#[derive(Clone, Copy, Debug)]
pub(in crate::vrrp) struct MemberView {
    pub id: RouterId,
    pub state: MemberState,
    /// It is about to stop or to be removed.
    pub retiring: bool,
    /// When it stops waiting for a successor, if it waits for one.
    pub offer_ends_at: Option<Instant>,
    /// It cannot become master again: another router has taken over, or it has to wait.
    pub cannot_return: bool,
    /// Its master-down timer has expired.
    pub due: bool,
    /// Until when it keeps its group from taking over, if it does so.
    pub blocks_takeover_until: Option<Instant>,
    /// It has heard no peer since start, and does not preempt (see `starts_without_peers`).
    pub starts_without_peers: bool,
    /// It has a `before_claim` hook.
    pub asks_before_claim: bool,
}

/// The state of a member, with the phase of leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vrrp) enum Position {
    /// In fault, or not started.
    Out,
    Backup,
    /// Waits for its `before_claim` hook.
    Claiming,
    Master,
    /// Still master; its `before_release` hook runs.
    Preparing,
    /// Has sent priority 0 and waits for a successor.
    Offered,
    /// A successor has taken over.
    Succeeded,
}

impl VirtualRouter {
    pub(in crate::vrrp) fn membership(&self) -> Membership {
        self.membership
    }

    pub(in crate::vrrp) fn set_membership(&mut self, membership: Membership) {
        self.membership = membership;
    }

    /// From now on no hooks run for it: it was taken out of a group, whose hooks are not its own.
    pub(in crate::vrrp) fn hooks_suppressed(&mut self) {
        self.hooks_suppressed = true;
    }

    pub(in crate::vrrp) fn is_starting(&self) -> bool {
        self.faults.contains_key(&Reason::Starting)
    }

    /// Whether it is about to stop or to be removed.
    pub(in crate::vrrp) fn is_retiring(&self) -> bool {
        self.retiring.is_some()
    }

    pub(in crate::vrrp) fn member_state(&self, now: Instant) -> MemberState {
        MemberState {
            role: self.role(),
            position: self.position(),
            own_fault: self.faults.keys().any(Reason::is_own_fault),
            defers_to_master: self.defers_to_master(now),
        }
    }

    pub(in crate::vrrp) fn member_view(&self, now: Instant) -> MemberView {
        MemberView {
            id: self.id,
            state: self.member_state(now),
            retiring: self.is_retiring(),
            offer_ends_at: self.offer_ends_at(),
            cannot_return: self.cannot_return(now),
            due: self.is_due(now),
            blocks_takeover_until: self.blocks_takeover_until(now),
            starts_without_peers: self.starts_without_peers(),
            asks_before_claim: self.config.before_claim.is_some(),
        }
    }

    fn position(&self) -> Position {
        match &self.state {
            State::Fault => Position::Out,
            State::Backup { .. } => Position::Backup,
            State::Claiming { .. } => Position::Claiming,
            State::Master { .. } => Position::Master,
            State::Leaving { phase, .. } => match phase {
                Phase::Preparing { .. } => Position::Preparing,
                Phase::Offered { .. } => Position::Offered,
                Phase::Succeeded { .. } => Position::Succeeded,
            },
        }
    }

    /// Whether it hears a master that it would not preempt.
    fn defers_to_master(&self, now: Instant) -> bool {
        match self.position() {
            Position::Backup => self.defers_until().is_some_and(|until| now < until),
            Position::Succeeded => true,
            Position::Out
            | Position::Claiming
            | Position::Master
            | Position::Preparing
            | Position::Offered => false,
        }
    }

    fn defers_until(&self) -> Option<Instant> {
        Some(self.superior_heard_at? + self.master_down())
    }

    /// Until when it keeps its group from taking over, if it does so: a backup while it hears a
    /// master that it would not preempt or while `hold_until` has not passed, a member that leaves
    /// or asks its hook until that is over. One in fault, or drained by force, gives no such moment, so the
    /// group asks again one interval later.
    fn blocks_takeover_until(&self, now: Instant) -> Option<Instant> {
        let until = match &self.state {
            State::Master { .. } => return None,
            State::Backup { takeover_at: Some(_) } => {
                self.defers_until().unwrap_or(now).max(self.hold_until)
            }
            State::Leaving { phase: Phase::Offered { successor_by, .. }, .. } => *successor_by,
            State::Leaving { phase: Phase::Succeeded { .. }, .. } => {
                self.holding.release_at().unwrap_or(now)
            }
            State::Leaving { phase: Phase::Preparing { until, .. }, .. }
            | State::Claiming { until, .. } => *until,
            State::Fault | State::Backup { takeover_at: None } => {
                now + self.config.advert_interval.duration()
            }
        };
        match self.state {
            State::Backup { takeover_at: Some(_) } if until <= now => None,
            // Never now: the delayed timer would be due again at once, without end.
            _ => Some(until.max(now + EXTRA_ADVERT_GAP)),
        }
    }

    /// Whether a deadline has passed on which its group has to decide.
    pub(in crate::vrrp) fn waits_for_group(&self, now: Instant) -> bool {
        self.is_due(now) || self.offer_ends_at().is_some_and(|until| until <= now)
    }

    /// Its group does not take over before `until`.
    pub(in crate::vrrp) fn delay_takeover(&mut self, until: Instant) {
        if let State::Backup { takeover_at: Some(timer) } = &mut self.state {
            *timer = until;
        }
    }

    /// When it stops waiting for a successor.
    fn offer_ends_at(&self) -> Option<Instant> {
        match self.state {
            State::Leaving { phase: Phase::Offered { successor_by, .. }, .. } => Some(successor_by),
            State::Leaving { .. }
            | State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Master { .. } => None,
        }
    }

    /// Other members of its group still wait for a successor.
    pub(in crate::vrrp) fn extend_offer(
        &mut self,
        now: Instant,
        until: Instant,
        actions: &mut Vec<Action>,
    ) {
        if let State::Leaving { phase: Phase::Offered { successor_by, .. }, .. } = &mut self.state {
            *successor_by = until;
            self.leaving_timeout(now, actions);
        }
    }

    /// Whether it cannot become master again: another router has taken over, or it has to wait.
    fn cannot_return(&self, now: Instant) -> bool {
        match self.position() {
            Position::Backup => self.defers_to_master(now) || now < self.hold_until,
            Position::Out | Position::Succeeded => true,
            Position::Claiming | Position::Master | Position::Preparing | Position::Offered => {
                false
            }
        }
    }

    /// Another router has taken over other members of its group, so that it is to have this one,
    /// too.
    pub(in crate::vrrp) fn release_after_loss(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::Leaving { leave, .. } = self.state {
            self.enter_backup(now, Why::Left(leave), actions);
        }
    }

    /// No router has taken over any member of its group.
    pub(in crate::vrrp) fn return_to_master(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            // It cannot stay: it goes into fault.
            State::Leaving { leave, .. } if !self.faults.is_empty() => {
                self.enter_backup(now, Why::Left(leave), actions);
            }
            State::Backup { .. } | State::Leaving { .. } => {
                self.held_back = false;
                self.become_master(now, Why::NobodyCame, true, actions);
                self.reconcile_role(now, actions);
            }
            State::Fault | State::Claiming { .. } | State::Master { .. } => {}
        }
    }

    /// Sets the member of its group that keeps it from taking part. Returns whether that is a
    /// change.
    pub(in crate::vrrp) fn share_fault(&mut self, failed: Option<&Arc<str>>) -> bool {
        let known = self.faults.keys().find_map(|reason| match reason {
            Reason::Group(name) => Some(name),
            _ => None,
        });
        if known == failed {
            return false;
        }
        self.faults.retain(|reason, _| !matches!(reason, Reason::Group(_)));
        if let Some(name) = failed {
            self.faults.insert(Reason::Group(name.clone()), None);
        }
        true
    }

    /// Brings the role in line with faults that its group has changed.
    pub(in crate::vrrp) fn reconcile(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        self.reconcile_role(now, actions);
    }

    /// Another member leaves or cannot take over, so this one must not stay.
    pub(in crate::vrrp) fn step_down(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        match self.state {
            State::Master { .. } => {
                self.offer(now, self.retiring.unwrap_or(Leave::Group), actions);
            }
            State::Leaving { leave, phase: Phase::Preparing { .. }, .. } => {
                self.offer(now, leave, actions);
            }
            State::Claiming { .. } => {
                self.enter_backup(now, Why::Left(Leave::Group), actions);
            }
            State::Fault
            | State::Backup { .. }
            | State::Leaving { phase: Phase::Offered { .. } | Phase::Succeeded { .. }, .. } => {}
        }
    }
}
