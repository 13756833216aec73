//! Matching: what an incoming order meets, in which order, and when it stops. One loop over the
//! best resting order, never a recursion.

use super::ladder::{Rank, Shelf};
use super::orders::SlotState;
use super::table::NIL;
use super::{Band, Matching, Meeting, Outcome, Slot, Step};
use crate::protocol::command::{SelfTrade, Side};
use crate::protocol::units::{Price, Quantity};

impl Matching {
    /// Executes an entered or lifted order against the other side, best price first and first come
    /// first, up to its own price and not beyond; it ends where the next trade would be outside
    /// `band` (see [`no_band`](super::no_band)). `on_step` hears of each step as it happens; the room
    /// then takes done makers out, and has icebergs show more. What leaves stays with the order: see
    /// [`Outcome`] for what must become of it. Stops whose price has traded wait in
    /// [`next_triggered`](Matching::next_triggered).
    ///
    /// # Panics
    /// Where the order is in the book.
    #[inline(always)]
    pub fn execute(&mut self, slot: Slot, band: Band, on_step: impl FnMut(Step<'_>)) -> Outcome {
        let cold = &self.orders.cold[slot.0];
        assert!(
            matches!(cold.state(), SlotState::Entered | SlotState::Lifted),
            "only an order outside the book is executed"
        );
        let makers = cold.side().opposite();
        let limit = Rank::of(makers, self.orders.hot[slot.0].price_aside());
        // Most orders meet nobody.
        if self.side(cold.book, makers).best_within(limit).is_none() {
            return Outcome::Open;
        }
        self.execute_crossing(slot, band, on_step)
    }

    /// Executes an order that something is open for, unless the band is in the way.
    fn execute_crossing(
        &mut self,
        slot: Slot,
        band: Band,
        mut on_step: impl FnMut(Step<'_>),
    ) -> Outcome {
        let Slot(taker) = slot;
        let hot = self.orders.hot[taker];
        let cold = self.orders.cold[taker];
        let self_trade = cold.self_trade();
        let makers = cold.side().opposite();
        let limit = Rank::of(makers, hot.price_aside());
        let (near, far) = ends(makers, band);
        let shelf = Shelf::of(makers);
        let mut leaves = hot.leaves;
        let mut total = cold.quantity;
        let mut taker_fee_budget = cold.fee_budget;
        let mut traded: Option<(Price, Price)> = None;
        let outcome = loop {
            if leaves == 0 {
                break Outcome::Filled;
            }
            let ladder = &self.books[cold.book as usize].sides[shelf as usize];
            let Some(level) = ladder.best_within(limit) else {
                break Outcome::Open;
            };
            let row = &self.ladders.levels[level];
            let (maker, rank) = (row.first, row.rank);
            let price = rank.price(makers);
            let other = self.orders.hot[maker].participant;
            let quantity = leaves.min(self.orders.hot[maker].leaves);
            let trades = match self_trade {
                SelfTrade::Default | SelfTrade::Allow => true,
                _ if !self.orders.is_same(other, hot.participant) => true,
                SelfTrade::CancelIncoming => break Outcome::SelfTrade,
                mode @ (SelfTrade::CancelResting | SelfTrade::CancelBoth) => {
                    on_step(Step::CancelResting(self.orders.view(maker, price)));
                    self.remove(maker);
                    if mode == SelfTrade::CancelBoth {
                        break Outcome::SelfTrade;
                    }
                    continue;
                }
                SelfTrade::Decrement => false,
            };
            // A better price may lie outside it, too.
            if trades && (rank < near || rank > far) {
                break Outcome::Band;
            }
            leaves -= quantity;
            self.orders.hot[maker].leaves -= quantity;
            self.ladders.levels[level].total -= u128::from(quantity);
            if self.books[cold.book as usize].is_published {
                self.record_taken(maker, level, quantity, trades);
            }
            if !trades {
                total -= quantity;
                self.orders.cold[maker].quantity -= quantity;
            }
            let view = self.orders.view(maker, price);
            let meeting = Meeting {
                maker: view,
                maker_fee_budget: &mut self.orders.cold[maker].fee_budget,
                taker_fee_budget: &mut taker_fee_budget,
                quantity: Quantity(quantity),
                taker_leaves: Quantity(leaves),
            };
            if trades {
                traded = Some((traded.map_or(price, |(first, _)| first), price));
                on_step(Step::Fill(meeting));
            } else {
                on_step(Step::Decrement(meeting));
            }
            if self.orders.hot[maker].leaves == 0 {
                self.emptied(maker);
            } else if self.orders.cold[maker].special != NIL {
                self.note_list(maker);
            }
            if !trades && leaves == 0 {
                break Outcome::SelfTrade;
            }
        };
        self.orders.hot[taker].leaves = leaves;
        let cold = &mut self.orders.cold[taker];
        cold.quantity = total;
        cold.fee_budget = taker_fee_budget;
        let (book, is_special) = (cold.book, cold.special != NIL);
        if let Some((first, last)) = traded {
            self.note_trades(book, first, last);
        }
        if is_special && leaves != hot.leaves {
            self.note_list(taker);
        }
        outcome
    }

    /// An order of which nothing is shown any more leaves the book, unless it has more behind it:
    /// then that is shown, behind all others at the price.
    #[inline]
    pub(super) fn emptied(&mut self, slot: u32) {
        let special = self.orders.cold[slot].special;
        if special == NIL || self.orders.specials.rows[special].hidden == 0 {
            self.remove(slot);
        } else {
            self.refill(slot, special);
        }
    }

    #[cold]
    fn refill(&mut self, slot: u32, special: u32) {
        let special = &mut self.orders.specials.rows[special];
        let shown = special.hidden.min(special.display);
        special.hidden -= shown;
        self.note_list(slot);
        let hot = &mut self.orders.hot[slot];
        hot.leaves = shown;
        let (level, next) = (hot.level, hot.next);
        if self.books[self.ladders.levels[level].book as usize].is_published {
            self.record_refill(slot, level, shown);
        }
        let special = &mut self.orders.specials.rows[self.orders.cold[slot].special];
        let row = &mut self.ladders.levels[level];
        row.icebergs -= u32::from(special.hidden == 0);
        row.total += u128::from(shown);
        if next == NIL {
            return;
        }
        // Only the first of a level trades: nobody stands before it.
        debug_assert_eq!(row.first, slot);
        row.first = next;
        let last = std::mem::replace(&mut row.last, slot);
        if row.turns == u32::MAX {
            self.number_anew(level, slot);
        }
        let row = &mut self.ladders.levels[level];
        self.orders.cold[slot].turn = row.turns;
        row.turns += 1;
        self.orders.hot[next].prev = NIL;
        self.orders.hot[last].next = slot;
        let hot = &mut self.orders.hot[slot];
        hot.prev = last;
        hot.next = NIL;
    }

    /// Whether an order of that kind would trade `quantity` at once, at `price` or better and inside
    /// `band`: what fill-or-kill and minimum quantities ask. Orders of its own participant or group do not count,
    /// and with `CancelIncoming`, `CancelBoth` or `Decrement` neither does what lies behind the
    /// first of them, for there the order would stop or shrink.
    pub fn reachable(
        &self,
        book: u32,
        side: Side,
        (price, band): (Price, Band),
        quantity: Quantity,
        participant: u32,
        self_trade: SelfTrade,
    ) -> bool {
        let makers = side.opposite();
        let (near, far) = ends(makers, band);
        let limit = Rank::of(makers, price).min(far);
        let ladder = self.side(book, makers);
        let by_level = matches!(self_trade, SelfTrade::Default | SelfTrade::Allow)
            || self.orders.has_none(participant);
        let mut missing = u128::from(quantity.0);
        let mut level = ladder.best_within(limit).unwrap_or(NIL);
        while level != NIL && self.ladders.levels[level].rank <= limit {
            let (open, stops) = if by_level {
                (self.open(level), false)
            } else {
                self.open_to(level, participant, self_trade)
            };
            // The first trade would be outside the band.
            if open != 0 && self.ladders.levels[level].rank < near {
                return false;
            }
            missing = missing.saturating_sub(open);
            if missing == 0 {
                return true;
            }
            if stops {
                return false;
            }
            level = self.ladders.next(level);
        }
        false
    }

    /// Lots open at a level, shown or not.
    pub(super) fn open(&self, level: u32) -> u128 {
        let row = &self.ladders.levels[level];
        if row.icebergs == 0 {
            return row.total;
        }
        let hidden = self.chain(row.first).map(|slot| self.orders.hidden(slot));
        row.total + hidden.map(u128::from).sum::<u128>()
    }

    /// Lots of a level that an order of `participant` would trade with, and whether it would stop
    /// there. What others do not show lies behind its own order, so it counts only where that makes
    /// way.
    fn open_to(&self, level: u32, participant: u32, self_trade: SelfTrade) -> (u128, bool) {
        let (mut open, mut hidden) = (0u128, 0u128);
        for slot in self.chain(self.ladders.levels[level].first) {
            let hot = &self.orders.hot[slot];
            if !self.orders.is_same(hot.participant, participant) {
                open += u128::from(hot.leaves);
                hidden += u128::from(self.orders.hidden(slot));
            } else if self_trade != SelfTrade::CancelResting {
                return (open, true);
            }
        }
        (open + hidden, false)
    }
}

/// The ends of a band, the better for those who take first.
#[inline]
fn ends(makers: Side, band: Band) -> (Rank, Rank) {
    let (near, far) = match makers {
        Side::Sell => (band.low, band.high),
        Side::Buy => (band.high, band.low),
    };
    (Rank::of(makers, near), Rank::of(makers, far))
}
