//! Batches found outside: a solver works on a copy of the state and proposes what should settle
//! together. Nothing it says is believed: the batch settles whole if every constraint holds now,
//! and else not at all.

use super::payments::may_settle;
use super::rejected;
use super::saving::{Tally, done, settle_all};
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{Algorithm, BatchItem, CommandKind, ProposeBatch};
use crate::protocol::event::{PaymentState, SettledBy};
use crate::protocol::reason::Reason;

/// Settles a batch if it is feasible.
pub(in crate::engine) fn propose_batch(
    state: &mut State,
    asked: &ProposeBatch,
    items: &[BatchItem],
    out: &mut Outbox,
) {
    let mut batch = std::mem::take(&mut state.offset);
    batch.clear();
    let result = check(state, asked, items, &mut batch);
    match result {
        Err(reason) => rejected(CommandKind::ProposeBatch, 0, reason, out),
        Ok(()) => {
            // From here it succeeds.
            let mut tally = Tally::default();
            settle_all(state, &batch, SettledBy::Batch, &mut tally, out);
            done(Algorithm::Batch, tally, out);
        }
    }
    batch.clear();
    state.offset = batch;
}

/// Gathers the batch and checks it. What has settled or was taken back since it was computed makes
/// it stale; whatever else is wrong makes it infeasible.
fn check(
    state: &mut State,
    asked: &ProposeBatch,
    items: &[BatchItem],
    batch: &mut Vec<Handle>,
) -> Result<(), Reason> {
    if !may_settle(state) {
        return Err(Reason::PhaseForbids);
    }
    if items.is_empty() || asked.based_on_seq >= state.risen.sequence {
        return Err(Reason::OutOfRange);
    }
    for item in items {
        gather(state, item, batch)?;
        // More than there are: one of them is named twice. A group that is named over and over
        // would else fill the memory.
        if batch.len() > state.payments.rows().len() {
            return Err(Reason::BatchInfeasible);
        }
    }
    batch.sort_unstable();
    let is_doubled = batch.windows(2).any(|pair| pair[0] == pair[1]);
    let is_barred = |payment: &Handle| {
        let row = state.payments.row(*payment);
        row.is_late(state.now)
            || !state.ledger.row(row.creditor).takes_any_credit()
            || !state.ledger.row(row.debtor).gives_any_debit()
    };
    if is_doubled || batch.iter().any(is_barred) {
        return Err(Reason::BatchInfeasible);
    }
    let mut together = std::mem::take(&mut state.together);
    let bypass = state.saving.bypass();
    let fits = together.check(&state.payments, batch, bypass, |account| {
        state.ledger.row(account).liquidity()
    });
    state.together = together;
    fits.map_err(|_| Reason::BatchInfeasible)
}

/// Adds a payment, or all legs of a group.
fn gather(state: &State, item: &BatchItem, batch: &mut Vec<Handle>) -> Result<(), Reason> {
    if let Some(payment) = state.payments.find(item.id) {
        if !state.payments.row(payment).is_waiting() {
            return Err(Reason::BatchStale);
        }
        batch.push(payment);
        return Ok(());
    }
    let group = state.groups.find(item.id).ok_or(Reason::PaymentNotFound)?;
    let row = state.groups.row(group);
    if row.state() != PaymentState::Queued {
        return Err(Reason::BatchStale);
    }
    let first = Some(row.first_leg());
    batch.extend(std::iter::successors(first, |leg| {
        state.payments.next_leg(*leg)
    }));
    Ok(())
}
