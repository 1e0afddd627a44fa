//! What the kernel offers and no crate wraps safely: the one module with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::epoll::EpollEvent;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// How many packets one system call receives at most.
const BATCH: usize = 16;
/// How many it receives at least.
const LITTLE: usize = 2;
/// How many it sends at most.
pub const SEND_BATCH: usize = 64;

/// The longest VRRP message (255 IPv6 addresses), a trailer and the longest IPv4 header fit.
const PAYLOAD: usize = 4352;
/// Destination and hop limit of an IPv6 packet fit.
const CONTROL: usize = 64;
/// The largest address we are sent from: `sockaddr_in6` (28 bytes).
const NAME: usize = 32;
/// One `IP_PKTINFO` or `IPV6_PKTINFO` fits.
const SOURCE: usize = 40;

/// Readiness of a file descriptor in tokio's words. It watches a duplicate of its own, so it says
/// nothing wrong, and nothing unsound, whatever becomes of the original.
#[derive(Debug)]
pub struct Readiness(AsyncFd<OwnedFd>);

impl Readiness {
    /// Watches `fd` from now on; needs a running tokio runtime.
    pub fn of(fd: &impl AsFd, interest: Interest) -> io::Result<Self> {
        let duplicate = fd.as_fd().try_clone_to_owned()?;
        // SAFETY: an OwnedFd is open and always the same descriptor. It is never lent mutably, so
        // nobody can swap or close it before the registration is dropped with it.
        let registered = unsafe { AsyncFd::register_with_interest(duplicate, interest) };
        registered.map(Readiness).map_err(io::Error::from)
    }

    /// Waits until it can be read; the guard forgets the readiness with `clear_ready`.
    pub async fn readable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.readable().await
    }

    /// Waits until it can be written.
    pub async fn writable(&self) -> io::Result<AsyncFdReadyGuard<'_, OwnedFd>> {
        self.0.writable().await
    }
}

/// Waits until a descriptor of the set is ready, but not for longer than `limit`, to the microsecond.
/// Says how many events there are. Also returns when a signal came, but never without having looked:
/// who was stopped and goes on must not take a full queue for silence.
///
/// # Errors
/// When the kernel refuses, and only then.
pub fn wait(
    epoll: BorrowedFd<'_>,
    events: &mut [EpollEvent],
    mut limit: Option<Duration>,
) -> io::Result<usize> {
    loop {
        // What the kernel takes, on every machine: two words of 64 bits.
        let words: Option<[u64; 2]> = limit.map(|l| [l.as_secs(), l.subsec_nanos().into()]);
        let words = words.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (none, zero) = (ptr::null::<c_void>(), 0_usize);
        // SAFETY: an EpollEvent is an `epoll_event` and nothing else, and the kernel writes no more of
        // them than there is room for; `words` is null or outlives the call; no signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                epoll.as_raw_fd(),
                events.as_mut_ptr(),
                i32::try_from(events.len()).unwrap_or(i32::MAX),
                words,
                none,
                zero,
            )
        };
        if let Ok(count) = usize::try_from(count) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        limit = Some(Duration::ZERO);
    }
}

/// Sets a socket option whose value is an `int`.
pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call; the kernel
    // only reads it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The address of Ethernet frames: of this type, through this interface, to this MAC.
pub fn link_address(index: u32, ethertype: u16, mac: [u8; 6]) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is the address type of AF_PACKET and consists of integers: any bytes are
    // a value of it.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = index as i32;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&mac);
    // SAFETY: the storage was filled as an AF_PACKET address of this length just above.
    unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

/// One packet to send.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Where it goes.
    pub to: SockAddr,
    /// Source address and interface index; without it the kernel chooses.
    pub from: Option<(IpAddr, u32)>,
    /// What it says.
    pub payload: &'a [u8],
}

