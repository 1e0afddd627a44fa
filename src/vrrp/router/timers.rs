//! Deadlines: the next one, and what happens when one has passed.

use std::time::Duration;

use super::VirtualRouter;
use super::membership::Membership;
use super::states::{Phase, State};
use crate::vrrp::action::Action;
use crate::vrrp::config::{Handover, Priority, VETO};
use crate::vrrp::event::Drain;
use crate::vrrp::holding::Contender;
use crate::vrrp::hook::Hook;
use crate::vrrp::reason::Reason;
use crate::vrrp::role::Leave;
use crate::vrrp::time::Instant;
use crate::vrrp::warning::Warning;
use crate::vrrp::why::Why;

/// How often a master that is the last resort offers its role; doubled until it is at least two
/// intervals.
const OFFER_PERIOD: Duration = Duration::from_secs(10);

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (at, None) | (None, at) => at,
    }
}

impl VirtualRouter {
    /// When its next deadline passes.
    pub fn deadline(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Fault => None,
            State::Backup { takeover_at } => *takeover_at,
            State::Claiming { until, .. } => Some(*until),
            State::Master { advert_at, extra_at, unheard_until, offer_at, .. } => {
                let extra_at = earlier(*extra_at, Some(*advert_at));
                earlier(extra_at, earlier(*unheard_until, *offer_at))
            }
            State::Leaving { phase, .. } => match phase {
                Phase::Preparing { until, advert_at } => Some((*until).min(*advert_at)),
                Phase::Offered { successor_by, repeat_at } => Some((*successor_by).min(*repeat_at)),
                Phase::Succeeded { .. } => None,
            },
        };
        let mut deadline = earlier(earlier(state, self.holding.deadline()), self.source_grace());
        for until in self.faults.values() {
            deadline = earlier(deadline, *until);
        }
        deadline
    }

    /// The deadline that the node knows and the one that it has to know from now on.
    pub(in crate::vrrp) fn reschedule(&mut self) -> [Option<Instant>; 2] {
        let deadline = self.deadline();
        [std::mem::replace(&mut self.scheduled, deadline), deadline]
    }

    /// A deadline may have passed.
    pub(in crate::vrrp) fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        self.check_source_grace(now, actions);
        let expired = |until: &Option<Instant>| until.is_some_and(|until| until <= now);
        if self.faults.values().any(expired) {
            self.faults.retain(|_, until| !expired(until));
            self.reconcile_role(now, actions);
        }
        match &self.state {
            State::Fault => {}
            State::Backup { .. } => {
                if self.membership == Membership::Alone && self.is_due(now) {
                    self.take_over(now, self.starts_without_peers(), true, None, actions);
                }
            }
            State::Claiming { until, .. } => {
                if *until <= now {
                    self.veto(now, actions);
                }
            }
            State::Master { .. } => self.master_timeout(now, actions),
            State::Leaving { .. } => self.leaving_timeout(now, actions),
        }
    }

    /// Whether Master_Down_Timer has expired.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Backup { takeover_at: Some(at) } if at <= now)
    }

    /// Takes over, after its `before_claim` hook if `asks_hook`. `by_group`: the reason, if it is
    /// not its own timer.
    pub(in crate::vrrp) fn take_over(
        &mut self,
        now: Instant,
        starting_without_peers: bool,
        asks_hook: bool,
        by_group: Option<Why>,
        actions: &mut Vec<Action>,
    ) {
        let why = by_group.unwrap_or_else(|| self.takeover_reason(now));
        self.held_back = false;
        if let Some(wait) = self.damping.take_over(now) {
            self.hold_until = self.hold_until.max(now + wait);
            self.warn(now, Warning::Damped { wait }, actions);
        }
        match self.config.before_claim {
            Some(limit) if asks_hook && !self.is_owner() => {
                let state = State::Claiming {
                    until: now + limit,
                    why: why.clone(),
                    starting_without_peers,
                };
                self.enter(now, state, why, true, actions);
            }
            Some(_) | None => {
                self.become_master_as(now, why, starting_without_peers, true, actions)
            }
        }
    }

    fn takeover_reason(&self, now: Instant) -> Why {
        match &self.peer {
            None => Why::HeardNobody,
            Some(peer) if peer.priority == Priority::LEAVING => Why::MasterLeft(peer.source),
            Some(peer) if now - peer.at < peer.interval.peer_timeout() => {
                Why::Preempts { master: peer.source, priority: peer.priority }
            }
            Some(peer) => Why::MasterSilent { master: peer.source, since: peer.at, now },
        }
    }

    /// The `before_claim` hook failed or exceeded its limit.
    pub(super) fn veto(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let span = self.config.fault_for.get(&Hook::BeforeClaim).copied().unwrap_or(VETO);
        self.faults.insert(Reason::Vetoed, Some(now + span));
        self.reconcile_role(now, actions);
    }

    fn master_timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let interval = self.config.advert_interval.duration();
        if matches!(self.state, State::Master { offer_at: Some(at), .. } if at <= now) {
            self.make_offer(now, actions);
        }
        let State::Master { advert_at, extra_at, unheard_until, .. } = &mut self.state else {
            return;
        };
        let hears_no_peer = unheard_until.is_some_and(|until| until <= now);
        if hears_no_peer {
            *unheard_until = None;
        }
        let due = Some(*advert_at).filter(|at| *at <= now);
        while *advert_at <= now {
            // The schedule is absolute: one late advert does not shift those that follow.
            *advert_at += interval;
        }
        let extra = extra_at.is_some_and(|at| at <= now);
        if extra || due.is_some() {
            *extra_at = None;
        }
        if extra {
            self.record_extra(now);
        }
        if due.is_some() || hears_no_peer {
            self.advertise_due(now, due, self.effective_priority(), actions);
        } else if extra {
            self.send(now, self.effective_priority(), actions);
        }
        if let Some(Contender { address, mac, .. }) = self.holding.timeout(now, actions) {
            self.warn(now, Warning::Contention { address, mac }, actions);
        }
    }

    /// When a master that is the last resort, being drained or by a check with `on_fail = "last"`,
    /// offers its role the next time. Its priority 1 makes every fit host that preempts take over; one
    /// that does not, which sends nothing as a backup, takes over after priority 0 only. With
    /// `exclusive` handover that would have to follow a release, and so the role is not offered.
    ///
    /// The moments are multiples of one period, so that the members of a sync group, which a peer
    /// takes over together, are offered at the same moment.
    pub(super) fn next_offer(&self, now: Instant) -> Option<Instant> {
        let last_resort = match self.drained {
            Some(Drain::LastResort) => true,
            Some(Drain::Force) => false,
            None => self.degraded(),
        };
        match self.config.handover {
            Handover::Overlap if last_resort => {}
            Handover::Overlap | Handover::Exclusive => return None,
        }
        let mut period = OFFER_PERIOD;
        while period < 2 * self.config.advert_interval.duration() {
            period *= 2;
        }
        let past = now.as_nanos() % period.as_nanos() as u64;
        Some(now.before(Duration::from_nanos(past)) + period)
    }

    /// Sends priority 0 and remains master. A backup that is fit has taken over by the time of the next
    /// advert; without one nothing has happened.
    fn make_offer(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let next = self.next_offer(now);
        let next_advert = now + self.config.advert_interval.duration();
        if let State::Master { offer_at, advert_at, extra_at, .. } = &mut self.state {
            *offer_at = next;
            *advert_at = next_advert;
            *extra_at = None;
            self.advertise(now, Priority::LEAVING, actions);
        }
    }

    pub(super) fn leaving_timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let interval = self.config.advert_interval.duration();
        let State::Leaving { leave, phase, .. } = &mut self.state else { return };
        let leave = *leave;
        match phase {
            Phase::Preparing { until, advert_at } => {
                if *until <= now {
                    self.offer(now, leave, actions);
                } else if *advert_at <= now {
                    let due = Some(*advert_at);
                    while *advert_at <= now {
                        *advert_at += interval;
                    }
                    self.advertise_due(now, due, self.effective_priority(), actions);
                }
            }
            Phase::Offered { successor_by, repeat_at } => {
                if *successor_by <= now {
                    // In a group all members decide together (`Group::end_offers`).
                    if self.membership == Membership::Alone || self.retiring.is_some() {
                        self.no_successor(now, leave, actions);
                    }
                } else if *repeat_at <= now {
                    // Not an absolute schedule: two in quick succession would restart the
                    // successor's timer.
                    *repeat_at = now + interval;
                    self.advertise(now, Priority::LEAVING, actions);
                }
            }
            Phase::Succeeded { to } => {
                if self.holding.release_at().is_none_or(|at| at <= now) {
                    let why = match leave {
                        Leave::Election { to, priority } => Why::LostElection { to, priority },
                        Leave::Stop
                        | Leave::Failover
                        | Leave::Drain
                        | Leave::Removed
                        | Leave::Group
                        | Leave::Check => Why::HandedOver { to: *to, leave },
                    };
                    self.enter_backup(now, why, actions);
                }
            }
        }
    }

    fn no_successor(&mut self, now: Instant, leave: Leave, actions: &mut Vec<Action>) {
        match leave {
            // It cannot stay: it goes into fault.
            _ if !self.faults.is_empty() => self.enter_backup(now, Why::Left(leave), actions),
            Leave::Failover
            | Leave::Drain
            | Leave::Election { .. }
            | Leave::Group
            | Leave::Check => {
                self.held_back = false;
                self.become_master(now, Why::NobodyCame, true, actions);
                self.reconcile_role(now, actions);
            }
            Leave::Stop | Leave::Removed => {
                self.enter_backup(now, Why::Left(leave), actions);
            }
        }
    }

    /// Delivery has found that we are late: adverts do not leave, or the lease is about to end.
    pub(in crate::vrrp) fn overdue(&mut self, now: Instant, why: Why, actions: &mut Vec<Action>) {
        if self.has_addresses() {
            self.late(now, why, actions);
        }
    }

    /// Late detection. A master that was stopped or starved until its peers' master-down interval
    /// may have passed (three intervals; the skew time is not counted on) must assume that a peer
    /// has taken over. So each event first compares the time of the last advert with the clock,
    /// before anything is sent.
    pub(super) fn check_late(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let timeout = self.config.advert_interval.peer_timeout();
        if self.sent_at().is_some_and(|sent_at| now - sent_at >= timeout) {
            self.late(now, Why::Late, actions);
        }
    }

    pub(super) fn late(&mut self, now: Instant, why: Why, actions: &mut Vec<Action>) {
        // Listen for three intervals before the next takeover. Otherwise priority 0 adverts, forged
        // or not, could make a host that stalls again and again claim and release without end.
        let timeout = self.config.advert_interval.peer_timeout();
        self.hold_until = self.hold_until.max(now + timeout);
        self.enter_backup(now, why, actions);
    }
}
