//! Metrics and page: the exporter beside real daemons in a lab, read by promtool and by Chromium.
//!
//! Needs root or user namespaces, and Debian's packages prometheus, chromium and chromium-driver.
//! `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped into failures.
#![allow(clippy::unwrap_used)]
#![deny(dead_code)]

#[path = "exporter/browser.rs"]
mod browser;
mod lab;
mod suite;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::{Daemon, Host, Lab, Program, RouterSpec, wait_for};
use serde_json::Value;
use suite::{Test, programs, tests};
use vipd::api::events::EventKind;
use vipd::helper::Outcome;
use vipd::vrrp::{DiscardReason, Hook, Leave, Reason, Role, Verdict, Why};

use browser::Browser;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
/// A time limit for machines that are busy.
const TIMEOUT: Duration = Duration::from_secs(20);
const PORT: u16 = 9112;
const PAGE: &str = include_str!("../src/exporter/page.html");

fn main() -> ExitCode {
    suite::main(2, |_| {
        let needing = |names: &[&str], tests: Vec<Test>| {
            let installed = programs(names);
            tests.into_iter().map(move |test| test.needs(&installed))
        };
        needing(&["promtool", "tcpdump"], tests![metrics_agree_with_the_wire])
            .chain(needing(
                &[],
                tests![
                    every_metric_that_rules_and_dashboard_name_is_there,
                    page_dashboard_and_rules_name_only_what_exists,
                    only_reading_requests_are_served,
                    idle_clients_do_not_block_others
                ],
            ))
            .chain(needing(
                &["promtool"],
                tests![
                    the_alert_rules_do_what_they_say,
                    without_a_daemon_page_metrics_and_health_report_it
                ],
            ))
            .chain(needing(
                &["prometheus"],
                tests![prometheus_reads_both_hosts_and_sees_that_no_host_is_master],
            ))
            .chain(needing(
                &["chromium", "chromedriver"],
                tests![the_page_shows_a_failover_as_it_happens],
            ))
            .collect()
    })
}

// ---- metrics -----------------------------------------------------------------------------------

fn metrics_agree_with_the_wire() {
    let pair = Pair::new("");
    let _daemons = pair.start_both();
    let _exporters = (pair.export(&pair.a, &[]), pair.export(&pair.b, &[]));
    let wire = Capture::start(&pair.a);
    let before = (unix(), pair.number(&pair.a, SENT), unix());
    thread::sleep(Duration::from_secs(3));
    let after = (unix(), pair.number(&pair.a, SENT), unix());
    let adverts = wire.stop();
    // The exporter may answer from its cache, and this machine may be slow.
    const REMEMBERED: f64 = 1.0;
    let seen = |from: f64, to: f64| {
        adverts.iter().filter(|advert| advert.at > from && advert.at < to).count() as f64
    };
    let sent = after.1 - before.1;
    let (least, most) =
        (seen(before.2, after.0 - REMEMBERED), seen(before.0 - REMEMBERED, after.2));
    println!("{sent} adverts by metrics, {least} to {most} of {} captured", adverts.len());
    assert!((least..=most).contains(&sent), "{least} <= {sent} <= {most}");
    assert!(least > 10.0, "{least}");
    // The master and its priority.
    assert!(adverts.iter().all(|a| a.source == "192.0.2.1" && a.vrid == "51"), "{adverts:?}");
    let priority = pair.number(&pair.a, "vipd_router_effective_priority{router=\"web\"}");
    assert!(adverts.iter().all(|a| a.priority == priority), "{priority}: {adverts:?}");
    let role = |role| {
        format!(
            "vipd_router_role{{router=\"web\",vrid=\"51\",address=\"192.0.2.100\",role=\"{role}\"}}"
        )
    };
    for (host, is, is_not) in [(&pair.a, "master", "backup"), (&pair.b, "backup", "master")] {
        assert_eq!(pair.number(host, &role(is)), 1.0);
        assert_eq!(pair.number(host, &role(is_not)), 0.0);
    }
    assert_eq!(
        pair.number(&pair.b, "vipd_peer_priority{router=\"web\",peer=\"192.0.2.1\"}"),
        150.0
    );
    // Nearly every advert was one of the schedule; all lie in the buckets.
    let scheduled = pair.number(&pair.a, "vipd_advert_lateness_seconds_count{router=\"web\"}");
    let all = "vipd_advert_lateness_seconds_bucket{router=\"web\",le=\"+Inf\"}";
    let sent = pair.number(&pair.a, SENT);
    assert!(scheduled > 0.0 && scheduled <= sent, "{scheduled} of {sent}");
    assert!(pair.number(&pair.a, all) >= scheduled);
    assert!(
        pair.number(&pair.a, "vipd_lease_renewal_lateness_seconds_count{router=\"web\"}") > 0.0
    );
    // promtool accepts the metrics.
    for host in [&pair.a, &pair.b] {
        let checked = promtool(&["check", "metrics"], Some(&pair.metrics(host)));
        assert!(checked.status.success(), "{}", said(&checked));
    }
}

