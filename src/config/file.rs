//! The shape of the TOML, nothing else: which tables and keys there are, and of what type.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Report;
use super::reader::{At, Table};
use crate::vrrp::{ChecksumForm, Handover};

/// What tables are called that have no brackets.
pub(super) const FILE: &str = "the file";
pub(super) const HOOK: &str = "a hook's table";

/// The file.
pub(super) struct File {
    pub node: Option<Node>,
    pub virtual_routers: Vec<VirtualRouter>,
    pub checks: Vec<Check>,
    pub sync_groups: Vec<SyncGroup>,
}

/// `[node]`
pub(super) struct Node {
    pub name: Option<At<String>>,
}

/// `[[virtual_router]]`
pub(super) struct VirtualRouter {
    pub name: Option<At<String>>,
    pub interface: Option<At<String>>,
    pub vrid: Option<At<i64>>,
    pub priority: Option<At<i64>>,
    pub addresses: Option<At<Vec<At<String>>>>,
    pub unadvertised_addresses: Option<At<Vec<At<String>>>>,
    pub advert_interval: Option<At<Duration>>,
    pub preempt: Option<At<bool>>,
    pub preempt_delay: Option<At<Duration>>,
    pub start_delay: Option<At<Duration>>,
    pub link_delay: Option<At<Duration>>,
    pub version: Option<At<i64>>,
    pub checksum: Option<At<ChecksumForm>>,
    pub authentication: Option<At<String>>,
    pub unicast_peers: Option<At<Vec<At<String>>>>,
    pub unicast_min_ttl: Option<At<i64>>,
    pub source_address: Option<At<String>>,
    pub accept_from: Option<At<Vec<At<String>>>>,
    pub address_lifetime: Option<At<Lifetime>>,
    pub claim_prefix: Option<At<bool>>,
    pub handover: Option<At<Handover>>,
    pub checks: Option<At<Vec<At<String>>>>,
    pub hooks: Option<Hooks>,
}

/// A span, or one of two words.
#[derive(Clone, Copy)]
pub(super) enum Lifetime {
    Auto,
    Off,
    Fixed(Duration),
}

/// `[[check]]`
pub(super) struct Check {
    pub at: Range<usize>,
    pub name: Option<At<String>>,
    /// The keys that say what it looks at, as far as they are written: one, if all is well.
    pub kinds: Vec<At<Kind>>,
    /// Another key was probably meant to be one of those.
    pub mistyped_kind: bool,
    pub command: Option<At<Argv>>,
    /// The value of the first of `kinds`, unless that is `command`.
    pub object: Option<At<String>>,
    pub interval: Option<At<Duration>>,
    pub timeout: Option<At<Duration>>,
    pub fall: Option<At<i64>>,
    pub rise: Option<At<i64>>,
    pub weight: Option<At<i64>>,
    pub on_fail: Option<At<OnFail>>,
    pub initial: Option<At<Initial>>,
    pub user: Option<At<String>>,
    pub status: Option<At<i64>>,
    pub body: Option<At<String>>,
    pub ca_file: Option<At<String>>,
    pub delay: Option<At<Duration>>,
}

/// What a check looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    Tcp,
    Http,
    Process,
    Unit,
    File,
    FilePresent,
    FileAbsent,
    Interface,
    Ping,
}

/// What a failing check means that has no weight.
#[derive(Clone, Copy)]
pub(super) enum OnFail {
    Fault,
    Last,
}

/// What a check counts as before its first result.
#[derive(Clone, Copy)]
pub(super) enum Initial {
    Passing,
    Failing,
    Wait,
}

/// `[[sync_group]]`
pub(super) struct SyncGroup {
    pub name: Option<At<String>>,
    pub members: Option<At<Vec<At<String>>>>,
    pub checks: Option<At<Vec<At<String>>>>,
    pub hooks: Option<Hooks>,
}

/// `[virtual_router.hooks]`, `[sync_group.hooks]`
pub(super) struct Hooks {
    pub at: Range<usize>,
    pub user: Option<At<String>>,
    pub master: Option<Command>,
    pub backup: Option<Command>,
    pub fault: Option<Command>,
    pub stop: Option<Command>,
    pub notify: Option<Command>,
    pub before_release: Option<Command>,
    pub before_claim: Option<Command>,
}

/// A program, a list of a program and its arguments, or a table with options.
pub(super) struct Command {
    pub argv: At<Argv>,
    pub timeout: Option<At<Duration>>,
    pub user: Option<At<String>>,
    pub fault_for: Option<At<Duration>>,
}

/// The two ways to write what is run.
pub(super) enum Argv {
    Program(String),
    List(Vec<At<String>>),
}

impl File {
    pub fn read(table: &Spanned<DeTable<'_>>, report: &Report) -> Self {
        let mut file = Table::outermost(report, FILE, table.get_ref(), table.span(), keys);
        let read = Self::of(&mut file);
        file.finish();
        read
    }

