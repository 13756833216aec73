//! Groups: delivery versus payment, payment versus payment, batches of an ancillary system. All
//! legs settle at once, or the group waits with a place in the queue of every debtor and is
//! released like a payment, or it ends at its latest time or with the day.

use super::collateral::{give_credit, hold_pledge, plan_pledge};
use super::payments::check_times;
use super::{check_account_ids, check_id, find_sides, ok, rejected};
use crate::engine::deadlines::{Due, NO_DEADLINE};
use crate::engine::index::Handle;
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::outbox::Outbox;
use crate::engine::postings::Cause;
use crate::engine::settlement::groups::{NewGroup, PERMILLE};
use crate::engine::settlement::payment::{
    ALONE, AWAITS_DEBITS, BLOCKED, INSTANT, NONE, PaymentRow, WAITS_FOR_DAY,
};
use crate::engine::settlement::queue::NewPayment;
use crate::engine::settlement::together::{Obstacle, Together};
use crate::engine::state::State;
use crate::protocol::command::{
    AllowPartialSettlement, CommandKind, GroupProcedure, Leg, SubmitGroup,
};
use crate::protocol::event::{EventKind, GroupMoved, GroupPartSettled, PaymentState, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, Amount, Timestamp};
use crate::protocol::wire::Zero;

/// Legs of one group at most: what release looks at in one go.
const LEGS_MAX: usize = 1_024;

/// Settles all legs at once, or has the group wait.
pub(in crate::engine) fn submit_group(
    state: &mut State,
    asked: &SubmitGroup,
    legs: &[Leg],
    out: &mut Outbox,
) {
    if let Err(reason) = check(state, asked, legs) {
        rejected(CommandKind::SubmitGroup, asked.id.0, reason, out);
        return;
    }
    // From here it succeeds.
    let group = record(state, asked, legs);
    if state.groups.row(group).collects() {
        begin_collecting(state, group, out);
        return;
    }
    if !try_by(state, group, SettledBy::Entry, out) {
        state.saving.note_queued();
        out.push(EventKind::GroupPending, &moved(state, group));
    }
}

fn check(state: &State, asked: &SubmitGroup, legs: &[Leg]) -> Result<(), Reason> {
    check_id(asked.id.0)?;
    if let Some(old) = state.groups.find(asked.id) {
        return Err(compare(state, old, asked, legs));
    }
    if legs.is_empty() || legs.len() > LEGS_MAX {
        return Err(Reason::OutOfRange);
    }
    let has_parts = match asked.procedure {
        GroupProcedure::AllOrNone | GroupProcedure::DebitsFirst => false,
        GroupProcedure::Partial | GroupProcedure::PartialOnce => true,
    };
    if asked.minimum_permille > PERMILLE || !has_parts && asked.minimum_permille != 0 {
        return Err(Reason::OutOfRange);
    }
    for leg in legs {
        check_leg(state, leg)?;
    }
    if asked.procedure == GroupProcedure::DebitsFirst {
        check_technical(state, legs)?;
    }
    check_times(state, Timestamp(0), asked.latest_at)?;
    // Debits that come first belong to one day.
    let waits_for_day = asked.procedure == GroupProcedure::DebitsFirst || !are_instant(state, legs);
    if !state.day.admits_payment(asked.priority) && waits_for_day {
        return Err(Reason::PhaseForbids);
    }
    if !state.payments.has_room(legs.len()) || !state.groups.has_room() {
        return Err(Reason::CapacityExhausted);
    }
    Ok(())
}

/// Whether every leg goes between accounts for instant payments.
fn are_instant(state: &State, legs: &[Leg]) -> bool {
    legs.iter().all(|leg| {
        let sides = find_sides(state, leg.debit_account, leg.credit_account);
        sides.is_ok_and(|(debtor, creditor)| state.ledger.are_instant(debtor, creditor))
    })
}

