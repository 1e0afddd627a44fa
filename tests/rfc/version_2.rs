//! RFC 3768: version 2 of the protocol.

use vipd::vrrp::advert::Malformed;
use vipd::vrrp::{Advert, DiscardReason, Mismatch, Priority, RouterConfig, Version};

use crate::fixture::*;

#[test]
fn rfc3768_6_1_skew_of_version_2_does_not_depend_on_the_interval() {
    for value in 1..=254 {
        let slow = RouterConfig { advert_interval: centis(300), ..web2() };
        let host = Host::backup(RouterConfig { priority: Priority::new(value), ..slow });
        assert_eq!(host.until_deadline(), Some(secs(9) + skew(value, SECOND)));
    }
}

#[test]
fn rfc3768_6_4_2_priority_0_sets_the_timer_of_version_2_to_its_skew_time() {
    let mut host = Host::backup(RouterConfig { advert_interval: centis(300), ..web2() });
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.until_deadline(), Some(skew(150, SECOND)));
}

#[test]
fn rfc3768_5_3_a_version_2_master_sends_version_2() {
    let mut host = Host::master(web2());
    host.wait(SECOND);
    let advert = host.adverts()[0].clone();
    assert_eq!(advert.version, Version::V2);
    let message = encode(&advert, HERE, GROUP);
    assert_eq!(message.len(), 8 + 4 + 8);
    assert_eq!(message[..6], [0x21, 51, 150, 1, 0, 1]);
    assert_eq!(message[12..], [0; 8]);
    assert_eq!(plain_checksum(&message), 0);
}

#[test]
fn rfc3768_7_1_a_version_2_advert_with_equal_settings_counts() {
    let mut host = Host::backup(web2());
    host.sleeps(SECOND);
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn rfc3768_7_1_a_version_2_advert_with_another_interval_is_incompatible() {
    let mut host = Host::backup(web2());
    let slow = Advert { interval: centis(200), ..advert_of(&web2(), 200) };
    is_incompatible(&mut host, &slow, Mismatch::Interval(centis(200)));
    let mut slower = Host::backup(RouterConfig { advert_interval: centis(300), ..web2() });
    is_incompatible(&mut slower, &slow, Mismatch::Interval(centis(200)));
}

#[test]
fn rfc3768_7_1_a_version_2_advert_with_other_authentication_is_incompatible() {
    let secret = RouterConfig { authentication: Some(*b"secret\0\0"), ..web2() };
    let mut host = Host::backup(secret.clone());
    is_incompatible(&mut host, &advert_of(&web2(), 200), Mismatch::Authentication);
    let wrong = Advert { authentication: Some(*b"Secret\0\0"), ..advert_of(&web2(), 200) };
    is_incompatible(&mut host, &wrong, Mismatch::Authentication);
    host.hears_advert(&advert_of(&secret, 200), ABOVE).unwrap();
    let mut open = Host::backup(web2());
    is_incompatible(&mut open, &advert_of(&secret, 200), Mismatch::Authentication);
}

#[test]
fn rfc3768_7_1_authentication_type_2_is_incompatible() {
    let mut host = Host::backup(web2());
    let mut message = encode(&advert_of(&web2(), 200), ABOVE, GROUP);
    message[4] = 2;
    message[6..8].fill(0);
    let sum = plain_checksum(&message);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    let refused = Err(DiscardReason::Incompatible(Mismatch::Authentication));
    assert_eq!(host.packet(ABOVE, GROUP, 255, &message), refused);
}

#[test]
fn rfc3768_7_1_a_version_2_advert_without_its_authentication_data_is_too_short() {
    let mut host = Host::backup(web2());
    let message = encode(&advert_of(&web2(), 200), ABOVE, GROUP);
    let short = Malformed::TooShort { length: 12, needed: 20 };
    assert_eq!(
        host.packet(ABOVE, GROUP, 255, &message[..12]),
        Err(DiscardReason::Malformed(short))
    );
}

#[test]
fn rfc3768_version_2_over_ipv6_is_refused() {
    let mut host = Host::backup(web6());
    let mut message = encode(&advert_of(&web6(), 200), ABOVE6, GROUP6);
    message[0] = 0x21;
    let refused = Err(DiscardReason::Malformed(Malformed::Version2OverIpv6));
    assert_eq!(host.packet(ABOVE6, GROUP6, 255, &message), refused);
}
