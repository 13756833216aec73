//! Lists of orders that hang together: entered whole or not at all, and kept in line afterwards.
//!
//! ```text
//! oco      leg, leg ...          live at once; what one loses, all lose; where one ends or wakes,
//!                                the others end
//! bracket  entry -> leg, leg ... the legs wait aside; as the entry fills they come to life with as
//!                                many lots, an oco of the other side
//! ```
//! All legs of a side have the same lots, and only one of them can trade, so one cover does for all:
//! one leg is covered, and what another would need beyond that is held beside it (`extra`). A leg
//! that wakes takes it all over. Legs of a bracket are covered with what the entry brought, in the
//! command that brought it.
//!
//! The book says which lists something happened to; `settle_list` brings the others in line before
//! the next stop wakes. What that does to a list is looked at in its turn: a loop, no recursion.

use super::cancel::{cancelled, release_cancelled};
use super::entry::{
    Entry, Fate, Stage, check_cover, check_entry, check_names, check_open, check_price,
    check_quantity, check_stop, check_words, has_position, needs, shows_enough,
};
use super::execution::{cover_account, execute, settle_book};
use super::{enter, refuse, start};
use crate::engine::handlers::fills::{budget_left, held_at, held_for, hold_of};
use crate::engine::handlers::rejected;
use crate::engine::index::Handle;
use crate::engine::instruments::InstrumentRow;
use crate::engine::matching::{LIST_MAX, List, NewOrder, NewSpecial, OrderView, Place, Slot};
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{
    CommandKind, Contingency, InstrumentPhase, OrderType, PlaceOrder, PlaceOrderList, Side,
    TimeInForce,
};
use crate::protocol::event::{EventKind, OrderChanged};
use crate::protocol::reason::{CancelReason, Reason};
use crate::protocol::units::{Amount, ParticipantId, Price, Quantity};
use crate::protocol::wire::Zero;

/// The orders of a list that have passed their checks.
type Entries = [Option<Entry>; LIST_MAX];

/// Enters orders that hang together, or none of them.
pub(in crate::engine) fn place_order_list(
    state: &mut State,
    asked: &PlaceOrderList,
    orders: &[PlaceOrder],
    out: &mut Outbox,
) {
    if orders.is_empty() {
        return rejected(CommandKind::PlaceOrderList, 0, Reason::OutOfRange, out);
    }
    let entries = match check_list(state, asked.contingency, orders, out.session()) {
        Ok(entries) => entries,
        Err((at, why)) => {
            for (index, order) in orders.iter().enumerate() {
                let reason = if index == at {
                    why
                } else {
                    Reason::LinkedEventFailed
                };
                refuse(order, reason, out);
            }
            return;
        }
    };
    // From here it succeeds.
    let mut entered = [None; LIST_MAX];
    for ((asked, entry), slot) in orders
        .iter()
        .zip(entries.iter().flatten())
        .zip(&mut entered)
    {
        *slot = Some(enter(state, asked, entry, out));
    }
    let first = entered[0].expect("a list has a first order");
    let slots = &entered.map(|slot| slot.unwrap_or(first))[..orders.len()];
    let book = entries[0].as_ref().expect("checked").order.book;
    let lots = orders[0].quantity;
    match asked.contingency {
        Contingency::Oco => {
            state.matching.link(None, slots, lots);
            begin_oco(state, slots, &entries, out);
        }
        Contingency::Bracket => {
            state.matching.link(Some(slots[0]), &slots[1..], lots);
            begin_bracket(state, orders, slots, &entries, out);
        }
    }
    settle_book(state, book, out);
}

/// Where each order of a list would have cover held and how much, the dearest leg of a side for all
/// of it; nothing where the list is refused.
pub(in crate::engine::handlers) fn covers_of(
    state: &State,
    asked: &PlaceOrderList,
    orders: &[PlaceOrder],
    session: u64,
) -> Vec<(Handle, Amount)> {
    if orders.is_empty() {
        return Vec::new();
    }
    let Ok(entries) = check_list(state, asked.contingency, orders, session) else {
        return Vec::new();
    };
    let is_oco = asked.contingency == Contingency::Oco;
    let all = entries.iter().flatten().enumerate();
    let holds = all.map(|(at, entry)| {
        let order = &entry.order;
        let of_side = entries.iter().flatten().enumerate();
        let of_side = of_side.filter(|(_, other)| other.order.side == order.side);
        let dearest = of_side.min_by_key(|(_, other)| std::cmp::Reverse(other.hold));
        let holds = match is_oco {
            true => dearest.is_some_and(|(dearest, _)| dearest == at),
            false => at == 0,
        };
        let hold = if holds { entry.hold } else { Amount::ZERO };
        (
            held_at(order.side, order.base_account, order.quote_account),
            hold,
        )
    });
    holds.collect()
}

