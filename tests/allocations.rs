//! The protocol and the codec allocate nothing when they handle or send an advert.
#![allow(clippy::unwrap_used)]

mod counting;
mod many;

use std::time::Duration;

use counting::allocations;
use many::{INTERVAL, LINK, node, own};
use vipd::vrrp::delivery::{DueAdvert, Encoded};
use vipd::vrrp::{Action, Event, Family, Instant, Node, Packet, Role};

/// A host that has been master of all of them for a minute.
fn master() -> (Node, Instant) {
    let (mut node, mut now) = node(1, 150);
    let mut actions = Vec::new();
    let end = now + Duration::from_secs(60);
    while now < end {
        now = node.deadline().unwrap();
        node.handle(now, Event::Timeout, &mut actions).unwrap();
        actions.clear();
    }
    assert!(node.routers().all(|router| router.role() == Role::Master));
    (node, now)
}

/// A packet for each virtual router.
fn packets(actions: &mut Vec<Action>) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for action in actions.drain(..) {
        if let Action::Advertise { from, to, advert, .. } = action {
            let mut message = Vec::new();
            advert.encode(from, to[0], &mut message);
            packets.push(message);
        }
    }
    packets
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1_u8]))), 1);
}

#[test]
fn a_master_that_advertises_allocates_nothing() {
    let (mut node, _) = master();
    let mut actions = Vec::with_capacity(1024);
    for _ in 0..100 {
        let now = node.deadline().unwrap();
        // Another round of the same length.
        let count = allocations(|| _ = node.handle(now, Event::Timeout, &mut actions).unwrap());
        assert_eq!(count, 0, "{} actions", actions.len());
        actions.clear();
    }
}

#[test]
fn a_backup_that_hears_an_advert_allocates_nothing() {
    let (mut master, _) = master();
    let mut actions = Vec::new();
    while actions.iter().filter(|a| matches!(a, Action::Advertise { .. })).count() < 255 {
        let now = master.deadline().unwrap();
        master.handle(now, Event::Timeout, &mut actions).unwrap();
    }
    let messages = packets(&mut actions);
    let (mut backup, mut now) = node(2, 100);
    for round in 0..100 {
        now += INTERVAL;
        for message in &messages {
            let packet = Packet {
                link: LINK,
                source: own(1),
                destination: Family::V4.multicast_group(),
                ttl: 255,
                message,
            };
            let event = Event::Packet(packet);
            let count = allocations(|| _ = backup.handle(now, event, &mut actions).unwrap());
            // The first round adds the peers to the view, which allocates.
            assert!(count == 0 || round == 0, "{count} in round {round}");
        }
    }
    assert!(actions.is_empty() || backup.routers().all(|router| router.role() == Role::Backup));
}

#[test]
fn an_equal_advert_is_not_encoded_again() {
    let (mut node, _) = master();
    let mut actions = Vec::new();
    let mut adverts = Vec::new();
    while adverts.len() < 2 * 255 {
        let now = node.deadline().unwrap();
        node.handle(now, Event::Timeout, &mut actions).unwrap();
        for action in actions.drain(..) {
            if let Action::Advertise { router, from, to, advert, due } = action {
                adverts.push(DueAdvert { link: LINK, router, from, to, advert, due });
            }
        }
    }
    let first = adverts[0].router;
    let mut of_first = adverts.into_iter().filter(|due| due.router == first);
    let (one, mut two) = (of_first.next().unwrap(), of_first.next().unwrap());
    let encoded = Encoded::new(&one);
    let count = allocations(|| {
        assert!(encoded.is(&two));
        assert_eq!(encoded.messages().count(), 1);
    });
    assert_eq!(count, 0);
    let (_, message) = encoded.messages().next().unwrap();
    let mut anew = Vec::new();
    two.advert.encode(two.from, two.to[0], &mut anew);
    assert_eq!(message, anew);
    two.advert.priority = vipd::vrrp::Priority::LEAVING;
    assert!(!encoded.is(&two), "priority 0 has other bytes");
}
