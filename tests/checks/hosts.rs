//! Effects of checks on virtual routers: the real daemon on the hosts of a lab.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Daemon, Host, Lab, Prober, Program, RouterSpec, configuration, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::services::{self, Authority, Server, Service, Systemd};
use crate::suite::{TestResult, programs};
use crate::{TIMEOUT, VIPD, is_root, until};

/// Two hosts and a client; `a` has the better priority and the checks of the test.
pub struct Pair {
    lab: Lab,
    a: Host,
    b: Host,
    ip: IpAddr,
}

impl Pair {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        Pair { a, b, ip: "192.0.2.100".parse().unwrap(), lab }
    }

    fn spec(&self, priority: u8) -> RouterSpec {
        RouterSpec::new(self.ip, priority)
    }

    /// Starts both; `more` is what `a` has in its table of the virtual router, and behind it.
    fn start(&self, more: &str) -> (Daemon, Daemon) {
        let mut spec = self.spec(150);
        spec.more += more;
        self.start_as(&vipd(), &[spec], &[self.spec(100)])
    }

    /// Starts both, `b` first; `program` is what `a` runs.
    fn start_as(&self, program: &Program, a: &[RouterSpec], b: &[RouterSpec]) -> (Daemon, Daemon) {
        let of_b = Daemon::start(&self.b, &vipd(), b).unwrap();
        for ip in b.iter().flat_map(|spec| &spec.addresses) {
            self.expect_owner(*ip, &self.b);
        }
        (self.start_a(program, a), of_b)
    }

    fn start_a(&self, program: &Program, routers: &[RouterSpec]) -> Daemon {
        let a = Daemon::start(&self.a, program, routers).unwrap();
        let up = wait_for(TIMEOUT, || self.try_status(&self.a));
        assert!(up.is_some(), "a does not start: {}", a.log());
        a
    }

    fn expect_master(&self, host: &Host) {
        self.expect_owner(self.ip, host);
    }

    fn expect_owner(&self, ip: IpAddr, host: &Host) {
        let settled = || (self.lab.owners(ip) == [host.name()]).then_some(());
        let why = || format!("{:#?}", [&self.a, &self.b].map(|host| self.try_status(host)));
        let found = wait_for(TIMEOUT, settled);
        assert!(found.is_some(), "{} has not {ip}: {}", host.name(), why());
    }

    fn try_status(&self, host: &Host) -> Option<Value> {
        serde_json::from_str(&self.vipd(host, &["status", "--json"])).ok()
    }

    /// What a command to the daemon of a host prints.
    fn vipd(&self, host: &Host, arguments: &[&str]) -> String {
        let mut command = Command::new(VIPD);
        command.args(arguments).arg("--runtime-dir").arg(host.runtime_dir().unwrap());
        let output = host.namespace().run(move || command.output()).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn router(&self, host: &Host) -> Value {
        self.try_status(host).unwrap()["routers"][0].clone()
    }

    /// A check of `a`, as its status shows it.
    fn check(&self, name: &str) -> Value {
        let router = self.router(&self.a);
        let checks = router["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap().clone()
    }

    /// When the first advert of `b` was seen after this.
    fn taken_over(&self, from: Instant) -> Instant {
        let first = || self.lab.observer().adverts("b", from).first().map(|seen| seen.0);
        wait_for(TIMEOUT, first).expect("b takes over")
    }
}

fn vipd() -> Program {
    Program::Vipd(VIPD.into())
}

/// One of several virtual routers: with a VRID and an address of its own.
fn numbered(name: &str, number: u8, priority: u8) -> RouterSpec {
    let mut spec = RouterSpec::new([192, 0, 2, 100 + number].into(), priority);
    (spec.name, spec.vrid) = (name.to_owned(), 50 + number);
    spec
}

/// The helper process of a daemon.
fn helper_of(daemon: &Daemon) -> Pid {
    Pid::from_raw(children(daemon.pid())[0].cast_signed())
}

fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// A file in which hooks log that they ran, and the program that does so, both for any user.
struct Notes(tempfile::TempDir);

impl Notes {
    /// `text`: a shell script; `$said` is the file.
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let everybody = |mode| PermissionsExt::from_mode(mode);
        fs::set_permissions(directory.path(), everybody(0o755)).unwrap();
        let notes = Notes(directory);
        fs::write(notes.path("said"), "").unwrap();
        fs::set_permissions(notes.path("said"), everybody(0o666)).unwrap();
        let said = notes.path("said");
        let text = format!("#!/bin/sh\nsaid='{}'\n{text}\n", said.display());
        services::write_program(&notes.path("hook"), &text);
        notes
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn hook(&self) -> String {
        self.path("hook").display().to_string()
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("said")).unwrap()
    }

    fn expect(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let found = wait_for(TIMEOUT, || holds(&self.said()).then_some(()));
        assert!(found.is_some(), "waited in vain until {what}:\n{}", self.said());
    }

    fn expect_last(&self, lines: &[&str]) {
        let wanted = lines.join("\n") + "\n";
        self.expect(&format!("the end is {lines:?}"), |said| said.ends_with(&wanted));
    }
}

/// The object of a check, which can be broken and repaired.
struct Breakable<'a> {
    name: &'a str,
    /// Its lines in the configuration.
    lines: String,
    breaks: Box<dyn Fn() + 'a>,
    repair: Box<dyn Fn() + 'a>,
    /// Whether it changes the priority instead of being a fault.
    weighs: bool,
}

