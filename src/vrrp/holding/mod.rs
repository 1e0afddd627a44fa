//! The holding: what a virtual router holds as master, currently its addresses, with their claim,
//! lease, announcements, contention and release.
//!
//! The election calls [`hold`](Holding::hold), [`offer`](Holding::offer),
//! [`linger`](Holding::linger) and [`release`](Holding::release); the holding turns that into
//! actions. It knows neither peers nor their priorities. An owner (priority 255) has its addresses
//! from the host: they are announced, and neither claimed, renewed nor released.

mod announcements;

use std::net::IpAddr;
use std::time::Duration;

use crate::vrrp::action::Action;
use crate::vrrp::backoff::Backoff;
use crate::vrrp::config::{Address, Priority, RouterConfig};
use crate::vrrp::held::Held;
use crate::vrrp::id::{LinkId, Mac, RouterId};
use crate::vrrp::time::Instant;
use announcements::{ANNOUNCE_REFRESH, Announcements};

/// With a shorter advert interval than this, the lease is renewed this often instead of with every
/// advert.
const RENEW_GAP: Duration = Duration::from_millis(500);
/// How long to wait before answering another host's announcement of our address: it may be about to
/// give way.
const ANSWER_CONTENTION_AFTER: Duration = Duration::from_millis(20);
/// Linger: how long the addresses stay after the successor's advert. Until its announcement reaches
/// the neighbours and switches, packets for the addresses still arrive here ...
const LINGER: Duration = Duration::from_millis(5);
/// ... and how long they stay after its announcement.
const LINGER_ANNOUNCED: Duration = Duration::from_millis(1);
/// How many removals of our addresses by another program are answered by claiming them again ...
const REMOVALS_TOLERATED: u32 = 10;
/// ... within this time.
const REMOVALS_WINDOW: Duration = Duration::from_secs(10);

/// For so long after a takeover the router before it may still answer for the addresses.
const PREDECESSOR: Duration = Duration::from_secs(1);
/// How long another host that was seen to have one of our addresses counts as having it: it is asked
/// with every refresh, and two answers may be lost.
const CONTENDER: Duration = ANNOUNCE_REFRESH.saturating_mul(3);
/// Most of them that are remembered: their link-layer addresses can be forged.
const CONTENDERS_REMEMBERED: usize = 8;
/// When an unadvertised address that could not be added is tried again ...
const REFUSED_RETRY: Duration = Duration::from_secs(1);
/// ... and after many failures.
const REFUSED_RETRY_MAX: Duration = Duration::from_secs(300);

/// What a virtual router holds as master.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holding {
    router: RouterId,
    held: Held,
    /// `held` without those that could not be added: what is renewed and announced.
    served: Held,
    /// When those are tried again.
    retry_at: Option<Instant>,
    refusals: Backoff,
    contenders: Vec<Contender>,
    /// The first one that no announcement has answered yet.
    unanswered: Option<Contender>,
    terms: Terms,
    state: HoldingState,
    /// How often another program removed one of the addresses since `removals_since`.
    removals: u32,
    removals_since: Instant,
}

/// Another host that has one of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contender {
    pub address: IpAddr,
    /// Its link-layer address.
    pub mac: Mac,
    /// When it last announced the address or answered a probe.
    pub at: Instant,
}

/// The settings of a virtual router that concern its holding, apart from the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Terms {
    /// Priority 255: the addresses are the host's own.
    owner: bool,
    /// How many of the addresses are advertised; they come first.
    advertised: usize,
    /// The lease: the kernel removes the addresses after this many seconds, unless they are
    /// renewed.
    lifetime: Option<u32>,
    advert_interval: Duration,
}

impl Terms {
    fn of(config: &RouterConfig) -> Self {
        Terms {
            owner: config.priority == Priority::OWNER,
            advertised: config.addresses.len(),
            lifetime: config.address_lifetime,
            advert_interval: config.advert_interval.duration(),
        }
    }
}

/// The state of what is held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum HoldingState {
    /// Not held: released, or about to be.
    Released,
    /// Held, and announced.
    Held {
        /// When the lease was last renewed.
        renewed_at: Instant,
        announcements: Announcements,
        /// Until then the router before us may answer for the addresses.
        sole_from: Instant,
    },
    /// Held, but no longer announced: another router is to take over.
    Offered { renewed_at: Instant },
    /// Held for another moment after another router has taken over.
    Lingering { renewed_at: Instant, release_at: Instant },
}

