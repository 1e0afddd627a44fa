//! The scenarios of `tests/scenarios/`, which the simulator runs too, on real binaries.
//!
//! Every step is possible on real hosts. What differs from the simulator: a failover and a drain
//! are over when the command has returned, a daemon is killed or frozen with its helper, a crash is
//! a pulled plug at the switch and the end of all processes, and limits have a margin, because this
//! machine may be busy. "Never two" has none.

#[path = "../tests/scenarios/mod.rs"]
#[expect(dead_code, reason = "the simulator asks which scenarios need commands")]
mod scenarios;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::lab::{Daemon, Host, Lab, Ownership, Prober, RouterSpec, Switch, wait_for};
use nix::sys::signal::Signal;

use self::scenarios::{Setup, Step};
use crate::fault::{SHARED, VIPD, VRID, start};
use crate::suite::{Test, TestResult};

/// Added to what a scenario allows.
const MARGIN: Duration = Duration::from_millis(500);
/// For the end of a daemon after a signal.
const TIMEOUT: Duration = Duration::from_secs(10);

pub fn tests() -> Vec<Test> {
    let mut all: Vec<_> = scenarios::ALL.iter().collect();
    // The longest first: they decide when all are done.
    all.sort_by_key(|scenario| std::cmp::Reverse(waits(scenario)));
    all.into_iter()
        .map(|scenario| Test::of(module_path!(), scenario.name, move || play(scenario)))
        .collect()
}

fn waits(scenario: &scenarios::Scenario) -> Duration {
    let pace = Pace::of(scenario);
    let waits = scenario.steps.iter().filter_map(|step| match step {
        Step::Wait(span) => Some(pace.span(*span)),
        _ => None,
    });
    waits.sum()
}

/// The factor by which all times of a scenario are shortened, the interval included.
#[derive(Clone, Copy)]
struct Pace(u32);

impl Pace {
    fn of(scenario: &scenarios::Scenario) -> Self {
        // The kernel removes an address after whole seconds, which suits an interval of one second
        // only.
        let lease = |step: &Step| matches!(step, Step::Kill(_) | Step::Freeze(_));
        let quick = scenario.interval_ms >= 1000 && !scenario.steps.iter().any(lease);
        Self(if quick { 2 } else { 1 })
    }

    fn span(self, span: Duration) -> Duration {
        // The minute at priority 1 is the same at every interval.
        if span > Duration::from_secs(60) { span } else { span / self.0 }
    }
}

fn play(scenario: &'static scenarios::Scenario) -> TestResult {
    let filters = |step: &Step| {
        matches!(
            step,
            Step::Cut(..) | Step::CutOneWay(..) | Step::DropAdverts(_) | Step::DropAdvertsTo(..)
        )
    };
    if scenario.steps.iter().any(filters) && Command::new("nft").arg("--version").output().is_err()
    {
        return Err("nft is not installed (Debian: apt-get install nftables)".into());
    }
    let mut stage = Stage::new(scenario);
    for step in scenario.steps {
        let _ = writeln!(stage.story, "{:8.3} {step:?}", stage.began.elapsed().as_secs_f64());
        if let Err(why) = stage.perform(step) {
            let at = stage.began.elapsed().as_secs_f64();
            panic!("{}{at:8.3} {why}\n{}", stage.story, stage.logs());
        }
    }
    Ok(())
}

/// Hosts, and what a client has seen of them.
struct Stage {
    // In the order in which they may end.
    actors: Vec<Actor>,
    prober: Option<Prober>,
    client: Host,
    lab: Lab,
    pace: Pace,
    probed: bool,
    mark: Instant,
    began: Instant,
    story: String,
}

struct Actor {
    daemon: Option<Daemon>,
    frozen: bool,
    crashed: bool,
    host: Host,
    spec: RouterSpec,
}

impl Stage {
    fn new(scenario: &scenarios::Scenario) -> Self {
        let pace = Pace::of(scenario);
        let interval = pace.span(Duration::from_millis(scenario.interval_ms.into()));
        let lab = Lab::new().unwrap();
        let client = lab.host("client", 200).unwrap();
        let probed = scenario.steps.iter().any(|step| matches!(step, Step::NothingWasLost));
        let mut actors = Vec::new();
        for (number, setup) in (1..).zip(scenario.hosts) {
            let host = lab.host(setup.name, number).unwrap();
            if probed {
                host.answer(SHARED).unwrap();
            }
            let mut spec = spec(setup, interval, pace);
            let own = |number: u8| IpAddr::from(Switch::LAN.ipv4(number));
            let others = (1..=scenario.hosts.len() as u8).filter(|other| *other != number);
            spec.unicast = setup.unicast.then(|| (own(number), others.map(own).collect()));
            actors.push(Actor { daemon: None, frozen: false, crashed: false, host, spec });
        }
        let began = Instant::now();
        for (actor, setup) in actors.iter_mut().zip(scenario.hosts) {
            if !setup.asleep {
                actor.start();
            }
        }
        let (prober, story) = (None, String::new());
        Self { actors, prober, client, lab, pace, probed, mark: began, began, story }
    }

