//! Waiting longer after each failure of something that is tried again.

use std::time::Duration;

use super::time::Instant;

/// How long to wait after a failure: the first wait, then twice as long each time, up to a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Backoff {
    failures: u32,
    /// The end of the last wait.
    until: Instant,
}

impl Backoff {
    /// When to try again after a failure now. A failure that comes more than `longest` after the
    /// last wait is a new one.
    pub(super) fn next(&mut self, now: Instant, first: Duration, longest: Duration) -> Instant {
        if now - self.until > longest {
            self.failures = 0;
        }
        // More than 31 doublings exceed every limit.
        let wait = first.saturating_mul(1 << self.failures.min(31)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.until = now + wait;
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew_after_a_long_success() {
        let (first, longest) = (Duration::from_secs(10), Duration::from_secs(60));
        let (mut backoff, mut now) = (Backoff::default(), Instant::from_millis(5));
        let mut fails = |pause: u64| {
            now += Duration::from_secs(pause);
            let until = backoff.next(now, first, longest);
            let wait = until - now;
            now = until;
            wait.as_secs()
        };
        let waits = [0, 3, 3, 3, 60, 61, 0].map(&mut fails);
        assert_eq!(waits, [10, 20, 40, 60, 60, 10, 20]);
        assert!((0..100).all(|_| fails(0) <= 60));
    }
}
