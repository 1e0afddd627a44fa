//! A virtual router as vipd and keepalived are configured for it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Which implementation runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// vipd, from this file.
    Vipd(PathBuf),
    /// keepalived, from this file.
    Keepalived(PathBuf),
}

/// Where keepalived is installed, if it is.
pub fn keepalived() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join("keepalived"))
        .find(|file| file.is_file())
}

/// A virtual router as both programs can be configured.
#[derive(Clone, Debug)]
pub struct RouterSpec {
    pub name: String,
    pub interface: String,
    pub version: u8,
    pub vrid: u8,
    pub priority: u8,
    pub interval: Duration,
    /// Whether to depose a lower master.
    pub preempt: bool,
    /// The shared addresses, of one family.
    pub addresses: Vec<IpAddr>,
    /// The own address and the peers', for unicast.
    pub unicast: Option<(IpAddr, Vec<IpAddr>)>,
    /// Further lines of vipd's configuration, in the table of the virtual router.
    pub more: String,
    /// Further lines of keepalived's `vrrp_instance`.
    pub keepalived_more: String,
    /// Further lines of keepalived's `global_defs`.
    pub keepalived_globals: String,
}

impl RouterSpec {
    /// Version 3, VRID 51, adverts every 100 ms, preempting.
    pub fn new(address: IpAddr, priority: u8) -> Self {
        Self {
            name: "web".to_owned(),
            interface: "eth0".to_owned(),
            version: 3,
            vrid: 51,
            priority,
            interval: Duration::from_millis(100),
            preempt: true,
            addresses: vec![address],
            unicast: None,
            more: "link_delay = \"0s\"\n".to_owned(),
            keepalived_more: String::new(),
            keepalived_globals: String::new(),
        }
    }

    /// How long a backup of this priority waits for a silent master: 3 x interval + skew time.
    pub fn master_down_interval(&self) -> Duration {
        3 * self.interval + self.skew()
    }

    /// The skew time: how long a backup of this priority waits after priority 0.
    pub fn skew(&self) -> Duration {
        let whole = if self.version == 2 { Duration::from_secs(1) } else { self.interval };
        whole * (256 - u32::from(self.priority)) / 256
    }

    /// The table of a vipd configuration.
    pub fn toml(&self) -> String {
        let list = |addresses: &[IpAddr]| {
            let quoted: Vec<_> = addresses.iter().map(|ip| format!("\"{ip}\"")).collect();
            quoted.join(", ")
        };
        let mut text = format!(
            "[[virtual_router]]\nname = \"{}\"\ninterface = \"{}\"\nversion = {}\nvrid = {}\n\
             priority = {}\nadvert_interval = \"{}ms\"\npreempt = {}\naddresses = [{}]\n",
            self.name,
            self.interface,
            self.version,
            self.vrid,
            self.priority,
            self.interval.as_millis(),
            self.preempt,
            list(&self.addresses),
        );
        if let Some((own, peers)) = &self.unicast {
            let _ = writeln!(text, "source_address = \"{own}\"\nunicast_peers = [{}]", list(peers));
        }
        text + &self.more
    }

    /// The block of a keepalived configuration.
    pub fn keepalived_conf(&self) -> String {
        let mut text = format!(
            "vrrp_instance {} {{\n  state BACKUP\n  interface {}\n  version {}\n  \
             virtual_router_id {}\n  priority {}\n  advert_int {}\n",
            self.name,
            self.interface,
            self.version,
            self.vrid,
            self.priority,
            self.interval.as_secs_f64(),
        );
        if !self.preempt {
            text += "  nopreempt\n";
        }
        if let Some((own, peers)) = &self.unicast {
            let _ = writeln!(text, "  unicast_src_ip {own}\n  unicast_peer {{");
            for peer in peers {
                let _ = writeln!(text, "    {peer}");
            }
            text += "  }\n";
        }
        text += "  virtual_ipaddress {\n";
        for ip in &self.addresses {
            let prefix = if ip.is_ipv4() { 32 } else { 128 };
            let _ = writeln!(text, "    {ip}/{prefix} dev {}", self.interface);
        }
        text + "  }\n" + &self.keepalived_more + "}\n"
    }
}

/// What a program reads to run these virtual routers on the host of this name.
pub fn configuration(host: &str, program: &Program, routers: &[RouterSpec]) -> String {
    match program {
        Program::Vipd(_) => {
            let tables: Vec<_> = routers.iter().map(RouterSpec::toml).collect();
            format!("[node]\nname = \"{host}\"\n\n{}", tables.join("\n"))
        }
        Program::Keepalived(_) => {
            let globals: String =
                routers.iter().map(|router| router.keepalived_globals.as_str()).collect();
            let blocks: Vec<_> = routers.iter().map(RouterSpec::keepalived_conf).collect();
            format!(
                "global_defs {{\n  router_id {host}\n  vrrp_version 3\n{globals}}}\n\n{}",
                blocks.join("\n")
            )
        }
    }
}
