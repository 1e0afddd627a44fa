//! Interfaces and addresses of this host, by rtnetlink(7).
//!
//! A [`Worker`] claims, renews and releases addresses on a thread of its own. [`Events`] are the
//! kernel's notifications about interfaces and addresses, from which [`links::Links`] keeps the
//! state of the interfaces in use. One message format serves both.

mod failure;
pub mod links;
mod monitor;
mod socket;
mod wire;
mod worker;

pub use failure::Failure;
pub use monitor::{Events, NetEvent};
pub use wire::{Found, IFA_PROTO_VIPD, Link};
pub use worker::{Done, Job, Report, Work, Worker};
