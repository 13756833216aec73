//! Every structural invariant of the room, checked over the whole of it.

use super::client_ids::{self, Known};
use super::ladder::Shelf;
use super::orders::SlotState;
use super::table::NIL;
use super::{BookSide, Matching};
use crate::protocol::command::{OrderType, Side};
use crate::protocol::units::Price;

impl Matching {
    /// Every invariant of the room; the error says which one broke and where.
    ///
    /// - ladders: prefixes, bitmaps, branching, best price, order of levels;
    /// - levels: links, totals and counts are those of their orders, and no level is empty;
    /// - no book that trades continuously is crossed, and no stop of it waits for what has traded;
    /// - what is not shown lies behind something that is, at levels that know of it;
    /// - every live order rests or waits, its ids find it, and its participant's chain holds it;
    /// - every slot ever used is live, free or retired, and pools count what is in use.
    pub fn audit(&self) -> Result<(), String> {
        let (mut orders, mut levels, mut pages) = (0, 0, 0);
        for book in 0..self.books() {
            for shelf in Shelf::ALL {
                let at = |broken: String| format!("book {book} {shelf:?}: {broken}");
                let ladder = self.shelf(book, shelf);
                let found = self.audit_shelf(ladder, book, shelf).map_err(at)?;
                orders += ladder.orders;
                levels += found.0;
                pages += found.1;
            }
            self.audit_book(book)?;
        }
        if (levels, pages) != self.ladders.in_use() {
            return Err(format!("levels: {levels} on {pages} pages do not add up"));
        }
        let is_named = |slot: &u32| {
            let cold = &self.orders.cold[*slot];
            cold.state().is_live() && cold.client_order_id != client_ids::NONE
        };
        let named = (1..self.orders.pool.fresh).filter(is_named).count() as u32;
        if orders != self.orders.pool.used || named != self.ids.totals().0 {
            return Err(format!("orders: {orders} in books do not add up"));
        }
        if !self.changes.is_empty() {
            return Err("changes: some were not published".into());
        }
        if !self.freed_deadlines.is_empty() {
            return Err("deadlines: one outlived its order".into());
        }
        if !self.triggered.is_empty() {
            return Err("stops: one was left about to wake".into());
        }
        self.audit_slots()?;
        self.audit_chains()?;
        self.audit_specials()?;
        self.audit_sessions()?;
        self.audit_lists()?;
        self.ids.audit()
    }

    fn audit_book(&self, book: u32) -> Result<(), String> {
        let quoted = Shelf::ALL.into_iter().filter(|shelf| shelf.is_quoted());
        let quoted = quoted.map(|shelf| self.shelf(book, shelf).orders);
        if quoted.sum::<u32>() != self.books[book as usize].quoted {
            return Err(format!("book {book}: its quoted stops do not add up"));
        }
        if self.books[book as usize].is_call {
            return Ok(());
        }
        if self.is_crossed(book) {
            return Err(format!("book {book}: is crossed"));
        }
        let Some(Price(last)) = self.last_price(book) else {
            return Ok(());
        };
        let first = |shelf| {
            let level = self.shelf(book, shelf).best;
            (level != NIL).then(|| self.ladders.levels[level].price().0)
        };
        if first(Shelf::BuyStops).is_some_and(|stop| stop <= last)
            || first(Shelf::SellStops).is_some_and(|stop| stop >= last)
        {
            return Err(format!("book {book}: a stop sleeps though {last} traded"));
        }
        Ok(())
    }

