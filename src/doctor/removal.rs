//! Whether an address can be removed from this host without cutting off whoever is connected to it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::kernel::{self, Address, Snapshot};
use crate::vrrp::Family;

/// Why an address has to stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// TCP connections to it are open. One of them may be the operator's.
    Used,
    /// The host needs it; the text says for what.
    Needed(String),
}

/// What [`connections`] is for.
pub(super) const CONNECTIONS: &str = "connections to it are open, and would end with it; this shows them: end them, connect to another address of this host, and run \"vipd doctor\" again";

/// The command that shows the connections to an address.
pub(super) fn connections(ip: IpAddr) -> String {
    format!("ss -tnp state established src {ip}")
}

/// `own`: whether an address is one of the host's own.
pub(super) fn obstacle(
    found: &Address,
    snapshot: &Snapshot,
    own: impl Fn(&&Address) -> bool,
) -> Option<Obstacle> {
    let (family, interface) = (Family::of(found.ip), snapshot.name(found.index));
    let others = || snapshot.addresses_of(found.index).filter(|other| other.ip != found.ip);
    // A link-local address does not replace a global one.
    let replaces = |other: &&Address| {
        Family::of(other.ip) == family && (family == Family::V4 || other.scope <= found.scope)
    };
    let same_subnet =
        |other: &Address| other.prefix == found.prefix && found.address().contains(other.ip);
    let whole = if found.ip.is_ipv4() { 32 } else { 128 };
    let brings_its_subnet = found.prefix < whole
        && match family {
            Family::V4 => !found.secondary,
            Family::V6 => !others().any(same_subnet),
        };
    let why = if !others().filter(own).any(|other| replaces(&other)) {
        format!("{interface} has no other {family} address of its own")
    } else if brings_its_subnet && family == Family::V4 && others().any(same_subnet) {
        format!(
            "it is the primary address of its subnet on {interface}: the kernel would remove the other addresses, or routes, with it"
        )
    } else if brings_its_subnet {
        "the routes of its subnet would be removed with it".to_owned()
    } else if kernel::is_source_of_a_route(found.ip) {
        "a route uses it as its source address".to_owned()
    } else {
        return is_used(found.ip).then_some(Obstacle::Used);
    };
    Some(Obstacle::Needed(why))
}

/// Whether a TCP connection to this address is open; if that is unknown, yes.
pub(super) fn is_used(ip: IpAddr) -> bool {
    let files = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let [Ok(v4), v6] = files else { return true };
    // Without IPv6 there is no second file.
    has_connection(&v4, ip) || has_connection(&v6.unwrap_or_default(), ip)
}

/// Looks for an established connection in a file of proc_net_tcp(5).
pub(crate) fn has_connection(text: &str, ip: IpAddr) -> bool {
    const ESTABLISHED: &str = "01";
    let of = match ip {
        IpAddr::V4(ip) => [in_hex_v4(ip), in_hex_v6(ip.to_ipv6_mapped())],
        IpAddr::V6(ip) => [in_hex_v6(ip), String::new()],
    };
    text.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().and_then(|local| local.split_once(':'));
        let state = words.nth(1);
        state == Some(ESTABLISHED)
            && local.is_some_and(|(local, _)| of.iter().any(|of| of == local))
    })
}

fn in_hex_v4(ip: Ipv4Addr) -> String {
    format!("{:08X}", u32::from_ne_bytes(ip.octets()))
}

/// In four words, each in the byte order of the host.
fn in_hex_v6(ip: Ipv6Addr) -> String {
    let octets = ip.octets();
    let (words, _) = octets.as_chunks();
    words.iter().map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_seen_while_it_is_open() {
        for (address, listens) in
            [("127.83.0.7", "127.83.0.7"), ("127.83.0.8", "::ffff:127.83.0.8")]
        {
            let ip: IpAddr = address.parse().unwrap();
            let Ok(listener) = TcpListener::bind((listens, 0)) else { continue };
            assert!(!is_used(ip), "{address}");
            let stream =
                TcpStream::connect((address, listener.local_addr().unwrap().port())).unwrap();
            assert!(is_used(ip), "{address}");
            drop(stream);
        }
        let line = "0: B80D01200000000000000000010 00000000 0A\n \
            1: B80D0120000000000000000001000000:0016 B80D0120000000000000000002000000:C350 01 0\n";
        assert!(has_connection(line, "2001:db8::1".parse().unwrap()));
        assert!(!has_connection(line, "2001:db8::2".parse().unwrap()));
    }
}
