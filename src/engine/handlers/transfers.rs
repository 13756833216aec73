//! Transfers: plain movements between two accounts of one asset, idempotent by id.

use super::{check_account_ids, check_id, find_sides};
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::prefetch::{prefetch, prefetch_pair};
use crate::protocol::command::{SubmitPayment, Transfer, TransferFlags};
use crate::protocol::event::{EventKind, TransferDone};
use crate::protocol::frame::CommandRef;
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount, PaymentId, TransferId};
use crate::protocol::wire::Zero;

/// Moves money once.
#[inline]
pub(in crate::engine) fn transfer(state: &mut State, asked: &Transfer, out: &mut Outbox) {
    let (status, amount) = match check(state, asked) {
        Ok((debit, credit)) => {
            // From here it succeeds.
            state.ledger.post(debit, credit, asked.amount);
            state.transfers.record(asked, debit, credit, asked.amount);
            state.liquidity_rose(credit);
            (Reason::Created, asked.amount)
        }
        Err(Reason::Exists) => {
            let moved = state.transfers.find(asked.id).map_or(0, |row| row.amount);
            (Reason::Exists, Amount(moved))
        }
        Err(reason) => (reason, Amount::ZERO),
    };
    let body = TransferDone {
        id: asked.id,
        amount,
        status,
        _reserved: [Zero::Zero; 14],
    };
    out.push(EventKind::Transfer, &body);
}

/// Moves money many times, in order; each transfer stands for itself.
pub(in crate::engine) fn transfers(state: &mut State, asked: &[Transfer], out: &mut Outbox) {
    const AHEAD: usize = 8;
    for (at, one) in asked.iter().enumerate() {
        if let Some(later) = asked.get(at + AHEAD) {
            touch_lookups(state, TransferHead::of_item(later));
        }
        if let Some(later) = asked.get(at + AHEAD / 2) {
            touch_rows(state, TransferHead::of_item(later));
        }
        transfer(state, one, out);
    }
}

/// What a transfer or a payment will look up: the bytes both begin with. Read ahead of the turn
/// without validating anything, for a hint may be wrong.
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
#[repr(C)]
pub(in crate::engine) struct TransferHead {
    id: TransferId,
    debit_account: AccountId,
    credit_account: AccountId,
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Transfer, debit_account) == offset_of!(TransferHead, debit_account));
    assert!(offset_of!(Transfer, credit_account) == offset_of!(TransferHead, credit_account));
    assert!(offset_of!(SubmitPayment, debtor_account) == offset_of!(TransferHead, debit_account));
    assert!(
        offset_of!(SubmitPayment, creditor_account) == offset_of!(TransferHead, credit_account)
    );
};

impl TransferHead {
    /// The head of a transfer or payment frame.
    #[inline]
    pub(in crate::engine) fn of(command: CommandRef<'_>) -> Option<TransferHead> {
        let (head, _) = zerocopy::FromBytes::read_from_prefix(command.body).ok()?;
        Some(head)
    }

    #[inline]
    fn of_item(asked: &Transfer) -> TransferHead {
        TransferHead {
            id: asked.id,
            debit_account: asked.debit_account,
            credit_account: asked.credit_account,
        }
    }
}

/// Warms the caches for a transfer that comes soon: first where its lookups begin ...
#[inline]
pub(in crate::engine) fn touch_lookups(state: &State, head: TransferHead) {
    prefetch(state.transfers.lookup_hint(head.id));
    prefetch(state.ledger.lookup_hint(head.debit_account));
    prefetch(state.ledger.lookup_hint(head.credit_account));
}

/// The same for a payment.
#[inline]
pub(in crate::engine) fn touch_payment(state: &State, head: TransferHead) {
    prefetch(state.payments.lookup_hint(PaymentId(head.id.0)));
    prefetch(state.ledger.lookup_hint(head.debit_account));
    prefetch(state.ledger.lookup_hint(head.credit_account));
}

/// ... and, once those are there, the accounts themselves.
#[inline]
pub(in crate::engine) fn touch_rows(state: &State, head: TransferHead) {
    for account in [head.debit_account, head.credit_account] {
        if let Some(row) = state.ledger.row_hint(account) {
            prefetch_pair(row);
        }
    }
}

#[inline]
fn check(state: &State, asked: &Transfer) -> Result<(Handle, Handle), Reason> {
    if !asked.flags.is_valid() {
        return Err(Reason::ReservedFlag);
    }
    check_id(asked.id.0)?;
    if let Some(row) = state.transfers.find(asked.id) {
        let (debit, credit) = (state.ledger.row(row.debit), state.ledger.row(row.credit));
        return Err(row.compare(asked, debit.id, credit.id));
    }
    if asked.flags != TransferFlags::NONE {
        return Err(Reason::NotSupported);
    }
    check_account_ids(asked.debit_account, asked.credit_account)?;
    if asked.pending_id.0 != 0 {
        return Err(Reason::PendingIdMustBeZero);
    }
    if asked.timeout_s != 0 {
        return Err(Reason::TimeoutReservedForPendingTransfer);
    }
    let (debit, credit) = find_sides(state, asked.debit_account, asked.credit_account)?;
    let asset = state.assets.row(state.ledger.row(debit).asset).id;
    if asked.asset.0 != 0 && asked.asset.0 != asset {
        return Err(Reason::TransferMustHaveTheSameLedgerAsAccounts);
    }
    if !state.day.admits_transfer() {
        return Err(Reason::PhaseForbids);
    }
    state.ledger.check_post(debit, credit, asked.amount)?;
    if !state.transfers.has_room() {
        return Err(Reason::CapacityExhausted);
    }
    Ok((debit, credit))
}
