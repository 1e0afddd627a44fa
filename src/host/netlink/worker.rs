//! Claims, renews and releases addresses on a thread of its own.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use netlink_sys::{Socket, SocketAddr};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::failure::Failure;
use super::socket::{self, MESSAGE_BUFFER, RECEIVE_BUFFER};
use super::wire::{self, Found, IFA_PROTO_VIPD};
use crate::host::clock::boottime;
use crate::host::letterbox::{Letterbox, Slot};
use crate::host::privileges;
use crate::vrrp::{Address, Family};

/// Below the advert loop's: many addresses take long.
const REALTIME_PRIORITY: u8 = 49;
/// Addresses per system call: the acknowledgements must fit into the receive buffer.
const BATCH_MAX: usize = 128;
/// The first ones of a claim are announced while the others are added, so they are few.
const FIRST_BATCH_MAX: usize = 32;
/// While there is more to do, reports wait no longer than this.
const REPORT_WITHIN: Duration = Duration::from_micros(500);
/// The kernel answers while it takes the request, so what is not there after this was lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Claims, renews and releases addresses on a thread of its own: the kernel has one lock for all
/// of this, which others can hold for seconds.
#[derive(Debug)]
pub struct Worker {
    jobs: Sender<Job>,
    reports: Letterbox<Report>,
    /// For what the worker cannot report any more.
    reporter: Slot<Report>,
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

impl Worker {
    /// Starts the thread. It ends when the `Worker` is dropped and its last job is done.
    pub fn start() -> io::Result<Self> {
        let mut kernel = Kernel::connect()?;
        // By its own socket, whose echoes can be told apart: there are many, and they are no news.
        let mut renewer = Kernel::connect()?;
        let renewal_port = socket::port(&renewer.socket)?;
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (reports, reporter) = Letterbox::new()?;
        let from_thread = reporter.clone();
        thread::Builder::new().name("netlink".to_owned()).spawn(move || {
            // The first advert waits for the claim. Where real-time priority is refused, so it was
            // for adverts, and there was a warning.
            let _ = privileges::realtime(REALTIME_PRIORITY);
            let (mut last_wake, mut unsignalled) = (boottime(), false);
            while let Ok(job) = inbox.try_recv().or_else(|_| {
                if std::mem::take(&mut unsignalled) {
                    from_thread.ring();
                }
                inbox.recv()
            }) {
                let kernel = match &job.work {
                    Work::Claim { .. } | Work::Release { .. } => &mut kernel,
                    Work::Renew { .. } => &mut renewer,
                };
                let done = kernel.execute(&job, |part| {
                    from_thread.send(Report::Claimed { ticket: job.ticket, part });
                });
                let finished = done.finished;
                from_thread.put(Report::Done(done));
                // Of many small jobs the reports are heard together.
                unsignalled = finished.saturating_sub(last_wake) < REPORT_WITHIN;
                if !unsignalled {
                    from_thread.ring();
                    last_wake = finished;
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
        self.reports.letters()
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

enum RequestOutcome {
    Done,
    Failed(Failure),
    Retry,
}

/// What an interface holds of one IP address.
#[derive(Default)]
struct Presence {
    foreign: bool,
    marked: Vec<Address>,
}

impl Kernel {
    fn connect() -> io::Result<Self> {
        let socket = socket::open(RECEIVE_BUFFER)?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Kernel { socket, sequence: 0, buffer: Vec::with_capacity(MESSAGE_BUFFER) })
    }

    /// `claimed` is told of parts of a claim, before the last one.
    fn execute(&mut self, job: &Job, claimed: impl FnMut(Range<usize>)) -> Done {
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
        self.apply_with_retry(index, addresses, absent, claimed, |address, presence, requests| {
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
        let mut failures = self.apply_with_retry(
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
    fn apply_with_retry(
        &mut self,
        index: u32,
        addresses: &[Address],
        absent: bool,
        mut completed: impl FnMut(Range<usize>),
        plan: impl Fn(Address, &Presence, &mut Vec<Request>) -> Option<Failure>,
    ) -> Vec<(Address, Failure)> {
        let mut failures = Vec::new();
        let mut pending = addresses.to_vec();
        for last in [false, true] {
            let present = match absent && !last {
                true => Ok(HashMap::new()),
                false => self.query(index, &pending),
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
        index: u32,
        addresses: &[Address],
        lifetime: u32,
        not_after: Duration,
        intact: bool,
    ) -> Vec<(Address, Failure)> {
        let present = match intact {
            true => Ok(HashMap::new()),
            false => self.query(index, addresses),
        };
        let present = match present {
            Ok(present) => present,
            Err(failure) => return addresses.iter().map(|a| (*a, failure.clone())).collect(),
        };
        let mut failures = Vec::new();
        let mut requests = Vec::with_capacity(addresses.len());
        for address in addresses {
            let presence = present.get(&address.ip).unwrap_or(&ABSENT);
            if intact || presence.marked.contains(address) {
                requests.push(Request::add(index, *address, Some(lifetime), NLM_F_REPLACE));
            } else if presence.foreign {
                failures.push((*address, Failure::AlreadyThere));
            } else {
                failures.push((*address, Failure::Gone));
            }
        }
        for batch in requests.chunks_mut(BATCH_MAX) {
            // The renewal of an address that the kernel has removed brings it back.
            if boottime() <= not_after {
                self.exchange(batch);
            }
            // Whoever held the lock may have held it until after the lifetime.
            let late = boottime() > not_after;
            failures.extend(batch.iter().filter_map(|request| {
                let failure = match &request.answer {
                    Some(Ok(())) | None if late => Failure::Late,
                    Some(Ok(())) => return None,
                    Some(Err(failure)) => failure.clone(),
                    None => Failure::timed_out(),
                };
                Some((request.address, failure))
            }));
        }
        failures
    }

    /// What the interface has of these IP addresses.
    fn query(
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
        wanted.header.family = wire::address_family(family);
        wanted.header.index = index;
        let wanted = RouteNetlinkMessage::GetAddress(wanted);
        let mut complete = false;
        // A list that changed while it was read is read again; the last time it has to do.
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
        complete.then_some(()).ok_or_else(Failure::timed_out)
    }

    /// Sends the requests in one go and fills in the answers.
    fn exchange(&mut self, requests: &mut [Request]) {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(requests.len() * 96);
        for request in requests.iter() {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = NLM_F_REQUEST | NLM_F_ACK | request.flags;
            bytes.extend(wire::encode(request.message.clone(), flags, self.sequence));
        }
        if let Err(error) = self.socket.send(&bytes, 0) {
            let failure = Failure::from(error);
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
                    request.answer = Some(request.accept_missing(message.outcome()));
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
static ABSENT: Presence = Presence { foreign: false, marked: Vec::new() };

impl Request {
    fn add(index: u32, address: Address, lifetime: Option<u32>, flags: u16) -> Self {
        let mut message = wire::address_message(index, address);
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
        let message = RouteNetlinkMessage::DelAddress(wire::address_message(index, marked));
        Request { address, message, flags: 0, answer: None }
    }

    /// What the kernel's answer means, if it did not simply do it: what met a change is tried once
    /// more.
    fn outcome(self, last: bool) -> RequestOutcome {
        match self.answer {
            Some(Ok(())) => RequestOutcome::Done,
            Some(Err(failure)) if failure.is(libc::EEXIST) && last => {
                RequestOutcome::Failed(Failure::AlreadyThere)
            }
            Some(Err(failure)) if last || !failure.is(libc::EEXIST) => {
                RequestOutcome::Failed(failure)
            }
            None if last => RequestOutcome::Failed(Failure::timed_out()),
            Some(Err(_)) | None => RequestOutcome::Retry,
        }
    }

    /// What is gone already need not be removed.
    fn accept_missing(&self, outcome: Result<(), Failure>) -> Result<(), Failure> {
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
