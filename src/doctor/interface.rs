//! The interface of a virtual router: who added its addresses, and which interfaces answer ARP.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::evidence::Instance;
use super::finding::{ProblemKind, RELOAD, Report};
use super::kernel::{self, Snapshot, sysctl};
use super::removal::{self, Obstacle};
use crate::vrrp::{Family, Priority};

/// Checks for an own address to send from, and for virtual addresses that should not be present.
pub(super) fn check_addresses(
    instance: &Instance<'_>,
    snapshot: &Snapshot,
    shared: &BTreeSet<IpAddr>,
    runs: bool,
    path: &Path,
    report: &mut Report,
) {
    let Instance { router, link } = instance;
    let family = |found: &&kernel::Address| Family::of(found.ip) == router.family;
    let mut own = snapshot.addresses_of(link.index).filter(family);
    let virtual_ones: BTreeSet<IpAddr> = router.all_addresses().map(|address| address.ip).collect();
    if !own.any(|found| found.usable && !found.marked && !virtual_ones.contains(&found.ip))
        && router.source_address.is_none()
        && router.priority != Priority::OWNER
    {
        let text = format!(
            "{} has no {} address of its own, so {} cannot send adverts",
            link.name, router.family, router.name
        );
        let (does, fix) = match router.family {
            Family::V4 => (
                "this gives it one, until the next boot; take an address that no other host has",
                format!("ip address add ADDRESS/PREFIX dev {}", link.name),
            ),
            Family::V6 => (
                "this enables IPv6 there, until the next boot",
                format!("sysctl -w net.ipv6.conf.{}.disable_ipv6=0", sysctl(&link.name)),
            ),
        };
        report.found(ProblemKind::NoAddress, &link.name, text, does, fix);
    }
    if router.priority == Priority::OWNER {
        return;
    }
    for found in snapshot.addresses.iter().filter(|found| virtual_ones.contains(&found.ip)) {
        let interface = snapshot.name(found.index);
        let (ip, name) = (found.ip, &router.name);
        if !found.marked && snapshot.is_loopback(found.index) {
            check_loopback(instance, found, report);
        } else if !found.marked {
            let own = |other: &&kernel::Address| !other.marked && !shared.contains(&other.ip);
            let text = format!(
                "{ip}/{} is on {interface} and was not put there by vipd, so {name} never touches it: two hosts answer when another one is master",
                found.prefix
            );
            let (does, fix) = match removal::obstacle(found, snapshot, own) {
                None => (
                    "this removes it, with the connections to it; remove it from the network configuration as well".to_owned(),
                    format!("ip address del {ip}/{} dev {interface}", found.prefix),
                ),
                Some(Obstacle::Used) => (removal::CONNECTIONS.to_owned(), removal::connections(ip)),
                Some(Obstacle::Needed(why)) => (
                    format!(
                        "it has to stay, as {why}: take it out of `addresses` in {}, or give this host another address first; then this lets vipd read the file",
                        path.display()
                    ),
                    RELOAD.to_owned(),
                ),
            };
            report.found(ProblemKind::AddressNotOurs, ip, text, does, fix);
        } else if !runs {
            let text = format!("an earlier vipd left {ip} on {interface}, and none runs now");
            let (does, fix) = match removal::is_used(ip) {
                false => (
                    "this removes what is left of the addresses in the file, with the connections to them",
                    format!("vipd cleanup --config {}", path.display()),
                ),
                true => (removal::CONNECTIONS, removal::connections(ip)),
            };
            report.found(ProblemKind::AddressLeftOver, ip, text, does, fix);
        }
    }
}

/// A server behind an LVS director has the address on its loopback device, where it has to stay.
/// Only ARP requests for it must not be answered. IPv6 solicitations never are.
fn check_loopback(instance: &Instance<'_>, found: &kernel::Address, report: &mut Report) {
    let Instance { router, link } = instance;
    if found.ip.is_ipv6() || !matches!(kernel::ipv4_switch(&link.name, "arp_ignore"), Some(0 | 3)) {
        return;
    }
    let text = format!(
        "{} is on a loopback device, and {} answers ARP requests for it, whoever is master of {}",
        found.ip, link.name, router.name
    );
    let (does, fix) = arp_for_own_addresses_only([link.name.as_str()]);
    report.found(ProblemKind::AddressNotOurs, found.ip, text, does, fix);
}

fn arp_for_own_addresses_only<'a>(
    interfaces: impl IntoIterator<Item = &'a str>,
) -> (&'static str, String) {
    let set = interfaces.into_iter().map(sysctl).map(|name| {
        format!(" net.ipv4.conf.{name}.arp_ignore=1 net.ipv4.conf.{name}.arp_announce=2")
    });
    let does = "with this an interface answers ARP requests for addresses that it has itself and for no others, until the next boot; add it to /etc/sysctl.d as well";
    (does, format!("sysctl -w{}", set.collect::<String>()))
}

/// Checks the sysctls that decide which interfaces answer ARP requests.
pub(super) fn check_arp(instance: &Instance<'_>, snapshot: &Snapshot, report: &mut Report) {
    let Instance { router, link } = instance;
    if !router.all_addresses().any(|address| address.ip.is_ipv4()) {
        return;
    }
    if kernel::ipv4_switch(&link.name, "arp_ignore") == Some(8) {
        let text = format!(
            "arp_ignore is 8: {} answers no ARP request, so clients do not find the addresses of {}",
            link.name, router.name
        );
        let fix = format!(
            "sysctl -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.{}.arp_ignore=0",
            sysctl(&link.name)
        );
        let does = "this lets it answer for every address of this host, until the next boot; correct /etc/sysctl.d as well";
        report.found(ProblemKind::ArpSilent, &link.name, text, does, fix);
    }
    let loud: Vec<&str> = snapshot
        .in_same_network(link)
        .into_iter()
        .filter(|other| kernel::ipv4_switch(&other.name, "arp_ignore") == Some(0))
        .map(|other| other.name.as_str())
        .collect();
    if !loud.is_empty() {
        let text = format!(
            "{} {} in the same network as {}, and answers ARP requests for the addresses of {} with its own MAC",
            loud.join(", "),
            if loud.len() == 1 { "is" } else { "are" },
            link.name,
            router.name
        );
        let (does, fix) = arp_for_own_addresses_only(loud);
        report.found(ProblemKind::ArpFlux, &link.name, text, does, fix);
    }
}
