//! Captures adverts on the wire and counts those that reach a socket; sends test packets, which
//! never leave the host, as their TTL is 0.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

use crate::host::advert_capture::AdvertCapture;
use crate::host::sys::PacketBuffer;
use crate::vrrp::Family;
use crate::vrrp::advert;

/// A looped-back packet arrives at once, or not at all.
const TEST_TIMEOUT: Duration = Duration::from_millis(300);
/// Adverts per interface; further ones are dropped.
const MAX_CAPTURED: usize = 4096;

/// An advert seen on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenAdvert {
    /// Sent by this host.
    pub outgoing: bool,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Without the IP header.
    pub message: Vec<u8>,
    /// Since the capture began.
    pub at: Duration,
}

/// The adverts captured on one interface.
#[derive(Debug, Default)]
pub(super) struct Capture {
    /// As seen on the wire, in order.
    pub passed: Vec<SeenAdvert>,
    /// Number per sender that reached a raw socket, after packet filter and routing.
    pub arrived: BTreeMap<IpAddr, usize>,
}

/// Captures adverts on these interfaces, in both families. A packet socket sees everything, a raw
/// socket per family only what the kernel accepts.
///
/// # Errors
/// Opening or reading a socket failed, for example without CAP_NET_RAW.
pub(super) fn listen(indices: &[u32], span: Duration) -> io::Result<BTreeMap<u32, Capture>> {
    let mut captures = Vec::new();
    for &index in indices {
        let sockets = [Family::V4, Family::V6].into_iter().filter_map(|family| {
            // A family may be disabled.
            RawReceiver::open(index, family).ok()
        });
        captures.push((
            index,
            AdvertCapture::open(index)?,
            sockets.collect::<Vec<_>>(),
            Capture::default(),
        ));
    }
    let began = Instant::now();
    while began.elapsed() < span && !captures.is_empty() {
        let mut fds = Vec::new();
        for (_, tap, sockets, _) in &captures {
            fds.push(PollFd::new(tap.as_fd(), PollFlags::POLLIN));
            fds.extend(sockets.iter().map(|s| PollFd::new(s.socket.as_fd(), PollFlags::POLLIN)));
        }
        let left = span.saturating_sub(began.elapsed()) + Duration::from_millis(1);
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        for (_, tap, sockets, heard) in &mut captures {
            let at = began.elapsed();
            let result = tap.receive(|passed| {
                if heard.passed.len() < MAX_CAPTURED {
                    heard.passed.push(SeenAdvert {
                        outgoing: passed.outgoing,
                        source: passed.source,
                        destination: passed.destination,
                        ttl: passed.ttl,
                        message: passed.message.to_vec(),
                        at,
                    });
                }
            });
            match result {
                // Reported once when the interface goes down.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                result => result?,
            }
            for socket in sockets {
                socket.receive(|source, _| *heard.arrived.entry(source).or_default() += 1)?;
            }
        }
    }
    Ok(captures.into_iter().map(|(index, _, _, heard)| (index, heard)).collect())
}

/// The result of a test packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TestResult {
    /// It was received.
    Arrived,
    /// The kernel refused to send it: a filter on output.
    Refused(String),
    /// It was sent but not received: a filter on input.
    Lost,
}

/// Sends a packet of protocol 112 to the multicast group, with `source` as its source address if
/// that is IPv4, and receives it on the same interface, through all rules for output and input. It
/// never leaves this host, and no VRRP daemon acts on it.
///
/// # Errors
/// Opening or reading a socket failed, for example without CAP_NET_RAW.
pub(super) fn test(index: u32, family: Family, source: Option<IpAddr>) -> io::Result<TestResult> {
    let mut receiver = RawReceiver::open(index, family)?;
    let socket = &receiver.socket;
    // Version 0 and VRID 0, which no VRRP daemon uses. The pid distinguishes it from other test
    // packets.
    let mut message = vec![0; 4];
    message.extend(std::process::id().to_be_bytes());
    let token = message.clone();
    let group = family.multicast_group();
    let packet = match (source, group) {
        (Some(IpAddr::V4(source)), IpAddr::V4(group)) => {
            socket.set_header_included_v4(true)?;
            ipv4_packet(source, group, &message)
        }
        (_, IpAddr::V4(_)) => {
            socket.set_multicast_ttl_v4(0)?;
            message
        }
        (_, IpAddr::V6(_)) => {
            socket.set_multicast_hops_v6(0)?;
            message
        }
    };
    let mut to = SocketAddr::new(group, 0);
    if let SocketAddr::V6(to) = &mut to {
        to.set_scope_id(index);
    }
    match socket.send_to(&packet, &to.into()) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            return Ok(TestResult::Refused(error.to_string()));
        }
        Err(error) => return Err(error),
    }
    let end = Instant::now() + TEST_TIMEOUT;
    loop {
        let mut arrived = false;
        receiver.receive(|_, heard| arrived |= heard.ends_with(&token))?;
        if arrived {
            return Ok(TestResult::Arrived);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(TestResult::Lost);
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        let mut fds = [PollFd::new(receiver.socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX));
    }
}

/// A raw socket that receives every advert on the interface, including our own test packets.
struct RawReceiver {
    socket: Socket,
    buffer: PacketBuffer,
}

impl RawReceiver {
    fn open(index: u32, family: Family) -> io::Result<Self> {
        let interface =
            NonZeroU32::new(index).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let protocol = Protocol::from(i32::from(advert::PROTOCOL));
        let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
        match family.multicast_group() {
            IpAddr::V4(group) => {
                socket.bind_device_by_index_v4(Some(interface))?;
                socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
            }
            IpAddr::V6(group) => {
                socket.bind_device_by_index_v6(Some(interface))?;
                socket.join_multicast_v6(&group, index)?;
            }
        }
        Ok(RawReceiver { socket, buffer: PacketBuffer::default() })
    }

    /// Passes every queued packet to `handle`: its source and bytes, IPv4 with its header.
    fn receive(&mut self, mut handle: impl FnMut(IpAddr, &[u8])) -> io::Result<()> {
        let drained = self.buffer.drain(self.socket.as_fd(), usize::MAX, |packet| {
            if let Some(source) = packet.source() {
                handle(source, packet.payload);
            }
        });
        drained.map(drop)
    }
}

/// The kernel fills in checksum and lengths. TTL 0 keeps it on this host.
fn ipv4_packet(source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0xc0, 0, 0, 0, 0, 0, 0, 0, advert::PROTOCOL, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    packet
}
