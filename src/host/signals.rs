//! Signals to the daemon, delivered through a file descriptor.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR2};
use signal_hook::{flag, low_level::pipe};

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Signal {
    /// SIGTERM or SIGINT: hand over and exit.
    Stop,
    /// SIGUSR2: exit without handing over, because another daemon on this host takes over.
    Restart,
    /// SIGHUP: reload the configuration.
    Reload,
}

/// The signal handlers of this process. There may be one.
#[derive(Debug)]
pub(crate) struct Signals {
    reader: UnixStream,
    stop: Arc<AtomicBool>,
    restart: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers, which stay for the lifetime of the process. SIGPIPE is caught too, so
    /// that a write to a closed pipe or socket only fails with EPIPE.
    ///
    /// # Errors
    /// As socketpair(2) and sigaction(2).
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let signals = Signals {
            reader,
            stop: Arc::default(),
            restart: Arc::default(),
            reload: Arc::default(),
        };
        let wanted = [
            (SIGTERM, &signals.stop),
            (SIGINT, &signals.stop),
            (SIGUSR2, &signals.restart),
            (SIGHUP, &signals.reload),
        ];
        for (signal, noticed) in wanted {
            // Handlers run in this order, so the flag is set before the reader wakes up.
            flag::register(signal, Arc::clone(noticed))?;
            pipe::register(signal, writer.try_clone()?)?;
        }
        flag::register(SIGPIPE, Arc::default())?;
        Ok(signals)
    }

    /// Readable when a signal has arrived.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// What was requested since the last call, each at most once: stop, then restart, then reload.
    /// Never blocks.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Signal> + use<> {
        // Drain before reading the flags, so that a signal in between leaves the socket readable.
        let mut wakeups = [0; 64];
        while matches!(self.reader.read(&mut wakeups), Ok(1..)) {}
        let noticed = [
            (Signal::Stop, self.stop.swap(false, Ordering::SeqCst)),
            (Signal::Restart, self.restart.swap(false, Ordering::SeqCst)),
            (Signal::Reload, self.reload.swap(false, Ordering::SeqCst)),
        ];
        noticed.into_iter().filter_map(|(signal, came)| came.then_some(signal))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use signal_hook::low_level::raise;

    #[test]
    fn signals_wake_a_loop_and_are_taken_once() {
        let mut signals = Signals::new().unwrap();
        let readable = |signals: &Signals| {
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!readable(&signals));
        assert_eq!(signals.take().count(), 0);
        for signal in [SIGHUP, SIGHUP, SIGINT, SIGUSR2, SIGTERM, SIGPIPE] {
            raise(signal).unwrap();
        }
        assert!(readable(&signals));
        assert_eq!(
            signals.take().collect::<Vec<_>>(),
            [Signal::Stop, Signal::Restart, Signal::Reload]
        );
        assert!(!readable(&signals));
        raise(SIGHUP).unwrap();
        assert_eq!(signals.take().collect::<Vec<_>>(), [Signal::Reload]);
        assert_eq!(signals.take().count(), 0);
    }

    #[test]
    fn the_descriptor_is_not_inherited() {
        let signals = Signals::new().unwrap();
        let flags = nix::fcntl::fcntl(signals.as_fd(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    }
}
