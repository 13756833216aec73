//! Phases of an instrument, and what they do to its orders: call auctions, halts, the way back to
//! continuous trading.
//!
//! ```text
//! closed    no orders
//! pre_open, auction, opening_auction, volatility_auction, closing_auction
//!           orders accumulate and may cross; an uncross trades all that crosses at one price
//! continuous  begins with an uncross of what still crosses; then stops wake that its price reached
//! halted    cancels only
//! ```
//! In an auction nobody takes: both sides pay the maker's fee, and the buy is reported as maker.

use super::cancel::expire;
use super::execution::{cover_account, settle_book};
use crate::engine::handlers::fills::{Party, fill, release_improvement};
use crate::engine::handlers::{answer, cycles, ok, rejected};
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::state::State;
use crate::protocol::command::{
    CommandKind, InstrumentPhase, InstrumentRef, SetInstrumentPhase, Side, TimeInForce,
};
use crate::protocol::event::{EventKind, Indicative, InstrumentPhaseChanged, Trade};
use crate::protocol::reason::Reason;
use crate::protocol::units::{InstrumentId, ParticipantId, Price, Quantity};
use crate::protocol::wire::Zero;

/// Whether orders accumulate in that phase.
fn is_call(phase: InstrumentPhase) -> bool {
    match phase {
        InstrumentPhase::PreOpen
        | InstrumentPhase::Auction
        | InstrumentPhase::OpeningAuction
        | InstrumentPhase::VolatilityAuction
        | InstrumentPhase::ClosingAuction => true,
        InstrumentPhase::Closed | InstrumentPhase::Continuous | InstrumentPhase::Halted => false,
    }
}

/// Moves an instrument to another phase. Continuous trading begins with an uncross; what was in for
/// an auction only goes with it.
pub(in crate::engine) fn set_instrument_phase(
    state: &mut State,
    asked: &SetInstrumentPhase,
    out: &mut Outbox,
) {
    let kind = CommandKind::SetInstrumentPhase;
    let id = u128::from(asked.instrument.0);
    let Some(book) = state.instruments.find(asked.instrument.0) else {
        return rejected(kind, id, Reason::InstrumentNotFound, out);
    };
    let opens = asked.phase == InstrumentPhase::Continuous;
    // It could begin with trades: what crosses, and the stops they wake.
    if opens && state.matching.is_call(book) && !state.day.admits_order() {
        return rejected(kind, id, Reason::PhaseForbids, out);
    }
    // From here it succeeds.
    answer(kind, id, Ok(()), out);
    let old = state.instruments.row(book).phase();
    if is_call(old) && opens {
        uncross_book(state, book, out);
    }
    if is_call(old) && !is_call(asked.phase) {
        expire_for_auction(state, book, old, out);
    }
    if !is_call(asked.phase) {
        say_indicative(state, book, None, out);
    }
    enter_phase(state, book, asked.phase, out);
    if opens {
        // What crossed when trading was halted.
        uncross_book(state, book, out);
        state.matching.end_call(book);
        state.matching.wake_stops(book);
    }
    settle_book(state, book, out);
    if asked.phase == InstrumentPhase::Closed {
        cycles::settle_closed(state, book, out);
    }
}

/// A price left its band: an auction begins.
pub(super) fn interrupt(state: &mut State, book: Handle, out: &mut Outbox) {
    enter_phase(state, book, InstrumentPhase::VolatilityAuction, out);
}

fn enter_phase(state: &mut State, book: Handle, phase: InstrumentPhase, out: &mut Outbox) {
    let row = state.instruments.row_mut(book);
    row.set_phase(phase);
    let body = InstrumentPhaseChanged {
        instrument: InstrumentId(row.id),
        phase,
        _reserved: [Zero::Zero; 11],
    };
    out.push(EventKind::InstrumentPhase, &body);
    if !is_call(phase) {
        return;
    }
    state.matching.begin_call(book);
    let is_close = matches!(
        phase,
        InstrumentPhase::ClosingAuction | InstrumentPhase::Auction
    );
    while let Some(slot) = state.matching.next_called(book, is_close) {
        state.matching.rest(slot);
    }
}

