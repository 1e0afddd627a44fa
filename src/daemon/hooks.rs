//! Hooks of virtual routers and sync groups: which commands run for a change of role, and their end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use tracing::{debug, error};

use super::source::Source;
use crate::config::{Config, Hooks, ProgramFaults, ProgramUse};
use crate::helper::{CheckRun, Finished, Helper, HookRun, Outcome};
use crate::host::poller::Poller;
use crate::vrrp::{
    Hook, HookOutcome, Instant, MasterHook, Node, RouterConfig, RouterId, Transition,
};

/// What runs hooks and checks: the helper process, and what it was asked for.
pub(super) struct HookRunner {
    helper: Helper,
    /// Why there is no helper any more, until [`failure`](Self::failure) has returned it.
    gone: Option<io::Error>,
    lost: bool,
    /// A reload that waits for what the helper finds out about programs.
    examining: Option<mpsc::Sender<Result<ProgramFaults, String>>>,
    /// When the helper is asked whether it is alive.
    ping_at: Instant,
    /// By the name of the virtual router or group.
    configured: BTreeMap<Arc<str>, Hooks>,
    /// The group of each virtual router that is in one.
    groups: BTreeMap<RouterId, Arc<HookOwner>>,
    runs: BTreeMap<u64, Run>,
    next_number: u64,
}

/// Virtual routers for which hooks run once: a sync group, or a single one.
#[derive(Clone, Debug)]
pub(super) struct HookOwner {
    pub(super) name: Arc<str>,
    group: bool,
    pub(super) members: Vec<RouterId>,
}

/// A hook that the helper was asked to run.
struct Run {
    router: RouterId,
    hook: Hook,
    owner: Arc<HookOwner>,
}

/// A hook that ended.
#[derive(Clone, Debug)]
pub(crate) struct LastHook {
    pub(crate) hook: Hook,
    pub(crate) outcome: Outcome,
    /// By the wall clock.
    pub(crate) at: SystemTime,
    /// How long it ran.
    pub(crate) took: Duration,
}

/// A hook that ended, and its owner.
pub(super) struct EndedHook {
    pub(super) router: RouterId,
    pub(super) owner: Arc<HookOwner>,
    pub(super) finished: Finished,
    pub(super) last: LastHook,
    /// What is reported to the election; `None` for runs that were superseded before they started,
    /// or whose hook was requested again: then the later run decides.
    pub(super) outcome: Option<HookOutcome>,
}

/// What a change of role led to.
pub(super) enum Started {
    /// No hook is configured for it.
    Nothing,
    /// The election waits for a hook that is not configured: as if it had agreed.
    AgreedAtOnce(HookOutcome),
    /// The helper was asked to run this hook.
    Run(Hook, Arc<HookOwner>),
}

impl HookRunner {
    pub(super) fn new(helper: Helper, now: Instant) -> Self {
        HookRunner {
            helper,
            gone: None,
            lost: false,
            examining: None,
            ping_at: now + Helper::PING_INTERVAL,
            configured: BTreeMap::new(),
            groups: BTreeMap::new(),
            runs: BTreeMap::new(),
            next_number: 1,
        }
    }

    /// Has the poller wait for the helper, too.
    ///
    /// # Errors
    /// epoll refuses the descriptor.
    pub(super) fn register(&self, poller: &Poller) -> io::Result<()> {
        poller.add(self.helper.as_fd(), Source::Helper.token())
    }

    /// Takes the hooks of a configuration. A removed virtual router leaves with its own hooks.
    pub(super) fn follow(&mut self, node: &Node, config: &Config) {
        let routers = config.vrrp.routers.iter().map(|router| &router.name);
        let named: BTreeSet<_> =
            routers.chain(config.vrrp.groups.iter().map(|group| &group.name)).collect();
        let before = std::mem::replace(&mut self.configured, config.hooks.clone());
        for (name, hooks) in before {
            let here = || node.find(&name).is_some() || node.find_group(&name).is_some();
            if !named.contains(&name) && here() {
                self.configured.insert(name, hooks);
            }
        }
        self.groups.clear();
        for group in node.groups() {
            let owner = Arc::new(HookOwner {
                name: group.name().clone(),
                group: true,
                members: group.members().to_vec(),
            });
            self.groups.extend(group.members().iter().map(|id| (*id, Arc::clone(&owner))));
        }
    }

    /// Runs the checks of a configuration, and no others; call [`poll`](Self::poll) after it.
    /// Unchanged checks continue.
    pub(super) fn set_checks(&mut self, config: &Config) {
        let stable_after = config.vrrp.checks.iter().map(|check| check.rise.max(check.fall));
        self.helper.set_checks(config.checks.iter().zip(stable_after));
    }

    /// Has the helper look at programs and users, and sends what it finds; call [`poll`](Self::poll)
    /// after it.
    pub(super) fn examine(
        &mut self,
        programs: BTreeSet<ProgramUse>,
        answer: mpsc::Sender<Result<ProgramFaults, String>>,
    ) {
        self.helper.examine(programs);
        self.examining = Some(answer);
    }

    /// Sends queued requests to the helper and reads its reports: hooks that ended and checks that
    /// were run.
    pub(super) fn poll(&mut self, poller: &Poller) -> (Vec<EndedHook>, Vec<(String, CheckRun)>) {
        let mut finished: Vec<Finished> = Vec::new();
        let outcome = self.helper.poll(|run| finished.push(run));
        let checked = self.helper.results();
        self.note_exchange(outcome, poller);
        if self.examining.is_some()
            && let Some(found) = self.helper.examined()
            && let Some(answer) = self.examining.take()
        {
            // It waits, unless the daemon ends.
            let _ = answer.send(found);
        }
        (finished.into_iter().filter_map(|run| self.ended(run)).collect(), checked)
    }

