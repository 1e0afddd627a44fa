//! Delivery: in which order the actions of virtual routers take effect on a machine whose netlink
//! worker may be slow.
//!
//! The election asks for actions without waiting for anything. Between it and the machine stands
//! [`Delivery`], which decides what may be carried out now, what has to wait for the worker, and
//! what is cancelled before it began; when a lease is too old to be renewed or relied on; whether
//! an address that disappeared was removed by another program or expired; and when the silence of
//! the worker or of the socket means that this host is late. It is pure, and the daemon and the
//! simulator both use it:
//!
//! * [`push`](Delivery::push) takes the actions of [`Node`],
//! * [`next`](Delivery::next) returns what to carry out, in order,
//! * [`sent`](Delivery::sent), [`claimed_part`](Delivery::claimed_part),
//!   [`finished`](Delivery::finished) and [`address_gone`](Delivery::address_gone) take what the
//!   machine answers,
//! * [`next_event`](Delivery::next_event) returns the resulting events for the election.
//!
//! # Order
//!
//! A claim or a release is a *job* of the worker. Until it has been answered, everything else of
//! the same virtual router waits in its queue, so an advert never promises an address that is not
//! there, and a hook for "backup" never runs while the address still is. Renewals are jobs too, but
//! nothing waits for them. What was requested earlier is carried out before a job is started.
//!
//! # Lease
//!
//! An address is claimed with a lifetime, after which the kernel removes it (unless the host owns
//! it). Each accepted advert renews that lifetime. A daemon that is slow must not advertise what the
//! kernel is about to remove, nor bring back by a late renewal what a peer has claimed meanwhile:
//! hence `LEASE_MARGIN` before each advert and `LEASE_GUARD` for each renewal.

mod batch;
mod encoded;
mod queue;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Action, ClaimError, Event, Held, Instant, LinkId, Node, Priority, RouterConfig, RouterId,
    SendError, Transition, VirtualRouter,
};
use batch::Batch;
pub use batch::{DueAdvert, DueAnnouncement};
pub use encoded::Encoded;
use queue::ActionQueue;

/// The kernel may remove an address this much before its lifetime ends. So an address that
/// disappears this shortly before the end of its lease was not removed by another program, and an
/// advert this shortly before it would promise an address that may be gone on arrival.
const LEASE_MARGIN: Duration = Duration::from_millis(100);
/// A renewal this shortly before the end of the lease is not carried out: it could bring back an
/// address that has gone, and that a peer has claimed.
const LEASE_GUARD: Duration = Duration::from_millis(50);

/// The actions of all virtual routers of a host on their way to the machine.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// Boxed, as half of a map's places are empty.
    routers: BTreeMap<RouterId, Box<RouterDelivery>>,
    /// What may be carried out now.
    batch: Batch,
    /// Jobs that are to be started, before anything else.
    jobs: VecDeque<Job>,
    /// Routers whose queue resumes as soon as the batch has been carried out.
    blocked: Vec<RouterId>,
    events: VecDeque<Event<'static>>,
}

/// What a driver has to carry out next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send these adverts, those of one [socket](DueAdvert::socket) together; report each by
    /// [`Delivery::sent`]. At most one of each virtual router.
    Advertise(Vec<DueAdvert>),
    /// Announce these addresses, those of one link together.
    Announce(Vec<DueAnnouncement>),
    /// Log these changes of role and run their hooks.
    Notify(Vec<Transition>),
    /// Have the worker do this; report its end by [`Delivery::finished`].
    Start(Job),
}

/// Something for the netlink worker to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub router: RouterId,
    pub held: Held,
    pub work: Work,
}

/// What the worker does with the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    Claim {
        /// In seconds; `None`: until they are removed.
        lifetime: Option<u32>,
    },
    /// Remove those that are ours.
    Release,
    /// Restart their lifetime.
    Renew {
        /// In seconds.
        lifetime: u32,
        /// Later than this nothing is renewed, and the job fails with [`JobError::TooLate`].
        not_after: Instant,
    },
}

impl Work {
    pub fn kind(&self) -> JobKind {
        match self {
            Work::Claim { .. } => JobKind::Claim,
            Work::Release => JobKind::Release,
            Work::Renew { .. } => JobKind::Renew,
        }
    }
}

/// The kinds of [`Work`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    Claim,
    Release,
    Renew,
}

/// Why the worker could not do a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobError {
    /// An address is there already and was not added for this virtual router.
    AlreadyThere,
    /// The renewal came too late.
    TooLate,
    /// The kernel refused, or the interface is gone.
    Refused,
}

impl JobError {
    /// What it means for an address that was to be added.
    fn of_claim(self) -> ClaimError {
        match self {
            JobError::AlreadyThere => ClaimError::AlreadyThere,
            JobError::TooLate | JobError::Refused => ClaimError::Refused,
        }
    }
}

