//! The business day and the clock: what time and phases bring with them.

use super::{
    approvals, authorisations, collateral, groups, ok, orders, payments, rejected, saving,
    transfers,
};
use crate::engine::deadlines::Due;
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, SetPhase};
use crate::protocol::reason::Reason;

/// Moves the business day on and does the work of every phase passed.
pub(in crate::engine) fn set_phase(state: &mut State, asked: &SetPhase, out: &mut Outbox) {
    let Some(work) = state.day.work_until(asked.phase) else {
        rejected(CommandKind::SetPhase, 0, Reason::PhaseOutOfOrder, out);
        return;
    };
    let Some(date) = state.day.date_after(work, asked.business_date) else {
        let reason = Reason::BusinessDateOutOfOrder;
        rejected(CommandKind::SetPhase, 0, reason, out);
        return;
    };
    // From here it succeeds.
    ok(CommandKind::SetPhase, out);
    if work.ends_day {
        payments::reject_queued(state, out);
        collateral::repay(state, out);
        orders::expire_day_orders(state, out);
    }
    state.day.move_to(asked.phase, work, date);
    // What only the phase kept waiting may go now.
    state.look_again();
    if work.starts_day {
        payments::start_day(state, out);
        state.matching.roll_day();
        state.transfers.roll();
        state.authorisations.roll();
        state.authorisation_steps.roll();
        state.throttles.start_day();
        approvals::start_day(state, out);
    }
}

/// What comes due before one command at most, orders aside; what is left comes due before the next
/// ones, for which node and script see to it that there are some.
const LAPSES_PER_COMMAND: usize = 256;

/// Does what has come due by now, the earliest first, before a command sees the state.
#[cold]
pub(in crate::engine) fn let_lapse(state: &mut State, out: &mut Outbox) {
    let mut lapses = 0;
    while lapses < LAPSES_PER_COMMAND {
        lapses += 1;
        match state.deadlines.pop_due(state.now) {
            Some(Due::Transfer(handle)) => transfers::expire(state, handle, out),
            Some(Due::Authorisation(handle)) => authorisations::expire(state, handle, out),
            Some(Due::Order(slot)) => {
                // No order may trade when its time is over, however many there are.
                lapses -= 1;
                orders::expire_order(state, slot, out);
            }
            Some(Due::Payment(handle)) => payments::come_due(state, handle, out),
            Some(Due::Group(handle)) => groups::come_due(state, handle, out),
            Some(Due::Saving) => saving::run_by_clock(state, out),
            Some(Due::Proposal(id)) => approvals::expire(state, id, out),
            None => break,
        }
    }
    state.ledger.because(Cause::Command);
}

/// Lets time pass: what has come due by then was done before.
pub(in crate::engine) fn tick(out: &mut Outbox) {
    ok(CommandKind::Tick, out);
}
