//! Cancels of many orders at once, in an order that depends on nothing but the books: book by book,
//! buys, sells, buy stops, sell stops, those that wait for an auction; best price first, nearest
//! stop first; first come first.

use super::ladder::Shelf;
use super::table::NIL;
use super::{Matching, OrderView, Slot};
use crate::protocol::command::Side;

impl Matching {
    /// Cancels the orders of a participant, of one book or all, of one side or both. `on_cancel` gets
    /// each as it was.
    ///
    /// Looks only at the participant's orders and their levels: n orders cost a sort of n, however
    /// many others there are.
    pub fn mass_cancel(
        &mut self,
        participant: u32,
        book: Option<u32>,
        side: Option<Side>,
        on_cancel: impl FnMut(OrderView),
    ) {
        let mut slot = self.orders.newest(participant);
        while slot != NIL {
            if self.is_in(slot, book, side) {
                self.note(slot);
            }
            slot = self.orders.hot[slot].older;
        }
        self.cancel_noted(on_cancel);
    }

    /// Cancels the orders that go with a session, of one participant or all, of one book or all, of
    /// one side or both.
    pub fn cancel_session(
        &mut self,
        session: u64,
        participant: Option<u32>,
        book: Option<u32>,
        side: Option<Side>,
        on_cancel: impl FnMut(OrderView),
    ) {
        let mut slot = self.newest_of_session(session);
        while slot != NIL {
            let owner = self.orders.hot[slot].participant;
            if participant.is_none_or(|participant| participant == owner)
                && self.is_in(slot, book, side)
            {
                self.note(slot);
            }
            slot = self.orders.special_mut(slot).session_older;
        }
        self.cancel_noted(on_cancel);
    }

    fn is_in(&self, slot: u32, book: Option<u32>, side: Option<Side>) -> bool {
        let cold = &self.orders.cold[slot];
        book.is_none_or(|book| book == cold.book) && side.is_none_or(|side| side == cold.side())
    }

    fn note(&mut self, slot: u32) {
        self.visit.push((self.orders.hot[slot].level, slot));
    }

    /// Cancels the orders noted: levels in their order, and at each the first come first.
    fn cancel_noted(&mut self, mut on_cancel: impl FnMut(OrderView)) {
        let mut visit = std::mem::take(&mut self.visit);
        visit.sort_unstable_by_key(|(level, _)| {
            let level = &self.ladders.levels[*level];
            (level.book, level.shelf(), level.rank)
        });
        for of_level in visit.chunk_by_mut(|one, next| one.0 == next.0) {
            of_level.sort_unstable_by_key(|(_, slot)| self.orders.cold[*slot].turn);
            for (_, slot) in of_level {
                on_cancel(self.orders.view(*slot, self.price(*slot)));
                self.remove(*slot);
            }
        }
        visit.clear();
        self.visit = visit;
    }

    /// Cancels every order for which `condemned` holds, in one book or all: day orders at
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
            for shelf in Shelf::ALL {
                let mut level = self.shelf(book, shelf).best;
                while level != NIL {
                    let mut slot = self.ladders.levels[level].first;
                    let next_level = self.ladders.next(level);
                    while slot != NIL {
                        let next = self.orders.hot[slot].next;
                        let order = self.order(Slot(slot));
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
