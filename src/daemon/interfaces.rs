//! The interfaces of the virtual routers: followed by name, and the sockets on each.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::source::{PendingEvent, Source};
use crate::host::advert_socket::AdvertSocket;
use crate::host::neighbours::NeighbourSocket;
use crate::host::netlink::{self, LinkChange, Links};
use crate::host::netlink::{InterfaceAddress, Monitor, NetEvent};
use crate::host::poller::Poller;
use crate::vrrp::{
    Address, AddressState, Binding, Delivery, Family, Held, Instant, LinkAddress, LinkId,
    LinkState, Mac, Mark, MissingSockets, Node, VirtualRouter, Vrid,
};

/// How long to wait before sockets that could not be opened are tried again, twice as long each time
/// ...
const SOCKET_RETRY: Duration = Duration::from_secs(1);
/// ... up to this.
const SOCKET_RETRY_MAX: Duration = Duration::from_secs(30);

/// What is known of the interfaces that virtual routers name, and the sockets opened on them.
pub(super) struct Interfaces {
    monitor: Monitor,
    links: Links,
    /// Whether `links` is complete: false from a request for everything until its answer.
    synced: bool,
    ids: BTreeMap<Arc<str>, LinkId>,
    /// The marks of the virtual routers on each interface.
    marks: BTreeMap<LinkId, Arc<[Mark]>>,
    /// Interfaces on which an earlier daemon may have left addresses.
    left: Vec<Arc<str>>,
    sockets: BTreeMap<LinkId, InterfaceSockets>,
    /// Some sockets could not be opened.
    lacks_sockets: bool,
    /// When to try again to open sockets that could not be opened, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
    /// Interfaces that have lost their name and are being left.
    lost: Vec<LinkId>,
    macs: Macs,
}

/// The link-layer addresses of all interfaces of this host.
#[derive(Default)]
struct Macs {
    by_index: BTreeMap<u32, [u8; 6]>,
    /// How many interfaces have each.
    counts: BTreeMap<[u8; 6], u32>,
}

impl Macs {
    /// The interface with this index has this one, or none.
    fn set(&mut self, index: u32, mac: Option<[u8; 6]>) {
        if let Some(old) = self.by_index.remove(&index)
            && let Entry::Occupied(mut count) = self.counts.entry(old)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if let Some(mac) = mac {
            self.by_index.insert(index, mac);
            *self.counts.entry(mac).or_default() += 1;
        }
    }
}

/// The sockets on one interface, until it has been left.
struct InterfaceSockets {
    name: Arc<str>,
    device: Binding,
    mac: Option<[u8; 6]>,
    v4: Option<AdvertSocket>,
    v6: Option<AdvertSocket>,
    neighbours: Option<NeighbourSocket>,
    missing: MissingSockets,
}

impl InterfaceSockets {
    fn new(name: &Arc<str>, found: &netlink::Link) -> Self {
        InterfaceSockets {
            name: name.clone(),
            device: Binding::new(found.index),
            mac: found.mac,
            v4: None,
            v6: None,
            neighbours: None,
            missing: MissingSockets::default(),
        }
    }

