//! Fills: what a meeting of two orders moves, delivery versus payment, in the command that made it.
//!
//! Every order came with cover: a buy holds its notional at its limit and a budget for fees, a sell
//! holds its base. A fill captures exactly what it costs; what the hold then has over what the rest
//! of the order needs is released at once.
//!
//! Fees round up per fill, while the budget is the fee on the whole notional rounded up once, so
//! many small fills can owe more than the budget, by less than one minor unit a fill. That rest
//! comes out of what the account has free, and is waived where it has nothing: no fill can overdraw
//! and none can fail. A rebate is paid out of the other side's fee of the same fill.

use super::cycles::defer_fill;
use crate::engine::index::Handle;
use crate::engine::instruments::InstrumentRow;
use crate::engine::ledger::Ledger;
use crate::engine::matching::OrderView;
use crate::engine::positions::Positions;
use crate::protocol::command::Side;
use crate::protocol::units::{
    Amount, Price, Quantity, base_amount, fee_rounded_up, rebate_rounded_down,
};

/// One side of a fill.
#[derive(Clone, Copy)]
pub(super) struct Party {
    pub(super) base_account: Handle,
    pub(super) quote_account: Handle,
    /// Basis points it pays; below zero it is paid.
    pub(super) fee_bps: i32,
}

impl Party {
    pub(super) fn of(order: &OrderView, fee_bps: i32) -> Party {
        Party {
            base_account: order.base_account,
            quote_account: order.quote_account,
            fee_bps,
        }
    }
}

/// What both sides paid; below zero they were paid.
pub(super) struct Fees {
    pub(super) buyer: i128,
    pub(super) seller: i128,
}

/// Settles a fill at once, or keeps it for the end of the cycle, as its instrument says.
#[inline]
pub(super) fn fill(
    ledger: &mut Ledger,
    deferred: (&mut Positions, Handle),
    instrument: &InstrumentRow,
    (buyer, seller): (Party, Party),
    what: (Price, Quantity),
    budget: &mut u128,
) -> (Fees, Amount) {
    if instrument.is_deferred() {
        defer_fill(ledger, deferred, instrument, (buyer, seller), what, budget)
    } else {
        post_fill(ledger, instrument, buyer, seller, what, budget)
    }
}

/// Posts a fill of `quantity` lots at `price`: base out of the seller's hold, quote and the buyer's
/// fee out of the buyer's. `budget` is what the buyer holds for fees. Returns what was charged and the notional.
#[inline]
fn post_fill(
    ledger: &mut Ledger,
    instrument: &InstrumentRow,
    buyer: Party,
    seller: Party,
    (price, quantity): (Price, Quantity),
    budget: &mut u128,
) -> (Fees, Amount) {
    let notional = instrument.notional(price, quantity);
    let notional = notional.expect("below the limit checked at entry");
    let base = base_amount(quantity, instrument.lot_size);
    ledger.capture(seller.base_account, buyer.base_account, base);
    ledger.capture(buyer.quote_account, seller.quote_account, notional);
    let Some(house) = instrument.fee_account() else {
        let none = Fees {
            buyer: 0,
            seller: 0,
        };
        return (none, notional);
    };
    let mut buyer_fee = charge(notional, buyer.fee_bps).0;
    let from_hold = buyer_fee.min(*budget);
    *budget -= from_hold;
    let rounding = Amount(buyer_fee - from_hold);
    if from_hold > 0 {
        ledger.capture(buyer.quote_account, house, Amount(from_hold));
    }
    if rounding.0 > 0 {
        if ledger.check_cover(buyer.quote_account, rounding).is_ok() {
            ledger.post(buyer.quote_account, house, rounding);
        } else {
            buyer_fee = from_hold;
        }
    }
    let (seller_fee, rebates) = seller_and_rebates(notional, buyer, seller, buyer_fee);
    let (buyer_rebate, seller_rebate) = rebates;
    if seller_fee > 0 {
        ledger.post(seller.quote_account, house, Amount(seller_fee));
    }
    for (account, amount) in [
        (buyer.quote_account, buyer_rebate),
        (seller.quote_account, seller_rebate),
    ] {
        if amount > 0 {
            ledger.post(house, account, Amount(amount));
        }
    }
    let fees = Fees {
        buyer: buyer_fee as i128 - buyer_rebate as i128,
        seller: seller_fee as i128 - seller_rebate as i128,
    };
    (fees, notional)
}

