//! The daemon: waits, tells the protocol what happened, carries out what it says.

mod control;
mod drained;
pub(crate) mod history;
mod office;
mod status;
mod steer;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tracing::{error, info, warn};

use crate::config::{Config, Problems};
use crate::helper::Helper;
use crate::host::clock::Clock;
use crate::host::exclusive::{Identities, RuntimeDir, Taken};
use crate::host::letterbox::{Letterbox, Slot};
use crate::host::netlink::Worker;
use crate::host::record::{Previous, Record};
use crate::host::signals::{Signal, Signals};
use crate::host::sys;
use crate::host::systemd::Systemd;
use crate::host::{self, Host, backoff, clock, privileges};
use crate::vrrp::{Action, Event, Instant, Node, Recorded, Stop};
use control::PendingRequest;
use history::{History, Kind};
use office::{Errand, Office};
use steer::{Moves, Reply};

/// Real-time priority of the advert loop: above everything ordinary, below the kernel's watchdogs.
const REALTIME_PRIORITY: u8 = 50;
/// Everything that arrived is read before a deadline is acted on, but a flood ends after this many
/// rounds.
const ROUNDS: usize = 4;
/// A stop that has released everything waits no longer than this for hooks and the worker.
const LAST_WORDS: Duration = Duration::from_secs(40);
/// Where the daemon finds and leaves things.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Lock and record; gone at reboot.
    pub runtime_dir: PathBuf,
    /// What must survive a reboot.
    pub state_dir: PathBuf,
}

