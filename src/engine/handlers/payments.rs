//! Payments: settle at once where there is cover and no one ahead, else wait in the debtor's queue.
//! What waits is released by whatever helps (`release`), can be taken back, held, moved and given
//! another class, and ends at its latest time or with the day.
//!
//! Entry disposition follows the rules of a real-time gross settlement system in the manner of T2:
//! class gate, cover, offset against what the creditor owes, queue.

use super::release::{self, Standing};
use super::{check_account_ids, check_id, find_sides, groups, offsetting, rejected};
use crate::engine::deadlines::{Due, NO_DEADLINE};
use crate::engine::index::{Free, Handle, hash_128};
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::outbox::Outbox;
use crate::engine::settlement::payment::{HELD, INSTANT, NOT_DUE, PaymentRow, WAITS_FOR_DAY};
use crate::engine::settlement::queue::NewPayment;
use crate::engine::state::State;
use crate::protocol::command::{
    CommandKind, MovePayment, PaymentRef, SetPaymentPriority, SubmitPayment,
};
use crate::protocol::event::{EventKind, PaymentMoved, PaymentState, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount, PaymentId, Timestamp};
use crate::protocol::wire::Zero;

/// What becomes of a payment at entry.
enum Disposition {
    Settle,
    Offset,
    Wait(Reason, u8),
}

/// What a check has looked up of a payment: both accounts, the payment it returns, and where its id is
/// free.
struct Found {
    debtor: Handle,
    creditor: Handle,
    return_of: Option<Handle>,
    free: Free,
}

/// Settles a payment, or has it wait. One that settles at once takes a path without a call, so that no
/// row goes through the stack.
pub(in crate::engine) fn submit_payment(
    state: &mut State,
    asked: &SubmitPayment,
    out: &mut Outbox,
) {
    let hash = hash_128(asked.id.0);
    let found = match check(state, asked, hash) {
        Ok(found) => found,
        Err(reason) => return refuse(asked, reason, out),
    };
    let disposition = match decide(state, asked, &found) {
        Ok(disposition) => disposition,
        Err(reason) => return refuse(asked, reason, out),
    };
    // From here it succeeds.
    note_return(state, found.return_of, asked.amount.0 as i128);
    let payment = new_payment(asked, &found);
    let by = match disposition {
        Disposition::Settle => SettledBy::Entry,
        Disposition::Offset => {
            offsetting::settle_picked(state, out);
            SettledBy::Offset
        }
        Disposition::Wait(reason, flags) => {
            return wait(state, asked, new_payment(asked, &found), reason, flags, out);
        }
    };
    release::pay(state, &payment);
    let place = (hash, found.free);
    state.payments.record_settled(&payment, by, place);
    let body = told(asked, Reason::Created, by);
    out.push(EventKind::PaymentSettled, &body);
}

/// Puts a payment into its queue.
#[inline(never)]
fn wait(
    state: &mut State,
    asked: &SubmitPayment,
    payment: NewPayment,
    reason: Reason,
    flags: u8,
    out: &mut Outbox,
) {
    let flags = flags | day_flags(state, payment.debtor, payment.creditor);
    let handle = state.payments.record_waiting(&payment, reason, flags);
    plan(state, handle);
    let kind = if flags & NOT_DUE != 0 {
        EventKind::PaymentWarehoused
    } else {
        state.saving.note_queued();
        EventKind::PaymentQueued
    };
    out.push(kind, &told(asked, reason, SettledBy::None));
}

#[inline(always)]
fn new_payment(asked: &SubmitPayment, found: &Found) -> NewPayment {
    NewPayment {
        id: asked.id,
        debtor: found.debtor,
        creditor: found.creditor,
        amount: asked.amount,
        class: asked.priority,
        earliest_at: asked.earliest_at,
        latest_at: asked.latest_at,
        return_of: found.return_of,
        value_date: asked.value_date,
    }
}

/// Refuses a payment.
#[cold]
#[inline(never)]
pub(super) fn refuse(asked: &SubmitPayment, reason: Reason, out: &mut Outbox) {
    let body = told(asked, reason, SettledBy::None);
    out.push(EventKind::PaymentRejected, &body);
}

