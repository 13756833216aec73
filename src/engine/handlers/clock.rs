//! The business day and the clock: what time and phases bring with them.

use super::{ok, orders, payments, rejected};
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, SetPhase};
use crate::protocol::reason::Reason;

/// Moves the business day on and does the work of every phase passed.
pub(in crate::engine) fn set_phase(state: &mut State, asked: &SetPhase, out: &mut Outbox) {
    let Some(work) = state.day.work_until(asked.phase) else {
        rejected(CommandKind::SetPhase, 0, Reason::PhaseOutOfOrder, out);
        return;
    };
    // From here it succeeds.
    ok(CommandKind::SetPhase, out);
    if work.ends_day {
        payments::reject_queued(state, out);
        orders::expire_day_orders(state, out);
    }
    state.day.move_to(asked.phase, work);
    // What only the phase kept waiting may go now.
    state.look_again();
    if work.starts_day {
        state.matching.roll_day();
    }
}

/// Lets time pass. Nothing waits for time yet.
pub(in crate::engine) fn tick(out: &mut Outbox) {
    ok(CommandKind::Tick, out);
}
