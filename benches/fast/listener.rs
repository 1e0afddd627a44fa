//! A receiver of what the measured program sends, on the LAN, with the kernel's timestamps. It
//! polls every few milliseconds and is never woken up by a frame, which would cost the sender time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::lab::{Host, capture};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;
use vipd::host::privileges;

const LOOK_EVERY: Duration = Duration::from_millis(3);

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub at: Instant,
    /// The sender's MAC ends with its host's number.
    pub host: u8,
    pub kind: FrameKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameKind {
    Advert { router: Router, priority: u8 },
    Announcement(IpAddr),
}

/// A virtual router on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Router {
    pub interface: u32,
    pub v6: bool,
    pub vrid: u8,
}

pub struct Listener {
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<Heard>>>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens on all interfaces of a host.
    pub fn start(host: &Host) -> io::Result<Self> {
        let socket = host.namespace().run(|| {
            let socket = capture::open()?;
            if setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).is_err() {
                socket.set_recv_buffer_size(1 << 20)?;
            }
            io::Result::Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let thread = host.namespace().thread("listener", {
            let (stop, heard) = (Arc::clone(&stop), Arc::clone(&heard));
            move || {
                let _ = privileges::realtime(1);
                listen(&socket, &stop, &heard);
            }
        })?;
        Ok(Self { stop, heard, thread: Some(thread) })
    }

    /// FrameKind was heard between two points in time.
    pub fn between(&self, from: Instant, to: Instant) -> Vec<Heard> {
        self.look(|all| {
            all.iter().filter(|heard| heard.at >= from && heard.at < to).copied().collect()
        })
    }

    /// The result of `question` for everything that was received.
    pub fn look<T>(&self, question: impl FnOnce(&[Heard]) -> T) -> T {
        question(&self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(socket: &Socket, stop: &AtomicBool, heard: &Mutex<Vec<Heard>>) {
    let mut frame = [0; 256];
    let (began, wall) = (Instant::now(), SystemTime::now());
    let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY);
        while let Some(received) = capture::receive(socket, &mut frame) {
            let at = |stamp: Duration| began + stamp.saturating_sub(wall);
            let at = received.stamp.map_or_else(Instant::now, at);
            let interface = received.interface.unwrap_or(0);
            if let Some((host, kind)) = read(&frame[..received.length], interface) {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push(Heard { at, host, kind });
            }
        }
    }
}

fn read(frame: &[u8], interface: u32) -> Option<(u8, FrameKind)> {
    let host = *frame.get(11)?;
    let packet = frame.get(14..)?;
    let advert = |v6: bool, header: usize| {
        let [_, vrid, priority, ..] = *packet.get(header..)? else { return None };
        Some(FrameKind::Advert { router: Router { interface, v6, vrid }, priority })
    };
    let kind = match frame.get(12..14)? {
        [0x08, 0x06] => {
            let (sender, target) = (ipv4(packet, 14)?, ipv4(packet, 24)?);
            (sender == target).then_some(FrameKind::Announcement(sender))
        }
        [0x08, 0x00] => advert(false, usize::from(packet.first()? & 0xf) * 4),
        _ if *packet.get(6)? == 112 => advert(true, 40),
        _ => {
            let target: [u8; 16] = packet.get(48..64)?.try_into().ok()?;
            Some(FrameKind::Announcement(Ipv6Addr::from(target).into()))
        }
    }?;
    Some((host, kind))
}

fn ipv4(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}
