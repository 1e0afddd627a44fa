//! Capturing adverts on an interface, sent and received ones, before any packet filter. `vipd
//! doctor` compares them with what the advert socket receives.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, SockFilter, Socket, Type};

use crate::host::bpf;
use crate::host::sys::{self, PacketBuffer};
use crate::vrrp::advert::{self, PROTOCOL};

/// [`receive`](AdvertCapture::receive) returns after about this many packets.
const BATCH_MAX: usize = 1024;

/// A packet socket on one interface for packets of IP protocol 112.
#[derive(Debug)]
pub(crate) struct AdvertCapture {
    socket: Socket,
    buffer: PacketBuffer,
}

/// A captured advert. The message has not been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CapturedAdvert<'a> {
    /// Whether this host sent it.
    pub(crate) outgoing: bool,
    /// Source address, which may be forged.
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// The VRRP message, without the IP header.
    pub(crate) message: &'a [u8],
}

impl AdvertCapture {
    /// Starts to capture on the interface with this index.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW; ENODEV if the interface is gone.
    pub(crate) fn open(index: u32) -> io::Result<Self> {
        // SOCK_DGRAM removes link-layer headers, so any kind of interface will do.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?;
        socket.attach_filter(&filter())?;
        socket.bind(&sys::link_address(index, libc::ETH_P_ALL as u16, [0; 6]))?;
        Ok(AdvertCapture { socket, buffer: PacketBuffer::default() })
    }

    /// Passes the adverts captured since the last call to `handle`, about 1024 at most.
    ///
    /// # Errors
    /// As recvmmsg(2).
    pub(crate) fn receive(&mut self, mut handle: impl FnMut(CapturedAdvert<'_>)) -> io::Result<()> {
        let drained = self.buffer.drain(self.socket.as_fd(), BATCH_MAX, |packet| {
            let outgoing = packet.is_outgoing();
            if let Some(passed) = ipv4(packet.payload).or_else(|| ipv6(packet.payload)) {
                handle(CapturedAdvert { outgoing, ..passed });
            }
        });
        drained.map(drop)
    }
}

impl AsFd for AdvertCapture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

pub(crate) fn ipv4(packet: &[u8]) -> Option<CapturedAdvert<'_>> {
    let packet = advert::ipv4_packet(packet).ok()?;
    Some(CapturedAdvert {
        outgoing: false,
        source: packet.source.into(),
        destination: packet.destination.into(),
        ttl: packet.ttl,
        message: packet.payload,
    })
}

pub(crate) fn ipv6(packet: &[u8]) -> Option<CapturedAdvert<'_>> {
    let (header, rest) = packet.split_first_chunk::<40>()?;
    let [version, _, _, _, length_high, length_low, next, ttl, addresses @ ..] = header;
    if version >> 4 != 6 || *next != PROTOCOL {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
    let source: [u8; 16] = *addresses.first_chunk()?;
    let destination: [u8; 16] = *addresses.last_chunk()?;
    Some(CapturedAdvert {
        outgoing: false,
        source: Ipv6Addr::from(source).into(),
        destination: Ipv6Addr::from(destination).into(),
        ttl: *ttl,
        message: rest.get(..length.min(rest.len()))?,
    })
}

/// Passes IPv4 and IPv6 packets whose header is followed directly by VRRP.
fn filter() -> [SockFilter; 9] {
    use libc::{BPF_AND, BPF_B, BPF_JEQ};
    const VERSION: u32 = 0xf0;
    [
        bpf::load(BPF_B, 0),
        bpf::calculate(BPF_AND, VERSION),
        bpf::jump(BPF_JEQ, 0x40, 0, 2),
        bpf::load(BPF_B, 9),
        bpf::skip(1),
        bpf::load(BPF_B, 6),
        bpf::jump(BPF_JEQ, PROTOCOL as u32, 0, 1),
        bpf::ACCEPT,
        bpf::DROP,
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_ipv6_packet_is_taken_apart_and_a_cut_one_is_not() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 3, PROTOCOL, 255];
        packet.extend("fe80::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("ff02::12".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend([1, 2, 3, 4]);
        let passed = ipv6(&packet).unwrap();
        assert_eq!(passed.source, "fe80::1".parse::<IpAddr>().unwrap());
        assert_eq!(passed.destination, "ff02::12".parse::<IpAddr>().unwrap());
        assert_eq!((passed.ttl, passed.message), (255, &[1, 2, 3][..]));
        assert_eq!(ipv6(&packet[..39]), None);
        assert_eq!(ipv6(&packet[..41]).unwrap().message, [1]);
        packet[6] = 17;
        assert_eq!(ipv6(&packet), None);
    }
}