    fn audit_specials(&self) -> Result<(), String> {
        let (mut rows, mut followers, mut waiting) = (0, 0, 0);
        for slot in 1..self.orders.pool.fresh {
            let cold = &self.orders.cold[slot];
            let Some(special) = self.orders.special(slot) else {
                continue;
            };
            rows += 1;
            let state = cold.state();
            if !state.is_live() {
                return Err(format!("slot {slot}: is special and does not live"));
            }
            let follows = match cold.order_type() {
                OrderType::TrailingStop => state == SlotState::Waiting,
                OrderType::Pegged => true,
                _ => false,
            };
            if follows != (special.follows != 0) {
                return Err(format!("slot {slot}: follows the market, or does not"));
            }
            followers += u32::from(follows);
            waiting += u32::from(state == SlotState::Waiting);
            waiting += u32::from(self.is_dormant(super::Slot(slot)));
            let shown = self.orders.hot[slot].leaves;
            if special.hidden > 0 && (state != SlotState::Resting || shown > special.display) {
                return Err(format!("slot {slot}: hides what it should show"));
            }
        }
        if rows != self.orders.specials.pool.used || followers + waiting != self.ladders.kept {
            return Err(format!("specials: {rows} rows do not add up"));
        }
        let mut chained = 0;
        for (book, row) in self.books.iter().enumerate() {
            let (mut older, mut slot) = (NIL, row.oldest_follower);
            while slot != NIL {
                let special = self.orders.special(slot);
                let Some(special) = special.filter(|s| s.follows != 0 && s.older == older) else {
                    return Err(format!("book {book}: slot {slot} follows nothing of it"));
                };
                chained += 1;
                if chained > followers {
                    return Err(format!("book {book}: its followers have no end"));
                }
                (older, slot) = (slot, special.newer);
            }
            if row.newest_follower != older {
                return Err(format!("book {book}: its last follower is another"));
            }
        }
        if chained != followers {
            return Err("followers: one is in no chain".into());
        }
        Ok(())
    }

    /// Whether the best buy reaches the best sell: never so while a book trades continuously.
    pub fn is_crossed(&self, book: u32) -> bool {
        self.best(book, Side::Buy)
            .is_some_and(|best| self.would_cross(book, Side::Buy, best.price))
    }

    /// Levels and pages of a ladder.
    fn audit_shelf(
        &self,
        ladder: &BookSide,
        book: u32,
        shelf: Shelf,
    ) -> Result<(u32, u32), String> {
        let mut levels = Vec::new();
        let pages = self.ladders.audit(ladder, &mut levels)?;
        let count = levels.len() as u32;
        if !self.level_rows(book, shelf).eq(levels.iter().copied()) {
            return Err("the walk from the best level is not the ladder".into());
        }
        let (mut orders, mut last_rank) = (0, None);
        for level in levels {
            let row = &self.ladders.levels[level];
            if row.book != book || row.shelf() != shelf {
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
        Ok((count, pages))
    }

    fn audit_level(&self, level: u32) -> Result<(), String> {
        let row = &self.ladders.levels[level];
        let (mut total, mut orders, mut prev) = (0u128, 0, NIL);
        let (mut icebergs, mut followers) = (0, 0);
        let state = match row.shelf() {
            Shelf::Bids | Shelf::Asks => SlotState::Resting,
            _ => SlotState::Waiting,
        };
        let sides: &[Side] = match (row.shelf(), row.shelf().waits_for()) {
            (Shelf::Bids, _) | (_, Some((Side::Buy, _))) => &[Side::Buy],
            (Shelf::Asks, _) | (_, Some((Side::Sell, _))) => &[Side::Sell],
            _ => &[Side::Buy, Side::Sell],
        };
        for slot in self.chain(row.first) {
            let (hot, cold) = (&self.orders.hot[slot], &self.orders.cold[slot]);
            let order = || format!("order {} at level {level}", self.orders.id(slot));
            if hot.prev != prev || hot.level != level {
                return Err(format!("{}: is linked elsewhere", order()));
            }
            let is_later = prev == NIL || self.orders.cold[prev].turn < cold.turn;
            if !is_later || cold.turn >= row.turns {
                return Err(format!("{}: has another turn", order()));
            }
            let hidden = self.orders.hidden(slot);
            icebergs += u32::from(hidden > 0);
            followers += self
                .orders
                .special(slot)
                .map_or(0, |s| u32::from(s.follows));
            if hot.leaves == 0 || hot.leaves + hidden > cold.quantity {
                return Err(format!("{}: leaves {}", order(), hot.leaves));
            }
            if cold.state() != state || cold.book != row.book || !sides.contains(&cold.side()) {
                return Err(format!("{}: does not know that it rests here", order()));
            }
            let known = self.ids.find(hot.participant, cold.client_order_id);
            let is_known = match cold.client_order_id {
                client_ids::NONE => known == Known::Unknown,
                _ => known == Known::Live(slot),
            };
            if !is_known {
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
        if (icebergs, followers) != (row.icebergs, row.followers) {
            return Err(format!("level {level}: does not know its special orders"));
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
