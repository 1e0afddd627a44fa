//! The fault table in short: one run of what `cargo bench --bench faults` measures, with wide
//! bounds, and what has no figure.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::lab::{
    self, Daemon, EchoConnection, Host, Lab, Lost, Prober, Program, RouterSpec, Switch, connects,
    wait_for,
};
use nix::sys::signal::Signal;

use crate::fault::{
    Pair, SHARED, SOON, VIPD, VRID, executable, expect_master, expect_master_within, spec, start,
};
use crate::scenario::vipd;
use crate::suite::{Test, TestResult, programs, tests};

#[derive(Clone, Copy)]
pub enum Peer {
    Vipd,
    Keepalived,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Vipd => "vipd",
            Peer::Keepalived => "keepalived",
        }
    }

    pub fn program(self) -> Result<Program, String> {
        match self {
            Peer::Vipd => Ok(Program::Vipd(VIPD.into())),
            Peer::Keepalived => lab::keepalived()
                .map(Program::Keepalived)
                .ok_or_else(|| "keepalived is not installed".to_owned()),
        }
    }
}

pub fn tests() -> Vec<Test> {
    let beside = |peer: Peer| {
        tests![
            (peer);
            a_starting_host_that_hears_nothing_for_20_s_takes_over_from_nobody,
            a_starting_host_that_hears_nothing_for_5_s_takes_over_from_nobody,
            a_better_host_that_returns_loses_nothing,
            a_clean_stop_loses_nothing,
        ]
        .into_iter()
        .map(move |test| test.and(&format!("beside_{}", peer.name())))
    };
    // The longest first: they decide when all are done.
    let alone = tests![
        an_exclusive_move_never_has_two_owners,
        a_daemon_killed_just_before_its_advert_makes_no_two_owners,
        a_master_that_ran_late_listens_before_it_advertises,
        a_late_backup_reads_its_queue_before_it_claims,
        a_daemon_killed_and_started_at_once_breaks_no_connection,
        a_daemon_that_loses_its_main_process_is_back_at_once,
        a_daemon_that_loses_its_helper_ends_and_is_back_at_once,
        a_freeze_slightly_longer_than_the_lease_makes_no_two_owners,
        an_interface_recreated_at_once_gets_its_address_back,
        an_address_deleted_repeatedly_ends_in_a_fault,
        an_unadvertised_address_that_the_kernel_refuses_moves_nothing,
        the_fourth_crash_in_a_minute_starts_as_backup,
        after_a_healed_partition_clients_reach_the_master_at_once,
        after_lost_adverts_there_is_one_owner_again,
        two_masters_behind_a_firewall_report_each_other,
        a_restart_moves_nothing_and_runs_no_hook,
        a_restart_ends_a_running_hook_and_runs_it_again,
        a_restart_while_before_release_runs_leaves_no_gap,
        a_stop_while_a_restart_is_being_checked_is_completed,
        requested_restarts_move_nothing_however_many_they_are_and_whatever_address_is_added,
        a_restart_with_a_broken_file_is_a_stop_with_an_error,
        an_upgrade_moves_no_address,
        a_restart_with_a_broken_program_is_a_stop_with_an_error,
        an_address_deleted_by_hand_is_back_within_a_tenth_of_a_second,
        adverts_and_claims_have_real_time_priority,
        a_hook_that_hangs_delays_neither_adverts_nor_a_stop,
    ];
    let beside = beside(Peer::Vipd).zip(beside(Peer::Keepalived));
    beside.flat_map(<[Test; 2]>::from).chain(alone).collect()
}

/// Two hosts that answer, and a client that asks.
struct Served {
    // In the order in which they may end.
    prober: Option<Prober>,
    a: Host,
    b: Host,
    client: Host,
    lab: Lab,
}

impl Served {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        let client = lab.host("client", 200).unwrap();
        for host in [&a, &b] {
            host.answer(SHARED).unwrap();
            host.echo(SHARED).unwrap();
        }
        Self { prober: None, a, b, client, lab }
    }

    /// Starts counting probes.
    fn probe(&mut self) -> Instant {
        self.prober = Some(Prober::start(&self.client, SHARED, Duration::from_millis(2)).unwrap());
        std::thread::sleep(Duration::from_millis(300));
        Instant::now()
    }

    fn expect_nothing_lost(&self, began: Instant, daemons: &[&Daemon]) {
        std::thread::sleep(2 * Prober::TOO_LATE);
        let report = self.prober.as_ref().unwrap().report(began, Instant::now());
        let logs: Vec<_> = daemons.iter().map(|daemon| daemon.log()).collect();
        assert!(report.sent > 100, "{report:?}");
        assert!(report.lost <= 1, "{report:?}\n{}", logs.join("\n"));
    }
}

