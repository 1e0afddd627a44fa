//! Status and commands of the running daemon: the real binary on both hosts of a lab.
//!
//! Needs root or user namespaces. `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped into failures.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

mod lab;
mod suite;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Daemon, Host, Lab, Malformation, Program, RouterSpec, Stranger, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use suite::{TestResult, tests};
use vipd::host::neighbours::NeighbourSocket;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
const STATUS: &[u8] = b"{\"version\":1,\"command\":\"status\"}\n";
const VIPD_GROUP: u32 = 54_321;
/// A time limit for machines that are busy.
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    suite::main(3, |entered| {
        if entered.is_ok() {
            make_group();
        }
        tests![
            status_agrees_with_the_kernel_and_the_wire,
            status_serves_people_and_scripts,
            a_failover_names_the_successor_and_lasts_until_resume,
            a_failover_without_a_peer_leaves_the_address_here,
            an_exclusive_failover_names_the_successor_too,
            a_drain_survives_restart_and_reboot_and_is_no_fault,
            a_drain_that_cannot_be_stored_lasts_until_the_next_reboot,
            the_master_announces_again_when_asked,
            a_reload_says_what_changed_or_every_problem,
            a_router_that_a_reload_adds_on_a_missing_interface_is_in_fault,
            an_address_with_a_new_prefix_length_is_not_lost,
            only_root_changes_anything,
            a_malformed_request_gets_an_error,
            events_tell_what_happened_before_and_since_the_restart,
            what_happens_is_counted_and_in_the_history,
            idle_clients_are_disconnected,
            clients_that_never_read_delay_no_advert,
            cleanup_removes_what_is_ours_and_nothing_while_a_daemon_runs,
            the_service_manager_is_notified,
        ]
    })
}

/// The group `vipd`, for this process and its children: the lab has a mount table of its own.
fn make_group() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let others = fs::read_to_string("/etc/group").unwrap();
    let others = others.lines().filter(|line| !line.starts_with("vipd:"));
    let all = others.map(|line| format!("{line}\n")).collect::<String>();
    writeln!(file, "{all}vipd:x:{VIPD_GROUP}:").unwrap();
    let none: Option<&str> = None;
    nix::mount::mount(Some(file.path()), "/etc/group", none, nix::mount::MsFlags::MS_BIND, none)
        .unwrap();
}

// ---- what is shown -----------------------------------------------------------------------------

fn status_agrees_with_the_kernel_and_the_wire() {
    let pair = Pair::new(|_| {});
    let (daemon, _peer) = pair.start_both();
    // Every thread, and not the helper, whose hooks may do what their users may.
    let restricted = |pid: u32| -> Vec<bool> {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let status = threads.map(|thread| thread.unwrap().path().join("status"));
        status.map(|file| std::fs::read_to_string(file).unwrap().contains("Seccomp:\t2")).collect()
    };
    let threads = restricted(daemon.pid());
    assert!(threads.len() > 1 && threads.iter().all(|restricted| *restricted), "{threads:?}");
    for (host, role) in [(&pair.a, "master"), (&pair.b, "backup")] {
        let status = pair.status(host);
        assert_eq!(status["version"], 1);
        assert_eq!(status["node"], host.name());
        assert_eq!(status["drained"], false);
        let router = &status["routers"][0];
        assert_eq!(router["role"], role, "{status:#}");
        assert_eq!(router["last_change"]["to"], role);
        assert!(!router["last_change"]["why"].as_str().unwrap().is_empty());
        humantime::parse_rfc3339(router["last_change"]["at"].as_str().unwrap()).unwrap();
        assert_eq!(router["fault_reasons"], serde_json::json!([]));
        let address = &router["addresses"][0];
        assert_eq!(address["address"], pair.ip.to_string());
        assert_eq!(address["present"], host.holds(pair.ip).unwrap());
        assert_eq!(router["source"], host.ipv4().to_string());
        assert_eq!(router["vrid"], 51);
    }
    // The lease is what the kernel reports, which counts whole seconds.
    let lease = pair.router(&pair.a)["addresses"][0]["lease_seconds"].as_f64().unwrap();
    let kernel = pair.kernel_lifetime(&pair.a);
    assert!((lease - kernel).abs() <= 1.6, "status says {lease}, the kernel {kernel}");
    assert!(pair.router(&pair.b)["addresses"][0]["lease_seconds"].is_null());
    // The peer that was heard is the one that sent.
    let heard = pair.router(&pair.b)["heard"].clone();
    let (_, advert) = pair.lab.observer().adverts("a", pair.began).pop().unwrap();
    assert_eq!(heard["address"], advert.source.to_string());
    assert_eq!(heard["priority"], advert.priority);
    assert_eq!(heard["interval_seconds"].as_f64().unwrap(), advert.interval.as_secs_f64());
    assert_eq!(heard["checksum"], "pseudo-header");
    assert!(heard["seconds_ago"].as_f64().unwrap() < 2.0);
    // The counter agrees with the observer.
    let seen = || pair.lab.observer().adverts("a", pair.began).len() as u64;
    let before = seen();
    let sent = pair.status(&pair.a)["counters"]["adverts_sent"].as_u64().unwrap();
    thread::sleep(pair.spec_a.interval);
    let after = seen();
    assert!((before..=after).contains(&sent), "{before} <= {sent} <= {after}");
    // Counters of a virtual router are in its own object.
    let status = pair.status(&pair.a);
    let (node, router) = (&status["counters"], &status["routers"][0]["counters"]);
    assert_eq!(node, router);
    assert_eq!(router["transitions"].as_array().unwrap().len(), 2, "{router:#}");
    assert_eq!(router["transitions"][1]["cause"], "heard_nobody");
    let seconds = status["routers"][0]["role_seconds"]["master"].as_f64().unwrap();
    assert!(seconds > 0.0 && seconds < pair.began.elapsed().as_secs_f64(), "{seconds}");
    // All adverts but the first were scheduled.
    let counts = router["advert_lateness"]["counts"].as_array().unwrap();
    let scheduled: u64 = counts.iter().map(|count| count.as_u64().unwrap()).sum();
    let sent = router["adverts_sent"].as_u64().unwrap();
    assert!(scheduled > 0 && scheduled < sent && scheduled + 3 >= sent, "{router:#}");
}

