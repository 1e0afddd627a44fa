//! A program that runs: in a process group of its own, as its user, without any privilege, its
//! output to the log or kept, its end in time.

use std::io::{self, PipeReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::exec_hook::Order;
use super::process::open_files_before;
use super::{HookState, Outcome};
use crate::host::sys::Readiness;

/// Between TERM and KILL.
const MERCY: Duration = Duration::from_secs(2);
/// After KILL; a process stuck in the kernel may outlive it.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// Most programs end within this. Nothing they write is read before, for being woken for it and told
/// of it would cost more than starting them.
const SOON: Duration = Duration::from_millis(100);
/// How long the output of a program that has ended is still read.
const DRAIN: Duration = Duration::from_millis(100);
/// Of the output of one hook, this much is logged.
const MAX_LINES: usize = 100;
const MAX_LINE: usize = 1000;
/// Of the output of one check, this much is kept: the end, which says what went wrong.
const MAX_KEPT: usize = 400;
/// So many pipes are held open for what programs left running in the background.
const MAX_LEFTOVERS: usize = 64;

/// A program that runs: its process leads a process group of its own, which is killed if this is
/// dropped before the process has ended.
pub(super) struct Program {
    child: Child,
    group: Pid,
    control: Control,
    output: Output,
}

impl Program {
    /// Starts a program as a user (`None`: as the daemon was started) with this environment and
    /// nothing else.
    pub(super) fn start(
        argv: &[String],
        user: Option<&str>,
        environment: Vec<(String, String)>,
        to: Sink,
    ) -> io::Result<Program> {
        let order = Order {
            helper: std::process::id(),
            argv: argv.to_vec(),
            user: user.map(str::to_owned),
            environment,
            open_files: open_files_before(),
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
            control: Control::new(ours, serde_json::to_vec(&order)?),
            output: Output { pipe: reader, watched: None, ended: false, to },
        })
    }

    /// Waits for its end. If this is dropped before, what is left to do is to end the program.
    pub(super) async fn run(&mut self) -> Outcome {
        let ended = match timeout(SOON, self.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => self.attend().await,
        };
        match ended {
            Ok(status) => {
                let why = self.control.refusal();
                if why.is_empty() { of_status(status) } else { Outcome::NotRun(why) }
            }
            Err(error) => Outcome::NotRun(format!("cannot wait for it: {error}")),
        }
    }

    /// Waits for its end, gives it its order and takes what it writes.
    async fn attend(&mut self) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                () = self.control.send(), if !self.control.order.is_empty() => {}
                () = self.output.read(), if !self.output.ended => {}
            }
        }
    }

    /// TERM to the whole process group, and KILL when its time is up or nobody is left to mind. Its
    /// leader is not reaped before that, so the number cannot have become another group's.
    pub(super) async fn end(&mut self) {
        if let Err(error) = killpg(self.group, Signal::SIGTERM) {
            error!(pid = self.group.as_raw(), "cannot end a hook: {error}");
        }
        let mercy = Instant::now() + MERCY;
        while Instant::now() < mercy && !(self.output.ended && has_exited(self.group)) {
            let _ = timeout(Duration::from_millis(20), async {
                if !self.output.ended {
                    self.output.read().await;
                } else {
                    sleep(MERCY).await;
                }
            })
            .await;
        }
        self.kill();
        if !self.is_gone(LAST_PATIENCE).await {
            error!(pid = self.group.as_raw(), "a killed hook does not end");
        }
    }

    /// KILL to the whole process group, if its leader has not been reaped.
    pub(super) fn kill(&self) {
        if self.child.id().is_some() {
            let _ = killpg(self.group, Signal::SIGKILL);
            let _ = kill(self.group, Signal::SIGKILL);
        }
    }

    /// Whether its process has ended, at the latest after `patience`.
    pub(super) async fn is_gone(&mut self, patience: Duration) -> bool {
        timeout(patience, self.child.wait()).await.is_ok()
    }

    /// Its process id.
    pub(super) fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// Takes what it had written when it ended; gives what is kept of it, for a person to read.
    pub(super) fn last_words(&mut self) -> String {
        self.output.finish()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        self.output.leave();
    }
}