fn without_a_daemon_page_metrics_and_health_report_it() {
    let pair = Pair::new("");
    let _exporter = pair.export(&pair.a, &[]);
    let metrics = pair.get(&pair.a, "/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("\nvipd_up 0\n"), "{}", metrics.body);
    let checked = promtool(&["check", "metrics"], Some(&metrics.body));
    assert!(checked.status.success(), "{}", said(&checked));
    let health = pair.get(&pair.a, "/healthz");
    assert_eq!(health.status, 503);
    assert!(health.body.starts_with("vipd is not running (no daemon in "), "{}", health.body);
    for path in ["/status.json", "/events.json"] {
        let document = pair.get(&pair.a, path);
        assert_eq!(document.status, 503);
        let document: Value = serde_json::from_str(&document.body).unwrap();
        assert_eq!(
            (&document["version"], &document["error"]["code"]),
            (&1.into(), &"no_daemon".into())
        );
    }
    // A daemon that starts is asked at once.
    let mut daemon = pair.start(&pair.a);
    let fit = wait_for(TIMEOUT, || (pair.get(&pair.a, "/healthz").status == 200).then_some(()));
    assert!(fit.is_some(), "{}", daemon.log());
    assert_eq!(pair.number(&pair.a, "vipd_up"), 1.0);
    // The history is written by another thread.
    let told = || {
        let events: Value = serde_json::from_str(&pair.get(&pair.a, "/events.json").body).unwrap();
        events["events"].as_array()?.iter().any(|event| event["to"] == "backup").then_some(())
    };
    wait_for(TIMEOUT, told).expect("no events");
    // A fault makes the host unhealthy; a drain does not.
    pair.vipd(&pair.a, &["drain"]);
    let drained = || Some(pair.get(&pair.a, "/healthz")).filter(|h| h.body.contains("drained"));
    assert_eq!(wait_for(TIMEOUT, drained).unwrap().status, 200);
    pair.a.down("eth0").unwrap();
    let fault = || Some(pair.get(&pair.a, "/healthz")).filter(|health| health.status == 503);
    let fault = wait_for(TIMEOUT, fault).unwrap();
    assert!(fault.body.contains("web is fault: "), "{}", fault.body);
    // A frozen daemon is not gone, and the exporter does not hang.
    daemon.signal_all(nix::sys::signal::Signal::SIGSTOP).unwrap();
    let frozen = || Some(pair.get(&pair.a, "/healthz")).filter(|h| h.body.contains("seems to be"));
    assert_eq!(wait_for(TIMEOUT, frozen).unwrap().status, 503);
    daemon.crash();
}

fn page_dashboard_and_rules_name_only_what_exists() {
    let roles = Role::ALL.map(Role::name).to_vec();
    let causes = [&Why::NAMES[..], &Leave::NAMES, &Reason::NAMES].concat();
    let lists = [
        ("role", roles.clone()),
        ("from", roles.clone()),
        ("to", roles),
        ("verdict", Verdict::ALL.map(Verdict::name).to_vec()),
        ("kind", EventKind::ALL.map(EventKind::name).to_vec()),
        ("cause", causes),
        ("reason", [&Reason::NAMES[..], &DiscardReason::NAMES].concat()),
        ("hook", Hook::ALL.map(Hook::name).to_vec()),
        ("outcome", Outcome::NAMES.to_vec()),
    ];
    // The page shows an unknown verdict as it shows those of a newer daemon.
    let verdicts: BTreeSet<_> = compared(PAGE, "verdict").into_iter().collect();
    let known = Verdict::ALL.into_iter().filter(|verdict| *verdict != Verdict::Unknown);
    assert_eq!(verdicts, known.map(Verdict::name).collect());
    let mut found = 0;
    for text in [
        PAGE,
        &include_str!("../etc/grafana/vipd.json").replace("\\\"", "\""),
        include_str!("../etc/prometheus/vipd.rules.yml"),
        include_str!("../etc/prometheus/vipd.rules.test.yml"),
    ] {
        for (label, words) in &lists {
            for word in compared(text, label) {
                assert!(words.contains(&word), "{label} is never {word}");
                found += 1;
            }
        }
    }
    assert!(found > 50, "{found}");
}

/// Every word that the text compares a label or field of this name with: in PromQL as `a="b"` or
/// `a=~"b|c"`, in JavaScript as `a === "b"`.
fn compared<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let mut words = Vec::new();
    for operator in ["=\"", "=~\"", "!=\"", "!~\"", " === \"", " !== \""] {
        for (at, before) in text.match_indices(&format!("{name}{operator}")) {
            let part_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
            let inside = text[..at].ends_with(part_of_name);
            let markup = operator == "=\"" && text[..at].ends_with(' ');
            if inside || markup {
                continue;
            }
            let value = text[at + before.len()..].split('"').next().unwrap_or_default();
            words.extend(value.split('|').filter(|word| !word.starts_with('$')));
        }
    }
    words
}

