//! A daemon as a process on a host of the lab.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::network::Host;
use super::threads::wait_for;

/// A daemon on a host. It is killed when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    status: Option<ExitStatus>,
    config: PathBuf,
    log: PathBuf,
}

impl Daemon {
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
        command.arg("--lock-dir").arg(host.lock_dir());
        Self::spawn(host, &command, config, dir.join("vipd.log"))
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
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.group(), signal)?)
    }

    /// Sends a signal to all its processes at once.
    pub fn signal_all(&self, signal: Signal) -> io::Result<()> {
        Ok(killpg(self.group(), signal)?)
    }

    /// Ends all its processes as a crash would: no priority 0 is sent.
    pub fn crash(&mut self) {
        // Stopped first, or a child would notice the end of its parent and clean up.
        if self.status.is_none() {
            let _ = self.signal_all(Signal::SIGSTOP);
            let _ = self.signal_all(Signal::SIGKILL);
            self.status = Some(self.child.wait().unwrap_or(ExitStatus::from_raw(0)));
        }
    }

    /// How it ended, if it does within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = wait_for(timeout, || self.child.try_wait().transpose()).transpose()?;
        }
        Ok(self.status)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.crash();
        // If it ended by itself, its children may be left.
        let _ = self.signal_all(Signal::SIGKILL);
    }
}
