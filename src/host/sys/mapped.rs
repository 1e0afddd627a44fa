//! Files mapped into memory (mmap(2)).

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// The beginning of a file, mapped shared and writable. A stored word is in the file at once, even
/// if the process is killed right after. The file must not be truncated while it is mapped: storing
/// beyond its end raises SIGBUS.
#[derive(Debug)]
pub(crate) struct MappedFile {
    start: NonNull<c_void>,
    words: usize,
}

// SAFETY: it is the only owner of its mapping, which belongs to the process and not to a thread.
unsafe impl Send for MappedFile {}

impl MappedFile {
    /// Maps the first `length` bytes.
    ///
    /// # Errors
    /// EINVAL for a length of 0; the file is shorter; otherwise as mmap(2).
    pub(crate) fn of(file: &File, length: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        if file.metadata()?.len() < length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: at an address that the kernel chooses a mapping replaces no other.
        let start = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(MappedFile { start, words: length / mem::size_of::<u64>() })
    }

    /// Stores a word at an index counted in words of 8 bytes. Does nothing beyond the end.
    pub(crate) fn store(&self, place: usize, word: u64) {
        if place < self.words {
            // SAFETY: the word lies in the mapping, which begins at a page and lives as long as
            // `self`; other processes may read it at any time, so it is written as a whole.
            let word_there =
                unsafe { AtomicU64::from_ptr(self.start.as_ptr().cast::<u64>().add(place)) };
            word_there.store(word, Ordering::Relaxed);
        }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: nothing borrows from the mapping beyond a call.
        let _ = unsafe { munmap(self.start, self.words * mem::size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::mem::ManuallyDrop;

    use super::*;

    #[test]
    fn words_are_stored_at_their_places_and_none_beyond_the_end() {
        // Not of a file, which Miri cannot map.
        let mut memory = [0; 4];
        let start = NonNull::from(&mut memory).cast();
        let mapped = ManuallyDrop::new(MappedFile { start, words: 3 });
        for (place, word) in [(0, 7), (2, 9), (3, 1), (usize::MAX, 1)] {
            mapped.store(place, word);
        }
        assert_eq!(memory, [7_u64, 0, 9, 0]);
    }

    #[cfg_attr(miri, ignore = "Miri cannot map files")]
    #[test]
    fn what_a_file_does_not_have_is_not_mapped() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let refused = MappedFile::of(&file, 2 * 4096).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof);
        MappedFile::of(&file, 4096).unwrap().store(511, u64::MAX);
        let mut end = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut end, 4088).unwrap();
        assert_eq!(end, [0xff; 8]);
    }
}
