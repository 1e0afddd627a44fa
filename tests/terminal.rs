//! `vipd watch` and other output that depends on a terminal, in a real terminal: tmux.
//!
//! Needs tmux, and root or user namespaces. `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped into
//! failures.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

mod lab;
mod suite;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output};
use std::time::Duration;

use lab::{Daemon, Host, Lab, Program, RouterSpec, wait_for};
use suite::{programs, tests};
use vipd::cli::watch::Screen;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
/// A time limit for machines that are busy.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An argument of this program: take the terminal and panic.
const PANICS: &str = "take-the-terminal-and-panic";

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|first| first == PANICS) {
        let screen = Screen::open().unwrap();
        screen.draw(&["nobody is to read this".to_owned()]).unwrap();
        panic!("all is lost");
    }
    suite::main(3, |_| {
        let tests = tests![
            watch_counts_down_and_shows_changes_as_they_happen,
            watch_fits_whatever_size_the_terminal_has,
            watch_reports_a_stopped_daemon_and_reconnects,
            the_terminal_is_restored,
            a_panic_restores_the_terminal_and_shows_its_message,
            colours_are_used_on_terminals_only,
            errors_of_first_use_name_the_next_step,
        ];
        let tmux = programs(&["tmux"]);
        tests.into_iter().map(|test| test.needs(&tmux)).collect()
    })
}

// ---- watch -------------------------------------------------------------------------------------

fn watch_counts_down_and_shows_changes_as_they_happen() {
    let pair = Pair::new(Duration::from_secs(1));
    let _daemons = pair.run_both();
    let terminal = Terminal::open(&pair.b, 80, 24, &pair.command(&pair.b, "watch"));
    terminal.expect(|text| text.contains("web     backup    100"));
    // The countdown decreases.
    let left = || {
        let text = terminal.text();
        let (_, rest) = text.split_once("takeover ")?;
        rest.split_once('s')?.0.parse::<f64>().ok()
    };
    let mut seen = Vec::new();
    let counted = wait_for(TIMEOUT, || {
        seen.extend(left());
        seen.dedup();
        let down = seen.windows(2).filter(|pair| pair[1] < pair[0]).count();
        (down >= 4).then_some(())
    });
    assert!(counted.is_some(), "{seen:?}");
    assert!(seen.iter().all(|left| (0.0..=4.0).contains(left)), "{seen:?}");
    // A change is shown with its reason.
    assert!(!terminal.text().contains("backup -> master"));
    pair.vipd(&pair.a, &["failover", "web"]);
    terminal.expect(|text| {
        text.contains("web     master    100")
            && text.contains("advert ")
            && text.contains("LAST CHANGES\n")
            && unwrapped(text).contains("backup -> master: master 192.0.2.1 left (priority 0)")
    });
    // A single virtual router, with all its details.
    let one = Terminal::open(&pair.a, 80, 24, &pair.command(&pair.a, "watch web"));
    one.expect(|text| {
        text.contains("attention   HELD BACK") && text.contains("heard       192.0.2.2")
    });
    pair.vipd(&pair.a, &["resume", "web"]);
    one.expect(|text| text.contains("role        master") && !text.contains("HELD BACK"));
    let refused = pair.vipd(&pair.a, &["watch", "web"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("\"vipd status --json\""), "{}", stderr(&refused));
}

fn watch_fits_whatever_size_the_terminal_has() {
    let pair = Pair::new(Duration::from_millis(100));
    let _daemons = pair.run_both();
    let terminal = Terminal::open(&pair.b, 80, 24, &pair.command(&pair.b, "watch"));
    terminal.expect(|text| text.contains("q ends") && text.contains("LAST CHANGES"));
    terminal.resize("80", "6");
    terminal.expect(|text| {
        text.lines().count() == 6 && text.contains("... more than fits here; q ends")
    });
    // Text that does not fit into a row is shown below it, and no sentence is cut.
    terminal.resize("40", "40");
    terminal.expect(|text| {
        text.contains("LAST CHANGES")
            && text.lines().any(|line| line.trim() == "192.0.2.100")
            && unwrapped(text).contains("waiting -> backup: the daemon started")
    });
    terminal.resize("120", "30");
    terminal.expect(|text| text.contains("100        ") && text.contains("  192.0.2.100\n"));
}

fn watch_reports_a_stopped_daemon_and_reconnects() {
    let pair = Pair::new(Duration::from_millis(100));
    // Watch starts before the daemon.
    let terminal = Terminal::open(&pair.a, 80, 24, &pair.command(&pair.a, "watch"));
    terminal.expect(|text| text.contains("NO ANSWER: vipd is not running (no daemon in"));
    let mut daemon = pair.run(&pair.a);
    terminal.expect(|text| text.contains("web     master") && !text.contains("NO ANSWER"));
    daemon.signal_all(nix::sys::signal::Signal::SIGSTOP).unwrap();
    terminal.expect(|text| text.contains("NO ANSWER") && text.contains("s old; asking again"));
    daemon.signal_all(nix::sys::signal::Signal::SIGCONT).unwrap();
    terminal.expect(|text| !text.contains("NO ANSWER"));
    daemon.crash();
    terminal.expect(|text| text.contains("NO ANSWER: vipd is not running (no daemon in"));
    let _daemon = pair.run(&pair.a);
    terminal.expect(|text| text.contains("web     master") && !text.contains("NO ANSWER"));
}

/// The text with its line breaks removed.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A shell command that prints the terminal's settings before and after a command, and its status.
fn script(command: &str) -> String {
    format!("stty -g; {command}; echo \"ended $?\"; stty -g; sleep 1000")
}

fn expect_given_back(terminal: &Terminal, code: u8) -> String {
    let ended = format!("ended {code}\n");
    let modes = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.matches(':').count() > 10);
        lines.map(str::to_owned).collect()
    };
    let text = terminal.expect(|text| text.contains(&ended) && modes(text).len() == 2);
    let modes = modes(&text);
    assert_eq!(modes[0], modes[1], "{text}");
    assert!(!text.contains("q ends"), "{text}");
    // The cursor is visible again, and lines wrap.
    assert_eq!(terminal.asked("#{cursor_flag} #{wrap_flag} #{alternate_on}"), "1 1 0");
    text
}

