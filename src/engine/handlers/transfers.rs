//! Transfers: plain, pending, posted, voided, balancing, closing, linked. Idempotent by id.
//!
//! Names, meaning and precedence of every refusal are those TigerBeetle documents for
//! `create_transfers`, where the meaning is the same; ours come between: `phase_forbids` before what
//! the accounts say, `capacity_exhausted` last.

use super::throttles::{ask_transfer, throttled_transfer};
use super::{check_account_ids, check_id, find_sides, rejected};
use crate::engine::deadlines::{Deadlines, Due, NO_DEADLINE};
use crate::engine::index::{Handle, hash_128};
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::state::State;
use crate::engine::transfers::{Executed, TransferRow};
use crate::protocol::command::{CommandKind, Transfer, TransferFlags};
use crate::protocol::event::{EventKind, TransferDone, TransferState};
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, Timestamp, TransferId};
use crate::protocol::wire::Zero;
use std::ops::Range;

/// Rows of the window that leave memory for each one that comes.
const SWEPT_PER_ROW: u32 = 2;

/// Moves money once.
#[inline]
pub(in crate::engine) fn transfer(state: &mut State, asked: &Transfer, out: &mut Outbox) {
    make_room(state, 1);
    single(state, asked, out);
}

#[inline]
pub(super) fn single(state: &mut State, asked: &Transfer, out: &mut Outbox) {
    let (status, amount) = if asked.flags.has(TransferFlags::LINKED) {
        (Reason::LinkedEventChainOpen, Amount::ZERO)
    } else {
        alone(state, asked)
    };
    answer(asked.id, status, amount, out);
}

/// Moves money once, where throttles are set.
pub(in crate::engine) fn transfer_if_let_in(state: &mut State, asked: &Transfer, out: &mut Outbox) {
    make_room(state, 1);
    throttled_transfer(state, asked, out);
}

/// Moves money many times, in order. Linked transfers stand and fall together; each other one
/// stands for itself.
pub(in crate::engine) fn transfers(state: &mut State, asked: &[Transfer], out: &mut Outbox) {
    batch::<false>(state, asked, out);
}

/// Moves money many times, where throttles are set: each transfer counts like one alone.
pub(in crate::engine) fn transfers_if_let_in(
    state: &mut State,
    asked: &[Transfer],
    out: &mut Outbox,
) {
    batch::<true>(state, asked, out);
}

fn batch<const THROTTLED: bool>(state: &mut State, asked: &[Transfer], out: &mut Outbox) {
    if asked.is_empty() {
        return rejected(CommandKind::Transfers, 0, Reason::OutOfRange, out);
    }
    make_room(state, asked.len() as u32);
    let mut at = 0;
    while let Some(one) = asked.get(at) {
        super::hints::touch_batch(state, asked, at);
        if !one.flags.has(TransferFlags::LINKED) {
            state.ledger.because(Cause::Item(at as u32));
            if THROTTLED {
                throttled_transfer(state, one, out);
            } else {
                single(state, one, out);
            }
            at += 1;
            continue;
        }
        let linked = asked[at..]
            .iter()
            .take_while(|one| one.flags.has(TransferFlags::LINKED));
        let end = (at + linked.count() + 1).min(asked.len());
        chain::<THROTTLED>(state, asked, at..end, out);
        at = end;
    }
}

/// One transfer that depends on no other: its status and what it moved.
#[inline(always)]
fn alone(state: &mut State, asked: &Transfer) -> (Reason, Amount) {
    let done = if asked.flags == TransferFlags::NONE {
        plain(state, asked)
    } else {
        flagged(state, asked)
    };
    match done {
        Ok(amount) => {
            sweep(state, 1);
            (Reason::Created, amount)
        }
        Err(reason) => refuse(state, asked, reason),
    }
}

/// A plain transfer: most are.
#[inline(always)]
fn plain(state: &mut State, asked: &Transfer) -> Result<Amount, Reason> {
    let hash = hash_128(asked.id.0);
    check_id(asked.id.0)?;
    let free = match state.transfers.find_or_free(asked.id.0, hash) {
        Ok(existing) => return Err(compare(state, existing, asked)),
        Err(free) => free,
    };
    let (debit, credit) = check_sides(state, asked)?;
    check_moment(state, debit, credit)?;
    state.ledger.check_post(debit, credit, asked.amount)?;
    check_room(state)?;
    // From here it succeeds.
    state.ledger.post(debit, credit, asked.amount);
    let row = TransferRow::new(asked, debit, credit, asked.amount, TransferState::Done);
    state.transfers.push_free(row, hash, free);
    state.liquidity_rose(credit);
    Ok(asked.amount)
}