/// What is under way for one virtual router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RouterDelivery {
    /// The interface of its adverts.
    link: LinkId,
    config: Arc<RouterConfig>,
    /// The job that everything else waits for: a claim or a release.
    job: Option<JobKind>,
    /// It is a claim of everything that is held.
    claims_all: bool,
    queue: ActionQueue,
    /// One of its adverts is in the batch. A second one has to wait until that has been sent.
    advert_in_batch: bool,
    /// How many of the addresses of the claim under way have been announced already.
    announced: usize,
    /// When the kernel last accepted an advert, or a claim of everything was started: from then on
    /// peers, and we, wait for three intervals.
    accepted_at: Instant,
    /// Whether the kernel accepted the newest advert: only then is the lease renewed.
    accepted: bool,
    /// The last advert was refused by every destination, also that of an earlier takeover.
    mute: bool,
    /// Addresses that disappeared while a job was under way, perhaps because of it.
    missing: Vec<IpAddr>,
    /// A renewal is under way; one at a time is enough.
    renewing: bool,
    /// When the worker began the last renewal, or claim of everything, that is known to have
    /// succeeded.
    renewed_at: Instant,
}

impl Delivery {
    /// Takes an action of the election. Warnings need no delivery and are ignored.
    ///
    /// Returns whether [`next`](Self::next) must be called until it returns `None` before the next
    /// action is pushed: the action has to wait until what was requested before it has been carried
    /// out.
    #[must_use]
    pub fn push(&mut self, now: Instant, action: Action, node: &Node) -> bool {
        let id = action.router();
        let router = node.router(id);
        let delivery = match (router, self.routers.get_mut(&id)) {
            (Some(router), Some(delivery)) => {
                delivery.reconfigure(router);
                delivery
            }
            // The node may have forgotten a removed router whose last actions are still to come.
            (None, Some(delivery)) => delivery,
            (Some(router), None) => {
                let new = Box::new(RouterDelivery::new(router, now));
                self.routers.entry(id).or_insert(new)
            }
            (None, None) => return false,
        };
        if delivery.is_idle() {
            return self.carry_out(now, id, action);
        }
        let waits_for_worker = delivery.job.is_some();
        if waits_for_worker
            && matches!(action, Action::Advertise { .. })
            && delivery.is_overdue(now)
        {
            self.events.push_back(Event::Late(id));
        }
        delivery.queue.push(action);
        !waits_for_worker
    }

    /// What to carry out next. `now` is read just before the call.
    ///
    /// Give vectors back by [`recycle`](Self::recycle), so that adverts allocate nothing.
    pub fn next(&mut self, now: Instant) -> Option<Output> {
        loop {
            if let Some(job) = self.next_job() {
                return Some(Output::Start(job));
            }
            if !self.batch.adverts.is_empty() {
                let mut adverts = std::mem::take(&mut self.batch.adverts);
                adverts.retain(|advert| self.may_leave(now, advert));
                if !adverts.is_sorted_by_key(DueAdvert::socket) {
                    adverts.sort_unstable_by_key(DueAdvert::socket);
                }
                return Some(Output::Advertise(adverts));
            }
            if let Some((id, held, lifetime)) = self.batch.renewals.pop_front() {
                self.renew(id, held, lifetime);
                continue;
            }
            if !self.batch.announcements.is_empty() {
                let mut due = std::mem::take(&mut self.batch.announcements);
                due.retain(|due| self.may_be_announced(now, due.router));
                if !due.is_sorted_by_key(|due| due.held.link) {
                    due.sort_by_key(|due| due.held.link);
                }
                return Some(Output::Announce(due));
            }
            if !self.batch.transitions.is_empty() {
                return Some(Output::Notify(std::mem::take(&mut self.batch.transitions)));
            }
            let id = self.blocked.pop()?;
            self.resume(now, id);
        }
    }

    /// The next job, which can be started although other things are due: what was requested before
    /// it has been carried out already.
    pub fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Takes back the vectors of an output that was carried out.
    pub fn recycle(&mut self, output: Output) {
        match output {
            Output::Advertise(mut adverts) => {
                adverts.clear();
                if self.batch.adverts.is_empty() {
                    self.batch.adverts = adverts;
                }
            }
            Output::Announce(mut announcements) => {
                announcements.clear();
                if self.batch.announcements.is_empty() {
                    self.batch.announcements = announcements;
                }
            }
            Output::Notify(mut transitions) => {
                transitions.clear();
                if self.batch.transitions.is_empty() {
                    self.batch.transitions = transitions;
                }
            }
            Output::Start(_) => {}
        }
    }

