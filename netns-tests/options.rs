//! Effects of single keys of the configuration on real daemons, with and without them: those keys
//! that no other scenario needs.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{Daemon, Host, Lab, Malformation, RouterSpec, Stranger, wait_for};
use serde_json::Value;

use crate::fault::{SHARED, SOON, VRID, expect_master, expect_master_within, spec, start};
use crate::faults::Peer;
use crate::scenario::vipd;
use crate::suite::{Test, TestResult, tests};

pub fn tests() -> Vec<Test> {
    tests![
        version_2_accepts_only_its_own_authentication_beside_vipd,
        version_2_accepts_only_its_own_authentication_beside_keepalived,
        an_address_that_is_not_renewed_ends_after_its_lifetime,
        a_unicast_peer_that_is_too_far_away_is_not_heard_ipv4,
        a_unicast_peer_that_is_too_far_away_is_not_heard_ipv6,
        three_unicast_hosts_without_a_source_address_have_one_master_ipv4,
        three_unicast_hosts_without_a_source_address_have_one_master_ipv6,
        either_checksum_is_sent_as_configured_and_accepted,
        a_peer_with_a_far_longer_interval_is_not_heard,
        adverts_come_from_the_source_address,
        a_better_host_that_accept_from_does_not_name_changes_nothing,
        an_alternative_name_names_the_interface,
    ]
}

fn version_2_accepts_only_its_own_authentication_beside_vipd() -> TestResult {
    authentication(Peer::Vipd)
}

fn version_2_accepts_only_its_own_authentication_beside_keepalived() -> TestResult {
    authentication(Peer::Keepalived)
}

fn authentication(peer: Peer) -> TestResult {
    let peer = peer.program()?;
    let with = |priority| {
        let mut spec =
            RouterSpec { version: 2, interval: Duration::from_secs(1), ..spec(priority) };
        spec.more += "authentication = \"8letters\"\n";
        spec.keepalived_more =
            "  authentication {\n    auth_type PASS\n    auth_pass 8letters\n  }\n".into();
        spec
    };
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_b = Daemon::start(&b, &peer, &[with(100)]).unwrap();
    expect_master_within(&lab, "b", 3 * SOON, &[&daemon_b]);
    let daemon_a = start(&a, &[with(150)]);
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a, &daemon_b]);
    reload(&a, &daemon_a, "8letters", "8Letters");
    expect_owners(&lab, SHARED, &["a", "b"], &[&daemon_a, &daemon_b]);
    reload(&a, &daemon_a, "8Letters", "8letters");
    expect_master_within(&lab, "a", 3 * SOON, &[&daemon_a, &daemon_b]);
    Ok(())
}

fn an_address_that_is_not_renewed_ends_after_its_lifetime() -> TestResult {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    // With adverts as fast as these, "auto" is 2 s.
    let daemon = start(&a, &[with("address_lifetime = \"8s\"\n", 150)]);
    expect_master(&lab, "a", &[&daemon]);
    let began = Instant::now();
    daemon.signal_all(nix::sys::signal::Signal::SIGSTOP).unwrap();
    let ended = wait_for(10 * SOON, || (!a.holds(SHARED).unwrap()).then(|| began.elapsed()));
    assert!(ended.is_some_and(|after| after > Duration::from_secs(5)), "{ended:?}");
    Ok(())
}

fn a_unicast_peer_that_is_too_far_away_is_not_heard_ipv4() -> TestResult {
    unicast_min_ttl(SHARED, |host| host.ipv4().into())
}

fn a_unicast_peer_that_is_too_far_away_is_not_heard_ipv6() -> TestResult {
    unicast_min_ttl("2001:db8::100".parse().unwrap(), |host| host.ipv6().into())
}

/// The adverts of the better host arrive as if they had been forwarded by routers.
fn unicast_min_ttl(ip: IpAddr, own: fn(&Host) -> IpAddr) -> TestResult {
    if Command::new("nft").arg("--version").output().is_err() {
        return Err("nft is not installed (Debian: apt-get install nftables)".into());
    }
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let between = |here: &Host, there: &Host, priority| RouterSpec {
        unicast: Some((own(here), vec![own(there)])),
        ..RouterSpec::new(ip, priority)
    };
    let far = "add table inet far; \
               add chain inet far out { type filter hook output priority 0; }; \
               add rule inet far out ip protocol 112 ip ttl set 64; \
               add rule inet far out ip6 nexthdr 112 ip6 hoplimit set 64";
    run(&b, &["nft", far]);
    let daemon_b = start(&b, &[between(&b, &a, 150)]);
    expect_owners(&lab, ip, &["b"], &[&daemon_b]);
    let mut wary = between(&a, &b, 100);
    wary.more += "unicast_min_ttl = 65\n";
    let daemon_a = start(&a, &[wary]);
    expect_owners(&lab, ip, &["a", "b"], &[&daemon_a, &daemon_b]);
    assert!(discarded(&a, "ttl") > 0, "{:#}", router(&a));
    reload(&a, &daemon_a, "unicast_min_ttl = 65", "unicast_min_ttl = 64");
    expect_owners(&lab, ip, &["b"], &[&daemon_a, &daemon_b]);
    Ok(())
}

