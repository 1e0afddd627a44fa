//! The threads of the lab: how they end, their priority, their locks and how they wait.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::namespace::Namespace;
use crate::host::privileges;

/// A thread in a namespace. It is stopped and joined when this is dropped.
#[derive(Debug)]
pub struct LabThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LabThread {
    /// Runs `body`, which returns soon after the flag that it is given is set.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        namespace: &Namespace,
        name: &str,
        body: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = namespace.thread(name, {
            let stop = Arc::clone(&stop);
            move || body(&stop)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for LabThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Gives the calling thread real-time priority: the daemons are to be measured, not how long the
/// lab's own threads wait for a processor. If the system refuses it, they wait.
pub fn prioritize() {
    let _ = privileges::realtime(1);
}

/// Waits until `socket` can be read; `false` once `stop` is set.
pub fn wait_readable(socket: &impl AsFd, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if matches!(poll(&mut fds, PollTimeout::from(50_u8)), Ok(ready) if ready > 0) {
            return true;
        }
    }
    false
}

/// Locks what threads share; it stays usable when one of them has panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `find` every millisecond until it returns something, for at most `timeout`.
pub fn wait_for<T>(timeout: Duration, mut find: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(value) = find() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
