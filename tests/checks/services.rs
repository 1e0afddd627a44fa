//! Objects of checks: processes, web servers, certificate authorities, and a private systemd.
//! Tests and benches each use a part of it.
#![allow(dead_code)]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::lab::Host;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A program that is open for writing in a process just forked cannot be executed ("text file
/// busy"), and a concurrent test may fork at any moment: so another process writes it.
pub fn write_program(path: &Path, text: &str) {
    let mut writer =
        Command::new("tee").arg(path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

/// Like [`write_program`].
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// A process that does nothing, until it is dropped.
pub struct Process(Child);

impl Process {
    /// A copy of `sleep`.
    pub fn start(program: &Path) -> Self {
        Process::of(Command::new(program).arg("1000"))
    }

    pub fn of(command: &mut Command) -> Self {
        Process(command.spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process on a host of the lab that can be ended and started again.
pub struct Service<'a> {
    host: &'a Host,
    command: Command,
    child: Mutex<Option<Child>>,
}

impl<'a> Service<'a> {
    /// A copy of `sleep`; it runs.
    pub fn new(host: &'a Host, program: &Path) -> Self {
        let mut command = Command::new(program);
        command.arg("1000");
        let service = Service { host, command, child: Mutex::new(None) };
        service.start();
        service
    }

    pub fn start(&self) {
        let log = fs::File::create(self.host.dir().join("service.log")).unwrap();
        let child = self.host.namespace().spawn(&self.command, log).unwrap();
        *self.child.lock().unwrap() = Some(child);
    }

    pub fn stop(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A web server on a host of the lab that can be ended, started again, and frozen.
pub struct Server<'a> {
    host: &'a Host,
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    server: Mutex<Option<WebServer>>,
    frozen: Arc<AtomicBool>,
}

impl<'a> Server<'a> {
    /// It listens on the loopback device.
    pub fn new(host: &'a Host, port: u16) -> Self {
        Self::with(host, port, None)
    }

    /// With a certificate for 127.0.0.1 and localhost.
    pub fn new_tls(host: &'a Host, port: u16, authority: &Authority) -> Self {
        Self::with(host, port, Some(authority.server_config()))
    }

    fn with(host: &'a Host, port: u16, tls: Option<Arc<ServerConfig>>) -> Self {
        let frozen = Arc::new(AtomicBool::new(false));
        let server = Server { host, port, tls, server: Mutex::new(None), frozen };
        server.start();
        server
    }

    pub fn start(&self) {
        let address = (Ipv4Addr::LOCALHOST, self.port).into();
        let (tls, frozen) = (self.tls.clone(), Arc::clone(&self.frozen));
        let server = self.host.namespace().run(move || WebServer::with(tls, address, frozen));
        *self.server.lock().unwrap() = Some(server);
    }

    pub fn stop(&self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            self.host.namespace().run(move || drop(server));
        }
    }

    /// Connections are accepted, and requests are not answered.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }

    pub fn thaw(&self) {
        self.frozen.store(false, Ordering::Relaxed);
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answers each request with what its path asks for.
pub struct WebServer {
    port: u16,
    over: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl WebServer {
    pub fn start() -> Self {
        Self::with(None, (Ipv4Addr::LOCALHOST, 0).into(), Arc::default())
    }

    /// With a certificate for 127.0.0.1 and localhost.
    pub fn start_tls(authority: &Authority) -> Self {
        let config = authority.server_config();
        Self::with(Some(config), (Ipv4Addr::LOCALHOST, 0).into(), Arc::default())
    }

    fn with(tls: Option<Arc<ServerConfig>>, address: SocketAddr, frozen: Arc<AtomicBool>) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (ends, all) = (Arc::clone(&over), Arc::clone(&requests));
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let (tls, all, frozen) = (tls.clone(), Arc::clone(&all), Arc::clone(&frozen));
                // A client that leaves early is no failure.
                thread::spawn(move || match tls {
                    _ if frozen.load(Ordering::Relaxed) => {
                        while frozen.load(Ordering::Relaxed) {
                            thread::sleep(Duration::from_millis(20));
                        }
                        Ok(())
                    }
                    None => answer(stream, &all),
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        answer(StreamOwned::new(connection, stream), &all)
                    }
                });
            }
        });
        WebServer { port, over, requests, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The last request for this path.
    pub fn asked(&self, path: &str) -> String {
        let requests = self.requests.lock().unwrap();
        requests.iter().rfind(|request| request.split(' ').nth(1) == Some(path)).unwrap().clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: impl Read + Write, requests: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let mut say = |head: &str, body: &str| {
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    match path.as_str() {
        "/fine" => say("200 OK", "all is well\n")?,
        "/201" => say("201 Created", "")?,
        "/302" => say("302 Found\r\nLocation: /fine", "")?,
        "/503" => say("503 Service Unavailable", "no")?,
        "/long" => say("200 OK", &(" ".repeat(60_000) + "the end"))?,
        "/longer" => say("200 OK", &(" ".repeat(70_000) + "the end"))?,
        "/cut" => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe")?,
        "/garbage" => stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n")?,
        "/slow" => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")?;
            for _ in 0..100 {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(50));
            }
        }
        "/silent" => thread::sleep(Duration::from_secs(5)),
        _ => say("404 Not Found", "")?,
    }
    stream.flush()
}

/// A certificate authority, and a server certificate that it has signed.
pub struct Authority {
    pub certificate: PathBuf,
    pub server: PathBuf,
    pub server_key: PathBuf,
}

impl Authority {
    /// Made by openssl in this directory.
    pub fn new(directory: &Path, name: &str) -> Result<Self, String> {
        fs::create_dir(directory).unwrap();
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split('|')).current_dir(directory);
            let output = command.output().map_err(|error| format!("openssl: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "openssl {arguments}: {said}");
            Ok::<_, String>(())
        };
        openssl(&format!(
            "req|-x509|-newkey|ec|-pkeyopt|ec_paramgen_curve:P-256|-nodes|-days|30|-keyout|ca.key|-out|ca.pem|-subj|/CN={name}|-addext|basicConstraints=critical,CA:TRUE"
        ))?;
        openssl(
            "req|-newkey|ec|-pkeyopt|ec_paramgen_curve:P-256|-nodes|-keyout|server.key|-out|server.csr|-subj|/CN=server",
        )?;
        fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        openssl(
            "x509|-req|-in|server.csr|-CA|ca.pem|-CAkey|ca.key|-CAcreateserial|-days|30|-extfile|names|-out|server.pem",
        )?;
        Ok(Authority {
            certificate: directory.join("ca.pem"),
            server: directory.join("server.pem"),
            server_key: directory.join("server.key"),
        })
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(&self.server).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&self.server_key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}

/// A user's systemd in a control group of its own.
pub struct Systemd {
    process: Child,
    directory: tempfile::TempDir,
    group: PathBuf,
}

impl Systemd {
    /// `Err`: why systemd cannot run on this machine.
    pub fn start() -> Result<Self, String> {
        let program = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
        let program = program.into_iter().find(|path| Path::new(path).exists());
        let program = program.ok_or("there is no systemd")?;
        let groups = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"];
        let groups = groups.into_iter().find(|path| Path::new(path).join("cgroup.procs").exists());
        let groups = groups.ok_or("there are no control groups")?;
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let group = format!("vipd-test-{}-{number}", std::process::id());
        let group = Path::new(groups).join(group);
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().display().to_string();
        // It sees no control groups but its own: given the machine's, it moves processes of others. It
        // ends with this process, and its services with it.
        let mounted = match groups.ends_with("systemd") {
            true => {
                "mkdir /sys/fs/cgroup/systemd && \
                     mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd"
            }
            false => "mount -t cgroup2 none /sys/fs/cgroup",
        };
        let script = format!(
            "mkdir '{group}' && echo $$ >'{group}/cgroup.procs' && \
             exec unshare --mount --cgroup sh -c '\
             mount -t tmpfs none /sys/fs/cgroup && {mounted} && \
             mount -t tmpfs none /run && mkdir -p /run/systemd/system && \
             exec setpriv --pdeathsig TERM {program} --user'",
            group = group.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("XDG_RUNTIME_DIR", directory.path());
        command.env_remove("DBUS_SESSION_BUS_ADDRESS").stdin(Stdio::null());
        let log = fs::File::create(directory.path().join("log")).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let process = command.spawn().map_err(|error| format!("sh: {error}"))?;
        let systemd = Systemd { process, directory, group };
        let up = || {
            let ready = systemd.try_ctl(&["is-active", "basic.target"]);
            ready.is_some_and(|said| said == "active\n").then_some(())
        };
        if crate::lab::wait_for(Duration::from_secs(10), up).is_none() {
            let log = fs::read_to_string(systemd.directory.path().join("log")).unwrap_or_default();
            return Err(format!("systemd does not start in {runtime}: {log}"));
        }
        Ok(systemd)
    }

    /// Adds a unit.
    pub fn unit(&self, name: &str, text: &str) {
        let units = self.directory.path().join("systemd/user");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join(name), text).unwrap();
        self.ctl(&["daemon-reload"]);
    }

    /// Runs `systemctl`, which may fail.
    pub fn ctl(&self, arguments: &[&str]) {
        self.try_ctl(arguments).unwrap();
    }

    /// What it prints; `None`: there is no such program.
    fn try_ctl(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(arguments).env("XDG_RUNTIME_DIR", self.directory.path());
        let output = command.env_remove("DBUS_SESSION_BUS_ADDRESS").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Its sockets: its own, and that of its bus, if it has one.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let here =
            |name| Some(self.directory.path().join(name)).filter(|path: &PathBuf| path.exists());
        ["systemd/private", "bus"].into_iter().filter_map(here).collect()
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let ended = || self.process.try_wait().ok().flatten();
        if crate::lab::wait_for(Duration::from_secs(5), ended).is_none() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        let left = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        for pid in left.lines().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let emptied = || remove_groups(&self.group).ok();
        let _ = crate::lab::wait_for(Duration::from_secs(5), emptied);
    }
}

fn remove_groups(group: &Path) -> std::io::Result<()> {
    for inner in fs::read_dir(group)?.flatten() {
        if inner.file_type()?.is_dir() {
            remove_groups(&inner.path())?;
        }
    }
    fs::remove_dir(group)
}