fn the_terminal_is_restored() {
    let pair = Pair::new(Duration::from_millis(100));
    let _daemon = pair.run(&pair.a);
    for keys in ["q", "C-c", "Escape"] {
        let watch = script(&pair.command(&pair.a, "watch"));
        let terminal = Terminal::open(&pair.a, 120, 24, &watch);
        terminal.expect(|text| text.contains("web     master"));
        assert_eq!(terminal.asked("#{cursor_flag} #{wrap_flag} #{alternate_on}"), "0 0 1");
        terminal.press(keys);
        expect_given_back(&terminal, 0);
    }
    let pid = pair.lab.dir().join("pid");
    let watch = pair.command(&pair.a, "watch");
    let watch = script(&format!("sh -c 'echo $$ > {}; exec {watch}'", pid.display()));
    let terminal = Terminal::open(&pair.a, 120, 24, &watch);
    terminal.expect(|text| text.contains("web     master"));
    let pid = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    expect_given_back(&terminal, 0);
}

fn a_panic_restores_the_terminal_and_shows_its_message() {
    let pair = Pair::new(Duration::from_millis(100));
    let this = std::env::current_exe().unwrap();
    let panics = format!("RUST_BACKTRACE=0 {} {PANICS}", this.display());
    let terminal = Terminal::open(&pair.a, 120, 24, &script(&panics));
    let text = expect_given_back(&terminal, 101);
    assert!(text.contains("all is lost") && !text.contains("nobody is to read this"), "{text}");
}

