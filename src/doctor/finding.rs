//! What `vipd doctor` reports: problems, each with its fix, and what could not be examined.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

/// What can stand in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// The configuration is refused.
    ConfigRefused,
    /// A configured interface is not there.
    InterfaceAbsent,
    /// A configured interface is down.
    InterfaceDown,
    /// A configured interface has no address to send adverts from.
    NoAddress,
    /// A packet filter stops adverts on their way in.
    AdvertsFilteredIn,
    /// A packet filter stops adverts on their way out.
    AdvertsFilteredOut,
    /// Adverts come by another way than the kernel would answer by, and it drops them.
    RpFilter,
    /// Several interfaces in one LAN all answer for the address.
    ArpFlux,
    /// The interface answers no ARP at all.
    ArpSilent,
    /// Something else on this host advertises one of our virtual routers.
    OtherDaemon,
    /// More than one host is master of one of our virtual routers.
    TwoMasters,
    /// Another group uses one of our VRIDs, or a peer has another list of addresses.
    DifferentAddresses,
    /// Adverts for a VRID that nobody here has.
    ForeignVrid,
    /// Adverts for our VRID from somebody whom the configuration does not accept.
    SenderRefused,
    /// A peer that cannot be understood.
    IncompatiblePeer,
    /// Nobody was ever heard.
    NeverHeard,
    /// A shared address is there, and is not vipd's.
    AddressNotOurs,
    /// A shared address is vipd's, and no vipd runs.
    AddressLeftOver,
    /// systemd-networkd removes addresses that it does not know.
    NetworkdRemoves,
    /// NetworkManager removes addresses that it does not know.
    NetworkmanagerRemoves,
    /// A capability is missing.
    CapabilityMissing,
    /// The daemon has no real-time priority.
    NoRealtime,
    /// The daemon's memory is not locked.
    MemoryNotLocked,
    /// Adverts came too late to keep the role.
    Late,
    /// The kernel refused adverts.
    AdvertsRefused,
    /// A checked service is stopped in parallel with vipd.
    UnitOrder,
    /// This host is drained.
    Drained,
    /// A virtual router was moved away by hand.
    HeldBack,
}

impl ProblemKind {
    /// All of them.
    pub const ALL: [ProblemKind; 28] = [
        ProblemKind::ConfigRefused,
        ProblemKind::InterfaceAbsent,
        ProblemKind::InterfaceDown,
        ProblemKind::NoAddress,
        ProblemKind::AdvertsFilteredIn,
        ProblemKind::AdvertsFilteredOut,
        ProblemKind::RpFilter,
        ProblemKind::ArpFlux,
        ProblemKind::ArpSilent,
        ProblemKind::OtherDaemon,
        ProblemKind::TwoMasters,
        ProblemKind::DifferentAddresses,
        ProblemKind::ForeignVrid,
        ProblemKind::SenderRefused,
        ProblemKind::IncompatiblePeer,
        ProblemKind::NeverHeard,
        ProblemKind::AddressNotOurs,
        ProblemKind::AddressLeftOver,
        ProblemKind::NetworkdRemoves,
        ProblemKind::NetworkmanagerRemoves,
        ProblemKind::CapabilityMissing,
        ProblemKind::NoRealtime,
        ProblemKind::MemoryNotLocked,
        ProblemKind::Late,
        ProblemKind::AdvertsRefused,
        ProblemKind::UnitOrder,
        ProblemKind::Drained,
        ProblemKind::HeldBack,
    ];

    /// The word for programs: never changed once published.
    pub const fn name(self) -> &'static str {
        match self {
            ProblemKind::ConfigRefused => "config_refused",
            ProblemKind::InterfaceAbsent => "interface_absent",
            ProblemKind::InterfaceDown => "interface_down",
            ProblemKind::NoAddress => "no_address",
            ProblemKind::AdvertsFilteredIn => "adverts_filtered_in",
            ProblemKind::AdvertsFilteredOut => "adverts_filtered_out",
            ProblemKind::RpFilter => "rp_filter",
            ProblemKind::ArpFlux => "arp_flux",
            ProblemKind::ArpSilent => "arp_silent",
            ProblemKind::OtherDaemon => "other_daemon",
            ProblemKind::TwoMasters => "two_masters",
            ProblemKind::DifferentAddresses => "different_addresses",
            ProblemKind::ForeignVrid => "foreign_vrid",
            ProblemKind::SenderRefused => "sender_refused",
            ProblemKind::IncompatiblePeer => "incompatible_peer",
            ProblemKind::NeverHeard => "never_heard",
            ProblemKind::AddressNotOurs => "address_not_ours",
            ProblemKind::AddressLeftOver => "address_left_over",
            ProblemKind::NetworkdRemoves => "networkd_removes",
            ProblemKind::NetworkmanagerRemoves => "networkmanager_removes",
            ProblemKind::CapabilityMissing => "capability_missing",
            ProblemKind::NoRealtime => "no_realtime",
            ProblemKind::MemoryNotLocked => "memory_not_locked",
            ProblemKind::Late => "late",
            ProblemKind::AdvertsRefused => "adverts_refused",
            ProblemKind::UnitOrder => "unit_order",
            ProblemKind::Drained => "drained",
            ProblemKind::HeldBack => "held_back",
        }
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
