//! Orders: cover at entry, matching, delivery versus payment at the fill, and the release of what
//! is left. The book hands out steps; this handler turns them into postings and reports.

use super::fills::{Party, budget_left, hold_of, post_fill};
use super::rejected;
use crate::engine::index::Handle;
use crate::engine::instruments::InstrumentRow;
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::matching::{Lookup, NewOrder, OrderView, Outcome, Slot, Step};
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{
    CancelOrder, Command, CommandKind, InstrumentPhase, MassCancel, OrderType, PlaceOrder,
    ReplaceOrder, SelfTrade, Side, SideFilter, TimeInForce,
};
use crate::protocol::event::{
    EventKind, OrderAccepted, OrderCancelled, OrderChanged, OrderRejected, Trade,
};
use crate::protocol::frame::CommandRef;
use crate::protocol::reason::{CancelReason, Reason};
use crate::protocol::units::{
    Amount, ClientOrderId, InstrumentId, OrderId, ParticipantId, Price, Quantity,
};
use crate::protocol::wire::Zero;

/// A new order that has passed its checks.
struct Entry {
    order: NewOrder,
    instrument: InstrumentRow,
    /// What is held for it, fees included.
    hold: Amount,
    /// Fill-or-kill, and it cannot be filled whole.
    killed: bool,
}

/// Enters an order: it trades what it can at once, then rests or is cancelled.
pub(in crate::engine) fn place_order(state: &mut State, asked: &PlaceOrder, out: &mut Outbox) {
    let entry = match check_entry(state, asked) {
        Ok(entry) => entry,
        Err(reason) => {
            let body = OrderRejected {
                client_order_id: asked.client_order_id,
                participant: asked.participant,
                reason,
                _reserved: [Zero::Zero; 2],
            };
            out.push(EventKind::OrderRejected, &body);
            return;
        }
    };
    // From here it succeeds.
    let Entry {
        order, instrument, ..
    } = entry;
    let slot = state.matching.enter(&order);
    let accepted = OrderAccepted {
        order_id: state.matching.order(slot).order_id,
        client_order_id: asked.client_order_id,
        leaves: asked.quantity,
        participant: asked.participant,
        instrument: asked.instrument,
    };
    out.push(EventKind::OrderAccepted, &accepted);
    if entry.killed {
        report_cancelled(state, slot, CancelReason::Fok, out);
        state.matching.finish(slot);
        return;
    }
    state.ledger.open_for_trading(order.base_account);
    state.ledger.open_for_trading(order.quote_account);
    state.ledger.hold(cover_account(&order), entry.hold);
    let is_protected = asked.protection.0 != 0;
    execute(state, &instrument, slot, entry.hold, is_protected, out);
}

/// The account that holds an order's cover.
fn cover_account(order: &NewOrder) -> Handle {
    match order.side {
        Side::Buy => order.quote_account,
        Side::Sell => order.base_account,
    }
}

fn check_entry(state: &State, asked: &PlaceOrder) -> Result<Entry, Reason> {
    let (participant, book) = check_names(state, asked)?;
    check_words(asked)?;
    let instrument = *state.instruments.row(book);
    check_open(state, &instrument)?;
    if asked.quantity.0 == 0 || asked.quantity.0 > instrument.max_quantity {
        return Err(Reason::QuantityOutOfRange);
    }
    let self_trade = instrument.self_trade(asked.self_trade);
    let price = check_price(state, asked, book, &instrument)?;
    let find = |asset| state.ledger.trading_account(participant, asset);
    let base_account = find(instrument.base).ok_or(Reason::TradingAccountNotFound)?;
    let quote_account = find(instrument.quote).ok_or(Reason::TradingAccountNotFound)?;
    let mut order = NewOrder {
        book,
        participant,
        client_order_id: asked.client_order_id,
        side: asked.side,
        order_type: asked.order_type,
        time_in_force: asked.time_in_force,
        self_trade,
        price,
        quantity: asked.quantity,
        expires_at: asked.expires_at,
        base_account,
        quote_account,
        fee_budget: 0,
    };
    let hold = check_cover(state, &mut order, &instrument, asked.protection.0 != 0)?;
    let rests = rests(asked.order_type, asked.time_in_force);
    if !state.matching.has_room_for_order()
        || rests && !state.matching.has_room_at(book, asked.side, price)
    {
        return Err(Reason::CapacityExhausted);
    }
    let reachable = || {
        let (side, quantity) = (asked.side, asked.quantity);
        let matching = &state.matching;
        matching.reachable(book, side, price, quantity, participant, self_trade)
    };
    let killed = asked.time_in_force == TimeInForce::Fok && !reachable();
    Ok(Entry {
        order,
        instrument,
        hold,
        killed,
    })
}

