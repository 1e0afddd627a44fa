//! Checks: carried out by the real helper process of the real binary, on real services; and what
//! their verdicts do to virtual routers on the hosts of a lab.
//!
//! Needs root or user namespaces. `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped into failures.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

#[path = "checks/hosts.rs"]
mod hosts;
mod lab;
#[path = "checks/services.rs"]
mod services;
mod suite;

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use lab::{LinkChanges, LinkEditor, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use services::{Authority, Process, Systemd, WebServer};
use suite::peers::skipped;
use suite::{TestResult, tests};
use vipd::config::{CheckPlan, Http, Target};
use vipd::helper::{CheckResult, CheckRun, Helper};

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
/// A time limit for machines that are busy.
const TIMEOUT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    suite::main(4, |_| {
        tests![
            a_command_passes_with_exit_status_0,
            a_command_that_takes_too_long_is_killed,
            a_command_runs_as_its_user,
            much_output_of_a_command_disturbs_no_other_check,
            a_tcp_check_connects,
            an_http_check_compares_status_and_body,
            a_web_server_that_hangs_fails_in_time,
            a_certificate_must_be_trusted,
            the_end_of_a_process_is_noticed_at_once,
            a_process_is_found_by_name_or_path,
            a_process_of_another_user_does_not_count,
            a_unit_check_fails_unless_the_unit_is_active,
            a_file_check_reads_a_number_or_the_existence,
            an_interface_check_needs_carrier,
            a_ping_check_needs_an_answer,
            a_run_never_overlaps_the_next_one,
            the_starts_of_many_checks_are_spread,
            a_reload_does_not_disturb_unchanged_checks,
            checks_delay_no_hook,
            check_commands_end_with_the_helper,
            a_helper_that_hangs_is_noticed,
            hosts::every_kind_decides_over_the_address,
            hosts::a_dead_process_moves_the_address_at_once,
            hosts::a_failing_web_server_moves_the_address_in_time,
            hosts::a_drain_by_a_file_check_loses_no_probe,
            hosts::a_failing_check_loses_no_probe,
            hosts::a_hook_may_refuse_to_take_over,
            hosts::a_hook_that_hangs_before_a_claim_is_a_refusal,
            hosts::a_group_has_one_set_of_hooks_and_checks,
            hosts::the_daemon_ends_with_an_error_when_its_helper_dies,
            hosts::a_reload_changes_checks,
            hosts::a_unit_adds_to_the_priority,
            hosts::options_of_checks_have_their_effect,
            hosts::a_check_counts_as_its_initial_result_until_it_has_run,
            hosts::a_first_result_is_waited_for_for_a_limited_time,
            hosts::start_link_and_preempt_delays_are_kept,
            hosts::every_hook_runs_as_its_user_when_it_should,
            hosts::a_hook_that_takes_too_long_may_mean_fault,
            hosts::a_router_removed_by_a_reload_leaves_with_its_own_hooks,
            hosts::a_changed_vrid_sends_priority_0_for_the_old_one,
            hosts::as_process_1_it_reaps_everything_and_waits_for_its_own,
            hosts::users_are_looked_up_outside_of_the_daemon,
        ]
    })
}

// ---- the kinds ---------------------------------------------------------------------------------

fn a_command_passes_with_exit_status_0() -> TestResult {
    let mut bench = Bench::new();
    bench.watch(&[
        plan("true", bench.script("true", "echo fine; echo PATH=$PATH; echo $VIPD_CHECK")),
        plan("false", bench.script("false", "echo first; echo what went wrong >&2; exit 3")),
        plan("killed", bench.script("killed", "kill -9 $$")),
        plan("absent", command(["/no/such/program"])),
        plan("found", command(["true"])),
    ]);
    let said = bench.passes("true");
    assert!(said.starts_with("fine | PATH=/usr/local/sbin:") && said.ends_with("| true"), "{said}");
    assert_eq!(bench.fails("false"), "exit status 3: first | what went wrong");
    assert_eq!(bench.fails("killed"), "killed by signal 9");
    assert!(bench.fails("absent").starts_with("not run: there is no program"), "{bench:?}");
    assert_eq!(bench.passes("found"), "");
    Ok(())
}

