//! Faults on the host and on the LAN of a vipd; their effects must not exceed what the protocol
//! allows.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{
    Daemon, Host, Lab, Malformation, Prober, Program, RouterSpec, Stranger, Switch, configuration,
    connects, wait_for,
};
use nix::sys::signal::Signal;

use crate::suite::{Test, tests};

pub const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
pub const SHARED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 100));
pub const VRID: u8 = 51;
/// A time limit for what should happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(3);

pub fn tests() -> Vec<Test> {
    tests![
        an_interface_that_appears_late_is_waited_for,
        a_master_whose_interface_goes_down_is_replaced_and_comes_back,
        a_master_without_carrier_is_replaced_and_comes_back,
        a_deleted_interface_that_is_created_again_is_used_again,
        an_interface_is_followed_by_its_name,
        many_routers_on_many_interfaces_elect_and_move_on_their_own,
        a_broken_file_changes_nothing_and_a_good_one_is_applied,
        a_second_daemon_is_refused_and_told_the_pid_of_the_first,
        hooks_run_in_order_with_the_arguments_of_keepalived,
        malformed_adverts_once_an_interval_have_no_effect,
        a_thousand_malformed_adverts_a_second_have_no_effect,
        a_thousand_lower_adverts_a_second_cause_no_flood_of_answers,
        an_address_removed_by_hand_is_put_back,
        the_address_of_a_killed_daemon_ends_before_its_peer_claims_it,
        the_address_of_a_frozen_daemon_ends_before_its_peer_claims_it,
        addresses_of_a_killed_daemon_are_removed_by_the_next,
        addresses_are_removed_from_an_interface_that_the_next_daemon_does_not_name,
        a_daemon_that_is_killed_and_back_at_once_stays_master,
        an_address_that_another_program_added_is_never_touched,
        an_equal_address_of_another_daemon_on_the_host_is_never_touched,
        a_healed_partition_leaves_one_master_that_announces_itself,
        planned_moves_lose_no_datagram,
        a_lone_master_that_is_stopped_removes_its_addresses,
        addresses_that_are_not_advertised_move_along_with_the_routes_to_their_subnets,
    ]
}

/// The keys `unadvertised_addresses` and `claim_prefix`.
fn addresses_that_are_not_advertised_move_along_with_the_routes_to_their_subnets() {
    let more = "unadvertised_addresses = [\"198.51.100.7/24\", \"2001:db8:7::1/64\"]\n\
                claim_prefix = true\n";
    let with = |priority| RouterSpec { more: spec(priority).more + more, ..spec(priority) };
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let more: [IpAddr; 2] = ["198.51.100.7", "2001:db8:7::1"].map(|ip| ip.parse().unwrap());
    // Its addresses are in the subnets in which the hosts have none of their own.
    let client = lab.bare_host("client", 9).unwrap();
    client.connect("eth0", Switch::LAN).unwrap();
    for (ip, prefix) in [("198.51.100.9", 24), ("2001:db8:7::9", 64)] {
        client.namespace().links().add_address("eth0", ip.parse().unwrap(), prefix).unwrap();
    }
    for host in [&a, &b] {
        more.iter().for_each(|ip| host.echo(*ip).unwrap());
    }
    let reached = || more.iter().all(|ip| connects(&client, *ip, Duration::from_secs(2)));
    let (mut daemon_a, daemon_b) = (start(&a, &[with(150)]), start(&b, &[with(100)]));
    let expected = [(SHARED, 32), (more[0], 32), (more[1], 128)];
    let held = |host: &Host| {
        let all = host.namespace().links().addresses().unwrap();
        let holds = |(ip, prefix): &(IpAddr, u8)| {
            all.iter().any(|(_, there, length)| (there, length) == (ip, prefix))
        };
        expected.iter().filter(|address| holds(address)).count()
    };
    expect_master(&lab, "a", &[&daemon_a, &daemon_b]);
    assert_eq!((held(&a), held(&b)), (3, 0), "{}", daemon_a.log());
    let (_, advert) = lab.observer().adverts("a", Instant::now() - SOON).pop().unwrap();
    assert_eq!(advert.addresses, [SHARED]);
    assert!(reached(), "{}", daemon_a.log());
    daemon_a.stop(SOON).unwrap();
    expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    assert_eq!((held(&a), held(&b)), (0, 3), "{}", daemon_b.log());
    assert!(reached(), "{}", daemon_b.log());
}