/// The way of the order to the process, and of its refusal back.
struct Control {
    stream: StdUnixStream,
    /// What is left to be sent.
    order: Vec<u8>,
}

impl Control {
    /// Sends what the socket takes; that is all of it, unless it is very long.
    fn new(stream: StdUnixStream, order: Vec<u8>) -> Self {
        let mut control = Control { stream, order };
        control.advance();
        control
    }

    /// An error means that the process has ended, and that is noticed elsewhere.
    fn advance(&mut self) {
        match self.stream.write(&self.order) {
            Ok(sent) => drop(self.order.drain(..sent)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(_) => self.order.clear(),
        }
        if self.order.is_empty() {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Waits until more can be sent, and sends it.
    async fn send(&mut self) {
        match Readiness::of(&self.stream, Interest::WRITABLE) {
            Ok(readiness) => drop(readiness.writable().await),
            Err(_) => self.order.clear(),
        }
        self.advance();
    }

    /// Why the process that has ended refused; nobody else held the other end.
    fn refusal(&mut self) -> String {
        let mut why = Vec::new();
        let _ = (&self.stream).take(4096).read_to_end(&mut why);
        printable(&why)
    }
}

fn of_status(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Done,
        (Some(code), _) => Outcome::Exited(code),
        (None, signal) => Outcome::Killed(signal.unwrap_or_default()),
    }
}

/// Whether the process has ended; it is not reaped.
fn has_exited(process: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(process), flags), Ok(WaitStatus::StillAlive))
}

/// Where the output of a program goes.
pub(super) enum Sink {
    /// To the log, line by line.
    Log(Lines),
    /// Nowhere, but the end of it is kept.
    Keep(Vec<u8>),
}

/// What a hook prints, on its way to the log.
pub(super) struct Lines {
    router: String,
    state: HookState,
    program: String,
    line: Vec<u8>,
    cut: bool,
    lines: usize,
    lost: usize,
}

impl Lines {
    /// Lines of this hook.
    pub(super) fn of(router: &str, state: HookState, program: &str) -> Self {
        Lines {
            router: router.to_owned(),
            state,
            program: program.to_owned(),
            line: Vec::new(),
            cut: false,
            lines: 0,
            lost: 0,
        }
    }

    fn push(&mut self, byte: u8) {
        if byte == b'\n' {
            self.log_line();
        } else if self.line.len() < MAX_LINE {
            self.line.push(byte);
        } else {
            self.cut = true;
        }
    }

    fn log_line(&mut self) {
        if self.lines < MAX_LINES {
            self.lines += 1;
            let text = printable(&self.line);
            let cut = if self.cut { "... (cut)" } else { "" };
            let (router, state, program) = (&*self.router, self.state.as_str(), &*self.program);
            info!(router, state, program, "{text}{cut}");
        } else {
            self.lost += 1;
        }
        self.line.clear();
        self.cut = false;
    }

    fn finish(&mut self) {
        if !self.line.is_empty() {
            self.log_line();
        }
        if self.lost > 0 {
            let (router, state, program) = (&*self.router, self.state.as_str(), &*self.program);
            warn!(router, state, program, "{} more lines of output are not logged", self.lost);
            self.lost = 0;
        }
    }
}

/// What a program prints.
struct Output {
    pipe: PipeReader,
    /// Set up when it is waited for.
    watched: Option<Readiness>,
    /// Everybody who could write has closed it.
    ended: bool,
    to: Sink,
}

