//! `vipd doctor`: looks at this host and says what stands in the way, each [`Finding`] with the
//! command that mends it.
//!
//! [`kernel`] knows interfaces and switches, [`firewall`] the packet filter's rules, [`wire`] what
//! passes and what gets through, [`managers`] who else changes addresses or stops services, and
//! [`process`] what the daemon may do. Everything is looked at, nothing is changed; the only packets
//! that are sent never leave the host.

pub mod firewall;
pub mod kernel;
pub mod managers;
pub mod process;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::api::status::Status;
use crate::config::Config;
use crate::daemon::control::{self, Answer, NoAnswer, Request};
use crate::host::netlink::Link;
use crate::vrrp::advert::{self, Heard};
use crate::vrrp::{
    DiscardReason, Event, Family, Instant, LinkAddress, Node, Packet, Priority, Recorded,
    RouterConfig, Why,
};
use firewall::{Ruleset, Way};
use kernel::Picture;
use wire::Tested;

/// What can stand in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The configuration is refused.
    ConfigRefused,
    /// A configured interface is not there.
    InterfaceAbsent,
    /// A configured interface is down.
    InterfaceDown,
    /// A configured interface has no address to send adverts from.
    NoAddress,
    /// A packet filter stops adverts on their way in.
    AdvertsFilteredIn,
    /// A packet filter stops adverts on their way out.
    AdvertsFilteredOut,
    /// Adverts come by another way than the kernel would answer by, and it drops them.
    RpFilter,
    /// Several interfaces in one LAN all answer for the address.
    ArpFlux,
    /// The interface answers no ARP at all.
    ArpSilent,
    /// Something else on this host advertises one of our virtual routers.
    OtherDaemon,
    /// More than one host is master of one of our virtual routers.
    TwoMasters,
    /// Another group uses one of our VRIDs, or a peer has another list of addresses.
    DifferentAddresses,
    /// Adverts for a VRID that nobody here has.
    ForeignVrid,
    /// Adverts for our VRID from somebody whom the configuration does not accept.
    SenderRefused,
    /// A peer that cannot be understood.
    IncompatiblePeer,
    /// Nobody was ever heard.
    NeverHeard,
    /// A shared address is there, and is not vipd's.
    AddressNotOurs,
    /// A shared address is vipd's, and no vipd runs.
    AddressLeftOver,
    /// systemd-networkd removes addresses that it does not know.
    NetworkdRemoves,
    /// NetworkManager removes addresses that it does not know.
    NetworkmanagerRemoves,
    /// A capability is missing.
    CapabilityMissing,
    /// The daemon has no real-time priority.
    NoRealtime,
    /// The daemon's memory is not locked.
    MemoryNotLocked,
    /// Adverts came too late to keep the role.
    Late,
    /// The kernel refused adverts.
    AdvertsRefused,
    /// A checked service is stopped in parallel with vipd.
    UnitOrder,
    /// This host is drained.
    Drained,
    /// A virtual router was moved away by hand.
    HeldBack,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Trouble; 28] = [
        Trouble::ConfigRefused,
        Trouble::InterfaceAbsent,
        Trouble::InterfaceDown,
        Trouble::NoAddress,
        Trouble::AdvertsFilteredIn,
        Trouble::AdvertsFilteredOut,
        Trouble::RpFilter,
        Trouble::ArpFlux,
        Trouble::ArpSilent,
        Trouble::OtherDaemon,
        Trouble::TwoMasters,
        Trouble::DifferentAddresses,
        Trouble::ForeignVrid,
        Trouble::SenderRefused,
        Trouble::IncompatiblePeer,
        Trouble::NeverHeard,
        Trouble::AddressNotOurs,
        Trouble::AddressLeftOver,
        Trouble::NetworkdRemoves,
        Trouble::NetworkmanagerRemoves,
        Trouble::CapabilityMissing,
        Trouble::NoRealtime,
        Trouble::MemoryNotLocked,
        Trouble::Late,
        Trouble::AdvertsRefused,
        Trouble::UnitOrder,
        Trouble::Drained,
        Trouble::HeldBack,
    ];

    /// The word for programs: never changed once published.
    pub const fn word(self) -> &'static str {
        match self {
            Trouble::ConfigRefused => "config_refused",
            Trouble::InterfaceAbsent => "interface_absent",
            Trouble::InterfaceDown => "interface_down",
            Trouble::NoAddress => "no_address",
            Trouble::AdvertsFilteredIn => "adverts_filtered_in",
            Trouble::AdvertsFilteredOut => "adverts_filtered_out",
            Trouble::RpFilter => "rp_filter",
            Trouble::ArpFlux => "arp_flux",
            Trouble::ArpSilent => "arp_silent",
            Trouble::OtherDaemon => "other_daemon",
            Trouble::TwoMasters => "two_masters",
            Trouble::DifferentAddresses => "different_addresses",
            Trouble::ForeignVrid => "foreign_vrid",
            Trouble::SenderRefused => "sender_refused",
            Trouble::IncompatiblePeer => "incompatible_peer",
            Trouble::NeverHeard => "never_heard",
            Trouble::AddressNotOurs => "address_not_ours",
            Trouble::AddressLeftOver => "address_left_over",
            Trouble::NetworkdRemoves => "networkd_removes",
            Trouble::NetworkmanagerRemoves => "networkmanager_removes",
            Trouble::CapabilityMissing => "capability_missing",
            Trouble::NoRealtime => "no_realtime",
            Trouble::MemoryNotLocked => "memory_not_locked",
            Trouble::Late => "late",
            Trouble::AdvertsRefused => "adverts_refused",
            Trouble::UnitOrder => "unit_order",
            Trouble::Drained => "drained",
            Trouble::HeldBack => "held_back",
        }
    }
}

