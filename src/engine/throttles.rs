//! Throttles: how many commands, and how much value, get in per window, by participant, asset and
//! kind. Counters move with the engine's now, so a replay throttles what the run did.
//!
//! A window slides in [`SLICES`] slices: what counts is the present slice and those before it, which
//! together are never shorter than the window. So in no window, wherever it begins, does more get
//! in than the throttle says; what was used comes back at most a seventh of the window late. (A
//! bucket of tokens, or a window that begins anew, would let up to twice as much in across its
//! seam; exact times of every command would take memory that nobody bounds.) Sums only: no division
//! touches an amount.
//!
//! ```text
//!    | slice | slice | slice | slice | slice | slice | slice | now..
//!    '---------------------- counted ------------------------'
//! ```

use super::index::{Handle, Index, hash_128};
use crate::protocol::command::{SetThrottle, ThrottledKind};
use crate::protocol::units::Timestamp;
use bytemuck::{Pod, Zeroable};

/// Counters of one throttle.
const SLICES: usize = 8;
/// No participant or asset in particular.
pub(super) const ALL: Handle = u32::MAX;

/// One throttle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ThrottleRow {
    /// Most minor units per window.
    pub(super) amount: u128,
    used_amounts: [u128; SLICES],
    /// Most commands per window.
    pub(super) count: u64,
    used_counts: [u64; SLICES],
    /// The slice counted last.
    slice: u64,
    pub(super) participant: Handle,
    pub(super) asset: Handle,
    /// 0 for the business day.
    pub(super) window_ms: u32,
    kind: u16,
    reserved: u16,
}

/// What asks to get in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrant {
    pub(super) participant: Handle,
    pub(super) asset: Handle,
    pub(super) kind: ThrottledKind,
    pub(super) amount: u128,
}

impl ThrottleRow {
    pub(super) fn new(asked: &SetThrottle, participant: Handle, asset: Handle) -> ThrottleRow {
        ThrottleRow {
            amount: asked.amount.0,
            count: asked.count,
            participant,
            asset,
            window_ms: asked.window_ms,
            kind: asked.kind as u16,
            ..ThrottleRow::zeroed()
        }
    }

    pub(super) fn kind(&self) -> ThrottledKind {
        ThrottledKind::from_code(self.kind).expect("written from a ThrottledKind")
    }

    fn key(&self) -> (Handle, Handle, u16) {
        (self.participant, self.asset, self.kind)
    }

    /// Whether it bounds anything.
    pub(super) fn is_bound(&self) -> bool {
        self.count != u64::MAX || self.amount != u128::MAX
    }

    /// The slice that `now` lies in. All but one of the slices make at least the window.
    fn slice_at(&self, now: Timestamp) -> u64 {
        let window_ns = u64::from(self.window_ms) * 1_000_000;
        let width = window_ns.div_ceil(SLICES as u64 - 1);
        now.0.checked_div(width).unwrap_or(0)
    }

    /// Commands and minor units counted in the window that ends now.
    pub(super) fn used(&self, now: Timestamp) -> (u64, u128) {
        let present = self.slice_at(now);
        let first = (present + 1).saturating_sub(SLICES as u64);
        let oldest = (self.slice + 1).saturating_sub(SLICES as u64);
        (first.max(oldest)..=self.slice).fold((0, 0), |(count, amount), slice| {
            let seat = slice as usize % SLICES;
            (
                self.used_counts[seat].saturating_add(count),
                self.used_amounts[seat].saturating_add(amount),
            )
        })
    }

    fn has_room(&self, now: Timestamp, count: u64, amount: u128) -> bool {
        let (used_count, used_amount) = self.used(now);
        let fits_count = used_count
            .checked_add(count)
            .is_some_and(|sum| sum <= self.count);
        let fits_amount = used_amount
            .checked_add(amount)
            .is_some_and(|sum| sum <= self.amount);
        (fits_count || self.count == u64::MAX) && (fits_amount || self.amount == u128::MAX)
    }

