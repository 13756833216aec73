//! What a new order must satisfy before it changes anything: names, words that fit together, the
//! phase, the instrument's limits, cover, room in every table.

use super::pegs::peg_price;
use crate::engine::handlers::fills::held_at;
use crate::engine::index::Handle;
use crate::engine::instruments::InstrumentRow;
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::matching::{Lookup, NewOrder, NewSpecial};
use crate::engine::state::State;
use crate::protocol::command::{
    InstrumentPhase, OrderType, Peg, PlaceOrder, SelfTrade, Side, TimeInForce, Trigger,
};
use crate::protocol::reason::{CancelReason, Reason};
use crate::protocol::units::{Amount, Price, Quantity, Timestamp, base_amount};

/// Times an iceberg may show a new part: an incoming order meets each of them.
const REFILLS_MAX: u64 = 100;

/// A new order that has passed its checks.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) order: NewOrder,
    /// What is held for it, fees included.
    pub(super) hold: Amount,
    pub(super) fate: Fate,
}

/// What becomes of it first.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// It trades what it can; the rest stays or goes.
    Trades,
    /// It ends before it trades: all or enough of it cannot be had.
    Killed(CancelReason),
    /// It joins the book without trading: it meets nothing, or orders accumulate, or it never takes.
    Rests,
    /// It waits for its stop price.
    Waits(Price),
    /// It waits for an auction, any or the closing one.
    Aside { for_close: bool },
}

/// What the phase lets an order do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Trades,
    Accumulates,
    Aside { for_close: bool },
}

pub(super) fn check_entry(
    state: &State,
    asked: &PlaceOrder,
    session: u64,
) -> Result<Entry, Reason> {
    let (participant, book) = check_names(state, asked)?;
    check_words(asked, state.now)?;
    let instrument = state.instruments.row(book);
    let stage = check_open(state, instrument, asked.time_in_force)?;
    check_quantity(instrument, asked)?;
    let session = match asked.keep_on_disconnect.is_yes() {
        true => 0,
        false => state.matching.session_row(session),
    };
    let special = special_of(state, asked, book, instrument, session, stage)?;
    let mut price = match &special {
        Some((special, _)) => special.limit,
        None => check_price(state, asked, book, instrument)?,
    };
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
        self_trade: instrument.self_trade(asked.self_trade),
        post_only: asked.post_only.is_yes(),
        price,
        quantity: asked.quantity,
        base_account,
        quote_account,
        fee_budget: 0,
        special: special.map(|(special, _)| special),
    };
    if stage == Stage::Trades && order.post_only {
        price = check_post_only(state, asked, instrument, &mut order)?;
    }
    let hold = check_cover(state, &mut order, instrument, asked.protection.0 != 0)?;
    let account = held_at(order.side, order.base_account, order.quote_account);
    state.ledger.check_cover(account, hold)?;
    let fate = match (special, stage) {
        (Some((_, Some(stop))), _) => Fate::Waits(stop),
        (_, Stage::Aside { for_close }) => Fate::Aside { for_close },
        (_, Stage::Accumulates) => Fate::Rests,
        (_, Stage::Trades) if asked.order_type == OrderType::Pegged => {
            order.price = peg_price(
                (&state.matching, &state.ticks),
                instrument,
                (book, asked.side),
                (asked.peg, asked.offset, price),
            )
            .ok_or(Reason::NoReferencePrice)?;
            Fate::Rests
        }
        (_, Stage::Trades) => match killed(state, asked, &order, instrument) {
            Some(reason) => Fate::Killed(reason),
            None if rests(asked.order_type, asked.time_in_force)
                && !state.matching.would_cross(book, asked.side, order.price) =>
            {
                Fate::Rests
            }
            None => Fate::Trades,
        },
    };
    check_room(state, &order, &fate)?;
    Ok(Entry { order, hold, fate })
}