    /// The next event for the election.
    pub fn next_event(&mut self) -> Option<Event<'static>> {
        self.events.pop_front()
    }

    /// An advert has been handed to the kernel, which refused it for these destinations. Returns
    /// whether it counts as sent: at least one destination took it, or there is none, as in a list of
    /// peers that names only this host.
    ///
    /// If none did, no lease is renewed; a takeover is called off before anything is announced, and
    /// a master gives up after as long as its peers wait.
    pub fn sent(
        &mut self,
        now: Instant,
        advert: &DueAdvert,
        refused: impl IntoIterator<Item = (IpAddr, SendError)>,
    ) -> bool {
        let id = advert.router;
        let mut count = 0;
        for (to, error) in refused {
            count += 1;
            self.events.push_back(Event::AdvertRefused(id, to, error));
        }
        let accepted = count < advert.to.len() || advert.to.is_empty();
        let Some(delivery) = self.routers.get_mut(&id) else { return accepted };
        delivery.accepted = accepted;
        delivery.mute = !accepted;
        if accepted {
            delivery.accepted_at = now;
        } else if self.batch.call_off_takeover(id) || delivery.is_overdue(now) {
            self.events.push_back(Event::AdvertsRefused(id));
        }
        accepted
    }

    /// The worker has added a part of the addresses of a claim. A client of one of many addresses
    /// need not wait for all of them, so this part is announced at once, unless it is known that no
    /// advert leaves, so that the takeover may be called off.
    pub fn claimed_part(&mut self, id: RouterId, part: Range<usize>) {
        let Some(delivery) = self.routers.get_mut(&id) else { return };
        if let Some(held) = delivery.queue.announcement().cloned()
            && delivery.job == Some(JobKind::Claim)
            && delivery.announced == part.start
            && !delivery.mute
        {
            delivery.announced = part.end;
            self.batch.announcements.push(DueAnnouncement {
                router: id,
                held,
                part,
                completes_round: false,
                probe: false,
            });
        }
    }

    /// A job has ended that the worker began at `started`, with these failures. A job for an interface
    /// that does not exist ends at once and is refused for each address. A claim that failed for an
    /// advertised address has failed, and the first of these failures counts; without an unadvertised
    /// one the others are served. A renewal that was too late for one address was too late.
    ///
    /// Returns the addresses that disappeared while it was under way: those that are still missing
    /// are to be reported by [`address_gone`](Self::address_gone) once more.
    #[must_use]
    pub fn finished(
        &mut self,
        now: Instant,
        id: RouterId,
        kind: JobKind,
        started: Instant,
        mut failures: impl Iterator<Item = (IpAddr, JobError)>,
    ) -> Vec<IpAddr> {
        let Some(delivery) = self.routers.get_mut(&id) else { return Vec::new() };
        match kind {
            JobKind::Renew => {
                delivery.renewing = false;
                let failure = failures.next();
                if failure.is_none() {
                    delivery.renewed_at = delivery.renewed_at.max(started);
                } else if failure.into_iter().chain(failures).any(|(_, it)| it == JobError::TooLate)
                {
                    self.events.push_back(Event::LeaseRanOut(id));
                }
                // Other failures are reported as changes of the interface.
                return Vec::new();
            }
            JobKind::Claim => {
                let failures: Vec<(IpAddr, ClaimError)> =
                    failures.map(|(ip, error)| (ip, error.of_claim())).collect();
                let advertised = &delivery.config.addresses;
                let failed = failures
                    .iter()
                    .find(|(ip, _)| advertised.iter().any(|address| address.ip == *ip));
                if let Some((_, error)) = failed {
                    delivery.queue.claim_failed();
                    self.events.push_back(Event::ClaimFailed(id, *error));
                } else {
                    if delivery.claims_all {
                        delivery.renewed_at = started;
                    }
                    for (ip, error) in failures {
                        delivery.queue.leave_out(ip);
                        self.events.push_back(Event::Refused(id, ip, error));
                    }
                }
            }
            JobKind::Release => {}
        }
        delivery.job = None;
        let missing = std::mem::take(&mut delivery.missing);
        self.resume(now, id);
        missing
    }

    /// An address of a virtual router is no longer on its interface.
    ///
    /// While a job is under way it may be the cause, which its result will show. Otherwise the
    /// address was either not renewed in time, or another program on this host removed it.
    pub fn address_gone(&mut self, now: Instant, id: RouterId, ip: IpAddr) {
        let Some(delivery) = self.routers.get_mut(&id) else { return };
        if delivery.job.is_some() {
            delivery.missing.push(ip);
        } else if delivery.lease_ends_soon(now) {
            self.events.push_back(Event::LeaseRanOut(id));
        } else {
            self.events.push_back(Event::AddressLost(id, ip));
        }
    }

    /// Forgets virtual routers that the node has forgotten, once nothing of them is under way.
    pub fn forget_removed(&mut self, node: &Node) {
        self.routers.retain(|id, delivery| node.router(*id).is_some() || !delivery.is_idle());
    }

    /// Whether nothing waits for the worker.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.routers.values().all(|delivery| delivery.is_idle())
    }

    /// Whether nothing of this virtual router waits for the worker.
    pub fn is_idle_for(&self, id: RouterId) -> bool {
        self.routers.get(&id).is_none_or(|delivery| delivery.is_idle())
    }

    /// Whether nothing that is to be done on this link waits for anything.
    pub fn is_idle_on(&self, link: LinkId) -> bool {
        let idle = |delivery: &RouterDelivery| delivery.link != link || delivery.is_idle();
        self.jobs.is_empty() && self.routers.values().all(|delivery| idle(delivery))
    }

    /// When the kernel removes the addresses of a virtual router unless they are renewed.
    pub fn lease_until(&self, id: RouterId) -> Option<Instant> {
        let delivery = self.routers.get(&id)?;
        Some(delivery.renewed_at + delivery.lease()?)
    }

    /// Carries out what is queued for this router, until a job of it is under way again.
    fn resume(&mut self, now: Instant, id: RouterId) {
        while let Some(delivery) = self.routers.get_mut(&id) {
            if delivery.job.is_some() {
                return;
            }
            let Some(action) = delivery.queue.pop() else { return };
            if self.carry_out(now, id, action) {
                return;
            }
        }
    }

    /// Puts an action into the batch, or starts it as a job. Returns whether it was put back into
    /// the queue because the batch has to be carried out first.
    fn carry_out(&mut self, now: Instant, id: RouterId, action: Action) -> bool {
        let Some(delivery) = self.routers.get_mut(&id) else { return false };
        let waits = match &action {
            Action::Advertise { .. } => delivery.advert_in_batch,
            // Adverts queued before a job must be sent before it starts.
            Action::Claim { .. } | Action::Release { .. } => !self.batch.is_empty(),
            Action::Announce { .. }
            | Action::Notify(_)
            | Action::Renew { .. }
            | Action::Warn { .. } => false,
        };
        if waits {
            delivery.queue.put_back(action);
            self.blocked.push(id);
            return true;
        }
        let (held, work) = match action {
            Action::Advertise { from, to, advert, due, .. } => {
                delivery.advert_in_batch = true;
                let due = DueAdvert { link: delivery.link, router: id, from, to, advert, due };
                self.batch.adverts.push(due);
                return false;
            }
            Action::Announce { held, probe, .. } => {
                let part = delivery.announced..held.addresses.len();
                delivery.announced = 0;
                self.batch.announcements.push(DueAnnouncement {
                    router: id,
                    held,
                    part,
                    completes_round: true,
                    probe,
                });
                return false;
            }
            Action::Notify(transition) => {
                self.batch.transitions.push(transition);
                return false;
            }
            Action::Renew { held, lifetime, .. } => {
                self.batch.renewals.push_back((id, held, lifetime));
                return false;
            }
            Action::Warn { .. } => return false,
            Action::Claim { held, lifetime, all, .. } => {
                delivery.claims_all = all;
                if all {
                    delivery.accepted_at = now;
                }
                (held, Work::Claim { lifetime })
            }
            Action::Release { held, .. } => (held, Work::Release),
        };
        delivery.announced = 0;
        delivery.job = Some(work.kind());
        self.jobs.push_back(Job { router: id, held, work });
        false
    }

    /// Whether an advert may be sent. Near the end of the lease it would promise addresses that may
    /// be gone on arrival; priority 0 promises nothing.
    fn may_leave(&mut self, now: Instant, advert: &DueAdvert) -> bool {
        let Some(delivery) = self.routers.get_mut(&advert.router) else { return false };
        delivery.advert_in_batch = false;
        if delivery.lease_ends_soon(now) && advert.advert.priority != Priority::LEAVING {
            delivery.accepted = false;
            self.events.push_back(Event::LeaseRanOut(advert.router));
            return false;
        }
        true
    }

    /// Whether addresses may be announced: not near the end of the lease, as with adverts. While they
    /// are being claimed those that have been added are.
    fn may_be_announced(&self, now: Instant, id: RouterId) -> bool {
        let Some(delivery) = self.routers.get(&id) else { return false };
        delivery.job.is_some() || !delivery.lease_ends_soon(now)
    }

    /// Starts a renewal, if the advert before it was accepted and none is under way.
    fn renew(&mut self, id: RouterId, held: Held, lifetime: u32) {
        let Some(delivery) = self.routers.get_mut(&id) else { return };
        if !delivery.accepted || delivery.renewing {
            return;
        }
        delivery.renewing = true;
        let lease = Duration::from_secs(lifetime.into());
        let not_after = (delivery.renewed_at + lease).before(LEASE_GUARD);
        let work = Work::Renew { lifetime, not_after };
        self.jobs.push_back(Job { router: id, held, work });
    }
}

