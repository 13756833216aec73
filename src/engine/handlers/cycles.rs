//! Cycles: fills that settle later, and the settlement of what has come together.
//!
//! ```text
//! order    holds its cover at entry, as any order
//! fill     what it costs goes from the order's hold to the position's; nothing is posted
//! cycle    every hold of the instrument's positions is released and all of them are posted, in one
//!          command: quote net, base net or gross, fees to the house
//! ```
//! A cycle cannot fail: what each position owes has been held since its orders came in, and what
//! comes in is on top. So it asks nobody: an account that is closed by now, or a participant that is
//! blocked, settles what it traded.

use super::fills::{Fees, Party, charge, seller_and_rebates};
use super::{ok, rejected};
use crate::engine::index::Handle;
use crate::engine::instruments::InstrumentRow;
use crate::engine::ledger::Ledger;
use crate::engine::outbox::Outbox;
use crate::engine::positions::{self, DeferredFill, PositionRow};
use crate::engine::postings::Cause;
use crate::engine::reference_data::{ParticipantRow, Registry};
use crate::engine::state::State;
use crate::protocol::command::{CommandKind, InstrumentRef, QueryPositions, Settlement};
use crate::protocol::event::{CyclePosition, CycleSettled, EventKind, Position, Positions};
use crate::protocol::reason::Reason;
use crate::protocol::units::{
    AccountId, Amount, InstrumentId, ParticipantId, Price, Quantity, base_amount,
};
use crate::protocol::wire::Zero;

/// Adds a fill to the positions of its sides: what it costs stays held, now for them. Returns what
/// is charged and the notional, as a fill that settles at once does.
#[inline(never)] // out of the way of those
pub(super) fn defer_fill(
    ledger: &mut Ledger,
    (positions, book): (&mut positions::Positions, Handle),
    instrument: &InstrumentRow,
    (buyer, seller): (Party, Party),
    (price, quantity): (Price, Quantity),
    budget: &mut u128,
) -> (Fees, Amount) {
    let notional = instrument.notional(price, quantity);
    let notional = notional.expect("below the limit checked at entry");
    let mut buyer_fee = 0;
    let mut fees = Fees {
        buyer: 0,
        seller: 0,
    };
    if instrument.fee_account().is_some() {
        buyer_fee = charge(notional, buyer.fee_bps).0;
        let from_hold = buyer_fee.min(*budget);
        *budget -= from_hold;
        let rounding = Amount(buyer_fee - from_hold);
        if rounding.0 > 0 {
            if ledger.check_cover(buyer.quote_account, rounding).is_ok() {
                ledger.hold(buyer.quote_account, rounding);
            } else {
                buyer_fee = from_hold;
            }
        }
        let (seller_fee, rebates) = seller_and_rebates(notional, buyer, seller, buyer_fee);
        fees = Fees {
            buyer: buyer_fee as i128 - rebates.0 as i128,
            seller: seller_fee as i128 - rebates.1 as i128,
        };
    }
    positions.add(&DeferredFill {
        book,
        buyer: buyer.base_account,
        seller: seller.base_account,
        base: base_amount(quantity, instrument.lot_size).0,
        notional: notional.0,
        buyer_fee: fees.buyer,
        seller_fee: fees.seller,
        held: notional.0 + buyer_fee,
    });
    (fees, notional)
}

/// Positions one answer to query_positions lists; the head counts all.
const POSITIONS_MAX: usize = 1_024;

/// What the next cycle of an instrument would move if it came now.
pub(in crate::engine) fn query_positions(state: &State, asked: &QueryPositions, out: &mut Outbox) {
    let refuse = |reason, out: &mut Outbox| {
        let id = u128::from(asked.instrument.0);
        rejected(CommandKind::QueryPositions, id, reason, out);
    };
    let Some(book) = state.instruments.find(asked.instrument.0) else {
        return refuse(Reason::InstrumentNotFound, out);
    };
    let instrument = state.instruments.row(book);
    if !instrument.is_deferred() {
        return refuse(Reason::SettlesAtOnce, out);
    }
    let whose = asked.participant;
    if whose.0 != 0 && state.participants.find(whose.0).is_none() {
        return refuse(Reason::ParticipantNotFound, out);
    }
    let (ledger, participants) = (&state.ledger, &state.participants);
    let all = || {
        let of_book = state.positions.of(book).filter(|row| !row.is_empty());
        of_book.filter(|row| whose.0 == 0 || owner_of(ledger, participants, row) == whose)
    };
    let mut head = Positions {
        instrument: asked.instrument,
        settlement: instrument.settlement(),
        _reserved: [Zero::Zero; 3],
        count: 0,
        _reserved_end: [Zero::Zero; 4],
        trades: 0,
        _reserved_trades: [Zero::Zero; 8],
        value: Amount::ZERO,
        netted: Amount::ZERO,
    };
    for row in all() {
        head.count += 1;
        head.trades += row.buys;
        head.value.0 += row.paid;
        head.netted.0 += row.paid.min(row.received);
    }
    out.push(EventKind::Positions, &head);
    for row in all().take(POSITIONS_MAX) {
        let (base_out, base_in) = base_of(row, instrument.settlement());
        let (quote_out, quote_in) = row.quote_net();
        let body = Position {
            instrument: asked.instrument,
            participant: owner_of(ledger, participants, row),
            base_account: AccountId(ledger.row(row.base_account).id),
            quote_account: AccountId(ledger.row(row.quote_account).id),
            _reserved: [Zero::Zero; 8],
            base_out: Amount(base_out),
            base_in: Amount(base_in),
            quote: quote_in as i128 - quote_out as i128,
            fees: row.fees,
            base_held: Amount(row.sold),
            quote_held: Amount(row.held),
        };
        out.push(EventKind::Position, &body);
    }
}