fn a_command_that_takes_too_long_is_killed() -> TestResult {
    let mut bench = Bench::new();
    let slow = bench.script(
        "slow",
        "echo $$ >leader; echo waiting; (setsid sh -c 'echo $$ >orphan; sleep 999; :' &)\n\
         sh -c 'echo $$ >child; sleep 999; :'",
    );
    let timeout = Duration::from_millis(600);
    bench.watch(&[CheckPlan { timeout, interval: LONG, ..plan("slow", slow) }]);
    let run = bench.next("slow");
    assert_eq!(run.result, CheckResult::Failed);
    assert_eq!(run.output.unwrap(), "took longer than 600ms and was killed: waiting");
    assert!(run.took >= timeout && run.took < TIMEOUT, "{:?}", run.took);
    for process in ["leader", "child", "orphan"] {
        let pid = bench.pid_left(process);
        until("it is gone", || !is_running(pid));
    }
    Ok(())
}

fn a_command_runs_as_its_user() -> TestResult {
    if !is_root("a_command_runs_as_its_user") {
        return Ok(());
    }
    let mut bench = Bench::new();
    let look = "id -un; grep CapBnd /proc/self/status; ulimit -n; echo $HOME";
    let Target::Command { argv, .. } = bench.script("look", look) else { unreachable!() };
    let user = Some("nobody".to_owned());
    bench.watch(&[plan("look", Target::Command { argv, user })]);
    let (files, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let home = nix::unistd::User::from_name("nobody").unwrap().unwrap().dir;
    let wanted = format!("nobody | CapBnd:\t0000000000000000 | {files} | {}", home.display());
    assert_eq!(bench.passes("look"), wanted);
    Ok(())
}

fn much_output_of_a_command_disturbs_no_other_check() -> TestResult {
    let mut bench = Bench::new();
    bench.watch(&[
        plan(
            "flood",
            bench.script(
                "flood",
                "head -c 20000000 /dev/zero | tr '\\0' x; echo; printf '\\033[31mthe end'; exit 1",
            ),
        ),
        plan(
            "leftover",
            bench.script(
                "leftover",
                "[ -e leftover ] || { sleep 100 & echo $! >leftover; }; echo started",
            ),
        ),
    ]);
    let said = bench.fails("flood");
    assert!(said.len() <= 450 && said.ends_with("x | \\u{1b}[31mthe end"), "{said}");
    // A background process that keeps running does not delay the end of its check.
    assert_eq!(bench.passes("leftover"), "started");
    kill(bench.pid_left("leftover"), Signal::SIGKILL).unwrap();
    Ok(())
}

fn a_tcp_check_connects() -> TestResult {
    let mut bench = Bench::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = |host: &str, port| Target::Tcp { host: host.into(), port };
    bench.watch(&[
        plan("address", tcp("127.0.0.1", port)),
        plan("name", tcp("localhost", port)),
        plan("unknown", tcp("no-such-name.invalid", port)),
        plan("unreachable", tcp("198.51.100.1", 80)),
    ]);
    assert_eq!(bench.passes("address"), format!("connected to 127.0.0.1:{port}"));
    // Whichever address comes first, one of them listens.
    assert_eq!(bench.passes("name"), format!("connected to 127.0.0.1:{port}"));
    assert!(bench.fails("unknown").starts_with("no-such-name.invalid: "), "{bench:?}");
    assert_eq!(bench.fails("unreachable"), "198.51.100.1:80: Network is unreachable");
    drop(listener);
    assert_eq!(bench.fails("address"), format!("127.0.0.1:{port}: Connection refused"));
    Ok(())
}

fn an_http_check_compares_status_and_body() -> TestResult {
    let mut bench = Bench::new();
    let server = WebServer::start();
    let http = |path: &str, status, body: Option<&str>| {
        let url = format!("http://127.0.0.1:{}{path}", server.port());
        Target::Http(Http { url, status, body: body.map(str::to_owned), ca_file: None })
    };
    bench.watch(&[
        plan("fine", http("/fine", None, None)),
        plan("created", http("/201", None, None)),
        plan("sick", http("/503", None, None)),
        plan("redirect", http("/302", None, None)),
        plan("wanted", http("/302", Some(302), None)),
        plan("words", http("/fine", None, Some("all is well"))),
        plan("no words", http("/fine", None, Some("nothing is well"))),
        plan("late words", http("/long", None, Some("the end"))),
        plan("too late", http("/longer", None, Some("the end"))),
        plan("cut", http("/cut", None, Some("the end"))),
        plan("garbage", http("/garbage", None, None)),
    ]);
    assert_eq!(bench.passes("fine"), "status 200 OK");
    assert_eq!(bench.passes("created"), "status 201 Created");
    assert_eq!(bench.fails("sick"), "status 503 Service Unavailable, wanted 200 to 299");
    assert_eq!(bench.fails("redirect"), "status 302 Found, wanted 200 to 299");
    assert_eq!(bench.passes("wanted"), "status 302 Found");
    assert_eq!(bench.passes("words"), "status 200 OK, the body has \"all is well\"");
    let why = bench.fails("no words");
    assert!(why.starts_with("status 200 OK, but the body does not have"), "{why}");
    bench.passes("late words");
    assert!(bench.fails("too late").ends_with("in its first 65536 bytes"), "{bench:?}");
    bench.fails("cut");
    bench.fails("garbage");
    let asked = server.asked("/fine");
    let version = env!("CARGO_PKG_VERSION");
    for header in
        [format!("host: 127.0.0.1:{}", server.port()), format!("user-agent: vipd/{version}")]
    {
        assert!(asked.to_lowercase().contains(&header), "{header} is not in\n{asked}");
    }
    assert!(asked.starts_with("GET /fine HTTP/1.1\r\n"), "{asked}");
    drop(server);
    assert!(bench.fails("fine").ends_with("Connection refused"), "{bench:?}");
    Ok(())
}

fn a_web_server_that_hangs_fails_in_time() -> TestResult {
    let mut bench = Bench::new();
    let server = WebServer::start();
    let timeout = Duration::from_millis(400);
    let http = |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", server.port());
        let body = Some("never said".to_owned());
        let target = Target::Http(Http { url, status: None, body, ca_file: None });
        CheckPlan { timeout, ..plan(path, target) }
    };
    // It hangs before its first byte, or sends byte by byte without end.
    bench.watch(&[http("/silent"), http("/slow")]);
    for path in ["/silent", "/slow"] {
        let run = bench.next(path);
        assert_eq!(run.output.unwrap(), "no answer within 400ms");
        assert!(run.took >= timeout && run.took < 10 * timeout, "{:?}", run.took);
    }
    Ok(())
}

