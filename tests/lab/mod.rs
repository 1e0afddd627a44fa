//! The lab of `vipd demo` with what tests and benches need beyond it: faults of hosts and cables, who
//! held an address when, keepalived, TCP, and senders of wrong adverts.
//!
//! Each test and bench includes it as a module and uses a part of it.
#![allow(dead_code, unused_imports)]

mod daemon;
mod echo;
mod link;
mod network;
mod ownership;
mod router_spec;
mod stranger;

pub use daemon::Daemon;
pub use echo::{EchoConnection, EchoServer, connects};
pub use link::LinkChanges;
pub use network::{Host, Lab, Lost};
pub use ownership::Ownership;
pub use router_spec::{Program, RouterSpec, configuration, keepalived};
pub use stranger::{Malformation, Stranger};
pub use vipd::lab::{
    Advert, LinkEditor, Namespace, Observer, ProbeReport, Prober, Seen, Sighting, Switch, capture,
    child_main, enter, wait_for,
};
