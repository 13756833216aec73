//! Authorisations: hold money, raise what is held, capture it in as many parts as need be, give up
//! the rest, give back what was captured. Every step is a posting like any other: what is held is
//! pending on both accounts, a capture posts out of it, a refund posts the other way.
//!
//! Holds never queue: what is not covered is refused.

use super::{check_account_ids, check_id, find_sides, rejected};
use crate::engine::authorisations::{AuthorisationRow, StepRow};
use crate::engine::deadlines::{Deadlines, Due, NO_DEADLINE};
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::state::State;
use crate::protocol::command::{AuthorisationStep, Authorise, CommandKind};
use crate::protocol::event::{Authorisation, AuthorisationState, EventKind};
use crate::protocol::reason::Reason;
use crate::protocol::units::Amount;
use crate::protocol::wire::Zero;

/// Rows of a window that leave memory for each one that came.
const SWEPT_PER_ROW: u32 = 2;

/// Holds money for captures.
pub(in crate::engine) fn authorise(state: &mut State, asked: &Authorise, out: &mut Outbox) {
    make_room(state);
    let (debit, credit) = match check_authorise(state, asked) {
        Ok(sides) => sides,
        Err(reason) => return rejected(CommandKind::Authorise, asked.id.0, reason, out),
    };
    // From here it succeeds.
    state.ledger.pend(debit, credit, asked.amount);
    let row = AuthorisationRow::new(asked, debit, credit);
    let handle = state.authorisations.push(row);
    if let Some(at) = row.expires_at() {
        let slot = state.deadlines.insert(at, Due::Authorisation(handle));
        state.authorisations.row_mut(handle).deadline = slot;
    }
    answer(state, handle, out);
    sweep(state);
}

fn check_authorise(state: &State, asked: &Authorise) -> Result<(Handle, Handle), Reason> {
    check_id(asked.id.0)?;
    if let Some(old) = state.authorisations.find(asked.id.0) {
        let old = state.authorisations.row(old);
        let sides = (
            state.ledger.row(old.debit).id,
            state.ledger.row(old.credit).id,
        );
        return Err(if old.is_same(asked, sides) {
            Reason::Exists
        } else {
            Reason::ExistsWithDifferentContent
        });
    }
    check_account_ids(asked.debit_account, asked.credit_account)?;
    if asked.amount == Amount::ZERO {
        return Err(Reason::AmountMustNotBeZero);
    }
    if asked.expires_at.0 != 0 && asked.expires_at <= state.now {
        return Err(Reason::TimeOutOfRange);
    }
    let (debit, credit) = find_sides(state, asked.debit_account, asked.credit_account)?;
    check_phase(state, debit, credit)?;
    state.ledger.check_open(debit, credit)?;
    state.ledger.check_pend(debit, credit, asked.amount)?;
    if !state.authorisations.has_room() {
        return Err(Reason::CapacityExhausted);
    }
    Ok((debit, credit))
}

/// Raises what is held.
pub(in crate::engine) fn increment(state: &mut State, asked: &AuthorisationStep, out: &mut Outbox) {
    step(
        state,
        CommandKind::Increment,
        asked,
        out,
        |state, handle| {
            let row = *state.authorisations.row(handle);
            row.check_open(state.now)?;
            let amount = asked.amount;
            if amount == Amount::ZERO {
                return Err(Reason::AmountMustNotBeZero);
            }
            state.ledger.check_open(row.debit, row.credit)?;
            state.ledger.check_pend(row.debit, row.credit, amount)?;
            // From here it succeeds.
            state.ledger.pend(row.debit, row.credit, amount);
            state.authorisations.row_mut(handle).increment(amount);
            Ok(())
        },
    );
}