/// What a change of a leg has its list hold more than it does.
pub(super) fn added_cover(state: &State, old: &OrderView, leaves: Quantity, own: Amount) -> Amount {
    let row = state.matching.list_of_leg(old.slot).expect("it is a leg");
    let list = state.matching.list(row);
    if list.known.0 == 0 {
        return Amount::ZERO;
    }
    let most = most_of(state, &list, old, leaves, own).unwrap_or(own.0);
    Amount(most.saturating_sub(held_of(state, &list, old.side)))
}

/// The legs of an oco are live at once: those that wait first, so that they see what the others
/// trade.
fn begin_oco(state: &mut State, slots: &[Slot], entries: &Entries, out: &mut Outbox) {
    let row = state.matching.list_of(slots[0]).expect("just linked");
    for side in [Side::Buy, Side::Sell] {
        let legs = || {
            entries
                .iter()
                .flatten()
                .zip(slots)
                .filter(|(e, _)| e.order.side == side)
        };
        let covered = legs().find(|(entry, _)| is_for_book(&entry.order));
        let Some((covered, slot)) = covered.or(legs().next()) else {
            continue;
        };
        for (_, other) in legs().filter(|(_, other)| *other != slot) {
            state.matching.set_covered(*other, false);
        }
        let order = &covered.order;
        let most = legs().map(|(entry, _)| entry.hold.0).max().unwrap_or(0);
        state.ledger.open_for_trading(order.base_account);
        state.ledger.open_for_trading(order.quote_account);
        let account = held_at(side, order.base_account, order.quote_account);
        state.ledger.hold(account, Amount(most));
        if side == Side::Buy {
            state.matching.set_extra(row, most - covered.hold.0);
        }
    }
    let mut trade = [None; LIST_MAX];
    for (at, (entry, slot)) in entries.iter().flatten().zip(slots).enumerate() {
        match entry.fate {
            Fate::Waits(stop) => state.matching.wait(*slot, stop),
            Fate::Rests => state.matching.rest(*slot),
            Fate::Trades => trade[at] = Some((*slot, entry.hold)),
            Fate::Killed(_) | Fate::Aside { .. } => unreachable!("no leg of an oco does"),
        }
    }
    for (slot, hold) in trade.into_iter().flatten() {
        let list = state.matching.list(row);
        let order = state.matching.order(slot);
        let phase = state.instruments.row(order.book).phase();
        if list.has_ended {
            // It ends with the one before it.
            return;
        }
        if phase == InstrumentPhase::Continuous && lost(state, &list) == 0 {
            execute(state, slot, hold, false, out);
        } else {
            // What traded with the one before it leaves this one nothing to trade with.
            state.matching.rest(slot);
        }
    }
}

/// Lots that the legs have lost, all together, since they were brought in line.
fn lost(state: &State, list: &List) -> u64 {
    list.live()
        .map(|slot| list.known.0 - state.matching.order(slot).leaves.0)
        .sum()
}

/// The legs of a bracket wait aside, the entry does what any order does.
fn begin_bracket(
    state: &mut State,
    orders: &[PlaceOrder],
    slots: &[Slot],
    entries: &Entries,
    out: &mut Outbox,
) {
    for (entry, slot) in entries.iter().flatten().zip(slots).skip(1) {
        let stop = match entry.fate {
            Fate::Waits(stop) => Some(stop),
            _ => None,
        };
        state.matching.set_dormant(*slot, stop);
    }
    let entry = entries[0].expect("checked");
    start(state, &orders[0], slots[0], entry, out);
}

fn is_for_book(order: &NewOrder) -> bool {
    order.order_type == OrderType::Limit
}

