//! What is recorded of the virtual routers for the next daemon on this host, and what that daemon
//! makes of it.
//!
//! The driver decides where the record is kept; its content and meaning are decided here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::action::Transition;
use super::config::{self, Address, Config, Family, RouterConfig, Vrid};
use super::event::{Drain, Recorded, Source};
use super::id::{LinkId, RouterId};
use super::mark::Mark;
use super::node::Node;
use super::role::Role;
use super::router::{RESUMES_PER_MINUTE, VirtualRouter};
use super::why::Why;

const MINUTE: Duration = Duration::from_secs(60);

/// The recorded state of one virtual router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecordEntry {
    /// It was master and had not begun to hand over.
    pub master: bool,
    /// As master it ran `before_release`, to hand over after it.
    pub preparing: bool,
    /// It was held back: an operator had moved it to another host.
    pub held_back: bool,
    /// The `master` hook had exited with status 0, or there was none to run.
    pub hook_done: bool,
    /// When its last advert was sent, on a clock that the next daemon shares (the daemon's is
    /// `CLOCK_BOOTTIME`).
    pub sent_at: Duration,
    /// The source of its last advert.
    pub source: Option<Source>,
}

/// Whether there is a hook to run for a new master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MasterHook {
    /// Neither `master` nor `notify` is configured.
    None,
    /// One is configured.
    Configured,
    /// One is running already.
    Running,
}

/// The record of an earlier daemon, as a new one finds it. Times are those of a clock that both
/// share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreviousRecord {
    /// By the [`identity`] of the virtual router.
    pub entries: BTreeMap<u64, RecordEntry>,
    /// When daemons resumed as master.
    pub resumes: Resumes,
    /// Addresses that may have been claimed.
    pub addresses: Vec<RecordedAddress>,
}

/// An address that may have been claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedAddress {
    pub interface: String,
    pub address: Address,
    /// That of the virtual router that it was for.
    pub mark: Mark,
}

impl PreviousRecord {
    /// The entry of the same virtual router.
    pub fn find(&self, router: &RouterConfig) -> Option<RecordEntry> {
        self.entries.get(&identity(router)).copied()
    }

    /// What each virtual router of a daemon that starts at `now` begins with. `drained`: the host
    /// is. `there`: whether an interface has an address of the virtual router with this mark.
    pub fn found(
        &self,
        node: &Node,
        now: Duration,
        drained: Option<Drain>,
        there: impl Fn(LinkId, IpAddr, Mark) -> bool,
    ) -> Vec<(RouterId, Recorded)> {
        let resumes_in_last_minute = self.resumes.in_last_minute(now);
        let found = |router: &VirtualRouter| {
            let entry = self.find(router.config()).unwrap_or_default();
            let held = router.holding().held();
            let mark = Mark::of(router.config());
            let mut addresses = held.addresses.iter();
            let recorded = Recorded {
                was_master: entry.master,
                was_preparing: entry.preparing,
                drained,
                held_back: entry.held_back,
                addresses_present: addresses.any(|address| there(held.link, address.ip, mark)),
                last_advert_age: now.saturating_sub(entry.sent_at),
                resumes_in_last_minute,
                master_hook_done: entry.hook_done,
                source: entry.source,
            };
            (router.id(), recorded)
        };
        node.routers().map(found).collect()
    }

    /// Addresses that may be left on an interface and that `config` does not name for the same virtual
    /// router.
    pub fn leftovers<'a>(
        &'a self,
        config: &'a Config,
    ) -> impl Iterator<Item = &'a RecordedAddress> + 'a {
        self.addresses.iter().filter(|left| {
            let same = |router: &&RouterConfig| {
                *router.interface == *left.interface && left.mark.is_of(Mark::of(router))
            };
            let mut same = config.routers.iter().filter(same);
            !same.any(|router| router.all_addresses().any(|named| named.ip == left.address.ip))
        })
    }
}

/// When daemons of this host resumed as master: one that keeps crashing is not to resume for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumes {
    /// The last ones, oldest first.
    at: Vec<Duration>,
    /// This daemon is among them.
    counted: bool,
}

impl Resumes {
    /// How many are kept: one more than are allowed within a minute.
    pub const KEPT: usize = RESUMES_PER_MINUTE as usize + 1;

    /// Those of earlier daemons.
    pub fn earlier(at: impl IntoIterator<Item = Duration>) -> Self {
        Resumes { at: at.into_iter().take(Self::KEPT).collect(), counted: false }
    }

    /// A virtual router of this daemon resumes. A daemon counts once.
    pub fn note(&mut self, now: Duration) {
        if !std::mem::replace(&mut self.counted, true) {
            self.at.push(now);
            if self.at.len() > Self::KEPT {
                self.at.remove(0);
            }
        }
    }

