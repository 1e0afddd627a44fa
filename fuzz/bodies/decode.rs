//! Any bytes as an IP packet: the decoder never panics, and what it accepts it accepts again when
//! it is encoded. Shared by the fuzz target and by `tests/fuzz_corpus.rs`.

use std::net::{IpAddr, Ipv6Addr};

use vipd::vrrp::advert::{Heard, Malformed, decode, ipv4_packet};

/// Takes `bytes` as a packet of the family its first nibble names.
pub fn run(bytes: &[u8]) {
    let (source, destination, message) = match bytes.first().map(|first| first >> 4) {
        Some(6) => {
            let Some((header, message)) = bytes.split_first_chunk::<40>() else { return };
            (ipv6(header, 8), ipv6(header, 24), message)
        }
        _ => match ipv4_packet(bytes) {
            Ok(packet) => (packet.source.into(), packet.destination.into(), packet.payload),
            Err(_) => return,
        },
    };
    match decode(source, destination, message) {
        Ok(heard) => check(source, destination, heard),
        // No fuzzer guesses checksums: test what comes after them, too.
        Err(Malformed::BadChecksum(_)) => {
            for pseudo_header in [false, true] {
                let sealed = seal(source, destination, pseudo_header, message);
                if let Ok(heard) = decode(source, destination, &sealed) {
                    check(source, destination, heard);
                }
            }
        }
        Err(reason) => assert!(!reason.to_string().is_empty()),
    }
}

fn check(source: IpAddr, destination: IpAddr, heard: Heard<'_>) {
    assert_eq!(heard.addresses().count(), heard.address_count());
    assert!((1..=255).contains(&heard.address_count()));
    // An authentication that we never send cannot come back.
    let Some(advert) = heard.to_advert() else { return };
    let mut message = Vec::new();
    advert.encode(source, destination, &mut message);
    let mut again = decode(source, destination, &message).expect("we understand ourselves");

    // For some addresses both forms give the same checksum; then the bytes decide.
    if again.checksum != heard.checksum {
        let mut twice = Vec::new();
        again.to_advert().expect("as above").encode(source, destination, &mut twice);
        assert_eq!(twice, message);
        again.checksum = heard.checksum;
    }
    assert_eq!(again, heard);
}

fn ipv6(header: &[u8; 40], at: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    Ipv6Addr::from(octets).into()
}

/// `message` with the checksum right, of the message alone or with its pseudo-header.
fn seal(source: IpAddr, destination: IpAddr, pseudo_header: bool, message: &[u8]) -> Vec<u8> {
    let mut sealed = message.to_vec();
    sealed[6..8].fill(0);
    let mut covered = sealed.clone();
    if covered.len() % 2 == 1 {
        covered.push(0);
    }
    if pseudo_header {
        covered.extend((sealed.len() as u32).to_be_bytes());
        covered.extend([0, 112]);
        for address in [source, destination] {
            match address {
                IpAddr::V4(ip) => covered.extend(ip.octets()),
                IpAddr::V6(ip) => covered.extend(ip.octets()),
            }
        }
    }
    let sum =
        covered.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1])).sum::<u64>();
    // 2^16 is 1 modulo 65535, and no message adds up to 0.
    let folded = (sum - 1) % 0xffff + 1;
    sealed[6..8].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    sealed
}
