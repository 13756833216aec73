//! Every invariant over the whole state: each room's own, and those that hold between rooms. Runs
//! after every command in tests, before a snapshot is written, and in `millrace verify`.

use super::Engine;
use super::handlers::fills::hold_of;
use super::state::State;
use crate::protocol::command::{Priority, Side};

impl Engine {
    /// Every invariant over the whole state; the error says which one broke and where.
    ///
    /// - per asset, debits equal credits, posted and pending;
    /// - what accounts hold is exactly what live orders hold;
    /// - queues, books and indexes agree with their rows;
    /// - no covered payment stands at the head of a queue (nothing waits without a reason).
    pub fn audit(&self) -> Result<(), String> {
        let state = &self.state;
        state.ledger.audit(state.assets.rows().len())?;
        state.transfers.audit()?;
        state.payments.audit()?;
        state.matching.audit()?;
        audit_holds(state)?;
        audit_queue_heads(state)
    }
}

/// The sum of what live orders hold on an account is what the account says is held.
fn audit_holds(state: &State) -> Result<(), String> {
    let mut held = vec![0u128; state.ledger.rows().len()];
    for (handle, instrument) in state.instruments.rows().iter().enumerate() {
        for side in [Side::Buy, Side::Sell] {
            state.matching.for_each_order(handle as u32, side, |order| {
                let account = match side {
                    Side::Buy => order.quote_account,
                    Side::Sell => order.base_account,
                };
                let (leaves, budget) = (order.leaves, order.fee_budget);
                let hold = hold_of(instrument, side, order.price, leaves, budget);
                held[account as usize] += hold.0;
            });
        }
    }
    for (row, held) in state.ledger.rows().iter().zip(held) {
        if row.held != held {
            return Err(format!(
                "account {}: holds {}, its orders hold {held}",
                row.id, row.held
            ));
        }
    }
    Ok(())
}

fn audit_queue_heads(state: &State) -> Result<(), String> {
    if !state.day.admits_payment(Priority::High) {
        return Ok(());
    }
    for account in 0..state.ledger.rows().len() as u32 {
        if let Some(first) = state.payments.iter(account).next() {
            let row = state.payments.row(first);
            let cover = state
                .ledger
                .check_post(row.debtor, row.creditor, row.amount());
            if cover.is_ok() {
                return Err(format!(
                    "payment {}: waits at the head though covered",
                    row.id
                ));
            }
        }
    }
    Ok(())
}
