//! Who could change a file: by the owners and modes of the file and of everything that leads to it.
//!
//! What root executes, reads or writes must not be in the hands of other users. A path leads through
//! directories and symbolic links, and whoever can replace one of them decides what the path means.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Uid;

/// As many symbolic links as the kernel follows.
const MAX_LINKS: usize = 40;
const STICKY: u32 = 0o1000;

/// The users and groups that may own and write what is trusted.
#[derive(Clone, Debug)]
pub struct Trust {
    owners: Vec<u32>,
    groups: Vec<u32>,
}

/// Something that a path leads through or to.
#[derive(Debug)]
pub struct Step {
    /// Its path without symbolic links, unless it is one itself.
    pub path: PathBuf,
    /// Of the link itself, if it is one.
    pub metadata: Metadata,
    /// It is in a directory in which everybody may make files, and only owners may remove theirs.
    in_sticky: bool,
}

/// Why something is not trusted.
#[derive(Debug)]
pub struct Untrusted {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Owner(u32),
    Everybody,
    Group(u32),
    Unknown(io::Error),
}

impl Trust {
    /// Root and our own user.
    pub fn of_this_process() -> Self {
        let mut trust = Trust::of_root();
        trust.owners.push(Uid::effective().as_raw());
        trust
    }

    /// What a process of root trusts. In a user namespace that does not map all users, root of the host
    /// appears as the overflow user.
    pub fn of_root() -> Self {
        let mut trust = Trust { owners: vec![0], groups: vec![0] };
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let knows_all = map.split_whitespace().eq(["0", "0", "4294967295"]);
        if !map.is_empty() && !knows_all {
            let number = |path| fs::read_to_string(path).ok()?.trim().parse::<u32>().ok();
            trust.owners.extend(number("/proc/sys/kernel/overflowuid"));
            trust.groups.extend(number("/proc/sys/kernel/overflowgid"));
        }
        trust
    }

    /// Follows a path to the end and checks every step. Returns the last one, which is no symbolic
    /// link.
    ///
    /// # Errors
    /// The first step that others could change, or that cannot be looked at.
    pub fn check(&self, path: &Path) -> Result<Step, Untrusted> {
        let mut last = None;
        for step in steps(path)? {
            self.check_step(&step)?;
            last = Some(step);
        }
        last.ok_or_else(|| Untrusted::unknown(path, Errno::ENOENT.into()))
    }

    /// Checks that others cannot replace this, nor change it unless it is a directory with the sticky
    /// bit, in which they cannot replace what is not theirs.
    pub fn check_step(&self, step: &Step) -> Result<(), Untrusted> {
        let Step { path, metadata, in_sticky } = step;
        if metadata.is_symlink() {
            // It cannot be changed, and only where its owner can remove it can he replace it.
            return if *in_sticky { self.check_owner(path, metadata) } else { Ok(()) };
        }
        self.check_owner(path, metadata)?;
        if metadata.is_dir() && metadata.mode() & STICKY != 0 {
            return Ok(());
        }
        self.check_writers(path, metadata)
    }

    /// Checks that it belongs to nobody else.
    pub fn check_owner(&self, path: &Path, metadata: &Metadata) -> Result<(), Untrusted> {
        if self.owners.contains(&metadata.uid()) {
            return Ok(());
        }
        Err(Untrusted { path: path.to_owned(), why: Why::Owner(metadata.uid()) })
    }

    /// Checks that nobody else may write it.
    pub fn check_writers(&self, path: &Path, metadata: &Metadata) -> Result<(), Untrusted> {
        let (mode, group) = (metadata.mode(), metadata.gid());
        let why = if mode & 0o002 != 0 {
            Why::Everybody
        } else if mode & 0o020 != 0 && !self.groups.contains(&group) {
            Why::Group(group)
        } else {
            return Ok(());
        };
        Err(Untrusted { path: path.to_owned(), why })
    }
}

impl Untrusted {
    fn unknown(path: &Path, error: io::Error) -> Self {
        Untrusted { path: path.to_owned(), why: Why::Unknown(error) }
    }

    /// What is wrong; `power` is what others could do, such as "change what we run".
    pub fn message(&self, power: &str) -> String {
        let path = self.path.display();
        match &self.why {
            Why::Owner(user) => format!("`{path}` belongs to user {user}, who could {power}"),
            Why::Everybody => format!("everybody may write `{path}`, and so {power}"),
            Why::Group(group) => format!("the group {group} may write `{path}`, and so {power}"),
            Why::Unknown(error) => format!("cannot look at `{path}`: {error}"),
        }
    }

