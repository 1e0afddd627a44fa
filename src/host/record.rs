//! State for the next daemon on this host: which virtual routers were master, and when their last
//! adverts were sent.
//!
//! It is a small file in the runtime directory, which a reboot clears. With every advert a few
//! bytes of it are overwritten in place, so it is up to date even after SIGKILL.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::host::files::Directory;
use crate::host::sys::MappedFile;
use crate::vrrp::record::{PreviousRecord, RecordedAddress, Resumes, identity};
use crate::vrrp::{Address, Family, Mark, RecordEntry, RouterConfig, RouterId, Source, Vrid};

/// The file of the addresses, beside the record.
const ADDRESSES: &str = "addresses";

const MAGIC: [u8; 8] = *b"vipdrec1";
const HEADER_SIZE: usize = 64;
const SLOT_SIZE: usize = 64;

// Header: magic 0..8, boot ID 8..24, time in suspend 24..32, resumes 32..64.
// Slot: identity 0..8, time of the last advert 8..16, flags 16, of the last advert's source: settings
// 24..32 (0: none) and address 32..48, IPv4 as IPv4-mapped.
// Numbers are in host byte order, times in nanoseconds of CLOCK_BOOTTIME.
const SENT_AT_OFFSET: usize = 8;
const FLAGS_OFFSET: usize = 16;
const SOURCE_OFFSET: usize = 24;
const SOURCE_END: usize = 48;
const MASTER: u8 = 1;
const HELD_BACK: u8 = 2;
const HOOK_DONE: u8 = 4;
const PREPARING: u8 = 8;

/// The record of this daemon.
#[derive(Debug)]
pub(crate) struct Record {
    file: File,
    /// The used part of the file, once the file has its full size.
    mapped: Option<MappedFile>,
    directory: Directory,
    slots: BTreeMap<RouterId, (usize, RecordEntry)>,
    /// The entries of the daemon before, until slots are assigned.
    earlier: BTreeMap<u64, RecordEntry>,
    /// The lines for the addresses of the configuration.
    own: String,
    /// Addresses that an earlier daemon may have left, and that this one has not dealt with.
    left: Vec<RecordedAddress>,
    resumes: Resumes,
    boot_id: [u8; 16],
}

impl Record {
    /// Opens or creates the record, and reads that of the daemon before, which is empty if the host was
    /// rebooted or suspended since. `suspended` is the time that the host has spent in suspend since
    /// boot.
    ///
    /// # Errors
    /// The file cannot be opened, or the boot ID cannot be read.
    pub(crate) fn open(
        directory: &Path,
        suspended: Duration,
    ) -> io::Result<(Self, PreviousRecord)> {
        let directory = Directory::create(directory)?;
        let file = directory.open("record")?;
        let boot_id = boot_id()?;
        let mut bytes = Vec::new();
        let mut previous = match (&file).read_to_end(&mut bytes) {
            Ok(_) => parse(&bytes, boot_id, suspended),
            Err(_) => PreviousRecord::default(),
        };
        let text = directory.read(ADDRESSES)?.unwrap_or_default();
        previous.addresses = text.lines().filter_map(parse_address).collect();
        let resumes = Resumes::earlier(previous.resumes.iter());
        let earlier = previous.entries.clone();
        let record = Record {
            file,
            mapped: None,
            directory,
            slots: BTreeMap::new(),
            earlier,
            own: String::new(),
            left: previous.addresses.clone(),
            resumes,
            boot_id,
        };
        Ok((record, previous))
    }

    /// Forgets what an earlier daemon left, but for what is to be kept for the next one: its interface
    /// is not there now.
    pub(crate) fn keep_left(&mut self, keep: impl Fn(&RecordedAddress) -> bool) {
        self.left.retain(keep);
        // If this fails, the next daemon looks at more addresses than it has to.
        let _ = self.write_addresses();
    }

    fn write_addresses(&self) -> io::Result<()> {
        let mut text = self.own.clone();
        for left in &self.left {
            let line = address_line(&left.interface, left.address, left.mark);
            if !self.own.lines().any(|own| own == line) {
                text += &line;
                text.push('\n');
            }
        }
        self.directory.write(ADDRESSES, &text)
    }

