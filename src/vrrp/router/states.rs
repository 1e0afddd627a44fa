//! The states of the election, each with its deadlines, and the role that status and hooks show for
//! it.

use std::net::IpAddr;

use crate::vrrp::role::Leave;
use crate::vrrp::time::Instant;
use crate::vrrp::why::Why;

/// The state of the election of a virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Cannot take part: there is at least one [`Reason`](crate::vrrp::Reason).
    Fault,
    /// Another router is master, or none yet (RFC 9568 6.4.2).
    Backup {
        /// When Master_Down_Timer expires; `None`: does not take over (drained by force,
        /// stopped).
        takeover_at: Option<Instant>,
    },
    /// Master_Down_Timer has expired, and the `before_claim` hook runs. For peers it is still a
    /// backup.
    Claiming {
        /// The limit of the hook.
        until: Instant,
        why: Why,
        /// It has heard no peer, and is to advertise priority 1 at first.
        starting_without_peers: bool,
    },
    /// Holds the addresses and advertises (RFC 9568 6.4.3).
    Master {
        /// The next scheduled advert.
        advert_at: Instant,
        /// An extra advert that has to wait until then.
        extra_at: Option<Instant>,
        /// When the last extra advert was sent.
        extra_sent_at: Option<Instant>,
        /// When the last advert of any kind was sent.
        sent_at: Instant,
        /// It has heard no peer since start, and advertises priority 1 until then.
        unheard_until: Option<Instant>,
        /// It is the last resort: when to offer the role by priority 0 the next time.
        offer_at: Option<Instant>,
        /// Since when it has stayed beside a master of equal priority, for its sync group's first
        /// member to decide the tie.
        tie_since: Option<Instant>,
    },
    /// Hands the addresses over, and still answers for them.
    Leaving {
        leave: Leave,
        phase: Phase,
        /// When the last advert was sent.
        sent_at: Instant,
    },
}

/// The phases of leaving.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The `before_release` hook runs; adverts go on.
    Preparing {
        /// The limit of the hook.
        until: Instant,
        /// The next scheduled advert.
        advert_at: Instant,
    },
    /// Priority 0 was sent; we go on answering until a successor takes over.
    Offered {
        /// How long to wait for a successor.
        successor_by: Instant,
        /// When to repeat priority 0. Earlier repetition would restart the successor's skew timer.
        repeat_at: Instant,
    },
    /// The successor has advertised; its announcement redirects the traffic to it.
    Succeeded {
        /// The source address of the successor.
        to: IpAddr,
    },
}
