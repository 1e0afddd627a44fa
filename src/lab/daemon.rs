//! vipd and keepalived as processes on a host of the lab.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::network::Host;
use super::wait_for;

/// Which implementation runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// vipd, from this file.
    Vipd(PathBuf),
    /// keepalived, from this file.
    Keepalived(PathBuf),
}

/// Where keepalived is installed, if it is.
pub fn keepalived() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join("keepalived"))
        .find(|file| file.is_file())
}

/// A virtual router as both programs can be told.
#[derive(Clone, Debug)]
pub struct RouterSpec {
    /// Its name.
    pub name: String,
    /// The interface it lives on.
    pub interface: String,
    /// Protocol version, 2 or 3.
    pub version: u8,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// Time between adverts.
    pub interval: Duration,
    /// Whether to depose a lower master.
    pub preempt: bool,
    /// The shared addresses, of one family.
    pub addresses: Vec<IpAddr>,
    /// The own address and the peers', for unicast.
    pub unicast: Option<(IpAddr, Vec<IpAddr>)>,
    /// Further lines of vipd's configuration, in the table of the virtual router.
    pub more: String,
    /// Further lines of keepalived's `vrrp_instance`.
    pub keepalived_more: String,
    /// Further lines of keepalived's `global_defs`.
    pub keepalived_globals: String,
}

impl RouterSpec {
    /// Version 3, VRID 51, adverts every 100 ms, preempting.
    pub fn new(address: IpAddr, priority: u8) -> Self {
        Self {
            name: "web".to_owned(),
            interface: "eth0".to_owned(),
            version: 3,
            vrid: 51,
            priority,
            interval: Duration::from_millis(100),
            preempt: true,
            addresses: vec![address],
            unicast: None,
            more: "link_delay = \"0s\"\n".to_owned(),
            keepalived_more: String::new(),
            keepalived_globals: String::new(),
        }
    }

    /// How long a backup of this priority waits for a silent master: 3 x interval + skew.
    pub fn patience(&self) -> Duration {
        3 * self.interval + self.skew()
    }

    /// How long a backup of this priority waits after a goodbye.
    pub fn skew(&self) -> Duration {
        let whole = if self.version == 2 { Duration::from_secs(1) } else { self.interval };
        whole * (256 - u32::from(self.priority)) / 256
    }

    /// The table of a vipd configuration.
    pub fn toml(&self) -> String {
        let list = |addresses: &[IpAddr]| {
            let quoted: Vec<_> = addresses.iter().map(|ip| format!("\"{ip}\"")).collect();
            quoted.join(", ")
        };
        let mut text = format!(
            "[[virtual_router]]\nname = \"{}\"\ninterface = \"{}\"\nversion = {}\nvrid = {}\n\
             priority = {}\nadvert_interval = \"{}ms\"\npreempt = {}\naddresses = [{}]\n",
            self.name,
            self.interface,
            self.version,
            self.vrid,
            self.priority,
            self.interval.as_millis(),
            self.preempt,
            list(&self.addresses),
        );
        if let Some((own, peers)) = &self.unicast {
            let _ = writeln!(text, "source_address = \"{own}\"\nunicast_peers = [{}]", list(peers));
        }
        text + &self.more
    }

    /// The block of a keepalived configuration.
    pub fn keepalived_conf(&self) -> String {
        let mut text = format!(
            "vrrp_instance {} {{\n  state BACKUP\n  interface {}\n  version {}\n  \
             virtual_router_id {}\n  priority {}\n  advert_int {}\n",
            self.name,
            self.interface,
            self.version,
            self.vrid,
            self.priority,
            self.interval.as_secs_f64(),
        );
        if !self.preempt {
            text += "  nopreempt\n";
        }
        if let Some((own, peers)) = &self.unicast {
            let _ = writeln!(text, "  unicast_src_ip {own}\n  unicast_peer {{");
            for peer in peers {
                let _ = writeln!(text, "    {peer}");
            }
            text += "  }\n";
        }
        text += "  virtual_ipaddress {\n";
        for ip in &self.addresses {
            let prefix = if ip.is_ipv4() { 32 } else { 128 };
            let _ = writeln!(text, "    {ip}/{prefix} dev {}", self.interface);
        }
        text + "  }\n" + &self.keepalived_more + "}\n"
    }
}