/// Sends these packets (at most [`SEND_BATCH`]) in one call that never blocks. Says how many went out;
/// an error is the first one's.
fn send(fd: BorrowedFd<'_>, packets: &[Outgoing<'_>]) -> io::Result<usize> {
    #[derive(Clone, Copy)]
    #[repr(align(8))]
    struct Control([u8; SOURCE]);

    // Room for many, of which only as much is touched as there are packets: mostly one.
    let mut controls = [const { MaybeUninit::<Control>::uninit() }; SEND_BATCH];
    let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; SEND_BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; SEND_BATCH];
    let mut count = 0;
    for (((packet, header), part), control) in
        packets.iter().zip(&mut headers).zip(&mut parts).zip(&mut controls)
    {
        let part = part.write(libc::iovec {
            iov_base: packet.payload.as_ptr().cast_mut().cast(),
            iov_len: packet.payload.len(),
        });
        // SAFETY: it is a plain C structure of integers and pointers, for which zero is a value.
        let header = &mut header.write(unsafe { mem::zeroed() }).msg_hdr;
        header.msg_name = packet.to.as_ptr().cast_mut().cast();
        header.msg_namelen = packet.to.len();
        header.msg_iov = part;
        header.msg_iovlen = 1;
        if let Some((source, index)) = packet.from {
            let control = control.write(Control([0; SOURCE]));
            header.msg_controllen = write_source(&mut control.0, source, index) as _;
            header.msg_control = control.0.as_mut_ptr().cast();
        }
        count += 1;
    }
    // SAFETY: the first `count` headers were written above and point to buffers of the lengths they
    // state, all of which (`packets`, `parts`, `controls`) outlive the call; the kernel writes only
    // to `headers`.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    if sent >= 0 { Ok(sent as usize) } else { Err(io::Error::last_os_error()) }
}

