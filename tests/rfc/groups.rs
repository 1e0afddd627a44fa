//! Sync groups.

use std::sync::Arc;

use vipd::vrrp::{
    Command, Config, Drain, Effect, Event, GroupConfig, Handover, Hook, HookOutcome, Leave,
    Priority, Reason, Recorded, Role, RouterConfig, Stop, VirtualRouter, Vrid, Why,
};

use crate::fixture::*;

/// The other member of the group of [`web`], on another interface.
fn out_of(web: &RouterConfig) -> RouterConfig {
    RouterConfig {
        name: Arc::from("out"),
        interface: Arc::from("eth1"),
        vrid: Vrid::new(52).unwrap(),
        addresses: addresses(&[SHARED_OUT]),
        ..web.clone()
    }
}

fn grouped(web: &RouterConfig) -> Config {
    group_of(&[web.clone(), out_of(web)])
}

fn group_of(routers: &[RouterConfig]) -> Config {
    let members = routers.iter().map(|router| router.name.clone()).collect();
    let groups = vec![GroupConfig { name: Arc::from("gateway"), members }];
    Config { routers: routers.to_vec(), groups, ..Config::default() }
}

/// Both links up, both members backup, nothing heard yet.
fn backups(web: &RouterConfig) -> Host {
    let mut host = Host::of(&grouped(web));
    host.links_up();
    host.is_all(Role::Backup);
    host.begin();
    host
}

fn masters(web: &RouterConfig) -> Host {
    let mut host = backups(web);
    host.wait(master_down(web.priority.get(), web.advert_interval.duration()));
    host.is_all(Role::Master);
    host.begin();
    host
}

const BELOW_OUT: &str = "10.1.0.1";
const ABOVE_OUT: &str = "10.1.0.3";

#[test]
fn group_members_become_master_together() {
    let mut host = backups(&web());
    host.wait(master_down(150, SECOND));
    assert_eq!(
        host.said(),
        [
            "claim",
            "advert 150",
            "announce",
            "role master",
            "claim 10.1.0.100",
            "advert 150",
            "announce 10.1.0.100",
            "role master"
        ]
    );
    let group = host.node.group_of(OUT).unwrap();
    assert_eq!((&**group.name(), group.members()), ("gateway", &[WEB, OUT][..]));
    assert_eq!(host.node.find_group("gateway"), host.node.group_of(WEB));
}

/// It has been late, and listens before it takes part again.
#[test]
fn group_that_nobody_took_over_does_not_return_while_a_member_has_to_wait() {
    let mut host = masters(&web());
    host.command(Command::Failover(WEB));
    host.wait(millis(3500));
    host.feed(Event::Late(OUT)).unwrap();
    host.wait(secs(1));
    host.is_all(Role::Backup);
    host.wait(secs(10));
    host.is_all(Role::Master);
}

#[test]
fn group_takes_over_with_its_first_timer_if_no_other_member_hears_a_master() {
    let slow =
        RouterConfig { advert_interval: centis(1000), address_lifetime: None, ..out_of(&web()) };
    let mut host = Host::of(&group_of(&[web(), slow]));
    host.links_up();
    host.wait(master_down(150, SECOND) - NANO);
    host.is_all(Role::Backup);
    host.wait(NANO);
    host.is_all(Role::Master);
}

#[test]
fn group_stays_backup_while_it_hears_a_master_on_any_link() {
    let mut host = backups(&web());
    for _ in 0..30 {
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Backup);
    host.wait(master_down(150, SECOND));
    host.is_all(Role::Master);
}

