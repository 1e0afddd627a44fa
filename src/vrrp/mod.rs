//! The VRRP protocol without I/O: events and the time go in, actions come out.
//!
//! Nothing in here reads a clock, uses a socket, draws a random number or logs above debug. The
//! path of an advert: bytes -> [`advert`] -> the election in [`router`] -> [`action`]s of [`node`]
//! -> [`delivery`].

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod action;
pub mod advert;
mod backoff;
pub mod binding;
pub mod check;
pub mod config;
pub mod delivery;
pub mod discard;
pub mod event;
pub mod group;
pub mod held;
pub mod holding;
pub mod hook;
pub mod id;
pub mod mark;
pub mod node;
pub mod owner;
pub mod reason;
pub mod record;
pub mod refusal;
pub mod role;
pub mod router;
pub mod source;
pub mod time;
pub mod warning;
pub mod why;

pub use action::{Action, Transition};
pub use advert::Advert;
pub use binding::Binding;
pub use check::{Check, CheckId, Probe, Verdict};
pub use config::*;
pub use delivery::Delivery;
pub use discard::{Discard, DiscardReason, Mismatch};
pub use event::*;
pub use group::Group;
pub use held::Held;
pub use holding::Holding;
pub use hook::{Hook, HookOutcome};
pub use id::{LinkId, Mac, RouterId};
pub use mark::Mark;
pub use node::{Handled, Node};
pub use reason::Reason;
pub use record::{MasterHook, RecordEntry};
pub use refusal::{Refusal, SendError};
pub use role::{Leave, Role};
pub use router::{Phase, State, VirtualRouter};
pub use time::Instant;
pub use warning::Warning;
pub use why::Why;