fn check_names(state: &State, asked: &PlaceOrder) -> Result<(Handle, Handle), Reason> {
    if asked.client_order_id.0 == 0 {
        return Err(Reason::IdMustNotBeZero);
    }
    let participant = state.participants.find(asked.participant.0);
    let participant = participant.ok_or(Reason::ParticipantNotFound)?;
    let book = state.instruments.find(asked.instrument.0);
    let book = book.ok_or(Reason::InstrumentNotFound)?;
    match state.matching.find(participant, asked.client_order_id) {
        Lookup::Unknown => Ok((participant, book)),
        Lookup::Live(_) | Lookup::Finished => Err(Reason::DuplicateClientOrderId),
    }
}

/// What this release does not do yet, and words that contradict each other.
fn check_words(asked: &PlaceOrder) -> Result<(), Reason> {
    let is_known = match asked.order_type {
        OrderType::Limit | OrderType::Market => match asked.time_in_force {
            TimeInForce::Day | TimeInForce::Gtc | TimeInForce::Ioc | TimeInForce::Fok => true,
            TimeInForce::Gtd
            | TimeInForce::AtTheOpen
            | TimeInForce::AtTheClose
            | TimeInForce::GoodForAuction => false,
        },
        OrderType::Stop | OrderType::StopLimit => false,
    };
    if !is_known || asked.post_only.is_yes() || asked.display_quantity.0 != 0 {
        return Err(Reason::NotSupported);
    }
    let is_market = asked.order_type == OrderType::Market;
    let has_stray_price = if is_market {
        asked.price.0 != 0
    } else {
        asked.protection.0 != 0
    };
    if has_stray_price || asked.stop_price.0 != 0 || asked.expires_at.0 != 0 {
        return Err(Reason::OrderFieldsContradict);
    }
    Ok(())
}

fn check_open(state: &State, instrument: &InstrumentRow) -> Result<(), Reason> {
    match instrument.phase() {
        InstrumentPhase::Continuous if state.day.admits_order() => Ok(()),
        InstrumentPhase::Halted => Err(Reason::InstrumentHalted),
        InstrumentPhase::Continuous
        | InstrumentPhase::Closed
        | InstrumentPhase::PreOpen
        | InstrumentPhase::Auction => Err(Reason::PhaseForbids),
    }
}

/// The worst price the order trades at: its limit, its protection, or, for a market order without
/// one, the last price it can reach.
fn check_price(
    state: &State,
    asked: &PlaceOrder,
    book: Handle,
    instrument: &InstrumentRow,
) -> Result<Price, Reason> {
    let price = match asked.order_type {
        OrderType::Market if asked.protection.0 != 0 => asked.protection,
        OrderType::Market => match asked.side {
            Side::Buy => {
                let deepest = state.matching.worst(book, Side::Sell);
                deepest.map_or(Price(instrument.min_price), |level| level.price)
            }
            Side::Sell => Price(instrument.min_price),
        },
        OrderType::Limit | OrderType::Stop | OrderType::StopLimit => asked.price,
    };
    if price.0 < instrument.min_price || price.0 > instrument.max_price {
        return Err(Reason::OutsidePriceBand);
    }
    Ok(price)
}

