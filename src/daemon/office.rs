//! What may take its time: clients of the control socket, history, reading files, trying out a
//! successor. All of it on a thread without real-time priority, for which the advert loop never waits.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::config::Config;
use crate::daemon::history::History;
use crate::host::letterbox::Slot;
use crate::host::sys;

/// One each for a reload, a drain, a restart's check, writing and reading history, and a status
/// document: a disk that hangs must not keep the others waiting.
const BLOCKING_THREADS: usize = 6;

/// By then what a configuration brings about has been done, or nearly all of it.
const APPLIED: Duration = Duration::from_secs(2);

/// The thread, and the way to it.
#[derive(Debug)]
pub(super) struct Office {
    runtime: Handle,
    /// Dropped when the thread is to end.
    _open: oneshot::Sender<()>,
}

/// What came of something that was to be done there.
#[derive(Debug)]
pub(super) enum Errand {
    /// The configuration was read and checked.
    Reload(Result<Box<Config>, String>),
    /// Whether a successor could start.
    Restart(Result<(), String>),
}

impl Office {
    /// Starts the thread, without the real-time priority of the one that calls this.
    pub(super) fn open() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let (open, closed) = oneshot::channel();
        let office = Office { runtime: runtime.handle().clone(), _open: open };
        thread::Builder::new().name("office".to_owned()).spawn(move || serve(runtime, closed))?;
        Ok(office)
    }

    /// For those who spawn tasks there.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Has something done that may wait for a disk or a program, and sends what came of it.
    pub(super) fn commission<T: Send + 'static>(
        &self,
        to: &Slot<Errand>,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
        errand: impl FnOnce(Result<T, String>) -> Errand + Send + 'static,
    ) {
        let to = to.clone();
        let done = self.runtime.spawn_blocking(work);
        self.runtime.spawn(async move {
            to.send(errand(done.await.unwrap_or_else(|error| Err(error.to_string()))));
        });
    }

    /// Gives memory back soon: reading and applying a file takes several times what is kept of it.
    pub(super) fn tidy(&self) {
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
    // A disk that hangs keeps no successor waiting.
    runtime.shutdown_background();
}
