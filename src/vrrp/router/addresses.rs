//! The addresses of a master: claimed and announced, removed by others, refused, contended for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::VirtualRouter;
use super::reason::Reason;
use super::states::{Phase, State};
use crate::vrrp::action::Action;
use crate::vrrp::config::Address;
use crate::vrrp::id::Mac;
use crate::vrrp::time::Instant;
use crate::vrrp::warning::Warning;

/// How long a failed claim keeps us out of the election.
const CLAIM_RETRY: Duration = Duration::from_secs(10);
/// This many removals of our addresses by somebody else ...
const REMOVALS_BORNE: u32 = 10;
/// ... within this time, and we give up ...
const REMOVALS_WINDOW: Duration = Duration::from_secs(10);
/// ... for this long.
const REMOVED_RETRY: Duration = Duration::from_secs(30);
/// A foreign announcement is answered no earlier: the other side may be about to give way.
const ANSWER_CONTENTION_AFTER: Duration = Duration::from_millis(20);
/// ... and this long after it saw its successor's announcement.
const LINGER_ANNOUNCED: Duration = Duration::from_millis(1);

impl VirtualRouter {
    /// One of our addresses has gone from the interface, and we did not ask for it.
    pub(in crate::vrrp) fn address_lost(
        &mut self,
        now: Instant,
        ip: IpAddr,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        if !self.has_addresses() {
            return;
        }
        let Some(&lost) = self.all.iter().find(|address| address.ip == ip) else { return };
        if self.is_owner() || self.is_succeeded() {
            return;
        }
        if now - self.removals_since >= REMOVALS_WINDOW {
            self.removals = 0;
            self.removals_since = now;
        }
        self.removals += 1;
        if self.removals > REMOVALS_BORNE {
            self.faults.insert(Reason::AddressRemoved, Some(now + REMOVED_RETRY));
            self.settle(now, actions);
            return;
        }
        let addresses: Arc<[Address]> = Arc::from([lost]);
        self.claim(addresses.clone(), actions);
        actions.push(Action::Announce { router: self.id, addresses });
        self.warn(now, Warning::AddressPutBack { address: ip }, actions);
    }

    /// The kernel would not add an address.
    pub(in crate::vrrp) fn claim_failed(
        &mut self,
        now: Instant,
        there: bool,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        if !self.has_addresses() {
            return;
        }
        if there {
            // Normally the next picture of the interface decides; it may have come already.
            let retry_at = Some(now + CLAIM_RETRY);
            self.faults.entry(Reason::AddressAlreadyThere).or_insert(retry_at);
        } else {
            self.faults.insert(Reason::ClaimFailed, Some(now + CLAIM_RETRY));
        }
        self.settle(now, actions);
    }

    /// Somebody else announced one of our addresses.
    pub(in crate::vrrp) fn contention(
        &mut self,
        now: Instant,
        ip: IpAddr,
        mac: Mac,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        match &mut self.state {
            State::Fault | State::Backup { .. } | State::Claiming { .. } => {}
            State::Master { .. } => {
                self.announce_soon(now, now + ANSWER_CONTENTION_AFTER);
                self.warn(now, Warning::Contention { address: ip, mac }, actions);
            }
            State::Leaving { phase, .. } => match phase {
                Phase::Preparing { .. } | Phase::Offered { .. } => {}
                Phase::Succeeded { release_at, .. } => {
                    *release_at = (*release_at).min(now + LINGER_ANNOUNCED);
                }
            },
        }
    }

    pub(super) fn claim(&self, addresses: Arc<[Address]>, actions: &mut Vec<Action>) {
        let lifetime = self.config.address_lifetime;
        actions.push(Action::Claim { router: self.id, addresses, lifetime });
    }

    pub(super) fn announce(&self, actions: &mut Vec<Action>) {
        actions.push(Action::Announce { router: self.id, addresses: self.all.clone() });
    }

    pub(super) fn announce_soon(&mut self, now: Instant, not_before: Instant) {
        if let State::Master { announcements, .. } = &mut self.state {
            announcements.urge(not_before.max(now));
        }
    }
}
