//! The shape of the TOML: its tables and keys, and their types. The rules are elsewhere.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Diagnostics;
use super::reader::{At, Table};
use crate::vrrp::{ChecksumForm, Effect, Handover, Hook, Initial};

/// Names of tables that are written without brackets.
pub(super) const FILE: &str = "the file";
pub(super) const HOOK: &str = "a hook's table";

/// Declares a table of the file, one row per key: its name, the type of its value, the function
/// that reads it, and, if it is required, an example. This is the only list of keys: messages about
/// unknown keys and [`keys`] are derived from what was read.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $table:ident {
            $($key:ident: $type:ty = $($reader:ident)::+ $(($argument:expr))? $(, required $example:literal)?;)*
        }
    ) => {
        $(#[$doc])*
        pub(super) struct $table {
            $(pub $key: $type,)*
        }

        impl $table {
            fn read(table: &mut Table<'_, '_>) -> Self {
                $($(table.require(stringify!($key), concat!(stringify!($key), " = ", $example));)?)*
                $table { $($key: $($reader)::+(table, stringify!($key) $(, $argument)?),)* }
            }
        }
    };
}

type Text = Option<At<String>>;
type List = Option<At<Vec<At<String>>>>;
type Integer = Option<At<i64>>;
type Span = Option<At<Duration>>;
type Flag = Option<At<bool>>;

pub(super) struct File {
    pub node: Option<NodeTable>,
    pub virtual_routers: Vec<RouterTable>,
    pub checks: Vec<CheckTable>,
    pub sync_groups: Vec<GroupTable>,
}

table! {
    /// `[node]`
    NodeTable {
        name: Text = Table::string;
    }
}

table! {
    /// `[[virtual_router]]`
    RouterTable {
        name: Text = Table::string, required "\"web\"";
        interface: Text = Table::string, required "\"eth0\"";
        vrid: Integer = Table::integer, required "51";
        priority: Integer = Table::integer;
        addresses: List = Table::list("address"), required "[\"192.0.2.10\"]";
        unadvertised_addresses: List = Table::list("address");
        advert_interval: Span = Table::duration;
        max_peer_interval: Span = Table::duration;
        preempt: Flag = Table::boolean;
        preempt_delay: Span = Table::duration;
        start_delay: Span = Table::duration;
        link_delay: Span = Table::duration;
        version: Integer = Table::integer;
        checksum: Option<At<ChecksumForm>> = Table::choice(&ChecksumForm::ALL.map(|it| (it.name(), it)));
        authentication: Text = Table::string;
        unicast_peers: List = Table::list("address");
        unicast_min_ttl: Integer = Table::integer;
        source_address: Text = Table::string;
        accept_from: List = Table::list("address");
        address_lifetime: Option<At<Lifetime>> = Lifetime::read;
        claim_prefix: Flag = Table::boolean;
        handover: Option<At<Handover>> = Table::choice(&Handover::ALL.map(|it| (it.name(), it)));
        checks: List = Table::list("name");
        hooks: Option<HooksTable> = HooksTable::within("[virtual_router.hooks]");
    }
}

/// Values, with the default, of keys that several rules use.
impl RouterTable {
    pub(super) fn preempt(&self) -> bool {
        self.preempt.as_ref().is_none_or(|preempt| preempt.value)
    }

    pub(super) fn preempt_delay(&self) -> Duration {
        self.preempt_delay.as_ref().map_or(Duration::ZERO, |delay| delay.value)
    }

    pub(super) fn start_delay(&self) -> Duration {
        self.start_delay.as_ref().map_or(Duration::ZERO, |delay| delay.value)
    }

    pub(super) fn link_delay(&self) -> Duration {
        self.link_delay.as_ref().map_or(Duration::from_secs(2), |delay| delay.value)
    }

    pub(super) fn handover(&self) -> Handover {
        self.handover.as_ref().map_or(Handover::Overlap, |handover| handover.value)
    }
}

table! {
    /// `[[check]]`
    CheckTable {
        at: Range<usize> = Table::place;
        name: Text = Table::string, required "\"haproxy\"";
        subject: Subject = Subject::read;
        interval: Span = Table::duration;
        timeout: Span = Table::duration;
        fall: Integer = Table::integer;
        rise: Integer = Table::integer;
        weight: Integer = Table::integer;
        on_fail: Option<At<Effect>> = Table::choice(&[Effect::Fault, Effect::Last].map(|it| (it.name(), it)));
        initial: Option<At<Initial>> = Table::choice(&INITIAL.map(|it| (it.name(), it)));
        user: Text = Table::string;
        status: Integer = Table::integer;
        body: Text = Table::string;
        ca_file: Text = Table::string;
        delay: Span = Table::duration;
        mistyped_kind: bool = CheckKind::is_mistyped;
    }
}

table! {
    /// `[[sync_group]]`
    GroupTable {
        name: Text = Table::string, required "\"gateway\"";
        members: List = Table::list("name"), required "[\"inside\", \"outside\"]";
        checks: List = Table::list("name");
        hooks: Option<HooksTable> = HooksTable::within("[sync_group.hooks]");
    }
}

table! {
    /// `[virtual_router.hooks]`, `[sync_group.hooks]`
    HooksTable {
        at: Range<usize> = Table::place;
        user: Text = Table::string;
        of: BTreeMap<Hook, HookEntry> = HookEntry::read_all;
        notify: Option<HookEntry> = HookEntry::read;
    }
}

