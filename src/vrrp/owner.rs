//! The owner of the addresses (priority 255) has them from its host: which of them it cannot use, and
//! the command by which an operator mends that.
//!
//! What is the host's own is never added, replaced or removed here, and until it can be used the owner
//! sends nothing, so that a backup goes on serving it. Over IPv6 that backup makes duplicate address
//! detection fail when the owner's host boots. Hence the command adds the address without it: the
//! owner's first advert then makes the backup release it.

use std::net::IpAddr;

use super::config::{Address, Priority, RouterConfig};
use super::event::{AddressState, LinkAddress};
use super::mark::Mark;
use super::reason::{OwnAddress, Reason};

/// Why the owner cannot take part, if `there` are the addresses of its interface. None for others.
pub fn faults<'a>(
    config: &'a RouterConfig,
    there: &'a [LinkAddress],
) -> impl Iterator<Item = Reason> + 'a {
    let owned = (config.priority == Priority::OWNER).then(|| config.all_addresses());
    owned.into_iter().flatten().filter_map(move |address| fault(config, there, address))
}

fn fault(config: &RouterConfig, there: &[LinkAddress], address: Address) -> Option<Reason> {
    let own = |address| OwnAddress { address, interface: config.interface.clone() };
    let Some(found) = there.iter().find(|there| there.mark == Mark::None && there.ip == address.ip)
    else {
        let prefix = subnet_prefix(there, address.ip).unwrap_or(address.prefix);
        return Some(Reason::AddressMissing(own(Address { prefix, ..address })));
    };
    match found.state {
        AddressState::Preferred | AddressState::Deprecated | AddressState::Temporary => None,
        AddressState::Tentative => Some(Reason::AddressPending(own(found.subnet()))),
        AddressState::Duplicate => Some(Reason::AddressDuplicate(own(found.subnet()))),
    }
}

/// The prefix length of the subnet of the interface that it is in.
fn subnet_prefix(there: &[LinkAddress], ip: IpAddr) -> Option<u8> {
    let own = there.iter().filter(|there| there.mark == Mark::None).map(LinkAddress::subnet);
    own.filter(|subnet| subnet.contains(ip)).map(|subnet| subnet.prefix).max()
}
