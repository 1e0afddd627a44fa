//! A PostgreSQL primary and its standby.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Host, Lab};
use nix::sys::signal::Signal;

use crate::machine::Machine;
use crate::sql::{Client, StatementCounts, counted};
use crate::{Report, SHARED, await_that, change, example, install_vipd, spread, start_vipd};

/// In place of postgresql@15-main.service with the example's drop-in, for want of a systemd.
const SUPERVISE: &str = "#!/bin/bash
while :; do
    install -o postgres -g postgres -m 600 /dev/null /var/lib/postgresql/15/main/standby.signal
    pg_ctlcluster --foreground 15 main start
    sleep 1
done
";
const HOOKS: [&str; 5] = ["standing", "before-claim", "master", "before-release", "rewind"];
const RECORD: &str = "/run/postgresql/vipd-standing";
const CLUSTER: [&str; 3] = ["15", "main", "stop"];

struct DatabasePair {
    writer: Option<Client>,
    reader: Option<Client>,
    machines: [Machine; 2],
    client: Host,
    rewound: usize,
    lab: Lab,
}

impl DatabasePair {
    fn new() -> Self {
        let lab = Lab::new().unwrap();
        let machines = [("db-a", 1), ("db-b", 2)].map(|(name, number)| {
            let mut machine = Machine::new(&lab, name, number).unwrap();
            prepare(&machine, number == 1);
            machine.power_on().unwrap();
            machine
        });
        let client = lab.host("client", 200).unwrap();
        let mut pair = Self { writer: None, reader: None, machines, client, rewound: 0, lab };
        pair.set_up();
        for machine in &mut pair.machines {
            supervise(machine);
        }
        // The election does not depend on who was started first, but the first report is about a move.
        for index in [0, 1] {
            start_vipd(&mut pair.machines[index]);
            pair.until_held(0);
        }
        pair
    }

    /// The steps of the README under "Set up".
    fn set_up(&self) {
        let [a, b] = &self.machines;
        for machine in [a, b] {
            machine.run(&["pg_createcluster", "15", "main"]).unwrap();
            let conf = example("postgresql/vipd.conf");
            let conf = if machine.name() == "db-a" {
                conf
            } else {
                let conf = change(&conf, "cluster_name = 'db-a'", "cluster_name = 'db-b'");
                change(&conf, "host=192.0.2.2", "host=192.0.2.1")
            };
            machine.install("/etc/postgresql/15/main/conf.d/vipd.conf", 0o644, &conf);
            let hba = "/etc/postgresql/15/main/pg_hba.conf";
            let mut text = fs::read_to_string(machine.file(hba)).unwrap();
            text += "host replication,postgres replicator 192.0.2.0/24 scram-sha-256\n\
                     host counter counter 192.0.2.200/32 trust\n";
            fs::write(machine.file(hba), text).unwrap();
            machine.install("/var/lib/postgresql/.pgpass", 0o600, "*:*:*:replicator:lab\n");
            machine.run(&["chown", "postgres:", "/var/lib/postgresql/.pgpass"]).unwrap();
        }
        a.run(&["pg_ctlcluster", "15", "main", "start"]).unwrap();
        a.install("/etc/vipd/setup.sql", 0o644, &example("postgresql/setup.sql"));
        as_postgres(a, &["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-f", "/etc/vipd/setup.sql"]);
        for statement in [
            "SET synchronous_commit = local; ALTER ROLE replicator PASSWORD 'lab'; \
             CREATE ROLE counter LOGIN",
            "CREATE DATABASE counter OWNER counter",
        ] {
            let statement = statement.split(';').flat_map(|one| ["-c", one]);
            let local = ["psql", "-qX", "-c", "SET synchronous_commit = local"];
            as_postgres(a, &local.into_iter().chain(statement).collect::<Vec<_>>());
        }
        as_postgres(
            a,
            &[
                "psql",
                "-qX",
                "-d",
                "counter",
                "-c",
                "SET synchronous_commit = local",
                "-c",
                "SET ROLE counter",
                "-c",
                "CREATE TABLE counted (n bigint PRIMARY KEY)",
            ],
        );
        fs::remove_dir_all(b.file("/var/lib/postgresql/15/main")).unwrap();
        as_postgres(
            b,
            &[
                "pg_basebackup",
                "--checkpoint=fast",
                "--pgdata=/var/lib/postgresql/15/main",
                "--dbname=host=192.0.2.1 user=replicator",
            ],
        );
        a.run(&["pg_ctlcluster", "15", "main", "stop"]).unwrap();
    }

    fn both(&self) -> [&Machine; 2] {
        let [a, b] = &self.machines;
        [a, b]
    }

