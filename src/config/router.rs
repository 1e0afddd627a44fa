//! The rules for one virtual router, and for all of a host together.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::check_name;
use super::checks;
use super::file::{self, Lifetime};
use super::hooks::{self, HookPlaces, Hooks, Settings};
use super::problem::Report;
use super::reader::At;
use crate::vrrp::{
    Address, ChecksumForm, Family, Handover, Interval, Priority, RouterConfig, Version, Vrid,
};

const DEFAULT_LINK_DELAY: Duration = Duration::from_secs(2);
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
const LONGEST_LIFETIME: u32 = 3600;

/// The count in an advert is one byte (RFC 9568 5.2.5).
const MOST_ADVERTISED: usize = 255;
/// What fits into 1500 bytes, behind 40 of IPv6 and 8 of VRRP.
const MOST_ADVERTISED_IPV6_UNFRAGMENTED: usize = 90;
/// The kernel's limit for names of interfaces, and that for alternative names.
pub(super) const LONGEST_INTERFACE_NAME: usize = 15;
pub(super) const LONGEST_ALTERNATIVE_NAME: usize = 127;
/// Faster adverts leave no room for a lifetime of whole seconds, in centiseconds.
const FASTEST_WITH_LEASE: u16 = 70;
/// As far as renewing them in one step was measured to be harmless.
const MOST_LEASED: usize = 255;

/// A router as far as it could be understood, so that routers can be compared.
pub(super) struct Checked<'f> {
    pub file: &'f file::VirtualRouter,
    pub name: Option<&'f At<String>>,
    interface: Option<&'f At<String>>,
    vrid: Option<(Vrid, Range<usize>)>,
    family: Option<Family>,
    addresses: Vec<Listed>,
    /// `None` if something that has no default is missing or wrong.
    pub result: Option<(RouterConfig, Hooks, HookPlaces)>,
}

/// An address of a list, and where it stands.
#[derive(Clone)]
struct Listed {
    ip: IpAddr,
    prefix: Option<u8>,
    at: Range<usize>,
}

