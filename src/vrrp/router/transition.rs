//! Changes of role. All of them go through `VirtualRouter::enter`.

use std::time::Duration;

use super::VirtualRouter;
use super::states::{Phase, State};
use crate::vrrp::action::{Action, Transition};
use crate::vrrp::config::{Handover, Priority};
use crate::vrrp::event::Drain;
use crate::vrrp::reason::Reason;
use crate::vrrp::role::Leave;
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

/// How many intervals a leaving master waits for a successor ...
const SUCCESSOR_INTERVALS: u32 = 4;
/// ... but never longer than this.
const SUCCESSOR_WAIT: Duration = Duration::from_secs(10);
/// How long a master that has heard no peer and does not preempt advertises priority 1.
const UNHEARD_LIMIT: Duration = Duration::from_secs(60);

impl VirtualRouter {
    /// Brings the role in line with the faults, with `drained` and with checks.
    pub(super) fn reconcile_role(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let forced = self.drained == Some(Drain::Force);
        if self.faults.is_empty() {
            // Frees the memory of the emptied map.
            self.faults.clear();
        } else {
            let why = Why::Fault(self.fault_reasons().collect());
            match self.state {
                State::Fault => {
                    // It was waiting for checks or links, and now there is a real fault.
                    if self.role() != self.notified_role {
                        self.enter(now, State::Fault, why, true, actions);
                    }
                }
                State::Backup { .. } | State::Claiming { .. } => {
                    if self.retiring.is_none() {
                        self.enter(now, State::Fault, why, true, actions);
                    }
                }
                State::Leaving { .. } if self.only_checks_fail() && !forced => {
                    // It hands over already, and `before_release` may be what stops the checked
                    // service.
                }
                State::Master { .. } if self.may_hand_over() => {
                    self.offer(now, Leave::Check, actions);
                }
                State::Master { .. } | State::Leaving { .. } => {
                    self.release_at_once(now, why, actions)
                }
            }
            return;
        }
        let next_offer = self.next_offer(now);
        match &mut self.state {
            State::Fault => self.take_part(now, actions),
            State::Claiming { .. } => {
                if forced {
                    self.enter_backup(now, Why::Left(Leave::Drain), actions);
                }
            }
            State::Backup { takeover_at } => {
                if self.retiring.is_some() || forced {
                    *takeover_at = None;
                } else if takeover_at.is_none() {
                    let at = (now + self.master_down()).max(self.hold_until);
                    self.state = State::Backup { takeover_at: Some(at) };
                    self.catch_up_with_priority_0(now, self.since);
                }
            }
            State::Master { .. } | State::Leaving { .. } if forced => {
                self.release_at_once(now, Why::Left(Leave::Drain), actions);
            }
            State::Master { offer_at, .. } => {
                if offer_at.is_some() != next_offer.is_some() {
                    *offer_at = next_offer;
                }
            }
            State::Leaving { .. } => {}
        }
    }

    /// Whether checks, its own or those of its group, are its only faults.
    fn only_checks_fail(&self) -> bool {
        self.faults.keys().all(|reason| match reason {
            Reason::Check(_) | Reason::Group(_) => true,
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
            | Reason::AddressAlreadyThere
            | Reason::AddressMissing(_)
            | Reason::AddressPending(_)
            | Reason::AddressDuplicate(_)
            | Reason::ClaimFailed
            | Reason::AddressRemoved
            | Reason::Vetoed
            | Reason::HookFailed(_) => false,
        })
    }

    /// Whether a failing check makes it hand over as in a planned move: it goes on answering until a
    /// successor has the addresses. Not if something else is wrong, here or in its group, not if `before_release` would have to run first, and not the
    /// owner, whose addresses could not move.
    fn may_hand_over(&self) -> bool {
        self.only_checks_fail()
            && self.faults.keys().any(|reason| matches!(reason, Reason::Check(_)))
            && self.config.handover == Handover::Overlap
            && self.config.before_release.is_none()
            && self.drained != Some(Drain::Force)
            && !self.is_owner()
    }

    /// Releases the addresses without waiting for a successor. Priority 0 is sent before that, or
    /// with `exclusive` handover after it, unless it was sent already or does not leave this host.
    pub(super) fn release_at_once(&mut self, now: Instant, why: Why, actions: &mut Vec<Action>) {
        let said = match &self.state {
            State::Leaving { phase: Phase::Offered { .. } | Phase::Succeeded { .. }, .. } => true,
            State::Leaving { phase: Phase::Preparing { .. }, .. }
            | State::Master { .. }
            | State::Fault
            | State::Claiming { .. }
            | State::Backup { .. } => false,
        };
        let mute = [Reason::LinkDown, Reason::AdvertsRefused];
        let heard = !said && !mute.iter().any(|reason| self.faults.contains_key(reason));
        let exclusive = self.config.handover == Handover::Exclusive;
        if heard && !exclusive {
            self.advertise(now, Priority::LEAVING, actions);
        }
        self.enter_backup(now, why, actions);
        if heard && exclusive {
            self.advertise(now, Priority::LEAVING, actions);
        }
    }

    /// Begins to hand over, if it is master.
    pub(super) fn leave(&mut self, now: Instant, leave: Leave, actions: &mut Vec<Action>) {
        match &mut self.state {
            State::Fault | State::Backup { .. } | State::Claiming { .. } => {}
            State::Leaving { leave: running, .. } => {
                // A stop or removal is not replaced by a drain or failover, which could end as
                // master again.
                *running = self.retiring.unwrap_or(leave);
            }
            State::Master { advert_at, .. } => match self.config.before_release {
                Some(limit) => {
                    let phase = Phase::Preparing { until: now + limit, advert_at: *advert_at };
                    self.enter_leaving(now, leave, phase, actions);
                }
                None => self.offer(now, leave, actions),
            },
        }
    }

