//! The helper process: receives requests, runs hooks in order and checks, and ends with the daemon.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram as StdUnixDatagram, UnixStream as StdUnixStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use caps::Capability;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::unistd::{self, Pid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixDatagram, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::checks::{self, Checks};
use super::hook::{Finished, HookRun, Outcome};
use super::protocol::{HelperEvent, HelperRequest, PACKET_SIZE};
use super::queue::enqueue;
use super::{children, program, run};
use crate::config::{self, ProgramFaults, ProgramUse};
use crate::host::log;
use crate::host::{echo, privileges, sys};

/// Needed to change to another user without capabilities, to kill that user's processes, and
/// (optional) to read which programs processes run.
const NEEDED: [Capability; 5] = [
    Capability::CAP_KILL,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_PTRACE,
];

/// How long the programs of a configuration are looked at.
const EXAMINATION: Duration = Duration::from_secs(20);
/// How many faults of programs are reported.
const MAX_FAULTS: usize = 100;

/// The entry point of `vipd helper`, which only the daemon starts.
pub fn main() -> ExitCode {
    let daemon = unistd::getppid();
    let Ok(socket) = take_socket() else {
        eprintln!("vipd helper is started by vipd run only");
        return ExitCode::from(2);
    };
    let _ = prctl::set_name(c"vipd-helper");
    let pings = echo::EchoSockets::open(checks::identifier());
    let privileges = privileges::keep_only(&NEEDED);
    let _log = log::init();
    if let Err(error) = privileges {
        tracing::error!("the helper cannot give up privileges: {error}");
        return ExitCode::FAILURE;
    }
    if let Ok(soft) = privileges::raise_open_files() {
        program::limit_open_files(soft);
    }
    // A failure only costs memory.
    let _ = sys::release_code_pages();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.and_then(|runtime| {
        let outcome = runtime.block_on(serve(socket, daemon, pings));
        // Do not wait for threads that a name server or file system blocks.
        runtime.shutdown_background();
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the helper ends: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Standard input, if it is the socket made by [`super::Helper::start`].
fn take_socket() -> io::Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    match getsockopt(&socket, sockopt::SockType)? {
        SockType::SeqPacket => Ok(socket),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Runs hooks and checks until the daemon closes its end of the socket, then kills what still runs.
async fn serve(socket: OwnedFd, daemon: Pid, pings: echo::EchoSockets) -> io::Result<()> {
    // tokio has no type for SOCK_SEQPACKET, but send and recv work alike for datagrams. No packet
    // is empty, so length 0 means that the other end is closed.
    let socket = StdUnixDatagram::from(socket);
    socket.set_nonblocking(true)?;
    let socket = UnixDatagram::from_std(socket)?;
    let mut terminated = signals()?;
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    children::reap_all()?;

    let (close, closing) = watch::channel(false);
    let mut waiting: VecDeque<HookRun> = VecDeque::new();
    let mut busy: HashSet<String> = HashSet::new();
    let mut running: JoinSet<Finished> = JoinSet::new();
    let mut examined = JoinSet::new();
    let mut checks = Checks::new(pings);
    let mut buffer = vec![0; PACKET_SIZE];
    let ended = loop {
        while let Some(next) = waiting.iter().position(|run| !busy.contains(&run.router)) {
            if let Some(next) = waiting.remove(next) {
                busy.insert(next.router.clone());
                running.spawn(run::run(next, closing.clone()));
            }
        }
        let reports = tokio::select! {
            length = socket.recv(&mut buffer) => match length {
                Ok(0) => break Ok(()),
                Ok(length) => {
                    let packet = buffer.get(..length).unwrap_or_default();
                    match serde_json::from_slice(packet) {
                        Ok(HelperRequest::RunHooks(run)) => {
                            let overtaken = enqueue(&mut waiting, run);
                            let skipped = |run| Finished::of(run, Outcome::Overtaken, Duration::ZERO);
                            overtaken.iter().map(skipped).map(HelperEvent::HooksFinished).collect()
                        }
                        Ok(HelperRequest::StartCheck { number, plan, stable_after }) => {
                            checks.start(number, plan, stable_after);
                            Vec::new()
                        }
                        Ok(HelperRequest::SetStableAfter { number, stable_after }) => {
                            checks.set_stable_after(number, stable_after);
                            Vec::new()
                        }
                        Ok(HelperRequest::StopCheck { number }) => {
                            checks.stop(number);
                            Vec::new()
                        }
                        Ok(HelperRequest::Examine(programs)) => {
                            examined.spawn(examine(programs));
                            Vec::new()
                        }
                        Ok(HelperRequest::Ping) => vec![HelperEvent::Pong],
                        Err(error) => break Err(io::Error::from(error)),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Vec::new(),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break Ok(()),
                Err(error) => break Err(error),
            },
            Some(finished) = running.join_next() => match finished {
                Ok(finished) => {
                    busy.remove(&finished.router);
                    vec![HelperEvent::HooksFinished(finished)]
                }
                Err(error) => break Err(io::Error::other(error)),
            },
            Some(Ok(faults)) = examined.join_next() => vec![HelperEvent::Examined(faults)],
            runs = checks.next_batch() => vec![HelperEvent::CheckRuns(runs)],
            // The kernel sends TERM when the daemon dies, in case another process still holds the
            // daemon's end of the socket. From any other process it is ignored: the daemon decides.
            _ = terminated.read_u8() => {
                if unistd::getppid() != daemon {
                    break Ok(());
                }
                Vec::new()
            }
        };
        if report(&socket, &reports).await.is_err() {
            break Ok(());
        }
    };
    let _ = close.send(true);
    drop(checks);
    while running.join_next().await.is_some() {}
    ended
}

/// Looks at the programs of a configuration. Not for longer than [`EXAMINATION`]: a directory of
/// users may hang.
async fn examine(programs: BTreeSet<ProgramUse>) -> Result<ProgramFaults, String> {
    let work = tokio::task::spawn_blocking(move || {
        let mut faults = config::examine(&programs);
        // More are not shown, and would not fit into a message.
        faults.truncate(MAX_FAULTS);
        faults
    });
    match timeout(EXAMINATION, work).await {
        Ok(faults) => faults.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it takes longer than {EXAMINATION:?} (the directory of users?)")),
    }
}

/// Keeps signals that are meant for the daemon from ending the helper. They are handled rather than
/// ignored, because hooks would inherit ignored signals. The stream is readable after TERM.
fn signals() -> io::Result<UnixStream> {
    let noticed = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::clone(&noticed))?;
    }
    let (reader, writer) = StdUnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGTERM, writer)?;
    reader.set_nonblocking(true)?;
    UnixStream::from_std(reader)
}

async fn report(socket: &UnixDatagram, reports: &[HelperEvent]) -> io::Result<()> {
    for report in reports {
        socket.send(&serde_json::to_vec(report)?).await?;
    }
    Ok(())
}