    fn adverts(&mut self, family: Family) -> &mut Option<AdvertSocket> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl Interfaces {
    /// Listens to the kernel, but not to the renewals that the netlink port `renewals` asks for.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket.
    pub(super) fn open(renewals: u32) -> io::Result<Self> {
        let monitor = Monitor::open()?;
        if let Err(error) = monitor.ignore_renewals(renewals) {
            debug!(%error, "every renewal will be reported");
        }
        Ok(Interfaces {
            monitor,
            links: Links::default(),
            synced: false,
            ids: BTreeMap::new(),
            marks: BTreeMap::new(),
            left: Vec::new(),
            sockets: BTreeMap::new(),
            lacks_sockets: false,
            retry: None,
            lost: Vec::new(),
            macs: Macs::default(),
        })
    }

    /// Readable when the kernel has reported something.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }

    /// Whether every interface has been reported: until then nothing is decided.
    pub(super) fn synced(&self) -> bool {
        self.synced
    }

    /// All interfaces that are or were named.
    pub(super) fn ids(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.ids.values().copied()
    }

    /// Also lists the addresses of these interfaces, which no virtual router need name.
    pub(super) fn also_list(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        self.left = names.into_iter().collect();
    }

    /// Follows the interfaces that the node's routers name now, and has everything reported again.
    ///
    /// # Errors
    /// The request cannot be sent.
    pub(super) fn follow(&mut self, node: &Node, poller: &Poller) -> io::Result<()> {
        for (id, name) in node.links() {
            self.ids.insert(name.clone(), id);
            let routers = routers_on(node, id).map(|router| Mark::of(router.config()));
            self.marks.insert(id, routers.collect());
            if !self.sockets.contains_key(&id) {
                self.bind(id, name, node, poller);
            }
        }
        self.links.watch(self.ids.keys().chain(&self.left).cloned());
        self.synced = false;
        let known: Vec<LinkId> = self.sockets.keys().copied().collect();
        for link in known {
            self.open_sockets(link, node, poller);
        }
        self.monitor.dump()
    }

    /// The sockets that could not be opened on an interface.
    pub(super) fn missing_sockets(&self, link: LinkId) -> MissingSockets {
        self.sockets.get(&link).map_or_else(MissingSockets::default, |sockets| sockets.missing)
    }

    /// Tries again to open sockets that could not be opened. Returns when to call this again.
    pub(super) fn retry_sockets(
        &mut self,
        now: Instant,
        node: &Node,
        poller: &Poller,
        pending: &mut VecDeque<PendingEvent>,
    ) -> Option<Instant> {
        if !self.lacks_sockets {
            self.retry = None;
            return None;
        }
        let (at, delay) = *self.retry.get_or_insert((now + SOCKET_RETRY, SOCKET_RETRY));
        if now < at {
            return Some(at);
        }
        let lacking = |sockets: &InterfaceSockets| {
            !sockets.device.is_lost() && sockets.missing != MissingSockets::default()
        };
        let links: Vec<LinkId> =
            self.sockets.iter().filter(|(_, it)| lacking(it)).map(|(link, _)| *link).collect();
        for link in links {
            self.open_sockets(link, node, poller);
            pending.push_back(PendingEvent::Link(link));
        }
        self.lacks_sockets = self.sockets.values().any(lacking);
        let delay = (2 * delay).min(SOCKET_RETRY_MAX);
        self.retry = Some((now + delay, delay));
        Some(now + delay)
    }

    /// The advert socket of one address family on an interface.
    pub(super) fn adverts(&mut self, link: LinkId, family: Family) -> Option<&mut AdvertSocket> {
        self.sockets.get_mut(&link)?.adverts(family).as_mut()
    }

    /// The socket for announcements on an interface.
    pub(super) fn neighbours(&mut self, link: LinkId) -> Option<&mut NeighbourSocket> {
        self.sockets.get_mut(&link)?.neighbours.as_mut()
    }

    /// The multicast groups that routers on an interface use, as far as these have a link-layer
    /// address.
    pub(super) fn groups(&self, link: LinkId, node: &Node) -> Vec<Address> {
        let ethernet = self.sockets.get(&link).is_some_and(|sockets| sockets.mac.is_some());
        let used = |family: &Family| {
            routers_on(node, link).map(VirtualRouter::config).any(|config| {
                ethernet && config.family == *family && config.unicast_peers.is_none()
            })
        };
        let used = [Family::V4, Family::V6].into_iter().filter(used);
        used.map(|family| Address::host(family.multicast_group())).collect()
    }

    /// The index of the device that is acted on. It may have lost the name.
    pub(super) fn index(&self, link: LinkId) -> Option<u32> {
        self.sockets.get(&link).map(|sockets| sockets.device.index())
    }

    /// Whether a link is of this name.
    pub(super) fn has_name(&self, link: LinkId, interface: &str) -> bool {
        self.ids.get(interface) == Some(&link)
    }

    /// The kernel's number of the interface of this name, if it exists.
    pub(super) fn index_of(&self, interface: &str) -> Option<u32> {
        self.links.link(interface).map(|link| link.index)
    }

    /// The interface, unless it has lost its name.
    fn bound(&self, link: LinkId) -> Option<&InterfaceSockets> {
        self.sockets.get(&link).filter(|sockets| !sockets.device.is_lost())
    }

    /// The state of an interface, which has these addresses, if there is one.
    pub(super) fn state<'a>(
        &'a self,
        link: LinkId,
        addresses: &'a [LinkAddress],
    ) -> Option<LinkState<'a>> {
        let link = self.links.link(&self.bound(link)?.name)?;
        let port_of = self.links.port_of(link);
        Some(LinkState { up: link.up, port_of, mac: link.mac.map(Mac), addresses })
    }

    /// The addresses of the interface of this name, in the kernel's order.
    pub(super) fn addresses(&self, interface: &str) -> &[InterfaceAddress] {
        self.links.addresses(interface)
    }

    /// The addresses of an interface that a virtual router names, in the kernel's order.
    pub(super) fn addresses_on(&self, link: LinkId) -> &[InterfaceAddress] {
        self.bound(link).map_or(&[], |sockets| self.links.addresses(&sockets.name))
    }

    /// The marks of the virtual routers on an interface.
    pub(super) fn marks(&self, link: LinkId) -> Arc<[Mark]> {
        self.marks.get(&link).cloned().unwrap_or_default()
    }

    /// Whether an address of an interface with this mark, which a virtual router there names, is ours.
    pub(super) fn is_ours(&self, link: LinkId, mark: Mark) -> bool {
        self.marks.get(&link).is_some_and(|ours| ours.iter().any(|router| mark.is_of(*router)))
    }

    /// A link-local address of an interface to ask its neighbours from.
    pub(super) fn link_local(&self, link: LinkId) -> Option<Ipv6Addr> {
        self.addresses_on(link).iter().find_map(|there| match there.ip {
            IpAddr::V6(ip)
                if ip.is_unicast_link_local()
                    && there.state == AddressState::Preferred
                    && there.mark == Mark::None =>
            {
                Some(ip)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
    }

    /// Whether an interface of this host has this link-layer address.
    pub(super) fn has_mac(&self, mac: Mac) -> bool {
        self.macs.counts.contains_key(&mac.0)
    }

    /// Whether the interface is known to have none of these addresses.
    pub(super) fn has_none(&self, held: &Held) -> bool {
        let there = self.addresses_on(held.link).iter();
        let there: HashSet<IpAddr> = there.map(|address| address.ip).collect();
        self.synced && !held.addresses.iter().any(|address| there.contains(&address.ip))
    }

    /// Whether the interface is known to have all of these addresses, as ours. `known` is the
    /// answer of the last time and the state of the interface it was about: looked up again only if
    /// something has changed.
    pub(super) fn has_all(&self, held: &Held, known: &mut Option<(u64, bool)>) -> bool {
        let Some(sockets) = self.bound(held.link) else { return false };
        let interface = &*sockets.name;
        let changes = self.links.changes(interface);
        let current = known.filter(|(as_of, _)| *as_of == changes);
        let look = || {
            let there = self.links.addresses(interface);
            let ours = there.iter().filter(|there| self.is_ours(held.link, there.mark));
            let ours = ours.map(InterfaceAddress::address);
            let ours: HashSet<Address> = ours.collect();
            held.addresses.iter().all(|address| ours.contains(&Address::host(address.ip)))
        };
        let (_, all) = *known.insert(current.unwrap_or_else(|| (changes, look())));
        all && self.synced
    }

    /// Reads what the kernel has reported.
    ///
    /// # Errors
    /// The netlink socket itself fails.
    pub(super) fn receive(
        &mut self,
        node: &Node,
        poller: &Poller,
        pending: &mut VecDeque<PendingEvent>,
    ) -> io::Result<()> {
        let mut changes = Vec::new();
        let (links, synced, macs) = (&mut self.links, &mut self.synced, &mut self.macs);
        self.monitor.read(|event| {
            match &event {
                NetEvent::Resync => {
                    *synced = false;
                    *macs = Macs::default();
                }
                NetEvent::Synced => *synced = true,
                NetEvent::Link(link) => macs.set(link.index, link.mac),
                NetEvent::LinkGone { index } => macs.set(*index, None),
                NetEvent::Address(_) | NetEvent::AddressGone { .. } => {}
            }
            links.apply(event, |change| changes.push(change));
        })?;
        for change in changes {
            self.changed(change, node, poller, pending);
        }
        if self.links.incomplete() {
            self.monitor.dump()?;
        }
        Ok(())
    }

    fn changed(
        &mut self,
        change: LinkChange,
        node: &Node,
        poller: &Poller,
        pending: &mut VecDeque<PendingEvent>,
    ) {
        match change {
            LinkChange::Appeared { name, link: found }
            | LinkChange::Changed { name, link: found } => {
                let Some(&link) = self.ids.get(&name) else { return };
                match self.sockets.get_mut(&link) {
                    None => self.bind(link, &name, node, poller),
                    // What it sends and ignores depends on the address.
                    Some(sockets) if !sockets.device.is_lost() && sockets.mac != found.mac => {
                        sockets.mac = found.mac;
                        sockets.neighbours = None;
                        self.open_sockets(link, node, poller);
                    }
                    Some(_) => {}
                }
                if found.up {
                    pending.push_back(PendingEvent::Groups(link));
                }
                pending.push_back(PendingEvent::Link(link));
            }
            LinkChange::Gone { name, renamed } => {
                let Some(&link) = self.ids.get(&name) else { return };
                let how = if renamed { "was renamed" } else { "is gone" };
                warn!(interface = %name, "the interface {how}; waiting for one of this name");
                if let Some(sockets) = self.sockets.get_mut(&link) {
                    sockets.device.lose();
                    if !renamed {
                        (sockets.v4, sockets.v6, sockets.neighbours) = (None, None, None);
                    }
                    self.lost.push(link);
                }
                pending.push_back(PendingEvent::Link(link));
            }
            LinkChange::Addresses { name } | LinkChange::Foreign { name, .. } => {
                let Some(&link) = self.ids.get(&name) else { return };
                let reported =
                    |event: &PendingEvent| matches!(event, PendingEvent::Link(id) if *id == link);
                if pending.iter().any(reported) {
                    return;
                }
                if self.missing_sockets(link) != MissingSockets::default() {
                    // A family that was switched off may have been switched on.
                    self.open_sockets(link, node, poller);
                }
                pending.push_back(PendingEvent::Link(link));
            }
            LinkChange::Lost { name, ip } => {
                let Some(&link) = self.ids.get(&name) else { return };
                for router in node.routers().filter(|router| router.holding().has(link, ip)) {
                    pending.push_back(PendingEvent::AddressGone(router.id(), ip));
                }
            }
        }
    }

    /// Uses the interfaces that have the names of those that were lost, where these have been left.
    pub(super) fn bind_anew(
        &mut self,
        node: &Node,
        delivery: &Delivery,
        poller: &Poller,
        pending: &mut VecDeque<PendingEvent>,
    ) {
        for link in std::mem::take(&mut self.lost) {
            let Some(sockets) = self.sockets.get(&link) else { continue };
            if !sockets.device.is_left(link, node, delivery) {
                self.lost.push(link);
                continue;
            }
            let name = sockets.name.clone();
            self.sockets.remove(&link);
            self.bind(link, &name, node, poller);
            pending.extend([PendingEvent::Groups(link), PendingEvent::Link(link)]);
        }
    }

    /// Uses the interface that has this name, if there is one.
    fn bind(&mut self, link: LinkId, name: &Arc<str>, node: &Node, poller: &Poller) {
        let Some(found) = self.links.link(name) else { return };
        info!(interface = %name, index = found.index, "interface found");
        self.sockets.insert(link, InterfaceSockets::new(name, found));
        self.open_sockets(link, node, poller);
    }

    /// Opens the sockets that the routers on this link need, and tells the kernel what to pass.
    fn open_sockets(&mut self, link: LinkId, node: &Node, poller: &Poller) {
        let Some(name) = self.ids.iter().find(|(_, id)| **id == link).map(|(name, _)| name.clone())
        else {
            return;
        };
        let bound = |sockets: &&mut InterfaceSockets| !sockets.device.is_lost();
        let Some(sockets) = self.sockets.get_mut(&link).filter(bound) else { return };
        for family in [Family::V4, Family::V6] {
            let vrids: Vec<Vrid> = routers_on(node, link)
                .filter(|router| router.config().family == family)
                .map(|router| router.config().vrid)
                .collect();
            let known = sockets.missing.adverts(family);
            let outcome = sockets.open_adverts(link, family, &vrids, poller);
            *sockets.missing.adverts_mut(family) = outcome.is_err();
            if let Err(error) = outcome
                && !known
            {
                warn!(interface = %name, %family, %error, "cannot open the advert socket");
            }
        }
        let addresses: Vec<IpAddr> = node
            .routers()
            .map(|router| router.holding().held())
            .filter(|held| held.link == link)
            .flat_map(|held| held.addresses.iter())
            .map(|a| a.ip)
            .collect();
        let outcome = sockets.open_neighbours(link, &addresses, poller);
        let known = std::mem::replace(&mut sockets.missing.announcements, outcome.is_err());
        if let Err(error) = outcome
            && !known
        {
            warn!(interface = %name, %error, "cannot open the announcement socket");
        }
        self.lacks_sockets |= sockets.missing != MissingSockets::default();
    }
}

impl InterfaceSockets {
    fn open_adverts(
        &mut self,
        link: LinkId,
        family: Family,
        vrids: &[Vrid],
        poller: &Poller,
    ) -> io::Result<()> {
        let index = self.device.index();
        let slot = self.adverts(family);
        if vrids.is_empty() {
            *slot = None;
            return Ok(());
        }
        if let Some(socket) = slot {
            return socket.listen_for(vrids);
        }
        let socket = AdvertSocket::open(index, family)?;
        socket.listen_for(vrids)?;
        poller.add(socket.as_fd(), Source::Adverts(link, family).token())?;
        *slot = Some(socket);
        Ok(())
    }

    fn open_neighbours(
        &mut self,
        link: LinkId,
        addresses: &[IpAddr],
        poller: &Poller,
    ) -> io::Result<()> {
        if self.neighbours.is_none() {
            let socket = NeighbourSocket::open(self.device.index(), self.mac)?;
            poller.add(socket.as_fd(), Source::Neighbours(link).token())?;
            self.neighbours = Some(socket);
        }
        match &mut self.neighbours {
            Some(socket) => socket.watch(addresses),
            None => Ok(()),
        }
    }
}

fn routers_on(node: &Node, link: LinkId) -> impl Iterator<Item = &VirtualRouter> + '_ {
    node.routers().filter(move |router| router.link() == link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_mac_address_is_known_as_long_as_an_interface_has_it() {
        let (one, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let mut macs = Macs::default();
        let known = |macs: &Macs| [one, other].map(|mac| macs.counts.contains_key(&mac));
        macs.set(1, Some(one));
        macs.set(2, Some(one));
        macs.set(2, Some(other));
        assert_eq!(known(&macs), [true, true]);
        macs.set(1, None);
        macs.set(3, None);
        assert_eq!(known(&macs), [false, true]);
    }
}
