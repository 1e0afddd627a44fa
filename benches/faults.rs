//! The fault table: what a client sees of every fault, vipd beside keepalived in the same run, on
//! real binaries in network namespaces.
//!
//! `cargo bench --bench faults [-- PART_OF_A_NAME]`, as root. `FAULT_RUNS=1` makes every fault
//! happen once, `FAULT_JOBS=1` one at a time; with `VIPD_BEFORE=PATH` another vipd runs beside it,
//! to see what a change has done. Prints a table for benches/README.md; what happens meanwhile, and
//! the logs of a daemon that failed before its fault, go to stderr.
#![allow(clippy::unwrap_used)]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::{
    Daemon, EchoConnection, Host, Lab, Lost, Malformation, Prober, Program, RouterSpec, Stranger,
    Switch, connects,
};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use vipd::host::sys;

const SHARED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 101);
const VRID: u8 = 51;
const RUNS: usize = 5;
const PHASES: usize = 20;
const PERIOD: Duration = Duration::from_millis(1);
/// What an unplanned move may take beyond the master-down interval, in the median.
const BEYOND: Duration = Duration::from_millis(5);
/// How long both hosts may answer during a planned handover.
const OVERLAP: Duration = Duration::from_millis(20);
/// For how long the master's own address is gone.
const GONE: Duration = Duration::from_millis(200);
/// The skew time of a successor of priority 150 with adverts once a second.
const SKEW: Duration = Duration::from_millis(1000 * (256 - 150) / 256);
/// The file that the check of a host looks for.
const FIT: &str = "fit";
/// Rules for `nft` that end before what is to be dropped of what the host sends.
const OWN_FILTER: &str = "add table ip own; add chain ip own out \
    { type filter hook output priority 0 ; }; add rule ip own out";
/// The host that has the shared address at first, and those that would take over next.
const A: usize = 0;
const B: usize = 1;

/// What the protocol allows.
#[derive(Clone, Copy, PartialEq)]
enum Allowed {
    /// Planned: nothing is lost in the median, one probe at worst.
    Nothing,
    /// The master-down interval of the successor, from the last advert on.
    MasterDown,
    /// As long as the fault itself takes the host away, or its successor has to wait.
    Silence(Duration),
    /// No promise is made; the figures are for information.
    Anything,
}

struct Fault {
    name: &'static str,
    allowed: Allowed,
    /// How long two may hold the address until the fault is over.
    two_allowed: Duration,
    interval: Duration,
    priorities: &'static [u8],
    /// The hosts that have a daemon before the fault.
    started: &'static [usize],
    phases: usize,
    /// Nothing else may run meanwhile.
    alone: bool,
    /// The address may not even move.
    still: bool,
    hooks_hang: bool,
    /// A check on each host passes while there is a file.
    checked: bool,
    /// Every host names all others as its unicast peers.
    unicast: bool,
    play: fn(&mut Stage),
}

impl Fault {
    const fn new(name: &'static str, allowed: Allowed, play: fn(&mut Stage)) -> Self {
        Self {
            name,
            allowed,
            two_allowed: OVERLAP,
            interval: seconds(1),
            priorities: &[200, 150],
            started: &[A, B],
            phases: RUNS,
            alone: false,
            still: false,
            hooks_hang: false,
            checked: false,
            unicast: false,
            play,
        }
    }
}

