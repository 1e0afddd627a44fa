//! Announcing our addresses on the link, and detecting that another host has them, too: ARP
//! (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, MutableNeighborSolicitPacket, NdpOptionType, NdpOptionTypes,
    NeighborAdvertFlags,
};
use pnet::packet::icmpv6::{self, Icmpv6Packet, Icmpv6Types, MutableIcmpv6Packet};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet_base::MacAddr;
use socket2::{Domain, SockFilter, Socket, Type};

use crate::host::advert_socket::{PRIORITY, enlarge_send_buffer};
use crate::host::bpf;
use crate::host::sys::{self, OutgoingPacket, PacketBuffer, SEND_BATCH};

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Receives both protocols.
const ETHERTYPE_ALL: u16 = libc::ETH_P_ALL as u16;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const BROADCAST_MAC: [u8; 6] = [0xff; 6];
const ARP_LENGTH: usize = 14 + 28;
/// Of a neighbour advertisement or solicitation, with the option for a link-layer address.
const DISCOVERY_LENGTH: usize = 14 + 40 + 24 + 8;
/// Most addresses that the socket filter checks one by one. A longer filter would slow down every
/// packet, and may exceed `net.core.optmem_max`.
const FILTERED_MAX: usize = 1000;
/// Announcements of one address that one call of [`NeighbourSocket::receive`] passes, each at another
/// MAC address, as far as only the last one is compared.
const PASSED_MAX: u8 = 8;

/// The packet socket of one interface. Interfaces other than Ethernet have no neighbours that need
/// announcements; on these it does nothing.
#[derive(Debug)]
pub struct NeighbourSocket {
    socket: Socket,
    index: u32,
    mac: Option<[u8; 6]>,
    /// Sorted, for binary search.
    watched: Vec<IpAddr>,
    /// What was last passed of each.
    passed: Vec<Passed>,
    /// The number of calls of [`receive`](Self::receive); it may wrap around.
    calls: u32,
    buffer: PacketBuffer,
}

/// What a call of [`NeighbourSocket::receive`] has passed of one address. Whoever floods the link with
/// announcements must not make more work than reading them.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    call: u32,
    count: u8,
    /// The last one.
    mac: [u8; 6],
}

impl Passed {
    /// Whether an announcement at this MAC address is to be passed, too.
    fn admits(&mut self, call: u32, mac: [u8; 6]) -> bool {
        if self.call != call {
            *self = Passed { call, count: 0, mac };
        } else if self.mac == mac || self.count == PASSED_MAX {
            return false;
        }
        self.mac = mac;
        self.count += 1;
        true
    }
}

/// What a probe asks for.
enum Question {
    V4(Ipv4Addr),
    V6 { from: Ipv6Addr, address: Ipv6Addr },
}

/// An announcement of a watched address by another host, or its answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignAnnouncement {
    pub address: IpAddr,
    /// The MAC address that it is announced at; never our own.
    pub mac: [u8; 6],
}

impl NeighbourSocket {
    /// [`receive`](Self::receive) returns after about this many packets.
    pub const BATCH_MAX: usize = 1024;