/// What a list must satisfy; the error says which of its orders does not.
fn check_list(
    state: &State,
    contingency: Contingency,
    orders: &[PlaceOrder],
    session: u64,
) -> Result<Entries, (usize, Reason)> {
    let first = &orders[0];
    if orders.len() < 2 || orders.len() > LIST_MAX {
        return Err((0, Reason::OutOfRange));
    }
    let is_bracket = contingency == Contingency::Bracket;
    let mut entries: Entries = [None; LIST_MAX];
    for (at, order) in orders.iter().enumerate() {
        let before = &orders[..at];
        let fits = order.participant == first.participant
            && order.instrument == first.instrument
            && order.quantity == first.quantity
            && (!is_bracket || at == 0 || order.side == first.side.opposite());
        if !fits {
            return Err((at, Reason::OrderFieldsContradict));
        }
        if before
            .iter()
            .any(|other| other.client_order_id == order.client_order_id)
        {
            return Err((at, Reason::DuplicateClientOrderId));
        }
        let entry = if is_bracket && at == 0 {
            check_first(state, order, session)
        } else {
            check_leg(state, order, session, is_bracket)
        };
        entries[at] = Some(entry.map_err(|why| (at, why))?);
    }
    check_prices(&entries, is_bracket)?;
    if !is_bracket {
        check_covers(state, &entries)?;
    }
    let first = &entries[0].as_ref().expect("checked").order;
    if !has_position(state, first) || !state.matching.has_room_for_list(orders.len() as u32) {
        return Err((0, Reason::CapacityExhausted));
    }
    Ok(entries)
}

/// The entry of a bracket: any order but a pegged one.
fn check_first(state: &State, asked: &PlaceOrder, session: u64) -> Result<Entry, Reason> {
    if asked.order_type == OrderType::Pegged {
        return Err(Reason::OrderFieldsContradict);
    }
    let mut entry = check_entry(state, asked, session)?;
    let limit = entry.order.price;
    entry.order.special.get_or_insert(NewSpecial::none(limit));
    Ok(entry)
}

/// A leg: a limit order, with or without a reserve, or a stop of any kind.
fn check_leg(
    state: &State,
    asked: &PlaceOrder,
    session: u64,
    is_bracket: bool,
) -> Result<Entry, Reason> {
    let (participant, book) = check_names(state, asked)?;
    check_words(asked, state.now)?;
    let is_leg = matches!(
        asked.order_type,
        OrderType::Limit | OrderType::Stop | OrderType::StopLimit | OrderType::TrailingStop
    ) && matches!(
        asked.time_in_force,
        TimeInForce::Day | TimeInForce::Gtc | TimeInForce::Gtd
    ) && !asked.post_only.is_yes()
        && asked.min_quantity.0 == 0
        // It cannot know where the market is when it comes to life.
        && (!is_bracket || asked.order_type != OrderType::TrailingStop || asked.stop_price.0 != 0);
    if !is_leg {
        return Err(Reason::OrderFieldsContradict);
    }
    let instrument = state.instruments.row(book);
    let stage = check_open(state, instrument, asked.time_in_force)?;
    check_quantity(instrument, asked)?;
    let stop = check_stop(state, asked, book, instrument)?;
    let limit = check_price(state, asked, book, instrument)?;
    let is_unprotected = asked.protection.0 == 0
        && matches!(asked.order_type, OrderType::Stop | OrderType::TrailingStop);
    let find = |asset| state.ledger.trading_account(participant, asset);
    let session = match asked.keep_on_disconnect.is_yes() {
        true => 0,
        false => state.matching.session_row(session),
    };
    let mut order = NewOrder {
        book,
        participant,
        client_order_id: asked.client_order_id,
        side: asked.side,
        order_type: asked.order_type,
        time_in_force: asked.time_in_force,
        self_trade: instrument.self_trade(asked.self_trade),
        post_only: false,
        price: limit,
        quantity: asked.quantity,
        base_account: find(instrument.base).ok_or(Reason::TradingAccountNotFound)?,
        quote_account: find(instrument.quote).ok_or(Reason::TradingAccountNotFound)?,
        fee_budget: 0,
        special: Some(NewSpecial {
            cover_price: match stop {
                // Its price is not known before it wakes.
                Some(stop) if is_unprotected => stop,
                _ => limit,
            },
            display: asked.display_quantity,
            offset: asked.offset,
            trigger: asked.trigger,
            expires_at: asked.expires_at,
            session,
            ..NewSpecial::none(limit)
        }),
    };
    let hold = check_cover(state, &mut order, instrument, asked.protection.0 != 0)?;
    let fate = match (stop, stage) {
        (Some(stop), _) => Fate::Waits(stop),
        (None, Stage::Trades) => Fate::Trades,
        (None, Stage::Accumulates | Stage::Aside { .. }) => Fate::Rests,
    };
    Ok(Entry { order, hold, fate })
}

