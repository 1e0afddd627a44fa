//! A client that asks the shared address a thousand times a second.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::network::Host;
use super::responder::PORT;
use super::threads::{LabThread, lock, prioritize};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// Enough for ten minutes at a thousand per second.
const MAX_PROBES: usize = 600_000;

#[derive(Clone, Debug)]
struct SentProbe {
    sent: Instant,
    answer: Option<(Instant, Arc<str>)>,
}

/// A client that probes an address at a steady rate.
#[derive(Debug)]
pub struct Prober {
    probes: Arc<Mutex<Vec<SentProbe>>>,
    _thread: LabThread,
}

impl Prober {
    /// A later answer does not count: a client would have asked again.
    pub const TOO_LATE: Duration = Duration::from_millis(250);

    /// Probes `ip` from `client` once every `period`.
    pub fn start(client: &Host, ip: IpAddr, period: Duration) -> io::Result<Self> {
        let socket = client.namespace().run(move || {
            let any: SocketAddr = match ip {
                IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
                IpAddr::V6(_) => ([0_u16; 8], 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        })?;
        let probes = Arc::new(Mutex::new(Vec::new()));
        let thread = LabThread::start(client.namespace(), "prober", {
            let probes = Arc::clone(&probes);
            move |stop| {
                prioritize();
                probe(&socket, (ip, PORT).into(), period, &probes, stop);
            }
        })?;
        Ok(Self { probes, _thread: thread })
    }

    /// The results of the probes sent between two points in time. Probes so recent that an answer
    /// may still come are left out.
    pub fn report(&self, from: Instant, to: Instant) -> ProbeReport {
        let now = Instant::now();
        let probes = lock(&self.probes);
        let mut report = ProbeReport::default();
        let mut answers = Vec::new();
        for probe in probes.iter().filter(|probe| probe.sent < to) {
            let answer = probe
                .answer
                .as_ref()
                .filter(|(at, _)| at.duration_since(probe.sent) <= Self::TOO_LATE);
            answers.extend(answer.map(|(at, _)| *at));
            if probe.sent < from {
                continue;
            }
            match answer {
                Some((_, host)) => {
                    report.sent += 1;
                    *report.answered_by.entry(host.to_string()).or_default() += 1;
                }
                None if now.duration_since(probe.sent) > Self::TOO_LATE => {
                    report.sent += 1;
                    report.lost += 1;
                }
                None => {}
            }
        }
        answers.sort();
        // A silence may have begun before the first of these probes.
        for pair in answers.windows(2) {
            if let [earlier, later] = pair
                && *later >= from
            {
                report.longest_silence = report.longest_silence.max(*later - *earlier);
            }
        }
        report
    }

    /// Who answered first in each of `columns` spans since `from`.
    pub fn strip(&self, from: Instant, span: Duration, columns: usize) -> Vec<Option<String>> {
        let mut strip = vec![None; columns];
        for (at, host) in lock(&self.probes).iter().filter_map(|probe| probe.answer.as_ref()) {
            let column = at.checked_duration_since(from).map(|age| age.div_duration_f64(span));
            // Negative and huge numbers of columns are outside.
            if let Some(slot) = column.and_then(|column| strip.get_mut(column as usize)) {
                slot.get_or_insert_with(|| host.to_string());
            }
        }
        strip
    }

    /// Who answered the last probe that was answered.
    pub fn last_answer(&self) -> Option<(Instant, String)> {
        let probes = lock(&self.probes);
        let (at, host) = probes.iter().rev().find_map(|probe| probe.answer.as_ref())?;
        Some((*at, host.to_string()))
    }
}

/// What a client saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// Probes with a result.
    pub sent: usize,
    /// Those that no host answered within 250 ms.
    pub lost: usize,
    /// The longest time between two answers, the later of them among these.
    pub longest_silence: Duration,
    /// Answers by the name of the host that gave them.
    pub answered_by: BTreeMap<String, usize>,
}

fn probe(
    socket: &UdpSocket,
    target: SocketAddr,
    period: Duration,
    probes: &Mutex<Vec<SentProbe>>,
    stop: &AtomicBool,
) {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let wait = next.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            let _ = ppoll(&mut fds, Some(TimeSpec::from(wait)), None);
            collect(socket, probes);
            continue;
        }
        next += period;
        let mut probes = lock(probes);
        if probes.len() >= MAX_PROBES {
            return;
        }
        let number = u64::try_from(probes.len()).unwrap_or(u64::MAX);
        probes.push(SentProbe { sent: Instant::now(), answer: None });
        // An address that no host has is unreachable: such a probe is lost.
        let _ = socket.send_to(&number.to_be_bytes(), target);
    }
}

/// Records the answers that have arrived; errors of earlier probes are discarded.
fn collect(socket: &UdpSocket, probes: &Mutex<Vec<SentProbe>>) {
    let mut buffer = [0; 64];
    loop {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => continue,
        };
        let at = Instant::now();
        let Some((number, host)) = buffer.get(..length).and_then(|bytes| bytes.split_first_chunk())
        else {
            continue;
        };
        let index = usize::try_from(u64::from_be_bytes(*number)).unwrap_or(usize::MAX);
        if let Some(probe) = lock(probes).get_mut(index) {
            probe.answer.get_or_insert_with(|| (at, String::from_utf8_lossy(host).into()));
        }
    }
}
