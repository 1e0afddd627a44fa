//! How a virtual router starts, or goes on where an earlier daemon stopped, and how it ends.

use super::VirtualRouter;
use super::reason::Reason;
use super::states::{Leave, Role, State};
use crate::vrrp::action::Action;
use crate::vrrp::check::CheckSummary;
use crate::vrrp::event::Recorded;
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

/// A daemon that was resumed this often in a minute starts as backup.
const RESUMES_PER_MINUTE: u32 = 3;

impl VirtualRouter {
    /// The record of an earlier daemon, kept until the interface is known.
    pub(in crate::vrrp) fn set_record(&mut self, recorded: Recorded) {
        self.recorded = Some(recorded);
    }

    /// Whether it may go on as master where an earlier daemon stopped. Checks have had no time to
    /// say anything: what they count as before their first results keeps nobody from that.
    pub(in crate::vrrp) fn can_resume(&self) -> bool {
        let sound = self.faults.keys().all(|reason| matches!(reason, Reason::Check(_)));
        let record_allows_resume =
            self.recorded.as_ref().is_some_and(|recorded| self.record_allows_resume(recorded));
        sound && !self.drained && record_allows_resume
    }

    /// The first decision after start: resume, or clean up and take part.
    pub(in crate::vrrp) fn start(
        &mut self,
        now: Instant,
        resumes: bool,
        actions: &mut Vec<Action>,
    ) {
        if self.retiring.is_some() {
            return;
        }
        let recorded = self.recorded.take();
        if let Some(recorded) = &recorded {
            self.held_back = recorded.held_back;
            if resumes {
                self.check_summary = CheckSummary::default();
                self.faults.clear();
                self.become_master(now, Why::Resumed, !recorded.master_hook_done, actions);
                return;
            }
            if recorded.addresses_present {
                self.holding.release_leftovers(actions);
            }
        }
        if let Some(timeout) = self.check_summary.unknown {
            self.faults.insert(Reason::Unchecked, Some(now + timeout));
        }
        if !self.faults.is_empty() {
            self.since = now;
            self.why = Why::Fault(self.fault_reasons().collect());
            if !self.is_undecided() {
                self.notify(true, actions);
            }
        } else {
            self.take_part(now, actions);
        }
    }

    /// Nothing keeps it from taking part any longer.
    pub(super) fn take_part(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.fit_since = now;
        let why = if self.notified_role == Role::Waiting { Why::Started } else { Why::Recovered };
        if self.is_owner() && !self.drained {
            self.become_master(now, Why::Owner, true, actions);
        } else {
            self.enter_backup(now, why, actions);
        }
    }

    /// Whether this daemon may continue as master where an earlier one stopped: its addresses are still
    /// there, its peers still wait, and it did not crash time and again.
    fn record_allows_resume(&self, recorded: &Recorded) -> bool {
        let timeout = self.config.peer_timeout();
        recorded.was_master
            && !recorded.held_back
            && !recorded.drained
            && recorded.addresses_alive
            && recorded.last_advert_age < timeout.saturating_sub(timeout / 30)
            && recorded.resumes_in_last_minute < RESUMES_PER_MINUTE
    }

    /// It leaves for good: the daemon stops, or it is no longer configured. `hurry`: another
    /// virtual router of this host needs the addresses.
    pub(in crate::vrrp) fn retire(
        &mut self,
        now: Instant,
        leave: Leave,
        at_once: bool,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        let already = self.retiring.is_some();
        self.retiring = Some(leave);
        if self.recorded.take().is_some_and(|r| r.addresses_present) {
            // It never got as far as looking at what an earlier daemon left.
            self.holding.release_leftovers(actions);
        }
        if !self.has_addresses() {
            if !already {
                self.enter_backup(now, Why::Left(leave), actions);
            }
        } else if at_once {
            self.release_at_once(now, Why::Left(leave), actions);
        } else {
            self.leave(now, leave, actions);
        }
    }

    /// It was removed a moment ago, and is wanted again.
    pub(super) fn reinstate(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Leaving { .. } => {
                self.become_master(now, Why::NobodyCame, true, actions);
            }
            // It came to its end in this very step.
            State::Backup { .. } => {
                self.enter_backup(now, Why::Started, actions);
                self.reconcile_role(now, actions);
            }
            State::Fault | State::Claiming { .. } | State::Master { .. } => {}
        }
    }
}
