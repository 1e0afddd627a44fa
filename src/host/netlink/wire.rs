//! The format of rtnetlink messages: decoding interfaces and addresses, encoding requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLMSG_ERROR, NetlinkBuffer, NetlinkMessage, NlasIterator};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::error::AddressError;
use super::groups::NeighbourTable;
use crate::vrrp::{Address, AddressState, Family, LinkAddress, Mark, Vrid};

/// The `IFA_PROTO` (Linux 5.18) of addresses that vipd has claimed: the IP protocol number of VRRP.
/// For which virtual router, the metric says.
pub const IFA_PROTO_VIPD: u8 = 112;

/// The metric (`IFA_RT_PRIORITY`) of an address that was added for VRID 0 of each family; other VRIDs
/// follow. The kernel keeps the metric for the route to the subnet, which addresses of ours do not
/// have, so it has no other meaning.
const ADDRESS_METRICS: [(Family, u32); 2] = [(Family::V4, 4000), (Family::V6, 6000)];

/// The metric of routes to the subnets of virtual addresses: whatever other route the host has to the
/// subnet goes first.
const METRIC: u32 = 1 << 30;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index. An interface that is deleted and created again gets another one.
    pub index: u32,
    pub name: String,
    /// Alternative names (ip-link(8) `altname`).
    pub alt_names: Vec<String>,
    /// `IFF_UP` and `IFF_RUNNING`: enabled, and with a carrier.
    pub up: bool,
    pub mac: Option<[u8; 6]>,
    /// The largest packet that it sends in one piece.
    pub mtu: Option<u32>,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// The index of the bridge, bond or team that it is a port of, and that takes every packet that
    /// it receives. An interface of a VRF keeps its packets.
    pub port_of: Option<u32>,
    /// Whether it takes the packets of its ports.
    pub has_ports: bool,
}

/// The kinds of interfaces that take the packets of those enslaved to them.
const WITH_PORTS: [&str; 6] = ["bridge", "bond", "team", "openvswitch", "batadv", "hsr"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    pub index: u32,
    pub ip: IpAddr,
    pub prefix: u8,
    /// By [`IFA_PROTO_VIPD`] and the metric.
    pub mark: Mark,
    pub state: AddressState,
    /// `RT_SCOPE_*`: 0 is global, 253 is link.
    pub scope: u8,
    /// Whether another address of the same subnet is the primary one (IPv4 only).
    pub secondary: bool,
}

impl InterfaceAddress {
    /// Address and prefix length without the interface.
    pub fn address(&self) -> Address {
        Address { ip: self.ip, prefix: self.prefix }
    }

    /// What the protocol is told of it.
    pub fn link_address(&self) -> LinkAddress {
        let InterfaceAddress { ip, prefix, mark, state, .. } = *self;
        LinkAddress { ip, prefix, mark, state }
    }
}

pub(super) fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

pub(super) fn address_message(index: u32, address: Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = address_family(Family::of(address.ip));
    message.header.index = index;
    message.header.prefix_len = address.prefix;
    message.header.flags = AddressHeaderFlags::empty();
    message.attributes =
        vec![AddressAttribute::Local(address.ip), AddressAttribute::Address(address.ip)];
    message
}

/// What makes an address carry this mark.
pub(super) fn mark_attributes(mark: Mark) -> Vec<AddressAttribute> {
    let protocol = AddressAttribute::Protocol(AddressProtocol::Other(IFA_PROTO_VIPD));
    match mark {
        Mark::None => Vec::new(),
        Mark::Unnamed => vec![protocol],
        Mark::Router(family, vrid) => {
            let base = ADDRESS_METRICS.iter().filter(|(of, _)| *of == family);
            let metric = base.map(|(_, base)| base + u32::from(vrid.get()));
            metric.map(AddressAttribute::RoutePriority).chain([protocol]).collect()
        }
    }
}

/// The mark of an address that has our protocol. With an unknown metric it is not ours to change.
fn mark(metric: Option<u32>) -> Mark {
    let Some(metric) = metric else { return Mark::Unnamed };
    let router = |(family, base): (Family, u32)| {
        let vrid = u8::try_from(metric.checked_sub(base)?).ok().and_then(Vrid::new)?;
        Some(Mark::Router(family, vrid))
    };
    ADDRESS_METRICS.into_iter().find_map(router).unwrap_or(Mark::None)
}

