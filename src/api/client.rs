//! A client of the control socket, with a method for each request.
//!
//! Each request opens a connection. The calls block: a request that only reads for at most four
//! seconds, a handover or a reload until it is over.

use std::fmt;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::Error as _;

use super::events::Event;
use super::protocol::{Answer, ErrorCode, GROUP, Move, Request, SOCKET, decode_answer, encode};
use super::status::Status;

/// How long a request that only reads waits for its answer, and how long a busy daemon is asked
/// again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);
/// Pause before a busy daemon is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum size of an answer, in bytes: larger than the status of as many virtual routers as fit on
/// a host.
const MAX_ANSWER: u64 = 256 << 20;

/// The daemon of one runtime directory.
#[derive(Clone, Debug)]
pub struct Client {
    runtime_dir: PathBuf,
}

/// The result of a drain.
#[derive(Clone, Debug, PartialEq)]
pub enum Drained {
    /// In force, and what that means; one entry for each virtual router that had addresses here.
    Moved(String, Vec<Move>),
    /// Stored for the next daemon, as this one is about to end; the sentence says so.
    Stored(String),
}

impl Client {
    /// A client of the daemon with this runtime directory; connects on each request.
    pub fn new(runtime_dir: &Path) -> Self {
        Client { runtime_dir: runtime_dir.to_owned() }
    }

    /// The state of the daemon and all its virtual routers.
    ///
    /// # Errors
    /// See [`ClientError`]; the same holds for the other requests.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.request(&Request::Status, |answer| match answer {
            Answer::Status(status) => Some(*status),
            _ => None,
        })
    }

    /// The newest events, the last one last.
    pub fn events(&self) -> Result<Vec<Event>, ClientError> {
        self.request(&Request::Events, |answer| match answer {
            Answer::Events { events } => Some(events),
            _ => None,
        })
    }

    /// Hands a virtual router over, and waits until it is known who took it.
    pub fn failover(&self, router: &str) -> Result<Vec<Move>, ClientError> {
        self.request(&Request::Failover { router: router.to_owned() }, |answer| match answer {
            Answer::Moved { moves, .. } => Some(moves),
            _ => None,
        })
    }

    /// Lets this host take a virtual router back; answers with what follows, as a sentence.
    pub fn resume(&self, router: &str) -> Result<String, ClientError> {
        self.request(&Request::Resume { router: router.to_owned() }, done)
    }

    /// Announces the addresses of a virtual router again; answers with which, as a sentence.
    pub fn announce(&self, router: &str) -> Result<String, ClientError> {
        self.request(&Request::Announce { router: router.to_owned() }, done)
    }

    /// Hands everything over and is the last resort until undrained, or with `force` does not serve.
    pub fn drain(&self, force: bool) -> Result<Drained, ClientError> {
        self.request(&Request::Drain { force }, |answer| match answer {
            Answer::Moved { text, moves } => Some(Drained::Moved(text, moves)),
            Answer::Done { text } => Some(Drained::Stored(text)),
            _ => None,
        })
    }

    /// Ends a drain; answers with what follows, as a sentence.
    pub fn undrain(&self) -> Result<String, ClientError> {
        self.request(&Request::Undrain, done)
    }

    /// Has the configuration read again; answers with what has changed.
    pub fn reload(&self) -> Result<Vec<String>, ClientError> {
        self.request(&Request::Reload, |answer| match answer {
            Answer::Reloaded { changes } => Some(changes),
            _ => None,
        })
    }

    /// Sends a request, and takes from the answer what belongs to it.
    fn request<T>(
        &self,
        request: &Request,
        expected: fn(Answer) -> Option<T>,
    ) -> Result<T, ClientError> {
        match self.ask(request)? {
            Answer::Error { code, text } => Err(ClientError::Refused { code, text }),
            answer => expected(answer).ok_or_else(|| {
                ClientError::NotUnderstood(serde_json::Error::custom("an answer to something else"))
            }),
        }
    }

    /// Sends a request; retries after a moment if the daemon is busy.
    fn ask(&self, request: &Request) -> Result<Answer, ClientError> {
        let give_up_at = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let answer = self.ask_once(request)?;
            let busy = matches!(answer, Answer::Error { code: ErrorCode::Busy, .. });
            if !busy || Instant::now() >= give_up_at {
                return Ok(answer);
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    fn ask_once(&self, request: &Request) -> Result<Answer, ClientError> {
        let lost = |error| ClientError::Lost(self.runtime_dir.clone(), error);
        let mut stream = UnixStream::connect(self.runtime_dir.join(SOCKET)).map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NoDaemon(self.runtime_dir.clone())
                }
                io::ErrorKind::PermissionDenied => {
                    ClientError::NotAllowed(self.runtime_dir.clone())
                }
                _ => lost(error),
            }
        })?;
        if request.only_reads() {
            stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(lost)?;
        }
        // A surplus client receives its answer although its request is not read.
        let sent = stream.write_all(&encode(request));
        let mut bytes = Vec::new();
        let received = io::BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut bytes);
        if bytes.is_empty() {
            let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection");
            let error = sent.and(received).err().unwrap_or_else(ended);
            return Err(lost(match error.kind() {
                io::ErrorKind::WouldBlock => io::Error::new(
                    io::ErrorKind::TimedOut,
                    "its process exists, but seems to be stopped or gets no processor time",
                ),
                _ => error,
            }));
        }
        decode_answer(&bytes).map_err(ClientError::NotUnderstood)
    }
}