impl Serialize for Trouble {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which kind.
    pub trouble: Trouble,
    /// The virtual router, interface or unit that it is about; empty for the whole host.
    pub about: String,
    /// What is so, and what follows from it.
    pub text: String,
    /// The command that mends it, or what to change and the command that makes it so.
    pub mend: String,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// Why not, and what would help.
    pub why: String,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What stands in the way.
    pub findings: Vec<Finding>,
    /// What could not be looked at.
    pub not_examined: Vec<Unseen>,
}

impl Report {
    fn found(
        &mut self,
        trouble: Trouble,
        about: impl ToString,
        text: impl Into<String>,
        mend: impl Into<String>,
    ) {
        let about = about.to_string();
        // Many virtual routers share one interface; the first to find it says it.
        if !self.findings.iter().any(|known| (known.trouble, &known.about) == (trouble, &about)) {
            self.findings.push(Finding { trouble, about, text: text.into(), mend: mend.into() });
        }
    }

    fn unseen(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let unseen = Unseen { what: what.into(), why: why.into() };
        if !self.not_examined.contains(&unseen) {
            self.not_examined.push(unseen);
        }
    }
}

/// Where and how to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration; `None`: that of the daemon that runs, or this one.
    pub config: Option<PathBuf>,
    /// If there is no daemon to ask for it.
    pub default_config: PathBuf,
    /// Where the daemon that is meant has its socket.
    pub runtime_dir: PathBuf,
    /// How long to listen; zero: not at all.
    pub listen: Duration,
}

/// Looks at everything.
pub fn examine(options: &Options) -> Report {
    let mut report = Report::default();
    let before = ask(&options.runtime_dir, &mut report);
    let path = match (&options.config, &before) {
        (Some(path), _) => path.clone(),
        (None, Some(status)) => PathBuf::from(&status.daemon.config),
        (None, None) => options.default_config.clone(),
    };
    match &before {
        Some(status) => process::running(status, &mut report),
        None => process::would_run(&mut report),
    }
    if let Some(config) = read(&path, &mut report) {
        host(options, &path, &config, before.as_ref(), &mut report);
    }
    if let Some(status) = &before {
        told(status, &mut report);
    }
    report.findings.sort_by_key(|finding| finding.trouble);
    report
}

fn ask(runtime_dir: &Path, report: &mut Report) -> Option<Status> {
    let why = match control::ask(runtime_dir, &Request::Status) {
        Ok(Answer::Status(status)) => return Some(*status),
        Ok(Answer::Error { text, .. }) => text,
        Ok(
            Answer::Done { .. }
            | Answer::Events { .. }
            | Answer::Moved { .. }
            | Answer::Reloaded { .. },
        ) => "the daemon answered something else than it was asked".to_owned(),
        Err(
            error @ (NoAnswer::NoDaemon(_)
            | NoAnswer::NotAllowed(_)
            | NoAnswer::Lost(..)
            | NoAnswer::NotUnderstood(_)),
        ) => error.to_string(),
    };
    report.unseen("the running daemon", why);
    None
}

