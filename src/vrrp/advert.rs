//! The advert, VRRP's only message: encoding and decoding of version 3 (RFC 9568 5.2) and version 2
//! (RFC 3768 5.3).
//!
//! [`Advert`] is an advert to send, [`Heard`] a valid received one. Its sender, destination and TTL
//! are checked by `router`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::config::{Address, ChecksumForm, Family, Interval, Priority, Version, Vrid};

/// IP protocol number of VRRP (RFC 9568 5.1.1.4, 5.1.2.4), in the IPv4 and IPv6 header and in the
/// pseudo-header.
pub const PROTOCOL: u8 = 112;

/// The only message type (RFC 9568 5.2.2).
const ADVERTISEMENT: u8 = 1;
/// Length of the header up to the first address, in both versions.
const HEADER: usize = 8;
/// Offset of the checksum, in both versions.
const CHECKSUM: usize = 6;
/// Length of the authentication data after the addresses in version 2, also without authentication
/// (RFC 3768 5.3.10).
const AUTHENTICATION: usize = 8;

const NO_AUTHENTICATION: u8 = 0;
const SIMPLE_TEXT: u8 = 1;

/// What follows the addresses.
const fn trailer(version: Version) -> usize {
    match version {
        Version::V2 => AUTHENTICATION,
        Version::V3 => 0,
    }
}

/// The most addresses whose advert leaves an interface with this MTU in one piece. A larger one
/// leaves in fragments, and where a filter drops these, no host hears the other.
pub fn addresses_that_fit(mtu: u32, family: Family, version: Version) -> usize {
    let ip_header = match family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    let others = ip_header + HEADER + trailer(version);
    (mtu as usize).saturating_sub(others) / address_size(family)
}

/// An advert to send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Advert {
    pub version: Version,
    pub vrid: Vrid,
    /// The effective priority, or [`Priority::LEAVING`].
    pub priority: Priority,
    /// The advert interval; whole seconds in version 2, at most 40.95 s in version 3.
    pub interval: Interval,
    /// The advertised addresses, 1 to 255 of them, all of the family that carries the message.
    pub addresses: Arc<[Address]>,
    /// What the checksum covers; only used in version 3 over IPv4.
    pub checksum: ChecksumForm,
    /// Simple-text authentication; only used in version 2.
    pub authentication: Option<[u8; 8]>,
}

impl Advert {
    /// Replaces the content of `message` by the VRRP message with its checksum, to be sent from
    /// `from` to `to`. Allocates only if the capacity of `message` does not suffice. A trailer may
    /// be appended: see [`decode`].
    pub fn encode(&self, from: IpAddr, to: IpAddr, message: &mut Vec<u8>) {
        debug_assert!((1..=255).contains(&self.addresses.len()), "{self:?}");
        debug_assert!(self.addresses.iter().all(|a| Family::of(a.ip) == Family::of(from)));

        let addresses = &self.addresses[..self.addresses.len().min(255)];
        let version_and_type = match self.version {
            Version::V2 => 2 << 4 | ADVERTISEMENT,
            Version::V3 => 3 << 4 | ADVERTISEMENT,
        };
        let timing = match self.version {
            Version::V2 => {
                debug_assert!(self.interval.whole_secs().is_some(), "{self:?}");
                let authentication_type = match self.authentication {
                    None => NO_AUTHENTICATION,
                    Some(_) => SIMPLE_TEXT,
                };
                [authentication_type, self.interval.whole_secs().unwrap_or(1)]
            }
            Version::V3 => {
                debug_assert!(self.interval.centis() <= 0xfff, "{self:?}");
                self.interval.centis().min(0xfff).to_be_bytes()
            }
        };

        message.clear();
        message.extend([version_and_type, self.vrid.get(), self.priority.get()]);
        message.push(addresses.len() as u8);
        message.extend(timing);
        message.extend([0, 0]);
        for address in addresses {
            match address.ip {
                IpAddr::V4(ip) => message.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => message.extend_from_slice(&ip.octets()),
            }
        }
        match self.version {
            Version::V2 => message.extend(self.authentication.unwrap_or_default()),
            Version::V3 => {}
        }

        let with_pseudo_header = match (self.version, Family::of(from), self.checksum) {
            (Version::V2, _, _) => false,
            (Version::V3, Family::V6, _) => true,
            (Version::V3, Family::V4, ChecksumForm::PseudoHeader) => true,
            (Version::V3, Family::V4, ChecksumForm::Plain) => false,
        };
        let mut sum = sum(message);
        if with_pseudo_header {
            sum += pseudo_header(from, to, message.len());
        }
        message[CHECKSUM..HEADER].copy_from_slice(&(!fold(sum)).to_be_bytes());
    }
}

/// The authentication of a version 2 advert. Version 3 has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Type 0; the authentication data is ignored (RFC 3768 5.3.10).
    None,
    /// Type 1 (RFC 2338): a password in plain text.
    SimpleText([u8; 8]),
    /// Any other type, with its number.
    Other(u8),
}

/// A valid received advert, borrowed from the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Heard<'a> {
    pub version: Version,
    /// The address family of the packet and of its addresses.
    pub family: Family,
    pub vrid: Vrid,
    /// The sender's effective priority, or [`Priority::LEAVING`].
    pub priority: Priority,
    pub interval: Interval,
    /// The form in which the checksum is right; `None` if there is only one (version 2, IPv6).
    pub checksum: Option<ChecksumForm>,
    /// Always `None` in version 3.
    pub authentication: Authentication,
    addresses: &'a [u8],
}

