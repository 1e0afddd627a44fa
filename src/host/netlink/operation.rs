//! Operations on addresses, and the requests to the kernel that carry them out.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::AddressError;
use super::socket::{self, MESSAGE_BUFFER, RECEIVE_BUFFER};
use super::wire::{self, InterfaceAddress};
use crate::host::clock::boottime;
use crate::vrrp::{Address, Family, Mark};

/// Addresses per send(2). Their acknowledgements arrive together and must fit into the receive
/// buffer.
const BATCH_MAX: usize = 128;
/// Addresses in the first batch of a claim. They are announced while the rest are being added, so a
/// small batch shortens the takeover.
const FIRST_BATCH_MAX: usize = 32;
/// How long to wait for an answer. The kernel answers before send(2) returns, so an answer that is
/// missing after this time was dropped.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What an operation is done to.
#[derive(Clone, Debug)]
pub struct JobTarget {
    /// The index of the interface.
    pub index: u32,
    /// The addresses; a claim announces them in this order.
    pub addresses: Arc<[Address]>,
    /// The mark of the virtual router that they are for.
    pub mark: Mark,
    /// The marks of all virtual routers that the daemon has on the interface. An address may pass from
    /// one to another.
    pub ours: Arc<[Mark]>,
}

impl JobTarget {
    /// Whether an address with this mark, which the target names, is the daemon's.
    fn is_ours(&self, mark: Mark) -> bool {
        std::iter::once(&self.mark).chain(&*self.ours).any(|router| mark.is_of(*router))
    }
}

/// An operation on the addresses of a [`JobTarget`].
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Adds the addresses with the mark of the target, each as that of a single host, and a route to the
    /// subnet of each that brings one. An address that is present and ours is
    /// renewed. One that is not ours, whatever its prefix length, belongs to the host or to another
    /// daemon: it is left alone and reported as [`AlreadyThere`](AddressError::AlreadyThere).
    Claim {
        /// Seconds until the kernel removes them; `None` for ever.
        lifetime: Option<u32>,
        /// A hint that the interface has none of them, which saves reading its addresses first. If
        /// the kernel answers EEXIST, they are read after all.
        absent: bool,
    },
    /// Gives addresses that are ours and the routes to their subnets a new lifetime. An address that is not present is not added, and
    /// reported as [`Gone`](AddressError::Gone).
    Renew {
        /// Seconds until the kernel removes them.
        lifetime: u32,
        /// `CLOCK_BOOTTIME` after which no renewal is sent: the kernel may have removed the address
        /// by then, and the request would add it again. Reported as [`Late`](AddressError::Late).
        not_after: Duration,
        /// The interface is known to have all of them, as ours, so its addresses are not read first.
        intact: bool,
    },
    /// Removes addresses that are ours, whatever prefix length they were added with, and the routes to
    /// their subnets. One that is not present, or not ours, is no failure.
    Release,
    /// Makes permanent neighbour entries, with our mark, for the multicast groups that the target
    /// names instead of addresses.
    AddGroups,
    /// Removes such entries.
    RemoveGroups,
}

/// One netlink socket for requests and their answers.
#[derive(Debug)]
pub(super) struct RequestSocket {
    pub(super) socket: Socket,
    pub(super) sequence: u32,
    pub(super) buffer: Vec<u8>,
}

/// A request to add or remove one address or its route.
struct AddressRequest {
    /// The address of the job that the request was made for.
    address: Address,
    message: RouteNetlinkMessage,
    flags: u16,
    /// The kernel's answer; `None` until it has arrived.
    answer: Option<Result<(), AddressError>>,
}

/// What an answer means for the address.
enum RequestOutcome {
    Done,
    Failed(AddressError),
    /// Something changed between reading the addresses and the request, or there was no answer.
    Retry,
}

/// How an interface has one IP address: perhaps several times, with different prefix lengths.
#[derive(Default)]
struct Presence {
    /// Not as ours, but with this mark.
    foreign: Option<Mark>,
    ours: Vec<Address>,
}

impl RequestSocket {
    pub(super) fn connect() -> io::Result<Self> {
        let socket = socket::open(RECEIVE_BUFFER)?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(RequestSocket { socket, sequence: 0, buffer: Vec::with_capacity(MESSAGE_BUFFER) })
    }

    /// The port that the requests are sent from.
    pub(super) fn port(&self) -> io::Result<u32> {
        socket::port(&self.socket)
    }

