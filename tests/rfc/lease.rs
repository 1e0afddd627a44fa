//! The lease: the lifetime of claimed addresses, and when it is renewed.

use vipd::vrrp::{Action, Command, RouterConfig, Stop};

use crate::fixture::*;

#[test]
fn the_lease_is_claimed_with_its_lifetime_and_renewed_right_after_each_advert() {
    let mut host = Host::backup(web());
    host.wait(master_down(150, SECOND));
    let claimed = host
        .done
        .iter()
        .any(|(_, action)| matches!(action, Action::Claim { lifetime: Some(2), .. }));
    assert!(claimed);
    host.begin();
    host.wait(millis(3500));
    host.hears(149, BELOW).unwrap();
    let said: Vec<String> = host.said().into_iter().filter(|word| word != "announce").collect();
    // An extra advert renews nothing: packets of others can cause a hundred a second.
    assert_eq!(
        said,
        ["advert 150", "renew"]
            .repeat(3)
            .into_iter()
            .chain(["advert 150", "warn"])
            .collect::<Vec<_>>()
    );
}

#[test]
fn the_lease_is_never_renewed_without_an_advert_in_the_same_step() {
    let mut host = Host::master(web());
    for step in 0..200 {
        match step % 5 {
            0 => host.hears(149, BELOW).unwrap(),
            1 => host.sees(STRANGER, SHARED),
            2 => host.command(Command::Announce(WEB)),
            _ => {}
        }
        host.wait(millis(37));
    }
    let renewed = host.times("renew");
    assert!(renewed.len() > 5);
    let words: Vec<String> = host.said();
    for (n, word) in words.iter().enumerate() {
        assert!(word != "renew" || words[n - 1].starts_with("advert"), "{words:?}");
    }
}

#[test]
fn the_lease_of_a_fast_router_is_renewed_twice_a_second_and_with_adverts_only() {
    let mut host = Host::master(RouterConfig { advert_interval: centis(1), ..web() });
    host.wait(secs(10));
    assert_eq!(host.times("renew"), (1..=20).map(|n| millis(500 * n)).collect::<Vec<_>>());
}

#[test]
fn the_lease_that_is_off_is_neither_set_nor_renewed() {
    let mut host = Host::backup(RouterConfig { address_lifetime: None, ..web() });
    host.wait(secs(30));
    let claims = host.done.iter().filter(|(_, action)| matches!(action, Action::Claim { .. }));
    assert!(
        claims
            .map(|(_, action)| action)
            .all(|action| matches!(action, Action::Claim { lifetime: None, .. }))
    );
    assert!(host.times("renew").is_empty());
}

#[test]
fn the_automatic_lease_is_three_intervals_less_a_second() {
    let of = |centis_| RouterConfig::automatic_lifetime(centis(centis_));
    assert_eq!([134, 166, 167, 200, 4095].map(of), [3, 3, 4, 5, 121]);
    // With time left for the renewal.
    assert_eq!([70, 84, 85, 99, 100, 133].map(of), [1, 1, 2, 2, 2, 2]);
    assert_eq!([1, 10, 69].map(of), [2, 2, 2]);
}

#[test]
fn the_lease_goes_on_while_leaving() {
    let mut host = Host::master(web());
    host.wait(MILLI);
    host.stop(Stop::Leave);
    host.wait(secs(3));
    assert_eq!(host.times("renew").len(), 4);
    assert_eq!(host.times("renew"), host.times("advert"));
}