fn colours_are_used_on_terminals_only() {
    let pair = Pair::new(Duration::from_millis(100));
    let _daemon = pair.run(&pair.a);
    let master = || pair.vipd(&pair.a, &["status", "--is", "master"]).status.success();
    wait_for(TIMEOUT, || master().then_some(())).unwrap();
    let status = pair.command(&pair.a, "status");
    let script = format!("{status}; NO_COLOR=1 {status} | tail -n +3; echo done; sleep 1000");
    let terminal = Terminal::open(&pair.a, 100, 24, &script);
    terminal.expect(|text| text.contains("done"));
    let text = terminal.captured(&["-e"]);
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("master  ")).collect();
    assert_eq!(rows.len(), 2, "{text}");
    assert!(rows[0].contains("\x1b[32mmaster"), "{text}");
    assert!(!rows[1].contains("\x1b["), "{text}");
}

// ---- the first hour ----------------------------------------------------------------------------

/// Commands and their answers, in order; every answer names the next step.
fn errors_of_first_use_name_the_next_step() {
    let pair = Pair::new(Duration::from_secs(1));
    let _other = pair.run(&pair.b);
    let is = |host, role| pair.vipd(host, &["status", "--is", role]).status.success();
    wait_for(TIMEOUT, || is(&pair.b, "master").then_some(())).unwrap();
    let wrong = pair.lab.dir().join("wrong.toml");
    let text = "[[virtual_router]]\nname = \"web\"\ninterface = \"eth0\"\nvird = 51\n\
                priority = 1500\naddresses = [\"192.0.2.100\"]\nadvert_interval = \"1 sek\"\n";
    fs::write(&wrong, text).unwrap();
    let mut said = String::new();
    let mut type_in = |host: &Host, arguments: &str, code: i32, expected: &[&str]| {
        let all: Vec<&str> = arguments.split(' ').collect();
        let output = match all[0] {
            "check" => in_namespace(host, &all),
            _ => pair.vipd(host, &all),
        };
        let answer = stdout(&output) + &stderr(&output);
        said += &format!("{}$ vipd {arguments}\n{answer}\n", host.name());
        assert_eq!(output.status.code(), Some(code), "{said}");
        for part in expected {
            assert!(answer.contains(part), "{part} is missing:\n{said}");
        }
    };
    let (a, b) = (&pair.a, &pair.b);
    // All three mistakes at once, each with its correction.
    let check = format!("check {}", wrong.display());
    let three = ["did you mean `vrid`", "1500", "\"1 sek\"", "\"1s\"", "3 problems in "];
    type_in(a, &check, 1, &three);
    type_in(a, "status", 1, &["vipd is not running (no daemon in", "start it with"]);
    let daemon = pair.run(a);
    let right = daemon.config().display().to_string();
    type_in(a, &format!("check {right}"), 0, &["ok"]);
    let master = || stdout(&pair.vipd(a, &["status"])).contains("web     master").then_some(());
    wait_for(TIMEOUT, master).unwrap();
    type_in(a, "status", 0, &["web     master    150", "lease ", "preempted master 192.0.2.2"]);
    type_in(b, "status web --is backup", 0, &[]);
    type_in(a, "drain", 0, &["until \"vipd undrain\"", "web: 192.0.2.2 took over after "]);
    type_in(a, "status", 0, &["DRAINED", "\"vipd undrain\" ends that"]);
    type_in(a, "undrain", 0, &["takes part again", "\"vipd status\""]);
    wait_for(TIMEOUT, master).unwrap();
    type_in(a, "failover web", 0, &["192.0.2.2 took over after ", "\"vipd resume web\""]);
    type_in(a, "failover web", 1, &["run \"vipd failover web\" there"]);
    type_in(a, "resume web", 0, &["takes over from 192.0.2.2 now"]);
    wait_for(TIMEOUT, master).unwrap();
    type_in(a, "failover wbe", 1, &["there is: web"]);
    let text = fs::read_to_string(&right).unwrap();
    fs::write(&right, text.replace("priority = 150", "priority = 140")).unwrap();
    type_in(a, "reload", 0, &["web: priority 150 -> 140"]);
    fs::write(&right, text.replace("priority = 150", "priority = 0")).unwrap();
    type_in(a, "reload", 1, &["the running one stays as it is", "priority"]);
    println!("{said}");
}

// ---- two hosts and a terminal ------------------------------------------------------------------

struct Pair {
    lab: Lab,
    a: Host,
    b: Host,
    interval: Duration,
}

