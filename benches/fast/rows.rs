//! The rows of the table: how each is measured.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Daemon, Host, Lab, Program, RouterSpec, configuration};
use nix::sys::signal::Signal;

use crate::floor::Floor;
use crate::listener::{FrameKind, Heard, Listener, Router};
use crate::shared;
use crate::table::{Goal, Row, Subject, median};

type Measure = fn(&Bench) -> Vec<Row>;

/// In the table's order.
pub const ROWS: [(&str, Measure); 13] = [
    ("master", master),
    ("master-10ms", master_10ms),
    ("backup", backup),
    ("answer", answer),
    ("one", one),
    ("idle", idle),
    ("claim", claim),
    ("takeover", takeover),
    ("crash", crash),
    ("renewals", renewals),
    ("lateness", lateness),
    ("reload", reload),
    ("interfaces", interfaces),
];

/// Announcements of a new master are repeated at 5 s, by both programs.
const SETTLED: Duration = Duration::from_millis(5500);
const MASTER: u8 = 1;
const BACKUP: u8 = 2;
const CLIENT: u8 = 3;

pub struct Bench {
    vipd: Program,
    /// keepalived, or the vipd to compare with.
    beside: Option<Program>,
    rounds: usize,
    /// Only vipd, for profiling.
    alone: bool,
}

impl Bench {
    pub fn new(beside: Option<Program>, rounds: usize, alone: bool) -> Self {
        Bench { vipd: Program::Vipd(env!("CARGO_BIN_EXE_vipd").into()), beside, rounds, alone }
    }

    /// Measures all programs in turn, so that disturbances of the machine affect all of them.
    fn each(&self, subjects: &[Subject], mut measure: impl FnMut(Subject)) {
        for _ in 0..self.rounds {
            self.once(subjects, &mut measure);
        }
    }

    fn once(&self, subjects: &[Subject], mut measure: impl FnMut(Subject)) {
        for subject in subjects {
            let there = match subject {
                Subject::Keepalived => self.beside.is_some() && !self.alone,
                Subject::Floor => !self.alone,
                Subject::Vipd => true,
            };
            if there {
                measure(*subject);
            }
        }
    }

    fn start(&self, subject: Subject, host: &Host, specs: &[RouterSpec], floor: Floor) -> Daemon {
        match subject {
            Subject::Floor => start_floor(host, floor, true),
            Subject::Keepalived => {
                Daemon::start(host, self.beside.as_ref().unwrap(), specs).unwrap()
            }
            Subject::Vipd => Daemon::start(host, &self.vipd, specs).unwrap(),
        }
    }
}

const ALL: [Subject; 3] = [Subject::Keepalived, Subject::Floor, Subject::Vipd];
const BOTH: [Subject; 2] = [Subject::Keepalived, Subject::Vipd];

/// Without real-time priority it stands for a host elsewhere.
fn start_floor(host: &Host, floor: Floor, realtime: bool) -> Daemon {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(floor.arguments(realtime));
    let files = host.dir();
    Daemon::spawn(host, &command, files.join("floor.conf"), files.join("floor.log")).unwrap()
}

/// Two hosts and a client on a LAN; the client listens.
struct TwoHosts {
    listener: Listener,
    client: Host,
    a: Host,
    b: Host,
    lab: Lab,
}

impl TwoHosts {
    fn new() -> Self {
        let lab = Lab::unobserved().unwrap();
        let host = |name, number| lab.host(name, number).unwrap();
        let (a, b, client) = (host("a", MASTER), host("b", BACKUP), host("client", CLIENT));
        let listener = Listener::start(&client).unwrap();
        TwoHosts { listener, client, a, b, lab }
    }

