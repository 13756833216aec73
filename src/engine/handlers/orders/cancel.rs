//! Cancels: one order, all of a scope, those of a session that ended, those whose time is over.

use super::execution::{cover_account, settle_book};
use super::find_own;
use crate::engine::handlers::fills::held_for;
use crate::engine::handlers::{ok, order_rejected, rejected};
use crate::engine::index::Handle;
use crate::engine::matching::{OrderView, Slot};
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::state::State;
use crate::protocol::command::{
    self, CancelOrder, CommandKind, MassCancel, SessionRef, Side, SideFilter, TimeInForce,
};
use crate::protocol::event::{self, EventKind, OrderCancelled};
use crate::protocol::reason::{CancelReason, Reason};
use crate::protocol::units::{ParticipantId, Quantity};
use crate::protocol::wire::{Bool, Zero};

/// Takes an order out of the book. Allowed in every phase.
#[inline(never)] // so that instructions are counted per kind
pub(in crate::engine) fn cancel_order(state: &mut State, asked: &CancelOrder, out: &mut Outbox) {
    let ids = (asked.client_order_id, asked.order_id.0);
    let slot = match find_own(state, asked.participant, ids) {
        Ok(slot) => slot,
        Err(reason) => {
            let ids = (asked.client_order_id, asked.order_id);
            let kind = CommandKind::CancelOrder;
            order_rejected(asked.participant, kind, ids, reason, out);
            return;
        }
    };
    // From here it succeeds.
    let order = state.matching.cancel(slot);
    release_cancelled(state, &order);
    let reason = CancelReason::Requested;
    cancelled(&order, asked.participant, order.leaves, reason, out);
    settle_book(state, order.book, out);
}

/// Takes all orders of a participant out of the book, or those of one session, instrument or side.
pub(in crate::engine) fn mass_cancel(state: &mut State, asked: &MassCancel, out: &mut Outbox) {
    let (participant, book) = match check_scope(state, asked) {
        Ok(scope) => scope,
        Err(reason) => return mass_cancel_rejected(asked, reason, out),
    };
    // From here it succeeds.
    ok(CommandKind::MassCancel, out);
    let side = match asked.side {
        SideFilter::Buy => Some(Side::Buy),
        SideFilter::Sell => Some(Side::Sell),
        SideFilter::Both => None,
    };
    let mut gone = std::mem::take(&mut state.gone);
    let matching = &mut state.matching;
    match participant {
        Some(participant) if asked.session == 0 => {
            matching.mass_cancel(participant, book, side, |order| gone.push(order));
        }
        _ => matching.cancel_session(asked.session, participant, book, side, |order| {
            gone.push(order);
        }),
    }
    cancel_all(state, &gone, CancelReason::Mass, out);
    gone.clear();
    state.gone = gone;
}

/// A mass cancel is refused for a name that means nobody: that one is the refusal's id.
fn mass_cancel_rejected(asked: &MassCancel, reason: Reason, out: &mut Outbox) {
    let (participant, id) = match reason {
        Reason::InstrumentNotFound => (asked.participant, u128::from(asked.instrument.0)),
        Reason::SessionNotFound => (asked.participant, u128::from(asked.session)),
        _ => (ParticipantId(0), u128::from(asked.participant.0)),
    };
    let body = event::Rejected {
        cmd: CommandKind::MassCancel,
        reason,
        participant,
        by_order_id: Bool::No,
        _reserved: [Zero::Zero; 7],
        id,
    };
    out.push(EventKind::Rejected, &body);
}

fn check_scope(
    state: &State,
    asked: &MassCancel,
) -> Result<(Option<Handle>, Option<Handle>), Reason> {
    let participant = state.participants.find(asked.participant.0);
    if participant.is_none() && (asked.session == 0 || asked.participant.0 != 0) {
        return Err(Reason::ParticipantNotFound);
    }
    let book = state.instruments.find(asked.instrument.0);
    if book.is_none() && asked.instrument.0 != u32::MAX {
        return Err(Reason::InstrumentNotFound);
    }
    if asked.session != 0 && !state.matching.knows_session(asked.session) {
        return Err(Reason::SessionNotFound);
    }
    Ok((participant, book))
}

/// Has the orders that a session enters from now on cancelled at its end, or no more so.
pub(in crate::engine) fn cancel_on_disconnect(
    state: &mut State,
    asked: &command::CancelOnDisconnect,
    out: &mut Outbox,
) {
    let kind = CommandKind::CancelOnDisconnect;
    let result = own_session(asked.session, out).and_then(|session| {
        if asked.enabled.is_yes() && !state.matching.has_room_for_session(session) {
            return Err(Reason::CapacityExhausted);
        }
        Ok(session)
    });
    match result {
        Ok(session) => {
            let is_enabled = asked.enabled.is_yes();
            state.matching.set_cancel_on_disconnect(session, is_enabled);
            ok(kind, out);
        }
        Err(reason) => rejected(kind, u128::from(asked.session), reason, out),
    }
}

