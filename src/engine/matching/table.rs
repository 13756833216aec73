//! A fixed table of plain rows: zeroed when made, so memory nobody used is never touched, and
//! starting on a cache line, so a row of 16, 32 or 64 bytes never straddles two. Row 0 is never
//! handed out: 0 is everywhere the absence of a row.

use crate::memory::Take;
use bytemuck::{Pod, cast_mut, cast_ref};
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// The absence of a row.
pub(super) const NIL: u32 = 0;

const UNIT: usize = size_of::<u128>();
const LINE: usize = 64;

/// Rows of `T`, each `UNITS` x 16 bytes, numbered 0 to `len - 1`.
pub(super) struct Table<T, const UNITS: usize> {
    /// `vec![0u128; n]` is memory straight from the system; rows are views of it.
    units: Vec<u128>,
    /// First unit on a cache line.
    start: usize,
    rows: PhantomData<T>,
}

impl<T: Pod, const UNITS: usize> Table<T, UNITS> {
    const FITS: () = assert!(size_of::<T>() == UNITS * UNIT && align_of::<T>() <= UNIT);

    /// `len` rows of zero bytes.
    pub(super) fn new(len: usize) -> Table<T, UNITS> {
        let () = Self::FITS;
        let slack = LINE / UNIT - 1;
        let units = vec![0; len * UNITS + slack];
        let start = units.as_ptr().align_offset(LINE).min(slack);
        Table {
            units,
            start,
            rows: PhantomData,
        }
    }

    /// Takes its memory for good.
    pub(super) fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.units, how);
    }
}

impl<T: Pod, const UNITS: usize> Index<u32> for Table<T, UNITS> {
    type Output = T;

    #[inline(always)]
    fn index(&self, row: u32) -> &T {
        let at = self.start + row as usize * UNITS;
        let units: &[u128; UNITS] = self.units[at..at + UNITS]
            .try_into()
            .expect("as long as it is");
        cast_ref(units)
    }
}

impl<T: Pod, const UNITS: usize> IndexMut<u32> for Table<T, UNITS> {
    #[inline(always)]
    fn index_mut(&mut self, row: u32) -> &mut T {
        let at = self.start + row as usize * UNITS;
        let units: &mut [u128; UNITS] = (&mut self.units[at..at + UNITS])
            .try_into()
            .expect("as long as it is");
        cast_mut(units)
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