/// Trades what crosses, at one price.
pub(in crate::engine) fn uncross(state: &mut State, asked: &InstrumentRef, out: &mut Outbox) {
    let kind = CommandKind::Uncross;
    let id = u128::from(asked.instrument.0);
    let Some(book) = state.instruments.find(asked.instrument.0) else {
        return rejected(kind, id, Reason::InstrumentNotFound, out);
    };
    let phase = state.instruments.row(book).phase();
    if !is_call(phase) || !state.day.admits_order() {
        return rejected(kind, id, Reason::PhaseForbids, out);
    }
    // From here it succeeds.
    ok(kind, out);
    uncross_book(state, book, out);
    if phase != InstrumentPhase::PreOpen {
        expire_for_auction(state, book, phase, out);
    }
    settle_book(state, book, out);
}

/// Cancels what was in for this auction only.
fn expire_for_auction(state: &mut State, book: Handle, phase: InstrumentPhase, out: &mut Outbox) {
    let ends_open = matches!(
        phase,
        InstrumentPhase::PreOpen | InstrumentPhase::OpeningAuction | InstrumentPhase::Auction
    );
    let ends_close = matches!(
        phase,
        InstrumentPhase::ClosingAuction | InstrumentPhase::Auction
    );
    let is_over = |order: &crate::engine::matching::OrderView| match order.time_in_force {
        TimeInForce::GoodForAuction => true,
        TimeInForce::AtTheOpen => ends_open,
        TimeInForce::AtTheClose => ends_close,
        TimeInForce::Day
        | TimeInForce::Gtc
        | TimeInForce::Gtd
        | TimeInForce::Ioc
        | TimeInForce::Fok => false,
    };
    expire(state, Some(book), is_over, out);
}

fn uncross_book(state: &mut State, book: Handle, out: &mut Outbox) {
    let instrument = *state.instruments.row(book);
    let reference = instrument.reference();
    let Some((price, _)) = state.matching.equilibrium(book, reference) else {
        return;
    };
    state.instruments.row_mut(book).set_reference(price);
    let State {
        matching,
        ledger,
        positions,
        participants,
        payments,
        risen,
        ..
    } = state;
    let participant_id = |handle: Handle| ParticipantId(participants.row(handle).id);
    matching.uncross(book, price, |cross| {
        let buyer = Party::of(&cross.buy, instrument.maker_fee_bps);
        let seller = Party::of(&cross.sell, instrument.maker_fee_bps);
        let what = (price, cross.quantity);
        let budget = cross.buy_fee_budget;
        ledger.because(Cause::Fill(cross.buy.order_id.0, cross.sell.order_id.0));
        let (fees, _) = fill(
            ledger,
            (positions, book),
            &instrument,
            (buyer, seller),
            what,
            budget,
        );
        release_improvement(ledger, &instrument, &cross.buy, what, budget);
        for account in [
            buyer.base_account,
            cover_account(&cross.buy),
            seller.quote_account,
        ] {
            risen.note(payments, account);
        }
        if let Some(house) = instrument.fee_account() {
            risen.note(payments, house);
        }
        let body = Trade {
            instrument: InstrumentId(instrument.id),
            maker_participant: participant_id(cross.buy.participant),
            price,
            quantity: cross.quantity,
            maker_order_id: cross.buy.order_id,
            taker_order_id: cross.sell.order_id,
            taker_participant: participant_id(cross.sell.participant),
            taker_side: Side::Sell,
            _reserved: [Zero::Zero; 3],
            maker_fee: fees.buyer,
            taker_fee: fees.seller,
        };
        out.push(EventKind::Trade, &body);
    });
}

/// Says at which price and for how much an auction would end now, where that has changed.
pub(super) fn indicate(state: &mut State, book: Handle, out: &mut Outbox) {
    let instrument = state.instruments.row(book);
    if !is_call(instrument.phase()) {
        return;
    }
    let now = state.matching.equilibrium(book, instrument.reference());
    say_indicative(state, book, now, out);
}

/// Says what an auction would do, where that is not what was last said; `None` takes that back.
fn say_indicative(
    state: &mut State,
    book: Handle,
    now: Option<(Price, Quantity)>,
    out: &mut Outbox,
) {
    if !state.matching.indicate(book, now) {
        return;
    }
    let (price, volume) = now.unwrap_or((Price(0), Quantity(0)));
    let body = Indicative {
        instrument: InstrumentId(state.instruments.row(book).id),
        _reserved: [Zero::Zero; 4],
        price,
        volume,
        _reserved_end: [Zero::Zero; 8],
    };
    out.push(EventKind::Indicative, &body);
}