/// Of each side one order at most is for the book, and those of a list do not reach each other.
fn check_prices(entries: &Entries, is_bracket: bool) -> Result<(), (usize, Reason)> {
    let mut limits: [Option<Price>; 2] = [None, None];
    for (at, entry) in entries.iter().enumerate() {
        let Some(Entry { order, .. }) = entry else {
            continue;
        };
        let comes_to_book =
            is_for_book(order) || is_bracket && at == 0 && order.order_type == OrderType::StopLimit;
        if !comes_to_book {
            continue;
        }
        let side = order.side as usize;
        let reaches = match (order.side, limits[order.side.opposite() as usize]) {
            (Side::Buy, Some(ask)) => order.price >= ask,
            (Side::Sell, Some(bid)) => order.price <= bid,
            (_, None) => false,
        };
        if limits[side].is_some() || reaches {
            return Err((at, Reason::OrderFieldsContradict));
        }
        limits[side] = Some(order.price);
    }
    Ok(())
}

/// The most that one leg of each side needs is what the account must cover.
fn check_covers(state: &State, entries: &Entries) -> Result<(), (usize, Reason)> {
    for side in [Side::Buy, Side::Sell] {
        let legs = entries.iter().flatten().enumerate();
        let legs = legs.filter(|(_, entry)| entry.order.side == side);
        // The first of those that need most.
        let Some((at, entry)) = legs.min_by_key(|(_, entry)| std::cmp::Reverse(entry.hold)) else {
            continue;
        };
        let account = held_at(side, entry.order.base_account, entry.order.quote_account);
        let covered = state.ledger.check_cover(account, entry.hold);
        covered.map_err(|why| (at, why))?;
    }
    Ok(())
}

/// Brings a list in line with what happened to its orders.
pub(super) fn settle_list(state: &mut State, row: u32, out: &mut Outbox) {
    let list = state.matching.list(row);
    let is_left_alone = list.entry.is_none() && list.filled.0 == 0 && list.known.0 == 0;
    if list.has_ended || is_left_alone {
        return end_list(state, row, CancelReason::Linked, out);
    }
    let mut known = list.known;
    if known.0 > 0 {
        known = Quantity(known.0.saturating_sub(lost(state, &list)));
        if known.0 == 0 {
            return end_list(state, row, CancelReason::Linked, out);
        }
        let held = [Side::Buy, Side::Sell].map(|side| held_of(state, &list, side));
        for slot in list.live() {
            if state.matching.order(slot).leaves > known {
                state.matching.shrink(slot, known);
                say_changed(state, slot, out);
            }
        }
        state.matching.set_known(row, known, list.brought);
        cover(state, row, held);
    }
    if list.filled > list.brought {
        bring(state, row, out);
    } else if let Some(entry) = list.entry
        && known.0 == 0
    {
        // Nothing has filled: they would bring as much as is open.
        let open = state.matching.order(entry).leaves;
        for slot in list.live() {
            if state.matching.order(slot).leaves != open {
                state.matching.resize(slot, open);
                say_changed(state, slot, out);
            }
        }
    }
}

/// The entry has filled more: the legs come to life with it, or have that much more.
fn bring(state: &mut State, row: u32, out: &mut Outbox) {
    let list = state.matching.list(row);
    let is_first = list.known.0 == 0;
    let lots = Quantity(list.known.0 + list.filled.0 - list.brought.0);
    let Some(covered) = cover_more(state, row, &list, lots) else {
        return end_list(state, row, CancelReason::Uncovered, out);
    };
    state.matching.set_known(row, lots, list.filled);
    let mut for_book = None;
    for slot in list.live() {
        let order = state.matching.order(slot);
        let limit = state.matching.limit(slot);
        let is_for_book = order.order_type == OrderType::Limit;
        if is_first {
            let stop = state.matching.stop_to_come(slot);
            state.matching.lift(slot);
            state.matching.amend(slot, limit, lots);
            if !is_for_book {
                state.matching.wait(slot, stop);
            }
        } else if is_for_book {
            state.matching.lift(slot);
            state.matching.amend(slot, limit, lots);
        } else if order.place == Place::Beside {
            state.matching.resize(slot, lots);
        } else {
            state.matching.amend(slot, limit, lots);
        }
        say_changed(state, slot, out);
        if is_for_book {
            for_book = Some(slot);
        }
    }
    let Some(slot) = for_book else {
        return;
    };
    let book = state.matching.order(slot).book;
    if state.instruments.row(book).phase() == InstrumentPhase::Continuous {
        execute(state, slot, covered, false, out);
    } else {
        state.matching.rest(slot);
    }
}

