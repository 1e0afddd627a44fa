//! The raw socket that sends and receives the adverts of one address family on one interface.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockFilter, Socket, Type};

use crate::host::bpf;
use crate::host::sys::{self, OutgoingPacket, PacketBuffer};
use crate::vrrp::{Family, SendError, Vrid, advert};

/// TTL and hop limit of an advert (RFC 9568 5.1.1.3, 5.1.2.3).
const TTL: u32 = 255;
/// DSCP CS6, network control (RFC 4594 3.1), as routing protocols use it.
const TRAFFIC_CLASS: u32 = 0xc0;
/// `SO_PRIORITY` of adverts and announcements: `TC_PRIO_INTERACTIVE`, the first band of pfifo_fast.
/// Priorities above it need more privileges (socket(7)).
pub(super) const PRIORITY: u32 = 6;
/// Receive buffer in bytes: room for thousands of adverts while the process is not scheduled.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Send buffer in bytes: the most that the kernel takes.
const SEND_BUFFER: usize = i32::MAX as usize / 2;

/// Sends and receives multicast and unicast adverts of one interface and address family.
///
/// It receives nothing before [`listen_for`](Self::listen_for), and never what it has sent itself.
/// The kernel neither computes nor verifies checksums of these sockets; the caller does.
#[derive(Debug)]
pub struct AdvertSocket {
    socket: Socket,
    family: Family,
    index: u32,
    buffer: PacketBuffer,
}

/// An advert as received. The message has at least 8 bytes and one of the VRIDs listened for;
/// nothing else about it has been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedAdvert<'a> {
    /// Source address, which may be forged.
    pub source: IpAddr,
    /// Destination: the multicast group or an address of this host.
    pub destination: IpAddr,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// The VRRP message, without the IP header.
    pub message: &'a [u8],
}

/// An advert to send.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingAdvert<'a> {
    /// Source: an address that the interface has, or had a moment ago.
    pub from: IpAddr,
    /// Destination: the multicast group or a peer.
    pub to: IpAddr,
    /// The VRRP message, including its checksum.
    pub message: &'a [u8],
}

impl AdvertSocket {
    /// [`receive`](Self::receive) returns after about this many adverts, so that a flood does not
    /// starve the rest of the event loop.
    pub const BATCH_MAX: usize = 1024;

