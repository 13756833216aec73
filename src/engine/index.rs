//! From outside ids to dense handles: open addressing with a fixed hash, linear probing and
//! backward-shift removal. An entry is 8 bytes, 32 bits of the hash beside the handle, so a probe
//! that misses rarely touches a row, and the home bucket of an entry is known without its key.
//! Results never depend on where entries lie, and nothing iterates over them.

use crate::memory::Take;

/// Handle of a row: its place in its table.
pub(super) type Handle = u32;

const EMPTY: u64 = 0;

/// Where a lookup that found nothing ended: a free bucket for its key, until the index changes.
pub(super) struct Free(usize);

/// An index over the rows of one table, sized once.
pub(super) struct Index {
    /// `hash << 32 | handle + 1`; 0 is empty.
    entries: Vec<u64>,
    len: u32,
    capacity: u32,
}

impl Index {
    /// An index for at most `capacity` rows, at a load of at most one half.
    pub(super) fn new(capacity: u32) -> Index {
        let buckets = u64::from(capacity.max(8)) * 2;
        assert!(buckets <= 1 << 32, "an index has at most 2^32 buckets");
        Index {
            // Zeroed memory comes untouched from the system.
            entries: vec![EMPTY; buckets as usize],
            len: 0,
            capacity,
        }
    }

    /// The same at a load of at most two thirds: for what is looked up seldom and there are many of.
    pub(super) fn dense(capacity: u32) -> Index {
        let buckets = u64::from(capacity.max(8)) * 3 / 2;
        assert!(buckets < 1 << 32, "an index has at most 2^32 buckets");
        Index {
            entries: vec![EMPTY; buckets as usize],
            len: 0,
            capacity,
        }
    }

    /// Takes its memory for good.
    pub(super) fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.entries, how);
    }

    /// Whether another row can be added.
    pub(super) fn has_room(&self) -> bool {
        self.len < self.capacity
    }

    /// The handle under `hash` for which `is_key` holds.
    #[inline(always)]
    pub(super) fn find(&self, hash: u32, is_key: impl FnMut(Handle) -> bool) -> Option<Handle> {
        let bucket = self.bucket_of(hash);
        // An id that is new most often finds its bucket empty: that costs no call.
        if self.entries[bucket] == EMPTY {
            return None;
        }
        self.probe(bucket, hash, is_key)
    }

    fn probe(
        &self,
        mut bucket: usize,
        hash: u32,
        mut is_key: impl FnMut(Handle) -> bool,
    ) -> Option<Handle> {
        loop {
            let entry = self.entries[bucket];
            if entry == EMPTY {
                return None;
            }
            if (entry >> 32) as u32 == hash {
                let handle = entry as u32 - 1;
                if is_key(handle) {
                    return Some(handle);
                }
            }
            bucket = self.next(bucket);
        }
    }

    /// The handle under `hash` for which `is_key` holds, or else the bucket that is free for it: who
    /// checks that a key is new and then adds it probes once.
    #[inline(always)]
    pub(super) fn find_or_free(
        &self,
        hash: u32,
        mut is_key: impl FnMut(Handle) -> bool,
    ) -> Result<Handle, Free> {
        let mut bucket = self.bucket_of(hash);
        loop {
            let entry = self.entries[bucket];
            if entry == EMPTY {
                return Err(Free(bucket));
            }
            if (entry >> 32) as u32 == hash {
                let handle = entry as u32 - 1;
                if is_key(handle) {
                    return Ok(handle);
                }
            }
            bucket = self.next(bucket);
        }
    }

    /// The first handle under `hash`, its key unchecked: a hint to warm the caches with. At a load
    /// of one half every third key lies behind its home bucket, so the hint probes like a lookup.
    #[inline]
    pub(super) fn peek(&self, hash: u32) -> Option<Handle> {
        self.find(hash, |_| true)
    }

    /// The bucket a lookup starts with, to warm the caches with.
    #[inline]
    pub(super) fn bucket(&self, hash: u32) -> &u64 {
        &self.entries[self.bucket_of(hash)]
    }

    /// Adds `handle` under `hash`; the key must not be there yet.
    ///
    /// # Panics
    /// When the index is full: callers check [`Index::has_room`] before they commit.
    #[inline(always)]
    pub(super) fn insert(&mut self, hash: u32, handle: Handle) {
        assert!(self.has_room(), "checked before commit");
        let mut bucket = self.bucket_of(hash);
        while self.entries[bucket] != EMPTY {
            bucket = self.next(bucket);
        }
        self.entries[bucket] = u64::from(hash) << 32 | u64::from(handle + 1);
        self.len += 1;
    }

    /// As [`Index::insert`], in the bucket that [`Index::find_or_free`] found for the key.
    ///
    /// # Panics
    /// When the index is full, and where the bucket was taken meanwhile.
    #[inline(always)]
    pub(super) fn insert_in(&mut self, free: Free, hash: u32, handle: Handle) {
        assert!(self.has_room(), "checked before commit");
        let entry = &mut self.entries[free.0];
        assert!(*entry == EMPTY, "nothing came between lookup and insert");
        *entry = u64::from(hash) << 32 | u64::from(handle + 1);
        self.len += 1;
    }

    /// Takes `handle` out from under `hash`.
    ///
    /// # Panics
    /// Where it is not there: the index would have lost count.
    pub(super) fn remove(&mut self, hash: u32, handle: Handle) {
        let wanted = u64::from(hash) << 32 | u64::from(handle + 1);
        let mut hole = self.bucket_of(hash);
        while self.entries[hole] != wanted {
            assert!(self.entries[hole] != EMPTY, "removed what is there");
            hole = self.next(hole);
        }
        // What was pushed past the hole moves back into it, so that no probe ends too early.
        let mut bucket = hole;
        loop {
            bucket = self.next(bucket);
            let entry = self.entries[bucket];
            if entry == EMPTY {
                break;
            }
            let home = self.bucket_of((entry >> 32) as u32);
            if self.distance(home, bucket) >= self.distance(hole, bucket) {
                self.entries[hole] = entry;
                hole = bucket;
            }
        }
        self.entries[hole] = EMPTY;
        self.len -= 1;
    }

    /// Rows in it.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Puts `to` in the place of `from`, which is there under `hash`.
    ///
    /// # Panics
    /// Where it is not there.
    pub(super) fn replace(&mut self, hash: u32, from: Handle, to: Handle) {
        let wanted = u64::from(hash) << 32 | u64::from(from + 1);
        let mut bucket = self.bucket_of(hash);
        while self.entries[bucket] != wanted {
            assert!(self.entries[bucket] != EMPTY, "replaced what is there");
            bucket = self.next(bucket);
        }
        self.entries[bucket] = u64::from(hash) << 32 | u64::from(to + 1);
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) {
        self.entries.fill(EMPTY);
        self.len = 0;
    }

    /// The bucket of a hash is where it lies among all hashes, whatever their number: an index takes
    /// 16 bytes a row, and not up to 32 as with a power of two.
    #[inline]
    fn bucket_of(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.entries.len() as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.entries.len() {
            0
        } else {
            bucket + 1
        }
    }

    /// Buckets from one to another, going forward.
    #[inline]
    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.entries.len() - from
        }
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(self.entries.as_slice()) as u64
    }
}