/// Holds what legs with that many lots need; `None` where the account does not cover it. Returns
/// what the covered one holds.
fn cover_more(state: &mut State, row: u32, list: &List, lots: Quantity) -> Option<Amount> {
    let is_first = list.known.0 == 0;
    let first = list.live().next()?;
    let covered = list
        .live()
        .find(|slot| state.matching.order(*slot).order_type == OrderType::Limit);
    let covered = covered.unwrap_or(first);
    let book = state.matching.order(first).book;
    let instrument = *state.instruments.row(book);
    let need = |state: &State, slot: Slot| {
        let order = state.matching.order(slot);
        let notional = instrument.notional(order.cover_price, lots)?;
        needs(&instrument, order.side, lots, notional).ok()
    };
    let mut most = 0;
    for slot in list.live() {
        most = most.max(need(state, slot)?.0.0);
    }
    let (own, _) = need(state, covered)?;
    let was = if is_first {
        0
    } else {
        held_for(&instrument, &state.matching.order(covered)).0 + list.extra
    };
    let account = cover_account(&state.matching.order(covered));
    if most > was {
        let more = Amount(most - was);
        state.ledger.check_cover(account, more).ok()?;
        state.ledger.hold(account, more);
    } else {
        state.ledger.release(account, Amount(was - most));
        state.liquidity_rose(account);
    }
    for slot in list.live() {
        let (_, budget) = need(state, slot)?;
        *state.matching.fee_budget_mut(slot) = budget;
        state.matching.set_covered(slot, slot == covered);
    }
    state.matching.set_extra(row, most - own.0);
    Some(own)
}

/// What is held of a list's legs of one side: by the covered one, and beside it.
fn held_of(state: &State, list: &List, side: Side) -> u128 {
    let orders = list.live().map(|slot| state.matching.order(slot));
    let held = orders.filter(|order| order.side == side).map(|order| {
        let instrument = state.instruments.row(order.book);
        held_for(instrument, &order).0
    });
    held.sum::<u128>() + if side == Side::Buy { list.extra } else { 0 }
}

/// What the order needs held where it is covered, and how much of it for fees: its budget shrinks
/// with it and never grows.
fn need_of(instrument: &InstrumentRow, order: &OrderView) -> (u128, u128) {
    let budget = match order.side {
        Side::Buy => budget_left(
            instrument,
            order.cover_price,
            order.leaves,
            order.fee_budget,
        ),
        Side::Sell => 0,
    };
    let hold = hold_of(
        instrument,
        order.side,
        order.cover_price,
        order.leaves,
        budget,
    );
    (hold.0, budget)
}

/// Gives back what the legs of a list need no more of what is held for the buys and sells.
fn cover(state: &mut State, row: u32, held: [u128; 2]) {
    let list = state.matching.list(row);
    for side in [Side::Buy, Side::Sell] {
        let legs: [Option<OrderView>; LIST_MAX] = list.legs.map(|leg| {
            let order = state.matching.order(leg?);
            (order.side == side).then_some(order)
        });
        let legs = || legs.iter().flatten();
        let covered = legs().find(|order| order.order_type == OrderType::Limit);
        let Some(covered) = covered.or(legs().next()) else {
            continue;
        };
        let instrument = *state.instruments.row(covered.book);
        let held = held[side as usize];
        let mut most = 0;
        for order in legs() {
            let (need, budget) = need_of(&instrument, order);
            most = most.max(need);
            *state.matching.fee_budget_mut(order.slot) = budget;
            state
                .matching
                .set_covered(order.slot, order.slot == covered.slot);
        }
        let most = most.min(held);
        let own = fit_budget(state, &instrument, covered.slot, most);
        let account = cover_account(covered);
        state.ledger.release(account, Amount(held - most));
        state.liquidity_rose(account);
        if side == Side::Buy {
            state.matching.set_extra(row, most - own);
        }
    }
}