impl<'a> Heard<'a> {
    /// The advertised addresses in the sender's order, at least one.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = IpAddr> + 'a {
        let addresses: &'a [u8] = self.addresses;
        addresses.chunks_exact(address_size(self.family)).map(|bytes| match *bytes {
            [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => {
                let mut octets = [0; 16];
                octets.copy_from_slice(bytes);
                IpAddr::V6(Ipv6Addr::from(octets))
            }
        })
    }

    /// How many addresses are advertised, 1 to 255.
    pub fn address_count(&self) -> usize {
        self.addresses().len()
    }

    /// The [`Advert`] with the same content; `None` if it has an authentication that we never send.
    pub fn to_advert(&self) -> Option<Advert> {
        Some(Advert {
            version: self.version,
            vrid: self.vrid,
            priority: self.priority,
            interval: self.interval,
            addresses: self.addresses().map(Address::host).collect(),
            checksum: self.checksum.unwrap_or(ChecksumForm::PseudoHeader),
            authentication: match self.authentication {
                Authentication::None => None,
                Authentication::SimpleText(text) => Some(text),
                Authentication::Other(_) => return None,
            },
        })
    }
}

/// Decodes and validates a VRRP message. `message` is the whole payload of an IP packet from
/// `source` to `destination`, which are of the same family.
///
/// Bytes after the advert are accepted. The checksum may cover them or not: keepalived since 2.4.2
/// can sign its adverts in a trailer, the kernel includes a trailer when it fills in an IPv6
/// checksum, and a sender that appends one later does not. The checksum only has to detect damage,
/// which it still does if two of 65536 values are right.
pub fn decode<'a>(
    source: IpAddr,
    destination: IpAddr,
    message: &'a [u8],
) -> Result<Heard<'a>, Malformed> {
    let family = Family::of(source);
    let too_short = |needed| Malformed::TooShort { length: message.len(), needed };
    let Some((&header, body)) = message.split_first_chunk::<HEADER>() else {
        return Err(too_short(HEADER));
    };
    let [version_and_type, vrid, priority, count, timing @ .., checksum_high, checksum_low] =
        header;

    let version = match (version_and_type >> 4, family) {
        (2, Family::V4) => Version::V2,
        (2, Family::V6) => return Err(Malformed::Version2OverIpv6),
        (3, Family::V4 | Family::V6) => Version::V3,
        (other, Family::V4 | Family::V6) => return Err(Malformed::UnknownVersion(other)),
    };
    let message_type = version_and_type & 0xf;
    if message_type != ADVERTISEMENT {
        return Err(Malformed::UnknownType(message_type));
    }

    let addresses_length = usize::from(count) * address_size(family);
    let needed = HEADER + addresses_length + trailer(version);
    let (Some(advert), Some((addresses, rest))) =
        (message.get(..needed), body.split_at_checked(addresses_length))
    else {
        return Err(too_short(needed));
    };

    // Before the values are validated: a damaged message says nothing about its sender.
    let Some(form) = [advert, message]
        .into_iter()
        .find_map(|covered| verify(version, source, destination, covered))
    else {
        return Err(Malformed::BadChecksum(u16::from_be_bytes([checksum_high, checksum_low])));
    };

    let Some(vrid) = Vrid::new(vrid) else {
        return Err(Malformed::ZeroVrid);
    };
    if count == 0 {
        return Err(Malformed::NoAddresses);
    }
    let (interval, authentication) = match version {
        Version::V2 => {
            let [authentication_type, seconds] = timing;
            let authentication = match (authentication_type, rest.first_chunk()) {
                (SIMPLE_TEXT, Some(text)) => Authentication::SimpleText(*text),
                (NO_AUTHENTICATION, _) => Authentication::None,
                (other, _) => Authentication::Other(other),
            };
            (Interval::from_secs(seconds), authentication)
        }
        // The reserved nibble is ignored (RFC 9568 5.2.6).
        Version::V3 => {
            let centis = u16::from_be_bytes(timing) & 0xfff;
            (Interval::from_centis(centis), Authentication::None)
        }
    };
    let Some(interval) = interval else {
        return Err(Malformed::ZeroInterval);
    };

    Ok(Heard {
        version,
        family,
        vrid,
        priority: Priority::new(priority),
        interval,
        checksum: match (version, family) {
            (Version::V3, Family::V4) => Some(form),
            (Version::V2, _) | (Version::V3, Family::V6) => None,
        },
        authentication,
        addresses,
    })
}

/// The form in which the checksum of `covered` is right, if there is one that `version` allows.
fn verify(
    version: Version,
    source: IpAddr,
    destination: IpAddr,
    covered: &[u8],
) -> Option<ChecksumForm> {
    let plain = sum(covered);
    let with_pseudo_header = plain + pseudo_header(source, destination, covered.len());
    let (pseudo_header_allowed, plain_allowed) = match (version, Family::of(source)) {
        (Version::V2, _) => (false, true),
        (Version::V3, Family::V4) => (true, true),
        (Version::V3, Family::V6) => (true, false),
    };
    if pseudo_header_allowed && fold(with_pseudo_header) == 0xffff {
        Some(ChecksumForm::PseudoHeader)
    } else if plain_allowed && fold(plain) == 0xffff {
        Some(ChecksumForm::Plain)
    } else {
        None
    }
}

