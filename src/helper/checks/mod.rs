//! Runs checks: each is a task on the helper's event loop, and runs of one check never overlap.
//!
//! Each kind is one file. All but `process` run repeatedly and return a text for the operator: `Ok`
//! if the check passes, `Err` if it fails. Blocking work (name lookups, files, certificate
//! authorities) is done by the blocking pool, so no check can delay a hook or another check.

mod blocking;
mod command;
pub(crate) mod file;
pub(crate) mod http;
mod interface;
pub(crate) mod ping;
mod process;
pub(crate) mod reporter;
mod schedule;
mod tcp;
pub(crate) mod unit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

pub(super) use ping::identifier;
pub use process::process_of_another;

use super::check_run::{CheckResult, CheckRun};
use crate::config::{CheckPlan, Target};
use crate::host::echo;
use reporter::{CheckReport, Reporter};
use schedule::Schedule;

/// Delay between the first runs of checks that are started together.
const START_SPACING: Duration = Duration::from_millis(2);
/// How long results that change nothing are batched.
const MAX_REPORT_DELAY: Duration = Duration::from_secs(1);
/// Number of results that fit into one message with output of maximum length.
const BATCH_MAX: usize = 64;

/// State that checks share.
struct Shared {
    /// The time origin of all schedules.
    epoch: Instant,
    processes: process::Processes,
    authorities: http::Authorities,
    pings: ping::Pings,
}

/// All running checks.
pub(super) struct Checks {
    tasks: BTreeMap<u64, CheckTask>,
    shared: Arc<Shared>,
    sender: mpsc::Sender<CheckReport>,
    receiver: mpsc::Receiver<CheckReport>,
    collected: Vec<CheckRun>,
    report_by: Option<Instant>,
    next_start: Instant,
}

struct CheckTask {
    stable_after: Arc<AtomicU32>,
    handle: AbortHandle,
}

impl Checks {
    /// No checks yet. The sockets for pings were opened before privileges were dropped.
    pub(super) fn new(sockets: echo::EchoSockets) -> Self {
        let (sender, receiver) = mpsc::channel(BATCH_MAX);
        let shared = Shared {
            epoch: Instant::now(),
            processes: process::Processes::default(),
            authorities: http::Authorities::default(),
            pings: ping::Pings::new(sockets),
        };
        Checks {
            tasks: BTreeMap::new(),
            shared: Arc::new(shared),
            sender,
            receiver,
            collected: Vec::new(),
            report_by: None,
            next_start: Instant::now(),
        }
    }

    pub(super) fn start(&mut self, number: u64, plan: CheckPlan, stable_after: u32) {
        let start = self.next_start.max(Instant::now());
        self.next_start = start + START_SPACING;
        let stable_after = Arc::new(AtomicU32::new(stable_after));
        let reporter = Reporter::new(number, Arc::clone(&stable_after), self.sender.clone());
        let task = run_check(number, plan, Arc::clone(&self.shared), start, reporter);
        let task = CheckTask { stable_after, handle: tokio::spawn(task).abort_handle() };
        if let Some(before) = self.tasks.insert(number, task) {
            before.handle.abort();
        }
    }

    /// Sets after how many equal results in a row further ones change nothing.
    pub(super) fn set_stable_after(&self, number: u64, stable_after: u32) {
        if let Some(task) = self.tasks.get(&number) {
            task.stable_after.store(stable_after, Ordering::Relaxed);
        }
    }

    /// Stops a check; a program that it runs is killed.
    pub(super) fn stop(&mut self, number: u64) {
        if let Some(task) = self.tasks.remove(&number) {
            task.handle.abort();
        }
    }