/// What follows after another program has removed an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// Nothing: the address is not ours, or another router has taken over.
    Ignored,
    /// It is claimed and announced again.
    PutBack,
    /// There have been too many removals, and the address is not an advertised one: the others are
    /// served without it for now.
    LeftOut,
    /// Nothing, as there have been too many removals.
    GivenUp,
}

impl Holding {
    pub(super) fn new(router: RouterId, link: LinkId, config: &RouterConfig, now: Instant) -> Self {
        let held = Held { link, addresses: config.all_addresses().collect() };
        Holding {
            router,
            served: held.clone(),
            held,
            retry_at: None,
            refusals: Backoff::default(),
            contenders: Vec::new(),
            unanswered: None,
            terms: Terms::of(config),
            state: HoldingState::Released,
            removals: 0,
            removals_since: now,
        }
    }

    /// Everything that it holds as master, whether or not it does so now.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Whether this address on this interface is part of what it holds as master, and was not
    /// refused by the kernel.
    pub fn has(&self, link: LinkId, ip: IpAddr) -> bool {
        self.served.link == link && self.served.addresses.iter().any(|address| address.ip == ip)
    }

    /// Whether this unadvertised address could not be added.
    pub fn is_missing(&self, ip: IpAddr) -> bool {
        self.missing().addresses.iter().any(|address| address.ip == ip)
    }

    /// What could not be added.
    fn missing(&self) -> Held {
        self.held.without(&self.served)
    }

    /// Other hosts that have one of the addresses, as far as is known now.
    pub fn contenders(&self, now: Instant) -> impl Iterator<Item = &Contender> {
        self.contenders.iter().filter(move |seen| now - seen.at <= CONTENDER)
    }

    /// Whether the addresses are held: claimed, or about to be.
    pub fn is_held(&self) -> bool {
        match self.state {
            HoldingState::Released => false,
            HoldingState::Held { .. }
            | HoldingState::Offered { .. }
            | HoldingState::Lingering { .. } => true,
        }
    }

    /// When the addresses are released, if another router has taken over.
    pub fn release_at(&self) -> Option<Instant> {
        match self.state {
            HoldingState::Lingering { release_at, .. } => Some(release_at),
            HoldingState::Released | HoldingState::Held { .. } | HoldingState::Offered { .. } => {
                None
            }
        }
    }

