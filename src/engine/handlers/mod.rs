//! Handlers: one function per command, named like it. Each goes CHECK, DECIDE, COMMIT: checks
//! return a reason and touch nothing; once it says "From here it succeeds." there is only mutation.

pub(super) mod administration;
pub(super) mod approvals;
pub(super) mod authorisations;
pub(super) mod batches;
pub(super) mod clock;
pub(super) mod collateral;
pub(super) mod credit;
pub(super) mod cycles;
mod explain;
pub(super) mod fills;
pub(super) mod groups;
pub(super) mod hints;
pub(super) mod liquidity;
mod offsetting;
pub(super) mod orders;
pub(super) mod participants;
pub(super) mod payments;
pub(super) mod queries;
pub(super) mod reference_data;
pub(super) mod release;
pub(super) mod saving;
pub(super) mod schedule;
pub(super) mod throttles;
pub(super) mod transfers;

use super::index::Handle;
use super::outbox::Outbox;
use super::state::State;
use crate::protocol::command::CommandKind;
use crate::protocol::event::{self, EventKind};
use crate::protocol::reason::Reason;
use crate::protocol::units::{AccountId, ClientOrderId, OrderId, ParticipantId};
use crate::protocol::wire::{Bool, Zero};

/// An administrative command is done.
fn ok(cmd: CommandKind, out: &mut Outbox) {
    let body = event::Ok {
        cmd,
        _reserved: [Zero::Zero; 2],
        participant: ParticipantId(0),
        group: 0,
        _reserved_end: [Zero::Zero; 4],
    };
    out.push(EventKind::Ok, &body);
}

/// A command is refused and has changed nothing.
pub(super) fn rejected(cmd: CommandKind, id: u128, reason: Reason, out: &mut Outbox) {
    let body = event::Rejected {
        cmd,
        reason,
        participant: ParticipantId(0),
        by_order_id: Bool::No,
        _reserved: [Zero::Zero; 7],
        id,
    };
    out.push(EventKind::Rejected, &body);
}

/// What a participant asked about an order is refused; it named the order by either id.
fn order_rejected(
    participant: ParticipantId,
    cmd: CommandKind,
    (client_order_id, order_id): (ClientOrderId, OrderId),
    reason: Reason,
    out: &mut Outbox,
) {
    let is_own = client_order_id.0 != 0;
    let id = if is_own {
        client_order_id.0
    } else {
        order_id.0
    };
    let body = event::Rejected {
        cmd,
        reason,
        participant,
        by_order_id: if is_own || id == 0 {
            Bool::No
        } else {
            Bool::Yes
        },
        _reserved: [Zero::Zero; 7],
        id: u128::from(id),
    };
    out.push(EventKind::Rejected, &body);
}

/// Answers an administrative command.
fn answer(cmd: CommandKind, id: u128, result: Result<(), Reason>, out: &mut Outbox) {
    match result {
        Ok(()) => ok(cmd, out),
        Err(reason) => rejected(cmd, id, reason, out),
    }
}

/// Account ids that name nothing, or the same account twice.
#[inline(always)]
fn check_account_ids(debit: AccountId, credit: AccountId) -> Result<(), Reason> {
    if debit.0 == 0 {
        Err(Reason::DebitAccountIdMustNotBeZero)
    } else if debit.0 == u64::MAX {
        Err(Reason::DebitAccountIdMustNotBeIntMax)
    } else if credit.0 == 0 {
        Err(Reason::CreditAccountIdMustNotBeZero)
    } else if credit.0 == u64::MAX {
        Err(Reason::CreditAccountIdMustNotBeIntMax)
    } else if debit == credit {
        Err(Reason::AccountsMustBeDifferent)
    } else {
        Ok(())
    }
}

/// The accounts of both sides, which hold the same asset.
#[inline(always)]
fn find_sides(
    state: &State,
    debit: AccountId,
    credit: AccountId,
) -> Result<(Handle, Handle), Reason> {
    let debit = state.ledger.find(debit);
    let debit = debit.ok_or(Reason::DebitAccountNotFound)?;
    let credit = state.ledger.find(credit);
    let credit = credit.ok_or(Reason::CreditAccountNotFound)?;
    if state.ledger.row(debit).asset != state.ledger.row(credit).asset {
        return Err(Reason::AccountsMustHaveTheSameLedger);
    }
    Ok((debit, credit))
}

/// Ids that name nothing.
#[inline(always)]
fn check_id(id: u128) -> Result<(), Reason> {
    match id {
        0 => Err(Reason::IdMustNotBeZero),
        u128::MAX => Err(Reason::IdMustNotBeIntMax),
        _ => Ok(()),
    }
}
