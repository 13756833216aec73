//! Every target over its corpus and over mutants of it (see `harness`).

use millrace_fuzz::{TARGETS, harness, target};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;

/// Nothing that these inputs can ask for is larger. A length field that is believed too early asks
/// for more, and ends the process; the file of the present input tells which it was.
const ALLOCATION_BYTES_MAX: usize = 256 << 20;

struct Bounded;

// SAFETY: every call goes to the system's allocator as it came, or gets the null pointer by which
// an allocator says that it has no memory.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match layout.size() <= ALLOCATION_BYTES_MAX {
            // SAFETY: the caller's promise, handed on.
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match layout.size() <= ALLOCATION_BYTES_MAX {
            // SAFETY: the caller's promise, handed on.
            true => unsafe { System.alloc_zeroed(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match size <= ALLOCATION_BYTES_MAX {
            // SAFETY: the caller's promise, handed on.
            true => unsafe { System.realloc(at, layout, size) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(at, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
            harness::check(&target(stringify!($name)).expect("a target"), scratch);
        })*

        #[test]
        fn every_target_has_its_test() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

targets!(
    frames, lines, journal, sealed, snapshots, commands, settings, client
);
