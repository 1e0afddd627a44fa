//! Checks: what their results do to the role and the priority.

use std::sync::Arc;
use std::time::Duration;

use vipd::vrrp::{
    CheckConfig, Command, Config, Effect, Event, Handover, Hook, Initial, Priority, Probe, Reason,
    Role, RouterConfig, Verdict,
};

use crate::fixture::*;

fn waiting(check: CheckConfig) -> CheckConfig {
    CheckConfig { initial: Initial::Wait(secs(10)), ..check }
}

fn failing(check: CheckConfig) -> CheckConfig {
    CheckConfig { initial: Initial::Failing, ..check }
}

/// A configuration in which every virtual router names every check.
fn checked(routers: &[RouterConfig], checks: &[CheckConfig]) -> Config {
    let names: Arc<[Arc<str>]> = checks.iter().map(|check| check.name.clone()).collect();
    let named = |router: &RouterConfig| RouterConfig { checks: names.clone(), ..router.clone() };
    Config {
        routers: routers.iter().map(named).collect(),
        checks: checks.to_vec(),
        ..Config::default()
    }
}

/// One check that passes, and the master that names it.
fn checked_master(config: RouterConfig, effect: Effect) -> Host {
    let mut host = Host::of(&checked(&[config], &[check("app", effect)]));
    host.link_up();
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
    host.begin();
    host
}

fn checked_backup(config: RouterConfig, effect: Effect, priority: u8) -> Host {
    let mut host = Host::of(&checked(&[config], &[check("app", effect)]));
    host.link_up();
    host.hears(priority, ABOVE).unwrap();
    assert_eq!(host.role(), Role::Backup);
    host.begin();
    host
}

fn named_check(name: &str) -> Reason {
    Reason::Check(Arc::from(name))
}

#[test]
fn check_that_means_fault_releases_at_once_without_before_release() {
    let mut host = checked_master(prepared(Handover::Overlap), Effect::Fault);
    host.probe("app", Probe::Failed);
    assert_eq!(host.done, [], "one failure of two");
    host.probe("app", Probe::Failed);
    assert_eq!(host.said(), ["advert 0", "renew", "release", "role fault"]);
    assert_eq!(host.reasons(), [named_check("app")]);
    assert_eq!(host.why().to_string(), "check app failed");
    assert_eq!(named_check("app").name(), "check");
    host.probe("app", Probe::Passed);
    assert_eq!(host.role(), Role::Fault, "one pass of two");
    host.probe("app", Probe::Passed);
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND)));
}

#[test]
fn check_that_means_fault_hands_over_as_in_a_planned_move() {
    let mut host = checked_master(web(), Effect::Fault);
    host.fails("app");
    assert_eq!(host.said(), ["role leaving", "advert 0", "renew"]);
    assert_eq!((host.role(), host.why().to_string()), (Role::Leaving, "check app failed".into()));
    host.wait(millis(413));
    host.begin();
    host.hears(100, BELOW).unwrap();
    host.wait(millis(10));
    assert_eq!(host.times("release"), [millis(5)]);
    assert_eq!(host.said(), ["release", "role fault"]);
    assert_eq!(host.why().to_string(), "check app failed");
}

#[test]
fn check_that_means_fault_releases_if_nobody_takes_over() {
    let mut host = checked_master(web(), Effect::Fault);
    host.fails("app");
    host.begin();
    host.wait(secs(4) - NANO);
    assert_eq!(host.role(), Role::Leaving);
    assert!(host.adverts().iter().all(|advert| advert.priority == Priority::LEAVING));
    host.done.clear();
    host.wait(secs(60));
    assert_eq!(host.said(), ["release", "role fault"]);
}

#[test]
fn check_that_passes_again_while_nobody_takes_over_keeps_the_role() {
    let mut host = checked_master(web(), Effect::Fault);
    host.fails("app");
    host.wait(secs(1));
    host.passes("app");
    host.begin();
    host.wait(secs(60));
    assert_eq!(host.role(), Role::Master);
    assert!(host.times("release").is_empty());
}