    /// Carries out one operation. Returns the addresses that it failed for. `claimed` is called for
    /// each completed part of a claim except the last.
    pub(super) fn execute(
        &mut self,
        target: &JobTarget,
        operation: Operation,
        claimed: impl FnMut(Range<usize>),
    ) -> Vec<(Address, AddressError)> {
        match operation {
            Operation::Claim { lifetime, absent } => self.claim(target, lifetime, absent, claimed),
            Operation::Renew { lifetime, not_after, intact } => {
                self.renew(target, lifetime, not_after, intact)
            }
            Operation::Release => self.release(target),
            Operation::AddGroups => self.add_groups(target),
            Operation::RemoveGroups => self.remove_groups(target),
        }
    }

    fn claim(
        &mut self,
        target: &JobTarget,
        lifetime: Option<u32>,
        absent: bool,
        claimed: impl FnMut(Range<usize>),
    ) -> Vec<(Address, AddressError)> {
        let index = target.index;
        // The route would be added although another daemon has the address, whose route looks the same.
        let absent = absent && target.addresses.iter().all(|address| address.subnet().is_none());
        self.apply_with_retry(target, absent, claimed, |address, presence, requests| {
            if let Some(mark) = presence.foreign {
                return Some(AddressError::AlreadyThere(mark));
            }
            let host = Address::host(address.ip);
            for other in presence.ours.iter().filter(|ours| **ours != host) {
                requests.push(AddressRequest::remove(index, *other, address));
            }
            let there = presence.ours.contains(&host);
            let flags = if there { NLM_F_REPLACE } else { NLM_F_CREATE | NLM_F_EXCL };
            requests.push(AddressRequest::add(target, address, lifetime, flags));
            requests.extend(AddressRequest::add_route(index, address, lifetime));
            None
        })
    }

    fn release(&mut self, target: &JobTarget) -> Vec<(Address, AddressError)> {
        let index = target.index;
        let mut failures = self.apply_with_retry(
            target,
            false,
            |_| {},
            |address, presence, requests| {
                // The route of an equal address of another daemon looks the same.
                if presence.foreign.is_none_or(|mark| mark == Mark::None) {
                    requests.extend(AddressRequest::remove_route(index, address));
                }
                let ours = presence.ours.iter();
                requests.extend(ours.map(|ours| AddressRequest::remove(index, *ours, address)));
                None
            },
        );
        failures.retain(|(_, failure)| *failure != AddressError::NoDevice);
        failures
    }

    /// Reads which of the addresses the interface has, unless `absent` says that it has none, and
    /// sends the requests that `plan` makes of that. Addresses whose request conflicted with a
    /// concurrent change, or got no answer, are read and requested once more. `completed` is called
    /// for each part that succeeded while others are still to come.
    fn apply_with_retry(
        &mut self,
        target: &JobTarget,
        absent: bool,
        mut completed: impl FnMut(Range<usize>),
        plan: impl Fn(Address, &Presence, &mut Vec<AddressRequest>) -> Option<AddressError>,
    ) -> Vec<(Address, AddressError)> {
        let addresses = &target.addresses;
        let mut failures = Vec::new();
        let mut pending = addresses.to_vec();
        for last in [false, true] {
            let present = match absent && !last {
                true => Ok(HashMap::new()),
                false => self.query(target, &pending),
            };
            let present = match present {
                Ok(present) => present,
                Err(failure) => {
                    failures.extend(pending.iter().map(|address| (*address, failure.clone())));
                    return failures;
                }
            };
            let wanted = std::mem::take(&mut pending);
            let (first, rest) = wanted.split_at(wanted.len().min(FIRST_BATCH_MAX));
            let mut finished = 0;
            for batch in std::iter::once(first).chain(rest.chunks(BATCH_MAX)) {
                let mut requests = Vec::with_capacity(batch.len());
                for address in batch {
                    let presence = present.get(&address.ip).unwrap_or(&ABSENT);
                    if let Some(failure) = plan(*address, presence, &mut requests) {
                        failures.push((*address, failure));
                    }
                }
                self.exchange(&mut requests);
                for request in requests {
                    let address = request.address;
                    match request.outcome(last) {
                        RequestOutcome::Done => {}
                        RequestOutcome::Failed(failure) => failures.push((address, failure)),
                        RequestOutcome::Retry if pending.last() == Some(&address) => {}
                        RequestOutcome::Retry => pending.push(address),
                    }
                }
                let part = finished..finished + batch.len();
                finished = part.end;
                if failures.is_empty() && pending.is_empty() && finished < addresses.len() && !last
                {
                    completed(part);
                }
            }
            if pending.is_empty() {
                break;
            }
        }
        failures
    }