fn a_certificate_must_be_trusted() -> TestResult {
    let mut bench = Bench::new();
    let authority = Authority::new(&bench.path("ours"), "Our authority")?;
    let stranger = Authority::new(&bench.path("theirs"), "Another authority")?;
    let server = WebServer::start_tls(&authority);
    let https = |host: &str, ca_file: Option<&Path>| {
        let url = format!("https://{host}:{}/fine", server.port());
        let ca_file = ca_file.map(Path::to_owned);
        Target::Http(Http { url, status: None, body: Some("all is well".into()), ca_file })
    };
    bench.watch(&[
        plan("vouched", https("127.0.0.1", Some(&authority.certificate))),
        plan("by name", https("localhost", Some(&authority.certificate))),
        plan("other name", https("ip6-localhost", Some(&authority.certificate))),
        plan("stranger", https("127.0.0.1", Some(&stranger.certificate))),
        plan("system", https("127.0.0.1", None)),
        plan("no file", https("127.0.0.1", Some(Path::new("/no/such/file")))),
    ]);
    bench.passes("vouched");
    bench.passes("by name");
    let why = bench.fails("stranger");
    assert!(why.starts_with("TLS: invalid peer certificate"), "{why}");
    bench.fails("system");
    bench.fails("other name");
    assert_eq!(bench.fails("no file"), "/no/such/file: No such file or directory");
    // A changed CA file is read again without a reload.
    fs::copy(&authority.certificate, &stranger.certificate).unwrap();
    bench.passes("stranger");
    Ok(())
}