pub fn every_kind_decides_over_the_address() -> TestResult {
    let pair = &Pair::new();
    let lan = pair.lab.switch(1).unwrap();
    pair.a.connect("eth1", lan).unwrap();
    let (peer, peer_ip) = (pair.lab.bare_host("peer", 9).unwrap(), lan.ipv4(9));
    peer.connect("eth0", lan).unwrap();
    let dir = pair.a.dir();
    let path = |name: &str| dir.join(name);
    let touch = |name: &'static str| {
        let path = path(name);
        Box::new(move || fs::write(&path, "").unwrap())
    };
    let remove = |name: &'static str| {
        let path = path(name);
        Box::new(move || fs::remove_file(&path).unwrap())
    };
    let write = |name: &'static str, text: &'static str| {
        let path = path(name);
        Box::new(move || fs::write(&path, text).unwrap())
    };
    let show = |name: &str| path(name).display().to_string();
    services::write_program(&path("probe"), &format!("#!/bin/sh\n[ ! -e '{}' ]\n", show("sick")));
    let sleeper = path("the-service");
    services::copy_program(std::path::Path::new("/bin/sleep"), &sleeper);
    let service = &Service::new(&pair.a, &sleeper);
    let tcp = &Server::new(&pair.a, 4711);
    let web = &Server::new(&pair.a, 8080);
    fs::write(path("licence"), "").unwrap();
    fs::write(path("load"), "0").unwrap();
    let quick = "interval = \"100ms\"\ntimeout = \"1s\"\nfall = 1\nrise = 1\n";
    let kinds = [
        Breakable {
            name: "command",
            lines: format!("command = \"{}\"\n{quick}", show("probe")),
            breaks: touch("sick"),
            repair: remove("sick"),
            weighs: false,
        },
        Breakable {
            name: "tcp",
            lines: format!("tcp = \"127.0.0.1:4711\"\n{quick}"),
            breaks: Box::new(|| tcp.stop()),
            repair: Box::new(|| tcp.start()),
            weighs: false,
        },
        Breakable {
            name: "http",
            lines: format!("http = \"http://127.0.0.1:8080/fine\"\n{quick}weight = -60\n"),
            breaks: Box::new(|| web.stop()),
            repair: Box::new(|| web.start()),
            weighs: true,
        },
        Breakable {
            name: "process",
            lines: "process = \"the-service\"\n".to_owned(),
            breaks: Box::new(|| service.stop()),
            repair: Box::new(|| service.start()),
            weighs: false,
        },
        Breakable {
            name: "file",
            lines: format!("file = \"{}\"\ninterval = \"100ms\"\n", show("load")),
            breaks: write("load", "-100"),
            repair: write("load", "0"),
            weighs: true,
        },
        Breakable {
            name: "present",
            lines: format!("file_present = \"{}\"\n{quick}", show("licence")),
            breaks: remove("licence"),
            repair: touch("licence"),
            weighs: false,
        },
        Breakable {
            name: "absent",
            lines: format!(
                "file_absent = \"{}\"\n{quick}on_fail = \"last\"\n",
                show("maintenance")
            ),
            breaks: touch("maintenance"),
            repair: remove("maintenance"),
            weighs: true,
        },
        Breakable {
            name: "interface",
            lines: format!("interface = \"eth1\"\n{quick}"),
            breaks: Box::new(|| pair.a.unplug("eth1").unwrap()),
            repair: Box::new(|| pair.a.plug("eth1").unwrap()),
            weighs: false,
        },
        Breakable {
            name: "ping",
            lines: format!("ping = \"{peer_ip}\"\n{}weight = -60\n", quick.replace("1s", "200ms")),
            breaks: Box::new(|| peer.unplug("eth0").unwrap()),
            repair: Box::new(|| peer.plug("eth0").unwrap()),
            weighs: true,
        },
    ];
    let names: Vec<String> = kinds.iter().map(|kind| format!("\"{}\"", kind.name)).collect();
    let tables: String = kinds
        .iter()
        .map(|kind| format!("\n[[check]]\nname = \"{}\"\n{}", kind.name, kind.lines))
        .collect();
    let _daemons = pair.start(&format!("checks = [{}]\n{tables}", names.join(", ")));
    pair.expect_master(&pair.a);
    for kind in &kinds {
        let begun = Instant::now();
        (kind.breaks)();
        pair.expect_master(&pair.b);
        let moved = begun.elapsed();
        let router = pair.router(&pair.a);
        let check = pair.check(kind.name);
        let reads_number = kind.name == "file";
        if !reads_number {
            assert_eq!(check["verdict"], "failing", "{}: {check:#}", kind.name);
            assert!(!check["output"].as_str().unwrap().is_empty() || kind.name == "command");
        }
        if kind.weighs {
            assert_eq!(router["role"], "backup", "{}", kind.name);
            let expected = match kind.name {
                "absent" => 1,
                "file" => 50,
                _ => 90,
            };
            assert_eq!(router["effective_priority"], expected, "{router:#}");
            assert_eq!(router["priority_changes"][0]["check"], kind.name, "{router:#}");
            assert_eq!(router["degraded"], kind.name == "absent");
        } else {
            assert_eq!(router["role"], "fault", "{}", kind.name);
            assert_eq!(router["fault_reasons"][0]["reason"], "check", "{router:#}");
        }
        (kind.repair)();
        pair.expect_master(&pair.a);
        println!("{}: moved after {moved:?}, and back", kind.name);
    }
    let log = fs::read_to_string(pair.a.dir().join("vipd.log")).unwrap();
    for words in ["check tcp fails: 127.0.0.1:4711: Connection refused", "check tcp passes again"] {
        assert_eq!(log.matches(words).count(), 1, "{words:?} in\n{log}");
    }
    Ok(())
}

pub fn a_dead_process_moves_the_address_at_once() -> TestResult {
    let pair = Pair::new();
    let program = pair.a.dir().join("the-server");
    services::copy_program(std::path::Path::new("/bin/sleep"), &program);
    let service = Service::new(&pair.a, &program);
    let (_a, _b) =
        pair.start("checks = [\"it\"]\n[[check]]\nname = \"it\"\nprocess = \"the-server\"\n");
    let promised = Duration::from_millis(50) + Duration::from_millis(50) + pair.spec(100).skew();
    let mut late = Vec::new();
    for _ in 0..5 {
        pair.expect_master(&pair.a);
        thread::sleep(Duration::from_millis(300));
        let died = Instant::now();
        service.stop();
        late.push(pair.taken_over(died) - died);
        service.start();
    }
    println!(
        "a dead process: b's first advert after {late:?}; promised: 50 ms + delay + skew = {promised:?}"
    );
    late.sort();
    // The machine may be busy.
    assert!(late[2] < promised + Duration::from_millis(300), "{late:?}");
    Ok(())
}

