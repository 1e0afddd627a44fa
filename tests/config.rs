//! Every rule of the configuration and its message; see `tests/config/`.
//!
//! `BLESS=1 cargo test --test config` rewrites the expected output: read the difference.
#![allow(clippy::unwrap_used)]

mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use vipd::config::{CheckPlan, Config, HookCommand, Hooks, Http, Problems, Target};
use vipd::vrrp::{
    Address, CheckConfig, ChecksumForm, Effect, Family, Handover, Hook, Initial, Interval,
    Priority, RouterConfig, Version, Vrid,
};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn outcome_text(name: &str, text: &str) -> String {
    match Config::parse(name, text) {
        Ok(config) => {
            let advice = config.advice.iter().map(|advice| format!("\n{advice}\n"));
            config.explain() + &advice.collect::<String>()
        }
        Err(problems) => format!("{problems}\n"),
    }
}

/// The file, its name, and its text.
fn all_cases() -> impl Iterator<Item = (PathBuf, String, String)> {
    let files = std::fs::read_dir(repository("tests/config")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        (path, name, text)
    })
}

#[test]
fn every_case_prints_what_is_expected() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut cases = 0;
    let mut wrong = Vec::new();
    for (path, name, text) in all_cases() {
        cases += 1;
        let said = outcome_text(&name, &text);
        let expected = path.with_extension("expected");
        if bless {
            std::fs::write(&expected, &said).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("--- {name} says now:\n{said}"));
        }
    }
    assert!(cases >= 35, "only {cases} cases");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_empty_file_is_a_node_without_routers() {
    let config = Config::parse("empty.toml", "").unwrap();
    assert!(!config.node.name.is_empty());
    assert!(config.vrrp.routers.is_empty() && config.advice.is_empty());
    let refusal = config.require_routers().unwrap_err().to_string();
    assert!(refusal.contains("there is no virtual router in this file"), "{refusal}");
}

#[test]
fn omitted_keys_have_the_documented_default() {
    let text = std::fs::read_to_string(repository("tests/config/minimal.toml")).unwrap();
    let config = Config::parse("minimal.toml", &text).unwrap();
    config.require_routers().unwrap();
    let router = &config.vrrp.routers[0];
    let expected = RouterConfig {
        name: "web".into(),
        interface: "eth0".into(),
        vrid: Vrid::new(51).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority::new(150),
        addresses: [Address::host("192.0.2.10".parse().unwrap())].into(),
        unadvertised_addresses: [].into(),
        advert_interval: Interval::DEFAULT,
        max_peer_interval: Interval::from_centis(1000).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        start_delay: Duration::ZERO,
        link_delay: Duration::from_secs(2),
        checksum: ChecksumForm::PseudoHeader,
        unicast_peers: None,
        unicast_min_ttl: 1,
        source_address: None,
        accept_from: None,
        authentication: None,
        address_lifetime: Some(2),
        handover: Handover::Overlap,
        before_release: None,
        before_claim: None,
        fault_for: std::collections::BTreeMap::new(),
        checks: [].into(),
    };
    assert_eq!(*router, expected);
    assert!(config.hooks.is_empty() && config.advice.is_empty());
}

