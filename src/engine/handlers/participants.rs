//! Participants: what each may do. Payments of a participant that may not pay, or to one that may
//! not receive, keep their place and take no part until it may again; what is settled stays settled.
//! One that may not do both trades no more: its orders are cancelled, and new ones refused.

use super::{groups, ok, orders, rejected};
use crate::engine::outbox::Outbox;
use crate::engine::settlement::payment::BLOCKED;
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, SetParticipantState};
use crate::protocol::reason::Reason;

/// Sets what a participant may do.
pub(in crate::engine) fn set_participant_state(
    state: &mut State,
    asked: &SetParticipantState,
    out: &mut Outbox,
) {
    let kind = CommandKind::SetParticipantState;
    let Some(participant) = state.participants.find(asked.participant.0) else {
        let id = asked.participant.0.into();
        rejected(kind, id, Reason::ParticipantNotFound, out);
        return;
    };
    // From here it succeeds.
    state
        .participants
        .row_mut(participant)
        .set_state(asked.state);
    let row = state.participants.row(participant);
    let (may_pay, may_receive) = (row.may_pay(), row.may_receive());
    state.ledger.set_may(participant, may_pay, may_receive);
    mark_blocked(state);
    ok(kind, out);
    groups::pay_out_delayed(state, out);
    if !state.participants.row(participant).may_trade() {
        orders::cancel_blocked(state, participant, out);
    }
    state.look_again();
}

/// Keeps back every waiting payment whose participants or closed accounts do not allow it, and no
/// other.
pub(in crate::engine) fn mark_blocked(state: &mut State) {
    for payment in state.payments.queue_order() {
        let row = state.payments.row(payment);
        let is_blocked = state.ledger.check_open(row.debtor, row.creditor).is_err();
        if row.has(BLOCKED) != is_blocked {
            state.payments.set_flag(payment, BLOCKED, is_blocked);
        }
    }
}
