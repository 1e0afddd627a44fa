//! What 200 checks at the default interval cost, and whether they delay an advert; keepalived with the
//! same command checks beside it.
//!
//! `cargo bench --bench checks [-- [each] [SECONDS]]`: four runs of 30 s or of so many; `each`: one for
//! each kind of check. The processor time is that of the programs' own threads: what runs for a command
//! is not counted, in either. Adverts go every 10 ms, and are counted where they reach the switch.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "../tests/lab/mod.rs"]
mod lab;
#[path = "../tests/checks/services.rs"]
mod services;

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lab::{Daemon, Host, Lab, Program, RouterSpec, wait_for};
use services::{Authority, Server, Service, Systemd};

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
const SHARED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));
const INTERVAL: Duration = Duration::from_millis(10);
const CHECKS: usize = 200;
const TIMEOUT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "lab-child") {
        return lab::child_main(arguments);
    }
    if let Err(error) = lab::enter() {
        eprintln!("checks: {error}");
        return ExitCode::FAILURE;
    }
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let span = Duration::from_secs(seconds.unwrap_or(30));
    println!(
        "{:44} {:>14} {:>10} {:>9} {:>12}",
        "", "of a core", "adverts", "expected", "longest gap"
    );
    if std::env::args().any(|argument| argument == "each") {
        let mut only = 0;
        while mixed(span, Some(only)) {
            only += 1;
        }
        return ExitCode::SUCCESS;
    }
    mixed(span, None);
    commands(span, "vipd, 200 command checks", vipd_commands);
    match lab::keepalived() {
        Some(_) => commands(span, "keepalived, 200 command checks", keepalived_commands),
        None => println!("SKIPPED: keepalived is not installed"),
    }
    commands(span, "vipd, no check", |host| {
        Daemon::start(host, &Program::Vipd(VIPD.into()), &[spec("")]).unwrap()
    });
    ExitCode::SUCCESS
}

fn spec(more: &str) -> RouterSpec {
    let mut spec = RouterSpec { interval: INTERVAL, ..RouterSpec::new(SHARED, 150) };
    spec.more += more;
    spec
}

/// Measures all kinds of checks or one of them, all of which pass; `false`: there is no such kind.
fn mixed(span: Duration, only: Option<usize>) -> bool {
    let lab = Lab::new().unwrap();
    let host = lab.host("a", 1).unwrap();
    let dir = host.dir();
    let program = dir.join("the-service");
    services::copy_program("/bin/sleep".as_ref(), &program);
    let _service = Service::new(&host, &program);
    let _web = Server::new(&host, 8080);
    let authority = Authority::new(&dir.join("authority"), "The authority");
    let tls = authority.as_ref().map(|authority| Server::new_tls(&host, 8443, authority));
    let tls = tls.map_err(String::clone);
    let systemd = Systemd::start();
    fs::write(dir.join("number"), "0").unwrap();
    let (number, absent) = (dir.join("number").display().to_string(), dir.join("absent"));
    let mut kinds = vec![
        ("command", "command = \"true\"".to_owned()),
        ("tcp", "tcp = \"127.0.0.1:8080\"".to_owned()),
        ("http", "http = \"http://127.0.0.1:8080/fine\"\nbody = \"well\"".to_owned()),
        ("process", "process = \"the-service\"".to_owned()),
        ("file", format!("file = \"{number}\"")),
        ("file_present", format!("file_present = \"{number}\"")),
        ("file_absent", format!("file_absent = \"{}\"", absent.display())),
        ("interface", "interface = \"lo\"".to_owned()),
        ("ping", "ping = \"127.0.0.1\"".to_owned()),
    ];
    match (&tls, &authority) {
        (Ok(_), Ok(authority)) => {
            let ca_file = authority.certificate.display();
            let https = format!("http = \"https://127.0.0.1:8443/fine\"\nca_file = \"{ca_file}\"");
            kinds.push(("https", https));
        }
        (Err(why), _) | (_, Err(why)) => println!("SKIPPED: https: {why}"),
    }
    let mut command = Command::new(VIPD);
    match &systemd {
        Ok(systemd) => {
            kinds.push(("unit", "unit = \"basic.target\"".to_owned()));
            let bus = systemd.sockets().pop().unwrap();
            command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", bus.display()));
        }
        Err(why) => println!("SKIPPED: unit: {why}"),
    }
    if let Some(only) = only {
        if only >= kinds.len() {
            return false;
        }
        kinds = vec![kinds.swap_remove(only)];
    }
    let names: Vec<String> =
        (0..CHECKS).map(|n| format!("\"{}-{n}\"", kinds[n % kinds.len()].0)).collect();
    let mut text = format!("checks = [{}]\n", names.join(", "));
    for (n, name) in names.iter().enumerate() {
        let (_, lines) = &kinds[n % kinds.len()];
        let _ = write!(text, "[[check]]\nname = {name}\n{lines}\n");
    }
    let config = dir.join("vipd.toml");
    fs::write(&config, format!("[node]\nname = \"a\"\n\n{}", spec(&text).toml())).unwrap();
    fs::create_dir_all(dir.join("state")).unwrap();
    command.args(["run", "--config"]).arg(&config);
    command.arg("--runtime-dir").arg(host.runtime_dir().unwrap());
    command.arg("--state-dir").arg(dir.join("state"));
    let daemon = Daemon::spawn(&host, &command, config, dir.join("vipd.log")).unwrap();
    let what = match kinds.as_slice() {
        [(kind, _)] => format!("vipd, {CHECKS} checks of the kind {kind}"),
        kinds => format!("vipd, {CHECKS} checks of {} kinds", kinds.len()),
    };
    measure(&lab, &host, &daemon, &what, span);
    let mut command = Command::new(VIPD);
    command.args(["status", "--json", "--runtime-dir"]).arg(host.runtime_dir().unwrap());
    let output = host.namespace().run(move || command.output()).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = status["routers"][0]["checks"].as_array().unwrap();
    let failing = checks.iter().filter(|check| check["verdict"] != "passing");
    for check in failing {
        println!("not passing: {check}");
    }
    true
}

