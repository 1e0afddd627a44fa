//! Adverts that do not leave this host, and sockets that cannot be opened.

use vipd::vrrp::{
    Event, Family, Handover, LinkId, MissingSockets, Reason, Role, RouterConfig, SendError,
    Warning, Why,
};

use crate::fixture::*;

fn refuse_all(host: &mut Host) {
    host.feed(Event::AdvertsRefused(WEB)).unwrap();
}

fn lacks(host: &mut Host, missing: MissingSockets) {
    host.feed(Event::Sockets(ETH0, missing)).unwrap();
}

const OPEN: MissingSockets = MissingSockets { v4: false, v6: false, announcements: false };

#[test]
fn refused_adverts_end_a_takeover_without_priority_0() {
    for handover in [Handover::Overlap, Handover::Exclusive] {
        let mut host = Host::master(RouterConfig { handover, ..web() });
        refuse_all(&mut host);
        assert_eq!(host.said(), ["release", "role fault"]);
        assert_eq!(host.why(), Why::Fault(vec![Reason::AdvertsRefused]));
        refuse_all(&mut host);
        assert_eq!(host.done, [], "there is nothing to give up any more");
    }
}

#[test]
fn refused_adverts_are_tried_again_later_each_time() {
    let mut host = Host::backup(web());
    let mut waited = Vec::new();
    for _ in 0..12 {
        host.wait(master_down(150, SECOND));
        assert_eq!(host.role(), Role::Master);
        refuse_all(&mut host);
        assert_eq!(host.role(), Role::Fault);
        let span = host.until_deadline().unwrap();
        waited.push(span.as_secs());
        host.wait(span);
        assert_eq!(host.role(), Role::Backup);
    }
    assert_eq!(waited, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
}

#[test]
fn refused_adverts_ten_minutes_after_the_last_attempt_count_anew() {
    let attempts = |as_master| {
        let mut host = Host::master(web());
        refuse_all(&mut host);
        host.wait(secs(1) + master_down(150, SECOND));
        assert_eq!(host.role(), Role::Master);
        host.wait(as_master - master_down(150, SECOND));
        refuse_all(&mut host);
        host.until_deadline().unwrap()
    };
    assert_eq!(attempts(secs(600) + NANO), secs(1));
    assert_eq!(attempts(secs(600)), secs(2));
}

#[test]
fn refused_adverts_of_an_owner_are_tried_again_later_each_time_too() {
    let mut host = Host::started(&[priority(255)]);
    host.link_up();
    let mut waited = Vec::new();
    for _ in 0..3 {
        assert_eq!(host.role(), Role::Master);
        refuse_all(&mut host);
        let span = host.until_deadline().unwrap();
        waited.push(span.as_secs());
        host.wait(span);
    }
    assert_eq!(waited, [1, 2, 4]);
}

#[test]
fn refused_by_one_destination_is_shown_and_warned_of_once_a_minute() {
    let mut host = Host::master(unicast());
    for _ in 0..70 {
        host.feed(Event::AdvertRefused(WEB, ip(ABOVE), SendError::Filtered)).unwrap();
        host.wait(SECOND);
    }
    let refused = Warning::AdvertRefused { to: ip(ABOVE), error: SendError::Filtered };
    assert_eq!(host.warnings(), [refused, refused]);
    assert_eq!(host.role(), Role::Master);
    host.feed(Event::AdvertRefused(WEB, ip(BELOW), SendError::Full)).unwrap();
    let shown = |host: &Host| -> Vec<_> {
        host.router().refusals(host.now).map(|refusal| (refusal.to, refusal.error)).collect()
    };
    let both = [(ip(BELOW), SendError::Full), (ip(ABOVE), SendError::Filtered)];
    assert_eq!(shown(&host), both);
    host.wait(secs(4));
    assert_eq!(shown(&host), both[..1]);
    host.wait(SECOND);
    assert_eq!(shown(&host), []);
    // One that is not configured any more.
    host.feed(Event::AdvertRefused(WEB, ip("10.0.0.77"), SendError::Full)).unwrap();
    assert_eq!(shown(&host), []);
}

#[test]
fn a_socket_that_cannot_be_opened_is_a_fault_until_it_is_open() {
    let any = [MissingSockets { v4: true, ..OPEN }, MissingSockets { announcements: true, ..OPEN }];
    for missing in any {
        let mut host = Host::master(web());
        lacks(&mut host, missing);
        assert_eq!(host.reasons(), [Reason::NoSocket]);
        assert_eq!(host.said(), ["advert 0", "release", "role fault"]);
        host.link_up();
        assert_eq!(host.reasons(), [Reason::NoSocket]);
        lacks(&mut host, OPEN);
        assert_eq!(host.role(), Role::Backup);
        // The socket of the other family, and those of another interface.
        lacks(&mut host, MissingSockets { v6: true, ..OPEN });
        host.feed(Event::Sockets(LinkId(1), missing)).unwrap();
        assert_eq!(host.role(), Role::Backup);
    }
    assert!(MissingSockets { v6: true, ..OPEN }.adverts(Family::V6));
}

#[test]
fn a_socket_that_is_missing_from_the_start_is_a_fault_from_the_start() {
    let mut host = Host::started(&[web()]);
    lacks(&mut host, MissingSockets { v4: true, ..OPEN });
    assert_eq!(host.role(), Role::Waiting);
    host.link(true, &[]);
    assert!(!host.reasons().contains(&Reason::NoSocket), "without an address none is wanted");
    host.link_up();
    assert_eq!(host.reasons(), [Reason::NoSocket]);
    host.link_down();
    assert!(!host.reasons().contains(&Reason::NoSocket));
    host.feed(Event::Link { link: ETH0, state: None }).unwrap();
    assert_eq!(host.reasons(), [Reason::InterfaceMissing], "nor of an interface that is missing");
}
