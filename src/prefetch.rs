//! Cache hints. A hint has no effect on any result, so the engine, which holds no unsafe code, may
//! call it. Measured on transfers over a million accounts: see docs/performance.md.
//!
//! The one unsafe operation is the prefetch instruction itself, on an address taken from a
//! reference.

/// Asks the processor to bring the cache line of `at`.
#[inline(always)]
pub fn prefetch<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction only hints; it never faults, and the address is that of a live
    // reference anyway.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for both cache lines of a 128-byte row.
#[inline(always)]
pub fn prefetch_pair<T>(row: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `prefetch`; the second address lies within or just behind the row, and a hint
    // on an unmapped address is ignored.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address: *const i8 = std::ptr::from_ref(row).cast();
        _mm_prefetch::<_MM_HINT_T0>(address);
        _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(64));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}