fn an_interface_that_appears_late_is_waited_for() {
    let lab = Lab::new().unwrap();
    let a = lab.bare_host("a", 1).unwrap();
    let mut daemon = start(&a, &[spec(150)]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(daemon.is_running(), "{}", daemon.log());
    a.connect("eth0", Switch::LAN).unwrap();
    expect_master(&lab, "a", &[&daemon]);
}

fn a_master_whose_interface_goes_down_is_replaced_and_comes_back() {
    taken_away_and_given_back(|a| a.down("eth0").unwrap(), |a| a.up("eth0").unwrap());
}

fn a_master_without_carrier_is_replaced_and_comes_back() {
    taken_away_and_given_back(|a| a.unplug("eth0").unwrap(), |a| a.plug("eth0").unwrap());
}

fn a_deleted_interface_that_is_created_again_is_used_again() {
    taken_away_and_given_back(
        |a| a.delete("eth0").unwrap(),
        |a| a.connect("eth0", Switch::LAN).unwrap(),
    );
}

fn an_interface_is_followed_by_its_name() {
    taken_away_and_given_back(
        |a| a.rename("eth0", "eth9").unwrap(),
        |a| a.rename("eth9", "eth0").unwrap(),
    );
}

/// The interface of the better host goes and comes back, twice.
fn taken_away_and_given_back(take: impl Fn(&Host), give: impl Fn(&Host)) {
    let mut pair = Pair::start();
    let Pair { lab, a, b, daemon_a, daemon_b } = &mut pair;
    for _ in 0..2 {
        take(a);
        expect_master(lab, "b", &[daemon_a, daemon_b]);
        assert!(!a.holds(SHARED).unwrap_or(true), "{}", daemon_a.log());
        give(a);
        expect_master(lab, "a", &[daemon_a, daemon_b]);
        assert!(!b.holds(SHARED).unwrap());
        assert!(daemon_a.is_running());
    }
}

fn many_routers_on_many_interfaces_elect_and_move_on_their_own() {
    let lab = Lab::new().unwrap();
    let lans = [Switch::LAN, lab.switch(1).unwrap(), lab.switch(2).unwrap()];
    let hosts = [lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap()];
    for host in &hosts {
        host.connect("eth1", lans[1]).unwrap();
        host.connect("eth2", lans[2]).unwrap();
    }
    // Of every two routers a is master of one and b of the other; the same VRIDs on every LAN and
    // in both families are different routers.
    let routers = |favoured: u8| -> Vec<(u8, RouterSpec)> {
        let mut routers = Vec::new();
        for (number, lan) in lans.iter().enumerate() {
            for vrid in 1..=4_u8 {
                for ip in [IpAddr::from(lan.ipv4(100 + vrid)), IpAddr::from(lan.ipv6(100 + vrid))] {
                    let best = vrid % 2;
                    let family = if ip.is_ipv4() { "v4" } else { "v6" };
                    routers.push((
                        best,
                        RouterSpec {
                            name: format!("r{number}-{vrid}-{family}"),
                            interface: format!("eth{number}"),
                            vrid,
                            ..RouterSpec::new(ip, if best == favoured { 150 } else { 100 })
                        },
                    ));
                }
            }
        }
        routers
    };
    let specs = |favoured| routers(favoured).into_iter().map(|(_, spec)| spec).collect::<Vec<_>>();
    let mut daemon_a = start(&hosts[0], &specs(0));
    let daemon_b = start(&hosts[1], &specs(1));
    let at = |best: &dyn Fn(u8) -> &'static str| {
        let settled = || {
            let mut all = routers(0).into_iter();
            all.all(|(of, spec)| lab.owners(spec.addresses[0]) == [best(of)]).then_some(())
        };
        let settled = wait_for(2 * SOON, settled);
        assert!(settled.is_some(), "{}\n{}", daemon_a.log(), daemon_b.log());
    };
    at(&|of| if of == 0 { "a" } else { "b" });
    hosts[0].cut().unwrap();
    at(&|_| "b");
    daemon_a.crash();
}

