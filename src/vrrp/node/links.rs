//! The links of a node, and the start of virtual routers when theirs are known.

use std::net::IpAddr;

use super::{Link, Node};
use crate::vrrp::action::Action;
use crate::vrrp::event::{LinkAddress, LinkState, MissingSockets};
use crate::vrrp::id::{LinkId, RouterId};
use crate::vrrp::mark::Mark;
use crate::vrrp::reason::Reason;
use crate::vrrp::router::{HostState, VirtualRouter};
use crate::vrrp::source::Choice;
use crate::vrrp::time::Instant;

impl Node {
    pub(super) fn link(
        &mut self,
        now: Instant,
        id: LinkId,
        state: Option<LinkState<'_>>,
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        let usable = match &state {
            None => Err(Reason::InterfaceMissing),
            Some(state) if !state.up => Err(Reason::LinkDown),
            Some(LinkState { port_of: Some(name), .. }) => Err(Reason::Port((*name).into())),
            Some(_) => Ok(()),
        };
        let LinkState { mac, addresses, .. } = state.unwrap_or_default();
        let mac_changed = link.mac.is_some() && mac.is_some() && link.mac != mac;
        link.usable = Some(usable);
        link.mac = mac;
        link.addresses.clear();
        link.addresses.extend_from_slice(addresses);
        self.update_foreign(id);
        for router in self.routers_on(id) {
            self.reevaluate(now, router, actions);
            if mac_changed {
                self.with(now, router, |router| router.mac_changed(now));
            }
        }
    }

    /// Which addresses of a link were not added for a virtual router of this node.
    pub(super) fn update_foreign(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        let has = |router| link.routers.binary_search_by_key(&router, |(known, _)| *known).is_ok();
        let foreign = link.addresses.iter().filter(|there| match there.mark {
            Mark::None => true,
            Mark::Router(family, vrid) => !has((family, vrid)),
            Mark::Unnamed => false,
        });
        link.foreign.clear();
        link.foreign.extend(foreign.map(|there| there.ip));
    }

    pub(super) fn sockets(
        &mut self,
        now: Instant,
        id: LinkId,
        missing: MissingSockets,
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get_mut(id.0 as usize) else { return };
        if std::mem::replace(&mut link.missing, missing) != missing {
            for router in self.routers_on(id) {
                self.reevaluate(now, router, actions);
            }
        }
    }

    pub(super) fn routers_on(&self, link: LinkId) -> Vec<RouterId> {
        let concerns =
            |router: &&VirtualRouter| router.link() == link || router.holding().held().link == link;
        self.routers().filter(concerns).map(VirtualRouter::id).collect()
    }

    /// The interfaces of a router's adverts and of what it holds.
    fn links_of(&self, router: &VirtualRouter) -> [Option<&Link>; 2] {
        [router.link(), router.holding().held().link].map(|link| self.links.get(link.0 as usize))
    }

    fn host_state(&self, router: &VirtualRouter) -> HostState<'_> {
        let links = self.links_of(router);
        let [adverts, held] = links.map(|link| link.map_or_else(Default::default, |l| l.missing));
        let lacks_socket = adverts.adverts(router.config().family) || held.announcements;
        let [addresses, held_addresses] =
            links.map(|link| link.map_or(&[][..], |link| &link.addresses));
        let [_, foreign] = links.map(|link| link.map_or(&[][..], |link| &link.foreign));
        HostState {
            unusable: links.into_iter().flatten().find_map(Link::unusable),
            lacks_socket,
            addresses,
            held_addresses,
            foreign,
            shared: &self.shared,
            drained: self.drained,
        }
    }

    /// The unicast peer for which a virtual router needs to know the kernel's choice of a source, if
    /// these are the addresses of its interface.
    pub fn route_to(&self, id: RouterId, addresses: &[LinkAddress]) -> Option<IpAddr> {
        self.router(id)?.choose_source(addresses, &self.shared).route_to
    }

    /// The choice of the source of a virtual router's adverts, as things are now.
    pub fn source_choice(&self, id: RouterId) -> Option<Choice> {
        let router = self.router(id)?;
        Some(router.choose_source(self.host_state(router).addresses, &self.shared))
    }

    fn links_are_known(&self, id: RouterId) -> bool {
        let Some(router) = self.router(id) else { return false };
        let is_known = |link: Option<&Link>| link.is_some_and(|link| link.usable.is_some());
        self.links_of(router).into_iter().all(is_known)
    }

    pub(super) fn reevaluate(&mut self, now: Instant, id: RouterId, actions: &mut Vec<Action>) {
        if !self.links_are_known(id) {
            return;
        }
        let starts = |node: &Node, id: &RouterId| {
            node.routers.get(id).is_some_and(|router| router.is_starting() && !router.is_retiring())
        };
        let together = self.with_group(id);
        if together.len() == 1 || !starts(self, &id) {
            self.within(now, id, |router, host| router.host_changed(now, host, actions));
        } else {
            // The members of a group start together: they resume if all of them can.
            let all = together.len();
            let starting: Vec<RouterId> =
                together.into_iter().filter(|id| starts(self, id)).collect();
            if starting.iter().all(|id| self.links_are_known(*id)) {
                self.start_together(now, &starting, starting.len() == all, actions);
            }
            for id in starting {
                self.apply_checks(now, id, actions);
            }
        }
        self.apply_checks(now, id, actions);
    }

    fn start_together(
        &mut self,
        now: Instant,
        starting: &[RouterId],
        all: bool,
        actions: &mut Vec<Action>,
    ) {
        for &id in starting {
            self.within(now, id, |router, host| {
                router.update_link(now, host);
            });
        }
        let sound = |id: &RouterId| self.router(*id).is_some_and(VirtualRouter::can_resume);
        let resumes = all && starting.iter().all(sound);
        for &id in starting {
            let failed = self.failed_beside(now, id);
            self.with(now, id, |router| {
                if !resumes {
                    router.share_fault(failed.as_ref());
                }
                router.start(now, resumes, actions);
            });
        }
    }

    /// As `with`, for calls that need the state of the host.
    pub(super) fn within(
        &mut self,
        now: Instant,
        id: RouterId,
        act: impl FnOnce(&mut VirtualRouter, HostState<'_>),
    ) {
        let Some(mut router) = self.routers.remove(&id) else { return };
        let before = router.member_state(now);
        let had = router.has_addresses();
        let host = self.host_state(&router);
        act(&mut router, host);
        if router.check_summary().unproven && had != router.has_addresses() {
            self.dirty_routers.push(id);
        }
        if before != router.member_state(now) {
            self.dirty_groups.extend(self.group_by_member.get(&id));
        }
        let deadlines = router.reschedule();
        self.routers.insert(id, router);
        self.schedule(id, deadlines);
    }
}

impl Link {
    /// Why it cannot be used.
    fn unusable(&self) -> Option<&Reason> {
        match &self.usable {
            Some(Ok(())) => None,
            Some(Err(reason)) => Some(reason),
            None => Some(&Reason::LinkDown),
        }
    }
}
