//! Collateral: what securities are worth as cover, and the pool behind a cash account whose pledges
//! make its credit line. The room counts and values; holding the securities and raising the line is
//! the handlers' work.

use super::index::{Handle, Index, hash_64};
use crate::protocol::units::Amount;
use bytemuck::{Pod, Zeroable};

/// Basis points of the whole.
pub(super) const WHOLE_BPS: u32 = 10_000;

/// What one minor unit of a security is worth as cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ValueRow {
    /// Minor units of cash per minor unit of the security; 0 where it is no cover.
    price: u64,
    asset: Handle,
    haircut_bps: u32,
}

impl ValueRow {
    pub(super) fn new(asset: Handle, price: u64, haircut_bps: u32) -> ValueRow {
        ValueRow {
            price,
            asset,
            haircut_bps,
        }
    }

    /// What covers, times [`WHOLE_BPS`], per unit.
    fn worth(&self) -> u128 {
        u128::from(self.price) * u128::from(WHOLE_BPS - self.haircut_bps)
    }

    /// The credit that `quantity` covers, rounded down; what passes `most` reads as that.
    pub(super) fn credit(&self, quantity: u128, most: u128) -> u128 {
        let credit = quantity.checked_mul(self.worth());
        credit.map_or(most, |credit| (credit / u128::from(WHOLE_BPS)).min(most))
    }

    /// The least quantity that covers `credit`, rounded up; `None` where nothing does.
    pub(super) fn quantity_for(&self, credit: u128) -> Option<u128> {
        match self.worth() {
            0 => None,
            worth => Some((credit * u128::from(WHOLE_BPS)).div_ceil(worth)),
        }
    }
}

/// The pool of one cash account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct PoolRow {
    /// Most credit it gives, minor units.
    pub(super) cap: u128,
    /// Securities pledged: held on the securities account.
    pub(super) pledged: u128,
    /// Credit it gives now: part of the cash account's line.
    pub(super) credit: u128,
    pub(super) cash: Handle,
    pub(super) securities: Handle,
    /// Whether a group that is short of cash pledges what it buys or finds.
    automatic: u32,
    reserved: u32,
}

impl PoolRow {
    pub(super) fn new(cash: Handle, securities: Handle, cap: Amount, automatic: bool) -> PoolRow {
        PoolRow {
            cap: cap.0,
            pledged: 0,
            credit: 0,
            cash,
            securities,
            automatic: automatic.into(),
            reserved: 0,
        }
    }

    pub(super) fn is_automatic(&self) -> bool {
        self.automatic != 0
    }

    pub(super) fn set(&mut self, cap: Amount, automatic: bool) {
        self.cap = cap.0;
        self.automatic = automatic.into();
    }
}

/// All pools and values.
pub(super) struct Collateral {
    pools: Vec<PoolRow>,
    by_cash: Index,
    values: Vec<ValueRow>,
    limit: u32,
}

impl Collateral {
    pub(super) fn new(limit: u32) -> Collateral {
        Collateral {
            pools: Vec::new(),
            by_cash: Index::new(limit),
            values: Vec::new(),
            limit,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        (self.pools.len() as u32) < self.limit
    }

    pub(super) fn pools(&self) -> &[PoolRow] {
        &self.pools
    }

    pub(super) fn values(&self) -> &[ValueRow] {
        &self.values
    }

    /// The pool of a cash account.
    pub(super) fn find(&self, cash: Handle) -> Option<Handle> {
        if self.pools.is_empty() {
            return None;
        }
        let hash = hash_64(cash.into());
        self.by_cash
            .find(hash, |at| self.pools[at as usize].cash == cash)
    }

    pub(super) fn pool(&self, at: Handle) -> &PoolRow {
        &self.pools[at as usize]
    }

    pub(super) fn pool_mut(&mut self, at: Handle) -> &mut PoolRow {
        &mut self.pools[at as usize]
    }

    /// Adds the pool of a cash account that has none; there is room.
    pub(super) fn add(&mut self, pool: PoolRow) {
        let at = self.pools.len() as u32;
        self.by_cash.insert(hash_64(pool.cash.into()), at);
        self.pools.push(pool);
    }

    /// What a security is worth as cover.
    pub(super) fn value(&self, asset: Handle) -> Option<&ValueRow> {
        self.values.iter().find(|row| row.asset == asset)
    }

    pub(super) fn set_value(&mut self, value: ValueRow) {
        match self.values.iter_mut().find(|row| row.asset == value.asset) {
            Some(row) => *row = value,
            None => self.values.push(value),
        }
    }

    pub(super) fn restore(pools: Vec<PoolRow>, values: Vec<ValueRow>, limit: u32) -> Collateral {
        let mut collateral = Collateral::new(limit.max(pools.len() as u32));
        pools.into_iter().for_each(|pool| collateral.add(pool));
        collateral.values = values;
        collateral
    }
}
