//! Who held an address when, computed from the addresses that were added and removed on each host.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A change of a host's addresses or of its cable.
#[derive(Clone, Debug)]
pub struct Change {
    pub at: Instant,
    pub host: String,
    pub what: Changed,
}

#[derive(Clone, Copy, Debug)]
pub enum Changed {
    Address { link: u32, ip: IpAddr, prefix: u8, present: bool },
    Reachable(bool),
}

/// Who held an address over a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// The longest time it was on more than one host.
    pub longest_two: Duration,
    /// All the time it was on more than one host.
    pub total_two: Duration,
    /// The longest time it was on no host.
    pub longest_none: Duration,
    /// All the time it was on no host.
    pub total_none: Duration,
    /// How often its owners changed.
    pub changes: usize,
    /// Who held it at the end, sorted.
    pub owners: Vec<String>,
}

impl Ownership {
    pub fn of(changes: &[Change], ip: IpAddr, from: Instant, to: Instant) -> Self {
        let mut result = Self::default();
        let mut unreachable = BTreeSet::new();
        let mut copies = BTreeSet::new();
        let mut owners: BTreeSet<String> = BTreeSet::new();
        let mut since = from;
        for change in changes.iter().filter(|change| change.at <= to) {
            match change.what {
                Changed::Reachable(true) => drop(unreachable.remove(&change.host)),
                Changed::Reachable(false) => drop(unreachable.insert(change.host.clone())),
                Changed::Address { ip: other, .. } if other != ip => continue,
                Changed::Address { link, prefix, present: true, .. } => {
                    copies.insert((change.host.clone(), link, prefix));
                }
                Changed::Address { link, prefix, present: false, .. } => {
                    copies.remove(&(change.host.clone(), link, prefix));
                }
            }
            let now = copies
                .iter()
                .map(|(host, _, _)| host.clone())
                .filter(|host| !unreachable.contains(host))
                .collect();
            if now == owners {
                continue;
            }
            if change.at > from {
                result.add(owners.len(), change.at - since);
                result.changes += 1;
                since = change.at;
            }
            owners = now;
        }
        result.add(owners.len(), to.saturating_duration_since(since));
        result.owners = owners.into_iter().collect();
        result
    }

    fn add(&mut self, owners: usize, span: Duration) {
        let (longest, total) = match owners {
            0 => (&mut self.longest_none, &mut self.total_none),
            1 => return,
            _ => (&mut self.longest_two, &mut self.total_two),
        };
        *longest = span.max(*longest);
        *total += span;
    }
}
