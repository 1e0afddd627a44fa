//! Damping: a virtual router that takes over again and again waits longer each time.
//!
//! Packets, forged or not, and a machine that is too slow for its advert interval could otherwise
//! change the role many times a second, each time with hooks and announcements.

use std::time::Duration;

use crate::vrrp::time::Instant;

/// How many takeovers in quick succession do not wait for one another ...
const FREE: u32 = 6;
/// ... and how long it takes until one of them no longer counts.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// The time from the first takeover that counts to the next one; doubled with each further one ...
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// ... this many times.
const DOUBLINGS: u32 = 3;

/// The takeovers that count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Damping {
    takeovers: u32,
    /// Since when the oldest of them has counted.
    since: Instant,
}

impl Damping {
    /// Counts a takeover. Returns how long the next one has to wait, if it has to.
    pub(super) fn take_over(&mut self, now: Instant) -> Option<Duration> {
        while self.takeovers > 0 && now - self.since >= FORGOTTEN_AFTER {
            self.takeovers -= 1;
            self.since += FORGOTTEN_AFTER;
        }
        if self.takeovers == 0 {
            self.since = now;
        }
        self.takeovers = (self.takeovers + 1).min(FREE + DOUBLINGS + 1);
        let doublings = self.takeovers.checked_sub(FREE + 1)?;
        Some(FIRST_WAIT * 2_u32.pow(doublings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takeovers_wait_longer_until_they_have_become_rare() {
        let mut damping = Damping::default();
        let mut now = Instant::from_millis(1);
        let mut takes_over_at = |millis: u64| {
            now += Duration::from_millis(millis);
            damping.take_over(now).map_or(0, |wait| wait.as_secs())
        };
        let quick: Vec<u64> = (0..12).map(|_| takes_over_at(10)).collect();
        assert_eq!(quick, [0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 8, 8]);
        assert_eq!(takes_over_at(8_000), 8, "as often as it may");
        assert_eq!(takes_over_at(3_600_000), 0, "all of them are forgotten");
    }

    #[test]
    fn a_host_that_takes_over_every_ten_seconds_never_waits() {
        let mut damping = Damping::default();
        for n in 1..1000 {
            assert_eq!(damping.take_over(Instant::from_millis(n * 10_000)), None, "{n}");
        }
    }
}
