//! Explain: why a waiting payment waits, and what would release it.

use super::{groups, release};
use crate::engine::index::Handle;
use crate::engine::settlement::together::{Obstacle, Together};
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

impl Explanation {
    fn new(reason: Reason) -> Explanation {
        Explanation {
            reason,
            short_of: Amount::ZERO,
            ahead: None,
        }
    }
}

/// Explains payments one after the other. It remembers what the last group waits for and what it
/// moves, since legs of one group often stand together.
#[derive(Default)]
pub(super) struct Explainer {
    group: Option<(Handle, Option<Obstacle>)>,
    together: Together,
    legs: Vec<Handle>,
}

impl Explainer {
    /// Why a waiting payment waits: it is kept back, another comes first, or it is short of
    /// something. A leg waits for what its account is short of, or else for its group.
    pub(super) fn explain(&mut self, state: &State, payment: Handle) -> Explanation {
        let row = state.payments.row(payment);
        if let Some(reason) = row.kept_back_by() {
            return Explanation::new(reason);
        }
        if let Some(group) = row.group() {
            return match self.obstacle(state, group) {
                // It may go, and will when release gets to it.
                None => Explanation::new(Reason::Created),
                Some(first) => match self.own_obstacle(state, first, row.debtor) {
                    None => Explanation::new(Reason::GroupWaits),
                    Some(own) => Explanation {
                        reason: own.reason,
                        short_of: Amount(own.short_of),
                        ahead: own.ahead,
                    },
                },
            };
        }
        let ahead = state.payments.ahead_of(payment, state.saving.bypass());
        if ahead.is_some() {
            return Explanation {
                ahead,
                ..Explanation::new(Reason::BehindHigherPriority)
            };
        }
        explain_alone(state, payment)
    }

    /// What a waiting group waits for now.
    pub(super) fn obstacle(&mut self, state: &State, group: Handle) -> Option<Obstacle> {
        match self.group {
            Some((last, obstacle)) if last == group => obstacle,
            _ => {
                let (together, legs) = (&mut self.together, &mut self.legs);
                together.clear();
                let obstacle = groups::find_obstacle(state, group, together, legs);
                self.group = Some((group, obstacle));
                obstacle
            }
        }
    }

    /// What one account of the group asked about last is short of itself, where `first` is what the
    /// group waits for.
    fn own_obstacle(&self, state: &State, first: Obstacle, account: Handle) -> Option<Obstacle> {
        if first.account == account {
            return Some(first);
        }
        let liquidity = |account| state.ledger.row(account).liquidity();
        let bypass = state.saving.bypass();
        let (payments, legs) = (&state.payments, &self.legs);
        let fits = self
            .together
            .check_account(payments, legs, account, bypass, liquidity);
        fits.err()
    }
}

/// What a payment that comes first is short of.
fn explain_alone(state: &State, payment: Handle) -> Explanation {
    let row = state.payments.row(payment);
    let sides = (row.debtor, row.creditor);
    let reason = match release::check(state, sides, row.amount(), row.class()) {
        // It may go, and will when release gets to it.
        Ok(()) => return Explanation::new(Reason::Created),
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
        ..Explanation::new(reason)
    }
}
