//! Orphans: as process 1 of a container this process becomes the parent of every process whose own
//! parent has ended, and has to reap it.

use std::sync::Mutex;
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio::time::sleep;

use super::sys;

/// Orphans are in nobody's way until there are many.
const INTERVAL: Duration = Duration::from_secs(1);

/// Held while a child is started and waited for.
static CHILD: Mutex<()> = Mutex::new(());

/// Starts a child and waits for it: `work` does both. Nothing is reaped meanwhile.
pub(crate) fn run_child<T>(work: impl FnOnce() -> T) -> T {
    let _own = CHILD.lock();
    work()
}

/// Reaps all children that end, except for this one, for as long as this is polled; ends at once
/// unless this is process 1.
pub(crate) async fn reap(except: u32) {
    while std::process::id() == 1 {
        reap_once(except);
        sleep(INTERVAL).await;
    }
}

fn reap_once(except: u32) {
    let Ok(_none) = CHILD.try_lock() else { return };
    while let Some(pid) = sys::ended_child().filter(|pid| pid.cast_unsigned() != except) {
        // Its status concerns nobody.
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    }
}
