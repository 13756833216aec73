//! A wall clock that can be made to jump, for processes that know nothing of it.
//!
//! Preloaded (`LD_PRELOAD`), it stands in front of the C library's `clock_gettime`: what the kernel says,
//! plus an offset, for the wall clocks only; the monotonic clock never jumps, as in life. The offset is
//! 8 bytes (nanoseconds, signed, in the machine's order) at the beginning of the file named by
//! `MILLRACE_CLOCK_FILE`, mapped once: whoever writes the file moves the clock at that moment. Without
//! the file the clock is right. A node needs no code for it and has none.

use libc::{c_int, clockid_t, timespec};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU32, Ordering};

static STATE: AtomicU32 = AtomicU32::new(UNKNOWN);
static OFFSET: AtomicPtr<AtomicI64> = AtomicPtr::new(null_mut());

const UNKNOWN: u32 = 0;
const KNOWN: u32 = 1;

/// The C library's function of this name.
///
/// # Safety
/// `time` points to a `timespec` that may be written, as for the original.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the same call with the same arguments, past the library.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    let is_wall = clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE;
    if result == 0 && is_wall {
        // SAFETY: the kernel has just written it.
        let time = unsafe { &mut *time };
        let now = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
        let shifted = (now + i128::from(offset_ns())).max(0);
        time.tv_sec = (shifted / 1_000_000_000) as i64;
        time.tv_nsec = (shifted % 1_000_000_000) as i64;
    }
    result
}

fn offset_ns() -> i64 {
    if STATE.load(Ordering::Acquire) == UNKNOWN {
        // Two threads may both come here; both find the same file.
        OFFSET.store(map(), Ordering::Release);
        STATE.store(KNOWN, Ordering::Release);
    }
    let at = OFFSET.load(Ordering::Acquire);
    if at.is_null() {
        return 0;
    }
    // SAFETY: `map` returned it: 8 aligned bytes of a mapping that stays.
    unsafe { (*at).load(Ordering::Relaxed) }
}

/// Maps the file with the offset; null where there is none.
fn map() -> *mut AtomicI64 {
    // SAFETY: plain calls of the C library; the name is a string of the environment, which a node does
    // not change, and the mapping is read only and never unmapped.
    unsafe {
        let name = libc::getenv(c"MILLRACE_CLOCK_FILE".as_ptr());
        if name.is_null() {
            return null_mut();
        }
        let file = libc::open(name, libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return null_mut();
        }
        let bytes = size_of::<AtomicI64>();
        let at = libc::mmap(
            null_mut(),
            bytes,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file,
            0,
        );
        libc::close(file);
        if at == libc::MAP_FAILED {
            return null_mut();
        }
        at.cast()
    }
}
