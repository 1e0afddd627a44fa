//! A set of file descriptors to wait for (epoll(7)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::host::sys;

/// Initial number of descriptors that one wait can report; doubled when all of them are used.
const EVENTS_AT_FIRST: usize = 64;

/// A set of file descriptors, each with a token that the caller chooses.
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
    /// As epoll_create1(2).
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Poller { epoll, events: vec![EpollEvent::empty(); EVENTS_AT_FIRST], ready: 0 })
    }

    /// Adds a descriptor, to be reported when it is readable. It leaves the set when it is closed.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    /// Sets whether a descriptor of the set is reported when it is writable, too.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub(crate) fn set_writable(&self, fd: BorrowedFd<'_>, token: u64, on: bool) -> io::Result<()> {
        let writable = if on { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | writable, token);
        Ok(self.epoll.modify(fd, &mut event)?)
    }

    /// Waits until a descriptor is ready, but for no longer than `limit`. Returns whether more of
    /// them may be ready than were reported.
    ///
    /// # Errors
    /// As epoll_pwait2(2), except EINTR.
    pub(crate) fn wait(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        if self.ready == self.events.len() {
            self.events.resize(2 * self.ready, EpollEvent::empty());
        }
        self.ready = sys::epoll_wait(self.epoll.0.as_fd(), &mut self.events, limit)?;
        Ok(self.ready == self.events.len())
    }

    /// Number of descriptors that the last wait reported.
    pub(crate) fn ready(&self) -> usize {
        self.ready
    }

    /// Token of the reported descriptor at this index.
    pub(crate) fn token(&self, place: usize) -> u64 {
        self.events.get(place).map_or(0, EpollEvent::data)
    }
}