fn only_reading_requests_are_served() {
    let pair = Pair::new("");
    let _daemon = pair.start(&pair.a);
    pair.expect_role(&pair.a, "master");
    let _exporter = pair.export(&pair.a, &[]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        for path in ["/", "/metrics", "/drain", "/failover"] {
            let answer = pair.ask(&pair.a, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
        }
    }
    let head = pair.ask(&pair.a, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for path in ["/", "/metrics", "/healthz", "/status.json", "/events.json", "/nowhere"] {
        let answer = pair.get(&pair.a, path);
        let expected = if path == "/nowhere" { 404 } else { 200 };
        assert_eq!(answer.status, expected, "{path}: {}", answer.body);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
    }
    let asked = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n";
    let open = pair.ask(&pair.a, asked);
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(
        open.body.ends_with("# EOF\n") && open.body.contains("# TYPE vipd_adverts_sent counter")
    );
    // Requests that are not HTTP or too large are refused or dropped.
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for garbage in ["\x16\x03\x01 hello\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &long] {
        assert_ne!(pair.ask(&pair.a, garbage).status, 200);
    }
    assert_eq!(pair.get(&pair.a, "/healthz").body, "ok: web is master\n");
}

fn idle_clients_do_not_block_others() {
    let pair = Pair::new("");
    let _daemon = pair.start(&pair.a);
    let _exporter = pair.export(&pair.a, &[]);
    let address = pair.exporter(&pair.a);
    let began = Instant::now();
    let silent: Vec<TcpStream> = pair.a.namespace().run(move || {
        let connect = || {
            TcpStream::connect(address).and_then(|mut stream| {
                stream.write_all(b"GET / HT")?;
                Ok(stream)
            })
        };
        (0..100).filter_map(|_| connect().ok()).collect()
    });
    assert!(silent.len() >= 64, "{}", silent.len());
    // Clients time out after 5 s, and one round of them is served before this one.
    assert_eq!(pair.get(&pair.a, "/healthz").status, 200);
    println!("{} silent clients, answered after {:?}", silent.len(), began.elapsed());
    drop(silent);
}

// ---- rules and dashboard -----------------------------------------------------------------------

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/prometheus/vipd.rules.yml");
const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/grafana/vipd.json");

fn the_alert_rules_do_what_they_say() {
    let checked = promtool(&["check", "rules", RULES], None);
    assert!(checked.status.success(), "{}", said(&checked));
    let tests = RULES.replace("rules.yml", "rules.test.yml");
    let tested = promtool(&["test", "rules", &tests], None);
    assert!(tested.status.success(), "{}", said(&tested));
    // Every rule has a test.
    let (rules, tests) = (fs::read_to_string(RULES).unwrap(), fs::read_to_string(tests).unwrap());
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let untested: Vec<&str> =
        alerts.filter(|alert| !tests.contains(&format!("alertname: {alert}\n"))).collect();
    assert_eq!(untested, Vec::<&str>::new());
}

fn every_metric_that_rules_and_dashboard_name_is_there() {
    let pair = Pair::new(
        "checks = [\"broken\"]\n[virtual_router.hooks]\nmaster = \"/bin/false\"\n[[check]]\n\
         name = \"broken\"\ncommand = \"/bin/false\"\ninterval = \"100ms\"\nfall = 1\nweight = -10\n",
    );
    let _daemons = pair.start_both();
    let _exporter = pair.export(&pair.a, &[]);
    let hook = || pair.metrics(&pair.a).contains("outcome=\"exited\"").then_some(());
    wait_for(TIMEOUT, hook).unwrap();
    let failing = "vipd_check_verdict{router=\"web\",check=\"broken\",verdict=\"failing\"} 1";
    let failing = || pair.metrics(&pair.a).contains(failing).then_some(());
    assert!(wait_for(TIMEOUT, failing).is_some(), "{}", pair.metrics(&pair.a));
    assert_eq!(pair.number(&pair.a, "vipd_last_hook_success{router=\"web\",hook=\"master\"}"), 0.0);
    let there = pair.metrics(&pair.a);
    let there: BTreeSet<&str> =
        there.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let dashboard = fs::read_to_string(DASHBOARD).unwrap();
    let _: Value = serde_json::from_str(&dashboard).unwrap();
    let named = fs::read_to_string(RULES).unwrap() + &dashboard;
    let words = named.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metrics: BTreeSet<&str> = words
        .filter(|word| word.starts_with("vipd_"))
        .map(|word| {
            ["_bucket", "_count", "_sum"].iter().fold(word, |w, s| w.strip_suffix(s).unwrap_or(w))
        })
        .collect();
    assert!(metrics.len() > 10, "{metrics:?}");
    let unknown: Vec<_> = metrics.difference(&there).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not among {there:?}");
}

fn prometheus_reads_both_hosts_and_sees_that_no_host_is_master() {
    let pair = Pair::new("");
    let mut daemons = pair.start_both();
    let _exporters = (
        pair.export(&pair.a, &["--listen", "0.0.0.0:9112"]),
        pair.export(&pair.b, &["--listen", "0.0.0.0:9112"]),
    );
    let client = pair.lab.host("client", 3).unwrap();
    let config = client.dir().join("prometheus.yml");
    let targets = "static_configs: [{targets: [\"192.0.2.1:9112\", \"192.0.2.2:9112\"]}]";
    let text = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [\"{RULES}\"]\n\
         scrape_configs:\n- job_name: vipd\n  {targets}\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", client.dir().join("tsdb").display()));
    command.arg("--web.listen-address=127.0.0.1:9090");
    let log = client.dir().join("prometheus.log");
    let prometheus = Daemon::spawn(&client, &command, config, log).unwrap();
    let values = |query: &str| {
        let encoded = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        let query: String = query.bytes().map(encoded).collect();
        let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\nHost: x\r\n\r\n");
        let answer = ask(&client, ([127, 0, 0, 1], 9090).into(), &request)?;
        let answer: Value = serde_json::from_str(&answer.body).ok()?;
        let results = answer["data"]["result"].as_array()?.clone();
        Some(
            results
                .iter()
                .map(|result| result["value"][1].as_str().unwrap_or("").to_owned())
                .collect::<Vec<_>>(),
        )
    };
    let expect = |query: &str, expected: &[&str]| {
        let found = wait_for(TIMEOUT, || values(query).filter(|values| *values == expected));
        assert!(found.is_some(), "{query}: {:?}\n{}", values(query), prometheus.log());
    };
    expect("up", &["1", "1"]);
    expect("sum(vipd_router_role{role=\"master\"})", &["1"]);
    expect("count(vipd_advert_lateness_seconds_bucket{le=\"+Inf\"})", &["2"]);
    expect("sum(ALERTS)", &[]);
    // Every query of the dashboard is valid and has a result.
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(DASHBOARD).unwrap()).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().unwrap();
        let found = || {
            let found = targets.iter().map(|target| {
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$job", ".*").replace("$router", ".*");
                let query = query.replace("$__rate_interval", "1m").replace("$__interval", "1m");
                values(&query).unwrap_or_else(|| panic!("not understood: {query}")).len()
            });
            (found.sum::<usize>() > 0).then_some(())
        };
        // There are no hooks and no unknown senders here.
        let quiet = ["Hooks", "Discarded packets and contention"].map(Value::from);
        let timeout = if quiet.contains(&panel["title"]) { Duration::ZERO } else { TIMEOUT };
        let found = wait_for(timeout, found).is_some();
        assert!(found || timeout.is_zero(), "{}: nothing", panel["title"]);
    }
    daemons.0.crash();
    daemons.1.crash();
    expect("sum(vipd_up)", &["0"]);
    expect("count(ALERTS{alertname=\"VipdNobodyIsMaster\"})", &["1"]);
    expect("count(ALERTS{alertname=\"VipdDown\"})", &["2"]);
}

