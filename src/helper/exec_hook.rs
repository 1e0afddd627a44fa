//! `vipd exec-hook`: a fresh process that supervises the program of a hook or check, and its child,
//! which drops all privileges, changes to the configured user, and executes the program. Slow steps
//! (a user in LDAP, a script on a hanging file system) count towards the program's own timeout.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Pid, User};
use serde::{Deserialize, Serialize};

use super::hook::Outcome;
use super::supervisor;
use crate::host::{privileges, sys};

/// What to execute. Sent through standard input, so that `ps` shows only the program's own
/// arguments.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    /// The process id of the helper; if it has ended, the program is not executed.
    pub helper: u32,
    /// The program and its arguments.
    pub argv: Vec<String>,
    pub user: Option<String>,
    /// The environment, without the variables of the user.
    pub environment: Vec<(String, String)>,
    /// The soft limit of open files that the daemon was started with.
    pub open_files: Option<u64>,
}

/// The exit status if no program was executed.
const NOT_RUN: u8 = 127;

/// The entry point of `vipd exec-hook`, which only the helper starts: executes the program, waits
/// for it, and ends with its exit status. What an exit status cannot say is written to the socket on
/// standard input, as an [`Outcome`]: the signal that ended the program, or why it was not run.
pub fn exec_hook(_args: Vec<OsString>) -> ExitCode {
    let control = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(control) => UnixStream::from(control),
        Err(_) => return ExitCode::from(NOT_RUN),
    };
    match supervise(&control) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Exited(status)) => ExitCode::from(status as u8),
        Ok(other) => report(&control, &other),
        Err(why) => report(&control, &Outcome::NotRun(why)),
    }
}

fn report(mut control: &UnixStream, outcome: &Outcome) -> ExitCode {
    let report = serde_json::to_vec(outcome).unwrap_or_default();
    if control.write_all(&report).is_err() {
        eprintln!("vipd exec-hook is started by vipd's helper only: {outcome}");
    }
    ExitCode::from(NOT_RUN)
}

/// Starts the program and waits for it. The process of the program returns only if it cannot be
/// executed, with the reason.
fn supervise(mut control: &UnixStream) -> Result<Outcome, String> {
    // Whatever was open where the daemon was started.
    sys::close_on_exec_from(3).map_err(|error| format!("cannot close descriptors: {error}"))?;
    let mut spec = Vec::new();
    control
        .read_to_end(&mut spec)
        .map_err(|error| format!("cannot read what to execute: {error}"))?;
    let spec: ExecSpec = serde_json::from_slice(&spec)
        .map_err(|error| format!("cannot read what to execute: {error}"))?;
    let signals = supervisor::prepare(spec.helper)?;
    let ours = unistd::getpid();
    match sys::fork().map_err(|error| format!("cannot start a process: {error}"))? {
        Some(program) => supervisor::supervise(program, &signals)
            .map(Outcome::of)
            .ok_or_else(|| "its end was not noticed".into()),
        None => {
            let Err(why) = become_hook(spec, ours);
            Err(why)
        }
    }
}

/// Returns only on failure, with the reason.
fn become_hook(spec: ExecSpec, supervisor: Pid) -> Result<Infallible, String> {
    // Without a controlling terminal: it could type into that (TIOCSTI, tty_ioctl(4)).
    unistd::setsid().map_err(|error| format!("cannot make a session: {error}"))?;
    let (name, arguments) = spec.argv.split_first().ok_or("no program is named")?;
    let user = spec.user.as_deref().map(look_up).transpose()?;
    let program = crate::config::find_program(name, user.as_ref())
        .map_err(|(what, help)| format!("{what} ({help})"))?;
    reset_process_state().map_err(|error| format!("cannot reset the process: {error}"))?;
    privileges::restrict_executed_programs(&[])
        .map_err(|error| format!("cannot drop privileges: {error}"))?;
    if let Some(user) = &user {
        become_user(user)?;
    }
    privileges::keep_only(&[]).map_err(|error| format!("cannot drop privileges: {error}"))?;
    if let Some(files) = spec.open_files
        && let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE)
    {
        setrlimit(Resource::RLIMIT_NOFILE, files.min(most), most)
            .map_err(|error| error.to_string())?;
    }
    // Not earlier, because changing the user clears it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| error.to_string())?;
    if unistd::getppid() != supervisor {
        return Err("its supervisor has ended".into());
    }

    let mut hook = std::process::Command::new(&program);
    hook.arg0(name).args(arguments).env_clear().envs(spec.environment);
    if let Some(user) = user {
        hook.env("HOME", user.dir).env("SHELL", user.shell).env("USER", &user.name);
        hook.env("LOGNAME", user.name);
    }
    Err(format!("{} cannot be executed: {}", program.display(), hook.exec()))
}

/// Resets what a hook must not inherit: signals, umask, directory, scheduling and OOM score.
fn reset_process_state() -> io::Result<()> {
    let devnull = std::fs::File::open("/dev/null")?;
    unistd::dup2_stdin(devnull)?;
    umask(Mode::from_bits_truncate(0o022));
    unistd::chdir("/")?;
    // exec resets handled signals to their default, but leaves ignored ones ignored.
    let noticed = Arc::new(AtomicBool::new(false));
    for signal in 1..=64 {
        if !signal_hook::consts::FORBIDDEN.contains(&signal) {
            // Some numbers are not signals that can be handled.
            let _ = signal_hook::flag::register(signal, Arc::clone(&noticed));
        }
    }
    SigSet::empty().thread_set_mask()?;
    sys::set_scheduler(libc::SCHED_OTHER, 0)?;
    // LimitRTPRIO of the unit is meant for the daemon only.
    sys::forbid_realtime()?;
    // Raising the score is always allowed; without the file there is nothing to reset.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    Ok(())
}

fn look_up(name: &str) -> Result<User, String> {
    User::from_name(name)
        .map_err(|error| format!("user {name:?} cannot be looked up: {error}"))?
        .ok_or_else(|| format!("there is no user {name:?}"))
}

/// Changes to the user, with all its groups.
fn become_user(user: &User) -> Result<(), String> {
    let already = unistd::getresuid()
        .is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [user.uid; 3])
        && unistd::getresgid()
            .is_ok_and(|ids| [ids.real, ids.effective, ids.saved] == [user.gid; 3]);
    let login = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL);
    let result = login.and_then(|login| {
        unistd::initgroups(&login, user.gid)?;
        unistd::setresgid(user.gid, user.gid, user.gid)?;
        unistd::setresuid(user.uid, user.uid, user.uid)
    });
    match result {
        Err(Errno::EPERM) if already => Ok(()),
        result => result.map_err(|error| format!("cannot become user {:?}: {error}", user.name)),
    }
}
