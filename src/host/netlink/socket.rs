//! The sockets by which requests and notifications are exchanged with the kernel.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};

/// For a few thousand notifications.
pub(super) const RECEIVE_BUFFER: usize = 4 << 20;
/// Larger than any message about an interface without hundreds of virtual functions.
pub(super) const MESSAGE_BUFFER: usize = 64 << 10;

/// A socket of our own address, which answers only what was asked.
pub(super) fn open(receive_buffer: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_netlink_get_strict_chk(true)?;
    // Without CAP_NET_ADMIN in the first user namespace the system's limit holds.
    if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &receive_buffer)?;
    }
    Ok(socket)
}

/// The address by which the kernel knows a netlink socket.
pub(super) fn port(socket: &Socket) -> io::Result<u32> {
    let mut own = SocketAddr::new(0, 0);
    socket.get_address(&mut own)?;
    Ok(own.port_number())
}
