//! The daemon's end: starts the helper process, gives it orders and takes what it reports.

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
use super::protocol::{Order, Report, Sent, next_packet, send};
use super::queue::enqueue;
use crate::config::CheckPlan;

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