    /// Opens a socket on the interface with this index and MAC address (`None` if it is not
    /// Ethernet). It receives nothing before [`watch`](Self::watch). When the MAC address changes,
    /// open another.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW; ENODEV if the interface is gone.
    pub fn open(index: u32, mac: Option<[u8; 6]>) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
        socket.attach_filter(&[bpf::DROP])?;
        sys::set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        socket.set_priority(PRIORITY)?;
        enlarge_send_buffer(&socket)?;
        if mac.is_some() {
            socket.bind(&sys::link_address(index, 0, [0; 6]))?;
        }
        Ok(NeighbourSocket {
            socket,
            index,
            mac,
            watched: Vec::new(),
            passed: Vec::new(),
            calls: 0,
            buffer: PacketBuffer::default(),
        })
    }

    /// Announces that these addresses are at our MAC address, by a gratuitous ARP request or an
    /// unsolicited neighbour advertisement for each. Never blocks.
    ///
    /// # Errors
    /// The first error of those that the kernel refused; all others are sent.
    pub fn announce(&self, addresses: impl IntoIterator<Item = IpAddr>) -> io::Result<()> {
        let Some(mac) = self.mac else { return Ok(()) };
        let mut router = None;
        self.send_each(addresses, |address, frame| match address {
            IpAddr::V4(address) => gratuitous_arp(mac, address, frame),
            IpAddr::V6(address) => {
                let router = *router.get_or_insert_with(|| self.is_router());
                unsolicited_advertisement(mac, address, router, frame)
            }
        })
    }

    /// Asks whether another host has these addresses: by an ARP probe (RFC 5227 2.1.1), which names no
    /// sender address, so that no neighbour learns anything from it, or by a neighbour solicitation
    /// from `link_local`. One without a source, as in duplicate address detection, would be answered to
    /// all nodes, and they would send to the other host from then on. Without a link-local address no
    /// IPv6 address is asked for.
    ///
    /// # Errors
    /// As [`announce`](Self::announce).
    pub fn probe(
        &self,
        link_local: Option<Ipv6Addr>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> io::Result<()> {
        let Some(mac) = self.mac else { return Ok(()) };
        let asked = addresses.into_iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(Question::V4(address)),
            IpAddr::V6(address) => Some(Question::V6 { from: link_local?, address }),
        });
        self.send_each(asked, |question, frame| match question {
            Question::V4(address) => arp_request(mac, Ipv4Addr::UNSPECIFIED, address, frame),
            Question::V6 { from, address } => solicitation(mac, from, address, frame),
        })
    }

    /// Sends the frame that `write` makes of each item in a zeroed buffer, with its length.
    fn send_each<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(T, &mut [u8]) -> usize,
    ) -> io::Result<()> {
        let mut result = Ok(());
        let mut items = items.into_iter();
        loop {
            let mut count = 0;
            let mut frames = [([0; DISCOVERY_LENGTH], 0); SEND_BATCH];
            for ((frame, length), item) in frames.iter_mut().zip(&mut items) {
                *length = write(item, frame);
                count += 1;
            }
            let packets = frames.iter().take(count).map(|(frame, length)| OutgoingPacket {
                to: sys::link_address(self.index, ethertype(frame), destination(frame)),
                from: None,
                payload: frame.get(..*length).unwrap_or(frame),
            });
            sys::send_all(self.socket.as_fd(), packets, |_, error| {
                if result.is_ok() {
                    result = Err(error);
                }
            });
            if count < SEND_BATCH {
                return result;
            }
        }
    }

    /// From now on receives announcements of these addresses by other hosts. A socket filter drops
    /// everything else; with more than 1000 addresses it passes all announcements, and
    /// [`receive`](Self::receive) selects.
    ///
    /// # Errors
    /// The filter could not be attached or the socket could not be bound.
    pub fn watch(&mut self, addresses: &[IpAddr]) -> io::Result<()> {
        if self.mac.is_none() {
            return Ok(());
        }
        self.watched = addresses.to_vec();
        self.watched.sort_unstable();
        self.watched.dedup();
        self.passed = vec![Passed::default(); self.watched.len()];
        let ethertype = match (
            self.watched.iter().any(IpAddr::is_ipv4),
            self.watched.iter().any(IpAddr::is_ipv6),
        ) {
            (false, false) => 0,
            (true, false) => ETHERTYPE_ARP,
            (false, true) => ETHERTYPE_IPV6,
            (true, true) => ETHERTYPE_ALL,
        };
        let exact = self.watched.len() <= FILTERED_MAX
            && self.socket.attach_filter(&filter(Some(&self.watched))).is_ok();
        if !exact {
            self.socket.attach_filter(&filter(None))?;
        }
        self.socket.bind(&sys::link_address(self.index, ethertype, [0; 6]))
    }

    /// Passes received announcements of watched addresses to `handle`, repeated ones once. Returns the
    /// number of packets read; at least [`Self::BATCH_MAX`] means that more may be waiting.
    ///
    /// # Errors
    /// As recvmmsg(2), except ENETDOWN.
    pub fn receive(&mut self, mut handle: impl FnMut(ForeignAnnouncement)) -> io::Result<usize> {
        self.calls = self.calls.wrapping_add(1);
        loop {
            let outcome = self.buffer.drain(self.socket.as_fd(), Self::BATCH_MAX, |packet| {
                if let Some(announcement) = decode_announcement(packet.payload)
                    && Some(announcement.mac) != self.mac
                    && let Ok(place) = self.watched.binary_search(&announcement.address)
                    && let Some(passed) = self.passed.get_mut(place)
                    && passed.admits(self.calls, announcement.mac)
                {
                    handle(announcement);
                }
            });
            match outcome {
                // Reported once. The socket works again when the interface comes up.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                outcome => return outcome,
            }
        }
    }

    /// Whether this host forwards IPv6 on the interface, which the router flag must state: hosts
    /// remove a router from their default router list when it is clear (RFC 4861 7.2.5).
    fn is_router(&self) -> bool {
        let Ok(name) = nix::net::if_::if_indextoname(self.index) else { return false };
        let path = format!("/proc/sys/net/ipv6/conf/{}/forwarding", name.to_string_lossy());
        std::fs::read_to_string(path).is_ok_and(|forwarding| forwarding.trim() != "0")
    }
}

