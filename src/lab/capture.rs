//! Frames from the wire with the kernel's timestamps: the filter of the packet socket, and how it
//! is read.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// Its IP protocol number; not the constant of the protocol, so that an observer can disagree with
/// it.
pub(super) const VRRP: u8 = 112;

/// A packet socket that receives ARP, VRRP and neighbour advertisements from all interfaces, with
/// timestamps, but not what is sent.
///
/// # Errors
/// The packet socket cannot be opened, for example without CAP_NET_RAW.
pub fn open() -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
    socket.attach_filter(&FILTER)?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    Ok(socket)
}

/// A received frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// When it arrived, by the wall clock since 1970, if the kernel reported it.
    pub stamp: Option<Duration>,
    /// The index of the interface.
    pub interface: Option<u32>,
    /// Its length; what does not fit into the buffer is cut off.
    pub length: usize,
}

/// The next frame, written to `buffer`; `None`: no frame is waiting. Never blocks.
pub fn receive(socket: &Socket, buffer: &mut [u8]) -> Option<Frame> {
    let room = buffer.len();
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut buffers = [IoSliceMut::new(buffer)];
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
    let message = recvmsg::<LinkAddr>(fd, &mut buffers, Some(&mut control), flags).ok()?;
    let stamp = message.cmsgs().ok().and_then(|mut messages| {
        messages.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        })
    });
    let interface = message.address.and_then(|address| u32::try_from(address.ifindex()).ok());
    Some(Frame { stamp, interface, length: message.bytes.min(room) })
}

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
        SockFilter::new(IF_EQUAL, 6, 7, VRRP as u32),
        SockFilter::new(IF_EQUAL, 0, 6, 0x86dd),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 6),
        SockFilter::new(IF_EQUAL, 3, 0, VRRP as u32),
        SockFilter::new(IF_EQUAL, 0, 3, 58),
        SockFilter::new(LOAD_BYTE, 0, 0, 14 + 40),
        SockFilter::new(IF_EQUAL, 0, 1, 136),
        SockFilter::new(RETURN, 0, 0, 0xffff),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
};
