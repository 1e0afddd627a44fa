//! Moves to another host that operators requested, until the outcome of each is known.

use std::net::IpAddr;
use std::sync::Arc;

use super::control::Reply;
use crate::api::protocol::{Answer, Move, MoveOutcome};
use crate::vrrp::{Instant, Node, Priority, Role, RouterId, State, Why};

/// A client that waits for the end of the moves that it asked for.
#[derive(Debug)]
pub(super) struct PendingMoves {
    reply: Reply,
    /// By a drain; what that means is part of the answer.
    drained: Option<String>,
    waiting: Vec<PendingMove>,
    known: Vec<Move>,
}

/// A virtual router on its way to another host.
#[derive(Debug)]
struct PendingMove {
    router: RouterId,
    name: Arc<str>,
    asked_at: Instant,
    /// The first router that was heard since then, and when.
    taker: Option<(IpAddr, Instant)>,
    /// Released, and no router was heard: when to stop waiting.
    give_up_at: Option<Instant>,
}

impl PendingMoves {
    /// `drained`: of all virtual routers, by a drain; what that means, as a sentence.
    pub(super) fn new(
        reply: Reply,
        drained: Option<String>,
        routers: impl Iterator<Item = (RouterId, Arc<str>)>,
        now: Instant,
    ) -> Self {
        let waiting = routers.map(|(id, name)| PendingMove::new(id, name, now)).collect();
        PendingMoves { reply, drained, waiting, known: Vec::new() }
    }

    /// Answers the client if all moves have ended, and waits on otherwise.
    pub(super) fn poll(mut self, now: Instant, node: &Node) -> Option<Self> {
        let drain = self.drained.is_some();
        self.waiting.retain_mut(|waiting| match waiting.outcome(now, node, drain) {
            None => true,
            Some(ended) => {
                self.known.push(ended);
                false
            }
        });
        if !self.waiting.is_empty() {
            return Some(self);
        }
        // A client that has gone away loses its answer.
        let text = self.drained.unwrap_or_default();
        let _ = self.reply.send(Answer::Moved { text, moves: self.known });
        None
    }

    /// When to poll even if nothing happens.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|waiting| waiting.give_up_at).min()
    }
}

impl PendingMove {
    fn new(router: RouterId, name: Arc<str>, asked_at: Instant) -> Self {
        PendingMove { router, name, asked_at, taker: None, give_up_at: None }
    }

    /// How the move ended, as soon as that is known.
    fn outcome(&mut self, now: Instant, node: &Node, drain: bool) -> Option<Move> {
        let name = self.name.clone();
        let Some(router) = node.router(self.router) else {
            return Some(self.ended(
                MoveOutcome::Interrupted,
                now,
                format!("{name} was removed meanwhile"),
            ));
        };
        if self.taker.is_none()
            && let Some(peer) = router.peer()
            && peer.at > self.asked_at
            && peer.priority != Priority::LEAVING
        {
            self.taker = Some((peer.source, peer.at));
        }
        let (since, why) = router.since();
        let role = router.role();
        match role {
            // Claiming: it takes over again if its `before_claim` hook agrees.
            Role::Leaving | Role::Claiming => None,
            // In fault: `before_release` may have stopped the service that a check watches.
            Role::Backup | Role::Fault if role == Role::Backup || self.taker.is_some() => {
                if let Some((taker, at)) = self.taker {
                    let follows = match drain {
                        true => String::new(),
                        false => format!(
                            "; this host does not take it back until \"vipd resume {name}\", or until it hears no master at all"
                        ),
                    };
                    let text = format!(
                        "{name}: {taker} took over after {}{follows}",
                        span(at, self.asked_at)
                    );
                    return Some(self.ended(MoveOutcome::Taken, at, text));
                }
                let give_up_after =
                    router.master_down() + router.config().advert_interval.duration();
                let give_up_at = *self.give_up_at.get_or_insert(since + give_up_after);
                if now < give_up_at {
                    return None;
                }
                let comes_back = matches!(router.state(), State::Backup { takeover_at: Some(_) });
                let text = format!(
                    "{name}: nobody took over within {}, and no host has it now; {}",
                    span(now, self.asked_at),
                    match comes_back {
                        true => "this host takes it back if that stays so",
                        false => "\"vipd undrain\" lets this host take it back",
                    }
                );
                Some(self.ended(MoveOutcome::NobodyCame, now, text))
            }
            Role::Master => {
                let text = self.still_here(since, why, drain);
                Some(self.ended(MoveOutcome::NobodyCame, since.max(self.asked_at), text))
            }
            Role::Waiting | Role::Fault | Role::Stopped | Role::Backup => {
                let reasons: Vec<_> = router.fault_reasons().map(|why| why.to_string()).collect();
                let why = if reasons.is_empty() { why.to_string() } else { reasons.join("; ") };
                let text = format!("{name} is {} now: {why}", router.role());
                Some(self.ended(MoveOutcome::Interrupted, now, text))
            }
        }
    }

    fn still_here(&self, since: Instant, why: &Why, drain: bool) -> String {
        let name = &self.name;
        let again = match drain {
            true => "this drained host serves until another one is fit; \"vipd drain --force\" releases it even so".to_owned(),
            false => format!("\"vipd status {name}\" says whether a peer was ever heard"),
        };
        if since < self.asked_at {
            return format!("{name}: nobody took over when this host was drained; {again}");
        }
        let waited = span(since, self.asked_at);
        match why {
            Why::NobodyCame => {
                format!(
                    "{name}: nobody took over within {waited}, and the address never left; {again}"
                )
            }
            _ => format!(
                "{name}: nobody took over, so this host took it back after {waited}; {again}"
            ),
        }
    }

    fn ended(&self, outcome: MoveOutcome, at: Instant, text: String) -> Move {
        let by = self.taker.filter(|_| outcome == MoveOutcome::Taken).map(|(taker, _)| taker);
        let after_seconds = (at - self.asked_at).as_secs_f64();
        Move { router: self.name.to_string(), outcome, by, after_seconds, text }
    }
}

/// A span in whole milliseconds, from a second on in seconds.
pub(super) fn span(to: Instant, from: Instant) -> String {
    let span = to - from;
    match span.as_secs() {
        0 => format!("{} ms", span.as_millis()),
        _ => format!("{:.1} s", span.as_secs_f64()),
    }
}
