//! Runs a program: in its own process group, as its user, without privileges, with its output
//! captured, and ended in time.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};
use tracing::error;

use super::exec_hook::ExecSpec;
use super::hook::Outcome;
use super::output::{ProgramOutput, Sink, printable};
use crate::host::sys::Readiness;

/// Between TERM and KILL.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// How long to wait after KILL; a process that hangs in the kernel does not end.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);
/// Most programs end within this. Their output is read only afterwards, because waking up for it
/// would cost more than starting them.
const FAST_EXIT: Duration = Duration::from_millis(100);

/// The soft limit of open files for programs: that of the daemon. The helper itself needs more.
static OPEN_FILES: OnceLock<u64> = OnceLock::new();

pub(super) fn limit_open_files(limit: u64) {
    OPEN_FILES.get_or_init(|| limit);
}

/// A running program. Its process group is killed if this is dropped before the process has ended.
pub(super) struct Program {
    child: Child,
    group: Pid,
    channel: ExecChannel,
    output: ProgramOutput,
}

impl Program {
    /// Starts a program as a user (`None`: the user the daemon was started as) with exactly this
    /// environment.
    pub(super) fn start(
        argv: &[String],
        user: Option<&str>,
        environment: Vec<(String, String)>,
        to: Sink,
    ) -> io::Result<Program> {
        let spec = ExecSpec {
            helper: std::process::id(),
            argv: argv.to_vec(),
            user: user.map(str::to_owned),
            environment,
            open_files: OPEN_FILES.get().copied(),
        };
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (reader, writer) = io::pipe()?;
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut process = std::process::Command::new("/proc/self/exe");
        process
            .arg0("vipd")
            .arg("exec-hook")
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        let mut process = tokio::process::Command::from(process);
        let child = process.spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).ok_or(Errno::ESRCH)?;
        Ok(Program {
            child,
            group: Pid::from_raw(group),
            channel: ExecChannel::new(ours, serde_json::to_vec(&spec)?),
            output: ProgramOutput::new(reader, to),
        })
    }

    /// Waits for the program to end. If this future is dropped, call `end` or `kill`.
    pub(super) async fn run(&mut self) -> Outcome {
        let ended = match timeout(FAST_EXIT, self.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => self.serve().await,
        };
        match ended {
            Ok(status) => {
                let why = self.channel.refusal();
                if why.is_empty() { outcome_of(status) } else { Outcome::NotRun(why) }
            }
            Err(error) => Outcome::NotRun(format!("cannot wait for it: {error}")),
        }
    }

    /// Waits for the program to end, while sending the rest of the spec and reading output.
    async fn serve(&mut self) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                () = self.channel.send(), if !self.channel.spec.is_empty() => {}
                () = self.output.read(), if !self.output.ended => {}
            }
        }
    }

    /// Sends TERM to the process group, and KILL when [`KILL_GRACE`] is over or the program has
    /// ended. The leader is not reaped before that, so the group number cannot have been reused.
    pub(super) async fn end(&mut self) {
        if let Err(error) = killpg(self.group, Signal::SIGTERM) {
            error!(pid = self.group.as_raw(), "cannot end a hook: {error}");
        }
        let grace_ends = Instant::now() + KILL_GRACE;
        while Instant::now() < grace_ends && !(self.output.ended && has_exited(self.group)) {
            let _ = timeout(Duration::from_millis(20), async {
                if !self.output.ended {
                    self.output.read().await;
                } else {
                    sleep(KILL_GRACE).await;
                }
            })
            .await;
        }
        self.kill();
        if !self.is_gone(KILL_TIMEOUT).await {
            error!(pid = self.group.as_raw(), "a killed hook does not end");
        }
    }

    /// Sends KILL to the process group, unless its leader has been reaped.
    pub(super) fn kill(&self) {
        if self.child.id().is_some() {
            let _ = killpg(self.group, Signal::SIGKILL);
            let _ = kill(self.group, Signal::SIGKILL);
        }
    }

    /// Waits at most `limit`; whether the process has ended.
    pub(super) async fn is_gone(&mut self, limit: Duration) -> bool {
        timeout(limit, self.child.wait()).await.is_ok()
    }

    pub(super) fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// Reads the remaining output, and returns what is kept of it.
    pub(super) fn finish_output(&mut self) -> String {
        self.output.finish()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        self.output.detach();
    }
}

/// The socket that sends the spec to exec-hook and returns the reason of a failure.
struct ExecChannel {
    stream: StdUnixStream,
    /// The part of the spec not sent yet.
    spec: Vec<u8>,
}

impl ExecChannel {
    /// Sends what the socket accepts: everything, unless the spec is very long.
    fn new(stream: StdUnixStream, spec: Vec<u8>) -> Self {
        let mut channel = ExecChannel { stream, spec };
        channel.advance();
        channel
    }

    /// Ignores errors: they mean that the process has ended, which `run` notices.
    fn advance(&mut self) {
        match self.stream.write(&self.spec) {
            Ok(sent) => drop(self.spec.drain(..sent)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(_) => self.spec.clear(),
        }
        if self.spec.is_empty() {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Waits until the socket accepts more.
    async fn send(&mut self) {
        match Readiness::of(&self.stream, Interest::WRITABLE) {
            Ok(readiness) => drop(readiness.writable().await),
            Err(_) => self.spec.clear(),
        }
        self.advance();
    }

    /// The reason why exec-hook failed; empty if it executed the program.
    fn refusal(&mut self) -> String {
        let mut why = Vec::new();
        let _ = (&self.stream).take(4096).read_to_end(&mut why);
        printable(&why)
    }
}

fn outcome_of(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Done,
        (Some(code), _) => Outcome::Exited(code),
        (None, signal) => Outcome::Killed(signal.unwrap_or_default()),
    }
}

/// Whether the process has ended, without reaping it.
fn has_exited(process: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(process), flags), Ok(WaitStatus::StillAlive))
}

/// The only variable that programs inherit.
pub(super) fn language() -> Option<(String, String)> {
    Some(("LANG".to_owned(), std::env::var("LANG").ok()?))
}
