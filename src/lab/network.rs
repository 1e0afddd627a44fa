//! Switches, hosts and who holds which address when.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::echo::EchoServer;
use super::link::address_of;
use super::namespace::Namespace;
use super::observer::Observer;
use super::probe::{Responder, prefer};

/// Switches and the hosts on them. Everything ends with it.
#[derive(Debug)]
pub struct Lab {
    switches: Arc<Namespace>,
    observer: Observer,
    changes: Arc<Mutex<Vec<Change>>>,
    observed: bool,
    dir: tempfile::TempDir,
}

/// One LAN: a bridge in the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch(u8);

impl Switch {
    /// The first LAN, on which every host has its `eth0`.
    pub const LAN: Switch = Switch(0);

    fn bridge(self) -> String {
        format!("br{}", self.0)
    }

    /// The IPv4 address of host `number` on this LAN.
    pub fn ipv4(self, number: u8) -> Ipv4Addr {
        match self.0 {
            0 => Ipv4Addr::new(192, 0, 2, number),
            1 => Ipv4Addr::new(198, 51, 100, number),
            2 => Ipv4Addr::new(203, 0, 113, number),
            lan => Ipv4Addr::new(10, 0, lan, number),
        }
    }

    /// The global IPv6 address of host `number` on this LAN.
    pub fn ipv6(self, number: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, self.0.into(), 0, 0, 0, 0, number.into())
    }
}

/// What the lab remembers of a host's addresses and of its cable.
#[derive(Clone, Debug)]
struct Change {
    at: Instant,
    host: String,
    what: Changed,
}

#[derive(Clone, Copy, Debug)]
enum Changed {
    Address { link: u32, ip: IpAddr, prefix: u8, present: bool },
    Reachable(bool),
}

impl Lab {
    /// A lab with one LAN and an observer on it.
    ///
    /// # Errors
    /// What the kernel says, as where [`enter`](super::enter) was not called.
    pub fn new() -> io::Result<Self> {
        Self::with(true)
    }

    /// A lab that sees nothing, [`observer`](Self::observer) and [`owners`](Self::owners) included:
    /// where the cost of a packet or of an address is measured, nobody else may add to it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn unobserved() -> io::Result<Self> {
        Self::with(false)
    }

    fn with(observed: bool) -> io::Result<Self> {
        let switches = Arc::new(Namespace::new("switch")?);
        let observer = if observed { Observer::start(&switches)? } else { Observer::blind() };
        let dir = tempfile::Builder::new().prefix("vipd-lab-").tempdir()?;
        let lab = Self { switches, observer, changes: Arc::default(), observed, dir };
        lab.add_switch(Switch::LAN)?;
        Ok(lab)
    }

    /// Another LAN, number 1 to 255.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn switch(&self, number: u8) -> io::Result<Switch> {
        let switch = Switch(number);
        self.add_switch(switch)?;
        Ok(switch)
    }

    fn add_switch(&self, switch: Switch) -> io::Result<()> {
        let links = self.switches.links();
        links.add_bridge(&switch.bridge())?;
        links.set_automatic_link_local(&switch.bridge(), false)?;
        links.up(&switch.bridge())
    }

    /// A host whose `eth0` is on the first LAN; `number` is the last part of its addresses.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn host(&self, name: &str, number: u8) -> io::Result<Host> {
        let host = self.bare_host(name, number)?;
        host.connect("eth0", Switch::LAN)?;
        Ok(host)
    }

    /// A host without any interface but its loopback device.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bare_host(&self, name: &str, number: u8) -> io::Result<Host> {
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir)?;
        let namespace = Arc::new(Namespace::new(name)?);
        let watch =
            if self.observed { Some(Watch::start(&namespace, name, &self.changes)?) } else { None };
        Ok(Host {
            name: name.to_owned(),
            number,
            dir,
            namespace,
            switches: Arc::clone(&self.switches),
            observer: self.observer.clone(),
            changes: Arc::clone(&self.changes),
            interfaces: Mutex::default(),
            responders: Mutex::default(),
            echoes: Mutex::default(),
            _watch: watch,
        })
    }

    /// Who sees all frames on all LANs.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Where the lab's files are; removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// From now on nothing that one host sends reaches the other; everybody else hears both. Needs
    /// the program `nft`.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn lose(&self, from: &Host, to: &Host) -> io::Result<()> {
        let mut rules = "add table bridge lost; add chain bridge lost forward { \
                         type filter hook forward priority 0; };"
            .to_owned();
        for (from, _) in from.ports() {
            for (to, _) in to.ports() {
                rules += &format!("add rule bridge lost forward iifname {from} oifname {to} drop;");
            }
        }
        nft(&self.switches, rules)
    }

    /// Ends every [`lose`](Self::lose).
    ///
    /// # Errors
    /// What `nft` says.
    pub fn lose_nothing(&self) -> io::Result<()> {
        nft(&self.switches, "add table bridge lost; delete table bridge lost".to_owned())
    }

    /// Who held `ip` where the LAN could reach it, between two points in time.
    pub fn ownership(&self, ip: IpAddr, from: Instant, to: Instant) -> Ownership {
        let changes = lock(&self.changes).clone();
        Ownership::of(&changes, ip, from, to)
    }

    /// The hosts that hold `ip` now where the LAN can reach it, sorted by name.
    pub fn owners(&self, ip: IpAddr) -> Vec<String> {
        let now = Instant::now();
        self.ownership(ip, now, now).owners
    }
}

