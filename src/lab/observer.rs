//! An observer of every advert and every announcement on the wire, with the kernel's timestamps and
//! the port on which each was received. It has a decoder of its own, so that it can disagree with
//! the protocol's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::Socket;

use super::capture;
use super::network::{Lab, Ports};
use super::threads::{LabThread, lock, wait_readable};

/// A frame that was seen.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// When the switch received it.
    pub at: Instant,
    /// The host that sent it.
    pub host: Arc<str>,
    /// The interface of the host when it was plugged in.
    pub interface: Arc<str>,
    pub seen: Seen,
}

/// The contents of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A VRRP message.
    Advert(Advert),
    /// A gratuitous ARP or an unsolicited neighbour advertisement for this address.
    Announcement(IpAddr),
}

/// A VRRP message as it stands on the wire; nothing is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Version, 2 or 3.
    pub version: u8,
    pub vrid: u8,
    /// Priority; 0 if the master leaves.
    pub priority: u8,
    pub interval: Duration,
    pub addresses: Vec<IpAddr>,
}

/// Observes what passes the switches of a lab.
#[derive(Debug)]
pub struct Observer {
    log: Arc<Mutex<Vec<Sighting>>>,
    _thread: LabThread,
}

impl Observer {
    /// Starts observing.
    ///
    /// # Errors
    /// The packet socket cannot be opened, for example without CAP_NET_RAW.
    pub fn start(lab: &Lab) -> io::Result<Self> {
        let socket = lab.switches().run(|| {
            let socket = capture::open()?;
            socket.set_recv_buffer_size(1 << 20)?;
            io::Result::Ok(socket)
        })?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let thread = LabThread::start(lab.switches(), "observer", {
            let (ports, log) = (Arc::clone(lab.ports()), Arc::clone(&log));
            move |stop| watch(&socket, &ports, &log, stop)
        })?;
        Ok(Self { log, _thread: thread })
    }

    /// Passes everything seen so far, in the order of arrival, to `read`: nothing is copied.
    pub fn with_log<T>(&self, read: impl FnOnce(&[Sighting]) -> T) -> T {
        read(&lock(&self.log))
    }

    /// The adverts of a host since `from`.
    pub fn adverts(&self, host: &str, from: Instant) -> Vec<(Instant, Advert)> {
        self.with_log(|log| {
            log.iter()
                .filter(|sighting| sighting.at >= from && &*sighting.host == host)
                .filter_map(|sighting| match &sighting.seen {
                    Seen::Advert(advert) => Some((sighting.at, advert.clone())),
                    Seen::Announcement(_) => None,
                })
                .collect()
        })
    }

    /// When a host announced `ip`, since `from`.
    pub fn announcements(&self, host: &str, ip: IpAddr, from: Instant) -> Vec<Instant> {
        self.with_log(|log| {
            log.iter()
                .filter(|sighting| sighting.at >= from && &*sighting.host == host)
                .filter(|sighting| sighting.seen == Seen::Announcement(ip))
                .map(|sighting| sighting.at)
                .collect()
        })
    }

    /// The host that sent the last advert of a virtual router, unless that had priority 0.
    pub fn master(&self, vrid: u8) -> Option<String> {
        self.with_log(|log| {
            log.iter().rev().find_map(|sighting| match &sighting.seen {
                Seen::Advert(advert) if advert.vrid == vrid => {
                    Some((advert.priority > 0).then(|| sighting.host.to_string()))
                }
                _ => None,
            })
        })
        .flatten()
    }
}

fn watch(socket: &Socket, ports: &Ports, log: &Mutex<Vec<Sighting>>, stop: &AtomicBool) {
    let mut frame = [0; 2048];
    while wait_readable(socket, stop) {
        let Some(received) = capture::receive(socket, &mut frame) else { continue };
        let at = received.stamp.map_or_else(Instant::now, as_instant);
        let port = received.interface;
        let Some((host, interface)) = port.and_then(|port| lock(ports).get(&port).cloned()) else {
            continue;
        };
        if let Some(seen) = frame.get(..received.length).and_then(decode) {
            lock(log).push(Sighting { at, host, interface, seen });
        }
    }
}

/// Converts a timestamp of the wall clock by its age.
fn as_instant(stamp: Duration) -> Instant {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let stamp = UNIX_EPOCH + stamp;
    now.checked_sub(wall.duration_since(stamp).unwrap_or_default()).unwrap_or(now)
}

fn decode(frame: &[u8]) -> Option<Seen> {
    let packet = frame.get(14..)?;
    match frame.get(12..14)? {
        [0x08, 0x06] => {
            let sender = ipv4(packet, 14)?;
            let target = ipv4(packet, 24)?;
            (sender == target).then_some(Seen::Announcement(sender))
        }
        [0x08, 0x00] => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let length = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
            let (source, destination) = (ipv4(packet, 12)?, ipv4(packet, 16)?);
            let message = packet.get(header..length.min(packet.len()))?;
            advert(source, destination, *packet.get(8)?, message, 4).map(Seen::Advert)
        }
        [0x86, 0xdd] => {
            let message = packet.get(40..)?;
            let (source, destination) = (ipv6(packet, 8)?, ipv6(packet, 24)?);
            match *packet.get(6)? {
                capture::VRRP => {
                    advert(source, destination, *packet.get(7)?, message, 16).map(Seen::Advert)
                }
                58 => {
                    const SOLICITED: u8 = 0x40;
                    let unsolicited = message.get(4)? & SOLICITED == 0;
                    unsolicited.then_some(Seen::Announcement(ipv6(message, 8)?))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn advert(
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    message: &[u8],
    size: usize,
) -> Option<Advert> {
    let [kind, vrid, priority, count, high, low, _, _, rest @ ..] = message else { return None };
    let version = kind >> 4;
    let interval = match version {
        2 => Duration::from_secs((*low).into()),
        _ => Duration::from_millis(10 * u64::from(u16::from_be_bytes([high & 0xf, *low]))),
    };
    let addresses = (0..usize::from(*count))
        .map_while(|index| match size {
            4 => ipv4(rest, index * size),
            _ => ipv6(rest, index * size),
        })
        .collect();
    Some(Advert {
        source,
        destination,
        ttl,
        version,
        vrid: *vrid,
        priority: *priority,
        interval,
        addresses,
    })
}

fn ipv4(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}

fn ipv6(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets).into())
}
