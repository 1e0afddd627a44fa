//! What the examples and the README show is run, as far as one machine without a pair can: vipd reads
//! its files, the other programs read theirs, and the hooks decide about a PostgreSQL whose answers
//! are written here. With the real programs on pairs: `cargo bench --bench examples`.
//!
//! `VIPD_TESTS_REQUIRE_PEERS=1` turns what is skipped, as its program is missing, into failures.
#![allow(clippy::unwrap_used)]

mod peers;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use peers::skipped;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/etc/examples");
const README: &str = include_str!("../README.md");

fn example(name: &str) -> PathBuf {
    let path = Path::new(EXAMPLES).join(name);
    assert!(path.exists(), "{}", path.display());
    path
}

fn directories() -> Vec<PathBuf> {
    let entries = fs::read_dir(EXAMPLES).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

fn hooks() -> Vec<PathBuf> {
    let dirs = directories().into_iter().map(|dir| dir.join("hooks")).filter(|dir| dir.is_dir());
    let entries = dirs.flat_map(|dir| fs::read_dir(dir).unwrap());
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn check(file: &Path) -> Output {
    Command::new(VIPD).args(["check", "--file-only"]).arg(file).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a program of somebody else; `None` if it is not installed, which is said.
fn other(test: &str, program: &str, arguments: &[&str]) -> Option<Output> {
    // A user's path may lack it.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    match Command::new(program).args(arguments).env("PATH", path).output() {
        Ok(output) => Some(output),
        Err(error) => {
            skipped(test, &format!("{program} cannot be run: {error}"));
            None
        }
    }
}

// ---- files ---------------------------------------------------------------------------------------

#[test]
fn every_example_passes_vipd_check_without_a_note() {
    assert!(directories().len() >= 3);
    for dir in directories() {
        let output = check(&dir.join("vipd.toml"));
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}: {complained}", dir.display());
        assert!(said.starts_with("ok: "), "{said}");
        assert!(!said.lines().next().unwrap().contains("note"), "{}: {said}", dir.display());
        assert!(complained.is_empty(), "{complained}");
    }
}

/// The blocks of a language in a Markdown text.
fn blocks<'t>(markdown: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("```{language}\n");
    let parts = markdown.split(begin.as_str()).skip(1);
    parts.map(|part| part.split_once("```").unwrap().0).collect()
}

#[test]
fn vipd_says_of_the_first_pair_what_the_readme_shows() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vipd.toml");
    let first = blocks(README, "toml")[0];
    fs::write(&file, first).unwrap();
    let output = check(&file);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let session = blocks(README, "console")[0];
    let shown = session.split_once("vipd check\n").unwrap().1.split_once("web-a#").unwrap().0;
    assert_eq!(text(&output.stdout).trim_end(), shown.trim_end());
}

#[test]
fn vipd_accepts_the_keys_that_the_readme_shows() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vipd.toml");
    let [first, keys] = blocks(README, "toml")[..] else { panic!("two blocks") };
    // The members of its group, and what it takes as written above.
    let mut members = String::new();
    for (vrid, name) in [(61, "inside"), (62, "outside")] {
        members += &format!(
            "[[virtual_router]]\nname = \"{name}\"\ninterface = \"eth0\"\nvrid = {vrid}\n\
             addresses = [\"192.0.2.{vrid}\"]\n"
        );
    }
    let common = first.split_once("[[virtual_router]]").unwrap().1;
    let (before, after) = keys.split_once("[[virtual_router]]").unwrap();
    let (comment, after) = after.split_once('\n').unwrap();
    fs::write(&file, format!("{members}{before}[[virtual_router]]{comment}\n{common}{after}"))
        .unwrap();
    let output = check(&file);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The commands in a text that begin with `vipd`, without the arguments of each.
fn commands(markdown: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in markdown.split("vipd ").skip(1) {
        let word: String = part.chars().take_while(|c| c.is_ascii_lowercase()).collect();
        found.insert(word);
    }
    found
}