fn the_end_of_a_process_is_noticed_at_once() -> TestResult {
    let mut bench = Bench::new();
    let sleeper = bench.program("short-lived");
    let delay = Duration::from_millis(50);
    bench.watch(&[plan(
        "it",
        Target::Process { process: "short-lived".into(), user: "root".into(), delay },
    )]);
    assert_eq!(bench.fails("it"), "no process is named short-lived");
    let mut noticed = Vec::new();
    for _ in 0..5 {
        let process = Process::start(&sleeper);
        bench.passes("it");
        let died = Instant::now();
        drop(process);
        bench.fails("it");
        noticed.push(died.elapsed());
    }
    println!("deaths noticed after {noticed:?}, {delay:?} of which are the delay");
    noticed.sort();
    assert!(noticed[0] >= delay, "{noticed:?}");
    // A busy machine may be late sometimes.
    assert!(noticed[2] < delay + Duration::from_millis(150), "{noticed:?}");
    // A process that returns is noticed soon, however long the interval.
    let process = Target::Process { process: "short-lived".into(), user: "root".into(), delay };
    bench.watch(&[CheckPlan { interval: LONG, ..plan("back", process) }]);
    for away in [Duration::ZERO, Duration::from_secs(1)] {
        bench.fails("back");
        thread::sleep(away);
        let process = Process::start(&sleeper);
        let begun = Instant::now();
        bench.passes("back");
        println!("back after {away:?}, noticed after {:?}", begun.elapsed());
        drop(process);
    }
    // A process that returns in time counts as never gone.
    let mut process = Process::start(&sleeper);
    bench.watch(&[plan(
        "it",
        Target::Process { process: "short-lived".into(), user: "root".into(), delay: LONG },
    )]);
    bench.passes("it");
    for _ in 0..3 {
        drop(process);
        process = Process::start(&sleeper);
        let pid = process.pid();
        let text = format!("process {pid} runs");
        bench.says("it", &text);
    }
    assert!(
        bench.runs("it").iter().skip_while(|run| run.result == CheckResult::Failed).count() > 0
    );
    Ok(())
}

fn a_process_is_found_by_name_or_path() -> TestResult {
    let mut bench = Bench::new();
    let delay = Duration::from_millis(50);
    let named = |name: &str| {
        plan(name, Target::Process { process: name.into(), user: "root".into(), delay })
    };
    let long = bench.program("a-name-longer-than-kept");
    let other = "a-name-longer-than-others";
    let path = long.to_str().unwrap();
    bench.watch(&[
        named("a-name-longer-than-kept"),
        named(other),
        named(path),
        named("a-name-longer-t"),
    ]);
    bench.fails(path);
    let process = Process::start(&long);
    for name in ["a-name-longer-than-kept", path, "a-name-longer-t"] {
        bench.passes(name);
    }
    assert_eq!(bench.fails(other), format!("no process is named {other}"));
    // Replaced by another file, it still runs.
    fs::remove_file(&long).unwrap();
    thread::sleep(Duration::from_millis(300));
    bench.passes(path);
    let second = Process::start(&bench.program("a-name-longer-than-kept"));
    drop(process);
    let pid = second.pid();
    let text = format!("process {pid} runs");
    bench.says(path, &text);
    drop(second);
    assert_eq!(bench.fails(path), format!("no process runs {path}"));
    Ok(())
}

fn a_process_of_another_user_does_not_count() -> TestResult {
    if !is_root("a_process_of_another_user_does_not_count") {
        return Ok(());
    }
    let mut bench = Bench::new();
    let delay = Duration::from_millis(50);
    let of = |user: &str, process: &str| {
        plan(user, Target::Process { process: process.into(), user: user.into(), delay })
    };
    let program = bench.program("the-service");
    let path = program.to_str().unwrap();
    let start = || {
        let mut command = std::process::Command::new(&program);
        Process::of(command.arg("1000").uid(65534).gid(65534))
    };
    // Also one that runs as root because of its file, and one that nobody may look into: its directory
    // in /proc belongs to root.
    for mode in [0o755, 0o4755, 0o711] {
        fs::set_permissions(&program, PermissionsExt::from_mode(mode)).unwrap();
        for process in ["the-service", path] {
            let what = match process.starts_with('/') {
                true => format!("runs {process}"),
                false => format!("is named {process}"),
            };
            let pretender = start();
            bench.watch(&[of("root", process), of("nobody", process), of("no-such-user", process)]);
            let pid = pretender.pid();
            let why = format!("process {pid} does, but belongs to nobody");
            bench.says("root", &format!("no process of root {what}; {why}"));
            bench.passes("nobody");
            assert_eq!(bench.fails("no-such-user"), "there is no user no-such-user");
            // The younger one counts.
            let service = Process::start(&program);
            bench.says("root", &format!("process {} runs", service.pid()));
            drop(service);
            bench.fails("root");
        }
    }
    Ok(())
}

