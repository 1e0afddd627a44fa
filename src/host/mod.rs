//! The machine: sockets, netlink, clocks, signals, privileges, systemd.
//!
//! Each module opens what it needs of the kernel and returns events as plain values. None of them
//! uses the protocol's [`Node`](crate::vrrp::Node), the helper process or the configuration file;
//! the daemon connects them.

pub(crate) mod advert_capture;
pub mod advert_socket;
pub(crate) mod backoff;
mod bpf;
pub mod clock;
pub(crate) mod echo;
pub(crate) mod event_channel;
pub(crate) mod exclusive;
pub(crate) mod files;
pub(crate) mod kernel;
pub(crate) mod log;
pub mod neighbours;
pub mod netlink;
pub(crate) mod orphans;
pub(crate) mod poller;
pub mod privileges;
pub(crate) mod record;
pub(crate) mod route;
pub mod sandbox;
pub(crate) mod signals;
pub mod sys;
pub(crate) mod systemd;
pub mod trust;