fn faults() -> Vec<Fault> {
    use Allowed::{Anything, MasterDown, Nothing, Silence};
    vec![
        Fault::new("clean stop", Nothing, stop),
        Fault {
            still: true,
            ..Fault::new("restart (vipd: USR2, keepalived: TERM; then start)", Nothing, restart)
        },
        Fault {
            still: true,
            ..Fault::new("an address added to both files, reload", Nothing, reload)
        },
        Fault { started: &[B], ..Fault::new("better host returns", Nothing, better_returns) },
        Fault {
            started: &[B],
            hooks_hang: true,
            ..Fault::new("better host returns, every hook hangs", Nothing, better_returns)
        },
        Fault {
            priorities: &[254, 254],
            phases: PHASES,
            two_allowed: Duration::ZERO,
            ..Fault::new("daemon killed, 20 phases, peer of priority 254", MasterDown, killed)
        },
        Fault {
            two_allowed: Duration::ZERO,
            still: true,
            ..Fault::new("daemon killed and started again at once", Nothing, killed_and_started)
        },
        Fault {
            two_allowed: Duration::ZERO,
            ..Fault::new("daemon frozen for 5 s", MasterDown, frozen)
        },
        Fault { two_allowed: Duration::ZERO, ..Fault::new("host crash", MasterDown, host_crash) },
        Fault {
            priorities: &[200, 150, 100],
            started: &[A, B, 2],
            ..Fault::new("3 hosts, the best two crash in turn", MasterDown, two_crash)
        },
        Fault::new("cable pulled", MasterDown, cable_pulled),
        Fault::new("silent cut for 8 s, healed", MasterDown, silent_cut),
        Fault::new("one-way cut for 8 s: the master hears but is not heard", MasterDown, one_way),
        Fault {
            two_allowed: Duration::MAX,
            ..Fault::new("firewall drops the master's adverts for 8 s", Anything, firewall)
        },
        Fault { still: true, ..Fault::new("address deleted by hand", Nothing, address_deleted) },
        Fault::new("interface deleted, made again after 1 s", MasterDown, interface_recreated),
        Fault {
            still: true,
            hooks_hang: true,
            ..Fault::new("restart while a hook runs", Nothing, restart)
        },
        Fault { checked: true, ..Fault::new("a check fails", Nothing, check_fails) },
        Fault {
            still: true,
            ..Fault::new("own address gone for 0.2 s", Silence(GONE), own_address_gone)
        },
        Fault { still: true, ..Fault::new("MAC address changes", Silence(OVERLAP), mac_changes) },
        Fault::new("interface renamed", Silence(SKEW), interface_renamed),
        Fault {
            priorities: &[200, 150, 100],
            unicast: true,
            still: true,
            ..Fault::new("adverts to one of two unicast peers refused", Nothing, one_peer_refused)
        },
        // It tries again after a while: for the moment between claim and first advert both have it, and
        // nothing announces that.
        Fault::new("own packet filter refuses the adverts for 8 s", MasterDown, own_filter),
        Fault {
            still: true,
            ..Fault::new("another pair uses the VRID, priority 220, for 8 s", Nothing, foreign_pair)
        },
        Fault {
            alone: true,
            still: true,
            two_allowed: Duration::ZERO,
            // The clients' ARP suffers as well.
            ..Fault::new("neighbour table full: 600 ARP requests/s", Anything, full_neighbour_table)
        },
        Fault {
            interval: Duration::from_millis(950),
            two_allowed: Duration::ZERO,
            ..Fault::new("host crash, adverts every 950 ms", MasterDown, host_crash)
        },
        Fault {
            interval: Duration::from_millis(950),
            two_allowed: Duration::ZERO,
            ..Fault::new("daemon killed, adverts every 950 ms", MasterDown, killed)
        },
        Fault {
            still: true,
            ..Fault::new("1000 malformed adverts per second for 8 s", Nothing, malformed)
        },
        Fault {
            interval: Duration::from_millis(10),
            alone: true,
            still: true,
            ..Fault::new("all processors busy for 10 s, 10 ms adverts", Nothing, busy)
        },
        Fault {
            interval: Duration::from_millis(10),
            alone: true,
            two_allowed: Duration::ZERO,
            ..Fault::new("host crash, all processors busy, 10 ms adverts", MasterDown, busy_crash)
        },
    ]
}

fn stop(stage: &mut Stage) {
    stage.begin();
    stage.daemon(A).stop(seconds(20)).unwrap();
    stage.watch(6);
}

fn restart(stage: &mut Stage) {
    let signal = match stage.program {
        Program::Vipd(_) => Signal::SIGUSR2,
        Program::Keepalived(_) => Signal::SIGTERM,
    };
    stage.begin();
    stage.daemon(A).signal(signal).unwrap();
    stage.daemon(A).wait(seconds(20)).unwrap().unwrap();
    stage.start(A);
    stage.watch(9);
}

fn reload(stage: &mut Stage) {
    for host in [A, B] {
        stage.specs[host].addresses.push(SECOND.into());
        let text =
            lab::configuration(stage.hosts[host].name(), &stage.program, &stage.specs[host..=host]);
        std::fs::write(stage.daemon(host).config(), text).unwrap();
    }
    stage.begin();
    for host in [B, A] {
        stage.daemon(host).signal(Signal::SIGHUP).unwrap();
    }
    stage.watch(8);
}

