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
use reporter::{Reporter, Told};
use schedule::Moments;

/// The first runs of many checks are this far apart.
const APART: Duration = Duration::from_millis(2);
/// Results that change nothing are told this late at most.
const COLLECTED: Duration = Duration::from_secs(1);
/// So many results fit into one message, however long their output.
const AT_ONCE: usize = 64;

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
    sender: mpsc::Sender<Told>,
    receiver: mpsc::Receiver<Told>,
    collected: Vec<CheckRun>,
    told_by: Option<Instant>,
    next_start: Instant,
}

struct Task {
    settled: Arc<AtomicU32>,
    handle: AbortHandle,
}

impl Checks {
    /// No check yet. The sockets are for pings, taken while that was still allowed.
    pub(super) fn new(sockets: echo::Sockets) -> Self {
        let (sender, receiver) = mpsc::channel(AT_ONCE);
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
            told_by: None,
            next_start: Instant::now(),
        }
    }

    /// Carries a check out from now on.
    pub(super) fn watch(&mut self, number: u64, plan: CheckPlan, settled: u32) {
        let start = self.next_start.max(Instant::now());
        self.next_start = start + APART;
        let settled = Arc::new(AtomicU32::new(settled));
        let reporter = Reporter::new(number, Arc::clone(&settled), self.sender.clone());
        let task = carry_out(number, plan, Arc::clone(&self.shared), start, reporter);
        let task = Task { settled, handle: tokio::spawn(task).abort_handle() };
        if let Some(before) = self.tasks.insert(number, task) {
            before.handle.abort();
        }
    }

    /// After so many equal results in a row one more does not matter.
    pub(super) fn settle(&self, number: u64, settled: u32) {
        if let Some(task) = self.tasks.get(&number) {
            task.settled.store(settled, Ordering::Relaxed);
        }
    }

    /// Carries a check out no more; a program that runs for it is killed.
    pub(super) fn forget(&mut self, number: u64) {
        if let Some(task) = self.tasks.remove(&number) {
            task.handle.abort();
        }
    }

    /// Waits until there are results to be told, and gives them in order. Nothing is lost if this is
    /// dropped before.
    pub(super) async fn due(&mut self) -> Vec<CheckRun> {
        loop {
            let told_by = self.told_by;
            tokio::select! {
                Some(told) = self.receiver.recv() => {
                    self.collected.push(told.run);
                    if !told.matters && self.collected.len() < AT_ONCE {
                        self.told_by.get_or_insert_with(|| Instant::now() + COLLECTED);
                        continue;
                    }
                }
                () = sleep_until(told_by.unwrap_or_else(Instant::now)), if told_by.is_some() => {}
            }
            self.told_by = None;
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
enum Kind {
    Command(command::Command),
    Tcp(tcp::Tcp),
    Http(http::Http),
    Unit(unit::Unit),
    File(file::File),
    Interface(interface::Interface),
    Ping(ping::Ping),
}

/// Carries one check out for ever.
async fn carry_out(
    number: u64,
    plan: CheckPlan,
    shared: Arc<Shared>,
    start: Instant,
    mut reporter: Reporter,
) {
    let CheckPlan { name, target, interval, timeout: patience } = plan;
    let mut kind = match target {
        Target::Process { process, delay } => {
            sleep_until(start).await;
            let moments = Moments::new(number, interval, shared.epoch);
            return process::watch(process, delay, moments, &shared.processes, reporter).await;
        }
        Target::Command { argv, user } => Kind::Command(command::Command::new(name, argv, user)),
        Target::Tcp { host, port } => Kind::Tcp(tcp::Tcp::new(host, port)),
        Target::Http(request) => Kind::Http(http::Http::new(request)),
        Target::Unit { unit } => Kind::Unit(unit::Unit::new(&unit)),
        Target::File { path } => Kind::File(file::File::number(path)),
        Target::FilePresent { path } => Kind::File(file::File::present(path)),
        Target::FileAbsent { path } => Kind::File(file::File::absent(path)),
        Target::Interface { interface } => Kind::Interface(interface::Interface::new(interface)),
        Target::Ping { address } => Kind::Ping(ping::Ping::new(address)),
    };
    sleep_until(start).await;
    let mut moments = Moments::new(number, interval, shared.epoch);
    loop {
        let begin = Instant::now();
        let (result, output) = kind.run(&shared, patience).await;
        reporter.tell(result, output, begin.elapsed()).await;
        moments.next().await;
    }
}

impl Kind {
    async fn run(&mut self, shared: &Shared, patience: Duration) -> (CheckResult, String) {
        let outcome = match self {
            // It ends its program when the time is up.
            Kind::Command(command) => Ok(command.run(patience).await),
            // The number is its result, or what it says.
            Kind::File(file) => {
                return match timeout(patience, file.run()).await {
                    Ok(Ok((result, text))) => (result, text),
                    Ok(Err(why)) => (CheckResult::Failed, why),
                    Err(_) => (CheckResult::Failed, too_long(patience)),
                };
            }
            Kind::Tcp(tcp) => timeout(patience, tcp.run(patience)).await,
            Kind::Http(http) => timeout(patience, http.run(&shared.authorities, patience)).await,
            Kind::Unit(unit) => timeout(patience, unit.run()).await,
            Kind::Interface(interface) => Ok(interface.run()),
            Kind::Ping(ping) => timeout(patience, ping.run(&shared.pings)).await,
        };
        match outcome {
            Ok(Ok(text)) => (CheckResult::Passed, text),
            Ok(Err(why)) => (CheckResult::Failed, why),
            Err(_) => (CheckResult::Failed, too_long(patience)),
        }
    }
}

fn too_long(patience: Duration) -> String {
    format!("no answer within {patience:?}")
}
