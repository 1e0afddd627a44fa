//! Commands of operators, and results of hooks.

use super::VirtualRouter;
use super::states::{Phase, State};
use crate::vrrp::action::Action;
use crate::vrrp::config::Priority;
use crate::vrrp::event::Drain;
use crate::vrrp::hook::{Hook, HookOutcome};
use crate::vrrp::reason::Reason;
use crate::vrrp::role::Leave;
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

impl VirtualRouter {
    /// `failover`: moves this virtual router to another host. A backup gives a master that it heard
    /// at least one master-down interval, even if it was about to preempt it.
    pub(in crate::vrrp) fn failover(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        self.held_back = true;
        if let Some(peer) = &self.peer
            && peer.priority != Priority::LEAVING
        {
            let silent_at = peer.at + self.master_down();
            let why = Why::MasterHeard { master: peer.source, priority: peer.priority };
            match &mut self.state {
                State::Backup { takeover_at: Some(timer) } => *timer = silent_at.max(*timer),
                State::Claiming { .. } if now < silent_at => self.enter_backup(now, why, actions),
                State::Backup { takeover_at: None }
                | State::Claiming { .. }
                | State::Fault
                | State::Master { .. }
                | State::Leaving { .. } => {}
            }
        }
        self.leave(now, Leave::Failover, actions);
    }

    /// `drain`: a master hands over, also if it has tried before and nobody took over.
    /// The owner has its addresses from the host, so they could not move; `drain --force` releases at
    /// once (`reconcile_role`).
    pub(in crate::vrrp) fn drain(&mut self, now: Instant, drain: Drain, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        match self.state {
            _ if self.is_owner() || drain == Drain::Force => {}
            State::Claiming { .. } => self.enter_backup(now, Why::Left(Leave::Drain), actions),
            State::Master { .. } => self.leave(now, Leave::Drain, actions),
            State::Fault | State::Backup { .. } | State::Leaving { .. } => {}
        }
    }

    /// `resume`: ends the effect of `failover`.
    pub(in crate::vrrp) fn resume(&mut self) {
        self.held_back = false;
    }

    /// `announce`: a master announces its addresses now.
    pub(in crate::vrrp) fn announce_now(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        match self.state {
            State::Master { .. } => self.holding.announce(now, true, actions),
            State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Leaving { .. } => {}
        }
    }

    /// A hook ended.
    pub(in crate::vrrp) fn hook_finished(
        &mut self,
        now: Instant,
        outcome: HookOutcome,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        self.hook = Some(outcome);
        match (&self.state, outcome.hook) {
            (State::Leaving { leave, phase: Phase::Preparing { .. }, .. }, Hook::BeforeRelease) => {
                self.offer(now, *leave, actions);
            }
            (State::Claiming { why, starting_without_peers, .. }, Hook::BeforeClaim) => {
                if outcome.succeeded {
                    let (why, starting_without_peers) = (why.clone(), *starting_without_peers);
                    self.become_master_as(now, why, starting_without_peers, true, actions);
                } else {
                    self.veto(now, actions);
                }
            }
            (
                State::Fault
                | State::Backup { .. }
                | State::Claiming { .. }
                | State::Master { .. }
                | State::Leaving { .. },
                _,
            ) => {}
        }
        let means_fault = !outcome.succeeded
            && outcome.hook != Hook::BeforeClaim
            && self.retiring.is_none()
            && !self.faults.contains_key(&Reason::Starting);
        if let Some(span) = self.config.fault_for.get(&outcome.hook)
            && means_fault
        {
            self.faults.insert(Reason::HookFailed(outcome.hook), Some(now + *span));
            self.reconcile_role(now, actions);
        }
    }
}
