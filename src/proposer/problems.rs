//! From what waits to problems: one per asset, for payments of one asset never pay another's.

use crate::engine::{Waiting, WaitingPayment};
use crate::protocol::command::Priority;
use crate::protocol::units::{AssetId, PaymentId};
use crate::solver::{Account, Class, Limit, Payment, PaymentIndex, Problem};
use std::collections::BTreeMap;

/// What waits in one asset.
pub struct AssetProblem {
    /// The asset.
    pub asset: AssetId,
    /// Which payments can settle together. Legs of groups stay, for others of their group may be
    /// elsewhere; they keep their turn.
    pub problem: Problem,
    ids: Vec<PaymentId>,
}

impl AssetProblem {
    /// The ids of payments of the problem.
    pub fn ids(&self, payments: &[PaymentIndex]) -> Vec<PaymentId> {
        let ids = payments.iter().map(|at| self.ids[*at as usize]);
        ids.collect()
    }

    /// Where payments stand in the problem, ascending; `None` where one is not there any more.
    pub fn places(&self, ids: &[PaymentId]) -> Option<Vec<PaymentIndex>> {
        let is_leg = |at: &PaymentIndex| !self.problem.payments()[*at as usize].is_movable;
        let all = (0..).zip(&self.ids).filter(|(at, _)| !is_leg(at));
        let by_id: BTreeMap<u128, PaymentIndex> = all.map(|(at, id)| (id.0, at)).collect();
        let places = ids.iter().map(|id| by_id.get(&id.0).copied());
        let mut places = places.collect::<Option<Vec<PaymentIndex>>>()?;
        places.sort_unstable();
        Some(places)
    }
}

/// The problems of everything that waits, by asset.
pub fn problems(waiting: &Waiting) -> Vec<AssetProblem> {
    let mut by_asset: BTreeMap<u32, AssetProblem> = BTreeMap::new();
    let mut places = Vec::with_capacity(waiting.accounts.len());
    for account in &waiting.accounts {
        let of_asset = by_asset.entry(account.asset.0).or_insert_with(|| {
            let mut problem = Problem::new();
            problem.set_bypass(waiting.bypass);
            AssetProblem {
                asset: account.asset,
                problem,
                ids: Vec::new(),
            }
        });
        places.push(of_asset.problem.add_account(Account {
            liquidity: account.liquidity,
            reserved: account.reserved.map(|left| left.0),
            multilateral: account.multilateral,
        }));
    }
    let asset_of = |account: u32| waiting.accounts[account as usize].asset.0;
    for payment in &waiting.payments {
        let of_asset = by_asset.get_mut(&asset_of(payment.debtor));
        let of_asset = of_asset.expect("its accounts are there");
        of_asset.ids.push(payment.id);
        of_asset.problem.add_payment(Payment {
            debtor: places[payment.debtor as usize],
            creditor: places[payment.creditor as usize],
            amount: payment.amount.0,
            class: class_of(payment),
            is_movable: payment.is_payable && !payment.is_leg,
        });
    }
    for limit in &waiting.limits {
        // Between accounts of two assets nothing is ever sent.
        if asset_of(limit.account) == asset_of(limit.counterparty)
            && let Some(of_asset) = by_asset.get_mut(&asset_of(limit.account))
        {
            of_asset.problem.add_limit(Limit {
                account: places[limit.account as usize],
                counterparty: places[limit.counterparty as usize],
                room: limit.room,
            });
        }
    }
    by_asset.into_values().collect()
}

fn class_of(payment: &WaitingPayment) -> Class {
    match payment.class {
        Priority::Urgent => Class::Urgent,
        Priority::High => Class::High,
        Priority::Normal => Class::Normal,
    }
}