    fn ended(&mut self, finished: Finished) -> Option<EndedHook> {
        let Run { router, hook, owner } = self.runs.remove(&finished.number)?;
        let asked_again = match hook {
            Hook::BeforeClaim | Hook::BeforeRelease => {
                self.runs.values().any(|run| run.hook == hook && run.owner.name == owner.name)
            }
            Hook::Master | Hook::Backup | Hook::Fault | Hook::Stop => false,
        };
        let succeeded = finished.outcome == Outcome::Done;
        let counts = finished.outcome != Outcome::Overtaken && !asked_again;
        let outcome = counts.then_some(HookOutcome { hook, succeeded });
        let last = LastHook {
            hook,
            outcome: finished.outcome.clone(),
            at: SystemTime::now(),
            took: finished.duration,
        };
        Some(EndedHook { router, owner, finished, last, outcome })
    }

    /// Asks a helper that has been silent for some time whether it is alive. Returns when to call
    /// this again.
    pub(super) fn keep_alive(&mut self, now: Instant, poller: &Poller) -> Instant {
        if now >= self.ping_at && !self.lost {
            self.ping_at = now + Helper::PING_INTERVAL;
            let outcome = self.helper.check_alive();
            self.note_exchange(outcome, poller);
        }
        self.ping_at
    }

    /// Why the helper is gone, returned once: a daemon without hooks and checks would mislead about
    /// its state, so it has to end, and the next one has a helper.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        self.gone.take()
    }

    fn note_exchange(&mut self, outcome: io::Result<()>, poller: &Poller) {
        match outcome {
            // Wait for room in the helper's socket only while something waits for it.
            Ok(()) => {
                let (fd, token) = (self.helper.as_fd(), Source::Helper.token());
                if let Err(error) = poller.set_writable(fd, token, self.helper.wants_write()) {
                    debug!(%error, "waiting for the helper");
                }
            }
            Err(_) if self.lost => {}
            Err(error) => {
                let text = format!("the helper process (hooks and checks) has ended: {error}");
                error!(
                    "{text}; exiting, so that the service manager restarts vipd with a new helper"
                );
                self.lost = true;
                self.gone = Some(io::Error::new(error.kind(), text));
            }
        }
    }

    /// The virtual routers that share the hooks of this one.
    pub(super) fn owner(&self, id: RouterId, config: &RouterConfig) -> Arc<HookOwner> {
        self.groups.get(&id).cloned().unwrap_or_else(|| {
            Arc::new(HookOwner { name: config.name.clone(), group: false, members: vec![id] })
        })
    }

    /// What there is to run when they become master.
    pub(super) fn master_hook(&self, owner: &HookOwner) -> MasterHook {
        let hooks = self.configured.get(&owner.name);
        let mut runs = self.runs.values();
        if runs.any(|run| run.hook == Hook::Master && run.owner.name == owner.name) {
            MasterHook::Running
        } else if hooks
            .is_some_and(|hooks| hooks.of.contains_key(&Hook::Master) || hooks.notify.is_some())
        {
            MasterHook::Configured
        } else {
            MasterHook::None
        }
    }

    /// Runs the hooks that go with a change of role; call [`poll`](Self::poll) after it. `members` are
    /// the configurations of the owner's virtual routers.
    pub(super) fn start(
        &mut self,
        transition: &Transition,
        owner: Arc<HookOwner>,
        members: &[&RouterConfig],
    ) -> Started {
        let none = Hooks::default();
        let hooks = self.configured.get(&owner.name).unwrap_or(&none);
        let Some(hook) = transition.hook() else { return Started::Nothing };
        let command = hooks.of.get(&hook);
        let notify = match hook {
            Hook::BeforeRelease | Hook::BeforeClaim => {
                if command.is_none() {
                    return Started::AgreedAtOnce(HookOutcome { hook, succeeded: true });
                }
                None
            }
            Hook::Master | Hook::Backup | Hook::Fault | Hook::Stop => hooks.notify.clone(),
        };
        if command.is_none() && notify.is_none() {
            return Started::Nothing;
        }
        let mut interfaces: Vec<&str> = members.iter().map(|config| &*config.interface).collect();
        interfaces.dedup();
        let addresses = members.iter().flat_map(|config| config.all_addresses());
        let number = self.next_number;
        self.next_number += 1;
        let run = HookRun {
            router: owner.name.to_string(),
            group: owner.group,
            number,
            state: hook,
            previous: transition.from.name().to_owned(),
            reason: transition.why.to_string(),
            priority: transition.priority.get(),
            addresses: addresses.map(|address| address.ip).collect(),
            interface: interfaces.join(" "),
            commands: command.cloned().into_iter().collect(),
            notify,
        };
        self.runs.insert(number, Run { router: transition.router, hook, owner: owner.clone() });
        self.helper.run(run);
        Started::Run(hook, owner)
    }

    /// Whether no hook runs or waits.
    pub(super) fn is_idle(&self) -> bool {
        self.helper.idle()
    }

    /// Ends the helper process, and waits for that if it is to.
    pub(super) fn end(self, waits: bool) {
        if waits {
            self.helper.end();
        }
    }
}
