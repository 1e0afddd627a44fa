//! RFC 9568 sections 5.2 and 7.1: the fields of an advert, and which adverts are discarded.

use std::time::Duration;

use vipd::vrrp::advert::Malformed;
use vipd::vrrp::{
    Advert, ChecksumForm, DiscardReason, Event, LinkId, Packet, Role, RouterConfig, Vrid, Warning,
};

use crate::fixture::*;

/// What is malformed changes nothing at all: not the timer, not what status shows.
fn is_refused(message: &[u8], why: Malformed) {
    let mut host = Host::backup(web());
    host.hears(200, ABOVE).unwrap();
    host.sleeps(SECOND);
    host.done.clear();
    let untouched = host.node.clone();
    assert_eq!(host.packet(ABOVE, GROUP, 255, message), Err(DiscardReason::Malformed(why)));
    assert_eq!(host.node, untouched);
    assert_eq!(host.done, []);
}

/// What is well formed restarts the backup's timer.
fn is_heard(message: &[u8]) {
    let mut host = Host::backup(web());
    host.sleeps(SECOND);
    assert_eq!(host.packet(ABOVE, GROUP, 255, message), Ok(()));
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc9568_5_2_a_correct_advert_is_heard() {
    is_heard(&encode(&advert_of(&web(), 200), ABOVE, GROUP));
    is_heard(&altered(|_| {}));
}

#[test]
fn rfc9568_5_2_1_an_unknown_version_is_discarded() {
    for version in [0, 1, 4, 15] {
        let message = altered(|m| m[0] = version << 4 | 1);
        is_refused(&message, Malformed::UnknownVersion(version));
    }
}

#[test]
fn rfc9568_5_2_2_an_unknown_type_is_discarded() {
    for kind in (0..16).filter(|kind| *kind != 1) {
        is_refused(&altered(|m| m[0] = 3 << 4 | kind), Malformed::UnknownType(kind));
    }
}

#[test]
fn rfc9568_5_2_3_vrid_0_is_discarded() {
    is_refused(&altered(|m| m[1] = 0), Malformed::ZeroVrid);
}

#[test]
fn rfc9568_5_2_3_an_advert_for_a_vrid_that_is_not_configured_is_discarded() {
    let mut host = Host::backup(web());
    let untouched = host.node.clone();
    for vrid in (1..=255).filter(|vrid| *vrid != 51) {
        let result = host.packet(ABOVE, GROUP, 255, &altered(|m| m[1] = vrid));
        assert_eq!(result, Err(DiscardReason::UnknownRouter(Vrid::new(vrid).unwrap())));
    }
    assert_eq!(host.node, untouched);
}

#[test]
fn rfc9568_5_2_3_the_same_vrid_on_another_link_or_in_the_other_family_is_another_router() {
    let mut host = Host::backup(web());
    let vrid = Vrid::new(51).unwrap();
    let message = encode(&advert_of(&web6(), 200), ABOVE6, GROUP6);
    let result = host.packet(ABOVE6, GROUP6, 255, &message);
    assert_eq!(result, Err(DiscardReason::UnknownRouter(vrid)));
    let message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    let (source, destination) = (ip(ABOVE), ip(GROUP));
    let elsewhere = Packet { link: LinkId(1), source, destination, ttl: 255, message: &message };
    assert_eq!(host.feed(Event::Packet(elsewhere)), Err(DiscardReason::UnknownRouter(vrid)));
}

/// Erratum 8299.
#[test]
fn rfc9568_5_2_5_an_advert_with_no_address_is_discarded() {
    is_refused(&altered(|m| m[3] = 0), Malformed::NoAddresses);
    is_refused(
        &altered(|m| {
            m[3] = 0;
            m.truncate(8);
        }),
        Malformed::NoAddresses,
    );
}

#[test]
fn rfc9568_5_2_6_the_reserved_nibble_is_ignored() {
    for reserved in 0..16_u8 {
        is_heard(&altered(|m| m[4] |= reserved << 4));
    }
}

#[test]
fn rfc9568_5_2_6_the_reserved_nibble_is_sent_as_zero() {
    let interval = centis(4095);
    let advert = Advert { interval, ..advert_of(&web(), 150) };
    assert_eq!(encode(&advert, HERE, GROUP)[4..6], [0x0f, 0xff]);
}

/// Erratum 8301.
#[test]
fn rfc9568_5_2_7_an_interval_of_0_is_discarded() {
    is_refused(&altered(|m| m[4..6].fill(0)), Malformed::ZeroInterval);
    is_refused(&altered(|m| m[4..6].copy_from_slice(&[0xf0, 0])), Malformed::ZeroInterval);
}

#[test]
fn rfc9568_5_2_7_intervals_from_1_to_4095_centiseconds_are_adopted() {
    for interval in [1, 2, 99, 4095_u16] {
        let mut host = Host::backup(web());
        let message = altered(|m| m[4..6].copy_from_slice(&interval.to_be_bytes()));
        host.packet(ABOVE, GROUP, 255, &message).unwrap();
        let span = millis(u64::from(interval) * 10);
        assert_eq!(host.until_deadline(), Some(master_down(150, span)));
    }
}

#[test]
fn rfc9568_5_2_8_both_forms_of_checksum_are_accepted_over_ipv4() {
    let plain = Advert { checksum: ChecksumForm::Plain, ..advert_of(&web(), 200) };
    let message = encode(&plain, ABOVE, GROUP);
    assert_eq!(message, altered(|_| {}));
    is_heard(&message);
    is_heard(&encode(&advert_of(&web(), 200), ABOVE, GROUP));
}

#[test]
fn rfc9568_5_2_8_a_wrong_checksum_is_discarded() {
    let good = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    for bit in 0..16 {
        let mut message = good.clone();
        message[6 + bit / 8] ^= 1 << (bit % 8);
        let received = u16::from_be_bytes([message[6], message[7]]);
        is_refused(&message, Malformed::BadChecksum(received));
    }
}

#[test]
fn rfc9568_5_2_8_a_damaged_priority_is_discarded() {
    let mut message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    message[2] = 0;
    let received = u16::from_be_bytes([message[6], message[7]]);
    is_refused(&message, Malformed::BadChecksum(received));
}

#[test]
fn rfc9568_5_2_8_over_ipv6_the_pseudo_header_is_required() {
    let mut host = Host::backup(web6());
    let mut message = encode(&advert_of(&web6(), 200), ABOVE6, GROUP6);
    assert_eq!(host.packet(ABOVE6, GROUP6, 255, &message), Ok(()));
    message[6..8].fill(0);
    let sum = plain_checksum(&message);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    let refused = Err(DiscardReason::Malformed(Malformed::BadChecksum(sum)));
    assert_eq!(host.packet(ABOVE6, GROUP6, 255, &message), refused);
}

#[test]
fn rfc9568_7_1_an_advert_shorter_than_it_says_is_discarded() {
    let good = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    for length in 0..8 {
        is_refused(&good[..length], Malformed::TooShort { length, needed: 8 });
    }
    for length in 8..12 {
        is_refused(&good[..length], Malformed::TooShort { length, needed: 12 });
    }
    is_refused(&altered(|m| m[3] = 2), Malformed::TooShort { length: 12, needed: 16 });
}

#[test]
fn rfc9568_7_1_bytes_behind_the_advert_are_tolerated() {
    let mut message = encode(&advert_of(&web(), 200), ABOVE, GROUP);
    message.extend([0xaa; 28]);
    is_heard(&message);
}

#[test]
fn rfc9568_7_1_malformed_adverts_do_not_keep_a_backup_from_taking_over() {
    let mut host = Host::backup(web());
    host.hears(200, ABOVE).unwrap();
    host.begin();
    let broken = altered(|m| m[4..6].fill(0));
    for _ in 0..33 {
        host.wait(millis(100));
        assert!(host.packet(ABOVE, GROUP, 255, &broken).is_err());
    }
    host.wait(secs(1));
    assert_eq!(host.times("claim"), [master_down(150, SECOND)]);
}

#[test]
fn rfc9568_7_1_malformed_adverts_do_not_keep_a_master_from_advertising() {
    let mut host = Host::master(web());
    let broken = altered(|m| m.truncate(9));
    for _ in 0..50 {
        host.wait(millis(100));
        assert!(host.packet(ABOVE, GROUP, 255, &broken).is_err());
    }
    let expected: Vec<Duration> = (1..=5).map(secs).collect();
    assert_eq!(host.times("advert"), expected);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn rfc9568_7_1_an_advert_from_our_own_address_is_discarded() {
    for priority in [0, 1, 150, 255] {
        let mut host = Host::master(web());
        let untouched = host.node.clone();
        assert_eq!(host.hears(priority, HERE), Err(DiscardReason::OwnAdvert));
        assert_eq!(host.node, untouched);
        assert_eq!(host.done, []);
    }
}

/// Erratum 8298: it says that it must not be ignored, and the election decides.
#[test]
fn rfc9568_7_1_an_owner_hears_a_second_owner() {
    let second = || advert_of(&priority(255), 255);
    let mut winner = Host::started(&[priority(255)]);
    winner.link_up();
    winner.begin();
    winner.hears_advert(&second(), BELOW).unwrap();
    assert_eq!(winner.role(), Role::Master);
    assert!(winner.warnings().contains(&Warning::TwoOwners { source: ip(BELOW) }));
    let mut loser = Host::started(&[priority(255)]);
    loser.link_up();
    loser.begin();
    loser.hears_advert(&second(), ABOVE).unwrap();
    assert!(loser.warnings().contains(&Warning::TwoOwners { source: ip(ABOVE) }));
    loser.wait(millis(5));
    assert_eq!(loser.role(), Role::Backup);
}

#[test]
fn rfc9568_7_1_an_owner_hears_a_lower_advert_without_a_word_about_two_owners() {
    let mut host = Host::started(&[priority(255)]);
    host.link_up();
    host.begin();
    host.hears(254, ABOVE).unwrap();
    let two = |warning: &Warning| matches!(warning, Warning::TwoOwners { .. });
    assert!(!host.warnings().iter().any(two));
    assert_eq!(host.role(), Role::Master);
}

/// Erratum 8300 lets the receiver judge; keepalived sends such lists.
#[test]
fn rfc9568_5_2_9_an_ipv6_list_that_does_not_begin_with_link_local_counts() {
    let config = RouterConfig { addresses: addresses(&["2001:db8::100"]), ..web6() };
    let mut host = Host::backup(config);
    host.sleeps(SECOND);
    host.hears(200, ABOVE6).unwrap();
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
    assert_eq!(host.warnings(), []);
}

#[test]
fn rfc9568_7_1_a_different_address_list_counts_and_is_warned_of() {
    let mut host = Host::backup(web());
    host.sleeps(SECOND);
    let other = Advert { addresses: addresses(&["10.0.0.101", SHARED]), ..advert_of(&web(), 200) };
    host.hears_advert(&other, ABOVE).unwrap();
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
    assert_eq!(host.warnings(), [Warning::DifferentAddresses { source: ip(ABOVE) }]);
}

#[test]
fn rfc9568_7_1_the_same_addresses_in_another_order_are_the_same() {
    let config = RouterConfig { addresses: addresses(&[SHARED, "10.0.0.101"]), ..web() };
    let mut host = Host::backup(config);
    let turned = addresses(&["10.0.0.101", SHARED]);
    host.hears_advert(&Advert { addresses: turned, ..advert_of(&web(), 200) }, ABOVE).unwrap();
    assert_eq!(host.warnings(), []);
    let shorter = advert_of(&web(), 200);
    host.hears_advert(&shorter, ABOVE).unwrap();
    assert_eq!(host.warnings(), [Warning::DifferentAddresses { source: ip(ABOVE) }]);
}

#[test]
fn rfc9568_7_1_a_different_interval_counts_and_is_warned_of() {
    let mut host = Host::backup(web());
    let slow = Advert { interval: centis(300), ..advert_of(&web(), 200) };
    host.hears_advert(&slow, ABOVE).unwrap();
    let warning = Warning::DifferentInterval { source: ip(ABOVE), interval: centis(300) };
    assert_eq!(host.warnings(), [warning]);
    let mut same = Host::backup(web());
    same.hears(200, ABOVE).unwrap();
    assert_eq!(same.warnings(), []);
}

#[test]
fn rfc9568_7_2_the_advert_has_what_is_configured() {
    let config = RouterConfig {
        addresses: addresses(&[SHARED, "10.0.0.101"]),
        unadvertised_addresses: addresses(&["2001:db8::10"]),
        advert_interval: centis(250),
        checksum: ChecksumForm::Plain,
        ..web()
    };
    let mut host = Host::backup(config.clone());
    host.wait(secs(10));
    assert_eq!(host.adverts()[0], advert_of(&config, 150));
    assert_eq!(host.said()[0], "claim 10.0.0.100,10.0.0.101,2001:db8::10");
}
