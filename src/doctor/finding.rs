//! What `vipd doctor` reports: problems, each with its fix, and what could not be examined.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

/// What can stand in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
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

impl Trouble {
    /// All of them.
    pub const ALL: [Trouble; 28] = [
        Trouble::ConfigRefused,
        Trouble::InterfaceAbsent,
        Trouble::InterfaceDown,
        Trouble::NoAddress,
        Trouble::AdvertsFilteredIn,
        Trouble::AdvertsFilteredOut,
        Trouble::RpFilter,
        Trouble::ArpFlux,
        Trouble::ArpSilent,
        Trouble::OtherDaemon,
        Trouble::TwoMasters,
        Trouble::DifferentAddresses,
        Trouble::ForeignVrid,
        Trouble::SenderRefused,
        Trouble::IncompatiblePeer,
        Trouble::NeverHeard,
        Trouble::AddressNotOurs,
        Trouble::AddressLeftOver,
        Trouble::NetworkdRemoves,
        Trouble::NetworkmanagerRemoves,
        Trouble::CapabilityMissing,
        Trouble::NoRealtime,
        Trouble::MemoryNotLocked,
        Trouble::Late,
        Trouble::AdvertsRefused,
        Trouble::UnitOrder,
        Trouble::Drained,
        Trouble::HeldBack,
    ];

    /// The word for programs: never changed once published.
    pub const fn word(self) -> &'static str {
        match self {
            Trouble::ConfigRefused => "config_refused",
            Trouble::InterfaceAbsent => "interface_absent",
            Trouble::InterfaceDown => "interface_down",
            Trouble::NoAddress => "no_address",
            Trouble::AdvertsFilteredIn => "adverts_filtered_in",
            Trouble::AdvertsFilteredOut => "adverts_filtered_out",
            Trouble::RpFilter => "rp_filter",
            Trouble::ArpFlux => "arp_flux",
            Trouble::ArpSilent => "arp_silent",
            Trouble::OtherDaemon => "other_daemon",
            Trouble::TwoMasters => "two_masters",
            Trouble::DifferentAddresses => "different_addresses",
            Trouble::ForeignVrid => "foreign_vrid",
            Trouble::SenderRefused => "sender_refused",
            Trouble::IncompatiblePeer => "incompatible_peer",
            Trouble::NeverHeard => "never_heard",
            Trouble::AddressNotOurs => "address_not_ours",
            Trouble::AddressLeftOver => "address_left_over",
            Trouble::NetworkdRemoves => "networkd_removes",
            Trouble::NetworkmanagerRemoves => "networkmanager_removes",
            Trouble::CapabilityMissing => "capability_missing",
            Trouble::NoRealtime => "no_realtime",
            Trouble::MemoryNotLocked => "memory_not_locked",
            Trouble::Late => "late",
            Trouble::AdvertsRefused => "adverts_refused",
            Trouble::UnitOrder => "unit_order",
            Trouble::Drained => "drained",
            Trouble::HeldBack => "held_back",
        }
    }
}

impl Serialize for Trouble {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which kind.
    pub trouble: Trouble,
    /// The virtual router, interface or unit that it is about; empty for the whole host.
    pub about: String,
    /// What is so, and what follows from it.
    pub text: String,
    /// The command that mends it, or what to change and the command that makes it so.
    pub mend: String,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
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
    pub not_examined: Vec<Unseen>,
}

impl Report {
    pub(super) fn found(
        &mut self,
        trouble: Trouble,
        about: impl ToString,
        text: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let about = about.to_string();
        // Many virtual routers share one interface; the first to find it says it.
        if !self.findings.iter().any(|known| (known.trouble, &known.about) == (trouble, &about)) {
            self.findings.push(Finding { trouble, about, text: text.into(), mend: mend.into() });
        }
    }

    pub(super) fn unseen(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let unseen = Unseen { what: what.into(), why: why.into() };
        if !self.not_examined.contains(&unseen) {
            self.not_examined.push(unseen);
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
    fn every_trouble_has_a_word_of_its_own() {
        let words: BTreeSet<&str> = Trouble::ALL.iter().map(|trouble| trouble.word()).collect();
        assert_eq!(words.len(), Trouble::ALL.len());
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(words.iter().all(|word| word.chars().all(plain)));
    }
}
