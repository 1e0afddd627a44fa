//! vipd and keepalived as processes on a host of the lab, and what they cost.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use vipd::lab::Host;

use super::router_spec::{Program, RouterSpec, configuration};

/// A daemon on a host. It is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon(vipd::lab::Daemon);

impl Deref for Daemon {
    type Target = vipd::lab::Daemon;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Daemon {
    /// Starts a program on a host with these virtual routers.
    ///
    /// # Errors
    /// If its files cannot be written or it cannot be started.
    pub fn start(host: &Host, program: &Program, routers: &[RouterSpec]) -> io::Result<Self> {
        let text = configuration(host.name(), program, routers);
        match program {
            Program::Vipd(binary) => Self::vipd(host, binary, &text),
            Program::Keepalived(binary) => Self::keepalived(host, binary, &text),
        }
    }

    /// Starts vipd with this configuration, in runtime and state directories of the host.
    ///
    /// # Errors
    /// If its files cannot be written or it cannot be started.
    pub fn vipd(host: &Host, binary: &Path, text: &str) -> io::Result<Self> {
        vipd::lab::Daemon::vipd(host, binary, text).map(Self)
    }

    fn keepalived(host: &Host, binary: &Path, text: &str) -> io::Result<Self> {
        let (dir, runtime) = (host.dir(), host.runtime_dir()?);
        let config = dir.join("keepalived.conf");
        fs::write(&config, text)?;
        let mut command = Command::new(binary);
        command.args(["--dont-fork", "--vrrp", "--log-console", "--no-syslog", "--log-detail"]);
        command.arg("--use-file").arg(&config);
        command.arg("--pid").arg(runtime.join("keepalived.pid"));
        command.arg("--vrrp_pid").arg(runtime.join("vrrp.pid"));
        Self::spawn(host, &command, config, dir.join("keepalived.log"))
    }

    /// Starts any program on a host; what it prints goes to the file `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(
        host: &Host,
        command: &Command,
        config: PathBuf,
        log: PathBuf,
    ) -> io::Result<Self> {
        vipd::lab::Daemon::spawn(host, command, config, log).map(Self)
    }

    /// Asks it to stop and waits for it.
    ///
    /// # Errors
    /// `TimedOut` if it is still there after `timeout`.
    pub fn stop(&mut self, timeout: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(timeout)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::TimedOut, format!("{} does not stop", self.pid()))
        })
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.wait(Duration::ZERO), Ok(None))
    }

    /// The processor time of all threads of all its processes so far.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn processor_time(&self) -> io::Result<Duration> {
        // Nanoseconds run, nanoseconds waited, turns (Documentation/scheduler/sched-stats).
        let nanos = self.sum("schedstat", |text| text.split(' ').next())?;
        Ok(Duration::from_nanos(nanos))
    }

    /// How often any of its threads went to sleep so far: as often it was woken up.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn wakeups(&self) -> io::Result<u64> {
        self.sum("status", |text| field(text, "voluntary_ctxt_switches:"))
    }

    /// The memory of all its processes in bytes, what they share with others in proportion (PSS).
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn memory(&self) -> io::Result<u64> {
        let mut kilobytes = 0;
        for process in self.processes()? {
            let text = fs::read_to_string(process.join("smaps_rollup"))?;
            kilobytes += field(&text, "Pss:").and_then(number).unwrap_or(0);
        }
        Ok(1024 * kilobytes)
    }

    fn sum(&self, file: &str, value: impl Fn(&str) -> Option<&str>) -> io::Result<u64> {
        let mut sum = 0;
        for process in self.processes()? {
            for thread in fs::read_dir(process.join("task"))? {
                // A thread that has just ended has no file any more.
                let text = fs::read_to_string(thread?.path().join(file)).unwrap_or_default();
                sum += value(&text).and_then(number).unwrap_or(0);
            }
        }
        Ok(sum)
    }

    /// The directories in `/proc` of its first process and of all that descend from it, whatever
    /// process group they are in.
    fn processes(&self) -> io::Result<Vec<PathBuf>> {
        let mut children: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let text = fs::read_to_string(path.join("stat")).unwrap_or_default();
            // State and parent follow the name, which may contain any characters.
            let after = text.rsplit(") ").next().unwrap_or_default();
            if let Some(parent) = after.split(' ').nth(1) {
                children.entry(parent.to_owned()).or_default().push(path);
            }
        }
        let mut processes = vec![Path::new("/proc").join(self.pid().to_string())];
        let mut looked_at = 0;
        while let Some(process) = processes.get(looked_at) {
            looked_at += 1;
            let pid = process.file_name().unwrap_or_default().to_string_lossy();
            let found = children.remove(&*pid).unwrap_or_default();
            processes.extend(found);
        }
        Ok(processes)
    }
}

/// The first word after `name` in a file of `/proc` that has one field in a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}
