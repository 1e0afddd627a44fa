//! A sender of adverts that belong to no router of the lab: malformed, or lower than the master's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use vipd::lab::{Host, LabThread};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// What is wrong with an advert of version 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformation {
    /// Nothing: it is well-formed.
    None,
    /// Version 7.
    Version,
    /// Type 2.
    Type,
    /// TTL 254.
    Ttl,
    /// A flipped bit in the checksum.
    Checksum,
    /// Shorter than its header.
    TooShort,
    /// One address announced more than there are.
    MissingAddress,
    /// No address.
    CountZero,
    /// Interval 0.
    IntervalZero,
}

impl Malformation {
    /// All of them but `None`.
    pub const ALL: [Malformation; 8] = [
        Malformation::Version,
        Malformation::Type,
        Malformation::Ttl,
        Malformation::Checksum,
        Malformation::TooShort,
        Malformation::MissingAddress,
        Malformation::CountZero,
        Malformation::IntervalZero,
    ];
}

/// A stream of adverts of version 3 over IPv4 that lasts until it is dropped.
#[derive(Debug)]
pub struct Stranger {
    sent: Arc<AtomicU64>,
    _thread: LabThread,
}

impl Stranger {
    /// Sends adverts for a virtual router from `host`, one every `period`, with the malformations
    /// in turn.
    pub fn start(
        host: &Host,
        vrid: u8,
        priority: u8,
        interval: Duration,
        address: Ipv4Addr,
        malformations: &[Malformation],
        period: Duration,
    ) -> io::Result<Self> {
        let source = host.ipv4();
        let packets: Vec<_> = malformations
            .iter()
            .map(|malformation| {
                let bytes = advert(source, vrid, priority, interval, address, *malformation);
                (bytes, if *malformation == Malformation::Ttl { 254 } else { 255 })
            })
            .collect();
        let socket = host.namespace().run(move || {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112)))?;
            const RETURN: u16 = 0x06;
            // It never reads: what arrives must not fill its queue.
            socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
            socket.set_multicast_if_v4(&source)?;
            socket.set_multicast_loop_v4(false)?;
            io::Result::Ok(socket)
        })?;
        let sent = Arc::new(AtomicU64::new(0));
        let thread = LabThread::start(host.namespace(), "stranger", {
            let sent = Arc::clone(&sent);
            move |stop| send(&socket, &packets, period, stop, &sent)
        })?;
        Ok(Self { sent, _thread: thread })
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

fn send(
    socket: &Socket,
    packets: &[(Vec<u8>, u32)],
    period: Duration,
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
    let target = SocketAddr::from((GROUP, 0)).into();
    let mut next = Instant::now();
    for (bytes, ttl) in packets.iter().cycle() {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next += period;
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let result =
            socket.set_multicast_ttl_v4(*ttl).and_then(|()| socket.send_to(bytes, &target));
        if result.is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// An advert with a checksum that covers the pseudo-header.
fn advert(
    source: Ipv4Addr,
    vrid: u8,
    priority: u8,
    interval: Duration,
    address: Ipv4Addr,
    malformation: Malformation,
) -> Vec<u8> {
    use Malformation::{CountZero, IntervalZero, MissingAddress, Type, Version};
    let kind = match malformation {
        Version => 0x71,
        Type => 0x32,
        _ => 0x31,
    };
    let count = match malformation {
        CountZero => 0,
        MissingAddress => 2,
        _ => 1,
    };
    let centis = match malformation {
        IntervalZero => 0,
        _ => u16::try_from(interval.as_millis() / 10).unwrap_or(u16::MAX),
    };
    let [high, low] = centis.to_be_bytes();
    let mut message = vec![kind, vrid, priority, count, high, low, 0, 0];
    message.extend(address.octets());
    let mut summed = Vec::new();
    summed.extend(source.octets());
    summed.extend(GROUP.octets());
    summed.extend([0, 112, 0, 12]);
    summed.extend(&message);
    let mut checksum = !summed.chunks_exact(2).fold(0_u16, |sum, pair| match pair {
        [high, low] => {
            let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([*high, *low]));
            sum + u16::from(carry)
        }
        _ => sum,
    });
    if malformation == Malformation::Checksum {
        checksum ^= 1;
    }
    message.splice(6..8, checksum.to_be_bytes());
    if malformation == Malformation::TooShort {
        message.truncate(6);
    }
    message
}
