//! `vipd status`: who is master, since when and why, and what is wrong.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::output::{BOLD, GREEN, PLAIN, RED, YELLOW, cut, fail, paint, say, width, wrap};
use crate::api::Client;
use crate::api::protocol::Versioned;
use crate::api::status::{Change, Check, NextStep, Router, Status};
use crate::vrrp::source::{AmbiguousSource, WITHOUT_PEERS};
use crate::vrrp::{Role, Verdict};

/// Maximum width of a line, in columns.
const WIDTH: usize = 100;
/// Maximum width of a name in the table; longer ones are cut, and whole in the view of one router.
const MAX_NAME: usize = 24;

/// Prints the status of all virtual routers or of one; with `is`, prints nothing, and the exit status
/// says whether it, or each of them, has that role.
pub(super) fn run(
    runtime_dir: &Path,
    name: Option<&str>,
    json: bool,
    is: Option<&str>,
) -> ExitCode {
    let mut status = match Client::new(runtime_dir).status() {
        Ok(status) => status,
        Err(error) => return fail(error),
    };
    if let Some(name) = name {
        if status.find(name).is_none() {
            return fail(unknown(&status, name));
        }
        status.routers.retain(|router| router.name == name);
    }
    if let Some(role) = is {
        let all = !status.routers.is_empty() && status.routers.iter().all(|r| r.role == role);
        return if all { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if json {
        match serde_json::to_string_pretty(&Versioned::new(&status)) {
            Ok(text) => say(text),
            Err(error) => return fail(error),
        }
        return ExitCode::SUCCESS;
    }
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let view = View { now: SystemTime::now(), colours, width: WIDTH };
    match (name, status.routers.as_slice()) {
        (Some(_), [router]) => say(view.one(&status, router).trim_end()),
        _ => say(view.table(&status).trim_end()),
    }
    ExitCode::SUCCESS
}

/// The error for a name that no virtual router has.
pub(super) fn unknown(status: &Status, name: &str) -> String {
    let names: Vec<&str> = status.routers.iter().map(|r| &*r.name).take(20).collect();
    format!("no virtual router is named \"{name}\" here; there is: {}", names.join(", "))
}

/// How the status is written for people.
#[derive(Clone, Copy)]
pub(crate) struct View {
    /// The time that ages are counted from.
    pub now: SystemTime,
    /// Whether to use colours; only in a terminal.
    pub colours: bool,
    /// Maximum width of a line, in columns; the heading of the table may be wider.
    pub width: usize,
}

impl View {
    /// One row for each virtual router, and below it the reason for its role and what is wrong.
    pub(crate) fn table(self, status: &Status) -> String {
        let mut text = self.head(status);
        let longest = status.routers.iter().map(|router| width(&router.name)).max().unwrap_or(0);
        let names = longest.clamp(6, MAX_NAME);
        let heading = format!(
            "{:names$}  {:8}  {:9}  {:7}  {:14}  {}",
            "ROUTER", "ROLE", "PRIORITY", "FOR", "NEXT", "ADDRESSES"
        );
        let _ = writeln!(text, "{}", self.paint(BOLD, &heading));
        for router in &status.routers {
            let name = cut(&router.name, names);
            let role = format!("{:8}", router.role);
            let rest = format!(
                "  {:9}  {:7}  {:14}  ",
                priority(router),
                self.since(router),
                next_cell(router)
            );
            let addresses = addresses(router);
            let fits = names + 10 + width(&rest) + width(&addresses) <= self.width;
            let _ = writeln!(
                text,
                "{name}{}  {}{rest}{}",
                " ".repeat(names.saturating_sub(width(&name))),
                self.paint(colour(&router.role), &role),
                if fits { addresses.as_str() } else { "" },
            );
            if !fits {
                self.indented(&mut text, PLAIN, &addresses);
            }
            // Of one in fault, what holds now is said below.
            if let Some(change) = &router.last_change
                && router.fault_reasons.is_empty()
            {
                self.indented(&mut text, PLAIN, &change.why);
            }
            for problem in problems(status, router) {
                self.indented(&mut text, YELLOW, &problem);
            }
            for check in
                router.checks.iter().filter(|check| check.verdict == Verdict::Failing.name())
            {
                self.indented(&mut text, YELLOW, &format!("check {}", one_check(check)));
            }
            if router.role == Role::Master.name() && heard_no_peer(router) {
                self.indented(&mut text, PLAIN, NO_PEER_YET);
            }
        }
        text
    }

    /// Everything about one virtual router.
    pub(crate) fn one(self, status: &Status, router: &Router) -> String {
        let mut text = self.head(status);
        let mut line = |key: &str, value: &str, colour: &str| {
            let first = format!("{key:11} ");
            for (n, part) in wrap(value, self.width.saturating_sub(12)).iter().enumerate() {
                let margin = if n == 0 { first.clone() } else { " ".repeat(12) };
                let _ = writeln!(text, "{margin}{}", self.paint(colour, part));
            }
        };
        line("router", &router.name, BOLD);
        line("role", &router.role, colour(&router.role));
        if let Some(change) = &router.last_change {
            line(
                "since",
                &format!("{} ({}, before: {})", change.at, self.since(router), change.from),
                PLAIN,
            );
            line("why", &change.why, PLAIN);
        }
        for problem in problems(status, router) {
            line("attention", &problem, YELLOW);
        }
        line("priority", &priority(router), PLAIN);
        if let Some(group) = &router.group {
            line("group", group, PLAIN);
        }
        for check in &router.checks {
            let colour = if check.verdict == Verdict::Failing.name() { YELLOW } else { PLAIN };
            line("check", &one_check(check), colour);
        }
        for address in &router.addresses {
            let mut value = address.address.to_string();
            if !address.advertised {
                value.push_str(", not advertised");
            }
            value.push_str(if address.present { ", here" } else { ", not here" });
            if let Some(left) = address.lease_seconds {
                let _ = write!(value, ", ends in {left:.1} s unless renewed");
            }
            line("address", &value, PLAIN);
        }
        line("interface", &router.interface, PLAIN);
        let source = match router.source {
            Some(source) => format!(", from {source}"),
            None => String::new(),
        };
        let adverts = format!(
            "VRID {}, {}, VRRP version {}, every {} s{source}",
            router.vrid,
            router.family.replace("ip", "IP"),
            router.version,
            router.advert_interval_seconds
        );
        line("adverts", &adverts, PLAIN);
        if let Some(source) = router.source.filter(|_| !router.source_others.is_empty()) {
            let note = AmbiguousSource { source, others: &router.source_others };
            line("note", &format!("{note}: {}", AmbiguousSource::HELP), PLAIN);
        }
        if router.without_peers {
            let (message, help) = WITHOUT_PEERS;
            line("note", &format!("{message}: {help}"), PLAIN);
        }
        line("heard", &heard(router), PLAIN);
        if let Some(next) = &router.next {
            line("next", &format!("{} in {:.3} s", next_word(&next.what), next.in_seconds), PLAIN);
        }
        if let Some(hook) = &router.last_hook {
            let value = format!(
                "{}: {} after {:.1} s, at {}",
                hook.hook, hook.outcome, hook.took_seconds, hook.at
            );
            line("last hook", &value, if hook.failed { YELLOW } else { PLAIN });
        }
        for change in router.transitions.iter().skip(1) {
            line("before", &transition(change), PLAIN);
        }
        text
    }

    fn head(self, status: &Status) -> String {
        let daemon = &status.daemon;
        let mut text = String::new();
        let up = self.ago(&daemon.started_at);
        let head = format!(
            "{}: vipd {}, pid {}, running for {up}",
            status.node, daemon.version, daemon.pid
        );
        for part in wrap(&head, self.width) {
            let _ = writeln!(text, "{part}");
        }
        if status.drained {
            let serves = match status.drained_by_force {
                true => "by force: this host does not serve",
                false => "this host serves only where no other is fit",
            };
            let reboot = if status.drained_until_reboot { ", and so does a reboot" } else { "" };
            let drained = format!("DRAINED: {serves}; \"vipd undrain\" ends that{reboot}");
            let _ = writeln!(text, "{}", self.paint(YELLOW, &drained));
        } else if status.drained_until_reboot {
            let undrained = "UNDRAINED until the next reboot: the stored drain cannot be removed";
            let _ = writeln!(text, "{}", self.paint(YELLOW, undrained));
        }
        if status.stopping {
            let _ = writeln!(text, "{}", self.paint(YELLOW, "STOPPING: this vipd is about to end"));
        }
        text.push('\n');
        text
    }

    fn indented(self, text: &mut String, colour: &str, value: &str) {
        for part in wrap(value, self.width.saturating_sub(4)) {
            let _ = writeln!(text, "    {}", self.paint(colour, &part));
        }
    }

    fn since(self, router: &Router) -> String {
        router.last_change.as_ref().map_or("-".to_owned(), |change| self.ago(&change.at))
    }

    fn ago(self, at: &str) -> String {
        let Ok(at) = humantime::parse_rfc3339(at) else { return "?".to_owned() };
        span(self.now.duration_since(at).unwrap_or_default())
    }

    fn paint(self, colour: &str, text: &str) -> String {
        paint(self.colours, colour, text)
    }
}

/// A change of role in one sentence.
pub(super) fn transition(change: &Change) -> String {
    format!("{}: {} -> {}: {}", change.at, change.from, change.to, change.why)
}

fn colour(role: &str) -> &'static str {
    match role.parse() {
        Ok(Role::Master) => GREEN,
        Ok(Role::Fault) => RED,
        Ok(Role::Backup) => PLAIN,
        Ok(Role::Waiting | Role::Claiming | Role::Leaving | Role::Stopped) | Err(()) => YELLOW,
    }
}

/// What needs an operator's attention.
fn problems(status: &Status, router: &Router) -> Vec<String> {
    let mut problems = Vec::new();
    if router.held_back {
        let name = &router.name;
        problems.push(format!(
            "HELD BACK after a failover: does not preempt until \"vipd resume {name}\""
        ));
    }
    if router.effective_priority < router.priority && !status.drained {
        let why: Vec<&str> =
            router.priority_changes.iter().map(|change| change.text.as_str()).collect();
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
        problems.push(format!(
            "DEGRADED: priority {} instead of {}{why}",
            router.effective_priority, router.priority
        ));
    }
    if router.role == Role::Master.name() && status.drained {
        problems
            .push("drained, and serves with priority 1, as no other host has taken over".into());
    }
    problems.extend(router.fault_reasons.iter().map(|reason| reason.text.clone()));
    if router.role == Role::Master.name() {
        problems.extend(router.missing());
    }
    problems.extend(router.contenders.iter().map(ToString::to_string));
    // A backup whose takeover timer runs may just not have listened for long enough.
    let listens = router.next.as_ref().is_some_and(|next| next.what == NextStep::Takeover.name());
    if router.role == Role::Backup.name() && heard_no_peer(router) && !listens {
        problems.push(
            "NEVER HEARD another router since vipd started; \"vipd doctor\" looks for the reason"
                .to_owned(),
        );
    }
    for peer in &router.incompatible {
        problems.push(format!(
            "adverts of {} ({:.1} s ago) cannot be used: {}",
            peer.address, peer.seconds_ago, peer.change
        ));
    }
    for refusal in &router.refusals {
        problems.push(format!(
            "adverts to {} ({:.1} s ago) do not arrive: {}",
            refusal.destination, refusal.seconds_ago, refusal.text
        ));
    }
    if let Some(hook) = &router.last_hook
        && hook.failed
    {
        problems.push(format!("hook {} failed: {}", hook.hook, hook.outcome));
    }
    problems
}

/// What a master shows that hears no other router, as it should be.
const NO_PEER_YET: &str = "no other router seen (normal: backups do not send)";

fn heard_no_peer(router: &Router) -> bool {
    router.heard.is_none() && router.incompatible.is_empty()
}

/// A check's verdict, and what its last run printed.
fn one_check(check: &Check) -> String {
    let times = match check.streak {
        0 => String::new(),
        streak => {
            format!(" ({streak} in a row {})", if check.failed { "failed" } else { "passed" })
        }
    };
    let output = match check.output.as_deref() {
        None | Some("") => String::new(),
        Some(output) => format!(": {output}"),
    };
    format!("{} {}{times}{output}", check.name, check.verdict)
}

fn priority(router: &Router) -> String {
    if router.effective_priority == router.priority {
        router.priority.to_string()
    } else {
        format!("{} ({})", router.effective_priority, router.priority)
    }
}

/// The first address, how many more there are, and the shortest lease.
fn addresses(router: &Router) -> String {
    let first = router.addresses.first().map(|each| each.address.to_string()).unwrap_or_default();
    let more = match router.addresses.len() {
        0 | 1 => String::new(),
        all => format!(" +{}", all - 1),
    };
    let leases = router.addresses.iter().filter_map(|address| address.lease_seconds);
    match leases.reduce(f64::min) {
        Some(lease) => format!("{first}{more}, lease {}", seconds(lease)),
        None => first + &more,
    }
}

/// The next step and the time until then: at most 14 characters for a day.
fn next_cell(router: &Router) -> String {
    let Some(next) = &router.next else { return "-".to_owned() };
    let what = match next.what.parse() {
        Ok(NextStep::HookLimit) => "hook",
        Ok(NextStep::SuccessorLimit) => "successor",
        Ok(NextStep::Advert | NextStep::Takeover | NextStep::Release | NextStep::Retry)
        | Err(()) => &next.what,
    };
    format!("{what} {}", seconds(next.in_seconds))
}

/// With tenths below 100 s.
fn seconds(seconds: f64) -> String {
    if seconds < 100.0 {
        return format!("{seconds:.1}s");
    }
    span(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn heard(router: &Router) -> String {
    let Some(heard) = &router.heard else {
        let normal = router.role == Role::Master.name() && heard_no_peer(router);
        return if normal { NO_PEER_YET } else { "no other router" }.to_owned();
    };
    let checksum = match &heard.checksum {
        Some(form) => format!(", checksum {form}"),
        None => String::new(),
    };
    let what = match heard.priority {
        0 => "leaving (priority 0)".to_owned(),
        priority => format!("priority {priority}"),
    };
    format!(
        "{}, {what}, {} s ago, every {} s{checksum}",
        heard.address, heard.seconds_ago, heard.interval_seconds
    )
}

fn next_word(what: &str) -> &str {
    match what.parse() {
        Ok(NextStep::Advert) => "an advert",
        Ok(NextStep::Takeover) => "takes over, if no master is heard,",
        Ok(NextStep::HookLimit) => "stops waiting for the hook",
        Ok(NextStep::SuccessorLimit) => "stops waiting for a successor",
        Ok(NextStep::Release) => "releases the addresses",
        Ok(NextStep::Retry) => "tries again",
        Err(()) => what,
    }
}

/// In the two largest units: at most 7 characters for a decade.
fn span(span: Duration) -> String {
    let secs = span.as_secs();
    match secs {
        0..60 => format!("{secs}s"),
        60..3600 => format!("{}m{:02}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h{:02}m", secs / 3600, secs / 60 % 60),
        _ => format!("{}d{:02}h", secs / 86_400, secs / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::status::{Heard, Incompatible, LastHook, Reason, example};

    fn view(colours: bool) -> View {
        let now = humantime::parse_rfc3339("2026-11-20T15:00:00Z").unwrap();
        View { now, colours, width: WIDTH }
    }

    #[test]
    fn the_table_says_who_is_master_since_when_and_why() {
        assert_eq!(
            view(false).table(&example()),
            "\
web-a: vipd 0.1.0, pid 4711, running for 3h00m

ROUTER  ROLE      PRIORITY   FOR      NEXT            ADDRESSES
web     master    150        2h59m    advert 0.6s     192.0.2.10, lease 1.6s
    no master was heard
    no other router seen (normal: backups do not send)
"
        );
    }

    #[test]
    fn a_backup_that_never_heard_its_master_is_marked_as_such() {
        let mut status = example();
        let router = &mut status.routers[0];
        (router.role, router.next) = ("backup".into(), None);
        let loud =
            "NEVER HEARD another router since vipd started; \"vipd doctor\" looks for the reason";
        assert!(view(false).table(&status).contains(loud));
        let one = view(false).one(&status, &status.routers[0]);
        assert!(one.contains(loud) && one.contains("heard       no other router\n"), "{one}");
    }

    #[test]
    fn a_fault_is_shown_with_the_reasons_of_now() {
        let mut status = example();
        let router = &mut status.routers[0];
        router.role = Role::Fault.name().into();
        let change = router.last_change.as_mut().unwrap();
        change.to = Role::Fault.name().into();
        change.why = "the interface had no address to send adverts from".into();
        let reason = crate::vrrp::Reason::AddressAlreadyThere;
        let now = Reason { reason: reason.name().into(), text: reason.to_string() };
        router.fault_reasons = vec![now.clone()];
        let table = view(false).table(&status);
        assert!(table.contains(&now.text) && !table.contains("no address"), "{table}");
        let one = view(false).one(&status, &status.routers[0]);
        assert!(one.contains("why         the interface had no address"), "{one}");
        assert!(one.contains(&format!("attention   {}", now.text)), "{one}");
    }

    #[test]
    fn one_virtual_router_is_shown_in_full() {
        let status = example();
        assert_eq!(
            view(false).one(&status, &status.routers[0]),
            "\
web-a: vipd 0.1.0, pid 4711, running for 3h00m

router      web
role        master
since       2026-11-20T12:00:03.610Z (2h59m, before: backup)
why         no master was heard
priority    150
address     192.0.2.10, here, ends in 1.6 s unless renewed
interface   eth0
adverts     VRID 51, IPv4, VRRP version 3, every 1 s, from 192.0.2.1
heard       no other router seen (normal: backups do not send)
next        an advert in 0.620 s
"
        );
    }

    #[test]
    fn nothing_is_wider_than_a_hundred_columns() {
        let mut status = example();
        let longest: std::net::IpAddr = "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap();
        status.drained = true;
        status.node = "n".repeat(64);
        let router = &mut status.routers[0];
        router.name = "long-name-".repeat(6);
        router.effective_priority = 1;
        router.addresses = vec![router.addresses[0].clone(); 255];
        router.addresses[0].address = longest;
        router.addresses[1].present = false;
        router.held_back = true;
        router.last_change.as_mut().unwrap().why = "why ".repeat(60) + &"x".repeat(120);
        let (reason, text) =
            ("link_down".to_owned(), "the interface is down or has no carrier".to_owned());
        router.fault_reasons = vec![Reason { reason, text }];
        router.heard = Some(Heard {
            address: longest,
            priority: 255,
            interval_seconds: 40.95,
            checksum: Some("pseudo-header".into()),
            seconds_ago: 123_456.789,
        });
        router.incompatible = vec![Incompatible {
            address: longest,
            change: "their authentication differs: make `authentication` equal on both".into(),
            seconds_ago: 123_456.789,
        }];
        router.last_hook = Some(LastHook {
            hook: "before_release".into(),
            outcome: "not run: ".to_owned() + &"very ".repeat(40) + "long",
            failed: true,
            at: "2026-11-20T12:00:03.610Z".into(),
            took_seconds: 3600.0,
        });
        let both = [view(false).table(&status), view(false).one(&status, &status.routers[0])];
        for line in both.iter().flat_map(|text| text.lines()) {
            assert!(width(line) <= WIDTH, "{} columns: {line}", width(line));
        }
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let status = example();
        let coloured = view(true).table(&status);
        assert!(coloured.contains("\x1b[32mmaster  \x1b[0m"));
        let mut plain = coloured;
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[32m", "\x1b[33m"] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, view(false).table(&status));
    }
}
