//! Throttles: which commands they hold back, and what those count. Only where a throttle is set do
//! commands come this way.
//!
//! What counts is what was accepted: a refusal, for this reason or another, counts nothing and
//! changes nothing. A repeat of what was accepted is answered as ever. Value counts for whoever
//! pays: the debit side of a transfer, payment, leg or authorisation, the credit side of a refund,
//! the participant of an order for what the order holds.

use super::{authorisations, groups, ok, order_rejected, orders, payments, rejected, transfers};
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::engine::throttles::{ALL, Entrant, ThrottleRow};
use crate::protocol::command::{
    AuthorisationStep, Authorise, CommandKind, Leg, PlaceOrder, PlaceOrderList, ReplaceOrder,
    SetThrottle, SubmitGroup, SubmitPayment, ThrottledKind, Transfer, TransferFlags,
};
use crate::protocol::event::{self, Event, EventKind};
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, AssetId, ParticipantId};
use crate::protocol::wire::Zero;

/// Bounds commands and value per window, or no longer.
pub(in crate::engine) fn set_throttle(state: &mut State, asked: &SetThrottle, out: &mut Outbox) {
    let kind = CommandKind::SetThrottle;
    let id = asked.participant.0.into();
    match check_throttle(state, asked) {
        Ok((row, old)) => {
            // From here it succeeds.
            match old.filter(|_| !row.is_bound()) {
                Some(at) => state.throttles.remove(at),
                None => state.throttles.set(row),
            }
            ok(kind, out);
        }
        Err(reason) => rejected(kind, id, reason, out),
    }
}

/// The throttle asked for, and where it stands if it is set already.
fn check_throttle(
    state: &State,
    asked: &SetThrottle,
) -> Result<(ThrottleRow, Option<usize>), Reason> {
    let participant = match asked.participant.0 {
        0 => ALL,
        id => state
            .participants
            .find(id)
            .ok_or(Reason::ParticipantNotFound)?,
    };
    let asset = match asked.asset.0 {
        0 => ALL,
        id => state.assets.find(id).ok_or(Reason::AssetNotFound)?,
    };
    let row = ThrottleRow::new(asked, participant, asset);
    let old = state.throttles.find(&row);
    if old.is_none() && !row.is_bound() {
        return Err(Reason::ThrottleNotFound);
    }
    if old.is_none() && !state.throttles.has_room() {
        return Err(Reason::CapacityExhausted);
    }
    Ok((row, old))
}

/// Every throttle, in order of setting, with what is used of it.
pub(in crate::engine) fn query_throttles(state: &State, out: &mut Outbox) {
    let rows = state.throttles.rows();
    let body = event::Throttles {
        count: rows.len() as u32,
        _reserved: [Zero::Zero; 12],
    };
    out.push(EventKind::Throttles, &body);
    for row in rows {
        let (used_count, used_amount) = row.used(state.now);
        let participant = row.participant;
        let body = event::Throttle {
            participant: ParticipantId(match participant {
                ALL => 0,
                handle => state.participants.row(handle).id,
            }),
            asset: AssetId(match row.asset {
                ALL => 0,
                handle => state.assets.row(handle).id,
            }),
            window_ms: row.window_ms,
            kind: row.kind(),
            _reserved: [Zero::Zero; 2],
            amount: Amount(row.amount),
            used_amount: Amount(used_amount),
            count: row.count,
            used_count,
        };
        out.push(EventKind::Throttle, &body);
    }
}

/// Asks for whoever owns `account`, in what it holds.
fn ask(state: &mut State, account: Handle, kind: ThrottledKind, amount: Amount) -> bool {
    let row = state.ledger.row(account);
    let entrant = Entrant {
        participant: row.participant,
        asset: row.asset,
        kind,
        amount: amount.0,
    };
    state.throttles.ask(state.now, entrant)
}

