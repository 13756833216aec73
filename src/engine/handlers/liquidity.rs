//! Liquidity: credit lines, reservations and limits. What raises an account's means releases what
//! waits for it; what lowers them below what is used takes nothing back, but lets nothing more out.

use super::{answer, rejected};
use crate::engine::index::Handle;
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::outbox::Outbox;
use crate::engine::settlement::desk::UNLIMITED;
use crate::engine::state::State;
use crate::protocol::command::{
    CommandKind, SetBilateralLimit, SetCreditLine, SetMultilateralLimit, SetReservation,
};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount};

/// Sets how far an account may go below zero, beside what its pledges give: for the day, or for
/// good.
pub(in crate::engine) fn set_credit_line(
    state: &mut State,
    asked: &SetCreditLine,
    out: &mut Outbox,
) {
    let kind = CommandKind::SetCreditLine;
    let Some(account) = find_account(state, kind, asked.account, out) else {
        return;
    };
    if !in_range(kind, asked.account, asked.amount, out) {
        return;
    }
    // From here it succeeds.
    super::credit::set_line(state, account, asked.amount, asked.permanent.is_yes());
    done(state, kind, asked.account, account, out);
}

/// Sets aside liquidity for urgent or high payments, for today and every morning; what such
/// payments pay uses it up first.
pub(in crate::engine) fn set_reservation(
    state: &mut State,
    asked: &SetReservation,
    out: &mut Outbox,
) {
    let kind = CommandKind::SetReservation;
    let Some(account) = find_account(state, kind, asked.account, out) else {
        return;
    };
    if !in_range(kind, asked.account, asked.amount, out) {
        return;
    }
    // From here it succeeds.
    let desk = state.payments.open_desk(account);
    desk.reserve(asked.class, asked.amount);
    done(state, kind, asked.account, account, out);
}

/// Bounds what normal payments may net send to one account, or no longer.
pub(in crate::engine) fn set_bilateral_limit(
    state: &mut State,
    asked: &SetBilateralLimit,
    out: &mut Outbox,
) {
    let kind = CommandKind::SetBilateralLimit;
    let Some(account) = find_account(state, kind, asked.account, out) else {
        return;
    };
    let id = u128::from(asked.account.0);
    let counterparty = match find_counterparty(state, account, asked.counterparty) {
        Ok(counterparty) => counterparty,
        Err(reason) => {
            rejected(kind, id, reason, out);
            return;
        }
    };
    if asked.amount.0 != UNLIMITED && !in_range(kind, asked.account, asked.amount, out) {
        return;
    }
    if !state.payments.has_limit_room(account, counterparty) {
        rejected(kind, id, Reason::CapacityExhausted, out);
        return;
    }
    // From here it succeeds.
    state
        .payments
        .set_bilateral(account, counterparty, asked.amount.0);
    done(state, kind, asked.account, account, out);
}

/// Bounds what normal payments may net send to all accounts without a bilateral limit, or no
/// longer.
pub(in crate::engine) fn set_multilateral_limit(
    state: &mut State,
    asked: &SetMultilateralLimit,
    out: &mut Outbox,
) {
    let kind = CommandKind::SetMultilateralLimit;
    let Some(account) = find_account(state, kind, asked.account, out) else {
        return;
    };
    if asked.amount.0 != UNLIMITED && !in_range(kind, asked.account, asked.amount, out) {
        return;
    }
    // From here it succeeds.
    state.payments.set_multilateral(account, asked.amount.0);
    done(state, kind, asked.account, account, out);
}

fn find_account(
    state: &State,
    kind: CommandKind,
    account: AccountId,
    out: &mut Outbox,
) -> Option<Handle> {
    let found = state.ledger.find(account);
    if found.is_none() {
        rejected(kind, account.0.into(), Reason::AccountNotFound, out);
    }
    found
}

/// Another account of the same asset.
fn find_counterparty(
    state: &State,
    account: Handle,
    counterparty: AccountId,
) -> Result<Handle, Reason> {
    let found = state.ledger.find(counterparty);
    let found = found.ok_or(Reason::AccountNotFound)?;
    if found == account {
        return Err(Reason::AccountsMustBeDifferent);
    }
    if state.ledger.row(found).asset != state.ledger.row(account).asset {
        return Err(Reason::AccountsMustHaveTheSameLedger);
    }
    Ok(found)
}

fn in_range(kind: CommandKind, account: AccountId, amount: Amount, out: &mut Outbox) -> bool {
    let fits = amount.0 <= NOTIONAL_MAX;
    if !fits {
        rejected(kind, account.0.into(), Reason::AmountOutOfRange, out);
    }
    fits
}

fn done(state: &mut State, kind: CommandKind, id: AccountId, account: Handle, out: &mut Outbox) {
    answer(kind, id.0.into(), Ok(()), out);
    state.liquidity_rose(account);
}
