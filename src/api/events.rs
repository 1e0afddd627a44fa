//! The history of events that `vipd events` shows: one line of JSON for each in `events.jsonl` in the
//! state directory, which outlives restarts and reboots.
//!
//! ```json
//! {"at":"2026-11-20T12:00:01.234Z","kind":"role","router":"web","from":"backup","to":"master","text":"no master was heard"}
//! ```

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The newer file, in the state directory.
pub const FILE: &str = "events.jsonl";
/// The older one.
pub const OLDER_FILE: &str = "events.1.jsonl";
/// How much of the end of each file [`newest`] reads, in bytes.
const TAIL: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Time, RFC 3339 in UTC.
    pub at: String,
    /// The name of a [`EventKind`]; consumers must accept new ones.
    pub kind: String,
    /// The virtual router it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    /// The role before, for a change of role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The role since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What happened; of a change of role the reason.
    pub text: String,
    /// How often it happened since the last entry of the same change of role: more than once if that
    /// goes on all the time.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub count: u32,
}

fn once() -> u32 {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_once(count: &u32) -> bool {
    *count == 1
}

words! {
    /// The kinds of event.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum EventKind {
        /// The daemon started or ended.
        Daemon = "daemon",
        Role = "role",
        /// Something that an operator should look at: contention, incompatible peers and the like.
        Warning = "warning",
        /// A hook did not end well.
        Hook = "hook",
        /// A check began to fail, or to pass again.
        Check = "check",
        /// An operator's command.
        Command = "command",
        /// The configuration was applied or refused.
        Reload = "reload",
    }
}

/// The newest events, the last one last; none if nothing was ever written.
///
/// # Errors
/// A file cannot be read.
pub fn newest(state_dir: &Path, at_most: usize) -> io::Result<Vec<Event>> {
    let mut events = end_of(&state_dir.join(OLDER_FILE))?;
    events.extend(end_of(&state_dir.join(FILE))?);
    events.drain(..events.len().saturating_sub(at_most));
    Ok(events)
}

fn end_of(path: &Path) -> io::Result<Vec<Event>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

/// The events in a part of a file. Its first line may be cut off, and the last one not yet complete:
/// what is no event is left out.
pub fn parse(part: &[u8]) -> Vec<Event> {
    let lines = part.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
