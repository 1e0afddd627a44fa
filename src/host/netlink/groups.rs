//! Neighbour entries of multicast groups, and how full the neighbour tables are.
//!
//! A packet to a multicast group needs an entry in the neighbour table like any other. The kernel
//! makes one by itself, but drops the packet if the table is full: of more neighbours than
//! `net.ipv4.neigh.default.gc_thresh3`, or of a flood of requests from invented ones. A permanent entry
//! does not count, and stays.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::neighbour_table::NeighbourTableMessage;
use netlink_packet_route::route::RouteProtocol;

use super::error::AddressError;
use super::operation::{ANSWER_TIMEOUT, JobTarget, RequestSocket};
use super::wire::{self, IFA_PROTO_VIPD};
use crate::vrrp::{Address, Family};

/// How full the neighbour table of an address family is. All network namespaces share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourTable {
    pub family: Family,
    pub entries: u32,
    /// `gc_thresh3`: beyond it packets to neighbours without an entry are dropped.
    pub limit: u32,
}

/// The entry of a group, if there is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    None,
    /// Made by the kernel.
    Automatic,
    Ours,
    /// Made by an operator.
    Foreign,
}

impl RequestSocket {
    /// Makes permanent entries for the multicast groups of a target, with our mark. Those of an
    /// operator are left alone.
    pub(super) fn add_groups(&mut self, target: &JobTarget) -> Vec<(Address, AddressError)> {
        self.each_group(target, |socket, group| match socket.entry(target.index, group)? {
            Entry::Foreign => Ok(()),
            Entry::None | Entry::Automatic | Entry::Ours => {
                let mut message = neighbour(target.index, group);
                message.header.state = NeighbourState::Permanent;
                message.attributes.extend([
                    NeighbourAttribute::LinkLayerAddress(mac(group).to_vec()),
                    NeighbourAttribute::Protocol(RouteProtocol::Other(IFA_PROTO_VIPD)),
                ]);
                let message = RouteNetlinkMessage::NewNeighbour(message);
                socket.ask(message, NLM_F_CREATE | NLM_F_REPLACE, |_| {})
            }
        })
    }

    /// Removes the entries that carry our mark.
    pub(super) fn remove_groups(&mut self, target: &JobTarget) -> Vec<(Address, AddressError)> {
        self.each_group(target, |socket, group| match socket.entry(target.index, group)? {
            Entry::None | Entry::Automatic | Entry::Foreign => Ok(()),
            Entry::Ours => {
                let message = RouteNetlinkMessage::DelNeighbour(neighbour(target.index, group));
                socket.ask(message, 0, |_| {})
            }
        })
    }

    fn each_group(
        &mut self,
        target: &JobTarget,
        mut act: impl FnMut(&mut Self, IpAddr) -> Result<(), AddressError>,
    ) -> Vec<(Address, AddressError)> {
        let groups = target.addresses.iter();
        groups.filter_map(|group| Some((*group, act(self, group.ip).err()?))).collect()
    }

    fn entry(&mut self, index: u32, group: IpAddr) -> Result<Entry, AddressError> {
        let mut entry = Entry::None;
        let message = RouteNetlinkMessage::GetNeighbour(neighbour(index, group));
        let outcome = self.ask(message, 0, |payload| {
            if let Some((state, protocol)) = wire::neighbour(payload) {
                entry = match protocol {
                    Some(IFA_PROTO_VIPD) => Entry::Ours,
                    _ if state & u16::from(NeighbourState::Permanent) != 0 => Entry::Foreign,
                    _ => Entry::Automatic,
                };
            }
        });
        match outcome {
            Err(failure) if failure.is(libc::ENOENT) => Ok(Entry::None),
            Err(failure) => Err(failure),
            Ok(()) => Ok(entry),
        }
    }

    /// How full the neighbour tables are.
    fn neighbour_tables(&mut self) -> Result<Vec<NeighbourTable>, AddressError> {
        let mut tables = Vec::new();
        let message = RouteNetlinkMessage::GetNeighbourTable(NeighbourTableMessage::default());
        self.ask(message, NLM_F_DUMP, |payload| tables.extend(wire::neighbour_table(payload)))?;
        Ok(tables)
    }

    /// Sends a request, passes the payloads of what is answered to `handle`, and returns how it
    /// ended.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        mut handle: impl FnMut(&[u8]),
    ) -> Result<(), AddressError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let request = wire::encode(message, NLM_F_REQUEST | NLM_F_ACK | flags, sequence);
        self.socket.send(&request, 0)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while self.receive(deadline)? {
            for message in wire::messages(&self.buffer).filter(|m| m.sequence == sequence) {
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => return message.outcome(),
                    _ => handle(message.payload),
                }
            }
        }
        Err(AddressError::timed_out())
    }
}

/// How full the neighbour tables of this machine are.
///
/// # Errors
/// The kernel does not answer.
pub fn neighbour_tables() -> io::Result<Vec<NeighbourTable>> {
    RequestSocket::connect()?.neighbour_tables().map_err(io::Error::other)
}

fn neighbour(index: u32, group: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = wire::address_family(Family::of(group));
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(group.into())];
    message
}

/// The Ethernet address of a multicast group (RFC 1112 6.4, RFC 2464 7).
fn mac(group: IpAddr) -> [u8; 6] {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [0x01, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}