fn a_broken_file_changes_nothing_and_a_good_one_is_applied() {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let mut daemon = start(&a, &[spec(150)]);
    expect_master(&lab, "a", &[&daemon]);
    let began = Instant::now();
    let good = fs::read_to_string(daemon.config()).unwrap();

    fs::write(daemon.config(), good.replace("addresses", "adresses")).unwrap();
    daemon.signal(Signal::SIGHUP).unwrap();
    std::thread::sleep(Duration::from_millis(700));
    assert!(daemon.is_running(), "{}", daemon.log());
    assert!(daemon.log().contains("adresses"), "the log names the mistake:\n{}", daemon.log());

    let second: IpAddr = "192.0.2.101".parse().unwrap();
    let more = good.replace("\"192.0.2.100\"", "\"192.0.2.100\", \"192.0.2.101\"");
    fs::write(daemon.config(), more).unwrap();
    daemon.signal(Signal::SIGHUP).unwrap();
    let added = wait_for(SOON, || (lab.owners(second) == ["a"]).then_some(()));
    assert!(added.is_some(), "{}", daemon.log());
    let ended = Instant::now();
    assert_eq!(lab.ownership(SHARED, began, ended).changes, 0, "{}", daemon.log());
    expect_no_gap(&lab, began, ended);
}

fn a_second_daemon_is_refused_and_told_the_pid_of_the_first() {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let daemon = start(&a, &[spec(150)]);
    expect_master(&lab, "a", &[&daemon]);
    let other_dir = a.dir().join("other");
    fs::create_dir(&other_dir).unwrap();
    for (runtime, why) in
        [(a.runtime_dir().unwrap(), "the same directory"), (other_dir, "the same router")]
    {
        let mut command = Command::new(VIPD);
        command.arg("run").arg("--config").arg(daemon.config());
        command.arg("--runtime-dir").arg(runtime).arg("--lock-dir").arg(a.lock_dir());
        command.arg("--state-dir").arg(a.dir().join("state"));
        let log = a.dir().join(why);
        let mut second = Daemon::spawn(&a, &command, daemon.config().into(), log).unwrap();
        let status = second.wait(SOON).unwrap();
        let refused = status.is_some_and(|status| status.code() == Some(1));
        assert!(refused, "{why}: {status:?}\n{}", second.log());
        let pid = daemon.pid().to_string();
        assert!(second.log().contains(&pid), "{why}: no pid {pid} in\n{}", second.log());
    }
    expect_master(&lab, "a", &[&daemon]);
}

fn hooks_run_in_order_with_the_arguments_of_keepalived() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let said = a.dir().join("said");
    let hook = |name: &str| {
        let file = a.dir().join(name);
        let script = format!(
            "#!/bin/sh\necho \"{name} $* $VIPD_ROUTER $VIPD_STATE $VIPD_INTERFACE\" >>{}\n",
            said.display()
        );
        executable(&file, &script);
        file.display().to_string()
    };
    let table = format!(
        "[virtual_router.hooks]\nnotify = \"{}\"\nmaster = [\"{}\", \"fast\"]\nstop = \"{}\"\n",
        hook("notify"),
        hook("master"),
        hook("stop")
    );
    let better = RouterSpec { more: spec(150).more + &table, ..spec(150) };
    let mut daemon = start(&a, &[better]);
    let heard = |what: &str| {
        let found = wait_for(SOON, || {
            let text = fs::read_to_string(&said).unwrap_or_default();
            text.lines().any(|line| line.starts_with(what)).then_some(())
        });
        let text = fs::read_to_string(&said).unwrap_or_default();
        assert!(found.is_some(), "no \"{what}\" in\n{text}\n{}", daemon.log());
    };
    expect_master(&lab, "a", &[&daemon]);
    heard("master fast web master eth0");
    heard("notify INSTANCE web MASTER 150 web master eth0");

    let best = start(&b, &[spec(200)]);
    expect_master(&lab, "b", &[&daemon, &best]);
    heard("notify INSTANCE web BACKUP 150 web backup eth0");
    drop(best);
    expect_master(&lab, "a", &[&daemon]);

    daemon.stop(SOON).unwrap();
    let text = fs::read_to_string(&said).unwrap();
    let states: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("notify "))
        .filter_map(|line| line.split(' ').nth(3))
        .collect();
    assert!(states.ends_with(&["MASTER", "BACKUP", "MASTER", "STOP"]), "{text}");
    assert!(text.lines().any(|line| line.starts_with("stop web") || line.starts_with("stop  web")));
}

