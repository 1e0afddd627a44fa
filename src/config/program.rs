//! The programs of hooks and checks: how the file names them, and whether they can be executed here
//! and not be changed by others.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, User};
use serde::{Deserialize, Serialize};

use super::file::Argv;
use super::problem::{Diagnostics, Place};
use super::reader::At;
use crate::host::trust::{self, Trust, Untrusted};

/// What others could do who can change a program.
const POWER: &str = "change what we run";

/// Where programs of hooks and checks are searched that are named without a directory.
pub const HOOK_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The program and its arguments; `what` is "hook" or "check".
pub(super) fn check_argv(
    key: &str,
    argv: &At<Argv>,
    what: &str,
    report: &Diagnostics,
) -> Vec<String> {
    let list = match &argv.value {
        Argv::Program(program) => {
            let words: Vec<String> =
                program.split_whitespace().map(|word| format!("{word:?}")).collect();
            if words.len() > 1 {
                report.error(
                    &argv.at,
                    format!("`{key}` names one program, and contains spaces"),
                    format!("write it as a list: {key} = [{}]", words.join(", ")),
                );
                return Vec::new();
            }
            vec![At { value: program.clone(), at: argv.at.clone() }]
        }
        Argv::List(list) => list.clone(),
    };
    let Some(program) = list.first() else {
        report.error(
            &argv.at,
            format!("`{key}` is an empty list"),
            format!("name the program, or leave the {what} out"),
        );
        return Vec::new();
    };
    let name = program.value.as_str();
    if name.is_empty() {
        report.error(
            &program.at,
            format!("`{key}` does not name a program"),
            format!("write its path, or leave the {what} out"),
        );
    } else if name.contains('/') && !name.starts_with('/') {
        report.error(
            &program.at,
            format!("`{name}` is a relative path"),
            "write the whole path, beginning with /",
        );
    } else if name == ".." || name.split('/').any(|part| part == "..") {
        report.error(
            &program.at,
            format!("`{name}` goes through `..`"),
            "write the path without it",
        );
    }
    if let Some(wrong) = list.iter().find(|argument| argument.value.contains('\0')) {
        report.error(&wrong.at, "a NUL byte cannot be passed to a program", "leave it out");
    }
    list.into_iter().map(|argument| argument.value).collect()
}

pub(super) fn check_user(user: &At<String>, report: &Diagnostics) {
    let name = user.value.as_str();
    let fits = |c: char| c.is_alphanumeric() || "-_.@$".contains(c);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(fits) {
        report.error(
            &user.at,
            format!("`{name}` cannot be the name of a user"),
            "write a user's name, or leave it out",
        );
    }
}

/// A program of a hook or check and the user that is to run it, or a user alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProgramUse {
    pub(super) program: Option<String>,
    /// `None`: the daemon's own.
    pub(super) user: Option<String>,
}

impl ProgramUse {
    pub(super) fn of(argv: &[String], user: Option<&str>) -> Self {
        let program = argv.first().cloned().unwrap_or_default();
        ProgramUse { program: Some(program), user: user.map(str::to_owned) }
    }
}

/// Why a program cannot be run here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFault {
    /// It is the user that is wrong, not the program.
    of_user: bool,
    message: String,
    help: String,
}

/// What is wrong with the programs of a configuration on this machine; empty if nothing is.
pub type ProgramFaults = Vec<(ProgramUse, ProgramFault)>;

/// Whether each user exists and can execute the program, and nobody can change it who is not trusted.
/// Looking up a user runs whatever `/etc/nsswitch.conf` names, in this process.
pub fn examine(programs: &BTreeSet<ProgramUse>) -> ProgramFaults {
    examine_for(&Trust::of_this_process(), programs)
}

pub(super) fn examine_for(trust: &Trust, programs: &BTreeSet<ProgramUse>) -> ProgramFaults {
    let mut faults = Vec::new();
    for it in programs {
        let mut add = |of_user, (message, help)| {
            faults.push((it.clone(), ProgramFault { of_user, message, help }));
        };
        let user = it.user.as_deref().and_then(|name| {
            let found = User::from_name(name).ok().flatten();
            if found.is_none() {
                let message = format!("there is no user `{name}` on this machine");
                add(
                    true,
                    (message, format!("create it (useradd --system {name}), or name another")),
                );
            }
            found
        });
        if let Some(program) = &it.program
            && let Err(fault) = find_trusted(program, user.as_ref(), trust)
        {
            add(false, fault);
        }
    }
    faults
}

/// Reports what is wrong with a program, at its place and its user's.
pub(super) fn report_faults(
    faults: &ProgramFaults,
    it: Option<&ProgramUse>,
    program_at: Option<&Place>,
    user_at: Option<&Place>,
    report: &Diagnostics,
) {
    for (_, fault) in faults.iter().filter(|(with, _)| Some(with) == it) {
        let ProgramFault { of_user, message, help } = fault;
        match if *of_user { user_at } else { program_at } {
            Some(place) => report.error_at(place.clone(), message, help),
            None => report.error_without_place(message, help),
        }
    }
}