#[test]
fn group_preempts_only_if_it_wins_wherever_it_hears_a_master() {
    let mut host = backups(&web());
    for _ in 0..20 {
        host.hears(100, BELOW).unwrap();
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Backup);
    for _ in 0..5 {
        host.hears(100, BELOW).unwrap();
        host.hears_out(100, BELOW_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Master);
}

#[test]
fn group_takes_over_a_skew_time_after_priority_0_of_all_members() {
    let mut host = backups(&web());
    host.hears(200, ABOVE).unwrap();
    host.hears_out(200, ABOVE_OUT);
    host.wait(SECOND);
    host.hears(0, ABOVE).unwrap();
    host.wait(MILLI);
    host.hears_out(0, ABOVE_OUT);
    host.begin();
    host.wait(secs(5));
    assert_eq!(host.times("claim"), [skew(150, SECOND) - MILLI; 2]);
}

#[test]
fn group_does_not_take_over_while_one_member_is_held_by_a_delay() {
    let web = RouterConfig { link_delay: secs(30), ..web() };
    let mut host = Host::of(&grouped(&web));
    host.links_up();
    host.wait(secs(40));
    host.is_all(Role::Master);
    host.out_link(false);
    host.is_all(Role::Fault);
    host.out_link(true);
    host.begin();
    host.wait(secs(30) - NANO);
    host.is_all(Role::Backup);
    host.wait(NANO);
    host.is_all(Role::Master);
}

#[test]
fn group_fault_of_one_is_a_fault_of_all() {
    let mut host = masters(&web());
    host.link_down();
    host.is_all(Role::Fault);
    let reasons: Vec<Reason> = host.node.router(OUT).unwrap().fault_reasons().collect();
    assert_eq!(reasons, [Reason::Group(Arc::from("web"))]);
    assert_eq!(reasons[0].name(), "group");
    assert_eq!(host.hooks(), [(1, Role::Fault)]);
    host.out_link(false);
    host.link_up();
    host.is_all(Role::Fault);
    host.out_link(true);
    host.is_all(Role::Backup);
    assert_eq!(host.hooks(), [(0, Role::Backup)], "the last that becomes backup");
}

#[test]
fn group_hooks_run_once_when_all_is_true() {
    let mut host = Host::of(&grouped(&web()));
    host.links_up();
    assert_eq!(host.hooks(), [(1, Role::Backup)]);
    host.wait(secs(10));
    assert_eq!(host.hooks(), [(1, Role::Master)]);
    host.command(Command::Failover(WEB));
    assert_eq!(host.hooks(), [(1, Role::Leaving)]);
    host.hears_out(100, BELOW_OUT);
    host.wait(millis(10));
    assert_eq!(host.roles(), [Role::Leaving, Role::Backup]);
    assert_eq!(host.hooks(), [], "one member still answers");
    host.hears(100, BELOW).unwrap();
    host.wait(millis(10));
    assert_eq!(host.hooks(), [(0, Role::Backup)]);
}

#[test]
fn group_that_loses_one_election_leaves_all() {
    let mut host = masters(&web());
    host.hears_out(200, ABOVE_OUT);
    assert_eq!(host.said(), ["advert 150", "role leaving", "role leaving", "advert 0"]);
    assert_eq!(*host.node.router(WEB).unwrap().since().1, Why::Leaving(Leave::Group));
    host.hears(200, ABOVE).unwrap();
    host.wait(millis(5));
    host.is_all(Role::Backup);
    for _ in 0..20 {
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Backup);
}

#[test]
fn group_that_lost_one_member_does_not_take_it_back_alone() {
    let mut host = masters(&web());
    for _ in 0..10 {
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    host.is_all(Role::Backup);
    assert_eq!(host.times("release").len(), 2);
}

#[test]
fn group_failover_moves_all_and_is_undone_without_a_successor() {
    let mut host = masters(&web());
    host.command(Command::Failover(OUT));
    host.is_all(Role::Leaving);
    assert!(host.node.routers().all(VirtualRouter::held_back));
    host.wait(secs(4));
    host.is_all(Role::Master);
    assert!(host.times("release").is_empty());
    host.command(Command::Failover(WEB));
    for _ in 0..4 {
        host.hears(100, BELOW).unwrap();
        host.wait(SECOND);
    }
    assert_eq!(host.times("release").len(), 2, "who has one of them is to have all");
    host.command(Command::Resume(OUT));
    assert!(!host.node.routers().any(VirtualRouter::held_back));
}

#[test]
fn group_failover_with_different_intervals_waits_for_the_slowest() {
    let slow = RouterConfig { advert_interval: centis(200), ..out_of(&web()) };
    let mut host = Host::of(&group_of(&[web(), slow]));
    host.links_up();
    host.wait(secs(10));
    host.is_all(Role::Master);
    host.command(Command::Failover(WEB));
    host.wait(secs(8) - NANO);
    host.is_all(Role::Leaving);
    host.wait(NANO);
    host.is_all(Role::Master);
}

#[test]
fn group_announces_together() {
    let mut host = masters(&web());
    host.command(Command::Announce(OUT));
    assert_eq!(host.said(), ["announce", "announce 10.1.0.100"]);
}

#[test]
fn group_runs_before_release_once_and_leaves_together_after_it() {
    let mut host = masters(&prepared(Handover::Overlap));
    host.command(Command::Failover(WEB));
    host.is_all(Role::Leaving);
    assert_eq!(host.hooks(), [(1, Role::Leaving)]);
    host.wait(millis(500));
    host.begin();
    host.feed(Event::HookFinished(OUT, HookOutcome { hook: Hook::BeforeRelease, succeeded: true }))
        .unwrap();
    assert_eq!(host.times("advert").len(), 2);
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::LEAVING));
    assert_eq!(host.hooks(), []);
}