fn three_unicast_hosts_without_a_source_address_have_one_master_ipv4() {
    unicast_among_three(SHARED, |host| host.ipv4().into());
}

fn three_unicast_hosts_without_a_source_address_have_one_master_ipv6() {
    unicast_among_three("2001:db8::100".parse().unwrap(), |host| host.ipv6().into());
}

/// Every host has the same list of peers, with itself in it.
fn unicast_among_three(ip: IpAddr, own: fn(&Host) -> IpAddr) {
    let lab = Lab::new().unwrap();
    let hosts =
        [("a", 1), ("b", 2), ("c", 3)].map(|(name, number)| lab.host(name, number).unwrap());
    let list: Vec<_> = hosts.iter().map(|host| format!("\"{}\"", own(host))).collect();
    let peers = format!("unicast_peers = [{}]\n", list.join(", "));
    let spec = |priority| {
        let spec = RouterSpec::new(ip, priority);
        RouterSpec { more: format!("{}{peers}", spec.more), ..spec }
    };
    let [a, b, c] = &hosts;
    let daemon_c = start(c, &[spec(50)]);
    expect_owners(&lab, ip, &["c"], &[&daemon_c]);
    let mut daemon_b = start(b, &[spec(100)]);
    expect_owners(&lab, ip, &["b"], &[&daemon_b, &daemon_c]);
    let mut daemon_a = start(a, &[spec(150)]);
    expect_owners(&lab, ip, &["a"], &[&daemon_a, &daemon_b, &daemon_c]);
    let began = Instant::now();
    std::thread::sleep(5 * spec(50).interval);
    let logs = format!("{}{}{}", daemon_a.log(), daemon_b.log(), daemon_c.log());
    assert_eq!(lab.ownership(ip, began, Instant::now()).changes, 0, "{logs}");
    // Both others hear every move, planned or not.
    daemon_a.stop(SOON).unwrap();
    expect_owners(&lab, ip, &["b"], &[&daemon_a, &daemon_b, &daemon_c]);
    b.cut().unwrap();
    daemon_b.crash();
    expect_owners(&lab, ip, &["c"], &[&daemon_b, &daemon_c]);
    let daemon_a = start(a, &[spec(150)]);
    expect_owners(&lab, ip, &["a"], &[&daemon_a, &daemon_c]);
    assert_eq!(router(c)["heard"]["address"], own(a).to_string(), "{:#}", router(c));
}

fn a_peer_with_a_far_longer_interval_is_not_heard() -> TestResult {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_b = start(&b, &[RouterSpec { interval: Duration::from_secs(1), ..spec(150) }]);
    expect_master_within(&lab, "b", 3 * SOON, &[&daemon_b]);
    let mut quick = RouterSpec { interval: Duration::from_millis(100), ..spec(100) };
    quick.more += "max_peer_interval = \"990ms\"\n";
    let daemon_a = start(&a, &[quick]);
    expect_owners(&lab, SHARED, &["a", "b"], &[&daemon_a, &daemon_b]);
    assert!(discarded(&a, "incompatible") > 0, "{:#}", router(&a));
    reload(&a, &daemon_a, "max_peer_interval = \"990ms\"", "max_peer_interval = \"1s\"");
    expect_owners(&lab, SHARED, &["b"], &[&daemon_a, &daemon_b]);
    Ok(())
}

fn either_checksum_is_sent_as_configured_and_accepted() -> TestResult {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let daemon_a = start(&a, &[with("checksum = \"plain\"\n", 150)]);
    expect_master(&lab, "a", &[&daemon_a]);
    let daemon_b = start(&b, &[spec(100)]);
    let hears = |host: &Host, form: &str| {
        let heard = wait_for(SOON, || (router(host)["heard"]["checksum"] == form).then_some(()));
        assert!(heard.is_some(), "{form}: {:#}\n{}", router(host), daemon_b.log());
    };
    hears(&b, "plain");
    reload(&a, &daemon_a, "\"plain\"", "\"pseudo-header\"");
    hears(&b, "pseudo-header");
    // Regardless of the form that the receiver itself sends.
    reload(&b, &daemon_b, "vrid", "checksum = \"plain\"\nvrid");
    reload(&a, &daemon_a, "priority = 150", "priority = 50");
    expect_master(&lab, "b", &[&daemon_a, &daemon_b]);
    hears(&a, "plain");
    Ok(())
}

