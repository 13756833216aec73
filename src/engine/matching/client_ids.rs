//! From a participant's own order id to the order: open addressing with a keyed hash and linear
//! probing, 16 bytes an entry, four to a cache line, filled to one half at most. Ids only ever come
//! in until the business day rolls, so there is no removal and there are no tombstones: a finished
//! order's id stays, marked, and is how `too_late_to_cancel` differs from `unknown_order` and why a
//! client's id cannot be used twice in a day. Results never depend on where entries lie.
//!
//! The hash has a secret that a node draws when it starts: without it nobody can choose ids that
//! collide. Where entries lie shows nowhere, so nodes with other secrets agree in everything.

use super::table::Table;
use crate::memory::Take;
use crate::prefetch::prefetch;
use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Entry {
    client_order_id: u64,
    participant: u32,
    /// [`EMPTY`], [`FINISHED`], else the order's slot.
    slot: u32,
}

/// Entries of a cache line.
const LINE: u64 = 4;

/// No id: it is neither kept nor found.
pub(super) const NONE: u64 = 0;

const EMPTY: u32 = 0;
const FINISHED: u32 = u32::MAX;

/// What is known of a client order id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Live(u32),
    Finished,
    Unknown,
}

/// The ids of live orders and of those that finished since the day rolled.
pub(super) struct ClientIds {
    entries: Table<Entry, 1>,
    buckets: u32,
    capacity: u32,
    live: u32,
    finished: u32,
    /// Sum over the finished ids of [`fingerprint`]: the same set, the same sum, in any order.
    finished_sum: u128,
    secret: u64,
}

impl ClientIds {
    /// Room for `capacity` ids, live and finished together.
    pub(super) fn new(capacity: u32, secret: u64) -> ClientIds {
        let buckets = (u64::from(capacity) * 2).next_multiple_of(LINE).max(LINE);
        let buckets = u32::try_from(buckets).expect("at most 2^31 client order ids");
        ClientIds {
            entries: Table::new(buckets as usize),
            buckets,
            capacity,
            secret,
            live: 0,
            finished: 0,
            finished_sum: 0,
        }
    }

    pub(super) fn take_memory(&mut self, how: Take) {
        self.entries.take_memory(how);
    }

    pub(super) fn has_room(&self) -> bool {
        self.live + self.finished < self.capacity
    }

    pub(super) fn has_room_for(&self, more: u32) -> bool {
        self.capacity - (self.live + self.finished) >= more
    }

    /// Ids of live orders, ids of finished ones, and the finished ones' sum.
    pub(super) fn totals(&self) -> (u32, u32, u128) {
        (self.live, self.finished, self.finished_sum)
    }

    #[inline]
    pub(super) fn find(&self, participant: u32, client_order_id: u64) -> Known {
        match self.entries[self.seek(participant, client_order_id)].slot {
            EMPTY => Known::Unknown,
            FINISHED => Known::Finished,
            slot => Known::Live(slot),
        }
    }

    /// Asks for the bucket where a lookup starts, where the map outgrows the nearer caches.
    #[inline]
    pub(super) fn touch(&self, participant: u32, client_order_id: u64) {
        if self.live + self.finished > 1 << 14 {
            prefetch(&self.entries[self.home(participant, client_order_id)]);
        }
    }

    /// Adds the id of a live order; it must not be known.
    #[inline]
    pub(super) fn insert(&mut self, participant: u32, client_order_id: u64, slot: u32) {
        if client_order_id == NONE {
            return;
        }
        assert!(self.has_room(), "checked before commit");
        self.put(participant, client_order_id, slot);
        self.live += 1;
    }

    /// Marks the id of a live order as finished.
    #[inline]
    pub(super) fn finish(&mut self, participant: u32, client_order_id: u64) {
        if client_order_id == NONE {
            return;
        }
        let at = self.seek(participant, client_order_id);
        let entry = &mut self.entries[at];
        assert!(
            entry.slot != EMPTY && entry.slot != FINISHED,
            "only the id of a live order finishes"
        );
        entry.slot = FINISHED;
        self.live -= 1;
        self.note_finished(participant, client_order_id);
    }

    /// Adds an id that is finished already: reading a snapshot.
    pub(super) fn insert_finished(&mut self, participant: u32, client_order_id: u64) {
        assert!(self.has_room(), "a snapshot brings its own room");
        self.put(participant, client_order_id, FINISHED);
        self.note_finished(participant, client_order_id);
    }

