//! Intraday credit at the seams of the day. At eod1 it ends: lines for the day and what pledges give
//! are taken back, what of them was used is due, and what cannot be repaid is lent overnight by a
//! named account, or stays outstanding. In the morning it comes back, and what was lent is repaid.
//!
//! An account that stands below its line pays nothing: taking the line back is what blocks its
//! debits, and money that comes in is what lifts that.

use super::{answer, collateral, rejected};
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::state::State;
use crate::protocol::command::{AccountRef, CommandKind, SetOvernightCredit};
use crate::protocol::event::{self, EventKind, IntradayCreditOutstanding, OvernightCredit};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount};
use crate::protocol::wire::Zero;

/// Names the account that lends overnight what another has not repaid, or none.
pub(in crate::engine) fn set_overnight_credit(
    state: &mut State,
    asked: &SetOvernightCredit,
    out: &mut Outbox,
) {
    let result = check_lender(state, asked).map(|(account, lender)| {
        // From here it succeeds.
        let gives = state.day.gives_credit();
        state.intraday.open(account, gives).set_lender(lender);
    });
    let kind = CommandKind::SetOvernightCredit;
    answer(kind, asked.account.0.into(), result, out);
}

fn check_lender(
    state: &State,
    asked: &SetOvernightCredit,
) -> Result<(Handle, Option<Handle>), Reason> {
    let find = |id| state.ledger.find(id).ok_or(Reason::AccountNotFound);
    let account = find(asked.account)?;
    let lender = match asked.lender_account.0 {
        0 => None,
        _ => Some(find(asked.lender_account)?),
    };
    if lender == Some(account) {
        return Err(Reason::AccountsMustBeDifferent);
    }
    if lender
        .is_some_and(|lender| state.ledger.row(lender).asset != state.ledger.row(account).asset)
    {
        return Err(Reason::AccountsMustHaveTheSameLedger);
    }
    let row = state.intraday.find(account);
    let row = row.map(|at| &state.intraday.rows()[at]);
    match row {
        Some(row) if row.loan > 0 && row.lender() != lender => {
            Err(Reason::OvernightCreditOutstanding)
        }
        _ => Ok((account, lender)),
    }
}

/// Sets the line of an account: one for the day, or one that stays.
pub(super) fn set_line(state: &mut State, account: Handle, amount: Amount, is_permanent: bool) {
    let pledged = collateral::credit_of(state, account);
    let mut given = amount.0;
    if !is_permanent {
        let gives = state.day.gives_credit();
        let row = state.intraday.open(account, gives);
        row.line = amount.0;
        given = row.given();
    } else if let Some(at) = state.intraday.find(account) {
        state.intraday.row_mut(at).line = 0;
    }
    state
        .ledger
        .set_credit_line(account, Amount(given + pledged));
}

/// Whether lines for the day and pledges give an account credit now: by day, unless it owes from
/// the day before.
pub(super) fn is_given(state: &State, account: Handle) -> bool {
    match state.intraday.find(account) {
        Some(at) => state.intraday.rows()[at].is_in_force(),
        None => state.day.gives_credit(),
    }
}

/// What an account with a floor is below what it may be, minor units.
fn shortfall(state: &State, account: Handle, line: u128) -> u128 {
    let row = state.ledger.row(account);
    if row.liquidity().is_none() {
        return 0;
    }
    let funds = row.credits_posted.saturating_add(line);
    row.debits_posted.saturating_sub(funds)
}

/// The day ends: credit for the day ends with it.
pub(super) fn end_day(state: &mut State, out: &mut Outbox) {
    for at in 0..state.intraday.rows().len() {
        let row = state.intraday.rows()[at];
        let line = state.ledger.row(row.account).credit_line - row.given();
        state.ledger.set_credit_line(row.account, Amount(line));
        state.intraday.row_mut(at).set_in_force(false);
    }
    collateral::withdraw(state, out);
    for at in 0..state.intraday.rows().len() {
        let account = state.intraday.rows()[at].account;
        if !lend(state, at, out) {
            let line = state.ledger.row(account).credit_line;
            let due = shortfall(state, account, line);
            if due > 0 {
                let body = IntradayCreditOutstanding {
                    account: AccountId(state.ledger.row(account).id),
                    _reserved: [Zero::Zero; 8],
                    amount: Amount(due),
                };
                out.push(EventKind::IntradayCreditOutstanding, &body);
            }
        }
    }
    collateral::repay(state, out);
}