fn a_clean_stop_loses_nothing(peer: Peer) -> TestResult {
    let peer = peer.program()?;
    let mut served = Served::new();
    let mut daemon_a = start(&served.a, &[spec(150)]);
    expect_master(&served.lab, "a", &[&daemon_a]);
    let daemon_b = Daemon::start(&served.b, &peer, &[spec(100)]).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let began = served.probe();
    daemon_a.stop(SOON).unwrap();
    expect_master(&served.lab, "b", &[&daemon_a, &daemon_b]);
    served.expect_nothing_lost(began, &[&daemon_a, &daemon_b]);
    assert!(connects(&served.client, SHARED, SOON));
    Ok(())
}

fn a_better_host_that_returns_loses_nothing(peer: Peer) -> TestResult {
    let peer = peer.program()?;
    let mut served = Served::new();
    let daemon_b = Daemon::start(&served.b, &peer, &[spec(100)]).unwrap();
    expect_master(&served.lab, "b", &[&daemon_b]);
    let began = served.probe();
    let daemon_a = start(&served.a, &[spec(150)]);
    expect_master(&served.lab, "a", &[&daemon_a, &daemon_b]);
    served.expect_nothing_lost(began, &[&daemon_a, &daemon_b]);
    assert!(connects(&served.client, SHARED, SOON));
    Ok(())
}

fn an_exclusive_move_never_has_two_owners() {
    let exclusive = |priority| {
        let more = spec(priority).more + "handover = \"exclusive\"\n";
        RouterSpec { more, ..spec(priority) }
    };
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let mut daemon_a = start(&a, &[exclusive(150)]);
    expect_master(&lab, "a", &[&daemon_a]);
    let daemon_b = start(&b, &[exclusive(100)]);
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    daemon_a.stop(SOON).unwrap();
    expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.total_two, Duration::ZERO, "{ownership:?}");
    let skew = spec(100).skew();
    assert!(ownership.total_none < skew + Duration::from_millis(500), "{ownership:?}");
}

/// By then the lease of 2 s is a second old, and the peer waits hardly more than 2 s.
fn a_daemon_killed_just_before_its_advert_makes_no_two_owners() {
    let lab = Lab::new().unwrap();
    // Of two equals the higher address wins.
    let (a, b) = (lab.host("a", 9).unwrap(), lab.host("b", 2).unwrap());
    let mut daemon_a = start(&a, &[slow(254)]);
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[slow(254)]);
    std::thread::sleep(Duration::from_millis(1500));
    let asked = Instant::now();
    let advert = wait_for(SOON, || lab.observer().adverts("a", asked).pop()).unwrap();
    let late = advert.0 + Duration::from_millis(950);
    std::thread::sleep(late.saturating_duration_since(Instant::now()));
    let began = Instant::now();
    daemon_a.crash();
    expect_master_within(&lab, "b", 3 * SOON, &[&daemon_a, &daemon_b]);
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.total_two, Duration::ZERO, "{ownership:?}");
}

fn a_master_that_ran_late_listens_before_it_advertises() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_a = start(&a, &[RouterSpec { preempt: false, ..spec(150) }]);
    expect_master(&lab, "a", &[&daemon_a]);
    let daemon_b = start(&b, &[RouterSpec { preempt: false, ..spec(100) }]);
    std::thread::sleep(Duration::from_millis(500));
    daemon_a.signal_all(Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let woke = Instant::now();
    daemon_a.signal_all(Signal::SIGCONT).unwrap();
    expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    std::thread::sleep(Duration::from_secs(2));
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    assert!(lab.observer().adverts("a", woke).is_empty(), "{logs}");
    assert_eq!(lab.owners(SHARED), ["b"], "{logs}");
    let ownership = lab.ownership(SHARED, woke, Instant::now());
    assert!(ownership.changes <= 1, "{ownership:?}\n{logs}");
}

