//! An allocator that counts, for tests that nothing is allocated.
// Each test uses a part of it.
#![allow(dead_code, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, which counts for each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static MOST_HELD: Cell<i64> = const { Cell::new(0) };
}

static WATCHED_COUNT: AtomicU64 = AtomicU64::new(0);

fn count() {
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    if WATCHED.try_with(Cell::get).unwrap_or(false) {
        WATCHED_COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

fn hold(bytes: i64) {
    let held = HELD.try_with(|held| held.replace(held.get() + bytes) + bytes).unwrap_or(0);
    let _ = MOST_HELD.try_with(|most| most.set(most.get().max(held)));
}

// SAFETY: everything is the system's allocator's, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(layout.size() as i64);
        // SAFETY: the caller keeps the same promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: the caller keeps the same promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        hold(size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the same promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `act` allocates.
pub fn allocations(act: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    act();
    COUNT.get() - before
}

/// The most bytes that `act` holds at once.
pub fn most_held<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.get();
    MOST_HELD.set(before);
    let result = act();
    (result, (MOST_HELD.get() - before) as u64)
}

/// Counts what this thread allocates from now on in [`watched`].
pub fn watch_this_thread() {
    WATCHED.set(true);
}

/// How often watched threads have allocated.
pub fn watched() -> u64 {
    WATCHED_COUNT.load(Ordering::Relaxed)
}
