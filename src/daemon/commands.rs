//! Commands of operators, carried out in the advert loop.

use std::{io, iter};

use tracing::info;

use super::control::{LoopRequest, PendingRequest, Reply};
use super::drained::{Stored, meaning};
use super::event_loop::EventLoop;
use super::history::EventKind;
use super::moves::{PendingMoves, span};
use super::status::{self, Process};
use crate::api::protocol::{Answer, ErrorCode};
use crate::vrrp::{Command, Drain, Event, Instant, Priority, Role, RouterId, VirtualRouter};

impl EventLoop {
    /// Carries a request out, and answers now or when the requested operation has ended.
    pub(super) fn answer(&mut self, asked: PendingRequest) {
        let PendingRequest { request, reply } = asked;
        let answer = match request {
            LoopRequest::Status => Ok(self.status()),
            LoopRequest::Failover(router) => return self.failover(&router, reply),
            LoopRequest::Resume(router) => self.resume(&router),
            LoopRequest::Announce(router) => self.announce(&router),
            LoopRequest::Drain(drain, stored) => return self.drain(drain, stored, reply),
            LoopRequest::Undrain(stored) => Ok(self.undrain(stored)),
            LoopRequest::Reload => match self.may_reload() {
                Ok(()) => {
                    self.reload_asked = Some(reply);
                    return self.begin_reload();
                }
                Err(refused) => Err(refused),
            },
        };
        // A client that has gone away loses its answer; here and below.
        let _ = reply.send(answer.unwrap_or_else(|refused| refused));
    }

    fn status(&self) -> Answer {
        let process = Process {
            node: &self.config.node.name,
            config: &self.path,
            started_at: self.started_at,
            drained_until_reboot: self.drained.until_reboot,
            stopping: self.is_ending(),
        };
        Answer::Status(Box::new(status::snapshot(process, &self.node, &self.driver)))
    }

    fn failover(&mut self, name: &str, reply: Reply) {
        let router = match self.movable(name) {
            Ok(router) => router,
            Err(refused) => return drop(reply.send(refused)),
        };
        if let Err(error) = self.record_held_back(router, true) {
            let _ = self.record_held_back(router, false);
            let text = format!(
                "that {name} is to stay away cannot be recorded: {error}; nothing was changed"
            );
            return drop(reply.send(Answer::error(ErrorCode::Failed, text)));
        }
        let now = self.driver.now();
        self.note(EventKind::Command, format!("failover {name}"));
        self.handle(now, Event::Command(Command::Failover(router)));
        let routers = iter::once((router, name.into()));
        self.moves.push(PendingMoves::new(reply, None, routers, now));
    }

    /// The virtual router of that name, if it can be handed over.
    fn movable(&self, name: &str) -> Result<RouterId, Answer> {
        let router = self.find(name)?;
        self.require_running()?;
        let refuse = |text: String| Err(Answer::error(ErrorCode::Refused, text));
        if router.config().priority == Priority::OWNER {
            return refuse(format!(
                "{name} has priority 255, so its addresses belong to this host: lower `priority` and reload, then it can move"
            ));
        }
        let why = router.since().1;
        match router.role() {
            Role::Master => Ok(router.id()),
            Role::Leaving => refuse(format!("{name} is being handed over already: {why}")),
            Role::Backup | Role::Claiming | Role::Waiting | Role::Fault | Role::Stopped => {
                refuse(format!(
                    "{name} is {} here, so there is nothing to hand over; {}",
                    router.role(),
                    match router.peer() {
                        Some(peer) if peer.priority != Priority::LEAVING => format!(
                            "{} was heard as master {} ago: run \"vipd failover {name}\" there",
                            peer.source,
                            span(self.driver.now(), peer.at)
                        ),
                        Some(_) | None => "no master is heard either".to_owned(),
                    }
                ))
            }
        }
    }

    fn resume(&mut self, name: &str) -> Result<Answer, Answer> {
        self.require_running()?;
        let router = self.find(name)?;
        if !router.held_back() {
            return Ok(Answer::done(format!("{name} was not held back: it takes part fully")));
        }
        let id = router.id();
        if let Err(error) = self.record_held_back(id, false) {
            let _ = self.record_held_back(id, true);
            let text = format!(
                "that {name} is to take part cannot be recorded: {error}; nothing was changed"
            );
            return Err(Answer::error(ErrorCode::Failed, text));
        }
        let now = self.driver.now();
        self.handle(now, Event::Command(Command::Resume(id)));
        let router = self.find(name)?;
        let follows = match router.peer() {
            Some(peer) if peer.priority >= router.effective_priority() => {
                format!("; it stays backup, {} has priority {}", peer.source, peer.priority)
            }
            Some(peer) if !router.config().preempt => {
                format!("; it leaves the address with {}, as `preempt` is false", peer.source)
            }
            Some(peer) => format!("; it takes over from {} now", peer.source),
            None => String::new(),
        };
        let follows = if router.role() == Role::Backup { follows } else { String::new() };
        info!(router = name, "resumed by an operator");
        self.note(EventKind::Command, format!("resume {name}"));
        Ok(Answer::done(format!("{name} takes part fully again{follows}")))
    }

