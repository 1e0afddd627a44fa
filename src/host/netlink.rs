//! The addresses and interfaces of this host, by rtnetlink: a [`Worker`] that claims, renews and
//! releases addresses on a thread of its own, and the [`Events`] by which the kernel tells what
//! became of them.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkMessage, NlasIterator,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
    AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;

use crate::host::bpf;
use crate::host::clock::boottime;
use crate::host::event_channel::{self, Receiver};
use crate::host::privileges;
use crate::vrrp::{Address, Family};

/// The mark of an address that was claimed by this program (`IFA_PROTO`, kernel 5.18): VRRP's
/// protocol number. It says *what* claimed the address, not which of several daemons.
pub const IFA_PROTO_VIPD: u8 = 112;

/// Below the advert loop's: many addresses take long.
const REALTIME_PRIORITY: u8 = 49;
/// Addresses per system call: the acknowledgements must fit into the receive buffer.
const CHUNK: usize = 128;
/// The first ones of a claim are announced while the others are added, so they are few.
const FIRST_CHUNK: usize = 32;
/// While there is more to do, reports wait no longer than this.
const TOLD_WITHIN: Duration = Duration::from_micros(500);
/// The kernel answers while it takes the request, so what is not there after this was lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Larger than any message about an interface without hundreds of virtual functions.
const MESSAGE_BUFFER: usize = 64 << 10;

/// Claims, renews and releases addresses on a thread of its own: the kernel has one lock for all
/// of this, which others can hold for seconds.
#[derive(Debug)]
pub struct Worker {
    jobs: Sender<Job>,
    reports: Receiver<Report>,
    /// For what the worker cannot report any more.
    reporter: event_channel::Sender<Report>,
    renewal_port: u32,
}

/// What is to be done with addresses of one interface.
#[derive(Clone, Debug)]
pub struct Job {
    /// Comes back in the report.
    pub ticket: u64,
    /// The interface.
    pub index: u32,
    /// What to do.
    pub work: Work,
}

/// The kinds of job.
#[derive(Clone, Debug)]
pub enum Work {
    /// Add and mark the addresses. What is there already and bears the mark is renewed; what is
    /// there without it, whatever its prefix length, is left alone:
    /// [`AlreadyThere`](Failure::AlreadyThere).
    Claim {
        /// The addresses.
        addresses: Arc<[Address]>,
        /// Seconds until the kernel removes them; `None`: never.
        lifetime: Option<u32>,
        /// The interface had none of them a moment ago: if that still holds, nobody needs to look.
        absent: bool,
    },
    /// Give marked addresses a new lifetime. Addresses that are not there stay away:
    /// [`Gone`](Failure::Gone).
    Renew {
        /// The addresses.
        addresses: Arc<[Address]>,
        /// Seconds until the kernel removes them.
        lifetime: u32,
        /// `CLOCK_BOOTTIME` after which no renewal is sent, because it could bring back what the
        /// kernel has removed: [`Late`](Failure::Late).
        not_after: Duration,
        /// The interface had all of them, marked, a moment ago: nobody needs to look.
        intact: bool,
    },
    /// Remove marked addresses. What is not there, or is there without the mark, is no failure.
    Release {
        /// The addresses.
        addresses: Arc<[Address]>,
    },
}

impl Work {
    /// The addresses concerned.
    pub fn addresses(&self) -> &Arc<[Address]> {
        match self {
            Work::Claim { addresses, .. }
            | Work::Renew { addresses, .. }
            | Work::Release { addresses } => addresses,
        }
    }
}

/// What the worker tells of a job.
#[derive(Clone, Debug)]
pub enum Report {
    /// The interface has this part of a claim's addresses, and the others are being added.
    Claimed {
        /// The job's.
        ticket: u64,
        /// Their places in the list.
        part: Range<usize>,
    },
    /// It is over.
    Done(Done),
}

impl Report {
    /// How the job went, if it is over.
    pub fn done(self) -> Option<Done> {
        match self {
            Report::Claimed { .. } => None,
            Report::Done(done) => Some(done),
        }
    }
}

