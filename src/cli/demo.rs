//! `vipd demo`: two hosts, a switch and a client in namespaces of its own; the election, a crashed
//! daemon, a crashed host, its return and a clean stop, and what the client saw of each.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::lab::{self, Daemon, Host, Lab, Observer, ProbeReport, Prober};
use crate::vrrp::{Interval, Priority, Version};

const SHARED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const VRID: u8 = 51;
const INTERVAL: Interval = match Interval::from_centis(10) {
    Some(interval) => interval,
    None => Interval::DEFAULT,
};
const PRIORITY_A: Priority = Priority::new(150);
const PRIORITY_B: Priority = Priority::DEFAULT;
const PROBE_PERIOD: Duration = Duration::from_millis(1);
/// How much a busy machine may add to the protocol's own limits before a step counts as failed.
const MARGIN: Duration = Duration::from_millis(100);
/// How long a step is measured after its end.
const AFTER_STEP: Duration = Duration::from_millis(1500);
/// Longer than any step takes.
const STEP_TIMEOUT: Duration = Duration::from_secs(6);

/// Runs the demo. Must be called while the process has one thread. The exit status is 0 if every step
/// met its expectation, and 130 if a signal ended it.
pub(super) fn run() -> ExitCode {
    let mut terminal = Terminal::new();
    let result = lab::enter().map_err(DemoError::Io).and_then(|()| {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        Demo::new(&mut terminal, interrupted)?.play()
    });
    match result {
        Ok(steps) => terminal.summary(&steps),
        Err(DemoError::Interrupted) => {
            terminal.say("\nInterrupted; both daemons and all namespaces are gone.");
            ExitCode::from(130)
        }
        Err(DemoError::Io(error)) => {
            eprintln!("vipd: demo: {error}");
            ExitCode::FAILURE
        }
        Err(DemoError::Unexpected(what)) => {
            eprintln!("vipd: demo: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Why the demo was not completed.
enum DemoError {
    Interrupted,
    Io(io::Error),
    Unexpected(String),
}

impl From<io::Error> for DemoError {
    fn from(error: io::Error) -> Self {
        DemoError::Io(error)
    }
}

/// The longest interruption that the client may see in a step.
#[derive(Clone, Copy)]
enum Expectation {
    NothingLost,
    SilenceUpTo(Duration),
}

impl Expectation {
    fn is_met(self, report: &ProbeReport) -> bool {
        report.sent > 0
            && match self {
                Expectation::NothingLost => report.lost == 0,
                Expectation::SilenceUpTo(limit) => report.longest_silence <= limit + MARGIN,
            }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::NothingLost => write!(f, "nothing lost"),
            Expectation::SilenceUpTo(limit) => write!(f, "silence up to {}", Millis(*limit)),
        }
    }
}

/// How long B as backup waits for a silent master.
fn master_down_of_b() -> Duration {
    INTERVAL.master_down(Version::V3, PRIORITY_B)
}

/// The configuration of a server.
fn configuration(host: &str, priority: Priority) -> String {
    format!(
        "[node]\nname = \"{host}\"\n\n\
         [[virtual_router]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = {VRID}\n\
         priority = {priority}\nadvert_interval = \"{INTERVAL}\"\naddresses = [\"{SHARED}\"]\n\
         link_delay = \"0s\"\n"
    )
}

struct DemoStep {
    name: &'static str,
    report: ProbeReport,
    expectation: Expectation,
}

struct Demo<'a> {
    terminal: &'a mut Terminal,
    interrupted: Arc<AtomicBool>,
    began: Instant,
    // Dropped before the lab, so that the daemons end before their namespaces.
    daemons: Vec<Daemon>,
    prober: Option<Prober>,
    a: Host,
    b: Host,
    client: Host,
    observer: Observer,
    _lab: Lab,
}

impl<'a> Demo<'a> {
    fn new(terminal: &'a mut Terminal, interrupted: Arc<AtomicBool>) -> Result<Self, DemoError> {
        let lab = Lab::new()?;
        let observer = Observer::start(&lab)?;
        let (a, b) = (lab.host("web-a", 1)?, lab.host("web-b", 2)?);
        let client = lab.host("client", 200)?;
        for host in [&a, &b] {
            host.answer(SHARED)?;
        }
        terminal.say(&format!(
            "Two servers share {SHARED}: web-a (priority {}) and web-b (priority {}).\n\
             They are network namespaces of this process on a switch of their own; nothing\n\
             outside is touched. They advertise every {}, so web-b waits {} before\n\
             it takes over from a silent web-a. A client sends {} datagrams a second to\n\
             the shared address, and each server answers with its name: below, a letter\n\
             stands for {} in which it answered, a dot for as long without an answer.",
            PRIORITY_A,
            PRIORITY_B,
            Millis(INTERVAL.duration()),
            Millis(master_down_of_b()),
            Duration::from_secs(1).as_millis() / PROBE_PERIOD.as_millis(),
            Millis(COLUMN_SPAN),
        ));
        let (daemons, began) = (Vec::new(), Instant::now());
        Ok(Self {
            terminal,
            interrupted,
            began,
            daemons,
            prober: None,
            a,
            b,
            client,
            observer,
            _lab: lab,
        })
    }

    fn play(mut self) -> Result<Vec<DemoStep>, DemoError> {
        let silence = master_down_of_b();
        Ok(vec![
            self.election()?,
            self.step("web-a's vipd crashes", Expectation::NothingLost, Self::restart)?,
            self.step("web-a's host crashes", Expectation::SilenceUpTo(silence), Self::crash)?,
            self.step("web-a comes back", Expectation::NothingLost, Self::comeback)?,
            self.step("web-a is stopped", Expectation::NothingLost, Self::stop)?,
        ])
    }

    /// The client starts after the election, as no server answers before.
    fn election(&mut self) -> Result<DemoStep, DemoError> {
        let name = "the election";
        self.terminal.title(name);
        let started = self.note("vipd starts on web-a and on web-b");
        self.daemons.push(Self::start(&self.b, PRIORITY_B)?);
        self.daemons.push(Self::start(&self.a, PRIORITY_A)?);
        self.becomes_master("web-a", started)?;
        let from = self.note("the client begins to ask");
        self.prober = Some(Prober::start(&self.client, SHARED, PROBE_PERIOD)?);
        self.finish(name, Expectation::NothingLost, "web-a", from)
    }

    fn step(
        &mut self,
        name: &'static str,
        expectation: Expectation,
        happen: impl FnOnce(&mut Self) -> Result<&'static str, DemoError>,
    ) -> Result<DemoStep, DemoError> {
        self.terminal.title(name);
        let from = Instant::now();
        let master = happen(self)?;
        self.finish(name, expectation, master, from)
    }

    fn restart(&mut self) -> Result<&'static str, DemoError> {
        let killed = self.note("web-a: SIGKILL to vipd alone, which is started again at once");
        if let Some(mut daemon) = self.daemons.pop() {
            daemon.crash();
        }
        let gone = Instant::now();
        self.daemons.push(Self::start(&self.a, PRIORITY_A)?);
        let resumed = self.wait("web-a to go on", |demo| demo.first_advert("web-a", gone))?;
        self.print_event(resumed, "web-a's new vipd advertises: it is still master");
        if self.observer.adverts("web-b", killed).is_empty() {
            return Ok("web-a");
        }
        let (took, limit) = (resumed - killed, master_down_of_b());
        // web-b counts from the last advert before.
        let text = if took + INTERVAL.duration() < limit {
            "web-b took over from a vipd that was back in time".to_owned()
        } else {
            format!(
                "this machine took {} to start vipd again, and web-b waits {}: it is too busy, try again",
                Millis(took),
                Millis(limit)
            )
        };
        Err(DemoError::Unexpected(text))
    }

    fn crash(&mut self) -> Result<&'static str, DemoError> {
        if let Some(mut daemon) = self.daemons.pop() {
            daemon.crash();
        }
        self.a.cut()?;
        let crashed = self.note("web-a: SIGKILL, and its cable is cut: no priority 0 is sent");
        let heard = self.observer.adverts("web-a", self.began);
        self.becomes_master("web-b", crashed)?;
        if let (Some((last, _)), Some(taken)) = (heard.last(), self.first_advert("web-b", crashed))
        {
            let waited = Millis(taken - *last);
            let due = Millis(master_down_of_b());
            self.terminal.detail(&format!("{waited} after web-a's last advert; {due} were due"));
        }
        Ok("web-b")
    }

    fn comeback(&mut self) -> Result<&'static str, DemoError> {
        self.a.reset()?;
        self.a.heal()?;
        let started = self.note("web-a has booted, and vipd starts on it");
        self.daemons.push(Self::start(&self.a, PRIORITY_A)?);
        self.becomes_master("web-a", started)?;
        Ok("web-a")
    }

    fn stop(&mut self) -> Result<&'static str, DemoError> {
        let stopped = self.note("web-a: SIGTERM");
        let Some(mut daemon) = self.daemons.pop() else { return Ok("web-b") };
        daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
        self.becomes_master("web-b", stopped)?;
        let ended =
            self.wait("web-a's vipd to end", |_| daemon.wait(Duration::ZERO).transpose())?;
        let ended = ended?;
        self.note(&format!("web-a: vipd has ended ({ended})"));
        if !ended.success() {
            return Err(DemoError::Unexpected(format!("vipd ended badly:\n{}", daemon.log())));
        }
        Ok("web-b")
    }

    fn start(host: &Host, priority: Priority) -> io::Result<Daemon> {
        Daemon::vipd(host, "/proc/self/exe".as_ref(), &configuration(host.name(), priority))
    }

    /// The servers that hold the shared address where the client can reach it.
    fn owners(&self) -> Vec<&str> {
        let servers = [&self.a, &self.b].into_iter();
        servers.filter(|host| host.serves(SHARED).unwrap_or(false)).map(Host::name).collect()
    }

    /// Waits until only `host` has the address and advertises it, and prints the result.
    fn becomes_master(&mut self, host: &'static str, since: Instant) -> Result<(), DemoError> {
        let settled = |demo: &Self| {
            (demo.owners() == [host] && demo.observer.master(VRID).as_deref() == Some(host))
                .then_some(())
        };
        self.wait(&format!("{host} to become master"), settled)?;
        if let Some(at) = self.first_advert(host, since) {
            self.print_event(at, &format!("{host} is master: its first advert"));
        }
        if let Some(at) = self.observer.announcements(host, SHARED, since).first() {
            self.print_event(*at, &format!("{host} announces {SHARED} (gratuitous ARP)"));
        }
        let answered = |demo: &Self| {
            let (at, name) = demo.prober.as_ref()?.last_answer()?;
            (name == host).then_some(at)
        };
        if self.prober.is_some() {
            let at = self.wait(&format!("{host} to answer the client"), answered)?;
            self.print_event(at, &format!("{host} answers the client"));
        }
        Ok(())
    }

    fn first_advert(&self, host: &str, since: Instant) -> Option<Instant> {
        let adverts = self.observer.adverts(host, since);
        adverts.iter().find(|(_, advert)| advert.priority > 0).map(|(at, _)| *at)
    }

    /// Goes on measuring for a while, and prints what the client saw.
    fn finish(
        &mut self,
        name: &'static str,
        expectation: Expectation,
        master: &'static str,
        from: Instant,
    ) -> Result<DemoStep, DemoError> {
        let to = Instant::now() + AFTER_STEP;
        // By then every reply has arrived that counts.
        let until = to + lab::Prober::TOO_LATE;
        while Instant::now() < until {
            self.pause()?;
        }
        let owners = self.owners();
        if owners != [master] {
            let text = format!("{master} should have {SHARED}, and not {}", owners.join(", "));
            return Err(DemoError::Unexpected(text));
        }
        let Some(prober) = &self.prober else {
            return Err(DemoError::Unexpected("there is no client".to_owned()));
        };
        let report = prober.report(from, to);
        let strip = prober.strip(from, COLUMN_SPAN, COLUMNS);
        self.terminal.strip(&strip);
        let who: Vec<_> =
            report.answered_by.iter().map(|(host, count)| format!("{host} {count}")).collect();
        self.terminal.detail(&format!(
            "{} asked, {} lost, silence {}; {}",
            report.sent,
            report.lost,
            Millis(report.longest_silence),
            who.join(", "),
        ));
        Ok(DemoStep { name, report, expectation })
    }

    fn wait<T>(
        &self,
        what: &str,
        mut found: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, DemoError> {
        let end = Instant::now() + STEP_TIMEOUT;
        while Instant::now() < end {
            if let Some(value) = found(self) {
                return Ok(value);
            }
            self.pause()?;
        }
        let logs: Vec<_> = self
            .daemons
            .iter()
            .map(|daemon| format!("\n{}:\n{}", daemon.config().display(), daemon.log()))
            .collect();
        Err(DemoError::Unexpected(format!("waited in vain for {what}{}", logs.join(""))))
    }

    fn pause(&self) -> Result<(), DemoError> {
        std::thread::sleep(Duration::from_millis(2));
        if self.interrupted.load(Ordering::Relaxed) { Err(DemoError::Interrupted) } else { Ok(()) }
    }

    fn note(&mut self, text: &str) -> Instant {
        let now = Instant::now();
        self.print_event(now, text);
        now
    }

    fn print_event(&mut self, at: Instant, text: &str) {
        let since = at.saturating_duration_since(self.began).as_secs_f64();
        self.terminal.say(&format!("  {since:7.3} s  {text}"));
    }
}

