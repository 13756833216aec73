//! Collateral: what securities are worth as cover, and the pool behind a cash account whose pledges
//! make its credit line. A pool has one row for each securities account; the first has its cap and
//! its credit. The room counts and values; holding the securities and raising the line is the
//! handlers' work.

use super::index::{Handle, Index, hash_64};
use crate::protocol::units::Amount;
use bytemuck::{Pod, Zeroable};

/// Basis points of the whole.
pub(super) const WHOLE_BPS: u32 = 10_000;

/// Securities accounts of one pool at most: what a valuation looks at in one go.
pub(super) const PARTS_MAX: usize = 64;

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
}

/// One securities account of the pool of one cash account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct PoolRow {
    /// Most credit the pool gives, minor units; in its first row.
    pub(super) cap: u128,
    /// Securities pledged: held on the securities account.
    pub(super) pledged: u128,
    /// Credit the pool gives now, part of the cash account's line; in its first row.
    pub(super) credit: u128,
    pub(super) cash: Handle,
    pub(super) securities: Handle,
    /// Whether a group that is short of cash pledges what it buys or finds; in the first row.
    automatic: u32,
    /// The pool's next row, one more than its place; 0 behind the last.
    next: u32,
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
            next: 0,
        }
    }

    /// A further securities account of a pool.
    pub(super) fn further(cash: Handle, securities: Handle) -> PoolRow {
        PoolRow::new(cash, securities, Amount::ZERO, false)
    }

    /// The pool's next row.
    pub(super) fn next(&self) -> Option<Handle> {
        self.next.checked_sub(1)
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

    /// The first row of a cash account's pool.
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

    /// The rows of the pool whose first one is `first`, in order of registration.
    pub(super) fn parts(&self, first: Handle) -> impl Iterator<Item = Handle> + '_ {
        std::iter::successors(Some(first), |at| self.pool(*at).next())
    }

    /// Whether a row is its pool's first.
    pub(super) fn is_first(&self, at: Handle) -> bool {
        self.find(self.pool(at).cash) == Some(at)
    }

    /// Adds a row: the first of a cash account that has no pool, or a further one. There is room.
    pub(super) fn add(&mut self, pool: PoolRow) {
        let at = self.pools.len() as u32;
        match self.find(pool.cash) {
            None => self.by_cash.insert(hash_64(pool.cash.into()), at),
            Some(first) => {
                let last = self.parts(first).last().expect("the first at least");
                self.pool_mut(last).next = at + 1;
            }
        }
        self.pools.push(pool);
    }

    /// The credit that quantities of the pool's securities are worth, rounded down once and at most
    /// its cap. `quantity` says how much of each row counts.
    pub(super) fn credit(
        &self,
        first: Handle,
        asset_of: impl Fn(Handle) -> Handle,
        quantity: impl Fn(Handle, &PoolRow) -> u128,
    ) -> u128 {
        let worth = self.parts(first).fold(0u128, |sum, at| {
            let row = self.pool(at);
            let each = self.worth(asset_of(row.securities));
            sum.saturating_add(quantity(at, row).saturating_mul(each))
        });
        (worth / u128::from(WHOLE_BPS)).min(self.pool(first).cap)
    }

    /// What a unit of a security covers, times [`WHOLE_BPS`].
    pub(super) fn worth(&self, asset: Handle) -> u128 {
        self.value(asset).map_or(0, ValueRow::worth)
    }

    fn value(&self, asset: Handle) -> Option<&ValueRow> {
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
        for pool in pools {
            let at = collateral.pools.len() as u32;
            if collateral.find(pool.cash).is_none() {
                let hash = hash_64(pool.cash.into());
                collateral.by_cash.insert(hash, at);
            }
            collateral.pools.push(pool);
        }
        collateral.values = values;
        collateral
    }
}