/// Fees round up per fill, so that a list may have a little less for them than one leg would want:
/// then its budget is that much smaller. Returns what the leg holds.
fn fit_budget(state: &mut State, instrument: &InstrumentRow, slot: Slot, most: u128) -> u128 {
    let own = held_for(instrument, &state.matching.order(slot)).0;
    let short = own.saturating_sub(most);
    *state.matching.fee_budget_mut(slot) -= short;
    own - short
}

/// Ends what is left of a list: its legs for that reason, its entry because of them.
fn end_list(state: &mut State, row: u32, reason: CancelReason, out: &mut Outbox) {
    let list = state.matching.list(row);
    for slot in list.entry.into_iter().chain(list.live()) {
        let order = state.matching.end(slot);
        release_cancelled(state, &order);
        let why = if list.entry == Some(slot) {
            CancelReason::Linked
        } else {
            reason
        };
        report(state, &order, why, out);
    }
    state.ledger.release(list.quote_account, Amount(list.extra));
    state.liquidity_rose(list.quote_account);
    state.matching.dissolve(row);
}

/// A stop wakes: where it is a leg, the others end, and all that is held for them is its own.
pub(super) fn take_over(state: &mut State, slot: Slot, out: &mut Outbox) {
    let Some(row) = state.matching.list_of_leg(slot) else {
        return;
    };
    let list = state.matching.list(row);
    let own = state.matching.order(slot);
    let instrument = *state.instruments.row(own.book);
    let held = held_of(state, &list, own.side);
    for other in list.entry.into_iter().chain(list.live()) {
        if other == slot {
            continue;
        }
        let order = state.matching.end(other);
        if order.side != own.side {
            release_cancelled(state, &order);
        }
        report(state, &order, CancelReason::Linked, out);
    }
    if own.side == Side::Sell {
        state.ledger.release(list.quote_account, Amount(list.extra));
        state.liquidity_rose(list.quote_account);
    }
    state.matching.dissolve(row);
    state.matching.set_covered(slot, true);
    let needs = fit_budget(state, &instrument, slot, held);
    let account = cover_account(&own);
    state.ledger.release(account, Amount(held - needs));
    state.liquidity_rose(account);
}

/// What a leg with another price or quantity needs held and how much of it for fees, if the account
/// covers what the list needs more. Other lots are for all legs, so they must be of one side, and
/// their entry done.
pub(super) fn check_replace(
    state: &State,
    old: &OrderView,
    cover_price: Price,
    leaves: Quantity,
) -> Result<(Amount, u128), Reason> {
    let row = state.matching.list_of_leg(old.slot).expect("it is a leg");
    let list = state.matching.list(row);
    let instrument = state.instruments.row(old.book);
    let notional = instrument.notional(cover_price, leaves);
    let notional = notional.ok_or(Reason::NotionalOverflow)?;
    let (own, budget) = needs(instrument, old.side, leaves, notional)?;
    if own.0 > need_of(instrument, old).0 && instrument.is_too_large(notional) {
        return Err(Reason::ExceedsMaxNotional);
    }
    if leaves != old.leaves {
        check_lots(state, &list, old, leaves)?;
    }
    if list.known.0 == 0 {
        return Ok((own, budget));
    }
    let most = most_of(state, &list, old, leaves, own)?;
    let held = held_of(state, &list, old.side);
    if most > held {
        let more = Amount(most - held);
        state.ledger.check_cover(cover_account(old), more)?;
    }
    Ok((own, budget))
}

fn check_lots(state: &State, list: &List, old: &OrderView, leaves: Quantity) -> Result<(), Reason> {
    if list.entry.is_some() {
        return Err(Reason::OrderFieldsContradict);
    }
    let max = state.instruments.row(old.book).max_quantity;
    for slot in list.live() {
        let other = state.matching.order(slot);
        let display = state.matching.display(slot);
        let display = Quantity(display.0.min(leaves.0));
        let total = other.filled().0.checked_add(leaves.0);
        if other.side != old.side {
            return Err(Reason::OrderFieldsContradict);
        }
        if total.is_none_or(|total| total > max) || !shows_enough(leaves, display) {
            return Err(Reason::QuantityOutOfRange);
        }
    }
    Ok(())
}

