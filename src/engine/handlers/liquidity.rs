//! Liquidity: credit lines, and the saving of liquidity. Raising a line releases what waits for it;
//! lowering one below what is used takes nothing back, but lets nothing more out.

use super::payments::settle_queued;
use super::{ok, rejected};
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{
    Algorithm, CommandKind, Priority, RunLiquiditySaving, SetCreditLine, SetLiquiditySaving, Switch,
};
use crate::protocol::event::{EventKind, LiquiditySavingDone, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::Amount;
use crate::protocol::wire::Zero;

/// Sets how far an account may go below zero.
pub(in crate::engine) fn set_credit_line(
    state: &mut State,
    asked: &SetCreditLine,
    out: &mut Outbox,
) {
    let id = u128::from(asked.account.0);
    let Some(account) = state.ledger.find(asked.account) else {
        rejected(CommandKind::SetCreditLine, id, Reason::AccountNotFound, out);
        return;
    };
    if asked.amount.0 > NOTIONAL_MAX {
        rejected(
            CommandKind::SetCreditLine,
            id,
            Reason::AmountOutOfRange,
            out,
        );
        return;
    }
    // From here it succeeds.
    state.ledger.set_credit_line(account, asked.amount);
    ok(CommandKind::SetCreditLine, out);
    state.liquidity_rose(account);
}

/// Switches bypass. Offset at entry, automatic runs and a scan bound are not there yet: asking for
/// one is refused, saying that it is off is not.
pub(in crate::engine) fn set_liquidity_saving(
    state: &mut State,
    asked: &SetLiquiditySaving,
    out: &mut Outbox,
) {
    let is_on = |switch| switch == Switch::On;
    if is_on(asked.entry_offset) || is_on(asked.automatic) || asked.scan_bound != 0 {
        rejected(
            CommandKind::SetLiquiditySaving,
            0,
            Reason::NotSupported,
            out,
        );
        return;
    }
    // From here it succeeds.
    ok(CommandKind::SetLiquiditySaving, out);
    match asked.bypass {
        Switch::Keep => {}
        Switch::Off => state.saving.set_bypass(false),
        Switch::On => {
            state.saving.set_bypass(true);
            // What only its turn kept waiting may go now.
            state.look_again();
        }
    }
}

/// Runs one algorithm over everything that is queued.
pub(in crate::engine) fn run_liquidity_saving(
    state: &mut State,
    asked: &RunLiquiditySaving,
    out: &mut Outbox,
) {
    let refusal = match asked.algorithm {
        Algorithm::Bilateral | Algorithm::Multiple | Algorithm::Greedy => {
            Some(Reason::NotSupported)
        }
        Algorithm::Grp if !state.day.admits_payment(Priority::High) => Some(Reason::PhaseForbids),
        Algorithm::Grp => None,
    };
    if let Some(reason) = refusal {
        rejected(CommandKind::RunLiquiditySaving, 0, reason, out);
        return;
    }
    // From here it succeeds. The scratch is taken out so that settling may use the state.
    let mut gridlock = std::mem::take(&mut state.gridlock);
    let settle = gridlock.resolve(
        &state.payments,
        |account| state.ledger.row(account).liquidity(),
        |payment| state.ledger.row(payment.creditor).takes_any_credit(),
    );
    let mut value = Amount::ZERO;
    for payment in settle {
        let amount = state.payments.row(*payment).amount();
        value = value.checked_add(amount).expect("2^32 amounts below 2^96");
        settle_queued(state, *payment, SettledBy::Grp, out);
    }
    let settled = settle.len() as u64;
    state.gridlock = gridlock;
    let body = LiquiditySavingDone {
        algorithm: asked.algorithm,
        _reserved: [Zero::Zero; 7],
        settled,
        value,
    };
    out.push(EventKind::LiquiditySavingDone, &body);
}