    /// Of all members of its sync group: they move together.
    fn record_held_back(&mut self, id: RouterId, held_back: bool) -> io::Result<()> {
        let mut together = self.node.with_group(id).into_iter();
        together.try_for_each(|id| self.driver.record_held_back(id, held_back))
    }

    fn announce(&mut self, name: &str) -> Result<Answer, Answer> {
        self.require_running()?;
        let router = self.find(name)?;
        let role = router.role();
        if role != Role::Master {
            let text = format!("only the master announces, and {name} is {role} here");
            return Err(Answer::error(ErrorCode::Refused, text));
        }
        let text = format!(
            "{name}: announced {} on {}",
            router.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            router.config().interface
        );
        let id = router.id();
        self.handle(self.driver.now(), Event::Command(Command::Announce(id)));
        Ok(Answer::done(text))
    }

    fn drain(&mut self, drain: Drain, stored: Stored, reply: Reply) {
        if self.is_ending() {
            let text = "stored: this vipd is about to end, and the next one starts drained";
            return drop(reply.send(Answer::done(text)));
        }
        self.drained = stored;
        let text = format!("this host is drained, {}: {}", lasts(stored), meaning(drain));
        let now = self.driver.now();
        // The owner's addresses are those of the host, and stay.
        let moves = |router: &&VirtualRouter| {
            router.config().priority != Priority::OWNER && router.has_addresses()
        };
        let here = self.node.routers().filter(moves);
        let routers = here.map(|router| (router.id(), router.config().name.clone()));
        let moves = PendingMoves::new(reply, Some(text), routers, now);
        info!("drained by an operator: {}", meaning(drain));
        self.note(
            EventKind::Command,
            match drain {
                Drain::LastResort => "drain",
                Drain::Force => "drain --force",
            },
        );
        self.handle(now, Event::Command(Command::Drain(drain)));
        self.moves.push(moves);
    }

    fn undrain(&mut self, stored: Stored) -> Answer {
        self.drained = stored;
        if self.node.drained().is_none() {
            return Answer::done("this host was not drained: it takes part");
        }
        info!("undrained by an operator");
        self.note(EventKind::Command, "undrain");
        self.handle(self.driver.now(), Event::Command(Command::Undrain));
        let until = if stored.until_reboot {
            ", until the next reboot (the stored drain cannot be removed)"
        } else {
            ""
        };
        Answer::done(format!(
            "this host takes part again{until}; \"vipd status\" says who is master"
        ))
    }

    fn may_reload(&self) -> Result<(), Answer> {
        self.require_running()?;
        if self.reloading {
            let text = "a reload is under way already; ask again when it is done";
            return Err(Answer::error(ErrorCode::Refused, text));
        }
        Ok(())
    }

    /// Answers the client that asked for a reload: with the changes, or with why it was refused.
    pub(super) fn report_reload(&mut self, outcome: Result<Vec<String>, String>) {
        let Some(reply) = self.reload_asked.take() else { return };
        let _ = reply.send(match outcome {
            Ok(changes) => Answer::Reloaded { changes },
            Err(why) => {
                let text = format!(
                    "the configuration was refused, and the running one stays as it is:\n{why}\ncorrect it, then run \"vipd reload\" again"
                );
                Answer::error(ErrorCode::Refused, text)
            }
        });
    }

    /// Answers the clients whose moves have ended.
    pub(super) fn report_moves(&mut self) {
        if self.moves.is_empty() {
            return;
        }
        let now = self.driver.now();
        let moves = std::mem::take(&mut self.moves).into_iter();
        self.moves = moves.filter_map(|moves| moves.poll(now, &self.node)).collect();
    }

    /// When to call [`EventLoop::report_moves`] even if nothing happens.
    pub(super) fn report_moves_at(&self) -> Option<Instant> {
        self.moves.iter().filter_map(PendingMoves::give_up_at).min()
    }

    fn find(&self, name: &str) -> Result<&VirtualRouter, Answer> {
        self.node.find(name).ok_or_else(|| {
            let names: Vec<&str> =
                self.node.routers().take(20).map(|router| &*router.config().name).collect();
            let text = format!(
                "no virtual router is named \"{name}\" here; there is: {}",
                names.join(", ")
            );
            Answer::error(ErrorCode::UnknownRouter, text)
        })
    }

    fn is_ending(&self) -> bool {
        self.stopping || self.node.is_stopped()
    }

    fn require_running(&self) -> Result<(), Answer> {
        if self.is_ending() {
            return Err(Answer::error(ErrorCode::Refused, "this vipd is about to end"));
        }
        Ok(())
    }
}

/// How long a drain lasts.
fn lasts(stored: Stored) -> &'static str {
    if stored.until_reboot {
        "until \"vipd undrain\" or the next reboot (it cannot be stored on disk)"
    } else {
        "also after a restart or a reboot, until \"vipd undrain\""
    }
}
