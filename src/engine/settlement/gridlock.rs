//! Gridlock resolution (Bech and Soramaki 2001; the "partial" optimisation of T2): which queued
//! payments can settle together although none can settle alone.
//!
//! Take every queue whole. While an account cannot bear its set, drop the last payment of it. What
//! is left when all can settles simultaneously. The result is the one largest set that keeps every
//! queue's order, whatever the order of repair: sets that keep order are closed under union, and
//! what an account can bear only grows with what others pay. A group is in with all its legs or
//! with none, so dropping one leg drops the others and everything behind them.
//!
//! Each payment is dropped at most once, so the work is linear in payments and accounts.

use super::netting::{Means, Netting};
use super::payment::NONE;
use super::queue::Payments;

impl Netting {
    /// Finds the payments that settle together.
    pub(in crate::engine) fn gridlock(&mut self, payments: &Payments, means: &impl Means) {
        self.gather(payments, means);
        self.take_all();
        self.drop_incomplete(means);
        self.repair();
        self.take_out_sets();
    }

    /// Finds everything that takes part, where all of it can settle at once; else nothing.
    pub(in crate::engine) fn all_or_nothing(&mut self, payments: &Payments, means: &impl Means) {
        self.gather(payments, means);
        self.take_all();
        let is_whole = self.incomplete(means).next().is_none();
        if is_whole && !self.places.iter().any(|place| place.is_broken()) {
            self.take_out_sets();
        }
    }

    /// Every set is its whole queue.
    pub(super) fn take_all(&mut self) {
        for at in 0..self.places.len() as u32 {
            let (start, stop) = (
                self.places[at as usize].start,
                self.places[at as usize].stop,
            );
            for entry in start..stop {
                self.include(at, entry);
            }
            self.places[at as usize].end = stop;
        }
    }

    /// Entries that are legs of a group of which another leg takes no part: place and entry.
    fn incomplete(&self, means: &impl Means) -> impl Iterator<Item = (u32, u32)> {
        let groups = self.legs.chunk_by(|one, other| one.0 == other.0);
        groups
            .filter(|legs| (legs.len() as u32) < means.legs(legs[0].0))
            .flat_map(|legs| legs.iter().map(|(_, at, entry)| (*at, *entry)))
    }

    fn drop_incomplete(&mut self, means: &impl Means) {
        let mut incomplete = std::mem::take(&mut self.dropped);
        incomplete.clear();
        incomplete.extend(self.incomplete(means));
        for (at, entry) in &incomplete {
            self.cut(*at, *entry);
        }
        self.dropped = incomplete;
    }

    /// Drops payments from the ends of sets until every account can bear its own.
    pub(super) fn repair(&mut self) {
        for at in 0..self.places.len() as u32 {
            self.look_at(at);
        }
        while let Some(at) = self.work.pop() {
            self.places[at as usize].in_work = false;
            while self.places[at as usize].is_broken() {
                let last = self.places[at as usize].end - 1;
                self.cut(at, last);
            }
        }
    }

    /// Notes an account that cannot bear its set.
    #[inline]
    fn look_at(&mut self, at: u32) {
        let place = &mut self.places[at as usize];
        if !place.in_work && place.is_broken() {
            place.in_work = true;
            self.work.push(at);
        }
    }

    /// Drops the payments of a set from `entry` on, and with a leg its whole group. A group drops
    /// what is behind its legs, in which there may be further groups: the list of cuts to make
    /// takes the place of a recursion.
    fn cut(&mut self, at: u32, entry: u32) {
        let mut cuts = std::mem::take(&mut self.cuts);
        cuts.push((at, entry));
        while let Some((at, entry)) = cuts.pop() {
            while self.places[at as usize].end > entry {
                let last = self.places[at as usize].end - 1;
                self.places[at as usize].end = last;
                self.exclude(at, last);
                let dropped = self.entries[last as usize];
                let (creditor, group) = (dropped.creditor(), self.group(last));
                if creditor != NONE {
                    self.look_at(creditor);
                }
                if group != NONE {
                    for leg in self.legs_of(group) {
                        let (_, at, entry) = self.legs[leg];
                        cuts.push((at, entry));
                    }
                }
            }
            // Limits can break by what others no longer pay, and reservations by what a payment of
            // a higher class no longer uses.
            self.look_at(at);
        }
        self.cuts = cuts;
    }

    /// What is left of every set settles.
    pub(super) fn take_out_sets(&mut self) {
        let sets = self.places.iter().map(|place| place.end - place.start);
        self.settle.reserve_exact(sets.sum::<u32>() as usize);
        for place in &self.places {
            let set = &self.entries[place.start as usize..place.end as usize];
            self.settle.extend(set.iter().map(|entry| entry.payment));
        }
    }
}
