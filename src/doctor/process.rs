//! The privileges of the daemon: real-time priority, locked memory, capabilities. Read from /proc
//! if it is running; otherwise this process tries to acquire them.

use std::fs;
use std::path::Path;

use super::finding::{ProblemKind, Report};
use crate::api::status::Status;
use crate::host::privileges;

/// The drop-in that raises a limit.
const DROP_IN: &str = "/etc/systemd/system/vipd.service.d/limits.conf";

const LIMIT_DOES: &str =
    "this raises the limit in the unit, and restarts vipd, which moves no address";

/// Checks the running daemon.
pub(super) fn check_running(status: &Status, report: &mut Report) {
    let pid = status.daemon.pid;
    let Some((policy, locked)) = scheduling(pid) else {
        report.skip("the daemon's privileges", format!("process {pid} is not visible"));
        return;
    };
    const SCHED_FIFO: u32 = libc::SCHED_FIFO as u32;
    const SCHED_RR: u32 = libc::SCHED_RR as u32;
    if ![SCHED_FIFO, SCHED_RR].contains(&policy) {
        no_realtime(&format!("vipd (pid {pid}) runs without real-time priority"), report);
    }
    if locked == 0 {
        memory_not_locked(&format!("the memory of vipd (pid {pid}) is not locked"), report);
    }
}

/// Checks whether a daemon started from here would get its privileges.
pub(super) fn check_startable(report: &mut Report) {
    let missing = privileges::missing();
    if !nix::unistd::geteuid().is_root() {
        report.skip("what vipd may do on this host", "only root can try: try again with sudo");
        return;
    }
    if !missing.is_empty() {
        report.found(
            ProblemKind::CapabilityMissing,
            "",
            format!("vipd cannot run here: {}", privileges::explain(&missing)),
            "this starts vipd with the privileges that its unit gives",
            "systemctl start vipd",
        );
        return;
    }
    match privileges::realtime(1) {
        Ok(()) => drop(privileges::drop_realtime()),
        Err(error) => {
            no_realtime(
                &format!("started from here vipd has no real-time priority ({error})"),
                report,
            );
        }
    }
    if let Err(error) = privileges::lock_memory() {
        let text = format!("started from here vipd cannot lock its memory ({error})");
        memory_not_locked(&text, report);
    }
}

fn no_realtime(what: &str, report: &mut Report) {
    let text = format!("{what}: under load adverts may be late, and a backup takes over");
    // With RT_GROUP_SCHED a control group may have no real-time budget, whatever the limits are.
    let (does, fix) = match group_without_realtime() {
        Some(file) => (
            "this lets the control group use real-time priority until the next boot, and restarts vipd, which moves no address",
            format!("echo 950000 > {file} && systemctl restart vipd"),
        ),
        None => (LIMIT_DOES, limit("LimitRTPRIO=50")),
    };
    report.found(ProblemKind::NoRealtime, "", text, does, fix);
}

fn memory_not_locked(what: &str, report: &mut Report) {
    let text = format!("{what}: when the host swaps adverts may be late");
    let fix = limit("LimitMEMLOCK=infinity");
    report.found(ProblemKind::MemoryNotLocked, "", text, LIMIT_DOES, fix);
}

fn limit(line: &str) -> String {
    let directory = Path::new(DROP_IN).parent().unwrap_or(Path::new("/")).display();
    format!(
        "mkdir -p {directory} && printf '[Service]\\n{line}\\n' >> {DROP_IN} && systemctl daemon-reload && systemctl restart vipd"
    )
}

/// The file that gives our control group no real-time budget (sched-rt-group.rst of the kernel).
fn group_without_realtime() -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups
        .lines()
        .find_map(|line| line.split_once(":cpu:").or(line.split_once(":cpu,cpuacct:")))?
        .1;
    let file = format!("/sys/fs/cgroup/cpu{}/cpu.rt_runtime_us", path.trim_end_matches('/'));
    (fs::read_to_string(&file).ok()?.trim() == "0").then_some(file)
}

/// The scheduling policy of a process and its locked memory in KiB (proc_pid_stat(5)).
fn scheduling(pid: u32) -> Option<(u32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    // `state` is field 3, `policy` field 41.
    let policy = rest.split(' ').nth(41 - 3)?.trim().parse().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"))?;
    Some((policy, locked.trim().trim_end_matches(" kB").parse().ok()?))
}

/// The pid of a keepalived in our network namespace.
pub(super) fn keepalived() -> Option<u32> {
    let ours = fs::read_link("/proc/self/ns/net").ok()?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let here = fs::read_link(entry.path().join("ns/net")).ok()? == ours;
        (here && name.trim() == "keepalived").then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_scheduling_policy_of_a_process_is_read_from_the_kernel() {
        let (policy, _) = scheduling(std::process::id()).unwrap();
        assert_eq!(policy, libc::SCHED_OTHER as u32);
    }
}
