//! A user without privileges on the host of a daemon: he cannot stop it, delay it, or make it write
//! where he wants to.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::fault::{SHARED, SOON, VIPD, expect_master, expect_no_gap, spec, start};
use crate::lab::{Daemon, Host, Lab, wait_for};
use crate::suite::{Test, TestResult, programs, tests};

/// Who attacks.
const NOBODY: u32 = 65534;
/// The files of vipd, with the directories that they are in.
const FILES: [(&str, &str); 7] = [
    ("run", "vipd.pid"),
    ("run", "record"),
    ("run", "addresses"),
    ("run", "starts"),
    ("run", "drained.new"),
    ("state", "events.jsonl"),
    ("state", "drained.new"),
];

pub fn tests() -> Vec<Test> {
    tests![
        nobody_else_can_take_the_locks,
        the_files_of_a_daemon_are_for_root_alone,
        directories_that_others_can_change_are_refused,
        a_configuration_that_others_can_change_is_refused,
        a_daemon_without_locks_serves_and_warns,
    ]
}

/// Takes the names under which earlier versions locked their virtual routers, and lets whoever asks
/// who has them wait for ever.
const SQUATTER: &str = r#"
    use Socket qw(:DEFAULT SOCK_NONBLOCK);
    my @kept;
    for my $vrid (51, 52) {
        my $name = pack_sockaddr_un("\0vipd/eth0/IPv4/$vrid");
        socket(my $listener, AF_UNIX, SOCK_STREAM, 0) or die;
        bind($listener, $name) or die "bind: $!";
        listen($listener, 0) or die;
        push @kept, $listener;
        while (1) {
            socket(my $client, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0) or die;
            connect($client, $name) or last;
            push @kept, $client;
        }
    }
    $| = 1;
    print "ready\n";
    sleep 1000;
"#;

fn nobody_else_can_take_the_locks() -> TestResult {
    needed()?;
    let lab = Lab::new().unwrap();
    let a = open_to_all(&lab);
    let mut squatter = Command::new("setpriv");
    squatter.args(UNPRIVILEGED).args(["perl", "-e", SQUATTER]);
    let log = a.dir().join("squatter.log");
    let mut squatter = Daemon::spawn(&a, &squatter, log.clone(), log).unwrap();
    let ready = wait_for(SOON, || squatter.log().contains("ready").then_some(()));
    assert!(ready.is_some(), "{}", squatter.log());

    let mut daemon = start(&a, &[spec(150)]);
    expect_master(&lab, "a", &[&daemon]);
    let began = Instant::now();
    // A reload takes more locks, in the middle of the adverts.
    let text = fs::read_to_string(daemon.config()).unwrap();
    let second = text.split_once("[[virtual_router]]").unwrap().1;
    let second = second.replace("vrid = 51", "vrid = 52").replace("192.0.2.100", "192.0.2.101");
    let second = second.replace("name = \"", "name = \"second-");
    fs::write(daemon.config(), format!("{text}[[virtual_router]]{second}")).unwrap();
    daemon.signal(Signal::SIGHUP).unwrap();
    let more = "192.0.2.101".parse().unwrap();
    let applied = wait_for(SOON, || (lab.owners(more) == ["a"]).then_some(()));
    assert!(applied.is_some(), "{}", daemon.log());
    let ended = Instant::now();
    assert_eq!(lab.ownership(SHARED, began, ended).changes, 0, "{}", daemon.log());
    expect_no_gap(&lab, began, ended);

    // The locks themselves: neither to be opened nor to be replaced.
    let file = a.lock_dir().join("routers");
    for attack in ["exec 9<\"$0\" && flock -s -n 9", "cat \"$0\"", "rm -f \"$0\"", "mv \"$0\" x"] {
        let tried = nobody(&["sh", "-c", attack, file.to_str().unwrap()]);
        assert!(!tried.status.success(), "{attack}");
    }

    let cleanup = || {
        let mut command = Command::new(VIPD);
        command.arg("cleanup").arg("--config").arg(daemon_config(&a));
        command.arg("--runtime-dir").arg(a.dir().join("elsewhere"));
        command.arg("--lock-dir").arg(a.lock_dir());
        ended_of(&a, &command)
    };
    let (status, said) = cleanup();
    let holder = format!("another vipd on this host (pid {})", daemon.pid());
    assert!(status == Some(1) && said.contains(&holder), "{status:?} {said}");
    daemon.crash();
    let (status, said) = cleanup();
    assert_eq!(status, Some(0), "{said}");
    // What a killed daemon leaves does not keep the next one away.
    let daemon = start(&a, &[spec(150)]);
    expect_master(&lab, "a", &[&daemon]);
    assert!(squatter.is_running());
    Ok(())
}

