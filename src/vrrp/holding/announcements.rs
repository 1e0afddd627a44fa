//! The schedule of a master's announcements: frequent after a takeover, then rare, and at once if
//! there is a reason.

use std::time::Duration;

use crate::vrrp::time::Instant;

/// When a new master repeats its first announcement, after the claim.
const ANNOUNCE_AGAIN: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// Interval of announcements after that.
pub(super) const ANNOUNCE_REFRESH: Duration = Duration::from_secs(30);
/// Minimum time between a round and an urgent one after it.
const ANNOUNCE_GAP: Duration = Duration::from_secs(1);

/// The schedule of a master's announcements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Announcements {
    claimed_at: Instant,
    /// How many of [`ANNOUNCE_AGAIN`] have been done.
    done: usize,
    last_at: Instant,
    pub(super) scheduled_at: Instant,
    urgent_at: Option<Instant>,
}

impl Announcements {
    /// Begins with the second round: the caller makes the first one now.
    pub(super) fn begin(now: Instant) -> Self {
        Announcements {
            claimed_at: now,
            done: 0,
            last_at: now,
            scheduled_at: now + ANNOUNCE_AGAIN[0],
            urgent_at: None,
        }
    }

    /// Whether the frequent rounds right after the claim have been made.
    pub(super) fn is_settled(&self) -> bool {
        self.done > 2
    }

    pub(super) fn next_at(&self) -> Instant {
        self.urgent_at.map_or(self.scheduled_at, |urgent| urgent.min(self.scheduled_at))
    }

    /// Adds an urgent round, no earlier than `not_before` and `ANNOUNCE_GAP` after the last one.
    pub(super) fn announce_urgently(&mut self, not_before: Instant) {
        let at = not_before.max(self.last_at + ANNOUNCE_GAP);
        self.urgent_at = Some(self.urgent_at.map_or(at, |urgent| urgent.min(at)));
    }

    /// Schedules the next round if one is due. Returns whether that was a scheduled one, or `None`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<bool> {
        if now < self.next_at() {
            return None;
        }
        let scheduled = self.scheduled_at <= now;
        if scheduled {
            self.done += 1;
            self.scheduled_at = match ANNOUNCE_AGAIN.get(self.done) {
                Some(&after) => (self.claimed_at + after).max(now + ANNOUNCE_AGAIN[0]),
                None => now + ANNOUNCE_REFRESH,
            };
        }
        self.urgent_at = None;
        self.last_at = now;
        Some(scheduled)
    }
}