/// Counts what was asked for if the command's first event since `mark` says that it was accepted.
fn count_accepted(state: &mut State, mark: usize, out: &Outbox) {
    let is_accepted = match out.since(mark).first().and_then(|slot| slot.event()) {
        None | Some(Event::Rejected(_) | Event::PaymentRejected(_) | Event::OrderRejected(_)) => {
            false
        }
        Some(Event::Transfer(done)) => done.status == Reason::Created,
        Some(_) => true,
    };
    if is_accepted {
        state.throttles.count(state.now);
    } else {
        state.throttles.forget();
    }
}

/// Whether a transfer, alone or of a batch, gets in. A posting counts as a command, for its value
/// counted when it was reserved; a void gets in.
pub(super) fn ask_transfer(state: &mut State, asked: &Transfer) -> bool {
    if state.transfers.find(asked.id.0).is_some() {
        return true;
    }
    let kind = ThrottledKind::Transfer;
    if asked.flags.has(TransferFlags::VOID_PENDING) {
        return true;
    }
    if asked.flags.resolves() {
        let pending = state.transfers.find(asked.pending_id.0);
        let debit = pending.and_then(|pending| transfers::debit_of(state, pending));
        return debit.is_none_or(|debit| ask(state, debit, kind, Amount::ZERO));
    }
    let debit = state.ledger.find(asked.debit_account);
    let credit = state.ledger.find(asked.credit_account);
    match (debit, credit) {
        (Some(debit), Some(credit)) => {
            let amount = transfers::balanced_amount(state, asked, debit, credit);
            ask(state, debit, kind, amount)
        }
        _ => true,
    }
}

/// A transfer that throttles may hold back: nothing of it is kept then, and its id stays free.
pub(super) fn throttled_transfer(state: &mut State, asked: &Transfer, out: &mut Outbox) {
    if !ask_transfer(state, asked) {
        state.throttles.forget();
        transfers::answer(asked.id, Reason::Throttled, Amount::ZERO, out);
        return;
    }
    let mark = out.mark();
    transfers::single(state, asked, out);
    count_accepted(state, mark, out);
}

/// A payment that throttles may hold back.
pub(in crate::engine) fn submit_payment(
    state: &mut State,
    asked: &SubmitPayment,
    out: &mut Outbox,
) {
    let is_known = state.payments.find(asked.id).is_some();
    let debtor = state.ledger.find(asked.debtor_account);
    if let Some(debtor) = debtor.filter(|_| !is_known)
        && !ask(state, debtor, ThrottledKind::SubmitPayment, asked.amount)
    {
        state.throttles.forget();
        payments::refuse(asked, Reason::Throttled, out);
        return;
    }
    let mark = out.mark();
    payments::submit_payment(state, asked, out);
    count_accepted(state, mark, out);
}

/// A group that throttles may hold back: each leg counts, and all get in or none.
pub(in crate::engine) fn submit_group(
    state: &mut State,
    asked: &SubmitGroup,
    legs: &[Leg],
    out: &mut Outbox,
) {
    let is_known = state.groups.find(asked.id).is_some();
    let mut gets_in = true;
    for leg in legs.iter().filter(|_| !is_known) {
        let debtor = state.ledger.find(leg.debit_account);
        gets_in = gets_in
            && debtor
                .is_none_or(|debtor| ask(state, debtor, ThrottledKind::SubmitGroup, leg.amount));
    }
    if !gets_in {
        state.throttles.forget();
        rejected(CommandKind::SubmitGroup, asked.id.0, Reason::Throttled, out);
        return;
    }
    let mark = out.mark();
    groups::submit_group(state, asked, legs, out);
    count_accepted(state, mark, out);
}

/// An authorisation that throttles may hold back.
pub(in crate::engine) fn authorise(state: &mut State, asked: &Authorise, out: &mut Outbox) {
    let is_known = state.authorisations.find(asked.id.0).is_some();
    let debit = state.ledger.find(asked.debit_account);
    if let Some(debit) = debit.filter(|_| !is_known)
        && !ask(state, debit, ThrottledKind::Authorise, asked.amount)
    {
        state.throttles.forget();
        rejected(CommandKind::Authorise, asked.id.0, Reason::Throttled, out);
        return;
    }
    let mark = out.mark();
    authorisations::authorise(state, asked, out);
    count_accepted(state, mark, out);
}

