//! As much of PostgreSQL's protocol (version 3, simple queries, no password) as is needed to know
//! exactly what was acknowledged; and clients that count with it.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lab::Host;

/// When a client gives up and connects again.
const TIMEOUT: Duration = Duration::from_secs(2);
const PERIOD: Duration = Duration::from_millis(10);

/// How a statement ended.
#[derive(Clone, Debug, PartialEq)]
pub enum StatementOutcome {
    /// The server reported success.
    Done(Vec<String>),
    /// The server reported a failure.
    Refused(String),
    /// The connection ended, or the server reported an unknown result.
    Unknown(String),
}

pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub fn open(server: Ipv4Addr) -> io::Result<Self> {
        let server = SocketAddr::from((server, 5432));
        let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut hello = 196_608_u32.to_be_bytes().to_vec();
        hello.extend(b"user\0counter\0database\0counter\0\0");
        let length = u32::try_from(hello.len() + 4).unwrap();
        stream.write_all(&[&length.to_be_bytes()[..], &hello].concat())?;
        let mut connection = Self { stream };
        loop {
            match connection.message()? {
                (b'E', error) => return Err(io::Error::other(field(&error, b'M'))),
                (b'Z', _) => return Ok(connection),
                _ => {}
            }
        }
    }

    /// Runs one statement; returns the first column of its rows.
    pub fn query(&mut self, statement: &str) -> StatementOutcome {
        self.try_query(statement)
            .unwrap_or_else(|error| StatementOutcome::Unknown(error.to_string()))
    }

    fn try_query(&mut self, statement: &str) -> io::Result<StatementOutcome> {
        let length = u32::try_from(statement.len() + 5).unwrap();
        let message = [b"Q", &length.to_be_bytes()[..], statement.as_bytes(), b"\0"].concat();
        self.stream.write_all(&message)?;
        let mut rows = Vec::new();
        let mut outcome = None;
        loop {
            match self.message()? {
                // One column: their number, the length, the value.
                (b'D', row) => {
                    let value = row.get(6..).unwrap_or_default();
                    rows.push(String::from_utf8_lossy(value).into_owned());
                }
                (b'E', error) if field(&error, b'V') == "ERROR" => {
                    outcome = Some(StatementOutcome::Refused(field(&error, b'M')));
                }
                (b'E', error) => return Ok(StatementOutcome::Unknown(field(&error, b'M'))),
                // "The transaction has already committed locally, but might not have been replicated."
                (b'N', notice) if field(&notice, b'V') == "WARNING" => {
                    outcome = Some(StatementOutcome::Unknown(field(&notice, b'M')));
                }
                (b'Z', _) => return Ok(outcome.unwrap_or(StatementOutcome::Done(rows))),
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length).saturating_sub(4);
        let mut body = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut body)?;
        Ok((kind, body))
    }
}

/// Of an error or a notice.
fn field(message: &[u8], name: u8) -> String {
    let mut fields = message.split(|byte| *byte == 0);
    let value = fields.find_map(|field| field.strip_prefix(&[name]));
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

struct Statement {
    at: Instant,
    ended: Instant,
    number: u64,
    outcome: StatementOutcome,
}

/// What a client saw over some time.
#[derive(Clone, Copy, Default)]
pub struct StatementCounts {
    pub done: usize,
    pub refused: usize,
    pub unknown: usize,
    /// The longest time between two statements that were done.
    pub silence: Duration,
}

/// A client that runs one statement after the other.
pub struct Client {
    stop: Arc<AtomicBool>,
    statements: Arc<Mutex<Vec<Statement>>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Writes 1, 2, 3, ... Each number is tried once.
    pub fn writer(host: &Host, server: Ipv4Addr) -> Self {
        Self::start(host, server, |number| format!("INSERT INTO counted VALUES ({number})"))
    }

    /// Reads the highest number.
    pub fn reader(host: &Host, server: Ipv4Addr) -> Self {
        Self::start(host, server, |_| "SELECT coalesce(max(n), 0) FROM counted".to_owned())
    }

    fn start(
        host: &Host,
        server: Ipv4Addr,
        statement: impl Fn(u64) -> String + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let statements = Arc::new(Mutex::new(Vec::new()));
        let (ended, list) = (Arc::clone(&stop), Arc::clone(&statements));
        let thread = host.namespace().thread("sql", move || {
            let mut connection = None;
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                let at = Instant::now();
                number += 1;
                let outcome = match &mut connection {
                    Some(open) => Connection::query(open, &statement(number)),
                    None => match Connection::open(server) {
                        Ok(mut open) => {
                            let outcome = open.query(&statement(number));
                            connection = Some(open);
                            outcome
                        }
                        // Nothing was sent.
                        Err(error) => StatementOutcome::Refused(error.to_string()),
                    },
                };
                // A standby refuses to write; the next connection may find the primary.
                if !matches!(outcome, StatementOutcome::Done(_)) {
                    connection = None;
                }
                let ended = Instant::now();
                list.lock().unwrap().push(Statement { at, ended, number, outcome });
                thread::sleep((at + PERIOD).saturating_duration_since(Instant::now()));
            }
        });
        Self { stop, statements, thread: Some(thread.unwrap()) }
    }

    /// Of the statements that ended since then; a silence may have begun before.
    pub fn saw(&self, since: Instant) -> StatementCounts {
        let statements = self.statements.lock().unwrap();
        let mut saw = StatementCounts::default();
        let mut last_done = None;
        for statement in statements.iter() {
            let counts = statement.ended >= since;
            match &statement.outcome {
                StatementOutcome::Done(_) => {
                    if let (true, Some(last)) = (counts, last_done) {
                        saw.silence = saw.silence.max(statement.ended - last);
                    }
                    last_done = Some(statement.ended);
                    saw.done += usize::from(counts);
                }
                StatementOutcome::Refused(_) => saw.refused += usize::from(counts),
                StatementOutcome::Unknown(_) => saw.unknown += usize::from(counts),
            }
        }
        if let Some(last) = last_done {
            saw.silence = saw.silence.max(last.elapsed());
        }
        saw
    }

    /// Whether a statement was begun and done since then.
    pub fn works(&self, since: Instant) -> bool {
        let statements = self.statements.lock().unwrap();
        let last = statements.iter().rev().take_while(|statement| statement.at >= since);
        last.into_iter().any(|statement| matches!(statement.outcome, StatementOutcome::Done(_)))
    }

    /// The numbers that were acknowledged.
    pub fn acknowledged(&self) -> BTreeSet<u64> {
        let statements = self.statements.lock().unwrap();
        let done = statements.iter().filter(|one| matches!(one.outcome, StatementOutcome::Done(_)));
        done.map(|statement| statement.number).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is in the table.
pub fn counted(host: &Host, server: Ipv4Addr) -> Result<BTreeSet<u64>, String> {
    let outcome = host.namespace().run(move || {
        let mut connection = Connection::open(server).map_err(|error| error.to_string())?;
        Ok(connection.query("SELECT n FROM counted"))
    });
    match outcome {
        Ok(StatementOutcome::Done(rows)) => {
            Ok(rows.iter().filter_map(|row| row.parse().ok()).collect())
        }
        Ok(outcome) => Err(format!("{outcome:?}")),
        Err(error) => Err(error),
    }
}