#[inline(never)]
fn flagged(state: &mut State, asked: &Transfer) -> Result<Amount, Reason> {
    let executed = execute(state, asked)?;
    settle(state, executed);
    Ok(state.transfers.row(executed.row).amount())
}

/// What a refusal answers; one that another moment might have turned keeps its id failed, so that a
/// late repeat cannot move what its sender has long replaced by another transfer.
#[cold]
#[inline(never)]
fn refuse(state: &mut State, asked: &Transfer, reason: Reason) -> (Reason, Amount) {
    if reason == Reason::Exists {
        let existing = state.transfers.find(asked.id.0);
        let moved = existing.map_or(Amount::ZERO, |row| state.transfers.row(row).amount());
        return (Reason::Exists, moved);
    }
    // A chain that failed may have posted a transfer older than the window, whose id was free while
    // it stood: undone, that transfer is pending again and keeps its id.
    if reason.is_transient() && state.transfers.find(asked.id.0).is_none() {
        if !state.transfers.has_room() {
            return (Reason::CapacityExhausted, Amount::ZERO);
        }
        state.transfers.push(TransferRow::failed(asked.id));
        sweep(state, 1);
    }
    (reason, Amount::ZERO)
}

/// Linked transfers: all or nothing. The last one carries no linked flag, or the chain is open.
fn chain<const THROTTLED: bool>(
    state: &mut State,
    batch: &[Transfer],
    chain: Range<usize>,
    out: &mut Outbox,
) {
    let (first, asked) = (chain.start, &batch[chain]);
    let recorded = state.ledger.postings().len();
    let last = asked.len() - 1;
    let is_open = asked[last].flags.has(TransferFlags::LINKED);
    let evaluated = if is_open { &asked[..last] } else { asked };
    let mut chain = std::mem::take(&mut state.chain);
    let mut failed = is_open.then_some((last, Reason::LinkedEventChainOpen));
    for (at, one) in evaluated.iter().enumerate() {
        state.ledger.because(Cause::Item((first + at) as u32));
        if THROTTLED && !ask_transfer(state, one) {
            failed = Some((at, Reason::Throttled));
            break;
        }
        match execute(state, one) {
            Ok(executed) => chain.push(executed),
            Err(reason) => {
                failed = Some((at, reason));
                break;
            }
        }
    }
    let Some((culprit, reason)) = failed else {
        if THROTTLED {
            state.throttles.count(state.now);
        }
        for (one, executed) in asked.iter().zip(chain.drain(..)) {
            settle(state, executed);
            let amount = state.transfers.row(executed.row).amount();
            answer(one.id, Reason::Created, amount, out);
        }
        state.chain = chain;
        sweep(state, asked.len() as u32);
        return;
    };
    if THROTTLED {
        state.throttles.forget();
    }
    while let Some(executed) = chain.pop() {
        undo(state, executed);
    }
    state.chain = chain;
    state.ledger.unrecord(recorded);
    let (reason, amount) = refuse(state, &asked[culprit], reason);
    for (at, one) in asked.iter().enumerate() {
        if at == culprit {
            answer(one.id, reason, amount, out);
        } else if at == last && is_open {
            answer(one.id, Reason::LinkedEventChainOpen, Amount::ZERO, out);
        } else {
            answer(one.id, Reason::LinkedEventFailed, Amount::ZERO, out);
        }
    }
}

/// Checks and commits one transfer, but for what only shows once its chain stands: deadlines, and
/// the payments that wait for what it brings.
fn execute(state: &mut State, asked: &Transfer) -> Result<Executed, Reason> {
    check_new(state, asked, hash_128(asked.id.0))?;
    if asked.flags.resolves() {
        resolve(state, asked)
    } else {
        reserve_or_move(state, asked)
    }
}

/// Whether the transfer makes sense by itself and its id is new.
#[inline]
fn check_new(state: &State, asked: &Transfer, hash: u32) -> Result<(), Reason> {
    if !asked.flags.is_valid() {
        return Err(Reason::ReservedFlag);
    }
    check_id(asked.id.0)?;
    match state.transfers.find_hashed(asked.id.0, hash) {
        Some(existing) => Err(compare(state, existing, asked)),
        None => Ok(()),
    }
}

