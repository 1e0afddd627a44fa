//! Work that may block for as long as it likes (a name server, a file system on a network): done by
//! the blocking pool, one piece at a time for each check.

use tokio::task::JoinHandle;

/// The one piece of such work of one check.
#[derive(Debug)]
pub(super) struct Blocking<T>(Option<JoinHandle<T>>);

impl<T> Default for Blocking<T> {
    fn default() -> Self {
        Blocking(None)
    }
}

impl<T: Send + 'static> Blocking<T> {
    /// Does the work, after what is left of an earlier run whose limit ended: what that finds is
    /// old.
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