/// Who held an address over a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    /// The longest time it was on more than one host.
    pub longest_two: Duration,
    /// All the time it was on more than one host.
    pub total_two: Duration,
    /// The longest time it was on no host.
    pub longest_none: Duration,
    /// All the time it was on no host.
    pub total_none: Duration,
    /// How often its owners changed.
    pub changes: usize,
    /// Who held it at the end, sorted.
    pub owners: Vec<String>,
}

impl Ownership {
    fn of(changes: &[Change], ip: IpAddr, from: Instant, to: Instant) -> Self {
        let mut result = Self::default();
        let mut unreachable = BTreeSet::new();
        let mut copies = BTreeSet::new();
        let mut owners: BTreeSet<String> = BTreeSet::new();
        let mut since = from;
        for change in changes.iter().filter(|change| change.at <= to) {
            match change.what {
                Changed::Reachable(true) => drop(unreachable.remove(&change.host)),
                Changed::Reachable(false) => drop(unreachable.insert(change.host.clone())),
                Changed::Address { ip: other, .. } if other != ip => continue,
                Changed::Address { link, prefix, present: true, .. } => {
                    copies.insert((change.host.clone(), link, prefix));
                }
                Changed::Address { link, prefix, present: false, .. } => {
                    copies.remove(&(change.host.clone(), link, prefix));
                }
            }
            let now = copies
                .iter()
                .map(|(host, _, _)| host.clone())
                .filter(|host| !unreachable.contains(host))
                .collect();
            if now == owners {
                continue;
            }
            if change.at > from {
                result.add(owners.len(), change.at - since);
                result.changes += 1;
                since = change.at;
            }
            owners = now;
        }
        result.add(owners.len(), to.saturating_duration_since(since));
        result.owners = owners.into_iter().collect();
        result
    }

    fn add(&mut self, owners: usize, span: Duration) {
        let (longest, total) = match owners {
            0 => (&mut self.longest_none, &mut self.total_none),
            1 => return,
            _ => (&mut self.longest_two, &mut self.total_two),
        };
        *longest = span.max(*longest);
        *total += span;
    }
}

/// What is lost of what a host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Everything.
    All,
    /// VRRP over IPv4 alone, as by a firewall that does not know it.
    Adverts,
}

