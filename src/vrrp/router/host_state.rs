//! The state of the host as far as a virtual router depends on it, and the faults that follow from
//! it.

use std::net::IpAddr;

use super::VirtualRouter;
use crate::vrrp::action::Action;
use crate::vrrp::event::{Drain, LinkAddress, Source};
use crate::vrrp::owner;
use crate::vrrp::reason::Reason;
use crate::vrrp::source::{self, Choice};
use crate::vrrp::time::Instant;
use crate::vrrp::warning::Warning;

/// State of the host, kept by the node.
#[derive(Clone, Copy, Debug)]
pub(in crate::vrrp) struct HostState<'a> {
    /// Why the interface of the adverts, or that of the held addresses, cannot be used.
    pub unusable: Option<&'a Reason>,
    /// A socket that it needs cannot be opened.
    pub lacks_socket: bool,
    /// The addresses of the interface that carries the adverts.
    pub addresses: &'a [LinkAddress],
    /// The addresses of the interface that carries, or is to carry, the held addresses.
    pub held_addresses: &'a [LinkAddress],
    /// Those of them that were not added for a virtual router of this daemon.
    pub foreign: &'a [IpAddr],
    /// The virtual addresses of all virtual routers of this host.
    pub shared: &'a [IpAddr],
    pub drained: Option<Drain>,
}

/// The interface does not have the source of the adverts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct MissingSource {
    /// What follows: another source, or a fault.
    then: Result<IpAddr, Reason>,
    /// Not before this: an address is often gone for a moment while a program replaces it. `None`:
    /// that time is over.
    pub(super) grace: Option<Instant>,
    /// There was none since the start or since the link came up, so it has to be waited for.
    waits: bool,
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
        let had = self.missing_source.is_some();
        let starting = self.update_link(now, host);
        if let Some(source) = self.source
            && !had
            && self.missing_source.as_ref().is_some_and(|missing| missing.grace.is_some())
            && self.has_addresses()
        {
            self.warn(now, Warning::SourceGone { source }, actions);
        }
        if starting {
            self.start(now, self.can_resume(), actions);
            return;
        }
        let changed = self.effective_priority() != priority;
        if changed && self.faults.is_empty() && self.drained != Some(Drain::Force) {
            self.priority_changed(now, priority, skew, actions);
        }
        self.reconcile_role(now, actions);
    }

    /// Records the state of the host without acting on it. Returns whether that was the first time.
    pub(in crate::vrrp) fn update_link(&mut self, now: Instant, host: HostState<'_>) -> bool {
        let starting = self.faults.remove(&Reason::Starting).is_some();
        let was_unusable = self.faults.keys().any(Reason::is_of_interface);
        let usable = host.unusable.is_none();
        // An unadvertised one is only left out.
        let shared = |ip: IpAddr| self.config.addresses.iter().any(|address| address.ip == ip);
        let owner = self.is_owner();
        let foreign = !owner && host.foreign.iter().any(|ip| shared(*ip));
        let owned = owner::faults(&self.config, host.held_addresses).filter(|_| usable);
        let owned: Vec<Reason> = owned.collect();
        self.faults.retain(|reason, _| !reason.is_of_interface() && !reason.is_of_owner());
        self.faults.extend(host.unusable.map(|reason| (reason.clone(), None)));
        self.faults.extend(owned.into_iter().map(|reason| (reason, None)));
        self.set_fault(Reason::AddressAlreadyThere, foreign);
        if usable && (was_unusable || starting) {
            self.heard_since_up = false;
            self.master = None;
            let delay = if starting {
                self.config.start_delay.max(self.config.link_delay)
            } else {
                self.config.link_delay
            };
            self.hold_until = self.hold_until.max(now + delay);
        }
        self.update_source(now, host, was_unusable);
        // Without an address the address family may be switched off, and no socket be wanted.
        let wants_socket = usable && self.missing_source.is_none();
        self.set_fault(Reason::NoSocket, wants_socket && host.lacks_socket);
        // The owner has its addresses from the host, so they could not move.
        self.drained = host.drained.filter(|_| !owner);
        starting
    }

    /// Chooses the source of the adverts anew. While the interface does not have the one in use, adverts
    /// go on from it for three intervals; priority 0 is sent from it in the end.
    fn update_source(&mut self, now: Instant, host: HostState<'_>, came_up: bool) {
        let found = self.choose_source(host.addresses, host.shared).source;
        let has =
            |ip: IpAddr| host.addresses.iter().any(|there| there.ip == ip && there.sendable());
        let lost =
            self.used_source().is_some_and(|used| !has(used.ip) && used.is_chosen_by(&self.config));
        let known = self.missing_source.take().filter(|_| !came_up);
        let grace = now + self.config.advert_interval.peer_timeout();
        match found {
            _ if host.unusable.is_some() => {}
            Ok(ip) if !lost || known.as_ref().is_some_and(|known| known.grace.is_none()) => {
                self.set_source(ip);
            }
            Err(Reason::SourceDuplicate(_)) => {
                self.missing_source =
                    Some(MissingSource { then: found, grace: None, waits: false });
            }
            Ok(_) | Err(_) => {
                let waits = came_up || self.source.is_none();
                let new = || MissingSource { then: found.clone(), grace: Some(grace), waits };
                let known = known.unwrap_or_else(new);
                self.missing_source = Some(MissingSource { then: found, ..known });
            }
        }
        self.to = source::destinations(&self.config, |ip| has(ip) || self.source == Some(ip));
        self.apply_missing_source();
    }

    /// The source that adverts were sent from.
    fn used_source(&self) -> Option<Source> {
        let ip = self.source.filter(|_| self.source_used)?;
        Some(Source { ip, settings: self.source_settings })
    }

    /// The source of adverts among these addresses, or why there is none.
    pub(in crate::vrrp) fn choose_source(
        &self,
        addresses: &[LinkAddress],
        shared: &[IpAddr],
    ) -> Choice {
        source::choose(&self.config, addresses, shared, self.routed, self.used_source())
    }

    fn apply_missing_source(&mut self) {
        self.faults.retain(|reason, _| !reason.is_about_source());
        if let Some(missing) = &self.missing_source {
            match missing.grace {
                None => match missing.then.clone() {
                    Ok(ip) => {
                        self.set_source(ip);
                        self.missing_source = None;
                    }
                    Err(reason) => {
                        self.faults.insert(reason, None);
                    }
                },
                Some(_) if missing.waits => {
                    self.faults.insert(Reason::SourcePending, None);
                }
                Some(_) => {}
            }
        }
    }

    fn set_source(&mut self, ip: IpAddr) {
        self.source = Some(ip);
        self.source_settings = self.config.source_settings(ip);
    }

    /// Until when a missing source may come back.
    pub(super) fn source_grace(&self) -> Option<Instant> {
        self.missing_source.as_ref().and_then(|missing| missing.grace)
    }

    /// The source may have been missing for too long.
    pub(super) fn check_source_grace(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(missing) = &mut self.missing_source
            && missing.grace.is_some_and(|until| until <= now)
        {
            missing.grace = None;
            self.apply_missing_source();
            self.reconcile_role(now, actions);
        }
    }

    fn set_fault(&mut self, reason: Reason, present: bool) {
        if present {
            self.faults.insert(reason, None);
        } else {
            self.faults.remove(&reason);
        }
    }
}
