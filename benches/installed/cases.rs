//! What a client loses when something happens to a machine, case by case.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{self, Lab, Prober, Program, RouterSpec, wait_for};

use crate::Site;
use crate::machine::Machine;

pub const SHARED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
pub const VRID: u8 = 51;
const PERIOD: Duration = Duration::from_millis(1);
/// How long both may hold the address during a planned handover: a millisecond, and what a
/// busy machine adds.
const OVERLAP: Duration = Duration::from_millis(500);
/// The same after a fault, where the kernel removes the address: it needs its RTNL lock for that,
/// of which there is one per machine, and the containers share a machine.
const LATE_KERNEL: Duration = Duration::from_secs(1);
/// Probes that may be lost beyond the master-down interval before the promise counts as broken.
const MARGIN: usize = 700;
/// Probes that a planned move may lose before the promise counts as broken.
const NOTHING: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    Vipd,
    Keepalived,
}

impl Implementation {
    pub fn name(self) -> &'static str {
        match self {
            Implementation::Vipd => "vipd",
            Implementation::Keepalived => "keepalived",
        }
    }
}

/// What vipd promises of a case.
#[derive(Clone, Copy, PartialEq)]
enum Promise {
    /// The client loses nothing.
    Nothing,
    /// The client loses nothing, and the address does not even move.
    Still,
    /// At most the master-down interval.
    MasterDownInterval,
}

pub struct Case {
    pub name: &'static str,
    promise: Promise,
    play: fn(&mut Pair),
}

pub fn all() -> Vec<Case> {
    use Promise::{MasterDownInterval, Nothing, Still};
    let case = |name, promise, play| Case { name, promise, play };
    vec![
        case("systemctl stop", Nothing, stop),
        case("systemctl restart", Still, restart),
        case("upgrade of the package", Still, upgrade),
        case("kill -9 of the daemon", Still, kill_main),
        case("kill -9 of every process of the unit", Still, kill_all),
        case("kill -9 of the daemon 3 times a second for 10 s", MasterDownInterval, crash_loop),
        case("SIGSTOP to every process of the unit", MasterDownInterval, frozen),
        case("reboot", Nothing, reboot),
        case("poweroff", Nothing, poweroff),
        case("power cut", MasterDownInterval, power_cut),
        case("systemctl isolate rescue", Nothing, rescue),
        case("/run, /var and the journal full: restart, kill -9, stop", Nothing, full),
        case("systemd-networkd restarted", Still, networkd),
    ]
}

fn stop(pair: &mut Pair) {
    pair.a.must(&format!("systemctl stop {}", pair.unit()));
    pair.watch(6);
}

fn restart(pair: &mut Pair) {
    pair.a.must(&format!("systemctl restart {}", pair.unit()));
    pair.watch(9);
}

fn upgrade(pair: &mut Pair) {
    pair.a.must(match pair.daemon {
        Implementation::Vipd => "dpkg --install /root/rebuilt.deb",
        // The same again: the same scripts run.
        Implementation::Keepalived => "dpkg --install /var/cache/apt/archives/keepalived_*.deb",
    });
    pair.watch(9);
}

fn kill_main(pair: &mut Pair) {
    pair.a.must(&format!("systemctl kill --signal=KILL --kill-whom=main {}", pair.unit()));
    pair.watch(9);
}

fn kill_all(pair: &mut Pair) {
    pair.a.must(&format!("systemctl kill --signal=KILL {}", pair.unit()));
    pair.watch(9);
}

fn crash_loop(pair: &mut Pair) {
    let unit = pair.unit();
    let kill = format!("systemctl kill --signal=KILL --kill-whom=main {unit}");
    let began = Instant::now();
    while began.elapsed() < seconds(10) {
        // There may be nothing to kill just now.
        let _ = pair.a.run(&kill);
        thread::sleep(Duration::from_millis(300));
    }
    // Includes the end of the loop, and the planned move back.
    pair.watch(30);
}

fn frozen(pair: &mut Pair) {
    pair.a.must(&format!("systemctl kill --signal=STOP {}", pair.unit()));
    pair.watch(30);
    if pair.daemon == Implementation::Vipd {
        pair.a.must("journalctl --unit=vipd | grep 'Watchdog timeout'");
    }
}

fn reboot(pair: &mut Pair) {
    pair.a.must("systemctl reboot");
    await_off(&mut pair.a);
    pair.a.boot().unwrap();
    pair.watch(10);
}

fn poweroff(pair: &mut Pair) {
    pair.a.must("systemctl poweroff");
    await_off(&mut pair.a);
    pair.watch(6);
}

/// Waits until the machine has shut down cleanly.
pub fn await_off(machine: &mut Machine) {
    let off = wait_for(seconds(120), || {
        thread::sleep(Duration::from_millis(20));
        (!machine.is_on()).then_some(())
    });
    assert!(off.is_some(), "it does not go off");
}

