//! The messages between the daemon and the helper: one JSON document per packet.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};

use serde::{Deserialize, Serialize};
use socket2::Socket;

use super::check_run::CheckRun;
use super::hook::{Finished, HookRun};
use crate::config::{CheckPlan, ProgramFaults, ProgramUse};

/// Sent by the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum HelperRequest {
    /// Run hooks, or queue them.
    RunHooks(HookRun),
    /// Run a check repeatedly. `number` identifies it; for `stable_after` see `SetStableAfter`.
    StartCheck {
        number: u64,
        plan: CheckPlan,
        stable_after: u32,
    },
    /// After so many equal results in a row, further ones need not be reported at once.
    SetStableAfter {
        number: u64,
        stable_after: u32,
    },
    StopCheck {
        number: u64,
    },
    /// Answer with [`HelperEvent::Examined`]: looking up users may run anything, and must not in the
    /// process with the daemon's capabilities.
    Examine(BTreeSet<ProgramUse>),
    /// Answer with [`HelperEvent::Pong`].
    Ping,
}

/// Sent by the helper.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum HelperEvent {
    /// A run of hooks has ended.
    HooksFinished(Finished),
    /// Results of checks, in order.
    CheckRuns(Vec<CheckRun>),
    /// The answer to [`HelperRequest::Examine`], or why there is none.
    Examined(Result<ProgramFaults, String>),
    /// The answer to [`HelperRequest::Ping`].
    Pong,
}

/// The maximum size of a message; the default send buffer accepts no larger ones.
pub(super) const PACKET_SIZE: usize = 256 * 1024;
const TOO_LONG: &str = "too many addresses or arguments for one message";

/// The result of sending a request.
pub(super) enum SendOutcome {
    Sent,
    WouldBlock,
    Impossible(String),
    Closed,
}

/// Receives a packet; empty if the other end is closed. The buffer is sized by the kernel's answer
/// to MSG_PEEK, because nearly all packets are short, and a buffer for the longest would stay
/// allocated.
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
