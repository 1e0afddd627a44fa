//! The advert, VRRP's only message, between its bytes and its meaning: RFC 9568 5.2 for version 3,
//! RFC 3768 5.3 for version 2.
//!
//! [`Advert`] is what we send, [`Heard`] is what arrived and held. Who sent it, by which way and
//! with which TTL is for the election to judge (`router`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::config::{Address, ChecksumForm, Family, Interval, Priority, Version, Vrid};

/// IP protocol number of VRRP, in the IPv4 and IPv6 header and in the pseudo-header.
pub const PROTOCOL: u8 = 112;

/// The only message type there is (RFC 9568 5.2.2).
const ADVERTISEMENT: u8 = 1;
/// Up to the first address, in either version.
const HEADER: usize = 8;
/// Where the checksum stands, in either version.
const CHECKSUM: usize = 6;
/// Version 2 has this after its addresses, also without authentication (RFC 3768 5.3.10).
const AUTHENTICATION: usize = 8;

const NO_AUTHENTICATION: u8 = 0;
const SIMPLE_TEXT: u8 = 1;

/// What we send: encoded at the edge, a value inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Advert {
    /// Which version's message it becomes.
    pub version: Version,
    /// The virtual router it speaks for.
    pub vrid: Vrid,
    /// The effective priority, or [`Priority::LEAVING`].
    pub priority: Priority,
    /// Time to the next advert; whole seconds in version 2, at most 40.95 s in version 3.
    pub interval: Interval,
    /// The advertised addresses, 1 to 255 of them, all of the family that carries the message.
    pub addresses: Arc<[Address]>,
    /// What the checksum covers; matters in version 3 over IPv4 only.
    pub checksum: ChecksumForm,
    /// Simple-text authentication; matters in version 2 only.
    pub authentication: Option<[u8; 8]>,
}

impl Advert {
    /// Replaces what is in `message` with the VRRP message, checksum included, to be sent from
    /// `from` to `to`. Allocates only if `message` has too little capacity. A trailer may be
    /// pushed behind it: see [`decode`].
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
                IpAddr::V4(ip) => message.extend(ip.octets()),
                IpAddr::V6(ip) => message.extend(ip.octets()),
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
    /// Type 0; what stands in the authentication data is ignored (RFC 3768 5.3.10).
    None,
    /// Type 1, of RFC 2338: a password anybody on the link can read.
    SimpleText([u8; 8]),
    /// Any other type, by its number.
    Other(u8),
}

/// What arrived: checked, and borrowed from the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Heard<'a> {
    /// Version of the message.
    pub version: Version,
    /// The family that carried it, and that of its addresses.
    pub family: Family,
    /// The virtual router it speaks for.
    pub vrid: Vrid,
    /// The sender's effective priority, or [`Priority::LEAVING`].
    pub priority: Priority,
    /// The sender's time between adverts.
    pub interval: Interval,
    /// Which form verified; `None` where there is only one (version 2, IPv6).
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

    /// The advert that is heard like this; `None` if it has an authentication we never send.
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

/// Takes a VRRP message apart: `message` is the whole payload of an IP packet from `source` to
/// `destination`, which are of one family.
///
/// Bytes behind the advert are tolerated. The checksum may cover them or not: keepalived from
/// 2.4.2 on can sign its adverts in a trailer, the kernel counts a trailer in when it fills in an
/// IPv6 checksum, and a sender that adds one late has not. The sum is a guard against accidents,
/// and two chances in 65536 still are one.
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
    let needed = HEADER
        + addresses_length
        + match version {
            Version::V2 => AUTHENTICATION,
            Version::V3 => 0,
        };
    let (Some(advert), Some((addresses, rest))) =
        (message.get(..needed), body.split_at_checked(addresses_length))
    else {
        return Err(too_short(needed));
    };

    // Before any value is judged: what was damaged on its way says nothing about its sender.
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

/// The form in which the checksum inside `covered` is right, if in any that `version` allows.
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

/// Sum of the pseudo-header. The two families lay it out differently (RFC 9568 5.2.8, RFC 8200
/// 8.1) and add up the same.
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

/// An IPv4 packet with VRRP in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ipv4Packet<'a> {
    /// Who sent it, as the header says.
    pub source: Ipv4Addr,
    /// The group, or one of our addresses.
    pub destination: Ipv4Addr,
    /// 255 unless somebody forwarded it, or sent it so.
    pub ttl: u8,
    /// The VRRP message, for [`decode`].
    pub payload: &'a [u8],
}

/// Takes an IPv4 packet apart as a raw socket delivers it, header first. The payload ends where
/// the header says or where `bytes` do, whichever comes first. The kernel has verified the
/// header's own checksum.
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

/// Why a packet is no advert, with the value that made it none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Malformed {
    /// It ends before what it announces; both in bytes.
    TooShort {
        /// How long it is.
        length: usize,
        /// How long it would have to be.
        needed: usize,
    },
    /// Neither version 2 nor 3 (RFC 9568 5.2.1, 7.1).
    UnknownVersion(u8),
    /// Version 2 knows IPv4 only.
    Version2OverIpv6,
    /// Not an advertisement (RFC 9568 5.2.2).
    UnknownType(u8),
    /// The checksum is wrong in every form that there is; the one received (RFC 9568 5.2.8, 7.1).
    BadChecksum(u16),
    /// VRIDs begin at 1 (RFC 9568 5.2.3).
    ZeroVrid,
    /// It advertises no address (RFC 9568 5.2.5, erratum 8299).
    NoAddresses,
    /// It announces adverts without end (RFC 9568 5.2.7, erratum 8301).
    ZeroInterval,
    /// Not an IPv4 packet; the version in its header.
    NotIpv4(u8),
    /// The IPv4 header claims to be shorter than one can be, in units of 4 bytes.
    BadHeaderLength(u8),
    /// The IPv4 packet claims to be shorter than its header, in bytes.
    BadTotalLength(u16),
    /// The IPv4 packet carries another protocol.
    OtherProtocol(u8),
    /// A piece of an IPv4 packet.
    Fragment,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::TooShort { length, needed } => {
                write!(f, "it has {length} bytes and needs {needed}")
            }
            Malformed::UnknownVersion(version) => write!(f, "VRRP version {version} is unknown"),
            Malformed::Version2OverIpv6 => f.write_str("VRRP version 2 does not speak IPv6"),
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
