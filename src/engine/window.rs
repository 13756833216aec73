//! The idempotency window: rows of the last business days in a ring, found by their id.
//!
//! An id is unique on the day on which it was used and on the `days - 1` days after it. When a day
//! starts, the rows of the day that leaves the window are forgotten, all at once for whoever asks,
//! and a few at a time in memory: whoever adds a row sweeps two old ones, so no command pays
//! for a whole day. Rows that still hold something (money, a promise) are known as long as they do:
//! the sweep carries them to the ring's head, under a new handle.
//!
//! ```text
//!            first          expired_to                       next
//!   ..........|#################|===============================|..........   ring of `capacity` rows
//!    free      out of the window  in the window                   free
//!              (swept two by two)
//! ```

use super::index::{Free, Handle, Index, hash_128};
use crate::memory::Take;
use bytemuck::{Pod, Zeroable};

/// Rows looked at for room beyond those wanted: a bound on what one command does.
const LOOKS_FOR_ROOM: u32 = 256;

/// A row of a window.
pub(super) trait WindowRow: Pod {
    /// Its outside id.
    fn id(&self) -> u128;
    /// Whether it must not be forgotten yet on `day`: it still holds something.
    fn is_kept(&self, day: u32) -> bool;
    /// Whether it was kept beyond its window.
    fn is_carried(&self) -> bool;
    /// Says that it was kept beyond its window: from now on it is known as long as it is kept.
    fn set_carried(&mut self);
}

/// Rows of the last business days. Handles are places in the ring.
pub(super) struct Window<R> {
    rows: Vec<R>,
    by_id: Index,
    capacity: u32,
    /// Counts of rows, as if the ring had no end; a row's handle is its count modulo `capacity`.
    first: u64,
    expired_to: u64,
    next: u64,
    /// `next` modulo `capacity`.
    next_handle: Handle,
    /// Where each of the last days began, the oldest first.
    days: Vec<u64>,
    days_max: usize,
    /// Days begun so far.
    day: u32,
}

/// The part of a window's snapshot that is no row.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct WindowHead {
    capacity: u64,
    first: u64,
    expired_to: u64,
    next: u64,
    day: u64,
}

impl<R: WindowRow> Window<R> {
    /// An empty window of `days` business days with room for `capacity` rows.
    pub(super) fn new(capacity: u32, days: u32) -> Window<R> {
        let mut window = Window {
            // Zeroed memory comes untouched from the system.
            rows: bytemuck::zeroed_vec(capacity as usize),
            by_id: Index::new(capacity),
            capacity,
            first: 0,
            expired_to: 0,
            next: 0,
            next_handle: 0,
            day: 0,
            days: Vec::with_capacity(days as usize + 1),
            days_max: days.max(1) as usize,
        };
        window.days.push(0);
        window
    }