#[test]
fn check_that_means_fault_releases_at_once_with_exclusive_handover() {
    let mut host = checked_master(exclusive(), Effect::Fault);
    host.fails("app");
    assert_eq!(host.said(), ["release", "role fault", "advert 0"]);
}

#[test]
fn check_that_means_fault_and_a_link_that_goes_down_release_at_once() {
    let mut host = checked_master(web(), Effect::Fault);
    host.fails("app");
    host.begin();
    host.link_down();
    assert_eq!(host.said(), ["release", "role fault"]);
}

#[test]
fn check_that_fails_in_a_planned_leave_waits_for_its_end() {
    let mut host = checked_master(prepared(Handover::Overlap), Effect::Fault);
    let id = host.router().id();
    host.command(Command::Failover(id));
    host.begin();
    // As `before_release` stops the service, its check fails.
    host.probe("app", Probe::Failed);
    host.probe("app", Probe::Failed);
    assert_eq!(host.role(), Role::Leaving);
    assert_eq!(host.done, []);
    host.hook_ended(Hook::BeforeRelease, true);
    assert_eq!(host.said(), ["role leaving", "advert 0", "renew"]);
    host.begin();
    host.hears(100, BELOW).unwrap();
    host.wait(millis(5));
    assert_eq!(host.said(), ["release", "role fault"]);
    // Without a successor: a failing service gives the address up, as at any other time.
    let mut alone = checked_master(prepared(Handover::Overlap), Effect::Fault);
    alone.command(Command::Failover(alone.router().id()));
    alone.probe("app", Probe::Failed);
    alone.probe("app", Probe::Failed);
    alone.hook_ended(Hook::BeforeRelease, true);
    alone.wait(secs(4));
    assert_eq!(alone.role(), Role::Fault);
}