/// Sends all packets with few calls that never block; `failed` is told which the kernel did not
/// take, by their place in the list, and why.
pub fn send_all<'a>(
    fd: BorrowedFd<'_>,
    packets: impl IntoIterator<Item = Outgoing<'a>>,
    mut failed: impl FnMut(usize, io::Error),
) {
    let mut packets = packets.into_iter();
    let mut place = 0;
    loop {
        let mut room = [const { MaybeUninit::<Outgoing<'a>>::uninit() }; SEND_BATCH];
        let mut count = 0;
        for (room, packet) in room.iter_mut().zip(&mut packets) {
            room.write(packet);
            count += 1;
        }
        // SAFETY: so many have just been written, from the first on.
        let batch = unsafe { std::slice::from_raw_parts(room.as_ptr().cast(), count) };
        let mut rest: &[Outgoing<'a>] = batch;
        while !rest.is_empty() {
            // The kernel stops at the first that fails, and says why when asked again.
            let handled = match send(fd, rest) {
                Ok(sent) => sent.max(1),
                Err(error) => {
                    failed(place, error);
                    1
                }
            };
            place += handled;
            rest = rest.get(handled..).unwrap_or(&[]);
        }
        if count < SEND_BATCH {
            return;
        }
    }
}

/// Writes the control message that chooses source and interface; returns its length.
fn write_source(control: &mut [u8; SOURCE], source: IpAddr, index: u32) -> usize {
    let mut info = [0; 20];
    let (level, kind, info) = match source {
        IpAddr::V4(source) => {
            info[..4].copy_from_slice(&index.to_ne_bytes());
            info[4..8].copy_from_slice(&source.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, &info[..12])
        }
        IpAddr::V6(source) => {
            info[..16].copy_from_slice(&source.octets());
            info[16..].copy_from_slice(&index.to_ne_bytes());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info[..])
        }
    };
    let word = mem::size_of::<usize>();
    let length = word + 8 + info.len();
    control[..word].copy_from_slice(&length.to_ne_bytes());
    control[word..word + 4].copy_from_slice(&level.to_ne_bytes());
    control[word + 4..word + 8].copy_from_slice(&kind.to_ne_bytes());
    control[word + 8..length].copy_from_slice(info);
    length.next_multiple_of(word)
}

/// Where packets are received into: allocated once, used again and again.
#[derive(Debug)]
pub struct Inbox {
    slots: Box<[Slot]>,
    /// Apart and all zero, so that no memory is used for what was never received.
    payloads: Box<[[u8; PAYLOAD]]>,
    /// How many to ask for next: where mostly one comes, room for many costs more than it does.
    room: usize,
}

#[derive(Clone, Debug)]
#[repr(C, align(8))]
struct Slot {
    control: [u8; CONTROL],
    name: [u8; NAME],
    control_length: usize,
    name_length: usize,
    payload_length: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        let empty = Slot {
            control: [0; CONTROL],
            name: [0; NAME],
            control_length: 0,
            name_length: 0,
            payload_length: 0,
        };
        let payloads = vec![[0; PAYLOAD]; BATCH].into();
        Inbox { slots: vec![empty; BATCH].into(), payloads, room: LITTLE }
    }
}

impl Inbox {
    /// Hands over what is waiting, without ever blocking. Returns how many packets that was; `at_once`
    /// of them or more mean that still more may wait.
    ///
    /// # Errors
    /// What the socket says; some packets may have been handed over before.
    pub fn drain(
        &mut self,
        fd: BorrowedFd<'_>,
        at_once: usize,
        mut handle: impl FnMut(Packet<'_>),
    ) -> io::Result<usize> {
        let mut total = 0;
        while total < at_once {
            let (packets, more) = self.receive(fd)?;
            for packet in packets {
                total += 1;
                handle(packet);
            }
            if !more {
                break;
            }
        }
        Ok(total)
    }

    /// Receives what is waiting, at most [`BATCH`] packets, in one call that never blocks; and says
    /// whether more may be waiting.
    fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
    ) -> io::Result<(impl Iterator<Item = Packet<'_>>, bool)> {
        let room = self.room;
        // As in `send`.
        let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        let mut asked = 0;
        let slots = self.slots.iter_mut().zip(self.payloads.iter_mut()).take(room);
        for (((slot, payload), header), part) in slots.zip(&mut headers).zip(&mut parts) {
            let part =
                part.write(libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: PAYLOAD });
            // SAFETY: as in `send`.
            let header = &mut header.write(unsafe { mem::zeroed() }).msg_hdr;
            header.msg_name = slot.name.as_mut_ptr().cast();
            header.msg_namelen = NAME as libc::socklen_t;
            header.msg_control = slot.control.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            header.msg_iov = part;
            header.msg_iovlen = 1;
            asked += 1;
        }
        // SAFETY: the first `asked` headers were written above and point to buffers of the lengths
        // they state; the slots are ours (`&mut self`), and `parts` outlives the call.
        let received = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr().cast(),
                asked,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = match received {
            0.. => received as usize,
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => 0,
                error => return Err(error),
            },
        };
        for (slot, header) in self.slots.iter_mut().zip(&headers).take(count.min(room)) {
            // SAFETY: it is among the headers that were written.
            let header = unsafe { header.assume_init_ref() };
            slot.payload_length = (header.msg_len as usize).min(PAYLOAD);
            // Another type on other C libraries.
            #[allow(clippy::unnecessary_cast)]
            let control_length = header.msg_hdr.msg_controllen as usize;
            slot.control_length = control_length.min(CONTROL);
            slot.name_length = (header.msg_hdr.msg_namelen as usize).min(NAME);
        }
        let full = count == room;
        self.room = if full { BATCH } else { (2 * count).clamp(LITTLE, BATCH) };
        let received = self.slots.iter().zip(&self.payloads).take(count);
        let packets = received.map(|(slot, payload)| Packet {
            name: &slot.name[..slot.name_length],
            control: &slot.control[..slot.control_length],
            payload: &payload[..slot.payload_length],
        });
        Ok((packets, full))
    }
}