    /// Assigns slots to these virtual routers. Those that had one, or had one in the daemon before, keep
    /// their entries: this daemon may end before it has sent or decided anything.
    ///
    /// # Errors
    /// The file cannot be written in its full size.
    pub(crate) fn assign<'a>(
        &mut self,
        routers: impl Iterator<Item = (RouterId, &'a RouterConfig)>,
        suspended: Duration,
    ) -> io::Result<()> {
        let mut bytes = vec![0; HEADER_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&self.boot_id);
        bytes[24..32].copy_from_slice(&nanos(suspended));
        bytes[32..HEADER_SIZE].copy_from_slice(&resume_bytes(&self.resumes));
        let before = std::mem::take(&mut self.slots);
        let earlier = std::mem::take(&mut self.earlier);
        self.own.clear();
        for (slot, (id, config)) in routers.enumerate() {
            let kept = before.get(&id).map(|(_, entry)| entry);
            let kept = kept.or_else(|| earlier.get(&identity(config)));
            let mut entry = kept.copied().unwrap_or_default();
            entry.reconfigured(config);
            for address in config.all_addresses() {
                self.own += &address_line(&config.interface, address, Mark::of(config));
                self.own.push('\n');
            }
            bytes.extend(slot_bytes(identity(config), entry));
            self.slots.insert(id, (slot, entry));
        }
        self.write_addresses()?;
        self.mapped = None;
        self.file.write_all_at(&bytes, 0)?;
        self.file.set_len(bytes.len() as u64)?;
        self.mapped = Some(MappedFile::of(&self.file, bytes.len())?);
        Ok(())
    }

    /// Stores that an advert was sent, and the `CLOCK_BOOTTIME` then. No system call: the file is
    /// mapped.
    pub(crate) fn advert_sent(
        &mut self,
        id: RouterId,
        at: Duration,
        from: IpAddr,
        config: &RouterConfig,
    ) {
        let Some((slot, entry)) = self.slots.get_mut(&id) else { return };
        let new_source = entry.advert_sent(at, from, config);
        let Some(mapped) = &self.mapped else { return };
        let place = |offset: usize| (HEADER_SIZE + *slot * SLOT_SIZE + offset) / size_of::<u64>();
        mapped.store(place(SENT_AT_OFFSET), u64::from_ne_bytes(nanos(at)));
        if new_source {
            let bytes = source_bytes(entry.source);
            for (offset, word) in
                (SOURCE_OFFSET..).step_by(size_of::<u64>()).zip(bytes.as_chunks().0)
            {
                mapped.store(place(offset), u64::from_ne_bytes(*word));
            }
        }
    }

    /// Changes the flags of an entry.
    ///
    /// # Errors
    /// They could not be written, so that the next daemon would start from the flags before.
    pub(crate) fn update(
        &mut self,
        id: RouterId,
        change: impl FnOnce(&mut RecordEntry),
    ) -> io::Result<()> {
        let Some((slot, entry)) = self.slots.get_mut(&id) else {
            return Err(io::Error::other("it has no place in the record"));
        };
        let before = flags(*entry);
        change(entry);
        if flags(*entry) == before {
            return Ok(());
        }
        let offset = HEADER_SIZE + *slot * SLOT_SIZE + FLAGS_OFFSET;
        self.file.write_all_at(&[flags(*entry)], offset as u64)
    }

    /// Changes the list of daemons that resumed as master. One that crashes repeatedly must not resume
    /// every time.
    pub(crate) fn update_resumes(&mut self, change: impl FnOnce(&mut Resumes)) {
        change(&mut self.resumes);
        let _ = self.file.write_all_at(&resume_bytes(&self.resumes), 32);
    }
}

/// An entry as it is written.
pub(crate) fn slot_bytes(identity: u64, entry: RecordEntry) -> [u8; SLOT_SIZE] {
    let mut bytes = [0; SLOT_SIZE];
    bytes[..SENT_AT_OFFSET].copy_from_slice(&identity.to_ne_bytes());
    bytes[SENT_AT_OFFSET..FLAGS_OFFSET].copy_from_slice(&nanos(entry.sent_at));
    bytes[FLAGS_OFFSET] = flags(entry);
    bytes[SOURCE_OFFSET..SOURCE_END].copy_from_slice(&source_bytes(entry.source));
    bytes
}

/// Reads the record of an earlier daemon; nothing if it is of another boot or from before a suspend.
pub(crate) fn parse(bytes: &[u8], boot_id: [u8; 16], suspended: Duration) -> PreviousRecord {
    if bytes.len() < HEADER_SIZE {
        return PreviousRecord::default();
    }
    let long = |at: usize| {
        let mut long = [0; 8];
        long.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(long)
    };
    // The two clocks are read one after the other, so their difference varies a little.
    let was_suspended =
        Duration::from_nanos(long(24)).abs_diff(suspended) > Duration::from_millis(1);
    if bytes[..8] != MAGIC || bytes[8..24] != boot_id || was_suspended {
        return PreviousRecord::default();
    }
    let entry = |at: usize| {
        let flags = bytes[at + FLAGS_OFFSET];
        let entry = RecordEntry {
            master: flags & MASTER != 0,
            held_back: flags & HELD_BACK != 0,
            hook_done: flags & HOOK_DONE != 0,
            preparing: flags & PREPARING != 0,
            sent_at: Duration::from_nanos(long(at + SENT_AT_OFFSET)),
            source: parse_source(&bytes[at + SOURCE_OFFSET..at + SOURCE_END]),
        };
        (long(at), entry)
    };
    let slots = (bytes.len() - HEADER_SIZE) / SLOT_SIZE;
    let entries = (0..slots).map(|slot| entry(HEADER_SIZE + slot * SLOT_SIZE)).collect();
    let resumes = (0..Resumes::KEPT)
        .map(|n| long(32 + 8 * n))
        .filter(|at| *at != 0)
        .map(Duration::from_nanos);
    PreviousRecord { entries, resumes: Resumes::earlier(resumes), addresses: Vec::new() }
}