#[test]
fn written_values_reach_the_configuration() {
    let text = std::fs::read_to_string(repository("tests/config/every_key.toml")).unwrap();
    let config = Config::parse("every_key.toml", &text).unwrap();
    assert_eq!(config.node.name, "web-a");
    let router = &config.vrrp.routers[0];
    let ip = |text: &str| text.parse().unwrap();
    let expected = RouterConfig {
        name: "web".into(),
        interface: "eth0".into(),
        vrid: Vrid::new(51).unwrap(),
        family: Family::V4,
        version: Version::V3,
        priority: Priority::new(150),
        addresses: [Address::host(ip("192.0.2.10")), Address { ip: ip("192.0.2.11"), prefix: 24 }]
            .into(),
        unadvertised_addresses: [
            Address::host(ip("2001:db8::10")),
            Address::host(ip("198.51.100.1")),
        ]
        .into(),
        advert_interval: Interval::from_centis(150).unwrap(),
        max_peer_interval: Interval::from_centis(500).unwrap(),
        preempt: true,
        preempt_delay: Duration::from_secs(120),
        start_delay: Duration::from_secs(10),
        link_delay: Duration::ZERO,
        checksum: ChecksumForm::Plain,
        unicast_peers: Some([ip("192.0.2.2")].into()),
        unicast_min_ttl: 64,
        source_address: Some(ip("192.0.2.1")),
        accept_from: Some([ip("192.0.2.1"), ip("192.0.2.2")].into()),
        authentication: None,
        address_lifetime: Some(3),
        handover: Handover::Exclusive,
        before_release: Some(Duration::from_secs(20)),
        before_claim: Some(Duration::from_secs(2)),
        fault_for: [
            (Hook::BeforeClaim, Duration::from_secs(30)),
            (Hook::Master, Duration::from_secs(60)),
        ]
        .into(),
        checks: ["haproxy".into(), "drain".into()].into(),
    };
    assert_eq!(*router, expected);
    let command = |argv: &[&str], secs, user: &str| HookCommand {
        argv: argv.iter().map(|word| word.to_string()).collect(),
        timeout: Duration::from_secs(secs),
        user: Some(user.into()),
    };
    let hooks = Hooks {
        of: BTreeMap::from([
            (Hook::Master, command(&["/etc/vipd/hooks/web-up", "fast"], 30, "web")),
            (Hook::Backup, command(&["web-down"], 30, "web")),
            (Hook::Fault, command(&["logger", "web has a fault"], 30, "web")),
            (Hook::Stop, command(&["systemctl", "stop", "app"], 30, "web")),
            (Hook::BeforeRelease, command(&["systemctl", "stop", "app"], 20, "root")),
            (Hook::BeforeClaim, command(&["may-take-over"], 2, "web")),
        ]),
        notify: Some(command(&["/etc/vipd/hooks/changed"], 30, "web")),
    };
    assert_eq!(config.hooks["web"], hooks);

    let old = &config.vrrp.routers[1];
    assert_eq!(old.version, Version::V2);
    assert_eq!(old.authentication, Some(*b"secret\0\0"));
    assert_eq!((old.preempt, old.address_lifetime), (false, None));
    assert!(!config.hooks.contains_key("old"));
}

#[test]
fn every_kind_of_check_reaches_the_configuration() {
    let text = std::fs::read_to_string(repository("tests/config/every_key.toml")).unwrap();
    let config = Config::parse("every_key.toml", &text).unwrap();
    let (millis, secs) = (Duration::from_millis, Duration::from_secs);
    let expected = [
        (
            "haproxy",
            Target::Http(Http {
                url: "https://[::1]:8443/healthz?deep=1".into(),
                status: Some(204),
                body: Some("ready".into()),
                ca_file: Some("/etc/vipd/ca.pem".into()),
            }),
            (millis(500), secs(1)),
            (5, 4, Effect::Weight(-60), Initial::Failing),
        ),
        (
            "drain",
            Target::FileAbsent { path: "/run/drain".into() },
            (secs(2), secs(3)),
            (3, 2, Effect::Fault, Initial::Wait(secs(5))),
        ),
        (
            "script",
            Target::Command {
                argv: vec!["is-well".into(), "a b".into()],
                user: Some("nobody".into()),
            },
            (secs(60), secs(20)),
            (1, 1, Effect::Last, Initial::Wait(secs(80))),
        ),
        (
            "port",
            Target::Tcp { host: "::1".into(), port: 5432 },
            (secs(2), secs(3)),
            (3, 2, Effect::Weight(20), Initial::Passing),
        ),
        (
            "nginx",
            Target::Process { process: "nginx".into(), user: "root".into(), delay: millis(200) },
            (secs(2), secs(3)),
            (1, 1, Effect::Fault, Initial::Wait(secs(5))),
        ),
        (
            "unit",
            Target::Unit { unit: "app@1.service".into() },
            (secs(2), secs(3)),
            (3, 2, Effect::Fault, Initial::Wait(secs(5))),
        ),
        (
            "load",
            Target::File { path: "/run/load".into() },
            (secs(2), secs(3)),
            (1, 1, Effect::Number, Initial::Wait(secs(5))),
        ),
        (
            "licence",
            Target::FilePresent { path: "/etc/app/licence".into() },
            (secs(2), secs(3)),
            (3, 2, Effect::Fault, Initial::Wait(secs(5))),
        ),
        (
            "uplink",
            Target::Interface { interface: "eth9".into() },
            (secs(2), secs(3)),
            (3, 2, Effect::Fault, Initial::Wait(secs(5))),
        ),
        (
            "gateway",
            Target::Ping { address: "192.0.2.254".parse().unwrap() },
            (secs(2), secs(3)),
            (3, 2, Effect::Fault, Initial::Wait(secs(5))),
        ),
    ];
    assert_eq!(config.checks.len(), expected.len());
    let found = config.vrrp.checks.iter().zip(&config.checks);
    for ((counts, plan), (name, target, (interval, timeout), (fall, rise, effect, initial))) in
        found.zip(expected)
    {
        let plan_expected = CheckPlan { name: name.into(), target, interval, timeout };
        assert_eq!(*plan, plan_expected);
        assert_eq!(*counts, CheckConfig { name: name.into(), fall, rise, effect, initial });
    }
    let passed_on = serde_json::to_string(&config.checks).unwrap();
    assert_eq!(serde_json::from_str::<Vec<CheckPlan>>(&passed_on).unwrap(), config.checks);
}