impl AsFd for NeighbourSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Writes a gratuitous ARP request (RFC 5227 section 3, RFC 9568 8.1.1) to a zeroed frame. Returns
/// its length.
pub(crate) fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr, frame: &mut [u8]) -> usize {
    arp_request(mac, address, address, frame)
}

/// Writes an ARP request to a zeroed frame. Returns its length.
fn arp_request(mac: [u8; 6], from: Ipv4Addr, address: Ipv4Addr, frame: &mut [u8]) -> usize {
    ethernet(mac, BROADCAST_MAC, ETHERTYPE_ARP, frame);
    if let Some(mut arp) = frame.get_mut(14..).and_then(MutableArpPacket::new) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperations::Request);
        arp.set_sender_hw_addr(MacAddr::from(mac));
        arp.set_sender_proto_addr(from);
        arp.set_target_hw_addr(MacAddr::from(BROADCAST_MAC));
        arp.set_target_proto_addr(address);
    }
    ARP_LENGTH
}

/// Writes an unsolicited neighbour advertisement (RFC 4861 7.2.6) to a zeroed frame. Returns its
/// length.
///
/// Its source is the announced address, as in Linux: that one is usable whenever we announce it,
/// while the link-local address may still be tentative after the link came up.
pub(crate) fn unsolicited_advertisement(
    mac: [u8; 6],
    address: Ipv6Addr,
    router: bool,
    frame: &mut [u8],
) -> usize {
    ethernet(mac, ALL_NODES_MAC, ETHERTYPE_IPV6, frame);
    discovery(address, ALL_NODES, frame);
    let flags =
        NeighborAdvertFlags::Override | if router { NeighborAdvertFlags::Router } else { 0 };
    if let Some(mut message) = frame.get_mut(54..).and_then(MutableNeighborAdvertPacket::new) {
        message.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
        message.set_flags(flags);
        message.set_target_addr(address);
    }
    complete(mac, NdpOptionTypes::TargetLLAddr, address, ALL_NODES, frame)
}

/// Writes a neighbour solicitation (RFC 4861 4.3) to a zeroed frame. Returns its length.
fn solicitation(mac: [u8; 6], from: Ipv6Addr, address: Ipv6Addr, frame: &mut [u8]) -> usize {
    let [.., a, b, c] = address.octets();
    // The solicited-node multicast address (RFC 4291 2.7.1).
    let group = Ipv6Addr::from_bits(
        0xff02_0000_0000_0000_0000_0001_ff00_0000 | (address.to_bits() & 0xff_ffff),
    );
    ethernet(mac, [0x33, 0x33, 0xff, a, b, c], ETHERTYPE_IPV6, frame);
    discovery(from, group, frame);
    if let Some(mut message) = frame.get_mut(54..).and_then(MutableNeighborSolicitPacket::new) {
        message.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
        message.set_target_addr(address);
    }
    complete(mac, NdpOptionTypes::SourceLLAddr, from, group, frame)
}

