//! The lab's switches and hosts with what tests do to them: cables pulled, interfaces removed, packets
//! lost; and who held which address when.

use std::io;
use std::net::IpAddr;
use std::ops::Deref;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use vipd::lab::{
    LabThread, Namespace, Observer, Switch, address_of, lock, prioritize, wait_readable,
};

use super::echo::EchoServer;
use super::link::LinkChanges;
use super::ownership::{Change, Changed, Ownership};

/// Switches and the hosts on them, observed. Everything ends with it.
#[derive(Debug)]
pub struct Lab {
    observer: Option<Observer>,
    changes: Arc<Mutex<Vec<Change>>>,
    lab: vipd::lab::Lab,
}

impl Deref for Lab {
    type Target = vipd::lab::Lab;

    fn deref(&self) -> &Self::Target {
        &self.lab
    }
}

impl Lab {
    /// A lab with one LAN and an observer on it.
    ///
    /// # Errors
    /// The namespace cannot be created, for example as [`enter`](super::enter) was not called.
    pub fn new() -> io::Result<Self> {
        let lab = vipd::lab::Lab::new()?;
        Ok(Self { observer: Some(Observer::start(&lab)?), changes: Arc::default(), lab })
    }

    /// A lab that sees nothing, [`observer`](Self::observer) and [`owners`](Self::owners) included:
    /// where the cost of a packet or of an address is measured, nothing else may add to it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn unobserved() -> io::Result<Self> {
        let lab = vipd::lab::Lab::new()?;
        Ok(Self { observer: None, changes: Arc::default(), lab })
    }

    /// A host whose `eth0` is on the first LAN; `number` is the last part of its addresses.
    pub fn host(&self, name: &str, number: u8) -> io::Result<Host> {
        let host = self.bare_host(name, number)?;
        host.connect("eth0", Switch::LAN)?;
        Ok(host)
    }

    /// A host without any interface but its loopback device.
    pub fn bare_host(&self, name: &str, number: u8) -> io::Result<Host> {
        let host = self.lab.bare_host(name, number)?;
        let watched = self.observer.is_some();
        let watch = watched.then(|| watch(&host, &self.changes)).transpose()?;
        let changes = Arc::clone(&self.changes);
        Ok(Host { _watch: watch, changes, echoes: Mutex::default(), host })
    }

    /// Sees all frames on all LANs.
    ///
    /// # Panics
    /// If the lab is [`unobserved`](Self::unobserved).
    pub fn observer(&self) -> &Observer {
        self.observer.as_ref().expect("an observed lab")
    }

    /// The longest time between two adverts of a host between two points in time, both counted
    /// as adverts.
    pub fn longest_gap(&self, host: &str, from: Instant, to: Instant) -> Duration {
        let mut last = from;
        let mut longest = Duration::ZERO;
        let times = self.observer().adverts(host, from).into_iter().map(|(at, _)| at);
        for at in times.take_while(|at| *at < to).chain([to]) {
            longest = longest.max(at.saturating_duration_since(last));
            last = at;
        }
        longest
    }

    /// From now on nothing that one host sends reaches the other; all other hosts still receive
    /// from both. Needs the program `nft`.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn lose(&self, from: &Host, to: &Host) -> io::Result<()> {
        let mut rules = "add table bridge lost; add chain bridge lost forward { \
                         type filter hook forward priority 0; };"
            .to_owned();
        for (from, _) in from.plugs() {
            for (to, _) in to.plugs() {
                rules += &format!("add rule bridge lost forward iifname {from} oifname {to} drop;");
            }
        }
        nft(self.switches(), rules)
    }

    /// Ends every [`lose`](Self::lose).
    ///
    /// # Errors
    /// What `nft` says.
    pub fn lose_nothing(&self) -> io::Result<()> {
        nft(self.switches(), "add table bridge lost; delete table bridge lost".to_owned())
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

/// What is lost of what a host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Everything.
    All,
    /// VRRP over IPv4 alone, as by a firewall that does not know it.
    Adverts,
}

/// A host of the lab, and what may happen to it.
#[derive(Debug)]
pub struct Host {
    _watch: Option<LabThread>,
    changes: Arc<Mutex<Vec<Change>>>,
    echoes: Mutex<Vec<EchoServer>>,
    host: vipd::lab::Host,
}

impl Deref for Host {
    type Target = vipd::lab::Host;

    fn deref(&self) -> &Self::Target {
        &self.host
    }
}

impl Host {
    /// Creates an interface with the host's addresses and connects it to a LAN.
    pub fn connect(&self, interface: &str, lan: Switch) -> io::Result<()> {
        self.host.connect(interface, lan)?;
        self.note(Changed::Reachable(true));
        Ok(())
    }

    /// Sets an interface up and gives it the host's own addresses, as far as they are missing.
    pub fn up(&self, interface: &str) -> io::Result<()> {
        self.host.up(interface)?;
        self.note(Changed::Reachable(true));
        Ok(())
    }

    /// Sets an interface administratively down.
    pub fn down(&self, interface: &str) -> io::Result<()> {
        self.note(Changed::Reachable(false));
        self.namespace().links().down(interface)
    }

