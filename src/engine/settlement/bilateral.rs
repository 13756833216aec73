//! Bilateral offset (T2 algorithm 3, first part): what two accounts have waiting for each other
//! settles together. Pairs come by ascending difference of what they owe each other, then by
//! account; within a pair the rule is that of gridlock resolution, and nothing in front of either
//! queue is passed over.
//!
//! After a pair has settled, only pairs that share an account with it can turn out differently than
//! before, so only those are tried again.

use super::netting::{Means, Netting};
use super::payment::NONE;
use super::queue::Payments;
use crate::engine::index::Handle;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Two accounts that owe each other, the one opened first before the other.
struct Pair {
    places: [u32; 2],
    accounts: [Handle; 2],
    /// What each has waiting for the other, minor units.
    owed: [i128; 2],
    is_listed: bool,
}

impl Pair {
    fn difference(&self) -> u128 {
        (self.owed[0] - self.owed[1]).unsigned_abs()
    }
}

/// Pairs to try, best first.
type Candidates = BinaryHeap<Reverse<(u128, [Handle; 2], usize)>>;

impl Netting {
    /// Finds what pairs of accounts can settle between them.
    pub(in crate::engine) fn bilateral(&mut self, payments: &Payments, means: &impl Means) {
        self.gather(payments, means);
        let mut pairs = self.pairs(payments);
        let mut of_place: Vec<Vec<usize>> = vec![Vec::new(); self.places.len()];
        let mut candidates = Candidates::new();
        for (at, pair) in pairs.iter().enumerate() {
            pair.places
                .iter()
                .for_each(|place| of_place[*place as usize].push(at));
            candidates.push(Reverse((pair.difference(), pair.accounts, at)));
        }
        while let Some(Reverse((_, _, at))) = candidates.pop() {
            pairs[at].is_listed = false;
            let places = pairs[at].places;
            let Some(settled) = self.offset(places) else {
                continue;
            };
            for (owed, settled) in pairs[at].owed.iter_mut().zip(settled) {
                *owed -= settled;
            }
            for near in places.iter().flat_map(|place| &of_place[*place as usize]) {
                let pair = &mut pairs[*near];
                if !pair.is_listed && pair.owed.iter().all(|owed| *owed > 0) {
                    pair.is_listed = true;
                    candidates.push(Reverse((pair.difference(), pair.accounts, *near)));
                }
            }
        }
    }

    /// Accounts that owe each other.
    fn pairs(&mut self, payments: &Payments) -> Vec<Pair> {
        let account = |place: u32| payments.desks()[place as usize].account;
        // What each place owes each other one, by debtor and then creditor.
        let mut owed: Vec<(u32, i128)> = Vec::new();
        let mut starts = Vec::with_capacity(self.places.len() + 1);
        let mut sums = vec![0i128; self.places.len()];
        let mut creditors = Vec::new();
        for place in &self.places {
            starts.push(owed.len());
            for entry in place.start..place.stop {
                let one = &self.entries[entry as usize];
                let creditor = one.creditor();
                if creditor == NONE || self.group(entry) != NONE {
                    continue;
                }
                if sums[creditor as usize] == 0 {
                    creditors.push(creditor);
                }
                sums[creditor as usize] += one.amount();
            }
            creditors.sort_unstable();
            for creditor in creditors.drain(..) {
                owed.push((creditor, std::mem::take(&mut sums[creditor as usize])));
            }
        }
        starts.push(owed.len());
        let of = |place: usize| &owed[starts[place]..starts[place + 1]];
        let mut pairs = Vec::new();
        for at in 0..self.places.len() {
            for (other, there) in of(at) {
                // Each pair once, the account opened first before the other.
                if account(at as u32) >= account(*other) {
                    continue;
                }
                let back = of(*other as usize);
                if let Ok(back_at) = back.binary_search_by_key(&(at as u32), |one| one.0) {
                    pairs.push(Pair {
                        places: [at as u32, *other],
                        accounts: [account(at as u32), account(*other)],
                        owed: [*there, back[back_at].1],
                        is_listed: true,
                    });
                }
            }
        }
        let bytes = size_of_val(owed.as_slice()) + size_of_val(pairs.as_slice());
        self.note_peak(bytes as u64);
        pairs
    }

    /// Settles what the fronts of two queues hold for each other, as much as both can bear; returns
    /// what each pays, or nothing where not both pay.
    fn offset(&mut self, places: [u32; 2]) -> Option<[i128; 2]> {
        let starts = places.map(|at| self.places[at as usize].end);
        for (at, other) in [(places[0], places[1]), (places[1], places[0])] {
            while let Some(entry) = self.next_toward(at, other) {
                self.include(at, entry);
                self.places[at as usize].end += 1;
            }
        }
        while let Some(at) = places
            .iter()
            .copied()
            .find(|at| self.places[*at as usize].is_broken())
        {
            self.take_back(at);
        }
        let ends = places.map(|at| self.places[at as usize].end);
        if (0..2).any(|side| ends[side] == starts[side]) {
            for side in 0..2 {
                while self.places[places[side] as usize].end > starts[side] {
                    self.take_back(places[side]);
                }
            }
            return None;
        }
        let mut paid = [0; 2];
        for side in 0..2 {
            for entry in starts[side]..ends[side] {
                let Some(settled) = self.entries.get(entry as usize).copied() else {
                    unreachable!("a set lies within the entries");
                };
                paid[side] += settled.amount();
                self.settle.push(settled.payment);
                self.seal(places[side], entry);
            }
        }
        Some(paid)
    }

    /// The front of a queue, where it is for the other account.
    fn next_toward(&self, at: u32, other: u32) -> Option<u32> {
        let place = &self.places[at as usize];
        let entry = self.entries[..place.stop as usize].get(place.end as usize)?;
        (entry.creditor() == other && self.group(place.end) == NONE).then_some(place.end)
    }

    fn take_back(&mut self, at: u32) {
        self.places[at as usize].end -= 1;
        let last = self.places[at as usize].end;
        self.exclude(at, last);
    }
}
