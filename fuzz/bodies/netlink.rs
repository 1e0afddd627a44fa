//! Any bytes as a netlink datagram: notifications, dumps, acknowledgements and errors.

use std::collections::BTreeSet;
use std::sync::Arc;

use vipd::fuzzing;
use vipd::host::netlink::{Links, NetEvent};

use crate::bounded::bounded;

const NAMES: [&str; 3] = ["eth0", "lo", "a"];

pub fn netlink(datagram: &[u8]) {
    let messages = bounded(datagram.len(), 64, || fuzzing::netlink(datagram));
    assert!(messages.len() <= datagram.len() / 16);
    let events: Vec<NetEvent> =
        messages.iter().filter_map(|message| message.event.clone()).collect();
    for message in &messages {
        match &message.event {
            Some(NetEvent::Link(link)) => {
                assert!(!link.name.is_empty());
                assert!(![&link.name].into_iter().chain(&link.alt_names).any(|n| n.contains('\0')));
            }
            Some(NetEvent::Address(found)) => {
                let _ = (found.address().subnet(), found.link_address());
                assert!(found.address().contains(found.ip));
            }
            Some(
                NetEvent::AddressGone { .. }
                | NetEvent::LinkGone { .. }
                | NetEvent::Resync
                | NetEvent::Synced,
            )
            | None => {}
        }
        if let Err(error) = &message.outcome {
            assert!(!error.to_string().is_empty());
        }
    }

    let mut followed = watched();
    bounded(datagram.len(), 64, || {
        for event in events.clone() {
            followed.apply(event, |_| {});
        }
    });
    for name in NAMES {
        let addresses = followed.addresses(name);
        let different: BTreeSet<_> =
            addresses.iter().map(|found| (found.ip, found.prefix)).collect();
        assert_eq!(different.len(), addresses.len(), "{addresses:?}");
        let index = followed.link(name).map(|link| link.index);
        assert!(addresses.iter().all(|found| Some(found.index) == index), "{addresses:?}");
    }

    // A dump leads to the same.
    let mut dumped = watched();
    dumped.apply(NetEvent::Resync, |_| {});
    for event in events {
        dumped.apply(event, |change| panic!("{change:?} during a dump"));
    }
    dumped.apply(NetEvent::Synced, |_| {});
    for name in NAMES {
        assert_eq!(dumped.link(name), followed.link(name));
        assert_eq!(dumped.addresses(name), followed.addresses(name));
    }
}

fn watched() -> Links {
    let mut links = Links::default();
    links.watch(NAMES.map(Arc::from));
    links
}
