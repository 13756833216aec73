//! Four eyes: one user proposes an administrative command, another approves or rejects it. What is
//! approved is executed in the command that approves it, as if it had been given then.

use super::{administration, answer, ok, rejected};
use crate::engine::approvals::ProposalRow;
use crate::engine::deadlines::{Due, NO_DEADLINE};
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{
    Command, CommandKind, CommandWord, ProposalRef, Propose, SetFourEyes,
};
use crate::protocol::event::{
    self, Event, EventKind, PROPOSED_BYTES, ProposalState, ProposedCommand,
};
use crate::protocol::reason::Reason;
use crate::protocol::wire::Zero;
use zerocopy::IntoBytes;

/// Has an administrative kind need two users, or no longer. Where this kind needs them itself,
/// nobody switches anything on or off alone.
pub(in crate::engine) fn set_four_eyes(state: &mut State, asked: &SetFourEyes, out: &mut Outbox) {
    let kind = CommandKind::SetFourEyes;
    if !asked.kind.is_administrative() {
        rejected(kind, 0, Reason::NotAdministrative, out);
        return;
    }
    // From here it succeeds.
    state
        .approvals
        .set_required(asked.kind, asked.required.is_yes());
    ok(kind, out);
}

/// Proposes an administrative command for another user to approve.
pub(in crate::engine) fn propose(
    state: &mut State,
    user: u64,
    asked: &Propose,
    words: &[CommandWord],
    out: &mut Outbox,
) {
    if let Err(reason) = check_proposal(state, user, asked, words.as_bytes()) {
        rejected(CommandKind::Propose, 0, reason, out);
        return;
    }
    // From here it succeeds.
    let row = ProposalRow::new(asked.kind, words.as_bytes(), user, asked.expires_at);
    let id = state.approvals.add(row);
    if asked.expires_at.0 != 0 {
        let slot = state.deadlines.insert(asked.expires_at, Due::Proposal(id));
        let at = state.approvals.find(id.into()).expect("just added");
        state.approvals.row_mut(at).deadline = slot;
    }
    let at = state.approvals.find(id.into()).expect("just added");
    tell(state.approvals.row(at), 0, out);
}

fn check_proposal(state: &State, user: u64, asked: &Propose, body: &[u8]) -> Result<(), Reason> {
    if user == 0 {
        return Err(Reason::UserRequired);
    }
    if !asked.kind.is_administrative() {
        return Err(Reason::NotAdministrative);
    }
    if Command::decode(asked.kind, body).is_err() {
        return Err(Reason::MalformedCommand);
    }
    if asked.expires_at.0 != 0 && asked.expires_at <= state.now {
        return Err(Reason::TimeOutOfRange);
    }
    if !state.approvals.has_room() {
        return Err(Reason::CapacityExhausted);
    }
    Ok(())
}

/// Approves a proposal and executes its command. Where that is refused now, the answer says why
/// and the proposal has ended.
pub(in crate::engine) fn approve(
    state: &mut State,
    user: u64,
    asked: &ProposalRef,
    out: &mut Outbox,
) {
    let at = match find_open(state, user, asked) {
        Ok(at) => at,
        Err(reason) => {
            rejected(CommandKind::Approve, asked.proposal.into(), reason, out);
            return;
        }
    };
    // From here it succeeds.
    end(state, at, ProposalState::Approved, user, Reason::Created);
    let mut row = *state.approvals.row(at);
    let command = Command::decode(row.kind(), row.body()).expect("validated when proposed");
    let mark = out.mark();
    administration::execute(state, command, out);
    if let Some(Event::Rejected(refused)) = out.since(mark)[0].event() {
        let reason = refused.reason;
        out.take_back(mark);
        row.decide(ProposalState::Refused, user, reason);
    }
    // A day that began in the command has forgotten the proposal.
    if let Some(at) = state.approvals.find(asked.proposal) {
        *state.approvals.row_mut(at) = row;
    }
    tell(&row, 0, out);
}

