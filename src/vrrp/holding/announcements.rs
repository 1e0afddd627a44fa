//! When a master announces its addresses: quickly repeated at first, then seldom, and at once when
//! there is a reason.

use std::time::Duration;

use crate::vrrp::time::Instant;

/// When a new master repeats its first announcement, counted from the claim.
const ANNOUNCE_AGAIN: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// How often a master announces when nothing happens.
const ANNOUNCE_REFRESH: Duration = Duration::from_secs(30);
/// At most one urgent round of announcements in this time.
const ANNOUNCE_GAP: Duration = Duration::from_secs(1);

/// When a master announces its addresses.
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
    /// The first round is made by whoever calls this.
    pub(super) fn begin(now: Instant) -> Self {
        Announcements {
            claimed_at: now,
            done: 0,
            last_at: now,
            scheduled_at: now + ANNOUNCE_AGAIN[0],
            urgent_at: None,
        }
    }

    pub(super) fn next_at(&self) -> Instant {
        self.urgent_at.map_or(self.scheduled_at, |urgent| urgent.min(self.scheduled_at))
    }

    /// A round beside the schedule, no earlier than `not_before` and at most one a second.
    pub(super) fn urge(&mut self, not_before: Instant) {
        let at = not_before.max(self.last_at + ANNOUNCE_GAP);
        self.urgent_at = Some(self.urgent_at.map_or(at, |urgent| urgent.min(at)));
    }

    /// Whether a round is due now; if so, the next one is set.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        if now < self.next_at() {
            return false;
        }
        if self.scheduled_at <= now {
            self.done += 1;
            self.scheduled_at = match ANNOUNCE_AGAIN.get(self.done) {
                Some(&after) => (self.claimed_at + after).max(now + ANNOUNCE_AGAIN[0]),
                None => now + ANNOUNCE_REFRESH,
            };
        }
        self.urgent_at = None;
        self.last_at = now;
        true
    }
}
