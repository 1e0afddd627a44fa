//! `vipd cleanup`: removes addresses left behind by a daemon that is gone.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::output::{fail, say};
use crate::config::Config;
use crate::host::exclusive::{self, RouterLocks, RuntimeDir};
use crate::host::netlink::{
    JobTarget, Links, Monitor, NetEvent, Operation, Progress, Worker, WorkerJob,
};
use crate::vrrp::{Address, Mark};

/// How long to wait for the kernel, which answers at once unless its rtnl lock is held.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes the addresses that the configuration names and that were added for its virtual routers. It
/// holds both locks, so that no daemon that has one of these runs or starts meanwhile.
pub(super) fn run(config: &Path, runtime_dir: &Path, lock_dir: &Path) -> ExitCode {
    let config = match Config::load(config) {
        Ok(config) => config,
        Err(problems) => return fail(problems),
    };
    let _directory = match RuntimeDir::lock(runtime_dir) {
        Ok(lock) => lock,
        Err(taken) => return fail(taken),
    };
    let mut router_locks = RouterLocks::open(lock_dir).unwrap_or_else(|error| {
        eprintln!("vipd: {}", exclusive::without_locks(lock_dir, &error));
        RouterLocks::default()
    });
    if let Err(taken) = router_locks.acquire(&config.vrrp) {
        return fail(taken);
    }
    match remove(&config) {
        Ok(0) => {
            say("there is nothing to remove: no address of the configuration was added by its vipd")
        }
        Ok(_) => {}
        Err(error) => return fail(error),
    }
    ExitCode::SUCCESS
}

/// Returns how many addresses were removed.
fn remove(config: &Config) -> io::Result<usize> {
    let links = present(config)?;
    let mut worker = Worker::start()?;
    let mut execute = |target, operation| {
        worker.submit(WorkerJob { ticket: 0, target, operation });
        loop {
            wait(worker.as_fd(), "the kernel did not answer the request to remove addresses")?;
            if let Some(report) = worker.progress().find_map(Progress::outcome) {
                return Ok::<_, io::Error>(report);
            }
        }
    };
    let (mut removed, mut done) = (0, BTreeSet::new());
    for router in &config.vrrp.routers {
        let interface = &router.interface;
        let Some(link) = links.link(interface) else { continue };
        let group = Address::host(router.family.multicast_group());
        let here = config.vrrp.routers.iter().filter(|other| other.interface == *interface);
        let ours: Arc<[Mark]> = here.map(Mark::of).collect();
        let target = |addresses| JobTarget {
            index: link.index,
            addresses,
            mark: Mark::of(router),
            ours: ours.clone(),
        };
        execute(target(Arc::from([group])), Operation::RemoveGroups)?;
        let mut there = BTreeSet::new();
        for found in links.addresses(interface) {
            if ours.iter().any(|router| found.mark.is_of(*router)) {
                there.insert(found.ip);
            } else if found.mark != Mark::None
                && router.all_addresses().any(|address| address.ip == found.ip)
            {
                say(format_args!("{} on {interface} stays: {}", found.ip, found.mark));
            }
        }
        let addresses: Arc<[Address]> = router
            .all_addresses()
            .filter(|address| there.contains(&address.ip) && done.insert((link.index, address.ip)))
            .collect();
        if addresses.is_empty() {
            continue;
        }
        let report = execute(target(addresses.clone()), Operation::Release)?;
        if let Some((address, failure)) = report.failures.first() {
            let text =
                format!("cannot remove {address} from {interface}: {failure}; try with sudo");
            return Err(io::Error::other(text));
        }
        for address in addresses.iter() {
            say(format_args!("removed {address} from {interface}"));
        }
        removed += addresses.len();
    }
    Ok(removed)
}

/// The interfaces that the configuration names, with their addresses.
fn present(config: &Config) -> io::Result<Links> {
    let mut monitor = Monitor::open()?;
    let mut links = Links::default();
    links.watch(config.vrrp.routers.iter().map(|router| router.interface.clone()));
    monitor.dump()?;
    let mut synced = false;
    while !synced {
        wait(monitor.as_fd(), "the kernel did not answer the request for its addresses")?;
        monitor.read(|event| {
            synced |= matches!(event, NetEvent::Synced);
            links.apply(event, |_| {});
        })?;
    }
    Ok(links)
}

fn wait(fd: std::os::fd::BorrowedFd<'_>, otherwise: &str) -> io::Result<()> {
    let end = Instant::now() + KERNEL_TIMEOUT;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, otherwise.to_owned())),
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