pub fn a_failing_web_server_moves_the_address_in_time() -> TestResult {
    let pair = Pair::new();
    let web = Server::new(&pair.a, 8080);
    let check = "http = \"http://127.0.0.1:8080/fine\"\ninterval = \"200ms\"\ntimeout = \"300ms\"\nfall = 3\nrise = 1\n";
    let (_a, _b) = pair.start(&format!("checks = [\"it\"]\n[[check]]\nname = \"it\"\n{check}"));
    let (interval, timeout) = (Duration::from_millis(200), Duration::from_millis(300));
    let promised = 3 * timeout.max(interval) + pair.spec(100).skew();
    // Refused connections, then no answers, where the time counts from the first attempt.
    for (freezes, promised) in [(false, promised), (true, promised + interval)] {
        pair.expect_master(&pair.a);
        let begun = Instant::now();
        if freezes {
            web.freeze()
        } else {
            web.stop()
        }
        let late = pair.taken_over(begun) - begun;
        let how = if freezes { "hangs" } else { "is gone" };
        println!(
            "a web server that {how}: b's first advert after {late:?}; promised: fall x max(interval, timeout) + skew = {promised:?}"
        );
        assert!(late < promised + Duration::from_millis(500), "{late:?}");
        pair.expect_master(&pair.b);
        if freezes { web.thaw() } else { web.start() }
    }
    Ok(())
}

pub fn a_drain_by_a_file_check_loses_no_probe() -> TestResult {
    let (pair, _a, switch) = moved_by_a_file("on_fail = \"last\"\n");
    // Without a peer that could take it, the address stays.
    fs::write(&switch, "").unwrap();
    let degraded = || (pair.router(&pair.a)["degraded"] == true).then_some(());
    wait_for(TIMEOUT, degraded).unwrap();
    thread::sleep(Duration::from_millis(500));
    let router = pair.router(&pair.a);
    assert_eq!(
        (router["role"].as_str(), router["effective_priority"].as_u64()),
        (Some("master"), Some(1))
    );
    Ok(())
}

pub fn a_failing_check_loses_no_probe() -> TestResult {
    let (pair, _a, broken) = moved_by_a_file("");
    // Without a peer that could take it, it is released all the same.
    fs::write(&broken, "").unwrap();
    let released = || pair.lab.owners(pair.ip).is_empty().then_some(());
    wait_for(TIMEOUT, released).unwrap();
    Ok(())
}

/// A check with these further keys fails while a file is there: the address moves to `b` and back, and
/// no probe is lost. Then `b` ends; returns the file, and the daemon of `a`.
fn moved_by_a_file(keys: &str) -> (Pair, Daemon, PathBuf) {
    let pair = Pair::new();
    let client = pair.lab.host("client", 3).unwrap();
    let file = pair.a.dir().join("file");
    for host in [&pair.a, &pair.b] {
        host.answer(pair.ip).unwrap();
    }
    let check = format!(
        "checks = [\"in_service\"]\n[[check]]\nname = \"in_service\"\nfile_absent = \"{}\"\ninterval = \"100ms\"\nfall = 1\nrise = 1\n{keys}",
        file.display()
    );
    let (a, b) = pair.start(&check);
    pair.expect_master(&pair.a);
    let prober = Prober::start(&client, pair.ip, Duration::from_millis(2)).unwrap();
    thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    fs::write(&file, "").unwrap();
    pair.expect_master(&pair.b);
    thread::sleep(Duration::from_millis(500));
    fs::remove_file(&file).unwrap();
    pair.expect_master(&pair.a);
    thread::sleep(Duration::from_millis(500));
    let ended = Instant::now();
    thread::sleep(2 * Prober::TOO_LATE);
    let report = prober.report(begun, ended);
    println!("there and back: {report:?}");
    assert_eq!(report.lost, 0, "{report:?}");
    assert!(report.answered_by.contains_key("b"), "{report:?}");
    let ownership = pair.lab.ownership(pair.ip, begun, ended);
    assert_eq!(ownership.longest_none, Duration::ZERO, "{ownership:?}");
    drop(b);
    thread::sleep(Duration::from_millis(500));
    (pair, a, file)
}

pub fn a_hook_may_refuse_to_take_over() -> TestResult {
    let pair = Pair::new();
    let dir = pair.a.dir();
    let said = dir.join("said");
    let hook = dir.join("may-claim");
    let text = format!(
        "#!/bin/sh\necho $VIPD_STATE >>'{}'\n[ -e '{}/yes' ]\n",
        said.display(),
        dir.display()
    );
    services::write_program(&hook, &text);
    let hooks = format!(
        "[virtual_router.hooks]\nbefore_claim = {{ command = \"{0}\", fault_for = \"1s\" }}\nmaster = \"{0}\"\n",
        hook.display()
    );
    let (_a, _b) = pair.start(&hooks);
    let vetoed = || {
        let router = pair.router(&pair.a);
        let reason = router["fault_reasons"][0]["reason"].clone();
        (router["role"] == "fault" && reason == "vetoed").then_some(router)
    };
    let router = wait_for(TIMEOUT, vetoed).unwrap();
    assert_eq!(router["last_hook"]["hook"], "before_claim", "{router:#}");
    assert_eq!(router["last_hook"]["failed"], true);
    assert_eq!(pair.lab.owners(pair.ip), ["b"]);
    // The hook is run again, and once it allows it the host is master.
    fs::write(dir.join("yes"), "").unwrap();
    pair.expect_master(&pair.a);
    let all = || {
        let text = fs::read_to_string(&said).unwrap();
        text.ends_with("before_claim\nmaster\n").then_some(text)
    };
    let text = wait_for(TIMEOUT, all).unwrap();
    assert!(text.lines().filter(|line| *line == "before_claim").count() >= 2, "{text}");
    assert_eq!(text.lines().filter(|line| *line == "master").count(), 1, "{text}");
    Ok(())
}