fn a_unit_check_fails_unless_the_unit_is_active() -> TestResult {
    if !is_root("a_unit_check_fails_unless_the_unit_is_active") {
        return Ok(());
    }
    let systemd = Systemd::start()?;
    systemd.unit("it-2.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    systemd.unit(
        "once.service",
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n",
    );
    systemd.unit("broken.service", "[Service]\nType=oneshot\nExecStart=/bin/false\n");
    systemd.ctl(&["start", "it-2.service", "once.service"]);
    systemd.ctl(&["start", "broken.service"]);
    for bus in systemd.sockets() {
        let mut bench =
            Bench::with(&[("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", bus.display()))]);
        let unit = |unit: &str| plan(unit, Target::Unit { unit: unit.into() });
        let names =
            ["it-2.service", "once.service", "broken.service", "no-such.service", "basic.target"];
        bench.watch(&names.map(unit));
        assert_eq!(bench.passes("it-2.service"), "it-2.service is active", "{}", bus.display());
        bench.passes("once.service");
        bench.passes("basic.target");
        assert_eq!(bench.fails("broken.service"), "broken.service is failed");
        assert_eq!(bench.fails("no-such.service"), "no-such.service is inactive (not-found)");
        systemd.ctl(&["stop", "it-2.service"]);
        assert_eq!(bench.fails("it-2.service"), "it-2.service is inactive");
        systemd.ctl(&["start", "it-2.service"]);
        bench.passes("it-2.service");
    }
    let mut bench = Bench::with(&[("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/no/such/bus".into())]);
    bench.watch(&[plan("it", Target::Unit { unit: "it-2.service".into() })]);
    let why = bench.fails("it");
    assert_eq!(why, "systemd cannot be asked: /no/such/bus: No such file or directory");
    Ok(())
}

fn a_file_check_reads_a_number_or_the_existence() -> TestResult {
    let mut bench = Bench::new();
    let (number, switch) = (bench.path("number"), bench.path("switch"));
    bench.watch(&[
        plan("number", Target::File { path: number.clone() }),
        plan("present", Target::FilePresent { path: switch.clone() }),
        plan("absent", Target::FileAbsent { path: switch.clone() }),
        plan("under", Target::FileAbsent { path: switch.join("file") }),
        plan("pipe", Target::File { path: "/dev/zero".into() }),
    ]);
    bench.reads("number", 0);
    bench.fails("present");
    bench.passes("absent");
    bench.passes("under");
    bench.fails("pipe");
    for (text, wanted) in [("-20\n", -20), ("  7 ", 7), ("1000", 254), ("-1000\n", -254)] {
        fs::write(&number, text).unwrap();
        bench.reads("number", wanted);
    }
    fs::write(&number, "many").unwrap();
    assert_eq!(bench.fails("number"), format!("{} holds no whole number", number.display()));
    fs::remove_file(&number).unwrap();
    bench.reads("number", 0);
    fs::write(&switch, "").unwrap();
    assert_eq!(bench.passes("present"), format!("{} is there", switch.display()));
    assert_eq!(bench.fails("absent"), format!("{} is there", switch.display()));
    bench.passes("under");
    Ok(())
}

fn an_interface_check_needs_carrier() -> TestResult {
    let mut bench = Bench::new();
    let links = LinkEditor::open().unwrap();
    let here = fs::File::open("/proc/thread-self/ns/net").unwrap();
    links.add_veth("near", [2, 0, 0, 0, 0, 9], "far", &here).map_err(|error| error.to_string())?;
    let interface = |name: &str| plan(name, Target::Interface { interface: name.into() });
    bench.watch(&[
        interface("lo"),
        interface("near"),
        interface("nowhere"),
        interface("a-name-that-no-interface-can-have"),
    ]);
    bench.passes("lo");
    bench.says("near", "near is down");
    assert_eq!(bench.fails("nowhere"), "nowhere: No such device");
    bench.fails("a-name-that-no-interface-can-have");
    links.up("near").unwrap();
    bench.says("near", "near has no carrier");
    links.up("far").unwrap();
    assert_eq!(bench.passes("near"), "near is up");
    links.delete("near").unwrap();
    bench.says("near", "near: No such device");
    Ok(())
}

