//! Pegged orders: at a distance from the best price of those that follow nothing. They never take:
//! one that would stands one step short of the other side. Where there is nothing to follow any
//! more, one stays where it is.

use crate::engine::index::Handle;
use crate::engine::instruments::InstrumentRow;
use crate::engine::matching::Matching;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::engine::ticks::TickTables;
use crate::protocol::command::{Peg, Side};
use crate::protocol::event::{EventKind, OrderChanged};
use crate::protocol::units::{ParticipantId, Price};
use crate::protocol::wire::Zero;

/// Where an order that follows `peg` at `offset`, never beyond `limit` nor where a limit order would
/// be refused, stands now; `None` where there is nothing to follow or no such price.
pub(super) fn peg_price(
    (matching, ticks): (&Matching, &TickTables),
    instrument: &InstrumentRow,
    (book, side): (Handle, Side),
    (peg, offset, limit): (Peg, Price, Price),
) -> Option<Price> {
    let bid = matching.best_leading(book, Side::Buy);
    let ask = matching.best_leading(book, Side::Sell);
    let followed = match peg {
        Peg::None => None,
        Peg::Bid => Some(bid?.0),
        Peg::Ask => Some(ask?.0),
        Peg::Mid => {
            let sum = i128::from(bid?.0) + i128::from(ask?.0);
            let half = match side {
                Side::Buy => sum.div_euclid(2),
                Side::Sell => -(-sum).div_euclid(2),
            };
            Some(half as i64)
        }
    };
    let mut price = followed?.saturating_add(offset.0);
    if let Some(band) = instrument.static_band() {
        let low = ticks.on_step(instrument, Side::Sell, band.low.0);
        let high = ticks.on_step(instrument, Side::Buy, band.high.0);
        price = price.max(low).min(high);
    }
    if let Some(other) = matching.best(book, side.opposite()) {
        let short = ticks.short_of(instrument, side, other.price);
        price = match side {
            Side::Buy => price.min(short),
            Side::Sell => price.max(short),
        };
    }
    price = match side {
        Side::Buy => price.min(limit.0),
        Side::Sell => price.max(limit.0),
    };
    let price = ticks.on_step(instrument, side, price);
    let price = Price(price);
    let is_sound = instrument.check_range(price).is_ok() && instrument.check_band(price).is_ok();
    is_sound.then_some(price)
}

/// Moves the pegged orders of a book after what they follow, in order of entry.
pub(super) fn move_pegged(state: &mut State, book: Handle, out: &mut Outbox) {
    let instrument = *state.instruments.row(book);
    let mut next = state.matching.next_follower(book, None);
    while let Some(slot) = next {
        next = state.matching.next_follower(book, Some(slot));
        let Some(followed) = state.matching.followed(slot) else {
            continue;
        };
        let order = followed.order;
        let price = peg_price(
            (&state.matching, &state.ticks),
            &instrument,
            (book, order.side),
            (followed.peg, followed.offset, followed.limit),
        );
        let Some(price) = price.filter(|price| *price != order.price) else {
            continue;
        };
        state.matching.lift(slot);
        state.matching.amend(slot, price, order.leaves);
        state.matching.rest(slot);
        let body = OrderChanged {
            order_id: order.order_id,
            client_order_id: order.client_order_id,
            price,
            leaves: order.leaves,
            participant: ParticipantId(state.participants.row(order.participant).id),
            _reserved: [Zero::Zero; 12],
        };
        out.push(EventKind::OrderReplaced, &body);
    }
}