fn power_cut(pair: &mut Pair) {
    pair.a.power_cut().unwrap();
    pair.watch(8);
}

fn rescue(pair: &mut Pair) {
    pair.a.must("systemctl --no-block isolate rescue.target");
    pair.watch(10);
}

fn full(pair: &mut Pair) {
    let unit = pair.unit();
    pair.a.must(&format!("systemctl restart {unit}"));
    pair.watch(3);
    pair.a.must(&format!("systemctl kill --signal=KILL --kill-whom=main {unit}"));
    pair.watch(6);
    pair.a.must(&format!("systemctl stop {unit}"));
    pair.watch(6);
}

/// The disk that fills up must not be that of the machine that runs this.
fn fill(machine: &Machine) {
    machine.must(
        "mount -o remount,size=8M /run
         for dir in /var/lib/vipd /var/log /var/tmp; do
           mkdir -p $dir
           mount -t tmpfs -o size=64k tmpfs $dir
         done
         mkdir /var/log/journal
         systemctl restart systemd-journald
         for dir in /run /var/lib/vipd /var/log /var/tmp; do
           cat /dev/zero >$dir/full 2>/dev/null || true
         done
         ! echo more >/run/more 2>/dev/null",
    );
}

fn networkd(pair: &mut Pair) {
    let log = "journalctl --no-pager --unit=systemd-networkd | tail -30";
    pair.a.must(&format!("systemctl restart systemd-networkd || {{ {log}; false; }}"));
    pair.watch(9);
    let addresses = pair.a.must("ip -4 -br address show dev eth0");
    assert!(addresses.contains("192.0.2.9/24"), "networkd does not manage it: {addresses}");
}

const NETWORK: &str = "[Match]
Name=eth0
[Network]
Address=192.0.2.9/24
LinkLocalAddressing=no
IPv6AcceptRA=no
";

/// An existing address does not belong to networkd, which would try for ever to take it over.
pub const BY_NETWORKD: &str = "ip address flush dev eth0; systemctl start systemd-networkd";

/// Two machines with the same package installed and configured, and a client that uses their
/// address.
pub struct Pair {
    prober: Prober,
    pub a: Machine,
    pub b: Machine,
    pub lab: Lab,
    daemon: Implementation,
    began: Instant,
}

impl Pair {
    fn unit(&self) -> &'static str {
        self.daemon.name()
    }

    fn watch(&self, whole_seconds: u64) {
        thread::sleep(seconds(whole_seconds));
    }

    fn figures(&self) -> Figures {
        let end = Instant::now();
        thread::sleep(2 * Prober::TOO_LATE);
        let report = self.prober.report(self.began, end);
        let last = self.prober.last_answer().map_or(self.began, |(at, _)| at);
        let ownership = self.lab.ownership(SHARED.into(), self.began, end);
        let hooks = fs::read_to_string(self.a.path("/var/hooks")).unwrap_or_default();
        let log = format!("journalctl --no-pager --output=short-precise --unit={}", self.unit());
        let journal = |machine: &Machine| match machine.run(&log) {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Err(error) => error.to_string(),
        };
        Figures {
            lost: report.lost,
            silence: report.longest_silence.max(end.saturating_duration_since(last)),
            two: ownership.total_two,
            still_two: ownership.owners.len() > 1,
            none: ownership.total_none,
            moved: ownership.changes > 0,
            hooks: hooks.lines().count(),
            logs: [&self.a, &self.b].map(journal).join("\n"),
        }
    }
}

/// What one case showed.
#[derive(Clone, Debug)]
pub struct Figures {
    lost: usize,
    silence: Duration,
    two: Duration,
    still_two: bool,
    none: Duration,
    moved: bool,
    /// How many hooks ran on the machine with the fault.
    hooks: usize,
    logs: String,
}

/// Installs and configures vipd by the README; it does not run yet.
pub fn install(machine: &Machine, site: &Site, router: &RouterSpec) {
    fs::copy(&site.package, machine.path("/root/vipd.deb")).unwrap();
    fs::copy(&site.rebuilt, machine.path("/root/rebuilt.deb")).unwrap();
    machine.must("dpkg --install /root/vipd.deb");
    configure(machine, router);
}

/// Writes the configuration.
pub fn configure(machine: &Machine, router: &RouterSpec) {
    let program = Program::Vipd("/usr/bin/vipd".into());
    let text = lab::configuration(machine.host.name(), &program, std::slice::from_ref(router));
    fs::write(machine.path("/etc/vipd/vipd.toml"), text).unwrap();
}

pub fn router(priority: u8) -> RouterSpec {
    RouterSpec {
        interval: seconds(1),
        more: String::new(),
        ..RouterSpec::new(SHARED.into(), priority)
    }
}

