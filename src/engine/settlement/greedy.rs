//! Greedy bypass (in the manner of Guentzer, Jungnickel and Leclerc): everything in; while an
//! account lacks something, the one that lacks most drops the smallest normal payment that cures
//! it, or else its largest; then what was dropped comes back in order wherever its debtor can bear
//! it now. Only normal payments are chosen freely: urgent and high ones leave from the end and come
//! back from the front, and no normal one settles while such a payment of its account is left.
//!
//! The outcome can be worse than that of gridlock resolution, so that runs first and the better of
//! the two settles. Groups take no part here.
//!
//! Work is O(P log P): dropping walks amounts in order with skips over what is gone, coming back
//! asks a tree of minima for the first that fits.

use super::netting::{Means, Netting};
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
        let by_order = std::mem::take(&mut self.settle);
        let value_by_order = self.value_in();
        self.gather(payments, means);
        let chosen = Greedy::new(self, payments).choose();
        let value: i128 = chosen
            .iter()
            .map(|entry| self.entries[*entry as usize].amount)
            .sum();
        if value > value_by_order {
            let chosen = chosen
                .iter()
                .map(|entry| self.entries[*entry as usize].payment);
            self.settle.extend(chosen);
        } else {
            self.settle = by_order;
        }
    }
}

/// One run.
struct Greedy<'a> {
    netting: &'a mut Netting,
    payments: &'a Payments,
    accounts: Vec<Handle>,
    /// Per place: where its normal payments begin, and whether what comes before can all settle.
    normal: Vec<(u32, bool)>,
    is_in: Vec<bool>,
    /// Per place, its normal entries by amount; of equal ones the latest first.
    by_amount: Vec<u32>,
    /// Per position in `by_amount`: the next at or behind it that is in, found by following.
    up: Vec<u32>,
    /// Per place: no position behind this one holds an entry that is in.
    tops: Vec<u32>,
    minima: Minima,
}

