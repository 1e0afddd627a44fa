//! The state of the kernel: interfaces, addresses, routes and sysctls.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(super) use crate::host::netlink::InterfaceAddress as Address;
use crate::host::netlink::{InterfaceAddress, Link, Monitor, NetEvent};
use crate::host::route::source_towards;
use crate::vrrp::source::{self, Choice};
use crate::vrrp::{self, LinkAddress, RouterConfig, Source};

/// The kernel answers at once unless another process holds the rtnl lock.
const DUMP_TIMEOUT: Duration = Duration::from_secs(10);

/// All interfaces and addresses at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub links: Vec<Link>,
    pub addresses: Vec<InterfaceAddress>,
}

impl Snapshot {
    pub(super) fn take() -> io::Result<Self> {
        let mut monitor = Monitor::open()?;
        let (mut snapshot, mut synced) = (Snapshot::default(), false);
        let end = Instant::now() + DUMP_TIMEOUT;
        while !synced {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => {
                    let text = "the kernel did not answer with its addresses";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            monitor.read(|event| match event {
                NetEvent::Resync => snapshot = Snapshot::default(),
                NetEvent::Synced => synced = true,
                NetEvent::Link(link) => {
                    snapshot.links.retain(|known| known.index != link.index);
                    snapshot.links.push(link);
                }
                NetEvent::Address(found) => {
                    snapshot.forget(found.index, found.ip, found.prefix);
                    snapshot.addresses.push(found);
                }
                NetEvent::LinkGone { index } => snapshot.links.retain(|link| link.index != index),
                NetEvent::AddressGone { index, ip, prefix } => snapshot.forget(index, ip, prefix),
            })?;
        }
        Ok(snapshot)
    }

    fn forget(&mut self, index: u32, ip: IpAddr, prefix: u8) {
        self.addresses.retain(|a| (a.index, a.ip, a.prefix) != (index, ip, prefix));
    }

    /// The interface of this name or alternative name.
    pub(super) fn link(&self, name: &str) -> Option<&Link> {
        let has = |link: &&Link| link.name == name || link.alt_names.iter().any(|alt| alt == name);
        self.links.iter().find(has)
    }

    pub(super) fn addresses_of(&self, index: u32) -> impl Iterator<Item = &InterfaceAddress> {
        self.addresses.iter().filter(move |address| address.index == index)
    }

    /// The same as the protocol is told of them.
    pub(super) fn link_addresses(&self, index: u32) -> Vec<LinkAddress> {
        self.addresses_of(index).map(InterfaceAddress::link_address).collect()
    }

    /// The choice of the source of a virtual router's adverts, as the daemon makes it. `used` is the
    /// source that its adverts have now.
    pub(super) fn choose_source(
        &self,
        config: &vrrp::Config,
        router: &RouterConfig,
        index: u32,
        used: Option<IpAddr>,
    ) -> Choice {
        let addresses = self.link_addresses(index);
        let shared: Vec<IpAddr> =
            config.routers.iter().flat_map(RouterConfig::all_addresses).map(|a| a.ip).collect();
        let used = used.map(|ip| Source::of(ip, router));
        let choose = |routed| source::choose(router, &addresses, &shared, routed, used);
        let choice = choose(None);
        match choice.route_to {
            Some(peer) => choose(source_towards(index, peer)),
            None => choice,
        }
    }

    pub(super) fn name(&self, index: u32) -> &str {
        self.links.iter().find(|link| link.index == index).map_or("?", |link| &link.name)
    }

    pub(super) fn is_loopback(&self, index: u32) -> bool {
        self.links.iter().any(|link| link.index == index && link.loopback)
    }

    /// Other interfaces that are up and have an IPv4 address in a network of this one: most likely
    /// they are in the same LAN.
    pub(super) fn in_same_network(&self, link: &Link) -> Vec<&Link> {
        let own = |index| {
            self.addresses_of(index)
                .filter(|a| a.ip.is_ipv4() && a.prefix < 32 && a.mark == vrrp::Mark::None)
        };
        let others = self.links.iter().filter(|other| {
            other.index != link.index && other.up && !other.loopback && other.mac.is_some()
        });
        others
            .filter(|other| {
                own(other.index).any(|theirs| {
                    own(link.index).any(|ours| {
                        let prefix = ours.prefix.min(theirs.prefix);
                        vrrp::Address { prefix, ..ours.address() }.contains(theirs.ip)
                    })
                })
            })
            .collect()
    }
}

/// The address of some other host in the same network.
pub(super) fn neighbour(address: &InterfaceAddress) -> Option<IpAddr> {
    match address.ip {
        IpAddr::V4(ip) if address.prefix < 31 => {
            // Neither the network nor the broadcast address, unless the network is too small.
            let other = ip.to_bits() ^ if ip.to_bits() & 3 == 1 { 3 } else { 1 };
            Some(IpAddr::V4(other.into()))
        }
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// The effective value of an IPv4 sysctl: the maximum of `all` and the interface.
pub(super) fn ipv4_switch(interface: &str, name: &str) -> Option<u32> {
    let read = |of: &str| -> Option<u32> {
        let path = format!("/proc/sys/net/ipv4/conf/{}/{name}", of.replace('/', "."));
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some(read("all")?.max(read(interface)?))
}

/// Whether IPv6 is switched off on an interface, so that the kernel refuses its addresses.
pub(super) fn ipv6_disabled(interface: &str) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1")
}

/// The interface in the name of a sysctl: dots are written as slashes.
pub(super) fn sysctl(interface: &str) -> String {
    interface.replace('.', "/")
}

/// Whether a route has this preferred source address, except for those that the kernel itself added
/// with the address; if that is unknown, yes.
pub(super) fn is_source_of_a_route(ip: IpAddr) -> bool {
    let family = if ip.is_ipv4() { "-4" } else { "-6" };
    let source = ip.to_string();
    let arguments = [family, "-o", "route", "show", "table", "all", "src", &source];
    match Command::new("ip").args(arguments).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .lines()
            .any(|route| !route.contains(" proto kernel ")),
        Ok(_) | Err(_) => true,
    }
}

/// The interface of the route to an address; `None` if there is none.
///
/// # Errors
/// Why that is unknown, as a sentence.
pub(super) fn route(to: IpAddr) -> Result<Option<String>, String> {
    let output = Command::new("ip").args(["-j", "route", "get", &to.to_string()]).output();
    let output = output.map_err(|error| format!("the program ip cannot be run: {error}"))?;
    if !output.status.success() {
        return Ok(None);
    }
    let unknown = || "ip -j route get prints an unknown format".to_owned();
    let routes: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|_| unknown())?;
    let device = routes.pointer("/0/dev").and_then(serde_json::Value::as_str);
    Ok(Some(device.ok_or_else(unknown)?.to_owned()))
}
