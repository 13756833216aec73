//! Cache hints for money movements that come soon: where their lookups begin, then what those
//! find, then what that leads to. Read ahead of the turn without validating anything: a hint may
//! be wrong, and changes no result.

use crate::engine::index::Handle;
use crate::engine::state::State;
use crate::prefetch::{prefetch, prefetch_pair};
use crate::protocol::command::{SubmitPayment, Transfer, TransferFlags};
use crate::protocol::frame::CommandRef;
use crate::protocol::units::{AccountId, PaymentId, TransferId};
use std::mem::offset_of;

/// How many commands ahead of its turn each step is taken.
pub(in crate::engine) const LOOKUPS_AHEAD: usize = 8;
pub(in crate::engine) const ROWS_AHEAD: usize = 4;
const LED_TO_AHEAD: usize = 2;
/// Lookups touched in one go: a hint that misses the TLB waits for the page walk, and the walks of
/// some hints in a row overlap.
const LOOKUPS_AT_ONCE: usize = 4;

/// The bytes a transfer and a payment both begin with.
#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
#[repr(C)]
pub(in crate::engine) struct Sides {
    id: TransferId,
    debit_account: AccountId,
    credit_account: AccountId,
}

const _: () = {
    assert!(offset_of!(Transfer, debit_account) == offset_of!(Sides, debit_account));
    assert!(offset_of!(Transfer, credit_account) == offset_of!(Sides, credit_account));
    assert!(offset_of!(SubmitPayment, debtor_account) == offset_of!(Sides, debit_account));
    assert!(offset_of!(SubmitPayment, creditor_account) == offset_of!(Sides, credit_account));
};

impl Sides {
    /// The sides in a transfer's or payment's frame.
    #[inline]
    pub(in crate::engine) fn of(command: CommandRef<'_>) -> Option<Sides> {
        let (sides, _) = zerocopy::FromBytes::read_from_prefix(command.body).ok()?;
        Some(sides)
    }

    #[inline]
    fn of_item(asked: &Transfer) -> Sides {
        Sides {
            id: asked.id,
            debit_account: asked.debit_account,
            credit_account: asked.credit_account,
        }
    }
}

/// The pending transfer that a transfer's frame posts or voids.
#[inline]
pub(in crate::engine) fn pending_of(command: CommandRef<'_>) -> Option<TransferId> {
    const PENDING_ID: usize = offset_of!(Transfer, pending_id);
    const FLAGS: usize = offset_of!(Transfer, flags);
    let flags = command.body.get(FLAGS..FLAGS + 2)?;
    let flags = TransferFlags(u16::from_le_bytes(flags.try_into().ok()?));
    if !flags.resolves() {
        return None;
    }
    let id = command.body.get(PENDING_ID..PENDING_ID + 16)?;
    Some(TransferId(u128::from_le_bytes(id.try_into().ok()?)))
}

/// Warms the caches for the items that come after item `at` of a batch.
#[inline]
pub(in crate::engine) fn touch_batch(state: &State, asked: &[Transfer], at: usize) {
    let rest = &asked[at..];
    let pending = |item: &Transfer| item.flags.resolves().then_some(item.pending_id);
    if at.is_multiple_of(LOOKUPS_AT_ONCE) {
        for later in rest.iter().skip(LOOKUPS_AHEAD).take(LOOKUPS_AT_ONCE) {
            touch_lookups(state, Sides::of_item(later), pending(later));
        }
    }
    if let Some(later) = rest.get(ROWS_AHEAD) {
        touch_rows(state, Sides::of_item(later), pending(later));
    }
    if let Some(id) = rest.get(LED_TO_AHEAD).and_then(pending) {
        touch_led_to(state, id);
    }
}

/// Where the lookups of a transfer begin.
#[inline]
pub(in crate::engine) fn touch_lookups(state: &State, sides: Sides, pending: Option<TransferId>) {
    prefetch(state.transfers.lookup_hint(sides.id.0));
    match pending {
        Some(id) => prefetch(state.transfers.lookup_hint(id.0)),
        None => touch_sides(state, sides),
    }
}

/// Where the lookups of a payment begin.
#[inline]
pub(in crate::engine) fn touch_payment(state: &State, sides: Sides) {
    prefetch(state.payments.lookup_hint(PaymentId(sides.id.0)));
    touch_sides(state, sides);
}

#[inline]
fn touch_sides(state: &State, sides: Sides) {
    state.ledger.touch_lookup(sides.debit_account);
    state.ledger.touch_lookup(sides.credit_account);
}

/// What the lookups find: the accounts, or the pending transfer.
#[inline]
pub(in crate::engine) fn touch_rows(state: &State, sides: Sides, pending: Option<TransferId>) {
    if let Some(id) = pending {
        if let Some(handle) = state.transfers.handle_hint(id.0)
            && let Some(row) = state.transfers.row_hint(handle)
        {
            prefetch_pair(row);
        }
        return;
    }
    state.ledger.touch_row(sides.debit_account);
    state.ledger.touch_row(sides.credit_account);
}

/// What that leads to: the accounts of the pending transfer.
#[inline]
pub(in crate::engine) fn touch_led_to(state: &State, pending: TransferId) {
    let handle = state.transfers.handle_hint(pending.0);
    let row = handle.and_then(|handle: Handle| state.transfers.row_hint(handle));
    if let Some(row) = row {
        for account in [row.debit, row.credit] {
            if let Some(row) = state.ledger.rows().get(account as usize) {
                prefetch_pair(row);
            }
        }
    }
}
