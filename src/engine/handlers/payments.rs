//! Payments: settle at once where there is cover and no one ahead, else wait in the debtor's queue;
//! what waits is released by whatever brings liquidity.
//!
//! Entry disposition and release follow the rules of a real-time gross settlement system in the
//! manner of T2: urgent and high payments settle strictly from the head of their queue, normal ones
//! in order, each that is covered (bypass).

use super::{check_account_ids, check_id, find_sides, rejected};
use crate::engine::index::Handle;
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::outbox::Outbox;
use crate::engine::settlement::queue::{NewPayment, PaymentRow};
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, PaymentRef, Priority, SubmitPayment};
use crate::protocol::event::{EventKind, PaymentMoved, PaymentState, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount, PaymentId};
use crate::protocol::wire::Zero;

/// What becomes of a payment at entry.
enum Disposition {
    Settle,
    Queue(Reason),
}

/// Settles or queues a payment.
pub(in crate::engine) fn submit_payment(
    state: &mut State,
    asked: &SubmitPayment,
    out: &mut Outbox,
) {
    let moved = |reason, by| PaymentMoved {
        id: asked.id,
        amount: asked.amount,
        debtor_account: asked.debtor_account,
        creditor_account: asked.creditor_account,
        reason,
        by,
        _reserved: [Zero::Zero; 13],
    };
    let decision = check(state, asked).and_then(|(debtor, creditor)| {
        let disposition = decide(state, asked, debtor, creditor)?;
        Ok((debtor, creditor, disposition))
    });
    let (debtor, creditor, disposition) = match decision {
        Ok(decision) => decision,
        Err(reason) => {
            out.push(EventKind::PaymentRejected, &moved(reason, SettledBy::None));
            return;
        }
    };
    // From here it succeeds.
    let payment = NewPayment {
        id: asked.id,
        debtor: (debtor, asked.debtor_account),
        creditor: (creditor, asked.creditor_account),
        amount: asked.amount,
        class: asked.priority,
    };
    match disposition {
        Disposition::Settle => {
            state.ledger.post(debtor, creditor, asked.amount);
            state.payments.record_settled(&payment, SettledBy::Entry);
            out.push(
                EventKind::PaymentSettled,
                &moved(Reason::Created, SettledBy::Entry),
            );
            state.liquidity_rose(creditor);
        }
        Disposition::Queue(reason) => {
            state.payments.record_queued(&payment, reason);
            out.push(EventKind::PaymentQueued, &moved(reason, SettledBy::None));
        }
    }
}

fn check(state: &State, asked: &SubmitPayment) -> Result<(Handle, Handle), Reason> {
    check_id(asked.id.0)?;
    if let Some(old) = state.payments.find(asked.id) {
        let old = state.payments.row(old);
        let is_same = old.is_same(asked.debtor_account, asked.creditor_account, asked.amount);
        return Err(if is_same && old.class() == asked.priority {
            Reason::Exists
        } else {
            Reason::ExistsWithDifferentContent
        });
    }
    if asked.return_of.0 != 0 || asked.earliest_at.0 != 0 || asked.latest_at.0 != 0 {
        return Err(Reason::NotSupported);
    }
    check_account_ids(asked.debtor_account, asked.creditor_account)?;
    if asked.amount == Amount::ZERO {
        return Err(Reason::AmountMustNotBeZero);
    }
    if asked.amount.0 > NOTIONAL_MAX {
        return Err(Reason::AmountOutOfRange);
    }
    let sides = find_sides(state, asked.debtor_account, asked.creditor_account)?;
    if state.ledger.is_credit_bounded(sides.1) {
        // What may wait must be payable whenever its debtor has the money.
        return Err(Reason::ExceedsDebits);
    }
    if !state.day.admits_payment(asked.priority) {
        return Err(Reason::PhaseForbids);
    }
    if !state.payments.has_room() {
        return Err(Reason::CapacityExhausted);
    }
    Ok(sides)
}

/// Class gate, then cover.
fn decide(
    state: &State,
    asked: &SubmitPayment,
    debtor: Handle,
    creditor: Handle,
) -> Result<Disposition, Reason> {
    let cover = state.ledger.check_post(debtor, creditor, asked.amount);
    let gate = state
        .payments
        .gate(debtor, asked.priority, state.saving.bypass());
    match (cover, gate) {
        (Ok(()) | Err(Reason::ExceedsCredits), Some(_)) => {
            Ok(Disposition::Queue(Reason::BehindHigherPriority))
        }
        (Err(Reason::ExceedsCredits), None) => {
            Ok(Disposition::Queue(Reason::InsufficientLiquidity))
        }
        (Err(reason), _) => Err(reason),
        (Ok(()), None) => Ok(Disposition::Settle),
    }
}

/// Takes a payment out of its queue.
pub(in crate::engine) fn cancel_payment(state: &mut State, asked: &PaymentRef, out: &mut Outbox) {
    let payment = match find_queued(state, asked.id) {
        Ok(payment) => payment,
        Err(reason) => {
            rejected(CommandKind::CancelPayment, asked.id.0, reason, out);
            return;
        }
    };
    // From here it succeeds.
    let debtor = state.payments.row(payment).debtor;
    finish(
        state,
        payment,
        PaymentState::Cancelled,
        Reason::Requested,
        out,
    );
    // What waited behind it may go now.
    state.liquidity_rose(debtor);
}

