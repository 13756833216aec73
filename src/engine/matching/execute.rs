//! Matching: what an incoming order meets, in which order, and when it stops. One loop over the
//! best resting order, never a recursion.

use super::ladder::Rank;
use super::orders::SlotState;
use super::table::NIL;
use super::{Matching, Meeting, Outcome, Slot, Step};
use crate::protocol::command::{SelfTrade, Side};
use crate::protocol::units::{Price, Quantity};

impl Matching {
    /// Executes an entered or lifted order against the other side, best price first and first come
    /// first, up to its own price and not beyond. `on_step` hears of each step as it happens; the
    /// room then takes done makers out. What leaves stays with the order: see
    /// [`Outcome`] for what must become of it.
    ///
    /// # Panics
    /// Where the order is in the book.
    #[inline]
    pub fn execute(&mut self, slot: Slot, mut on_step: impl FnMut(Step<'_>)) -> Outcome {
        let Slot(taker) = slot;
        let hot = self.orders.hot[taker];
        let cold = self.orders.cold[taker];
        assert!(
            matches!(cold.state(), SlotState::Entered | SlotState::Lifted),
            "only an order outside the book is executed"
        );
        let self_trade = cold.self_trade();
        let makers = cold.side().opposite();
        let limit = Rank::of(makers, hot.price_aside());
        let mut leaves = hot.leaves;
        let mut total = cold.quantity;
        let mut taker_fee_budget = cold.fee_budget;
        let outcome = loop {
            if leaves == 0 {
                break Outcome::Filled;
            }
            let ladder = &self.books[cold.book as usize].sides[makers as usize];
            let Some(level) = ladder.best_within(limit) else {
                break Outcome::Open;
            };
            let row = &self.ladders.levels[level];
            let (maker, price) = (row.first, row.rank.price(makers));
            let own = self.orders.hot[maker].participant == hot.participant;
            let quantity = leaves.min(self.orders.hot[maker].leaves);
            let trades = match self_trade {
                SelfTrade::Default | SelfTrade::Allow => true,
                _ if !own => true,
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
            leaves -= quantity;
            self.orders.hot[maker].leaves -= quantity;
            self.ladders.levels[level].total -= u128::from(quantity);
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
            on_step(if trades {
                Step::Fill(meeting)
            } else {
                Step::Decrement(meeting)
            });
            if view.leaves.0 == 0 {
                self.remove(maker);
            }
            if !trades && leaves == 0 {
                break Outcome::SelfTrade;
            }
        };
        self.orders.hot[taker].leaves = leaves;
        let cold = &mut self.orders.cold[taker];
        cold.quantity = total;
        cold.fee_budget = taker_fee_budget;
        outcome
    }

    /// Whether an order of that kind would trade its whole quantity at once: what fill-or-kill
    /// asks. Orders of its own participant do not count, and with `CancelIncoming`, `CancelBoth` or
    /// `Decrement` neither does what lies behind the first of them, for there the order would stop
    /// or shrink.
    pub fn reachable(
        &self,
        book: u32,
        side: Side,
        price: Price,
        quantity: Quantity,
        participant: u32,
        self_trade: SelfTrade,
    ) -> bool {
        let makers = side.opposite();
        let limit = Rank::of(makers, price);
        let ladder = self.side(book, makers);
        let by_level = matches!(self_trade, SelfTrade::Default | SelfTrade::Allow)
            || self.orders.newest(participant) == NIL;
        let mut missing = u128::from(quantity.0);
        let mut level = ladder.best_within(limit).unwrap_or(NIL);
        while level != NIL && self.ladders.levels[level].rank <= limit {
            let row = &self.ladders.levels[level];
            if by_level {
                missing = missing.saturating_sub(row.total);
            } else {
                for slot in self.chain(row.first) {
                    let hot = &self.orders.hot[slot];
                    if hot.participant != participant {
                        missing = missing.saturating_sub(u128::from(hot.leaves));
                    } else if self_trade != SelfTrade::CancelResting && missing > 0 {
                        return false;
                    }
                    if missing == 0 {
                        break;
                    }
                }
            }
            if missing == 0 {
                return true;
            }
            level = self.ladders.next(level);
        }
        missing == 0
    }
}
