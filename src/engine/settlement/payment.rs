//! One payment, and what is known of it: 128 bytes on two cache lines. The first holds what queues,
//! release and netting read, the second what few payments have.
//!
//! ```text
//!  0  id | amount | debtor creditor next previous | pair_next pair_previous class state by flags ..
//! 64  returned seat | order_key earliest_at latest_at | return_of deadline group pair_last | asked_class ..
//! ```

use crate::engine::index::Handle;
use crate::protocol::command::Priority;
use crate::protocol::event::{PaymentState, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, PaymentId, Timestamp};
use bytemuck::{Pod, Zeroable};

/// No payment, no group, no deadline.
pub(in crate::engine) const NONE: u32 = u32::MAX;

/// Held by its sender.
pub(in crate::engine) const HELD: u8 = 1;
/// Its earliest time lies ahead.
pub(in crate::engine) const NOT_DUE: u8 = 2;
/// One of its participants may not pay or not receive.
pub(in crate::engine) const BLOCKED: u8 = 4;
/// The phase of the day settles nothing.
pub(in crate::engine) const WAITS_FOR_DAY: u8 = 8;
/// It goes between accounts for instant payments and does not ask the phase; a group's legs all do.
pub(in crate::engine) const INSTANT: u8 = 16;
/// A debit of a group whose debits settle one by one.
pub(in crate::engine) const ALONE: u8 = 32;
/// A credit of such a group.
pub(in crate::engine) const AWAITS_DEBITS: u8 = 64;
/// What keeps a payment from taking part while it keeps its place.
const KEPT_BACK: u8 = HELD | NOT_DUE | BLOCKED | WAITS_FOR_DAY | AWAITS_DEBITS;

/// One payment. Rows are never reused within the window.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(in crate::engine) struct PaymentRow {
    pub(in crate::engine) id: u128,
    pub(in crate::engine) amount: u128,
    pub(in crate::engine) debtor: Handle,
    pub(in crate::engine) creditor: Handle,
    /// Neighbours in the debtor's queue of this class.
    pub(super) next: u32,
    pub(super) previous: u32,
    /// Neighbours among the debtor's payments to the same creditor, by order key.
    pub(super) pair_next: u32,
    pub(super) pair_previous: u32,
    pub(super) class: u8,
    pub(super) state: u8,
    pub(super) by: u8,
    pub(super) flags: u8,
    pub(super) reason: u16,
    pub(super) asked_class: u8,
    /// The highest bit of what returns have taken.
    pub(super) returned_top: u8,
    /// Minor units that returns of it have taken or wait to take; of a leg, that its group has moved
    /// in parts. At most 2^96, so 97 bits.
    pub(super) returned_low: u64,
    pub(super) returned_high: u32,
    /// Its seat in the lane of its account, where that has one.
    pub(super) seat: u32,
    /// Its place within its class: smaller goes first, and no two are alike.
    pub(in crate::engine) order_key: i64,
    pub(super) earliest_at: u64,
    pub(super) latest_at: u64,
    /// The payment it returns.
    pub(super) return_of: u32,
    /// Its entry among the deadlines.
    pub(super) deadline: u32,
    /// The group it is a leg of.
    pub(super) group: u32,
    /// Of the first of its pair: the last of it.
    pub(super) pair_last: u32,
    /// Of a leg: the next leg of its group. Of any other payment: the business date on which it is
    /// to settle, 0 where it named none.
    pub(super) next_leg_or_date: u32,
    /// The business day it came in on.
    pub(super) day: u32,
}

const _: () = assert!(size_of::<PaymentRow>() == 128);

impl PaymentRow {
    pub(in crate::engine) fn class(&self) -> Priority {
        Priority::from_code(self.class).expect("written from a Priority")
    }

    /// The class it was submitted with.
    pub(in crate::engine) fn asked_class(&self) -> Priority {
        Priority::from_code(self.asked_class).expect("written from a Priority")
    }

    pub(in crate::engine) fn state(&self) -> PaymentState {
        PaymentState::from_code(self.state).expect("written from a PaymentState")
    }

    pub(in crate::engine) fn by(&self) -> SettledBy {
        SettledBy::from_code(self.by).expect("written from a SettledBy")
    }

