//! Other managers on this host: whether systemd-networkd or NetworkManager removes addresses, and
//! whether systemd stops checked services too early.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::finding::{ProblemKind, Report};
use crate::config::{CheckPlan, Config};
use crate::host::netlink::Link;

/// Directories of these two with a file per interface, named by its index.
const NETWORKD: &str = "/run/systemd/netif/links";
const NETWORKMANAGER: &str = "/run/NetworkManager/devices";
/// In ascending order of precedence.
const NETWORK_DIRS: [&str; 4] = [
    "/usr/lib/systemd/network",
    "/usr/local/lib/systemd/network",
    "/run/systemd/network",
    "/etc/systemd/network",
];
const UNIT_DIRS: [&str; 4] = [
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
    "/run/systemd/system",
    "/etc/systemd/system",
];
const OUR_UNIT: &str = "vipd.service";

/// systemd-networkd removes unknown addresses from interfaces that it manages: when it starts, when
/// it reloads its configuration, and when a DHCP lease changes.
pub(super) fn check_networkd(link: &Link, report: &mut Report) {
    let Ok(state) = fs::read_to_string(Path::new(NETWORKD).join(link.index.to_string())) else {
        return;
    };
    let Some(file) = value(&state, "", "NETWORK_FILE").map(PathBuf::from) else { return };
    let Some(name) = file.file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return;
    };
    let mut files = vec![file];
    files.extend(drop_ins(&NETWORK_DIRS, &name));
    let kept = files
        .iter()
        .filter_map(|file| value(&fs::read_to_string(file).ok()?, "Network", "KeepConfiguration"))
        .next_back();
    // "static" keeps addresses with an infinite lifetime only; ours have a finite one.
    if kept.is_some_and(|kept| ["yes", "true", "on", "1"].contains(&kept.to_lowercase().as_str())) {
        return;
    }
    let text = format!(
        "systemd-networkd manages {} ({name}) and removes addresses that it does not know when it is restarted or reloaded",
        link.name
    );
    let directory = format!("/etc/systemd/network/{name}.d");
    // A reload would set up the interface anew, for a moment without its addresses.
    let does = "this tells systemd-networkd to keep them, from its next start on";
    let fix = format!(
        "mkdir -p {directory} && printf '[Network]\\nKeepConfiguration=yes\\n' > {directory}/vipd.conf"
    );
    report.found(ProblemKind::NetworkdRemoves, &link.name, text, does, fix);
}

/// NetworkManager removes unknown addresses from interfaces that it manages whenever it activates
/// or reapplies a connection.
pub(super) fn check_networkmanager(link: &Link, report: &mut Report) {
    let Ok(state) = fs::read_to_string(Path::new(NETWORKMANAGER).join(link.index.to_string()))
    else {
        return;
    };
    let managed = value(&state, "device", "managed");
    if !managed.is_some_and(|managed| ["true", "full"].contains(&managed.as_str())) {
        return;
    }
    let text = format!(
        "NetworkManager manages {} and removes addresses that it does not know whenever it brings its connection up; vipd adds them again, but packets are lost meanwhile",
        link.name
    );
    // NetworkManager removes the addresses of an interface that it stops managing.
    let does = format!(
        "this shows what NetworkManager configures on {}: configure that elsewhere first (systemd-networkd, ifupdown), then write `unmanaged-devices+=interface-name:{0}` below [keyfile] into a file in /etc/NetworkManager/conf.d, and boot",
        link.name
    );
    let fix = format!("nmcli device show {}", link.name);
    report.found(ProblemKind::NetworkmanagerRemoves, &link.name, text, does, fix);
}

/// Checked services should be stopped only after vipd has handed over.
pub(super) fn check_unit_order(config: &Config, report: &mut Report) {
    for unit in checked_units(config) {
        if unit == OUR_UNIT || stops_after_us(&unit) {
            continue;
        }
        let text = format!(
            "{unit} is checked, and at shutdown it is stopped in parallel with vipd: clients may still be sent to a service that has gone"
        );
        let directory = format!("/etc/systemd/system/{OUR_UNIT}.d");
        let fix = format!(
            "mkdir -p {directory} && printf '[Unit]\\nAfter={unit}\\n' >> {directory}/order.conf && systemctl daemon-reload"
        );
        let does = format!("this makes systemd stop {unit} only when vipd has ended");
        report.found(ProblemKind::UnitOrder, &unit, text, does, fix);
    }
}

fn checked_units(config: &Config) -> BTreeSet<String> {
    config.checks.iter().filter_map(CheckPlan::unit).map(str::to_owned).collect()
}

/// Units stop in the reverse order of their start, which `After` or `Before` declares.
fn stops_after_us(unit: &str) -> bool {
    let says = |of: &str, key: &str, other: &str| {
        let lists = unit_files(of);
        lists.iter().any(|text| {
            values(text, "Unit", key).any(|list| list.split_whitespace().any(|name| name == other))
        })
    };
    says(OUR_UNIT, "After", unit) || says(unit, "Before", OUR_UNIT)
}

/// The contents of the unit's effective file and of its drop-ins.
fn unit_files(unit: &str) -> Vec<String> {
    let mut paths: Vec<PathBuf> = UNIT_DIRS.iter().map(|dir| Path::new(dir).join(unit)).collect();
    paths.retain(|path| path.exists());
    let main = paths.pop().into_iter();
    main.chain(drop_ins(&UNIT_DIRS, unit))
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

/// In the order in which systemd reads them: by file name, whatever the directory.
fn drop_ins(directories: &[&str], name: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(Path::new(directory).join(format!("{name}.d"))) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "conf") {
                found.retain(|known| known.file_name() != Some(&entry.file_name()));
                found.push(entry.path());
            }
        }
    }
    found.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    found
}

/// The last value of a key in a section; the section "" is what stands before any.
fn value(text: &str, section: &str, key: &str) -> Option<String> {
    values(text, section, key).last().map(str::to_owned)
}

pub(crate) fn values<'a>(
    text: &'a str,
    section: &'a str,
    key: &'a str,
) -> impl Iterator<Item = &'a str> {
    let mut here = section.is_empty();
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            here = name == section;
            return None;
        }
        let (name, value) = line.split_once('=')?;
        (here && name.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_their_section() {
        let text = "A=0\n[Network]\nA=1\n# A=2\n[Other]\nA = 3\n[Network]\n A = 4 \n";
        assert_eq!(value(text, "Network", "A").as_deref(), Some("4"));
        assert_eq!(value(text, "Other", "A").as_deref(), Some("3"));
        assert_eq!(value(text, "", "A").as_deref(), Some("0"));
        assert_eq!(value(text, "Network", "B"), None);
    }
}