#[test]
fn members_of_a_group_have_the_groups_checks_and_hooks() {
    let text = std::fs::read_to_string(repository("tests/config/every_key.toml")).unwrap();
    let config = Config::parse("every_key.toml", &text).unwrap();
    let [group] = config.vrrp.groups.as_slice() else { panic!("{:?}", config.vrrp.groups) };
    assert_eq!(&*group.name, "both-sides");
    assert_eq!(*group.members, ["inside".into(), "outside".into()]);
    assert_eq!(config.hooks["both-sides"].iter().count(), 3);
    for member in &config.vrrp.routers[2..] {
        // In the order in which they are defined.
        let checks = ["script", "port", "nginx", "unit", "load", "licence", "uplink", "gateway"];
        assert_eq!(*member.checks, checks.map(std::sync::Arc::from));
        assert_eq!(member.before_claim, Some(Duration::from_secs(5)));
        assert_eq!(member.before_release, Some(Duration::from_secs(30)));
        let fault_for = [(Hook::BeforeClaim, Duration::from_secs(90))];
        assert_eq!(member.fault_for, fault_for.into());
        assert!(!config.hooks.contains_key(&member.name));
    }
}

#[test]
fn the_reference_configuration_has_no_virtual_router_in_force() {
    let config = Config::load_draft(&repository("etc/vipd.toml")).unwrap();
    assert!(config.vrrp.routers.is_empty() && config.advice.is_empty());
}

/// `etc/vipd.toml` with its examples in force: `#` without a blank begins a setting.
fn reference_in_force() -> String {
    let text = std::fs::read_to_string(repository("etc/vipd.toml")).unwrap();
    let in_force = text.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with([' ', '#']) => setting,
        _ => line,
    });
    in_force.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_examples_of_the_reference_configuration_hold() {
    let config = Config::parse("vipd.toml", &reference_in_force()).unwrap();
    assert_eq!(config.vrrp.routers.len(), 6);
    assert_eq!(config.hooks["gateway"].iter().count(), 7);
    let kinds: BTreeSet<&str> = config.checks.iter().map(|check| check.target.kind()).collect();
    assert_eq!((config.checks.len(), kinds.len()), (10, 10), "one check of each kind");
    assert_eq!(config.vrrp.groups.len(), 1);
    let said: Vec<String> = config.advice.iter().map(ToString::to_string).collect();
    assert!(!said.iter().any(|said| said.contains("nobody names")), "{said:#?}");
}

#[test]
fn the_reference_configuration_has_every_key_of_the_parser() {
    // Keys that it does not know have been refused by the test above.
    let text = reference_in_force();
    let written: BTreeSet<&str> = text
        .split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let set = |table: &str, key: &str| {
        let inside = [format!("{{ {key} ="), format!(", {key} =")];
        let header = [
            format!("[{key}]"),
            format!("[[{key}]]"),
            format!("[virtual_router.{key}]"),
            format!("[sync_group.{key}]"),
        ];
        let mut current = "the file";
        text.lines().any(|line| {
            if line.starts_with('[') {
                current = line;
            }
            (line.starts_with(&format!("{key} =")) && current == table)
                || header.iter().any(|header| line == header)
                || (table == "a hook's table"
                    && inside.iter().any(|inside| !line.starts_with('#') && line.contains(inside)))
        })
    };
    for (table, keys) in vipd::config::keys() {
        // The same keys are documented once, and referred to.
        let table = if table == "[sync_group.hooks]" { "[virtual_router.hooks]" } else { table };
        for key in keys {
            assert!(
                written.contains(key) && set(table, key),
                "`{key}` of {table} is not in etc/vipd.toml"
            );
        }
    }
}

