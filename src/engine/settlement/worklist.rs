//! Accounts whose queues are to be looked at because something there may go now: in order of the
//! command that raised them, then of opening. What one command does not get to stays for the next,
//! so it is part of the state.

use super::payment::{NONE, some};
use super::queue::Payments;
use crate::engine::index::Handle;
use bytemuck::{Pod, Zeroable};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The account being looked at, and the payment to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine) struct Visit {
    pub(in crate::engine) account: Handle,
    /// The payment to go on with, where the visit was broken off.
    pub(super) cursor: u32,
}

impl Visit {
    pub(super) const IDLE: Visit = Visit {
        account: NONE,
        cursor: NONE,
    };

    /// The payment to go on with, where the visit was broken off.
    pub(in crate::engine) fn resume(self) -> Option<Handle> {
        (self.cursor != NONE).then_some(self.cursor)
    }

    pub(in crate::engine) fn is_idle(self) -> bool {
        self.account == NONE
    }
}

/// Accounts to look at.
pub(super) struct Worklist {
    risen: BinaryHeap<Reverse<(u64, Handle)>>,
    pub(super) visit: Visit,
}

impl Worklist {
    pub(super) fn new() -> Worklist {
        Worklist {
            risen: BinaryHeap::with_capacity(4_096),
            visit: Visit::IDLE,
        }
    }

    /// Adds an account that is not on the list.
    #[inline]
    pub(super) fn push(&mut self, sequence: u64, account: Handle) {
        self.risen.push(Reverse((sequence, account)));
    }

    /// Takes the first account off the list.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Handle> {
        self.risen.pop().map(|Reverse((_, account))| account)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.risen.is_empty() && self.visit.is_idle()
    }
}

/// The worklist of release.
impl Payments {
    /// Notes that something at `account` may go now, if anything waits there.
    #[inline(always)]
    pub(in crate::engine) fn note_risen(&mut self, account: Handle, sequence: u64) {
        if self.queued > 0 {
            self.note_if_queued(account, sequence);
        }
    }

    fn note_if_queued(&mut self, account: Handle, sequence: u64) {
        if let Some(at) = self.place(account) {
            self.note_desk(at, sequence);
            let first = self.desks[at].backs;
            let mut backed = first;
            while let Some(cash) = some(backed) {
                let at = self.place(cash).expect("what is backed has a desk");
                self.note_desk(at, sequence);
                backed = self.desks[at].next_backed;
                if backed == first {
                    break;
                }
            }
        }
    }

    #[inline]
    fn note_desk(&mut self, at: usize, sequence: u64) {
        let desk = &mut self.desks[at];
        if desk.queued > 0 && desk.risen_at == 0 {
            desk.risen_at = sequence;
            self.worklist.push(sequence, desk.account);
        }
    }

    /// Securities that come in at one account are cover for another, whose groups may go by them.
    /// Accounts that share cover, one through another, stand in one ring: all of them are looked at.
    pub(in crate::engine) fn back(&mut self, securities: Handle, cash: Handle) {
        let first = self.open_desk(securities).backs;
        self.open_desk(cash);
        if first == NONE {
            self.open_desk(securities).backs = cash;
            return;
        }
        let mut at = first;
        loop {
            if at == cash {
                return;
            }
            at = self.next_in_ring(at);
            if at == first {
                break;
            }
        }
        // Two rings become one where each goes on with what followed in the other.
        let (one, other) = (self.next_in_ring(first), self.next_in_ring(cash));
        self.open_desk(first).next_backed = other;
        self.open_desk(cash).next_backed = one;
    }

    /// What follows an account in its ring; itself where it is alone.
    fn next_in_ring(&mut self, cash: Handle) -> Handle {
        match self.open_desk(cash).next_backed {
            NONE => cash,
            next => next,
        }
    }

    /// Whether nothing is left to look at.
    #[inline]
    pub(in crate::engine) fn is_settled_down(&self) -> bool {
        self.worklist.is_empty()
    }

    /// The account being looked at, or else the next one.
    #[inline]
    pub(in crate::engine) fn next_visit(&mut self) -> Option<Visit> {
        if self.worklist.visit.is_idle() {
            let account = self.worklist.pop()?;
            let at = self.place(account).expect("what has risen has a desk");
            self.desks[at].risen_at = 0;
            self.worklist.visit = Visit {
                account,
                cursor: NONE,
            };
        }
        Some(self.worklist.visit)
    }

    /// Breaks the present visit off, to go on with `cursor` later; `None` ends it.
    #[inline]
    pub(in crate::engine) fn leave(&mut self, cursor: Option<Handle>) {
        match cursor {
            Some(cursor) => self.worklist.visit.cursor = cursor,
            None => self.worklist.visit = Visit::IDLE,
        }
    }

    /// Whether the account is on the list.
    pub(in crate::engine) fn is_risen(&self, account: Handle) -> bool {
        self.worklist.visit.account == account
            || self.desk(account).is_some_and(|desk| desk.risen_at != 0)
    }

    /// A payment leaves its place: a visit broken off there goes on behind it.
    pub(super) fn leave_visit(&mut self, payment: Handle) {
        if self.worklist.visit.cursor == payment {
            let row = self.row(payment);
            // Without a payment behind it the visit begins anew: looking twice does no harm.
            self.worklist.visit.cursor = row.next;
        }
    }
}