fn address_line(interface: &str, address: Address, mark: Mark) -> String {
    let Address { ip, prefix } = address;
    match mark {
        Mark::Router(family, vrid) => format!("{interface} {ip}/{prefix} {} {vrid}", family.name()),
        Mark::None | Mark::Unnamed => format!("{interface} {ip}/{prefix}"),
    }
}

/// Interface, address, and family and VRID of the virtual router, which older versions left out.
pub(crate) fn parse_address(line: &str) -> Option<RecordedAddress> {
    let mut words = line.split(' ');
    let interface = words.next()?.to_owned();
    let (ip, prefix) = words.next()?.split_once('/')?;
    let address = Address { ip: ip.parse().ok()?, prefix: prefix.parse().ok()? };
    let mark = match (words.next(), words.next()) {
        (Some(family), Some(vrid)) => {
            let family = [Family::V4, Family::V6].into_iter().find(|it| it.name() == family)?;
            Mark::Router(family, Vrid::new(vrid.parse().ok()?)?)
        }
        (_, _) => Mark::Unnamed,
    };
    Some(RecordedAddress { interface, address, mark })
}

fn source_bytes(source: Option<Source>) -> [u8; SOURCE_END - SOURCE_OFFSET] {
    let mut bytes = [0; SOURCE_END - SOURCE_OFFSET];
    if let Some(Source { ip, settings }) = source {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        bytes[..8].copy_from_slice(&settings.to_ne_bytes());
        bytes[8..].copy_from_slice(&ip.octets());
    }
    bytes
}

fn parse_source(bytes: &[u8]) -> Option<Source> {
    let (settings, ip) = bytes.split_first_chunk()?;
    let settings = u64::from_ne_bytes(*settings);
    let ip = Ipv6Addr::from(*ip.first_chunk::<16>()?);
    (settings != 0).then(|| Source { ip: ip.to_canonical(), settings })
}

fn flags(entry: RecordEntry) -> u8 {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    bit(entry.master, MASTER)
        | bit(entry.held_back, HELD_BACK)
        | bit(entry.hook_done, HOOK_DONE)
        | bit(entry.preparing, PREPARING)
}

fn nanos(span: Duration) -> [u8; 8] {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).to_ne_bytes()
}

fn resume_bytes(resumes: &Resumes) -> [u8; HEADER_SIZE - 32] {
    let mut bytes = [0; HEADER_SIZE - 32];
    for (place, at) in bytes.chunks_exact_mut(8).zip(resumes.iter()) {
        place.copy_from_slice(&nanos(at));
    }
    bytes
}