    pub(in crate::engine) fn reason(&self) -> Reason {
        Reason::from_code(self.reason).expect("written from a Reason")
    }

    pub(in crate::engine) fn amount(&self) -> Amount {
        Amount(self.amount)
    }

    /// Of a leg: its amount before parts of it moved.
    pub(in crate::engine) fn whole_leg(&self) -> Amount {
        let moved = if self.has(ALONE) { 0 } else { self.returned() };
        Amount(self.amount + moved)
    }

    /// What its debtor needs for it at least: a leg may be paid out of what its group brings.
    #[inline]
    pub(in crate::engine) fn amount_alone(&self) -> u128 {
        if self.group().is_none() {
            self.amount
        } else {
            0
        }
    }

    /// Minor units that returns of it have taken or wait to take; of a leg, that its group has moved.
    pub(in crate::engine) fn returned(&self) -> u128 {
        let high = u128::from(self.returned_top) << 32 | u128::from(self.returned_high);
        high << 64 | u128::from(self.returned_low)
    }

    pub(super) fn set_returned(&mut self, returned: u128) {
        assert!(returned >> 97 == 0, "no more than an amount");
        self.returned_low = returned as u64;
        self.returned_high = (returned >> 64) as u32;
        self.returned_top = (returned >> 96) as u8;
    }

    pub(in crate::engine) fn id(&self) -> PaymentId {
        PaymentId(self.id)
    }

    pub(in crate::engine) fn earliest_at(&self) -> Timestamp {
        Timestamp(self.earliest_at)
    }

    pub(in crate::engine) fn latest_at(&self) -> Timestamp {
        Timestamp(self.latest_at)
    }

    /// Whether its latest time has come.
    pub(in crate::engine) fn is_late(&self, now: Timestamp) -> bool {
        self.latest_at != 0 && now.0 >= self.latest_at
    }

    pub(in crate::engine) fn return_of(&self) -> Option<Handle> {
        some(self.return_of)
    }

    /// The group with which it settles.
    #[inline]
    pub(in crate::engine) fn group(&self) -> Option<Handle> {
        some(self.group).filter(|_| !self.has(ALONE))
    }

    /// The group it is a leg of, whether it settles with it or alone.
    #[inline]
    pub(in crate::engine) fn leg_of(&self) -> Option<Handle> {
        some(self.group)
    }

    /// The business date on which it is to settle, 0 where it named none.
    pub(in crate::engine) fn value_date(&self) -> u32 {
        if self.group == NONE {
            self.next_leg_or_date
        } else {
            0
        }
    }

    /// Whether its earliest time and its value date have come.
    pub(in crate::engine) fn is_due(&self, now: Timestamp, date: u32) -> bool {
        self.earliest_at <= now.0 && self.value_date() <= date
    }

    /// Whether it stands in a queue.
    #[inline]
    pub(in crate::engine) fn is_waiting(&self) -> bool {
        self.state == PaymentState::Queued as u8 || self.state == PaymentState::Warehoused as u8
    }

    /// Whether it takes part: neither held, nor ahead of its time, nor blocked.
    #[inline]
    pub(in crate::engine) fn is_eligible(&self) -> bool {
        self.flags & KEPT_BACK == 0
    }

    pub(in crate::engine) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Why it takes no part, if it does not.
    pub(in crate::engine) fn kept_back_by(&self) -> Option<Reason> {
        [
            (NOT_DUE, Reason::NotYetDue),
            (HELD, Reason::Held),
            (BLOCKED, Reason::ParticipantBlocked),
            (WAITS_FOR_DAY, Reason::PhaseForbids),
            (AWAITS_DEBITS, Reason::AwaitsDebits),
        ]
        .into_iter()
        .find_map(|(flag, reason)| self.has(flag).then_some(reason))
    }

    /// Its bytes without the links, which say nothing that the queues do not.
    pub(in crate::engine) fn canonical(&self) -> [u8; 128] {
        let row = PaymentRow {
            next: NONE,
            previous: NONE,
            pair_next: NONE,
            pair_previous: NONE,
            pair_last: NONE,
            deadline: NONE,
            seat: 0,
            ..*self
        };
        bytemuck::cast(row)
    }
}

#[inline]
pub(super) fn some(handle: u32) -> Option<Handle> {
    (handle != NONE).then_some(handle)
}