fn check_leg(state: &State, leg: &Leg) -> Result<(), Reason> {
    check_account_ids(leg.debit_account, leg.credit_account)?;
    if leg.amount == Amount::ZERO {
        return Err(Reason::AmountMustNotBeZero);
    }
    if leg.amount.0 > NOTIONAL_MAX {
        return Err(Reason::AmountOutOfRange);
    }
    let (debtor, creditor) = find_sides(state, leg.debit_account, leg.credit_account)?;
    if state.ledger.is_credit_bounded(creditor) {
        return Err(Reason::ExceedsDebits);
    }
    if !state.ledger.row(creditor).takes_any_credit() {
        return Err(Reason::OverflowsCredits);
    }
    if !state.ledger.row(debtor).gives_any_debit() {
        return Err(Reason::OverflowsDebits);
    }
    state.ledger.check_open(debtor, creditor)?;
    match state.ledger.check_post(debtor, creditor, leg.amount) {
        Ok(()) | Err(Reason::ExceedsCredits) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Whether legs go onto one account and off it again, as much as came in. What comes in is held
/// there, so the account has a floor.
fn check_technical(state: &State, legs: &[Leg]) -> Result<(), Reason> {
    let technical = legs[0].credit_account;
    let mut sums = [0u128; 2];
    for leg in legs {
        let side = usize::from(leg.credit_account != technical);
        if side == 1 && leg.debit_account != technical {
            return Err(Reason::LegsDoNotBalance);
        }
        sums[side] += leg.amount.0;
    }
    if sums[0] != sums[1] {
        return Err(Reason::LegsDoNotBalance);
    }
    let account = state.ledger.find(technical);
    let has_floor = account.is_some_and(|at| state.ledger.row(at).liquidity().is_some());
    if has_floor {
        Ok(())
    } else {
        Err(Reason::OutOfRange)
    }
}

fn compare(state: &State, old: Handle, asked: &SubmitGroup, legs: &[Leg]) -> Reason {
    let row = state.groups.row(old);
    let mut at = Some(row.first_leg());
    let is_same_leg = |leg: &Leg| {
        let Some(payment) = at else { return false };
        let row = state.payments.row(payment);
        at = state.payments.next_leg(payment);
        state.ledger.row(row.debtor).id == leg.debit_account.0
            && state.ledger.row(row.creditor).id == leg.credit_account.0
            && row.whole_leg() == leg.amount
    };
    let is_same = row.legs() as usize == legs.len()
        && row.class() == asked.priority
        && row.latest_at() == asked.latest_at
        && row.procedure() == asked.procedure
        && row.minimum_permille() == asked.minimum_permille
        && legs.iter().all(is_same_leg);
    if is_same {
        Reason::Exists
    } else {
        Reason::ExistsWithDifferentContent
    }
}

/// Puts every leg into the queue of its debtor.
fn record(state: &mut State, asked: &SubmitGroup, legs: &[Leg]) -> Handle {
    let group = state.groups.next();
    let first = state.payments.rows().len() as u32;
    let is_instant = are_instant(state, legs);
    for (at, leg) in legs.iter().enumerate() {
        let sides = find_sides(state, leg.debit_account, leg.credit_account);
        let (debtor, creditor) = sides.expect("checked before commit");
        let payment = NewPayment {
            id: asked.id,
            debtor,
            creditor,
            amount: leg.amount,
            class: asked.priority,
            earliest_at: Timestamp(0),
            latest_at: asked.latest_at,
            return_of: None,
            value_date: 0,
        };
        let is_last = at + 1 == legs.len();
        let next_leg = if is_last { NONE } else { first + at as u32 + 1 };
        let flags = match asked.procedure {
            GroupProcedure::DebitsFirst if leg.credit_account == legs[0].credit_account => ALONE,
            GroupProcedure::DebitsFirst => AWAITS_DEBITS,
            GroupProcedure::AllOrNone | GroupProcedure::Partial | GroupProcedure::PartialOnce => {
                if is_instant {
                    INSTANT
                } else {
                    0
                }
            }
        };
        state
            .payments
            .record_leg(&payment, (group, next_leg), flags);
    }
    let debits = legs
        .iter()
        .filter(|leg| leg.credit_account == legs[0].credit_account);
    let lots = match asked.procedure {
        GroupProcedure::DebitsFirst => debits.map(|leg| leg.amount.0).sum(),
        GroupProcedure::AllOrNone | GroupProcedure::Partial | GroupProcedure::PartialOnce => {
            legs.iter().fold(0, |lots, leg| common(lots, leg.amount.0))
        }
    };
    state.groups.add(&NewGroup {
        id: asked.id,
        class: asked.priority,
        latest_at: asked.latest_at,
        first_leg: first,
        legs: legs.len() as u32,
        procedure: asked.procedure,
        minimum_permille: asked.minimum_permille,
        lots,
    });
    if asked.latest_at.0 != 0 {
        let slot = state.deadlines.insert(asked.latest_at, Due::Group(group));
        state.groups.set_deadline(group, slot);
    }
    group
}

/// The largest number that divides both; the other where one is 0.
fn common(mut one: u128, mut other: u128) -> u128 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// What keeps a waiting group from settling now.
pub(super) fn obstacle(state: &mut State, group: Handle) -> Option<Obstacle> {
    let mut together = std::mem::take(&mut state.together);
    let mut legs = std::mem::take(&mut state.legs);
    let obstacle = find_obstacle(state, group, &mut together, &mut legs);
    state.together = together;
    state.legs = legs;
    obstacle
}

/// What keeps a waiting group from settling now, found in the room given.
pub(in crate::engine) fn find_obstacle(
    state: &State,
    group: Handle,
    together: &mut Together,
    legs: &mut Vec<Handle>,
) -> Option<Obstacle> {
    legs.clear();
    legs.extend(legs_of(state, group));
    if state.groups.row(group).collects() {
        return find_missing(state, group, legs);
    }
    let overflow = legs.iter().find_map(|leg| find_overflow(state, *leg));
    overflow.or_else(|| {
        let liquidity = |account| state.ledger.row(account).liquidity();
        let bypass = state.saving.bypass();
        let fits = together.check(&state.payments, legs, bypass, liquidity);
        fits.err()
    })
}

/// What a group whose debits come first waits for: the first debit that is not in, or else the
/// first credit that cannot be paid.
fn find_missing(state: &State, group: Handle, legs: &[Handle]) -> Option<Obstacle> {
    let rows = || legs.iter().map(|leg| state.payments.row(*leg));
    if let Some(debit) = rows().find(|row| row.has(ALONE) && row.is_waiting()) {
        return Some(Obstacle {
            short_of: state.groups.row(group).lots_left(),
            ..Obstacle::new(debit.debtor, Reason::AwaitsDebits)
        });
    }
    let barred =
        |row: &&PaymentRow| row.has(BLOCKED) || !state.ledger.row(row.creditor).takes_any_credit();
    let credit = rows().filter(|row| !row.has(ALONE)).find(barred)?;
    Some(Obstacle::new(credit.creditor, Reason::ParticipantBlocked))
}

/// The debits of a group wait like payments: release gets to them before the command ends.
fn begin_collecting(state: &mut State, group: Handle, out: &mut Outbox) {
    let mut at = Some(state.groups.row(group).first_leg());
    while let Some(leg) = at {
        at = state.payments.next_leg(leg);
        let debtor = state.payments.row(leg).debtor;
        state.liquidity_rose(debtor);
    }
    let found = obstacle(state, group);
    note_obstacle(state, group, found.expect("no debit is in"));
    state.saving.note_queued();
    out.push(EventKind::GroupPending, &moved(state, group));
}

/// A debit of a group is on the technical account, where it is held. With the last one the credits
/// are paid.
pub(super) fn collect(
    state: &mut State,
    group: Handle,
    debit: Handle,
    by: SettledBy,
    out: &mut Outbox,
) {
    let row = state.payments.row(debit);
    let (technical, amount) = (row.creditor, row.amount());
    state.ledger.hold(technical, amount);
    if state.groups.collect(group, amount.0) == 0 {
        pay_out(state, group, by, out);
    }
}

/// Pays the credits of a group all of whose debits are in, unless one of them cannot be paid.
fn pay_out(state: &mut State, group: Handle, by: SettledBy, out: &mut Outbox) {
    if let Some(found) = obstacle(state, group) {
        note_obstacle(state, group, found);
        return;
    }
    let row = state.groups.row(group);
    let (first, collected) = (row.first_leg(), Amount(row.collected()));
    let technical = state.payments.row(first).creditor;
    state.ledger.release(technical, collected);
    let mut at = Some(first);
    while let Some(leg) = at {
        at = state.payments.next_leg(leg);
        if !state.payments.row(leg).has(ALONE) {
            super::release::settle_row(state, leg, by);
        }
    }
    finish(state, group, PaymentState::Settled, by, Reason::Created);
    out.push(EventKind::GroupSettled, &moved(state, group));
}

/// Pays the credits of groups that waited for a participant who may receive now.
pub(in crate::engine) fn pay_out_delayed(state: &mut State, out: &mut Outbox) {
    for group in 0..state.groups.next() {
        let row = state.groups.row(group);
        let is_delayed =
            row.collects() && row.state() == PaymentState::Queued && row.lots_left() == 0;
        if is_delayed && super::payments::may_settle(state) {
            pay_out(state, group, SettledBy::Release, out);
        }
    }
}

/// Gives a debit of a group that ends back to who paid it.
fn give_back(state: &mut State, debit: Handle, reason: Reason, out: &mut Outbox) {
    let row = *state.payments.row(debit);
    state.ledger.because(Cause::Payment(row.id().0));
    state.ledger.release(row.creditor, row.amount());
    state.ledger.post(row.creditor, row.debtor, row.amount());
    state
        .payments
        .note_paid(row.creditor, row.debtor, row.amount, row.class());
    state.payments.set_returned(debit, row.amount());
    let body = super::payments::moved(state, &row, reason, SettledBy::None);
    out.push(EventKind::GroupLegReturned, &body);
    state.liquidity_rose(row.debtor);
}

/// What keeps a leg from posting whatever else posts: sums near their end.
fn find_overflow(state: &State, leg: Handle) -> Option<Obstacle> {
    let row = state.payments.row(leg);
    let (account, reason) = if !state.ledger.row(row.debtor).gives_any_debit() {
        (row.debtor, Reason::OverflowsDebits)
    } else if !state.ledger.row(row.creditor).takes_any_credit() {
        (row.creditor, Reason::OverflowsCredits)
    } else {
        return None;
    };
    Some(Obstacle::new(account, reason))
}

/// The legs of a group, in order of entry.
pub(super) fn legs_of(state: &State, group: Handle) -> impl Iterator<Item = Handle> + '_ {
    let first = state.groups.row(group).first_leg();
    std::iter::successors(Some(first), |leg| state.payments.next_leg(*leg))
}

/// Says what a waiting group waits for, in the group and in its legs.
fn note_obstacle(state: &mut State, group: Handle, obstacle: Obstacle) {
    let (reason, account) = (obstacle.reason, obstacle.account);
    state.groups.set_obstacle(group, reason, Some(account));
}

/// Settles a waiting group if nothing keeps it; returns whether it left the queues.
pub(super) fn try_settle(state: &mut State, group: Handle, out: &mut Outbox) -> bool {
    if state.groups.row(group).is_late(state.now) {
        expire(state, group, Reason::Expired, out);
        return true;
    }
    try_by(state, group, SettledBy::Release, out)
}

/// Settles a group whole, on collateral, or in part; returns whether it left the queues.
fn try_by(state: &mut State, group: Handle, by: SettledBy, out: &mut Outbox) -> bool {
    let Some(found) = obstacle(state, group) else {
        settle(state, group, by, out);
        return true;
    };
    if settle_on_collateral(state, group, found, by, out) {
        return true;
    }
    if !settle_part(state, group, by, out) {
        note_obstacle(state, group, found);
        return false;
    }
    if state.groups.row(group).procedure() == GroupProcedure::PartialOnce {
        expire(state, group, Reason::RestCancelled, out);
        return true;
    }
    if let Some(found) = obstacle(state, group) {
        note_obstacle(state, group, found);
    }
    false
}

/// Settles as much of a group as can be settled of every leg in the same proportion, where all its
/// accounts allow that and it reaches the minimum. Amounts are whole multiples of a lot, so nothing
/// is rounded. Returns whether a part settled.
fn settle_part(state: &mut State, group: Handle, by: SettledBy, out: &mut Outbox) -> bool {
    let row = state.groups.row(group);
    let (left, least) = (row.lots_left(), row.least_part());
    let waits_for_day = state.payments.row(row.first_leg()).has(WAITS_FOR_DAY);
    if !row.settles_in_parts() || waits_for_day {
        return false;
    }
    let lots = most_lots(state, group, left);
    if lots == 0 || lots < least || lots >= left {
        return false;
    }
    // From here it succeeds.
    let mut first_leg_amount = Amount::ZERO;
    let mut at = Some(state.groups.row(group).first_leg());
    while let Some(leg) = at {
        at = state.payments.next_leg(leg);
        let amount = state.payments.row(leg).amount / left * lots;
        if first_leg_amount == Amount::ZERO {
            first_leg_amount = Amount(amount);
        }
        super::release::settle_part_of_row(state, leg, amount);
    }
    state.groups.move_part(group, lots);
    let body = GroupPartSettled {
        id: state.groups.row(group).id(),
        lots: Amount(lots),
        lots_left: Amount(left - lots),
        first_leg_amount,
        by,
        _reserved: [Zero::Zero; 15],
    };
    out.push(EventKind::GroupPartSettled, &body);
    true
}

/// The most lots of a group that can settle now, of those that are left.
fn most_lots(state: &mut State, group: Handle, left: u128) -> u128 {
    let mut together = std::mem::take(&mut state.together);
    let mut legs = std::mem::take(&mut state.legs);
    legs.clear();
    legs.extend(legs_of(state, group));
    let is_allowed = |leg: &Handle| {
        let row = state.payments.row(*leg);
        let (from, to) = (state.ledger.row(row.debtor), state.ledger.row(row.creditor));
        from.allows_parts() && to.allows_parts() && find_overflow(state, *leg).is_none()
    };
    let lots = if legs.iter().all(is_allowed) {
        let liquidity = |account| state.ledger.row(account).liquidity();
        let bypass = state.saving.bypass();
        together.most_lots(&state.payments, &legs, bypass, left, liquidity)
    } else {
        0
    };
    state.together = together;
    state.legs = legs;
    lots
}

/// Lets groups move parts of their legs on an account, or no more so.
pub(in crate::engine) fn allow_partial_settlement(
    state: &mut State,
    asked: &AllowPartialSettlement,
    out: &mut Outbox,
) {
    let (kind, id) = (CommandKind::AllowPartialSettlement, asked.account.0.into());
    let Some(account) = state.ledger.find(asked.account) else {
        rejected(kind, id, Reason::AccountNotFound, out);
        return;
    };
    // From here it succeeds.
    let allowed = asked.allowed.is_yes();
    state.ledger.set_allows_parts(account, allowed);
    ok(kind, out);
    // The other side of a group may be who waits.
    state.look_again();
}

/// Where only cash is missing, and a pledge of what the group buys or of what its buyer has would
/// cover it: pledges, and settles the group. Returns whether it did.
fn settle_on_collateral(
    state: &mut State,
    group: Handle,
    short: Obstacle,
    by: SettledBy,
    out: &mut Outbox,
) -> bool {
    if short.reason != Reason::InsufficientLiquidity {
        return false;
    }
    let left = state.ledger.row(short.account).available() + flow(state, group, short.account);
    let Ok(missing) = u128::try_from(-left) else {
        return false;
    };
    let incoming = |account| flow(state, group, account);
    let Some(pledge) = plan_pledge(state, short.account, missing, incoming) else {
        return false;
    };
    let before = state.ledger.row(short.account).credit_line;
    let raised = Amount(before + missing);
    state.ledger.set_credit_line(short.account, raised);
    let obstacle = obstacle(state, group);
    state.ledger.set_credit_line(short.account, Amount(before));
    if obstacle.is_some() {
        // Something else stands in its way, too.
        return false;
    }
    // From here it succeeds.
    give_credit(state, pledge);
    settle(state, group, by, out);
    hold_pledge(state, pledge, out);
    true
}

/// What a group brings an account, net.
fn flow(state: &State, group: Handle, account: Handle) -> i128 {
    legs_of(state, group)
        .map(|leg| {
            let row = state.payments.row(leg);
            let amount = row.amount as i128;
            i128::from(row.creditor == account) * amount
                - i128::from(row.debtor == account) * amount
        })
        .sum()
}

/// Settles a waiting group whose cover is certain.
pub(super) fn settle(state: &mut State, group: Handle, by: SettledBy, out: &mut Outbox) {
    let mut at = Some(state.groups.row(group).first_leg());
    while let Some(leg) = at {
        at = state.payments.next_leg(leg);
        super::release::settle_row(state, leg, by);
        // What waited behind a leg that needed no money of its own may go now.
        let debtor = state.payments.row(leg).debtor;
        state.liquidity_rose(debtor);
    }
    finish(state, group, PaymentState::Settled, by, Reason::Created);
    out.push(EventKind::GroupSettled, &moved(state, group));
}

/// Ends a waiting group without settling it: its time or the day is over, or its sender asked.
pub(super) fn expire(state: &mut State, group: Handle, reason: Reason, out: &mut Outbox) {
    let to = match reason {
        Reason::Requested | Reason::RestCancelled => PaymentState::Cancelled,
        _ => PaymentState::Rejected,
    };
    let mut at = Some(state.groups.row(group).first_leg());
    while let Some(leg) = at {
        at = state.payments.next_leg(leg);
        if !state.payments.row(leg).is_waiting() {
            give_back(state, leg, reason, out);
            continue;
        }
        state.payments.finish(leg, to, SettledBy::None, reason);
        let debtor = state.payments.row(leg).debtor;
        state.liquidity_rose(debtor);
    }
    finish(state, group, to, SettledBy::None, reason);
    out.push(EventKind::GroupExpired, &moved(state, group));
}

/// A group's latest time has come.
pub(super) fn come_due(state: &mut State, group: Handle, out: &mut Outbox) {
    state.groups.set_deadline(group, NO_DEADLINE);
    expire(state, group, Reason::Expired, out);
}

fn finish(state: &mut State, group: Handle, to: PaymentState, by: SettledBy, reason: Reason) {
    if let Some(slot) = state.groups.row(group).deadline() {
        state.deadlines.remove(slot);
    }
    state.groups.finish(group, to, by, reason);
}

/// The event that says where a group is now.
pub(super) fn moved(state: &State, group: Handle) -> GroupMoved {
    let row = state.groups.row(group);
    let account = row.waiting_for();
    GroupMoved {
        id: row.id(),
        waiting_for: AccountId(account.map_or(0, |account| state.ledger.row(account).id)),
        reason: row.reason(),
        _reserved: [Zero::Zero; 6],
    }
}

/// The event that answers a query for a group.
pub(super) fn kind_of(state: &State, group: Handle) -> EventKind {
    match state.groups.row(group).state() {
        PaymentState::Settled => EventKind::GroupSettled,
        PaymentState::Queued | PaymentState::Warehoused => EventKind::GroupPending,
        PaymentState::Cancelled | PaymentState::Rejected => EventKind::GroupExpired,
    }
}