#[test]
fn every_key_has_a_value_that_is_refused() {
    let mut refused = BTreeSet::new();
    for (_, name, text) in all_cases() {
        let lines: Vec<&str> = text.lines().collect();
        let Err(problems) = Config::parse(&name, &text) else { continue };
        for place in problems.iter().filter_map(|problem| problem.place.as_ref()) {
            let header = lines[..place.line].iter().rfind(|line| line.starts_with('['));
            let table = header.copied().unwrap_or("the file");
            // What stands before the value: `key = `, or `key = { other = 1, inner = `.
            let before: String = place.text().chars().take(place.column - 1).collect();
            let keys = before.match_indices(" = ").filter_map(|(at, _)| {
                before[..at].rsplit(|c: char| !(c.is_ascii_lowercase() || c == '_')).next()
            });
            let keys: Vec<&str> = keys.collect();
            let inner = keys.iter().skip(1).next_back();
            let found = keys.first().map(|key| (table, *key)).into_iter();
            for (table, key) in found.chain(inner.map(|key| ("a hook's table", *key))) {
                refused.insert((table.to_owned(), key.to_owned()));
            }
        }
    }
    for (table, keys) in vipd::config::keys() {
        // The file itself and entries of lists are covered by other tests.
        let tried = table.starts_with('[') || table == "a hook's table";
        for key in keys.iter().filter(|_| tried) {
            let found = refused.contains(&(table.to_owned(), key.to_string()));
            assert!(found, "no case of tests/config has a bad value of `{key}` of {table}");
        }
    }
}

#[test]
fn every_key_is_written_in_a_scenario_of_real_daemons() {
    let mut files =
        vec![repository("tests/lab/router_spec.rs"), repository("tests/checks/hosts.rs")];
    let scenarios = std::fs::read_dir(repository("netns-tests")).unwrap();
    files.extend(scenarios.map(|entry| entry.unwrap().path()));
    let texts: String = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect::<Vec<_>>()
        .join("\n");
    // In a string of Rust: a quote is `\"`, a brace is `{{`, and `{...}` is filled in.
    let values = ["\\\"", "[\\\"", "[{", "{", "-", "true", "false"];
    let is_value = |rest: &str| {
        values.iter().any(|value| rest.starts_with(value))
            || rest.starts_with(|c: char| c.is_ascii_digit())
    };
    for (table, keys) in vipd::config::keys() {
        for key in keys {
            let setting = format!("{key} = ");
            let header = [format!("[{key}]"), format!(".{key}]")];
            let written =
                texts.match_indices(&setting).any(|(at, _)| is_value(&texts[at + setting.len()..]))
                    || header.iter().any(|header| texts.contains(header));
            assert!(written, "no scenario writes `{key}` of {table}");
        }
    }
}

#[test]
fn every_key_with_a_typing_error_is_recognised() {
    for (table, keys) in vipd::config::keys() {
        for key in keys.iter().filter(|key| key.len() > 3) {
            for typed in typing_errors(key).filter(|typed| !keys.contains(&typed.as_str())) {
                let text = match table {
                    "the file" => format!("{typed} = 1"),
                    "a hook's table" => {
                        format!(
                            "[[virtual_router]]\n[virtual_router.hooks]\nstop = {{ {typed} = 1 }}"
                        )
                    }
                    table => format!("[[virtual_router]]\n{table}\n{typed} = 1"),
                };
                let problems = Config::parse("typed.toml", &text).unwrap_err();
                let suggested = problems.iter().any(|problem| {
                    problem.message.contains(&format!("`{typed}`"))
                        && problem.suggestion.contains(&format!("`{key}`"))
                });
                assert!(suggested, "{typed} instead of {key}:\n{problems}");
            }
        }
    }
}

/// One letter missing, two letters exchanged, one letter too many.
fn typing_errors(key: &str) -> impl Iterator<Item = String> {
    let letters: Vec<char> = key.chars().collect();
    let of = |letters: Vec<char>| letters.into_iter().collect::<String>();
    let middle = letters.len() / 2;
    let mut missing = letters.clone();
    missing.remove(middle);
    let mut exchanged = letters.clone();
    exchanged.swap(middle, middle - 1);
    let mut doubled = letters.clone();
    doubled.insert(middle, letters[middle]);
    [of(missing), of(exchanged), of(doubled)].into_iter()
}

#[test]
fn two_files_with_the_same_meaning_are_equal() {
    let text = std::fs::read_to_string(repository("tests/config/every_key.toml")).unwrap();
    let one = Config::parse("one.toml", &text).unwrap();
    let same = Config::parse("two.toml", &format!("# a remark\n\n{text}")).unwrap();
    let other = Config::parse("one.toml", &text.replace("\"20s\"", "\"21s\"")).unwrap();
    assert_eq!(one, same);
    assert_ne!(one, other);
}

