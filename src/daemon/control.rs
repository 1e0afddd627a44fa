//! The server of the control socket: clients, their permissions and their limits. The protocol is in
//! [`api::protocol`](crate::api::protocol).
//!
//! Connections are served by tasks on the background thread. A request is sent to the advert loop,
//! which answers it between two events. The number of clients, their time and the size of a request
//! are bounded, so a client that sends garbage or never reads costs nothing.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net as blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, chown, geteuid, getgroups, setgroups};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, error};

use super::drained::{DrainedFiles, Stored};
use crate::api::events::newest;
use crate::api::protocol::{Answer, ErrorCode, GROUP, Request, SOCKET, decode_request, encode};
use crate::host::event_channel::Sender;
use crate::host::files::Directory;
use crate::vrrp::Drain;

/// Clients served at the same time; more are refused.
const MAX_CLIENTS: usize = 16;
/// How long a client may take to send its request, and again to read the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a surplus client waits before it is refused; this bounds the refusal rate.
const ADMISSION_TIMEOUT: Duration = Duration::from_millis(5);
/// Minimum time between two status documents: each interrupts the advert loop.
const MIN_STATUS_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum size of a request, in bytes.
const MAX_REQUEST: u64 = 64 << 10;
/// Maximum number of events in one answer.
const MAX_EVENTS: usize = 200;

/// What the advert loop answers: all requests but that for events.
#[derive(Debug)]
pub(super) enum LoopRequest {
    Status,
    Failover(String),
    Resume(String),
    Announce(String),
    /// Stored already.
    Drain(Drain, Stored),
    Undrain(Stored),
    Reload,
}

/// A request, and the channel for its answer.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub request: LoopRequest,
    pub reply: Reply,
}

/// Answers a client.
pub(super) type Reply = oneshot::Sender<Answer>;

/// Creates the socket, before the privilege to change its group is given up. A failure is only a
/// remark for the log: the addresses matter more.
pub(super) fn bind(
    runtime_dir: &Directory,
    remarks: &mut Vec<String>,
) -> Option<blocking::UnixListener> {
    let path = runtime_dir.path().join(SOCKET);
    match listen(runtime_dir, &path) {
        Ok(listener) => {
            if let Some(group) = group()
                && let Err(error) = change_group(&path, group)
            {
                remarks.push(format!(
                    "cannot give {} to the group {GROUP} ({error}): only root can read the status; give vipd CAP_SETGID, or make its user a member",
                    path.display()
                ));
            }
            Some(listener)
        }
        Err(error) => {
            remarks.push(format!(
                "cannot create {} ({error}): \"vipd status\" and the other commands cannot reach this daemon",
                path.display()
            ));
            None
        }
    }
}

/// The caller holds the lock on the directory, so a socket found there is stale.
fn listen(directory: &Directory, path: &Path) -> io::Result<blocking::UnixListener> {
    directory.unlink(SOCKET)?;
    // Only owner and group may connect, from the start.
    let before = umask(Mode::from_bits_truncate(0o117));
    let listener = blocking::UnixListener::bind(path);
    umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Joins the group for a moment, as a file's owner may give it to any group that he is a member of:
/// CAP_SETGID is needed for the helper anyway, CAP_CHOWN would be one more.
fn change_group(path: &Path, group: Gid) -> nix::Result<()> {
    let before = getgroups()?;
    let joined = setgroups(&[before.as_slice(), &[group]].concat());
    let given = chown(path, None, Some(group));
    if joined.is_ok() {
        setgroups(&before)?;
    }
    given
}

/// From /etc/group alone: a directory service may not answer while the host boots.
fn group() -> Option<Gid> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(GROUP))?;
    line.split(':').nth(2)?.parse().ok().map(Gid::from_raw)
}

/// Starts serving clients, by tasks of the runtime it is called in; requests go to `requests`, one of
/// each client at a time.
///
/// # Errors
/// The runtime cannot register the socket.
pub(super) fn serve(
    listener: blocking::UnixListener,
    state_dir: &Path,
    drained: DrainedFiles,
    requests: Sender<PendingRequest>,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let server = ControlServer {
        requests,
        state_dir: state_dir.to_owned(),
        drained: Mutex::new(drained),
        reading: Mutex::new(()),
        cached: Mutex::new(None),
    };
    tokio::spawn(accept(listener, Arc::new(server)));
    Ok(())
}

/// Shared by the tasks of all clients.
struct ControlServer {
    requests: Sender<PendingRequest>,
    state_dir: PathBuf,
    /// Held while a drain is stored and applied, so that file and state agree when two clients race.
    drained: Mutex<DrainedFiles>,
    /// Held while the history is read: a disk that hangs blocks only one thread.
    reading: Mutex<()>,
    cached: Mutex<Option<CachedStatus>>,
}

struct CachedStatus {
    requested_at: Instant,
    built_at: Instant,
    bytes: Arc<[u8]>,
}

async fn accept(listener: UnixListener, server: Arc<ControlServer>) {
    let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "cannot accept a client");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // A loop of connection attempts must not keep a processor busy.
        match timeout(ADMISSION_TIMEOUT, Arc::clone(&slots).acquire_owned()).await {
            Ok(Ok(slot)) => {
                let server = Arc::clone(&server);
                tokio::spawn(async move {
                    server.handle_client(stream).await;
                    drop(slot);
                });
            }
            Ok(Err(_)) | Err(_) => {
                let text = format!("{MAX_CLIENTS} clients are being served already; try again");
                let refusal = encode(Answer::error(ErrorCode::Busy, text));
                // Does not block: it fits into an empty socket buffer.
                let _ = stream.into_std().and_then(|mut stream| stream.write_all(&refusal));
            }
        }
    }
}