fn better_returns(stage: &mut Stage) {
    stage.begin();
    stage.start(A);
    stage.watch(10);
}

fn killed(stage: &mut Stage) {
    stage.begin();
    stage.daemon(A).crash();
    stage.watch(8);
}

fn killed_and_started(stage: &mut Stage) {
    stage.begin();
    stage.daemon(A).crash();
    stage.start(A);
    stage.watch(9);
}

fn frozen(stage: &mut Stage) {
    stage.begin();
    stage.daemon(A).signal_all(Signal::SIGSTOP).unwrap();
    stage.watch(5);
    stage.over();
    stage.daemon(A).signal_all(Signal::SIGCONT).unwrap();
    stage.watch(8);
}

fn host_crash(stage: &mut Stage) {
    stage.begin();
    stage.crash(A);
    stage.watch(8);
}

fn two_crash(stage: &mut Stage) {
    stage.begin();
    stage.crash(A);
    stage.watch(8);
    stage.crash(B);
    stage.watch(8);
}

fn cable_pulled(stage: &mut Stage) {
    stage.begin();
    stage.hosts[A].unplug("eth0").unwrap();
    stage.watch(8);
}

fn silent_cut(stage: &mut Stage) {
    stage.begin();
    stage.hosts[A].cut().unwrap();
    stage.watch(8);
    stage.over();
    stage.hosts[A].heal().unwrap();
    stage.watch(6);
}

fn one_way(stage: &mut Stage) {
    stage.begin();
    stage.hosts[A].drop_outgoing(Lost::All).unwrap();
    stage.watch(8);
    stage.over();
    stage.hosts[A].pass_outgoing().unwrap();
    stage.watch(6);
}

fn firewall(stage: &mut Stage) {
    stage.begin();
    stage.hosts[A].drop_outgoing(Lost::Adverts).unwrap();
    stage.watch(8);
    stage.over();
    stage.hosts[A].pass_outgoing().unwrap();
    stage.watch(6);
}

fn address_deleted(stage: &mut Stage) {
    stage.begin();
    let links = stage.hosts[A].namespace().links();
    links.remove_address("eth0", SHARED.into(), 32).unwrap();
    stage.watch(8);
}

fn interface_recreated(stage: &mut Stage) {
    stage.begin();
    stage.hosts[A].delete("eth0").unwrap();
    stage.watch(1);
    stage.hosts[A].connect("eth0", Switch::LAN).unwrap();
    stage.watch(12);
}

fn check_fails(stage: &mut Stage) {
    stage.begin();
    std::fs::remove_file(stage.hosts[A].dir().join(FIT)).unwrap();
    stage.watch(8);
}

fn own_address_gone(stage: &mut Stage) {
    let own = stage.hosts[A].ipv4().into();
    stage.begin();
    let links = stage.hosts[A].namespace().links();
    links.remove_address("eth0", own, 24).unwrap();
    thread::sleep(GONE);
    links.add_address("eth0", own, 24).unwrap();
    stage.watch(8);
}

fn mac_changes(stage: &mut Stage) {
    stage.begin();
    stage.run(A, "ip", "link set dev eth0 address 02:00:00:00:77:77");
    stage.watch(8);
}

fn interface_renamed(stage: &mut Stage) {
    stage.begin();
    stage.hosts[A].rename("eth0", "eth9").unwrap();
    stage.watch(8);
}

/// The third host has no daemon, so that nobody misses what it does not receive.
fn one_peer_refused(stage: &mut Stage) {
    let third = stage.hosts[2].ipv4();
    stage.begin();
    stage.run(A, "nft", &format!("{OWN_FILTER} ip daddr {third} ip protocol 112 drop"));
    stage.watch(8);
}

fn own_filter(stage: &mut Stage) {
    stage.begin();
    stage.run(A, "nft", &format!("{OWN_FILTER} ip protocol 112 drop"));
    stage.watch(8);
    stage.over();
    stage.run(A, "nft", "delete table ip own");
    stage.watch(10);
}

fn foreign_pair(stage: &mut Stage) {
    let other = stage.lab.host("other", 66).unwrap();
    let theirs = Ipv4Addr::new(192, 0, 2, 50);
    stage.begin();
    let stranger =
        Stranger::start(&other, VRID, 220, seconds(1), theirs, &[Malformation::None], seconds(1));
    stage.watch(8);
    drop(stranger.unwrap());
    stage.watch(2);
}

