//! Explain: why a waiting payment waits, and what would release it.

use super::release;
use crate::engine::index::Handle;
use crate::engine::state::State;
use crate::protocol::reason::Reason;
use crate::protocol::units::Amount;

/// Why a payment waits.
pub(super) struct Explanation {
    pub(super) reason: Reason,
    /// Minor units that are short: of money, of what is not reserved, or of a limit.
    pub(super) short_of: Amount,
    /// The payment it waits behind.
    pub(super) ahead: Option<Handle>,
}

/// Why a waiting payment waits: it is kept back, another comes first, or it is short of something.
pub(super) fn explain(state: &State, payment: Handle) -> Explanation {
    let row = state.payments.row(payment);
    let simply = |reason| Explanation {
        reason,
        short_of: Amount::ZERO,
        ahead: None,
    };
    if let Some(reason) = row.kept_back_by() {
        return simply(reason);
    }
    if !super::payments::may_settle(state) {
        return simply(Reason::PhaseForbids);
    }
    let ahead = state.payments.ahead_of(payment, state.saving.bypass());
    if ahead.is_some() {
        return Explanation {
            ahead,
            ..simply(Reason::BehindHigherPriority)
        };
    }
    if let Some(group) = row.group() {
        // What the group as a whole waits for.
        return simply(state.groups.row(group).reason());
    }
    let sides = (row.debtor, row.creditor);
    let reason = match release::check(state, sides, row.amount(), row.class()) {
        // It may go, and will when release gets to it.
        Ok(()) => return simply(Reason::Created),
        Err(reason) => reason,
    };
    let short_of = match reason {
        Reason::InsufficientLiquidity | Reason::Reserved => {
            release::spendable(state, row.debtor, row.class())
                .map_or(0, |left| row.amount as i128 - left)
        }
        Reason::LimitBilateral | Reason::LimitMultilateral => state
            .payments
            .room_toward(row.debtor, row.creditor)
            .map_or(0, |(room, _)| row.amount as i128 - room),
        _ => 0,
    };
    Explanation {
        short_of: Amount(u128::try_from(short_of).unwrap_or(0)),
        ..simply(reason)
    }
}
