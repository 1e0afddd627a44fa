//! Whether this host is drained, kept in the state directory: it survives a reboot.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file's name in the state directory; it exists while the host is drained.
const FILE: &str = "drained";

/// Whether this host was drained when its daemon last ran.
///
/// # Errors
/// The file's existence cannot be determined.
pub(super) fn was_drained(state_dir: &Path) -> io::Result<bool> {
    path(state_dir).try_exists()
}

/// Stores it durably and atomically: on disk when it returns.
pub(super) fn store(state_dir: &Path, drained: bool) -> io::Result<()> {
    let path = path(state_dir);
    if drained {
        fs::create_dir_all(state_dir)?;
        let new = state_dir.join(format!("{FILE}.new"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        let since = humantime::format_rfc3339_seconds(SystemTime::now());
        writeln!(file, "drained since {since}; `vipd undrain` ends it")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        // Refuse what may not survive a crash: it must not take effect by chance.
        sync(state_dir).inspect_err(|_| drop(fs::remove_file(&path)))
    } else {
        match fs::remove_file(&path) {
            Ok(()) => sync(state_dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn drained_is_on_the_disk_until_undrained() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert!(!was_drained(&state).unwrap());
        store(&state, true).unwrap();
        store(&state, true).unwrap();
        assert!(was_drained(&state).unwrap());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        store(&state, false).unwrap();
        store(&state, false).unwrap();
        assert!(!was_drained(&state).unwrap());
    }

    #[test]
    fn what_cannot_be_stored_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(store(&file, true).is_err());
    }
}
