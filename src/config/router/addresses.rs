//! The rules for the virtual addresses of one virtual router.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

use crate::config::problem::Diagnostics;
use crate::config::reader::At;
use crate::vrrp::Family;

/// The count of an advert is one byte (RFC 9568 5.2.5).
const MAX_ADVERTISED: usize = 255;
/// The MTU of Ethernet; `vipd doctor` looks at that of the interface.
pub(super) const USUAL_MTU: u32 = 1500;

/// An address of a list, with its byte range in the file.
#[derive(Clone)]
pub(super) struct ListedAddress {
    pub ip: IpAddr,
    pub prefix: Option<u8>,
    pub at: Range<usize>,
}

pub(super) fn check_advertised(
    list: Option<&At<Vec<At<String>>>>,
    report: &Diagnostics,
) -> Vec<ListedAddress> {
    let mut advertised = virtual_addresses(list, report);
    let Some(list) = list else { return advertised };
    if list.value.is_empty() && !report.is_partial() {
        report.error(
            &list.at,
            "`addresses` is empty: there is nothing to keep alive",
            "write addresses = [\"192.0.2.10\"]",
        );
    }
    if list.value.len() > MAX_ADVERTISED {
        report.error(
            &list.at,
            format!(
                "an advert has room for {MAX_ADVERTISED} addresses, these are {}",
                list.value.len()
            ),
            "move the others into unadvertised_addresses",
        );
    }
    let Some(first) = advertised.first().cloned() else { return advertised };
    let family = Family::of(first.ip);
    for other in advertised.iter().filter(|other| Family::of(other.ip) != family) {
        report.conflict(
            &other.at,
            format!(
                "{} is {}, but this virtual router's adverts are {family}",
                other.ip,
                Family::of(other.ip)
            ),
            format!(
                "move it: unadvertised_addresses = [\"{}\"]: it moves with the others",
                other.ip
            ),
            &first.at,
            "by its first address",
        );
    }
    advertised.retain(|listed| Family::of(listed.ip) == family);
    advertised
}

/// The entries that are valid virtual addresses; the others are reported.
pub(super) fn virtual_addresses(
    list: Option<&At<Vec<At<String>>>>,
    report: &Diagnostics,
) -> Vec<ListedAddress> {
    let entries = list.map(|list| list.value.as_slice()).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| {
            let listed = parse_address(entry, true, report)?;
            if let Some(why) = not_virtual(listed.ip, listed.prefix) {
                report.error(
                    &listed.at,
                    format!("{} cannot be a virtual address: {why}", entry.value),
                    "write an address that no host has as its own",
                );
                return None;
            }
            Some(listed)
        })
        .collect()
}

/// Why an address cannot be a virtual or host address, if so.
pub(super) fn not_virtual(ip: IpAddr, prefix: Option<u8>) -> Option<&'static str> {
    let bits = match ip {
        IpAddr::V4(ip) if ip.octets()[0] == 0 => return Some("it means \"this network\""),
        IpAddr::V4(ip) if ip.is_broadcast() => return Some("it is the broadcast address"),
        IpAddr::V6(ip) if ip.is_unspecified() => return Some("it is the unspecified address"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            return Some("it is an IPv4-mapped IPv6 address; write it as IPv4");
        }
        ip if ip.is_loopback() => return Some("it is a loopback address"),
        ip if ip.is_multicast() => return Some("it is a multicast group"),
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let (width, is_v4) = if ip.is_ipv4() { (32, true) } else { (128, false) };
    let prefix = prefix.filter(|prefix| (1..width - 1).contains(prefix))?;
    let host = bits << prefix;
    let all_ones = u128::MAX << (128 - u32::from(width - prefix));
    match host {
        0 if is_v4 => Some("with this prefix it names the network"),
        0 => Some("with this prefix it is the subnet-router anycast address"),
        host if is_v4 && host == all_ones => Some("with this prefix it is the broadcast address"),
        _ => None,
    }
}

/// Parses an address, with a prefix length where that is allowed.
pub(super) fn parse_address(
    entry: &At<String>,
    with_prefix: bool,
    report: &Diagnostics,
) -> Option<ListedAddress> {
    let text = entry.value.as_str();
    let error = |message: String, help: &str| {
        report.error(&entry.at, message, help);
        None
    };
    let (ip, prefix) = match text.split_once('/') {
        Some((ip, prefix)) => (ip, Some(prefix)),
        None => (text, None),
    };
    let ip = match ip.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => {
            if let Some((before, _)) = ip.split_once('%')
                && before.parse::<Ipv6Addr>().is_ok()
            {
                let help = format!("write \"{before}\"");
                return error(
                    "no interface is given here (%): it is that of the virtual router".into(),
                    &help,
                );
            }
            if let Some(without) = without_leading_zeros(ip) {
                let message = format!("`{text}` is ambiguous: leading zeros may mean octal");
                return error(message, &format!("write \"{without}\""));
            }
            let help = "write an IPv4 or IPv6 address, such as 192.0.2.10; names are not looked up";
            return error(format!("`{text}` is not an address"), help);
        }
    };
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => None,
        Some(_) if !with_prefix => {
            let message = format!("`{text}` has a prefix length, and names one host");
            return error(message, &format!("write \"{ip}\""));
        }
        Some(digits) => match digits.parse::<u8>() {
            Ok(prefix) if (1..=longest).contains(&prefix) => Some(prefix),
            _ => {
                let message = format!("/{digits} is not a prefix length: 1 to {longest}");
                return error(message, &format!("write \"{ip}\""));
            }
        },
    };
    Some(ListedAddress { ip, prefix, at: entry.at.clone() })
}

/// The IPv4 address meant by four decimal numbers with leading zeros.
fn without_leading_zeros(ip: &str) -> Option<IpAddr> {
    let numbers: Option<Vec<u8>> = ip.split('.').map(|number| number.parse().ok()).collect();
    let octets: [u8; 4] = numbers?.try_into().ok()?;
    Some(IpAddr::from(octets))
}

pub(super) fn check_repeated(all: &[ListedAddress], report: &Diagnostics) {
    let mut seen = BTreeMap::new();
    for listed in all {
        if let Some(earlier) = seen.insert(listed.ip, &listed.at) {
            report.conflict(
                &listed.at,
                format!("{} is listed twice in this virtual router", listed.ip),
                "leave it out here",
                earlier,
                "first here",
            );
        }
    }
}

pub(super) fn longest(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

pub(super) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