    /// Waits for results to report, and returns them in order. Cancel safe.
    pub(super) async fn next_batch(&mut self) -> Vec<CheckRun> {
        loop {
            let report_by = self.report_by;
            tokio::select! {
                Some(reported) = self.receiver.recv() => {
                    self.collected.push(reported.run);
                    if !reported.matters && self.collected.len() < BATCH_MAX {
                        self.report_by.get_or_insert_with(|| Instant::now() + MAX_REPORT_DELAY);
                        continue;
                    }
                }
                () = sleep_until(report_by.unwrap_or_else(Instant::now)), if report_by.is_some() => {}
            }
            self.report_by = None;
            return std::mem::take(&mut self.collected);
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.tasks.values().for_each(|task| task.handle.abort());
    }
}

/// A check that runs repeatedly, with its state between runs.
enum Repeated {
    Command(command::CommandCheck),
    Tcp(tcp::TcpCheck),
    Http(http::HttpCheck),
    Unit(unit::UnitCheck),
    File(file::FileCheck),
    Interface(interface::InterfaceCheck),
    Ping(ping::PingCheck),
}

/// Runs one check until the task is aborted.
async fn run_check(
    number: u64,
    plan: CheckPlan,
    shared: Arc<Shared>,
    start: Instant,
    mut reporter: Reporter,
) {
    let CheckPlan { name, target, interval, timeout: limit } = plan;
    let mut kind = match target {
        Target::Process { process, user, delay } => {
            sleep_until(start).await;
            let schedule = Schedule::new(number, interval, shared.epoch);
            let wanted = (process, user);
            return process::run(wanted, delay, schedule, &shared.processes, reporter).await;
        }
        Target::Command { argv, user } => {
            Repeated::Command(command::CommandCheck::new(name, argv, user))
        }
        Target::Tcp { host, port } => Repeated::Tcp(tcp::TcpCheck::new(host, port)),
        Target::Http(request) => Repeated::Http(http::HttpCheck::new(request)),
        Target::Unit { unit } => Repeated::Unit(unit::UnitCheck::new(&unit)),
        Target::File { path } => Repeated::File(file::FileCheck::number(path)),
        Target::FilePresent { path } => Repeated::File(file::FileCheck::present(path)),
        Target::FileAbsent { path } => Repeated::File(file::FileCheck::absent(path)),
        Target::Interface { interface } => {
            Repeated::Interface(interface::InterfaceCheck::new(interface))
        }
        Target::Ping { address } => Repeated::Ping(ping::PingCheck::new(address)),
    };
    sleep_until(start).await;
    let mut schedule = Schedule::new(number, interval, shared.epoch);
    loop {
        let begin = Instant::now();
        let (result, output) = kind.run(&shared, limit).await;
        reporter.report(result, output, begin.elapsed()).await;
        schedule.next().await;
    }
}

impl Repeated {
    async fn run(&mut self, shared: &Shared, limit: Duration) -> (CheckResult, String) {
        let outcome = match self {
            // Enforces the limit itself, to kill its program.
            Repeated::Command(command) => Ok(command.run(limit).await),
            // Its result can be a number.
            Repeated::File(file) => {
                return match timeout(limit, file.run()).await {
                    Ok(Ok((result, text))) => (result, text),
                    Ok(Err(why)) => (CheckResult::Failed, why),
                    Err(_) => (CheckResult::Failed, too_long(limit)),
                };
            }
            Repeated::Tcp(tcp) => timeout(limit, tcp.run(limit)).await,
            Repeated::Http(http) => timeout(limit, http.run(&shared.authorities, limit)).await,
            Repeated::Unit(unit) => timeout(limit, unit.run()).await,
            Repeated::Interface(interface) => Ok(interface.run()),
            Repeated::Ping(ping) => timeout(limit, ping.run(&shared.pings)).await,
        };
        match outcome {
            Ok(Ok(text)) => (CheckResult::Passed, text),
            Ok(Err(why)) => (CheckResult::Failed, why),
            Err(_) => (CheckResult::Failed, too_long(limit)),
        }
    }
}

fn too_long(limit: Duration) -> String {
    format!("no answer within {limit:?}")
}
