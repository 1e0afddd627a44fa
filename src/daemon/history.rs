//! Writes the history that `vipd events` shows: a task beside the advert loop, and the blocking pool.
//!
//! The loop never writes and never waits for it. What cannot be written is lost: history, and nothing
//! else. Two files of at most 1 MiB are kept.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

pub(crate) use crate::api::events::EventKind;
use crate::api::events::{Event, FILE, OLDER_FILE};
use crate::host::files::Directory;

/// Maximum size of each file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Maximum number of events that wait for a slow disk.
const QUEUE: usize = 1024;
/// Maximum number of events written at once.
const BATCH: usize = 256;
/// A change of role that is repeated more often than this ...
const SINGLE: u32 = 3;
/// ... within this time is counted, and written once for each such time.
const COALESCED: Duration = Duration::from_secs(10);
/// How long the end of the daemon waits for the disk: the next daemon must not be delayed.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

/// An event of this moment.
pub(crate) fn now(kind: EventKind, router: Option<&str>, text: impl Into<String>) -> Event {
    Event {
        at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        kind: kind.name().to_owned(),
        router: router.map(str::to_owned),
        from: None,
        to: None,
        text: text.into(),
        count: 1,
    }
}

/// A change of role at this moment.
pub(crate) fn change(router: &str, from: &str, to: &str, why: String) -> Event {
    let (from, to) = (Some(from.to_owned()), Some(to.to_owned()));
    Event { from, to, ..now(EventKind::Role, Some(router), why) }
}

/// Queues events for the task that writes them; the default drops them.
#[derive(Debug, Default)]
pub(crate) struct History {
    writer: Option<(mpsc::Sender<Event>, JoinHandle<()>)>,
    lost: u64,
}

impl History {
    /// Starts to write history in this directory, by a task of the runtime it is called in.
    pub(crate) fn start(state_dir: &Path) -> Self {
        let (events, queue) = mpsc::channel(QUEUE);
        let task = tokio::spawn(write(queue, state_dir.to_owned()));
        History { writer: Some((events, task)), lost: 0 }
    }

    /// Queues an event without waiting; drops it if the queue is full.
    pub(crate) fn note(&mut self, event: Event) {
        let Some((events, _)) = &self.writer else { return };
        if events.try_send(event).is_err() {
            self.lost += 1;
            if self.lost == 1 {
                warn!("the disk is too slow for the history of events: some of it is lost");
            }
        }
    }

    /// Writes the rest of the queue, for at most [`FLUSH_TIMEOUT`].
    pub(crate) async fn end(self) {
        if let Some((events, task)) = self.writer {
            drop(events);
            let _ = tokio::time::timeout(FLUSH_TIMEOUT, task).await;
        }
    }
}

async fn write(mut queue: mpsc::Receiver<Event>, state_dir: PathBuf) {
    let mut failing = false;
    let mut batch = Vec::new();
    let mut repeats = Repeats::default();
    let mut open = true;
    while open {
        let received = queue.recv_many(&mut batch, BATCH);
        open = match repeats.next_at() {
            Some(at) => timeout_at(at, received).await.is_ok_and(|n| n > 0) || !queue.is_closed(),
            None => received.await > 0,
        };
        let now = Instant::now();
        let mut events: Vec<Event> =
            batch.drain(..).filter_map(|event| repeats.take(now, event)).collect();
        events.extend(repeats.due(now, !open));
        if events.is_empty() {
            continue;
        }
        let state_dir = state_dir.clone();
        let appended = tokio::task::spawn_blocking(move || append(&state_dir, &events));
        let outcome = appended.await.map_err(io::Error::other).flatten();
        if let Err(error) = &outcome
            && !failing
        {
            warn!(%error, "the history of events cannot be written, so some of it is lost");
        }
        failing = outcome.is_err();
    }
}

/// Changes of role that are repeated all the time, so that they do not displace everything else.
#[derive(Debug, Default)]
struct Repeats(Vec<Repeat>);

#[derive(Debug)]
struct Repeat {
    first: Event,
    since: Instant,
    /// How many were written singly.
    written: u32,
    /// The last one, with the number of those that were not written.
    held: Option<Event>,
}

impl Repeats {
    /// Returns the event if it is to be written now.
    fn take(&mut self, now: Instant, event: Event) -> Option<Event> {
        if event.from.is_none() {
            return Some(event);
        }
        let same = |repeat: &&mut Repeat| {
            let first = &repeat.first;
            (&first.router, &first.from, &first.to) == (&event.router, &event.from, &event.to)
        };
        match self.0.iter_mut().find(same) {
            Some(repeat) if repeat.written >= SINGLE => {
                let count = repeat.held.as_ref().map_or(1, |held| held.count + 1);
                repeat.held = Some(Event { count, ..event });
                return None;
            }
            Some(repeat) => repeat.written += 1,
            None => {
                let first = event.clone();
                self.0.push(Repeat { first, since: now, written: 1, held: None });
            }
        }
        Some(event)
    }

