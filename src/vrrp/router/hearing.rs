//! Received adverts: which are accepted (RFC 9568 7.1), and how a backup, a master and a leaving
//! master react to them (RFC 9568 6.4.2, 6.4.3).

use std::net::IpAddr;

use super::membership::Membership;
use super::states::{Phase, State};
use super::{EXTRA_ADVERT_GAP, VirtualRouter};
use crate::vrrp::action::Action;
use crate::vrrp::advert::{Authentication, Heard};
use crate::vrrp::config::{ChecksumForm, Handover, Interval, Priority, Version};
use crate::vrrp::discard::{DiscardReason, Mismatch};
use crate::vrrp::event::Packet;
use crate::vrrp::role::Leave;
use crate::vrrp::time::Instant;
use crate::vrrp::warning::Warning;
use crate::vrrp::why::Why;

/// Tie hold-off: how many intervals a member that is not the first of its sync group stays master
/// beside a master of equal priority that it loses to (see `in_tie_holdoff`).
const TIE_HOLDOFF_INTERVALS: u32 = 2;
/// A tie that began this many intervals ago is over; the next such advert begins a new one.
pub(super) const TIE_FORGOTTEN_INTERVALS: u32 = 4;
/// Maximum number of incompatible peers that are remembered. Their source addresses can be forged,
/// so the list has to be bounded.
const INCOMPATIBLE_REMEMBERED: usize = 8;
/// An incompatible peer that has been silent for this many of its intervals is none any more.
const INCOMPATIBLE_INTERVALS: u32 = 4;

/// The last accepted advert of another router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub source: IpAddr,
    pub priority: Priority,
    /// The advert interval that it names.
    pub interval: Interval,
    /// Its checksum form, for version 3 over IPv4.
    pub checksum: Option<ChecksumForm>,
    /// When it was received.
    pub at: Instant,
}

impl Peer {
    /// Whether it was heard as master, and others wait for its next advert.
    pub(super) fn is_master(&self, now: Instant) -> bool {
        self.priority != Priority::LEAVING && now - self.at < self.interval.peer_timeout()
    }
}

/// A peer whose adverts are for our virtual router, but do not fit our settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incompatible {
    pub source: IpAddr,
    pub mismatch: Mismatch,
    /// When its last advert was received.
    pub at: Instant,
    /// The advert interval that it names.
    pub interval: Interval,
}

impl VirtualRouter {
    /// Peers whose adverts are for this virtual router, but do not fit its settings; not those that
    /// have fallen silent.
    pub fn incompatible(&self, now: Instant) -> impl Iterator<Item = &Incompatible> {
        self.incompatible
            .iter()
            .filter(move |peer| now - peer.at <= INCOMPATIBLE_INTERVALS * peer.interval.duration())
    }

    /// An advert for this virtual router, decoded but not accepted yet.
    pub(in crate::vrrp) fn packet(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), DiscardReason> {
        self.check_late(now, actions);
        self.admit(now, packet, heard, actions)?;
        if heard.priority != Priority::LEAVING {
            self.master = Some(packet.source);
            self.of_last_resort = heard.priority == Priority::LOWEST;
        } else if self.master.is_some_and(|master| master != packet.source) && !self.has_addresses()
        {
            return Err(DiscardReason::NotTheMaster);
        } else {
            self.master = None;
        }
        self.warn_about_differences(now, packet.source, heard, actions);
        self.peer = Some(Peer {
            source: packet.source,
            priority: heard.priority,
            interval: heard.interval,
            checksum: heard.checksum,
            at: now,
        });
        match &self.state {
            State::Fault => {}
            State::Backup { .. } | State::Claiming { .. } => {
                self.backup_hears(now, packet.source, heard, actions);
            }
            State::Master { .. } => self.master_hears(now, packet.source, heard, actions),
            State::Leaving { .. } => self.leaving_receives(now, packet.source, heard, actions),
        }
        self.heard_since_up = true;
        Ok(())
    }

