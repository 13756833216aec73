//! What waits for time: one heap over all rooms, so that the engine knows with one look whether
//! anything is due, and everything comes due in one order: earliest first, then in the order in
//! which it was put in.
//!
//! An entry's slot stays the same until it is removed, so a row keeps the slot of its own deadline
//! and takes it out again in O(log n) when it no longer waits.

use super::index::Handle;
use crate::memory::Take;
use crate::protocol::command::DayPhase;
use crate::protocol::units::Timestamp;
use bytemuck::{Pod, Zeroable};

/// Slot of a deadline: what a row keeps to take it out again.
pub(super) type DeadlineSlot = u32;

/// The slot of a row that waits for no time.
pub(super) const NO_DEADLINE: DeadlineSlot = u32::MAX;

/// Children per node: a shallow heap whose siblings share cache lines.
const ARITY: usize = 4;
const END: u32 = u32::MAX;

/// What comes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A pending transfer times out.
    Transfer(Handle),
    /// An authorisation lapses.
    Authorisation(Handle),
    /// An order's time is over; its slot.
    Order(Handle),
    /// A payment's earliest or latest time has come.
    Payment(Handle),
    /// A group's latest time has come.
    Group(Handle),
    /// Liquidity saving runs by the clock.
    Saving,
    /// A proposal lapses; its number.
    Proposal(u32),
    /// A phase of the business day begins.
    Phase(DayPhase),
}

impl Due {
    fn pack(self) -> (u32, Handle) {
        match self {
            Due::Transfer(handle) => (0, handle),
            Due::Authorisation(handle) => (1, handle),
            Due::Order(slot) => (2, slot),
            Due::Payment(handle) => (3, handle),
            Due::Group(handle) => (4, handle),
            Due::Saving => (5, 0),
            Due::Proposal(id) => (6, id),
            Due::Phase(phase) => (7, phase as u32),
        }
    }

    fn unpack(kind: u32, handle: Handle) -> Due {
        match kind {
            0 => Due::Transfer(handle),
            1 => Due::Authorisation(handle),
            2 => Due::Order(handle),
            3 => Due::Payment(handle),
            4 => Due::Group(handle),
            5 => Due::Saving,
            6 => Due::Proposal(handle),
            7 => Due::Phase(DayPhase::ALL[handle as usize]),
            other => unreachable!("no deadline is of kind {other}"),
        }
    }
}

/// A node of the heap.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Node {
    at: u64,
    /// When it was put in, among all.
    number: u64,
    slot: u32,
    reserved: u32,
}

impl Node {
    fn key(&self) -> (u64, u64) {
        (self.at, self.number)
    }
}

/// What a slot stands for, and where in the heap it is.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct SlotRow {
    /// Place in the heap; of a free slot the next free one.
    place: u32,
    kind: u32,
    owner: Handle,
}

/// All deadlines.
pub(super) struct Deadlines {
    heap: Vec<Node>,
    slots: Vec<SlotRow>,
    free: u32,
    inserted: u64,
}

/// The part of a snapshot that is no table.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct DeadlineHead {
    inserted: u64,
    free: u32,
    reserved: u32,
}

impl Deadlines {
    /// Room for `capacity` deadlines at once: as many as there are rows that can wait.
    pub(super) fn new(capacity: usize) -> Deadlines {
        Deadlines {
            heap: Vec::with_capacity(capacity),
            slots: Vec::with_capacity(capacity),
            free: END,
            inserted: 0,
        }
    }

    pub(super) fn take_memory(&mut self) {
        // Few rows wait for time: their pages come as they are touched.
        crate::memory::take(&mut self.heap, Take::AsTouched);
        crate::memory::take(&mut self.slots, Take::AsTouched);
    }

    /// When the next is due.
    #[inline]
    pub(super) fn first(&self) -> Option<Timestamp> {
        self.heap.first().map(|node| Timestamp(node.at))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// What `slot` stands for, where it is in use.
    pub(super) fn due(&self, slot: DeadlineSlot) -> Option<Due> {
        let row = self.slots.get(slot as usize)?;
        let node = self.heap.get(row.place as usize)?;
        (node.slot == slot).then(|| Due::unpack(row.kind, row.owner))
    }

    /// When the one in `slot` is due.
    pub(super) fn at(&self, slot: DeadlineSlot) -> Timestamp {
        Timestamp(self.heap[self.slots[slot as usize].place as usize].at)
    }

    /// Puts a deadline in.
    pub(super) fn insert(&mut self, at: Timestamp, due: Due) -> DeadlineSlot {
        let (kind, owner) = due.pack();
        let place = self.heap.len() as u32;
        let row = SlotRow { place, kind, owner };
        let slot = self.free;
        let slot = if slot == END {
            self.slots.push(row);
            self.slots.len() as u32 - 1
        } else {
            self.free = self.slots[slot as usize].place;
            self.slots[slot as usize] = row;
            slot
        };
        self.inserted += 1;
        self.heap.push(Node {
            at: at.0,
            number: self.inserted,
            slot,
            reserved: 0,
        });
        self.rise(place as usize);
        slot
    }

    /// Takes a deadline out.
    pub(super) fn remove(&mut self, slot: DeadlineSlot) {
        let row = &mut self.slots[slot as usize];
        let place = row.place as usize;
        *row = SlotRow {
            place: self.free,
            ..SlotRow::zeroed()
        };
        self.free = slot;
        let last = self.heap.pop().expect("the slot is in the heap");
        if place < self.heap.len() {
            self.put(place, last);
            self.sink(place);
            self.rise(place);
        }
    }

    /// Tells a deadline that its row has moved.
    pub(super) fn set_owner(&mut self, slot: DeadlineSlot, owner: Handle) {
        self.slots[slot as usize].owner = owner;
    }

    /// Takes out the first that is due by `now`.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<Due> {
        let node = self.heap.first().filter(|node| node.at <= now.0)?;
        let slot = node.slot;
        let row = self.slots[slot as usize];
        self.remove(slot);
        Some(Due::unpack(row.kind, row.owner))
    }