/// What a program reads to run these virtual routers on the host of this name.
pub fn configuration(host: &str, program: &Program, routers: &[RouterSpec]) -> String {
    match program {
        Program::Vipd(_) => {
            let tables: Vec<_> = routers.iter().map(RouterSpec::toml).collect();
            format!("[node]\nname = \"{host}\"\n\n{}", tables.join("\n"))
        }
        Program::Keepalived(_) => {
            let globals: String =
                routers.iter().map(|router| router.keepalived_globals.as_str()).collect();
            let blocks: Vec<_> = routers.iter().map(RouterSpec::keepalived_conf).collect();
            format!(
                "global_defs {{\n  router_id {host}\n  vrrp_version 3\n{globals}}}\n\n{}",
                blocks.join("\n")
            )
        }
    }
}

/// A daemon on a host. It is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    status: Option<ExitStatus>,
    config: PathBuf,
    log: PathBuf,
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
        let dir = host.dir();
        let (runtime, state) = (host.runtime_dir()?, dir.join("state"));
        fs::create_dir_all(&state)?;
        let config = dir.join("vipd.toml");
        fs::write(&config, text)?;
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(&config);
        command.arg("--runtime-dir").arg(&runtime).arg("--state-dir").arg(&state);
        Self::spawn(host, &command, config, dir.join("vipd.log"))
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
        let output = fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = host.namespace().spawn(command, output)?;
        Ok(Self { child, status: None, config, log })
    }

    /// Its process, the first of its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file it reads.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What it has printed so far, earlier runs on the same host included.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into()).unwrap_or_default()
    }

    /// Sends a signal to its first process.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.group(), signal)?)
    }

    /// Sends a signal to all its processes at once.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn signal_all(&self, signal: Signal) -> io::Result<()> {
        Ok(killpg(self.group(), signal)?)
    }

    /// Ends all its processes as a crash would: nobody says goodbye.
    pub fn crash(&mut self) {
        // Stopped first, or a parent's death would be noticed by a child that then tidies up.
        if self.status.is_none() {
            let _ = self.signal_all(Signal::SIGSTOP);
            let _ = self.signal_all(Signal::SIGKILL);
            self.status = Some(self.child.wait().unwrap_or(ExitStatus::from_raw(0)));
        }
    }

    /// Asks it to stop and waits for it.
    ///
    /// # Errors
    /// `TimedOut` if it is still there after `patience`.
    pub fn stop(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait(patience)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::TimedOut, format!("{} does not stop", self.pid()))
        })
    }

    /// How it ended, if it does within `patience`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = wait_for(patience, || self.child.try_wait().transpose()).transpose()?;
        }
        Ok(self.status)
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
                // One that has just ended has no file any more.
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
            // Behind the name, which may have anything in it: state, parent.
            let after = text.rsplit(") ").next().unwrap_or_default();
            if let Some(parent) = after.split(' ').nth(1) {
                children.entry(parent.to_owned()).or_default().push(path);
            }
        }
        let mut processes = vec![Path::new("/proc").join(self.child.id().to_string())];
        let mut looked_at = 0;
        while let Some(process) = processes.get(looked_at) {
            looked_at += 1;
            let pid = process.file_name().unwrap_or_default().to_string_lossy();
            let found = children.remove(&*pid).unwrap_or_default();
            processes.extend(found);
        }
        Ok(processes)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }
}

/// The first word after `name` in a file of `/proc` that has one field in a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.crash();
        // Of one that ended by itself, children may be left.
        let _ = self.signal_all(Signal::SIGKILL);
    }
}
