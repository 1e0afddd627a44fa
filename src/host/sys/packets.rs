//! Sending and receiving packets in batches, by sendmmsg(2) and recvmmsg(2).

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

#[cfg(not(miri))]
use libc::{recvmmsg, sendmmsg};
use socket2::SockAddr;

#[cfg(miri)]
use super::loopback::{recvmmsg, sendmmsg};

/// Most packets received by one system call.
const RECEIVE_BATCH: usize = 16;
/// Fewest packets that one system call has room for.
const MIN_BATCH: usize = 2;
/// Most packets sent by one system call.
pub(crate) const SEND_BATCH: usize = 64;

/// Bytes per packet: the longest VRRP message (255 IPv6 addresses), a trailer and the longest IPv4
/// header fit.
const PAYLOAD_SIZE: usize = 4352;
/// Bytes of control messages per received packet: destination and hop limit of IPv6 fit, and why a
/// packet could not be delivered.
const CONTROL_SIZE: usize = 128;
/// Bytes per source address: the largest is `sockaddr_in6` (28 bytes).
const NAME_SIZE: usize = 32;
/// Bytes of control messages per sent packet: one `IP_PKTINFO` or `IPV6_PKTINFO` fits.
const SOURCE_SIZE: usize = 40;

/// A packet to send.
#[derive(Debug)]
pub(crate) struct OutgoingPacket<'a> {
    pub to: SockAddr,
    /// Source address and interface index; the kernel chooses if `None`.
    pub from: Option<(IpAddr, u32)>,
    /// Bytes to send, without the headers that the socket adds.
    pub payload: &'a [u8],
}

/// Sends at most [`SEND_BATCH`] packets with one system call, without blocking. Returns how many
/// were sent. It stops at the first packet that fails; an error is that of the first packet.
fn send(fd: BorrowedFd<'_>, packets: &[OutgoingPacket<'_>]) -> io::Result<usize> {
    #[derive(Clone, Copy)]
    #[repr(align(8))]
    struct Control([u8; SOURCE_SIZE]);

    // Uninitialised, since most calls send one packet and need not touch the rest.
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; SEND_BATCH];
    let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; SEND_BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; SEND_BATCH];
    let mut count = 0;
    for (((packet, header), part), control) in
        packets.iter().zip(&mut headers).zip(&mut parts).zip(&mut controls)
    {
        let part = part.write(libc::iovec {
            iov_base: packet.payload.as_ptr().cast_mut().cast(),
            iov_len: packet.payload.len(),
        });
        // SAFETY: it is a plain C structure of integers and pointers, for which zero is a value.
        let header = &mut header.write(unsafe { mem::zeroed() }).msg_hdr;
        header.msg_name = packet.to.as_ptr().cast_mut().cast();
        header.msg_namelen = packet.to.len();
        header.msg_iov = part;
        header.msg_iovlen = 1;
        if let Some((source, index)) = packet.from {
            let control = control.write(Control([0; SOURCE_SIZE]));
            header.msg_controllen = write_source(&mut control.0, source, index) as _;
            header.msg_control = control.0.as_mut_ptr().cast();
        }
        count += 1;
    }
    // SAFETY: the first `count` headers were written above and point to buffers of the lengths they
    // state, all of which (`packets`, `parts`, `controls`) outlive the call; the kernel writes only
    // to `headers`.
    let sent = unsafe {
        sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    if sent >= 0 { Ok(sent as usize) } else { Err(io::Error::last_os_error()) }
}

/// Sends all packets, up to [`SEND_BATCH`] per system call, without blocking. Calls `failed` with
/// the index and error of each packet that the kernel refused; the others are sent all the same.
pub(crate) fn send_all<'a>(
    fd: BorrowedFd<'_>,
    packets: impl IntoIterator<Item = OutgoingPacket<'a>>,
    mut failed: impl FnMut(usize, io::Error),
) {
    let mut packets = packets.into_iter();
    let mut place = 0;
    loop {
        let mut room = [const { MaybeUninit::<OutgoingPacket<'a>>::uninit() }; SEND_BATCH];
        let mut count = 0;
        for (room, packet) in room.iter_mut().zip(&mut packets) {
            room.write(packet);
            count += 1;
        }
        // SAFETY: the first `count` elements have just been written.
        let batch = unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), count) };
        let mut rest: &[OutgoingPacket<'a>] = batch;
        while !rest.is_empty() {
            // The kernel stops at the first packet that fails, and returns its error in the next
            // call. An error may also be that of an earlier packet, which the network reported
            // meanwhile: it is returned once, without sending anything.
            let handled = match send(fd, rest).or_else(|_| send(fd, rest)) {
                Ok(sent) => sent.max(1),
                Err(error) => {
                    failed(place, error);
                    1
                }
            };
            place += handled;
            rest = rest.get(handled..).unwrap_or(&[]);
        }
        if count < SEND_BATCH {
            return;
        }
    }
}

