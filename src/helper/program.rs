//! Runs a program: in its own session, as its user, without privileges, with its output captured,
//! and ended in time, with everything that it started.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::error;

use super::exec_hook::ExecSpec;
use super::hook::Outcome;
use super::output::{ProgramOutput, Sink, printable};
use super::{children, supervisor};
use crate::host::sys::Readiness;

/// Between TERM and KILL.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// How long to wait after KILL; a process that hangs in the kernel does not end.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);
/// Most programs end within this. Their output is read only afterwards, because waking up for it
/// would cost more than starting them.
const FAST_EXIT: Duration = Duration::from_millis(100);
/// Ample for what exec-hook writes, in bytes.
const MAX_REPORTS: u64 = 64 << 10;

/// The soft limit of open files for programs: that of the daemon. The helper itself needs more.
static OPEN_FILES: OnceLock<u64> = OnceLock::new();

pub(super) fn limit_open_files(limit: u64) {
    OPEN_FILES.get_or_init(|| limit);
}

/// A running program. It is killed with everything that it started if this is dropped before it has
/// ended.
pub(super) struct Program {
    /// The process of the supervisor, which ends with the program.
    supervisor: i32,
    ended: oneshot::Receiver<ExitStatus>,
    /// The supervisor has ended.
    gone: bool,
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
        // It is reaped with all other children.
        let supervisor = i32::try_from(process.spawn()?.id()).map_err(|_| Errno::ESRCH)?;
        Ok(Program {
            supervisor,
            ended: children::wait_for(supervisor),
            gone: false,
            channel: ExecChannel::new(ours, serde_json::to_vec(&spec)?),
            output: ProgramOutput::new(reader, to),
        })
    }

    /// Waits for the program to end. If this future is dropped, call `end` or `kill`.
    pub(super) async fn run(&mut self) -> Outcome {
        let ended = match timeout(FAST_EXIT, &mut self.ended).await {
            Ok(ended) => ended,
            Err(_) => self.serve().await,
        };
        self.gone = true;
        match (self.channel.report(), ended) {
            (Some(outcome), _) => outcome,
            (None, Ok(status)) => Outcome::of(status),
            (None, Err(error)) => Outcome::NotRun(format!("cannot wait for it: {error}")),
        }
    }

    /// Waits for the program to end, while sending the rest of the spec and reading output.
    async fn serve(&mut self) -> Result<ExitStatus, oneshot::error::RecvError> {
        loop {
            tokio::select! {
                status = &mut self.ended => return status,
                () = self.channel.send(), if !self.channel.spec.is_empty() => {}
                () = self.output.read(), if !self.output.ended => {}
            }
        }
    }

    /// Sends TERM to the program and everything that it started, and KILL to what is left of it
    /// after [`KILL_GRACE`].
    pub(super) async fn end(&mut self) {
        children::signal(self.supervisor, supervisor::TERMINATE);
        let grace_ends = Instant::now() + KILL_GRACE;
        while !self.gone && Instant::now() < grace_ends {
            tokio::select! {
                _ = &mut self.ended => self.gone = true,
                () = self.output.read(), if !self.output.ended => {}
                () = sleep_until(grace_ends) => {}
            }
        }
        self.kill();
        if !self.is_gone(KILL_TIMEOUT).await {
            error!(pid = self.supervisor, "a killed hook does not end");
        }
    }

    /// Sends KILL to the program and everything that it started.
    pub(super) fn kill(&self) {
        children::signal(self.supervisor, supervisor::KILL);
    }

    /// Waits at most `limit`; whether the program and everything that it started have ended.
    pub(super) async fn is_gone(&mut self, limit: Duration) -> bool {
        self.gone = self.gone || timeout(limit, &mut self.ended).await.is_ok();
        self.gone
    }

    /// The process id of the supervisor.
    pub(super) fn pid(&self) -> i32 {
        self.supervisor
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

/// The socket that sends the spec to exec-hook and returns what its exit status does not say.
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

    /// What exec-hook wrote: why the program was not executed, or which signal ended it.
    fn report(&mut self) -> Option<Outcome> {
        let mut reports = Vec::new();
        let _ = (&self.stream).take(MAX_REPORTS).read_to_end(&mut reports);
        // The process that could not execute the program reports first, its supervisor next.
        match serde_json::Deserializer::from_slice(&reports).into_iter().next()?.ok()? {
            Outcome::NotRun(why) => Some(Outcome::NotRun(printable(why.as_bytes()))),
            outcome => Some(outcome),
        }
    }
}

/// The only variable that programs inherit.
pub(super) fn language() -> Option<(String, String)> {
    Some(("LANG".to_owned(), std::env::var("LANG").ok()?))
}