/// Writes the IPv6 header of a message of neighbour discovery.
fn discovery(from: Ipv6Addr, to: Ipv6Addr, frame: &mut [u8]) {
    if let Some(mut ip) = frame.get_mut(14..).and_then(MutableIpv6Packet::new) {
        ip.set_version(6);
        ip.set_payload_length((DISCOVERY_LENGTH - 14 - 40) as u16);
        ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
        ip.set_hop_limit(255);
        ip.set_source(from);
        ip.set_destination(to);
    }
}

/// Adds the option with our link-layer address and the checksum. Returns the length of the frame.
fn complete(
    mac: [u8; 6],
    kind: NdpOptionType,
    from: Ipv6Addr,
    to: Ipv6Addr,
    frame: &mut [u8],
) -> usize {
    if let Some([type_of, length, option @ ..]) = frame.get_mut(54 + 24..DISCOVERY_LENGTH) {
        // The length is in units of 8 bytes.
        (*type_of, *length) = (kind.0, 1);
        option.copy_from_slice(&mac);
    }
    let checksum = frame
        .get(54..DISCOVERY_LENGTH)
        .and_then(Icmpv6Packet::new)
        .map_or(0, |message| icmpv6::checksum(&message, &from, &to));
    if let Some(mut message) = frame.get_mut(54..).and_then(MutableIcmpv6Packet::new) {
        message.set_checksum(checksum);
    }
    DISCOVERY_LENGTH
}

fn destination(frame: &[u8]) -> [u8; 6] {
    frame.first_chunk().copied().unwrap_or(BROADCAST_MAC)
}

fn ethertype(frame: &[u8]) -> u16 {
    frame.get(12..).and_then(|rest| rest.first_chunk()).map_or(0, |kind| u16::from_be_bytes(*kind))
}

fn ethernet(from: [u8; 6], to: [u8; 6], ethertype: u16, frame: &mut [u8]) {
    if let Some(mut ethernet) = MutableEthernetPacket::new(frame) {
        ethernet.set_source(MacAddr::from(from));
        ethernet.set_destination(MacAddr::from(to));
        ethernet.set_ethertype(pnet::packet::ethernet::EtherType(ethertype));
    }
}

/// Decodes an ARP packet or neighbour advertisement: which address is announced at which MAC
/// address.
pub(crate) fn decode_announcement(frame: &[u8]) -> Option<ForeignAnnouncement> {
    let (header, packet) = frame.split_first_chunk::<14>()?;
    let sender = *header.get(6..)?.first_chunk::<6>()?;
    match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_ARP => {
            // Hardware type Ethernet, protocol type IPv4, and their address lengths.
            if *packet.first_chunk::<6>()? != [0, 1, 8, 0, 6, 4] {
                return None;
            }
            let mac = *packet.get(8..)?.first_chunk()?;
            let address = Ipv4Addr::from(*packet.get(14..)?.first_chunk::<4>()?);
            Some(ForeignAnnouncement { address: address.into(), mac })
        }
        ETHERTYPE_IPV6 => {
            let (header, message) = packet.split_first_chunk::<40>()?;
            // With a hop limit below 255 it was not sent on this link (RFC 4861 7.1.2).
            let advertised = header[6] == IpNextHeaderProtocols::Icmpv6.0
                && header[7] == 255
                && *message.first()? == Icmpv6Types::NeighborAdvert.0;
            if !advertised {
                return None;
            }
            let address = Ipv6Addr::from(*message.get(8..)?.first_chunk::<16>()?);
            let mac = target_option(message.get(24..)?).unwrap_or(sender);
            Some(ForeignAnnouncement { address: address.into(), mac })
        }
        _ => None,
    }
}

/// The target link-layer address option of a neighbour advertisement (RFC 4861 4.6.1).
fn target_option(mut options: &[u8]) -> Option<[u8; 6]> {
    loop {
        let [kind, length @ (1..), ..] = *options else { return None };
        let (option, rest) = options.split_at_checked(usize::from(length) * 8)?;
        if kind == NdpOptionTypes::TargetLLAddr.0 {
            return option.get(2..)?.first_chunk().copied();
        }
        options = rest;
    }
}