#[inline(always)]
fn told(asked: &SubmitPayment, reason: Reason, by: SettledBy) -> PaymentMoved {
    PaymentMoved {
        id: asked.id,
        amount: asked.amount,
        debtor_account: asked.debtor_account,
        creditor_account: asked.creditor_account,
        reason,
        by,
        _reserved: [Zero::Zero; 13],
    }
}

#[inline(always)]
fn check(state: &State, asked: &SubmitPayment, hash: u32) -> Result<Found, Reason> {
    check_id(asked.id.0)?;
    let free = match state.payments.find_or_free(asked.id, hash) {
        Ok(old) => return Err(compare(state, state.payments.row(old), asked)),
        Err(free) => free,
    };
    check_account_ids(asked.debtor_account, asked.creditor_account)?;
    if asked.amount == Amount::ZERO {
        return Err(Reason::AmountMustNotBeZero);
    }
    if asked.amount.0 > NOTIONAL_MAX {
        return Err(Reason::AmountOutOfRange);
    }
    let (debtor, creditor) = find_sides(state, asked.debtor_account, asked.creditor_account)?;
    if state.ledger.is_credit_bounded(creditor) {
        // What may wait must be payable whenever its debtor has the money.
        return Err(Reason::ExceedsDebits);
    }
    state.ledger.check_open(debtor, creditor)?;
    check_times(state, asked.earliest_at, asked.latest_at)?;
    let date = state.day.date();
    if asked.value_date != 0 && asked.value_date < date {
        return Err(Reason::ValueDatePassed);
    }
    let admitted = if asked.earliest_at > state.now || asked.value_date > date {
        state.day.admits_warehousing()
    } else {
        state.day.admits_payment(asked.priority)
    };
    if !admitted && !state.ledger.are_instant(debtor, creditor) {
        return Err(Reason::PhaseForbids);
    }
    let return_of = if asked.return_of.0 == 0 {
        None
    } else {
        Some(check_return(state, asked, debtor, creditor)?)
    };
    if !state.payments.has_room(1) {
        return Err(Reason::CapacityExhausted);
    }
    Ok(Found {
        debtor,
        creditor,
        return_of,
        free,
    })
}

/// Whether a payment asked for with these words is that one again.
#[cold]
fn compare(state: &State, old: &PaymentRow, asked: &SubmitPayment) -> Reason {
    let return_of = old
        .return_of()
        .map_or(PaymentId(0), |original| state.payments.row(original).id());
    let is_same = state.ledger.row(old.debtor).id == asked.debtor_account.0
        && state.ledger.row(old.creditor).id == asked.creditor_account.0
        && old.amount() == asked.amount
        && old.asked_class() == asked.priority
        && old.earliest_at() == asked.earliest_at
        && old.latest_at() == asked.latest_at
        && old.value_date() == asked.value_date
        && return_of == asked.return_of;
    if is_same {
        Reason::Exists
    } else {
        Reason::ExistsWithDifferentContent
    }
}

/// A latest time lies behind the earliest, and ahead of us.
#[inline]
pub(super) fn check_times(
    state: &State,
    earliest_at: Timestamp,
    latest_at: Timestamp,
) -> Result<(), Reason> {
    if latest_at.0 == 0 {
        Ok(())
    } else if latest_at <= earliest_at {
        Err(Reason::TimeOutOfRange)
    } else if latest_at <= state.now {
        Err(Reason::Expired)
    } else {
        Ok(())
    }
}

/// A return goes back the way its original came, and all returns together give back at most the
/// original.
#[inline(never)]
fn check_return(
    state: &State,
    asked: &SubmitPayment,
    debtor: Handle,
    creditor: Handle,
) -> Result<Handle, Reason> {
    let original = state.payments.find(asked.return_of);
    let original = original.ok_or(Reason::PaymentNotFound)?;
    let row = state.payments.row(original);
    if row.state() != PaymentState::Settled {
        return Err(Reason::PaymentNotSettled);
    }
    if (row.debtor, row.creditor) != (creditor, debtor) {
        return Err(Reason::ReturnAccountsDiffer);
    }
    if row.returned() + asked.amount.0 > row.amount {
        return Err(Reason::OverReturn);
    }
    Ok(original)
}