fn malformed_adverts_once_an_interval_have_no_effect() {
    malformed(Duration::from_millis(100), Duration::from_secs(5));
}

fn a_thousand_malformed_adverts_a_second_have_no_effect() {
    malformed(Duration::from_millis(1), Duration::from_secs(3));
}

/// Adverts of a higher priority, each malformed in its own way, must have no effect.
fn malformed(period: Duration, span: Duration) {
    let pair = Pair::start();
    let Pair { lab, daemon_a, daemon_b, .. } = &pair;
    let mallory = lab.host("mallory", 66).unwrap();
    let began = Instant::now();
    let stranger = Stranger::start(
        &mallory,
        VRID,
        250,
        Duration::from_millis(100),
        "192.0.2.100".parse().unwrap(),
        &Malformation::ALL,
        period,
    )
    .unwrap();
    std::thread::sleep(span);
    let ended = Instant::now();
    let enough = span.as_millis() / period.as_millis() / 2;
    assert!(u128::from(stranger.sent()) > enough, "only {} were sent", stranger.sent());
    drop(stranger);
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    assert_eq!(lab.ownership(SHARED, began, ended).changes, 0, "{logs}");
    expect_no_gap(lab, began, ended);
    assert!(logs.lines().count() < 60, "too much is logged:\n{logs}");
}

fn a_thousand_lower_adverts_a_second_cause_no_flood_of_answers() {
    let pair = Pair::start();
    let Pair { lab, daemon_a, daemon_b, .. } = &pair;
    let mallory = lab.host("mallory", 66).unwrap();
    let began = Instant::now();
    let seconds = 4;
    let stranger = Stranger::start(
        &mallory,
        VRID,
        1,
        Duration::from_millis(100),
        "192.0.2.100".parse().unwrap(),
        &[Malformation::None],
        Duration::from_millis(1),
    )
    .unwrap();
    std::thread::sleep(Duration::from_secs(seconds));
    let ended = Instant::now();
    let sent = stranger.sent();
    drop(stranger);
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    assert!(sent > 500 * seconds, "only {sent} were sent");
    assert_eq!(lab.ownership(SHARED, began, ended).changes, 0, "{logs}");
    expect_no_gap(lab, began, ended);
    let until = |at: &Instant| *at < ended;
    let adverts = lab.observer().adverts("a", began);
    let adverts = adverts.iter().map(|(at, _)| at).filter(|at| until(at)).count();
    let regular = 10 * usize::try_from(seconds).unwrap();
    assert!(adverts > regular, "a lower advert is answered: {adverts}");
    assert!(adverts <= 11 * regular + 20, "{adverts} adverts in {seconds} s");
    let announcements = lab.observer().announcements("a", SHARED, began);
    let announcements = announcements.iter().filter(|at| until(at)).count();
    // Announcements of its own start may still be due.
    assert!(announcements <= 6 + 3, "{announcements} announcements in {seconds} s");
}

fn an_address_removed_by_hand_is_put_back() {
    let pair = Pair::start();
    let Pair { lab, a, daemon_a, daemon_b, .. } = &pair;
    std::thread::sleep(Duration::from_millis(300));
    for _ in 0..2 {
        let began = Instant::now();
        a.namespace().links().remove_address("eth0", SHARED, 32).unwrap();
        let back = wait_for(SOON, || (a.holds(SHARED).unwrap()).then_some(()));
        assert!(back.is_some(), "{}", daemon_a.log());
        expect_master(lab, "a", &[daemon_a, daemon_b]);
        let announced = wait_for(SOON, || {
            (!lab.observer().announcements("a", SHARED, began).is_empty()).then_some(())
        });
        assert!(announced.is_some(), "{}", daemon_a.log());
        assert!(lab.observer().adverts("b", began).is_empty(), "{}", daemon_b.log());
        std::thread::sleep(Duration::from_millis(1200));
    }
}