fn read(path: &Path, report: &mut Report) -> Option<Config> {
    let loaded = Config::load(path).and_then(|config| {
        config.require_routers()?;
        config.check_host()?;
        Ok(config)
    });
    match loaded {
        Ok(config) => Some(config),
        Err(problems) => {
            let count = problems.len();
            let what = if count == 1 { "a problem".into() } else { format!("{count} problems") };
            let path = path.display();
            let text =
                format!("{path} has {what}: vipd does not start with it, and refuses to reload it");
            let mend = format!("vipd check {path}");
            report.found(Trouble::ConfigRefused, path, text, mend);
            None
        }
    }
}

/// One virtual router with its interface.
struct Place<'a> {
    router: &'a RouterConfig,
    link: &'a Link,
}

impl Place<'_> {
    /// Somewhere else than multicast?
    fn unicast(&self) -> bool {
        self.router.unicast_peers.is_some()
    }
}

fn host(
    options: &Options,
    path: &Path,
    config: &Config,
    before: Option<&Status>,
    report: &mut Report,
) {
    managers::units(config, report);
    let picture = match Picture::take() {
        Ok(picture) => picture,
        Err(error) => return report.unseen("interfaces and addresses", error.to_string()),
    };
    let mut places = Vec::new();
    for router in &config.vrrp.routers {
        match picture.link(&router.interface) {
            Some(link) if link.up => places.push(Place { router, link }),
            Some(link) => {
                let text = format!("{} is down, so {} is in fault", link.name, router.name);
                let mend = format!("ip link set {} up", link.name);
                report.found(Trouble::InterfaceDown, &link.name, text, mend);
            }
            None => {
                let name = &router.interface;
                let text = format!("there is no interface {name}, so {} is in fault", router.name);
                let mend = format!(
                    "ip link show; then correct `interface` in {} and run: vipd reload",
                    path.display()
                );
                report.found(Trouble::InterfaceAbsent, name, text, mend);
            }
        }
    }
    for place in &places {
        addresses(place, &picture, before.is_some(), path, report);
        switches(place, &picture, report);
        managers::networkd(place.link, report);
        managers::networkmanager(place.link, report);
    }

    let indices: BTreeSet<u32> = places.iter().map(|place| place.link.index).collect();
    let indices: Vec<u32> = indices.into_iter().collect();
    let heard = match wire::listen(&indices, options.listen) {
        Ok(heard) => heard,
        Err(error) => {
            report.unseen(
                "adverts on the wire",
                format!("they cannot be listened to ({error}): try again with sudo"),
            );
            BTreeMap::new()
        }
    };
    let after = match before {
        Some(before) => match control::ask(&options.runtime_dir, &Request::Status) {
            Ok(Answer::Status(status)) => Some(*status),
            _ => Some(before.clone()),
        },
        None => None,
    };
    let scene =
        Scene { path, config, picture: &picture, places: &places, heard: &heard, before, after };
    scene.senders(report);
    scene.filters(report);
    scene.reverse_paths(report);
}

/// Whose the addresses are that are on the interface now.
fn addresses(place: &Place<'_>, picture: &Picture, runs: bool, path: &Path, report: &mut Report) {
    let Place { router, link } = place;
    let family = |found: &&kernel::Address| Family::of(found.ip) == router.family;
    let mut own = picture.of(link.index).filter(family);
    let virtual_ones: BTreeSet<IpAddr> = router.all_addresses().map(|address| address.ip).collect();
    if !own.any(|found| found.usable && !found.ours && !virtual_ones.contains(&found.ip))
        && router.source_address.is_none()
        && router.priority != Priority::OWNER
    {
        let text = format!(
            "{} has no {} address of its own, so {} cannot send adverts",
            link.name, router.family, router.name
        );
        let mend = match router.family {
            Family::V4 => format!("ip address add ADDRESS/PREFIX dev {}", link.name),
            Family::V6 => format!("sysctl -w net.ipv6.conf.{}.disable_ipv6=0", sysctl(&link.name)),
        };
        report.found(Trouble::NoAddress, &link.name, text, mend);
    }
    if router.priority == Priority::OWNER {
        return;
    }
    for found in picture.addresses.iter().filter(|found| virtual_ones.contains(&found.ip)) {
        let interface = picture.name(found.index);
        let (ip, name) = (found.ip, &router.name);
        if !found.ours {
            let text = format!(
                "{ip}/{} is on {interface} and was not put there by vipd, so {name} never touches it: two hosts answer when another one is master",
                found.prefix
            );
            let mend = format!(
                "ip address del {ip}/{} dev {interface}  (and remove it from the network configuration)",
                found.prefix
            );
            report.found(Trouble::AddressNotOurs, ip, text, mend);
        } else if !runs {
            let text = format!("an earlier vipd left {ip} on {interface}, and none runs now");
            let mend = format!("vipd cleanup --config {}", path.display());
            report.found(Trouble::AddressLeftOver, ip, text, mend);
        }
    }
}

