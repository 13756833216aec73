//! Collateral: pledges make credit. A pledge by command gives credit for all it is worth; automatic
//! collateral gives a group that is short of cash exactly what is missing, for securities that it
//! buys or that its buyer has. A lower value takes credit back, and where it was used calls margin.

use super::credit::is_given;
use super::{answer, ok, rejected};
use crate::engine::collateral::{PARTS_MAX, PoolRow, ValueRow, WHOLE_BPS};
use crate::engine::index::Handle;
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, Pledge, SetCollateralPool, SetCollateralValue};
use crate::protocol::event::{self, EventKind};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount};
use crate::protocol::wire::Zero;

/// Says what a security is worth as cover; every pool that holds it is valued anew.
pub(in crate::engine) fn set_collateral_value(
    state: &mut State,
    asked: &SetCollateralValue,
    out: &mut Outbox,
) {
    let kind = CommandKind::SetCollateralValue;
    let id = asked.asset.0.into();
    let Some(asset) = state.assets.find(asked.asset.0) else {
        rejected(kind, id, Reason::AssetNotFound, out);
        return;
    };
    if asked.haircut_bps > WHOLE_BPS {
        rejected(kind, id, Reason::OutOfRange, out);
        return;
    }
    // From here it succeeds.
    let value = ValueRow::new(asset, asked.price, asked.haircut_bps);
    state.collateral.set_value(value);
    ok(kind, out);
    for at in 0..state.collateral.pools().len() as u32 {
        let holds = |part| {
            let securities = state.collateral.pool(part).securities;
            state.ledger.row(securities).asset == asset
        };
        if state.collateral.is_first(at) && state.collateral.parts(at).any(holds) {
            revalue(state, at, out);
        }
    }
}

/// Gives a cash account a pool, or its pool another securities account, or changes cap and mode.
pub(in crate::engine) fn set_collateral_pool(
    state: &mut State,
    asked: &SetCollateralPool,
    out: &mut Outbox,
) {
    let result = check_pool(state, asked).map(|(cash, securities)| {
        let automatic = asked.automatic.is_yes();
        match state.collateral.find(cash) {
            Some(at) => {
                if find_part(state, at, securities).is_none() {
                    state.collateral.add(PoolRow::further(cash, securities));
                    state.payments.back(securities, cash);
                }
                state.collateral.pool_mut(at).set(asked.cap, automatic);
                at
            }
            None => {
                let at = state.collateral.pools().len() as u32;
                let pool = PoolRow::new(cash, securities, asked.cap, automatic);
                state.collateral.add(pool);
                state.payments.back(securities, cash);
                let gives = state.day.gives_credit();
                state.intraday.open(cash, gives);
                at
            }
        }
    });
    let kind = CommandKind::SetCollateralPool;
    answer(kind, asked.account.0.into(), result.map(|_| ()), out);
    if let Ok(at) = result {
        revalue(state, at, out);
    }
}

fn check_pool(state: &State, asked: &SetCollateralPool) -> Result<(Handle, Handle), Reason> {
    let cash = state.ledger.find(asked.account);
    let cash = cash.ok_or(Reason::AccountNotFound)?;
    let securities = state.ledger.find(asked.securities_account);
    let securities = securities.ok_or(Reason::AccountNotFound)?;
    let (one, other) = (state.ledger.row(cash), state.ledger.row(securities));
    if one.asset == other.asset || one.participant != other.participant {
        return Err(Reason::OutOfRange);
    }
    if asked.cap.0 > NOTIONAL_MAX {
        return Err(Reason::AmountOutOfRange);
    }
    let pool = state.collateral.find(cash);
    let is_known = pool.is_some_and(|at| find_part(state, at, securities).is_some());
    let parts = pool.map_or(0, |at| state.collateral.parts(at).count());
    if !is_known && (parts == PARTS_MAX || !state.collateral.has_room()) {
        return Err(Reason::CapacityExhausted);
    }
    Ok((cash, securities))
}

/// The row of a pool for one securities account.
fn find_part(state: &State, pool: Handle, securities: Handle) -> Option<Handle> {
    let mut parts = state.collateral.parts(pool);
    parts.find(|part| state.collateral.pool(*part).securities == securities)
}

