//! Changes to live orders: less at the same price keeps its place, anything else goes to the back,
//! and may trade on the way. What waits beside the book changes where it is.

use super::entry::{Stage, check_open, needs, shows_enough};
use super::execution::{cover_account, execute, settle_book};
use super::{find_own, linked};
use crate::engine::handlers::fills::held_for;
use crate::engine::handlers::order_rejected;
use crate::engine::index::Handle;
use crate::engine::instruments::InstrumentRow;
use crate::engine::matching::{Lookup, OrderView, Place, Slot};
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, OrderType, ReplaceOrder, Side};
use crate::protocol::event::{EventKind, OrderChanged};
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, Price, Quantity};
use crate::protocol::wire::Zero;

/// A change that has passed its checks.
struct Change {
    old: OrderView,
    /// The limit from now on.
    price: Price,
    leaves: Quantity,
    how: How,
    /// What is held for it so far.
    was: Amount,
    /// What it needs held, and how much of it for fees.
    needs: (Amount, u128),
}

/// What the change does to the order's place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// It keeps it and has less.
    Shrinks,
    /// It waits beside the book, and goes on waiting.
    Waits,
    /// It goes to the back, trading what it can.
    Moves,
    /// It goes to the back: it meets nothing, or orders accumulate, or it never takes.
    Rests,
}

/// Changes an order.
#[inline(never)] // so that instructions are counted per kind
pub(in crate::engine) fn replace_order(state: &mut State, asked: &ReplaceOrder, out: &mut Outbox) {
    let change = match check_change(state, asked) {
        Ok(change) => change,
        Err(reason) => {
            let ids = (asked.client_order_id, asked.order_id);
            let kind = CommandKind::ReplaceOrder;
            order_rejected(asked.participant, kind, ids, reason, out);
            return;
        }
    };
    // From here it succeeds.
    let Change {
        old,
        price,
        leaves,
        how,
        was,
        needs: (needs, budget),
    } = change;
    let slot = old.slot;
    let mut client_order_id = old.client_order_id;
    if asked.new_client_order_id.0 != 0 && asked.new_client_order_id != old.client_order_id {
        client_order_id = asked.new_client_order_id;
        state.matching.rename(slot, client_order_id);
    }
    let stands = stands(&old, price);
    let body = OrderChanged {
        order_id: old.order_id,
        client_order_id,
        price: stands,
        leaves,
        participant: asked.participant,
        _reserved: [Zero::Zero; 12],
    };
    out.push(EventKind::OrderReplaced, &body);
    if old.is_special && state.matching.list_of_leg(slot).is_some() {
        linked::recover(state, &old, leaves, needs, out);
    } else {
        let account = cover_account(&old);
        if needs > was {
            state.ledger.hold(account, Amount(needs.0 - was.0));
        } else {
            state.ledger.release(account, Amount(was.0 - needs.0));
            state.liquidity_rose(account);
        }
    }
    *state.matching.fee_budget_mut(slot) = budget;
    if old.is_special {
        let cover_price = cover_price(&old, price);
        state.matching.set_limit(slot, price, cover_price);
        state.matching.touch_list(slot);
    }
    match how {
        How::Shrinks => state.matching.reduce(slot, leaves),
        How::Waits => state.matching.resize(slot, leaves),
        How::Moves => {
            state.matching.lift_to(slot, price, leaves);
            execute(state, slot, needs, false, out);
        }
        How::Rests => {
            state.matching.lift_to(slot, stands, leaves);
            state.matching.rest(slot);
        }
    }
    settle_book(state, old.book, out);
}

/// The account that a change would hold more cover on, and how much more; `None` where it is
/// refused.
pub(in crate::engine::handlers) fn added_cover_of(
    state: &State,
    asked: &ReplaceOrder,
) -> Option<(Handle, Amount)> {
    let change = check_change(state, asked).ok()?;
    let old = &change.old;
    let added = if old.is_special && state.matching.list_of_leg(old.slot).is_some() {
        linked::added_cover(state, old, change.leaves, change.needs.0)
    } else {
        let was = held_for(state.instruments.row(old.book), old);
        Amount(change.needs.0.0.saturating_sub(was.0))
    };
    Some((cover_account(old), added))
}

/// Where an order with another limit stands: a pegged one moves with the book, but never stands beyond
/// its own price.
fn stands(old: &OrderView, limit: Price) -> Price {
    match (old.order_type, old.side) {
        (OrderType::Pegged, Side::Buy) => old.price.min(limit),
        (OrderType::Pegged, Side::Sell) => old.price.max(limit),
        _ => limit,
    }
}

