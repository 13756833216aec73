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
//! let killed = tif == Fok && !matching.reachable(book, side, (price, band), quantity, participant, stp);
//! // COMMIT: from here it succeeds.
//! let slot = matching.enter(&NewOrder { book, participant, .. }); // its id exists from here on
//! let order_id = matching.order(slot).order_id;
//! if killed {
//!     matching.finish(slot);
//!     return;
//! }
//! let outcome = matching.execute(slot, band, |step| match step {
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

mod auction;
mod audit;
mod cancel;
mod client_ids;
mod execute;
mod feed;
mod hints;
mod ladder;
mod linked;
mod orders;
mod sessions;
mod snapshot;
mod specials;
mod stops;
mod table;
#[cfg(test)]
mod tests;
mod views;

pub use feed::{Change, ChangeKind};
pub use linked::{LIST_MAX, List};
pub use orders::NewOrder;
pub use specials::NewSpecial;
pub use stops::Followed;
pub use views::{Cross, LevelView, Lookup, Meeting, OrderView, Outcome, Place, Slot, Step};

pub use crate::engine::band::{Band, no_band};

use crate::engine::Limits;
use crate::memory::Take;
use crate::protocol::command::{OrderType, Side};
use crate::protocol::units::{ClientOrderId, OrderId, Price, Quantity};
use client_ids::{ClientIds, Known};
use ladder::{BookSide, Ladders, Rank, Shelf};
use linked::Lists;
use orders::{Orders, SlotState};
use sessions::Sessions;
use std::collections::VecDeque;
use table::NIL;

/// Of a book in which nothing has traded.
const NO_PRICE: i64 = i64::MIN;

/// Of an order that only the engine's id finds: nothing is remembered of it once it is finished.
pub const NO_CLIENT_ORDER_ID: ClientOrderId = ClientOrderId(client_ids::NONE);

/// What most commands read comes first, on two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Book {
    /// Price of the last trade, [`NO_PRICE`] before the first.
    last: i64,
    /// Orders accumulate: they may cross, and stops sleep.
    is_call: bool,
    /// Changes to what it shows are recorded.
    is_published: bool,
    /// First and last of those that follow the market, in order of entry.
    oldest_follower: u32,
    newest_follower: u32,
    /// Stops that wait for the best bid or ask.
    quoted: u32,
    sides: [BookSide; Shelf::COUNT],
    /// What was last said of the auction: price and volume.
    indicated: (i64, u64),
}

impl Book {
    fn new() -> Book {
        Book {
            sides: [BookSide::default(); Shelf::COUNT],
            last: NO_PRICE,
            is_call: false,
            is_published: false,
            oldest_follower: NIL,
            newest_follower: NIL,
            quoted: 0,
            indicated: (0, 0),
        }
    }
}

/// The books and the orders.
pub struct Matching {
    books: Vec<Book>,
    book_capacity: u32,
    orders: Orders,
    ladders: Ladders,
    ids: ClientIds,
    sessions: Sessions,
    lists: Lists,
    /// Orders that a mass cancel takes out behind their levels, or the levels that an auction looks
    /// at; room for all, empty between commands.
    visit: Vec<(u32, u32)>,
    /// Orders whose stop price has traded, in the order in which they wake; empty between commands.
    triggered: VecDeque<u32>,
    /// Deadlines of orders that have ended, for whoever keeps them; empty between commands.
    freed_deadlines: Vec<u32>,
    /// What happened to published books; empty between commands.
    changes: Vec<Change>,
}

impl Matching {
    /// No books; tables of these sizes.
    pub fn new(limits: &Limits) -> Matching {
        Matching {
            books: Vec::with_capacity(limits.instruments as usize),
            book_capacity: limits.instruments,
            orders: Orders::new(limits.orders, limits.special_orders, limits.participants),
            ladders: Ladders::new(limits.price_levels),
            ids: ClientIds::new(limits.client_order_ids, limits.lookup_secret),
            sessions: Sessions::new(limits.order_sessions),
            lists: Lists::new(limits.special_orders.min(limits.orders) / 2 + 1),
            visit: Vec::with_capacity(limits.orders as usize),
            triggered: VecDeque::with_capacity(limits.special_orders.min(limits.orders) as usize),
            freed_deadlines: Vec::with_capacity(256),
            changes: Vec::with_capacity(1_024),
        }
    }