pub(super) fn check_names(state: &State, asked: &PlaceOrder) -> Result<(Handle, Handle), Reason> {
    if asked.client_order_id.0 == 0 {
        return Err(Reason::IdMustNotBeZero);
    }
    let participant = state.participants.find(asked.participant.0);
    let participant = participant.ok_or(Reason::ParticipantNotFound)?;
    if !state.participants.row(participant).may_trade() {
        return Err(Reason::ParticipantBlocked);
    }
    let book = state.instruments.find(asked.instrument.0);
    let book = book.ok_or(Reason::InstrumentNotFound)?;
    match state.matching.find(participant, asked.client_order_id) {
        Lookup::Unknown => Ok((participant, book)),
        Lookup::Live(_) | Lookup::Finished => Err(Reason::DuplicateClientOrderId),
    }
}

/// Words that contradict each other.
pub(super) fn check_words(asked: &PlaceOrder, now: Timestamp) -> Result<(), Reason> {
    use OrderType::{Limit, Market, Pegged, Stop, StopLimit, TrailingStop};
    let kind = asked.order_type;
    let is_plain = kind == Limit
        && asked.protection.0 | asked.stop_price.0 | asked.offset.0 == 0
        && asked.display_quantity.0 | asked.min_quantity.0 | asked.expires_at.0 == 0
        && !asked.post_only.is_yes()
        && !asked.slide.is_yes()
        && asked.peg == Peg::None
        && asked.trigger == Trigger::Last
        && asked.time_in_force != TimeInForce::Gtd;
    if is_plain {
        return Ok(());
    }
    check_given(asked)?;
    let rests = rests(kind, asked.time_in_force);
    let has_stop = match kind {
        Stop | StopLimit | TrailingStop => true,
        Limit | Market | Pegged => asked.stop_price.0 == 0,
    };
    let has_price = match kind {
        Limit | StopLimit | Pegged => true,
        Market | Stop | TrailingStop => asked.price.0 == 0,
    };
    let has_protection = asked.protection.0 == 0 || matches!(kind, Market | Stop | TrailingStop);
    let has_offset = match kind {
        TrailingStop => asked.offset.0 > 0,
        Pegged => true,
        Limit | Market | Stop | StopLimit => asked.offset.0 == 0,
    };
    let fits = has_stop
        && has_price
        && has_protection
        && has_offset
        && (kind == Pegged) == (asked.peg != Peg::None)
        && (kind != Pegged || rests)
        && (asked.trigger == Trigger::Last || matches!(kind, Stop | StopLimit))
        && (!asked.post_only.is_yes() || kind == Limit && rests && asked.min_quantity.0 == 0)
        && (!asked.slide.is_yes() || asked.post_only.is_yes())
        && (asked.display_quantity.0 == 0 || matches!(kind, Limit | StopLimit) && rests)
        && (asked.min_quantity.0 == 0 || matches!(kind, Limit | Market))
        && (asked.time_in_force == TimeInForce::Gtd) == (asked.expires_at.0 != 0)
        && (!is_for_auction(asked.time_in_force) || kind == Limit);
    if !fits {
        return Err(Reason::OrderFieldsContradict);
    }
    if asked.expires_at.0 != 0 && asked.expires_at <= now {
        return Err(Reason::TimeOutOfRange);
    }
    Ok(())
}

/// Whether each field is there that the order's type and time in force cannot do without; its
/// limit apart, see [`check_price`].
fn check_given(asked: &PlaceOrder) -> Result<(), Reason> {
    match asked.order_type {
        OrderType::Stop | OrderType::StopLimit if asked.stop_price.0 == 0 => {
            Err(Reason::StopPriceMissing)
        }
        OrderType::TrailingStop if asked.offset.0 == 0 => Err(Reason::OffsetMissing),
        OrderType::Pegged if asked.peg == Peg::None => Err(Reason::PegMissing),
        _ if asked.time_in_force == TimeInForce::Gtd && asked.expires_at.0 == 0 => {
            Err(Reason::ExpiresAtMissing)
        }
        _ => Ok(()),
    }
}

fn is_for_auction(time_in_force: TimeInForce) -> bool {
    matches!(
        time_in_force,
        TimeInForce::AtTheOpen | TimeInForce::AtTheClose | TimeInForce::GoodForAuction
    )
}