    fn perform(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Start(name) => {
                let actor = self.actor(name);
                if std::mem::take(&mut actor.crashed) {
                    actor.host.boot().unwrap();
                }
                actor.start();
            }
            Step::Stop(name) => self.actor(name).end(Signal::SIGTERM)?,
            Step::Restart(name) => {
                let actor = self.actor(name);
                actor.end(Signal::SIGUSR2)?;
                actor.start();
            }
            Step::Kill(name) => self.actor(name).kill(),
            Step::Freeze(name) => {
                let actor = self.actor(name);
                actor.daemon().signal_all(Signal::SIGSTOP).unwrap();
                actor.frozen = true;
            }
            Step::Thaw(name) => {
                let actor = self.actor(name);
                actor.daemon().signal_all(Signal::SIGCONT).unwrap();
                actor.frozen = false;
            }
            Step::Crash(name) => {
                let actor = self.actor(name);
                actor.host.cut().unwrap();
                actor.kill();
                actor.crashed = true;
            }
            Step::Cut(one, other) => {
                self.lab.lose(self.host(one), self.host(other)).unwrap();
                self.lab.lose(self.host(other), self.host(one)).unwrap();
            }
            Step::CutOneWay(from, to) => self.lab.lose(self.host(from), self.host(to)).unwrap(),
            Step::Heal => self.lab.lose_nothing().unwrap(),
            Step::LinkDown(name) => self.host(name).unplug("eth0").unwrap(),
            Step::LinkUp(name) => self.host(name).plug("eth0").unwrap(),
            Step::DropAdverts(name) => drop_adverts(self.host(name), ""),
            Step::DropAdvertsTo(name, peer) => {
                let peer = self.host(peer).ipv4();
                drop_adverts(self.host(name), &format!("ip daddr {peer}"));
            }
            Step::DropNothing(name) => nft(self.host(name), "delete table ip own"),
            Step::RemoveAddress(name) => {
                self.host(name).namespace().links().remove_address("eth0", SHARED, 32).unwrap();
            }
            Step::OwnAddressGone(name) => {
                let host = self.host(name);
                let links = host.namespace().links();
                links.remove_address("eth0", host.ipv4().into(), 24).unwrap();
            }
            Step::OwnAddressBack(name) => self.host(name).up("eth0").unwrap(),
            Step::Failover(name) => self.run_command(name, &["failover", "web"])?,
            Step::Resume(name) => self.run_command(name, &["resume", "web"])?,
            Step::Drain(name) => self.run_command(name, &["drain"])?,
            Step::DrainByForce(name) => self.run_command(name, &["drain", "--force"])?,
            Step::Undrain(name) => self.run_command(name, &["undrain"])?,
            Step::Wait(span) => std::thread::sleep(self.pace.span(span)),
            Step::MasterWithin(name, limit) => {
                let limit = self.pace.span(limit) + MARGIN;
                let settled = || self.is_only_owner(name).then_some(());
                wait_for(limit, settled).ok_or_else(|| self.who(name))?;
            }
            Step::MasterIs(name) => {
                if !self.is_only_owner(name) || self.masters() != [name] {
                    return Err(self.who(name));
                }
            }
            Step::NobodyIsMaster => {
                let (masters, owners) = (self.masters(), self.lab.owners(SHARED));
                if !masters.is_empty() || !owners.is_empty() {
                    return Err(format!("{masters:?} is master, {owners:?} has the address"));
                }
            }
            Step::HasNot(name) => {
                if self.host(name).holds(SHARED).unwrap() {
                    return Err(format!("{name} has the address"));
                }
            }
            Step::Mark => self.set_mark(),
            Step::NothingWasLost => {
                let end = Instant::now();
                let ownership = self.lab.ownership(SHARED, self.mark, end);
                std::thread::sleep(2 * Prober::TOO_LATE);
                let report = self.prober.as_ref().unwrap().report(self.mark, end);
                // One may be lost to a full queue of this machine.
                if report.lost > 1 || report.sent == 0 || !ownership.total_none.is_zero() {
                    return Err(format!("{report:?}\n{ownership:?}"));
                }
            }
            Step::NobodyAnsweredAtMost(limit) => {
                let ownership = self.since_mark();
                if ownership.longest_none > self.pace.span(limit) + MARGIN {
                    return Err(format!("{ownership:?}"));
                }
            }
            Step::TwoAnsweredAtMost(limit) => {
                let ownership = self.since_mark();
                let margin = if limit.is_zero() { Duration::ZERO } else { MARGIN };
                if ownership.longest_two > self.pace.span(limit) + margin {
                    return Err(format!("{ownership:?}"));
                }
            }
        }
        Ok(())
    }

    /// Runs a command for the daemon of a host. That no host took over is a valid outcome.
    fn run_command(&mut self, name: &str, arguments: &[&str]) -> Result<(), String> {
        let output = vipd(self.host(name), arguments);
        let text =
            String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        let _ = writeln!(self.story, "         {}", text.trim_end());
        if output.status.success() || text.contains("nobody took over") {
            return Ok(());
        }
        Err(format!("{arguments:?}: {}", output.status))
    }

    /// The host alone has the address, and it is the one that advertises.
    fn is_only_owner(&self, name: &str) -> bool {
        self.lab.owners(SHARED) == [name]
            && self.lab.observer().master(VRID).as_deref() == Some(name)
    }

    /// The hosts whose status is master. A frozen daemon does not answer.
    fn masters(&self) -> Vec<&str> {
        let able = self.actors.iter().filter(|actor| actor.daemon.is_some() && !actor.frozen);
        let masters = able.filter(|actor| {
            vipd(&actor.host, &["status", "web", "--is", "master"]).status.success()
        });
        masters.map(|actor| actor.host.name()).collect()
    }

    fn who(&self, expected: &str) -> String {
        let advertises = self.lab.observer().master(VRID);
        let (owners, masters) = (self.lab.owners(SHARED), self.masters());
        format!(
            "{expected} is not the master: {owners:?} has the address, {advertises:?} was the last \
             to advertise, {masters:?} says it is master"
        )
    }

    fn set_mark(&mut self) {
        if self.probed && self.prober.is_none() {
            let prober = Prober::start(&self.client, SHARED, Duration::from_millis(2)).unwrap();
            self.prober = Some(prober);
            std::thread::sleep(Duration::from_millis(300));
        }
        // Until the last announcements have reached the clients.
        std::thread::sleep(Duration::from_millis(50));
        self.mark = Instant::now();
    }

    fn since_mark(&self) -> Ownership {
        self.lab.ownership(SHARED, self.mark, Instant::now())
    }

    fn actor(&mut self, name: &str) -> &mut Actor {
        self.actors.iter_mut().find(|actor| actor.host.name() == name).unwrap()
    }

    fn host(&self, name: &str) -> &Host {
        &self.actors.iter().find(|actor| actor.host.name() == name).unwrap().host
    }

    fn logs(&self) -> String {
        let log = |actor: &Actor| {
            let file = actor.host.dir().join("vipd.log");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            format!("{}:\n{text}", actor.host.name())
        };
        self.actors.iter().map(log).collect()
    }
}

