//! Mutation tests: each entry of the TOML files beside this one is a bug that some test must find.
//!
//! `cargo test --test mutants` checks that every entry still applies to the source.
//! `cargo test --test mutants -- run [--sample N] [NAME...]` plants them, one after the other, each
//! in a copy below `target/mutants`, and runs tests until one fails. It exits with status 1 if a
//! mutant was missed. A sample is drawn by the commit that is checked out.
//!
//! An entry names the text to find and what replaces it. Comment lines and white space do not count
//! when the text is looked up, and `file` may be a directory, so that an entry survives when code is
//! reformatted or moved within a module; it has to occur there exactly once. `file` and `tests` at
//! the top of a list hold for all its entries.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Mutants in here need only the protocol and its tests, which compile in seconds.
const PROTOCOL: [&str; 2] = ["src/vrrp", "src/words.rs"];
/// The tests that need nothing else.
const PROTOCOL_TESTS: [&str; 3] = ["--lib", "rfc", "simulation"];
/// Its `src/lib.rs`.
const PROTOCOL_LIBRARY: &str = "#[macro_use]\nmod words;\npub mod vrrp;\n";
/// Mutants elsewhere take the whole project and namespaces: no more than this in a sample.
const SLOW_IN_A_SAMPLE: usize = 3;
/// A test that takes longer, in seconds, does not end: the mutant is found.
const TEST_TIMEOUT: &str = "900";

fn main() -> ExitCode {
    let mutants = read_lists();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().is_some_and(|first| first == "run") {
        return run(mutants, arguments);
    }
    let mut tests: Vec<_> = mutants
        .iter()
        .map(|mutant| {
            let mutant = mutant.clone();
            Trial::test(mutant.name.clone(), move || Ok(mutant.check()?))
        })
        .collect();
    tests.push(Trial::test("names_are_unique", move || Ok(names_are_unique(&mutants)?)));
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

// ---- the lists ---------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    file: Option<PathBuf>,
    #[serde(default)]
    tests: Vec<String>,
    mutant: Vec<Mutant>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    /// The promise that it breaks.
    breaks: String,
    file: Option<PathBuf>,
    /// Which tests may find it: a target or `--lib`, then perhaps a part of the test's name.
    #[serde(default)]
    tests: Vec<String>,
    find: Option<String>,
    replace: Option<String>,
    /// Instead of `find` and `replace`, where one edit is not enough.
    #[serde(default)]
    edit: Vec<Edit>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    find: String,
    replace: String,
}

/// Contents by path, relative to the project's directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn read_lists() -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for path in files_below("tests/mutants").iter().filter(|path| has_extension(path, "toml")) {
        let list: List = toml::from_str(&fs::read_to_string(root().join(path)).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for mut mutant in list.mutant {
            mutant.file = mutant.file.or_else(|| list.file.clone());
            if mutant.tests.is_empty() {
                mutant.tests.clone_from(&list.tests);
            }
            if let (Some(find), Some(replace)) = (mutant.find.take(), mutant.replace.take()) {
                mutant.edit.push(Edit { find, replace });
            }
            mutants.push(mutant);
        }
    }
    mutants
}

fn names_are_unique(mutants: &[Mutant]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match mutants.iter().find(|mutant| !seen.insert(&mutant.name)) {
        Some(twice) => Err(format!("two mutants are called {}", twice.name)),
        None => Ok(()),
    }
}

impl Mutant {
    /// Whether it applies, and can be run.
    fn check(&self) -> Result<(), String> {
        if self.breaks.is_empty() || self.tests.is_empty() {
            return Err("breaks or tests is empty".into());
        }
        for test in &self.tests {
            names_a_test(test)?;
        }
        self.changes().map(drop)
    }

    /// The files that it changes, as they are with the bug.
    fn changes(&self) -> Result<Files, String> {
        let place = self.file.as_deref().ok_or("no file is named")?;
        if !place.starts_with("src") || !root().join(place).exists() {
            return Err(format!("{} is no place in src", place.display()));
        }
        if self.edit.is_empty() {
            return Err("find or replace is missing".into());
        }
        let mut edits: BTreeMap<&Path, Vec<(Range<usize>, &str)>> = BTreeMap::new();
        for Edit { find, replace } in &self.edit {
            if squeeze(find).0 == squeeze(replace).0 {
                return Err("replace is what was found".into());
            }
            let found: Vec<_> = sources_below(place)
                .flat_map(|(path, source)| {
                    source.occurrences(find).into_iter().map(move |range| (path, range))
                })
                .collect();
            let [(path, range)] = found.as_slice() else {
                let times = found.len();
                return Err(format!("occurs {times} times in {}: {find}", place.display()));
            };
            edits.entry(path).or_default().push((range.clone(), replace));
        }
        let changed = edits.into_iter().map(|(path, mut edits)| {
            let mut text = SOURCES[path].text.clone();
            edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
            for (range, replace) in edits {
                text.replace_range(range, replace);
            }
            (path.to_owned(), text.into_bytes())
        });
        Ok(changed.collect())
    }
}

