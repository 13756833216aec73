//! Greedy bypass (in the manner of Guentzer, Jungnickel and Leclerc): everything in; while an
//! account lacks something, the one that lacks most drops the smallest normal payment that cures
//! it, or else its largest; then what was dropped comes back in order wherever its debtor can bear
//! it now. Only normal payments are chosen freely: urgent and high ones leave from the end and come
//! back from the front, and no normal one settles while such a payment of its account is left.
//!
//! The outcome can be worse than that of gridlock resolution, so that runs first and the better of
//! the two settles. Groups take no part here.
//!
//! Work is O(P log P): dropping asks a set of positions by amount for the next that is in, coming
//! back asks a tree of minima for the first that fits.

use super::bits::Bits;
use super::netting::{Entry, Means, Netting};
use super::payment::NONE;
use super::queue::Payments;
use crate::engine::index::Handle;
use crate::protocol::command::Priority;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const NORMAL: u8 = Priority::Normal as u8;

impl Netting {
    /// Finds the better of what gridlock resolution and greedy bypass can settle, by value.
    pub(in crate::engine) fn greedy(&mut self, payments: &Payments, means: &impl Means) {
        self.gridlock(payments, means);
        std::mem::swap(&mut self.settle, &mut self.by_order);
        let value_by_order = self.value_in();
        self.gather(payments, means);
        let chosen = Greedy::new(self, payments).choose();
        let value: i128 = members(&chosen)
            .map(|entry| self.entries[entry as usize].amount())
            .sum();
        if value > value_by_order {
            self.settle.reserve_exact(members(&chosen).count());
            let chosen = members(&chosen).map(|entry| self.entries[entry as usize].payment);
            self.settle.extend(chosen);
        } else {
            std::mem::swap(&mut self.settle, &mut self.by_order);
        }
        self.by_order = Vec::new();
    }
}

/// One run.
struct Greedy<'a> {
    netting: &'a mut Netting,
    payments: &'a Payments,
    accounts: Vec<Handle>,
    /// Per place: where its normal payments begin, and whether what comes before can all settle.
    normal: Vec<(u32, bool)>,
    is_in: Bits,
    /// Per place, its normal entries by amount; of equal ones the latest first.
    by_amount: Vec<u32>,
    /// Positions in `by_amount` whose entry is in, and those that are of no normal one.
    positions: Bits,
    minima: Minima,
}

