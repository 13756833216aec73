//! Taking the memory of a table for good: huge pages where the system gives them, and every page
//! there before the first command, so that no command pays for a page fault. A node does this at
//! start; a short script leaves its tables to be touched as they fill.
//!
//! The unsafe part is telling the kernel about the pages of a `Vec` that we hold `&mut`.

use rustix::mm::{Advice, madvise};

const PAGE: usize = 4_096;

/// When the pages of a table come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// All of them now.
    Now,
    /// As they are touched, huge ones at a time.
    AsTouched,
}

/// Asks for the whole capacity of `table` in huge pages. Failing is no error: the table works the
/// same, its first touches cost more.
pub(crate) fn take<T>(table: &mut Vec<T>, how: Take) {
    let start = table.as_mut_ptr() as usize;
    let end = start + table.capacity() * size_of::<T>();
    let first = start.next_multiple_of(PAGE);
    let last = end - end % PAGE;
    if last <= first {
        return;
    }
    let (at, length) = (first as *mut std::ffi::c_void, last - first);
    // SAFETY: the range lies within the table's own allocation, which we borrow mutably, so it
    // stays mapped and nobody else looks; neither advice changes what the pages hold.
    unsafe {
        let _ = madvise(at, length, Advice::LinuxHugepage);
        if how == Take::Now {
            let _ = madvise(at, length, Advice::LinuxPopulateWrite);
        }
    }
}
