//! `ping`: a host answers an echo request.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio::sync::oneshot;

use super::tcp::describe;
use crate::host::echo::{self, EchoSocket, EchoSockets};
use crate::vrrp::Family;

pub(super) struct PingCheck(IpAddr);

impl PingCheck {
    pub(super) fn new(address: IpAddr) -> Self {
        PingCheck(address)
    }

    pub(super) async fn run(&self, pings: &Pings) -> Result<String, String> {
        pings.ask(self.0).await.map_err(|error| format!("{}: {}", self.0, describe(&error)))?;
        Ok(format!("{} answers", self.0))
    }
}

/// The identifier of our echo requests on raw sockets; on ping sockets the kernel chooses it.
pub(in crate::helper) fn identifier() -> u16 {
    std::process::id() as u16
}

/// The sockets and pending requests of all ping checks.
pub(super) struct Pings {
    v4: io::Result<Echo>,
    v6: io::Result<Echo>,
    /// Makes tokens that a host that does not see the request cannot guess.
    secret: RandomState,
    sent: AtomicU64,
}

struct Echo {
    socket: Arc<UdpSocket>,
    family: Family,
    waiting: Arc<PendingReplies>,
}

/// Pending requests by token: the address asked, and the channel to notify.
type PendingReplies = Mutex<HashMap<u64, (IpAddr, oneshot::Sender<()>)>>;

impl Pings {
    /// Needs a running tokio runtime.
    pub(super) fn new(sockets: EchoSockets) -> Self {
        Pings {
            v4: sockets.v4.and_then(|socket| Echo::new(socket, Family::V4)),
            v6: sockets.v6.and_then(|socket| Echo::new(socket, Family::V6)),
            secret: RandomState::new(),
            sent: AtomicU64::new(0),
        }
    }

    /// Sends an echo request and waits for the reply, without a timeout.
    async fn ask(&self, address: IpAddr) -> io::Result<()> {
        let echo = match address {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let echo = echo.as_ref().map_err(|error| {
            let text = format!(
                "no socket for pings ({}): set net.ipv4.ping_group_range, or give vipd CAP_NET_RAW",
                describe(error)
            );
            io::Error::new(error.kind(), text)
        })?;
        let sent = self.sent.fetch_add(1, Ordering::Relaxed);
        let token = self.secret.hash_one(sent);
        let (answer, answered) = oneshot::channel();
        let waits = Waits { token, waiting: &echo.waiting };
        lock(&echo.waiting).insert(token, (address, answer));
        let message = request(echo.family, identifier(), sent as u16, token);
        echo.socket.send_to(&message, SocketAddr::new(address, 0)).await?;
        let outcome = answered.await.map_err(io::Error::other);
        drop(waits);
        outcome
    }
}

/// Removes the pending request when it is dropped, also after a timeout.
struct Waits<'a> {
    token: u64,
    waiting: &'a PendingReplies,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        lock(self.waiting).remove(&self.token);
    }
}

impl Echo {
    fn new(opened: EchoSocket, family: Family) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::from_std(opened.socket)?);
        let waiting = Arc::new(PendingReplies::default());
        let (there, all) = (Arc::clone(&socket), Arc::clone(&waiting));
        tokio::spawn(async move {
            let mut buffer = [0; 256];
            loop {
                match there.recv_from(&mut buffer).await {
                    Ok((length, from)) => {
                        let packet = buffer.get(..length).unwrap_or_default();
                        if let Some(token) = token(packet, family, opened.with_header) {
                            answered(&all, token, from.ip());
                        }
                    }
                    // An ICMP error about another request, which will time out.
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        Ok(Echo { socket, family, waiting })
    }
}

fn answered(waiting: &PendingReplies, token: u64, from: IpAddr) {
    let mut waiting = lock(waiting);
    if waiting.get(&token).is_some_and(|(asked, _)| *asked == from)
        && let Some((_, answer)) = waiting.remove(&token)
    {
        // It may have timed out just now.
        let _ = answer.send(());
    }
}

fn lock(
    waiting: &PendingReplies,
) -> std::sync::MutexGuard<'_, HashMap<u64, (IpAddr, oneshot::Sender<()>)>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An echo request: type, code, checksum, identifier, sequence number, and the token as its data.
fn request(family: Family, identifier: u16, sequence: u16, token: u64) -> Vec<u8> {
    let mut message = vec![echo::request_type(family), 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(token.to_be_bytes());
    match family {
        Family::V4 => {
            let sum = pnet::util::checksum(&message, 1).to_be_bytes();
            message.splice(2..4, sum);
        }
        // Computed by the kernel.
        Family::V6 => {}
    }
    message
}

/// The token of an echo reply that may be for us.
pub(crate) fn token(packet: &[u8], family: Family, with_header: bool) -> Option<u64> {
    let header = if with_header { usize::from(packet.first()? & 0x0f) * 4 } else { 0 };
    let message = packet.get(header..)?;
    if *message.first()? != echo::reply_type(family) || *message.get(1)? != 0 {
        return None;
    }
    Some(u64::from_be_bytes(*message.get(8..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_known_by_its_token_and_nothing_else_is_one() {
        let request = request(Family::V4, 7, 1, 42);
        assert_eq!(pnet::util::checksum(&request, 1), u16::from_be_bytes([request[2], request[3]]));
        assert_eq!(token(&request, Family::V4, false), None);
        let mut reply = request;
        reply[0] = 0;
        assert_eq!(token(&reply, Family::V4, false), Some(42));
        let with_header = [&[0x45; 20], &*reply].concat();
        assert_eq!(token(&with_header, Family::V4, true), Some(42));
        for length in 0..reply.len() {
            assert_eq!(token(&reply[..length], Family::V4, false), None);
        }
        assert_eq!(token(&[0x4f; 20], Family::V4, true), None);
    }
}