    /// This daemon ends as it was asked to, and another one follows: it has not crashed.
    pub fn ended_on_request(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.at.pop();
        }
    }

    /// Those within the minute before `now`.
    pub fn in_last_minute(&self, now: Duration) -> u32 {
        self.iter().filter(|at| now.saturating_sub(*at) < MINUTE).count() as u32
    }

    /// All that are kept.
    pub fn iter(&self) -> impl Iterator<Item = Duration> + '_ {
        self.at.iter().copied()
    }
}

/// By what a virtual router is recognised: a hash of interface, address family and VRID.
pub fn identity(router: &RouterConfig) -> u64 {
    identity_of(&router.interface, router.family, router.vrid)
}

fn identity_of(interface: &str, family: Family, vrid: Vrid) -> u64 {
    config::hash(&format!("{interface} {family} {vrid}"))
}

impl RecordedAddress {
    /// The [`identity`] of the virtual router that it was for, if that is known.
    pub fn identity(&self) -> Option<u64> {
        match self.mark {
            Mark::Router(family, vrid) => Some(identity_of(&self.interface, family, vrid)),
            Mark::None | Mark::Unnamed => None,
        }
    }
}

impl RecordEntry {
    /// Records a change of role. A daemon that resumes without running hooks leaves the state of the
    /// hook as the one before it did, unless that hook is running again.
    pub fn role_changed(&mut self, transition: &Transition, hook: MasterHook) {
        self.held_back = transition.held_back;
        self.preparing = transition.before_release;
        if self.preparing {
            return;
        }
        self.master = transition.to == Role::Master;
        let done = match hook {
            MasterHook::None => true,
            MasterHook::Configured => transition.why == Why::Resumed && !transition.hooks,
            MasterHook::Running => false,
        };
        self.hook_done = self.master && done;
    }

    /// Takes a new configuration: other settings for the source end what was kept.
    pub fn reconfigured(&mut self, config: &RouterConfig) {
        self.source = self.source.filter(|source| source.is_chosen_by(config));
    }

    /// Records that an advert was sent. Returns whether it had another source than the last one.
    pub fn advert_sent(&mut self, at: Duration, from: IpAddr, config: &RouterConfig) -> bool {
        self.sent_at = at;
        let changed = self.source.is_none_or(|source| source.ip != from);
        if changed {
            self.source = Some(Source::of(from, config));
        }
        changed
    }

    /// Records that the `master` hook was started.
    pub fn hook_started(&mut self) {
        self.hook_done = false;
    }

    /// Records that the `master` hook exited with status 0.
    pub fn hook_succeeded(&mut self) {
        self.hook_done = self.master;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vrrp::{Priority, RouterId};

    fn change(to: Role, why: Why, hooks: bool, hook: MasterHook) -> RecordEntry {
        let transition = Transition {
            router: RouterId(0),
            from: Role::Backup,
            to,
            why,
            priority: Priority::DEFAULT,
            before_release: false,
            held_back: false,
            hooks,
        };
        let mut entry = RecordEntry::default();
        entry.role_changed(&transition, hook);
        entry
    }

    #[test]
    fn only_a_master_that_is_not_leaving_is_recorded_as_master() {
        for role in Role::ALL {
            let entry = change(role, Why::HeardNobody, true, MasterHook::None);
            assert_eq!(entry.master, role == Role::Master, "{role}");
            assert_eq!(entry.hook_done, role == Role::Master, "{role}");
        }
    }

    #[test]
    fn a_master_hook_is_done_when_it_has_succeeded_or_an_earlier_daemon_has_run_it() {
        let done = |why, hooks, hook| change(Role::Master, why, hooks, hook).hook_done;
        assert!(!done(Why::HeardNobody, true, MasterHook::Configured));
        assert!(!done(Why::Resumed, true, MasterHook::Configured));
        assert!(done(Why::Resumed, false, MasterHook::Configured));
        assert!(!done(Why::Resumed, false, MasterHook::Running));
        let mut entry = change(Role::Master, Why::HeardNobody, true, MasterHook::Configured);
        entry.hook_succeeded();
        assert!(entry.hook_done);
        entry.hook_started();
        assert!(!entry.hook_done);
    }

    #[test]
    fn a_daemon_counts_once_among_those_that_resumed() {
        let second = Duration::from_secs;
        let mut resumes = Resumes::default();
        for daemon in 1..=6 {
            resumes = Resumes::earlier(resumes.iter());
            assert_eq!(resumes.in_last_minute(second(daemon)), 4.min(daemon as u32 - 1));
            for _router in 0..5 {
                resumes.note(second(daemon));
            }
        }
        assert_eq!(resumes.iter().collect::<Vec<_>>(), [3, 4, 5, 6].map(second));
        assert_eq!(resumes.in_last_minute(second(63)), 3);
        resumes.ended_on_request();
        assert_eq!(resumes.iter().collect::<Vec<_>>(), [3, 4, 5].map(second));
        let mut next = Resumes::earlier(resumes.iter());
        next.ended_on_request();
        assert_eq!(next.iter().count(), 3, "this one had not resumed");
    }
}