    fn charge(&mut self, now: Timestamp, count: u64, amount: u128) {
        let present = self.slice_at(now);
        let first = (self.slice + 1).max((present + 1).saturating_sub(SLICES as u64));
        for slice in first..=present {
            self.used_counts[slice as usize % SLICES] = 0;
            self.used_amounts[slice as usize % SLICES] = 0;
        }
        self.slice = present;
        let seat = present as usize % SLICES;
        self.used_counts[seat] = self.used_counts[seat].saturating_add(count);
        self.used_amounts[seat] = self.used_amounts[seat].saturating_add(amount);
    }

    fn forget_used(&mut self) {
        self.used_counts = [0; SLICES];
        self.used_amounts = [0; SLICES];
    }
}

/// All throttles.
pub(super) struct Throttles {
    rows: Vec<ThrottleRow>,
    by_key: Index,
    limit: u32,
    /// What the command at hand would take of each throttle; empty between commands.
    asked: Vec<(usize, u64, u128)>,
}

impl Throttles {
    pub(super) fn new(limit: u32) -> Throttles {
        Throttles {
            rows: Vec::with_capacity(limit as usize),
            by_key: Index::new(limit),
            limit,
            asked: Vec::with_capacity(limit as usize),
        }
    }

    /// Whether there are any: commands of a node without throttles ask nothing else.
    #[inline(always)]
    pub(super) fn are_set(&self) -> bool {
        !self.rows.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        (self.rows.len() as u32) < self.limit
    }

    pub(super) fn rows(&self) -> &[ThrottleRow] {
        &self.rows
    }

    pub(super) fn find(&self, key: &ThrottleRow) -> Option<usize> {
        self.find_key(key.key())
    }

    fn find_key(&self, key: (Handle, Handle, u16)) -> Option<usize> {
        let at = self
            .by_key
            .find(hash_of(key), |at| self.rows[at as usize].key() == key);
        at.map(|at| at as usize)
    }

    /// Sets a throttle. What is used of it stays, as long as its window does. There is room where
    /// it is new.
    pub(super) fn set(&mut self, row: ThrottleRow) {
        match self.find(&row) {
            Some(at) => {
                let old = &mut self.rows[at];
                if old.window_ms == row.window_ms {
                    (old.count, old.amount) = (row.count, row.amount);
                } else {
                    *old = row;
                }
            }
            None => {
                self.by_key
                    .insert(hash_of(row.key()), self.rows.len() as u32);
                self.rows.push(row);
            }
        }
    }

    /// Takes a throttle away; the others keep their order.
    pub(super) fn remove(&mut self, at: usize) {
        self.rows.remove(at);
        self.by_key.clear();
        for (at, row) in self.rows.iter().enumerate() {
            self.by_key.insert(hash_of(row.key()), at as u32);
        }
    }

    /// Whether one more gets in, on top of what the command at hand has asked for before: looks at
    /// the eight throttles that can be meant, whatever their number. Counts nothing yet.
    pub(super) fn ask(&mut self, now: Timestamp, entrant: Entrant) -> bool {
        let any = ThrottledKind::Any as u16;
        for pattern in 0..8 {
            let key = (
                if pattern & 1 == 0 {
                    entrant.participant
                } else {
                    ALL
                },
                if pattern & 2 == 0 { entrant.asset } else { ALL },
                if pattern & 4 == 0 {
                    entrant.kind as u16
                } else {
                    any
                },
            );
            let Some(at) = self.find_key(key) else {
                continue;
            };
            let asked = match self.asked.iter_mut().find(|asked| asked.0 == at) {
                Some(asked) => asked,
                None => {
                    self.asked.push((at, 0, 0));
                    self.asked.last_mut().expect("just added")
                }
            };
            asked.1 += 1;
            asked.2 = asked.2.saturating_add(entrant.amount);
            if !self.rows[at].has_room(now, asked.1, asked.2) {
                return false;
            }
        }
        true
    }