fn a_late_backup_reads_its_queue_before_it_claims() {
    let Pair { lab, daemon_a, daemon_b, .. } = &Pair::start();
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    daemon_b.signal_all(Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    daemon_b.signal_all(Signal::SIGCONT).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    assert!(lab.observer().adverts("b", began).is_empty(), "{logs}");
    assert_eq!(lab.ownership(SHARED, began, Instant::now()).changes, 0, "{logs}");
}

fn a_daemon_killed_and_started_at_once_breaks_no_connection() {
    let mut served = Served::new();
    let mut daemon_a = start(&served.a, &[slow(150)]);
    expect_master_within(&served.lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&served.b, &[slow(100)]);
    std::thread::sleep(Duration::from_millis(1500));
    let talk = EchoConnection::start(&served.client, SHARED).unwrap();
    let began = served.probe();
    daemon_a.crash();
    let daemon_a = start(&served.a, &[slow(150)]);
    std::thread::sleep(Duration::from_secs(4));
    served.expect_nothing_lost(began, &[&daemon_a, &daemon_b]);
    assert!(talk.continues(SOON), "{}", daemon_a.log());
    drop(talk);
    assert!(served.lab.observer().adverts("b", began).is_empty(), "{}", daemon_b.log());
}

/// As the OOM killer does it: the helper and a hanging hook survive for a moment.
fn a_daemon_that_loses_its_main_process_is_back_at_once() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let hook = a.dir().join("hang");
    executable(&hook, "#!/bin/sh\nexec sleep 1000\n");
    let mut better = slow(150);
    better.more += &format!("[virtual_router.hooks]\nnotify = \"{}\"\n", hook.display());
    let mut daemon_a = start(&a, std::slice::from_ref(&better));
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[slow(100)]);
    std::thread::sleep(Duration::from_millis(1500));
    let began = Instant::now();
    daemon_a.signal(Signal::SIGKILL).unwrap();
    daemon_a.wait(SOON).unwrap().unwrap();
    let again = start(&a, &[better]);
    std::thread::sleep(Duration::from_secs(4));
    let logs = format!("{}\n{}", again.log(), daemon_b.log());
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.changes, 0, "{ownership:?}\n{logs}");
    assert!(lab.observer().adverts("b", began).is_empty(), "{logs}");
}

fn a_daemon_that_loses_its_helper_ends_and_is_back_at_once() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let mut daemon_a = start(&a, &[slow(150)]);
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[slow(100)]);
    std::thread::sleep(Duration::from_millis(1500));
    let pid = daemon_a.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let helper: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
    let began = Instant::now();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(helper), Signal::SIGKILL).unwrap();
    let status = daemon_a.wait(SOON).unwrap();
    let log = daemon_a.log();
    assert!(status.is_some_and(|status| !status.success()), "{status:?}\n{log}");
    assert!(log.contains("helper"), "it says what it misses\n{log}");
    let again = start(&a, &[slow(150)]);
    std::thread::sleep(Duration::from_secs(4));
    let logs = format!("{}\n{}", again.log(), daemon_b.log());
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.changes, 0, "{ownership:?}\n{logs}");
    assert!(lab.observer().adverts("b", began).is_empty(), "{logs}");
}

/// The lease has expired by then, but the peer may not have taken over yet.
fn a_freeze_slightly_longer_than_the_lease_makes_no_two_owners() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_a = start(&a, &[slow(150)]);
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[slow(100)]);
    std::thread::sleep(Duration::from_millis(1500));
    let asked = Instant::now();
    wait_for(SOON, || lab.observer().adverts("a", asked).pop()).unwrap();
    daemon_a.signal_all(Signal::SIGSTOP).unwrap();
    std::thread::sleep(Duration::from_millis(2600));
    daemon_a.signal_all(Signal::SIGCONT).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    // A planned move may follow, during which both answer for some milliseconds.
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    let ownership = lab.ownership(SHARED, asked, Instant::now());
    assert!(ownership.total_two < Duration::from_millis(100), "{ownership:?}\n{logs}");
    assert!(ownership.total_none < slow(100).master_down_interval(), "{ownership:?}\n{logs}");
    assert_eq!(ownership.owners.len(), 1, "{ownership:?}\n{logs}");
}

fn an_interface_recreated_at_once_gets_its_address_back() {
    let pair = Pair::start();
    let Pair { lab, a, daemon_a, daemon_b, .. } = &pair;
    for _ in 0..3 {
        a.delete("eth0").unwrap();
        a.connect("eth0", Switch::LAN).unwrap();
        expect_master(lab, "a", &[daemon_a, daemon_b]);
        std::thread::sleep(Duration::from_millis(500));
        let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
        assert_eq!(lab.owners(SHARED), ["a"], "{logs}");
        assert_eq!(lab.observer().master(VRID).as_deref(), Some("a"), "{logs}");
    }
}

fn an_address_deleted_repeatedly_ends_in_a_fault() {
    let pair = Pair::start();
    let Pair { lab, a, daemon_a, daemon_b, .. } = &pair;
    std::thread::sleep(Duration::from_millis(500));
    let end = Instant::now() + 2 * SOON;
    while lab.observer().master(VRID).as_deref() == Some("a") && Instant::now() < end {
        let _ = a.namespace().links().remove_address("eth0", SHARED, 32);
        std::thread::sleep(Duration::from_millis(20));
    }
    expect_master(lab, "b", &[daemon_a, daemon_b]);
    assert!(!a.holds(SHARED).unwrap(), "{}", daemon_a.log());
    let lines = daemon_a.log().lines().count();
    assert!(lines < 60, "too much is logged:\n{}", daemon_a.log());
}

