//! A pair of haproxy and a pair of nginx.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::Lab;
use nix::sys::signal::Signal;

use crate::http::{Application, Browser, RequestCounts};
use crate::machine::Machine;
use crate::{Report, SHARED, await_that, example, install_vipd, spread, start_vipd};

const COLUMNS: [&str; 4] = ["times", "requests", "failures", "silence, ms: median / worst"];

struct ProxyPair {
    // Before the lab, or its clients would see their namespace go.
    browser: Option<Browser>,
    application: Option<Application>,
    machines: [Machine; 2],
    command: &'static [&'static str],
    lab: Lab,
}

impl ProxyPair {
    /// Two machines on which the programs and vipd run; the better one is master.
    fn new(command: &'static [&'static str], prepare: impl Fn(&Machine, bool)) -> Self {
        let lab = Lab::new().unwrap();
        let machine = |name, number, better| {
            let mut machine = Machine::new(&lab, name, number).unwrap();
            prepare(&machine, better);
            machine.power_on().unwrap();
            machine
        };
        let machines = [machine("web-a", 1, true), machine("web-b", 2, false)];
        let mut pair = Self { browser: None, application: None, machines, command, lab };
        for index in [0, 1] {
            pair.repair(index);
            start_vipd(&mut pair.machines[index]);
            // The first one is to begin as master, also if its proxy is slow to start: it does not
            // preempt.
            let [a, b] = &pair.machines;
            await_that(Duration::from_secs(30), "web-a has the address", &[a, b], || {
                pair.lab.owners(SHARED.into()) == [a.name()]
            });
        }
        pair
    }

    fn browse(&mut self) {
        let client = self.lab.host("client", 200).unwrap();
        self.browser = Some(Browser::start(&client, SHARED));
    }

    fn kill(&self, index: usize) {
        let name = self.command[0].rsplit('/').next().unwrap();
        assert!(self.machines[index].kill(name, Signal::SIGKILL) > 0, "there is no {name}");
    }

    fn repair(&mut self, index: usize) {
        let name = self.command[0].rsplit('/').next().unwrap();
        self.machines[index].start(name, self.command);
    }

    fn master(&self) -> usize {
        let owners = self.lab.owners(SHARED.into());
        usize::from(owners == [self.machines[1].name()])
    }

    /// Waits until this machine answers, and a little longer; then what the client saw.
    fn until(&self, index: usize, since: Instant, timeout: u64) -> RequestCounts {
        let [a, b] = &self.machines;
        let name = self.machines[index].name();
        let browser = self.browser.as_ref().unwrap();
        await_that(Duration::from_secs(timeout), &format!("{name} answers"), &[a, b], || {
            browser.answered_by(since).as_deref() == Some(name)
        });
        thread::sleep(Duration::from_secs(1));
        eprintln!("{name} answers after {:?}", since.elapsed());
        browser.saw(since)
    }
}

/// What the client saw at each repetition of an event, and the limits.
struct ProxyEvent {
    what: &'static str,
    /// The longest silence that is allowed, also on a busy machine.
    silence: Duration,
    /// How many requests may fail each time.
    failures: usize,
    saw: Vec<RequestCounts>,
}

impl ProxyEvent {
    fn new(what: &'static str, silence: u64, failures: usize) -> Self {
        Self { what, silence: Duration::from_millis(silence), failures, saw: Vec::new() }
    }

    fn report(self, report: &mut Report) {
        let requests: usize = self.saw.iter().map(|saw| saw.requests).sum();
        let failures: usize = self.saw.iter().map(|saw| saw.failures).sum();
        let silence = spread(self.saw.iter().map(|saw| saw.silence));
        let cells =
            [self.saw.len().to_string(), requests.to_string(), failures.to_string(), silence];
        report.lines.push((self.what.to_owned(), cells.into()));
        for saw in &self.saw {
            if saw.silence > self.silence {
                report.broken.push(format!(
                    "{}: silent for {:?}, more than {:?}",
                    self.what, saw.silence, self.silence
                ));
            }
            if saw.failures > self.failures {
                report.broken.push(format!(
                    "{}: {} requests failed, more than {}",
                    self.what, saw.failures, self.failures
                ));
            }
        }
    }
}

pub fn haproxy(report: &mut Report) {
    report.columns = COLUMNS.into();
    let mut pair =
        ProxyPair::new(&["/usr/sbin/haproxy", "-Ws", "-f", "/etc/haproxy/haproxy.cfg"], {
            |machine, better| {
                install_vipd(machine, "haproxy/vipd.toml", better);
                machine.install("/etc/haproxy/haproxy.cfg", 0o644, &example("haproxy/haproxy.cfg"));
                machine.install(
                    "/etc/sysctl.d/90-vipd.conf",
                    0o644,
                    &example("haproxy/90-vipd.conf"),
                );
            }
        });
    let application = pair.lab.host("app", 21).unwrap();
    pair.application = Some(Application::start(&application, 8080));
    pair.browse();
    pair.until(0, Instant::now(), 30);
    // Skew time is 609 ms.
    let mut killed =
        ProxyEvent::new("haproxy killed: the address moves (process check)", 3000, 200);
    let mut repaired =
        ProxyEvent::new("haproxy repaired: it comes back after preempt_delay", 500, 3);
    let mut drained = ProxyEvent::new("/etc/vipd/maintenance made: the address moves", 500, 3);
    let mut undrained = ProxyEvent::new("the file removed: it comes back", 500, 3);
    for _ in 0..3 {
        let began = Instant::now();
        pair.kill(0);
        killed.saw.push(pair.until(1, began, 20));
        let began = Instant::now();
        pair.repair(0);
        repaired.saw.push(pair.until(0, began, 40));
        let began = Instant::now();
        pair.machines[0].install("/etc/vipd/maintenance", 0o644, "");
        drained.saw.push(pair.until(1, began, 20));
        let began = Instant::now();
        fs::remove_file(pair.machines[0].file("/etc/vipd/maintenance")).unwrap();
        undrained.saw.push(pair.until(0, began, 40));
    }
    for event in [killed, repaired, drained, undrained] {
        event.report(report);
    }
}

pub fn nginx(report: &mut Report) {
    report.columns = COLUMNS.into();
    let mut pair = ProxyPair::new(&["/usr/sbin/nginx", "-g", "daemon off;"], |machine, better| {
        install_vipd(machine, "nginx/vipd.toml", better);
        fs::remove_file(machine.file("/etc/nginx/sites-enabled/default")).unwrap();
        machine.install("/etc/nginx/sites-enabled/www", 0o644, &example("nginx/www.conf"));
    });
    pair.browse();
    pair.until(0, Instant::now(), 30);
    let mut killed = ProxyEvent::new("nginx killed: the address moves (HTTP check)", 6000, 400);
    let mut repaired =
        ProxyEvent::new("nginx repaired: the address stays (preempt = false)", 500, 1);
    for _ in 0..5 {
        let (from, to) = (pair.master(), 1 - pair.master());
        let began = Instant::now();
        pair.kill(from);
        killed.saw.push(pair.until(to, began, 20));
        let began = Instant::now();
        pair.repair(from);
        // Longer than it takes to recover.
        thread::sleep(Duration::from_secs(6));
        let saw = pair.until(to, began, 20);
        if saw.answered_by.len() != 1 {
            report.broken.push(format!("the address moved back: {:?}", saw.answered_by));
        }
        repaired.saw.push(saw);
    }
    for event in [killed, repaired] {
        event.report(report);
    }
}
