//! Reasons for fault: a virtual router is in fault while it has any.

use std::fmt;
use std::sync::Arc;

use super::hook::Hook;

/// Why a virtual router cannot take part in the election.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its interfaces have not been reported yet.
    Starting,
    /// It waits for the first results of its checks.
    Unchecked,
    /// The interface is absent or down.
    LinkDown,
    /// The interface has no address to send adverts from.
    NoAddress,
    /// The check of this name fails.
    Check(Arc<str>),
    /// The member of its sync group of this name cannot take part.
    Group(Arc<str>),
    /// A virtual address is on the interface without our mark.
    AddressAlreadyThere,
    /// It owns the addresses (priority 255), and the host does not have them all.
    AddressMissing,
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
        LinkDown = "link_down",
        NoAddress = "no_address",
        Check = "check",
        Group = "group",
        AddressAlreadyThere = "address_already_there",
        AddressMissing = "address_missing",
        ClaimFailed = "claim_failed",
        AddressRemoved = "address_removed",
        Vetoed = "vetoed",
        HookFailed = "hook_failed",
    }
}

impl Reason {
    /// Whether the virtual router's sync group has to share it.
    pub(super) const fn is_own_fault(&self) -> bool {
        match self {
            Reason::Starting | Reason::Unchecked | Reason::Group(_) => false,
            Reason::LinkDown
            | Reason::NoAddress
            | Reason::Check(_)
            | Reason::AddressAlreadyThere
            | Reason::AddressMissing
            | Reason::ClaimFailed
            | Reason::AddressRemoved
            | Reason::Vetoed
            | Reason::HookFailed(_) => true,
        }
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
            Reason::LinkDown => write!(f, "the interface {is} absent or down"),
            Reason::NoAddress => {
                write!(f, "the interface {has} no address to send adverts from")
            }
            Reason::Check(check) => write!(f, "check {check} {}", tense("fails", "failed")),
            Reason::Group(member) => {
                let cannot = tense("cannot", "could not");
                write!(f, "{member}, a member of its sync group, {cannot} take part")
            }
            Reason::AddressAlreadyThere => write!(
                f,
                "a shared address {is} already on the interface and {} not put there by vipd",
                tense("was", "had been")
            ),
            Reason::AddressMissing => write!(
                f,
                "with priority 255 the addresses are the host's own, and the interface {} one{}",
                tense("lacks", "lacked"),
                tense(": add it by \"ip address add\", or lower `priority`", "")
            ),
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
        for reason in [
            Reason::Starting,
            Reason::Unchecked,
            Reason::LinkDown,
            Reason::NoAddress,
            Reason::Check(name.clone()),
            Reason::Group(name),
            Reason::AddressAlreadyThere,
            Reason::AddressMissing,
            Reason::AddressRemoved,
        ] {
            assert_ne!(format!("{reason}"), format!("{reason:#}"));
        }
    }
}