/// Hash of a 64-bit id: the high half of a folded product (fixed odd constants, so the same on
/// every machine).
#[inline]
pub(super) fn hash_64(id: u64) -> u32 {
    hash_128(u128::from(id))
}

/// Hash of a 128-bit id.
#[inline]
pub(super) fn hash_128(id: u128) -> u32 {
    let low = (id as u64) ^ 0x9e37_79b9_7f4a_7c15;
    let high = ((id >> 64) as u64) ^ 0xd1b5_4a32_d192_ed03;
    let product = u128::from(low) * u128::from(high.rotate_left(32) | 1);
    let folded = (product as u64) ^ ((product >> 64) as u64);
    (folded.wrapping_mul(0x9fb2_1c65_1e98_df25) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_found_among_a_million_and_no_other() {
        let count = 1 << 17;
        let mut index = Index::new(count);
        let id_of = |n: u32| u64::from(n) * 1_000_003;
        for n in 0..count {
            index.insert(hash_64(id_of(n)), n);
        }
        assert!(!index.has_room());
        for n in 0..count {
            let found = index.find(hash_64(id_of(n)), |handle| id_of(handle) == id_of(n));
            assert_eq!(found, Some(n));
            let absent = id_of(n) + 1;
            assert_eq!(
                index.find(hash_64(absent), |handle| id_of(handle) == absent),
                None
            );
        }
    }

    #[test]
    fn removal_leaves_every_other_row_findable() {
        let count = 1 << 12;
        // Few hashes, so that long runs form and wrap around the end.
        let hash_of = |n: u32| (n % 97).wrapping_mul(0xfff0_0001);
        let mut index = Index::new(count);
        for n in 0..count {
            index.insert(hash_of(n), n);
        }
        for n in (0..count).step_by(3) {
            index.remove(hash_of(n), n);
        }
        for n in 0..count {
            let found = index.find(hash_of(n), |handle| handle == n);
            assert_eq!(found, (n % 3 != 0).then_some(n));
        }
        assert_eq!(index.len(), count - count.div_ceil(3));
    }

    #[test]
    fn sequential_ids_spread() {
        // Dense ids are what operators hand out; their probes must stay short.
        for shift in [0, 20, 64, 100] {
            let mut index = Index::new(1 << 16);
            let mut probes = 0u64;
            for n in 0..1u32 << 16 {
                let hash = hash_128(u128::from(n) << shift);
                let mut bucket = index.bucket_of(hash);
                while index.entries[bucket] != EMPTY {
                    bucket = index.next(bucket);
                    probes += 1;
                }
                index.insert(hash, n);
            }
            assert!(probes < 1 << 16, "{probes} extra probes at shift {shift}");
        }
    }
}