fn a_ping_check_needs_an_answer() -> TestResult {
    let range = Path::new("/proc/sys/net/ipv4/ping_group_range");
    // Without privileges, and with a raw socket taken in time.
    for groups in ["0\t2147483647", "1\t0"] {
        if let Err(error) = fs::write(range, groups) {
            println!("{} stays as it is: {error}", range.display());
        }
        let mut bench = Bench::new();
        let ping = |address: &str| {
            let target = Target::Ping { address: address.parse().unwrap() };
            CheckPlan { timeout: Duration::from_millis(500), ..plan(address, target) }
        };
        let names = ["127.0.0.1", "::1", "127.0.0.9", "198.51.100.1"];
        bench.watch(&names.map(ping));
        assert_eq!(bench.passes("127.0.0.1"), "127.0.0.1 answers");
        assert_eq!(bench.passes("::1"), "::1 answers");
        bench.passes("127.0.0.9");
        assert_eq!(bench.fails("198.51.100.1"), "198.51.100.1: Network is unreachable");
        let links = LinkEditor::open().unwrap();
        links.down("lo").unwrap();
        bench.fails("127.0.0.1");
        links.up("lo").unwrap();
        bench.passes("127.0.0.1");
    }
    Ok(())
}

// ---- the schedule ------------------------------------------------------------------------------

fn a_run_never_overlaps_the_next_one() -> TestResult {
    let mut bench = Bench::new();
    let slow =
        bench.script("slow", "mkdir busy || { echo overlap; exit 1; }; sleep 0.3; rmdir busy");
    bench.watch(&[CheckPlan { interval: Duration::from_millis(100), ..plan("slow", slow) }]);
    let runs: Vec<CheckRun> = (0..4).map(|_| bench.next("slow")).collect();
    assert!(runs.iter().all(|run| run.result == CheckResult::Passed), "{runs:?}");
    let gaps = runs.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at).unwrap());
    assert!(gaps.clone().all(|gap| gap >= Duration::from_millis(300)), "{runs:?}");
    Ok(())
}

fn the_starts_of_many_checks_are_spread() -> TestResult {
    const CHECKS: usize = 200;
    let mut bench = Bench::new();
    let interval = Duration::from_secs(2);
    let path = bench.path("nothing");
    let plans: Vec<CheckPlan> = (0..CHECKS)
        .map(|n| CheckPlan {
            interval,
            ..plan(&n.to_string(), Target::File { path: path.clone() })
        })
        .collect();
    bench.watch(&plans);
    let begun = Instant::now();
    until("all have run twice", || {
        bench.poll("0");
        plans.iter().all(|plan| bench.runs(&plan.name).len() >= 2)
    });
    // The first verdict comes soon ...
    let first = |n: usize| bench.runs(&plans[n].name)[0].at;
    let spread = first(CHECKS - 1).duration_since(first(0)).unwrap();
    assert!(spread >= Duration::from_millis(300) && spread < interval, "{spread:?}");
    assert!(begun.elapsed() < 5 * interval, "{:?}", begun.elapsed());
    // ... and the second runs use all of the interval: no tenth of it has more than a fifth of them.
    let second: Vec<Duration> = plans
        .iter()
        .map(|plan| bench.runs(&plan.name)[1].at.duration_since(first(0)).unwrap())
        .collect();
    for tenth in 0..12 {
        let begin = interval / 10 * tenth;
        let here = second.iter().filter(|at| **at >= begin && **at < begin + interval / 10).count();
        assert!(here <= CHECKS / 5, "{here} in tenth {tenth}: {second:?}");
    }
    Ok(())
}

fn a_reload_does_not_disturb_unchanged_checks() -> TestResult {
    let mut bench = Bench::new();
    let count = |name: &str| bench.script(name, &format!("echo run >>{name}.runs"));
    let long = |name: &str| CheckPlan { interval: LONG, ..plan(name, count(name)) };
    let (kept, changed, gone) = (long("kept"), long("changed"), long("gone"));
    bench.watch(&[kept.clone(), changed.clone(), gone]);
    // After the second run, which comes soon, nothing is due for an hour.
    let runs = |bench: &Bench, name: &str| {
        let text = fs::read_to_string(bench.path(&format!("{name}.runs"))).unwrap_or_default();
        text.lines().count()
    };
    until("all have run", || ["kept", "changed", "gone"].iter().all(|name| runs(&bench, name) > 0));
    let before = runs(&bench, "kept");
    let changed = CheckPlan { timeout: Duration::from_secs(7), ..changed };
    let again = runs(&bench, "changed");
    bench.watch(&[kept, changed]);
    until("the changed one has run anew", || runs(&bench, "changed") > again);
    assert_eq!(runs(&bench, "kept"), before);
    until("and is told", || bench.poll("changed").is_some());
    Ok(())
}

