//! What happens to interfaces and addresses, as the kernel tells it, and as it was at the start.

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
use super::wire::{self, Found, Link, Message};
use crate::host::bpf;

/// What happened to the interfaces and addresses of this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetEvent {
    /// An interface is there, or something about it changed.
    Link(Link),
    /// An interface is gone.
    LinkGone {
        /// Its index.
        index: u32,
    },
    /// An address is there, or something about it changed.
    Address(Found),
    /// An address is gone.
    AddressGone {
        /// Index of its interface.
        index: u32,
        /// The address.
        ip: IpAddr,
        /// Its prefix length.
        prefix: u8,
    },
    /// Forget everything: all that is there follows, then [`Synced`](Self::Synced).
    Resync,
    /// What came since [`Resync`](Self::Resync) is all there is.
    Synced,
}

/// The kernel's notifications about interfaces and addresses. Nothing is lost silently: after an
/// overrun everything is read anew.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
    dump: Dump,
    /// Notifications were lost while reading anew.
    notifications_lost: bool,
    /// Something changed while reading anew, perhaps after it was read.
    changed_meanwhile: bool,
    /// How often in a row it was disturbed.
    attempts: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dump {
    Idle,
    Requested,
    Links,
    Addresses,
}

impl Events {
    /// Subscribes, and has everything told that is there already.
    pub fn open() -> io::Result<Self> {
        Self::with_receive_buffer(RECEIVE_BUFFER)
    }

    /// As [`open`](Self::open), with a receive buffer of this many bytes.
    pub fn with_receive_buffer(bytes: usize) -> io::Result<Self> {
        let socket = socket::open(bytes)?;
        for group in [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR] {
            socket.add_membership(group)?;
        }
        let mut events = Events {
            port: socket::port(&socket)?,
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(MESSAGE_BUFFER),
            dump: Dump::Idle,
            notifications_lost: false,
            changed_meanwhile: false,
            attempts: 0,
        };
        events.dump()?;
        Ok(events)
    }

    /// From now on does not hear of addresses that were added or renewed from this netlink port.
    /// (Of IPv6 addresses the kernel does not say who renewed them.)
    ///
    /// # Errors
    /// When the kernel has no room for a filter.
    pub fn ignore_renewals(&self, port: u32) -> io::Result<()> {
        use libc::{BPF_H, BPF_JEQ, BPF_W};
        // struct nlmsghdr: length, type, flags, sequence, port; in this machine's order of bytes,
        // while a filter reads in the network's.
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

    /// Has everything told anew that is there.
    pub fn dump(&mut self) -> io::Result<()> {
        match self.dump {
            Dump::Idle => self.request(Dump::Requested),
            // The kernel allows one at a time.
            Dump::Requested | Dump::Links | Dump::Addresses => {
                self.notifications_lost = true;
                Ok(())
            }
        }
    }

    /// Hands over what has happened, at most some hundred messages at once. An error is one of
    /// the socket itself: open another.
    pub fn read(&mut self, mut handle: impl FnMut(NetEvent)) -> io::Result<()> {
        for _ in 0..256 {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            let received = self.socket.recv(&mut buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC);
            let result = match received {
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
        message: &Message<'_>,
        handle: &mut impl FnMut(NetEvent),
    ) -> io::Result<()> {
        let is_answer = self.dump != Dump::Idle
            && message.port == self.port
            && message.sequence == self.sequence;
        if is_answer {
            // What came between the request and its answer was news for the old picture.
            if self.dump == Dump::Requested {
                self.dump = Dump::Links;
                handle(NetEvent::Resync);
            }
            self.changed_meanwhile |= message.flags & NLM_F_DUMP_INTR != 0;
        } else if matches!(self.dump, Dump::Links | Dump::Addresses) {
            // It may have been read before, and be told after, this change.
            self.changed_meanwhile = true;
        }
        match message.kind {
            libc::RTM_NEWLINK => {
                if let Some(link) = wire::link(message.payload) {
                    handle(NetEvent::Link(link));
                }
            }
            libc::RTM_DELLINK => {
                if let Some(index) = wire::link_index(message.payload) {
                    handle(NetEvent::LinkGone { index });
                }
            }
            libc::RTM_NEWADDR => {
                if let Some(found) = wire::found(message.payload) {
                    handle(NetEvent::Address(found));
                }
            }
            libc::RTM_DELADDR => {
                if let Some(Found { index, ip, prefix, .. }) = wire::found(message.payload) {
                    handle(NetEvent::AddressGone { index, ip, prefix });
                }
            }
            NLMSG_DONE | NLMSG_ERROR if is_answer => {
                message.outcome().map_err(|failure| io::Error::other(failure.to_string()))?;
                return self.continue_dump(handle);
            }
            _ => {}
        }
        Ok(())
    }

    /// What is to be read after one list has ended.
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

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