/// The most that one leg needs where `old` needs `own` and all of its side have `leaves` lots.
fn most_of(
    state: &State,
    list: &List,
    old: &OrderView,
    leaves: Quantity,
    own: Amount,
) -> Result<u128, Reason> {
    let instrument = state.instruments.row(old.book);
    let mut most = own.0;
    for slot in list.live() {
        let other = state.matching.order(slot);
        if slot == old.slot || other.side != old.side {
            continue;
        }
        let notional = instrument.notional(other.cover_price, leaves);
        let notional = notional.ok_or(Reason::NotionalOverflow)?;
        let (need, _) = needs(instrument, other.side, leaves, notional)?;
        most = most.max(need.0);
    }
    Ok(most)
}

/// Commits what [`check_replace`] let pass: the leg is the covered one, and the others have its
/// lots. The leg's own lots, price and budget are the caller's to change.
pub(super) fn recover(
    state: &mut State,
    old: &OrderView,
    leaves: Quantity,
    own: Amount,
    out: &mut Outbox,
) {
    let row = state.matching.list_of_leg(old.slot).expect("it is a leg");
    let list = state.matching.list(row);
    state.matching.touch_list(old.slot);
    if list.known.0 == 0 {
        return;
    }
    let instrument = *state.instruments.row(old.book);
    let most = most_of(state, &list, old, leaves, own).expect("checked");
    let held = held_of(state, &list, old.side);
    let account = cover_account(old);
    if most > held {
        state.ledger.hold(account, Amount(most - held));
    } else {
        state.ledger.release(account, Amount(held - most));
        state.liquidity_rose(account);
    }
    for slot in list.live() {
        let other = state.matching.order(slot);
        if other.side != old.side {
            continue;
        }
        state.matching.set_covered(slot, slot == old.slot);
        if slot == old.slot || leaves == other.leaves {
            continue;
        }
        let notional = instrument.notional(other.cover_price, leaves);
        let notional = notional.expect("checked");
        let (_, budget) = needs(&instrument, other.side, leaves, notional).expect("checked");
        *state.matching.fee_budget_mut(slot) = budget;
        if leaves < other.leaves {
            state.matching.shrink(slot, leaves);
        } else if other.place == Place::Beside {
            state.matching.resize(slot, leaves);
        } else {
            state.matching.lift(slot);
            state.matching.amend(slot, other.price, leaves);
            state.matching.rest(slot);
        }
        say_changed(state, slot, out);
    }
    if old.side == Side::Buy {
        state.matching.set_extra(row, most - own.0);
    }
    state.matching.set_known(row, leaves, list.brought);
}

/// Whether an order of a list may stand at another price: those of a list do not reach each other.
pub(super) fn check_apart(state: &State, old: &OrderView, price: Price) -> Result<(), Reason> {
    let Some(row) = state.matching.list_of(old.slot) else {
        return Ok(());
    };
    let list = state.matching.list(row);
    for slot in list.entry.into_iter().chain(list.live()) {
        let other = state.matching.order(slot);
        let comes_to_book = matches!(other.order_type, OrderType::Limit)
            || list.entry == Some(slot) && other.order_type == OrderType::StopLimit;
        let own_comes = matches!(old.order_type, OrderType::Limit)
            || list.entry == Some(old.slot) && old.order_type == OrderType::StopLimit;
        if other.side == old.side || !comes_to_book || !own_comes {
            continue;
        }
        let limit = state.matching.limit(slot);
        let reaches = match old.side {
            Side::Buy => price >= limit,
            Side::Sell => price <= limit,
        };
        if reaches {
            return Err(Reason::OrderFieldsContradict);
        }
    }
    Ok(())
}

fn say_changed(state: &State, slot: Slot, out: &mut Outbox) {
    let order = state.matching.order(slot);
    let body = OrderChanged {
        order_id: order.order_id,
        client_order_id: order.client_order_id,
        price: order.price,
        leaves: order.leaves,
        participant: ParticipantId(state.participants.row(order.participant).id),
        _reserved: [Zero::Zero; 12],
    };
    out.push(EventKind::OrderReplaced, &body);
}

fn report(state: &State, order: &OrderView, reason: CancelReason, out: &mut Outbox) {
    let participant: Handle = order.participant;
    let participant = ParticipantId(state.participants.row(participant).id);
    cancelled(order, participant, order.leaves, reason, out);
}