table! {
    /// A hook with options.
    HookTable {
        command: Option<At<Argv>> = Argv::read, required "[\"/path/to/program\", \"argument\"]";
        timeout: Span = Table::duration;
        user: Text = Table::string;
        fault_for: Span = Table::duration;
    }
}

/// A hook: a program, a list of a program and its arguments, or a table with options.
pub(super) struct HookEntry {
    pub argv: At<Argv>,
    pub timeout: Span,
    pub user: Text,
    pub fault_for: Span,
}

/// The two ways to write what is run.
pub(super) enum Argv {
    Program(String),
    List(Vec<At<String>>),
}

/// What a check tests: the keys of that kind that are present.
pub(super) struct Subject {
    /// Exactly one in a valid file.
    pub kinds: Vec<At<CheckKind>>,
    pub command: Option<At<Argv>>,
    /// The value of the first of `kinds`, unless that is `command`.
    pub object: Text,
}

words! {
    /// The kinds of checks, each named by its key.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) enum CheckKind {
        Command = "command",
        Tcp = "tcp",
        Http = "http",
        Process = "process",
        Unit = "unit",
        File = "file",
        FilePresent = "file_present",
        FileAbsent = "file_absent",
        Interface = "interface",
        Ping = "ping",
    }
}

/// `address_lifetime`: a duration or one of two words.
#[derive(Clone, Copy)]
pub(super) enum Lifetime {
    Auto,
    Off,
    Fixed(Duration),
}

const LIFETIME: [(&str, Lifetime); 2] = [("auto", Lifetime::Auto), ("off", Lifetime::Off)];
/// How long a check waits follows from its other keys.
const INITIAL: [Initial; 3] = [Initial::Wait(Duration::ZERO), Initial::Passing, Initial::Failing];

impl File {
    pub(super) fn read(table: &Spanned<DeTable<'_>>, report: &Diagnostics) -> Self {
        let file = Table::outermost(report, FILE, table.get_ref(), table.span(), keys);
        whole(file, File::of)
    }

    fn of(file: &mut Table<'_, '_>) -> Self {
        let node = file.table("node", "[node]");
        let routers = file.tables("virtual_router", "[[virtual_router]]");
        let checks = file.tables("check", "[[check]]");
        let groups = file.tables("sync_group", "[[sync_group]]");
        File {
            node: node.map(|table| whole(table, NodeTable::read)),
            virtual_routers: routers.into_iter().map(|it| whole(it, RouterTable::read)).collect(),
            checks: checks.into_iter().map(|it| whole(it, CheckTable::read)).collect(),
            sync_groups: groups.into_iter().map(|it| whole(it, GroupTable::read)).collect(),
        }
    }
}

/// Reads a table and reports its unknown keys.
fn whole<'r, 'd, T>(mut table: Table<'r, 'd>, read: impl FnOnce(&mut Table<'r, 'd>) -> T) -> T {
    let value = read(&mut table);
    table.finish();
    value
}

impl Subject {
    fn read(table: &mut Table<'_, '_>, _: &'static str) -> Self {
        let mut kinds = Vec::new();
        let mut object = None;
        let mut command = None;
        for kind in CheckKind::ALL {
            let key = kind.name();
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
        Subject { kinds, command, object }
    }
}

impl CheckKind {
    /// Whether an unknown key is probably a misspelt kind. To be called after all other keys are
    /// read.
    fn is_mistyped(table: &mut Table<'_, '_>, _: &'static str) -> bool {
        table.mistypes(&CheckKind::ALL.map(CheckKind::name))
    }
}

impl Lifetime {
    fn read(table: &mut Table<'_, '_>, key: &'static str) -> Option<At<Self>> {
        let is_word = |text: &str| !text.starts_with(|c: char| c.is_ascii_digit());
        match table.get(key)?.get_ref() {
            DeValue::String(text) if is_word(text) => table.choice(key, &LIFETIME),
            _ => {
                let span = table.duration(key)?;
                Some(At { value: Lifetime::Fixed(span.value), at: span.at })
            }
        }
    }
}

impl HooksTable {
    fn within(table: &mut Table<'_, '_>, key: &'static str, name: &'static str) -> Option<Self> {
        table.table(key, name).map(|table| whole(table, HooksTable::read))
    }
}

impl HookEntry {
    fn read_all(hooks: &mut Table<'_, '_>, _: &'static str) -> BTreeMap<Hook, Self> {
        let entry = |hook: Hook| Some((hook, HookEntry::read(hooks, hook.name())?));
        Hook::ALL.into_iter().filter_map(entry).collect()
    }

    fn read(hooks: &mut Table<'_, '_>, key: &'static str) -> Option<Self> {
        let value = hooks.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => {
                let table = hooks.inner(HOOK, table, value.span());
                let HookTable { command, timeout, user, fault_for } = whole(table, HookTable::read);
                Some(HookEntry { argv: command?, timeout, user, fault_for })
            }
            _ => {
                let argv = Argv::read(hooks, key)?;
                Some(HookEntry { argv, timeout: None, user: None, fault_for: None })
            }
        }
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

/// Every table, by its name in the file, and its keys.
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
        of("[node]", NodeTable::read),
        of("[[virtual_router]]", RouterTable::read),
        of("[virtual_router.hooks]", HooksTable::read),
        of(HOOK, HookTable::read),
        of("[[check]]", CheckTable::read),
        of("[[sync_group]]", GroupTable::read),
        of("[sync_group.hooks]", HooksTable::read),
    ]
}
