//! Release: what waits settles as soon as something lets it. Every event that can help puts the
//! account on a worklist; a visit tries urgent and high payments strictly from the head, then every
//! normal one in order that is covered (bypass).
//!
//! A command tries no more payments than the scan bound says, so its time is bounded; those for
//! which there is no money are passed over at once and do not count. What it
//! does not get to stays on the worklist for the next command; while anything is there the engine
//! asks for ticks, which are journaled like any other command.

use super::groups;
use super::payments::{moved, unplan};
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::settlement::queue::NewPayment;
use crate::engine::settlement::worklist::Visit;
use crate::engine::state::State;
use crate::protocol::command::Priority;
use crate::protocol::event::{EventKind, PaymentState, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::Amount;

/// Where a waiting payment stands.
pub(in crate::engine) enum Standing {
    /// It could settle at once.
    Covered,
    /// Its latest time has come.
    Late,
    Waits(Reason),
}

/// Settles what the changes of this command let settle, within the scan bound.
#[inline]
pub(in crate::engine) fn release(state: &mut State, out: &mut Outbox) {
    if !state.payments.is_settled_down() {
        visit_risen(state, out);
    }
}

fn visit_risen(state: &mut State, out: &mut Outbox) {
    let mut looks = state.saving.scan_bound();
    while looks > 0 {
        let Some(visit) = state.payments.next_visit() else {
            return;
        };
        let rest = visit_account(state, visit, &mut looks, out);
        state.payments.leave(rest);
    }
}

/// Visits one account; returns the payment to go on with where the looks are used up.
fn visit_account(
    state: &mut State,
    visit: Visit,
    looks: &mut u32,
    out: &mut Outbox,
) -> Option<Handle> {
    let account = visit.account;
    let eligible = |class: &Priority| state.payments.eligible(account, *class);
    if Priority::ALL.iter().map(eligible).sum::<u32>() == 0 {
        return None;
    }
    let resume = visit.resume();
    let from = resume.map_or(Priority::Urgent, |payment| {
        state.payments.row(payment).class()
    });
    for class in Priority::ALL.iter().copied().filter(|class| *class >= from) {
        let first = match resume {
            Some(payment) if class == from => Some(payment),
            _ => state.payments.head(account, class),
        };
        // A higher class waits at its head: nothing below it may go.
        let higher = &Priority::ALL[..class as usize];
        if higher
            .iter()
            .any(|higher| state.payments.eligible(account, *higher) > 0)
        {
            return None;
        }
        let is_strict = class != Priority::Normal || !state.saving.bypass();
        let end = if is_strict {
            visit_strictly(state, first, looks, out)
        } else {
            visit_all(state, account, first, resume.is_none(), looks, out)
        };
        match end {
            End::Through => {}
            End::Stuck => return None,
            End::OutOfLooks(rest) => return Some(rest),
        }
    }
    None
}

/// How a walk along one class ended.
enum End {
    /// At its end.
    Through,
    /// At a payment that nothing may overtake, or where looking further is no use.
    Stuck,
    OutOfLooks(Handle),
}

/// Settles payments from the head until one waits.
fn visit_strictly(
    state: &mut State,
    first: Option<Handle>,
    looks: &mut u32,
    out: &mut Outbox,
) -> End {
    let mut at = first;
    while let Some(payment) = at {
        if *looks == 0 {
            return End::OutOfLooks(payment);
        }
        *looks -= 1;
        at = state.payments.next(payment);
        let row = state.payments.row(payment);
        let is_leg = leaves_with_others(state, payment);
        if !row.is_eligible() {
            continue;
        }
        if !try_settle(state, payment, out) {
            return End::Stuck;
        }
        if is_leg {
            return come_again(state, payment);
        }
    }
    End::Through
}

/// Settles every covered normal payment in order, passing over what there is no money for. `is_whole`
/// says that the walk begins at the head.
fn visit_all(
    state: &mut State,
    account: Handle,
    first: Option<Handle>,
    is_whole: bool,
    looks: &mut u32,
    out: &mut Outbox,
) -> End {
    let mut at = first;
    while let Some(from) = at {
        let Some(most) = spendable_at_most(state, account) else {
            return End::Stuck;
        };
        let Some(payment) = state.payments.next_within(account, from, most) else {
            break;
        };
        if *looks == 0 {
            return End::OutOfLooks(payment);
        }
        *looks -= 1;
        at = state.payments.next_ahead(payment);
        let row = state.payments.row(payment);
        let is_leg = leaves_with_others(state, payment);
        if row.is_eligible() && try_settle(state, payment, out) && is_leg {
            return come_again(state, payment);
        }
    }
    if is_whole {
        state.payments.find_smallest(account);
    }
    End::Through
}

/// Whether others may leave a queue with a payment that does.
fn leaves_with_others(state: &State, payment: Handle) -> bool {
    let row = state.payments.row(payment);
    row.group().is_some() || row.leg_of().is_some() && row.is_late(state.now)
}

/// A group has left with all its legs, of which some may have stood further along the walk: the
/// account is visited anew.
fn come_again(state: &mut State, leg: Handle) -> End {
    let debtor = state.payments.row(leg).debtor;
    state.liquidity_rose(debtor);
    End::Stuck
}

/// What normal payments may spend, where that is enough for the smallest.
#[inline]
fn spendable_at_most(state: &State, account: Handle) -> Option<u128> {
    let most = match spendable(state, account, Priority::Normal) {
        // Where there is nothing, a leg may still be paid out of what its group brings.
        Some(left) => left.max(0) as u128,
        None => u128::MAX,
    };
    (most >= state.payments.smallest_normal(account)).then_some(most)
}

/// What payments of a class may spend, `None` where the account has no floor.
pub(super) fn spendable(state: &State, account: Handle, class: Priority) -> Option<i128> {
    let liquidity = state.ledger.row(account).liquidity()?;
    let desk = state.payments.desk(account);
    let reserved = desk.map_or(0, |desk| desk.reserved_against(class));
    Some(liquidity - reserved as i128)
}

/// Settles one waiting payment that takes part, if it is covered; returns whether it left the
/// queue.
fn try_settle(state: &mut State, payment: Handle, out: &mut Outbox) -> bool {
    let row = state.payments.row(payment);
    if let Some(group) = row.group() {
        return groups::try_settle(state, group, out);
    }
    if row.is_late(state.now) {
        if let Some(group) = row.leg_of() {
            groups::expire(state, group, Reason::Expired, out);
            return true;
        }
        let to = PaymentState::Rejected;
        super::payments::finish(state, payment, to, Reason::Expired, out);
        return true;
    }
    let sides = (row.debtor, row.creditor);
    match check(state, sides, row.amount(), row.class()) {
        Ok(()) => {
            // From here it succeeds.
            settle_waiting(state, payment, SettledBy::Release, out);
            true
        }
        Err(reason) => {
            if row.reason() != reason {
                state.payments.set_reason(payment, reason);
            }
            false
        }
    }
}

/// Where a waiting payment stands now, everything considered.
pub(in crate::engine) fn standing(state: &State, payment: Handle) -> Standing {
    let row = state.payments.row(payment);
    if let Some(reason) = row.kept_back_by() {
        return Standing::Waits(reason);
    }
    if row.is_late(state.now) {
        return Standing::Late;
    }
    if state
        .payments
        .ahead_of(payment, state.saving.bypass())
        .is_some()
    {
        return Standing::Waits(Reason::BehindHigherPriority);
    }
    match check(state, (row.debtor, row.creditor), row.amount(), row.class()) {
        Ok(()) => Standing::Covered,
        Err(reason) => Standing::Waits(reason),
    }
}

/// Whether a payment may be paid: money, reservations, limits.
#[inline(always)]
pub(super) fn check(
    state: &State,
    (debtor, creditor): (Handle, Handle),
    amount: Amount,
    class: Priority,
) -> Result<(), Reason> {
    match state.ledger.check_post(debtor, creditor, amount) {
        Ok(()) => {}
        Err(Reason::ExceedsCredits) => return Err(Reason::InsufficientLiquidity),
        Err(other) => return Err(other),
    }
    let liquidity = || state.ledger.row(debtor).liquidity();
    state
        .payments
        .check_bounds((debtor, creditor), amount.0, class, liquidity)
}

/// Whether a payment may wait until a reason passes.
pub(super) fn may_wait_for(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::InsufficientLiquidity
            | Reason::Reserved
            | Reason::LimitBilateral
            | Reason::LimitMultilateral
    )
}

