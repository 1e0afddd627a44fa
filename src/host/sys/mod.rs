//! Safe wrappers of system calls and library functions that no dependency wraps.
//!
//! `unsafe` is allowed in this directory only. Every block has a `SAFETY` comment.
#![allow(unsafe_code)]

#[cfg(miri)]
mod loopback;
mod mapped;
mod memory;
mod packets;
mod process;
mod readiness;
mod socket;

pub(crate) use mapped::MappedFile;
pub(crate) use memory::{map_large_allocations, release_code_pages, trim_heap};
pub(crate) use packets::{OutgoingPacket, PacketBuffer, ReceivedPacket, SEND_BATCH, send_all};
pub(crate) use process::{
    close_on_exec_from, ended_child, forbid_realtime, fork, has_one_thread, pidfd_open, reap_child,
    set_scheduler,
};
pub use readiness::Readiness;
pub(crate) use readiness::epoll_wait;
pub(crate) use socket::interface_flags;
pub use socket::{link_address, set_option};
