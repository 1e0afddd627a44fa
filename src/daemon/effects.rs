//! Carries out actions: adverts and announcements by the sockets, addresses by the worker, changes of
//! role by the log, the record and the hooks. In which order, [`Delivery`] decides.
//!
//! [`Delivery`]: crate::vrrp::Delivery

use std::net::IpAddr;
use std::sync::Arc;

use tracing::{debug, error, info, warn};

use super::driver::{Driver, RouterState};
use super::history::{self, EventKind};
use super::hooks::Started;
use super::source::PendingEvent;
use crate::host::netlink::{AddressError, JobOutcome, JobTarget, Operation, WorkerJob};
use crate::host::{advert_socket, clock};
use crate::vrrp::delivery::{self, DueAdvert, DueAnnouncement, Encoded, JobError, JobKind, Output};
use crate::vrrp::record::RecordedAddress;
use crate::vrrp::{
    Action, Held, Hook, Instant, Mark, Node, RecordEntry, RouterConfig, RouterId, SendError,
    Transition, Why,
};

impl Driver {
    /// Takes an action of the protocol. What can be sent at once is sent with everything else of
    /// this turn, by [`flush`](Self::flush); jobs are started at once.
    pub(super) fn perform(&mut self, now: Instant, action: Action, node: &Node) {
        let id = action.router();
        let router = node.router(id);
        if let Action::Warn { warning, .. } = &action {
            let name = router.map_or("", |router| &router.config().name);
            warn!(router = name, "{warning}");
            let event = history::now(EventKind::Warning, Some(name), warning.to_string());
            self.history.note(event);
            return;
        }
        let state = match (router, self.routers.get_mut(&id)) {
            // The node may have forgotten a removed router whose last actions are still to come.
            (_, Some(state)) => state,
            (Some(router), None) => {
                self.routers.entry(id).or_insert_with(|| Box::new(RouterState::new(router)))
            }
            (None, None) => return,
        };
        if let Action::Notify(transition) = &action {
            state.note_transition(transition);
            self.counters.changed(now, transition);
        }
        if self.delivery.push(self.clock.now(), action, node) {
            self.flush();
        }
        while let Some(job) = self.delivery.next_job() {
            self.start(&job);
        }
    }

    /// Carries out everything that is due.
    pub(super) fn flush(&mut self) {
        while let Some(mut output) = self.delivery.next(self.clock.now()) {
            match &mut output {
                Output::Advertise(adverts) => self.advertise(adverts),
                Output::Announce(announcements) => self.announce(announcements),
                Output::Notify(transitions) => {
                    for transition in transitions.drain(..) {
                        self.role_changed(&transition);
                    }
                }
                Output::Start(job) => self.start(job),
            }
            self.delivery.recycle(output);
        }
    }

    // ---- adverts and announcements ---------------------------------------------------------

    fn advertise(&mut self, due: &mut Vec<DueAdvert>) {
        due.retain(|advert| self.encode(advert));
        let mut failed: Vec<(usize, SendError)> = Vec::new();
        for group in due.chunk_by(|one, other| one.socket() == other.socket()) {
            let Some((link, family)) = group.first().map(DueAdvert::socket) else { continue };
            let Some(socket) = self.interfaces.adverts(link, family) else { continue };
            let routers = &self.routers;
            let messages = group.iter().flat_map(|due| {
                let encoded = routers.get(&due.router).and_then(|state| state.encoded.as_ref());
                let messages = encoded.into_iter().flat_map(Encoded::messages);
                messages.map(|(to, message)| advert_socket::OutgoingAdvert {
                    from: due.from,
                    to,
                    message,
                })
            });
            socket.send_many(messages, |place, error| {
                debug!(%error, "the kernel refuses an advert");
                failed.push((place, advert_socket::send_error(&error)));
            });
            let now = self.clock.now();
            let mut failures = failed.drain(..).peekable();
            let mut place = 0;
            for due in group {
                let first = place;
                place += due.to.len();
                let refused = std::iter::from_fn(|| failures.next_if(|(at, _)| *at < place));
                self.sent(
                    now,
                    due,
                    refused.filter_map(|(at, error)| Some((*due.to.get(at - first)?, error))),
                );
            }
        }
    }