    /// Until so many virtual routers of a host have been heard within the last interval.
    fn await_adverts(&self, host: u8, routers: usize, interval: Duration) {
        let give_up = Instant::now() + Duration::from_secs(30);
        loop {
            let from = Instant::now() - 2 * interval - Duration::from_millis(50);
            let heard = adverts(&self.listener.between(from, Instant::now()), host);
            if heard.len() >= routers {
                return;
            }
            let logs = [&self.a, &self.b].map(|host| {
                let read = |name| std::fs::read_to_string(host.dir().join(name));
                ["vipd.log", "keepalived.log", "floor.log"]
                    .map(|name| read(name).unwrap_or_default())
            });
            assert!(Instant::now() < give_up, "only {} of {routers}\n{logs:?}", heard.len());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Routers with one address each, VRIDs from 1.
fn specs(count: usize, priority: u8, interval: Duration) -> Vec<RouterSpec> {
    let spec = |n: usize| RouterSpec {
        name: format!("r{n}"),
        vrid: (n + 1) as u8,
        interval,
        ..RouterSpec::new(shared(n, 0), priority)
    };
    (0..count).map(spec).collect()
}

/// When each virtual router of a host was heard.
fn adverts(heard: &[Heard], host: u8) -> BTreeMap<Router, Vec<Instant>> {
    let mut adverts: BTreeMap<Router, Vec<Instant>> = BTreeMap::new();
    for heard in heard.iter().filter(|heard| heard.host == host) {
        if let FrameKind::Advert { router, priority: 1.. } = heard.kind {
            adverts.entry(router).or_default().push(heard.at);
        }
    }
    adverts
}

/// The part of adverts that is missing, in percent, and the longest time between two, in intervals.
fn regularity(adverts: &BTreeMap<Router, Vec<Instant>>, interval: Duration) -> (f64, f64) {
    let (mut due, mut there, mut longest) = (0.0, 0.0, 0.0_f64);
    for times in adverts.values() {
        let span = times[times.len() - 1] - times[0];
        due += (span.as_secs_f64() / interval.as_secs_f64()).round();
        there += (times.len() - 1) as f64;
        for pair in times.windows(2) {
            longest = longest.max((pair[1] - pair[0]).as_secs_f64() / interval.as_secs_f64());
        }
    }
    (100.0 * (due - there).max(0.0) / due, longest)
}

/// Processor time and what was heard meanwhile.
struct Window {
    seconds: f64,
    processor: f64,
    heard: Vec<Heard>,
}

fn window(daemon: &Daemon, listener: &Listener, span: Duration) -> Window {
    let (from, before) = (Instant::now(), daemon.processor_time().unwrap());
    thread::sleep(span);
    let (to, after) = (Instant::now(), daemon.processor_time().unwrap());
    thread::sleep(Duration::from_millis(20));
    Window {
        seconds: (to - from).as_secs_f64(),
        processor: (after - before).as_secs_f64(),
        heard: listener.between(from, to),
    }
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn send(routers: usize, interval: Duration, priority: u8) -> Floor {
    Floor::Send { routers, addresses: 1, interval, priority, spread: false }
}

// ---- what it costs -----------------------------------------------------------------------------

fn master(bench: &Bench) -> Vec<Row> {
    let interval = millis(100);
    let goals = [Goal::Keepalived(0.4), Goal::Floor(1.5)];
    let mut cost = Row::new("master, 255 virtual routers, 100 ms: CPU per advert", "us", 1, &goals);
    let goals = [Goal::Keepalived(0.75)];
    let mut memory = Row::new("memory (PSS) of the same, all its processes", "MB", 2, &goals);
    bench.each(&ALL, |subject| {
        let hosts = TwoHosts::new();
        let specs = specs(255, 150, interval);
        let daemon = bench.start(subject, &hosts.a, &specs, send(255, interval, 150));
        hosts.await_adverts(MASTER, 255, interval);
        if subject != Subject::Floor {
            thread::sleep(SETTLED);
            memory.add(subject, daemon.memory().unwrap() as f64 / 1e6);
        }
        let window = window(&daemon, &hosts.listener, millis(2500));
        let sent: usize = adverts(&window.heard, MASTER).values().map(Vec::len).sum();
        cost.add(subject, 1e6 * window.processor / sent as f64);
    });
    vec![cost, memory]
}

fn master_10ms(bench: &Bench) -> Vec<Row> {
    let interval = millis(10);
    let mut share = Row::new(
        "master, 255 virtual routers, 10 ms: CPU for 25,500 adverts a second",
        "% of a core",
        1,
        &[Goal::Keepalived(0.4)],
    );
    let mut missing = Row::new("the same: adverts missing", "%", 2, &[Goal::AtMost(0.0)]);
    let mut longest =
        Row::new("the same: longest time between two", "intervals", 2, &[Goal::AtMost(1.5)]);
    bench.each(&ALL, |subject| {
        let hosts = TwoHosts::new();
        let specs = specs(255, 150, interval);
        let daemon = bench.start(subject, &hosts.a, &specs, send(255, interval, 150));
        hosts.await_adverts(MASTER, 255, interval);
        if subject != Subject::Floor {
            thread::sleep(SETTLED);
        }
        let window = window(&daemon, &hosts.listener, millis(2500));
        let heard = adverts(&window.heard, MASTER);
        let sent: usize = heard.values().map(Vec::len).sum();
        // A program that sends fewer adverts has less to do.
        share.add(subject, 100.0 * window.processor / sent as f64 * 25_500.0);
        let (lost, gap) = regularity(&heard, interval);
        missing.add(subject, lost);
        longest.add(subject, gap);
    });
    vec![share, missing, longest]
}

fn backup(bench: &Bench) -> Vec<Row> {
    let interval = millis(100);
    let mut rows = Vec::new();
    for (spread, how) in [(true, "each at its own time"), (false, "all at once")] {
        let work = format!("backup, 255 x 100 ms, {how}: CPU per advert heard");
        let mut cost = Row::new(&work, "us", 1, &[Goal::Keepalived(0.7)]);
        bench.each(&ALL, |subject| {
            let hosts = TwoHosts::new();
            let priority = 200;
            let sender = Floor::Send { routers: 255, addresses: 1, interval, priority, spread };
            let _sender = start_floor(&hosts.a, sender, false);
            hosts.await_adverts(MASTER, 255, interval);
            let specs = specs(255, 100, interval);
            let daemon = bench.start(subject, &hosts.b, &specs, Floor::Receive);
            thread::sleep(millis(2000));
            let window = window(&daemon, &hosts.listener, millis(2500));
            assert!(adverts(&window.heard, BACKUP).is_empty(), "a backup became master");
            let heard: usize = adverts(&window.heard, MASTER).values().map(Vec::len).sum();
            cost.add(subject, 1e6 * window.processor / heard as f64);
        });
        rows.push(cost);
    }
    rows
}

/// How long an advert waits until it is handled, seen from outside: a master answers one of lower
/// priority.
fn answer(bench: &Bench) -> Vec<Row> {
    let work = "master that hears a lower one, 255 x 100 ms, each at its own time";
    let goals = [Goal::AtMost(1.0)];
    let mut half = Row::new(&format!("{work}: half are answered within"), "ms", 2, &goals);
    let mut most = Row::new("the same: 99 % are answered within", "ms", 2, &[Goal::None]);
    let interval = millis(100);
    bench.each(&BOTH, |subject| {
        let hosts = TwoHosts::new();
        let specs = specs(255, 150, interval);
        let daemon = bench.start(subject, &hosts.b, &specs, Floor::Receive);
        hosts.await_adverts(BACKUP, 255, interval);
        let (routers, addresses, priority, spread) = (255, 1, 50, true);
        let sender = Floor::Send { routers, addresses, interval, priority, spread };
        let _sender = start_floor(&hosts.a, sender, false);
        hosts.await_adverts(MASTER, 255, interval);
        thread::sleep(SETTLED);
        let heard = window(&daemon, &hosts.listener, millis(2500)).heard;
        let answers = adverts(&heard, BACKUP);
        let mut waits: Vec<f64> = Vec::new();
        for (router, times) in adverts(&heard, MASTER) {
            for at in times {
                let answer = answers[&router].iter().find(|answer| **answer > at);
                waits.extend(answer.map(|answer| 1e3 * (*answer - at).as_secs_f64()));
            }
        }
        waits.sort_by(f64::total_cmp);
        half.add(subject, median(&waits));
        most.add(subject, waits[waits.len() * 99 / 100]);
    });
    vec![half, most]
}

fn one(bench: &Bench) -> Vec<Row> {
    let interval = millis(10);
    let goals = [Goal::Keepalived(0.7)];
    let mut master = Row::new("one router at 10 ms, master: CPU", "% of a core", 3, &goals);
    let mut backup = Row::new("one router at 10 ms, backup: CPU", "% of a core", 3, &goals);
    bench.each(&ALL, |subject| {
        let hosts = TwoHosts::new();
        let sender = send(1, interval, 150);
        let first = bench.start(subject, &hosts.a, &specs(1, 150, interval), sender);
        hosts.await_adverts(MASTER, 1, interval);
        let second = bench.start(subject, &hosts.b, &specs(1, 100, interval), Floor::Receive);
        if subject != Subject::Floor {
            thread::sleep(SETTLED);
        }
        let before = second.processor_time().unwrap();
        let window = window(&first, &hosts.listener, millis(4000));
        let after = second.processor_time().unwrap();
        master.add(subject, 100.0 * window.processor / window.seconds);
        backup.add(subject, 100.0 * (after - before).as_secs_f64() / window.seconds);
    });
    vec![master, backup]
}

fn idle(bench: &Bench) -> Vec<Row> {
    let interval = millis(1000);
    let goals = [Goal::AtMost(4.0)];
    let mut master =
        Row::new("idle pair, one router at 1 s, master: wake-ups", "a second", 1, &goals);
    let mut backup =
        Row::new("idle pair, one router at 1 s, backup: wake-ups", "a second", 1, &goals);
    bench.once(&ALL, |subject| {
        let hosts = TwoHosts::new();
        let sender = send(1, interval, 150);
        let first = bench.start(subject, &hosts.a, &specs(1, 150, interval), sender);
        hosts.await_adverts(MASTER, 1, interval);
        let second = bench.start(subject, &hosts.b, &specs(1, 100, interval), Floor::Receive);
        thread::sleep(SETTLED + millis(1000));
        let before = [&first, &second].map(|daemon| daemon.wakeups().unwrap());
        let span = millis(10_000);
        thread::sleep(span);
        let after = [&first, &second].map(|daemon| daemon.wakeups().unwrap());
        for (row, (before, after)) in
            [&mut master, &mut backup].into_iter().zip(before.into_iter().zip(after))
        {
            row.add(subject, (after - before) as f64 / span.as_secs_f64());
        }
    });
    vec![master, backup]
}

// ---- how long it takes -------------------------------------------------------------------------

/// A master that has just fallen silent, and what followed.
struct Fall {
    /// When the takeover of the last of its virtual routers was due.
    deadline: Instant,
    /// When each address was first announced by the successor.
    announced: Vec<Instant>,
    heard: Vec<Heard>,
}

/// Lets a master appear above `b`, lets it fall silent, and waits until `b` has announced all
/// `addresses`.
fn fall(hosts: &TwoHosts, sender: Floor, spec: &RouterSpec, addresses: &[IpAddr]) -> Fall {
    let Floor::Send { routers, .. } = sender else { unreachable!("a master sends") };
    let mut master = start_floor(&hosts.a, sender, false);
    hosts.await_adverts(MASTER, routers, spec.interval);
    let last = addresses[addresses.len() - 1];
    while hosts.b.holds(last).unwrap() {
        thread::sleep(millis(50));
    }
    thread::sleep(millis(400));
    let from = Instant::now() - 3 * spec.interval;
    master.crash();
    thread::sleep(millis(5));
    let lasts = adverts(&hosts.listener.between(from, Instant::now()), MASTER);
    let deadline = lasts.values().map(|times| times[times.len() - 1]).max().unwrap();
    let deadline = deadline + spec.master_down_interval();
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        thread::sleep(millis(30));
        let heard = hosts.listener.between(from, Instant::now());
        let mut first: BTreeMap<IpAddr, Instant> = BTreeMap::new();
        for heard in heard.iter().filter(|heard| heard.host == BACKUP) {
            if let FrameKind::Announcement(ip) = heard.kind {
                first.entry(ip).or_insert(heard.at);
            }
        }
        let announced: Vec<Instant> =
            addresses.iter().filter_map(|ip| first.get(ip)).copied().collect();
        if announced.len() == addresses.len() {
            thread::sleep(millis(100));
            let heard = hosts.listener.between(from, Instant::now());
            return Fall { deadline, announced, heard };
        }
        let missing = addresses.len() - announced.len();
        assert!(Instant::now() < give_up, "{missing} addresses were not announced");
    }
}

impl Fall {
    fn first(&self) -> f64 {
        1e3 * signed(self.announced.iter().copied().min().unwrap(), self.deadline)
    }

    fn last(&self) -> f64 {
        1e3 * signed(self.announced.iter().copied().max().unwrap(), self.deadline)
    }
}

/// Seconds after a deadline; negative before it.
fn signed(at: Instant, deadline: Instant) -> f64 {
    at.saturating_duration_since(deadline).as_secs_f64()
        - deadline.saturating_duration_since(at).as_secs_f64()
}

fn claim(bench: &Bench) -> Vec<Row> {
    let mut first = Row::new(
        "claim of 1000 IPv4 addresses, from the deadline: first announced",
        "ms",
        2,
        &[Goal::AtMost(2.0)],
    );
    let goals = [Goal::Keepalived(0.75)];
    let mut all = Row::new("the same: all announced", "ms", 2, &goals);
    let mut beside = Row::new(
        "the same: longest time between adverts of another router at 10 ms",
        "intervals",
        2,
        &[Goal::AtMost(1.5)],
    );
    let addresses: Vec<IpAddr> = (0..1000).map(|n| shared(0, n)).collect();
    let (advertised, riding) = addresses.split_at(255);
    let list = |separator: &str, quote: &str| {
        let texts: Vec<_> = riding.iter().map(|ip| format!("{quote}{ip}{quote}")).collect();
        texts.join(separator)
    };
    let mut specs = specs(2, 100, millis(100));
    specs[0].addresses = advertised.to_vec();
    specs[0].more += &format!("unadvertised_addresses = [{}]\n", list(", ", "\""));
    specs[0].keepalived_more = format!("virtual_ipaddress_excluded {{\n{}\n}}\n", list("\n", ""));
    specs[1].interval = millis(10);
    bench.once(&ALL, |subject| {
        let hosts = TwoHosts::new();
        if subject == Subject::Floor {
            for _ in 0..bench.rounds {
                let hosts = TwoHosts::new();
                let mut adder = start_floor(&hosts.b, Floor::Add(1000), true);
                adder.wait(Duration::from_secs(10)).unwrap();
                let micros: f64 = adder.log().trim().parse().unwrap();
                all.add(subject, micros / 1e3);
            }
            return;
        }
        let _daemon = bench.start(subject, &hosts.b, &specs, Floor::Receive);
        hosts.await_adverts(BACKUP, 2, millis(100));
        let sender = Floor::Send {
            routers: 1,
            addresses: 255,
            interval: millis(100),
            priority: 200,
            spread: false,
        };
        for _ in 0..bench.rounds + 2 {
            thread::sleep(millis(500));
            let fall = fall(&hosts, sender, &specs[0], &addresses);
            first.add(subject, fall.first());
            all.add(subject, fall.last());
            let around = |at: Instant| at + millis(50) > fall.deadline;
            let mut others = adverts(&fall.heard, BACKUP);
            others.retain(|router, times| {
                times.retain(|at| around(*at));
                router.vrid == 2
            });
            beside.add(subject, regularity(&others, millis(10)).1);
        }
    });
    vec![first, all, beside]
}

fn takeover(bench: &Bench) -> Vec<Row> {
    let goals = [Goal::Keepalived(0.2)];
    let mut last =
        Row::new("takeover of 250 routers at once: deadline to last announcement", "ms", 1, &goals);
    let interval = millis(100);
    let specs = specs(250, 100, interval);
    let addresses: Vec<IpAddr> = (0..250).map(|n| shared(n, 0)).collect();
    bench.once(&BOTH, |subject| {
        let hosts = TwoHosts::new();
        let _daemon = bench.start(subject, &hosts.b, &specs, Floor::Receive);
        hosts.await_adverts(BACKUP, 250, interval);
        for _ in 0..bench.rounds + 2 {
            thread::sleep(millis(500));
            let fall = fall(&hosts, send(250, interval, 200), &specs[0], &addresses);
            last.add(subject, fall.last());
        }
    });
    vec![last]
}

fn crash(bench: &Bench) -> Vec<Row> {
    let goals = [Goal::Keepalived(0.5)];
    let work = "crash of the host, 20 times: announcement past the deadline";
    let mut late = Row::new(work, "ms", 2, &goals);
    let mut worst = Row::new("the same: worst of 20", "ms", 2, &[Goal::None]);
    let interval = millis(100);
    let specs = specs(1, 100, interval);
    bench.once(&BOTH, |subject| {
        let hosts = TwoHosts::new();
        let _daemon = bench.start(subject, &hosts.b, &specs, Floor::Receive);
        hosts.await_adverts(BACKUP, 1, interval);
        let mut all = Vec::new();
        for _ in 0..20 {
            let fall = fall(&hosts, send(1, interval, 200), &specs[0], &[shared(0, 0)]);
            all.push(fall.first());
        }
        all.iter().for_each(|value| late.add(subject, *value));
        worst.add(subject, all.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    });
    vec![late, worst]
}

// ---- how late it is ----------------------------------------------------------------------------

fn renewals(bench: &Bench) -> Vec<Row> {
    let interval = millis(10);
    let mut longest = Row::new(
        "leases of 255 IPv4 and 255 IPv6 addresses renewed every second: longest time between adverts of another router at 10 ms",
        "intervals",
        2,
        &[Goal::AtMost(1.5)],
    );
    let mut specs = specs(2, 150, millis(1000));
    specs[0].addresses = (0..255).map(|n| shared(0, n)).collect();
    specs[1].interval = interval;
    let six = |n: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, n + 1));
    let mut v6 = RouterSpec::new(six(0), 150);
    v6.name = "six".to_owned();
    v6.vrid = 3;
    v6.interval = millis(1000);
    v6.addresses = (0..255).map(six).collect();
    specs.push(v6);
    bench.each(&[Subject::Floor, Subject::Vipd], |subject| {
        let hosts = TwoHosts::new();
        let daemon = bench.start(subject, &hosts.a, &specs, send(1, interval, 150));
        // An advert with 255 IPv6 addresses comes in fragments, which are not counted here.
        hosts.await_adverts(MASTER, if subject == Subject::Floor { 1 } else { 2 }, millis(1000));
        thread::sleep(SETTLED);
        let window = window(&daemon, &hosts.listener, millis(6000));
        let mut heard = adverts(&window.heard, MASTER);
        heard.retain(|_, times| times.len() > 100);
        longest.add(subject, regularity(&heard, interval).1);
    });
    vec![longest]
}

fn lateness(bench: &Bench) -> Vec<Row> {
    let interval = millis(10);
    let mut late = Row::new(
        "one router at 10 ms, both cores busy: 99.9 % of adverts are no later than",
        "ms",
        3,
        &[Goal::Floor(2.0)],
    );
    let mut usual = Row::new("the same: half of the adverts", "ms", 3, &[Goal::None]);
    let stop = Arc::new(AtomicBool::new(false));
    let count = thread::available_parallelism().map_or(1, usize::from);
    let busy: Vec<_> = (0..count)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut count = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    count = black_box(count + 1);
                }
            })
        })
        .collect();
    bench.each(&ALL, |subject| {
        let hosts = TwoHosts::new();
        let specs = specs(1, 150, interval);
        let daemon = bench.start(subject, &hosts.a, &specs, send(1, interval, 150));
        hosts.await_adverts(MASTER, 1, interval);
        if subject != Subject::Floor {
            thread::sleep(SETTLED);
        }
        let window = window(&daemon, &hosts.listener, millis(10_000));
        let heard = adverts(&window.heard, MASTER);
        let mut delays = delays(heard.values().next().unwrap(), interval);
        delays.sort_by(f64::total_cmp);
        usual.add(subject, 1e3 * median(&delays));
        late.add(subject, 1e3 * delays[delays.len() * 999 / 1000]);
    });
    stop.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    vec![late, usual]
}

