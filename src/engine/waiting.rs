//! What waits, for followers: every queued payment that takes part, in queue order, and what bounds
//! it. A copy: whoever works on it keeps nothing of the engine. A node never makes one.

use super::handlers::payments::may_settle;
use super::index::Handle;
use super::settlement::desk::UNLIMITED;
use super::state::State;
use crate::protocol::command::Priority;
use crate::protocol::units::{AccountId, Amount, AssetId, PaymentId};
use std::collections::BTreeMap;

/// Everything that waits and takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The last command it is the state of.
    pub sequence: u64,
    /// Whether the phase of the day lets anything settle.
    pub may_settle: bool,
    /// Whether normal payments may overtake each other.
    pub bypass: bool,
    /// Whoever pays or is paid.
    pub accounts: Vec<WaitingAccount>,
    /// Payments and legs of groups; those of a debtor in settlement order.
    pub payments: Vec<WaitingPayment>,
    /// Bilateral limits between these accounts.
    pub limits: Vec<WaitingLimit>,
}

/// An account, and what bounds its payments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingAccount {
    /// Its id.
    pub account: AccountId,
    /// Its asset.
    pub asset: AssetId,
    /// What it may spend, minor units, credit included; `None` where it has no floor.
    pub liquidity: Option<i128>,
    /// What is left of its urgent and of its high reservation.
    pub reserved: [Amount; 2],
    /// What normal payments may still net send to accounts without a bilateral limit; `None` where
    /// nothing says.
    pub multilateral: Option<i128>,
}

/// A payment that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingPayment {
    /// Its id, or that of the group it is a leg of.
    pub id: PaymentId,
    /// Place of its debtor in [`Waiting::accounts`].
    pub debtor: u32,
    /// Place of its creditor there.
    pub creditor: u32,
    /// Minor units.
    pub amount: Amount,
    /// Its class.
    pub class: Priority,
    /// Whether it is a leg of a group, which settles whole or not at all.
    pub is_leg: bool,
    /// Whether its accounts can pay and be paid just now; it keeps its turn where they cannot.
    pub is_payable: bool,
}

/// What is left of a bilateral limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingLimit {
    /// Place of its owner in [`Waiting::accounts`].
    pub account: u32,
    /// Place of the account it counts toward.
    pub counterparty: u32,
    /// Minor units that normal payments may still net send.
    pub room: i128,
}

/// Copies what waits out of the state.
pub(super) fn copy(state: &State, sequence: u64) -> Waiting {
    let mut waiting = Waiting {
        sequence,
        may_settle: may_settle(state),
        bypass: state.saving.bypass(),
        ..Waiting::default()
    };
    let mut places: BTreeMap<Handle, u32> = BTreeMap::new();
    for desk in state.payments.desks() {
        for at in state.payments.iter(desk.account) {
            let row = state.payments.row(at);
            if !row.is_eligible() {
                continue;
            }
            let [debtor, creditor] = [row.debtor, row.creditor].map(|account| {
                *places.entry(account).or_insert_with(|| {
                    waiting.accounts.push(describe(state, account));
                    waiting.accounts.len() as u32 - 1
                })
            });
            let group = row.group();
            waiting.payments.push(WaitingPayment {
                id: group.map_or(row.id(), |group| state.groups.row(group).id()),
                debtor,
                creditor,
                amount: row.amount(),
                class: row.class(),
                is_leg: group.is_some(),
                is_payable: !row.is_late(state.now)
                    && state.ledger.row(row.debtor).gives_any_debit()
                    && state.ledger.row(row.creditor).takes_any_credit(),
            });
        }
    }
    for limit in state.payments.limits().rows() {
        let ends = [limit.account, limit.counterparty].map(|account| places.get(&account));
        if let [Some(account), Some(counterparty)] = ends
            && limit.amount != UNLIMITED
        {
            waiting.limits.push(WaitingLimit {
                account: *account,
                counterparty: *counterparty,
                room: i128::try_from(limit.amount)
                    .unwrap_or(i128::MAX)
                    .saturating_sub(limit.used),
            });
        }
    }
    waiting
}

fn describe(state: &State, account: Handle) -> WaitingAccount {
    let row = state.ledger.row(account);
    let desk = state.payments.desk(account);
    WaitingAccount {
        account: AccountId(row.id),
        asset: AssetId(state.assets.row(row.asset).id),
        liquidity: row.liquidity(),
        reserved: desk.map_or([0; 2], |desk| desk.reserved()).map(Amount),
        multilateral: desk
            .filter(|desk| desk.multilateral != UNLIMITED)
            .map(|desk| {
                let limit = i128::try_from(desk.multilateral).unwrap_or(i128::MAX);
                limit.saturating_sub(desk.multilateral_used)
            }),
    }
}