/// The route to the subnet of a virtual address, if it brings one.
///
/// Of IPv4 it names the address as its source: the kernel removes it with the address, and keeps one
/// for each of several addresses. IPv6 has one route for a destination and metric and keeps it when
/// the address goes, so there each address has a metric of its own and a lifetime is given.
pub(super) fn route_message(
    index: u32,
    address: Address,
    lifetime: Option<u32>,
) -> Option<RouteMessage> {
    let subnet = address.subnet()?;
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of(address.ip));
    message.header.destination_prefix_length = address.prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(IFA_PROTO_VIPD);
    message.header.kind = RouteType::Unicast;
    message.attributes =
        vec![RouteAttribute::Destination(subnet.into()), RouteAttribute::Oif(index)];
    match address.ip {
        IpAddr::V4(_) => {
            message.header.scope = RouteScope::Link;
            message.attributes.extend([
                RouteAttribute::Priority(METRIC),
                RouteAttribute::PrefSource(address.ip.into()),
            ]);
        }
        IpAddr::V6(ip) => {
            message.header.scope = RouteScope::Universe;
            let own = ip.to_bits() as u32 & (METRIC - 1);
            message.attributes.push(RouteAttribute::Priority(METRIC | own));
            message.attributes.extend(lifetime.map(RouteAttribute::Expires));
        }
    }
    Some(message)
}

pub(super) fn encode(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}

/// A netlink message with its payload still encoded.
#[derive(Clone, Copy)]
pub(crate) struct RawMessage<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
    pub(crate) payload: &'a [u8],
}

/// Splits a datagram into its messages.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = RawMessage<'_>> {
    std::iter::from_fn(move || {
        let header = NetlinkBuffer::new_checked(bytes).ok()?;
        let length = header.length() as usize;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(RawMessage {
            kind: header.message_type(),
            flags: header.flags(),
            sequence: header.sequence_number(),
            port: header.port_number(),
            payload: header.payload(),
        })
    })
}

impl RawMessage<'_> {
    /// Decodes the result in an acknowledgement, an error or the end of a dump.
    pub(crate) fn outcome(&self) -> Result<(), AddressError> {
        const NLMSGERR_ATTR_MSG: u16 = 1;
        let code = self.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        if code == 0 {
            return Ok(());
        }
        // After the code, an error repeats the header of the request (16 bytes).
        let before = if self.kind == NLMSG_ERROR { 4 + 16 } else { 4 };
        let text = attributes(self.payload.get(before..).unwrap_or(&[]))
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map_or_else(String::new, |(_, text)| string(text));
        Err(AddressError::new(code.saturating_neg(), text))
    }
}

/// Type and value of the attributes, up to the first malformed one. Values are not decoded here, so
/// that an unknown attribute does not make the whole message unreadable.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).filter_map(|attribute| {
        let whole = attribute.into_inner();
        Some((attribute.kind(), whole.get(4..usize::from(attribute.length()))?))
    })
}

fn string(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or(&[]);
    String::from_utf8_lossy(text).into_owned()
}

/// Decodes `struct ifinfomsg` and the attributes we need. `None` for messages that do not describe
/// the interface itself: of a bridge about its ports, and wireless events.
pub(super) fn link(payload: &[u8]) -> Option<Link> {
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFLA_MASTER: u16 = 10;
    const IFLA_WIRELESS: u16 = 11;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_SLAVE_KIND: u16 = 4;
    const IFLA_PROP_LIST: u16 = 52;
    const IFLA_ALT_IFNAME: u16 = 53;
    let index = link_index(payload)?;
    let kind = u16::from_ne_bytes(*payload.get(2..)?.first_chunk()?);
    let flags = i32::from_ne_bytes(*payload.get(8..)?.first_chunk()?);
    let mut link = Link {
        index,
        name: String::new(),
        alt_names: Vec::new(),
        up: flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0,
        mac: None,
        mtu: None,
        loopback: flags & libc::IFF_LOOPBACK != 0,
        port_of: None,
        has_ports: false,
    };
    let (mut master, mut is_port) = (None, false);
    for (attribute, value) in attributes(payload.get(16..)?) {
        match attribute {
            IFLA_ADDRESS if kind == libc::ARPHRD_ETHER => link.mac = value.try_into().ok(),
            IFLA_MTU => link.mtu = value.first_chunk().map(|mtu| u32::from_ne_bytes(*mtu)),
            IFLA_IFNAME => link.name = string(value),
            IFLA_WIRELESS => return None,
            IFLA_MASTER => master = value.first_chunk().map(|index| u32::from_ne_bytes(*index)),
            IFLA_LINKINFO => {
                for (kind, value) in attributes(value) {
                    let takes = || WITH_PORTS.contains(&&*string(value));
                    match kind {
                        IFLA_INFO_KIND => link.has_ports = takes(),
                        IFLA_INFO_SLAVE_KIND => is_port = takes(),
                        _ => {}
                    }
                }
            }
            IFLA_PROP_LIST => link.alt_names.extend(
                attributes(value)
                    .filter(|(kind, _)| *kind == IFLA_ALT_IFNAME)
                    .map(|(_, name)| string(name)),
            ),
            _ => {}
        }
    }
    link.port_of = master.filter(|_| is_port);
    (!link.name.is_empty()).then_some(link)
}

