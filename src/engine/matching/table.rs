//! A fixed table of plain rows: zeroed when made, so memory nobody used is never touched, and
//! starting on a cache line, so a row of 16, 32 or 64 bytes never straddles two. Row 0 is never
//! handed out: 0 is everywhere the absence of a row.

use crate::memory::{Rows, Take};
use bytemuck::Pod;
use std::ops::{Index, IndexMut};

/// The absence of a row.
pub(super) const NIL: u32 = 0;

const UNIT: usize = 16;

/// Rows of `T`, each `UNITS` x 16 bytes, numbered 0 to `len - 1`.
pub(super) struct Table<T, const UNITS: usize>(Rows<T>);

impl<T: Pod, const UNITS: usize> Table<T, UNITS> {
    /// `len` rows of zero bytes.
    pub(super) fn new(len: usize) -> Table<T, UNITS> {
        const { assert!(size_of::<T>() == UNITS * UNIT && align_of::<T>() <= UNIT) };
        Table(Rows::zeroed(len))
    }

    /// Takes its memory for good.
    pub(super) fn take_memory(&mut self, how: Take) {
        self.0.take(how);
    }
}

impl<T: Pod, const UNITS: usize> Index<u32> for Table<T, UNITS> {
    type Output = T;

    #[inline(always)]
    fn index(&self, row: u32) -> &T {
        &self.0[row as usize]
    }
}

impl<T: Pod, const UNITS: usize> IndexMut<u32> for Table<T, UNITS> {
    #[inline(always)]
    fn index_mut(&mut self, row: u32) -> &mut T {
        &mut self.0[row as usize]
    }
}

/// Which rows of a table are in use: last in, first out, then rows never used before. The free
/// rows are chained through a field of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    /// First row of the free chain, [`NIL`] for none.
    pub(super) free: u32,
    /// Rows from here on were never used.
    pub(super) fresh: u32,
    /// Rows in use.
    pub(super) used: u32,
    /// Most rows in use at once.
    pub(super) capacity: u32,
}

impl Pool {
    pub(super) fn new(capacity: u32) -> Pool {
        assert!(capacity < u32::MAX, "row numbers are 32 bits");
        Pool {
            free: NIL,
            fresh: 1,
            used: 0,
            capacity,
        }
    }

    /// The row that [`Pool::take`] hands out next, if there is one.
    pub(super) fn next(&self) -> Option<u32> {
        if self.free != NIL {
            Some(self.free)
        } else {
            (self.fresh <= self.capacity).then_some(self.fresh)
        }
    }

    /// Takes a row; `after` reads the chain.
    ///
    /// # Panics
    /// When none is left: callers check first.
    #[inline]
    pub(super) fn take(&mut self, after: impl FnOnce(u32) -> u32) -> u32 {
        self.used += 1;
        if self.free != NIL {
            let row = self.free;
            self.free = after(row);
            row
        } else {
            assert!(self.fresh <= self.capacity, "checked before commit");
            self.fresh += 1;
            self.fresh - 1
        }
    }

    /// Gives `row` back and returns what its chain field must say.
    #[inline]
    #[must_use]
    pub(super) fn give(&mut self, row: u32) -> u32 {
        self.used -= 1;
        std::mem::replace(&mut self.free, row)
    }
}
