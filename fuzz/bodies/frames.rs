//! Any bytes as a frame or packet from the network: ARP and neighbour advertisements, captured adverts,
//! echo replies; and as what the kernel says beside a packet.

use vipd::fuzzing;
use vipd::vrrp::Family;

use crate::bounded::bounded;
use crate::counting::allocations;

pub fn frames(bytes: &[u8]) {
    let mut announcement = None;
    let allocated = allocations(|| announcement = fuzzing::announcement(bytes));
    assert_eq!(allocated, 0, "these come in floods");
    if let Some(announcement) = announcement {
        let ours = fuzzing::announced(announcement);
        assert_eq!(fuzzing::announcement(&ours), Some(announcement));
    }

    if let Some((source, destination, message)) = fuzzing::captured(bytes) {
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
        assert!(message.len() + 20 <= bytes.len());
    }

    for family in [Family::V4, Family::V6] {
        for with_header in [false, true] {
            if let Some(token) = fuzzing::echo_token(bytes, family, with_header) {
                assert!(bytes.windows(8).any(|window| window == token.to_be_bytes()));
            }
        }
    }

    let (name, control) = bytes.split_at(bytes.len().min(28));
    let said = bounded(bytes.len(), 0, || fuzzing::ancillary(name, control));
    assert!(!said.outgoing || said.source.is_none());
    assert!(said.destination.is_none() || control.len() >= 8 + 8 + 16);
}