/// Columns of a strip, and how long each lasts.
const COLUMNS: usize = 60;
const COLUMN_SPAN: Duration = Duration::from_millis(20);

/// A duration in milliseconds, for people.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.1} ms", self.0.as_secs_f64() * 1000.0);
        f.pad(&text.replace(".0 ms", " ms"))
    }
}

/// Standard output: 80 columns, colours only in a terminal.
struct Terminal {
    colours: bool,
}

impl Terminal {
    fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours: wanted && io::stdout().is_terminal() }
    }

    /// A closed pipe must not end the demo: it has processes to clean up.
    fn say(&mut self, text: &str) {
        let _ = writeln!(io::stdout(), "{text}");
    }

    fn title(&mut self, text: &str) {
        let text = self.paint("1", text);
        self.say(&format!("\n{text}"));
    }

    fn detail(&mut self, text: &str) {
        self.say(&format!("             {text}"));
    }

    /// One letter for every 20 ms: who answered, or a dot for no answer.
    fn strip(&mut self, strip: &[Option<String>]) {
        let mut line = String::new();
        for column in strip {
            line += &match column.as_deref() {
                Some("web-a") => self.paint("32", "a"),
                Some("web-b") => self.paint("36", "b"),
                Some(_) => "?".to_owned(),
                None => self.paint("31", "."),
            };
        }
        self.say(&format!("     client  {line}"));
    }

    fn summary(&mut self, steps: &[DemoStep]) -> ExitCode {
        self.title(&format!(
            "{:<21} {:>6} {:>6} {:>16}  {:<22}",
            "what the client saw", "probes", "lost", "longest silence", "expected"
        ));
        let mut all_met = true;
        for DemoStep { name, report, expectation } in steps {
            let met = expectation.is_met(report);
            all_met &= met;
            let verdict = if met { self.paint("32", "ok") } else { self.paint("31", "NO") };
            let (silence, expected) = (Millis(report.longest_silence), expectation.to_string());
            self.say(&format!(
                "{name:<21} {:>6} {:>6} {silence:>16}  {expected:<22} {verdict}",
                report.sent, report.lost
            ));
        }
        if all_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