/// Whether the phases of instrument and day let an order in, and what it does then.
pub(super) fn check_open(
    state: &State,
    instrument: &InstrumentRow,
    time_in_force: TimeInForce,
) -> Result<Stage, Reason> {
    use InstrumentPhase as Phase;
    use TimeInForce as Tif;
    let phase = instrument.phase();
    match phase {
        Phase::Halted => return Err(Reason::InstrumentHalted),
        Phase::Closed => return Err(Reason::PhaseForbids),
        _ if !state.day.admits_order() => return Err(Reason::PhaseForbids),
        _ => {}
    }
    let aside = |for_close| Ok(Stage::Aside { for_close });
    match (time_in_force, phase) {
        (Tif::AtTheOpen, Phase::PreOpen | Phase::OpeningAuction | Phase::Auction) => {
            Ok(Stage::Accumulates)
        }
        (Tif::AtTheOpen, _) => Err(Reason::PhaseForbids),
        (Tif::AtTheClose, Phase::ClosingAuction | Phase::Auction) => Ok(Stage::Accumulates),
        (Tif::AtTheClose, _) => aside(true),
        (Tif::GoodForAuction, Phase::Continuous) => aside(false),
        (Tif::Day | Tif::Gtc | Tif::Gtd | Tif::Ioc | Tif::Fok, Phase::Continuous) => {
            Ok(Stage::Trades)
        }
        // Nothing is immediate while orders accumulate.
        (Tif::Ioc | Tif::Fok, _) => Err(Reason::PhaseForbids),
        (Tif::Day | Tif::Gtc | Tif::Gtd | Tif::GoodForAuction, _) => Ok(Stage::Accumulates),
    }
}

pub(super) fn check_quantity(instrument: &InstrumentRow, asked: &PlaceOrder) -> Result<(), Reason> {
    let quantity = asked.quantity.0;
    let is_sound = quantity >= instrument.min_quantity
        && quantity <= instrument.max_quantity
        && asked.min_quantity.0 <= quantity
        && shows_enough(asked.quantity, asked.display_quantity);
    if is_sound {
        Ok(())
    } else {
        Err(Reason::QuantityOutOfRange)
    }
}

/// Whether an iceberg of that size shows a part often enough.
pub(super) fn shows_enough(quantity: Quantity, display: Quantity) -> bool {
    display.0 == 0 || display.0 <= quantity.0 && quantity.0 / display.0 <= REFILLS_MAX
}

/// What is special about the order, if anything, and its stop price, if it has one.
fn special_of(
    state: &State,
    asked: &PlaceOrder,
    book: Handle,
    instrument: &InstrumentRow,
    session: u32,
    stage: Stage,
) -> Result<Option<(NewSpecial, Option<Price>)>, Reason> {
    let is_plain = matches!(asked.order_type, OrderType::Limit | OrderType::Market);
    if is_plain
        && asked.display_quantity.0 | asked.expires_at.0 == 0
        && session == 0
        && !matches!(stage, Stage::Aside { .. })
    {
        if asked.order_type == OrderType::Market
            || asked.min_quantity.0 | u64::from(asked.post_only.is_yes()) != 0
        {
            // Nothing to take from while orders accumulate.
            return match stage {
                Stage::Trades => Ok(None),
                Stage::Accumulates | Stage::Aside { .. } => Err(Reason::PhaseForbids),
            };
        }
        return Ok(None);
    }
    let takes_at_once = asked.order_type == OrderType::Market
        || asked.order_type == OrderType::Pegged
        || asked.min_quantity.0 != 0
        || asked.post_only.is_yes();
    if takes_at_once && stage != Stage::Trades {
        return Err(Reason::PhaseForbids);
    }
    let stop = check_stop(state, asked, book, instrument)?;
    let limit = check_price(state, asked, book, instrument)?;
    let is_unprotected = asked.protection.0 == 0
        && matches!(asked.order_type, OrderType::Stop | OrderType::TrailingStop);
    let special = NewSpecial {
        cover_price: match stop {
            // Its price is not known before it wakes.
            Some(stop) if is_unprotected => stop,
            _ => limit,
        },
        display: asked.display_quantity,
        offset: asked.offset,
        peg: asked.peg,
        trigger: asked.trigger,
        expires_at: asked.expires_at,
        session,
        ..NewSpecial::none(limit)
    };
    Ok(Some((special, stop)))
}

