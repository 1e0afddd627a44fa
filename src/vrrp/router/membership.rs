//! A virtual router as a member of a sync group: what the group asks of it, and what it does for it.

use std::sync::Arc;

use super::reason::Reason;
use super::states::{Leave, Phase, Role, State};
use super::{EXTRA_ADVERT_GAP, VirtualRouter};
use crate::vrrp::action::Action;
use crate::vrrp::id::RouterId;
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

/// What a virtual router is in a sync group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::vrrp) enum Membership {
    /// It is in none.
    Alone,
    /// The member whose ties decide.
    First,
    /// Any other member.
    Other,
}

/// What of a member concerns its sync group; if it stays the same, the group has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vrrp) struct MemberState {
    role: Role,
    pub position: Position,
    /// It cannot take part, and not only because another member cannot.
    pub own_fault: bool,
    /// It hears a master that it would not depose.
    pub defers_to_master: bool,
}

/// A member at one moment: all that the decisions of its sync group depend on.
#[derive(Clone, Copy, Debug)]
pub(in crate::vrrp) struct MemberView {
    pub id: RouterId,
    pub state: MemberState,
    /// It leaves for good.
    pub retiring: bool,
    /// When its offer to any successor ends, if it makes one.
    pub offer_ends_at: Option<Instant>,
    /// It cannot become master again although nobody has it: it was taken, or has to wait.
    pub cannot_return: bool,
    /// Its time to take over has come.
    pub due: bool,
    /// Until when it keeps its group from taking over, if it does.
    pub blocks_takeover_until: Option<Instant>,
    /// It may be out of earshot of its peers.
    pub starts_without_peers: bool,
    /// It has a `before_claim` hook.
    pub asks_before_claim: bool,
}

/// The state of a member and, if it leaves, how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vrrp) enum Position {
    /// In fault, or waiting.
    Out,
    /// Backup.
    Backup,
    /// Asks its hook.
    Claiming,
    /// Master, and means to stay it.
    Master,
    /// Master still, and about to leave.
    Preparing,
    /// Has said priority 0 and waits for a successor.
    Offered,
    /// Has a successor, or has lost the election.
    Succeeded,
}

impl VirtualRouter {
    pub(in crate::vrrp) fn membership(&self) -> Membership {
        self.membership
    }

    pub(in crate::vrrp) fn set_membership(&mut self, membership: Membership) {
        self.membership = membership;
    }

    /// Taken out of a group that goes on; from now on no hooks run for it.
    pub(in crate::vrrp) fn hooks_suppressed(&mut self) {
        self.hooks_suppressed = true;
    }

    pub(in crate::vrrp) fn is_starting(&self) -> bool {
        self.faults.contains_key(&Reason::Starting)
    }

    /// Whether it leaves for good.
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

    /// Whether it hears a master that it would not depose.
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

    /// Until when it keeps its group from taking over; `None`: it does not.
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
            // Never now: who is asked again at once makes no headway.
            _ => Some(until.max(now + EXTRA_ADVERT_GAP)),
        }
    }

    /// A deadline has passed on which its group decides.
    pub(in crate::vrrp) fn waits_for_group(&self, now: Instant) -> bool {
        self.is_due(now) || self.offer_ends_at().is_some_and(|until| until <= now)
    }

    /// It may take over no earlier than this, as far as its group is concerned.
    pub(in crate::vrrp) fn delay_takeover(&mut self, until: Instant) {
        if let State::Backup { takeover_at: Some(timer) } = &mut self.state {
            *timer = until;
        }
    }

    /// When its offer to any successor ends.
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

    /// Its group still waits for successors of others.
    pub(in crate::vrrp) fn extend_offer(
        &mut self,
        now: Instant,
        until: Instant,
        actions: &mut Vec<Action>,
    ) {
        if let State::Leaving { phase: Phase::Offered { successor_by, .. }, .. } = &mut self.state {
            *successor_by = until;
            self.leaver_timeout(now, actions);
        }
    }

    /// Whether it cannot become master again although nobody has it: it was taken, or has to wait.
    fn cannot_return(&self, now: Instant) -> bool {
        match self.position() {
            Position::Backup => self.defers_to_master(now) || now < self.hold_until,
            Position::Out | Position::Succeeded => true,
            Position::Claiming | Position::Master | Position::Preparing | Position::Offered => {
                false
            }
        }
    }

    /// Its group leaves it to who has the others.
    pub(in crate::vrrp) fn release_after_loss(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::Leaving { leave, .. } = self.state {
            self.enter_backup(now, Why::Left(leave), actions);
        }
    }

    /// Nobody wanted its group.
    pub(in crate::vrrp) fn return_to_master(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Backup { .. } | State::Leaving { .. } => {
                self.held_back = false;
                self.become_master(now, Why::NobodyCame, true, actions);
                self.reconcile_role(now, actions);
            }
            State::Fault | State::Claiming { .. } | State::Master { .. } => {}
        }
    }

    /// Another member cannot take part, or none any longer. Whether that is new.
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

    /// What the set of faults amounts to now.
    pub(in crate::vrrp) fn reconcile(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        self.reconcile_role(now, actions);
    }

    /// Another member leaves, or is not to take over.
    pub(in crate::vrrp) fn give_way(&mut self, now: Instant, actions: &mut Vec<Action>) {
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
