//! What a node must never do, whatever happens to it: checked at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use vipd::vrrp::{
    Action, Drain, Event, Instant, Node, Phase, Priority, Reason, Role, RouterId, State,
    VirtualRouter, Why,
};

/// Takeovers older than this do not delay others.
const MEMORY: Duration = Duration::from_secs(110);
/// The longest that takeovers delay another one.
const DAMPED: Duration = Duration::from_secs(8);

#[derive(Debug, Default)]
struct Router {
    /// What claims and releases add up to.
    claimed: BTreeSet<IpAddr>,
    adverts: VecDeque<Instant>,
    renewals: VecDeque<Instant>,
    priority_zero_at: Option<Instant>,
    rounds: VecDeque<Instant>,
    /// Within the last minute or so.
    takeovers: VecDeque<Instant>,
    role: Option<Role>,
    /// The latest moment until which it may wait before it takes over.
    patience: Instant,
}

#[derive(Debug)]
pub struct Watch {
    routers: BTreeMap<RouterId, Router>,
}

impl Watch {
    pub fn new(node: &Node) -> Self {
        Watch { routers: node.routers().map(|router| (router.id(), Router::default())).collect() }
    }

    /// One event and its actions. `late`: how late a deadline may be acted on; `excused`: the
    /// daemon has just been frozen.
    pub fn step(
        &mut self,
        now: Instant,
        event: &Event<'_>,
        actions: &[Action],
        node: &Node,
        late: Duration,
        excused: bool,
    ) -> Result<(), String> {
        let protocol = matches!(event, Event::Timeout | Event::Packet(_) | Event::Contention(_));
        let changes = matches!(event, Event::Reload(_) | Event::Command(_));
        for action in actions {
            self.action(now, action, node, late, protocol, changes, excused)?;
        }
        for router in node.routers() {
            let patience = self.patience(now, router, node);
            let seen = self.routers.entry(router.id()).or_default();
            seen.patience = patience;
            let priority = router.effective_priority();
            if priority == Priority::LEAVING {
                return Err("the effective priority is 0".to_owned());
            }
            let owner = router.config().priority == Priority::OWNER;
            let wanted: BTreeSet<IpAddr> = match router.has_addresses() {
                true => router.addresses().iter().map(|address| address.ip).collect(),
                false => BTreeSet::new(),
            };
            if !owner && seen.claimed != wanted {
                return Err(format!(
                    "{} has claimed {:?} and should have {wanted:?}",
                    router.role(),
                    seen.claimed
                ));
            }
            let lingers =
                matches!(router.state(), State::Leaving { phase: Phase::Succeeded { .. }, .. });
            if let Some(sent_at) = router.sent_at()
                && !lingers
                && !node.is_stopped()
            {
                let interval = router.config().advert_interval.duration();
                if !excused && !changes && now - sent_at > interval + late {
                    return Err(format!(
                        "{} has sent nothing for {:?}, its interval is {interval:?}",
                        router.role(),
                        now - sent_at
                    ));
                }
            }
            let is_fault = matches!(router.role(), Role::Fault | Role::Waiting);
            // A failing check does not end a planned leave: `before_release` may stop the service.
            let leaves_sick = router.role() == Role::Leaving
                && router
                    .fault_reasons()
                    .all(|reason| matches!(reason, Reason::Check(_) | Reason::Group(_)));
            let has_reasons = router.fault_reasons().next().is_some();
            if !leaves_sick && is_fault != (has_reasons && !is_stopped(router.role())) {
                let reasons: Vec<_> = router.fault_reasons().collect();
                return Err(format!("{} with reasons {reasons:?}", router.role()));
            }
            match router.state() {
                State::Backup { takeover_at: None } => {
                    if router.role() != Role::Stopped && node.drained() != Some(Drain::Force) {
                        return Err(
                            "a backup that is not drained by force never takes over".to_owned()
                        );
                    }
                }
                State::Backup { takeover_at: Some(at) } => {
                    if *at > patience {
                        let (waits, longest) = (*at - now, patience - now);
                        return Err(format!("a backup waits for {waits:?}, longest {longest:?}"));
                    }
                }
                State::Leaving { phase: Phase::Succeeded { .. }, .. } => {
                    let release_at = router.holding().release_at().ok_or("never releases")?;
                    if release_at - now > Duration::from_millis(5) {
                        return Err(format!("lingers for {:?}", release_at - now));
                    }
                }
                State::Leaving {
                    phase: Phase::Preparing { .. } | Phase::Offered { .. }, ..
                }
                | State::Fault
                | State::Claiming { .. }
                | State::Master { .. } => {}
            }
        }
        if matches!(event, Event::Timeout)
            && let Some(at) = node.deadline()
            && at <= now
        {
            return Err(format!("after a timeout at {now:?} the next one is due at {at:?}"));
        }
        let gone = |(id, seen): &(&RouterId, &Router)| {
            node.router(**id).is_none() && !seen.claimed.is_empty()
        };
        if let Some((id, seen)) = self.routers.iter().find(gone) {
            return Err(format!("{id:?} is gone and has not released {:?}", seen.claimed));
        }
        self.routers.retain(|id, _| node.router(*id).is_some());
        Ok(())
    }