pub(super) fn link_index(payload: &[u8]) -> Option<u32> {
    let family = *payload.first()?;
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    (i32::from(family) == libc::AF_UNSPEC).then_some(index)
}

/// Decodes `struct ifaddrmsg` and the attributes we need.
pub(super) fn found(payload: &[u8]) -> Option<InterfaceAddress> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_FLAGS: u16 = 8;
    const IFA_RT_PRIORITY: u16 = 9;
    const IFA_PROTO: u16 = 11;
    /// `IFA_F_TEMPORARY`: IPv6 gives that meaning to the bit that means secondary for IPv4.
    const TEMPORARY: AddressFlags = AddressFlags::Secondary;
    let [_, prefix, flags, scope, ..] = *payload else { return None };
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let mut flags = u32::from(flags);
    let (mut local, mut address, mut marked, mut metric) = (None, None, false, None);
    for (attribute, value) in attributes(payload.get(8..)?) {
        match attribute {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => address = ip(value),
            IFA_FLAGS => flags = value.first_chunk().map_or(flags, |f| u32::from_ne_bytes(*f)),
            IFA_RT_PRIORITY => metric = value.first_chunk().map(|m| u32::from_ne_bytes(*m)),
            IFA_PROTO => marked = value == [IFA_PROTO_VIPD],
            _ => {}
        }
    }
    let has = |flag: AddressFlags| flags & flag.bits() != 0;
    let is_v4 = matches!(local.or(address), Some(IpAddr::V4(_)));
    Some(InterfaceAddress {
        index,
        // On a point-to-point interface IFA_ADDRESS is the address of the peer.
        ip: local.or(address)?,
        prefix,
        mark: if marked { mark(metric) } else { Mark::None },
        state: if has(AddressFlags::Dadfailed) {
            AddressState::Duplicate
        } else if has(AddressFlags::Tentative) && !has(AddressFlags::Optimistic) {
            AddressState::Tentative
        } else if !is_v4 && has(TEMPORARY) {
            AddressState::Temporary
        } else if has(AddressFlags::Deprecated) {
            AddressState::Deprecated
        } else {
            AddressState::Preferred
        },
        scope,
        secondary: is_v4 && has(AddressFlags::Secondary),
    })
}

/// State and protocol of a neighbour entry, from `struct ndmsg` and its attributes.
pub(crate) fn neighbour(payload: &[u8]) -> Option<(u16, Option<u8>)> {
    const NDA_PROTOCOL: u16 = 12;
    let state = u16::from_ne_bytes(*payload.get(8..)?.first_chunk()?);
    let mut found = attributes(payload.get(12..)?);
    let protocol = found.find(|(kind, _)| *kind == NDA_PROTOCOL);
    Some((state, protocol.and_then(|(_, value)| value.first().copied())))
}

