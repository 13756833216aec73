//! Assets, participants, accounts and instruments: what must be there before anything moves.
//! Creating the same thing twice with the same words is refused as `exists` and changes nothing.

use super::{answer, rejected};
use crate::engine::instruments::{FEE_BPS_MAX, InstrumentRow};
use crate::engine::ledger::NOTIONAL_MAX;
use crate::engine::outbox::Outbox;
use crate::engine::reference_data::{AssetRow, ParticipantRow};
use crate::engine::state::State;
use crate::protocol::command::{
    AccountFlags, CommandKind, CreateAccount, CreateAsset, CreateInstrument, CreateParticipant,
    CreateTickTable, TickStep,
};
use crate::protocol::event::{self, EventKind};
use crate::protocol::reason::Reason;
use crate::protocol::wire::{Text16, Zero};

/// Flags of an account that only commands set later.
const NOT_FOR_OPENERS: u16 = AccountFlags::CLOSED.0 | AccountFlags::PARTIAL_SETTLEMENT.0;

/// Names an asset.
pub(in crate::engine) fn create_asset(state: &mut State, asked: &CreateAsset, out: &mut Outbox) {
    let row = AssetRow::new(asked.asset, asked.code, asked.scale, asked.kind);
    let result = check_code(&asked.code).and_then(|()| match state.assets.find(row.id) {
        Some(old) if *state.assets.row(old) == row => Err(Reason::Exists),
        Some(_) => Err(Reason::ExistsWithDifferentContent),
        None if !state.assets.has_room() => Err(Reason::CapacityExhausted),
        None => {
            state.assets.add(row);
            Ok(())
        }
    });
    answer(
        CommandKind::CreateAsset,
        u128::from(asked.asset.0),
        result,
        out,
    );
}

/// Groups are numbered below 2^31.
const GROUP_MAX: u32 = u32::MAX >> 1;

/// Names a participant.
pub(in crate::engine) fn create_participant(
    state: &mut State,
    asked: &CreateParticipant,
    out: &mut Outbox,
) {
    let row = ParticipantRow::new(asked.participant, asked.code, asked.group);
    let result = check_code(&asked.code).and_then(|()| match state.participants.find(row.id) {
        Some(old) if state.participants.row(old).is_same(&row) => Err(Reason::Exists),
        Some(_) => Err(Reason::ExistsWithDifferentContent),
        None if asked.group > GROUP_MAX => Err(Reason::OutOfRange),
        None if !state.participants.has_room() => Err(Reason::CapacityExhausted),
        None => {
            let handle = state.participants.add(row);
            state.matching.join_group(handle, row.group);
            Ok(())
        }
    });
    let id = u128::from(asked.participant.0);
    match result {
        // Whoever watches its group learns of it here.
        Ok(()) => out.push(
            EventKind::Ok,
            &event::Ok {
                cmd: CommandKind::CreateParticipant,
                _reserved: [Zero::Zero; 2],
                participant: asked.participant,
                group: asked.group,
                _reserved_end: [Zero::Zero; 4],
            },
        ),
        Err(reason) => rejected(CommandKind::CreateParticipant, id, reason, out),
    }
}

fn check_code(code: &Text16) -> Result<(), Reason> {
    if code.is_valid() && !code.as_str().is_empty() {
        Ok(())
    } else {
        Err(Reason::CodeNotPrintable)
    }
}

/// Opens an account.
pub(in crate::engine) fn create_account(
    state: &mut State,
    asked: &CreateAccount,
    out: &mut Outbox,
) {
    let result = open_account(state, asked);
    answer(
        CommandKind::CreateAccount,
        u128::from(asked.account.0),
        result,
        out,
    );
}

