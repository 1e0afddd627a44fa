//! A lab of real network namespaces: hosts on a switch, a client that probes, an observer on the
//! wire. For `vipd demo`, `netns-tests/` and `benches/`.
//!
//! Nothing outside is touched: all namespaces are anonymous and vanish with the processes in them.
//! The first call of `main`, while there is one thread, is [`enter`]; then [`Lab::new`].

pub mod capture;
mod daemon;
mod echo;
mod link;
mod namespace;
mod network;
mod observer;
mod probe;
mod stranger;

pub use daemon::{Daemon, Program, RouterSpec, configuration, keepalived};
pub use echo::{Conversation, EchoServer, connects};
pub use link::Links;
pub use namespace::{Namespace, child_main, enter};
pub use network::{Host, Lab, Lost, Ownership, Switch};
pub use observer::{Advert, Observer, Seen, Sighting};
pub use probe::{ProbeReport, Prober, Responder};
pub use stranger::{Malformation, Stranger};

use std::time::{Duration, Instant};

/// Looks every millisecond until `found` gives something, at most for `patience`.
pub fn wait_for<T>(patience: Duration, mut found: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = found() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