/// How much later each arrived than the most punctual one, by the schedule, in seconds. A program
/// that does not keep to a schedule, and begins the next interval after sending, is compared with
/// the advert before.
fn delays(times: &[Instant], interval: Duration) -> Vec<f64> {
    let first = times[0];
    let offset = |at: Instant| {
        let since = (at - first).as_secs_f64() / interval.as_secs_f64();
        (since - since.round()) * interval.as_secs_f64()
    };
    let offsets: Vec<f64> = times.iter().map(|at| offset(*at)).collect();
    let low = offsets.iter().copied().fold(f64::INFINITY, f64::min);
    let high = offsets.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if high - low < interval.as_secs_f64() * 0.9 {
        return offsets.iter().map(|offset| offset - low).collect();
    }
    let gap = |pair: &[Instant]| (pair[1] - pair[0]).as_secs_f64() - interval.as_secs_f64();
    times.windows(2).map(|pair| gap(pair).max(0.0)).collect()
}

fn reload(bench: &Bench) -> Vec<Row> {
    let interval = millis(100);
    let mut missing = Row::new(
        "reload of 1000 routers with one changed: adverts missing",
        "%",
        2,
        &[Goal::AtMost(0.0)],
    );
    let mut longest = Row::new("the same: longest time between two", "intervals", 2, &[Goal::None]);
    bench.once(&BOTH, |subject| {
        let hosts = TwoHosts::new();
        let second = hosts.lab.switch(1).unwrap();
        hosts.a.connect("eth1", second).unwrap();
        hosts.client.connect("eth1", second).unwrap();
        let mut specs = many(4, &["eth0", "eth1"], interval);
        let daemon = bench.start(subject, &hosts.a, &specs, Floor::Receive);
        hosts.await_adverts(MASTER, 1000, interval);
        thread::sleep(SETTLED);
        for round in 0..bench.rounds {
            specs[500].priority = 160 + round as u8;
            let program = match subject {
                Subject::Keepalived => bench.beside.as_ref().unwrap(),
                Subject::Floor | Subject::Vipd => &bench.vipd,
            };
            std::fs::write(daemon.config(), configuration("a", program, &specs)).unwrap();
            let from = Instant::now();
            daemon.signal(Signal::SIGHUP).unwrap();
            thread::sleep(millis(2000));
            let heard = adverts(&hosts.listener.between(from, Instant::now()), MASTER);
            let (lost, gap) = regularity(&heard, interval);
            missing.add(subject, lost);
            longest.add(subject, gap);
        }
    });
    vec![missing, longest]
}

