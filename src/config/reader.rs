//! Reads tables key by key, so that all unknown keys and wrong types are reported at once.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration;
use super::problem::Diagnostics;

/// The name of a table that is an entry of a list.
pub(super) const ENTRY: &str = "an entry of a list";

/// Returns every table, by its name in the file, and its keys.
pub(super) type AllKeys = fn() -> Vec<(&'static str, Vec<&'static str>)>;

/// A value and its byte range in the file.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub at: Range<usize>,
}

/// Keys of a later version, by table, with a message of their own.
const PLANNED_KEYS: [(&str, &str); 1] = [(ENTRY, "interface")];

/// Keys of keepalived, and what to write instead.
const KEEPALIVED_KEYS: [(&str, &str); 36] = [
    ("advert_int", "write advert_interval = \"1s\""),
    ("auth_pass", "write authentication = \"...\"; it is for version 2 only"),
    ("auth_type", "leave it out: authentication = \"...\" is enough, for version 2 only"),
    ("garp_master_delay", "leave it out: announcements are repeated by themselves"),
    ("garp_master_refresh", "leave it out: announcements are repeated by themselves"),
    ("garp_master_repeat", "leave it out: announcements are repeated by themselves"),
    ("global_defs", "write [node]"),
    ("group", "write members = [\"...\"]"),
    ("init_fail", "write initial = \"failing\""),
    ("mcast_src_ip", "write source_address = \"...\""),
    ("nopreempt", "write preempt = false"),
    ("notify_backup", "write backup = \"...\" in [virtual_router.hooks]"),
    ("notify_fault", "write fault = \"...\" in [virtual_router.hooks]"),
    ("notify_master", "write master = \"...\" in [virtual_router.hooks]"),
    ("notify_stop", "write stop = \"...\" in [virtual_router.hooks]"),
    ("quorum", "leave it out: one process is enough"),
    ("router_id", "write name = \"...\" in [node]"),
    ("script", "write command = [\"/path/to/program\", \"argument\"]"),
    ("state", "leave it out: the priorities decide who is master"),
    ("track_file", "write checks = [\"...\"], and a [[check]] with `file`"),
    ("track_interface", "write checks = [\"...\"], and a [[check]] with `interface`"),
    ("track_process", "write checks = [\"...\"], and a [[check]] with `process`"),
    ("track_script", "write checks = [\"...\"], and a [[check]] with `command`"),
    ("unicast_peer", "write unicast_peers = [\"...\"]"),
    ("unicast_src_ip", "write source_address = \"...\""),
    ("unicast_ttl", "leave it out: adverts are sent with 255; see unicast_min_ttl"),
    ("virtual_ipaddress", "write addresses = [\"...\"]"),
    ("virtual_ipaddress_excluded", "write unadvertised_addresses = [\"...\"]"),
    ("virtual_router_id", "write vrid = 51"),
    ("virtual_routers", "write [[virtual_router]], once for each"),
    ("vrrp_instance", "write [[virtual_router]]"),
    ("vrrp_script", "write [[check]] with `command`"),
    ("vrrp_sync_group", "write [[sync_group]]"),
    ("vrrp_track_file", "write [[check]] with `file`"),
    ("vrrp_track_process", "write [[check]] with `process`"),
    ("vrrp_version", "write version = 3"),
];

/// Keys of keepalived that replace a required key, so that the latter is not reported as missing.
const REPLACED_KEYS: [(&str, &str); 4] = [
    ("group", "members"),
    ("script", "command"),
    ("virtual_ipaddress", "addresses"),
    ("virtual_router_id", "vrid"),
];

/// One table of the file. Records which keys are read, and reports the others as unknown.
pub(super) struct Table<'r, 'd> {
    report: &'r Diagnostics,
    name: &'static str,
    table: &'d DeTable<'d>,
    at: Range<usize>,
    keys: Vec<&'static str>,
    all_keys: AllKeys,
}

impl<'r, 'd> Table<'r, 'd> {
    /// `name` is used in messages; `all_keys` finds the tables that an unknown key belongs to.
    pub(super) fn outermost(
        report: &'r Diagnostics,
        name: &'static str,
        table: &'d DeTable<'d>,
        at: Range<usize>,
        all_keys: AllKeys,
    ) -> Self {
        Table { report, name, table, at, keys: Vec::new(), all_keys }
    }

    /// A table within this one; `name` is as the operator writes it: `[node]`.
    pub(super) fn inner(
        &self,
        name: &'static str,
        table: &'d DeTable<'d>,
        at: Range<usize>,
    ) -> Self {
        Table::outermost(self.report, name, table, at, self.all_keys)
    }