    fn of(file: &mut Table<'_, '_>) -> Self {
        let node = file.table("node", "[node]").map(|mut table| {
            let node = Node::of(&mut table);
            table.finish();
            node
        });
        let routers = file.tables("virtual_router", "[[virtual_router]]");
        let virtual_routers = routers.into_iter().map(|mut table| {
            table.require("name", "name = \"web\"");
            table.require("interface", "interface = \"eth0\"");
            table.require("vrid", "vrid = 51");
            table.require("addresses", "addresses = [\"192.0.2.10\"]");
            let router = VirtualRouter::of(&mut table);
            table.finish();
            router
        });
        let virtual_routers = virtual_routers.collect();
        let checks = file.tables("check", "[[check]]").into_iter().map(|mut table| {
            table.require("name", "name = \"haproxy\"");
            let check = Check::of(&mut table);
            table.finish();
            check
        });
        let checks = checks.collect();
        let groups = file.tables("sync_group", "[[sync_group]]");
        let sync_groups = groups.into_iter().map(|mut table| {
            table.require("name", "name = \"gateway\"");
            table.require("members", "members = [\"inside\", \"outside\"]");
            let group = SyncGroup::of(&mut table);
            table.finish();
            group
        });
        File { node, virtual_routers, checks, sync_groups: sync_groups.collect() }
    }
}

impl Node {
    fn of(table: &mut Table<'_, '_>) -> Self {
        Node { name: table.string("name") }
    }
}

impl VirtualRouter {
    fn of(table: &mut Table<'_, '_>) -> Self {
        VirtualRouter {
            name: table.string("name"),
            interface: table.string("interface"),
            vrid: table.integer("vrid"),
            priority: table.integer("priority"),
            addresses: table.list("addresses", "address"),
            unadvertised_addresses: table.list("unadvertised_addresses", "address"),
            advert_interval: table.duration("advert_interval"),
            preempt: table.boolean("preempt"),
            preempt_delay: table.duration("preempt_delay"),
            start_delay: table.duration("start_delay"),
            link_delay: table.duration("link_delay"),
            version: table.integer("version"),
            checksum: table.choice(
                "checksum",
                &[("pseudo-header", ChecksumForm::PseudoHeader), ("plain", ChecksumForm::Plain)],
            ),
            authentication: table.string("authentication"),
            unicast_peers: table.list("unicast_peers", "address"),
            unicast_min_ttl: table.integer("unicast_min_ttl"),
            source_address: table.string("source_address"),
            accept_from: table.list("accept_from", "address"),
            address_lifetime: Lifetime::read(table, "address_lifetime"),
            claim_prefix: table.boolean("claim_prefix"),
            handover: table.choice(
                "handover",
                &[("overlap", Handover::Overlap), ("exclusive", Handover::Exclusive)],
            ),
            checks: table.list("checks", "name"),
            hooks: Hooks::read(table, "[virtual_router.hooks]"),
        }
    }
}

impl Check {
    fn of(table: &mut Table<'_, '_>) -> Self {
        let name = table.string("name");
        let mut kinds = Vec::new();
        let mut object = None;
        let mut command = None;
        for kind in Kind::ALL {
            let key = kind.key();
            let place = table.get(key).map(|value| value.span());
            let first = kinds.is_empty();
            match kind {
                Kind::Command => command = Argv::read(table, key),
                Kind::Tcp
                | Kind::Http
                | Kind::Process
                | Kind::Unit
                | Kind::File
                | Kind::FilePresent
                | Kind::FileAbsent
                | Kind::Interface
                | Kind::Ping => {
                    let value = table.string(key);
                    if first {
                        object = value;
                    }
                }
            }
            kinds.extend(place.map(|at| At { value: kind, at }));
        }
        kinds.sort_by_key(|kind| kind.at.start);
        let mut check = Check {
            at: table.at(),
            name,
            kinds,
            mistyped_kind: false,
            command,
            object,
            interval: table.duration("interval"),
            timeout: table.duration("timeout"),
            fall: table.integer("fall"),
            rise: table.integer("rise"),
            weight: table.integer("weight"),
            on_fail: table.choice("on_fail", &[("fault", OnFail::Fault), ("last", OnFail::Last)]),
            initial: table.choice(
                "initial",
                &[
                    ("wait", Initial::Wait),
                    ("passing", Initial::Passing),
                    ("failing", Initial::Failing),
                ],
            ),
            user: table.string("user"),
            status: table.integer("status"),
            body: table.string("body"),
            ca_file: table.string("ca_file"),
            delay: table.duration("delay"),
        };
        check.mistyped_kind = table.mistypes(&Kind::ALL.map(Kind::key));
        check
    }
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Command,
        Kind::Tcp,
        Kind::Http,
        Kind::Process,
        Kind::Unit,
        Kind::File,
        Kind::FilePresent,
        Kind::FileAbsent,
        Kind::Interface,
        Kind::Ping,
    ];

    pub const fn key(self) -> &'static str {
        match self {
            Kind::Command => "command",
            Kind::Tcp => "tcp",
            Kind::Http => "http",
            Kind::Process => "process",
            Kind::Unit => "unit",
            Kind::File => "file",
            Kind::FilePresent => "file_present",
            Kind::FileAbsent => "file_absent",
            Kind::Interface => "interface",
            Kind::Ping => "ping",
        }
    }
}

