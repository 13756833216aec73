//! Every invariant over the whole state: each room's own, and those that hold between rooms. Runs
//! after every command in tests, before a snapshot is written, and in `millrace verify`.

use super::Engine;
use super::deadlines::{DeadlineSlot, Due};
use super::handlers::fills::held_for;
use super::handlers::release::{self, Standing};
use super::handlers::{groups, orders};
use super::matching::OrderView;
use super::settlement::payment::{ALONE, INSTANT, WAITS_FOR_DAY};
use super::settlement::together::Together;
use super::state::State;
use crate::protocol::command::{DayPhase, Side, TransferFlags};
use crate::protocol::event::{AuthorisationState, PaymentState, TransferState};

impl Engine {
    /// Every invariant over the whole state; the error says which one broke and where.
    ///
    /// - per asset, debits equal credits, posted and pending;
    /// - what accounts have pending is exactly what pending transfers and authorisations reserve;
    /// - what accounts hold is exactly what live orders, positions and pledges hold;
    /// - what positions bought, others sold, and what they paid, others received;
    /// - queues, books and indexes agree with their rows;
    /// - no covered payment stands at the head of a queue, and no group waits that could settle
    ///   (nothing waits without a reason).
    pub fn audit(&self) -> Result<(), String> {
        let state = &self.state;
        state.ledger.audit(state.assets.rows().len())?;
        state.transfers.audit("transfer")?;
        state.authorisations.audit("authorisation")?;
        state.authorisation_steps.audit("authorisation step")?;
        state.deadlines.audit()?;
        state.schedule.audit(&state.day)?;
        state.approvals.audit()?;
        state.throttles.audit()?;
        audit_pending(state)?;
        audit_participants(state)?;
        state.payments.audit()?;
        audit_kept_by_day(state)?;
        audit_groups(state)?;
        state.matching.audit()?;
        state.positions.audit()?;
        audit_holds(state)?;
        audit_credit(state)?;
        audit_queue_heads(state)?;
        audit_waiting_groups(state)
    }
}

/// What accounts have pending is exactly what pending transfers and open authorisations reserve,
/// and each of them and every order that waits for its time has its own deadline.
fn audit_pending(state: &State) -> Result<(), String> {
    let accounts = state.ledger.rows().len();
    let (mut debits, mut credits) = (vec![0u128; accounts], vec![0u128; accounts]);
    let mut closed = vec![false; accounts];
    let mut waiting = 0;
    for (handle, row) in state.transfers.iter() {
        if row.status() != TransferState::Pending {
            continue;
        }
        debits[row.debit as usize] += row.amount().0;
        credits[row.credit as usize] += row.amount().0;
        closed[row.debit as usize] |= row.has(TransferFlags::CLOSING_DEBIT);
        closed[row.credit as usize] |= row.has(TransferFlags::CLOSING_CREDIT);
        if row.timeout_s() != 0 {
            waiting += 1;
            audit_deadline(state, row.deadline, Due::Transfer(handle))?;
        }
    }
    for (handle, row) in state.authorisations.iter() {
        debits[row.debit as usize] += row.held().0;
        credits[row.credit as usize] += row.held().0;
        if row.state() == AuthorisationState::Open && row.expires_at().is_some() {
            waiting += 1;
            audit_deadline(state, row.deadline, Due::Authorisation(handle))?;
        }
    }
    let mut broken = Ok(());
    let mut order_waits = |order: OrderView| {
        if order.expires_at.0 != 0 {
            waiting += 1;
            let due = audit_deadline(state, order.deadline, Due::Order(order.slot.row()));
            if broken.is_ok() {
                broken = due;
            }
        }
    };
    for book in 0..state.matching.books() {
        for side in [Side::Buy, Side::Sell] {
            state.matching.for_each_order(book, side, &mut order_waits);
        }
        state.matching.for_each_waiting(book, &mut order_waits);
    }
    broken?;
    for (handle, row) in state.payments.rows().iter().enumerate() {
        let handle = handle as u32;
        let has_time = row.earliest_at() > state.now && row.state() == PaymentState::Warehoused
            || row.latest_at().0 != 0 && row.is_waiting() && row.leg_of().is_none();
        if let Some(slot) = state.payments.deadline(handle) {
            waiting += 1;
            audit_deadline(state, slot, Due::Payment(handle))?;
        } else if has_time {
            return Err(format!("payment {}: waits for no time", row.id));
        }
    }
    for (handle, row) in state.groups.rows().iter().enumerate() {
        if let Some(slot) = row.deadline() {
            waiting += 1;
            audit_deadline(state, slot, Due::Group(handle as u32))?;
        }
    }
    if let Some(slot) = state.saving.deadline() {
        waiting += 1;
        audit_deadline(state, slot, Due::Saving)?;
    }
    for phase in DayPhase::ALL {
        if let Some(slot) = state.schedule.deadline(*phase) {
            waiting += 1;
            audit_deadline(state, slot, Due::Phase(*phase))?;
        }
    }
    for row in state.approvals.rows() {
        if row.is_open() && row.expires_at().0 != 0 {
            waiting += 1;
            audit_deadline(state, row.deadline, Due::Proposal(row.id))?;
        }
    }
    if waiting != state.deadlines.len() {
        return Err(format!(
            "{} deadlines, but {waiting} rows wait for their time",
            state.deadlines.len()
        ));
    }
    for (at, row) in state.ledger.rows().iter().enumerate() {
        if (row.debits_pending, row.credits_pending) != (debits[at], credits[at]) {
            return Err(format!(
                "account {}: pending {} and {}, but {} and {} are reserved",
                row.id, row.debits_pending, row.credits_pending, debits[at], credits[at]
            ));
        }
        if row.is_closed() != closed[at] {
            return Err(format!(
                "account {}: closed {}, closing transfers say {}",
                row.id,
                row.is_closed(),
                closed[at]
            ));
        }
    }
    Ok(())
}