/// The kernel's switches that concern answers to ARP.
fn switches(place: &Place<'_>, picture: &Picture, report: &mut Report) {
    let Place { router, link } = place;
    if !router.all_addresses().any(|address| address.ip.is_ipv4()) {
        return;
    }
    if kernel::ipv4_switch(&link.name, "arp_ignore") == Some(8) {
        let text = format!(
            "arp_ignore is 8: {} answers no ARP request, so nobody finds the addresses of {}",
            link.name, router.name
        );
        let mend = format!(
            "sysctl -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.{}.arp_ignore=0",
            sysctl(&link.name)
        );
        report.found(Trouble::ArpSilent, &link.name, text, mend);
    }
    let loud: Vec<&str> = picture
        .beside(link)
        .into_iter()
        .filter(|other| kernel::ipv4_switch(&other.name, "arp_ignore") == Some(0))
        .map(|other| other.name.as_str())
        .collect();
    if !loud.is_empty() {
        let text = format!(
            "{} {} in the same network as {}, and answers ARP requests for the addresses of {} with its own MAC",
            loud.join(", "),
            if loud.len() == 1 { "is" } else { "are" },
            link.name,
            router.name
        );
        let mend = "sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2";
        report.found(Trouble::ArpFlux, &link.name, text, mend);
    }
}

/// Interface names with dots in them are written with slashes.
fn sysctl(interface: &str) -> String {
    interface.replace('.', "/")
}

/// What the daemon itself tells.
fn told(status: &Status, report: &mut Report) {
    if status.drained {
        let text = "this host is drained: it takes nothing over, also after a reboot";
        report.found(Trouble::Drained, "", text, "vipd undrain");
    }
    if status.counters.adverts_refused > 0 {
        let text = format!(
            "the kernel refused {} adverts since vipd started, {} were sent",
            status.counters.adverts_refused, status.counters.adverts_sent
        );
        let mend = "journalctl -u vipd | grep 'refuses adverts'  (it says why), then: systemctl restart vipd";
        report.found(Trouble::AdvertsRefused, "", text, mend);
    }
    for router in &status.routers {
        let name = &router.name;
        if router.held_back {
            let text = format!("{name} was moved away by \"vipd failover\": it does not preempt");
            report.found(Trouble::HeldBack, name, text, format!("vipd resume {name}"));
        }
        for peer in &router.incompatible {
            let text =
                format!("{name} cannot use the adverts of {}: {}", peer.address, peer.change);
            let mend = format!("correct it in {}, then run: vipd reload", status.daemon.config);
            report.found(Trouble::IncompatiblePeer, about(name, peer.address), text, mend);
        }
        if ["master", "backup"].contains(&router.role.as_str())
            && router.heard.is_none()
            && router.incompatible.is_empty()
        {
            let (text, mend) = match router.role.as_str() {
                "master" => (
                    format!(
                        "{name} has never heard another router since vipd started; a backup is silent, so only a failover shows whether there is one"
                    ),
                    format!("vipd failover {name}  (nothing is lost if nobody is there)"),
                ),
                _ => (
                    format!("{name} has never heard a master"),
                    "vipd doctor  (on the other host)".to_owned(),
                ),
            };
            report.found(Trouble::NeverHeard, name, text, mend);
        }
        lateness(router, report);
    }
}

/// Adverts that left too late, or not at all.
fn lateness(router: &crate::api::status::Router, report: &mut Report) {
    let (name, counted) = (&router.name, &router.counters);
    let causes = [Why::Late.name(), Why::LeaseRanOut.name()];
    let lost: u64 = counted
        .transitions
        .iter()
        .filter(|change| causes.contains(&change.cause.as_ref()))
        .map(|change| change.count)
        .sum();
    let lateness = &counted.advert_lateness;
    let below = std::iter::once(0.0).chain(lateness.bounds_seconds.iter().copied());
    let late: u64 = lateness
        .counts
        .iter()
        .zip(below)
        .filter(|(_, bound)| *bound >= router.advert_interval_seconds)
        .map(|(count, _)| count)
        .sum();
    if lost + late == 0 {
        return;
    }
    let text = format!(
        "of {} adverts of {name} {late} left more than one interval late, and {lost} times it lost its role by that",
        counted.adverts_sent
    );
    let mend = "vipd events  (when was it? what kept vipd from the processor then: a paused virtual machine, no_realtime, memory_not_locked?)";
    report.found(Trouble::Late, name, text, mend);
}

