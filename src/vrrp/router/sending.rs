//! Sending of adverts, with the renewal of the lease, and of warnings.

use std::net::IpAddr;
use std::time::Duration;

use super::states::State;
use super::{EXTRA_ADVERT_GAP, VirtualRouter};
use crate::vrrp::action::Action;
use crate::vrrp::advert::Advert;
use crate::vrrp::config::Priority;
use crate::vrrp::reason::Reason;
use crate::vrrp::refusal::{Refusal, SendError};
use crate::vrrp::time::Instant;
use crate::vrrp::warning::Warning;

/// Minimum time between two warnings of one kind.
const WARN_GAP: Duration = Duration::from_secs(60);
/// How long a virtual router is in fault after its adverts were refused for the first time, twice as
/// long each time ...
const REFUSED_RETRY: Duration = Duration::from_secs(1);
/// ... up to this long: with each attempt the hooks run, and for a moment two hosts have the addresses.
const REFUSED_RETRY_MAX: Duration = Duration::from_secs(600);

impl VirtualRouter {
    /// Sends an advert and renews the lease.
    pub(super) fn advertise(
        &mut self,
        now: Instant,
        priority: Priority,
        actions: &mut Vec<Action>,
    ) {
        self.advertise_due(now, None, priority, actions);
    }

    /// The same for a scheduled advert, which carries the time that it was scheduled for.
    pub(super) fn advertise_due(
        &mut self,
        now: Instant,
        due: Option<Instant>,
        priority: Priority,
        actions: &mut Vec<Action>,
    ) {
        if self.source.is_none() {
            return;
        }
        self.send_due(now, due, priority, actions);
        self.holding.renew(now, actions);
    }

    /// Sends an advert without renewing the lease. Received packets can cause such adverts, and
    /// must not be able to keep the netlink worker busy.
    pub(super) fn send(&mut self, now: Instant, priority: Priority, actions: &mut Vec<Action>) {
        self.send_due(now, None, priority, actions);
    }

    fn send_due(
        &mut self,
        now: Instant,
        due: Option<Instant>,
        priority: Priority,
        actions: &mut Vec<Action>,
    ) {
        let Some(from) = self.source else { return };
        let advert = Advert {
            version: self.config.version,
            vrid: self.config.vrid,
            priority,
            interval: self.config.advert_interval,
            addresses: self.config.addresses.clone(),
            checksum: self.config.checksum,
            authentication: self.config.authentication,
        };
        let to = self.to.clone();
        actions.push(Action::Advertise { router: self.id, from, to, advert, due });
        if let State::Master { sent_at, .. } | State::Leaving { sent_at, .. } = &mut self.state {
            *sent_at = now;
        }
    }

    /// Sends an extra advert now, or `EXTRA_ADVERT_GAP` after the last one.
    pub(super) fn advertise_soon(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let State::Master { extra_at, extra_sent_at, .. } = &mut self.state else { return };
        match extra_sent_at {
            Some(sent) if now < *sent + EXTRA_ADVERT_GAP => {
                *extra_at = Some(*sent + EXTRA_ADVERT_GAP)
            }
            Some(_) | None => {
                self.record_extra(now);
                self.send(now, self.effective_priority(), actions);
            }
        }
    }

    pub(super) fn record_extra(&mut self, now: Instant) {
        if let State::Master { extra_sent_at, extra_at, .. } = &mut self.state {
            *extra_sent_at = Some(now);
            *extra_at = None;
        }
    }

    /// An advert did not leave for one destination.
    pub(in crate::vrrp) fn advert_refused(
        &mut self,
        now: Instant,
        to: IpAddr,
        error: SendError,
        actions: &mut Vec<Action>,
    ) {
        // One that is no longer configured may still be reported.
        if !self.to.contains(&to) {
            return;
        }
        self.refusals.retain(|known| known.to != to && self.to.contains(&known.to));
        self.refusals.insert(0, Refusal { to, error, at: now });
        self.warn(now, Warning::AdvertRefused { to, error }, actions);
    }

    /// No destination takes adverts. A host whose own packet filter drops them would else preempt,
    /// claim and lose without end.
    pub(in crate::vrrp) fn adverts_refused(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.check_late(now, actions);
        if !self.has_addresses() {
            return;
        }
        let retry_at = self.refusing.next(now, REFUSED_RETRY, REFUSED_RETRY_MAX);
        self.faults.insert(Reason::AdvertsRefused, Some(retry_at));
        self.reconcile_role(now, actions);
    }

    /// Warns at most once a minute per kind: packets of others must not fill the log.
    pub(super) fn warn(&mut self, now: Instant, warning: Warning, actions: &mut Vec<Action>) {
        let kind = warning.kind();
        if self.warned.get(&kind).is_some_and(|last| now - *last < WARN_GAP) {
            return;
        }
        self.warned.insert(kind, now);
        actions.push(Action::Warn { router: self.id, warning });
    }
}
