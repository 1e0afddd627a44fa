//! Figures of vipd and of keepalived in the same run, in network namespaces.
//!
//! `cargo bench --bench figures [-- failover | schedule | malformed | lower | keepalived]`: about
//! five minutes for each of the two; with `keepalived`, all figures of that alone. Times are the
//! kernel's, taken where the frames reach the switch.
#![allow(clippy::unwrap_used)]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::fmt::Display;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lab::{Daemon, Host, Lab, Malformation, Program, RouterSpec, Stranger, wait_for};

const SHARED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));
const VRID: u8 = 51;
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "lab-child") {
        return lab::child_main(arguments);
    }
    if let Err(error) = lab::enter() {
        eprintln!("figures: {error}");
        return ExitCode::FAILURE;
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let mut programs = vec![("vipd", Program::Vipd(env!("CARGO_BIN_EXE_vipd").into()))];
    match lab::keepalived() {
        Some(file) => programs.push(("keepalived", Program::Keepalived(file))),
        None => println!("SKIPPED: keepalived is not installed"),
    }
    if filter.as_deref() == Some("keepalived") {
        programs.remove(0);
    }
    let mut table = Table::default();
    type Figures = fn(&Program) -> Vec<(String, String)>;
    let all: [(&str, Figures); 4] = [
        ("failover", failover),
        ("schedule", schedule),
        ("malformed", malformed),
        ("lower", lower),
    ];
    for (name, figures) in all {
        if wanted(name) || filter.as_deref() == Some("keepalived") {
            for (column, (program_name, program)) in programs.iter().enumerate() {
                eprintln!("{name}: {program_name} ...");
                table.add(column, figures(program));
            }
        }
    }
    table.print(&programs.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    ExitCode::SUCCESS
}

/// The first announcement of the winner after the protocol's deadline: when the master's host
/// crashes, 3 x interval + skew after its last advert; when it is stopped, skew after priority 0.
fn failover(program: &Program) -> Vec<(String, String)> {
    let mut figures = Vec::new();
    for interval in [1000, 100, 10].map(Duration::from_millis) {
        let (mut crashes, mut stops) = (Vec::new(), Vec::new());
        let spec = |priority| RouterSpec { interval, ..RouterSpec::new(SHARED, priority) };
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        let _daemon_b = Daemon::start(&b, program, &[spec(100)]).unwrap();
        await_master(&lab, "b");
        for _ in 0..ROUNDS {
            let mut daemon_a = Daemon::start(&a, program, &[spec(150)]).unwrap();
            await_master(&lab, "a");
            std::thread::sleep(5 * interval + Duration::from_millis(130));
            daemon_a.crash();
            let (last, _) =
                lab.observer().adverts("a", Instant::now() - 3 * interval).pop().unwrap();
            a.cut().unwrap();
            let won = await_announcement(&lab, "b", last);
            crashes.push(late(won, last + spec(100).master_down_interval()));
            await_master(&lab, "b");

            a.boot().unwrap();
            let mut daemon_a = Daemon::start(&a, program, &[spec(150)]).unwrap();
            await_master(&lab, "a");
            std::thread::sleep(5 * interval + Duration::from_millis(130));
            let stopped = Instant::now();
            daemon_a.stop(Duration::from_secs(10)).unwrap();
            let priority_zeros = lab.observer().adverts("a", stopped);
            let (priority_zero, _) =
                priority_zeros.iter().find(|(_, advert)| advert.priority == 0).unwrap();
            let won = await_announcement(&lab, "b", *priority_zero);
            stops.push(late(won, *priority_zero + spec(100).skew()));
            await_master(&lab, "b");
        }
        let every = format!("{} ms adverts", interval.as_millis());
        figures.push((format!("crash, {every}: winner after the deadline, ms"), median(&crashes)));
        figures.push((format!("stop, {every}: winner after skew time, ms"), median(&stops)));
    }
    figures
}

/// Adverts leave on an absolute schedule: 100 s at 100 ms are a thousand.
fn schedule(program: &Program) -> Vec<(String, String)> {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let _daemon = Daemon::start(&a, program, &[RouterSpec::new(SHARED, 150)]).unwrap();
    await_master(&lab, "a");
    let from = Instant::now() + Duration::from_millis(50);
    let to = from + Duration::from_secs(100);
    std::thread::sleep(to - Instant::now() + Duration::from_millis(10));
    let count = adverts(&lab, from, to);
    let gap = lab.longest_gap("a", from, to);
    vec![
        ("adverts in 100 s at 100 ms (1000 are due)".to_owned(), count.to_string()),
        ("longest gap among them, ms".to_owned(), millis(gap)),
    ]
}

/// Malformed adverts of every kind, of a higher priority than the master's.
fn malformed(program: &Program) -> Vec<(String, String)> {
    let mut figures = Vec::new();
    for (period, name) in [(100, "1 per interval"), (1, "1000 per second")] {
        let crowd = Crowd::new(program, 250, &Malformation::ALL, Duration::from_millis(period));
        let (seconds, count) = (crowd.span.as_secs(), crowd.adverts());
        let what = format!("malformed, {name}: adverts in {seconds} s ({} are due)", 10 * seconds);
        figures.push((what, count.to_string()));
        let gap = crowd.lab.longest_gap("a", crowd.from, crowd.to);
        figures.push((format!("malformed, {name}: longest gap, ms"), millis(gap)));
        let moves = crowd.lab.ownership(SHARED, crowd.from, crowd.to).changes;
        figures.push((format!("malformed, {name}: moves of the address"), moves.to_string()));
    }
    figures
}

/// A thousand well-formed adverts of a lower priority per second.
fn lower(program: &Program) -> Vec<(String, String)> {
    let crowd = Crowd::new(program, 1, &[Malformation::None], Duration::from_millis(1));
    let seconds = crowd.span.as_secs_f64();
    let count = f64::from(u32::try_from(crowd.adverts()).unwrap());
    let announcements = crowd.lab.observer().announcements("a", SHARED, crowd.from);
    let announcements = announcements.iter().filter(|at| **at < crowd.to).count();
    let rounds = f64::from(u32::try_from(announcements).unwrap()) / seconds;
    vec![
        ("lower, 1000 per second: extra adverts per second".to_owned(), {
            format!("{:.1}", count / seconds - 10.0)
        }),
        ("lower, 1000 per second: announcements per second".to_owned(), format!("{rounds:.1}")),
    ]
}

/// A master, its backup, and for ten seconds a sender of unwanted adverts.
struct Crowd {
    from: Instant,
    to: Instant,
    span: Duration,
    lab: Lab,
}

impl Crowd {
    fn new(
        program: &Program,
        priority: u8,
        malformations: &[Malformation],
        period: Duration,
    ) -> Self {
        let span = Duration::from_secs(10);
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        let mallory: Host = lab.host("mallory", 66).unwrap();
        let _daemon_a = Daemon::start(&a, program, &[RouterSpec::new(SHARED, 150)]).unwrap();
        await_master(&lab, "a");
        let _daemon_b = Daemon::start(&b, program, &[RouterSpec::new(SHARED, 100)]).unwrap();
        // Past the rounds of announcements that follow its election.
        std::thread::sleep(Duration::from_secs(6));
        let IpAddr::V4(shared) = SHARED else { unreachable!("it is an IPv4 address") };
        let interval = Duration::from_millis(100);
        let from = Instant::now();
        let stranger =
            Stranger::start(&mallory, VRID, priority, interval, shared, malformations, period)
                .unwrap();
        std::thread::sleep(span);
        let to = from + span;
        let due = span.as_millis() / period.as_millis();
        let sent = stranger.sent();
        assert!(u128::from(sent) * 10 > due * 9, "only {sent} of {due} were sent");
        Self { from, to, span, lab }
    }

    fn adverts(&self) -> usize {
        adverts(&self.lab, self.from, self.to)
    }
}

fn adverts(lab: &Lab, from: Instant, to: Instant) -> usize {
    lab.observer().adverts("a", from).iter().filter(|(at, _)| *at < to).count()
}

fn await_master(lab: &Lab, host: &str) {
    let settled = wait_for(Duration::from_secs(15), || {
        (lab.owners(SHARED) == [host] && lab.observer().master(VRID).as_deref() == Some(host))
            .then_some(())
    });
    let logs = ["a", "b"].map(|host| {
        let read = |name| std::fs::read_to_string(lab.dir().join(host).join(name));
        format!(
            "{}{}",
            read("vipd.log").unwrap_or_default(),
            read("keepalived.log").unwrap_or_default()
        )
    });
    assert!(settled.is_some(), "{host} does not become master\n{}", logs.join("\n"));
}

fn await_announcement(lab: &Lab, host: &str, since: Instant) -> Instant {
    wait_for(Duration::from_secs(15), || {
        lab.observer().announcements(host, SHARED, since).first().copied()
    })
    .unwrap()
}

/// Milliseconds after a deadline; negative before it.
fn late(at: Instant, deadline: Instant) -> f64 {
    let after = at.saturating_duration_since(deadline).as_secs_f64();
    let before = deadline.saturating_duration_since(at).as_secs_f64();
    (after - before) * 1000.0
}

fn median(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.first(), sorted.last()) {
        (Some(median), Some(first), Some(last)) => {
            format!("{median:+.2} ({first:+.2} .. {last:+.2})")
        }
        _ => "-".to_owned(),
    }
}

fn millis(span: Duration) -> String {
    format!("{:.1}", span.as_secs_f64() * 1000.0)
}

/// A line per figure, a column per program.
#[derive(Default)]
struct Table {
    lines: Vec<(String, Vec<String>)>,
}

impl Table {
    fn add(&mut self, column: usize, figures: Vec<(String, String)>) {
        for (name, value) in figures {
            match self.lines.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => {
                    let mut values = vec![String::new(); column];
                    values.push(value);
                    self.lines.push((name, values));
                }
            }
        }
    }

    fn print(&self, columns: &[impl Display]) {
        let line = |name: &str, values: &[String]| {
            let values: String = values.iter().map(|value| format!(" {value:>25}")).collect();
            println!("{name:<60}{values}");
        };
        println!();
        line(
            &format!("figure (median of {ROUNDS}, smallest .. largest)"),
            &columns.iter().map(ToString::to_string).collect::<Vec<_>>(),
        );
        for (name, values) in &self.lines {
            line(name, values);
        }
    }
}