    /// Checks sender, destination, TTL and settings of an advert (RFC 9568 7.1).
    fn admit(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), DiscardReason> {
        let multicast = packet.destination.is_multicast();
        if Some(packet.source) == self.source {
            return Err(DiscardReason::OwnAdvert);
        }
        if !multicast && self.is_from_afar(packet) {
            return Err(DiscardReason::Ttl(packet.ttl));
        }
        let accepted = self.config.accept_from.as_ref();
        let mismatch = match &self.config.unicast_peers {
            _ if accepted.is_some_and(|accepted| !accepted.contains(&packet.source)) => {
                Some(Mismatch::NotAccepted)
            }
            _ if multicast && packet.ttl != 255 => Some(Mismatch::Ttl(packet.ttl)),
            Some(_) if multicast => Some(Mismatch::Multicast),
            None if !multicast => Some(Mismatch::Unicast),
            Some(peers) if !peers.contains(&packet.source) => Some(Mismatch::NotAPeer),
            Some(_) if packet.ttl < self.config.unicast_min_ttl => Some(Mismatch::Ttl(packet.ttl)),
            Some(_) | None => self.message_mismatch(heard),
        };
        let Some(mismatch) = mismatch else {
            if !self.incompatible.is_empty() {
                self.incompatible.retain(|known| known.source != packet.source);
            }
            return Ok(());
        };
        self.remember_incompatible(now, packet.source, mismatch, heard.interval, actions);
        Err(match mismatch {
            Mismatch::NotAccepted => DiscardReason::NotAccepted,
            Mismatch::NotAPeer => DiscardReason::NotAPeer,
            Mismatch::Ttl(ttl) => DiscardReason::Ttl(ttl),
            Mismatch::Version(_)
            | Mismatch::Authentication
            | Mismatch::Interval(_)
            | Mismatch::Slow(_)
            | Mismatch::Unicast
            | Mismatch::Multicast
            | Mismatch::Addresses => DiscardReason::Incompatible(mismatch),
        })
    }

    /// Whether a unicast advert was forwarded by a router and is not from a peer that the list names: it
    /// is from nobody on this link, whatever else is wrong with it.
    fn is_from_afar(&self, packet: &Packet<'_>) -> bool {
        match &self.config.unicast_peers {
            None => packet.ttl != 255,
            Some(peers) => {
                packet.ttl < self.config.unicast_min_ttl && !peers.contains(&packet.source)
            }
        }
    }

    /// The first setting of the message that does not agree with ours, of those that must.
    fn message_mismatch(&self, heard: &Heard<'_>) -> Option<Mismatch> {
        if heard.version != self.config.version {
            return Some(Mismatch::Version(heard.version));
        }
        match heard.version {
            // A backup waits by the interval of its master: one forged advert must not silence it for
            // minutes.
            Version::V3 => self.address_mismatch(heard).or_else(|| {
                let slow = heard.interval > self.config.max_peer_interval
                    && self.tolerated_interval.is_none_or(|known| heard.interval > known);
                slow.then_some(Mismatch::Slow(heard.interval))
            }),
            Version::V2 => {
                let ours = match self.config.authentication {
                    None => Authentication::None,
                    Some(text) => Authentication::SimpleText(text),
                };
                if heard.authentication != ours {
                    Some(Mismatch::Authentication)
                } else if heard.interval != self.config.advert_interval {
                    Some(Mismatch::Interval(heard.interval))
                } else {
                    self.address_mismatch(heard)
                }
            }
        }
    }

    /// An advert that has no address in common with us is that of another virtual router, which uses
    /// our VRID. As a master it would leave our addresses to nobody.
    fn address_mismatch(&self, heard: &Heard<'_>) -> Option<Mismatch> {
        let ours = |ip: IpAddr| self.config.addresses.iter().any(|address| address.ip == ip);
        (!heard.addresses().any(ours)).then_some(Mismatch::Addresses)
    }

    fn remember_incompatible(
        &mut self,
        now: Instant,
        source: IpAddr,
        mismatch: Mismatch,
        interval: Interval,
        actions: &mut Vec<Action>,
    ) {
        match self.incompatible.iter_mut().find(|known| known.source == source) {
            Some(known) => {
                *known = Incompatible { source, mismatch, at: now, interval };
            }
            None => {
                if self.incompatible.len() == INCOMPATIBLE_REMEMBERED {
                    self.incompatible.remove(0);
                }
                self.incompatible.push(Incompatible { source, mismatch, at: now, interval });
            }
        }
        self.warn(now, Warning::Incompatible { source, mismatch }, actions);
    }