    /// What the command at hand asked for has come in.
    pub(super) fn count(&mut self, now: Timestamp) {
        for (at, count, amount) in self.asked.drain(..) {
            self.rows[at].charge(now, count, amount);
        }
    }

    /// What the command at hand asked for stays out.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
    }

    /// A new day: nothing is used.
    pub(super) fn start_day(&mut self) {
        self.rows.iter_mut().for_each(ThrottleRow::forget_used);
    }

    pub(super) fn restore(rows: Vec<ThrottleRow>, limit: u32) -> Throttles {
        let mut throttles = Throttles::new(limit.max(rows.len() as u32));
        rows.into_iter().for_each(|row| throttles.set(row));
        throttles
    }

    /// The room's invariants: every throttle bounds something and is found by its key, and nothing
    /// is half asked.
    pub(super) fn audit(&self) -> Result<(), String> {
        for (at, row) in self.rows.iter().enumerate() {
            if !row.is_bound() || self.find(row) != Some(at) {
                return Err(format!("throttle {at}: bounds nothing, or is not found"));
            }
        }
        if self.asked.is_empty() {
            Ok(())
        } else {
            Err("throttles: something asked for was neither counted nor forgotten".into())
        }
    }
}

fn hash_of((participant, asset, kind): (Handle, Handle, u16)) -> u32 {
    let pair = u128::from(participant) << 32 | u128::from(asset);
    hash_128(pair << 16 | u128::from(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    const MS: u64 = 1_000_000;

    fn throttle(window_ms: u32, count: u64, amount: u128) -> Throttles {
        let mut throttles = Throttles::new(4);
        throttles.set(ThrottleRow {
            count,
            amount,
            window_ms,
            participant: ALL,
            asset: ALL,
            ..ThrottleRow::zeroed()
        });
        throttles
    }

    fn one(amount: u128) -> Entrant {
        Entrant {
            participant: 3,
            asset: 5,
            kind: ThrottledKind::Transfer,
            amount,
        }
    }

    #[test]
    fn no_window_wherever_it_begins_lets_more_in() {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(11);
        for window_ms in [1, 7, 100, 1_001] {
            let window_ns = u64::from(window_ms) * MS;
            let mut throttles = throttle(window_ms, 20, 500);
            let mut entered: Vec<(u64, u128)> = Vec::new();
            let (mut now, mut refused_late) = (5_000 * MS, 0);
            for _ in 0..5_000 {
                now += rng.random_range(0..window_ns / 8);
                let amount = rng.random_range(0..60);
                // What a window that ends now, and one a seventh longer, hold.
                let sums = |length: u64| {
                    let inside = entered.iter().filter(|(at, _)| at + length > now);
                    inside.fold((0, 0), |(count, sum), (_, amount)| {
                        (count + 1, sum + amount)
                    })
                };
                let fits = |(count, sum): (u64, u128)| count < 20 && sum + amount <= 500;
                let is_in = throttles.ask(Timestamp(now), one(amount));
                if is_in {
                    assert!(fits(sums(window_ns)), "{window_ms} ms: too much got in");
                    throttles.count(Timestamp(now));
                    entered.push((now, amount));
                } else {
                    refused_late += u32::from(fits(sums(window_ns)));
                    let longer = window_ns + window_ns.div_ceil(7) + 7;
                    assert!(!fits(sums(longer)), "{window_ms} ms: refused too long");
                    throttles.forget();
                }
                throttles.audit().unwrap();
            }
            assert!(refused_late > 0 && entered.len() > 500);
        }
    }

    #[test]
    fn a_window_of_the_day_ends_with_the_day() {
        let mut throttles = throttle(0, 2, u128::MAX);
        for now in [1, u64::MAX] {
            assert!(throttles.ask(Timestamp(now), one(9)));
            throttles.count(Timestamp(now));
        }
        assert!(!throttles.ask(Timestamp(u64::MAX), one(0)));
        throttles.forget();
        throttles.start_day();
        assert!(throttles.ask(Timestamp(u64::MAX), one(0)));
        throttles.forget();
    }
}
