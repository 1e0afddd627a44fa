//! Hooks, run by the real helper process of the real binary.
#![allow(clippy::unwrap_used)]

mod peers;

use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use peers::skipped;
use vipd::config::HookCommand;
use vipd::helper::{Finished, Helper, HookRun, Outcome};
use vipd::vrrp::Hook;

/// A time limit far above what anything here takes, for busy machines.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A file that is open for writing in a process just forked cannot be executed ("text file busy"),
/// so scripts are not written while helpers are started.
static FORKING: Mutex<()> = Mutex::new(());

const LONG: Duration = Duration::from_secs(60);

/// A helper that logs to a file, with a directory for scripts and their output files.
struct Bench {
    helper: Option<Helper>,
    directory: tempfile::TempDir,
    number: u64,
}

impl Bench {
    fn new() -> Self {
        Bench::with_inherited_state("exec")
    }

    /// `exec`: the shell command that starts the helper.
    fn with_inherited_state(exec: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut bench = Bench { helper: None, directory, number: 0 };
        let vipd = env!("CARGO_BIN_EXE_vipd");
        let log = bench.path("log").display().to_string();
        let start = bench.script("start", &format!("{exec} '{vipd}' \"$@\" 2>'{log}'"));
        let _alone = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        bench.helper = Some(Helper::start_with(Path::new(&start.argv[0])).unwrap());
        bench
    }

