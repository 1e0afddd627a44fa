//! Two hosts and one address, vipd beside keepalived: each as the better one, every version,
//! family and kind of delivery, preempting or not.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::lab::{self, Daemon, Host, Lab, Program, RouterSpec, wait_for};

use crate::suite::Test;

/// Added to what the protocol allows, because this machine may be busy.
const MARGIN: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Vipd,
    Keepalived,
}

/// Version and address family of the adverts.
#[derive(Clone, Copy)]
enum Wire {
    V2,
    V3Ipv4,
    V3Ipv6,
}

#[derive(Clone, Copy)]
struct Case {
    better: Side,
    worse: Side,
    wire: Wire,
    unicast: bool,
    preempt: bool,
}

pub fn tests() -> Vec<Test> {
    use Side::{Keepalived, Vipd};
    let mut cases = Vec::new();
    for wire in [Wire::V2, Wire::V3Ipv4, Wire::V3Ipv6] {
        for (better, worse) in [(Vipd, Keepalived), (Keepalived, Vipd), (Vipd, Vipd)] {
            for unicast in [false, true] {
                for preempt in [true, false] {
                    cases.push(Case { better, worse, wire, unicast, preempt });
                }
            }
        }
    }
    // The oracle against itself, so that a failure of the lab is not taken for one of ours.
    for preempt in [true, false] {
        let (wire, unicast) = (Wire::V3Ipv4, false);
        cases.push(Case { better: Keepalived, worse: Keepalived, wire, unicast, preempt });
    }
    cases.into_iter().map(Case::test).collect()
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |side| match side {
            Side::Vipd => "vipd",
            Side::Keepalived => "keepalived",
        };
        let wire = match self.wire {
            Wire::V2 => "version_2",
            Wire::V3Ipv4 => "version_3_ipv4",
            Wire::V3Ipv6 => "version_3_ipv6",
        };
        let delivery = if self.unicast { "unicast" } else { "multicast" };
        let (better, worse) = (name(self.better), name(self.worse));
        if self.preempt {
            write!(f, "pair::{better}_takes_over_from_{worse}_whenever_it_can_{wire}_{delivery}")
        } else {
            write!(f, "pair::{better}_leaves_the_address_with_{worse}_{wire}_{delivery}")
        }
    }
}

impl Case {
    fn test(self) -> Test {
        Test::new(self.to_string(), move || {
            self.play(self.programs()?);
            Ok(())
        })
    }

    fn programs(&self) -> Result<[Program; 2], String> {
        let program = |side| match side {
            Side::Vipd => Ok(Program::Vipd(env!("CARGO_BIN_EXE_vipd").into())),
            Side::Keepalived => lab::keepalived().map(Program::Keepalived).ok_or(
                "keepalived is not installed (Debian: apt-get install keepalived)".to_owned(),
            ),
        };
        Ok([program(self.better)?, program(self.worse)?])
    }

    fn play(&self, [better, worse]: [Program; 2]) {
        let testbed = Testbed::new(self);
        let (a, b) = (&testbed.a, &testbed.b);
        let mut worse_daemon = testbed.start(b, &worse);
        testbed.expect(
            "the only one there is elected",
            b,
            testbed.spec_b.master_down_interval(),
            Before::Nobody,
        );
        let mut better_daemon = testbed.start(a, &better);
        if self.preempt {
            testbed.expect(
                "the better one takes over",
                a,
                testbed.spec_a.master_down_interval(),
                Before::Handover,
            );

            testbed.crash(a, &mut better_daemon);
            testbed.expect(
                "its host crashes",
                b,
                testbed.spec_b.master_down_interval(),
                Before::Silence,
            );

            a.boot().unwrap();
            let mut better_daemon = testbed.start(a, &better);
            testbed.expect(
                "it returns",
                a,
                testbed.spec_a.master_down_interval(),
                Before::Handover,
            );

            let status = better_daemon.stop(Duration::from_secs(5)).unwrap();
            assert!(status.success(), "{status}\n{}", better_daemon.log());
            testbed.expect("it is stopped", b, testbed.spec_b.skew(), Before::Handover);
        } else {
            testbed.expect_still(
                "the better one does not preempt",
                b,
                testbed.spec_a.master_down_interval(),
            );

            let status = worse_daemon.stop(Duration::from_secs(5)).unwrap();
            assert!(status.success(), "{status}\n{}", worse_daemon.log());
            testbed.expect("the master is stopped", a, testbed.spec_a.skew(), Before::Handover);

            let mut worse_daemon = testbed.start(b, &worse);
            testbed.expect_still("it returns", a, testbed.spec_b.master_down_interval());

            testbed.crash(a, &mut better_daemon);
            testbed.expect(
                "the better host crashes",
                b,
                testbed.spec_b.master_down_interval(),
                Before::Silence,
            );

            a.boot().unwrap();
            let _better_daemon = testbed.start(a, &better);
            testbed.expect_still("and returns", b, testbed.spec_a.master_down_interval());

            testbed.crash(b, &mut worse_daemon);
            testbed.expect(
                "the worse host crashes",
                a,
                testbed.spec_a.master_down_interval(),
                Before::Silence,
            );
        }
    }
}

