//! Queries: what stands where. They change nothing, take no sequence and are not journaled.

use super::explain::Explainer;
use super::fills::held_for;
use super::{authorisations, groups, order_rejected, rejected};
use crate::engine::index::Handle;
use crate::engine::matching::{Lookup, OrderView, Place};
use crate::engine::outbox::Outbox;
use crate::engine::settlement::together::Obstacle;
use crate::engine::state::State;
use crate::protocol::command::{
    AccountRef, CommandKind, InstrumentPhase, PaymentRef, QueryBook, QueryOrder, Side, TransferRef,
};
use crate::protocol::event::{
    Account, Book, BookLevel, EventKind, Group, Order, OrderState, Payment, PaymentState, Queue,
    TransferRecord, TransferState,
};
use crate::protocol::reason::Reason;
use crate::protocol::units::{
    AccountId, Amount, AssetId, InstrumentId, OrderId, ParticipantId, PaymentId, Price, Quantity,
    TransferId,
};
use crate::protocol::wire::{Bool, Zero};

/// Payments one answer to query_queue lists; the head counts all.
const QUEUE_ENTRIES_MAX: usize = 1_000;
/// Levels of each side one answer to query_book lists.
const BOOK_DEPTH_MAX: u32 = 1_000;

/// An account's sums.
pub(in crate::engine) fn query_account(state: &State, asked: &AccountRef, out: &mut Outbox) {
    match account(state, asked.account) {
        Some(body) => out.push(EventKind::Account, &body),
        None => {
            let id = u128::from(asked.account.0);
            rejected(CommandKind::QueryAccount, id, Reason::AccountNotFound, out);
        }
    }
}

/// An account as it stands.
pub(in crate::engine) fn account(state: &State, account: AccountId) -> Option<Account> {
    let row = state.ledger.row(state.ledger.find(account)?);
    Some(Account {
        debits_pending: Amount(row.debits_pending),
        debits_posted: Amount(row.debits_posted),
        credits_pending: Amount(row.credits_pending),
        credits_posted: Amount(row.credits_posted),
        held: Amount(row.held),
        credit_line: Amount(row.credit_line),
        available: row.available(),
        account,
        participant: ParticipantId(state.participants.row(row.participant).id),
        flags: row.flags(),
        _reserved: [Zero::Zero; 2],
    })
}

/// A transfer of the idempotency window.
pub(in crate::engine) fn query_transfer(state: &State, asked: &TransferRef, out: &mut Outbox) {
    match transfer_record(state, asked.id) {
        Some(body) => out.push(EventKind::TransferRecord, &body),
        None => {
            let reason = Reason::TransferNotFound;
            rejected(CommandKind::QueryTransfer, asked.id.0, reason, out);
        }
    }
}

/// A transfer as it stands in the window.
pub(in crate::engine) fn transfer_record(state: &State, id: TransferId) -> Option<TransferRecord> {
    let handle = state.transfers.find(id.0)?;
    let row = state.transfers.row(handle);
    // Of a failed one nothing is kept but its id.
    let (debit_account, credit_account, asset) = if row.status() == TransferState::Failed {
        (AccountId(0), AccountId(0), AssetId(0))
    } else {
        let (debit, credit) = (state.ledger.row(row.debit), state.ledger.row(row.credit));
        let asset = state.assets.row(debit.asset).id;
        (AccountId(debit.id), AccountId(credit.id), AssetId(asset))
    };
    let (user_data_128, user_data_64, user_data_32) = row.user_data();
    Some(TransferRecord {
        id: row.id(),
        amount: row.amount(),
        pending_id: row.pending_id(),
        user_data_128,
        debit_account,
        credit_account,
        user_data_64,
        user_data_32,
        timeout_s: row.timeout_s(),
        asset,
        code: row.code(),
        flags: row.flags(),
        state: row.status(),
        _reserved: [Zero::Zero; 7],
    })
}

/// An authorisation as it stands.
pub(in crate::engine) fn query_authorisation(state: &State, asked: &TransferRef, out: &mut Outbox) {
    match state.authorisations.find(asked.id.0) {
        Some(handle) => {
            let body = authorisations::describe(state.authorisations.row(handle));
            out.push(EventKind::Authorisation, &body);
        }
        None => {
            let reason = Reason::AuthorisationNotFound;
            rejected(CommandKind::QueryAuthorisation, asked.id.0, reason, out);
        }
    }
}

