//! A host's answers to the datagrams of a [`Prober`](super::Prober).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::AtomicBool;

use socket2::{Domain, Socket, Type};

use super::namespace::Namespace;
use super::threads::{LabThread, prioritize, wait_readable};

/// The echo port (RFC 862), free in every new namespace.
pub(super) const PORT: u16 = 7;

/// A thread that answers datagrams to an address with the host's name while the host holds it.
#[derive(Debug)]
pub struct Responder {
    _thread: LabThread,
}

impl Responder {
    pub(super) fn start(namespace: &Namespace, host: &str, ip: IpAddr) -> io::Result<Self> {
        let socket = namespace.run(move || {
            let socket = Socket::new(Domain::for_address((ip, PORT).into()), Type::DGRAM, None)?;
            // Bound before the address is there and after it has gone.
            match ip {
                IpAddr::V4(_) => socket.set_freebind_v4(true)?,
                IpAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
            socket.bind(&SocketAddr::from((ip, PORT)).into())?;
            io::Result::Ok(UdpSocket::from(socket))
        })?;
        let host = host.to_owned();
        let thread = LabThread::start(namespace, "responder", move |stop| {
            prioritize();
            respond(&socket, &host, stop);
        })?;
        Ok(Self { _thread: thread })
    }
}

/// Answers with the eight bytes of the probe and the host's name.
fn respond(socket: &UdpSocket, host: &str, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    while wait_readable(socket, stop) {
        let Ok((8, client)) = socket.recv_from(&mut buffer) else { continue };
        let answer = [buffer.get(..8).unwrap_or_default(), host.as_bytes()].concat();
        // A host that has just released the address cannot answer from it any more.
        let _ = socket.send_to(&answer, client);
    }
}