    fn helper(&mut self) -> &mut Helper {
        self.helper.as_mut().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A hook that runs this shell script in the directory.
    fn script(&self, name: &str, text: &str) -> HookCommand {
        let path = self.path(name);
        let directory = self.directory.path().display();
        let _alone = FORKING.lock().unwrap_or_else(PoisonError::into_inner);
        fs::write(&path, format!("#!/bin/sh\ncd '{directory}'\n{text}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        command([path.to_str().unwrap()])
    }

    /// Has the hooks of `web` run and returns their number.
    fn run(&mut self, state: Hook, commands: Vec<HookCommand>) -> u64 {
        self.run_of("web", state, commands, None)
    }

    fn run_of(
        &mut self,
        router: &str,
        state: Hook,
        commands: Vec<HookCommand>,
        notify: Option<HookCommand>,
    ) -> u64 {
        self.number += 1;
        let run = HookRun {
            router: router.into(),
            group: false,
            number: self.number,
            state,
            previous: "backup".into(),
            reason: "nobody was heard".into(),
            priority: 150,
            addresses: vec!["192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap()],
            interface: "eth0".into(),
            commands,
            notify,
        };
        self.helper().run(run);
        self.number
    }

    /// The next `count` reports, as (number, outcome).
    fn reports(&mut self, count: usize) -> Vec<(u64, Outcome)> {
        let mut reports: Vec<Finished> = Vec::new();
        let begin = Instant::now();
        while reports.len() < count {
            assert!(begin.elapsed() < TIMEOUT, "only {reports:?}; log:\n{}", self.log());
            self.helper().poll(|finished| reports.push(finished)).unwrap();
            sleep(Duration::from_millis(5));
        }
        assert_eq!(reports.len(), count, "{reports:?}");
        reports.into_iter().map(|finished| (finished.number, finished.outcome)).collect()
    }

    /// Runs one hook to its end.
    fn outcome(&mut self, command: HookCommand) -> Outcome {
        let number = self.run(Hook::Master, vec![command]);
        let reports = self.reports(1);
        assert_eq!(reports[0].0, number);
        assert!(self.helper().idle());
        reports[0].1.clone()
    }

    /// The output file of a script, once it is complete.
    fn left(&self, name: &str) -> String {
        let path = self.path(name);
        until(&format!("{name} is written"), || {
            fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))
        });
        fs::read_to_string(&path).unwrap()
    }

    fn pid_left(&self, name: &str) -> Pid {
        Pid::from_raw(self.left(name).trim().parse().unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn logged(&self, text: &str) {
        let begin = Instant::now();
        while !self.log().contains(text) {
            assert!(begin.elapsed() < TIMEOUT, "{text:?} is not in the log:\n{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }
}

fn command<const N: usize>(argv: [&str; N]) -> HookCommand {
    HookCommand { argv: argv.map(str::to_owned).into(), timeout: LONG, user: None }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < TIMEOUT, "never: {what}");
        sleep(Duration::from_millis(5));
    }
}

fn is_alive(process: Pid) -> bool {
    let zombie = fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().unwrap().starts_with(" Z"));
    kill(process, None) != Err(Errno::ESRCH) && !zombie
}

/// Whether this test can switch to other users; if not, it is skipped.
fn is_root(test: &str) -> bool {
    // In a user namespace only few users are mapped.
    let users = fs::read_to_string("/proc/self/uid_map").unwrap();
    let root = nix::unistd::geteuid().is_root() && users.contains("4294967295");
    if !root {
        skipped(test, "only root becomes other users");
    }
    root
}

#[test]
fn a_hook_gets_exactly_its_arguments_and_environment() {
    let mut bench = Bench::new();
    let mut hook = bench.script(
        "hook",
        "printf '%s|' \"$0\" \"$@\" >arguments; echo >>arguments\n\
         tr '\\0' '\\n' </proc/$$/environ | sort >environment",
    );
    hook.argv.extend(["two words", "", "$HOME;`id`*"].map(str::to_owned));
    assert_eq!(bench.outcome(hook.clone()), Outcome::Done);
    let path = bench.path("hook").display().to_string();
    assert_eq!(bench.left("arguments"), format!("{path}|two words||$HOME;`id`*|\n"));
    let mut expected = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        "VIPD_ADDRESSES=192.0.2.10 2001:db8::10".into(),
        "VIPD_INTERFACE=eth0".into(),
        "VIPD_PREVIOUS_STATE=backup".into(),
        "VIPD_PRIORITY=150".into(),
        "VIPD_REASON=nobody was heard".into(),
        "VIPD_ROUTER=web".into(),
        "VIPD_STATE=master".into(),
    ];
    expected.extend(std::env::var("LANG").ok().map(|lang| format!("LANG={lang}")));
    expected.sort();
    let environment = bench.left("environment");
    assert_eq!(environment.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_general_hook_comes_last_and_gets_what_keepalived_gives() {
    let mut bench = Bench::new();
    let say = |bench: &Bench, name: &str| bench.script(name, &format!("echo {name} \"$@\" >>said"));
    let (first, second) = (say(&bench, "first"), say(&bench, "second"));
    let mut general = say(&bench, "general");
    general.argv.push("own".into());
    for state in [Hook::Master, Hook::Backup, Hook::Fault, Hook::Stop] {
        bench.run_of("web", state, Vec::new(), Some(general.clone()));
        bench.reports(1);
    }
    bench.run_of("web", Hook::BeforeRelease, vec![first, second], Some(general));
    assert_eq!(bench.reports(1)[0].1, Outcome::Done);
    assert_eq!(
        bench.left("said"),
        "general own INSTANCE web MASTER 150\n\
         general own INSTANCE web BACKUP 150\n\
         general own INSTANCE web FAULT 150\n\
         general own INSTANCE web STOP 150\n\
         first\n\
         second\n"
    );
}

#[test]
fn a_failed_hook_is_reported_and_does_not_keep_the_general_one_from_running() {
    let mut bench = Bench::new();
    let failing = bench.script("failing", "echo a remark; echo a complaint >&2; exit 3");
    let general = bench.script("general", "echo ran >general.ran");
    bench.run_of("web", Hook::Fault, vec![failing], Some(general));
    assert_eq!(bench.reports(1)[0].1, Outcome::Exited(3));
    assert_eq!(bench.left("general.ran"), "ran\n");
    bench.logged("a remark");
    bench.logged("a complaint");
    bench.logged("hook done");
    let log = bench.log();
    let line = log.lines().find(|line| line.contains("hook failed with exit status 3")).unwrap();
    for part in ["WARN", "router=\"web\"", "state=\"fault\"", "/failing\"", "status=3", "duration="]
    {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[test]
fn a_hook_that_a_signal_ended_is_reported_as_such() {
    let mut bench = Bench::new();
    let hook = bench.script("hook", "kill -SEGV $$");
    assert_eq!(bench.outcome(hook), Outcome::Killed(11));
    bench.logged("hook killed by signal 11");
}

#[test]
fn a_hook_that_takes_too_long_gets_sigterm() {
    let mut bench = Bench::new();
    let mut hook = bench.script("hook", "trap 'echo ended >ended; exit 0' TERM; sleep 1000 & wait");
    hook.timeout = Duration::from_millis(300);
    assert_eq!(bench.outcome(hook), Outcome::TimedOut);
    assert_eq!(bench.left("ended"), "ended\n");
    bench.logged("hook took too long");
}

#[test]
fn a_hook_that_ignores_sigterm_is_killed_with_its_process_group() {
    let mut bench = Bench::new();
    let mut hook = bench.script(
        "hook",
        "trap '' TERM; sh -c 'echo $$ >child; sleep 1000; sleep 1000' & echo $$ >parent; \
         while :; do sleep 1; done",
    );
    hook.timeout = Duration::from_millis(300);
    let begin = Instant::now();
    assert_eq!(bench.outcome(hook), Outcome::TimedOut);
    assert!(begin.elapsed() >= Duration::from_secs(2), "no time was left for it to end");
    let (parent, child) = (bench.pid_left("parent"), bench.pid_left("child"));
    until("both are gone", || !is_alive(parent) && !is_alive(child));
}

#[test]
fn a_hook_that_takes_too_long_ends_with_all_that_it_started_in_whatever_session() {
    let mut bench = Bench::new();
    let mut hook = bench.script(
        "hook",
        "deaf='trap \"\" TERM HUP; echo $$ >$0; while :; do sleep 1; done'\n\
         setsid sh -c \"$deaf\" session & (setsid sh -c \"$deaf\" orphan &)\n\
         (setsid sh -c 'trap \"echo ended >ended; exit\" TERM; echo $$ >polite; sleep 1000 & wait' &)\n\
         sleep 1000",
    );
    hook.timeout = Duration::from_secs(2);
    assert_eq!(bench.outcome(hook), Outcome::TimedOut);
    let left = ["session", "orphan", "polite"].map(|name| bench.pid_left(name));
    let alive = left.map(is_alive);
    let _ = left.map(|pid| kill(pid, Signal::SIGKILL));
    assert_eq!(alive, [false; 3]);
    assert_eq!(bench.left("ended"), "ended\n");
}

#[test]
fn background_processes_of_a_hook_are_neither_killed_nor_waited_for() {
    let mut bench = Bench::new();
    let hook = bench.script(
        "hook",
        "(while :; do echo noise; sleep 0.02; done) & echo $! >child; echo the last words",
    );
    assert_eq!(bench.outcome(hook), Outcome::Done);
    bench.logged("the last words");
    let child = bench.pid_left("child");
    sleep(Duration::from_millis(500));
    let alive = is_alive(child);
    kill(child, Signal::SIGKILL).unwrap();
    assert!(alive, "its output was closed under it");
}

#[test]
fn the_helper_reaps_what_hooks_leave_in_the_background() {
    let mut bench = Bench::new();
    let stays = bench.script("stays", "sleep 1000 & echo $! >stays.pid");
    let end = bench.script("end", "for n in 1 2 3 4 5; do sleep 0.0$n & done");
    assert_eq!(bench.outcome(stays), Outcome::Done);
    for _ in 0..5 {
        assert_eq!(bench.outcome(end.clone()), Outcome::Done);
    }
    let (child, helper) = (bench.pid_left("stays.pid"), bench.helper().pid());
    let children = || {
        let list = fs::read_to_string(format!("/proc/{helper}/task/{helper}/children")).unwrap();
        list.trim().to_owned()
    };
    let begin = Instant::now();
    while children() != child.to_string() && begin.elapsed() < Duration::from_secs(5) {
        sleep(Duration::from_millis(20));
    }
    let orphans = children();
    kill(child, Signal::SIGKILL).unwrap();
    assert_eq!(orphans, child.to_string());
    until("it is reaped", || children().is_empty());
}

#[test]
fn of_a_flood_of_output_the_beginning_is_logged_and_the_rest_counted() {
    let mut bench = Bench::new();
    let hook = bench.script(
        "hook",
        "head -c 5000 /dev/zero | tr '\\0' x; echo\n\
         yes 'the same again' | head -n 200000\n\
         printf 'no newline'",
    );
    assert_eq!(bench.outcome(hook), Outcome::Done);
    bench.logged("199902 more lines of output are not logged");
    let log = bench.log();
    assert!(log.contains(&format!("{}... (cut)", "x".repeat(1000))));
    assert!(!log.contains(&"x".repeat(1001)));
    assert_eq!(log.lines().filter(|line| line.contains("the same again")).count(), 99);
}

#[test]
fn a_flood_without_end_is_ended_in_time() {
    let mut bench = Bench::new();
    let flood = HookCommand { timeout: Duration::from_millis(300), ..command(["yes"]) };
    assert_eq!(bench.outcome(flood), Outcome::TimedOut);
    bench.logged("more lines of output are not logged");
}

#[test]
fn more_than_one_message_holds_is_reported_and_a_thousand_addresses_are_not_too_many() {
    let mut bench = Bench::new();
    let mut run = HookRun {
        router: "web".into(),
        group: false,
        number: 1,
        state: Hook::Master,
        previous: "backup".into(),
        reason: "nobody was heard".into(),
        priority: 150,
        addresses: (0..1000)
            .map(|host| Ipv6Addr::from((0x2001_0db8_u128 << 96) + host).into())
            .collect(),
        interface: "eth0".into(),
        commands: vec![bench.script("hook", "echo $VIPD_ADDRESSES | wc -w >count")],
        notify: None,
    };
    bench.helper().run(run.clone());
    assert_eq!(bench.reports(1), [(1, Outcome::Done)]);
    assert_eq!(bench.left("count"), "1000\n");
    run.commands[0].argv.push("x".repeat(300_000));
    bench.helper().run(run);
    assert!(matches!(&bench.reports(1)[0].1, Outcome::NotRun(why) if why.contains("one message")));
    assert!(bench.helper().idle());
}

#[test]
fn a_hook_that_cannot_be_trusted_or_run_is_refused_with_the_reason() {
    let mut bench = Bench::new();
    let refused = |bench: &mut Bench, command: HookCommand, reason: &str| {
        let Outcome::NotRun(why) = bench.outcome(command) else {
            panic!("not refused: {reason}");
        };
        assert!(why.contains(reason), "{why:?} instead of {reason:?}");
        bench.logged(&format!("hook not run: {why}"));
    };
    let mode = |command: &HookCommand, mode| {
        fs::set_permissions(&command.argv[0], PermissionsExt::from_mode(mode)).unwrap();
    };

    refused(&mut bench, command(["/nowhere/hook"]), "there is no program `/nowhere/hook`");
    refused(
        &mut bench,
        command(["no-such-program-anywhere"]),
        "it is looked for in /usr/local/sbin",
    );
    refused(&mut bench, command(["./hook"]), "there is no program `./hook`");
    refused(&mut bench, command(["/etc"]), "this is a directory");
    refused(&mut bench, command([]), "no program is named");
    refused(&mut bench, command(["nul\0byte"]), "there is no program");

    let hook = bench.script("hook", "touch ran");
    mode(&hook, 0o644);
    refused(&mut bench, hook.clone(), "cannot be executed by");
    mode(&hook, 0o757);
    refused(&mut bench, hook.clone(), "everybody may write");
    mode(&hook, 0o755);
    fs::create_dir(bench.path("open")).unwrap();
    let inside = bench.script("open/hook", "touch ran");
    fs::set_permissions(bench.path("open"), PermissionsExt::from_mode(0o777)).unwrap();
    refused(&mut bench, inside, "/open`, and so change what we run");
    let alone = FORKING.lock();
    fs::write(bench.path("hook"), "#!/etc/passwd\n").unwrap();
    drop(alone);
    refused(&mut bench, hook.clone(), "cannot be executed");
    let nobody_known = HookCommand { user: Some("no-such-user".into()), ..hook };
    refused(&mut bench, nobody_known, "there is no user \"no-such-user\"");
    assert!(!bench.path("ran").exists());
}

#[test]
fn a_program_without_a_path_is_searched_in_the_usual_directories() {
    let mut bench = Bench::new();
    assert_eq!(bench.outcome(command(["true"])), Outcome::Done);
    assert_eq!(bench.outcome(command(["false"])), Outcome::Exited(1));
}

#[test]
fn superseded_states_are_skipped_and_the_last_hook_matches_the_last_state() {
    let mut bench = Bench::new();
    let hook =
        bench.script("hook", "until [ -e go ]; do sleep 0.01; done; echo $VIPD_STATE >>said");
    let first = bench.run(Hook::Master, vec![hook.clone()]);
    sleep(Duration::from_millis(100));
    let second = bench.run(Hook::Backup, vec![hook.clone()]);
    let third = bench.run(Hook::Fault, vec![hook.clone()]);
    let last = bench.run(Hook::Backup, vec![hook]);
    assert_eq!(bench.reports(2), [(second, Outcome::Overtaken), (third, Outcome::Overtaken)]);
    assert!(!bench.helper().idle());
    fs::write(bench.path("go"), "").unwrap();
    assert_eq!(bench.reports(2), [(first, Outcome::Done), (last, Outcome::Done)]);
    assert_eq!(bench.left("said"), "master\nbackup\n");
}

#[test]
fn a_stop_and_a_hook_before_a_release_always_run() {
    let mut bench = Bench::new();
    let hook =
        bench.script("hook", "until [ -e go ]; do sleep 0.01; done; echo $VIPD_STATE >>said");
    bench.run(Hook::Backup, vec![hook.clone()]);
    sleep(Duration::from_millis(100));
    let overtaken = bench.run(Hook::Master, vec![hook.clone()]);
    bench.run(Hook::BeforeRelease, vec![hook.clone()]);
    let also = bench.run(Hook::Backup, vec![hook.clone()]);
    bench.run(Hook::Stop, vec![hook.clone()]);
    bench.run(Hook::Fault, vec![hook]);
    assert_eq!(bench.reports(2), [(overtaken, Outcome::Overtaken), (also, Outcome::Overtaken)]);
    fs::write(bench.path("go"), "").unwrap();
    bench.reports(4);
    assert_eq!(bench.left("said"), "backup\nbefore_release\nstop\nfault\n");
}

#[test]
fn a_hook_before_a_claim_waits_for_its_turn_and_is_skipped_when_the_claim_is_off() {
    let mut bench = Bench::new();
    let hook =
        bench.script("hook", "until [ -e go ]; do sleep 0.01; done; echo $VIPD_STATE >>said");
    bench.run(Hook::Backup, vec![hook.clone()]);
    sleep(Duration::from_millis(100));
    let asked = bench.run(Hook::BeforeClaim, vec![hook.clone()]);
    let again = bench.run(Hook::BeforeClaim, vec![hook.clone()]);
    assert_eq!(bench.reports(1), [(asked, Outcome::Overtaken)]);
    let last = bench.run(Hook::Fault, vec![hook.clone()]);
    assert_eq!(bench.reports(1), [(again, Outcome::Overtaken)]);
    let asked = bench.run(Hook::BeforeClaim, vec![hook]);
    fs::write(bench.path("go"), "").unwrap();
    assert_eq!(bench.reports(3)[1..], [(last, Outcome::Done), (asked, Outcome::Done)]);
    assert_eq!(bench.left("said"), "backup\nfault\nbefore_claim\n");
}

#[test]
fn hooks_of_a_group_get_its_name_as_their_group() {
    let mut bench = Bench::new();
    let hook = bench.script("hook", "echo $VIPD_GROUP, $VIPD_ROUTER: $* >>said");
    let run = HookRun {
        router: "gateway".into(),
        group: true,
        number: 1,
        state: Hook::Master,
        previous: "backup".into(),
        reason: "its sync group took over".into(),
        priority: 150,
        addresses: vec!["192.0.2.10".parse().unwrap(), "198.51.100.10".parse().unwrap()],
        interface: "eth0 eth1".into(),
        commands: vec![hook.clone()],
        notify: Some(hook),
    };
    bench.helper().run(run);
    assert_eq!(bench.reports(1), [(1, Outcome::Done)]);
    let said = bench.left("said");
    assert_eq!(said, "gateway, gateway:\ngateway, gateway: GROUP gateway MASTER 150\n");
}

#[test]
fn hooks_of_one_router_never_overlap_and_those_of_two_routers_do() {
    let mut bench = Bench::new();
    let alone = bench.script(
        "alone",
        "mkdir busy || echo overlap >>said; sleep 0.1; rmdir busy; echo $VIPD_STATE >>said",
    );
    for state in [Hook::Master, Hook::Stop, Hook::Fault] {
        bench.run(state, vec![alone.clone(), alone.clone()]);
        sleep(Duration::from_millis(20));
    }
    bench.reports(3);
    assert_eq!(bench.left("said"), "master\nmaster\nstop\nstop\nfault\nfault\n");

    let meet = bench.script(
        "meet",
        "touch $VIPD_ROUTER; until [ -e inside ] && [ -e outside ]; do sleep 0.01; done",
    );
    bench.run_of("inside", Hook::Master, vec![meet.clone()], None);
    bench.run_of("outside", Hook::Master, vec![meet], None);
    assert!(bench.reports(2).iter().all(|(_, outcome)| *outcome == Outcome::Done));
}

#[test]
fn a_hook_inherits_nothing_of_the_daemon() {
    if !is_root("a_hook_inherits_nothing_of_the_daemon") {
        return;
    }
    // The worst that a parent may leave: signals ignored, and an open file descriptor.
    let mut bench = Bench::with_inherited_state(
        "trap '' HUP USR1 PIPE; umask 077; exec 9</dev/null; \
         exec setpriv --inh-caps +net_admin,+sys_nice --ambient-caps +net_admin,+sys_nice",
    );
    let look = bench.script(
        "look",
        "echo scheduling $(cut -d' ' -f41 /proc/self/stat) >>seen.tmp\n\
         echo umask $(umask) >>seen.tmp\n\
         echo own $$ $(cut -d' ' -f5,6 /proc/$$/stat) >>seen.tmp\n\
         for fd in 0 1 2 9; do [ ! -e /proc/$$/fd/$fd ] || echo descriptor $fd; done >>seen.tmp\n\
         grep -E '^(Cap|Sig(Blk|Ign)|Uid|Gid)' /proc/self/status >>seen.tmp\n\
         readlink /proc/self/fd/0 >>seen.tmp; mv seen.tmp seen",
    );
    assert_eq!(bench.outcome(look), Outcome::Done);
    let seen = bench.left("seen");
    for none in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "SigBlk"] {
        assert!(seen.contains(&format!("{none}:\t0000000000000000\n")), "{none} in\n{seen}");
    }
    // Signals 32 and 33 belong to the C library and cannot be changed.
    let ignored = seen.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !(0b11 << 31), 0, "{seen}");
    assert!(seen.contains("scheduling 0\n"), "{seen}");
    assert!(seen.contains("umask 0022\n"), "{seen}");
    assert!(seen.contains("Uid:\t0\t0\t0\t0\n"), "{seen}");
    assert!(seen.ends_with("/dev/null\n"), "{seen}");
    let own = seen.lines().find_map(|line| line.strip_prefix("own ")).unwrap();
    let own: Vec<&str> = own.split(' ').collect();
    assert_eq!(own, [own[0]; 3], "a process group and a session of its own");
    assert!(seen.contains("descriptor 2\n") && !seen.contains("descriptor 9\n"), "{seen}");

    // The helper keeps the capabilities to switch users and to see processes, and none of the
    // network.
    let status = fs::read_to_string(format!("/proc/{}/status", bench.helper().pid())).unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t00000000000801e0\n")), "{status}");
    }
    assert!(status.contains("CapAmb:\t0000000000000000\n"), "{status}");
}

#[test]
fn a_hook_of_root_has_no_capability_where_the_bounding_set_cannot_be_emptied() {
    if !is_root("a_hook_of_root_has_no_capability_where_the_bounding_set_cannot_be_emptied") {
        return;
    }
    // As in a container.
    let mut bench = Bench::with_inherited_state("exec setpriv --bounding-set -setpcap");
    let look = bench.script(
        "look",
        "for process in $$ self; do grep -E '^(Cap|NoNewPrivs)' /proc/$process/status; done >seen.tmp\n\
         mv seen.tmp seen",
    );
    assert_eq!(bench.outcome(look), Outcome::Done);
    let seen = bench.left("seen");
    for none in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(seen.matches(&format!("{none}:\t0000000000000000\n")).count(), 2, "{seen}");
    }
    assert!(!seen.contains("CapBnd:\t0000000000000000\n"), "{seen}");
    assert_eq!(seen.matches("NoNewPrivs:\t1\n").count(), 2, "{seen}");
}

#[test]
fn a_set_user_id_program_gives_a_hook_nothing() {
    if !is_root("a_set_user_id_program_gives_a_hook_nothing") {
        return;
    }
    let mut bench = Bench::new();
    let alone = FORKING.lock();
    fs::copy("/usr/bin/id", bench.path("id")).unwrap();
    drop(alone);
    fs::set_permissions(bench.path("id"), PermissionsExt::from_mode(0o4755)).unwrap();
    let hook = bench.script("hook", "./id -un");
    assert_eq!(bench.outcome(HookCommand { user: Some("nobody".into()), ..hook }), Outcome::Done);
    bench.logged("hook done");
    assert!(bench.log().contains(" nobody "), "{}", bench.log());
}

#[test]
fn a_hook_runs_as_its_user_with_a_fresh_environment() {
    if !is_root("a_hook_runs_as_its_user_with_a_fresh_environment") {
        return;
    }
    let mut bench = Bench::new();
    let mut hook = bench.script(
        "hook",
        "echo ids $(id -u) $(id -g) $(id -G)\n\
         for name in HOME LOGNAME SHELL USER; do eval echo $name=\\$$name; done\n\
         grep -E '^(Cap|Uid|Gid|Groups)' /proc/$$/status | tr -s ' \\t' ' '",
    );
    hook.user = Some("nobody".into());
    assert_eq!(bench.outcome(hook), Outcome::Done);
    bench.logged("hook done");
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (user.uid, user.gid);
    let log = bench.log();
    for line in [
        format!("ids {uid} {gid} {gid}"),
        format!("HOME={}", user.dir.display()),
        "LOGNAME=nobody".into(),
        "USER=nobody".into(),
        format!("SHELL={}", user.shell.display()),
        format!("Uid: {uid} {uid} {uid} {uid}"),
        format!("Gid: {gid} {gid} {gid} {gid}"),
        "CapEff: 0000000000000000".into(),
        "CapBnd: 0000000000000000".into(),
        "CapAmb: 0000000000000000".into(),
    ] {
        assert!(log.contains(&line), "{line} is not in\n{log}");
    }

    // Also a script that this user may not execute, and one that is killed.
    let private = bench.script("private", "true");
    fs::set_permissions(&private.argv[0], PermissionsExt::from_mode(0o700)).unwrap();
    let outcome = bench.outcome(HookCommand { user: Some("nobody".into()), ..private });
    assert!(
        matches!(&outcome, Outcome::NotRun(why) if why.contains("cannot be executed by the user `nobody`")),
        "{outcome:?}"
    );
    let user = Some("nobody".to_owned());
    let slow =
        HookCommand { user, timeout: Duration::from_millis(300), ..command(["sleep", "1000"]) };
    let begin = Instant::now();
    assert_eq!(bench.outcome(slow), Outcome::TimedOut);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn hooks_end_with_the_daemon() {
    let mut bench = Bench::new();
    let polite = bench
        .script("polite", "trap 'echo ended >ended; exit' TERM; echo $$ >first; sleep 1000 & wait");
    let stubborn = bench.script(
        "stubborn",
        "trap '' TERM; sh -c 'echo $$ >third; sleep 1000; :' & echo $$ >second; while :; do sleep 1; done",
    );
    bench.run_of("a", Hook::Master, vec![polite], None);
    bench.run_of("b", Hook::Master, vec![stubborn], None);
    let processes = ["first", "second", "third"].map(|name| bench.pid_left(name));
    let helper = Pid::from_raw(bench.helper().pid().cast_signed());
    bench.helper.take().unwrap().end();
    assert!(!is_alive(helper));
    assert_eq!(bench.left("ended"), "ended\n");
    bench.logged("hook was ended with the daemon");
    until("all are gone", || !processes.iter().any(|process| is_alive(*process)));
}

#[test]
fn a_helper_without_hooks_ends_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.outcome(command(["true"])), Outcome::Done);
    let begin = Instant::now();
    bench.helper.take().unwrap().end();
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[test]
fn signals_meant_for_the_daemon_leave_the_helper_and_its_hooks_alone() {
    let mut bench = Bench::new();
    assert_eq!(bench.outcome(command(["true"])), Outcome::Done);
    let helper = Pid::from_raw(bench.helper().pid().cast_signed());
    assert_eq!(nix::unistd::getpgid(Some(helper)).unwrap(), helper);
    let hook = bench.script("hook", "echo $$ >running; until [ -e go ]; do sleep 0.01; done");
    let number = bench.run(Hook::Master, vec![hook]);
    bench.left("running");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2] {
        kill(helper, signal).unwrap();
    }
    sleep(Duration::from_millis(200));
    fs::write(bench.path("go"), "").unwrap();
    assert_eq!(bench.reports(1), [(number, Outcome::Done)]);
}

#[test]
fn a_helper_that_dies_is_noticed_and_no_run_is_forgotten() {
    let mut bench = Bench::new();
    let hook = bench.script("hook", "echo $$ >running; exec sleep 1000");
    bench.run(Hook::Master, vec![hook.clone()]);
    bench.run(Hook::Backup, vec![hook]);
    let running = bench.pid_left("running");
    kill(Pid::from_raw(bench.helper().pid().cast_signed()), Signal::SIGKILL).unwrap();
    let mut reports = Vec::new();
    until("the death is noticed", || {
        bench.helper().poll(|finished| reports.push(finished)).is_err()
    });
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|finished| matches!(finished.outcome, Outcome::NotRun(_))));
    until("the hook has ended too", || !is_alive(running));
    bench.run(Hook::Fault, Vec::new());
    assert!(bench.helper().poll(|finished| reports.push(finished)).is_err());
    assert_eq!(reports.len(), 3);
    assert!(bench.helper().idle());
}

#[test]
fn a_helper_that_does_not_read_never_blocks_the_daemon() {
    let mut bench = Bench::new();
    let hook = bench.script("hook", "echo $VIPD_STATE >>said");
    assert_eq!(bench.outcome(command(["true"])), Outcome::Done);
    let helper = Pid::from_raw(bench.helper().pid().cast_signed());
    kill(helper, Signal::SIGSTOP).unwrap();
    for _ in 0..5000 {
        bench.run(Hook::Master, vec![hook.clone()]);
        bench.run(Hook::Fault, vec![hook.clone()]);
    }
    let last = bench.run(Hook::Backup, vec![hook]);
    assert!(bench.helper().wants_write());
    kill(helper, Signal::SIGCONT).unwrap();
    let reports = bench.reports(10_001);
    assert_eq!(reports.last(), Some(&(last, Outcome::Done)));
    assert!(bench.left("said").ends_with("backup\n"));
    assert!(bench.helper().idle());
}
