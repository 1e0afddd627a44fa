//! Sends and receives packets in place of the kernel under Miri, which knows neither system call. What
//! the kernel may read is read and what it may write is written, so that a wrong pointer or length is
//! noticed, and a byte that was never written.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::slice;

thread_local! {
    static SENT: RefCell<VecDeque<Packet>> = const { RefCell::new(VecDeque::new()) };
}

struct Packet {
    name: Vec<u8>,
    control: Vec<u8>,
    payload: Vec<u8>,
}

/// # Safety
/// As sendmmsg(2).
pub(super) unsafe fn sendmmsg(
    _fd: libc::c_int,
    headers: *mut libc::mmsghdr,
    count: libc::c_uint,
    _flags: libc::c_int,
) -> libc::c_int {
    for n in 0..count as usize {
        // SAFETY: the caller promises so many headers, whose pointers and lengths are right.
        let packet = unsafe {
            let header = &mut *headers.add(n);
            let part = &*header.msg_hdr.msg_iov;
            header.msg_len = part.iov_len as u32;
            Packet {
                name: read(header.msg_hdr.msg_name.cast(), header.msg_hdr.msg_namelen as usize),
                control: read(header.msg_hdr.msg_control.cast(), header.msg_hdr.msg_controllen),
                payload: read(part.iov_base.cast(), part.iov_len),
            }
        };
        SENT.with_borrow_mut(|sent| sent.push_back(packet));
    }
    count as libc::c_int
}

/// # Safety
/// As recvmmsg(2).
pub(super) unsafe fn recvmmsg(
    _fd: libc::c_int,
    headers: *mut libc::mmsghdr,
    count: libc::c_uint,
    _flags: libc::c_int,
    _limit: *mut libc::timespec,
) -> libc::c_int {
    let mut received = 0;
    while received < count as usize
        && let Some(packet) = SENT.with_borrow_mut(VecDeque::pop_front)
    {
        // SAFETY: as above.
        unsafe {
            let header = &mut *headers.add(received);
            let (message, part) = (&mut header.msg_hdr, &*header.msg_hdr.msg_iov);
            header.msg_len = write(&packet.payload, part.iov_base.cast(), part.iov_len) as u32;
            let (name, room) = (message.msg_name.cast(), message.msg_namelen as usize);
            message.msg_namelen = write(&packet.name, name, room) as u32;
            let (control, room) = (message.msg_control.cast(), message.msg_controllen);
            message.msg_controllen = write(&packet.control, control, room);
        }
        received += 1;
    }
    if received == 0 {
        // SAFETY: it points to the thread's own variable.
        unsafe { *libc::__errno_location() = libc::EAGAIN };
        return -1;
    }
    received as libc::c_int
}

/// # Safety
/// There are so many bytes, unless it is null.
unsafe fn read(from: *const u8, length: usize) -> Vec<u8> {
    if from.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(from, length) }.to_vec()
}

/// Fills the room, as the kernel may, and returns how much of it counts.
///
/// # Safety
/// There is so much room.
unsafe fn write(bytes: &[u8], to: *mut u8, room: usize) -> usize {
    let length = bytes.len().min(room);
    // SAFETY: the caller's promise.
    let place = unsafe { slice::from_raw_parts_mut(to.cast::<mem::MaybeUninit<u8>>(), room) };
    for (n, byte) in place.iter_mut().enumerate() {
        byte.write(bytes.get(n).copied().unwrap_or(0xff));
    }
    length
}
