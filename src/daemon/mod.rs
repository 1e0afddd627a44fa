//! The daemon: its start, in the order that privileges and other daemons ask for, and its end.
//!
//! [`event_loop`] is the advert loop. What it must not wait for is done by [`background`] and, for
//! clients, by [`control`]; hooks and checks run in the helper process ([`hooks`]).

mod background;
mod check_runs;
mod commands;
mod control;
mod counters;
mod drained;
mod driver;
mod effects;
mod event_loop;
pub(crate) mod history;
mod hooks;
mod interfaces;
mod moves;
mod source;
pub(crate) mod status;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use crate::config::{Config, Problems, ProgramFaults, ProgramUse};
use crate::helper::Helper;
use crate::host::exclusive::{self, LockConflict, RouterLocks, RuntimeDir};
use crate::host::files::Directory;
use crate::host::netlink::Worker;
use crate::host::{backoff, kernel, orphans, privileges, sandbox, sys};
use background::Background;
use event_loop::EventLoop;
use history::{EventKind, History};

/// Real-time priority of the advert loop: above everything ordinary, below the kernel's watchdogs.
const REALTIME_PRIORITY: u8 = 50;

/// The daemon's files and directories.
#[derive(Clone, Debug)]
pub struct Options {
    pub config: PathBuf,
    /// The runtime directory: lock, record, control socket. Emptied by a reboot.
    pub runtime_dir: PathBuf,
    /// The state directory: what must survive a reboot.
    pub state_dir: PathBuf,
    /// Where all daemons of the host lock their virtual routers.
    pub lock_dir: PathBuf,
}

/// Why the daemon did not start, or ended.
#[derive(Debug)]
pub enum DaemonError {
    Config(Problems),
    /// Another daemon holds a lock that this one needs.
    Taken(LockConflict),
    /// The kernel cannot mark addresses.
    Kernel(String),
    Privileges(String),
    /// Others can change the state directory: where, and how.
    StateDir(PathBuf, String),
    /// The system refused something without which nothing works.
    System(&'static str, io::Error),
}

impl fmt::Display for DaemonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaemonError::Config(problems) => problems.fmt(f),
            DaemonError::Taken(taken) => taken.fmt(f),
            DaemonError::Kernel(release) => write!(
                f,
                "Linux {release} cannot mark addresses as ours (IFA_PROTO): 5.18 or newer is needed"
            ),
            DaemonError::Privileges(what) => f.write_str(what),
            DaemonError::StateDir(path, why) => {
                write!(f, "cannot use the state directory {}: {why}", path.display())
            }
            DaemonError::System(what, error) => write!(f, "cannot {what}: {error}"),
        }
    }
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// It cannot start, or the kernel withdraws something that it cannot work without.
pub fn run(options: &Options) -> Result<(), DaemonError> {
    sys::map_large_allocations();
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        std::thread::sleep(backoff::restart_delay(&options.runtime_dir));
    }
    let config = load(&options.config).map_err(DaemonError::Config)?;
    let runtime = RuntimeDir::lock(&options.runtime_dir).map_err(DaemonError::Taken)?;
    // One that cannot be written is another matter: it costs the history.
    if let Some(why) = Directory::refusal(&options.state_dir) {
        return Err(DaemonError::StateDir(options.state_dir.clone(), why));
    }
    let mut warnings = Vec::new();
    let mut router_locks = RouterLocks::open(&options.lock_dir).unwrap_or_else(|error| {
        warnings.push(exclusive::without_locks(&options.lock_dir, &error));
        RouterLocks::default()
    });
    router_locks.acquire(&config.vrrp).map_err(DaemonError::Taken)?;
    if let Some(release) = kernel::too_old() {
        return Err(DaemonError::Kernel(release));
    }
    let missing = privileges::missing();
    if !missing.is_empty() {
        return Err(DaemonError::Privileges(privileges::explain(&missing)));
    }
    // Started first: it keeps the capabilities that hooks of other users need, and this process those
    // that the network needs.
    let mut helper =
        Helper::start().map_err(|e| DaemonError::System("start the helper process", e))?;
    check_host(&config, |programs| helper.examine_now(programs)).map_err(DaemonError::Config)?;
    let listener = control::bind(runtime.directory(), &mut warnings);
    warnings.extend(harden());
    // One that does not exist now is not written later either.
    let _ = Directory::create(&options.state_dir);
    let writable = [runtime.directory().path(), &options.state_dir, &options.lock_dir];
    if let Err(error) = sandbox::enter(&writable) {
        warnings.push(format!("this kernel restricts the daemon less than others: {error}"));
    }
    // The worker inherits real-time priority, which can no longer be requested after this; threads
    // that are started later must not have it.
    let worker = Worker::start().map_err(|e| DaemonError::System("start the netlink worker", e))?;
    let _ = privileges::realtime(REALTIME_PRIORITY);
    let log = crate::host::log::init();
    for warning in warnings {
        warn!("{warning}");
    }
    let runtime_dir = runtime.directory().path();
    let background = Background::start().map_err(|e| DaemonError::System("start a thread", e))?;
    let runtime_of_tasks = background.runtime().clone();
    let _spawning_works = runtime_of_tasks.enter();
    tokio::spawn(orphans::reap(helper.pid()));
    let mut event_loop =
        EventLoop::new(options, config, router_locks, helper, worker, runtime_dir, background)?;
    if let Some(listener) = listener {
        event_loop.listen(listener, &options.state_dir, runtime_dir)?;
    }
    event_loop.driver.history = History::start(&options.state_dir);
    event_loop.note(EventKind::Daemon, format!("vipd {} is running", env!("CARGO_PKG_VERSION")));
    info!(
        node = %event_loop.config.node.name,
        pid = std::process::id(),
        runtime_dir = %runtime_dir.display(),
        version = env!("CARGO_PKG_VERSION"),
        "vipd is running"
    );
    // If it fails, that costs memory and nothing else.
    let _ = sys::release_code_pages();
    let outcome = event_loop.serve();
    // Nothing is urgent from now on, and waiting for the log at real-time priority would keep other
    // processes from the processor.
    if let Err(error) = privileges::drop_realtime() {
        warn!(%error, "cannot give up real-time priority");
    }
    event_loop.note(EventKind::Daemon, "vipd has ended");
    event_loop.end();
    drop(log);
    outcome
}

