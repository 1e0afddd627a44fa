//! The source address of a virtual router's adverts: which of the host's addresses it is, or why
//! there is none.
//!
//! Peers may name it (`unicast_peers`, `accept_from`), and it decides between equal priorities. So
//! it must not depend on the order in which the kernel lists addresses, nor change as others come:
//! [`choose`] is the one rule for the daemon, `vipd check` and `vipd doctor`.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::config::{Family, Priority, RouterConfig};
use super::event::{AddressState, LinkAddress, Source};
use super::mark::Mark;
use super::reason::Reason;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The source, or why there is none.
    pub source: Result<IpAddr, Reason>,
    /// Other addresses that would do as well: only the rule decides between them, and nothing that
    /// the operator has written.
    pub others: Vec<IpAddr>,
    /// The rule needs to know which source the kernel would use for this peer.
    pub route_to: Option<IpAddr>,
}

impl Choice {
    fn decided(source: Result<IpAddr, Reason>) -> Self {
        Choice { source, others: Vec::new(), route_to: None }
    }

    /// That more than one address would do, if so.
    pub fn note(&self) -> Option<AmbiguousSource<'_>> {
        let source = *self.source.as_ref().ok()?;
        (!self.others.is_empty()).then_some(AmbiguousSource { source, others: &self.others })
    }
}

/// More than one address would do as the source. Shown as a sentence.
#[derive(Clone, Copy, Debug)]
pub struct AmbiguousSource<'a> {
    pub source: IpAddr,
    pub others: &'a [IpAddr],
}

impl AmbiguousSource<'_> {
    /// What to do about it.
    pub const HELP: &'static str = "write the one that the peers expect: source_address = \"...\"";
}

impl fmt::Display for AmbiguousSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "adverts come from {}; ", self.source)?;
        for (n, other) in self.others.iter().enumerate() {
            write!(f, "{}{other}", if n == 0 { "" } else { ", " })?;
        }
        f.write_str(" would do as well")
    }
}

/// Chooses among the `addresses` of the interface that carries the adverts. `shared` are the virtual
/// addresses of all virtual routers of this host, `routed` is the source that the kernel would use
/// for the first unicast peer, and `used` the one of the last advert.
///
/// `source_address` decides. Else an own address that `unicast_peers` or `accept_from` names, so that
/// one list can serve all hosts. Else one in a subnet of the peers: the one of the last advert as long as
/// it can be sent from and the settings are the same, or the numerically lowest. For routed peers: what
/// the kernel would use. An address whose duplicate address detection is not over is waited for rather
/// than passed over: the choice must not depend on how long that takes.
pub fn choose(
    config: &RouterConfig,
    addresses: &[LinkAddress],
    shared: &[IpAddr],
    routed: Option<IpAddr>,
    used: Option<Source>,
) -> Choice {
    if let Some(wanted) = config.source_address {
        let there = addresses.iter().find(|there| there.ip == wanted);
        return Choice::decided(there.map_or(Err(Reason::SourceAbsent(wanted)), sendable));
    }
    let own = own_addresses(config, addresses, shared);
    let peers = config.unicast_peers.iter().chain(&config.accept_from).flat_map(|list| list.iter());
    if let Some(named) = own.iter().find(|own| peers.clone().any(|peer| *peer == own.ip)) {
        return Choice::decided(sendable(named));
    }
    // Multicast peers that are not listed are most likely where the shared addresses are.
    let near = |own: &LinkAddress| match peers.clone().next() {
        Some(_) => peers.clone().any(|peer| own.subnet().contains(*peer)),
        None => config.addresses.iter().any(|shared| own.subnet().contains(shared.ip)),
    };
    let mut candidates: Vec<&LinkAddress> = own.iter().copied().filter(is_lasting).collect();
    let any_near = candidates.iter().any(|own| near(own));
    candidates.retain(|own| !any_near || near(own));
    let used = used.filter(|used| used.is_chosen_by(config));
    let used = own.iter().copied().find(|own| {
        let lasts = own.state != AddressState::Temporary || candidates.is_empty();
        used.is_some_and(|used| used.ip == own.ip)
            && own.sendable()
            && lasts
            && (!any_near || near(own))
    });
    let mut route_to = None;
    if !any_near && candidates.len() > 1 && used.is_none() {
        route_to = config.unicast_peers.as_ref().and_then(|peers| peers.first()).copied();
        if candidates.iter().any(|own| Some(own.ip) == routed) {
            candidates.retain(|own| Some(own.ip) == routed);
        }
    }
    let chosen = used.or(candidates.first().copied());
    let source =
        match chosen.or(own.iter().copied().find(|own| own.sendable())).or(own.first().copied()) {
            Some(chosen) => sendable(chosen),
            None if wants_link_local(config) => Err(Reason::NoLinkLocal),
            None => Err(Reason::NoAddress),
        };
    let others = candidates.iter().map(|own| own.ip).filter(|ip| source != Ok(*ip)).collect();
    Choice { source, others, route_to }
}