/// A payment, and why it waits if it does.
pub(in crate::engine) fn query_payment(state: &State, asked: &PaymentRef, out: &mut Outbox) {
    match state.payments.find(asked.id) {
        Some(payment) => {
            let body = describe(state, payment, &mut Explainer::default());
            out.push(EventKind::Payment, &body);
        }
        None => match state.groups.find(asked.id) {
            Some(group) => {
                let mut body = groups::moved(state, group);
                if let Some(obstacle) = waits_for(state, group, &mut Explainer::default()) {
                    body.waiting_for = AccountId(state.ledger.row(obstacle.account).id);
                    body.reason = obstacle.reason;
                }
                out.push(groups::kind_of(state, group), &body);
            }
            None => {
                let (kind, reason) = (CommandKind::QueryPayment, Reason::PaymentNotFound);
                rejected(kind, asked.id.0, reason, out);
            }
        },
    }
}

/// What a waiting group waits for now.
fn waits_for(state: &State, group: Handle, explainer: &mut Explainer) -> Option<Obstacle> {
    let is_waiting = state.groups.row(group).state() == PaymentState::Queued;
    is_waiting.then(|| explainer.obstacle(state, group))?
}

/// A group, what it waits for if it does, and its legs.
pub(in crate::engine) fn query_group(state: &State, asked: &PaymentRef, out: &mut Outbox) {
    let Some(group) = state.groups.find(asked.id) else {
        let (kind, reason) = (CommandKind::QueryGroup, Reason::PaymentNotFound);
        rejected(kind, asked.id.0, reason, out);
        return;
    };
    let mut explainer = Explainer::default();
    let row = state.groups.row(group);
    let obstacle = waits_for(state, group, &mut explainer);
    let ahead = obstacle.and_then(|obstacle| obstacle.ahead);
    let account = |obstacle: Obstacle| state.ledger.row(obstacle.account).id;
    let (lots, lots_left) = if row.settles_in_parts() || row.collects() {
        (row.lots(), row.lots_left())
    } else {
        (0, 0)
    };
    let body = Group {
        id: row.id(),
        lots: Amount(lots),
        lots_left: Amount(lots_left),
        short_of: Amount(obstacle.map_or(0, |obstacle| obstacle.short_of)),
        waits_behind: ahead.map_or(PaymentId(0), |ahead| state.payments.row(ahead).id()),
        latest_at: row.latest_at(),
        waiting_for: AccountId(obstacle.map_or(0, account)),
        count: row.legs(),
        reason: obstacle.map_or(row.reason(), |obstacle| obstacle.reason),
        priority: row.class(),
        state: row.state(),
        by: row.by(),
        procedure: row.procedure(),
        minimum_permille: row.minimum_permille(),
        _reserved: [Zero::Zero; 4],
    };
    out.push(EventKind::Group, &body);
    for leg in groups::legs_of(state, group) {
        out.push(EventKind::Payment, &describe(state, leg, &mut explainer));
    }
}