impl<'a> Greedy<'a> {
    fn new(netting: &'a mut Netting, payments: &'a Payments) -> Greedy<'a> {
        let count = netting.entries.len();
        let accounts = payments.desks().iter().map(|desk| desk.account).collect();
        let mut greedy = Greedy {
            normal: Vec::with_capacity(netting.places.len()),
            is_in: Bits::new(count, false),
            by_amount: (0..count as u32).collect(),
            positions: Bits::new(count, true),
            minima: Minima::new(count),
            netting,
            payments,
            accounts,
        };
        greedy.take_in();
        greedy
    }

    /// Takes everything in but groups, and what waits behind an urgent or high leg.
    fn take_in(&mut self) {
        for at in 0..self.netting.places.len() {
            let (start, stop) = (self.netting.places[at].start, self.netting.places[at].stop);
            let entries = &self.netting.entries;
            let range = start as usize..stop as usize;
            let normal = start
                + entries[range.clone()].partition_point(|entry| entry.class() < NORMAL) as u32;
            let leg = (start..normal).find(|entry| self.netting.group(*entry) != NONE);
            let end = leg.unwrap_or(normal);
            self.normal.push((normal, leg.is_none()));
            let amounts = &mut self.by_amount[normal as usize..stop as usize];
            amounts
                .sort_unstable_by_key(|entry| (entries[*entry as usize].amount(), Reverse(*entry)));
            self.netting.places[at].end = end;
            for entry in start..end {
                self.netting.include(at as u32, entry);
                self.is_in.insert(entry);
            }
            for position in normal..stop {
                let entry = self.by_amount[position as usize];
                if leg.is_none() && self.netting.group(entry) == NONE {
                    self.netting.include(at as u32, entry);
                    self.is_in.insert(entry);
                } else {
                    self.positions.remove(position);
                }
            }
        }
    }

    /// The entries that settle.
    fn choose(mut self) -> Bits {
        self.drop_until_borne();
        self.bring_back();
        let bytes = self.is_in.bytes()
            + self.positions.bytes()
            + size_of_val(self.by_amount.as_slice()) as u64
            + self.minima.bytes();
        self.netting.note_peak(bytes);
        self.is_in
    }

    fn drop_until_borne(&mut self) {
        let mut worst: BinaryHeap<(i128, Reverse<Handle>, u32)> = BinaryHeap::new();
        let listed = |greedy: &Greedy<'_>, at: u32| {
            let place = &greedy.netting.places[at as usize];
            let lacks = if place.counts == [0; 3] {
                0
            } else {
                place.lacks()
            };
            place
                .is_broken()
                .then(|| (lacks.max(0), Reverse(greedy.accounts[at as usize]), at))
        };
        worst.extend((0..self.accounts.len() as u32).filter_map(|at| listed(self, at)));
        while let Some(noted) = worst.pop() {
            let at = noted.2;
            match listed(self, at) {
                // What was noted is out of date: what holds now was noted, too.
                Some(now) if now != noted => continue,
                None => continue,
                Some(_) => {}
            }
            let entry = self.drop_one(at, noted.0);
            let creditor = self.netting.entries[entry as usize].creditor();
            worst.extend(listed(self, at));
            if creditor != NONE {
                worst.extend(listed(self, creditor));
            }
        }
    }

    /// Drops the payment that serves an account best: the smallest normal one that cures what it
    /// lacks, else the largest; without normal ones, the last.
    fn drop_one(&mut self, at: u32, lacks: i128) -> u32 {
        let entry = if self.netting.places[at as usize].counts[NORMAL as usize] == 0 {
            self.netting.places[at as usize].end -= 1;
            self.netting.places[at as usize].end
        } else if lacks > 0 {
            self.cure(at, lacks)
        } else {
            self.cure_limit(at)
        };
        self.netting.exclude(at, entry);
        self.is_in.remove(entry);
        entry
    }

    /// The smallest normal payment in of at least `lacks`, else the largest; of equals the latest.
    fn cure(&mut self, at: u32, lacks: i128) -> u32 {
        let (normal, stop) = (
            self.normal[at as usize].0,
            self.netting.places[at as usize].stop,
        );
        let amount = |greedy: &Greedy<'_>, position: u32| {
            let entry = greedy.by_amount[position as usize];
            greedy.netting.entries[entry as usize].amount()
        };
        let first_of = |greedy: &Greedy<'_>, least: i128| {
            let positions = &greedy.by_amount[normal as usize..stop as usize];
            let below = positions
                .partition_point(|entry| greedy.netting.entries[*entry as usize].amount() < least);
            normal + below as u32
        };
        let cure = self.positions.next(first_of(self, lacks));
        let position = cure.filter(|position| *position < stop).or_else(|| {
            // None cures it: the largest, of equals the latest.
            let top = self.positions.last(stop - 1)?;
            self.positions.next(first_of(self, amount(self, top)))
        });
        let position = position.expect("a normal payment is in");
        self.positions.remove(position);
        self.by_amount[position as usize]
    }

    /// The normal payment whose going cures a broken limit best.
    fn cure_limit(&mut self, at: u32) -> u32 {
        let (normal, stop) = (
            self.normal[at as usize].0,
            self.netting.places[at as usize].stop,
        );
        let bound = (normal..stop).filter(|entry| self.is_in.contains(*entry));
        let bound = bound.map(|entry| {
            let amount = self.netting.entries[entry as usize].amount();
            (amount, entry, self.netting.limit_excess(entry))
        });
        let bound: Vec<_> = bound.filter(|(_, _, excess)| *excess > 0).collect();
        let cure = bound.iter().filter(|(amount, _, excess)| amount >= excess);
        let best = cure.min_by_key(|(amount, entry, _)| (*amount, Reverse(*entry)));
        let best = best.or_else(|| {
            bound
                .iter()
                .max_by_key(|(amount, entry, _)| (*amount, *entry))
        });
        let entry = best.expect("a broken limit bounds a payment that is in").1;
        let positions = &self.by_amount[normal as usize..stop as usize];
        let position = positions.iter().position(|other| *other == entry);
        let position = normal + position.expect("every normal entry has a position") as u32;
        self.positions.remove(position);
        entry
    }

    /// Brings dropped payments back in order of class and age, as long as one fits.
    fn bring_back(&mut self) {
        for at in 0..self.accounts.len() {
            let (normal, _) = self.normal[at];
            for entry in normal..self.netting.places[at].stop {
                if !self.is_in.contains(entry) && self.netting.group(entry) == NONE {
                    self.minima.add(entry);
                }
            }
        }
        self.minima.build(&self.netting.entries);
        let mut candidates = BinaryHeap::new();
        for at in 0..self.accounts.len() as u32 {
            candidates.extend(self.candidate(at));
        }
        while let Some(noted) = candidates.pop() {
            let Reverse((class, _, entry, at)) = noted;
            if self.candidate(at) != Some(noted) {
                continue;
            }
            self.netting.include(at, entry);
            self.is_in.insert(entry);
            if class == NORMAL {
                self.minima.take(&self.netting.entries, entry);
            } else {
                self.netting.places[at as usize].end += 1;
            }
            candidates.extend(self.candidate(at));
            let creditor = self.netting.entries[entry as usize].creditor();
            if creditor != NONE {
                candidates.extend(self.candidate(creditor));
            }
        }
    }

    /// The first dropped payment of an account that it can bear now.
    fn candidate(&mut self, at: u32) -> Option<Reverse<(u8, i64, u32, u32)>> {
        let place = self.netting.places[at as usize];
        let (normal, is_free) = self.normal[at as usize];
        let entry = if place.end < normal {
            let next = place.end;
            (self.netting.group(next) == NONE && self.bears(at, next)).then_some(next)
        } else if !is_free {
            None
        } else {
            let mut from = normal;
            loop {
                let spare = self.netting.spare(at);
                let fits = self.minima.first_within(&self.netting.entries, from, spare);
                match fits.filter(|entry| *entry < place.stop) {
                    // A limit may stand in the way of the first that there is money for.
                    Some(entry) if !self.bears(at, entry) => from = entry + 1,
                    fits => break fits,
                }
            }
        }?;
        let row = self.netting.entries[entry as usize];
        let key = self.payments.row(row.payment).order_key;
        Some(Reverse((row.class(), key, entry, at)))
    }

    /// Whether an account could bear one payment more.
    fn bears(&mut self, at: u32, entry: u32) -> bool {
        self.netting.include(at, entry);
        let bears = !self.netting.places[at as usize].is_broken();
        self.netting.exclude(at, entry);
        bears
    }
}

