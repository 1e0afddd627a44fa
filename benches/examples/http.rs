//! A client that sends requests to a web server, each on a new connection; and the
//! application behind the proxies.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lab::Host;

const PERIOD: Duration = Duration::from_millis(10);
/// When a client gives up.
const TIMEOUT: Duration = Duration::from_millis(250);

struct Request {
    at: Instant,
    /// When the answer arrived, and the server that sent it.
    answer: Option<(Instant, String)>,
}

/// What a client saw over some time.
#[derive(Clone, Default)]
pub struct RequestCounts {
    pub requests: usize,
    pub failures: usize,
    pub silence: Duration,
    pub answered_by: BTreeMap<String, usize>,
}

/// A client that sends a hundred requests a second, as long as they are answered.
pub struct Browser {
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Browser {
    pub fn start(client: &Host, address: Ipv4Addr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (ended, list) = (Arc::clone(&stop), Arc::clone(&requests));
        let thread = client.namespace().thread("browser", move || {
            while !ended.load(Ordering::Relaxed) {
                let at = Instant::now();
                let answer = ask(SocketAddr::from((address, 80)));
                let answer = answer.ok().map(|server| (Instant::now(), server));
                list.lock().unwrap().push(Request { at, answer });
                thread::sleep((at + PERIOD).saturating_duration_since(Instant::now()));
            }
        });
        Self { stop, requests, thread: Some(thread.unwrap()) }
    }

    /// Of the requests made since then; a silence may have begun before.
    pub fn saw(&self, since: Instant) -> RequestCounts {
        let requests = self.requests.lock().unwrap();
        let mut saw = RequestCounts::default();
        let mut last_answer = None;
        for request in requests.iter() {
            let counts = request.at >= since;
            saw.requests += usize::from(counts);
            match &request.answer {
                Some((at, server)) => {
                    if let (true, Some(last)) = (counts, last_answer) {
                        saw.silence = saw.silence.max(*at - last);
                    }
                    last_answer = Some(*at);
                    if counts {
                        *saw.answered_by.entry(server.clone()).or_default() += 1;
                    }
                }
                None => saw.failures += usize::from(counts),
            }
        }
        if let Some(last) = last_answer {
            saw.silence = saw.silence.max(last.elapsed());
        }
        saw
    }

    /// The server that sent the last answer, if that was after `since`.
    pub fn answered_by(&self, since: Instant) -> Option<String> {
        let requests = self.requests.lock().unwrap();
        let last = requests.last().filter(|last| last.at >= since)?;
        last.answer.as_ref().map(|(_, server)| server.clone())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends one request; returns the server's name.
fn ask(server: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: www\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let mut lines = head.lines();
    let fine = lines.next().is_some_and(|line| line.contains(" 200 ")) && !body.is_empty();
    let name = lines.find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case("x-served-by").then(|| value.to_owned())
    });
    name.filter(|_| fine).ok_or_else(|| io::Error::other(format!("a wrong answer: {head}")))
}

/// The application behind the proxies: answers every connection with one page.
pub struct Application {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    pub fn start(host: &Host, port: u16) -> Self {
        let listener = host.namespace().run(move || TcpListener::bind(("0.0.0.0", port))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = host.namespace().thread("application", move || {
            while !ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(serve(stream)),
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Self { stop, thread: Some(thread.unwrap()) }
    }
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => request.extend(&buffer[..length]),
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n")
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