/// What cover is reckoned at with another limit: an unprotected stop's does not follow from it.
fn cover_price(old: &OrderView, limit: Price) -> Price {
    match old.order_type {
        OrderType::Stop | OrderType::TrailingStop => old.cover_price,
        OrderType::Limit | OrderType::Market | OrderType::StopLimit | OrderType::Pegged => limit,
    }
}

fn check_change(state: &State, asked: &ReplaceOrder) -> Result<Change, Reason> {
    let ids = (asked.client_order_id, asked.order_id.0);
    let slot = find_own(state, asked.participant, ids)?;
    let old = state.matching.order(slot);
    let instrument = state.instruments.row(old.book);
    check_rename(state, asked, &old)?;
    let stage = check_open(state, instrument, old.time_in_force)?;
    let limit = if old.is_special {
        state.matching.limit(slot)
    } else {
        old.price
    };
    let price = match asked.price {
        Price(i64::MIN) => limit,
        _ if matches!(
            old.order_type,
            OrderType::Stop | OrderType::TrailingStop | OrderType::Market
        ) =>
        {
            return Err(Reason::OrderFieldsContradict);
        }
        price => {
            state.ticks.check_price(instrument, price)?;
            price
        }
    };
    let total = match asked.quantity {
        Quantity(u64::MAX) => old.quantity,
        // A total that fills or self-trade prevention made small may stay.
        total if total == old.quantity => total,
        total => {
            let is_sound = total > old.filled()
                && (instrument.min_quantity..=instrument.max_quantity).contains(&total.0);
            is_sound
                .then_some(total)
                .ok_or(Reason::QuantityOutOfRange)?
        }
    };
    let leaves = Quantity(total.0 - old.filled().0);
    if old.is_special && !shows_enough_of(state, slot, leaves) {
        return Err(Reason::QuantityOutOfRange);
    }
    let mut how = how(&old, stage, price == limit && leaves <= old.leaves);
    let may_take = match how {
        How::Moves => true,
        // While orders accumulate it would take when they are uncrossed.
        How::Rests => old.post_only,
        How::Shrinks | How::Waits => false,
    };
    if may_take {
        if !state.matching.would_cross(old.book, old.side, price) {
            how = How::Rests;
        } else if old.post_only {
            return Err(Reason::PostOnlyWouldCross);
        }
    }
    let was = held_for(instrument, &old);
    let is_leg = old.is_special && state.matching.list_of_leg(slot).is_some();
    let needs = if is_leg {
        linked::check_replace(state, &old, cover_price(&old, price), leaves)?
    } else {
        check_more_cover(state, instrument, &old, was, (price, leaves))?
    };
    if old.is_special {
        linked::check_apart(state, &old, price)?;
    }
    let has_room = match how {
        How::Shrinks | How::Waits => true,
        How::Rests if old.order_type == OrderType::Pegged => true,
        How::Moves | How::Rests => state.matching.has_room_to_move(slot, price),
    };
    if !has_room {
        return Err(Reason::CapacityExhausted);
    }
    Ok(Change {
        old,
        price,
        leaves,
        how,
        was,
        needs,
    })
}

fn how(old: &OrderView, stage: Stage, keeps_priority: bool) -> How {
    match old.place {
        Place::Beside | Place::Outside => How::Waits,
        Place::Book if keeps_priority => How::Shrinks,
        // An order for the close that an opening auction finds in the book accumulates like others.
        Place::Book if stage != Stage::Trades || old.order_type == OrderType::Pegged => How::Rests,
        Place::Book => How::Moves,
    }
}

fn shows_enough_of(state: &State, slot: Slot, leaves: Quantity) -> bool {
    let display = state.matching.display(slot);
    shows_enough(leaves, Quantity(display.0.min(leaves.0)))
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

/// What the changed order needs held and how much of it for fees, if the account covers what that
/// is more.
fn check_more_cover(
    state: &State,
    instrument: &InstrumentRow,
    old: &OrderView,
    was: Amount,
    (price, leaves): (Price, Quantity),
) -> Result<(Amount, u128), Reason> {
    let notional = instrument.notional(cover_price(old, price), leaves);
    let notional = notional.ok_or(Reason::NotionalOverflow)?;
    let (needs, budget) = needs(instrument, old.side, leaves, notional)?;
    if needs > was {
        if instrument.is_too_large(notional) {
            return Err(Reason::ExceedsMaxNotional);
        }
        let more = Amount(needs.0 - was.0);
        state.ledger.check_cover(cover_account(old), more)?;
    }
    Ok((needs, budget))
}