/// Rejects a proposal: its command will not be executed.
pub(in crate::engine) fn reject(
    state: &mut State,
    user: u64,
    asked: &ProposalRef,
    out: &mut Outbox,
) {
    match find_open(state, user, asked) {
        Ok(at) => {
            // From here it succeeds.
            end(state, at, ProposalState::Rejected, user, Reason::Created);
            tell(state.approvals.row(at), 0, out);
        }
        Err(reason) => answer(CommandKind::Reject, asked.proposal.into(), Err(reason), out),
    }
}

/// The open proposal that `asked` names and `user` may decide.
fn find_open(state: &State, user: u64, asked: &ProposalRef) -> Result<usize, Reason> {
    if user == 0 {
        return Err(Reason::UserRequired);
    }
    let at = state.approvals.find(asked.proposal);
    let at = at.ok_or(Reason::ProposalNotFound)?;
    let row = state.approvals.row(at);
    match row.state() {
        ProposalState::Open if row.is_late(state.now) => Err(Reason::ProposalExpired),
        ProposalState::Open if row.proposed_by == user => Err(Reason::SameUser),
        ProposalState::Open => Ok(at),
        ProposalState::Expired => Err(Reason::ProposalExpired),
        ProposalState::Approved | ProposalState::Rejected | ProposalState::Refused => {
            Err(Reason::ProposalAlreadyDecided)
        }
    }
}

fn end(state: &mut State, at: usize, to: ProposalState, user: u64, reason: Reason) {
    let row = state.approvals.row_mut(at);
    row.decide(to, user, reason);
    if row.deadline != NO_DEADLINE {
        state.deadlines.remove(row.deadline);
        row.deadline = NO_DEADLINE;
    }
}

/// A proposal's time is over.
pub(super) fn expire(state: &mut State, id: u32, out: &mut Outbox) {
    let at = state.approvals.find(id.into());
    let row = state
        .approvals
        .row_mut(at.expect("an open proposal is remembered"));
    row.deadline = NO_DEADLINE;
    row.decide(ProposalState::Expired, 0, Reason::Created);
    tell(row, 0, out);
}

/// A new day: what was decided is forgotten, and what is open has lapsed.
pub(super) fn start_day(state: &mut State, out: &mut Outbox) {
    state.approvals.forget_decided();
    for at in 0..state.approvals.rows().len() {
        end(state, at, ProposalState::Expired, 0, Reason::Created);
        tell(state.approvals.row(at), 0, out);
    }
}

/// The proposals of the day, oldest first, each with its command.
pub(in crate::engine) fn query_proposals(state: &State, out: &mut Outbox) {
    let rows = state.approvals.rows();
    let body = event::Proposals {
        count: rows.len() as u32,
        open: rows.iter().filter(|row| row.is_open()).count() as u32,
        _reserved: [Zero::Zero; 8],
    };
    out.push(EventKind::Proposals, &body);
    for row in rows {
        let parts = row.body().chunks(PROPOSED_BYTES);
        tell(row, parts.len() as u8, out);
        for (part, bytes) in parts.enumerate() {
            let mut body = ProposedCommand {
                proposal: row.id.into(),
                offset: (part * PROPOSED_BYTES) as u32,
                length: bytes.len() as u32,
                bytes: [0; PROPOSED_BYTES],
            };
            body.bytes[..bytes.len()].copy_from_slice(bytes);
            out.push(EventKind::ProposedCommand, &body);
        }
    }
}

/// Says where a proposal stands; `parts` events with its command follow.
fn tell(row: &ProposalRow, parts: u8, out: &mut Outbox) {
    let body = event::Proposal {
        proposal: row.id.into(),
        proposed_by: row.proposed_by,
        decided_by: row.decided_by,
        expires_at: row.expires_at(),
        kind: row.kind(),
        reason: row.reason(),
        state: row.state(),
        parts,
        _reserved: [Zero::Zero; 10],
    };
    out.push(EventKind::Proposal, &body);
}
