//! What the daemon and the helper tell each other: one JSON message per packet of the socket pair.

use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::check_run::CheckRun;
use super::hook::{Finished, HookRun};
use crate::config::CheckPlan;

/// What the daemon tells the helper.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Run these hooks.
    Run(HookRun),
    /// Carry this check out from now on, under this number.
    Watch { number: u64, plan: CheckPlan, settled: u32 },
    /// After so many equal results in a row, one more need not be told at once.
    Settle { number: u64, settled: u32 },
    /// Carry that check out no more.
    Forget { number: u64 },
    /// Say that you are there.
    Answer,
}

/// What the helper tells the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// These hooks have ended.
    Finished(Finished),
    /// Checks were carried out, in this order.
    Checked(Vec<CheckRun>),
    /// The answer to [`Order::Answer`].
    Here,
}

/// The longest message; by default the kernel takes no longer ones anyway.
pub(super) const PACKET_SIZE: usize = 256 * 1024;
const TOO_LONG: &str = "too many addresses or arguments for one message";

/// What became of an order.
pub(super) enum Sent {
    Yes,
    Later,
    Never(String),
    Gone,
}

/// The next packet, empty at the end. It is as long as the kernel says: nearly all are short, and
/// room for the longest would never be given back.
pub(super) fn next_packet(mut socket: &Socket) -> io::Result<Vec<u8>> {
    let length = socket.recv_with_flags(&mut [], libc::MSG_PEEK | libc::MSG_TRUNC)?;
    let mut packet = vec![0; length];
    let length = socket.read(&mut packet)?;
    packet.truncate(length);
    Ok(packet)
}

pub(super) fn send(mut socket: &Socket, order: &Order) -> Sent {
    let packet = match serde_json::to_vec(order) {
        Ok(packet) if packet.len() > PACKET_SIZE => return Sent::Never(TOO_LONG.to_owned()),
        Ok(packet) => packet,
        Err(error) => return Sent::Never(error.to_string()),
    };
    loop {
        return match socket.write(&packet) {
            Ok(_) => Sent::Yes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Later,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                Sent::Never(TOO_LONG.to_owned())
            }
            Err(_) => Sent::Gone,
        };
    }
}