/// Whether it is worth choosing: it stays, or it will be usable in a moment.
fn is_lasting(address: &&LinkAddress) -> bool {
    match address.state {
        AddressState::Preferred | AddressState::Tentative => true,
        AddressState::Deprecated | AddressState::Temporary | AddressState::Duplicate => false,
    }
}

/// Whether adverts can be sent from it, or why not.
fn sendable(address: &LinkAddress) -> Result<IpAddr, Reason> {
    match address.state {
        AddressState::Preferred | AddressState::Deprecated | AddressState::Temporary => {
            Ok(address.ip)
        }
        AddressState::Tentative => Err(Reason::SourcePending),
        AddressState::Duplicate => Err(Reason::SourceDuplicate(address.ip)),
    }
}

/// The host's own addresses of the right kind, sorted. Those of an owner (priority 255) are its own,
/// too, but are used only if there is no other.
fn own_addresses<'a>(
    config: &RouterConfig,
    addresses: &'a [LinkAddress],
    shared: &[IpAddr],
) -> Vec<&'a LinkAddress> {
    let link_local = wants_link_local(config);
    let fits = |there: &&LinkAddress| {
        let kind = match there.ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(ip) => ip.is_unicast_link_local() == link_local,
        };
        Family::of(there.ip) == config.family && kind && there.mark == Mark::None
    };
    let mut own: Vec<&LinkAddress> = addresses.iter().filter(fits).collect();
    let is_own = |there: &&LinkAddress| !shared.contains(&there.ip);
    if config.priority != Priority::OWNER || own.iter().any(is_own) {
        own.retain(is_own);
    }
    own.sort_unstable_by_key(|own| own.ip);
    own
}

/// Over IPv6, adverts to the group (RFC 9568 5.1.2.1) and to link-local peers come from a link-local
/// address.
fn wants_link_local(config: &RouterConfig) -> bool {
    let is_link_local = |peer: &IpAddr| match peer {
        IpAddr::V4(_) => false,
        IpAddr::V6(peer) => peer.is_unicast_link_local(),
    };
    config.family == Family::V6
        && config.unicast_peers.as_ref().is_none_or(|peers| peers.iter().any(is_link_local))
}

/// What to say of a list of peers that names only this host, and what to do about it.
pub const WITHOUT_PEERS: (&str, &str) =
    ("`unicast_peers` names this host only: its adverts go to nobody", "name the other hosts, too");

/// Destinations of adverts: the multicast group, or the unicast peers without this host itself.
pub fn destinations(config: &RouterConfig, is_own: impl Fn(IpAddr) -> bool) -> Arc<[IpAddr]> {
    match &config.unicast_peers {
        None => Arc::from([config.family.multicast_group()]),
        Some(peers) => peers.iter().copied().filter(|peer| !is_own(*peer)).collect(),
    }
}
