//! What clients of the daemon see.

pub mod counters;
pub mod status;
