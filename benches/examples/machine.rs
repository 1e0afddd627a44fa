//! A server of the lab as a Debian machine: processes, host name, mounts and files of its own, so
//! that Debian's programs and the examples' files are where an operator has them, and so that one
//! signal is a power failure.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::lab::{Host, Lab, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The first process of a machine. It reaps orphaned processes.
const INIT: &str = r#"
set -e
mount --bind "$0/etc" /etc
mount --bind "$0/lib" /var/lib
mount --bind "$0/log" /var/log
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=1777 none /dev/shm
hostname "$1"
install -d -m 755 /run/vipd /run/haproxy
if getent passwd postgres >/dev/null; then
    install -d -m 2775 -o postgres -g postgres /run/postgresql
fi
for file in /etc/sysctl.d/90-vipd.conf; do
    [ ! -e "$file" ] || sysctl -q -p "$file"
done
touch /run/booted
while :; do sleep 1000; done
"#;

pub struct Machine {
    host: Host,
    /// Where its files are while it is off.
    root: PathBuf,
    /// `unshare`, whose child is the first process; `None`: it is off.
    running: Option<(Child, i32)>,
    services: Vec<Child>,
}

impl Machine {
    /// A machine that is switched off, with a copy of this system's /etc.
    pub fn new(lab: &Lab, name: &str, number: u8) -> io::Result<Self> {
        let host = lab.host(name, number)?;
        let root = host.dir().join("root");
        for dir in ["", "lib", "lib/vipd", "lib/haproxy", "lib/nginx", "log", "log/nginx"] {
            fs::create_dir(root.join(dir))?;
        }
        sh("cp -a /etc \"$0/etc\" && install -d \"$0/etc/vipd/hooks\"", &root)?;
        Ok(Self { host, root, running: None, services: Vec::new() })
    }

    pub fn name(&self) -> &str {
        self.host.name()
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Installs a file: `mode` and contents, owned by root.
    pub fn install(&self, path: &str, mode: u32, text: &str) {
        let file = self.file(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The path of a machine's file as seen from outside; below /run only while it is on.
    pub fn file(&self, path: &str) -> PathBuf {
        for (there, here) in [("/etc/", "etc"), ("/var/lib/", "lib"), ("/var/log/", "log")] {
            if let Some(rest) = path.strip_prefix(there) {
                return self.root.join(here).join(rest);
            }
        }
        let (_, init) = self.running.as_ref().expect("it is off");
        Path::new(&format!("/proc/{init}/root")).join(path.trim_start_matches('/'))
    }

    /// Switches it on.
    pub fn power_on(&mut self) -> io::Result<()> {
        let log = self.log("init")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]);
        command.args(["--mount-proc", "bash", "-c", INIT]).arg(&self.root).arg(self.name());
        let mut unshare = self.host.namespace().spawn(&command, log)?;
        let parent = unshare.id();
        let booted = wait_for(Duration::from_secs(10), || {
            let init = child_of(parent)?;
            Path::new(&format!("/proc/{init}/root/run/booted")).exists().then_some(init)
        });
        let Some(init) = booted else {
            let _ = unshare.kill();
            let _ = unshare.wait();
            let said = fs::read_to_string(self.host.dir().join("init.log")).unwrap_or_default();
            return Err(io::Error::other(format!("a machine does not start: {}", said.trim())));
        };
        self.running = Some((unshare, init));
        Ok(())
    }

    /// Pulls the plug: the network is cut, and every process is gone at once.
    pub fn power_off(&mut self) {
        let _ = self.host.cut();
        self.halt();
    }

    /// Puts the plug back after [`power_off`](Self::power_off).
    pub fn reboot(&mut self) {
        self.host.boot().unwrap();
        self.power_on().unwrap();
    }

    fn halt(&mut self) {
        if let Some((mut unshare, init)) = self.running.take() {
            let _ = kill(Pid::from_raw(init), Signal::SIGKILL);
            let _ = unshare.wait();
        }
        for mut service in self.services.drain(..) {
            let _ = service.kill();
            let _ = service.wait();
        }
    }

    /// Starts a program in the background; its output goes to its log.
    pub fn start(&mut self, log: &str, argv: &[&str]) {
        let child = self.enter(log, argv);
        self.services.push(child);
    }

    /// Runs a program to its end and returns its output.
    pub fn run(&self, argv: &[&str]) -> Result<String, String> {
        let log = format!("run-{}", RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let status = self.enter(&log, argv).wait().unwrap();
        let path = self.host.dir().join(format!("{log}.log"));
        let said = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
        let _ = fs::remove_file(path);
        if status.success() { Ok(said) } else { Err(format!("{argv:?}: {status}: {said}")) }
    }

    fn enter(&self, log: &str, argv: &[&str]) -> Child {
        let (_, init) = self.running.as_ref().expect("it is off");
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(init.to_string());
        command.args(["--mount", "--pid", "--uts", "--ipc", "--"]).args(argv);
        command.env("LC_ALL", "C.UTF-8").env_remove("LANG");
        self.host.namespace().spawn(&command, self.log(log).unwrap()).unwrap()
    }

    /// Sends a signal to every process of this name, as in /proc/PID/comm; returns how many.
    pub fn kill(&self, comm: &str, signal: Signal) -> usize {
        let named = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == comm)
        };
        let pids: Vec<i32> = self.processes().into_iter().filter(named).collect();
        for pid in &pids {
            let _ = kill(Pid::from_raw(*pid), signal);
        }
        pids.len()
    }

    fn processes(&self) -> Vec<i32> {
        let space = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some((_, init)) = &self.running else { return Vec::new() };
        let mine = space(*init);
        pids().filter(|pid| mine.is_some() && space(*pid) == mine).collect()
    }

    /// What a program has printed.
    pub fn printed(&self, log: &str) -> String {
        fs::read_to_string(self.host.dir().join(format!("{log}.log"))).unwrap_or_default()
    }

    fn log(&self, log: &str) -> io::Result<fs::File> {
        let path = self.host.dir().join(format!("{log}.log"));
        fs::OpenOptions::new().create(true).append(true).open(path)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.halt();
    }
}

static RUNS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn child_of(parent: u32) -> Option<i32> {
    pids().find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    })
}

fn sh(script: &str, argument: &Path) -> io::Result<()> {
    let output = Command::new("sh").args(["-c", script]).arg(argument).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}
