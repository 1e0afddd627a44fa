//! What happens to the addresses of a master: removed by others, refused by the kernel, contended for.

use std::net::IpAddr;
use std::time::Duration;

use super::VirtualRouter;
use super::reason::Reason;
use crate::vrrp::action::Action;
use crate::vrrp::holding::Removal;
use crate::vrrp::id::Mac;
use crate::vrrp::time::Instant;
use crate::vrrp::warning::Warning;

/// How long a failed claim keeps us out of the election.
const CLAIM_RETRY: Duration = Duration::from_secs(10);
/// How long we stay out of the election after our addresses were removed again and again.
const REMOVED_RETRY: Duration = Duration::from_secs(30);

impl VirtualRouter {
    /// One of our addresses has gone from the interface, and we did not ask for it.
    pub(in crate::vrrp) fn address_lost(
        &mut self,
        now: Instant,
        ip: IpAddr,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        match self.holding.address_lost(now, ip, actions) {
            Removal::Ignored => {}
            Removal::PutBack => {
                self.warn(now, Warning::AddressPutBack { address: ip }, actions);
            }
            Removal::GivenUp => {
                self.faults.insert(Reason::AddressRemoved, Some(now + REMOVED_RETRY));
                self.reconcile_role(now, actions);
            }
        }
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
        self.reconcile_role(now, actions);
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
        if self.holding.contended(now) {
            self.warn(now, Warning::Contention { address: ip, mac }, actions);
        }
    }
}