    fn renew(
        &mut self,
        target: &JobTarget,
        lifetime: u32,
        not_after: Duration,
        intact: bool,
    ) -> Vec<(Address, AddressError)> {
        let JobTarget { index, addresses, .. } = target;
        let present = match intact {
            true => Ok(HashMap::new()),
            false => self.query(target, addresses),
        };
        let present = match present {
            Ok(present) => present,
            Err(failure) => return addresses.iter().map(|a| (*a, failure.clone())).collect(),
        };
        let mut failures = Vec::new();
        let mut requests = Vec::with_capacity(addresses.len());
        for address in addresses.iter() {
            let presence = present.get(&address.ip).unwrap_or(&ABSENT);
            if intact || presence.ours.contains(&Address::host(address.ip)) {
                requests.push(AddressRequest::add(target, *address, Some(lifetime), NLM_F_REPLACE));
                // Another program may have removed it.
                requests.extend(AddressRequest::add_route(*index, *address, Some(lifetime)));
            } else if let Some(mark) = presence.foreign {
                failures.push((*address, AddressError::AlreadyThere(mark)));
            } else {
                failures.push((*address, AddressError::Gone));
            }
        }
        for batch in requests.chunks_mut(BATCH_MAX) {
            // Renewing an address that the kernel has removed meanwhile would add it again.
            if boottime() <= not_after {
                self.exchange(batch);
            }
            // The request may have waited for the RTNL lock until after the lifetime had ended.
            let late = boottime() > not_after;
            failures.extend(batch.iter().filter_map(|request| {
                let failure = match &request.answer {
                    Some(Ok(())) | None if late => AddressError::Late,
                    Some(Ok(())) => return None,
                    Some(Err(failure)) => failure.clone(),
                    None => AddressError::timed_out(),
                };
                Some((request.address, failure))
            }));
        }
        failures
    }

    /// Reads from the kernel how the interface has these IP addresses.
    fn query(
        &mut self,
        target: &JobTarget,
        wanted: &[Address],
    ) -> Result<HashMap<IpAddr, Presence>, AddressError> {
        let mut present: HashMap<IpAddr, Presence> =
            wanted.iter().map(|address| (address.ip, Presence::default())).collect();
        for family in [Family::V4, Family::V6] {
            if !wanted.iter().any(|address| Family::of(address.ip) == family) {
                continue;
            }
            self.dump(target.index, family, |found| {
                let Some(presence) = present.get_mut(&found.ip) else { return };
                if !target.is_ours(found.mark) {
                    presence.foreign = Some(found.mark);
                } else if !presence.ours.contains(&found.address()) {
                    presence.ours.push(found.address());
                }
            })?;
        }
        Ok(present)
    }

    /// Reads all addresses of one family that the interface has.
    fn dump(
        &mut self,
        index: u32,
        family: Family,
        mut handle: impl FnMut(InterfaceAddress),
    ) -> Result<(), AddressError> {
        let mut wanted = AddressMessage::default();
        wanted.header.family = wire::address_family(family);
        wanted.header.index = index;
        let wanted = RouteNetlinkMessage::GetAddress(wanted);
        let mut complete = false;
        // A dump that a change has interrupted is repeated. The fourth is used as it is.
        for _ in 0..4 {
            self.sequence = self.sequence.wrapping_add(1);
            let sequence = self.sequence;
            let request = wire::encode(wanted.clone(), NLM_F_REQUEST | NLM_F_DUMP, sequence);
            self.socket.send(&request, 0)?;
            let deadline = Instant::now() + ANSWER_TIMEOUT;
            let mut interrupted = false;
            complete = false;
            while !complete && self.receive(deadline)? {
                for message in wire::messages(&self.buffer).filter(|m| m.sequence == sequence) {
                    interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                    match message.kind {
                        NLMSG_DONE | NLMSG_ERROR => {
                            message.outcome()?;
                            complete = true;
                        }
                        _ => match wire::found(message.payload) {
                            Some(found) if found.index == index => handle(found),
                            Some(_) | None => {}
                        },
                    }
                }
            }
            if complete && !interrupted {
                break;
            }
        }
        complete.then_some(()).ok_or_else(AddressError::timed_out)
    }