/// A session's connection has ended: cancels the orders that go with it. The session asks anew when
/// it comes back.
pub(in crate::engine) fn disconnect(state: &mut State, asked: &SessionRef, out: &mut Outbox) {
    let kind = CommandKind::Disconnect;
    let session = own_session(asked.session, out).and_then(|session| {
        let known = state.matching.knows_session(session);
        known.then_some(session).ok_or(Reason::SessionNotFound)
    });
    let session = match session {
        Ok(session) => session,
        Err(reason) => return rejected(kind, u128::from(asked.session), reason, out),
    };
    // From here it succeeds.
    ok(kind, out);
    let mut gone = Vec::new();
    let matching = &mut state.matching;
    matching.cancel_session(session, None, None, None, |order| gone.push(order));
    matching.set_cancel_on_disconnect(session, false);
    cancel_all(state, &gone, CancelReason::Disconnected, out);
}

/// A session speaks for itself; the node, and a script, for any.
fn own_session(asked: u64, out: &Outbox) -> Result<u64, Reason> {
    match (asked, out.session()) {
        (0, own) => Ok(own),
        (asked, own) if own == 0 || own == asked => Ok(asked),
        _ => Err(Reason::NotAuthorised),
    }
}

/// Cancels all orders of a participant that may trade no more.
pub(in crate::engine) fn cancel_blocked(state: &mut State, participant: Handle, out: &mut Outbox) {
    let mut gone = Vec::new();
    state
        .matching
        .mass_cancel(participant, None, None, |order| gone.push(order));
    cancel_all(state, &gone, CancelReason::Blocked, out);
}

/// Cancels every day order: the day has ended.
pub(in crate::engine) fn expire_day_orders(state: &mut State, out: &mut Outbox) {
    let is_of_day = |order: &OrderView| {
        matches!(
            order.time_in_force,
            TimeInForce::Day
                | TimeInForce::AtTheOpen
                | TimeInForce::AtTheClose
                | TimeInForce::GoodForAuction
        )
    };
    expire(state, None, is_of_day, out);
}

/// Cancels the order in that slot: it has come due.
pub(in crate::engine) fn expire_order(state: &mut State, slot: u32, out: &mut Outbox) {
    let slot = state.matching.lapse(slot);
    let order = state.matching.cancel(slot);
    cancel_all(state, &[order], CancelReason::Expired, out);
}

/// Cancels the orders of one book or all whose time is over.
pub(super) fn expire(
    state: &mut State,
    book: Option<Handle>,
    is_over: impl FnMut(&OrderView) -> bool,
    out: &mut Outbox,
) {
    let mut gone = Vec::new();
    state
        .matching
        .cancel_where(book, is_over, |order| gone.push(order));
    cancel_all(state, &gone, CancelReason::Expired, out);
}

/// Gives back the cover of orders that have left the book, reports them, and settles their books.
fn cancel_all(state: &mut State, gone: &[OrderView], reason: CancelReason, out: &mut Outbox) {
    for order in gone {
        release_cancelled(state, order);
        let participant = ParticipantId(state.participants.row(order.participant).id);
        cancelled(order, participant, order.leaves, reason, out);
    }
    // They come book by book.
    let mut settled = None;
    for order in gone {
        if settled != Some(order.book) {
            settle_book(state, order.book, out);
            settled = Some(order.book);
        }
    }
}

/// Gives back what a cancelled order held.
pub(super) fn release_cancelled(state: &mut State, order: &OrderView) {
    let instrument = state.instruments.row(order.book);
    let held = held_for(instrument, order);
    let account = cover_account(order);
    state.ledger.because(Cause::Order(order.order_id.0));
    state.ledger.release(account, held);
    state.liquidity_rose(account);
}

pub(super) fn report_cancelled(state: &State, slot: Slot, reason: CancelReason, out: &mut Outbox) {
    let order = state.matching.order(slot);
    let participant = ParticipantId(state.participants.row(order.participant).id);
    cancelled(&order, participant, order.leaves, reason, out);
}

pub(super) fn cancelled(
    order: &OrderView,
    participant: ParticipantId,
    lost: Quantity,
    reason: CancelReason,
    out: &mut Outbox,
) {
    let body = OrderCancelled {
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        cancelled_quantity: lost,
        participant,
        reason,
        _reserved: [Zero::Zero; 3],
    };
    out.push(EventKind::OrderCancelled, &body);
}