/// Gives back what a resting buy, as it is after a fill, holds more than it needs for what is left:
/// what its cover reckoned above the price it paid, and what of its fee budget is too much now.
#[inline]
pub(super) fn release_improvement(
    ledger: &mut Ledger,
    instrument: &InstrumentRow,
    buy: &OrderView,
    (price, quantity): (Price, Quantity),
    budget: &mut u128,
) {
    let left = budget_left(instrument, buy.cover_price, buy.leaves, *budget);
    let mut improvement = *budget - left;
    if buy.cover_price != price {
        let at = |price| {
            instrument
                .notional(price, quantity)
                .expect("below the limit")
                .0
        };
        improvement += at(buy.cover_price) - at(price);
    }
    ledger.release(buy.quote_account, Amount(improvement));
    *budget = left;
}

/// What the seller owes out of what it gets, and what buyer and seller are paid of each other's fees.
#[inline]
pub(super) fn seller_and_rebates(
    notional: Amount,
    buyer: Party,
    seller: Party,
    buyer_fee: u128,
) -> (u128, (u128, u128)) {
    let seller_fee = charge(notional, seller.fee_bps).0.min(notional.0);
    let buyer_rebate = rebate(notional, buyer.fee_bps).0.min(seller_fee);
    let seller_rebate = rebate(notional, seller.fee_bps).0.min(buyer_fee);
    (seller_fee, (buyer_rebate, seller_rebate))
}

#[inline]
pub(super) fn charge(notional: Amount, bps: i32) -> Amount {
    if bps <= 0 {
        return Amount::ZERO;
    }
    fee_rounded_up(notional, bps.unsigned_abs()).expect("at most the notional itself")
}

#[inline]
fn rebate(notional: Amount, bps: i32) -> Amount {
    if bps >= 0 {
        return Amount::ZERO;
    }
    rebate_rounded_down(notional, bps.unsigned_abs()).expect("at most the notional itself")
}

/// What an order of `side` must hold to rest with `leaves` lots and that fee budget.
#[inline]
pub(in crate::engine) fn hold_of(
    instrument: &InstrumentRow,
    side: Side,
    price: Price,
    leaves: Quantity,
    budget: u128,
) -> Amount {
    match side {
        Side::Buy if leaves.0 == 0 => Amount(budget),
        Side::Buy => {
            let notional = instrument.notional(price, leaves);
            Amount(notional.expect("below the limit checked at entry").0 + budget)
        }
        Side::Sell => base_amount(leaves, instrument.lot_size),
    }
}

/// The account that holds an order's cover.
#[inline]
pub(in crate::engine) fn held_at(
    side: Side,
    base_account: Handle,
    quote_account: Handle,
) -> Handle {
    match side {
        Side::Buy => quote_account,
        Side::Sell => base_account,
    }
}

/// What is held for a live order as it stands.
#[inline]
pub(in crate::engine) fn held_for(instrument: &InstrumentRow, order: &OrderView) -> Amount {
    if !order.is_covered {
        return Amount::ZERO;
    }
    let (leaves, budget) = (order.leaves, order.fee_budget);
    hold_of(instrument, order.side, order.cover_price, leaves, budget)
}

/// The fee budget an order needs for what is left of it; at most what it has.
#[inline]
pub(super) fn budget_left(
    instrument: &InstrumentRow,
    price: Price,
    leaves: Quantity,
    budget: u128,
) -> u128 {
    if leaves.0 == 0 || budget == 0 {
        return 0;
    }
    let notional = instrument.notional(price, leaves);
    let notional = notional.expect("below the limit checked at entry");
    let worst = instrument.worst_fee(notional);
    worst.expect("at most the notional itself").0.min(budget)
}