/// A transfer that names both its accounts.
fn reserve_or_move(state: &mut State, asked: &Transfer) -> Result<Executed, Reason> {
    let (debit, credit) = check_sides(state, asked)?;
    check_moment(state, debit, credit)?;
    let amount = balanced_amount(state, asked, debit, credit);
    let is_pending = asked.flags.has(TransferFlags::PENDING);
    // The limits come last: a timeout that overflows is found before them.
    let posts = if is_pending {
        state.ledger.check_pend(debit, credit, amount)
    } else {
        state.ledger.check_post(debit, credit, amount)
    };
    let limits = match posts {
        Err(reason @ (Reason::ExceedsCredits | Reason::ExceedsDebits)) => Err(reason),
        other => other.map(Ok)?,
    };
    if expiry(state.now, asked.timeout_s).is_none() {
        return Err(Reason::OverflowsTimeout);
    }
    limits?;
    check_room(state)?;
    // From here it succeeds.
    let status = if is_pending {
        state.ledger.pend(debit, credit, amount);
        TransferState::Pending
    } else {
        state.ledger.post(debit, credit, amount);
        TransferState::Done
    };
    let row = TransferRow::new(asked, debit, credit, amount, status);
    set_closed(state, &row, true);
    let row = state.transfers.push(row);
    let pending = None;
    Ok(Executed { row, pending })
}

/// A transfer that posts or voids a pending one.
fn resolve(state: &mut State, asked: &Transfer) -> Result<Executed, Reason> {
    let pending = check_pending(state, asked)?;
    let old = *state.transfers.row(pending);
    let voids = asked.flags.has(TransferFlags::VOID_PENDING);
    let wanted = if voids {
        asked.amount_to_void()
    } else {
        asked.amount_to_post()
    };
    let amount = wanted.unwrap_or(old.amount());
    if amount > old.amount() {
        return Err(Reason::ExceedsPendingTransferAmount);
    }
    if voids && amount < old.amount() {
        return Err(Reason::PendingTransferHasDifferentAmount);
    }
    check_still_pending(state, &old)?;
    if !state.day.admits_transfer() && !state.ledger.are_instant(old.debit, old.credit) {
        return Err(Reason::PhaseForbids);
    }
    if !voids {
        state.ledger.check_open(old.debit, old.credit)?;
    }
    check_room(state)?;
    // From here it succeeds.
    state.ledger.unpend(old.debit, old.credit, old.amount());
    if voids {
        set_closed(state, &old, false);
    } else {
        state.ledger.post(old.debit, old.credit, amount);
    }
    let status = if voids {
        TransferState::Voided
    } else {
        TransferState::Posted
    };
    state.transfers.row_mut(pending).set_status(status);
    let row = TransferRow::resolving(asked, &old, amount);
    let row = state.transfers.push(row);
    let pending = Some(pending);
    Ok(Executed { row, pending })
}

/// The pending transfer that `asked` names, which agrees with it.
fn check_pending(state: &State, asked: &Transfer) -> Result<Handle, Reason> {
    const POST: TransferFlags = TransferFlags::POST_PENDING;
    const CONTRADICTS_POST_AND_VOID: TransferFlags = TransferFlags(
        TransferFlags::PENDING.0
            | TransferFlags::BALANCING_DEBIT.0
            | TransferFlags::BALANCING_CREDIT.0
            | TransferFlags::CLOSING_DEBIT.0
            | TransferFlags::CLOSING_CREDIT.0,
    );
    if asked.flags.has(POST.with(TransferFlags::VOID_PENDING))
        || asked.flags.any(CONTRADICTS_POST_AND_VOID)
    {
        return Err(Reason::FlagsAreMutuallyExclusive);
    }
    match asked.pending_id.0 {
        0 => return Err(Reason::PendingIdMustNotBeZero),
        u128::MAX => return Err(Reason::PendingIdMustNotBeIntMax),
        id if id == asked.id.0 => return Err(Reason::PendingIdMustBeDifferent),
        _ => {}
    }
    if asked.timeout_s != 0 {
        return Err(Reason::TimeoutReservedForPendingTransfer);
    }
    let pending = state.transfers.find(asked.pending_id.0);
    let pending = pending
        .filter(|pending| state.transfers.row(*pending).status() != TransferState::Failed)
        .ok_or(Reason::PendingTransferNotFound)?;
    let old = state.transfers.row(pending);
    if !old.has(TransferFlags::PENDING) {
        return Err(Reason::PendingTransferNotPending);
    }
    let names_other = |asked: u64, is: u64| asked != 0 && asked != is;
    let (debit, credit) = (state.ledger.row(old.debit), state.ledger.row(old.credit));
    if names_other(asked.debit_account.0, debit.id) {
        Err(Reason::PendingTransferHasDifferentDebitAccountId)
    } else if names_other(asked.credit_account.0, credit.id) {
        Err(Reason::PendingTransferHasDifferentCreditAccountId)
    } else if names_other(
        asked.asset.0.into(),
        state.assets.row(debit.asset).id.into(),
    ) {
        Err(Reason::PendingTransferHasDifferentLedger)
    } else if names_other(asked.code.into(), old.code().into()) {
        Err(Reason::PendingTransferHasDifferentCode)
    } else {
        Ok(pending)
    }
}