fn the_address_of_a_killed_daemon_ends_before_its_peer_claims_it() {
    ends_by_lease(Signal::SIGKILL);
}

fn the_address_of_a_frozen_daemon_ends_before_its_peer_claims_it() {
    ends_by_lease(Signal::SIGSTOP);
}

/// With adverts of a second, the kernel removes the address of a dead or frozen daemon before the
/// master-down interval of its peer ends.
fn ends_by_lease(signal: Signal) {
    let slow = |priority| RouterSpec { interval: Duration::from_secs(1), ..spec(priority) };
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_a = start(&a, &[slow(150)]);
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[slow(100)]);
    std::thread::sleep(Duration::from_millis(1500));
    let began = Instant::now();
    daemon_a.signal_all(signal).unwrap();
    expect_master_within(&lab, "b", 3 * SOON, &[&daemon_a, &daemon_b]);
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.total_two, Duration::ZERO, "{ownership:?}");
    if signal == Signal::SIGSTOP {
        daemon_a.signal_all(Signal::SIGCONT).unwrap();
        expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a, &daemon_b]);
        let ownership = lab.ownership(SHARED, began, Instant::now());
        assert!(ownership.longest_two < Duration::from_millis(500), "{ownership:?}");
    }
}

fn addresses_of_a_killed_daemon_are_removed_by_the_next() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let text = spec(150).more + "address_lifetime = \"off\"\n";
    let keeps = RouterSpec { preempt: false, more: text, ..spec(150) };
    let mut daemon_a = start(&a, std::slice::from_ref(&keeps));
    expect_master(&lab, "a", &[&daemon_a]);
    let daemon_b = start(&b, &[RouterSpec { preempt: false, ..spec(100) }]);
    std::thread::sleep(Duration::from_millis(500));
    daemon_a.crash();
    let taken = wait_for(SOON, || (lab.owners(SHARED) == ["a", "b"]).then_some(()));
    assert!(taken.is_some(), "{}", daemon_b.log());
    let daemon_a = start(&a, &[keeps]);
    expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    assert!(!a.holds(SHARED).unwrap());
}

fn addresses_are_removed_from_an_interface_that_the_next_daemon_does_not_name() {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let text = spec(150).more + "address_lifetime = \"off\"\n";
    let keeps = RouterSpec { more: text, ..spec(150) };
    let mut daemon = start(&a, std::slice::from_ref(&keeps));
    expect_master(&lab, "a", &[&daemon]);
    daemon.crash();
    assert!(a.holds(SHARED).unwrap());
    let daemon = start(&a, &[RouterSpec { interface: "eth1".to_owned(), ..keeps }]);
    let gone = wait_for(SOON, || (!a.holds(SHARED).unwrap()).then_some(()));
    assert!(gone.is_some(), "{}", daemon.log());
}

fn a_daemon_that_is_killed_and_back_at_once_stays_master() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let slow = |priority| RouterSpec { interval: Duration::from_secs(1), ..spec(priority) };
    let mut daemon_a = start(&a, &[slow(150)]);
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[slow(100)]);
    std::thread::sleep(Duration::from_millis(1500));
    let began = Instant::now();
    daemon_a.crash();
    let daemon_a = start(&a, &[slow(150)]);
    std::thread::sleep(Duration::from_secs(5));
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.changes, 0, "{ownership:?}\n{}", daemon_a.log());
    assert!(lab.observer().adverts("b", began).is_empty(), "{}", daemon_b.log());
}

fn an_address_that_another_program_added_is_never_touched() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    a.namespace().links().add_address("eth0", SHARED, 24).unwrap();
    let copies = || {
        let all = a.namespace().links().addresses().unwrap();
        let shared = all.into_iter().filter(|(_, ip, _)| *ip == SHARED);
        shared.map(|(_, _, prefix)| prefix).collect::<Vec<_>>()
    };
    let mut daemon_a = start(&a, &[spec(150)]);
    let daemon_b = start(&b, &[spec(100)]);
    let elected =
        wait_for(SOON, || (lab.observer().master(VRID).as_deref() == Some("b")).then_some(()));
    assert!(elected.is_some(), "{}\n{}", daemon_a.log(), daemon_b.log());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(copies(), [24], "{}", daemon_a.log());
    daemon_a.stop(SOON).unwrap();
    assert_eq!(copies(), [24], "{}", daemon_a.log());
}

