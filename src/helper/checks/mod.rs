//! Checks: each is a task of its own on the helper's loop, never two runs of one check at a time.
//!
//! A kind of check is one file. All but `process` are asked again and again, and answer with a word
//! for a person: `Ok` passes, `Err` has failed. What may block (names, files, authorities) is done by
//! tokio's blocking pool, at most once at a time for each check, so no check can delay a hook or
//! another check.

mod blocking;
mod command;
mod file;
mod http;
mod interface;
mod ping;
mod process;
mod reporter;
mod schedule;
mod tcp;
mod unit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

pub(super) use ping::identifier;

use super::check_run::{CheckResult, CheckRun};
use crate::config::{CheckPlan, Target};
use crate::host::echo;
use reporter::{Reported, Reporter};
use schedule::Schedule;

/// The first runs of many checks are this far apart.
const START_SPACING: Duration = Duration::from_millis(2);
/// Results that change nothing are reported this late at most.
const MAX_REPORT_DELAY: Duration = Duration::from_secs(1);
/// So many results fit into one message, however long their output.
const BATCH_MAX: usize = 64;

/// What checks have in common.
struct Shared {
    /// From which intervals count.
    epoch: Instant,
    processes: process::Processes,
    authorities: http::Authorities,
    pings: ping::Pings,
}

/// All checks that are carried out.
pub(super) struct Checks {
    tasks: BTreeMap<u64, Task>,
    shared: Arc<Shared>,
    sender: mpsc::Sender<Reported>,
    receiver: mpsc::Receiver<Reported>,
    collected: Vec<CheckRun>,
    report_by: Option<Instant>,
    next_start: Instant,
}

struct Task {
    stable_after: Arc<AtomicU32>,
    handle: AbortHandle,
}

impl Checks {
    /// No check yet. The sockets are for pings, taken while that was still allowed.
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

    /// Carries a check out from now on.
    pub(super) fn start(&mut self, number: u64, plan: CheckPlan, stable_after: u32) {
        let start = self.next_start.max(Instant::now());
        self.next_start = start + START_SPACING;
        let stable_after = Arc::new(AtomicU32::new(stable_after));
        let reporter = Reporter::new(number, Arc::clone(&stable_after), self.sender.clone());
        let task = run_check(number, plan, Arc::clone(&self.shared), start, reporter);
        let task = Task { stable_after, handle: tokio::spawn(task).abort_handle() };
        if let Some(before) = self.tasks.insert(number, task) {
            before.handle.abort();
        }
    }

    /// After so many equal results in a row one more does not matter.
    pub(super) fn set_stable_after(&self, number: u64, stable_after: u32) {
        if let Some(task) = self.tasks.get(&number) {
            task.stable_after.store(stable_after, Ordering::Relaxed);
        }
    }

    /// Carries a check out no more; a program that runs for it is killed.
    pub(super) fn stop(&mut self, number: u64) {
        if let Some(task) = self.tasks.remove(&number) {
            task.handle.abort();
        }
    }

    /// Waits until there are results to be reported, and gives them in order. Nothing is lost if this is
    /// dropped before.
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

/// What is asked again and again, with what it keeps from one run to the next.
enum Repeated {
    Command(command::CommandCheck),
    Tcp(tcp::TcpCheck),
    Http(http::HttpCheck),
    Unit(unit::UnitCheck),
    File(file::FileCheck),
    Interface(interface::InterfaceCheck),
    Ping(ping::PingCheck),
}

/// Carries one check out for ever.
async fn run_check(
    number: u64,
    plan: CheckPlan,
    shared: Arc<Shared>,
    start: Instant,
    mut reporter: Reporter,
) {
    let CheckPlan { name, target, interval, timeout: limit } = plan;
    let mut kind = match target {
        Target::Process { process, delay } => {
            sleep_until(start).await;
            let schedule = Schedule::new(number, interval, shared.epoch);
            return process::run(process, delay, schedule, &shared.processes, reporter).await;
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
            // It ends its program when the time is up.
            Repeated::Command(command) => Ok(command.run(limit).await),
            // The number is its result, or what it says.
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
