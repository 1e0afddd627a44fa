//! The helper process runs hooks and checks, so that none can ever delay an advert or inherit a
//! capability.
//!
//! It is this same binary, started before privileges are given up (`vipd helper`, hidden), at the
//! other end of a SOCK_SEQPACKET socket pair: one JSON message per packet. [`Helper`] is the
//! daemon's end. Each virtual router's hooks run one at a time and in order, different routers'
//! side by side; a state that was overtaken by a newer one before its hooks began is skipped, so
//! the hooks run last always match the last state.
//!
//! A check goes on by itself from when it is told to until it is told to stop. A result that may
//! change what the check amounts to is reported at once; the others are collected, for a second at
//! most, so that they cost the daemon next to nothing.
//!
//! A hook is called *at least* once per change: after a restart of the daemon its state's hooks run
//! again unless they are known to have finished with success.

mod checks;
mod exec_hook;
mod process;
mod program;
mod run;

pub use checks::{CheckResult, CheckRun};
pub use exec_hook::exec_hook;
pub use process::main;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::config::CheckPlan;
pub use crate::config::Command;

/// What a hook is told the virtual router has become, or is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookState {
    /// It holds the addresses.
    Master,
    /// It stands by.
    Backup,
    /// It cannot take part.
    Fault,
    /// The daemon ends; no later state overtakes this one.
    Stop,
    /// It is about to give its addresses away; only a newer one of its kind overtakes this one.
    BeforeRelease,
    /// It is about to claim its addresses, unless this refuses.
    BeforeClaim,
}

impl HookState {
    /// As `VIPD_STATE` and the logs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            HookState::Master => "master",
            HookState::Backup => "backup",
            HookState::Fault => "fault",
            HookState::Stop => "stop",
            HookState::BeforeRelease => "before_release",
            HookState::BeforeClaim => "before_claim",
        }
    }

    /// As keepalived's general script gets it; `None`: that script is not called.
    const fn keepalived(self) -> Option<&'static str> {
        match self {
            HookState::Master => Some("MASTER"),
            HookState::Backup => Some("BACKUP"),
            HookState::Fault => Some("FAULT"),
            HookState::Stop => Some("STOP"),
            HookState::BeforeRelease | HookState::BeforeClaim => None,
        }
    }
}

impl fmt::Display for HookState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The hooks of one change of one virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// Name of the virtual router, or of the group whose members change together; its runs are kept
    /// in order.
    pub router: String,
    /// It is a group's (`GROUP` instead of `INSTANCE`, and `VIPD_GROUP`).
    pub group: bool,
    /// The daemon's own number for this run, echoed in [`Finished`].
    pub number: u64,
    /// What it has become.
    pub state: HookState,
    /// What it was (`VIPD_PREVIOUS_STATE`).
    pub previous: String,
    /// Why (`VIPD_REASON`).
    pub reason: String,
    /// Its priority at the time.
    pub priority: u8,
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
    /// The interface it is on.
    pub interface: String,
    /// The hooks for this very state, in order.
    pub commands: Vec<Command>,
    /// The general hook, run last, with `INSTANCE` (or `GROUP`), the name, the state in upper case
    /// and the priority appended; not run before a claim or a release.
    pub notify: Option<Command>,
}

/// The end of a [`HookRun`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// As in the run.
    pub router: String,
    /// As in the run.
    pub number: u64,
    /// As in the run.
    pub state: HookState,
    /// How it went; of several hooks the first that did not succeed counts.
    pub outcome: Outcome,
    /// From the start of the first hook to the end of the last.
    pub duration: Duration,
}

impl Finished {
    fn of(run: &HookRun, outcome: Outcome, duration: Duration) -> Self {
        let HookRun { router, number, state, .. } = run;
        Finished { router: router.clone(), number: *number, state: *state, outcome, duration }
    }
}

/// How a run of hooks went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Exit status 0.
    Done,
    /// Another exit status.
    Exited(i32),
    /// Ended by this signal, which was not ours.
    Killed(i32),
    /// Took too long and was ended.
    TimedOut,
    /// Could not be started, or was refused, for this reason.
    NotRun(String),
    /// A newer state came before it began.
    Overtaken,
}