const fn address_size(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// Sum of the 16-bit words, an odd last byte padded with zero.
fn sum(bytes: &[u8]) -> u64 {
    let (words, odd) = bytes.as_chunks::<2>();
    let words = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>();
    words + odd.first().map_or(0, |last| u64::from(*last) << 8)
}

/// Sum of the pseudo-header. Its layout differs between the families (RFC 9568 5.2.8, RFC 8200
/// 8.1), its sum does not.
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u64 {
    let address = |address| match address {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    };
    address(source) + address(destination) + u64::from(PROTOCOL) + length as u64
}

/// The one's complement sum of 16 bits.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// An IPv4 packet that carries VRRP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4Packet<'a> {
    pub source: Ipv4Addr,
    /// Destination address: the multicast group, or one of ours.
    pub destination: Ipv4Addr,
    /// TTL: 255, unless the packet was forwarded or sent with another one.
    pub ttl: u8,
    /// The VRRP message, for [`decode`].
    pub payload: &'a [u8],
}

/// Decodes an IPv4 packet with its header, as a raw socket delivers it. The payload ends where the
/// header says or where `bytes` ends, whichever comes first. The kernel has verified the checksum
/// of the header.
pub fn ipv4_packet(bytes: &[u8]) -> Result<Ipv4Packet<'_>, Malformed> {
    let Some((&header, _)) = bytes.split_first_chunk::<20>() else {
        return Err(Malformed::TooShort { length: bytes.len(), needed: 20 });
    };
    let [
        version_and_length,
        _,
        total_high,
        total_low,
        _,
        _,
        fragment_high,
        fragment_low,
        ttl,
        protocol,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = header;

    if version_and_length >> 4 != 4 {
        return Err(Malformed::NotIpv4(version_and_length >> 4));
    }
    let header_length = version_and_length & 0xf;
    if header_length < 5 {
        return Err(Malformed::BadHeaderLength(header_length));
    }
    let start = usize::from(header_length) * 4;
    let total_length = u16::from_be_bytes([total_high, total_low]);
    if usize::from(total_length) < start {
        return Err(Malformed::BadTotalLength(total_length));
    }
    if protocol != PROTOCOL {
        return Err(Malformed::OtherProtocol(protocol));
    }
    // More fragments, or an offset; "don't fragment" may be set.
    if u16::from_be_bytes([fragment_high, fragment_low]) & 0x3fff != 0 {
        return Err(Malformed::Fragment);
    }
    let end = usize::from(total_length).min(bytes.len());
    let Some(payload) = bytes.get(start..end) else {
        return Err(Malformed::TooShort { length: bytes.len(), needed: start });
    };

    Ok(Ipv4Packet {
        source: Ipv4Addr::new(s0, s1, s2, s3),
        destination: Ipv4Addr::new(d0, d1, d2, d3),
        ttl,
        payload,
    })
}

