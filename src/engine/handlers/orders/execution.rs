//! Execution: what an order meets, what each meeting moves, what becomes of the rest, and what wakes
//! because something traded. One loop, never a recursion.

use super::cancel::{cancelled, report_cancelled};
use super::entry::{cost_of_lots, needs, rests};
use super::{auctions, linked, pegs};
use crate::engine::handlers::fills::{
    Party, budget_left, fill, held_at, held_for, hold_of, release_improvement,
};
use crate::engine::index::Handle;
use crate::engine::instruments::InstrumentRow;
use crate::engine::matching::{OrderView, Outcome, Slot, Step};
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::state::State;
use crate::protocol::command::{InstrumentPhase, OrderType, Side, TimeInForce};
use crate::protocol::event::{EventKind, OrderChanged, Trade};
use crate::protocol::reason::{CancelReason, Reason};
use crate::protocol::units::{Amount, InstrumentId, ParticipantId, Quantity};
use crate::protocol::wire::Zero;

/// The account that holds a live order's cover.
pub(super) fn cover_account(order: &OrderView) -> Handle {
    held_at(order.side, order.base_account, order.quote_account)
}

/// Ends what a command did to a book: wakes the stops whose price has traded, one after the other,
/// moves pegged orders, and says what an auction would do.
#[inline(always)]
pub(super) fn settle_book(state: &mut State, book: Handle, out: &mut Outbox) {
    if !state.matching.is_settled(book) {
        settle_unsettled(state, book, out);
    }
}

#[inline(never)]
fn settle_unsettled(state: &mut State, book: Handle, out: &mut Outbox) {
    loop {
        // A list is in line again before anything else happens.
        if state.matching.has_changed_lists() {
            if let Some(list) = state.matching.next_changed_list() {
                linked::settle_list(state, list, out);
            }
        } else if state.matching.has_triggered() {
            if let Some(slot) = state.matching.next_triggered() {
                wake(state, slot, out);
            }
        } else if !trades(state, book) || !state.matching.queue_quoted(book) {
            break;
        }
    }
    while let Some(deadline) = state.matching.next_freed_deadline() {
        state.deadlines.remove(deadline);
    }
    if state.matching.is_call(book) {
        auctions::indicate(state, book, out);
    } else if state.matching.has_followers(book) {
        pegs::move_pegged(state, book, out);
    }
}

/// Whether orders of a book may meet now: it trades continuously, on a day that takes orders.
pub(in crate::engine) fn trades(state: &State, book: Handle) -> bool {
    state.instruments.row(book).phase() == InstrumentPhase::Continuous && state.day.admits_order()
}

/// The day takes orders again: wakes the stops whose best price came while it took none, in the
/// order of the listing.
pub(in crate::engine) fn wake_quoted(state: &mut State, out: &mut Outbox) {
    for book in 0..state.instruments.rows().len() as Handle {
        if trades(state, book) && state.matching.has_unheard_quote(book) {
            settle_book(state, book, out);
        }
    }
}

/// A stop whose price has traded becomes a market or limit order and is executed.
fn wake(state: &mut State, slot: Slot, out: &mut Outbox) {
    let order = state.matching.order(slot);
    let instrument = *state.instruments.row(order.book);
    let body = OrderChanged {
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        price: order.price,
        leaves: order.leaves,
        participant: ParticipantId(state.participants.row(order.participant).id),
        _reserved: [Zero::Zero; 12],
    };
    out.push(EventKind::OrderTriggered, &body);
    linked::take_over(state, slot, out);
    let order = state.matching.order(slot);
    let held = match cover_awake(state, &instrument, &order) {
        Ok(held) => held,
        Err(why) => {
            let why = match why {
                Reason::ExceedsMaxNotional => CancelReason::ExceedsMaxNotional,
                _ => CancelReason::Uncovered,
            };
            let all = held_for(&instrument, &order);
            let account = cover_account(&order);
            state.ledger.release(account, all);
            state.liquidity_rose(account);
            report_cancelled(state, slot, why, out);
            state.matching.finish(slot);
            return;
        }
    };
    if order.time_in_force == TimeInForce::Fok {
        let band = instrument.band(state.matching.last_price(order.book));
        let reaches = state.matching.reachable(
            order.book,
            order.side,
            (order.price, band),
            order.leaves,
            order.participant,
            order.self_trade,
        );
        if !reaches {
            let account = cover_account(&order);
            state.ledger.release(account, held);
            state.liquidity_rose(account);
            report_cancelled(state, slot, CancelReason::Fok, out);
            state.matching.finish(slot);
            return;
        }
    }
    execute(state, slot, held, false, out);
}

