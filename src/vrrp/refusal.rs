//! Adverts that did not leave, or did not arrive: to which destination, and why.

use std::fmt;
use std::net::IpAddr;

use super::time::Instant;

/// Why an advert did not leave for a destination, or did not arrive there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SendError {
    /// A packet filter or a prohibiting route (EPERM, EACCES).
    Filtered,
    /// No route, no neighbour, or no interface (ENETUNREACH, EHOSTUNREACH, ENODEV and the like).
    Unreachable,
    /// The neighbour table or the transmit queue is full (ENOBUFS).
    Full,
    /// The send buffer of the socket is full (EAGAIN): packets to neighbours that do not answer wait in
    /// it.
    BufferFull,
    /// The host is there, and has no program for the protocol (ENOPROTOOPT, EPROTO).
    NoDaemon,
    /// Any other error number (errno(3)).
    Other(i32),
}

names! {
    SendError {
        Filtered = "filtered",
        Unreachable = "unreachable",
        Full = "full",
        BufferFull = "buffer_full",
        NoDaemon = "no_daemon",
        Other = "other",
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Filtered => f.write_str("a packet filter of this host drops them"),
            SendError::Unreachable => f.write_str("there is no way to it"),
            SendError::Full => f.write_str("the neighbour table or the transmit queue is full"),
            SendError::BufferFull => {
                f.write_str("the send buffer is full of packets to hosts that do not answer")
            }
            SendError::NoDaemon => f.write_str("no VRRP daemon runs there"),
            SendError::Other(errno) => write!(f, "error {errno} of the kernel"),
        }
    }
}

/// A destination that an advert did not leave for, or did not arrive at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    pub to: IpAddr,
    pub error: SendError,
    /// When it last did.
    pub at: Instant,
}
