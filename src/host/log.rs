//! Logging that never blocks: lines that the reader of the log does not take in time are dropped,
//! counted, and the number is logged.
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

/// Maximum number of lines that wait for a slow reader of standard error.
const QUEUE: usize = 1024;
/// Minimum time between two lines about losses.
const LOSS_REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum length of a value in the journal, in bytes: a record must fit into one datagram.
const MAX_VALUE: usize = 8 * 1024;

/// Keeps logging active; dropping it waits about a second at most for queued lines.
#[derive(Debug)]
#[must_use]
pub(crate) struct Guard {
    _worker: Option<WorkerGuard>,
}

/// Starts logging for this process, once. May start a thread, so capabilities must be dropped
/// before ([`super::privileges`]).
pub(crate) fn init() -> Guard {
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

/// Decides when to report how many lines were lost.
#[derive(Debug, Default)]
struct Losses(Mutex<LossCounts>);

#[derive(Debug, Default)]
struct LossCounts {
    /// The count at the last line.
    seen: u64,
    /// The count that was last reported.
    reported: u64,
    at: Option<Instant>,
}

impl Losses {
    /// Calls `report` if more lines were lost since the last report, not too soon after it, and not
    /// while lines are still being lost. `lost` is the number since the start; `report` returns whether
    /// its own line got through.
    fn report(&self, lost: u64, report: impl FnOnce() -> bool) {
        // Held for these lines only; a thread that finds it locked leaves the report to the other.
        let Ok(mut last) = self.0.try_lock() else { return };
        let still_losing = last.seen != lost;
        last.seen = lost;
        let recently = last.at.is_some_and(|at| at.elapsed() < LOSS_REPORT_INTERVAL);
        if !still_losing && last.reported != lost && !recently && report() {
            last.reported = lost;
            last.at = Some(Instant::now());
        }
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
        let lost = self.lost.dropped_lines();
        self.losses.report(lost as u64, || {
            let line =
                format!("{lost} lines of this log were lost so far: its reader is too slow\n");
            queue.write_all(line.as_bytes()).is_ok() && self.lost.dropped_lines() == lost
        });
        queue
    }
}

/// journald's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) over a socket that never blocks.
#[derive(Debug)]
struct Journal {
    socket: UnixDatagram,
    /// Resolved for each record, so that journald may restart.
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

    /// Returns whether the journal accepted it.
    fn send(&self, record: &JournalRecord) -> bool {
        let sent = self.socket.send_to(&record.bytes(), &self.path).is_ok();
        if !sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let lost = self.lost.load(Ordering::Relaxed);
        self.losses.report(lost, || {
            let mut record = JournalRecord::new(Level::WARN);
            record.message =
                format!("{lost} records of this log were lost so far: the journal is too slow");
            self.send(&record)
        });
        let mut record = JournalRecord::new(*event.metadata().level());
        record.field("TARGET", event.metadata().target());
        event.record(&mut record);
        self.send(&record);
    }
}

/// One record for the journal; its message has all values, as on a terminal.
#[derive(Debug)]
struct JournalRecord {
    priority: &'static str,
    message: String,
    values: String,
    fields: Vec<u8>,
}

impl JournalRecord {
    fn new(level: Level) -> Self {
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            Level::DEBUG | Level::TRACE => "7",
        };
        JournalRecord {
            priority,
            message: String::new(),
            values: String::new(),
            fields: Vec::new(),
        }
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

impl Visit for JournalRecord {
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

/// One field in binary form: name, newline, length, value, newline.
fn put(record: &mut Vec<u8>, name: &str, value: &str) {
    let end = (0..=MAX_VALUE.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
    let value = &value[..end.unwrap_or_default()];
    record.extend_from_slice(name.as_bytes());
    record.push(b'\n');
    record.extend_from_slice(&(value.len() as u64).to_le_bytes());
    record.extend_from_slice(value.as_bytes());
    record.push(b'\n');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::process::{Command, Stdio};

    /// Runs one test of this module again, in a process of its own that may set up logging.
    fn again(test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", &format!("host::log::tests::{test}")]);
        command.env("VIPD_TEST_LOGS", "1").env_remove("VIPD_LOG").env_remove("JOURNAL_STREAM");
        command.stdout(Stdio::null()).stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn is_again() -> bool {
        std::env::var_os("VIPD_TEST_LOGS").is_some()
    }

    #[test]
    fn a_reader_that_does_not_read_blocks_nothing_and_gets_the_number_of_lost_lines() {
        if is_again() {
            let guard = init();
            for number in 0..10_000 {
                tracing::info!(number, "a line that is long enough to fill a pipe before long");
            }
            // So that the parent reads only now.
            println!("logged");
            std::thread::sleep(Duration::from_secs(3));
            tracing::info!("again");
            tracing::info!("the end");
            drop(guard);
            return;
        }
        let mut command =
            again("a_reader_that_does_not_read_blocks_nothing_and_gets_the_number_of_lost_lines");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        // Blocks for ever if logging does; the harness prints its own lines first.
        let mut said = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        while !said.contains("logged") {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "ended after {said}");
            said.push(byte[0].into());
        }
        let mut lines = String::new();
        child.stderr.as_mut().unwrap().read_to_string(&mut lines).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(lines.contains("number=0\n"), "{lines}");
        assert!(lines.contains("the end\n"), "{lines}");
        assert!(lines.contains("lines of this log were lost so far"), "{lines}");
        assert!(lines.lines().count() < 10_000);
    }

    #[test]
    fn vipd_log_chooses_levels_by_part_and_lines_carry_their_values() {
        if is_again() {
            let _guard = init();
            tracing::debug!(target: "vipd::host", index = 3, "link came up");
            tracing::debug!(target: "vipd::vrrp", "not wanted");
            tracing::info!(router = "web", "master");
            return;
        }
        let test = "vipd_log_chooses_levels_by_part_and_lines_carry_their_values";
        let said = |wanted: &str| {
            let output = again(test).env("VIPD_LOG", wanted).output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stderr).unwrap()
        };
        let lines = said("vipd::host=debug,info");
        assert!(lines.contains("DEBUG link came up index=3\n"), "{lines}");
        assert!(lines.contains(" INFO master router=\"web\"\n"), "{lines}");
        assert!(!lines.contains("not wanted") && !lines.contains('\x1b'), "{lines}");
        assert!(lines.starts_with("20"), "no time in {lines}");
        let lines = said("");
        assert!(lines.contains("master") && !lines.contains("link came up"), "{lines}");
        let lines = said("vipd=loud");
        assert!(
            lines.contains("VIPD_LOG is not understood") && lines.contains("master"),
            "{lines}"
        );
    }

    /// Takes a record apart again.
    fn fields(mut record: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !record.is_empty() {
            let end = record.iter().position(|byte| *byte == b'\n').unwrap();
            let (name, rest) = record.split_at(end);
            let length = u64::from_le_bytes(rest[1..9].try_into().unwrap()) as usize;
            let (value, rest) = rest[9..].split_at(length);
            assert_eq!(rest[0], b'\n');
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert!(fields.insert(text(name), text(value)).is_none(), "twice: {}", text(name));
            record = &rest[1..];
        }
        fields
    }

    fn journal() -> (UnixDatagram, Journal, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        journald.set_nonblocking(true).unwrap();
        (journald, Journal::new(&path).unwrap(), directory)
    }

    fn receive(journald: &UnixDatagram) -> Option<BTreeMap<String, String>> {
        let mut buffer = vec![0; 256 * 1024];
        let length = journald.recv(&mut buffer).ok()?;
        Some(fields(&buffer[..length]))
    }

    #[test]
    fn the_journal_gets_every_value_as_a_field() {
        let (journald, journal, _directory) = journal();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
            tracing::warn!(router = "web", sent.count = 3, why = %"two\nlines", "peer differs");
            tracing::info!("{}", "x".repeat(100_000));
        });
        let record = receive(&journald).unwrap();
        let expected = [
            ("MESSAGE", "peer differs router=\"web\" sent.count=3 why=two\nlines"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "vipd"),
            ("VIPD_ROUTER", "web"),
            ("VIPD_SENT_COUNT", "3"),
            ("VIPD_TARGET", "vipd::host::log::tests"),
            ("VIPD_WHY", "two\nlines"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(record, BTreeMap::from(expected));
        let record = receive(&journald).unwrap();
        assert_eq!((record["PRIORITY"].as_str(), record["MESSAGE"].len()), ("6", MAX_VALUE));
    }

    #[test]
    fn a_journal_that_does_not_read_blocks_nothing_and_gets_the_number_of_lost_records() {
        let (journald, journal, _directory) = journal();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
            for number in 0..10_000 {
                tracing::info!(number, "a record");
            }
            let mut received = 0;
            while receive(&journald).is_some() {
                received += 1;
            }
            assert!(received > 0 && received < 10_000, "{received}");
            tracing::info!("again");
            tracing::info!("the end");
            let records: Vec<_> = std::iter::from_fn(|| receive(&journald)).collect();
            let messages: Vec<_> = records.iter().map(|record| &record["MESSAGE"]).collect();
            let lost = 10_000 - received;
            let remark =
                format!("{lost} records of this log were lost so far: the journal is too slow");
            assert_eq!(messages, ["again", &remark, "the end"]);
        });
    }

    #[test]
    fn losses_are_reported_at_intervals() {
        let losses = Losses::default();
        let said = |lost, gets_through| {
            let mut said = false;
            losses.report(lost, || {
                said = true;
                gets_through
            });
            said
        };
        assert!(!said(0, true));
        assert!(!said(3, true), "the reader has not recovered");
        assert!(said(3, false));
        assert!(said(3, true), "the first did not get through");
        assert!(!said(3, true), "it was said");
        assert!(!said(9, true) && !said(9, true), "too soon");
        losses.0.lock().unwrap().at = Instant::now().checked_sub(LOSS_REPORT_INTERVAL);
        assert!(said(9, true));
    }
}
