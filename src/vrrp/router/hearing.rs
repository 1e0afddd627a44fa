//! Adverts heard: which of them count (RFC 9568 7.1), and what a backup, a master and one that leaves
//! make of them (RFC 9568 6.4.2, 6.4.3).

use std::net::IpAddr;

use super::membership::Membership;
use super::states::{Leave, Phase, State};
use super::{EXTRA_ADVERT_GAP, VirtualRouter};
use crate::vrrp::action::Action;
use crate::vrrp::advert::{Authentication, Heard};
use crate::vrrp::config::{ChecksumForm, Handover, Interval, Priority, Version};
use crate::vrrp::discard::{DiscardReason, Mismatch};
use crate::vrrp::event::Packet;
use crate::vrrp::time::Instant;
use crate::vrrp::warning::Warning;
use crate::vrrp::why::Why;

/// A member of a sync group that ties with a master on a link that is not the group's first leaves
/// the decision to that one for this many intervals ...
const TIE_HOLDOFF_INTERVALS: u32 = 2;
/// ... and a contest that was silent for this many has ended.
pub(super) const TIE_FORGOTTEN_INTERVALS: u32 = 4;
/// How many incompatible peers are remembered: strangers can invent any number.
const INCOMPATIBLE_REMEMBERED: usize = 8;

/// The last advert of another router that counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Who sent it.
    pub source: IpAddr,
    /// With which priority.
    pub priority: Priority,
    /// Its interval.
    pub interval: Interval,
    /// The form of checksum it uses, where there are two.
    pub checksum: Option<ChecksumForm>,
    /// When it came.
    pub at: Instant,
}

/// A peer that means our virtual router but cannot be understood with our settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Incompatible {
    /// Who sent it.
    pub source: IpAddr,
    /// What differs.
    pub mismatch: Mismatch,
    /// When it last came.
    pub at: Instant,
}

impl VirtualRouter {
    /// An advert, or what claims to be one, already decoded and known to mean this router.
    pub(in crate::vrrp) fn packet(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) -> Result<(), DiscardReason> {
        self.check_late(now, actions);
        self.admit(now, packet, heard, actions)?;
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
            State::Leaving { .. } => self.leaver_hears(now, packet.source, heard, actions),
        }
        self.heard_since_up = true;
        Ok(())
    }

    /// Whether the advert comes from a peer we can talk to (RFC 9568 7.1).
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
        if let Some(accepted) = &self.config.accept_from
            && !accepted.contains(&packet.source)
        {
            return Err(DiscardReason::NotAccepted);
        }
        if multicast && packet.ttl != 255 {
            return Err(DiscardReason::Ttl(packet.ttl));
        }
        let mismatch = match (&self.config.unicast_peers, multicast) {
            (Some(_), true) => Some(Mismatch::Multicast),
            (None, false) => Some(Mismatch::Unicast),
            (Some(peers), false) => {
                if !peers.contains(&packet.source) {
                    return Err(DiscardReason::NotAPeer);
                }
                if packet.ttl < self.config.unicast_min_ttl {
                    return Err(DiscardReason::Ttl(packet.ttl));
                }
                None
            }
            (None, true) => None,
        };
        if let Some(mismatch) = mismatch.or_else(|| self.message_mismatch(heard)) {
            self.remember_incompatible(now, packet.source, mismatch, actions);
            return Err(DiscardReason::Incompatible(mismatch));
        }
        Ok(())
    }

    /// Settings that must agree for a message to count.
    fn message_mismatch(&self, heard: &Heard<'_>) -> Option<Mismatch> {
        if heard.version != self.config.version {
            return Some(Mismatch::Version(heard.version));
        }
        match heard.version {
            Version::V3 => None,
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
                    None
                }
            }
        }
    }

    fn remember_incompatible(
        &mut self,
        now: Instant,
        source: IpAddr,
        mismatch: Mismatch,
        actions: &mut Vec<Action>,
    ) {
        match self.incompatible.iter_mut().find(|known| known.source == source) {
            Some(known) => {
                known.mismatch = mismatch;
                known.at = now;
            }
            None => {
                if self.incompatible.len() == INCOMPATIBLE_REMEMBERED {
                    self.incompatible.remove(0);
                }
                self.incompatible.push(Incompatible { source, mismatch, at: now });
            }
        }
        self.warn(now, Warning::Incompatible { source, mismatch }, actions);
    }

    /// What is odd about an advert that counts all the same.
    fn warn_about_differences(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        let same = heard.address_count() == self.config.addresses.len()
            && heard.addresses().all(|ip| self.config.addresses.iter().any(|ours| ours.ip == ip));
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

    /// RFC 9568 6.4.2.
    fn backup_hears(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        let takeover_at = if heard.priority == Priority::LEAVING {
            self.superior_heard_at = None;
            now + self.skew()
        } else if heard.priority >= self.effective_priority() || !self.preempts(now) {
            if heard.priority >= self.effective_priority() {
                // Fit to depose it is who has been better than it all the time.
                self.fit_since = now;
            }
            self.master_interval = heard.interval;
            self.superior_heard_at = Some(now);
            now + self.master_down()
        } else {
            return;
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

    /// Whether a master of lower priority is to be deposed.
    fn preempts(&self, now: Instant) -> bool {
        self.is_owner()
            || (self.config.preempt
                && !self.held_back
                && now >= self.fit_since + self.config.preempt_delay)
    }

    /// RFC 9568 6.4.3.
    fn master_hears(
        &mut self,
        now: Instant,
        source: IpAddr,
        heard: &Heard<'_>,
        actions: &mut Vec<Action>,
    ) {
        if heard.priority == Priority::LEAVING {
            self.advertise_soon(now, actions);
            // Whoever left may have answered for the addresses until now.
            self.holding.announce_soon(now);
            return;
        }
        let theirs = (heard.priority, source);
        let wins = self.source.is_some_and(|ours| theirs < (self.effective_priority(), ours));
        if !wins && self.in_tie_holdoff(now, heard.priority) {
            // Silent beyond the schedule: two who answer each other would never end.
            return;
        }
        if wins {
            self.advertise_soon(now, actions);
            self.holding.announce_soon(now);
            if now - self.since >= self.config.advert_interval.duration() {
                // Sooner it is the last word of a master that gives way to us.
                self.warn(now, Warning::LowerMaster { source, priority: heard.priority }, actions);
            }
            if let State::Master { unheard_until, .. } = &mut self.state {
                // Somebody was heard, so nobody stronger is out of earshot.
                *unheard_until = None;
            }
            return;
        }
        let leave = Leave::Election { to: source, priority: heard.priority };
        // A last advert, without the addresses a farewell: a winner that did not know of us, as after
        // a healed cut, must tell the network again who has them.
        // One that left a moment ago has told it already.
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
        match self.config.handover {
            Handover::Overlap => {
                if sends_final_advert {
                    self.send(now, final_priority, actions);
                }
                let phase = Phase::Succeeded { to: source };
                self.enter_leaving(now, leave, phase, actions);
            }
            Handover::Exclusive => {
                let why = Why::LostElection { to: source, priority: heard.priority };
                self.enter_backup(now, why, actions);
                if sends_final_advert {
                    self.send(now, Priority::LEAVING, actions);
                }
            }
        }
    }

    /// Two hosts' groups of equal priority may each win on another link: who is better on the link of
    /// the first member is to win, and has some time to do so.
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

    /// Once priority 0 was said, any advert that is not ours and not 0 comes from the successor;
    /// before, a better one.
    fn leaver_hears(
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
            // Still master, who answers (RFC 9568 6.4.3).
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