/// Posts part or all of what is held; the final capture gives up the rest.
pub(in crate::engine) fn capture(state: &mut State, asked: &AuthorisationStep, out: &mut Outbox) {
    step(state, CommandKind::Capture, asked, out, |state, handle| {
        let row = *state.authorisations.row(handle);
        row.check_open(state.now)?;
        let amount = held_part(&row, asked.amount)?;
        if amount == Amount::ZERO && !asked.is_final.is_yes() {
            return Err(Reason::AmountMustNotBeZero);
        }
        state.ledger.check_open(row.debit, row.credit)?;
        // From here it succeeds: what is held is covered, and was counted when it was held.
        state.ledger.unpend(row.debit, row.credit, amount);
        state.ledger.post(row.debit, row.credit, amount);
        let refundable_to = refundable_to(state);
        let row = state.authorisations.row_mut(handle);
        row.capture(amount, refundable_to);
        if asked.is_final.is_yes() {
            give_up(state, handle, row_held(state, handle));
            close(state, handle);
        }
        let credit = state.authorisations.row(handle).credit;
        state.liquidity_rose(credit);
        Ok(())
    });
}

/// Gives up part or all of what is held; all of it ends the authorisation.
pub(in crate::engine) fn void(state: &mut State, asked: &AuthorisationStep, out: &mut Outbox) {
    step(state, CommandKind::Void, asked, out, |state, handle| {
        let row = *state.authorisations.row(handle);
        row.check_open(state.now)?;
        let amount = held_part(&row, asked.amount)?;
        if amount == Amount::ZERO && row.held() != Amount::ZERO {
            return Err(Reason::AmountMustNotBeZero);
        }
        // From here it succeeds.
        give_up(state, handle, amount);
        if row_held(state, handle) == Amount::ZERO {
            close(state, handle);
        }
        Ok(())
    });
}

/// Gives back part or all of what was captured: an ordinary posting the other way.
pub(in crate::engine) fn refund(state: &mut State, asked: &AuthorisationStep, out: &mut Outbox) {
    step(state, CommandKind::Refund, asked, out, |state, handle| {
        let row = *state.authorisations.row(handle);
        let amount = if asked.amount == Amount::MAX {
            row.refundable()
        } else {
            asked.amount
        };
        if amount > row.refundable() {
            return Err(Reason::OverRefund);
        }
        if amount == Amount::ZERO {
            return Err(Reason::AmountMustNotBeZero);
        }
        // Who was credited pays now.
        state.ledger.check_open(row.credit, row.debit)?;
        state.ledger.check_post(row.credit, row.debit, amount)?;
        // From here it succeeds.
        state.ledger.post(row.credit, row.debit, amount);
        let refundable_to = refundable_to(state);
        let row = state.authorisations.row_mut(handle);
        row.refund(amount, refundable_to);
        let debit = row.debit;
        state.liquidity_rose(debit);
        Ok(())
    });
}

/// One step on the authorisation that `asked` names: finds it, checks that the step is new and the
/// sides agree, takes it, remembers it.
fn step(
    state: &mut State,
    kind: CommandKind,
    asked: &AuthorisationStep,
    out: &mut Outbox,
    take: impl FnOnce(&mut State, Handle) -> Result<(), Reason>,
) {
    if asked.authorisation.0 != 0 {
        state.authorisation_steps.make_room(1, |_, _| {});
    }
    let taken = check_step(state, kind, asked).and_then(|handle| {
        take(state, handle)?;
        Ok(handle)
    });
    match taken {
        Ok(handle) => {
            if asked.authorisation.0 != 0 {
                state.authorisation_steps.push(StepRow::new(kind, asked));
            }
            answer(state, handle, out);
            sweep(state);
        }
        Err(reason) => rejected(kind, asked.id.0, reason, out),
    }
}

fn check_step(
    state: &State,
    kind: CommandKind,
    asked: &AuthorisationStep,
) -> Result<Handle, Reason> {
    check_id(asked.id.0)?;
    let named = asked.authorisation.0 != 0;
    if named && let Some(old) = state.authorisation_steps.find(asked.id.0) {
        let is_same = *state.authorisation_steps.row(old) == StepRow::new(kind, asked);
        return Err(if is_same {
            Reason::Exists
        } else {
            Reason::ExistsWithDifferentContent
        });
    }
    let id = if named { asked.authorisation } else { asked.id };
    let handle = state.authorisations.find(id.0);
    let handle = handle.ok_or(Reason::AuthorisationNotFound)?;
    let row = state.authorisations.row(handle);
    let agrees = |asked: u64, side: Handle| asked == 0 || asked == state.ledger.row(side).id;
    if !agrees(asked.debit_account.0, row.debit) || !agrees(asked.credit_account.0, row.credit) {
        return Err(Reason::ExistsWithDifferentContent);
    }
    check_phase(state, row.debit, row.credit)?;
    if named && !state.authorisation_steps.has_room() {
        return Err(Reason::CapacityExhausted);
    }
    Ok(handle)
}

