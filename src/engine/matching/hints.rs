//! Hints: what a command some places ahead will need is asked for now, so that the wait for memory
//! overlaps with work. A hint changes nothing and what it returns means nothing. Each follows what
//! the one before it brought, so they belong a few commands apart; what fits the cache anyway is
//! left alone.
//!
//! ```text
//!   commands ahead       12                8                 4                    2
//!   for its id           touch             touch_order       touch_neighbours
//!   for its price        touch_level 0     touch_level 1     touch_level 2        touch_level 3
//! ```

use super::Matching;
use super::client_ids::Known;
use super::ladder::Rank;
use crate::prefetch::prefetch;
use crate::protocol::command::Side;
use crate::protocol::units::{ClientOrderId, Price};

impl Matching {
    /// Whether orders outgrow the nearer caches; where not, only the first hint is of any use.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.orders.is_large()
    }

    /// Asks for the memory where the lookup of that id starts: the first hint for every order
    /// command.
    #[inline]
    pub fn touch(&self, participant: u32, client_order_id: ClientOrderId) {
        self.ids.touch(participant, client_order_id.0);
    }

    /// Asks for the order's row: the second hint, for cancels and replaces.
    #[inline]
    pub fn touch_order(&self, participant: u32, client_order_id: ClientOrderId) {
        if self.orders.is_large()
            && let Known::Live(slot) = self.ids.find(participant, client_order_id.0)
        {
            prefetch(&self.orders.hot[slot]);
            prefetch(&self.orders.cold[slot]);
        }
    }

    /// Asks for what a cancel or replace of the order changes around it: the third hint. Returns the
    /// account that holds its cover, for whoever keeps that.
    #[inline]
    pub fn touch_neighbours(
        &self,
        participant: u32,
        client_order_id: ClientOrderId,
    ) -> Option<u32> {
        if self.orders.is_large()
            && let Known::Live(slot) = self.ids.find(participant, client_order_id.0)
        {
            let hot = &self.orders.hot[slot];
            for neighbour in [hot.prev, hot.next, hot.newer, hot.older] {
                prefetch(&self.orders.hot[neighbour]);
            }
            prefetch(&self.ladders.levels[hot.level]);
            let cold = &self.orders.cold[slot];
            return Some(match cold.side() {
                Side::Buy => cold.quote_account,
                Side::Sell => cold.base_account,
            });
        }
        None
    }

    /// Asks for the way to the level of a price, for new orders and changed prices: with 0 `steps`
    /// for the first page, with each step for what lies behind it, with 3 usually for the order
    /// behind which another would rest. Four hints of its own, beside the others.
    #[inline]
    pub fn touch_level(&self, book: u32, side: Side, price: Price, steps: u32) {
        if self.orders.is_large() && (steps >= 3 || self.ladders.is_large()) {
            let rank = Rank::of(side, price);
            let level = self.ladders.touch(self.side(book, side), rank, steps);
            prefetch(&self.orders.hot[self.ladders.levels[level].last]);
        }
    }
}
