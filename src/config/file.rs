//! The shape of the TOML, nothing else: which tables and keys there are, and of what type.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Diagnostics;
use super::reader::{At, Table};
use crate::vrrp::{ChecksumForm, Handover};

/// What tables are called that have no brackets.
pub(super) const FILE: &str = "the file";
pub(super) const HOOK: &str = "a hook's table";

/// The file.
pub(super) struct File {
    pub node: Option<NodeTable>,
    pub virtual_routers: Vec<RouterTable>,
    pub checks: Vec<CheckTable>,
    pub sync_groups: Vec<GroupTable>,
}

/// `[node]`
pub(super) struct NodeTable {
    pub name: Option<At<String>>,
}

/// `[[virtual_router]]`
pub(super) struct RouterTable {
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
    pub hooks: Option<HooksTable>,
}

/// A span, or one of two words.
#[derive(Clone, Copy)]
pub(super) enum Lifetime {
    Auto,
    Off,
    Fixed(Duration),
}

/// `[[check]]`
pub(super) struct CheckTable {
    pub at: Range<usize>,
    pub name: Option<At<String>>,
    /// The keys that say what it looks at, as far as they are written: one, if all is well.
    pub kinds: Vec<At<CheckKind>>,
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
    pub initial: Option<At<InitialChoice>>,
    pub user: Option<At<String>>,
    pub status: Option<At<i64>>,
    pub body: Option<At<String>>,
    pub ca_file: Option<At<String>>,
    pub delay: Option<At<Duration>>,
}

/// What a check looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckKind {
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
pub(super) enum InitialChoice {
    Passing,
    Failing,
    Wait,
}

/// `[[sync_group]]`
pub(super) struct GroupTable {
    pub name: Option<At<String>>,
    pub members: Option<At<Vec<At<String>>>>,
    pub checks: Option<At<Vec<At<String>>>>,
    pub hooks: Option<HooksTable>,
}

/// `[virtual_router.hooks]`, `[sync_group.hooks]`
pub(super) struct HooksTable {
    pub at: Range<usize>,
    pub user: Option<At<String>>,
    pub master: Option<HookEntry>,
    pub backup: Option<HookEntry>,
    pub fault: Option<HookEntry>,
    pub stop: Option<HookEntry>,
    pub notify: Option<HookEntry>,
    pub before_release: Option<HookEntry>,
    pub before_claim: Option<HookEntry>,
}

/// A program, a list of a program and its arguments, or a table with options.
pub(super) struct HookEntry {
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
    pub fn read(table: &Spanned<DeTable<'_>>, report: &Diagnostics) -> Self {
        let mut file = Table::outermost(report, FILE, table.get_ref(), table.span(), keys);
        let read = Self::of(&mut file);
        file.finish();
        read
    }

    fn of(file: &mut Table<'_, '_>) -> Self {
        let node = file.table("node", "[node]").map(|mut table| {
            let node = NodeTable::of(&mut table);
            table.finish();
            node
        });
        let routers = file.tables("virtual_router", "[[virtual_router]]");
        let virtual_routers = routers.into_iter().map(|mut table| {
            table.require("name", "name = \"web\"");
            table.require("interface", "interface = \"eth0\"");
            table.require("vrid", "vrid = 51");
            table.require("addresses", "addresses = [\"192.0.2.10\"]");
            let router = RouterTable::of(&mut table);
            table.finish();
            router
        });
        let virtual_routers = virtual_routers.collect();
        let checks = file.tables("check", "[[check]]").into_iter().map(|mut table| {
            table.require("name", "name = \"haproxy\"");
            let check = CheckTable::of(&mut table);
            table.finish();
            check
        });
        let checks = checks.collect();
        let groups = file.tables("sync_group", "[[sync_group]]");
        let sync_groups = groups.into_iter().map(|mut table| {
            table.require("name", "name = \"gateway\"");
            table.require("members", "members = [\"inside\", \"outside\"]");
            let group = GroupTable::of(&mut table);
            table.finish();
            group
        });
        File { node, virtual_routers, checks, sync_groups: sync_groups.collect() }
    }
}

impl NodeTable {
    fn of(table: &mut Table<'_, '_>) -> Self {
        NodeTable { name: table.string("name") }
    }
}

impl RouterTable {
    fn of(table: &mut Table<'_, '_>) -> Self {
        RouterTable {
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
            hooks: HooksTable::read(table, "[virtual_router.hooks]"),
        }
    }
}

