//! Whether one expression of an nftables rule matches an advert.

use std::net::IpAddr;

use serde_json::Value;

use crate::vrrp::advert::PROTOCOL;
use crate::vrrp::{Address, Family};

/// The direction of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
}

/// The properties of an advert that rules match.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdvertPacket<'a> {
    pub direction: Direction,
    /// Where it is received or sent.
    pub interface: &'a str,
    /// `None`: unknown.
    pub source: Option<IpAddr>,
    /// The multicast group or a host.
    pub destination: IpAddr,
}

/// Whether a rule matches a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    Perhaps,
}

impl Match {
    pub(super) fn and(self, other: Match) -> Match {
        match (self, other) {
            (Match::No, _) | (_, Match::No) => Match::No,
            (Match::Yes, Match::Yes) => Match::Yes,
            (Match::Perhaps, Match::Yes | Match::Perhaps) | (Match::Yes, Match::Perhaps) => {
                Match::Perhaps
            }
        }
    }

    pub(super) fn or(self, other: Match) -> Match {
        self.not().and(other.not()).not()
    }

    pub(super) fn not(self) -> Match {
        match self {
            Match::Yes => Match::No,
            Match::No => Match::Yes,
            Match::Perhaps => Match::Perhaps,
        }
    }

    pub(super) fn of(holds: bool) -> Match {
        if holds { Match::Yes } else { Match::No }
    }
}

pub(super) fn meta_is(key: &str, right: &Value, packet: &AdvertPacket<'_>) -> Match {
    let multicast = packet.destination.is_multicast();
    let interface = |ours: bool| match (ours, right.as_str()) {
        (true, Some(name)) => Match::of(match name.strip_suffix('*') {
            Some(beginning) => packet.interface.starts_with(beginning),
            None => packet.interface == name,
        }),
        // A received packet has no outgoing interface.
        (false, Some(_)) => Match::No,
        (_, None) => Match::Perhaps,
    };
    match key {
        "iif" | "iifname" => interface(packet.direction == Direction::In),
        "oif" | "oifname" => interface(packet.direction == Direction::Out),
        "l4proto" => is_vrrp(right),
        "nfproto" => match right.as_str() {
            Some("ipv4") => Match::of(packet.destination.is_ipv4()),
            Some("ipv6") => Match::of(packet.destination.is_ipv6()),
            Some(_) | None => Match::Perhaps,
        },
        "protocol" => match right.as_str() {
            Some("ip") => Match::of(packet.destination.is_ipv4()),
            Some("ip6") => Match::of(packet.destination.is_ipv6()),
            Some(_) => Match::No,
            None => Match::Perhaps,
        },
        "pkttype" if packet.direction == Direction::In => match right.as_str() {
            Some("multicast") => Match::of(multicast),
            Some("host" | "unicast") => Match::of(!multicast),
            Some("broadcast") => Match::No,
            Some(_) | None => Match::Perhaps,
        },
        _ => Match::Perhaps,
    }
}

pub(super) fn payload_is(
    protocol: &str,
    field: &str,
    right: &Value,
    packet: &AdvertPacket<'_>,
) -> Match {
    let family = match protocol {
        "ip" => Family::V4,
        "ip6" => Family::V6,
        "tcp" | "udp" | "udplite" | "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "esp" | "ah"
        | "arp" => return Match::No,
        _ => return Match::Perhaps,
    };
    if family != Family::of(packet.destination) {
        return Match::No;
    }
    match field {
        "protocol" | "nexthdr" => is_vrrp(right),
        "daddr" => covers(right, packet.destination),
        "saddr" => match packet.source {
            Some(source) => covers(right, source),
            None => Match::Perhaps,
        },
        "ttl" | "hoplimit" if packet.destination.is_multicast() => match right.as_u64() {
            Some(ttl) => Match::of(ttl == 255),
            None => Match::Perhaps,
        },
        _ => Match::Perhaps,
    }
}

/// `nft` prints protocol numbers by their names in /etc/protocols.
fn is_vrrp(right: &Value) -> Match {
    match (right.as_u64(), right.as_str()) {
        (Some(number), _) => Match::of(number == u64::from(PROTOCOL)),
        (_, Some(name)) => {
            Match::of(["vrrp", "carp"].contains(&name) || name.parse() == Ok(PROTOCOL))
        }
        (None, None) => Match::Perhaps,
    }
}

fn covers(right: &Value, address: IpAddr) -> Match {
    let parse = |value: &Value| value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    if let Some(prefix) = right.get("prefix") {
        let length = prefix.get("len").and_then(Value::as_u64);
        return match (prefix.get("addr").and_then(parse), length) {
            (Some(network), Some(length)) => {
                let network = Address { ip: network, prefix: length as u8 };
                Match::of(network.contains(address))
            }
            _ => Match::Perhaps,
        };
    }
    if let Some(range) = right.get("range") {
        return match (range.get(0).and_then(parse), range.get(1).and_then(parse)) {
            (Some(first), Some(last)) => Match::of(first <= address && address <= last),
            _ => Match::Perhaps,
        };
    }
    let element = right.pointer("/elem/val").unwrap_or(right);
    parse(element).map_or(Match::Perhaps, |one| Match::of(one == address))
}