impl RouterDelivery {
    fn new(router: &VirtualRouter, now: Instant) -> Self {
        RouterDelivery {
            link: router.link(),
            config: Arc::clone(router.config()),
            job: None,
            claims_all: false,
            queue: ActionQueue::default(),
            advert_in_batch: false,
            announced: 0,
            accepted_at: now,
            accepted: false,
            mute: false,
            missing: Vec::new(),
            renewing: false,
            renewed_at: now,
        }
    }

    fn reconfigure(&mut self, router: &VirtualRouter) {
        if !Arc::ptr_eq(&self.config, router.config()) {
            self.config = Arc::clone(router.config());
        }
    }

    fn is_idle(&self) -> bool {
        self.job.is_none() && self.queue.is_empty()
    }

    /// The lifetime that its addresses were claimed with. Those of an owner are the host's own, and
    /// do not expire.
    fn lease(&self) -> Option<Duration> {
        let owner = self.config.priority == Priority::OWNER;
        let lifetime = self.config.address_lifetime.filter(|_| !owner)?;
        Some(Duration::from_secs(lifetime.into()))
    }

    fn lease_ends_soon(&self, now: Instant) -> bool {
        self.lease().is_some_and(|lease| now >= (self.renewed_at + lease).before(LEASE_MARGIN))
    }

