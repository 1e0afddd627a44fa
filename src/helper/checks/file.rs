//! `file`, `file_present`, `file_absent`: a number in a file, or whether a file exists.

use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::blocking::Blocking;
use super::tcp::describe;
use crate::helper::check_run::CheckResult;

/// Bytes read at most; valid numbers are shorter.
const MAX_LENGTH: u64 = 64;
/// The largest possible difference of two priorities.
const MAX_NUMBER: i16 = 254;

pub(super) struct FileCheck {
    path: PathBuf,
    wanted: FileCondition,
    inspection: Blocking<FileResult>,
}

type FileResult = Result<(CheckResult, String), String>;

#[derive(Clone, Copy)]
enum FileCondition {
    Number,
    Presence,
    Absence,
}

impl FileCheck {
    pub(super) fn number(path: PathBuf) -> Self {
        FileCheck { path, wanted: FileCondition::Number, inspection: Blocking::default() }
    }

    pub(super) fn present(path: PathBuf) -> Self {
        FileCheck { path, wanted: FileCondition::Presence, inspection: Blocking::default() }
    }

    pub(super) fn absent(path: PathBuf) -> Self {
        FileCheck { path, wanted: FileCondition::Absence, inspection: Blocking::default() }
    }

    pub(super) async fn run(&mut self) -> FileResult {
        let (path, wanted) = (self.path.clone(), self.wanted);
        self.inspection.run(move || inspect(&path, wanted)).await?
    }
}

fn inspect(path: &Path, wanted: FileCondition) -> FileResult {
    let shown = path.display();
    let missing = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    };
    let complain = |error: &io::Error| format!("{shown}: {}", describe(error));
    let there = match path.metadata() {
        Ok(_) => true,
        Err(error) if missing(&error) => false,
        Err(error) => return Err(complain(&error)),
    };
    match (wanted, there) {
        (FileCondition::Number, _) => match read(path) {
            Ok(text) => {
                let number =
                    parse(&text).ok_or_else(|| format!("{shown} holds no whole number"))?;
                Ok((CheckResult::Number(number), format!("{shown} says {number}")))
            }
            Err(error) if missing(&error) => {
                Ok((CheckResult::Number(0), format!("{shown} is not there: 0")))
            }
            Err(error) => Err(complain(&error)),
        },
        (FileCondition::Presence, true) => Ok((CheckResult::Passed, format!("{shown} is there"))),
        (FileCondition::Absence, false) => {
            Ok((CheckResult::Passed, format!("{shown} is not there")))
        }
        (FileCondition::Presence, false) => Err(format!("{shown} is not there")),
        (FileCondition::Absence, true) => Err(format!("{shown} is there")),
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Opening a named pipe must not wait for a writer.
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut text = Vec::new();
    file.take(MAX_LENGTH).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Parses a whole number, ignoring white space around it, and clamps it.
pub(crate) fn parse(text: &str) -> Option<i16> {
    let number: i64 = text.trim().parse().ok()?;
    i16::try_from(number.clamp(-i64::from(MAX_NUMBER), i64::from(MAX_NUMBER))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_whole_one_and_never_beyond_a_priority() {
        for (text, number) in
            [(" 7\n", 7), ("-20", -20), ("+5\r\n", 5), ("100000", 254), ("-9999999999", -254)]
        {
            assert_eq!(parse(text), Some(number), "{text:?}");
        }
        for text in ["", "seven", "1 2", "1.5", "99999999999999999999"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
