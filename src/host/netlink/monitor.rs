//! The kernel's notifications about interfaces and addresses (rtnetlink(7)).
//!
//! A dump after start gives the initial state. The receive buffer can overflow, and the kernel then
//! drops notifications; another dump follows, so that readers are never left with a wrong state.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_sys::{Socket, SocketAddr};
use socket2::SockRef;

use super::socket::{self, MESSAGE_BUFFER, RECEIVE_BUFFER};
use super::wire::{self, InterfaceAddress, Link, RawMessage};
use crate::host::bpf;

/// A change of an interface or address in this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// An interface exists or has changed.
    Link(Link),
    LinkGone {
        index: u32,
    },
    /// An address exists or has changed.
    Address(InterfaceAddress),
    AddressGone {
        index: u32,
        ip: IpAddr,
        prefix: u8,
    },
    /// A dump begins. Discard what is known: everything that exists follows, then
    /// [`Synced`](Self::Synced).
    Resync,
    /// The dump is complete: what came since [`Resync`](Self::Resync) is everything that exists.
    Synced,
}

impl NetEvent {
    /// What a notification, or a part of a dump, says.
    pub(crate) fn of(message: &RawMessage<'_>) -> Option<NetEvent> {
        match message.kind {
            libc::RTM_NEWLINK => wire::link(message.payload).map(NetEvent::Link),
            libc::RTM_DELLINK => {
                let index = wire::link_index(message.payload)?;
                Some(NetEvent::LinkGone { index })
            }
            libc::RTM_NEWADDR => wire::found(message.payload).map(NetEvent::Address),
            libc::RTM_DELADDR => {
                let InterfaceAddress { index, ip, prefix, .. } = wire::found(message.payload)?;
                Some(NetEvent::AddressGone { index, ip, prefix })
            }
            _ => None,
        }
    }
}

/// A subscription to notifications about interfaces and addresses. Readable when there are some.
/// After an overflow of the receive buffer everything is dumped again.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
    dump: Dump,
    /// The buffer overflowed during a dump, so another one must follow.
    notifications_lost: bool,
    /// Something changed during the dump, perhaps after the kernel had listed it.
    changed_meanwhile: bool,
    /// How many dumps in a row were repeated.
    attempts: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dump {
    Idle,
    /// Requested, no answer yet.
    Requested,
    Links,
    Addresses,
}

impl Monitor {
    /// Subscribes and requests a dump of everything that exists.
    ///
    /// # Errors
    /// The socket could not be opened, or the kernel refused the request.
    pub fn open() -> io::Result<Self> {
        Self::with_receive_buffer(RECEIVE_BUFFER)
    }

    /// As [`open`](Self::open), with a receive buffer of `bytes` bytes.
    pub fn with_receive_buffer(bytes: usize) -> io::Result<Self> {
        let socket = socket::open(bytes)?;
        for group in [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR] {
            socket.add_membership(group)?;
        }
        let mut monitor = Monitor {
            port: socket::port(&socket)?,
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(MESSAGE_BUFFER),
            dump: Dump::Idle,
            notifications_lost: false,
            changed_meanwhile: false,
            attempts: 0,
        };
        monitor.dump()?;
        Ok(monitor)
    }

    /// Filters out notifications of addresses that were added or renewed from this netlink port.
    /// The kernel does not state the port for IPv6 addresses, so their renewals still arrive.
    ///
    /// # Errors
    /// ENOMEM: the filter exceeds `net.core.optmem_max`.
    pub fn ignore_renewals(&self, port: u32) -> io::Result<()> {
        use libc::{BPF_H, BPF_JEQ, BPF_W};
        // struct nlmsghdr (netlink(7)): length, type, flags, sequence, port. These are in host byte
        // order, but a filter loads in network byte order.
        let kind = u16::from_be_bytes(libc::RTM_NEWADDR.to_ne_bytes());
        let port = u32::from_be_bytes(port.to_ne_bytes());
        SockRef::from(&self.socket).attach_filter(&[
            bpf::load(BPF_H, 4),
            bpf::jump(BPF_JEQ, kind.into(), 0, 3),
            bpf::load(BPF_W, 12),
            bpf::jump(BPF_JEQ, port, 0, 1),
            bpf::DROP,
            bpf::ACCEPT,
        ])
    }

