//! Start, resumption after an earlier daemon, and end of a virtual router.

use std::net::IpAddr;

use super::VirtualRouter;
use super::states::State;
use crate::vrrp::action::Action;
use crate::vrrp::check::CheckSummary;
use crate::vrrp::config::Priority;
use crate::vrrp::event::{Drain, Recorded, Source};
use crate::vrrp::reason::Reason;
use crate::vrrp::role::{Leave, Role};
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

/// After this many resumptions within a minute a daemon starts as backup: it keeps crashing.
pub(in crate::vrrp) const RESUMES_PER_MINUTE: u32 = 3;

impl VirtualRouter {
    /// Keeps the record of an earlier daemon until the interface is known.
    pub(in crate::vrrp) fn set_record(&mut self, recorded: Recorded) {
        if let Some(Source { ip, settings }) = recorded.source {
            (self.source, self.source_settings, self.source_used) = (Some(ip), settings, true);
        }
        self.recorded = Some(recorded);
    }

    /// The source that the kernel would use for its first unicast peer.
    pub(in crate::vrrp) fn set_routed(&mut self, source: IpAddr) {
        self.routed = Some(source);
    }

    /// Whether it can resume as master right now. Failing checks do not matter: they have not run
    /// yet, and `initial = "failing"` is not a result.
    pub(in crate::vrrp) fn can_resume(&self) -> bool {
        let sound = self.faults.keys().all(|reason| matches!(reason, Reason::Check(_)));
        let record_allows_resume =
            self.recorded.as_ref().is_some_and(|recorded| self.record_allows_resume(recorded));
        sound && self.drained != Some(Drain::Force) && record_allows_resume
    }

    /// The first decision after the interfaces are known: resume as master, or release leftovers
    /// and take part in the election.
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
                // What an operator has asked for goes on; other reasons show themselves again.
                match self.drained {
                    _ if !recorded.was_preparing => {}
                    _ if self.held_back => self.leave(now, Leave::Failover, actions),
                    Some(Drain::LastResort) => self.leave(now, Leave::Drain, actions),
                    Some(Drain::Force) | None => {}
                }
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

    /// Joins the election: no reason for fault is left.
    pub(super) fn take_part(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.fit_since = now;
        let why = if self.notified_role == Role::Waiting { Why::Started } else { Why::Recovered };
        let since = self.since;
        if self.is_owner() {
            self.become_master(now, Why::Owner, true, actions);
        } else {
            self.enter_backup(now, why, actions);
            self.catch_up_with_priority_0(now, since);
        }
    }

    /// The master left while this one could not take over, and nobody has become master since: it need
    /// not wait for a whole master-down interval.
    pub(super) fn catch_up_with_priority_0(&mut self, now: Instant, since: Instant) {
        let wait = self.wait_after_priority_0();
        let (peer, hold_until) = (&self.peer, self.hold_until);
        if let State::Backup { takeover_at: Some(timer) } = &mut self.state
            && let Some(peer) = peer.as_ref().filter(|peer| peer.priority == Priority::LEAVING)
            && self.heard_since_up
            && peer.at >= since
        {
            *timer = (*timer).min((peer.at + wait).max(now)).max(hold_until);
        }
    }

    /// Whether this daemon may continue as master where an earlier one stopped: its peers still wait,
    /// and it did not crash repeatedly. Addresses whose lease has ended meanwhile are claimed again: if
    /// a better host has preempted since, this is the election that a returning host begins.
    fn record_allows_resume(&self, recorded: &Recorded) -> bool {
        let timeout = self.config.advert_interval.peer_timeout();
        recorded.was_master
            && (!recorded.held_back || recorded.was_preparing)
            && recorded.last_advert_age < timeout.saturating_sub(timeout / 30)
            && recorded.resumes_in_last_minute < RESUMES_PER_MINUTE
    }

    /// Leaves for good: the daemon stops, or it is no longer configured. `at_once`: without waiting
    /// for a successor, as another virtual router of this host is to have the addresses.
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
            // Its interface is still unknown, so it has not dealt with the leftovers of an earlier
            // daemon.
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

    /// It was removed from the configuration and is back before it has left.
    pub(super) fn reinstate(&mut self, now: Instant, actions: &mut Vec<Action>) {
        match self.state {
            State::Leaving { .. } => {
                self.become_master(now, Why::NobodyCame, true, actions);
            }
            // It has just left, in this very event.
            State::Backup { .. } => {
                self.enter_backup(now, Why::Started, actions);
                self.reconcile_role(now, actions);
            }
            State::Fault | State::Claiming { .. } | State::Master { .. } => {}
        }
    }
}
