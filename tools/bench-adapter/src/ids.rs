//! From the benchmark's order ids to the orders that rest: open addressing, filled to one half at
//! most, grown with what rests. It holds no order that is done, so it stays as small as the book: a
//! table with a place for every id is eight megabytes read and written in no order.

use millrace::engine::matching::Slot;

/// Buckets at first, and never fewer.
const BUCKETS: usize = 1 << 12;
/// Of a row that has no order.
const NO_ID: u64 = u64::MAX;

/// The orders that rest, by the benchmark's id.
pub struct Resting {
    buckets: Vec<Option<Slot>>,
    /// The benchmark's ids by the row of their order.
    ids: Vec<u64>,
    count: usize,
}

impl Resting {
    /// None so far; rows below `rows`.
    pub fn new(rows: usize) -> Resting {
        Resting {
            buckets: vec![None; BUCKETS],
            ids: crate::session::table(NO_ID, rows),
            count: 0,
        }
    }

    /// The order with that id.
    #[inline(always)]
    pub fn find(&self, id: u64) -> Option<Slot> {
        self.buckets[self.seek(id)]
    }

    /// The id of an order that rests.
    #[inline(always)]
    pub fn id(&self, slot: Slot) -> u64 {
        self.ids[slot.row() as usize]
    }

    /// Remembers an order; from now on its id means no other.
    #[inline(always)]
    pub fn insert(&mut self, id: u64, slot: Slot) {
        self.ids[slot.row() as usize] = id;
        let at = self.seek(id);
        if self.buckets[at].replace(slot).is_none() {
            self.count += 1;
            if self.count * 2 > self.buckets.len() {
                self.grow();
            }
        }
    }

    /// Forgets an order that is done, and closes the gap: what comes behind it stays in reach of its
    /// home.
    #[inline]
    pub fn remove(&mut self, slot: Slot) {
        let mask = self.buckets.len() - 1;
        let mut gap = self.home(self.id(slot));
        while self.buckets[gap] != Some(slot) {
            if self.buckets[gap].is_none() {
                return; // another order has its id by now
            }
            gap = (gap + 1) & mask;
        }
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let Some(other) = self.buckets[at] else { break };
            let from_home = at.wrapping_sub(self.home(self.id(other))) & mask;
            if from_home >= at.wrapping_sub(gap) & mask {
                self.buckets[gap] = Some(other);
                gap = at;
            }
        }
        self.buckets[gap] = None;
        self.count -= 1;
    }

    /// The bucket of that id, or the empty one where it would go.
    #[inline(always)]
    fn seek(&self, id: u64) -> usize {
        let mask = self.buckets.len() - 1;
        let mut at = self.home(id);
        while let Some(slot) = self.buckets[at]
            && self.id(slot) != id
        {
            at = (at + 1) & mask;
        }
        at
    }

    /// Where the search for an id begins: the top bits of a product, as many as tell the buckets.
    #[inline(always)]
    fn home(&self, id: u64) -> usize {
        let top = u64::BITS - self.buckets.len().trailing_zeros();
        (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> top) as usize
    }

    #[cold]
    fn grow(&mut self) {
        let twice = vec![None; self.buckets.len() * 2];
        for slot in std::mem::replace(&mut self.buckets, twice)
            .into_iter()
            .flatten()
        {
            let at = self.seek(self.id(slot));
            self.buckets[at] = Some(slot);
        }
    }
}
