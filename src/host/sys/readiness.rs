//! Waiting until a file descriptor is ready.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use nix::sys::epoll::EpollEvent;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// Readiness of a file descriptor for tokio. It owns a duplicate of the descriptor, so it stays
/// correct and sound when the original is closed.
#[derive(Debug)]
pub struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    /// Registers a duplicate of `fd` with the current tokio runtime.
    ///
    /// # Errors
    /// No descriptor is left (EMFILE), or `fd` does not support epoll (EPERM).
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O enabled.
    pub fn of(fd: &impl AsFd, interest: Interest) -> io::Result<Self> {
        let duplicate = fd.as_fd().try_clone_to_owned()?;
        // SAFETY: an OwnedFd is open and always the same descriptor. It is never borrowed mutably,
        // so it cannot be replaced or closed before the registration is dropped with it.
        let registered = unsafe { AsyncFd::register_with_interest(duplicate, interest) };
        registered.map(Readiness).map_err(io::Error::from)
    }

    /// Waits until the descriptor is readable. `clear_ready` of the guard makes the next call wait
    /// again.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.readable().await
    }

    /// Waits until the descriptor is writable.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub async fn writable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.writable().await
    }
}

/// Waits until a descriptor of the set is ready, or until `limit` has passed, with microsecond
/// resolution (epoll_pwait2(2), Linux 5.11). Returns the number of events.
///
/// A signal ends the wait too, but the descriptors are polled once more before it returns: a
/// process that was stopped (SIGSTOP) and continues must not take received adverts for silence of
/// the master.
///
/// # Errors
/// As epoll_pwait2(2), except EINTR.
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut [EpollEvent],
    mut limit: Option<Duration>,
) -> io::Result<usize> {
    loop {
        // struct __kernel_timespec: two 64-bit words on every architecture.
        let words: Option<[u64; 2]> = limit.map(|l| [l.as_secs(), l.subsec_nanos().into()]);
        let words = words.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (none, zero) = (ptr::null::<c_void>(), 0_usize);
        // SAFETY: an EpollEvent is an `epoll_event` and nothing else, and the kernel writes no more
        // of them than there is room for; `words` is null or outlives the call; no signal mask is
        // given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                epoll.as_raw_fd(),
                events.as_mut_ptr(),
                i32::try_from(events.len()).unwrap_or(i32::MAX),
                words,
                none,
                zero,
            )
        };
        if let Ok(count) = usize::try_from(count) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        limit = Some(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn readiness_outlives_the_descriptor_that_it_is_of() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let (reader, mut writer) = std::io::pipe().unwrap();
            nix::fcntl::fcntl(
                &reader,
                nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
            )
            .unwrap();
            let readiness = Readiness::of(&reader, Interest::READABLE).unwrap();
            writer.write_all(b"x").unwrap();
            drop(readiness.readable().await.unwrap());
            drop((reader, writer));
            drop(readiness.readable().await.unwrap());
        });
    }
}