fn adverts_come_from_the_source_address() -> TestResult {
    let lab = Lab::new().unwrap();
    let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
    let second: IpAddr = "192.0.2.77".parse().unwrap();
    a.namespace().links().add_address("eth0", second, 24).unwrap();
    let line = format!("source_address = \"{second}\"\n");
    let began = Instant::now();
    let daemon_a = start(&a, &[with(&line, 150)]);
    let daemon_b = start(&b, &[spec(100)]);
    let comes_from = |source: IpAddr| {
        expect_master(&lab, "a", &[&daemon_a, &daemon_b]);
        let sent = || lab.observer().adverts("a", began).pop().unwrap().1.source;
        let found = wait_for(SOON, || (sent() == source).then_some(()));
        assert!(found.is_some(), "{}, not {source}\n{}", sent(), daemon_a.log());
        let hears = || router(&b)["heard"]["address"] == source.to_string();
        assert!(wait_for(SOON, || hears().then_some(())).is_some(), "{:#}", router(&b));
    };
    comes_from(second);
    reload(&a, &daemon_a, &line, "");
    comes_from(a.ipv4().into());
    Ok(())
}

fn a_better_host_that_accept_from_does_not_name_changes_nothing() -> TestResult {
    let lab = Lab::new().unwrap();
    let (a, mallory) = (lab.host("a", 1).unwrap(), lab.host("mallory", 66).unwrap());
    let line = "accept_from = [\"192.0.2.1\", \"192.0.2.2\"]\n";
    let daemon = start(&a, &[with(line, 150)]);
    expect_master(&lab, "a", &[&daemon]);
    let began = Instant::now();
    let interval = Duration::from_millis(100);
    let address = "192.0.2.100".parse().unwrap();
    let _better =
        Stranger::start(&mallory, VRID, 250, interval, address, &[Malformation::None], interval)
            .unwrap();
    let ignored = wait_for(3 * SOON, || (discarded(&a, "not_accepted") > 10).then_some(()));
    assert!(ignored.is_some(), "{:#}", router(&a));
    let ownership = lab.ownership(SHARED, began, Instant::now());
    assert_eq!(ownership.changes, 0, "{ownership:?}\n{}", daemon.log());
    reload(&a, &daemon, "192.0.2.2", "192.0.2.66");
    expect_owners(&lab, SHARED, &[], &[&daemon]);
    Ok(())
}

fn an_alternative_name_names_the_interface() -> TestResult {
    let lab = Lab::new().unwrap();
    let a = lab.host("a", 1).unwrap();
    let daemon = start(&a, &[RouterSpec { interface: "to-the-lan".into(), ..spec(150) }]);
    run(&a, &["ip", "link", "property", "add", "dev", "eth0", "altname", "to-the-lan"]);
    expect_master(&lab, "a", &[&daemon]);
    run(&a, &["ip", "link", "property", "del", "dev", "eth0", "altname", "to-the-lan"]);
    expect_owners(&lab, SHARED, &[], &[&daemon]);
    Ok(())
}

/// A virtual router with further lines.
fn with(lines: &str, priority: u8) -> RouterSpec {
    RouterSpec { more: spec(priority).more + lines, ..spec(priority) }
}

fn expect_owners(lab: &Lab, ip: IpAddr, hosts: &[&str], daemons: &[&Daemon]) {
    let found = wait_for(3 * SOON, || (lab.owners(ip) == hosts).then_some(()));
    let logs: Vec<_> = daemons.iter().map(|daemon| daemon.log()).collect();
    assert!(found.is_some(), "{:?} have {ip}, not {hosts:?}\n{}", lab.owners(ip), logs.join("\n"));
}

/// Changes the configuration file of a daemon and reloads it.
fn reload(host: &Host, daemon: &Daemon, before: &str, after: &str) {
    let text = fs::read_to_string(daemon.config()).unwrap();
    assert!(text.contains(before), "no {before:?} in\n{text}");
    fs::write(daemon.config(), text.replace(before, after)).unwrap();
    let output = vipd(host, &["reload"]);
    assert!(output.status.success(), "{output:?}");
}

/// The virtual router as its status shows it, as soon as there is one.
pub fn router(host: &Host) -> Value {
    let status = || serde_json::from_slice(&vipd(host, &["status", "--json"]).stdout).ok();
    let status: Value = wait_for(SOON, status).unwrap();
    status["routers"][0].clone()
}

/// Number of packets discarded for this reason.
fn discarded(host: &Host, why: &str) -> u64 {
    router(host)["counters"]["discards"][why].as_u64().unwrap_or(0)
}

/// Runs a program on a host.
pub fn run(host: &Host, line: &[&str]) {
    let mut command = Command::new(line[0]);
    command.args(&line[1..]);
    let output = host.namespace().run(move || command.output()).unwrap();
    assert!(output.status.success(), "{line:?}: {output:?}");
}