/// What is true of one virtual router whatever the others are.
pub(super) fn check<'f>(
    file: &'f file::VirtualRouter,
    defined: &[checks::Checked<'_>],
    report: &Report,
) -> Checked<'f> {
    if let Some(name) = &file.name {
        check_name("the name of a virtual router", name, report);
    }
    if let Some(interface) = &file.interface {
        check_interface(interface, report);
    }
    let vrid =
        file.vrid.as_ref().and_then(|vrid| Some((check_vrid(vrid, report)?, vrid.at.clone())));
    let priority = check_priority(file.priority.as_ref(), report);
    let is_owner = priority == Priority::OWNER;

    let advertised = check_advertised(file.addresses.as_ref(), report);
    let family = advertised.first().map(|first| Family::of(first.ip));
    let riding = virtual_addresses(file.unadvertised_addresses.as_ref(), report);
    let all: Vec<Listed> = advertised.iter().chain(&riding).cloned().collect();
    check_repeated(&all, report);

    let version = check_version(file.version.as_ref(), &advertised, report);
    let interval = check_interval(file.advert_interval.as_ref(), version, report);
    let checksum = check_checksum(file.checksum.as_ref(), version, family, report);
    let authentication = check_authentication(file.authentication.as_ref(), version, report);

    let preempt = file.preempt.as_ref().is_none_or(|preempt| preempt.value);
    let preempt_delay = check_delay("preempt_delay", file.preempt_delay.as_ref(), report);
    check_preemption(file, is_owner, report);
    let start_delay = check_delay("start_delay", file.start_delay.as_ref(), report);
    let link_delay = check_delay("link_delay", file.link_delay.as_ref(), report);

    let source = check_source(file.source_address.as_ref(), family, &all, is_owner, report);
    let peers = check_peers(file, family, source.as_ref(), &all, report);
    let unicast_min_ttl = check_min_ttl(file, report);
    let accept_from = check_senders(file, family, peers.as_deref(), report);
    if let (Some(source), Some(Family::V6), None) = (&source, family, &peers)
        && !is_link_local(source.ip)
    {
        report.advice(
            &source.at,
            "IPv6 adverts to the group are to come from a link-local address (RFC 9568 5.1.2.1)",
            "leave source_address out: the interface's link-local address is taken by itself",
        );
    }

    let handover = file.handover.as_ref().map_or(Handover::Overlap, |handover| handover.value);
    let claim_prefix = check_claim_prefix(file.claim_prefix.as_ref(), &all, is_owner, report);
    let (hooks, hook_places, settings) = match &file.hooks {
        Some(hooks) => hooks::check(hooks, report),
        None => <(Hooks, HookPlaces, Settings)>::default(),
    };
    advise_on_release(file.hooks.as_ref(), handover, report);
    check_claiming_of_owner(file, is_owner, report);
    let own_checks = checks::named(file.checks.as_ref(), defined, report);
    checks::check_use(&own_checks, file, is_owner, report);
    let address_lifetime =
        interval.and_then(|interval| check_lifetime(file, interval, is_owner, all.len(), report));
    advise_on_election(file, version, family, is_owner, &advertised, report);

    let as_claimed = |listed: &Listed| match listed.prefix {
        Some(prefix) if claim_prefix => Address { ip: listed.ip, prefix },
        _ => Address::host(listed.ip),
    };
    let only_ips = |list: Vec<Listed>| list.iter().map(|it| it.ip).collect::<Arc<[IpAddr]>>();
    let config = || {
        let mut config = RouterConfig {
            name: file.name.as_ref()?.value.as_str().into(),
            interface: file.interface.as_ref()?.value.as_str().into(),
            vrid: vrid.as_ref()?.0,
            family: family?,
            version: version?,
            priority,
            addresses: advertised.iter().map(as_claimed).collect(),
            unadvertised_addresses: riding.iter().map(as_claimed).collect(),
            advert_interval: interval?,
            preempt,
            preempt_delay: preempt_delay.unwrap_or(Duration::ZERO),
            start_delay: start_delay.unwrap_or(Duration::ZERO),
            link_delay: link_delay.unwrap_or(DEFAULT_LINK_DELAY),
            checksum,
            unicast_peers: peers.map(only_ips),
            unicast_min_ttl,
            source_address: source.as_ref().map(|source| source.ip),
            accept_from: accept_from.map(only_ips),
            authentication,
            address_lifetime,
            handover,
            before_release: None,
            before_claim: None,
            fault_for: BTreeMap::new(),
            checks: own_checks
                .iter()
                .filter_map(|(_, check)| check.name())
                .map(Arc::from)
                .collect(),
        };
        settings.apply(&mut config);
        Some(config)
    };
    let result = config().map(|config| (config, hooks, hook_places));
    Checked {
        file,
        name: file.name.as_ref(),
        interface: file.interface.as_ref(),
        vrid,
        family,
        addresses: all,
        result,
    }
}

