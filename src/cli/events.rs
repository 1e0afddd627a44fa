//! `vipd events`: the history of this host, which outlives restarts.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::output::fail;
use crate::api::events::{Event, FILE, OLDER_FILE};

/// How often the file is checked for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Prints the history, and with `follow` new events until interrupted.
pub(super) fn run(state_dir: &Path, follow: bool, json: bool) -> ExitCode {
    match print(state_dir, follow, json) {
        // A closed pipe is no error.
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::NotFound => fail(format_args!(
            "there is no history in {}: no daemon has run with this state directory; --state-dir names another",
            state_dir.display()
        )),
        Err(error) => fail(format_args!("cannot read {}: {error}", state_dir.display())),
    }
}

fn print(state_dir: &Path, follow: bool, json: bool) -> io::Result<()> {
    let path = state_dir.join(FILE);
    // Opened before the older one is read, so that nothing is missed if they are rotated meanwhile.
    let mut file = File::open(&path)?;
    let mut text = Vec::new();
    if let Ok(mut older) = File::open(state_dir.join(OLDER_FILE))
        && older.metadata()?.ino() != file.metadata()?.ino()
    {
        older.read_to_end(&mut text)?;
        show(&mut text, json)?;
    }
    loop {
        file.read_to_end(&mut text)?;
        show(&mut text, json)?;
        if !follow {
            return Ok(());
        }
        std::thread::sleep(POLL_INTERVAL);
        if let Ok(newer) = File::open(&path)
            && newer.metadata()?.ino() != file.metadata()?.ino()
        {
            file.read_to_end(&mut text)?;
            file = newer;
        }
    }
}

/// Prints the complete lines and keeps the rest.
fn show(text: &mut Vec<u8>, json: bool) -> io::Result<()> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut out = io::stdout().lock();
    for line in text.drain(..whole).as_slice().split(|byte| *byte == b'\n') {
        let Ok(event) = serde_json::from_slice::<Event>(line) else { continue };
        if json {
            out.write_all(line)?;
            out.write_all(b"\n")?;
        } else {
            writeln!(out, "{}", sentence(&event))?;
        }
    }
    out.flush()
}

pub(crate) fn sentence(event: &Event) -> String {
    let Event { at, kind, router, from, to, text, count } = event;
    // Text of several lines, as of a refused configuration, is indented.
    let text = text.trim_end().replace('\n', "\n    ");
    let text = if *count > 1 { format!("{text} ({count} times)") } else { text };
    match (router, from, to) {
        (Some(router), Some(from), Some(to)) => format!("{at}  {router}: {from} -> {to}: {text}"),
        (Some(router), _, _) => format!("{at}  {router}: {kind}: {text}"),
        (None, _, _) => format!("{at}  {kind}: {text}"),
    }
}
