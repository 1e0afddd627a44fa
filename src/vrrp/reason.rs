//! Reasons for fault: a virtual router is in fault while it has any.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::config::Address;
use super::hook::Hook;

/// Why a virtual router cannot take part in the election.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its interfaces have not been reported yet.
    Starting,
    /// It waits for the first results of its checks.
    Unchecked,
    /// No interface has the configured name.
    InterfaceMissing,
    /// The interface is down, or has no carrier.
    LinkDown,
    /// The interface is a port of the bridge, bond or team of this name.
    Port(Arc<str>),
    /// It waits for an address to send adverts from.
    SourcePending,
    /// The interface has no address to send adverts from.
    NoAddress,
    /// Nor a link-local one, which adverts over IPv6 need.
    NoLinkLocal,
    /// The interface does not have the address that `source_address` names.
    SourceAbsent(IpAddr),
    /// Another host has the address that adverts would be sent from.
    SourceDuplicate(IpAddr),
    /// A socket for adverts or announcements cannot be opened.
    NoSocket,
    /// No destination takes our adverts.
    AdvertsRefused,
    /// The check of this name fails.
    Check(Arc<str>),
    /// The member of its sync group of this name cannot take part.
    Group(Arc<str>),
    /// A virtual address is on the interface, and was not added for a virtual router of this daemon.
    AddressAlreadyThere,
    /// It owns the addresses (priority 255), and the host does not have this one.
    AddressMissing(OwnAddress),
    /// It owns the addresses, and duplicate address detection of this one is under way.
    AddressPending(OwnAddress),
    /// It owns the addresses, and the kernel does not use this one, as another host has it.
    AddressDuplicate(OwnAddress),
    /// The kernel refused to add an address.
    ClaimFailed,
    /// Another program on this host keeps removing our addresses.
    AddressRemoved,
    /// The `before_claim` hook failed or exceeded its limit.
    Vetoed,
    /// This hook failed, and is configured to cause a fault then.
    HookFailed(Hook),
}

names! {
    Reason {
        Starting = "starting",
        Unchecked = "unchecked",
        InterfaceMissing = "interface_missing",
        LinkDown = "link_down",
        Port = "interface_is_port",
        SourcePending = "source_pending",
        NoAddress = "no_address",
        NoLinkLocal = "no_link_local",
        SourceAbsent = "source_absent",
        SourceDuplicate = "source_duplicate",
        NoSocket = "no_socket",
        AdvertsRefused = "adverts_refused",
        Check = "check",
        Group = "group",
        AddressAlreadyThere = "address_already_there",
        AddressMissing = "address_missing",
        AddressPending = "address_pending",
        AddressDuplicate = "address_duplicate",
        ClaimFailed = "claim_failed",
        AddressRemoved = "address_removed",
        Vetoed = "vetoed",
        HookFailed = "hook_failed",
    }
}

impl Reason {
    /// Whether the interface itself is the reason: nothing can be heard on it.
    pub(super) const fn is_of_interface(&self) -> bool {
        match self {
            Reason::InterfaceMissing | Reason::LinkDown | Reason::Port(_) => true,
            Reason::Starting
            | Reason::Unchecked
            | Reason::SourcePending
            | Reason::NoAddress
            | Reason::NoLinkLocal
            | Reason::SourceAbsent(_)
            | Reason::SourceDuplicate(_)
            | Reason::NoSocket
            | Reason::AdvertsRefused
            | Reason::Check(_)
            | Reason::Group(_)
            | Reason::AddressAlreadyThere
            | Reason::AddressMissing(_)
            | Reason::AddressPending(_)
            | Reason::AddressDuplicate(_)
            | Reason::ClaimFailed
            | Reason::AddressRemoved
            | Reason::Vetoed
            | Reason::HookFailed(_) => false,
        }
    }