fn owner_of(
    ledger: &Ledger,
    participants: &Registry<ParticipantRow>,
    row: &PositionRow,
) -> ParticipantId {
    let owner = ledger.row(row.base_account).participant;
    ParticipantId(participants.row(owner).id)
}

/// Settles what an instrument has traded since its last cycle.
pub(in crate::engine) fn settle_cycle(state: &mut State, asked: &InstrumentRef, out: &mut Outbox) {
    let kind = CommandKind::SettleCycle;
    let id = u128::from(asked.instrument.0);
    let Some(book) = state.instruments.find(asked.instrument.0) else {
        return rejected(kind, id, Reason::InstrumentNotFound, out);
    };
    if !state.instruments.row(book).is_deferred() {
        return rejected(kind, id, Reason::SettlesAtOnce, out);
    }
    // From here it succeeds.
    ok(kind, out);
    settle(state, book, out);
}

/// Settles an instrument that closes, if anything has traded.
pub(super) fn settle_closed(state: &mut State, book: Handle, out: &mut Outbox) {
    if state.positions.of(book).any(|row| !row.is_empty()) {
        settle(state, book, out);
    }
}

/// Settles every instrument that has traded: the day ends.
pub(super) fn end_day(state: &mut State, out: &mut Outbox) {
    for book in 0..state.instruments.rows().len() as u32 {
        settle_closed(state, book, out);
    }
}

/// What a position's base account gives and gets in the cycle.
fn base_of(row: &PositionRow, settlement: Settlement) -> (u128, u128) {
    match settlement {
        Settlement::Net => row.base_net(),
        Settlement::GrossSecurities | Settlement::Immediate => (row.sold, row.bought),
    }
}

/// Gives back the rows of those who have nothing in an instrument any more: the day is over, all
/// that was traded is settled, and only orders that outlive the day keep their rows.
pub(super) fn give_back(state: &mut State) {
    let State {
        matching,
        positions,
        ..
    } = state;
    if positions.is_empty() {
        return;
    }
    matching.for_each_live(|order| positions.keep(order.book, order.base_account));
    positions.give_back();
}

fn settle(state: &mut State, book: Handle, out: &mut Outbox) {
    let State {
        instruments,
        participants,
        positions,
        ledger,
        payments,
        risen,
        ..
    } = state;
    let instrument = instruments.row(book);
    let settlement = instrument.settlement();
    let all = || positions.of(book).filter(|row| !row.is_empty());
    ledger.because(Cause::Cycle(instrument.id));
    for row in all() {
        for (account, held) in [(row.base_account, row.sold), (row.quote_account, row.held)] {
            if held > 0 {
                ledger.release(account, Amount(held));
            }
        }
    }
    let base = |row: &PositionRow| base_of(row, settlement);
    deliver(
        ledger,
        all().map(|row| (row.base_account, base(row).0)),
        all().map(|row| (row.base_account, base(row).1)),
    );
    let fees: i128 = all().map(|row| row.fees).sum();
    let house = instrument.fee_account().map(|house| (house, fees as u128));
    deliver(
        ledger,
        all().map(|row| (row.quote_account, row.quote_net().0)),
        all()
            .map(|row| (row.quote_account, row.quote_net().1))
            .chain(house),
    );
    ledger.because(Cause::Command);
    let mut settled = CycleSettled {
        instrument: InstrumentId(instrument.id),
        _reserved: [Zero::Zero; 4],
        trades: 0,
        value: Amount::ZERO,
        netted: Amount::ZERO,
    };
    for row in all() {
        let (base_out, base_in) = base(row);
        let (quote_out, quote_in) = row.quote_net();
        let account = |handle: Handle| ledger.row(handle);
        let body = CyclePosition {
            instrument: InstrumentId(instrument.id),
            participant: owner_of(ledger, participants, row),
            base_account: AccountId(account(row.base_account).id),
            quote_account: AccountId(account(row.quote_account).id),
            _reserved: [Zero::Zero; 8],
            base_out: Amount(base_out),
            base_in: Amount(base_in),
            quote: quote_in as i128 - quote_out as i128,
            fees: row.fees,
        };
        out.push(EventKind::CyclePosition, &body);
        settled.trades += row.buys;
        settled.value.0 += row.paid;
        settled.netted.0 += row.paid.min(row.received);
        risen.note(payments, row.base_account);
        risen.note(payments, row.quote_account);
    }
    if let Some(house) = instrument.fee_account() {
        risen.note(payments, house);
    }
    out.push(EventKind::CycleSettled, &settled);
    positions.clear(book);
}

/// Moves what some owe to those who are owed: each pays the next who still lacks something. Both
/// add up to the same.
fn deliver(
    ledger: &mut Ledger,
    debtors: impl Iterator<Item = (Handle, u128)>,
    mut creditors: impl Iterator<Item = (Handle, u128)>,
) {
    let (mut creditor, mut lacks) = (0, 0);
    for (debtor, mut owes) in debtors {
        while owes > 0 {
            while lacks == 0 {
                (creditor, lacks) = creditors.next().expect("as much is owed to somebody");
            }
            let part = owes.min(lacks);
            ledger.post(debtor, creditor, Amount(part));
            owes -= part;
            lacks -= part;
        }
    }
    assert!(
        lacks == 0 && creditors.all(|(_, lacks)| lacks == 0),
        "all that is owed has come"
    );
}