    fn holder(&self) -> Option<usize> {
        let owners = self.lab.owners(SHARED.into());
        let [owner] = owners.as_slice() else { return None };
        self.machines.iter().position(|machine| machine.name() == owner)
    }

    /// Waits until the client writes again.
    fn until_written(&self, since: Instant) {
        let writer = self.writer.as_ref().unwrap();
        let timeout = Duration::from_secs(60);
        await_that(timeout, "writes are acknowledged", &self.both(), || writer.works(since));
    }

    fn until_read(&self, since: Instant) {
        let reader = self.reader.as_ref().unwrap();
        let timeout = Duration::from_secs(30);
        await_that(timeout, "reads are answered", &self.both(), || reader.works(since));
    }

    /// Waits until the address is on this machine.
    fn until_held(&self, index: usize) {
        let what = format!("{} has the address", self.machines[index].name());
        await_that(Duration::from_secs(30), &what, &self.both(), || self.holder() == Some(index));
    }

    /// Waits until both servers know that they are in sync: the one that is not master would take
    /// over now.
    fn until_in_step(&self) -> usize {
        let timeout = Duration::from_secs(30);
        await_that(timeout, "the standby is in step", &self.both(), || {
            self.holder().is_some_and(|primary| {
                let standby = &self.machines[1 - primary];
                standby.file(RECORD).exists() && !self.machines[primary].file(RECORD).exists()
            })
        });
        self.holder().unwrap()
    }

    /// What an operator does on a server that was primary when it crashed.
    fn rewind(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.kill("supervise", Signal::SIGKILL);
        // It may not be running.
        let _ = machine.run(&["pg_ctlcluster", CLUSTER[0], CLUSTER[1], CLUSTER[2]]);
        let said = as_postgres(machine, &["/etc/vipd/hooks/rewind"]);
        self.rewound += usize::from(!said.contains("no rewind required"));
        supervise(machine);
    }