#[test]
fn every_command_of_the_readme_exists() {
    let shown: String = blocks(README, "console")
        .iter()
        .flat_map(|block| block.lines())
        .filter_map(|line| line.split_once("# ").map(|(_, command)| format!("{command}\n")))
        .collect();
    let quoted: String = README
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.starts_with("vipd "))
        .map(|code| format!("{code}\n"))
        .collect();
    let commands = commands(&(shown + &quoted));
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands.iter().filter(|command| !command.is_empty()) {
        let output = Command::new(VIPD).args([command, "--help"]).output().unwrap();
        assert!(output.status.success(), "vipd {command}: {}", text(&output.stderr));
    }
}

#[test]
fn every_example_says_what_it_is_for() {
    for dir in directories() {
        assert!(dir.join("README.md").is_file(), "{}", dir.display());
    }
}

// ---- files of other programs ---------------------------------------------------------------------

#[test]
fn haproxy_accepts_its_file() {
    let file = example("haproxy/haproxy.cfg").display().to_string();
    let Some(output) = other("haproxy_accepts_its_file", "haproxy", &["-c", "-f", &file]) else {
        return;
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("WARNING"), "{}", text(&output.stderr));
}

#[test]
fn nginx_accepts_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().display();
    // It opens the ports, which are in use where an nginx runs.
    let site = fs::read_to_string(example("nginx/www.conf")).unwrap();
    let socket = |name: &str| format!("listen unix:{dir}/{name}");
    let site = site.replace("listen 80", &socket("site"));
    let site = site.replace("listen 127.0.0.1:8404", &socket("health"));
    fs::write(directory.path().join("www.conf"), site).unwrap();
    let main = format!(
        "error_log stderr;\npid {dir}/pid;\nevents {{}}\nhttp {{ access_log off; include {dir}/www.conf; }}\n"
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, main).unwrap();
    let (dir, file) = (dir.to_string(), file.display().to_string());
    let arguments = ["-t", "-e", "stderr", "-p", &dir, "-c", &file];
    let Some(output) = other("nginx_accepts_its_file", "nginx", &arguments) else { return };
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn systemd_accepts_the_drop_in_of_postgresql() {
    let directory = tempfile::tempdir().unwrap();
    let drop_ins = directory.path().join("postgresql@.service.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::copy(example("postgresql/postgresql@.service.conf"), drop_ins.join("vipd.conf")).unwrap();
    let unit = directory.path().join("postgresql@.service");
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    let instance = directory.path().join("postgresql@15-main.service").display().to_string();
    let arguments = ["verify", "--man=no", &instance];
    let test = "systemd_accepts_the_drop_in_of_postgresql";
    let Some(output) = other(test, "systemd-analyze", &arguments) else { return };
    // Messages about other units of this machine do not count.
    let said = text(&output.stderr);
    assert!(!said.contains("vipd.conf") && !said.contains("postgresql"), "{said}");
}

#[test]
fn postgresql_accepts_its_file() {
    let test = "postgresql_accepts_its_file";
    let postgres = "/usr/lib/postgresql/15/bin/postgres";
    if !nix::unistd::Uid::effective().is_root() || !Path::new(postgres).exists() {
        return skipped(test, "only root becomes another user, or PostgreSQL 15 is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("postgresql.conf");
    fs::copy(example("postgresql/vipd.conf"), &file).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let data = directory.path().display().to_string();
    let arguments =
        ["-u", "nobody", "--", postgres, "-C", "synchronous_standby_names", "-D", &data];
    let Some(output) = other(test, "runuser", &arguments) else { return };
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), "FIRST 1 (\"db-a\", \"db-b\")");
}

#[test]
fn the_kernel_knows_the_settings_for_haproxy() {
    let settings = fs::read_to_string(example("haproxy/90-vipd.conf")).unwrap();
    let keys = settings.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
    let paths: Vec<_> =
        keys.map(|key| Path::new("/proc/sys").join(key.replace('.', "/"))).collect();
    assert_eq!(paths.len(), 2);
    for path in paths {
        assert!(path.exists(), "{}", path.display());
    }
}

// ---- hooks ---------------------------------------------------------------------------------------

#[test]
fn every_hook_that_an_example_names_is_there_and_can_be_executed() {
    for dir in directories() {
        let text = fs::read_to_string(dir.join("vipd.toml")).unwrap();
        let named = text.split('"').filter_map(|word| word.strip_prefix("/etc/vipd/hooks/"));
        let named: BTreeSet<&str> = named.collect();
        for name in &named {
            let file = dir.join("hooks").join(name);
            let mode = fs::metadata(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(mode.permissions().mode() & 0o111, 0o111, "{}", file.display());
        }
    }
}

#[test]
fn every_hook_is_a_shell_script_without_errors_of_syntax() {
    assert!(hooks().len() >= 5);
    for hook in hooks() {
        let output = Command::new("sh").arg("-n").arg(&hook).output().unwrap();
        assert!(output.status.success(), "{}: {}", hook.display(), text(&output.stderr));
    }
}

/// The hooks of the PostgreSQL example, with a `psql` that gives the answers of a test and a
/// `pg_ctlcluster` that notes its arguments.
struct PostgreSql {
    directory: tempfile::TempDir,
}

/// Parts of a statement, and the answer to it; the first that fits is given.
type Answers<'a> = &'a [(&'a str, &'a str)];

const STANDBY: (&str, &str) = ("SELECT pg_is_in_recovery()", "t");
const PRIMARY: (&str, &str) = ("SELECT pg_is_in_recovery()", "f");

impl PostgreSql {
    fn new() -> Self {
        let it = Self { directory: tempfile::tempdir().unwrap() };
        let here = it.directory.path().display().to_string();
        for hook in fs::read_dir(example("postgresql/hooks")).unwrap() {
            let hook = hook.unwrap().path();
            let text = fs::read_to_string(&hook).unwrap();
            let text = text.replace("/etc/vipd/hooks", &here).replace("/run/postgresql", &here);
            it.program(hook.file_name().unwrap().to_str().unwrap(), &text);
        }
        let psql = "#!/bin/sh\nfor word; do case $word in --command=*) statement=$word;; esac; done\n\
                    echo \"$statement\" >>HERE/asked\n. HERE/answers\n";
        it.program("psql", &psql.replace("HERE", &here));
        it.program("pg_ctlcluster", &format!("#!/bin/sh\necho \"$*\" >>{here}/stopped\n"));
        it
    }

    fn program(&self, name: &str, text: &str) {
        let file = self.directory.path().join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a hook while PostgreSQL gives these answers; to anything else it does not answer.
    fn run(&self, hook: &str, answers: Answers<'_>) -> Output {
        let mut script = String::from("case $statement in\n");
        for (part, answer) in answers {
            script += &format!("*\"{part}\"*) echo '{answer}';;\n");
        }
        fs::write(self.file("answers"), script + "*) exit 2;;\nesac\n").unwrap();
        let path = format!("{}:/usr/bin:/bin", self.directory.path().display());
        Command::new(self.file(hook)).env("PATH", path).output().unwrap()
    }

    fn agrees(&self, hook: &str, answers: Answers<'_>) -> bool {
        self.run(hook, answers).status.success()
    }

    fn stopped(&self) -> Option<String> {
        let stopped = fs::read_to_string(self.file("stopped")).ok();
        let _ = fs::remove_file(self.file("stopped"));
        stopped.map(|text| text.trim().to_owned())
    }
}

/// What "standing" asks on a standby: in recovery, start, name, streaming, complete.
fn standby_that(streams: &str, complete: &str) -> String {
    format!("t 1700 db-b {streams} {complete}")
}

#[test]
fn only_a_standby_that_was_in_step_a_moment_ago_may_claim() {
    let it = PostgreSql::new();
    assert!(!it.agrees("before-claim", &[]), "PostgreSQL does not answer");
    assert!(it.agrees("before-claim", &[("SELECT pg_is_in_recovery()", "f 1700")]));
    let standby = [("SELECT pg_is_in_recovery()", "t 1700")];
    assert!(!it.agrees("before-claim", &standby), "it was never in step");
    // Its primary says that it is in step.
    let in_step = standby_that("t", "f");
    let answers = [
        ("pg_stat_wal_receiver", in_step.as_str()),
        ("SHOW primary_conninfo", "host=192.0.2.1"),
        ("SELECT CASE", "sync"),
    ];
    assert!(it.agrees("standing", &answers));
    assert!(it.file("vipd-standing").exists());
    assert!(it.agrees("before-claim", &standby));
    // It was started again since then.
    assert!(!it.agrees("before-claim", &[("SELECT pg_is_in_recovery()", "t 1800")]));
    // Too long ago.
    fs::write(it.file("vipd-standing"), "-100 1700\n").unwrap();
    let refused = it.run("before-claim", &standby);
    assert!(text(&refused.stdout).contains("last known to be in step"), "{refused:?}");
    // The operator's word counts once.
    fs::write(it.file("vipd-allow"), "").unwrap();
    assert!(it.agrees("before-claim", &standby));
    assert!(!it.agrees("before-claim", &standby));
}

#[test]
fn a_standby_that_is_not_in_step_loses_its_record() {
    let it = PostgreSql::new();
    let record = it.file("vipd-standing");
    let ask = |state: &str, they: &str| {
        fs::write(&record, "1 1700\n").unwrap();
        let answers = [
            ("pg_stat_wal_receiver", state),
            ("SHOW primary_conninfo", "host=192.0.2.1"),
            ("SELECT CASE", they),
        ];
        assert!(it.agrees("standing", &answers), "{state} {they}");
        fs::read_to_string(&record).ok()
    };
    let fresh = |text: &Option<String>| text.as_ref().is_some_and(|text| text != "1 1700\n");
    assert_eq!(ask(&standby_that("t", "t"), "potential"), None);
    assert_eq!(ask(&standby_that("t", "f"), "standby"), None);
    assert!(fresh(&ask(&standby_that("t", "t"), "standby")));
    assert!(fresh(&ask(&standby_that("t", "f"), "sync")));
    // Without a connection the last record stays and becomes old.
    assert_eq!(ask(&standby_that("f", "t"), "sync").as_deref(), Some("1 1700\n"));
}

#[test]
fn a_primary_that_another_one_succeeds_is_stopped() {
    let it = PostgreSql::new();
    let primary = |newer: &str| {
        [
            ("pg_stat_wal_receiver", "f 1700 db-a f f".to_owned()),
            ("SHOW primary_conninfo", "host=192.0.2.2".to_owned()),
            ("COLLATE", newer.to_owned()),
            ("SELECT CASE", "00000002".to_owned()),
        ]
    };
    let run = |newer: &str| {
        let answers = primary(newer);
        let answers: Vec<_> = answers.iter().map(|(part, it)| (*part, it.as_str())).collect();
        it.agrees("standing", &answers)
    };
    assert!(run("f"));
    assert_eq!(it.stopped(), None);
    assert!(!run("t"));
    assert_eq!(it.stopped().as_deref(), Some("15 main stop -m immediate"));
}

#[test]
fn a_primary_is_stopped_for_a_planned_move_only_if_a_standby_is_in_step() {
    let it = PostgreSql::new();
    let count = |number| ("pg_stat_replication", number);
    assert!(it.agrees("before-release", &[STANDBY]));
    assert_eq!(it.stopped(), None);
    assert!(!it.agrees("before-release", &[PRIMARY, count("0")]));
    assert_eq!(it.stopped(), None);
    assert!(it.agrees("before-release", &[PRIMARY, count("1")]));
    assert_eq!(it.stopped().as_deref(), Some("15 main stop -m fast"));
}

#[test]
fn a_standby_is_promoted_and_a_primary_left_alone() {
    let it = PostgreSql::new();
    fs::write(it.file("vipd-standing"), "1 1700\n").unwrap();
    assert!(it.agrees("master", &[PRIMARY]));
    assert!(!it.agrees("master", &[STANDBY, ("pg_promote", "f")]), "the promotion failed");
    assert!(it.file("vipd-standing").exists());
    assert!(it.agrees("master", &[STANDBY, ("pg_promote", "t"), ("CHECKPOINT", "")]));
    assert!(!it.file("vipd-standing").exists());
}