    /// Requests a dump of everything that exists. During a dump, another one follows it: the kernel
    /// allows one per socket at a time.
    ///
    /// # Errors
    /// The request could not be sent.
    pub fn dump(&mut self) -> io::Result<()> {
        match self.dump {
            Dump::Idle => self.request(Dump::Requested),
            Dump::Requested | Dump::Links | Dump::Addresses => {
                self.notifications_lost = true;
                Ok(())
            }
        }
    }

    /// Passes what has happened to `handle`, at most 256 datagrams per call.
    ///
    /// # Errors
    /// The socket failed and must be replaced.
    pub fn read(&mut self, mut handle: impl FnMut(NetEvent)) -> io::Result<()> {
        for _ in 0..256 {
            let mut buffer = std::mem::take(&mut self.buffer);
            let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
            let result = match socket::receive(&self.socket, &mut buffer, flags) {
                Ok(length) if length > buffer.len() => {
                    buffer.reserve(length.next_power_of_two());
                    self.dump()
                }
                Ok(_) => wire::messages(&buffer).try_for_each(|m| self.process(&m, &mut handle)),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.dump(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                Err(error) => Err(error),
            };
            self.buffer = buffer;
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn process(
        &mut self,
        message: &RawMessage<'_>,
        handle: &mut impl FnMut(NetEvent),
    ) -> io::Result<()> {
        let is_answer = self.dump != Dump::Idle
            && message.port == self.port
            && message.sequence == self.sequence;
        if is_answer {
            // Notifications between the request and its answer still concerned the old state.
            if self.dump == Dump::Requested {
                self.dump = Dump::Links;
                handle(NetEvent::Resync);
            }
            self.changed_meanwhile |= message.flags & NLM_F_DUMP_INTR != 0;
        } else if matches!(self.dump, Dump::Links | Dump::Addresses) {
            // The kernel may have listed this before the change and send it after the notification.
            self.changed_meanwhile = true;
        }
        if is_answer && matches!(message.kind, NLMSG_DONE | NLMSG_ERROR) {
            message.outcome().map_err(|failure| io::Error::other(failure.to_string()))?;
            return self.continue_dump(handle);
        }
        if let Some(event) = NetEvent::of(message) {
            handle(event);
        }
        Ok(())
    }

    /// Continues after the kernel has listed all interfaces or all addresses.
    fn continue_dump(&mut self, handle: &mut impl FnMut(NetEvent)) -> io::Result<()> {
        if self.dump != Dump::Addresses {
            return self.request(Dump::Addresses);
        }
        self.dump = Dump::Idle;
        let again = self.notifications_lost || (self.changed_meanwhile && self.attempts < 3);
        if again {
            self.attempts += 1;
            return self.request(Dump::Requested);
        }
        self.attempts = 0;
        handle(NetEvent::Synced);
        Ok(())
    }

    fn request(&mut self, dump: Dump) -> io::Result<()> {
        let wanted = match dump {
            Dump::Addresses => RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            Dump::Idle | Dump::Requested | Dump::Links => {
                (self.notifications_lost, self.changed_meanwhile) = (false, false);
                let mut links = LinkMessage::default();
                let mask = vec![LinkExtentMask::SkipStats];
                links.attributes.push(LinkAttribute::ExtMask(mask));
                RouteNetlinkMessage::GetLink(links)
            }
        };
        self.dump = dump;
        self.sequence = self.sequence.wrapping_add(1);
        let request = wire::encode(wanted, NLM_F_REQUEST | NLM_F_DUMP, self.sequence);
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0).map(|_| ())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
