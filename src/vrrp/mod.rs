//! The protocol, pure: it is told what happened and when, and says what to do.
//!
//! Nothing in here reads a clock, touches a socket, draws a random number or logs above debug.
//! One advert's way: bytes -> [`advert`] -> the election in [`router`] -> actions of [`node`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod advert;
pub mod check;
pub mod config;
pub mod delivery;
pub mod group;
pub mod node;
pub mod router;
pub mod time;

pub use advert::Advert;
pub use check::{Check, CheckId, Probe, Verdict};
pub use config::*;
pub use delivery::Delivery;
pub use group::Group;
pub use node::*;
pub use router::{Leave, Phase, Reason, Role, State, VirtualRouter};
pub use time::Instant;
