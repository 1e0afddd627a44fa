//! The daemon's end: starts the helper process, sends requests and receives events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use super::check_run::CheckRun;
use super::hook::{Finished, HookRun, Outcome};
use super::protocol::{HelperEvent, HelperRequest, SendOutcome, next_packet, send};
use super::queue::enqueue;
use crate::config::{CheckPlan, ProgramFaults, ProgramUse};

/// After so many [`Helper::PING_INTERVAL`]s without an answer the helper counts as dead.
const MAX_UNANSWERED: u32 = 3;
/// How long [`Helper::end`] waits: hooks have 2 s between TERM and KILL, and must be reaped.
const EXIT_TIMEOUT: Duration = Duration::from_secs(4);

/// The helper process, as the daemon sees it. None of its methods but `start` and `end` blocks.
#[derive(Debug)]
pub struct Helper {
    process: Child,
    socket: Socket,
    gone: bool,
    /// Hook runs that the socket has not accepted yet.
    waiting: VecDeque<HookRun>,
    /// Other requests that the socket has not accepted yet; sent first.
    requests: VecDeque<HelperRequest>,
    /// Hook runs that were sent and have not ended.
    running: Vec<Finished>,
    /// Hook runs to report at the next poll.
    finished: Vec<Finished>,
    /// The running checks, by name.
    checks: BTreeMap<String, StartedCheck>,
    next_number: u64,
    /// Results since the last call of [`Helper::results`], with the names of the checks.
    results: Vec<(String, CheckRun)>,
    /// The answer to the last [`Helper::examine`], until it is taken.
    examined: Option<Result<ProgramFaults, String>>,
    last_heard: Instant,
    /// Number of calls of [`Helper::check_alive`] since a ping was sent; 0: no ping is pending.
    unanswered: u32,
}

/// A check as it was requested from the helper.
#[derive(Debug)]
struct StartedCheck {
    number: u64,
    plan: CheckPlan,
    stable_after: u32,
}

impl Helper {
    /// A helper that sent nothing for this long is pinged.
    pub const PING_INTERVAL: Duration = Duration::from_secs(5);

    /// Starts the helper from this binary, whose `main` function calls [`super::main`] for the
    /// argument `helper`. Must be called before privileges are dropped, because the helper needs to
    /// change users, and should be called in the main thread, because the kernel signals the helper
    /// when the calling thread ends.
    ///
    /// # Errors
    /// No socket pair or process could be created.
    pub fn start() -> io::Result<Helper> {
        Helper::start_with(Path::new("/proc/self/exe"))
    }