/// Pays a payment that was never queued. [`check`] has passed, for it alone or with others.
#[inline(always)]
pub(super) fn pay(state: &mut State, payment: &NewPayment) {
    let (debtor, creditor) = (payment.debtor, payment.creditor);
    state.ledger.because(Cause::Payment(payment.id.0));
    state.ledger.post(debtor, creditor, payment.amount);
    let (amount, class) = (payment.amount.0, payment.class);
    state.payments.note_paid(debtor, creditor, amount, class);
    state.liquidity_rose(creditor);
}

/// Settles a waiting payment whose cover is certain.
pub(super) fn settle_waiting(state: &mut State, payment: Handle, by: SettledBy, out: &mut Outbox) {
    unplan(state, payment);
    settle_row(state, payment, by);
    let row = state.payments.row(payment);
    let body = moved(state, row, Reason::Created, by);
    match row.leg_of() {
        None => out.push(EventKind::PaymentSettled, &body),
        Some(group) => {
            out.push(EventKind::GroupLegSettled, &body);
            groups::collect(state, group, payment, by, out);
        }
    }
}

/// Pays a part of a waiting leg; the rest waits on.
pub(super) fn settle_part_of_row(state: &mut State, leg: Handle, amount: u128) {
    let row = *state.payments.row(leg);
    state.ledger.because(Cause::Payment(row.id().0));
    state.ledger.post(row.debtor, row.creditor, Amount(amount));
    state.payments.move_part(leg, amount);
    let (debtor, creditor, class) = (row.debtor, row.creditor, row.class());
    state.payments.note_paid(debtor, creditor, amount, class);
    state.liquidity_rose(creditor);
}

/// Pays a waiting payment or leg and takes it out of its queue.
#[inline]
pub(super) fn settle_row(state: &mut State, payment: Handle, by: SettledBy) {
    let row = *state.payments.row(payment);
    state.ledger.because(Cause::Payment(row.id().0));
    state.ledger.post(row.debtor, row.creditor, row.amount());
    let (to, reason) = (PaymentState::Settled, Reason::Created);
    state.payments.finish(payment, to, by, reason);
    state
        .payments
        .note_paid(row.debtor, row.creditor, row.amount, row.class());
    state.liquidity_rose(row.creditor);
}