/// An account pays and receives as its participant may.
fn audit_participants(state: &State) -> Result<(), String> {
    for row in state.ledger.rows() {
        let owner = state.participants.row(row.participant);
        let wanted = (owner.may_pay(), owner.may_receive());
        let open = !row.is_closed();
        if (row.may_pay(), row.may_receive()) != (wanted.0 && open, wanted.1 && open) {
            return Err(format!(
                "account {}: pays or receives otherwise than its participant may",
                row.id
            ));
        }
    }
    Ok(())
}

/// What waits for the phase of the day are those that ask it, and no other.
fn audit_kept_by_day(state: &State) -> Result<(), String> {
    for payment in state.payments.queue_order() {
        let row = state.payments.row(payment);
        let is_instant = state.ledger.are_instant(row.debtor, row.creditor);
        let keeps = !state.day.settles() && !row.has(INSTANT);
        if row.has(WAITS_FOR_DAY) != keeps
            || row.has(INSTANT) && !is_instant
            || is_instant && !row.has(INSTANT) && row.group().is_none()
        {
            return Err(format!("payment {}: asks the day, or does not", row.id));
        }
    }
    Ok(())
}

fn audit_deadline(state: &State, slot: DeadlineSlot, due: Due) -> Result<(), String> {
    if state.deadlines.due(slot) == Some(due) {
        Ok(())
    } else {
        Err(format!("{due:?}: deadline slot {slot} is not its own"))
    }
}

/// The sum of what live orders, positions and pledges hold on an account is what the account says is held.
fn audit_holds(state: &State) -> Result<(), String> {
    let mut held = vec![0u128; state.ledger.rows().len()];
    for (handle, instrument) in state.instruments.rows().iter().enumerate() {
        let mut add = |order: OrderView| {
            let account = match order.side {
                Side::Buy => order.quote_account,
                Side::Sell => order.base_account,
            };
            held[account as usize] += held_for(instrument, &order).0;
        };
        for side in [Side::Buy, Side::Sell] {
            state.matching.for_each_order(handle as u32, side, &mut add);
        }
        state.matching.for_each_waiting(handle as u32, add);
    }
    for (book, instrument) in state.instruments.rows().iter().enumerate() {
        let trades = orders::trades(state, book as u32);
        if trades && state.matching.has_unheard_quote(book as u32) {
            return Err(format!(
                "instrument {}: a stop sleeps though its best price is there",
                instrument.id
            ));
        }
    }
    state
        .matching
        .for_each_extra(|account, extra| held[account as usize] += extra);
    for row in state.positions.rows() {
        held[row.base_account as usize] += row.sold;
        held[row.quote_account as usize] += row.held;
    }
    let mut in_pools = 0;
    for (at, pool) in state.collateral.pools().iter().enumerate() {
        held[pool.securities as usize] += pool.pledged;
        if state.collateral.is_first(at as u32) {
            in_pools += state.collateral.parts(at as u32).count();
        } else if pool.credit != 0 || pool.cap != 0 {
            let id = state.ledger.row(pool.cash).id;
            return Err(format!("account {id}: two pools give it credit"));
        }
        if state.ledger.row(pool.cash).credit_line < pool.credit {
            let id = state.ledger.row(pool.cash).id;
            return Err(format!(
                "account {id}: its line is less than its pool gives"
            ));
        }
    }
    if in_pools != state.collateral.pools().len() {
        return Err("a pledge is in no pool".into());
    }
    for row in state.groups.rows() {
        if row.collects() && row.state() == PaymentState::Queued {
            let technical = state.payments.row(row.first_leg()).creditor;
            held[technical as usize] += row.collected();
        }
    }
    for (row, held) in state.ledger.rows().iter().zip(held) {
        if row.held != held {
            return Err(format!(
                "account {}: holds {}, its orders, positions and pledges hold {held}",
                row.id, row.held
            ));
        }
    }
    Ok(())
}