fn check_still_pending(state: &State, pending: &TransferRow) -> Result<(), Reason> {
    match pending.status() {
        TransferState::Pending => {}
        TransferState::Posted => return Err(Reason::PendingTransferAlreadyPosted),
        TransferState::Voided => return Err(Reason::PendingTransferAlreadyVoided),
        TransferState::Expired => return Err(Reason::PendingTransferExpired),
        TransferState::Done | TransferState::Failed => unreachable!("it carries the pending flag"),
    }
    // Due, but its turn to lapse has not come yet.
    let is_due =
        pending.deadline != NO_DEADLINE && state.deadlines.at(pending.deadline) <= state.now;
    if is_due {
        return Err(Reason::PendingTransferExpired);
    }
    Ok(())
}

/// The two accounts of a transfer that names both, and that what it says of them fits.
#[inline(always)]
fn check_sides(state: &State, asked: &Transfer) -> Result<(Handle, Handle), Reason> {
    check_account_ids(asked.debit_account, asked.credit_account)?;
    if asked.pending_id.0 != 0 {
        return Err(Reason::PendingIdMustBeZero);
    }
    if !asked.flags.has(TransferFlags::PENDING) {
        if asked.timeout_s != 0 {
            return Err(Reason::TimeoutReservedForPendingTransfer);
        }
        if asked.flags.is_closing() {
            return Err(Reason::ClosingTransferMustBePending);
        }
    }
    let (debit, credit) = find_sides(state, asked.debit_account, asked.credit_account)?;
    if asked.asset.0 != 0 && asked.asset.0 != state.assets.row(state.ledger.row(debit).asset).id {
        return Err(Reason::TransferMustHaveTheSameLedgerAsAccounts);
    }
    Ok((debit, credit))
}

/// Whether anything moves at this moment: by the phase of the day, and on these accounts.
#[inline]
fn check_moment(state: &State, debit: Handle, credit: Handle) -> Result<(), Reason> {
    if !state.day.admits_transfer() && !state.ledger.are_instant(debit, credit) {
        return Err(Reason::PhaseForbids);
    }
    state.ledger.check_open(debit, credit)
}

#[inline]
fn check_room(state: &State) -> Result<(), Reason> {
    if state.transfers.has_room() {
        Ok(())
    } else {
        Err(Reason::CapacityExhausted)
    }
}

/// What a transfer moves: a balancing one no more than the balances allow, down to nothing.
pub(super) fn balanced_amount(
    state: &State,
    asked: &Transfer,
    debit: Handle,
    credit: Handle,
) -> Amount {
    let mut amount = asked.amount;
    if asked.flags.has(TransferFlags::BALANCING_DEBIT) {
        amount = amount.min(state.ledger.row(debit).debit_room());
    }
    if asked.flags.has(TransferFlags::BALANCING_CREDIT) {
        amount = amount.min(state.ledger.row(credit).credit_room());
    }
    amount
}

/// When a transfer pending from `now` on times out; `None` past the end of time.
fn expiry(now: Timestamp, timeout_s: u32) -> Option<Timestamp> {
    let nanoseconds = u64::from(timeout_s) * 1_000_000_000;
    now.0.checked_add(nanoseconds).map(Timestamp)
}

/// Closes the accounts that a closing transfer names, or opens them again.
fn set_closed(state: &mut State, row: &TransferRow, closed: bool) {
    if row.has(TransferFlags::CLOSING_DEBIT) {
        state.ledger.set_closed(row.debit, closed);
    }
    if row.has(TransferFlags::CLOSING_CREDIT) {
        state.ledger.set_closed(row.credit, closed);
    }
    // Payments of a closed account keep their place and wait; once per command sees to it.
    state.closings_changed |= row.flags().is_closing();
}

