//! Logging that never blocks: what the reader of the log does not take in time is lost, counted,
//! and the loss is said.
//!
//! Lines go to standard error through a bounded queue and a thread of their own, or, when standard
//! error is the journal, to journald's own socket with every value as a field `VIPD_...`.
//! `VIPD_LOG` chooses what is logged: a level ("debug") or levels per part ("vipd::host=debug,info");
//! the default is "info".

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait for a slow reader of standard error.
const QUEUE: usize = 4096;
/// Losses are said at most this often.
const BETWEEN_REMARKS: Duration = Duration::from_secs(10);
/// Of one value, this much reaches the journal: a record must fit into one datagram.
const MAX_VALUE: usize = 8 * 1024;

/// Keeps logging alive; dropped, it waits about a second at most for what is still queued.
#[derive(Debug)]
#[must_use]
pub struct Guard {
    _worker: Option<WorkerGuard>,
}

/// Starts logging for this process, once. May start a thread, so capabilities must have been given
/// up before ([`crate::host::privileges`]).
pub fn init() -> Guard {
    let wanted = std::env::var("VIPD_LOG").ok().filter(|wanted| !wanted.trim().is_empty());
    let (targets, problem) = match wanted.as_deref().map(str::parse::<Targets>) {
        None => (Targets::new().with_default(LevelFilter::INFO), None),
        Some(Ok(targets)) => (targets, None),
        Some(Err(error)) => (Targets::new().with_default(LevelFilter::INFO), Some(error)),
    };
    let registry = tracing_subscriber::registry().with(targets);
    let under_journal = stderr_is_journal();
    let journal = under_journal.then(|| Journal::new(Path::new("/run/systemd/journal/socket")));
    let (worker, result) = match journal {
        Some(Ok(journal)) => (None, registry.with(journal).try_init()),
        Some(Err(_)) | None => {
            let (writer, worker) = Stderr::new();
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(writer)
                .with_target(false)
                .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
            let result = if under_journal {
                registry.with(layer.without_time()).try_init()
            } else {
                registry.with(layer).try_init()
            };
            (Some(worker), result)
        }
    };
    if result.is_err() {
        tracing::warn!("logging was set up twice");
    }
    if let Some(error) = problem {
        tracing::warn!("VIPD_LOG is not understood, using \"info\": {error}");
    }
    Guard { _worker: worker }
}

/// Whether `JOURNAL_STREAM` names the file that standard error is (systemd.exec(5)).
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.st_dev(), stderr.st_ino())
}

/// Counts what was lost, and knows when it is time to say so.
#[derive(Debug, Default)]
struct Losses {
    said: Mutex<(u64, Option<Instant>)>,
}

impl Losses {
    /// How many were lost since it was last said, if it is time to say it.
    fn to_say(&self, lost: u64) -> Option<u64> {
        // Only ever held for these lines; and who waits for a lock may as well be silent.
        let mut said = self.said.try_lock().ok()?;
        let (count, at) = &mut *said;
        let new = lost.checked_sub(*count).filter(|new| *new > 0)?;
        if at.is_some_and(|at| at.elapsed() < BETWEEN_REMARKS) {
            return None;
        }
        *count = lost;
        *at = Some(Instant::now());
        Some(new)
    }
}

/// Standard error behind a bounded queue.
#[derive(Debug)]
struct Stderr {
    queue: NonBlocking,
    lost: ErrorCounter,
    losses: Losses,
}

impl Stderr {
    fn new() -> (Self, WorkerGuard) {
        let (queue, worker) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(QUEUE)
            .thread_name("vipd-log")
            .finish(io::stderr());
        let lost = queue.error_counter();
        (Stderr { queue, lost, losses: Losses::default() }, worker)
    }
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = NonBlocking;

    fn make_writer(&'a self) -> NonBlocking {
        let mut queue = self.queue.clone();
        let lost = u64::try_from(self.lost.dropped_lines()).unwrap_or(u64::MAX);
        if let Some(lost) = self.losses.to_say(lost) {
            // A lossy queue takes or counts, and never fails.
            let _ = writeln!(queue, "{lost} lines of this log were lost: its reader was too slow");
        }
        queue
    }
}

/// journald's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) over a socket that never blocks.
#[derive(Debug)]
struct Journal {
    socket: UnixDatagram,
    /// Looked up at each record, so that journald may restart.
    path: PathBuf,
    lost: AtomicU64,
    losses: Losses,
}

impl Journal {
    fn new(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let (lost, losses) = (AtomicU64::new(0), Losses::default());
        Ok(Journal { socket, path: path.into(), lost, losses })
    }

    fn send(&self, record: &Record) {
        if self.socket.send_to(&record.bytes(), &self.path).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if let Some(lost) = self.losses.to_say(self.lost.load(Ordering::Relaxed)) {
            let mut remark = Record::new(Level::WARN);
            remark.message =
                format!("{lost} records of this log were lost: the journal was too slow");
            self.send(&remark);
        }
        let mut record = Record::new(*event.metadata().level());
        record.field("TARGET", event.metadata().target());
        event.record(&mut record);
        self.send(&record);
    }
}

/// One record for the journal: what is read is the message with all values, as on a terminal.
#[derive(Debug)]
struct Record {
    priority: &'static str,
    message: String,
    values: String,
    fields: Vec<u8>,
}

impl Record {
    fn new(level: Level) -> Self {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            Level::DEBUG | Level::TRACE => "7",
        };
        Record { priority, message: String::new(), values: String::new(), fields: Vec::new() }
    }

    /// Adds `VIPD_<name>`; the journal takes capital letters, digits and underscores.
    fn field(&mut self, name: &str, value: &str) {
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        put(&mut self.fields, &format!("VIPD_{name}"), value);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256 + self.fields.len());
        put(&mut bytes, "PRIORITY", self.priority);
        put(&mut bytes, "SYSLOG_IDENTIFIER", "vipd");
        put(&mut bytes, "MESSAGE", &format!("{}{}", self.message, self.values));
        bytes.extend_from_slice(&self.fields);
        bytes
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(self.values, " {}={value:?}", field.name());
            self.field(field.name(), value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        if field.name() == "message" {
            self.message.push_str(&value);
        } else {
            let _ = write!(self.values, " {}={value}", field.name());
            self.field(field.name(), &value);
        }
    }
}

/// One field in the form that may contain anything: name, newline, length, value, newline.
fn put(record: &mut Vec<u8>, name: &str, value: &str) {
    let value = value.get(..value.floor_char_boundary(MAX_VALUE)).unwrap_or(value);
    record.extend_from_slice(name.as_bytes());
    record.push(b'\n');
    record.extend_from_slice(&(value.len() as u64).to_le_bytes());
    record.extend_from_slice(value.as_bytes());
    record.push(b'\n');
}
