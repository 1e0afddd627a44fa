//! Whether this host is drained, kept in the state directory: it survives a reboot. Where that directory
//! cannot be written, it is kept in the runtime directory, until the next reboot.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::warn;

use crate::host::files::Directory;
use crate::host::record;
use crate::vrrp::Drain;

/// The file's name in both directories.
const FILE: &str = "drained";
/// How the file begins if the host is drained by force.
const FORCE: &str = "drained --force";
/// How the file in the runtime directory begins if that in the state directory does not count.
const UNDRAINED: &str = "undrained";

/// What is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) drain: Option<Drain>,
    /// The state directory could not be written.
    pub(super) until_reboot: bool,
}

/// The files.
#[derive(Clone, Debug)]
pub(super) struct DrainedFiles {
    state_dir: PathBuf,
    runtime_dir: PathBuf,
}

impl DrainedFiles {
    pub(super) fn new(state_dir: &Path, runtime_dir: &Path) -> Self {
        DrainedFiles { state_dir: state_dir.to_owned(), runtime_dir: runtime_dir.to_owned() }
    }

    /// What an earlier daemon stored.
    ///
    /// # Errors
    /// A file that may exist cannot be read.
    pub(super) fn read(&self) -> io::Result<Stored> {
        let this_boot = boot()?;
        if let Some(text) = read(&self.runtime_dir)?
            && text.lines().nth(1) == Some(&this_boot)
        {
            let drain = (!text.starts_with(UNDRAINED)).then(|| drain_of(&text));
            return Ok(Stored { drain, until_reboot: true });
        }
        let drain = read(&self.state_dir)?.map(|text| drain_of(&text));
        Ok(Stored { drain, until_reboot: false })
    }

    /// Stores it atomically, and if possible durably: on disk when it returns.
    ///
    /// # Errors
    /// Neither directory can be written.
    pub(super) fn store(&self, drain: Option<Drain>) -> io::Result<Stored> {
        let since = humantime::format_rfc3339_seconds(SystemTime::now());
        let word = match drain {
            Some(Drain::LastResort) => "drained",
            Some(Drain::Force) => FORCE,
            None => UNDRAINED,
        };
        let text = format!("{word} since {since}; `vipd undrain` ends it\n");
        let on_disk = match drain {
            Some(_) => write(&self.state_dir, &text),
            None => remove(&self.state_dir),
        };
        match on_disk {
            Ok(()) => {
                remove(&self.runtime_dir)?;
                Ok(Stored { drain, until_reboot: false })
            }
            Err(error) => {
                write(&self.runtime_dir, &format!("{text}{}\n", boot()?))?;
                let path = self.state();
                warn!(path = %path.display(), %error, "cannot be stored, so it lasts until the next reboot");
                Ok(Stored { drain, until_reboot: true })
            }
        }
    }

    /// The file in the state directory.
    pub(super) fn state(&self) -> PathBuf {
        self.state_dir.join(FILE)
    }
}

/// What a drained host does, as part of a sentence.
pub(super) fn meaning(drain: Drain) -> &'static str {
    match drain {
        Drain::LastResort => "it serves only where no other host is fit",
        Drain::Force => "it does not serve, even where no other host does",
    }
}

fn drain_of(text: &str) -> Drain {
    if text.starts_with(FORCE) { Drain::Force } else { Drain::LastResort }
}

fn boot() -> io::Result<String> {
    Ok(format!("boot {:032x}", u128::from_be_bytes(record::boot_id()?)))
}

fn read(directory: &Path) -> io::Result<Option<String>> {
    match Directory::existing(directory)? {
        Some(directory) => directory.read(FILE),
        None => Ok(None),
    }
}

fn write(directory: &Path, text: &str) -> io::Result<()> {
    Directory::create(directory)?.replace(FILE, text)
}

fn remove(directory: &Path) -> io::Result<()> {
    match Directory::existing(directory)? {
        Some(directory) => directory.remove(FILE),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    const DRAINS: [Option<Drain>; 2] = [Some(Drain::LastResort), Some(Drain::Force)];

    fn stored(drain: Option<Drain>, until_reboot: bool) -> Stored {
        Stored { drain, until_reboot }
    }

    #[test]
    fn drained_is_on_the_disk_until_undrained() {
        let dir = tempfile::tempdir().unwrap();
        let files = DrainedFiles::new(&dir.path().join("state"), dir.path());
        assert_eq!(files.read().unwrap(), Stored::default());
        for drain in DRAINS {
            for _ in 0..2 {
                assert_eq!(files.store(drain).unwrap(), stored(drain, false));
                assert_eq!(files.read().unwrap(), stored(drain, false));
                assert_eq!(fs::read_dir(&files.state_dir).unwrap().count(), 1);
            }
        }
        for _ in 0..2 {
            assert_eq!(files.store(None).unwrap(), Stored::default());
            assert_eq!(files.read().unwrap(), Stored::default());
        }
        fs::write(files.state(), "drained since 2026-01-01T00:00:00Z").unwrap();
        assert_eq!(files.read().unwrap().drain, Some(Drain::LastResort), "of an earlier version");
    }

    /// A file where the state directory should be: not even root can write there.
    #[test]
    fn without_a_state_directory_it_lasts_until_the_next_reboot() {
        let dir = tempfile::tempdir().unwrap();
        let (state, runtime) = (dir.path().join("state"), dir.path().join("run"));
        let files = DrainedFiles::new(&state, &runtime);
        files.store(Some(Drain::LastResort)).unwrap();
        let aside = dir.path().join("aside");
        fs::rename(&state, &aside).unwrap();
        fs::write(&state, "in the way").unwrap();
        for drain in [Some(Drain::Force), Some(Drain::LastResort), None] {
            assert_eq!(files.store(drain).unwrap(), stored(drain, true));
            assert_eq!(files.read().unwrap(), stored(drain, true), "it counts before the other");
        }
        let runtime_file = fs::read_to_string(runtime.join(FILE)).unwrap();
        let other_boot = runtime_file.replace("boot ", "boot 0");
        fs::remove_file(&state).unwrap();
        fs::rename(&aside, &state).unwrap();
        assert_eq!(files.read().unwrap(), stored(None, true));
        fs::write(runtime.join(FILE), other_boot).unwrap();
        assert_eq!(files.read().unwrap(), stored(Some(Drain::LastResort), false), "after a reboot");
        files.store(Some(Drain::Force)).unwrap();
        assert!(!runtime.join(FILE).exists());
    }

    #[test]
    fn what_cannot_be_stored_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(DrainedFiles::new(&file, &file).store(Some(Drain::LastResort)).is_err());
    }
}