    /// Whether the kernel has accepted no advert for as long as peers wait.
    fn is_overdue(&self, now: Instant) -> bool {
        now - self.accepted_at >= self.config.advert_interval.peer_timeout()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::iter::empty;

    use super::*;
    use crate::vrrp::{Advert, Config, LinkState, Recorded, Role, Why};

    const ROUTER: RouterId = RouterId(0);
    const REFUSED: &str = "AdvertRefused(RouterId(0), 224.0.0.18, Full)";

    /// A master with adverts every second and addresses that last two seconds.
    struct Master {
        node: Node,
        delivery: Delivery,
        now: Instant,
        to_do: Vec<Action>,
    }

    impl Master {
        fn new() -> Self {
            Master::of(RouterConfig::sample(&["192.0.2.10"]))
        }

        fn of(web: RouterConfig) -> Self {
            let config = Config { routers: vec![web], ..Config::default() };
            let mut master = Master {
                node: Node::new(&config),
                delivery: Delivery::default(),
                now: Instant::START + Duration::from_secs(1),
                to_do: Vec::new(),
            };
            master.feed(Event::Found(ROUTER, Recorded::default()));
            let own = crate::vrrp::LinkAddress::of_host("192.0.2.1".parse().unwrap(), 24);
            let state = LinkState { up: true, addresses: &[own], ..LinkState::default() };
            master.feed(Event::Link { link: LinkId(0), state: Some(state) });
            while master.node.router(ROUTER).unwrap().role() != Role::Master {
                master.now = master.node.deadline().unwrap();
                master.feed(Event::Timeout);
            }
            master
        }

        fn feed(&mut self, event: Event<'_>) {
            self.node.handle(self.now, event, &mut self.to_do).unwrap();
        }

        /// Pushes what the election asked for, and returns what is carried out.
        fn carries_out(&mut self) -> Vec<Output> {
            let mut outputs = Vec::new();
            for action in std::mem::take(&mut self.to_do) {
                if self.delivery.push(self.now, action, &self.node) {
                    outputs.extend(std::iter::from_fn(|| self.delivery.next(self.now)));
                }
            }
            outputs.extend(std::iter::from_fn(|| self.delivery.next(self.now)));
            outputs
        }

        fn finishes(&mut self, kind: JobKind, failure: Option<JobError>) {
            let ip = "192.0.2.10".parse().unwrap();
            let failures = failure.into_iter().map(|failure| (ip, failure));
            let missing = self.delivery.finished(self.now, ROUTER, kind, self.now, failures);
            assert!(missing.is_empty());
        }

        /// The claim is answered, and the first advert accepted.
        fn stable() -> Self {
            let mut master = Master::new();
            assert_eq!(kinds(&master.carries_out()), ["notify", "claim"]);
            master.finishes(JobKind::Claim, None);
            assert_eq!(kinds(&master.carries_out()), ["advertise", "announce", "notify"]);
            master.sent(master.now, true);
            assert_eq!(master.next_event(), None);
            master
        }

        /// The kernel takes an advert, or its destination refuses it.
        fn sent(&mut self, now: Instant, accepted: bool) {
            let due = self.due();
            let refused = due.to.iter().map(|to| (*to, SendError::Full));
            let refused: Vec<_> = refused.filter(|_| !accepted).collect();
            assert_eq!(self.delivery.sent(now, &due, refused), accepted);
        }

        fn due(&self) -> DueAdvert {
            let Action::Advertise { router, from, to, advert, due } =
                self.advert(Priority::new(100))
            else {
                unreachable!()
            };
            DueAdvert { link: LinkId(0), router, from, to, advert, due }
        }

        /// At most this many things that are to be carried out.
        fn next(&mut self, most: usize) -> Vec<Output> {
            std::iter::from_fn(|| self.delivery.next(self.now)).take(most).collect()
        }

        fn next_event(&mut self) -> Option<String> {
            self.delivery.next_event().map(|event| format!("{event:?}"))
        }

        fn advert(&self, priority: Priority) -> Action {
            let router = self.node.router(ROUTER).unwrap();
            let config = router.config();
            let advert = Advert {
                version: config.version,
                vrid: config.vrid,
                priority,
                interval: config.advert_interval,
                addresses: config.addresses.clone(),
                checksum: config.checksum,
                authentication: None,
            };
            let to: Arc<[IpAddr]> = Arc::from([config.family.multicast_group()]);
            let from = router.source().unwrap();
            Action::Advertise { router: ROUTER, from, to, advert, due: None }
        }

        fn renewal(&self) -> Action {
            let held = self.node.router(ROUTER).unwrap().holding().held().clone();
            Action::Renew { router: ROUTER, held, lifetime: 2 }
        }
    }

    fn kinds(outputs: &[Output]) -> Vec<&'static str> {
        let kind = |output: &Output| match output {
            Output::Advertise(adverts) if adverts.is_empty() => "advertise nothing",
            Output::Advertise(_) => "advertise",
            Output::Announce(due) if due.is_empty() => "announce nothing",
            Output::Announce(_) => "announce",
            Output::Notify(_) => "notify",
            Output::Start(job) => match job.work.kind() {
                JobKind::Claim => "claim",
                JobKind::Release => "release",
                JobKind::Renew => "renew",
            },
        };
        outputs.iter().map(kind).collect()
    }