    /// Warns about differences that do not keep an advert from being accepted.
    fn warn_about_differences(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        let ours = || self.config.addresses.iter().map(|address| address.ip);
        let same = heard.addresses().eq(ours())
            || heard.address_count() == self.config.addresses.len()
                && heard.addresses().all(|ip| ours().any(|ours| ours == ip));
        if !same {
            self.warn(now, Warning::DifferentAddresses { source }, actions);
        }
        if heard.interval != self.config.advert_interval && heard.priority != Priority::LEAVING {
            let warning = Warning::DifferentInterval { source, interval: heard.interval };
            self.warn(now, warning, actions);
        }
        if heard.priority == Priority::OWNER && self.is_owner() {
            self.warn(now, Warning::TwoOwners { source }, actions);
        }
    }

    /// Backup (RFC 9568 6.4.2). Priority 0 shortens the master-down timer to the skew time; it never
    /// lengthens it, or adverts of that kind could keep us from taking over. An advert of a master
    /// that we do not preempt restarts it; any other advert is ignored, so the timer runs out and we
    /// take over.
    fn backup_hears(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        let takeover_at = if heard.priority == Priority::LEAVING {
            self.superior_heard_at = None;
            let at = now + self.wait_after_priority_0();
            match self.state {
                State::Backup { takeover_at: Some(timer) } => at.min(timer),
                State::Backup { takeover_at: None }
                | State::Claiming { .. }
                | State::Fault
                | State::Master { .. }
                | State::Leaving { .. } => at,
            }
        } else {
            let ours = self.effective_priority();
            if heard.priority >= ours {
                // `preempt_delay` counts from when our priority became the higher one.
                self.fit_since = now;
            } else if self.preempts(now) || self.claims_an_offer(heard.priority) {
                return;
            }
            self.master_interval = heard.interval;
            self.superior_heard_at = Some(now);
            now + self.master_interval.master_down(self.config.version, ours)
        };
        let at = takeover_at.max(self.hold_until);
        match &mut self.state {
            State::Backup { takeover_at: Some(timer) } => *timer = at,
            State::Claiming { .. } if self.superior_heard_at.is_some() => {
                let why = Why::MasterHeard { master: source, priority: heard.priority };
                self.enter_backup(now, why, actions);
            }
            State::Backup { takeover_at: None }
            | State::Claiming { .. }
            | State::Fault
            | State::Master { .. }
            | State::Leaving { .. } => {}
        }
    }

    /// Whether a master of lower priority is preempted.
    fn preempts(&self, now: Instant) -> bool {
        self.is_owner()
            || (self.config.preempt
                && !self.held_back
                && now >= self.fit_since + self.config.preempt_delay)
    }

    /// Whether `before_claim` runs, and a master that is the last resort goes on meanwhile: it has
    /// offered its role, or is back, and gives way to us.
    fn claims_an_offer(&self, theirs: Priority) -> bool {
        matches!(self.state, State::Claiming { .. }) && theirs == Priority::LOWEST
    }