impl Outcome {
    /// Whether hooks had work to do and did not do it.
    pub const fn is_failure(&self) -> bool {
        match self {
            Outcome::Done | Outcome::Overtaken => false,
            Outcome::Exited(_) | Outcome::Killed(_) | Outcome::TimedOut | Outcome::NotRun(_) => {
                true
            }
        }
    }

    /// The word in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Exited(_) => "exited",
            Outcome::Killed(_) => "killed",
            Outcome::TimedOut => "timed_out",
            Outcome::NotRun(_) => "not_run",
            Outcome::Overtaken => "overtaken",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Exited(status) => write!(f, "exit status {status}"),
            Outcome::Killed(signal) => write!(f, "killed by signal {signal}"),
            Outcome::TimedOut => f.write_str("timed out"),
            Outcome::NotRun(why) => write!(f, "not run: {why}"),
            Outcome::Overtaken => f.write_str("overtaken by a newer state"),
        }
    }
}

/// What the daemon tells the helper.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Order {
    /// Run these hooks.
    Run(HookRun),
    /// Carry this check out from now on, under this number.
    Watch { number: u64, plan: CheckPlan, settled: u32 },
    /// After so many equal results in a row, one more need not be told at once.
    Settle { number: u64, settled: u32 },
    /// Carry that check out no more.
    Forget { number: u64 },
    /// Say that you are there.
    Answer,
}

/// What the helper tells the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Report {
    /// These hooks have ended.
    Finished(Finished),
    /// Checks were carried out, in this order.
    Checked(Vec<CheckRun>),
    /// The answer to [`Order::Answer`].
    Here,
}

/// The longest message; by default the kernel takes no longer ones anyway.
const PACKET_SIZE: usize = 256 * 1024;
const TOO_LONG: &str = "too many addresses or arguments for one message";

/// One that was waited for so often, [`Helper::ASK_EVERY`] each time, is not there any more.
const MOST_UNANSWERED: u32 = 3;

/// How long [`Helper::end`] waits: hooks get 2 s after TERM, and their deaths must be seen.
const END_PATIENCE: Duration = Duration::from_secs(4);

/// The daemon's end.
#[derive(Debug)]
pub struct Helper {
    process: Child,
    socket: Socket,
    gone: bool,
    /// Not yet taken by the socket.
    waiting: VecDeque<HookRun>,
    /// The same of what is not about hooks; goes first.
    orders: VecDeque<Order>,
    /// Taken by the socket and not yet reported; without the hooks.
    running: Vec<Finished>,
    /// To be reported at the next pump.
    finished: Vec<Finished>,
    /// The checks that are carried out, by name.
    watched: BTreeMap<String, Watched>,
    next_number: u64,
    /// Results of checks, with the checks' names.
    results: Vec<(String, CheckRun)>,
    heard_at: Instant,
    /// How often it was asked, or waited for, since it was heard.
    unanswered: u32,
}

/// A check as the helper was told it.
#[derive(Debug)]
struct Watched {
    number: u64,
    plan: CheckPlan,
    settled: u32,
}

impl Helper {
    /// A helper that said nothing for so long is asked for a sign of life.
    pub const ASK_EVERY: Duration = Duration::from_secs(5);

    /// Starts the helper from this very binary, whose `main` hands the argument `helper` on to
    /// [`main`]. To be called before privileges are given up, because the helper must be able to
    /// become other users; and best in the main thread, whose death the kernel tells the helper.
    ///
    /// # Errors
    /// No process or no socket to be had.
    pub fn start() -> io::Result<Helper> {
        Helper::start_with(Path::new("/proc/self/exe"))
    }

    /// As [`Helper::start`], with another program that has a `helper` subcommand.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(program: &Path) -> io::Result<Helper> {
        let (socket, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.set_nonblocking(true)?;
        let process = std::process::Command::new(program)
            .arg0("vipd")
            .arg("helper")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            // A terminal's Ctrl-C is for the daemon, which decides what becomes of hooks.
            .process_group(0)
            .spawn()?;
        Ok(Helper {
            process,
            socket,
            gone: false,
            waiting: VecDeque::new(),
            orders: VecDeque::new(),
            running: Vec::new(),
            finished: Vec::new(),
            watched: BTreeMap::new(),
            next_number: 1,
            results: Vec::new(),
            heard_at: Instant::now(),
            unanswered: 0,
        })
    }