/// What the order must hold, and whether its account has it. Sets the order's fee budget.
fn check_cover(
    state: &State,
    order: &mut NewOrder,
    instrument: &InstrumentRow,
    is_protected: bool,
) -> Result<Amount, Reason> {
    let is_unprotected = order.order_type == OrderType::Market && !is_protected;
    let notional = if is_unprotected && order.side == Side::Buy {
        cost_of_reach(state, order, instrument)?
    } else {
        instrument
            .notional(order.price, order.quantity)
            .ok_or(Reason::NotionalOverflow)?
    };
    let base = crate::protocol::units::base_amount(order.quantity, instrument.lot_size);
    if notional.0.max(base.0) > NOTIONAL_MAX {
        return Err(Reason::NotionalOverflow);
    }
    let hold = match order.side {
        Side::Buy => {
            let fee = instrument.worst_fee(notional);
            order.fee_budget = fee.ok_or(Reason::NotionalOverflow)?.0;
            Amount(notional.0 + order.fee_budget)
        }
        Side::Sell => base,
    };
    for account in [order.base_account, order.quote_account] {
        state.ledger.check_trading(account)?;
    }
    state.ledger.check_cover(cover_account(order), hold)?;
    Ok(hold)
}

/// What a market buy costs at most: the cheapest lots it may take, its own participant's left out
/// where it will not trade with them.
fn cost_of_reach(
    state: &State,
    order: &NewOrder,
    instrument: &InstrumentRow,
) -> Result<Amount, Reason> {
    let mut missing = order.quantity.0;
    let mut cost = Amount::ZERO;
    for maker in state.matching.orders(order.book, Side::Sell) {
        if missing == 0 {
            break;
        }
        if maker.participant == order.participant && order.self_trade != SelfTrade::Allow {
            continue;
        }
        let lots = missing.min(maker.leaves.0);
        missing -= lots;
        cost = instrument
            .notional(maker.price, Quantity(lots))
            .and_then(|notional| cost.checked_add(notional))
            .ok_or(Reason::NotionalOverflow)?;
    }
    Ok(cost)
}

/// Whether what an order does not fill at once may stay in the book.
fn rests(order_type: OrderType, time_in_force: TimeInForce) -> bool {
    order_type == OrderType::Limit && matches!(time_in_force, TimeInForce::Gtc | TimeInForce::Day)
}

/// Matches an order that is outside the book and has `hold` held; then rests or finishes it and
/// gives back what it no longer needs.
fn execute(
    state: &mut State,
    instrument: &InstrumentRow,
    slot: Slot,
    hold: Amount,
    is_protected: bool,
    out: &mut Outbox,
) {
    let taker = state.matching.order(slot);
    let mut held = hold;
    let State {
        matching,
        ledger,
        participants,
        payments,
        risen,
        ..
    } = state;
    let participant_id = |handle: Handle| ParticipantId(participants.row(handle).id);
    let outcome = matching.execute(slot, |step| match step {
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
            let fees = post_fill(ledger, instrument, buyer, seller, what, budget);
            let buyer_paid = budget_before - *budget;
            match taker.side {
                Side::Buy => {
                    let notional = instrument.notional(maker.price, meeting.quantity);
                    held = Amount(held.0 - notional.expect("posted").0 - buyer_paid);
                }
                Side::Sell => {
                    let lots = hold_of(instrument, Side::Sell, maker.price, meeting.quantity, 0);
                    held = Amount(held.0 - lots.0);
                    // A resting buy pays its own price: only its fee budget can be too large now.
                    let left = budget_left(instrument, maker.price, maker.leaves, *budget);
                    ledger.release(maker.quote_account, Amount(*budget - left));
                    *budget = left;
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
                taker_participant: participant_id(taker.participant),
                taker_side: taker.side,
                _reserved: [Zero::Zero; 3],
                maker_fee,
                taker_fee,
            };
            out.push(EventKind::Trade, &body);
        }
        Step::Decrement(meeting) => {
            let maker = meeting.maker;
            let before = Quantity(maker.leaves.0 + meeting.quantity.0);
            let budget = *meeting.maker_fee_budget;
            let left = match maker.side {
                Side::Buy => budget_left(instrument, maker.price, maker.leaves, budget),
                Side::Sell => 0,
            };
            let old = hold_of(instrument, maker.side, maker.price, before, budget);
            let new = hold_of(instrument, maker.side, maker.price, maker.leaves, left);
            let account = held_at(&maker);
            ledger.release(account, Amount(old.0 - new.0));
            *meeting.maker_fee_budget = left;
            risen.note(payments, account);
            for order in [&maker, &taker] {
                let lost = meeting.quantity;
                cancelled(
                    order,
                    participant_id(order.participant),
                    lost,
                    CancelReason::SelfTrade,
                    out,
                );
            }
        }
        Step::CancelResting(maker) => {
            let budget = maker.fee_budget;
            let all = hold_of(instrument, maker.side, maker.price, maker.leaves, budget);
            let account = held_at(&maker);
            ledger.release(account, all);
            risen.note(payments, account);
            let id = participant_id(maker.participant);
            cancelled(&maker, id, maker.leaves, CancelReason::SelfTrade, out);
        }
    });
    finish_or_rest(state, instrument, slot, (outcome, held, is_protected), out);
}

