//! The rules for the hosts that adverts come from and go to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use super::addresses::{ListedAddress, is_link_local, not_virtual, parse_address};
use crate::config::file;
use crate::config::problem::Diagnostics;
use crate::config::reader::At;
use crate::vrrp::Family;
use crate::vrrp::source::WITHOUT_PEERS;

pub(super) fn check_source(
    source: Option<&At<String>>,
    family: Option<Family>,
    all: &[ListedAddress],
    is_owner: bool,
    report: &Diagnostics,
) -> Option<ListedAddress> {
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

pub(super) fn check_peers(
    file: &file::RouterTable,
    family: Option<Family>,
    source: Option<&ListedAddress>,
    all: &[ListedAddress],
    report: &Diagnostics,
) -> Option<Vec<ListedAddress>> {
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
        refuse_virtual(peer, all, "a peer is named by its own address", report);
    }
    if let Some(own) = source
        && !peers.is_empty()
        && peers.iter().all(|peer| peer.ip == own.ip)
    {
        let (message, help) = WITHOUT_PEERS;
        report.conflict(&list.at, message, help, &own.at, "its source address");
    }
    let mut link_local = peers.iter().filter(|peer| is_link_local(peer.ip));
    let mut others = peers.iter().filter(|peer| !is_link_local(peer.ip));
    if let (Some(one), Some(other)) = (link_local.next(), others.next()) {
        report.conflict(
            &one.at,
            format!("{} is link-local and {} is not", one.ip, other.ip),
            "name all peers by link-local addresses, or none: adverts have one source",
            &other.at,
            "not link-local",
        );
    }
    if let (Some(peer), Some(source)) = (
        peers.iter().find(|peer| is_link_local(peer.ip)),
        source.filter(|it| !is_link_local(it.ip)),
    ) {
        report.conflict(
            &source.at,
            format!("adverts to {} come from a link-local address", peer.ip),
            "write a link-local address of this host, or leave source_address out",
            &peer.at,
            "a link-local peer",
        );
    }
    Some(peers)
}

pub(super) fn check_senders(
    file: &file::RouterTable,
    family: Option<Family>,
    peers: Option<&[ListedAddress]>,
    report: &Diagnostics,
) -> Option<Vec<ListedAddress>> {
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

/// The valid entries of a list of other hosts, without duplicates.
fn other_hosts(
    list: &At<Vec<At<String>>>,
    family: Option<Family>,
    what: &str,
    report: &Diagnostics,
) -> Vec<ListedAddress> {
    let mut seen: BTreeMap<IpAddr, Range<usize>> = BTreeMap::new();
    let mut hosts = Vec::new();
    for host in list.value.iter().filter_map(|entry| one_host(entry, family, what, report)) {
        match seen.insert(host.ip, host.at.clone()) {
            None => hosts.push(host),
            Some(earlier) => report.conflict(
                &host.at,
                format!("{} is listed twice", host.ip),
                "leave it out here",
                &earlier,
                "first here",
            ),
        }
    }
    hosts
}

/// Parses the address of a host, which must have the family of the adverts.
fn one_host(
    entry: &At<String>,
    family: Option<Family>,
    what: &str,
    report: &Diagnostics,
) -> Option<ListedAddress> {
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

fn refuse_virtual(host: &ListedAddress, all: &[ListedAddress], why: &str, report: &Diagnostics) {
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

pub(super) fn check_min_ttl(file: &file::RouterTable, report: &Diagnostics) -> u8 {
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
