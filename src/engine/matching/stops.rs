//! Orders that wait beside the book, and orders that follow the market.
//!
//! A stop waits in a ladder of its own, ordered by stop price. Whenever something trades, those
//! whose price was reached leave it for a queue, nearest first and first come first; handlers take
//! them out of it one by one, each executed to its end before the next, whose own trades may bring
//! more to the end of the queue: a loop, never a recursion.
//!
//! Trailing stops and pegged orders are chained by book in order of entry. A trailing stop moves to
//! another level of its ladder when the market moves its way; a pegged order moves when handlers
//! say where to. Neither can be refused, so levels are kept for them: see [`Ladders::kept`].
//!
//! [`Ladders::kept`]: super::ladder::Ladders

use super::ladder::{Rank, Shelf};
use super::orders::SlotState;
use super::table::NIL;
use super::{Matching, NO_PRICE, OrderView, Slot};
use crate::protocol::command::{OrderType, Peg, Side, Trigger};
use crate::protocol::units::{Price, Quantity};

/// A pegged order and what it follows.
#[derive(Clone, Copy, Debug)]
pub struct Followed {
    /// The order.
    pub order: OrderView,
    /// What it follows.
    pub peg: Peg,
    /// Ticks above that.
    pub offset: Price,
    /// The worst price it may have.
    pub limit: Price,
}

/// Orders that wait for any auction; those for the closing one wait apart.
const FOR_ANY: Price = Price(0);
const FOR_CLOSE: Price = Price(1);

impl Matching {
    /// Price of the last trade in a book, if there was one.
    #[inline]
    pub fn last_price(&self, book: u32) -> Option<Price> {
        let last = self.books[book as usize].last;
        (last != NO_PRICE).then_some(Price(last))
    }

    /// Has an entered or lifted order wait until `stop` trades. One whose price has traded already
    /// joins the queue of [`next_triggered`](Matching::next_triggered) at once.
    pub fn wait(&mut self, Slot(slot): Slot, stop: Price) {
        let trigger = self.orders.special_mut(slot).trigger();
        let cold = &self.orders.cold[slot];
        let (book, shelf) = (cold.book, Shelf::stops(cold.side(), trigger));
        self.put(slot, shelf, stop, SlotState::Waiting);
        self.wake_stops(book);
    }

    /// Has an entered or lifted order wait for an auction: any, or the closing one.
    pub fn set_aside(&mut self, Slot(slot): Slot, for_close: bool) {
        let until = if for_close { FOR_CLOSE } else { FOR_ANY };
        self.put(slot, Shelf::Aside, until, SlotState::Waiting);
    }

    /// The next order that an auction calls out of those set aside, lifted; the closing one calls
    /// all.
    pub fn next_called(&mut self, book: u32, is_close: bool) -> Option<Slot> {
        let until = if is_close { FOR_CLOSE } else { FOR_ANY };
        let shelf = self.shelf(book, Shelf::Aside);
        let level = shelf.best_within(Rank::of(Shelf::Aside.direction(), until))?;
        let slot = Slot(self.ladders.levels[level].first);
        self.lift(slot);
        Some(slot)
    }

    /// The stop price that an order waits for.
    pub fn stop_price(&self, Slot(slot): Slot) -> Option<Price> {
        let level = self.orders.hot[slot].level;
        let row = &self.ladders.levels[level];
        let waits = level != NIL && row.shelf().waits_for().is_some();
        waits.then(|| row.price())
    }

    /// Whether an order waits for an auction.
    pub fn is_aside(&self, Slot(slot): Slot) -> bool {
        let level = self.orders.hot[slot].level;
        level != NIL && self.ladders.levels[level].shelf() == Shelf::Aside
    }

    /// The worst price an order may trade at, wherever it waits or stands.
    pub fn limit(&self, Slot(slot): Slot) -> Price {
        let special = self.orders.special(slot);
        special.map_or_else(|| self.price(slot), |special| Price(special.limit))
    }

    /// Lots an order shows at most; all it has where it is no iceberg.
    pub fn display(&self, Slot(slot): Slot) -> Quantity {
        match self.orders.special(slot) {
            Some(special) if special.display != 0 => Quantity(special.display),
            _ => Quantity(u64::MAX),
        }
    }

    /// Gives an order that waits beside the book another number of lots, where it is.
    pub fn resize(&mut self, Slot(slot): Slot, leaves: Quantity) {
        let hot = &mut self.orders.hot[slot];
        let cold = &mut self.orders.cold[slot];
        assert!(cold.state() == SlotState::Waiting && leaves.0 > 0);
        let row = &mut self.ladders.levels[hot.level];
        row.total = row.total - u128::from(hot.leaves) + u128::from(leaves.0);
        let filled = cold.quantity - hot.leaves;
        cold.quantity = filled.checked_add(leaves.0).expect("checked before commit");
        hot.leaves = leaves.0;
    }

