//! From the benchmark's order ids to the orders that rest: a hash table of chains through one row an
//! order, newest first, grown with what rests. It holds no order that is done, so it stays as small
//! as the book: a table with a place for every id is eight megabytes read and written in no order.
//! Nothing depends on which ids meet: an order joins at the head of its chain, and most that leave
//! are found there.

use millrace::engine::matching::Slot;

/// Chains at first, and never fewer.
const CHAINS: usize = 1 << 12;
/// The end of a chain: slot 0 is never handed out.
const NONE: u32 = 0;

/// An order that rests.
#[derive(Clone, Copy)]
struct Row {
    id: u64,
    slot: Option<Slot>,
    /// The next row of the chain.
    older: u32,
}

/// The orders that rest, by the benchmark's id.
pub struct Resting {
    /// The newest row of each chain.
    chains: Vec<u32>,
    /// By the row of the order.
    rows: Vec<Row>,
    count: usize,
}

impl Resting {
    /// None so far; rows below `rows`.
    pub fn new(rows: usize) -> Resting {
        let none = Row {
            id: 0,
            slot: None,
            older: NONE,
        };
        Resting {
            chains: vec![NONE; CHAINS],
            rows: crate::session::table(none, rows),
            count: 0,
        }
    }

    /// The order with that id; of several the newest.
    #[inline(always)]
    pub fn find(&self, id: u64) -> Option<Slot> {
        let mut at = self.chains[self.home(id)];
        while at != NONE {
            let row = &self.rows[at as usize];
            if row.id == id {
                return row.slot;
            }
            at = row.older;
        }
        None
    }

    /// The id of an order that rests.
    #[inline(always)]
    pub fn id(&self, slot: Slot) -> u64 {
        self.rows[slot.row() as usize].id
    }

    /// Remembers an order.
    #[inline(always)]
    pub fn insert(&mut self, id: u64, slot: Slot) {
        let home = self.home(id);
        let older = std::mem::replace(&mut self.chains[home], slot.row());
        let slot_of = Some(slot);
        self.rows[slot.row() as usize] = Row {
            id,
            slot: slot_of,
            older,
        };
        self.count += 1;
        if self.count > self.chains.len() {
            self.grow();
        }
    }

    /// Forgets an order that rests.
    #[inline(always)]
    pub fn remove(&mut self, slot: Slot) {
        let Row { id, older, .. } = self.rows[slot.row() as usize];
        let home = self.home(id);
        let newest = &mut self.chains[home];
        if *newest == slot.row() {
            *newest = older;
        } else {
            let newest = *newest;
            self.remove_behind(newest, slot);
        }
        self.count -= 1;
    }

    #[inline(never)]
    fn remove_behind(&mut self, mut at: u32, slot: Slot) {
        while self.rows[at as usize].older != slot.row() {
            at = self.rows[at as usize].older;
        }
        self.rows[at as usize].older = self.rows[slot.row() as usize].older;
    }

    /// The chain of an id: the top bits of a product, as many as tell the chains.
    #[inline(always)]
    fn home(&self, id: u64) -> usize {
        let top = u64::BITS - self.chains.len().trailing_zeros();
        (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> top) as usize
    }

    /// Twice the chains. Those of two chains that were one keep their order.
    #[cold]
    fn grow(&mut self) {
        let twice = vec![NONE; self.chains.len() * 2];
        let chains = std::mem::replace(&mut self.chains, twice);
        let mut oldest = vec![NONE; self.chains.len()];
        for mut at in chains {
            while at != NONE {
                let Row { id, older, .. } = self.rows[at as usize];
                let home = self.home(id);
                match std::mem::replace(&mut oldest[home], at) {
                    NONE => self.chains[home] = at,
                    newer => self.rows[newer as usize].older = at,
                }
                self.rows[at as usize].older = NONE;
                at = older;
            }
        }
    }
}