    /// Renames an interface, as udev may; it stays plugged in.
    pub fn rename(&self, interface: &str, new_name: &str) -> io::Result<()> {
        let plug = self.plug_of(interface)?;
        self.namespace().links().rename(interface, new_name)?;
        let mut interfaces = lock(self.interfaces());
        interfaces.remove(interface);
        interfaces.insert(new_name.to_owned(), plug);
        Ok(())
    }

    /// Makes an interface the port of a new bridge, which gets the host's own addresses on that
    /// LAN.
    pub fn bridge(&self, interface: &str, bridge: &str) -> io::Result<()> {
        let plug = self.plug_of(interface)?;
        let links = self.namespace().links();
        links.add_bridge(bridge)?;
        links.set_automatic_link_local(bridge, false)?;
        links.set_bridge(interface, bridge)?;
        let index = links.index(interface)?;
        for (_, ip, prefix) in links.addresses()?.into_iter().filter(|(on, ..)| *on == index) {
            links.remove_address(interface, ip, prefix)?;
        }
        lock(self.interfaces()).insert(bridge.to_owned(), plug);
        self.up(bridge)
    }

    /// Deletes an interface, as when a container's or a virtual machine's card goes.
    pub fn delete(&self, interface: &str) -> io::Result<()> {
        self.namespace().links().delete(interface)?;
        lock(self.interfaces()).remove(interface);
        Ok(())
    }

    /// Cuts the host off at the switch; its carrier stays.
    pub fn cut(&self) -> io::Result<()> {
        self.host.cut()?;
        self.note(Changed::Reachable(false));
        Ok(())
    }

    /// Ends what [`cut`](Self::cut) began.
    pub fn heal(&self) -> io::Result<()> {
        self.note(Changed::Reachable(true));
        self.host.heal()
    }

    /// Pulls the cable of an interface: it loses its carrier.
    pub fn unplug(&self, interface: &str) -> io::Result<()> {
        let (port, _) = self.plug_of(interface)?;
        self.switches().links().down(&port)?;
        self.note(Changed::Reachable(false));
        Ok(())
    }

    /// Puts the cable back.
    pub fn plug(&self, interface: &str) -> io::Result<()> {
        let (port, _) = self.plug_of(interface)?;
        self.note(Changed::Reachable(true));
        self.switches().links().up(&port)
    }

    /// What a reboot leaves after [`cut`](Self::cut) and the end of its processes: its own
    /// addresses, a connected cable, and nothing in its runtime directory.
    pub fn boot(&self) -> io::Result<()> {
        self.host.reset()?;
        self.heal()
    }

    /// Echoes what arrives on TCP connections to `ip`.
    pub fn echo(&self, ip: IpAddr) -> io::Result<()> {
        let echo = EchoServer::start(self.namespace(), ip)?;
        lock(&self.echoes).push(echo);
        Ok(())
    }

    /// From now on what it sends is lost at the switch, all or part of it; it still receives. Needs
    /// the program `nft`.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn drop_outgoing(&self, lost: Lost) -> io::Result<()> {
        let (policy, rule) = match lost {
            Lost::All => ("drop", ""),
            Lost::Adverts => ("accept", "ip protocol 112 drop;"),
        };
        for (port, _) in self.plugs() {
            let rules = format!(
                "add table netdev {port}; add chain netdev {port} in {{ \
                 type filter hook ingress device {port} priority 0; policy {policy}; {rule} }}"
            );
            nft(self.switches(), rules)?;
        }
        if lost == Lost::All {
            self.note(Changed::Reachable(false));
        }
        Ok(())
    }

    /// Ends what [`drop_outgoing`](Self::drop_outgoing) began.
    ///
    /// # Errors
    /// What `nft` says.
    pub fn pass_outgoing(&self) -> io::Result<()> {
        self.note(Changed::Reachable(true));
        for (port, _) in self.plugs() {
            nft(self.switches(), format!("delete table netdev {port}"))?;
        }
        Ok(())
    }

    fn note(&self, what: Changed) {
        let change = Change { at: Instant::now(), host: self.name().to_owned(), what };
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

/// Records every address that is added to or removed from a host.
fn watch(host: &vipd::lab::Host, changes: &Arc<Mutex<Vec<Change>>>) -> io::Result<LabThread> {
    const RTNLGRP_IPV4_IFADDR: u32 = 5;
    const RTNLGRP_IPV6_IFADDR: u32 = 9;
    let socket = host.namespace().run(|| {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(RTNLGRP_IPV4_IFADDR)?;
        socket.add_membership(RTNLGRP_IPV6_IFADDR)?;
        // The crate takes the option's size from its argument's type.
        socket.set_rx_buf_sz(1_i32 << 20)?;
        io::Result::Ok(socket)
    })?;
    let (name, changes) = (host.name().to_owned(), Arc::clone(changes));
    LabThread::start(host.namespace(), "watch", move |stop| {
        prioritize();
        note_addresses(&socket, &name, &changes, stop);
    })
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