    pub(super) fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.rows, how);
        self.by_id.take_memory(how);
    }

    /// Rows kept, those that wait to be swept included.
    pub(super) fn len(&self) -> u32 {
        (self.next - self.first) as u32
    }

    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.len() < self.capacity
    }

    #[inline]
    pub(super) fn row(&self, handle: Handle) -> &R {
        &self.rows[handle as usize]
    }

    #[inline]
    pub(super) fn row_mut(&mut self, handle: Handle) -> &mut R {
        &mut self.rows[handle as usize]
    }

    /// Days begun so far.
    pub(super) fn day(&self) -> u32 {
        self.day
    }

    /// The row of that id, if it is in the window or kept beyond it.
    #[inline]
    pub(super) fn find(&self, id: u128) -> Option<Handle> {
        self.find_hashed(id, hash_128(id))
    }

    /// The same, for who has `hash_128(id)` at hand.
    #[inline]
    pub(super) fn find_hashed(&self, id: u128, hash: u32) -> Option<Handle> {
        self.by_id.find(hash, |handle| {
            let row = &self.rows[handle as usize];
            row.id() == id && self.is_known(handle)
        })
    }

    /// The row of that id, or where its id is free; `hash` is `hash_128(id)`.
    #[inline(always)]
    pub(super) fn find_or_free(&self, id: u128, hash: u32) -> Result<Handle, Free> {
        self.by_id.find_or_free(hash, |handle| {
            let row = &self.rows[handle as usize];
            row.id() == id && self.is_known(handle)
        })
    }

    /// Where a lookup of `id` begins, to warm the caches with.
    #[inline]
    pub(super) fn lookup_hint(&self, id: u128) -> &u64 {
        self.by_id.bucket(hash_128(id))
    }

    /// The handle that `id` most likely has, to warm the caches with.
    #[inline]
    pub(super) fn handle_hint(&self, id: u128) -> Option<Handle> {
        self.by_id.peek(hash_128(id))
    }

    /// The row under a handle that is only a hint.
    #[inline]
    pub(super) fn row_hint(&self, handle: Handle) -> Option<&R> {
        self.rows.get(handle as usize)
    }

    /// Adds a row. Its id is not in the window and there is room.
    #[inline]
    pub(super) fn push(&mut self, row: R) -> Handle {
        self.push_hashed(row, hash_128(row.id()))
    }

    /// The same, for who has `hash_128` of the row's id at hand. Inlined, so that the row is built
    /// where it stays.
    #[inline(always)]
    pub(super) fn push_hashed(&mut self, row: R, hash: u32) -> Handle {
        let handle = self.next_handle;
        self.by_id.insert(hash, handle);
        self.put(row)
    }

    /// The same, where its id was found free ([`Window::find_or_free`]).
    #[inline(always)]
    pub(super) fn push_free(&mut self, row: R, hash: u32, free: Free) -> Handle {
        let handle = self.next_handle;
        self.by_id.insert_in(free, hash, handle);
        self.put(row)
    }

    #[inline(always)]
    fn put(&mut self, row: R) -> Handle {
        assert!(self.has_room(), "checked before commit");
        let handle = self.next_handle;
        self.rows[handle as usize] = row;
        self.next += 1;
        self.next_handle = if handle + 1 == self.capacity {
            0
        } else {
            handle + 1
        };
        handle
    }

    /// Takes the row added last back.
    pub(super) fn pop(&mut self) -> R {
        assert!(self.next > self.expired_to, "the window is not empty");
        self.next -= 1;
        self.next_handle = self.handle_of(self.next);
        let row = self.rows[self.next_handle as usize];
        self.by_id.remove(hash_128(row.id()), self.next_handle);
        row
    }

    /// Starts a business day: what is older than the window is forgotten.
    pub(super) fn roll(&mut self) {
        self.day += 1;
        if self.days.len() == self.days_max {
            self.days.remove(0);
        }
        self.days.push(self.next);
        if self.days.len() == self.days_max {
            self.expired_to = self.expired_to.max(self.days[0]);
        }
    }

    /// Forgets up to `rows` of those that left the window; `moved` is told of each row kept
    /// that was carried on, with its new handle.
    #[inline]
    pub(super) fn sweep(&mut self, rows: u32, moved: impl FnMut(&R, Handle)) {
        if self.first < self.expired_to {
            self.sweep_some(rows, moved);
        }
    }

    #[inline(never)]
    fn sweep_some(&mut self, rows: u32, mut moved: impl FnMut(&R, Handle)) {
        const AHEAD: u64 = 8;
        let end = self.expired_to.min(self.first + u64::from(rows));
        while self.first < end {
            if self.first + AHEAD < self.expired_to {
                let ahead = &self.rows[self.handle_of(self.first + AHEAD) as usize];
                crate::prefetch::prefetch(self.lookup_hint(ahead.id()));
            }
            let handle = self.handle_of(self.first);
            let mut row = self.rows[handle as usize];
            self.by_id.remove(hash_128(row.id()), handle);
            self.first += 1;
            if row.is_kept(self.day) {
                row.set_carried();
                let to = self.push(row);
                moved(&row, to);
            }
        }
    }

    /// Forgets as many of those that left the window as `rows` new ones need, if there are so
    /// many. A window that filled up before its day ended would else never have room again.
    #[inline]
    pub(super) fn make_room(&mut self, rows: u32, moved: impl FnMut(&R, Handle)) {
        if self.capacity - self.len() < rows {
            self.forget_for(rows, moved);
        }
    }

    #[cold]
    fn forget_for(&mut self, rows: u32, mut moved: impl FnMut(&R, Handle)) {
        // Rows that are carried on free no room: a table full of them is full, whoever looks further.
        let mut looks = rows + LOOKS_FOR_ROOM;
        while self.capacity - self.len() < rows && self.first < self.expired_to && looks > 0 {
            self.sweep_some(1, &mut moved);
            looks -= 1;
        }
    }

    /// All rows kept, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Handle, &R)> {
        (self.first..self.next).map(|count| {
            let handle = self.handle_of(count);
            (handle, &self.rows[handle as usize])
        })
    }

    #[inline]
    fn handle_of(&self, count: u64) -> Handle {
        (count % u64::from(self.capacity)) as Handle
    }

    /// Whether a row is in its window, or kept beyond it.
    #[inline(never)]
    fn is_known(&self, handle: Handle) -> bool {
        let row = &self.rows[handle as usize];
        let in_window =
            !row.is_carried() && (self.first == self.expired_to || self.is_in_window(handle));
        in_window || row.is_kept(self.day)
    }

    /// Whether a row is not one of those that wait to be swept.
    fn is_in_window(&self, handle: Handle) -> bool {
        let capacity = u64::from(self.capacity);
        let behind = (u64::from(handle) + capacity - self.first % capacity) % capacity;
        self.first + behind >= self.expired_to
    }

    /// The counts and the day marks, for snapshot and digest; rows follow by [`Window::slices`].
    pub(super) fn head(&self) -> ([WindowHead; 1], &[u64]) {
        let head = WindowHead {
            capacity: u64::from(self.capacity),
            first: self.first,
            expired_to: self.expired_to,
            next: self.next,
            day: self.day.into(),
        };
        ([head], &self.days)
    }

    /// All rows kept, oldest first, in the two pieces the ring has them in.
    pub(super) fn slices(&self) -> [&[R]; 2] {
        if self.first == self.next {
            return [&[], &[]];
        }
        let (start, end) = (self.handle_of(self.first), self.handle_of(self.next));
        if start < end {
            [&self.rows[start as usize..end as usize], &[]]
        } else {
            [&self.rows[start as usize..], &self.rows[..end as usize]]
        }
    }

    /// Rebuilds a window from its head, day marks and rows; handles stay what they were.
    ///
    /// # Errors
    /// Where counts and rows contradict each other.
    pub(super) fn restore(
        head: WindowHead,
        days: &[u64],
        rows: &[R],
        days_max: u32,
    ) -> Result<Window<R>, &'static str> {
        let counts_fit = head.first <= head.expired_to
            && head.expired_to <= head.next
            && head.next - head.first == rows.len() as u64
            && (1..=u64::from(u32::MAX / 2)).contains(&head.capacity)
            && rows.len() as u64 <= head.capacity
            && !days.is_empty();
        if !counts_fit {
            return Err("a window's counts");
        }
        let mut window = Window::new(head.capacity as u32, days_max);
        window.first = head.first;
        window.next = head.first;
        window.next_handle = window.handle_of(head.first);
        window.day = head.day as u32;
        window.expired_to = head.expired_to;
        window.days = days.to_vec();
        for row in rows {
            window.push(*row);
        }
        Ok(window)
    }

    /// Every row is found by its id, unless a younger one has it.
    pub(super) fn audit(&self, name: &str) -> Result<(), String> {
        let kept = self.len();
        if self.by_id.len() != kept {
            return Err(format!(
                "{name}: {kept} rows, but {} in the index",
                self.by_id.len()
            ));
        }
        for (handle, row) in self.iter() {
            let found = self.find(row.id());
            if self.is_known(handle) && found != Some(handle) {
                return Err(format!("{name} {}: not found by its id", row.id()));
            }
        }
        Ok(())
    }
}
