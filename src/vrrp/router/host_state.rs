//! The state of the host as far as a virtual router depends on it, and the faults that follow from
//! it.

use std::net::IpAddr;

use super::VirtualRouter;
use super::states::State;
use crate::vrrp::action::Action;
use crate::vrrp::config::Family;
use crate::vrrp::event::{Drain, LinkAddress};
use crate::vrrp::reason::Reason;
use crate::vrrp::time::Instant;

/// State of the host, kept by the node.
#[derive(Clone, Copy, Debug)]
pub(in crate::vrrp) struct HostState<'a> {
    /// Both the interface of the adverts and that of the held addresses are up.
    pub link_up: bool,
    /// The addresses of the interface that carries the adverts.
    pub addresses: &'a [LinkAddress],
    /// The addresses of the interface that carries, or is to carry, the held addresses.
    pub held_addresses: &'a [LinkAddress],
    /// The virtual addresses of all virtual routers of this host.
    pub shared: &'a [IpAddr],
    pub drained: Option<Drain>,
}

impl VirtualRouter {
    /// Interfaces, their addresses or `drained` may have changed.
    pub(in crate::vrrp) fn host_changed(
        &mut self,
        now: Instant,
        host: HostState<'_>,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        self.holding.retry_soon(now);
        self.reevaluate(now, host, actions);
    }

    pub(super) fn reevaluate(
        &mut self,
        now: Instant,
        host: HostState<'_>,
        actions: &mut Vec<Action>,
    ) {
        let (priority, skew) = (self.effective_priority(), self.skew());
        if self.update_link(now, host) {
            self.start(now, self.can_resume(), actions);
            return;
        }
        let changed = self.effective_priority() != priority;
        if changed && self.faults.is_empty() && self.drained != Some(Drain::Force) {
            self.priority_changed(now, priority, skew, actions);
        }
        let next_offer = self.next_offer(now);
        if let State::Master { offer_at, .. } = &mut self.state
            && offer_at.is_some() != next_offer.is_some()
        {
            *offer_at = next_offer;
        }
        self.reconcile_role(now, actions);
    }

    /// Records the state of the host without acting on it. Returns whether that was the first time.
    pub(in crate::vrrp) fn update_link(&mut self, now: Instant, host: HostState<'_>) -> bool {
        let starting = self.faults.remove(&Reason::Starting).is_some();
        let was_down = self.faults.contains_key(&Reason::LinkDown);
        let source = self.choose_source(host.addresses, host.shared);
        // An unadvertised one is only left out.
        let shared = |ip: IpAddr| self.config.addresses.iter().any(|address| address.ip == ip);
        let owner = self.is_owner();
        let foreign =
            !owner && host.held_addresses.iter().any(|there| !there.marked && shared(there.ip));
        let own = |ip| host.held_addresses.iter().any(|there| !there.marked && there.ip == ip);
        let missing =
            owner && host.link_up && !self.addresses().iter().all(|address| own(address.ip));
        self.set_fault(Reason::LinkDown, !host.link_up);
        self.set_fault(Reason::NoAddress, host.link_up && source.is_none());
        self.set_fault(Reason::AddressAlreadyThere, foreign);
        self.set_fault(Reason::AddressMissing, missing);
        if host.link_up && (was_down || starting) {
            self.heard_since_up = false;
            self.master = None;
            let delay = if starting {
                self.config.start_delay.max(self.config.link_delay)
            } else {
                self.config.link_delay
            };
            self.hold_until = self.hold_until.max(now + delay);
        }
        if source.is_some() {
            // If the source address went away, priority 0 is still to be sent from it.
            self.source = source;
        }
        // The owner has its addresses from the host, so they could not move.
        self.drained = host.drained.filter(|_| !owner);
        starting
    }

    /// The source address of our adverts: the configured one if the interface has it, else the
    /// first usable address of the interface that is not a virtual one. For IPv6 multicast it has
    /// to be link-local (RFC 9568 5.1.1.1, 5.1.2.1). An owner's addresses are the host's own, so it
    /// may use them.
    fn choose_source(&self, addresses: &[LinkAddress], shared: &[IpAddr]) -> Option<IpAddr> {
        let fits =
            |there: &&LinkAddress| there.usable && Family::of(there.ip) == self.config.family;
        let mut fitting = addresses.iter().filter(fits);
        if let Some(wanted) = self.config.source_address {
            return fitting.map(|there| there.ip).find(|ip| *ip == wanted);
        }
        let link_local = self.config.unicast_peers.is_none();
        fitting
            .find(|there| {
                let kind = match there.ip {
                    IpAddr::V4(_) => true,
                    IpAddr::V6(ip) => ip.is_unicast_link_local() == link_local,
                };
                let own = !there.marked && !shared.contains(&there.ip);
                kind && (own || (self.is_owner() && !there.marked))
            })
            .map(|there| there.ip)
    }

    fn set_fault(&mut self, reason: Reason, present: bool) {
        if present {
            self.faults.insert(reason, None);
        } else {
            self.faults.remove(&reason);
        }
    }
}
