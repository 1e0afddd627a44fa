//! A virtual router as a member of a sync group: what the group asks of it, and what it does for it.

use std::sync::Arc;

use super::reason::Reason;
use super::states::{Leave, Phase, Role, State};
use super::{EXTRA_ADVERT_GAP, VirtualRouter};
use crate::vrrp::action::Action;
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

/// What its sync group must know of a member; if it stays the same, the group has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vrrp) struct Standing {
    role: Role,
    /// Its place among the states and phases.
    seat: Seat,
    trouble: bool,
    respects: bool,
}

/// Where a member of a sync group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::vrrp) enum Seat {
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
    pub(in crate::vrrp) fn mute(&mut self) {
        self.mute = true;
    }

    pub(in crate::vrrp) fn is_starting(&self) -> bool {
        self.faults.contains_key(&Reason::Starting)
    }

    /// Whether it leaves for good.
    pub(in crate::vrrp) fn is_retiring(&self) -> bool {
        self.retiring.is_some()
    }

    /// Whether it is in trouble that is not only that of its group.
    pub(in crate::vrrp) fn is_in_trouble(&self) -> bool {
        self.faults.keys().any(Reason::is_own_trouble)
    }

    pub(in crate::vrrp) fn standing(&self, now: Instant) -> Standing {
        Standing {
            role: self.role(),
            seat: self.seat(),
            trouble: self.is_in_trouble(),
            respects: self.respects(now),
        }
    }

    pub(in crate::vrrp) fn seat(&self) -> Seat {
        match &self.state {
            State::Fault => Seat::Out,
            State::Backup { .. } => Seat::Backup,
            State::Claiming { .. } => Seat::Claiming,
            State::Master { .. } => Seat::Master,
            State::Leaving { phase, .. } => match phase {
                Phase::Preparing { .. } => Seat::Preparing,
                Phase::Offered { .. } => Seat::Offered,
                Phase::Succeeded { .. } => Seat::Succeeded,
            },
        }
    }

    /// Whether it hears a master that it would not depose.
    pub(in crate::vrrp) fn respects(&self, now: Instant) -> bool {
        match self.seat() {
            Seat::Backup => self.respects_until().is_some_and(|until| now < until),
            Seat::Succeeded => true,
            Seat::Out | Seat::Claiming | Seat::Master | Seat::Preparing | Seat::Offered => false,
        }
    }

    fn respects_until(&self) -> Option<Instant> {
        Some(self.respected_at? + self.master_down())
    }

    /// Until when it keeps its group from taking over; `None`: it does not.
    pub(in crate::vrrp) fn objects_until(&self, now: Instant) -> Option<Instant> {
        let until = match &self.state {
            State::Master { .. } => return None,
            State::Backup { takeover_at: Some(_) } => {
                self.respects_until().unwrap_or(now).max(self.hold_until)
            }
            State::Leaving { phase: Phase::Offered { successor_by, .. }, .. } => *successor_by,
            State::Leaving { phase: Phase::Succeeded { release_at, .. }, .. } => *release_at,
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
        self.is_due(now) || self.offers_until().is_some_and(|until| until <= now)
    }

    /// It may take over no earlier than this, as far as its group is concerned.
    pub(in crate::vrrp) fn postpone(&mut self, until: Instant) {
        if let State::Backup { takeover_at: Some(timer) } = &mut self.state {
            *timer = until;
        }
    }

    /// When its offer to any successor ends.
    pub(in crate::vrrp) fn offers_until(&self) -> Option<Instant> {
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
    pub(in crate::vrrp) fn offer_until(
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
    pub(in crate::vrrp) fn is_lost(&self, now: Instant) -> bool {
        match self.seat() {
            Seat::Backup => self.respects(now) || now < self.hold_until,
            Seat::Out | Seat::Succeeded => true,
            Seat::Claiming | Seat::Master | Seat::Preparing | Seat::Offered => false,
        }
    }

    /// Its group leaves it to who has the others.
    pub(in crate::vrrp) fn let_go(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::Leaving { leave, .. } = self.state {
            self.enter_backup(now, Why::Left(leave), actions);
        }
    }

    /// Nobody wanted its group.
    pub(in crate::vrrp) fn come_back(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Backup { .. } | State::Leaving { .. } => {
                self.held_back = false;
                self.become_master(now, Why::NobodyCame, true, actions);
                self.settle(now, actions);
            }
            State::Fault | State::Claiming { .. } | State::Master { .. } => {}
        }
    }

    /// Another member is in trouble, or none is any longer.
    pub(in crate::vrrp) fn share_trouble(&mut self, culprit: Option<&Arc<str>>) -> bool {
        let known = self.faults.keys().find_map(|reason| match reason {
            Reason::Group(name) => Some(name),
            _ => None,
        });
        if known == culprit {
            return false;
        }
        self.faults.retain(|reason, _| !matches!(reason, Reason::Group(_)));
        if let Some(name) = culprit {
            self.faults.insert(Reason::Group(name.clone()), None);
        }
        true
    }

    /// What the set of faults amounts to now.
    pub(in crate::vrrp) fn settle_again(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        self.settle(now, actions);
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
