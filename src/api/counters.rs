//! Counters of one virtual router, or of the whole node.
//!
//! The advert loop counts in the type that `vipd status --json` shows. Counting allocates only when
//! something is counted for the first time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A word for programs, snake_case, never changed once published.
pub type Word = Cow<'static, str>;

/// Counted since the daemon started, of one virtual router or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Adverts that the kernel accepted for at least one destination.
    pub adverts_sent: u64,
    /// Adverts that the kernel refused, for each destination.
    pub adverts_refused: u64,
    /// Adverts that left and are known not to have arrived, for each destination.
    pub adverts_undelivered: u64,
    /// Packets that reached the protocol, discarded ones included.
    pub adverts_received: u64,
    /// Rounds of announcements.
    pub announcements: u64,
    /// Adverts of others that a master received and stayed master.
    pub contending_adverts: u64,
    /// Announcements by others of addresses that this host held.
    pub contending_announcements: u64,
    /// Addresses of ours that something on this host removed.
    pub addresses_removed: u64,
    /// Renewals of the addresses' lifetime that the kernel refused, or that came too late to be sent.
    pub renewals_failed: u64,
    /// Packets that were not acted on, by reason.
    pub discards: BTreeMap<Word, u64>,
    /// How late scheduled adverts were sent.
    pub advert_lateness: Histogram,
    /// Time from an advert to the completion of the lease renewal that belongs to it.
    pub renewal_lateness: Histogram,
    pub transitions: Vec<TransitionCount>,
    pub hooks: Vec<HookCount>,
}

/// A number of equal changes of role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionCount {
    pub from: Word,
    pub to: Word,
    /// The reason, as a word.
    pub cause: Word,
    pub count: u64,
}

/// A number of runs of one hook with the same outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookCount {
    pub hook: Word,
    /// "done", or how it failed, as a word.
    pub outcome: Word,
    pub count: u64,
}

impl Counters {
    pub fn discarded(&mut self, why: &'static str) {
        count_discard(&mut self.discards, why);
    }

    pub fn changed(&mut self, from: &'static str, to: &'static str, cause: &'static str) {
        let counted =
            TransitionCount { from: from.into(), to: to.into(), cause: cause.into(), count: 1 };
        add_transition(&mut self.transitions, counted);
    }

    pub fn hook_ended(&mut self, hook: &'static str, outcome: &'static str) {
        let counted = HookCount { hook: hook.into(), outcome: outcome.into(), count: 1 };
        add_hook(&mut self.hooks, counted);
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Counters) {
        let Counters {
            adverts_sent,
            adverts_refused,
            adverts_undelivered,
            adverts_received,
            announcements,
            contending_adverts,
            contending_announcements,
            addresses_removed,
            renewals_failed,
            discards,
            advert_lateness,
            renewal_lateness,
            transitions,
            hooks,
        } = other;
        self.adverts_sent += adverts_sent;
        self.adverts_refused += adverts_refused;
        self.adverts_undelivered += adverts_undelivered;
        self.adverts_received += adverts_received;
        self.announcements += announcements;
        self.contending_adverts += contending_adverts;
        self.contending_announcements += contending_announcements;
        self.addresses_removed += addresses_removed;
        self.renewals_failed += renewals_failed;
        for (why, count) in discards {
            *self.discards.entry(why.clone()).or_default() += count;
        }
        self.advert_lateness.add(advert_lateness);
        self.renewal_lateness.add(renewal_lateness);
        for counted in transitions {
            add_transition(&mut self.transitions, counted.clone());
        }
        for counted in hooks {
            add_hook(&mut self.hooks, counted.clone());
        }
    }
}

/// Counts a discarded packet by its reason.
pub fn count_discard(discards: &mut BTreeMap<Word, u64>, why: &'static str) {
    *discards.entry(Word::Borrowed(why)).or_default() += 1;
}

fn add_transition(counts: &mut Vec<TransitionCount>, counted: TransitionCount) {
    let same = |known: &&mut TransitionCount| {
        known.from == counted.from && known.to == counted.to && known.cause == counted.cause
    };
    match counts.iter_mut().find(same) {
        Some(known) => known.count += counted.count,
        None => {
            // Exact: two or three are usual, and every virtual router has such a list.
            counts.reserve_exact(1);
            counts.push(counted);
        }
    }
}

fn add_hook(counts: &mut Vec<HookCount>, counted: HookCount) {
    let same =
        |known: &&mut HookCount| known.hook == counted.hook && known.outcome == counted.outcome;
    match counts.iter_mut().find(same) {
        Some(known) => known.count += counted.count,
        None => counts.push(counted),
    }
}

/// Upper bounds of the buckets, in seconds.
const BOUNDS: [f64; 12] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Durations in fixed buckets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Inclusive upper bounds of the buckets, in seconds.
    pub bounds_seconds: Cow<'static, [f64]>,
    /// Count of each bucket, not cumulative; the last one is for durations above all bounds.
    pub counts: Vec<u64>,
    /// Sum of all durations, in seconds.
    pub sum_seconds: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            bounds_seconds: Cow::Borrowed(&BOUNDS),
            counts: vec![0; BOUNDS.len() + 1],
            sum_seconds: 0.0,
        }
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn note(&mut self, span: Duration) {
        let seconds = span.as_secs_f64();
        let bucket = self.bounds_seconds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum_seconds += seconds;
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum_seconds += other.sum_seconds;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_span_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let mut histogram = Histogram::default();
        for micros in [0, 100, 101, 1_000, 1_000_000, 1_000_001, 9_000_000] {
            histogram.note(Duration::from_micros(micros));
        }
        assert_eq!(histogram.counts, [2, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(histogram.count(), 7);
        assert!((histogram.sum_seconds - 11.001_202).abs() < 1e-9, "{}", histogram.sum_seconds);
        assert!(BOUNDS.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn what_is_counted_twice_is_added_up() {
        let mut one = Counters::default();
        one.changed("backup", "master", "heard_nobody");
        one.changed("backup", "master", "heard_nobody");
        one.changed("master", "backup", "lost_election");
        one.hook_ended("master", "done");
        one.discarded("ttl");
        one.adverts_sent = 3;
        let mut all = one.clone();
        all.add(&one);
        let counts: Vec<u64> = all.transitions.iter().map(|counted| counted.count).collect();
        assert_eq!(counts, [4, 2]);
        assert_eq!((all.hooks[0].count, all.discards["ttl"], all.adverts_sent), (2, 2, 6));
    }

    #[test]
    fn a_document_of_an_older_daemon_is_understood() {
        let counted: Counters = serde_json::from_str(r#"{"adverts_sent":7}"#).unwrap();
        assert_eq!(counted, Counters { adverts_sent: 7, ..Counters::default() });
        let text = serde_json::to_string(&counted).unwrap();
        assert_eq!(serde_json::from_str::<Counters>(&text).unwrap(), counted);
    }
}