/// Two daemons, each with a virtual router, an interface and directories of its own: by mistake they have
/// an address in common.
fn an_equal_address_of_another_daemon_on_the_host_is_never_touched() {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let off = spec(150).more + "address_lifetime = \"off\"\n";
    let keeps = RouterSpec { more: off, ..spec(150) };
    let mut first = start(&a, std::slice::from_ref(&keeps));
    expect_master(&lab, "a", &[&first]);
    let began = Instant::now();

    let dir = a.dir().join("second");
    let (config, log) = (dir.join("vipd.toml"), dir.join("log"));
    fs::create_dir_all(&dir).unwrap();
    let other = RouterSpec { vrid: 52, ..keeps.clone() };
    let text = configuration("a", &Program::Vipd(VIPD.into()), &[other]);
    fs::write(&config, text).unwrap();
    let second = |name: &str| {
        let mut command = Command::new(VIPD);
        command.arg(name).arg("--config").arg(&config).arg("--runtime-dir").arg(dir.join("run"));
        if name != "doctor" {
            command.arg("--lock-dir").arg(a.lock_dir());
        }
        if name == "run" {
            command.arg("--state-dir").arg(dir.join("state"));
        }
        Daemon::spawn(&a, &command, config.clone(), log.clone()).unwrap()
    };
    let says = |daemon: &Daemon, text: &str| {
        let said = wait_for(SOON, || daemon.log().contains(text).then_some(()));
        assert!(said.is_some(), "{}", daemon.log());
    };
    // It neither takes the address over, nor removes it when it starts again or stops.
    let why = "a shared address that this vipd did not put there was already on the interface";
    let mut daemon = second("run");
    says(&daemon, why);
    daemon.crash();
    fs::write(&log, "").unwrap();
    let mut daemon = second("run");
    says(&daemon, why);
    std::thread::sleep(Duration::from_millis(500));
    let mut doctor = second("doctor");
    doctor.wait(5 * SOON).unwrap();
    says(&doctor, "another vipd on this host has this address, for IPv4 VRID 51");
    daemon.stop(SOON).unwrap();
    assert_eq!(lab.ownership(SHARED, began, Instant::now()).changes, 0, "{}", daemon.log());
    assert!(!first.log().contains("removed"), "{}", first.log());

    // Also not when the other one is gone: that is for its own cleanup, or its next start.
    first.crash();
    let mut cleanup = second("cleanup");
    cleanup.wait(SOON).unwrap();
    says(&cleanup, "192.0.2.100 on eth0 stays");
    assert!(a.holds(SHARED).unwrap());
    let elsewhere = RouterSpec { vrid: 53, addresses: vec![[192, 0, 2, 99].into()], ..keeps };
    let mut first = start(&a, std::slice::from_ref(&elsewhere));
    let gone = wait_for(SOON, || (!a.holds(SHARED).unwrap()).then_some(()));
    assert!(gone.is_some(), "{}", first.log());

    // What the record of a daemon names is left alone if another one has that virtual router now.
    first.crash();
    let other = RouterSpec { addresses: vec![SHARED, [192, 0, 2, 99].into()], ..elsewhere.clone() };
    let text = configuration("a", &Program::Vipd(VIPD.into()), &[other]);
    fs::write(&config, text).unwrap();
    let mut daemon = second("run");
    let taken = wait_for(SOON, || a.holds(SHARED).unwrap().then_some(()));
    assert!(taken.is_some(), "{}", daemon.log());
    let began = Instant::now();
    let first =
        start(&a, &[RouterSpec { vrid: 54, addresses: vec![[192, 0, 2, 98].into()], ..elsewhere }]);
    let ready = wait_for(SOON, || a.holds([192, 0, 2, 98].into()).unwrap().then_some(()));
    assert!(ready.is_some(), "{}", first.log());
    for ip in [SHARED, [192, 0, 2, 99].into()] {
        let ownership = lab.ownership(ip, began, Instant::now());
        assert_eq!(ownership.changes, 0, "{ip}: {ownership:?}\n{}", first.log());
    }
    daemon.stop(SOON).unwrap();
}