/// A program on a machine.
pub fn script(machine: &Machine, path: &str, text: &str) {
    let file = machine.path(path);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The address is on this machine alone, and this machine advertises it.
#[track_caller]
pub fn expect_master(lab: &Lab, name: &str) {
    let settled = wait_for(seconds(30), || {
        thread::sleep(Duration::from_millis(20));
        let master = lab.observer().master(VRID);
        (lab.owners(SHARED.into()) == [name] && master.as_deref() == Some(name)).then_some(())
    });
    assert!(settled.is_some(), "{name} is not master, but {:?}", lab.observer().master(VRID));
}

/// Plays a case and returns what the client saw.
pub fn play(site: &Site, case: &Case, daemon: Implementation) -> Figures {
    let lab = Lab::new().unwrap();
    // For equal priorities the higher address would win.
    let a = Machine::new(&lab, &site.base, "a", 9).unwrap();
    let b = Machine::new(&lab, &site.base, "b", 2).unwrap();
    let client = lab.host("client", 200).unwrap();
    for (machine, priority) in [(&a, 150), (&b, 100)] {
        machine.host.answer(SHARED.into()).unwrap();
        if case.name.starts_with("systemd-networkd") {
            fs::write(
                machine.path("/etc/systemd/network/eth0.network"),
                NETWORK.replace("192.0.2.9", &machine.host.ipv4().to_string()),
            )
            .unwrap();
            machine.must(BY_NETWORKD);
        }
        let mut router = router(priority);
        match daemon {
            Implementation::Vipd => {
                router.more =
                    "[virtual_router.hooks]\nnotify = \"/etc/vipd/hooks/note\"\n".to_owned();
                install(machine, site, &router);
                script(machine, "/etc/vipd/hooks/note", "#!/bin/sh\necho \"$*\" >>/var/hooks\n");
                machine.must("vipd check && systemctl enable --now vipd");
            }
            Implementation::Keepalived => {
                let program = Program::Keepalived("/usr/sbin/keepalived".into());
                let text = lab::configuration(machine.host.name(), &program, &[router]);
                fs::write(machine.path("/etc/keepalived/keepalived.conf"), text).unwrap();
                machine.must("systemctl enable --now keepalived");
            }
        }
        expect_master(&lab, "a");
    }
    if case.name.starts_with("/run") {
        fill(&a);
    }
    let prober = Prober::start(&client, SHARED.into(), PERIOD).unwrap();
    // Until the backup has received an advert, hooks have run, and the client has its answers.
    thread::sleep(seconds(3));
    let _ = fs::remove_file(a.path("/var/hooks"));
    let mut pair = Pair { prober, a, b, lab, daemon, began: Instant::now() };
    (case.play)(&mut pair);
    pair.figures()
}

/// Prints the measurements, and returns the broken promises.
pub fn table(runs: &[(usize, Implementation, Figures)]) -> Vec<String> {
    println!(
        "\n| case | daemon | probes lost | longest silence, ms | two owners, s | no owner, s |\n\
         |---|---|--:|--:|--:|--:|"
    );
    let mut broken = Vec::new();
    for (index, case) in all().iter().enumerate() {
        let mut title = case.name;
        for daemon in [Implementation::Vipd, Implementation::Keepalived] {
            let mut mine = runs.iter().filter(|(case, who, _)| *case == index && *who == daemon);
            let Some((_, _, figures)) = mine.next() else { continue };
            println!(
                "| {title} | {} | {} | {:.0} | {:.3}{} | {:.3} |",
                daemon.name(),
                figures.lost,
                figures.silence.as_secs_f64() * 1000.0,
                figures.two.as_secs_f64(),
                if figures.still_two { "+" } else { "" },
                figures.none.as_secs_f64(),
            );
            title = "";
            if daemon == Implementation::Vipd {
                broken.extend(verdict(case, figures));
            }
        }
    }
    broken
}

fn verdict(case: &Case, figures: &Figures) -> Vec<String> {
    let interval = router(100).master_down_interval().as_millis();
    let allowed = match case.promise {
        Promise::Nothing | Promise::Still => NOTHING,
        Promise::MasterDownInterval => usize::try_from(interval).unwrap() + MARGIN,
    };
    let mut broken = Vec::new();
    if figures.lost > allowed {
        broken.push(format!("{} probes lost, {allowed} are allowed", figures.lost));
    }
    let two = match case.promise {
        Promise::Nothing | Promise::Still => OVERLAP,
        Promise::MasterDownInterval => LATE_KERNEL,
    };
    if figures.two > two || figures.still_two {
        broken.push(format!("two owners for {:?}", figures.two));
    }
    if case.promise == Promise::Still && (figures.moved || figures.hooks > 0) {
        broken.push(format!("it moved: {}; {} hooks ran", figures.moved, figures.hooks));
    }
    for what in &broken {
        eprintln!("{}: {what}\n{}", case.name, figures.logs);
    }
    broken.into_iter().map(|what| format!("{}: {what}", case.name)).collect()
}

pub const fn seconds(whole: u64) -> Duration {
    Duration::from_secs(whole)
}