fn the_fourth_crash_in_a_minute_starts_as_backup() {
    let half = || RouterSpec { interval: Duration::from_millis(500), ..spec(150) };
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let mut daemon = start(&a, &[half()]);
    expect_master(&lab, "a", &[&daemon]);
    for crash in 1..=4 {
        let asked = Instant::now();
        let said = wait_for(SOON, || lab.observer().adverts("a", asked).pop());
        assert!(said.is_some(), "{}", daemon.log());
        let began = Instant::now();
        daemon.crash();
        daemon = start(&a, &[half()]);
        if crash < 4 {
            expect_master(&lab, "a", &[&daemon]);
            std::thread::sleep(Duration::from_millis(600));
            let ownership = lab.ownership(SHARED, began, Instant::now());
            assert_eq!(ownership.changes, 0, "crash {crash}: {ownership:?}\n{}", daemon.log());
        } else {
            let released = wait_for(SOON, || (!a.holds(SHARED).unwrap()).then_some(()));
            assert!(released.is_some(), "{}", daemon.log());
        }
    }
    // There is no other router.
    expect_master(&lab, "a", &[&daemon]);
}

/// A pair; the hooks of the better host log their calls.
fn pair_with_hook(interval: Duration) -> (Lab, [Host; 2], [Daemon; 2], RouterSpec) {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let (hook, said) = (a.dir().join("hook"), a.dir().join("said"));
    executable(&hook, &format!("#!/bin/sh\necho \"$*\" >>{}\n", said.display()));
    let mut better = RouterSpec { interval, ..spec(150) };
    better.more += &format!("[virtual_router.hooks]\nnotify = \"{}\"\n", hook.display());
    let daemon_a = start(&a, std::slice::from_ref(&better));
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[RouterSpec { interval, ..spec(100) }]);
    std::thread::sleep(Duration::from_millis(500) + interval);
    (lab, [a, b], [daemon_a, daemon_b], better)
}

fn a_restart_moves_nothing_and_runs_no_hook() {
    let (lab, [a, _b], [mut daemon_a, daemon_b], better) = pair_with_hook(Duration::from_secs(1));
    let said = || fs::read_to_string(a.dir().join("said")).unwrap_or_default();
    let said_before = said();
    assert!(said_before.contains("MASTER"), "{said_before}\n{}", daemon_a.log());
    let began = Instant::now();
    daemon_a.signal(Signal::SIGUSR2).unwrap();
    let status = daemon_a.wait(SOON).unwrap().unwrap();
    assert!(status.success(), "{status}\n{}", daemon_a.log());
    let daemon_a = start(&a, &[better]);
    std::thread::sleep(Duration::from_secs(4));
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.changes, 0, "{ownership:?}\n{logs}");
    let goodbyes = lab.observer().adverts("a", began);
    assert!(goodbyes.iter().all(|(_, advert)| advert.priority > 0), "{logs}");
    assert!(lab.observer().adverts("b", began).is_empty(), "{logs}");
    assert_eq!(said(), said_before, "{logs}");
}

/// Without adverts until the hook ended, the addresses were lost to the lease.
fn a_restart_ends_a_running_hook_and_runs_it_again() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let file = |name: &str| a.dir().join(name).display().to_string();
    let (hook, said, quick) = (file("hook"), file("said"), file("quick"));
    let script = format!(
        "#!/bin/sh\necho begun >>{said}\n[ -e {quick} ] || exec sleep 60\necho ended >>{said}\n"
    );
    executable(Path::new(&hook), &script);
    let mut better = slow(150);
    better.more += &format!("[virtual_router.hooks]\nmaster = \"{hook}\"\n");
    let mut daemon_a = start(&a, std::slice::from_ref(&better));
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[slow(100)]);
    let begun = || fs::read_to_string(&said).is_ok_and(|said| said == "begun\n").then_some(());
    assert!(wait_for(SOON, begun).is_some(), "{}", daemon_a.log());
    std::thread::sleep(Duration::from_millis(1200));
    let began = Instant::now();
    daemon_a.signal(Signal::SIGUSR2).unwrap();
    let status = daemon_a.wait(SOON).unwrap().unwrap();
    assert!(status.success(), "{status}\n{}", daemon_a.log());
    fs::write(&quick, "").unwrap();
    let daemon_a = start(&a, &[better]);
    std::thread::sleep(Duration::from_secs(4));
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.changes, 0, "{ownership:?}\n{logs}");
    assert!(lab.observer().adverts("b", began).is_empty(), "{logs}");
    assert_eq!(fs::read_to_string(&said).unwrap(), "begun\nbegun\nended\n", "{logs}");
}

