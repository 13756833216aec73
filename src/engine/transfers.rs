//! The rows of the transfer window: every transfer as it was asked for, what it moved and what
//! became of it, so that a repeated id is answered from what was done instead of being done again,
//! and a pending transfer is posted or voided once.

use super::deadlines::{DeadlineSlot, NO_DEADLINE};
use super::index::Handle;
use super::window::WindowRow;
use crate::protocol::command::{Transfer, TransferFlags};
use crate::protocol::event::TransferState;
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, TransferId};
use bytemuck::{Pod, Zeroable};

/// The status stands in the top bits of the flags.
const STATUS_SHIFT: u32 = 13;
/// Set on a row that was kept beyond its window.
const CARRIED: u16 = 1 << 12;
/// Set on a row that posts or voids all that was pending.
const WHOLE: u16 = 1 << 8;
/// Set on a row that posts or voids where its user data are those of the pending transfer, which may
/// be forgotten before it is.
const SAME_USER_DATA_128: u16 = 1 << 9;
const SAME_USER_DATA_64: u16 = 1 << 10;
const SAME_USER_DATA_32: u16 = 1 << 11;

/// One transfer.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct TransferRow {
    id: u128,
    /// What it moved or reserved, minor units.
    amount: u128,
    pending_id: u128,
    user_data_128: u128,
    pub(super) debit: Handle,
    pub(super) credit: Handle,
    user_data_64: u64,
    user_data_32: u32,
    timeout_s: u32,
    pub(super) deadline: DeadlineSlot,
    code: u16,
    /// The flags asked for, and the status in the bits above them.
    flags: u16,
}

const _: () = assert!(size_of::<TransferRow>() == 96);
const _: () = assert!(TransferFlags::BITS < WHOLE);

/// What executing one transfer did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Executed {
    /// The new row.
    pub(super) row: Handle,
    /// The row it posted or voided. Of a pending transfer older than the window nothing else leads
    /// there: once it is resolved its id is free.
    pub(super) pending: Option<Handle>,
}

impl WindowRow for TransferRow {
    fn id(&self) -> u128 {
        self.id
    }

    fn is_kept(&self, _: u32) -> bool {
        self.status() == TransferState::Pending
    }

    fn is_carried(&self) -> bool {
        self.flags & CARRIED != 0
    }

    fn set_carried(&mut self) {
        self.flags |= CARRIED;
    }
}

impl TransferRow {
    /// A transfer between two accounts that moved or reserved `amount`.
    #[inline]
    pub(super) fn new(
        asked: &Transfer,
        debit: Handle,
        credit: Handle,
        amount: Amount,
        status: TransferState,
    ) -> TransferRow {
        TransferRow {
            id: asked.id.0,
            amount: amount.0,
            pending_id: asked.pending_id.0,
            user_data_128: asked.user_data_128,
            debit,
            credit,
            user_data_64: asked.user_data_64,
            user_data_32: asked.user_data_32,
            timeout_s: asked.timeout_s,
            deadline: NO_DEADLINE,
            code: asked.code,
            flags: asked.flags.0 | (status as u16) << STATUS_SHIFT,
        }
    }

    /// A transfer that posts or voids `pending`: what it leaves open it takes from there.
    pub(super) fn resolving(
        asked: &Transfer,
        pending: &TransferRow,
        amount: Amount,
    ) -> TransferRow {
        let mut row = TransferRow::new(
            asked,
            pending.debit,
            pending.credit,
            amount,
            TransferState::Done,
        );
        if asked.user_data_128 == 0 {
            row.user_data_128 = pending.user_data_128;
        }
        if asked.user_data_64 == 0 {
            row.user_data_64 = pending.user_data_64;
        }
        if asked.user_data_32 == 0 {
            row.user_data_32 = pending.user_data_32;
        }
        row.code = pending.code;
        let bits = [
            (amount.0 == pending.amount, WHOLE),
            (
                row.user_data_128 == pending.user_data_128,
                SAME_USER_DATA_128,
            ),
            (row.user_data_64 == pending.user_data_64, SAME_USER_DATA_64),
            (row.user_data_32 == pending.user_data_32, SAME_USER_DATA_32),
        ];
        for (is_set, bit) in bits {
            if is_set {
                row.flags |= bit;
            }
        }
        row
    }

