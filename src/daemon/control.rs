//! The control socket: `control.sock` in the runtime directory, for `vipd status` and its kin.
//!
//! One line of JSON with a [`Request`] in, one line of JSON with an [`Answer`] out, then the
//! connection ends; both carry `"version": 1`. Whoever can open the socket may ask for the status:
//! root, the daemon's own user and the group `vipd`. Whoever changes something must be root or the
//! daemon's own user, which the kernel vouches for.
//!
//! ```text
//! > {"version":1,"command":"status"}
//! < {"version":1,"status":{...}}                      crate::api::status::Status
//! > {"version":1,"command":"events"}
//! < {"version":1,"events":{"events":[...]}}           crate::daemon::history::Event, the newest last
//! > {"version":1,"command":"failover","router":"web"}
//! < {"version":1,"moved":{"moves":[{"router":"web","outcome":"taken","by":"192.0.2.2","after_seconds":0.012,"text":"..."}]}}
//! > {"version":1,"command":"resume","router":"web"}   also announce, drain, undrain, reload
//! < {"version":1,"done":{"text":"..."}}               drain answers as failover does
//! < {"version":1,"reloaded":{"changes":["web: priority 100 -> 150"]}}
//! < {"version":1,"error":{"code":"unknown_router","text":"..."}}
//! ```
//!
//! Connections are served by tasks of another thread than the advert loop's. A request goes to the
//! loop as a letter and is answered in its turn. Clients, their time and their requests are bounded,
//! so one that sends garbage or never reads costs nothing.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net as blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, chown, geteuid, getgroups, setgroups};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, error};

use crate::api::status::Status;
use crate::daemon::history::{self, Event};
use crate::host::letterbox::Slot;

/// Of requests, answers and the status document.
pub const VERSION: u32 = 1;
/// Its name in the runtime directory.
const SOCKET: &str = "control.sock";
/// Members may read the status.
const GROUP: &str = "vipd";
/// Served at the same time; more are refused.
const CLIENTS: usize = 16;
/// To send a request, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// One too many is refused after this; so many per second can be refused at most.
const WAIT_FOR_PLACE: Duration = Duration::from_millis(5);
/// From one status document to the next: however many ask, the advert loop has better things to do.
const BETWEEN_DOCUMENTS: Duration = Duration::from_millis(5);
/// The longest request, in bytes.
const LONGEST_REQUEST: u64 = 64 << 10;
/// Events told at once.
const EVENTS: usize = 200;
/// In the state directory: this host is drained.
const DRAINED: &str = "drained";

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Request {
    /// Everything.
    Status,
    /// The newest events of the history, also of before the last restart.
    Events,
    /// Hand a virtual router over; answered when it is known who took it.
    Failover {
        /// Its name.
        router: String,
    },
    /// Take part fully again.
    Resume {
        /// Its name.
        router: String,
    },
    /// Announce the addresses again.
    Announce {
        /// Its name.
        router: String,
    },
    /// Hand everything over and take nothing, also after a reboot; answered as a failover.
    Drain,
    /// Take part again.
    Undrain,
    /// Read the configuration again; answered when it is applied or refused.
    Reload,
}

