//! One epoll set: waits for many file descriptors at once.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::host::sys;

/// How many descriptors one call reports at first.
const EVENTS_AT_FIRST: usize = 64;

/// The file descriptors to wait for, each known by a number of the caller's.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    ready: usize,
}

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// The kernel has no descriptor for us.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, events: vec![EpollEvent::empty(); EVENTS_AT_FIRST], ready: 0 })
    }

    /// From now on also waits until `fd` is readable; it leaves the set when it is closed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Whether to wait for `fd`, which is in the set, to become writable as well.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn set_writable(&self, fd: BorrowedFd<'_>, token: u64, on: bool) -> io::Result<()> {
        let writable = if on { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | writable, token);
        Ok(self.epoll.modify(fd, &mut event)?)
    }

    /// Waits until a descriptor is ready, but for no longer than `limit`. Returns whether more of them
    /// may be ready than were reported.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        if self.ready == self.events.len() {
            self.events.resize(2 * self.ready, EpollEvent::empty());
        }
        self.ready = sys::epoll_wait(self.epoll.0.as_fd(), &mut self.events, limit)?;
        Ok(self.ready == self.events.len())
    }

    /// How many descriptors the last wait reported.
    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    /// The number of the one in this place of the report.
    pub(crate) fn token(&self, place: usize) -> u64 {
        self.events.get(place).map_or(0, EpollEvent::data)
    }
}