/// The account that holds a live order's cover.
fn held_at(order: &OrderView) -> Handle {
    match order.side {
        Side::Buy => order.quote_account,
        Side::Sell => order.base_account,
    }
}

fn finish_or_rest(
    state: &mut State,
    instrument: &InstrumentRow,
    slot: Slot,
    (outcome, held, is_protected): (Outcome, Amount, bool),
    out: &mut Outbox,
) {
    let order = state.matching.order(slot);
    let stays = outcome == Outcome::Open && rests(order.order_type, order.time_in_force);
    let needed = if stays {
        let budget = match order.side {
            Side::Buy => budget_left(instrument, order.price, order.leaves, order.fee_budget),
            Side::Sell => 0,
        };
        *state.matching.fee_budget_mut(slot) = budget;
        hold_of(instrument, order.side, order.price, order.leaves, budget)
    } else {
        Amount::ZERO
    };
    let account = held_at(&order);
    state.ledger.release(account, Amount(held.0 - needed.0));
    state.liquidity_rose(account);
    if stays {
        state.matching.rest(slot);
        return;
    }
    if order.leaves.0 > 0 {
        let beyond = is_protected
            && state
                .matching
                .order_count(order.book, order.side.opposite())
                > 0;
        let reason = match outcome {
            Outcome::SelfTrade => CancelReason::SelfTrade,
            Outcome::Filled | Outcome::Open if beyond => CancelReason::Band,
            Outcome::Filled | Outcome::Open => CancelReason::Ioc,
        };
        report_cancelled(state, slot, reason, out);
    }
    state.matching.finish(slot);
}

fn report_cancelled(state: &State, slot: Slot, reason: CancelReason, out: &mut Outbox) {
    let order = state.matching.order(slot);
    let participant = ParticipantId(state.participants.row(order.participant).id);
    cancelled(&order, participant, order.leaves, reason, out);
}

fn cancelled(
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

/// Takes an order out of the book. Allowed in every phase.
pub(in crate::engine) fn cancel_order(state: &mut State, asked: &CancelOrder, out: &mut Outbox) {
    let ids = (asked.client_order_id, asked.order_id.0);
    let slot = match find_own(state, asked.participant, ids) {
        Ok(slot) => slot,
        Err(reason) => {
            let id = asked_id(asked.client_order_id, asked.order_id.0);
            rejected(CommandKind::CancelOrder, id, reason, out);
            return;
        }
    };
    // From here it succeeds.
    let order = state.matching.cancel(slot);
    release_cancelled(state, &order);
    cancelled(
        &order,
        asked.participant,
        order.leaves,
        CancelReason::Requested,
        out,
    );
}

fn asked_id(client_order_id: ClientOrderId, order_id: u64) -> u128 {
    u128::from(if client_order_id.0 != 0 {
        client_order_id.0
    } else {
        order_id
    })
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
        Lookup::Live(slot) if state.matching.order(slot).participant != participant => {
            Err(Reason::NotYourOrder)
        }
        Lookup::Live(slot) => Ok(slot),
        Lookup::Finished => Err(Reason::TooLateToCancel),
        Lookup::Unknown => Err(Reason::UnknownOrder),
    }
}

/// Gives back what a cancelled order held.
fn release_cancelled(state: &mut State, order: &OrderView) {
    let instrument = state.instruments.row(order.book);
    let held = hold_of(
        instrument,
        order.side,
        order.price,
        order.leaves,
        order.fee_budget,
    );
    let account = held_at(order);
    state.ledger.release(account, held);
    state.liquidity_rose(account);
}