    /// Returns what has been counted for long enough, or with `all` everything.
    fn due(&mut self, now: Instant, all: bool) -> Vec<Event> {
        let mut due = Vec::new();
        self.0.retain_mut(|repeat| {
            if !all && now < repeat.since + COALESCED {
                return true;
            }
            repeat.since = now;
            let held = repeat.held.take();
            let goes_on = held.is_some();
            due.extend(held);
            goes_on
        });
        due
    }

    fn next_at(&self) -> Option<Instant> {
        self.0.iter().map(|repeat| repeat.since + COALESCED).min()
    }
}

/// Appends all of the events, or none.
fn append(state_dir: &Path, events: &[Event]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for event in events {
        serde_json::to_writer(&mut bytes, event)?;
        bytes.push(b'\n');
    }
    let directory = Directory::create(state_dir)?;
    let mut file = directory.open_to_append(FILE)?;
    let mut length = file.metadata()?.len();
    if length > 0 && length + bytes.len() as u64 > MAX_FILE {
        directory.rename(FILE, OLDER_FILE)?;
        file = directory.open_to_append(FILE)?;
        length = 0;
    }
    // Half a line would corrupt the next one.
    file.write_all(&bytes).inspect_err(|_| drop(file.set_len(length)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::events::newest;
    use std::fs;

    #[test]
    fn the_newest_events_come_from_both_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(newest(dir.path(), 10).unwrap(), []);
        let event = |number: u32| now(EventKind::Command, None, number.to_string());
        append(dir.path(), &[event(1), event(2)]).unwrap();
        fs::rename(dir.path().join(FILE), dir.path().join(OLDER_FILE)).unwrap();
        append(dir.path(), &[event(3)]).unwrap();
        let texts = |at_most| {
            let events = newest(dir.path(), at_most).unwrap().into_iter();
            events.map(|event| event.text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((texts(10), texts(2)), ("1 2 3".to_owned(), "2 3".to_owned()));
        for number in 4..2000 {
            append(dir.path(), &[event(number)]).unwrap();
        }
        assert_eq!(texts(2), "1998 1999");
        assert!(newest(dir.path(), usize::MAX).unwrap().len() > 500);
    }

    #[test]
    fn a_change_of_role_that_is_repeated_all_the_time_is_one_entry_with_a_count() {
        let mut repeats = Repeats::default();
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let mut written = Vec::new();
        for n in 0..300 {
            let (from, to) = if n % 2 == 0 { ("backup", "master") } else { ("master", "backup") };
            written.extend(repeats.take(at(n * 10), change("web", from, to, n.to_string())));
            written.extend(repeats.due(at(n * 10), false));
        }
        assert_eq!(written.len(), 6, "three of each");
        let other = now(EventKind::Command, None, "drain");
        assert_eq!(repeats.take(at(3000), other.clone()), Some(other));
        assert_eq!(repeats.due(at(9999), false), []);
        let due = repeats.due(at(10_010), false);
        let counts = due.iter().map(|event| (event.count, &*event.text));
        assert_eq!(counts.collect::<Vec<_>>(), [(147, "298"), (147, "299")]);
        assert_eq!(repeats.due(at(20_010), false), []);
        assert_eq!(repeats.next_at(), None, "it has ended");
    }

    #[test]
    fn history_is_bounded_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let text = "x".repeat(10_000);
        for number in 0..300 {
            let mut event = now(EventKind::Command, None, text.clone());
            event.at = number.to_string();
            append(dir.path(), &[event]).unwrap();
        }
        let read = |name| fs::read_to_string(dir.path().join(name)).unwrap();
        let (older, newer) = (read(OLDER_FILE), read(FILE));
        assert!(older.len() as u64 <= MAX_FILE && newer.len() as u64 <= MAX_FILE);
        let both = format!("{older}{newer}");
        let numbers: Vec<u32> = both
            .lines()
            .map(|line| serde_json::from_str::<Event>(line).unwrap().at.parse().unwrap())
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
        assert_eq!(*numbers.last().unwrap(), 299);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_event_that_cannot_be_written_is_dropped_without_waiting() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut history = History::start(Path::new("/dev/null/nowhere"));
            for _ in 0..2 * QUEUE {
                history.note(now(EventKind::Warning, Some("web"), "?"));
            }
            assert_eq!(history.lost, QUEUE as u64);
            history.end().await;
        });
    }
}
