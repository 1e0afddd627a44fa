//! Safe wrappers of system calls and library functions that no dependency wraps.
//!
//! `unsafe` is allowed in this directory only. Every block has a `SAFETY` comment.
#![allow(unsafe_code)]

mod mapped;
mod memory;
mod packets;
mod process;
mod readiness;
mod socket;

pub use mapped::Mapped;
pub use memory::{forget_code, give_back_freed, map_large_allocations};
pub use packets::{Inbox, Outgoing, Packet, SEND_BATCH, send_all};
pub use process::{forbid_realtime, open_process, set_scheduler};
pub use readiness::{Readiness, wait};
pub use socket::{interface_flags, link_address, set_option};