#[test]
fn check_that_means_fault_is_a_fault_of_the_owner_too() {
    let mut host = checked_master(priority(255), Effect::Fault);
    host.fails("app");
    assert_eq!(host.said(), ["advert 0", "role fault"]);
    host.passes("app");
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn check_of_a_router_that_does_not_name_it_means_nothing_to_it() {
    let mut config = checked(&[web()], &[check("app", Effect::Fault)]);
    config.routers[0].checks = [].into();
    let mut host = Host::of(&config);
    host.link_up();
    host.fails("app");
    assert_eq!(host.role(), Role::Backup);
    assert_eq!(host.node.find_check("app").unwrap().verdict(), Verdict::Failing);
}

#[test]
fn check_with_a_negative_weight_lowers_the_priority_while_it_fails() {
    let mut host = checked_master(web(), Effect::Weight(-60));
    assert_eq!(host.router().effective_priority(), Priority::new(150));
    host.fails("app");
    assert_eq!(host.said(), ["advert 90"], "the next advert leaves at once and carries it");
    host.wait(millis(10));
    host.passes("app");
    assert_eq!(host.said(), ["advert 150"]);
}

#[test]
fn check_with_a_positive_weight_raises_the_priority_while_it_passes() {
    let mut host = checked_master(web(), Effect::Weight(60));
    assert_eq!(host.router().effective_priority(), Priority::new(210));
    host.fails("app");
    assert_eq!(host.said(), ["advert 150"]);
}

#[test]
fn check_changes_in_any_number_bring_one_advert_in_ten_milliseconds() {
    let mut host = checked_master(web(), Effect::Number);
    host.wait(millis(500));
    host.begin();
    for n in 0..100 {
        host.probe("app", Probe::Number(n));
        host.wait(MILLI);
    }
    assert!(host.times("advert").len() <= 11, "{:?}", host.times("advert"));
    assert!(gaps(&host.times("advert")) >= millis(10));
    host.wait(millis(10));
    assert_eq!(host.adverts().last().unwrap().priority, Priority::new(150 + 99));
}

#[test]
fn check_of_a_number_adds_it_and_adds_nothing_while_it_fails() {
    let mut host = checked_master(web(), Effect::Number);
    host.probe("app", Probe::Number(-20));
    assert_eq!(host.router().effective_priority(), Priority::new(130));
    host.probe("app", Probe::Failed);
    assert_eq!(host.router().effective_priority(), Priority::new(130), "one failure of two");
    host.probe("app", Probe::Failed);
    assert_eq!(host.router().effective_priority(), Priority::new(150));
    host.probe("app", Probe::Number(7));
    host.probe("app", Probe::Number(8));
    assert_eq!(host.router().effective_priority(), Priority::new(158));
}

#[test]
fn check_weights_keep_the_priority_in_1_to_254_and_never_touch_255() {
    for (effect, own, expected) in [
        (Effect::Weight(-250), 150, 1),
        (Effect::Weight(-149), 150, 1),
        (Effect::Weight(-148), 150, 2),
        (Effect::Weight(-250), 255, 255),
        (Effect::Last, 255, 255),
        (Effect::Last, 150, 1),
    ] {
        let mut host = checked_master(priority(own), effect);
        host.fails("app");
        assert_eq!(host.router().effective_priority(), Priority::new(expected), "{effect:?}");
        assert_eq!(host.role(), Role::Master);
    }
    for (weight, own, expected) in [(250, 150, 254), (104, 150, 254), (103, 150, 253)] {
        let host = checked_master(priority(own), Effect::Weight(weight));
        assert_eq!(host.router().effective_priority(), Priority::new(expected), "{weight}");
    }
}

#[test]
fn check_weights_add_up() {
    let checks = [
        check("a", Effect::Weight(-60)),
        check("b", Effect::Weight(30)),
        check("c", Effect::Number),
    ];
    let mut host = Host::of(&checked(&[web()], &checks));
    assert_eq!(host.router().effective_priority(), Priority::new(180));
    host.fails("a");
    host.probe("c", Probe::Number(-5));
    assert_eq!(host.router().effective_priority(), Priority::new(115));
    host.fails("b");
    assert_eq!(host.router().effective_priority(), Priority::new(85));
}

#[test]
fn check_that_means_last_leaves_the_address_until_a_better_host_comes() {
    let mut host = checked_master(web(), Effect::Last);
    assert!(!host.router().degraded());
    host.fails("app");
    assert!(host.router().degraded());
    assert_eq!(host.said(), ["advert 1"]);
    host.wait(secs(30));
    assert_eq!(host.role(), Role::Master);
    host.hears(2, BELOW).unwrap();
    host.wait(millis(5));
    assert_eq!(host.role(), Role::Backup);
    host.passes("app");
    assert!(!host.router().degraded());
    host.wait(secs(10));
    assert_eq!(host.role(), Role::Master);
}

/// As a drained master does: a peer that does not preempt takes over after priority 0 only.
#[test]
fn check_that_means_last_offers_the_role_to_hosts_that_do_not_preempt() {
    let offers = |host: &Host| {
        host.adverts().iter().filter(|advert| advert.priority == Priority::LEAVING).count()
    };
    let mut host = checked_master(web(), Effect::Last);
    host.fails("app");
    host.wait(secs(30));
    assert_eq!((offers(&host), host.role()), (3, Role::Master));
    assert!(host.times("release").is_empty());
    host.passes("app");
    host.begin();
    host.wait(secs(30));
    assert_eq!(offers(&host), 0);
    // Each offer would have to follow a release.
    let mut host = checked_master(exclusive(), Effect::Last);
    host.fails("app");
    host.wait(secs(30));
    assert_eq!((offers(&host), host.role()), (0, Role::Master));
    let mut host = checked_master(priority(255), Effect::Last);
    host.fails("app");
    host.wait(secs(30));
    assert_eq!(offers(&host), 0);
}

#[test]
fn check_that_sinks_a_backup_lengthens_its_skew_and_one_that_mends_shortens_it() {
    let mut host = checked_backup(web(), Effect::Weight(-100), 200);
    host.wait(SECOND);
    host.fails("app");
    assert_eq!(host.until_deadline(), Some(master_down(50, SECOND) - SECOND));
    host.wait(SECOND);
    host.passes("app");
    assert_eq!(host.until_deadline(), Some(master_down(150, SECOND) - 2 * SECOND));
    host.hears(0, ABOVE).unwrap();
    host.fails("app");
    assert_eq!(host.until_deadline(), Some(skew(50, SECOND)));
}

#[test]
fn check_that_changes_the_priority_does_not_cut_a_delay_short() {
    let delayed = RouterConfig { link_delay: secs(20), ..web() };
    let mut host = checked_backup(delayed, Effect::Weight(-100), 200);
    host.hears(0, ABOVE).unwrap();
    host.fails("app");
    host.passes("app");
    host.wait(secs(20) - NANO);
    assert_eq!(host.role(), Role::Backup);
    host.wait(NANO);
    assert_eq!(host.role(), Role::Master);
}

#[test]
fn check_that_raises_a_backup_above_the_master_makes_it_take_over_without_priority_0() {
    let mut host = checked_backup(web(), Effect::Weight(-100), 100);
    host.fails("app");
    for _ in 0..5 {
        host.hears(100, ABOVE).unwrap();
        host.wait(SECOND);
    }
    host.hears(100, ABOVE).unwrap();
    host.passes("app");
    let mut waited = Duration::ZERO;
    while host.role() == Role::Backup {
        host.hears(100, ABOVE).unwrap();
        host.wait(millis(100));
        waited += millis(100);
        assert!(waited <= master_down(150, SECOND) + millis(100), "{waited:?}");
    }
}

#[test]
fn preempt_delay_begins_when_the_priority_rises_above_the_masters() {
    let slow = RouterConfig { preempt_delay: secs(10), ..web() };
    let mut host = checked_backup(slow, Effect::Weight(-100), 100);
    host.fails("app");
    for _ in 0..20 {
        host.hears(100, ABOVE).unwrap();
        host.wait(SECOND);
    }
    host.passes("app");
    host.begin();
    for _ in 0..20 {
        host.hears(100, ABOVE).unwrap();
        host.wait(SECOND);
    }
    let claimed = host.times("claim")[0];
    assert!(claimed >= secs(10), "{claimed:?}");
    assert!(claimed <= secs(15), "{claimed:?}");
}

#[test]
fn check_without_a_verdict_makes_wait_but_not_for_ever() {
    let mut host = Host::of(&checked(&[web()], &[waiting(check("app", Effect::Fault))]));
    host.link_up();
    assert_eq!(host.done, [], "no hook, and above all no fault hook");
    assert_eq!(host.role(), Role::Waiting);
    assert_eq!(host.reasons(), [Reason::Unchecked]);
    host.wait(secs(10) - NANO);
    assert_eq!(host.role(), Role::Waiting);
    host.wait(NANO);
    assert_eq!(host.said(), ["role backup"]);
    host.wait(master_down(150, SECOND));
    assert_eq!(host.role(), Role::Master, "as if there were no such check");
    host.probe("app", Probe::Failed);
    assert_eq!(host.role(), Role::Leaving, "the first result decides");
}

#[test]
fn check_that_passes_ends_the_wait_for_it() {
    let both = [waiting(check("a", Effect::Fault)), waiting(check("b", Effect::Weight(10)))];
    let mut host = Host::of(&checked(&[web()], &both));
    host.link_up();
    host.probe("a", Probe::Passed);
    assert_eq!(host.role(), Role::Waiting);
    host.probe("b", Probe::Failed);
    assert_eq!(host.said(), ["role backup"]);
}

#[test]
fn check_that_fails_first_ends_the_wait_in_fault() {
    let mut host = Host::of(&checked(&[web()], &[waiting(check("app", Effect::Fault))]));
    host.link_up();
    host.probe("app", Probe::Failed);
    assert_eq!(host.said(), ["role fault"]);
    assert_eq!(host.reasons(), [named_check("app")]);
}

#[test]
fn check_that_counts_as_failing_at_first_keeps_from_taking_part() {
    let mut host = Host::of(&checked(&[web()], &[failing(check("app", Effect::Fault))]));
    host.link_up();
    assert_eq!(host.said(), ["role fault"]);
    host.passes("app");
    assert_eq!(host.role(), Role::Backup);
}

#[test]
fn resume_comes_before_the_first_results_of_checks() {
    for new in [waiting, failing] {
        let config = checked(&[web()], &[new(check("app", Effect::Fault))]);
        let mut host = Host::of(&config);
        host.feed(Event::Found(WEB, KILLED)).unwrap();
        host.link_up();
        assert_eq!(host.role(), Role::Master);
        host.wait(secs(20));
        host.probe("app", Probe::Passed);
        assert_eq!(host.role(), Role::Master);
        host.fails("app");
        assert_eq!(host.role(), Role::Leaving, "then they count as they come");
    }
}

#[test]
fn check_that_a_reload_adds_does_not_make_a_master_leave_before_it_has_failed() {
    for new in [waiting, failing] {
        let mut host = Host::master(web());
        let config = checked(&[web()], &[new(check("app", Effect::Fault))]);
        host.reload_all(&config);
        assert_eq!(host.done, []);
        host.probe("app", Probe::Failed);
        assert_eq!(host.role(), Role::Leaving);
    }
}

#[test]
fn check_keeps_its_verdict_over_a_reload() {
    let config = checked(&[web()], &[check("app", Effect::Fault)]);
    let mut host = Host::of(&config);
    host.link_up();
    host.fails("app");
    let (id, since) = {
        let check = host.node.find_check("app").unwrap();
        (check.id(), check.since())
    };
    host.wait(SECOND);
    host.begin();
    let more = checked(&[web()], &[check("new", Effect::Number), check("app", Effect::Fault)]);
    host.reload_all(&more);
    let kept = host.node.find_check("app").unwrap();
    assert_eq!((kept.id(), kept.since(), kept.verdict()), (id, since, Verdict::Failing));
    assert_eq!(host.done, []);
    assert_eq!(host.role(), Role::Fault);
}

#[test]
fn check_that_a_reload_removes_is_a_fault_no_longer() {
    let mut host = Host::of(&checked(&[web()], &[check("app", Effect::Fault)]));
    host.link_up();
    host.fails("app");
    host.begin();
    host.reload(&[web()]);
    assert_eq!(host.said(), ["role backup"]);
}

#[test]
fn check_whose_effect_a_reload_changes_counts_in_the_new_way() {
    let mut host = checked_master(web(), Effect::Weight(-20));
    host.fails("app");
    host.begin();
    host.reload_all(&checked(&[web()], &[check("app", Effect::Last)]));
    host.wait(millis(10));
    assert_eq!(host.said(), ["advert 1"]);
    host.reload_all(&checked(&[web()], &[check("app", Effect::Fault)]));
    assert_eq!(host.role(), Role::Leaving);
}

#[test]
fn check_verdicts_come_after_rise_passes_and_fall_failures() {
    let config = CheckConfig { fall: 3, rise: 2, ..waiting(check("app", Effect::Fault)) };
    let mut host = Host::of(&checked(&[web()], &[config]));
    let mut verdict = |probe| {
        host.probe("app", probe);
        let check = host.node.find_check("app").unwrap();
        (check.verdict(), check.streak())
    };
    use Verdict::{Failing, Passing};
    assert_eq!(verdict(Probe::Passed), (Passing, 1), "the first decides");
    assert_eq!(verdict(Probe::Failed), (Passing, 1));
    assert_eq!(verdict(Probe::Failed), (Passing, 2));
    assert_eq!(verdict(Probe::Passed), (Passing, 1));
    assert_eq!(verdict(Probe::Failed), (Passing, 1));
    assert_eq!(verdict(Probe::Failed), (Passing, 2));
    assert_eq!(verdict(Probe::Failed), (Failing, 3));
    assert_eq!(verdict(Probe::Passed), (Failing, 1));
    assert_eq!(verdict(Probe::Number(1)), (Passing, 2));
}