fn members(set: &Bits) -> impl Iterator<Item = u32> + '_ {
    std::iter::successors(set.next(0), |member| set.next(member + 1))
}

/// Which entries are out, and a tree of minima over blocks of them: finds the first of many amounts
/// that is small enough.
struct Minima {
    /// A word a block.
    out: Vec<u64>,
    leaves: usize,
    /// Node n has the children 2n and 2n + 1; the leaves, a block each, come last.
    nodes: Vec<i128>,
}

const BLOCK: u32 = u64::BITS;

impl Minima {
    fn new(count: usize) -> Minima {
        let blocks = count.div_ceil(BLOCK as usize).max(1);
        let leaves = blocks.next_power_of_two();
        Minima {
            out: vec![0; blocks],
            leaves,
            nodes: vec![i128::MAX; leaves * 2],
        }
    }

    fn bytes(&self) -> u64 {
        (size_of_val(self.out.as_slice()) + size_of_val(self.nodes.as_slice())) as u64
    }

    /// Notes an entry as out; [`Minima::build`] follows.
    fn add(&mut self, entry: u32) {
        self.out[(entry / BLOCK) as usize] |= 1 << (entry % BLOCK);
    }

    fn build(&mut self, entries: &[Entry]) {
        for block in 0..self.out.len() {
            self.nodes[self.leaves + block] = self.least(entries, block);
        }
        for node in (1..self.leaves).rev() {
            self.nodes[node] = self.nodes[node * 2].min(self.nodes[node * 2 + 1]);
        }
    }

    /// An entry is out no more.
    fn take(&mut self, entries: &[Entry], entry: u32) {
        let block = (entry / BLOCK) as usize;
        self.out[block] &= !(1 << (entry % BLOCK));
        let mut node = self.leaves + block;
        self.nodes[node] = self.least(entries, block);
        while node > 1 {
            node /= 2;
            let least = self.nodes[node * 2].min(self.nodes[node * 2 + 1]);
            if std::mem::replace(&mut self.nodes[node], least) == least {
                return;
            }
        }
    }

    /// The least amount of a block that is out.
    fn least(&self, entries: &[Entry], block: usize) -> i128 {
        let amounts = self
            .out_of(block, 0)
            .map(|at| entries[at as usize].amount());
        amounts.min().unwrap_or(i128::MAX)
    }

    /// Entries of a block from its place `from` on that are out.
    fn out_of(&self, block: usize, from: u32) -> impl Iterator<Item = u32> + use<> {
        let mut bits = self.out[block] & (u64::MAX << from);
        std::iter::from_fn(move || {
            let bit = (bits != 0).then(|| bits.trailing_zeros())?;
            bits &= bits - 1;
            Some(block as u32 * BLOCK + bit)
        })
    }

    /// The first entry from `from` on that is out and whose amount is at most `most`.
    fn first_within(&self, entries: &[Entry], from: u32, most: i128) -> Option<u32> {
        let block = (from / BLOCK) as usize;
        if block >= self.out.len() {
            return None;
        }
        let fits = |at: &u32| entries[*at as usize].amount() <= most;
        let found = self.out_of(block, from % BLOCK).find(fits);
        if found.is_some() {
            return found;
        }
        let block = self.block_within(block + 1, most)?;
        self.out_of(block, 0).find(fits)
    }

    /// The first block from `from` on of which an entry fits.
    fn block_within(&self, from: usize, most: i128) -> Option<usize> {
        if from >= self.leaves {
            return None;
        }
        let mut node = self.leaves + from;
        // Up until a subtree to the right holds one ...
        while self.nodes[node] > most || self.nodes[node] == i128::MAX {
            while node % 2 == 1 {
                node /= 2;
            }
            if node == 0 {
                return None;
            }
            node += 1;
        }
        // ... and down to the first in it.
        while node < self.leaves {
            node *= 2;
            if self.nodes[node] > most {
                node += 1;
            }
        }
        Some(node - self.leaves)
    }
}
