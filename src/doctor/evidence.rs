//! What was observed about adverts: captured packets, known peers, and the daemon's status before
//! and after.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use super::kernel::Snapshot;
use super::wire;
use crate::api::status::Status;
use crate::config::Config;
use crate::host::netlink::Link;
use crate::vrrp::advert::{self, Heard};
use crate::vrrp::{Family, Role, RouterConfig};

/// A virtual router and its interface.
pub(super) struct Instance<'a> {
    pub router: &'a RouterConfig,
    pub link: &'a Link,
}

impl Instance<'_> {
    pub(super) fn unicast(&self) -> bool {
        self.router.unicast_peers.is_some()
    }
}

pub(super) struct Evidence<'a> {
    pub path: &'a Path,
    pub config: &'a Config,
    pub snapshot: &'a Snapshot,
    pub instances: &'a [Instance<'a>],
    pub heard: &'a BTreeMap<u32, wire::Capture>,
    pub before: Option<&'a Status>,
    pub after: Option<Status>,
}

impl Evidence<'_> {
    pub(super) fn passed(&self, index: u32) -> impl Iterator<Item = &wire::SeenAdvert> {
        self.heard.get(&index).into_iter().flat_map(|heard| &heard.passed)
    }

    /// The captured adverts of a virtual router.
    pub(super) fn adverts(&self, instance: &Instance<'_>) -> Vec<(&wire::SeenAdvert, Heard<'_>)> {
        self.passed(instance.link.index)
            .filter_map(|passed| {
                let heard =
                    advert::decode(passed.source, passed.destination, &passed.message).ok()?;
                Some((passed, heard))
            })
            .filter(|(_, heard)| {
                (heard.family, heard.vrid) == (instance.router.family, instance.router.vrid)
            })
            .collect()
    }

    /// Whether this host was master before and after the capture.
    pub(super) fn master(&self, router: &RouterConfig) -> (bool, bool) {
        let is = |status: Option<&Status>| {
            let router = status.and_then(|status| status.find(&router.name));
            router.is_some_and(|router| {
                matches!(router.role.parse(), Ok(Role::Master | Role::Leaving))
            })
        };
        (is(self.before), is(self.after.as_ref()))
    }

    /// Whether our daemon has sent adverts during the capture, perhaps as master for a moment.
    pub(super) fn sends(&self, router: &str) -> bool {
        let sent = |status: Option<&Status>| {
            status.and_then(|status| Some(status.find(router)?.counters.adverts_sent))
        };
        sent(self.before) < sent(self.after.as_ref())
    }

    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.snapshot.addresses.iter().any(|own| own.ip == address)
    }

    /// The source of a virtual router's adverts, if there is one.
    pub(super) fn source(&self, instance: &Instance<'_>) -> Option<IpAddr> {
        let Instance { router, link } = instance;
        let used = self.before.and_then(|status| status.find(&router.name)?.source);
        self.snapshot.choose_source(&self.config.vrrp, router, link.index, used).source.ok()
    }

    /// Other hosts of a virtual router: configured, reported by the daemon, or captured.
    pub(super) fn peers(&self, instance: &Instance<'_>) -> BTreeSet<IpAddr> {
        let named = [&instance.router.unicast_peers, &instance.router.accept_from];
        let named = named.into_iter().flatten().flat_map(|list| list.iter().copied());
        let router_status = self.before.and_then(|status| status.find(&instance.router.name));
        let heard =
            router_status.and_then(|router| router.heard.as_ref()).map(|heard| heard.address);
        let seen = self.adverts(instance).into_iter().filter(|(passed, _)| !passed.outgoing);
        let seen = seen.map(|(passed, _)| passed.source).collect::<Vec<_>>();
        named
            .chain(heard)
            .chain(seen)
            .filter(|peer| Family::of(*peer) == instance.router.family && !self.is_own(*peer))
            .collect()
    }

    pub(super) fn hears_no_peer(&self, instance: &Instance<'_>) -> bool {
        let router_status =
            self.after.as_ref().and_then(|status| status.find(&instance.router.name));
        let heard = router_status.is_some_and(|router| router.heard.is_some());
        !heard && !self.adverts(instance).iter().any(|(passed, _)| !passed.outgoing)
    }
}