/// How the address may be held on the way to the next master.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// No host had it.
    Nobody,
    /// A master hands it over.
    Handover,
    /// A master fell silent.
    Silence,
}

struct Testbed {
    lab: Lab,
    a: Host,
    b: Host,
    ip: IpAddr,
    spec_a: RouterSpec,
    spec_b: RouterSpec,
}

impl Testbed {
    fn new(case: &Case) -> Self {
        let lab = Lab::new().unwrap();
        let a = lab.host("a", 1).unwrap();
        let b = lab.host("b", 2).unwrap();
        let own = |host: &Host| -> IpAddr {
            match case.wire {
                Wire::V2 | Wire::V3Ipv4 => host.ipv4().into(),
                Wire::V3Ipv6 => host.ipv6().into(),
            }
        };
        let ip: IpAddr = match case.wire {
            Wire::V2 | Wire::V3Ipv4 => "192.0.2.100".parse().unwrap(),
            Wire::V3Ipv6 => "2001:db8::100".parse().unwrap(),
        };
        let spec = |own: IpAddr, peer: IpAddr, priority| {
            let mut spec = RouterSpec::new(ip, priority);
            spec.preempt = case.preempt;
            if let Wire::V2 = case.wire {
                spec.version = 2;
                spec.interval = Duration::from_secs(1);
            }
            spec.unicast = case.unicast.then(|| (own, vec![peer]));
            spec
        };
        let spec_a = spec(own(&a), own(&b), 150);
        let spec_b = spec(own(&b), own(&a), 100);
        Self { lab, a, b, ip, spec_a, spec_b }
    }

    fn start(&self, host: &Host, program: &Program) -> Daemon {
        let spec = if host.name() == "a" { &self.spec_a } else { &self.spec_b };
        Daemon::start(host, program, std::slice::from_ref(spec)).unwrap()
    }

    /// The host crashes: its processes and its cable are gone at once.
    fn crash(&self, host: &Host, daemon: &mut Daemon) {
        host.cut().unwrap();
        daemon.crash();
    }

    /// Within `timeout` the address is on `host` and nowhere else, and it is the one that
    /// advertises; on the way there were never two for longer than one advert, and never none for
    /// longer than the protocol needs.
    fn expect(&self, when: &str, host: &Host, timeout: Duration, before: Before) {
        let began = Instant::now();
        let is_master = || {
            let settled = self.lab.owners(self.ip) == [host.name()]
                && self.lab.observer().master(51).as_deref() == Some(host.name());
            settled.then_some(())
        };
        let settled = wait_for(timeout + self.spec_a.interval + 4 * MARGIN, is_master);
        let ownership = self.lab.ownership(self.ip, began, Instant::now());
        let say = |what: &str| {
            format!("{when}: {what}\n{ownership:?}\n{}\n{}", self.log(&self.a), self.log(&self.b))
        };
        assert!(settled.is_some(), "{}", say(&format!("{} is not master", host.name())));
        assert_eq!(host.holds(self.ip).ok(), Some(true), "{}", say("the address is not there"));
        assert!(
            ownership.longest_two <= self.spec_a.interval + MARGIN,
            "{}",
            say("two had it for too long")
        );
        let longest_none = match before {
            Before::Nobody => Duration::MAX,
            Before::Handover | Before::Silence => timeout + MARGIN,
        };
        assert!(ownership.longest_none <= longest_none, "{}", say("nobody had it for too long"));
    }

    /// Nothing moves, for longer than a move would take.
    fn expect_still(&self, when: &str, host: &Host, timeout: Duration) {
        // A keepalived that crashed left its address behind, and removes it when it is back.
        let alone = || (self.lab.owners(self.ip) == [host.name()]).then_some(());
        wait_for(MARGIN, alone);
        let began = Instant::now();
        std::thread::sleep(timeout + 2 * self.spec_a.interval + MARGIN / 2);
        let ownership = self.lab.ownership(self.ip, began, Instant::now());
        let logs = format!("{}\n{}", self.log(&self.a), self.log(&self.b));
        assert_eq!(ownership.owners, [host.name()], "{when}\n{logs}");
        assert_eq!(ownership.changes, 0, "{when}: {ownership:?}\n{logs}");
        assert_eq!(self.lab.observer().master(51).as_deref(), Some(host.name()), "{when}\n{logs}");
    }

    fn log(&self, host: &Host) -> String {
        let read = |name| std::fs::read_to_string(host.dir().join(name)).unwrap_or_default();
        format!("{}:\n{}{}", host.name(), read("vipd.log"), read("keepalived.log"))
    }
}
