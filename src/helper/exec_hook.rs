//! A hook's first steps: a fresh process that gives everything up, becomes the configured user and
//! then executes the hook. Whatever takes time here (a user in LDAP, a script on a stuck file
//! system) is within the hook's own timeout.

use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, AccessFlags, User};
use serde::{Deserialize, Serialize};

use crate::host::{privileges, sys};

/// Where programs without a slash are looked for, and what hooks get as `PATH`.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is to be executed; comes through standard input, so that `ps` shows the hook's own
/// arguments only, and once.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The helper's process id: without it, nobody waits for the hook.
    pub helper: u32,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Whom to become.
    pub user: Option<String>,
    /// All of its environment but the user's.
    pub environment: Vec<(String, String)>,
}

/// The entry point of `vipd exec-hook`, which only the helper calls: becomes the hook, or writes
/// why not to the socket on its standard input and returns.
pub fn exec_hook(_args: Vec<OsString>) -> ExitCode {
    let control = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(control) => UnixStream::from(control),
        Err(_) => return ExitCode::from(127),
    };
    let Err(why) = become_hook(&control);
    if (&control).write_all(why.as_bytes()).is_err() {
        eprintln!("vipd exec-hook is started by vipd's helper only: {why}");
    }
    ExitCode::from(127)
}

/// Returns only if it could not, with the reason.
fn become_hook(mut control: &UnixStream) -> Result<std::convert::Infallible, String> {
    let mut order = Vec::new();
    control.read_to_end(&mut order).map_err(|error| format!("no order: {error}"))?;
    let order: Order =
        serde_json::from_slice(&order).map_err(|error| format!("no order: {error}"))?;
    let (name, arguments) = order.argv.split_first().ok_or("no program is named")?;

    forget_surroundings().map_err(|error| format!("cannot start afresh: {error}"))?;
    privileges::never_regain(&[]).map_err(|error| format!("cannot drop privileges: {error}"))?;
    let user = order.user.as_deref().map(become_user).transpose()?;
    privileges::keep_only(&[]).map_err(|error| format!("cannot drop privileges: {error}"))?;
    // A change of user clears it, so only now.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| error.to_string())?;
    if unistd::getppid().as_raw() != order.helper.cast_signed() {
        return Err("the helper has ended".into());
    }

    let program = find_program(name)?;
    let mut hook = std::process::Command::new(&program);
    hook.arg0(name).args(arguments).env_clear().envs(order.environment);
    if let Some(user) = user {
        hook.env("HOME", user.dir).env("SHELL", user.shell).env("USER", &user.name);
        hook.env("LOGNAME", user.name);
    }
    Err(format!("{} cannot be executed: {}", program.display(), hook.exec()))
}

/// Undoes what a hook must not inherit: signals, umask, directory, real-time and OOM priority.
fn forget_surroundings() -> io::Result<()> {
    let devnull = std::fs::File::open("/dev/null")?;
    unistd::dup2_stdin(devnull)?;
    umask(Mode::from_bits_truncate(0o022));
    unistd::chdir("/")?;
    // A signal that is handled becomes its default when the hook is executed, one that was ignored
    // would stay so.
    let noticed = Arc::new(AtomicBool::new(false));
    for signal in 1..=64 {
        if !signal_hook::consts::FORBIDDEN.contains(&signal) {
            // Not every number is a signal one can handle.
            let _ = signal_hook::flag::register(signal, Arc::clone(&noticed));
        }
    }
    SigSet::empty().thread_set_mask()?;
    sys::set_scheduler(libc::SCHED_OTHER, 0)?;
    // Raising it again is always allowed; where there is no such file there is nothing to undo.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    Ok(())
}

/// Becomes the user, with all groups it is a member of.
fn become_user(name: &str) -> Result<User, String> {
    let user = User::from_name(name)
        .map_err(|error| format!("user {name:?} cannot be looked up: {error}"))?
        .ok_or_else(|| format!("there is no user {name:?}"))?;
    let already = unistd::getresuid()
        .is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [user.uid; 3])
        && unistd::getresgid()
            .is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [user.gid; 3]);
    let result = CString::new(name).map_err(|_| Errno::EINVAL).and_then(|login| {
        unistd::initgroups(&login, user.gid)?;
        unistd::setresgid(user.gid, user.gid, user.gid)?;
        unistd::setresuid(user.uid, user.uid, user.uid)
    });
    match result {
        Ok(()) => Ok(user),
        Err(Errno::EPERM) if already => Ok(user),
        Err(error) => Err(format!("cannot become user {name:?}: {error}")),
    }
}

/// The file that `program` means to a hook: an absolute path, or a name in a fixed search path.
///
/// # Errors
/// It is missing, not executable, or could be replaced or changed by anybody: the reason, in words
/// for the operator.
pub fn find_program(program: &str) -> Result<PathBuf, String> {
    let path = if program.contains('/') {
        PathBuf::from(program)
    } else {
        PATH.split(':')
            .map(|directory| Path::new(directory).join(program))
            .find(|path| path.is_file())
            .ok_or_else(|| format!("{program} is not in {PATH}"))?
    };
    if !path.is_absolute() {
        return Err(format!("{program} is not an absolute path"));
    }
    let real = path.canonicalize().map_err(|error| format!("{program}: {error}"))?;
    let metadata = real.metadata().map_err(|error| format!("{program}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{program} is not a file"));
    }
    if unistd::access(&real, AccessFlags::X_OK).is_err() {
        return Err(format!("{program} is not executable"));
    }
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    if metadata.permissions().mode() & OTHERS_WRITE != 0 {
        return Err(format!("{program} is writable by others"));
    }
    // A link is as safe as the directories it lies in.
    for directory in path.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        let mode = directory.metadata().map_err(|error| format!("{program}: {error}"))?.mode();
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Err(format!("{program} is in {}, writable by others", directory.display()));
        }
    }
    Ok(path)
}