// ---- the page ----------------------------------------------------------------------------------

fn the_page_shows_a_failover_as_it_happens() {
    // Texts of the daemon may look like HTML.
    const FILE: &str = "<img src=x onerror=alert(1)>.toml";
    let pair = Pair::new("");
    let program = Program::Vipd(VIPD.into());
    let dir = pair.a.dir();
    let config = dir.join(FILE);
    let text = lab::configuration("web-a", &program, std::slice::from_ref(&pair.spec_a));
    fs::write(&config, text).unwrap();
    let mut command = Command::new(VIPD);
    command.arg("run").arg("--config").arg(&config).arg("--state-dir").arg(dir.join("state"));
    command.arg("--runtime-dir").arg(pair.a.runtime_dir().unwrap());
    let mut a = Daemon::spawn(&pair.a, &command, config, dir.join("vipd.log")).unwrap();
    pair.expect_role(&pair.a, "master");
    let b = pair.start(&pair.b);
    pair.expect_role(&pair.b, "backup");
    let mut exporter = pair.export(&pair.a, &[]);
    let browser = Browser::start(&pair.a);
    browser.open("http://127.0.0.1:9112/");

    // Roles, and since when.
    browser.expect("the role", ".router .role", "master");
    browser.expect("where it is", ".where", "Here for ");
    browser.expect("the address", ".addresses .here", "192.0.2.100");
    browser.expect("the verdict", "#verdict", "All is well: 1 master.");
    browser.expect("the timeline", "#events", "no master was heard");
    // Data is text, whatever it looks like.
    browser.expect("the host", "h1", "web-a");
    browser.expect("the file", "#process", FILE);
    assert_eq!(browser.script("return document.images.length"), 0);
    // Light, dark and on a phone: nothing is wider than the screen.
    for (name, width, height, scheme) in [
        ("light", 1280, 900, "light"),
        ("dark", 1280, 900, "dark"),
        ("phone", 390, 844, "light"),
        ("phone-dark", 390, 844, "dark"),
    ] {
        browser.show_as(width, height, scheme);
        let colour = browser.script("return getComputedStyle(document.body).backgroundColor");
        let bright: u32 = numbers(colour.as_str().unwrap()).iter().take(3).sum();
        assert_eq!(bright > 3 * 128, scheme == "light", "{name}: {colour}");
        let wide = browser.script("return document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= width, "{name}: {wide} pixels wide");
        let poor = browser.script(CONTRAST);
        assert_eq!(poor, serde_json::json!([]), "{name}: too little contrast");
        browser.screenshot(&format!("page-{name}"));
    }
    browser.show_as(1280, 900, "light");

    // A failover, without the page being loaded again.
    browser.script("window.sameDocument = true");
    let began = Instant::now();
    pair.vipd(&pair.a, &["failover", "web"]);
    browser.expect("the new role", ".router .role", "backup");
    println!("the page showed the failover {:?} after it was asked for", began.elapsed());
    browser.expect("who has it", ".where", "At 192.0.2.2");
    browser.expect("the timeline", "#events", "failover was asked for; 192.0.2.2 took over");
    browser.expect("what to do", "#verdict", "vipd resume web");
    browser.expect("what is said aloud", "#said", "web is backup");
    browser.screenshot("page-failover");

    // Without a daemon, and without an exporter, it says so, since when, and shows the last state.
    a.crash();
    browser.expect("the banner", "#lost", "vipd does not answer on this host since ");
    browser.expect("why", "#lost", "vipd is not running (no daemon in ");
    browser.expect("what was", ".where", "At 192.0.2.2");
    browser.screenshot("page-daemon-down");
    exporter.crash();
    browser.expect("the banner", "#lost", "The exporter does not answer since ");
    let shown = browser.script("return getComputedStyle(document.getElementById('lost')).display");
    assert_ne!(shown, "none");
    // The daemon is back, and the page shows it.
    let _exporter = pair.export(&pair.a, &[]);
    let _a = pair.start(&pair.a);
    let gone =
        || (browser.script("return document.getElementById('lost').hidden") == true).then_some(());
    assert!(wait_for(TIMEOUT, gone).is_some());
    assert_eq!(browser.script("return window.sameDocument"), true);
    // The content security policy blocked nothing; failed requests are those without a server.
    let complaints: Vec<String> = browser
        .complaints()
        .into_iter()
        .filter(|text| !text.contains("Failed to load resource"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    drop(b);
}

/// Texts whose contrast with what is behind them is below WCAG's 4.5 (3 where they are large).
const CONTRAST: &str = r#"
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map((v) => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * x + .7152 * y + .0722 * z; };
const behind = (node) => { for (let at = node; at; at = at.parentElement) { const colour = rgba(getComputedStyle(at).backgroundColor); if (colour[3] > 250) return colour; } return [255, 255, 255]; };
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode, node = text.parentElement, style = getComputedStyle(node);
  if (!text.data.trim() || ["SCRIPT", "STYLE"].includes(node.tagName) || !node.checkVisibility()) continue;
  const [one, two] = [light(rgba(style.color)), light(behind(node))].sort((a, b) => b - a);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  if ((one + .05) / (two + .05) < (large ? 3 : 4.5)) poor.push(text.data + ": " + ((one + .05) / (two + .05)).toFixed(2));
}
return poor;
"#;

fn numbers(text: &str) -> Vec<u32> {
    let parts = text.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

// ---- two hosts ---------------------------------------------------------------------------------

const SENT: &str = "vipd_adverts_sent_total{router=\"web\"}";

struct Pair {
    lab: Lab,
    a: Host,
    b: Host,
    spec_a: RouterSpec,
    spec_b: RouterSpec,
}

impl Pair {
    /// `a` has the better priority; `more` stands in the table of both.
    fn new(more: &str) -> Self {
        let lab = Lab::new().unwrap();
        let (a, b) = (lab.host("a", 1).unwrap(), lab.host("b", 2).unwrap());
        let ip: IpAddr = "192.0.2.100".parse().unwrap();
        let spec = |priority| {
            let mut spec = RouterSpec::new(ip, priority);
            spec.more += more;
            spec
        };
        Pair { a, b, spec_a: spec(150), spec_b: spec(100), lab }
    }

    fn start(&self, host: &Host) -> Daemon {
        let spec = if host.name() == "a" { &self.spec_a } else { &self.spec_b };
        let program = Program::Vipd(VIPD.into());
        let daemon = Daemon::start(host, &program, std::slice::from_ref(spec)).unwrap();
        let asked = || self.vipd(host, &["status"]).status.success().then_some(());
        assert!(wait_for(TIMEOUT, asked).is_some(), "{}", daemon.log());
        daemon
    }

    /// Both, `a` being master and `b` its backup.
    fn start_both(&self) -> (Daemon, Daemon) {
        let a = self.start(&self.a);
        self.expect_role(&self.a, "master");
        let b = self.start(&self.b);
        self.expect_role(&self.b, "backup");
        (a, b)
    }

    fn expect_role(&self, host: &Host, role: &str) {
        let is =
            || self.vipd(host, &["status", "web", "--is", role]).status.success().then_some(());
        let settled = wait_for(TIMEOUT, is);
        assert!(settled.is_some(), "{}", said(&self.vipd(host, &["status", "web"])));
    }

    fn vipd(&self, host: &Host, arguments: &[&str]) -> Output {
        let mut command = Command::new(VIPD);
        command.args(arguments).arg("--runtime-dir").arg(host.runtime_dir().unwrap());
        host.namespace().run(move || command.output()).unwrap()
    }

    /// Starts the exporter on a host and waits until it serves.
    fn export(&self, host: &Host, arguments: &[&str]) -> Daemon {
        let mut command = Command::new(VIPD);
        command.arg("exporter").arg("--runtime-dir").arg(host.runtime_dir().unwrap());
        command.args(arguments);
        let log = host.dir().join("exporter.log");
        let exporter = Daemon::spawn(host, &command, PathBuf::new(), log).unwrap();
        let request = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
        let serves = || ask(host, self.exporter(host), request).map(drop);
        assert!(wait_for(TIMEOUT, serves).is_some(), "{}", exporter.log());
        exporter
    }

    fn exporter(&self, _host: &Host) -> SocketAddr {
        ([127, 0, 0, 1], PORT).into()
    }

    fn ask(&self, host: &Host, request: &str) -> Answer {
        ask(host, self.exporter(host), request).unwrap_or_default()
    }

    fn get(&self, host: &Host, path: &str) -> Answer {
        self.ask(host, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    fn metrics(&self, host: &Host) -> String {
        self.get(host, "/metrics").body
    }

    /// The value of one sample.
    fn number(&self, host: &Host, sample: &str) -> f64 {
        let text = self.metrics(host);
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().unwrap()
    }
}

/// A response.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends a request from a host, and reads the response.
fn ask(host: &Host, address: SocketAddr, request: &str) -> Option<Answer> {
    let request = request.to_owned();
    let text = host.namespace().run(move || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        // A client that is refused may find its request unread.
        let _ = stream.write_all(request.as_bytes());
        let (mut bytes, mut buffer) = (Vec::new(), [0; 64 << 10]);
        // Not every server closes the connection on request.
        while !is_whole(&bytes) {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        String::from_utf8(bytes).ok()
    })?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// Whether the body is complete according to its Content-Length.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| bytes.len() >= end + 4 + length)
}

/// An advert as tcpdump saw it.
#[derive(Debug)]
struct Captured {
    at: f64,
    source: String,
    vrid: String,
    priority: f64,
}

/// tcpdump on a host's interface.
struct Capture {
    tcpdump: Daemon,
}

impl Capture {
    fn start(host: &Host) -> Self {
        let mut command = Command::new("tcpdump");
        command.args(["-i", "eth0", "-n", "-tt", "-v", "-l", "--immediate-mode", "ip proto 112"]);
        let log = host.dir().join("tcpdump.log");
        let tcpdump = Daemon::spawn(host, &command, PathBuf::new(), log).unwrap();
        let listens = || tcpdump.log().contains("listening on").then_some(());
        assert!(wait_for(TIMEOUT, listens).is_some(), "{}", tcpdump.log());
        Capture { tcpdump }
    }

    fn stop(mut self) -> Vec<Captured> {
        thread::sleep(Duration::from_millis(200));
        self.tcpdump.stop(TIMEOUT).unwrap();
        let text = self.tcpdump.log();
        // Each is two lines: the IP header with the time, and the indented VRRP message.
        let lines: Vec<&str> = text.lines().collect();
        let after = |line: &str, word: &str| {
            let (_, rest) = line.split_once(word)?;
            Some(rest.split([',', ' ']).next()?.to_owned())
        };
        let advert = |pair: &[&str]| {
            let [ip, vrrp] = pair else { return None };
            Some(Captured {
                at: ip.split(' ').next()?.parse().ok()?,
                source: vrrp.trim().split(' ').next()?.to_owned(),
                vrid: after(vrrp, "vrid ")?,
                priority: after(vrrp, "prio ")?.parse().ok()?,
            })
        };
        let adverts: Vec<_> = lines.windows(2).filter_map(advert).collect();
        assert!(!adverts.is_empty(), "{text}");
        adverts
    }
}

fn unix() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn promtool(arguments: &[&str], input: Option<&str>) -> Output {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    if let Some(input) = input {
        // Output that is not read is discarded.
        let _ = stdin.write_all(input.as_bytes());
    }
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into()
}
