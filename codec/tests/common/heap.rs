//! Counts what lives on the heap of the whole program.
#![allow(dead_code, reason = "each program uses its own part")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(n: usize) {
    PEAK.fetch_max(LIVE.fetch_add(n, SeqCst) + n, SeqCst);
}

#[expect(unsafe_code, reason = "an allocator that counts can only be written this way")]
// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new together, as on a system that copies.
        add(size);
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that live now.
pub fn live() -> usize {
    LIVE.load(SeqCst)
}

/// How much more is in use than there was. What the test harness lets go of meanwhile may be more.
pub fn grown(before: usize) -> usize {
    live().saturating_sub(before)
}

/// The result, and the bytes that were live at most beyond those that were before.
pub fn peak_of<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = live();
    PEAK.store(before, SeqCst);
    let result = f();
    (result, PEAK.load(SeqCst).saturating_sub(before))
}