/// Why the daemon did not start, or ended.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong.
    Config(Problems),
    /// Another daemon is in the way.
    Taken(Taken),
    /// The kernel cannot mark addresses.
    Kernel(String),
    /// A capability is missing.
    Privileges(String),
    /// The system refused something without which nothing works.
    System(&'static str, io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Config(problems) => problems.fmt(f),
            Failure::Taken(taken) => taken.fmt(f),
            Failure::Kernel(release) => write!(
                f,
                "Linux {release} cannot mark addresses as ours (IFA_PROTO): 5.18 or newer is needed"
            ),
            Failure::Privileges(what) => f.write_str(what),
            Failure::System(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start, or when the kernel takes away what it cannot work without.
pub fn run(options: &Options) -> Result<(), Failure> {
    sys::map_large_allocations();
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        std::thread::sleep(backoff::patience(&options.runtime_dir));
    }
    let config = load(&options.config).map_err(Failure::Config)?;
    let runtime = RuntimeDir::lock(&options.runtime_dir).map_err(Failure::Taken)?;
    let mut identities = Identities::default();
    identities.take(&config.vrrp).map_err(Failure::Taken)?;
    if let Some(release) = host::too_old_kernel() {
        return Err(Failure::Kernel(release));
    }
    let missing = privileges::missing();
    if !missing.is_empty() {
        return Err(Failure::Privileges(privileges::explain(&missing)));
    }
    // The helper keeps what hooks of other users need; we keep what the network needs.
    let helper = Helper::start().map_err(|e| Failure::System("start the helper process", e))?;
    let mut remarks = Vec::new();
    let listener = control::bind(runtime.path(), &mut remarks);
    remarks.extend(harden());
    // It inherits what could not be asked for any more; what starts after it must not.
    let worker = Worker::start().map_err(|e| Failure::System("start the netlink worker", e))?;
    let _ = privileges::realtime(REALTIME_PRIORITY);
    let log = crate::log::init();
    for remark in remarks {
        warn!("{remark}");
    }
    let runtime_dir = runtime.path();
    let office = Office::open().map_err(|e| Failure::System("start a thread", e))?;
    let beside = office.runtime().clone();
    let _tasks_are_there = beside.enter();
    let mut daemon = Daemon::new(options, config, identities, helper, worker, runtime_dir, office)?;
    if let Some(listener) = listener {
        daemon.listen(listener, &options.state_dir)?;
    }
    daemon.host.history = History::start(&options.state_dir);
    daemon.note(Kind::Daemon, format!("vipd {} is running", env!("CARGO_PKG_VERSION")));
    info!(
        node = %daemon.config.node.name,
        pid = std::process::id(),
        runtime_dir = %runtime_dir.display(),
        version = env!("CARGO_PKG_VERSION"),
        "vipd is running"
    );
    // It only costs memory if it fails.
    let _ = sys::forget_code();
    let outcome = daemon.serve();
    // Nothing that comes now is urgent, and waiting for the log at real-time priority would keep
    // everybody else from the processor.
    if let Err(error) = privileges::ordinary_priority() {
        warn!(%error, "cannot give up real-time priority");
    }
    daemon.note(Kind::Daemon, "vipd has ended");
    let history = std::mem::take(&mut daemon.host.history);
    daemon.office.close(history);
    daemon.host.end();
    drop(log);
    outcome
}

/// Reads and checks the file as `run` and a reload want it: with at least one virtual router, and
/// with hooks that can be run.
fn load(path: &Path) -> Result<Config, Problems> {
    let mut config = Config::load(path)?;
    config.require_routers()?;
    config.check_host()?;
    // For `vipd check`, which shows it with the lines it is about.
    config.advice = Vec::new();
    Ok(config)
}

/// Real-time priority, locked memory, and no capability that is not needed. What is refused is
/// worth a warning, not an end.
fn harden() -> Vec<String> {
    let mut remarks = Vec::new();
    if let Err(error) = privileges::realtime_for_all(REALTIME_PRIORITY) {
        remarks.push(format!(
            "no real-time priority ({error}): under load adverts may be late; set LimitRTPRIO=50, or give it CAP_SYS_NICE"
        ));
    }
    if let Err(error) = privileges::lock_memory() {
        remarks.push(format!(
            "memory is not locked ({error}): when the host swaps, adverts may be late; set LimitMEMLOCK=infinity, or give it CAP_IPC_LOCK"
        ));
    }
    if let Err(error) = privileges::keep_only(&privileges::NEEDED) {
        remarks.push(format!("cannot give up privileges: {error}"));
    }
    remarks
}

/// Whether the installed program and the file pass `vipd check`: what systemd starts next is the
/// file on disk, not what runs now.
fn successor(config: &Path) -> Result<(), String> {
    let running = std::fs::read_link("/proc/self/exe").map_err(|error| error.to_string())?;
    let path = running.to_string_lossy();
    let installed = path.strip_suffix(" (deleted)").unwrap_or(&path);
    let output = std::process::Command::new(installed)
        .arg("check")
        .arg(config)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| format!("{installed} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{installed} check: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// What history says of a reload.
fn applied(changes: &[String]) -> String {
    match changes {
        [] => "the configuration was read again; nothing in it has changed".to_owned(),
        changes => format!("the configuration was applied:\n{}", changes.join("\n")),
    }
}

struct Daemon {
    path: PathBuf,
    config: Config,
    identities: Identities,
    /// What an earlier daemon on this host left.
    previous: Previous,
    /// The operator drained this host before this daemon started.
    was_drained: bool,
    started_at: SystemTime,
    node: Node,
    host: Host,
    signals: Signals,
    systemd: Systemd,
    actions: Vec<Action>,
    office: Office,
    /// What clients of the control socket ask.
    requests: Letterbox<PendingRequest>,
    /// Not answered yet.
    asked: Vec<PendingRequest>,
    errands: Letterbox<Errand>,
    errand: Slot<Errand>,
    /// Clients that wait for the end of a hand-over ...
    moves: Vec<Moves>,
    /// ... and the one that waits for the end of a reload.
    reload_asked: Option<Reply>,
    /// The configuration is being read anew.
    reloading: bool,
    /// It is being tried whether a successor could start.
    restarting: bool,
    /// The kernel's picture of the interfaces is awaited, and then told whole.
    links_due: bool,
    begun: bool,
    /// When the watchdog is to be fed; `None`: there is none.
    feed_at: Option<Instant>,
    /// The last turn left something unread.
    more: bool,
    stopping: bool,
    give_up_at: Option<Instant>,
}

impl Daemon {
    fn new(
        options: &Options,
        config: Config,
        identities: Identities,
        helper: Helper,
        worker: Worker,
        runtime_dir: &Path,
        office: Office,
    ) -> Result<Self, Failure> {
        let (record, previous) = Record::open(runtime_dir, clock::suspended())
            .map_err(|e| Failure::System("make the record in the runtime directory", e))?;
        let host = Host::new(Clock::start(), helper, worker, record)
            .map_err(|e| Failure::System("open what the kernel's events need", e))?;
        let signals = Signals::new().map_err(|e| Failure::System("catch signals", e))?;
        let letterbox = |e| Failure::System("make a letterbox", e);
        // Without a control socket nobody asks.
        let (requests, _) = Letterbox::new().map_err(letterbox)?;
        let (errands, errand) = Letterbox::new().map_err(letterbox)?;
        for source in [signals.as_fd(), errands.as_fd()] {
            host.listen_to(source).map_err(|e| Failure::System("wait for signals", e))?;
        }
        let systemd = Systemd::from_env();
        let was_drained = drained::was_drained(&options.state_dir).unwrap_or_else(|error| {
            error!(%error, "cannot see whether this host is drained, so it takes part");
            false
        });
        if was_drained {
            warn!("this host is drained: it takes nothing over until \"vipd undrain\"");
        }
        Ok(Daemon {
            path: options.config.clone(),
            node: Node::new(&config.vrrp),
            config,
            identities,
            previous,
            was_drained,
            started_at: SystemTime::now(),
            host,
            signals,
            feed_at: systemd.watchdog_interval().map(|_| Instant::START),
            systemd,
            actions: Vec::new(),
            office,
            requests,
            asked: Vec::new(),
            errands,
            errand,
            moves: Vec::new(),
            reload_asked: None,
            reloading: false,
            restarting: false,
            links_due: true,
            begun: false,
            more: false,
            stopping: false,
            give_up_at: None,
        })
    }

    /// Answers clients of the control socket from now on.
    fn listen(&mut self, socket: UnixListener, state_dir: &Path) -> Result<(), Failure> {
        let failed = |e| Failure::System("serve the control socket", e);
        let (requests, slot) = Letterbox::new().map_err(failed)?;
        self.host.listen_to(requests.as_fd()).map_err(failed)?;
        self.requests = requests;
        control::serve(socket, state_dir, slot).map_err(failed)
    }

    fn serve(&mut self) -> Result<(), Failure> {
        let lost = |e| Failure::System("go on", e);
        self.host.follow(&self.node, &self.config).map_err(lost)?;
        self.host.watch(&self.config);
        self.office.tidy();
        while !self.is_over() {
            if !self.more
                && let Some(lull) = self.host.lull()
            {
                std::thread::sleep(lull);
            }
            self.turn().map_err(lost)?;
        }
        Ok(())
    }

    /// One round: waits, unless there was more already, then everything that came, then what is due,
    /// then what follows from both.
    fn turn(&mut self) -> io::Result<()> {
        let mut wait = !self.more;
        for _ in 0..ROUNDS {
            self.more = self.host.receive(wait, &mut self.node, &mut self.actions)?;
            wait = false;
            if self.host.others_ready() {
                for signal in self.signals.take() {
                    self.signal(signal);
                }
                for errand in self.errands.letters().collect::<Vec<_>>() {
                    self.returned(errand)?;
                }
                self.asked.extend(self.requests.letters());
            }
            if !self.more {
                break;
            }
        }
        if self.links_due && self.host.knows_links() {
            self.links_due = false;
            if !self.begun {
                self.begun = true;
                self.begin();
                self.systemd.ready("running");
            }
            self.host.tell_links();
        }
        if !self.begun {
            // What an earlier daemon left must be told before anything is decided.
            return Ok(());
        }
        for asked in std::mem::take(&mut self.asked) {
            self.answer(asked);
        }
        self.host.tell(&mut self.node, &mut self.actions);
        let now = self.host.now();
        if self.node.deadline().is_some_and(|at| at <= now) {
            self.handle(now, Event::Timeout);
        }
        loop {
            let mut actions = std::mem::take(&mut self.actions);
            for action in actions.drain(..) {
                self.host.perform(now, action, &self.node);
            }
            self.actions = actions;
            self.host.settle();
            if !self.host.tell(&mut self.node, &mut self.actions) {
                break;
            }
        }
        // Adverts and renewals of all; what a takeover of all needed is not kept.
        self.actions.shrink_to(2 * self.config.vrrp.routers.len() + 64);
        self.report_moves();
        self.feed_watchdog(now);
        if self.node.is_stopped() && self.give_up_at.is_none() {
            self.give_up_at = Some(now + LAST_WORDS);
        }
        let ask_at = Some(self.host.ask_helper(now));
        let deadlines =
            [self.node.deadline(), self.feed_at, self.give_up_at, self.report_moves_at(), ask_at];
        self.host.wake_at(now, deadlines.into_iter().flatten().min());
        Ok(())
    }

    /// systemd restarts a daemon whose advert loop no longer turns.
    fn feed_watchdog(&mut self, now: Instant) {
        if let (Some(every), Some(at)) = (self.systemd.watchdog_interval(), self.feed_at)
            && at <= now
        {
            self.systemd.watchdog();
            self.feed_at = Some(now + every);
        }
    }

    /// For operators who ask later.
    fn note(&mut self, kind: Kind, text: impl Into<String>) {
        self.host.history.note(history::Event::now(kind, None, text));
    }

    fn handle(&mut self, now: Instant, event: Event<'_>) {
        if let Err(discard) = self.node.handle(now, event, &mut self.actions) {
            warn!(%discard, "an event was refused");
        }
    }

    /// The kernel's picture is complete: what an earlier daemon left is told first, then the links.
    fn begin(&mut self) {
        let now = self.host.now();
        let boottime = clock::boottime();
        let resumes_in_last_minute = self.previous.resumes_in_last_minute(boottime);
        let found: BTreeMap<_, _> = self
            .node
            .routers()
            .map(|router| {
                let there = self.host.addresses(&router.config().interface);
                let ours = |ip| there.iter().any(|address| address.ours && address.ip == ip);
                let mut ips = router.addresses().iter().map(|address| address.ip);
                let entry = self.previous.find(router.config()).unwrap_or_default();
                let recorded = Recorded {
                    was_master: entry.master,
                    drained: self.was_drained,
                    held_back: entry.held_back,
                    addresses_present: ips.clone().any(ours),
                    addresses_alive: ips.all(ours),
                    last_advert_age: boottime.saturating_sub(entry.sent_at),
                    resumes_in_last_minute,
                    master_hook_done: entry.hook_done,
                };
                (router.id(), recorded)
            })
            .collect();
        for (interface, address) in self.previous.leftovers(&self.config.vrrp) {
            let there = self.host.addresses(interface);
            if there.iter().any(|there| there.ours && there.ip == address.ip) {
                self.host.release_leftover(interface, address);
            }
        }
        for (router, recorded) in found {
            self.handle(now, Event::Found(router, recorded));
        }
    }

    fn signal(&mut self, signal: Signal) {
        let now = self.host.now();
        match signal {
            Signal::Stop => self.stop(now),
            Signal::Restart => {
                if !self.stopping && !self.restarting {
                    info!("a restart was announced: checking what would start next");
                    self.restarting = true;
                    let path = self.path.clone();
                    self.office.commission(&self.errand, move || successor(&path), Errand::Restart);
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

    fn begin_reload(&mut self) {
        info!(file = %self.path.display(), "reading the configuration again");
        self.systemd.reloading();
        self.reloading = true;
        let path = self.path.clone();
        let work = move || load(&path).map(Box::new).map_err(|problems| problems.to_string());
        self.office.commission(&self.errand, work, Errand::Reload);
    }

    fn stop(&mut self, now: Instant) {
        if !self.stopping {
            info!("stopping");
            self.stopping = true;
            self.systemd.stopping("handing over");
            self.handle(now, Event::Stop(Stop::Leave));
        }
    }

    /// Another process takes this one's place at once, if it can: then nothing is to be moved.
    fn leave_to_successor(&mut self, fit: Result<(), String>) {
        let now = self.host.now();
        match fit {
            Ok(()) => {
                info!("leaving everything as it is to the process that follows");
                self.systemd.stopping("restarting");
                self.handle(now, Event::Stop(Stop::Restart));
            }
            Err(why) => {
                error!("nothing could start after this process, so it hands over: {why}");
                self.stop(now);
            }
        }
    }

    /// What was to be done elsewhere is done.
    fn returned(&mut self, errand: Errand) -> io::Result<()> {
        match errand {
            Errand::Reload(loaded) => {
                self.reloading = false;
                self.reloaded(loaded)
            }
            Errand::Restart(fit) => {
                self.restarting = false;
                self.leave_to_successor(fit);
                Ok(())
            }
        }
    }

    /// The file is applied whole, or not at all.
    fn reloaded(&mut self, loaded: Result<Box<Config>, String>) -> io::Result<()> {
        let outcome = match loaded {
            Err(why) => Err(why),
            Ok(config) => match self.identities.take(&config.vrrp) {
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
                self.note(Kind::Reload, format!("the configuration was refused:\n{why}"));
                error!("the configuration was refused, and the running one stays as it is:\n{why}")
            }
            Ok(changes) => {
                info!(changes = changes.len(), "the configuration was applied");
                self.note(Kind::Reload, applied(changes));
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
        let now = self.host.now();
        self.handle(now, Event::Reload(&config.vrrp));
        self.identities.keep(&config.vrrp);
        self.config = config;
        self.links_due = true;
        self.office.tidy();
        self.host.watch(&self.config);
        self.host.follow(&self.node, &self.config)
    }

    /// Stopped, and nothing is left to do or to wait for.
    fn is_over(&self) -> bool {
        if !self.node.is_stopped() {
            return false;
        }
        if self.host.is_idle() {
            info!("stopped");
            return true;
        }
        let over = self.give_up_at.is_some_and(|at| at <= self.host.now());
        if over {
            warn!("stopped without waiting any longer for hooks");
        }
        over
    }
}