/// 250 routers of each family on each interface, as far as `sets` go: IPv4 first.
fn many(sets: usize, interfaces: &[&str], interval: Duration) -> Vec<RouterSpec> {
    let mut all = Vec::new();
    let kinds = [false, true].into_iter().flat_map(|v6| interfaces.iter().map(move |i| (v6, *i)));
    for (set, (v6, interface)) in kinds.take(sets).enumerate() {
        for mut spec in specs(250, 150, interval) {
            let n = spec.vrid;
            spec.name = format!("{interface}-{v6}-{n}");
            spec.interface = interface.to_owned();
            spec.addresses = vec![if v6 {
                Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1 + set as u16, n.into()).into()
            } else {
                shared(250 * set + usize::from(n) - 1, 0)
            }];
            all.push(spec);
        }
    }
    all
}

fn interfaces(bench: &Bench) -> Vec<Row> {
    let interval = millis(100);
    let mut rows = Vec::new();
    for (count, work) in
        [(1, "250 routers at 100 ms on one interface"), (4, "on four interfaces, 250 on each")]
    {
        let mut cost = Row::new(&format!("{work}: CPU per advert"), "us", 1, &[Goal::None]);
        bench.once(&BOTH, |subject| {
            let hosts = TwoHosts::new();
            let mut names = vec!["eth0".to_owned()];
            for n in 1..count {
                let lan = hosts.lab.switch(n).unwrap();
                names.push(format!("eth{n}"));
                for host in [&hosts.a, &hosts.b, &hosts.client] {
                    host.connect(&names[usize::from(n)], lan).unwrap();
                }
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let specs = many(names.len(), &names, interval);
            let daemon = bench.start(subject, &hosts.a, &specs, Floor::Receive);
            hosts.await_adverts(MASTER, specs.len(), interval);
            thread::sleep(SETTLED);
            let window = window(&daemon, &hosts.listener, millis(3000));
            let heard = adverts(&window.heard, MASTER);
            let distinct: BTreeSet<_> = heard.keys().collect();
            assert_eq!(distinct.len(), specs.len());
            let sent: usize = heard.values().map(Vec::len).sum();
            cost.add(subject, 1e6 * window.processor / sent as f64);
        });
        rows.push(cost);
    }
    rows
}
