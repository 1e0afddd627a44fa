//! Reproducible random numbers from a seed: splitmix64.

use std::ops::Range;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of the range; its start if it is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end.saturating_sub(range.start)).max(1)
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.range(0..len as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.range(0..100) < chance
    }

    pub fn span(&mut self, range: Range<Duration>) -> Duration {
        Duration::from_nanos(self.range(range.start.as_nanos() as u64..range.end.as_nanos() as u64))
    }
}
