//! The queue of one virtual router: actions that wait for the worker's answer to a claim or release.
//!
//! The worker may be slow for long, and the election does not wait for it. So an action that is
//! cancelled before it began is not carried out at all: the queue does not grow, and a host that
//! has become backup does nothing that it had queued as master.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::vrrp::{Action, Held, Priority, Role, RouterId, Transition};

/// Actions of one virtual router, in the order in which they are to take effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct ActionQueue(VecDeque<Action>);

impl ActionQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out what is to be done next.
    pub(super) fn pop(&mut self) -> Option<Action> {
        let next = self.0.pop_front();
        if self.0.is_empty() {
            // Rarely used, and there are many of these.
            self.0 = VecDeque::new();
        }
        next
    }

    /// The announcement that waits for the job under way and for no other job.
    pub(super) fn announcement(&self) -> Option<&Held> {
        let job =
            |action: &&Action| matches!(action, Action::Claim { .. } | Action::Release { .. });
        self.0.iter().take_while(|action| !job(action)).find_map(|action| match action {
            Action::Announce { held, .. } => Some(held),
            Action::Advertise { .. }
            | Action::Claim { .. }
            | Action::Notify(_)
            | Action::Release { .. }
            | Action::Renew { .. }
            | Action::Warn { .. } => None,
        })
    }

    /// Puts an action back that was [taken out](Self::pop) and cannot be carried out yet.
    pub(super) fn put_back(&mut self, action: Action) {
        self.0.push_front(action);
    }

    /// Adds an action, and drops those that it makes pointless.
    pub(super) fn push(&mut self, action: Action) {
        match action {
            Action::Advertise { .. } => {
                // Only the newest matters; an older one is outdated. Its renewal goes with this one.
                let mut renewal = None;
                self.0.retain(|waiting| match waiting {
                    Action::Renew { .. } => {
                        renewal = Some(waiting.clone());
                        false
                    }
                    _ => !matches!(waiting, Action::Advertise { .. }),
                });
                self.0.push_back(action);
                self.0.extend(renewal);
            }
            Action::Announce { ref held, .. } => {
                self.0.retain(|waiting| match waiting {
                    Action::Announce { held: older, .. } => !older.is_within(held),
                    _ => true,
                });
                self.0.push_back(action);
            }
            Action::Release { router, held } => self.release(router, held),
            Action::Notify(transition) => self.notify(transition),
            // It follows its advert, which waits, too.
            Action::Renew { .. } => {
                self.0.retain(|waiting| !matches!(waiting, Action::Renew { .. }));
                self.0.push_back(action);
            }
            Action::Claim { .. } | Action::Warn { .. } => self.0.push_back(action),
        }
    }

    /// The claim under way failed: nothing that was to follow from it may become visible.
    pub(super) fn claim_failed(&mut self) {
        self.0.retain_mut(|action| match action {
            Action::Advertise { .. } | Action::Announce { .. } | Action::Renew { .. } => false,
            Action::Notify(transition) => {
                transition.hooks = false;
                true
            }
            Action::Claim { .. } | Action::Release { .. } | Action::Warn { .. } => true,
        });
    }

    /// This address was left out of the claim under way: nothing may announce it.
    pub(super) fn leave_out(&mut self, ip: IpAddr) {
        self.0.retain_mut(|action| match action {
            Action::Announce { held, .. } => {
                if held.addresses.iter().any(|address| address.ip == ip) {
                    *held = held.filter(|address| address.ip != ip);
                }
                !held.is_empty()
            }
            Action::Advertise { .. }
            | Action::Claim { .. }
            | Action::Notify(_)
            | Action::Release { .. }
            | Action::Renew { .. }
            | Action::Warn { .. } => true,
        });
    }

    /// Claims of these addresses that have not begun are cancelled; adverts and announcements no
    /// longer promise them, and they are not renewed.
    fn release(&mut self, router: RouterId, gone: Held) {
        let mut left: Option<Held> = None;
        let mut advertised = false;
        self.0.retain_mut(|action| match action {
            Action::Claim { held, .. } => !held.is_within(&gone),
            Action::Advertise { advert, .. } => {
                let promises =
                    advert.addresses.iter().any(|address| gone.addresses.contains(address));
                advertised |= !promises;
                advert.priority == Priority::LEAVING || !promises
            }
            Action::Announce { held, .. } => {
                let stays = held.without(&gone);
                let kept = stays == *held;
                if !kept {
                    left = Some(stays);
                }
                kept
            }
            Action::Renew { held, .. } => {
                *held = held.without(&gone);
                advertised && !held.is_empty()
            }
            Action::Notify(_) | Action::Release { .. } | Action::Warn { .. } => true,
        });
        let last = self.0.iter().rev().find_map(|action| match action {
            Action::Claim { .. } => Some(None),
            Action::Release { held, .. } => Some(Some(held)),
            Action::Advertise { .. }
            | Action::Announce { .. }
            | Action::Notify(_)
            | Action::Renew { .. }
            | Action::Warn { .. } => None,
        });
        if last.flatten() != Some(&gone) {
            self.0.push_back(Action::Release { router, held: gone });
        }
        if let Some(held) = left.filter(|left| !left.is_empty()) {
            self.0.push_back(Action::Announce { router, held, probe: false });
        }
    }

    /// Queues a change of role. If a takeover is cancelled before its claim was answered, no hook
    /// runs for it, and only the return to backup is notified.
    fn notify(&mut self, transition: Transition) {
        let gives_up = match transition.to {
            Role::Backup | Role::Fault | Role::Stopped => true,
            Role::Waiting | Role::Claiming | Role::Master | Role::Leaving => false,
        };
        let begins = |action: &Action| match action {
            Action::Notify(began) => began.takes_over(),
            _ => false,
        };
        if gives_up && let Some(begun) = self.0.iter().position(begins) {
            let mut place = 0;
            self.0.retain(|action| {
                place += 1;
                place <= begun || !matches!(action, Action::Notify(_))
            });
        }
        // Back to the last notified role.
        let last = self.0.iter_mut().rev().find_map(|action| match action {
            Action::Notify(last) => Some(last),
            _ => None,
        });
        match last {
            Some(last) if last.to == transition.to && transition.from != transition.to => {
                *last = Transition {
                    from: last.from,
                    hooks: last.hooks || transition.hooks,
                    ..transition
                };
            }
            Some(_) | None => self.0.push_back(Action::Notify(transition)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::vrrp::{Address, Advert, ChecksumForm, Interval, LinkId, Version, Vrid, Why};

    const ROUTER: RouterId = RouterId(0);

    fn addresses(numbers: &[u8]) -> Arc<[Address]> {
        let address = |n: &u8| Address::host(IpAddr::V4(Ipv4Addr::new(10, 0, 0, *n)));
        numbers.iter().map(address).collect()
    }

    fn held(numbers: &[u8]) -> Held {
        Held { link: LinkId(0), addresses: addresses(numbers) }
    }

    fn claim(numbers: &[u8]) -> Action {
        Action::Claim { router: ROUTER, held: held(numbers), lifetime: None, all: true }
    }

    fn release(numbers: &[u8]) -> Action {
        Action::Release { router: ROUTER, held: held(numbers) }
    }

    fn announce(numbers: &[u8]) -> Action {
        Action::Announce { router: ROUTER, held: held(numbers), probe: false }
    }

    fn advertise(priority: u8, numbers: &[u8]) -> Action {
        let advert = Advert {
            version: Version::V3,
            vrid: Vrid::new(1).unwrap(),
            priority: Priority::new(priority),
            interval: Interval::DEFAULT,
            addresses: addresses(numbers),
            checksum: ChecksumForm::PseudoHeader,
            authentication: None,
        };
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Action::Advertise { router: ROUTER, from, to: Arc::from([from]), advert, due: None }
    }

    fn notify(from: Role, to: Role, why: Why) -> Action {
        let priority = Priority::new(100);
        let transition = Transition {
            router: ROUTER,
            from,
            to,
            why,
            priority,
            before_release: false,
            held_back: false,
            hooks: true,
        };
        Action::Notify(transition)
    }

    fn master() -> Action {
        notify(Role::Backup, Role::Master, Why::HeardNobody)
    }

    fn backup() -> Action {
        notify(Role::Master, Role::Backup, Why::Late)
    }

    /// What waits after these have been pushed.
    fn left(pushed: impl IntoIterator<Item = Action>) -> Vec<Action> {
        let mut waiting = ActionQueue::default();
        pushed.into_iter().for_each(|action| waiting.push(action));
        std::iter::from_fn(|| waiting.pop()).collect()
    }

    #[test]
    fn a_release_cancels_queued_adverts_and_announcements() {
        let pushed = [advertise(100, &[1, 2]), announce(&[1, 2]), master(), release(&[1, 2])];
        assert_eq!(left(pushed), [master(), release(&[1, 2])]);
        let master_no_more =
            [advertise(100, &[1]), announce(&[1]), master(), release(&[1]), backup()];
        assert_eq!(left(master_no_more), [release(&[1]), backup()]);
    }

    #[test]
    fn a_renewal_waits_with_the_advert_that_it_belongs_to() {
        let renewal = || Action::Renew { router: ROUTER, held: held(&[1, 2]), lifetime: 2 };
        let [first, second] = [advertise(100, &[1]), advertise(200, &[1])];
        for pushed in [
            vec![first.clone(), renewal(), second.clone(), renewal()],
            // An extra advert, which renews nothing of its own.
            vec![first.clone(), renewal(), second.clone()],
        ] {
            assert_eq!(left(pushed), [second.clone(), renewal()]);
        }
        let of_the_other = Action::Renew { router: ROUTER, held: held(&[1]), lifetime: 2 };
        let one_less = [first.clone(), of_the_other, release(&[2])];
        assert_eq!(left([first.clone(), renewal(), release(&[2])]), one_less);
        assert_eq!(left([first, renewal(), release(&[1])]), [release(&[1])]);
    }

    #[test]
    fn priority_0_is_never_cancelled() {
        let pushed = [advertise(100, &[1]), advertise(0, &[1]), release(&[1]), backup()];
        assert_eq!(left(pushed), [advertise(0, &[1]), release(&[1]), backup()]);
        let exclusive = [advertise(100, &[1]), release(&[1]), backup(), advertise(0, &[1])];
        assert_eq!(left(exclusive), [release(&[1]), backup(), advertise(0, &[1])]);
    }

    #[test]
    fn a_cancelled_role_change_leaves_nothing_in_the_queue() {
        let lost = [release(&[1]), backup()];
        let again =
            [claim(&[1]), advertise(100, &[1]), announce(&[1]), master(), release(&[1]), backup()];
        let mut pushed = lost.to_vec();
        for _ in 0..100 {
            pushed.extend(again.clone());
        }
        assert_eq!(left(pushed), lost);
    }

    #[test]
    fn hooks_that_were_to_run_at_the_end_do_run() {
        let silent = |action: &Action| {
            let Action::Notify(transition) = action else { return action.clone() };
            Action::Notify(Transition { hooks: false, ..transition.clone() })
        };
        let again = [silent(&backup()), claim(&[1]), master(), release(&[1]), backup()];
        assert_eq!(left(again), [backup(), release(&[1])]);
    }

    #[test]
    fn a_master_that_gives_up_one_address_goes_on_with_the_others() {
        let pushed = [advertise(100, &[1]), announce(&[1, 2]), master(), release(&[2])];
        let still = [advertise(100, &[1]), master(), release(&[2]), announce(&[1])];
        assert_eq!(left(pushed), still);
    }

    #[test]
    fn a_put_back_address_that_is_released_does_not_hide_that_it_leaves() {
        let leaving = || notify(Role::Master, Role::Leaving, Why::Late);
        let pushed = [claim(&[2]), announce(&[2]), leaving(), release(&[1, 2]), backup()];
        assert_eq!(left(pushed), [leaving(), release(&[1, 2]), backup()]);
    }

    #[test]
    fn an_announcement_of_some_does_not_replace_that_of_all() {
        let pushed = [announce(&[1, 2]), claim(&[3]), announce(&[3])];
        assert_eq!(left(pushed.clone()), pushed);
        let all = [announce(&[1, 2]), claim(&[3]), announce(&[1, 2, 3])];
        assert_eq!(left(all), [claim(&[3]), announce(&[1, 2, 3])]);
    }

    #[test]
    fn only_what_waits_for_the_claim_under_way_is_announced_early() {
        let mut waiting = ActionQueue::default();
        waiting.push(announce(&[1]));
        assert_eq!(waiting.announcement(), Some(&held(&[1])));
        let mut waiting = ActionQueue::default();
        waiting.push(claim(&[2]));
        waiting.push(announce(&[1, 2]));
        assert_eq!(waiting.announcement(), None);
    }
}
