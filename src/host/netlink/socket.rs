//! Opening `NETLINK_ROUTE` sockets, and receiving from the kernel.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};

/// Receive buffer in bytes, for a few thousand notifications.
pub(super) const RECEIVE_BUFFER: usize = 4 << 20;
/// Initial size in bytes of the buffer for one datagram. Only an interface with hundreds of virtual
/// functions has a longer message.
pub(super) const MESSAGE_BUFFER: usize = 64 << 10;

/// Opens a socket with strict checking, so that the kernel applies the filters of a dump request.
pub(super) fn open(receive_buffer: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_netlink_get_strict_chk(true)?;
    // Only CAP_NET_ADMIN in the initial user namespace may exceed net.core.rmem_max.
    if setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &receive_buffer)?;
    }
    Ok(socket)
}

/// Receives a datagram of the kernel and returns its length, which exceeds that of the buffer if it
/// does not fit (with `MSG_TRUNC`). Other processes with CAP_NET_ADMIN in the namespace can send to the
/// socket, too: what comes from them is dropped, and its length is 0.
pub(super) fn receive(socket: &Socket, buffer: &mut Vec<u8>, flags: i32) -> io::Result<usize> {
    buffer.clear();
    let (length, from) = socket.recv_from(buffer, flags)?;
    if from.port_number() == 0 {
        return Ok(length);
    }
    buffer.clear();
    Ok(0)
}

/// The port number (`nl_pid`) that the kernel has assigned to the socket.
pub(super) fn port(socket: &Socket) -> io::Result<u32> {
    let mut own = SocketAddr::new(0, 0);
    socket.get_address(&mut own)?;
    Ok(own.port_number())
}
