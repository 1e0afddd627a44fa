//! The protocol, pure: it is told what happened and when, and says what to do.
//!
//! Nothing in here reads a clock, touches a socket, draws a random number or logs above debug.
//! One advert's way: bytes -> [`advert`] -> the election in [`router`] -> [`action`]s of [`node`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod action;
pub mod advert;
pub mod check;
pub mod config;
pub mod delivery;
pub mod discard;
pub mod event;
pub mod group;
pub mod id;
pub mod node;
pub mod record;
pub mod router;
pub mod time;
pub mod warning;
pub mod why;

pub use action::{Action, Transition};
pub use advert::Advert;
pub use check::{Check, CheckId, Probe, Verdict};
pub use config::*;
pub use delivery::Delivery;
pub use discard::{Discard, DiscardReason, Mismatch};
pub use event::*;
pub use group::Group;
pub use id::{LinkId, Mac, RouterId};
pub use node::{Handled, Node};
pub use record::{AddressesFound, MasterHook, RecordEntry};
pub use router::{Leave, Phase, Reason, Role, State, VirtualRouter};
pub use time::Instant;
pub use warning::Warning;
pub use why::Why;