fn checks_delay_no_hook() -> TestResult {
    let mut bench = Bench::new();
    let hang = bench.script("hang", "exec sleep 999");
    let mut plans: Vec<CheckPlan> = (0..50)
        .map(|n| CheckPlan { timeout: LONG, ..plan(&format!("hang {n}"), hang.clone()) })
        .collect();
    // A lookup of a name that takes long blocks a thread, not the loop.
    plans
        .push(plan("name", Target::Tcp { host: "a-name-that-takes-long.invalid".into(), port: 1 }));
    bench.watch(&plans);
    thread::sleep(Duration::from_millis(500));
    let took = bench.run_hook();
    assert!(took < Duration::from_secs(5), "{took:?}");
    Ok(())
}

fn check_commands_end_with_the_helper() -> TestResult {
    let mut bench = Bench::new();
    let slow = bench.script("slow", "echo $$ >leader; sh -c 'echo $$ >child; sleep 999; :'");
    bench.watch(&[CheckPlan { timeout: LONG, ..plan("slow", slow.clone()) }]);
    let pids = ["leader", "child"].map(|name| bench.pid_left(name));
    // Removed from the configuration, it is ended at once ...
    bench.watch(&[]);
    until("both are gone", || !pids.iter().any(|pid| is_running(*pid)));
    for name in ["leader", "child"] {
        fs::remove_file(bench.path(name)).unwrap();
    }
    // ... and the helper leaves no process behind when it ends.
    bench.watch(&[CheckPlan { timeout: LONG, ..plan("slow", slow) }]);
    let pids = ["leader", "child"].map(|name| bench.pid_left(name));
    let begun = Instant::now();
    bench.helper.take().unwrap().end();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    until("both are gone", || !pids.iter().any(|pid| is_running(*pid)));
    Ok(())
}