/// All Rust files, by path.
static SOURCES: LazyLock<BTreeMap<PathBuf, Source>> = LazyLock::new(|| {
    ["src", "tests", "netns-tests"]
        .iter()
        .flat_map(files_below)
        .filter(|path| has_extension(path, "rs"))
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            (path, Source { text, squeezed: OnceLock::new() })
        })
        .collect()
});

fn sources_below(place: &Path) -> impl Iterator<Item = (&'static Path, &'static Source)> {
    let below = SOURCES.iter().filter(move |(path, _)| path.starts_with(place));
    below.map(|(path, source)| (path.as_path(), source))
}

struct Source {
    text: String,
    squeezed: OnceLock<(String, Vec<usize>)>,
}

impl Source {
    /// Where a text occurs, apart from white space and lines of comment.
    fn occurrences(&self, find: &str) -> Vec<Range<usize>> {
        let (source, places) = self.squeezed.get_or_init(|| squeeze(&self.text));
        let find = squeeze(find).0;
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(at) = source[from..].find(&find).filter(|_| !find.is_empty()) {
            let (first, last) = (from + at, from + at + find.len() - 1);
            found.push(places[first]..places[last] + 1);
            from += at + find.chars().next().map_or(1, char::len_utf8);
        }
        found
    }
}

/// The text without white space and lines of comment, and where each of its bytes was.
fn squeeze(text: &str) -> (String, Vec<usize>) {
    let (mut squeezed, mut places) = (String::new(), Vec::new());
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if !line.trim_start().starts_with("//") {
            for (at, letter) in line.char_indices().filter(|(_, letter)| !letter.is_whitespace()) {
                squeezed.push(letter);
                places.extend((0..letter.len_utf8()).map(|byte| start + at + byte));
            }
        }
        start += line.len();
    }
    (squeezed, places)
}

/// Refuses a test that was renamed or removed, judged by the text alone.
fn names_a_test(test: &str) -> Result<(), String> {
    let (target, name) = target_and_name(test);
    let places = match target {
        "--lib" => vec!["src".to_owned()],
        _ => {
            vec![format!("tests/{target}.rs"), format!("tests/{target}"), format!("{target}-tests")]
        }
    };
    let mut sources = places.iter().flat_map(|place| sources_below(Path::new(place)));
    match sources.any(|(_, source)| source.text.contains(name)) {
        true => Ok(()),
        false => Err(format!("there is no such test: {test}")),
    }
}

fn target_and_name(test: &str) -> (&str, &str) {
    test.split_once(' ').unwrap_or((test, ""))
}

// ---- planting ----------------------------------------------------------------------------------

/// A mutant and the files with it, as of the beginning of the run.
struct Plan {
    mutant: Mutant,
    changes: Result<Files, String>,
}

impl Plan {
    fn new(mutant: Mutant) -> Self {
        Plan { changes: mutant.changes(), mutant }
    }

    fn is_slow(&self) -> bool {
        let quick = |path: &PathBuf| PROTOCOL.iter().any(|place| path.starts_with(place));
        let quick_test = |test: &String| PROTOCOL_TESTS.contains(&target_and_name(test).0);
        !self.changes.as_ref().is_ok_and(|changes| changes.keys().all(quick))
            || !self.mutant.tests.iter().all(quick_test)
    }
}

/// The outcome of a mutant.
enum Outcome {
    Found(String),
    Missed(String),
}

