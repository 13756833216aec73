//! The matching room: the books of all instruments and every order that lives.
//!
//! It answers questions and holds its own invariants: price-time priority, fills at the resting
//! order's price, no fill beyond a limit, level totals, ids that are never used twice. It knows no
//! accounts, fees or events: handlers ask, check, hold cover and post, and keep what they need in
//! the order (`base_account`, `quote_account`, `fee_budget`). A full table is a question answered
//! before anything changes ([`Matching::has_room_for_order`], [`Matching::has_room_at`],
//! [`Matching::has_room_for_id`]).
//!
//! # A new order
//! ```ignore
//! // CHECK
//! match matching.find(participant, client_order_id) {
//!     Lookup::Unknown => {}
//!     Lookup::Live(_) | Lookup::Finished => return Err(Reason::DuplicateClientOrderId),
//! }
//! if !matching.has_room_for_order() || !matching.has_room_at(book, side, price) {
//!     return Err(Reason::CapacityExhausted);
//! }
//! let killed = tif == Fok && !matching.reachable(book, side, price, quantity, participant, stp);
//! // COMMIT: from here it succeeds.
//! let slot = matching.enter(&NewOrder { book, participant, .. }); // its id exists from here on
//! let order_id = matching.order(slot).order_id;
//! if killed {
//!     matching.finish(slot);
//!     return;
//! }
//! let outcome = matching.execute(slot, |step| match step {
//!     // `maker` is the resting order after the fill; `maker.leaves.0 == 0` says it is done.
//!     Step::Fill(Meeting { maker, quantity, maker_fee_budget, taker_fee_budget, .. }) => {}
//!     Step::Decrement(Meeting { maker, quantity, .. }) => {} // both lose `quantity`, untraded
//!     Step::CancelResting(maker) => {}                       // `maker.leaves` left the book
//! });
//! let leaves = matching.order(slot).leaves;
//! if leaves.0 > 0 && outcome == Outcome::Open && rests {
//!     matching.rest(slot);
//! } else {
//!     matching.finish(slot); // filled, ioc, or stopped by self-trade prevention
//! }
//! ```
//!
//! # A replace
//! Quantity down at the same price: [`Matching::reduce`], priority kept. Everything else:
//! [`Matching::lift`], [`Matching::amend`], then `execute` and `rest` or `finish` as above. A new
//! client order id: [`Matching::rename`].
//!
//! Between commands every live order rests: whoever enters or lifts one also rests or finishes it.

mod audit;
mod cancel;
mod client_ids;
mod execute;
mod hints;
mod ladder;
mod orders;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod views;

pub use orders::NewOrder;
pub use views::{LevelView, Lookup, Meeting, OrderView, Outcome, Slot, Step};

use crate::engine::Limits;
use crate::memory::Take;
use crate::protocol::command::Side;
use crate::protocol::units::{ClientOrderId, OrderId, Price, Quantity};
use client_ids::{ClientIds, Known};
use ladder::{BookSide, Ladders, Rank};
use orders::{Orders, SlotState};
use table::NIL;

#[derive(Clone, Copy, Debug, Default)]
struct Book {
    sides: [BookSide; 2],
}

/// The books and the orders.
pub struct Matching {
    books: Vec<Book>,
    book_capacity: u32,
    orders: Orders,
    ladders: Ladders,
    ids: ClientIds,
    /// Levels a mass cancel has to visit; room for one per order, empty between commands.
    visit: Vec<u32>,
}

impl Matching {
    /// No books; tables of these sizes.
    pub fn new(limits: &Limits) -> Matching {
        Matching {
            books: Vec::with_capacity(limits.instruments as usize),
            book_capacity: limits.instruments,
            orders: Orders::new(limits.orders, limits.participants),
            ladders: Ladders::new(limits.price_levels),
            ids: ClientIds::new(limits.client_order_ids),
            visit: Vec::with_capacity(limits.orders as usize),
        }
    }

