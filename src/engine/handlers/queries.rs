//! Queries: what stands where. They change nothing, take no sequence and are not journaled.

use super::{payments, rejected};
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{AccountRef, CommandKind, PaymentRef, QueryBook, QueryOrder};
use crate::protocol::event::{Account, EventKind, Payment, PaymentState, Queue};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount, ParticipantId, PaymentId};
use crate::protocol::wire::Zero;

/// Payments one answer to query_queue lists; the head counts all.
const QUEUE_ENTRIES_MAX: usize = 1_000;

/// An account's sums.
pub(in crate::engine) fn query_account(state: &State, asked: &AccountRef, out: &mut Outbox) {
    let Some(handle) = state.ledger.find(asked.account) else {
        let id = u128::from(asked.account.0);
        rejected(CommandKind::QueryAccount, id, Reason::AccountNotFound, out);
        return;
    };
    let row = state.ledger.row(handle);
    let body = Account {
        debits_pending: Amount(row.debits_pending),
        debits_posted: Amount(row.debits_posted),
        credits_pending: Amount(row.credits_pending),
        credits_posted: Amount(row.credits_posted),
        held: Amount(row.held),
        credit_line: Amount(row.credit_line),
        available: row.available(),
        account: asked.account,
        participant: ParticipantId(state.participants.row(row.participant).id),
        _reserved: [Zero::Zero; 4],
    };
    out.push(EventKind::Account, &body);
}

/// A payment, and why it waits if it does.
pub(in crate::engine) fn query_payment(state: &State, asked: &PaymentRef, out: &mut Outbox) {
    match state.payments.find(asked.id) {
        Some(payment) => out.push(EventKind::Payment, &describe(state, payment)),
        None => rejected(
            CommandKind::QueryPayment,
            asked.id.0,
            Reason::PaymentNotFound,
            out,
        ),
    }
}

fn describe(state: &State, payment: Handle) -> Payment {
    let row = state.payments.row(payment);
    let (reason, short_of, ahead) = match row.state() {
        PaymentState::Queued => payments::explain(state, payment),
        PaymentState::Settled
        | PaymentState::Warehoused
        | PaymentState::Cancelled
        | PaymentState::Rejected => (row.reason(), Amount::ZERO, None),
    };
    Payment {
        id: row.id(),
        amount: row.amount(),
        debtor_account: AccountId(row.debtor_id),
        creditor_account: AccountId(row.creditor_id),
        priority: row.class(),
        state: row.state(),
        reason,
        by: row.by(),
        _reserved: [Zero::Zero; 11],
        short_of,
        waits_behind: ahead.map_or(PaymentId(0), |ahead| state.payments.row(ahead).id()),
    }
}

/// An account's queue in settlement order, each payment with the reason it waits.
pub(in crate::engine) fn query_queue(state: &State, asked: &AccountRef, out: &mut Outbox) {
    let Some(account) = state.ledger.find(asked.account) else {
        let id = u128::from(asked.account.0);
        rejected(CommandKind::QueryQueue, id, Reason::AccountNotFound, out);
        return;
    };
    let (queued, value) = state.payments.queued_at(account);
    let count = (queued as usize).min(QUEUE_ENTRIES_MAX);
    let body = Queue {
        account: asked.account,
        count: count as u32,
        _reserved: [Zero::Zero; 4],
        value,
        queued: u64::from(queued),
        _reserved_end: [Zero::Zero; 8],
    };
    out.push(EventKind::Queue, &body);
    for payment in state.payments.iter(account).take(count) {
        out.push(EventKind::Payment, &describe(state, payment));
    }
}

/// An order.
pub(in crate::engine) fn query_order(_: &State, _: &QueryOrder, out: &mut Outbox) {
    rejected(CommandKind::QueryOrder, 0, Reason::NotSupported, out);
}

/// A book.
pub(in crate::engine) fn query_book(_: &State, _: &QueryBook, out: &mut Outbox) {
    rejected(CommandKind::QueryBook, 0, Reason::NotSupported, out);
}
