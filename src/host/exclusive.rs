//! Locks against a second daemon: one per runtime directory, and one per network namespace, interface,
//! address family and VRID on this host.
//!
//! Both are locks on files that only root (or the daemon's own user) can open, so nobody else can hold
//! them. They are taken without waiting, and the kernel releases them when the process ends.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use tracing::warn;

use super::files::Directory;
use crate::vrrp::record::{RecordedAddress, identity};
use crate::vrrp::{Config, Family, Vrid};

/// The file of the router locks in their directory.
const FILE: &str = "routers";

/// The lock of a runtime directory (flock(2) on `vipd.pid`), held until dropped.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    directory: Directory,
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
        let directory = Directory::create(path).map_err(failed)?;
        let file = directory.open("vipd.pid").map_err(failed)?;
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
        Ok(RuntimeDir { directory, _lock: lock })
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }
}

/// The locks of our virtual routers: record locks (fcntl(2)) on one byte each of a file that all
/// daemons of the host share. The byte follows from the network namespace and the
/// [`identity`] of the virtual router, in which interfaces have the names of the configuration:
/// by these the daemon follows them, whether they exist or not.
///
/// Such locks belong to the process, so no hook inherits them, and the kernel knows who holds them.
/// They would end if the process closed another descriptor of the same file: there is none.
///
/// The default locks nothing.
#[derive(Debug, Default)]
pub(crate) struct RouterLocks {
    /// The file, and what the network namespace adds to the place in it.
    file: Option<(File, u64)>,
    held: BTreeSet<libc::off_t>,
}

impl RouterLocks {
    /// Opens the file with the locks in this directory, and makes it if it is missing.
    ///
    /// # Errors
    /// It cannot be made, or others could change it.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let file = Directory::private(directory)?.open(FILE)?;
        let number = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
        // Numbers of namespaces differ in a few low bits only.
        let namespace = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ok(RouterLocks { file: Some((file, namespace)), held: BTreeSet::new() })
    }

    /// Locks all virtual routers of `config` in addition to those already locked; all of them or
    /// none. Waits for nobody.
    ///
    /// # Errors
    /// Another daemon on this host has one of them.
    pub(crate) fn acquire(&mut self, config: &Config) -> Result<(), LockConflict> {
        let Some((file, namespace)) = &self.file else { return Ok(()) };
        let mut new = BTreeSet::new();
        for router in &config.routers {
            let place = place(identity(router), *namespace);
            if self.held.contains(&place) || new.contains(&place) {
                continue;
            }
            match lock(file, place) {
                Ok(true) => drop(new.insert(place)),
                Ok(false) => {
                    let pid = holder(file, place);
                    new.into_iter().for_each(|place| unlock(file, place));
                    return Err(LockConflict::Router {
                        name: router.name.clone(),
                        interface: router.interface.clone(),
                        family: router.family,
                        vrid: router.vrid,
                        pid,
                    });
                }
                Err(error) => {
                    warn!(router = %router.name, %error, "cannot lock it against a second daemon on this host");
                }
            }
        }
        self.held.extend(new);
        Ok(())
    }

    /// Whether no other daemon has the virtual router that an address was recorded for.
    pub(crate) fn is_free(&self, recorded: &RecordedAddress) -> bool {
        let (Some((file, namespace)), Some(identity)) = (&self.file, recorded.identity()) else {
            return true;
        };
        !is_locked(file, place(identity, *namespace))
    }

    /// Releases the locks of virtual routers that are not in `config`.
    pub(crate) fn retain(&mut self, config: &Config) {
        let Some((file, namespace)) = &self.file else { return };
        let wanted: BTreeSet<_> =
            config.routers.iter().map(|router| place(identity(router), *namespace)).collect();
        for place in self.held.difference(&wanted) {
            unlock(file, *place);
        }
        self.held.retain(|place| wanted.contains(place));
    }
}

/// What it means that there are no locks: a warning. They protect from an error of the operator, and
/// are no reason not to serve.
pub(crate) fn without_locks(directory: &Path, error: &io::Error) -> String {
    format!(
        "cannot use {} ({error}): a second vipd on this host would not be kept from serving the same virtual routers; all daemons of a host need the same --lock-dir",
        directory.display()
    )
}

