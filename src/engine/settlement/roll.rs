//! The payments window rolls with the business day: what is older than the window is forgotten and
//! what waits is kept, closer together. It is done at once, when a day starts and nothing moves:
//! about 20 ns a row.

use super::limits::hash_pair;
use super::payment::{NONE, PaymentRow};
use super::queue::Payments;
use crate::engine::index::{Handle, hash_128};

/// Where rows went: their new handles, by the old ones.
pub(in crate::engine) struct Moved(Vec<u32>);

impl Moved {
    pub(super) fn new(places: Vec<u32>) -> Moved {
        Moved(places)
    }

    /// The handle of a row now; [`NONE`] where it was forgotten.
    pub(in crate::engine) fn to(&self, old: Handle) -> u32 {
        match old {
            NONE => NONE,
            old => self.0[old as usize],
        }
    }
}

impl Payments {
    /// Groups have moved: legs follow.
    pub(in crate::engine) fn regroup(&mut self, moved: &Moved) {
        for row in &mut self.rows {
            row.group = moved.to(row.group);
        }
    }

    /// Starts a day: forgets rows older than the window, but for those that wait and the originals
    /// of returns that are kept.
    pub(in crate::engine) fn roll(&mut self) -> Moved {
        self.order.day += 1;
        let oldest = (self.order.day + 1).saturating_sub(self.window_days.into());
        let mut kept: Vec<bool> = self
            .rows
            .iter()
            .map(|row| row.is_waiting() || u64::from(row.day) >= oldest)
            .collect();
        // An original is older than its returns.
        for (at, row) in self.rows.iter().enumerate().rev() {
            if kept[at] && row.return_of != NONE {
                kept[row.return_of as usize] = true;
            }
        }
        let mut next = 0;
        let places = kept.iter().map(|is_kept| {
            let place = next;
            next += u32::from(*is_kept);
            if *is_kept { place } else { NONE }
        });
        let moved = Moved(places.collect());
        if next as usize != self.rows.len() {
            self.move_rows(&moved);
        }
        moved
    }

    fn move_rows(&mut self, moved: &Moved) {
        let mut at = 0;
        self.rows.retain_mut(|row| {
            let is_kept = moved.0[at] != NONE;
            at += 1;
            if is_kept {
                relink(row, moved);
            }
            is_kept
        });
        for desk in &mut self.desks {
            desk.first = desk.first.map(|payment| moved.to(payment));
            desk.last = desk.last.map(|payment| moved.to(payment));
        }
        self.drop_lanes();
        self.worklist.visit.cursor = moved.to(self.worklist.visit.cursor);
        self.by_id.clear();
        self.by_pair.clear();
        for (at, row) in self.rows.iter().enumerate() {
            if row.group == NONE {
                self.by_id.insert(hash_128(row.id), at as u32);
            }
            if row.is_waiting() && row.pair_previous == NONE {
                let hash = hash_pair(row.debtor, row.creditor);
                self.by_pair.insert(hash, at as u32);
            }
        }
    }
}

fn relink(row: &mut PaymentRow, moved: &Moved) {
    for link in [
        &mut row.next,
        &mut row.previous,
        &mut row.pair_next,
        &mut row.pair_previous,
        &mut row.pair_last,
        &mut row.return_of,
    ] {
        *link = moved.to(*link);
    }
    if row.group != NONE {
        row.next_leg_or_date = moved.to(row.next_leg_or_date);
    }
}