impl<'a> Greedy<'a> {
    fn new(netting: &'a mut Netting, payments: &'a Payments) -> Greedy<'a> {
        let count = netting.entries.len();
        let accounts = payments.desks().iter().map(|desk| desk.account).collect();
        let mut greedy = Greedy {
            normal: Vec::with_capacity(netting.places.len()),
            is_in: vec![false; count],
            by_amount: (0..count as u32).collect(),
            up: (0..=count as u32).collect(),
            tops: netting
                .places
                .iter()
                .map(|place| place.stop.saturating_sub(1))
                .collect(),
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
            let normal =
                start + entries[range.clone()].partition_point(|entry| entry.class < NORMAL) as u32;
            let ordered = &entries[start as usize..normal as usize];
            let leg = ordered.iter().position(|entry| entry.group != NONE);
            let end = leg.map_or(normal, |leg| start + leg as u32);
            self.normal.push((normal, leg.is_none()));
            let amounts = &mut self.by_amount[normal as usize..stop as usize];
            amounts
                .sort_unstable_by_key(|entry| (entries[*entry as usize].amount, Reverse(*entry)));
            self.netting.places[at].end = end;
            for entry in start..end {
                self.netting.include(at as u32, entry);
                self.is_in[entry as usize] = true;
            }
            for position in normal..stop {
                let entry = self.by_amount[position as usize];
                if leg.is_none() && self.netting.entries[entry as usize].group == NONE {
                    self.netting.include(at as u32, entry);
                    self.is_in[entry as usize] = true;
                } else {
                    self.up[position as usize] = position + 1;
                }
            }
        }
    }

    /// The entries that settle.
    fn choose(mut self) -> Vec<u32> {
        self.drop_until_borne();
        self.bring_back();
        let all = 0..self.is_in.len() as u32;
        all.filter(|entry| self.is_in[*entry as usize]).collect()
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
            let creditor = self.netting.entries[entry as usize].creditor;
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
        self.is_in[entry as usize] = false;
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
            greedy.netting.entries[entry as usize].amount
        };
        let first_of = |greedy: &Greedy<'_>, least: i128| {
            let positions = &greedy.by_amount[normal as usize..stop as usize];
            let below = positions
                .partition_point(|entry| greedy.netting.entries[*entry as usize].amount < least);
            normal + below as u32
        };
        let mut position = self.follow(first_of(self, lacks));
        if position >= stop {
            // None cures it: the largest. Those behind it are gone for good.
            let mut top = self.tops[at as usize];
            while !self.is_in[self.by_amount[top as usize] as usize] {
                top -= 1;
            }
            self.tops[at as usize] = top;
            let largest = amount(self, top);
            position = self.follow(first_of(self, largest));
        }
        self.up[position as usize] = position + 1;
        self.by_amount[position as usize]
    }

    /// The normal payment whose going cures a broken limit best.
    fn cure_limit(&mut self, at: u32) -> u32 {
        let (normal, stop) = (
            self.normal[at as usize].0,
            self.netting.places[at as usize].stop,
        );
        let bound = (normal..stop).filter(|entry| self.is_in[*entry as usize]);
        let bound = bound.map(|entry| {
            let amount = self.netting.entries[entry as usize].amount;
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
        self.up[position as usize] = position + 1;
        entry
    }

    /// The first position at or behind `position` whose entry is in, of whatever account.
    fn follow(&mut self, position: u32) -> u32 {
        let mut root = position;
        while self.up[root as usize] != root {
            root = self.up[root as usize];
        }
        let mut at = position;
        while at != root {
            at = std::mem::replace(&mut self.up[at as usize], root);
        }
        root
    }

    /// Brings dropped payments back in order of class and age, as long as one fits.
    fn bring_back(&mut self) {
        for at in 0..self.accounts.len() {
            let (normal, _) = self.normal[at];
            for entry in normal..self.netting.places[at].stop {
                let dropped = self.netting.entries[entry as usize];
                if !self.is_in[entry as usize] && dropped.group == NONE {
                    self.minima.set(entry, dropped.amount);
                }
            }
        }
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
            self.is_in[entry as usize] = true;
            if class == NORMAL {
                self.minima.set(entry, i128::MAX);
            } else {
                self.netting.places[at as usize].end += 1;
            }
            candidates.extend(self.candidate(at));
            let creditor = self.netting.entries[entry as usize].creditor;
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
            (self.netting.entries[next as usize].group == NONE && self.bears(at, next))
                .then_some(next)
        } else if !is_free {
            None
        } else {
            let mut from = normal;
            loop {
                let fits = self.minima.first_within(from, self.netting.spare(at));
                match fits.filter(|entry| *entry < place.stop) {
                    // A limit may stand in the way of the first that there is money for.
                    Some(entry) if !self.bears(at, entry) => from = entry + 1,
                    fits => break fits,
                }
            }
        }?;
        let row = self.netting.entries[entry as usize];
        let key = self.payments.row(row.payment).order_key;
        Some(Reverse((row.class, key, entry, at)))
    }

    /// Whether an account could bear one payment more.
    fn bears(&mut self, at: u32, entry: u32) -> bool {
        self.netting.include(at, entry);
        let bears = !self.netting.places[at as usize].is_broken();
        self.netting.exclude(at, entry);
        bears
    }
}

/// A tree of minima: finds the first of many amounts that is small enough.
struct Minima {
    leaves: usize,
    /// Node n has the children 2n and 2n + 1; the leaves come last.
    nodes: Vec<i128>,
}

impl Minima {
    fn new(count: usize) -> Minima {
        let leaves = count.next_power_of_two();
        Minima {
            leaves,
            nodes: vec![i128::MAX; leaves * 2],
        }
    }

    fn set(&mut self, at: u32, amount: i128) {
        let mut node = self.leaves + at as usize;
        self.nodes[node] = amount;
        while node > 1 {
            node /= 2;
            self.nodes[node] = self.nodes[node * 2].min(self.nodes[node * 2 + 1]);
        }
    }

    /// The first entry from `from` on whose amount is at most `most`.
    fn first_within(&self, from: u32, most: i128) -> Option<u32> {
        if from as usize >= self.leaves {
            return None;
        }
        let mut node = self.leaves + from as usize;
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
        Some((node - self.leaves) as u32)
    }
}