pub(super) fn check_stop(
    state: &State,
    asked: &PlaceOrder,
    book: Handle,
    instrument: &InstrumentRow,
) -> Result<Option<Price>, Reason> {
    let in_range = |stop: Price| {
        if stop.0 < instrument.min_price || stop.0 > instrument.max_price {
            Err(Reason::OutsidePriceBand)
        } else if !state.ticks.is_tick(instrument, stop) {
            Err(Reason::PriceNotOnTick)
        } else {
            Ok(Some(stop))
        }
    };
    match asked.order_type {
        OrderType::Stop | OrderType::StopLimit => in_range(asked.stop_price),
        OrderType::TrailingStop if asked.stop_price.0 != 0 => in_range(asked.stop_price),
        OrderType::TrailingStop => {
            let last = state.matching.last_price(book);
            let Price(last) = last.ok_or(Reason::NoReferencePrice)?;
            let stop = match asked.side {
                Side::Buy => last.saturating_add(asked.offset.0),
                Side::Sell => last.saturating_sub(asked.offset.0),
            };
            if stop < instrument.min_price || stop > instrument.max_price {
                return Err(Reason::OutsidePriceBand);
            }
            Ok(Some(Price(stop)))
        }
        OrderType::Limit | OrderType::Market | OrderType::Pegged => Ok(None),
    }
}

/// The worst price the order trades at: its limit, its protection, or, for one that takes any
/// price, the last it can reach.
pub(super) fn check_price(
    state: &State,
    asked: &PlaceOrder,
    book: Handle,
    instrument: &InstrumentRow,
) -> Result<Price, Reason> {
    let price = match asked.order_type {
        OrderType::Limit | OrderType::StopLimit => asked.price,
        OrderType::Pegged if asked.price.0 != 0 => asked.price,
        OrderType::Pegged => return Ok(extreme(instrument, asked.side)),
        _ if asked.protection.0 != 0 => asked.protection,
        OrderType::Stop | OrderType::TrailingStop => return Ok(extreme(instrument, asked.side)),
        OrderType::Market => match asked.side {
            Side::Buy => {
                let deepest = state.matching.worst(book, Side::Sell);
                return Ok(deepest.map_or(Price(instrument.min_price), |level| level.price));
            }
            Side::Sell => return Ok(Price(instrument.min_price)),
        },
    };
    match state.ticks.check_price(instrument, price) {
        Ok(()) => Ok(price),
        // No instrument has that price, and only a limit comes here as 0.
        Err(_) if price.0 == 0 => Err(Reason::PriceMissing),
        Err(reason) => Err(reason),
    }
}

fn extreme(instrument: &InstrumentRow, side: Side) -> Price {
    match side {
        Side::Buy => Price(instrument.max_price),
        Side::Sell => Price(instrument.min_price),
    }
}

/// The price of a post-only order: refused where it would trade, or put one step short of it.
fn check_post_only(
    state: &State,
    asked: &PlaceOrder,
    instrument: &InstrumentRow,
    order: &mut NewOrder,
) -> Result<Price, Reason> {
    if !state
        .matching
        .would_cross(order.book, order.side, order.price)
    {
        return Ok(order.price);
    }
    if !asked.slide.is_yes() {
        return Err(Reason::PostOnlyWouldCross);
    }
    let best = state.matching.best(order.book, order.side.opposite());
    let best = best.expect("it would cross").price;
    let price = Price(state.ticks.short_of(instrument, order.side, best));
    state
        .ticks
        .check_price(instrument, price)
        .map_err(|_| Reason::PostOnlyWouldCross)?;
    order.price = price;
    if let Some(special) = &mut order.special {
        special.limit = price;
        special.cover_price = price;
    }
    Ok(price)
}

/// What the order must hold. Sets the order's fee budget.
pub(super) fn check_cover(
    state: &State,
    order: &mut NewOrder,
    instrument: &InstrumentRow,
    is_protected: bool,
) -> Result<Amount, Reason> {
    let price = order
        .special
        .map_or(order.price, |special| special.cover_price);
    let is_unprotected = order.order_type == OrderType::Market && !is_protected;
    let notional = if is_unprotected && order.side == Side::Buy {
        cost_of_reach(state, order, instrument)?
    } else {
        instrument
            .notional(price, order.quantity)
            .ok_or(Reason::NotionalOverflow)?
    };
    let (hold, budget) = needs(instrument, order.side, order.quantity, notional)?;
    if instrument.is_too_large(notional) {
        return Err(Reason::ExceedsMaxNotional);
    }
    order.fee_budget = budget;
    for account in [order.base_account, order.quote_account] {
        state.ledger.check_trading(account)?;
    }
    Ok(hold)
}