/// A host of the lab: a namespace with interfaces on its switches.
#[derive(Debug)]
pub struct Host {
    name: String,
    number: u8,
    dir: PathBuf,
    namespace: Arc<Namespace>,
    switches: Arc<Namespace>,
    observer: Observer,
    changes: Arc<Mutex<Vec<Change>>>,
    /// The port at the switch and the LAN, by the name of the interface.
    interfaces: Mutex<HashMap<String, (String, Switch)>>,
    responders: Mutex<Vec<Responder>>,
    echoes: Mutex<Vec<EchoServer>>,
    _watch: Option<Watch>,
}

impl Host {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own IPv4 address on the first LAN.
    pub fn ipv4(&self) -> Ipv4Addr {
        Switch::LAN.ipv4(self.number)
    }

    /// Its own global IPv6 address on the first LAN.
    pub fn ipv6(&self) -> Ipv6Addr {
        Switch::LAN.ipv6(self.number)
    }

    /// Its link-local address on every LAN.
    pub fn link_local(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// The namespace it is.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A directory for its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory for what does not outlive a boot, as `/run` is; made if it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn runtime_dir(&self) -> io::Result<PathBuf> {
        let dir = self.dir.join("run");
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Makes an interface with the host's addresses and plugs it in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn connect(&self, interface: &str, lan: Switch) -> io::Result<()> {
        static PORTS: AtomicU32 = AtomicU32::new(1);
        let port = format!("port{}", PORTS.fetch_add(1, Ordering::Relaxed));
        let mac = [2, 0, 0, 0, lan.0, self.number];
        let links = self.namespace.links();
        links.add_veth(interface, mac, &port, self.switches.file())?;
        let far = self.switches.links();
        far.set_automatic_link_local(&port, false)?;
        far.set_bridge(&port, &lan.bridge())?;
        self.observer.watch_port(far.index(&port)?, &self.name, interface);
        far.up(&port)?;
        lock(&self.interfaces).insert(interface.to_owned(), (port, lan));
        links.set_automatic_link_local(interface, false)?;
        self.up(interface)
    }

