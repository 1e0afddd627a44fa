//! The addresses and interfaces of this host, by rtnetlink: a [`Worker`] that claims, renews and
//! releases addresses on a thread of its own, and the [`Events`] by which the kernel tells what
//! became of them.

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