/// The socket filter. With a list it passes ARP packets whose sender address, and neighbour
/// advertisements whose last four bytes of the target, are in the list. Without one it passes
/// gratuitous ARP, answers to ARP probes and unsolicited advertisements: to pass solicited ones, too,
/// would be to read the answers to all questions of this host.
fn filter(addresses: Option<&[IpAddr]>) -> Vec<SockFilter> {
    use libc::{
        BPF_B, BPF_H, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_MISC, BPF_TAX, BPF_W, BPF_X, SKF_AD_OFF,
        SKF_AD_PKTTYPE, SKF_AD_VLAN_TAG,
    };
    let must_be =
        |size, offset, value| [bpf::load(size, offset), bpf::jump(BPF_JEQ, value, 1, 0), bpf::DROP];

    let mut arp = Vec::new();
    arp.extend(must_be(BPF_W, 14, 0x0001_0800));
    arp.extend(must_be(BPF_H, 18, 0x0604));
    arp.push(bpf::load(BPF_W, 28));
    let mut advertisement = Vec::new();
    advertisement.extend(must_be(BPF_B, 14 + 6, u32::from(IpNextHeaderProtocols::Icmpv6.0)));
    advertisement.extend(must_be(BPF_B, 14 + 40, u32::from(Icmpv6Types::NeighborAdvert.0)));
    match addresses {
        Some(addresses) => {
            arp.extend(is_one_of(addresses.iter().filter_map(|address| match address {
                IpAddr::V4(address) => Some(address.to_bits()),
                IpAddr::V6(_) => None,
            })));
            advertisement.push(bpf::load(BPF_W, 14 + 40 + 8 + 12));
            advertisement.extend(is_one_of(addresses.iter().filter_map(|address| match address {
                IpAddr::V4(_) => None,
                IpAddr::V6(address) => Some(address.to_bits() as u32),
            })));
        }
        None => {
            arp.extend([
                bpf::instruction(BPF_MISC | BPF_TAX, 0),
                bpf::load(BPF_W, 38),
                SockFilter::new((BPF_JMP | BPF_JEQ | BPF_X) as u16, 1, 0, 0),
                bpf::jump(BPF_JEQ, 0, 0, 1),
                bpf::ACCEPT,
                bpf::DROP,
            ]);
            advertisement.extend([
                bpf::load(BPF_B, 14 + 40 + 4),
                bpf::jump(BPF_JSET, u32::from(NeighborAdvertFlags::Solicited), 0, 1),
                bpf::DROP,
                bpf::ACCEPT,
            ]);
        }
    }

    // A frame with a VLAN tag belongs to another link on the same wire. A socket for all protocols
    // finds the tag in the metadata. One for a single protocol gets the frame without the tag, but
    // as PACKET_OTHERHOST.
    let mut program = vec![
        bpf::load(BPF_B, (SKF_AD_OFF + SKF_AD_PKTTYPE) as u32),
        bpf::jump(BPF_JEQ, u32::from(libc::PACKET_OTHERHOST), 2, 0),
        bpf::load(BPF_H, (SKF_AD_OFF + SKF_AD_VLAN_TAG) as u32),
        bpf::jump(BPF_JSET, 0x0fff, 0, 1),
        bpf::DROP,
    ];
    program.extend([
        bpf::load(BPF_H, 12),
        bpf::jump(BPF_JEQ, u32::from(ETHERTYPE_ARP), 0, 1),
        bpf::skip(3),
        bpf::jump(BPF_JEQ, u32::from(ETHERTYPE_IPV6), 0, 1),
        bpf::skip(1 + arp.len() as u32),
        bpf::DROP,
    ]);
    program.extend(arp);
    program.extend(advertisement);
    program
}

