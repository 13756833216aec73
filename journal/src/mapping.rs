//! Mapped bytes that several threads and processes look at: the only door to raw memory in this
//! crate.
//!
//! A writer appends to a segment while readers, some in other processes, follow it. No `&mut [u8]`
//! over that memory can ever exist, and a `&[u8]` only over bytes that no one writes any more. Both
//! rest on one protocol:
//!
//! 1. A fresh segment is all zero. The writer writes a frame's payload and the last three words of
//!    its header, and then stores the first word (length and checksum, never zero) with `Release`.
//!    From then on the frame is **published**.
//! 2. A reader loads the first word with `Acquire`. Zero: nothing here yet. Otherwise the whole
//!    slot is visible, and no writer touches it again.
//!
//! So [`Mapping::published`] may lend a slot as a slice, and [`Mapping::put`] may write only where
//! nothing is published.
//!
//! One case lies outside: after a power loss a restarted writer zeroes the torn tail (see
//! `recovery`), and a reader that was opened on the dead journal may at that moment be summing the
//! very bytes. Its sum then comes out wrong, which is what it would have been anyway, and it
//! reports "no record here"; sums are over plain integers, so no value can do harm. Opening a
//! reader after the writer avoids even that. A file cut short by a stranger while it is mapped is a
//! SIGBUS: no process can guard a shared mapping against that (`lost_pages` gives it words), and this
//! crate never shortens a mapped file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapMut, MmapOptions, MmapRaw, UncheckedAdvice};

use crate::format::PAGE_BYTES;

/// A whole file, or an anonymous stretch of memory that plays one.
#[derive(Debug)]
pub struct Mapping {
    raw: MmapRaw,
    len: usize,
}

impl Mapping {
    /// Zeroed memory that belongs to no file.
    pub fn anonymous(len: usize) -> io::Result<Mapping> {
        Ok(Mapping {
            raw: MmapRaw::from(MmapMut::map_anon(len)?),
            len,
        })
    }

    /// The file, shared and writable.
    pub fn writable(file: &File) -> io::Result<Mapping> {
        let len = file_len(file)?;
        Ok(Mapping {
            raw: MmapOptions::new().len(len).map_raw(file)?,
            len,
        })
    }

    /// The file, shared and read-only.
    pub fn readable(file: &File) -> io::Result<Mapping> {
        let len = file_len(file)?;
        Ok(Mapping {
            raw: MmapOptions::new().len(len).map_raw_read_only(file)?,
            len,
        })
    }

    /// Where it lies in memory.
    pub(crate) fn address(&self) -> usize {
        self.raw.as_ptr().addr()
    }

    /// Tells the kernel how the memory will be used.
    pub(crate) fn advise(&self, advice: Advice) -> io::Result<()> {
        self.raw.advise(advice)
    }