/// Lends an account overnight what it has not repaid, automatic credit on pledges included; returns
/// whether its lender did.
fn lend(state: &mut State, at: usize, out: &mut Outbox) -> bool {
    let row = state.intraday.rows()[at];
    let Some(lender) = row.lender() else {
        return false;
    };
    let pledged = collateral::credit_of(state, row.account);
    let permanent = state.ledger.row(row.account).credit_line - pledged;
    let due = Amount(shortfall(state, row.account, permanent));
    let can = state.ledger.check_post(lender, row.account, due);
    if due == Amount::ZERO || can.is_err() {
        return false;
    }
    move_loan(state, (lender, row.account), due);
    state.intraday.row_mut(at).loan += due.0;
    tell_loan(state, at, (due, Amount::ZERO), out);
    true
}

/// A day starts: credit for the day comes back, but for whoever still owes; then loans are repaid.
pub(super) fn start_day(state: &mut State, out: &mut Outbox) {
    if !state.day.gives_credit() {
        return;
    }
    for at in 0..state.intraday.rows().len() {
        let row = state.intraday.rows()[at];
        let line = state.ledger.row(row.account).credit_line;
        if !row.is_in_force() && shortfall(state, row.account, line) == 0 {
            state.intraday.row_mut(at).set_in_force(true);
            let raised = Amount(line + row.line);
            state.ledger.set_credit_line(row.account, raised);
            collateral::give_again(state, row.account, out);
            state.liquidity_rose(row.account);
        }
        repay_loan(state, at, out);
    }
}

/// Repays a loan as far as the account can, its line for the day included.
fn repay_loan(state: &mut State, at: usize, out: &mut Outbox) {
    let row = state.intraday.rows()[at];
    let Some(lender) = row.lender().filter(|_| row.loan > 0) else {
        return;
    };
    let available = state.ledger.row(row.account).available();
    let repaid = Amount(u128::try_from(available).unwrap_or(0).min(row.loan));
    let can = state.ledger.check_post(row.account, lender, repaid);
    if repaid == Amount::ZERO || can.is_err() {
        return;
    }
    move_loan(state, (row.account, lender), repaid);
    state.intraday.row_mut(at).loan -= repaid.0;
    tell_loan(state, at, (Amount::ZERO, repaid), out);
}

fn move_loan(state: &mut State, (from, to): (Handle, Handle), amount: Amount) {
    state.ledger.because(Cause::Day);
    state.ledger.post(from, to, amount);
    state.liquidity_rose(to);
}

fn tell_loan(state: &State, at: usize, (drawn, repaid): (Amount, Amount), out: &mut Outbox) {
    let row = state.intraday.rows()[at];
    let lender = row.lender().expect("a loan has a lender");
    let body = OvernightCredit {
        account: AccountId(state.ledger.row(row.account).id),
        lender_account: AccountId(state.ledger.row(lender).id),
        drawn,
        repaid,
        outstanding: Amount(row.loan),
    };
    out.push(EventKind::OvernightCredit, &body);
}

/// An account's credit, part by part.
pub(in crate::engine) fn query_credit(state: &State, asked: &AccountRef, out: &mut Outbox) {
    let Some(account) = state.ledger.find(asked.account) else {
        let id = u128::from(asked.account.0);
        rejected(CommandKind::QueryCredit, id, Reason::AccountNotFound, out);
        return;
    };
    let row = state.intraday.find(account);
    let row = row.map(|at| state.intraday.rows()[at]);
    let pledged = collateral::credit_of(state, account);
    let given = row.map_or(0, |row| row.given());
    let body = event::Credit {
        account: asked.account,
        lender_account: AccountId(
            row.and_then(|row| row.lender())
                .map_or(0, |lender| state.ledger.row(lender).id),
        ),
        permanent: Amount(state.ledger.row(account).credit_line - pledged - given),
        intraday: Amount(row.map_or(0, |row| row.line)),
        pledged: Amount(pledged),
        overnight: Amount(row.map_or(0, |row| row.loan)),
        in_force: is_given(state, account).into(),
        _reserved: [Zero::Zero; 15],
    };
    out.push(EventKind::Credit, &body);
}
