//! The transfer log: every transfer of the idempotency window, so that a repeated id is answered
//! from what was done instead of being done again.

use super::index::{Handle, Index, hash_128};
use crate::memory::Take;
use crate::protocol::command::Transfer;
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, TransferId};
use bytemuck::{Pod, Zeroable};

/// One transfer as it was asked for, and what it moved.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct TransferRow {
    pub(super) id: u128,
    pub(super) amount: u128,
    pub(super) pending_id: u128,
    pub(super) user_data_128: u128,
    pub(super) debit: Handle,
    pub(super) credit: Handle,
    pub(super) user_data_64: u64,
    pub(super) user_data_32: u32,
    pub(super) timeout_s: u32,
    pub(super) asset: u32,
    pub(super) code: u16,
    pub(super) flags: u16,
}

const _: () = assert!(size_of::<TransferRow>() == 96);

/// Transfers in the order in which they were created.
pub(super) struct Transfers {
    rows: Vec<TransferRow>,
    by_id: Index,
    limit: u32,
}

impl Transfers {
    pub(super) fn new(limit: u32) -> Transfers {
        Transfers {
            rows: Vec::with_capacity(limit as usize),
            by_id: Index::new(limit),
            limit,
        }
    }

    pub(super) fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.rows, how);
        self.by_id.take_memory(how);
    }

    pub(super) fn has_room(&self) -> bool {
        (self.rows.len() as u32) < self.limit
    }

    pub(super) fn rows(&self) -> &[TransferRow] {
        &self.rows
    }

    #[inline]
    pub(super) fn find(&self, id: TransferId) -> Option<&TransferRow> {
        let handle = self.by_id.find(hash_128(id.0), |handle| {
            self.rows[handle as usize].id == id.0
        })?;
        Some(&self.rows[handle as usize])
    }

    /// Where a lookup of `id` begins, to warm the caches with.
    #[inline]
    pub(super) fn lookup_hint(&self, id: TransferId) -> &u64 {
        self.by_id.bucket(hash_128(id.0))
    }

    /// Adds a transfer. Its id is new and there is room.
    #[inline]
    pub(super) fn record(
        &mut self,
        transfer: &Transfer,
        debit: Handle,
        credit: Handle,
        moved: Amount,
    ) {
        let handle = self.rows.len() as u32;
        self.by_id.insert(hash_128(transfer.id.0), handle);
        self.rows.push(TransferRow {
            id: transfer.id.0,
            amount: moved.0,
            pending_id: transfer.pending_id.0,
            user_data_128: transfer.user_data_128,
            debit,
            credit,
            user_data_64: transfer.user_data_64,
            user_data_32: transfer.user_data_32,
            timeout_s: transfer.timeout_s,
            asset: transfer.asset.0,
            code: transfer.code,
            flags: transfer.flags.0,
        });
    }

    /// Rebuilds the log around rows read from a snapshot.
    pub(super) fn restore(rows: Vec<TransferRow>, limit: u32) -> Transfers {
        let mut log = Transfers::new(limit.max(rows.len() as u32));
        for row in rows {
            log.by_id.insert(hash_128(row.id), log.rows.len() as u32);
            log.rows.push(row);
        }
        log
    }

    pub(super) fn audit(&self) -> Result<(), String> {
        match self
            .rows
            .iter()
            .find(|row| self.find(TransferId(row.id)).is_none())
        {
            Some(row) => Err(format!("transfer {}: not found by its id", row.id)),
            None => Ok(()),
        }
    }
}

impl TransferRow {
    /// `exists`, or the first field in which `asked` differs, in TigerBeetle's order.
    pub(super) fn compare(&self, asked: &Transfer, debit_id: u64, credit_id: u64) -> Reason {
        let differences = [
            (
                self.flags != asked.flags.0,
                Reason::ExistsWithDifferentFlags,
            ),
            (
                self.pending_id != asked.pending_id.0,
                Reason::ExistsWithDifferentPendingId,
            ),
            (
                self.timeout_s != asked.timeout_s,
                Reason::ExistsWithDifferentTimeout,
            ),
            (
                debit_id != asked.debit_account.0,
                Reason::ExistsWithDifferentDebitAccountId,
            ),
            (
                credit_id != asked.credit_account.0,
                Reason::ExistsWithDifferentCreditAccountId,
            ),
            (
                self.amount != asked.amount.0,
                Reason::ExistsWithDifferentAmount,
            ),
            (
                self.user_data_128 != asked.user_data_128,
                Reason::ExistsWithDifferentUserData128,
            ),
            (
                self.user_data_64 != asked.user_data_64,
                Reason::ExistsWithDifferentUserData64,
            ),
            (
                self.user_data_32 != asked.user_data_32,
                Reason::ExistsWithDifferentUserData32,
            ),
            (
                self.asset != asked.asset.0,
                Reason::ExistsWithDifferentLedger,
            ),
            (self.code != asked.code, Reason::ExistsWithDifferentCode),
        ];
        differences
            .iter()
            .find(|(differs, _)| *differs)
            .map_or(Reason::Exists, |(_, reason)| *reason)
    }
}