impl SyncGroup {
    fn of(table: &mut Table<'_, '_>) -> Self {
        SyncGroup {
            name: table.string("name"),
            members: table.list("members", "name"),
            checks: table.list("checks", "name"),
            hooks: Hooks::read(table, "[sync_group.hooks]"),
        }
    }
}

impl Lifetime {
    fn read(table: &mut Table<'_, '_>, key: &'static str) -> Option<At<Self>> {
        let is_word = |text: &str| !text.starts_with(|c: char| c.is_ascii_digit());
        match table.get(key)?.get_ref() {
            DeValue::String(text) if is_word(text) => {
                table.choice(key, &[("auto", Lifetime::Auto), ("off", Lifetime::Off)])
            }
            _ => {
                let span = table.duration(key)?;
                Some(At { value: Lifetime::Fixed(span.value), at: span.at })
            }
        }
    }
}

impl Hooks {
    fn read(table: &mut Table<'_, '_>, name: &'static str) -> Option<Self> {
        let mut table = table.table("hooks", name)?;
        let hooks = Hooks::of(&mut table);
        table.finish();
        Some(hooks)
    }

    fn of(table: &mut Table<'_, '_>) -> Self {
        Hooks {
            at: table.at(),
            user: table.string("user"),
            master: Command::read(table, "master"),
            backup: Command::read(table, "backup"),
            fault: Command::read(table, "fault"),
            stop: Command::read(table, "stop"),
            notify: Command::read(table, "notify"),
            before_release: Command::read(table, "before_release"),
            before_claim: Command::read(table, "before_claim"),
        }
    }
}

impl Command {
    fn read(hooks: &mut Table<'_, '_>, key: &'static str) -> Option<Self> {
        let value = hooks.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => {
                let mut table = hooks.inner(HOOK, table, value.span());
                table.require("command", "command = [\"/path/to/program\", \"argument\"]");
                let command = Command::of(&mut table);
                table.finish();
                command
            }
            _ => {
                let argv = Argv::read(hooks, key)?;
                Some(Command { argv, timeout: None, user: None, fault_for: None })
            }
        }
    }

    fn of(table: &mut Table<'_, '_>) -> Option<Self> {
        let argv = Argv::read(table, "command");
        let timeout = table.duration("timeout");
        let user = table.string("user");
        let fault_for = table.duration("fault_for");
        Some(Command { argv: argv?, timeout, user, fault_for })
    }
}

impl Argv {
    fn read(table: &mut Table<'_, '_>, key: &'static str) -> Option<At<Self>> {
        let value = table.get(key)?;
        let at = value.span();
        match value.get_ref() {
            DeValue::String(program) => Some(At { value: Argv::Program(program.to_string()), at }),
            DeValue::Array(array) => {
                let mut list = Vec::with_capacity(array.len());
                for item in array.iter() {
                    match item.get_ref() {
                        DeValue::String(argument) => {
                            list.push(At { value: argument.to_string(), at: item.span() });
                        }
                        _ => {
                            let help = "put the argument in quotes".to_string();
                            table.wrong::<()>("argument", item, "a string", help);
                        }
                    }
                }
                Some(At { value: Argv::List(list), at })
            }
            _ => {
                let help = format!("write {key} = [\"/path/to/program\", \"argument\"]");
                table.wrong(key, value, "a program or a list", help)
            }
        }
    }
}

/// Every table there is, as it is written, and its keys.
pub fn keys() -> Vec<(&'static str, Vec<&'static str>)> {
    fn of<T>(
        name: &'static str,
        read: impl Fn(&mut Table<'_, '_>) -> T,
    ) -> (&'static str, Vec<&'static str>) {
        let (report, empty) = (Report::new("", ""), DeTable::new());
        let mut table = Table::outermost(&report, name, &empty, 0..0, keys);
        read(&mut table);
        (name, table.finish())
    }
    vec![
        of(FILE, File::of),
        of("[node]", Node::of),
        of("[[virtual_router]]", VirtualRouter::of),
        of("[virtual_router.hooks]", Hooks::of),
        of(HOOK, Command::of),
        of("[[check]]", Check::of),
        of("[[sync_group]]", SyncGroup::of),
        of("[sync_group.hooks]", Hooks::of),
    ]
}
