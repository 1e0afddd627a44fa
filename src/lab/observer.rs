//! Someone who sees every advert and every announcement on the wire, with the kernel's timestamps
//! and the port each came in by. Its decoder is its own, so that it can disagree with ours.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use socket2::Socket;

use super::capture;
use super::namespace::Namespace;
use super::network::{lock, wait_readable};

/// A frame worth keeping.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// When the switch got it.
    pub at: Instant,
    /// The host that sent it.
    pub host: Arc<str>,
    /// The interface of the host when it was plugged in.
    pub interface: Arc<str>,
    /// What it was.
    pub seen: Seen,
}

/// What a frame said.
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
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Version, 2 or 3.
    pub version: u8,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority; 0 says goodbye.
    pub priority: u8,
    /// The interval it names.
    pub interval: Duration,
    /// The addresses it names.
    pub addresses: Vec<IpAddr>,
}

/// Reads what passes the switches of a lab.
#[derive(Clone, Debug)]
pub struct Observer {
    shared: Arc<Shared>,
    _thread: Arc<Watcher>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    ports: Mutex<HashMap<u32, Plug>>,
    log: Mutex<Vec<Sighting>>,
}

/// A host, and the interface of it, at a port of the switch.
type Plug = (Arc<str>, Arc<str>);

impl Observer {
    pub(super) fn start(switches: &Namespace) -> io::Result<Self> {
        let socket = switches.run(|| {
            let socket = capture::open()?;
            socket.set_recv_buffer_size(1 << 20)?;
            io::Result::Ok(socket)
        })?;
        let shared = Arc::new(Shared::default());
        let thread = switches.thread("observer", {
            let shared = Arc::clone(&shared);
            move || watch(&socket, &shared)
        })?;
        let watcher = Watcher { shared: Arc::clone(&shared), thread: Some(thread) };
        Ok(Self { shared, _thread: Arc::new(watcher) })
    }

    /// Sees nothing.
    pub(super) fn blind() -> Self {
        let shared = Arc::new(Shared::default());
        let watcher = Watcher { shared: Arc::clone(&shared), thread: None };
        Self { shared, _thread: Arc::new(watcher) }
    }

    pub(super) fn watch_port(&self, index: u32, host: &str, interface: &str) {
        lock(&self.shared.ports).insert(index, (host.into(), interface.into()));
    }

    /// Everything seen since `from`, in the order of arrival.
    pub fn since(&self, from: Instant) -> Vec<Sighting> {
        lock(&self.shared.log).iter().filter(|sighting| sighting.at >= from).cloned().collect()
    }

    /// What `question` finds in all that was seen so far; for looking often without copying.
    pub fn look<T>(&self, question: impl FnOnce(&[Sighting]) -> T) -> T {
        question(&lock(&self.shared.log))
    }

    /// The adverts of a host since `from`.
    pub fn adverts(&self, host: &str, from: Instant) -> Vec<(Instant, Advert)> {
        self.look(|log| {
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
        self.look(|log| {
            log.iter()
                .filter(|sighting| sighting.at >= from && &*sighting.host == host)
                .filter(|sighting| sighting.seen == Seen::Announcement(ip))
                .map(|sighting| sighting.at)
                .collect()
        })
    }

    /// The host that sent the last advert of a virtual router, if that was not a goodbye.
    pub fn master(&self, vrid: u8) -> Option<String> {
        self.look(|log| {
            log.iter().rev().find_map(|sighting| match &sighting.seen {
                Seen::Advert(advert) if advert.vrid == vrid => {
                    Some((advert.priority > 0).then(|| sighting.host.to_string()))
                }
                _ => None,
            })
        })
        .flatten()
    }

    /// The longest time between two adverts of a host between two points in time, both counted
    /// as adverts.
    pub fn longest_gap(&self, host: &str, from: Instant, to: Instant) -> Duration {
        let mut last = from;
        let mut longest = Duration::ZERO;
        let times = self.adverts(host, from).into_iter().map(|(at, _)| at);
        for at in times.take_while(|at| *at < to).chain([to]) {
            longest = longest.max(at.saturating_duration_since(last));
            last = at;
        }
        longest
    }
}

/// Ends the thread when the last observer goes.
#[derive(Debug)]
struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(socket: &Socket, shared: &Shared) {
    let mut frame = [0; 2048];
    while wait_readable(socket, &shared.stop) {
        let Some(received) = capture::receive(socket, &mut frame) else { continue };
        let at = received.stamp.map_or_else(Instant::now, as_instant);
        let port = received.interface;
        let Some((host, interface)) = port.and_then(|port| lock(&shared.ports).get(&port).cloned())
        else {
            continue;
        };
        if let Some(seen) = frame.get(..received.length).and_then(decode) {
            lock(&shared.log).push(Sighting { at, host, interface, seen });
        }
    }
}

/// The kernel stamps with the wall clock; how long ago that was is the same on any clock.
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
            match packet.get(6)? {
                112 => advert(source, destination, *packet.get(7)?, message, 16).map(Seen::Advert),
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
