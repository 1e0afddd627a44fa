//! What is recorded of a virtual router for the next daemon on this host, and what that daemon
//! concludes from it.
//!
//! The driver decides where the record is kept; its content and meaning are decided here.

use std::time::Duration;

use super::action::Transition;
use super::event::Recorded;
use super::router::Role;
use super::why::Why;

/// The recorded state of one virtual router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecordEntry {
    /// It was master and was not giving up the role.
    pub master: bool,
    /// It was held back: an operator had moved it to another host.
    pub held_back: bool,
    /// The `master` hook had exited with status 0, or there was none to run.
    pub hook_done: bool,
    /// When its last advert was sent, on a clock that the next daemon shares (the daemon's is
    /// `CLOCK_BOOTTIME`).
    pub sent_at: Duration,
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

/// What a new daemon sees of the virtual router's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressesFound {
    /// At least one is on its interface with our mark.
    pub any: bool,
    /// All are.
    pub all: bool,
}

impl RecordEntry {
    /// Records a change of role. A daemon that resumes without running hooks leaves the state of the
    /// hook as the one before it did, unless that hook is running again.
    pub fn role_changed(&mut self, transition: &Transition, hook: MasterHook) {
        self.master = transition.to == Role::Master;
        let done = match hook {
            MasterHook::None => true,
            MasterHook::Configured => transition.why == Why::Resumed && !transition.hooks,
            MasterHook::Running => false,
        };
        self.hook_done = self.master && done;
    }

    /// Records that the `master` hook was started.
    pub fn hook_started(&mut self) {
        self.hook_done = false;
    }

    /// Records that the `master` hook exited with status 0.
    pub fn hook_succeeded(&mut self) {
        self.hook_done = self.master;
    }

    /// What is recorded for the next daemon, which starts at `now`. `drained`: the host is drained.
    /// `resumes_in_last_minute`: how many daemons have resumed as master within the minute before.
    pub fn recorded(
        self,
        now: Duration,
        addresses: AddressesFound,
        drained: bool,
        resumes_in_last_minute: u32,
    ) -> Recorded {
        Recorded {
            was_master: self.master,
            drained,
            held_back: self.held_back,
            addresses_present: addresses.any,
            addresses_alive: addresses.all,
            last_advert_age: now.saturating_sub(self.sent_at),
            resumes_in_last_minute,
            master_hook_done: self.hook_done,
        }
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
            hooks,
        };
        let mut entry = RecordEntry::default();
        entry.role_changed(&transition, hook);
        entry
    }

    #[test]
    fn the_record_says_master_only_of_a_master_that_is_not_leaving() {
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
}