/// Pledges securities of a pool's account: they are held, and give credit for what they are worth.
pub(in crate::engine) fn pledge_collateral(state: &mut State, asked: &Pledge, out: &mut Outbox) {
    let kind = CommandKind::PledgeCollateral;
    let found = find_pool(state, asked).and_then(|(at, part)| {
        let securities = state.collateral.pool(part).securities;
        state.ledger.check_cover(securities, asked.quantity)?;
        Ok((at, part))
    });
    let (at, part) = match found {
        Ok(found) => found,
        Err(reason) => {
            rejected(kind, asked.account.0.into(), reason, out);
            return;
        }
    };
    // From here it succeeds.
    let pool = state.collateral.pool_mut(part);
    pool.pledged += asked.quantity.0;
    state.ledger.hold(pool.securities, asked.quantity);
    ok(kind, out);
    grant(state, at, entitled(state, at));
    tell(state, part, out);
}

/// Takes pledged securities back, where what stays covers the credit that is used.
pub(in crate::engine) fn release_collateral(state: &mut State, asked: &Pledge, out: &mut Outbox) {
    let kind = CommandKind::ReleaseCollateral;
    let found = find_pool(state, asked).and_then(|(at, part)| {
        let pool = state.collateral.pool(at);
        if asked.quantity.0 > state.collateral.pool(part).pledged {
            return Err(Reason::OutOfRange);
        }
        let rest = value(state, at, |row, pool| {
            let taken = u128::from(row == part) * asked.quantity.0;
            pool.pledged - taken
        });
        let taken = pool.credit.saturating_sub(rest);
        let loan = state.intraday.find(pool.cash);
        let loan = loan.map_or(0, |at| state.intraday.rows()[at].loan);
        if state.ledger.row(pool.cash).available() < taken as i128 || loan > rest {
            return Err(Reason::InsufficientLiquidity);
        }
        Ok((at, part))
    });
    let (at, part) = match found {
        Ok(found) => found,
        Err(reason) => {
            rejected(kind, asked.account.0.into(), reason, out);
            return;
        }
    };
    // From here it succeeds.
    let pool = state.collateral.pool_mut(part);
    pool.pledged -= asked.quantity.0;
    let securities = pool.securities;
    let credit = state.collateral.pool(at).credit;
    state.ledger.release(securities, asked.quantity);
    ok(kind, out);
    grant(state, at, credit.min(worth(state, at)));
    tell(state, part, out);
    state.liquidity_rose(securities);
}

/// The pool that a pledge is for, and its row for the securities account; the first one where none
/// is named.
fn find_pool(state: &State, asked: &Pledge) -> Result<(Handle, Handle), Reason> {
    let cash = state.ledger.find(asked.account);
    let cash = cash.ok_or(Reason::AccountNotFound)?;
    if asked.quantity == Amount::ZERO {
        return Err(Reason::AmountMustNotBeZero);
    }
    if asked.quantity.0 > NOTIONAL_MAX {
        return Err(Reason::AmountOutOfRange);
    }
    let pool = state.collateral.find(cash).ok_or(Reason::PoolNotFound)?;
    if asked.securities_account.0 == 0 {
        return Ok((pool, pool));
    }
    let securities = state.ledger.find(asked.securities_account);
    let securities = securities.ok_or(Reason::AccountNotFound)?;
    let part = find_part(state, pool, securities).ok_or(Reason::PoolNotFound)?;
    Ok((pool, part))
}

/// The credit that quantities of a pool's securities are worth, at most the pool's cap.
fn value(state: &State, at: Handle, quantity: impl Fn(Handle, &PoolRow) -> u128) -> u128 {
    let asset_of = |securities| state.ledger.row(securities).asset;
    state.collateral.credit(at, asset_of, quantity)
}

/// The credit that all a pool holds is worth.
fn worth(state: &State, at: Handle) -> u128 {
    value(state, at, |_, row| row.pledged)
}

/// What a unit of a row's security covers, in parts of [`WHOLE_BPS`].
fn worth_each(state: &State, part: Handle) -> u128 {
    let securities = state.collateral.pool(part).securities;
    let asset = state.ledger.row(securities).asset;
    state.collateral.worth(asset)
}