    #[test]
    fn everything_waits_for_the_claim_and_leaves_in_order_after_it() {
        Master::stable();
    }

    #[test]
    fn a_failed_claim_is_reported_and_cancels_what_followed() {
        let mut master = Master::new();
        master.carries_out();
        master.finishes(JobKind::Claim, Some(JobError::AlreadyThere));
        assert_eq!(master.next_event().unwrap(), "ClaimFailed(RouterId(0), AlreadyThere)");
        let [Output::Notify(transitions)] = &master.carries_out()[..] else {
            panic!("only the change of role is told")
        };
        assert!(transitions.iter().all(|transition| !transition.hooks));
    }

    #[test]
    fn a_claim_without_an_unadvertised_address_has_succeeded_for_the_others() {
        let (ip, rider): (IpAddr, IpAddr) =
            ("192.0.2.10".parse().unwrap(), "192.0.2.11".parse().unwrap());
        let mut web = RouterConfig::sample(&["192.0.2.10"]);
        web.unadvertised_addresses = Arc::from([crate::vrrp::Address::host(rider)]);
        let mut master = Master::of(web);
        master.carries_out();
        let failures = [(rider, JobError::Refused)].into_iter();
        let started = master.now + Duration::from_millis(1);
        master.now = started + Duration::from_millis(1);
        let missing =
            master.delivery.finished(master.now, ROUTER, JobKind::Claim, started, failures);
        assert!(missing.is_empty());
        assert_eq!(master.next_event().unwrap(), "Refused(RouterId(0), 192.0.2.11, Refused)");
        let until = started + Duration::from_secs(2);
        assert_eq!(master.delivery.lease_until(ROUTER), Some(until));
        let [Output::Advertise(_), Output::Announce(due), Output::Notify(transitions)] =
            &master.carries_out()[..]
        else {
            panic!("it is master")
        };
        assert!(transitions.iter().all(|transition| transition.hooks));
        let announced: Vec<IpAddr> = due.iter().flat_map(DueAnnouncement::ips).collect();
        assert_eq!(announced, [ip]);
    }

    #[test]
    fn a_claim_of_one_address_renews_no_other() {
        let mut master = Master::stable();
        let until = master.delivery.lease_until(ROUTER);
        let begun = master.now;
        master.now = begun + Duration::from_secs(1);
        let ip = "192.0.2.10".parse().unwrap();
        master.delivery.address_gone(master.now, ROUTER, ip);
        let event = master.delivery.next_event().unwrap();
        master.feed(event);
        master.carries_out();
        master.finishes(JobKind::Claim, None);
        assert_eq!(master.delivery.lease_until(ROUTER), until);
        master.sent(begun + Duration::from_secs(3), false);
        assert_eq!(master.next_event().unwrap(), REFUSED);
        assert_eq!(master.next_event().unwrap(), "AdvertsRefused(RouterId(0))");
    }

    #[test]
    fn an_accepted_advert_is_renewed_once_at_a_time_and_a_refused_one_is_not() {
        let mut master = Master::stable();
        let push = |master: &mut Master| {
            master.to_do = vec![master.advert(Priority::new(100)), master.renewal()];
            let mut seen = Vec::new();
            for action in std::mem::take(&mut master.to_do) {
                assert!(!master.delivery.push(master.now, action, &master.node));
            }
            while let Some(output) = master.delivery.next(master.now) {
                seen.push(output.clone());
                if let Output::Advertise(_) = &output {
                    break;
                }
            }
            seen
        };
        assert_eq!(kinds(&push(&mut master)), ["advertise"]);
        master.sent(master.now, false);
        assert_eq!(master.next_event().unwrap(), REFUSED);
        assert_eq!(kinds(&master.carries_out()), [] as [&str; 0]);
        assert_eq!(kinds(&push(&mut master)), ["advertise"]);
        master.sent(master.now, true);
        assert_eq!(kinds(&master.carries_out()), ["renew"]);
        push(&mut master);
        master.sent(master.now, true);
        assert_eq!(kinds(&master.carries_out()), [] as [&str; 0]);
        master.finishes(JobKind::Renew, None);
        push(&mut master);
        master.sent(master.now, true);
        assert_eq!(kinds(&master.carries_out()), ["renew"]);
        master.finishes(JobKind::Renew, Some(JobError::TooLate));
        assert_eq!(master.next_event().unwrap(), "LeaseRanOut(RouterId(0))");
    }

    #[test]
    fn a_renewal_is_not_carried_out_in_the_last_50_ms_of_the_lease() {
        let mut master = Master::stable();
        let until = master.delivery.lease_until(ROUTER).unwrap();
        assert_eq!(until, master.now + Duration::from_secs(2));
        master.to_do = vec![master.renewal()];
        let [Output::Start(job)] = &master.carries_out()[..] else { panic!("a renewal") };
        let Work::Renew { not_after, .. } = job.work else { panic!("a renewal") };
        assert_eq!(not_after, until.before(Duration::from_millis(50)));
    }

