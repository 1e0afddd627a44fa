//! The few instructions of classic BPF that our socket filters are made of (filter.txt of the
//! kernel's networking documentation): A is the accumulator, X the index register.

use socket2::SockFilter;

/// The filter's last word: take the packet.
pub const ACCEPT: SockFilter = ret(u32::MAX);
/// The filter's last word: the packet never was.
pub const DROP: SockFilter = ret(0);

const fn ret(bytes: u32) -> SockFilter {
    instruction(libc::BPF_RET | libc::BPF_K, bytes)
}

/// An instruction without jumps.
pub const fn instruction(code: u32, k: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, k)
}

/// Compares A with `k`: skips `yes` instructions if it holds, `no` if it does not.
pub const fn jump(comparison: u32, k: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new((libc::BPF_JMP | comparison | libc::BPF_K) as u16, yes, no, k)
}

/// Skips `distance` instructions.
pub const fn skip(distance: u32) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JA, distance)
}

/// A = the word, half word or byte (`BPF_W`, `BPF_H`, `BPF_B`) at this offset of the packet.
pub const fn load(size: u32, offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, offset)
}

/// A = the same at this offset plus X.
pub const fn load_indexed(size: u32, offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | size | libc::BPF_IND, offset)
}

/// A = `value`.
pub const fn set(value: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_IMM, value)
}

/// A = A `operation` `k`.
pub const fn calculate(operation: u32, k: u32) -> SockFilter {
    instruction(libc::BPF_ALU | operation | libc::BPF_K, k)
}

/// A = A `operation` X.
pub const fn calculate_with_x(operation: u32) -> SockFilter {
    instruction(libc::BPF_ALU | operation | libc::BPF_X, 0)
}
