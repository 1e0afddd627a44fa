//! What the daemon and the helper tell each other: one JSON message per packet of the socket pair.

use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::check_run::CheckRun;
use super::hook::{Finished, HookRun};
use crate::config::CheckPlan;

/// What the daemon tells the helper.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum HelperRequest {
    /// Run these hooks.
    RunHooks(HookRun),
    /// Carry this check out from now on, under this number.
    StartCheck { number: u64, plan: CheckPlan, stable_after: u32 },
    /// After so many equal results in a row, one more need not be told at once.
    SetStableAfter { number: u64, stable_after: u32 },
    /// Carry that check out no more.
    StopCheck { number: u64 },
    /// Say that you are there.
    Ping,
}

/// What the helper tells the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum HelperEvent {
    /// These hooks have ended.
    HooksFinished(Finished),
    /// Checks were carried out, in this order.
    CheckRuns(Vec<CheckRun>),
    /// The answer to [`HelperRequest::Ping`].
    Pong,
}

/// The longest message; by default the kernel takes no longer ones anyway.
pub(super) const PACKET_SIZE: usize = 256 * 1024;
const TOO_LONG: &str = "too many addresses or arguments for one message";

/// What became of a request.
pub(super) enum SendOutcome {
    Sent,
    WouldBlock,
    Impossible(String),
    Closed,
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

pub(super) fn send(mut socket: &Socket, request: &HelperRequest) -> SendOutcome {
    let packet = match serde_json::to_vec(request) {
        Ok(packet) if packet.len() > PACKET_SIZE => {
            return SendOutcome::Impossible(TOO_LONG.to_owned());
        }
        Ok(packet) => packet,
        Err(error) => return SendOutcome::Impossible(error.to_string()),
    };
    loop {
        return match socket.write(&packet) {
            Ok(_) => SendOutcome::Sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => SendOutcome::WouldBlock,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                SendOutcome::Impossible(TOO_LONG.to_owned())
            }
            Err(_) => SendOutcome::Closed,
        };
    }
}
