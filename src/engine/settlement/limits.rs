//! Bilateral limits: what normal payments of one account may net send to another in a day. Sent
//! counts normal payments, received counts all payments; counting starts when the limit is set and
//! anew each morning.

use crate::engine::index::{Handle, Index, hash_64};
use bytemuck::{Pod, Zeroable};

/// One limit. A row stays where it is once made; without a limit it says [`super::desk::UNLIMITED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine) struct LimitRow {
    /// Minor units.
    pub(in crate::engine) amount: u128,
    /// Net sent, minor units; below zero more came back.
    pub(in crate::engine) used: i128,
    pub(in crate::engine) account: Handle,
    pub(in crate::engine) counterparty: Handle,
    reserved: u64,
}

/// All bilateral limits.
pub(in crate::engine) struct BilateralLimits {
    rows: Vec<LimitRow>,
    by_pair: Index,
    capacity: u32,
}

impl BilateralLimits {
    pub(super) fn new(capacity: u32) -> BilateralLimits {
        BilateralLimits {
            rows: Vec::new(),
            by_pair: Index::new(capacity),
            capacity,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        (self.rows.len() as u32) < self.capacity
    }

    /// The row of that pair; it may say that there is no limit.
    #[inline]
    pub(in crate::engine) fn find(&self, account: Handle, counterparty: Handle) -> Option<Handle> {
        self.by_pair.find(hash_pair(account, counterparty), |at| {
            let row = &self.rows[at as usize];
            row.account == account && row.counterparty == counterparty
        })
    }

    #[inline]
    pub(in crate::engine) fn row(&self, at: Handle) -> &LimitRow {
        &self.rows[at as usize]
    }

    pub(super) fn row_mut(&mut self, at: Handle) -> &mut LimitRow {
        &mut self.rows[at as usize]
    }

    /// Adds the row of a pair that has none; there is room.
    pub(super) fn add(&mut self, account: Handle, counterparty: Handle, amount: u128) {
        let at = self.rows.len() as u32;
        self.by_pair.insert(hash_pair(account, counterparty), at);
        self.rows.push(LimitRow {
            amount,
            used: 0,
            account,
            counterparty,
            reserved: 0,
        });
    }

    pub(super) fn start_day(&mut self) {
        for row in &mut self.rows {
            row.used = 0;
        }
    }

    pub(in crate::engine) fn rows(&self) -> &[LimitRow] {
        &self.rows
    }

    pub(super) fn restore(rows: Vec<LimitRow>, capacity: u32) -> BilateralLimits {
        let mut limits = BilateralLimits::new(capacity.max(rows.len() as u32));
        for row in rows {
            let at = limits.rows.len() as u32;
            let hash = hash_pair(row.account, row.counterparty);
            limits.by_pair.insert(hash, at);
            limits.rows.push(row);
        }
        limits
    }
}

/// Hash of an ordered pair of accounts.
#[inline]
pub(super) fn hash_pair(from: Handle, to: Handle) -> u32 {
    hash_64(u64::from(from) << 32 | u64::from(to))
}