/// Writes the control message that selects source address and interface (ip(7), ipv6(7)). Returns
/// its length with padding.
fn write_source(control: &mut [u8; SOURCE_SIZE], source: IpAddr, index: u32) -> usize {
    let mut info = [0; 20];
    let (level, kind, info) = match source {
        IpAddr::V4(source) => {
            info[..4].copy_from_slice(&index.to_ne_bytes());
            info[4..8].copy_from_slice(&source.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, &info[..12])
        }
        IpAddr::V6(source) => {
            info[..16].copy_from_slice(&source.octets());
            info[16..].copy_from_slice(&index.to_ne_bytes());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info[..])
        }
    };
    let word = mem::size_of::<usize>();
    let length = word + 8 + info.len();
    control[..word].copy_from_slice(&length.to_ne_bytes());
    control[word..word + 4].copy_from_slice(&level.to_ne_bytes());
    control[word + 4..word + 8].copy_from_slice(&kind.to_ne_bytes());
    control[word + 8..length].copy_from_slice(info);
    length.next_multiple_of(word)
}

/// Buffers for received packets, allocated once and reused.
#[derive(Debug)]
pub(crate) struct PacketBuffer {
    slots: Box<[Slot]>,
    /// Allocated separately and zeroed, so that unused ones occupy no memory.
    payloads: Box<[[u8; PAYLOAD_SIZE]]>,
    /// Packets to ask for in the next call. Preparing a full batch costs more than receiving the
    /// one packet that there usually is.
    room: usize,
}

#[derive(Clone, Debug)]
#[repr(C, align(8))]
struct Slot {
    control: [u8; CONTROL_SIZE],
    name: [u8; NAME_SIZE],
    control_length: usize,
    name_length: usize,
    payload_length: usize,
}

impl Default for PacketBuffer {
    fn default() -> Self {
        let empty = Slot {
            control: [0; CONTROL_SIZE],
            name: [0; NAME_SIZE],
            control_length: 0,
            name_length: 0,
            payload_length: 0,
        };
        let payloads = vec![[0; PAYLOAD_SIZE]; RECEIVE_BATCH].into();
        PacketBuffer { slots: vec![empty; RECEIVE_BATCH].into(), payloads, room: MIN_BATCH }
    }
}

