//! Orders: cover at entry, matching, delivery versus payment at the fill, and the release of what
//! is left. The book hands out steps; these handlers turn them into postings and reports.
//!
//! `entry` checks a new order, `execution` runs it and wakes the stops its trades reach, `replace`
//! and `cancel` change and end live ones, `linked` enters lists of orders and keeps them in line, `auctions` moves instruments through their phases, `pegs`
//! moves orders after the market.

mod auctions;
mod cancel;
mod entry;
mod execution;
mod feed;
mod linked;
mod pegs;
mod replace;

pub(in crate::engine) use auctions::{set_instrument_phase, uncross};
pub(in crate::engine) use cancel::{
    cancel_blocked, cancel_on_disconnect, cancel_order, disconnect, expire_day_orders,
    expire_order, mass_cancel,
};
pub(in crate::engine) use execution::{trades, wake_quoted};
pub(in crate::engine) use feed::{publish, publish_book, query_book_orders};
pub(super) use linked::covers_of;
pub(in crate::engine) use linked::place_order_list;
pub(super) use replace::added_cover_of;
pub(in crate::engine) use replace::replace_order;

use super::fills::held_at;
use crate::engine::deadlines::Due;
use crate::engine::index::Handle;
use crate::engine::matching::{Lookup, Slot};
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::prefetch::prefetch_pair;
use crate::protocol::command::{CancelOrder, PlaceOrder, ReplaceOrder, Side};
use crate::protocol::event::{EventKind, OrderAccepted, OrderChanged, OrderRejected};
use crate::protocol::frame::CommandRef;
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, ClientOrderId, OrderId, ParticipantId, Price};
use crate::protocol::wire::Zero;
use entry::{Entry, Fate, check_entry};
use execution::{execute, settle_book};

/// Enters an order: it trades what it can at once, then rests or is cancelled; or it waits.
#[inline(never)] // so that instructions are counted per kind
pub(in crate::engine) fn place_order(state: &mut State, asked: &PlaceOrder, out: &mut Outbox) {
    let entry = match check_entry(state, asked, out.session()) {
        Ok(entry) => entry,
        Err(reason) => return refuse(asked, reason, out),
    };
    // From here it succeeds.
    let slot = enter(state, asked, &entry, out);
    start(state, asked, slot, entry, out);
    settle_book(state, entry.order.book, out);
}

/// Gives a new order its ids, has it come due where it lapses, and says so.
#[inline]
fn enter(state: &mut State, asked: &PlaceOrder, entry: &Entry, out: &mut Outbox) -> Slot {
    let order = &entry.order;
    let slot = state.matching.enter(order);
    if state.instruments.row(order.book).is_deferred() {
        let accounts = (order.base_account, order.quote_account);
        state.positions.open(order.book, accounts.0, accounts.1);
    }
    let accepted = OrderAccepted {
        order_id: state.matching.order(slot).order_id,
        client_order_id: asked.client_order_id,
        leaves: asked.quantity,
        participant: asked.participant,
        instrument: asked.instrument,
    };
    out.push(EventKind::OrderAccepted, &accepted);
    if asked.expires_at.0 != 0 {
        let due = Due::Order(slot.row());
        let deadline = state.deadlines.insert(asked.expires_at, due);
        state.matching.set_deadline(slot, deadline);
    }
    slot
}

/// Takes an entered order's cover and lets it do what it does first.
#[inline]
fn start(state: &mut State, asked: &PlaceOrder, slot: Slot, entry: Entry, out: &mut Outbox) {
    let Entry { order, hold, fate } = entry;
    if let Fate::Killed(reason) = fate {
        cancel::report_cancelled(state, slot, reason, out);
        state.matching.finish(slot);
        return;
    }
    if asked.slide.is_yes() && order.price != asked.price {
        let body = OrderChanged {
            order_id: state.matching.order(slot).order_id,
            client_order_id: asked.client_order_id,
            price: order.price,
            leaves: asked.quantity,
            participant: asked.participant,
            _reserved: [Zero::Zero; 12],
        };
        out.push(EventKind::OrderReplaced, &body);
    }
    state.ledger.open_for_trading(order.base_account);
    state.ledger.open_for_trading(order.quote_account);
    let account = held_at(order.side, order.base_account, order.quote_account);
    state.ledger.hold(account, hold);
    match fate {
        Fate::Trades => {
            let is_protected = asked.protection.0 != 0;
            execute(state, slot, hold, is_protected, out);
        }
        Fate::Rests => state.matching.rest(slot),
        Fate::Waits(stop) => state.matching.wait(slot, stop),
        Fate::Aside { for_close } => state.matching.set_aside(slot, for_close),
        Fate::Killed(_) => unreachable!("it has ended"),
    }
}