/// The kernel has one table for all namespaces, and each request makes an entry in it.
fn full_neighbour_table(stage: &mut Stage) {
    let other = stage.lab.host("other", 66).unwrap();
    let index = other.namespace().links().index("eth0").unwrap();
    let socket = other.namespace().run(|| Socket::new(Domain::PACKET, Type::RAW, None)).unwrap();
    let everybody = sys::link_address(index, libc::ETH_P_ARP as u16, [0xff; 6]);
    let target = stage.hosts[A].ipv4();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = Instant::now();
            for number in 0_u32.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let request = arp_request(Ipv4Addr::from_bits(0x0a00_0001 + number), target);
                let _ = socket.send_to(&request, &everybody);
                next += seconds(1) / 600;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        // Until it is full.
        stage.watch(3);
        stage.begin();
        stage.watch(10);
        stop.store(true, Ordering::Relaxed);
    });
}

/// An Ethernet frame to everybody.
fn arp_request(sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0, 66];
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    // ARP; Ethernet, IPv4, lengths of their addresses, a request (RFC 826).
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame.resize(60, 0);
    frame
}

fn malformed(stage: &mut Stage) {
    let mallory = stage.lab.host("mallory", 66).unwrap();
    stage.begin();
    let _stranger = Stranger::start(
        &mallory,
        VRID,
        250,
        seconds(1),
        SHARED,
        &Malformation::ALL,
        Duration::from_millis(1),
    )
    .unwrap();
    stage.watch(8);
}

fn busy(stage: &mut Stage) {
    with_all_processors_busy(|| {
        stage.begin();
        stage.watch(10);
    });
}

fn busy_crash(stage: &mut Stage) {
    with_all_processors_busy(|| {
        stage.watch(1);
        stage.begin();
        stage.crash(A);
        stage.watch(3);
    });
}

fn with_all_processors_busy(play: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let threads = 2 * thread::available_parallelism().unwrap().get();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        play();
        stop.store(true, Ordering::Relaxed);
    });
}

/// Hosts, their daemons and a client, up to the fault and through it.
struct Stage {
    // In the order in which they may end.
    talk: Option<EchoConnection>,
    prober: Option<Prober>,
    daemons: Vec<Option<Daemon>>,
    hosts: Vec<Host>,
    client: Host,
    lab: Lab,
    program: Program,
    specs: Vec<RouterSpec>,
    /// When in the interval between two adverts the fault happens, 0 to 1.
    phase: f64,
    began: Instant,
    /// When the fault was over; what follows is a planned move, or an election after a healed
    /// partition.
    over: Option<Instant>,
}

