//! A daemon that starts again resumes the role that is recorded, if every condition holds.

use vipd::vrrp::{
    Action, Command, Drain, Event, Handover, Leave, Recorded, Role, RouterConfig, Stop, Why,
};

use crate::fixture::*;

#[test]
fn a_killed_master_resumes_at_once_whatever_the_delays() {
    let delayed = RouterConfig { start_delay: secs(30), link_delay: secs(9), ..web() };
    let mut host = found(delayed, KILLED);
    assert_eq!(host.why(), Why::Resumed);
    assert_eq!(host.said(), TAKES_OVER);
}

#[test]
fn a_master_that_resumes_runs_its_hook_again_unless_it_had_finished() {
    for done in [true, false] {
        let host = found(web(), Recorded { master_hook_done: done, ..KILLED });
        let Some((_, Action::Notify(transition))) = host.done.last() else { panic!() };
        assert_eq!(transition.hooks, !done);
    }
}

#[test]
fn resume_is_refused_if_any_single_condition_fails() {
    let refused = [
        Recorded { was_master: false, ..KILLED },
        Recorded { drained: Some(Drain::Force), ..KILLED },
        Recorded { held_back: true, ..KILLED },
        Recorded { last_advert_age: millis(2900), ..KILLED },
        Recorded { resumes_in_last_minute: 3, ..KILLED },
    ];
    for recorded in refused {
        let mut host = found(web(), recorded);
        assert_eq!(host.role(), Role::Backup, "{recorded:?}");
        assert_eq!(host.said(), ["release", "role backup"], "{recorded:?}");
        assert_eq!(host.router().held_back(), recorded.held_back);
        assert_eq!(host.node.drained(), recorded.drained);
    }
}

/// The operator's request goes on in the new daemon, and its hook runs again.
#[test]
fn resume_goes_on_with_a_failover_or_a_drain_that_was_being_prepared() {
    let drained = Some(Drain::LastResort);
    for (held_back, drained, leaves) in [
        (true, None, Some(Leave::Failover)),
        (false, drained, Some(Leave::Drain)),
        (false, None, None),
    ] {
        let recorded = Recorded { held_back, drained, was_preparing: true, ..KILLED };
        let mut host = found(prepared(Handover::Overlap), recorded);
        assert!(host.said().starts_with(&["claim".to_owned()]), "{:?}", host.said());
        assert!(host.router().has_addresses());
        match leaves {
            Some(leave) => assert_eq!(host.why(), Why::Leaving(leave)),
            None => assert_eq!((host.role(), host.why()), (Role::Master, Why::Resumed)),
        }
        host.wait(secs(60));
        let offers = host.adverts().iter().filter(|advert| advert.priority.get() == 0).count();
        assert_eq!(offers > 0, leaves.is_some());
    }
}

#[test]
fn resume_is_refused_without_a_record() {
    let mut host = Host::started(&[web()]);
    host.link(true, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.said(), ["role backup"]);
}

#[test]
fn resume_is_refused_with_a_fault_and_what_was_left_is_removed() {
    let mut host = Host::started(&[web()]);
    host.feed(Event::Found(WEB, KILLED)).unwrap();
    host.link(false, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.said(), ["release", "role fault"]);
    host.link_up();
    assert_eq!(host.role(), Role::Backup);
}

/// Its lease has ended, and its peers still wait.
#[test]
fn a_master_whose_addresses_have_gone_claims_them_again() {
    let gone = Recorded { addresses_present: false, ..KILLED };
    let mut host = found(web(), gone);
    assert_eq!(host.why(), Why::Resumed);
    assert_eq!(host.said(), TAKES_OVER);
    // A better host that has preempted meanwhile answers, and has them again at once.
    host.hears(200, ABOVE).unwrap();
    host.wait(millis(5));
    assert_eq!(host.role(), Role::Backup);
    let too_late = Recorded { last_advert_age: millis(2900), ..gone };
    let mut host = found(web(), too_late);
    assert_eq!(host.said(), ["role backup"]);
}

#[test]
fn a_reload_or_a_drain_before_the_interface_is_known_decides_nothing() {
    let mut host = Host::started(&[web()]);
    host.feed(Event::Found(WEB, KILLED)).unwrap();
    host.reload(&[priority(140)]);
    host.command(Command::Undrain);
    assert_eq!(host.role(), Role::Waiting);
    assert_eq!(host.done, []);
    host.link(true, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.why(), Why::Resumed);
    let mut drained = Host::started(&[web()]);
    drained.command(Command::Drain(Drain::Force));
    assert_eq!(drained.role(), Role::Waiting);
    drained.link_up();
    assert_eq!(drained.role(), Role::Backup);
    assert_eq!(drained.node.deadline(), None);
}

#[test]
fn a_stop_before_the_interface_is_known_removes_what_an_earlier_daemon_left() {
    let mut host = Host::started(&[web()]);
    host.feed(Event::Found(WEB, KILLED)).unwrap();
    host.stop(Stop::Leave);
    assert_eq!(host.said(), ["release", "role stopped"]);
    host.link(true, &[at(HERE), ours(SHARED)]);
    assert_eq!(host.role(), Role::Stopped);
    assert_eq!(host.done, []);
    let mut owner = Host::started(&[priority(255)]);
    owner.stop(Stop::Leave);
    owner.link_up();
    assert_eq!(owner.role(), Role::Stopped);
}
