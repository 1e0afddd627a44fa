//! A list of tests that run on the hosts of a lab, for the programs of `tests/` without the usual
//! harness: a user namespace can be entered by a process with one thread only.
//!
//! Each file lists its functions once, with [`tests!`]. The path of a function is the name of its
//! test, and a function that is not listed is dead code, which each program denies.
// Each program uses a part of it.
#![allow(dead_code, unused_macros, unused_imports)]

#[path = "../peers/mod.rs"]
pub mod peers;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::lab;

/// What a test returns.
pub trait TestOutcome {
    /// As the harness understands it.
    fn completion(self) -> Result<Completion, Failed>;
}

impl TestOutcome for () {
    fn completion(self) -> Result<Completion, Failed> {
        Ok(Completion::Completed)
    }
}

/// `Err`: why the test cannot run on this machine.
pub type TestResult = Result<(), String>;

impl TestOutcome for TestResult {
    fn completion(self) -> Result<Completion, Failed> {
        match self {
            Ok(()) => Ok(Completion::Completed),
            Err(why) => skip(&why),
        }
    }
}

/// A test by its name.
pub struct Test {
    name: String,
    run: Box<dyn FnOnce() -> Result<Completion, Failed> + Send>,
}

impl Test {
    /// A test of any name.
    pub fn new<T: TestOutcome>(name: String, run: impl FnOnce() -> T + Send + 'static) -> Self {
        Self { name, run: Box::new(move || run().completion()) }
    }

    /// The test of a function, whose path in the program is its name.
    pub fn of<T: TestOutcome>(
        module: &str,
        function: &str,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Self {
        let path = module.split_once("::").map_or(String::new(), |(_, path)| format!("{path}::"));
        Self::new(path + function, run)
    }

    /// The same test with more in its name.
    pub fn and(self, more: &str) -> Self {
        Self { name: format!("{}_{more}", self.name), ..self }
    }

    /// The same test, which runs only if `ready`; else the error says why it cannot.
    pub fn needs(self, ready: &TestResult) -> Self {
        match ready {
            Ok(()) => self,
            Err(why) => {
                let why = why.clone();
                Self { run: Box::new(move || skip(&why)), ..self }
            }
        }
    }
}

/// The tests of these functions: `tests![f, module::g]`, or with arguments `tests![(x); f, g]`.
macro_rules! tests {
    (@ $function:path, $arguments:tt) => {
        $crate::suite::Test::of(module_path!(), stringify!($function), move || $function $arguments)
    };
    ($arguments:tt; $($function:path),+ $(,)?) => {
        vec![$($crate::suite::tests!(@ $function, $arguments)),+]
    };
    ($($function:path),+ $(,)?) => {
        vec![$($crate::suite::tests!(@ $function, ())),+]
    };
}
pub(crate) use tests;

/// Runs the tests on the hosts of a lab, at most `threads` at once: most of a test is waiting.
/// `tests` is told whether the lab can be entered, and runs while there is one thread.
pub fn main(threads: usize, tests: impl FnOnce(&TestResult) -> Vec<Test>) -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "lab-child") {
        return lab::child_main(arguments);
    }
    let entered = lab::enter().map_err(|error| error.to_string());
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    let tests = tests(&entered).into_iter().map(|test| test.needs(&entered));
    run(&arguments, tests)
}

/// Runs the tests.
pub fn run(arguments: &Arguments, tests: impl IntoIterator<Item = Test>) -> ExitCode {
    let trial = |test: Test| Trial::ignorable_test(test.name, test.run);
    libtest_mimic::run(arguments, tests.into_iter().map(trial).collect()).exit_code()
}

/// Whether these programs are installed.
pub fn programs(names: &[&str]) -> TestResult {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = |name: &str| {
        let mut directories = env::split_paths(&path).chain([Path::new("/usr/sbin").into()]);
        directories.any(|directory| directory.join(name).is_file())
    };
    match names.iter().find(|name| !installed(name)) {
        Some(name) => Err(format!("{name} is not installed")),
        None => Ok(()),
    }
}

/// Prints why a test cannot run here; a failure if `VIPD_TESTS_REQUIRE_PEERS=1`.
pub fn skip(why: &str) -> Result<Completion, Failed> {
    if peers::required() {
        return Err(format!("cannot run: {why}").into());
    }
    println!("SKIPPED: {why}");
    Ok(Completion::ignored_with(format!("SKIPPED: {why}")))
}
