//! Participants: what each may do. Payments of a participant that may not pay, or to one that may
//! not receive, keep their place and take no part until it may again; what is settled stays settled.
//! One that may not do both trades no more: its orders are cancelled, and new ones refused.

use super::{groups, ok, orders, rejected};
use crate::engine::outbox::Outbox;
use crate::engine::settlement::payment::BLOCKED;
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, Priority, QueryParticipants, SetParticipantState};
use crate::protocol::event::{EventKind, Participant, Participants};
use crate::protocol::reason::Reason;
use crate::protocol::units::ParticipantId;
use crate::protocol::wire::Zero;

/// Participants one answer to query_participants lists; the head counts all.
const PARTICIPANTS_MAX: usize = 1_024;

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
    for at in 0..state.payments.desks().len() {
        let account = state.payments.desks()[at].account;
        for class in Priority::ALL {
            let mut next = state.payments.head(account, *class);
            while let Some(payment) = next {
                next = state.payments.next_ahead(payment);
                let row = state.payments.row(payment);
                let is_blocked = state.ledger.check_open(row.debtor, row.creditor).is_err();
                if row.has(BLOCKED) != is_blocked {
                    state.payments.set_flag(payment, BLOCKED, is_blocked);
                }
            }
        }
    }
}

/// All participants, or those of a group, as they were created.
pub(in crate::engine) fn query_participants(
    state: &State,
    asked: &QueryParticipants,
    out: &mut Outbox,
) {
    let rows = state.participants.rows().iter();
    let asked_for = rows.filter(|row| asked.group == 0 || row.group == asked.group);
    let body = Participants {
        count: asked_for.clone().count() as u32,
        _reserved: [Zero::Zero; 12],
    };
    out.push(EventKind::Participants, &body);
    for row in asked_for.take(PARTICIPANTS_MAX) {
        let body = Participant {
            participant: ParticipantId(row.id),
            group: row.group,
            state: row.state(),
            _reserved: [Zero::Zero; 7],
            code: row.code,
        };
        out.push(EventKind::Participant, &body);
    }
}
