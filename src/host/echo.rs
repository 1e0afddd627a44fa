//! Sockets for ICMP echo requests, opened before privileges are dropped.

use std::io;
use std::net::UdpSocket;

use socket2::{Domain, Protocol, Socket, Type};

use super::bpf;
use crate::vrrp::Family;

/// A socket for each address family, or the error why there is none.
#[derive(Debug)]
pub(crate) struct EchoSockets {
    pub(crate) v4: io::Result<EchoSocket>,
    pub(crate) v6: io::Result<EchoSocket>,
}

/// A non-blocking socket that sends echo requests and receives the replies.
#[derive(Debug)]
pub(crate) struct EchoSocket {
    /// An ICMP socket: the type is that of UDP only for its methods.
    pub(crate) socket: UdpSocket,
    /// Whether received packets begin with the IP header.
    pub(crate) with_header: bool,
}

impl EchoSockets {
    /// Opens unprivileged ping sockets where `net.ipv4.ping_group_range` permits them (icmp(7)),
    /// and raw sockets elsewhere, which need CAP_NET_RAW. A raw socket only receives replies with
    /// `identifier`.
    pub(crate) fn open(identifier: u16) -> Self {
        EchoSockets { v4: open(Family::V4, identifier), v6: open(Family::V6, identifier) }
    }
}

fn open(family: Family, identifier: u16) -> io::Result<EchoSocket> {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let (socket, raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => (socket, false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
            socket.attach_filter(&filter(family, identifier))?;
            (socket, true)
        }
        Err(error) => return Err(error),
    };
    socket.set_nonblocking(true)?;
    Ok(EchoSocket { socket: socket.into(), with_header: raw && family == Family::V4 })
}

/// A raw socket receives all ICMP messages of the host: pass echo replies with our identifier only.
fn filter(family: Family, identifier: u16) -> Vec<socket2::SockFilter> {
    let reply = reply_type(family);
    let jump = |k, no| bpf::jump(libc::BPF_JEQ, k, 0, no);
    // X = length of the IPv4 header; ICMPv6 raw sockets deliver none.
    let begin = match family {
        Family::V4 => bpf::instruction(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0),
        Family::V6 => bpf::instruction(libc::BPF_LDX | libc::BPF_IMM, 0),
    };
    vec![
        begin,
        bpf::load_indexed(libc::BPF_B, 0),
        jump(u32::from(reply), 3),
        bpf::load_indexed(libc::BPF_H, 4),
        jump(u32::from(identifier), 1),
        bpf::ACCEPT,
        bpf::DROP,
    ]
}

/// ICMP type of an echo request (RFC 792, RFC 4443 4.1).
pub(crate) const fn request_type(family: Family) -> u8 {
    match family {
        Family::V4 => 8,
        Family::V6 => 128,
    }
}

/// ICMP type of an echo reply (RFC 792, RFC 4443 4.2).
pub(crate) const fn reply_type(family: Family) -> u8 {
    match family {
        Family::V4 => 0,
        Family::V6 => 129,
    }
}