    /// Encodes an advert, unless that was done for the one before. Returns whether there is a socket
    /// for it.
    fn encode(&mut self, due: &DueAdvert) -> bool {
        let (link, family) = due.socket();
        let has_socket = self.interfaces.adverts(link, family).is_some();
        let Some(state) = self.routers.get_mut(&due.router).filter(|_| has_socket) else {
            let all = due.to.iter().map(|to| (*to, SendError::Unreachable));
            self.sent(self.clock.now(), due, all);
            return false;
        };
        if !state.encoded.as_ref().is_some_and(|encoded| encoded.is(due)) {
            state.encoded = Some(Encoded::new(due));
        }
        true
    }

    /// An advert has been handed to the kernel, which refused it for some destinations.
    fn sent(
        &mut self,
        now: Instant,
        due: &DueAdvert,
        refused: impl Iterator<Item = (IpAddr, SendError)>,
    ) {
        let counters = self.counters.of(due.router);
        let counted = refused.inspect(|_| counters.adverts_refused += 1);
        if self.delivery.sent(now, due, counted) {
            counters.adverts_sent += 1;
            if let Some(due) = due.due {
                counters.advert_lateness.note(now - due);
            }
            if let Some(state) = self.routers.get(&due.router) {
                let at = self.clock.boottime_of(now);
                self.record.advert_sent(due.router, at, due.from, &state.config);
            }
        }
    }

    fn announce(&mut self, due: &[DueAnnouncement]) {
        for group in due.chunk_by(|one, other| one.held.link == other.held.link) {
            let Some(link) = group.first().map(|due| due.held.link) else { continue };
            let link_local = self.interfaces.link_local(link);
            let Some(socket) = self.interfaces.neighbours(link) else { continue };
            if let Err(error) = socket.announce(group.iter().flat_map(DueAnnouncement::ips)) {
                debug!(%error, "the kernel refused an announcement");
            }
            let probed = group.iter().filter(|due| due.probe);
            if let Err(error) = socket.probe(link_local, probed.flat_map(DueAnnouncement::ips)) {
                debug!(%error, "the kernel refused a probe");
            }
            for due in group.iter().filter(|due| due.completes_round) {
                self.counters.of(due.router).announcements += 1;
            }
        }
    }

    // ---- addresses -------------------------------------------------------------------------

    /// Hands a job to the worker.
    fn start(&mut self, job: &delivery::Job) {
        let (id, kind) = (job.router, job.work.kind());
        let now = self.clock.now();
        let index = self.interfaces.index(job.held.link);
        let mark = self.routers.get(&id).map(|state| Mark::of(&state.config));
        let Some((index, mark)) = index.zip(mark) else {
            let refused = job.held.addresses.iter().map(|address| (address.ip, JobError::Refused));
            self.finished(id, kind, now, refused);
            return;
        };
        let operation = match job.work {
            delivery::Work::Claim { lifetime } => {
                Operation::Claim { lifetime, absent: self.interfaces.has_none(&job.held) }
            }
            delivery::Work::Release => Operation::Release,
            delivery::Work::Renew { lifetime, not_after } => Operation::Renew {
                lifetime,
                not_after: self.clock.boottime_of(not_after),
                intact: self.has_all(id, &job.held),
            },
        };
        let ticket = self.next_ticket();
        self.jobs.insert(ticket, (id, kind, now));
        let addresses = job.held.addresses.clone();
        let ours = self.interfaces.marks(job.held.link);
        let target = JobTarget { index, addresses, mark, ours };
        self.worker.submit(WorkerJob { ticket, target, operation });
    }