pub fn a_hook_that_hangs_before_a_claim_is_a_refusal() -> TestResult {
    let pair = Pair::new();
    let hook = pair.a.dir().join("hangs");
    services::write_program(&hook, "#!/bin/sh\necho asked\nexec sleep 999\n");
    let hooks = format!(
        "[virtual_router.hooks]\nbefore_claim = {{ command = \"{}\", timeout = \"300ms\", fault_for = \"1h\" }}\n",
        hook.display()
    );
    let (_a, mut b) = pair.start(&hooks);
    let vetoed = || {
        let router = pair.router(&pair.a);
        (router["role"] == "fault").then_some(router)
    };
    let router = wait_for(TIMEOUT, vetoed).unwrap();
    assert_eq!(router["fault_reasons"][0]["reason"], "vetoed", "{router:#}");
    let ended = || (pair.router(&pair.a)["last_hook"]["outcome"] == "timed out").then_some(());
    wait_for(TIMEOUT, ended).unwrap();
    // Also without another router.
    b.stop(TIMEOUT).unwrap();
    thread::sleep(Duration::from_millis(800));
    assert!(pair.lab.owners(pair.ip).is_empty());
    Ok(())
}

pub fn a_group_has_one_set_of_hooks_and_checks() -> TestResult {
    let lab = Lab::new().unwrap();
    let lan = lab.switch(1).unwrap();
    let hosts = [lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap()];
    let ips: [IpAddr; 2] = ["192.0.2.100".parse().unwrap(), "198.51.100.100".parse().unwrap()];
    let program = Program::Vipd(VIPD.into());
    let mut daemons = Vec::new();
    let text =
        "echo \"$(id -un) $VIPD_STATE $VIPD_GROUP $VIPD_ADDRESSES on $VIPD_INTERFACE: $*\" >>$said";
    let notes = [Notes::new(text), Notes::new(text)];
    let user = if is_root("whom hooks of a group run as") { "nobody" } else { "root" };
    for ((host, notes), priority) in hosts.iter().zip(&notes).zip([150, 100]) {
        host.connect("eth1", lan).unwrap();
        let mut inside = RouterSpec::new(ips[0], priority);
        inside.name = "inside".to_owned();
        let mut outside = RouterSpec::new(ips[1], priority);
        (outside.name, outside.interface, outside.vrid) =
            ("outside".to_owned(), "eth1".to_owned(), 52);
        outside.more += &format!(
            "[[sync_group]]\nname = \"gateway\"\nmembers = [\"inside\", \"outside\"]\nchecks = [\"in_service\"]\n\
             [sync_group.hooks]\nuser = \"{user}\"\nmaster = [\"{hook}\", \"up\"]\nfault = [\"{hook}\", \"down\"]\nnotify = \"{hook}\"\nbefore_claim = [\"{hook}\", \"may I\"]\n\
             [[check]]\nname = \"in_service\"\nfile_absent = \"{}\"\ninterval = \"100ms\"\nfall = 1\nrise = 1\n",
            host.dir().join("out").display(),
            hook = notes.hook(),
        );
        daemons.push(Daemon::start(host, &program, &[inside, outside]).unwrap());
    }
    let [a, b] = &hosts;
    let held_by = |host: &Host| {
        let both = || ips.iter().all(|ip| lab.owners(*ip) == [host.name()]).then_some(());
        assert!(
            wait_for(TIMEOUT, both).is_some(),
            "{} has not both: {}",
            host.name(),
            daemons[0].log()
        );
    };
    held_by(a);
    let line = |state: &str, arguments: &str| {
        format!("{user} {state} gateway 192.0.2.100 198.51.100.100 on eth0 eth1: {arguments}")
    };
    let is_master = [
        &*line("before_claim", "may I"),
        &line("master", "up"),
        &line("master", "GROUP gateway MASTER 150"),
    ];
    notes[0].expect_last(&is_master);
    // A check of the group moves both.
    fs::write(a.dir().join("out"), "").unwrap();
    held_by(b);
    notes[0].expect_last(&[&line("fault", "down"), &line("fault", "GROUP gateway FAULT 150")]);
    let status = Command::new(VIPD)
        .args(["status", "--json", "--runtime-dir"])
        .arg(a.runtime_dir().unwrap())
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    for router in status["routers"].as_array().unwrap() {
        assert_eq!(router["group"], "gateway", "{router:#}");
        assert_eq!(router["last_hook"]["hook"], "fault", "{router:#}");
    }
    fs::remove_file(a.dir().join("out")).unwrap();
    held_by(a);
    notes[0].expect_last(&is_master);
    let said = notes[0].said();
    assert_eq!(said.matches(": GROUP gateway MASTER").count(), 2, "{said}");
    Ok(())
}

pub fn the_daemon_ends_with_an_error_when_its_helper_dies() -> TestResult {
    let pair = Pair::new();
    let (mut a, _b) = pair.start(
        "checks = [\"it\"]\n[[check]]\nname = \"it\"\ncommand = \"true\"\ninterval = \"100ms\"\n",
    );
    pair.expect_master(&pair.a);
    kill(helper_of(&a), Signal::SIGKILL).unwrap();
    let status = a.wait(TIMEOUT).unwrap().expect("a daemon without checks ends");
    assert_eq!(status.code(), Some(1), "{status}");
    let log = a.log();
    assert!(log.contains("ERROR the helper process (hooks and checks) has ended"), "{log}");
    // Restarted at once, as by systemd, it stays master; otherwise another host takes over.
    pair.expect_master(&pair.b);
    let events = fs::read_to_string(pair.a.dir().join("state/events.jsonl")).unwrap();
    assert!(events.contains("the helper process (hooks and checks) has ended"), "{events}");
    Ok(())
}

pub fn a_reload_changes_checks() -> TestResult {
    let pair = Pair::new();
    let switch = pair.a.dir().join("switch");
    let check = |name: &str, kind: &str| {
        format!(
            "[[check]]\nname = \"{name}\"\n{kind} = \"{}\"\ninterval = \"100ms\"\nfall = 1\nrise = 1\n",
            switch.display()
        )
    };
    let table = |names: &str, checks: &str| format!("checks = [{names}]\n{checks}");
    let first = table("\"kept\"", &check("kept", "file_absent"));
    let (daemon, _b) = pair.start(&first);
    pair.expect_master(&pair.a);
    thread::sleep(Duration::from_secs(2));
    let before = pair.check("kept")["streak"].as_u64().unwrap();
    assert!(before >= 5, "{before}");
    let config = fs::read_to_string(daemon.config()).unwrap();
    let second = table(
        "\"kept\", \"new\"",
        &(check("kept", "file_absent") + &check("new", "file_present") + "weight = -60\n"),
    );
    fs::write(daemon.config(), config.replace(&first, &second)).unwrap();
    daemon.signal(Signal::SIGHUP).unwrap();
    // The new check fails and moves the address away ...
    pair.expect_master(&pair.b);
    assert!(pair.check("kept")["streak"].as_u64().unwrap() >= before, "went on undisturbed");
    assert_eq!(pair.router(&pair.a)["effective_priority"], 90);
    // ... until it is taken back.
    fs::write(daemon.config(), config).unwrap();
    daemon.signal(Signal::SIGHUP).unwrap();
    pair.expect_master(&pair.a);
    let router = pair.router(&pair.a);
    assert_eq!(router["checks"].as_array().unwrap().len(), 1);
    assert_eq!(router["effective_priority"], 150);
    Ok(())
}