fn find_queued(state: &State, id: PaymentId) -> Result<Handle, Reason> {
    let payment = state.payments.find(id).ok_or(Reason::PaymentNotFound)?;
    match state.payments.row(payment).state() {
        PaymentState::Queued | PaymentState::Warehoused => Ok(payment),
        PaymentState::Settled => Err(Reason::PaymentAlreadySettled),
        PaymentState::Cancelled => Err(Reason::PaymentAlreadyCancelled),
        PaymentState::Rejected => Err(Reason::PaymentAlreadyRejected),
    }
}

/// Rejects everything that is queued: the day is over.
pub(in crate::engine) fn reject_queued(state: &mut State, out: &mut Outbox) {
    for payment in state.payments.queue_order() {
        finish(
            state,
            payment,
            PaymentState::Rejected,
            Reason::EndOfDay,
            out,
        );
    }
}

fn finish(state: &mut State, payment: Handle, to: PaymentState, reason: Reason, out: &mut Outbox) {
    state.payments.finish(payment, to, SettledBy::None, reason);
    let kind = match to {
        PaymentState::Cancelled => EventKind::PaymentCancelled,
        PaymentState::Queued
        | PaymentState::Settled
        | PaymentState::Warehoused
        | PaymentState::Rejected => EventKind::PaymentRejected,
    };
    out.push(
        kind,
        &moved(state.payments.row(payment), reason, SettledBy::None),
    );
}

fn moved(row: &PaymentRow, reason: Reason, by: SettledBy) -> PaymentMoved {
    PaymentMoved {
        id: row.id(),
        amount: row.amount(),
        debtor_account: AccountId(row.debtor_id),
        creditor_account: AccountId(row.creditor_id),
        reason,
        by,
        _reserved: [Zero::Zero; 13],
    }
}

/// Settles what the liquidity that rose during this command can settle. Accounts go by index; each
/// settlement puts its creditor on the list, until nothing more goes.
#[inline]
pub(in crate::engine) fn release(state: &mut State, out: &mut Outbox) {
    while let Some(account) = state.risen.next() {
        release_account(state, account, out);
    }
}

fn release_account(state: &mut State, account: Handle, out: &mut Outbox) {
    if !state.day.admits_payment(Priority::High) {
        return;
    }
    let strict: &[Priority] = if state.saving.bypass() {
        &[Priority::Urgent, Priority::High]
    } else {
        Priority::ALL
    };
    for class in strict.iter().copied() {
        while let Some(head) = state.payments.head(account, class) {
            if !settle_released(state, head, out) {
                // Strictly from the head: nothing behind it may go, in this class or below.
                return;
            }
        }
    }
    let mut next = state.payments.head(account, Priority::Normal);
    while let Some(payment) = next {
        next = state.payments.next(payment);
        settle_released(state, payment, out);
        if state.ledger.row(account).short_of(Amount(1)).0 > 0 {
            // Not one minor unit is left: no use in looking at the rest.
            return;
        }
    }
}

/// Settles one queued payment if it is covered.
fn settle_released(state: &mut State, payment: Handle, out: &mut Outbox) -> bool {
    let row = *state.payments.row(payment);
    let cover = state
        .ledger
        .check_post(row.debtor, row.creditor, row.amount());
    if let Err(reason) = cover {
        let reason = match reason {
            Reason::ExceedsCredits => Reason::InsufficientLiquidity,
            other => other,
        };
        state.payments.set_reason(payment, reason);
        return false;
    }
    // From here it succeeds.
    settle_queued(state, payment, SettledBy::Release, out);
    true
}

/// Settles a queued payment whose cover is certain.
pub(super) fn settle_queued(state: &mut State, payment: Handle, by: SettledBy, out: &mut Outbox) {
    let row = *state.payments.row(payment);
    state.ledger.post(row.debtor, row.creditor, row.amount());
    let (to, reason) = (PaymentState::Settled, Reason::Created);
    state.payments.finish(payment, to, by, reason);
    out.push(EventKind::PaymentSettled, &moved(&row, reason, by));
    state.liquidity_rose(row.creditor);
}

/// Why a queued payment waits: the payment ahead of it in the class gate, or the money it lacks.
pub(in crate::engine) fn explain(
    state: &State,
    payment: Handle,
) -> (Reason, Amount, Option<Handle>) {
    let row = state.payments.row(payment);
    let ahead = state
        .payments
        .gate(row.debtor, row.class(), state.saving.bypass())
        .filter(|ahead| *ahead != payment);
    if let Some(ahead) = ahead {
        return (Reason::BehindHigherPriority, Amount::ZERO, Some(ahead));
    }
    let short_of = state.ledger.row(row.debtor).short_of(row.amount());
    let cover = state
        .ledger
        .check_post(row.debtor, row.creditor, row.amount());
    match cover {
        Err(Reason::ExceedsCredits) | Ok(()) => (Reason::InsufficientLiquidity, short_of, None),
        Err(other) => (other, Amount::ZERO, None),
    }
}
