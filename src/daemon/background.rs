//! Work that may be slow: clients of the control socket, history, reading files, checking whether a
//! successor could start. It runs on a thread without real-time priority, for which the advert loop
//! never waits.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::config::{Config, ProgramFaults, ProgramUse};
use crate::daemon::history::History;
use crate::host::event_channel::Sender;
use crate::host::sys;

/// One thread each for a reload, a drain, the check before a restart, writing history, reading it, and
/// a status document: a disk that hangs for one must not delay the others.
const BLOCKING_THREADS: usize = 6;

/// When most work that follows a reload is finished.
const APPLIED: Duration = Duration::from_secs(2);

/// The background thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Background {
    runtime: Handle,
    /// Dropping it ends the thread.
    _open: oneshot::Sender<()>,
}

/// The result of work that was done in the background.
#[derive(Debug)]
pub(super) enum Completion {
    /// A reload has these programs examined, and waits for the answer.
    Examine(BTreeSet<ProgramUse>, mpsc::Sender<Result<ProgramFaults, String>>),
    /// The configuration was read and checked.
    Reload(Result<Box<Config>, String>),
    /// Whether a successor could start.
    Restart(Result<(), String>),
}

impl Background {
    /// Starts the thread, without the real-time priority of the one that calls this.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let (open, closed) = oneshot::channel();
        let background = Background { runtime: runtime.handle().clone(), _open: open };
        thread::Builder::new()
            .name("background".to_owned())
            .spawn(move || serve(runtime, closed))?;
        Ok(background)
    }

    /// The runtime, for spawning tasks on the thread.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Does work that may wait for a disk or a program, and sends its result.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        to: &Sender<Completion>,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
        completion: impl FnOnce(Result<T, String>) -> Completion + Send + 'static,
    ) {
        let to = to.clone();
        let done = self.runtime.spawn_blocking(work);
        self.runtime.spawn(async move {
            to.send(completion(done.await.unwrap_or_else(|error| Err(error.to_string()))));
        });
    }

    /// Gives memory back soon: reading and applying a configuration takes several times what is kept
    /// of it.
    pub(super) fn free_memory_soon(&self) {
        self.runtime.spawn(async {
            sleep(APPLIED).await;
            sys::trim_heap();
        });
    }

    /// Lets history be written, for a moment, and ends the thread.
    pub(super) fn close(self, history: History) {
        self.runtime.block_on(history.end());
    }
}

fn serve(runtime: Runtime, closed: oneshot::Receiver<()>) {
    let _ = runtime.block_on(closed);
    // A disk that hangs must not delay the successor.
    runtime.shutdown_background();
}
