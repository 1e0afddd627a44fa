//! The hook `before_claim`, and hooks whose failure means fault.

use std::collections::BTreeMap;

use vipd::vrrp::{Command, Drain, Hook, Priority, Reason, Role, RouterConfig, Stop, Why};

use crate::fixture::*;

/// Just about to take over, and the hook is asked.
fn claiming(config: RouterConfig) -> Host {
    let mut host = Host::backup(config);
    host.wait(master_down(150, SECOND));
    assert_eq!(host.said(), ["role claiming"]);
    host
}

#[test]
fn before_claim_runs_before_anything_is_claimed() {
    let mut host = claiming(asking());
    host.wait(secs(4));
    assert_eq!(host.done, [], "on the wire it is a backup");
    host.hook_ended(Hook::Master, true);
    assert_eq!(host.role(), Role::Claiming, "another hook means nothing");
    host.hook_ended(Hook::BeforeClaim, true);
    assert_eq!(host.said(), TAKES_OVER);
    assert_eq!(host.why(), Why::HeardNobody);
}

#[test]
fn before_claim_may_veto_and_runs_again_later() {
    let mut host = claiming(asking());
    host.hook_ended(Hook::BeforeClaim, false);
    assert_eq!(host.said(), ["role fault"]);
    assert_eq!(host.reasons(), [Reason::Vetoed]);
    host.wait(secs(30));
    assert_eq!(host.said(), ["role backup"]);
    host.wait(master_down(150, SECOND));
    assert_eq!(host.said(), ["role claiming"]);
}

#[test]
fn before_claim_that_does_not_answer_in_time_is_a_veto() {
    let mut host = claiming(asking());
    host.wait(secs(5));
    assert_eq!(host.said(), ["role fault"]);
    assert_eq!(host.reasons(), [Reason::Vetoed]);
    host.hook_ended(Hook::BeforeClaim, true);
    assert_eq!(host.role(), Role::Fault, "too late");
}

#[test]
fn before_claim_ends_when_a_master_is_heard_that_is_not_preempted() {
    let mut host = claiming(asking());
    host.hears(200, ABOVE).unwrap();
    assert_eq!(host.said(), ["role backup"]);
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
    host.hook_ended(Hook::BeforeClaim, true);
    assert_eq!(host.role(), Role::Backup, "nobody asks any longer");
}

#[test]
fn before_claim_continues_while_a_master_is_heard_that_is_preempted() {
    let mut host = claiming(asking());
    host.hears(100, ABOVE).unwrap();
    host.hears(0, ABOVE).unwrap();
    assert_eq!(host.role(), Role::Claiming);
    let mut patient = claiming(RouterConfig { preempt: false, ..asking() });
    patient.hears(100, ABOVE).unwrap();
    assert_eq!(patient.role(), Role::Backup);
}

#[test]
fn before_claim_ends_with_a_fault_a_drain_a_stop_or_a_failover() {
    let mut host = claiming(asking());
    host.link_down();
    assert_eq!(host.said(), ["role fault"]);
    let mut host = claiming(asking());
    host.command(Command::Drain(Drain::LastResort));
    assert_eq!(host.said(), ["role backup"]);
    let mut host = claiming(asking());
    host.stop(Stop::Leave);
    assert_eq!(host.said(), ["role stopped"]);
    let mut host = claiming(asking());
    host.hears(100, ABOVE).unwrap();
    host.command(Command::Failover(WEB));
    assert_eq!(host.said(), ["role backup"]);
    assert!(host.router().held_back());
}

#[test]
fn before_claim_does_not_run_for_the_owner_at_resume_or_without_a_successor() {
    let mut owner = Host::started(&[RouterConfig { priority: Priority::OWNER, ..asking() }]);
    owner.link_up();
    assert_eq!(owner.role(), Role::Master);
    assert_eq!(found(asking(), KILLED).role(), Role::Master);
    let mut host = claiming(asking());
    host.hook_ended(Hook::BeforeClaim, true);
    host.command(Command::Failover(WEB));
    host.wait(secs(4));
    assert_eq!(host.role(), Role::Master);
    assert_eq!(host.why(), Why::NobodyCame);
}

#[test]
fn a_hook_that_fails_means_fault_only_if_configured() {
    let mut host = Host::master(web());
    host.hook_ended(Hook::Master, false);
    assert_eq!(host.role(), Role::Master);
    let fault_for = BTreeMap::from([(Hook::Master, secs(60))]);
    let mut host = Host::master(RouterConfig { fault_for, ..web() });
    host.hook_ended(Hook::Master, true);
    host.hook_ended(Hook::Backup, false);
    assert_eq!(host.role(), Role::Master);
    host.hook_ended(Hook::Master, false);
    assert_eq!(host.said(), ["advert 0", "release", "role fault"]);
    assert_eq!(host.reasons(), [Reason::HookFailed(Hook::Master)]);
    assert_eq!(host.why().to_string(), "the master hook failed");
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Backup);
}
