//! Work that may block for long (name server, network file system), run on the blocking pool, at
//! most one job at a time per check.

use tokio::task::JoinHandle;

/// The blocking job of one check.
#[derive(Debug)]
pub(super) struct Blocking<T>(Option<JoinHandle<T>>);

impl<T> Default for Blocking<T> {
    fn default() -> Self {
        Blocking(None)
    }
}

impl<T: Send + 'static> Blocking<T> {
    /// Runs a job, after waiting for one that an earlier, timed out run left behind, whose result
    /// is discarded.
    pub(super) async fn run(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        if let Some(earlier) = &mut self.0 {
            let _ = earlier.await;
            self.0 = None;
        }
        let handle = self.0.insert(tokio::task::spawn_blocking(work));
        let result = handle.await.map_err(|error| error.to_string());
        self.0 = None;
        result
    }
}
