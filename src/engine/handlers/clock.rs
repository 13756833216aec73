//! The business day and the clock: what time and phases bring with them.

use super::{
    approvals, authorisations, credit, cycles, groups, ok, orders, payments, rejected, saving,
    schedule, transfers,
};
use crate::engine::business_day::PhaseWork;
use crate::engine::deadlines::Due;
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::settlement::payment::{INSTANT, WAITS_FOR_DAY};
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, DayPhase, SetPhase};
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
    move_on(state, asked.phase, (work, date), out);
}

/// Does the work of every phase passed. `date` is the business date from then on.
pub(super) fn move_on(
    state: &mut State,
    phase: DayPhase,
    (work, date): (PhaseWork, u32),
    out: &mut Outbox,
) {
    schedule::pass(state, phase);
    if work.ends_day {
        // First, so that credit is repaid out of what trading brought.
        cycles::end_day(state, out);
        payments::reject_queued(state, out);
        state.ledger.because(Cause::Day);
        credit::end_day(state, out);
    }
    let took_orders = state.day.admits_order();
    state.day.move_to(phase, work, date);
    if work.ends_day {
        // In the new phase, which takes no orders: what the cancels uncover wakes nothing.
        orders::expire_day_orders(state, out);
        cycles::give_back(state);
    }
    // What only the phase kept waiting may go now.
    mark_waiting_for_day(state);
    state.look_again();
    if work.starts_day {
        approvals::start_day(state, out);
        credit::start_day(state, out);
        state.throttles.start_day();
        payments::start_day(state, out);
        state.matching.roll_day();
        state.transfers.roll();
        state.authorisations.roll();
        state.authorisation_steps.roll();
    }
    if !took_orders && state.day.admits_order() {
        orders::wake_quoted(state, out);
    }
    state.ledger.because(Cause::Command);
}

/// Keeps back every waiting payment that asks the phase where that settles nothing, and no other.
fn mark_waiting_for_day(state: &mut State) {
    let settles = state.day.settles();
    for payment in state.payments.queue_order() {
        let row = state.payments.row(payment);
        let waits = !settles && !row.has(INSTANT);
        if row.has(WAITS_FOR_DAY) != waits {
            state.payments.set_flag(payment, WAITS_FOR_DAY, waits);
        }
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
            Some(Due::Phase(phase)) => schedule::begin(state, phase, out),
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