/// A return takes its part of the original, or gives it back.
#[inline]
fn note_return(state: &mut State, original: Option<Handle>, amount: i128) {
    if let Some(original) = original {
        let returned = state.payments.row(original).returned();
        let returned = returned.checked_add_signed(amount);
        let returned = returned.expect("no more is given back than was taken");
        state.payments.set_returned(original, Amount(returned));
    }
}

/// Class gate, cover, offset.
#[inline(always)]
fn decide(state: &mut State, asked: &SubmitPayment, found: &Found) -> Result<Disposition, Reason> {
    if asked.earliest_at > state.now || asked.value_date > state.day.date() {
        return Ok(Disposition::Wait(Reason::NotYetDue, NOT_DUE));
    }
    let sides = (found.debtor, found.creditor);
    let cover = release::check(state, sides, asked.amount, asked.priority);
    let reason = match cover {
        Ok(()) => Reason::Created,
        Err(reason) if release::may_wait_for(reason) => reason,
        Err(reason) => return Err(reason),
    };
    let bypass = state.saving.bypass();
    if state
        .payments
        .must_wait(found.debtor, asked.priority, bypass)
    {
        return Ok(Disposition::Wait(Reason::BehindHigherPriority, 0));
    }
    if reason == Reason::Created {
        return Ok(Disposition::Settle);
    }
    if state.saving.entry_offset() && offsetting::pick(state, &new_payment(asked, found)) {
        return Ok(Disposition::Offset);
    }
    Ok(Disposition::Wait(reason, 0))
}

/// Takes a payment back.
pub(in crate::engine) fn cancel_payment(state: &mut State, asked: &PaymentRef, out: &mut Outbox) {
    // A payment and a group may have the same id; what waits is meant, the payment where both do.
    let waits = |payment| state.payments.row(payment).is_waiting();
    if let Some(group) = state.groups.find(asked.id)
        && !state.payments.find(asked.id).is_some_and(waits)
        && state.groups.row(group).state() == PaymentState::Queued
    {
        // From here it succeeds.
        groups::expire(state, group, Reason::Requested, out);
        return;
    }
    let Some(payment) = find_waiting(state, CommandKind::CancelPayment, asked.id, out) else {
        return;
    };
    // From here it succeeds.
    finish(
        state,
        payment,
        PaymentState::Cancelled,
        Reason::Requested,
        out,
    );
}

/// Keeps a waiting payment from settling; it keeps its place.
pub(in crate::engine) fn hold_payment(state: &mut State, asked: &PaymentRef, out: &mut Outbox) {
    let Some(payment) = find_waiting(state, CommandKind::HoldPayment, asked.id, out) else {
        return;
    };
    // From here it succeeds.
    state.payments.set_flag(payment, HELD, true);
    dispose_again(state, payment, out);
}

/// Lets a held payment settle.
pub(in crate::engine) fn release_payment(state: &mut State, asked: &PaymentRef, out: &mut Outbox) {
    let Some(payment) = find_waiting(state, CommandKind::ReleasePayment, asked.id, out) else {
        return;
    };
    if !state.payments.is_held(payment) {
        let (kind, reason) = (CommandKind::ReleasePayment, Reason::PaymentNotHeld);
        rejected(kind, asked.id.0, reason, out);
        return;
    }
    // From here it succeeds.
    state.payments.set_flag(payment, HELD, false);
    dispose_again(state, payment, out);
}

/// Gives a waiting payment another class; among those of that class its age places it.
pub(in crate::engine) fn set_payment_priority(
    state: &mut State,
    asked: &SetPaymentPriority,
    out: &mut Outbox,
) {
    let kind = CommandKind::SetPaymentPriority;
    let Some(payment) = find_waiting(state, kind, asked.id, out) else {
        return;
    };
    // From here it succeeds.
    state.payments.set_class(payment, asked.priority);
    dispose_again(state, payment, out);
}

/// Moves a waiting payment before or behind all others of its class.
pub(in crate::engine) fn move_payment(state: &mut State, asked: &MovePayment, out: &mut Outbox) {
    let Some(payment) = find_waiting(state, CommandKind::MovePayment, asked.id, out) else {
        return;
    };
    // From here it succeeds.
    state.payments.move_to(payment, asked.position);
    dispose_again(state, payment, out);
}