    /// An id that stays failed.
    pub(super) fn failed(id: TransferId) -> TransferRow {
        TransferRow {
            id: id.0,
            deadline: NO_DEADLINE,
            flags: (TransferState::Failed as u16) << STATUS_SHIFT,
            ..TransferRow::zeroed()
        }
    }

    pub(super) fn id(&self) -> TransferId {
        TransferId(self.id)
    }

    pub(super) fn amount(&self) -> Amount {
        Amount(self.amount)
    }

    pub(super) fn pending_id(&self) -> TransferId {
        TransferId(self.pending_id)
    }

    pub(super) fn user_data(&self) -> (u128, u64, u32) {
        (self.user_data_128, self.user_data_64, self.user_data_32)
    }

    pub(super) fn timeout_s(&self) -> u32 {
        self.timeout_s
    }

    pub(super) fn code(&self) -> u16 {
        self.code
    }

    pub(super) fn flags(&self) -> TransferFlags {
        TransferFlags(self.flags & TransferFlags::BITS)
    }

    #[inline]
    pub(super) fn has(&self, flag: TransferFlags) -> bool {
        self.flags & flag.0 != 0
    }

    #[inline]
    pub(super) fn status(&self) -> TransferState {
        TransferState::from_code((self.flags >> STATUS_SHIFT) as u8).expect("written from a state")
    }

    pub(super) fn set_status(&mut self, status: TransferState) {
        self.flags = self.flags & ((1 << STATUS_SHIFT) - 1) | (status as u16) << STATUS_SHIFT;
    }

    /// `exists`, or the first field in which a repeated id differs, in TigerBeetle's order. `sides`
    /// are the ids of the two accounts, `ledger` that of their asset.
    pub(super) fn compare(&self, asked: &Transfer, sides: (u64, u64), ledger: u32) -> Reason {
        let resolves = asked.flags.resolves();
        // Who posts or voids may leave out what the pending transfer says.
        let differs_u64 = |asked: u64, is: u64| asked != is && !(resolves && asked == 0);
        let user_data = |asked: u128, is: u128, same: u16| {
            asked != is && !(resolves && asked == 0 && self.flags & same != 0)
        };
        let differences = [
            (
                self.flags() != asked.flags,
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
                differs_u64(asked.debit_account.0, sides.0),
                Reason::ExistsWithDifferentDebitAccountId,
            ),
            (
                differs_u64(asked.credit_account.0, sides.1),
                Reason::ExistsWithDifferentCreditAccountId,
            ),
            (
                self.amount_differs(asked),
                Reason::ExistsWithDifferentAmount,
            ),
            (
                user_data(asked.user_data_128, self.user_data_128, SAME_USER_DATA_128),
                Reason::ExistsWithDifferentUserData128,
            ),
            (
                user_data(
                    asked.user_data_64.into(),
                    self.user_data_64.into(),
                    SAME_USER_DATA_64,
                ),
                Reason::ExistsWithDifferentUserData64,
            ),
            (
                user_data(
                    asked.user_data_32.into(),
                    self.user_data_32.into(),
                    SAME_USER_DATA_32,
                ),
                Reason::ExistsWithDifferentUserData32,
            ),
            (
                // No asset named: that of the accounts.
                asked.asset.0 != 0 && asked.asset.0 != ledger,
                Reason::ExistsWithDifferentLedger,
            ),
            (
                differs_u64(asked.code.into(), self.code.into()),
                Reason::ExistsWithDifferentCode,
            ),
        ];
        differences
            .iter()
            .find(|(differs, _)| *differs)
            .map_or(Reason::Exists, |(_, reason)| *reason)
    }

    fn amount_differs(&self, asked: &Transfer) -> bool {
        let differs = |wanted: Option<Amount>| match wanted {
            Some(amount) => amount.0 != self.amount,
            None => self.flags & WHOLE == 0,
        };
        if asked.flags.has(TransferFlags::VOID_PENDING) {
            differs(asked.amount_to_void())
        } else if asked.flags.has(TransferFlags::POST_PENDING) {
            differs(asked.amount_to_post())
        } else if asked.flags.is_balancing() {
            // The amount asked for is the most it may move; what it moved depended on the moment.
            asked.amount.0 < self.amount
        } else {
            asked.amount.0 != self.amount
        }
    }
}
