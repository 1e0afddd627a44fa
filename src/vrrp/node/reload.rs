//! Reload: virtual routers are added, changed and removed.

use std::collections::BTreeSet;

use super::{Link, Node};
use crate::vrrp::action::Action;
use crate::vrrp::config::{Config, RouterConfig};
use crate::vrrp::event::MissingSockets;
use crate::vrrp::id::{LinkId, RouterId};
use crate::vrrp::role::Leave;
use crate::vrrp::router::VirtualRouter;
use crate::vrrp::time::Instant;

impl Node {
    /// Takes a new configuration. Virtual routers are matched by interface, family and VRID,
    /// whatever their names. Those that are equal are not touched, those that are missing leave,
    /// and new ones start. All releases come before all claims, as an address may move from one to
    /// another.
    pub(super) fn reload(&mut self, now: Instant, config: &Config, actions: &mut Vec<Action>) {
        if self.stop.is_some() {
            return;
        }
        let known = |node: &Node, wanted: &RouterConfig| -> Option<RouterId> {
            let same = |router: &&VirtualRouter| router.config().identity() == wanted.identity();
            node.routers().find(same).map(VirtualRouter::id)
        };
        let matched: Vec<Option<RouterId>> =
            config.routers.iter().map(|wanted| known(self, wanted)).collect();
        let staying: BTreeSet<RouterId> = matched.iter().flatten().copied().collect();
        let leaving: Vec<RouterId> =
            self.order.iter().copied().filter(|id| !staying.contains(id)).collect();
        for &id in &leaving {
            if self.group_of(id).is_some_and(|g| g.members().iter().any(|id| staying.contains(id)))
            {
                // It leaves a group that remains, and the group's hooks are not its own.
                self.with(now, id, VirtualRouter::hooks_suppressed);
            }
            let at_once = self.router(id).is_some_and(|router| {
                router.addresses().iter().any(|address| {
                    let mut wanted = config.routers.iter().flat_map(RouterConfig::all_addresses);
                    wanted.any(|other| other.ip == address.ip)
                })
            });
            self.with(now, id, |router| router.retire(now, Leave::Removed, at_once, actions));
        }
        for (wanted, id) in config.routers.iter().zip(&matched) {
            if let Some(id) = id {
                self.with(now, *id, |router| router.reload_release(now, wanted, actions));
            }
        }
        self.leaving.clone_from(&leaving);
        self.order = matched
            .iter()
            .zip(&config.routers)
            .map(|(id, wanted)| id.unwrap_or_else(|| self.add(wanted, now)))
            .chain(leaving.iter().copied())
            .collect();
        let leave = leaving.iter().filter_map(|id| self.router(*id));
        self.shared = leave
            .flat_map(|router| router.addresses().iter().copied())
            .chain(config.routers.iter().flat_map(RouterConfig::all_addresses))
            .map(|address| address.ip)
            .collect();
        self.shared.sort_unstable();
        self.shared.dedup();
        for link in (0..self.links.len() as u32).map(LinkId) {
            self.update_foreign(link);
        }
        self.update_checks(now, config);
        for (id, wanted) in self.order.clone().into_iter().zip(&config.routers) {
            self.within(now, id, |router, host| router.reload(now, wanted, host, actions));
        }
        self.update_holders();
        let ungrouped = self.regroup(now, config);
        for id in self.order.clone() {
            self.apply_checks(now, id, actions);
            if !staying.contains(&id) {
                self.reevaluate(now, id, actions);
            }
        }
        for id in ungrouped {
            self.share_fault(now, id, None, actions);
        }
    }

    pub(super) fn add(&mut self, config: &RouterConfig, now: Instant) -> RouterId {
        let link = match self.links.iter().position(|link| link.name == config.interface) {
            Some(index) => index,
            None => {
                let name = config.interface.clone();
                self.links.push(Link {
                    name,
                    usable: None,
                    mac: None,
                    missing: MissingSockets::default(),
                    addresses: Vec::new(),
                    routers: Vec::new(),
                    foreign: Vec::new(),
                });
                self.links.len() - 1
            }
        };
        let id = RouterId(self.next_id);
        self.next_id += 1;
        let on_link = &mut self.links[link].routers;
        let identity = (config.family, config.vrid);
        let place = on_link.partition_point(|(other, _)| *other < identity);
        on_link.insert(place, (identity, id));
        let link = LinkId(link as u32);
        self.routers.insert(id, Box::new(VirtualRouter::new(id, link, config, now)));
        id
    }

    pub(super) fn update_shared(&mut self) {
        self.shared =
            self.routers.values().flat_map(|r| r.addresses().iter()).map(|a| a.ip).collect();
        self.shared.sort_unstable();
        self.shared.dedup();
        self.update_holders();
    }

    fn update_holders(&mut self) {
        self.holders.clear();
        for (id, router) in &self.routers {
            self.holders.extend(router.addresses().iter().map(|address| (address.ip, *id)));
        }
        self.holders.sort_unstable();
    }

    /// Forgets removed routers that have released their addresses. Not before the next event, so
    /// that drivers can still look them up while they carry out the last actions.
    pub(super) fn forget_removed(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        let leaving = std::mem::take(&mut self.leaving);
        let is_removed = |id: &RouterId| self.router(*id).is_none_or(VirtualRouter::is_removed);
        let (gone, leaving) = leaving.into_iter().partition(is_removed);
        let gone: Vec<RouterId> = gone;
        self.leaving = leaving;
        for id in gone {
            if let Some(mut router) = self.routers.remove(&id) {
                let [before, _] = router.reschedule();
                self.schedule(id, [before, None]);
            }
            self.order.retain(|other| *other != id);
            for link in &mut self.links {
                link.routers.retain(|(_, other)| *other != id);
            }
            for link in (0..self.links.len() as u32).map(LinkId) {
                self.update_foreign(link);
            }
            self.forget_member(id);
            self.update_shared();
        }
    }
}
