//! Memory of tables: rows that start on a cache line and cost nothing until they are used, and
//! taking a table's memory for good: huge pages where the system gives them, and every page there
//! before the first command, so that no command pays for a page fault. A node does this at start; a
//! short script leaves its tables to be touched as they fill.
//!
//! The unsafe parts are telling the kernel about pages that we hold `&mut`, and `Rows`: the
//! standard library touches every page of zeroed memory that is aligned to a cache line, so rows
//! are placed by hand in memory that is not.

use bytemuck::Pod;
use rustix::mm::{Advice, madvise};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

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
pub fn take<T>(table: &mut Vec<T>, how: Take) {
    let bytes = table.capacity() * size_of::<T>();
    // SAFETY: that is the table's own allocation, which we borrow mutably.
    unsafe { take_range(table.as_mut_ptr() as usize, bytes, how) }
}

/// # Safety
/// The range is mapped, and the caller alone has it.
unsafe fn take_range(start: usize, bytes: usize, how: Take) {
    let end = start + bytes;
    let first = start.next_multiple_of(PAGE);
    let last = end - end % PAGE;
    if last <= first {
        return;
    }
    let (at, length) = (first as *mut std::ffi::c_void, last - first);
    // SAFETY: the pages lie within the caller's range, so they stay mapped and nobody else looks;
    // neither advice changes what they hold.
    unsafe {
        let _ = madvise(at, length, Advice::LinuxHugepage);
        if how == Take::Now {
            let _ = madvise(at, length, Advice::LinuxPopulateWrite);
        }
    }
}

/// A fixed number of rows, zero bytes at first, the first one on a cache line.
pub(crate) struct Rows<T> {
    first: NonNull<T>,
    len: usize,
    block: NonNull<u8>,
    layout: Layout,
}

const LINE: usize = 64;

impl<T: Pod> Rows<T> {
    /// `len` rows of zero bytes, which take no memory until they are touched.
    pub(crate) fn zeroed(len: usize) -> Rows<T> {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= LINE) };
        let bytes = len.checked_mul(size_of::<T>()).expect("a table fits");
        // Aligned to no more than any allocation: then the system's zeroed pages are left as they
        // are. The line is found within.
        let layout = Layout::from_size_align(bytes + LINE, 16).expect("a table fits");
        // SAFETY: the layout has a size.
        let block = unsafe { alloc_zeroed(layout) };
        let Some(block) = NonNull::new(block) else {
            handle_alloc_error(layout)
        };
        let offset = block.as_ptr().align_offset(LINE);
        assert!(offset < LINE, "a line begins within one");
        // SAFETY: the block is longer than the offset.
        let first = unsafe { block.add(offset) }.cast();
        Rows {
            first,
            len,
            block,
            layout,
        }
    }

    /// As [`take`].
    pub(crate) fn take(&mut self, how: Take) {
        let bytes = self.len * size_of::<T>();
        // SAFETY: the rows lie in our own block, which we borrow mutably.
        unsafe { take_range(self.first.as_ptr() as usize, bytes, how) }
    }
}

impl<T> Deref for Rows<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `zeroed` placed `len` rows at `first`, aligned and within the block; zero bytes
        // are rows, for only plain data is let in.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Rows<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and we are borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

impl<T> Drop for Rows<T> {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed` with this layout; plain rows need no drop.
        unsafe { dealloc(self.block.as_ptr(), self.layout) };
    }
}

// SAFETY: the rows are owned, as those of a `Vec` are.
unsafe impl<T: Send> Send for Rows<T> {}
// SAFETY: as above; shared, they can only be read.
unsafe impl<T: Sync> Sync for Rows<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_begin_on_a_line_zeroed_and_keep_what_is_written() {
        for len in [0, 1, 3, 1_000] {
            let mut rows = Rows::<[u64; 4]>::zeroed(len);
            assert_eq!(rows.as_ptr() as usize % LINE, 0);
            assert_eq!(rows.len(), len);
            assert!(rows.iter().all(|row| *row == [0; 4]));
            rows.iter_mut().for_each(|row| row[3] = 7);
            rows.take(Take::Now);
            assert!(rows.iter().all(|row| *row == [0, 0, 0, 7]));
        }
    }
}