/// A change that has passed its checks.
struct Change {
    slot: Slot,
    price: Price,
    leaves: Quantity,
    /// The order keeps its place.
    keeps_priority: bool,
    budget: u128,
}

/// Changes an order: less at the same price keeps its place, anything else goes to the back, and
/// may trade on the way.
pub(in crate::engine) fn replace_order(state: &mut State, asked: &ReplaceOrder, out: &mut Outbox) {
    let change = match check_change(state, asked) {
        Ok(change) => change,
        Err(reason) => {
            let id = asked_id(asked.client_order_id, asked.order_id.0);
            rejected(CommandKind::ReplaceOrder, id, reason, out);
            return;
        }
    };
    // From here it succeeds.
    let Change {
        slot,
        price,
        leaves,
        ..
    } = change;
    let old = state.matching.order(slot);
    let instrument = *state.instruments.row(old.book);
    if asked.new_client_order_id.0 != 0 && asked.new_client_order_id != old.client_order_id {
        state.matching.rename(slot, asked.new_client_order_id);
    }
    let body = OrderChanged {
        order_id: old.order_id,
        client_order_id: state.matching.order(slot).client_order_id,
        price,
        leaves,
    };
    out.push(EventKind::OrderReplaced, &body);
    let was = hold_of(&instrument, old.side, old.price, old.leaves, old.fee_budget);
    let needs = hold_of(&instrument, old.side, price, leaves, change.budget);
    let account = held_at(&old);
    if needs > was {
        state.ledger.hold(account, Amount(needs.0 - was.0));
    } else {
        state.ledger.release(account, Amount(was.0 - needs.0));
        state.liquidity_rose(account);
    }
    *state.matching.fee_budget_mut(slot) = change.budget;
    if change.keeps_priority {
        state.matching.reduce(slot, leaves);
        return;
    }
    state.matching.lift(slot);
    state.matching.amend(slot, price, leaves);
    execute(state, &instrument, slot, needs, false, out);
}

fn check_change(state: &State, asked: &ReplaceOrder) -> Result<Change, Reason> {
    let ids = (asked.client_order_id, asked.order_id.0);
    let slot = find_own(state, asked.participant, ids)?;
    let old = state.matching.order(slot);
    let instrument = state.instruments.row(old.book);
    check_rename(state, asked, &old)?;
    check_open(state, instrument)?;
    let price = match asked.price {
        Price(i64::MIN) => old.price,
        price => price,
    };
    if price.0 < instrument.min_price || price.0 > instrument.max_price {
        return Err(Reason::OutsidePriceBand);
    }
    let total = match asked.quantity {
        Quantity(u64::MAX) => old.quantity,
        quantity => quantity,
    };
    if total.0 <= old.filled().0 || total.0 > instrument.max_quantity {
        return Err(Reason::QuantityOutOfRange);
    }
    let leaves = Quantity(total.0 - old.filled().0);
    let keeps_priority = price == old.price && leaves <= old.leaves;
    let budget = check_more_cover(state, instrument, &old, price, leaves)?;
    if !keeps_priority && !state.matching.has_room_to_move(slot, price) {
        return Err(Reason::CapacityExhausted);
    }
    Ok(Change {
        slot,
        price,
        leaves,
        keeps_priority,
        budget,
    })
}

fn check_rename(state: &State, asked: &ReplaceOrder, old: &OrderView) -> Result<(), Reason> {
    let new_id = asked.new_client_order_id;
    if new_id.0 == 0 || new_id == old.client_order_id {
        return Ok(());
    }
    match state.matching.find(old.participant, new_id) {
        Lookup::Live(_) | Lookup::Finished => Err(Reason::DuplicateClientOrderId),
        Lookup::Unknown if !state.matching.has_room_for_id() => Err(Reason::CapacityExhausted),
        Lookup::Unknown => Ok(()),
    }
}

