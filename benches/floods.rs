//! What a master with 10 ms adverts does while somebody floods it, or its local clients.
//!
//! `cargo bench --bench floods [-- PART_OF_A_NAME]`, as root: about three minutes. Prints a table;
//! fails if the address moved, an advert was missing, a client of root's was not served, or memory
//! grew.
#![allow(clippy::unwrap_used)]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab::{Daemon, Host, Lab, Program, RouterSpec, wait_for};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use vipd::host::sys::link_address;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
const SHARED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const VRID: u8 = 51;
const INTERVAL: Duration = Duration::from_millis(10);
const FRAMES: u32 = 200_000;
const PER_MILLISECOND: u32 = 30;
const CONTROL_CLIENTS: usize = 2000;
const HTTP_CLIENTS: usize = 500;
/// How long local clients press.
const PRESSURE: Duration = Duration::from_secs(8);

/// The frame of this number, from the host of this MAC and IP address.
type Frame = fn(u32, [u8; 6], Ipv4Addr) -> Vec<u8>;

const FLOODS: [(&str, Frame); 9] = [
    ("lower adverts", |_, mac, from| advert(mac, from, 0x31, VRID, 1)),
    ("adverts of every other VRID", |n, mac, from| {
        let vrid = (n % 254) as u8 + 1;
        advert(mac, from, 0x31, if vrid == VRID { 255 } else { vrid }, 250)
    }),
    ("adverts of version 2", |_, mac, from| advert(mac, from, 0x21, VRID, 250)),
    ("priority 0", |_, mac, from| advert(mac, from, 0x31, VRID, 0)),
    ("adverts of another pair", other_pair),
    ("malformed adverts", |n, mac, from| {
        let mut frame = advert(mac, from, 0x31, VRID, 250);
        frame.truncate(34 + n as usize % 8);
        frame
    }),
    ("fragments", fragment),
    ("ARP", arp),
    ("neighbour advertisements", neighbour_advertisement),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == "lab-child" => return lab::child_main(arguments),
        Some(first) if first == "press" => return press(arguments),
        _ => {}
    }
    if let Err(error) = lab::enter() {
        eprintln!("floods: {error}");
        return ExitCode::FAILURE;
    }
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    println!(
        "{:<34}{:>12}{:>10}{:>9}{:>12}{:>14}",
        "flood", "longest gap", "missing", "moves", "processor", "memory"
    );
    let mut broken = Vec::new();
    if wanted("nothing") {
        broken.extend(flooded("nothing", None));
    }
    for (name, frame) in FLOODS {
        if wanted(name) {
            broken.extend(flooded(name, Some(frame)));
        }
    }
    if wanted("control clients") {
        broken.extend(control_clients());
    }
    if wanted("HTTP clients") {
        broken.extend(http_clients());
    }
    for what in &broken {
        println!("* NOT AS PROMISED: {what}");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

// ---- over the network --------------------------------------------------------------------------

/// A master, its backup, and a sender of frames.
fn flooded(name: &str, frame: Option<Frame>) -> Vec<String> {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let mallory = lab.host("mallory", 66).unwrap();
    let (daemon, _backup) = start(&lab, &a, &b);
    measured(name, &lab, &daemon, || {
        let Some(frame) = frame else {
            thread::sleep(PRESSURE);
            return;
        };
        let mac = mac_of(&mallory);
        let from = mallory.ipv4();
        let index = mallory.namespace().links().index("eth0").unwrap();
        // Not built while they are sent.
        let frames: Vec<_> = (0..4096).map(|n| frame(n, mac, from)).collect();
        let sent = mallory.namespace().run(move || send(index, &frames));
        assert_eq!(sent, FRAMES, "frames sent");
    })
}

fn start(lab: &Lab, a: &Host, b: &Host) -> (Daemon, Daemon) {
    let program = Program::Vipd(VIPD.into());
    let spec = |priority| RouterSpec {
        interval: INTERVAL,
        ..RouterSpec::new(IpAddr::V4(SHARED), priority)
    };
    let daemon = Daemon::start(a, &program, &[spec(150)]).unwrap();
    let master = || (lab.observer().master(VRID).as_deref() == Some("a")).then_some(());
    assert!(wait_for(Duration::from_secs(10), master).is_some(), "{}", daemon.log());
    let backup = Daemon::start(b, &program, &[spec(100)]).unwrap();
    // Past the rounds of announcements that follow its election.
    thread::sleep(Duration::from_secs(6));
    (daemon, backup)
}

/// Prints a row about what a master did meanwhile; returns what was not as promised.
fn measured(name: &str, lab: &Lab, daemon: &Daemon, flood: impl FnOnce()) -> Vec<String> {
    let memory = daemon.memory().unwrap();
    let processor = daemon.processor_time().unwrap();
    let began = Instant::now();
    flood();
    let ended = Instant::now();
    let span = ended - began;
    let processor = daemon.processor_time().unwrap() - processor;
    thread::sleep(Duration::from_secs(2));
    let grown = (daemon.memory().unwrap() as f64 - memory as f64) / 1024.0;
    let gap = lab.longest_gap("a", began, ended);
    let sent = lab.observer().adverts("a", began).iter().filter(|(at, _)| *at < ended).count();
    let due = (span.as_millis() / INTERVAL.as_millis()) as usize;
    let missing = due.saturating_sub(sent);
    let moves = lab.ownership(IpAddr::V4(SHARED), began, ended).changes;
    println!(
        "{name:<34}{:>9.1} ms{missing:>10}{moves:>9}{:>10.1} %{:>6.0} {grown:>+4.0} KiB",
        1000.0 * gap.as_secs_f64(),
        100.0 * processor.as_secs_f64() / span.as_secs_f64(),
        memory as f64 / 1024.0,
    );
    let mut broken = Vec::new();
    if moves > 0 {
        broken.push(format!("{name}: the address moved {moves} times"));
    }
    if missing > due / 100 {
        broken.push(format!("{name}: {missing} of {due} adverts are missing"));
    }
    if grown > 1024.0 {
        broken.push(format!("{name}: {grown:.0} KiB more memory"));
    }
    broken
}

fn mac_of(host: &Host) -> [u8; 6] {
    let text = host.namespace().run(|| {
        let output = Command::new("cat").arg("/sys/class/net/eth0/address").output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    });
    let mut bytes = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
    [(); 6].map(|()| bytes.next().unwrap())
}

/// Sends the frames in turn at a steady rate; returns how many were sent.
fn send(index: u32, frames: &[Vec<u8>]) -> u32 {
    // A protocol of 0 receives nothing.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
    let began = Instant::now();
    let mut sent = 0;
    for (n, frame) in (0..FRAMES).zip(frames.iter().cycle()) {
        if n % PER_MILLISECOND == 0 {
            let due = began + Duration::from_millis(u64::from(n / PER_MILLISECOND));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let destination: [u8; 6] = frame[..6].try_into().unwrap();
        let to: SockAddr = link_address(index, libc::ETH_P_ALL as u16, destination);
        sent += u32::from(socket.send_to(frame, &to).is_ok());
    }
    sent
}

fn advert(mac: [u8; 6], from: Ipv4Addr, kind: u8, vrid: u8, priority: u8) -> Vec<u8> {
    with_addresses(mac, from, kind, vrid, priority, SHARED)
}

/// Hosts that use the VRID for something else.
fn other_pair(n: u32, mac: [u8; 6], from: Ipv4Addr) -> Vec<u8> {
    with_addresses(mac, from, 0x31, VRID, 220, Ipv4Addr::from(0xc633_6400 + n % 200))
}

fn with_addresses(
    mac: [u8; 6],
    from: Ipv4Addr,
    kind: u8,
    vrid: u8,
    priority: u8,
    address: Ipv4Addr,
) -> Vec<u8> {
    let group = Ipv4Addr::new(224, 0, 0, 18);
    // 10 ms; in version 2: no authentication, 1 s.
    let mut message = vec![kind, vrid, priority, 1, 0, 1, 0, 0];
    message.extend(address.octets());
    if kind >> 4 == 2 {
        message.extend([0; 8]);
    }
    let mut summed = message.clone();
    if kind >> 4 == 3 {
        summed.extend(from.octets());
        summed.extend(group.octets());
        summed.extend([0, 112, 0, message.len() as u8]);
    }
    message.splice(6..8, checksum(&summed));
    ip_frame([1, 0, 0x5e, 0, 0, 18], mac, from, group, 0, &message)
}

/// The first fragments of messages of which the rest never comes.
fn fragment(n: u32, mac: [u8; 6], from: Ipv4Addr) -> Vec<u8> {
    let group = Ipv4Addr::new(224, 0, 0, 18);
    let mut frame = ip_frame([1, 0, 0x5e, 0, 0, 18], mac, from, group, 0x2000, &[0x31; 64]);
    frame[18..20].copy_from_slice(&(n as u16).to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum);
    frame
}

fn ip_frame(
    to: [u8; 6],
    mac: [u8; 6],
    from: Ipv4Addr,
    target: Ipv4Addr,
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut header = vec![0x45, 0xc0];
    header.extend(((20 + payload.len()) as u16).to_be_bytes());
    header.extend([0, 0]);
    header.extend(fragment.to_be_bytes());
    header.extend([255, 112, 0, 0]);
    header.extend(from.octets());
    header.extend(target.octets());
    let sum = checksum(&header);
    header.splice(10..12, sum);
    [&to[..], &mac, &[8, 0], &header, payload].concat()
}

/// Requests for the shared address, announcements of it and of others, from many.
fn arp(n: u32, mac: [u8; 6], _: Ipv4Addr) -> Vec<u8> {
    let sender = Ipv4Addr::from(0xc000_0200 + 120 + n % 100);
    let operation = [1, 2][n as usize % 2];
    let mut frame = [&[0xff; 6][..], &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation]].concat();
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(if operation == 1 { SHARED.octets() } else { sender.octets() });
    frame
}

fn neighbour_advertisement(n: u32, mac: [u8; 6], _: Ipv4Addr) -> Vec<u8> {
    let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, (n >> 8) as u8, n as u8];
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(source);
    message.extend([2, 1]);
    message.extend(mac);
    let pseudo = [&source[..], &group, &[0, 0, 0, message.len() as u8, 0, 0, 0, 58]].concat();
    let sum = checksum(&[pseudo, message.clone()].concat());
    message.splice(2..4, sum);
    let length = (message.len() as u16).to_be_bytes();
    let header = [&[0x60, 0, 0, 0][..], &length, &[58, 255], &source, &group].concat();
    [&[0x33, 0x33, 0, 0, 0, 1][..], &mac, &[0x86, 0xdd], &header, &message].concat()
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

// ---- on the host -------------------------------------------------------------------------------

/// Another user keeps connections to the control socket that say nothing.
fn control_clients() -> Vec<String> {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let (daemon, _backup) = start(&lab, &a, &b);
    let directory = a.runtime_dir().unwrap();
    let socket = directory.join("control.sock");
    // As a member of the group that may ask.
    for ancestor in directory.ancestors().take_while(|ancestor| ancestor.starts_with(lab.dir())) {
        fs::set_permissions(ancestor, Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let mut broken = Vec::new();
    let name = format!("{CONTROL_CLIENTS} half-open control clients");
    let mut served = Vec::new();
    broken.extend(measured(&name, &lab, &daemon, || {
        let mut pressing = pressing("control", &socket);
        thread::sleep(Duration::from_secs(1));
        while pressing.try_wait().unwrap().is_none() {
            let mut command = Command::new(VIPD);
            command.args(["announce", "web", "--runtime-dir"]).arg(&directory);
            let began = Instant::now();
            let output = a.namespace().run(move || command.output()).unwrap();
            served.push((output.status.success(), began.elapsed()));
            thread::sleep(Duration::from_millis(100));
        }
        assert!(pressing.wait().unwrap().success());
    }));
    broken.extend(report("root's commands", &served));
    broken
}

/// Clients of the exporter, from many addresses, that send their requests byte by byte.
fn http_clients() -> Vec<String> {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let (daemon, _backup) = start(&lab, &a, &b);
    a.namespace().links().up("lo").unwrap();
    let mut command = Command::new(VIPD);
    command.args(["exporter", "--listen", "127.0.0.1:9112", "--runtime-dir"]);
    command.arg(a.runtime_dir().unwrap());
    let log = a.dir().join("exporter.log");
    let exporter = Daemon::spawn(&a, &command, log.clone(), log).unwrap();
    let ready = || scrape(&a).then_some(());
    assert!(wait_for(Duration::from_secs(10), ready).is_some(), "{}", exporter.log());
    let mut served = Vec::new();
    let memory = exporter.memory().unwrap();
    let name = format!("{HTTP_CLIENTS} slow HTTP clients");
    let mut broken = measured(&name, &lab, &daemon, || {
        let mut pressing = a.namespace().run(|| pressing("http", Path::new("127.0.0.1:9112")));
        thread::sleep(Duration::from_secs(1));
        while pressing.try_wait().unwrap().is_none() {
            let began = Instant::now();
            served.push((scrape(&a), began.elapsed()));
            thread::sleep(Duration::from_millis(100));
        }
        assert!(pressing.wait().unwrap().success());
    });
    let grown = exporter.memory().unwrap().saturating_sub(memory) / 1024;
    println!("  the exporter's memory: {} {grown:+} KiB", memory / 1024);
    broken.extend(report("scrapes", &served));
    broken
}

fn report(what: &str, served: &[(bool, Duration)]) -> Vec<String> {
    let done = served.iter().filter(|(done, _)| *done).count();
    let longest = served.iter().map(|(_, took)| *took).max().unwrap_or_default();
    let count = served.len();
    println!("  {what} meanwhile: {done} of {count} served, the longest took {longest:.1?}");
    if done == count && count > 0 {
        Vec::new()
    } else {
        vec![format!("{what}: {done} of {count} served")]
    }
}

/// Whether the metrics could be read within 10 s, as Prometheus's default is.
fn scrape(host: &Host) -> bool {
    host.namespace().run(|| {
        let address: SocketAddr = "127.0.0.1:9112".parse().unwrap();
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(10)) else {
            return false;
        };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9112\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        stream.write_all(request).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    })
}

/// This program again, as another user.
fn pressing(what: &str, target: &Path) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(std::env::current_exe().unwrap()).args(["press", what]).arg(target);
    command.stdout(Stdio::inherit()).spawn().unwrap()
}

/// Keeps as many connections as it can, and opens others for those that were closed.
fn press(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let what = arguments.next().unwrap();
    let target = arguments.next().unwrap();
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 4096, 4096);
    let ended = Instant::now() + PRESSURE;
    if what == "control" {
        let connect = |_| UnixStream::connect(&target).ok();
        keep(CONTROL_CLIENTS, ended, connect, |_, _| ());
    } else {
        let target: SocketAddr = target.to_str().unwrap().parse().unwrap();
        let connect = |n| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
            let from = Ipv4Addr::new(127, 0, 0, 2 + (n % 60) as u8);
            socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
            socket.connect_timeout(&target.into(), Duration::from_millis(200)).ok()?;
            Some(TcpStream::from(socket))
        };
        let request = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ".iter();
        let request: Vec<u8> = request.copied().chain([b'x'; 64]).collect();
        keep(HTTP_CLIENTS, ended, connect, |mut stream: &TcpStream, round| {
            let _ = stream.write_all(&request[round % request.len()..][..1]);
        });
    }
    ExitCode::SUCCESS
}

fn keep<S: Closable>(
    count: usize,
    ended: Instant,
    connect: impl Fn(usize) -> Option<S>,
    say: impl Fn(&S, usize),
) {
    let mut connections: Vec<Option<S>> = (0..count).map(&connect).collect();
    let mut opened = connections.iter().flatten().count();
    for round in 0.. {
        if Instant::now() >= ended {
            break;
        }
        for (n, connection) in connections.iter_mut().enumerate() {
            match connection {
                Some(open) if !open.is_closed() => say(open, round),
                _ => {
                    *connection = connect(n);
                    opened += usize::from(connection.is_some());
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    let open = connections.iter().flatten().filter(|stream| !stream.is_closed()).count();
    println!("  the clients opened {opened} connections, {open} of {count} were open at the end");
}

/// A stream of which the other end may have been closed.
trait Closable {
    fn is_closed(&self) -> bool;
}

impl Closable for UnixStream {
    fn is_closed(&self) -> bool {
        let mut byte = [0];
        self.set_nonblocking(true).unwrap();
        (&*self).read(&mut byte).is_ok()
    }
}

impl Closable for TcpStream {
    fn is_closed(&self) -> bool {
        self.set_nonblocking(true).unwrap();
        !matches!(self.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}