    /// The next order whose stop price has traded, lifted, with its limit as its price.
    pub fn next_triggered(&mut self) -> Option<Slot> {
        while let Some(slot) = self.triggered.pop_front() {
            let cold = &mut self.orders.cold[slot];
            // It may have been cancelled by another order since.
            if cold.state() == SlotState::Triggered {
                cold.set_state(SlotState::Lifted);
                if self.orders.special_mut(slot).follows != 0 {
                    self.unfollow(slot);
                }
                return Some(Slot(slot));
            }
        }
        None
    }

    /// Sends the orders that were about to wake back to wait for their stop prices.
    fn send_back_triggered(&mut self) {
        while let Some(slot) = self.triggered.pop_front() {
            let cold = &self.orders.cold[slot];
            if cold.state() == SlotState::Triggered {
                let side = cold.side();
                let special = self.orders.special_mut(slot);
                let shelf = Shelf::stops(side, special.trigger());
                let stop = Price(special.stop);
                self.put(slot, shelf, stop, SlotState::Waiting);
            }
        }
    }

    /// From now on orders of the book accumulate and may cross; stops sleep.
    pub fn begin_call(&mut self, book: u32) {
        self.books[book as usize].is_call = true;
        self.send_back_triggered();
    }

    /// From now on the book trades continuously; nothing crosses in it. Stops are woken apart, see
    /// [`wake_stops`](Matching::wake_stops).
    pub fn end_call(&mut self, book: u32) {
        assert!(!self.is_crossed(book), "uncross it first");
        self.books[book as usize].is_call = false;
    }

    /// Whether orders of the book accumulate.
    #[inline]
    pub fn is_call(&self, book: u32) -> bool {
        self.books[book as usize].is_call
    }

    /// Whether nothing that a command did to a book has anything to follow it: no order wakes, no
    /// list is to be looked at, none has left a deadline, none follows the market or waits for its best prices, and no
    /// auction is called.
    #[inline(always)]
    pub fn is_settled(&self, book: u32) -> bool {
        let of_book = &self.books[book as usize];
        self.triggered.is_empty()
            && !self.has_changed_lists()
            && self.freed_deadlines.is_empty()
            && !of_book.is_call
            && of_book.oldest_follower == NIL
            && of_book.quoted == 0
    }

    /// Whether an order is about to wake.
    #[inline]
    pub fn has_triggered(&self) -> bool {
        !self.triggered.is_empty()
    }

    /// Queues the stops that the last price has reached: for the beginning of continuous trading.
    pub fn wake_stops(&mut self, book: u32) {
        if let Some(last) = self.last_price(book)
            && !self.books[book as usize].is_call
        {
            self.queue_triggered(book, last);
        }
    }

    /// Something traded, from `first` to `last` in one direction.
    #[inline]
    pub(super) fn note_trades(&mut self, book: u32, first: Price, last: Price) {
        let row = &mut self.books[book as usize];
        row.last = last.0;
        let stops = row.sides[Shelf::BuyStops as usize].orders
            + row.sides[Shelf::SellStops as usize].orders;
        if stops > 0 {
            self.move_stops(book, first, last);
        }
    }

    #[cold]
    fn move_stops(&mut self, book: u32, first: Price, last: Price) {
        self.trail(book, first);
        if !self.books[book as usize].is_call {
            self.queue_triggered(book, first);
        }
        if first != last {
            self.trail(book, last);
            if !self.books[book as usize].is_call {
                self.queue_triggered(book, last);
            }
        }
    }

    /// Moves the stops that `price` reaches into the queue: the nearest first, which are the lowest
    /// of the buys and the highest of the sells, then in order of arrival.
    fn queue_triggered(&mut self, book: u32, price: Price) {
        self.queue_reached(book, Trigger::Last, price);
    }

    /// Queues the stops that the best bid or ask of those that follow nothing has reached. Whether
    /// there were any.
    pub fn queue_quoted(&mut self, book: u32) -> bool {
        if self.books[book as usize].quoted == 0 || self.books[book as usize].is_call {
            return false;
        }
        for (trigger, side) in [(Trigger::Bid, Side::Buy), (Trigger::Ask, Side::Sell)] {
            if let Some(best) = self.best_leading(book, side) {
                self.queue_reached(book, trigger, best);
            }
        }
        self.has_triggered()
    }

    /// Whether a stop waits for a best price that is there.
    pub fn has_unheard_quote(&self, book: u32) -> bool {
        [(Trigger::Bid, Side::Buy), (Trigger::Ask, Side::Sell)]
            .into_iter()
            .any(|(trigger, side)| {
                let best = self.best_leading(book, side);
                best.is_some_and(|best| {
                    [Side::Buy, Side::Sell].into_iter().any(|side| {
                        let shelf = Shelf::stops(side, trigger);
                        let reach = Rank::of(shelf.direction(), best);
                        self.shelf(book, shelf).best_within(reach).is_some()
                    })
                })
            })
    }

