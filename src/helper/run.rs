//! One run of hooks: the programs one after another, their output to the log, their end in time.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{error, info, warn};

use super::exec_hook::Order;
use super::{Command, Finished, HookRun, HookState, Outcome};

/// Between TERM and KILL.
const MERCY: Duration = Duration::from_secs(2);
/// After KILL; a process stuck in the kernel may outlive it.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How long the output of a hook that has ended is still read.
const DRAIN: Duration = Duration::from_millis(100);
/// Of the output of one hook, this much is logged.
const MAX_LINES: usize = 100;
const MAX_LINE: usize = 1000;
/// So many pipes are held open for what hooks left running in the background.
const MAX_LEFTOVERS: usize = 64;

/// Runs the hooks of one change, to the end or until `closing` says that the daemon is gone.
pub(super) async fn run(run: HookRun, mut closing: watch::Receiver<bool>) -> Finished {
    let begin = Instant::now();
    let mut outcome = Outcome::Done;
    let general = run.notify.as_ref().zip(run.state.keepalived()).map(|(notify, state)| {
        let mut notify = notify.clone();
        let priority = run.priority.to_string();
        notify.argv.extend(["INSTANCE", &run.router, state, &priority].map(str::to_owned));
        notify
    });
    for command in run.commands.iter().chain(general.as_ref()) {
        if *closing.borrow() {
            break;
        }
        let result = one(&run, command, &mut closing).await;
        if outcome == Outcome::Done {
            outcome = result;
        }
    }
    Finished::of(&run, outcome, begin.elapsed())
}

/// Runs one hook and logs how it went.
async fn one(run: &HookRun, command: &Command, closing: &mut watch::Receiver<bool>) -> Outcome {
    let begin = Instant::now();
    let program = command.argv.first().map_or("", String::as_str);
    let outcome = match Hook::start(run, command) {
        Ok(hook) => hook.finish(command.timeout, closing).await,
        Err(error) => Outcome::NotRun(format!("cannot start a process: {error}")),
    };
    let (router, state, duration) = (&*run.router, run.state.as_str(), begin.elapsed());
    match &outcome {
        Outcome::Done => info!(router, state, program, ?duration, "hook done"),
        Outcome::Exited(status) => {
            warn!(
                router,
                state,
                program,
                status,
                ?duration,
                "hook failed with exit status {status}"
            );
        }
        Outcome::Killed(signal) => {
            warn!(router, state, program, signal, ?duration, "hook killed by signal {signal}");
        }
        Outcome::TimedOut if *closing.borrow() => {
            warn!(router, state, program, ?duration, "hook was ended with the daemon");
        }
        Outcome::TimedOut => {
            warn!(router, state, program, ?duration, "hook took too long and was ended");
        }
        Outcome::NotRun(why) => error!(router, state, program, "hook not run: {why}"),
        Outcome::Overtaken => {}
    }
    outcome
}

/// A hook that runs: its process leads a process group of its own.
struct Hook {
    child: Child,
    group: Pid,
    order: Vec<u8>,
    control: UnixStream,
    output: Output,
}

impl Hook {
    fn start(run: &HookRun, command: &Command) -> io::Result<Hook> {
        let order = Order {
            helper: std::process::id(),
            argv: command.argv.clone(),
            user: command.user.clone(),
            environment: environment(run),
        };
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let (reader, writer) = io::pipe()?;
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
        let program = command.argv.first().cloned().unwrap_or_default();
        Ok(Hook {
            child,
            group: Pid::from_raw(group),
            order: serde_json::to_vec(&order)?,
            control: UnixStream::from_std(ours)?,
            output: Output {
                pipe: pipe::Receiver::from_owned_fd(reader.into())?,
                ended: false,
                router: run.router.clone(),
                state: run.state,
                program,
                line: Vec::new(),
                cut: false,
                lines: 0,
                lost: 0,
            },
        })
    }

    async fn finish(mut self, patience: Duration, closing: &mut watch::Receiver<bool>) -> Outcome {
        let deadline = Instant::now() + patience;
        let refusal = exchange(&mut self.control, &self.order);
        tokio::pin!(refusal);
        let mut refused = None;
        let ended = loop {
            tokio::select! {
                status = self.child.wait() => break Some(status),
                () = sleep_until(deadline) => break None,
                _ = closing.wait_for(|closing| *closing) => break None,
                why = &mut refusal, if refused.is_none() => refused = Some(why),
                () = self.output.read(), if !self.output.ended => {}
            }
        };
        let outcome = match ended {
            Some(Ok(status)) => {
                let why = match refused {
                    Some(why) => why,
                    // Nobody but the process that has ended held the other end.
                    None => timeout(DRAIN, refusal).await.unwrap_or_default(),
                };
                if why.is_empty() { of_status(status) } else { Outcome::NotRun(why) }
            }
            Some(Err(error)) => Outcome::NotRun(format!("cannot wait for it: {error}")),
            None => {
                end_group(&mut self.child, self.group, &mut self.output).await;
                Outcome::TimedOut
            }
        };
        self.output.finish().await;
        outcome
    }
}

