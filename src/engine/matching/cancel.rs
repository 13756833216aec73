//! Cancels of many orders at once, in an order that depends on nothing but the books: book, buys
//! before sells, best price first, first come first.

use super::table::NIL;
use super::{Matching, OrderView, Slot};
use crate::protocol::command::Side;

impl Matching {
    /// Cancels the resting orders of a participant, of one book or all, of one side or both.
    /// `on_cancel` gets each as it was.
    ///
    /// Looks only at levels where the participant has orders: n orders on k levels cost a sort of
    /// n and a walk along k levels.
    pub fn mass_cancel(
        &mut self,
        participant: u32,
        book: Option<u32>,
        side: Option<Side>,
        mut on_cancel: impl FnMut(OrderView),
    ) {
        let mut visit = std::mem::take(&mut self.visit);
        let mut slot = self.orders.newest(participant);
        while slot != NIL {
            let hot = &self.orders.hot[slot];
            let level = &self.ladders.levels[hot.level];
            if book.is_none_or(|book| book == level.book)
                && side.is_none_or(|side| side == level.side())
            {
                visit.push(hot.level);
            }
            slot = hot.older;
        }
        visit.sort_unstable_by_key(|level| {
            let level = &self.ladders.levels[*level];
            (level.book, level.side(), level.rank)
        });
        visit.dedup();
        for level in visit.drain(..) {
            let price = self.ladders.levels[level].price();
            let mut slot = self.ladders.levels[level].first;
            while slot != NIL {
                let hot = &self.orders.hot[slot];
                let (next, own) = (hot.next, hot.participant == participant);
                if own {
                    on_cancel(self.orders.view(slot, price));
                    self.remove(slot);
                }
                slot = next;
            }
        }
        self.visit = visit;
    }

    /// Cancels every resting order for which `condemned` holds, in one book or all: day orders at
    /// the end of the day, a closed instrument's. `on_cancel` gets each as it was.
    pub fn cancel_where(
        &mut self,
        book: Option<u32>,
        mut condemned: impl FnMut(&OrderView) -> bool,
        mut on_cancel: impl FnMut(OrderView),
    ) {
        let books = match book {
            Some(book) => book..book + 1,
            None => 0..self.books(),
        };
        for book in books {
            for side in [Side::Buy, Side::Sell] {
                let mut level = self.side(book, side).best;
                while level != NIL {
                    let row = &self.ladders.levels[level];
                    let (price, mut slot) = (row.price(), row.first);
                    let next_level = self.ladders.next(level);
                    while slot != NIL {
                        let next = self.orders.hot[slot].next;
                        let order = self.orders.view(slot, price);
                        if condemned(&order) {
                            self.cancel(Slot(slot));
                            on_cancel(order);
                        }
                        slot = next;
                    }
                    level = next_level;
                }
            }
        }
    }
}