fn describe(state: &State, payment: Handle, explainer: &mut Explainer) -> Payment {
    let row = state.payments.row(payment);
    let (reason, short_of, ahead) = match row.state() {
        PaymentState::Queued | PaymentState::Warehoused => {
            let why = explainer.explain(state, payment);
            (why.reason, why.short_of, why.ahead)
        }
        PaymentState::Settled | PaymentState::Cancelled | PaymentState::Rejected => {
            (row.reason(), Amount::ZERO, None)
        }
    };
    Payment {
        id: row.id(),
        amount: row.amount(),
        debtor_account: AccountId(state.ledger.row(row.debtor).id),
        creditor_account: AccountId(state.ledger.row(row.creditor).id),
        priority: row.class(),
        state: row.state(),
        reason,
        by: row.by(),
        _reserved: [Zero::Zero; 3],
        value_date: row.value_date(),
        _reserved_end: [Zero::Zero; 4],
        earliest_at: row.earliest_at(),
        latest_at: row.latest_at(),
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
    let mut explainer = Explainer::default();
    for payment in state.payments.iter(account).take(count) {
        let body = describe(state, payment, &mut explainer);
        out.push(EventKind::Payment, &body);
    }
}

/// An order that lives; of one that is filled or cancelled nothing is kept.
pub(in crate::engine) fn query_order(state: &State, asked: &QueryOrder, out: &mut Outbox) {
    let lookup = if asked.client_order_id.0 != 0 {
        match state.participants.find(asked.participant.0) {
            Some(participant) => state.matching.find(participant, asked.client_order_id),
            None => Lookup::Unknown,
        }
    } else {
        state.matching.find_by_id(asked.order_id)
    };
    let reason = match lookup {
        Lookup::Live(slot) => {
            out.push(
                EventKind::Order,
                &describe_order(state, &state.matching.order(slot)),
            );
            return;
        }
        Lookup::Finished => Reason::OrderFinished,
        Lookup::Unknown => Reason::UnknownOrder,
    };
    let ids = (asked.client_order_id, asked.order_id);
    order_rejected(asked.participant, CommandKind::QueryOrder, ids, reason, out);
}

fn describe_order(state: &State, order: &OrderView) -> Order {
    let instrument = state.instruments.row(order.book);
    Order {
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        participant: ParticipantId(state.participants.row(order.participant).id),
        instrument: InstrumentId(instrument.id),
        price: order.price,
        quantity: order.quantity,
        leaves: order.leaves,
        held: held_for(instrument, order),
        side: order.side,
        order_type: order.order_type,
        time_in_force: order.time_in_force,
        state: match order.place {
            Place::Book => OrderState::Resting,
            Place::Beside | Place::Outside => OrderState::Waiting,
        },
        _reserved: [Zero::Zero; 4],
        linked_to: state
            .matching
            .linked_to(order.slot)
            .map_or(OrderId(0), |next| next.order_id),
        stop_price: state.matching.stop_price(order.slot).unwrap_or(Price(0)),
        displayed: match order.place {
            Place::Book => order.displayed,
            Place::Beside | Place::Outside => Quantity(0),
        },
    }
}

/// The best levels of a book.
pub(in crate::engine) fn query_book(state: &State, asked: &QueryBook, out: &mut Outbox) {
    let id = u128::from(asked.instrument.0);
    let Some(book) = state.instruments.find(asked.instrument.0) else {
        rejected(CommandKind::QueryBook, id, Reason::InstrumentNotFound, out);
        return;
    };
    if asked.depth == 0 || asked.depth > BOOK_DEPTH_MAX {
        rejected(CommandKind::QueryBook, id, Reason::OutOfRange, out);
        return;
    }
    let depth = asked.depth as usize;
    let levels = |side| state.matching.levels(book, side).take(depth);
    let last = state.matching.last_price(book);
    let phase = state.instruments.row(book).phase();
    let (indicative_price, indicative_volume) = match phase {
        // What was said of an auction that was broken off means nothing any more.
        InstrumentPhase::Closed | InstrumentPhase::Continuous | InstrumentPhase::Halted => {
            (Price(0), Quantity(0))
        }
        _ => state.matching.indicative(book),
    };
    let body = Book {
        instrument: asked.instrument,
        phase,
        has_traded: if last.is_some() { Bool::Yes } else { Bool::No },
        _reserved: [Zero::Zero; 2],
        bids: levels(Side::Buy).count() as u32,
        asks: levels(Side::Sell).count() as u32,
        last_price: last.unwrap_or(Price(0)),
        indicative_price,
        indicative_volume,
        _reserved_end: [Zero::Zero; 8],
    };
    out.push(EventKind::Book, &body);
    for side in [Side::Buy, Side::Sell] {
        for level in levels(side) {
            let body = BookLevel {
                price: level.price,
                // More lots than 2^64 at one price print as that many.
                quantity: Quantity(u64::try_from(level.quantity).unwrap_or(u64::MAX)),
                orders: level.orders,
                side,
                _reserved: [Zero::Zero; 11],
            };
            out.push(EventKind::BookLevel, &body);
        }
    }
}