/// The least of `has` of a row's security that covers `needed` (in parts of [`WHOLE_BPS`]), and
/// what of that it leaves uncovered.
fn cover(state: &State, part: Handle, needed: u128, has: u128) -> (u128, u128) {
    match worth_each(state, part) {
        0 => (0, needed),
        each => {
            let quantity = needed.div_ceil(each).min(has);
            (quantity, needed.saturating_sub(quantity * each))
        }
    }
}

/// What of `credit` a pool's pledges do not cover yet, in parts of [`WHOLE_BPS`].
fn uncovered(state: &State, at: Handle, credit: u128) -> u128 {
    let whole = credit * u128::from(WHOLE_BPS);
    state.collateral.parts(at).fold(whole, |needed, part| {
        let pledged = state.collateral.pool(part).pledged;
        needed.saturating_sub(pledged.saturating_mul(worth_each(state, part)))
    })
}

/// The credit that all a pool holds gives now: by night nothing, but for automatic credit that is not
/// repaid.
fn entitled(state: &State, at: Handle) -> u128 {
    let (pool, worth) = (state.collateral.pool(at), worth(state, at));
    if is_given(state, pool.cash) {
        worth
    } else if pool.is_automatic() {
        pool.credit.min(worth)
    } else {
        0
    }
}

/// Makes the credit that a pool gives `credit`, in its account's line.
fn grant(state: &mut State, at: Handle, credit: u128) {
    let pool = state.collateral.pool_mut(at);
    let (cash, before) = (pool.cash, pool.credit);
    pool.credit = credit;
    let line = state.ledger.row(cash).credit_line - before + credit;
    state.ledger.set_credit_line(cash, Amount(line));
    if credit > before {
        state.liquidity_rose(cash);
    }
}

/// Values a pool anew. What an automatic pool gave stays, as far as it is covered.
fn revalue(state: &mut State, at: Handle, out: &mut Outbox) {
    let (pool, worth) = (*state.collateral.pool(at), worth(state, at));
    // What waits may be worth its cover now.
    state.liquidity_rose(pool.cash);
    let credit = if pool.is_automatic() {
        pool.credit.min(worth)
    } else {
        entitled(state, at)
    };
    if credit == pool.credit {
        return;
    }
    grant(state, at, credit);
    tell(state, at, out);
    let available = state.ledger.row(pool.cash).available();
    if available < 0 {
        let body = event::MarginCall {
            account: AccountId(state.ledger.row(pool.cash).id),
            _reserved: [Zero::Zero; 8],
            shortfall: Amount(available.unsigned_abs()),
        };
        out.push(EventKind::MarginCall, &body);
    }
}

/// Says where a pool stands: what it holds on one securities account, and all its credit.
fn tell(state: &State, part: Handle, out: &mut Outbox) {
    let pool = state.collateral.pool(part);
    let body = event::Collateral {
        account: AccountId(state.ledger.row(pool.cash).id),
        securities_account: AccountId(state.ledger.row(pool.securities).id),
        pledged: Amount(pool.pledged),
        credit: Amount(credit_of(state, pool.cash)),
    };
    out.push(EventKind::Collateral, &body);
}

/// What automatic collateral would do for a group.
#[derive(Clone, Copy)]
pub(super) struct AutoPledge {
    pool: Handle,
    credit: u128,
}

/// The pledge that would give `cash` the `missing` cash, out of what its securities accounts have and
/// get (`incoming`), in the order in which they joined the pool; `None` where the pool, the cap or the
/// securities do not reach.
pub(super) fn plan_pledge(
    state: &State,
    cash: Handle,
    missing: u128,
    incoming: impl Fn(Handle) -> i128,
) -> Option<AutoPledge> {
    let at = state.collateral.find(cash)?;
    let pool = state.collateral.pool(at);
    if !pool.is_automatic() || pool.credit + missing > pool.cap || !is_given(state, cash) {
        return None;
    }
    let mut needed = uncovered(state, at, pool.credit + missing);
    for part in state.collateral.parts(at) {
        let securities = state.collateral.pool(part).securities;
        let has = state.ledger.row(securities).available() + incoming(securities);
        let has = u128::try_from(has).unwrap_or(0);
        (_, needed) = cover(state, part, needed, has);
    }
    (needed == 0).then_some(AutoPledge {
        pool: at,
        credit: missing,
    })
}