fn the_files_of_a_daemon_are_for_root_alone() -> TestResult {
    needed()?;
    let lab = Lab::new().unwrap();
    let a = open_to_all(&lab);
    // As an earlier version made them.
    let (run, state) = (a.runtime_dir().unwrap(), a.dir().join("state"));
    fs::create_dir_all(&state).unwrap();
    for (path, text) in [(run.join("vipd.pid"), "1\n"), (state.join("events.jsonl"), "")] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let mut command = Command::new("sh");
    let arguments = "umask 022; exec \"$@\"";
    command.args(["-c", arguments, "sh"]).args(daemon_arguments(&a, &run, &state));
    fs::write(daemon_config(&a), configuration()).unwrap();
    let log = a.dir().join("vipd.log");
    let mut daemon = Daemon::spawn(&a, &command, daemon_config(&a), log).unwrap();
    expect_master(&lab, "a", &[&daemon]);
    // It fails as nobody takes over, and is stored all the same.
    let _ = crate::scenario::vipd(&a, &["drain"]);
    let mut seen = Vec::new();
    for directory in [&run, &state, &a.lock_dir()] {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().mode() & 0o777;
            let wanted = if path.ends_with("control.sock") { 0o660 } else { 0o600 };
            assert_eq!(mode, wanted, "{mode:o} {}", path.display());
            seen.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    seen.sort();
    let known = ["addresses", "control.sock", "drained", "events.jsonl", "record", "routers"];
    assert_eq!(seen, [&known[..], &["vipd.pid"]].concat());

    let pid_file = run.join("vipd.pid").display().to_string();
    let tried = nobody(&["flock", "-s", "-n", &pid_file, "true"]);
    assert!(!tried.status.success(), "a lock of nobody would keep the next daemon away");
    daemon.crash();
    let mut next = start(&a, &[spec(150)]);
    let runs = wait_for(SOON, || next.log().matches("vipd is running").nth(1).map(drop));
    assert!(runs.is_some() && next.is_running(), "{}", next.log());
    Ok(())
}

fn directories_that_others_can_change_are_refused() -> TestResult {
    needed()?;
    let lab = Lab::new().unwrap();
    let a = open_to_all(&lab);
    fs::write(daemon_config(&a), configuration()).unwrap();
    let victims = a.dir().join("victims");
    fs::create_dir(&victims).unwrap();
    // Who owns the parent, the directory, its mode, and which of the two directories it is about.
    let cases = [
        (0, NOBODY, 0o755, "run", "belongs to user 65534"),
        (0, NOBODY, 0o755, "state", "belongs to user 65534"),
        (NOBODY, 0, 0o755, "run", "belongs to user 65534"),
        (NOBODY, 0, 0o755, "state", "belongs to user 65534"),
        (0, 0, 0o777, "run", "everybody may write"),
        (0, 0, 0o1777, "run", "everybody may write"),
        (0, 0, 0o777, "state", "everybody may write"),
        // The directories are root's now, and what somebody put there before is not followed.
        (0, 0, 0o755, "both", ""),
    ];
    for (number, (parent_owner, owner, mode, which, why)) in cases.into_iter().enumerate() {
        let parent = a.dir().join(number.to_string());
        for name in ["run", "state"] {
            fs::create_dir_all(parent.join(name)).unwrap();
        }
        let mut planted = Vec::new();
        for (directory, file) in FILES.iter().filter(|(name, _)| [*name, "both"].contains(&which)) {
            let victim = victims.join(format!("{number}-{directory}-{file}"));
            fs::write(&victim, "precious").unwrap();
            symlink(&victim, parent.join(directory).join(file)).unwrap();
            planted.push(victim);
        }
        if which != "both" {
            let directory = parent.join(which);
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
            chown(&directory, Some(owner), None).unwrap();
            chown(&parent, Some(parent_owner), None).unwrap();
        }
        let mut command = Command::new("env");
        command.args(daemon_arguments(&a, &parent.join("run"), &parent.join("state")));
        let (status, said) = ended_of(&a, &command);
        assert_eq!(status, Some(1), "{number}: {said}");
        assert!(said.contains(why), "{number}: {said}");
        if which == "both" {
            assert!(said.contains("vipd.pid is a symbolic link"), "{said}");
        }
        for victim in planted {
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{}", victim.display());
        }
    }
    Ok(())
}

fn a_configuration_that_others_can_change_is_refused() -> TestResult {
    needed()?;
    let lab = Lab::new().unwrap();
    let a = open_to_all(&lab);
    let path = |name: &str| a.dir().join(name);
    for directory in ["open", "of-nobody"] {
        fs::create_dir(path(directory)).unwrap();
    }
    let text = configuration();
    for name in ["good.toml", "of-another.toml", "open/vipd.toml"] {
        fs::write(path(name), &text).unwrap();
    }
    chown(path("of-another.toml"), Some(995), None).unwrap();
    fs::set_permissions(path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    // The file itself is root's, but not the link on the way to it.
    symlink(path("good.toml"), path("of-nobody/link.toml")).unwrap();
    symlink(path("of-nobody/link.toml"), path("link.toml")).unwrap();
    chown(path("of-nobody"), Some(NOBODY), None).unwrap();
    let refused = [
        ("of-another.toml", "of-another.toml` belongs to user 995"),
        ("open/vipd.toml", "everybody may write"),
        ("link.toml", "of-nobody` belongs to user 65534"),
    ];
    for (name, why) in refused {
        for line in [vec!["run", "--config"], vec!["check"]] {
            let mut command = Command::new(VIPD);
            command.args(&line).arg(path(name));
            if line[0] == "run" {
                command.arg("--runtime-dir").arg(a.runtime_dir().unwrap());
                command.arg("--state-dir").arg(path("state"));
            }
            let (status, said) = ended_of(&a, &command);
            assert!(status == Some(1) && said.contains(why), "{line:?} {name}: {status:?} {said}");
        }
    }
    // A file for another machine may be anybody's.
    let mut command = Command::new(VIPD);
    command.args(["check", "--file-only"]).arg(path("of-another.toml"));
    assert_eq!(ended_of(&a, &command).0, Some(0));
    // Who is not root is told what root would be told.
    let program = path("vipd");
    fs::copy(VIPD, &program).unwrap();
    let own = path("own.toml");
    fs::write(&own, &text).unwrap();
    chown(&own, Some(NOBODY), None).unwrap();
    let said = nobody(&[program.to_str().unwrap(), "check", own.to_str().unwrap()]);
    let notes = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{notes}");
    let expected = format!("root would refuse to run this: `{}` belongs to", own.display());
    assert!(notes.contains(&expected), "{notes}");
    let good = path("good.toml");
    let said = nobody(&[program.to_str().unwrap(), "check", good.to_str().unwrap()]);
    let notes = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && !notes.contains("root would refuse"), "{notes}");

    // A reload refuses what a start refuses.
    let daemon = start(&a, &[spec(150)]);
    expect_master(&lab, "a", &[&daemon]);
    let began = Instant::now();
    chown(daemon.config(), Some(995), None).unwrap();
    daemon.signal(Signal::SIGHUP).unwrap();
    let refused = || daemon.log().contains("vipd.toml` belongs to user 995").then_some(());
    assert!(wait_for(SOON, refused).is_some(), "{}", daemon.log());
    chown(daemon.config(), Some(0), None).unwrap();
    daemon.signal(Signal::SIGHUP).unwrap();
    let applied = || daemon.log().contains("the configuration was applied").then_some(());
    assert!(wait_for(SOON, applied).is_some(), "{}", daemon.log());
    assert_eq!(lab.ownership(SHARED, began, Instant::now()).changes, 0, "{}", daemon.log());
    Ok(())
}

/// The locks protect from an error of the operator. That there can be none is no reason not to serve.
fn a_daemon_without_locks_serves_and_warns() {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    fs::write(daemon_config(&a), configuration()).unwrap();
    let (of_others, victim) = (a.dir().join("of-others"), a.dir().join("victim"));
    fs::create_dir(&of_others).unwrap();
    fs::set_permissions(&of_others, fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, of_others.join("routers")).unwrap();
    for (locks, why) in [
        (Path::new("/proc/nowhere"), "No such file or directory"),
        (&of_others, "everybody may write"),
    ] {
        let mut arguments = daemon_arguments(&a, &a.runtime_dir().unwrap(), &a.dir().join("state"));
        *arguments.last_mut().unwrap() = locks.display().to_string();
        let mut command = Command::new("env");
        command.args(arguments);
        let log = a.dir().join("log");
        let mut daemon = Daemon::spawn(&a, &command, daemon_config(&a), log).unwrap();
        expect_master(&lab, "a", &[&daemon]);
        assert!(daemon.log().contains(why), "{}", daemon.log());
        assert!(daemon.log().contains("WARN cannot use"), "{}", daemon.log());
        daemon.stop(SOON).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        let mut command = Command::new(VIPD);
        command.arg("cleanup").arg("--config").arg(daemon_config(&a));
        command.arg("--runtime-dir").arg(a.runtime_dir().unwrap()).arg("--lock-dir").arg(locks);
        let (status, said) = ended_of(&a, &command);
        assert!(status == Some(0) && said.contains(why), "{status:?} {said}");
    }
}

// ---- the attacker --------------------------------------------------------------------------------

const UNPRIVILEGED: [&str; 5] =
    ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];

