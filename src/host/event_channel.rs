//! A channel from other threads to the advert loop. A file descriptor signals messages, so that the
//! loop can wait for it together with everything else.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// The receiving end, which the loop owns. Readable when a sender has [woken](Sender::wake) it.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    messages: mpsc::Receiver<T>,
    wakeup: Arc<EventFd>,
}

/// A sending end; clones send into the same channel.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    messages: mpsc::Sender<T>,
    wakeup: Arc<EventFd>,
}

/// Creates a channel.
///
/// # Errors
/// As eventfd(2).
pub(crate) fn channel<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = mpsc::channel();
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let wakeup = Arc::new(EventFd::from_flags(flags)?);
    let sender = Sender { messages: sender, wakeup: Arc::clone(&wakeup) };
    Ok((sender, Receiver { messages: receiver, wakeup }))
}

impl<T> Receiver<T> {
    /// Takes the messages that have arrived, and makes the file descriptor unreadable again. Never
    /// blocks.
    pub(crate) fn recv(&mut self) -> impl Iterator<Item = T> + '_ {
        // Fails only if the counter is 0, and then there is nothing to reset.
        let _ = self.wakeup.read();
        self.messages.try_iter()
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wakeup.as_fd()
    }
}

impl<T> Sender<T> {
    /// Sends a message and wakes the receiver. Never blocks; the message is lost if there is no
    /// receiver any more.
    pub(crate) fn send(&self, message: T) {
        self.send_quiet(message);
        self.wake();
    }

    /// Sends a message without waking the receiver, which [`wake`](Self::wake) must do later.
    pub(crate) fn send_quiet(&self, message: T) {
        let _ = self.messages.send(message);
    }

    /// Wakes the receiver.
    pub(crate) fn wake(&self) {
        // Fails only if the counter is full, and then the descriptor is readable anyway.
        let _ = self.wakeup.write(1);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { messages: self.messages.clone(), wakeup: Arc::clone(&self.wakeup) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn readable(receiver: &Receiver<u8>) -> bool {
        let mut fds = [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn messages_of_all_threads_arrive_and_wake_once() {
        let (sender, mut receiver) = channel().unwrap();
        assert!(!readable(&receiver) && receiver.recv().next().is_none());
        let threads: Vec<_> = (0..4_u8)
            .map(|n| (n, sender.clone()))
            .map(|(n, sender)| std::thread::spawn(move || sender.send(n)))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(readable(&receiver));
        let mut messages: Vec<u8> = receiver.recv().collect();
        messages.sort_unstable();
        assert_eq!((messages, readable(&receiver)), (vec![0, 1, 2, 3], false));
    }

    #[test]
    fn a_quiet_message_waits_for_the_next_wakeup() {
        let (sender, mut receiver) = channel().unwrap();
        sender.send_quiet(1);
        assert!(!readable(&receiver));
        sender.send(2);
        assert!(readable(&receiver));
        assert_eq!(receiver.recv().collect::<Vec<_>>(), [1, 2]);
        drop(receiver);
        sender.send(3);
    }
}
