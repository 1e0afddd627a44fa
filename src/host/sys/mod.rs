//! What the kernel offers and no crate wraps safely: the one module with `unsafe`.
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
