//! One daemon per runtime directory, and one per (interface, family, VRID) on this host.

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

/// The lock on a runtime directory: held until dropped, and by the kernel's hand no longer than
/// the process lives.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    _lock: Flock<File>,
}

/// Why a daemon may not run beside another.
#[derive(Debug)]
pub enum Taken {
    /// The runtime directory is in use.
    Directory(PathBuf, Option<u32>),
    /// Another daemon on this host has the virtual router.
    Router {
        /// Our name for it.
        name: Arc<str>,
        /// Its interface.
        interface: Arc<str>,
        /// Its family.
        family: Family,
        /// Its VRID.
        vrid: Vrid,
        /// The other daemon.
        pid: Option<u32>,
    },
    /// The system would not let us find out.
    Io(PathBuf, io::Error),
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = |pid: &Option<u32>| match pid {
            Some(pid) => format!("pid {pid}"),
            None => "its pid is not known".to_owned(),
        };
        match self {
            Taken::Directory(path, pid) => write!(
                f,
                "another vipd runs in {} ({}): stop it first, or give this one its own --runtime-dir",
                path.display(),
                process(pid)
            ),
            Taken::Router { name, interface, family, vrid, pid } => write!(
                f,
                "another vipd on this host ({}) has {family} VRID {vrid} on {interface}: stop it first, or change `vrid` of \"{name}\"",
                process(pid)
            ),
            Taken::Io(path, error) => write!(
                f,
                "cannot use the runtime directory {}: {error}; create it, or name another with --runtime-dir",
                path.display()
            ),
        }
    }
}

impl RuntimeDir {
    /// Creates the directory if need be and locks it.
    ///
    /// # Errors
    /// When another daemon has it, or the system refuses.
    pub fn lock(path: &Path) -> Result<Self, Taken> {
        let failed = |error| Taken::Io(path.to_owned(), error);
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
                return Err(Taken::Directory(path.to_owned(), pid.trim().parse().ok()));
            }
            Err((_, error)) => return Err(failed(error.into())),
        };
        lock.set_len(0).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(RuntimeDir { path: path.to_owned(), _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

type Identity = (Arc<str>, Family, Vrid);

/// The virtual routers that are ours on this host: abstract sockets, which belong to a network
/// namespace as interfaces do and vanish with the process.
#[derive(Debug, Default)]
pub struct Identities {
    held: BTreeMap<Identity, Option<UnixListener>>,
}

impl Identities {
    /// Takes what `config` names on top of what is held; all or nothing.
    ///
    /// # Errors
    /// When another daemon on this host has one of them.
    pub fn take(&mut self, config: &Config) -> Result<(), Taken> {
        let mut taken = BTreeMap::new();
        for router in &config.routers {
            let identity = (router.interface.clone(), router.family, router.vrid);
            if self.held.contains_key(&identity) {
                continue;
            }
            let holder = hold(&identity).map_err(|pid| Taken::Router {
                name: router.name.clone(),
                interface: router.interface.clone(),
                family: router.family,
                vrid: router.vrid,
                pid,
            })?;
            taken.insert(identity, holder);
        }
        self.held.extend(taken);
        Ok(())
    }

    /// Lets go of what `config` no longer names.
    pub fn keep(&mut self, config: &Config) {
        self.held.retain(|(interface, family, vrid), _| {
            config.routers.iter().any(|router| {
                (&router.interface, router.family, router.vrid) == (interface, *family, *vrid)
            })
        });
    }
}

/// `None`: some unprivileged process sits on the name, which must not keep us from working.
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
            warn!(%name, pid = peer.pid(), uid = peer.uid(), "an unprivileged process holds our lock; going on without it");
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
    fn a_runtime_directory_has_one_daemon_and_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let first = RuntimeDir::lock(dir.path()).unwrap();
        let refused = RuntimeDir::lock(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(first);
        RuntimeDir::lock(dir.path()).unwrap();
    }
}
