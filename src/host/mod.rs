//! The machine: sockets, netlink, clocks, signals, privileges, systemd.
//!
//! Each part opens what it needs of the kernel and yields what happens as plain values. None of them
//! knows the protocol's [`Node`](crate::vrrp::Node), the helper process or the configuration file:
//! that is the daemon's part.

pub mod advert_capture;
pub mod advert_socket;
pub mod backoff;
mod bpf;
pub mod clock;
pub mod echo;
pub(crate) mod event_channel;
pub mod exclusive;
pub(crate) mod kernel;
pub mod neighbours;
pub mod netlink;
pub(crate) mod poller;
pub mod privileges;
pub mod record;
pub mod signals;
pub mod sys;
pub mod systemd;