/// The waiting payment of that id; refuses the command where there is none.
fn find_waiting(
    state: &State,
    kind: CommandKind,
    id: PaymentId,
    out: &mut Outbox,
) -> Option<Handle> {
    let ended = |in_state| match in_state {
        PaymentState::Queued | PaymentState::Warehoused => None,
        PaymentState::Settled => Some(Reason::PaymentAlreadySettled),
        PaymentState::Cancelled => Some(Reason::PaymentAlreadyCancelled),
        PaymentState::Rejected => Some(Reason::PaymentAlreadyRejected),
    };
    let waiting = match (state.payments.find(id), state.groups.find(id)) {
        (Some(payment), _) => match ended(state.payments.row(payment).state()) {
            None => Ok(payment),
            Some(reason) => Err(reason),
        },
        // A group that waits can be taken back, but it keeps its place and its class.
        (None, Some(group)) => {
            Err(ended(state.groups.row(group).state()).unwrap_or(Reason::PartOfGroup))
        }
        (None, None) => Err(Reason::PaymentNotFound),
    };
    match waiting {
        Ok(payment) => Some(payment),
        Err(reason) => {
            rejected(kind, id.0, reason, out);
            None
        }
    }
}

/// What stands in a waiting payment's way has changed: it settles, or says why it waits now. Others
/// of its account may go, too.
fn dispose_again(state: &mut State, payment: Handle, out: &mut Outbox) {
    let debtor = state.payments.row(payment).debtor;
    let reason = match release::standing(state, payment) {
        Standing::Covered => {
            release::settle_waiting(state, payment, SettledBy::Release, out);
            None
        }
        Standing::Late => {
            finish(state, payment, PaymentState::Rejected, Reason::Expired, out);
            None
        }
        Standing::Waits(reason) => Some(reason),
    };
    if let Some(reason) = reason {
        state.payments.set_reason(payment, reason);
        let row = state.payments.row(payment);
        let kind = match row.state() {
            PaymentState::Warehoused => EventKind::PaymentWarehoused,
            PaymentState::Queued
            | PaymentState::Settled
            | PaymentState::Cancelled
            | PaymentState::Rejected => EventKind::PaymentQueued,
        };
        out.push(kind, &moved(state, row, reason, SettledBy::None));
    }
    state.liquidity_rose(debtor);
}

/// Rejects everything that is queued: the day is over. What waits for a later day stays, and so does
/// what waits for a time and names no day, or does not ask the day.
pub(in crate::engine) fn reject_queued(state: &mut State, out: &mut Outbox) {
    for payment in state.payments.queue_order() {
        let row = state.payments.row(payment);
        if row.has(INSTANT) {
            continue;
        }
        if let Some(group) = row.leg_of() {
            if row.is_waiting() {
                groups::expire(state, group, Reason::EndOfDay, out);
            }
        } else if row.state() == PaymentState::Queued || is_last_day(state, row) {
            finish(
                state,
                payment,
                PaymentState::Rejected,
                Reason::EndOfDay,
                out,
            );
        }
    }
}

/// Whether a payment may settle on no later day than this one.
fn is_last_day(state: &State, row: &PaymentRow) -> bool {
    row.is_waiting() && row.value_date() != 0 && row.value_date() <= state.day.date()
}

/// A new day: reservations as set, limits unused, what is older than the window forgotten, and what
/// was warehoused for this date takes part.
pub(in crate::engine) fn start_day(state: &mut State, out: &mut Outbox) {
    state.payments.start_day();
    if !state.day.is_first() {
        roll(state);
    }
    begin_value_date(state, out);
}

/// The payments window rolls; what points at its rows follows.
fn roll(state: &mut State) {
    let moved = state.payments.roll();
    let moved = state.groups.roll(&moved);
    state.payments.regroup(&moved);
    for group in 0..state.groups.next() {
        if let Some(slot) = state.groups.row(group).deadline() {
            state.deadlines.set_owner(slot, group);
        }
    }
    for payment in state.payments.queue_order() {
        if let Some(slot) = state.payments.deadline(payment) {
            state.deadlines.set_owner(slot, payment);
        }
    }
}