    fn queue_reached(&mut self, book: u32, trigger: Trigger, price: Price) {
        for side in [Side::Buy, Side::Sell] {
            let shelf = Shelf::stops(side, trigger);
            let reach = Rank::of(shelf.direction(), price);
            while let Some(level) = self.shelf(book, shelf).best_within(reach) {
                let row = &self.ladders.levels[level];
                let (slot, stop) = (row.first, row.price());
                let limit = self.price(slot);
                self.unlink(slot);
                self.orders.hot[slot].set_price_aside(limit);
                self.orders.cold[slot].set_state(SlotState::Triggered);
                self.orders.special_mut(slot).stop = stop.0;
                self.triggered.push_back(slot);
            }
        }
    }

    /// Moves trailing stops after the market, in order of entry: up for sells, down for buys.
    fn trail(&mut self, book: u32, price: Price) {
        let mut slot = self.books[book as usize].oldest_follower;
        while slot != NIL {
            let special = *self.orders.special_mut(slot);
            let cold = &self.orders.cold[slot];
            let level = self.orders.hot[slot].level;
            let waits = level != NIL && self.ladders.levels[level].shelf() != Shelf::Aside;
            if cold.order_type() == OrderType::TrailingStop && waits {
                let stop = self.ladders.levels[level].price().0;
                let (shelf, moved) = match cold.side() {
                    Side::Buy => {
                        let stop_now = price.0.saturating_add(special.offset);
                        (Shelf::BuyStops, (stop_now < stop).then_some(stop_now))
                    }
                    Side::Sell => {
                        let stop_now = price.0.saturating_sub(special.offset);
                        (Shelf::SellStops, (stop_now > stop).then_some(stop_now))
                    }
                };
                if let Some(stop) = moved {
                    self.unlink(slot);
                    self.orders.cold[slot].set_state(SlotState::Lifted);
                    self.put(slot, shelf, Price(stop), SlotState::Waiting);
                }
            }
            slot = special.newer;
        }
    }

    /// Chains an order to those of its book that follow the market.
    pub(super) fn follow(&mut self, slot: u32) {
        let book = &mut self.books[self.orders.cold[slot].book as usize];
        let older = std::mem::replace(&mut book.newest_follower, slot);
        if older == NIL {
            book.oldest_follower = slot;
        } else {
            self.orders.special_mut(older).newer = slot;
        }
        let special = self.orders.special_mut(slot);
        special.follows = 1;
        special.older = older;
        special.newer = NIL;
        self.ladders.kept += 1;
    }

    /// Takes an order that is in no ladder out of that chain.
    pub(super) fn unfollow(&mut self, slot: u32) {
        let special = *self.orders.special_mut(slot);
        let book = self.orders.cold[slot].book as usize;
        if special.older == NIL {
            self.books[book].oldest_follower = special.newer;
        } else {
            self.orders.special_mut(special.older).newer = special.newer;
        }
        if special.newer == NIL {
            self.books[book].newest_follower = special.older;
        } else {
            self.orders.special_mut(special.newer).older = special.older;
        }
        self.orders.special_mut(slot).follows = 0;
        self.ladders.kept -= 1;
    }

    /// Whether an order of the book follows the market.
    #[inline]
    pub fn has_followers(&self, book: u32) -> bool {
        self.books[book as usize].oldest_follower != NIL
    }

    /// The first order of a book that follows the market, or the next after `slot`.
    pub fn next_follower(&self, book: u32, slot: Option<Slot>) -> Option<Slot> {
        let next = match slot {
            None => self.books[book as usize].oldest_follower,
            Some(Slot(slot)) => self.orders.special(slot).map_or(NIL, |row| row.newer),
        };
        (next != NIL).then_some(Slot(next))
    }

    /// What a pegged order follows; `None` for any other.
    pub fn followed(&self, slot: Slot) -> Option<Followed> {
        let special = self.orders.special(slot.0)?;
        let order = self.order(slot);
        (order.order_type == OrderType::Pegged).then(|| Followed {
            order,
            peg: special.peg(),
            offset: Price(special.offset),
            limit: Price(special.limit),
        })
    }

    /// The best price of a side at which an order rests that follows nothing.
    pub fn best_leading(&self, book: u32, side: Side) -> Option<Price> {
        let mut levels = self.level_rows(book, Shelf::of(side));
        let leading = levels.find(|level| {
            let level = &self.ladders.levels[*level];
            level.orders > level.followers
        })?;
        Some(self.ladders.levels[leading].price())
    }
}