/// Holds what a stop needs now that it wakes: one without protection may cost more than was held.
fn cover_awake(
    state: &mut State,
    instrument: &InstrumentRow,
    order: &OrderView,
) -> Result<Amount, Reason> {
    let was = held_for(instrument, order);
    let is_unprotected = order.cover_price != order.price;
    if order.side == Side::Sell || !is_unprotected && order.is_covered {
        return Ok(was);
    }
    let notional = if is_unprotected {
        let who = (order.participant, order.self_trade);
        cost_of_lots(state, instrument, order.book, order.leaves, who)?
    } else {
        instrument
            .notional(order.price, order.leaves)
            .ok_or(Reason::NotionalOverflow)?
    };
    let (hold, budget) = needs(instrument, order.side, order.leaves, notional)?;
    if is_unprotected && instrument.is_too_large(notional) {
        return Err(Reason::ExceedsMaxNotional);
    }
    let account = cover_account(order);
    if hold > was {
        let more = Amount(hold.0 - was.0);
        state.ledger.check_cover(account, more)?;
        state.ledger.hold(account, more);
    } else {
        state.ledger.release(account, Amount(was.0 - hold.0));
        state.liquidity_rose(account);
    }
    *state.matching.fee_budget_mut(order.slot) = budget;
    state.matching.set_covered(order.slot, true);
    Ok(hold)
}