#[test]
fn group_loses_while_it_prepares_to_leave() {
    let mut host = masters(&prepared(Handover::Exclusive));
    host.command(Command::Drain(Drain::LastResort));
    host.begin();
    host.hears(200, ABOVE).unwrap();
    host.is_all(Role::Backup);
    assert_eq!(host.times("release").len(), 2);
}

#[test]
fn group_asks_before_claim_once_and_shares_the_answer() {
    let mut host = backups(&asking());
    host.wait(master_down(150, SECOND));
    host.is_all(Role::Claiming);
    assert_eq!(host.hooks(), [(1, Role::Claiming)]);
    let answer = |succeeded| HookOutcome { hook: Hook::BeforeClaim, succeeded };
    host.feed(Event::HookFinished(OUT, answer(true))).unwrap();
    host.is_all(Role::Master);
    let mut host = backups(&asking());
    host.wait(master_down(150, SECOND));
    host.feed(Event::HookFinished(OUT, answer(false))).unwrap();
    host.is_all(Role::Fault);
    host.wait(secs(30));
    host.is_all(Role::Backup);
    host.wait(master_down(150, SECOND));
    host.is_all(Role::Claiming);
    host.hears_out(200, ABOVE_OUT);
    host.is_all(Role::Backup);
}

#[test]
fn group_resumes_only_if_all_its_members_may() {
    for (number, out) in
        [KILLED, Recorded { last_advert_age: secs(3), ..KILLED }].into_iter().enumerate()
    {
        let mut host = Host::of(&grouped(&web()));
        host.feed(Event::Found(WEB, KILLED)).unwrap();
        host.feed(Event::Found(OUT, out)).unwrap();
        host.link_up();
        assert_eq!(host.done, [], "the other link is not known yet");
        host.out_link(true);
        host.is_all([Role::Master, Role::Backup][number]);
        assert_eq!(host.times("release").len(), [0, 2][number]);
    }
}

#[test]
fn group_that_starts_with_a_fault_of_one_never_was_backup() {
    let mut host = Host::of(&grouped(&web()));
    host.link_up();
    host.out_link(false);
    assert_eq!(host.said(), ["role fault", "role fault"]);
}

#[test]
fn group_ties_are_decided_on_the_link_of_the_first_member() {
    // Here it wins the tie on the first link, and loses it on the second.
    let mut host = masters(&web());
    host.hears_out(150, ABOVE_OUT);
    host.is_all(Role::Master);
    host.wait(SECOND);
    host.hears_out(150, ABOVE_OUT);
    host.is_all(Role::Master);
    host.wait(SECOND);
    host.hears_out(150, ABOVE_OUT);
    host.is_all(Role::Leaving);
    // The other way about: lost at once.
    let mut host = masters(&web());
    host.hears(150, ABOVE).unwrap();
    host.is_all(Role::Leaving);
    // A better priority wins on any link, at once.
    let mut host = masters(&web());
    host.hears_out(151, BELOW_OUT);
    host.is_all(Role::Leaving);
}

#[test]
fn group_that_has_heard_no_peer_on_one_link_advertises_priority_1_on_all() {
    let staying = RouterConfig { preempt: false, ..web() };
    let mut host = backups(&staying);
    host.hears(200, ABOVE).unwrap();
    host.begin();
    host.wait(secs(5));
    let said: Vec<u8> = host.adverts().iter().map(|advert| advert.priority.get()).collect();
    assert!(said.len() >= 2 && said.iter().all(|priority| *priority == 1), "{said:?}");
}

#[test]
fn group_checks_count_for_all_members() {
    let mut config = grouped(&web());
    config.checks = vec![check("app", Effect::Weight(-100)), check("db", Effect::Fault)];
    for router in &mut config.routers {
        router.checks = Arc::from([Arc::from("app"), Arc::from("db")]);
    }
    let mut host = Host::of(&config);
    host.links_up();
    host.wait(secs(10));
    host.begin();
    host.fails("app");
    assert_eq!(host.said(), ["advert 50", "advert 50"]);
    host.fails("db");
    host.is_all(Role::Leaving);
    host.done.clear();
    host.wait(secs(4));
    host.is_all(Role::Fault);
    assert_eq!(host.hooks(), [(1, Role::Fault)]);
}

#[test]
fn group_of_an_owner_is_none() {
    let owner = out_of(&priority(255));
    let host = Host::of(&group_of(&[web(), owner]));
    assert_eq!(host.node.group_of(WEB), None);
}

