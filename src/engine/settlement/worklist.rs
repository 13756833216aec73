//! Accounts whose queues are to be looked at because something there may go now: in order of the
//! command that raised them, then of opening. What one command does not get to stays for the next,
//! so it is part of the state.

use super::payment::NONE;
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