impl Pair {
    fn new(interval: Duration) -> Self {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        Pair { lab, a, b, interval }
    }

    fn run(&self, host: &Host) -> Daemon {
        let priority = if host.name() == "a" { 150 } else { 100 };
        let mut spec = RouterSpec::new("192.0.2.100".parse().unwrap(), priority);
        spec.interval = self.interval;
        let program = Program::Vipd(VIPD.into());
        let daemon = Daemon::start(host, &program, std::slice::from_ref(&spec)).unwrap();
        let answers = || self.vipd(host, &["status"]).status.success().then_some(());
        wait_for(TIMEOUT, answers).unwrap_or_else(|| panic!("{}", daemon.log()));
        daemon
    }

    fn run_both(&self) -> (Daemon, Daemon) {
        let a = self.run(&self.a);
        let is = |host, role| self.vipd(host, &["status", "--is", role]).status.success();
        wait_for(TIMEOUT, || is(&self.a, "master").then_some(())).unwrap();
        let b = self.run(&self.b);
        wait_for(TIMEOUT, || is(&self.b, "backup").then_some(())).unwrap();
        (a, b)
    }

    /// As typed into a shell.
    fn command(&self, host: &Host, what: &str) -> String {
        format!("{VIPD} {what} --runtime-dir {}", host.runtime_dir().unwrap().display())
    }

    fn vipd(&self, host: &Host, arguments: &[&str]) -> Output {
        let dir = host.runtime_dir().unwrap();
        in_namespace(host, &[arguments, &["--runtime-dir", dir.to_str().unwrap()]].concat())
    }
}

fn in_namespace(host: &Host, arguments: &[&str]) -> Output {
    let mut command = Command::new(VIPD);
    command.args(arguments);
    host.namespace().run(move || command.output()).unwrap()
}

/// A tmux of its own with one window, in which a shell runs something. It ends with this.
struct Terminal {
    socket: PathBuf,
    server: Daemon,
}

impl Terminal {
    fn open(host: &Host, columns: u16, rows: u16, script: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("tmux-").tempdir_in(host.dir()).unwrap().keep();
        let socket = dir.join("socket");
        let mut command = Command::new("tmux");
        command.arg("-D").arg("-S").arg(&socket).args(["-f", "/dev/null"]);
        command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh").env("LC_ALL", "C.UTF-8");
        let log = dir.join("tmux.log");
        let server = Daemon::spawn(host, &command, PathBuf::new(), log).unwrap();
        let terminal = Terminal { socket, server };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let begun = || {
            let session = ["new-session", "-d", "-x", &columns, "-y", &rows, script];
            terminal.tmux(&session).status.success().then_some(())
        };
        wait_for(TIMEOUT, begun).unwrap_or_else(|| panic!("{}", terminal.server.log()));
        for option in [["status", "off"], ["window-size", "manual"]] {
            terminal.tmux(&[&["set", "-g"][..], &option].concat());
        }
        terminal.resize(&columns, &rows);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        // Without starting another server, which nothing would end.
        command.arg("-N").arg("-S").arg(&self.socket).args(arguments);
        command.env("LC_ALL", "C.UTF-8").output().unwrap()
    }

    fn captured(&self, how: &[&str]) -> String {
        stdout(&self.tmux(&[&["capture-pane", "-p"], how].concat()))
    }

    fn text(&self) -> String {
        self.captured(&[])
    }

    fn asked(&self, format: &str) -> String {
        stdout(&self.tmux(&["display-message", "-p", format])).trim().to_owned()
    }

    fn press(&self, key: &str) {
        assert!(self.tmux(&["send-keys", key]).status.success());
    }

    fn resize(&self, columns: &str, rows: &str) {
        let resized = self.tmux(&["resize-window", "-x", columns, "-y", rows]);
        assert!(resized.status.success(), "{}", stderr(&resized));
    }

    fn expect(&self, shown: impl Fn(&str) -> bool) -> String {
        let looked = || Some(self.text()).filter(|text| shown(text));
        wait_for(TIMEOUT, looked).unwrap_or_else(|| panic!("shown is:\n{}", self.text()))
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
