//! How the lab measures which host held an address: all scenarios rely on it.
#![allow(clippy::unwrap_used)]

#[path = "lab/ownership.rs"]
mod ownership;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ownership::{Change, Changed, Ownership};

const SHARED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));

/// Changes at whole milliseconds after a beginning.
fn history(began: Instant, changes: &[(u64, &str, Changed)]) -> Vec<Change> {
    let change = |(millis, host, what): &(u64, &str, Changed)| Change {
        at: began + Duration::from_millis(*millis),
        host: (*host).to_owned(),
        what: *what,
    };
    changes.iter().map(change).collect()
}

fn address(present: bool) -> Changed {
    Changed::Address { link: 2, ip: SHARED, prefix: 32, present }
}

#[test]
fn stretches_with_two_owners_and_with_none_are_measured() {
    let began = Instant::now();
    let at = |millis| began + Duration::from_millis(millis);
    let changes = history(
        began,
        &[
            (0, "a", address(true)),
            (10, "b", address(true)),
            (13, "a", address(false)),
            (20, "b", address(false)),
            (50, "a", address(true)),
        ],
    );
    let all = Ownership::of(&changes, SHARED, at(0), at(60));
    assert_eq!(all.longest_two, Duration::from_millis(3));
    assert_eq!(all.longest_none, Duration::from_millis(30));
    assert_eq!(all.changes, 4);
    assert_eq!(all.owners, ["a"]);
    let part = Ownership::of(&changes, SHARED, at(30), at(40));
    assert_eq!(part.total_none, Duration::from_millis(10));
    assert_eq!(part.changes, 0);
}

#[test]
fn a_host_that_is_cut_off_owns_nothing() {
    let began = Instant::now();
    let at = |millis| began + Duration::from_millis(millis);
    let changes = history(
        began,
        &[
            (0, "a", address(true)),
            (10, "a", Changed::Reachable(false)),
            (30, "b", address(true)),
            (40, "a", Changed::Reachable(true)),
            (45, "a", address(false)),
        ],
    );
    let ownership = Ownership::of(&changes, SHARED, at(0), at(60));
    assert_eq!(ownership.longest_none, Duration::from_millis(20));
    assert_eq!(ownership.longest_two, Duration::from_millis(5));
    assert_eq!(ownership.owners, ["b"]);
}

#[test]
fn a_renewal_is_no_change() {
    let began = Instant::now();
    let changes = history(began, &[(0, "a", address(true)), (5, "a", address(true))]);
    let ownership = Ownership::of(&changes, SHARED, began, began + Duration::from_millis(10));
    assert_eq!(ownership.changes, 0);
}