    /// Opens a socket on the interface with this index and joins the multicast group.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW; ENODEV if the interface is gone; also fails if the address family
    /// is disabled on the interface.
    pub fn open(index: u32, family: Family) -> io::Result<Self> {
        let interface =
            NonZeroU32::new(index).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let protocol = Protocol::from(i32::from(advert::PROTOCOL));
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
        // An unbound raw socket receives from all interfaces, so drop everything until it is bound.
        socket.attach_filter(&[bpf::DROP])?;
        // Each advert names its source. These options let one leave whose source the kernel has just
        // lost: adverts go on while an address is replaced, and priority 0 is sent when it has gone.
        // For IPv4, IP_FREEBIND would not do: it does not concern sources that a message names.
        match family {
            Family::V4 => {
                socket.set_ip_transparent_v4(true)?;
                socket.bind_device_by_index_v4(Some(interface))?;
                socket.set_multicast_all_v4(false)?;
                socket.set_multicast_loop_v4(false)?;
                socket.set_multicast_ttl_v4(TTL)?;
                socket.set_ttl_v4(TTL)?;
                socket.set_tos_v4(TRAFFIC_CLASS)?;
                // Without it the kernel reports packets that it dropped for want of a neighbour
                // entry as sent.
                sys::set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
            }
            Family::V6 => {
                socket.set_freebind_v6(true)?;
                socket.bind_device_by_index_v6(Some(interface))?;
                socket.set_multicast_all_v6(false)?;
                socket.set_multicast_loop_v6(false)?;
                socket.set_multicast_hops_v6(TTL)?;
                socket.set_unicast_hops_v6(TTL)?;
                socket.set_tclass_v6(TRAFFIC_CLASS)?;
                socket.set_recv_hoplimit_v6(true)?;
                sys::set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
        match family.multicast_group() {
            IpAddr::V4(group) => {
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
            }
            IpAddr::V6(group) => socket.join_multicast_v6(&group, index)?,
        }
        // Setting the traffic class has changed the priority, so it is set afterwards.
        socket.set_priority(PRIORITY)?;
        // Only CAP_NET_ADMIN in the initial user namespace may exceed net.core.rmem_max.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        }
        enlarge_send_buffer(&socket)?;
        let mut opened = AdvertSocket { socket, family, index, buffer: PacketBuffer::default() };
        // Discard what arrived before the filter was attached.
        opened.receive(|_| {})?;
        Ok(opened)
    }

    /// From now on receives messages with one of these VRIDs and at least 8 bytes, the length of
    /// the shortest VRRP message. A socket filter drops all others.
    ///
    /// # Errors
    /// ENOMEM: the filter exceeds `net.core.optmem_max`.
    pub fn listen_for(&self, vrids: &[Vrid]) -> io::Result<()> {
        self.socket.attach_filter(&filter(self.family, vrids))
    }

    /// Passes waiting adverts to `handle`, without blocking. Returns the number of packets read; at
    /// least [`Self::BATCH_MAX`] means that more may be waiting.
    ///
    /// # Errors
    /// As recvmmsg(2). The error may be that of an advert that could not be delivered.
    pub fn receive(&mut self, mut handle: impl FnMut(ReceivedAdvert<'_>)) -> io::Result<usize> {
        let family = self.family;
        self.buffer.drain(self.socket.as_fd(), Self::BATCH_MAX, |packet| {
            let received = match family {
                Family::V4 => ipv4(packet),
                Family::V6 => ipv6(packet),
            };
            if let Some(received) = received {
                handle(received);
            }
        })
    }

    /// Passes the destinations of adverts that could not be delivered after they had left to
    /// `handle`, each with the reason. To be called whenever the socket was readable and nothing was
    /// received, or it would be readable for ever.
    pub fn receive_errors(&mut self, handle: impl FnMut(IpAddr, io::Error)) {
        self.buffer.drain_errors(self.socket.as_fd(), handle);
    }

    /// Sends one advert without blocking.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn send(&self, from: IpAddr, to: IpAddr, message: &[u8]) -> io::Result<()> {
        let mut outcome = Ok(());
        self.send_many([OutgoingAdvert { from, to, message }], |_, error| outcome = Err(error));
        outcome
    }

    /// Sends adverts in batches, without blocking. Calls `failed` with the index and error of each
    /// one that the kernel refused.
    pub fn send_many<'a>(
        &self,
        adverts: impl IntoIterator<Item = OutgoingAdvert<'a>>,
        failed: impl FnMut(usize, io::Error),
    ) {
        let packets = adverts.into_iter().map(|advert| self.outgoing(&advert));
        sys::send_all(self.socket.as_fd(), packets, failed);
    }

    fn outgoing<'a>(&self, advert: &OutgoingAdvert<'a>) -> OutgoingPacket<'a> {
        let mut to = SocketAddr::new(advert.to, 0);
        if let SocketAddr::V6(to) = &mut to
            && (to.ip().is_multicast() || to.ip().is_unicast_link_local())
        {
            to.set_scope_id(self.index);
        }
        OutgoingPacket {
            to: SockAddr::from(to),
            from: Some((advert.from, self.index)),
            payload: advert.message,
        }
    }
}

impl AsFd for AdvertSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Packets count against the buffer of their socket until they have left. Those to a neighbour that
/// does not answer wait in its queue (`unres_qlen_bytes`, 208 KiB), which is as large as the default
/// buffer: two such peers would keep adverts from every other one. The queues of the neighbours and
/// of the interface limit what waits, so this buffer need not.
pub(super) fn enlarge_send_buffer(socket: &Socket) -> io::Result<()> {
    // As with the receive buffer: others may not exceed net.core.wmem_max.
    setsockopt(socket, sockopt::SndBufForce, &SEND_BUFFER)
        .or_else(|_| setsockopt(socket, sockopt::SndBuf, &SEND_BUFFER))?;
    Ok(())
}