    /// Sends priority 0. With `overlap` handover the addresses stay until a successor has them,
    /// with `exclusive` they are released before.
    pub(super) fn offer(&mut self, now: Instant, leave: Leave, actions: &mut Vec<Action>) {
        match self.config.handover {
            Handover::Overlap => {
                let interval = self.config.advert_interval.duration();
                let wait = (SUCCESSOR_INTERVALS * interval).min(SUCCESSOR_WAIT);
                let phase = Phase::Offered { successor_by: now + wait, repeat_at: now + interval };
                self.enter_leaving(now, leave, phase, actions);
                self.advertise(now, Priority::LEAVING, actions);
            }
            Handover::Exclusive => {
                self.enter_backup(now, Why::Left(leave), actions);
                self.advertise(now, Priority::LEAVING, actions);
            }
        }
    }

    pub(super) fn become_master(
        &mut self,
        now: Instant,
        why: Why,
        hooks: bool,
        actions: &mut Vec<Action>,
    ) {
        let starting_without_peers = match &why {
            Why::Resumed | Why::NobodyCame => false,
            _ => self.starts_without_peers(),
        };
        self.become_master_as(now, why, starting_without_peers, hooks, actions);
    }

    /// Whether it has heard no peer since its start or since the link came up, and does not
    /// preempt. There may be a master whose adverts do not reach us yet, as when a switch port is
    /// still learning. As priority 1, our adverts do not depose it.
    pub(super) fn starts_without_peers(&self) -> bool {
        !self.config.preempt && !self.heard_since_up && !self.is_owner()
    }

    pub(super) fn become_master_as(
        &mut self,
        now: Instant,
        why: Why,
        starting_without_peers: bool,
        hooks: bool,
        actions: &mut Vec<Action>,
    ) {
        let unheard_until = starting_without_peers.then(|| now + UNHEARD_LIMIT);
        self.master_interval = self.config.advert_interval;
        let state = State::Master {
            advert_at: now + self.config.advert_interval.duration(),
            extra_at: None,
            extra_sent_at: None,
            sent_at: now,
            unheard_until,
            offer_at: self.next_offer(now),
            tie_since: None,
        };
        self.enter(now, state, why, hooks, actions);
    }

    pub(super) fn enter_leaving(
        &mut self,
        now: Instant,
        leave: Leave,
        phase: Phase,
        actions: &mut Vec<Action>,
    ) {
        let Some(sent_at) = self.sent_at() else { return };
        let state = State::Leaving { leave, phase, sent_at };
        let why = match leave {
            Leave::Check => Why::Fault(self.fault_reasons().collect()),
            Leave::Stop
            | Leave::Failover
            | Leave::Drain
            | Leave::Removed
            | Leave::Group
            | Leave::Election { .. } => Why::Leaving(leave),
        };
        self.enter(now, state, why, true, actions);
    }

    /// Ends its role, in fault if it has a reason for that.
    pub(super) fn enter_backup(&mut self, now: Instant, why: Why, actions: &mut Vec<Action>) {
        if !self.faults.is_empty() && self.retiring.is_none() {
            let why = Why::Fault(self.fault_reasons().collect());
            return self.enter(now, State::Fault, why, true, actions);
        }
        let eligible = self.drained != Some(Drain::Force) && self.retiring.is_none();
        // The skew time is that of a backup's priority.
        self.state = State::Backup { takeover_at: None };
        let takeover_at = eligible.then(|| (now + self.master_down()).max(self.hold_until));
        self.enter(now, State::Backup { takeover_at }, why, true, actions);
    }

    /// Enters a state: the only place where the role changes. Claims or releases what is held as
    /// the state requires, advertises and announces as a new master, and notifies the driver.
    pub(super) fn enter(
        &mut self,
        now: Instant,
        state: State,
        why: Why,
        hooks: bool,
        actions: &mut Vec<Action>,
    ) {
        self.state = state;
        self.since = now;
        self.why = why;
        match self.state {
            State::Fault | State::Master { .. } => self.superior_heard_at = None,
            State::Backup { .. } | State::Claiming { .. } | State::Leaving { .. } => {}
        }
        match &self.state {
            State::Fault | State::Backup { .. } | State::Claiming { .. } => {
                self.holding.release(actions);
            }
            State::Master { .. } => {
                self.source_used = true;
                self.holding.hold(now, self.peer.is_some(), actions);
                self.advertise(now, self.effective_priority(), actions);
                self.holding.announce(now, true, actions);
            }
            State::Leaving { phase, .. } => match phase {
                Phase::Preparing { .. } | Phase::Offered { .. } => self.holding.offer(),
                Phase::Succeeded { .. } => self.holding.linger(now),
            },
        }
        self.notify(hooks, actions);
    }

    pub(super) fn notify(&mut self, hooks: bool, actions: &mut Vec<Action>) {
        let to = self.role();
        let from = std::mem::replace(&mut self.notified_role, to);
        actions.push(Action::Notify(Transition {
            router: self.id,
            from,
            to,
            why: self.why.clone(),
            priority: self.effective_priority(),
            before_release: matches!(
                self.state,
                State::Leaving { phase: Phase::Preparing { .. }, .. }
            ),
            held_back: self.held_back,
            hooks: hooks && !self.hooks_suppressed,
        }));
    }
}
