//! What `vipd doctor` reports: problems, each with a command and what that does, and what could not
//! be examined.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::text::printable_lines;

words! {
    /// The kinds of problems that `vipd doctor` knows, in the order in which findings are sorted.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum ProblemKind {
        ConfigRefused = "config_refused",
        InterfaceAbsent = "interface_absent",
        InterfaceDown = "interface_down",
        /// The interface is a port of a bridge, bond or team.
        InterfaceIsPort = "interface_is_port",
        /// A configured interface has no address to send adverts from.
        NoAddress = "no_address",
        /// A configured interface has no link-local address to send IPv6 adverts from.
        NoLinkLocal = "no_link_local",
        /// The interface does not have the address that `source_address` names.
        SourceAbsent = "source_absent",
        /// Another host has the address that adverts would be sent from.
        SourceDuplicate = "source_duplicate",
        /// A check fails.
        CheckFails = "check_fails",
        /// A virtual router is in fault, for a reason that no other finding explains.
        Fault = "fault",
        /// A packet filter drops incoming adverts.
        AdvertsFilteredIn = "adverts_filtered_in",
        /// A packet filter drops outgoing adverts.
        AdvertsFilteredOut = "adverts_filtered_out",
        /// The reverse path filter drops adverts: the route back uses another interface.
        RpFilter = "rp_filter",
        /// Several interfaces in one LAN answer ARP requests for the address.
        ArpFlux = "arp_flux",
        /// The interface answers no ARP requests.
        ArpSilent = "arp_silent",
        /// Another program on this host advertises one of our virtual routers.
        OtherDaemon = "other_daemon",
        /// More than one host is master of one of our virtual routers.
        TwoMasters = "two_masters",
        /// Another machine has one of our addresses.
        AddressContended = "address_contended",
        /// An advert is larger than the MTU of its interface.
        AdvertFragmented = "advert_fragmented",
        /// Adverts for one of our VRIDs have other addresses.
        DifferentAddresses = "different_addresses",
        /// Adverts for a VRID that is not configured, while a virtual router of ours hears no peer.
        ForeignVrid = "foreign_vrid",
        /// A peer whose adverts do not fit our configuration.
        IncompatiblePeer = "incompatible_peer",
        /// No other router was ever heard.
        NeverHeard = "never_heard",
        /// A virtual address is present that vipd did not add.
        AddressNotOurs = "address_not_ours",
        /// A virtual address could not be added.
        AddressRefused = "address_refused",
        /// The owner (priority 255) lacks one of its addresses.
        AddressMissing = "address_missing",
        /// The kernel does not use an address of the owner, as another host has it.
        AddressDuplicate = "address_duplicate",
        /// A virtual address was left behind by a vipd that is gone.
        AddressLeftOver = "address_left_over",
        /// systemd-networkd removes unknown addresses from the interface.
        NetworkdRemoves = "networkd_removes",
        /// NetworkManager removes unknown addresses from the interface.
        NetworkmanagerRemoves = "networkmanager_removes",
        CapabilityMissing = "capability_missing",
        NoRealtime = "no_realtime",
        MemoryNotLocked = "memory_not_locked",
        /// Adverts were sent too late, or a role was lost by that.
        Late = "late",
        /// The kernel refused to send adverts.
        AdvertsRefused = "adverts_refused",
        /// The neighbour table is almost full: beyond its limit packets are dropped.
        NeighbourTable = "neighbour_table",
        /// A checked service is stopped in parallel with vipd.
        UnitOrder = "unit_order",
        Drained = "drained",
        /// A virtual router was moved away by `vipd failover`.
        HeldBack = "held_back",
    }
}

impl Serialize for ProblemKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// One problem found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub problem: ProblemKind,
    /// The virtual router, interface or unit that it is about; empty for the whole host.
    pub about: String,
    /// The state, and its consequence.
    pub text: String,
    /// What the command does, and what has to be done before, as a sentence.
    pub fix_does: String,
    /// The command that fixes it, or applies a change to a file, or shows what has to be decided by
    /// a person. None of them cuts off whoever is connected to this host through the network.
    pub fix: String,
}

/// Something that could not be examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// What was not examined.
    pub what: String,
    /// The reason, and what would help.
    pub why: String,
}

/// The result of an examination.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Problems, by kind.
    pub findings: Vec<Finding>,
    /// What could not be examined.
    pub not_examined: Vec<Skipped>,
}

impl Report {
    pub(super) fn found(
        &mut self,
        problem: ProblemKind,
        about: impl ToString,
        text: impl Into<String>,
        fix_does: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let about = shown(&about.to_string());
        // Virtual routers that share an interface share its problems; report them once.
        if !self.findings.iter().any(|known| (known.problem, &known.about) == (problem, &about)) {
            let [text, fix_does, fix] =
                [text.into(), fix_does.into(), fix.into()].map(|text| shown(&text));
            self.findings.push(Finding { problem, about, text, fix_does, fix });
        }
    }

    /// `change`: what is to be changed in the file, or on the peer.
    pub(super) fn incompatible_peer(
        &mut self,
        router: &str,
        peer: IpAddr,
        change: impl fmt::Display,
        file: impl fmt::Display,
    ) {
        let text = format!("{router} cannot use the adverts of {peer}: {change}");
        let does = format!("correct it in {file}; then this lets vipd read the file");
        self.found(ProblemKind::IncompatiblePeer, about(router, peer), text, does, RELOAD);
    }

    pub(super) fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let skipped = Skipped { what: shown(&what.into()), why: shown(&why.into()) };
        if !self.not_examined.contains(&skipped) {
            self.not_examined.push(skipped);
        }
    }
}

/// It may have names that others chose: of interfaces, tables, units.
fn shown(text: &str) -> String {
    printable_lines(text).into_owned()
}

/// After a change of the file.
pub(super) const RELOAD: &str = "vipd reload";

pub(super) fn about(router: &str, address: IpAddr) -> String {
    format!("{router}, {address}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let words: BTreeSet<&str> = ProblemKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(words.len(), ProblemKind::ALL.len());
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(words.iter().all(|word| word.chars().all(plain)));
    }
}
