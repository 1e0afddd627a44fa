//! How much memory this process keeps: what was freed, and code that is not needed again.

use std::ffi::c_void;
use std::io;

/// From now on an allocation of 64 KiB or more is a mapping of its own, and goes back to the kernel
/// when it is freed. Otherwise the first long one, as for the configuration's text, would raise that
/// limit to its own length, and what comes later would stay in memory that was used before.
pub fn map_large_allocations() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call sets a number in the allocator, under its own lock.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10) };
}

/// Gives the kernel back what was freed, but for what a takeover may need soon: asking for that again
/// would make it late.
pub fn give_back_freed() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call changes only what nobody uses, under the allocator's own locks.
    let _ = unsafe { libc::malloc_trim(64 << 10) };
}

/// Takes the code and the constants that were used until now out of the memory of this process, but
/// for what is needed again: what only a start needs is then neither counted as ours nor locked. The
/// kernel still has it, as it has the file.
///
/// Memory that is locked when it is used is locked again when it is.
///
/// # Errors
/// `/proc` cannot be read.
pub fn forget_code() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    // Bounds, access, offset, device, inode, file (proc_pid_maps(5)). The beginning of a file is
    // never changed by the dynamic linker; further on it writes, and forbids itself to.
    let as_in_file = |line: &&str| {
        (line.contains(" r-xp ") || line.contains(" r--p 00000000 ")) && line.contains(" /")
    };
    for line in maps.lines().filter(as_in_file) {
        let bounds = line.split(' ').next().and_then(|bounds| bounds.split_once('-'));
        let number = |digits| usize::from_str_radix(digits, 16).ok();
        if let Some((start, end)) = bounds.and_then(|(a, b)| number(a).zip(number(b))) {
            let (start, length) = (start as *mut c_void, end.saturating_sub(start));
            // SAFETY: the mapping is of a file and never was written, so that all of it will be
            // read from there again when it is next used, the code of this very call included.
            if unsafe { libc::madvise(start, length, libc::MADV_DONTNEED_LOCKED) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}