/// Runs a program as a user without privileges.
fn nobody(argv: &[&str]) -> Output {
    Command::new("setpriv").args(UNPRIVILEGED).args(argv).output().unwrap()
}

fn needed() -> TestResult {
    // In a user namespace there may be no other user.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if map.split_whitespace().nth(2) != Some("4294967295") {
        return Err("only root can become another user".to_owned());
    }
    programs(&["setpriv", "perl", "flock"])
}

/// A host whose files everybody can reach, as far as their modes permit.
fn open_to_all(lab: &Lab) -> Host {
    let a = lab.host("a", 1).unwrap();
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    a
}

fn daemon_config(host: &Host) -> PathBuf {
    host.dir().join("vipd.toml")
}

fn configuration() -> String {
    let vipd = crate::lab::Program::Vipd(VIPD.into());
    crate::lab::configuration("a", &vipd, &[spec(150)])
}

fn daemon_arguments(host: &Host, run: &Path, state: &Path) -> Vec<String> {
    let show = |path: &Path| path.display().to_string();
    let option = |name: &str, path: &Path| [format!("--{name}"), show(path)];
    let mut arguments = vec![VIPD.to_owned(), "run".to_owned()];
    arguments.extend(option("config", &daemon_config(host)));
    arguments.extend(option("runtime-dir", run));
    arguments.extend(option("state-dir", state));
    arguments.extend(option("lock-dir", &host.lock_dir()));
    arguments
}

/// Runs a program that should end soon: its status, if it does, and what it says.
fn ended_of(host: &Host, command: &Command) -> (Option<i32>, String) {
    let log = host.dir().join("said");
    let _ = fs::remove_file(&log);
    let mut process = Daemon::spawn(host, command, log.clone(), log).unwrap();
    let status = process.wait(Duration::from_secs(5)).unwrap();
    (status.and_then(|status| status.code()), process.log())
}