fn done(answer: Answer) -> Option<String> {
    match answer {
        Answer::Done { text } => Some(text),
        _ => None,
    }
}

/// Why a request was not answered, or was refused.
#[derive(Debug)]
pub enum ClientError {
    /// No daemon listens in this runtime directory.
    NoDaemon(PathBuf),
    /// The socket is not for this user.
    NotAllowed(PathBuf),
    /// The connection ended, or the daemon did not answer.
    Lost(PathBuf, io::Error),
    /// This version does not know such an answer.
    NotUnderstood(serde_json::Error),
    Refused {
        /// The kind of error, for programs.
        code: ErrorCode,
        /// The reason and the next step, as a sentence.
        text: String,
    },
}

impl ClientError {
    /// A constant name for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            ClientError::NoDaemon(_) => "no_daemon",
            ClientError::NotAllowed(_) => "not_allowed",
            ClientError::Lost(..) => "lost",
            ClientError::NotUnderstood(_) => "not_understood",
            ClientError::Refused { code, .. } => code.name(),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::NoDaemon(dir) => write!(
                f,
                "vipd is not running (no daemon in {}): start it with \"systemctl start vipd\" or \"vipd run\", or name its directory with --runtime-dir",
                dir.display()
            ),
            ClientError::NotAllowed(dir) => write!(
                f,
                "no permission to connect to vipd in {}: try again with sudo, or join the group {GROUP} to see its status",
                dir.display()
            ),
            ClientError::Lost(dir, error) => {
                write!(f, "vipd in {} did not answer: {error}", dir.display())
            }
            ClientError::NotUnderstood(error) => write!(
                f,
                "the running vipd sent an answer that this program does not understand ({error}): use the program of the same version"
            ),
            ClientError::Refused { text, .. } => f.write_str(text),
        }
    }
}

impl std::error::Error for ClientError {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn without_a_daemon_the_error_names_the_next_step() {
        let dir = tempfile::tempdir().unwrap();
        for left_over in [false, true] {
            if left_over {
                drop(UnixListener::bind(dir.path().join(SOCKET)).unwrap());
            }
            let text = Client::new(dir.path()).status().unwrap_err().to_string();
            assert!(text.starts_with("vipd is not running (no daemon in "), "{text}");
            assert!(text.contains("start it with"), "{text}");
        }
    }

    #[test]
    fn an_answer_to_something_else_is_refused_in_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
        let daemon = std::thread::spawn(move || {
            for answer in [Answer::done("done"), Answer::error(ErrorCode::Refused, "not now")] {
                let (mut stream, _) = listener.accept().unwrap();
                io::BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                stream.write_all(&encode(answer)).unwrap();
            }
        });
        let client = Client::new(dir.path());
        let error = client.status().unwrap_err();
        assert_eq!(error.code(), "not_understood", "{error}");
        let error = client.status().unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), ("refused", "not now"));
        daemon.join().unwrap();
    }
}
