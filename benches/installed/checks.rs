//! Other promises of an installed vipd: each name is a sentence that holds.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{self, Daemon, Lab, Prober, Program, RouterSpec, wait_for};
use crate::peers::skipped;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::cases::{
    BY_NETWORKD, SHARED, VRID, await_off, configure, expect_master, install, router, script,
    seconds,
};
use crate::machine::{Machine, Tree};
use crate::{ROOT, Site};

type Check = fn(&Site);

pub fn all() -> Vec<(&'static str, Check)> {
    vec![
        ("lintian finds no error", lintian),
        ("both packages carry the same files", same_files),
        ("installing starts nothing, and without a router vipd says what is missing", fresh),
        ("removing hands over, purging leaves nothing", removed),
        ("hooks work under the hardened unit, and a drop-in loosens it", hooks),
        ("a service before vipd.service outlives the address at shutdown", order),
        ("the commands of the README lead to a tested failover", readme),
        ("a pair migrates from keepalived one host at a time, and back", migration),
        ("the container image's steps work in a chroot", container_image),
        ("the static binary runs where there is no libc", static_binary),
        ("sizes and memory", sizes),
        ("what networkd costs by seeing 50 addresses renewed", networkd_costs),
    ]
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn lintian(site: &Site) {
    let mut lintian = Command::new("lintian");
    let said = output(lintian.args(["--allow-root", "--fail-on=error"]).arg(&site.package));
    println!("lintian: {}", if said.is_empty() { "nothing" } else { &said });
}

/// Of the two lists in Cargo.toml, the Debian one has the overrides for lintian besides, and its own
/// directory for completions of zsh.
fn same_files(_: &Site) {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let metadata = &manifest["package"]["metadata"];
    let debian: BTreeSet<[String; 3]> = list(&metadata["deb"]["assets"])
        .iter()
        .map(|asset| [0, 1, 2].map(|index| asset[index].as_str().unwrap().to_owned()))
        .map(|[source, target, mode]| [source.clone(), complete(&source, &target), mode])
        .map(|asset| asset.map(|part| part.replace("vendor-completions", "site-functions")))
        .filter(|[source, ..]| !source.contains("lintian"))
        .collect();
    let rpm: BTreeSet<[String; 3]> = list(&metadata["generate-rpm"]["assets"])
        .iter()
        .map(|asset| ["source", "dest", "mode"].map(|key| asset[key].as_str().unwrap().to_owned()))
        .map(|[source, target, mode]| [source.clone(), complete(&source, &target), mode])
        .collect();
    assert_eq!(debian, rpm);
}

fn list(value: &toml::Value) -> &[toml::Value] {
    value.as_array().unwrap()
}

/// Where a file goes: a target that ends with a slash is a directory.
fn complete(source: &str, target: &str) -> String {
    let target = target.trim_start_matches('/');
    match target.strip_suffix('/') {
        Some(directory) => format!("{directory}/{}", source.rsplit('/').next().unwrap()),
        None => target.to_owned(),
    }
}

fn fresh(site: &Site) {
    let lab = Lab::new().unwrap();
    let a = Machine::new(&lab, &site.base, "a", 1).unwrap();
    fs::copy(&site.package, a.path("/root/vipd.deb")).unwrap();
    a.must("dpkg --install /root/vipd.deb");
    a.must_not("systemctl is-active vipd");
    a.must_not("systemctl is-enabled vipd");
    assert_eq!(a.must("stat -c '%a %U:%G' /etc/vipd/vipd.toml"), "640 root:root");
    assert_eq!(a.must("stat -c %a /etc/vipd/hooks"), "755");
    a.must("getent group vipd");
    let said = a.must_not("vipd run");
    assert!(said.contains("there is no virtual router in this file"), "{said}");
    a.must_not("systemctl start vipd");
    let log = a.must("systemctl stop vipd; journalctl --no-pager --output=cat --unit=vipd");
    assert!(log.contains("there is no virtual router in this file"), "{log}");
    // An upgrade does not start a daemon that was not running.
    fs::copy(&site.rebuilt, a.path("/root/rebuilt.deb")).unwrap();
    a.must("dpkg --install /root/rebuilt.deb");
    a.must_not("systemctl is-active vipd");
}

fn removed(site: &Site) {
    let lab = Lab::new().unwrap();
    let a = Machine::new(&lab, &site.base, "a", 9).unwrap();
    let b = Machine::new(&lab, &site.base, "b", 2).unwrap();
    let client = lab.host("client", 200).unwrap();
    // What every machine changes by itself, and what dpkg keeps of packages that were there.
    let files = "find / -xdev \\( -path /proc -o -path /sys -o -path /tmp -o -path /var/log/journal \
                 -o -path /var/lib/dpkg -o -path /var/cache -o -path /root -o -path /var/tmp \
                 -o -path /var/lib/systemd \\) -prune -o -print | sort; ls /run; \
                 cut -d: -f1 /etc/passwd /etc/group";
    let before = a.must(files);
    for (machine, priority) in [(&a, 150), (&b, 100)] {
        machine.host.answer(SHARED.into()).unwrap();
        install(machine, site, &router(priority));
        machine.must("systemctl enable --now vipd");
        expect_master(&lab, "a");
    }
    let prober = Prober::start(&client, SHARED.into(), Duration::from_millis(1)).unwrap();
    thread::sleep(seconds(3));
    let began = Instant::now();
    a.must("dpkg --remove vipd");
    expect_master(&lab, "b");
    thread::sleep(2 * Prober::TOO_LATE);
    let report = prober.report(began, Instant::now());
    assert!(report.lost <= 3, "{report:?}");
    a.must("test -e /etc/vipd/vipd.toml && test ! -e /run/vipd && test -d /var/lib/vipd");
    a.must("dpkg --purge vipd");
    let (before, after): (BTreeSet<_>, String) = (before.lines().collect(), a.must(files));
    let left: Vec<_> = after.lines().filter(|line| !before.contains(line)).collect();
    let ours: Vec<_> = left.iter().filter(|line| line.contains("vipd")).collect();
    assert!(ours.is_empty(), "left: {ours:?} of {left:?}");
    println!("removed: {} probes lost; left after purge: {left:?}", report.lost);
}

/// A hook that needs a service, a file below /var/lib and the network.
const HOOK: &str = "#!/bin/bash
set -e
[ \"$3\" = MASTER ] || exit 0
systemctl start app.service
mkdir -p /var/lib/app
echo \"$VIPD_ROUTER\" >/var/lib/app/master
exec 3<>/dev/tcp/192.0.2.200/7
echo hello >&3
read -t 5 -u 3 answer
echo \"$answer\" >/var/lib/app/answer
echo switched >/etc/app/switch 2>/dev/null || echo refused >/var/lib/app/switch
touch /var/lib/app/done
";

fn hooks(site: &Site) {
    let lab = Lab::new().unwrap();
    let a = Machine::new(&lab, &site.base, "a", 1).unwrap();
    let client = lab.host("client", 200).unwrap();
    client.echo(client.ipv4().into()).unwrap();
    let mut router = router(150);
    router.more = "[virtual_router.hooks]\nnotify = \"/etc/vipd/hooks/changed\"\n".to_owned();
    install(&a, site, &router);
    script(&a, "/etc/vipd/hooks/changed", HOOK);
    let app = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
    fs::write(a.path("/etc/systemd/system/app.service"), app).unwrap();
    a.must("mkdir /etc/app && systemctl daemon-reload && systemctl enable --now vipd");
    expect_master(&lab, "a");
    let done = || {
        let done = wait_for(seconds(20), || {
            thread::sleep(Duration::from_millis(50));
            a.path("/var/lib/app/done").exists().then_some(())
        });
        assert!(done.is_some(), "{}", a.must("journalctl --no-pager -u vipd"));
    };
    done();
    a.must("systemctl is-active app.service");
    assert_eq!(a.must("cat /var/lib/app/master /var/lib/app/answer"), "web\nhello");
    // The sandbox holds until it is loosened.
    assert_eq!(a.must("cat /var/lib/app/switch"), "refused");
    a.must("test ! -e /etc/app/switch && systemctl stop vipd && rm -r /var/lib/app");
    let drop_in = a.path("/etc/systemd/system/vipd.service.d");
    fs::create_dir(&drop_in).unwrap();
    fs::write(drop_in.join("hooks.conf"), "[Service]\nReadWritePaths=/etc/app\n").unwrap();
    a.must("systemctl daemon-reload && systemctl start vipd");
    expect_master(&lab, "a");
    done();
    assert_eq!(a.must("cat /etc/app/switch"), "switched");

    for unit in a.must("cd /usr/lib/systemd/system && ls vipd*.service").lines() {
        a.must(&format!("systemd-analyze security --no-pager --threshold=30 {unit}"));
        let security = a.must(&format!("systemd-analyze security --no-pager {unit} | tail -1"));
        println!("systemd-analyze security, as installed: {unit}: {security}");
    }
    let log =
        a.must("journalctl --no-pager --output=cat -u vipd | grep -E 'real-time|locked' || true");
    println!("limits in this container: {}", log.lines().take(2).collect::<Vec<_>>().join("; "));
}

fn order(site: &Site) {
    let lab = Lab::new().unwrap();
    let mut a = Machine::new(&lab, &site.base, "a", 1).unwrap();
    install(&a, site, &router(150));
    let note = "ip -4 -brief address show dev eth0";
    let app = format!(
        "[Unit]\nBefore=vipd.service\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n\
         ExecStop=/bin/sh -c '{note} >/var/at-the-end'\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    fs::write(a.path("/etc/systemd/system/app.service"), app).unwrap();
    a.must("systemctl daemon-reload && systemctl enable --now app vipd");
    expect_master(&lab, "a");
    a.must("systemctl poweroff");
    await_off(&mut a);
    let at_the_end = fs::read_to_string(a.path("/var/at-the-end")).unwrap();
    assert!(at_the_end.contains("192.0.2.1/24"), "{at_the_end}");
    assert!(!at_the_end.contains(&SHARED.to_string()), "{at_the_end}");
}

/// Runs a command of a document, which has it in a block (as root, or with `sudo`) or in a sentence.
#[track_caller]
fn as_written(document: &str, machine: &Machine, command: &str) -> String {
    let text = fs::read_to_string(Path::new(ROOT).join(document)).unwrap();
    let before = ["    sudo ", "&& sudo ", "`sudo ", "web-a# ", "    $ ", "`"];
    let said = before.iter().any(|before| text.contains(&format!("{before}{command}")));
    assert!(said, "{document} does not say: {command}");
    machine.must(&command.replace("sudo ", ""))
}

/// A block of the README in TOML: the one after this line.
fn toml_of_readme(after: &str) -> String {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (_, rest) = readme.split_once(after).unwrap();
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

fn readme(site: &Site) {
    let lab = Lab::new().unwrap();
    let a = Machine::new(&lab, &site.base, "web-a", 1).unwrap();
    let b = Machine::new(&lab, &site.base, "web-b", 2).unwrap();
    let shared: IpAddr = "192.0.2.10".parse().unwrap();
    let config = toml_of_readme("**2. Configure.**");
    let as_in_readme = |machine: &Machine, command: &str| as_written("README.md", machine, command);
    let package = site.package.file_name().unwrap();
    for machine in [&a, &b] {
        fs::copy(&site.package, machine.path("/").join(package)).unwrap();
        // A firewall that drops all input except what IPv6 needs.
        machine.must(
            "nft 'add table inet filter; add chain inet filter input { type filter hook input \
             priority 0; policy drop; }; add rule inet filter input meta l4proto 58 accept'",
        );
        as_in_readme(machine, "apt install ./vipd_0.1.0-1_amd64.deb");
    }
    fs::write(a.path("/etc/vipd/vipd.toml"), &config).unwrap();
    let lower = config.replace("web-a", "web-b").replace("priority = 150", "priority = 100");
    assert_ne!(lower, config);
    fs::write(b.path("/etc/vipd/vipd.toml"), lower).unwrap();
    for machine in [&a, &b] {
        as_in_readme(machine, "vipd check");
        as_in_readme(machine, "nft insert rule inet filter input meta l4proto 112 accept");
        as_in_readme(machine, "systemctl enable --now vipd");
    }
    let owner = |name: &str| {
        let settled = wait_for(seconds(30), || {
            thread::sleep(Duration::from_millis(20));
            (lab.owners(shared) == [name]).then_some(())
        });
        assert!(settled.is_some(), "{name} does not get it, but {:?}", lab.owners(shared));
    };
    owner("web-a");
    thread::sleep(seconds(3));
    let began = Instant::now();
    let said = [
        as_in_readme(&a, "vipd status"),
        as_in_readme(&a, "vipd failover web"),
        {
            owner("web-b");
            as_in_readme(&a, "vipd resume web")
        },
        {
            owner("web-a");
            as_in_readme(&a, "vipd drain")
        },
        {
            owner("web-b");
            as_in_readme(&a, "vipd undrain")
        },
    ];
    owner("web-a");
    println!("README: {}", said.join("\n        "));
    let ownership = lab.ownership(shared, began, Instant::now());
    assert!(ownership.total_none < Duration::from_millis(20), "{ownership:?}");
    assert!(ownership.total_two < seconds(1), "{ownership:?}");
}

fn migration(site: &Site) {
    let lab = Lab::new().unwrap();
    let a = Machine::new(&lab, &site.base, "a", 9).unwrap();
    let b = Machine::new(&lab, &site.base, "b", 2).unwrap();
    let client = lab.host("client", 200).unwrap();
    let version_2 = |priority| RouterSpec { version: 2, ..router(priority) };
    for (machine, priority) in [(&a, 150), (&b, 100)] {
        machine.host.answer(SHARED.into()).unwrap();
        let program = Program::Keepalived("/usr/sbin/keepalived".into());
        let text = lab::configuration(machine.host.name(), &program, &[version_2(priority)]);
        // As in operators' files: without `version`.
        let text = text.replace("vrrp_version 3", "").replace("  version 2\n", "");
        fs::write(machine.path("/etc/keepalived/keepalived.conf"), text).unwrap();
        machine.must("systemctl enable --now keepalived");
        expect_master(&lab, "a");
    }
    let prober = Prober::start(&client, SHARED.into(), Duration::from_millis(1)).unwrap();
    thread::sleep(seconds(3));
    let document = "etc/examples/from-keepalived.md";
    let mut story = Vec::new();
    let mut step = |what: &str, master: &str, play: &dyn Fn()| {
        let began = Instant::now();
        play();
        expect_master(&lab, master);
        thread::sleep(seconds(6));
        expect_master(&lab, master);
        thread::sleep(2 * Prober::TOO_LATE);
        let (report, ended) = (prober.report(began, Instant::now()), Instant::now());
        let two = lab.ownership(SHARED.into(), began, ended).total_two;
        assert!(two < Duration::from_millis(200), "{what}: two owners for {two:?}");
        story.push(format!("{what}: {} probes lost", report.lost));
        report.lost
    };
    let lost = step("the backup becomes vipd", "a", &|| {
        as_written(document, &b, "systemctl disable --now keepalived");
        install(&b, site, &version_2(100));
        b.must("systemctl enable --now vipd");
    });
    assert!(lost <= 3, "{story:?}");
    step("the master stops keepalived", "b", &|| {
        a.must("systemctl disable --now keepalived");
    });
    let lost = step("and becomes vipd", "a", &|| {
        install(&a, site, &version_2(150));
        a.must("systemctl enable --now vipd");
    });
    assert!(lost <= 3, "{story:?}");
    for (what, machines) in [("both to version 3", [&b, &a]), ("both to version 2", [&a, &b])] {
        let lost = step(what, "a", &|| {
            for machine in machines {
                let priority = if machine.host.name() == "a" { 150 } else { 100 };
                let spec = match what {
                    "both to version 3" => router(priority),
                    _ => version_2(priority),
                };
                configure(machine, &spec);
                as_written(document, machine, "systemctl reload vipd");
            }
        });
        assert!(lost <= 3, "{story:?}");
    }
    let lost = step("back: the backup becomes keepalived", "a", &|| {
        let command = "systemctl disable --now vipd && sudo systemctl enable --now keepalived";
        as_written(document, &b, command);
    });
    assert!(lost <= 3, "{story:?}");
    let lost = step("back: the master becomes keepalived", "a", &|| {
        a.must("systemctl disable --now vipd && systemctl enable --now keepalived");
    });
    assert!(lost <= 3, "{story:?}");
    println!("migration: {}", story.join("; "));
}

/// What every container has in its root, removed when this is dropped.
struct Mounts([PathBuf; 2]);

impl Mounts {
    fn new(root: &Path) -> Self {
        let none: Option<&str> = None;
        let [proc, dev] = ["proc", "dev"].map(|name| root.join(name));
        mount(Some("proc"), &proc, Some("proc"), MsFlags::empty(), none).unwrap();
        mount(Some("tmpfs"), &dev, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let null = dev.join("null");
        mknod(&null, SFlag::S_IFCHR, Mode::all(), makedev(1, 3)).unwrap();
        fs::set_permissions(&null, fs::Permissions::from_mode(0o666)).unwrap();
        Self([proc, dev])
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for mounted in &self.0 {
            let _ = umount2(mounted, MntFlags::MNT_DETACH);
        }
    }
}

/// What `podman build` would do, as far as a chroot can: FROM is the machines' Debian.
fn container_image(site: &Site) {
    let lab = Lab::new().unwrap();
    let host = lab.host("a", 1).unwrap();
    let tree = Tree::new(&site.base, host.dir()).unwrap();
    let file = fs::read_to_string(Path::new(ROOT).join("etc/Containerfile")).unwrap();
    let mut start = Vec::new();
    for line in file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once(' ').unwrap() {
            ("FROM", image) => assert!(image.contains("debian:12"), "{image}"),
            ("COPY", what) => {
                let (_, to) = what.split_once(' ').unwrap();
                let name = site.package.file_name().unwrap();
                fs::copy(&site.package, tree.path(to).join(name)).unwrap();
            }
            ("RUN", command) => {
                output(Command::new("chroot").arg(tree.path("/")).args(["sh", "-ec", command]));
            }
            ("ENTRYPOINT" | "CMD", words) => {
                start.extend(serde_json::from_str::<Vec<String>>(words).unwrap());
            }
            ("LABEL" | "STOPSIGNAL", _) => {}
            (other, _) => panic!("{other} is not understood by this test"),
        }
    }
    // The run line's capabilities, network and directories.
    let run = file.lines().find(|line| line.contains("podman run")).unwrap();
    let rest = &file[file.find(run).unwrap()..];
    let mut capabilities = String::from("-all");
    for word in rest.split_whitespace() {
        if let Some(capability) = word.strip_prefix("--cap-add=") {
            capabilities += &format!(",+{}", capability.to_lowercase());
        }
    }
    assert_eq!(capabilities, "-all,+net_admin,+net_raw");
    let text = lab::configuration("a", &Program::Vipd("/usr/bin/vipd".into()), &[router(150)]);
    fs::write(tree.path("/etc/vipd/vipd.toml"), text).unwrap();
    for directory in ["/run/vipd", "/var/lib/vipd"] {
        fs::create_dir_all(tree.path(directory)).unwrap();
    }
    let _mounts = Mounts::new(&tree.path("/"));
    let mut command = Command::new("chroot");
    command.arg(tree.path("/")).args(["setpriv", "--no-new-privs"]);
    command.arg(format!("--bounding-set={capabilities}")).args(&start);
    let launch = || Daemon::spawn(&host, &command, "none".into(), host.dir().join("log")).unwrap();
    let mut daemon = launch();
    let master = wait_for(seconds(20), || host.holds(SHARED.into()).ok()?.then_some(()));
    assert!(master.is_some(), "{}", daemon.log());
    thread::sleep(seconds(3));
    let began = Instant::now();
    daemon.signal(Signal::SIGUSR2).unwrap();
    assert!(daemon.wait(seconds(20)).unwrap().is_some(), "{}", daemon.log());
    let mut daemon = launch();
    thread::sleep(seconds(5));
    expect_master(&lab, "a");
    let ownership = lab.ownership(SHARED.into(), began, Instant::now());
    assert_eq!(ownership.changes, 0, "{}", daemon.log());
    println!("container: {}", daemon.log().lines().next().unwrap_or_default());
    let status = daemon.stop(seconds(20)).unwrap();
    assert!(status.success(), "{status}\n{}", daemon.log());
    assert!(!host.holds(SHARED.into()).unwrap());
}

/// Built by `cargo build --release --target x86_64-unknown-linux-musl`, if it was.
fn static_binary(_: &Site) {
    let file = Path::new(ROOT).join("target/x86_64-unknown-linux-musl/release/vipd");
    if !file.exists() {
        return skipped("static_binary", "it is not built");
    }
    let lab = Lab::new().unwrap();
    let host = lab.host("a", 1).unwrap();
    // A root with nothing else in it.
    let root = host.dir().join("root");
    for directory in ["etc", "dev", "proc", "run/vipd", "var/lib/vipd"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy(&file, root.join("vipd")).unwrap();
    let text = lab::configuration("a", &Program::Vipd("/vipd".into()), &[router(150)]);
    fs::write(root.join("etc/vipd.toml"), text).unwrap();
    let _mounts = Mounts::new(&root);
    let mut command = Command::new("chroot");
    command.arg(&root).args(["/vipd", "run", "--config=/etc/vipd.toml"]);
    let log = host.dir().join("log");
    let mut daemon = Daemon::spawn(&host, &command, "none".into(), log).unwrap();
    let master = wait_for(seconds(20), || host.holds(SHARED.into()).ok()?.then_some(()));
    let log = daemon.log();
    let stopped = daemon.stop(seconds(20));
    assert!(master.is_some(), "{log}");
    assert!(stopped.unwrap().success(), "{log}");
    println!("static binary: {} KiB", fs::metadata(&file).unwrap().len() / 1024);
}

fn sizes(site: &Site) {
    let field =
        |name: &str| output(Command::new("dpkg-deb").arg("--field").arg(&site.package).arg(name));
    let lab = Lab::new().unwrap();
    let a = Machine::new(&lab, &site.base, "a", 1).unwrap();
    install(&a, site, &router(150));
    let program = Program::Keepalived("/usr/sbin/keepalived".into());
    let text = lab::configuration("a", &program, &[router(150)]);
    fs::write(a.path("/etc/keepalived/keepalived.conf"), text).unwrap();
    let kib = |file: &Path| fs::metadata(file).unwrap().len() / 1024;
    let packages = a.path("/var/cache/apt/archives");
    let keepalived = fs::read_dir(packages).unwrap().map(|entry| entry.unwrap().path());
    let keepalived = keepalived
        .filter(|file| file.to_string_lossy().contains("/keepalived_"))
        .map(|file| format!("{} KiB", kib(&file)))
        .next();
    let needs = "apt-get install --simulate --no-install-recommends keepalived >/dev/null 2>&1; \
                 dpkg-query --show --showformat='${Installed-Size} KiB; ${Depends}' ";
    println!(
        "package: vipd {} KiB (rpm {} KiB), installed {} KiB; {}",
        kib(&site.package),
        kib(&site.rpm),
        field("Installed-Size"),
        field("Depends")
    );
    println!(
        "package: keepalived {}, installed {}",
        keepalived.unwrap_or_else(|| "of unknown size".to_owned()),
        a.must(&format!("{needs} keepalived"))
    );
    for unit in ["vipd", "keepalived"] {
        a.must(&format!("systemctl start {unit}"));
        thread::sleep(seconds(8));
        let group = format!("/sys/fs/cgroup/system.slice/{unit}.service/cgroup.procs");
        let pss = a.must(&format!(
            "for pid in $(cat {group}); do awk '/^Pss:/ {{ print $2 }}' /proc/$pid/smaps_rollup; done"
        ));
        let each: Vec<u64> = pss.lines().filter_map(|line| line.parse().ok()).collect();
        println!(
            "memory of a master: {unit} {} KiB in {} processes",
            each.iter().sum::<u64>(),
            each.len()
        );
        a.must(&format!("systemctl stop {unit}"));
    }
}

fn networkd_costs(site: &Site) {
    const WATCHED: u64 = 30;
    let lab = Lab::new().unwrap();
    let a = Machine::new(&lab, &site.base, "a", 1).unwrap();
    let network = "[Match]\nName=eth0\n[Network]\nAddress=192.0.2.1/24\nLinkLocalAddressing=no\n";
    fs::write(a.path("/etc/systemd/network/eth0.network"), network).unwrap();
    a.must(BY_NETWORKD);
    let mut router = router(150);
    router.addresses = (100..150).map(|last| IpAddr::from([192, 0, 2, last])).collect();
    install(&a, site, &router);
    let spent = |unit: &str| -> u64 {
        let pid = a.must(&format!("systemctl show --property=MainPID --value {unit}"));
        let ticks = a.must(&format!("awk '{{ print $14 + $15 }}' /proc/{pid}/stat"));
        ticks.parse().unwrap()
    };
    let watch = |unit: &str| {
        let before = spent(unit);
        thread::sleep(seconds(WATCHED));
        // A tick is 10 ms: ms per s.
        (spent(unit) - before) as f64 * 10.0 / WATCHED as f64
    };
    let without = watch("systemd-networkd");
    a.must("systemctl start vipd");
    expect_master(&lab, "a");
    let with = watch("systemd-networkd");
    let own = watch("vipd");
    println!(
        "networkd: {without:.1} ms of CPU per second without vipd, {with:.1} ms with 50 addresses \
         renewed every second; vipd itself {own:.1} ms"
    );
    assert!(with < 50.0, "{with} ms per second");
    let adverts = lab.observer().adverts("a", Instant::now() - seconds(10));
    assert!(adverts.iter().all(|(_, advert)| advert.vrid == VRID) && adverts.len() > 5);
}
