//! The daemon's end: starts the helper process, gives it requests and takes what it reports.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::check_run::CheckRun;
use super::hook::{Finished, HookRun, Outcome};
use super::protocol::{HelperEvent, HelperRequest, SendOutcome, next_packet, send};
use super::queue::enqueue;
use crate::config::CheckPlan;

/// One that was waited for so often, [`Helper::PING_INTERVAL`] each time, is not there any more.
const MAX_UNANSWERED: u32 = 3;
/// How long [`Helper::end`] waits: hooks get 2 s after TERM, and their deaths must be seen.
const EXIT_TIMEOUT: Duration = Duration::from_secs(4);

/// The daemon's end.
#[derive(Debug)]
pub struct Helper {
    process: Child,
    socket: Socket,
    gone: bool,
    /// Not yet taken by the socket.
    waiting: VecDeque<HookRun>,
    /// The same of what is not about hooks; goes first.
    requests: VecDeque<HelperRequest>,
    /// Taken by the socket and not yet reported; without the hooks.
    running: Vec<Finished>,
    /// To be reported at the next poll.
    finished: Vec<Finished>,
    /// The checks that are carried out, by name.
    checks: BTreeMap<String, StartedCheck>,
    next_number: u64,
    /// Results of checks, with the checks' names.
    results: Vec<(String, CheckRun)>,
    last_heard: Instant,
    /// How often it was asked, or waited for, since it was heard.
    unanswered: u32,
}

/// A check as the helper was told it.
#[derive(Debug)]
struct StartedCheck {
    number: u64,
    plan: CheckPlan,
    stable_after: u32,
}

impl Helper {
    /// A helper that said nothing for so long is asked for a sign of life.
    pub const PING_INTERVAL: Duration = Duration::from_secs(5);

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
            requests: VecDeque::new(),
            running: Vec::new(),
            finished: Vec::new(),
            checks: BTreeMap::new(),
            next_number: 1,
            results: Vec::new(),
            last_heard: Instant::now(),
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

    /// The results of checks that have come since the last call, with the checks' names, in order.
    pub fn results(&mut self) -> Vec<(String, CheckRun)> {
        std::mem::take(&mut self.results)
    }

    /// Asks for a sign of life if there was none for a while. To be called every
    /// [`Helper::PING_INTERVAL`], and no more often: a host that stood still for long counts as once.
    ///
    /// # Errors
    /// It has owed one for so long that no check and no hook can be relied on: it was killed, and
    /// counts as gone.
    pub fn check_alive(&mut self) -> io::Result<()> {
        if self.unanswered == MAX_UNANSWERED {
            self.gone = true;
            // It may be dead already.
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

    /// Writes what waits and hands what has finished to `report`. Never blocks. To be called when
    /// [`Helper::as_fd`] is readable (or writable, if [`Helper::wants_write`]), and after each
    /// [`Helper::run`].
    ///
    /// # Errors
    /// The helper is gone. Every run that was under way is reported as not run, and so is every
    /// later one.
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
        let deadline = Instant::now() + EXIT_TIMEOUT;
        while Instant::now() < deadline {
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
            && let Some(request) = self.requests.front()
        {
            match send(&self.socket, request) {
                SendOutcome::Sent => {}
                SendOutcome::WouldBlock => return,
                SendOutcome::Impossible(why) => match request {
                    HelperRequest::StartCheck { plan, .. } => {
                        tracing::error!(check = plan.name, "cannot be carried out: {why}");
                    }
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
                    // Of a check that is stopped, or was changed meanwhile, nothing is wanted.
                    let name = self.checks.iter().find(|(_, check)| check.number == run.number);
                    let name = name.map(|(name, _)| name.clone());
                    self.results.extend(name.map(|name| (name, run)));
                }
            }
            Ok(HelperEvent::Pong) => {}
            // Only another binary can speak another language: it is not our helper.
            Err(_) => self.gone = true,
        }
    }
}