/// The error that sending an advert returned.
pub(crate) fn send_error(error: &io::Error) -> SendError {
    match error.raw_os_error().unwrap_or_default() {
        libc::EPERM | libc::EACCES => SendError::Filtered,
        libc::ENETUNREACH
        | libc::EHOSTUNREACH
        | libc::ENETDOWN
        | libc::EHOSTDOWN
        | libc::EADDRNOTAVAIL
        | libc::ENODEV
        | libc::ENXIO => SendError::Unreachable,
        libc::ENOBUFS | libc::ENOMEM => SendError::Full,
        libc::EAGAIN => SendError::BufferFull,
        libc::ENOPROTOOPT | libc::EPROTO => SendError::NoDaemon,
        errno => SendError::Other(errno),
    }
}

/// IPv4 raw sockets deliver the IP header too (raw(7)).
fn ipv4(packet: sys::ReceivedPacket<'_>) -> Option<ReceivedAdvert<'_>> {
    let packet = advert::ipv4_packet(packet.payload).ok()?;
    Some(ReceivedAdvert {
        source: packet.source.into(),
        destination: packet.destination.into(),
        ttl: packet.ttl,
        message: packet.payload,
    })
}

/// IPv6 raw sockets deliver the message alone; destination and hop limit are in control messages
/// (RFC 3542 3).
fn ipv6(packet: sys::ReceivedPacket<'_>) -> Option<ReceivedAdvert<'_>> {
    Some(ReceivedAdvert {
        source: packet.source()?,
        destination: packet.destination_v6()?.into(),
        ttl: packet.hop_limit()?,
        message: packet.payload,
    })
}

/// The socket filter for messages with one of these VRIDs: a bit set of 256 bits in eight words, of
/// which those without a bit are left out.
fn filter(family: Family, vrids: &[Vrid]) -> Vec<SockFilter> {
    use libc::{
        BPF_AND, BPF_B, BPF_IMM, BPF_JEQ, BPF_JGE, BPF_LD, BPF_LDX, BPF_LEN, BPF_MEM, BPF_MISC,
        BPF_MSH, BPF_RSH, BPF_ST, BPF_SUB, BPF_TAX, BPF_W,
    };
    let mut set = [0_u32; 8];
    for vrid in vrids {
        set[usize::from(vrid.get() >> 5)] |= 1 << (vrid.get() & 31);
    }
    let words: Vec<(u32, u32)> = (0..).zip(set).filter(|(_, word)| *word != 0).collect();

    let mut program = vec![
        // X = length of the IP header, which IPv6 raw sockets do not deliver.
        match family {
            Family::V4 => bpf::instruction(BPF_LDX | BPF_MSH | BPF_B, 0),
            Family::V6 => bpf::instruction(BPF_LDX | BPF_IMM, 0),
        },
        bpf::instruction(BPF_LD | BPF_W | BPF_LEN, 0),
        bpf::calculate_with_x(BPF_SUB),
        bpf::jump(BPF_JGE, 8, 1, 0),
        bpf::DROP,
        // X = number of the bit, A = number of the word.
        bpf::load_indexed(BPF_B, 1),
        bpf::instruction(BPF_ST, 0),
        bpf::calculate(BPF_AND, 31),
        bpf::instruction(BPF_MISC | BPF_TAX, 0),
        bpf::instruction(BPF_LD | BPF_MEM, 0),
        bpf::calculate(BPF_RSH, 5),
    ];
    for (place, (number, word)) in (1..).zip(&words) {
        // Skip the remaining words (three instructions each) and the DROP after them.
        let to_test = 3 * (words.len() as u32 - place) + 1;
        program.extend([bpf::jump(BPF_JEQ, *number, 0, 2), bpf::set(*word), bpf::skip(to_test)]);
    }
    program.extend([
        bpf::DROP,
        bpf::calculate_with_x(BPF_RSH),
        bpf::calculate(BPF_AND, 1),
        bpf::jump(BPF_JEQ, 1, 0, 1),
        bpf::ACCEPT,
        bpf::DROP,
    ]);
    program
}