/// What a transfer brings with it once it stands: its deadline begins or ends, and who waits for
/// what it moved is looked at.
fn settle(state: &mut State, executed: Executed) {
    let row = *state.transfers.row(executed.row);
    if let Some(pending) = executed.pending {
        // A partial post gives the debtor the rest back, a void all.
        state.liquidity_rose(row.debit);
        state.liquidity_rose(row.credit);
        end_deadline(state, pending);
        return;
    }
    match row.status() {
        TransferState::Pending if row.timeout_s() != 0 => {
            let at = expiry(state.now, row.timeout_s()).expect("checked before commit");
            let slot = state.deadlines.insert(at, Due::Transfer(executed.row));
            state.transfers.row_mut(executed.row).deadline = slot;
        }
        TransferState::Done => state.liquidity_rose(row.credit),
        // Posted, voided: by a later transfer of the same chain.
        TransferState::Pending
        | TransferState::Posted
        | TransferState::Voided
        | TransferState::Expired
        | TransferState::Failed => {}
    }
}

fn end_deadline(state: &mut State, pending: Handle) {
    let row = state.transfers.row_mut(pending);
    if row.deadline != NO_DEADLINE {
        state.deadlines.remove(row.deadline);
        row.deadline = NO_DEADLINE;
    }
}

/// Takes back the transfer executed last, as if it had never been; it was not settled yet.
fn undo(state: &mut State, executed: Executed) {
    let row = state.transfers.pop();
    let Some(pending) = executed.pending else {
        set_closed(state, &row, false);
        match row.status() {
            TransferState::Pending => state.ledger.unpend(row.debit, row.credit, row.amount()),
            _ => state.ledger.unpost(row.debit, row.credit, row.amount()),
        }
        return;
    };
    let old = state.transfers.row_mut(pending);
    old.set_status(TransferState::Pending);
    let old = *old;
    state.ledger.pend(old.debit, old.credit, old.amount());
    if row.has(TransferFlags::VOID_PENDING) {
        set_closed(state, &old, true);
    } else {
        state.ledger.unpost(row.debit, row.credit, row.amount());
    }
}

/// A pending transfer has timed out: what it reserved is free again.
pub(in crate::engine) fn expire(state: &mut State, handle: Handle, out: &mut Outbox) {
    let row = state.transfers.row_mut(handle);
    row.set_status(TransferState::Expired);
    row.deadline = NO_DEADLINE;
    let row = *row;
    state.ledger.because(Cause::TransferExpired(row.id().0));
    state.ledger.unpend(row.debit, row.credit, row.amount());
    set_closed(state, &row, false);
    state.liquidity_rose(row.debit);
    state.liquidity_rose(row.credit);
    answer(row.id(), Reason::Expired, row.amount(), out);
}

#[cold]
fn compare(state: &State, existing: Handle, asked: &Transfer) -> Reason {
    let row = state.transfers.row(existing);
    if row.status() == TransferState::Failed {
        return Reason::IdAlreadyFailed;
    }
    let (debit, credit) = (state.ledger.row(row.debit), state.ledger.row(row.credit));
    let ledger = state.assets.row(debit.asset).id;
    row.compare(asked, (debit.id, credit.id), ledger)
}

/// Lets old rows of the window go where there is no room for `rows` new ones. They are out of the
/// window for whoever asks already, so this is no part of what a command that is refused may not do.
#[inline]
fn make_room(state: &mut State, rows: u32) {
    let (transfers, deadlines) = (&mut state.transfers, &mut state.deadlines);
    transfers.make_room(rows, |row, moved_to| carry_on(deadlines, row, moved_to));
}

/// Lets old rows of the window go, for `rows` that came.
#[inline]
fn sweep(state: &mut State, rows: u32) {
    let (transfers, deadlines) = (&mut state.transfers, &mut state.deadlines);
    transfers.sweep(rows * SWEPT_PER_ROW, |row, moved_to| {
        carry_on(deadlines, row, moved_to);
    });
}

/// A row that is kept beyond its window has a new handle.
fn carry_on(deadlines: &mut Deadlines, row: &TransferRow, moved_to: Handle) {
    if row.deadline != NO_DEADLINE {
        deadlines.set_owner(row.deadline, moved_to);
    }
}

/// Who pays for a transfer of the window; of a failed one nothing is kept.
pub(super) fn debit_of(state: &State, transfer: Handle) -> Option<Handle> {
    let row = state.transfers.row(transfer);
    (row.status() != TransferState::Failed).then_some(row.debit)
}

#[inline]
pub(super) fn answer(id: TransferId, status: Reason, amount: Amount, out: &mut Outbox) {
    let body = TransferDone {
        id,
        amount,
        status,
        _reserved: [Zero::Zero; 14],
    };
    out.push(EventKind::Transfer, &body);
}
