//! The settlement desk of one account: its three queues, what it reserves for urgent and high
//! payments, and what normal payments may still send. An account gets one with its first queued
//! payment, reservation or limit; one that never needed any costs four bytes.

use super::payment::NONE;
use crate::engine::index::Handle;
use crate::protocol::command::{Priority, ReservationClass};
use crate::protocol::units::Amount;
use bytemuck::{Pod, Zeroable};

/// No limit is set.
pub(in crate::engine) const UNLIMITED: u128 = u128::MAX;

/// What waits at one account, and what bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine) struct Desk {
    /// Minor units queued.
    pub(super) value: u128,
    /// No normal payment queued here is smaller. A hint, and no part of the state.
    pub(super) smallest: u128,
    /// What is left of the urgent and of the high reservation, minor units.
    pub(super) reserved: [u128; 2],
    /// What they are each morning.
    pub(super) reservation: [u128; 2],
    /// What normal payments may net send to all accounts without a bilateral limit.
    pub(in crate::engine) multilateral: u128,
    /// What they have net sent there since the limit was set or the day began.
    pub(in crate::engine) multilateral_used: i128,
    /// Sequence of the command that put it on the worklist, 0 where it is not there.
    pub(super) risen_at: u64,
    pub(in crate::engine) account: Handle,
    pub(super) first: [u32; 3],
    pub(super) last: [u32; 3],
    /// Payments of each class that take part.
    pub(super) eligible: [u32; 3],
    /// Payments queued, those that take no part included.
    pub(super) queued: u32,
    /// Bilateral limits set.
    pub(super) bilateral: u32,
    /// Of a securities account: the first cash account whose pool takes cover from here.
    pub(super) backs: u32,
    /// Of a cash account: the next one that takes cover from the same securities account.
    pub(super) next_backed: u32,
}

const _: () = assert!(size_of::<Desk>() == 192);

impl Desk {
    pub(super) fn new(account: Handle) -> Desk {
        Desk {
            account,
            multilateral: UNLIMITED,
            smallest: u128::MAX,
            first: [NONE; 3],
            last: [NONE; 3],
            backs: NONE,
            next_backed: NONE,
            ..Desk::zeroed()
        }
    }

    /// What a payment of `class` must leave untouched: a high one the urgent reservation, a normal
    /// one both.
    #[inline]
    pub(in crate::engine) fn reserved_against(&self, class: Priority) -> u128 {
        match class {
            Priority::Urgent => 0,
            Priority::High => self.reserved[0],
            Priority::Normal => self.reserved[0] + self.reserved[1],
        }
    }

    /// What is left of the urgent and of the high reservation.
    pub(in crate::engine) fn reserved(&self) -> [u128; 2] {
        self.reserved
    }

    /// Sets a reservation, for now and for every morning.
    pub(in crate::engine) fn reserve(&mut self, class: ReservationClass, amount: Amount) {
        self.reserved[class as usize] = amount.0;
        self.reservation[class as usize] = amount.0;
    }

    /// A payment of `class` has been paid: it used its reservation first.
    #[inline]
    pub(in crate::engine) fn pay(&mut self, class: Priority, amount: u128) {
        if let Some(reserved) = self.reserved.get_mut(class as usize) {
            *reserved = reserved.saturating_sub(amount);
        }
    }

    /// Whether payments here count toward limits.
    #[inline]
    pub(in crate::engine) fn is_limited(&self) -> bool {
        self.bilateral > 0 || self.multilateral != UNLIMITED
    }

    /// A new day: reservations as set, nothing sent.
    pub(super) fn start_day(&mut self) {
        self.reserved = self.reservation;
        self.multilateral_used = 0;
    }

    /// Its bytes without the links, which say nothing that the queues do not.
    pub(in crate::engine) fn canonical(&self) -> Desk {
        Desk {
            first: [NONE; 3],
            last: [NONE; 3],
            smallest: u128::MAX,
            ..*self
        }
    }
}