    /// Forgets every id; the caller puts the live ones back.
    pub(super) fn clear(&mut self) {
        if self.live + self.finished > 0 {
            for bucket in 0..self.buckets {
                self.entries[bucket] = Entry::zeroed();
            }
        }
        self.live = 0;
        self.finished = 0;
        self.finished_sum = 0;
    }

    /// The finished ids, sorted by participant and id.
    pub(super) fn finished(&self) -> Vec<(u32, u64)> {
        let mut ids: Vec<(u32, u64)> = (0..self.buckets)
            .map(|bucket| self.entries[bucket])
            .filter(|entry| entry.slot == FINISHED)
            .map(|entry| (entry.participant, entry.client_order_id))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Every entry can be found, and the totals are theirs.
    pub(super) fn audit(&self) -> Result<(), String> {
        let (mut live, mut finished, mut sum) = (0, 0, 0u128);
        for bucket in 0..self.buckets {
            let entry = self.entries[bucket];
            if entry.slot == EMPTY {
                continue;
            }
            if self.seek(entry.participant, entry.client_order_id) != bucket {
                return Err(format!("client ids: bucket {bucket} is out of reach"));
            }
            if entry.slot == FINISHED {
                finished += 1;
                sum = sum.wrapping_add(fingerprint(entry.participant, entry.client_order_id));
            } else {
                live += 1;
            }
        }
        if (live, finished, sum) != self.totals() {
            return Err(format!(
                "client ids: {live} live and {finished} finished do not add up"
            ));
        }
        Ok(())
    }

    fn put(&mut self, participant: u32, client_order_id: u64, slot: u32) {
        let at = self.seek(participant, client_order_id);
        assert!(self.entries[at].slot == EMPTY, "a client id is used once");
        self.entries[at] = Entry {
            client_order_id,
            participant,
            slot,
        };
    }

    fn note_finished(&mut self, participant: u32, client_order_id: u64) {
        self.finished += 1;
        self.finished_sum = self
            .finished_sum
            .wrapping_add(fingerprint(participant, client_order_id));
    }

    /// The entry of that id, or the empty one where it would go. One half is always empty.
    #[inline]
    fn seek(&self, participant: u32, client_order_id: u64) -> u32 {
        let mut at = self.home(participant, client_order_id);
        loop {
            let entry = &self.entries[at];
            if entry.slot == EMPTY
                || (entry.client_order_id == client_order_id && entry.participant == participant)
            {
                return at;
            }
            at += 1;
            if at == self.buckets {
                at = 0;
            }
        }
    }

    /// Four ids that follow each other share a line: a participant that counts finds its next id
    /// where its last one was.
    #[inline]
    fn home(&self, participant: u32, client_order_id: u64) -> u32 {
        let hash = self.spread(participant, client_order_id / LINE);
        let line = (u128::from(hash) * u128::from(self.buckets / LINE as u32)) >> 64;
        line as u32 * LINE as u32 + (client_order_id % LINE) as u32
    }
}

impl ClientIds {
    /// A folded product with two keys that only the node knows, so that which ids meet is not for
    /// their chooser to say.
    #[inline]
    fn spread(&self, participant: u32, line: u64) -> u64 {
        let key = self.secret ^ 0x9e37_79b9_7f4a_7c15;
        let factor = (self.secret.rotate_left(32) ^ 0xa076_1d64_78bd_642f) | 1;
        let own = u64::from(participant).wrapping_mul(factor);
        let product = u128::from(line ^ own ^ key) * u128::from(factor);
        let folded = (product as u64) ^ (product >> 64) as u64;
        folded.wrapping_mul(0x9fb2_1c65_1e98_df25)
    }
}

/// A folded product: both halves of a 128-bit product, so every input bit reaches the top.
#[inline]
fn mix(participant: u32, client_order_id: u64, key: u64) -> u64 {
    let spread = u64::from(participant).wrapping_mul(0xd1b5_4a32_d192_ed03);
    let product = u128::from(client_order_id ^ spread ^ key) * 0xa076_1d64_78bd_642f;
    let folded = (product as u64) ^ (product >> 64) as u64;
    folded.wrapping_mul(0x9fb2_1c65_1e98_df25)
}

/// 128 bits of an id whose sums stand for a set. Enough against accident, no defence against
/// somebody who builds two sets of the same sum: which ids are finished moves no money.
#[inline]
fn fingerprint(participant: u32, client_order_id: u64) -> u128 {
    let high = mix(participant, client_order_id, 0x8ebc_6af0_9c88_c6e3);
    let low = mix(participant, client_order_id, 0x5899_65cc_7537_4cc3);
    u128::from(high) << 64 | u128::from(low)
}
