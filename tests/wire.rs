//! Captured adverts of other daemons: each is decoded, and what was decoded encodes to the same
//! bytes. `wire/capture.sh` makes the captures again.

#![allow(clippy::unwrap_used)]

#[path = "wire/captures.rs"]
mod captures;

use std::net::{IpAddr, Ipv6Addr};

use captures::captured;
use vipd::vrrp::advert::{self, Authentication};
use vipd::vrrp::{ChecksumForm, Version};

/// The contents of a capture: its first packet has `priority`, its second 0.
struct Capture {
    name: &'static str,
    version: Version,
    vrid: u8,
    priority: u8,
    centis: u16,
    addresses: &'static [&'static str],
    checksum: Option<ChecksumForm>,
    authentication: Authentication,
    destination: &'static str,
    hop_limit: u8,
}

const V2: Capture = Capture {
    name: "keepalived-v2",
    version: Version::V2,
    vrid: 1,
    priority: 150,
    centis: 100,
    addresses: &["192.0.2.10"],
    checksum: None,
    authentication: Authentication::None,
    destination: "224.0.0.18",
    hop_limit: 255,
};
const V3_IPV4: Capture = Capture {
    name: "keepalived-v3-ipv4",
    version: Version::V3,
    vrid: 4,
    addresses: &["192.0.2.40"],
    checksum: Some(ChecksumForm::PseudoHeader),
    ..V2
};
const V3_IPV6: Capture = Capture {
    name: "keepalived-v3-ipv6",
    version: Version::V3,
    vrid: 8,
    addresses: &["fe80::80"],
    destination: "ff02::12",
    ..V2
};

const CAPTURES: &[Capture] = &[
    V2,
    Capture {
        name: "keepalived-v2-simple-text",
        vrid: 2,
        centis: 200,
        addresses: &["192.0.2.20"],
        authentication: Authentication::SimpleText(*b"secret42"),
        ..V2
    },
    Capture {
        name: "keepalived-v2-several",
        vrid: 3,
        priority: 100,
        addresses: &["192.0.2.30", "192.0.2.31", "192.0.2.32"],
        ..V2
    },
    V3_IPV4,
    Capture {
        name: "keepalived-v3-ipv4-several",
        vrid: 5,
        priority: 254,
        addresses: &["192.0.2.52", "192.0.2.50", "192.0.2.51", "198.51.100.5"],
        ..V3_IPV4
    },
    Capture {
        name: "keepalived-v3-ipv4-100ms",
        vrid: 6,
        centis: 10,
        addresses: &["192.0.2.60"],
        ..V3_IPV4
    },
    Capture {
        name: "keepalived-v3-ipv4-unicast",
        vrid: 7,
        addresses: &["192.0.2.70"],
        destination: "192.0.2.2",
        ..V3_IPV4
    },
    V3_IPV6,
    Capture {
        name: "keepalived-v3-ipv6-several",
        vrid: 9,
        priority: 1,
        addresses: &["2001:db8::90", "fe80::90", "2001:db8::91"],
        ..V3_IPV6
    },
    Capture {
        name: "keepalived-v3-ipv6-100ms",
        vrid: 10,
        centis: 10,
        addresses: &["fe80::a0"],
        ..V3_IPV6
    },
    Capture {
        name: "keepalived-v3-ipv6-unicast",
        vrid: 11,
        addresses: &["2001:db8::b0"],
        destination: "2001:db8::2",
        hop_limit: 64,
        ..V3_IPV6
    },
    Capture {
        name: "computed-v3-ipv4-plain",
        vrid: 12,
        addresses: &["192.0.2.120", "192.0.2.121"],
        checksum: Some(ChecksumForm::Plain),
        ..V3_IPV4
    },
];

#[test]
fn every_capture_is_understood() {
    let mut captured = captured();
    for capture in CAPTURES {
        let packets = captured.remove(capture.name).expect(capture.name);
        assert_eq!(packets.len(), 2, "{}", capture.name);
        for (packet, priority) in packets.iter().zip([capture.priority, 0]) {
            let Packet { source, destination, hop_limit, message } = open(packet);
            let heard = advert::decode(source, destination, message).expect(capture.name);

            assert_eq!(heard.version, capture.version, "{}", capture.name);
            assert_eq!(heard.vrid.get(), capture.vrid, "{}", capture.name);
            assert_eq!(heard.priority.get(), priority, "{}", capture.name);
            assert_eq!(heard.interval.centis(), capture.centis, "{}", capture.name);
            assert_eq!(heard.checksum, capture.checksum, "{}", capture.name);
            assert_eq!(heard.authentication, capture.authentication, "{}", capture.name);
            let addresses = heard.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>();
            assert_eq!(addresses, capture.addresses, "{}", capture.name);
            assert_eq!(destination.to_string(), capture.destination, "{}", capture.name);
            assert_eq!(hop_limit, capture.hop_limit, "{}", capture.name);
        }
    }
    assert!(captured.is_empty(), "nobody says what is in {:?}", captured.keys());
}

#[test]
fn every_capture_is_encoded_again_byte_for_byte() {
    let mut again = Vec::new();
    for (name, packets) in captured() {
        for packet in &packets {
            let Packet { source, destination, message, .. } = open(packet);
            let heard = advert::decode(source, destination, message).expect(&name);
            heard.to_advert().expect(&name).encode(source, destination, &mut again);
            assert_eq!(again, message, "{name}");
        }
    }
}

#[test]
fn no_capture_is_understood_with_a_bit_flipped_in_its_checksum() {
    for (name, packets) in captured() {
        for packet in &packets {
            let Packet { source, destination, message, .. } = open(packet);
            for bit in 0..16 {
                let mut flipped = message.to_vec();
                flipped[6 + bit / 8] ^= 1 << (bit % 8);
                let outcome = advert::decode(source, destination, &flipped);
                assert!(outcome.is_err(), "{name}: {outcome:?}");
            }
        }
    }
}

struct Packet<'a> {
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    message: &'a [u8],
}

fn open(packet: &[u8]) -> Packet<'_> {
    match packet[0] >> 4 {
        4 => {
            let packet = advert::ipv4_packet(packet).unwrap();
            Packet {
                source: packet.source.into(),
                destination: packet.destination.into(),
                hop_limit: packet.ttl,
                message: packet.payload,
            }
        }
        6 => {
            let address = |at: usize| {
                Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap()).into()
            };
            assert_eq!(packet[6], advert::PROTOCOL);
            Packet {
                source: address(8),
                destination: address(24),
                hop_limit: packet[7],
                message: &packet[40..],
            }
        }
        other => panic!("IP version {other}"),
    }
}