impl PacketBuffer {
    /// Passes waiting packets to `handle`, without blocking. Returns their number; at least
    /// `batch_max` means that more may be waiting.
    ///
    /// # Errors
    /// As recvmmsg(2). Packets may have been passed on before.
    pub(crate) fn drain(
        &mut self,
        fd: BorrowedFd<'_>,
        batch_max: usize,
        mut handle: impl FnMut(ReceivedPacket<'_>),
    ) -> io::Result<usize> {
        let mut total = 0;
        while total < batch_max {
            let (packets, more) = self.receive(fd, 0)?;
            for packet in packets {
                total += 1;
                handle(packet);
            }
            if !more {
                break;
            }
        }
        Ok(total)
    }

    /// Empties the error queue of a socket with `IP_RECVERR` or `IPV6_RECVERR` (ip(7)): passes the
    /// destinations of packets that could not be delivered to `handle`, each with the reason.
    pub(crate) fn drain_errors(
        &mut self,
        fd: BorrowedFd<'_>,
        mut handle: impl FnMut(IpAddr, io::Error),
    ) {
        while let Ok((packets, more)) = self.receive(fd, libc::MSG_ERRQUEUE) {
            for packet in packets {
                if let (Some(to), Some(error)) = (packet.source(), packet.error()) {
                    handle(to, error);
                }
            }
            if !more {
                return;
            }
        }
    }

    /// Receives at most [`RECEIVE_BATCH`] packets with one system call, without blocking. Returns
    /// them, and whether more may be waiting.
    fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        flags: i32,
    ) -> io::Result<(impl Iterator<Item = ReceivedPacket<'_>>, bool)> {
        let room = self.room;
        // Uninitialised, as in `send`.
        let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; RECEIVE_BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; RECEIVE_BATCH];
        let mut asked = 0;
        let slots = self.slots.iter_mut().zip(self.payloads.iter_mut()).take(room);
        for (((slot, payload), header), part) in slots.zip(&mut headers).zip(&mut parts) {
            let part = part.write(libc::iovec {
                iov_base: payload.as_mut_ptr().cast(),
                iov_len: PAYLOAD_SIZE,
            });
            // SAFETY: as in `send`.
            let header = &mut header.write(unsafe { mem::zeroed() }).msg_hdr;
            header.msg_name = slot.name.as_mut_ptr().cast();
            header.msg_namelen = NAME_SIZE as libc::socklen_t;
            header.msg_control = slot.control.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_SIZE as _;
            header.msg_iov = part;
            header.msg_iovlen = 1;
            asked += 1;
        }
        // SAFETY: the first `asked` headers were written above and point to buffers of the lengths
        // they state; the slots are ours (`&mut self`), and `parts` outlives the call.
        let received = unsafe {
            recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                asked,
                (libc::MSG_DONTWAIT | flags) as _,
                std::ptr::null_mut(),
            )
        };
        let count = match received {
            0.. => received as usize,
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => 0,
                error => return Err(error),
            },
        };
        for (slot, header) in self.slots.iter_mut().zip(&headers).take(count.min(room)) {
            // SAFETY: `count` is at most `asked`, so this header was written above.
            let header = unsafe { header.assume_init_ref() };
            slot.payload_length = (header.msg_len as usize).min(PAYLOAD_SIZE);
            // The type differs between C libraries.
            #[allow(clippy::unnecessary_cast)]
            let control_length = header.msg_hdr.msg_controllen as usize;
            slot.control_length = control_length.min(CONTROL_SIZE);
            slot.name_length = (header.msg_hdr.msg_namelen as usize).min(NAME_SIZE);
        }
        let full = count == room;
        self.room = if full { RECEIVE_BATCH } else { (2 * count).clamp(MIN_BATCH, RECEIVE_BATCH) };
        let received = self.slots.iter().zip(&self.payloads).take(count);
        let packets = received.map(|(slot, payload)| ReceivedPacket {
            name: &slot.name[..slot.name_length],
            control: &slot.control[..slot.control_length],
            payload: &payload[..slot.payload_length],
        });
        Ok((packets, full))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedPacket<'a> {
    /// Source address, as the kernel writes it.
    pub name: &'a [u8],
    /// Control messages.
    pub control: &'a [u8],
    /// Bytes as received, truncated beyond the length of the longest VRRP message.
    pub payload: &'a [u8],
}