/// Matches an order that is outside the book and has `hold` held; then rests or finishes it and
/// gives back what it no longer needs.
pub(super) fn execute(
    state: &mut State,
    slot: Slot,
    hold: Amount,
    is_protected: bool,
    out: &mut Outbox,
) {
    let taker = state.matching.order(slot);
    let mut held = hold;
    let State {
        instruments,
        matching,
        ledger,
        positions,
        participants,
        payments,
        risen,
        ..
    } = state;
    let instrument = instruments.row(taker.book);
    let band = instrument.band(matching.last_price(taker.book));
    let participant_id = |handle: Handle| ParticipantId(participants.row(handle).id);
    let taker_id = participant_id(taker.participant);
    let outcome = matching.execute(slot, band, |step| match step {
        Step::Fill(meeting) => {
            let maker = meeting.maker;
            let taker_party = Party::of(&taker, instrument.taker_fee_bps);
            let maker_party = Party::of(&maker, instrument.maker_fee_bps);
            let (buyer, seller, budget) = match taker.side {
                Side::Buy => (taker_party, maker_party, meeting.taker_fee_budget),
                Side::Sell => (maker_party, taker_party, &mut *meeting.maker_fee_budget),
            };
            let budget_before = *budget;
            let what = (maker.price, meeting.quantity);
            ledger.because(Cause::Fill(maker.order_id.0, taker.order_id.0));
            let (fees, notional) = fill(
                ledger,
                (positions, taker.book),
                instrument,
                (buyer, seller),
                what,
                budget,
            );
            match taker.side {
                Side::Buy => {
                    let buyer_paid = budget_before - *budget;
                    held = Amount(held.0 - notional.0 - buyer_paid);
                }
                Side::Sell => {
                    let lots = hold_of(instrument, Side::Sell, maker.price, meeting.quantity, 0);
                    held = Amount(held.0 - lots.0);
                    release_improvement(ledger, instrument, &maker, what, budget);
                }
            }
            for account in [
                buyer.base_account,
                buyer.quote_account,
                seller.quote_account,
            ] {
                risen.note(payments, account);
            }
            if let Some(house) = instrument.fee_account() {
                risen.note(payments, house);
            }
            let (maker_fee, taker_fee) = match taker.side {
                Side::Buy => (fees.seller, fees.buyer),
                Side::Sell => (fees.buyer, fees.seller),
            };
            let body = Trade {
                instrument: InstrumentId(instrument.id),
                maker_participant: participant_id(maker.participant),
                price: maker.price,
                quantity: meeting.quantity,
                maker_order_id: maker.order_id,
                taker_order_id: taker.order_id,
                taker_participant: taker_id,
                taker_side: taker.side,
                _reserved: [Zero::Zero; 3],
                maker_fee,
                taker_fee,
            };
            out.push(EventKind::Trade, &body);
        }
        Step::Decrement(meeting) => {
            let maker = meeting.maker;
            let before = OrderView {
                leaves: Quantity(maker.leaves.0 + meeting.quantity.0),
                fee_budget: *meeting.maker_fee_budget,
                ..maker
            };
            let left = match maker.side {
                Side::Buy => budget_left(
                    instrument,
                    maker.cover_price,
                    maker.leaves,
                    before.fee_budget,
                ),
                Side::Sell => 0,
            };
            let after = OrderView {
                fee_budget: left,
                ..maker
            };
            let less = held_for(instrument, &before).0 - held_for(instrument, &after).0;
            let account = cover_account(&maker);
            ledger.release(account, Amount(less));
            *meeting.maker_fee_budget = left;
            risen.note(payments, account);
            for order in [&maker, &taker] {
                let lost = meeting.quantity;
                let owner = participant_id(order.participant);
                cancelled(order, owner, lost, CancelReason::SelfTrade, out);
            }
        }
        Step::CancelResting(maker) => {
            let account = cover_account(&maker);
            ledger.release(account, held_for(instrument, &maker));
            risen.note(payments, account);
            let id = participant_id(maker.participant);
            cancelled(&maker, id, maker.leaves, CancelReason::SelfTrade, out);
        }
    });
    finish_or_rest(state, slot, (outcome, held, is_protected), out);
}

fn finish_or_rest(
    state: &mut State,
    slot: Slot,
    (outcome, held, is_protected): (Outcome, Amount, bool),
    out: &mut Outbox,
) {
    let order = state.matching.order(slot);
    if outcome == Outcome::Band {
        auctions::interrupt(state, order.book, out);
    }
    let stays = matches!(outcome, Outcome::Open | Outcome::Band)
        && rests(order.order_type, order.time_in_force);
    let instrument = state.instruments.row(order.book);
    let needed = if stays {
        let budget = match order.side {
            Side::Buy => budget_left(
                instrument,
                order.cover_price,
                order.leaves,
                order.fee_budget,
            ),
            Side::Sell => 0,
        };
        *state.matching.fee_budget_mut(slot) = budget;
        hold_of(
            instrument,
            order.side,
            order.cover_price,
            order.leaves,
            budget,
        )
    } else {
        Amount::ZERO
    };
    let account = cover_account(&order);
    state.ledger.release(account, Amount(held.0 - needed.0));
    state.liquidity_rose(account);
    if stays {
        state.matching.rest(slot);
        return;
    }
    if order.leaves.0 > 0 {
        let is_protected = is_protected
            || order.is_special
                && order.cover_price == order.price
                && matches!(order.order_type, OrderType::Stop | OrderType::TrailingStop);
        let other_side = order.side.opposite();
        let beyond = is_protected && state.matching.order_count(order.book, other_side) > 0;
        let reason = match outcome {
            Outcome::SelfTrade => CancelReason::SelfTrade,
            Outcome::Band => CancelReason::Band,
            Outcome::Filled | Outcome::Open if beyond => CancelReason::Band,
            Outcome::Filled | Outcome::Open => CancelReason::Ioc,
        };
        report_cancelled(state, slot, reason, out);
    }
    state.matching.finish(slot);
}