/// One packet as received.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    name: &'a [u8],
    control: &'a [u8],
    /// The bytes, cut off if they are longer than any VRRP message.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The sender, if it is an IP address.
    pub fn source(&self) -> Option<IpAddr> {
        let family = u16::from_ne_bytes(self.name.first_chunk().copied()?);
        match i32::from(family) {
            libc::AF_INET => {
                let octets: [u8; 4] = self.name.get(4..8)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets).into())
            }
            libc::AF_INET6 => {
                let octets: [u8; 16] = self.name.get(8..24)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            }
            _ => None,
        }
    }

    /// Whether a packet socket saw it leave, not arrive (packet(7): `sll_pkttype`).
    pub fn is_outgoing(&self) -> bool {
        let family = self.name.first_chunk().map(|bytes| i32::from(u16::from_ne_bytes(*bytes)));
        family == Some(libc::AF_PACKET) && self.name.get(10) == Some(&libc::PACKET_OUTGOING)
    }

    /// The IPv6 destination, if the socket was asked to report it.
    pub fn destination_v6(&self) -> Option<Ipv6Addr> {
        let info = self.ancillary(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)?;
        Some(Ipv6Addr::from(*info.first_chunk::<16>()?))
    }

    /// The IPv6 hop limit, if the socket was asked to report it.
    pub fn hop_limit(&self) -> Option<u8> {
        let limit = self.ancillary(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)?;
        u8::try_from(i32::from_ne_bytes(*limit.first_chunk()?)).ok()
    }

    /// The data of the first control message of this kind (cmsg(3): length, level, type, data;
    /// each begins at a multiple of the machine's word).
    fn ancillary(&self, level: i32, kind: i32) -> Option<&'a [u8]> {
        const WORD: usize = mem::size_of::<usize>();
        let mut rest = self.control;
        loop {
            let length = usize::from_ne_bytes(*rest.first_chunk::<WORD>()?);
            let message = rest.get(WORD..length)?;
            let (its_level, after) = message.split_first_chunk::<4>()?;
            let (its_kind, data) = after.split_first_chunk::<4>()?;
            if i32::from_ne_bytes(*its_level) == level && i32::from_ne_bytes(*its_kind) == kind {
                return Some(data);
            }
            rest = rest.get(length.next_multiple_of(WORD)..)?;
        }
    }
}

/// A descriptor of a process that is readable as soon as it has ended.
///
/// # Errors
/// ESRCH: there is no such process.
pub fn open_process(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The flags (`IFF_UP`, `IFF_RUNNING` and the others of netdevice(7)) of an interface.
///
/// # Errors
/// ENODEV: there is none of this name.
pub fn interface_flags(name: &str) -> io::Result<i32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: it is a plain C structure of integers and pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // A name that fills all of it has no end.
    if name.len() >= request.ifr_name.len() || name.bytes().any(|byte| byte == 0) {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as _;
    }
    // SAFETY: the kernel reads the name and writes the flags, both within `request`.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: of the union's members the kernel has filled this one, and all of it was zero before.
    Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
}

/// The beginning of a file as memory of this process: what is stored is in the file at once, also
/// for whoever reads it after this process was killed. The file must not be made shorter.
#[derive(Debug)]
pub struct Mapped {
    start: NonNull<c_void>,
    words: usize,
}

// SAFETY: it is the only owner of its mapping, which belongs to the process and not to a thread.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps so many bytes, which the file has.
    pub fn of(file: &File, length: usize) -> io::Result<Self> {
        let size = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: at an address that the kernel chooses a mapping replaces no other.
        let start = unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Mapped { start, words: length / mem::size_of::<u64>() })
    }

    /// Stores a word; its place is counted in words. Beyond the end nothing happens.
    pub fn store(&self, place: usize, word: u64) {
        if place < self.words {
            // SAFETY: the word lies in the mapping, which begins at a page and lives as long as
            // `self`; other processes may read it at any time, so it is written as a whole.
            let word_there =
                unsafe { AtomicU64::from_ptr(self.start.as_ptr().cast::<u64>().add(place)) };
            word_there.store(word, Ordering::Relaxed);
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nothing borrows from the mapping beyond a call.
        let _ = unsafe { munmap(self.start, self.words * mem::size_of::<u64>()) };
    }
}

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

/// Sets the scheduling policy (`libc::SCHED_*`, with flags) and the real-time priority of the
/// calling thread.
///
/// # Errors
/// EPERM without CAP_SYS_NICE or in a cgroup without real-time time; EINVAL for a priority the
/// policy does not have.
pub fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    // The call itself: musl's function of this name always fails. To the kernel the parameters are
    // one number.
    let parameters: *const libc::c_int = &priority;
    // SAFETY: the call only reads the number, which outlives it.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// This process, and whatever it executes, may not ask for real-time priority any more, unless it
/// has CAP_SYS_NICE.
///
/// # Errors
/// None that a kernel is known to give: a limit may always be lowered.
pub fn forbid_realtime() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call only reads the structure, which outlives it.
    match unsafe { libc::setrlimit(libc::RLIMIT_RTPRIO, &none) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
