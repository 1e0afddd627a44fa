//! Adverts on the wire: who sends which, whether they get through to a socket, and whether a test
//! packet does. The test packets never leave the host: their TTL is 0.

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

/// A packet to ourselves arrives at once, or not at all.
const TEST_TIMEOUT: Duration = Duration::from_millis(300);
/// Nobody keeps more than this.
const MAX_CAPTURED: usize = 4096;

/// An advert that passed an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedAdvert {
    /// It left from this host.
    pub outgoing: bool,
    /// Who sent it.
    pub source: IpAddr,
    /// The group or a host.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The message.
    pub message: Vec<u8>,
    /// When, since listening began.
    pub at: Duration,
}

/// What was heard on one interface.
#[derive(Debug, Default)]
pub struct Capture {
    /// On the wire, in order.
    pub passed: Vec<CapturedAdvert>,
    /// How many of each sender arrived at a socket, behind packet filter and routing.
    pub arrived: BTreeMap<IpAddr, usize>,
}

/// Listens on the interfaces of these indices, in both families, for this long. A raw socket per
/// family hears what the kernel lets through, a packet socket what passes at all.
///
/// # Errors
/// What the kernel says, as without CAP_NET_RAW.
pub fn listen(indices: &[u32], span: Duration) -> io::Result<BTreeMap<u32, Capture>> {
    let mut captures = Vec::new();
    for &index in indices {
        let sockets = [Family::V4, Family::V6].into_iter().filter_map(|family| {
            // A family may be switched off.
            Receiver::open(index, family).ok()
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
            let told = tap.receive(|passed| {
                if heard.passed.len() < MAX_CAPTURED {
                    heard.passed.push(CapturedAdvert {
                        outgoing: passed.outgoing,
                        source: passed.source,
                        destination: passed.destination,
                        ttl: passed.ttl,
                        message: passed.message.to_vec(),
                        at,
                    });
                }
            });
            match told {
                // Said once when the interface goes down.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                told => told?,
            }
            for socket in sockets {
                socket.receive(|source, _| *heard.arrived.entry(source).or_default() += 1)?;
            }
        }
    }
    Ok(captures.into_iter().map(|(index, _, _, heard)| (index, heard)).collect())
}

/// What became of a test packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestResult {
    /// It arrived.
    Arrived,
    /// The kernel refused to send it: a packet filter on its way out.
    Refused(String),
    /// It was sent and did not arrive: a packet filter on its way in.
    Lost,
}

/// Sends a packet of protocol 112 to the group, as if from `source` if that is an IPv4 address, and
/// receives it on the same interface, through all rules for what goes out and comes in by it. It
/// never leaves this host, and says nothing that any VRRP daemon acts on.
///
/// # Errors
/// What the kernel says, as without CAP_NET_RAW.
pub fn test(index: u32, family: Family, source: Option<IpAddr>) -> io::Result<TestResult> {
    let mut receiver = Receiver::open(index, family)?;
    let socket = &receiver.socket;
    // Version 0 for VRID 0: nobody means that. The rest tells it from others' tests.
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

/// A raw socket that hears every advert on the interface, and what is sent from it itself.
struct Receiver {
    socket: Socket,
    buffer: PacketBuffer,
}

impl Receiver {
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
        Ok(Receiver { socket, buffer: PacketBuffer::default() })
    }

    /// What waits: who sent it, and its bytes, of IPv4 with the header.
    fn receive(&mut self, mut handle: impl FnMut(IpAddr, &[u8])) -> io::Result<()> {
        let drained = self.buffer.drain(self.socket.as_fd(), usize::MAX, |packet| {
            if let Some(source) = packet.source() {
                handle(source, packet.payload);
            }
        });
        drained.map(drop)
    }
}

/// Its checksum and lengths are the kernel's to fill in. TTL 0: not beyond this host.
fn ipv4_packet(source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0xc0, 0, 0, 0, 0, 0, 0, 0, advert::PROTOCOL, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    packet
}