    /// Whether it says that there is no source for adverts.
    pub(super) const fn is_about_source(&self) -> bool {
        match self {
            Reason::SourcePending
            | Reason::NoAddress
            | Reason::NoLinkLocal
            | Reason::SourceAbsent(_)
            | Reason::SourceDuplicate(_) => true,
            Reason::Starting
            | Reason::Unchecked
            | Reason::InterfaceMissing
            | Reason::LinkDown
            | Reason::Port(_)
            | Reason::NoSocket
            | Reason::AdvertsRefused
            | Reason::Check(_)
            | Reason::Group(_)
            | Reason::AddressAlreadyThere
            | Reason::AddressMissing(_)
            | Reason::AddressPending(_)
            | Reason::AddressDuplicate(_)
            | Reason::ClaimFailed
            | Reason::AddressRemoved
            | Reason::Vetoed
            | Reason::HookFailed(_) => false,
        }
    }

    /// Whether the kernel will end it by itself, at the end of duplicate address detection.
    pub(super) const fn is_pending(&self) -> bool {
        matches!(self, Reason::SourcePending | Reason::AddressPending(_))
    }

    /// Whether it is about an address that the owner has from its host.
    pub(super) const fn is_of_owner(&self) -> bool {
        matches!(
            self,
            Reason::AddressMissing(_) | Reason::AddressPending(_) | Reason::AddressDuplicate(_)
        )
    }

    /// Whether the virtual router's sync group has to share it.
    pub(super) const fn is_own_fault(&self) -> bool {
        match self {
            Reason::Starting
            | Reason::Unchecked
            | Reason::SourcePending
            | Reason::AddressPending(_)
            | Reason::Group(_) => false,
            Reason::InterfaceMissing
            | Reason::LinkDown
            | Reason::Port(_)
            | Reason::NoAddress
            | Reason::NoLinkLocal
            | Reason::SourceAbsent(_)
            | Reason::SourceDuplicate(_)
            | Reason::NoSocket
            | Reason::AdvertsRefused
            | Reason::Check(_)
            | Reason::AddressAlreadyThere
            | Reason::AddressMissing(_)
            | Reason::AddressDuplicate(_)
            | Reason::ClaimFailed
            | Reason::AddressRemoved
            | Reason::Vetoed
            | Reason::HookFailed(_) => true,
        }
    }
}

/// An address of an owner that its host cannot use. Shown as address and interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnAddress {
    /// With the prefix length that it has, or would have in a subnet of the interface.
    pub address: Address,
    pub interface: Arc<str>,
}

impl OwnAddress {
    /// The command that adds it.
    pub fn add_command(&self) -> String {
        let Address { ip, prefix } = self.address;
        let without_detection = if ip.is_ipv6() { " nodad" } else { "" };
        format!("ip address add {ip}/{prefix} dev {}{without_detection}", self.interface)
    }

    /// The command that adds it anew. The kernel does not repeat the detection by itself.
    pub fn renew_command(&self) -> String {
        let Address { ip, prefix } = self.address;
        format!("ip address del {ip}/{prefix} dev {}; {}", self.interface, self.add_command())
    }
}

impl fmt::Display for OwnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.address.ip, self.interface)
    }
}

