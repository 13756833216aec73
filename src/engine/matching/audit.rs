//! Every structural invariant of the room, checked over the whole of it.

use super::client_ids::Known;
use super::orders::SlotState;
use super::table::NIL;
use super::{BookSide, Matching};
use crate::protocol::command::Side;

impl Matching {
    /// Every invariant of the room; the error says which one broke and where.
    ///
    /// - ladders: prefixes, bitmaps, branching, best price, order of levels;
    /// - levels: links, totals and counts are those of their orders, and no level is empty;
    /// - no book is crossed;
    /// - every live order rests, its ids find it, and its participant's chain holds it;
    /// - every slot ever used is live, free or retired, and pools count what is in use.
    pub fn audit(&self) -> Result<(), String> {
        let (mut orders, mut levels, mut pages) = (0, 0, 0);
        for book in 0..self.books() {
            for side in [Side::Buy, Side::Sell] {
                let at = |broken: String| format!("book {book} {side}: {broken}");
                let ladder = self.side(book, side);
                pages += self.audit_side(ladder, book, side).map_err(at)?;
                orders += ladder.orders;
                levels += ladder.levels;
            }
            if self.is_crossed(book) {
                return Err(format!("book {book}: is crossed"));
            }
        }
        if (levels, pages) != self.ladders.in_use() {
            return Err(format!("levels: {levels} on {pages} pages do not add up"));
        }
        if orders != self.orders.pool.used || orders != self.ids.totals().0 {
            return Err(format!("orders: {orders} in books do not add up"));
        }
        self.audit_slots()?;
        self.audit_chains()?;
        self.ids.audit()
    }

    /// Whether the best buy reaches the best sell: never so while a book trades continuously.
    pub fn is_crossed(&self, book: u32) -> bool {
        self.best(book, Side::Buy)
            .is_some_and(|best| self.would_cross(book, Side::Buy, best.price))
    }

    fn audit_side(&self, ladder: &BookSide, book: u32, side: Side) -> Result<u32, String> {
        let mut levels = Vec::new();
        let pages = self.ladders.audit(ladder, &mut levels)?;
        if levels.len() as u32 != ladder.levels {
            return Err(format!("{} levels do not add up", levels.len()));
        }
        if !self.level_rows(book, side).eq(levels.iter().copied()) {
            return Err("the walk from the best level is not the ladder".into());
        }
        let (mut orders, mut last_rank) = (0, None);
        for level in levels {
            let row = &self.ladders.levels[level];
            if row.book != book || row.side() != side {
                return Err(format!("level {level}: belongs elsewhere"));
            }
            if last_rank.is_some_and(|last| last >= row.rank) {
                return Err(format!("level {level}: is out of order"));
            }
            if last_rank.is_none() && ladder.best_within(row.rank) != Some(level) {
                return Err(format!("level {level}: is best and not known as such"));
            }
            last_rank = Some(row.rank);
            self.audit_level(level)?;
            orders += row.orders;
        }
        if orders != ladder.orders {
            return Err(format!("{orders} orders do not add up"));
        }
        Ok(pages)
    }

    fn audit_level(&self, level: u32) -> Result<(), String> {
        let row = &self.ladders.levels[level];
        let (mut total, mut orders, mut prev) = (0u128, 0, NIL);
        for slot in self.chain(row.first) {
            let (hot, cold) = (&self.orders.hot[slot], &self.orders.cold[slot]);
            let order = || format!("order {} at level {level}", self.orders.id(slot));
            if hot.prev != prev || hot.level != level {
                return Err(format!("{}: is linked elsewhere", order()));
            }
            if hot.leaves == 0 || hot.leaves > cold.quantity {
                return Err(format!("{}: leaves {}", order(), hot.leaves));
            }
            if cold.state() != SlotState::Resting
                || cold.book != row.book
                || cold.side() != row.side()
            {
                return Err(format!("{}: does not know that it rests here", order()));
            }
            let known = self.ids.find(hot.participant, cold.client_order_id);
            if known != Known::Live(slot) {
                return Err(format!("{}: its client id is {known:?}", order()));
            }
            total += u128::from(hot.leaves);
            orders += 1;
            prev = slot;
            if orders > row.orders {
                break;
            }
        }
        if prev != row.last || orders != row.orders || orders == 0 || total != row.total {
            return Err(format!("level {level}: is not the sum of its orders"));
        }
        Ok(())
    }

    fn audit_slots(&self) -> Result<(), String> {
        let pool = &self.orders.pool;
        let ever = pool.fresh - 1;
        let mut free = 0;
        for [slot, _] in self.free_slots() {
            if slot >= pool.fresh || self.orders.cold[slot].state() != SlotState::Free {
                return Err(format!("slot {slot}: is chained as free and is not"));
            }
            free += 1;
            if free > ever {
                return Err("free slots: their chain has no end".into());
            }
        }
        let retired = self.retired_slots().count() as u32;
        if free + retired + pool.used != ever {
            return Err(format!(
                "slots: {free} free, {retired} retired and {} live are not {ever}",
                pool.used
            ));
        }
        Ok(())
    }

    fn audit_chains(&self) -> Result<(), String> {
        let mut orders = 0;
        for participant in 0..self.orders.participants() {
            let (mut newer, mut slot) = (NIL, self.orders.newest(participant));
            while slot != NIL {
                let hot = &self.orders.hot[slot];
                if hot.participant != participant || hot.newer != newer {
                    return Err(format!("slot {slot}: is in a chain of another"));
                }
                orders += 1;
                if orders > self.orders.pool.used {
                    return Err(format!("participant {participant}: its chain has no end"));
                }
                (newer, slot) = (slot, hot.older);
            }
        }
        if orders != self.orders.pool.used {
            return Err(format!("{orders} chained orders do not add up"));
        }
        Ok(())
    }
}