/// What an order of that side, size and notional must hold, and how much of it for fees.
pub(super) fn needs(
    instrument: &InstrumentRow,
    side: Side,
    quantity: Quantity,
    notional: Amount,
) -> Result<(Amount, u128), Reason> {
    let base = base_amount(quantity, instrument.lot_size);
    if notional.0.max(base.0) > NOTIONAL_MAX {
        return Err(Reason::NotionalOverflow);
    }
    match side {
        Side::Buy => {
            let fee = instrument.worst_fee(notional);
            let budget = fee.ok_or(Reason::NotionalOverflow)?.0;
            Ok((Amount(notional.0 + budget), budget))
        }
        Side::Sell => Ok((base, 0)),
    }
}

/// What a market buy costs at most: the cheapest lots it may take, its own participant's left out
/// where it will not trade with them.
pub(super) fn cost_of_reach(
    state: &State,
    order: &NewOrder,
    instrument: &InstrumentRow,
) -> Result<Amount, Reason> {
    let who = (order.participant, order.self_trade);
    cost_of_lots(state, instrument, order.book, order.quantity, who)
}

/// The cheapest `quantity` lots of a book, for that participant under that mode.
pub(super) fn cost_of_lots(
    state: &State,
    instrument: &InstrumentRow,
    book: Handle,
    quantity: Quantity,
    (participant, self_trade): (Handle, SelfTrade),
) -> Result<Amount, Reason> {
    let mut missing = quantity.0;
    let mut cost = Amount::ZERO;
    for maker in state.matching.orders(book, Side::Sell) {
        if missing == 0 {
            break;
        }
        if self_trade != SelfTrade::Allow && state.matching.is_same(maker.participant, participant)
        {
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

/// Why an order ends before it trades, if it does.
fn killed(
    state: &State,
    asked: &PlaceOrder,
    order: &NewOrder,
    instrument: &InstrumentRow,
) -> Option<CancelReason> {
    let (quantity, reason) = match asked.time_in_force {
        TimeInForce::Fok => (asked.quantity, CancelReason::Fok),
        _ if asked.min_quantity.0 != 0 => (asked.min_quantity, CancelReason::MinimumQuantity),
        _ => return None,
    };
    let band = instrument.band(state.matching.last_price(order.book));
    let reaches = state.matching.reachable(
        order.book,
        order.side,
        (order.price, band),
        quantity,
        order.participant,
        order.self_trade,
    );
    (!reaches).then_some(reason)
}

fn check_room(state: &State, order: &NewOrder, fate: &Fate) -> Result<(), Reason> {
    let matching = &state.matching;
    let has_level = match fate {
        Fate::Killed(_) => true,
        Fate::Waits(_) | Fate::Aside { .. } => matching.has_room_beside(),
        Fate::Rests if order.order_type == OrderType::Pegged => matching.has_room_beside(),
        Fate::Trades | Fate::Rests => {
            !rests(order.order_type, order.time_in_force)
                || matching.has_room_at(order.book, order.side, order.price)
        }
    };
    let has_row = order.special.is_none() || matching.has_room_for_special();
    if has_level && has_row && has_position(state, order) && matching.has_room_for_order() {
        Ok(())
    } else {
        Err(Reason::CapacityExhausted)
    }
}

/// Whether the order's participant has a position, or can have one, where the instrument needs it.
pub(super) fn has_position(state: &State, order: &NewOrder) -> bool {
    !state.instruments.row(order.book).is_deferred()
        || state.positions.has_room_for(order.book, order.base_account)
}

/// Whether what an order does not fill at once may stay in the book.
pub(super) fn rests(order_type: OrderType, time_in_force: TimeInForce) -> bool {
    matches!(
        order_type,
        OrderType::Limit | OrderType::StopLimit | OrderType::Pegged
    ) && !matches!(time_in_force, TimeInForce::Ioc | TimeInForce::Fok)
}