    /// Whether this standby follows the other server within the timeout, without intervention.
    fn follows(&self, index: usize, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        while Instant::now() < end {
            if self.machines[index].file(RECORD).exists() {
                return true;
            }
            thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// The numbers that were acknowledged and are missing.
    fn lost(&self) -> Vec<u64> {
        let acknowledged = self.writer.as_ref().unwrap().acknowledged();
        let there = counted(&self.client, SHARED).unwrap();
        acknowledged.difference(&there).copied().collect()
    }
}

fn prepare(machine: &Machine, better: bool) {
    install_vipd(machine, "postgresql/vipd.toml", better);
    for hook in HOOKS {
        let text = example(&format!("postgresql/hooks/{hook}"));
        machine.install(&format!("/etc/vipd/hooks/{hook}"), 0o755, &text);
    }
    machine.install("/etc/vipd/hooks/common", 0o644, &example("postgresql/hooks/common"));
    machine.install("/etc/vipd/supervise", 0o755, SUPERVISE);
    // That of the package.
    let _ = fs::remove_dir_all(machine.file("/etc/postgresql/15"));
}

fn supervise(machine: &mut Machine) {
    machine.start("postgresql", &["/etc/vipd/supervise"]);
}

fn as_postgres(machine: &Machine, argv: &[&str]) -> String {
    let argv = [&["runuser", "-u", "postgres", "--"], argv].concat();
    machine.run(&argv).unwrap_or_else(|error| panic!("{}: {error}", machine.name()))
}

/// What the client saw at each repetition of an event.
struct DatabaseEvent {
    what: &'static str,
    writes: Vec<StatementCounts>,
    reads: Vec<StatementCounts>,
    lost: usize,
}

impl DatabaseEvent {
    fn new(what: &'static str) -> Self {
        Self { what, writes: Vec::new(), reads: Vec::new(), lost: 0 }
    }

    fn note(&mut self, pair: &DatabasePair, since: Instant) {
        thread::sleep(Duration::from_millis(500));
        self.lost += pair.lost().len();
        self.writes.push(pair.writer.as_ref().unwrap().saw(since));
        self.reads.push(pair.reader.as_ref().unwrap().saw(since));
        eprintln!("postgresql: {} ({})", self.what, self.writes.len());
    }

    fn report(self, report: &mut Report) {
        let sum = |of: fn(&StatementCounts) -> usize| {
            self.writes.iter().map(of).sum::<usize>().to_string()
        };
        let cells = [
            self.writes.len().to_string(),
            sum(|saw| saw.done),
            sum(|saw| saw.refused),
            sum(|saw| saw.unknown),
            self.lost.to_string(),
            spread(self.writes.iter().map(|saw| saw.silence)),
            spread(self.reads.iter().map(|saw| saw.silence)),
        ];
        report.lines.push((self.what.to_owned(), cells.into()));
        if self.lost > 0 {
            report.broken.push(format!("{}: acknowledged writes were lost", self.what));
        }
    }
}

pub fn postgresql(report: &mut Report) {
    report.columns = vec![
        "times",
        "acknowledged",
        "refused",
        "unknown",
        "lost",
        "no write, ms: median / worst",
        "no read, ms: median / worst",
    ];
    let mut pair = DatabasePair::new();
    let start = Instant::now();
    pair.writer = Some(Client::writer(&pair.client, SHARED));
    pair.reader = Some(Client::reader(&pair.client, SHARED));
    pair.until_written(start);

    let mut planned = DatabaseEvent::new("planned: vipd failover db");
    for _ in 0..3 {
        let from = pair.until_in_step();
        let began = Instant::now();
        let vipd = env!("CARGO_BIN_EXE_vipd");
        // It may notice that PostgreSQL has been stopped, and report a fault.
        let _ = pair.machines[from].run(&[vipd, "failover", "db"]);
        pair.until_held(1 - from);
        pair.until_written(Instant::now());
        pair.machines[from].run(&[vipd, "resume", "db"]).unwrap();
        planned.note(&pair, began);
    }

    let mut killed = DatabaseEvent::new("PostgreSQL killed on the primary, rewound if it must be");
    for _ in 0..3 {
        let from = pair.until_in_step();
        let began = Instant::now();
        pair.machines[from].kill("postgres", Signal::SIGKILL);
        pair.until_held(1 - from);
        if !pair.follows(from, Duration::from_secs(8)) {
            pair.rewind(from);
        }
        pair.until_written(Instant::now());
        killed.note(&pair, began);
    }

    let mut crashed = DatabaseEvent::new("the primary's power fails; it comes back rewound");
    for _ in 0..2 {
        let from = pair.until_in_step();
        let began = Instant::now();
        pair.machines[from].power_off();
        pair.until_held(1 - from);
        pair.until_read(Instant::now());
        pair.machines[from].reboot();
        pair.rewind(from);
        start_vipd(&mut pair.machines[from]);
        pair.until_written(Instant::now());
        crashed.note(&pair, began);
    }

    let mut cut = DatabaseEvent::new("the primary is cut off for 8 s, and lives on; then rewound");
    let from = pair.until_in_step();
    let began = Instant::now();
    pair.machines[from].host().cut().unwrap();
    thread::sleep(Duration::from_secs(8));
    pair.machines[from].host().heal().unwrap();
    // Whichever server wins the election, the newer primary remains.
    await_that(Duration::from_secs(30), "the older primary is stopped", &pair.both(), || {
        pair.machines[from].printed("postgresql").contains("received immediate shutdown request")
    });
    pair.until_held(1 - from);
    if !pair.follows(from, Duration::from_secs(8)) {
        pair.rewind(from);
    }
    pair.until_written(Instant::now());
    cut.note(&pair, began);

    let mut alone = DatabaseEvent::new("the standby missed writes, the primary's power fails");
    let primary = pair.until_in_step();
    let standby = 1 - primary;
    pair.machines[standby].kill("supervise", Signal::SIGKILL);
    let began = Instant::now();
    pair.machines[standby].run(&["pg_ctlcluster", "15", "main", "stop"]).unwrap();
    for statement in ["ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()"]
    {
        as_postgres(&pair.machines[primary], &["psql", "-qXc", statement]);
    }
    let alone_since = Instant::now();
    pair.until_written(alone_since);
    thread::sleep(Duration::from_secs(1));
    pair.machines[primary].power_off();
    supervise(&mut pair.machines[standby]);
    await_that(Duration::from_secs(30), "it is refused", &pair.both(), || {
        pair.machines[standby].printed("vipd").contains("refused: ")
    });
    thread::sleep(Duration::from_secs(2));
    if let Some(holder) = pair.holder() {
        report.broken.push(format!("{} took over", pair.machines[holder].name()));
    }
    pair.machines[primary].reboot();
    supervise(&mut pair.machines[primary]);
    start_vipd(&mut pair.machines[primary]);
    await_that(Duration::from_secs(60), "one of them takes over", &pair.both(), || {
        pair.holder().is_some()
    });
    pair.until_written(Instant::now());
    alone.note(&pair, began);

    for event in [planned, killed, crashed, cut, alone] {
        event.report(report);
    }
    let acknowledged = pair.writer.as_ref().unwrap().acknowledged().len();
    report.remarks.push(format!(
        "{acknowledged} writes were acknowledged; {} times the old primary had to be rewound",
        pair.rewound
    ));
}