    #[test]
    fn a_lease_counts_from_when_the_worker_began_the_claim_or_the_renewal() {
        let mut master = Master::new();
        master.carries_out();
        for kind in [JobKind::Claim, JobKind::Renew] {
            let started = master.now;
            master.now = started + Duration::from_millis(500);
            let missing = master.delivery.finished(master.now, ROUTER, kind, started, empty());
            assert!(missing.is_empty());
            let until = started + Duration::from_secs(2);
            assert_eq!(master.delivery.lease_until(ROUTER), Some(until), "{kind:?}");
        }
    }

    #[test]
    fn of_the_failures_of_a_renewal_one_that_was_too_late_counts() {
        let mut master = Master::stable();
        let ip: IpAddr = "192.0.2.10".parse().unwrap();
        let failures = |second| [(ip, JobError::Refused), (ip, second)].into_iter();
        let now = master.now;
        let mut finished = |failures: std::array::IntoIter<(IpAddr, JobError), 2>| {
            let missing = master.delivery.finished(now, ROUTER, JobKind::Renew, now, failures);
            assert!(missing.is_empty());
            master.next_event()
        };
        assert_eq!(finished(failures(JobError::AlreadyThere)), None);
        assert_eq!(finished(failures(JobError::TooLate)).unwrap(), "LeaseRanOut(RouterId(0))");
    }

    #[test]
    fn no_advert_leaves_in_the_last_100_ms_of_the_lease_but_priority_0_does() {
        let nano = Duration::from_nanos(1);
        let mut master = Master::stable();
        let late = (master.now + Duration::from_secs(2)).before(Duration::from_millis(100));
        master.now = late.before(nano);
        master.to_do = vec![master.advert(Priority::new(100))];
        assert_eq!(kinds(&master.carries_out()), ["advertise"]);
        master.now = late;
        master.to_do = vec![master.advert(Priority::LEAVING)];
        assert_eq!(kinds(&master.carries_out()), ["advertise"]);
        assert_eq!(master.next_event(), None);
        master.to_do = vec![master.advert(Priority::new(100))];
        assert_eq!(kinds(&master.carries_out()), ["advertise nothing"]);
        assert_eq!(master.next_event().unwrap(), "LeaseRanOut(RouterId(0))");
    }

    #[test]
    fn nothing_is_announced_in_the_last_100_ms_of_the_lease() {
        let mut master = Master::stable();
        let late = (master.now + Duration::from_secs(2)).before(Duration::from_millis(100));
        for (now, announced) in
            [(late.before(Duration::from_nanos(1)), "announce"), (late, "announce nothing")]
        {
            master.now = now;
            let held = master.node.router(ROUTER).unwrap().holding().held().clone();
            master.to_do = vec![Action::Announce { router: ROUTER, held, probe: false }];
            assert_eq!(kinds(&master.carries_out()), [announced]);
        }
    }

    #[test]
    fn an_address_removed_in_the_last_100_ms_of_its_lease_has_expired() {
        let ip = "192.0.2.10".parse().unwrap();
        let mut master = Master::stable();
        let late = (master.now + Duration::from_secs(2)).before(Duration::from_millis(100));
        master.delivery.address_gone(late.before(Duration::from_nanos(1)), ROUTER, ip);
        assert_eq!(master.next_event().unwrap(), "AddressLost(RouterId(0), 192.0.2.10)");
        master.delivery.address_gone(late, ROUTER, ip);
        assert_eq!(master.next_event().unwrap(), "LeaseRanOut(RouterId(0))");
    }

    #[test]
    fn an_address_that_goes_during_a_job_is_checked_again_after_it() {
        let ip = "192.0.2.10".parse().unwrap();
        let mut master = Master::new();
        master.carries_out();
        master.delivery.address_gone(master.now, ROUTER, ip);
        assert_eq!(master.next_event(), None);
        let now = master.now;
        let missing = master.delivery.finished(now, ROUTER, JobKind::Claim, now, empty());
        assert_eq!(missing, [ip]);
    }

    #[test]
    fn a_worker_without_an_answer_for_three_intervals_makes_the_next_advert_late() {
        let mut master = Master::new();
        master.carries_out();
        let begun = master.now;
        master.now = (begun + Duration::from_secs(3)).before(Duration::from_nanos(1));
        master.to_do = vec![master.advert(Priority::new(100))];
        assert_eq!(kinds(&master.carries_out()), [] as [&str; 0]);
        assert_eq!(master.next_event(), None);
        master.now = begun + Duration::from_secs(3);
        master.to_do = vec![master.advert(Priority::new(100))];
        master.carries_out();
        assert_eq!(master.next_event().unwrap(), "Late(RouterId(0))");
    }

    #[test]
    fn a_master_whose_adverts_are_refused_for_three_intervals_is_told() {
        let mut master = Master::stable();
        let begun = master.now;
        let late = begun + Duration::from_secs(3);
        master.sent(late.before(Duration::from_nanos(1)), false);
        assert_eq!(master.next_event().unwrap(), REFUSED);
        assert_eq!(master.next_event(), None);
        master.sent(late, false);
        assert_eq!(master.next_event().unwrap(), REFUSED);
        assert_eq!(master.next_event().unwrap(), "AdvertsRefused(RouterId(0))");
    }