    /// Reports `key` if it is missing; `example` is a line to write.
    pub(super) fn require(&mut self, key: &'static str, example: &str) {
        // A misspelt key is reported at its own place.
        let mistyped = || {
            self.table.keys().any(|there| meant(there.get_ref(), [key].into_iter()) == Some(key))
        };
        if !self.table.contains_key(key) && !self.report.is_partial() && !mistyped() {
            let message = format!("{} has no `{key}`", self.name);
            self.report.error(&self.at, message, format!("add: {example}"));
        }
    }

    pub(super) fn string(&mut self, key: &'static str) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At { value: text.to_string(), at: value.span() }),
            other => {
                self.wrong(key, value, "a string", format!("write {key} = \"{}\"", show(other)))
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<At<bool>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(At { value: *boolean, at: value.span() }),
            other => {
                let meant = match show(other).to_lowercase().as_str() {
                    "true" | "yes" | "on" | "1" => "true",
                    "false" | "no" | "off" | "0" => "false",
                    _ => "true or false",
                };
                self.wrong(key, value, "true or false", format!("write {key} = {meant}"))
            }
        }
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Option<At<i64>> {
        let value = self.get(key)?;
        let at = value.span();
        match value.get_ref() {
            DeValue::Integer(number) => {
                // Too large for an i64 is out of every range, too.
                let number = i64::from_str_radix(number.as_str(), number.radix());
                Some(At { value: number.unwrap_or(i64::MAX), at })
            }
            other => {
                let number = show(other).trim().parse::<i64>();
                let help = match &number {
                    Ok(number) => format!("write {key} = {number}"),
                    Err(_) => format!("write {key} = 1, without quotes"),
                };
                let nothing: Option<At<i64>> = self.wrong(key, value, "a whole number", help);
                // Continue with the intended number: rules for other keys may depend on it.
                number.map_or(nothing, |value| Some(At { value, at }))
            }
        }
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<At<Duration>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => match duration::parse(text) {
                Ok(span) => Some(At { value: span, at: value.span() }),
                Err((message, help)) => {
                    self.report.error(&value.span(), format!("`{key}`: {message}"), help);
                    None
                }
            },
            DeValue::Integer(number) => {
                let number = number.as_str();
                let help = format!("write {key} = \"{number}ms\" or {key} = \"{number}s\"");
                self.wrong(key, value, "a string with a unit", help)
            }
            DeValue::Float(number) => {
                let help = format!("write {key} = \"{}s\"", number.as_str());
                self.wrong(key, value, "a string with a unit", help)
            }
            _ => self.wrong(key, value, "a string with a unit", format!("write {key} = \"1s\"")),
        }
    }