/// A reason that holds now; with `{:#}` one that held when the role changed.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let past = f.alternate();
        let tense = |now, then| if past { then } else { now };
        let (is, has) = (tense("is", "was"), tense("has", "had"));
        match self {
            Reason::Starting => write!(f, "nothing {is} known of the interface yet"),
            Reason::Unchecked => {
                let waits = tense("waiting", "waited");
                write!(f, "{waits} for the first results of its checks")
            }
            Reason::InterfaceMissing => write!(f, "no interface {has} the configured name"),
            Reason::LinkDown => write!(f, "the interface {is} down or {has} no carrier"),
            Reason::Port(of) => {
                write!(f, "the interface {is} a port of {of}, which takes all that arrives")?;
                if past { Ok(()) } else { write!(f, ": set `interface` to {of}") }
            }
            Reason::NoAddress => {
                write!(f, "the interface {has} no address to send adverts from")
            }
            Reason::SourcePending => write!(
                f,
                "{} for an address to send adverts from: the interface {has} none yet, or duplicate \
                 address detection {is} under way",
                tense("waiting", "waited")
            ),
            Reason::NoLinkLocal => write!(
                f,
                "the interface {has} no link-local address, which adverts over IPv6 are sent from"
            ),
            Reason::SourceAbsent(ip) => write!(
                f,
                "the interface {} not have {ip}, which `source_address` names",
                tense("does", "did")
            ),
            Reason::SourceDuplicate(ip) => write!(
                f,
                "another host {has} {ip}, which adverts would be sent from (duplicate address \
                 detection failed)"
            ),
            Reason::NoSocket => write!(
                f,
                "a socket for adverts or announcements {} be opened{}",
                tense("cannot", "could not"),
                tense("; the log says why, and it is tried again", "")
            ),
            Reason::AdvertsRefused => write!(
                f,
                "none of its adverts {} this host{}",
                tense("leaves", "left"),
                tense("; the next attempt comes later each time", "")
            ),
            Reason::Check(check) => write!(f, "check {check} {}", tense("fails", "failed")),
            Reason::Group(member) => {
                let cannot = tense("cannot", "could not");
                write!(f, "{member}, a member of its sync group, {cannot} take part")
            }
            Reason::AddressAlreadyThere => write!(
                f,
                "a shared address that this vipd did not put there {is} already on the interface"
            ),
            Reason::AddressMissing(own) => {
                let interface = &own.interface;
                let lacks = tense("lacks", "lacked");
                write!(
                    f,
                    "{interface} {lacks} {}, which is the host's own with priority 255",
                    own.address
                )?;
                if past {
                    return Ok(());
                }
                write!(f, ": add it by \"{}\", or lower `priority`", own.add_command())
            }
            Reason::AddressPending(own) => write!(
                f,
                "{} for {own}, which is the host's own with priority 255: duplicate address detection \
                 {is} under way",
                tense("waiting", "waited")
            ),
            Reason::AddressDuplicate(own) => {
                let does = tense("does", "did");
                write!(
                    f,
                    "the kernel {does} not use {own}, which is the host's own with priority 255, as \
                     another host {has} it (duplicate address detection failed)"
                )?;
                if past {
                    return Ok(());
                }
                write!(
                    f,
                    ": if that is the backup, add it anew without that detection by \"{}\", and so at \
                     every boot (nodad); vipd then takes it over from the backup",
                    own.renew_command()
                )
            }
            Reason::ClaimFailed => f.write_str("the kernel refused to add an address"),
            Reason::AddressRemoved => {
                write!(
                    f,
                    "something on this host {} removing the addresses",
                    tense("keeps", "kept")
                )
            }
            Reason::Vetoed => f.write_str("the before_claim hook did not agree"),
            Reason::HookFailed(hook) => write!(f, "the {} hook failed", hook.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_the_past_does_not_read_as_one_of_now() {
        let name: Arc<str> = "web".into();
        let address = Address::host(IpAddr::from([192, 0, 2, 1]));
        let own = OwnAddress { address, interface: "eth0".into() };
        for reason in [
            Reason::Starting,
            Reason::Unchecked,
            Reason::LinkDown,
            Reason::NoAddress,
            Reason::SourcePending,
            Reason::NoLinkLocal,
            Reason::SourceAbsent(IpAddr::from([192, 0, 2, 1])),
            Reason::SourceDuplicate(IpAddr::from([192, 0, 2, 1])),
            Reason::Check(name.clone()),
            Reason::Group(name),
            Reason::AddressAlreadyThere,
            Reason::AddressMissing(own.clone()),
            Reason::AddressPending(own.clone()),
            Reason::AddressDuplicate(own),
            Reason::AddressRemoved,
        ] {
            assert_ne!(format!("{reason}"), format!("{reason:#}"));
        }
    }
}