    /// Sets an interface up and gives it the host's own addresses, as far as they are missing.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn up(&self, interface: &str) -> io::Result<()> {
        let (_, lan) = self.port(interface)?;
        let links = self.namespace.links();
        links.up(interface)?;
        for (address, prefix) in self.own_addresses(lan) {
            match links.add_address(interface, address, prefix) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
        }
        self.log(Changed::Reachable(true));
        Ok(())
    }

    /// Sets an interface administratively down.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn down(&self, interface: &str) -> io::Result<()> {
        self.log(Changed::Reachable(false));
        self.namespace.links().down(interface)
    }

    /// Renames an interface, which stays plugged in.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn rename(&self, interface: &str, new_name: &str) -> io::Result<()> {
        let plug = self.port(interface)?;
        self.namespace.links().rename(interface, new_name)?;
        let mut interfaces = lock(&self.interfaces);
        interfaces.remove(interface);
        interfaces.insert(new_name.to_owned(), plug);
        Ok(())
    }

    /// Deletes an interface, as when a container's or a virtual machine's card goes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn delete(&self, interface: &str) -> io::Result<()> {
        self.namespace.links().delete(interface)?;
        lock(&self.interfaces).remove(interface);
        Ok(())
    }

    /// Cuts the host off at the switch; its carrier stays.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn cut(&self) -> io::Result<()> {
        for (port, _) in self.ports() {
            self.switches.links().set_forwarding(&port, false)?;
        }
        self.log(Changed::Reachable(false));
        Ok(())
    }

    /// Ends what [`cut`](Self::cut) began.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn heal(&self) -> io::Result<()> {
        self.log(Changed::Reachable(true));
        for (port, _) in self.ports() {
            self.switches.links().set_forwarding(&port, true)?;
        }
        Ok(())
    }

    /// Pulls the cable of an interface: it loses its carrier.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn unplug(&self, interface: &str) -> io::Result<()> {
        let (port, _) = self.port(interface)?;
        self.switches.links().down(&port)?;
        self.log(Changed::Reachable(false));
        Ok(())
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn plug(&self, interface: &str) -> io::Result<()> {
        let (port, _) = self.port(interface)?;
        self.log(Changed::Reachable(true));
        self.switches.links().up(&port)
    }

    /// What a reboot leaves after [`cut`](Self::cut) and the end of its processes: its own
    /// addresses, a connected cable, and nothing in its runtime directory.
    ///
    /// # Errors
    /// What the kernel or the file system says.
    pub fn boot(&self) -> io::Result<()> {
        std::fs::remove_dir_all(self.runtime_dir()?)?;
        for (interface, (_, lan)) in lock(&self.interfaces).clone() {
            let index = self.namespace.links().index(&interface)?;
            let own = self.own_addresses(lan);
            for (link, ip, prefix) in self.namespace.links().addresses()? {
                if link == index && !own.contains(&(ip, prefix)) {
                    self.namespace.links().remove_address(&interface, ip, prefix)?;
                }
            }
        }
        self.heal()
    }

    /// Answers probes to `ip` with the host's name whenever it holds the address.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn answer(&self, ip: IpAddr) -> io::Result<()> {
        let responder = Responder::start(&self.namespace, &self.name, ip)?;
        lock(&self.responders).push(responder);
        Ok(())
    }

    /// Echoes what TCP connections to `ip` say.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn echo(&self, ip: IpAddr) -> io::Result<()> {
        let echo = EchoServer::start(&self.namespace, ip)?;
        lock(&self.echoes).push(echo);
        Ok(())
    }

    /// From now on what it sends is lost at the switch, all or part of it; it still hears. Needs
    /// the program `nft`.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn mute(&self, lost: Lost) -> io::Result<()> {
        let (policy, rule) = match lost {
            Lost::All => ("drop", ""),
            Lost::Adverts => ("accept", "ip protocol 112 drop;"),
        };
        for (port, _) in self.ports() {
            let rules = format!(
                "add table netdev {port}; add chain netdev {port} in {{ \
                 type filter hook ingress device {port} priority 0; policy {policy}; {rule} }}"
            );
            nft(&self.switches, rules)?;
        }
        if lost == Lost::All {
            self.log(Changed::Reachable(false));
        }
        Ok(())
    }

    /// Ends what [`mute`](Self::mute) began.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn unmute(&self) -> io::Result<()> {
        self.log(Changed::Reachable(true));
        for (port, _) in self.ports() {
            nft(&self.switches, format!("delete table netdev {port}"))?;
        }
        Ok(())
    }

    /// Whether it holds an address now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn holds(&self, ip: IpAddr) -> io::Result<bool> {
        Ok(self.namespace.links().addresses()?.iter().any(|(_, held, _)| *held == ip))
    }

    fn own_addresses(&self, lan: Switch) -> [(IpAddr, u8); 3] {
        [
            (lan.ipv4(self.number).into(), 24),
            (self.link_local().into(), 64),
            (lan.ipv6(self.number).into(), 64),
        ]
    }

    fn ports(&self) -> Vec<(String, Switch)> {
        lock(&self.interfaces).values().cloned().collect()
    }

    fn port(&self, interface: &str) -> io::Result<(String, Switch)> {
        lock(&self.interfaces).get(interface).cloned().ok_or_else(|| {
            let text = format!("{} has no interface {interface}", self.name);
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }

    fn log(&self, what: Changed) {
        let change = Change { at: Instant::now(), host: self.name.clone(), what };
        lock(&self.changes).push(change);
    }
}

fn nft(switches: &Namespace, rules: String) -> io::Result<()> {
    let output = switches.run(move || Command::new("nft").arg(rules).output())?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("nft: {}", String::from_utf8_lossy(&output.stderr))))
}