    #[test]
    fn an_advert_that_one_of_two_destinations_takes_counts_as_sent() {
        let mut master = Master::stable();
        let peers: [IpAddr; 2] = ["192.0.2.2".parse().unwrap(), "192.0.2.3".parse().unwrap()];
        let due = DueAdvert { to: Arc::from(peers), ..master.due() };
        let late = master.now + Duration::from_secs(3);
        let refuses = |to| (to, SendError::Filtered);
        assert!(master.delivery.sent(late, &due, [refuses(peers[1])]));
        assert!(master.next_event().unwrap().contains("AdvertRefused(RouterId(0), 192.0.2.3"));
        assert_eq!(master.next_event(), None);
        assert!(!master.delivery.sent(late, &due, peers.map(refuses)));
        master.to_do = vec![master.advert(Priority::new(100)), master.renewal()];
        assert_eq!(kinds(&master.carries_out()), ["advertise"], "nothing is renewed");
    }

    #[test]
    fn an_advert_without_destinations_counts_as_sent() {
        let mut master = Master::stable();
        let due = DueAdvert { to: Arc::from([]), ..master.due() };
        let late = master.now + Duration::from_secs(3);
        assert!(master.delivery.sent(late, &due, []));
        assert_eq!(master.next_event(), None);
    }

    #[test]
    fn a_takeover_whose_first_advert_is_refused_is_called_off_before_it_is_announced() {
        let mut master = Master::new();
        master.carries_out();
        master.finishes(JobKind::Claim, None);
        assert_eq!(kinds(&master.next(1)), ["advertise"]);
        master.sent(master.now, false);
        assert_eq!(master.next_event().unwrap(), REFUSED);
        assert_eq!(master.next_event().unwrap(), "AdvertsRefused(RouterId(0))");
        let [Output::Notify(transitions)] = &master.next(9)[..] else {
            panic!("only the change of role is told")
        };
        assert!(transitions.iter().all(|transition| !transition.hooks));
        // Part of the next one is not announced before its advert has left.
        master.feed(Event::AdvertsRefused(ROUTER));
        assert_eq!(kinds(&master.carries_out()), ["release", "notify"][..1]);
        master.finishes(JobKind::Release, None);
        master.carries_out();
        while master.node.router(ROUTER).unwrap().role() != Role::Master {
            master.now = master.node.deadline().unwrap();
            master.feed(Event::Timeout);
        }
        master.carries_out();
        master.delivery.claimed_part(ROUTER, 0..1);
        assert_eq!(kinds(&master.next(9)), [] as [&str; 0]);
    }

    #[test]
    fn a_master_that_resumes_is_not_called_off_by_a_refusal() {
        let mut master = Master::new();
        master.to_do.retain_mut(|action| {
            if let Action::Notify(transition) = action {
                transition.why = Why::Resumed;
            }
            true
        });
        master.carries_out();
        master.finishes(JobKind::Claim, None);
        assert_eq!(kinds(&master.next(1)), ["advertise"]);
        master.sent(master.now, false);
        assert_eq!(master.next_event().unwrap(), REFUSED);
        assert_eq!(master.next_event(), None);
        assert_eq!(kinds(&master.next(9)), ["announce", "notify"]);
    }

    #[test]
    fn a_job_waits_until_what_was_asked_for_before_has_left() {
        let mut master = Master::stable();
        let held = master.node.router(ROUTER).unwrap().holding().held().clone();
        let priority_zero = master.advert(Priority::LEAVING);
        assert!(!master.delivery.push(master.now, priority_zero, &master.node));
        let release = Action::Release { router: ROUTER, held };
        assert!(master.delivery.push(master.now, release, &master.node), "to be flushed first");
        assert_eq!(master.delivery.next_job(), None);
        assert_eq!(kinds(&master.carries_out()), ["advertise", "release"]);
    }

    #[test]
    fn each_part_of_a_long_claim_is_announced_once() {
        let mut master = Master::new();
        master.carries_out();
        master.delivery.claimed_part(ROUTER, 0..1);
        master.delivery.claimed_part(ROUTER, 0..1);
        let [Output::Announce(due)] = &master.carries_out()[..] else { panic!("one announcement") };
        let parts: Vec<_> = due.iter().map(|due| due.part.clone()).collect();
        assert_eq!((parts.len(), parts.first()), (1, Some(&(0..1))));
    }

    #[test]
    fn the_last_actions_of_a_removed_router_are_carried_out() {
        let mut master = Master::new();
        master.carries_out();
        let nobody = Node::new(&Config::default());
        master.delivery.forget_removed(&nobody);
        master.finishes(JobKind::Claim, None);
        assert_eq!(kinds(&master.carries_out()), ["advertise", "announce", "notify"]);
        master.delivery.forget_removed(&nobody);
        assert_eq!(master.delivery.lease_until(ROUTER), None);
    }

    #[test]
    fn two_adverts_of_one_router_leave_one_after_the_other() {
        let mut master = Master::stable();
        let (one, zero) = (master.advert(Priority::new(100)), master.advert(Priority::LEAVING));
        assert!(!master.delivery.push(master.now, one, &master.node));
        assert!(master.delivery.push(master.now, zero, &master.node), "to be flushed first");
        assert_eq!(kinds(&master.carries_out()), ["advertise", "advertise"]);
    }
}
