//! The interface of a virtual router: who added its addresses, and which interfaces answer ARP.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::evidence::Instance;
use super::finding::{ProblemKind, RELOAD, Report};
use super::kernel::{self, Snapshot, sysctl};
use super::removal::{self, Obstacle};
use crate::vrrp::advert::addresses_that_fit;
use crate::vrrp::source::Choice;
use crate::vrrp::{Config, Family, LinkAddress, Mark, Priority, Reason, RouterConfig, owner};

/// Checks for an address to send adverts from.
pub(super) fn check_source(
    instance: &Instance<'_>,
    snapshot: &Snapshot,
    choice: &Choice,
    path: &Path,
    report: &mut Report,
) {
    let Instance { router, link } = instance;
    let (name, on) = (&router.name, &link.name);
    let (kind, text, does, fix) = match &choice.source {
        Err(Reason::NoAddress) => (
            ProblemKind::NoAddress,
            format!(
                "{on} has no {} address of its own, so {name} cannot send adverts",
                router.family
            ),
            "this gives it one, until the next boot; take an address that no other host has".into(),
            format!("ip address add ADDRESS/PREFIX dev {on}"),
        ),
        Err(Reason::NoLinkLocal) => {
            let text = format!(
                "{on} has no link-local address, and adverts over IPv6 come from one, so {name} cannot send any"
            );
            let (does, fix) = if kernel::ipv6_disabled(on) {
                (
                    "this enables IPv6 there, until the next boot",
                    format!("sysctl -w net.ipv6.conf.{}.disable_ipv6=0", sysctl(on)),
                )
            } else {
                (
                    "this gives it one, until the next boot; take another NUMBER on each host",
                    format!("ip address add fe80::NUMBER/64 dev {on}"),
                )
            };
            (ProblemKind::NoLinkLocal, text, does.to_owned(), fix)
        }
        Err(Reason::SourceAbsent(source)) => {
            let there = snapshot
                .addresses
                .iter()
                .find(|there| there.ip == *source && there.mark == Mark::None);
            let text = match there.map(|there| snapshot.name(there.index)) {
                Some(other) => format!(
                    "`source_address` of {name} is {source}, which is on {other}, not on {on}: no advert is sent"
                ),
                None => format!(
                    "`source_address` of {name} is {source}, which no interface of this host has; it may be another host's: no advert is sent"
                ),
            };
            let own = snapshot.addresses_of(link.index).filter(|own| own.mark == Mark::None);
            let own = own.filter(|own| Family::of(own.ip) == router.family);
            let own = own.map(|own| own.ip.to_string()).collect::<Vec<_>>().join(" or ");
            let write = if own.is_empty() {
                "leave it out".to_owned()
            } else {
                format!("write {own}, or leave it out")
            };
            let does = format!("{write} in {}; then this applies it", path.display());
            (ProblemKind::SourceAbsent, text, does, RELOAD.to_owned())
        }
        Err(Reason::SourceDuplicate(source)) => (
            ProblemKind::SourceDuplicate,
            format!(
                "another host on {on} has {source}, too, so the kernel does not use it and {name} cannot send adverts"
            ),
            "this shows the MAC address of the other host; give one of the two another address"
                .into(),
            format!("ndisc6 {source} {on}"),
        ),
        Ok(_) | Err(_) => return,
    };
    report.found(kind, on, text, does, fix);
}

/// Checks for virtual addresses that should not be present.
pub(super) fn check_addresses(
    instance: &Instance<'_>,
    snapshot: &Snapshot,
    config: &Config,
    runs: bool,
    path: &Path,
    report: &mut Report,
) {
    let Instance { router, link } = instance;
    let virtual_ones: BTreeSet<IpAddr> = router.all_addresses().map(|address| address.ip).collect();
    if router.priority == Priority::OWNER {
        return check_owned(router, &snapshot.link_addresses(link.index), report);
    }
    for found in snapshot.addresses.iter().filter(|found| virtual_ones.contains(&found.ip)) {
        let interface = snapshot.name(found.index);
        let mut there = config.routers.iter().filter(|router| *router.interface == *interface);
        let ours = there.any(|router| found.mark.is_of(Mark::of(router)));
        let (ip, name) = (found.ip, &router.name);
        if found.mark == Mark::None && snapshot.is_loopback(found.index) {
            check_loopback(instance, found, report);
        } else if found.mark == Mark::None {
            let all = config.routers.iter().flat_map(RouterConfig::all_addresses);
            let shared: BTreeSet<IpAddr> = all.map(|address| address.ip).collect();
            let own =
                |other: &&kernel::Address| other.mark == Mark::None && !shared.contains(&other.ip);
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
        } else if !ours {
            let text = format!(
                "{ip} is on {interface}: {}, so {name} never touches it: two hosts answer when another one is master",
                found.mark
            );
            let does = "have the address in one file only; this shows whether another vipd runs: if none does, \"vipd cleanup\" with its file removes what it left";
            report.found(ProblemKind::AddressNotOurs, ip, text, does, "pgrep -a vipd");
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

/// Checks that the owner can use what is to be the host's own. In the words of the daemon.
fn check_owned(router: &RouterConfig, there: &[LinkAddress], report: &mut Report) {
    for fault in owner::faults(router, there) {
        let text = format!("{} is in fault: {fault}", router.name);
        if let Reason::AddressMissing(own) = &fault {
            let does =
                "this adds it, until the next boot; add it to the network configuration as well";
            let (kind, fix) = (ProblemKind::AddressMissing, own.add_command());
            report.found(kind, own.address.ip, text, does, fix);
        } else if let Reason::AddressDuplicate(own) = &fault {
            let does = "this adds it without the detection, until the next boot; change the network configuration as well. If the other host is no backup of this virtual router, give one of the two another address instead";
            let (kind, fix) = (ProblemKind::AddressDuplicate, own.renew_command());
            report.found(kind, own.address.ip, text, does, fix);
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

/// Checks that adverts leave in one piece.
pub(super) fn check_mtu(instance: &Instance<'_>, path: &Path, report: &mut Report) {
    let Instance { router, link } = instance;
    let Some(mtu) = link.mtu else { return };
    let most = addresses_that_fit(mtu, router.family, router.version);
    if router.addresses.len() <= most {
        return;
    }
    let text = format!(
        "adverts of {} with {} addresses are larger than the MTU of {} ({mtu}) and leave in fragments: where these are filtered no host hears the other, and all are master",
        router.name,
        router.addresses.len(),
        link.name
    );
    let does = format!(
        "{most} addresses fit: move the others into `unadvertised_addresses` in {}, on all hosts; then this lets vipd read the file",
        path.display()
    );
    report.found(ProblemKind::AdvertFragmented, &router.name, text, does, RELOAD);
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