impl Request {
    /// Whether asking changes nothing.
    fn only_reads(&self) -> bool {
        match self {
            Request::Status | Request::Events => true,
            Request::Failover { .. }
            | Request::Resume { .. }
            | Request::Announce { .. }
            | Request::Drain
            | Request::Undrain
            | Request::Reload => false,
        }
    }
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Events`].
    Events {
        /// The last one last.
        events: Vec<Event>,
    },
    /// What became of virtual routers that were to be handed over.
    Moved {
        /// One for each that was master here.
        moves: Vec<Move>,
    },
    /// It was done.
    Done {
        /// What, and what follows.
        text: String,
    },
    /// The configuration was applied.
    Reloaded {
        /// What is different now; empty if nothing is.
        changes: Vec<String>,
    },
    /// It was not done.
    Error {
        /// For programs.
        code: Code,
        /// Why, and what to do.
        text: String,
    },
}

impl Answer {
    /// It was done, and this is what follows.
    pub fn done(text: impl Into<String>) -> Self {
        Answer::Done { text: text.into() }
    }

    /// It was not done, for this reason.
    pub fn error(code: Code, text: impl Into<String>) -> Self {
        Answer::Error { code, text: text.into() }
    }
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is not understood.
    BadRequest,
    /// Too many clients.
    Busy,
    /// Only root and the daemon's own user may change something.
    NotAllowed,
    /// No virtual router has this name.
    UnknownRouter,
    /// It makes no sense now.
    Refused,
    /// The daemon could not do or store it.
    Failed,
}

/// What became of one virtual router that was to be handed over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// Its name.
    pub router: String,
    /// How it ended.
    pub outcome: Moved,
    /// Who has it now, if another host does.
    pub by: Option<IpAddr>,
    /// From the request until that was known.
    pub after_seconds: f64,
    /// The same as a sentence, with what to do.
    pub text: String,
}

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moved {
    /// Another host took over.
    Taken,
    /// Nobody did, and it is still or again here.
    NobodyCame,
    /// Something else came between: a fault, or the end of the daemon.
    Interrupted,
}

/// A request with the way back to whoever made it.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted.
    pub request: Request,
    /// For the answer; nobody minds if the client is gone.
    pub reply: oneshot::Sender<Answer>,
}

#[derive(Serialize, Deserialize)]
struct Message<T> {
    version: u32,
    #[serde(flatten)]
    body: T,
}

#[derive(Deserialize)]
struct AnyMessage {
    version: u32,
}

// ---- the daemon's end --------------------------------------------------------------------------

/// Makes the socket, while the privileges for its group are still there. What goes wrong is a
/// remark: the addresses matter more.
pub fn bind(runtime_dir: &Path, remarks: &mut Vec<String>) -> Option<blocking::UnixListener> {
    let path = runtime_dir.join(SOCKET);
    match listen(&path) {
        Ok(listener) => {
            if let Some(group) = group()
                && let Err(error) = give_to(&path, group)
            {
                remarks.push(format!(
                    "cannot give {} to the group {GROUP} ({error}): only root can ask for the status; give it CAP_SETGID, or make its user a member",
                    path.display()
                ));
            }
            Some(listener)
        }
        Err(error) => {
            remarks.push(format!(
                "cannot make {} ({error}): this daemon can be neither asked nor steered",
                path.display()
            ));
            None
        }
    }
}

/// The caller holds the lock on the directory, so what is there is left over.
fn listen(path: &Path) -> io::Result<blocking::UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // From the first moment on only owner and group may connect.
    let before = umask(Mode::from_bits_truncate(0o117));
    let listener = blocking::UnixListener::bind(path);
    umask(before);
    let listener = listener?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Whoever is a member may give a file of his to a group. CAP_SETGID is there for the helper's sake;
/// CAP_CHOWN would be one more.
fn give_to(path: &Path, group: Gid) -> nix::Result<()> {
    let before = getgroups()?;
    let joined = setgroups(&[before.as_slice(), &[group]].concat());
    let given = chown(path, None, Some(group));
    if joined.is_ok() {
        setgroups(&before)?;
    }
    given
}

/// The local group only: a directory service may not answer while this host is starting.
fn group() -> Option<Gid> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(GROUP))?;
    line.split(':').nth(2)?.parse().ok().map(Gid::from_raw)
}

/// Serves clients from now on, by tasks of the runtime it is called in; what they ask is sent on, one
/// request of each client at a time.
///
/// # Errors
/// When the runtime cannot wait for the socket.
pub fn serve(
    listener: blocking::UnixListener,
    state_dir: &Path,
    requests: Slot<Asked>,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let desk = Desk {
        requests,
        state_dir: state_dir.to_owned(),
        storing: Mutex::new(()),
        looking_up: Mutex::new(()),
        shown: Mutex::new(None),
    };
    tokio::spawn(accept(listener, Arc::new(desk)));
    Ok(())
}

/// What the clients' tasks share.
struct Desk {
    requests: Slot<Asked>,
    state_dir: PathBuf,
    /// What is stored and what is in force must be the same, whoever is faster.
    storing: Mutex<()>,
    /// History is read for one at a time: a disk that hangs takes one thread.
    looking_up: Mutex<()>,
    /// The newest status document.
    shown: Mutex<Option<Shown>>,
}

struct Shown {
    asked_at: Instant,
    made_at: Instant,
    bytes: Arc<[u8]>,
}

async fn accept(listener: UnixListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "cannot accept a client");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Those who knock without end must not keep a processor busy.
        match timeout(WAIT_FOR_PLACE, Arc::clone(&places).acquire_owned()).await {
            Ok(Ok(place)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    desk.converse(stream).await;
                    drop(place);
                });
            }
            Ok(Err(_)) | Err(_) => {
                let text = format!("{CLIENTS} clients are being served already; try again");
                let refusal = line(Answer::error(Code::Busy, text));
                // Not worth waiting for: it fits into an empty socket.
                let _ = stream.into_std().and_then(|mut stream| stream.write_all(&refusal));
            }
        }
    }
}

impl Desk {
    async fn converse(&self, stream: UnixStream) {
        let may_change = stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw());
        let mut stream = BufReader::new(stream);
        let Ok(received) = timeout(PATIENCE, receive(&mut stream)).await else { return };
        let bytes = match received {
            Ok(Request::Status) => self.show().await,
            Ok(Request::Events) => self.look_up().await,
            Ok(request) if may_change => line(self.carry_out(request).await).into(),
            Ok(_) => {
                let text =
                    "only root and the user vipd runs as may change something; try again with sudo";
                line(Answer::error(Code::NotAllowed, text)).into()
            }
            Err(text) => line(Answer::error(Code::BadRequest, text)).into(),
        };
        // Who does not read has waived the answer.
        let _ = timeout(PATIENCE, stream.get_mut().write_all(&bytes)).await;
    }

    /// A status document that is not older than the question. Many who ask at once share one, and
    /// it is put together in the loop but written out elsewhere.
    async fn show(&self) -> Arc<[u8]> {
        let came_at = Instant::now();
        let mut shown = self.shown.lock().await;
        if let Some(shown) = &*shown {
            if shown.asked_at >= came_at {
                return Arc::clone(&shown.bytes);
            }
            sleep(BETWEEN_DOCUMENTS.saturating_sub(shown.made_at.elapsed())).await;
        }
        let asked_at = Instant::now();
        let answer = self.ask(Request::Status).await;
        let written = tokio::task::spawn_blocking(move || Arc::from(line(answer))).await;
        let bytes = written.unwrap_or_else(|_| Arc::from([]));
        *shown = Some(Shown { asked_at, made_at: Instant::now(), bytes: Arc::clone(&bytes) });
        bytes
    }

    /// The end of the history, which the loop knows nothing of.
    async fn look_up(&self) -> Arc<[u8]> {
        let Ok(_looking_up) = timeout(PATIENCE, self.looking_up.lock()).await else {
            return line(Answer::error(Code::Busy, "the disk is slow; try again")).into();
        };
        let state_dir = self.state_dir.clone();
        let found = tokio::task::spawn_blocking(move || {
            let answer = match history::newest(&state_dir, EVENTS) {
                Ok(events) => Answer::Events { events },
                Err(error) => Answer::error(
                    Code::Failed,
                    format!("the history in {} cannot be read: {error}", state_dir.display()),
                ),
            };
            line(answer).into()
        });
        found.await.unwrap_or_else(|_| Arc::from([]))
    }

    async fn carry_out(&self, request: Request) -> Answer {
        match request {
            Request::Drain | Request::Undrain => {
                let _storing = self.storing.lock().await;
                let drained = request == Request::Drain;
                match self.store_drained(drained).await {
                    Ok(()) => self.ask(request).await,
                    Err(error) => {
                        error!(%error, "cannot store whether this host is drained");
                        Answer::error(
                            Code::Failed,
                            format!(
                                "this cannot be stored in {}: {error}; nothing was changed",
                                self.state_dir.join(DRAINED).display()
                            ),
                        )
                    }
                }
            }
            Request::Status
            | Request::Events
            | Request::Failover { .. }
            | Request::Resume { .. }
            | Request::Announce { .. }
            | Request::Reload => self.ask(request).await,
        }
    }

    /// The disk may take its time; nobody waits but the client.
    async fn store_drained(&self, drained: bool) -> io::Result<()> {
        let state_dir = self.state_dir.clone();
        let stored = tokio::task::spawn_blocking(move || store_drained(&state_dir, drained));
        stored.await.map_err(io::Error::other)?
    }

    async fn ask(&self, request: Request) -> Answer {
        let ended = || Answer::error(Code::Failed, "vipd ended before this was done");
        let (reply, answer) = oneshot::channel();
        self.requests.send(Asked { request, reply });
        answer.await.unwrap_or_else(|_| ended())
    }
}

/// One request, or what is wrong with it.
async fn receive(stream: &mut BufReader<UnixStream>) -> Result<Request, String> {
    let mut bytes = Vec::new();
    let outcome = stream.take(LONGEST_REQUEST).read_until(b'\n', &mut bytes).await;
    outcome.map_err(|error| format!("the request cannot be read: {error}"))?;
    if bytes.len() as u64 == LONGEST_REQUEST && bytes.last() != Some(&b'\n') {
        return Err(format!("a request has at most {LONGEST_REQUEST} bytes"));
    }
    let AnyMessage { version } = serde_json::from_slice(&bytes).map_err(|error| {
        format!(
            "a request is one line of JSON like {{\"version\":1,\"command\":\"status\"}}: {error}"
        )
    })?;
    if version != VERSION {
        return Err(format!("this vipd speaks version {VERSION}, not {version}"));
    }
    let message: Message<Request> = serde_json::from_slice(&bytes)
        .map_err(|error| format!("this request is not understood: {error}"))?;
    Ok(message.body)
}

fn line<T: Serialize>(body: T) -> Vec<u8> {
    // Strings, numbers and lists of them: nothing that JSON could not say.
    let mut bytes = serde_json::to_vec(&Message { version: VERSION, body }).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

// ---- what survives a reboot --------------------------------------------------------------------

/// Whether this host was drained when its daemon last ran.
///
/// # Errors
/// When that cannot be found out.
pub fn was_drained(state_dir: &Path) -> io::Result<bool> {
    state_dir.join(DRAINED).try_exists()
}

/// On the disk when it returns, and never by half.
fn store_drained(state_dir: &Path, drained: bool) -> io::Result<()> {
    let path = state_dir.join(DRAINED);
    if drained {
        fs::create_dir_all(state_dir)?;
        let new = state_dir.join(format!("{DRAINED}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        let since = humantime::format_rfc3339_seconds(SystemTime::now());
        writeln!(file, "drained since {since}; `vipd undrain` ends it")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        // What may not survive must not be found by chance either.
        sync(state_dir).inspect_err(|_| drop(fs::remove_file(&path)))
    } else {
        match fs::remove_file(&path) {
            Ok(()) => sync(state_dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

// ---- the client's end --------------------------------------------------------------------------

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody listens in this runtime directory.
    NoDaemon(PathBuf),
    /// The socket is not for this user.
    NotAllowed(PathBuf),
    /// The connection ended, or the daemon did not answer.
    Lost(PathBuf, io::Error),
    /// Not in our language.
    NotUnderstood(serde_json::Error),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::NoDaemon(dir) => write!(
                f,
                "no vipd runs in {}: start it with \"systemctl start vipd\" or \"vipd run\", or name its directory with --runtime-dir",
                dir.display()
            ),
            NoAnswer::NotAllowed(dir) => write!(
                f,
                "you may not ask the vipd in {}: try again with sudo, or join the group {GROUP} to see its status",
                dir.display()
            ),
            NoAnswer::Lost(dir, error) => {
                write!(f, "the vipd in {} did not answer: {error}", dir.display())
            }
            NoAnswer::NotUnderstood(error) => write!(
                f,
                "the vipd that runs answers what this program does not understand ({error}): use the program of its version"
            ),
        }
    }
}

/// Asks the daemon of a runtime directory, and waits: for the status not long, for a hand-over
/// until it is over. If too many others ask, again after a moment.
///
/// # Errors
/// There is no daemon, or no answer from it.
pub fn ask(runtime_dir: &Path, request: &Request) -> Result<Answer, NoAnswer> {
    let give_up_at = Instant::now() + 2 * PATIENCE;
    loop {
        let answer = ask_once(runtime_dir, request)?;
        let busy = matches!(answer, Answer::Error { code: Code::Busy, .. });
        if !busy || Instant::now() >= give_up_at {
            return Ok(answer);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ask_once(runtime_dir: &Path, request: &Request) -> Result<Answer, NoAnswer> {
    let lost = |error| NoAnswer::Lost(runtime_dir.to_owned(), error);
    let mut stream = blocking::UnixStream::connect(runtime_dir.join(SOCKET)).map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                NoAnswer::NoDaemon(runtime_dir.to_owned())
            }
            io::ErrorKind::PermissionDenied => NoAnswer::NotAllowed(runtime_dir.to_owned()),
            _ => lost(error),
        }
    })?;
    if request.only_reads() {
        stream.set_read_timeout(Some(2 * PATIENCE)).map_err(lost)?;
    }
    // Who is refused as one too many has an answer although nobody takes the request.
    let sent = stream.write_all(&line(request));
    let mut bytes = Vec::new();
    let received = io::BufReader::new(stream.take(LONGEST_ANSWER)).read_until(b'\n', &mut bytes);
    if bytes.is_empty() {
        let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "it ended the connection");
        let error = sent.and(received).err().unwrap_or_else(ended);
        return Err(lost(match error.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(
                io::ErrorKind::TimedOut,
                "its process is there, but seems to be stopped, or has no processor time",
            ),
            _ => error,
        }));
    }
    let message: Message<Answer> =
        serde_json::from_slice(&bytes).map_err(NoAnswer::NotUnderstood)?;
    Ok(message.body)
}

/// Larger than the status of as many virtual routers as fit on a host.
const LONGEST_ANSWER: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_and_answers_are_what_the_documentation_shows() {
        let shown = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(shown(line(&Request::Status)), "{\"version\":1,\"command\":\"status\"}\n");
        assert_eq!(
            shown(line(&Request::Failover { router: "web".into() })),
            "{\"version\":1,\"command\":\"failover\",\"router\":\"web\"}\n"
        );
        assert_eq!(
            shown(line(Answer::error(Code::UnknownRouter, "..."))),
            "{\"version\":1,\"error\":{\"code\":\"unknown_router\",\"text\":\"...\"}}\n"
        );
        let changes = vec!["web: priority 100 -> 150".to_owned()];
        let answer = Answer::Reloaded { changes };
        let text = line(answer.clone());
        let back: Message<Answer> = serde_json::from_slice(&text).unwrap();
        assert_eq!((back.version, back.body), (VERSION, answer));
    }

    #[test]
    fn drained_is_on_the_disk_until_undrained() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert!(!was_drained(&state).unwrap());
        store_drained(&state, true).unwrap();
        store_drained(&state, true).unwrap();
        assert!(was_drained(&state).unwrap());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        store_drained(&state, false).unwrap();
        store_drained(&state, false).unwrap();
        assert!(!was_drained(&state).unwrap());
    }

    #[test]
    fn what_cannot_be_stored_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(store_drained(&file, true).is_err());
    }

    #[test]
    fn without_a_daemon_one_is_told_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        for left_over in [false, true] {
            if left_over {
                drop(listen(&dir.path().join(SOCKET)).unwrap());
            }
            let text = ask(dir.path(), &Request::Status).unwrap_err().to_string();
            assert!(text.starts_with("no vipd runs in "), "{text}");
            assert!(text.contains("start it with"), "{text}");
        }
    }
}