impl Actor {
    fn start(&mut self) {
        self.daemon = Some(start(&self.host, std::slice::from_ref(&self.spec)));
        self.frozen = false;
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    /// Ends the daemon by a signal.
    fn end(&mut self, signal: Signal) -> Result<(), String> {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(signal).unwrap();
        match daemon.wait(TIMEOUT).unwrap() {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("it ended: {status}")),
            None => Err("it does not end".to_owned()),
        }
    }

    fn kill(&mut self) {
        self.daemon.take().unwrap().crash();
    }
}

/// The packet filter of a host drops the adverts that it sends and that match.
fn drop_adverts(host: &Host, matching: &str) {
    nft(host, "add table ip own; add chain ip own out { type filter hook output priority 0; }");
    nft(host, &format!("add rule ip own out ip protocol 112 {matching} drop"));
}

fn nft(host: &Host, rules: &str) {
    let rules = rules.to_owned();
    let output = host.namespace().run(move || Command::new("nft").arg(rules).output()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn spec(setup: &Setup, interval: Duration, pace: Pace) -> RouterSpec {
    let link_delay = pace.span(setup.link_delay).as_millis();
    let handover = if setup.exclusive { "exclusive" } else { "overlap" };
    RouterSpec {
        interval,
        preempt: setup.preempt,
        more: format!("link_delay = \"{link_delay}ms\"\nhandover = \"{handover}\"\n"),
        ..RouterSpec::new(SHARED, setup.priority)
    }
}

/// A command to the daemon of a host.
pub fn vipd(host: &Host, arguments: &[&str]) -> Output {
    let dir = host.runtime_dir().unwrap();
    Command::new(VIPD).args(arguments).arg("--runtime-dir").arg(dir).output().unwrap()
}
