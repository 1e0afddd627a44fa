//! A lab's switches and hosts.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::namespace::Namespace;
use super::responder::Responder;
use super::threads::lock;

/// What is connected where: a host and its interface, by the index of the port at the switch.
pub type Ports = Mutex<HashMap<u32, (Arc<str>, Arc<str>)>>;

/// Switches and the hosts on them. Everything ends with it.
#[derive(Debug)]
pub struct Lab {
    switches: Arc<Namespace>,
    ports: Arc<Ports>,
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

impl Lab {
    /// A lab with one LAN.
    ///
    /// # Errors
    /// The namespace cannot be created, for example as [`enter`](super::enter) was not called.
    pub fn new() -> io::Result<Self> {
        let switches = Arc::new(Namespace::new("switch")?);
        let dir = tempfile::Builder::new().prefix("vipd-lab-").tempdir()?;
        let lab = Self { switches, ports: Arc::default(), dir };
        lab.switch(Switch::LAN.0)?;
        Ok(lab)
    }

    /// Another LAN, number 1 to 255.
    pub fn switch(&self, number: u8) -> io::Result<Switch> {
        let switch = Switch(number);
        let links = self.switches.links();
        links.add_bridge(&switch.bridge())?;
        links.set_automatic_link_local(&switch.bridge(), false)?;
        links.up(&switch.bridge())?;
        Ok(switch)
    }

    /// A host whose `eth0` is on the first LAN; `number` is the last part of its addresses.
    pub fn host(&self, name: &str, number: u8) -> io::Result<Host> {
        let host = self.bare_host(name, number)?;
        host.connect("eth0", Switch::LAN)?;
        Ok(host)
    }

    /// A host without any interface but its loopback device.
    pub fn bare_host(&self, name: &str, number: u8) -> io::Result<Host> {
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir)?;
        Ok(Host {
            name: name.to_owned(),
            number,
            dir,
            namespace: Namespace::new(name)?,
            switches: Arc::clone(&self.switches),
            ports: Arc::clone(&self.ports),
            cut: AtomicBool::new(false),
            interfaces: Mutex::default(),
            responders: Mutex::default(),
        })
    }

    pub fn switches(&self) -> &Namespace {
        &self.switches
    }

    pub fn ports(&self) -> &Arc<Ports> {
        &self.ports
    }

    /// Where the lab's files are; removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// A host of the lab: a namespace with interfaces on its switches.
#[derive(Debug)]
pub struct Host {
    name: String,
    number: u8,
    dir: PathBuf,
    namespace: Namespace,
    switches: Arc<Namespace>,
    ports: Arc<Ports>,
    cut: AtomicBool,
    /// The port at the switch and the LAN, by the name of the interface.
    interfaces: Mutex<HashMap<String, (String, Switch)>>,
    responders: Mutex<Vec<Responder>>,
}

impl Host {
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

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The namespace of the switches that it is on.
    pub fn switches(&self) -> &Namespace {
        &self.switches
    }

    /// A directory for its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where daemons lock their virtual routers: one directory for all hosts of the lab, as for all
    /// namespaces of a machine.
    pub fn lock_dir(&self) -> PathBuf {
        self.dir.with_file_name(".locks")
    }

    /// A directory for what does not outlive a boot, as `/run` is; made if it is missing.
    pub fn runtime_dir(&self) -> io::Result<PathBuf> {
        let dir = self.dir.join("run");
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Creates an interface with the host's addresses and connects it to a LAN.
    pub fn connect(&self, interface: &str, lan: Switch) -> io::Result<()> {
        static PORTS: AtomicU32 = AtomicU32::new(1);
        let port = format!("port{}", PORTS.fetch_add(1, Ordering::Relaxed));
        let mac = [2, 0, 0, 0, lan.0, self.number];
        let links = self.namespace.links();
        links.add_veth(interface, mac, &port, self.switches.file())?;
        let far = self.switches.links();
        far.set_automatic_link_local(&port, false)?;
        far.set_bridge(&port, &lan.bridge())?;
        lock(&self.ports).insert(far.index(&port)?, (self.name.as_str().into(), interface.into()));
        far.up(&port)?;
        lock(&self.interfaces).insert(interface.to_owned(), (port, lan));
        links.set_automatic_link_local(interface, false)?;
        self.up(interface)
    }

    /// Sets an interface up and gives it the host's own addresses, as far as they are missing.
    pub fn up(&self, interface: &str) -> io::Result<()> {
        let (_, lan) = self.plug_of(interface)?;
        let links = self.namespace.links();
        links.up(interface)?;
        for (address, prefix) in self.own_addresses(lan) {
            match links.add_address(interface, address, prefix) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Cuts the host off at the switch; its carrier stays.
    pub fn cut(&self) -> io::Result<()> {
        for (port, _) in self.plugs() {
            self.switches.links().set_forwarding(&port, false)?;
        }
        self.cut.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends what [`cut`](Self::cut) began.
    pub fn heal(&self) -> io::Result<()> {
        self.cut.store(false, Ordering::Relaxed);
        for (port, _) in self.plugs() {
            self.switches.links().set_forwarding(&port, true)?;
        }
        Ok(())
    }

    /// Leaves what is there after a reboot: its own addresses, and nothing in its runtime directory.
    /// Its processes must have ended.
    pub fn reset(&self) -> io::Result<()> {
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
        Ok(())
    }

    /// Answers probes to `ip` with the host's name whenever it holds the address.
    pub fn answer(&self, ip: IpAddr) -> io::Result<()> {
        let responder = Responder::start(&self.namespace, &self.name, ip)?;
        lock(&self.responders).push(responder);
        Ok(())
    }

    /// Whether it holds an address now.
    pub fn holds(&self, ip: IpAddr) -> io::Result<bool> {
        Ok(self.namespace.links().addresses()?.iter().any(|(_, held, _)| *held == ip))
    }

    /// Whether it holds an address now where the LAN can reach it.
    pub fn serves(&self, ip: IpAddr) -> io::Result<bool> {
        Ok(!self.cut.load(Ordering::Relaxed) && self.holds(ip)?)
    }

    fn own_addresses(&self, lan: Switch) -> [(IpAddr, u8); 3] {
        [
            (lan.ipv4(self.number).into(), 24),
            (self.link_local().into(), 64),
            (lan.ipv6(self.number).into(), 64),
        ]
    }

    /// The port at the switch and the LAN of each interface, by its name.
    pub fn interfaces(&self) -> &Mutex<HashMap<String, (String, Switch)>> {
        &self.interfaces
    }

    /// The ports of its interfaces at the switches, and their LANs.
    pub fn plugs(&self) -> Vec<(String, Switch)> {
        lock(&self.interfaces).values().cloned().collect()
    }

    /// The port of an interface at the switch, and its LAN.
    ///
    /// # Errors
    /// If it has no such interface.
    pub fn plug_of(&self, interface: &str) -> io::Result<(String, Switch)> {
        lock(&self.interfaces).get(interface).cloned().ok_or_else(|| {
            let text = format!("{} has no interface {interface}", self.name);
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }
}
