//! Normal form of states, by which the model checker recognises those that are equivalent.

use std::time::Duration;

use super::damping::Damping;
use super::hearing::TIE_FORGOTTEN_INTERVALS;
use super::membership::Membership;
use super::states::{Phase, State};
use super::{EXTRA_ADVERT_GAP, VirtualRouter};
use crate::vrrp::backoff::Backoff;
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

impl VirtualRouter {
    /// Moves `now` to `origin`, and resets what no election depends on: history, warnings, the
    /// lease, announcements, and by how much something is more than ten seconds ago.
    pub(in crate::vrrp) fn normalize(&mut self, now: Instant, origin: Instant) {
        const MEMORY: Duration = Duration::from_secs(10);
        let moved = |at: Instant| {
            if at >= now { origin + (at - now) } else { origin.before((now - at).min(MEMORY)) }
        };
        let interval = self.config.advert_interval.duration();
        match &mut self.state {
            State::Fault => {}
            State::Backup { takeover_at } => *takeover_at = takeover_at.map(moved),
            State::Claiming { until, why, starting_without_peers: _ } => {
                *until = moved(*until);
                *why = Why::Starting;
            }
            State::Master {
                advert_at,
                extra_at,
                extra_sent_at,
                sent_at,
                unheard_until,
                offer_at,
                tie_since,
            } => {
                let forgotten = TIE_FORGOTTEN_INTERVALS * interval;
                *tie_since = tie_since.filter(|since| now - *since < forgotten).map(moved);
                *advert_at = moved(*advert_at);
                *extra_at = extra_at.map(moved);
                *extra_sent_at = extra_sent_at.filter(|at| now < *at + EXTRA_ADVERT_GAP).map(moved);
                *sent_at = moved(*sent_at);
                *unheard_until = unheard_until.map(moved);
                *offer_at = offer_at.map(moved);
            }
            State::Leaving { leave: _, phase, sent_at } => {
                *sent_at = moved(*sent_at);
                match phase {
                    Phase::Preparing { until, advert_at } => {
                        *until = moved(*until);
                        *advert_at = moved(*advert_at);
                    }
                    Phase::Offered { successor_by, repeat_at } => {
                        *successor_by = moved(*successor_by);
                        *repeat_at = moved(*repeat_at);
                    }
                    Phase::Succeeded { to: _ } => {}
                }
            }
        }
        if let Some(missing) = &mut self.missing_source {
            missing.grace = missing.grace.map(moved);
        }
        self.holding.normalize(origin, moved);
        for until in self.faults.values_mut() {
            *until = until.map(moved);
        }
        self.hold_until = moved(self.hold_until).max(origin);
        self.fit_since = match self.config.preempt_delay.is_zero() {
            true => origin,
            false => moved(self.fit_since),
        };
        self.damping = Damping::default();
        self.superior_heard_at = match self.membership {
            Membership::Alone => None,
            Membership::First | Membership::Other => {
                self.superior_heard_at.filter(|at| now < *at + self.master_down()).map(moved)
            }
        };
        self.since = origin;
        self.claims = Backoff::default();
        self.refusing = Backoff::default();
        if self.why != Why::NobodyCame {
            self.why = Why::Starting;
        }
        self.peer = None;
        self.incompatible.clear();
        self.warned.clear();
        self.refusals.clear();
        self.hook = None;
    }
}