impl<'a> ReceivedPacket<'a> {
    /// Source address, if the socket is an IP socket; of a packet from the error queue, the
    /// destination.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        let family = u16::from_ne_bytes(self.name.first_chunk().copied()?);
        match i32::from(family) {
            libc::AF_INET => {
                let octets: [u8; 4] = self.name.get(4..8)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets).into())
            }
            libc::AF_INET6 => {
                let octets: [u8; 16] = self.name.get(8..24)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            }
            _ => None,
        }
    }

    /// Whether this host sent it, as a packet socket reports (`sll_pkttype`, packet(7)).
    pub(crate) fn is_outgoing(&self) -> bool {
        let family = self.name.first_chunk().map(|bytes| i32::from(u16::from_ne_bytes(*bytes)));
        family == Some(libc::AF_PACKET) && self.name.get(10) == Some(&libc::PACKET_OUTGOING)
    }

    /// IPv6 destination address, if `IPV6_RECVPKTINFO` is set.
    pub(crate) fn destination_v6(&self) -> Option<Ipv6Addr> {
        let info = self.ancillary(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)?;
        Some(Ipv6Addr::from(*info.first_chunk::<16>()?))
    }

    /// IPv6 hop limit, if `IPV6_RECVHOPLIMIT` is set.
    pub(crate) fn hop_limit(&self) -> Option<u8> {
        let limit = self.ancillary(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)?;
        u8::try_from(i32::from_ne_bytes(*limit.first_chunk()?)).ok()
    }

    /// Why a packet from the error queue could not be delivered: the first member of `struct
    /// sock_extended_err`.
    pub(crate) fn error(&self) -> Option<io::Error> {
        let found = self
            .ancillary(libc::IPPROTO_IP, libc::IP_RECVERR)
            .or_else(|| self.ancillary(libc::IPPROTO_IPV6, libc::IPV6_RECVERR))?;
        Some(io::Error::from_raw_os_error(i32::from_ne_bytes(*found.first_chunk()?)))
    }

    /// Data of the first control message of this level and type. Each one consists of length,
    /// level, type and data, and is aligned to the size of a pointer (cmsg(3)).
    fn ancillary(&self, level: i32, kind: i32) -> Option<&'a [u8]> {
        const WORD: usize = mem::size_of::<usize>();
        let mut rest = self.control;
        loop {
            let length = usize::from_ne_bytes(*rest.first_chunk::<WORD>()?);
            let message = rest.get(WORD..length)?;
            let (its_level, after) = message.split_first_chunk::<4>()?;
            let (its_kind, data) = after.split_first_chunk::<4>()?;
            if i32::from_ne_bytes(*its_level) == level && i32::from_ne_bytes(*its_kind) == kind {
                return Some(data);
            }
            rest = rest.get(length.next_multiple_of(WORD)..)?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::{AsFd, OwnedFd};

    use super::*;

    /// A socket that sends, one that receives, and the address of that.
    fn sockets() -> (OwnedFd, OwnedFd, SockAddr) {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        if cfg!(miri) {
            // Any descriptors: the packets go another way.
            let (reader, writer) = io::pipe().unwrap();
            return (writer.into(), reader.into(), to.into());
        }
        let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (sends, receives) = (socket(), socket());
        let to = receives.local_addr().unwrap();
        (sends.into(), receives.into(), to.into())
    }

    #[test]
    fn packets_arrive_in_order_and_none_is_lost_between_batches() {
        let (sends, receives, to) = sockets();
        let payloads: Vec<Vec<u8>> = (0..=SEND_BATCH)
            .map(|n| vec![n as u8; if n == 3 { PAYLOAD_SIZE + 9 } else { n }])
            .collect();
        let from = Some((Ipv4Addr::LOCALHOST.into(), 0));
        let packets = payloads.iter().enumerate().map(|(n, payload)| OutgoingPacket {
            to: to.clone(),
            from: from.filter(|_| n % 2 == 0),
            payload,
        });
        send_all(sends.as_fd(), packets, |n, error| panic!("{n}: {error}"));

        let mut buffer = PacketBuffer::default();
        let mut received = Vec::new();
        let mut drain = |most| {
            let count = buffer.drain(receives.as_fd(), most, |packet| {
                assert_eq!(packet.source(), Some(Ipv4Addr::LOCALHOST.into()));
                received.push(packet.payload.to_vec());
            });
            count.unwrap()
        };
        let some = drain(20);
        assert!((20..=SEND_BATCH).contains(&some), "{some}");
        assert_eq!(some + drain(usize::MAX), SEND_BATCH + 1);
        assert_eq!(drain(usize::MAX), 0);
        for (sent, received) in payloads.iter().zip(&received) {
            assert_eq!(sent.get(..PAYLOAD_SIZE).unwrap_or(sent), received);
        }
    }

    #[test]
    fn a_source_is_written_as_the_kernel_reads_it() {
        for source in [IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let mut control = [0; SOURCE_SIZE];
            let length = write_source(&mut control, source, 7);
            let packet = ReceivedPacket { name: &[], control: &control[..length], payload: &[] };
            let (level, kind) = match source {
                IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
                IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO),
            };
            let info = packet.ancillary(level, kind).unwrap();
            assert_eq!(
                packet.destination_v6().map(IpAddr::V6),
                Some(source).filter(IpAddr::is_ipv6)
            );
            assert!(info.windows(4).any(|bytes| bytes == 7_u32.to_ne_bytes()));
        }
    }
}
