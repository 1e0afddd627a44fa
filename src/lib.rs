//! vipd keeps a shared ("virtual") IP address on exactly one healthy server of two or more.
//!
//! [`vrrp`] is the protocol and knows nothing of clocks, sockets or files; everything else is the
//! machine round it. `ARCHITECTURE.md` says how the parts fit.

#![warn(unreachable_pub)]

#[macro_use]
mod words;
mod text;

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod exporter;
#[doc(hidden)]
pub mod fuzzing;
pub mod helper;
pub mod host;
pub mod lab;
pub mod vrrp;