impl CheckTable {
    fn of(table: &mut Table<'_, '_>) -> Self {
        let name = table.string("name");
        let mut kinds = Vec::new();
        let mut object = None;
        let mut command = None;
        for kind in CheckKind::ALL {
            let key = kind.key();
            let place = table.get(key).map(|value| value.span());
            let first = kinds.is_empty();
            match kind {
                CheckKind::Command => command = Argv::read(table, key),
                CheckKind::Tcp
                | CheckKind::Http
                | CheckKind::Process
                | CheckKind::Unit
                | CheckKind::File
                | CheckKind::FilePresent
                | CheckKind::FileAbsent
                | CheckKind::Interface
                | CheckKind::Ping => {
                    let value = table.string(key);
                    if first {
                        object = value;
                    }
                }
            }
            kinds.extend(place.map(|at| At { value: kind, at }));
        }
        kinds.sort_by_key(|kind| kind.at.start);
        let mut check = CheckTable {
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
                    ("wait", InitialChoice::Wait),
                    ("passing", InitialChoice::Passing),
                    ("failing", InitialChoice::Failing),
                ],
            ),
            user: table.string("user"),
            status: table.integer("status"),
            body: table.string("body"),
            ca_file: table.string("ca_file"),
            delay: table.duration("delay"),
        };
        check.mistyped_kind = table.mistypes(&CheckKind::ALL.map(CheckKind::key));
        check
    }
}

impl CheckKind {
    pub const ALL: [CheckKind; 10] = [
        CheckKind::Command,
        CheckKind::Tcp,
        CheckKind::Http,
        CheckKind::Process,
        CheckKind::Unit,
        CheckKind::File,
        CheckKind::FilePresent,
        CheckKind::FileAbsent,
        CheckKind::Interface,
        CheckKind::Ping,
    ];

    pub const fn key(self) -> &'static str {
        match self {
            CheckKind::Command => "command",
            CheckKind::Tcp => "tcp",
            CheckKind::Http => "http",
            CheckKind::Process => "process",
            CheckKind::Unit => "unit",
            CheckKind::File => "file",
            CheckKind::FilePresent => "file_present",
            CheckKind::FileAbsent => "file_absent",
            CheckKind::Interface => "interface",
            CheckKind::Ping => "ping",
        }
    }
}

impl GroupTable {
    fn of(table: &mut Table<'_, '_>) -> Self {
        GroupTable {
            name: table.string("name"),
            members: table.list("members", "name"),
            checks: table.list("checks", "name"),
            hooks: HooksTable::read(table, "[sync_group.hooks]"),
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

impl HooksTable {
    fn read(table: &mut Table<'_, '_>, name: &'static str) -> Option<Self> {
        let mut table = table.table("hooks", name)?;
        let hooks = HooksTable::of(&mut table);
        table.finish();
        Some(hooks)
    }

    fn of(table: &mut Table<'_, '_>) -> Self {
        HooksTable {
            at: table.at(),
            user: table.string("user"),
            master: HookEntry::read(table, "master"),
            backup: HookEntry::read(table, "backup"),
            fault: HookEntry::read(table, "fault"),
            stop: HookEntry::read(table, "stop"),
            notify: HookEntry::read(table, "notify"),
            before_release: HookEntry::read(table, "before_release"),
            before_claim: HookEntry::read(table, "before_claim"),
        }
    }
}

impl HookEntry {
    fn read(hooks: &mut Table<'_, '_>, key: &'static str) -> Option<Self> {
        let value = hooks.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => {
                let mut table = hooks.inner(HOOK, table, value.span());
                table.require("command", "command = [\"/path/to/program\", \"argument\"]");
                let command = HookEntry::of(&mut table);
                table.finish();
                command
            }
            _ => {
                let argv = Argv::read(hooks, key)?;
                Some(HookEntry { argv, timeout: None, user: None, fault_for: None })
            }
        }
    }

    fn of(table: &mut Table<'_, '_>) -> Option<Self> {
        let argv = Argv::read(table, "command");
        let timeout = table.duration("timeout");
        let user = table.string("user");
        let fault_for = table.duration("fault_for");
        Some(HookEntry { argv: argv?, timeout, user, fault_for })
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
        let (report, empty) = (Diagnostics::new("", ""), DeTable::new());
        let mut table = Table::outermost(&report, name, &empty, 0..0, keys);
        read(&mut table);
        (name, table.finish())
    }
    vec![
        of(FILE, File::of),
        of("[node]", NodeTable::of),
        of("[[virtual_router]]", RouterTable::of),
        of("[virtual_router.hooks]", HooksTable::of),
        of(HOOK, HookEntry::of),
        of("[[check]]", CheckTable::of),
        of("[[sync_group]]", GroupTable::of),
        of("[sync_group.hooks]", HooksTable::of),
    ]
}