/// A thread that notes every address that comes or goes on a host.
#[derive(Debug)]
struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(
        namespace: &Namespace,
        host: &str,
        changes: &Arc<Mutex<Vec<Change>>>,
    ) -> io::Result<Self> {
        const RTNLGRP_IPV4_IFADDR: u32 = 5;
        const RTNLGRP_IPV6_IFADDR: u32 = 9;
        let socket = namespace.run(|| {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.add_membership(RTNLGRP_IPV4_IFADDR)?;
            socket.add_membership(RTNLGRP_IPV6_IFADDR)?;
            // The crate takes the option's size from its argument's type.
            socket.set_rx_buf_sz(1_i32 << 20)?;
            io::Result::Ok(socket)
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = namespace.thread("watch", {
            let (host, changes, stop) = (host.to_owned(), Arc::clone(changes), Arc::clone(&stop));
            move || {
                prefer();
                note_addresses(&socket, &host, &changes, &stop);
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn note_addresses(socket: &Socket, host: &str, changes: &Mutex<Vec<Change>>, stop: &AtomicBool) {
    while wait_readable(socket, stop) {
        let Ok((datagram, _)) = socket.recv_from_full() else { continue };
        let at = Instant::now();
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&datagram) else {
            continue;
        };
        let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
        let (message, present) = match message {
            RouteNetlinkMessage::NewAddress(message) => (message, true),
            RouteNetlinkMessage::DelAddress(message) => (message, false),
            _ => continue,
        };
        let Some(ip) = address_of(&message) else { continue };
        let (link, prefix) = (message.header.index, message.header.prefix_len);
        let what = Changed::Address { link, ip, prefix, present };
        lock(changes).push(Change { at, host: host.to_owned(), what });
    }
}

/// Waits until something can be read; `false` once nobody wants it any more.
pub(super) fn wait_readable(socket: &impl AsFd, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if matches!(poll(&mut fds, PollTimeout::from(50_u8)), Ok(ready) if ready > 0) {
            return true;
        }
    }
    false
}

/// What threads of the lab share stays usable when one of them panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));

    /// Changes at whole milliseconds after a beginning.
    fn history(began: Instant, changes: &[(u64, &str, Changed)]) -> Vec<Change> {
        let change = |(millis, host, what): &(u64, &str, Changed)| Change {
            at: began + Duration::from_millis(*millis),
            host: (*host).to_owned(),
            what: *what,
        };
        changes.iter().map(change).collect()
    }

    fn address(present: bool) -> Changed {
        Changed::Address { link: 2, ip: SHARED, prefix: 32, present }
    }

    #[test]
    fn stretches_with_two_owners_and_with_none_are_measured() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let changes = history(
            began,
            &[
                (0, "a", address(true)),
                (10, "b", address(true)),
                (13, "a", address(false)),
                (20, "b", address(false)),
                (50, "a", address(true)),
            ],
        );
        let all = Ownership::of(&changes, SHARED, at(0), at(60));
        assert_eq!(all.longest_two, Duration::from_millis(3));
        assert_eq!(all.longest_none, Duration::from_millis(30));
        assert_eq!(all.changes, 4);
        assert_eq!(all.owners, ["a"]);
        let part = Ownership::of(&changes, SHARED, at(30), at(40));
        assert_eq!(part.total_none, Duration::from_millis(10));
        assert_eq!(part.changes, 0);
    }

    #[test]
    fn a_host_that_is_cut_off_owns_nothing() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let changes = history(
            began,
            &[
                (0, "a", address(true)),
                (10, "a", Changed::Reachable(false)),
                (30, "b", address(true)),
                (40, "a", Changed::Reachable(true)),
                (45, "a", address(false)),
            ],
        );
        let ownership = Ownership::of(&changes, SHARED, at(0), at(60));
        assert_eq!(ownership.longest_none, Duration::from_millis(20));
        assert_eq!(ownership.longest_two, Duration::from_millis(5));
        assert_eq!(ownership.owners, ["b"]);
    }

    #[test]
    fn a_renewal_is_no_change() {
        let began = Instant::now();
        let changes = history(began, &[(0, "a", address(true)), (5, "a", address(true))]);
        let ownership = Ownership::of(&changes, SHARED, began, began + Duration::from_millis(10));
        assert_eq!(ownership.changes, 0);
    }
}