/// Refuses an order.
pub(super) fn refuse(asked: &PlaceOrder, reason: Reason, out: &mut Outbox) {
    let body = OrderRejected {
        client_order_id: asked.client_order_id,
        participant: asked.participant,
        reason,
        _reserved: [Zero::Zero; 2],
    };
    out.push(EventKind::OrderRejected, &body);
}

/// The account that a new order would hold cover on, and how much; `None` where it is refused.
pub(super) fn cover_of(
    state: &State,
    asked: &PlaceOrder,
    session: u64,
) -> Option<(Handle, Amount)> {
    let entry = check_entry(state, asked, session).ok()?;
    let order = &entry.order;
    let account = held_at(order.side, order.base_account, order.quote_account);
    Some((account, entry.hold))
}

/// The live order of that participant by either of its ids.
fn find_own(
    state: &State,
    participant: ParticipantId,
    (client_order_id, order_id): (ClientOrderId, u64),
) -> Result<Slot, Reason> {
    let participant = state.participants.find(participant.0);
    let participant = participant.ok_or(Reason::ParticipantNotFound)?;
    let lookup = match (client_order_id.0, order_id) {
        (0, order_id) => state.matching.find_by_id(OrderId(order_id)),
        (_, 0) => state.matching.find(participant, client_order_id),
        // Either id, not both: they could mean two orders.
        _ => return Err(Reason::OrderFieldsContradict),
    };
    match lookup {
        Lookup::Live(slot) if state.matching.owner(slot) == participant => Ok(slot),
        Lookup::Live(_) => Err(Reason::NotYourOrder),
        Lookup::Finished => Err(Reason::TooLateToCancel),
        Lookup::Unknown => Err(Reason::UnknownOrder),
    }
}

/// The bytes that all order commands begin with.
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
#[repr(C)]
struct Head {
    participant: ParticipantId,
    other: u32,
    client_order_id: ClientOrderId,
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(PlaceOrder, participant) == 0);
    assert!(offset_of!(PlaceOrder, client_order_id) == offset_of!(Head, client_order_id));
    assert!(offset_of!(CancelOrder, participant) == 0);
    assert!(offset_of!(CancelOrder, client_order_id) == offset_of!(Head, client_order_id));
    assert!(offset_of!(ReplaceOrder, participant) == 0);
    assert!(offset_of!(ReplaceOrder, client_order_id) == offset_of!(Head, client_order_id));
};

/// Whose order a command is about, and its id there; not validated: a hint may be wrong.
#[inline]
fn named(state: &State, command: CommandRef<'_>) -> Option<(u32, ClientOrderId)> {
    let (head, _) = <Head as zerocopy::FromBytes>::read_from_prefix(command.body).ok()?;
    let participant = state.participants.find(head.participant.0)?;
    Some((participant, head.client_order_id))
}

/// Reads where the lookup of an order command begins, some commands ahead of it.
#[inline]
pub(in crate::engine) fn touch_lookups(state: &State, command: CommandRef<'_>) {
    if let Some((participant, id)) = named(state, command) {
        state.matching.touch(participant, id);
    }
}

/// Reads the order of an order command, a few commands ahead of it.
#[inline]
pub(in crate::engine) fn touch_order(state: &State, command: CommandRef<'_>) {
    if state.matching.is_large()
        && let Some((participant, id)) = named(state, command)
    {
        state.matching.touch_order(participant, id);
    }
}

/// Reads what surrounds the order and where its cover is, shortly before its turn.
#[inline]
pub(in crate::engine) fn touch_neighbours(state: &State, command: CommandRef<'_>) {
    if state.matching.is_large()
        && let Some((participant, id)) = named(state, command)
        && let Some(account) = state.matching.touch_neighbours(participant, id)
    {
        prefetch_pair(state.ledger.row(account));
    }
}

/// Reads the way to the level where a new order may rest, `steps` further each time.
#[inline]
pub(in crate::engine) fn touch_level(state: &State, command: CommandRef<'_>, steps: u32) {
    if state.matching.is_large()
        && let Some((instrument, side, price)) = placed(command)
        && let Some(book) = state.instruments.find(instrument)
    {
        state.matching.touch_level(book, side, price, steps);
    }
}

/// Where an order is to be placed; not validated.
#[inline]
fn placed(command: CommandRef<'_>) -> Option<(u32, Side, Price)> {
    use std::mem::offset_of;
    let bytes = |at: usize, length: usize| command.body.get(at..at + length);
    let instrument = bytes(offset_of!(PlaceOrder, instrument), 4)?;
    let price = bytes(offset_of!(PlaceOrder, price), 8)?;
    let side = bytes(offset_of!(PlaceOrder, side), 1)?;
    Some((
        u32::from_le_bytes(instrument.try_into().ok()?),
        Side::from_code(side[0])?,
        Price(i64::from_le_bytes(price.try_into().ok()?)),
    ))
}
