//! Letters to the advert loop from other threads: it hears of them by a file descriptor, as of
//! everything else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Where letters of all senders arrive.
#[derive(Debug)]
pub struct Letterbox<T> {
    letters: Receiver<T>,
    bell: Arc<EventFd>,
}

/// The senders' end.
#[derive(Debug)]
pub struct Slot<T> {
    letters: Sender<T>,
    bell: Arc<EventFd>,
}

impl<T> Letterbox<T> {
    /// An empty one, and the first sender's end.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn new() -> io::Result<(Self, Slot<T>)> {
        let (sender, receiver) = mpsc::channel();
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = Arc::new(EventFd::from_flags(flags)?);
        let slot = Slot { letters: sender, bell: Arc::clone(&bell) };
        Ok((Letterbox { letters: receiver, bell }, slot))
    }

    /// What has arrived; also makes the file descriptor unreadable again.
    pub fn letters(&mut self) -> impl Iterator<Item = T> + '_ {
        // It counts, and has nothing to say when it is at zero.
        let _ = self.bell.read();
        self.letters.try_iter()
    }
}

impl<T> AsFd for Letterbox<T> {
    /// Readable when a sender has [rung](Slot::ring).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl<T> Slot<T> {
    /// Sends a letter. Never blocks; it is lost if nobody has the letterbox any more.
    pub fn send(&self, letter: T) {
        self.put(letter);
        self.ring();
    }

    /// Sends a letter that may wait until somebody [rings](Slot::ring).
    pub fn put(&self, letter: T) {
        let _ = self.letters.send(letter);
    }

    /// Somebody is to look at what was sent.
    pub fn ring(&self) {
        // A counter that cannot count further is readable anyway.
        let _ = self.bell.write(1);
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Slot { letters: self.letters.clone(), bell: Arc::clone(&self.bell) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn readable(letterbox: &Letterbox<u8>) -> bool {
        let mut fds = [PollFd::new(letterbox.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn letters_of_all_threads_arrive_and_ring_once() {
        let (mut letterbox, slot) = Letterbox::new().unwrap();
        assert!(!readable(&letterbox) && letterbox.letters().next().is_none());
        let threads: Vec<_> = (0..4_u8)
            .map(|n| (n, slot.clone()))
            .map(|(n, slot)| std::thread::spawn(move || slot.send(n)))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(readable(&letterbox));
        let mut letters: Vec<u8> = letterbox.letters().collect();
        letters.sort_unstable();
        assert_eq!((letters, readable(&letterbox)), (vec![0, 1, 2, 3], false));
    }

    #[test]
    fn a_letter_without_a_ring_waits_for_the_next_one() {
        let (mut letterbox, slot) = Letterbox::new().unwrap();
        slot.put(1);
        assert!(!readable(&letterbox));
        slot.send(2);
        assert!(readable(&letterbox));
        assert_eq!(letterbox.letters().collect::<Vec<_>>(), [1, 2]);
        drop(letterbox);
        slot.send(3);
    }
}
