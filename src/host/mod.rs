//! The machine: everything that needs privileges or has a clock.

pub mod advert_socket;
mod bpf;
pub mod clock;
pub mod links;
pub mod neighbours;
pub mod netlink;
pub mod sys;