    /// As [`Helper::start`], with another program that has a `helper` subcommand.
    ///
    /// # Errors
    /// As for [`Helper::start`].
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
            // Ctrl-C of a terminal is for the daemon, which ends the helper in its turn.
            .process_group(0)
            .spawn()?;
        Ok(Helper {
            process,
            socket,
            gone: false,
            waiting: VecDeque::new(),
            requests: VecDeque::new(),
            running: Vec::new(),
            finished: Vec::new(),
            checks: BTreeMap::new(),
            next_number: 1,
            results: Vec::new(),
            examined: None,
            last_heard: Instant::now(),
            unanswered: 0,
        })
    }

    /// Runs hooks, after those of the same virtual router that were requested before. What the
    /// socket does not accept is queued here, by the same rules as in the helper.
    pub fn run(&mut self, run: HookRun) {
        for overtaken in enqueue(&mut self.waiting, run) {
            self.finished.push(Finished::of(&overtaken, Outcome::Overtaken, Duration::ZERO));
        }
        self.write();
    }

    /// Sets the checks to run, each with the number of equal results in a row after which another
    /// equal one changes nothing. Unchanged checks continue, others are started or stopped.
    pub fn set_checks<'a>(&mut self, checks: impl IntoIterator<Item = (&'a CheckPlan, u32)>) {
        let mut before = std::mem::take(&mut self.checks);
        for (plan, stable_after) in checks {
            let same = before.remove(&plan.name);
            let number = match &same {
                Some(check) if check.plan == *plan => {
                    if check.stable_after != stable_after {
                        self.requests.push_back(HelperRequest::SetStableAfter {
                            number: check.number,
                            stable_after,
                        });
                    }
                    check.number
                }
                changed => {
                    if let Some(StartedCheck { number, .. }) = changed {
                        self.requests.push_back(HelperRequest::StopCheck { number: *number });
                    }
                    let number = self.next_number;
                    self.next_number += 1;
                    self.requests.push_back(HelperRequest::StartCheck {
                        number,
                        plan: plan.clone(),
                        stable_after,
                    });
                    number
                }
            };
            let check = StartedCheck { number, plan: plan.clone(), stable_after };
            self.checks.insert(plan.name.clone(), check);
        }
        let stopped = before.into_values().map(|check| check.number);
        self.requests.extend(stopped.map(|number| HelperRequest::StopCheck { number }));
        self.write();
    }

    /// Takes the results received since the last call, with the names of the checks, in order.
    pub fn results(&mut self) -> Vec<(String, CheckRun)> {
        std::mem::take(&mut self.results)
    }

    /// Has the helper look at programs and users, which may take long, and [`Helper::examined`] return
    /// what is wrong.
    pub fn examine(&mut self, programs: BTreeSet<ProgramUse>) {
        self.requests.push_back(HelperRequest::Examine(programs));
        self.write();
    }

    /// What was found by [`Helper::examine`], once; or why that failed.
    pub fn examined(&mut self) -> Option<Result<ProgramFaults, String>> {
        let lost = || self.gone.then(|| Err("the helper process is gone".to_owned()));
        self.examined.take().or_else(lost)
    }

    /// As [`Helper::examine`], and waits for the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn examine_now(&mut self, programs: BTreeSet<ProgramUse>) -> Result<ProgramFaults, String> {
        self.examine(programs);
        loop {
            // The end of the helper is an answer, too.
            let _ = self.poll(|_| {});
            if let Some(answer) = self.examined() {
                return answer;
            }
            let events = match self.wants_write() {
                true => PollFlags::POLLIN | PollFlags::POLLOUT,
                false => PollFlags::POLLIN,
            };
            let waited = poll(&mut [PollFd::new(self.as_fd(), events)], PollTimeout::NONE);
            if let Err(error) = waited
                && error != Errno::EINTR
            {
                return Err(error.to_string());
            }
        }
    }

    /// Pings the helper if it sent nothing for [`Helper::PING_INTERVAL`]. Must be called at that
    /// interval: counting calls, not time, tolerates a host that was suspended.
    ///
    /// # Errors
    /// It did not answer for several intervals, so no check or hook can be relied on: it was
    /// killed, and counts as gone.
    pub fn check_alive(&mut self) -> io::Result<()> {
        if self.unanswered == MAX_UNANSWERED {
            self.gone = true;
            // It may have exited already.
            let _ = self.process.kill();
            let text =
                format!("it has not answered for {:?}", MAX_UNANSWERED * Helper::PING_INTERVAL);
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        if self.unanswered == 0 && self.last_heard.elapsed() >= Helper::PING_INTERVAL {
            self.requests.push_back(HelperRequest::Ping);
            self.write();
            self.unanswered = 1;
        } else if self.unanswered > 0 {
            self.unanswered += 1;
        }
        Ok(())
    }

    /// Sends queued requests and passes hook runs that have ended to `report`. To be called when
    /// [`Helper::as_fd`] is readable (or writable, if [`Helper::wants_write`]), and after each
    /// [`Helper::run`].
    ///
    /// # Errors
    /// The helper is gone. All pending and later hook runs are reported as not run.
    pub fn poll(&mut self, mut report: impl FnMut(Finished)) -> io::Result<()> {
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

    /// Readable when there is something for [`Helper::poll`].
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether [`Helper::poll`] is also to be called when [`Helper::as_fd`] is writable.
    pub fn wants_write(&self) -> bool {
        !(self.waiting.is_empty() && self.requests.is_empty() || self.gone)
    }

    /// Whether all hook runs have ended and been reported.
    pub fn idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.finished.is_empty()
    }

    /// The process id of the helper.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends the helper and the hooks that still run (TERM, and KILL 2 s later), and waits for that,
    /// at most 4 s.
    pub fn end(mut self) {
        drop(self.socket);
        let deadline = Instant::now() + EXIT_TIMEOUT;
        while Instant::now() < deadline {
            match self.process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        tracing::error!("the helper process did not end and is killed");
        if self.process.kill().is_ok() {
            // Do not wait: a killed process may hang in the kernel, and the daemon ends soon.
            let _ = self.process.try_wait();
        }
    }

    fn write(&mut self) {
        while !self.gone
            && let Some(request) = self.requests.front()
        {
            match send(&self.socket, request) {
                SendOutcome::Sent => {}
                SendOutcome::WouldBlock => return,
                SendOutcome::Impossible(why) => match request {
                    HelperRequest::StartCheck { plan, .. } => {
                        tracing::error!(check = plan.name, "cannot be carried out: {why}");
                    }
                    HelperRequest::Examine(_) => self.examined = Some(Err(why)),
                    HelperRequest::RunHooks(_)
                    | HelperRequest::SetStableAfter { .. }
                    | HelperRequest::StopCheck { .. }
                    | HelperRequest::Ping => {}
                },
                SendOutcome::Closed => return self.gone = true,
            }
            self.requests.pop_front();
        }
        while !self.gone
            && let Some(run) = self.waiting.pop_front()
        {
            let sent = Finished::of(&run, Outcome::Done, Duration::ZERO);
            let request = HelperRequest::RunHooks(run);
            match send(&self.socket, &request) {
                SendOutcome::Sent => self.running.push(sent),
                SendOutcome::Impossible(why) => {
                    self.finished.push(Finished { outcome: Outcome::NotRun(why), ..sent });
                }
                not_yet @ (SendOutcome::WouldBlock | SendOutcome::Closed) => {
                    if let HelperRequest::RunHooks(run) = request {
                        self.waiting.push_front(run);
                    }
                    self.gone = matches!(not_yet, SendOutcome::Closed);
                    return;
                }
            }
        }
    }

    fn read(&mut self, packet: &[u8]) {
        self.last_heard = Instant::now();
        self.unanswered = 0;
        match serde_json::from_slice::<HelperEvent>(packet) {
            Ok(HelperEvent::HooksFinished(finished)) => {
                let same =
                    |run: &Finished| run.number == finished.number && run.router == finished.router;
                if let Some(at) = self.running.iter().position(same) {
                    self.running.remove(at);
                }
                self.finished.push(finished);
            }
            Ok(HelperEvent::CheckRuns(runs)) => {
                for run in runs {
                    // Ignore late results of checks that were stopped or changed.
                    let name = self.checks.iter().find(|(_, check)| check.number == run.number);
                    let name = name.map(|(name, _)| name.clone());
                    self.results.extend(name.map(|name| (name, run)));
                }
            }
            Ok(HelperEvent::Examined(answer)) => self.examined = Some(answer),
            Ok(HelperEvent::Pong) => {}
            // Cannot come from the same binary.
            Err(_) => self.gone = true,
        }
    }
}