/// The new fee budget, if the account covers what the order needs more than it holds.
fn check_more_cover(
    state: &State,
    instrument: &InstrumentRow,
    old: &OrderView,
    price: Price,
    leaves: Quantity,
) -> Result<u128, Reason> {
    let notional = instrument.notional(price, leaves);
    let notional = notional.ok_or(Reason::NotionalOverflow)?;
    let base = hold_of(instrument, Side::Sell, price, leaves, 0);
    if notional.0.max(base.0) > NOTIONAL_MAX {
        return Err(Reason::NotionalOverflow);
    }
    let budget = match old.side {
        Side::Buy => {
            instrument
                .worst_fee(notional)
                .ok_or(Reason::NotionalOverflow)?
                .0
        }
        Side::Sell => 0,
    };
    let was = hold_of(instrument, old.side, old.price, old.leaves, old.fee_budget);
    let needs = hold_of(instrument, old.side, price, leaves, budget);
    if needs > was {
        let more = Amount(needs.0 - was.0);
        state.ledger.check_cover(held_at(old), more)?;
    }
    Ok(budget)
}

/// Takes all orders of a participant out of the book, or those of one instrument or side.
pub(in crate::engine) fn mass_cancel(state: &mut State, asked: &MassCancel, out: &mut Outbox) {
    let everywhere = asked.instrument.0 == u32::MAX;
    let participant = state.participants.find(asked.participant.0);
    let book = state.instruments.find(asked.instrument.0);
    let (participant, book) = match (participant, book) {
        (Some(participant), book) if book.is_some() || everywhere => (participant, book),
        (None, _) => {
            let id = u128::from(asked.participant.0);
            rejected(
                CommandKind::MassCancel,
                id,
                Reason::ParticipantNotFound,
                out,
            );
            return;
        }
        (Some(_), _) => {
            let id = u128::from(asked.participant.0);
            rejected(CommandKind::MassCancel, id, Reason::InstrumentNotFound, out);
            return;
        }
    };
    // From here it succeeds.
    super::ok(CommandKind::MassCancel, out);
    let side = match asked.side {
        SideFilter::Buy => Some(Side::Buy),
        SideFilter::Sell => Some(Side::Sell),
        SideFilter::Both => None,
    };
    let mut gone = Vec::new();
    state
        .matching
        .mass_cancel(participant, book, side, |order| gone.push(order));
    cancel_all(state, &gone, CancelReason::Mass, out);
}

/// Cancels every day order: the day has ended.
pub(in crate::engine) fn expire_day_orders(state: &mut State, out: &mut Outbox) {
    let mut gone = Vec::new();
    state.matching.cancel_where(
        None,
        |order| order.time_in_force == TimeInForce::Day,
        |order| gone.push(order),
    );
    cancel_all(state, &gone, CancelReason::Expired, out);
}

/// Gives back the cover of orders that have left the book, and reports them.
fn cancel_all(state: &mut State, gone: &[OrderView], reason: CancelReason, out: &mut Outbox) {
    for order in gone {
        release_cancelled(state, order);
        let participant = ParticipantId(state.participants.row(order.participant).id);
        cancelled(order, participant, order.leaves, reason, out);
    }
}

/// Reads where the lookup of an order command begins, some commands ahead of it.
#[inline]
pub(in crate::engine) fn touch_lookups(state: &State, command: CommandRef<'_>) {
    let (participant, id) = match command.decode() {
        Ok(Command::PlaceOrder(asked)) => (asked.participant, asked.client_order_id),
        Ok(Command::CancelOrder(asked)) => (asked.participant, asked.client_order_id),
        Ok(Command::ReplaceOrder(asked)) => (asked.participant, asked.client_order_id),
        _ => return,
    };
    if let Some(participant) = state.participants.find(participant.0) {
        std::hint::black_box(state.matching.touch(participant, id));
    }
}

/// Reads the order of an order command, a few commands ahead of it.
#[inline]
pub(in crate::engine) fn touch_order(state: &State, command: CommandRef<'_>) {
    let (participant, id) = match command.decode() {
        Ok(Command::CancelOrder(asked)) => (asked.participant, asked.client_order_id),
        Ok(Command::ReplaceOrder(asked)) => (asked.participant, asked.client_order_id),
        _ => return,
    };
    if let Some(participant) = state.participants.find(participant.0) {
        std::hint::black_box(state.matching.touch_order(participant, id));
    }
}