/// What a hook gets to see.
fn environment(run: &HookRun) -> Vec<(String, String)> {
    let addresses: Vec<String> = run.addresses.iter().map(ToString::to_string).collect();
    let mut environment: Vec<(String, String)> = [
        ("PATH", crate::config::HOOK_PATH.join(":").as_str()),
        ("VIPD_ROUTER", &run.router),
        ("VIPD_STATE", run.state.as_str()),
        ("VIPD_PREVIOUS_STATE", &run.previous),
        ("VIPD_REASON", &run.reason),
        ("VIPD_PRIORITY", &run.priority.to_string()),
        ("VIPD_ADDRESSES", &addresses.join(" ")),
        ("VIPD_INTERFACE", &run.interface),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    environment.extend(std::env::var("LANG").ok().map(|lang| ("LANG".to_owned(), lang)));
    environment
}

/// Sends the order; returns why it was refused, or nothing as soon as the hook is executed.
async fn exchange(control: &mut UnixStream, order: &[u8]) -> String {
    let mut why = Vec::new();
    // An error means that the process has ended, and that is noticed elsewhere.
    if control.write_all(order).await.is_ok() && control.shutdown().await.is_ok() {
        let _ = control.take(4096).read_to_end(&mut why).await;
    }
    printable(&why)
}

fn of_status(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Done,
        (Some(code), _) => Outcome::Exited(code),
        (None, signal) => Outcome::Killed(signal.unwrap_or_default()),
    }
}

/// TERM to the whole process group, and KILL when its time is up or nobody is left to mind. Its
/// leader is not reaped before that, so the number cannot have become another group's.
async fn end_group(child: &mut Child, group: Pid, output: &mut Output) {
    if let Err(error) = killpg(group, Signal::SIGTERM) {
        error!(pid = group.as_raw(), "cannot end a hook: {error}");
    }
    let mercy = Instant::now() + MERCY;
    while Instant::now() < mercy && !(output.ended && has_exited(group)) {
        let _ = timeout(Duration::from_millis(20), async {
            if !output.ended {
                output.read().await;
            } else {
                sleep(MERCY).await;
            }
        })
        .await;
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = kill(group, Signal::SIGKILL);
    if timeout(LAST_PATIENCE, child.wait()).await.is_err() {
        error!(pid = group.as_raw(), "a killed hook does not end");
    }
}

/// Whether the process has ended; it is not reaped.
fn has_exited(process: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(process), flags), Ok(WaitStatus::StillAlive))
}

/// What a hook prints, on its way to the log.
struct Output {
    pipe: pipe::Receiver,
    /// Everybody who could write has closed it.
    ended: bool,
    router: String,
    state: HookState,
    program: String,
    line: Vec<u8>,
    cut: bool,
    lines: usize,
    lost: usize,
}

impl Output {
    /// Waits for output and takes some of it.
    async fn read(&mut self) {
        if self.pipe.readable().await.is_err() {
            self.ended = true;
        }
        self.take();
    }

    /// Takes what is there; `false` if there is nothing now.
    fn take(&mut self) -> bool {
        let mut buffer = [0; 8192];
        match self.pipe.try_read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => {
                for byte in buffer.iter().take(length) {
                    self.push(*byte);
                }
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => self.ended = true,
        }
        false
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

    /// Takes what the hook had written when it ended. What it left running in the background may
    /// go on writing to nobody: a closed pipe could kill it.
    async fn finish(mut self) {
        let begin = Instant::now();
        while !self.ended && begin.elapsed() < DRAIN && self.take() {}
        if !self.line.is_empty() {
            self.log_line();
        }
        if self.lost > 0 {
            let (router, state, program) = (&*self.router, self.state.as_str(), &*self.program);
            warn!(router, state, program, "{} more lines of output are not logged", self.lost);
        }
        static LEFTOVERS: AtomicUsize = AtomicUsize::new(0);
        if !self.ended && LEFTOVERS.load(Ordering::Relaxed) < MAX_LEFTOVERS {
            LEFTOVERS.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut nowhere = [0; 8192];
                while !matches!(self.pipe.read(&mut nowhere).await, Ok(0) | Err(_)) {}
                LEFTOVERS.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_cannot_disturb_a_terminal_or_forge_a_line() {
        assert_eq!(printable(b"caf\xc3\xa9\tok\r"), "caf\u{e9}\tok");
        assert_eq!(printable(b"\x1b[31mred\n<0>x \xff\n"), "\\u{1b}[31mred\\n<0>x \u{fffd}");
    }
}
