//! Call auctions: at which price most would trade, and the trades.
//!
//! The price is one of the limits of the orders that cross: the one at which most lots trade; of
//! those, where fewest are left over; of those, the highest where buys are left over at all of them
//! and the lowest where sells are; of those, the one nearest the reference price, the lower of two
//! equally near, the lowest where nothing has traded yet.

use super::ladder::{Rank, Shelf};
use super::table::NIL;
use super::{Cross, Matching};
use crate::protocol::command::Side;
use crate::protocol::units::{Price, Quantity};

/// What would trade at one price.
#[derive(Clone, Copy)]
struct Candidate {
    price: i64,
    volume: u128,
    /// Lots left over on the side that has more.
    surplus: u128,
    /// The buys have more.
    is_demand: bool,
}

impl Matching {
    /// The auction's price and volume as things stand, `None` where nothing crosses. More lots than
    /// 2^64 read as that many. `reference` stands in for the last price where nothing has traded.
    ///
    /// Looks at every level that crosses, twice.
    pub fn equilibrium(
        &mut self,
        book: u32,
        reference: Option<Price>,
    ) -> Option<(Price, Quantity)> {
        let best_bid = self.best(book, Side::Buy)?.price;
        let best_ask = self.best(book, Side::Sell)?.price;
        if best_bid < best_ask {
            return None;
        }
        let mut bids = std::mem::take(&mut self.visit);
        let reach = Rank::of(Side::Buy, best_ask);
        let crossing = self
            .level_rows(book, Shelf::Bids)
            .take_while(|level| self.ladders.levels[*level].rank <= reach);
        bids.extend(crossing.map(|level| (level, NIL)));
        let found = self.best_candidate(book, &bids, best_bid, reference);
        bids.clear();
        self.visit = bids;
        found.map(|found| {
            let volume = u64::try_from(found.volume).unwrap_or(u64::MAX);
            (Price(found.price), Quantity(volume))
        })
    }

    /// Goes through the limits upwards, with `bids` the buy levels that cross, best first.
    fn best_candidate(
        &self,
        book: u32,
        bids: &[(u32, u32)],
        best_bid: Price,
        reference: Option<Price>,
    ) -> Option<Candidate> {
        let reference = self.last_price(book).or(reference);
        let mut demand: u128 = bids.iter().map(|(level, _)| self.open(*level)).sum();
        let mut supply = 0u128;
        let mut bids = bids.iter().rev().map(|(level, _)| *level).peekable();
        let mut asks = self.level_rows(book, Shelf::Asks).peekable();
        let price = |level: u32| self.ladders.levels[level].price().0;
        // The lowest of the best so far, the highest as good as it, and of those the nearest.
        let mut best: Option<(Candidate, Candidate, Candidate)> = None;
        loop {
            let ask = asks.peek().map(|level| price(*level));
            let ask = ask.filter(|ask| *ask <= best_bid.0);
            let bid = bids.peek().map(|level| price(*level));
            let Some(at) = ask.into_iter().chain(bid).min() else {
                break;
            };
            if ask == Some(at) {
                supply += asks.next().map_or(0, |level| self.open(level));
            }
            let here = Candidate {
                price: at,
                volume: demand.min(supply),
                surplus: demand.abs_diff(supply),
                is_demand: demand > supply,
            };
            if bid == Some(at) {
                demand -= bids.next().map_or(0, |level| self.open(level));
            }
            let key = |c: &Candidate| (std::cmp::Reverse(c.volume), c.surplus);
            best = Some(match best {
                None => (here, here, here),
                Some((first, _, _)) if key(&here) < key(&first) => (here, here, here),
                Some((first, _, near)) if key(&here) == key(&first) => {
                    // Prices rise, so the first of two equally near is the lower.
                    let off = |c: &Candidate| {
                        reference.map_or(0, |Price(reference)| c.price.abs_diff(reference))
                    };
                    (
                        first,
                        here,
                        if off(&here) < off(&near) { here } else { near },
                    )
                }
                Some(so_far) => so_far,
            });
        }
        let (first, last, near) = best?;
        Some(if first.surplus > 0 && first.is_demand && last.is_demand {
            last
        } else if first.surplus > 0 && !first.is_demand && !last.is_demand {
            first
        } else {
            near
        })
    }

    /// What was last said of an auction: price and volume, 0 and 0 where nothing crosses or none is
    /// called.
    pub fn indicative(&self, book: u32) -> (Price, Quantity) {
        let (price, volume) = self.books[book as usize].indicated;
        (Price(price), Quantity(volume))
    }

    /// Whether price and volume of the auction are not what was last said; they are from now on.
    pub fn indicate(&mut self, book: u32, now: Option<(Price, Quantity)>) -> bool {
        let now = now.map_or((0, 0), |(price, volume)| (price.0, volume.0));
        std::mem::replace(&mut self.books[book as usize].indicated, now) != now
    }

    /// Trades everything that crosses at `price`, best first and first come first. `on_cross` hears
    /// of each pair; done orders leave the book, icebergs show more. Self-trade prevention sleeps.
    pub fn uncross(&mut self, book: u32, price: Price, mut on_cross: impl FnMut(Cross<'_>)) {
        let mut has_traded = false;
        loop {
            let first = |shelf: Shelf| {
                let reach = Rank::of(shelf.direction(), price);
                let level = self.shelf(book, shelf).best_within(reach)?;
                Some((level, self.ladders.levels[level].first))
            };
            let (Some((bids, buy)), Some((asks, sell))) = (first(Shelf::Bids), first(Shelf::Asks))
            else {
                break;
            };
            debug_assert!(buy != NIL && sell != NIL);
            let quantity = self.orders.hot[buy]
                .leaves
                .min(self.orders.hot[sell].leaves);
            for (level, slot) in [(bids, buy), (asks, sell)] {
                self.orders.hot[slot].leaves -= quantity;
                self.ladders.levels[level].total -= u128::from(quantity);
                if self.books[book as usize].is_published {
                    self.record_taken(slot, level, quantity, true);
                }
            }
            on_cross(Cross {
                buy: self.orders.view(buy, self.price(buy)),
                sell: self.orders.view(sell, self.price(sell)),
                buy_fee_budget: &mut self.orders.cold[buy].fee_budget,
                quantity: Quantity(quantity),
            });
            has_traded = true;
            for slot in [buy, sell] {
                if self.orders.hot[slot].leaves == 0 {
                    self.emptied(slot);
                } else if self.orders.cold[slot].special != NIL {
                    self.note_list(slot);
                }
            }
        }
        if has_traded {
            self.note_trades(book, price, price);
        }
    }
}
