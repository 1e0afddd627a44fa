//! The times at which a check runs.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A check runs in one of a few slots of its interval. All checks with the same interval share
/// these slots, because most of the cost of many checks is waking up for each. The golden ratio
/// distributes checks evenly over the slots, however many there are.
pub(super) struct Schedule {
    pub(super) interval: Duration,
    last: Instant,
}

impl Schedule {
    const SLOTS: u64 = 16;

    pub(super) fn new(number: u64, interval: Duration, epoch: Instant) -> Self {
        let golden = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let moment = (golden * Schedule::SLOTS) >> 32;
        let phase = interval.mul_f64(moment as f64 / Schedule::SLOTS as f64);
        let interval = interval.max(Duration::from_millis(1));
        let (now, mut last) = (Instant::now(), epoch + phase);
        if last > now {
            last -= interval;
        }
        let missed = (now - last).as_nanos() / interval.as_nanos();
        last += interval * u32::try_from(missed).unwrap_or(0);
        Schedule { interval, last }
    }

    /// Waits for the next time, which may have passed if the run took long. Cancel safe.
    pub(super) async fn next(&mut self) {
        let now = Instant::now();
        let mut next = self.last + self.interval;
        while next + self.interval < now {
            next += self.interval;
        }
        sleep_until(next).await;
        self.last = next;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn checks_of_one_interval_share_evenly_spread_moments() {
        let (epoch, interval) = (Instant::now(), Duration::from_secs(3600));
        let mut moments = BTreeMap::new();
        for number in 1..=200 {
            let Schedule { last, .. } = Schedule::new(number, interval, epoch);
            assert!(last <= Instant::now() && last.elapsed() <= interval, "{number}");
            *moments.entry(last).or_insert(0) += 1;
        }
        assert_eq!(moments.len() as u64, Schedule::SLOTS);
        let (fewest, most) = (moments.values().min(), moments.values().max());
        assert!(fewest >= Some(&11) && most <= Some(&14), "{moments:?}");
    }
}
