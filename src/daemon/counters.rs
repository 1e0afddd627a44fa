//! Counters since the start of the daemon: of each virtual router, and of packets for none of them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::counters::{Counters, Word, count_discard};
use crate::vrrp::{Instant, Node, Role, RouterId, Transition, VirtualRouter};

/// The counters of the whole daemon.
#[derive(Debug, Default)]
pub(super) struct NodeCounters {
    /// Boxed, as half of a map's places are empty.
    routers: BTreeMap<RouterId, Box<RouterCounters>>,
    /// The sum over virtual routers that were removed, so that totals never fall.
    gone: Counters,
    /// Packets for no virtual router of this host, by reason.
    unmatched: BTreeMap<Word, u64>,
}

#[derive(Debug)]
pub(super) struct RouterCounters {
    /// Events since the start.
    pub counters: Counters,
    role: Role,
    since: Instant,
    spent: BTreeMap<Role, Duration>,
}

impl NodeCounters {
    /// Takes up the virtual routers that the node has now.
    pub(super) fn follow(&mut self, now: Instant, node: &Node) {
        for router in node.routers() {
            let new = || RouterCounters {
                counters: Counters::default(),
                role: router.role(),
                since: now,
                spent: BTreeMap::new(),
            };
            self.routers.entry(router.id()).or_insert_with(|| Box::new(new()));
        }
        self.routers.retain(|id, router_counters| {
            let stays = node.router(*id).is_some();
            if !stays {
                self.gone.add(&router_counters.counters);
            }
            stays
        });
    }

    /// The counters of a virtual router; of one that is gone, their sum.
    pub(super) fn of(&mut self, router: RouterId) -> &mut Counters {
        match self.routers.get_mut(&router) {
            Some(router_counters) => &mut router_counters.counters,
            None => &mut self.gone,
        }
    }

    /// Counts a packet that was discarded.
    pub(super) fn discarded(&mut self, meant: Option<RouterId>, why: &'static str) {
        match meant {
            Some(router) => self.of(router).discarded(why),
            None => count_discard(&mut self.unmatched, why),
        }
    }

    /// Counts a change of role.
    pub(super) fn changed(&mut self, now: Instant, transition: &Transition) {
        let (from, to) = (transition.from, transition.to);
        self.of(transition.router).changed(from.name(), to.name(), transition.why.name());
        if let Some(router_counters) = self.routers.get_mut(&transition.router) {
            *router_counters.spent.entry(router_counters.role).or_default() +=
                now - router_counters.since;
            (router_counters.role, router_counters.since) = (to, now);
        }
    }

    pub(super) fn router(&self, router: &VirtualRouter) -> Option<&RouterCounters> {
        self.routers.get(&router.id()).map(Box::as_ref)
    }

    /// Packets for no virtual router of this host, by reason.
    pub(super) fn unmatched(&self) -> &BTreeMap<Word, u64> {
        &self.unmatched
    }

    /// The sum over everything.
    pub(super) fn total(&self) -> Counters {
        let mut total = self.gone.clone();
        for router_counters in self.routers.values() {
            total.add(&router_counters.counters);
        }
        for (why, count) in &self.unmatched {
            total.adverts_received += count;
            *total.discards.entry(why.clone()).or_default() += count;
        }
        total
    }
}

impl RouterCounters {
    /// How long the virtual router has had each role.
    pub(super) fn spans(&self, now: Instant) -> BTreeMap<Role, Duration> {
        let mut spans = self.spent.clone();
        *spans.entry(self.role).or_default() += now - self.since;
        spans
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::vrrp::{Config, Event, Why};

    fn config(vrids: &[u8]) -> Config {
        let table = |vrid: &u8| {
            format!(
                "[[virtual_router]]\nname = \"v{vrid}\"\ninterface = \"eth0\"\nvrid = {vrid}\naddresses = [\"192.0.2.{vrid}\"]\n"
            )
        };
        let text: String = vrids.iter().map(table).collect();
        crate::config::Config::parse("test", &text).unwrap().vrrp
    }

    #[test]
    fn what_the_node_counts_never_falls_and_every_second_has_a_role() {
        let mut node = Node::new(&config(&[1, 2]));
        let mut node_counters = NodeCounters::default();
        node_counters.follow(Instant::START, &node);
        let ids: Vec<RouterId> = node.routers().map(VirtualRouter::id).collect();
        node_counters.of(ids[0]).adverts_sent = 5;
        node_counters.of(ids[1]).adverts_sent = 7;
        node_counters.discarded(Some(ids[0]), "ttl");
        node_counters.discarded(None, "unknown_router");
        let at = Instant::START + Duration::from_secs(3);
        let transition = Transition {
            router: ids[0],
            from: Role::Waiting,
            to: Role::Backup,
            why: Why::Started,
            priority: node.routers().next().unwrap().effective_priority(),
            before_release: false,
            held_back: false,
            hooks: true,
        };
        node_counters.changed(at, &transition);
        let spans = node_counters
            .router(node.routers().next().unwrap())
            .unwrap()
            .spans(at + Duration::from_secs(4));
        assert_eq!(spans[&Role::Waiting], Duration::from_secs(3));
        assert_eq!(spans[&Role::Backup], Duration::from_secs(4));
        let before = node_counters.total();
        assert_eq!((before.adverts_sent, before.adverts_received), (12, 1));
        assert_eq!((before.discards["ttl"], before.discards["unknown_router"]), (1, 1));
        // The second is removed, and what it sent stays sent.
        let mut actions = Vec::new();
        node.handle(at, Event::Reload(&config(&[1])), &mut actions).unwrap();
        let _ = node.handle(at, Event::Timeout, &mut actions);
        node_counters.follow(at, &node);
        assert_eq!(node_counters.total(), before);
        assert_eq!(node_counters.routers.len(), 1);
    }
}