    /// Sends all requests with one system call and stores the answers.
    fn exchange(&mut self, requests: &mut [AddressRequest]) {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(requests.len() * 96);
        for request in requests.iter() {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = NLM_F_REQUEST | NLM_F_ACK | request.flags;
            bytes.extend(wire::encode(request.message.clone(), flags, self.sequence));
        }
        if let Err(error) = self.socket.send(&bytes, 0) {
            let failure = AddressError::from(error);
            requests.iter_mut().for_each(|request| request.answer = Some(Err(failure.clone())));
            return;
        }
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut missing = requests.len();
        while missing > 0 && matches!(self.receive(deadline), Ok(true)) {
            for message in wire::messages(&self.buffer).filter(|m| m.kind == NLMSG_ERROR) {
                let place = message.sequence.wrapping_sub(first) as usize;
                if let Some(request) = requests.get_mut(place)
                    && request.answer.is_none()
                {
                    request.answer = Some(request.accept_done(message.outcome()));
                    missing -= 1;
                }
            }
        }
    }

    /// Receives the next datagram into the buffer. Returns `false` at the deadline.
    pub(super) fn receive(&mut self, deadline: Instant) -> io::Result<bool> {
        loop {
            match socket::receive(&self.socket, &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The receive buffer overflowed. What was not dropped can still be read.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Ok(false),
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// An IP address that the interface does not have.
static ABSENT: Presence = Presence { foreign: None, ours: Vec::new() };

impl AddressRequest {
    fn add(target: &JobTarget, address: Address, lifetime: Option<u32>, flags: u16) -> Self {
        let mut message = wire::address_message(target.index, Address::host(address.ip));
        message.header.scope = match address.ip {
            IpAddr::V4(ip) if ip.is_link_local() => AddressScope::Link,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => AddressScope::Link,
            IpAddr::V4(_) | IpAddr::V6(_) => AddressScope::Universe,
        };
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_valid = lifetime.unwrap_or(u32::MAX);
        // With preferred lifetime 0 it is deprecated (RFC 4862 5.5.4): new connections of this host
        // do not use it as their source address.
        lifetimes.ifa_preferred = if address.ip.is_ipv6() { 0 } else { lifetimes.ifa_valid };
        let flags_v6 =
            if address.ip.is_ipv6() { AddressFlags::Nodad } else { AddressFlags::empty() };
        message.attributes.extend([
            AddressAttribute::Flags(AddressFlags::Noprefixroute | flags_v6),
            AddressAttribute::CacheInfo(lifetimes),
        ]);
        message.attributes.extend(wire::mark_attributes(target.mark));
        let message = RouteNetlinkMessage::NewAddress(message);
        AddressRequest { address, message, flags, answer: None }
    }

    /// Adds the route to its subnet, if it brings one, or renews it. No route of others is changed.
    fn add_route(index: u32, address: Address, lifetime: Option<u32>) -> Option<Self> {
        let message = wire::route_message(index, address, lifetime)?;
        let message = RouteNetlinkMessage::NewRoute(message);
        Some(AddressRequest { address, message, flags: NLM_F_CREATE | NLM_F_APPEND, answer: None })
    }

    fn remove_route(index: u32, address: Address) -> Option<Self> {
        let message = wire::route_message(index, address, None)?;
        let message = RouteNetlinkMessage::DelRoute(message);
        Some(AddressRequest { address, message, flags: 0, answer: None })
    }

    fn remove(index: u32, ours: Address, address: Address) -> Self {
        let message = RouteNetlinkMessage::DelAddress(wire::address_message(index, ours));
        AddressRequest { address, message, flags: 0, answer: None }
    }

    /// Interprets the answer. `last`: there will be no further attempt.
    fn outcome(self, last: bool) -> RequestOutcome {
        match self.answer {
            Some(Ok(())) => RequestOutcome::Done,
            Some(Err(failure)) if failure.is(libc::EEXIST) && last => {
                RequestOutcome::Failed(AddressError::AlreadyThere(Mark::None))
            }
            Some(Err(failure)) if last || !failure.is(libc::EEXIST) => {
                RequestOutcome::Failed(failure)
            }
            None if last => RequestOutcome::Failed(AddressError::timed_out()),
            Some(Err(_)) | None => RequestOutcome::Retry,
        }
    }

    /// Removing what is already gone has succeeded, and so has adding a route that is there.
    fn accept_done(&self, outcome: Result<(), AddressError>) -> Result<(), AddressError> {
        let done = match self.message {
            RouteNetlinkMessage::DelAddress(_) => libc::EADDRNOTAVAIL,
            RouteNetlinkMessage::DelRoute(_) => libc::ESRCH,
            RouteNetlinkMessage::NewRoute(_) => libc::EEXIST,
            _ => return outcome,
        };
        outcome.or_else(|failure| if failure.is(done) { Ok(()) } else { Err(failure) })
    }
}
