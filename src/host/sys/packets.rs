//! Packets sent and received many at a time, by sendmmsg(2) and recvmmsg(2).

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockAddr;

/// How many packets one system call receives at most.
const RECEIVE_BATCH: usize = 16;
/// How many it receives at least.
const MIN_BATCH: usize = 2;
/// How many it sends at most.
pub const SEND_BATCH: usize = 64;

/// The longest VRRP message (255 IPv6 addresses), a trailer and the longest IPv4 header fit.
const PAYLOAD_SIZE: usize = 4352;
/// Destination and hop limit of an IPv6 packet fit.
const CONTROL_SIZE: usize = 64;
/// The largest address we are sent from: `sockaddr_in6` (28 bytes).
const NAME_SIZE: usize = 32;
/// One `IP_PKTINFO` or `IPV6_PKTINFO` fits.
const SOURCE_SIZE: usize = 40;

/// One packet to send.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub to: SockAddr,
    /// Source address and interface index; without it the kernel chooses.
    pub from: Option<(IpAddr, u32)>,
    /// What it says.
    pub payload: &'a [u8],
}

/// Sends these packets (at most [`SEND_BATCH`]) in one call that never blocks. Says how many went out;
/// an error is the first one's.
fn send(fd: BorrowedFd<'_>, packets: &[Outgoing<'_>]) -> io::Result<usize> {
    #[derive(Clone, Copy)]
    #[repr(align(8))]
    struct Control([u8; SOURCE_SIZE]);

    // Room for many, of which only as much is touched as there are packets: mostly one.
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
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    if sent >= 0 { Ok(sent as usize) } else { Err(io::Error::last_os_error()) }
}

/// Sends all packets with few calls that never block; `failed` is told which the kernel did not
/// take, by their place in the list, and why.
pub fn send_all<'a>(
    fd: BorrowedFd<'_>,
    packets: impl IntoIterator<Item = Outgoing<'a>>,
    mut failed: impl FnMut(usize, io::Error),
) {
    let mut packets = packets.into_iter();
    let mut place = 0;
    loop {
        let mut room = [const { MaybeUninit::<Outgoing<'a>>::uninit() }; SEND_BATCH];
        let mut count = 0;
        for (room, packet) in room.iter_mut().zip(&mut packets) {
            room.write(packet);
            count += 1;
        }
        // SAFETY: so many have just been written, from the first on.
        let batch = unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), count) };
        let mut rest: &[Outgoing<'a>] = batch;
        while !rest.is_empty() {
            // The kernel stops at the first that fails, and says why when asked again.
            let handled = match send(fd, rest) {
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

/// Writes the control message that chooses source and interface; returns its length.
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

/// Where packets are received into: allocated once, used again and again.
#[derive(Debug)]
pub struct Inbox {
    slots: Box<[Slot]>,
    /// Apart and all zero, so that no memory is used for what was never received.
    payloads: Box<[[u8; PAYLOAD_SIZE]]>,
    /// How many to ask for next: where mostly one comes, room for many costs more than it does.
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

impl Default for Inbox {
    fn default() -> Self {
        let empty = Slot {
            control: [0; CONTROL_SIZE],
            name: [0; NAME_SIZE],
            control_length: 0,
            name_length: 0,
            payload_length: 0,
        };
        let payloads = vec![[0; PAYLOAD_SIZE]; RECEIVE_BATCH].into();
        Inbox { slots: vec![empty; RECEIVE_BATCH].into(), payloads, room: MIN_BATCH }
    }
}

impl Inbox {
    /// Hands over what is waiting, without ever blocking. Returns how many packets that was; `batch_max`
    /// of them or more mean that still more may wait.
    ///
    /// # Errors
    /// What the socket says; some packets may have been handed over before.
    pub fn drain(
        &mut self,
        fd: BorrowedFd<'_>,
        batch_max: usize,
        mut handle: impl FnMut(Packet<'_>),
    ) -> io::Result<usize> {
        let mut total = 0;
        while total < batch_max {
            let (packets, more) = self.receive(fd)?;
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

    /// Receives what is waiting, at most [`RECEIVE_BATCH`] packets, in one call that never blocks; and says
    /// whether more may be waiting.
    fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
    ) -> io::Result<(impl Iterator<Item = Packet<'_>>, bool)> {
        let room = self.room;
        // As in `send`.
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
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                asked,
                libc::MSG_DONTWAIT as _,
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
            // SAFETY: it is among the headers that were written.
            let header = unsafe { header.assume_init_ref() };
            slot.payload_length = (header.msg_len as usize).min(PAYLOAD_SIZE);
            // Another type on other C libraries.
            #[allow(clippy::unnecessary_cast)]
            let control_length = header.msg_hdr.msg_controllen as usize;
            slot.control_length = control_length.min(CONTROL_SIZE);
            slot.name_length = (header.msg_hdr.msg_namelen as usize).min(NAME_SIZE);
        }
        let full = count == room;
        self.room = if full { RECEIVE_BATCH } else { (2 * count).clamp(MIN_BATCH, RECEIVE_BATCH) };
        let received = self.slots.iter().zip(&self.payloads).take(count);
        let packets = received.map(|(slot, payload)| Packet {
            name: &slot.name[..slot.name_length],
            control: &slot.control[..slot.control_length],
            payload: &payload[..slot.payload_length],
        });
        Ok((packets, full))
    }
}

/// One packet as received.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    name: &'a [u8],
    control: &'a [u8],
    /// The bytes, cut off if they are longer than any VRRP message.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The sender, if it is an IP address.
    pub fn source(&self) -> Option<IpAddr> {
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

    /// Whether a packet socket saw it leave, not arrive (packet(7): `sll_pkttype`).
    pub fn is_outgoing(&self) -> bool {
        let family = self.name.first_chunk().map(|bytes| i32::from(u16::from_ne_bytes(*bytes)));
        family == Some(libc::AF_PACKET) && self.name.get(10) == Some(&libc::PACKET_OUTGOING)
    }

    /// The IPv6 destination, if the socket was asked to report it.
    pub fn destination_v6(&self) -> Option<Ipv6Addr> {
        let info = self.ancillary(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)?;
        Some(Ipv6Addr::from(*info.first_chunk::<16>()?))
    }

    /// The IPv6 hop limit, if the socket was asked to report it.
    pub fn hop_limit(&self) -> Option<u8> {
        let limit = self.ancillary(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)?;
        u8::try_from(i32::from_ne_bytes(*limit.first_chunk()?)).ok()
    }

    /// The data of the first control message of this kind (cmsg(3): length, level, type, data;
    /// each begins at a multiple of the machine's word).
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