fn status_serves_people_and_scripts() {
    let pair = Pair::new(|_| {});
    let refused = pair.vipd(&pair.a, &["status"]);
    assert_eq!(refused.status.code(), Some(1));
    let why = stderr(&refused);
    assert!(
        why.starts_with("vipd: vipd is not running (no daemon in ")
            && why.contains("start it with"),
        "{why}"
    );

    let daemons = pair.start_both();
    let table = pair.says(&pair.a, &["status"]);
    assert!(table.contains("web     master    150        "), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    assert!(!table.contains('\x1b'), "{table}");
    let one = pair.says(&pair.b, &["status", "web"]);
    assert!(one.contains("heard       192.0.2.1, priority 150"), "{one}");

    let is = |host, arguments: &[&str]| pair.vipd(host, arguments).status.code();
    assert_eq!(is(&pair.a, &["status", "--is", "master"]), Some(0));
    assert_eq!(is(&pair.a, &["status", "web", "--is", "backup"]), Some(1));
    assert_eq!(is(&pair.b, &["status", "web", "--is", "backup"]), Some(0));
    assert_eq!(is(&pair.b, &["status", "web", "--is", "mastre"]), Some(2));
    // While it is frozen the peer takes over, and the client is soon told that there is no answer.
    daemons.0.signal_all(Signal::SIGSTOP).unwrap();
    let taken = || (pair.router(&pair.b)["role"] == "master").then_some(());
    wait_for(TIMEOUT, taken).unwrap();
    let silent = pair.vipd(&pair.a, &["status"]);
    assert_eq!(silent.status.code(), Some(1));
    assert!(stderr(&silent).contains("seems to be stopped"), "{}", stderr(&silent));
    daemons.0.signal_all(Signal::SIGCONT).unwrap();
    let unknown = pair.vipd(&pair.a, &["status", "wbe"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("there is: web"), "{}", stderr(&unknown));
}

fn a_failover_names_the_successor_and_lasts_until_resume() {
    let pair = Pair::new(|_| {});
    let (mut daemon, _other) = pair.start_both();
    let began = Instant::now();
    let text = pair.says(&pair.a, &["failover", "web"]);
    assert!(text.starts_with("web: 192.0.2.2 took over after "), "{text}");
    assert!(text.contains("\"vipd resume web\""), "{text}");
    pair.expect_master(&pair.b);
    let ownership = pair.lab.ownership(pair.ip, began, Instant::now());
    assert_eq!(ownership.longest_none, Duration::ZERO, "{ownership:?}");
    assert_eq!(pair.router(&pair.a)["held_back"], true);

    // It stays away, although it preempts, and also after a crash.
    thread::sleep(2 * pair.spec_a.master_down_interval());
    daemon.crash();
    let _daemon = pair.start(&pair.a);
    wait_for(TIMEOUT, || (pair.router(&pair.a)["role"] == "backup").then_some(())).unwrap();
    assert_eq!(pair.router(&pair.a)["held_back"], true);
    thread::sleep(2 * pair.spec_a.master_down_interval());
    assert_eq!(pair.lab.owners(pair.ip), ["b"]);

    // A host that is not master cannot fail over.
    let refused = pair.vipd(&pair.a, &["failover", "web"]);
    assert_eq!(refused.status.code(), Some(1));
    let why = stderr(&refused);
    assert!(why.contains("192.0.2.2 was heard as master"), "{why}");
    assert!(why.contains("run \"vipd failover web\" there"), "{why}");

    let text = pair.says(&pair.a, &["resume", "web"]);
    assert!(text.contains("takes over from 192.0.2.2"), "{text}");
    pair.expect_master(&pair.a);
    assert_eq!(pair.router(&pair.a)["held_back"], false);
    let text = pair.says(&pair.a, &["resume", "web"]);
    assert!(text.contains("was not held back"), "{text}");
}

fn a_failover_without_a_peer_leaves_the_address_here() {
    let pair = Pair::new(|_| {});
    let _daemon = pair.start(&pair.a);
    pair.expect_master(&pair.a);
    let began = Instant::now();
    let outcome = pair.vipd(&pair.a, &["failover", "web"]);
    assert_eq!(outcome.status.code(), Some(1));
    let why = stderr(&outcome);
    assert!(why.contains("nobody took over within ") && why.contains("never left"), "{why}");
    let ownership = pair.lab.ownership(pair.ip, began, Instant::now());
    assert_eq!((ownership.changes, ownership.owners), (0, vec!["a".to_owned()]));
    let router = pair.router(&pair.a);
    assert_eq!((&router["role"], &router["held_back"]), (&"master".into(), &false.into()));

    let drained = pair.vipd(&pair.a, &["drain"]);
    assert_eq!(drained.status.code(), Some(1));
    assert!(stderr(&drained).contains("serves until another one is fit"));
    assert!(pair.says(&pair.a, &["status"]).contains("DRAINED"));
    assert_eq!(pair.lab.owners(pair.ip), ["a"]);
}

fn an_exclusive_failover_names_the_successor_too() {
    let pair = Pair::new(|spec| spec.more += "handover = \"exclusive\"\n");
    let (_daemon, mut other) = pair.start_both();
    let text = pair.says(&pair.a, &["failover", "web"]);
    assert!(text.starts_with("web: 192.0.2.2 took over after "), "{text}");
    pair.expect_master(&pair.b);
    pair.says(&pair.a, &["resume", "web"]);
    pair.expect_master(&pair.a);
    // Without a successor it is master again after a while, and the answer says so.
    other.crash();
    let outcome = pair.vipd(&pair.a, &["failover", "web"]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(stderr(&outcome).contains("so this host took it back after"), "{}", stderr(&outcome));
    // A host drained by force does not return, and the client does not wait for that.
    let outcome = pair.vipd(&pair.a, &["drain", "--force"]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(pair.says(&pair.a, &["status"]).contains("DRAINED: by force"));
    assert!(stderr(&outcome).contains("no host has it now"), "{}", stderr(&outcome));
    pair.says(&pair.a, &["undrain"]);
    pair.expect_master(&pair.a);
}

fn a_drain_survives_restart_and_reboot_and_is_no_fault() {
    let pair = Pair::new(|_| {});
    let (mut daemon, _other) = pair.start_both();
    let text = pair.says(&pair.a, &["drain"]);
    assert!(text.contains("until \"vipd undrain\""), "{text}");
    assert!(text.contains("web: 192.0.2.2 took over after "), "{text}");
    let expect_drained = || {
        wait_for(TIMEOUT, || (pair.router(&pair.a)["role"] == "backup").then_some(()))
            .unwrap_or_else(|| panic!("{:#}", pair.status(&pair.a)));
        thread::sleep(2 * pair.spec_a.master_down_interval());
        let status = pair.status(&pair.a);
        assert_eq!(status["drained"], true);
        assert_eq!(status["routers"][0]["role"], "backup");
        assert_eq!(status["routers"][0]["fault_reasons"], serde_json::json!([]));
        assert_eq!(status["routers"][0]["effective_priority"], 1);
        assert_eq!(pair.lab.owners(pair.ip), ["b"]);
    };
    expect_drained();
    daemon.stop(TIMEOUT).unwrap();
    let mut daemon = pair.start(&pair.a);
    expect_drained();
    pair.a.cut().unwrap();
    daemon.crash();
    pair.a.boot().unwrap();
    let _daemon = pair.start(&pair.a);
    expect_drained();
    let text = pair.says(&pair.a, &["undrain"]);
    assert!(text.contains("takes part again"), "{text}");
    pair.expect_master(&pair.a);
    assert!(!pair.a.dir().join("state/drained").exists());
}

fn a_drain_that_cannot_be_stored_lasts_until_the_next_reboot() {
    let pair = Pair::new(|_| {});
    let (mut daemon, _other) = pair.start_both();
    let state = pair.a.dir().join("state");
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "in the way").unwrap();
    let text = pair.says(&pair.a, &["drain"]);
    assert!(text.contains("or the next reboot (it cannot be stored on disk)"), "{text}");
    assert!(text.contains("web: 192.0.2.2 took over after "), "{text}");
    let expect_drained = || {
        let status = pair.status(&pair.a);
        assert_eq!(status["drained"], true);
        assert_eq!(status["drained_until_reboot"], true);
        assert!(pair.says(&pair.a, &["status"]).contains("and so does a reboot"));
        assert_eq!(pair.lab.owners(pair.ip), ["b"]);
    };
    expect_drained();
    daemon.stop(TIMEOUT).unwrap();
    // Nothing is in the way any more, but there is nothing in it either.
    fs::remove_file(&state).unwrap();
    let _daemon = pair.start(&pair.a);
    expect_drained();
    pair.says(&pair.a, &["undrain"]);
    pair.expect_master(&pair.a);
    assert_eq!(pair.status(&pair.a)["drained"], false);
}

fn the_master_announces_again_when_asked() {
    let pair = Pair::new(|_| {});
    let _daemons = pair.start_both();
    // Announcements are repeated after a claim anyway: the last after 5 s, the next 30 s later.
    thread::sleep(Duration::from_secs(6));
    let before = Instant::now();
    let text = pair.says(&pair.a, &["announce", "web"]);
    assert_eq!(text, "web: announced 192.0.2.100 on eth0\n");
    let seen = || pair.lab.observer().announcements("a", pair.ip, before).pop();
    assert!(wait_for(TIMEOUT, seen).is_some());
    let refused = pair.vipd(&pair.b, &["announce", "web"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("web is backup here"), "{}", stderr(&refused));
}

fn a_reload_says_what_changed_or_every_problem() {
    let pair = Pair::new(|_| {});
    let (daemon, _other) = pair.start_both();
    let began = Instant::now();
    let text = fs::read_to_string(daemon.config()).unwrap();
    assert!(pair.says(&pair.a, &["reload"]).contains("nothing in it has changed"));

    fs::write(daemon.config(), text.replace("priority = 150", "priority = 140")).unwrap();
    let said = pair.says(&pair.a, &["reload"]);
    assert_eq!(said, "the configuration was applied:\n  web: priority 150 -> 140\n");
    assert_eq!(pair.router(&pair.a)["priority"], 140);

    let wrong = text.replace("priority = 150", "priority = 0").replace("vrid = 51", "vird = 51");
    fs::write(daemon.config(), wrong).unwrap();
    let refused = pair.vipd(&pair.a, &["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    let why = stderr(&refused);
    for problem in ["the running one stays as it is", "vird", "priority"] {
        assert!(why.contains(problem), "{why}");
    }
    assert_eq!(pair.router(&pair.a)["priority"], 140);
    let ownership = pair.lab.ownership(pair.ip, began, Instant::now());
    assert_eq!((ownership.changes, ownership.owners), (0, vec!["a".to_owned()]));
}

/// The kernel reports nothing of an interface that does not exist: the reload itself has to report
/// it.
fn a_router_that_a_reload_adds_on_a_missing_interface_is_in_fault() {
    let pair = Pair::new(|_| {});
    let daemon = pair.start(&pair.a);
    pair.expect_master(&pair.a);
    let text = fs::read_to_string(daemon.config()).unwrap();
    let added = "[[virtual_router]]\nname = \"added\"\ninterface = \"missing0\"\nvrid = 52\n\
                 addresses = [\"192.0.2.200\"]\n";
    fs::write(daemon.config(), format!("{text}\n{added}")).unwrap();
    pair.says(&pair.a, &["reload"]);
    let added = || pair.status(&pair.a)["routers"][1].clone();
    let in_fault = wait_for(TIMEOUT, || (added()["role"] == "fault").then_some(()));
    assert!(in_fault.is_some(), "{:#}", added());
    assert_eq!(added()["fault_reasons"][0]["reason"], "interface_missing", "{:#}", added());
}

/// The kernel reports that the address with the old route is gone, which it is.
fn an_address_with_a_new_prefix_length_is_not_lost() {
    let pair = Pair::new(|spec| spec.more += "claim_prefix = true\n");
    let daemon = pair.start(&pair.a);
    pair.expect_master(&pair.a);
    let text = fs::read_to_string(daemon.config()).unwrap();
    let address = format!("\"{}\"", pair.ip);
    assert!(text.contains(&address), "{text}");
    for prefix in [24, 32] {
        let changed = text.replace(&address, &format!("\"{}/{prefix}\"", pair.ip));
        fs::write(daemon.config(), changed).unwrap();
        pair.says(&pair.a, &["reload"]);
        let has_route = || {
            let mut routes = std::process::Command::new("ip");
            routes.args(["route", "show", "proto", "112"]);
            let output = pair.a.namespace().run(move || routes.output()).unwrap();
            !output.stdout.is_empty() && pair.a.holds(pair.ip).unwrap()
        };
        let changed = wait_for(TIMEOUT, || (has_route() == (prefix == 24)).then_some(()));
        assert!(changed.is_some(), "/{prefix}\n{}", daemon.log());
    }
    thread::sleep(pair.spec_a.interval);
    let router = pair.router(&pair.a);
    assert_eq!(router["role"], "master", "{router:#}");
    assert_eq!(router["counters"]["addresses_removed"], 0, "{}", daemon.log());
}

fn only_root_changes_anything() -> TestResult {
    if !nix::unistd::getuid().is_root() {
        return Err("only root can become another user".to_owned());
    }
    let pair = Pair::new(|_| {});
    fs::set_permissions(pair.lab.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    // As under the unit: without the right to change owners of files.
    let wrapper = pair.lab.dir().join("wrapper");
    fs::write(&wrapper, format!("#!/bin/sh\nexec setpriv --bounding-set=-chown {VIPD} \"$@\"\n"))
        .unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let daemon =
        Daemon::start(&pair.a, &Program::Vipd(wrapper), std::slice::from_ref(&pair.spec_a))
            .unwrap();
    wait_for(TIMEOUT, || pair.vipd(&pair.a, &["status"]).status.success().then_some(()))
        .unwrap_or_else(|| panic!("{}", daemon.log()));
    pair.expect_master(&pair.a);
    let program = pair.lab.dir().join("vipd");
    fs::copy(VIPD, &program).unwrap();
    let nobody = |group: u32, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.arg("--reuid=65534").arg(format!("--regid={group}")).arg("--clear-groups");
        command.arg(&program).args(arguments);
        command.arg("--runtime-dir").arg(pair.a.runtime_dir().unwrap()).output().unwrap()
    };
    let socket = fs::metadata(pair.socket(&pair.a)).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.uid(), socket.gid()), (0o660, 0, VIPD_GROUP));
    let refused = nobody(65534, &["status"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("no permission to connect"), "{}", stderr(&refused));
    let seen = nobody(VIPD_GROUP, &["status", "--json"]);
    assert!(seen.status.success(), "{}", stderr(&seen));
    for arguments in [
        &["failover", "web"][..],
        &["resume", "web"],
        &["announce", "web"],
        &["drain"],
        &["undrain"],
        &["reload"],
    ] {
        let refused = nobody(VIPD_GROUP, arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        let why = stderr(&refused);
        assert!(why.contains("only root and the user of the daemon"), "{arguments:?}: {why}");
    }
    let status = pair.status(&pair.a);
    assert_eq!(status["drained"], false);
    assert_eq!(status["routers"][0]["role"], "master");
    Ok(())
}

fn events_tell_what_happened_before_and_since_the_restart() {
    let pair = Pair::new(|_| {});
    let state = pair.a.dir().join("state");
    let events = |arguments: &[&str]| {
        let all = [&["events", "--state-dir", state.to_str().unwrap()], arguments].concat();
        in_namespace(&pair.a, &all)
    };
    let refused = events(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("there is no history in "), "{}", stderr(&refused));

    let (mut daemon, _other) = pair.start_both();
    let mut follow = Command::new(VIPD);
    follow.args(["events", "--follow", "--json", "--state-dir", state.to_str().unwrap()]);
    let log = pair.lab.dir().join("followed");
    let follower = Daemon::spawn(&pair.a, &follow, PathBuf::new(), log).unwrap();
    pair.says(&pair.a, &["failover", "web"]);
    pair.says(&pair.a, &["resume", "web"]);
    pair.expect_master(&pair.a);
    daemon.stop(TIMEOUT).unwrap();
    let _daemon = pair.start(&pair.a);
    pair.expect_master(&pair.a);
    let told = || {
        let said = stdout(&events(&[]));
        (said.matches("web: backup -> master: ").count() == 3).then_some(said)
    };
    let said = wait_for(TIMEOUT, told).unwrap_or_else(|| panic!("{}", stdout(&events(&[]))));
    let running = concat!("daemon: vipd ", env!("CARGO_PKG_VERSION"), " is running");
    let order = [
        running,
        "web: waiting -> backup: the daemon started",
        "web: backup -> master: no master was heard",
        "command: failover web",
        "web: master -> leaving: failover was asked for",
        "web: leaving -> backup: failover was asked for; 192.0.2.2 took over",
        "command: resume web",
        "web: backup -> master: preempted master 192.0.2.2 (priority 100)",
        "web: leaving -> stopped: the daemon was stopped; 192.0.2.2 took over",
        "daemon: vipd has ended",
        running,
        "web: backup -> master: ",
    ];
    let mut rest = said.as_str();
    for line in order {
        let at = rest.find(line).unwrap_or_else(|| panic!("{line} is missing in\n{said}"));
        rest = &rest[at + line.len()..];
    }
    // `events --follow` shows the same as it happens.
    let expected = stdout(&events(&["--json"]));
    let followed = || follower.log().starts_with(&expected).then_some(());
    assert!(wait_for(TIMEOUT, followed).is_some(), "{}\n{expected}", follower.log());
    // Without a disk there is no history, and everything else goes on.
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "in the way").unwrap();
    pair.says(&pair.a, &["failover", "web"]);
    pair.expect_master(&pair.b);
}

fn what_happens_is_counted_and_in_the_history() {
    let pair = Pair::new(|_| {});
    let hook = pair.a.dir().join("fails");
    fs::write(&hook, "#!/bin/sh\nexit 3\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let mut pair = pair;
    pair.spec_a.more += &format!("[virtual_router.hooks]\nmaster = \"{}\"\n", hook.display());
    let _daemons = pair.start_both();
    let count = |name: &str| pair.router(&pair.a)["counters"][name].as_u64().unwrap();
    let state = pair.a.dir().join("state");
    let told = |kind: &str, words: &str| {
        let arguments = ["events", "--json", "--state-dir", state.to_str().unwrap()];
        let said = || stdout(&in_namespace(&pair.a, &arguments));
        let is_it =
            |line: &str| line.contains(&format!("\"kind\":\"{kind}\"")) && line.contains(words);
        let found = wait_for(TIMEOUT, || said().lines().any(is_it).then_some(()));
        assert!(found.is_some(), "{kind}: {words} is missing in\n{}", said());
    };
    told("hook", "master: exit status 3");
    assert!(count("announcements") > 0);
    let rises = |name: &str, from: u64| {
        assert!(wait_for(TIMEOUT, || (count(name) > from).then_some(())).is_some(), "{name}");
    };
    for name in ["contending_announcements", "contending_adverts", "addresses_removed"] {
        assert_eq!(count(name), 0, "{name}");
    }

    let other = pair.lab.host("other", 66).unwrap();
    let index = other.namespace().links().index("eth0").unwrap();
    let (ip, mac) = (pair.ip, [2, 0, 0, 0, 0, 66]);
    let announce = move || NeighbourSocket::open(index, Some(mac)).unwrap().announce([ip]);
    other.namespace().run(announce).unwrap();
    rises("contending_announcements", 0);
    told("warning", "02:00:00:00:00:42 announces 192.0.2.100, which is ours");

    let IpAddr::V4(address) = pair.ip else { panic!("{}", pair.ip) };
    let (often, fine) = (Duration::from_millis(100), [Malformation::None]);
    let stranger = Stranger::start(&other, 51, 1, often, address, &fine, often).unwrap();
    rises("contending_adverts", 0);
    drop(stranger);
    told("warning", "192.0.2.66 is also master, with the lower priority 1");

    pair.a.namespace().links().remove_address("eth0", pair.ip, 32).unwrap();
    rises("addresses_removed", 0);
    assert_eq!(count("addresses_removed"), 1);
    told("warning", "removed 192.0.2.100");

    for _ in 0..2 {
        pair.says(&pair.a, &["failover", "web"]);
        pair.says(&pair.a, &["resume", "web"]);
        pair.expect_master(&pair.a);
    }
    let transitions = pair.router(&pair.a)["transitions"].clone();
    let roles: Vec<_> = transitions
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["to"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["master", "backup", "leaving", "master", "backup"], "{transitions:#}");
}

fn a_malformed_request_gets_an_error() {
    let pair = Pair::new(|_| {});
    let _daemons = pair.start_both();
    let socket = pair.socket(&pair.a);
    let code = |request: &[u8]| {
        let answer: Value = serde_json::from_str(&send_request(&socket, request).unwrap()).unwrap();
        assert_eq!(answer["version"], 1);
        answer["error"]["code"].as_str().unwrap().to_owned()
    };
    let nested = [vec![b'['; 60_000], vec![b'\n']].concat();
    for garbage in [
        &b"status\n"[..],
        b"\n",
        b"\xff\xfe\x00\n",
        b"{}\n",
        b"{\"version\":1}\n",
        b"{\"version\":2,\"command\":\"status\"}\n",
        b"{\"version\":1,\"command\":\"explode\"}\n",
        b"{\"version\":1,\"command\":\"failover\"}\n",
        b"{\"version\":1,\"command\":\"failover\",\"router\":7}\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        &nested,
        &[b' '; 64 << 10],
        &[b'x'; 300 << 10],
    ] {
        assert_eq!(code(garbage), "bad_request", "{}", String::from_utf8_lossy(garbage));
    }
    let unknown = b"{\"version\":1,\"command\":\"failover\",\"router\":\"\\u0000\"}\n";
    assert_eq!(code(unknown), "unknown_router");
    // Half a line and then nothing: closed without an answer.
    let began = Instant::now();
    assert_eq!(send_request(&socket, b"{\"version\"").unwrap(), "");
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(pair.router(&pair.a)["role"], "master");
}

fn idle_clients_are_disconnected() {
    let pair = Pair::new(|_| {});
    let _daemon = pair.start(&pair.a);
    let socket = pair.socket(&pair.a);
    let silent: Vec<_> = (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let answer = send_request(&socket, STATUS).unwrap();
    assert!(answer.contains("\"code\":\"busy\""), "{answer}");
    // The command line retries until these clients have timed out.
    pair.says(&pair.a, &["status"]);
    drop(silent);
}

fn clients_that_never_read_delay_no_advert() {
    const INTERVAL: Duration = Duration::from_millis(10);
    let pair = Pair::new(|spec| spec.interval = INTERVAL);
    // Enough virtual routers for an answer that exceeds the socket buffer.
    let mut routers = vec![pair.spec_a.clone()];
    routers.extend((60..=255).map(|vrid| {
        let mut spec = RouterSpec::new(format!("198.18.0.{vrid}").parse().unwrap(), 100);
        (spec.name, spec.vrid) = (format!("other-{vrid}"), vrid);
        spec.interval = Duration::from_secs(1);
        spec
    }));
    let daemon = Daemon::start(&pair.a, &Program::Vipd(VIPD.into()), &routers).unwrap();
    wait_for(TIMEOUT, || pair.socket(&pair.a).exists().then_some(())).unwrap();
    let settled = || {
        let status = pair.status(&pair.a);
        let routers = status["routers"].as_array().unwrap();
        routers.iter().all(|router| router["role"] == "master").then_some(())
    };
    wait_for(TIMEOUT, settled).unwrap();
    let socket = &pair.socket(&pair.a);
    // Memory for that many clients is allocated when they connect for the first time.
    ask_from_many(socket, 1_000);
    let memory = resident(daemon.pid());
    let kept_waiting = kept_waiting(daemon.pid());
    let began = Instant::now();
    let asked = ask_from_many(socket, 10_000);
    let ended = Instant::now();
    let kept_waiting = self::kept_waiting(daemon.pid()) - kept_waiting;
    let grown = resident(daemon.pid()).saturating_sub(memory);

    let adverts = pair.lab.observer().adverts("a", began);
    let adverts: Vec<Instant> = adverts
        .iter()
        .filter(|(at, advert)| *at < ended && advert.vrid == 51)
        .map(|a| a.0)
        .collect();
    let expected = ((ended - began).as_millis() / INTERVAL.as_millis()) as usize;
    let missing = expected.saturating_sub(adverts.len());
    let gap = adverts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    println!(
        "{} answers of {} bytes, {} refused and {} unread in {:?}; {} adverts of {expected}, longest gap {gap:?}; the machine kept vipd waiting for {kept_waiting:?}; {grown} KiB more",
        asked.answered,
        asked.bytes,
        asked.refused,
        asked.unread,
        ended - began,
        adverts.len(),
    );
    assert!(asked.answered >= 1_000 && asked.unread >= 1_000, "{asked:?}");
    // An advert that is due while vipd gets no processor is not sent later;
    // all others are, and no address moves. One more may lie beyond either end.
    let excused = (kept_waiting.as_millis() / INTERVAL.as_millis()) as usize;
    assert!(missing <= excused + 1, "{missing} of {expected} are missing, {excused} excused");
    assert!(gap <= 3 * INTERVAL + kept_waiting, "{gap:?}");
    let ownership = pair.lab.ownership(pair.ip, began, ended);
    assert!(ownership.changes <= 2 * (excused / 3), "{ownership:?}, {excused} excused");
    assert!(grown < 4 << 10, "{grown} KiB more");
    // Afterwards there is room again.
    pair.says(&pair.a, &["status"]);
}

/// Results of many requests.
#[derive(Debug)]
struct RequestResults {
    answered: usize,
    bytes: usize,
    refused: usize,
    unread: usize,
}

/// Sends that many requests from 100 clients at once, half of which never read.
fn ask_from_many(socket: &Path, questions: usize) -> RequestResults {
    const CLIENTS: usize = 100;
    let [asked, answered, bytes, refused, unread] = &[const { AtomicUsize::new(0) }; 5];
    let began = Instant::now();
    let continues = || {
        let more = asked.fetch_add(1, Ordering::Relaxed) < questions;
        more && began.elapsed() < 6 * TIMEOUT
    };
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                while continues() {
                    if client % 2 == 0 {
                        if let Ok(mut stream) = UnixStream::connect(socket) {
                            unread.fetch_add(1, Ordering::Relaxed);
                            let _ = stream.write_all(STATUS);
                            thread::sleep(Duration::from_millis(100));
                        }
                        continue;
                    }
                    match send_request(socket, STATUS) {
                        Ok(answer) if answer.ends_with("}\n") && !answer.contains("busy") => {
                            answered.fetch_add(1, Ordering::Relaxed);
                            bytes.store(answer.len(), Ordering::Relaxed);
                        }
                        _ => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                }
            });
        }
    });
    let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let (answered, bytes) = (read(answered), read(bytes));
    RequestResults { answered, bytes, refused: read(refused), unread: read(unread) }
}

/// How long the first thread of a process has been runnable without running so far, and how long
/// the hypervisor kept any processor to itself (proc(5): schedstat, stat).
fn kept_waiting(pid: u32) -> Duration {
    let schedule = fs::read_to_string(format!("/proc/{pid}/task/{pid}/schedstat")).unwrap();
    let waited = schedule.split_whitespace().nth(1).unwrap().parse().unwrap();
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let stolen: u64 = stat.split_whitespace().nth(8).unwrap().parse().unwrap();
    // In hundredths of a second.
    Duration::from_nanos(waited) + Duration::from_millis(10 * stolen)
}

fn cleanup_removes_what_is_ours_and_nothing_while_a_daemon_runs() {
    let pair = Pair::new(|spec| spec.more += "address_lifetime = \"off\"\n");
    let mut daemon = pair.start(&pair.a);
    pair.expect_master(&pair.a);
    let config = daemon.config().to_owned();
    let cleanup = || {
        let arguments = ["cleanup", "--config", config.to_str().unwrap()];
        pair.vipd(&pair.a, &arguments)
    };
    let refused = cleanup();
    assert_eq!(refused.status.code(), Some(1));
    let pid = format!("pid {}", daemon.pid());
    assert!(stderr(&refused).contains(&pid), "{}", stderr(&refused));
    // Also not with another runtime directory.
    let (elsewhere, locks) = (pair.lab.dir().join("elsewhere"), pair.a.lock_dir());
    let arguments = [
        "cleanup",
        "--config",
        config.to_str().unwrap(),
        "--runtime-dir",
        elsewhere.to_str().unwrap(),
        "--lock-dir",
        locks.to_str().unwrap(),
    ];
    let refused = in_namespace(&pair.a, &arguments);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains(&pid), "{}", stderr(&refused));

    daemon.crash();
    assert!(pair.a.holds(pair.ip).unwrap());
    let done = cleanup();
    assert_eq!(stdout(&done), "removed 192.0.2.100 from eth0\n", "{}", stderr(&done));
    assert!(!pair.a.holds(pair.ip).unwrap());
    // What is not ours stays, whatever the configuration says.
    pair.a.namespace().links().add_address("eth0", pair.ip, 32).unwrap();
    let done = cleanup();
    assert!(done.status.success() && stdout(&done).contains("nothing to remove"));
    assert!(pair.a.holds(pair.ip).unwrap());
}

/// `READY=1`, `WATCHDOG=1` at half of the limit, and the messages of a reload and a stop.
fn the_service_manager_is_notified() {
    let pair = Pair::new(|_| {});
    let path = pair.lab.dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let until = |wanted: &str| {
        let mut buffer = [0; 1024];
        let end = Instant::now() + TIMEOUT;
        while Instant::now() < end {
            let length = manager.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == wanted) {
                return;
            }
        }
        panic!("{wanted} never came");
    };
    let wrapper = pair.lab.dir().join("wrapper");
    let text = format!(
        "#!/bin/sh\nNOTIFY_SOCKET={} WATCHDOG_USEC=200000 exec {VIPD} \"$@\"\n",
        path.display()
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let mut daemon =
        Daemon::start(&pair.a, &Program::Vipd(wrapper), std::slice::from_ref(&pair.spec_a))
            .unwrap();
    until("READY=1");
    for _ in 0..10 {
        until("WATCHDOG=1");
    }
    daemon.signal(Signal::SIGHUP).unwrap();
    until("RELOADING=1");
    until("READY=1");
    until("WATCHDOG=1");
    daemon.signal(Signal::SIGTERM).unwrap();
    until("STOPPING=1");
    assert!(daemon.wait(TIMEOUT).unwrap().is_some_and(|status| status.success()));
}

// ---- two hosts ---------------------------------------------------------------------------------

struct Pair {
    lab: Lab,
    a: Host,
    b: Host,
    ip: IpAddr,
    spec_a: RouterSpec,
    spec_b: RouterSpec,
    began: Instant,
}

impl Pair {
    /// `a` has the better priority; `change` is applied to both.
    fn new(change: impl Fn(&mut RouterSpec)) -> Self {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        let ip = "192.0.2.100".parse().unwrap();
        let spec = |priority| {
            let mut spec = RouterSpec::new(ip, priority);
            change(&mut spec);
            spec
        };
        Pair { a, b, ip, spec_a: spec(150), spec_b: spec(100), lab, began: Instant::now() }
    }

    /// Starts vipd and waits until it answers.
    fn start(&self, host: &Host) -> Daemon {
        let spec = if host.name() == "a" { &self.spec_a } else { &self.spec_b };
        let program = Program::Vipd(VIPD.into());
        let daemon = Daemon::start(host, &program, std::slice::from_ref(spec)).unwrap();
        let socket = self.socket(host);
        let asked = || send_request(&socket, STATUS).ok();
        let answered = wait_for(TIMEOUT, || asked().filter(|answer| answer.contains("routers")));
        assert!(answered.is_some(), "{}", daemon.log());
        daemon
    }

    /// Both, `a` being master and `b` its backup.
    fn start_both(&self) -> (Daemon, Daemon) {
        let a = self.start(&self.a);
        self.expect_master(&self.a);
        let b = self.start(&self.b);
        let heard = || {
            let router = self.router(&self.b);
            (router["role"] == "backup" && !router["heard"].is_null()).then_some(())
        };
        wait_for(TIMEOUT, heard).unwrap_or_else(|| panic!("{:#}", self.status(&self.b)));
        (a, b)
    }

    fn expect_master(&self, host: &Host) {
        let settled = || {
            let here = self.lab.owners(self.ip) == [host.name()];
            (here && self.router(host)["role"] == "master").then_some(())
        };
        let settled = wait_for(TIMEOUT, settled);
        assert!(settled.is_some(), "{}: {:#}", host.name(), self.status(host));
    }

    fn socket(&self, host: &Host) -> PathBuf {
        host.runtime_dir().unwrap().join("control.sock")
    }

    fn vipd(&self, host: &Host, arguments: &[&str]) -> Output {
        let dir = host.runtime_dir().unwrap();
        in_namespace(host, &[arguments, &["--runtime-dir", dir.to_str().unwrap()]].concat())
    }

    /// The output of a command that must succeed.
    fn says(&self, host: &Host, arguments: &[&str]) -> String {
        let output = self.vipd(host, arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    fn status(&self, host: &Host) -> Value {
        serde_json::from_str(&self.says(host, &["status", "--json"])).unwrap()
    }

    fn router(&self, host: &Host) -> Value {
        self.status(host)["routers"][0].clone()
    }

    /// How many seconds the kernel will keep the address.
    fn kernel_lifetime(&self, host: &Host) -> f64 {
        let show = || Command::new("ip").args(["-j", "-4", "addr", "show", "eth0"]).output();
        let output = host.namespace().run(show).unwrap();
        let links: Value = serde_json::from_slice(&output.stdout).unwrap();
        let addresses = links.as_array().unwrap().iter();
        let mut addresses = addresses.flat_map(|link| link["addr_info"].as_array().unwrap());
        let ours = addresses.find(|there| there["local"] == self.ip.to_string()).unwrap();
        ours["valid_life_time"].as_f64().unwrap()
    }
}

fn in_namespace(host: &Host, arguments: &[&str]) -> Output {
    let mut command = Command::new(VIPD);
    command.args(arguments);
    host.namespace().run(move || command.output()).unwrap()
}

/// Sends a request and reads until the end.
fn send_request(socket: &Path, request: &[u8]) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // The request of a client that is refused may not be read.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            // Not all that was sent was read.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8(answer).unwrap())
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
