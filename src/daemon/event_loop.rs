//! The advert loop: each turn waits, reads everything that has arrived, acts on expired deadlines
//! and carries out what follows.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use tracing::{error, info, warn};

use super::background::{Background, Completion};
use super::control::{self, PendingRequest, Reply};
use super::drained::{self, DrainedFiles, Stored};
use super::driver::Driver;
use super::history::{self, EventKind};
use super::moves::PendingMoves;
use super::{DaemonError, Options, check_host, load};
use crate::config::Config;
use crate::helper::Helper;
use crate::host::clock::{self, Clock};
use crate::host::event_channel::{self, Receiver, Sender};
use crate::host::exclusive::RouterLocks;
use crate::host::netlink::{InterfaceAddress, Worker};
use crate::host::orphans;
use crate::host::record::Record;
use crate::host::signals::{Signal, Signals};
use crate::host::systemd::Systemd;
use crate::vrrp::record::PreviousRecord;
use crate::vrrp::{Action, Event, Instant, Node, Stop};

/// How often in one turn everything that has arrived is read before deadlines are acted on: packets
/// take precedence over timeouts, but a flood must not keep the loop from its own adverts.
const MAX_ROUNDS: usize = 4;
/// How long a stop that has released everything waits for hooks and the worker.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// How long a restart waits for hooks and the worker. It sends no adverts meanwhile.
const RESTART_TIMEOUT: Duration = Duration::from_millis(100);

/// The running daemon.
pub(super) struct EventLoop {
    pub(super) path: PathBuf,
    pub(super) config: Config,
    router_locks: RouterLocks,
    /// What an earlier daemon on this host left.
    previous: PreviousRecord,
    /// Whether the host is drained, as that is stored.
    pub(super) drained: Stored,
    pub(super) started_at: SystemTime,
    pub(super) node: Node,
    pub(super) driver: Driver,
    signals: Signals,
    systemd: Systemd,
    actions: Vec<Action>,
    background: Background,
    /// From clients of the control socket.
    requests: Receiver<PendingRequest>,
    /// Requests that are answered at the end of this turn.
    asked: Vec<PendingRequest>,
    completions: Receiver<Completion>,
    completed: Sender<Completion>,
    /// Clients that wait for the end of a planned move.
    pub(super) moves: Vec<PendingMoves>,
    /// The client that waits for the end of a reload.
    pub(super) reload_asked: Option<Reply>,
    /// A reload is reading the file.
    pub(super) reloading: bool,
    /// A restart is checking whether a successor could start.
    restarting: bool,
    /// It ends for a restart: hooks that run are ended, and the successor runs them again.
    successor_follows: bool,
    /// The kernel was asked for all interfaces; all of them are reported to the protocol
    /// afterwards.
    links_due: bool,
    /// Whether what an earlier daemon left has been reported to the protocol.
    begun: bool,
    /// When to notify systemd's watchdog; `None`: there is none.
    watchdog_at: Option<Instant>,
    /// The last turn left something unread.
    more: bool,
    pub(super) stopping: bool,
    give_up_at: Option<Instant>,
}

impl EventLoop {
    pub(super) fn new(
        options: &Options,
        config: Config,
        router_locks: RouterLocks,
        helper: Helper,
        worker: Worker,
        runtime_dir: &Path,
        background: Background,
    ) -> Result<Self, DaemonError> {
        let (record, previous) = Record::open(runtime_dir, clock::suspended())
            .map_err(|e| DaemonError::System("make the record in the runtime directory", e))?;
        let driver = Driver::new(Clock::start(), helper, worker, record)
            .map_err(|e| DaemonError::System("open what the kernel's events need", e))?;
        let signals = Signals::new().map_err(|e| DaemonError::System("catch signals", e))?;
        let channel = |e| DaemonError::System("make an event channel", e);
        // Replaced by the one of the control socket, if that can be opened.
        let (_, requests) = event_channel::channel().map_err(channel)?;
        let (completed, completions) = event_channel::channel().map_err(channel)?;
        for source in [signals.as_fd(), completions.as_fd()] {
            driver.listen_to(source).map_err(|e| DaemonError::System("wait for signals", e))?;
        }
        let systemd = Systemd::from_env();
        let drained = DrainedFiles::new(&options.state_dir, runtime_dir);
        let drained = drained.read().unwrap_or_else(|error| {
            error!(%error, "cannot see whether this host is drained, so it takes part");
            Stored::default()
        });
        if let Some(drain) = drained.drain {
            warn!("this host is drained: {}; \"vipd undrain\" ends that", drained::meaning(drain));
        }
        Ok(EventLoop {
            path: options.config.clone(),
            node: Node::new(&config.vrrp),
            config,
            router_locks,
            previous,
            drained,
            started_at: SystemTime::now(),
            driver,
            signals,
            watchdog_at: systemd.watchdog_interval().map(|_| Instant::START),
            systemd,
            actions: Vec::new(),
            background,
            requests,
            asked: Vec::new(),
            completions,
            completed,
            moves: Vec::new(),
            reload_asked: None,
            reloading: false,
            restarting: false,
            successor_follows: false,
            links_due: true,
            begun: false,
            more: false,
            stopping: false,
            give_up_at: None,
        })
    }

