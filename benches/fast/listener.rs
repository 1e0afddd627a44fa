//! Who hears what the measured program sends: a client on the LAN, with the kernel's timestamps. It
//! looks every few milliseconds and is never woken up by a frame: that would cost the sender.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt,
    sockopt::ReceiveTimestampns,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use vipd::host::privileges;
use vipd::lab::Host;

const LOOK_EVERY: Duration = Duration::from_millis(3);

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub at: Instant,
    /// The sender's MAC ends with its host's number.
    pub host: u8,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
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
        const ETH_P_ALL: u16 = 3;
        let socket = host.namespace().run(|| {
            let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            socket.attach_filter(&FILTER)?;
            if setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).is_err() {
                socket.set_recv_buffer_size(1 << 20)?;
            }
            setsockopt(&socket, ReceiveTimestampns, &true)?;
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

    /// What was heard between two points in time.
    pub fn between(&self, from: Instant, to: Instant) -> Vec<Heard> {
        self.look(|all| {
            all.iter().filter(|heard| heard.at >= from && heard.at < to).copied().collect()
        })
    }

    /// What `question` finds in all that was heard.
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
    let mut control = nix::cmsg_space!(TimeSpec);
    let (began, wall) = (Instant::now(), SystemTime::now());
    let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY);
        loop {
            let mut buffers = [IoSliceMut::new(&mut frame)];
            let Ok(message) = recvmsg::<LinkAddr>(
                socket.as_raw_fd(),
                &mut buffers,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            ) else {
                break;
            };
            let stamp = message.cmsgs().ok().and_then(|mut messages| {
                messages.find_map(|message| match message {
                    ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                    _ => None,
                })
            });
            let at = stamp.map_or_else(Instant::now, |stamp| began + stamp.saturating_sub(wall));
            let interface = message.address.map_or(0, |address| address.ifindex() as u32);
            let length = message.bytes.min(frame.len());
            if let Some((host, what)) = read(&frame[..length], interface) {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push(Heard { at, host, what });
            }
        }
    }
}

/// Passes ARP, VRRP and neighbour advertisements that come in.
#[rustfmt::skip]
const FILTER: [SockFilter; 15] = {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const PACKET_TYPE: u32 = 0xffff_f004;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, PACKET_TYPE),
        SockFilter::new(IF_EQUAL, 12, 0, 4), // outgoing
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(IF_EQUAL, 9, 0, 0x0806),
        SockFilter::new(IF_EQUAL, 0, 2, 0x0800),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 9),
        SockFilter::new(IF_EQUAL, 6, 7, 112),
        SockFilter::new(IF_EQUAL, 0, 6, 0x86dd),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 6),
        SockFilter::new(IF_EQUAL, 3, 0, 112),
        SockFilter::new(IF_EQUAL, 0, 3, 58),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 40),
        SockFilter::new(IF_EQUAL, 0, 1, 136),
        SockFilter::new(RETURN, 0, 0, 256),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
};

fn read(frame: &[u8], interface: u32) -> Option<(u8, What)> {
    let host = *frame.get(11)?;
    let packet = frame.get(14..)?;
    let advert = |v6: bool, header: usize| {
        let [_, vrid, priority, ..] = *packet.get(header..)? else { return None };
        Some(What::Advert { router: Router { interface, v6, vrid }, priority })
    };
    let what = match frame.get(12..14)? {
        [0x08, 0x06] => {
            let (sender, target) = (ipv4(packet, 14)?, ipv4(packet, 24)?);
            (sender == target).then_some(What::Announcement(sender))
        }
        [0x08, 0x00] => advert(false, usize::from(packet.first()? & 0xf) * 4),
        _ if *packet.get(6)? == 112 => advert(true, 40),
        _ => {
            let target: [u8; 16] = packet.get(48..64)?.try_into().ok()?;
            Some(What::Announcement(Ipv6Addr::from(target).into()))
        }
    }?;
    Some((host, what))
}

fn ipv4(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets).into())
}
