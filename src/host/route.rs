//! Which of its addresses the kernel would send from.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use socket2::{Domain, SockAddr, Socket, Type};

/// A destination port: connecting a UDP socket sends nothing.
const DISCARD: u16 = 9;

/// The source address that the kernel would use for a destination on this interface; `None` if there
/// is no route. This looks a route up, without netlink and its lock, and sends nothing.
pub(crate) fn source_towards(index: u32, destination: IpAddr) -> Option<IpAddr> {
    let interface = NonZeroU32::new(index);
    let socket = match destination {
        IpAddr::V4(_) => {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).ok()?;
            socket.bind_device_by_index_v4(interface).ok()?;
            socket
        }
        IpAddr::V6(_) => {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).ok()?;
            socket.bind_device_by_index_v6(interface).ok()?;
            socket
        }
    };
    socket.connect(&SockAddr::from(SocketAddr::new(destination, DISCARD))).ok()?;
    Some(socket.local_addr().ok()?.as_socket()?.ip())
}
