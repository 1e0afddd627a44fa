//! Locks against a second daemon: one per runtime directory, and one per interface, address family
//! and VRID on this host.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{getsockopt, sockopt};
use tracing::warn;

use crate::vrrp::{Config, Family, Vrid};

/// The lock of a runtime directory (flock(2) on `vipd.pid`), held until dropped. The kernel
/// releases it when the process ends.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockConflict {
    /// Another daemon, with this pid if known, uses the runtime directory.
    Directory(PathBuf, Option<u32>),
    /// Another daemon on this host has a virtual router with the same interface, family and VRID.
    Router {
        /// Its name in our configuration.
        name: Arc<str>,
        interface: Arc<str>,
        family: Family,
        vrid: Vrid,
        /// Process ID of the other daemon, if known.
        pid: Option<u32>,
    },
    /// A system call on the runtime directory failed.
    Io(PathBuf, io::Error),
}

impl fmt::Display for LockConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = |pid: &Option<u32>| match pid {
            Some(pid) => format!("pid {pid}"),
            None => "its pid is not known".to_owned(),
        };
        match self {
            LockConflict::Directory(path, pid) => write!(
                f,
                "another vipd runs in {} ({}): stop it first, or give this one its own --runtime-dir",
                path.display(),
                process(pid)
            ),
            LockConflict::Router { name, interface, family, vrid, pid } => write!(
                f,
                "another vipd on this host ({}) has {family} VRID {vrid} on {interface}: stop it first, or change `vrid` of \"{name}\"",
                process(pid)
            ),
            LockConflict::Io(path, error) => write!(
                f,
                "cannot use the runtime directory {}: {error}; create it, or name another with --runtime-dir",
                path.display()
            ),
        }
    }
}

impl RuntimeDir {
    /// Creates the directory if it does not exist, locks it, and writes our pid to `vipd.pid`.
    ///
    /// # Errors
    /// Another daemon uses it, or a system call failed.
    pub(crate) fn lock(path: &Path) -> Result<Self, LockConflict> {
        let failed = |error| LockConflict::Io(path.to_owned(), error);
        std::fs::create_dir_all(path).map_err(failed)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path.join("vipd.pid"))
            .map_err(failed)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                return Err(LockConflict::Directory(path.to_owned(), pid.trim().parse().ok()));
            }
            Err((_, error)) => return Err(failed(error.into())),
        };
        lock.set_len(0).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(RuntimeDir { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

type Identity = (Arc<str>, Family, Vrid);

/// The locks of our virtual routers. Each one is an abstract Unix socket (unix(7)): like interfaces
/// these belong to a network namespace, and the kernel removes them when the process ends.
#[derive(Debug, Default)]
pub(crate) struct RouterLocks {
    held: BTreeMap<Identity, Option<UnixListener>>,
}

impl RouterLocks {
    /// Locks all virtual routers of `config` in addition to those already locked; all of them or
    /// none.
    ///
    /// # Errors
    /// Another daemon on this host has one of them.
    pub(crate) fn acquire(&mut self, config: &Config) -> Result<(), LockConflict> {
        let mut new = BTreeMap::new();
        for router in &config.routers {
            let identity = (router.interface.clone(), router.family, router.vrid);
            if self.held.contains_key(&identity) {
                continue;
            }
            let holder = hold(&identity).map_err(|pid| LockConflict::Router {
                name: router.name.clone(),
                interface: router.interface.clone(),
                family: router.family,
                vrid: router.vrid,
                pid,
            })?;
            new.insert(identity, holder);
        }
        self.held.extend(new);
        Ok(())
    }

    /// Releases the locks of virtual routers that are not in `config`.
    pub(crate) fn retain(&mut self, config: &Config) {
        self.held.retain(|(interface, family, vrid), _| {
            config.routers.iter().any(|router| {
                (&router.interface, router.family, router.vrid) == (interface, *family, *vrid)
            })
        });
    }
}

/// Takes the lock of one virtual router. Returns `None` without a lock if an unprivileged process
/// of another user has bound the name: it must not be able to keep the daemon from working. The
/// error is the pid, if known, of the daemon that holds the lock.
fn hold((interface, family, vrid): &Identity) -> Result<Option<UnixListener>, Option<u32>> {
    let name = format!("vipd/{interface}/{family}/{vrid}");
    let Ok(address) = SocketAddr::from_abstract_name(&name) else { return Ok(None) };
    let error = match UnixListener::bind_addr(&address) {
        Ok(listener) => return Ok(Some(listener)),
        Err(error) => error,
    };
    let peer = UnixStream::connect_addr(&address)
        .ok()
        .and_then(|stream| getsockopt(&stream, sockopt::PeerCredentials).ok());
    match peer {
        Some(peer) if peer.uid() == 0 || peer.uid() == nix::unistd::getuid().as_raw() => {
            Err(u32::try_from(peer.pid()).ok().filter(|pid| *pid != 0))
        }
        Some(peer) => {
            warn!(%name, pid = peer.pid(), uid = peer.uid(), "an unprivileged process holds the lock of this virtual router; continuing without the lock");
            Ok(None)
        }
        None if error.kind() == io::ErrorKind::AddrInUse => Err(None),
        None => {
            warn!(%name, %error, "cannot lock the virtual router against a second daemon");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_runtime_directory_has_one_daemon_and_the_error_names_its_pid() {
        let dir = tempfile::tempdir().unwrap();
        let first = RuntimeDir::lock(dir.path()).unwrap();
        let refused = RuntimeDir::lock(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(first);
        RuntimeDir::lock(dir.path()).unwrap();
    }
}
