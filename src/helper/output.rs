//! The output of programs: logged line by line, or its end kept; made safe for logs and terminals.

use std::io::{self, PipeReader, Read as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::host::sys::Readiness;
use crate::text;
use crate::vrrp::Hook;

/// How long remaining output is read after the program has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);
/// Limits of what is logged of one hook: lines, and bytes per line.
const MAX_LINES: usize = 100;
const MAX_LINE: usize = 1000;
/// Bytes kept of the output of a check: the end, which usually contains the error.
const MAX_KEPT: usize = 400;
/// Limit of pipes that are kept open for background processes that programs leave behind.
const MAX_DETACHED: usize = 64;

/// The destination of a program's output.
pub(super) enum Sink {
    /// Logged line by line.
    Log(Lines),
    /// Discarded except for its end.
    Keep(Vec<u8>),
}

/// Splits the output of a hook into lines for the log.
pub(super) struct Lines {
    router: String,
    state: Hook,
    program: String,
    line: Vec<u8>,
    cut: bool,
    lines: usize,
    lost: usize,
}

impl Lines {
    pub(super) fn of(router: &str, state: Hook, program: &str) -> Self {
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
            let (router, state, program) = (&*self.router, self.state.name(), &*self.program);
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
            let (router, state, program) = (&*self.router, self.state.name(), &*self.program);
            warn!(router, state, program, "{} more lines of output are not logged", self.lost);
            self.lost = 0;
        }
    }
}

/// The pipe that a program writes to.
pub(super) struct ProgramOutput {
    pipe: PipeReader,
    /// Registered with the event loop only when it is waited for.
    watched: Option<Readiness>,
    /// All writers have closed it.
    pub ended: bool,
    to: Sink,
}

impl ProgramOutput {
    pub(super) fn new(pipe: PipeReader, to: Sink) -> Self {
        ProgramOutput { pipe, watched: None, ended: false, to }
    }

    /// Waits for output and reads some of it.
    pub(super) async fn read(&mut self) {
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

    /// Reads some output without waiting; `false` if there is none now.
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
                        // One byte more, to know whether something was cut.
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

    pub(super) fn finish(&mut self) -> String {
        let begin = Instant::now();
        while !self.ended && begin.elapsed() < DRAIN_TIMEOUT && self.take() {}
        match &mut self.to {
            Sink::Log(lines) => {
                lines.finish();
                String::new()
            }
            Sink::Keep(kept) => excerpt(kept),
        }
    }

    /// Keeps reading what background processes of the program write: a closed pipe could kill them.
    pub(super) fn detach(&mut self) {
        static DETACHED: AtomicUsize = AtomicUsize::new(0);
        if self.ended || DETACHED.load(Ordering::Relaxed) >= MAX_DETACHED {
            return;
        }
        let (Ok(pipe), Ok(runtime)) = (self.pipe.try_clone(), Handle::try_current()) else {
            return;
        };
        let Ok(mut pipe) = pipe::Receiver::from_owned_fd(pipe.into()) else { return };
        DETACHED.fetch_add(1, Ordering::Relaxed);
        runtime.spawn(async move {
            let mut nowhere = [0; 8192];
            while !matches!(pipe.read(&mut nowhere).await, Ok(0) | Err(_)) {}
            DETACHED.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// What a program wrote, so that it cannot disturb a terminal or forge a log line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    text::printable(String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']))
}

/// The end of a text as one line of at most 400 bytes.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
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
        assert_eq!(printable("\u{202e}lleh\u{200b}".as_bytes()), "\\u{202e}lleh\\u{200b}");
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