/// Exit status, standard output, standard error of `vipd check`.
fn vipd_check(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_vipd"))
        .arg("check")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_prints_ok_and_the_meaning_or_every_problem() {
    let directory = Directory::new();
    let copy = |case: &str| {
        let text = std::fs::read_to_string(repository("tests/config").join(case)).unwrap();
        directory.file(case, &text, 0o644).to_string_lossy().into_owned()
    };
    let good = copy("claim_prefix.toml");
    let (status, meaning, notes) = vipd_check(&[&good]);
    assert_eq!(status, Some(0), "{notes}");
    assert!(meaning.starts_with("ok: node web-a, 2 virtual routers, 2 notes\n"), "{meaning}");
    assert_eq!(notes.matches("note: ").count(), 2, "{notes}");

    let (status, json, notes) = vipd_check(&[&good, "--json"]);
    assert_eq!((status, notes.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["routers"][0]["master_down_seconds"], 3.609375);
    assert_eq!(json["advice"].as_array().unwrap().len(), 2);

    let (status, nothing, problems) = vipd_check(&[&copy("ranges.toml")]);
    assert_eq!((status, nothing.as_str()), (Some(1), ""));
    assert!(problems.contains("11 problems in "), "{problems}");

    let hooks_elsewhere = copy("every_key.toml");
    let (status, ..) = vipd_check(&[&hooks_elsewhere, "--file-only"]);
    assert_eq!(status, Some(0));
    let (status, _, problems) = vipd_check(&[&hooks_elsewhere]);
    assert_eq!(status, Some(1));
    assert!(problems.contains("there is no program `/etc/vipd/hooks/web-up`"), "{problems}");
}

#[test]
fn a_long_list_of_problems_is_cut_and_counted() {
    let text: String = (0..500).map(|number| format!("key{number} = 1\n")).collect();
    let problems = Config::parse("long.toml", &text).unwrap_err();
    assert_eq!(problems.len(), 500);
    let shown = problems.to_string();
    assert!(shown.ends_with("500 problems in long.toml; the first 100 are shown"), "{shown}");
    assert_eq!(shown.matches("error:").count(), 100);
}

#[test]
fn a_line_too_long_to_show_is_named_only() {
    let text = format!("wrong = \"{}\"\n", "x".repeat(100_000));
    let shown = Config::parse("wide.toml", &text).unwrap_err().to_string();
    assert!(shown.contains("wide.toml:1:1") && shown.len() < 1000, "{shown}");
}

#[test]
fn colours_are_shown_only_when_asked_for() {
    let problems = Config::parse("wrong.toml", "wrong = 1").unwrap_err();
    assert!(problems.render(true).contains('\u{1b}'));
    assert!(!problems.render(false).contains('\u{1b}'));
}

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Directory(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn refusal(path: &Path) -> String {
    Config::load(path).unwrap_err().to_string()
}

#[test]
fn format_characters_of_the_file_are_not_shown() {
    let hidden = ['\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}', '\u{feff}', '\u{9b}', '\x1b'];
    for c in hidden {
        let text = format!("[[virtual_router]]\nname = \"we{c}b\" # {c}\ninterface = \"e{c}0\"\n");
        let refused = Config::parse(&format!("a{c}b.toml"), &text).unwrap_err();
        let plain = refused.to_string();
        assert!(!plain.contains(hidden), "{plain:?}");
        let colours = refused.render(true).replace("\x1b[", "");
        assert!(!colours.contains(hidden), "{colours:?}");
        if c != '\x1b' && c != '\u{9b}' {
            assert!(plain.contains("cannot be the name of an interface"), "{plain}");
        }
    }
    let text = "[[check]]\nname = \"web\"\nhttp = \"http://localhost/\"\nbody = \"\u{202e}well\u{200b}\"\n";
    let explained = Config::parse("vipd.toml", text).unwrap().explain();
    assert!(explained.contains("well") && !explained.contains(hidden), "{explained:?}");
}

#[test]
fn a_file_that_cannot_be_used_says_why() {
    let directory = Directory::new();
    let missing = refusal(&directory.0.path().join("vipd.toml"));
    assert!(missing.contains("there is no file") && missing.contains("etc/vipd.toml"), "{missing}");
    let a_directory = refusal(directory.0.path());
    assert!(a_directory.contains("is not a file"), "{a_directory}");

    let open = directory.file("open.toml", "", 0o666);
    let said = refusal(&open);
    assert!(said.contains("everybody may write") && said.contains("chmod o-w"), "{said}");
    let good = directory.file("good.toml", "", 0o644);
    Config::load(&good).unwrap();

    let of_a_group = directory.file("group.toml", "", 0o664);
    if nix::unistd::Uid::effective().is_root() {
        Config::load(&of_a_group).unwrap();
        let group = nix::unistd::Gid::from_raw(1);
        // In a user namespace there may be no other group.
        if nix::unistd::chown(&of_a_group, None, Some(group)).is_ok() {
            let said = refusal(&of_a_group);
            assert!(said.contains("the group 1 may write"), "{said}");
        }
    }

    // A name that others could replace is refused, too: by its directory, also that of a link.
    let open = directory.0.path().join("open");
    std::fs::create_dir(&open).unwrap();
    let there = directory.file("open/vipd.toml", "", 0o644);
    std::os::unix::fs::symlink(&good, open.join("link.toml")).unwrap();
    std::os::unix::fs::symlink("open/link.toml", directory.0.path().join("link.toml")).unwrap();
    Config::load(&directory.0.path().join("link.toml")).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    for path in [there.clone(), directory.0.path().join("link.toml")] {
        let said = refusal(&path);
        let expected = format!("chmod o-w {}", open.display());
        assert!(said.contains("decide what runs as root") && said.contains(&expected), "{said}");
    }
    Config::load_draft(&there).unwrap();
    let owner = Some(nix::unistd::Uid::from_raw(995));
    let of_another = directory.file("another.toml", "", 0o644);
    if nix::unistd::chown(&of_another, owner, None).is_ok() {
        let said = refusal(&of_another);
        assert!(said.contains("belongs to user 995") && said.contains("chown root"), "{said}");
        Config::load_draft(&of_another).unwrap();
    }

    let bytes = directory.0.path().join("latin1.toml");
    std::fs::write(&bytes, b"# fine\n# gr\xfc\xdfe\n").unwrap();
    let said = refusal(&bytes);
    assert!(said.contains("latin1.toml:2:5") && said.contains("not UTF-8"), "{said}");

    let pipe = directory.0.path().join("pipe.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(refusal(&pipe).contains("is not a file"));
    let large = directory.file("large.toml", &"#\n".repeat(3 << 20), 0o644);
    assert!(refusal(&large).contains("larger than 4 MiB"));
}

/// Reads a configuration with these hooks and checks it on this machine.
fn on_this_machine(directory: &Directory, hooks: &str) -> Result<Config, Problems> {
    let text = format!(
        "[[virtual_router]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\n\
         addresses = [\"192.0.2.10\"]\n[virtual_router.hooks]\n{hooks}\n"
    );
    let config = Config::load(&directory.file("vipd.toml", &text, 0o644))?;
    config.check_host()?;
    Ok(config)
}

#[test]
fn hooks_that_can_run_are_accepted() {
    let directory = Directory::new();
    let script = directory.file("up", "#!/bin/sh\n", 0o755);
    let link = directory.0.path().join("link");
    std::os::unix::fs::symlink(&script, &link).unwrap();
    let hooks = format!("master = {script:?}\nbackup = {link:?}\nstop = \"true\"");
    let config = on_this_machine(&directory, &hooks).unwrap_or_else(|said| panic!("{said}"));
    let name = &config.hooks["web"].of[&Hook::Stop].argv[0];
    let stop = vipd::config::find_program(name, None).unwrap();
    assert!(stop.ends_with("bin/true"), "{stop:?}");
}

#[test]
fn hooks_that_cannot_run_or_that_others_may_change_are_refused_all_at_once() {
    let directory = Directory::new();
    let path = directory.0.path();
    let not_executable = directory.file("plain", "#!/bin/sh\n", 0o644);
    let open = directory.file("open", "#!/bin/sh\n", 0o757);
    std::fs::create_dir(path.join("writable")).unwrap();
    let in_shared = directory.file("writable/hook", "#!/bin/sh\n", 0o755);
    let shared = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(path.join("writable"), shared).unwrap();
    let hooks = format!(
        "master = {:?}\nbackup = {not_executable:?}\nfault = {open:?}\nstop = {in_shared:?}\n\
         notify = {{ command = \"true\", user = \"no-such-user\" }}\n\
         before_release = \"no-such-program\"",
        path.join("missing")
    );
    let problems = on_this_machine(&directory, &hooks).unwrap_err();
    let said = problems.to_string();
    for (line, expected) in [
        (7, "there is no program"),
        (8, "cannot be executed"),
        (9, "everybody may write"),
        (10, "everybody may write"),
        (11, "there is no user `no-such-user`"),
        (12, "there is no program `no-such-program`"),
    ] {
        let found = problems.iter().any(|problem| {
            problem.message.contains(expected)
                && problem.place.as_ref().is_some_and(|place| place.line == line)
        });
        assert!(found, "line {line}: {expected}\n{said}");
    }
    assert!(said.contains("6 problems"), "{said}");
    // The file alone is valid.
    Config::load(&path.join("vipd.toml")).unwrap();
}

/// The kernel says "No such file or directory" of the script, which is there.
#[test]
fn a_script_whose_first_line_the_kernel_cannot_use_is_refused() {
    let directory = Directory::new();
    for (name, text, expected) in [
        ("windows", "#!/bin/sh\r\necho\r\n", "has the line ends of Windows"),
        (
            "missing",
            "#!/usr/bin/no-such-shell -e\n",
            "names the interpreter `/usr/bin/no-such-shell`",
        ),
        ("marked", "\u{feff}#!/bin/sh\necho up\n", "begins with a byte order mark"),
        ("bare", "echo up\n", "does not begin with `#!`"),
        ("empty", "", "does not begin with `#!`"),
    ] {
        let script = directory.file(name, text, 0o755);
        let refused = on_this_machine(&directory, &format!("master = {script:?}")).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    for text in ["#!/bin/sh", "#! /bin/sh -e\n", "#!/usr/bin/env -S sh\n", "\x7fELF\0"] {
        let script = directory.file("good", text, 0o755);
        let outcome = on_this_machine(&directory, &format!("master = {script:?}"));
        outcome.unwrap_or_else(|refused| panic!("{text:?}: {refused}"));
    }
}

#[test]
fn programs_and_authorities_of_checks_are_looked_for_on_this_machine() {
    let directory = Directory::new();
    let script = directory.file("well", "#!/bin/sh\n", 0o755);
    let open = directory.file("open", "#!/bin/sh\n", 0o757);
    let pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
    let authorities = directory.file("ca.pem", pem, 0o644);
    let not_pem = directory.file("ca.der", "\0", 0o644);
    let said = |checks: &str| {
        let config = Config::load(&directory.file("vipd.toml", checks, 0o644)).unwrap();
        config.check_host().map_err(|problems| problems.to_string())
    };
    let check = |name: &str, keys: &str| format!("[[check]]\nname = \"{name}\"\n{keys}\n");
    let good = check("a", &format!("command = [{script:?}, \"x\"]"))
        + &check("b", "command = \"true\"\nuser = \"root\"")
        + &check("c", &format!("http = \"https://localhost/\"\nca_file = {authorities:?}"));
    said(&good).unwrap();
    let bad = check("a", "command = \"no-such-program\"")
        + &check("b", &format!("command = [{open:?}]"))
        + &check("c", "command = \"true\"\nuser = \"no-such-user\"")
        + &check("d", &format!("http = \"https://localhost/\"\nca_file = {not_pem:?}"))
        + &check("e", "http = \"https://localhost/\"\nca_file = \"/no-such-file.pem\"")
        + &check("f", &format!("http = \"https://[::1]/\"\nca_file = {:?}", directory.0.path()));
    let refused = said(&bad).unwrap_err();
    for expected in [
        "there is no program `no-such-program`",
        "everybody may write",
        "there is no user `no-such-user`",
        "has no certificate in PEM form",
        "cannot look at `/no-such-file.pem`",
        "is not a file of certificates",
        "vipd.toml:3:11",
        "vipd.toml:10:8",
        "6 problems",
    ] {
        assert!(refused.contains(expected), "{expected}:\n{refused}");
    }
}

#[test]
fn a_hook_must_be_executable_for_its_user() {
    if !nix::unistd::Uid::effective().is_root() {
        let test = "a_hook_must_be_executable_for_its_user";
        return peers::skipped(test, "only root becomes other users");
    }
    let directory = Directory::new();
    let opened = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.0.path(), opened).unwrap();
    let private = directory.file("private", "#!/bin/sh\n", 0o700);
    let said = |hooks: &str| on_this_machine(&directory, hooks).map_err(|said| said.to_string());
    said(&format!("master = {private:?}")).unwrap();
    let refused = said(&format!("user = \"nobody\"\nmaster = {private:?}")).unwrap_err();
    assert!(refused.contains("cannot be executed by the user `nobody`"), "{refused}");
    let public = directory.file("public", "#!/bin/sh\n", 0o755);
    said(&format!("user = \"nobody\"\nmaster = {public:?}")).unwrap();
}

/// Every problem has a place within the text, and can be shown.
fn problems_are_sound(text: &str) {
    let last = text.lines().count().max(1);
    let sound = |problem: &vipd::config::Problem| {
        let place = problem.place.as_ref().expect("a place");
        assert!((1..=last).contains(&place.line), "{problem}");
        assert!(place.column <= place.text().chars().count() + 1, "{problem}");
        assert!(!problem.suggestion.is_empty() && !problem.message.is_empty(), "{problem}");
        assert!(!problem.render(false).is_empty());
    };
    match Config::parse("any.toml", text) {
        Ok(config) => config.advice.iter().for_each(sound),
        Err(problems) => {
            assert!(!problems.is_empty());
            problems.iter().for_each(sound);
            let places: Vec<_> =
                problems.iter().flat_map(|p| &p.place).map(|p| (p.line, p.column)).collect();
            assert!(places.is_sorted());
        }
    }
}

#[test]
fn problems_of_every_cut_of_a_file_are_sound() {
    let text = std::fs::read_to_string(repository("tests/config/every_key.toml")).unwrap();
    for end in 0..text.len() {
        problems_are_sound(&text[..end]);
    }
}

#[test]
fn deeply_nested_text_is_refused() {
    for text in ["a.".repeat(100_000), "[".repeat(100_000), "a={".repeat(50_000)] {
        problems_are_sound(&text);
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let mut pieces: Vec<String> = [
        "\n",
        "=",
        " = ",
        "[",
        "]",
        "{",
        "}",
        ",",
        "\"",
        "'",
        "#",
        ".",
        "\r\n",
        "\"\"\"",
        "0",
        "-1",
        "51",
        "1.5",
        "true",
        "\"2s\"",
        "\"10ms\"",
        "\"192.0.2.10\"",
        "\"fe80::1\"",
        "\"192.0.2.10/24\"",
        "\"\"",
        "ü",
        "\\u0000",
        "1979-05-27",
        "inf",
        "[node]\n",
        "[[virtual_router]]\n",
        "[virtual_router.hooks]\n",
        "[[check]]\n",
        "[[sync_group]]\n",
        "[sync_group.hooks]\n",
        "\"web\"",
        "[\"web\"]",
        "\"http://[::1]:80/\"",
        "\"auto\"",
        "\"off\"",
    ]
    .map(String::from)
    .into();
    for (_, keys) in vipd::config::keys() {
        pieces.extend(keys.iter().map(|key| format!("\n{key} = ")));
    }
    proptest::collection::vec(proptest::sample::select(pieces), 0..60)
        .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn problems_of_any_text_are_sound(text in "\\PC*") {
        problems_are_sound(&text);
    }

    #[test]
    fn problems_of_any_sequence_of_toml_pieces_are_sound(text in pieces()) {
        problems_are_sound(&text);
    }

    #[test]
    fn problems_of_a_changed_file_are_sound(
        at in any::<proptest::sample::Index>(),
        length in 0..20usize,
        piece in pieces(),
    ) {
        let text = include_str!("config/every_key.toml");
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        problems_are_sound(&format!("{}{piece}{}", &text[..start], &text[end..]));
    }

    #[test]
    fn every_interval_in_steps_of_ten_milliseconds_is_accepted(centis in 1..=4095u16) {
        let text = format!(
            "[[virtual_router]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\n\
             addresses = [\"192.0.2.10\"]\nadvert_interval = \"{}ms\"\n",
            u32::from(centis) * 10
        );
        let config = Config::parse("any.toml", &text).unwrap();
        prop_assert_eq!(config.vrrp.routers[0].advert_interval.centis(), centis);
    }
}

#[path = "../fuzz/bodies/config.rs"]
mod fuzz_body;

#[test]
fn the_inputs_of_the_fuzz_target_are_accepted_or_refused() {
    for (_, _, text) in all_cases() {
        fuzz_body::config(text.as_bytes());
    }
    fuzz_body::config(&std::fs::read(repository("etc/vipd.toml")).unwrap());
    fuzz_body::config(reference_in_force().as_bytes());
    // Inputs found by the fuzzer, if there are any.
    for entry in std::fs::read_dir(repository("fuzz/corpus/config")).into_iter().flatten() {
        fuzz_body::config(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
