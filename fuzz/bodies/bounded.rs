//! What a parser may cost: memory and time in proportion to its input, so that nobody can fill or
//! block a process with less than it takes to send that much.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::counting;

/// Memory that any input may take.
const MEMORY: u64 = 256 << 10;
/// Time that any input may take. The processor's, with room for a sanitizer.
const TIME: Duration = Duration::from_millis(250);
/// Time for each byte of an input. One that took time in proportion to its square, with a nanosecond
/// for each pair of bytes, would exceed it from 64 KiB on.
const TIME_PER_BYTE: Duration = Duration::from_micros(10);

/// Runs `act` on an input of this length, and panics if it holds more than `memory_per_byte` bytes at
/// once for each byte of input, or takes too long.
pub fn bounded<T>(length: usize, memory_per_byte: u64, act: impl FnOnce() -> T) -> T {
    let begun_at = cpu_time();
    let (result, held) = counting::most_held(act);
    let took = cpu_time().saturating_sub(begun_at);
    let memory = MEMORY + memory_per_byte * length as u64;
    assert!(held <= memory, "{length} bytes of input take {held} bytes of memory");
    let time = TIME + TIME_PER_BYTE * u32::try_from(length).unwrap();
    assert!(took <= time, "{length} bytes of input take {took:?}");
    result
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}