    /// The next announcement or the release.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            HoldingState::Released | HoldingState::Offered { .. } => None,
            HoldingState::Held { announcements, .. } => {
                let next_at = announcements.next_at();
                Some(self.retry_at.map_or(next_at, |retry_at| retry_at.min(next_at)))
            }
            HoldingState::Lingering { release_at, .. } => Some(*release_at),
        }
    }

    // ---- requests of the election ----------------------------------------------------------

    /// Claims the addresses unless they are held, and starts the schedule of announcements. The
    /// caller makes the first announcement, after the advert that has to precede it. `succeeds`: another
    /// router may have had them until now.
    pub(super) fn hold(&mut self, now: Instant, succeeds: bool, actions: &mut Vec<Action>) {
        if !self.is_held() && !self.terms.owner {
            self.serve_all();
            self.claim(self.held.clone(), true, actions);
        }
        // A retry may have become due while the addresses were offered.
        self.retry_at = self.retry_at.map(|at| at.max(now + REFUSED_RETRY));
        let renewed_at = self.renewed_at().unwrap_or(now);
        let announcements = Announcements::begin(now);
        let sole_from = if succeeds { now + PREDECESSOR } else { now };
        self.contenders.clear();
        self.unanswered = None;
        self.state = HoldingState::Held { renewed_at, announcements, sole_from };
    }

    /// Stops announcing: another router is to take over.
    pub(super) fn offer(&mut self) {
        if let Some(renewed_at) = self.renewed_at() {
            self.state = HoldingState::Offered { renewed_at };
        }
    }

    /// Another router has taken over: keeps the addresses for another moment, until packets no
    /// longer arrive here.
    pub(super) fn linger(&mut self, now: Instant) {
        if let Some(renewed_at) = self.renewed_at() {
            self.state = HoldingState::Lingering { renewed_at, release_at: now + LINGER };
        }
    }

    /// Releases the addresses, if they are held.
    pub(super) fn release(&mut self, actions: &mut Vec<Action>) {
        if self.is_held() {
            self.release_leftovers(actions);
        }
        self.state = HoldingState::Released;
        self.contenders.clear();
        self.unanswered = None;
        self.serve_all();
    }

    /// Releases what an earlier daemon left behind.
    pub(super) fn release_leftovers(&self, actions: &mut Vec<Action>) {
        if !self.terms.owner {
            actions.push(Action::Release { router: self.router, held: self.held.clone() });
        }
    }

    /// Renews the lease, with an advert that has been sent, unless that was done a moment ago. The
    /// kernel removes the addresses when the lease ends, so a host whose daemon no longer
    /// advertises loses them before its peers take over.
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
        let age = now - *renewed_at;
        let next = self.terms.advert_interval + RouterConfig::RENEWAL_TIME;
        let can_wait = age < RENEW_GAP && age + next <= Duration::from_secs(lifetime.into());
        let fresh = age.is_zero() || (seldom && can_wait);
        if !fresh {
            *renewed_at = now;
            let held = self.served.clone();
            actions.push(Action::Renew { router: self.router, held, lifetime });
        }
    }

    /// Announces all addresses that are served. `probe`: and asks who else has them, unless the router
    /// before us may.
    pub(super) fn announce(&self, now: Instant, probe: bool, actions: &mut Vec<Action>) {
        let probe = probe
            && match self.state {
                HoldingState::Held { sole_from, .. } => sole_from <= now,
                HoldingState::Released
                | HoldingState::Offered { .. }
                | HoldingState::Lingering { .. } => false,
            };
        let held = self.served.clone();
        actions.push(Action::Announce { router: self.router, held, probe });
    }

    /// Adds an announcement to the schedule, no earlier than this.
    pub(super) fn announce_soon(&mut self, not_before: Instant) {
        if let HoldingState::Held { announcements, .. } = &mut self.state {
            announcements.announce_urgently(not_before);
        }
    }

    // ---- a new configuration ---------------------------------------------------------------

    /// Releases what is no longer configured, before anything is claimed.
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

    /// Takes a new configuration. Claims what is not there yet, or all if the lifetime has changed.
    pub(super) fn reload(&mut self, config: &RouterConfig, actions: &mut Vec<Action>) {
        let old = std::mem::replace(&mut self.terms, Terms::of(config));
        let held = Held { link: self.held.link, addresses: config.all_addresses().collect() };
        self.held = held;
        let had = self.serve_all();
        if !self.is_held() || self.terms.owner {
            return;
        }
        let same = old.lifetime == self.terms.lifetime && !old.owner;
        let new = if same { self.held.without(&had) } else { self.held.clone() };
        if !new.is_empty() {
            self.claim_and_announce(new, !same, actions);
        }
    }

    // ---- what happens to it ----------------------------------------------------------------

    /// Makes an announcement that is due. Returns another host that it answers: one that was about to
    /// take over has done so by now.
    pub(super) fn timeout(&mut self, now: Instant, actions: &mut Vec<Action>) -> Option<Contender> {
        let mut answered = None;
        let HoldingState::Held { announcements, .. } = &mut self.state else { return None };
        if let Some(scheduled) = announcements.take_due(now) {
            // The first two rounds follow the one that has asked.
            let probe = scheduled && announcements.is_settled();
            self.announce(now, probe, actions);
            answered = self.unanswered.take_if(|seen| now - seen.at >= ANSWER_CONTENTION_AFTER);
            if self.unanswered.is_some() {
                self.announce_soon(now + ANSWER_CONTENTION_AFTER);
            }
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            let missing = self.missing();
            self.serve_all();
            self.claim_and_announce(missing, false, actions);
        }
        answered
    }

    /// The interface has changed: what it refused is tried again soon.
    pub(super) fn retry_soon(&mut self, now: Instant) {
        self.retry_at = self.retry_at.map(|at| at.min(now + REFUSED_RETRY));
    }

    /// An unadvertised address could not be added: the others are served without it, and it is tried
    /// again. Returns whether it was to be served.
    pub(super) fn leave_out(&mut self, now: Instant, ip: IpAddr) -> bool {
        if !self.is_held() || !self.is_unadvertised(ip) || !self.has(self.held.link, ip) {
            return false;
        }
        self.served = self.served.filter(|address| address.ip != ip);
        if self.retry_at.is_none() {
            self.retry_at = Some(self.refusals.next(now, REFUSED_RETRY, REFUSED_RETRY_MAX));
        }
        true
    }

    /// Another program has removed an address.
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
        let lost = self.served.filter(|address| address.ip == ip);
        if lost.is_empty() || self.terms.owner {
            return Removal::Ignored;
        }
        if now - self.removals_since >= REMOVALS_WINDOW {
            self.removals = 0;
            self.removals_since = now;
        }
        self.removals += 1;
        if self.removals > REMOVALS_TOLERATED {
            return if self.leave_out(now, ip) { Removal::LeftOut } else { Removal::GivenUp };
        }
        self.claim_and_announce(lost, false, actions);
        Removal::PutBack
    }

    /// Another host has announced one of the addresses, or answered a probe for it. Returns whether
    /// that is contention. It is not while another router is to take over, or may just have handed
    /// over; and if one has taken over, its announcement ends the lingering. Nor is it while
    /// `other_master` is heard, which the election settles.
    pub(super) fn contended(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: Mac,
        other_master: bool,
    ) -> bool {
        match &mut self.state {
            HoldingState::Released | HoldingState::Offered { .. } => false,
            HoldingState::Held { sole_from, .. } => {
                let contended = *sole_from <= now && !other_master;
                self.announce_soon(now + ANSWER_CONTENTION_AFTER);
                if contended {
                    self.remember(Contender { address, mac, at: now });
                }
                contended
            }
            HoldingState::Lingering { release_at, .. } => {
                *release_at = (*release_at).min(now + LINGER_ANNOUNCED);
                false
            }
        }
    }

    fn remember(&mut self, seen: Contender) {
        self.contenders.retain(|known| (known.address, known.mac) != (seen.address, seen.mac));
        if self.contenders.len() == CONTENDERS_REMEMBERED {
            self.contenders.remove(0);
        }
        self.contenders.push(seen);
        self.unanswered.get_or_insert(seen);
    }

    // ---- helpers ---------------------------------------------------------------------------

    fn renewed_at(&self) -> Option<Instant> {
        match self.state {
            HoldingState::Released => None,
            HoldingState::Held { renewed_at, .. }
            | HoldingState::Offered { renewed_at }
            | HoldingState::Lingering { renewed_at, .. } => Some(renewed_at),
        }
    }

    /// Nothing is known to be refused. Returns what was served before.
    fn serve_all(&mut self) -> Held {
        self.retry_at = None;
        std::mem::replace(&mut self.served, self.held.clone())
    }

    fn is_unadvertised(&self, ip: IpAddr) -> bool {
        let mut unadvertised = self.held.addresses.iter().skip(self.terms.advertised);
        unadvertised.any(|address| address.ip == ip)
    }

    fn claim_and_announce(&self, held: Held, all: bool, actions: &mut Vec<Action>) {
        self.claim(held.clone(), all, actions);
        actions.push(Action::Announce { router: self.router, held, probe: false });
    }

    fn claim(&self, held: Held, all: bool, actions: &mut Vec<Action>) {
        let lifetime = self.terms.lifetime;
        actions.push(Action::Claim { router: self.router, held, lifetime, all });
    }

    /// Moves deadlines and resets what no election depends on, for the model checker.
    pub(super) fn normalize(&mut self, origin: Instant, moved: impl Fn(Instant) -> Instant) {
        match &mut self.state {
            HoldingState::Released => {}
            HoldingState::Held { renewed_at, announcements, sole_from } => {
                *renewed_at = origin;
                *sole_from = origin;
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
        self.serve_all();
        self.refusals = Backoff::default();
        self.contenders.clear();
        self.unanswered = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn held(link: u32, ips: &[&str]) -> Held {
        let addresses = ips.iter().map(|ip| Address::host(ip.parse().unwrap())).collect();
        Held { link: LinkId(link), addresses }
    }

    #[test]
    fn an_address_on_another_interface_is_another_one() {
        let (here, there) = (held(0, &["192.0.2.1", "192.0.2.2"]), held(1, &["192.0.2.1"]));
        assert!(!there.is_within(&here) && held(0, &["192.0.2.1"]).is_within(&here));
        assert_eq!(here.without(&there), here);
        assert_eq!(here.without(&held(0, &["192.0.2.1"])), held(0, &["192.0.2.2"]));
    }
}
