//! Interfaces and addresses of this host, by rtnetlink(7).
//!
//! A [`Worker`] claims, renews and releases addresses on a thread of its own. A [`Monitor`] passes on the
//! kernel's notifications about interfaces and addresses, from which [`Links`] keeps the
//! state of the interfaces in use. One message format serves both.

mod error;
mod groups;
mod links;
mod monitor;
mod operation;
mod socket;
pub(crate) mod wire;
mod worker;

pub use error::AddressError;
pub use groups::{NeighbourTable, neighbour_tables};
pub use links::{LinkChange, Links};
pub use monitor::{Monitor, NetEvent};
pub use operation::{JobTarget, Operation};
pub use wire::{IFA_PROTO_VIPD, InterfaceAddress, Link};
pub use worker::{JobOutcome, Progress, Worker, WorkerJob};