/// The path of a program named by an absolute path, or by a name to be found in [`HOOK_PATH`].
///
/// # Errors
/// It is missing, `user` may not execute it, or other users could change it: message and
/// suggestion.
pub fn find_program(name: &str, user: Option<&User>) -> Result<PathBuf, (String, String)> {
    find_trusted(name, user, &Trust::of_this_process())
}

fn find_trusted(
    name: &str,
    user: Option<&User>,
    trust: &Trust,
) -> Result<PathBuf, (String, String)> {
    let found = if Path::new(name).is_absolute() {
        Some(PathBuf::from(name)).filter(|path| path.is_file())
    } else {
        let here = |directory: &&str| Path::new(directory).join(name);
        HOOK_PATH.iter().map(here).find(|path| path.is_file())
    };
    let Some(path) = found.filter(|_| !name.is_empty()) else {
        let help = if !name.starts_with('/') {
            format!("write its whole path; without one it is looked for in {}", HOOK_PATH.join(":"))
        } else if Path::new(name).is_dir() {
            "this is a directory: name the program in it".into()
        } else {
            "correct the path, or install the program; all directories must be searchable".into()
        };
        return Err((format!("there is no program `{name}`"), help));
    };
    let refuse = |untrusted: Untrusted| (untrusted.message(POWER), untrusted.help());
    for step in trust::steps(&path).map_err(refuse)? {
        trust.check_step(&step).map_err(refuse)?;
        if !step.metadata.is_symlink() && !may_execute(&step.metadata, user) {
            return Err(no_execution(&step.path, &step.metadata, user));
        }
    }
    check_beginning(&path)?;
    Ok(path)
}

/// Whether the kernel can begin to execute a file: of a script it reads the first line alone, and
/// reports a missing interpreter as if the script did not exist. A file that cannot be read is not
/// looked at.
fn check_beginning(path: &Path) -> Result<(), (String, String)> {
    let mut beginning = [0; 256];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut beginning));
    let Ok(length) = read else { return Ok(()) };
    let (beginning, shown) = (&beginning[..length], path.display());
    let Some(rest) = beginning.strip_prefix(b"#!") else {
        // Programs in machine code have bytes of 0 there. exec(3) has a shell execute everything else.
        if beginning.contains(&0) {
            return Ok(());
        }
        let marked = beginning.strip_prefix(b"\xef\xbb\xbf".as_slice());
        return Err(match marked.filter(|rest| rest.starts_with(b"#!")) {
            Some(_) => (
                format!(
                    "`{shown}` begins with a byte order mark, so the kernel does not find its `#!`"
                ),
                format!("sed -i '1s/^\\xef\\xbb\\xbf//' {shown}"),
            ),
            None => (
                format!("`{shown}` does not begin with `#!` and its interpreter"),
                format!("write that into the first line of {shown}, for example #!/bin/sh"),
            ),
        });
    };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    if line.ends_with('\r') {
        return Err((
            format!(
                "`{shown}` has the line ends of Windows, and the kernel takes them for a part of its interpreter's name"
            ),
            format!("sed -i 's/\\r$//' {shown}"),
        ));
    }
    let interpreter = line.trim_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or_default();
    if !Path::new(interpreter).is_file() {
        return Err((
            format!("`{shown}` names the interpreter `{interpreter}`, which does not exist"),
            format!("install it, or correct the first line of {shown}"),
        ));
    }
    Ok(())
}

fn no_execution(
    part: &Path,
    metadata: &std::fs::Metadata,
    user: Option<&User>,
) -> (String, String) {
    let part = part.display();
    let who = user.map_or("us".to_string(), |user| format!("the user `{}`", user.name));
    if metadata.is_dir() {
        let help = format!("chmod o+x {part}, or move the program");
        return (format!("{who} cannot get into the directory `{part}`"), help);
    }
    (format!("`{part}` cannot be executed by {who}"), format!("chmod +x {part}"))
}

/// By the permission bits; without a user: whether any user may execute it.
fn may_execute(metadata: &std::fs::Metadata, user: Option<&User>) -> bool {
    let mode = metadata.mode();
    let Some(user) = user.filter(|user| !user.uid.is_root()) else {
        return mode & 0o111 != 0;
    };
    if metadata.uid() == user.uid.as_raw() {
        return mode & 0o100 != 0;
    }
    if groups(user).contains(&Gid::from_raw(metadata.gid())) {
        return mode & 0o010 != 0;
    }
    mode & 0o001 != 0
}

fn groups(user: &User) -> Vec<Gid> {
    std::ffi::CString::new(user.name.as_str())
        .ok()
        .and_then(|name| nix::unistd::getgrouplist(&name, user.gid).ok())
        .unwrap_or_else(|| vec![user.gid])
}