    /// The worker has answered.
    pub(super) fn job_done(&mut self, done: JobOutcome) {
        let Some((router, kind, asked_at)) = self.jobs.remove(&done.ticket) else {
            self.leftovers.remove(&done.ticket);
            for (address, failure) in &done.failures {
                debug!(%address, "the kernel refused: {failure}");
            }
            return;
        };
        for (address, failure) in &done.failures {
            let name = self.name(router);
            match (kind, failure) {
                (JobKind::Claim, _) => {
                    let Some(state) = self.routers.get_mut(&router) else { continue };
                    let name = &state.config.name;
                    // One that is tried again and again is logged once.
                    let before = state.refusals.insert(address.ip, failure.to_string());
                    if before.is_none_or(|before| before != failure.to_string()) {
                        error!(router = %name, %address, "cannot claim {address}: {failure}");
                    }
                }
                // The interface's own events report the rest.
                (JobKind::Release, AddressError::NoDevice)
                | (
                    JobKind::Renew,
                    AddressError::Gone | AddressError::Late | AddressError::NoDevice,
                ) => {
                    debug!(router = name, %address, ?kind, "{failure}");
                }
                (JobKind::Release | JobKind::Renew, _) => {
                    warn!(router = name, %address, ?kind, "the kernel refused: {failure}");
                }
            }
        }
        if kind == JobKind::Renew {
            let counters = self.counters.of(router);
            if done.failures.is_empty() {
                let finished = self.clock.instant(done.finished);
                counters.renewal_lateness.note(finished - asked_at);
            } else {
                counters.renewals_failed += 1;
            }
        }
        let started = self.clock.instant(done.started);
        let failures = done.failures.iter().map(|(address, failure)| {
            let error = match failure {
                AddressError::AlreadyThere(_) => JobError::AlreadyThere,
                AddressError::Late => JobError::TooLate,
                AddressError::Gone | AddressError::NoDevice | AddressError::Os { .. } => {
                    JobError::Refused
                }
            };
            (address.ip, error)
        });
        self.finished(router, kind, started, failures);
    }

    fn finished(
        &mut self,
        router: RouterId,
        kind: JobKind,
        started: Instant,
        failures: impl Iterator<Item = (IpAddr, JobError)>,
    ) {
        let now = self.clock.now();
        let missing = self.delivery.finished(now, router, kind, started, failures);
        self.pending.extend(missing.into_iter().map(|ip| PendingEvent::AddressGone(router, ip)));
    }

    /// Removes an address that an earlier daemon left on an interface and that no virtual router is
    /// configured to hold now.
    pub(super) fn release_leftover(&mut self, left: &RecordedAddress) {
        let RecordedAddress { interface, address, mark } = left;
        let Some(index) = self.interfaces.index_of(interface) else { return };
        info!(interface, %address, "removing what an earlier daemon left");
        let ticket = self.next_ticket();
        self.leftovers.insert(ticket, left.clone());
        let addresses = Arc::from([*address]);
        let target = JobTarget { index, addresses, mark: *mark, ours: Arc::default() };
        self.worker.submit(WorkerJob { ticket, target, operation: Operation::Release });
    }

    pub(super) fn next_ticket(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    fn has_all(&mut self, id: RouterId, held: &Held) -> bool {
        let Some(state) = self.routers.get_mut(&id) else { return false };
        self.interfaces.has_all(held, &mut state.intact)
    }

    fn name(&self, id: RouterId) -> &str {
        self.routers.get(&id).map_or("", |state| &state.config.name)
    }

    // ---- changes of role -------------------------------------------------------------------

    /// Logs a change of role with its one line, puts it into the history and the record, and runs
    /// the hooks that go with it.
    fn role_changed(&mut self, transition: &Transition) {
        let id = transition.router;
        let Some(state) = self.routers.get(&id) else { return };
        let config = Arc::clone(&state.config);
        info!(
            router = %config.name,
            from = %transition.from,
            to = %transition.to,
            priority = transition.priority.get(),
            "{}: {} -> {}: {}",
            config.name,
            transition.from,
            transition.to,
            transition.why
        );
        self.history.note(history::change(
            &config.name,
            transition.from.name(),
            transition.to.name(),
            transition.why.to_string(),
        ));
        let owner = self.hooks.owner(id, &config);
        let hook = self.hooks.master_hook(&owner);
        // If this cannot be written a restart begins as backup, or preempts.
        let _ = self.record.update(id, |entry| entry.role_changed(transition, hook));
        if transition.why == Why::Resumed {
            self.record.update_resumes(|resumes| resumes.note(clock::boottime()));
        }
        if !transition.hooks {
            return;
        }
        let members: Vec<&RouterConfig> = owner
            .members
            .iter()
            .filter_map(|member| Some(&*self.routers.get(member)?.config))
            .collect();
        match self.hooks.start(transition, owner, &members) {
            Started::Nothing => {}
            Started::AgreedAtOnce(outcome) => {
                self.pending.push_back(PendingEvent::HookFinished(id, outcome));
            }
            Started::Run(hook, owner) => {
                if hook == Hook::Master {
                    for member in &owner.members {
                        let _ = self.record.update(*member, RecordEntry::hook_started);
                    }
                }
                self.poll_helper();
            }
        }
    }
}