impl ControlServer {
    async fn handle_client(&self, stream: UnixStream) {
        let may_change = stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw());
        let mut stream = BufReader::new(stream);
        let Ok(received) = timeout(CLIENT_TIMEOUT, receive(&mut stream)).await else { return };
        let change = match received {
            Ok(Request::Status) => Err(self.status().await),
            Ok(Request::Events) => Err(self.events().await),
            Ok(Request::Failover { router }) => Ok(LoopRequest::Failover(router)),
            Ok(Request::Resume { router }) => Ok(LoopRequest::Resume(router)),
            Ok(Request::Announce { router }) => Ok(LoopRequest::Announce(router)),
            Ok(Request::Drain { force }) => {
                let drain = if force { Drain::Force } else { Drain::LastResort };
                Ok(LoopRequest::Drain(drain, Stored::default()))
            }
            Ok(Request::Undrain) => Ok(LoopRequest::Undrain(Stored::default())),
            Ok(Request::Reload) => Ok(LoopRequest::Reload),
            Err(text) => Err(encode(Answer::error(ErrorCode::BadRequest, text)).into()),
        };
        let bytes = match change {
            Ok(change) if may_change => encode(self.execute(change).await).into(),
            Ok(_) => {
                let text = "only root and the user of the daemon can change something; try again with sudo";
                encode(Answer::error(ErrorCode::NotAllowed, text)).into()
            }
            Err(answered) => answered,
        };
        // A client that does not read loses its answer.
        let _ = timeout(CLIENT_TIMEOUT, stream.get_mut().write_all(&bytes)).await;
    }

    /// A status document that is not older than the request. Requests that arrive together share
    /// one. The loop collects it, a blocking thread serialises it.
    async fn status(&self) -> Arc<[u8]> {
        let received_at = Instant::now();
        let mut cached = self.cached.lock().await;
        if let Some(cached) = &*cached {
            if cached.requested_at >= received_at {
                return Arc::clone(&cached.bytes);
            }
            sleep(MIN_STATUS_INTERVAL.saturating_sub(cached.built_at.elapsed())).await;
        }
        let requested_at = Instant::now();
        let answer = self.ask(LoopRequest::Status).await;
        let written = tokio::task::spawn_blocking(move || Arc::from(encode(answer))).await;
        let bytes = written.unwrap_or_else(|_| Arc::from([]));
        *cached = Some(CachedStatus {
            requested_at,
            built_at: Instant::now(),
            bytes: Arc::clone(&bytes),
        });
        bytes
    }

    /// The newest events, read from the files without the loop.
    async fn events(&self) -> Arc<[u8]> {
        let Ok(_reading) = timeout(CLIENT_TIMEOUT, self.reading.lock()).await else {
            return encode(Answer::error(ErrorCode::Busy, "the disk is slow; try again")).into();
        };
        let state_dir = self.state_dir.clone();
        let found = tokio::task::spawn_blocking(move || {
            let answer = match newest(&state_dir, MAX_EVENTS) {
                Ok(events) => Answer::Events { events },
                Err(error) => Answer::error(
                    ErrorCode::Failed,
                    format!("the history in {} cannot be read: {error}", state_dir.display()),
                ),
            };
            encode(answer).into()
        });
        found.await.unwrap_or_else(|_| Arc::from([]))
    }

    async fn execute(&self, request: LoopRequest) -> Answer {
        let drain = match request {
            LoopRequest::Drain(drain, _) => Some(drain),
            LoopRequest::Undrain(_) => None,
            _ => return self.ask(request).await,
        };
        let drained = self.drained.lock().await;
        // On a blocking thread, as the disk may be slow.
        let files = drained.clone();
        let stored = tokio::task::spawn_blocking(move || files.store(drain)).await;
        match stored.map_err(io::Error::other).flatten() {
            Ok(stored) => {
                let stored_request = match drain {
                    Some(drain) => LoopRequest::Drain(drain, stored),
                    None => LoopRequest::Undrain(stored),
                };
                self.ask(stored_request).await
            }
            Err(error) => {
                error!(%error, "cannot store whether this host is drained");
                let path = drained.state();
                let text = format!(
                    "this cannot be stored in {}, nor in the runtime directory: {error}; nothing was changed",
                    path.display()
                );
                Answer::error(ErrorCode::Failed, text)
            }
        }
    }

    async fn ask(&self, request: LoopRequest) -> Answer {
        let ended = || Answer::error(ErrorCode::Failed, "vipd ended before this was done");
        let (reply, answer) = oneshot::channel();
        self.requests.send(PendingRequest { request, reply });
        answer.await.unwrap_or_else(|_| ended())
    }
}

/// Reads one request; an error is a sentence for the client.
async fn receive(stream: &mut BufReader<UnixStream>) -> Result<Request, String> {
    let mut bytes = Vec::new();
    let outcome = stream.take(MAX_REQUEST).read_until(b'\n', &mut bytes).await;
    outcome.map_err(|error| format!("the request cannot be read: {error}"))?;
    if bytes.len() as u64 == MAX_REQUEST && bytes.last() != Some(&b'\n') {
        return Err(format!("a request has at most {MAX_REQUEST} bytes"));
    }
    decode_request(&bytes)
}
