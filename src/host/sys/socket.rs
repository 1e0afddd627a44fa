//! Socket options, link-layer addresses, and interface flags (an ioctl of a socket).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

/// Sets a socket option whose value is an `int`.
///
/// # Errors
/// As setsockopt(2).
pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call; the kernel
    // only reads it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The address of a packet socket (packet(7)): interface index, EtherType in host byte order, and
/// destination MAC address.
pub fn link_address(index: u32, ethertype: u16, mac: [u8; 6]) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is the address type of AF_PACKET and consists of integers: any bytes are
    // a value of it.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = index as i32;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&mac);
    // SAFETY: the storage was filled as an AF_PACKET address of this length just above.
    unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

/// Reads the flags of an interface: `IFF_UP`, `IFF_RUNNING` and others (netdevice(7)).
///
/// # Errors
/// ENODEV: no interface has this name.
pub(crate) fn interface_flags(name: &str) -> io::Result<i32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: it is a plain C structure of integers and pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The name must be terminated by a zero byte.
    if name.len() >= request.ifr_name.len() || name.bytes().any(|byte| byte == 0) {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as _;
    }
    // SAFETY: the kernel reads the name and writes the flags, both within `request`.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: of the union's members the kernel has filled this one, and all of it was zero before.
    Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_address_names_interface_protocol_and_destination() {
        let address = link_address(7, 0x0806, [2, 0, 0, 0, 0, 9]);
        assert_eq!(address.family(), libc::AF_PACKET as libc::sa_family_t);
        // SAFETY: the address is of this type and length.
        let address = unsafe { &*address.as_ptr().cast::<libc::sockaddr_ll>() };
        assert_eq!((address.sll_ifindex, address.sll_protocol), (7, 0x0806_u16.to_be()));
        assert_eq!((address.sll_halen, address.sll_addr), (6, [2, 0, 0, 0, 0, 9, 0, 0]));
    }
}
