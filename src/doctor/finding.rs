//! What `vipd doctor` reports: problems, each with its fix, and what could not be examined.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

words! {
    /// What can stand in the way.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum ProblemKind {
        /// The configuration is refused.
        ConfigRefused = "config_refused",
        /// A configured interface is not there.
        InterfaceAbsent = "interface_absent",
        /// A configured interface is down.
        InterfaceDown = "interface_down",
        /// A configured interface has no address to send adverts from.
        NoAddress = "no_address",
        /// A packet filter stops adverts on their way in.
        AdvertsFilteredIn = "adverts_filtered_in",
        /// A packet filter stops adverts on their way out.
        AdvertsFilteredOut = "adverts_filtered_out",
        /// Adverts come by another way than the kernel would answer by, and it drops them.
        RpFilter = "rp_filter",
        /// Several interfaces in one LAN all answer for the address.
        ArpFlux = "arp_flux",
        /// The interface answers no ARP at all.
        ArpSilent = "arp_silent",
        /// Something else on this host advertises one of our virtual routers.
        OtherDaemon = "other_daemon",
        /// More than one host is master of one of our virtual routers.
        TwoMasters = "two_masters",
        /// Another group uses one of our VRIDs, or a peer has another list of addresses.
        DifferentAddresses = "different_addresses",
        /// Adverts for a VRID that nobody here has.
        ForeignVrid = "foreign_vrid",
        /// Adverts for our VRID from somebody whom the configuration does not accept.
        SenderRefused = "sender_refused",
        /// A peer that cannot be understood.
        IncompatiblePeer = "incompatible_peer",
        /// Nobody was ever heard.
        NeverHeard = "never_heard",
        /// A shared address is there, and is not vipd's.
        AddressNotOurs = "address_not_ours",
        /// A shared address is vipd's, and no vipd runs.
        AddressLeftOver = "address_left_over",
        /// systemd-networkd removes addresses that it does not know.
        NetworkdRemoves = "networkd_removes",
        /// NetworkManager removes addresses that it does not know.
        NetworkmanagerRemoves = "networkmanager_removes",
        /// A capability is missing.
        CapabilityMissing = "capability_missing",
        /// The daemon has no real-time priority.
        NoRealtime = "no_realtime",
        /// The daemon's memory is not locked.
        MemoryNotLocked = "memory_not_locked",
        /// Adverts came too late to keep the role.
        Late = "late",
        /// The kernel refused adverts.
        AdvertsRefused = "adverts_refused",
        /// A checked service is stopped in parallel with vipd.
        UnitOrder = "unit_order",
        /// This host is drained.
        Drained = "drained",
        /// A virtual router was moved away by hand.
        HeldBack = "held_back",
    }
}

impl Serialize for ProblemKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which kind.
    #[serde(rename = "trouble")]
    pub kind: ProblemKind,
    /// The virtual router, interface or unit that it is about; empty for the whole host.
    pub about: String,
    /// What is so, and what follows from it.
    pub text: String,
    /// The command that mends it, or what to change and the command that makes it so.
    #[serde(rename = "mend")]
    pub fix: String,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// What.
    pub what: String,
    /// Why not, and what would help.
    pub why: String,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What stands in the way.
    pub findings: Vec<Finding>,
    /// What could not be looked at.
    pub not_examined: Vec<Skipped>,
}

impl Report {
    pub(super) fn found(
        &mut self,
        kind: ProblemKind,
        about: impl ToString,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let about = about.to_string();
        // Many virtual routers share one interface; the first to find it says it.
        if !self.findings.iter().any(|known| (known.kind, &known.about) == (kind, &about)) {
            self.findings.push(Finding { kind, about, text: text.into(), fix: fix.into() });
        }
    }

    pub(super) fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let skipped = Skipped { what: what.into(), why: why.into() };
        if !self.not_examined.contains(&skipped) {
            self.not_examined.push(skipped);
        }
    }
}

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
