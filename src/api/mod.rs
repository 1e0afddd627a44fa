//! What clients of the daemon see: the control protocol and a client for it, the status, the
//! counters and the events.
//!
//! It depends on serde and `std` alone, so a client links neither the protocol nor the driver. Names
//! in these documents are snake_case and stay once published.

pub mod client;
pub mod counters;
pub mod events;
pub mod protocol;
pub mod status;

pub use client::{Client, ClientError};
