//! The thread that claims, renews and releases addresses.
//!
//! Every change of an address takes the kernel's RTNL lock, which other programs can hold for
//! seconds. A thread of its own keeps that wait out of the advert loop.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use super::error::AddressError;
use super::operation::{JobTarget, Operation, RequestSocket};
use crate::host::clock::boottime;
use crate::host::event_channel::{self, Receiver};
use crate::host::privileges;
use crate::vrrp::Address;

/// `SCHED_FIFO` priority of the thread: one below the advert loop, since thousands of addresses
/// take many milliseconds.
const REALTIME_PRIORITY: u8 = 49;
/// Longest time a completion may wait for others to be reported with it.
const REPORT_WITHIN: Duration = Duration::from_micros(500);

/// A handle to the thread: takes jobs and returns their progress. Readable when there is progress
/// to read.
#[derive(Debug)]
pub struct Worker {
    jobs: Sender<WorkerJob>,
    reports: Receiver<Progress>,
    /// Reports jobs that could not be handed over because the thread has ended.
    reporter: event_channel::Sender<Progress>,
    renewal_port: u32,
}

/// One operation on addresses of one interface.
#[derive(Clone, Debug)]
pub struct WorkerJob {
    /// Chosen by the caller; returned in every report of this job.
    pub ticket: u64,
    /// The addresses and their interface.
    pub target: JobTarget,
    /// What is done to them.
    pub operation: Operation,
}

/// A report about a job.
#[derive(Clone, Debug)]
pub enum Progress {
    /// The interface now has this part of a claim's addresses; the rest are being added. Never sent
    /// for the last part.
    Claimed {
        ticket: u64,
        /// Indices into the addresses of the claim.
        part: Range<usize>,
    },
    /// The job has ended.
    Finished(JobOutcome),
}

impl Progress {
    /// The result, if the job has ended.
    pub fn outcome(self) -> Option<JobOutcome> {
        match self {
            Progress::Claimed { .. } => None,
            Progress::Finished(outcome) => Some(outcome),
        }
    }
}

/// The result of a job.
#[derive(Clone, Debug)]
pub struct JobOutcome {
    pub ticket: u64,
    /// The addresses that the operation failed for. It succeeded for all others.
    pub failures: Vec<(Address, AddressError)>,
    /// `CLOCK_BOOTTIME` when the thread began the job.
    pub started: Duration,
    /// `CLOCK_BOOTTIME` when the last answer had arrived.
    pub finished: Duration,
}

impl Worker {
    /// Starts the thread, which ends when the `Worker` is dropped and the last job is done.
    ///
    /// # Errors
    /// The netlink sockets or the thread could not be created.
    pub fn start() -> io::Result<Self> {
        let mut requester = RequestSocket::connect()?;
        // Renewals have a socket of their own, so that the notifications they cause can be filtered
        // by its port: there are many, and they carry no information.
        let mut renewer = RequestSocket::connect()?;
        let renewal_port = renewer.port()?;
        let (jobs, queue) = mpsc::channel::<WorkerJob>();
        let (reporter, reports) = event_channel::channel()?;
        let from_thread = reporter.clone();
        thread::Builder::new().name("netlink".to_owned()).spawn(move || {
            // The first advert of a master waits for the claim. If real-time priority is refused
            // here, it was refused to the advert loop too, which has warned about it.
            let _ = privileges::realtime(REALTIME_PRIORITY);
            let (mut last_wake, mut unsignalled) = (boottime(), false);
            while let Ok(job) = queue.try_recv().or_else(|_| {
                if std::mem::take(&mut unsignalled) {
                    from_thread.wake();
                }
                queue.recv()
            }) {
                let socket = match &job.operation {
                    Operation::Claim { .. }
                    | Operation::Release
                    | Operation::AddGroups
                    | Operation::RemoveGroups => &mut requester,
                    Operation::Renew { .. } => &mut renewer,
                };
                let ticket = job.ticket;
                let started = boottime();
                let failures = socket.execute(&job.target, job.operation, |part| {
                    from_thread.send(Progress::Claimed { ticket, part });
                });
                let finished = boottime();
                let outcome = JobOutcome { ticket, failures, started, finished };
                from_thread.send_quiet(Progress::Finished(outcome));
                // While there are more jobs, several completions share one wake-up of the receiver.
                unsignalled = finished.saturating_sub(last_wake) < REPORT_WITHIN;
                if !unsignalled {
                    from_thread.wake();
                    last_wake = finished;
                }
            }
        })?;
        Ok(Worker { jobs, reports, reporter, renewal_port })
    }

    /// The netlink port that renewals are sent from, for
    /// [`Monitor::ignore_renewals`](super::Monitor::ignore_renewals).
    pub fn renewal_port(&self) -> u32 {
        self.renewal_port
    }

    /// Queues a job. Jobs run one after the other, in this order. Never blocks. Every job gets its
    /// [`Progress::Finished`], also if the thread has ended.
    pub fn submit(&self, job: WorkerJob) {
        if let Err(mpsc::SendError(job)) = self.jobs.send(job) {
            let failure = AddressError::new(libc::EPIPE, "the netlink worker has ended".to_owned());
            let failures = job.target.addresses.iter().map(|a| (*a, failure.clone())).collect();
            let now = boottime();
            let (started, finished) = (now, now);
            let done = JobOutcome { ticket: job.ticket, failures, started, finished };
            self.reporter.send(Progress::Finished(done));
        }
    }

    /// Takes the reports that have arrived, and makes the file descriptor unreadable again.
    pub fn progress(&mut self) -> impl Iterator<Item = Progress> + '_ {
        self.reports.recv()
    }
}

impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }
}