fn a_restart_while_before_release_runs_leaves_no_gap() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let (hook, said) = (a.dir().join("hook"), a.dir().join("said"));
    executable(&hook, &format!("#!/bin/sh\necho begun >>{}\nexec sleep 10\n", said.display()));
    let mut better = slow(150);
    better.more += &format!("[virtual_router.hooks]\nbefore_release = \"{}\"\n", hook.display());
    let mut daemon_a = start(&a, std::slice::from_ref(&better));
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[slow(100)]);
    std::thread::sleep(Duration::from_millis(2500));
    let began = Instant::now();
    let mut failover = std::process::Command::new(VIPD)
        .args(["failover", "web", "--runtime-dir"])
        .arg(a.runtime_dir().unwrap())
        .spawn()
        .ok();
    let begun = || fs::read_to_string(&said).is_ok_and(|said| said == "begun\n").then_some(());
    let hook_ran = wait_for(SOON, begun).is_some();
    daemon_a.signal(Signal::SIGUSR2).unwrap();
    let status = daemon_a.wait(SOON).unwrap().unwrap();
    let daemon_a = start(&a, &[better]);
    std::thread::sleep(Duration::from_secs(8));
    let logs = format!("{status} {}\n{}", daemon_a.log(), daemon_b.log());
    let ownership = lab.ownership(SHARED, began, Instant::now());
    if let Some(child) = &mut failover {
        let _ = child.kill();
        let _ = child.wait();
    }
    assert!(hook_ran, "{logs}");
    assert!(fs::read_to_string(&said).unwrap().starts_with("begun\nbegun\n"), "{logs}");
    assert_eq!(ownership.total_none, Duration::ZERO, "{ownership:?}\n{logs}");
}

fn a_stop_while_a_restart_is_being_checked_is_completed() {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let own = a.dir().join("vipd");
    fs::copy(VIPD, &own).unwrap();
    let (hook, said) = (a.dir().join("hook"), a.dir().join("said"));
    executable(&hook, &format!("#!/bin/sh\nsleep 1\necho stopped >{}\n", said.display()));
    let mut spec = slow(150);
    spec.more += &format!("[virtual_router.hooks]\nstop = \"{}\"\n", hook.display());
    let mut daemon = Daemon::start(&a, &Program::Vipd(own.clone()), &[spec]).unwrap();
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon]);
    // What is to start next says that it is fit while this one gives the address away.
    fs::remove_file(&own).unwrap();
    executable(&own, "#!/bin/sh\nsleep 1\n");
    daemon.signal(Signal::SIGUSR2).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    daemon.signal(Signal::SIGTERM).unwrap();
    let status = daemon.wait(3 * SOON).unwrap().unwrap();
    assert!(status.success(), "{status}\n{}", daemon.log());
    assert!(!a.holds(SHARED).unwrap(), "{}", daemon.log());
    assert_eq!(fs::read_to_string(&said).unwrap_or_default(), "stopped\n", "{}", daemon.log());
}

fn requested_restarts_move_nothing_however_many_they_are_and_whatever_address_is_added() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    // Each restart ends the hook that runs then, which runs again after it.
    let (hook, said) = (a.dir().join("hook"), a.dir().join("said"));
    executable(&hook, &format!("#!/bin/sh\necho begun >>{}\nexec sleep 1000\n", said.display()));
    let mut better = slow(150);
    better.more += &format!("[virtual_router.hooks]\nmaster = \"{}\"\n", hook.display());
    let begun = || fs::read_to_string(&said).unwrap_or_default().lines().count();
    let mut daemon_a = start(&a, std::slice::from_ref(&better));
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a]);
    let daemon_b = start(&b, &[slow(100)]);
    std::thread::sleep(Duration::from_millis(1500));
    let began = Instant::now();
    let added = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 201));
    for round in 0..5 {
        daemon_a.signal(Signal::SIGUSR2).unwrap();
        let status = daemon_a.wait(SOON).unwrap().unwrap();
        assert!(status.success(), "{status}\n{}", daemon_a.log());
        let addresses = if round < 3 { vec![SHARED] } else { vec![SHARED, added] };
        assert_eq!(begun(), round + 1, "{}", daemon_a.log());
        daemon_a = start(&a, &[RouterSpec { addresses, ..better.clone() }]);
        let holds = || (round < 3 || a.holds(added).unwrap()).then_some(());
        assert!(wait_for(SOON, holds).is_some(), "{}", daemon_a.log());
        std::thread::sleep(Duration::from_millis(500));
        let again = || (begun() == round + 2).then_some(());
        assert!(wait_for(SOON, again).is_some(), "{}", daemon_a.log());
    }
    std::thread::sleep(Duration::from_secs(3));
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.changes, 0, "{ownership:?}\n{logs}");
    assert!(lab.observer().adverts("b", began).is_empty(), "{logs}");
}