/// Identifies this boot of the machine.
pub(crate) fn boot_id() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok(number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::vrrp::Config;

    fn config(ips: &[&str]) -> Config {
        Config { routers: vec![RouterConfig::sample(ips)], ..Config::default() }
    }

    #[test]
    fn what_is_left_on_an_absent_interface_is_known_to_the_next_daemon_too() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&["192.0.2.10"]);
        let routers = || [(RouterId(0), &config.routers[0])].into_iter();
        let line = |interface, ip: &str| {
            let address = Address::host(ip.parse().unwrap());
            address_line(interface, address, Mark::of(&config.routers[0]))
        };
        let (elsewhere, here) = (line("eth9", "192.0.2.77"), line("eth0", "192.0.2.10"));
        std::fs::write(dir.path().join("addresses"), format!("{elsewhere}\n{here}\n")).unwrap();
        for left in [1, 1, 0] {
            let (mut record, previous) = Record::open(dir.path(), Duration::ZERO).unwrap();
            assert_eq!(previous.leftovers(&config).count(), 1);
            record.assign(routers(), Duration::ZERO).unwrap();
            let lines = || std::fs::read_to_string(dir.path().join("addresses")).unwrap();
            assert_eq!(lines().lines().count(), 2, "{}", lines());
            record.keep_left(|kept| left == 1 && &*kept.interface == "eth9");
            record.assign(routers(), Duration::ZERO).unwrap();
            assert_eq!(lines().lines().count(), 1 + left, "{}", lines());
        }
    }

    #[test]
    fn the_next_daemon_finds_the_masters_and_the_leftover_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let old = config(&["192.0.2.10", "192.0.2.11"]);
        let (mut record, previous) = Record::open(dir.path(), Duration::ZERO).unwrap();
        assert_eq!(previous.find(&old.routers[0]), None);
        let router = RouterId(0);
        record.assign([(router, &old.routers[0])].into_iter(), Duration::ZERO).unwrap();
        record.update(router, |entry| entry.master = true).unwrap();
        let from = "192.0.2.1".parse().unwrap();
        record.advert_sent(router, Duration::from_secs(7), from, &old.routers[0]);
        record.update_resumes(|resumes| resumes.note(Duration::from_secs(5)));
        drop(record);

        let (_, previous) = Record::open(dir.path(), Duration::ZERO).unwrap();
        let sent_at = Duration::from_secs(7);
        let source = Some(Source::of(from, &old.routers[0]));
        let master = RecordEntry { master: true, sent_at, source, ..RecordEntry::default() };
        assert_eq!(previous.find(&old.routers[0]), Some(master));
        assert_eq!(previous.resumes.iter().collect::<Vec<_>>(), [Duration::from_secs(5)]);
        let new = config(&["192.0.2.10", "192.0.2.12"]);
        assert_eq!(previous.find(&new.routers[0]), Some(master), "also with other addresses");
        let left: Vec<_> = previous.leftovers(&new).collect();
        let of_router = |router: &RouterConfig, ip: &str| RecordedAddress {
            interface: "eth0".to_owned(),
            address: Address::host(ip.parse().unwrap()),
            mark: Mark::of(router),
        };
        let router = &old.routers[0];
        assert_eq!(left, [&of_router(router, "192.0.2.11")]);
        assert_eq!(previous.leftovers(&old).count(), 0);
        let mut renamed = old.clone();
        renamed.routers[0].vrid = Vrid::new(9).unwrap();
        let left: Vec<_> = previous.leftovers(&renamed).cloned().collect();
        assert_eq!(left, ["192.0.2.10", "192.0.2.11"].map(|ip| of_router(router, ip)));
    }

    #[test]
    fn the_addresses_of_an_older_version_are_left_over_if_no_router_names_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("addresses"), "eth0 192.0.2.10/32\neth0 192.0.2.11/24\n")
            .unwrap();
        let (_, previous) = Record::open(dir.path(), Duration::ZERO).unwrap();
        let config = config(&["192.0.2.10"]);
        let left: Vec<_> = previous.leftovers(&config).collect();
        let address = Address { ip: "192.0.2.11".parse().unwrap(), prefix: 24 };
        let interface = "eth0".to_owned();
        assert_eq!(left, [&RecordedAddress { interface, address, mark: Mark::Unnamed }]);
    }

    #[test]
    fn a_daemon_that_ends_before_it_has_decided_anything_leaves_the_record_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&["192.0.2.10"]);
        let routers = || [(RouterId(0), &config.routers[0])].into_iter();
        let (mut record, _) = Record::open(dir.path(), Duration::ZERO).unwrap();
        record.assign(routers(), Duration::ZERO).unwrap();
        record.update(RouterId(0), |entry| entry.held_back = true).unwrap();
        let from = "192.0.2.1".parse().unwrap();
        record.advert_sent(RouterId(0), Duration::from_secs(7), from, &config.routers[0]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (mut record, previous) = Record::open(dir.path(), Duration::ZERO).unwrap();
            record.assign(routers(), Duration::ZERO).unwrap();
            seen.push(previous.find(&config.routers[0]).unwrap());
        }
        let source = Some(Source::of(from, &config.routers[0]));
        let sent_at = Duration::from_secs(7);
        let left = RecordEntry { held_back: true, sent_at, source, ..RecordEntry::default() };
        assert_eq!(seen, [left; 3]);
    }

    #[test]
    fn a_record_from_before_a_suspend_or_a_corrupt_one_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&["192.0.2.10"]);
        let (mut record, _) = Record::open(dir.path(), Duration::ZERO).unwrap();
        let routers = [(RouterId(0), &config.routers[0])];
        record.assign(routers.into_iter(), Duration::ZERO).unwrap();
        let (_, previous) = Record::open(dir.path(), Duration::from_secs(1)).unwrap();
        assert_eq!(previous.find(&config.routers[0]), None);
        std::fs::write(dir.path().join("record"), [0xff; 100]).unwrap();
        std::fs::write(
            dir.path().join("addresses"),
            "eth0 x/y\n\neth0 1.2.3.4\neth0 192.0.2.1/32 ipv4 0\n",
        )
        .unwrap();
        let (_, previous) = Record::open(dir.path(), Duration::ZERO).unwrap();
        assert_eq!(previous.find(&config.routers[0]), None);
        assert_eq!(previous.leftovers(&config).count(), 0);
    }
}
