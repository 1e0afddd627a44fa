//! A Debian with its own systemd, in a container on a host of the lab.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::lab::{Host, Lab, wait_for};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What both machines have besides Debian's smallest set.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,procps,nftables,keepalived";
/// Beyond what systemd-nspawn leaves to a container.
const CAPABILITIES: &str = "CAP_NET_ADMIN,CAP_NET_RAW,CAP_IPC_LOCK,CAP_SYS_NICE";
const BOOT: Duration = Duration::from_secs(60);

/// The file tree that all machines begin with, made once and kept in `cache`.
pub fn base_tree(cache: &Path) -> io::Result<PathBuf> {
    let base = cache.join("debian-12");
    if base.is_dir() {
        return Ok(base);
    }
    let unfinished = cache.join("debian-12.unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir_all(cache)?;
    let log = File::create(cache.join("debootstrap.log"))?;
    let status = Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={PACKAGES}"), "bookworm"])
        .arg(&unfinished)
        .arg("http://deb.debian.org/debian")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    if !status.success() {
        let log = fs::read_to_string(cache.join("debootstrap.log")).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(5).collect();
        return Err(io::Error::other(format!("debootstrap: {}", last.join(" / "))));
    }
    fs::rename(&unfinished, &base)?;
    Ok(base)
}

/// A writable copy of the base tree, gone with this.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub fn new(base: &Path, dir: &Path) -> io::Result<Self> {
        let [upper, work, root] = ["upper", "work", "root"].map(|name| dir.join(name));
        for dir in [&upper, &work, &root] {
            fs::create_dir_all(dir)?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            base.display(),
            upper.display(),
            work.display()
        );
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self { root })
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = umount2(&self.root, MntFlags::MNT_DETACH);
    }
}

/// A Debian machine. Its interface `eth0`, with its own addresses, is there before it boots.
#[derive(Debug)]
pub struct Machine {
    pub host: Host,
    tree: Tree,
    container: Option<Child>,
    cgroups: Vec<PathBuf>,
    said: PathBuf,
}

impl Machine {
    /// Creates the machine and boots it.
    pub fn new(lab: &Lab, base: &Path, name: &str, number: u8) -> io::Result<Self> {
        static MACHINES: AtomicU32 = AtomicU32::new(1);
        let host = lab.host(name, number)?;
        let tree = Tree::new(base, host.dir())?;
        let pids = fs::read_link("/proc/self/ns/pid")?;
        let lab = pids.to_string_lossy().replace(|c: char| !c.is_ascii_digit(), "");
        let machine = MACHINES.fetch_add(1, Ordering::Relaxed);
        // In every hierarchy that a manager uses: both of version 1's, or the one of version 2.
        let cgroups = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"]
            .map(Path::new)
            .into_iter()
            .filter(|hierarchy| hierarchy.join("cgroup.procs").exists())
            .map(|hierarchy| hierarchy.join(format!("vipd-installed-{lab}-{machine}")))
            .collect();
        let said = host.dir().join("console");
        let mut machine = Self { host, tree, container: None, cgroups, said };
        machine.boot()?;
        Ok(machine)
    }

    /// Switches it on.
    pub fn boot(&mut self) -> io::Result<()> {
        let mut script = String::new();
        for cgroup in &self.cgroups {
            fs::create_dir_all(cgroup)?;
            script += &format!("echo $$ >{}/cgroup.procs\n", cgroup.display());
        }
        script += "exec systemd-nspawn \"$@\"";
        let namespace = self.host.namespace().file().as_raw_fd();
        let console = File::create(&self.said)?;
        let container = Command::new("sh")
            .args(["-ec", &script, "sh", "--quiet", "--boot", "--register=no", "--keep-unit"])
            .args(["--console=passive", "--link-journal=no", "--resolv-conf=off"])
            .arg(format!("--hostname={}", self.host.name()))
            .arg(format!("--directory={}", self.tree.root.display()))
            .arg(format!("--capability={CAPABILITIES}"))
            .arg(format!("--network-namespace-path=/proc/{}/fd/{namespace}", std::process::id()))
            // As Debian 12 does; the manager of this machine may be older.
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()?;
        self.container = Some(container);
        self.await_boot()
    }

    /// Waits until everything that is enabled was started.
    pub fn await_boot(&self) -> io::Result<()> {
        let up = wait_for(BOOT, || {
            std::thread::sleep(Duration::from_millis(100));
            self.run("systemctl is-active --quiet multi-user.target")
                .ok()?
                .status
                .success()
                .then_some(())
        });
        up.ok_or_else(|| {
            let console = fs::read_to_string(&self.said).unwrap_or_default();
            io::Error::other(format!("{} does not boot\n{console}", self.host.name()))
        })
    }

    /// Whether it is switched on.
    pub fn is_on(&mut self) -> bool {
        self.container.as_mut().is_some_and(|container| matches!(container.try_wait(), Ok(None)))
    }

    /// The process that is number 1 inside.
    pub fn init(&self) -> Option<Pid> {
        let container = self.container.as_ref()?.id();
        let children = format!("/proc/{container}/task/{container}/children");
        let children = fs::read_to_string(children).ok()?;
        let is_init = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim_end() == "systemd")
        };
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .find(is_init)
            .map(Pid::from_raw)
    }

    /// Runs a shell command inside, as an operator who has logged in as root.
    pub fn run(&self, command: &str) -> io::Result<Output> {
        let init = self.init().ok_or_else(|| io::Error::other("it is off"))?;
        Command::new("nsenter")
            .args(["--target", &init.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"])
            .args(["/bin/sh", "-c", command])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
    }

    /// Runs a shell command that must succeed; returns its output.
    #[track_caller]
    pub fn must(&self, command: &str) -> String {
        let output = self.run(command).expect(command);
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "{}: {command}: {}\n{said}{complained}",
            self.host.name(),
            output.status
        );
        said.trim_end().to_owned()
    }

    /// Runs a shell command that must fail; returns its output.
    #[track_caller]
    pub fn must_not(&self, command: &str) -> String {
        let output = self.run(command).expect(command);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim_end().to_owned();
        assert!(!output.status.success(), "{}: {command} succeeds:\n{said}", self.host.name());
        said
    }

    /// A file inside, seen from outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.tree.path(inside)
    }

    /// Cuts its cable and its power at once.
    pub fn power_cut(&mut self) -> io::Result<()> {
        self.host.cut()?;
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        if let Some(init) = self.init() {
            let _ = kill(init, Signal::SIGKILL);
        }
        let Some(mut container) = self.container.take() else { return };
        // It ends with the last process inside.
        if wait_for(Duration::from_secs(5), || container.try_wait().ok().flatten()).is_none() {
            let _ = container.kill();
            let _ = container.wait();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
        for cgroup in &self.cgroups {
            let _ = wait_for(Duration::from_secs(2), || remove_cgroup(cgroup).ok());
        }
    }
}

/// Control groups are directories whose files are not theirs.
fn remove_cgroup(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}