/// Why a packet is not a valid advert, with the invalid value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Malformed {
    /// It is too short; both in bytes.
    TooShort {
        length: usize,
        needed: usize,
    },
    /// Neither version 2 nor 3 (RFC 9568 5.2.1, 7.1).
    UnknownVersion(u8),
    Version2OverIpv6,
    /// Not an advertisement (RFC 9568 5.2.2).
    UnknownType(u8),
    /// The checksum is wrong in every form; the received value (RFC 9568 5.2.8, 7.1).
    BadChecksum(u16),
    /// VRID 0 (RFC 9568 5.2.3).
    ZeroVrid,
    /// It advertises no address (RFC 9568 5.2.5, erratum 8299).
    NoAddresses,
    /// Advert interval 0 (RFC 9568 5.2.7, erratum 8301).
    ZeroInterval,
    /// Not an IPv4 packet; the version of its header.
    NotIpv4(u8),
    /// The header length of the IPv4 packet is too small, in units of 4 bytes.
    BadHeaderLength(u8),
    /// The total length of the IPv4 packet is smaller than its header, in bytes.
    BadTotalLength(u16),
    /// The IPv4 packet carries another protocol.
    OtherProtocol(u8),
    /// A fragment of an IPv4 packet.
    Fragment,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::TooShort { length, needed } => {
                write!(f, "it has {length} bytes and needs {needed}")
            }
            Malformed::UnknownVersion(version) => write!(f, "VRRP version {version} is unknown"),
            Malformed::Version2OverIpv6 => f.write_str("VRRP version 2 does not support IPv6"),
            Malformed::UnknownType(message_type) => {
                write!(f, "VRRP message type {message_type} is unknown")
            }
            Malformed::BadChecksum(checksum) => write!(f, "the checksum {checksum:#06x} is wrong"),
            Malformed::ZeroVrid => f.write_str("the VRID is 0"),
            Malformed::NoAddresses => f.write_str("it advertises no address"),
            Malformed::ZeroInterval => f.write_str("the advert interval is 0"),
            Malformed::NotIpv4(version) => write!(f, "the IP version is {version}, not 4"),
            Malformed::BadHeaderLength(words) => {
                write!(f, "the IPv4 header length is {words} words, less than 5")
            }
            Malformed::BadTotalLength(length) => {
                write!(f, "the IPv4 total length of {length} bytes is less than its header")
            }
            Malformed::OtherProtocol(protocol) => {
                write!(f, "the IP protocol is {protocol}, not {PROTOCOL}")
            }
            Malformed::Fragment => f.write_str("it is a fragment"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Each MUST beside its opposite; where a value is wrong the checksum is right, so that it is the
/// value that is refused.
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    const V4: (IpAddr, IpAddr) =
        (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18)));
    const V6: (IpAddr, IpAddr) = (
        IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12)),
    );

    /// VRID 51, priority 150, 1 s, one address.
    fn advert(version: Version, family: Family) -> Advert {
        let ip = match family {
            Family::V4 => "192.0.2.10",
            Family::V6 => "fe80::10",
        };
        Advert {
            version,
            vrid: Vrid::new(51).unwrap(),
            priority: Priority::new(150),
            interval: Interval::DEFAULT,
            addresses: [Address::host(ip.parse().unwrap())].into(),
            checksum: ChecksumForm::PseudoHeader,
            authentication: None,
        }
    }

    fn link(family: Family) -> (IpAddr, IpAddr) {
        match family {
            Family::V4 => V4,
            Family::V6 => V6,
        }
    }

    fn bytes(advert: &Advert) -> Vec<u8> {
        let (from, to) = link(Family::of(advert.addresses[0].ip));
        let mut message = Vec::new();
        advert.encode(from, to, &mut message);
        message
    }

    /// Recomputes the checksum of `message`, independently of the encoder.
    fn seal((from, to): (IpAddr, IpAddr), with_pseudo_header: bool, message: &mut [u8]) {
        message[CHECKSUM..HEADER].fill(0);
        let mut words = message.to_vec();
        if with_pseudo_header {
            match (from, to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    words.splice(0..0, from.octets().into_iter().chain(to.octets()));
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    words.splice(0..0, from.octets().into_iter().chain(to.octets()));
                }
                _ => unreachable!("two families"),
            }
            words.splice(0..0, [0, PROTOCOL]);
            words.splice(0..0, (message.len() as u16).to_be_bytes());
        }
        if words.len() % 2 == 1 {
            words.push(0);
        }
        let mut sum = 0u32;
        for pair in words.chunks(2) {
            sum += u32::from(pair[0]) * 256 + u32::from(pair[1]);
            if sum > 0xffff {
                sum -= 0xffff;
            }
        }
        message[CHECKSUM..HEADER].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }

    /// Whether a version 3 message over IPv4 is accepted after `change`, with a correct checksum.
    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Malformed> {
        let mut message = bytes(&advert(Version::V3, Family::V4));
        change(&mut message);
        seal(V4, true, &mut message);
        decode(V4.0, V4.1, &message).map(drop)
    }

    /// The same for version 2.
    fn changed2(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), Malformed> {
        let mut message = bytes(&advert(Version::V2, Family::V4));
        change(&mut message);
        seal(V4, false, &mut message);
        decode(V4.0, V4.1, &message).map(drop)
    }

    #[test]
    fn an_advert_fits_the_mtu_with_90_ipv6_addresses_and_always_with_ipv4() {
        let fit = addresses_that_fit;
        assert_eq!(fit(1500, Family::V6, Version::V3), 90);
        assert_eq!(fit(1280, Family::V6, Version::V3), 77);
        assert!(fit(1500, Family::V4, Version::V2) > 255);
        assert_eq!(fit(68, Family::V4, Version::V3), 10);
        assert_eq!(fit(68, Family::V4, Version::V2), 8);
        assert_eq!(fit(0, Family::V6, Version::V3), 0);
    }

    #[test]
    fn each_field_of_version_3_has_its_place_rfc9568_5_2() {
        let mut advert = advert(Version::V3, Family::V4);
        advert.interval = Interval::from_centis(0x123).unwrap();
        assert_eq!(bytes(&advert), [0x31, 51, 150, 1, 0x01, 0x23, 0xd3, 0x0c, 192, 0, 2, 10]);
    }

    #[test]
    fn each_field_of_version_2_has_its_place_rfc3768_5_3() {
        let mut advert = advert(Version::V2, Family::V4);
        advert.interval = Interval::from_secs(3).unwrap();
        let none = [0x21, 51, 150, 1, 0, 3, 0x86, 0xbd, 192, 0, 2, 10, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(bytes(&advert), none);

        advert.authentication = Some(*b"password");
        let text = [&[0x21, 51, 150, 1, 1, 3][..], &[0xb8, 0x14, 192, 0, 2, 10], b"password"];
        assert_eq!(bytes(&advert), text.concat());
    }

    #[test]
    fn encoding_replaces_the_buffer_and_does_not_reallocate_it() {
        let mut message = Vec::with_capacity(64);
        message.extend([0xff; 60]);
        let place = message.as_ptr();
        advert(Version::V3, Family::V6).encode(V6.0, V6.1, &mut message);
        assert_eq!((message.len(), message.as_ptr()), (24, place));
    }

    #[test]
    fn versions_2_and_3_are_understood_and_no_other_rfc9568_5_2_1() {
        for version in 0..16u8 {
            let outcome = changed(|message| message[0] = version << 4 | 1);
            match version {
                3 => assert_eq!(outcome, Ok(())),
                // A version 2 message of this length lacks its authentication data.
                2 => assert_eq!(outcome, Err(Malformed::TooShort { length: 12, needed: 20 })),
                _ => assert_eq!(outcome, Err(Malformed::UnknownVersion(version))),
            }
        }
        assert_eq!(changed2(|_| ()), Ok(()));
    }

    #[test]
    fn version_2_is_understood_over_ipv4_only_rfc3768_5_3() {
        let mut message = bytes(&advert(Version::V2, Family::V4));
        assert!(decode(V4.0, V4.1, &message).is_ok());
        seal(V6, false, &mut message);
        assert_eq!(decode(V6.0, V6.1, &message), Err(Malformed::Version2OverIpv6));
        seal(V6, true, &mut message);
        assert_eq!(decode(V6.0, V6.1, &message), Err(Malformed::Version2OverIpv6));
    }

    #[test]
    fn advertisements_are_understood_and_no_other_type_rfc9568_5_2_2() {
        for message_type in 0..16 {
            let expected = match message_type {
                1 => Ok(()),
                _ => Err(Malformed::UnknownType(message_type)),
            };
            assert_eq!(changed(|message| message[0] = 3 << 4 | message_type), expected);
            assert_eq!(changed2(|message| message[0] = 2 << 4 | message_type), expected);
        }
    }

    #[test]
    fn vrid_0_is_refused_and_1_to_255_are_heard_rfc9568_5_2_3() {
        for vrid in 0..=255 {
            let expected = if vrid == 0 { Err(Malformed::ZeroVrid) } else { Ok(()) };
            assert_eq!(changed(|message| message[1] = vrid), expected);
            assert_eq!(changed2(|message| message[1] = vrid), expected);
        }
    }

    #[test]
    fn every_priority_is_heard_as_sent_rfc9568_5_2_4() {
        for priority in 0..=255 {
            let mut advert = advert(Version::V3, Family::V4);
            advert.priority = Priority::new(priority);
            let message = bytes(&advert);
            assert_eq!(decode(V4.0, V4.1, &message).unwrap().priority, advert.priority);
        }
    }

    #[test]
    fn an_advert_without_addresses_is_refused_rfc9568_5_2_5_erratum_8299() {
        assert_eq!(changed(|message| message[3] = 0), Err(Malformed::NoAddresses));
        assert_eq!(
            changed(|message| {
                message.truncate(HEADER);
                message[3] = 0;
            }),
            Err(Malformed::NoAddresses)
        );
        assert_eq!(changed2(|message| message[3] = 0), Err(Malformed::NoAddresses));
        assert_eq!(changed(|_| ()), Ok(()));
    }

    #[test]
    fn two_hundred_and_fifty_five_addresses_fit_rfc9568_5_2_5() {
        for (version, family) in
            [(Version::V2, Family::V4), (Version::V3, Family::V4), (Version::V3, Family::V6)]
        {
            let mut advert = advert(version, family);
            advert.addresses = vec![advert.addresses[0]; 255].into();
            let message = bytes(&advert);
            let (from, to) = link(family);
            let heard = decode(from, to, &message).unwrap();
            assert_eq!(heard.address_count(), 255);
            assert_eq!(heard.to_advert(), Some(advert));
        }
    }

    #[test]
    fn the_reserved_nibble_is_ignored_when_heard_and_zero_when_sent_rfc9568_5_2_6() {
        for nibble in 0..16 {
            let mut message = bytes(&advert(Version::V3, Family::V4));
            assert_eq!(message[4] >> 4, 0);
            message[4] |= nibble << 4;
            seal(V4, true, &mut message);
            assert_eq!(decode(V4.0, V4.1, &message).unwrap().interval, Interval::DEFAULT);
        }
    }

    #[test]
    fn interval_0_is_refused_rfc9568_5_2_7_erratum_8301() {
        assert_eq!(changed(|message| message[5] = 0), Err(Malformed::ZeroInterval));
        // Only the reserved nibble is set: still 0.
        assert_eq!(
            changed(|message| message[4..6].copy_from_slice(&[0xf0, 0])),
            Err(Malformed::ZeroInterval)
        );
        assert_eq!(changed2(|message| message[5] = 0), Err(Malformed::ZeroInterval));
    }

    #[test]
    fn the_interval_is_12_bits_of_centiseconds_rfc9568_5_2_7() {
        for centis in [1, 100, 255, 256, 4095] {
            let mut advert = advert(Version::V3, Family::V4);
            advert.interval = Interval::from_centis(centis).unwrap();
            let message = bytes(&advert);
            assert_eq!(decode(V4.0, V4.1, &message).unwrap().interval.centis(), centis);
        }
    }

    #[test]
    fn the_interval_of_version_2_is_whole_seconds_rfc3768_5_3_7() {
        for secs in [1, 41, 255] {
            let mut advert = advert(Version::V2, Family::V4);
            advert.interval = Interval::from_secs(secs).unwrap();
            let message = bytes(&advert);
            assert_eq!(message[5], secs);
            assert_eq!(decode(V4.0, V4.1, &message).unwrap().interval, advert.interval);
        }
    }

    #[test]
    fn a_message_shorter_than_it_says_is_refused_rfc9568_7_1() {
        for (version, family, needed) in [
            (Version::V2, Family::V4, 20),
            (Version::V3, Family::V4, 12),
            (Version::V3, Family::V6, 24),
        ] {
            let message = bytes(&advert(version, family));
            let (from, to) = link(family);
            assert_eq!(message.len(), needed);
            assert!(decode(from, to, &message).is_ok());
            for length in 0..needed {
                let mut short = message[..length].to_vec();
                if length >= HEADER {
                    seal(link(family), version == Version::V3, &mut short);
                }
                let needed = if length < HEADER { HEADER } else { needed };
                assert_eq!(
                    decode(from, to, &short),
                    Err(Malformed::TooShort { length, needed }),
                    "version {version} over {family}"
                );
            }
        }
    }

    #[test]
    fn bytes_behind_the_advert_are_tolerated_inside_or_outside_the_checksum() {
        for (version, family) in
            [(Version::V2, Family::V4), (Version::V3, Family::V4), (Version::V3, Family::V6)]
        {
            let (from, to) = link(family);
            let exact = bytes(&advert(version, family));
            for trailer in [&[0xa5; 28][..], &[0; 26], &[7], &[1, 2, 3]] {
                let mut message = [&exact[..], trailer].concat();
                assert_eq!(decode(from, to, &message), decode(from, to, &exact), "outside");
                seal(link(family), version == Version::V3, &mut message);
                assert_eq!(decode(from, to, &message), decode(from, to, &exact), "inside");
                message[CHECKSUM] ^= 1;
                let checksum = u16::from_be_bytes([message[CHECKSUM], message[CHECKSUM + 1]]);
                assert_eq!(decode(from, to, &message), Err(Malformed::BadChecksum(checksum)));
            }
        }
    }

    #[test]
    fn version_3_over_ipv4_is_heard_in_both_checksum_forms_and_says_which_rfc9568_5_2_8() {
        for form in [ChecksumForm::PseudoHeader, ChecksumForm::Plain] {
            let mut advert = advert(Version::V3, Family::V4);
            advert.checksum = form;
            let message = bytes(&advert);
            let mut sealed = message.clone();
            seal(V4, form == ChecksumForm::PseudoHeader, &mut sealed);
            assert_eq!(message, sealed);
            assert_eq!(decode(V4.0, V4.1, &message).unwrap().checksum, Some(form));
            for bit in 0..16 {
                let mut wrong = message.clone();
                wrong[CHECKSUM + bit / 8] ^= 1 << (bit % 8);
                let checksum = u16::from_be_bytes([wrong[CHECKSUM], wrong[CHECKSUM + 1]]);
                assert_eq!(decode(V4.0, V4.1, &wrong), Err(Malformed::BadChecksum(checksum)));
            }
        }
    }

    #[test]
    fn version_3_over_ipv6_is_heard_with_the_pseudo_header_only_rfc9568_5_2_8() {
        let mut message = bytes(&advert(Version::V3, Family::V6));
        assert_eq!(decode(V6.0, V6.1, &message).unwrap().checksum, None);
        seal(V6, false, &mut message);
        assert!(matches!(decode(V6.0, V6.1, &message), Err(Malformed::BadChecksum(_))));
    }

    #[test]
    fn version_2_is_heard_without_the_pseudo_header_only_rfc3768_5_3_8() {
        let mut message = bytes(&advert(Version::V2, Family::V4));
        assert_eq!(decode(V4.0, V4.1, &message).unwrap().checksum, None);
        seal(V4, true, &mut message);
        assert!(matches!(decode(V4.0, V4.1, &message), Err(Malformed::BadChecksum(_))));
    }

    #[test]
    fn the_pseudo_header_binds_the_advert_to_its_ends_rfc9568_5_2_8() {
        let message = bytes(&advert(Version::V3, Family::V4));
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
        assert!(matches!(decode(elsewhere, V4.1, &message), Err(Malformed::BadChecksum(_))));
        assert!(matches!(decode(V4.0, elsewhere, &message), Err(Malformed::BadChecksum(_))));
        assert!(decode(V4.0, V4.1, &message).is_ok());
    }

    #[test]
    fn a_damaged_message_is_reported_as_damaged_whatever_else_it_says_rfc9568_7_1() {
        let mut message = bytes(&advert(Version::V3, Family::V4));
        message[5] = 0;
        assert!(matches!(decode(V4.0, V4.1, &message), Err(Malformed::BadChecksum(_))));
    }

    #[test]
    fn addresses_are_heard_in_the_order_sent_rfc9568_5_2_9() {
        for (family, list) in [
            (Family::V4, ["192.0.2.30", "192.0.2.10", "192.0.2.20"]),
            (Family::V6, ["fe80::3", "2001:db8::1", "2001:db8::2"]),
        ] {
            let mut advert = advert(Version::V3, family);
            advert.addresses = list.map(|ip| Address::host(ip.parse().unwrap())).into();
            let message = bytes(&advert);
            let (from, to) = link(family);
            let heard = decode(from, to, &message).unwrap();
            assert_eq!(heard.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>(), list);
        }
    }

    #[test]
    fn each_type_of_authentication_is_told_apart_rfc3768_5_3_6() {
        for (authentication_type, expected) in [
            (0, Authentication::None),
            (1, Authentication::SimpleText(*b"password")),
            (2, Authentication::Other(2)),
            (255, Authentication::Other(255)),
        ] {
            let mut message = bytes(&advert(Version::V2, Family::V4));
            message[4] = authentication_type;
            message[12..].copy_from_slice(b"password");
            seal(V4, false, &mut message);
            assert_eq!(decode(V4.0, V4.1, &message).unwrap().authentication, expected);
        }
    }

    #[test]
    fn version_3_has_no_authentication_rfc9568_9() {
        let mut advert = advert(Version::V3, Family::V4);
        advert.authentication = Some(*b"password");
        let message = bytes(&advert);
        assert_eq!(message.len(), 12);
        assert_eq!(decode(V4.0, V4.1, &message).unwrap().authentication, Authentication::None);
    }

    /// A header of 20 bytes as a raw socket delivers it, and `payload`.
    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0xc0, 0, 0, 0, 1, 0, 0, 255, PROTOCOL, 0, 0];
        packet.extend([192, 0, 2, 1, 224, 0, 0, 18]);
        packet.extend(payload);
        let total_length = packet.len() as u16;
        packet[2..4].copy_from_slice(&total_length.to_be_bytes());
        packet
    }

    #[test]
    fn an_ipv4_packet_comes_apart() {
        let bytes = packet(b"payload");
        let packet = ipv4_packet(&bytes).unwrap();
        assert_eq!((IpAddr::V4(packet.source), IpAddr::V4(packet.destination)), V4);
        assert_eq!((packet.ttl, packet.payload), (255, &b"payload"[..]));
    }

    #[test]
    fn options_of_an_ipv4_header_are_skipped() {
        let mut bytes = packet(b"payload");
        bytes.splice(20..20, [1, 1, 1, 0]);
        bytes[0] = 0x46;
        bytes[3] += 4;
        assert_eq!(ipv4_packet(&bytes).unwrap().payload, b"payload");
    }

    #[test]
    fn padding_behind_an_ipv4_packet_is_cut_off() {
        let mut bytes = packet(b"payload");
        bytes.extend([0; 19]);
        assert_eq!(ipv4_packet(&bytes).unwrap().payload, b"payload");
    }

    #[test]
    fn an_ipv4_packet_cut_short_has_what_is_left_of_its_payload() {
        let bytes = packet(b"payload");
        assert_eq!(ipv4_packet(&bytes[..23]).unwrap().payload, b"pay");
        assert_eq!(ipv4_packet(&bytes[..20]).unwrap().payload, b"");
        assert_eq!(ipv4_packet(&bytes[..19]), Err(Malformed::TooShort { length: 19, needed: 20 }));
    }

    #[test]
    fn a_wrong_ipv4_header_is_refused() {
        let with = |at: usize, value: u8| {
            let mut bytes = packet(b"payload");
            bytes[at] = value;
            ipv4_packet(&bytes).map(|packet| packet.payload.len())
        };
        assert_eq!(with(0, 0x45), Ok(7));
        assert_eq!(with(0, 0x65), Err(Malformed::NotIpv4(6)));
        assert_eq!(with(0, 0x44), Err(Malformed::BadHeaderLength(4)));
        assert_eq!(with(0, 0x4f), Err(Malformed::BadTotalLength(27)));
        assert_eq!(with(3, 19), Err(Malformed::BadTotalLength(19)));
        assert_eq!(with(3, 20), Ok(0));
        assert_eq!(with(6, 0x40), Ok(7), "don't fragment");
        assert_eq!(with(6, 0x20), Err(Malformed::Fragment));
        assert_eq!(with(7, 1), Err(Malformed::Fragment));
        assert_eq!(with(9, 17), Err(Malformed::OtherProtocol(17)));

        let mut bytes = packet(b"");
        bytes[0] = 0x46;
        bytes[3] = 24;
        assert_eq!(ipv4_packet(&bytes), Err(Malformed::TooShort { length: 20, needed: 24 }));
    }

    #[test]
    fn every_reason_is_one_clause() {
        for reason in [
            Malformed::TooShort { length: 7, needed: 8 },
            Malformed::UnknownVersion(4),
            Malformed::Version2OverIpv6,
            Malformed::UnknownType(2),
            Malformed::BadChecksum(0x1f),
            Malformed::ZeroVrid,
            Malformed::NoAddresses,
            Malformed::ZeroInterval,
            Malformed::NotIpv4(6),
            Malformed::BadHeaderLength(4),
            Malformed::BadTotalLength(19),
            Malformed::OtherProtocol(17),
            Malformed::Fragment,
        ] {
            let clause = reason.to_string();
            assert!(!clause.is_empty() && !clause.contains(['.', '\n']), "{clause}");
        }
        assert_eq!(Malformed::BadChecksum(0x1f).to_string(), "the checksum 0x001f is wrong");
    }

    prop_compose! {
        fn any_v4()(ip: u32) -> IpAddr { IpAddr::V4(ip.into()) }
    }
    prop_compose! {
        fn any_v6()(ip: u128) -> IpAddr { IpAddr::V6(ip.into()) }
    }
    prop_compose! {
        fn any_ip()(v6: bool, ip: u128) -> IpAddr {
            if v6 { IpAddr::V6(ip.into()) } else { IpAddr::V4((ip as u32).into()) }
        }
    }

    /// Any advert, with any source and destination of its family. Fields that are not transmitted
    /// have their defaults.
    fn any_advert() -> impl Strategy<Value = (Advert, IpAddr, IpAddr)> {
        let ends = prop_oneof![
            (Just(Version::V2), any_v4(), any_v4(), prop::collection::vec(any_v4(), 1..=9)),
            (Just(Version::V3), any_v4(), any_v4(), prop::collection::vec(any_v4(), 1..=9)),
            (Just(Version::V3), any_v6(), any_v6(), prop::collection::vec(any_v6(), 1..=9)),
        ];
        let values = (1..=255u8, 0..=255u8, 1..=4095u16, any::<bool>(), any::<Option<[u8; 8]>>());
        (ends, values).prop_map(
            |((version, from, to, addresses), (vrid, priority, centis, plain, text))| {
                let (interval, authentication) = match version {
                    Version::V2 => (Interval::from_secs((centis % 255 + 1) as u8), text),
                    Version::V3 => (Interval::from_centis(centis), None),
                };
                let advert = Advert {
                    version,
                    vrid: Vrid::new(vrid).unwrap(),
                    priority: Priority::new(priority),
                    interval: interval.unwrap(),
                    addresses: addresses.into_iter().map(Address::host).collect(),
                    checksum: match (version, Family::of(from), plain) {
                        (Version::V3, Family::V4, true) => ChecksumForm::Plain,
                        _ => ChecksumForm::PseudoHeader,
                    },
                    authentication,
                };
                (advert, from, to)
            },
        )
    }

    /// Bytes that often get past the first checks.
    fn any_message() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..80),
            (
                prop_oneof![Just(0x21u8), Just(0x31)],
                0..4u8,
                0..=4u8,
                prop::collection::vec(any::<u8>(), 0..80)
            )
                .prop_map(|(first, vrid, count, rest)| {
                    [&[first, vrid, 100, count][..], &rest].concat()
                }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..Default::default() })]

        #[test]
        fn no_bytes_make_the_decoder_panic(
            from in any_ip(), to in any_ip(), mut message in any_message(), seal in 0..3
        ) {
            if seal > 0 && message.len() >= HEADER {
                message[CHECKSUM..HEADER].fill(0);
                let pseudo_header = if seal == 2 { pseudo_header(from, to, message.len()) } else { 0 };
                let checksum = !fold(sum(&message) + pseudo_header);
                message[CHECKSUM..HEADER].copy_from_slice(&checksum.to_be_bytes());
            }
            if let Ok(heard) = decode(from, to, &message) {
                prop_assert_eq!(heard.addresses().count(), heard.address_count());
                prop_assert!(heard.address_count() >= 1);
                prop_assert!(heard.addresses().all(|ip| Family::of(ip) == heard.family));
            }
        }

        #[test]
        fn no_bytes_make_the_ipv4_header_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..80), likely: bool
        ) {
            if likely && bytes.len() >= 20 {
                bytes[0] = 0x40 | (bytes[0] & 0xf);
                bytes[2] = 0;
                bytes[6] = 0;
                bytes[7] = 0;
                bytes[9] = PROTOCOL;
            }
            if let Ok(packet) = ipv4_packet(&bytes) {
                prop_assert!(packet.payload.len() <= bytes.len() - 20);
            }
        }

        #[test]
        fn what_is_sent_is_what_is_heard((advert, from, to) in any_advert()) {
            let mut message = Vec::new();
            advert.encode(from, to, &mut message);
            let heard = decode(from, to, &message).unwrap();

            // With a pseudo-header whose sum is zero the two forms are the same.
            let forms_differ = fold(pseudo_header(from, to, message.len())) != 0xffff;
            if forms_differ {
                let advert_heard = heard.to_advert();
                prop_assert_eq!(advert_heard.as_ref(), Some(&advert));
            }
            let mut again = Vec::new();
            heard.to_advert().unwrap().encode(from, to, &mut again);
            prop_assert_eq!(again, message);
        }

        #[test]
        fn the_checksum_is_the_one_computed_word_by_word((advert, from, to) in any_advert()) {
            let mut message = Vec::new();
            advert.encode(from, to, &mut message);
            let mut sealed = message.clone();
            let with_pseudo_header =
                advert.version == Version::V3 && advert.checksum == ChecksumForm::PseudoHeader;
            seal((from, to), with_pseudo_header, &mut sealed);
            prop_assert_eq!(message, sealed);
        }

        #[test]
        fn a_flipped_bit_is_never_heard_as_the_same_advert(
            (advert, from, to) in any_advert(), bit: prop::sample::Index
        ) {
            let mut message = Vec::new();
            advert.encode(from, to, &mut message);
            let mut flipped = message.clone();
            let bit = bit.index(message.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            let heard = decode(from, to, &message).unwrap();
            prop_assert_ne!(decode(from, to, &flipped), Ok(heard));

            // It is refused if there is only one form, and the checksum covers as many bytes as
            // before.
            let one_form = heard.checksum.is_none();
            let same_version = flipped[0] == message[0];
            let same_length = flipped[3] == message[3];
            if one_form && same_version && same_length {
                prop_assert!(decode(from, to, &flipped).is_err());
            }
        }

        #[test]
        fn a_trailer_changes_nothing_that_is_heard(
            (advert, from, to) in any_advert(), trailer: [u8; 28]
        ) {
            let mut message = Vec::new();
            advert.encode(from, to, &mut message);
            let length = message.len();
            message.extend(trailer);
            prop_assert_eq!(
                decode(from, to, &message).unwrap().to_advert(),
                decode(from, to, &message[..length]).unwrap().to_advert()
            );
        }
    }
}
