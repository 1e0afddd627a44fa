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
/// `/proc/self/smaps` cannot be read, or madvise(2) fails: EINVAL before Linux 5.18, which does not
/// know `MADV_DONTNEED_LOCKED`.
pub(crate) fn release_code_pages() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    for (start, length) in unmodified(&maps) {
        // SAFETY: the mapping is of a file and none of its pages was written, so that all of it will
        // be read from there again when it is next used, the code of this very call included.
        if unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED_LOCKED) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The mappings of code, and of the constants at the beginning of a file, that are as in the file: start
/// and length. `smaps` has of each mapping a line with address range, permissions, offset, device,
/// inode and path, then one line for each figure (proc_pid_smaps(5)), of which `VmFlags` is the last.
///
/// The dynamic linker may have written relocations to a segment before it made it read-only, whatever
/// its offset. A page that was written is anonymous or in swap.
fn unmodified(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        match first {
            "Anonymous:" | "Swap:" if rest.trim() != "0 kB" => mapping = None,
            "VmFlags:" => found.extend(mapping.take()),
            figure if figure.ends_with(':') => {}
            bounds => {
                let as_in_file = rest.starts_with("r-xp ") || rest.starts_with("r--p 00000000 ");
                let number = |digits| usize::from_str_radix(digits, 16).ok();
                let bounds = bounds.split_once('-').filter(|_| as_in_file && rest.contains(" /"));
                mapping = bounds
                    .and_then(|(start, end)| number(start).zip(number(end)))
                    .map(|(start, end)| (start, end.saturating_sub(start)));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::fd::AsRawFd as _;

    use super::*;

    const PAGE: usize = 4096;

    /// A private mapping of a file of two pages, both read, the second one written if `writes`, and
    /// made read-only: as a library with relocations in its first segment.
    fn mapping(writes: bool) -> *mut u8 {
        let path = std::env::temp_dir().join(format!("vipd-{}-{writes}", std::process::id()));
        fs::write(&path, vec![b'a'; 2 * PAGE]).unwrap();
        let file = fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let (protection, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
        // SAFETY: a new mapping of a file of this length, which nobody else has or truncates.
        unsafe {
            let start = libc::mmap(
                std::ptr::null_mut(),
                2 * PAGE,
                protection,
                private,
                file.as_raw_fd(),
                0,
            );
            assert_ne!(start, libc::MAP_FAILED);
            let start = start.cast::<u8>();
            assert_eq!((start.read_volatile(), start.add(PAGE).read_volatile()), (b'a', b'a'));
            if writes {
                start.add(PAGE).write_volatile(b'b');
            }
            assert_eq!(libc::mprotect(start.cast(), 2 * PAGE, libc::PROT_READ), 0);
            start
        }
    }

    #[test]
    fn a_mapping_is_released_unless_one_of_its_pages_was_written() {
        let (written, unwritten) = (mapping(true), mapping(false));
        let known = |start: *mut u8| {
            let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
            unmodified(&smaps).contains(&(start as usize, 2 * PAGE))
        };
        assert_eq!((known(written), known(unwritten)), (false, true));
        match release_code_pages() {
            Ok(()) => {}
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "Linux 5.18"),
        }
        // SAFETY: the mappings stay until the process ends.
        let read = unsafe { [written.read_volatile(), written.add(PAGE).read_volatile()] };
        assert_eq!(read, [b'a', b'b']);
    }

    #[test]
    fn what_was_swapped_out_was_written_too() {
        let of = |anonymous: &str, swap: &str| {
            let text = format!(
                "1000-3000 r--p 00000000 fe:00 12 /lib/x.so\nRss: 8 kB\nAnonymous: {anonymous}\n\
                 Swap: {swap}\nVmFlags: rd mr mw me\n4000-5000 rw-p 00000000 00:00 0 \nRss: 4 kB\n\
                 Anonymous: 4 kB\nSwap: 0 kB\nVmFlags: rd wr\n"
            );
            unmodified(&text)
        };
        assert_eq!(of("       0 kB", "       0 kB"), [(0x1000, 0x2000)]);
        assert_eq!(of("       4 kB", "       0 kB"), []);
        assert_eq!(of("       0 kB", "       4 kB"), []);
    }
}
