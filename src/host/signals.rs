//! Signals to the daemon, as events a loop can wait for.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR2};
use signal_hook::{flag, low_level::pipe};

/// What a signal asks of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// TERM or INT: leave well and end.
    Stop,
    /// USR2: end, and a successor on this host follows.
    Restart,
    /// HUP: read the configuration again.
    Reload,
}

/// Receives the signals of this process, once for its lifetime.
#[derive(Debug)]
pub struct Signals {
    reader: UnixStream,
    stop: Arc<AtomicBool>,
    restart: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// From here on the signals no longer end the process. A write to a closed pipe fails without
    /// a signal.
    ///
    /// # Errors
    /// No socket to be had.
    pub fn new() -> io::Result<Self> {
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
            // In this order: whoever is woken finds the flag.
            flag::register(signal, Arc::clone(noticed))?;
            pipe::register(signal, writer.try_clone()?)?;
        }
        flag::register(SIGPIPE, Arc::default())?;
        Ok(signals)
    }

    /// Readable when there is something to [`Signals::take`].
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// What came since the last time, each once, the most final first. Never blocks.
    pub fn take(&mut self) -> impl Iterator<Item = Signal> + use<> {
        // Drained before the flags are looked at, so that no wake-up is lost.
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