    /// Until when this virtual router may wait: four intervals (the longest master-down interval) of
    /// the master that it hears or heard or of its own, and the delays after start and link-up. The
    /// members of a group wait for one another.
    fn patience(&self, now: Instant, router: &VirtualRouter, node: &Node) -> Instant {
        let longest = |router: &VirtualRouter| {
            let config = router.config();
            let known = self.routers.get(&router.id()).map_or(now, |seen| seen.patience);
            // The master-down interval has at least three intervals.
            let interval = config.advert_interval.duration().max(router.master_down() / 3);
            let waits = now + 4 * interval + config.start_delay.max(config.link_delay);
            let seen = self.routers.get(&router.id());
            let takeovers = seen.into_iter().flat_map(|seen| &seen.takeovers);
            let damped = takeovers.filter(|at| now - **at <= MEMORY).count() > 6;
            known.max(if damped { waits.max(now + DAMPED) } else { waits })
        };
        let group = node.group_of(router.id());
        let members = group.into_iter().flat_map(|group| group.members());
        let members = members.filter_map(|id| node.router(*id));
        members.map(longest).fold(longest(router), Instant::max)
    }

    #[allow(clippy::too_many_arguments)]
    fn action(
        &mut self,
        now: Instant,
        action: &Action,
        node: &Node,
        late: Duration,
        protocol: bool,
        changes: bool,
        excused: bool,
    ) -> Result<(), String> {
        match action {
            Action::Claim { router, held, .. } => {
                let seen = self.routers.entry(*router).or_default();
                if seen.claimed.is_empty() {
                    seen.rounds.clear();
                }
                seen.claimed.extend(held.addresses.iter().map(|address| address.ip));
            }
            Action::Release { router, held } => {
                let seen = self.routers.entry(*router).or_default();
                seen.claimed.retain(|ip| !held.addresses.iter().any(|address| address.ip == *ip));
            }
            Action::Advertise { router: id, advert, .. } => {
                let Some(router) = node.router(*id) else { return Ok(()) };
                let seen = self.routers.entry(*id).or_default();
                let interval = router.config().advert_interval.duration();
                let owner = router.config().priority == Priority::OWNER;
                if advert.priority == Priority::LEAVING {
                    if let Some(before) = seen.priority_zero_at
                        && now - before + late < interval
                        && !changes
                        && !excused
                    {
                        return Err(format!("priority 0 again after {:?}", now - before));
                    }
                    // A drained master that offers its role may lose it a moment later.
                    let leaves = !matches!(router.state(), State::Master { .. });
                    seen.priority_zero_at = leaves.then_some(now);
                    return Ok(());
                }
                seen.priority_zero_at = None;
                let last_resort = node.drained().is_some() && !owner && !changes;
                let leaves = matches!(router.state(), State::Leaving { .. });
                if last_resort && !leaves && advert.priority != Priority::LOWEST {
                    return Err(format!("drained, it advertises {}", advert.priority));
                }
                if node.drained() == Some(Drain::Force) && !owner && !changes {
                    return Err("drained by force, it advertises".to_owned());
                }
                if seen.claimed.is_empty() && !owner {
                    return Err("an advert without a claim".to_owned());
                }
                seen.adverts.push_back(now);
                let window = Duration::from_millis(100);
                while seen.adverts.front().is_some_and(|at| now - *at >= window) {
                    seen.adverts.pop_front();
                }
                // The schedule, ten beside it, and one for each change of role or configuration.
                let scheduled = (window.as_nanos() / interval.as_nanos()) as usize + 1;
                if seen.adverts.len() > scheduled + 10 + 4 && !changes {
                    return Err(format!("{} adverts in {window:?}", seen.adverts.len()));
                }
            }
            Action::Renew { router: id, .. } => {
                let Some(router) = node.router(*id) else { return Ok(()) };
                let seen = self.routers.entry(*id).or_default();
                let interval = router.config().advert_interval.duration();
                seen.renewals.push_back(now);
                while seen.renewals.front().is_some_and(|at| now - *at >= interval) {
                    seen.renewals.pop_front();
                }
                if seen.renewals.len() > 8 {
                    return Err(format!(
                        "{} renewals within an interval of {interval:?}",
                        seen.renewals.len()
                    ));
                }
            }
            Action::Announce { router, .. } => {
                if !protocol {
                    return Ok(());
                }
                let seen = self.routers.entry(*router).or_default();
                seen.rounds.push_back(now);
                while seen.rounds.front().is_some_and(|at| now - *at > Duration::from_secs(1)) {
                    seen.rounds.pop_front();
                }
                // At once, after 10 ms, 100 ms and 1 s, an urgent one, and more if addresses were
                // put back.
                if seen.rounds.len() > 5 {
                    return Err(format!("{} rounds of announcements in 1 s", seen.rounds.len()));
                }
            }
            Action::Notify(transition) => {
                let seen = self.routers.entry(transition.router).or_default();
                if let Some(role) = seen.role
                    && role != transition.from
                {
                    return Err(format!(
                        "was {role}, and is said to have been {}",
                        transition.from
                    ));
                }
                let taken = matches!(transition.to, Role::Master | Role::Claiming);
                if taken && transition.from == Role::Backup && transition.why != Why::NobodyCame {
                    while seen.takeovers.front().is_some_and(|at| now - *at > MEMORY) {
                        seen.takeovers.pop_front();
                    }
                    seen.takeovers.push_back(now);
                    let ten_seconds = Duration::from_secs(10);
                    let recent = seen.takeovers.iter().filter(|at| now - **at < ten_seconds);
                    // Six at once, and then after 1, 2, 4 and 8 s.
                    if recent.count() > 10 {
                        return Err("more than 10 takeovers in 10 s".to_owned());
                    }
                }
                seen.role = Some(transition.to);
                if transition.to == Role::Master {
                    // A stream of forged priority 0 adverts can change roles any number of times.
                    seen.rounds.clear();
                    seen.adverts.clear();
                }
            }
            Action::Warn { .. } => {}
        }
        Ok(())
    }
}

fn is_stopped(role: Role) -> bool {
    role == Role::Stopped
}