/// What must be different from one virtual router to the next.
pub(super) fn check_together(routers: &[Checked<'_>], report: &Report) {
    let mut names = BTreeMap::new();
    let mut identities = BTreeMap::new();
    let mut holders = BTreeMap::new();
    let mut leased: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, router) in routers.iter().enumerate() {
        let name = router.name.map_or("another", |name| name.value.as_str());
        if let Some(At { value, at }) = router.name
            && let Some(earlier) = names.insert(value.as_str(), at)
        {
            report.conflict(
                at,
                format!("two virtual routers are named `{value}`"),
                "give this one a name of its own",
                earlier,
                "the first one",
            );
        }
        if let (Some(interface), Some((vrid, at)), Some(family)) =
            (router.interface, &router.vrid, router.family)
            && let Some(earlier) = identities.insert((&interface.value, family, *vrid), at)
        {
            report.conflict(
                at,
                format!(
                    "VRID {vrid} is used twice on {} for {family}: on the wire these are one \
                     virtual router",
                    interface.value
                ),
                "give this one another vrid, the same one on all of its hosts",
                earlier,
                "first used here",
            );
        }
        let interface = router.interface.map(|interface| interface.value.as_str());
        for listed in &router.addresses {
            // A link-local address is another one on another link.
            let link = interface.filter(|_| is_link_local(listed.ip));
            let before = holders.insert((listed.ip, link), (index, name, &listed.at));
            // Twice in one router has been reported.
            if let Some((_, holder, earlier)) = before.filter(|(other, ..)| *other != index) {
                report.conflict(
                    &listed.at,
                    format!("{} is also an address of the virtual router `{holder}`", listed.ip),
                    "leave it in one of the two",
                    earlier,
                    "first used here",
                );
            }
        }
        let is_leased = router.result.as_ref().is_some_and(|(config, ..)| {
            config.address_lifetime.is_some() && config.priority != Priority::OWNER
        });
        if let Some(interface) = router.interface.filter(|_| is_leased) {
            let count = leased.entry(&interface.value).or_default();
            let before = *count;
            *count += router.addresses.len();
            if before <= MOST_LEASED && *count > MOST_LEASED {
                report.advice(
                    &interface.at,
                    format!(
                        "more than {MOST_LEASED} addresses on {} have a lifetime",
                        interface.value
                    ),
                    "renewing so many in time is not promised: address_lifetime = \"off\" for some",
                );
            }
        }
    }
}

pub(super) fn check_interface(interface: &At<String>, report: &Report) {
    let name = interface.value.as_str();
    let at = &interface.at;
    let help = "see: ip -brief link";
    if name.is_empty() {
        report.error(at, "the interface has no name", help);
    } else if name.len() > LONGEST_ALTERNATIVE_NAME {
        let longest = LONGEST_ALTERNATIVE_NAME;
        report.error(at, format!("a name of an interface has at most {longest} bytes"), help);
    } else if name == "." || name == ".." || name.contains(['/', '\0']) || has_blanks(name) {
        report.error(at, format!("`{name}` cannot be the name of an interface"), help);
    } else if let Some((link, label)) = name.rsplit_once(':')
        && label.bytes().all(|byte| byte.is_ascii_digit())
        && name.len() <= LONGEST_INTERFACE_NAME
    {
        report.error(
            at,
            format!("`{name}` is the label of an address, not an interface"),
            format!("write interface = \"{link}\""),
        );
    } else if let Some((link, below)) = name.split_once('@') {
        report.error(
            at,
            format!("`{name}` is how ip shows the interface {link} on top of {below}"),
            format!("write interface = \"{link}\""),
        );
    }
}

