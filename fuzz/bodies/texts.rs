//! Any bytes as what other programs and the kernel print for people or for `vipd doctor`: the rules of
//! nftables, files of systemd, tables in `/proc`, the number in a file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vipd::fuzzing;

use crate::bounded::bounded;

pub fn texts(data: &[u8]) {
    let v4 = |n| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n));
    let packets = [
        (v4(1), IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18))),
        (v4(1), v4(2)),
        (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)), "ff02::12".parse().unwrap()),
    ];
    // A map of JSON takes some hundred bytes, and the rules are copied.
    let blocked = bounded(data.len(), 512, || fuzzing::blocked(data, "eth0", &packets));
    if let Ok(blocked) = blocked {
        assert_eq!(blocked.len(), 2 * packets.len());
        for (chain, by) in blocked.into_iter().flatten() {
            assert!(!chain.is_empty() && !by.is_empty());
        }
    }

    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(number) = fuzzing::file_number(text) {
        assert!((-254..=254).contains(&number));
    }
    bounded(data.len(), 32, || {
        for section in ["", "Network"] {
            for value in fuzzing::values(text, section, "KeepConfiguration") {
                assert!(!value.contains('\n') && value.trim() == value);
            }
        }
        for (source, _) in packets {
            fuzzing::has_connection(text, source);
        }
    });
}
