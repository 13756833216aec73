//! What few orders have and most should not pay for: a reserve behind what is shown, a trigger, a
//! price that follows the market, a session that takes them along. Such an order has a row here,
//! 96 bytes in a pool of its own (`Limits::special_orders`), beside its row among the orders.
//!
//! Two kinds of chain run through the rows: followers of a book (trailing stops and pegged orders,
//! in order of entry) and orders of a session. Links are slots of orders.

use super::table::{NIL, Pool, Table};
use crate::memory::Take;
use crate::protocol::command::{Peg, Trigger};
use crate::protocol::units::{Price, Quantity, Timestamp};
use bytemuck::{Pod, Zeroable};

/// A special order's own half.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Special {
    /// The worst price it trades at, while its level says something else.
    pub(super) limit: i64,
    /// The price its cover is reckoned at.
    pub(super) cover_price: i64,
    /// The stop price it has just left its level for.
    pub(super) stop: i64,
    /// Ticks behind the market, or above what it follows.
    pub(super) offset: i64,
    /// Lots to show, 0 for all.
    pub(super) display: u64,
    /// Lots behind those shown; only while it rests.
    pub(super) hidden: u64,
    pub(super) expires_at: u64,
    /// Neighbours among the followers of its book.
    pub(super) newer: u32,
    pub(super) older: u32,
    /// The session's row, [`NIL`] where it goes with none, and neighbours there.
    pub(super) session: u32,
    pub(super) session_newer: u32,
    pub(super) session_older: u32,
    /// Where its expiry stands among the deadlines.
    pub(super) deadline: u32,
    /// While free: the next free row.
    free: u32,
    /// The list it is in, [`NIL`] for none.
    pub(super) list: u32,
    /// Nothing is held for it.
    pub(super) is_uncovered: u8,
    peg: u8,
    /// Which price wakes it.
    trigger: u8,
    /// Whether it is chained to the followers of its book.
    pub(super) follows: u8,
    reserved: [u8; 4],
}

impl Special {
    pub(super) fn peg(&self) -> Peg {
        Peg::from_code(self.peg).expect("written from a Peg")
    }

    pub(super) fn trigger(&self) -> Trigger {
        Trigger::from_code(self.trigger).expect("written from a Trigger")
    }
}

/// Of an order that waits for no time.
pub(super) const NO_DEADLINE: u32 = u32::MAX;

/// What makes a new order special.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewSpecial {
    /// The worst price it trades at, wherever it waits or rests.
    pub limit: Price,
    /// The price its cover is reckoned at.
    pub cover_price: Price,
    /// Nothing is held for it before it wakes.
    pub is_uncovered: bool,
    /// Lots to show, 0 for all.
    pub display: Quantity,
    /// Ticks behind the market (trailing stop) or above what it follows (pegged).
    pub offset: Price,
    /// What it follows.
    pub peg: Peg,
    /// Which price wakes it.
    pub trigger: Trigger,
    /// When it lapses, 0 for never.
    pub expires_at: Timestamp,
    /// The row of the session whose end it goes with, 0 for none.
    pub session: u32,
}

impl NewSpecial {
    /// Nothing special about an order with that limit: the base for those that are.
    pub fn none(limit: Price) -> NewSpecial {
        NewSpecial {
            limit,
            cover_price: limit,
            is_uncovered: false,
            display: Quantity(0),
            offset: Price(0),
            peg: Peg::None,
            trigger: Trigger::Last,
            expires_at: Timestamp(0),
            session: NIL,
        }
    }
}

/// The rows.
pub(super) struct Specials {
    pub(super) rows: Table<Special, 6>,
    pub(super) pool: Pool,
}

impl Specials {
    pub(super) fn new(capacity: u32) -> Specials {
        Specials {
            rows: Table::new(capacity as usize + 1),
            pool: Pool::new(capacity),
        }
    }

    pub(super) fn take_memory(&mut self, how: Take) {
        self.rows.take_memory(how);
    }

    pub(super) fn has_room(&self) -> bool {
        self.pool.next().is_some()
    }

    /// A row for an order.
    pub(super) fn enter(&mut self, new: &NewSpecial) -> u32 {
        let at = self.pool.take(|free| self.rows[free].free);
        self.rows[at] = Special {
            limit: new.limit.0,
            cover_price: new.cover_price.0,
            offset: new.offset.0,
            display: new.display.0,
            expires_at: new.expires_at.0,
            is_uncovered: u8::from(new.is_uncovered),
            peg: new.peg as u8,
            trigger: new.trigger as u8,
            deadline: NO_DEADLINE,
            ..Special::zeroed()
        };
        at
    }

    /// Takes the row back; the order is in no chain any more.
    pub(super) fn free(&mut self, at: u32) {
        self.rows[at].free = self.pool.give(at);
    }
}