/// Gives the credit of a planned pledge. The securities follow with [`hold_pledge`], when the group
/// has brought them.
pub(super) fn give_credit(state: &mut State, pledge: AutoPledge) {
    let credit = state.collateral.pool(pledge.pool).credit;
    grant(state, pledge.pool, credit + pledge.credit);
}

/// Holds the securities of a planned pledge: what its accounts have now is what was foreseen.
pub(super) fn hold_pledge(state: &mut State, pledge: AutoPledge, out: &mut Outbox) {
    let credit = state.collateral.pool(pledge.pool).credit;
    let mut needed = uncovered(state, pledge.pool, credit);
    let mut next = Some(pledge.pool);
    while let Some(part) = next {
        let pool = *state.collateral.pool(part);
        next = pool.next();
        let has = state.ledger.row(pool.securities).available();
        let (quantity, rest) = cover(state, part, needed, u128::try_from(has).unwrap_or(0));
        needed = rest;
        if quantity > 0 {
            state.collateral.pool_mut(part).pledged += quantity;
            state.ledger.hold(pool.securities, Amount(quantity));
        }
        if quantity > 0 || part == pledge.pool {
            tell(state, part, out);
        }
    }
    debug_assert_eq!(needed, 0, "what was foreseen covers it");
}

/// The day is over: what pledges by command gave ends with it.
pub(super) fn withdraw(state: &mut State, out: &mut Outbox) {
    for at in 0..state.collateral.pools().len() as u32 {
        let pool = state.collateral.pool(at);
        if !pool.is_automatic() && pool.credit > 0 {
            grant(state, at, 0);
            tell(state, at, out);
        }
    }
}

/// Credit for the day is back: what was pledged by command gives it again.
pub(super) fn give_again(state: &mut State, cash: Handle, out: &mut Outbox) {
    let Some(at) = state.collateral.find(cash) else {
        return;
    };
    let pool = *state.collateral.pool(at);
    let credit = worth(state, at);
    if !pool.is_automatic() && credit != pool.credit {
        grant(state, at, credit);
        tell(state, at, out);
    }
}

/// The day is over: automatic credit is repaid as far as there is cash, and what covered it goes
/// free. What cannot be repaid is called.
pub(super) fn repay(state: &mut State, out: &mut Outbox) {
    for at in 0..state.collateral.pools().len() as u32 {
        let pool = *state.collateral.pool(at);
        if !pool.is_automatic() || pool.credit == 0 {
            continue;
        }
        let available = state.ledger.row(pool.cash).available();
        let repaid = u128::try_from(available).unwrap_or(0).min(pool.credit);
        let credit = pool.credit - repaid;
        grant(state, at, credit);
        free(state, at, out);
        if credit > 0 {
            let body = event::MarginCall {
                account: AccountId(state.ledger.row(pool.cash).id),
                _reserved: [Zero::Zero; 8],
                shortfall: Amount(credit),
            };
            out.push(EventKind::MarginCall, &body);
        }
    }
}

/// Frees what a pool's credit does not need, the securities accounts that joined first kept first.
fn free(state: &mut State, at: Handle, out: &mut Outbox) {
    let credit = state.collateral.pool(at).credit;
    let mut needed = credit * u128::from(WHOLE_BPS);
    let mut next = Some(at);
    while let Some(part) = next {
        let row = *state.collateral.pool(part);
        next = row.next();
        let (keep, rest) = cover(state, part, needed, row.pledged);
        needed = rest;
        if keep < row.pledged {
            state.collateral.pool_mut(part).pledged = keep;
            let freed = Amount(row.pledged - keep);
            state.ledger.release(row.securities, freed);
        }
        if keep < row.pledged || part == at {
            tell(state, part, out);
        }
    }
}

/// The credit that pledges give an account.
pub(super) fn credit_of(state: &State, cash: Handle) -> u128 {
    let pool = state.collateral.find(cash);
    pool.map_or(0, |at| state.collateral.pool(at).credit)
}