fn has_blanks(text: &str) -> bool {
    text.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn check_vrid(vrid: &At<i64>, report: &Report) -> Option<Vrid> {
    let number = u8::try_from(vrid.value).ok().and_then(Vrid::new);
    if number.is_none() {
        report.error(
            &vrid.at,
            "a vrid is 1 to 255",
            "write the same number on all hosts of this virtual router, such as 51",
        );
    }
    number
}

/// The default after an error, which has been reported.
fn check_priority(priority: Option<&At<i64>>, report: &Report) -> Priority {
    let Some(priority) = priority else { return Priority::DEFAULT };
    match u8::try_from(priority.value) {
        Ok(0) => report.error(
            &priority.at,
            "priority 0 says \"I am leaving\" on the wire: no router can have it",
            "write 1 to 254; the highest one is master",
        ),
        Ok(number) => return Priority::new(number),
        Err(_) => report.error(
            &priority.at,
            "a priority is 1 to 254, or 255 for the owner of the addresses",
            "write 1 to 254; the highest one is master",
        ),
    }
    Priority::DEFAULT
}

fn check_advertised(list: Option<&At<Vec<At<String>>>>, report: &Report) -> Vec<Listed> {
    let mut advertised = virtual_addresses(list, report);
    let Some(list) = list else { return advertised };
    if list.value.is_empty() && !report.is_partial() {
        report.error(
            &list.at,
            "`addresses` is empty: there is nothing to keep alive",
            "write addresses = [\"192.0.2.10\"]",
        );
    }
    if list.value.len() > MOST_ADVERTISED {
        report.error(
            &list.at,
            format!(
                "an advert has room for {MOST_ADVERTISED} addresses, these are {}",
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
                "move it: unadvertised_addresses = [\"{}\"], and it goes where the others go",
                other.ip
            ),
            &first.at,
            "by its first address",
        );
    }
    advertised.retain(|listed| Family::of(listed.ip) == family);
    advertised
}

/// Those entries that can be virtual addresses.
fn virtual_addresses(list: Option<&At<Vec<At<String>>>>, report: &Report) -> Vec<Listed> {
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

/// Why an address cannot be shared.
fn not_virtual(ip: IpAddr, prefix: Option<u8>) -> Option<&'static str> {
    let bits = match ip {
        IpAddr::V4(ip) if ip.octets()[0] == 0 => return Some("it says \"this network\""),
        IpAddr::V4(ip) if ip.is_broadcast() => return Some("it is the broadcast address"),
        IpAddr::V6(ip) if ip.is_unspecified() => return Some("it says \"no address\""),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            return Some("it is an IPv4 address in IPv6 clothes; write it as IPv4");
        }
        ip if ip.is_loopback() => return Some("it never leaves its host"),
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

/// An address, with a prefix length where that is allowed.
fn parse_address(entry: &At<String>, with_prefix: bool, report: &Report) -> Option<Listed> {
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
                return error("the interface is the virtual router's: no % here".into(), &help);
            }
            if let Some(without) = without_leading_zeros(ip) {
                let message = format!("`{text}` is octal to some and decimal to others");
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
    Some(Listed { ip, prefix, at: entry.at.clone() })
}

/// The address that remains of four decimal numbers if leading zeros are left out.
fn without_leading_zeros(ip: &str) -> Option<IpAddr> {
    let numbers: Option<Vec<u8>> = ip.split('.').map(|number| number.parse().ok()).collect();
    let octets: [u8; 4] = numbers?.try_into().ok()?;
    Some(IpAddr::from(octets))
}

fn check_repeated(all: &[Listed], report: &Report) {
    let mut seen = BTreeMap::new();
    for listed in all {
        if let Some(earlier) = seen.insert(listed.ip, &listed.at) {
            report.conflict(
                &listed.at,
                format!("{} is twice in this virtual router", listed.ip),
                "leave it out here",
                earlier,
                "first here",
            );
        }
    }
}

/// `None` after an error, which has been reported.
fn check_version(
    version: Option<&At<i64>>,
    advertised: &[Listed],
    report: &Report,
) -> Option<Version> {
    let Some(At { value, at }) = version else { return Some(Version::V3) };
    match value {
        2 => {
            if let Some(first) = advertised.first()
                && Family::of(first.ip) == Family::V6
            {
                report.conflict(
                    at,
                    "version 2 of VRRP carries IPv4 only",
                    "write version = 3, or leave it out",
                    &first.at,
                    "this is IPv6",
                );
            }
            Some(Version::V2)
        }
        3 => Some(Version::V3),
        _ => {
            report.error(
                at,
                "the versions of VRRP are 2 and 3",
                "write version = 3, or 2 for peers that know nothing else",
            );
            None
        }
    }
}

/// `None` after an error, which has been reported.
fn check_interval(
    interval: Option<&At<Duration>>,
    version: Option<Version>,
    report: &Report,
) -> Option<Interval> {
    let Some(At { value, at }) = interval else { return Some(Interval::DEFAULT) };
    let nanos = value.as_nanos();
    match version? {
        Version::V2 => {
            let secs = u8::try_from(value.as_secs()).ok();
            let interval = secs.filter(|_| value.subsec_nanos() == 0).and_then(Interval::from_secs);
            if interval.is_none() {
                let nearest = (value.as_secs_f64().round() as u64).clamp(1, 255);
                report.error(
                    at,
                    "version 2 counts whole seconds between adverts, 1s to 255s",
                    format!("write \"{nearest}s\", or use version = 3"),
                );
            }
            interval
        }
        Version::V3 => {
            let centis = u16::try_from(nanos / 10_000_000).ok();
            let interval =
                centis.filter(|_| nanos % 10_000_000 == 0).and_then(Interval::from_centis);
            if interval.is_none() {
                let nearest = ((nanos + 5_000_000) / 10_000_000).clamp(1, 4095);
                let nearest = Duration::from_millis(nearest as u64 * 10);
                report.error(
                    at,
                    "the advert interval is 10ms to 40.95s in steps of 10ms (RFC 9568 5.2.7)",
                    format!("write \"{nearest:?}\""),
                );
            }
            interval
        }
    }
}

fn check_checksum(
    checksum: Option<&At<ChecksumForm>>,
    version: Option<Version>,
    family: Option<Family>,
    report: &Report,
) -> ChecksumForm {
    let Some(checksum) = checksum else { return ChecksumForm::PseudoHeader };
    let why = match (version, family) {
        (Some(Version::V2), _) => "version 2 has one form only",
        (_, Some(Family::V6)) => "over IPv6 it always covers the pseudo-header",
        (Some(Version::V3) | None, Some(Family::V4) | None) => return checksum.value,
    };
    report.error(
        &checksum.at,
        format!("`checksum` is for version 3 over IPv4: {why}"),
        "leave it out",
    );
    checksum.value
}

fn check_authentication(
    authentication: Option<&At<String>>,
    version: Option<Version>,
    report: &Report,
) -> Option<[u8; 8]> {
    let At { value, at } = authentication?;
    if version == Some(Version::V3) {
        report.error(
            at,
            "version 3 has no authentication (RFC 9568 9)",
            "leave it out; accept_from and a packet filter keep strangers away",
        );
        return None;
    }
    let mut data = [0; 8];
    let printable = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    match data.get_mut(..value.len()) {
        Some(start) if printable && !value.is_empty() => start.copy_from_slice(value.as_bytes()),
        _ => {
            report.error(
                at,
                "the authentication text is 1 to 8 ASCII characters",
                "write what the peers have as auth_pass; of a longer one they use 8 characters",
            );
            return None;
        }
    }
    report.advice(
        at,
        "the authentication text can be read by everybody on the link",
        "it protects from mistakes only; keep strangers away by accept_from and a packet filter",
    );
    Some(data)
}

fn check_delay(key: &str, delay: Option<&At<Duration>>, report: &Report) -> Option<Duration> {
    let At { value, at } = delay?;
    if *value > LONGEST_DELAY {
        report.error(at, format!("`{key}` is at most 1h"), format!("write {key} = \"1m\""));
    }
    Some(*value)
}

fn check_preemption(file: &file::VirtualRouter, is_owner: bool, report: &Report) {
    if let Some(preempt) = file.preempt.as_ref().filter(|preempt| !preempt.value) {
        if is_owner {
            report.error(
                &preempt.at,
                "the owner of the addresses (priority 255) always takes over",
                "leave preempt out, or write priority = 254",
            );
        }
        if let Some(delay) = file.preempt_delay.as_ref().filter(|delay| !delay.value.is_zero()) {
            report.conflict(
                &delay.at,
                "`preempt_delay` delays what preempt = false forbids",
                "leave one of the two out",
                &preempt.at,
                "forbidden here",
            );
        }
    }
}

fn check_source(
    source: Option<&At<String>>,
    family: Option<Family>,
    all: &[Listed],
    is_owner: bool,
    report: &Report,
) -> Option<Listed> {
    let source = one_host(source?, family, "the source of adverts", report)?;
    if let Some(same) = all.iter().find(|listed| listed.ip == source.ip && !is_owner) {
        report.conflict(
            &source.at,
            "adverts cannot come from an address that moves",
            "write an address that is this host's own, or leave source_address out",
            &same.at,
            "it is a virtual address",
        );
    }
    Some(source)
}

fn check_peers(
    file: &file::VirtualRouter,
    family: Option<Family>,
    source: Option<&Listed>,
    all: &[Listed],
    report: &Report,
) -> Option<Vec<Listed>> {
    let list = file.unicast_peers.as_ref()?;
    if list.value.is_empty() && !report.is_partial() {
        report.error(
            &list.at,
            "`unicast_peers` is empty: the adverts would go to nobody",
            "name the other hosts, or leave it out to use multicast",
        );
    }
    let peers = other_hosts(list, family, "a peer", report);
    for peer in &peers {
        if let Some(own) = source.filter(|own| own.ip == peer.ip) {
            report.conflict(
                &peer.at,
                format!("{} is this host itself", peer.ip),
                "leave it out: every host names the others only",
                &own.at,
                "its source address",
            );
        }
        refuse_virtual(peer, all, "a peer is named by its own address", report);
    }
    Some(peers)
}

fn check_senders(
    file: &file::VirtualRouter,
    family: Option<Family>,
    peers: Option<&[Listed]>,
    report: &Report,
) -> Option<Vec<Listed>> {
    let list = file.accept_from.as_ref()?;
    if list.value.is_empty() && !report.is_partial() {
        report.error(
            &list.at,
            "`accept_from` is empty: every peer would be ignored, and all would be master",
            "name the other hosts, or leave it out to hear everybody",
        );
    }
    let senders = other_hosts(list, family, "a sender", report);
    for sender in &senders {
        if peers.is_none() && family == Some(Family::V6) && !is_link_local(sender.ip) {
            report.advice(
                &sender.at,
                "over IPv6, adverts to the group come from link-local addresses (RFC 9568 5.1.2.1)",
                "name the peers by those: ip -6 address show scope link",
            );
        }
    }
    for peer in peers.unwrap_or_default() {
        if !senders.iter().any(|sender| sender.ip == peer.ip) {
            report.conflict(
                &peer.at,
                format!("the peer {} would not be heard: it is not in accept_from", peer.ip),
                "add it to accept_from, or leave accept_from out: only peers are heard anyway",
                &list.at,
                "heard are only these",
            );
        }
    }
    Some(senders)
}

/// Addresses of other hosts, none of them twice.
fn other_hosts(
    list: &At<Vec<At<String>>>,
    family: Option<Family>,
    what: &str,
    report: &Report,
) -> Vec<Listed> {
    let mut seen: BTreeMap<IpAddr, Range<usize>> = BTreeMap::new();
    let mut hosts = Vec::new();
    for host in list.value.iter().filter_map(|entry| one_host(entry, family, what, report)) {
        match seen.insert(host.ip, host.at.clone()) {
            None => hosts.push(host),
            Some(earlier) => report.conflict(
                &host.at,
                format!("{} is twice in this list", host.ip),
                "leave it out here",
                &earlier,
                "first here",
            ),
        }
    }
    hosts
}

/// The address of a host of the adverts' family.
fn one_host(
    entry: &At<String>,
    family: Option<Family>,
    what: &str,
    report: &Report,
) -> Option<Listed> {
    let host = parse_address(entry, false, report)?;
    if let Some(why) = not_virtual(host.ip, None) {
        let message = format!("{} cannot be {what}: {why}", host.ip);
        report.error(&host.at, message, "write the address of a host");
        return None;
    }
    if let Some(family) = family.filter(|family| *family != Family::of(host.ip)) {
        report.error(
            &host.at,
            format!("{} is {}, but the adverts are {family}", host.ip, Family::of(host.ip)),
            format!("write an {family} address: the family is that of `addresses`"),
        );
        return None;
    }
    Some(host)
}

fn refuse_virtual(host: &Listed, all: &[Listed], why: &str, report: &Report) {
    if let Some(same) = all.iter().find(|listed| listed.ip == host.ip) {
        report.conflict(
            &host.at,
            format!("{} is a virtual address: {why}", host.ip),
            "write the host's own address",
            &same.at,
            "virtual here",
        );
    }
}

fn check_min_ttl(file: &file::VirtualRouter, report: &Report) -> u8 {
    let Some(At { value, at }) = &file.unicast_min_ttl else { return 1 };
    if file.unicast_peers.is_none() && !report.is_partial() {
        report.error(
            at,
            "`unicast_min_ttl` is for unicast_peers: multicast adverts have TTL 255, always",
            "leave it out, or name unicast_peers",
        );
    }
    match u8::try_from(*value) {
        Ok(ttl) if ttl > 0 => ttl,
        _ => {
            let help = "write 255 for peers on the same link, less for routed ones";
            report.error(at, "a TTL is 1 to 255", help);
            1
        }
    }
}

fn check_claim_prefix(
    claim_prefix: Option<&At<bool>>,
    all: &[Listed],
    is_owner: bool,
    report: &Report,
) -> bool {
    let claimed = claim_prefix.is_some_and(|claim| claim.value);
    let with_prefix: Vec<&Listed> =
        all.iter().filter(|listed| listed.prefix.is_some_and(|p| p < longest(listed.ip))).collect();
    match (claim_prefix, with_prefix.first()) {
        (Some(claim), None) if claimed && !report.is_partial() => report.advice(
            &claim.at,
            "claim_prefix has no effect: no address has a prefix length",
            "leave it out, or write \"192.0.2.10/24\"",
        ),
        (Some(claim), Some(_)) if claimed && !is_owner => report.advice(
            &claim.at,
            "with its prefix a virtual address brings a route, and may become the host's primary one",
            "leave claim_prefix out unless the host has no address of its own in that network",
        ),
        (_, Some(first)) if !claimed => report.advice(
            &first.at,
            match with_prefix.len() {
                1 => format!("the prefix length is not used: {} is claimed alone", first.ip),
                n => format!("the prefix lengths are not used: these {n} addresses are claimed alone"),
            },
            "leave it out; claim_prefix = true would use it",
        ),
        _ => {}
    }
    claimed
}

fn longest(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The owner claims nothing that a hook could refuse.
fn check_claiming_of_owner(file: &file::VirtualRouter, is_owner: bool, report: &Report) {
    let hook = file.hooks.as_ref().and_then(|hooks| hooks.before_claim.as_ref());
    if let (Some(hook), Some(priority), true) = (hook, &file.priority, is_owner) {
        report.conflict(
            &hook.argv.at,
            "before_claim cannot refuse what the owner (priority 255) never claims",
            "leave it out, or write at most priority = 254",
            &priority.at,
            "the owner",
        );
    }
}

pub(super) fn advise_on_release(hooks: Option<&file::Hooks>, handover: Handover, report: &Report) {
    let hook = hooks.and_then(|hooks| hooks.before_release.as_ref());
    if let Some(hook) = hook
        && handover == Handover::Overlap
    {
        report.advice(
            &hook.argv.at,
            "with handover = \"overlap\" the address is still answered after before_release has run",
            "if the hook stops the service, write handover = \"exclusive\"",
        );
    }
}

/// The lifetime in seconds; `None`: for ever.
fn check_lifetime(
    file: &file::VirtualRouter,
    interval: Interval,
    is_owner: bool,
    addresses: usize,
    report: &Report,
) -> Option<u32> {
    let automatic = RouterConfig::automatic_lifetime(interval);
    let place = file.address_lifetime.as_ref().map(|lifetime| &lifetime.at);
    let lifetime = file.address_lifetime.as_ref().map_or(Lifetime::Auto, |it| it.value);
    if let Some(at) = place
        && is_owner
    {
        report.advice(
            at,
            "address_lifetime has no effect: the owner (priority 255) claims nothing",
            "leave it out",
        );
    }
    match lifetime {
        Lifetime::Auto => {
            let interval_at = file.advert_interval.as_ref().map(|interval| &interval.at);
            if let Some(at) = interval_at
                && interval.centis() < FASTEST_WITH_LEASE
                && addresses > 0
                && !is_owner
            {
                report.advice(
                    at,
                    "adverts faster than 0.7s: if the daemon alone dies, its addresses end after \
                     2s to 3s, later than the peers take over",
                    "kernel lifetimes count whole seconds; from 700ms on they end in time",
                );
            }
            Some(automatic)
        }
        Lifetime::Off => {
            if let Some(at) = place {
                report.advice(
                    at,
                    "without a lifetime the addresses stay if the daemon alone is killed or frozen",
                    "leave address_lifetime out unless something else sees to that",
                );
            }
            None
        }
        Lifetime::Fixed(span) => {
            let place = place?;
            let patience = interval.duration() * 3;
            let automatic_is_in_time = interval.centis() >= FASTEST_WITH_LEASE;
            let secs = u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
            if span.subsec_nanos() != 0 || secs == 0 || secs > LONGEST_LIFETIME {
                report.error(
                    place,
                    "a lifetime is whole seconds, 1s to 1h: the kernel counts no others",
                    format!("write \"{automatic}s\", or \"auto\""),
                );
            } else if span <= interval.duration() {
                report.error(
                    place,
                    format!(
                        "a lifetime of {span:?} ends before the next advert ({interval}) renews it"
                    ),
                    format!("write \"{automatic}s\", or \"auto\""),
                );
            } else if span >= patience {
                let help = if automatic_is_in_time {
                    format!("write \"{automatic}s\", or \"auto\"")
                } else {
                    "kernel lifetimes count whole seconds: only from 700ms on can they end in time"
                        .into()
                };
                report.advice(
                    place,
                    format!("a lifetime of {span:?} does not end before the peers take over ({patience:?})"),
                    help,
                );
            }
            Some(secs)
        }
    }
}

fn advise_on_election(
    file: &file::VirtualRouter,
    version: Option<Version>,
    family: Option<Family>,
    is_owner: bool,
    advertised: &[Listed],
    report: &Report,
) {
    if let Some(priority) = file.priority.as_ref().filter(|_| is_owner) {
        report.advice(
            &priority.at,
            "priority 255 is for the owner: the addresses must be this host's own, and are only announced",
            "write at most 254 for an address that moves",
        );
        if let Some(delay) = file.preempt_delay.as_ref().filter(|delay| !delay.value.is_zero()) {
            report.advice(
                &delay.at,
                "preempt_delay has no effect: the owner is master at once",
                "leave it out",
            );
        }
    }
    if let (Some(Version::V2), Some(version)) = (version, &file.version) {
        report.advice(
            &version.at,
            "version 2: peers with another advert_interval or authentication are not heard",
            "make both equal on all hosts; use version = 3 where every peer knows it",
        );
    }
    let Some(first) = advertised.first().filter(|_| family == Some(Family::V6)) else { return };
    if !is_link_local(first.ip) {
        report.advice(
            &first.at,
            "an IPv6 list is to begin with a link-local address (RFC 9568 5.2.9)",
            "peers are known to accept this; if one does not, put fe80::... first on all hosts",
        );
    }
    if advertised.len() > MOST_ADVERTISED_IPV6_UNFRAGMENTED
        && let Some(list) = &file.addresses
    {
        report.advice(
            &list.at,
            "an advert with so many addresses is larger than 1500 bytes",
            "move some into unadvertised_addresses, on all hosts",
        );
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
