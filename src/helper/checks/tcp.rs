//! `tcp`: a connection is accepted. `http` connects in the same way.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::blocking::Blocking;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

pub(super) struct TcpCheck(TcpTarget);

impl TcpCheck {
    pub(super) fn new(host: String, port: u16) -> Self {
        TcpCheck(TcpTarget::new(host, port))
    }

    pub(super) async fn run(&mut self, limit: Duration) -> Result<String, String> {
        let stream = self.0.connect(limit).await?;
        let peer = stream.peer_addr().map_err(|error| error.to_string())?;
        Ok(format!("connected to {peer}"))
    }
}

/// A host and port to connect to.
pub(super) struct TcpTarget {
    host: String,
    port: u16,
    look_up: Blocking<io::Result<Vec<SocketAddr>>>,
}

impl TcpTarget {
    pub(super) fn new(host: String, port: u16) -> Self {
        TcpTarget { host, port, look_up: Blocking::default() }
    }

    /// Tries all addresses in turn, each with its share of the time left. Names are looked up each
    /// time, because their addresses may change.
    pub(super) async fn connect(&mut self, limit: Duration) -> Result<TcpStream, String> {
        let deadline = Instant::now() + limit;
        let addresses = self.addresses().await?;
        let mut failed = Vec::new();
        for (tried, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed.push(format!("{address}: {}", describe(&error))),
                Err(_) => failed.push(format!("{address}: no answer within {limit:?}")),
            }
        }
        Err(failed.join("; "))
    }

    async fn addresses(&mut self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let (host, port) = (self.host.clone(), self.port);
        let look_up = move || {
            let found = (host.as_str(), port).to_socket_addrs()?;
            Ok(found.take(MAX_ADDRESSES).collect())
        };
        match self.look_up.run(look_up).await? {
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(format!("{}: {}", self.host, describe(&error))),
        }
    }
}

/// The message of an error, without its number.
pub(super) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}
