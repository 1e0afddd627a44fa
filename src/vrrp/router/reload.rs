//! Reload: a new configuration for the same virtual router. What has not changed is left alone.

use std::sync::Arc;

use super::VirtualRouter;
use super::host_state::HostState;
use super::states::{Phase, State};
use crate::vrrp::action::Action;
use crate::vrrp::config::{RouterConfig, Version};
use crate::vrrp::reason::Reason;
use crate::vrrp::source;
use crate::vrrp::time::Instant;

impl VirtualRouter {
    /// First step of a reload: releases addresses that are no longer configured. All virtual
    /// routers do so before any claims, since an address may move from one to another.
    pub(in crate::vrrp) fn reload_release(
        &mut self,
        now: Instant,
        config: &RouterConfig,
        actions: &mut Vec<Action>,
    ) {
        self.check_late(now, actions);
        self.holding.reload_release(config, actions);
    }

    /// Second step: takes the new configuration.
    pub(in crate::vrrp) fn reload(
        &mut self,
        now: Instant,
        config: &RouterConfig,
        host: HostState<'_>,
        actions: &mut Vec<Action>,
    ) {
        let reinstated = self.retiring.take().is_some();
        self.hooks_suppressed = false;
        if *self.config == *config {
            if reinstated {
                self.reinstate(now, actions);
            }
            return;
        }
        // By the old interval.
        self.check_late(now, actions);
        let old = std::mem::replace(&mut self.config, Arc::new(config.clone()));
        // The file of the master that is heard may be changed a moment later.
        self.tolerated_interval = self
            .peer
            .as_ref()
            .filter(|peer| peer.is_master(now))
            .map(|peer| peer.interval)
            .filter(|interval| *interval > config.max_peer_interval);
        self.to = source::destinations(config, |ip| self.source == Some(ip));
        if old.version != config.version || old.advert_interval != config.advert_interval {
            self.master_interval = match (&self.peer, &self.state) {
                (Some(peer), State::Backup { .. }) if config.version == Version::V3 => {
                    peer.interval
                }
                _ => config.advert_interval,
            };
        }
        let timing = (old.priority, old.version, old.advert_interval)
            != (config.priority, config.version, config.advert_interval);
        if timing && let State::Backup { takeover_at: Some(_) } = self.state {
            // A peer that was last heard before the last change of role may be gone.
            let heard_at = self.peer.as_ref().map_or(self.since, |peer| peer.at.max(self.since));
            let at = (heard_at + self.master_down()).max(self.hold_until).max(now);
            self.state = State::Backup { takeover_at: Some(at) };
        }
        self.holding.reload(config, actions);
        if reinstated {
            self.reinstate(now, actions);
        }
        let advertised = (&old.addresses, old.priority, old.version, old.advert_interval)
            != (&config.addresses, config.priority, config.version, config.advert_interval);
        if !self.faults.contains_key(&Reason::Starting) {
            // Without a check for being late by the new interval: peers still wait by the old one.
            self.reevaluate(now, host, actions);
        }
        if advertised && !reinstated {
            self.readvertise(now, actions);
        }
    }

    /// What is advertised has changed: advertises at once, and restarts the schedule.
    fn readvertise(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let next = now + self.config.advert_interval.duration();
        match &mut self.state {
            State::Fault | State::Backup { .. } | State::Claiming { .. } => {}
            State::Master { advert_at, .. } => {
                *advert_at = next;
                self.advertise(now, self.effective_priority(), actions);
            }
            State::Leaving { phase, sent_at, .. } => match phase {
                Phase::Preparing { advert_at, .. } => {
                    *advert_at = next;
                    self.advertise(now, self.effective_priority(), actions);
                }
                Phase::Offered { repeat_at, .. } => {
                    // Priority 0 is repeated at the new interval, by which being late is counted,
                    // too.
                    *repeat_at = next;
                    *sent_at = now;
                }
                Phase::Succeeded { .. } => *sent_at = now,
            },
        }
    }
}
