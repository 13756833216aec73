//! One session with the order book: the benchmark's messages become what the engine's own handlers
//! say to the matching room, and its steps become reports.
//!
//! The benchmark's ids are free again once their order is done; ours are used once. So the session
//! remembers which order stands behind each while it rests, as a gateway would. The orders have no
//! client order ids, which a participant could not use again on the same day.

use crate::abi::{CancelMessage, ModifyMessage, NewMessage, ReportKind};
use crate::ids::Resting;
use crate::reports::{Out, Packed};
use millrace::engine::matching::{
    Matching, NO_CLIENT_ORDER_ID, NewOrder, Outcome, Slot, Step, no_band,
};
use millrace::engine::{Limits, Take};
use millrace::memory::take;
use millrace::protocol::command::{OrderType, SelfTrade, Side, TimeInForce};
use millrace::protocol::units::{Price, Quantity};

const BOOK: u32 = 0;
const PARTICIPANT: u32 = 1;

/// The book and who trades on it.
pub struct Session {
    matching: Matching,
    resting: Resting,
    out: Out,
}

impl Session {
    /// An empty book whose reports go to `out`.
    pub fn new(out: Out) -> Session {
        let limits = Limits {
            instruments: 1,
            participants: PARTICIPANT + 1,
            orders: 1 << 20,
            special_orders: 0,
            order_sessions: 0,
            client_order_ids: 1,
            price_levels: 1 << 17,
            ..Limits::default()
        };
        let mut matching = Matching::new(&limits);
        matching.add_book(BOOK);
        matching.take_memory(Take::Now);
        Session {
            matching,
            resting: Resting::new(limits.orders as usize + 1),
            out,
        }
    }

    /// A new order: an ack, what it trades, and for what an immediate-or-cancel order leaves a
    /// cancel.
    ///
    /// # Safety
    /// The report queue lives and this thread is its producer.
    #[inline(always)]
    pub unsafe fn place(&mut self, message: &NewMessage) {
        let &NewMessage {
            order_id,
            sequence,
            price,
            quantity,
            side,
            ioc,
            ..
        } = message;
        let report = |kind| Packed {
            sequence,
            order_id,
            maker_order_id: 0,
            price,
            quantity,
            kind,
            side,
        };
        // SAFETY: the caller's promise.
        unsafe { self.out.push(report(ReportKind::OrderAck)) };
        let side = side_of(side);
        self.make_room(side, Price(price));
        let slot = self.matching.enter(&NewOrder {
            book: BOOK,
            participant: PARTICIPANT,
            client_order_id: NO_CLIENT_ORDER_ID,
            side,
            order_type: OrderType::Limit,
            time_in_force: if ioc == 0 {
                TimeInForce::Gtc
            } else {
                TimeInForce::Ioc
            },
            self_trade: SelfTrade::Allow,
            post_only: false,
            price: Price(price),
            quantity: Quantity(u64::from(quantity)),
            base_account: 0,
            quote_account: 0,
            fee_budget: 0,
            special: None,
        });
        // SAFETY: the caller's promise.
        let outcome = unsafe { self.execute(slot, sequence, order_id) };
        match outcome {
            Outcome::Open if ioc == 0 => {
                self.matching.rest(slot);
                self.resting.insert(order_id, slot);
            }
            Outcome::Open | Outcome::Band | Outcome::SelfTrade => {
                // SAFETY: the caller's promise.
                unsafe { self.out.push(report(ReportKind::CancelAck)) };
                self.matching.finish(slot);
            }
            Outcome::Filled => self.matching.finish(slot),
        }
    }

    /// A cancel: an ack, or a reject where no such order rests.
    ///
    /// # Safety
    /// As [`Session::place`].
    #[inline(always)]
    pub unsafe fn cancel(&mut self, message: &CancelMessage) {
        let &CancelMessage { order_id, sequence } = message;
        let report = |kind, side, price| Packed {
            sequence,
            order_id,
            maker_order_id: 0,
            price,
            quantity: 0,
            kind,
            side,
        };
        // SAFETY: the caller's promise.
        unsafe {
            match self.resting.find(order_id) {
                Some(slot) => {
                    self.resting.remove(slot);
                    let order = self.matching.cancel(slot);
                    let (side, price) = (code_of(order.side), order.price.0);
                    self.out.push(report(ReportKind::CancelAck, side, price));
                }
                None => self.out.push(report(ReportKind::CancelReject, 0, 0)),
            }
        }
    }