    /// Master (RFC 9568 6.4.3): an inferior master is answered, to a superior one we give way.
    fn master_hears(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        if heard.priority == Priority::LEAVING {
            self.advertise_soon(now, actions);
            // Until now the sender may have answered ARP for the addresses.
            self.holding.announce_soon(now);
            return;
        }
        let theirs = (heard.priority, source);
        let wins = self.source.is_some_and(|ours| theirs < (self.effective_priority(), ours));
        if !wins && self.in_tie_holdoff(now, heard.priority) {
            // Only scheduled adverts: if both masters answered each other's adverts, they would do
            // so without end.
            return;
        }
        if wins {
            self.advertise_soon(now, actions);
            self.holding.announce_soon(now);
            if now - self.since >= self.config.advert_interval.duration() {
                // Before that it is the final advert of a master that gives way to us.
                self.warn(now, Warning::LowerMaster { source, priority: heard.priority }, actions);
            }
            if let State::Master { unheard_until, .. } = &mut self.state {
                // We do receive adverts, so there is no unheard superior master.
                *unheard_until = None;
            }
            return;
        }
        let leave = Leave::Election { to: source, priority: heard.priority };
        // A final advert makes the winner announce its addresses again, and advertise, which a third
        // router hears. It may not have known of us, as after a healed partition, and then neighbours
        // still send to our MAC. It has our priority: as priority 0 it would make third routers take
        // over that have missed the winner's advert. It is skipped if an extra advert was sent a
        // moment ago, which has had the same effect.
        let final_priority = self.effective_priority();
        let sends_final_advert = match &self.state {
            State::Master { extra_sent_at: Some(sent), .. } => now >= *sent + EXTRA_ADVERT_GAP,
            State::Master { extra_sent_at: None, .. } => true,
            State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Leaving { .. } => false,
        };
        self.master_interval = heard.interval;
        self.superior_heard_at = Some(now);
        if sends_final_advert {
            self.send(now, final_priority, actions);
        }
        match self.config.handover {
            Handover::Overlap => {
                let phase = Phase::Succeeded { to: source };
                self.enter_leaving(now, leave, phase, actions);
            }
            Handover::Exclusive => {
                let why = Why::LostElection { to: source, priority: heard.priority };
                self.enter_backup(now, why, actions);
            }
        }
    }

    /// Tie hold-off. Between equal priorities the higher source address wins (RFC 9568 6.4.3), so
    /// of two sync groups with equal priority each may win on another link. If every member gave
    /// way at once, both groups would lose as a whole, take over again, and so on without end. So
    /// the link of the first member (lowest VRID) decides: only there a tie is settled at once. A
    /// member on any other link stays master for `TIE_HOLDOFF_INTERVALS` beside the winner, which
    /// is enough for the first members to settle theirs and take the rest of their group with them.
    /// If they do not, for example as the first member's link is down on the other host, it gives
    /// way after all.
    fn in_tie_holdoff(&mut self, now: Instant, priority: Priority) -> bool {
        let interval = self.config.advert_interval.duration();
        let equal = priority == self.effective_priority();
        match &mut self.state {
            State::Master { tie_since, .. } if equal && self.membership == Membership::Other => {
                let forgotten = TIE_FORGOTTEN_INTERVALS * interval;
                let since = tie_since.filter(|since| now - *since < forgotten);
                let since = *tie_since.insert(since.unwrap_or(now));
                now - since < TIE_HOLDOFF_INTERVALS * interval
            }
            State::Master { .. }
            | State::Fault
            | State::Backup { .. }
            | State::Claiming { .. }
            | State::Leaving { .. } => false,
        }
    }

    /// Leaving. After we have sent priority 0, any advert with another priority comes from the
    /// successor. Before that, while `before_release` runs, we are still master: an inferior router
    /// is answered, a superior one is the successor.
    fn leaving_receives(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        let theirs = (heard.priority, source);
        let stays = self.source.is_some_and(|ours| theirs < (self.effective_priority(), ours));
        if let State::Leaving { phase: Phase::Preparing { advert_at, .. }, sent_at, .. } =
            &mut self.state
            && stays
        {
            // A master answers (RFC 9568 6.4.3).
            *advert_at = (*advert_at).min(now.max(*sent_at + EXTRA_ADVERT_GAP));
            return;
        }
        if heard.priority == Priority::LEAVING {
            return;
        }
        self.master_interval = heard.interval;
        self.superior_heard_at = Some(now);
        if let State::Leaving { phase, .. } = &mut self.state {
            match phase {
                Phase::Succeeded { .. } => {}
                Phase::Preparing { .. } if self.config.handover == Handover::Exclusive => {
                    let why = Why::LostElection { to: source, priority: heard.priority };
                    self.enter_backup(now, why, actions);
                }
                Phase::Preparing { .. } | Phase::Offered { .. } => {
                    *phase = Phase::Succeeded { to: source };
                    self.holding.linger(now);
                }
            }
        }
    }
}
