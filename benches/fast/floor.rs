//! The floor: the cost of the same work in a program that does nothing else. The bench starts
//! itself again as such a program.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use vipd::host::privileges;
use vipd::vrrp::{Address, Advert, ChecksumForm, Interval, Priority, Version, Vrid};

use crate::shared;

/// vipd's own.
const REALTIME_PRIORITY: u8 = 50;
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// What a floor program does.
#[derive(Clone, Copy, Debug)]
pub enum Floor {
    /// Sends the adverts of a number of virtual routers.
    Send {
        /// How many routers; their VRIDs count from 1.
        routers: usize,
        /// Addresses in each advert.
        addresses: usize,
        /// Time between two adverts of a router.
        interval: Duration,
        /// Priority in the adverts.
        priority: u8,
        /// Each at its own time, instead of all at once.
        spread: bool,
    },
    /// Receives adverts.
    Receive,
    /// Adds so many addresses, prints how long that took in microseconds, and ends.
    Add(usize),
}

impl Floor {
    /// The arguments by which the bench starts itself as this: with real-time priority as vipd has
    /// it, or without.
    pub fn arguments(self, realtime: bool) -> Vec<String> {
        let mut arguments = vec!["floor".to_owned(), realtime.to_string()];
        match self {
            Floor::Send { routers, addresses, interval, priority, spread } => {
                arguments.push("send".to_owned());
                arguments.extend([routers, addresses].map(|n| n.to_string()));
                arguments.push(interval.as_micros().to_string());
                arguments.push(priority.to_string());
                arguments.push(spread.to_string());
            }
            Floor::Receive => arguments.push("receive".to_owned()),
            Floor::Add(addresses) => arguments.extend(["add".to_owned(), addresses.to_string()]),
        }
        arguments
    }
}

/// The program. Ends only if something is wrong, or when it has added all addresses.
pub fn main(arguments: &[String]) -> io::Result<()> {
    let Some((realtime, arguments)) = arguments.split_first() else {
        return Err(io::Error::other("which floor?"));
    };
    if realtime == "true" {
        // Where it is refused, it is refused to vipd too.
        let _ = privileges::realtime(REALTIME_PRIORITY);
    }
    let number = |n: usize| arguments.get(n).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    match arguments.first().map(String::as_str) {
        Some("send") => {
            let (routers, addresses) = (number(1) as usize, number(2) as usize);
            let spread = arguments.get(5).is_some_and(|text| text == "true");
            send(routers, addresses, Duration::from_micros(number(3)), number(4) as u8, spread)
        }
        Some("receive") => receive(),
        Some("add") => add(number(1) as usize),
        _ => Err(io::Error::other("there is no such floor")),
    }
}

fn send(
    routers: usize,
    addresses: usize,
    interval: Duration,
    priority: u8,
    spread: bool,
) -> io::Result<()> {
    let socket = open()?;
    let own = own_address()?;
    let mut messages = vec![Vec::new(); routers];
    for (router, message) in messages.iter_mut().enumerate() {
        let advert = Advert {
            version: Version::V3,
            vrid: Vrid::new((router + 1) as u8).expect("1 to 255"),
            priority: Priority::new(priority),
            interval: Interval::from_centis((interval.as_millis() / 10) as u16).expect("10 ms"),
            addresses: (0..addresses.min(255)).map(|n| Address::host(shared(router, n))).collect(),
            checksum: ChecksumForm::PseudoHeader,
            authentication: None,
        };
        advert.encode(own.into(), GROUP.into(), message);
    }
    let slices: Vec<[IoSlice<'_>; 1]> = messages.iter().map(|m| [IoSlice::new(m)]).collect();
    let to = vec![Some(SockaddrIn::new(224, 0, 0, 18, 0)); routers];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(routers, None);
    let none: [ControlMessage<'_>; 0] = [];
    let mut send = |which: &[[IoSlice<'_>; 1]]| {
        sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            which,
            &to[..which.len()],
            none,
            MsgFlags::empty(),
        )
        .map(drop)
    };
    let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::empty())?;
    let period = if spread { interval / routers as u32 } else { interval };
    let period = TimeSpec::from_duration(period);
    timer.set(Expiration::Interval(period), TimerSetTimeFlags::empty())?;
    loop {
        if spread {
            for message in &slices {
                timer.wait()?;
                send(std::slice::from_ref(message))?;
            }
        } else {
            timer.wait()?;
            send(&slices)?;
        }
    }
}

fn receive() -> io::Result<()> {
    const BATCH: usize = 64;
    let socket = open()?;
    let mut buffers = vec![[0_u8; 2048]; BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    loop {
        receive_some(socket.as_raw_fd(), &mut headers, &mut buffers)?;
    }
}

fn receive_some(
    socket: RawFd,
    headers: &mut MultiHeaders<SockaddrIn>,
    buffers: &mut [[u8; 2048]],
) -> io::Result<usize> {
    let mut slices: Vec<[IoSliceMut<'_>; 1]> =
        buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
    let received = recvmmsg(socket, headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None)?;
    Ok(received.count())
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112)))?;
    let index = nix::net::if_::if_nametoindex("eth0")?;
    socket.bind_device(Some(b"eth0"))?;
    socket.set_multicast_if_v4(&own_address()?)?;
    socket.set_multicast_ttl_v4(255)?;
    socket.set_multicast_loop_v4(false)?;
    socket.join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(index))?;
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &(1 << 20));
    Ok(socket)
}

/// The first address of `eth0`.
fn own_address() -> io::Result<Ipv4Addr> {
    let mut all = nix::ifaddrs::getifaddrs()?;
    all.find_map(|entry| {
        let address = entry.address?;
        (entry.interface_name == "eth0").then(|| address.as_sockaddr_in().map(SockaddrIn::ip))?
    })
    .ok_or_else(|| io::Error::other("eth0 has no address"))
}

fn add(count: usize) -> io::Result<()> {
    let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_cap_ack(true)?;
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &(4 << 20));
    let index = nix::net::if_::if_nametoindex("eth0")?;
    let requests: Vec<Vec<u8>> = (0..count).map(|n| request(index, n)).collect();
    let mut answers = Vec::with_capacity(1 << 16);
    let began = Instant::now();
    for chunk in requests.chunks(128) {
        socket.send(&chunk.concat(), 0)?;
        let mut missing = chunk.len();
        while missing > 0 {
            answers.clear();
            socket.recv(&mut answers, 0)?;
            // An acknowledgement has a header, an error number, and the request's header.
            missing = missing.saturating_sub(answers.len() / 36);
        }
    }
    println!("{}", began.elapsed().as_micros());
    Ok(())
}

fn request(index: u32, n: usize) -> Vec<u8> {
    let ip = shared(0, n);
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = 32;
    message.header.scope = AddressScope::Universe;
    let mut lifetimes = CacheInfo::default();
    (lifetimes.ifa_valid, lifetimes.ifa_preferred) = (60, 60);
    message.attributes = vec![
        AddressAttribute::Local(ip),
        AddressAttribute::Address(ip),
        AddressAttribute::Flags(AddressFlags::Noprefixroute),
        AddressAttribute::CacheInfo(lifetimes),
    ];
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewAddress(message));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}
