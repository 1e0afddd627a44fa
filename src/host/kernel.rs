//! The kernel version that is required.

/// The release of the running kernel, if it is older than 5.18. Such a kernel does not store
/// `IFA_PROTO`, so our addresses could not be distinguished from those of the host.
pub(crate) fn too_old() -> Option<String> {
    let system = nix::sys::utsname::uname().ok()?;
    let release = system.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (version < (5, 18)).then_some(release)
}