fn an_upgrade_moves_no_address() {
    let (lab, a, mut daemon, own) = own_program();
    let replacement = a.dir().join("new");
    fs::copy(VIPD, &replacement).unwrap();
    fs::rename(&replacement, &own).unwrap();
    let began = Instant::now();
    daemon.signal(Signal::SIGUSR2).unwrap();
    let status = daemon.wait(SOON).unwrap().unwrap();
    assert!(status.success(), "{status}\n{}", daemon.log());
    let daemon = Daemon::start(&a, &Program::Vipd(own), &[slow(150)]).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.changes, 0, "{ownership:?}\n{}", daemon.log());
    let adverts = lab.observer().adverts("a", began);
    assert!(adverts.iter().all(|(_, advert)| advert.priority == 150), "{}", daemon.log());
}

fn a_restart_with_a_broken_program_is_a_stop_with_an_error() {
    let (lab, a, mut daemon, own) = own_program();
    fs::remove_file(&own).unwrap();
    executable(&own, "#!/bin/sh\necho cannot load >&2\nexit 127\n");
    let began = Instant::now();
    daemon.signal(Signal::SIGUSR2).unwrap();
    let status = daemon.wait(SOON + 4 * slow(150).interval).unwrap();
    let log = daemon.log();
    assert!(status.is_some(), "it does not end\n{log}");
    assert!(!a.holds(SHARED).unwrap(), "{log}");
    let goodbyes = lab.observer().adverts("a", began);
    assert!(goodbyes.iter().any(|(_, advert)| advert.priority == 0), "{log}");
    assert!(log.lines().any(|line| line.contains("ERROR")), "{log}");
    assert!(log.contains("cannot load"), "the log says what was wrong\n{log}");
}

/// A lone master that runs from a program file of its own.
fn own_program() -> (Lab, Host, Daemon, PathBuf) {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let own = a.dir().join("vipd");
    fs::copy(VIPD, &own).unwrap();
    let daemon = Daemon::start(&a, &Program::Vipd(own.clone()), &[slow(150)]).unwrap();
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon]);
    (lab, a, daemon, own)
}

fn slow(priority: u8) -> RouterSpec {
    RouterSpec { interval: Duration::from_secs(1), ..spec(priority) }
}

fn a_restart_with_a_broken_file_is_a_stop_with_an_error() {
    let (lab, [a, _b], [mut daemon_a, daemon_b], _) = pair_with_hook(Duration::from_millis(100));
    let good = fs::read_to_string(daemon_a.config()).unwrap();
    fs::write(daemon_a.config(), good.replace("addresses", "adresses")).unwrap();
    let began = Instant::now();
    daemon_a.signal(Signal::SIGUSR2).unwrap();
    let status = daemon_a.wait(SOON).unwrap();
    let log = daemon_a.log();
    assert!(status.is_some(), "it does not end\n{log}");
    expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    assert!(!a.holds(SHARED).unwrap(), "{log}");
    let goodbyes = lab.observer().adverts("a", began);
    assert!(goodbyes.iter().any(|(_, advert)| advert.priority == 0), "{log}");
    assert!(log.lines().any(|line| line.contains("ERROR")), "{log}");
    assert!(log.contains("adresses"), "the log names the mistake\n{log}");
}