    /// Takes the memory of every table for good, so that no command pays for a page fault.
    pub fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.books, how);
        crate::memory::take(&mut self.visit, how);
        self.orders.take_memory(how);
        self.ladders.take_memory(how);
        self.ids.take_memory(how);
    }

    /// Adds the book with that handle: the next one, counted from 0.
    ///
    /// # Panics
    /// Where it is not the next, or one more than `Limits::instruments`.
    pub fn add_book(&mut self, book: u32) {
        assert_eq!(book as usize, self.books.len(), "books are added in order");
        assert!(book < self.book_capacity, "checked before commit");
        self.books.push(Book::default());
    }

    /// Books there are.
    pub fn books(&self) -> u32 {
        self.books.len() as u32
    }

    /// Looks an order up by its participant's id.
    #[inline]
    pub fn find(&self, participant: u32, client_order_id: ClientOrderId) -> Lookup {
        match self.ids.find(participant, client_order_id.0) {
            Known::Live(slot) => Lookup::Live(Slot(slot)),
            Known::Finished => Lookup::Finished,
            Known::Unknown => Lookup::Unknown,
        }
    }

    /// Looks an order up by the engine's id. Whose it is, is for the caller to check.
    #[inline]
    pub fn find_by_id(&self, id: OrderId) -> Lookup {
        let (slot, generation) = orders::slot_and_generation(id);
        if slot == NIL || slot >= self.orders.pool.fresh {
            return Lookup::Unknown;
        }
        let cold = &self.orders.cold[slot];
        match cold.state() {
            _ if generation < cold.generation => Lookup::Finished,
            _ if generation > cold.generation => Lookup::Unknown,
            SlotState::Entered | SlotState::Resting | SlotState::Lifted => Lookup::Live(Slot(slot)),
            SlotState::Free => Lookup::Unknown,
            SlotState::Retired => Lookup::Finished,
        }
    }

    /// The order in `slot`. Inlined, so that what the caller does not read is not copied.
    #[inline(always)]
    pub fn order(&self, slot: Slot) -> OrderView {
        self.orders.view(slot.0, self.price(slot.0))
    }

    /// What the order in `slot` holds for fees.
    #[inline]
    pub fn fee_budget_mut(&mut self, slot: Slot) -> &mut u128 {
        &mut self.orders.cold[slot.0].fee_budget
    }

    /// Whether one more order can be entered: a slot and a client order id.
    #[inline]
    pub fn has_room_for_order(&self) -> bool {
        self.orders.has_room() && self.ids.has_room()
    }

    /// Whether one more client order id can be remembered: for [`Matching::rename`].
    #[inline]
    pub fn has_room_for_id(&self) -> bool {
        self.ids.has_room()
    }

    /// Whether an order could rest at that price: its level is there or can be made.
    #[inline]
    pub fn has_room_at(&self, book: u32, side: Side, price: Price) -> bool {
        self.ladders.has_room() || self.level(book, side, price).is_some()
    }

    /// Whether the order in `slot` could rest at another price: as
    /// [`has_room_at`](Matching::has_room_at), counting the level that it alone keeps up.
    #[inline]
    pub fn has_room_to_move(&self, slot: Slot, price: Price) -> bool {
        let cold = &self.orders.cold[slot.0];
        self.ladders.levels[self.orders.hot[slot.0].level].orders == 1
            || self.has_room_at(cold.book, cold.side(), price)
    }

    /// The best level of a side.
    #[inline]
    pub fn best(&self, book: u32, side: Side) -> Option<LevelView> {
        let best = self.side(book, side).best;
        (best != NIL).then(|| self.level_view(best))
    }

    /// The worst level of a side: the last that a market order can reach.
    #[inline]
    pub fn worst(&self, book: u32, side: Side) -> Option<LevelView> {
        let worst = self.ladders.last(self.side(book, side));
        (worst != NIL).then(|| self.level_view(worst))
    }

    /// The level at that price.
    pub fn level(&self, book: u32, side: Side, price: Price) -> Option<LevelView> {
        let level = self
            .ladders
            .find(self.side(book, side), Rank::of(side, price));
        level.map(|level| self.level_view(level))
    }

    /// Whether an order of `side` at `price` would meet the other side at once.
    #[inline]
    pub fn would_cross(&self, book: u32, side: Side, price: Price) -> bool {
        let other = side.opposite();
        self.side(book, other)
            .best_within(Rank::of(other, price))
            .is_some()
    }

    /// The levels of a side, best first.
    pub fn levels(&self, book: u32, side: Side) -> impl Iterator<Item = LevelView> + '_ {
        self.level_rows(book, side).map(|row| self.level_view(row))
    }

    /// The orders of a side in price-time order.
    pub fn orders(&self, book: u32, side: Side) -> impl Iterator<Item = OrderView> + '_ {
        self.level_rows(book, side).flat_map(move |row| {
            let level = &self.ladders.levels[row];
            let price = level.price();
            self.chain(level.first)
                .map(move |slot| self.orders.view(slot, price))
        })
    }

    /// Calls `visit` with the orders of a side in price-time order.
    pub fn for_each_order(&self, book: u32, side: Side, visit: impl FnMut(OrderView)) {
        self.orders(book, side).for_each(visit);
    }

    /// Orders resting on a side.
    pub fn order_count(&self, book: u32, side: Side) -> u32 {
        self.side(book, side).orders
    }

    /// Orders alive, over all books.
    pub fn live_orders(&self) -> u32 {
        self.orders.pool.used
    }

    /// Gives an order a slot and its ids, outside the book so far.
    ///
    /// # Panics
    /// Where the book or participant does not exist, the client's id is known, or there is no
    /// room: all checked before commit.
    #[inline]
    pub fn enter(&mut self, order: &NewOrder) -> Slot {
        assert!((order.book as usize) < self.books.len(), "the book exists");
        assert!(
            order.participant < self.orders.participants(),
            "the participant exists"
        );
        assert!(order.quantity.0 > 0, "an order has a quantity");
        let slot = self.orders.enter(order);
        self.ids
            .insert(order.participant, order.client_order_id.0, slot);
        Slot(slot)
    }

    /// Puts an entered or lifted order into the book, behind all others at its price.
    ///
    /// # Panics
    /// Where it rests already, nothing leaves, it would cross, or there is no room for its level.
    #[inline]
    pub fn rest(&mut self, slot: Slot) {
        let Slot(slot) = slot;
        let hot = self.orders.hot[slot];
        let cold = &mut self.orders.cold[slot];
        let (book, side, price) = (cold.book, cold.side(), hot.price_aside());
        match cold.state() {
            SlotState::Entered => {
                cold.set_state(SlotState::Resting);
                self.orders.chain(slot);
            }
            SlotState::Lifted => cold.set_state(SlotState::Resting),
            SlotState::Free | SlotState::Resting | SlotState::Retired => {
                panic!("only an order outside the book comes to rest")
            }
        }
        assert!(hot.leaves > 0, "a filled order does not rest");
        assert!(
            !self.would_cross(book, side, price),
            "what rests does not cross"
        );
        let rank = Rank::of(side, price);
        let ladder = &mut self.books[book as usize].sides[side as usize];
        let level = self.ladders.find_or_add(ladder, rank, book, side);
        ladder.orders += 1;
        let row = &mut self.ladders.levels[level];
        let last = std::mem::replace(&mut row.last, slot);
        row.total += u128::from(hot.leaves);
        row.orders += 1;
        if last == NIL {
            row.first = slot;
        } else {
            self.orders.hot[last].next = slot;
        }
        let hot = &mut self.orders.hot[slot];
        hot.level = level;
        hot.prev = last;
        hot.next = NIL;
    }

    /// Ends an order that is not in the book: its ids are finished, its slot is free.
    ///
    /// # Panics
    /// Where it rests: that is [`Matching::cancel`].
    #[inline]
    pub fn finish(&mut self, slot: Slot) {
        match self.orders.cold[slot.0].state() {
            SlotState::Entered => {}
            SlotState::Lifted => self.orders.unchain(slot.0),
            SlotState::Free | SlotState::Resting | SlotState::Retired => {
                panic!("only an order outside the book finishes")
            }
        }
        self.release(slot.0);
    }

    /// Takes a resting order out of the book and ends it. Returns it as it was.
    ///
    /// # Panics
    /// Where it does not rest.
    #[inline]
    pub fn cancel(&mut self, slot: Slot) -> OrderView {
        let order = self.order(slot);
        self.remove(slot.0);
        order
    }

    /// Leaves a resting order `leaves` lots, fewer than it has, where it is. Its total shrinks with
    /// it.
    ///
    /// # Panics
    /// Where it does not rest, or `leaves` is 0 or more than it has.
    #[inline]
    pub fn reduce(&mut self, slot: Slot, leaves: Quantity) {
        let hot = &mut self.orders.hot[slot.0];
        assert!(hot.level != NIL, "only a resting order is reduced");
        assert!(leaves.0 > 0, "nothing left is a cancel");
        let less = hot.leaves.checked_sub(leaves.0).expect("less, not more");
        hot.leaves = leaves.0;
        self.ladders.levels[hot.level].total -= u128::from(less);
        self.orders.cold[slot.0].quantity -= less;
    }

    /// Takes a resting order out of the book, alive, on its way to another price or quantity.
    ///
    /// # Panics
    /// Where it does not rest.
    #[inline]
    pub fn lift(&mut self, slot: Slot) {
        let price = self.price(slot.0);
        self.unlink(slot.0);
        self.orders.hot[slot.0].set_price_aside(price);
        self.orders.cold[slot.0].set_state(SlotState::Lifted);
    }

    /// Gives a lifted order its new price and what leaves. Its total is what is filled and that.
    ///
    /// # Panics
    /// Where it is in the book, `leaves` is 0, or the total passes 2^64-1.
    #[inline]
    pub fn amend(&mut self, slot: Slot, price: Price, leaves: Quantity) {
        let hot = &mut self.orders.hot[slot.0];
        let cold = &mut self.orders.cold[slot.0];
        assert!(hot.level == NIL, "lift it first");
        assert!(leaves.0 > 0, "nothing left is a cancel");
        let filled = cold.quantity - hot.leaves;
        cold.quantity = filled.checked_add(leaves.0).expect("checked before commit");
        hot.leaves = leaves.0;
        hot.set_price_aside(price);
    }

    /// Gives a live order another client order id; the old one is finished.
    ///
    /// # Panics
    /// Where the new id is known, or there is no room: both checked before commit.
    #[inline]
    pub fn rename(&mut self, slot: Slot, client_order_id: ClientOrderId) {
        let participant = self.orders.hot[slot.0].participant;
        let cold = &mut self.orders.cold[slot.0];
        let old = std::mem::replace(&mut cold.client_order_id, client_order_id.0);
        self.ids.insert(participant, client_order_id.0, slot.0);
        self.ids.finish(participant, old);
    }

    /// Forgets the client order ids of finished orders; live orders keep theirs.
    pub fn roll_day(&mut self) {
        self.ids.clear();
        for slot in 1..self.orders.pool.fresh {
            let cold = &self.orders.cold[slot];
            match cold.state() {
                SlotState::Entered | SlotState::Resting | SlotState::Lifted => {
                    let participant = self.orders.hot[slot].participant;
                    self.ids.insert(participant, cold.client_order_id, slot);
                }
                SlotState::Free | SlotState::Retired => {}
            }
        }
    }

    #[inline]
    fn price(&self, slot: u32) -> Price {
        let hot = &self.orders.hot[slot];
        if hot.level == NIL {
            hot.price_aside()
        } else {
            self.ladders.levels[hot.level].price()
        }
    }

    #[inline]
    fn side(&self, book: u32, side: Side) -> &BookSide {
        &self.books[book as usize].sides[side as usize]
    }

    #[inline]
    fn level_view(&self, level: u32) -> LevelView {
        let level = &self.ladders.levels[level];
        LevelView {
            price: level.price(),
            quantity: level.total,
            orders: level.orders,
        }
    }

    fn level_rows(&self, book: u32, side: Side) -> impl Iterator<Item = u32> + '_ {
        let best = Some(self.side(book, side).best);
        std::iter::successors(best, |level| Some(self.ladders.next(*level)))
            .take_while(|level| *level != NIL)
    }

    /// The orders of a level from `first` on.
    fn chain(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(first), |slot| Some(self.orders.hot[*slot].next))
            .take_while(|slot| *slot != NIL)
    }

    /// Takes a resting order out of the book and ends it.
    #[inline]
    fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        self.orders.unchain(slot);
        self.release(slot);
    }

    /// Takes a resting order out of its level, and the level away with its last order.
    #[inline]
    fn unlink(&mut self, slot: u32) {
        let hot = self.orders.hot[slot];
        assert!(hot.level != NIL, "only a resting order leaves the book");
        let level = &mut self.ladders.levels[hot.level];
        level.total -= u128::from(hot.leaves);
        level.orders -= 1;
        if hot.prev == NIL {
            level.first = hot.next;
        } else {
            self.orders.hot[hot.prev].next = hot.next;
        }
        if hot.next == NIL {
            level.last = hot.prev;
        } else {
            self.orders.hot[hot.next].prev = hot.prev;
        }
        let (book, side, orders) = (level.book, level.side(), level.orders);
        let ladder = &mut self.books[book as usize].sides[side as usize];
        ladder.orders -= 1;
        if orders == 0 {
            self.ladders.remove(ladder, hot.level);
        }
        self.orders.hot[slot].level = NIL;
    }

    /// Finishes the ids of an order that is nowhere in the book, and frees its slot.
    #[inline]
    fn release(&mut self, slot: u32) {
        let participant = self.orders.hot[slot].participant;
        self.ids
            .finish(participant, self.orders.cold[slot].client_order_id);
        self.orders.free(slot);
    }
}