/// Instructions that accept the packet if A is one of the values, and drop it otherwise.
fn is_one_of(values: impl Iterator<Item = u32>) -> Vec<SockFilter> {
    let values: Vec<u32> = values.collect();
    let mut program = Vec::with_capacity(values.len() + values.len() / 100 + 3);
    // A conditional jump skips at most 255 instructions.
    for chunk in values.chunks(200) {
        let to_accept = |place: usize| (chunk.len() - place) as u8;
        program.extend(
            (0..)
                .zip(chunk)
                .map(|(place, value)| bpf::jump(libc::BPF_JEQ, *value, to_accept(place), 0)),
        );
        program.extend([bpf::skip(1), bpf::ACCEPT]);
    }
    program.push(bpf::DROP);
    program
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn arp(address: Ipv4Addr) -> Vec<u8> {
        let mut frame = vec![0; DISCOVERY_LENGTH];
        let length = gratuitous_arp(MAC, address, &mut frame);
        frame[..length].to_vec()
    }

    fn advertisement(address: Ipv6Addr, router: bool) -> Vec<u8> {
        let mut frame = vec![0; DISCOVERY_LENGTH];
        let length = unsolicited_advertisement(MAC, address, router, &mut frame);
        frame[..length].to_vec()
    }

    #[test]
    fn announcements_decode_to_what_was_encoded() {
        let v4 = Ipv4Addr::new(192, 0, 2, 10);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
        assert_eq!(
            decode_announcement(&arp(v4)),
            Some(ForeignAnnouncement { address: v4.into(), mac: MAC })
        );
        assert_eq!(
            decode_announcement(&advertisement(v6, true)),
            Some(ForeignAnnouncement { address: v6.into(), mac: MAC })
        );
    }

    #[test]
    fn a_probe_asks_for_one_address() {
        let mut frame = [0; DISCOVERY_LENGTH];
        let length = arp_request(MAC, Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, &mut frame);
        assert_eq!(
            (length, &frame[28..32], &frame[38..42]),
            (42, &[0; 4][..], &[127, 0, 0, 1][..])
        );
        assert_eq!((destination(&frame), ethertype(&frame)), ([0xff; 6], ETHERTYPE_ARP));
        let mut frame = [0; DISCOVERY_LENGTH];
        let from: Ipv6Addr = "fe80::7".parse().unwrap();
        let length = solicitation(MAC, from, "2001:db8::12:3456".parse().unwrap(), &mut frame);
        assert_eq!(length, 86);
        assert_eq!(destination(&frame), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        let group: Ipv6Addr = "ff02::1:ff12:3456".parse().unwrap();
        assert_eq!((&frame[22..38], &frame[38..54]), (&from.octets()[..], &group.octets()[..]));
        assert_eq!(frame[78..86], [1, 1, 2, 0, 0, 0, 0, 7]);
        assert_eq!(decode_announcement(&frame[..length]), None);
    }

    #[test]
    fn a_truncated_frame_is_no_announcement_and_no_panic() {
        for frame in [arp(Ipv4Addr::LOCALHOST), advertisement(Ipv6Addr::LOCALHOST, false)] {
            for length in 0..frame.len() {
                let _ = decode_announcement(&frame[..length]);
            }
            assert_eq!(decode_announcement(&frame[..20]), None);
        }
    }

    #[test]
    fn repeated_announcements_are_passed_once_per_call_and_many_macs_a_few_times() {
        let mut passed = Passed::default();
        let count = |passed: &mut Passed, call, macs: &[u8]| {
            macs.iter().filter(|mac| passed.admits(call, [**mac; 6])).count()
        };
        assert_eq!(count(&mut passed, 1, &[7; 1000]), 1);
        assert_eq!(count(&mut passed, 2, &[7; 1000]), 1);
        assert_eq!(count(&mut passed, 2, &[8]), 1);
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(count(&mut passed, 3, &all), usize::from(PASSED_MAX));
        assert_eq!(count(&mut passed, 4, &all), usize::from(PASSED_MAX));
    }

    #[test]
    fn malformed_options_have_no_target_address() {
        assert_eq!(target_option(&[]), None);
        assert_eq!(target_option(&[0; 64]), None);
        assert_eq!(target_option(&[2, 0, 1, 1, 1, 1, 1, 1]), None);
        assert_eq!(target_option(&[2, 9, 1, 1, 1, 1, 1, 1]), None);
        assert_eq!(target_option(&[1, 1, 9, 9, 9, 9, 9, 9, 2, 1, 2, 0, 0, 0, 0, 7]), Some(MAC));
    }
}