fn an_address_deleted_by_hand_is_back_within_a_tenth_of_a_second() {
    let pair = Pair::start();
    let Pair { lab, a, daemon_a, daemon_b, .. } = &pair;
    // The fastest of three: this machine may be busy.
    let quickest = (0..3).map(|_| {
        std::thread::sleep(Duration::from_millis(1200));
        let began = Instant::now();
        a.namespace().links().remove_address("eth0", SHARED, 32).unwrap();
        // It has stopped and become master again.
        let back = wait_for(SOON, || {
            let ownership = lab.ownership(SHARED, began, Instant::now());
            (ownership.changes >= 2 && ownership.owners == ["a"]).then_some(ownership)
        });
        let ownership = back.unwrap_or_else(|| panic!("not back\n{}", daemon_a.log()));
        expect_master(lab, "a", &[daemon_a, daemon_b]);
        assert!(lab.observer().adverts("b", began).is_empty(), "{}", daemon_b.log());
        ownership.total_none
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest < Duration::from_millis(100), "{quickest:?}\n{}", daemon_a.log());
}

fn a_hook_that_hangs_delays_neither_adverts_nor_a_stop() {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let hanging = |host: &Host, priority| {
        let hook = host.dir().join("hang");
        executable(&hook, "#!/bin/sh\nexec sleep 1000\n");
        let mut spec = spec(priority);
        spec.more += &format!("[virtual_router.hooks]\nnotify = \"{}\"\n", hook.display());
        spec
    };
    let daemon_a = start(&a, &[hanging(&a, 150)]);
    expect_master(&lab, "a", &[&daemon_a]);
    let daemon_b = start(&b, &[hanging(&b, 100)]);
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    let longest = lab.longest_gap("a", began, Instant::now());
    assert!(longest < 4 * spec(150).interval, "no advert for {longest:?}\n{}", daemon_a.log());
    let stopped = Instant::now();
    daemon_a.signal(Signal::SIGTERM).unwrap();
    expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    let goodbyes = lab.observer().adverts("a", stopped);
    assert_eq!(goodbyes.last().map(|(_, advert)| advert.priority), Some(0), "{}", daemon_a.log());
}

/// Whichever side sends first: the winner may never hear the loser, and must still announce the
/// address.
fn after_a_healed_partition_clients_reach_the_master_at_once() {
    let mut served = Served::new();
    let daemon_a = start(&served.a, &[spec(150)]);
    let daemon_b = start(&served.b, &[spec(100)]);
    expect_master(&served.lab, "a", &[&daemon_a, &daemon_b]);
    served.probe();
    let prober = served.prober.as_ref().unwrap();
    for phase in [1, 3, 5, 7, 9] {
        served.a.cut().unwrap();
        expect_master(&served.lab, "b", &[&daemon_a, &daemon_b]);
        let asked = Instant::now();
        let advert = wait_for(SOON, || served.lab.observer().adverts("a", asked).pop()).unwrap();
        let at = advert.0 + spec(150).interval * phase / 10;
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        served.a.heal().unwrap();
        expect_master(&served.lab, "a", &[&daemon_a, &daemon_b]);
        let found = wait_for(Duration::from_secs(1), || {
            prober.last_answer().filter(|(_, host)| host == "a")
        });
        let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
        assert!(found.is_some(), "phase {phase}: {:?}\n{logs}", prober.last_answer());
    }
}

fn after_lost_adverts_there_is_one_owner_again() -> TestResult {
    let pair = silenced(Lost::All)?;
    let Pair { lab, a, daemon_a, daemon_b, .. } = &pair;
    let taken = wait_for(SOON, || (lab.owners(SHARED) == ["b"]).then_some(()));
    assert!(taken.is_some(), "{}", daemon_b.log());
    std::thread::sleep(Duration::from_secs(1));
    a.pass_outgoing().unwrap();
    expect_master(lab, "a", &[daemon_a, daemon_b]);
    Ok(())
}

fn two_masters_behind_a_firewall_report_each_other() -> TestResult {
    let pair = silenced(Lost::Adverts)?;
    let Pair { lab, a, b, daemon_a, daemon_b } = &pair;
    let both = wait_for(SOON, || (lab.owners(SHARED) == ["a", "b"]).then_some(()));
    assert!(both.is_some(), "{}", daemon_b.log());
    // The one that hears the other's adverts knows more than what it announces.
    for (host, daemon, words) in
        [(a, daemon_a, "192.0.2.2 is also master"), (b, daemon_b, "192.0.2.100, which is ours")]
    {
        let said = wait_for(SOON, || daemon.log().contains(words).then_some(()));
        let lines = daemon.log().lines().count();
        assert!(said.is_some(), "{} says nothing\n{}", host.name(), daemon.log());
        assert!(lines < 40, "{} says too much\n{}", host.name(), daemon.log());
    }
    a.pass_outgoing().unwrap();
    expect_master(lab, "a", &[daemon_a, daemon_b]);
    Ok(())
}

/// A pair whose master can no longer be heard.
fn silenced(lost: Lost) -> Result<Pair, String> {
    programs(&["nft"])?;
    let pair = Pair::start();
    std::thread::sleep(Duration::from_millis(500));
    pair.a.drop_outgoing(lost).unwrap();
    Ok(pair)
}

fn adverts_and_claims_have_real_time_priority() -> TestResult {
    const SCHED_FIFO: u32 = 1;
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let daemon = start(&a, &[spec(150)]);
    expect_master(&lab, "a", &[&daemon]);
    if daemon.log().contains("no real-time priority (") {
        // An ordinary user is refused, and the log says so.
        return Err("this user has no real-time priority".to_owned());
    }
    let mut priorities: Vec<(String, u32, u32)> = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap() {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        let field = |number: usize| rest.split_whitespace().nth(number - 3).unwrap();
        priorities.push((name.into(), field(41).parse().unwrap(), field(40).parse().unwrap()));
    }
    let of = |name: &str| priorities.iter().find(|(of, ..)| of == name).unwrap();
    let (loop_priority, worker) = (of("vipd"), of("netlink"));
    assert_eq!((loop_priority.1, worker.1), (SCHED_FIFO, SCHED_FIFO), "{priorities:?}");
    // The advert loop has the higher priority.
    assert!(loop_priority.2 > worker.2, "{priorities:?}");
    let others = priorities.iter().filter(|(name, ..)| name != "vipd" && name != "netlink");
    assert!(others.clone().all(|(_, policy, _)| *policy != SCHED_FIFO), "{priorities:?}");
    Ok(())
}

fn a_starting_host_that_hears_nothing_for_5_s_takes_over_from_nobody(peer: Peer) -> TestResult {
    not_receiving(peer, 5)
}

fn a_starting_host_that_hears_nothing_for_20_s_takes_over_from_nobody(peer: Peer) -> TestResult {
    not_receiving(peer, 20)
}

/// The port of a better newcomer that does not preempt forwards late, as under spanning tree.
fn not_receiving(peer: Peer, seconds: u64) -> TestResult {
    let peer = peer.program()?;
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_b = Daemon::start(&b, &peer, &[spec(100)]).unwrap();
    expect_master(&lab, "b", &[&daemon_b]);
    a.cut().unwrap();
    let began = Instant::now();
    let daemon_a = start(&a, &[RouterSpec { preempt: false, ..spec(150) }]);
    std::thread::sleep(Duration::from_secs(seconds));
    let healed = Instant::now();
    a.heal().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let end = Instant::now();
    let logs = format!("{}\n{}", daemon_a.log(), daemon_b.log());
    let longest = lab.longest_gap("b", began, end);
    // Without real-time priority, a gap of some intervals may be due to the busy machine.
    assert!(longest < 20 * spec(100).interval, "no advert for {longest:?}\n{logs}");
    assert_eq!(lab.observer().master(VRID).as_deref(), Some("b"), "{logs}");
    assert_eq!(lab.owners(SHARED), ["b"], "{logs}");
    let ownership = lab.ownership(SHARED, healed, end);
    assert_eq!(ownership.total_none, Duration::ZERO, "{ownership:?}\n{logs}");
    assert!(ownership.total_two < Duration::from_secs(1), "{ownership:?}\n{logs}");
    let low = lab.observer().adverts("a", began);
    assert!(!low.is_empty(), "it was to think itself alone\n{logs}");
    assert!(low.iter().all(|(_, advert)| advert.priority <= 1), "{logs}");
    Ok(())
}

/// IPv6 is disabled on the better host, and the virtual router has an unadvertised IPv6 address.
fn an_unadvertised_address_that_the_kernel_refuses_moves_nothing() {
    let with = |priority| {
        let more = spec(priority).more + "unadvertised_addresses = [\"2001:db8:7::1\"]\n";
        RouterSpec { more, ..spec(priority) }
    };
    let mut served = Served::new();
    let disable = |host: &Host, disabled: &'static str| {
        let path = "/proc/sys/net/ipv6/conf/eth0/disable_ipv6";
        host.namespace().run(move || fs::write(path, disabled)).unwrap();
    };
    disable(&served.a, "1");
    let (a, b) = (start(&served.a, &[with(150)]), start(&served.b, &[with(100)]));
    expect_master(&served.lab, "a", &[&a, &b]);
    let began = served.probe();
    std::thread::sleep(Duration::from_secs(14));
    served.expect_nothing_lost(began, &[&a, &b]);
    expect_master(&served.lab, "a", &[&a, &b]);
    let status = vipd(&served.a, &["status", "web"]);
    let text = String::from_utf8_lossy(&status.stdout);
    assert!(text.contains("2001:db8:7::1 is not on eth0 now: "), "{text}");
    disable(&served.a, "0");
    let rider: IpAddr = "2001:db8:7::1".parse().unwrap();
    let there = || served.a.holds(rider).unwrap().then_some(());
    assert!(wait_for(SOON, there).is_some(), "{}", a.log());
    expect_master(&served.lab, "a", &[&a, &b]);
}