fn a_healed_partition_leaves_one_master_that_announces_itself() {
    let pair = Pair::start();
    let Pair { lab, a, daemon_a, daemon_b, .. } = &pair;
    a.cut().unwrap();
    expect_master(lab, "b", &[daemon_a, daemon_b]);
    // Host a stays master on its side of the cut.
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    a.heal().unwrap();
    expect_master(lab, "a", &[daemon_a, daemon_b]);
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert!(ownership.longest_two < Duration::from_secs(1), "{ownership:?}");
    let announced = wait_for(SOON, || {
        (!lab.observer().announcements("a", SHARED, began).is_empty()).then_some(())
    });
    assert!(announced.is_some(), "{}", daemon_a.log());
}

fn planned_moves_lose_no_datagram() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let client = lab.host("client", 200).unwrap();
    a.answer(SHARED).unwrap();
    b.answer(SHARED).unwrap();
    let daemon_b = start(&b, &[spec(100)]);
    expect_master(&lab, "b", &[&daemon_b]);
    let prober = Prober::start(&client, SHARED, Duration::from_millis(2)).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    for _ in 0..3 {
        let mut daemon_a = start(&a, &[spec(150)]);
        expect_master(&lab, "a", &[&daemon_a, &daemon_b]);
        daemon_a.stop(SOON).unwrap();
        expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    }
    std::thread::sleep(2 * Prober::TOO_LATE);
    let report = prober.report(began, Instant::now());
    assert_eq!(report.lost, 0, "{report:?}");
    assert!(report.answered_by.len() == 2, "{report:?}");
}

fn a_lone_master_that_is_stopped_removes_its_addresses() {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let mut daemon = start(&a, &[spec(150)]);
    expect_master(&lab, "a", &[&daemon]);
    let status = daemon.stop(SOON).unwrap();
    assert!(status.success(), "{status}\n{}", daemon.log());
    assert!(!a.holds(SHARED).unwrap());
    let priority_zero = lab.observer().adverts("a", Instant::now() - SOON);
    assert_eq!(priority_zero.last().map(|(_, advert)| advert.priority), Some(0));
}

/// Two hosts with vipd, the better of which is master.
pub struct Pair {
    // In the order in which they may end.
    pub daemon_a: Daemon,
    pub daemon_b: Daemon,
    pub a: Host,
    pub b: Host,
    pub lab: Lab,
}

impl Pair {
    pub fn start() -> Self {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        let (daemon_a, daemon_b) = (start(&a, &[spec(150)]), start(&b, &[spec(100)]));
        expect_master(&lab, "a", &[&daemon_a, &daemon_b]);
        Self { daemon_a, daemon_b, a, b, lab }
    }
}

pub fn spec(priority: u8) -> RouterSpec {
    RouterSpec::new(SHARED, priority)
}

pub fn start(host: &Host, routers: &[RouterSpec]) -> Daemon {
    Daemon::start(host, &Program::Vipd(VIPD.into()), routers).unwrap()
}

pub fn expect_master(lab: &Lab, host: &str, daemons: &[&Daemon]) {
    expect_master_within(lab, host, SOON, daemons);
}

/// The shared address is on this host alone, and this host advertises.
pub fn expect_master_within(lab: &Lab, host: &str, timeout: Duration, daemons: &[&Daemon]) {
    let settled = wait_for(timeout, || {
        (lab.owners(SHARED) == [host] && lab.observer().master(VRID).as_deref() == Some(host))
            .then_some(())
    });
    let logs: Vec<_> = daemons.iter().map(|daemon| daemon.log()).collect();
    assert!(
        settled.is_some(),
        "{host} is not master, but {:?} on the wire and {:?} by address\n{}",
        lab.observer().master(VRID),
        lab.owners(SHARED),
        logs.join("\n")
    );
}

/// No advert of a was missing.
pub fn expect_no_gap(lab: &Lab, from: Instant, to: Instant) {
    let longest = lab.longest_gap("a", from, to);
    assert!(longest < Duration::from_millis(250), "no advert for {longest:?}");
}

pub fn executable(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}