/// A step of an authorisation that throttles may hold back: an increment and a refund move value, a
/// capture takes what counted when it was held.
pub(in crate::engine) fn step(
    state: &mut State,
    kind: ThrottledKind,
    asked: &AuthorisationStep,
    out: &mut Outbox,
) {
    let named = asked.authorisation.0 != 0;
    let is_known = named && state.authorisation_steps.find(asked.id.0).is_some();
    let id = if named { asked.authorisation } else { asked.id };
    let authorisation = state.authorisations.find(id.0).filter(|_| !is_known);
    let (command, run): (_, fn(&mut State, &AuthorisationStep, &mut Outbox)) = match kind {
        ThrottledKind::Increment => (CommandKind::Increment, authorisations::increment),
        ThrottledKind::Capture => (CommandKind::Capture, authorisations::capture),
        ThrottledKind::Refund => (CommandKind::Refund, authorisations::refund),
        _ => unreachable!("no step of an authorisation"),
    };
    if let Some(authorisation) = authorisation {
        let row = state.authorisations.row(authorisation);
        let (account, amount) = match kind {
            ThrottledKind::Refund if asked.amount == Amount::MAX => (row.credit, row.refundable()),
            ThrottledKind::Refund => (row.credit, asked.amount),
            ThrottledKind::Increment => (row.debit, asked.amount),
            _ => (row.debit, Amount::ZERO),
        };
        if !ask(state, account, kind, amount) {
            state.throttles.forget();
            rejected(command, asked.id.0, Reason::Throttled, out);
            return;
        }
    }
    let mark = out.mark();
    run(state, asked, out);
    count_accepted(state, mark, out);
}

/// An order that throttles may hold back: its value is what it holds.
pub(in crate::engine) fn place_order(state: &mut State, asked: &PlaceOrder, out: &mut Outbox) {
    let gets_in = match orders::cover_of(state, asked, out.session()) {
        Some((account, hold)) => ask(state, account, ThrottledKind::PlaceOrder, hold),
        // It is refused for another reason.
        None => true,
    };
    if !gets_in {
        state.throttles.forget();
        orders::refuse(asked, Reason::Throttled, out);
        return;
    }
    let mark = out.mark();
    orders::place_order(state, asked, out);
    count_accepted(state, mark, out);
}

/// Orders that hang together: each counts, for what the list holds because of it.
pub(in crate::engine) fn place_order_list(
    state: &mut State,
    asked: &PlaceOrderList,
    list: &[PlaceOrder],
    out: &mut Outbox,
) {
    for (account, hold) in orders::covers_of(state, asked, list, out.session()) {
        if !ask(state, account, ThrottledKind::PlaceOrder, hold) {
            state.throttles.forget();
            for order in list {
                orders::refuse(order, Reason::Throttled, out);
            }
            return;
        }
    }
    let mark = out.mark();
    orders::place_order_list(state, asked, list, out);
    count_accepted(state, mark, out);
}

/// A change of an order that throttles may hold back: its value is what it adds to what is held.
pub(in crate::engine) fn replace_order(state: &mut State, asked: &ReplaceOrder, out: &mut Outbox) {
    let gets_in = match orders::added_cover_of(state, asked) {
        Some((account, added)) => ask(state, account, ThrottledKind::ReplaceOrder, added),
        None => true,
    };
    if !gets_in {
        state.throttles.forget();
        let ids = (asked.client_order_id, asked.order_id);
        let kind = CommandKind::ReplaceOrder;
        order_rejected(asked.participant, kind, ids, Reason::Throttled, out);
        return;
    }
    let mark = out.mark();
    orders::replace_order(state, asked, out);
    count_accepted(state, mark, out);
}