pub fn a_unit_adds_to_the_priority() -> TestResult {
    if !is_root("a_unit_adds_to_the_priority") {
        return Ok(());
    }
    let pair = Pair::new();
    let systemd = Systemd::start()?;
    systemd.unit("app.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    systemd.ctl(&["start", "app.service"]);
    // The only system bus of this daemon.
    let start = pair.a.dir().join("start");
    let bus = systemd.sockets().remove(0);
    let text = format!(
        "#!/bin/sh\nDBUS_SYSTEM_BUS_ADDRESS='unix:path={}' exec '{VIPD}' \"$@\"\n",
        bus.display()
    );
    services::write_program(&start, &text);
    let mut spec = pair.spec(90);
    spec.more += "checks = [\"app\"]\n[[check]]\nname = \"app\"\nunit = \"app.service\"\ninterval = \"100ms\"\nfall = 1\nrise = 1\nweight = 60\n";
    let _daemons = pair.start_as(&Program::Vipd(start), &[spec], &[pair.spec(100)]);
    for (word, host, output, priority) in [
        ("start", &pair.a, "app.service is active", 150),
        ("stop", &pair.b, "app.service is inactive", 90),
        ("start", &pair.a, "app.service is active", 150),
    ] {
        systemd.ctl(&[word, "app.service"]);
        pair.expect_master(host);
        // The address may leave a unit that is still being stopped.
        until(output, || pair.check("app")["output"] == output);
        let router = pair.router(&pair.a);
        assert_eq!(router["effective_priority"], priority, "{router:#}");
        let role = if priority == 90 { "backup" } else { "master" };
        assert_eq!(router["role"], role, "{router:#}");
    }
    Ok(())
}

/// Each adds another power of two to the priority while it passes.
pub fn options_of_checks_have_their_effect() -> TestResult {
    let pair = Pair::new();
    let dir = pair.a.dir();
    let authority = Authority::new(&dir.join("authority"), "Our authority")?;
    let _web = Server::new(&pair.a, 8080);
    let _tls = Server::new_tls(&pair.a, 8443, &authority);
    let program = dir.join("the-service");
    services::copy_program(std::path::Path::new("/bin/sleep"), &program);
    let service = Service::new(&pair.a, &program);
    let notes = Notes::new("[ \"$(id -un)\" = nobody ]");
    let switch = dir.join("switch").display().to_string();
    let root = is_root("whom a check runs as");
    let user = if root { "nobody" } else { "root" };
    let (ca, process, hook) = (authority.certificate.display(), program.display(), notes.hook());
    let checks = [
        ("status", 1, "http = \"http://127.0.0.1:8080/302\"\nstatus = 302".to_owned()),
        ("body", 2, "http = \"http://127.0.0.1:8080/fine\"\nbody = \"all is well\"".to_owned()),
        ("no body", 0, "http = \"http://127.0.0.1:8080/fine\"\nbody = \"ill\"".to_owned()),
        ("ca", 4, format!("http = \"https://127.0.0.1:8443/fine\"\nca_file = \"{ca}\"")),
        ("no ca", 0, "http = \"https://127.0.0.1:8443/fine\"".to_owned()),
        ("user", if root { 8 } else { 0 }, format!("command = \"{hook}\"\nuser = \"{user}\"")),
        ("timeout", 0, "command = [\"sleep\", \"999\"]\ntimeout = \"200ms\"".to_owned()),
        ("fall", 16, format!("file_absent = \"{switch}\"\nfall = 1000")),
        ("rise", 0, format!("file_present = \"{switch}\"\nrise = 1000")),
        ("delay", 32, format!("process = \"{process}\"\ndelay = \"1m\"")),
        ("no delay", 64, format!("process = \"{process}\"\ndelay = \"0s\"")),
    ];
    let name = |name: &str| name.replace(' ', "_");
    let names: Vec<String> =
        checks.iter().map(|(each, ..)| format!("\"{}\"", name(each))).collect();
    let tables = checks.iter().map(|(each, weight, lines)| {
        // A failure would be seen, too.
        let weight = if *weight == 0 { 128 } else { *weight };
        let interval = if lines.starts_with("process") { "" } else { "interval = \"100ms\"\n" };
        let name = name(each);
        format!("[[check]]\nname = \"{name}\"\n{lines}\nweight = {weight}\n{interval}")
    });
    let mut spec = pair.spec(10);
    spec.more += &format!("checks = [{}]\n{}", names.join(", "), tables.collect::<String>());
    let _a = pair.start_a(&vipd(), &[spec]);
    let expect = |priority: i32, what: &dyn Fn() -> bool| {
        let is = || pair.router(&pair.a)["effective_priority"] == priority && what();
        let found = wait_for(TIMEOUT, || is().then_some(()));
        assert!(found.is_some(), "not {priority}: {:#}", pair.router(&pair.a));
    };
    let all: i32 = checks.iter().map(|(_, weight, _)| weight).sum();
    let ran = |name: &str| pair.check(name)["verdict"] != "unknown";
    expect(10 + all, &|| checks.iter().all(|(each, ..)| ran(&name(each))));
    assert_eq!(pair.check("timeout")["output"], "took longer than 200ms and was killed");
    // One more failure or pass than it takes by default changes nothing here, nor does a short gap.
    fs::write(&switch, "").unwrap();
    service.stop();
    let streak = |name: &str, failed: bool| {
        let check = pair.check(name);
        check["failed"] == failed && check["streak"].as_u64() > Some(5)
    };
    expect(10 + all - 64, &|| streak("fall", true) && streak("rise", false));
    assert_eq!(pair.check("delay")["verdict"], "passing");
    service.start();
    expect(10 + all, &|| true);
    Ok(())
}

pub fn a_check_counts_as_its_initial_result_until_it_has_run() -> TestResult {
    let pair = Pair::new();
    let dir = pair.a.dir();
    let (slow, go) = (dir.join("slow"), dir.join("go"));
    let text = format!("#!/bin/sh\nuntil [ -e '{}' ]; do sleep 0.1; done\n", go.display());
    services::write_program(&slow, &text);
    let words = ["passing", "failing", "wait"];
    let routers: Vec<RouterSpec> = (1..)
        .zip(words)
        .map(|(number, word)| {
            let mut spec = numbered(word, number, 100);
            spec.more += &format!(
                "checks = [\"{word}\"]\n[[check]]\nname = \"{word}\"\ncommand = \"{}\"\ntimeout = \"1m\"\ninitial = \"{word}\"\n",
                slow.display()
            );
            spec
        })
        .collect();
    let ips: Vec<IpAddr> = routers.iter().map(|spec| spec.addresses[0]).collect();
    let _a = pair.start_a(&vipd(), &routers);
    pair.expect_owner(ips[0], &pair.a);
    // Longer than the master-down interval.
    thread::sleep(4 * pair.spec(100).master_down_interval());
    let status = pair.try_status(&pair.a).unwrap();
    let seen = |router: &Value| {
        let check = &router["checks"][0];
        let words =
            [&router["role"], &check["verdict"]].map(|word| word.as_str().unwrap().to_owned());
        (words, check["streak"].as_u64())
    };
    let found: Vec<_> = status["routers"].as_array().unwrap().iter().map(seen).collect();
    let expected = [["master", "passing"], ["fault", "failing"], ["waiting", "unknown"]];
    assert_eq!(found, expected.map(|words| (words.map(str::to_owned), Some(0))), "{status:#}");
    assert!(ips[1..].iter().all(|ip| pair.lab.owners(*ip).is_empty()));
    fs::write(&go, "").unwrap();
    for ip in &ips {
        pair.expect_owner(*ip, &pair.a);
    }
    Ok(())
}

pub fn a_first_result_is_waited_for_for_a_limited_time() -> TestResult {
    // interval and timeout together.
    const LONGEST: Duration = Duration::from_secs(5);
    let pair = Pair::new();
    let notes = Notes::new("echo asked >>$said; exec sleep 999");
    let mut spec = pair.spec(100);
    spec.more += &format!(
        "checks = [\"it\"]\n[[check]]\nname = \"it\"\ncommand = \"{}\"\n\
         interval = \"100ms\"\ntimeout = \"4900ms\"\nfall = 1\ninitial = \"wait\"\n",
        notes.hook()
    );
    let begun = Instant::now();
    let a = pair.start_a(&vipd(), &[spec]);
    notes.expect_last(&["asked"]);
    // A helper that hangs is noticed after 15 s only.
    let helper = helper_of(&a);
    kill(helper, Signal::SIGSTOP).unwrap();
    pair.expect_master(&pair.a);
    let taken = begun.elapsed();
    assert!(taken >= LONGEST, "{taken:?}");
    assert_eq!(pair.check("it")["verdict"], "unknown");
    // The first result decides, late as it is.
    kill(helper, Signal::SIGCONT).unwrap();
    let failed = || pair.router(&pair.a)["role"] == "fault" && pair.lab.owners(pair.ip).is_empty();
    until("it is a fault", failed);
    assert_eq!(pair.check("it")["output"], "took longer than 4.9s and was killed");
    Ok(())
}

pub fn start_link_and_preempt_delays_are_kept() -> TestResult {
    const DELAY: Duration = Duration::from_secs(4);
    let pair = Pair::new();
    let lines = [
        ("at-once", "link_delay = \"0s\"\n"),
        ("start", "link_delay = \"0s\"\nstart_delay = \"4s\"\n"),
        ("link", "link_delay = \"4s\"\n"),
        ("preempt", "link_delay = \"0s\"\npreempt_delay = \"4s\"\n"),
    ];
    let routers = |priority| -> Vec<RouterSpec> {
        let each = (1..).zip(lines).map(|(number, (name, more))| {
            let more = if priority == 100 { lines[0].1 } else { more };
            RouterSpec { more: more.to_owned(), ..numbered(name, number, priority) }
        });
        each.collect()
    };
    // How long it took until `a` had each address.
    let taken = |from: Instant| {
        let mut taken = [Duration::ZERO; 4];
        let all = || {
            for (spec, after) in routers(150).iter().zip(&mut taken) {
                if after.is_zero() && pair.lab.owners(spec.addresses[0]) == ["a"] {
                    *after = from.elapsed();
                }
            }
            taken.iter().all(|after| !after.is_zero()).then_some(())
        };
        assert!(wait_for(TIMEOUT, all).is_some(), "{taken:?}");
        taken
    };
    let b = Daemon::start(&pair.b, &vipd(), &routers(100)).unwrap();
    for spec in routers(100) {
        pair.expect_owner(spec.addresses[0], &pair.b);
    }
    let begun = Instant::now();
    let _a = pair.start_a(&vipd(), &routers(150));
    let [at_once, start, link, preempt] = taken(begun);
    println!("after the start: {at_once:?}, start {start:?}, link {link:?}, preempt {preempt:?}");
    assert!([start, link, preempt].iter().all(|after| *after >= DELAY));
    assert!(at_once < start.min(link).min(preempt));
    pair.a.unplug("eth0").unwrap();
    for spec in routers(100) {
        pair.expect_owner(spec.addresses[0], &pair.b);
    }
    let begun = Instant::now();
    pair.a.plug("eth0").unwrap();
    let [at_once, start, link, preempt] = taken(begun);
    println!("after the link: {at_once:?}, start {start:?}, link {link:?}, preempt {preempt:?}");
    assert!([link, preempt].iter().all(|after| *after >= DELAY));
    assert!(at_once.max(start) < link.min(preempt));
    drop(b);
    Ok(())
}

pub fn every_hook_runs_as_its_user_when_it_should() -> TestResult {
    let pair = Pair::new();
    // The last one takes a while: a daemon that did not wait for it would end before it.
    let notes =
        Notes::new("[ $VIPD_STATE != stop ] || sleep 0.5\necho $VIPD_STATE $(id -un) >>$said");
    let root = is_root("whom hooks run as");
    let (other, sick) = (if root { "nobody" } else { "root" }, notes.path("sick"));
    let hook = notes.hook();
    let more = format!(
        "handover = \"exclusive\"\nchecks = [\"well\"]\n[virtual_router.hooks]\nuser = \"{other}\"\n\
         master = \"{hook}\"\nbackup = [\"{hook}\"]\nfault = \"{hook}\"\nstop = \"{hook}\"\n\
         before_release = {{ command = \"{hook}\" }}\nbefore_claim = {{ command = \"{hook}\", user = \"root\" }}\n\
         [[check]]\nname = \"well\"\nfile_absent = \"{}\"\ninterval = \"100ms\"\nfall = 1\nrise = 1\n",
        sick.display()
    );
    let (mut a, _b) = pair.start(&more);
    let of_other = |state: &str| format!("{state} {other}");
    let [master, backup, fault, stop, before_release] =
        ["master", "backup", "fault", "stop", "before_release"].map(of_other);
    pair.expect_master(&pair.a);
    notes.expect_last(&["before_claim root", &master]);
    let said = pair.vipd(&pair.a, &["failover", "web"]);
    assert!(said.contains("took over"), "{said}");
    notes.expect_last(&[&before_release, &backup]);
    pair.vipd(&pair.a, &["resume", "web"]);
    pair.expect_master(&pair.a);
    notes.expect_last(&["before_claim root", &master]);
    // No hook runs before a fault.
    fs::write(&sick, "").unwrap();
    pair.expect_master(&pair.b);
    notes.expect_last(&[&master, &fault]);
    fs::remove_file(&sick).unwrap();
    pair.expect_master(&pair.a);
    notes.expect_last(&["before_claim root", &master]);
    a.stop(TIMEOUT).unwrap();
    notes.expect_last(&[&before_release, &stop]);
    pair.expect_master(&pair.b);
    Ok(())
}

pub fn a_hook_that_takes_too_long_may_mean_fault() -> TestResult {
    let pair = Pair::new();
    let notes = Notes::new("echo $VIPD_STATE >>$said\n[ -e \"$said.fine\" ] || exec sleep 999");
    let more = format!(
        "[virtual_router.hooks]\nmaster = {{ command = \"{}\", timeout = \"300ms\", fault_for = \"2s\" }}\n",
        notes.hook()
    );
    let (_a, _b) = pair.start(&more);
    let failed = || {
        let router = pair.router(&pair.a);
        (router["role"] == "fault").then_some(router)
    };
    let router = wait_for(TIMEOUT, failed).unwrap();
    assert_eq!(router["fault_reasons"][0]["reason"], "hook_failed", "{router:#}");
    assert_eq!(router["last_hook"]["hook"], "master", "{router:#}");
    assert_eq!(router["last_hook"]["outcome"], "timed out", "{router:#}");
    pair.expect_master(&pair.b);
    fs::write(notes.path("said.fine"), "").unwrap();
    let done = || (pair.router(&pair.a)["last_hook"]["outcome"] == "done").then_some(());
    assert!(wait_for(TIMEOUT, done).is_some(), "{:#}", pair.router(&pair.a));
    pair.expect_master(&pair.a);
    Ok(())
}

pub fn a_router_removed_by_a_reload_leaves_with_its_own_hooks() -> TestResult {
    let pair = Pair::new();
    let notes = Notes::new("echo $1 $VIPD_STATE >>$said");
    let hooks = |whose: &str| {
        let keys = ["master", "backup", "stop", "before_release"];
        let lines = keys.map(|key| format!("{key} = [\"{}\", \"{whose}\"]\n", notes.hook()));
        lines.concat()
    };
    let with_hooks = |mut spec: RouterSpec, whose: &str| {
        spec.more += &format!("[virtual_router.hooks]\n{}", hooks(whose));
        spec
    };
    let (stays, goes) = (numbered("stays", 1, 150), numbered("goes", 2, 150));
    let (inside, mut outside) = (numbered("inside", 3, 150), numbered("outside", 4, 150));
    let of_b = [&stays, &goes, &inside, &outside].map(|spec| {
        let spec = RouterSpec { priority: 100, ..spec.clone() };
        with_hooks(spec.clone(), &format!("b:{}", spec.name))
    });
    outside.more += &format!(
        "[[sync_group]]\nname = \"group\"\nmembers = [\"inside\", \"outside\"]\n[sync_group.hooks]\n{}",
        hooks("group")
    );
    let ips: Vec<IpAddr> = of_b.iter().map(|spec| spec.addresses[0]).collect();
    let of_a = [with_hooks(stays.clone(), "stays"), with_hooks(goes, "goes"), inside, outside];
    let (a, b) = pair.start_as(&vipd(), &of_a, &of_b);
    for ip in &ips {
        pair.expect_owner(*ip, &pair.a);
    }
    let count = |line: &str| notes.said().lines().filter(|said| *said == line).count();
    for line in ["stays master", "goes master", "group master"] {
        notes.expect(line, |said| said.lines().any(|said| said == line));
    }
    let reload = |daemon: &Daemon, host: &Host, routers: &[RouterSpec]| {
        let text = configuration(host.name(), &vipd(), routers);
        fs::write(daemon.config(), text).unwrap();
        let said = pair.vipd(host, &["reload"]);
        assert!(said.contains("goes"), "{said}{}", daemon.log());
    };
    // A backup ...
    reload(&b, &pair.b, &[with_hooks(RouterSpec { priority: 100, ..stays.clone() }, "later")]);
    notes.expect("b's have stopped", |said| {
        ["goes", "inside", "outside"].iter().all(|name| said.contains(&format!("b:{name} stop\n")))
    });
    reload(&b, &pair.b, &of_b);
    // ... and a master, which runs a hook before it releases.
    thread::sleep(2 * pair.spec(100).master_down_interval());
    reload(&a, &pair.a, &[with_hooks(stays, "later")]);
    for ip in &ips[1..] {
        pair.expect_owner(*ip, &pair.b);
    }
    for line in ["goes before_release", "goes stop", "group before_release", "group stop"] {
        notes.expect(line, |said| said.lines().any(|said| said == line));
    }
    assert_eq!(pair.lab.owners(ips[0]), ["a"]);
    for (line, times) in
        [("goes stop", 1), ("group stop", 1), ("group before_release", 1), ("stays stop", 0)]
    {
        assert_eq!(count(line), times, "{line}:\n{}", notes.said());
    }
    assert!(!notes.said().contains("later"), "{}", notes.said());
    Ok(())
}

pub fn a_changed_vrid_sends_priority_0_for_the_old_one() -> TestResult {
    let pair = Pair::new();
    let (a, _b) = pair.start("");
    pair.expect_master(&pair.a);
    let config = fs::read_to_string(a.config()).unwrap();
    for (before, after) in [(51, 61), (61, 71)] {
        let vrid = |number: u8| format!("vrid = {number}\n");
        let config = config.replace(&vrid(51), &vrid(after));
        fs::write(a.config(), config).unwrap();
        let begun = Instant::now();
        pair.vipd(&pair.a, &["reload"]);
        let said = || pair.lab.observer().adverts("a", begun);
        let master = || said().iter().any(|(_, advert)| advert.vrid == after).then_some(());
        assert!(wait_for(TIMEOUT, master).is_some(), "{}", a.log());
        let last = said().into_iter().rfind(|(_, advert)| advert.vrid == before).unwrap();
        assert_eq!(last.1.priority, 0, "{}", a.log());
    }
    Ok(())
}

/// The daemon as the entry point of a container.
pub fn as_process_1_it_reaps_everything_and_waits_for_its_own() -> TestResult {
    programs(&["unshare", "nsenter"])?;
    let pair = Pair::new();
    let (start, leave) = (pair.a.dir().join("container"), pair.a.dir().join("leave"));
    let unshare = "unshare --pid --fork --kill-child --mount-proc";
    services::write_program(&start, &format!("#!/bin/sh\nexec {unshare} '{VIPD}' \"$@\"\n"));
    // Leaves a process behind that ends when it has no parent any more.
    services::write_program(&leave, "#!/bin/sh\n(sleep 0.05 &)\n");
    let mut spec = pair.spec(150);
    spec.more += &format!(
        "checks = [\"leave\"]\n[[check]]\nname = \"leave\"\ncommand = \"{}\"\ninterval = \"100ms\"\n",
        leave.display()
    );
    let mut container = pair.start_a(&Program::Vipd(start), &[spec]);
    pair.expect_master(&pair.a);
    let daemon = children(container.pid())[0];
    let zombies = |daemon: u32| {
        let all =
            children(daemon).into_iter().flat_map(|child| [vec![child], children(child)].concat());
        let state = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        all.filter(|pid| state(*pid).rsplit(')').next().unwrap_or_default().starts_with(" Z"))
            .count()
    };
    // As by "podman exec", which gives orphans to process 1 as well.
    let enter = || {
        let mut exec = Command::new("nsenter");
        exec.args(["--pid", "--target", &daemon.to_string(), "sh"]).arg(&leave);
        assert!(exec.status().unwrap().success());
    };
    for _ in 0..10 {
        enter();
    }
    until("many checks have run", || pair.check("leave")["streak"].as_u64() > Some(20));
    // Those of this moment alone: they end all the time.
    until("what ended is reaped", || zombies(daemon) <= 2);
    // The status of a child that it waits for is not taken away by reaping.
    enter();
    kill(Pid::from_raw(daemon.cast_signed()), Signal::SIGUSR2).unwrap();
    let status = container.wait(TIMEOUT).unwrap().expect("it ends for a restart");
    assert!(status.success(), "{status}: {}", container.log());
    let log = container.log();
    assert!(!log.contains("nothing could start after this process"), "{log}");
    Ok(())
}

/// A module of the name service switch is loaded into the process that looks up a user.
pub fn users_are_looked_up_outside_of_the_daemon() -> TestResult {
    let pair = Pair::new();
    let switch = pair.a.dir().join("nsswitch.conf");
    fs::write(&switch, "passwd: compat\ngroup: compat\nhosts: files dns\n").unwrap();
    let mut mount = Command::new("mount");
    mount.arg("--bind").arg(&switch).arg("/etc/nsswitch.conf");
    if !mount.status().is_ok_and(|status| status.success()) {
        return Err("/etc/nsswitch.conf cannot be replaced".into());
    }
    let more = "[virtual_router.hooks]\nuser = \"root\"\nmaster = \"true\"\n";
    let (a, _b) = pair.start(more);
    pair.expect_master(&pair.a);
    let config = fs::read_to_string(a.config()).unwrap();
    let changed = config.replace("priority = 150", "priority = 151").replace("true", "false");
    fs::write(a.config(), changed).unwrap();
    a.signal(Signal::SIGHUP).unwrap();
    until("the file is read again", || pair.router(&pair.a)["priority"] == 151);
    let loads = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().contains("libnss_compat")
    };
    let (daemon, helper) = (loads(a.pid()), loads(helper_of(&a).as_raw().cast_unsigned()));
    Command::new("umount").arg("/etc/nsswitch.conf").status().unwrap();
    if !helper {
        return Err("this C library has no module for compat".into());
    }
    assert!(!daemon, "the daemon has looked up a user");
    // What cannot be run is refused as before.
    fs::write(a.config(), config.replace("\"true\"", "\"/no/such\"")).unwrap();
    a.signal(Signal::SIGHUP).unwrap();
    until("the file is refused", || a.log().contains("there is no program `/no/such`"));
    fs::write(a.config(), config.replace("user = \"root\"", "user = \"no-such-user\"")).unwrap();
    a.signal(Signal::SIGHUP).unwrap();
    until("the file is refused", || a.log().contains("there is no user `no-such-user`"));
    assert_eq!(pair.router(&pair.a)["priority"], 151);
    Ok(())
}