    /// Answers clients of the control socket from now on.
    pub(super) fn listen(
        &mut self,
        socket: UnixListener,
        state_dir: &Path,
        runtime_dir: &Path,
    ) -> Result<(), DaemonError> {
        let failed = |e| DaemonError::System("serve the control socket", e);
        let (sender, requests) = event_channel::channel().map_err(failed)?;
        self.driver.listen_to(requests.as_fd()).map_err(failed)?;
        self.requests = requests;
        control::serve(socket, state_dir, DrainedFiles::new(state_dir, runtime_dir), sender)
            .map_err(failed)
    }

    pub(super) fn serve(&mut self) -> Result<(), DaemonError> {
        let lost = |e| DaemonError::System("run the event loop", e);
        let left =
            self.previous.leftovers(&self.config.vrrp).map(|left| left.interface.as_str().into());
        self.driver.interfaces.also_list(left);
        self.driver.follow(&self.node, &self.config).map_err(lost)?;
        self.driver.set_checks(&self.config);
        self.background.free_memory_soon();
        while !self.is_over() {
            if !self.more
                && let Some(delay) = self.driver.coalesce_delay()
            {
                std::thread::sleep(delay);
            }
            self.turn().map_err(lost)?;
        }
        Ok(())
    }

    /// One turn: waits, unless something is left to read; reads everything that has arrived; acts
    /// on the deadlines that have passed; carries out what follows from both.
    fn turn(&mut self) -> io::Result<()> {
        let mut wait = !self.more;
        for _ in 0..MAX_ROUNDS {
            self.more = self.driver.receive(wait, &mut self.node, &mut self.actions)?;
            wait = false;
            if self.driver.others_ready() {
                for signal in self.signals.take() {
                    self.signal(signal);
                }
                for completion in self.completions.recv().collect::<Vec<_>>() {
                    self.returned(completion)?;
                }
                self.asked.extend(self.requests.recv());
            }
            if !self.more {
                break;
            }
        }
        if self.links_due && self.driver.interfaces.synced() {
            self.links_due = false;
            if !self.begun {
                self.begun = true;
                self.begin();
                self.systemd.ready("running");
            }
            self.driver.dispatch_links();
        }
        if !self.begun {
            // The protocol decides nothing before it knows what an earlier daemon left.
            return Ok(());
        }
        for asked in std::mem::take(&mut self.asked) {
            self.answer(asked);
        }
        let now = self.driver.now();
        let retry_at = self.driver.retry_sockets(now, &self.node);
        self.driver.dispatch(&mut self.node, &mut self.actions);
        let now = self.driver.now();
        if self.node.deadline().is_some_and(|at| at <= now) {
            self.handle(now, Event::Timeout);
        }
        loop {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.driver.perform(now, action, &self.node);
            }
            self.actions = actions;
            self.driver.flush();
            self.driver.bind_anew(&self.node);
            if !self.driver.dispatch(&mut self.node, &mut self.actions) {
                break;
            }
        }
        // Room for adverts and renewals of all routers; what a takeover of all of them needed is not
        // kept.
        self.actions.shrink_to(2 * self.config.vrrp.routers.len() + 64);
        self.report_moves();
        self.notify_watchdog(now);
        if self.node.is_stopped() && self.give_up_at.is_none() {
            self.give_up_at = Some(now + STOP_TIMEOUT);
        }
        let ping_at = Some(self.driver.keep_helper_alive(now));
        let deadlines = [
            self.node.deadline(),
            self.watchdog_at,
            self.give_up_at,
            self.report_moves_at(),
            ping_at,
            retry_at,
        ];
        self.driver.wake_at(now, deadlines.into_iter().flatten().min());
        Ok(())
    }

    /// Notifies systemd's watchdog, which restarts a daemon whose advert loop hangs.
    fn notify_watchdog(&mut self, now: Instant) {
        if let (Some(every), Some(at)) = (self.systemd.watchdog_interval(), self.watchdog_at)
            && at <= now
        {
            self.systemd.watchdog();
            self.watchdog_at = Some(now + every);
        }
    }

    /// Puts something into the history that `vipd events` shows.
    pub(super) fn note(&mut self, kind: EventKind, text: impl Into<String>) {
        self.driver.history.note(history::now(kind, None, text));
    }

    pub(super) fn handle(&mut self, now: Instant, event: Event<'_>) {
        if let Err(discard) = self.node.handle(now, event, &mut self.actions) {
            warn!(%discard, "an event was refused");
        }
    }

    /// Every interface has been reported for the first time: tells the protocol what an earlier
    /// daemon left, and removes those of its addresses that no virtual router is configured to hold
    /// now.
    fn begin(&mut self) {
        let now = self.driver.now();
        let interfaces = &self.driver.interfaces;
        let has = |there: &[InterfaceAddress], ip, router| {
            there.iter().any(|there| there.ip == ip && there.mark.is_of(router))
        };
        let (boottime, drained) = (clock::boottime(), self.drained.drain);
        let found = self.previous.found(&self.node, boottime, drained, |link, ip, router| {
            has(interfaces.addresses_on(link), ip, router)
        });
        for left in self.previous.leftovers(&self.config.vrrp) {
            let there = self.driver.interfaces.addresses(&left.interface);
            if has(there, left.address.ip, left.mark) && self.router_locks.is_free(left) {
                self.driver.release_leftover(left);
            }
        }
        self.keep_left();
        for (router, recorded) in found {
            self.handle(now, Event::Found(router, recorded));
        }
    }

    /// What is left on interfaces that are not there now is for the next daemon, or `vipd cleanup`.
    fn keep_left(&mut self) {
        let left: Vec<_> = self.previous.leftovers(&self.config.vrrp).collect();
        let interfaces = &self.driver.interfaces;
        self.driver.record.keep_left(|kept| {
            left.contains(&kept) && interfaces.index_of(&kept.interface).is_none()
        });
    }

    fn signal(&mut self, signal: Signal) {
        let now = self.driver.now();
        match signal {
            Signal::Stop => self.stop(now),
            Signal::Restart => {
                if !self.stopping && !self.restarting {
                    info!("a restart was announced: checking what would start next");
                    self.restarting = true;
                    let path = self.path.clone();
                    self.background.spawn(
                        &self.completed,
                        move || successor(&path),
                        Completion::Restart,
                    );
                }
            }
            Signal::Reload => {
                if self.stopping {
                    return;
                }
                if self.reloading {
                    info!("a reload is under way already");
                    return;
                }
                self.begin_reload();
            }
        }
    }

    pub(super) fn begin_reload(&mut self) {
        info!(file = %self.path.display(), "reading the configuration again");
        self.systemd.reloading();
        self.reloading = true;
        let (path, to) = (self.path.clone(), self.completed.clone());
        let examine = move |programs| {
            let (sender, answer) = mpsc::channel();
            to.send(Completion::Examine(programs, sender));
            answer.recv().unwrap_or_else(|_| Err("the helper process is gone".to_owned()))
        };
        let work = move || {
            let loaded = load(&path)
                .and_then(|config| check_host(&config, examine).map(|()| Box::new(config)));
            loaded.map_err(|problems| problems.to_string())
        };
        self.background.spawn(&self.completed, work, Completion::Reload);
    }

    fn stop(&mut self, now: Instant) {
        if !self.stopping {
            info!("stopping");
            self.stopping = true;
            self.systemd.stopping("handing over");
            self.handle(now, Event::Stop(Stop::Leave));
        }
    }

    /// Ends for a restart. If the process that follows could start, nothing is moved.
    fn leave_to_successor(&mut self, fit: Result<(), String>) {
        if self.stopping {
            // It was stopped while the check ran, and completes that.
            return;
        }
        let now = self.driver.now();
        match fit {
            Ok(()) => {
                info!("leaving everything as it is to the process that follows");
                self.systemd.stopping("restarting");
                self.successor_follows = true;
                self.give_up_at = Some(now + RESTART_TIMEOUT);
                self.driver.ended_on_request();
                self.handle(now, Event::Stop(Stop::Restart));
            }
            Err(why) => {
                error!("nothing could start after this process, so it hands over: {why}");
                self.stop(now);
            }
        }
    }

    /// Work in the background has ended.
    fn returned(&mut self, completion: Completion) -> io::Result<()> {
        match completion {
            Completion::Examine(programs, answer) => {
                self.driver.examine(programs, answer);
                Ok(())
            }
            Completion::Reload(loaded) => {
                self.reloading = false;
                self.reloaded(loaded)
            }
            Completion::Restart(fit) => {
                self.restarting = false;
                self.leave_to_successor(fit);
                Ok(())
            }
        }
    }

    /// A reload has read the file: it is applied as a whole or not at all.
    fn reloaded(&mut self, loaded: Result<Box<Config>, String>) -> io::Result<()> {
        let outcome = match loaded {
            Err(why) => Err(why),
            Ok(config) => match self.router_locks.acquire(&config.vrrp) {
                Err(taken) => Err(taken.to_string()),
                Ok(()) => {
                    let changes = config.changes_since(&self.config);
                    self.apply(*config)?;
                    Ok(changes)
                }
            },
        };
        match &outcome {
            Err(why) => {
                self.note(EventKind::Reload, format!("the configuration was refused:\n{why}"));
                error!("the configuration was refused, and the running one stays as it is:\n{why}")
            }
            Ok(changes) => {
                info!(changes = changes.len(), "the configuration was applied");
                self.note(EventKind::Reload, applied(changes));
                for change in changes {
                    info!("{change}");
                }
            }
        }
        self.systemd.ready("running");
        self.report_reload(outcome);
        Ok(())
    }

    fn apply(&mut self, config: Config) -> io::Result<()> {
        let now = self.driver.now();
        self.handle(now, Event::Reload(&config.vrrp));
        self.router_locks.retain(&config.vrrp);
        self.config = config;
        self.links_due = true;
        self.background.free_memory_soon();
        self.driver.set_checks(&self.config);
        self.driver.follow(&self.node, &self.config)
    }

    /// Lets the history be written, for a moment, and ends the helper process. For a restart that is
    /// not waited for: the helper ends its hooks, and itself, as soon as its socket is closed.
    pub(super) fn end(self) {
        let EventLoop { mut driver, background, successor_follows, .. } = self;
        background.close(std::mem::take(&mut driver.history));
        driver.end(!successor_follows);
    }

    /// Whether the daemon has stopped, and nothing is left to do or to wait for.
    fn is_over(&self) -> bool {
        if !self.node.is_stopped() {
            return false;
        }
        if self.driver.is_idle() {
            info!("stopped");
            return true;
        }
        let over = self.give_up_at.is_some_and(|at| at <= self.driver.now());
        if over {
            warn!("stopped without waiting any longer for hooks and the kernel");
        }
        over
    }
}

/// Whether the installed program and the file pass `vipd check`: what systemd starts next is the
/// file on disk, not what runs now.
fn successor(config: &Path) -> Result<(), String> {
    let running = std::fs::read_link("/proc/self/exe").map_err(|error| error.to_string())?;
    let path = running.to_string_lossy();
    let installed = path.strip_suffix(" (deleted)").unwrap_or(&path);
    let mut check = std::process::Command::new(installed);
    check.arg("check").arg(config).stdin(std::process::Stdio::null());
    let output = orphans::run_child(|| check.output())
        .map_err(|error| format!("{installed} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{installed} check: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The text of a reload in the history.
fn applied(changes: &[String]) -> String {
    match changes {
        [] => "the configuration was read again; nothing in it has changed".to_owned(),
        changes => format!("the configuration was applied:\n{}", changes.join("\n")),
    }
}