    /// As [`Mapping::touch`], by one call of the system and without a write. Fails where the kernel is older
    /// than 5.14.
    pub(crate) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        self.raw
            .advise_range(Advice::PopulateWrite, range.start, range.len())
    }

    /// Takes pages of a mapped file out of this process's page table. They stay in the page cache, and
    /// whoever looks at them again finds them there.
    pub(crate) fn let_go(&self, range: Range<usize>) {
        self.check(range.start, range.len());
        // SAFETY: dropped pages of a shared mapping of a file are read from the file again, with all
        // that was written to them, so bytes that somebody borrows do not change. It fails only where
        // the system does not know the advice, and nothing depends on it.
        let _ = unsafe {
            self.raw
                .unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len())
        };
    }

    /// Bytes mapped.
    #[inline]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a length in bytes; an empty mapping is an error of its own"
    )]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The eight bytes at `offset`, with `Acquire`: whatever was written before they were published
    /// is visible.
    #[inline]
    pub fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// The four words at `offset`, the first with `Acquire`.
    #[inline]
    pub(crate) fn load_header(&self, offset: usize) -> [u64; 4] {
        let first = self.load(offset);
        [
            first,
            self.relaxed(offset + 8),
            self.relaxed(offset + 16),
            self.relaxed(offset + 24),
        ]
    }

    /// Publishes what was written before it: stores eight bytes with `Release`.
    ///
    /// # Safety
    /// The mapping is writable and `offset` lies in no published frame.
    #[inline]
    pub(crate) unsafe fn publish(&self, offset: usize, word: u64) {
        self.word(offset).store(word, Ordering::Release);
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Safety
    /// The mapping is writable, and no published frame overlaps the range.
    #[inline]
    pub(crate) unsafe fn put(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: the range is inside the mapping (checked above) and, by the caller's promise,
        // writable and lent to no one; `bytes` is a Rust slice and cannot overlap memory that only
        // this type hands out for unpublished ranges.
        unsafe {
            self.raw
                .as_mut_ptr()
                .add(offset)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
    }

    /// Zeroes the pages of `range` that are not zero already, so that clean pages stay clean.
    /// Returns the bytes between the first and the last non-zero one.
    ///
    /// # Safety
    /// As for [`Mapping::put`].
    pub(crate) unsafe fn clear(&self, range: Range<usize>) -> usize {
        let (mut first, mut end) = (range.end, range.end);
        let mut at = range.start;
        while at < range.end {
            let page_end = (at / PAGE_BYTES + 1) * PAGE_BYTES;
            let upto = page_end.min(range.end);
            if let Some((low, high)) = self.non_zero(at..upto) {
                first = first.min(low);
                end = high;
                // SAFETY: by the caller's promise; `put` checks the bounds.
                unsafe { self.put(at, &[0; PAGE_BYTES][..upto - at]) };
            }
            at = upto;
        }
        if first < range.end { end - first } else { 0 }
    }

    /// A range of bytes that nobody writes any more: a published slot, a label, a published link.
    ///
    /// # Safety
    /// The caller has seen the range published (a non-zero word loaded by [`Mapping::load`]), or no
    /// writer is alive.
    #[inline]
    pub(crate) unsafe fn published(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end);
        self.check(range.start, range.end - range.start);
        // SAFETY: in bounds (checked), initialised (file pages and anonymous memory both are), and
        // by the caller's promise not written while the slice lives; the lifetime is bound to the
        // mapping.
        unsafe {
            std::slice::from_raw_parts(self.raw.as_ptr().add(range.start), range.end - range.start)
        }
    }

    /// First and one-past-last non-zero byte of a range, read word by word so that a live writer
    /// does no harm. The range is widened to whole words.
    pub(crate) fn non_zero(&self, range: Range<usize>) -> Option<(usize, usize)> {
        let words = range.start / 8..range.end.div_ceil(8);
        let mut found = words.filter(|word| self.relaxed(word * 8) != 0);
        let first = found.next()?;
        let last = found.next_back().unwrap_or(first);
        let low = first * 8 + self.relaxed(first * 8).trailing_zeros() as usize / 8;
        let high = last * 8 + 8 - self.relaxed(last * 8).leading_zeros() as usize / 8;
        Some((low, high))
    }

    /// The first non-zero byte of a range of any alignment.
    pub(crate) fn first_non_zero(&self, range: Range<usize>) -> Option<usize> {
        let mut at = range.start;
        while at < range.end {
            let word = self.relaxed(at / 8 * 8) >> (at % 8 * 8);
            if word != 0 {
                let found = at + word.trailing_zeros() as usize / 8;
                return (found < range.end).then_some(found);
            }
            at = (at / 8 + 1) * 8;
        }
        None
    }

    /// Copies a range that others may be writing, word by word. `range` begins and ends at
    /// multiples of eight.
    pub fn copy_out(&self, range: Range<usize>, into: &mut Vec<u8>) {
        assert!(range.start.is_multiple_of(8) && range.end.is_multiple_of(8));
        into.clear();
        into.extend(
            (range.start / 8..range.end / 8).flat_map(|word| self.relaxed(word * 8).to_le_bytes()),
        );
    }

    /// Writes to every page of a range what is there. The pages become dirty, and their write faults
    /// are taken now, not on the hot path.
    ///
    /// # Safety
    /// The mapping is writable and nobody else writes to it at the moment.
    pub(crate) unsafe fn touch(&self, range: Range<usize>) {
        for page in range.start / PAGE_BYTES..range.end.div_ceil(PAGE_BYTES) {
            let word = self.word(page * PAGE_BYTES);
            word.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    #[inline]
    fn relaxed(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8));
        self.check(offset, 8);
        // SAFETY: in bounds and aligned (both checked; a mapping begins at a page), and valid for
        // atomics as long as the mapping lives. A read-only mapping is only ever loaded from:
        // x86-64 and AArch64 load eight bytes by a plain load.
        unsafe { AtomicU64::from_ptr(self.raw.as_mut_ptr().add(offset).cast()) }
    }

    #[inline]
    fn check(&self, offset: usize, len: usize) {
        assert!(
            offset <= self.len && len <= self.len - offset,
            "{len} bytes at {offset} are outside the segment"
        );
    }
}

fn file_len(file: &File) -> io::Result<usize> {
    usize::try_from(file.metadata()?.len())
        .map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
}