impl Stage {
    /// The first of the hosts that are started is master, and a client uses it.
    fn new(fault: &Fault, program: &Program, round: usize) -> Self {
        let lab = Lab::new().unwrap();
        // For equal priorities the higher address wins.
        let names = [("a", 9), ("b", 2), ("c", 1)];
        let hosts: Vec<_> = names
            .iter()
            .take(fault.priorities.len())
            .map(|(name, number)| lab.host(name, *number).unwrap())
            .collect();
        let client = lab.host("client", 200).unwrap();
        let mut specs = Vec::new();
        let own: Vec<Ipv4Addr> = hosts.iter().map(|host| host.ipv4()).collect();
        for (host, priority) in hosts.iter().zip(fault.priorities) {
            host.answer(SHARED.into()).unwrap();
            host.echo(SHARED.into()).unwrap();
            let mut spec = RouterSpec::new(SHARED.into(), *priority);
            spec.interval = fault.interval;
            if fault.hooks_hang {
                let hook = host.dir().join("hang");
                std::fs::write(&hook, "#!/bin/sh\nexec sleep 1000\n").unwrap();
                let all = std::fs::Permissions::from_mode(0o755);
                std::fs::set_permissions(&hook, all).unwrap();
                let hook = hook.display();
                write!(spec.more, "[virtual_router.hooks]\nnotify = \"{hook}\"\n").unwrap();
                writeln!(spec.keepalived_more, "  notify \"{hook}\"").unwrap();
                spec.keepalived_globals.push_str("  script_user root\n");
            }
            if fault.unicast {
                let here = host.ipv4();
                let peers = own.iter().filter(|ip| **ip != here).map(|ip| (*ip).into());
                spec.unicast = Some((here.into(), peers.collect()));
            }
            if fault.checked {
                let file = host.dir().join(FIT);
                std::fs::write(&file, "").unwrap();
                let file = file.display();
                write!(
                    spec.more,
                    "checks = [\"fit\"]\n[[check]]\nname = \"fit\"\nfile_present = \"{file}\"\n\
                     interval = \"100ms\"\nfall = 1\nrise = 1\n"
                )
                .unwrap();
                // The block ends where that of the globals would have ended.
                write!(
                    spec.keepalived_globals,
                    "  script_user root\n}}\nvrrp_script fit {{\n  \
                     script \"/usr/bin/test -e {file}\"\n  interval 1\n  fall 1\n  rise 1\n"
                )
                .unwrap();
                spec.keepalived_more.push_str("  track_script {\n    fit\n  }\n");
            }
            if fault.alone {
                spec.keepalived_globals.push_str("  vrrp_rt_priority 50\n  vrrp_no_swap\n");
            }
            specs.push(spec);
        }
        let phase = round as f64 / fault.phases.max(2).saturating_sub(1) as f64;
        let mut stage = Self {
            talk: None,
            prober: None,
            daemons: hosts.iter().map(|_| None).collect(),
            hosts,
            client,
            lab,
            program: program.clone(),
            specs,
            // The end of the interval is the moment before the next advert.
            phase: 0.005 + 0.99 * phase,
            began: Instant::now(),
            over: None,
        };
        let master = fault.started[0];
        for host in fault.started {
            stage.start(*host);
            stage.await_master(master);
        }
        stage.prober = Some(Prober::start(&stage.client, SHARED.into(), PERIOD).unwrap());
        // Until the backups have received an advert, and the client its answers.
        thread::sleep(seconds(1) + fault.interval);
        // What happened before is no part of the fault.
        stage.talk = Some(EchoConnection::start(&stage.client, SHARED.into()).unwrap());
        stage
    }

