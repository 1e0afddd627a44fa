//! The files that vipd keeps: in directories that nobody but root and our own user can change, never
//! through a symbolic link, and for nobody else to read.
//!
//! All of them are opened here. Opening a directory checks it; opening a file in it checks the file.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::trust::{Trust, Untrusted};

/// What other users could do in a directory that they can change.
const POWER: &str = "replace the files of vipd";

/// A directory of ours, which exists.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    trust: Trust,
}

impl Directory {
    /// Opens the directory, and creates it if it is missing.
    ///
    /// # Errors
    /// It cannot be created, or others can change it.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        // Checked before something is created in it.
        let existing = path.ancestors().find(|part| part.symlink_metadata().is_ok());
        if let Some(existing) = existing.filter(|existing| *existing != path) {
            Trust::of_this_process().check(existing).map_err(refused)?;
        }
        // Others may look into it: clients find the control socket there.
        DirBuilder::new().recursive(true).mode(0o755).create(path)?;
        Self::check(path).map_err(refused)
    }

    /// As [`create`](Self::create), for a directory that nobody else may look into.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub(crate) fn private(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            Self::create(parent)?;
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let directory = Self::check(path).map_err(refused)?;
        if fs::metadata(path)?.mode() & 0o077 != 0 {
            fs::set_permissions(path, Permissions::from_mode(0o700))?;
        }
        Ok(directory)
    }

    /// Opens the directory; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be looked at, or others can change it.
    pub(crate) fn existing(path: &Path) -> io::Result<Option<Self>> {
        match Self::check(path) {
            Ok(directory) => Ok(Some(directory)),
            Err(untrusted) if untrusted.error().is_some_and(is_missing) => Ok(None),
            Err(untrusted) => Err(refused(untrusted)),
        }
    }

    /// Why a directory is not used that could be: others can change it.
    pub(crate) fn refusal(path: &Path) -> Option<String> {
        let untrusted = Self::check(path).err().filter(|untrusted| untrusted.error().is_none())?;
        Some(explain(&untrusted))
    }

    fn check(path: &Path) -> Result<Self, Untrusted> {
        let trust = Trust::of_this_process();
        let last = trust.check(path)?;
        // Also with the sticky bit: others could make files before we do.
        trust.check_writers(&last.path, &last.metadata)?;
        Ok(Directory { path: path.to_owned(), trust })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file to read and write it, and creates it if it is missing.
    ///
    /// # Errors
    /// It cannot be opened, or is none of ours.
    pub(crate) fn open(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OpenOptions::new().read(true).write(true).create(true))
    }

    /// Opens a file to append to it, and creates it if it is missing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_to_append(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OpenOptions::new().append(true).create(true))
    }

    /// What a file contains; `None` if there is none.
    ///
    /// # Errors
    /// As [`open`](Self::open), or it cannot be read.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        match self.open_with(name, OpenOptions::new().read(true)) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Writes a file, in place.
    ///
    /// # Errors
    /// As [`open`](Self::open), or it cannot be written.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut file = self.open(name)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())
    }

    /// Writes a file as a whole or not at all. It is on the disk when this returns.
    ///
    /// # Errors
    /// It cannot be written, or it is not certain that it survives a crash.
    pub(crate) fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let new = format!("{name}.new");
        self.unlink(&new)?;
        let written = || -> io::Result<()> {
            let mut file = self.open_with(&new, OpenOptions::new().write(true).create_new(true))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            self.rename(&new, name)
        };
        written().inspect_err(|_| drop(self.unlink(&new)))?;
        // What may not survive a crash must not take effect by chance.
        self.sync().inspect_err(|_| drop(self.unlink(name)))
    }

    /// Gives a file another name, in the place of what had that.
    ///
    /// # Errors
    /// As rename(2).
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    /// Removes a file, if there is one, and waits for the disk.
    ///
    /// # Errors
    /// It is still there, or may be after a crash.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        if self.unlink(name)? { self.sync() } else { Ok(()) }
    }

    /// Removes a file; returns whether there was one.
    ///
    /// # Errors
    /// As unlink(2).
    pub(crate) fn unlink(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.path.join(name)) {
            Ok(()) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// What was put there before the directory was ours is not followed, and neither waited for.
    fn open_with(&self, name: &str, options: &mut OpenOptions) -> io::Result<File> {
        let path = self.path.join(name);
        let refuse = |why: &str| Err(io::Error::other(format!("{} {why}", path.display())));
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = match options.mode(0o600).custom_flags(flags).open(&path) {
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
                return refuse("is a symbolic link: remove it");
            }
            opened => opened?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return refuse("is not a file: remove it");
        }
        if metadata.nlink() > 1 {
            return refuse("has another name, by which it could be changed: remove it");
        }
        self.trust.check_owner(&path, &metadata).map_err(refused)?;
        if metadata.mode() & 0o077 != 0 {
            // Made by an earlier version, or by the operator. Who is not its owner cannot help it.
            let _ = file.set_permissions(Permissions::from_mode(0o600));
        }
        Ok(file)
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn explain(untrusted: &Untrusted) -> String {
    format!("{} ({})", untrusted.message(POWER), untrusted.help())
}

fn refused(untrusted: Untrusted) -> io::Error {
    let kind = untrusted.error().map_or(io::ErrorKind::PermissionDenied, io::Error::kind);
    io::Error::new(kind, explain(&untrusted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn nothing_is_written_through_what_somebody_has_put_there() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let ours = Directory::create(&dir.path().join("a/b")).unwrap();
        symlink(&victim, ours.path().join("link")).unwrap();
        fs::hard_link(&victim, ours.path().join("hard")).unwrap();
        let pipe = ours.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (name, why) in [
            ("link", "is a symbolic link"),
            ("hard", "has another name"),
            ("pipe", "is not a file"),
        ] {
            for outcome in [
                ours.open(name).map(drop),
                ours.open_to_append(name).map(drop),
                ours.read(name).map(drop),
                ours.write(name, "overwritten"),
            ] {
                let said = outcome.unwrap_err().to_string();
                // A pipe that nobody reads cannot even be opened.
                assert!(said.contains(why) || name == "pipe", "{said}");
            }
            // These take its place.
            ours.replace(name, "new").unwrap();
            assert_eq!(ours.read(name).unwrap().unwrap(), "new");
            symlink(&victim, ours.path().join(format!("{name}.new"))).unwrap();
            ours.replace(name, "newer").unwrap();
            assert_eq!(ours.read(name).unwrap().unwrap(), "newer");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn files_are_private_also_those_of_an_earlier_version() {
        let dir = tempfile::tempdir().unwrap();
        let ours = Directory::create(dir.path()).unwrap();
        let file = dir.path().join("file");
        ours.write("file", "long text").unwrap();
        assert_eq!(mode(&file), 0o600);
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        ours.write("file", "text").unwrap();
        assert_eq!((mode(&file), ours.read("file").unwrap().unwrap()), (0o600, "text".to_owned()));
        assert_eq!(ours.read("none").unwrap(), None);
        let private = Directory::private(&dir.path().join("p")).unwrap();
        assert_eq!(mode(private.path()), 0o700);
        fs::set_permissions(private.path(), Permissions::from_mode(0o755)).unwrap();
        Directory::private(private.path()).unwrap();
        assert_eq!(mode(private.path()), 0o700);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused_and_nothing_made_in_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Directory::existing(&dir.path().join("none")).unwrap().is_none());
        for bits in [0o777, 0o1777] {
            fs::set_permissions(dir.path(), Permissions::from_mode(bits)).unwrap();
            let said = Directory::create(dir.path()).unwrap_err().to_string();
            let path = dir.path().display();
            let expected = format!(
                "everybody may write `{path}`, and so replace the files of vipd (chmod o-w {path})"
            );
            assert_eq!(said, expected);
            assert_eq!(Directory::refusal(dir.path()), Some(expected));
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let below = dir.path().join("below");
        assert!(Directory::create(&below).is_err() && Directory::private(&below).is_err());
        assert!(!below.exists());
        assert!(Directory::refusal(&below).is_none());
    }
}
