//! What a master holds: its addresses, and everything that happens to them.
//!
//! The election says [`hold`](Holding::hold), [`offer`](Holding::offer), [`linger`](Holding::linger)
//! and [`release`](Holding::release); the holding turns that into claims, renewals, announcements
//! and releases. It knows nothing of priorities and peers.

mod announcements;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::vrrp::action::Action;
use crate::vrrp::config::{Address, Priority, RouterConfig};
use crate::vrrp::id::{LinkId, RouterId};
use crate::vrrp::time::Instant;
use announcements::Announcements;

/// Below this advert interval the addresses are not renewed with every advert, but this often.
const RENEW_GAP: Duration = Duration::from_millis(500);
/// Another host's announcement of our address is answered no earlier: it may be about to give way.
const ANSWER_CONTENTION_AFTER: Duration = Duration::from_millis(20);
/// After the successor's advert we go on answering for this long ...
const LINGER: Duration = Duration::from_millis(5);
/// ... and after its announcement, which makes neighbours forget us, for this long.
const LINGER_ANNOUNCED: Duration = Duration::from_millis(1);
/// If somebody on this host removes our addresses more often than this ...
const REMOVALS_TOLERATED: u32 = 10;
/// ... within this time, they are not put back any more.
const REMOVALS_WINDOW: Duration = Duration::from_secs(10);

/// Addresses on one interface that are claimed, announced, renewed or released together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The interface that carries them. It need not be the one that carries the adverts.
    pub link: LinkId,
    /// The addresses; of all that a virtual router shares, those that it advertises come first.
    pub addresses: Arc<[Address]>,
}

impl Held {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Whether all of it is part of the other.
    pub fn is_within(&self, other: &Held) -> bool {
        self.link == other.link
            && self.addresses.iter().all(|address| other.addresses.contains(address))
    }

    /// The part of it that `keep` is true for.
    fn filter(&self, keep: impl Fn(&Address) -> bool) -> Held {
        let kept = self.addresses.iter().filter(|address| keep(address)).copied();
        Held { link: self.link, addresses: kept.collect() }
    }

    /// What of it is not part of the other.
    pub(super) fn without(&self, other: &Held) -> Held {
        self.filter(|address| self.link != other.link || !other.addresses.contains(address))
    }
}

/// What a virtual router has, or would have as master.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holding {
    router: RouterId,
    held: Held,
    terms: Terms,
    state: HoldingState,
    /// How often somebody on this host removed one of the addresses since `removals_since`.
    removals: u32,
    removals_since: Instant,
}

/// What of the configuration concerns the holding, beside the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Terms {
    /// Priority 255: the addresses are the host's own. They are announced, and neither claimed nor
    /// released.
    owner: bool,
    /// The kernel removes the addresses after this many seconds unless they are renewed.
    lifetime: Option<u32>,
    advert_interval: Duration,
}

impl Terms {
    fn of(config: &RouterConfig) -> Self {
        Terms {
            owner: config.priority == Priority::OWNER,
            lifetime: config.address_lifetime,
            advert_interval: config.advert_interval.duration(),
        }
    }
}

/// How far the addresses are on their way to this host, or away from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum HoldingState {
    /// They are not on the interface, or not for long any more.
    Released,
    /// They are on the interface and announced.
    Held {
        /// When their lifetime was last renewed.
        renewed_at: Instant,
        announcements: Announcements,
    },
    /// They are on the interface, and no longer announced: another router is to have them.
    Offered { renewed_at: Instant },
    /// Another router has them; we answer for a moment longer.
    Lingering { renewed_at: Instant, release_at: Instant },
}

/// What follows from an address that somebody on this host removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// Nothing: it is not ours to put back, or on its way to another router.
    Ignored,
    /// It is claimed and announced again.
    PutBack,
    /// It was removed too often.
    GivenUp,
}

impl Holding {
    pub(super) fn new(router: RouterId, link: LinkId, config: &RouterConfig, now: Instant) -> Self {
        Holding {
            router,
            held: Held { link, addresses: config.all_addresses().collect() },
            terms: Terms::of(config),
            state: HoldingState::Released,
            removals: 0,
            removals_since: now,
        }
    }