/// A place in the file. It need not exist there.
fn place(identity: u64, namespace: u64) -> libc::off_t {
    // Not negative, and with room for its length.
    ((identity ^ namespace) >> 2) as libc::off_t
}

fn range(kind: libc::c_int, place: libc::off_t) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: place,
        l_len: 1,
        l_pid: 0,
    }
}

/// Returns whether it was taken; `false`: another process has it.
fn lock(file: &File, place: libc::off_t) -> nix::Result<bool> {
    match fcntl(file, FcntlArg::F_SETLK(&range(libc::F_WRLCK, place))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether another process has it.
fn is_locked(file: &File, place: libc::off_t) -> bool {
    let mut found = range(libc::F_WRLCK, place);
    let asked = fcntl(file, FcntlArg::F_GETLK(&mut found));
    asked.is_ok() && found.l_type != libc::F_UNLCK as libc::c_short
}

/// The process that has it; `None` also for one in a PID namespace that we cannot see.
fn holder(file: &File, place: libc::off_t) -> Option<u32> {
    let mut found = range(libc::F_WRLCK, place);
    fcntl(file, FcntlArg::F_GETLK(&mut found)).ok()?;
    u32::try_from(found.l_pid).ok().filter(|pid| *pid != 0)
}

fn unlock(file: &File, place: libc::off_t) {
    // Fails only for arguments that are wrong.
    let _ = fcntl(file, FcntlArg::F_SETLK(&range(libc::F_UNLCK, place)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::vrrp::{Priority, RouterConfig};

    #[test]
    fn a_runtime_directory_has_one_daemon_and_the_error_names_its_pid() {
        let dir = tempfile::tempdir().unwrap();
        let first = RuntimeDir::lock(dir.path()).unwrap();
        let refused = RuntimeDir::lock(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(first);
        RuntimeDir::lock(dir.path()).unwrap();
    }

    fn config(vrids: &[u8]) -> Config {
        let router = |vrid: &u8| RouterConfig {
            vrid: Vrid::new(*vrid).unwrap(),
            ..RouterConfig::sample(&["192.0.2.10"])
        };
        Config { routers: vrids.iter().map(router).collect(), ..Config::default() }
    }

    /// How many record locks there are on the file; they do not exclude the process that has them.
    fn held(directory: &Path) -> usize {
        let inode = std::fs::metadata(directory.join(FILE)).unwrap().ino();
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().filter(|line| line.contains(&format!(":{inode} "))).count()
    }

    #[test]
    fn every_virtual_router_has_a_lock_while_it_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("locks");
        let mut locks = RouterLocks::open(&directory).unwrap();
        locks.acquire(&config(&[1, 2])).unwrap();
        locks.acquire(&config(&[2, 3])).unwrap();
        assert_eq!(held(&directory), 3);
        locks.retain(&config(&[2, 3]));
        assert_eq!(held(&directory), 2);
        locks.retain(&config(&[2, 3]));
        assert_eq!(held(&directory), 2);
        for (path, mode) in [(directory.clone(), 0o700), (directory.join(FILE), 0o600)] {
            assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, mode);
        }
        drop(locks);
        assert_eq!(held(&directory), 0);
    }

    #[test]
    fn the_place_of_a_lock_depends_on_namespace_interface_family_and_vrid() {
        let one = RouterConfig::sample(&["192.0.2.10"]);
        let others = [
            RouterConfig { vrid: Vrid::new(52).unwrap(), ..one.clone() },
            RouterConfig { family: Family::V6, ..one.clone() },
            RouterConfig { interface: Arc::from("eth1"), ..one.clone() },
        ];
        let mut places: BTreeSet<_> =
            others.iter().map(|other| place(identity(other), 7)).collect();
        places.extend([place(identity(&one), 7), place(identity(&one), 8)]);
        assert_eq!(places.len(), 5);
        assert!(places.iter().all(|place| (0..libc::off_t::MAX).contains(place)));
        let renamed = RouterConfig { name: Arc::from("other"), priority: Priority::new(1), ..one };
        assert!(
            places.contains(&place(identity(&renamed), 7)),
            "what else is configured does not matter"
        );
    }
}