    /// Has these hooks run after those of the same virtual router that were begun before. Never
    /// blocks, never fails: what the socket does not take waits here, and of that a newer state
    /// overtakes an older one just as in the helper.
    pub fn run(&mut self, run: HookRun) {
        for overtaken in enqueue(&mut self.waiting, run) {
            self.finished.push(Finished::of(&overtaken, Outcome::Overtaken, Duration::ZERO));
        }
        self.write();
    }

    /// Has these checks carried out from now on, and no others; each with the number of equal results
    /// in a row after which one more changes nothing. A check that is as before goes on undisturbed.
    /// Never blocks, never fails.
    pub fn watch<'a>(&mut self, checks: impl IntoIterator<Item = (&'a CheckPlan, u32)>) {
        let mut before = std::mem::take(&mut self.watched);
        for (plan, settled) in checks {
            let same = before.remove(&plan.name);
            let number = match &same {
                Some(watched) if watched.plan == *plan => {
                    if watched.settled != settled {
                        self.orders.push_back(Order::Settle { number: watched.number, settled });
                    }
                    watched.number
                }
                changed => {
                    if let Some(Watched { number, .. }) = changed {
                        self.orders.push_back(Order::Forget { number: *number });
                    }
                    let number = self.next_number;
                    self.next_number += 1;
                    self.orders.push_back(Order::Watch { number, plan: plan.clone(), settled });
                    number
                }
            };
            let watched = Watched { number, plan: plan.clone(), settled };
            self.watched.insert(plan.name.clone(), watched);
        }
        let forgotten = before.into_values().map(|watched| watched.number);
        self.orders.extend(forgotten.map(|number| Order::Forget { number }));
        self.write();
    }

    /// The results of checks that have come since the last call, with the checks' names, in order.
    pub fn results(&mut self) -> Vec<(String, CheckRun)> {
        std::mem::take(&mut self.results)
    }

    /// Asks for a sign of life if there was none for a while. To be called every
    /// [`Helper::ASK_EVERY`], and no more often: a host that stood still for long counts as once.
    ///
    /// # Errors
    /// It has owed one for so long that no check and no hook can be relied on: it was killed, and
    /// counts as gone.
    pub fn ask(&mut self) -> io::Result<()> {
        if self.unanswered == MOST_UNANSWERED {
            self.gone = true;
            // It may be dead already.
            let _ = self.process.kill();
            let text = format!("it has not answered for {:?}", MOST_UNANSWERED * Helper::ASK_EVERY);
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        if self.unanswered == 0 && self.heard_at.elapsed() >= Helper::ASK_EVERY {
            self.orders.push_back(Order::Answer);
            self.write();
            self.unanswered = 1;
        } else if self.unanswered > 0 {
            self.unanswered += 1;
        }
        Ok(())
    }

    /// Writes what waits and hands what has finished to `report`. Never blocks. To be called when
    /// [`Helper::as_fd`] is readable (or writable, if [`Helper::wants_write`]), and after each
    /// [`Helper::run`].
    ///
    /// # Errors
    /// The helper is gone. Every run that was under way is reported as not run, and so is every
    /// later one.
    pub fn pump(&mut self, mut report: impl FnMut(Finished)) -> io::Result<()> {
        self.write();
        while !self.gone {
            match next_packet(&self.socket) {
                Ok(packet) if packet.is_empty() => self.gone = true,
                Ok(packet) => self.read(&packet),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
        if self.gone {
            let lost = || Outcome::NotRun("the helper process is gone".into());
            let waiting =
                self.waiting.drain(..).map(|run| Finished::of(&run, lost(), Duration::ZERO));
            let running = self.running.drain(..).map(|run| Finished { outcome: lost(), ..run });
            self.finished.extend(running.chain(waiting));
        }
        self.finished.drain(..).for_each(&mut report);
        if self.gone {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "its end of the socket is closed",
            ));
        }
        Ok(())
    }

    /// Readable when there is something for [`Helper::pump`].
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether [`Helper::pump`] is also to be called when [`Helper::as_fd`] is writable.
    pub fn wants_write(&self) -> bool {
        !(self.waiting.is_empty() && self.orders.is_empty() || self.gone)
    }

    /// Nothing waits, nothing runs, and everything has been reported.
    pub fn idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.finished.is_empty()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends the helper, and with it the hooks that still run: TERM, and KILL 2 s later. Waits for
    /// that, a few seconds at most.
    pub fn end(mut self) {
        drop(self.socket);
        let patience = Instant::now() + END_PATIENCE;
        while Instant::now() < patience {
            match self.process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        tracing::error!("the helper process did not end and is killed");
        if self.process.kill().is_ok() {
            // A killed process may hang in the kernel; its parent ends soon, so nobody waits.
            let _ = self.process.try_wait();
        }
    }

    fn write(&mut self) {
        while !self.gone
            && let Some(order) = self.orders.front()
        {
            match send(&self.socket, order) {
                Sent::Yes => {}
                Sent::Later => return,
                Sent::Never(why) => match order {
                    Order::Watch { plan, .. } => {
                        tracing::error!(check = plan.name, "cannot be carried out: {why}");
                    }
                    Order::Run(_) | Order::Settle { .. } | Order::Forget { .. } | Order::Answer => {
                    }
                },
                Sent::Gone => return self.gone = true,
            }
            self.orders.pop_front();
        }
        while !self.gone
            && let Some(run) = self.waiting.pop_front()
        {
            let sent = Finished::of(&run, Outcome::Done, Duration::ZERO);
            let order = Order::Run(run);
            match send(&self.socket, &order) {
                Sent::Yes => self.running.push(sent),
                Sent::Never(why) => {
                    self.finished.push(Finished { outcome: Outcome::NotRun(why), ..sent });
                }
                not_yet @ (Sent::Later | Sent::Gone) => {
                    if let Order::Run(run) = order {
                        self.waiting.push_front(run);
                    }
                    self.gone = matches!(not_yet, Sent::Gone);
                    return;
                }
            }
        }
    }

    fn read(&mut self, packet: &[u8]) {
        self.heard_at = Instant::now();
        self.unanswered = 0;
        match serde_json::from_slice::<Report>(packet) {
            Ok(Report::Finished(finished)) => {
                let same =
                    |run: &Finished| run.number == finished.number && run.router == finished.router;
                if let Some(at) = self.running.iter().position(same) {
                    self.running.remove(at);
                }
                self.finished.push(finished);
            }
            Ok(Report::Checked(runs)) => {
                for run in runs {
                    // Of a check that is forgotten, or was changed meanwhile, nothing is wanted.
                    let name =
                        self.watched.iter().find(|(_, watched)| watched.number == run.number);
                    let name = name.map(|(name, _)| name.clone());
                    self.results.extend(name.map(|name| (name, run)));
                }
            }
            Ok(Report::Here) => {}
            // Only another binary can speak another language: it is not our helper.
            Err(_) => self.gone = true,
        }
    }
}

/// What became of an order.
enum Sent {
    Yes,
    Later,
    Never(String),
    Gone,
}

/// The next packet, empty at the end. It is as long as the kernel says: nearly all are short, and
/// room for the longest would never be given back.
fn next_packet(mut socket: &Socket) -> io::Result<Vec<u8>> {
    let length = socket.recv_with_flags(&mut [], libc::MSG_PEEK | libc::MSG_TRUNC)?;
    let mut packet = vec![0; length];
    let length = socket.read(&mut packet)?;
    packet.truncate(length);
    Ok(packet)
}

fn send(mut socket: &Socket, order: &Order) -> Sent {
    let packet = match serde_json::to_vec(order) {
        Ok(packet) if packet.len() > PACKET_SIZE => return Sent::Never(TOO_LONG.to_owned()),
        Ok(packet) => packet,
        Err(error) => return Sent::Never(error.to_string()),
    };
    loop {
        return match socket.write(&packet) {
            Ok(_) => Sent::Yes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Later,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                Sent::Never(TOO_LONG.to_owned())
            }
            Err(_) => Sent::Gone,
        };
    }
}