/// An authorisation's time is up: what it still holds is free again.
pub(in crate::engine) fn expire(state: &mut State, handle: Handle, out: &mut Outbox) {
    // The deadline is the one that came due.
    let row = state.authorisations.row_mut(handle);
    row.deadline = NO_DEADLINE;
    let id = row.id().0;
    state.ledger.because(Cause::AuthorisationExpired(id));
    give_up(state, handle, row_held(state, handle));
    let row = state.authorisations.row_mut(handle);
    row.close(AuthorisationState::Expired);
    answer(state, handle, out);
}

/// What a step takes of the hold; all of it where it does not say.
fn held_part(row: &AuthorisationRow, amount: Amount) -> Result<Amount, Reason> {
    if amount == Amount::MAX {
        Ok(row.held())
    } else if amount > row.held() {
        Err(Reason::ExceedsAuthorisation)
    } else {
        Ok(amount)
    }
}

fn give_up(state: &mut State, handle: Handle, amount: Amount) {
    let row = state.authorisations.row_mut(handle);
    row.void(amount);
    let (debit, credit) = (row.debit, row.credit);
    state.ledger.unpend(debit, credit, amount);
    state.liquidity_rose(debit);
    state.liquidity_rose(credit);
}

/// Ends an authorisation that holds nothing any more.
fn close(state: &mut State, handle: Handle) {
    let row = state.authorisations.row_mut(handle);
    row.close(if row.captured() == Amount::ZERO {
        AuthorisationState::Voided
    } else {
        AuthorisationState::Closed
    });
    if row.deadline != NO_DEADLINE {
        state.deadlines.remove(row.deadline);
        row.deadline = NO_DEADLINE;
    }
}

fn row_held(state: &State, handle: Handle) -> Amount {
    state.authorisations.row(handle).held()
}

fn refundable_to(state: &State) -> u32 {
    state.authorisations.day() + state.refund_days
}

fn check_phase(state: &State, debit: Handle, credit: Handle) -> Result<(), Reason> {
    if state.day.admits_transfer() || state.ledger.are_instant(debit, credit) {
        Ok(())
    } else {
        Err(Reason::PhaseForbids)
    }
}

/// Lets old authorisations go where there is no room for a new one.
fn make_room(state: &mut State) {
    let (authorisations, deadlines) = (&mut state.authorisations, &mut state.deadlines);
    authorisations.make_room(1, |row, moved_to| carry_on(deadlines, row, moved_to));
}

/// Lets old rows of both windows go, for one that came.
fn sweep(state: &mut State) {
    let (authorisations, deadlines) = (&mut state.authorisations, &mut state.deadlines);
    authorisations.sweep(SWEPT_PER_ROW, |row, moved_to| {
        carry_on(deadlines, row, moved_to);
    });
    state.authorisation_steps.sweep(SWEPT_PER_ROW, |_, _| {});
}

/// A row that is kept beyond its window has a new handle.
fn carry_on(deadlines: &mut Deadlines, row: &AuthorisationRow, moved_to: Handle) {
    if row.deadline != NO_DEADLINE {
        deadlines.set_owner(row.deadline, moved_to);
    }
}

fn answer(state: &State, handle: Handle, out: &mut Outbox) {
    out.push(
        EventKind::Authorisation,
        &describe(state.authorisations.row(handle)),
    );
}

/// An authorisation as it stands.
pub(in crate::engine) fn describe(row: &AuthorisationRow) -> Authorisation {
    Authorisation {
        id: row.id(),
        held: row.held(),
        captured: row.captured(),
        refunded: row.refunded(),
        state: row.state(),
        _reserved: [Zero::Zero; 15],
    }
}