    /// The command that mends it.
    pub fn help(&self) -> String {
        let path = self.path.display();
        match &self.why {
            Why::Owner(_) => format!("chown root {path}"),
            Why::Everybody => format!("chmod o-w {path}"),
            Why::Group(_) => format!("chmod g-w {path}"),
            Why::Unknown(_) => format!("see: ls -ld {path}"),
        }
    }

    /// The error, if it could not be looked at; else it could, and is not trusted.
    pub fn error(&self) -> Option<&io::Error> {
        match &self.why {
            Why::Unknown(error) => Some(error),
            Why::Owner(_) | Why::Everybody | Why::Group(_) => None,
        }
    }
}

/// Everything that a path leads through, from the root to what it names.
///
/// # Errors
/// A step cannot be looked at.
pub fn steps(path: &Path) -> Result<Vec<Step>, Untrusted> {
    let whole = std::path::absolute(path).map_err(|error| Untrusted::unknown(path, error))?;
    let names = |path: &Path| -> Vec<OsString> {
        let named = path.components().filter(|part| *part != Component::RootDir);
        named.map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut open: VecDeque<OsString> = names(&whole).into();
    let mut real = PathBuf::from("/");
    let mut steps = vec![look_at(&real, false)?];
    let mut links = 0;
    while let Some(name) = open.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let in_sticky = real.metadata().is_ok_and(|directory| directory.mode() & STICKY != 0);
        let step = look_at(&real.join(&name), in_sticky)?;
        if step.metadata.is_symlink() {
            links += 1;
            let target = if links > MAX_LINKS {
                Err(Errno::ELOOP.into())
            } else {
                fs::read_link(&step.path)
            };
            let target = target.map_err(|error| Untrusted::unknown(&step.path, error))?;
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            for name in names(&target).into_iter().rev() {
                open.push_front(name);
            }
        } else {
            real.push(name);
        }
        steps.push(step);
    }
    Ok(steps)
}

fn look_at(path: &Path, in_sticky: bool) -> Result<Step, Untrusted> {
    let metadata = path.symlink_metadata().map_err(|error| Untrusted::unknown(path, error))?;
    Ok(Step { path: path.to_owned(), metadata, in_sticky })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn refusal(path: &Path) -> Option<String> {
        Trust::of_this_process().check(path).err().map(|untrusted| untrusted.message("do it"))
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn every_directory_and_link_on_the_way_counts() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let path = |name: &str| dir.join(name);
        for name in ["good", "open", "sticky"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("good/file"), "").unwrap();
        symlink("../good/file", path("open/link")).unwrap();
        symlink("../open/link", path("good/by-way-of-open")).unwrap();
        symlink(path("good/file"), path("sticky/link")).unwrap();
        symlink("loop", path("loop")).unwrap();
        set_mode(&path("open"), 0o777);
        set_mode(&path("sticky"), 0o1777);
        assert_eq!(
            Trust::of_this_process().check(&path("sticky/link")).unwrap().path,
            path("good/file")
        );
        assert_eq!(refusal(&path("good/../good/file")), None);
        let everybody = format!("everybody may write `{}`, and so do it", path("open").display());
        // The file and the first directory are good: what lies between them decides.
        assert_eq!(refusal(&path("good/by-way-of-open")), Some(everybody.clone()));
        assert_eq!(refusal(&path("open/link")), Some(everybody));
        for missing in ["good/none", "loop", "good/file/below"] {
            let said = refusal(&path(missing)).unwrap();
            assert!(said.starts_with("cannot look at"), "{said}");
        }
    }

    #[test]
    fn other_owners_are_refused_of_links_only_where_they_can_replace_them() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (link, file) = (dir.join("link"), dir.join("file"));
        fs::write(&file, "").unwrap();
        symlink(&file, &link).unwrap();
        let other = Some(nix::unistd::Uid::from_raw(4242));
        let flag = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        let here = nix::fcntl::AT_FDCWD;
        // In a user namespace there may be no other user.
        if nix::unistd::fchownat(here, &link, other, None, flag).is_err() {
            return;
        }
        assert_eq!(refusal(&link), None);
        set_mode(&dir, 0o1755);
        let said = refusal(&link).unwrap();
        assert_eq!(said, format!("`{}` belongs to user 4242, who could do it", link.display()));
        nix::unistd::chown(&file, other, None).unwrap();
        let said = refusal(&file).unwrap();
        assert_eq!(said, format!("`{}` belongs to user 4242, who could do it", file.display()));
    }
}
