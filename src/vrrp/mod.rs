//! The protocol, pure: it is told what happened and when, and says what to do.
//!
//! Nothing in here reads a clock, touches a socket, draws a random number or logs above debug.
//! One advert's way: bytes -> `advert` -> the election in `router` -> actions of `node`.

pub mod advert;
pub mod config;
pub mod time;

pub use config::*;
pub use time::Instant;
