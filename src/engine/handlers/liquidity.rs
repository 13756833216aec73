//! Liquidity: credit lines. Raising one releases what waits for it; lowering one below what is used
//! takes nothing back, but lets nothing more out.

use super::{ok, rejected};
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, SetCreditLine};
use crate::protocol::reason::Reason;

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
