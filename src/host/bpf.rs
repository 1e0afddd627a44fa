//! Instructions of classic BPF for socket filters (Documentation/networking/filter.rst of the
//! kernel). A is the accumulator, X the index register.

use socket2::SockFilter;

/// Ends the filter: pass the whole packet.
pub(super) const ACCEPT: SockFilter = ret(u32::MAX);
/// Ends the filter: drop the packet.
pub(super) const DROP: SockFilter = ret(0);

const fn ret(bytes: u32) -> SockFilter {
    instruction(libc::BPF_RET | libc::BPF_K, bytes)
}

/// Any instruction without a conditional jump.
pub(super) const fn instruction(code: u32, k: u32) -> SockFilter {
    SockFilter::new(code as u16, 0, 0, k)
}

/// Compares A with `k` (`BPF_JEQ`, `BPF_JSET` and others): skips `yes` instructions if it holds,
/// `no` if not.
pub(super) const fn jump(comparison: u32, k: u32, yes: u8, no: u8) -> SockFilter {
    SockFilter::new((libc::BPF_JMP | comparison | libc::BPF_K) as u16, yes, no, k)
}

/// Skips `distance` instructions.
pub(super) const fn skip(distance: u32) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JA, distance)
}

/// A = the word, half-word or byte (`BPF_W`, `BPF_H`, `BPF_B`) at an offset into the packet.
pub(super) const fn load(size: u32, offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, offset)
}

/// A = the word, half-word or byte at an offset plus X.
pub(super) const fn load_indexed(size: u32, offset: u32) -> SockFilter {
    instruction(libc::BPF_LD | size | libc::BPF_IND, offset)
}

/// A = `value`.
pub(super) const fn set(value: u32) -> SockFilter {
    instruction(libc::BPF_LD | libc::BPF_IMM, value)
}

/// A = A `operation` `k` (`BPF_AND`, `BPF_RSH` and others).
pub(super) const fn calculate(operation: u32, k: u32) -> SockFilter {
    instruction(libc::BPF_ALU | operation | libc::BPF_K, k)
}

/// A = A `operation` X.
pub(super) const fn calculate_with_x(operation: u32) -> SockFilter {
    instruction(libc::BPF_ALU | operation | libc::BPF_X, 0)
}