/// Every line holds what it is made of, and credit for the day is in force by day only.
fn audit_credit(state: &State) -> Result<(), String> {
    for (at, row) in state.intraday.rows().iter().enumerate() {
        let account = state.ledger.row(row.account);
        let pool = state.collateral.find(row.account);
        let pledged = pool.map_or(0, |at| state.collateral.pool(at).credit);
        let is_sound = state.intraday.find(row.account) == Some(at)
            && account.credit_line >= row.given() + pledged
            && (state.day.gives_credit() || !row.is_in_force())
            && (row.loan == 0 || row.lender().is_some());
        if !is_sound {
            return Err(format!(
                "account {}: intraday credit is not in its line",
                account.id
            ));
        }
    }
    let lost = state.collateral.pools().iter().find(|pool| {
        state.intraday.find(pool.cash).is_none()
            || !state.day.gives_credit() && !pool.is_automatic() && pool.credit > 0
    });
    match lost {
        Some(pool) => Err(format!(
            "pool of account handle {}: gives credit by night",
            pool.cash
        )),
        None => Ok(()),
    }
}

/// Every leg is as far as its group, and every group has its legs.
fn audit_groups(state: &State) -> Result<(), String> {
    let mut legs = vec![0u32; state.groups.rows().len()];
    let mut collected = vec![0u128; state.groups.rows().len()];
    for row in state.payments.rows() {
        if let Some(group) = row.leg_of() {
            legs[group as usize] += 1;
            let is_in = row.has(ALONE) && row.state() == PaymentState::Settled;
            if is_in {
                collected[group as usize] += row.amount;
            } else if row.state() != state.groups.row(group).state() {
                return Err(format!("group {}: a leg is elsewhere", row.id));
            }
        }
    }
    for (row, collected) in state.groups.rows().iter().zip(collected) {
        if row.collects() && row.collected() != collected {
            return Err(format!("group {}: {collected} is in", row.id()));
        }
    }
    for (row, legs) in state.groups.rows().iter().zip(legs) {
        if row.legs() != legs || state.groups.find(row.id()).is_none() {
            return Err(format!("group {}: {legs} legs, or not found", row.id()));
        }
    }
    Ok(())
}

/// No group waits that could settle, unless release has yet to get to one of its accounts.
fn audit_waiting_groups(state: &State) -> Result<(), String> {
    let (mut together, mut legs) = (Together::default(), Vec::new());
    for (handle, row) in state.groups.rows().iter().enumerate() {
        if row.state() != PaymentState::Queued || row.is_late(state.now) {
            continue;
        }
        let obstacle = groups::find_obstacle(state, handle as u32, &mut together, &mut legs);
        let debtors = |leg: &u32| state.payments.row(*leg).debtor;
        let mut debtors = legs.iter().map(debtors);
        if obstacle.is_none() && !debtors.any(|debtor| state.payments.is_risen(debtor)) {
            return Err(format!("group {}: waits though it could settle", row.id()));
        }
    }
    Ok(())
}

fn audit_queue_heads(state: &State) -> Result<(), String> {
    for desk in state.payments.desks() {
        let first = state
            .payments
            .iter(desk.account)
            .find(|payment| state.payments.row(*payment).is_eligible());
        if let Some(first) = first
            && state.payments.row(first).group().is_none()
            && !state.payments.is_risen(desk.account)
            && matches!(release::standing(state, first), Standing::Covered)
        {
            return Err(format!(
                "payment {}: waits at the head though covered",
                state.payments.row(first).id
            ));
        }
    }
    Ok(())
}