    fn put(&mut self, place: usize, node: Node) {
        self.heap[place] = node;
        self.slots[node.slot as usize].place = place as u32;
    }

    fn rise(&mut self, mut place: usize) {
        let node = self.heap[place];
        while place > 0 {
            let above = (place - 1) / ARITY;
            if self.heap[above].key() <= node.key() {
                break;
            }
            self.put(place, self.heap[above]);
            place = above;
        }
        self.put(place, node);
    }

    fn sink(&mut self, mut place: usize) {
        let node = self.heap[place];
        loop {
            let children = place * ARITY + 1..(place * ARITY + 1 + ARITY).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child].key()) else {
                break;
            };
            if node.key() <= self.heap[least].key() {
                break;
            }
            self.put(place, self.heap[least]);
            place = least;
        }
        self.put(place, node);
    }

    /// Everything as it lies, for snapshot and digest.
    pub(super) fn tables(&self) -> ([DeadlineHead; 1], &[Node], &[SlotRow]) {
        let head = DeadlineHead {
            inserted: self.inserted,
            free: self.free,
            reserved: 0,
        };
        ([head], &self.heap, &self.slots)
    }

    /// Rebuilds the heap from what [`Deadlines::tables`] gave, with room for `capacity`.
    pub(super) fn restore(
        head: DeadlineHead,
        heap: Vec<Node>,
        slots: Vec<SlotRow>,
        capacity: usize,
    ) -> Deadlines {
        let mut deadlines = Deadlines::new(capacity);
        deadlines.heap.extend(heap);
        deadlines.slots.extend(slots);
        deadlines.free = head.free;
        deadlines.inserted = head.inserted;
        deadlines
    }

    /// The heap is one, every slot is in it or free, and every slot knows its place.
    pub(super) fn audit(&self) -> Result<(), String> {
        for (place, node) in self.heap.iter().enumerate() {
            if place > 0 && self.heap[(place - 1) / ARITY].key() >= node.key() {
                return Err(format!(
                    "deadline at place {place}: earlier than its parent"
                ));
            }
            if self.slots[node.slot as usize].place as usize != place {
                return Err(format!(
                    "deadline at place {place}: its slot points elsewhere"
                ));
            }
        }
        let mut free = 0;
        let mut slot = self.free;
        while slot != END && free <= self.slots.len() {
            free += 1;
            slot = self.slots[slot as usize].place;
        }
        if free + self.heap.len() != self.slots.len() {
            return Err(format!(
                "{} deadlines and {free} free slots do not make {}",
                self.heap.len(),
                self.slots.len()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use std::collections::BTreeMap;

    #[test]
    fn deadlines_come_due_earliest_first_then_in_order_of_entry() {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(7);
        let mut deadlines = Deadlines::new(16);
        let mut model: BTreeMap<(u64, u64), (DeadlineSlot, Handle)> = BTreeMap::new();
        let mut number = 0;
        for step in 0..20_000u32 {
            match rng.random_range(0..3) {
                0 | 1 => {
                    let at = rng.random_range(0..500);
                    let slot = deadlines.insert(Timestamp(at), Due::Transfer(step));
                    number += 1;
                    model.insert((at, number), (slot, step));
                }
                _ if rng.random_bool(0.5) => {
                    let nth = rng.random_range(0..model.len().max(1));
                    if let Some((&key, &(slot, _))) = model.iter().nth(nth) {
                        assert_eq!(deadlines.at(slot), Timestamp(key.0));
                        deadlines.remove(slot);
                        model.remove(&key);
                    }
                }
                _ => {
                    let now = rng.random_range(0..300);
                    let expected = model.first_key_value().filter(|(key, _)| key.0 <= now);
                    let expected = expected.map(|(key, (_, owner))| (*key, *owner));
                    let due = deadlines.pop_due(Timestamp(now));
                    assert_eq!(due, expected.map(|(_, owner)| Due::Transfer(owner)));
                    if let Some((key, _)) = expected {
                        model.remove(&key);
                    }
                }
            }
            deadlines.audit().unwrap();
            let first = model.first_key_value().map(|(key, _)| Timestamp(key.0));
            assert_eq!(deadlines.first(), first);
        }
        let (head, heap, slots) = deadlines.tables();
        let mut again = Deadlines::restore(head[0], heap.to_vec(), slots.to_vec(), 16);
        while let Some(due) = deadlines.pop_due(Timestamp(u64::MAX)) {
            assert_eq!(again.pop_due(Timestamp(u64::MAX)), Some(due));
        }
        assert_eq!(again.first(), None);
    }
}