impl Output {
    /// Waits for output and takes some of it.
    async fn read(&mut self) {
        let watched = match self.watched.take() {
            Some(watched) => Ok(watched),
            None => Readiness::of(&self.pipe, Interest::READABLE),
        };
        let Ok(watched) = watched else {
            self.ended = true;
            return;
        };
        match watched.readable().await {
            Ok(mut guard) => {
                if !self.take() {
                    guard.clear_ready();
                }
            }
            Err(_) => self.ended = true,
        }
        self.watched = Some(watched);
    }

    /// Takes some of what is there; `false` if there is nothing now.
    fn take(&mut self) -> bool {
        let mut buffer = [0; 8192];
        match self.pipe.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                match &mut self.to {
                    Sink::Log(lines) => bytes.iter().for_each(|byte| lines.push(*byte)),
                    Sink::Keep(kept) => {
                        kept.extend_from_slice(bytes);
                        // One more, to know that there was more.
                        kept.drain(..kept.len().saturating_sub(MAX_KEPT + 1));
                    }
                }
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => self.ended = true,
        }
        false
    }

    fn finish(&mut self) -> String {
        let begin = Instant::now();
        while !self.ended && begin.elapsed() < DRAIN && self.take() {}
        match &mut self.to {
            Sink::Log(lines) => {
                lines.finish();
                String::new()
            }
            Sink::Keep(kept) => excerpt(kept),
        }
    }

    /// What the program left running in the background may go on writing to nobody: a closed pipe
    /// could kill it.
    fn leave(&mut self) {
        static LEFTOVERS: AtomicUsize = AtomicUsize::new(0);
        if self.ended || LEFTOVERS.load(Ordering::Relaxed) >= MAX_LEFTOVERS {
            return;
        }
        let (Ok(pipe), Ok(runtime)) = (self.pipe.try_clone(), Handle::try_current()) else {
            return;
        };
        let Ok(mut pipe) = pipe::Receiver::from_owned_fd(pipe.into()) else { return };
        LEFTOVERS.fetch_add(1, Ordering::Relaxed);
        runtime.spawn(async move {
            let mut nowhere = [0; 8192];
            while !matches!(pipe.read(&mut nowhere).await, Ok(0) | Err(_)) {}
            LEFTOVERS.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// What of our own environment a program gets to see.
pub(super) fn language() -> Option<(String, String)> {
    Some(("LANG".to_owned(), std::env::var("LANG").ok()?))
}

/// Text that cannot disturb a terminal or forge a line of the log.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut printable = String::with_capacity(text.len());
    for character in text.trim_end_matches(['\r', '\n']).chars() {
        if character.is_control() && character != '\t' {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// The end of what a program printed, or of what an error says, as one line of at most 400 bytes.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    let lines: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|l| !l.is_empty())
        .collect();
    let text = lines.into_iter().map(printable).collect::<Vec<_>>().join(" | ");
    if bytes.len() <= MAX_KEPT && text.len() <= MAX_KEPT {
        return text;
    }
    let mut begin = text.len().saturating_sub(MAX_KEPT);
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    format!("...{}", text.get(begin..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_disturb_a_terminal_or_forge_a_line() {
        assert_eq!(printable(b"caf\xc3\xa9\tok\r"), "caf\u{e9}\tok");
        assert_eq!(printable(b"\x1b[31mred\n<0>x \xff\n"), "\\u{1b}[31mred\\n<0>x \u{fffd}");
    }

    #[test]
    fn an_excerpt_is_one_short_line_with_the_end_of_the_text() {
        assert_eq!(excerpt(b"first \r\n\n  second\n"), "first | second");
        let long = format!("{}\u{e9}the end", "x".repeat(1000));
        let short = excerpt(long.as_bytes());
        assert!(short.len() <= MAX_KEPT + 3 && short.starts_with("...x"), "{short}");
        assert!(short.ends_with("\u{e9}the end"), "{short}");
        let control = excerpt(&[7; 300]);
        assert!(control.len() <= MAX_KEPT + 3 && control.is_ascii(), "{control}");
    }
}
