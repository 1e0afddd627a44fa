//! Waiting until a file descriptor is ready.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use nix::sys::epoll::EpollEvent;
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// Readiness of a file descriptor in tokio's words. It watches a duplicate of its own, so it says
/// nothing wrong, and nothing unsound, whatever becomes of the original.
#[derive(Debug)]
pub struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    /// Watches `fd` from now on; needs a running tokio runtime.
    pub fn of(fd: &impl AsFd, interest: Interest) -> io::Result<Self> {
        let duplicate = fd.as_fd().try_clone_to_owned()?;
        // SAFETY: an OwnedFd is open and always the same descriptor. It is never lent mutably, so
        // nobody can swap or close it before the registration is dropped with it.
        let registered = unsafe { AsyncFd::register_with_interest(duplicate, interest) };
        registered.map(Readiness).map_err(io::Error::from)
    }

    /// Waits until it can be read; the guard forgets the readiness with `clear_ready`.
    pub async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.readable().await
    }

    /// Waits until it can be written.
    pub async fn writable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.writable().await
    }
}

/// Waits until a descriptor of the set is ready, but not for longer than `limit`, to the microsecond.
/// Says how many events there are. Also returns when a signal came, but never without having looked:
/// who was stopped and goes on must not take a full queue for silence.
///
/// # Errors
/// When the kernel refuses, and only then.
pub fn wait(
    epoll: BorrowedFd<'_>,
    events: &mut [EpollEvent],
    mut limit: Option<Duration>,
) -> io::Result<usize> {
    loop {
        // What the kernel takes, on every machine: two words of 64 bits.
        let words: Option<[u64; 2]> = limit.map(|l| [l.as_secs(), l.subsec_nanos().into()]);
        let words = words.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (none, zero) = (ptr::null::<c_void>(), 0_usize);
        // SAFETY: an EpollEvent is an `epoll_event` and nothing else, and the kernel writes no more of
        // them than there is room for; `words` is null or outlives the call; no signal mask is given.
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