fn commands(span: Duration, what: &str, start: impl Fn(&Host) -> Daemon) {
    let lab = Lab::new().unwrap();
    let host = lab.host("a", 1).unwrap();
    let daemon = start(&host);
    measure(&lab, &host, &daemon, what, span);
}

fn vipd_commands(host: &Host) -> Daemon {
    let names: Vec<String> = (0..CHECKS).map(|n| format!("\"c{n}\"")).collect();
    let mut text = format!("checks = [{}]\n", names.join(", "));
    for name in &names {
        let _ = write!(text, "[[check]]\nname = {name}\ncommand = \"true\"\n");
    }
    Daemon::start(host, &Program::Vipd(VIPD.into()), &[spec(&text)]).unwrap()
}

fn keepalived_commands(host: &Host) -> Daemon {
    let mut text = String::from(
        "global_defs {\n router_id a\n vrrp_version 3\n script_user root\n enable_script_security\n}\n",
    );
    let mut tracked = String::from("  track_script {\n");
    for n in 0..CHECKS {
        let _ = write!(
            text,
            "vrrp_script c{n} {{\n script \"/bin/true\"\n interval 2\n timeout 3\n fall 3\n rise 2\n}}\n"
        );
        let _ = writeln!(tracked, "    c{n}");
    }
    let mut spec = spec("");
    spec.keepalived_more = tracked + "  }\n";
    text += &spec.keepalived_conf();
    let (config, runtime) = (host.dir().join("keepalived.conf"), host.runtime_dir().unwrap());
    fs::write(&config, text).unwrap();
    let mut command = Command::new(lab::keepalived().unwrap());
    command.args(["--dont-fork", "--vrrp", "--log-console", "--no-syslog"]);
    command.arg("--use-file").arg(&config);
    command.arg("--pid").arg(runtime.join("keepalived.pid"));
    command.arg("--vrrp_pid").arg(runtime.join("vrrp.pid"));
    Daemon::spawn(host, &command, config, host.dir().join("keepalived.log")).unwrap()
}

fn measure(lab: &Lab, host: &Host, daemon: &Daemon, what: &str, span: Duration) {
    let master = || (lab.owners(SHARED) == [host.name()]).then_some(());
    assert!(wait_for(TIMEOUT, master).is_some(), "not master: {}", daemon.log());
    // The first runs are closer together than the later ones.
    std::thread::sleep(Duration::from_secs(5));
    let own = own_processes(daemon.pid());
    let (begun, before) = (Instant::now(), processor_time(&own));
    std::thread::sleep(span);
    let (ended, after) = (Instant::now(), processor_time(&own));
    let span = ended - begun;
    std::thread::sleep(Duration::from_millis(100));
    let adverts = lab.observer().adverts(host.name(), begun);
    let adverts = adverts.iter().filter(|(at, _)| *at < ended).count();
    let expected = span.as_millis() / INTERVAL.as_millis();
    let gap = lab.longest_gap(host.name(), begun, ended);
    let share = |time: Duration| 100.0 * time.as_secs_f64() / span.as_secs_f64();
    let times = before.iter().zip(&after).map(|(before, after)| *after - *before);
    let each: Vec<String> = (own.iter().zip(times.clone()))
        .map(|(pid, time)| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            format!("{} {:.2} %", name.trim(), share(time))
        })
        .collect();
    println!(
        "{what:44} {:12.2} % {adverts:10} {expected:9} {gap:>12.1?}   ({})",
        share(times.sum()),
        each.join(", ")
    );
}

/// The program's processes, and not what they run: they have its file open as their program.
fn own_processes(first: u32) -> Vec<u32> {
    let program = fs::read_link(format!("/proc/{first}/exe")).unwrap();
    let mut own = vec![first];
    let mut at = 0;
    while at < own.len() {
        let pid = own[at];
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        own.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()).filter(
            |pid| {
                let same =
                    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                same && (name.starts_with("vipd-helper") || name.starts_with("keepalived"))
            },
        ));
        at += 1;
    }
    own
}

/// Of each with all its threads, those that have ended included; not of their children
/// (proc_pid_stat(5)).
fn processor_time(processes: &[u32]) -> Vec<Duration> {
    processes
        .iter()
        .map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let (_, fields) = stat.rsplit_once(')').unwrap();
            let times = fields.split_whitespace().skip(11).take(2);
            Duration::from_millis(10 * times.map(|n| n.parse::<u64>().unwrap()).sum::<u64>())
        })
        .collect()
}