    /// Runs a program on a host.
    fn run(&self, host: usize, program: &str, arguments: &str) {
        let mut command = Command::new(program);
        command.args(arguments.split(' '));
        let output = self.hosts[host].namespace().run(move || command.output()).unwrap();
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn start(&mut self, host: usize) {
        let routers = [self.specs[host].clone()];
        self.daemons[host] =
            Some(Daemon::start(&self.hosts[host], &self.program, &routers).unwrap());
    }

    fn daemon(&mut self, host: usize) -> &mut Daemon {
        self.daemons[host].as_mut().unwrap()
    }

    fn crash(&mut self, host: usize) {
        // At once: ending the processes may take longer than an interval.
        self.hosts[host].cut().unwrap();
        self.daemon(host).crash();
    }

    fn await_master(&self, host: usize) {
        let name = self.hosts[host].name();
        let end = Instant::now() + seconds(15);
        while self.lab.owners(SHARED.into()) != [name]
            || self.lab.observer().master(VRID).as_deref() != Some(name)
        {
            assert!(Instant::now() < end, "{name} does not become master\n{}", self.logs());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The fault happens now: in its phase after an advert of the current master.
    fn begin(&mut self) {
        let asked = Instant::now();
        let advert = |stage: &Self| {
            stage
                .lab
                .observer()
                .with_log(|log| log.iter().map(|sighting| sighting.at).find(|at| *at >= asked))
        };
        let end = asked + seconds(5);
        let advert = loop {
            if let Some(at) = advert(self) {
                break at;
            }
            assert!(Instant::now() < end, "nobody advertises\n{}", self.logs());
            thread::sleep(PERIOD);
        };
        let at = advert + self.specs[A].interval.mul_f64(self.phase);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        self.began = Instant::now();
    }

    fn over(&mut self) {
        self.over = Some(Instant::now());
    }

    fn watch(&self, whole_seconds: u64) {
        thread::sleep(seconds(whole_seconds));
    }

    fn measure(&self) -> Figures {
        let end = Instant::now();
        let talk = self.talk.as_ref().unwrap();
        let open_works = talk.continues(seconds(2));
        let new_works = connects(&self.client, SHARED.into(), seconds(1));
        thread::sleep(2 * Prober::TOO_LATE);
        let prober = self.prober.as_ref().unwrap();
        let report = prober.report(self.began, end);
        let last = prober.last_answer().map_or(self.began, |(at, _)| at);
        let ownership = self.lab.ownership(SHARED.into(), self.began, end);
        let until = self.over.unwrap_or(end);
        let two_in_fault = self.lab.ownership(SHARED.into(), self.began, until).total_two;
        Figures {
            lost: report.lost,
            silence: report.longest_silence.max(end.saturating_duration_since(last)),
            two: ownership.total_two,
            two_in_fault,
            still_two: ownership.owners.len() > 1,
            none: ownership.total_none,
            open_works,
            new_works,
        }
    }

    fn logs(&self) -> String {
        let logs = self.daemons.iter().flatten().map(|daemon| daemon.log());
        logs.collect::<Vec<_>>().join("\n")
    }
}

/// What one run showed.
#[derive(Clone, Copy, Debug)]
struct Figures {
    lost: usize,
    silence: Duration,
    two: Duration,
    two_in_fault: Duration,
    still_two: bool,
    none: Duration,
    open_works: bool,
    new_works: bool,
}

/// One run of one fault.
#[derive(Clone, Copy)]
struct Run {
    fault: usize,
    program: usize,
    round: usize,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "lab-child") {
        return lab::child_main(arguments);
    }
    if let Err(error) = lab::enter() {
        eprintln!("faults: {error}");
        return ExitCode::FAILURE;
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let mut programs = vec![("vipd", Program::Vipd(env!("CARGO_BIN_EXE_vipd").into()))];
    if let Some(before) = std::env::var_os("VIPD_BEFORE") {
        programs.push(("vipd before", Program::Vipd(before.into())));
    }
    match lab::keepalived() {
        Some(file) => programs.push(("keepalived", Program::Keepalived(file))),
        None => println!("SKIPPED: keepalived is not installed"),
    }
    let mut faults = faults();
    faults.retain(|fault| filter.as_ref().is_none_or(|part| fault.name.contains(part.as_str())));
    if let Some(runs) = number("FAULT_RUNS") {
        for fault in &mut faults {
            fault.phases = runs;
        }
    }
    let began = Instant::now();
    let mut runs = Vec::new();
    for (fault, of) in faults.iter().enumerate() {
        for round in 0..of.phases {
            runs.extend((0..programs.len()).map(|program| Run { fault, program, round }));
        }
    }
    let (alone, together): (Vec<_>, Vec<_>) =
        runs.into_iter().partition(|run| faults[run.fault].alone);
    let results = Mutex::new(Vec::new());
    // Most of a run is waiting.
    for (runs, jobs) in [(together, number("FAULT_JOBS").unwrap_or(6)), (alone, 1)] {
        let queue = Mutex::new(VecDeque::from(runs));
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    while let Some(run) = next(&queue) {
                        let (name, program) = &programs[run.program];
                        let figures = perform(&faults[run.fault], name, program, run.round);
                        results.lock().unwrap().push((run, figures));
                    }
                });
            }
        });
    }
    let results = results.into_inner().unwrap();
    print(&faults, &programs, &results, began.elapsed());
    ExitCode::SUCCESS
}

fn next(queue: &Mutex<VecDeque<Run>>) -> Option<Run> {
    queue.lock().unwrap().pop_front()
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A run that fails before it can be measured has no figures.
fn perform(fault: &Fault, name: &str, program: &Program, round: usize) -> Option<Figures> {
    let what = format!("{}: {name}, run {}", fault.name, round + 1);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut stage = Stage::new(fault, program, round);
        (fault.play)(&mut stage);
        let figures = stage.measure();
        let bad = fault.allowed == Allowed::Nothing && figures.lost > 1
            || fault.still && !figures.open_works
            || figures.two_in_fault > fault.two_allowed
            || !figures.new_works;
        if bad && matches!(program, Program::Vipd(_)) {
            eprintln!("{what} was not as promised; it was at {:?}\n{}", stage.phase, stage.logs());
        }
        figures
    }));
    let figures = outcome.ok();
    eprintln!("{what}: {figures:?}");
    figures
}

