//! Notifications to systemd (sd_notify(3)), without blocking.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// The notification socket of the service manager. If systemd did not start this process, nothing
/// is sent.
#[derive(Debug)]
pub(crate) struct Systemd {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads `NOTIFY_SOCKET` and the watchdog settings from the environment.
    pub(crate) fn from_env() -> Self {
        let manager = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connect(&name).ok());
        let watchdog = manager.as_ref().and_then(|_| sd_notify::watchdog_enabled());
        Systemd { manager, watchdog }
    }

    /// How often to call [`watchdog`](Self::watchdog): half of `WatchdogSec=`. `None` if the unit
    /// has no watchdog.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|allowed| allowed / 2)
    }

    /// Reports that the start or a reload is complete (`READY=1`).
    pub(crate) fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// Reports that a reload has begun (`RELOADING=1`); [`ready`](Self::ready) must follow.
    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(_) => self.send(&[NotifyState::Reloading]),
        }
    }

    /// Reports that the daemon is stopping (`STOPPING=1`).
    pub(crate) fn stopping(&self, status: &str) {
        self.send(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// Resets the watchdog; to be called by the loop that sends adverts.
    pub(crate) fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        let Some((socket, manager)) = &self.manager else { return };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send_to_addr(message.as_bytes(), manager) {
            tracing::debug!(%error, "cannot notify systemd");
        }
    }
}

fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}

/// A line break would begin another assignment.
fn one_line(status: &str) -> String {
    status.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn manager() -> (UnixDatagram, Systemd, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let watchdog = Some(Duration::from_secs(10));
        (
            manager,
            Systemd { manager: Some(connect(path.as_os_str()).unwrap()), watchdog },
            directory,
        )
    }

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn notifications_have_the_format_of_sd_notify() {
        let (manager, systemd, _directory) = manager();
        systemd.ready("web: backup");
        assert_eq!(received(&manager), "READY=1\nSTATUS=web: backup\n");
        systemd.reloading();
        let reloading = received(&manager);
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        systemd.ready("two\nWATCHDOG=trigger");
        assert_eq!(received(&manager), "READY=1\nSTATUS=two WATCHDOG=trigger\n");
        systemd.watchdog();
        assert_eq!(received(&manager), "WATCHDOG=1\n");
        systemd.stopping("handing over");
        assert_eq!(received(&manager), "STOPPING=1\nSTATUS=handing over\n");
        assert_eq!(systemd.watchdog_interval(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_service_manager_that_does_not_read_blocks_nothing() {
        let (_manager, systemd, _directory) = manager();
        for _ in 0..10_000 {
            systemd.watchdog();
        }
    }

    #[test]
    fn abstract_sockets_are_understood() {
        let name = format!("vipd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let connected = connect(OsStr::new(&format!("@{name}"))).unwrap();
        let systemd = Systemd { manager: Some(connected), watchdog: None };
        systemd.watchdog();
        assert_eq!(received(&manager), "WATCHDOG=1\n");
    }
}
