//! The interface of a virtual router: who added its addresses, and which interfaces answer ARP.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use super::evidence::Instance;
use super::finding::{ProblemKind, Report};
use super::kernel::{self, Snapshot, sysctl};
use crate::vrrp::{Family, Priority};

/// Checks for an own address to send from, and for virtual addresses that should not be present.
pub(super) fn check_addresses(
    instance: &Instance<'_>,
    snapshot: &Snapshot,
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
        let fix = match router.family {
            Family::V4 => format!("ip address add ADDRESS/PREFIX dev {}", link.name),
            Family::V6 => format!("sysctl -w net.ipv6.conf.{}.disable_ipv6=0", sysctl(&link.name)),
        };
        report.found(ProblemKind::NoAddress, &link.name, text, fix);
    }
    if router.priority == Priority::OWNER {
        return;
    }
    for found in snapshot.addresses.iter().filter(|found| virtual_ones.contains(&found.ip)) {
        let interface = snapshot.name(found.index);
        let (ip, name) = (found.ip, &router.name);
        if !found.marked {
            let text = format!(
                "{ip}/{} is on {interface} and was not put there by vipd, so {name} never touches it: two hosts answer when another one is master",
                found.prefix
            );
            let fix = format!(
                "ip address del {ip}/{} dev {interface}  (and remove it from the network configuration)",
                found.prefix
            );
            report.found(ProblemKind::AddressNotOurs, ip, text, fix);
        } else if !runs {
            let text = format!("an earlier vipd left {ip} on {interface}, and none runs now");
            let fix = format!("vipd cleanup --config {}", path.display());
            report.found(ProblemKind::AddressLeftOver, ip, text, fix);
        }
    }
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
        report.found(ProblemKind::ArpSilent, &link.name, text, fix);
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
        let fix = "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2";
        report.found(ProblemKind::ArpFlux, &link.name, text, fix);
    }
}