fn print(
    faults: &[Fault],
    programs: &[(&str, Program)],
    results: &[(Run, Option<Figures>)],
    took: Duration,
) {
    println!(
        "Measured on {} in {} min: Linux {}, {}.\n",
        output("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        took.as_secs().div_ceil(60),
        output("uname", &["-r"]),
        processors()
    );
    println!(
        "Median / worst of {} runs (killed: {PHASES}). Adverts once a second unless said, \
         1000 probes per second; \"+\": still so when the run ended.\n",
        number("FAULT_RUNS").unwrap_or(RUNS)
    );
    println!(
        "| fault | daemon | probes lost | longest silence, ms | two owners, s | no owner, s | \
         open TCP | new TCP |"
    );
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    let mut verdicts = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        for (column, (name, _)) in programs.iter().enumerate() {
            let mine: Vec<_> = results
                .iter()
                .filter(|(run, _)| run.fault == index && run.program == column)
                .map(|(_, figures)| *figures)
                .collect();
            let figures: Vec<_> = mine.iter().flatten().copied().collect();
            let title = if column == 0 { fault.name } else { "" };
            println!("| {title} | {name} | {} |", cells(&figures).join(" | "));
            if *name == "vipd" {
                verdicts.extend(verdict(fault, &figures, mine.len()));
            }
        }
    }
    println!();
    if verdicts.is_empty() {
        println!("vipd kept every promise.");
    }
    for verdict in verdicts {
        println!("* NOT AS PROMISED: {verdict}");
    }
}

fn cells(figures: &[Figures]) -> [String; 6] {
    let works = |works: fn(&Figures) -> bool| {
        format!("{} of {}", figures.iter().filter(|one| works(one)).count(), figures.len())
    };
    let still = if figures.iter().any(|one| one.still_two) { "+" } else { "" };
    let pair = |value: &dyn Fn(&Figures) -> f64, digits: usize| {
        let (median, worst) = median_and_worst(figures, value);
        format!("{median:.digits$} / {worst:.digits$}")
    };
    [
        pair(&|one| one.lost as f64, 0),
        pair(&|one| millis(one.silence), 0),
        pair(&|one| one.two.as_secs_f64(), 3) + still,
        pair(&|one| one.none.as_secs_f64(), 3),
        works(|one| one.open_works),
        works(|one| one.new_works),
    ]
}

fn median_and_worst(figures: &[Figures], value: &dyn Fn(&Figures) -> f64) -> (f64, f64) {
    let mut values: Vec<_> = figures.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    (median, values.last().copied().unwrap_or(f64::NAN))
}

/// The promises of the fault table that a fault has broken.
fn verdict(fault: &Fault, figures: &[Figures], runs: usize) -> Vec<String> {
    let mut broken = Vec::new();
    let mut say = |what: String| broken.push(format!("{}: {what}", fault.name));
    if figures.len() < runs {
        say(format!("{} of {runs} runs failed", runs - figures.len()));
    }
    let (lost, worst_lost) = median_and_worst(figures, &|one| one.lost as f64);
    let (silence, _) = median_and_worst(figures, &|one| millis(one.silence));
    let two = figures.iter().map(|one| one.two_in_fault).max().unwrap_or_default();
    if fault.allowed == Allowed::Nothing && (lost > 0.0 || worst_lost > 1.0) {
        say(format!("{lost} probes lost in the median, {worst_lost} at worst"));
    }
    let limits = fault.priorities[1..].iter().map(|priority| {
        RouterSpec { interval: fault.interval, ..RouterSpec::new(SHARED.into(), *priority) }
            .master_down_interval()
    });
    let limit = match fault.allowed {
        Allowed::MasterDown => limits.max().map(|limit| limit + BEYOND),
        Allowed::Silence(span) => Some(span + BEYOND),
        Allowed::Nothing | Allowed::Anything => None,
    };
    if let Some(limit) = limit.map(millis)
        && silence > limit
    {
        say(format!("silent for {silence:.1} ms in the median, and {limit:.1} are allowed"));
    }
    if two > fault.two_allowed {
        say(format!("two owners for {two:?}"));
    }
    let moved = figures.iter().filter(|one| !one.open_works).count();
    if fault.still && moved > 0 {
        say(format!("an open connection did not survive {moved} of {runs} times"));
    }
    if figures.iter().any(|one| !one.new_works) {
        say("a new connection did not work".to_owned());
    }
    broken
}

fn processors() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut models = info.lines().filter_map(|line| line.strip_prefix("model name"));
    let model = models.next().unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned();
    let count = thread::available_parallelism().map_or(1, usize::from);
    format!("{count} processors ({model})")
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().into()).unwrap_or_default()
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

const fn seconds(whole: u64) -> Duration {
    Duration::from_secs(whole)
}
