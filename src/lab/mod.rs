//! A lab of real network namespaces for `vipd demo`: hosts on a switch, a client that probes, an
//! observer of the wire. `tests/lab` adds what only tests and benches need.
//!
//! Nothing outside is touched: all namespaces are anonymous and vanish with the processes in them.
//! The first call of `main`, while there is one thread, is [`enter`]; then [`Lab::new`].

pub mod capture;
mod daemon;
mod link;
mod namespace;
mod network;
mod observer;
mod prober;
mod responder;
mod threads;

pub use daemon::Daemon;
pub use link::{LinkEditor, address_of};
pub use namespace::{Namespace, child_main, enter};
pub use network::{Host, Lab, Ports, Switch};
pub use observer::{Advert, Observer, Seen, Sighting};
pub use prober::{ProbeReport, Prober};
pub use responder::Responder;
pub use threads::{LabThread, lock, prioritize, wait_for, wait_readable};
