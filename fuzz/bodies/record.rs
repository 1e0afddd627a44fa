//! Any bytes as what an earlier daemon left: the record, and the list of addresses beside it.

use std::time::Duration;

use vipd::fuzzing;
use vipd::vrrp::record::{PreviousRecord, RecordedAddress, Resumes};
use vipd::vrrp::{Config, Mark, RouterConfig};

use crate::bounded::bounded;

const HEADER: usize = 64;
const SLOT: usize = 64;

pub fn record(bytes: &[u8]) {
    let boot_id: [u8; 16] = *b"0123456789abcdef";
    let read = |bytes: &[u8]| {
        let suspended = Duration::from_secs(7);
        bounded(bytes.len(), 8, || fuzzing::record(bytes, boot_id, suspended))
    };
    read(bytes);
    // Nobody guesses the header: test what comes after it, too.
    let mut ours = bytes.to_vec();
    if let Some(header) = ours.first_chunk_mut::<HEADER>() {
        header[..8].copy_from_slice(b"vipdrec1");
        header[8..24].copy_from_slice(&boot_id);
        header[24..32].copy_from_slice(&7_000_000_000_u64.to_ne_bytes());
    }
    let found = read(&ours);
    assert!(found.entries.len() <= ours.len().saturating_sub(HEADER) / SLOT);
    assert!(found.resumes.iter().count() <= Resumes::KEPT);

    // What is found is found again when it is written.
    let mut again = ours.get(..HEADER).unwrap_or_default().to_vec();
    for (identity, entry) in &found.entries {
        again.extend(fuzzing::record_slot(*identity, *entry));
    }
    assert_eq!(read(&again), found);

    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = || text.lines().filter_map(fuzzing::recorded_address);
    let addresses: Vec<_> = bounded(text.len(), 64, || lines().collect());
    for found in &addresses {
        let RecordedAddress { interface, address, mark } = found;
        let of = match mark {
            Mark::Router(family, vrid) => format!(" {family} {vrid}", family = family.name()),
            Mark::None | Mark::Unnamed => String::new(),
        };
        let line = format!("{interface} {}/{}{of}", address.ip, address.prefix);
        assert_eq!(fuzzing::recorded_address(&line).as_ref(), Some(found));
        let _ = (address.subnet(), address.contains(address.ip));
    }
    let found = PreviousRecord { addresses, ..found };
    let none = Config { routers: Vec::<RouterConfig>::new(), ..Config::default() };
    assert_eq!(found.leftovers(&none).count(), found.addresses.len());
}