/// Payments whose value date has come take part from now on, each where its age places it. Release
/// settles what is covered; what is not says why it waits.
fn begin_value_date(state: &mut State, out: &mut Outbox) {
    let date = state.day.date();
    let waiting = state.payments.queue_order().into_iter();
    let due: Vec<Handle> = waiting
        .filter(|payment| {
            let row = state.payments.row(*payment);
            row.value_date() != 0 && row.has(NOT_DUE) && row.is_due(state.now, date)
        })
        .collect();
    for payment in &due {
        state.payments.set_flag(*payment, NOT_DUE, false);
        state.saving.note_queued();
    }
    for payment in due {
        if let Standing::Waits(reason) = release::standing(state, payment) {
            state.payments.set_reason(payment, reason);
            let row = state.payments.row(payment);
            let body = moved(state, row, reason, SettledBy::None);
            out.push(EventKind::PaymentQueued, &body);
        }
        let debtor = state.payments.row(payment).debtor;
        state.liquidity_rose(debtor);
    }
}

/// Takes a waiting payment out without settling it: cancelled or rejected.
pub(super) fn finish(
    state: &mut State,
    payment: Handle,
    to: PaymentState,
    reason: Reason,
    out: &mut Outbox,
) {
    unplan(state, payment);
    state.payments.finish(payment, to, SettledBy::None, reason);
    let row = *state.payments.row(payment);
    note_return(state, row.return_of(), -(row.amount as i128));
    let kind = match to {
        PaymentState::Cancelled => EventKind::PaymentCancelled,
        PaymentState::Queued
        | PaymentState::Settled
        | PaymentState::Warehoused
        | PaymentState::Rejected => EventKind::PaymentRejected,
    };
    out.push(kind, &moved(state, &row, reason, SettledBy::None));
    // What waited behind it may go now.
    state.liquidity_rose(row.debtor);
}

/// The event that says where a payment is now.
pub(super) fn moved(
    state: &State,
    row: &PaymentRow,
    reason: Reason,
    by: SettledBy,
) -> PaymentMoved {
    PaymentMoved {
        id: row.id(),
        amount: row.amount(),
        debtor_account: AccountId(state.ledger.row(row.debtor).id),
        creditor_account: AccountId(state.ledger.row(row.creditor).id),
        reason,
        by,
        _reserved: [Zero::Zero; 13],
    }
}

/// Notes when time will next do something to a waiting payment.
fn plan(state: &mut State, payment: Handle) {
    let row = state.payments.row(payment);
    let at = if row.earliest_at() > state.now {
        row.earliest_at()
    } else {
        row.latest_at()
    };
    if at.0 != 0 {
        let slot = state.deadlines.insert(at, Due::Payment(payment));
        state.payments.set_deadline(payment, slot);
    }
}

/// Time has nothing more to do to the payment.
pub(super) fn unplan(state: &mut State, payment: Handle) {
    if let Some(slot) = state.payments.deadline(payment) {
        state.deadlines.remove(slot);
        state.payments.set_deadline(payment, NO_DEADLINE);
    }
}

/// A payment's time has come: the earliest, and it takes part from now on, unless its value date lies
/// ahead; or the latest, and it is rejected.
pub(super) fn come_due(state: &mut State, payment: Handle, out: &mut Outbox) {
    state.payments.set_deadline(payment, NO_DEADLINE);
    let row = state.payments.row(payment);
    if row.is_late(state.now) || !row.has(NOT_DUE) {
        finish(state, payment, PaymentState::Rejected, Reason::Expired, out);
        return;
    }
    let is_due = row.is_due(state.now, state.day.date());
    plan(state, payment);
    if is_due {
        state.payments.set_flag(payment, NOT_DUE, false);
        state.saving.note_queued();
        dispose_again(state, payment, out);
    }
}

/// What the phase of the day means to a payment that waits.
fn day_flags(state: &State, debtor: Handle, creditor: Handle) -> u8 {
    if state.ledger.are_instant(debtor, creditor) {
        INSTANT
    } else if state.day.settles() {
        0
    } else {
        WAITS_FOR_DAY
    }
}

/// Whether anything queued may settle: the phase says so, or there are accounts that do not ask it.
pub(in crate::engine) fn may_settle(state: &State) -> bool {
    state.day.settles() || state.ledger.has_instant()
}