/// How a job went.
#[derive(Clone, Debug)]
pub struct Done {
    /// The job's.
    pub ticket: u64,
    /// The addresses that it failed for; it succeeded for all others.
    pub failures: Vec<(Address, Failure)>,
    /// `CLOCK_BOOTTIME` when the worker took the job up.
    pub started: Duration,
    /// `CLOCK_BOOTTIME` when it was done.
    pub finished: Duration,
}

/// Why a job failed for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The interface has this address without our mark: it belongs to the host.
    AlreadyThere,
    /// To be renewed, but the interface does not have it.
    Gone,
    /// The renewal came too late: it was not sent, or what the kernel did is not known to have
    /// happened in time.
    Late,
    /// The interface is gone.
    NoDevice,
    /// Anything else: the system's error number, and what the kernel said about it (may be empty).
    Os {
        /// Error number.
        errno: i32,
        /// The kernel's own words.
        text: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::AlreadyThere => f.write_str("the host has this address itself"),
            Failure::Gone => f.write_str("the address is gone"),
            Failure::Late => f.write_str("too late to renew it"),
            Failure::NoDevice => f.write_str("the interface is gone"),
            Failure::Os { errno, text } if text.is_empty() => {
                io::Error::from_raw_os_error(*errno).fmt(f)
            }
            Failure::Os { errno, text } => {
                write!(f, "{text} ({})", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::new(error.raw_os_error().unwrap_or(libc::EIO), String::new())
    }
}

impl Failure {
    fn new(errno: i32, text: String) -> Self {
        match errno {
            libc::ENODEV => Failure::NoDevice,
            _ => Failure::Os { errno, text },
        }
    }

    fn is(&self, wanted: i32) -> bool {
        matches!(self, Failure::Os { errno, .. } if *errno == wanted)
    }
}

impl Worker {
    /// Starts the thread. It ends when the `Worker` is dropped and its last job is done.
    pub fn start() -> io::Result<Self> {
        let mut kernel = Kernel::connect()?;
        // By its own socket, whose echoes can be told apart: there are many, and they are no news.
        let mut renewer = Kernel::connect()?;
        let renewal_port = port(&renewer.socket)?;
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (reporter, reports) = event_channel::channel()?;
        let theirs = reporter.clone();
        thread::Builder::new().name("netlink".to_owned()).spawn(move || {
            // The first advert waits for the claim. Where real-time priority is refused, so it was
            // for adverts, and there was a warning.
            let _ = privileges::realtime(REALTIME_PRIORITY);
            let (mut woken, mut unheard) = (boottime(), false);
            while let Ok(job) = inbox.try_recv().or_else(|_| {
                if std::mem::take(&mut unheard) {
                    theirs.wake();
                }
                inbox.recv()
            }) {
                let kernel = match &job.work {
                    Work::Claim { .. } | Work::Release { .. } => &mut kernel,
                    Work::Renew { .. } => &mut renewer,
                };
                let done = kernel.carry_out(&job, |part| {
                    theirs.send(Report::Claimed { ticket: job.ticket, part });
                });
                let finished = done.finished;
                theirs.send_quiet(Report::Done(done));
                // Of many small jobs the reports are heard together.
                unheard = finished.saturating_sub(woken) < TOLD_WITHIN;
                if !unheard {
                    theirs.wake();
                    woken = finished;
                }
            }
        })?;
        Ok(Worker { jobs, reports, reporter, renewal_port })
    }

    /// The netlink port that renewals come from.
    pub fn renewal_port(&self) -> u32 {
        self.renewal_port
    }

    /// Hands a job to the worker, which does one after the other. Never blocks; every job is
    /// reported.
    pub fn submit(&self, job: Job) {
        if let Err(mpsc::SendError(job)) = self.jobs.send(job) {
            let failure = Failure::new(libc::EPIPE, "the netlink worker has ended".to_owned());
            let failures = job.work.addresses().iter().map(|a| (*a, failure.clone())).collect();
            let now = boottime();
            let (started, finished) = (now, now);
            let done = Done { ticket: job.ticket, failures, started, finished };
            self.reporter.send(Report::Done(done));
        }
    }

    /// The reports that have come in; also makes the file descriptor unreadable again.
    pub fn reports(&mut self) -> impl Iterator<Item = Report> + '_ {
        self.reports.recv()
    }
}

impl AsFd for Worker {
    /// Readable when a report is waiting.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }
}