    /// Takes the memory of every table for good, so that no command pays for a page fault.
    pub fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.books, how);
        crate::memory::take(&mut self.visit, how);
        self.orders.take_memory(how);
        self.ladders.take_memory(how);
        self.ids.take_memory(how);
        self.lists.take_memory(how);
    }

    /// Adds the book with that handle: the next one, counted from 0.
    ///
    /// # Panics
    /// Where it is not the next, or one more than `Limits::instruments`.
    pub fn add_book(&mut self, book: u32) {
        assert_eq!(book as usize, self.books.len(), "books are added in order");
        assert!(book < self.book_capacity, "checked before commit");
        self.books.push(Book::new());
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
            SlotState::Free => Lookup::Unknown,
            SlotState::Retired => Lookup::Finished,
            state => {
                debug_assert!(state.is_live());
                Lookup::Live(Slot(slot))
            }
        }
    }

    /// The order in `slot`. Inlined, so that what the caller does not read is not copied.
    #[inline(always)]
    pub fn order(&self, slot: Slot) -> OrderView {
        self.orders.view(slot.0, self.price(slot.0))
    }

    /// Whose the order in `slot` is.
    #[inline(always)]
    pub fn owner(&self, slot: Slot) -> u32 {
        self.orders.hot[slot.0].participant
    }

    /// The engine's id of the order in `slot`.
    #[inline(always)]
    pub fn order_id(&self, slot: Slot) -> OrderId {
        self.orders.id(slot.0)
    }

    /// Has self-trade prevention take a participant for one with all of its group, 0 for none.
    pub fn join_group(&mut self, participant: u32, group: u32) {
        if group != 0 {
            self.orders.join_group(participant, group);
        }
    }

    /// Whether self-trade prevention takes both participants for one.
    #[inline]
    pub fn is_same(&self, one: u32, other: u32) -> bool {
        self.orders.is_same(one, other)
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

    /// Whether one more special order can be entered.
    #[inline]
    pub fn has_room_for_special(&self) -> bool {
        self.orders.specials.has_room()
    }

    /// Whether an order could rest at that price: its level is there or can be made.
    #[inline]
    pub fn has_room_at(&self, book: u32, side: Side, price: Price) -> bool {
        self.ladders.has_room(1) || self.is_kept_up(book, Shelf::of(side), price)
    }

    /// Whether an order could wait beside the book, for a stop price or for an auction, or follow
    /// the market: a level for it, and those it may need later, when it cannot be refused.
    pub fn has_room_beside(&self) -> bool {
        self.ladders.has_room(3)
    }

    /// Whether the order in `slot` could rest at another price: as
    /// [`has_room_at`](Matching::has_room_at), counting the level that it alone keeps up.
    #[inline]
    pub fn has_room_to_move(&self, slot: Slot, price: Price) -> bool {
        self.ladders.has_room(1) || self.has_room_of_others(slot, price)
    }

    #[cold]
    fn has_room_of_others(&self, slot: Slot, price: Price) -> bool {
        let cold = &self.orders.cold[slot.0];
        self.ladders.levels[self.orders.hot[slot.0].level].orders == 1
            || self.is_kept_up(cold.book, Shelf::of(cold.side()), price)
    }

    /// Whether a level is there that does not go when those that follow the market leave it.
    #[inline]
    fn is_kept_up(&self, book: u32, shelf: Shelf, price: Price) -> bool {
        let rank = Rank::of(shelf.direction(), price);
        let level = self.ladders.find(self.shelf(book, shelf), rank);
        level.is_some_and(|level| {
            let level = &self.ladders.levels[level];
            level.orders > level.followers
        })
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
        self.level_rows(book, Shelf::of(side))
            .map(|row| self.level_view(row))
    }

    /// The orders of a side in price-time order.
    pub fn orders(&self, book: u32, side: Side) -> impl Iterator<Item = OrderView> + '_ {
        self.orders_on(book, Shelf::of(side))
    }

    /// Calls `visit` with the orders that wait beside the book: buy stops, sell stops, those that
    /// wait for an auction, then stops that wait for the best bid or ask.
    pub fn for_each_waiting(&self, book: u32, visit: impl FnMut(OrderView)) {
        let all = Shelf::ALL[2..]
            .iter()
            .copied()
            .flat_map(|shelf| self.orders_on(book, shelf));
        all.for_each(visit);
    }

    fn orders_on(&self, book: u32, shelf: Shelf) -> impl Iterator<Item = OrderView> + '_ {
        self.level_rows(book, shelf).flat_map(move |row| {
            self.chain(self.ladders.levels[row].first)
                .map(move |slot| self.orders.view(slot, self.price(slot)))
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

    /// Calls `visit` with every order alive, in no order that means anything.
    pub fn for_each_live(&self, mut visit: impl FnMut(OrderView)) {
        for slot in 1..self.orders.pool.fresh {
            if self.orders.cold[slot].state().is_live() {
                visit(self.order(Slot(slot)));
            }
        }
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
    #[inline(always)]
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
        if let Some(special) = &order.special {
            if matches!(
                order.order_type,
                OrderType::TrailingStop | OrderType::Pegged
            ) {
                self.follow(slot);
            }
            if special.session != NIL {
                self.join_session(slot, special.session);
            }
        }
        Slot(slot)
    }

    /// Puts an entered or lifted order into the book, behind all others at its price.
    ///
    /// # Panics
    /// Where it rests already, nothing leaves, it would cross though no auction is called, or there
    /// is no room for its level.
    #[inline]
    pub fn rest(&mut self, slot: Slot) {
        let Slot(slot) = slot;
        let cold = &self.orders.cold[slot];
        let (book, side, price) = (cold.book, cold.side(), self.orders.hot[slot].price_aside());
        assert!(
            !self.would_cross(book, side, price) || self.books[book as usize].is_call,
            "what rests does not cross"
        );
        self.put(slot, Shelf::of(side), price, SlotState::Resting);
    }

    /// Puts an order that is in no ladder at the end of the level of `shelf` at `price`.
    #[inline]
    fn put(&mut self, slot: u32, shelf: Shelf, price: Price, state: SlotState) {
        let cold = &mut self.orders.cold[slot];
        let (book, special) = (cold.book, cold.special);
        match cold.state() {
            SlotState::Entered => {
                cold.set_state(state);
                self.orders.chain(slot);
            }
            SlotState::Lifted | SlotState::Triggered => cold.set_state(state),
            SlotState::Free | SlotState::Resting | SlotState::Waiting | SlotState::Retired => {
                panic!("only an order outside the book comes to rest")
            }
        }
        let rank = Rank::of(shelf.direction(), price);
        let ladder = &mut self.books[book as usize].sides[shelf as usize];
        let level = self.ladders.find_or_add(ladder, rank, book, shelf);
        ladder.orders += 1;
        let row = &mut self.ladders.levels[level];
        if special != NIL {
            let special = &mut self.orders.specials.rows[special];
            let leaves = &mut self.orders.hot[slot].leaves;
            if state == SlotState::Resting && special.display != 0 && special.display < *leaves {
                special.hidden = *leaves - special.display;
                *leaves = special.display;
                row.icebergs += 1;
            }
            row.followers += u32::from(special.follows);
            self.books[book as usize].quoted += u32::from(shelf.is_quoted());
        }
        self.ladders.kept += u32::from(state == SlotState::Waiting);
        let hot = &mut self.orders.hot[slot];
        assert!(hot.leaves > 0, "a filled order does not rest");
        hot.level = level;
        hot.prev = std::mem::replace(&mut row.last, slot);
        hot.next = NIL;
        row.total += u128::from(hot.leaves);
        row.orders += 1;
        let (last, shown) = (hot.prev, hot.leaves);
        if row.turns == u32::MAX {
            self.number_anew(level, slot);
        }
        let row = &mut self.ladders.levels[level];
        self.orders.cold[slot].turn = row.turns;
        row.turns += 1;
        if last == NIL {
            row.first = slot;
        } else {
            self.orders.hot[last].next = slot;
        }
        if self.books[book as usize].is_published {
            self.record(ChangeKind::Add, slot, level, shown);
        }
    }

    /// Gives the orders of a level turns from 0 on, in their order: it has run out of them. `coming`
    /// is about to come behind them.
    #[cold]
    fn number_anew(&mut self, level: u32, coming: u32) {
        let mut turns = 0;
        let mut slot = self.ladders.levels[level].first;
        while slot != NIL && slot != coming {
            self.orders.cold[slot].turn = turns;
            turns += 1;
            slot = self.orders.hot[slot].next;
        }
        self.ladders.levels[level].turns = turns;
    }

    /// Ends an order that is not in the book: its ids are finished, its slot is free.
    ///
    /// # Panics
    /// Where it rests: that is [`Matching::cancel`].
    #[inline]
    pub fn finish(&mut self, slot: Slot) {
        match self.orders.cold[slot.0].state() {
            SlotState::Entered => {}
            SlotState::Lifted | SlotState::Triggered => self.orders.unchain(slot.0),
            SlotState::Free | SlotState::Resting | SlotState::Waiting | SlotState::Retired => {
                panic!("only an order outside the book finishes")
            }
        }
        self.release(slot.0);
    }

    /// Takes a resting order out of the book and ends it. Returns it as it was.
    ///
    /// # Panics
    /// Where it does not rest.
    #[inline(always)]
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
        let hot = &self.orders.hot[slot.0];
        assert!(hot.level != NIL, "only a resting order is reduced");
        assert!(leaves.0 > 0, "nothing left is a cancel");
        let hidden = self.orders.hidden(slot.0);
        let hot = &mut self.orders.hot[slot.0];
        let before = hot.leaves;
        let less = (before + hidden)
            .checked_sub(leaves.0)
            .expect("less, not more");
        // What is not shown goes first.
        hot.leaves = before.min(leaves.0);
        let (level, shown) = (hot.level, hot.leaves);
        let row = &mut self.ladders.levels[level];
        row.total -= u128::from(before - shown);
        if hidden > 0 {
            let left = leaves.0 - shown;
            row.icebergs -= u32::from(left == 0);
            self.orders.special_mut(slot.0).hidden = left;
        }
        self.orders.cold[slot.0].quantity -= less;
        if self.is_recorded(level) && shown < before {
            self.record(ChangeKind::Reduce, slot.0, level, shown);
        }
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

    /// [`Matching::lift`] and [`Matching::amend`] in one.
    ///
    /// # Panics
    /// Where it does not rest, `leaves` is 0, or the total passes 2^64-1.
    #[inline]
    pub fn lift_to(&mut self, slot: Slot, price: Price, leaves: Quantity) {
        self.unlink(slot.0);
        self.orders.cold[slot.0].set_state(SlotState::Lifted);
        self.amend(slot, price, leaves);
    }

    /// Changes the worst price of a special order: where it waits, in place; else once it comes to
    /// rest. What follows the market keeps its place in the book until that moves.
    ///
    /// # Panics
    /// Where it is not special.
    pub fn set_limit(&mut self, slot: Slot, limit: Price, cover_price: Price) {
        let special = self.orders.special_mut(slot.0);
        special.limit = limit.0;
        special.cover_price = cover_price.0;
    }

    /// Remembers where the expiry of a special order stands among the deadlines.
    pub fn set_deadline(&mut self, slot: Slot, deadline: u32) {
        self.orders.special_mut(slot.0).deadline = deadline;
    }

    /// The order in that row, whose deadline has passed and is none any more.
    pub fn lapse(&mut self, row: u32) -> Slot {
        self.orders.special_mut(row).deadline = specials::NO_DEADLINE;
        Slot(row)
    }

    /// A deadline of an order that has ended.
    #[inline]
    pub fn next_freed_deadline(&mut self) -> Option<u32> {
        self.freed_deadlines.pop()
    }

    /// From now on something is held for the order, or nothing is.
    ///
    /// # Panics
    /// Where it is not special.
    pub fn set_covered(&mut self, slot: Slot, is_covered: bool) {
        self.orders.special_mut(slot.0).is_uncovered = u8::from(!is_covered);
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
            if cold.state().is_live() {
                let participant = self.orders.hot[slot].participant;
                self.ids.insert(participant, cold.client_order_id, slot);
            }
        }
    }

    #[inline(always)]
    fn price(&self, slot: u32) -> Price {
        let hot = &self.orders.hot[slot];
        if hot.level == NIL {
            return hot.price_aside();
        }
        match self.orders.special(slot) {
            Some(special) if self.orders.cold[slot].state() == SlotState::Waiting => {
                Price(special.limit)
            }
            _ => self.ladders.levels[hot.level].price(),
        }
    }

    #[inline]
    fn side(&self, book: u32, side: Side) -> &BookSide {
        self.shelf(book, Shelf::of(side))
    }

    #[inline]
    fn shelf(&self, book: u32, shelf: Shelf) -> &BookSide {
        &self.books[book as usize].sides[shelf as usize]
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

    fn level_rows(&self, book: u32, shelf: Shelf) -> impl Iterator<Item = u32> + '_ {
        let best = Some(self.shelf(book, shelf).best);
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

    /// Takes an order out of its level, and the level away with its last order. What it did not
    /// show joins what it did.
    #[inline]
    fn unlink(&mut self, slot: u32) {
        let hot = self.orders.hot[slot];
        assert!(hot.level != NIL, "only a resting order leaves the book");
        if self.is_recorded(hot.level) {
            self.record(ChangeKind::Delete, slot, hot.level, hot.leaves);
        }
        let special = self.orders.cold[slot].special;
        if special != NIL {
            let special = &mut self.orders.specials.rows[special];
            let hidden = std::mem::take(&mut special.hidden);
            let level = &mut self.ladders.levels[hot.level];
            level.icebergs -= u32::from(hidden > 0);
            level.followers -= u32::from(special.follows);
            self.orders.hot[slot].leaves += hidden;
            let waits = self.orders.cold[slot].state() == SlotState::Waiting;
            self.ladders.kept -= u32::from(waits);
            if waits && self.is_for_entry(hot.level) {
                self.ladders.kept -= 1;
            }
            let row = &self.ladders.levels[hot.level];
            self.books[row.book as usize].quoted -= u32::from(row.shelf().is_quoted());
        }
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
        let (book, shelf, orders) = (level.book, level.shelf(), level.orders);
        let ladder = &mut self.books[book as usize].sides[shelf as usize];
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
        let cold = &self.orders.cold[slot];
        let special = cold.special;
        self.ids.finish(participant, cold.client_order_id);
        if special != NIL {
            self.leave_specials(slot, special);
        }
        self.orders.free(slot);
    }

    /// Takes an order that ends out of the chains of the specials.
    #[cold]
    fn leave_specials(&mut self, slot: u32, special: u32) {
        if self.orders.specials.rows[special].follows != 0 {
            self.unfollow(slot);
        }
        if self.orders.specials.rows[special].session != NIL {
            self.leave_session(slot);
        }
        let list = self.orders.specials.rows[special].list;
        if list != NIL {
            self.leave_list(slot, list);
        }
        let deadline = self.orders.specials.rows[special].deadline;
        if deadline != specials::NO_DEADLINE {
            self.freed_deadlines.push(deadline);
        }
        self.orders.specials.free(special);
        self.orders.cold[slot].special = NIL;
    }
}