fn run(mut mutants: Vec<Mutant>, mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let (mut names, mut sample) = (BTreeSet::new(), None);
    while let Some(argument) = arguments.next() {
        if argument == "--sample" {
            sample = arguments.next().map(|size| size.parse::<usize>().unwrap());
        } else if mutants.iter().any(|mutant| mutant.name == argument) {
            names.insert(argument);
        } else {
            eprintln!("no mutant is called {argument}");
            return ExitCode::FAILURE;
        }
    }
    mutants.retain(|mutant| names.is_empty() || names.contains(&mutant.name));
    let mut plans: Vec<_> = mutants.into_iter().map(Plan::new).collect();
    if let Some(size) = sample {
        draw(&mut plans, size);
    }
    let mut missed = 0;
    for slow in [false, true] {
        let plans: Vec<_> = plans.iter().filter(|plan| plan.is_slow() == slow).collect();
        if plans.is_empty() {
            continue;
        }
        let copy = if slow { Copy::whole() } else { Copy::protocol() };
        let failing = copy.failing_without_mutants(&plans);
        for plan in plans {
            let started = Instant::now();
            let outcome = match plan.mutant.tests.iter().find(|test| failing.contains(*test)) {
                Some(test) => Outcome::Missed(format!("{test} fails without it, too")),
                None => copy.plant(plan),
            };
            let seconds = started.elapsed().as_secs();
            let text = match outcome {
                Outcome::Found(text) => text,
                Outcome::Missed(text) => {
                    missed += 1;
                    text
                }
            };
            println!("{:<28} {text} ({seconds} s)", plan.mutant.name);
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Keeps a sample of this size, drawn by the commit: over many commits each is chosen.
fn draw(plans: &mut Vec<Plan>, size: usize) {
    let commit = output_of("git", &["rev-parse", "HEAD"]).unwrap_or_default();
    plans.sort_by_key(|plan| Sha256::digest(format!("{commit} {}", plan.mutant.name)));
    let mut slow = 0;
    plans.retain(|plan| {
        slow += usize::from(plan.is_slow());
        !plan.is_slow() || slow <= SLOW_IN_A_SAMPLE
    });
    plans.truncate(size);
}

/// A copy of the project, or of a part of it, with a target directory of its own.
struct Copy {
    directory: PathBuf,
    target: PathBuf,
    files: Files,
    /// How Cargo is kept from other versions of dependencies: the lock file of a part of the
    /// project is not what Cargo would write for it.
    versions: &'static str,
}

impl Copy {
    /// The protocol, which needs nothing but std, and the tests that need nothing but the protocol.
    fn protocol() -> Self {
        let mut files = Files::new();
        for path in PROTOCOL.iter().chain(&["tests"]).flat_map(files_below) {
            let content = fs::read(root().join(&path)).unwrap();
            files.insert(path, content);
        }
        files.insert("src/lib.rs".into(), PROTOCOL_LIBRARY.into());
        files.insert("Cargo.toml".into(), protocol_manifest().into());
        files.insert("Cargo.lock".into(), fs::read(root().join("Cargo.lock")).unwrap());
        Self::new("protocol", files, "--offline")
    }

    fn whole() -> Self {
        let listed =
            output_of("git", &["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let paths: Vec<PathBuf> = match &listed {
            Some(listed) => listed.split_terminator('\0').map(PathBuf::from).collect(),
            None => files_below(""),
        };
        let files = paths
            .into_iter()
            .filter_map(|path| Some((path.clone(), fs::read(root().join(path)).ok()?)))
            .collect();
        Self::new("whole", files, "--locked")
    }

    fn new(name: &str, files: Files, versions: &'static str) -> Self {
        let directory = root().join("target/mutants").join(name);
        let target = root().join("target/mutants").join(format!("{name}-target"));
        Self { directory, target, files, versions }
    }

    /// Those of the mutants' tests that fail without a mutant.
    fn failing_without_mutants(&self, plans: &[&Plan]) -> BTreeSet<String> {
        self.write(&Files::new());
        let tests: BTreeSet<_> = plans.iter().flat_map(|plan| &plan.mutant.tests).collect();
        let mut failing = BTreeSet::new();
        for test in tests {
            let log_name = format!("without {test}");
            let fails = || match self.test(test, &log_name) {
                // A name that no test has lets none run.
                (true, log) => log.contains("test result: ok. 0 passed"),
                (false, _) => true,
            };
            // On a busy machine a test of sockets and processes may fail once.
            if fails() && fails() {
                let log = self.log(&log_name);
                println!("{test} fails without any mutant: see {}", log.display());
                failing.insert(test.clone());
            }
        }
        failing
    }

    fn plant(&self, Plan { mutant, changes }: &Plan) -> Outcome {
        match changes {
            Ok(changes) => self.write(changes),
            Err(why) => return Outcome::Missed(format!("does not apply: {why}")),
        }
        for test in &mutant.tests {
            let (passed, log) = self.test(test, &mutant.name);
            if log.contains("error: could not compile") {
                let log = self.log(&mutant.name);
                return Outcome::Missed(format!("does not compile: see {}", log.display()));
            }
            if !passed {
                let name = failed_test(&log).unwrap_or("a test that does not end");
                return Outcome::Found(format!("found by {}: {name}", target_and_name(test).0));
            }
        }
        Outcome::Missed(format!("NOT FOUND: {}", mutant.breaks))
    }

    /// Makes the directory hold the copied files with these changes. What is equal is not written,
    /// so that it is not compiled again.
    fn write(&self, changes: &Files) {
        fs::create_dir_all(&self.directory).unwrap();
        let mut present = Vec::new();
        collect(&self.directory, Path::new(""), &mut present);
        for path in present.iter().filter(|path| !self.files.contains_key(*path)) {
            fs::remove_file(self.directory.join(path)).unwrap();
        }
        for (path, original) in &self.files {
            let content = changes.get(path).unwrap_or(original);
            let to = self.directory.join(path);
            if fs::read(&to).is_ok_and(|there| there == *content) {
                continue;
            }
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(&to, content).unwrap();
            if let Ok(original) = fs::metadata(root().join(path)) {
                fs::set_permissions(&to, original.permissions()).unwrap();
            }
        }
    }

    /// Whether the test passes, and what it printed.
    fn test(&self, test: &str, log_name: &str) -> (bool, String) {
        let log = self.log(log_name);
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        // A file and no pipe: a program that a test leaves behind would hold the pipe open.
        let stdout = File::create(&log).unwrap();
        let stderr = stdout.try_clone().unwrap();
        let mut cargo = Command::new("timeout");
        cargo.args([TEST_TIMEOUT, "cargo", "test", self.versions]);
        let (target, name) = target_and_name(test);
        if target != "simulation" {
            // The others take longer to compile than to run.
            cargo.args(["--config", "profile.test.package.vipd.opt-level=0"]);
        }
        match target {
            "--lib" => cargo.arg("--lib"),
            _ => cargo.args(["--test", target]),
        };
        cargo.arg("--").args((!name.is_empty()).then_some(name));
        let status = cargo
            .current_dir(&self.directory)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUST_BACKTRACE", "0")
            .env("INSTA_UPDATE", "no")
            // A test that is skipped finds nothing.
            .env("VIPD_TESTS_REQUIRE_PEERS", "1")
            .stdout(stdout)
            .stderr(stderr)
            .status()
            .unwrap();
        (status.success(), String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned())
    }

    fn log(&self, name: &str) -> PathBuf {
        root().join("target/mutants/logs").join(format!("{name}.txt"))
    }
}

/// A package of the same name with nothing but what tests depend on.
fn protocol_manifest() -> String {
    let mut project: toml::Table =
        toml::from_str(&fs::read_to_string(root().join("Cargo.toml")).unwrap()).unwrap();
    project.retain(|key, _| key == "dev-dependencies");
    let mut tests = String::new();
    for name in ["rfc", "simulation"] {
        let path = [format!("tests/{name}.rs"), format!("tests/{name}/main.rs")]
            .into_iter()
            .find(|path| root().join(path).exists())
            .unwrap();
        tests += &format!("[[test]]\nname = \"{name}\"\npath = \"{path}\"\n\n");
    }
    format!(
        "[package]\nname = \"vipd\"\nversion = \"0.0.0\"\nedition = \"2024\"\nautotests = false\n\n\
         [workspace]\n\n[profile.test]\nopt-level = 1\ndebug = false\n\n{tests}{project}"
    )
}

/// The first test that failed, from the output of either harness.
fn failed_test(log: &str) -> Option<&str> {
    log.lines()
        .filter(|line| line.ends_with("FAILED"))
        .find_map(|line| line.strip_prefix("test ")?.split_whitespace().next())
}

// ---- files and programs ------------------------------------------------------------------------

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a directory of the project, or the one file that is named; sorted.
fn files_below(place: impl AsRef<Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(root(), place.as_ref(), &mut files);
    files.sort();
    files
}

fn collect(root: &Path, place: &Path, files: &mut Vec<PathBuf>) {
    if root.join(place).is_file() {
        files.push(place.to_owned());
        return;
    }
    for entry in fs::read_dir(root.join(place)).unwrap() {
        let name = entry.unwrap().file_name();
        if name != "target" && name != ".git" {
            collect(root, &place.join(name), files);
        }
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|there| there == extension)
}

/// What the program printed, if there is one and it succeeded.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