#[test]
fn group_made_by_a_reload_of_a_master_and_a_backup_gets_in_line() {
    let routers = [web(), out_of(&web())];
    let alone = Config { routers: routers.to_vec(), ..Config::default() };
    // The backup hears a master that it would not preempt: all are backups.
    let mut host = Host::of(&alone);
    host.links_up();
    for _ in 0..10 {
        host.hears_out(200, ABOVE_OUT);
        host.wait(SECOND);
    }
    assert_eq!(host.roles(), [Role::Master, Role::Backup]);
    host.hears_out(200, ABOVE_OUT);
    host.reload_all(&grouped(&web()));
    assert_eq!(host.roles(), [Role::Leaving, Role::Backup]);
    // It hears no other router: it joins, and nothing is released.
    let mut host = Host::of(&alone);
    host.links_up();
    host.wait(secs(2));
    host.hears_out(200, ABOVE_OUT);
    host.wait(secs(3));
    assert_eq!(host.roles(), [Role::Master, Role::Backup]);
    host.hears_out(0, ABOVE_OUT);
    host.begin();
    host.reload_all(&grouped(&web()));
    host.wait(secs(4));
    host.is_all(Role::Master);
    assert!(host.times("release").is_empty());
    // In fault: so are all.
    let mut host = Host::of(&alone);
    host.link_up();
    host.out_link(false);
    host.wait(secs(5));
    assert_eq!(host.roles(), [Role::Master, Role::Fault]);
    host.reload_all(&grouped(&web()));
    host.is_all(Role::Fault);
    host.reload_all(&alone);
    assert_eq!(host.roles(), [Role::Backup, Role::Fault]);
}

#[test]
fn group_removed_by_a_reload_leaves_its_members_unchanged() {
    let mut host = masters(&web());
    let alone = Config { groups: Vec::new(), ..grouped(&web()) };
    host.reload_all(&alone);
    assert_eq!(host.done, []);
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.roles(), [Role::Leaving, Role::Master]);
}

#[test]
fn group_renamed_by_a_reload_stays_unchanged() {
    let mut host = masters(&web());
    let mut renamed = grouped(&web());
    renamed.groups[0].name = Arc::from("edge");
    host.reload_all(&renamed);
    assert_eq!(host.done, []);
    assert_eq!(&**host.node.group_of(WEB).unwrap().name(), "edge");
    host.link_down();
    assert_eq!(host.hooks(), [(1, Role::Fault)]);
}

#[test]
fn group_removed_by_a_reload_leaves_with_one_stop_hook() {
    let mut host = masters(&web());
    host.reload_all(&Config::default());
    host.is_all(Role::Leaving);
    assert_eq!(host.hooks(), [(1, Role::Leaving)]);
    host.wait(secs(10));
    assert_eq!(host.hooks(), [(1, Role::Stopped)]);
    host.timeout();
    assert_eq!((host.node.routers().count(), host.node.groups().count()), (0, 0));
}

#[test]
fn group_member_removed_by_a_reload_leaves_alone_and_without_the_groups_hooks() {
    let third = RouterConfig {
        name: Arc::from("third"),
        vrid: Vrid::new(53).unwrap(),
        addresses: addresses(&["10.1.0.101"]),
        ..out_of(&web())
    };
    let mut host = Host::of(&group_of(&[web(), out_of(&web()), third]));
    host.links_up();
    host.wait(secs(10));
    host.is_all(Role::Master);
    host.begin();
    host.reload_all(&grouped(&web()));
    host.wait(secs(10));
    assert_eq!(host.hooks(), []);
    host.is_all(Role::Master);
    assert_eq!(host.node.routers().count(), 2);
}

#[test]
fn group_of_two_hosts_that_each_have_another_member_as_master_settles() {
    // This host is master of both, and so is the other, as far as we hear with a higher priority on
    // one link only: the first advert decides for all.
    let mut host = masters(&web());
    host.hears(100, BELOW).unwrap();
    host.is_all(Role::Master);
    host.hears_out(160, BELOW_OUT);
    host.is_all(Role::Leaving);
}

#[test]
fn group_stops_and_drains_together() {
    let mut host = masters(&web());
    host.stop(Stop::Leave);
    host.is_all(Role::Leaving);
    host.hears(100, BELOW).unwrap();
    host.hears_out(100, BELOW_OUT);
    host.wait(millis(5));
    host.is_all(Role::Stopped);
    assert!(host.node.is_stopped());
    let mut host = masters(&web());
    host.command(Command::Drain(Drain::LastResort));
    host.is_all(Role::Leaving);
    host.wait(secs(4));
    host.is_all(Role::Master);
}

#[test]
fn group_late_with_one_member_leaves_all() {
    let mut host = masters(&web());
    host.feed(Event::Late(OUT)).unwrap();
    assert_eq!(host.roles(), [Role::Leaving, Role::Backup]);
    host.wait(secs(20));
    host.is_all(Role::Master);
}
