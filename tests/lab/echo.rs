//! TCP echo (RFC 862): servers on the hosts, and a client with a long-lived connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};
use vipd::lab::{Host, LabThread, Namespace, lock, wait_for};

const PORT: u16 = 7;
/// Pause between two messages of a conversation.
const PAUSE: Duration = Duration::from_millis(20);

/// A thread that echoes on all connections to an address.
#[derive(Debug)]
pub struct EchoServer {
    _thread: LabThread,
}

impl EchoServer {
    pub fn start(namespace: &Namespace, ip: IpAddr) -> io::Result<Self> {
        let listener = namespace.run(move || {
            let socket = Socket::new(Domain::for_address((ip, PORT).into()), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            // Bound before the address is there and after it has gone.
            match ip {
                IpAddr::V4(_) => socket.set_freebind_v4(true)?,
                IpAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
            socket.bind(&SocketAddr::from((ip, PORT)).into())?;
            socket.listen(16)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(TcpListener::from(socket))
        })?;
        let thread = LabThread::start(namespace, "echo", move |stop| serve(&listener, stop))?;
        Ok(Self { _thread: thread })
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    let mut streams: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut fds = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(streams.iter().map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN)));
        let _ = poll(&mut fds, PollTimeout::from(50_u8));
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                streams.push(stream);
            }
        }
        streams.retain_mut(|stream| {
            let mut buffer = [0; 1024];
            match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(length) => stream.write_all(buffer.get(..length).unwrap_or_default()).is_ok(),
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            }
        });
    }
}

/// Whether a new connection from `client` to `ip` is echoed within `timeout`.
pub fn connects(client: &Host, ip: IpAddr, timeout: Duration) -> bool {
    client.namespace().run(move || {
        let connect = || {
            let mut stream = TcpStream::connect_timeout(&(ip, PORT).into(), timeout)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.write_all(b"?")?;
            stream.read_exact(&mut [0])
        };
        connect().is_ok()
    })
}

#[derive(Debug)]
struct Talk {
    answered_at: Instant,
    broken: bool,
}

/// A long-lived connection with steady traffic.
#[derive(Debug)]
pub struct EchoConnection {
    talk: Arc<Mutex<Talk>>,
    _thread: LabThread,
}

impl EchoConnection {
    /// Connects from `client` to `ip`, and sends and receives from then on.
    ///
    /// # Errors
    /// The connection fails, for example as no host holds the address.
    pub fn start(client: &Host, ip: IpAddr) -> io::Result<Self> {
        let stream = client.namespace().run(move || {
            let stream = TcpStream::connect_timeout(&(ip, PORT).into(), Duration::from_secs(1))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_millis(50)))?;
            io::Result::Ok(stream)
        })?;
        let talk = Arc::new(Mutex::new(Talk { answered_at: Instant::now(), broken: false }));
        let thread = LabThread::start(client.namespace(), "talk", {
            let talk = Arc::clone(&talk);
            move |stop| {
                if echo_loop(stream, &talk, stop).is_err() {
                    lock(&talk).broken = true;
                }
            }
        })?;
        Ok(Self { talk, _thread: thread })
    }

    /// Whether it is answered once more, within `timeout`.
    pub fn continues(&self, timeout: Duration) -> bool {
        let asked = Instant::now();
        let outcome = wait_for(timeout, || {
            let talk = lock(&self.talk);
            (talk.broken || talk.answered_at > asked).then_some(!talk.broken)
        });
        outcome.unwrap_or(false)
    }
}

fn echo_loop(mut stream: TcpStream, talk: &Mutex<Talk>, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(b"?")?;
        loop {
            match stream.read_exact(&mut [0]) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        lock(talk).answered_at = Instant::now();
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