/// A neighbour table, from `struct ndtmsg` and its attributes. `None` for messages about the settings
/// of one interface.
pub(crate) fn neighbour_table(payload: &[u8]) -> Option<NeighbourTable> {
    const NDTA_THRESH3: u16 = 4;
    const NDTA_CONFIG: u16 = 5;
    let family = match i32::from(*payload.first()?) {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return None,
    };
    let (mut entries, mut limit) = (None, None);
    for (attribute, value) in attributes(payload.get(4..)?) {
        match attribute {
            NDTA_THRESH3 => limit = value.first_chunk().map(|n| u32::from_ne_bytes(*n)),
            // After the lengths of a key and of an entry, 16 bits each.
            NDTA_CONFIG => {
                entries = value.get(4..)?.first_chunk().map(|n| u32::from_ne_bytes(*n));
            }
            _ => {}
        }
    }
    Some(NeighbourTable { family, entries: entries?, limit: limit? })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use netlink_packet_core::NLMSG_DONE;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn header(family: u8) -> Vec<u8> {
        let mut bytes = vec![family, 0];
        bytes.extend(libc::ARPHRD_ETHER.to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend((libc::IFF_UP | libc::IFF_RUNNING).to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    fn whole_link() -> Vec<u8> {
        let alternative = [attribute(53, b"uplink\0"), attribute(53, b"wan\0")].concat();
        let parts = [
            header(0),
            attribute(3, b"eth0\0"),
            attribute(1, &[2, 0, 0, 0, 0, 7]),
            attribute(4, &1500_u32.to_ne_bytes()),
            attribute(0x8034, &alternative),
        ];
        parts.concat()
    }

    #[test]
    fn a_malformed_attribute_does_not_hide_the_others() {
        let expected = Link {
            index: 7,
            name: "eth0".to_owned(),
            alt_names: vec!["uplink".to_owned(), "wan".to_owned()],
            up: true,
            mac: Some([2, 0, 0, 0, 0, 7]),
            mtu: Some(1500),
            loopback: false,
            port_of: None,
            has_ports: false,
        };
        assert_eq!(link(&whole_link()), Some(expected.clone()));
        // Statistics of an unknown length, flags of an unknown kind, a name that is not text.
        let odd = [attribute(7, &[1; 3]), attribute(999, &[]), attribute(53, &[0xff, 0xfe])];
        let mut bytes = whole_link();
        bytes.extend(odd.concat());
        // And one whose length exceeds the message.
        bytes.extend([200, 0, 23, 0, 1, 2]);
        assert_eq!(link(&bytes), Some(expected));
    }

    #[test]
    fn only_interfaces_that_take_packets_have_ports() {
        let enslaved = |kind: &[u8], own: &[u8]| {
            let info = [attribute(1, own), attribute(4, kind)].concat();
            let parts = [whole_link(), attribute(10, &9_u32.to_ne_bytes()), attribute(18, &info)];
            let link = link(&parts.concat()).unwrap();
            (link.port_of, link.has_ports)
        };
        assert_eq!(enslaved(b"bridge\0", b"veth\0"), (Some(9), false));
        assert_eq!(enslaved(b"bond\0", b"vlan\0"), (Some(9), false));
        assert_eq!(enslaved(b"vrf\0", b"bridge\0"), (None, true));
        assert_eq!(enslaved(b"", b"macvlan\0"), (None, false));
    }

    #[test]
    fn bridge_and_wireless_messages_are_no_link_changes() {
        let mut port = header(libc::AF_BRIDGE as u8);
        port.extend(attribute(3, b"eth0\0"));
        assert_eq!(link(&port), None);
        assert_eq!(link_index(&port), None);
        let mut radio = whole_link();
        radio.extend(attribute(11, &[0; 16]));
        assert_eq!(link(&radio), None);
    }

    #[test]
    fn the_local_address_of_a_point_to_point_interface_is_decoded() {
        let mut bytes = vec![libc::AF_INET as u8, 32, 0, 0];
        bytes.extend(3_u32.to_ne_bytes());
        bytes.extend(attribute(1, &[192, 0, 2, 254]));
        bytes.extend(attribute(2, &[192, 0, 2, 1]));
        bytes.extend(attribute(8, &0x40_u32.to_ne_bytes()));
        bytes.extend(attribute(11, &[IFA_PROTO_VIPD]));
        let expected = InterfaceAddress {
            index: 3,
            ip: Ipv4Addr::new(192, 0, 2, 1).into(),
            prefix: 32,
            mark: Mark::Unnamed,
            state: AddressState::Tentative,
            scope: 0,
            secondary: false,
        };
        assert_eq!(found(&bytes), Some(expected));
        let mark = |metric: u32| {
            let bytes = [bytes.clone(), attribute(9, &metric.to_ne_bytes())].concat();
            found(&bytes).unwrap().mark
        };
        let of = |family, vrid| Mark::Router(family, Vrid::new(vrid).unwrap());
        assert_eq!([mark(4001), mark(6255)], [of(Family::V4, 1), of(Family::V6, 255)]);
        assert_eq!([mark(1), mark(4000), mark(4256), mark(7000)], [Mark::None; 4]);
        for length in 0..bytes.len() {
            let _ = found(&bytes[..length]);
        }
        assert_eq!(found(&bytes[..8]), None);
    }

    #[test]
    fn truncated_messages_do_not_panic() {
        let mut bytes = Vec::new();
        for (kind, payload) in [(libc::RTM_NEWLINK, whole_link()), (NLMSG_ERROR, vec![1; 60])] {
            bytes.extend((16 + payload.len() as u32).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(payload);
        }
        assert_eq!(messages(&bytes).count(), 2);
        for length in 0..bytes.len() {
            for message in messages(&bytes[..length]) {
                let _ = (link(message.payload), found(message.payload), message.outcome());
            }
        }
    }

    #[test]
    fn errors_contain_the_explanation_of_the_kernel() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend([0; 16]);
        payload.extend(attribute(1, b"Invalid prefix length\0"));
        let error =
            RawMessage { kind: NLMSG_ERROR, flags: 0, sequence: 0, port: 0, payload: &payload };
        let outcome = error.outcome().map_err(|failure| failure.to_string());
        assert_eq!(
            outcome,
            Err("Invalid prefix length (Invalid argument (os error 22))".to_owned())
        );
        let done = RawMessage { kind: NLMSG_DONE, payload: &[0; 4], ..error };
        assert_eq!(done.outcome(), Ok(()));
        let gone = (-libc::ENODEV).to_ne_bytes();
        let gone = RawMessage { kind: NLMSG_DONE, payload: &gone, ..error };
        assert_eq!(gone.outcome(), Err(AddressError::NoDevice));
    }
}