/// The worker's conversation with the kernel: request, answer, one at a time.
#[derive(Debug)]
struct Kernel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// A request, the address of the job it is made for, and whether the kernel did it; `None`: it
/// did not say.
struct Request {
    address: Address,
    message: RouteNetlinkMessage,
    flags: u16,
    answer: Option<Result<(), Failure>>,
}

enum Verdict {
    Failed(Failure),
    Again,
}

/// What an interface holds of one IP address.
#[derive(Default)]
struct Presence {
    foreign: bool,
    marked: Vec<Address>,
}

impl Kernel {
    fn connect() -> io::Result<Self> {
        let socket = open(RECEIVE_BUFFER)?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Kernel { socket, sequence: 0, buffer: Vec::with_capacity(MESSAGE_BUFFER) })
    }

    /// `claimed` is told of parts of a claim, before the last one.
    fn carry_out(&mut self, job: &Job, claimed: impl FnMut(Range<usize>)) -> Done {
        let started = boottime();
        let failures = match &job.work {
            Work::Claim { addresses, lifetime, absent } => {
                self.claim(job.index, addresses, *lifetime, *absent, claimed)
            }
            Work::Renew { addresses, lifetime, not_after, intact } => {
                self.renew(job.index, addresses, *lifetime, *not_after, *intact)
            }
            Work::Release { addresses } => self.release(job.index, addresses),
        };
        Done { ticket: job.ticket, failures, started, finished: boottime() }
    }

    fn claim(
        &mut self,
        index: u32,
        addresses: &[Address],
        lifetime: Option<u32>,
        absent: bool,
        claimed: impl FnMut(Range<usize>),
    ) -> Vec<(Address, Failure)> {
        self.twice(index, addresses, absent, claimed, |address, presence, requests| {
            if presence.foreign {
                return Some(Failure::AlreadyThere);
            }
            // Ours from before the operator changed the prefix length.
            for other in presence.marked.iter().filter(|marked| marked.prefix != address.prefix) {
                requests.push(Request::remove(index, *other, address));
            }
            let there = presence.marked.contains(&address);
            let flags = if there { NLM_F_REPLACE } else { NLM_F_CREATE | NLM_F_EXCL };
            requests.push(Request::add(index, address, lifetime, flags));
            None
        })
    }

    fn release(&mut self, index: u32, addresses: &[Address]) -> Vec<(Address, Failure)> {
        let mut failures = self.twice(
            index,
            addresses,
            false,
            |_| {},
            |address, presence, requests| {
                let marked = presence.marked.iter();
                requests.extend(marked.map(|marked| Request::remove(index, *marked, address)));
                None
            },
        );
        failures.retain(|(_, failure)| *failure != Failure::NoDevice);
        failures
    }

    /// Looks what the interface has (unless it is known to have nothing), makes requests of it, and
    /// does so once more, looking, for those that met a change meanwhile or were not answered.
    /// `done` is told of parts that are finished while others are not.
    fn twice(
        &mut self,
        index: u32,
        addresses: &[Address],
        absent: bool,
        mut done: impl FnMut(Range<usize>),
        plan: impl Fn(Address, &Presence, &mut Vec<Request>) -> Option<Failure>,
    ) -> Vec<(Address, Failure)> {
        let mut failures = Vec::new();
        let mut pending = addresses.to_vec();
        for last in [false, true] {
            let present = match absent && !last {
                true => Ok(HashMap::new()),
                false => self.present(index, &pending),
            };
            let present = match present {
                Ok(present) => present,
                Err(failure) => {
                    failures.extend(pending.iter().map(|address| (*address, failure.clone())));
                    return failures;
                }
            };
            let wanted = std::mem::take(&mut pending);
            let (first, rest) = wanted.split_at(wanted.len().min(FIRST_CHUNK));
            let mut finished = 0;
            for chunk in std::iter::once(first).chain(rest.chunks(CHUNK)) {
                let mut requests = Vec::with_capacity(chunk.len());
                for address in chunk {
                    let presence = present.get(&address.ip).unwrap_or(&NOTHING);
                    if let Some(failure) = plan(*address, presence, &mut requests) {
                        failures.push((*address, failure));
                    }
                }
                self.exchange(&mut requests);
                for request in requests {
                    let address = request.address;
                    match request.failure(last) {
                        None => {}
                        Some(Verdict::Failed(failure)) => failures.push((address, failure)),
                        Some(Verdict::Again) if pending.last() == Some(&address) => {}
                        Some(Verdict::Again) => pending.push(address),
                    }
                }
                let part = finished..finished + chunk.len();
                finished = part.end;
                if failures.is_empty() && pending.is_empty() && finished < addresses.len() && !last
                {
                    done(part);
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
        index: u32,
        addresses: &[Address],
        lifetime: u32,
        not_after: Duration,
        intact: bool,
    ) -> Vec<(Address, Failure)> {
        let present = match intact {
            true => Ok(HashMap::new()),
            false => self.present(index, addresses),
        };
        let present = match present {
            Ok(present) => present,
            Err(failure) => return addresses.iter().map(|a| (*a, failure.clone())).collect(),
        };
        let mut failures = Vec::new();
        let mut requests = Vec::with_capacity(addresses.len());
        for address in addresses {
            let presence = present.get(&address.ip).unwrap_or(&NOTHING);
            if intact || presence.marked.contains(address) {
                requests.push(Request::add(index, *address, Some(lifetime), NLM_F_REPLACE));
            } else if presence.foreign {
                failures.push((*address, Failure::AlreadyThere));
            } else {
                failures.push((*address, Failure::Gone));
            }
        }
        for chunk in requests.chunks_mut(CHUNK) {
            // The renewal of an address that the kernel has removed brings it back.
            if boottime() <= not_after {
                self.exchange(chunk);
            }
            // Whoever held the lock may have held it until after the lifetime.
            let late = boottime() > not_after;
            failures.extend(chunk.iter().filter_map(|request| {
                let failure = match &request.answer {
                    Some(Ok(())) | None if late => Failure::Late,
                    Some(Ok(())) => return None,
                    Some(Err(failure)) => failure.clone(),
                    None => Failure::from(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
                };
                Some((request.address, failure))
            }));
        }
        failures
    }

    /// What the interface has of these IP addresses.
    fn present(
        &mut self,
        index: u32,
        wanted: &[Address],
    ) -> Result<HashMap<IpAddr, Presence>, Failure> {
        let mut present: HashMap<IpAddr, Presence> =
            wanted.iter().map(|address| (address.ip, Presence::default())).collect();
        for family in [Family::V4, Family::V6] {
            if !wanted.iter().any(|address| Family::of(address.ip) == family) {
                continue;
            }
            self.dump(index, family, |found| {
                let Some(presence) = present.get_mut(&found.ip) else { return };
                if !found.ours {
                    presence.foreign = true;
                } else if !presence.marked.contains(&found.address()) {
                    presence.marked.push(found.address());
                }
            })?;
        }
        Ok(present)
    }

    /// All addresses of one family that the interface has.
    fn dump(
        &mut self,
        index: u32,
        family: Family,
        mut handle: impl FnMut(Found),
    ) -> Result<(), Failure> {
        let mut wanted = AddressMessage::default();
        wanted.header.family = address_family(family);
        wanted.header.index = index;
        let wanted = RouteNetlinkMessage::GetAddress(wanted);
        let mut complete = false;
        // A list that changed while it was read is read again; the last time it has to do.
        for _ in 0..4 {
            self.sequence = self.sequence.wrapping_add(1);
            let sequence = self.sequence;
            let request = encode(wanted.clone(), NLM_F_REQUEST | NLM_F_DUMP, sequence);
            self.socket.send(&request, 0)?;
            let deadline = Instant::now() + PATIENCE;
            let mut interrupted = false;
            complete = false;
            while !complete && self.receive(deadline)? {
                for message in messages(&self.buffer).filter(|m| m.sequence == sequence) {
                    interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                    match message.kind {
                        NLMSG_DONE | NLMSG_ERROR => {
                            message.outcome()?;
                            complete = true;
                        }
                        _ => match found(message.payload) {
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
        let timeout = || Failure::from(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        complete.then_some(()).ok_or_else(timeout)
    }

    /// Sends the requests in one go and fills in the answers.
    fn exchange(&mut self, requests: &mut [Request]) {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(requests.len() * 96);
        for request in requests.iter() {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = NLM_F_REQUEST | NLM_F_ACK | request.flags;
            bytes.extend(encode(request.message.clone(), flags, self.sequence));
        }
        if let Err(error) = self.socket.send(&bytes, 0) {
            let failure = Failure::from(error);
            requests.iter_mut().for_each(|request| request.answer = Some(Err(failure.clone())));
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut missing = requests.len();
        while missing > 0 && matches!(self.receive(deadline), Ok(true)) {
            for message in messages(&self.buffer).filter(|m| m.kind == NLMSG_ERROR) {
                let place = message.sequence.wrapping_sub(first) as usize;
                if let Some(request) = requests.get_mut(place)
                    && request.answer.is_none()
                {
                    request.answer = Some(request.judge(message.outcome()));
                    missing -= 1;
                }
            }
        }
    }

    /// The next messages into the buffer; `false` if there are none until the deadline.
    fn receive(&mut self, deadline: Instant) -> io::Result<bool> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An answer was lost: those that were not are still there.
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

/// What the kernel says of an address that it does not have.
static NOTHING: Presence = Presence { foreign: false, marked: Vec::new() };

impl Request {
    fn add(index: u32, address: Address, lifetime: Option<u32>, flags: u16) -> Self {
        let mut message = address_message(index, address);
        message.header.scope = match address.ip {
            IpAddr::V4(ip) if ip.is_link_local() => AddressScope::Link,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => AddressScope::Link,
            IpAddr::V4(_) | IpAddr::V6(_) => AddressScope::Universe,
        };
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_valid = lifetime.unwrap_or(u32::MAX);
        // Nothing on this host may begin to use it as its own source address.
        lifetimes.ifa_preferred = if address.ip.is_ipv6() { 0 } else { lifetimes.ifa_valid };
        let flags_v6 =
            if address.ip.is_ipv6() { AddressFlags::Nodad } else { AddressFlags::empty() };
        message.attributes.extend([
            AddressAttribute::Flags(AddressFlags::Noprefixroute | flags_v6),
            AddressAttribute::CacheInfo(lifetimes),
            AddressAttribute::Protocol(AddressProtocol::Other(IFA_PROTO_VIPD)),
        ]);
        let message = RouteNetlinkMessage::NewAddress(message);
        Request { address, message, flags, answer: None }
    }

    fn remove(index: u32, marked: Address, address: Address) -> Self {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, marked));
        Request { address, message, flags: 0, answer: None }
    }

    /// What the kernel's answer means, if it did not simply do it: what met a change is tried once
    /// more.
    fn failure(self, last: bool) -> Option<Verdict> {
        Some(match self.answer {
            Some(Ok(())) => return None,
            Some(Err(failure)) if failure.is(libc::EEXIST) && last => {
                Verdict::Failed(Failure::AlreadyThere)
            }
            Some(Err(failure)) if last || !failure.is(libc::EEXIST) => Verdict::Failed(failure),
            None if last => {
                Verdict::Failed(Failure::from(io::Error::from_raw_os_error(libc::ETIMEDOUT)))
            }
            Some(Err(_)) | None => Verdict::Again,
        })
    }

    /// What is gone already need not be removed.
    fn judge(&self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        match outcome {
            Err(failure)
                if failure.is(libc::EADDRNOTAVAIL)
                    && matches!(self.message, RouteNetlinkMessage::DelAddress(_)) =>
            {
                Ok(())
            }
            outcome => outcome,
        }
    }
}

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

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; another one when it is created anew.
    pub index: u32,
    /// Its name now.
    pub name: String,
    /// Its alternative names.
    pub alt_names: Vec<String>,
    /// Switched on by the administrator, and able to carry packets.
    pub up: bool,
    /// Its Ethernet address; `None` if it is not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Whether it is the loopback interface.
    pub loopback: bool,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index of the interface.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// Whether it bears our mark.
    pub ours: bool,
    /// Whether packets can be sent from it: neither in duplicate detection nor refused by it.
    pub usable: bool,
    /// `RT_SCOPE_*`: 0 is global, 253 link.
    pub scope: u8,
    /// Whether the kernel counts it after another address of the same subnet (IPv4).
    pub secondary: bool,
}

impl Found {
    /// As a value of the protocol.
    pub fn address(&self) -> Address {
        Address { ip: self.ip, prefix: self.prefix }
    }
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
    lost: bool,
    /// Something changed while reading anew, perhaps after it was read.
    disturbed: bool,
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

/// For a few thousand notifications.
const RECEIVE_BUFFER: usize = 4 << 20;

impl Events {
    /// Subscribes, and has everything told that is there already.
    pub fn open() -> io::Result<Self> {
        Self::with_receive_buffer(RECEIVE_BUFFER)
    }

    /// As [`open`](Self::open), with a receive buffer of this many bytes.
    pub fn with_receive_buffer(bytes: usize) -> io::Result<Self> {
        let socket = open(bytes)?;
        for group in [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR] {
            socket.add_membership(group)?;
        }
        let mut events = Events {
            port: port(&socket)?,
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(MESSAGE_BUFFER),
            dump: Dump::Idle,
            lost: false,
            disturbed: false,
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
                self.lost = true;
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
                Ok(_) => messages(&buffer).try_for_each(|m| self.tell(&m, &mut handle)),
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

    fn tell(&mut self, message: &Message<'_>, handle: &mut impl FnMut(NetEvent)) -> io::Result<()> {
        let answer = self.dump != Dump::Idle
            && message.port == self.port
            && message.sequence == self.sequence;
        if answer {
            // What came between the request and its answer was news for the old picture.
            if self.dump == Dump::Requested {
                self.dump = Dump::Links;
                handle(NetEvent::Resync);
            }
            self.disturbed |= message.flags & NLM_F_DUMP_INTR != 0;
        } else if matches!(self.dump, Dump::Links | Dump::Addresses) {
            // It may have been read before, and be told after, this change.
            self.disturbed = true;
        }
        match message.kind {
            libc::RTM_NEWLINK => {
                if let Some(link) = link(message.payload) {
                    handle(NetEvent::Link(link));
                }
            }
            libc::RTM_DELLINK => {
                if let Some(index) = link_index(message.payload) {
                    handle(NetEvent::LinkGone { index });
                }
            }
            libc::RTM_NEWADDR => {
                if let Some(found) = found(message.payload) {
                    handle(NetEvent::Address(found));
                }
            }
            libc::RTM_DELADDR => {
                if let Some(Found { index, ip, prefix, .. }) = found(message.payload) {
                    handle(NetEvent::AddressGone { index, ip, prefix });
                }
            }
            NLMSG_DONE | NLMSG_ERROR if answer => {
                message.outcome().map_err(|failure| io::Error::other(failure.to_string()))?;
                return self.read_on(handle);
            }
            _ => {}
        }
        Ok(())
    }

    /// What is to be read after one list has ended.
    fn read_on(&mut self, handle: &mut impl FnMut(NetEvent)) -> io::Result<()> {
        if self.dump != Dump::Addresses {
            return self.request(Dump::Addresses);
        }
        self.dump = Dump::Idle;
        let again = self.lost || (self.disturbed && self.attempts < 3);
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
                (self.lost, self.disturbed) = (false, false);
                let mut links = LinkMessage::default();
                let mask = vec![LinkExtentMask::SkipStats];
                links.attributes.push(LinkAttribute::ExtMask(mask));
                RouteNetlinkMessage::GetLink(links)
            }
        };
        self.dump = dump;
        self.sequence = self.sequence.wrapping_add(1);
        let request = encode(wanted, NLM_F_REQUEST | NLM_F_DUMP, self.sequence);
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0).map(|_| ())
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket of our own address, which answers only what was asked.
fn open(receive_buffer: usize) -> io::Result<Socket> {
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
fn port(socket: &Socket) -> io::Result<u32> {
    let mut own = SocketAddr::new(0, 0);
    socket.get_address(&mut own)?;
    Ok(own.port_number())
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn address_message(index: u32, address: Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = address_family(Family::of(address.ip));
    message.header.index = index;
    message.header.prefix_len = address.prefix;
    message.header.flags = AddressHeaderFlags::empty();
    message.attributes =
        vec![AddressAttribute::Local(address.ip), AddressAttribute::Address(address.ip)];
    message
}

fn encode(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}

/// A netlink message, its payload not yet read.
#[derive(Clone, Copy)]
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    payload: &'a [u8],
}

/// The messages of one datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = NetlinkBuffer::new_checked(bytes).ok()?;
        let length = header.length() as usize;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Message {
            kind: header.message_type(),
            flags: header.flags(),
            sequence: header.sequence_number(),
            port: header.port_number(),
            payload: header.payload(),
        })
    })
}

impl Message<'_> {
    /// What an acknowledgement, an error or the end of a list says.
    fn outcome(&self) -> Result<(), Failure> {
        const NLMSGERR_ATTR_MSG: u16 = 1;
        let code = self.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        if code == 0 {
            return Ok(());
        }
        // Behind the code, an error repeats the header of the request.
        let before = if self.kind == NLMSG_ERROR { 4 + 16 } else { 4 };
        let text = attributes(self.payload.get(before..).unwrap_or(&[]))
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map_or_else(String::new, |(_, text)| string(text));
        Err(Failure::new(code.saturating_neg(), text))
    }
}

/// The attributes of a message, as far as they can be told apart: one that we do not understand
/// must not cost us the others.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).filter_map(|attribute| {
        let whole = attribute.into_inner();
        Some((attribute.kind(), whole.get(4..usize::from(attribute.length()))?))
    })
}

fn string(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or(&[]);
    String::from_utf8_lossy(text).into_owned()
}

/// Reads `struct ifinfomsg` and the attributes we need; `None` for what only looks like news of an
/// interface: a bridge's news of its ports, and events of wireless drivers.
fn link(payload: &[u8]) -> Option<Link> {
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_WIRELESS: u16 = 11;
    const IFLA_PROP_LIST: u16 = 52;
    const IFLA_ALT_IFNAME: u16 = 53;
    let index = link_index(payload)?;
    let kind = u16::from_ne_bytes(*payload.get(2..)?.first_chunk()?);
    let flags = i32::from_ne_bytes(*payload.get(8..)?.first_chunk()?);
    let mut link = Link {
        index,
        name: String::new(),
        alt_names: Vec::new(),
        up: flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0,
        mac: None,
        loopback: flags & libc::IFF_LOOPBACK != 0,
    };
    for (attribute, value) in attributes(payload.get(16..)?) {
        match attribute {
            IFLA_ADDRESS if kind == libc::ARPHRD_ETHER => link.mac = value.try_into().ok(),
            IFLA_IFNAME => link.name = string(value),
            IFLA_WIRELESS => return None,
            IFLA_PROP_LIST => link.alt_names.extend(
                attributes(value)
                    .filter(|(kind, _)| *kind == IFLA_ALT_IFNAME)
                    .map(|(_, name)| string(name)),
            ),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn link_index(payload: &[u8]) -> Option<u32> {
    let family = *payload.first()?;
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    (i32::from(family) == libc::AF_UNSPEC).then_some(index)
}

/// Reads `struct ifaddrmsg` and the attributes we need.
fn found(payload: &[u8]) -> Option<Found> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_FLAGS: u16 = 8;
    const IFA_PROTO: u16 = 11;
    let [_, prefix, flags, scope, ..] = *payload else { return None };
    let index = u32::from_ne_bytes(*payload.get(4..)?.first_chunk()?);
    let mut flags = u32::from(flags);
    let (mut local, mut address, mut ours) = (None, None, false);
    for (attribute, value) in attributes(payload.get(8..)?) {
        match attribute {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => address = ip(value),
            IFA_FLAGS => flags = value.first_chunk().map_or(flags, |f| u32::from_ne_bytes(*f)),
            IFA_PROTO => ours = value == [IFA_PROTO_VIPD],
            _ => {}
        }
    }
    let has = |flag: AddressFlags| flags & flag.bits() != 0;
    Some(Found {
        index,
        // On a point-to-point interface the other one is the peer's.
        ip: local.or(address)?,
        prefix,
        ours,
        usable: !has(AddressFlags::Dadfailed)
            && (!has(AddressFlags::Tentative) || has(AddressFlags::Optimistic)),
        scope,
        secondary: matches!(local.or(address), Some(IpAddr::V4(_))) && has(AddressFlags::Secondary),
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn header(family: u8) -> Vec<u8> {
        let mut bytes = vec![family, 0];
        bytes.extend(libc::ARPHRD_ETHER.to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend((libc::IFF_UP | libc::IFF_RUNNING).to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    fn whole_link() -> Vec<u8> {
        let alternative = [attribute(53, b"uplink\0"), attribute(53, b"wan\0")].concat();
        let parts = [
            header(0),
            attribute(3, b"eth0\0"),
            attribute(1, &[2, 0, 0, 0, 0, 7]),
            attribute(0x8034, &alternative),
        ];
        parts.concat()
    }

    #[test]
    fn an_attribute_that_makes_no_sense_costs_only_itself() {
        let expected = Link {
            index: 7,
            name: "eth0".to_owned(),
            alt_names: vec!["uplink".to_owned(), "wan".to_owned()],
            up: true,
            mac: Some([2, 0, 0, 0, 0, 7]),
            loopback: false,
        };
        assert_eq!(link(&whole_link()), Some(expected.clone()));
        // Statistics of a length nobody knows, flags of an unknown kind, a name that is no text.
        let odd = [attribute(7, &[1; 3]), attribute(999, &[]), attribute(53, &[0xff, 0xfe])];
        let mut bytes = whole_link();
        bytes.extend(odd.concat());
        // And one that claims to be longer than the message.
        bytes.extend([200, 0, 23, 0, 1, 2]);
        assert_eq!(link(&bytes), Some(expected));
    }

    #[test]
    fn what_a_bridge_or_a_radio_says_of_an_interface_is_no_news_of_it() {
        let mut port = header(libc::AF_BRIDGE as u8);
        port.extend(attribute(3, b"eth0\0"));
        assert_eq!(link(&port), None);
        assert_eq!(link_index(&port), None);
        let mut radio = whole_link();
        radio.extend(attribute(11, &[0; 16]));
        assert_eq!(link(&radio), None);
    }

    #[test]
    fn the_address_of_a_point_to_point_interface_is_the_near_one() {
        let mut bytes = vec![libc::AF_INET as u8, 32, 0, 0];
        bytes.extend(3_u32.to_ne_bytes());
        bytes.extend(attribute(1, &[192, 0, 2, 254]));
        bytes.extend(attribute(2, &[192, 0, 2, 1]));
        bytes.extend(attribute(8, &0x40_u32.to_ne_bytes()));
        bytes.extend(attribute(11, &[IFA_PROTO_VIPD]));
        let expected = Found {
            index: 3,
            ip: Ipv4Addr::new(192, 0, 2, 1).into(),
            prefix: 32,
            ours: true,
            usable: false,
            scope: 0,
            secondary: false,
        };
        assert_eq!(found(&bytes), Some(expected));
        for length in 0..bytes.len() {
            let _ = found(&bytes[..length]);
        }
        assert_eq!(found(&bytes[..8]), None);
    }

    #[test]
    fn messages_cut_off_anywhere_are_no_panic() {
        let mut bytes = Vec::new();
        for (kind, payload) in [(libc::RTM_NEWLINK, whole_link()), (NLMSG_ERROR, vec![1; 60])] {
            bytes.extend((16 + payload.len() as u32).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(payload);
        }
        assert_eq!(messages(&bytes).count(), 2);
        for length in 0..bytes.len() {
            for message in messages(&bytes[..length]) {
                let _ = (link(message.payload), found(message.payload), message.outcome());
            }
        }
    }

    #[test]
    fn the_kernels_own_words_reach_the_operator() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend([0; 16]);
        payload.extend(attribute(1, b"Invalid prefix length\0"));
        let error =
            Message { kind: NLMSG_ERROR, flags: 0, sequence: 0, port: 0, payload: &payload };
        let told = error.outcome().map_err(|failure| failure.to_string());
        assert_eq!(told, Err("Invalid prefix length (Invalid argument (os error 22))".to_owned()));
        let done = Message { kind: NLMSG_DONE, payload: &[0; 4], ..error };
        assert_eq!(done.outcome(), Ok(()));
        let gone = (-libc::ENODEV).to_ne_bytes();
        let gone = Message { kind: NLMSG_DONE, payload: &gone, ..error };
        assert_eq!(gone.outcome(), Err(Failure::NoDevice));
    }
}