fn about(router: &str, address: IpAddr) -> String {
    format!("{router}, {address}")
}

/// Everything that is known when it comes to adverts.
struct Scene<'a> {
    path: &'a Path,
    config: &'a Config,
    picture: &'a Picture,
    places: &'a [Place<'a>],
    heard: &'a BTreeMap<u32, wire::Heard>,
    before: Option<&'a Status>,
    after: Option<Status>,
}

impl Scene<'_> {
    fn passed(&self, index: u32) -> impl Iterator<Item = &wire::Passed> {
        self.heard.get(&index).into_iter().flat_map(|heard| &heard.passed)
    }

    /// The adverts on the wire that mean a virtual router.
    fn adverts(&self, place: &Place<'_>) -> Vec<(&wire::Passed, Heard<'_>)> {
        self.passed(place.link.index)
            .filter_map(|passed| {
                let heard =
                    advert::decode(passed.source, passed.destination, &passed.message).ok()?;
                Some((passed, heard))
            })
            .filter(|(_, heard)| {
                (heard.family, heard.vrid) == (place.router.family, place.router.vrid)
            })
            .collect()
    }

    /// Whether this host is master, as the daemon said before and after listening: in between it
    /// may have become one.
    fn master(&self, router: &RouterConfig) -> (bool, bool) {
        let is = |status: Option<&Status>| {
            let router = status.and_then(|status| status.find(&router.name));
            router.is_some_and(|router| ["master", "leaving"].contains(&router.role.as_str()))
        };
        (is(self.before), is(self.after.as_ref()))
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.picture.addresses.iter().any(|own| own.ip == address)
    }

    /// Other hosts that are known to take part in a virtual router.
    fn peers(&self, place: &Place<'_>) -> BTreeSet<IpAddr> {
        let named = [&place.router.unicast_peers, &place.router.accept_from];
        let named = named.into_iter().flatten().flat_map(|list| list.iter().copied());
        let told = self.before.and_then(|status| status.find(&place.router.name));
        let told = told.and_then(|router| router.heard.as_ref()).map(|heard| heard.address);
        let seen = self.adverts(place).into_iter().filter(|(passed, _)| !passed.outgoing);
        let seen = seen.map(|(passed, _)| passed.source).collect::<Vec<_>>();
        named
            .chain(told)
            .chain(seen)
            .filter(|peer| Family::of(*peer) == place.router.family && !self.is_own(*peer))
            .collect()
    }

    /// Who advertises, and whether he should.
    fn senders(&self, report: &mut Report) {
        self.listen_as_the_daemon_does(report);
        for place in self.places {
            let (router, name) = (place.router, &place.router.name);
            let adverts = self.adverts(place);
            let (before, after) = self.master(router);
            let priority = self.after.as_ref().and_then(|status| status.find(name));
            let priorities =
                [0, router.priority.get(), priority.map_or(0, |router| router.effective_priority)];
            let ours: BTreeSet<IpAddr> = router.addresses.iter().map(|a| a.ip).collect();
            let is_ours = |heard: &Heard<'_>| {
                (before || after)
                    && priorities.contains(&heard.priority.get())
                    && heard.addresses().collect::<BTreeSet<_>>() == ours
            };
            if let Some((_, heard)) =
                adverts.iter().find(|(passed, heard)| passed.outgoing && !is_ours(heard))
            {
                let text = format!(
                    "another program on this host advertises VRID {} on {} with priority {}: it and {name} do not hear each other",
                    router.vrid, place.link.name, heard.priority
                );
                let mend = match process::keepalived() {
                    Some(pid) => format!("systemctl disable --now keepalived  (pid {pid})"),
                    None => "systemctl list-units 'vipd*' 'keepalived*'; stop it, or give one of the two another `vrid`".to_owned(),
                };
                report.found(Trouble::OtherDaemon, name, text, mend);
            }
            let mut masters: BTreeMap<IpAddr, (Duration, Duration)> = BTreeMap::new();
            for (passed, heard) in &adverts {
                if passed.outgoing || heard.priority == Priority::LEAVING {
                    continue;
                }
                masters.entry(passed.source).or_insert((passed.at, passed.at)).1 = passed.at;
                if heard.addresses().collect::<BTreeSet<_>>() != ours {
                    let theirs: Vec<String> = heard.addresses().map(|ip| ip.to_string()).collect();
                    let text = format!(
                        "{} advertises VRID {} with other addresses than {name}: {}",
                        passed.source,
                        router.vrid,
                        theirs.join(", ")
                    );
                    let mend = format!(
                        "make `addresses` equal on both, or choose another `vrid` in {}; then run: vipd reload",
                        self.path.display()
                    );
                    report.found(
                        Trouble::DifferentAddresses,
                        about(name, passed.source),
                        text,
                        mend,
                    );
                }
            }
            // At the same time, not one after the other.
            masters.retain(|_, (first, last)| last > first);
            let began = masters.values().map(|(first, _)| *first).max();
            let ended = masters.values().map(|(_, last)| *last).min();
            let mut who: Vec<String> = masters.keys().map(ToString::to_string).collect();
            if before && after {
                who.push("this host".to_owned());
            }
            if who.len() > 1 && began <= ended {
                let text = format!(
                    "{} are master of {name} at the same time: they do not hear each other",
                    who.join(" and ")
                );
                let mend =
                    "vipd doctor  (on each of them: a packet filter, or a network that is cut)";
                report.found(Trouble::TwoMasters, name, text, mend);
            }
        }
        self.strangers(report);
    }

    /// What the daemon's own protocol code makes of what passes, packet filter or not.
    fn listen_as_the_daemon_does(&self, report: &mut Report) {
        let mut node = Node::new(&self.config.vrrp);
        let mut unused = Vec::new();
        let links: Vec<_> = node.links().map(|(link, name)| (link, name.to_string())).collect();
        for router in node.routers().map(|router| router.id()).collect::<Vec<_>>() {
            let nothing = Recorded::default();
            let _ = node.handle(Instant::START, Event::Found(router, nothing), &mut unused);
        }
        for (link, name) in links {
            let Some(there) = self.picture.link(&name) else { continue };
            let of = |a: &kernel::Address| LinkAddress { ip: a.ip, ours: a.ours, usable: a.usable };
            let addresses: Vec<LinkAddress> = self.picture.of(there.index).map(of).collect();
            let up = Event::Link { link, up: there.up, addresses: &addresses };
            let _ = node.handle(Instant::START, up, &mut unused);
            for passed in self.passed(there.index).filter(|passed| !passed.outgoing) {
                if !passed.destination.is_multicast() && !self.is_own(passed.destination) {
                    continue;
                }
                let packet = Packet {
                    link,
                    source: passed.source,
                    destination: passed.destination,
                    ttl: passed.ttl,
                    message: &passed.message,
                };
                let now = Instant::from_millis(passed.at.as_millis() as u64);
                let Err(discard) = node.handle(now, Event::Packet(packet), &mut unused) else {
                    continue;
                };
                let Ok(heard) = advert::decode(passed.source, passed.destination, &passed.message)
                else {
                    continue;
                };
                let Some(router) = discard.router.and_then(|id| node.router(id)) else { continue };
                let (name, from) = (&router.config().name, passed.source);
                let file = self.path.display();
                match discard.reason {
                    DiscardReason::Incompatible(mismatch) => {
                        let text = format!("{name} cannot use the adverts of {from}: {mismatch}");
                        let mend = format!("correct it in {file}, then run: vipd reload");
                        report.found(Trouble::IncompatiblePeer, about(name, from), text, mend);
                    }
                    DiscardReason::NotAccepted | DiscardReason::NotAPeer => {
                        let key = match discard.reason {
                            DiscardReason::NotAccepted => "accept_from",
                            _ => "unicast_peers",
                        };
                        let text = format!(
                            "{from} advertises VRID {}, and {name} ignores it, as {key} does not name it",
                            heard.vrid
                        );
                        let mend = format!(
                            "if it is a peer, add \"{from}\" to `{key}` in {file} and run: vipd reload; if not, stop it there"
                        );
                        report.found(Trouble::SenderRefused, about(name, from), text, mend);
                    }
                    DiscardReason::Malformed(_)
                    | DiscardReason::UnknownRouter(_)
                    | DiscardReason::OwnAdvert
                    | DiscardReason::Ttl(_) => {}
                }
            }
        }
    }

    /// VRIDs that nobody here has are others' business, unless somebody here misses his peer.
    fn strangers(&self, report: &mut Report) {
        for (&index, heard) in self.heard {
            for passed in heard.passed.iter().filter(|passed| !passed.outgoing) {
                let decoded = advert::decode(passed.source, passed.destination, &passed.message);
                let Ok(advert) = decoded else { continue };
                let mut here = self.places.iter().filter(|place| {
                    place.link.index == index && place.router.family == advert.family
                });
                let known = here.clone().any(|place| place.router.vrid == advert.vrid);
                let Some(lonely) = here.find(|place| self.is_lonely(place)) else { continue };
                if known || passed.ttl != u8::MAX {
                    continue;
                }
                let addresses: Vec<String> =
                    advert.addresses().take(3).map(|ip| ip.to_string()).collect();
                let (name, vrid) = (&lonely.router.name, advert.vrid);
                let text = format!(
                    "{} advertises VRID {vrid} with {} on {}, which nobody here has, while {name} (VRID {}) hears nobody",
                    passed.source,
                    addresses.join(", "),
                    lonely.link.name,
                    lonely.router.vrid
                );
                let mend = format!(
                    "if it is the peer of {name}, write `vrid = {vrid}` in {} and run: vipd reload",
                    self.path.display()
                );
                report.found(
                    Trouble::ForeignVrid,
                    format!("{}, VRID {vrid}", lonely.link.name),
                    text,
                    mend,
                );
            }
        }
    }

    fn is_lonely(&self, place: &Place<'_>) -> bool {
        let told = self.after.as_ref().and_then(|status| status.find(&place.router.name));
        let heard = told.is_some_and(|router| router.heard.is_some());
        !heard && !self.adverts(place).iter().any(|(passed, _)| !passed.outgoing)
    }

    /// Whether a packet filter lets adverts in and out.
    fn filters(&self, report: &mut Report) {
        let rules = Ruleset::read();
        if let Err(why) = &rules {
            report.unseen("the rules of nftables", format!("{why}; test packets are sent instead"));
        }
        let rules = rules.ok();
        for place in self.places {
            if place.unicast() {
                self.unicast_filters(place, rules.as_ref(), report);
            } else {
                self.multicast_filters(place, rules.as_ref(), report);
            }
        }
    }

    fn multicast_filters(&self, place: &Place<'_>, rules: Option<&Ruleset>, report: &mut Report) {
        let Place { router, link } = place;
        let peers = self.peers(place);
        let group = router.family.multicast_group();
        let own = self
            .picture
            .of(link.index)
            .find(|own| Family::of(own.ip) == router.family && own.usable)
            .map(|own| own.ip);
        let packet = |way, source| firewall::Packet {
            way,
            interface: &link.name,
            source,
            destination: group,
        };
        let forged = |peers: &BTreeSet<IpAddr>| {
            let sources = peers.iter().copied().map(Some).collect::<Vec<_>>();
            if sources.is_empty() || router.family == Family::V6 { vec![None] } else { sources }
        };
        for source in forged(&peers) {
            let tested = match wire::test(link.index, router.family, source) {
                Ok(tested) => tested,
                Err(error) => {
                    let why =
                        format!("a test packet cannot be sent ({error}): try again with sudo");
                    report.unseen(format!("whether adverts pass {}", link.name), why);
                    return;
                }
            };
            match tested {
                Tested::Arrived => {}
                Tested::Refused(error) => {
                    let blocked = rules.and_then(|rules| rules.blocks(&packet(Way::Out, own)));
                    self.filtered(
                        place,
                        Way::Out,
                        blocked,
                        &format!("sending says: {error}"),
                        report,
                    );
                }
                Tested::Lost => {
                    let out = rules.and_then(|rules| rules.blocks(&packet(Way::Out, own)));
                    if out.is_some() {
                        self.filtered(place, Way::Out, out, "a test packet was lost", report);
                        continue;
                    }
                    let asked = source.or(own.filter(|_| rules.is_none()));
                    let blocked = rules.and_then(|rules| rules.blocks(&packet(Way::In, asked)));
                    if blocked.is_none() && source.is_none() && rules.is_some() {
                        // Rules that let only some senders in stop a test of our own.
                        let why = "rules let in some senders only, and which are the peers is not known: name them in `accept_from`";
                        report.unseen(format!("whether adverts pass {}", link.name), why);
                        continue;
                    }
                    let from = source.map_or("this host".to_owned(), |source| source.to_string());
                    let seen = format!("a test packet as if from {from} did not get in");
                    self.filtered(place, Way::In, blocked, &seen, report);
                }
            }
        }
    }

    fn unicast_filters(&self, place: &Place<'_>, rules: Option<&Ruleset>, report: &mut Report) {
        let Place { router, link } = place;
        let own = self.picture.of(link.index).find(|own| Family::of(own.ip) == router.family);
        let (Some(rules), Some(own)) = (rules, own) else { return };
        for &peer in router.unicast_peers.iter().flat_map(|peers| peers.iter()) {
            if self.is_own(peer) {
                continue;
            }
            let interface = link.name.as_str();
            for (way, source, destination) in [(Way::In, peer, own.ip), (Way::Out, own.ip, peer)] {
                let source = Some(source);
                let packet = firewall::Packet { way, interface, source, destination };
                if let Some(blocked) = rules.blocks(&packet) {
                    self.filtered(place, way, Some(blocked), "the rules say so", report);
                }
            }
        }
    }

    fn filtered(
        &self,
        place: &Place<'_>,
        way: Way,
        blocked: Option<firewall::Blocked>,
        seen: &str,
        report: &mut Report,
    ) {
        let Place { router, link } = place;
        let (trouble, direction, chain) = match way {
            Way::In => (Trouble::AdvertsFilteredIn, "in", "INPUT"),
            Way::Out => (Trouble::AdvertsFilteredOut, "out", "OUTPUT"),
        };
        let (by, mend) = match blocked {
            Some(blocked) => {
                // Where iptables has made the rules, it is to change them, too.
                let by_iptables = [
                    "ip filter INPUT",
                    "ip filter OUTPUT",
                    "ip6 filter INPUT",
                    "ip6 filter OUTPUT",
                ];
                let mend = if by_iptables.contains(&blocked.chain.as_str()) {
                    format!("{} -I {chain} -p 112 -j ACCEPT", iptables(router.family))
                } else {
                    format!("nft insert rule {} meta l4proto 112 accept", blocked.chain)
                };
                (format!("{} of chain {}", blocked.by, blocked.chain), mend)
            }
            None if std::fs::read_to_string("/proc/net/ip_tables_names")
                .is_ok_and(|tables| !tables.trim().is_empty())
                || router.family == Family::V6
                    && std::fs::read_to_string("/proc/net/ip6_tables_names")
                        .is_ok_and(|tables| !tables.trim().is_empty()) =>
            {
                let legacy =
                    format!("{}-legacy -I {chain} -p 112 -j ACCEPT", iptables(router.family));
                ("a rule of iptables".to_owned(), legacy)
            }
            None => (
                "a rule".to_owned(),
                "nft list ruleset  (accept IP protocol 112 before anything stops it)".to_owned(),
            ),
        };
        let text = format!(
            "{by} keeps adverts from coming {direction} by {}, so {} and its peers do not hear each other ({seen})",
            link.name, router.name
        );
        report.found(trouble, format!("{}, {}", link.name, router.family), text, mend);
    }

    /// Whether the kernel drops adverts because it would answer by another interface.
    fn reverse_paths(&self, report: &mut Report) {
        for place in self.places.iter().filter(|place| place.router.family == Family::V4) {
            let Place { router, link } = place;
            let Some(mode @ 1..) = kernel::ipv4_switch(&link.name, "rp_filter") else { continue };
            let mut sources = self.peers(place);
            if sources.is_empty() {
                let own = self.picture.of(link.index).filter(|own| !own.ours);
                sources.extend(own.filter_map(kernel::neighbour).take(1));
            }
            let arrived = self.heard.get(&link.index).map(|heard| &heard.arrived);
            for source in sources {
                if arrived.is_some_and(|arrived| arrived.contains_key(&source)) {
                    continue;
                }
                let by = match kernel::route(source) {
                    Ok(by) => by,
                    Err(why) => {
                        report.unseen("the reverse path filter", why);
                        return;
                    }
                };
                let (how, mend) = match by {
                    Some(by) if by != link.name && mode == 1 => (
                        format!("the kernel would answer it by {by}"),
                        format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", sysctl(&link.name)),
                    ),
                    None => (
                        "the kernel knows no way to it".to_owned(),
                        format!(
                            "sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{}.rp_filter=0",
                            sysctl(&link.name)
                        ),
                    ),
                    Some(_) => continue,
                };
                let text = format!(
                    "rp_filter drops what {source} sends to {}, as {how}: {} does not hear it",
                    link.name, router.name
                );
                report.found(Trouble::RpFilter, &link.name, text, mend);
            }
        }
    }
}

fn iptables(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_a_word_of_its_own() {
        let words: BTreeSet<&str> = Trouble::ALL.iter().map(|trouble| trouble.word()).collect();
        assert_eq!(words.len(), Trouble::ALL.len());
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(words.iter().all(|word| word.chars().all(plain)));
    }
}
