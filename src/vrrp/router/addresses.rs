//! Events that concern a master's addresses: removed by another program, refused by the kernel,
//! announced by another host.

use std::net::IpAddr;
use std::time::Duration;

use super::VirtualRouter;
use crate::vrrp::action::Action;
use crate::vrrp::event::ClaimError;
use crate::vrrp::holding::Removal;
use crate::vrrp::id::Mac;
use crate::vrrp::reason::Reason;
use crate::vrrp::time::Instant;
use crate::vrrp::warning::Warning;

/// How long a virtual router is in fault after a failed claim ...
const CLAIM_RETRY: Duration = Duration::from_secs(10);
/// ... and after many of them. A better host preempts after each fault, and hooks run every time.
const CLAIM_RETRY_MAX: Duration = Duration::from_secs(600);
/// How long a virtual router is in fault after its addresses were removed too often.
const REMOVED_RETRY: Duration = Duration::from_secs(30);

impl VirtualRouter {
    /// An address was removed from its interface by another program. Returns whether it was held.
    pub(in crate::vrrp) fn address_lost(
        &mut self,
        now: Instant,
        ip: IpAddr,
        actions: &mut Vec<Action>,
    ) -> bool {
        self.check_late(now, actions);
        match self.holding.address_lost(now, ip, actions) {
            Removal::Ignored => return false,
            Removal::PutBack => {
                self.warn(now, Warning::AddressPutBack { address: ip }, actions);
            }
            Removal::LeftOut => {
                let error = ClaimError::Removed;
                self.warn(now, Warning::AddressMissing { address: ip, error }, actions);
            }
            Removal::GivenUp => {
                self.faults.insert(Reason::AddressRemoved, Some(now + REMOVED_RETRY));
                self.reconcile_role(now, actions);
            }
        }
        true
    }

    /// The kernel refused to add an advertised address; `there`: because it exists and does not
    /// carry the mark of a virtual router of this daemon.
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
        let retry_at = Some(self.claims.next(now, CLAIM_RETRY, CLAIM_RETRY_MAX));
        if there {
            // Normally the next `Event::Link` sets or clears this reason. It may have come already,
            // so the reason also ends by itself.
            self.faults.entry(Reason::AddressAlreadyThere).or_insert(retry_at);
        } else {
            self.faults.insert(Reason::ClaimFailed, retry_at);
        }
        self.reconcile_role(now, actions);
    }

    /// The interface has another link-layer address: neighbours send to the old one until they
    /// hear of the new one.
    pub(in crate::vrrp) fn mac_changed(&mut self, now: Instant) {
        self.holding.announce_soon(now);
    }

    /// An unadvertised address could not be added: the others are served without it.
    pub(in crate::vrrp) fn address_refused(
        &mut self,
        now: Instant,
        ip: IpAddr,
        error: ClaimError,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        if self.holding.leave_out(now, ip) {
            self.warn(now, Warning::AddressMissing { address: ip, error }, actions);
        }
    }

    /// Another host announced one of our addresses by ARP or neighbour advertisement, or answered a
    /// probe for it.
    pub(in crate::vrrp) fn contention(
        &mut self,
        now: Instant,
        ip: IpAddr,
        mac: Mac,
        actions: &mut Vec<Action>,
    ) -> bool {
        self.check_late(now, actions);
        let other_master = self.peer.as_ref().is_some_and(|peer| peer.is_master(now));
        self.holding.contended(now, ip, mac, other_master)
    }
}