/// Adds a run to those that have not begun and returns those it overtakes: the older states of its
/// virtual router, and what was to run before a claim that is off now; but not a stop and a hook
/// before a release, which must not be left out. Of the latter there is never more than one, and what
/// is queued per virtual router stays bounded.
fn enqueue(waiting: &mut VecDeque<HookRun>, run: HookRun) -> Vec<HookRun> {
    let overtakes = |older: HookState| match (run.state, older) {
        (HookState::BeforeRelease, HookState::BeforeRelease)
        | (HookState::BeforeClaim, HookState::BeforeClaim)
        | (HookState::Stop, HookState::Stop) => true,
        (HookState::BeforeRelease | HookState::BeforeClaim, _)
        | (_, HookState::BeforeRelease | HookState::Stop) => false,
        (
            HookState::Master | HookState::Backup | HookState::Fault | HookState::Stop,
            HookState::Master | HookState::Backup | HookState::Fault | HookState::BeforeClaim,
        ) => true,
    };
    let mut overtaken = Vec::new();
    let mut kept = VecDeque::with_capacity(waiting.len() + 1);
    for older in waiting.drain(..) {
        if older.router == run.router && overtakes(older.state) {
            overtaken.push(older);
        } else {
            kept.push_back(older);
        }
    }
    kept.push_back(run);
    *waiting = kept;
    overtaken
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run(router: &str, number: u64, state: HookState) -> HookRun {
        HookRun {
            router: router.into(),
            group: false,
            number,
            state,
            previous: "backup".into(),
            reason: "test".into(),
            priority: 100,
            addresses: vec!["192.0.2.10".parse().unwrap()],
            interface: "eth0".into(),
            commands: Vec::new(),
            notify: None,
        }
    }

    fn numbers(runs: impl IntoIterator<Item = HookRun>) -> Vec<u64> {
        runs.into_iter().map(|run| run.number).collect()
    }

    #[test]
    fn a_newer_state_overtakes_the_older_ones_of_its_router_only() {
        let mut waiting = VecDeque::new();
        assert!(enqueue(&mut waiting, run("a", 1, HookState::Master)).is_empty());
        assert!(enqueue(&mut waiting, run("b", 2, HookState::Master)).is_empty());
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 3, HookState::Backup))), [1]);
        assert_eq!(numbers(waiting), [2, 3]);
    }

    #[test]
    fn a_hook_before_a_release_and_a_stop_are_not_overtaken_by_states() {
        let mut waiting = VecDeque::new();
        enqueue(&mut waiting, run("a", 1, HookState::Master));
        assert!(enqueue(&mut waiting, run("a", 2, HookState::BeforeRelease)).is_empty());
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 3, HookState::Backup))), [1]);
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 4, HookState::Stop))), [3]);
        assert!(enqueue(&mut waiting, run("a", 5, HookState::Master)).is_empty());
        assert_eq!(numbers(waiting), [2, 4, 5]);
    }

    #[test]
    fn of_hooks_before_a_release_the_newest_is_enough() {
        let mut waiting = VecDeque::new();
        enqueue(&mut waiting, run("a", 1, HookState::BeforeRelease));
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 2, HookState::BeforeRelease))), [1]);
        assert_eq!(numbers(waiting), [2]);
    }

    #[test]
    fn a_hook_before_a_claim_that_is_off_is_overtaken_and_overtakes_no_state() {
        let mut waiting = VecDeque::new();
        enqueue(&mut waiting, run("a", 1, HookState::Backup));
        assert!(enqueue(&mut waiting, run("a", 2, HookState::BeforeClaim)).is_empty());
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 3, HookState::BeforeClaim))), [2]);
        assert_eq!(numbers(enqueue(&mut waiting, run("a", 4, HookState::Fault))), [1, 3]);
        assert_eq!(numbers(waiting), [4]);
    }
}