    /// All that is held by a master, whether or not this host is the master.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Whether this address on this interface is part of it.
    pub fn has(&self, link: LinkId, ip: IpAddr) -> bool {
        self.held.link == link && self.held.addresses.iter().any(|address| address.ip == ip)
    }

    /// Whether the kernel holds the addresses for us, or is about to.
    pub fn is_held(&self) -> bool {
        match self.state {
            HoldingState::Released => false,
            HoldingState::Held { .. }
            | HoldingState::Offered { .. }
            | HoldingState::Lingering { .. } => true,
        }
    }

    /// When the addresses are released, if another router has taken over already.
    pub fn release_at(&self) -> Option<Instant> {
        match self.state {
            HoldingState::Lingering { release_at, .. } => Some(release_at),
            HoldingState::Released | HoldingState::Held { .. } | HoldingState::Offered { .. } => {
                None
            }
        }
    }

    /// When something is due: the next announcement, or the release.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            HoldingState::Released | HoldingState::Offered { .. } => None,
            HoldingState::Held { announcements, .. } => Some(announcements.next_at()),
            HoldingState::Lingering { release_at, .. } => Some(*release_at),
        }
    }

    // ---- what the election says ------------------------------------------------------------

    /// Claims the addresses unless they are held already. From now on they are announced; the first
    /// announcement is made by whoever calls this, after the advert that goes before it.
    pub(super) fn hold(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.is_held() && !self.terms.owner {
            self.claim(self.held.clone(), actions);
        }
        let renewed_at = self.renewed_at().unwrap_or(now);
        let announcements = Announcements::begin(now);
        self.state = HoldingState::Held { renewed_at, announcements };
    }

    /// Another router is to have the addresses: they stay, and are no longer announced.
    pub(super) fn offer(&mut self) {
        if let Some(renewed_at) = self.renewed_at() {
            self.state = HoldingState::Offered { renewed_at };
        }
    }

    /// Another router has the addresses: they stay for another moment, as there may be packets on
    /// their way to us.
    pub(super) fn linger(&mut self, now: Instant) {
        if let Some(renewed_at) = self.renewed_at() {
            self.state = HoldingState::Lingering { renewed_at, release_at: now + LINGER };
        }
    }

    /// Releases the addresses if they are held.
    pub(super) fn release(&mut self, actions: &mut Vec<Action>) {
        if self.is_held() {
            self.release_leftovers(actions);
        }
        self.state = HoldingState::Released;
    }

    /// Releases what an earlier daemon left behind.
    pub(super) fn release_leftovers(&self, actions: &mut Vec<Action>) {
        if !self.terms.owner {
            actions.push(Action::Release { router: self.router, held: self.held.clone() });
        }
    }

    /// An advert has left: the addresses' lifetime begins anew, unless it did so a moment ago.
    pub(super) fn renew(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.terms.owner {
            return;
        }
        let Some(lifetime) = self.terms.lifetime else { return };
        let seldom = self.terms.advert_interval < RENEW_GAP;
        let (HoldingState::Held { renewed_at, .. }
        | HoldingState::Offered { renewed_at }
        | HoldingState::Lingering { renewed_at, .. }) = &mut self.state
        else {
            return;
        };
        let fresh = *renewed_at == now || (seldom && now - *renewed_at < RENEW_GAP);
        if !fresh {
            *renewed_at = now;
            actions.push(Action::Renew { router: self.router, held: self.held.clone(), lifetime });
        }
    }

    /// Announces all of it.
    pub(super) fn announce(&self, actions: &mut Vec<Action>) {
        actions.push(Action::Announce { router: self.router, held: self.held.clone() });
    }

    /// Announces all of it beside the schedule, no earlier than this and as soon as is allowed.
    pub(super) fn announce_soon(&mut self, not_before: Instant) {
        if let HoldingState::Held { announcements, .. } = &mut self.state {
            announcements.urge(not_before);
        }
    }

    // ---- a new configuration ---------------------------------------------------------------

    /// Releases what the new configuration no longer has, before anything is claimed.
    pub(super) fn reload_release(&self, config: &RouterConfig, actions: &mut Vec<Action>) {
        if !self.is_held() || self.terms.owner {
            return;
        }
        let owner = Terms::of(config).owner;
        let stays =
            |address: &Address| !owner && config.all_addresses().any(|kept| kept == *address);
        let dropped = self.held.filter(|address| !stays(address));
        if !dropped.is_empty() {
            actions.push(Action::Release { router: self.router, held: dropped });
        }
    }

    /// Claims what is new. A lifetime that has changed is given to all addresses.
    pub(super) fn reload(&mut self, config: &RouterConfig, actions: &mut Vec<Action>) {
        let old = std::mem::replace(&mut self.terms, Terms::of(config));
        let held = Held { link: self.held.link, addresses: config.all_addresses().collect() };
        let had = std::mem::replace(&mut self.held, held);
        if !self.is_held() || self.terms.owner {
            return;
        }
        let same = old.lifetime == self.terms.lifetime && !old.owner;
        let new = if same { self.held.without(&had) } else { self.held.clone() };
        if !new.is_empty() {
            self.claim(new.clone(), actions);
            actions.push(Action::Announce { router: self.router, held: new });
        }
    }

    // ---- what happens to it ----------------------------------------------------------------

    /// Makes the announcements that are due.
    pub(super) fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let HoldingState::Held { announcements, .. } = &mut self.state
            && announcements.take_due(now)
        {
            self.announce(actions);
        }
    }

    /// An address has gone from the interface, and nobody asked for it.
    pub(super) fn address_lost(
        &mut self,
        now: Instant,
        ip: IpAddr,
        actions: &mut Vec<Action>,
    ) -> Removal {
        match self.state {
            HoldingState::Released | HoldingState::Lingering { .. } => return Removal::Ignored,
            HoldingState::Held { .. } | HoldingState::Offered { .. } => {}
        }
        let lost = self.held.filter(|address| address.ip == ip);
        if lost.is_empty() || self.terms.owner {
            return Removal::Ignored;
        }
        if now - self.removals_since >= REMOVALS_WINDOW {
            self.removals = 0;
            self.removals_since = now;
        }
        self.removals += 1;
        if self.removals > REMOVALS_TOLERATED {
            return Removal::GivenUp;
        }
        self.claim(lost.clone(), actions);
        actions.push(Action::Announce { router: self.router, held: lost });
        Removal::PutBack
    }

    /// Another host announced one of the addresses. Returns whether we contend for it: not when it
    /// is to have it, or has it already, in which case we stop answering soon.
    pub(super) fn contended(&mut self, now: Instant) -> bool {
        match &mut self.state {
            HoldingState::Released | HoldingState::Offered { .. } => false,
            HoldingState::Held { .. } => {
                self.announce_soon(now + ANSWER_CONTENTION_AFTER);
                true
            }
            HoldingState::Lingering { release_at, .. } => {
                *release_at = (*release_at).min(now + LINGER_ANNOUNCED);
                false
            }
        }
    }

    // ---- small things ----------------------------------------------------------------------

    fn renewed_at(&self) -> Option<Instant> {
        match self.state {
            HoldingState::Released => None,
            HoldingState::Held { renewed_at, .. }
            | HoldingState::Offered { renewed_at }
            | HoldingState::Lingering { renewed_at, .. } => Some(renewed_at),
        }
    }

    fn claim(&self, held: Held, actions: &mut Vec<Action>) {
        let lifetime = self.terms.lifetime;
        actions.push(Action::Claim { router: self.router, held, lifetime });
    }

    /// The view of a model checker: moves deadlines by `moved`, forgets the lease, announcements and
    /// removals.
    pub(super) fn normalize(&mut self, origin: Instant, moved: impl Fn(Instant) -> Instant) {
        match &mut self.state {
            HoldingState::Released => {}
            HoldingState::Held { renewed_at, announcements } => {
                *renewed_at = origin;
                *announcements = Announcements::begin(origin);
                announcements.scheduled_at = origin + Duration::from_secs(1_000_000);
            }
            HoldingState::Offered { renewed_at } => *renewed_at = origin,
            HoldingState::Lingering { renewed_at, release_at } => {
                *renewed_at = origin;
                *release_at = moved(*release_at);
            }
        }
        self.removals = 0;
        self.removals_since = origin;
    }
}
