//! Returning memory to the kernel: freed heap memory, and code that is not needed again.

use std::ffi::c_void;
use std::io;

/// Makes every allocation of 64 KiB or more a mapping of its own, which returns to the kernel when
/// it is freed. By default glibc raises this threshold to the largest block freed so far
/// (mallopt(3)), so that a large configuration file would keep later blocks in the heap for good.
pub(crate) fn map_large_allocations() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call sets a number in the allocator, under its own lock.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10) };
}

/// Returns freed heap memory to the kernel (malloc_trim(3)), except 64 KiB: a takeover may need
/// that much, and page faults would delay it.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call changes only unused memory, under the allocator's own locks.
    let _ = unsafe { libc::malloc_trim(64 << 10) };
}

/// Unmaps the pages of code and constants that were used so far. What is needed again is mapped
/// again from the page cache on first use, and locked again if the process locks pages on fault.
/// What only the start needed no longer counts as resident or locked memory of this process.
///
/// # Errors
/// `/proc/self/maps` cannot be read, or madvise(2) fails: EINVAL before Linux 5.18, which does not
/// know `MADV_DONTNEED_LOCKED`.
pub(crate) fn release_code_pages() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    // Address range, permissions, offset, device, inode, path (proc_pid_maps(5)). Read-only
    // segments at an offset other than 0 may hold relocations that the dynamic linker wrote before
    // it made them read-only (RELRO), so only the first one and the code are unmodified.
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
