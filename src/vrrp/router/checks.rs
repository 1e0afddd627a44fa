//! The effect of a virtual router's checks on its faults and its priority.

use std::time::Duration;

use super::states::{Phase, State};
use super::{EXTRA_ADVERT_GAP, VirtualRouter};
use crate::vrrp::action::Action;
use crate::vrrp::check::CheckSummary;
use crate::vrrp::config::Priority;
use crate::vrrp::reason::Reason;
use crate::vrrp::time::Instant;

impl VirtualRouter {
    pub(in crate::vrrp) fn check_summary(&self) -> &CheckSummary {
        &self.check_summary
    }

    /// Applies a new summary of its checks.
    pub(in crate::vrrp) fn apply_checks(
        &mut self,
        now: Instant,
        check_summary: CheckSummary,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        let (priority, skew) = (self.effective_priority(), self.skew());
        self.check_summary = check_summary;
        let failing = &self.check_summary.failing;
        self.faults.retain(|reason, _| match reason {
            Reason::Check(name) => failing.contains(name),
            Reason::Starting
            | Reason::Unchecked
            | Reason::InterfaceMissing
            | Reason::LinkDown
            | Reason::Port(_)
            | Reason::SourcePending
            | Reason::NoAddress
            | Reason::NoLinkLocal
            | Reason::SourceAbsent(_)
            | Reason::SourceDuplicate(_)
            | Reason::NoSocket
            | Reason::AdvertsRefused
            | Reason::Group(_)
            | Reason::AddressAlreadyThere
            | Reason::AddressMissing(_)
            | Reason::AddressPending(_)
            | Reason::AddressDuplicate(_)
            | Reason::ClaimFailed
            | Reason::AddressRemoved
            | Reason::Vetoed
            | Reason::HookFailed(_) => true,
        });
        for name in failing {
            self.faults.insert(Reason::Check(name.clone()), None);
        }
        if self.check_summary.unknown.is_none() {
            self.faults.remove(&Reason::Unchecked);
        }
        if self.faults.is_empty() && self.effective_priority() != priority {
            self.priority_changed(now, priority, skew, actions);
        }
        if !self.faults.contains_key(&Reason::Starting) {
            self.reconcile_role(now, actions);
        }
    }

    /// The effective priority has changed: a master advertises it at once, and a backup's
    /// master-down timer is moved by the difference of the skew times, as if the new priority had
    /// been in force when the master was last heard.
    pub(super) fn priority_changed(
        &mut self,
        now: Instant,
        before: Priority,
        skew: Duration,
        actions: &mut Vec<Action>,
    ) {
        if self.effective_priority() > before
            && self.peer.as_ref().is_some_and(|peer| peer.priority >= before)
        {
            self.fit_since = now;
        }
        let skew_now = self.skew();
        let hold_until = self.hold_until;
        match &mut self.state {
            State::Fault | State::Claiming { .. } | State::Backup { takeover_at: None } => {}
            State::Backup { takeover_at: Some(timer) } => {
                // A timer that `hold_until` has lengthened no longer tells when it would have
                // expired.
                if *timer > hold_until {
                    *timer = ((*timer + skew_now).before(skew)).max(hold_until);
                }
            }
            State::Master { .. } => self.advertise_soon(now, actions),
            State::Leaving { phase: Phase::Preparing { advert_at, .. }, sent_at, .. } => {
                *advert_at = (*advert_at).min(now.max(*sent_at + EXTRA_ADVERT_GAP));
            }
            State::Leaving { phase: Phase::Offered { .. } | Phase::Succeeded { .. }, .. } => {}
        }
    }
}
