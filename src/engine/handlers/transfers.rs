//! Transfers: plain movements between two accounts of one asset, idempotent by id.

use super::{check_account_ids, check_id, find_sides};
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{Transfer, TransferFlags};
use crate::protocol::event::{EventKind, TransferDone};
use crate::protocol::reason::Reason;
use crate::protocol::units::Amount;
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
            touch_lookups(state, later);
        }
        if let Some(later) = asked.get(at + AHEAD / 2) {
            touch_rows(state, later);
        }
        transfer(state, one, out);
    }
}

/// Warms the caches for a transfer that comes soon: first where its lookups begin ...
#[inline]
pub(in crate::engine) fn touch_lookups(state: &State, asked: &Transfer) {
    use crate::prefetch::prefetch;
    prefetch(state.transfers.lookup_hint(asked.id));
    prefetch(state.ledger.lookup_hint(asked.debit_account));
    prefetch(state.ledger.lookup_hint(asked.credit_account));
}

/// ... and, once those are there, the accounts themselves.
#[inline]
pub(in crate::engine) fn touch_rows(state: &State, asked: &Transfer) {
    for account in [asked.debit_account, asked.credit_account] {
        if let Some(row) = state.ledger.row_hint(account) {
            crate::prefetch::prefetch_pair(row);
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