/// Reads and checks the file as `run` and a reload need it: with at least one virtual router.
fn load(path: &Path) -> Result<Config, Problems> {
    let mut config = Config::load(path)?;
    config.require_routers()?;
    // Only `vipd check` shows advice.
    config.advice = Vec::new();
    Ok(config)
}

/// Whether its hooks and checks can be run here. `examine`: has the helper look at their programs and
/// users, since looking up a user may run anything and this process has capabilities.
fn check_host(
    config: &Config,
    examine: impl FnOnce(BTreeSet<ProgramUse>) -> Result<ProgramFaults, String>,
) -> Result<(), Problems> {
    let programs = config.programs();
    let faults = if programs.is_empty() { Ok(Vec::new()) } else { examine(programs) };
    config.check_host_with(&faults.map_err(|why| config.not_examined(&why))?)
}

/// Asks for real-time priority and locked memory, and gives up every capability that is not needed.
/// Returns a warning for each that is refused: none of them is a reason not to run.
fn harden() -> Vec<String> {
    let mut warnings = Vec::new();
    if let Err(error) = privileges::realtime_for_all(REALTIME_PRIORITY) {
        warnings.push(format!(
            "no real-time priority ({error}): under load adverts may be late; set LimitRTPRIO=50, or give it CAP_SYS_NICE"
        ));
    }
    if let Err(error) = privileges::lock_memory() {
        warnings.push(format!(
            "memory is not locked ({error}): when the host swaps, adverts may be late; set LimitMEMLOCK=infinity, or give it CAP_IPC_LOCK"
        ));
    }
    // Each interface needs three descriptors. The helper process has been started before this.
    if let Err(error) = privileges::raise_open_files() {
        warnings.push(format!("the limit on open files cannot be raised: {error}"));
    }
    if let Err(error) = privileges::keep_only(&privileges::NEEDED) {
        warnings.push(format!("cannot give up privileges: {error}"));
    }
    warnings
}