fn open_account(state: &mut State, asked: &CreateAccount) -> Result<(), Reason> {
    if !asked.flags.is_valid() || asked.flags.0 & NOT_FOR_OPENERS != 0 {
        return Err(Reason::ReservedFlag);
    }
    match asked.account.0 {
        0 => return Err(Reason::IdMustNotBeZero),
        u64::MAX => return Err(Reason::IdMustNotBeIntMax),
        _ => {}
    }
    if let Some(old) = state.ledger.find(asked.account) {
        return Err(compare_account(state, old, asked));
    }
    let both = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
        .with(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
    if asked.flags.has(both) {
        return Err(Reason::FlagsAreMutuallyExclusive);
    }
    let participant = state.participants.find(asked.participant.0);
    let participant = participant.ok_or(Reason::ParticipantNotFound)?;
    let asset = state.assets.find(asked.asset.0);
    let asset = asset.ok_or(Reason::AssetNotFound)?;
    if asked.credit_line.0 > NOTIONAL_MAX {
        return Err(Reason::AmountOutOfRange);
    }
    if !state.ledger.has_room() {
        return Err(Reason::CapacityExhausted);
    }
    // From here it succeeds.
    state.ledger.open(
        asked.account,
        participant,
        asset,
        asked.flags,
        asked.credit_line,
    );
    let owner = state.participants.row(participant);
    let (may_pay, may_receive) = (owner.may_pay(), owner.may_receive());
    if !(may_pay && may_receive) {
        state.ledger.set_may(participant, may_pay, may_receive);
    }
    Ok(())
}

/// Whether the account that is there was opened with the same words. Its credit line may have
/// moved since, so that is not compared.
fn compare_account(state: &State, old: u32, asked: &CreateAccount) -> Reason {
    let row = state.ledger.row(old);
    let implied = if asked.flags.has(AccountFlags::SETTLEMENT) {
        asked
            .flags
            .with(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
    } else {
        asked.flags
    };
    let is_same = state.participants.row(row.participant).id == asked.participant.0
        && state.assets.row(row.asset).id == asked.asset.0
        && row.opening_flags() == implied;
    if is_same {
        Reason::Exists
    } else {
        Reason::ExistsWithDifferentContent
    }
}

/// Says which prices there are, for the instruments that name the table.
pub(in crate::engine) fn create_tick_table(
    state: &mut State,
    asked: &CreateTickTable,
    steps: &[TickStep],
    out: &mut Outbox,
) {
    let result = state.ticks.add(asked.tick_table, steps);
    let id = u128::from(asked.tick_table);
    answer(CommandKind::CreateTickTable, id, result, out);
}

/// Lists an instrument. It trades at once; an operator who wants phases sets them.
pub(in crate::engine) fn create_instrument(
    state: &mut State,
    asked: &CreateInstrument,
    out: &mut Outbox,
) {
    let result = list_instrument(state, asked);
    let id = u128::from(asked.instrument.0);
    answer(CommandKind::CreateInstrument, id, result, out);
}

fn list_instrument(state: &mut State, asked: &CreateInstrument) -> Result<(), Reason> {
    let row = check_instrument(state, asked)?;
    if let Some(old) = state.instruments.find(row.id) {
        return Err(if state.instruments.row(old).is_listing_of(&row) {
            Reason::Exists
        } else {
            Reason::ExistsWithDifferentContent
        });
    }
    if !state.instruments.has_room() {
        return Err(Reason::CapacityExhausted);
    }
    if let Some(account) = row.fee_account() {
        state.ledger.check_trading(account)?;
    }
    // From here it succeeds.
    if let Some(account) = row.fee_account() {
        state.ledger.open_for_trading(account);
    }
    let handle = state.instruments.add(row);
    state.matching.add_book(handle);
    Ok(())
}

fn check_instrument(state: &State, asked: &CreateInstrument) -> Result<InstrumentRow, Reason> {
    let find_asset = |id: u32| state.assets.find(id).ok_or(Reason::AssetNotFound);
    let base = find_asset(asked.base_asset.0)?;
    let quote = find_asset(asked.quote_asset.0)?;
    let fees = [asked.maker_fee_bps, asked.taker_fee_bps];
    let has_fees = fees.iter().any(|bps| *bps != 0);
    let is_sound = base != quote
        && asked.instrument.0 != u32::MAX
        && asked.lot_size > 0
        && asked.tick_value > 0
        && asked.min_price.0 >= 1
        && asked.max_price >= asked.min_price
        && asked.min_quantity.0 > 0
        && asked.max_quantity >= asked.min_quantity
        && asked.price_step > 0
        && asked.reference_price.0 >= 0
        && fees.iter().all(|bps| bps.abs() <= FEE_BPS_MAX)
        // A rebate is paid out of the other side's fee, never out of the house's pocket.
        && fees.iter().sum::<i32>() >= 0;
    if !is_sound {
        return Err(Reason::OutOfRange);
    }
    let fee_account = match asked.fee_account.0 {
        0 if has_fees => return Err(Reason::AccountNotFound),
        0 => None,
        _ => Some(
            state
                .ledger
                .find(asked.fee_account)
                .ok_or(Reason::AccountNotFound)?,
        ),
    };
    if fee_account.is_some_and(|account| state.ledger.row(account).asset != quote) {
        return Err(Reason::AccountsMustHaveTheSameLedger);
    }
    let tick_table = match asked.tick_table {
        0 => 0,
        id => state.ticks.find(id).ok_or(Reason::TickTableNotFound)?,
    };
    let has_ticks = tick_table == 0
        || asked.price_step == 1 && state.ticks.reaches_down_to(tick_table, asked.min_price);
    if !has_ticks {
        return Err(Reason::OutOfRange);
    }
    Ok(InstrumentRow::new(
        asked,
        base,
        quote,
        fee_account,
        tick_table,
    ))
}