    /// A modify: out of the book and back with another price and quantity, behind all others there.
    ///
    /// # Safety
    /// As [`Session::place`].
    #[inline(always)]
    pub unsafe fn modify(&mut self, message: &ModifyMessage) {
        let &ModifyMessage {
            order_id,
            sequence,
            price,
            quantity,
            side,
            ..
        } = message;
        let report = |kind| Packed {
            sequence,
            order_id,
            maker_order_id: 0,
            price,
            quantity,
            kind,
            side,
        };
        let Some(slot) = self.resting.find(order_id).filter(|_| quantity > 0) else {
            // SAFETY: the caller's promise.
            return unsafe { self.out.push(report(ReportKind::ModifyReject)) };
        };
        let room = self.matching.has_room_to_move(slot, Price(price));
        assert!(room, "more price levels than the book was made for");
        self.matching.lift(slot);
        let leaves = Quantity(u64::from(quantity));
        self.matching.amend(slot, Price(price), leaves);
        // SAFETY: the caller's promise.
        let outcome = unsafe { self.execute(slot, sequence, order_id) };
        match outcome {
            Outcome::Open => self.matching.rest(slot),
            Outcome::Filled | Outcome::Band | Outcome::SelfTrade => {
                self.resting.remove(slot);
                self.matching.finish(slot);
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.out.push(report(ReportKind::ModifyAck)) };
    }

    /// Price of the best order of a side.
    pub fn best(&self, side: Side) -> Option<i64> {
        self.matching.best(BOOK, side).map(|level| level.price.0)
    }

    /// Lots resting at a price.
    pub fn depth(&self, side: Side, price: i64) -> u64 {
        let level = self.matching.level(BOOK, side, Price(price));
        level.map_or(0, |level| u64::try_from(level.quantity).unwrap_or(u64::MAX))
    }

    #[inline(always)]
    unsafe fn execute(&mut self, slot: Slot, sequence: u64, order_id: u64) -> Outcome {
        let (out, resting) = (&self.out, &mut self.resting);
        self.matching.execute(slot, no_band(), |step| match step {
            Step::Fill(fill) => {
                let report = Packed {
                    sequence,
                    order_id,
                    maker_order_id: resting.id(fill.maker.slot),
                    price: fill.maker.price.0,
                    quantity: fill.quantity.0 as u32,
                    kind: ReportKind::Trade,
                    side: 0,
                };
                // SAFETY: the caller's promise.
                unsafe { out.push(report) };
                if fill.maker.leaves.0 == 0 {
                    resting.remove(fill.maker.slot);
                }
            }
            Step::Decrement(_) | Step::CancelResting(_) => {
                unreachable!("self-trade prevention is off")
            }
        })
    }

    /// As the engine's handler asks before it enters an order; here there is nobody to refuse to.
    #[inline(always)]
    fn make_room(&mut self, side: Side, price: Price) {
        let room =
            self.matching.has_room_for_order() && self.matching.has_room_at(BOOK, side, price);
        assert!(room, "more orders or levels than the book was made for");
    }
}

/// A table whose memory is there before the first message, as the engine's own is.
pub fn table<T: Clone>(with: T, len: usize) -> Vec<T> {
    let mut table = Vec::with_capacity(len);
    take(&mut table, Take::Now);
    table.resize(len, with);
    table
}

/// The side that a code of the benchmark means.
#[inline(always)]
pub fn side_of(code: u8) -> Side {
    if code == 0 { Side::Buy } else { Side::Sell }
}

#[inline(always)]
fn code_of(side: Side) -> u8 {
    match side {
        Side::Buy => 0,
        Side::Sell => 1,
    }
}