fn a_helper_that_hangs_is_noticed() -> TestResult {
    let mut bench = Bench::new();
    bench.watch(&[plan("it", command(["true"]))]);
    bench.passes("it");
    let helper = bench.helper.as_mut().unwrap();
    let pid = Pid::from_raw(helper.pid().cast_signed());
    // A helper without anything to report is pinged, and answers.
    helper.set_checks(std::iter::empty());
    for _ in 0..3 {
        helper.check_alive().unwrap();
        thread::sleep(Helper::PING_INTERVAL);
        helper.poll(|_| {}).unwrap();
    }
    kill(pid, Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    let error = loop {
        thread::sleep(Helper::PING_INTERVAL);
        helper.poll(|_| {}).unwrap();
        if let Err(error) = helper.check_alive() {
            break error;
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
    };
    assert_eq!(error.to_string(), "it has not answered for 15s");
    assert!(begun.elapsed() >= Duration::from_secs(15));
    helper.poll(|_| {}).unwrap_err();
    bench.helper.take().unwrap().end();
    until("it was killed", || !is_running(pid));
    Ok(())
}

// ---- the helper by itself ----------------------------------------------------------------------

const LONG: Duration = Duration::from_secs(3600);

/// A helper that carries checks out, with a directory for scripts and what they leave.
struct Bench {
    helper: Option<Helper>,
    directory: tempfile::TempDir,
    runs: Vec<(String, CheckRun)>,
    /// How many of them were inspected.
    seen: usize,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.runs.iter().rev().take(20).collect::<Vec<_>>().fmt(f)
    }
}

impl Bench {
    fn new() -> Self {
        Bench::with(&[])
    }

    fn with(environment: &[(&str, String)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let start = directory.path().join("start");
        let set: String =
            environment.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        services::write_program(&start, &format!("#!/bin/sh\n{set}exec '{VIPD}' \"$@\"\n"));
        let helper = Helper::start_with(&start).unwrap();
        Bench { helper: Some(helper), directory, runs: Vec::new(), seen: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A check that runs this shell script in the directory.
    fn script(&self, name: &str, text: &str) -> Target {
        let path = self.path(name).with_extension("sh");
        let directory = self.directory.path().display();
        services::write_program(&path, &format!("#!/bin/sh\ncd '{directory}'\n{text}\n"));
        command([path.to_str().unwrap()])
    }

    /// A program of this name that does nothing for long.
    fn program(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let sleep =
            ["/bin/sleep", "/usr/bin/sleep"].into_iter().find(|path| Path::new(path).exists());
        services::copy_program(Path::new(sleep.unwrap()), &path);
        path
    }

    fn watch(&mut self, plans: &[CheckPlan]) {
        self.helper.as_mut().unwrap().set_checks(plans.iter().map(|plan| (plan, 2)));
    }

    /// Receives what has arrived; returns the last run of this check.
    fn poll(&mut self, name: &str) -> Option<CheckRun> {
        let helper = self.helper.as_mut().unwrap();
        helper.poll(|_| {}).unwrap();
        self.runs.extend(helper.results());
        self.runs(name).pop()
    }

    fn runs(&self, name: &str) -> Vec<CheckRun> {
        let mut said = None;
        let here = self.runs.iter().filter(|(its, _)| its == name).map(|(_, run)| {
            let mut run = run.clone();
            run.output = run.output.or(said.take());
            said.clone_from(&run.output);
            run
        });
        here.collect()
    }

    /// The next run of this check; those of others are skipped.
    fn next(&mut self, name: &str) -> CheckRun {
        let before = self.seen;
        until(&format!("{name} is carried out"), || {
            self.poll(name);
            self.runs.iter().skip(before).any(|(its, _)| its == name)
        });
        let after = self.runs.iter().skip(before).position(|(its, _)| its == name).unwrap();
        let run = self.runs[before + after].1.clone();
        // Runs of other checks stay to be looked at.
        if self.runs.iter().all(|(its, _)| its == name) {
            self.seen = before + after + 1;
        }
        run
    }

    /// Waits until the last run has the result `wanted`; returns its output.
    fn expect(&mut self, name: &str, wanted: CheckResult) -> String {
        let begin = Instant::now();
        loop {
            if let Some(run) = self.poll(name)
                && run.result == wanted
            {
                return run.output.unwrap_or_default();
            }
            assert!(begin.elapsed() < TIMEOUT, "{name} is not {wanted:?}: {self:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn passes(&mut self, name: &str) -> String {
        self.expect(name, CheckResult::Passed)
    }

    fn fails(&mut self, name: &str) -> String {
        self.expect(name, CheckResult::Failed)
    }

    /// Waits until the last run found this.
    fn says(&mut self, name: &str, text: &str) {
        let is = |run: &CheckRun| run.output.as_deref() == Some(text);
        until(&format!("{name} says {text:?}"), || self.poll(name).as_ref().is_some_and(is));
    }

    fn reads(&mut self, name: &str, number: i16) {
        self.expect(name, CheckResult::Number(number));
    }

    fn pid_left(&self, name: &str) -> Pid {
        let path = self.path(name);
        let mut text = String::new();
        until(&format!("{name} is written"), || {
            text = fs::read_to_string(&path).unwrap_or_default();
            text.ends_with('\n')
        });
        Pid::from_raw(text.trim().parse().unwrap())
    }

    /// How long it takes until a hook that does nothing has ended.
    fn run_hook(&mut self) -> Duration {
        let begun = Instant::now();
        let helper = self.helper.as_mut().unwrap();
        helper.run(vipd::helper::HookRun {
            router: "web".into(),
            group: false,
            number: 1,
            state: vipd::vrrp::Hook::Master,
            previous: "backup".into(),
            reason: "nobody was heard".into(),
            priority: 150,
            addresses: Vec::new(),
            interface: "eth0".into(),
            commands: vec![vipd::config::HookCommand {
                argv: vec!["true".into()],
                timeout: TIMEOUT,
                user: None,
            }],
            notify: None,
        });
        until("the hook has ended", || {
            let mut ended = false;
            helper.poll(|_| ended = true).unwrap();
            ended
        });
        begun.elapsed()
    }
}

/// A check every 100 ms with a timeout that it never reaches.
fn plan(name: &str, target: Target) -> CheckPlan {
    let interval = Duration::from_millis(100);
    CheckPlan { name: name.into(), target, interval, timeout: TIMEOUT }
}

fn command<const N: usize>(argv: [&str; N]) -> Target {
    Target::Command { argv: argv.map(str::to_owned).to_vec(), user: None }
}

/// Whether this process may switch to other users and create control groups.
fn is_root(test: &str) -> bool {
    // In a user namespace only few users are mapped.
    let users = fs::read_to_string("/proc/self/uid_map").unwrap();
    let root = nix::unistd::geteuid().is_root() && users.contains("4294967295");
    if !root {
        skipped(test, "only root becomes other users and makes control groups");
    }
    root
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let found = wait_for(TIMEOUT, || holds().then_some(()));
    assert!(found.is_some(), "waited in vain until {what}");
}

fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie does not run.
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}