    /// A list of strings; an entry may also be a table whose key `entry` holds the string.
    pub(super) fn list(
        &mut self,
        key: &'static str,
        entry: &'static str,
    ) -> Option<At<Vec<At<String>>>> {
        let value = self.get(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            let help = format!("write {key} = [\"{}\"]", show(value.get_ref()));
            return self.wrong(key, value, "a list of strings", help);
        };
        let mut list = Vec::with_capacity(array.len());
        for item in array.iter() {
            match item.get_ref() {
                DeValue::String(text) => list.push(At { value: text.to_string(), at: item.span() }),
                DeValue::Table(table) => {
                    let mut table = self.inner(ENTRY, table, item.span());
                    table.require(entry, &format!("{entry} = \"...\""));
                    list.extend(table.string(entry));
                    table.finish();
                }
                other => {
                    let message = format!("`{key}` is a list of strings: {} is none", kind(other));
                    let help = format!("write \"{}\"", show(other));
                    self.report.error(&item.span(), message, help);
                }
            }
        }
        // A list without a valid entry counts as absent, to avoid errors that follow from that.
        let nothing_left = list.is_empty() && !array.is_empty();
        (!nothing_left).then(|| At { value: list, at: value.span() })
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<At<T>> {
        let value = self.get(key)?;
        let all = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>();
        let all = match all.split_last() {
            Some((last, [first, others @ ..])) => {
                let before = others.iter().fold(first.clone(), |all, word| all + ", " + word);
                format!("{before} or {last}")
            }
            Some((only, [])) => only.clone(),
            None => String::new(),
        };
        let DeValue::String(text) = value.get_ref() else {
            return self.wrong(key, value, &all, format!("write {key} = {all}"));
        };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| word == text) {
            return Some(At { value: *meaning, at: value.span() });
        }
        let help = match closest(text, words.iter().map(|(word, _)| *word)) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => format!("write {key} = {all}"),
        };
        self.report.error(&value.span(), format!("`{key}` is {all}, not `{text}`"), help);
        None
    }

    /// A table written `[name]`, once.
    pub(super) fn table(&mut self, key: &'static str, name: &'static str) -> Option<Table<'r, 'd>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(self.inner(name, table, value.span())),
            DeValue::Array(array) => {
                // Mark each `[[...]]` rather than the whole list.
                for item in array.iter() {
                    let message = format!("`{key}` is one table, not a list of them");
                    let help = format!("write {name}, with one bracket, and once");
                    self.report.error(&item.span(), message, help);
                }
                None
            }
            _ => self.wrong(key, value, "a table", format!("write {name} on a line of its own")),
        }
    }

    /// Tables written `[[name]]`, any number of them.
    pub(super) fn tables(&mut self, key: &'static str, name: &'static str) -> Vec<Table<'r, 'd>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let help = || format!("write {name}, with two brackets, before each of them");
        let DeValue::Array(array) = value.get_ref() else {
            self.wrong::<()>(key, value, "a list of tables", help());
            // Read it nevertheless, so that its own problems are reported at once.
            return match value.get_ref() {
                DeValue::Table(table) => {
                    vec![self.inner(name, table, value.span())]
                }
                _ => Vec::new(),
            };
        };
        let mut tables = Vec::with_capacity(array.len());
        for item in array.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    tables.push(self.inner(name, table, item.span()));
                }
                _ => {
                    self.wrong::<()>(key, item, "a list of tables", help());
                }
            }
        }
        tables
    }

    /// The raw value, for types that are read elsewhere.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
        self.table.get(key)
    }

    /// Reports that the value of `key` is not `expected`.
    pub(super) fn wrong<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
        help: String,
    ) -> Option<T> {
        let message = format!("`{key}` must be {expected}, not {}", kind(value.get_ref()));
        self.report.error(&value.span(), message, help);
        None
    }

    /// The byte range of the table; reads no key.
    pub(super) fn place(&mut self, _: &'static str) -> Range<usize> {
        self.at.clone()
    }

    /// Whether an unknown key is probably a misspelling of one of these; it is reported at its own
    /// place.
    pub(super) fn mistypes(&self, keys: &[&str]) -> bool {
        self.unasked()
            .filter_map(|key| meant(key.get_ref(), self.keys.iter().copied()))
            .any(|key| keys.contains(&key))
    }

    fn unasked(&self) -> impl Iterator<Item = &'d Spanned<Cow<'d, str>>> + '_ {
        self.table.keys().filter(|key| !self.keys.iter().any(|asked| *asked == key.get_ref()))
    }

    /// Reports every unknown key. Returns the keys that were read.
    pub(super) fn finish(self) -> Vec<&'static str> {
        for key in self.unasked() {
            let (message, help) = self.unknown(key.get_ref());
            self.report.error(&key.span(), message, help);
        }
        self.keys
    }

    fn unknown(&self, key: &str) -> (String, String) {
        if PLANNED_KEYS.contains(&(self.name, key)) {
            let message = format!("`{key}` is not in this version yet");
            return (message, "leave it out: it would have no effect".into());
        }
        let message = format!("`{key}` is not a key of {}", self.name);
        if let Some((_, help)) = KEEPALIVED_KEYS.iter().find(|(theirs, _)| *theirs == key) {
            return (message, (*help).into());
        }
        if let Some(ours) = closest(key, self.keys.iter().copied()) {
            return (message, format!("did you mean `{ours}`?"));
        }
        let tables = (self.all_keys)();
        let homes = tables.iter().filter(|(_, keys)| keys.contains(&key));
        let homes: Vec<&str> = homes.map(|(table, _)| *table).collect();
        if !homes.is_empty() {
            return (message, format!("`{key}` belongs to {}", homes.join(" or ")));
        }
        (message, format!("the keys of {} are: {}", self.name, self.keys.join(", ")))
    }
}

/// The key that was probably meant by a misspelling or a key of keepalived.
fn meant<'w>(typed: &str, mut keys: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    match REPLACED_KEYS.iter().find(|(theirs, _)| *theirs == typed) {
        Some((_, ours)) => keys.find(|key| key == ours),
        None => closest(typed, keys),
    }
}

/// The word that was probably meant by a misspelling.
pub(super) fn closest<'w>(typed: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    const MAX_WORD: usize = 40;
    if typed.len() > MAX_WORD {
        return None;
    }
    let typed = typed.to_lowercase().replace('-', "_");
    words
        .map(|word| (strsim::damerau_levenshtein(&typed, &word.replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= word.len().max(typed.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// A scalar as text without quotes; of a list, its first entry.
fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(array) => match array.first().map(|first| first.get_ref()) {
            Some(DeValue::Array(_)) | None => "...".into(),
            Some(first) => show(first),
        },
        DeValue::Table(_) => "...".into(),
    }
}

/// The type of a value, with its article.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
