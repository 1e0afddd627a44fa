//! The delay before a start, if there were many recently. The systemd unit restarts a failed daemon
//! at once and without limit, so the daemon limits the rate itself.

use std::path::Path;
use std::time::Duration;

use super::clock;
use super::files::Directory;

/// The file of the starts, in the runtime directory.
const FILE: &str = "starts";
/// Most starts that are recorded.
const STARTS_KEPT: usize = 16;
/// How long a start counts.
const WINDOW: Duration = Duration::from_secs(60);
/// Starts within the window that are not delayed.
const FREE_RESTARTS: usize = 5;
/// Longest delay.
const DELAY_MAX: Duration = Duration::from_secs(30);
/// The delay while starts cannot be counted.
const UNRECORDED_DELAY: Duration = Duration::from_secs(1);

/// Records this start in the runtime directory and returns how long to wait before it: nothing for
/// the first five within a minute, then 1 s, 2 s, 4 s and so on up to 30 s. It is 1 s if that
/// directory is refused, and so the start, too.
pub(crate) fn restart_delay(runtime_dir: &Path) -> Duration {
    let Ok(directory) = Directory::create(runtime_dir) else { return UNRECORDED_DELAY };
    let now = clock::boottime();
    let text = directory.read(FILE).ok().flatten().unwrap_or_default();
    let mut starts: Vec<Duration> = text
        .lines()
        .filter_map(|line| line.parse().ok())
        .map(Duration::from_millis)
        .filter(|at| *at <= now && now - *at < WINDOW + DELAY_MAX)
        .collect();
    let delay = delay_after(starts.len());
    starts.push(now + delay);
    let surplus = starts.len().saturating_sub(STARTS_KEPT);
    let lines: String =
        starts[surplus..].iter().map(|at| format!("{}\n", at.as_millis())).collect();
    // If this fails, later starts are not delayed, which is no reason not to start.
    let _ = directory.write(FILE, &lines);
    delay
}

fn delay_after(recent: usize) -> Duration {
    match recent.checked_sub(FREE_RESTARTS) {
        None => Duration::ZERO,
        Some(beyond) => Duration::from_secs(1 << beyond.min(5)).min(DELAY_MAX),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_starts_are_not_delayed_and_the_delay_doubles_up_to_half_a_minute() {
        let waits: Vec<u64> = (0..12).map(|recent| delay_after(recent).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30]);
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            assert_eq!(restart_delay(dir.path()), Duration::ZERO);
        }
        assert_eq!(restart_delay(dir.path()), Duration::from_secs(1));
        std::fs::write(dir.path().join("starts"), "rubbish\n\u{0}").unwrap();
        assert_eq!(restart_delay(dir.path()), Duration::ZERO);
        assert_eq!(restart_delay(Path::new("/dev/null/nowhere")), UNRECORDED_DELAY);
    }
}
