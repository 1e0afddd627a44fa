//! Links and addresses of one namespace, through rtnetlink: one acknowledged request at a time.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoBridge, InfoData, InfoKind,
    InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkProtoInfoBridge,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

const IFLA_BRPORT_STATE: u16 = 1;

/// Changes the links and addresses of the namespace it was opened in, from any thread.
#[derive(Debug)]
pub struct LinkEditor {
    socket: Mutex<(Socket, u32)>,
}

impl LinkEditor {
    /// Those of the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket: Mutex::new((socket, 0)) })
    }

    /// A switch: no spanning tree, multicast flooded, no addresses of its own.
    pub fn add_bridge(&self, name: &str) -> io::Result<()> {
        let data = vec![
            InfoBridge::StpState(BridgeStpState::Disabled),
            InfoBridge::MulticastSnooping(false),
        ];
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(data)),
        ]));
        self.create(link)
    }

    /// A cable: `name` here, with this MAC address, and `peer` in the namespace `peer_namespace`.
    pub fn add_veth(
        &self,
        name: &str,
        mac: [u8; 6],
        peer: &str,
        peer_namespace: &File,
    ) -> io::Result<()> {
        let mut far = named(peer);
        far.attributes.push(LinkAttribute::NetNsFd(peer_namespace.as_raw_fd()));
        let mut link = named(name);
        link.attributes.push(LinkAttribute::Address(mac.to_vec()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
        ]));
        self.create(link)
    }

    /// Sets a link administratively up.
    pub fn up(&self, name: &str) -> io::Result<()> {
        let mut link = named(name);
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Whether the kernel gives the link a link-local IPv6 address of its own choice.
    pub fn set_automatic_link_local(&self, name: &str, automatic: bool) -> io::Result<()> {
        let mode = if automatic { In6AddrGenMode::Eui64 } else { In6AddrGenMode::None };
        let mut link = self.indexed(name)?;
        link.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![
            AfSpecInet6::AddrGenMode(mode),
        ])]));
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Plugs a link into a bridge.
    pub fn set_bridge(&self, name: &str, bridge: &str) -> io::Result<()> {
        let mut link = self.indexed(name)?;
        link.attributes.push(LinkAttribute::Controller(self.index(bridge)?));
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Whether a bridge port forwards. One that does not is a cut without loss of carrier.
    pub fn set_forwarding(&self, port: &str, forwards: bool) -> io::Result<()> {
        const DISABLED: u8 = 0;
        const FORWARDING: u8 = 3;
        let state = if forwards { FORWARDING } else { DISABLED };
        let mut link = self.indexed(port)?;
        link.header.interface_family = AddressFamily::Bridge;
        link.attributes.push(LinkAttribute::ProtoInfoBridge(vec![LinkProtoInfoBridge::Other(
            DefaultNla::new(IFLA_BRPORT_STATE, vec![state]),
        )]));
        self.request(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Adds a permanent address, usable at once.
    pub fn add_address(&self, link: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = self.address(link, address, prefix)?;
        if address.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.request(RouteNetlinkMessage::NewAddress(message), flags)
    }

    /// Removes an address, as an operator would by hand.
    pub fn remove_address(&self, link: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
        let message = self.address(link, address, prefix)?;
        self.request(RouteNetlinkMessage::DelAddress(message), 0)
    }

    fn address(&self, link: &str, address: IpAddr, prefix: u8) -> io::Result<AddressMessage> {
        let mut message = AddressMessage::default();
        message.header.family = match address {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.prefix_len = prefix;
        message.header.scope = match address {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => AddressScope::Link,
            IpAddr::V4(_) | IpAddr::V6(_) => AddressScope::Universe,
        };
        message.header.index = self.index(link)?;
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        Ok(message)
    }

    /// Every address, with the index of its link and its prefix length.
    pub fn addresses(&self) -> io::Result<Vec<(u32, IpAddr, u8)>> {
        let answers = self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message) => {
                    Some((message.header.index, address_of(&message)?, message.header.prefix_len))
                }
                _ => None,
            })
            .collect())
    }

    /// The index of a link.
    ///
    /// # Errors
    /// `NotFound` if there is none of this name.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        let answers = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let is_called = |attribute: &LinkAttribute| match attribute {
            LinkAttribute::IfName(called) => called == name,
            _ => false,
        };
        answers
            .into_iter()
            .find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) if link.attributes.iter().any(is_called) => {
                    Some(link.header.index)
                }
                _ => None,
            })
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {name}")))
    }

    fn indexed(&self, name: &str) -> io::Result<LinkMessage> {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name)?;
        Ok(link)
    }

    fn create(&self, link: LinkMessage) -> io::Result<()> {
        self.request(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Sends a request and waits for its acknowledgement.
    pub fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags).map(drop)
    }

    fn dump(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_DUMP)
    }

    /// Sends one request and collects what is answered up to its acknowledgement.
    fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut guard = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let (socket, sequence) = &mut *guard;
        *sequence = sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = *sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        loop {
            let (datagram, _) = socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX);
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                if answer.header.sequence_number != *sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    _ => {}
                }
            }
        }
    }
}

/// The address a message is about.
pub fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    local.or(address)
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}
